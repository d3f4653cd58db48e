"""What the hook needs of the running poller."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from poller.errand import Found, Push, Started, Wish
from poller.order import Key, Order


class Desk(Protocol):
    """What the hook needs of the running poller."""

    async def apply(self, key: Key, change: Callable[[Order, float], Order], word: str) -> Order:
        """Change an order on the shop's command and keep it durably.

        Args:
            key: which order.
            change: given the order and the time (epoch seconds), gives it as it should be.
            word: names the event in the order's history.

        Raises:
            NotFound: there is no such order.
            Conflict: its state forbids the change.
            Stale: it was changed at the same moment.
        """
        ...

    def fit(self, remote: str, wish: Wish) -> Wish:
        """Check a wish for a task, and fill in what was not said.

        Raises:
            NotFound: there is no such remote.
            Misfit: it cannot be started like this.
        """
        ...

    async def room(self, remote: str, count: int) -> None:
        """Make sure that a remote takes so many tasks more.

        Raises:
            Busy: it does not.
        """
        ...

    async def start(self, remote: str, wish: Wish, made: Callable[[Started], Order]) -> tuple[Order, bool]:
        """Start a task that fits at a remote and keep its order durably; tell whether the order is new.

        Raises:
            NotFound: there is no such remote.
            Busy, Declined, Unreached: the remote did not start it, or nobody knows.
            StoreError, Conflict: the order could not be kept; the hint says what became of the task.
        """
        ...

    async def discover(self, remote: str, wish: Mapping[str, Any], most: int) -> Found:
        """List the tasks that a remote has.

        Raises:
            NotFound, Misfit, Declined, Unreached: it did not say.
        """
        ...

    async def nudge(self, remote: str, push: Push) -> int:
        """Have the orders that a push is about be due now; tell how many.

        Raises:
            NotFound: there is no such remote.
            Declined: the push is not the remote's.
            Unreached: that cannot be told at present.
        """
        ...

    def scheduled(self, orders: Sequence[Order]) -> Sequence[Order]:
        """Say of new orders, before they are kept, when they are first asked about."""
        ...

    def added(self, orders: Sequence[Order]) -> None:
        """Take note of orders that are new in the store."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the poller is about to stop."""
        ...

    @property
    def paused(self) -> Mapping[str, str]:
        """Remotes that are not being asked at present, and why."""
        ...
