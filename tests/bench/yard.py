"""Where benchmarks are run: how large, how often, and stores to run them on."""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from poller.stores.tinydb import TinyStore
from tests.bench import orders
from tests.bench.figure import Pair

T = TypeVar("T")
SMALL = 1_000
"""Orders in a store whose size should cost nothing."""


class Yard(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a run.

    Attributes:
        folder: on the disk to measure.
        orders: how many a large store holds.
        rounds: repetitions of what is compared with something else.
        batch: how many orders one repetition changes.
        seconds: for how long what is only looked at goes on, at least.
    """

    folder: Path
    orders: int
    rounds: int = 11
    batch: int = 12_800
    seconds: float = 2.0

    def new(self) -> Path:
        """Make an empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def store(self, kind: str, count: int) -> Path:
        """Copy a store of *count* orders into a folder of its own; it is built the first time."""
        built = self.folder / f"{kind}-{count}.json"
        if not built.exists():
            orders.build(built, kind, count)
        path = Path(shutil.copyfile(built, self.new() / "orders.json"))
        _sync(path)
        return path


def _sync(path: Path) -> None:
    """Have a file on disk now, and not while something is measured."""
    with path.open("rb") as stream:
        os.fsync(stream)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[TinyStore]:
    """Open a store as the service does, and remove it in the end."""
    store = await TinyStore.open(path, now=time.time)
    gc.collect()
    gc.freeze()
    try:
        yield store
    finally:
        await store.close()
        gc.unfreeze()
        shutil.rmtree(path.parent)


async def alternate(rounds: int, ours: Callable[[], Awaitable[float]], theirs: Callable[[], Awaitable[float]]) -> Pair:
    """Do work both ways by turns, now one first and now the other; a first round warms up and does not count."""
    pair = Pair()
    for number in range(rounds + 1):
        sides = [(ours, pair.ours), (theirs, pair.theirs)]
        for work, repetitions in sides if number % 2 else reversed(sides):
            repetitions.append(await work())
    return Pair(pair.ours[1:], pair.theirs[1:])


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a process of its own, whose memory nobody has used before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
