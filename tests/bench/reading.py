"""Reading: how long a large store takes to open, what it takes in memory, how fast it lists."""

import asyncio
import time
from pathlib import Path
from statistics import median
from time import perf_counter

from poller.order import State
from poller.store import Query
from poller.stores.tinydb import TinyStore
from tests.bench.figure import Figure, Pair, amount
from tests.bench.machine import resident
from tests.bench.references import DECODERS, decoding
from tests.bench.yard import Yard, apart, opened

_FAILED = frozenset({State.FAILED})
_LISTINGS = {
    "of a remote": Query(states=_FAILED, remote="grafx"),
    "of a batch": Query(states=_FAILED, batch="summer-0123"),
    "by their last change": Query(states=_FAILED, remote="grafx", sort="updated_at"),
}
_APART = 3
"""Repetitions that need a process each."""
_PATIENCE = 3_000
"""Milliseconds after which nothing is listed once more."""
_SEARCH = Query(states=_FAILED, text="brochure-0001")


async def loading(yard: Yard) -> list[Figure]:
    """Compare opening a store with what decoders take for the same bytes, each in a process of its own."""
    path = yard.store("pending", yard.orders)
    pairs = {decoder: Pair() for decoder in DECODERS}
    for _ in range(min(_APART, yard.rounds)):
        ours = apart(opening, path)
        for decoder, pair in pairs.items():
            pair.ours.append(ours)
            pair.theirs.append(apart(decoding, decoder, path))
    headline, *others = pairs
    return [
        pairs[headline].slowdown(f"load, to {headline}", at_most=1.5),
        *(pairs[decoder].slowdown(f"load, to {decoder}") for decoder in others),
    ]


def opening(path: Path) -> float:
    """Tell how many seconds a store takes to open, the collector as Python has it."""
    return asyncio.run(_opening(path))


async def _opening(path: Path) -> float:
    began = perf_counter()
    store = await TinyStore.open(path, now=time.time)
    took = perf_counter() - began
    await store.close()
    return took


async def memory(yard: Yard) -> list[Figure]:
    """Tell what a pending order takes, and what it took at most while it was loaded."""
    path = yard.store("pending", yard.orders)
    repetitions = [apart(_weighing, path) for _ in range(min(_APART, yard.rounds))]
    sizes, peaks = ([taken / yard.orders for taken in side] for side in zip(*repetitions, strict=True))
    line = path.stat().st_size / yard.orders
    return [amount("memory of a pending order", sizes, "B", at_most=900, peak_B=median(peaks), in_the_file_B=line)]


def _weighing(path: Path) -> tuple[int, int]:
    """Tell by how many bytes this process grows when it opens a store, and by how many at most meanwhile."""
    return asyncio.run(_growing(path))


async def _growing(path: Path) -> tuple[int, int]:
    before, _ = resident()
    store = await TinyStore.open(path, now=time.time)
    after, most = resident()
    await store.close()
    return after - before, most - before


async def listing(yard: Yard) -> list[Figure]:
    """List the 50 newest of the orders that failed, in a store where some did and in one where all did."""
    return [*await _listing(yard, "mixed", "a quarter failed"), *await _listing(yard, "failed", "all failed")]


async def _listing(yard: Yard, kind: str, which: str) -> list[Figure]:
    async with opened(yard.store(kind, yard.orders)) as store:
        pages = {name: await _listed(store, query, yard.rounds) for name, query in _LISTINGS.items()}
        searched = await _listed(store, _SEARCH, 1)
    figures = [amount(f"list failed {name}, {which}", took, "ms", at_most=20) for name, took in pages.items()]
    return [*figures, amount(f"search failed for a text, {which}", searched, "ms")]


async def _listed(store: TinyStore, query: Query, rounds: int) -> list[float]:
    """Tell how many milliseconds each of some listings takes; of slow ones, few."""
    took = list[float]()
    while len(took) < rounds and sum(took) < _PATIENCE:
        began = perf_counter()
        await store.search(query)
        took.append((perf_counter() - began) * 1e3)
    return took
