"""Answers: what every one of them carries, and JSON that leaves in one piece.

The framework puts each response's head together from a table of headers. Ours are the same
but for two or three, so the head is written once a second (it has the date) and the rest is
added to it. Whoever needs another head (HTTP/1.0, HEAD, a connection that is to be closed)
gets the framework's own response.
"""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time

JSON = "application/json"

_ALWAYS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "poller",
}
_UNCACHED = {"Cache-Control": "no-store"}


async def protect(_request: web.Request, response: web.StreamResponse) -> None:
    """Add to a response what keeps browsers from reading more into it than it says."""
    response.headers.update(_ALWAYS)
    for name, value in _UNCACHED.items():
        response.headers.setdefault(name, value)


class Answer(web.StreamResponse):
    """An answer in JSON.

    Args:
        body: JSON.
        status: of HTTP.
        headers: what it carries besides; printable ASCII.
    """

    def __init__(self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status=status)
        self._json = body
        self._besides = headers or {}
        self._writer: AbstractStreamWriter | None = None
        self._full: web.Response | None = None

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return True if self._full is None else self._full.keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Choose the head; nothing is sent before ``write_eof``."""
        if request.version == HttpVersion11 and request.keep_alive and request.method != hdrs.METH_HEAD:
            self._writer = request.writer
            return self._writer
        headers = {hdrs.CONTENT_TYPE: JSON, **self._besides}
        self._full = web.Response(status=self.status, body=self._json, headers=headers)
        return await self._full.prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the whole answer, and wait while the other side reads too slowly."""
        if self._full is not None:
            await self._full.write_eof(data)
        elif self._writer is not None:
            await self._writer.write(self._whole())
            await self._writer.drain()

    def _whole(self) -> bytes:
        besides = "".join([f"{name}: {_printable(value)}\r\n" for name, value in self._besides.items()])
        length = f"Content-Length: {len(self._json)}\r\n\r\n"
        return b"".join((_head(self.status, rfc822_formatted_time()), (besides + length).encode(), self._json))


@lru_cache(maxsize=64)
def _head(status: int, date: str) -> bytes:
    """Write what the answers of one second have in common."""
    headers = {**_ALWAYS, **_UNCACHED, "Content-Type": JSON, "Date": date}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _printable(value: str) -> str:
    """Make sure that a value ends where it seems to (header injection)."""
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{value!r} cannot be the value of a header")
    return value
