"""Documents put together again from pieces that may contradict each other."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeVar

import msgspec

from poller.order import Key, Order
from poller.stores.care.inventory import Document, EventLine, Inventory, is_id, key_of, read_event, read_order
from poller.stores.journal import Change, Create, Delete, DocId, Drop, Put
from poller.stores.loading import EVENTS, ORDERS
from poller.stores.pieces import Row
from poller.stores.rules import KEPT_EVENTS

T = TypeVar("T")

_encode = msgspec.json.Encoder(order="deterministic").encode


class Mending:
    """Tables in which two documents that claim one id both find a place.

    Ids are what journals name documents by, so they are kept as far as they can be. A
    document whose id is unknown, or taken by another order, gets a new one in the end.
    """

    def __init__(self) -> None:
        self._tables: dict[str, dict[DocId, bytes]] = {ORDERS: {}, EVENTS: {}}
        self._homeless = count()

    def keep(self, row: Row) -> None:
        """Take in a document that was stored; whoever has its id already keeps that."""
        table = self._tables.setdefault(row.table, {})
        if row.doc_id is not None and row.doc_id not in table:
            table[row.doc_id] = row.line
        elif row.line and (row.doc_id is None or table[row.doc_id] != row.line):
            table[self._place()] = row.line

    def fill_in(self, rows: Sequence[Row]) -> Mapping[Key, bytes]:
        """Take in what is missing, from a snapshot of an earlier time; tell which orders, and how they were then."""
        here = dict(_orders(self._tables[ORDERS].values()))
        earlier = {row.line: order for row in rows if row.table == ORDERS and (order := _tried(read_order, row.line))}
        missing = {line: order.key for line, order in earlier.items() if order.key not in here}
        for row in rows:
            if row.line in missing:
                self.keep(row)
        same = {order.key for order in earlier.values() if here.get(order.key, order).created_at == order.created_at}
        self._fill_in_events(rows, same)
        return {key: line for line, key in missing.items()}

    def doubtful(self, rows: Sequence[Row]) -> tuple[Key, ...]:
        """Tell which orders are not what an earlier snapshot says of their very version."""
        here = dict(_orders(self._tables[ORDERS].values()))
        earlier = dict(_orders(row.line for row in rows if row.table == ORDERS))
        return tuple(key for key, order in earlier.items() if key in here and _are_at_odds(order, here[key]))

    def apply(self, change: Change) -> None:
        """Make a change of a journal. An order that it would put another in the place of keeps a place."""
        match change:
            case Put(table=name, doc_id=doc_id, line=line):
                self._put(name, doc_id, bytes(line))
            case Delete(table=name, doc_id=doc_id):
                self._tables.get(name, {}).pop(doc_id, None)
            case Create(table=name):
                self._tables.setdefault(name, {})
            case Drop(table=name):
                self._tables.pop(name, None)

    def merge(self, changes: Iterable[Change]) -> None:
        """Take in the documents of a journal whose ids mean nothing here, and let it delete none."""
        latest = {(change.table, change.doc_id): bytes(change.line) for change in changes if isinstance(change, Put)}
        for (table, _), line in latest.items():
            self.keep(Row(table, None, line))

    def inventory(self) -> Inventory:
        """Give everything, each order once, with ids that are numbers, and histories in their order."""
        inventory = Inventory(self._rows())
        events = {key: _history(inventory.events.get(key, ())) for key in inventory.orders}
        inventory.events = {key: history for key, history in events.items() if history}
        return inventory

    def _put(self, name: str, doc_id: DocId, line: bytes) -> None:
        table = self._tables.setdefault(name, {})
        before = table.get(doc_id)
        if before is not None and _are_others(name, before, line):
            table[self._place()] = before
        table[doc_id] = line

    def _place(self) -> str:
        return f"homeless {next(self._homeless)}"

    def _fill_in_events(self, rows: Sequence[Row], keys: set[Key]) -> None:
        known = {_event_name(line) for line in self._tables[EVENTS].values()}
        for row in rows:
            if row.table == EVENTS and row.line and key_of(row.line) in keys and _event_name(row.line) not in known:
                self.keep(row)

    def _rows(self) -> Iterator[Row]:
        for name, table in self._tables.items():
            yield Row(name)
            for doc_id, line in _numbered(table) if name in _NAMES else table.items():
                yield Row(name, doc_id, line)


def _numbered(table: Mapping[DocId, bytes]) -> Iterator[tuple[DocId, bytes]]:
    fresh = count(max(filter(is_id, table), default=0) + 1)
    for doc_id, line in table.items():
        yield doc_id if is_id(doc_id) else next(fresh), line


def _history(events: Iterable[Document]) -> list[Document]:
    """Put events in order, each once, and no more of them than are kept."""
    numbered = {read_event(event.line).number: event for event in events}
    return [numbered[number] for number in sorted(numbered)][-(KEPT_EVENTS - 1) :]


def _orders(lines: Iterable[bytes]) -> Iterator[tuple[Key, Order]]:
    for line in lines:
        order = _tried(read_order, line)
        if order is not None:
            yield order.key, order


def _are_at_odds(one: Order, other: Order) -> bool:
    same = (one.created_at, one.version) == (other.created_at, other.version)
    return same and _encode(one) != _encode(other)


def _event_name(line: bytes) -> tuple[Key, int] | None:
    event: EventLine | None = _tried(read_event, line)
    return None if event is None else (event.key, event.number)


_NAMES: Mapping[str, Callable[[bytes], object]] = {ORDERS: key_of, EVENTS: _event_name}
"""What a document is known by, whatever its id."""


def _are_others(table: str, before: bytes, line: bytes) -> bool:
    name = _NAMES.get(table)
    return name is not None and name(before) not in (None, name(line))


def _tried(read: Callable[[bytes], T], line: bytes) -> T | None:
    try:
        return read(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
