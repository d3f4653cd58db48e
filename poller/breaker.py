"""When to leave somebody alone for a while. Pure: times are epoch seconds and come in from outside."""

from collections import deque
from collections.abc import Hashable

from poller.order import Key

_LONGEST_WISH = 3600.0
"""A remote may ask for an hour; beyond that it is mistaken or hostile."""


class Pause:
    """How long somebody is left alone: doubled each time that nothing has changed.

    Args:
        first: seconds of the first pause.
        longest: seconds of the longest that nobody asked for.

    Attributes:
        reason: why it began.
        until: epoch seconds of its end; then one may try.
    """

    def __init__(self, *, first: float = 30.0, longest: float = 300.0) -> None:
        self.reason = ""
        self.until = 0.0
        self._first, self._longest, self._length = first, longest, 0.0
        self._told_at = 0.0

    @property
    def on(self) -> bool:
        """Whether it went wrong when last tried."""
        return self._length > 0

    def begin(self, reason: str, now: float, wish: float | None = None) -> None:
        """Leave them alone; what was under way when the pause began adds nothing to it but its wish.

        Args:
            reason: why.
            now: epoch seconds.
            wish: seconds for which they ask to be left alone; an hour counts at most.
        """
        if not (self.on and now < self.until):
            self._length = min(2 * self._length, self._longest) or self._first
            self.reason, self.until = reason, now + self._length
        self.until = max(self.until, now + min(wish or 0.0, _LONGEST_WISH))
        self._told_at = now

    def shift(self, seconds: float, now: float) -> None:
        """Last as long as before though the clock was set; what began by the clock as it is *now* is right already."""
        if self.on and self._told_at <= now - seconds:
            self.until += seconds

    def end(self) -> None:
        """Go on."""
        self._length, self.until, self.reason = 0.0, 0.0, ""


class Row:
    """Troubles in a row, with no answer between.

    Args:
        troubles: so many make it full.
        orders: if they are spread over so many orders.
    """

    def __init__(self, *, troubles: int = 5, orders: int = 3) -> None:
        self._troubles, self._orders = troubles, orders
        self._whose: deque[Hashable] = deque(maxlen=troubles)
        self._full = False

    def add(self, whose: Hashable) -> bool:
        """Count a trouble of *whose* order; tell whether the row is, or was, full: then it is not this order's own."""
        self._whose.append(whose)
        spread = len(set(self._whose)) >= self._orders
        self._full = self._full or (len(self._whose) == self._troubles and spread)
        return self._full

    def clear(self) -> None:
        """Somebody was answered."""
        self._whose.clear()
        self._full = False


class Breaker:
    """Notices that a remote is down for everybody, so that no order spends its attempts on an outage.

    It opens after some troubles in a row, over several orders, with no answer between:
    failing tasks whose neighbours are answered never open it.

    Attributes:
        pause: on while it is open.
    """

    def __init__(self) -> None:
        self.pause = Pause(first=1.0, longest=60.0)
        self._row = Row()

    def fail(self, key: Key, reason: str, now: float, wish: float | None = None, *, silent: bool = False) -> bool:
        """Count a trouble; tell whether the breaker is open.

        Args:
            key: whose trouble.
            reason: what it was.
            now: epoch seconds.
            wish: seconds for which the remote asks to be left alone.
            silent: whether nothing answered at all: then it is no order's own, and each counts as one more's.
        """
        if self._row.add(object() if silent else key):
            self.pause.begin(reason, now, wish)
        return self.pause.on

    def succeed(self) -> None:
        """Somebody was answered, whatever it was that he heard."""
        self._row.clear()
        self.pause.end()
