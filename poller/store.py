"""What poller needs of a store. ``stores`` has the real ones; one contract suite runs over all."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from poller.event import Event
from poller.order import Key, Order, State

SORTS = ("created_at", "updated_at", "due_at", "deadline", "task_id", "remote", "state", "checks", "attempts")
"""Fields that a listing can be sorted by."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders to list.

    Attributes:
        states, remote, batch: what they must equal; None for any.
        text: a piece, in any case, of the task ID, the reason or a context value.
        sort: one of SORTS; ties are settled by the key.
        after: where the page before ended (its ``next``); None for the first page.
        limit: how many at most, 1 to 500.
    """

    states: frozenset[State] | None = None
    remote: str | None = None
    batch: str | None = None
    text: str | None = None
    sort: str = "created_at"
    descending: bool = True
    after: tuple[str | float | None, str, str] | None = None
    limit: int = 50


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a listing.

    Attributes:
        next: where it ended, as (sort value, remote, task ID); None on the last page.
        count: how many orders match in all.
    """

    orders: Sequence[Order]
    next: tuple[str | float | None, str, str] | None
    count: int


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one order, oldest first.

    Attributes:
        dropped: how many events were forgotten to keep the history short.
    """

    events: Sequence[Event]
    dropped: int = 0


class Store(Protocol):
    """Keeps orders. Every method may raise StoreUnavailable; times are epoch seconds.

    While there is a ``problem`` nothing is taken, and nothing is told of which it is not known
    whether it was kept.
    """

    async def add(self, orders: Sequence[Order]) -> Sequence[tuple[Order, bool]]:
        """Keep new orders, all or none, durably before this returns.

        An order whose key is known is left alone if it asks for the same (``Order.request``).

        Returns:
            Each order as it now stands, and whether it is new.

        Raises:
            Conflict: a key is known and asks for something else; nothing was kept.
        """
        ...

    async def get(self, key: Key) -> Order | None:
        """Read one order."""
        ...

    async def claim(self, remote: str, *, limit: int, now: float, until: float) -> Sequence[Order]:
        """Take up to *limit* orders that are due, the longest due first.

        Their ``due_at`` becomes *until* and their version grows, so that nobody else
        takes them, and they are simply due again should this process die.
        """
        ...

    async def renew(self, orders: Sequence[Order], *, until: float) -> None:
        """Move the ``due_at`` of claimed orders to *until*; others than the claimed versions are left alone."""
        ...

    async def save(self, order: Order, event: Event | None = None, *, durable: bool = True) -> None:
        """Replace an order by its next version and add to its history, in one change.

        Args:
            order: its version is one higher than the stored one.
            event: what to remember of it.
            durable: whether to return only after it is on disk. "Not ready" need not
                be: losing it costs one early question.

        Raises:
            Stale: the stored version is another; nothing was saved.
            NotFound: there is no such order.
        """
        ...

    async def next_due(self, remote: str) -> float | None:
        """Tell when the remote's next order is due; None if none ever is."""
        ...

    async def shift(self, remote: str, *, seconds: float) -> None:
        """Have all of a remote's orders that wait be due, and their claims lapse, so many seconds later.

        For whoever notices that the clock was set, forward or back. What is stored of them, their
        versions included, stays as it is: whoever starts after us finds them due as they were saved.
        """
        ...

    async def search(self, query: Query) -> Page:
        """List orders."""
        ...

    async def history(self, key: Key) -> History:
        """Read an order's history.

        Raises:
            NotFound: there is no such order.
        """
        ...

    async def counts(self) -> Mapping[State, int]:
        """Count orders by state; every state is there."""
        ...

    async def remember(self, remote: str, habits: Mapping[str, Any]) -> None:
        """Keep what was learned about a remote's tasks in place of what was kept before; JSON, and small.

        It is on disk some time after this returns, no later than what is saved next. Losing it costs a few questions.
        """
        ...

    async def recall(self, remote: str) -> object:
        """Read what was learned about a remote, whatever it is by now; None if nothing was kept."""
        ...

    async def forget(self, *, before: float) -> int:
        """Drop orders at rest that last changed before *before*, with their histories; tell how many."""
        ...

    @property
    def problem(self) -> str | None:
        """Why nothing can be saved at present; None when all is well."""
        ...

    async def reopen(self) -> None:
        """Read everything again after a failure, and go on; claims are forgotten.

        What was acknowledged is there; what was not may be.

        Raises:
            StoreError: it failed again; it may be tried again.
        """
        ...

    async def close(self) -> None:
        """Write what is left, so that the next start is quick, and let go."""
        ...
