"""When to leave somebody alone for a while. Pure: times are epoch seconds and come in from outside."""

from collections import deque

from poller.order import Key


class Pause:
    """How long somebody is left alone: doubled each time that nothing has changed.

    Args:
        first: seconds of the first pause.
        longest: seconds of the longest.

    Attributes:
        reason: why it began.
        until: epoch seconds of its end; then one may try.
    """

    def __init__(self, *, first: float = 30.0, longest: float = 300.0) -> None:
        self.reason = ""
        self.until = 0.0
        self._first, self._longest, self._length = first, longest, 0.0

    @property
    def on(self) -> bool:
        """Whether it went wrong when last tried."""
        return self._length > 0

    def begin(self, reason: str, now: float) -> None:
        """Leave them alone; what was under way when the pause began adds nothing to it."""
        if self.on and now < self.until:
            return
        self._length = min(2 * self._length, self._longest) or self._first
        self.reason, self.until = reason, now + self._length

    def end(self) -> None:
        """Go on."""
        self._length, self.until, self.reason = 0.0, 0.0, ""


class Breaker:
    """Notices that a remote is down for everybody, so that no order spends its attempts on an outage.

    It opens after some troubles in a row, over several orders, with no answer between:
    failing tasks whose neighbours are answered never open it.

    Attributes:
        pause: on while it is open.
    """

    def __init__(self, *, troubles: int = 5, orders: int = 3) -> None:
        self.pause = Pause(first=1.0, longest=60.0)
        self._troubles, self._orders = troubles, orders
        self._row: deque[Key] = deque(maxlen=troubles)

    def fail(self, key: Key, reason: str, now: float) -> bool:
        """Count a trouble; tell whether the breaker is open."""
        self._row.append(key)
        if self.pause.on or (len(self._row) == self._troubles and len(set(self._row)) >= self._orders):
            self.pause.begin(reason, now)
        return self.pause.on

    def succeed(self) -> None:
        """Somebody was answered."""
        self._row.clear()
        self.pause.end()
