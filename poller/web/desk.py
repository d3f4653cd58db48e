"""What the hook needs of the running poller."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

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
