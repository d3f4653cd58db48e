"""The benchmarks of the hook: they run at any size, and see what they are to see."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from tests.bench import hook
from tests.bench.figure import Figure
from tests.bench.yard import Yard


@pytest.mark.parametrize("measure", [hook.posting, hook.posting_lists, hook.listing])
async def test_a_benchmark_of_the_hook_runs_at_a_small_size(
    measure: Callable[[Yard], Awaitable[list[Figure]]], tmp_path: Path
) -> None:
    """It gives figures within their spread, and every acknowledged order was found; how good they are is not asked."""
    found = await measure(Yard(folder=tmp_path, orders=300, rounds=1, seconds=0.1))
    assert len({figure.name for figure in found}) == len(found) > 0
    for figure in found:
        assert math.isfinite(figure.value)
        assert 0 <= figure.low <= figure.value <= figure.high


def test_a_refusal_ends_the_measurement(tmp_path: Path) -> None:
    """Only success is counted: what the hook refuses is no request taken."""
    with hook.serving("hook", tmp_path / "orders.json") as server:
        assert server.load(0.01, connections=2).orders >= 2
        with pytest.raises(CalledProcessError):
            server.load(0.01, connections=2, each=1001)


def test_an_order_that_is_gone_is_missed(tmp_path: Path) -> None:
    """The count in the end is a comparison, not a formality."""
    path = tmp_path / "orders.json"
    with hook.serving("hook", path) as server:
        server.load(0.01, connections=2, each=10)
    asyncio.run(hook._demand_all(path, server.posted))
    with pytest.raises(AssertionError, match="acknowledged"):
        asyncio.run(hook._demand_all(path, server.posted + 1))
