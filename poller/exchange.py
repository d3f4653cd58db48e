"""One head out, one head in, over aiohttp's connections.

aiohttp dials, keeps connections, speaks TLS and parses. Its session is left out: the objects that it
makes around each request, for cookies, redirects, character sets and uploads, of which we want none,
cost more than all the rest of a question. What is kept of it stands here: how a head is written, that
interim replies are passed over, and that a connection which the remote closed while nobody used it is
replaced once. For this we call what aiohttp does not document; so its version is pinned closely.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from poller.address import Origin

Unreadable = HttpProcessingError
"""What came is no head."""

_CONNECT_TIMEOUT = 15.0
_BEFORE_TARGET = re.compile(r"[^:]+://[^/?#]*")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SWITCHING = 101


class Response:
    """A reply whose head has come; its connection is taken until it is released.

    Attributes:
        headers: as they came.
        content: the body, as it comes.
    """

    def __init__(
        self, status: int, headers: CIMultiDictProxy[str], content: aiohttp.StreamReader, connection: Connection
    ) -> None:
        self.status, self.headers, self.content = status, headers, content
        self._connection = connection

    def release(self) -> None:
        """Let go of the connection: it is kept for the next request if the body has come whole, and closed if not."""
        self._connection.release()


class Exchange:
    """Connections, each of which carries one request at a time.

    Args:
        connections: how many may be open at once.
        idle_timeout: seconds without a byte after which one is given up.
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
        self._connector = aiohttp.TCPConnector(limit=connections, limit_per_host=connections, **dialling)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
        self._idle_timeout = idle_timeout
        self._ahead = ahead
        self._headers = tuple(headers.items())

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()

    async def send(
        self, method: str, url: str, origin: Origin, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response:
        """Send a request and wait for the head of the reply.

        Args:
            method: HTTP method, in capitals.
            url: absolute and encoded; what follows the host goes out byte for byte, but for the fragment.
            origin: the address's own.
            headers: of this request.
            body: what to send after the head.

        Raises:
            aiohttp.ClientError, Unreadable, OSError, TimeoutError, ValueError: what comes from below.
        """
        door = _door(origin, self._headers)
        named = CIMultiDict(door.headers)
        named.update(headers)
        sent = _head(method, _target(url), named, body) + (body or b"")
        try:
            return await self._once(door, method, sent)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if method != "GET":
                raise
            return await self._once(door, method, sent)  # RFC 9112, 9.3.1: a kept connection may close at any time

    async def _once(self, door: aiohttp.ClientRequest, method: str, sent: bytes) -> Response:
        connection = await self._connector.connect(door, [], self._timeout)
        try:
            protocol = self._put(connection, method, sent)
            return await _answered(protocol, connection)
        except BaseException:
            connection.close()
            raise

    def _put(self, connection: Connection, method: str, sent: bytes) -> ResponseHandler:
        """Write a request, and have the reply parsed; gives where it will come."""
        protocol = connection.protocol
        if protocol is None or protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=self._idle_timeout,
            read_bufsize=self._ahead,
        )
        protocol.transport.write(sent)
        protocol.start_timeout()
        return protocol


async def _answered(protocol: ResponseHandler, connection: Connection) -> Response:
    """Wait for the head that is not an interim one (RFC 9110, 15.2)."""
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code <= 199 or message.code == _SWITCHING:  # noqa: PLR2004 - the RFC's numbers
            return Response(message.code, message.headers, content, connection)


@lru_cache(maxsize=1024)
def _door(origin: Origin, headers: tuple[tuple[str, str], ...]) -> aiohttp.ClientRequest:
    """Make what a connector is shown before it dials an origin; it has the headers with which requests there begin."""
    return aiohttp.ClientRequest("GET", URL(str(origin)), headers=dict(headers))


def _target(url: str) -> str:
    """Give an address's path and query as they stand (RFC 9112, 3.2.1)."""
    target = _BEFORE_TARGET.sub("", url, count=1).partition("#")[0]
    return target if target.startswith("/") else f"/{target}"


def _head(method: str, target: str, headers: CIMultiDict[str], body: bytes | None) -> bytes:
    """Write a request's head.

    Raises:
        ValueError: there is a line break within one of its lines, or a NUL.
    """
    if body:
        headers.setdefault("Content-Type", "application/octet-stream")
    if body is not None or method not in _BODILESS:
        headers.setdefault("Content-Length", str(len(body or b"")))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    head = "\r\n".join(lines)
    if not head.count("\r") == head.count("\n") == len(lines) - 1 or "\0" in head:
        raise ValueError("a line break in the middle of a header")
    return head.encode()
