"""An event loop whose time passes only when nothing else happens: no test has to sleep."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = 1_800_000_000.0
"""Seconds since the epoch at which every virtual run begins."""


class _Selector(selectors.DefaultSelector):
    """Skips ahead instead of waiting."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen: the loop would wait for ever")
        self.loop.elapsed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Counts time by what it would have waited. Good for code without threads and sockets."""

    def __init__(self) -> None:
        self.elapsed = self.set_by = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.elapsed


def now() -> float:
    """Tell the virtual time as epoch seconds."""
    return EPOCH + asyncio.get_running_loop().time() + set_by()


def set_by() -> float:
    """Tell by how much the clock was set in all."""
    return getattr(asyncio.get_running_loop(), "set_by", 0.0)


def freeze(seconds: float) -> None:
    """Let time pass in which nothing runs at all."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.elapsed += seconds


def jump(seconds: float) -> None:
    """Set the clock that tells epoch seconds; no time passes."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.set_by += seconds


async def passes(seconds: float) -> None:
    """Let virtual time pass; nobody waits for it."""
    assert isinstance(asyncio.get_running_loop(), VirtualLoop), "only virtual time may be let pass"
    await asyncio.sleep(seconds)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* on a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
