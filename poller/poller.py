"""The poller: a lane for each remote, and what the shop may do to an order meanwhile."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress

import structlog

from poller import order as fate
from poller.doubt import Doubts
from poller.errors import NotFound, Stale, StoreError, StoreUnavailable
from poller.event import Event
from poller.lane import Lane
from poller.order import Key, Order
from poller.shield import finish
from poller.store import Store

_TIDY_EVERY = 3600.0
_TIDY_AT_MOST_EVERY = 1.0
_MEND_FIRST = 1.0
_MEND_LAST = 60.0
_TRIES = 5


class Poller:
    """Runs the lanes until it is stopped.

    Args:
        lanes: one for each remote.
        store: keeps the orders.
        tell: is told what the shop did to an order.
        now: epoch seconds.
        grace: seconds that a stop waits for what is under way.
        retention: seconds for which orders at rest are remembered.
    """

    def __init__(
        self,
        *,
        lanes: Sequence[Lane],
        store: Store,
        tell: Callable[[Order, Event], None],
        now: Callable[[], float],
        grace: float,
        retention: float,
    ) -> None:
        self._lanes = {lane.name: lane for lane in lanes}
        self._store = store
        self._tell = tell
        self._doubts = Doubts(store=store, tell=tell)
        self._now = now
        self._grace = grace
        self._retention = retention
        self._stopping = asyncio.Event()
        self._log = structlog.get_logger("poller")

    @property
    def draining(self) -> bool:
        """Whether a stop has begun."""
        return self._stopping.is_set()

    @property
    def paused(self) -> Mapping[str, str]:
        """The remotes that let nobody in or are down, and what they said."""
        pauses = {name: lane.pause for name, lane in self._lanes.items()}
        return {name: pause.reason for name, pause in pauses.items() if pause is not None}

    @property
    def under_way(self) -> int:
        """How many orders are being asked about or downloaded at this moment."""
        return len(self._steps())

    async def run(self) -> None:
        """Work until stopped, then wait for what is under way, and interrupt what takes too long."""
        async with asyncio.TaskGroup() as group:
            for name, lane in self._lanes.items():
                group.create_task(lane.run(group), name=f"lane {name}")
            group.create_task(self._tidy(), name="tidy")
            group.create_task(self._mend(), name="mend")
            await self._stopping.wait()
            await self._drain()

    async def _drain(self) -> None:
        """Wait for what is under way; interrupt what takes longer than the grace."""
        try:
            async with asyncio.timeout(self._grace):
                while steps := self._steps():
                    await asyncio.wait(steps)
        except TimeoutError:
            self.abandon()

    def stop(self) -> None:
        """Claim nothing more, and end once what is under way is done."""
        self._stopping.set()
        for lane in self._lanes.values():
            lane.stop()

    def abandon(self) -> None:
        """Interrupt what is under way; it is due again at the next start and has spent nothing."""
        for step in self._steps():
            step.cancel()

    def wake(self) -> None:
        """Look again at what is due."""
        for lane in self._lanes.values():
            lane.wake()

    def scheduled(self, orders: Sequence[Order]) -> list[Order]:
        """Say of new orders when they are first asked about."""
        return [self._lanes[order.remote].schedule(order) if order.remote in self._lanes else order for order in orders]

    def added(self, orders: Sequence[Order]) -> None:
        """Take note of orders that are new in the store."""
        for order in orders:
            self._tell(order, Event(at=order.created_at, event="added", next_at=order.due_at))
            if order.remote in self._lanes:
                self._lanes[order.remote].wake()

    async def apply(self, key: Key, change: Callable[[Order, float], Order], word: str) -> Order:
        """Do what the shop asks to one order, and have it durable before this returns.

        A step that is under way is interrupted first, so that after a cancel no file
        of the order appears; only a check leaves it be, for it is what was asked for.

        Args:
            key: which order.
            change: ``order.confirm``, ``cancel``, ``retry`` or ``check``.
            word: what to call it in the order's history.

        Raises:
            NotFound: there is no such order.
            Conflict: its state forbids it.
            Stale: it was changed at the same moment; ask again.
        """
        lane = self._lanes.get(key.remote)
        now = change(await self._get(key), self._now())  # a command that is refused disturbs nobody
        if lane is not None and change is fate.check and lane.attends(key):
            return now
        async with lane.withheld(key) if lane is not None else nullcontext():
            return await self._changed(key, change, word)

    async def _changed(self, key: Key, change: Callable[[Order, float], Order], word: str) -> Order:
        """Change an order and save it; where somebody else was quicker, read it again first."""
        for _ in range(_TRIES):
            now = self._now()
            after = change(await self._get(key), now)
            event = Event(at=now, event=word, next_at=after.due_at)
            with suppress(Stale):
                await finish(self._doubts.save(after, event))
                self._tell(after, event)
                return after
        raise Stale(f"order {key.task_id!r} of {key.remote} is changing all the time", hint="ask again")

    async def _get(self, key: Key) -> Order:
        order = await self._store.get(key)
        if order is None:
            raise NotFound(f"there is no order {key.task_id!r} of {key.remote}")
        return order

    async def _tidy(self) -> None:
        """Forget, now and then, what has been at rest for long enough."""
        while not self.draining:
            with suppress(StoreUnavailable):  # told by every lane; there is time
                await self._store.forget(before=self._now() - self._retention)
            await self._pause(min(max(self._retention / 4, _TIDY_AT_MOST_EVERY), _TIDY_EVERY))

    async def _mend(self) -> None:
        """Reopen the store while it is unavailable: a disk that failed may be well again, or have room."""
        wait = _MEND_FIRST
        while not self.draining:
            await self._pause(wait)
            if self._store.problem is None:
                wait = _MEND_FIRST
                continue
            wait = min(2 * wait, _MEND_LAST)
            try:
                await self._store.reopen()
                await self._settle_doubts()
            except StoreError as error:
                self._log.error("store_not_reopened", reason=str(error), hint=error.hint)
            else:
                self._log.warning("store_reopened")
                self.wake()

    async def _settle_doubts(self) -> None:
        await self._doubts.settle()
        for lane in self._lanes.values():
            await lane.settle_doubts()

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _steps(self) -> list[asyncio.Task[None]]:
        return [step for lane in self._lanes.values() for step in lane.steps]
