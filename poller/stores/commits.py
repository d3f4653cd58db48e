"""Group commit: one write at a time, and whatever arrives during it goes into the next.

A sync takes as long for a hundred changes as for one. So nobody waits in a queue of syncs:
each waits for the one that is under way, if at all, and for the next.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from poller.errors import StoreUnavailable

_HEALS = "it goes on by itself as soon as its disk does"
_MANY = 1_000
"""Changes that are written without lingering: a commit is written and read in one go, and should not be long."""
LINGER = 1.0
"""Seconds after which a change that nobody waits for is on its way to the disk."""


class _Batch(asyncio.Future[bool]):
    """What a commit's waiters await: whether it is on disk.

    A cancellation does not end the wait. asyncio delivers it when the wait is over: the
    change is on its way to the disk by then, and whoever is cancelled may not leave before
    it is known whether it got there.
    """

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - asyncio's signature
        return False


class Commits:
    """Gathers changes and has them written by a thread of its own.

    Args:
        write: writes some changes as one commit and returns once they are on disk.
        linger: seconds after which changes that nobody waits for are written as well.
        written: called after each commit, in the event loop.

    Attributes:
        problem: why nothing is taken any more; None when all is well.
        unsettled: changes of which nobody knows whether they are on disk, once there is a problem.
    """

    def __init__(
        self,
        write: Callable[[Sequence[bytes]], None],
        *,
        linger: float = LINGER,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self.problem: str | None = None
        self._write = write
        self._linger = linger
        self._written = written
        self._loop = asyncio.get_running_loop()
        self.unsettled: Sequence[bytes] = ()
        self._hint = ""
        self._written_now: Sequence[bytes] = ()
        self._staged: list[bytes] = []
        self._next = _Batch(loop=self._loop)
        self._current: _Batch | None = None
        self._wanted = False
        self._timer: asyncio.TimerHandle | None = None
        self._work: SimpleQueue[Sequence[bytes] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="poller-journal", daemon=True)
        self._thread.start()

    def demand(self) -> None:
        """Raise StoreUnavailable if nothing is taken."""
        if self.problem is not None:
            raise StoreUnavailable(self.problem, hint=self._hint)

    def stage(self, changes: bytes) -> None:
        """Take changes into the next commit; ``settle`` or ``linger`` must follow.

        Raises:
            StoreUnavailable: nothing is taken.
        """
        self.demand()
        self._staged.append(changes)

    def linger(self) -> None:
        """See to it that everything staged so far is written soon, though nobody waits for it."""
        if len(self._staged) >= _MANY:
            self._begin()
        elif self._timer is None and self._current is None and self._staged:
            self._timer = self._loop.call_later(self._linger, self._begin)

    async def settle(self) -> None:
        """Return once everything staged so far is on disk; a cancellation waits for that too.

        Raises:
            StoreUnavailable: it may be there or not; nothing more is taken.
        """
        batch = self._current
        if self._staged:
            batch, self._wanted = self._next, True
            self._begin()
        if batch is not None and not await batch:
            self.demand()

    async def close(self) -> None:
        """Write what is staged, take no more, and let go of the thread."""
        self.problem = self.problem or "the store is closed"
        try:
            await self.settle()
        finally:
            self._stop_timer()
            self._work.put(None)

    def _begin(self) -> None:
        if self._current is not None or not self._staged:
            return
        self._stop_timer()
        changes, self._staged = self._staged, []
        self._written_now = changes
        self._current, self._next = self._next, _Batch(loop=self._loop)
        self._wanted = False
        self._work.put(changes)

    def _run(self) -> None:
        """Write one commit after the other, in the thread."""
        while (changes := self._work.get()) is not None:
            error: BaseException | None = None
            try:
                self._write(changes)
            except BaseException as caught:
                error = caught
            with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
        elif self._current is not None:
            self._current.set_result(True)
            self._loop.call_soon(self._go_on)  # after those who waited, so that what they change next goes along
            self._written()

    def _go_on(self) -> None:
        self._current = None
        if self._wanted:
            self._begin()
        else:
            self.linger()

    def _fail(self, error: BaseException) -> None:
        self.problem = f"writing the journal failed: {error}"
        self._hint = getattr(error, "hint", _HEALS)
        self.unsettled = [*self._written_now, *self._staged]
        self._staged = []
        for batch in (self._current, self._next):
            if batch is not None:
                batch.set_result(False)
        self._current = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
