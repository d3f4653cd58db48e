"""Where orders are: kept beside the tables, so that nothing is ever searched for.

A waiting order stands in its remote's heap of due times, any other in the set of its
state: so an order costs one of the two, and to count them is to look at lengths. A heap's
entries are never taken out of its middle; one that no longer says when its order is due is
dropped when it comes up.
"""

import heapq
from collections.abc import Callable, Mapping
from itertools import chain

import msgspec

from poller.order import Key, Order, State


class Head(msgspec.Struct, frozen=True, gc=False):
    """What the index needs of an order."""

    remote: str
    task_id: str
    state: State
    due_at: float | None = None


class Index:
    """Finds orders by key, state and due time, and their events."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, int]] = {}
        self._resting: dict[State, set[int]] = {state: set() for state in State if state is not State.PENDING}
        self._due: dict[str, list[tuple[float, int]]] = {}
        self._events: dict[int, tuple[int, ...]] = {}

    def load(self, doc_id: int, head: Head | Order) -> bool:
        """Take in an order that was stored; tell whether its key is new. Call ``loaded`` after the last."""
        ids = self._ids.setdefault(head.remote, {})
        if ids.setdefault(head.task_id, doc_id) != doc_id:
            return False
        if head.state is not State.PENDING:
            self._resting[head.state].add(doc_id)
        elif head.due_at is not None:
            self._due.setdefault(head.remote, []).append((head.due_at, doc_id))
        return True

    def loaded(self) -> None:
        """Make the heaps heaps."""
        for heap in self._due.values():
            heapq.heapify(heap)

    def put(self, doc_id: int, after: Order, before: Order | None, *, claimed: bool = False) -> None:
        """Note what an order has become; a claimed one is in no heap."""
        if before is None:
            self._ids.setdefault(after.remote, {})[after.task_id] = doc_id
        elif before.state is not State.PENDING:
            self._resting[before.state].discard(doc_id)
        if after.state is not State.PENDING:
            self._resting[after.state].add(doc_id)
        elif claimed or before is None or before.due_at != after.due_at or before.state is not State.PENDING:
            self._schedule(doc_id, after)

    def remove(self, doc_id: int, order: Order) -> None:
        """Forget an order at rest, and its events."""
        del self._ids[order.remote][order.task_id]
        self._resting[order.state].discard(doc_id)
        self._events.pop(doc_id, None)

    def doc_id(self, key: Key) -> int | None:
        """Find an order by its key."""
        return self._ids.get(key.remote, {}).get(key.task_id)

    def candidates(self, *, remote: str | None, states: frozenset[State] | None) -> list[int]:
        """Give the orders that may be of a remote and in one of some states, and maybe others."""
        if states is not None and State.PENDING not in states:
            return list(chain.from_iterable(self._resting[state] for state in states))
        if remote is not None:
            return list(self._ids.get(remote, {}).values())
        return list(chain.from_iterable(ids.values() for ids in self._ids.values()))

    def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        resting = {state: len(ids) for state, ids in self._resting.items()}
        total = sum(map(len, self._ids.values()))
        return {state: resting.get(state, total - sum(resting.values())) for state in State}

    def first_due(self, remote: str, is_due_at: Callable[[int, float], bool]) -> tuple[float, int] | None:
        """Give the earliest entry that *is_due_at* confirms, and drop those before it."""
        heap = self._due.get(remote, [])
        while heap and not is_due_at(heap[0][1], heap[0][0]):
            heapq.heappop(heap)
        return heap[0] if heap else None

    def take(self, remote: str) -> None:
        """Drop the entry that ``first_due`` gave."""
        heapq.heappop(self._due[remote])

    def events(self, doc_id: int) -> tuple[int, ...]:
        """Give the ids of an order's events, oldest first."""
        return self._events.get(doc_id, ())

    def set_events(self, doc_id: int, events: tuple[int, ...]) -> None:
        """Note which events an order has."""
        self._events[doc_id] = events

    def _schedule(self, doc_id: int, order: Order) -> None:
        if order.due_at is not None:
            heapq.heappush(self._due.setdefault(order.remote, []), (order.due_at, doc_id))
