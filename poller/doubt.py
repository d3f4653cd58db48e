"""What was being saved when the store failed.

It may have reached the disk or not, so whoever saved it could not tell of it. Once the store has been read anew its
history knows, and what did happen is told after all: nobody would look at an order again that has come to rest.
"""

from collections.abc import Callable
from contextlib import suppress

from poller.errors import NotFound, StoreUnavailable
from poller.event import Event
from poller.order import Order
from poller.store import Store


class Doubts:
    """Saves durably, and remembers what may not have been.

    Args:
        store: keeps the orders.
        tell: is told what turns out to have been saved.
    """

    def __init__(self, *, store: Store, tell: Callable[[Order, Event], None]) -> None:
        self._store, self._tell = store, tell
        self._doubtful: list[tuple[Order, Event]] = []

    async def save(self, order: Order, event: Event | None) -> None:
        """Save an order, and what happened to it if that is to be kept.

        Raises:
            StoreUnavailable: it may be saved or not; ``settle`` will know.
            StoreError: it is not.
        """
        try:
            await self._store.save(order, event)
        except StoreUnavailable:
            if event is not None:
                self._doubtful.append((order, event))
            raise

    async def settle(self) -> None:
        """Tell what was saved after all, now that the store was read anew.

        Raises:
            StoreUnavailable: it has failed again; nothing is forgotten.
        """
        while self._doubtful:
            order, event = self._doubtful[0]
            with suppress(NotFound):
                if event in (await self._store.history(order.key)).events:
                    self._tell(order, event)
            del self._doubtful[0]
