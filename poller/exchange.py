"""One head out, one head in, over aiohttp's connections.

aiohttp dials, keeps connections, speaks TLS and parses. Its session is left out: the objects that it
makes around each request, for cookies, redirects, character sets and uploads, of which we want none,
cost more than all the rest of a question. What is kept of it stands here: how a head is written, that
interim replies are passed over, and that a connection which the remote closed while nobody used it is
replaced once. For this we call what aiohttp does not document; so its version is pinned closely.
"""

import re
import ssl
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from poller.address import Origin
from poller.names import Names
from poller.patience import Patience
from poller.tap import Tap, tapped

Unreadable = HttpProcessingError
"""What came is no head."""

_CONNECT_TIMEOUT = 15.0
_DIAL_TIMEOUT = 60.0
"""For all addresses of a name, its lookup, and the wait for a connection that is free."""
_LOOKUPS = 16
"""Names looked up at once: more links than that are seldom followed at once."""
_BEFORE_TARGET = re.compile(r"[^:]+://[^/?#]*")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SWITCHING = 101
_WORTH_TAPPING = 2**20
"""Bytes: a rest that is smaller comes in a few pieces anyhow."""
_NO_BODY = re.compile(rb"HTTP/1\.[01] (?:204|304)(?!\d)")


class Response:
    """A reply whose head has come; its connection is taken until it is released.

    Attributes:
        headers: as they came.
    """

    def __init__(
        self,
        status: int,
        headers: CIMultiDictProxy[str],
        content: aiohttp.StreamReader,
        connection: Connection,
        patience: Patience,
    ) -> None:
        self.status, self.headers = status, headers
        self._content, self._connection, self._patience = content, connection, patience
        self._protocol = connection.protocol
        transport = connection.transport
        self._transport = transport
        self._tls: ssl.SSLObject | None = None if transport is None else transport.get_extra_info("ssl_object")
        self._tap: Tap | None = None

    def tap(self, length: int) -> tuple[bytes, Tap | None]:
        """Give what has come of a body of *length* bytes; the rest flows through the tap, if there can be one.

        Raises:
            aiohttp.ClientError, OSError: what comes from below.
        """
        came = self._content.read_nowait()
        left, transport = length - len(came), self._transport
        if transport is not None and left >= _WORTH_TAPPING and not self._content.is_eof():
            self._tap = tapped(transport, left, self._patience)
        return came, self._tap

    async def more(self) -> bytes:
        """Give what has come of the body, or wait until something does; nothing at its end.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: what comes from below.
        """
        content = self._content
        piece = content.read_nowait()
        if not piece and not content.is_eof():
            with self._patience.limit():
                piece = await content.readany()
        return piece

    def release(self) -> None:
        """Let go of the connection: it is kept for the next request if the body has come whole, and closed if not."""
        if self._tap is not None and self._tap.close():
            self._content.feed_eof()
            if isinstance(self._protocol, _Handler):
                self._protocol.forget()
        self._connection.release()

    def was_cut(self) -> bool:
        """Tell, once the body has ended, whether the connection was reset, or TLS had no goodbye (RFC 9112, 9.8)."""
        error = None if self._protocol is None else self._protocol.exception()
        return isinstance(error, OSError) or not self._goodbye()

    def _goodbye(self) -> bool:
        if self._tls is None:
            return True
        try:
            self._tls.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            pass
        return False


def _is_kept(connection: Connection) -> bool:
    return isinstance(connection.protocol, _Handler) and connection.protocol.used


class _Handler(ResponseHandler):
    """Lets a reply that cannot have a body (RFC 9112, 6.3) have none, whatever follows its head.

    Attributes:
        used: whether its connection has carried a request.
    """

    used = False

    def forget(self) -> None:
        """Leave a reply whose body was tapped: what would parse the rest of it would swallow what comes unasked-for."""
        self._parser = None

    def data_received(self, data: bytes) -> None:
        """Parse what came; what follows the head of such a reply at once is no next one."""
        head, end, rest = data.partition(b"\r\n\r\n") if _NO_BODY.match(data) and self._is_idle() else (data, b"", b"")
        super().data_received(head + end)
        if rest:
            self._should_close = True

    def _is_idle(self) -> bool:
        return self._payload is None or self._payload.is_eof()


class _Connector(aiohttp.TCPConnector):
    """Leaves alone a connection on which something came that nobody had asked for: it would answer the next request."""

    def __init__(self, **dialling: Any) -> None:
        super().__init__(**dialling)
        self._factory = partial(_Handler, loop=self._loop)  # type: ignore[assignment]

    async def _get(self, key: ConnectionKey, traces: list[Any]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is None or not connection.protocol.should_close:
                break
            connection.close()
        return connection


class Exchange:
    """Connections, each of which carries one request at a time.

    Args:
        connections: how many may be open at once.
        idle_timeout: seconds for which a reply's head, and then each piece of its body, may keep us waiting.
        headers: go with every request that has none of that name.
        ahead: half of the bytes of a body that may come before they are asked for.
        dialling: more for ``aiohttp.TCPConnector``.
    """

    def __init__(
        self,
        *,
        connections: int,
        idle_timeout: float,
        headers: Mapping[str, str],
        ahead: int = 2**16,
        **dialling: Any,
    ) -> None:
        self._names = Names(min(connections, _LOOKUPS))
        dialling["resolver"] = self._names
        self._connector = _Connector(limit=connections, limit_per_host=connections, **dialling)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=_DIAL_TIMEOUT, sock_connect=_CONNECT_TIMEOUT)
        self._patience = Patience(idle_timeout)
        self._ahead = ahead
        self._headers = tuple(headers.items())

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()
        await self._names.close()

    async def send(
        self,
        method: str,
        url: str,
        origin: Origin,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        again: bool = True,
    ) -> Response:
        """Send a request and wait for the head of the reply.

        What may not be sent twice goes over a connection of its own: a kept one may close at the same moment.

        Args:
            method: HTTP method, in capitals.
            url: absolute and encoded; what follows the host goes out byte for byte, but for the fragment.
            origin: the address's own.
            headers: of this request.
            body: what to send after the head.
            again: whether it may be sent twice.

        Raises:
            aiohttp.ClientError, Unreadable, OSError, TimeoutError, ValueError: what comes from below.
        """
        door = _door(origin, self._headers)
        fields = _fields(origin, self._headers, (*headers.items(), *_framing(method, headers, body)))
        sent = _head(method, _target(url), fields) + (body or b"")
        connection = await self._connector.connect(door, [], self._timeout)
        while (kept := _is_kept(connection)) and not again:
            connection.close()
            connection = await self._connector.connect(door, [], self._timeout)
        try:
            return await self._once(connection, method, sent)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if not kept:
                raise
        connection = await self._connector.connect(door, [], self._timeout)
        return await self._once(connection, method, sent)  # RFC 9112, 9.3.1: a kept one may close at any time

    async def _once(self, connection: Connection, method: str, sent: bytes) -> Response:
        try:
            protocol = self._put(connection, method, sent)
            with self._patience.limit():
                return await self._answered(protocol, connection)
        except BaseException:
            connection.close()
            raise

    def _put(self, connection: Connection, method: str, sent: bytes) -> _Handler:
        """Write a request, and have the reply parsed; gives where it will come."""
        protocol = connection.protocol
        if not isinstance(protocol, _Handler) or protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.used = True
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=self._ahead,
        )
        protocol.transport.write(sent)
        return protocol

    async def _answered(self, protocol: _Handler, connection: Connection) -> Response:
        """Wait for the head that is not an interim one (RFC 9110, 15.2)."""
        while True:
            message, content = await protocol.read()
            if not 100 <= message.code <= 199 or message.code == _SWITCHING:  # noqa: PLR2004 - the RFC's numbers
                return Response(message.code, message.headers, content, connection, self._patience)


@lru_cache(maxsize=1024)
def _door(origin: Origin, headers: tuple[tuple[str, str], ...]) -> aiohttp.ClientRequest:
    """Make what a connector is shown before it dials an origin; it has the headers with which requests there begin."""
    return aiohttp.ClientRequest("GET", URL(str(origin)), headers=dict(headers))


def _target(url: str) -> str:
    """Give an address's path and query as they stand (RFC 9112, 3.2.1)."""
    target = _BEFORE_TARGET.sub("", url, count=1).partition("#")[0]
    return target if target.startswith("/") else f"/{target}"


def _framing(method: str, headers: Mapping[str, str], body: bytes | None) -> Iterator[tuple[str, str]]:
    """Give the headers that a body needs, or one that might have been sent (RFC 9110, 8.6)."""
    if body is None and method in _BODILESS:
        return
    given = {name.lower() for name in headers}
    if body and "content-type" not in given:
        yield "Content-Type", "application/octet-stream"
    if "content-length" not in given:
        yield "Content-Length", str(len(body or b""))


@lru_cache(maxsize=256)
def _fields(origin: Origin, ours: tuple[tuple[str, str], ...], theirs: tuple[tuple[str, str], ...]) -> str:
    """Write a head's fields; questions have the same ones again and again.

    Raises:
        ValueError: there is a line break within one of its lines, or a NUL.
    """
    named = CIMultiDict(_door(origin, ours).headers)
    named.update(theirs)
    fields = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    _demand_lines(fields, len(named))
    return fields


def _head(method: str, target: str, fields: str) -> bytes:
    """Write a request's head.

    Raises:
        ValueError: there is a line break in the target, or a NUL.
    """
    line = f"{method} {target} HTTP/1.1\r\n"
    _demand_lines(line, 1)
    return f"{line}{fields}\r\n".encode()


def _demand_lines(text: str, count: int) -> None:
    if not text.count("\r") == text.count("\n") == count or "\0" in text:
        raise ValueError("a line break in the middle of a header")
