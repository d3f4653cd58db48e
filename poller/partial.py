"""One file that is still being received: which one it is, its bytes, and what is known of them so far.

Each errand of a thread costs about as much as writing a tenth of a megabyte. So the first
bytes stay in memory: a file that is whole before there are many is made, written, synced
and published in one errand. Only a larger one is made while it comes.
"""

import os
from collections.abc import Collection, Mapping
from concurrent.futures import Executor
from functools import lru_cache
from hashlib import blake2b
from io import FileIO
from typing import NamedTuple, Protocol

import aiofiles.os
import msgspec

from poller import folders
from poller.content import HEAD
from poller.digest import Block, Tally
from poller.order import Order
from poller.promise import Promise
from poller.shield import finish
from poller.space import Space

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
        return _family(self.remote, self.task_id, self.generation)

    @property
    def name(self) -> str:
        """The partial's name, without an extension."""
        return f"{self.family}-{2 * self.number + self.second}"


@lru_cache(maxsize=1024)
def _family(remote: str, task_id: str, generation: int) -> str:
    return blake2b(msgspec.json.encode([remote, task_id, generation]), digest_size=16).hexdigest()


class Known:
    """What is known of a file's bytes.

    Attributes:
        tally: how many there are, and their digests.
        head: the first of them.
    """

    def __init__(self, algorithms: Collection[str] = ()) -> None:
        self.tally = Tally({"sha256", *algorithms})
        self.head = b""

    def add(self, block: Block) -> None:
        """Count and hash what follows."""
        self.tally.update(block)
        self._begin(block)

    def keep(self, block: bytes) -> None:
        """Count what follows, and hash it later."""
        self.tally.keep(block)
        self._begin(block)

    def _begin(self, block: Block) -> None:
        if len(self.head) < HEAD:
            self.head += block[: HEAD - len(self.head)]


class HashedFile(FileIO):
    """A file that writes whole blocks and hashes them on the way, in whatever thread does the writing.

    Args:
        name: within *folder*, an open directory.
        space: what it takes its room from.
        mode: ``xb`` for a new one, ``r+b`` for one to go on with.
        nameless: whether it has no name, whatever it is called, until it is given one.

    Attributes:
        nameless: as given.
        known: of its bytes.
        before: bytes that were there before, and are still to be counted.
    """

    def __init__(self, name: str, *, folder: int, space: Space, mode: str = "xb", nameless: bool = False) -> None:
        opened = folders.create if mode == "xb" else folders.reach
        super().__init__(
            name,
            mode,
            opener=lambda path, flags: folders.nameless(folder) if nameless else opened(path, flags, folder),
        )
        self.nameless = nameless
        self._space = space
        self.known = Known()
        self.before = 0

    def write(self, block: Block) -> int:  # type: ignore[override]
        """Write all of *block*."""
        self.store(block)
        self.known.add(block)
        return len(block)

    def store(self, block: Block) -> None:
        """Write all of *block*, which is known already."""
        self._space.take(str(self.name), len(block), had=self.tell())
        rest = memoryview(block)
        while rest:
            rest = rest[super().write(rest) or 0 :]

    def recount(self, size: int) -> bool:
        """Count and hash up to *size* of the bytes that were there before; tell whether there are more."""
        end = min(self.known.tally.size + size, self.before)
        while block := self.read(min(LEAST, end - self.known.tally.size)):
            self.known.add(block)
        return end < self.before


class Home(Protocol):
    """Where partials live; see ``partials.Partials``."""

    @property
    def executor(self) -> Executor:
        """Does all file work."""
        ...

    async def expect(self, partial: "Partial", promise: Promise) -> None:
        """Hold room for the rest of a file; note what was promised if it can be carried on."""
        ...

    async def drop(self, slot: Slot) -> None:
        """Close and remove what there is of a file."""
        ...

    def make(self, slot: Slot) -> HashedFile:
        """Make a file, in a thread, in place of what there is of it."""
        ...

    def make_whole(self, slot: Slot) -> HashedFile:
        """Make a file, in a thread, of which all is here: nobody will ever carry it on, and it needs no name yet."""
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
        raw: the file; None while its bytes are few, and in memory.
        promise: what was said of it before the transfer was interrupted; None if it begins with its first byte.
        published: whether it has its final name, which an earlier process gave it.
    """

    def __init__(self, home: Home, slot: Slot, raw: HashedFile | None = None, promise: Promise | None = None) -> None:
        self.slot = slot
        self._home = home
        self.raw = raw
        self.promise = promise
        self.published = raw is not None and os.fstat(raw.fileno()).st_nlink > 1
        self._known = Known() if raw is None else raw.known
        self._early: list[bytes] = []
        self._append = aiofiles.os.wrap(self.append_now)

    @property
    def name(self) -> str:
        """Its name within ``.partial/``."""
        return f"{self.slot.name}.part"

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self._known.tally.size

    @property
    def head(self) -> bytes:
        """The first ``content.HEAD`` of them."""
        return self._known.head

    @property
    def tally(self) -> Tally:
        """Their number and digests."""
        return self._known.tally

    @property
    def sha256(self) -> str:
        """Hex digest of all of them."""
        return self.tally.hex("sha256")

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
        if self.raw is None:
            self._known = Known(promise.algorithms)
        if promise.total is None or promise.total >= LEAST:
            await self._home.expect(self, promise)

    async def write(self, block: Block) -> None:
        """Append *block*; if cancelled, not before the thread that writes has stopped."""
        if self.raw is None and self.size + len(block) < LEAST:
            self._early.append(bytes(block))
            self._known.keep(self._early[-1])
        else:
            await finish(self._append(block, executor=self._home.executor))

    def append_now(self, block: Block = b"") -> HashedFile:
        """Have all that came, and *block*, in the file; in a thread. Raises OSError."""
        raw = self.raw or self._poured(self._home.make(self.slot))
        if block:
            raw.write(block)
        return raw

    def whole_now(self) -> HashedFile:
        """Have all of it in the file, for it is whole; in a thread. Raises OSError."""
        return self.raw or self._poured(self._home.make_whole(self.slot))

    def _poured(self, raw: HashedFile) -> HashedFile:
        """Pour what is in memory into a new file."""
        self.raw, raw.known = raw, self._known
        raw.store(b"".join(self._early))
        self._early.clear()
        self.tally.hash_kept()
        return raw

    async def restart(self) -> None:
        """Begin with the first byte again."""
        self.raw, self.promise, self.published = None, None, False
        self._known = Known()
        self._early.clear()
        await self._home.drop(self.slot)

    def spoil(self) -> None:
        """Let nobody carry it on: its bytes are wrong, or may be."""
        self._home.spoil(self.slot)
