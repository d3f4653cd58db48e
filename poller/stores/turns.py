"""How long work may last, so that others get their turn: in the event loop, and in threads."""

import asyncio
import gc
import sys
import time

_TURN = 0.002
"""Seconds after which others get their turn."""
_SWITCH = 0.000_05
"""Seconds for which a thread keeps the interpreter that another one wants, while there is work in the background."""


class Turn:
    """What others must wait for: not much longer than ``_TURN`` at a time."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    async def over(self) -> None:
        """Let others have theirs, if this one lasted long enough."""
        if time.monotonic() - self._began > _TURN:
            await asyncio.sleep(0)
            self._began = time.monotonic()


class Background:
    """Lets others go on while stores are read or folded: they get their turn soon, and nothing is collected.

    A thread that waits for the interpreter asks for it when nobody gave it away during one switch
    interval. Whoever reads and sums up files gives it away every millisecond by himself, for some
    microseconds in which nobody has woken up yet; with an interval as long as that, nobody ever
    asks, and the event loop is held up for 20 to 90 ms at a time.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._before = (True, 0.005)

    def __enter__(self) -> None:
        if not self._inside:
            self._before = (gc.isenabled(), sys.getswitchinterval())
            gc.disable()
            sys.setswitchinterval(_SWITCH)
        self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._inside -= 1
        if kind is None:
            gc.freeze()  # else every full collection would look at all that was loaded
        if not self._inside:
            collecting, interval = self._before
            sys.setswitchinterval(interval)
            if collecting:
                gc.enable()


background = Background()
"""Of this process."""
