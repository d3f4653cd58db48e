"""One time limit on many things at once.

A timer of asyncio's own costs a tenth of what a question costs, and next to none ever rings. Limits of equal
length end in the order in which they began; so a queue holds them, and one timer waits for its head.
"""

import asyncio
from types import TracebackType


class Patience:
    """Ends what takes too long, as ``asyncio.timeout`` does.

    Attributes:
        seconds: how long it may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends: dict[Limit, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> "Limit":
        """Give a context within which a task may take so long; then it is cancelled, and TimeoutError is raised."""
        return Limit(self)

    def begin(self, limit: "Limit") -> None:
        """Have a limit end in so many seconds."""
        loop = asyncio.get_running_loop()
        self._ends[limit] = end = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look, loop)

    def forget(self, limit: "Limit") -> None:
        """Have a limit not end."""
        self._ends.pop(limit, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what is over, and look again when the next one is."""
        self._timer = None
        for limit, end in list(self._ends.items()):
            if end > loop.time():
                self._timer = loop.call_at(end, self._look, loop)
                break
            del self._ends[limit]
            limit.end()


class Limit:
    """One of many; who is cancelled from elsewhere, too, stays cancelled (see ``asyncio.Task.uncancel``)."""

    __slots__ = ("_cancelled", "_ended", "_patience", "_task")

    _task: asyncio.Task[object]

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._ended = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be limited")
        self._task, self._cancelled = task, task.cancelling()
        self._patience.begin(self)

    def end(self) -> None:
        """Cancel whoever is within."""
        self._ended = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._patience.forget(self)
        if self._ended and self._task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise TimeoutError from error
