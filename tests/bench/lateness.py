"""Lateness: how late the event loop is while a large store works."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from poller.order import State
from poller.store import Query
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests.bench.figure import Figure, percentile
from tests.bench.orders import NOW
from tests.bench.ticker import Ticker
from tests.bench.traffic import Traffic
from tests.bench.yard import Yard

_FAILED = frozenset({State.FAILED})
_P99, _MOST = 10, 50
"""Milliseconds that are allowed."""


class Watch:
    """Watches the loop while one thing after the other is done.

    Attributes:
        figures: two for each thing: the 99th percentile, and the latest tick.
    """

    def __init__(self, seconds: float) -> None:
        self.figures: list[Figure] = []
        self._seconds = seconds

    async def once(self, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Watch while something is done once."""
        async with Ticker() as ticker:
            result = await work()
        self._note(what, ticker)
        return result

    async def again(self, what: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Watch while something is done again and again, for some seconds."""

        async def often() -> None:
            until = perf_counter() + self._seconds
            while perf_counter() < until:
                await work()
                await asyncio.sleep(0)

        await self.once(what, often)

    def _note(self, what: str, ticker: Ticker) -> None:
        late = [seconds * 1e3 for seconds in ticker.late]
        usual = {"median_ms": percentile(late, 50), "stalled": _stalled(late), "ticks": len(late)}
        off = ticker.off[ticker.late.index(max(ticker.late))]
        worst = {"off_processor_ms": off * 1e3, "collector_ms": max(ticker.collecting, default=0.0) * 1e3}
        self.figures += [
            _lateness(f"late (p99), {what}", percentile(late, 99), late, at_most=_P99, detail=usual),
            _lateness(f"late (most), {what}", max(late), late, at_most=_MOST, detail=worst),
        ]


def _lateness(name: str, value: float, late: list[float], *, at_most: float, detail: dict[str, float]) -> Figure:
    return Figure(name=name, value=value, unit="ms", low=min(late), high=max(late), at_most=at_most, detail=detail)


def _stalled(late: list[float]) -> float:
    """Tell which share of the time the loop was more than 10 ms late."""
    return sum(each for each in late if each > _P99) / sum(1 + each for each in late)


async def lateness(yard: Yard) -> list[Figure]:
    """Watch the loop through everything that a store does, in two lives of one."""
    path, watch = yard.store("mixed", yard.orders), Watch(yard.seconds)
    await watch.again("nothing is done", lambda: asyncio.sleep(0.1))
    async with _life(watch, path) as store:
        traffic = Traffic(store, kind="mixed", size=yard.orders, batch=yard.batch)
        await _use(watch, store, traffic)
        await _fold(watch, store, path, traffic)
        await watch.once("reopen", store.reopen)
        await traffic.adds()
    async with _life(watch, path, " again, most orders forgotten") as store:
        await watch.once("forget all at rest", lambda: store.forget(before=NOW))
    return watch.figures


@asynccontextmanager
async def _life(watch: Watch, path: Path, which: str = "") -> AsyncIterator[TinyStore]:
    """Open a store as the service does, and close it."""
    store = await watch.once(f"open{which and ' again'}", lambda: TinyStore.open(path, now=time.time))
    await watch.once(f"collect and freeze{which and ' again'}", _frozen)
    try:
        yield store
    finally:
        await watch.once(f"close{which}", store.close)
        gc.unfreeze()


async def _use(watch: Watch, store: TinyStore, traffic: Traffic) -> None:
    await watch.again("adds by 64 callers", traffic.stream)
    await watch.again("claims and soft saves", traffic.cycle)
    await watch.again("a full collection", _collected)
    await watch.again("list failed", lambda: store.search(Query(states=_FAILED, remote="grafx")))
    await watch.again("list failed of a batch", lambda: store.search(Query(states=_FAILED, batch="summer-0123")))
    await watch.once("list all", lambda: store.search(Query()))
    await watch.once("search all for a text", lambda: store.search(Query(text="brochure-0001")))


async def _fold(watch: Watch, store: TinyStore, path: Path, traffic: Traffic) -> None:
    """Fold a full journal, first with nothing else going on, then with 64 callers adding."""

    async def alone() -> None:
        await asyncio.sleep(0.01)

    for what, meanwhile in (("fold", alone), ("fold, adds by 64 callers", traffic.stream)):
        for _ in range(3):
            await traffic.adds()
        await watch.once(what, partial(folded, store, traffic, path, meanwhile))


async def folded(store: TinyStore, traffic: Traffic, path: Path, meanwhile: Callable[[], Awaitable[Any]]) -> None:
    """Have the journal found full, and do something else until it is in the snapshot."""
    names, before = Names(path), path.stat().st_ino
    store._ledger._full = 0
    await traffic.add_alone()
    while path.stat().st_ino == before or names.full.exists():
        await meanwhile()


async def _frozen() -> None:
    gc.collect()
    gc.freeze()


async def _collected() -> None:
    gc.collect()
    await asyncio.sleep(0)
