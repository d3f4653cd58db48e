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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future, wait
from contextlib import asynccontextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING

import aiofiles.os
import msgspec

from poller import folders
from poller.order import Key, Order, State
from poller.partial import HashedFile, Known, Partial, Slot
from poller.promise import Promise
from poller.shield import finish
from poller.space import Space

if TYPE_CHECKING:
    from poller.event import Event

_HASHED = 2**26
"""Bytes read back at a time: nobody who is cancelled waits for more."""
_SIDECAR_BYTES = 2**16
_NAME = re.compile(r"[0-9a-f]{32}-[0-9]+")


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a partial; nothing in it is secret.

    Attributes:
        boot: in which the partial was written.
        promise: what the remote said of the file.
    """

    slot: Slot
    boot: str
    promise: Promise


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
        self._takes_nameless = folders.takes_nameless(folder)
        self._open = aiofiles.os.wrap(self._open_now)
        self._recount = aiofiles.os.wrap(HashedFile.recount)
        self._expect = aiofiles.os.wrap(self._expect_now)
        self._drop = aiofiles.os.wrap(self._drop_now)
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
            raw, promise = await self._opened(slot) if self.knows(slot) else (None, None)
            yield Partial(self, slot, raw, promise)
        except OSError:  # the disk may need the room, and what is on it is doubtful
            self.spoil(slot)
            raise
        finally:
            if self._begun.get(slot.name) is not None:
                await finish(self._leave(slot, executor=self.executor))
            self._begun.pop(slot.name, None)

    async def _opened(self, slot: Slot) -> tuple[HashedFile | None, Promise | None]:
        """Open what there is of a file, and count it; of one that cannot be carried on there is nothing then."""
        raw: HashedFile | None
        raw, promise = await finish(self._open(slot, executor=self.executor))
        while raw is not None and await finish(self._recount(raw, _HASHED, executor=self.executor)):
            pass
        return raw, promise

    async def expect(self, partial: Partial, promise: Promise) -> None:
        """Hold room for the rest of a file; note what was promised if it can be carried on."""
        await finish(self._expect(partial, promise, executor=self.executor))

    async def drop(self, slot: Slot) -> None:
        """Close and remove what there is of a file."""
        await finish(self._drop(slot, executor=self.executor))

    def spoil(self, slot: Slot) -> None:
        """Let nobody carry this one on; it goes when its owner leaves it."""
        self._noted.get(slot.family, set()).discard(slot.name)

    def knows(self, slot: Slot) -> bool:
        """Tell whether a file has a sidecar, and may be carried on."""
        return slot.name in self._noted.get(slot.family, ())

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
        if self._closed(slot) and not self.knows(slot):
            self._unlink(slot.name, noted=slot.family in self._noted)

    def _closed(self, slot: Slot) -> bool:
        """Close a file; tell whether it was open, and has a name."""
        raw, self._begun[slot.name] = self._begun[slot.name], None
        if raw is None:
            return False
        self._space.let_go(str(raw.name))
        with suppress(OSError):
            raw.close()
        return not raw.nameless

    def _open_now(self, slot: Slot) -> tuple[HashedFile | None, Promise | None]:
        self._demand()
        sidecar = self._sidecar(slot.name)
        if sidecar is not None and (raw := self._carried_on(slot, sidecar.promise)) is not None:
            return raw, sidecar.promise
        self._drop_now(slot)
        return None, None

    def _carried_on(self, slot: Slot, promise: Promise) -> HashedFile | None:
        """Open what there is of a file. Its last byte is asked for again, so that there always is a rest to ask for."""
        try:
            raw = self._locked(slot, "r+b")
        except FileNotFoundError:
            return None
        raw.known = Known(promise.algorithms)
        status = os.fstat(raw.fileno())
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return None
        raw.before = status.st_size - (status.st_nlink == 1)
        return raw

    def make(self, slot: Slot) -> HashedFile:
        """Make a file, in a thread, in place of what there is of it."""
        self._demand()
        try:
            return self._locked(slot, "xb")
        except FileExistsError:  # a process that died left it
            self._drop_now(slot)
        return self._locked(slot, "xb")

    def make_whole(self, slot: Slot) -> HashedFile:
        """Make a file, in a thread, that needs no name before its final one, if the file system has such."""
        if not self._takes_nameless:
            return self.make(slot)
        raw = HashedFile(f"{slot.name}.part", folder=self._folder, space=self._space, nameless=True)
        self._begun[slot.name] = raw
        return raw

    def _drop_now(self, slot: Slot) -> None:
        self._closed(slot)
        self.spoil(slot)
        self._remove_now([slot.name])

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
            self._space.hold(partial.name, promise.total - partial.size)
        partial.append_now()
        if promise.resumable and partial.promise is None:
            self._note(Sidecar(slot=partial.slot, boot=self._boot, promise=promise))

    def _note(self, sidecar: Sidecar) -> None:
        """Write a sidecar. It needs no sync: after a power cut it is worth nothing."""
        name = f"{sidecar.slot.name}.json"
        with FileIO(name, "wb", opener=lambda path, flags: folders.create(path, flags, self._folder)) as file:
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
