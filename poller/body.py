"""A response's body: read whole if it is an answer, in large blocks if it is a file."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from itertools import cycle
from typing import Self, TypeVar

from poller.address import bare
from poller.digest import Block
from poller.exchange import Response
from poller.floor import Floor
from poller.mishap import THROWN, mishap
from poller.outcome import Trouble
from poller.remote import Aborted
from poller.shield import finish
from poller.tap import Tap

T = TypeVar("T")

BLOCK = 2**20
"""Bytes gathered before they are handed on: each write is a thread's errand, so few large ones win."""
_LISTS = frozenset(
    {"content-encoding", "transfer-encoding", "digest", "repr-digest", "content-digest", "x-goog-hash", "ratelimit"}
)


class Body:
    """A response whose body is still to come; a context that lets go of its connection in the end.

    Attributes:
        status: HTTP status.
        url: the address that answered, after redirects.
        headers: names in lower case; of a repeated header, the first.
        length: bytes announced, if they were.
        framed: whether the end of the body can be told from a cut connection.
    """

    def __init__(self, response: Response, url: str, floor: Callable[[], Floor]) -> None:
        self._response = response
        self._floor = floor
        self.status = response.status
        self.url = url
        self.headers: Mapping[str, str] = _headers(response)
        length = self.headers.get("content-length")
        self.length = None if length is None else int(length)
        self.framed = length is not None or "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def cookies(self) -> Mapping[str, str]:
        """Every cookie that is set, by name; without what the browser is to do with it (RFC 6265, 5.2)."""
        pairs = (text.partition(";")[0].partition("=") for text in self._response.headers.getall("set-cookie", ()))
        return {name.strip(): value.strip().strip('"') for name, _, value in pairs}

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
        except THROWN as error:
            raise mishap(error, self.url, own=False) from None

    async def _gathered(self, came: bytes, size: int, floor: Floor) -> AsyncGenerator[Block, None]:
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

    async def _drawn(self, came: bytes, tap: Tap, size: int, floor: Floor) -> AsyncGenerator[Block, None]:
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

    async def _draw(self, tap: Tap, room: memoryview, floor: Floor) -> int:
        try:
            count = await tap.draw(room)
        except THROWN as error:
            raise mishap(error, self.url, own=False) from None
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
        except THROWN as error:
            raise mishap(error, self.url, own=False) from None


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
