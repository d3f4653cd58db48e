"""One request out, one response in: dialling, redirects, and other people's exceptions made ours.

Addresses come from two kinds of people. The operator configured some origins; those may
be private or plain http. Everything else is a remote's word, and a remote may lie or be
lied to: such an address must be https, and the socket about to be connected must go to
a public address. That is decided at dial time, on the address that will be dialled, so
that neither an odd spelling nor a name that resolves differently the second time slips by.
"""

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from functools import partial
from itertools import cycle
from typing import Any, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp

from poller import __version__
from poller.address import Origin, bare, is_public
from poller.digest import Block
from poller.exchange import Exchange, Response, Unreadable
from poller.governor import Governor
from poller.outcome import Locked, Stuck, Trouble, Unsafe
from poller.remote import Aborted, Request
from poller.shield import finish
from poller.tap import Tap

T = TypeVar("T")

BLOCK = 2**20
"""Bytes gathered before they are handed on: each write is a thread's errand, so few large ones win."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LISTS = frozenset(
    {"content-encoding", "transfer-encoding", "digest", "repr-digest", "content-digest", "x-goog-hash", "ratelimit"}
)
_HOPS = 5
_FLOOR_WINDOW = 30.0
_NOT_PUBLIC = "is not a public address"
_LOCAL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Body:
    """A response whose body is still to come; a context that lets go of its connection in the end.

    Attributes:
        status: HTTP status.
        url: the address that answered, after redirects.
        headers: names in lower case; of a repeated header, the first.
        length: bytes announced, if they were.
        framed: whether the end of the body can be told from a cut connection.
    """

    def __init__(self, response: Response, url: str, floor: Callable[[], "Floor"]) -> None:
        self._response = response
        self._floor = floor
        self.status = response.status
        self.url = url
        self.headers: Mapping[str, str] = _headers(response)
        length = self.headers.get("content-length")
        self.length = None if length is None else int(length)
        self.framed = length is not None or "chunked" in self.headers.get("transfer-encoding", "").lower()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the connection."""
        self._response.release()

    async def blocks(self, size: int = BLOCK) -> AsyncGenerator[Block, None]:
        """Give the body in blocks of about *size* bytes; each is good until the next is asked for.

        Raises:
            Aborted: it stopped before its end, or for too long.
        """
        floor = self._floor()
        came, tap = self._tapped()
        if tap is None:
            blocks: AsyncGenerator[Block, None] = self._gathered(came, size, floor)
        else:
            blocks = ahead(self._drawn(came, tap, size, floor))
        async with aclosing(blocks):
            async for block in blocks:
                yield block

    def _tapped(self) -> tuple[bytes, Tap | None]:
        """Take the rest of a body straight from its socket if its length is known."""
        if self.length is None or "transfer-encoding" in self.headers:
            return b"", None
        try:
            return self._response.tap(self.length)
        except _THROWN as error:
            raise _ours(error, self.url, own=False) from None

    async def _gathered(self, came: bytes, size: int, floor: "Floor") -> AsyncGenerator[Block, None]:
        pieces, gathered, cut = [came], len(came), None
        try:
            while piece := await self._piece():
                floor.pass_on(len(piece), self.url)
                pieces.append(piece)
                gathered += len(piece)
                if gathered >= size:
                    block, pieces, gathered = b"".join(pieces), [], 0
                    with floor.stopped():
                        yield block
            self._demand_end()
        except Aborted as aborted:  # what came before it is worth keeping
            cut = aborted
        if gathered:
            yield b"".join(pieces)
        if cut is not None:
            raise cut

    async def _drawn(self, came: bytes, tap: Tap, size: int, floor: "Floor") -> AsyncGenerator[Block, None]:
        rooms = cycle([memoryview(bytearray(max(size, len(came)))) for _ in range(2)])
        room, filled, cut = next(rooms), len(came), None
        room[:filled] = came
        while tap.left and cut is None:
            try:
                while filled < size and tap.left:
                    filled += await self._draw(tap, room[filled:], floor)
            except Aborted as aborted:  # what came before it is worth keeping
                cut = aborted
            if filled:
                with floor.stopped():
                    yield room[:filled]
            room, filled = next(rooms), 0
        if cut is not None:
            raise cut

    async def _draw(self, tap: Tap, room: memoryview, floor: "Floor") -> int:
        try:
            count = await tap.draw(room)
        except _THROWN as error:
            raise _ours(error, self.url, own=False) from None
        floor.pass_on(count, self.url)
        return count

    def _demand_end(self) -> None:
        """Make sure that a body which nothing but its end ends was not cut there, as far as the connection tells."""
        if not self.framed and self._response.was_cut():
            raise Aborted(Trouble(reason="the connection was cut where the body ended", address=bare(self.url)))

    async def read(self, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            Aborted: it stopped before its end, or it is longer than *limit* bytes.
        """
        whole = bytearray()
        while piece := await self._piece():
            whole += piece
            if len(whole) > limit:
                reason = f"the reply is longer than {limit} bytes"
                raise Aborted(Trouble(reason=reason, status=self.status, address=bare(self.url)))
        return bytes(whole)

    async def _piece(self) -> bytes:
        """Give more of the body, and nothing at its end."""
        try:
            return await self._response.more()
        except _THROWN as error:
            raise _ours(error, self.url, own=False) from None


async def ahead(blocks: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Get each block while the one before it is dealt with."""
    step = asyncio.ensure_future(anext(blocks, None))
    try:
        while (block := await step) is not None:
            step = asyncio.ensure_future(anext(blocks, None))
            yield block
    finally:
        step.cancel()
        await finish(asyncio.wait([step]))
        if not step.cancelled():
            step.exception()
        await blocks.aclose()


class Floor:
    """Gives up a transfer that drips: one byte now and then never trips an idle timeout.

    Only the remote's time counts, not what we take to deal with what has come.

    Args:
        rate: bytes per second that must be reached over every window.
        window: seconds.
        clock: monotonic seconds.
    """

    def __init__(self, *, rate: float, window: float, clock: Callable[[], float]) -> None:
        self._least = rate * window
        self._window = window
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._since, self._passed = self._clock(), 0

    def pass_on(self, count: int, url: str) -> None:
        """Count bytes; at the end of a window, see whether they were enough.

        Raises:
            Aborted: they were not.
        """
        self._passed += count
        if self._clock() - self._since < self._window:
            return
        if self._passed < self._least:
            reason = f"fewer than {self._least:.0f} bytes came in {self._window:.0f} s"
            raise Aborted(Trouble(reason=reason, address=bare(url)))
        self._begin()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let time pass uncounted."""
        began = self._clock()
        yield
        self._since += self._clock() - began


class Wire:
    """Sends requests to one remote and to wherever its links lead.

    Args:
        base: the only origin that credentials are sent to.
        origins: what the operator configured.
        connections: how many may be open at once.
        idle_timeout: seconds without a byte after which a connection is given up.
        floor_rate: bytes per second below which a transfer is given up.
        clock: monotonic seconds.
        governor: lets requests go; without one, all of them at once.
    """

    def __init__(
        self,
        *,
        base: Origin,
        origins: frozenset[Origin],
        connections: int,
        idle_timeout: float,
        floor_rate: float,
        clock: Callable[[], float],
        governor: Governor | None = None,
    ) -> None:
        self._base = base
        self._governor = governor or Governor(now=time.time, clock=clock)
        self._origins = origins
        self._floor = partial(Floor, rate=floor_rate, window=_FLOOR_WINDOW, clock=clock)
        self._own = _exchange(connections, idle_timeout)
        self._foreign = _exchange(connections, idle_timeout, socket_factory=_public_socket)

    async def close(self) -> None:
        """Close every connection."""
        await self._own.close()
        await self._foreign.close()

    async def send(self, request: Request, credentials: Mapping[str, str], *, roam: bool = False) -> Body:
        """Send *request*, following redirects by hand.

        Args:
            request: what to send.
            credentials: headers that go to the remote's own origin and nowhere else.
            roam: whether a redirect may leave the origin it came from.

        Returns:
            The response; whoever gets it lets go of it.

        Raises:
            Aborted: it could not be sent, led astray, or was not answered.
        """
        url = request.url
        for _ in range(_HOPS + 1):
            body = await self._hop(request, url, credentials, roam=roam)
            location = _location(body) if request.method == "GET" else None
            if location is None:
                return body
            body.release()
            url = self._followed(url, location, roam=roam)
            if Origin.of(url) != self._base:
                credentials = {}  # nor do they go along if it leads back: whoever leads us chose the address
        raise Aborted(Unsafe(reason=f"more than {_HOPS} redirects", address=bare(request.url)))

    async def _hop(self, request: Request, url: str, credentials: Mapping[str, str], *, roam: bool) -> Body:
        """Ask one address."""
        origin = self._admitted(url)
        await self._governor.turn(patient=roam)
        own = origin in self._origins
        headers = {**request.headers, **(credentials if origin == self._base else {})}
        exchange = self._own if own else self._foreign
        try:
            response = await exchange.send(request.method, url, origin, headers, request.body)
        except _THROWN as error:
            raise _ours(error, url, own=own) from None
        body = Body(response, url.partition("#")[0], self._floor)
        if own:
            self._governor.heard(body.status, body.headers, own=origin == self._base)
        return body

    def _admitted(self, url: str) -> Origin:
        try:
            origin = Origin.of(url)
        except ValueError as error:
            raise Aborted(Unsafe(reason=f"the address cannot be followed: {error}", address=bare(url))) from None
        if not url.isprintable():
            raise Aborted(Unsafe(reason=f"the address cannot be followed: {bare(url)!a} is no plain text"))
        if origin.scheme != "https" and origin not in self._origins:
            raise Aborted(Unsafe(reason="the address is plain http and not one of ours", address=bare(url)))
        return origin

    def _followed(self, url: str, location: str, *, roam: bool) -> str:
        target = _absolute(url, location)
        here, there = self._admitted(url), self._admitted(target)
        if here.scheme == "https" and there.scheme != "https":
            raise Aborted(Unsafe(reason="a redirect leads from https to http", address=bare(target)))
        if not roam and here != there:
            raise Aborted(Unsafe(reason=f"a redirect leads from {here} to {there}", address=bare(target)))
        return target


def _headers(response: Response) -> dict[str, str]:
    """Give the first of each header; of those that say how a body is encoded or digested, all (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for spelled, value in response.headers.items():
        name = spelled.lower()
        if name not in headers:
            headers[name] = value
        elif name in _LISTS:
            headers[name] += f", {value}"
    return headers


def _exchange(connections: int, idle_timeout: float, **dialling: Any) -> Exchange:
    """Open an exchange that asks for bodies as they are: lengths, ranges and digests are of what comes."""
    headers = {"User-Agent": f"poller/{__version__}", "Accept-Encoding": "identity"}
    return Exchange(connections=connections, idle_timeout=idle_timeout, headers=headers, ahead=BLOCK // 2, **dialling)


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for one dial, unless the address about to be dialled is an inner one."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise OSError(errno.EACCES, f"{address[0]} {_NOT_PUBLIC}")
    return socket.socket(family=family, type=kind, proto=protocol)


def _location(body: Body) -> str | None:
    return body.headers.get("location") or None if body.status in _REDIRECTS else None


def _absolute(url: str, location: str) -> str:
    """Complete a redirect's address; one that is complete, or no address at all, is left as it is."""
    try:
        return location if urlsplit(location).scheme or not location.isprintable() else urljoin(url, location)
    except ValueError:
        return location


_THROWN = (aiohttp.ClientError, Unreadable, OSError, ValueError)
"""What the network throws: TimeoutError and ssl.SSLError are OSErrors, UnicodeError and InvalidURL are ValueErrors."""


def _ours(error: Exception, url: str, *, own: bool) -> Aborted:
    """Turn what the network threw into an outcome; texts that hold the address are not passed on.

    Args:
        error: what it threw.
        url: what was asked.
        own: whether its operator is the one who can mend its certificate.
    """
    address = bare(url)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = f"the certificate is not valid: {error.certificate_error}"
            return Aborted((Locked if own else Trouble)(reason=reason, address=address))
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | UnicodeError():
            return Aborted(Unsafe(reason="the address cannot be followed", address=address))
        case aiohttp.ClientConnectorError() if _NOT_PUBLIC in str(error.os_error):
            return Aborted(Unsafe(reason=f"the address {_NOT_PUBLIC}", address=address))
        case OSError() if error.errno in _LOCAL:
            return Aborted(Stuck(reason=f"our own machine: {os.strerror(error.errno)}", address=address))
        case _:
            return Aborted(Trouble(reason=_said(error), address=address))


def _said(error: Exception) -> str:
    """Say what went wrong without the address, which may be signed."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return f"the connection failed: {error.strerror}"
    return f"the request failed ({type(error).__name__})"


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host's name cannot be resolved"),
    (aiohttp.ClientSSLError, "no secure connection could be made"),
    (aiohttp.ClientPayloadError, "the body stopped before its end"),
    (aiohttp.ServerDisconnectedError, "the remote closed the connection"),
    (ConnectionResetError, "the remote closed the connection"),
    (TimeoutError, "the remote went silent"),
    (Unreadable, "the reply is no HTTP that can be read"),
)
