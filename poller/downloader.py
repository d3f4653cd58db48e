"""From a link to a published file: stream, verify, publish."""

import errno
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Generic, Protocol, TypeVar

from msgspec.structs import replace

from poller import content, decoding
from poller.decoding import Garbled
from poller.digest import Block, Tally
from poller.folders import Closed
from poller.guard import Guard, Head, Received, is_wrong
from poller.order import Order
from poller.outcome import Deferred, File, Outcome, Published, Stuck, Trouble, Unsafe
from poller.partial import LEAST, Slot
from poller.promise import Promise
from poller.remote import Aborted, Delivery, Link, Ready
from poller.shield import complete, finish
from poller.space import DoesNotFit


class Body(Head, Protocol):
    """A response whose body is still to come; see ``wire.Body``."""

    def blocks(self) -> AsyncGenerator[Block, None]:
        """Give the body in large blocks; raises Aborted if it stops before its end."""
        ...


class Source(Protocol):
    """Opens links; see ``client.Client``."""

    def open(self, link: Link, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Body]:
        """Open one; raises Aborted if it cannot be."""
        ...


class Partial(Received, Protocol):
    """A file that is still being received; see ``partial.Partial``."""

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

    async def write(self, block: Block) -> None:
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
        self._guard = Guard(delivery=delivery, max_bytes=max_bytes, now=now)

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
        links = deque(ready.links)
        published: list[tuple[File, bool]] = []
        while links:
            link = links.popleft()
            published.append(await self._one(order, link, len(published) + 1, links))
            if len(published) + len(links) > MOST_FILES:
                raise Aborted(Unsafe(reason=f"the task has more than {MOST_FILES} files; no task makes so many"))
        return Published(
            files=tuple(file for file, _ in published),
            conflict=any(conflict for _, conflict in published),
        )

    async def _one(self, order: Order, link: Link, number: int, others: deque[Link]) -> tuple[File, bool]:
        """One file's way: received, or the rest of it; vouched for; published. If it is a part, the next one joins."""
        slot = Slot.of(order, number)
        async with self._folder.partial(slot) as partial:
            promise, following = await self._received(link, partial)
            if following is not None:
                others.appendleft(following)
            await self._vouch(link, promise, partial, slot)
            publishing = self._folder.publish(
                partial,
                order,
                media_type=promise.media_type,
                ext=_extension(link, promise, self._delivery.extensions),
                number=number if number > 1 or others else None,
            )
            return await (finish if others else complete)(publishing)

    async def _received(self, link: Link, partial: Partial) -> tuple[Promise, Link | None]:
        """Have the file, however much of it is here already, and the link of what follows it."""
        if partial.published and partial.promise is not None:
            return partial.promise, await self._following(link)  # by a process that died before it could say so
        before = partial.size
        try:
            return await self._receive(link, partial)
        except Aborted as aborted:
            if is_wrong(aborted.outcome):
                partial.spoil()
            raise Aborted(_furthered(aborted.outcome, partial, before)) from None

    async def _receive(self, link: Link, partial: Partial) -> tuple[Promise, Link | None]:
        """Receive what is missing; if what comes does not go on with what is here, receive the whole."""
        async with self._source.open(link, partial.rest) as body:
            promise = await self._begun(link, body, partial)
            if promise is not None:
                tally = await self._fill(partial, body, promise)
                self._guard.verify(body, promise, tally, partial, link)
                self._guard.demand_bytes(link, body, partial.sha256 if link.expected else "")
                return promise, link.following(body) if link.following is not None else None
        await partial.restart()
        return await self._receive(link, partial)

    async def _following(self, link: Link) -> Link | None:
        """Ask what follows a part that is here; that is said by the head of its reply, and not kept."""
        if link.following is None:
            return None
        async with self._source.open(link, {}) as body:
            self._guard.admit(body, link)
            return link.following(body)

    async def _begun(self, link: Link, body: Body, partial: Partial) -> Promise | None:
        """Get ready for a body by what its head says; None if it does not go on with what is here."""
        if partial.promise is None:
            promise: Promise | None = self._guard.admit(body, link)
        elif self._guard.is_whole(body):
            promise = self._guard.admit(body, link)
            await partial.restart()
        else:
            promise = self._guard.resume(body, partial.promise, partial.size)
        if promise is not None:
            await partial.expect(promise)
        return promise

    async def _fill(self, partial: Partial, body: Body, promise: Promise) -> Tally:
        """Write the file; give the tally of what came over the wire, which a decoded file is not."""
        wire = Tally(promise.algorithms) if promise.encoding else None
        decoder = decoding.decoder(promise.encoding or "")
        try:
            async with aclosing(body.blocks()) as blocks:
                async for block in blocks:
                    if wire is not None:
                        wire.update(block)
                    for piece in decoder.feed(block):
                        self._guard.demand_small(partial.size + len(piece), body)
                        await partial.write(piece)
            decoder.end()
        except Garbled as garbled:
            raise self._guard.garbled(body, str(garbled)) from None
        return wire or partial.tally

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
        raise self._guard.unvouched(link.url)


MOST_FILES = 1000
"""Of one task, its parts included."""
_NO_NAME = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EMLINK})
"""What is in the folder is in the way of this order's name, and of no other's."""


_NO_ROOM = 300.0
"""Seconds until a file that has no place, though others have, is tried again."""


def _extension(link: Link, promise: Promise, types: Mapping[str, str]) -> str:
    """Choose what a file's name ends with: as its link says, as its own name does if that is allowed, by its type."""
    own = promise.suffix if promise.suffix in link.extensions else ""
    return link.extension or own or content.extension(promise.media_type, types)


def _local(error: OSError) -> Stuck | Unsafe | Deferred:
    """Tell a name that cannot be had, and a file that has no place of its own, from a disk that takes nothing."""
    what, where = error.strerror or type(error).__name__, error.filename2 or error.filename
    reason = f"{what}: {where}" if where else what
    if error.errno in _NO_NAME:
        return Unsafe(reason=f"the file's name cannot be used: {reason}")
    if isinstance(error, DoesNotFit | Closed):
        return Deferred(reason=f"our own disk: {reason}", retry_after=_NO_ROOM)
    return Stuck(reason=f"our own disk: {reason}")


def _furthered(outcome: Outcome, partial: Partial, before: int) -> Outcome:
    """Say of a transfer that was cut whether the next one has less to do."""
    further = partial.noted and partial.size - before >= LEAST
    return replace(outcome, advanced=True) if isinstance(outcome, Trouble) and further else outcome
