"""Changes: what one costs, alone and among others, in a small store and in a large one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

from poller.order import Order
from poller.stores.journal import unseal
from poller.stores.survey import Names
from tests.bench.figure import Figure, Pair
from tests.bench.orders import every, fresh
from tests.bench.references import Sqlite, appending
from tests.bench.traffic import CLAIM, Traffic, one_by_one, succeed
from tests.bench.yard import SMALL, Yard, alternate, opened


async def add_alone(yard: Yard) -> list[Figure]:
    """Compare one durable add with a write and sync of the line that it left in the journal."""
    pair, in_thread = Pair(), list[float]()
    path = yard.store("pending", SMALL)
    async with opened(path) as store:
        traffic, journal = Traffic(store, kind="pending", size=SMALL, batch=CLAIM), Names(path).journal
        with appending(path.with_name("reference")) as append:
            for _ in range(3 * yard.rounds):  # they are short
                pair.ours.append(await traffic.add_alone())
                lines = _newest(journal, CLAIM)
                pair.theirs.append(median(map(append, lines)))
                in_thread.append(median(await one_by_one(_threaded(append), lines)))
    return [pair.slowdown("one add, alone", at_most=1.5, by_a_thread_us=median(in_thread) * 1e6)]


async def changes_together(yard: Yard) -> list[Figure]:
    """Compare durable changes by 64 callers with as many upserts in SQLite, each its own transaction."""
    async with opened(yard.store("pending", SMALL)) as store:
        traffic = Traffic(store, kind="pending", size=SMALL, batch=yard.batch)
        with closing(Sqlite(yard.new() / "reference.db", synchronous="FULL")) as sqlite:
            adds = await alternate(yard.rounds, traffic.adds, _upserting(sqlite, _strangers(yard.batch)))
            saves = await alternate(yard.rounds, traffic.saves, _upserting(sqlite, _acquaintances(yard.batch)))
    return [adds.speedup("adds by 64 callers", at_least=10), saves.speedup("saves by 64 callers", at_least=10)]


async def soft_saves(yard: Yard) -> list[Figure]:
    """Compare changes that nobody waits for with upserts in SQLite that are not synced either."""
    async with opened(yard.store("pending", SMALL)) as store:
        traffic = Traffic(store, kind="pending", size=SMALL, batch=yard.batch)
        with closing(Sqlite(yard.new() / "reference.db", synchronous="NORMAL")) as sqlite:
            saves = await alternate(yard.rounds, traffic.soft_saves, _upserting(sqlite, _acquaintances(yard.batch)))
    return [saves.speedup("soft saves")]


async def growth(yard: Yard) -> list[Figure]:
    """Compare each kind of change in a large store with the same in one of 1,000 orders."""
    async with opened(yard.store("pending", yard.orders)) as large, opened(yard.store("pending", SMALL)) as small:
        many = Traffic(large, kind="pending", size=yard.orders, batch=yard.batch)
        few = Traffic(small, kind="pending", size=SMALL, batch=yard.batch)
        pairs = {
            "one add, alone": await alternate(yard.rounds, many.add_alone, few.add_alone),
            "adds by 64 callers": await alternate(yard.rounds, many.adds, few.adds),
            "saves by 64 callers": await alternate(yard.rounds, many.saves, few.saves),
            "soft saves": await alternate(yard.rounds, many.soft_saves, few.soft_saves),
            "claim and soft save": await alternate(yard.rounds, many.cycles, few.cycles),
        }
    return [pair.slowdown(f"{kind}, to that at {SMALL:,}", at_most=2) for kind, pair in pairs.items()]


def _newest(journal: Path, count: int) -> list[bytes]:
    """Give the last lines of a journal that are complete, whatever room it has behind them."""
    with journal.open("rb") as stream:
        return [line for line in stream if unseal(line) is not None][-count:]


def _threaded(append: Callable[[bytes], float]) -> Callable[[bytes], Awaitable[float]]:
    """Append by a thread, as whoever must not stop an event loop has to: what that alone costs."""

    async def appending(line: bytes) -> float:
        return await asyncio.to_thread(append, line)

    return appending


def _strangers(count: int) -> Callable[[], list[Order]]:
    """Give orders that are new, other ones every time."""
    seeds = iter(range(1_000_000))
    return lambda: list(fresh(count, next(seeds)))


def _acquaintances(count: int) -> Callable[[], list[Order]]:
    """Give the same orders, a version later every time."""
    known = list(islice(every("pending", SMALL), count))

    def later() -> list[Order]:
        known[:] = map(succeed, known)
        return known

    return later


def _upserting(sqlite: Sqlite, orders: Callable[[], Sequence[Order]]) -> Callable[[], Awaitable[float]]:
    async def upserting() -> float:
        batch = orders()
        began = perf_counter()
        sqlite.upsert(batch)
        return (perf_counter() - began) / len(batch)

    return upserting
