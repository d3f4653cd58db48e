"""Tells everybody who listens what happened to an order."""

from collections.abc import Callable
from typing import TypeAlias

import structlog

from poller.event import Event
from poller.order import Order

Listener: TypeAlias = Callable[[Order, Event], None]


class Bus:
    """Passes events on. A listener must be quick; one that fails is heard, and fails alone."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._log = structlog.get_logger("poller.bus")

    def listen(self, listener: Listener) -> None:
        """Tell *listener* everything from now on."""
        self._listeners.append(listener)

    def tell(self, order: Order, event: Event) -> None:
        """Tell every listener that *event* left *order* as it now is."""
        for listener in self._listeners:
            try:
                listener(order, event)
            except Exception:
                self._log.exception("listener_failed", listener=repr(listener))
