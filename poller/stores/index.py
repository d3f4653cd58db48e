"""Where orders are: kept beside the tables, so that nothing is ever searched for.

An order is in the list of its remote and state, sorted by when it was created; a waiting one
is in its remote's heap of due times as well. A heap's entries are never taken out of its
middle; one that no longer says when its order is due is dropped when it comes up.

An entry is one integer, the time in microseconds with the document's id behind it: half
the memory of a tuple, and quicker to compare.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

import msgspec
from sortedcontainers import SortedList

from poller.order import Order, State

_ID_BITS = 40
MOST_IDS = 1 << _ID_BITS
"""Ids are below this."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """What the index needs of an order."""

    remote: str
    task_id: str
    state: State
    created_at: float
    due_at: float | None = None


class Index:
    """Finds orders by key, state and due time, and their events."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, int]] = {}
        self._created: dict[tuple[str, State], SortedList[int]] = {}
        self._due: dict[str, list[int]] = {}
        self._events: dict[int, tuple[int, ...]] = {}

    @classmethod
    def of(cls, stored: Iterable[Iterable[tuple[int, Head | Order]]]) -> "Index":
        """Make the index of orders that were stored.

        Args:
            stored: ids and heads, many at a time.

        Raises:
            KeyError: with the id of an order whose key another has already.
        """
        index = cls()
        created: dict[tuple[str, State], list[int]] = {}
        for heads in stored:
            index._load(heads, created)
        for heap in index._due.values():
            heapq.heapify(heap)
        index._created = {key: SortedList(entries) for key, entries in created.items()}
        return index

    def _load(self, heads: Iterable[tuple[int, Head | Order]], created: dict[tuple[str, State], list[int]]) -> None:
        for doc_id, head in heads:
            ids = self._ids.setdefault(head.remote, {})
            if ids.setdefault(head.task_id, doc_id) != doc_id:
                raise KeyError(doc_id)
            created.setdefault((head.remote, head.state), []).append(_entry(head.created_at, doc_id))
            if head.state is State.PENDING and head.due_at is not None:
                self._due.setdefault(head.remote, []).append(_entry(head.due_at, doc_id))

    # --- What is there ---

    def doc_id(self, remote: str, task_id: str) -> int | None:
        """Find an order by its key."""
        ids = self._ids.get(remote)
        return None if ids is None else ids.get(task_id)

    def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        counts = dict.fromkeys(State, 0)
        for (_, state), entries in self._created.items():
            counts[state] += len(entries)
        return counts

    def count(self, *, remote: str | None, states: frozenset[State] | None) -> int:
        """Count the orders of a remote (or all) in some states (or all)."""
        return sum(map(len, self._lists(remote, states)))

    def ids(self, *, remote: str | None, states: frozenset[State] | None) -> list[int]:
        """Give the ids of those orders, in no order."""
        return [entry % MOST_IDS for entry in chain.from_iterable(self._lists(remote, states))]

    def by_creation(
        self, *, remote: str | None, states: frozenset[State] | None, descending: bool, start: float | None
    ) -> Iterator[tuple[int, int]]:
        """Give when those orders were created, in microseconds, and their ids, from the time *start* on."""
        lists = self._lists(remote, states)
        if start is None:
            walks: Iterable[Iterator[int]] = [reversed(entries) if descending else iter(entries) for entries in lists]
        elif descending:
            walks = [entries.irange(maximum=_entry(start, MOST_IDS - 1), reverse=True) for entries in lists]
        else:
            walks = [entries.irange(minimum=_entry(start, 0)) for entries in lists]
        return (divmod(entry, MOST_IDS) for entry in heapq.merge(*walks, reverse=descending))

    def _lists(self, remote: str | None, states: frozenset[State] | None) -> Sequence[SortedList[int]]:
        return [
            entries
            for (whose, state), entries in self._created.items()
            if (remote is None or whose == remote) and (states is None or state in states)
        ]

    # --- What becomes of it ---

    def put(self, doc_id: int, after: Order, before: Order | None, *, claimed: bool = False) -> None:
        """Note what an order has become; a claimed one is in no heap."""
        if before is None:
            self._ids.setdefault(after.remote, {})[after.task_id] = doc_id
        if before is None or (before.state, before.created_at) != (after.state, after.created_at):
            if before is not None:
                self._created[before.remote, before.state].remove(_entry(before.created_at, doc_id))
            self._list(after.remote, after.state).add(_entry(after.created_at, doc_id))
        elif not claimed and before.due_at == after.due_at:
            return
        if after.state is State.PENDING and after.due_at is not None:
            heapq.heappush(self._due.setdefault(after.remote, []), _entry(after.due_at, doc_id))

    def remove(self, doc_id: int, order: Order) -> None:
        """Forget an order that is in no heap, and its events."""
        del self._ids[order.remote][order.task_id]
        self._created[order.remote, order.state].remove(_entry(order.created_at, doc_id))
        self._events.pop(doc_id, None)

    def _list(self, remote: str, state: State) -> SortedList[int]:
        entries = self._created.get((remote, state))
        if entries is None:
            entries = self._created[remote, state] = SortedList()
        return entries

    # --- Due times ---

    def first_due(self, remote: str, due_at: Callable[[int], float | None]) -> tuple[float, int] | None:
        """Give the earliest order that is due, as time and id, and drop stale entries before it.

        Args:
            remote: whose.
            due_at: tells when an order is due, if it waits.
        """
        heap = self._due.get(remote, [])
        while heap:
            doc_id = heap[0] % MOST_IDS
            moment = due_at(doc_id)
            if moment is not None and _entry(moment, doc_id) == heap[0]:
                return moment, doc_id
            heapq.heappop(heap)
        return None

    def take(self, remote: str) -> None:
        """Drop the entry that ``first_due`` gave."""
        heapq.heappop(self._due[remote])

    # --- Events ---

    def events(self, doc_id: int) -> tuple[int, ...]:
        """Give the ids of an order's events, oldest first."""
        return self._events.get(doc_id, ())

    def set_events(self, doc_id: int, events: tuple[int, ...]) -> None:
        """Note which events an order has."""
        self._events[doc_id] = events


def _entry(moment: float, doc_id: int) -> int:
    """Pack a time in epoch seconds and an id."""
    return int(moment * 1e6) * MOST_IDS + doc_id
