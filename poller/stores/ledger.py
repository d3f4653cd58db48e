"""The files of one store: its lock, its snapshot, and the journals that continue it.

Nothing here knows what the documents mean, and nothing here waits for an event loop: every
method blocks until the disk has answered. ``journal`` explains the rules that this keeps.
"""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import filelock

from poller.errors import StoreDamaged, StoreError, StoreLocked
from poller.stores import snapshot as snapshots
from poller.stores.files import Files
from poller.stores.journal import Header, Journal, Reader
from poller.stores.snapshot import About, Row, Snapshot
from poller.stores.survey import Names, Survey, summed_up, survey
from poller.units import iso

SMALLEST_FULL_JOURNAL = 16 * 2**20
"""Bytes: folding less often than this costs nothing to start from, and more often is wasted work."""


class Ledger:
    """An open store's files. One thread appends; another may fold what is full meanwhile.

    Attributes:
        folding: whether a full journal waits to be folded, or is being folded.
        foreign: whether it was opened from a TinyDB file that somebody else wrote.

    Args:
        path: where the snapshot is; the other files are beside it.
        now: tells epoch seconds.
        files: the operating system.
        report: told, in one sentence, what an operator should know and need not act upon.
        tables: which tables a store that is new begins with.
        full: bytes from which a journal is full, if that is more than twice the snapshot.
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
    ) -> None:
        self.names = Names(path.absolute())
        self._now = now
        self._files = files or Files()
        self._report = report
        self._tables = tables
        self._smallest = full
        self._full = full
        self._lock = filelock.FileLock(self.names.lock, thread_local=False, fallback_to_soft=False)
        self._journal: Journal | None = None
        self.folding = False
        self.foreign = False

    # --- Opening and closing ---

    def open(self) -> Snapshot:
        """Lock the store, fold what its last process left, and begin a journal.

        Returns:
            What the store holds.

        Raises:
            StoreLocked: another process has it.
            StoreDamaged: its files are not what we wrote.
            OSError: its files cannot be read or written.
        """
        self._acquire()
        try:
            return self._begin()
        except BaseException:
            self._lock.release()
            raise

    def reopen(self) -> Snapshot:
        """Begin again from what is on disk, after the disk had failed. Raises like ``open``."""
        self._let_go()
        return self._begin()

    def close(self) -> None:
        """Fold everything into the snapshot and unlock.

        Raises:
            OSError: the disk failed; what was appended is safe, and the next start folds it.
        """
        try:
            self._let_go()
            self._settle()
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Unlock, and leave the files as they were found."""
        unused = self._journal is not None and self._journal.number == self._journal.header.after
        try:
            self._let_go()
            if unused:
                self._remove(self.names.journal)
        except OSError:
            pass  # a journal without frames is removed by the next start
        finally:
            self._lock.release()

    def _begin(self) -> Snapshot:
        snapshot = self._settle() or self._found()
        self._files.unlink(self.names.aside[0])
        self._full = max(self._smallest, 2 * snapshot.size)
        self._journal = self._new_journal(snapshot.about.generation + 1, snapshot.about.sequence)
        return snapshot

    def _let_go(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            with suppress(OSError):  # its frames were synced one by one; closing adds nothing to that
                journal.close()

    def _settle(self) -> Snapshot | None:
        """Leave a snapshot that is complete, and no journal; None if there is nothing yet."""
        found = survey(self.names, files=self._files)
        if found.snapshot is None:
            return None
        self.foreign = found.snapshot.foreign
        snapshot = self._folded(found.snapshot, found)
        self.folding = False
        self._remove(*found.stale, *(reader.path for reader in found.due))
        return snapshot

    def _found(self) -> Snapshot:
        """Make the snapshot of a store that has nothing yet."""
        aside, _ = self.names.aside
        self._files.unlink(aside)
        snapshots.write(aside, map(Row, self._tables), About(), files=self._files)
        self._files.rename(aside, self.names.snapshot)
        self._files.sync_folder(self.names.folder)
        return Snapshot(self.names.snapshot, files=self._files)

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
        """
        if self._journal is None:
            raise StoreError(f"{self.names.snapshot} is closed, or its disk has failed")
        try:
            if self._is_full(self._journal) and not self.folding:
                self._journal = self._rotated(self._journal)
            self._journal.append(changes)
        except BaseException:
            self._let_go()
            raise

    def _is_full(self, journal: Journal) -> bool:
        return journal.size >= self._full and journal.number > journal.header.after

    def _rotated(self, journal: Journal) -> Journal:
        self._files.rename(self.names.journal, self.names.full)
        self._files.sync_folder(self.names.folder)
        self.folding = True
        fresh = self._new_journal(journal.header.generation + 1, journal.number)
        journal.close()
        return fresh

    def _new_journal(self, generation: int, after: int) -> Journal:
        """Begin a journal beside its place and move it there, so that its header is never torn."""
        _, aside = self.names.aside
        self._files.unlink(aside)
        header = Header.ours(generation=generation, after=after, now=self._now())
        journal = Journal(aside, header, files=self._files)
        self._files.rename(aside, self.names.journal)
        self._files.sync_folder(self.names.folder)
        return journal

    # --- Folding ---

    def fold(self) -> None:
        """Fold the full journal into the snapshot; frames may be appended meanwhile.

        Raises:
            StoreDamaged: a file is not what we wrote.
            OSError: the disk failed; nothing is lost, and it may be tried again.
        """
        found = survey(self.names, files=self._files, only=self.names.full)
        if found.snapshot is not None:
            snapshot = self._folded(found.snapshot, found)
            self._full = max(self._smallest, 2 * snapshot.size)
        self._remove(self.names.full)
        self.folding = False

    def _folded(self, snapshot: Snapshot, found: Survey) -> Snapshot:
        """Put the journals that are due into a new snapshot, unless they say nothing."""
        edits, number = summed_up(found)
        self._tell_of_torn(found.due)
        if not edits:
            return snapshot
        aside, _ = self.names.aside
        self._files.unlink(aside)
        about = About(generation=found.due[-1].header.generation, sequence=number)
        snapshots.write(aside, edits.over(snapshot.rows()), about, files=self._files)
        self._replace(aside)
        return Snapshot(self.names.snapshot, files=self._files)

    def _replace(self, aside: Path) -> None:
        self._files.unlink(self.names.previous)
        self._files.link(self.names.snapshot, self.names.previous)
        self._files.rename(aside, self.names.snapshot)
        self._files.sync_folder(self.names.folder)

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

    # --- The lock ---

    def _acquire(self) -> None:
        if not self.names.folder.is_dir():  # FileLock would make it: a disk that is not mounted is no new store
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.names.folder))
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            hint = "stop that process first; two writers would destroy the store"
            raise StoreLocked(f"{self.names.snapshot} is held by {self._holder()}", hint=hint) from None

    def _holder(self) -> str:
        try:
            header = Reader(self.names.journal, files=self._files).header
        except (OSError, StoreDamaged):
            return "another process"
        return f"process {header.pid} on {header.host}, since {iso(header.started_at)}"
