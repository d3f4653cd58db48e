"""A coroutine that is cancelled wherever it waits."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Steps(Generic[T]):
    """Drives a coroutine and cancels it at its *number*-th suspension, and at so many more after that.

    Attributes:
        cancelled: whether it came so far.
    """

    def __init__(self, work: Coroutine[Any, Any, T], number: int, *, times: int = 1) -> None:
        self._work = work
        self._cancelled_at = range(number, number + times)
        self._count = 0
        self.cancelled = False

    def __await__(self) -> Generator[Any, Any, T]:
        send, value = self._work.send, None
        while True:
            try:
                waits = send(value)
            except StopIteration as end:
                return end.value
            if self._count in self._cancelled_at:
                self.cancelled = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            self._count += 1
            try:
                send, value = self._work.send, (yield waits)
            except BaseException as error:
                send, value = self._work.throw, error


async def ended(steps: Steps[T]) -> asyncio.Task[T]:
    """Run it in a task of its own, to its end."""

    async def drive() -> T:
        return await steps

    task = asyncio.create_task(drive())
    await asyncio.wait([task])
    return task
