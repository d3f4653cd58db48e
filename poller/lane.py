"""One remote's orders: who steps when.

Questions and downloads have slots of their own, so that a slow file never delays a
question. An order that is ready while every download slot is taken waits in a small
room, link in hand; when that is full too, it is put back and asked about again.

A remote that lets nobody in (its credentials, its certificate), is down for everybody, or wants
fewer requests is paused as a whole: its orders spend nothing. After a while one of them is let through to see
whether it is over, another one each time. Deadlines are kept meanwhile.

Where requests are limited, no more orders are claimed than may be asked about at once: they
wait in the store, and not in a slot.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import msgspec
import structlog

from poller import order as fate
from poller.breaker import Pause
from poller.errors import NotFound, Stale, StoreError
from poller.governor import Governor
from poller.order import Key, Order, State
from poller.outcome import Deferred
from poller.step import Course, Step
from poller.store import Query, Store

_NAP = 30.0
"""Longest sleep in seconds: a clock that was set is noticed after this at the latest."""
_SET = 1.0
"""Seconds by which two clocks drift apart between two looks only if one of them was set."""
_PENDING = frozenset({State.PENDING})
_STORE_PAUSE = 1.0
_LONGEST_WAIT = 3600.0
"""Seconds between two questions about an order, at most: a remote may wish for no more."""
_BACK = 0.1
"""Seconds by which an order that has tried a paused remote stands behind the others at the next try."""


def _may_miss(order: Order, now: float) -> bool:
    """Tell whether an order may wait past its deadline, which has come nearer: it waits no longer than it was to."""
    return order.due_at is not None and order.deadline <= now + max(order.due_at - order.updated_at, 0.0)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one lane does at once.

    Attributes:
        checks: questions at once.
        lease: seconds for which a claim holds unless it is renewed.
    """

    checks: int = 64
    lease: float = 60.0


class Lane:
    """Looks after the orders of one remote.

    Args:
        course: takes an order a step further.
        store: keeps the orders.
        now: epoch seconds.
        limits: how much at once.
        governor: tells how many requests may go; without one, all of them.
    """

    def __init__(
        self,
        *,
        course: Course,
        store: Store,
        now: Callable[[], float],
        limits: Limits,
        governor: Governor | None = None,
    ) -> None:
        self.name = course.remote.name
        self._course, self._store, self._now, self._limits = course, store, now, limits
        self._governor = governor or Governor(now=now, clock=time.monotonic)
        self._asking = 0
        self._steps: dict[Key, Step] = {}
        self._withheld: Counter[Key] = Counter()
        self._put_back: dict[Key, Order] = {}
        self._probed: set[Key] = set()
        self._renewed_at = now()
        self._ahead = 0.0
        self._woken = asyncio.Event()
        self._stopping = False
        self._log = structlog.get_logger("poller.lane")

    @property
    def pause(self) -> Pause | None:
        """Why nobody is asked at present, or only one at a time; None if all is well."""
        pauses = (self._course.door, self._course.breaker.pause, self._governor.pause)
        return max((pause for pause in pauses if pause.on), key=lambda pause: pause.until, default=None)

    @property
    def steps(self) -> list[asyncio.Task[None]]:
        """The steps under way."""
        return [step.task for step in self._steps.values()]

    def schedule(self, order: Order) -> Order:
        """Say when a new order is first asked about."""
        return fate.schedule(order, self._course.policy)

    def attends(self, key: Key) -> bool:
        """Tell whether a step of this order is under way that does not know yet what it has come to."""
        return self._asks(key)

    def wake(self) -> None:
        """Look again: something may be due, or a slot free."""
        self._woken.set()

    async def settle_doubts(self) -> None:
        """Tell what was saved though nobody knew; see ``Doubts.settle``."""
        await self._course.doubts.settle()

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

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Begin a step for every order as it falls due, until stopped."""
        self._ahead = self._now() - asyncio.get_running_loop().time()
        while not self._stopping:
            self._woken.clear()
            try:
                await self._follow_clock()
                await self._renew()
                await self._begin(group)
                due = await self._next_due()
            except StoreError as error:
                self._log.error("store_unavailable", reason=str(error), remote=self.name)
                due = self._now() + _STORE_PAUSE
            await self._rest(due)

    async def _follow_clock(self) -> None:
        """Notice that the clock was set, and have everybody wait for as long as he would have."""
        ahead = self._now() - asyncio.get_running_loop().time()
        by = ahead - self._ahead
        if abs(by) > _SET:
            self._log.warning("clock_set", remote=self.name, seconds=round(by, 3))
            await self._store.shift(self.name, seconds=by)
            await self._spare(by)
            await self._keep_deadlines()
            self._course.shift(by, self._now())
            self._governor.pause.shift(by, self._now())
            self._renewed_at += by
        self._ahead = ahead

    async def _spare(self, by: float) -> None:
        """Have those be due when they say who were saved after the clock was set forward, and before that was seen."""
        now = self._now()
        query = Query(states=_PENDING, remote=self.name, sort="updated_at", limit=500)
        while by > 0:
            page = await self._store.search(query)
            for order in page.orders:
                if order.updated_at > now - by and order.key not in self._steps:
                    with suppress(Stale, NotFound):
                        await self._store.save(fate.kept(order, now), durable=False)
            if page.next is None or page.orders[-1].updated_at <= now - by:
                return
            query = msgspec.structs.replace(query, after=page.next)

    async def _keep_deadlines(self) -> None:
        """Have those be due whose deadlines were passed over, or may come before they are: a deadline is no wait."""
        now = self._now()
        query = Query(states=_PENDING, remote=self.name, sort="deadline", descending=False, limit=500)
        while True:
            page = await self._store.search(query)
            for order in page.orders:
                if order.key not in self._steps and _may_miss(order, now):
                    with suppress(Stale, NotFound):
                        await self._store.save(fate.check(order, now), durable=False)
            if page.next is None or page.orders[-1].deadline > now + _LONGEST_WAIT:
                return
            query = msgspec.structs.replace(query, after=page.next)

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """Claim as many orders as there are free slots, and begin their steps."""
        now = self._now()
        if (pause := self.pause) is not None and now < pause.until:
            await self._park(pause, now)
            return
        free = self._may_go()
        if not free:
            return
        last = None
        for order in await self._store.claim(self.name, limit=free, now=now, until=now + self._limits.lease):
            step = Step(order, self._asked)
            if self._is_taken(step.key):
                self._put_back[step.key] = order
            else:
                self._step(step, group)
                last = step.key
        if last is not None:
            self._note_probe(last)

    def _step(self, step: Step, group: asyncio.TaskGroup) -> None:
        self._asking += 1
        self._steps[step.key] = step
        step.task = group.create_task(self._course.take(step), name=" ".join(step.key))
        self._governor.expect(step.task)
        # Not in the task itself: one that is cancelled before its first turn runs none of its code.
        step.task.add_done_callback(partial(self._ended, step))

    def _note_probe(self, key: Key) -> None:
        """Remember who went last, and during a pause all who went, until everybody has had a turn."""
        if self.pause is None or key in self._probed:
            self._probed.clear()
        self._probed.add(key)

    def _asked(self, step: Step) -> None:
        self._asking -= 1
        self._governor.forget(step.task)
        self.wake()

    def _ended(self, step: Step, _task: asyncio.Task[None]) -> None:
        step.asked()
        if not step.begun:
            self._put_back[step.key] = step.order
        if self._steps.get(step.key) is step:  # else it was due at once, and is being asked about anew
            del self._steps[step.key]
        self.wake()

    def _asks(self, key: Key) -> bool:
        """Tell whether a step of this order has still to settle: a store that was reopened knows no claims."""
        return key in self._steps and not self._steps[key].settling

    def _is_taken(self, key: Key) -> bool:
        """Tell whether somebody has this order, and no step of it may be begun."""
        return key in self._withheld or self._asks(key)

    async def _park(self, pause: Pause, now: float) -> None:
        """Claim what is due until the pause is over, or until its own deadline: that is kept all the same."""
        limit, until = self._limits.checks, pause.until
        for order in await self._store.claim(self.name, limit=limit, now=now, until=until):
            if self._is_taken(order.key):
                self._put_back[order.key] = order
            elif order.deadline <= now:
                with suppress(Stale, NotFound):  # the shop was quicker
                    await self._course.settle(order, Deferred(reason=pause.reason))
            elif order.deadline < until or order.key in self._probed:
                await self._store.renew([order], until=min(order.deadline, until + _BACK))

    def _free(self) -> int:
        if self.pause is None:
            return self._limits.checks - self._asking
        return 0 if self._asking else 1

    def _may_go(self) -> int:
        """Tell for how many of the free slots there is a request that may be sent now."""
        return self._governor.free(self._free())

    async def _next_due(self) -> float | None:
        """Tell when to look again; None if only a wake can bring anything new."""
        pause = self.pause
        if pause is not None and self._now() < pause.until:
            return await self._store.next_due(self.name)
        due = await self._store.next_due(self.name) if self._free() else None
        return None if due is None else max(due, self._now() + self._governor.wait())

    async def _rest(self, due: float | None) -> None:
        nap = self._limits.lease / 3 if self._steps else _NAP
        wait = nap if due is None else min(max(due - self._now(), 0.0), nap)
        try:
            async with asyncio.timeout(wait):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _renew(self) -> None:
        """Renew the claims of what is under way, and give back those of what is not, before anything is claimed."""
        now = self._now()
        for key in [key for key in self._put_back if not self._is_taken(key)]:
            await self._store.renew([self._put_back.pop(key)], until=now)
        if self._steps and abs(now - self._renewed_at) >= self._limits.lease / 3:
            await self._store.renew([step.order for step in self._steps.values()], until=now + self._limits.lease)
            self._renewed_at = now
