"""Making a damaged store one that a poller starts with again, and saying what that has cost.

1. **What can be read is kept.** Of the snapshot every document that can be read; of the
   journals every frame whose checksum is right, in the order of their numbers. What stood
   in a hole is lost; what came after it is kept, for a change holds the whole document.
2. **The snapshot before fills in.** What a damaged snapshot lacks is taken from
   ``.previous`` as it was then, unless a journal says more. That may bring an order back
   that was forgotten since; it does no harm, and it is said.
3. **Nothing is thrown away.** The files get further names, with the time in them, before
   the repaired snapshot takes the place of the old one in one rename. Its generation is
   later than that of every journal, so a process that ends between two steps leaves the
   damaged store or the repaired one.
4. **Nothing is guessed.** A store of which nothing can be read is not repaired.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from poller.errors import StoreDamaged, StoreError, StoreUnavailable
from poller.order import Key, State
from poller.stores.care.custody import held, supersede
from poller.stores.care.inventory import Inventory, no_store, rows
from poller.stores.care.journal_salvage import Shards, shards
from poller.stores.care.mending import Mending
from poller.stores.care.salvage import Loss, Remains, remains
from poller.stores.care.verify import verify
from poller.stores.files import Files
from poller.stores.journal import Torn
from poller.stores.loading import ORDERS
from poller.stores.pieces import About
from poller.stores.survey import Names

_UNSEEN = (
    "the snapshot's checksum is wrong: a character that was changed within a line that can still be read was not "
    "found, and was kept as it is"
)
_IMPORT = "move its files away, and put a backup in with `poller store import`"


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did, or would do.

    Attributes:
        path: the snapshot.
        dry_run: whether nothing was changed.
        damage: why a poller would not start.
        orders: how many there are now, by state.
        recovered: orders taken from the snapshot before, as they were then.
        doubtful: orders that differ from the snapshot before, though their version is the same: one of the two was
            changed by something else than a poller.
        lost: what could not be kept.
        notes: what else is to be known.
        aside: the names under which the files are kept as they were.
    """

    path: str
    dry_run: bool
    damage: str
    orders: Mapping[State, int]
    recovered: tuple[Key, ...] = ()
    doubtful: tuple[Key, ...] = ()
    lost: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


def repair(path: Path, *, now: float, dry_run: bool = False, files: Files | None = None) -> Repair:
    """Make a store that a poller refuses one that it starts with; keep every order that can be read.

    Args:
        path: the snapshot.
        now: epoch seconds, for the names of what is put aside.
        dry_run: only say what would be done.
        files: the operating system.

    Raises:
        ConfigurationError: no store can be there.
        StoreLocked: a poller has it.
        StoreError: it is not there, or nothing is wrong with it.
        StoreDamaged: it is of another format, or nothing of it can be read.
        StoreUnavailable: it cannot be read or written.
    """
    names, files = Names(path.resolve()), files or Files()
    if not any(each.exists() for each in (names.snapshot, *_journals(names), names.previous)):
        raise no_store(path)
    try:
        with held(names, files=files):
            return _repair(names, _damage(names, files), now=now, dry_run=dry_run, files=files)
    except OSError as error:
        hint = "look at the folder, its owner and the space on its disk"
        raise StoreUnavailable(f"{path} cannot be repaired: {error}", hint=hint) from error


def _repair(names: Names, damage: str, *, now: float, dry_run: bool, files: Files) -> Repair:
    wreck = _Wreck(names, files)
    inventory = wreck.mended()
    if not inventory.orders and (inventory.unfit or not wreck.base_is_whole):
        raise StoreDamaged(f"{damage}; and no order can be read from any of its files", hint=_IMPORT)
    kept = dict(_aside(wreck.present, now))
    if not dry_run:
        supersede(names, rows(inventory), wreck.about(), kept=kept, files=files)
    return Repair(
        path=str(names.snapshot),
        dry_run=dry_run,
        damage=damage,
        orders=dict(inventory.counts),
        recovered=wreck.recovered,
        doubtful=wreck.doubtful,
        lost=tuple(wreck.losses) or (Loss(file=names.snapshot.name, what=damage),),
        notes=tuple(wreck.notes()),
        aside=tuple(target.name for target in kept.values()),
    )


def _damage(names: Names, files: Files) -> str:
    report = verify(names.snapshot, files=files)
    if report.damage is None:
        raise StoreError(f"{names.snapshot} is whole: there is nothing to repair", hint=report.hint)
    return report.damage


class _Wreck:
    """All that there is of a damaged store."""

    def __init__(self, names: Names, files: Files) -> None:
        self._names = names
        self._files = files
        self._base = remains(names.snapshot, files=files)
        self._journals = [shards(path, files=files) for path in _journals(names) if path.exists()]
        self._previous: Remains | None = None
        self._known = self._base.about
        self._filled_in: Mapping[Key, bytes] = {}
        self.recovered: tuple[Key, ...] = ()
        self.doubtful: tuple[Key, ...] = ()
        self.losses = [*self._base.losses, *_lost(self._journals)]

    @property
    def base_is_whole(self) -> bool:
        """Whether the snapshot itself is as it was written."""
        return self._base.about is not None and any(row.table == ORDERS for row in self._base.rows)

    @property
    def present(self) -> list[Path]:
        """The files that are put aside."""
        return [path for path in (self._names.snapshot, *_journals(self._names)) if path.exists()]

    def mended(self) -> Inventory:
        """Put together what there is."""
        mending = Mending()
        for row in self._base.rows:
            mending.keep(row)
        if not self.base_is_whole:
            self._fill_in(mending)
        self._replay(mending)
        inventory = mending.inventory()
        self.recovered = tuple(
            key
            for key, line in self._filled_in.items()
            if key in inventory.orders and inventory.orders[key].line == line
        )
        self.losses.extend(_unfit(self._names.snapshot, inventory))
        return inventory

    def about(self) -> About:
        """Say of the repaired snapshot that it follows everything there was."""
        snapshots = [each.about for each in (self._base, self._previous) if each is not None and each.about is not None]
        headers = [journal.header for journal in self._journals if journal.header is not None]
        generations = [*(about.generation for about in snapshots), *(header.generation for header in headers)]
        numbers = [frame.number for journal in self._journals for frame in journal.frames]
        sequences = [*(about.sequence for about in snapshots), *(header.after for header in headers), *numbers]
        return About(generation=max(generations, default=0) + 1, sequence=max(sequences, default=0))

    def notes(self) -> Iterator[str]:
        """Say what is neither kept nor lost for certain."""
        if not self.base_is_whole and self._base.rows:
            yield _UNSEEN
        if self.recovered:
            yield f"orders from {self._names.previous.name} are as they were then; some may have been forgotten since"
        for journal in self._journals[-1:]:
            if journal.torn is not None:
                yield f"{_tail(journal, journal.torn)} was never completed, so nobody was told that it was kept"

    def _fill_in(self, mending: Mending) -> None:
        self._previous = remains(self._names.previous, files=self._files)
        self.doubtful = mending.doubtful(self._previous.rows)
        self._filled_in = mending.fill_in(self._previous.rows)
        if not self._base.rows:
            self._known = self._previous.about

    def _replay(self, mending: Mending) -> None:
        numbered = []
        for journal in self._journals:
            if self._strange(journal):
                mending.merge(change for frame in journal.frames for change in frame.changes)
            else:
                numbered += [frame for frame in journal.frames if not self._folded(journal, frame.number)]
        for frame in sorted(numbered, key=lambda frame: frame.number):
            for change in frame.changes:
                mending.apply(change)
        self.losses.extend(self._gaps({frame.number for frame in numbered}))

    def _folded(self, journal: Shards, number: int) -> bool:
        """Tell whether a frame is in the snapshot already; what is in doubt is applied once more."""
        if self._known is None:
            return False
        stale = journal.header is not None and journal.header.generation <= self._known.generation
        return stale or number <= self._known.sequence

    def _strange(self, journal: Shards) -> bool:
        """Tell a journal of another store: this snapshot has long been past where it begins, or is TinyDB's own."""
        known, header = self._known, journal.header
        if known is None or header is None:
            return self._base.foreign
        return self._base.foreign or (header.generation > known.generation and header.after < known.sequence)

    def _gaps(self, numbers: set[int]) -> Iterator[Loss]:
        """Find the numbers between the snapshot and the last frame known of that no frame has."""
        afters = [journal.header.after for journal in self._journals if journal.header is not None]
        lowest = min((*afters, *(number - 1 for number in numbers)), default=0)
        first = lowest if self._known is None else self._known.sequence
        points = sorted({first, *(number for number in numbers if number > first)})
        for before, after in pairwise([*points, max(*afters, points[-1], first) + 1]):
            if after > before + 1:
                yield _gap(self._names, before + 1, after - 1)


def _lost(journals: Sequence[Shards]) -> Iterator[Loss]:
    for journal in journals:
        yield from journal.losses
    for journal in journals[:-1]:
        if journal.torn is not None:
            what = "the last line is incomplete, but a later journal follows"
            line, byte, size = journal.torn
            yield Loss(file=journal.path.name, what=what, line=line, byte=byte, size=size)


def _tail(journal: Shards, torn: Torn) -> str:
    return f"{journal.path.name}, line {torn.line} (from byte {torn.offset}): the tail"


def _gap(names: Names, first: int, last: int) -> Loss:
    frames = f"frame {first} is" if first == last else f"frames {first} to {last} are"
    what = f"{frames} missing: what changed there is lost, and what came after it is kept"
    return Loss(file=names.journal.name, what=what)


def _unfit(path: Path, inventory: Inventory) -> Iterator[Loss]:
    for table, doc_id, why, key in inventory.unfit:
        keys = () if key is None else (key,)
        yield Loss(file=path.name, what=f"document {doc_id} of table {table!r} cannot be used: {why}", keys=keys)


def _journals(names: Names) -> tuple[Path, Path]:
    return names.full, names.journal


def _aside(present: Iterable[Path], now: float) -> Iterator[tuple[Path, Path]]:
    """Give each file a further name that is free."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    for path in present:
        yield path, next(name for name in _names(path, moment) if not name.exists())


def _names(path: Path, moment: str) -> Iterator[Path]:
    yield path.with_name(f"{path.name}.damaged-{moment}")
    number = 2
    while True:
        yield path.with_name(f"{path.name}.damaged-{moment}-{number}")
        number += 1
