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
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from poller import __version__
from poller.address import Origin, bare, is_public
from poller.governor import Governor
from poller.outcome import Locked, Stuck, Trouble, Unsafe
from poller.remote import Aborted, Request

BLOCK = 2**20
"""Bytes gathered before they are handed on: each write is a thread's errand, so few large ones win."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LISTS = frozenset(
    {"content-encoding", "transfer-encoding", "digest", "repr-digest", "content-digest", "x-goog-hash", "ratelimit"}
)
_HOPS = 5
_CONNECT_TIMEOUT = 15.0
_PATIENCE = 60.0
"""For dialling and the head of a reply, and for each piece of its body: a trickle of headers, of 1xx replies or
of a chunk's size never idles, and yet brings nothing."""
_FLOOR_WINDOW = 30.0
_NOT_PUBLIC = "is not a public address"
_LOCAL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Body:
    """A response whose body is still to come.

    Attributes:
        status: HTTP status.
        url: the address that answered, after redirects.
        headers: names in lower case; of a repeated header, the first.
        length: bytes announced, if they were.
        framed: whether the end of the body can be told from a cut connection.
    """

    def __init__(self, response: aiohttp.ClientResponse, floor: "Floor", patience: float) -> None:
        self._response = response
        self._floor = floor
        self._patience = patience
        self.status = response.status
        self.url = str(response.url)
        self.headers: Mapping[str, str] = _headers(response)
        self.length = response.content_length
        self.framed = self.length is not None or "chunked" in self.headers.get("transfer-encoding", "").lower()

    async def blocks(self, size: int = BLOCK) -> AsyncGenerator[bytes, None]:
        """Give the body in blocks of at least *size* bytes, the last one excepted.

        Raises:
            Aborted: it stopped before its end, or for too long.
        """
        gathered = bytearray()
        with _ours(self.url, own=False):
            while piece := await self._piece():
                self._floor.pass_on(len(piece), self.url)
                gathered += piece
                if len(gathered) >= size:
                    with self._floor.stopped():
                        yield bytes(gathered)
                    gathered.clear()
        if gathered:
            yield bytes(gathered)

    async def _piece(self) -> bytes:
        """Wait for more of the body; give nothing at its end."""
        async with asyncio.timeout(self._patience):
            return await self._response.content.readany()

    async def read(self, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            Aborted: it stopped before its end, or it is longer than *limit* bytes.
        """
        whole = bytearray()
        async with aclosing(self.blocks(BLOCK // 16)) as blocks:
            async for block in blocks:
                whole += block
                if len(whole) > limit:
                    reason = f"the reply is longer than {limit} bytes"
                    raise Aborted(Trouble(reason=reason, status=self.status, address=bare(self.url)))
        return bytes(whole)


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
        self._since = clock()
        self._passed = 0

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
        self._since, self._passed = self._clock(), 0

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
        self._floor_rate = floor_rate
        self._clock = clock
        self._patience = max(_PATIENCE, 2 * idle_timeout)
        self._own = _session(connections, idle_timeout)
        self._foreign = _session(connections, idle_timeout, socket_factory=_public_socket)

    async def close(self) -> None:
        """Close every connection."""
        await self._own.close()
        await self._foreign.close()

    @asynccontextmanager
    async def send(
        self, request: Request, credentials: Mapping[str, str], *, roam: bool = False
    ) -> AsyncIterator[Body]:
        """Send *request*, following redirects by hand.

        Args:
            request: what to send.
            credentials: headers that go to the remote's own origin and nowhere else.
            roam: whether a redirect may leave the origin it came from.

        Raises:
            Aborted: it could not be sent, led astray, or was not answered.
        """
        url = request.url
        for _ in range(_HOPS + 1):
            async with self._hop(request, url, credentials, roam=roam) as body:
                location = _location(body) if request.method == "GET" else None
                if location is None:
                    yield body
                    return
            url = self._followed(url, location, roam=roam)
            if Origin.of(url) != self._base:
                credentials = {}  # nor do they go along if it leads back: whoever leads us chose the address
        raise Aborted(Unsafe(reason=f"more than {_HOPS} redirects", address=bare(request.url)))

    @asynccontextmanager
    async def _hop(
        self, request: Request, url: str, credentials: Mapping[str, str], *, roam: bool
    ) -> AsyncIterator[Body]:
        origin = self._admitted(url)
        await self._governor.turn(patient=roam)
        own = origin in self._origins
        headers = {**request.headers, **(credentials if origin == self._base else {})}
        with _ours(url, own=own):
            async with asyncio.timeout(self._patience):
                response = await (self._own if own else self._foreign).request(
                    request.method,
                    URL(url, encoded=True),
                    headers=headers,
                    data=request.body,
                    allow_redirects=False,
                )
        async with response:
            floor = Floor(rate=self._floor_rate, window=_FLOOR_WINDOW, clock=self._clock)
            body = Body(response, floor, self._patience)
            if own:
                self._governor.heard(body.status, body.headers, own=origin == self._base)
            yield body

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


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Give the first of each header; of those that say how a body is encoded or digested, all (RFC 9110, 5.3)."""
    headers = {name.lower(): response.headers[name] for name in response.headers}
    for name in headers.keys() & _LISTS:
        headers[name] = ", ".join(response.headers.getall(name))
    return headers


def _session(connections: int, idle_timeout: float, **dialling: Any) -> aiohttp.ClientSession:
    """Open a session that adds nothing of its own: no cookies, proxies, decoding, redirects or rewriting."""
    connector = aiohttp.TCPConnector(limit=connections, limit_per_host=connections, **dialling)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        requote_redirect_url=False,
        headers={"User-Agent": f"poller/{__version__}", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=_CONNECT_TIMEOUT, sock_read=idle_timeout),
    )


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


@contextmanager
def _ours(url: str, *, own: bool) -> Iterator[None]:
    """Turn what the network throws into an outcome; texts that hold the address are not passed on."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        reason = f"the certificate is not valid: {error.certificate_error}"
        outcome = Locked if own else Trouble
        raise Aborted(outcome(reason=reason, address=bare(url))) from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError):
        raise Aborted(Unsafe(reason="the address cannot be followed", address=bare(url))) from None
    except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError, ValueError) as error:
        _give_up(error, url)


def _give_up(error: Exception, url: str) -> NoReturn:
    if isinstance(error, aiohttp.ClientConnectorError) and _NOT_PUBLIC in str(error.os_error):
        raise Aborted(Unsafe(reason=f"the address {_NOT_PUBLIC}", address=bare(url))) from None
    if isinstance(error, OSError) and error.errno in _LOCAL:
        raise Aborted(Stuck(reason=f"our own machine: {os.strerror(error.errno)}", address=bare(url))) from None
    raise Aborted(Trouble(reason=_said(error), address=bare(url))) from None


def _said(error: Exception) -> str:
    """Say what went wrong without the address, which may be signed."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    return f"the request failed ({type(error).__name__})"


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host's name cannot be resolved"),
    (aiohttp.ClientSSLError, "no secure connection could be made"),
    (aiohttp.ClientPayloadError, "the body stopped before its end"),
    (aiohttp.ServerDisconnectedError, "the remote closed the connection"),
    (ConnectionResetError, "the remote closed the connection"),
    (TimeoutError, "the remote went silent"),
    (aiohttp.ClientResponseError, "the reply is no HTTP that can be read"),
)
