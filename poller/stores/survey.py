"""What is on disk, and what follows from it. Reads only; ``journal`` has the rules."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from poller.errors import StoreDamaged
from poller.stores.edits import Edits
from poller.stores.files import Files
from poller.stores.journal import HINT, Reader
from poller.stores.snapshot import Snapshot


class Names(msgspec.Struct, frozen=True):
    """What the files of a store are called."""

    snapshot: Path

    @property
    def folder(self) -> Path:
        """Where they all are."""
        return self.snapshot.parent

    @property
    def journal(self) -> Path:
        """What came since the snapshot."""
        return self._with(".journal")

    @property
    def full(self) -> Path:
        """A journal that is being folded."""
        return self._with(".journal.old")

    @property
    def previous(self) -> Path:
        """The snapshot before."""
        return self._with(".previous")

    @property
    def lock(self) -> Path:
        """Locked while a process has the store open."""
        return self._with(".lock")

    @property
    def aside(self) -> tuple[Path, Path]:
        """Where a snapshot and a journal are made, before they get their names."""
        return self._with(".new"), self._with(".journal.new")

    @property
    def folded(self) -> Path:
        """Where a snapshot is made while the store runs. Nothing else is: its maker may outlive the store."""
        return self._with(".folded")

    def _with(self, suffix: str) -> Path:
        return self.snapshot.with_name(self.snapshot.name + suffix)


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk.

    Attributes:
        snapshot: None if there is nothing at all yet.
        stale: journals that are in the snapshot already.
        due: journals that are not, in order.
    """

    snapshot: Snapshot | None
    stale: tuple[Path, ...] = ()
    due: tuple[Reader, ...] = ()


def survey(names: Names, *, files: Files, only: Path | None = None) -> Survey:
    """Look at a store's files, and change nothing.

    Args:
        names: what they are called.
        files: the operating system.
        only: the one journal to look at, where others are still being written.

    Raises:
        StoreDamaged: they are not what a store of ours, however it ended, leaves behind.
        OSError: they cannot be read.
    """
    if not names.snapshot.exists():
        _demand_nothing(names)
        return Survey(snapshot=None)
    snapshot = Snapshot(names.snapshot, files=files)
    journals = (names.full, names.journal) if only is None else (only,)
    readers = [Reader(path, files=files) for path in journals if path.exists()]
    due = tuple(reader for reader in readers if reader.header.generation > snapshot.about.generation)
    if only is None:
        _demand_continued(snapshot, readers, due)
    _demand_contained(snapshot, [reader for reader in readers if reader not in due])
    _demand_chain(snapshot.about.generation + 1, due)
    _demand_chain(readers[0].header.generation if readers else 0, readers)
    if only is None:
        _demand_next(names, due)
    return Survey(snapshot=snapshot, stale=tuple(r.path for r in readers if r not in due), due=due)


def summed_up(found: Survey) -> tuple[Edits, int]:
    """Read the journals that are due; give what they say, and the number of the last frame.

    Raises:
        StoreDamaged: one of them is damaged, or frames between two are missing.
    """
    edits = Edits()
    number = found.snapshot.about.sequence if found.snapshot else 0
    for reader in found.due:
        if reader.header.after != number:
            raise StoreDamaged(
                f"{reader.path} continues after frame {reader.header.after}, "
                f"but what comes before it ends with frame {number}",
                hint=HINT,
            )
        for frame in reader:
            for change in frame.changes:
                edits.apply(change)
        number = reader.number
        _demand_whole(reader, last=reader is found.due[-1])
    return edits, number


def _demand_nothing(names: Names) -> None:
    for path in (names.full, names.journal, names.previous):
        if path.exists():
            hint = "put the snapshot back, or `poller store repair` makes one of what is there"
            raise StoreDamaged(f"{names.snapshot} is missing, but {path.name} is there", hint=hint)


def _demand_chain(first: int, readers: Sequence[Reader]) -> None:
    for generation, reader in enumerate(readers, start=first):
        if reader.header.generation != generation:
            raise StoreDamaged(
                f"{reader.path} is generation {reader.header.generation} where {generation} belongs; "
                "what came between is missing",
                hint="put it back; `poller store repair` goes on without, and says what is lost",
            )


def _demand_continued(snapshot: Snapshot, readers: Sequence[Reader], due: Sequence[Reader]) -> None:
    if snapshot.about.open and not due:
        raise StoreDamaged(
            f"{snapshot.path} was in use when it was left or copied, and the journal that continues it is missing",
            hint="put the journal back beside it; `poller store repair` goes on without, and without what was in it",
        )
    if snapshot.foreign and readers:
        raise StoreDamaged(
            f"{snapshot.path} is a TinyDB file that no journal of poller continues, "
            f"but {readers[0].path.name} is there",
            hint="put its own snapshot back, or move the journal away; `poller store repair` takes the orders of both",
        )


def _demand_contained(snapshot: Snapshot, stale: Sequence[Reader]) -> None:
    for reader in stale:
        deque(reader, maxlen=0)
        if reader.number > snapshot.about.sequence:
            raise StoreDamaged(
                f"{reader.path} goes on to frame {reader.number}, but {snapshot.path}, which should hold all of it, "
                f"ends with frame {snapshot.about.sequence}",
                hint="they are of two stores: put back the snapshot that the journal continues; "
                "`poller store repair` takes the orders of both",
            )


def _demand_next(names: Names, due: Sequence[Reader]) -> None:
    _, begun = names.aside
    if [reader.path for reader in due] == [names.full] and not begun.exists():
        raise StoreDamaged(
            f"{names.full} was full, and the journal that continues it is missing",
            hint="put it back; `poller store repair` goes on without, and says what is lost",
        )


def _demand_whole(reader: Reader, *, last: bool) -> None:
    if reader.torn is not None and not last:
        raise StoreDamaged(
            f"{reader.path}, line {reader.torn.line} (from byte {reader.torn.offset}): "
            "the line is incomplete, but a later journal follows",
            hint=HINT,
        )
