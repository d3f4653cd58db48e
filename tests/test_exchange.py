"""One head out, one head in: what stands on the wire, and what becomes of connections."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest

from poller.address import Origin
from poller.exchange import Exchange, Response
from tests.hostile import Hostile, answer, hostile, say

OURS = {"User-Agent": "poller/test", "Accept-Encoding": "identity"}


@asynccontextmanager
async def exchanging() -> AsyncIterator[Exchange]:
    """Open an exchange of one connection, so that whoever does not let go of it stops the next."""
    exchange = Exchange(connections=1, idle_timeout=5.0, headers=OURS)
    try:
        yield exchange
    finally:
        await exchange.close()
        await asyncio.sleep(0)


async def send(
    exchange: Exchange,
    server: Hostile,
    path: str = "/x",
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> Response:
    """Send a request; give the response."""
    return await exchange.send(method, server.base + path, Origin.of(server.base), headers or {}, body)


async def test_a_request_has_the_headers_that_it_needs_and_no_more() -> None:
    """Ours stand in for aiohttp's, the request's own for ours, however they are spelled."""
    async with hostile() as server, exchanging() as exchange:
        server.on("*", answer(200))
        (await send(exchange, server)).release()
        (await send(exchange, server, headers={"user-agent": "me", "accept": "a/b", "X-Y": "ü"})).release()
        host = server.base.removeprefix("http://")
        first, second = (dict(seen.headers) for seen in server.seen)
        assert first == {"Host": host, "Accept": "*/*", **OURS}
        assert second == {
            "Host": host,
            "accept": "a/b",
            "user-agent": "me",
            "Accept-Encoding": "identity",
            "X-Y": "ü".encode().decode("latin-1"),
        }


@pytest.mark.parametrize(
    ("method", "body", "length", "kind"),
    [
        ("GET", None, None, None),
        ("HEAD", None, None, None),
        ("POST", None, "0", None),
        ("POST", b"", "0", None),
        ("PUT", b"ab", "2", "application/octet-stream"),
    ],
)
async def test_a_body_is_announced(method: str, body: bytes | None, length: str | None, kind: str | None) -> None:
    """Who sends none says so where one may be expected (RFC 9110, 8.6)."""
    async with hostile() as server, exchanging() as exchange:
        server.on("/x", say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        for _ in range(2):
            (await send(exchange, server, method=method, body=body)).release()
        for seen in server.seen:
            assert (seen.method, seen.body) == (method, body or b"")
            assert (seen.header("content-length"), seen.header("content-type")) == (length, kind)
        assert server.dials == 1


async def test_the_answer_to_a_head_has_no_body() -> None:
    """Whatever length it names; the connection is good for the next."""
    async with hostile() as server, exchanging() as exchange:
        server.on("/x", say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))
        for _ in range(2):
            response = await send(exchange, server, method="HEAD")
            assert (await response.more(), response.headers["Content-Length"]) == (b"", "9")
            response.release()
        assert server.dials == 1


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", b"/"),
        ("?x=1", b"/?x=1"),
        ("#f", b"/"),
        ("/a%2f?b?c#d?e#f", b"/a%2f?b?c"),
        ("/?", b"/?"),
        ("/a://b", b"/a://b"),
    ],
)
async def test_a_target_is_what_follows_the_host(path: str, target: bytes) -> None:
    """All of it, but for the fragment, which is nobody's business but ours."""
    async with hostile() as server, exchanging() as exchange:
        server.on("*", answer(200))
        (await send(exchange, server, path)).release()
        assert server.seen[0].target == target


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_a_header_of_several_lines_is_refused(value: str) -> None:
    """Nobody puts a header of his own behind one of ours, or in its name."""
    async with hostile() as server, exchanging() as exchange:
        for headers in ({"X": value}, {value: "x"}):
            with pytest.raises(ValueError, match="line break"):
                await send(exchange, server, headers=headers)
        assert server.dials == 0


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_question_goes_out_again_when_its_connection_was_gone(then: str) -> None:
    """Once: a remote may close what is kept at any time. What is no question may have been heard."""
    async with hostile() as server, exchanging() as exchange:
        server.on("/x", answer(200), say(b"", then=then), answer(200), say(b"", then=then))
        for _ in range(2):
            response = await send(exchange, server)
            assert response.status == 200
            response.release()
        assert (len(server.seen), server.dials) == (3, 2)
        for method, asked in (("GET", 2), ("POST", 1), ("GET", 1)):  # the last two on fresh ones
            server.seen.clear()
            with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
                await send(exchange, server, method=method)
            assert len(server.seen) == asked


async def test_a_connection_is_kept_if_its_reply_came_whole_and_closed_if_not() -> None:
    """Half of a body must not be read as the next head."""
    async with hostile() as server, exchanging() as exchange:
        server.on("/whole", answer(200, b"x" * 10))
        server.on("/half", say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
        for path, dials in (("/whole", 1), ("/whole", 1), ("/half", 1), ("/whole", 2)):
            response = await send(exchange, server, path)
            if path == "/whole":
                assert await response.more() == b"x" * 10
            response.release()
            assert server.dials == dials


async def test_whoever_gives_up_waiting_lets_go_of_the_connection() -> None:
    """The next one is not kept waiting."""
    async with hostile() as server, exchanging() as exchange:
        server.on("/never", say(b"", then="hold"))
        server.on("/x", answer(200))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await send(exchange, server, "/never")
        async with asyncio.timeout(5):
            (await send(exchange, server)).release()


async def test_a_reply_that_switches_protocols_is_a_reply() -> None:
    """101 is the last word about HTTP (RFC 9110, 15.2.2), and the connection is good for nothing else."""
    async with hostile() as server, exchanging() as exchange:
        server.on("/x", say(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), answer(200))
        for status in (101, 200):
            response = await send(exchange, server)
            assert response.status == status
            response.release()
        assert server.dials == 2
