"""Files that are still being received, and the beginnings that interrupted transfers have left.

They lie in ``.partial/`` inside the orders folder, so that they are on the same file
system. Each is locked while somebody receives it, and the lock dies with him.

A file of some size whose bytes the remote can name (``promise``: its validator) has a
**sidecar** beside it before its first byte: which order's it is, and what was promised.
Such a transfer goes on where it stopped, in this process or in the next. Three rules:

1. What a process wrote is there after its end, but need not be after a power cut: a partial
   of another boot is worth nothing.
2. A partial with a second name is published: its process died before that was saved. It
   is as complete as it ever will be, and is never written to again.
3. It outlives neither its order's generation nor a fault of the disk: it goes when the
   order comes to rest, or at the next start.
"""

import errno
import fcntl
import os
import re
import stat
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from io import FileIO
from typing import TYPE_CHECKING, NamedTuple

import aiofiles.os
import msgspec
from aiofiles.threadpool import wrap as aio

from poller import folders
from poller.content import HEAD
from poller.digest import Tally
from poller.order import Key, Order, State
from poller.promise import Promise
from poller.shield import finish
from poller.space import Space

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

    from poller.event import Event

LEAST = 2**20
"""Bytes below which a file is as quickly fetched anew."""
_HASHED = 2**26
"""Bytes read back at a time: nobody who is cancelled waits for more."""
_SIDECAR_BYTES = 2**16
_NAME = re.compile(r"[0-9a-f]{32}-[0-9]+")


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


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a partial; nothing in it is secret.

    Attributes:
        boot: in which the partial was written.
        promise: what the remote said of the file.
    """

    slot: Slot
    boot: str
    promise: Promise


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


class Partial:
    """A file that is still being received; nobody but its owner sees it.

    Attributes:
        slot: whose it is.
        raw: the file.
        promise: what was said of it before the transfer was interrupted; None if it begins with its first byte.
        published: whether it has its final name, which an earlier process gave it.
    """

    def __init__(self, home: "Partials", slot: Slot, raw: HashedFile, promise: Promise | None = None) -> None:
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


class Partials:
    """Keeps ``.partial/``.

    Args:
        folder: it, open.
        executor: does all file work.
        keep: bytes of the disk that stay free.
        boot: names the machine's current boot.
        demand: makes sure, in a thread, that the folder is where it was; raises OSError if it is not.
    """

    def __init__(self, *, folder: int, executor: Executor, keep: int, boot: str, demand: Callable[[], None]) -> None:
        self.executor = executor
        self._folder = folder
        self._space = Space(folder=folder, keep=keep)
        self._boot = boot
        self._demand = demand
        self._open = aiofiles.os.wrap(self._open_now)
        self._recount = aiofiles.os.wrap(HashedFile.recount)
        self._expect = aiofiles.os.wrap(self._expect_now)
        self._anew = aiofiles.os.wrap(self._anew_now)
        self._leave = aiofiles.os.wrap(self.leave_now)
        self._listed = aiofiles.os.wrap(self._listed_now)
        self._remove = aiofiles.os.wrap(self._remove_now)
        self._begun: dict[str, HashedFile | None] = {}
        self._noted: defaultdict[str, set[str]] = defaultdict(set)
        """By family: which partials have a sidecar."""
        self._removing: list[Future[None]] = []

    @asynccontextmanager
    async def partial(self, slot: Slot) -> AsyncIterator[Partial]:
        """Begin a file, or go on with one; afterwards it is gone, unless it was noted and can be carried on.

        Raises:
            OSError: the disk failed, or somebody else receives this very file.
        """
        if slot.name in self._begun:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), f"{slot.name}.part")
        self._begun[slot.name] = None
        try:
            raw, promise = await finish(self._open(slot, executor=self.executor))
            while promise is not None and await finish(self._recount(raw, _HASHED, executor=self.executor)):
                pass
            yield Partial(self, slot, raw, promise)
        except OSError:  # the disk may need the room, and what is on it is doubtful
            self.spoil(slot)
            raise
        finally:
            if slot.name in self._begun:
                await finish(self._leave(slot, executor=self.executor))

    async def expect(self, partial: Partial, promise: Promise) -> None:
        """Hold room for the rest of a file; note what was promised if it can be carried on."""
        await finish(self._expect(partial, promise, executor=self.executor))

    async def anew(self, slot: Slot) -> HashedFile:
        """Begin a file with its first byte, whatever there is of it."""
        raw: HashedFile = await finish(self._anew(slot, executor=self.executor))
        return raw

    def spoil(self, slot: Slot) -> None:
        """Let nobody carry this one on; it goes when its owner leaves it."""
        self._noted.get(slot.family, set()).discard(slot.name)

    def told(self, order: Order, _event: "Event") -> None:
        """Remove the partials of an order that has come to rest."""
        if order.state is State.PENDING or not self._noted:
            return
        if names := self._noted.pop(Slot.of(order).family, None):
            with suppress(RuntimeError):  # too late for it: the next start will
                self._removing.append(self.executor.submit(self._remove_now, names))
        self._removing = [each for each in self._removing if not each.done()]

    def close(self) -> None:
        """Wait for what is being removed."""
        wait(self._removing)

    async def sweep(self, get: Callable[[Key], Awaitable[Order | None]]) -> None:
        """Remove what nobody will carry on: of orders that are not pending any more, of another boot, of the dead.

        Args:
            get: reads an order.
        """
        useless = []
        for name, sidecar in await self._listed(executor=self.executor):
            if sidecar is not None and _is_wanted(sidecar.slot, await get(Key(*sidecar.slot[:2]))):
                self._noted[sidecar.slot.family].add(name)
            else:
                useless.append(name)
        await self._remove(useless, executor=self.executor)

    # --- in a thread

    def leave_now(self, slot: Slot) -> None:
        """Close a file, and remove it unless it is noted; if that fails, the next start will."""
        if self._closed(slot) and slot.name not in self._noted.get(slot.family, ()):
            self._unlink(slot.name, noted=slot.family in self._noted)
        del self._begun[slot.name]

    def _closed(self, slot: Slot) -> bool:
        """Close a file; tell whether it was open."""
        raw, self._begun[slot.name] = self._begun[slot.name], None
        if raw is None:
            return False
        self._space.let_go(str(raw.name))
        with suppress(OSError):
            raw.close()
        return True

    def _open_now(self, slot: Slot) -> tuple[HashedFile, Promise | None]:
        self._demand()
        sidecar = self._sidecar(slot.name)
        if sidecar is not None and (raw := self._carried_on(slot, sidecar.promise)) is not None:
            self._noted[slot.family].add(slot.name)
            return raw, sidecar.promise
        return self._anew_now(slot), None

    def _carried_on(self, slot: Slot, promise: Promise) -> HashedFile | None:
        """Open what there is of a file. Its last byte is asked for again, so that there always is a rest to ask for."""
        try:
            raw = self._locked(slot, "r+b")
        except FileNotFoundError:
            return None
        raw.tally = Tally({"sha256", *promise.algorithms})
        status = os.fstat(raw.fileno())
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return None
        raw.known = status.st_size - (status.st_nlink == 1)
        return raw

    def _anew_now(self, slot: Slot) -> HashedFile:
        self._closed(slot)
        self.spoil(slot)
        self._remove_now([slot.name])
        return self._locked(slot, "xb")

    def _locked(self, slot: Slot, mode: str) -> HashedFile:
        raw = HashedFile(f"{slot.name}.part", folder=self._folder, space=self._space, mode=mode)
        try:
            fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raw.close()
            raise
        self._begun[slot.name] = raw
        return raw

    def _expect_now(self, partial: Partial, promise: Promise) -> None:
        if promise.total is not None:
            self._space.hold(str(partial.raw.name), promise.total - partial.size)
        if promise.resumable and partial.promise is None:
            self._note(Sidecar(slot=partial.slot, boot=self._boot, promise=promise))

    def _note(self, sidecar: Sidecar) -> None:
        """Write a sidecar. It needs no sync: after a power cut it is worth nothing."""
        name = f"{sidecar.slot.name}.json"
        with FileIO(name, "xb", opener=lambda path, flags: folders.create(path, flags, self._folder)) as file:
            file.write(msgspec.json.encode(sidecar))
        self._noted[sidecar.slot.family].add(sidecar.slot.name)

    def _sidecar(self, name: str) -> Sidecar | None:
        """Read a sidecar; None if there is none that can be relied on."""
        try:
            with folders.read(f"{name}.json", self._folder) as file:
                sidecar = msgspec.json.decode(file.read(_SIDECAR_BYTES), type=Sidecar)
        except (OSError, msgspec.DecodeError):
            return None
        return sidecar if sidecar.boot == self._boot and sidecar.slot.name == name else None

    def _listed_now(self) -> list[tuple[str, Sidecar | None]]:
        """List what is there, with what is known of it."""
        found = [name.rpartition(".") for name in os.listdir(self._folder)]  # noqa: PTH208 - by handle: the path may have changed
        names = {name for name, _, ext in found if ext == "part" or (ext == "json" and _NAME.fullmatch(name))}
        parts = {name for name, _, ext in found if ext == "part"}
        return [(name, self._sidecar(name) if name in parts else None) for name in sorted(names)]

    def _remove_now(self, names: Iterable[str]) -> None:
        """Remove partials, but for those that somebody is receiving."""
        for name in names:
            with suppress(OSError):
                self._demand_idle(name)
                self._unlink(name)

    def _demand_idle(self, name: str) -> None:
        with suppress(FileNotFoundError), folders.read(f"{name}.part", self._folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlink(self, name: str, *, noted: bool = True) -> None:
        for each in (f"{name}.json", f"{name}.part") if noted else (f"{name}.part",):
            with suppress(OSError):
                os.unlink(each, dir_fd=self._folder)


def _is_wanted(slot: Slot, order: Order | None) -> bool:
    return order is not None and order.state is State.PENDING and order.generation == slot.generation
