"""The event loop of one process: virtual time, and threads whose work is done when chance says so."""

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from tests.clock import VirtualLoop
from tests.stores import Crash


class Ended(KeyboardInterrupt):
    """The process is no more: an exception that no task and no callback holds back."""


class Loop(VirtualLoop):
    """An event loop that begins at some time, and does the work of threads itself.

    Args:
        began: virtual seconds.
        chance: says how long work takes.
        before: told what is about to be done in a thread; may raise in its place.
        after: called when it is done.
        submitted: told what is to be done; says how many seconds more than usual it takes.
    """

    def __init__(
        self,
        began: float,
        chance: random.Random,
        before: Callable[[Any], None],
        after: Callable[[], None],
        submitted: Callable[[Any, Sequence[Any]], float],
    ) -> None:
        super().__init__()
        self.elapsed = began
        self._chance, self._before, self._after, self._submitted = chance, before, after, submitted
        self.set_exception_handler(self._heard)
        self.errors: list[str] = []
        self._selector.select = self._skip

    def _skip(self, timeout: float | None = None) -> list[Any]:
        """Let time pass: there are no sockets that one would have to look at."""
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen: the loop would wait for ever")
        self.elapsed += timeout
        return []

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future: asyncio.Future[Any] = self.create_future()
        self.call_later(self._submitted(func, args) + self.takes(), self._do, future, func, args)
        return future

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def takes(self) -> float:
        """Say how many seconds a thread takes: mostly next to nothing, now and then long."""
        return self._chance.uniform(0.0, 0.01) if self._chance.random() < 0.95 else self._chance.uniform(0.0, 3.0)

    def _do(self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._before(func)
            result = func(*args)
        except Crash:
            raise Ended from None
        except BaseException as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)
        self._after()

    def _heard(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")


class Inline(Executor):
    """Stands in for threads: what is submitted is done at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **named))
        except Crash:
            raise Ended from None
        return future


class Thread:
    """Stands in for the thread that writes the journal: it runs a turn whenever something is in its queue."""

    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self._target = target

    def start(self) -> None:
        self._target.__self__._work.turn = self._target


class Queue:
    """Stands in for that thread's queue; what is put in is worked off by the loop, one thing after the other."""

    def __init__(self) -> None:
        self.turn: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._things: list[Any] = []

    def put(self, thing: Any) -> None:
        if thing is not None:
            self._loop.call_later(self._loop.takes(), self._work_off, thing)

    def get(self) -> Any:
        return self._things.pop(0)

    def _work_off(self, thing: Any) -> None:
        self._things = [thing, None]
        self.turn()
        self._loop._before(None)  # raises if the process died in the middle of it
