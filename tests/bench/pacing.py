"""Pacing: how many questions an order takes, and how late its file is noticed, in virtual time.

The learned rule is the real one. Its orders overlap, and it knows of a task only what its questions found. The other
rules are those of people and libraries; each may be **stretched**, all its waits by one factor, and of all stretches
the one counts that asks least and is no later, on average, than ours was: what somebody would choose who knew the
times beforehand. Beside them stands the least that any rule could ask at that lateness, with the distribution known:
the optimal inspection policy over its quantiles, by the Lagrangian bound.
"""

import heapq
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from statistics import NormalDist, fmean, median
from typing import NamedTuple

from msgspec.structs import replace

from poller.order import Order, place
from poller.pace import Pace
from tests.bench.figure import Figure, percentile
from tests.bench.yard import Yard

Quantile = Callable[[float], float]
"""Seconds that a task takes, by its rank from 0 to 1."""

_ORDERS = 3_000
_WARM = 200
"""Orders before the count begins: what is known by then is measured, not how it came to be known."""
_ROUNDS = 3
_POINTS = 600
"""Quantiles over which the bound is worked out."""
_UNDER_WAY = 10
_THIRD = 1 / 3
_NO_WORSE = 1.1
_NOW = 1_800_000_000.0


# --- How long tasks take ------------------------------------------------------------------


def lognormal(middle: float, spread: float) -> Quantile:
    """Take *middle* seconds, give or take a share of about *spread*."""
    return lambda rank: middle * math.exp(spread * NormalDist().inv_cdf(rank))


def pareto(least: float, tail: float) -> Quantile:
    """Take *least* seconds or more, sometimes far more: of infinite variance for a tail up to 2."""
    return lambda rank: least * (1 - rank) ** (-1 / tail)


def either(share: float, one: Quantile, other: Quantile) -> Quantile:
    """Take what *one* takes for a share of the tasks, what *other* does for the rest."""
    return lambda rank: one(rank / share) if rank < share else other((rank - share) / (1 - share))


class Case(NamedTuple):
    """One way in which tasks take time.

    Attributes:
        regimes: how long they take, one after the other, each for as many orders as the others.
        goal: what our questions must be at most, as a share of the best other rule's.
        longest: seconds allowed between two questions.
    """

    regimes: Sequence[Quantile]
    goal: float = _NO_WORSE
    longest: float = 60.0

    def times(self, orders: int, chance: random.Random) -> list[float]:
        """Give every order its time: of each regime the quantiles, in any order."""
        times = []
        for regime in self.regimes:
            some = quantiles(regime, -(-orders // len(self.regimes)))
            chance.shuffle(some)
            times += some
        return times[:orders]


def quantiles(regime: Quantile, count: int) -> list[float]:
    """Give times that stand for a distribution."""
    return [regime((number + 0.5) / count) for number in range(count)]


def _drift(begin: float, end: float, spread: float, steps: int = 30) -> list[Quantile]:
    """Go from one middle to the other and back again."""
    way = [0.5 - 0.5 * math.cos(2 * math.pi * step / steps) for step in range(steps)]
    return [lognormal(begin * (end / begin) ** share, spread) for share in way]


CASES: Mapping[str, Case] = {
    "lognormal, 90 s ± 10 %": Case([lognormal(90, 0.1)], _THIRD),
    "lognormal, 10 min ± 15 %": Case([lognormal(600, 0.15)], _THIRD),
    "lognormal, 90 s ± 30 %": Case([lognormal(90, 0.3)]),
    "lognormal, 90 s ± 60 %": Case([lognormal(90, 0.6)]),
    "bimodal, 5 s or 60 s ± 10 %": Case([either(0.6, lognormal(5, 0.1), lognormal(60, 0.1))]),
    "bimodal, 1 min or 10 min ± 10 %": Case([either(0.5, lognormal(60, 0.1), lognormal(600, 0.1))]),
    "the same, 10 min allowed between questions": Case(
        [either(0.5, lognormal(60, 0.1), lognormal(600, 0.1))], _THIRD, longest=600.0
    ),
    "heavy-tailed, Pareto 1.5 from 20 s": Case([pareto(20, 1.5)]),
    "heavy-tailed, Pareto 1.2 from 60 s": Case([pareto(60, 1.2)]),
    "drifting, 60 s to 2 min ± 10 %": Case(_drift(60, 120, 0.1), _THIRD),
    "jumping, 1 min and 5 min ± 10 %": Case([lognormal(middle, 0.1) for middle in (60, 300, 60, 300, 60)]),
    "memoryless, 60 s": Case([lambda rank: -60 * math.log(1 - rank)]),
}
"""A third is asked for where the bound leaves room for it, and elsewhere that we do no worse than others."""


# --- What a rule costs ----------------------------------------------------------------------


class Cost(NamedTuple):
    """What a rule costs: questions an order, and seconds by which the file is noticed late."""

    questions: float
    late: float
    late_p95: float

    @classmethod
    def of(cls, found: Sequence[tuple[int, float]]) -> "Cost":
        """Sum up what each order cost."""
        late = [each for _, each in found]
        return cls(fmean(questions for questions, _ in found), fmean(late), percentile(late, 95))


def learned(times: Sequence[float], pace: Pace | None = None) -> list[tuple[int, float]]:
    """Have the real rule ask about orders that come one after the other, many under way at a time."""
    pace = pace or Pace.learning()
    gap = fmean(times) / _UNDER_WAY
    queue: list[tuple[float, int, Order]] = []
    found: dict[int, tuple[int, float]] = {}
    for number, _ in enumerate(times):
        order = place("bench", f"task-{number}", _NOW + number * gap, deadline=math.inf)
        _ask_until(order.created_at, queue, times, pace, found)
        heapq.heappush(queue, (pace.first_check(order), number, order))
    _ask_until(math.inf, queue, times, pace, found)
    return [found[number] for number in range(len(times))]


def _ask_until(
    end: float,
    queue: list[tuple[float, int, Order]],
    times: Sequence[float],
    pace: Pace,
    found: dict[int, tuple[int, float]],
) -> None:
    assert pace.habits is not None
    while queue and queue[0][0] <= end:
        now, number, order = heapq.heappop(queue)
        late = now - order.opened_at - times[number]
        if late >= 0:
            found[number] = order.checks + 1, late
            pace.habits.ended(order, now, ready=True)
        else:
            order = replace(order, checks=order.checks + 1, unready_at=now)
            heapq.heappush(queue, (pace.next_check(order, now, None), number, order))


class Rule(NamedTuple):
    """A rule that learns nothing.

    Attributes:
        moments: given chance, when to ask, in seconds; endless.
        chancy: whether every order's moments are others.
    """

    moments: Callable[[random.Random], Iterator[float]]
    chancy: bool = False

    def cost(self, times: Sequence[float], stretch: float = 1.0) -> list[tuple[int, float]]:
        """Ask about every order at these moments, stretched."""
        longest, chance = max(times) / stretch, random.Random(1)
        moments = self._moments(longest, chance)
        found = []
        for time in times:
            if self.chancy:
                moments = self._moments(time / stretch, chance)
            at = bisect_left(moments, time / stretch)
            found.append((at + 1, moments[at] * stretch - time))
        return found

    def _moments(self, end: float, chance: random.Random) -> list[float]:
        moments: list[float] = []
        for moment in self.moments(chance):
            moments.append(moment)
            if moment >= end:
                break
        return moments

    def least(self, times: Sequence[float], late: float) -> Cost:
        """Give the cost of the stretch that asks least and is not later, on average."""
        about = late / Cost.of(self.cost(times)).late
        costs = (Cost.of(self.cost(times, about * 2.0 ** (step / 16))) for step in range(-32, 33))
        return min(cost for cost in costs if cost.late <= late)


def _every(seconds: float) -> Callable[[random.Random], Iterator[float]]:
    def moments(_: random.Random) -> Iterator[float]:
        return accumulate(iter(lambda: seconds, None))

    return moments


def _google(_: random.Random) -> Iterator[float]:
    """Poll as google-api-core does, but for its jitter, which gains nothing: at once, then after 1 s, 1.5 s, … 20 s."""
    moment, wait = 0.0, 1.0
    while True:
        yield moment
        moment += wait
        wait = min(wait * 1.5, 20.0)


def _smithy(chance: random.Random) -> Iterator[float]:
    """Wait as Smithy's waiters do (Smithy 2.0, "Waiter retries"): at once, then after 2 s up to 4, 8, … 120 s."""
    moment, longest = 0.0, 2.0
    while True:
        yield moment
        moment += chance.uniform(2.0, longest)
        longest = min(longest * 2, 120.0)


RULES: Mapping[str, Rule] = {
    "every_60s": Rule(_every(60.0)),
    "every_10s": Rule(_every(10.0)),
    "every_2s": Rule(_every(2.0)),
    "google": Rule(_google),
    "smithy": Rule(_smithy, chancy=True),
}
_FAMILIES = {"every": Rule(_every(1.0)), "google": RULES["google"], "smithy": RULES["smithy"]}
"""Rules that differ by more than a stretch."""


# --- The least that any rule could cost --------------------------------------------------------


def least_questions(regimes: Sequence[Sequence[float]], late: float) -> float:
    """Give a number of questions that no rule goes below at that lateness, even one that knows each regime's times.

    Whatever a question is worth, the best rule pays ``price * questions + late`` in all. So whoever is as late as
    that asks at least what is left of it; the price that proves most is taken. What is proved is a concave function
    of the price's inverse, so it has one summit.
    """

    def proved(step: float) -> float:
        price = late * 2.0**step
        return (fmean(_least_paid(times, price) for times in regimes) - late) / price

    low, high = -8.0, 8.0
    while high - low > 0.1:
        third = (high - low) / 3
        low, high = (low + third, high) if proved(low + third) < proved(high - third) else (low, high - third)
    return proved((low + high) / 2)


def _least_paid(times: Sequence[float], price: float) -> float:
    """Give the least cost of all inspection policies over some equally likely times, in rising order."""
    count = len(times)
    before = [0.0, *accumulate(times)]
    # rest[i]: what is paid for the times from the i-th on, none of which was found yet; looks come at times themselves.
    rest = [0.0] * (count + 1)
    for first in reversed(range(count)):
        looks = price * (count - first) + before[first]
        rest[first] = looks + min(
            (last - first) * times[last - 1] - before[last] + rest[last] for last in range(first + 1, count + 1)
        )
    return rest[0] / count


# --- The benchmark -------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What one case came to in one round.

    Attributes:
        others: the best stretch of each family of rules, no later than ours.
        least: the questions that no rule goes below.
    """

    ours: Cost
    others: Mapping[str, Cost]
    least: float

    @property
    def share(self) -> float:
        """Our questions, as a share of those of the best other rule."""
        return self.ours.questions / min(cost.questions for cost in self.others.values())


def measure(case: Case, orders: int, seed: int, points: int = _POINTS) -> Measured:
    """Run one case; *points* quantiles stand for it where the bound is worked out."""
    times = case.times(orders, random.Random(seed))
    warm = min(_WARM, orders // 2)
    ours = Cost.of(learned(times, Pace.learning(interval_max=case.longest))[warm:])
    others = {name: rule.least(times[warm:], ours.late) for name, rule in _FAMILIES.items()}
    known = [sorted(quantiles(regime, max(points // len(case.regimes), 50))) for regime in case.regimes]
    return Measured(ours, others, least_questions(known, ours.late))


async def pacing(yard: Yard) -> list[Figure]:
    """Run all cases; each says its goal."""
    orders, rounds = min(yard.orders, _ORDERS), range(min(yard.rounds, _ROUNDS))
    figures = []
    for name, case in CASES.items():
        found = [measure(case, orders, seed, min(_POINTS, orders // 2)) for seed in rounds]
        figures.append(_figure(name, case, found, orders))
    return figures


def _figure(name: str, case: Case, found: Sequence[Measured], orders: int) -> Figure:
    shares = [each.share for each in found]
    middle = sorted(found, key=lambda each: each.share)[len(found) // 2]
    detail = {
        "least_possible_x": middle.least / middle.ours.questions * middle.share,
        **_told("ours", middle.ours),
        **{
            key: value
            for rule, cost in middle.others.items()
            for key, value in _told(f"{rule}_stretched", cost).items()
        },
    }
    times = case.times(orders, random.Random(0))
    for rule, cost in ((rule, Cost.of(each.cost(times))) for rule, each in RULES.items()):
        detail |= _told(rule, cost)
    return Figure(
        name=f"questions, {name}",
        value=median(shares),
        unit="x",
        low=min(shares),
        high=max(shares),
        at_most=case.goal,
        detail=detail,
    )


def _told(rule: str, cost: Cost) -> dict[str, float]:
    return {f"{rule}_questions": cost.questions, f"{rule}_late_s": cost.late, f"{rule}_late_p95_s": cost.late_p95}
