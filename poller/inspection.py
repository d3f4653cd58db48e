"""When to look at something that ends at an unknown time. Pure; times are seconds since it began.

The theory
==========

To look costs, and so does every second by which the end is found late. Where the odds of the end are known,
the best times to look are those of the *optimal inspection policy* (Barlow, Hunter and Proschan 1963;
Barlow and Proschan, *Mathematical Theory of Reliability*, 1965, 4.3): the ones at which *price* times the number
of looks, plus the lateness, is expected to be least.

Looks fall on the edges of buckets, so a dynamic programme finds them. Let ``W(i)`` be what is still to be paid
at edge ``i`` if the end was not found there. One look more at edge ``j`` is paid for by whoever is left at ``i``, and
finds what ended between, each late by ``e(j)`` less its time::

    W(i) = least over j of  price * S(i) + sum over buckets k from i to j of p(k) * (e(j) - middle(k)) + W(j)

``S`` is the probability that it lasts longer. A bucket that is wide may have several looks in
it, evenly spread: where many fit, this is the square-root rule, that the density of looks
should be ``sqrt(hazard / (2 * price))`` (Keller 1974). Where nothing ever ends, nobody looks, however long
that is; what is memoryless is looked at evenly.

Questions are to be few **at a given lateness**. The price is found for which the best plan is as late as that: it is
the multiplier of the constraint.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from poller.finish import BUCKETS, EDGES, MIDDLES, WIDTHS

_CHEAPEST, _DEAREST = 1e-3, 4.0
"""Seconds that a look is worth: at least, and at most for each second of lateness, beyond which hardly any is saved."""
_EARLY = 0.2
"""The share that may have ended before the first look. Of what ends before, nobody ever sees when: were it more,
nobody would notice that tasks have become quicker."""
_STEP = 1.25
"""Between two prices that are tried."""


class Bounds(NamedTuple):
    """Shortest and longest wait between two looks, in seconds. The first look may come at any time."""

    shortest: float
    longest: float


class Leap(NamedTuple):
    """What to do after a look: how many more on the way to which edge."""

    to: int
    looks: int


class Plan:
    """When to look.

    Args:
        leaps: for each edge, what to do if it had not ended there.
        odds: the probability of each bucket that the plan was made for.

    Attributes:
        looks: how many are to be expected.
        late: seconds by which the end is found late, on average.
    """

    def __init__(self, leaps: Sequence[Leap], odds: Sequence[float]) -> None:
        self._leaps = leaps
        self.looks, self.late = _expected(leaps, odds)

    def wait(self, waited: float) -> float | None:
        """Tell how long to wait for the next look; None beyond all that is known."""
        at = max(bisect_right(EDGES, waited) - 1, 0)
        if at >= BUCKETS:
            return None
        done = round((waited - EDGES[at]) / WIDTHS[at] * self._leaps[at].looks)  # looks come a little early or late
        if done >= self._leaps[at].looks:
            at, done = at + 1, 0
        return None if at == BUCKETS else self._next(at, max(done, 0)) - waited

    def _next(self, at: int, done: int) -> float:
        leap = self._leaps[at]
        return EDGES[leap.to] if leap.looks == 1 else EDGES[at] + (done + 1) * WIDTHS[at] / leap.looks


def plan(odds: Sequence[float], price: float, bounds: Bounds) -> Plan:
    """Make the plan of the least cost.

    Args:
        odds: the probability of each bucket.
        price: seconds of lateness that one look is worth.
        bounds: what every wait but the first must keep to.
    """
    over = _survivors(odds)
    before = [0.0, *accumulate(odds)]
    moment = [0.0, *accumulate(p * middle for p, middle in zip(odds, MIDDLES, strict=True))]
    ends = [0.0] * BUCKETS + [before[-1] * EDGES[-1] - moment[-1]]  # what a leap to an edge costs, but for its begin
    leaps = [Leap(BUCKETS, 1)] * BUCKETS
    rest = 0.0
    for at in reversed(range(BUCKETS)):
        looks, within = _within(at, odds[at], over[at], price, bounds)
        last = bisect_right(EDGES, EDGES[at] + bounds.longest) if at else bisect_right(before, _EARLY)
        to, across = _across(at, last, ends, before[at], bounds)
        across += price * over[at] + moment[at]
        within += rest
        alone = to >= last and within < math.inf  # the only edge is too far, but the bucket can be parted
        leaps[at], rest = (Leap(at + 1, looks), within) if alone or within <= across else (Leap(to, 1), across)
        ends[at] = before[at] * EDGES[at] - moment[at] + rest
    return Plan(leaps, odds)


def thriftiest(odds: Sequence[float], late: float, bounds: Bounds, price: float) -> tuple[Plan, float]:
    """Find the plan of the fewest looks that is not later than *late*, and its price.

    Args:
        odds: the probability of each bucket.
        late: seconds, on average.
        bounds: what every wait but the first must keep to.
        price: where to begin to look for it: what it was last time.
    """
    best = plan(odds, price, bounds)
    while best.late > late and price > _CHEAPEST:
        price /= _STEP
        best = plan(odds, price, bounds)
    while price < _DEAREST * late and (dearer := plan(odds, price * _STEP, bounds)).late <= late:
        best, price = dearer, price * _STEP
    return best, price


def _across(at: int, last: int, ends: Sequence[float], known: float, bounds: Bounds) -> tuple[int, float]:
    """Give the best edge for one look, before *last* if any is, and its cost but for the look and the beginning."""
    first = min(bisect_left(EDGES, EDGES[at] + bounds.shortest, at + 1), BUCKETS) if at else 1
    last = max(last, first + 1)
    costs = [cost - known * end for cost, end in zip(ends[first:last], EDGES[first:last], strict=True)]
    least = min(costs)
    return first + costs.index(least), least


def _survivors(odds: Sequence[float]) -> list[float]:
    """Give for each edge the probability that it lasts longer."""
    return [*reversed(list(accumulate(reversed(odds)))), 0.0]


def _within(at: int, p: float, over: float, price: float, bounds: Bounds) -> tuple[int, float]:
    """Give the best number of looks in one bucket, the last on its end, and their cost; infinite if none is allowed."""
    width = WIDTHS[at]
    if width < bounds.shortest:
        return 1, math.inf
    most = max(int(width / bounds.shortest), 1)
    fewest = min(math.ceil(width / bounds.longest), most) if at else 1
    best = math.sqrt(p * width / (2 * price * max(over - p / 2, 1e-300)))
    cost, looks = min(
        (price * (looks * over - p * (looks - 1) / 2) + p * width / (2 * looks), looks)
        for looks in (min(max(int(best) + more, fewest), most) for more in (0, 1))
    )
    return looks, cost


def _expected(leaps: Sequence[Leap], odds: Sequence[float]) -> tuple[float, float]:
    over = _survivors(odds)
    at, looks, late = 0, 0.0, 0.0
    while at < BUCKETS:
        leap = leaps[at]
        if leap.looks > 1:
            looks += leap.looks * over[at] - odds[at] * (leap.looks - 1) / 2
            late += odds[at] * WIDTHS[at] / (2 * leap.looks)
        else:
            looks += over[at]
            end = EDGES[leap.to]
            late += sum(odds[bucket] * (end - MIDDLES[bucket]) for bucket in range(at, leap.to))
        at = leap.to
    return looks, late
