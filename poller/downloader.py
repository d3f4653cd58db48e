"""From a link to a published file: stream, verify, publish."""

import errno
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Generic, Protocol, TypeVar

import msgspec

from poller import content, decoding
from poller.address import bare
from poller.decoding import Garbled
from poller.digest import Tally
from poller.order import Order
from poller.outcome import Cause, File, LinkExpired, Outcome, Published, Stuck, TooLarge, Trouble, Unsafe
from poller.partials import LEAST, Slot
from poller.promise import Promise
from poller.remote import Aborted, Delivery, Link, Ready, retry_after
from poller.shield import complete, finish


class Body(Protocol):
    """A response whose body is still to come; see ``wire.Body``."""

    status: int
    url: str
    headers: Mapping[str, str]
    length: int | None
    framed: bool

    def blocks(self) -> AsyncGenerator[bytes, None]:
        """Give the body in large blocks; raises Aborted if it stops before its end."""
        ...


class Source(Protocol):
    """Opens links; see ``client.Client``."""

    def open(self, link: Link, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Body]:
        """Open one; raises Aborted if it cannot be."""
        ...


class Partial(Protocol):
    """A file that is still being received; see ``partials.Partial``."""

    @property
    def promise(self) -> Promise | None:
        """What was said of it when an earlier transfer began; None if nothing of it is here."""
        ...

    @property
    def published(self) -> bool:
        """Whether it is whole, and has its final name already."""
        ...

    @property
    def noted(self) -> bool:
        """Whether another transfer can go on with it."""
        ...

    @property
    def rest(self) -> Mapping[str, str]:
        """The headers that ask for what is missing."""
        ...

    @property
    def size(self) -> int:
        """Bytes here."""
        ...

    @property
    def head(self) -> bytes:
        """The first of them."""
        ...

    @property
    def tally(self) -> Tally:
        """Their number and digests."""
        ...

    @property
    def sha256(self) -> str:
        """Hex digest of all of them."""
        ...

    async def expect(self, promise: Promise) -> None:
        """Get ready for what is promised; raises OSError if there is no room for it."""
        ...

    async def write(self, block: bytes) -> None:
        """Append; raises OSError."""
        ...

    async def restart(self) -> None:
        """Begin with the first byte again; raises OSError."""
        ...

    def spoil(self) -> None:
        """Let nobody carry it on."""
        ...


P = TypeVar("P", bound=Partial)


class Folder(Protocol[P]):
    """Where files go; see ``publisher.Publisher``."""

    def partial(self, slot: Slot) -> AbstractAsyncContextManager[P]:
        """Begin a file, or go on with one."""
        ...

    async def publish(
        self, partial: P, order: Order, *, media_type: str, ext: str, number: int | None = None
    ) -> tuple[File, bool]:
        """Give it its final name; tell whether other bytes held that already."""
        ...


class Downloader(Generic[P]):
    """Fetches the files of one remote.

    Args:
        source: opens links.
        folder: takes the files.
        delivery: what the remote's files are like.
        max_bytes: more than this is refused, announced or not.
        now: epoch seconds.
    """

    def __init__(
        self, *, source: Source, folder: Folder[P], delivery: Delivery, max_bytes: int, now: Callable[[], float]
    ) -> None:
        self._source = source
        self._folder = folder
        self._delivery = delivery
        self._max_bytes = max_bytes
        self._now = now

    async def fetch(self, order: Order, ready: Ready) -> Outcome:
        """Fetch every file of an order. Whatever goes wrong is an outcome, too.

        Once the last file is being published, a cancellation comes too late: the
        outcome is returned all the same, and must be saved.
        """
        try:
            return await self._collect(order, ready)
        except Aborted as aborted:
            return aborted.outcome
        except OSError as error:
            return _local(error)

    async def _collect(self, order: Order, ready: Ready) -> Published:
        count = len(ready.links)
        published = [await self._one(order, link, number, count) for number, link in enumerate(ready.links, 1)]
        return Published(
            files=tuple(file for file, _ in published),
            conflict=any(conflict for _, conflict in published),
        )

    async def _one(self, order: Order, link: Link, number: int, count: int) -> tuple[File, bool]:
        """One file's way: received, or the rest of it; vouched for; published."""
        slot = Slot.of(order, number)
        async with self._folder.partial(slot) as partial:
            promise = await self._received(link, partial)
            await self._vouch(link, promise, partial, slot)
            publishing = self._folder.publish(
                partial,
                order,
                media_type=promise.media_type,
                ext=content.extension(promise.media_type, self._delivery.extensions),
                number=number if count > 1 else None,
            )
            return await (complete if number == count else finish)(publishing)

    async def _received(self, link: Link, partial: Partial) -> Promise:
        if partial.published and partial.promise is not None:
            return partial.promise  # by a process that died before it could say so
        before = partial.size
        try:
            return await self._receive(link, partial)
        except Aborted as aborted:
            if _is_wrong(aborted.outcome):
                partial.spoil()
            raise Aborted(_furthered(aborted.outcome, partial, before)) from None

    async def _receive(self, link: Link, partial: Partial) -> Promise:
        """Receive a file, or what an interrupted transfer has left to receive."""
        async with self._source.open(link, partial.rest) as body:
            promise = await self._begun(body, partial)
            if promise is not None:
                return await self._take(partial, body, promise)
        await partial.restart()
        return await self._receive(link, partial)

    async def _begun(self, body: Body, partial: Partial) -> Promise | None:
        """Read the head of a reply; None if it has nothing to do with what is here already."""
        if partial.promise is not None and body.status != _WHOLE:
            promise = self._continued(body, partial.promise, partial.size)
        else:
            promise = self._admitted(body)
            if partial.promise is not None:
                await partial.restart()
        if promise is not None:
            self._demand_small(promise.total or 0, body)
            await partial.expect(promise)
        return promise

    async def _take(self, partial: Partial, body: Body, promise: Promise) -> Promise:
        """Write a body down, and refuse it by what it turned out to be."""
        try:
            tally = await self._fill(partial, body, promise)
        except Garbled as garbled:
            raise Aborted(_wrong(body, str(garbled))) from None
        self._verify(body, promise, tally, partial)
        return promise

    async def _fill(self, partial: Partial, body: Body, promise: Promise) -> Tally:
        """Write the file; give the tally of what came over the wire, which a decoded file is not."""
        wire = Tally(promise.algorithms) if promise.encoding else None
        decoder = decoding.decoder(promise.encoding or "")
        async with aclosing(body.blocks()) as blocks:
            async for block in blocks:
                if wire is not None:
                    wire.update(block)
                for piece in decoder.feed(block):
                    self._demand_small(partial.size + len(piece), body)
                    await partial.write(piece)
        decoder.end()
        return wire or partial.tally

    def _continued(self, body: Body, promise: Promise, size: int) -> Promise | None:
        """Read the head of a reply to who asked for the rest; None if it is not the rest of what is here."""
        if body.status == _PARTIAL:
            return promise.continued(body.headers, size) if _is_plain(body) else None
        if body.status in _NO_REST:
            return None
        raise Aborted(self._refusal(body))

    def _admitted(self, body: Body) -> Promise:
        """Refuse a body by what its head says, before a byte of it is read."""
        if body.status != _WHOLE:
            raise Aborted(self._refusal(body))
        promise = Promise.of(body.headers, length=body.length, framed=body.framed)
        if promise.encoding is None or not _is_plain(body):
            how = body.headers["transfer-encoding" if not _is_plain(body) else "content-encoding"].strip().lower()
            raise Aborted(_wrong(body, f"the file came encoded as {how}, which nobody asked for"))
        return promise

    def _refusal(self, body: Body) -> Outcome:
        reason, address = f"the link answered {body.status}", bare(body.url)
        wish = retry_after(body.headers.get("retry-after"), self._now())
        if body.status in {401, 403, 404, 410}:
            return LinkExpired(reason=reason, status=body.status, address=address, retry_after=wish)
        return Trouble(reason=reason, status=body.status, address=address, retry_after=wish)

    def _demand_small(self, size: int, body: Body) -> None:
        if size > self._max_bytes:
            reason = f"the file is larger than the {self._max_bytes} bytes of POLLER_MAX_FILE_BYTES"
            raise Aborted(TooLarge(reason=reason, address=bare(body.url)))

    def _verify(self, body: Body, promise: Promise, tally: Tally, partial: Partial) -> None:
        """Refuse a body by what it turned out to be."""
        declared = promise.media_type
        if broken := promise.broken_by(tally):
            raise Aborted(_wrong(body, broken))
        if not partial.size:
            raise Aborted(_wrong(body, "the file is empty"))
        if content.is_page(declared, partial.head, self._delivery.extensions):
            raise Aborted(_wrong(body, f"a page ({declared or 'of no type'}) came where a file was promised"))

    async def _vouch(self, link: Link, promise: Promise, partial: Partial, slot: Slot) -> None:
        """Make sure that the end of the body was the end of the file.

        A body with neither length nor chunks ends when the connection does, which a
        cut connection does as well (RFC 9112, 8). Two equal ones vouch for each other.
        """
        if promise.vouches or self._delivery.unframed == "trust":
            return
        if self._delivery.unframed == "twice":
            async with self._folder.partial(slot.again) as second:
                await self._received(link, second)
                if second.sha256 == partial.sha256:
                    return
        reason = "nothing vouches for the end of the file: no length, no chunks, no checksum"
        raise Aborted(Trouble(reason=reason, status=_WHOLE, address=bare(link.url), cause=Cause.WRONG_CONTENT))


_WHOLE, _PARTIAL = 200, 206
_NO_REST = frozenset({400, 412, 416, 501})
"""Answers to who asked for a part, after which it is worth asking for the whole."""
_NO_NAME = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EMLINK})
"""What is in the folder is in the way of this order's name, and of no other's."""


def _local(error: OSError) -> Stuck | Unsafe:
    """Tell a name that cannot be had from a disk that cannot be written to."""
    what, where = error.strerror or type(error).__name__, error.filename2 or error.filename
    reason = f"{what}: {where}" if where else what
    if error.errno in _NO_NAME:
        return Unsafe(reason=f"the file's name cannot be used: {reason}")
    return Stuck(reason=f"our own disk: {reason}")


def _is_plain(body: Body) -> bool:
    """Tell whether nothing but chunks was made of the body on its way."""
    return body.headers.get("transfer-encoding", "chunked").strip().lower() == "chunked"


def _is_wrong(outcome: Outcome) -> bool:
    """Tell whether what came was wrong, rather than cut."""
    return isinstance(outcome, TooLarge) or (isinstance(outcome, Trouble) and outcome.cause is Cause.WRONG_CONTENT)


def _furthered(outcome: Outcome, partial: Partial, before: int) -> Outcome:
    """Say of a transfer that was cut whether the next one has less to do."""
    further = partial.noted and partial.size - before >= LEAST
    return msgspec.structs.replace(outcome, advanced=True) if isinstance(outcome, Trouble) and further else outcome


def _wrong(body: Body, reason: str) -> Trouble:
    return Trouble(reason=reason, status=body.status, address=bare(body.url), cause=Cause.WRONG_CONTENT)
