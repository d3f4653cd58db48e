"""All that anybody saw, in order, and what of it should not have been."""

from hashlib import sha256
from typing import Any

from poller.event import Event
from poller.order import Order, State

RESTING = frozenset({State.DONE, State.FAILED, State.CANCELED})


_MOST = 20
"""Broken promises after which nobody needs to see more."""
_AT_ONCE = 5000
"""Events of orders at one and the same moment: more than that, and no time will ever pass again."""


class Hopeless(KeyboardInterrupt):
    """So much is wrong that the run ends here: an exception that no task and no callback holds back."""


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
        self._last, self._at_once = -1.0, 0
        self._digest = sha256()
        self.notes: list[tuple[Any, ...]] = []

    def note(self, *what: Any) -> None:
        """Remember something that happened; raises Hopeless if too much of it was wrong."""
        if len(self.breaches) >= _MOST and not self.closed:
            self.closed = True
            raise Hopeless
        if not self.closed:
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
            self._pass(at)
            self.note(at, "told", order.task_id, event.event, order.state.value, order.version, event.reason)
            self.told.setdefault(order.task_id, []).append((at, order, event))

    def _pass(self, at: float) -> None:
        """See that time passes."""
        self._at_once = self._at_once + 1 if at == self._last else 0
        self._last = at
        if self._at_once > _AT_ONCE:
            self.breach("everything happens at once, and no time passes")
            self.closed = True
            raise Hopeless

    @property
    def digest(self) -> str:
        """What two equal histories have in common."""
        return self._digest.hexdigest()
