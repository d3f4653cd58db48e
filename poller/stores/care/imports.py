"""Taking orders that were kept elsewhere into a store, all or none.

The store's journals and what is imported are folded into one new snapshot, which takes the
place of the old one in one rename: so an import that is interrupted has not happened.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from poller.errors import StoreUnavailable
from poller.order import Key
from poller.stores.care.cargo import Parcel, Unfit
from poller.stores.care.custody import held, supersede
from poller.stores.care.inventory import Inventory, read_event, read_order, stock
from poller.stores.files import Files
from poller.stores.journal import Change, Create, Delete, Put, Torn
from poller.stores.loading import EVENTS, ORDERS
from poller.stores.pieces import About
from poller.stores.survey import Names, Survey, summed_up, survey


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did.

    Attributes:
        path: the snapshot.
        founded: whether there was no store before.
        added, replaced, equal: how many orders were new, took the place of others, or were there already.
        torn: the tail of the store's journal that was cut, as the next start would have.
    """

    path: str
    founded: bool
    added: int
    replaced: int
    equal: int
    torn: Torn | None = None


def import_(cargo: Mapping[Key, Parcel], path: Path, *, replace: bool = False, files: Files | None = None) -> Import:
    """Put orders into a store, all or none; found the store if there is none.

    Args:
        cargo: the orders, found fit.
        path: the snapshot.
        replace: whether an order that differs takes the place of the one that is there.
        files: the operating system.

    Raises:
        ConfigurationError: no store can be there.
        StoreLocked: a poller has the store.
        StoreDamaged: a poller would not start with it.
        Unfit: orders of the same keys are there and differ.
        StoreUnavailable: it cannot be read or written.
    """
    names, files = Names(path.resolve()), files or Files()
    try:
        with held(names, files=files):
            return _import(cargo, names, replace=replace, files=files)
    except OSError as error:
        hint = "look at the folder, its owner and the space on its disk"
        raise StoreUnavailable(f"{path} cannot be written: {error}", hint=hint) from error


def _import(cargo: Mapping[Key, Parcel], names: Names, *, replace: bool, files: Files) -> Import:
    found = survey(names, files=files)
    there = stock(found)
    other = {key for key in cargo if key in there.orders and not _same(cargo[key], Parcel(*there.lines(key)))}
    if other and not replace:
        raise _conflict(names, sorted(other))
    fresh = {key for key in cargo if key not in there.orders}
    torn = None
    if fresh or other or found.snapshot is None:
        _write(names, found, {key: cargo[key] for key in cargo if key in fresh or key in other}, there, files)
        torn = next((reader.torn for reader in found.due if reader.torn), None)
    return Import(
        path=str(names.snapshot),
        founded=found.snapshot is None,
        added=len(fresh),
        replaced=len(other),
        equal=len(cargo) - len(fresh) - len(other),
        torn=torn,
    )


def _write(names: Names, found: Survey, cargo: Mapping[Key, Parcel], there: Inventory, files: Files) -> None:
    edits, sequence = summed_up(found)
    for change in _changes(cargo, there):
        edits.apply(change)
    supersede(
        names,
        edits.over(found.snapshot.pieces() if found.snapshot else ()),
        About(generation=_generation(found) + 1, sequence=sequence),
        kept={names.snapshot: names.previous} if found.snapshot else {},
        files=files,
    )


def _changes(cargo: Mapping[Key, Parcel], there: Inventory) -> Iterator[Change]:
    yield Create(ORDERS)
    yield Create(EVENTS)
    order_id, event_id = there.highest()
    for key, (order, history) in cargo.items():
        before = there.orders.get(key)
        order_id += before is None
        yield Put(ORDERS, order_id if before is None else before.doc_id, msgspec.Raw(order))
        for event in there.events.get(key, ()):
            yield Delete(EVENTS, event.doc_id)
        for event_id, line in enumerate(history, start=event_id + 1):  # noqa: B020 - goes on from where it was
            yield Put(EVENTS, event_id, msgspec.Raw(line))


def _generation(found: Survey) -> int:
    if found.due:
        return found.due[-1].header.generation
    return found.snapshot.about.generation if found.snapshot else -1


def _same(one: Parcel, other: Parcel) -> bool:
    return one == other or _meaning(one) == _meaning(other)


def _meaning(parcel: Parcel) -> bytes:
    """Write what a parcel says in one way, however it was spelt."""
    read = (read_order(parcel.order), [read_event(event) for event in parcel.history])
    return msgspec.json.encode(read, order="deterministic")


def _conflict(names: Names, keys: list[Key]) -> Unfit:
    return Unfit(
        f"{len(keys)} of the orders are in {names.snapshot} already, and differ; nothing was imported",
        [("", f"{key.task_id} of {key.remote}") for key in keys],
        hint="--replace takes those that are imported",
    )
