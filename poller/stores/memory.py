"""The store that forgets everything when its process ends. For tests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from poller.errors import StoreUnavailable
from poller.event import Event
from poller.order import Key, Order, State
from poller.store import History, Page, Query
from poller.stores.listing import Listing, mentions
from poller.stores.rules import AT_REST, KEPT_EVENTS, added, admit, missing, succeed


class MemoryStore:
    """Keeps orders in a dictionary; every method looks at all of them.

    Attributes:
        problem: set it to make the store refuse, as one whose disk has failed.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._closed = False
        self._orders: dict[Key, Order] = {}
        self._events: dict[Key, list[Event]] = {}
        self._claimed: dict[Key, Order] = {}
        self._habits: dict[str, Mapping[str, Any]] = {}

    async def add(self, orders: Sequence[Order]) -> Sequence[tuple[Order, bool]]:
        """Keep new orders, all or none."""
        self._demand()
        answers = admit(orders, lambda key: self._orders.get(Key(*key)))
        self._orders |= {order.key: order for order, new in answers if new}
        return answers

    async def get(self, key: Key) -> Order | None:
        """Read one order."""
        return self._orders.get(key)

    async def claim(self, remote: str, *, limit: int, now: float, until: float) -> Sequence[Order]:
        """Take orders that are due, the longest due first."""
        self._demand()
        due = sorted((at, order.task_id) for at, order in self._waiting(remote) if at <= now)[:limit]
        keys = [Key(remote, task_id) for _, task_id in due]
        for key in keys:
            before = self._orders[key]
            self._orders[key] = replace(before, due_at=until, version=before.version + 1)
            self._claimed.setdefault(key, before)
        return [self._orders[key] for key in keys]

    async def renew(self, orders: Sequence[Order], *, until: float) -> None:
        """Prolong claims."""
        self._demand()
        for order in orders:
            stored = self._orders.get(order.key)
            if stored is not None and order.key in self._claimed and stored.version == order.version:
                self._orders[order.key] = replace(stored, due_at=until)

    async def save(self, order: Order, event: Event | None = None, *, durable: bool = True) -> None:  # noqa: ARG002 - nothing here is
        """Replace an order by its next version."""
        self._demand()
        succeed(self._orders.get(order.key), order)
        self._orders[order.key] = order
        self._claimed.pop(order.key, None)
        if event is not None:
            self._events.setdefault(order.key, []).append(event)

    async def next_due(self, remote: str) -> float | None:
        """Tell when the remote's next order is due."""
        return min((at for at, _ in self._waiting(remote)), default=None)

    async def shift(self, remote: str, *, seconds: float) -> None:
        """Have orders be due later, or sooner."""
        self._demand()
        waiting = {order.key: replace(order, due_at=at + seconds) for at, order in self._waiting(remote)}
        self._orders |= waiting

    async def search(self, query: Query) -> Page:
        """List orders."""
        listing: Listing[Order] = Listing(query)
        for order in self._orders.values():
            if _matches(order, query):
                listing.offer(getattr(order, query.sort), order.key, order)
        return listing.page(lambda order: order)

    async def history(self, key: Key) -> History:
        """Read an order's history."""
        order = self._orders.get(key)
        if order is None:
            raise missing(key)
        events = self._events.get(key, [])
        kept = events[-(KEPT_EVENTS - 1) :]
        return History(events=[added(order), *kept], dropped=len(events) - len(kept))

    async def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        counted = Counter(order.state for order in self._orders.values())
        return {state: counted[state] for state in State}

    async def remember(self, remote: str, habits: Mapping[str, Any]) -> None:
        """Keep what was learned about a remote."""
        self._demand()
        self._habits[remote] = habits

    async def recall(self, remote: str) -> object:
        """Read what was learned about a remote."""
        return self._habits.get(remote)

    async def forget(self, *, before: float) -> int:
        """Drop orders at rest that have not changed since *before*."""
        self._demand()
        old = [key for key, order in self._orders.items() if order.state in AT_REST and order.updated_at < before]
        for key in old:
            del self._orders[key]
            self._events.pop(key, None)
        return len(old)

    async def reopen(self) -> None:
        """Go on, and forget all claims, as a store does that reads its files anew."""
        if self._closed:
            self._demand()
        self.problem = None
        self._orders |= self._claimed
        self._claimed.clear()

    async def close(self) -> None:
        """Take no more."""
        self._closed = True
        self.problem = "the store is closed"

    def _waiting(self, remote: str) -> list[tuple[float, Order]]:
        orders = [order for order in self._orders.values() if order.remote == remote]
        return [(order.due_at, order) for order in orders if order.due_at is not None and order.state is State.PENDING]

    def _demand(self) -> None:
        if self.problem is not None:
            raise StoreUnavailable(self.problem)


def _matches(order: Order, query: Query) -> bool:
    return (
        (query.states is None or order.state in query.states)
        and query.remote in {None, order.remote}
        and query.batch in {None, order.batch}
        and (query.text is None or mentions(query.text, order.task_id, order.reason, order.context))
    )
