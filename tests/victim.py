"""A process that lives through a short day with a store, and is killed at a named point of it.

Started anew on the same files, it goes on where it was.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

from poller.order import State
from poller.stores.tinydb import TinyStore
from tests.day import FOUR, ONE, TWO, Change, add, big, contents, expectations, later, save, soft
from tests.killing import KillingFiles
from tests.stores import an_order, die, tear

CHANGES: dict[str, tuple[Change, ...]] = {
    "add": (add(ONE),),
    "save": (save(later(ONE, 2, checks=1), "trouble"),),
    "soft": (soft(later(ONE, 3, checks=2)),),
    "rotate": (add(TWO, FOUR),),
    "fresh": (save(later(ONE, 4, state=State.DONE, due_at=None), "done"),),
    "last": (add(big("t5")),),
    "end": (add(an_order("t6")),),
}
"""What is done in each phase in which something changes."""
DAY = tuple(CHANGES.values())
Act: TypeAlias = Callable[[], Awaitable[None]]


class Victim:
    """A store that is opened, changed, closed, opened, left, and opened again.

    Attributes:
        store: as it is open now.
        found: how many changes were there at first.
        done: how many there are now.
    """

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        self.store: TinyStore
        self.found = self.done = 0
        self._path = path
        self._tell = tell
        self._files = KillingFiles()

    async def live(self) -> None:
        """Live the whole day, but for the changes that were made before."""
        for phase in ("found", "add", "save", "soft", "rotate", "fresh", "close", "open", "last", "recover", "end"):
            self._files.phase = phase
            await self._step(phase)
        self._files.phase = "stop"
        await self.store.close()

    async def _step(self, phase: str) -> None:
        if phase in CHANGES:
            await self._change(phase)
        else:
            await self._acts()[phase]()

    def _acts(self) -> dict[str, Act]:
        return {"found": self._found, "close": self._close, "open": self._open, "recover": self._recover}

    async def _change(self, phase: str) -> None:
        number = list(CHANGES).index(phase)
        if number < self.done:
            return
        self.store._ledger._full = 1 if phase == "rotate" else 10**9
        await CHANGES[phase][0].make(self.store)
        await self.store._commits.settle()  # for what nobody waits for
        self.done += 1
        self._tell(self.done)
        await self.store._folded()

    async def _open(self) -> None:
        self.store = await TinyStore.open(self._path, now=lambda: 5.0, files=self._files, linger=1000.0)

    async def _found(self) -> None:
        await self._open()
        self.found = self.done = (await expectations(DAY)).index(await contents(self.store))

    async def _close(self) -> None:
        await self.store.close()

    async def _recover(self) -> None:
        die(self.store)
        tear(self._path.with_name(f"{self._path.name}.journal"))
        await self._open()


def run(path: Path, point: str, acknowledged: Connection) -> None:
    """Be that process; send how many changes are acknowledged, each time."""
    os.environ["KILL_AT"] = point
    asyncio.run(Victim(path, acknowledged.send).live())
