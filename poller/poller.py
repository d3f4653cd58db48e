"""The poller: a lane for each remote, and what the shop may do to an order meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

import structlog

from poller import order as fate
from poller.doubt import Doubts
from poller.envoy import Envoy
from poller.errand import Found, Push, Started, Wish
from poller.errors import Conflict, NotFound, Stale, Stopping, StoreError, StoreUnavailable
from poller.event import Event
from poller.lane import Lane
from poller.order import Key, Order, State
from poller.shield import finish
from poller.store import Query, Store
from poller.tidings import Heralds
from poller.turns import Turns

T = TypeVar("T")

_TIDY_EVERY = 3600.0
_TIDY_AT_MOST_EVERY = 1.0
_MEND_FIRST = 1.0
_MEND_LAST = 60.0
_TRIES = 5
_ECHOES = (1.0, 4.0)
"""Seconds after which a nudged order is asked about once more: remotes push before their own books are right."""
_MOST_NUDGED = 500


class Poller:
    """Runs the lanes until it is stopped.

    Args:
        lanes: one for each remote.
        envoys: the same, for all that is said beside the questions about orders.
        heralds: tell remotes what became of orders, if they want to hear.
        errands: what else is to be done until a stop, which each is given.
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
        envoys: Sequence[Envoy] = (),
        heralds: Heralds | None = None,
        errands: Sequence[Callable[[asyncio.Event], Coroutine[Any, Any, None]]] = (),
    ) -> None:
        self._lanes = {lane.name: lane for lane in lanes}
        self._envoys = {envoy.remote.name: envoy for envoy in envoys}
        self._heralds = heralds or Heralds({})
        self._errands = errands
        self._echoes: set[asyncio.Task[None]] = set()
        self._begun: set[asyncio.Task[Any]] = set()
        self._turns = Turns()
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
            errands = [group.create_task(self._errand(errand), name="errand") for errand in self._errands]
            await self._stopping.wait()
            await self._drain()
            for errand in (*errands, *self._echoes):
                errand.cancel()

    async def _errand(self, errand: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
        """Have an errand done until a stop, and begun anew if it fails: it takes nobody else with it."""
        while not self.draining:
            try:
                await errand(self._stopping)
            except Exception:
                self._log.exception("errand_failed")
                await self._pause(_MEND_LAST)

    async def _drain(self) -> None:
        """Wait for what is under way; interrupt what takes longer than the grace."""
        try:
            async with asyncio.timeout(self._grace):
                while under_way := [*self._steps(), *self._begun]:
                    await asyncio.wait(under_way)
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
        for begun in self._begun:
            self._log.error("given_up", hint="a start or a cancellation was cut short; look what the remote made of it")
            begun.cancel()

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
        async with self._turns.of(key):
            async with lane.withheld(key) if lane is not None else nullcontext():
                after = await self._changed(key, change, word)
            return after if change is not fate.cancel else await self._to_its_end(self._withdrawn(after))

    def fit(self, remote: str, wish: Wish) -> Wish:
        """Check a wish for a task, and fill in what was not said; see ``Remote.fit``."""
        return self._envoy(remote).remote.fit(wish)

    async def room(self, remote: str, count: int) -> None:
        """Make sure that a remote takes so many tasks more; see ``Envoy.room``."""
        await self._envoy(remote).room(count)

    async def start(self, remote: str, wish: Wish, made: Callable[[Started], Order]) -> tuple[Order, bool]:
        """Start a task, and have its order durable before this returns; see ``Envoy.start``.

        Args:
            remote: where.
            wish: what is wanted, as ``fit`` gave it.
            made: makes the order of it.
        """
        envoy = self._envoy(remote)
        if self.draining:
            raise Stopping("poller is about to stop", hint="start it again later: nothing was started")
        starting = envoy.start(wish, lambda started: self.scheduled([made(started)])[0])
        kept, is_new = await self._to_its_end(starting)
        if is_new:
            self.added([kept])
        return kept, is_new

    async def discover(self, remote: str, wish: Mapping[str, Any], most: int) -> Found:
        """List the tasks that a remote has; see ``Envoy.discover``."""
        return await self._envoy(remote).discover(wish, most)

    async def nudge(self, remote: str, push: Push) -> int:
        """Have the orders that a push is about be due now, and a little later once more; tell how many.

        Raises:
            Declined: the push is not the remote's.
            Unreached: that cannot be told at present.
        """
        nudged = await self._envoy(remote).heed(push)
        keys = (
            await self._waiting(remote) if nudged.task_ids is None else [Key(remote, each) for each in nudged.task_ids]
        )
        known = [key for key in keys if await self._hurry(key, "nudged")]
        if known:
            echo = asyncio.create_task(self._echo(known), name="echo")
            self._echoes.add(echo)
            echo.add_done_callback(self._echoes.discard)
        return len(known)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what must not be left half done, whoever hangs up meanwhile; a stop waits for it."""
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await finish(task)

    async def _waiting(self, remote: str) -> list[Key]:
        query = Query(states=frozenset({State.PENDING}), remote=remote, sort="due_at", limit=_MOST_NUDGED)
        return [order.key for order in (await self._store.search(query)).orders]

    async def _hurry(self, key: Key, word: str) -> bool:
        """Have an order be due now; tell whether it waits at all."""
        try:
            await self.apply(key, fate.check, word)
        except (NotFound, Conflict, Stale):
            return False
        return True

    async def _echo(self, keys: Sequence[Key]) -> None:
        """Ask again about orders that were nudged, if they still wait."""
        for wait in _ECHOES:
            await self._pause(wait)
            for key in keys:
                with suppress(StoreError):
                    await self._hurry(key, "nudged")

    async def _withdrawn(self, order: Order) -> Order:
        """Tell a remote that an order was canceled; what comes of it is kept in the order's history."""
        envoy = self._envoys.get(order.remote)
        event = await envoy.cancel(order) if envoy is not None else None
        if event is None:
            return order
        after = fate.kept(order, self._now())
        with suppress(StoreError, NotFound):  # the order is canceled all the same
            await self._store.save(after, event)
            order = after
        self._tell(order, event)
        return order

    def _envoy(self, remote: str) -> Envoy:
        if remote not in self._envoys:
            raise NotFound(f"there is no remote {remote!r}", hint=f"there are {', '.join(self._envoys)}")
        return self._envoys[remote]

    async def _changed(self, key: Key, change: Callable[[Order, float], Order], word: str) -> Order:
        """Change an order and save it; where somebody else was quicker, read it again first."""
        for _ in range(_TRIES):
            now = self._now()
            after = change(await self._get(key), now)
            event = Event(at=now, event=word, next_at=after.due_at)
            with suppress(Stale):
                await finish(self._saved(after, event))
                return after
        raise Stale(f"order {key.task_id!r} of {key.remote} is changing all the time", hint="ask again")

    async def _saved(self, after: Order, event: Event) -> None:
        tidings = self._heralds.of(after)
        if tidings is not None:
            await tidings.owe(after)
        await self._doubts.save(after, event)
        self._tell(after, event)
        if tidings is not None:
            tidings.saved()

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
