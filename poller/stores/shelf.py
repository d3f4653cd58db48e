"""Orders in memory: TinyDB's tables, what is claimed of them, and an index beside them.

Nothing here waits or knows a disk. Each change is first given to the tables' sink; if that
refuses, nothing has changed.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import msgspec
from msgspec.structs import replace

from poller.errors import StoreDamaged
from poller.event import Event
from poller.order import Key, Order, State
from poller.store import History, Page, Query
from poller.stores.index import MOST_IDS, Head, Index
from poller.stores.journal import HINT, Change, DocId
from poller.stores.listing import Listing, Value
from poller.stores.live import LiveStorage, Sink
from poller.stores.rules import AT_REST, KEPT_EVENTS, added, missing
from poller.stores.snapshot import Block, Piece, documents
from poller.stores.tables import Condition, Database, LiveTable

T = TypeVar("T")
Buffer: TypeAlias = bytes | msgspec.Raw
ORDERS, EVENTS = "orders", "events"

Found: TypeAlias = Order | bytes
"""A claimed order as this process knows it, or any other as its line."""

_order = msgspec.json.Decoder(Order).decode
_head = msgspec.json.Decoder(Head).decode
_heads = msgspec.json.Decoder(dict[int, Head]).decode
_event = msgspec.json.Decoder(Event).decode


class _EventHead(msgspec.Struct, frozen=True, gc=False):
    """Whose event it is, and the how manyth of its order."""

    remote: str
    task_id: str
    number: int


_event_head = msgspec.json.Decoder(_EventHead).decode
_NONE: Mapping[int, Order] = {}
_DEFAULTS = {
    field.name: field.default for field in msgspec.structs.fields(Order) if field.default is not msgspec.NODEFAULT
}


class Shelf:
    """All orders and their events.

    Args:
        pieces: what was stored.
        sink: is given every change before it is made, and may refuse it by raising.
        path: the file that complaints are to name.
        vet: whether every order must be read now, because others wrote them.

    Raises:
        StoreDamaged: when made, if a document is no order or no event.
    """

    def __init__(self, pieces: Iterable[Piece], *, sink: Sink, path: Path, vet: bool) -> None:
        self._storage = LiveStorage(sink=sink)
        self._db = Database(storage=lambda: self._storage)
        self._orders = cast("LiveTable", self._db.table(ORDERS, cache_size=0))
        self._events = cast("LiveTable", self._db.table(EVENTS, cache_size=0))
        self._claimed: dict[str, dict[int, Order]] = {}
        self._lapsing: dict[str, list[tuple[float, int]]] = {}
        self._path = path
        self._index = self._loaded(pieces, vet=vet)
        self._load_events()

    # --- Reading ---

    def order(self, key: Key) -> Order | None:
        """Read one order."""
        remote, task_id = key
        doc_id = self._index.doc_id(remote, task_id)
        return None if doc_id is None else self._read(doc_id, remote)

    def history(self, key: Key) -> History:
        """Read an order's history.

        Raises:
            NotFound: there is no such order.
        """
        doc_id = self._id(key)
        lines = [self._events.lines[event_id] for event_id in self._index.events(doc_id)]
        dropped = _event_head(lines[0]).number - 1 if lines else 0
        return History(events=[added(self._read(doc_id, key.remote)), *map(_event, lines)], dropped=dropped)

    def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        return self._index.counts()

    def sizes(self) -> Mapping[str, int]:
        """Count the documents of every table."""
        return {name: len(self._storage.lines(name)) for name in sorted(self._storage.names)}

    def ids(self, query: Query) -> Sequence[int]:
        """Give the ids of the orders of a query's remote and states, whatever else it asks for."""
        return self._index.ids(remote=query.remote, states=query.states)

    def find(
        self, wanted: Condition, likely: Callable[[bytes], bool], doc_ids: Iterable[int], sort: str
    ) -> Iterator[tuple[Value, Key, Found]]:
        """Give those of some orders that match, with the value they are sorted by.

        Args:
            wanted: what must be true of a document.
            likely: tells quickly of a line whether that may be true of it.
            doc_ids: where to look.
            sort: the field to sort by.
        """
        lines, default = self._orders.lines, _DEFAULTS.get(sort)
        hopeful = [doc_id for doc_id in doc_ids if doc_id in lines and likely(lines[doc_id])]
        for doc_id, document in self._orders.matching(wanted, hopeful):
            key = Key(document["remote"], document["task_id"])
            claimed = self._claimed.get(key.remote, {}).get(cast("int", doc_id))
            if claimed is None:
                yield document.get(sort, default), key, lines[doc_id]
            else:
                yield getattr(claimed, sort), key, claimed

    def page(self, query: Query) -> Page:
        """List orders by their creation, of a remote and some states at most: the index has them in order."""
        listing: Listing[Order] = Listing(query)
        remote, states = query.remote, query.states
        start = None if query.after is None else cast("float", query.after[0])
        entries = self._index.by_creation(remote=remote, states=states, descending=query.descending, start=start)
        for _, moment in groupby(entries, key=itemgetter(0)):
            if listing.is_full:
                break
            for _, doc_id in moment:
                order = self._known(doc_id)
                listing.offer(order.created_at, order.key, order)
        return replace(listing.page(lambda order: order), count=self._index.count(remote=remote, states=states))

    # --- Changing ---

    def insert(self, orders: Sequence[Order]) -> None:
        """Keep new orders."""
        numbered = [(self._orders.next_id(), order) for order in orders]
        self._storage.commit([self._put(doc_id, order) for doc_id, order in numbered])
        for doc_id, order in numbered:
            self._index.put(doc_id, order, None)

    def replace(self, order: Order, event: Event | None) -> None:
        """Replace an order that is there, and add to its history."""
        doc_id = self._id(order.key)
        before = _order(self._orders.lines[doc_id])
        changes, events = self._remembered(doc_id, order.key, event)
        self._storage.commit([self._put(doc_id, order), *changes])
        claimed = self._claimed.get(order.remote, {}).pop(doc_id, None)
        self._index.put(doc_id, order, before, claimed=claimed is not None)
        if event is not None:
            self._index.set_events(doc_id, events)

    def resting(self) -> Sequence[int]:
        """Give the ids of the orders at rest."""
        return self._index.ids(remote=None, states=AT_REST)

    def forget(self, doc_ids: Iterable[int], before: float) -> int:
        """Drop those of some orders that are at rest and have not changed since *before*, with their events."""
        lines = ((doc_id, self._orders.lines.get(doc_id)) for doc_id in doc_ids)  # it may have gone since
        orders = [(doc_id, _order(line)) for doc_id, line in lines if line is not None]
        old = [(doc_id, order) for doc_id, order in orders if order.state in AT_REST and order.updated_at < before]
        changes: list[Change] = []
        for doc_id, _ in old:
            changes.append(self._orders.delete(doc_id))
            changes.extend(map(self._events.delete, self._index.events(doc_id)))
        self._storage.commit(changes)
        for doc_id, order in old:
            self._index.remove(doc_id, order)
        return len(old)

    # --- Claims: facts of this process, told to no sink ---

    def claim(self, remote: str, *, limit: int, now: float, until: float) -> list[Order]:
        """Take orders that are due, the longest due first; lapsed claims are due as well."""
        taken: list[Order] = []
        while len(taken) < limit and (doc_id := self._take(remote, now)) is not None:
            order = self._read(doc_id, remote)
            self._claim(doc_id, replace(order, due_at=until, version=order.version + 1))
            taken.append(self._claimed[remote][doc_id])
        return taken

    def renew(self, order: Order, until: float) -> None:
        """Prolong a claim, if it is still this version's."""
        doc_id = self._index.doc_id(order.remote, order.task_id)
        claimed = self._claimed.get(order.remote, {}).get(doc_id) if doc_id is not None else None
        if doc_id is not None and claimed is not None and claimed.version == order.version:
            self._claim(doc_id, replace(claimed, due_at=until))

    def next_due(self, remote: str) -> float | None:
        """Tell when the remote's next order is due, or its next claim lapses."""
        entries = (self._index.first_due(remote, self._due_at), self._first_lapse(remote))
        return min((entry[0] for entry in entries if entry is not None), default=None)

    def _claim(self, doc_id: int, order: Order) -> None:
        self._claimed.setdefault(order.remote, {})[doc_id] = order
        heapq.heappush(self._lapsing.setdefault(order.remote, []), (_due(order), doc_id))

    def _take(self, remote: str, now: float) -> int | None:
        """Take the longest due from whichever heap it stands in; None if nothing is due."""
        waiting, lapse = self._index.first_due(remote, self._due_at), self._first_lapse(remote)
        first = min((entry for entry in (waiting, lapse) if entry is not None), default=None)
        if first is None or first[0] > now:
            return None
        if first == lapse:
            heapq.heappop(self._lapsing[remote])
        else:
            self._index.take(remote)
        return first[1]

    def _first_lapse(self, remote: str) -> tuple[float, int] | None:
        """Give the claim that lapses first; those that were prolonged or saved since are dropped."""
        heap, claimed = self._lapsing.get(remote, []), self._claimed.get(remote, {})
        while heap and (heap[0][1] not in claimed or _due(claimed[heap[0][1]]) != heap[0][0]):
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _due_at(self, doc_id: int) -> float | None:
        """Tell when an order is due, if it waits and is not claimed."""
        line = self._orders.lines.get(doc_id)
        if line is None:
            return None
        head = _head(line)
        waits = head.state is State.PENDING and doc_id not in self._claimed.get(head.remote, {})
        return head.due_at if waits else None

    # --- Below ---

    def _read(self, doc_id: int, remote: str) -> Order:
        return self._claimed.get(remote, _NONE).get(doc_id) or _order(self._orders.lines[doc_id])

    def _known(self, doc_id: int) -> Order:
        order = _order(self._orders.lines[doc_id])
        return self._claimed.get(order.remote, _NONE).get(doc_id, order)

    def _id(self, key: Key) -> int:
        doc_id = self._index.doc_id(*key)
        if doc_id is None:
            raise missing(key)
        return doc_id

    def _put(self, doc_id: int, order: Order) -> Change:
        return self._orders.put(doc_id, msgspec.json.encode(order))

    def _remembered(self, doc_id: int, key: Key, event: Event | None) -> tuple[list[Change], tuple[int, ...]]:
        """Plan how an order's history grows, and what falls off its far end."""
        events = self._index.events(doc_id)
        if event is None:
            return [], events
        number = _event_head(self._events.lines[events[-1]]).number + 1 if events else 1
        line = msgspec.json.encode({**key._asdict(), "number": number, **msgspec.to_builtins(event)})
        event_id = self._events.next_id()
        kept = (*events, event_id)[-(KEPT_EVENTS - 1) :]
        forgotten = events[: len(events) + 1 - len(kept)]
        return [self._events.put(event_id, line), *map(self._events.delete, forgotten)], kept

    # --- Loading ---

    def _loaded(self, pieces: Iterable[Piece], *, vet: bool) -> Index:
        """Take in what was stored, and make the index of it."""
        try:
            index = Index.of(self._take_in(piece, vet=vet) for piece in pieces)
        except KeyError as error:
            raise self._unfit(ORDERS, error.args[0], "an order of this key is there already") from None
        if ORDERS not in self._storage.names:
            raise StoreDamaged(f"{self._path} has no table {ORDERS!r}", hint=HINT)
        return index

    def _take_in(self, piece: Piece, *, vet: bool) -> Iterable[tuple[int, Head | Order]]:
        """Take in one piece; give what the index needs of it."""
        try:
            lines = documents(piece)
        except msgspec.MsgspecError as error:
            reason = f"{self._path}: a part of table {piece.table!r} is not understood: {error}"
            raise StoreDamaged(reason, hint=HINT) from error
        self._storage.load(piece.table, lines)
        return self._heads_of(piece, lines, vet=vet) if piece.table == ORDERS else ()

    def _heads_of(
        self, piece: Piece, lines: Mapping[DocId, msgspec.Raw], *, vet: bool
    ) -> Iterable[tuple[int, Head | Order]]:
        """Read a block's heads at once if that can be; one by one if others wrote it, or to find the unfit one."""
        with suppress(msgspec.MsgspecError):
            if isinstance(piece, Block) and not vet:
                heads = _heads(piece.json)
                if all(0 <= doc_id < MOST_IDS for doc_id in heads):
                    return zip(heads, heads.values(), strict=True)
        return self._numbered(ORDERS, lines, _vetted if vet else _head)

    def _load_events(self) -> None:
        for event_id, head in self._numbered(EVENTS, self._events.lines, _event_head):
            doc_id = self._index.doc_id(head.remote, head.task_id)
            if doc_id is None:
                raise self._unfit(EVENTS, event_id, "its order is not there")
            self._index.set_events(doc_id, (*self._index.events(doc_id), event_id))

    def _numbered(
        self, table: str, lines: Mapping[DocId, Buffer], read: Callable[[Buffer], T]
    ) -> Iterator[tuple[int, T]]:
        for doc_id, line in lines.items():
            if not isinstance(doc_id, int) or not 0 <= doc_id < MOST_IDS:
                raise self._unfit(table, doc_id, f"its id is no number from 0 to {MOST_IDS - 1}")
            try:
                document = read(line)
            except msgspec.MsgspecError as error:
                raise self._unfit(table, doc_id, str(error)) from error
            yield doc_id, document

    def _unfit(self, table: str, doc_id: object, why: str) -> StoreDamaged:
        return StoreDamaged(f"{self._path}: document {doc_id} of table {table!r} cannot be used: {why}", hint=HINT)


def _vetted(line: Buffer) -> Order:
    """Read an order that somebody else wrote."""
    order = _order(line)
    if order.state is State.PENDING and order.due_at is None:
        raise msgspec.ValidationError("it is pending, and due at no time")
    return order


def _due(claimed: Order) -> float:
    return cast("float", claimed.due_at)
