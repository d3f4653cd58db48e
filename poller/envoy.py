"""What is said to one remote beside the questions about orders: start, cancel, list, recognise a push.

A task that was started is worth nothing before its order is recorded. If that cannot be done, the task is
canceled again; if that cannot be done either, whoever asked is told its ID, for nobody else will ever know it.
A start whose answer did not come is not repeated: nobody knows whether there is a task by now.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import structlog

from poller.errand import Found, Heard, Nudged, Push, Started, Wish
from poller.errors import Busy, Conflict, Declined, StoreError, Unreached
from poller.event import Event
from poller.order import Key, Order, State
from poller.outcome import Absent, Gone, Locked, NothingToFetch, NotReady, Outcome, Refused, Setback, Trouble, Unsafe
from poller.remote import Conversation, NeedsConfirming, Remote
from poller.store import Query, Store

T = TypeVar("T")

_PATIENCE = 15.0
"""Seconds for which a shop that cancels waits until the remote has heard of it."""
_WAITING = frozenset({State.PENDING, State.HELD})
_NO = Refused | Absent | Gone | Unsafe
"""Answers that will not change if it is asked again."""
_SERVER_ERROR = 500
_TOO_MANY = 429


class Asker(Protocol):
    """Carries out conversations; see ``client.Client``."""

    async def ask(self, conversation: Conversation[T]) -> T | Outcome:
        """Carry one out; raises nothing but a cancellation."""
        ...


class Envoy:
    """Speaks to one remote.

    Args:
        remote: whom.
        asker: carries out conversations.
        store: keeps the orders.
        redact: makes a text from outside fit to be said.
        now: epoch seconds.
    """

    def __init__(
        self,
        *,
        remote: Remote,
        asker: Asker,
        store: Store,
        redact: Callable[..., str],
        now: Callable[[], float],
    ) -> None:
        self.remote = remote
        self._asker, self._store, self._redact, self._now = asker, store, redact, now
        self._starting = 0
        self._ghosts: dict[Key, Order] = {}
        """Canceled here, and perhaps not there: what they occupy is not free yet."""
        self._log = structlog.get_logger("poller.envoy")

    async def start(self, wish: Wish, made: Callable[[Started], Order]) -> tuple[Order, bool]:
        """Start a task, and record its order.

        Args:
            wish: one that the remote has found fit.
            made: makes the order.

        Returns:
            The order as it is stored, and whether it is new.

        Raises:
            Busy: as many tasks are under way as the remote takes.
            Declined: the remote says no.
            Unreached: it could not be asked, or nobody knows whether it has started.
            StoreError, Conflict: the order could not be recorded; the hint says what became of the task.
        """
        await self.room(1)
        self._starting += 1
        try:
            started = await self._ask(self.remote.start(wish))
            if not isinstance(started, Started):
                raise self._failed("start the task", started, kind=wish.kind)
            return await self._record(made(started))
        finally:
            self._starting -= 1

    async def cancel(self, order: Order) -> Event | None:
        """Tell the remote that nobody wants an order's task any more; None if it cannot be told."""
        if self.remote.caps.tasks is not None:
            self._ghosts[order.key] = order
        if "cancel" not in self.remote.abilities:
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                heard = await self._ask(self.remote.cancel(order))
        except TimeoutError:
            heard = Trouble(reason=f"it did not answer within {_PATIENCE:.0f} s")
        if isinstance(heard, Heard | NothingToFetch):
            self._ghosts.pop(order.key, None)
            return Event(at=self._now(), event="canceled_there")
        reason, status = self._said(heard), getattr(heard, "status", None)
        return Event(at=self._now(), event="not_canceled_there", reason=reason, status=status)

    async def discover(self, wish: Mapping[str, Any], most: int) -> Found:
        """List the tasks that the remote has.

        Raises:
            Misfit: there is no such wish.
            Declined, Unreached: it did not say.
        """
        found = await self._asker.ask(self.remote.discover(wish, most))
        if isinstance(found, Found):
            return found
        raise self._failed("list its tasks", found)

    async def heed(self, push: Push) -> Nudged:
        """Tell whom a push is about.

        Raises:
            Declined: it is not the remote's.
            Unreached: that cannot be told at present.
        """
        nudged = await self._ask(self.remote.heed(push, self._now()))
        if isinstance(nudged, Nudged):
            return nudged
        raise self._failed("push like this", nudged)

    async def room(self, count: int) -> None:
        """Make sure that the remote takes so many tasks more.

        Raises:
            Busy: it does not.
        """
        most = self.remote.caps.tasks
        if most is None:
            return
        waiting = await self._store.search(Query(states=_WAITING, remote=self.remote.name, limit=1))
        if waiting.count + self._starting + count > most or await self._haunted():
            takes = "one task" if most == 1 else f"{most} tasks"
            hint = "start it when one that is under way has come to rest"
            raise Busy(f"{self.remote.name} takes {takes} at a time", hint=hint)

    async def _haunted(self) -> bool:
        """Tell whether a task that was canceled here is still under way there."""
        for key, order in list(self._ghosts.items()):
            if isinstance(await self._ask(self.remote.check(order)), NotReady | NeedsConfirming):
                return True
            self._ghosts.pop(key, None)
        return False

    async def _record(self, order: Order) -> tuple[Order, bool]:
        """Record an order, or have its task canceled again: unless it is one of which there is an order already."""
        try:
            [(kept, is_new)] = await self._store.add([order])
        except Conflict as error:
            hint = f"{order.remote} calls it {order.task_id!r}, of which there is an order that asks for something else"
            raise Conflict(str(error), hint=hint) from None
        except StoreError as error:
            event = await self.cancel(order)
            gone = event is not None and event.event == "canceled_there"
            became = "was canceled again" if gone else f"could not be canceled{_because(event)}"
            self._log.error(
                "start_not_recorded",
                remote=order.remote,
                task_id=order.task_id,
                context=order.context,
                reason=str(error),
                canceled=gone,
            )
            hint = f"the task {order.task_id!r} that {order.remote} has started {became}"
            raise type(error)(f"the order could not be recorded: {error}", hint=hint) from None
        return kept, is_new

    async def _ask(self, conversation: Conversation[T]) -> T | Outcome:
        """Carry out a conversation; one that breaks is told as trouble."""
        try:
            return await self._asker.ask(conversation)
        except Exception as error:
            self._log.exception("conversation_failed", remote=self.remote.name)
            return Trouble(reason=f"an error of our own: {type(error).__name__}: {error}")

    def _failed(self, what: str, outcome: object, **more: str) -> Declined | Unreached | Busy:
        """Say why a remote did not do what it was asked."""
        reason, name = self._said(outcome), self.remote.name
        if isinstance(outcome, _NO):
            return Declined(f"{name} does not {what}: {reason}")
        if isinstance(outcome, Trouble) and outcome.status == _TOO_MANY:
            return Busy(f"{name} wants fewer requests: {reason}", hint="nothing was started; try again later")
        if isinstance(outcome, Locked):
            return Unreached(f"{name} lets nobody in: {reason}", hint="see what it says: poller remotes try")
        hint = ""
        if what.startswith("start") and _is_unclear(outcome):
            # Whoever asked may have gone meanwhile.
            self._log.error("start_unclear", remote=name, reason=reason, **more)
            look = f"look (poller discover {name})" if "discover" in self.remote.abilities else "look there"
            hint = f"nobody knows whether it has started; {look} before you start it again"
        return Unreached(f"{name} could not {what}: {reason}", hint=hint)

    def _said(self, outcome: object) -> str:
        return self._redact(outcome.reason) if isinstance(outcome, Setback) else f"it said {type(outcome).__name__}"


def _is_unclear(outcome: object) -> bool:
    """Tell whether a request may have been taken though its answer was no good."""
    status = outcome.status if isinstance(outcome, Setback) else None
    return status is None or status >= _SERVER_ERROR or status < 400  # noqa: PLR2004 - RFC 9110


def _because(event: Event | None) -> str:
    return f": {event.reason}" if event is not None and event.reason else " there"
