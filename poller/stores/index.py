"""Where orders are: kept beside the tables, so that nothing is ever searched for.

An order is in the list of its remote and state, sorted by when it was created, and in such a
list of its batch if it has one; a waiting one is among its remote's due times as well. An
entry there is never taken out of the middle; one that no longer says when its order is due is
dropped when it comes up.

An entry is one integer, the time in microseconds with the document's id behind it: half
the memory of a tuple, and quicker to compare.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import NamedTuple, Protocol, TypeAlias

import msgspec
from sortedcontainers import SortedList

from poller.order import Order, State
from poller.store import Query
from poller.stores.due import RUN, Eras, runs
from poller.stores.pages import Paged, Shards

MOST_IDS = 1 << 40
"""Ids are below this."""
LATEST = 1e12
"""Epoch seconds, some thirty thousand years from now: what is later is no time."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """What the index needs of an order, and its version. To read it takes a fourth of what the whole takes."""

    remote: str
    task_id: str
    state: State
    created_at: float
    updated_at: float = 0.0
    due_at: float | None = None
    batch: str | None = None
    version: int = 1


class EventHead(msgspec.Struct, frozen=True, gc=False):
    """Whose event it is, and the how manyth of its order."""

    remote: str
    task_id: str
    number: int


class Events(NamedTuple):
    """The events of an order: how many were dropped, and the ids of those that are kept, oldest first."""

    dropped: int
    ids: tuple[int, ...]


Which: TypeAlias = tuple[str, State]
"""Which of the lists of orders: its remote and state."""
_Loaded: TypeAlias = defaultdict[str | None, defaultdict[Which, list[int]]]
"""Entries by batch (None: of all) and list, not sorted yet."""


class Created:
    """Orders by when they were created, in a list for each remote and state."""

    def __init__(self, entries: Mapping[Which, Sequence[int]] = {}) -> None:
        self._lists = defaultdict(SortedList, {which: _sorted(some) for which, some in entries.items()})

    def __bool__(self) -> bool:
        return any(self._lists.values())

    def add(self, which: Which, entry: int) -> None:
        """Take an order in."""
        self._lists[which].add(entry)

    def remove(self, which: Which, entry: int) -> None:
        """Take an order out."""
        self._lists[which].remove(entry)

    def among(self, query: Query) -> Sequence["SortedList[int]"]:
        """Give the lists of a query's remote and states."""
        remote, states = query.remote, query.states
        return [
            entries
            for (whose, state), entries in self._lists.items()
            if (remote is None or whose == remote) and (states is None or state in states)
        ]

    def dismantle(self) -> None:
        """Take everything out, bit by bit."""
        for entries in self._lists.values():
            while entries:
                del entries[-1000:]

    def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        counts = dict.fromkeys(State, 0)
        for (_, state), entries in self._lists.items():
            counts[state] += len(entries)
        return counts


class _Large(Protocol):
    """What holds something of every order, and is not let go of all at once."""

    def dismantle(self) -> None:
        """Take everything out, bit by bit."""


_NOTHING = Created()


class Index:
    """Finds orders by key, state, batch and due time, and their events.

    Attributes:
        latest: of each remote, when an order that waited was last saved before it was loaded.
    """

    def __init__(self) -> None:
        self._ids: defaultdict[str, Shards[int]] = defaultdict(Shards)
        self._created = Created()
        self._batches: defaultdict[str, Created] = defaultdict(Created)
        self._due: defaultdict[str, Eras] = defaultdict(Eras)
        self.latest: dict[str, float] = {}
        self._events: Paged[tuple[int, ...]] = Paged()
        self._dropped: Paged[int] = Paged()

    @classmethod
    def of(cls, stored: Iterable[Iterable[tuple[int, Head | Order]]]) -> "Index":
        """Make the index of orders that were stored.

        Args:
            stored: ids and heads, many at a time.

        Raises:
            KeyError: with the id of an order whose key another has already.
        """
        index = cls()
        loaded: _Loaded = defaultdict(lambda: defaultdict(list))
        due: defaultdict[str, list[int]] = defaultdict(list)
        for heads in stored:
            index._load(heads, loaded, due)
        index._due.update({remote: Eras(entries) for remote, entries in due.items()})
        index._created = Created(loaded.pop(None, {}))
        index._batches.update({str(batch): Created(entries) for batch, entries in loaded.items()})
        return index

    def _load(
        self, heads: Iterable[tuple[int, Head | Order]], loaded: _Loaded, due: defaultdict[str, list[int]]
    ) -> None:
        created, all_ids, pending, latest = loaded[None], self._ids, State.PENDING, self.latest
        for doc_id, head in heads:
            remote, state, batch, due_at = head.remote, head.state, head.batch, head.due_at
            if all_ids[remote].setdefault(head.task_id, doc_id) != doc_id:
                raise KeyError(doc_id)
            entry = round(head.created_at * 1e6) * MOST_IDS + doc_id
            created[remote, state].append(entry)
            if batch is not None:
                loaded[batch][remote, state].append(entry)
            if state is pending and due_at is not None:
                due[remote].append(round(due_at * 1e6) * MOST_IDS + doc_id)
                if head.updated_at > latest.get(remote, 0.0):
                    latest[remote] = head.updated_at

    # --- What is there ---

    def doc_id(self, remote: str, task_id: str) -> int | None:
        """Find an order by its key."""
        ids = self._ids.get(remote)
        return None if ids is None else ids.get(task_id)

    def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        return self._created.counts()

    def count(self, query: Query) -> int:
        """Count the orders of a query's remote, states and batch."""
        return sum(map(len, self._among(query)))

    def ids(self, query: Query) -> Iterator[int]:
        """Give the ids of those orders as they are now, in no order, whatever is changed meanwhile.

        They are copied, so they should not be very many.
        """
        copies = [list(entries) for entries in self._among(query)]
        return (entry % MOST_IDS for entry in chain.from_iterable(copies))

    def by_creation(self, query: Query, start: float | None) -> Iterator[tuple[int, int]]:
        """Give when those orders were created, in microseconds, and their ids, in a query's direction.

        Args:
            query: whose remote, states and batch are meant.
            start: epoch seconds to begin at; None for the end that comes first.
        """
        lists, descending = self._among(query), query.descending
        if start is None:
            walks: Iterable[Iterator[int]] = [reversed(entries) if descending else iter(entries) for entries in lists]
        elif descending:
            walks = [entries.irange(maximum=_entry(start, MOST_IDS - 1), reverse=True) for entries in lists]
        else:
            walks = [entries.irange(minimum=_entry(start, 0)) for entries in lists]
        return (divmod(entry, MOST_IDS) for entry in heapq.merge(*walks, reverse=descending))

    def _among(self, query: Query) -> Sequence["SortedList[int]"]:
        created = self._created if query.batch is None else self._batches.get(query.batch, _NOTHING)
        return created.among(query)

    # --- What becomes of it ---

    def add(self, doc_id: int, order: Order) -> None:
        """Take in a new order."""
        self._ids[order.remote][order.task_id] = doc_id
        self._list(doc_id, order)
        if order.state is State.PENDING and order.due_at is not None:
            self._due[order.remote].push(_entry(order.due_at, doc_id))

    def put(self, doc_id: int, after: Order, before: Order | Head, *, claimed: bool) -> None:
        """Note what an order has become; a claimed one is not among those that are due."""
        if (before.state, before.created_at, before.batch) != (after.state, after.created_at, after.batch):
            self._unlist(doc_id, before)
            self._list(doc_id, after)
        elif not claimed and before.due_at == after.due_at and not self._due[after.remote].shifted:
            return
        if after.state is State.PENDING and after.due_at is not None:
            self._due[after.remote].push(_entry(after.due_at, doc_id))

    def remove(self, doc_id: int, order: Order) -> None:
        """Forget an order that is not among those that are due, and its events."""
        del self._ids[order.remote][order.task_id]
        self._unlist(doc_id, order)
        self._events.pop(doc_id, None)
        self._dropped.pop(doc_id, None)

    def _list(self, doc_id: int, order: Order) -> None:
        which, entry = (order.remote, order.state), _entry(order.created_at, doc_id)
        self._created.add(which, entry)
        if order.batch is not None:
            self._batches[order.batch].add(which, entry)

    def _unlist(self, doc_id: int, order: Order | Head) -> None:
        which, entry = (order.remote, order.state), _entry(order.created_at, doc_id)
        self._created.remove(which, entry)
        if order.batch is not None:
            self._batches[order.batch].remove(which, entry)
            if not self._batches[order.batch]:
                del self._batches[order.batch]

    def dismantle(self) -> None:
        """Take everything out, bit by bit."""
        parts: list[_Large] = [self._events, self._dropped, self._created]
        for part in (*parts, *self._ids.values(), *self._batches.values(), *self._due.values()):
            part.dismantle()

    # --- Due times ---

    def first_due(self, remote: str, due_at: Callable[[int], float | None]) -> tuple[float, int] | None:
        """Give the earliest order that is due, as time and id, and drop stale entries before it.

        Args:
            remote: whose.
            due_at: tells when an order is due, if it waits.
        """

        def holds(entry: int) -> bool:
            doc_id = entry % MOST_IDS
            moment = due_at(doc_id)
            return moment is not None and _entry(moment, doc_id) == entry

        found = self._due[remote].first(holds)
        if found is None:
            return None
        entry, off = found
        return (entry + off) // MOST_IDS / 1e6, entry % MOST_IDS

    def shift(self, remote: str, seconds: float) -> None:
        """Have all that wait be due so much later."""
        self._due[remote].shift(round(seconds * 1e6) * MOST_IDS)

    def take(self, remote: str) -> None:
        """Drop the entry that ``first_due`` gave."""
        self._due[remote].take()

    # --- Events ---

    def events(self, doc_id: int) -> Events:
        """Tell which events an order has."""
        return Events(self._dropped.get(doc_id, 0), self._events.get(doc_id, ()))

    def set_events(self, doc_id: int, events: Events) -> None:
        """Note which events an order has."""
        self._events[doc_id] = events.ids
        if events.dropped:
            self._dropped[doc_id] = events.dropped


def _sorted(entries: Sequence[int]) -> "SortedList[int]":
    """Make a sorted list in steps that are short: to sort a million at once takes half a second."""
    if len(entries) <= RUN:
        return SortedList(entries)
    some, ordered = list(runs(entries)), SortedList[int]()
    in_order = all(before[-1] < after[0] for before, after in pairwise(some))
    for entry in chain.from_iterable(some) if in_order else heapq.merge(*some):
        ordered.add(entry)
    return ordered


def is_moment(moment: float | None) -> bool:
    """Tell whether a time fits into an entry."""
    return moment is None or 0 <= moment < LATEST


def _entry(moment: float, doc_id: int) -> int:
    """Pack a time in epoch seconds and an id."""
    return round(moment * 1e6) * MOST_IDS + doc_id
