"""One time limit on many things at once.

A timer of asyncio's own costs a fifth of what a question costs, and next to none ever rings. Limits of equal
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
        self._ends: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> "_Limit":
        """Give a context whose body may take so long, and is cancelled then; after it, TimeoutError is raised."""
        return _Limit(self)

    def begin(self, timeout: asyncio.Timeout) -> None:
        """Have a timeout that was entered end in so many seconds."""
        loop = asyncio.get_running_loop()
        self._ends[timeout] = end = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look, loop)

    def end(self, timeout: asyncio.Timeout) -> None:
        """Forget a timeout that is about to be left."""
        self._ends.pop(timeout, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what is over, and look again when the next one is."""
        self._timer = None
        now = loop.time()
        for timeout, end in list(self._ends.items()):
            if end > now:
                self._timer = loop.call_at(end, self._look, loop)
                break
            del self._ends[timeout]
            timeout.reschedule(now)


class _Limit:
    __slots__ = ("_patience", "_timeout")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._patience.begin(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patience.end(self._timeout)
        await self._timeout.__aexit__(kind, error, trace)
