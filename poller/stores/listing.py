"""Listing orders: what every store does the same way, whatever it finds them with."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from poller.order import Key, Order
from poller.store import Page, Query

T = TypeVar("T")
Value: TypeAlias = str | float | None
_Rank: TypeAlias = tuple[bool, Any, str, str]


class Listing(Generic[T]):
    """Collects what matches a query, and keeps no more of it than one page.

    The order of a listing is total: by the sorted field, no value first, then by the key;
    descending is all of that reversed.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._after = None if query.after is None else _rank(query.after[0], Key(*query.after[1:]))
        self._kept: list[tuple[_Rank, T]] = []
        self._count = 0

    def offer(self, value: Value, key: Key, item: T) -> None:
        """Take in one that matches; *value* is that of the field sorted by."""
        self._count += 1
        rank = _rank(value, key)
        if self._after is None or (rank < self._after if self._query.descending else rank > self._after):
            self._kept.append((rank, item))
            if len(self._kept) > 4 * self._query.limit + 64:
                self._kept = self._best()

    @property
    def is_full(self) -> bool:
        """Whether a page and one more are there."""
        return len(self._kept) > self._query.limit

    def page(self, order: Callable[[T], Order]) -> Page:
        """Give the page; *order* makes an order of what was offered."""
        best = self._best()
        shown = best[: self._query.limit]
        more = len(best) > len(shown)
        cursor = _cursor(shown[-1][0]) if more and shown else None
        return Page(orders=[order(item) for _, item in shown], next=cursor, count=self._count)

    def _best(self) -> list[tuple[_Rank, T]]:
        choose = heapq.nlargest if self._query.descending else heapq.nsmallest
        return choose(self._query.limit + 1, self._kept, key=lambda pair: pair[0])


def mentions(text: str, task_id: str, reason: str | None, context: Mapping[str, Any]) -> bool:
    """Tell whether *text* is part of a task ID, a reason or a context value, in any case."""
    wanted = text.casefold()
    return any(wanted in said.casefold() for said in (task_id, reason or "", *_leaves(context)))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
    elif value is not None:
        yield msgspec.json.encode(value).decode()


def _rank(value: Value, key: Key) -> _Rank:
    return (value is not None, value, key.remote, key.task_id)


def _cursor(rank: _Rank) -> tuple[Value, str, str]:
    _, value, remote, task_id = rank
    return (value, remote, task_id)
