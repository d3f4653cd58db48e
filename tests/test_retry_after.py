"""``Retry-After`` through the whole poller: on any status, in any form, at the question and at the link."""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from itertools import product
from pathlib import Path

import pytest

from tests.canary import Watch
from tests.hostile import answer
from tests.spine import Spine, spine

HOUR = 3600.0
WISHES: dict[str, tuple[Callable[[], str], float]] = {
    "seconds": (lambda: "17", 17),
    "seconds with blanks": (lambda: "  18 ", 18),
    "a date": (lambda: formatdate(time.time() + 100, usegmt=True), 100),
    "a date of old": (lambda: time.asctime(time.gmtime(time.time() + 200)), 200),
    "a date long ago": (lambda: formatdate(0, usegmt=True), 0),
    "a date far off": (lambda: "Fri, 31 Dec 9999 23:59:59 GMT", HOUR),
    "a billion seconds": (lambda: "1000000000", HOUR),
    "four hundred digits": (lambda: "9" * 400, HOUR),
    "nothing": (lambda: "0", 0),
    "less than nothing": (lambda: "-1", 0),
    "a float": (lambda: "1e9", 0),
    "a word": (lambda: "soon", 0),
    "a list": (lambda: "17, 18", 0),
    "empty": (lambda: "", 0),
}


async def obeyed(it: Spine, task_id: str, wait: float, asked: int) -> None:
    """See that an order waits for so long, or that it is asked about again at once, more often than *asked*."""
    await it.shop.add(task_id)
    async with asyncio.timeout(5):
        if wait:  # a claim is for a minute, so no wait here is
            await it.until(lambda order: abs((order.due_at or 0) - order.updated_at - wait) < 1.5, task_id)
        else:
            while len(it.server.asked(f"/api/tasks/{task_id}")) <= asked:
                await asyncio.sleep(0)


@pytest.mark.parametrize(  # with 429 and 503 the whole remote is left alone for it: test_pressure, test_governor
    ("where", "status"),
    [
        *product(["question"], [200, 202, 204, 301, 404, 500]),
        *product(["link"], [202, 204, 301, 403, 404, 500]),
    ],
)
async def test_a_wish_to_wait(where: str, status: int, tmp_path: Path, watch: Watch) -> None:
    """In seconds or as a date it is obeyed, an absurd one up to an hour, and nonsense not at all."""
    async with spine(tmp_path, watch) as it:
        for number, (write, wait) in enumerate(WISHES.values()):
            task_id = f"T{number}"
            it.good(task_id, b"\x89PNG")
            it.good(f"G{number}", b"\x89PNG")
            body = b'{"state":"running"}' if status == 200 else b""
            path = f"/api/tasks/{task_id}" if where == "question" else f"/files/{task_id}"
            it.server.on(path, answer(status, body, {"Retry-After": write()}))
            await obeyed(it, task_id, wait, 1)
            await it.shop.add(f"G{number}")  # an answer between, or it would be an outage
            await it.rest(f"G{number}")
