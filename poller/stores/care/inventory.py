"""A store's orders and events by key, sorted out of its rows, and whatever there is no use for."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeGuard

import msgspec

from poller.errors import StoreDamaged, StoreError, StoreUnavailable
from poller.event import Event
from poller.order import Key, Order, State
from poller.stores.files import Files
from poller.stores.index import MOST_IDS
from poller.stores.journal import HINT, DocId
from poller.stores.loading import EVENTS, ORDERS, vetted
from poller.stores.pieces import Piece, Row, rows_of
from poller.stores.survey import Names, Survey, summed_up, survey
from poller.stores.views import decode

_TRIES = 3
"""A running poller replaces files while we read them: what looks wrong may be right the next time."""


class EventLine(Event, frozen=True, kw_only=True):
    """An event as a store keeps it.

    Attributes:
        remote, task_id: whose it is.
        number: the how manyth of its order; the order's beginning has none.
    """

    remote: str
    task_id: str
    number: int

    @property
    def key(self) -> Key:
        """Whose it is."""
        return Key(self.remote, self.task_id)


class Document(NamedTuple):
    """A document's id and its line of JSON."""

    doc_id: DocId
    line: bytes


class Unfit(NamedTuple):
    """A document that cannot be used, and why; its key if that can be read."""

    table: str
    doc_id: DocId
    why: str
    key: Key | None = None


_order = msgspec.json.Decoder(Order).decode
_event = msgspec.json.Decoder(EventLine).decode


def read_order(line: bytes) -> Order:
    """Read a line as an order that a poller can work with.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    decode(line)
    return vetted(line)


def read_event(line: bytes) -> EventLine:
    """Read a line as an event of an order.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    event = _event(line)
    decode(line)
    return event


def is_id(doc_id: DocId | None) -> TypeGuard[int]:
    """Tell whether an order or an event can have this id."""
    return isinstance(doc_id, int) and 0 <= doc_id < MOST_IDS


class Inventory:
    """What a store holds.

    Args:
        rows: what was stored.

    Attributes:
        orders: each order's document; of two of one key, the one that was added later, else the higher version.
        events: each order's events. All are in the order of their tables.
        others: the rows of further tables.
        tables: which tables there are.
        unfit: what there is no use for.
        counts: orders by state.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.orders: dict[Key, Document] = {}
        self.events: dict[Key, list[Document]] = {}
        self.others: list[Row] = []
        self.tables: set[str] = set()
        self.unfit: list[Unfit] = []
        self.counts: Counter[State] = Counter(dict.fromkeys(State, 0))
        for row in rows:
            self._take(row)
        self._drop_strays()

    def demand(self, path: Path) -> None:
        """Make sure that a poller can use all of it.

        Raises:
            StoreDamaged: it cannot.
        """
        if ORDERS not in self.tables:
            raise StoreDamaged(f"{path} has no table {ORDERS!r}", hint=HINT)
        for table, doc_id, why, _ in self.unfit:
            raise StoreDamaged(f"{path}: document {doc_id} of table {table!r} cannot be used: {why}", hint=HINT)

    def lines(self, key: Key) -> tuple[bytes, list[bytes]]:
        """Give an order's line and those of its events."""
        return self.orders[key].line, [event.line for event in self.events.get(key, ())]

    def highest(self) -> tuple[int, int]:
        """Give the highest ids of orders and of events; 0 where there are none."""
        events = (event.doc_id for each in self.events.values() for event in each)
        return _highest(order.doc_id for order in self.orders.values()), _highest(events)

    def _take(self, row: Row) -> None:
        self.tables.add(row.table)
        if row.table not in _TAKERS:
            self.others.append(row)
        elif row.doc_id is not None and not is_id(row.doc_id):
            self.unfit.append(Unfit(row.table, row.doc_id, f"its id is no number from 0 to {MOST_IDS - 1}"))
        elif row.doc_id is not None:
            self._try(row.table, Document(row.doc_id, row.line))

    def _try(self, table: str, document: Document) -> None:
        try:
            _TAKERS[table](self, document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.unfit.append(Unfit(table, document.doc_id, str(error), key_of(document.line)))

    def _take_order(self, document: Document) -> None:
        order = read_order(document.line)
        before = self.orders.get(order.key)
        if before is None:
            self.orders[order.key] = document
            self.counts[order.state] += 1
        else:
            self._choose(order, _order(before.line), document)

    def _choose(self, order: Order, before: Order, document: Document) -> None:
        worse = document.doc_id
        if _age(order) > _age(before):
            worse, self.orders[order.key] = self.orders[order.key].doc_id, document
            self.counts.update({before.state: -1, order.state: 1})
        self.unfit.append(Unfit(ORDERS, worse, "an order of this key is there already", order.key))

    def _take_event(self, document: Document) -> None:
        self.events.setdefault(read_event(document.line).key, []).append(document)

    def _drop_strays(self) -> None:
        for key in [key for key in self.events if key not in self.orders]:
            for event in self.events.pop(key):
                self.unfit.append(Unfit(EVENTS, event.doc_id, "its order is not there", key))


_TAKERS: Mapping[str, Callable[[Inventory, Document], None]] = {
    ORDERS: Inventory._take_order,  # noqa: SLF001 - this class's own table of its own methods
    EVENTS: Inventory._take_event,  # noqa: SLF001
}


class _Named(msgspec.Struct):
    remote: str
    task_id: str


_named = msgspec.json.Decoder(_Named).decode


def key_of(line: bytes) -> Key | None:
    """Read whose a document is, whatever else is wrong with it; None if that cannot be read."""
    try:
        named = _named(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return Key(named.remote, named.task_id)


def take_stock(path: Path, *, files: Files | None = None) -> Inventory:
    """Read a whole store as it was at one moment. Changes nothing, and needs no lock.

    Raises:
        StoreError: there is none.
        StoreDamaged: a poller would not start with it.
        StoreUnavailable: it cannot be read, or is replaced each time while it is read.
    """
    for _ in range(_TRIES - 1):
        with suppress(StoreError, OSError):
            return _moment(path, files or Files())
    try:
        return _moment(path, files or Files())
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read: {error}") from error


def stock(found: Survey) -> Inventory:
    """Read what a survey found, journals included.

    Raises:
        StoreDamaged: a poller could not use it.
    """
    edits, _ = summed_up(found)
    inventory = Inventory(_rows(edits.over(found.snapshot.pieces() if found.snapshot else ())))
    if found.snapshot is not None:
        inventory.demand(found.snapshot.path)
    return inventory


def _rows(pieces: Iterable[Piece]) -> Iterator[Row]:
    for piece in pieces:
        yield from (piece,) if isinstance(piece, Row) else rows_of(piece)


def _moment(path: Path, files: Files) -> Inventory:
    names = Names(path.resolve())
    before = _identity(names.snapshot)
    found = survey(names, files=files)
    if found.snapshot is None:
        raise no_store(names.snapshot)
    inventory = stock(found)
    if _identity(names.snapshot) != before:
        raise StoreUnavailable(f"{names.snapshot} was replaced while it was read", hint="try again")
    return inventory


def no_store(path: Path) -> StoreError:
    """Make the error for a store that is not there."""
    return StoreError(f"there is no store at {path}", hint="check the path, or POLLER_STORE")


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _age(order: Order) -> tuple[float, int]:
    return order.created_at, order.version


def _highest(ids: Iterable[DocId]) -> int:
    return max((doc_id for doc_id in ids if isinstance(doc_id, int)), default=0)


def rows(inventory: Inventory) -> Iterator[Row]:
    """Give an inventory back as the rows of a snapshot."""
    yield Row(ORDERS)
    for order in inventory.orders.values():
        yield Row(ORDERS, *order)
    yield Row(EVENTS)
    for events in inventory.events.values():
        for event in events:
            yield Row(EVENTS, *event)
    yield from inventory.others
