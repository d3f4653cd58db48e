"""Whatever a remote does to one order, through the whole poller: what becomes of it, and that nobody else is touched."""

import asyncio
import gzip
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.hostile import Play, answer, reply
from tests.remote_from_hell import close, drip, endless, half_close, hang_up, rst, script, stall
from tests.spine import ATTEMPTS, PNG, SIGNED, Spine, Watch, spine

FILE = b"\x89PNG\r\n\x1a\n" + random.Random(4).randbytes(1_400_000)
"""More than a block, so that some of it is on disk when the rest does not come."""
HEALTHY = ("h1", "h2", "h3")
HTML = b"<!DOCTYPE html><html><body>Service unavailable</body></html>"


class Row(NamedTuple):
    """What the remote does, and what comes of it.

    Attributes:
        asked: what questions about the task meet; nothing for a good answer.
        fetched: what requests for its file meet; nothing for a good one.
        link: where the answer says that the file is, if not where it is.
        cause: why the order fails; None if its file is published.
        attempts: what it has spent in the end.
        requests: questions, and requests for the file.
        said: a part of the reason.
        knobs: how the poller differs from the usual.
    """

    asked: Play | None = None
    fetched: Play | None = None
    link: str | None = None
    cause: str | None = "attempts"
    attempts: int = ATTEMPTS
    requests: tuple[int, int] = (ATTEMPTS, ATTEMPTS)
    said: str = ""
    knobs: dict[str, Any] = {}


WHOLE = reply(200, FILE, PNG)
CHUNKED = reply(200, FILE, PNG, framing="chunked")
HEAD = WHOLE[: WHOLE.index(b"\r\n\r\n") + 4]
ANSWER = reply(200, b'{"state":"running"}')
CHUNKS = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n"
PIECE = b"10\r\n" + b"\x89PNG" * 4 + b"\r\n"
BODY = len(HEAD)
FAR = BODY + 1_200_000
"""Within the second block."""
IMPATIENT = {"idle_timeout": 0.3, "patience": 0.6}


def hurried() -> float:
    """Tell a time that passes a thousand times faster: what is slow over half a minute is so within a moment."""
    return time.monotonic() * 1000


def cut(raw: bytes, at: int, *then: Any) -> Play:
    """Send the first *at* bytes of *raw*, and end it."""
    return script(raw[:at], *then)


def head(**headers: str) -> bytes:
    """Spell a head of a file's reply, with underscores for dashes, and no length unless it is given."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: image/png", *lines, "", ""]).encode()


def says(status: int, body: bytes = b"", **headers: str) -> Play:
    """Answer with a status and headers, underscores being dashes."""
    return answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


GARBAGE = Row(cause="wrong_content")
CUTS: dict[str, Row] = {
    "length, cut": Row(fetched=cut(WHOLE, FAR, close)),
    "length, cut by one byte": Row(fetched=cut(WHOLE, len(WHOLE) - 1, close)),
    "length, half closed": Row(fetched=cut(WHOLE, FAR, half_close, stall)),
    "chunked, cut in a size": Row(fetched=script(CHUNKS + PIECE + b"1", close)),
    "chunked, cut after a size": Row(fetched=script(CHUNKS + PIECE + b"10\r\n", close)),
    "chunked, cut in the data": Row(fetched=cut(CHUNKED, FAR, close)),
    "chunked, cut after the data": Row(fetched=script(CHUNKS + PIECE[:-2], close)),
    "chunked, cut before the last": Row(fetched=script(CHUNKS + PIECE, close)),
    "chunked, cut in the trailers": Row(fetched=script(CHUNKS + PIECE + b"0\r\nX-Trailer: 1", close)),
    "chunked, a size that is none": Row(fetched=script(CHUNKS + PIECE + b"0x10\r\n", close)),
    "chunked, a size that is negative": Row(fetched=script(CHUNKS + PIECE + b"-1\r\n", close)),
    "close-delimited, cut": Row(
        fetched=cut(CLOSE + FILE, FAR, close), cause="wrong_content", said="nothing vouches", knobs={"unframed": "refuse"}
    ),
}


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def _live(it: Spine, row: Row, plays: Callable[[Play], list[Play]]) -> dict[str, Any]:
    """Let the bad order and the healthy ones live; the latter are there once the former's trouble has begun."""
    it.good("bad", FILE)
    for task_id in HEALTHY:
        it.good(task_id, task_id.encode())
    if row.link is not None:
        it.server.on("/api/tasks/bad", answer(200, it.ready("bad", row.link)))
    for path, play in (("/api/tasks/bad", row.asked), ("/files/bad", row.fetched)):
        if play is not None:
            it.server.on(path, *plays(play))
    await it.shop.add("bad")
    troubled = "/files/bad" if row.fetched else "/api/tasks/bad"
    while not it.server.asked(troubled):
        await asyncio.sleep(0)
    began = time.monotonic()
    await it.shop.add(*HEALTHY)
    healthy = await it.shop.rest(*HEALTHY)
    assert time.monotonic() - began < 3.0
    for task_id in HEALTHY:
        seen = healthy[task_id]
        assert (seen["state"], seen["checks"], seen["attempts"]) == ("done", 1, 0), seen
        assert it.asked(task_id) == (1, 1)
    return (await it.shop.rest("bad"))["bad"]


@pytest.mark.parametrize("name", CUTS)
async def test_row(name: str, tmp_path: Path, watch: Watch) -> None:
    row = CUTS[name]
    async with spine(tmp_path, watch, **row.knobs) as it:
        order = await _live(it, row, lambda play: [play])
        print(name, order["state"], order["cause"], order["attempts"], it.asked("bad"), order["reason"])
        assert not [line for line in it.lines if line["event"] in ("remote_paused", "local_fault")]
    assert not it.leaked
