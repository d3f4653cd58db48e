"""The tap: a large body taken straight from its socket is whole or refused, and its connection is good or closed."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest

from poller.body import BLOCK, Body
from poller.outcome import Trouble
from poller.remote import Aborted, Request
from poller.tap import Tap
from poller.wire import Wire
from tests.grafx import grafx, wired
from tests.hostile import Hostile, Seen, answer, hostile, reply, say

SIZE = 3 * BLOCK + 7
SENT = os.urandom(SIZE)


@pytest.fixture(params=["plain", "tls"])
def listening(request: pytest.FixtureRequest, tls: ssl.SSLContext, trusted: None) -> dict[str, Any]:
    """Say how the server listens."""
    return {"ssl": tls} if request.param == "tls" else {}


@asynccontextmanager
async def served(listening: dict[str, Any], **more: Any) -> AsyncIterator[tuple[Hostile, Wire]]:
    """Run a server, and a wire to it."""
    async with hostile(**listening) as server, wired(grafx(server.base), **more) as wire:
        yield server, wire


async def opened(wire: Wire, server: Hostile, path: str = "/x") -> Body:
    """Open an address."""
    return await wire.send(Request(method="GET", url=f"{server.base}{path}"), {})


async def taken(body: Body, into: bytearray | None = None) -> bytes:
    """Take a body whole, and whatever comes of it into a buffer."""
    came = bytearray() if into is None else into
    async for block in body.blocks():
        came += block
    return bytes(came)


def handles() -> int:
    """Count the open files of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone


async def test_its_connection_carries_the_next_request(listening: dict[str, Any]) -> None:
    """A dial for every large file would cost a handshake each; no handle is left of the tap."""
    async with served(listening) as (server, wire):
        server.on("/x", answer(200, SENT))
        before = None
        for _ in range(3):
            with await opened(wire, server) as body:
                assert await taken(body) == SENT
            before = before or handles()
        assert (server.dials, handles()) == (1, before)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("missing", [1, BLOCK])
async def test_a_body_that_is_cut_is_trouble_after_all_that_came(
    listening: dict[str, Any], missing: int, then: str
) -> None:
    """What came is handed on first, as far as a reset lets it; the connection is good for nothing."""
    cut = reply(200, SENT)[:-missing]
    async with served(listening) as (server, wire):
        server.on("/x", say(cut, then=then), answer(200, b"next"))
        came = bytearray()
        with await opened(wire, server) as body, pytest.raises(Aborted) as raised:
            await taken(body, came)
        assert isinstance(raised.value.outcome, Trouble)
        assert SENT.startswith(bytes(came))
        assert len(came) == SIZE - missing or then == "reset"
        with await opened(wire, server) as body:
            assert await taken(body) == b"next"
        assert server.dials == 2


async def test_what_follows_a_body_answers_nobody(listening: dict[str, Any]) -> None:
    """Somebody else's reply behind the file would be the answer to the next question."""
    async with served(listening) as (server, wire):
        server.on("/x", say(reply(200, SENT) + reply(200, b"poison")))
        server.on("/next", answer(200, b"good"))
        with await opened(wire, server) as body:
            assert await taken(body) == SENT
        with await opened(wire, server, "/next") as body:
            assert await taken(body) == b"good"


async def test_what_follows_a_body_late_answers_nobody(listening: dict[str, Any]) -> None:
    """A file that grew while it was sent is longer than it was said to be; who asks next would get the rest of it."""
    kept, followed = asyncio.Event(), asyncio.Event()

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(reply(200, SENT))
        await kept.wait()
        writer.write(b"what it grew by")
        await writer.drain()
        followed.set()
        return True

    async with served(listening) as (server, wire):
        server.on("/x", play)
        server.on("/next", answer(200, b"good"))
        with await opened(wire, server) as body:
            assert await taken(body) == SENT
        (((connection, _),),) = wire._own._connector._conns.values()
        assert not connection.should_close
        kept.set()
        await followed.wait()
        async with asyncio.timeout(5):  # before it is closed because nobody uses it
            while not connection.should_close:
                await asyncio.sleep(0)
        with await opened(wire, server, "/next") as body:
            assert await taken(body) == b"good"
        assert server.dials == 2


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_what_has_no_body_is_not_tapped(listening: dict[str, Any], method: str, status: int) -> None:
    """Its length is that of another reply's body (RFC 9110, 8.6): nothing comes, and nothing is waited for."""
    async with served(listening, idle_timeout=5.0) as (server, wire):
        server.on("/x", say(b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n" % (status, SIZE)))
        for _ in range(2):
            with await wire.send(Request(method=method, url=f"{server.base}/x"), {}) as body:
                assert await taken(body) == b""
        assert server.dials == 1


async def test_who_stops_in_the_middle_leaves_no_handle_and_no_connection(listening: dict[str, Any]) -> None:
    """A file larger than it may be is let go of after its first blocks."""
    async with served(listening) as (server, wire):
        server.on("/x", answer(200, SENT))
        with await opened(wire, server) as body:
            blocks = body.blocks()
            assert len(await anext(blocks)) >= BLOCK
            await blocks.aclose()
        with await opened(wire, server) as body:
            assert await taken(body) == SENT
        assert server.dials == 2


async def test_silence_in_the_middle_is_given_up(listening: dict[str, Any]) -> None:
    """The limit is the connection's, whoever reads from it."""
    async with served(listening, idle_timeout=0.2) as (server, wire):
        server.on("/x", say(reply(200, SENT)[: -BLOCK // 2], then="hold"))
        with await opened(wire, server) as body, pytest.raises(Aborted) as raised:
            await taken(body)
        assert isinstance(raised.value.outcome, Trouble)
        assert raised.value.outcome.reason == "the remote went silent"


@asynccontextmanager
async def dripping(server: Hostile, after: int, pause: float) -> AsyncIterator[None]:
    """Stand in for a server, and pass on what it says byte by byte with pauses, once there were enough bytes."""
    passing: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: float = float("inf")) -> None:
        with suppress(OSError), closing(writer):
            while piece := await reader.read(2**16 if left > 0 else 1):
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0 if left > 0 else pause)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection(host.strip("/"), int(port))
        passing.add(asyncio.create_task(pass_on(reader, far[1])))
        passing.add(asyncio.create_task(pass_on(far[0], writer, after)))

    scheme, host, port = server.base.split(":")
    listener = await asyncio.start_server(meet, "127.0.0.1", 0)
    server.base = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        listener.close()
        for task in passing:
            task.cancel()
        await asyncio.wait(passing)


async def test_a_record_that_drips_is_silence(tls: ssl.SSLContext, trusted: None) -> None:
    """Not one byte of the file can be had of it, however many of its own come."""
    async with hostile(ssl=tls) as server, dripping(server, SIZE // 2, 0.02):
        async with wired(grafx(server.base), idle_timeout=0.3) as wire:
            server.on("/x", answer(200, SENT))
            with await opened(wire, server) as body, pytest.raises(Aborted) as raised:
                async with asyncio.timeout(10):
                    await taken(body)
        assert isinstance(raised.value.outcome, Trouble)
        assert raised.value.outcome.reason == "the remote went silent"


async def test_only_what_is_large_and_of_known_length_is_tapped(
    listening: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks have to be parsed, and a small file is here with its head."""
    tapped: list[int] = []
    real = Tap.draw

    async def draw(self: Tap, room: memoryview) -> int:
        count = await real(self, room)
        tapped.append(count)
        return count

    monkeypatch.setattr(Tap, "draw", draw)
    async with served(listening) as (server, wire):
        server.on("/small", answer(200, SENT[: BLOCK // 2]))
        server.on("/chunked", answer(200, SENT, framing="chunked"))
        server.on("/close", answer(200, SENT, framing="close"))
        for path, size in (("/small", BLOCK // 2), ("/chunked", SIZE), ("/close", SIZE)):
            with await opened(wire, server, path) as body:
                assert await taken(body) == SENT[:size]
        assert not tapped
        server.on("/large", answer(200, SENT))
        with await opened(wire, server, "/large") as body:
            assert await taken(body) == SENT
        assert sum(tapped) > BLOCK


@pytest.mark.parametrize("waiting", [True, False])
async def test_nothing_is_left_over_of_who_stops(listening: dict[str, Any], waiting: bool) -> None:
    """The block that is got ahead is given up with its taker, whether he waits for it or is busy with another."""
    async with served(listening) as (server, wire):
        server.on("/x", say(reply(200, SENT)[: -BLOCK // 2], then="hold"))
        with await opened(wire, server) as body:
            if waiting:
                task = asyncio.create_task(taken(body))
                while not (tap := body._response._tap) or tap.left > BLOCK:
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            else:
                blocks = body.blocks()
                await anext(blocks)
                await blocks.aclose()
            assert not [task for task in asyncio.all_tasks() if "anext" in repr(task)]
