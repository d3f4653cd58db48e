"""A day in the life of a store, and what should be there after each of its changes.

The day has every kind of change, a clean stop, a process that ends in mid-write, and a disk
that fails in mid-write and recovers. It is lived in memory for what is expected of it, and on
disk, where every operation is recorded.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace

from poller.errors import StoreUnavailable
from poller.event import Event
from poller.order import Key, Order, State
from poller.store import Query, Store
from poller.stores.memory import MemoryStore
from poller.stores.tinydb import TinyStore
from tests.stores import Crash, ScriptedFiles, an_order, die

Contents: TypeAlias = dict[Key, tuple[Order, tuple[Event, ...]]]
Entry: TypeAlias = tuple[str, tuple[Any, ...]]


class Change(NamedTuple):
    """One change: *soft* is one that may be lost as long as nothing durable follows."""

    make: Callable[[Store], Awaitable[object]]
    soft: bool = False


def add(*orders: Order) -> Change:
    """Add orders."""
    return Change(lambda store: store.add(orders))


def save(order: Order, event: str) -> Change:
    """Save an order and tell of it, durably."""
    return Change(lambda store: store.save(order, Event(at=order.updated_at, event=event)))


def soft(order: Order) -> Change:
    """Save an order that is not ready."""
    return Change(lambda store: store.save(order, durable=False), soft=True)


def forget(before: float) -> Change:
    """Forget what is old."""
    return Change(lambda store: store.forget(before=before))


def later(order: Order, version: int, **changed: Any) -> Order:
    """Make a later version of an order."""
    return replace(order, version=version, **changed)


def big(task_id: str) -> Order:
    """Make an order that is several sectors long."""
    return an_order(task_id, context={"pad": task_id * 700})


HALF = 700
"""Bytes: more than the first line of a journal, and about half a frame with a big order."""
RESTART, DIE, FAIL = "close and open", "end in mid-write and open", "fail in mid-write and reopen"
ONE, TWO, THREE, FOUR = an_order("t1", due_at=1.0), an_order("t2", due_at=2.0), an_order("t3"), big("t4")
FAILED = later(TWO, 2, state=State.FAILED, due_at=None, updated_at=3.0)
RETRIED = later(TWO, 3, due_at=8.0, opened_at=8.0, updated_at=8.0)
Burst: TypeAlias = tuple[Change, ...] | str

MORNING: tuple[Burst, ...] = (
    (add(ONE),),
    (add(TWO, THREE, FOUR),),
    (save(FAILED, "failed"),),
    (soft(later(ONE, 2, checks=1)),),
    (soft(later(ONE, 3, checks=2)), add(big("t5"))),
    (save(RETRIED, "retried"),),
)
EVENING: tuple[Burst, ...] = (
    (save(later(ONE, 4, state=State.DONE, due_at=None, updated_at=9.0), "done"),),
    (add(an_order("t6")), save(later(THREE, 2, checks=1), "trouble"), add(big("t7"), an_order("t8"))),
    (save(later(RETRIED, 4, state=State.FAILED, due_at=None, updated_at=4.0), "failed"),),
    (forget(before=5.0),),
    (add(an_order("t2", due_at=3.0)), soft(later(FOUR, 2, checks=1))),
)
PLAIN: tuple[Burst, ...] = (*MORNING, *EVENING)
FULL: tuple[Burst, ...] = (*MORNING[:4], RESTART, *MORNING[4:], DIE, *EVENING[:2], FAIL, *EVENING[2:], RESTART)


def changes(day: Sequence[Burst]) -> list[Change]:
    """Give the changes of a day, one after the other."""
    return [change for burst in day if not isinstance(burst, str) for change in burst]


async def contents(store: Store) -> Contents:
    """Read everything that a store holds."""
    orders = (await store.search(Query(limit=500))).orders
    return {order.key: (order, tuple((await store.history(order.key)).events)) for order in orders}


async def expectations(day: Sequence[Burst] = PLAIN) -> list[Contents]:
    """Live a day in memory: what is there before the first change, and after each."""
    store = MemoryStore()
    seen: list[Contents] = [{}]
    for change in changes(day):
        await change.make(store)
        seen.append(await contents(store))
    return seen


class RecordingFiles(ScriptedFiles):
    """The real file system, where all that changes a disk is written down, in order.

    Attributes:
        log: operations as ``disk.Disk`` knows them, and notes of what was asked for and acknowledged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Entry] = []
        self._turn = threading.RLock()
        self._created: dict[int, int] = {}
        self._count = 0

    def note(self, issued: int, acknowledged: int) -> None:
        """Remember how many changes were asked for, and how many of them may not be lost any more."""
        with self._turn:
            self.log.append(("note", (issued, acknowledged)))

    def create(self, path: Path) -> int:
        with self._turn:
            descriptor = super().create(path)
            self._created[descriptor], self._count = self._count, self._count + 1
            self.log.append(("create", (path.name,)))
            return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        with self._turn:
            written = super().write(descriptor, data)
            self.log.append(("write", (self._created[descriptor], bytes(data[:written]))))
            return written

    def reserve(self, descriptor: int, offset: int, size: int) -> None:
        with self._turn:
            super().reserve(descriptor, offset, size)
            self.log.append(("put", (self._created[descriptor], offset, bytes(size))))
            self.log.append(("sync", (self._created[descriptor],)))

    def sync(self, descriptor: int) -> None:
        with self._turn:
            super().sync(descriptor)
            self.log.append(("sync", (self._created[descriptor],)))

    def sync_folder(self, path: Path) -> None:
        with self._turn:
            super().sync_folder(path)
            self.log.append(("sync_folder", ()))


def _recording(name: str) -> Callable[..., None]:
    def operation(self: RecordingFiles, *args: Any) -> None:
        with self._turn:
            getattr(ScriptedFiles, name)(self, *args)
            self.log.append((name, tuple(each.name if isinstance(each, Path) else each for each in args)))

    return operation


for _name in ("link", "rename", "unlink", "overwrite"):
    setattr(RecordingFiles, _name, _recording(_name))


class Life:
    """A store on disk that lives through a day.

    Attributes:
        store: as it is open now.
        issued: how many changes were asked for.
        acknowledged: how many of them must be there, whatever happens.
    """

    def __init__(self, path: Path, files: RecordingFiles, *, full: int, patient: bool = True) -> None:
        self.issued = self.acknowledged = 0
        self.store: TinyStore
        self._path = path
        self._files = files
        self._full = full
        self._patient = patient

    async def live(self, day: Sequence[Burst]) -> None:
        """Open, live, and close."""
        await self._open()
        for burst in day:
            await self._have(burst)
            if self._patient:
                await self.store._folded()
        await self._close()

    async def _have(self, burst: Burst) -> None:
        acts = {RESTART: self._restart, DIE: self._die, FAIL: self._fail}
        await (acts[burst]() if isinstance(burst, str) else asyncio.gather(*map(self._change, burst)))

    async def _change(self, change: Change) -> None:
        self.issued += 1
        number = self.issued
        self._note()
        await change.make(self.store)
        if not change.soft:
            self.acknowledged = max(self.acknowledged, number)
            self._note()

    async def _open(self) -> None:
        self.store = await TinyStore.open(
            self._path, now=lambda: 5.0, files=self._files, full=self._full, linger=1000.0 if self._patient else 0.0
        )

    async def _close(self) -> None:
        await self.store.close()
        self.acknowledged = self.issued
        self._note()

    async def _restart(self) -> None:
        await self._close()
        await self._open()

    async def _die(self) -> None:
        self._files.plan = _half_a_write(Crash())
        await _refused(self.store, Crash, StoreUnavailable)
        die(self.store)
        self._files.plan = lambda call, name: None
        await self._open()

    async def _fail(self) -> None:
        self._files.plan = _half_a_write(OSError(errno.EIO, os.strerror(errno.EIO)))
        await _refused(self.store, StoreUnavailable)
        self._files.plan = lambda call, name: None
        await self.store.reopen()

    def _note(self) -> None:
        self._files.note(self.issued, self.acknowledged)


async def _refused(store: Store, *errors: type[BaseException]) -> None:
    try:
        await store.add([big("never")])
    except errors:
        return
    raise AssertionError("a change that could not be written was acknowledged")


def _half_a_write(error: BaseException) -> Callable[[int, str], object]:
    """Plan that a long write gets half through; whatever is asked for after that meets the error."""
    before, broken = "", False

    def plan(call: int, name: str) -> object:
        nonlocal before, broken
        broken = broken or before == name == "write"  # what was short is asked for again
        before = name
        if broken:
            raise error
        return HALF if name == "write" else None

    return plan
