"""A server that says, byte for byte, what its script tells it to, and remembers what it was sent.

Real sockets on loopback, no HTTP library on this side: whatever a server can get wrong, it can be told
to get wrong. A *play* answers one request; a path has a list of plays, the last of which is repeated.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """One request as it came."""

    method: str
    target: bytes
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.decode("latin-1").partition("?")[0]

    def header(self, name: str) -> str | None:
        """Give a header's value; None if it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


Play = Callable[[Seen, asyncio.StreamWriter], Awaitable[bool]]
"""Answers; tells whether the connection may be used again."""


def reply(
    status: int = 200,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    framing: str = "length",
) -> bytes:
    """Spell a reply; *framing* is ``length``, ``chunked`` or ``close`` (nothing tells where it ends)."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    match framing:
        case "length":
            lines.append(f"Content-Length: {len(body)}")
        case "chunked":
            lines.append("Transfer-Encoding: chunked")
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        case "close":
            lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def say(raw: bytes, *, then: str = "keep") -> Play:
    """Send *raw*, and then ``keep`` the connection, ``close`` it, ``reset`` it, or ``hold`` it in silence."""

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(raw)
        await writer.drain()
        if then == "reset":
            reset(writer)
        elif then == "hold":
            await asyncio.Event().wait()
        return then == "keep"

    return play


def answer(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None, **more: Any) -> Play:
    """Send a well-formed reply."""
    raw = reply(status, body, headers, **more)
    return say(raw, then="close" if more.get("framing") == "close" else "keep")


def endlessly(head: bytes, piece: bytes) -> Play:
    """Send *head* and then *piece* for as long as anybody listens."""

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return play


def reset(writer: asyncio.StreamWriter) -> None:
    """Make the close of this connection a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Hostile:
    """The server.

    Attributes:
        base: its address.
        seen: requests, in the order in which they came.
        dials: connections that were made to it.
    """

    def __init__(self) -> None:
        self.base = ""
        self.seen: list[Seen] = []
        self.dials = 0
        self._plays: dict[str, list[Play]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def on(self, path: str, *plays: Play) -> None:
        """Answer requests for *path* with *plays*, one after the other."""
        self._plays[path] = list(plays)

    def asked(self, path: str) -> list[Seen]:
        """Give the requests for *path*."""
        return [seen for seen in self.seen if seen.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.dials += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._play(reader, writer):
                    pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        begin = await reader.readexactly(1)
        if begin == b"\x16":  # a TLS handshake, where nobody knows TLS
            return await say(reply(400), then="close")(Seen("", b"", (), b""), writer)
        head = (begin + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        seen = Seen(method, target.encode("latin-1"), headers, await reader.readexactly(length))
        self.seen.append(seen)
        plays = self._plays.get(seen.path) or self._plays.get("*") or [answer(404)]
        return await (plays.pop(0) if len(plays) > 1 else plays[0])(seen, writer)

    async def close(self) -> None:
        """Hang up on everybody."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def hostile(**listening: Any) -> AsyncIterator[Hostile]:
    """Run a server; *listening* may bring an ``ssl`` context."""
    server = Hostile()
    listener = await asyncio.start_server(server._serve, "127.0.0.1", 0, **listening)
    scheme = "https" if "ssl" in listening else "http"
    server.base = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.close()
