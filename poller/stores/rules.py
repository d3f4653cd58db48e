"""What every store decides the same way. Pure; ``poller.store`` has the contract in words."""

from collections.abc import Callable, Sequence
from typing import Protocol

from poller.errors import Conflict, NotFound, Stale
from poller.event import Event
from poller.order import Key, Order, State

AT_REST = frozenset({State.DONE, State.FAILED, State.CANCELED})
"""States that only a retry leaves, and that may be forgotten in time."""
KEPT_EVENTS = 100
"""How long a history may be, its beginning included."""


class Versioned(Protocol):
    """What of an order tells which version of it is stored."""

    @property
    def version(self) -> int:
        """One more than that of the version before."""


_REQUEST = ("batch", "feed", "filename", "context", "dry_run", "deadline")


def admit(orders: Sequence[Order], known: Callable[[tuple[str, str]], Order | None]) -> list[tuple[Order, bool]]:
    """Say which of some orders are new; those that are not stand as they are.

    Raises:
        Conflict: one has a known key and asks for something else.
    """
    admitted: dict[tuple[str, str], Order] = {}
    answers = []
    for order in orders:
        key = (order.remote, order.task_id)
        before = admitted.get(key) or known(key)
        if before is None:
            admitted[key] = order
        else:
            _demand_same(before, order)
        answers.append((before or order, before is None))
    return answers


def succeed(before: Versioned | None, after: Order) -> None:
    """Make sure that *after* is the next version of what is stored.

    Raises:
        NotFound: nothing is.
        Stale: another version is.
    """
    if before is None:
        raise missing(after.key)
    if after.version != before.version + 1:
        raise Stale(
            f"order {after.task_id!r} of {after.remote} is at version {before.version}; "
            f"version {after.version} does not follow it",
        )


def missing(key: Key) -> NotFound:
    """Make the error for a key that nobody has."""
    return NotFound(f"there is no order {key.task_id!r} of {key.remote}")


def added(order: Order) -> Event:
    """Give the event that begins every history; it is stored in the order itself."""
    return Event(at=order.created_at, event="added")


def _demand_same(before: Order, again: Order) -> None:
    other = [name for name, old, new in zip(_REQUEST, before.request, again.request, strict=True) if old != new]
    if other:
        raise Conflict(
            f"order {again.task_id!r} of {again.remote} was added before with another {', '.join(other)}",
            hint="send it as before, or cancel it and use another task ID",
        )
