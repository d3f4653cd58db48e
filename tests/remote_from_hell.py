"""A script language for ``hostile``: what a server does to one request, act by act.

A script is a list of acts, bytes being what is sent::

    script(HEAD, drip(BODY), until(healthy_are_done), rst)

What follows is the order in which it is done. A script that does not end the connection keeps it.
Nothing here knows HTTP; ``hostile.reply`` spells what is well-formed, and a slice of that is a cut reply.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from tests.hostile import Play, Seen, reset

Act: TypeAlias = bytes | Callable[[Seen, asyncio.StreamWriter], Awaitable[bool | None]]
"""Bytes to be sent, or something else that is done; it gives whether the connection may be used again, or goes on."""

TICK = 0.01
"""Seconds between two bytes of a drip."""


def script(*acts: Act) -> Play:
    """Do *acts*, one after the other."""

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        for act in acts:
            done = await (send(act) if isinstance(act, bytes) else act)(seen, writer)
            if done is not None:
                return done
        return True

    return play


def send(raw: bytes) -> Act:
    """Send *raw*."""

    async def act(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return act


def echo(write: Callable[[Seen], bytes]) -> Act:
    """Send what *write* makes of the request."""

    async def act(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(write(seen))

    return act


def drip(raw: bytes | Iterable[bytes], tick: float = TICK) -> Act:
    """Send *raw* byte by byte (or piece by piece), one each *tick*."""

    async def act(_: Seen, writer: asyncio.StreamWriter) -> None:
        for piece in raw if not isinstance(raw, bytes) else (bytes([byte]) for byte in raw):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(tick)

    return act


def endless(piece: bytes) -> Act:
    """Send *piece* for as long as anybody listens."""

    async def act(_: Seen, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return act


def until(event: asyncio.Event) -> Act:
    """Go on once something has happened."""

    async def act(_: Seen, __: asyncio.StreamWriter) -> None:
        await event.wait()

    return act


def marks(event: asyncio.Event) -> Act:
    """Say that the script has come this far."""

    async def act(_: Seen, __: asyncio.StreamWriter) -> None:
        event.set()

    return act


async def stall(_: Seen, __: asyncio.StreamWriter) -> None:
    """Say nothing more, until the server is closed."""
    await asyncio.Event().wait()


async def close(_: Seen, __: asyncio.StreamWriter) -> bool:
    """End the connection as one should: over TLS with a goodbye."""
    return False


async def half_close(_: Seen, writer: asyncio.StreamWriter) -> None:
    """Say that nothing more will come, and go on listening."""
    writer.write_eof()


async def rst(_: Seen, writer: asyncio.StreamWriter) -> bool:
    """Reset the connection, once the client's side of it has all that was sent."""
    await _arrived(writer)
    reset(writer)
    return False


async def hang_up(_: Seen, writer: asyncio.StreamWriter) -> bool:
    """End the connection without TLS's goodbye (close_notify): what a cut looks like there."""
    await _arrived(writer)
    writer.transport.abort()
    return False


async def _arrived(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has passed everything on, and give the client, who shares our loop, some turns."""
    handle = writer.get_extra_info("socket").fileno()
    while handle >= 0 and struct.unpack("i", fcntl.ioctl(handle, termios.TIOCOUTQ, bytes(4)))[0]:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
