"""Upkeep: dropping the orders that have been at rest for long."""

from contextlib import closing
from time import perf_counter

from tests.bench.figure import Figure, Pair
from tests.bench.orders import NOW, every
from tests.bench.references import Sqlite
from tests.bench.yard import Yard, opened

_REPETITIONS = 3


async def sweep(yard: Yard) -> list[Figure]:
    """Compare dropping all orders of a store, and their events, with one DELETE of as many rows in SQLite."""
    count, pair = max(1, yard.orders // 10), Pair()
    for _ in range(min(_REPETITIONS, yard.rounds)):
        pair.ours.append(await _forgetting(yard, count))
        pair.theirs.append(_deleting(yard, count))
    return [pair.slowdown("retention sweep, of a tenth as many", orders=count)]


async def _forgetting(yard: Yard, count: int) -> float:
    async with opened(yard.store("failed", count)) as store:
        began = perf_counter()
        forgotten = await store.forget(before=NOW)
        return (perf_counter() - began) / forgotten


def _deleting(yard: Yard, count: int) -> float:
    with closing(Sqlite(yard.new() / "reference.db", synchronous="FULL")) as sqlite:
        sqlite.fill(every("failed", count))
        began = perf_counter()
        forgotten = sqlite.forget(states=["failed"], before=NOW)
        return (perf_counter() - began) / forgotten
