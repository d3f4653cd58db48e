"""The slowest that a transfer may be. Pure but for its clock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from poller.address import bare
from poller.outcome import Trouble
from poller.remote import Aborted


class Floor:
    """Gives up a transfer that drips: one byte now and then never trips an idle timeout.

    Only the remote's time counts, not what we take to deal with what has come.

    Args:
        rate: bytes per second that must be reached over every window.
        window: seconds.
        clock: monotonic seconds.
    """

    def __init__(self, *, rate: float, window: float, clock: Callable[[], float]) -> None:
        self._least = rate * window
        self._window = window
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._since, self._passed = self._clock(), 0

    def pass_on(self, count: int, url: str) -> None:
        """Count bytes; at the end of a window, see whether they were enough.

        Raises:
            Aborted: they were not.
        """
        self._passed += count
        if self._clock() - self._since < self._window:
            return
        if self._passed < self._least:
            reason = f"fewer than {self._least:.0f} bytes came in {self._window:.0f} s"
            raise Aborted(Trouble(reason=reason, address=bare(url)))
        self._begin()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let time pass uncounted."""
        began = self._clock()
        yield
        self._since += self._clock() - began
