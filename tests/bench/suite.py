"""All benchmarks, by name."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.bench import changes, checks, hook, lateness, pacing, reading, transfer, upkeep
from tests.bench.figure import Figure
from tests.bench.yard import Yard, apart

SUITE: dict[str, Callable[[Yard], Awaitable[list[Figure]]]] = {
    "add": changes.add_alone,
    "together": changes.changes_together,
    "soft": changes.soft_saves,
    "growth": changes.growth,
    "memory": reading.memory,
    "load": reading.loading,
    "list": reading.listing,
    "sweep": upkeep.sweep,
    "late": lateness.lateness,
    "post": hook.posting,
    "post-lists": hook.posting_lists,
    "get-list": hook.listing,
    "fetch": transfer.large,
    "fetch-tls": transfer.large_tls,
    "fetch-many": transfer.many,
    "fetch-memory": transfer.memory,
    "ask": checks.asking,
    "cycle": checks.cycle,
    "pacing": pacing.pacing,
}


def figures(name: str, yard: Yard) -> list[Figure]:
    """Run one benchmark in this process."""
    return asyncio.run(_awaited(SUITE[name](yard)))


def figures_apart(name: str, yard: Yard) -> list[Figure]:
    """Run one benchmark in a process of its own."""
    return apart(figures, name, yard)


async def _awaited(work: Awaitable[list[Figure]]) -> list[Figure]:
    return await work
