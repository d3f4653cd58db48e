"""How late the event loop is: a task that wants to run every millisecond, and says when it did."""

import asyncio
import gc
from array import array
from time import perf_counter, process_time
from typing import Self

_EVERY = 0.001


class Ticker:
    """Ticks while its block runs.

    Attributes:
        late: how many seconds late each tick was.
        off: for how many of them this whole process had no processor: others had it, or it waited for a disk.
        collecting: how many seconds each garbage collection took, in whichever thread.
    """

    def __init__(self) -> None:
        self.late = array("d")
        self.off = array("d")
        self.collecting = array("d")
        self._began = 0.0
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        gc.callbacks.append(self._collects)
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * _EVERY)  # a stall up to the very end is seen by the tick after it
        gc.callbacks.remove(self._collects)
        self._task.cancel()
        await asyncio.wait([self._task])

    def _collects(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._began = perf_counter()
        else:
            self.collecting.append(perf_counter() - self._began)

    async def _tick(self) -> None:
        while True:
            wanted, used = perf_counter() + _EVERY, process_time()
            await asyncio.sleep(_EVERY)
            late = perf_counter() - wanted
            self.late.append(late)
            self.off.append(max(0.0, late - (process_time() - used)))
