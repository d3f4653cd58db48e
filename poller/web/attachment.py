"""A published file as an answer: conditional requests and ranges as in RFC 9110, sections 13 and 14.

What to send is decided first, from the request's headers alone; the framework's own file
response cannot, because it knows neither our digests nor that a neighbour called
``name.gz`` is another order's file.
"""

import asyncio
import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

from aiohttp import ETag, web
from aiohttp.helpers import ETAG_ANY

from poller.outcome import File

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)
_PLAIN = re.compile(r"[^A-Za-z0-9._=@~ -]")


class Part(NamedTuple):
    """What to send: a status, and which bytes."""

    status: int
    span: range


async def send(request: web.Request, file: File, content: BinaryIO) -> web.StreamResponse:
    """Send a file, or as much of it as was asked for.

    Args:
        request: its headers decide what is sent.
        file: what was published; its digest is the entity tag.
        content: the open file; its end is at ``file.size``.
    """
    part = choose(request, file)
    response = web.StreamResponse(status=part.status, headers=_headers(file, part))
    await response.prepare(request)
    if request.method != "HEAD" and part.span:
        await _copy(request, content, part.span)
    await response.write_eof()
    return response


def choose(request: web.BaseRequest, file: File) -> Part:
    """Decide what to send.

    Returns:
        412, 304 or 416 and nothing, 206 and some bytes, or 200 and all of them.
    """
    whole, nothing = range(file.size), range(0)
    if _changed(request, file):
        return Part(412, nothing)
    if _known(request, file):
        return Part(304, nothing)
    span = _span(request, file) if request.method == "GET" else None
    if span is None:
        return Part(200, whole)
    return Part(206, span) if span else Part(416, nothing)


def _changed(request: web.BaseRequest, file: File) -> bool:
    """Tell whether the file is another than the one that was asked for."""
    if request.if_match is not None:
        return not _named(file, [tag for tag in request.if_match if not tag.is_weak])
    since = request.if_unmodified_since
    return since is not None and _modified(file) > since


def _known(request: web.BaseRequest, file: File) -> bool:
    """Tell whether the asker has the file already."""
    if request.if_none_match is not None:
        return _named(file, request.if_none_match)
    since = request.if_modified_since
    return since is not None and _modified(file) <= since


def _named(file: File, tags: "tuple[ETag, ...] | list[ETag]") -> bool:
    return any(tag.value in {file.sha256, ETAG_ANY} for tag in tags)


def _span(request: web.BaseRequest, file: File) -> range | None:
    """Read which bytes are asked for; None means all, and an empty range that there are none such.

    Several ranges at once, other units and mistakes are answered with the whole file, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or match[0] == "bytes=-" or not _resumable(request, file):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, file.size - int(last)), file.size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last or file.size) + 1, file.size))


def _resumable(request: web.BaseRequest, file: File) -> bool:
    """Tell whether the part the asker has already (``If-Range``) is of this very file."""
    condition = request.headers.get("If-Range")
    return condition is None or condition in {f'"{file.sha256}"', _date(file)}


def _headers(file: File, part: Part) -> dict[str, str]:
    headers = {
        "ETag": f'"{file.sha256}"',
        "Last-Modified": _date(file),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
    }
    if part.status == 416:  # noqa: PLR2004 - RFC 9110, 15.5.17
        headers["Content-Range"] = f"bytes */{file.size}"
    if part.status == 206:  # noqa: PLR2004 - RFC 9110, 15.3.7
        headers["Content-Range"] = f"bytes {part.span.start}-{part.span.stop - 1}/{file.size}"
    if part.status == 304:  # noqa: PLR2004 - RFC 9110, 15.4.5: it describes no content of its own
        return headers
    return headers | _content(file, len(part.span))


def _content(file: File, length: int) -> dict[str, str]:
    known = _MEDIA_TYPE.fullmatch(file.media_type)
    return {
        "Content-Length": str(length),
        "Content-Type": file.media_type if known else "application/octet-stream",
        "Content-Disposition": disposition(file.name.rpartition("/")[2]),
    }


def disposition(name: str) -> str:
    """Write ``Content-Disposition`` (RFC 6266): a file to keep, never to show."""
    plain = _PLAIN.sub("_", name)
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{exact}'


def _modified(file: File) -> datetime:
    return datetime.fromtimestamp(int(file.published_at), UTC)


def _date(file: File) -> str:
    return format_datetime(_modified(file), usegmt=True)


async def _copy(request: web.Request, content: BinaryIO, span: range) -> None:
    """Have the kernel copy bytes to the socket; a copy that falls short ends the connection, so that it is seen."""
    if request.transport is None:
        raise ConnectionResetError("the asker is gone")
    loop = asyncio.get_running_loop()
    try:
        sent = await loop.sendfile(request.transport, content, span.start, len(span))
    except (OSError, RuntimeError):
        sent = -1
    if sent != len(span):
        request.transport.abort()
        raise ConnectionResetError("the file was not sent whole")
