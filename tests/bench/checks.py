"""Checks: asking about orders that are not ready, next to a bare ``session.get`` of the same address.

The whole cycle is the service's own, parts and all: the lane claims what is due, the client asks, the
order's fate is decided, saved and told. Orders are due again as soon as they were asked about, so that
the lane never waits. The server is another process on another processor. Both sides have 64 questions under
way, and each round dials its connections anew.
"""

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from time import perf_counter, process_time

import aiohttp

from poller import log
from poller.app import calm_collector
from poller.bus import Bus
from poller.client import Client
from poller.event import Event
from poller.lane import Lane, Limits
from poller.log import Narrator
from poller.order import Order, place
from poller.outcome import NotReady
from poller.pace import Pace
from poller.redact import Redactor
from poller.step import Course
from poller.stores.tinydb import TinyStore
from poller.wire import Wire
from tests.bench.figure import Figure, Pair
from tests.bench.machine import ROOT
from tests.bench.orders import DAY, NOW
from tests.bench.transfer import Remote, Took
from tests.bench.yard import Yard, opened

AT_ONCE = 64
_FEW = 100
_AT_ONCE_AGAIN = Pace(interval_min=0.0, interval_max=0.0)
_AHEAD = NOW + DAY - time.time()


@contextmanager
def serving() -> Iterator[str]:
    """Run a remote that is never ready, on the last processor; give its address."""
    command = [sys.executable, "-m", "tests.bench.status_server", str(max(os.sched_getaffinity(0)))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


class NeverReady(Remote):
    """The remote whose orders ``orders.build`` makes."""

    name = "grafx"


def _now() -> float:
    """Tell a time at which every order of ``orders.build`` is due."""
    return time.time() + _AHEAD


def _wire(remote: Remote) -> Wire:
    return Wire(
        base=remote.base,
        origins=remote.origins,
        connections=AT_ONCE,
        idle_timeout=30.0,
        floor_rate=1024.0,
        clock=time.monotonic,
    )


def _client(remote: Remote, wire: Wire) -> Client:
    return Client(remote=remote, wire=wire, learn=lambda _: None, now=time.time, clock=time.monotonic)


async def asking(yard: Yard) -> list[Figure]:
    """Compare only the question with a bare ``session.get``."""
    count = yard.batch // 4
    with serving() as url:
        ours, theirs = await _by_turns(yard.rounds, partial(_asked, url, count), partial(_got, url, count))
    return _speedups("asking 64 at a time, to session.get", ours, theirs)


async def cycle(yard: Yard) -> list[Figure]:
    """Compare the whole cycle, in a small store and in a large one, with a bare ``session.get``."""
    count = yard.batch // 4
    log.configure("json", io.StringIO(), Redactor())
    async with AsyncExitStack() as stack:
        url = stack.enter_context(serving())
        few = await stack.enter_async_context(opened(yard.store("pending", min(_FEW, yard.orders))))
        many = await stack.enter_async_context(opened(yard.store("pending", yard.orders)))
        calm_collector()
        sides = [partial(_cycled, url, store, count) for store in (few, many)]
        small, large, theirs = await _by_turns(yard.rounds, *sides, partial(_got, url, count))
    return [
        *_speedups(f"check cycle among {_FEW} orders, to session.get", small, theirs),
        *_speedups("check cycle among all orders, to session.get", large, theirs),
        _busy(large, small).slowdown(f"check cycle among all orders, to {_FEW}, processor time", at_most=1.15),
    ]


def _speedups(name: str, ours: list[Took], theirs: list[Took]) -> list[Figure]:
    clock = Pair([one.seconds for one in ours], [one.seconds for one in theirs])
    return [
        clock.speedup(name, at_least=0.75),
        _busy(ours, theirs).speedup(f"{name}, processor time"),
    ]


def _busy(ours: list[Took], theirs: list[Took]) -> Pair:
    return Pair([one.busy for one in ours], [one.busy for one in theirs])


async def _by_turns(rounds: int, *sides: Callable[[], Awaitable[Took]]) -> list[list[Took]]:
    """Do work in several ways, each round in another order; a first round warms up and does not count."""
    took = [list[Took]() for _ in sides]
    for number in range(rounds + 1):
        for which in (*range(number % len(sides), len(sides)), *range(number % len(sides))):
            took[which].append(await sides[which]())
    return [each[1:] for each in took]


class _Watch:
    """Tells what was taken since it was made."""

    def __init__(self) -> None:
        self._began, self._busy = perf_counter(), process_time()

    def per(self, count: int) -> Took:
        """Tell it for one of some checks."""
        return Took(seconds=(perf_counter() - self._began) / count, busy=(process_time() - self._busy) / count)


async def _asked(url: str, count: int) -> Took:
    remote = Remote(url)
    wire = _wire(remote)
    client = _client(remote, wire)
    orders = iter([place("bench", f"{number}", time.time(), deadline=2e9) for number in range(count)])

    async def asker() -> None:
        for order in orders:
            assert isinstance(await client.ask(remote.check(order)), NotReady)

    watch = _Watch()
    await asyncio.gather(*(asker() for _ in range(AT_ONCE)))
    took = watch.per(count)
    await wire.close()
    return took


async def _got(url: str, count: int) -> Took:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        numbers = iter(range(count))

        async def getter() -> None:
            for number in numbers:
                async with session.get(f"{url}/tasks/{number}") as response:
                    await response.read()

        watch = _Watch()
        await asyncio.gather(*(getter() for _ in range(AT_ONCE)))
        return watch.per(count)


class Count:
    """A listener of the bus that counts checks, and has a lane stop after some."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.lane: Lane | None = None

    def __call__(self, _order: Order, event: Event) -> None:
        assert event.event == "not_ready"
        self.left -= 1
        if self.left == 0 and self.lane is not None:
            self.lane.stop()


async def _cycled(url: str, store: TinyStore, count: int) -> Took:
    """Run a lane until so many orders were asked about; those under way are asked to their end, and count too."""
    remote, bus, counted = NeverReady(url), Bus(), Count(count)
    bus.listen(Narrator())
    bus.listen(counted)
    wire = _wire(remote)
    course = Course(
        remote=remote,
        asker=_client(remote, wire),
        fetcher=_Nothing(),
        store=store,
        policy=_AT_ONCE_AGAIN,
        tell=bus.tell,
        redact=Redactor(),
        now=_now,
        downloads=1,
    )
    lane = counted.lane = Lane(course=course, store=store, now=_now, limits=Limits(checks=AT_ONCE))
    watch = _Watch()
    async with asyncio.TaskGroup() as group:
        group.create_task(lane.run(group))
    took = watch.per(count - counted.left)
    await wire.close()
    return took


class _Nothing:
    """Fetches nothing, for nothing is ever ready."""

    async def fetch(self, order: Order, _ready: object) -> NotReady:
        raise AssertionError(order)
