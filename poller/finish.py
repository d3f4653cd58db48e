"""How long tasks take: a small histogram of finish times that forgets. Pure; times are seconds since an order began.

Buckets are spaced by the logarithm, twelve to a doubling, from a sixteenth of a second to
twelve days, and each has a weight. An order's task ended at some time that nobody saw: after
the last answer that it was not ready, and before the one that it was. Such an *interval-censored*
order adds one in all to the buckets between, in the shares that they have already: one step of
the self-consistent estimate (Efron 1967, Turnbull 1976; step by step, Cappé and Moulines 2009). An order
that failed or was given up ended nothing. It is *right-censored*: it adds one to what comes
after its last such answer, in the same way.

Where nothing tells times apart, that estimate heaps weight on a few of them, and a plan that was made for the
heaps would look just after each, find late what ended elsewhere, and never notice. So shares are taken
from weights that were smoothed (Silverman, Jones, Wilson and Nychka 1990), and so are the odds.

So an order teaches only what was seen of it. One that nobody asked about for long, because its remote was
paused or we were down, has a wide interval. Where nearly all orders end in it anyway, it says nothing, and
however many there are of them, they change nothing.

A little weight is spread over all buckets, for what was never seen yet; it does not fade. All else
fades with every order that comes: it is made of about the last hundred and twenty-eight.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

_PER_DOUBLING = 12
_FIRST, _LAST = -4, 20
"""Doublings of a second."""
_STEPS = range(_FIRST * _PER_DOUBLING, _LAST * _PER_DOUBLING + 1)
EDGES: tuple[float, ...] = (0.0, *(math.pow(2.0, step / _PER_DOUBLING) for step in _STEPS))
"""Where buckets end and begin, in seconds."""
WIDTHS = tuple(end - begin for begin, end in pairwise(EDGES))
MIDDLES = tuple((begin + end) / 2 for begin, end in pairwise(EDGES))
BUCKETS = len(WIDTHS)
_FADING = 1 - 1 / 128
_UNSEEN = 0.5
"""Weight of what was never seen, all buckets together."""
_REACH = 2
"""Buckets to each side whose weight counts as here when an order is shared out."""
_WIDE = 2 * _PER_DOUBLING
_NEARLY_ALL = 0.95
_LEAST = 1e-3
"""Weights below this are dropped when they are written down: far less than what is spread over all."""


class Finishes:
    """When the tasks of one kind ended.

    Attributes:
        count: how many orders it is made of; what has faded no longer counts.
    """

    def __init__(self, weights: Mapping[int, float] | None = None) -> None:
        self._weights = [0.0] * BUCKETS
        for bucket, weight in (weights or {}).items():
            self._weights[bucket] = weight
        self.count = sum(self._weights)

    def learn(self, after: float, until: float) -> None:
        """Take in an order that ended after one time and until another; infinity if it was never seen to end.

        What cannot be (a clock was set), and what says nothing, is passed over.
        """
        after, until = max(after, 0.0), min(until, EDGES[-1])
        if not after < until or (after, until) == (0.0, EDGES[-1]):
            return
        first, last = bisect_right(EDGES, after) - 1, bisect_left(EDGES, until)
        shares = self._shares(first, last)
        shares[0] *= (min(until, EDGES[first + 1]) - after) / WIDTHS[first]
        shares[-1] *= (until - max(after, EDGES[last - 1])) / WIDTHS[last - 1] if last - first > 1 else 1.0
        whole = sum(shares)
        if not whole or (last - first > _WIDE and whole > _NEARLY_ALL * (self.count + _UNSEEN)):
            return
        self._weights = [weight * _FADING for weight in self._weights]
        for bucket, share in enumerate(shares, start=first):
            self._weights[bucket] += share / whole
        self.count = self.count * _FADING + 1

    def odds(self) -> Sequence[float]:
        """Give the probability of each bucket."""
        whole = self.count + _UNSEEN
        padded = [self._weights[0], *self._weights, self._weights[-1]]
        threes = zip(padded, padded[1:], padded[2:], strict=False)
        return [((left + 2 * here + right) / 4 + _UNSEEN / BUCKETS) / whole for left, here, right in threes]

    def weights(self) -> dict[int, float]:
        """Give the weights that are worth keeping, by bucket."""
        return {bucket: round(weight, 3) for bucket, weight in enumerate(self._weights) if weight >= _LEAST}

    def _shares(self, first: int, last: int) -> list[float]:
        """Give the smoothed weights of some buckets."""
        below = [0.0, *accumulate(self._weights)]
        lows = (max(bucket - _REACH, 0) for bucket in range(first, last))
        highs = (min(bucket + _REACH + 1, BUCKETS) for bucket in range(first, last))
        near = (below[high] - below[low] for low, high in zip(lows, highs, strict=True))
        return [max(each, 0.0) / (2 * _REACH + 1) + _UNSEEN / BUCKETS for each in near]
