"""All that anybody saw, in order, and what of it should not have been."""

from hashlib import sha256
from typing import Any

from poller.event import Event
from poller.order import Order, State

RESTING = frozenset({State.DONE, State.FAILED, State.CANCELED})


class History:
    """Remembers.

    Attributes:
        breaches: broken promises, in words.
        told: of each order, what listeners were told, with the order as it then was.
        begun: when each process began, in virtual seconds.
        closed: whether nothing is remembered any more.
    """

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self.told: dict[str, list[tuple[float, Order, Event]]] = {}
        self.begun: list[float] = []
        self.closed = False
        self.count = 0
        self._digest = sha256()
        self.notes: list[tuple[Any, ...]] = []

    def note(self, *what: Any) -> None:
        """Remember something that happened."""
        if not self.closed:
            self.count += 1
            self.notes.append(what)
            self._digest.update(repr(what).encode())

    def breach(self, text: str) -> None:
        """Remember a broken promise."""
        if not self.closed:
            self.note("breach", text)
            self.breaches.append(text)

    def tell(self, at: float, order: Order, event: Event) -> None:
        """Hear what happened to an order."""
        if not self.closed:
            self.note(at, "told", order.task_id, event.event, order.state.value, order.version, event.reason)
            self.told.setdefault(order.task_id, []).append((at, order, event))

    @property
    def digest(self) -> str:
        """What two equal histories have in common."""
        return self._digest.hexdigest()
