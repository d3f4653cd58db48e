"""One remote's orders on their way: claim, ask, fetch, decide, save, tell.

Questions and downloads have slots of their own, so that a slow file never delays a
question. An order that is ready while every download slot is taken waits in a small
room, link in hand; when that is full too, it is put back and asked about again.

A remote that lets nobody in (its credentials, its certificate) is paused as a whole:
its orders stay due and spend nothing. After a while one of them is let through to see
whether it is over.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import msgspec
import structlog

from poller import order as fate
from poller.errors import Stale, StoreError
from poller.event import QUIET, Event, tell
from poller.order import Key, Order, Policy, State
from poller.outcome import Crowded, Interrupted, Locked, Outcome, Refused, Setback, Trouble
from poller.pace import Pause
from poller.remote import Answer, Conversation, NeedsConfirming, Ready, Remote
from poller.shield import finish
from poller.store import Store

_LAST_CHECK = 5.0
"""Seconds that a step may take which begins at the deadline or after it."""
_NAP = 30.0
"""Longest sleep in seconds: a clock that was set is noticed after this at the latest."""
_STORE_PAUSE = 1.0
_REPORT_CHARACTERS = 4000
_ROOM = 4


class Asker(Protocol):
    """Carries out conversations; see ``client.Client``."""

    async def ask(self, conversation: Conversation[Answer]) -> Answer | Outcome:
        """Carry one out; raises nothing but a cancellation."""
        ...


class Fetcher(Protocol):
    """Fetches files; see ``downloader.Downloader``."""

    async def fetch(self, order: Order, ready: Ready) -> Outcome:
        """Fetch an order's files; raises nothing but a cancellation."""
        ...


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one lane does at once.

    Attributes:
        checks: questions at once.
        downloads: downloads at once; four times as many orders may wait for one.
        lease: seconds for which a claim holds unless it is renewed.
    """

    checks: int = 64
    downloads: int = 8
    lease: float = 60.0


class Lane:
    """Looks after the orders of one remote.

    Args:
        remote: whom to ask.
        asker: carries out its conversations.
        fetcher: fetches its files.
        store: keeps the orders.
        policy: when to ask again, and when to give up.
        tell: is told what happened.
        redact: makes a text from outside fit to be stored and said.
        now: epoch seconds.
        limits: how much at once.
    """

    def __init__(
        self,
        *,
        remote: Remote,
        asker: Asker,
        fetcher: Fetcher,
        store: Store,
        policy: Policy,
        tell: Callable[[Order, Event], None],
        redact: Callable[..., str],
        now: Callable[[], float],
        limits: Limits,
    ) -> None:
        self.remote = remote
        self.pause = Pause()
        self._asker, self._fetcher, self._store, self._policy = asker, fetcher, store, policy
        self._tell, self._redact, self._now = tell, redact, now
        self._limits = limits
        self._downloads = asyncio.Semaphore(limits.downloads)
        self._asking = self._waiting = 0
        self._steps: dict[Key, _Step] = {}
        self._withheld: Counter[Key] = Counter()
        self._renewed_at = now()
        self._woken = asyncio.Event()
        self._stopping = False
        self._log = structlog.get_logger("poller.lane")

    @property
    def steps(self) -> list[asyncio.Task[None]]:
        """The steps under way."""
        return [step.task for step in self._steps.values()]

    def attends(self, key: Key) -> bool:
        """Tell whether a step of this order is under way."""
        return key in self._steps

    def wake(self) -> None:
        """Look again: something may be due, or a slot free."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self.wake()

    @asynccontextmanager
    async def withheld(self, key: Key) -> AsyncIterator[None]:
        """Keep this order to the caller: its step is interrupted, and no other is begun."""
        self._withheld[key] += 1
        try:
            if key in self._steps:
                task = self._steps[key].task
                task.cancel()
                await asyncio.wait([task])
            yield
        finally:
            self._withheld[key] -= 1
            self._withheld += Counter()  # drops what has come to zero
            self.wake()

    # --- the loop

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Begin a step for every order as it falls due, until stopped."""
        while not self._stopping:
            self._woken.clear()
            try:
                await self._renew()
                await self._begin(group)
                due = await self._next_due()
            except StoreError as error:
                self._log.error("store_unavailable", reason=str(error), remote=self.remote.name)
                due = self._now() + _STORE_PAUSE
            await self._rest(due)

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """Claim as many orders as there are free slots, and begin their steps."""
        now = self._now()
        if self.pause.on and now < self.pause.until:
            await self._park(now)
            return
        free = self._free()
        if not free:
            return
        for order in await self._store.claim(self.remote.name, limit=free, now=now, until=now + self._limits.lease):
            if not self._withheld[order.key] and not self._asks(order.key):
                self._asking += 1
                self._steps[order.key] = _Step(order, group, self._attend)

    def _asks(self, key: Key) -> bool:
        """Tell whether a step of this order has still to settle: a store that was reopened knows no claims."""
        return key in self._steps and not self._steps[key].settling

    async def _park(self, now: float) -> None:
        """Claim what is due until the pause is over, or until its own deadline: that is kept all the same."""
        limit, until = self._limits.checks, self.pause.until
        for order in await self._store.claim(self.remote.name, limit=limit, now=now, until=until):
            if order.deadline <= now:
                await self._settle(order, Locked(reason=self.pause.reason))
            elif order.deadline < until:
                await self._store.renew([order], until=order.deadline)

    def _free(self) -> int:
        if not self.pause.on:
            return self._limits.checks - self._asking
        return 0 if self._steps else 1

    async def _next_due(self) -> float | None:
        """Tell when to look again; None if only a wake can bring anything new."""
        paused = self.pause.on and self._now() < self.pause.until
        return await self._store.next_due(self.remote.name) if paused or self._free() else None

    async def _rest(self, due: float | None) -> None:
        nap = self._limits.lease / 3 if self._steps else _NAP
        wait = nap if due is None else min(max(due - self._now(), 0.0), nap)
        try:
            async with asyncio.timeout(wait):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _renew(self) -> None:
        """Renew the claims of what is under way, before anything is claimed anew."""
        now = self._now()
        if self._steps and abs(now - self._renewed_at) >= self._limits.lease / 3:
            await self._store.renew([step.order for step in self._steps.values()], until=now + self._limits.lease)
            self._renewed_at = now

    # --- one step

    async def _attend(self, step: "_Step") -> None:
        """Take one order one step, and see to it that nothing that happens to it hurts another."""
        order = step.order
        try:
            await self._go(step)
        except asyncio.CancelledError:
            with suppress(StoreError):  # a step that was saved in time is not undone
                await self._settle(order, Interrupted())
            raise
        except Stale:
            self._log.debug("overtaken", remote=order.remote, task_id=order.task_id)
        except Exception:
            # The claim runs out, and the order is due again.
            self._log.exception("not_saved", remote=order.remote, task_id=order.task_id, context=order.context)
        finally:
            self._asked(step)
            if self._steps.get(order.key) is step:  # else it was due at once, and is being asked about anew
                del self._steps[order.key]

    async def _go(self, step: "_Step") -> None:
        """One order's life, a step at a time."""
        order = step.order
        try:
            async with asyncio.timeout(max(order.deadline - self._now(), _LAST_CHECK)):
                answer = await self._ask(order)
                self._asked(step)
                order = fate.ready(order, self._now()) if isinstance(answer, Ready) else order
                outcome = await self._fetch(order, answer)
        except TimeoutError:
            outcome = Trouble(reason="cut short by the deadline")
        except Exception as error:
            self._log.exception("step_failed", remote=order.remote, task_id=order.task_id, context=order.context)
            outcome = Trouble(reason=f"an error of our own: {type(error).__name__}: {error}")
        step.settling = True
        await self._settle(order, outcome)

    async def _ask(self, order: Order) -> Answer | Outcome:
        answer = await self._asker.ask(self.remote.check(order))
        if isinstance(answer, NeedsConfirming):
            answer = await self._asker.ask(self.remote.confirm(order))
        return answer

    def _asked(self, step: "_Step") -> None:
        """Free the slot that the step's question had."""
        if step.asking:
            step.asking = False
            self._asking -= 1
        self.wake()

    async def _fetch(self, order: Order, answer: Answer | Outcome) -> Outcome:
        if isinstance(answer, NeedsConfirming):
            return Trouble(reason="the remote wants a confirmation of the confirmation")
        if not isinstance(answer, Ready):
            return answer
        if self._downloads.locked() and self._waiting >= _ROOM * self._limits.downloads:
            return Crowded()
        self._waiting += 1
        try:
            await self._downloads.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._fetcher.fetch(order, answer)
        finally:
            self._downloads.release()

    async def _settle(self, order: Order, outcome: Outcome) -> None:
        """Decide, save, tell."""
        outcome = _fit(outcome, self._redact)
        now = self._now()
        self._mind(outcome, now)
        after = fate.decide(order, outcome, now, self._policy)
        event = tell(outcome, after, now)
        quiet = event.event in QUIET
        await finish(self._store.save(after, None if quiet else event, durable=after.state is not State.PENDING))
        self._tell(after, event)

    def _mind(self, outcome: Outcome, now: float) -> None:
        """Pause the remote if it let us not in; go on if it did."""
        if isinstance(outcome, Locked):
            self.pause.begin(outcome.reason, now)
        elif not isinstance(outcome, Interrupted):
            self.pause.end()


class _Step:
    """One order on its way through its lane.

    Attributes:
        asking: while it has a question's slot.
        settling: once it knows what it has come to; saved, the order may be due again at once.
    """

    def __init__(
        self, order: Order, group: asyncio.TaskGroup, attend: Callable[["_Step"], Coroutine[None, None, None]]
    ) -> None:
        self.order = order
        self.asking = True
        self.settling = False
        self.task = group.create_task(attend(self), name=f"{order.remote} {order.task_id}")


def _fit(outcome: Outcome, redact: Callable[..., str]) -> Outcome:
    """Make every text in *outcome* that came from outside fit to be kept."""
    if not isinstance(outcome, Setback):
        return outcome
    texts = {"reason": redact(outcome.reason), "address": outcome.address and redact(outcome.address)}
    if isinstance(outcome, Refused):
        texts["report_at"] = outcome.report_at and redact(outcome.report_at)
        texts["report"] = outcome.report and redact(outcome.report, limit=_REPORT_CHARACTERS)
    return msgspec.structs.replace(outcome, **texts)
