"""A start with everything due: spread, never over a cap, and the loop is hardly ever late (R13)."""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import pytest

from poller import settings
from poller.app import running
from poller.order import State, place
from poller.stores.tinydb import TinyStore
from tests.bench.figure import percentile
from tests.bench.ticker import Ticker
from tests.grafx import SECRET
from tests.rush import Seen, rushed


async def _filled(path: Path, count: int) -> None:
    """Leave a store behind in which everything is due."""
    at = time.time() - 8.0  # so that it is a second until the next question
    store = await TinyStore.open(path, now=time.time)
    for first in range(0, count, 1000):
        numbers = range(first, min(first + 1000, count))
        await store.add([place("grafx", f"T{number}", at, deadline=at + 86400.0) for number in numbers])
    await store.close()


async def _start(folder: Path, seen: Seen, count: int, **given: str) -> Sequence[float]:
    """Start on such a store, and wait until every file is here; tell how late the loop was, in seconds."""
    await _filled(folder / "orders.json", count)
    environ = {
        "GRAFX_ENVIRONMENT": "acme",
        "GRAFX_CLIENT_ID": "someone",
        "GRAFX_CLIENT_SECRET": SECRET,
        "GRAFX_BASE_URL": seen.base,
        "GRAFX_TOKEN_URL": f"{seen.base}/oauth/token",
        "POLLER_PORT": "0",
        "POLLER_STORE": str(folder / "orders.json"),
        "POLLER_ORDERS_DIR": str(folder / "orders"),
        **given,
    }
    async with Ticker() as ticker, running(settings.load(environ)) as service:
        while (await service.store.counts())[State.DONE] < count:
            await asyncio.sleep(0.05)
    return [late - off for late, off in zip(ticker.late, ticker.off, strict=True)]


def _fullest(sent: Sequence[float], seconds: float) -> int:
    """Count the requests in the fullest window."""
    return max(bisect_right(sent, at + seconds) - index for index, at in enumerate(sent))


COUNTS = [150, pytest.param(10_000, marks=[pytest.mark.heavy, pytest.mark.timeout(1800)])]


@pytest.mark.parametrize("count", COUNTS)
async def test_a_start_with_everything_due_passes_no_cap(tmp_path: Path, count: int) -> None:
    """Questions, downloads and connections stay within theirs; the loop is seldom 50 ms late."""
    with rushed() as seen:
        late = await _start(tmp_path, seen, count, POLLER_CHECKS="20", POLLER_DOWNLOADS="4", POLLER_CONNECTIONS="12")
    assert seen.most["questions"] <= 8
    assert seen.most["downloads"] <= 4
    assert seen.most["connections"] <= 12
    assert seen.most["logins"] == 1
    assert len(seen.sent) > 3 * count
    assert percentile(late, 99) < 0.05


async def test_a_start_with_everything_due_keeps_to_its_requests(tmp_path: Path) -> None:
    """Six hundred a minute are sixty at once and nine a second from there, whatever waits."""
    with rushed() as seen:
        await _start(tmp_path, seen, 32, POLLER_REQUESTS_PER_MINUTE="600")
    assert len(seen.sent) > 96
    for seconds in (0.5, 1.0, 2.0, 5.0, 60.0):
        assert _fullest(seen.sent, seconds) <= 60 + (seconds + 1.0) * 541 / 61 + 1
    assert seen.sent[-1] - seen.sent[0] > 3.0
