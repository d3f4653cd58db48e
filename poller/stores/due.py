"""When orders are due: the earliest is always at hand.

A heap of a million entries takes 30 to 100 ms to make, with the interpreter lock held. So what
is loaded is sorted in short runs, whose first entries stand in a heap; what comes later is pushed
onto a heap of its own, one entry at a time.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence

RUN = 10_000
"""Entries that are sorted at a time."""


def runs(entries: Sequence[int]) -> Iterator[list[int]]:
    """Sort entries in steps that are short."""
    return (sorted(entries[start : start + RUN]) for start in range(0, len(entries), RUN))


class Due:
    """Entries of which the least comes first.

    Args:
        loaded: what there is to begin with, in no order.
    """

    def __init__(self, loaded: Sequence[int] = ()) -> None:
        self._pushed: list[int] = []
        self._runs = [run[::-1] for run in runs(loaded)]  # each from its end: what is taken is gone from memory
        self._firsts = [(run[-1], number) for number, run in enumerate(self._runs)]
        heapq.heapify(self._firsts)

    def first(self) -> int | None:
        """Give the least entry."""
        if self._firsts and not (self._pushed and self._pushed[0] < self._firsts[0][0]):
            return self._firsts[0][0]
        return self._pushed[0] if self._pushed else None

    def push(self, entry: int) -> None:
        """Take an entry in."""
        heapq.heappush(self._pushed, entry)

    def take(self) -> None:
        """Drop the least entry; there must be one."""
        if self._firsts and self.first() == self._firsts[0][0]:
            self._take_loaded()
        else:
            heapq.heappop(self._pushed)

    def _take_loaded(self) -> None:
        _, number = self._firsts[0]
        run = self._runs[number]
        run.pop()
        if run:
            heapq.heapreplace(self._firsts, (run[-1], number))
        else:
            heapq.heappop(self._firsts)

    def dismantle(self) -> None:
        """Take everything out, bit by bit."""
        for entries in (*self._runs, self._pushed):
            while entries:
                del entries[-1000:]
        self._firsts.clear()


class Eras:
    """Entries of before and after the clock was set: those of before are all due as much later, or earlier.

    A clock that is set changes what a due time means, not how long somebody waits. To move a
    million entries would take seconds; so they stay, and how far they are off is noted once.

    Args:
        loaded: what there is to begin with, in no order.
    """

    def __init__(self, loaded: Sequence[int] = ()) -> None:
        self._now = Due(loaded)
        self._before: list[tuple[int, Due]] = []
        self._given = self._now

    def push(self, entry: int) -> None:
        """Take an entry in, as times are now."""
        self._now.push(entry)

    @property
    def shifted(self) -> bool:
        """Whether an entry may be off: the same one, taken in now, stands for another time."""
        return bool(self._before)

    def shift(self, by: int) -> None:
        """Move all that there is by so much."""
        self._before = [(off + by, due) for off, due in self._before] + [(by, self._now)]
        self._now = Due()

    def first(self, holds: Callable[[int], bool]) -> tuple[int, int] | None:
        """Give the entry that is due first and how far it is off; drop those before it that do not hold."""
        best = None
        for off, due in [(0, self._now), *self._before]:
            while (entry := due.first()) is not None and not holds(entry):
                due.take()
            if entry is None:
                self._forget(due)
            elif best is None or entry + off < sum(best):
                best, self._given = (entry, off), due
        return best

    def take(self) -> None:
        """Drop the entry that ``first`` gave."""
        self._given.take()

    def _forget(self, ended: Due) -> None:
        if self._before:
            self._before = [(off, due) for off, due in self._before if due is not ended]

    def dismantle(self) -> None:
        """Take everything out, bit by bit."""
        for due in (self._now, *(due for _, due in self._before)):
            due.dismantle()
