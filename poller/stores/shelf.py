"""Orders in memory: TinyDB's tables, what is claimed of them, and an index beside them.

Nothing here waits or knows a disk. Each change is first given to the tables' sink; if that
refuses, nothing has changed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from poller.errors import StoreError
from poller.event import Event
from poller.order import Key, Order, State
from poller.store import History, Page, Query
from poller.stores.claims import Claims
from poller.stores.index import LATEST, MOST_IDS, EventHead, Events, Head, Index
from poller.stores.journal import Change, DocId, Put
from poller.stores.listing import Listing, Value
from poller.stores.live import LiveStorage, Sink
from poller.stores.loading import EVENTS, HABITS, ORDERS, load
from poller.stores.pieces import Piece
from poller.stores.rules import AT_REST, KEPT_EVENTS, added, missing, succeed
from poller.stores.tables import Condition, Database, LiveTable

Found: TypeAlias = Order | bytes
"""A claimed order as this process knows it, or any other as its line."""

_MANY = 50_000
"""Orders in a table of which, if more than half are asked for, the ids are not copied all at once."""
_NO_IDS = "`poller store export` the orders and `import` them into a new store: that gives them ids from 1"
_encode = msgspec.json.Encoder().encode
_order = msgspec.json.Decoder(Order).decode
_head = msgspec.json.Decoder(Head).decode
_event = msgspec.json.Decoder(Event).decode


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
        self._habits = cast("LiveTable", self._db.table(HABITS, cache_size=0))
        self._claims = Claims()
        self._index = load(pieces, self._storage, path=path, vet=vet)

    # --- Reading ---

    def order(self, key: tuple[str, str]) -> Order | None:
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
        dropped, ids = self._index.events(doc_id)
        lines = [self._events.lines[event_id] for event_id in ids]
        return History(events=[added(self._read(doc_id, key.remote)), *map(_event, lines)], dropped=dropped)

    def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        return self._index.counts()

    def sizes(self) -> Mapping[str, int]:
        """Count the documents of every table."""
        return {name: len(self._storage.lines(name)) for name in sorted(self._storage.names)}

    def ids(self, query: Query) -> Iterator[int]:
        """Give the ids of all orders of a query's remote, states and batch, and maybe of others.

        Whatever is changed meanwhile, each order that is here now is looked at once, and no other.
        """
        if not 2 * self._index.count(query) > len(self._orders.lines) > _MANY:
            return self._index.ids(query)
        last = self._storage.highest(ORDERS)  # whatever comes meanwhile has a higher id
        return (doc_id for doc_id in self._orders.walk() if doc_id <= last)

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
            claimed = self._claims.get(key.remote, cast("int", doc_id))
            if claimed is None:
                yield document.get(sort, default), key, lines[doc_id]
            else:
                yield getattr(claimed, sort), key, claimed

    def page(self, query: Query) -> Page:
        """List orders by their creation, without a text to look for: the index has them in order."""
        listing: Listing[Order] = Listing(query)
        start = None if query.after is None else min(max(cast("float", query.after[0] or 0.0), 0.0), LATEST)
        for _, moment in groupby(self._index.by_creation(query, start), key=itemgetter(0)):
            if listing.is_full:
                break
            for _, doc_id in moment:
                order = self._known(doc_id)
                listing.offer(order.created_at, order.key, order)
        return replace(listing.page(lambda order: order), count=self._index.count(query))

    # --- Changing ---

    def insert(self, orders: Sequence[Order]) -> None:
        """Keep new orders.

        Raises:
            StoreError: there are no ids for them that the index can hold.
        """
        ids = self._orders.next_ids(len(orders))
        if ids.stop > MOST_IDS:
            raise StoreError(f"an order has id {ids.start - 1}, after which none can come", hint=_NO_IDS)
        numbered = list(zip(ids, orders, strict=True))
        self._storage.commit([self._put(doc_id, order) for doc_id, order in numbered])
        for doc_id, order in numbered:
            self._index.add(doc_id, order)

    def replace(self, order: Order, event: Event | None) -> None:
        """Replace an order by its next version, and add to its history.

        Raises:
            NotFound, Stale: it is not the next version of anything.
        """
        doc_id = self._id((order.remote, order.task_id))
        before = self._claims.get(order.remote, doc_id) or _head(self._lines[doc_id])
        succeed(before, order)
        if event is None:
            self._storage.commit([self._put(doc_id, order)])
        else:
            changes, events = self._remembered(doc_id, order, event)
            self._storage.commit([self._put(doc_id, order), *changes])
            self._index.set_events(doc_id, events)
        self._index.put(doc_id, order, before, claimed=self._claims.drop(order.remote, doc_id))

    def resting(self) -> Iterator[int]:
        """Give the ids of the orders at rest, and maybe of others."""
        return self.ids(Query(states=AT_REST))

    def forget(self, doc_ids: Iterable[int], before: float) -> int:
        """Drop those of some orders that are at rest and have not changed since *before*, with their events."""
        lines = ((doc_id, self._orders.lines.get(doc_id)) for doc_id in doc_ids)  # it may have gone since
        orders = [(doc_id, _order(line)) for doc_id, line in lines if line is not None]
        old = [(doc_id, order) for doc_id, order in orders if order.state in AT_REST and order.updated_at < before]
        changes: list[Change] = []
        for doc_id, _ in old:
            changes.append(self._orders.delete(doc_id))
            changes.extend(map(self._events.delete, self._index.events(doc_id).ids))
        self._storage.commit(changes)
        for doc_id, order in old:
            self._index.remove(doc_id, order)
        return len(old)

    # --- Habits: a document for each remote, in a table in which anything may stand ---

    def remember(self, remote: str, habits: Mapping[str, Any]) -> None:
        """Keep what was learned about a remote, in place of what was known before."""
        known = self._learned(remote)
        doc_id = self._habits.next_ids(1)[0] if known is None else known[0]
        line = _encode({"remote": remote, "habits": habits})
        self._storage.commit([self._habits.put(doc_id, line)])

    def recall(self, remote: str) -> object:
        """Read what was learned about a remote; None if nothing was."""
        known = self._learned(remote)
        return None if known is None else known[1].get("habits")

    def _learned(self, remote: str) -> tuple[DocId, Mapping[str, Any]] | None:
        return next(self._habits.matching(lambda document: document.get("remote") == remote, self._habits.lines), None)

    def dismantle(self) -> None:
        """Take everything out bit by bit, in a thread: a million documents that go at once stop all others."""
        self._storage.dismantle()
        self._index.dismantle()

    # --- Claims: facts of this process, told to no sink ---

    def claim(self, remote: str, *, limit: int, now: float, until: float) -> list[Order]:
        """Take orders that are due, the longest due first; lapsed claims are due as well."""
        taken: dict[int, Order] = {}
        while len(taken) < limit and (doc_id := self._take(remote, now)) is not None:
            order = self._read(doc_id, remote)
            taken[doc_id] = replace(order, due_at=until, version=order.version + 1)
        self._claims.put(taken.items())
        return list(taken.values())

    def renew(self, order: Order, until: float) -> None:
        """Prolong a claim, if it is still this version's."""
        doc_id = self._index.doc_id(order.remote, order.task_id)
        claimed = None if doc_id is None else self._claims.get(order.remote, doc_id)
        if doc_id is not None and claimed is not None and claimed.version == order.version:
            self._claims.put([(doc_id, replace(claimed, due_at=until))])

    def shift(self, remote: str, seconds: float) -> None:
        """Have a remote's orders be due, and their claims lapse, so much later."""
        self._index.shift(remote, seconds)
        self._claims.shift(remote, seconds)

    def catch_up(self, now: float) -> Mapping[str, float]:
        """Have no order wait longer than it should where the clock was set back since it was saved.

        Returns:
            By how many seconds, at least, for each remote that this is true of.
        """
        behind = {remote: latest - now for remote, latest in self._index.latest.items() if latest > now}
        for remote, seconds in behind.items():
            self._index.shift(remote, -seconds)
        return behind

    def next_due(self, remote: str) -> float | None:
        """Tell when the remote's next order is due, or its next claim lapses."""
        first, _ = self._first(remote)
        return None if first is None else first[0]

    def _first(self, remote: str) -> tuple[tuple[float, int] | None, Index | Claims]:
        """Give what is due first, as time and id, and where it stands."""
        due, lapse = self._index.first_due(remote, self._due_at), self._claims.first_lapse(remote)
        if due is None or (lapse is not None and lapse < due):
            return lapse, self._claims
        return due, self._index

    def _take(self, remote: str, now: float) -> int | None:
        """Take the longest due; None if nothing is due."""
        first, where = self._first(remote)
        if first is None or first[0] > now:
            return None
        where.take(remote)
        return first[1]

    def _due_at(self, doc_id: int) -> float | None:
        """Tell when an order is due, if it waits and is not claimed."""
        line = self._lines.get(doc_id)
        if line is None:
            return None
        head = _head(line)
        waits = head.state is State.PENDING and self._claims.get(head.remote, doc_id) is None
        return head.due_at if waits else None

    # --- Below ---

    @property
    def _lines(self) -> Mapping[DocId, bytes]:
        """The orders, as lines of JSON."""
        return self._storage.lines(ORDERS)

    def _read(self, doc_id: int, remote: str) -> Order:
        return self._claims.get(remote, doc_id) or _order(self._lines[doc_id])

    def _known(self, doc_id: int) -> Order:
        order = _order(self._lines[doc_id])
        return self._claims.get(order.remote, doc_id) or order

    def _id(self, key: tuple[str, str]) -> int:
        doc_id = self._index.doc_id(*key)
        if doc_id is None:
            raise missing(Key(*key))
        return doc_id

    def _put(self, doc_id: int, order: Order) -> Change:
        return Put(ORDERS, doc_id, msgspec.Raw(_encode(order)))

    def _remembered(self, doc_id: int, order: Order, event: Event) -> tuple[list[Change], Events]:
        """Plan how an order's history grows, and what falls off its far end."""
        dropped, ids = self._index.events(doc_id)
        whose = EventHead(order.remote, order.task_id, dropped + len(ids) + 1)
        line = _encode(whose)[:-1] + b"," + _encode(event)[1:]
        (event_id,) = self._events.next_ids(1)
        kept = (*ids, event_id)[-(KEPT_EVENTS - 1) :]
        forgotten = ids[: len(ids) + 1 - len(kept)]
        changes: list[Change] = [self._events.put(event_id, line), *map(self._events.delete, forgotten)]
        return changes, Events(whose.number - len(kept), kept)
