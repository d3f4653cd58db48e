"""Group commit: one write at a time, and whatever arrives during it goes into the next.

A sync takes as long for a hundred changes as for one. So nobody waits in a queue of syncs:
each waits for the one that is under way, if at all, and for the next.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from poller.errors import StoreUnavailable
from poller.shield import finish


class Commits:
    """Gathers changes and has them written by a thread.

    Args:
        write: writes some changes as one commit and returns once they are on disk.
        pool: where *write* runs; never twice at once.
        linger: seconds after which changes that nobody waits for are written as well.
        written: called after each commit, in the event loop.

    Attributes:
        problem: why nothing is taken any more; None when all is well.
    """

    def __init__(
        self,
        write: Callable[[Sequence[bytes]], None],
        *,
        pool: Executor,
        linger: float,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self.problem: str | None = None
        self._write = write
        self._pool = pool
        self._linger = linger
        self._written = written
        self._loop = asyncio.get_running_loop()
        self._staged: list[bytes] = []
        self._next: asyncio.Future[bool] = self._loop.create_future()
        self._current: asyncio.Future[bool] | None = None
        self._wanted = False
        self._timer: asyncio.TimerHandle | None = None

    def demand(self) -> None:
        """Raise StoreUnavailable if nothing is taken."""
        if self.problem is not None:
            raise StoreUnavailable(self.problem, hint="make room on its disk, or repair it")

    def stage(self, changes: bytes) -> None:
        """Take changes into the next commit.

        Raises:
            StoreUnavailable: nothing is taken.
        """
        self.demand()
        self._staged.append(changes)
        if self._timer is None and self._current is None:
            self._timer = self._loop.call_later(self._linger, self._begin)

    async def settle(self) -> None:
        """Return once everything staged so far is on disk; a cancellation waits for that too.

        Raises:
            StoreUnavailable: it may be there or not; nothing more is taken.
        """
        if self._staged:
            batch, self._wanted = self._next, True
            self._begin()
        elif self._current is not None:
            batch = self._current
        else:
            return
        if not await finish(batch):
            self.demand()

    async def close(self) -> None:
        """Write what is staged and take no more."""
        try:
            await self.settle()
        finally:
            self.problem = self.problem or "the store is closed"

    def _begin(self) -> None:
        if self._current is not None or not self._staged:
            return
        self._stop_timer()
        changes, self._staged = self._staged, []
        self._current, self._next = self._next, self._loop.create_future()
        self._wanted = False
        self._loop.run_in_executor(self._pool, self._write, changes).add_done_callback(self._end)

    def _end(self, work: asyncio.Future[None]) -> None:
        error = work.exception()
        if error is not None:
            self._fail(error)
        elif self._current is not None:
            self._current.set_result(True)
            self._current = None
            self._go_on()
            self._written()

    def _go_on(self) -> None:
        if self._wanted:
            self._begin()
        elif self._staged:
            self._timer = self._loop.call_later(self._linger, self._begin)

    def _fail(self, error: BaseException) -> None:
        self.problem = f"writing the journal failed: {error}"
        self._staged.clear()
        for batch in (self._current, self._next):
            if batch is not None:
                batch.set_result(False)
        self._current = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
