"""From a link to a published file: stream, verify, publish."""

import errno
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Generic, Protocol, TypeVar

from poller import content, decoding
from poller.address import bare
from poller.decoding import Garbled
from poller.digest import Tally
from poller.order import Order
from poller.outcome import Cause, File, LinkExpired, Outcome, Published, Stuck, TooLarge, Trouble, Unsafe
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

    def open(self, link: Link) -> AbstractAsyncContextManager[Body]:
        """Open one; raises Aborted if it cannot be."""
        ...


class Partial(Protocol):
    """A file that is still being received; see ``publisher.Partial``."""

    @property
    def size(self) -> int:
        """Bytes written."""
        ...

    @property
    def head(self) -> bytes:
        """The first of them."""
        ...

    @property
    def sha256(self) -> str:
        """Their hex digest."""
        ...

    def watch(self, algorithms: Collection[str]) -> Tally:
        """Count and hash what is written from the first byte on."""
        ...

    async def write(self, block: bytes) -> None:
        """Append; raises OSError."""
        ...


P = TypeVar("P", bound=Partial)


class Folder(Protocol[P]):
    """Where files go; see ``publisher.Publisher``."""

    def partial(self) -> AbstractAsyncContextManager[P]:
        """Begin a file that is gone afterwards unless it was published."""
        ...

    async def publish(self, partial: P, order: Order, *, media_type: str, ext: str) -> tuple[File, bool]:
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
        last = len(ready.links) - 1
        published = [await self._one(order, link, last=number == last) for number, link in enumerate(ready.links)]
        return Published(
            files=tuple(file for file, _ in published),
            conflict=any(conflict for _, conflict in published),
        )

    async def _one(self, order: Order, link: Link, *, last: bool) -> tuple[File, bool]:
        async with self._folder.partial() as partial:
            promise = await self._receive(link, partial)
            await self._vouch(link, promise, partial)
            ext = content.extension(promise.media_type, self._delivery.extensions)
            publishing = self._folder.publish(partial, order, media_type=promise.media_type, ext=ext)
            return await (complete if last else finish)(publishing)

    async def _receive(self, link: Link, partial: Partial) -> Promise:
        async with self._source.open(link) as body:
            promise = self._admitted(body)
            try:
                tally = await self._fill(partial, body, promise)
            except Garbled as garbled:
                raise Aborted(_wrong(body, str(garbled))) from None
        self._verify(body, promise, tally, partial)
        return promise

    async def _fill(self, partial: Partial, body: Body, promise: Promise) -> Tally:
        """Write the file; give the tally of what came over the wire, which a decoded file is not."""
        written = partial.watch(promise.algorithms)
        wire = Tally(promise.algorithms) if promise.encoding else None
        decoder = decoding.decoder(promise.encoding or "")
        async with aclosing(body.blocks()) as blocks:
            async for block in blocks:
                if wire is not None:
                    wire.update(block)
                for piece in decoder.feed(block):
                    await self._write(partial, piece, body)
        decoder.end()
        return wire or written

    async def _write(self, partial: Partial, piece: bytes, body: Body) -> None:
        if partial.size + len(piece) > self._max_bytes:
            raise Aborted(self._too_large(body))
        await partial.write(piece)

    def _admitted(self, body: Body) -> Promise:
        """Refuse a body by what its head says, before a byte of it is read."""
        if body.status != 200:  # noqa: PLR2004 - no range was asked for, so nothing else is a whole file
            raise Aborted(self._refusal(body))
        promise = Promise.of(body.headers, length=body.length, framed=body.framed)
        transfer = body.headers.get("transfer-encoding", "chunked").strip().lower()
        if promise.encoding is None or transfer != "chunked":
            how = transfer if transfer != "chunked" else body.headers["content-encoding"].strip().lower()
            raise Aborted(_wrong(body, f"the file came encoded as {how}, which nobody asked for"))
        if (body.length or 0) > self._max_bytes:
            raise Aborted(self._too_large(body))
        return promise

    def _refusal(self, body: Body) -> Outcome:
        reason, address = f"the link answered {body.status}", bare(body.url)
        wish = retry_after(body.headers.get("retry-after"), self._now())
        if body.status in {401, 403, 404, 410}:
            return LinkExpired(reason=reason, status=body.status, address=address, retry_after=wish)
        return Trouble(reason=reason, status=body.status, address=address, retry_after=wish)

    def _verify(self, body: Body, promise: Promise, tally: Tally, partial: Partial) -> None:
        """Refuse a body by what it turned out to be."""
        declared = promise.media_type
        if broken := promise.broken_by(tally):
            raise Aborted(_wrong(body, broken))
        if not partial.size:
            raise Aborted(_wrong(body, "the file is empty"))
        if content.is_page(declared, partial.head, self._delivery.extensions):
            raise Aborted(_wrong(body, f"a page ({declared or 'of no type'}) came where a file was promised"))

    async def _vouch(self, link: Link, promise: Promise, partial: Partial) -> None:
        """Make sure that the end of the body was the end of the file.

        A body with neither length nor chunks ends when the connection does, which a
        cut connection does as well (RFC 9112, 8). Two equal ones vouch for each other.
        """
        if promise.vouches or self._delivery.unframed == "trust":
            return
        if self._delivery.unframed == "twice":
            async with self._folder.partial() as second:
                await self._receive(link, second)
                if second.sha256 == partial.sha256:
                    return
        reason = "nothing vouches for the end of the file: no length, no chunks, no checksum"
        raise Aborted(Trouble(reason=reason, status=200, address=bare(link.url), cause=Cause.WRONG_CONTENT))

    def _too_large(self, body: Body) -> TooLarge:
        return TooLarge(
            reason=f"the file is larger than the {self._max_bytes} bytes of POLLER_MAX_FILE_BYTES",
            address=bare(body.url),
        )


_NO_NAME = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""What somebody put in the folder is in the way of this order's name, and of no other's."""


def _local(error: OSError) -> Stuck | Unsafe:
    """Tell a name that cannot be had from a disk that cannot be written to."""
    what, where = error.strerror or type(error).__name__, error.filename2 or error.filename
    reason = f"{what}: {where}" if where else what
    if error.errno in _NO_NAME:
        return Unsafe(reason=f"the file's name cannot be used: {reason}")
    return Stuck(reason=f"our own disk: {reason}")


def _wrong(body: Body, reason: str) -> Trouble:
    return Trouble(reason=reason, status=body.status, address=bare(body.url), cause=Cause.WRONG_CONTENT)
