"""Handing out one file: whole or a range of it, at full speed or slowly, to its end or not."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from hashlib import blake2b

import msgspec
from aiohttp import web

from poller.sandbox.content import BLOCK, Content
from poller.sandbox.render import Failure
from poller.sandbox.replies import Refusal
from poller.sandbox.tasks import Task

_TICK = 0.1
"""Seconds between two pieces of a slow download."""
_PAGE = b"<!doctype html>\n<html><head><title>Error</title></head><body><h1>Something went wrong</h1></body></html>\n"


class Span(msgspec.Struct, frozen=True):
    """The bytes of a file from *start* up to *stop*, and whether they were asked for as a range."""

    start: int
    stop: int
    partial: bool


class Download:
    """Answers the requests for files.

    Args:
        sleep: how to wait, in seconds.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep

    async def send(self, request: web.Request, task: Task) -> web.StreamResponse:
        """Answer with the task's file, or with what goes wrong with it.

        Raises:
            Refusal: 416, where the range lies outside the file.
        """
        content = task.content
        if task.strikes(Failure.EMPTY):
            return web.Response(body=b"", headers=_headers(content))
        if task.strikes(Failure.PAGE):
            return web.Response(body=_PAGE, content_type="text/html", charset="utf-8")
        if task.strikes(Failure.DISGUISED):
            return web.Response(body=_PAGE, headers=_headers(content))
        return await self._stream(request, task)

    async def _stream(self, request: web.Request, task: Task) -> web.StreamResponse:
        content = task.content
        span = _asked(request, content)
        stalls = task.strikes(Failure.STALL)
        early = stalls or task.strikes(Failure.TRUNCATE)
        response = _response(span, content)
        if early:
            response.force_close()
        await response.prepare(request)
        stop = span.start + (span.stop - span.start) // 2 if early else span.stop
        await self._pour(response, content.blocks(span.start, stop), task)
        if stalls:
            await asyncio.Event().wait()
        return response

    async def _pour(self, response: web.StreamResponse, blocks: Iterator[bytes], task: Task) -> None:
        rate, task.sent = task.render.rate, 0
        step = BLOCK if rate is None else max(1, min(BLOCK, int(rate * _TICK)))
        for block in blocks:
            for at in range(0, len(block), step):
                piece = block[at : at + step]
                await response.write(piece)
                task.sent += len(piece)
                if rate is not None:
                    await self._sleep(len(piece) / rate)


def _headers(content: Content) -> dict[str, str]:
    name = f"output{content.extension}"
    return {"Content-Type": content.media_type, "Content-Disposition": f'attachment; filename="{name}"'}


def _response(span: Span, content: Content) -> web.StreamResponse:
    response = web.StreamResponse(status=206 if span.partial else 200, headers=_headers(content))
    response.content_length = span.stop - span.start
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = _tag(content)
    if span.partial:
        response.headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{content.size}"
    return response


def _asked(request: web.Request, content: Content) -> Span:
    """Read the range that is asked for (RFC 9110, 14.2); one that cannot be read is none.

    Raises:
        Refusal: it lies outside the file.
    """
    whole = Span(0, content.size, partial=False)
    if "Range" not in request.headers or request.headers.get("If-Range", _tag(content)) != _tag(content):
        return whole
    try:
        start, stop, _ = request.http_range.indices(content.size)
    except ValueError:
        return whole
    if start < stop:
        return Span(start, stop, partial=True)
    outside = {"Content-Range": f"bytes */{content.size}"}
    raise Refusal(416, "Range Not Satisfiable", "the range lies outside the file", headers=outside)


def _tag(content: Content) -> str:
    """Name the content (RFC 9110, 8.8.3): another seed, type or size is another file."""
    return f'"{blake2b(msgspec.json.encode(content), digest_size=8).hexdigest()}"'
