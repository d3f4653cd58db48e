"""Does for many at once, in a thread, what is cheaper done for many: a group commit.

Whoever comes while a thread is at work waits for the next turn, with all others that came
meanwhile. So one alone waits for nobody, and the more there are, the less each of them costs.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Gathers what is to be done.

    Args:
        work: done in a thread; gives for each thing what came of it, or the error.
        executor: has the threads.
        most: things that are done at once.
        turns: how many threads may be at work.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R | Exception]], *, executor: Executor, most: int, turns: int
    ) -> None:
        self._work, self._executor = work, executor
        self._most, self._turns = most, turns
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()

    async def do(self, thing: T) -> R:
        """Have it done. Who is cancelled leaves it to be done all the same.

        Raises:
            Exception: whatever it came to.
        """
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((thing, done))
        self._begin()
        return await done

    def _begin(self) -> None:
        if not self._waiting or not self._turns:
            return
        self._turns -= 1
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        things, waiting = zip(*taken, strict=True)
        self._turn(things).add_done_callback(partial(self._ended, waiting))

    def _turn(self, things: Sequence[T]) -> asyncio.Future[Sequence[R | Exception]]:
        loop = asyncio.get_running_loop()
        try:
            return loop.run_in_executor(self._executor, self._work, things)
        except RuntimeError as error:  # no thread can be had; whoever waits for one would wait for ever
            failed: asyncio.Future[Sequence[R | Exception]] = loop.create_future()
            failed.set_exception(error)
            return failed

    def _ended(self, waiting: Sequence[asyncio.Future[R]], turn: asyncio.Future[Sequence[R | Exception]]) -> None:
        self._turns += 1
        error = turn.exception()
        for done, result in zip(waiting, [error] * len(waiting) if error else turn.result(), strict=True):
            if done.cancelled():
                continue
            if isinstance(result, BaseException):
                done.set_exception(result)
            else:
                done.set_result(result)
        self._begin()
