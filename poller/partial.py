"""One file that is still being received: which one it is, its bytes, and what is known of them so far."""

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from hashlib import blake2b
from io import FileIO
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
from aiofiles.threadpool import wrap as aio

from poller import folders
from poller.content import HEAD
from poller.digest import Tally
from poller.order import Order
from poller.promise import Promise
from poller.shield import finish
from poller.space import Space

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

LEAST = 2**20
"""Bytes below which a file is as quickly fetched anew."""


class Slot(NamedTuple):
    """Which file of which order.

    Attributes:
        number: of the file among the order's files, from 1 on.
        second: whether it is only fetched to be compared with the first.
    """

    remote: str
    task_id: str
    generation: int
    number: int = 1
    second: bool = False

    @classmethod
    def of(cls, order: Order, number: int = 1) -> "Slot":
        """Name a file of *order*."""
        return cls(order.remote, order.task_id, order.generation, number)

    @property
    def again(self) -> "Slot":
        """The same file, fetched a second time."""
        return self._replace(second=True)

    @property
    def family(self) -> str:
        """What the names of all partials of the order's generation begin with."""
        whose = msgspec.json.encode([self.remote, self.task_id, self.generation])
        return blake2b(whose, digest_size=16).hexdigest()

    @property
    def name(self) -> str:
        """The partial's name, without an extension."""
        return f"{self.family}-{2 * self.number + self.second}"


class HashedFile(FileIO):
    """A file that writes whole blocks and hashes them on the way, in whatever thread does the writing.

    Args:
        name: within *folder*, an open directory.
        space: what it takes its room from.
        mode: ``xb`` for a new one, ``r+b`` for one to go on with.

    Attributes:
        tally: how many bytes it has, and their digests.
        head: the first of them.
        known: bytes that were there before, and are still to be counted.
    """

    def __init__(self, name: str, *, folder: int, space: Space, mode: str = "xb") -> None:
        opened = folders.create if mode == "xb" else folders.reach
        super().__init__(name, mode, opener=lambda path, flags: opened(path, flags, folder))
        self._space = space
        self.tally = Tally({"sha256"})
        self.head = b""
        self.known = 0

    def write(self, block: bytes) -> int:  # type: ignore[override]
        """Write all of *block*."""
        self._space.take(str(self.name), len(block))
        rest = memoryview(block)
        while rest:
            rest = rest[super().write(rest) or 0 :]
        self._count(block)
        return len(block)

    def recount(self, size: int) -> bool:
        """Count and hash up to *size* of the bytes that are there already; tell whether there are more."""
        end = min(self.tally.size + size, self.known)
        while block := self.read(min(LEAST, end - self.tally.size)):
            self._count(block)
        return end < self.known

    def _count(self, block: bytes) -> None:
        self.tally.update(block)
        self.head += block[: HEAD - len(self.head)]

    @property
    def sha256(self) -> str:
        """Hex digest of what is in it."""
        return self.tally.hex("sha256")

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self.tally.size


class Home(Protocol):
    """Where partials live; see ``partials.Partials``."""

    @property
    def executor(self) -> Executor:
        """Does all file work."""
        ...

    async def expect(self, partial: "Partial", promise: Promise) -> None:
        """Hold room for the rest of a file; note what was promised if it can be carried on."""
        ...

    async def anew(self, slot: Slot) -> HashedFile:
        """Begin a file with its first byte, whatever there is of it."""
        ...

    def knows(self, slot: Slot) -> bool:
        """Tell whether a file was noted, and may be carried on."""
        ...

    def spoil(self, slot: Slot) -> None:
        """Let nobody carry it on."""
        ...


class Partial:
    """A file that is still being received; nobody but its owner sees it.

    Attributes:
        slot: whose it is.
        raw: the file.
        promise: what was said of it before the transfer was interrupted; None if it begins with its first byte.
        published: whether it has its final name, which an earlier process gave it.
    """

    def __init__(self, home: Home, slot: Slot, raw: HashedFile, promise: Promise | None = None) -> None:
        self.slot = slot
        self._home = home
        self._hold(raw)
        self.promise = promise
        self.published = promise is not None and os.fstat(raw.fileno()).st_nlink > 1

    def _hold(self, raw: HashedFile) -> None:
        self.raw = raw
        self._file: AsyncFileIO = aio(raw, executor=self._home.executor)

    @property
    def name(self) -> str:
        """Its name within ``.partial/``."""
        return f"{self.slot.name}.part"

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self.raw.size

    @property
    def head(self) -> bytes:
        """The first ``content.HEAD`` of them."""
        return self.raw.head

    @property
    def tally(self) -> Tally:
        """Their number and digests."""
        return self.raw.tally

    @property
    def sha256(self) -> str:
        """Hex digest of all of them."""
        return self.raw.sha256

    @property
    def rest(self) -> Mapping[str, str]:
        """The headers that ask for what is missing; none if everything is."""
        return self.promise.rest(self.size) if self.promise is not None else {}

    @property
    def noted(self) -> bool:
        """Whether another transfer can go on with it."""
        return self._home.knows(self.slot)

    async def expect(self, promise: Promise) -> None:
        """Get ready for what is *promise*d, or for the rest of it: its digests, its room, its sidecar.

        Raises:
            OSError: there is no room for it, or the disk failed.
        """
        if not self.size:
            self.raw.tally = Tally({"sha256", *promise.algorithms})
        if promise.total is None or promise.total >= LEAST:
            await self._home.expect(self, promise)

    async def write(self, block: bytes) -> None:
        """Append *block*; if cancelled, not before the thread that writes has stopped."""
        await finish(self._file.write(block))

    async def restart(self) -> None:
        """Begin with the first byte again."""
        self._hold(await self._home.anew(self.slot))
        self.promise, self.published = None, False

    def spoil(self) -> None:
        """Let nobody carry it on: its bytes are wrong, or may be."""
        self._home.spoil(self.slot)
