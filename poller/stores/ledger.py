"""The files of one store: its lock, its snapshot, and the journals that continue it.

Nothing here knows what the documents mean, and nothing here waits for an event loop: every
method blocks until the disk has answered. ``journal`` explains the rules that this keeps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from poller.errors import ConfigurationError, StoreDamaged, StoreError
from poller.stores import snapshot as snapshots
from poller.stores.files import Files, identity
from poller.stores.folding import Fold, fold, folded
from poller.stores.journal import Header, Journal, Reader
from poller.stores.lock import Lock
from poller.stores.pieces import About, Row
from poller.stores.snapshot import Snapshot
from poller.stores.survey import Names, Survey, survey

_PUT_BACK = "stop this process, put the files back as they were, or a backup, and start again"
SMALLEST_FULL_JOURNAL = 16 * 2**20
"""Bytes: folding less often than this costs nothing to start from, and more often is wasted work."""


class Ledger:
    """The files of a store. One thread appends; another may fold what is full meanwhile.

    It is opened in two steps: ``open`` says what the store holds, and ``begin``, once that was
    found to be good, begins a journal.

    Attributes:
        folding: whether a full journal waits to be folded, or is being folded.

    Args:
        path: where the snapshot is; the other files are beside it.
        now: tells epoch seconds.
        files: the operating system.
        report: told, in one sentence, what an operator should know and need not act upon.
        tables: which tables a store that is new begins with.
        full: bytes from which a journal is full, if the snapshot is not larger.
        make: folds a full journal; by default here and now.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], float],
        files: Files | None = None,
        report: Callable[[str], None] = lambda _: None,
        tables: Sequence[str] = (),
        full: int = SMALLEST_FULL_JOURNAL,
        make: Fold | None = None,
    ) -> None:
        self._asked_for = path
        self.names = Names(path.resolve())
        self._now = now
        self._files = files or Files()
        self._report = report
        self._tables = tables
        self._smallest = full
        self._full = full
        self._make = make or partial(fold, files=self._files)
        self._lock = Lock(self.names, files=self._files)
        self._snapshot: Snapshot | None = None
        self._journal: Journal | None = None
        self.folding = False
        self._due = 0
        self._acknowledged = 0

    # --- Opening and closing ---

    def open(self) -> Snapshot:
        """Lock the store, fold what its last process left, and say what it holds.

        Raises:
            ConfigurationError: no store can be there.
            StoreLocked: another process has it.
            StoreDamaged: its files are not what we wrote.
            OSError: its files cannot be read or written.
        """
        if self._asked_for.is_symlink() and not self.names.snapshot.exists():
            hint = "put the file back, or remove the link to begin a new store"
            raise StoreDamaged(f"{self._asked_for} is a link to {self.names.snapshot}, which is missing", hint=hint)
        self._lock.acquire()
        try:
            snapshot = self._settled(found_anew=True)
        except BaseException:
            self._lock.release()
            raise
        self._acknowledged = snapshot.about.sequence
        return snapshot

    def begin(self) -> None:
        """Begin a journal that continues what ``open`` or ``reopen`` found.

        Raises:
            OSError: the disk failed.
        """
        if self._snapshot is None:
            raise StoreError(f"{self.names.snapshot} was not opened")
        self._snapshot = snapshot = self._adopted(self._snapshot)
        self._files.unlink(self.names.folded)
        self._full = max(self._smallest, snapshot.size)
        self._journal = self._new_journal(snapshot.about.generation + 1, snapshot.about.sequence)
        snapshot.mark(is_open=True)

    def reopen(self) -> Snapshot:
        """Say again what is on disk, after the disk had failed. Raises StoreError where ``open`` does not."""
        self._let_go()
        if not self._lock.ours:
            self._lock.release()
            try:
                self._lock.acquire()
            except ConfigurationError as error:  # the disk is away, and may come back
                raise StoreError(str(error), hint=error.hint) from error
        return self._settled()

    def close(self) -> None:
        """Fold everything into the snapshot and unlock.

        Raises:
            StoreError: the store is another's by now, or damaged.
            OSError: the disk failed; what was appended is safe, and the next start folds it.
        """
        try:
            self._let_go()
            self._lock.demand()
            self._settled()
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Unlock, and leave the files as they are."""
        self._let_go()
        self._lock.release()

    def _let_go(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            with suppress(OSError):  # its frames were synced one by one; closing adds nothing to that
                journal.close()

    def _settled(self, *, found_anew: bool = False) -> Snapshot:
        """Leave a snapshot that is complete and says so, and no journal.

        Args:
            found_anew: whether there may be nothing at all, so that a new store is founded.
        """
        found = survey(self.names, files=self._files)
        if found.snapshot is None and not found_anew:
            raise StoreDamaged(f"{self.names.snapshot} was removed while it was in use", hint=_PUT_BACK)
        self._snapshot = self._founded() if found.snapshot is None else self._folded(found.snapshot, found)
        if self._snapshot.about.sequence < self._acknowledged:
            reached, kept = self._snapshot.about.sequence, self._acknowledged
            reason = f"{self.names.snapshot} and its journal end with frame {reached}, but frame {kept} was written"
            raise StoreDamaged(f"{reason}: they were replaced while they were in use", hint=_PUT_BACK)
        if self._snapshot.about.open:
            self._snapshot.mark(is_open=False)
        self._remove(*found.stale, *(reader.path for reader in found.due))
        self.folding = False
        return self._snapshot

    def _folded(self, snapshot: Snapshot, found: Survey) -> Snapshot:
        aside, _ = self.names.aside
        anything = folded(found, aside, is_open=False, files=self._files)
        self._tell_of_torn(found.due)
        return self._replaced(aside, found.due[-1].header.generation) if anything else snapshot

    def _founded(self) -> Snapshot:
        """Make the snapshot of a store that has nothing yet."""
        aside, _ = self.names.aside
        self._files.unlink(aside)
        snapshots.write(aside, map(Row, self._tables), About(), files=self._files)
        self._files.rename(aside, self.names.snapshot)
        self._files.sync_folder(self.names.folder)
        return Snapshot(self.names.snapshot, files=self._files)

    def _adopted(self, snapshot: Snapshot) -> Snapshot:
        """Write down as our own what somebody else's TinyDB wrote; theirs is the previous one then."""
        if not snapshot.foreign:
            return snapshot
        aside, _ = self.names.aside
        self._files.unlink(aside)
        about = About(generation=snapshot.about.generation, sequence=snapshot.about.sequence)
        snapshots.write(aside, snapshot.pieces(), about, files=self._files)
        return self._replaced(aside, about.generation)

    # --- Writing ---

    @property
    def size(self) -> int:
        """Bytes in the journal."""
        return self._journal.size if self._journal else 0

    def append(self, changes: Sequence[bytes]) -> None:
        """Write one frame of changes, each as ``journal.encode`` made it, and sync it.

        Raises:
            OSError: the disk failed. The changes count as not written, and nothing may be
                appended until ``reopen``.
            StoreError: another process may have opened the store; the same.
        """
        if self._journal is None:
            raise StoreError(f"{self.names.snapshot} is closed, or its disk has failed")
        self._lock.demand_process()
        try:
            if self._is_full(self._journal) and not self.folding:
                self._journal = self._rotated(self._journal)
            self._journal.append(changes)
            self._lock.demand()
            self._demand_named(self._journal)
        except BaseException:
            self._let_go()
            raise
        self._acknowledged = self._journal.number

    def _demand_named(self, journal: Journal) -> None:
        """Make sure that the journal we write is the one that the next start reads."""
        if identity(self.names.journal) != journal.identity:
            raise StoreError(f"{self.names.journal} was removed or replaced while it was in use", hint=_PUT_BACK)

    def _is_full(self, journal: Journal) -> bool:
        return journal.size >= self._full and journal.number > journal.header.after

    def _rotated(self, journal: Journal) -> Journal:
        """Begin the next journal before the full one gives up its name, so that none can be missing unnoticed."""
        fresh = self._prepared(journal.header.generation + 1, journal.number)
        with _closed_if_it_fails(fresh):
            self._files.sync_folder(self.names.folder)
            self._files.rename(self.names.journal, self.names.full)
            self._due, self.folding = journal.header.generation, True
            self._name()
        with suppress(OSError):  # its frames were synced one by one; closing adds nothing to that
            journal.close()
        return fresh

    def _new_journal(self, generation: int, after: int) -> Journal:
        """Begin a journal beside its place and move it there, so that its header is never torn."""
        journal = self._prepared(generation, after)
        with _closed_if_it_fails(journal):
            self._name()
        return journal

    def _prepared(self, generation: int, after: int) -> Journal:
        _, aside = self.names.aside
        self._files.unlink(aside)
        header = Header.ours(generation=generation, after=after, now=self._now())
        return Journal(aside, header, files=self._files)

    def _name(self) -> None:
        _, aside = self.names.aside
        self._files.rename(aside, self.names.journal)
        self._files.sync_folder(self.names.folder)

    # --- Folding ---

    def fold(self) -> None:
        """Fold the full journal into the snapshot; frames may be appended meanwhile.

        Raises:
            StoreError: a file is not what we wrote, or it could not be done.
            OSError: the disk failed; the journal stays, and it may be tried again.
        """
        self._files.unlink(self.names.folded)
        self._make(self.names)
        if self.names.folded.exists():  # it does not if this was done before, up to the removal
            self._full = max(self._smallest, self._replaced(self.names.folded, self._due).size)
        else:
            self._whole(self.names.snapshot, self._due)
        self._remove(self.names.full)
        self.folding = False

    def _whole(self, path: Path, generation: int) -> Snapshot:
        """Make sure that a snapshot is whole, and the one that belongs there."""
        snapshot = Snapshot(path, files=self._files)
        if snapshot.foreign or snapshot.about.generation != generation:
            raise StoreError(f"{path} is generation {snapshot.about.generation} where {generation} belongs")
        return snapshot

    def _replaced(self, fresh: Path, generation: int) -> Snapshot:
        """Give the snapshot's name to a new one, once it is found whole; the old one is the previous then."""
        self._lock.demand()
        snapshot = self._whole(fresh, generation)
        self._files.unlink(self.names.previous)
        self._files.link(self.names.snapshot, self.names.previous)
        self._files.rename(fresh, self.names.snapshot)
        self._files.sync_folder(self.names.folder)
        snapshot.path = self.names.snapshot
        return snapshot

    def _remove(self, *journals: Path) -> None:
        for path in journals:
            self._files.unlink(path)
        if journals:
            self._files.sync_folder(self.names.folder)

    def _tell_of_torn(self, due: Sequence[Reader]) -> None:
        for reader in due:
            if reader.torn is not None:
                line, offset, size = reader.torn
                self._report(
                    f"{reader.path}, line {line} (from byte {offset}): the last {size} bytes were never completed, "
                    "so nobody was told that they were kept; they are cut",
                )


@contextmanager
def _closed_if_it_fails(journal: Journal) -> Iterator[None]:
    try:
        yield
    except BaseException:
        journal.close()
        raise
