"""The hook: how many orders it takes, next to what its server can do at all, and how fast it lists."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import msgspec

from poller.stores.tinydb import TinyStore
from tests.bench.figure import Figure, Pair, percentile
from tests.bench.hook_load import Job, Outcome
from tests.bench.machine import ROOT
from tests.bench.yard import Yard

CONNECTIONS = 64
LIST = 100
"""Orders in one request that posts a list."""
LISTINGS = {
    "of a remote": "/orders?state=failed&remote=grafx&limit=50",
    "of a batch": "/orders?state=failed&batch=summer-0123&limit=50",
}


class Server:
    """A server of ``hook_server`` at work.

    Attributes:
        posted: how many orders it has accepted.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.posted = 0
        self._process = process
        self._port = port
        self._numbers = count()

    def load(self, seconds: float, *, connections: int = CONNECTIONS, each: int = 1, path: str = "/orders") -> Outcome:
        """Send requests for some seconds from a process of their own."""
        name = f"{self._process.pid}.{next(self._numbers)}"
        job = Job(
            port=self._port,
            core=_cores()[0],
            connections=connections,
            seconds=seconds,
            name=name,
            each=each,
            path=path,
        )
        asked = msgspec.json.encode(job).decode()
        ended = subprocess.run(_module("hook_load", asked), cwd=ROOT, stdout=subprocess.PIPE, check=True)
        outcome = msgspec.json.decode(ended.stdout, type=Outcome)
        self.posted += outcome.orders
        return outcome

    @property
    def busy(self) -> float:
        """Seconds of processor time that the server's threads have taken."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text(encoding="utf-8").split()[0]) for thread in threads) / 1e9


@contextmanager
def serving(kind: str, path: Path) -> Iterator[Server]:
    """Run a server, with its store at *path* if it has one; it has stopped when the block ends."""
    command = _module("hook_server", kind, str(_cores()[-1]), str(path))
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Server(process, int(process.stdout.readline()))


async def posting(yard: Yard) -> list[Figure]:
    """Compare durable orders with requests of which nothing comes, each answered by a server of its own."""
    pair, busy, latencies, path = Pair(), Pair(), list[float](), yard.new() / "orders.json"
    with serving("hook", path) as hook, serving("nothing", path) as nothing, serving("unheard", path) as unheard:
        limit = unheard.load(yard.seconds / 2)
        for number in range(yard.rounds + 1):
            sides = [(hook, pair.ours, busy.ours), (nothing, pair.theirs, busy.theirs)]
            for server, took, worked in sides if number % 2 else reversed(sides):
                before, outcome = server.busy, server.load(yard.seconds / 2)
                took.append(outcome.seconds / outcome.requests)
                worked.append((server.busy - before) / outcome.orders)
                latencies += outcome.latencies if server is hook and number else []
    await _demand_all(path, hook.posted)
    return [
        _share("durable POST /orders, to no-op", pair, at_least=0.65, load_us=limit.seconds / limit.requests * 1e6),
        _share("durable POST /orders, to no-op, processor time", busy),
        _latency("durable POST /orders, latency (p99)", latencies, at_most=10),
    ]


async def posting_lists(yard: Yard) -> list[Figure]:
    """Tell how many orders a second come in by lists."""
    path = yard.new() / "orders.json"
    with serving("hook", path) as hook:
        outcomes = [hook.load(yard.seconds / 2, connections=8, each=LIST) for _ in range(yard.rounds + 1)][1:]
    await _demand_all(path, hook.posted)
    rates = [outcome.requests * LIST / outcome.seconds for outcome in outcomes]
    waits = [seconds * 1e3 for outcome in outcomes for seconds in outcome.latencies]
    return [
        Figure(
            name=f"orders a second, in lists of {LIST}",
            value=median(rates),
            unit="/s",
            low=min(rates),
            high=max(rates),
            at_least=80_000,
            detail={"p99_ms": percentile(waits, 99)},
        )
    ]


async def listing(yard: Yard) -> list[Figure]:
    """Tell how long the 50 newest of the orders that failed take, asked for over one connection."""
    with serving("hook", yard.store("mixed", yard.orders)) as hook:
        asked = {what: hook.load(yard.seconds / 2, connections=1, each=0, path=path) for what, path in LISTINGS.items()}
    return [_latency(f"GET 50 failed, {what}", outcome.latencies, 50, at_most=20) for what, outcome in asked.items()]


async def _demand_all(path: Path, posted: int) -> None:
    """Open the store that a server left, and find every order that was acknowledged."""
    store = await TinyStore.open(path, now=time.time)
    kept = sum((await store.counts()).values())
    await store.close()
    if kept != posted:
        raise AssertionError(f"{posted} orders were acknowledged, and {kept} are there")


def _share(name: str, pair: Pair, *, at_least: float | None = None, **detail: float) -> Figure:
    """Give which share of theirs ours reaches."""
    return Pair(pair.ours[1:], pair.theirs[1:]).speedup(name, at_least=at_least, **detail)


def _latency(name: str, latencies: list[float], percent: int = 99, *, at_most: float) -> Figure:
    late = [seconds * 1e3 for seconds in latencies]
    return Figure(
        name=name,
        value=percentile(late, percent),
        unit="ms",
        low=min(late),
        high=max(late),
        at_most=at_most,
        detail={"p50_ms": percentile(late, 50), "p99_ms": percentile(late, 99)},
    )


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.{name}", *arguments]


def _cores() -> list[int]:
    """List the processors that may be used: the load takes the first, a server the last."""
    return sorted(os.sched_getaffinity(0))
