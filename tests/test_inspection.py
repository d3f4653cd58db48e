"""Plans of when to look: within their bounds, and the best there are."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.finish import BUCKETS, EDGES, MIDDLES, WIDTHS
from poller.inspection import Bounds, Plan, plan, thriftiest

BOUNDS = Bounds(1.0, 60.0)


def _odds(*where: tuple[float, float, float]) -> list[float]:
    """Spread shares evenly between times."""
    odds = [1e-9] * BUCKETS
    for share, low, high in where:
        inside = [bucket for bucket, middle in enumerate(MIDDLES) if low < middle < high]
        for bucket in inside:
            odds[bucket] += share / len(inside)
    whole = sum(odds)
    return [p / whole for p in odds]


def _looks(made: Plan, end: float) -> list[float]:
    """Look by a plan until some time."""
    looks, moment = [], 0.0
    while moment < end and (wait := made.wait(moment)) is not None:
        moment += max(wait, 1e-3)
        looks.append(moment)
    return looks


_lumps = st.tuples(st.floats(0.01, 1.0), st.floats(0.1, 1e4), st.floats(1.2, 10.0))
any_odds = st.lists(_lumps, max_size=4).map(
    lambda lumps: _odds(*((share, low, low * far) for share, low, far in lumps))
)
# Edges that lie just under the shortest wait apart leave no choice that is less than two of them long.
any_bounds = st.builds(
    lambda shortest, times: Bounds(shortest, shortest * times), st.floats(0.05, 60.0), st.floats(2.2, 1e3)
)


@settings(max_examples=20, deadline=None)
@given(odds=any_odds, price=st.floats(1e-3, 1e3), bounds=any_bounds)
def test_every_wait_but_the_first_is_within_the_bounds(odds: list[float], price: float, bounds: Bounds) -> None:
    """Whatever the odds and the price, nobody looks sooner or later than allowed while anything is known."""
    looks = _looks(plan(odds, price, bounds), 300 * bounds.shortest)
    waits = [after - before for before, after in pairwise(looks)]
    assert all(wait >= bounds.shortest * 0.99 for wait in waits)
    assert all(wait <= bounds.longest * 1.01 for wait in waits)


@given(waited=st.floats(-1e9, 1e9) | st.just(math.inf))
def test_a_plan_has_an_answer_for_every_time(waited: float) -> None:
    """However long an order has waited, there is a wait, or the word that nothing is known."""
    wait = plan(_odds((1.0, 80, 100)), 1.0, BOUNDS).wait(waited)
    assert wait is None or not math.isnan(wait)
    assert (wait is None) is (waited >= MIDDLES[-1])


def test_nobody_looks_where_nothing_ends() -> None:
    """The first look comes when something may have ended, and a gap that is short enough is leapt over."""
    looks = _looks(plan(_odds((0.5, 20, 24), (0.5, 70, 80)), 1.0, BOUNDS), 85.0)
    assert 19 <= looks[0] <= 25
    assert not [look for look in looks if 28 < look < 68]


def test_a_gap_that_is_too_long_is_not_leapt_over() -> None:
    """The longest wait is kept where nothing is expected, too."""
    looks = _looks(plan(_odds((0.5, 20, 24), (0.5, 600, 650)), 1.0, BOUNDS), 600.0)
    assert max(after - before for before, after in pairwise(looks)) <= 60.0


def test_most_orders_are_asked_about_before_they_have_ended() -> None:
    """However cheap lateness is, not more than a fifth may end before the first look."""
    odds = _odds((1.0, 60, 120))
    first = _looks(plan(odds, 1e3, BOUNDS), 1.0)[0]
    assert sum(p for p, edge in zip(odds, EDGES[1:], strict=True) if edge <= first) <= 0.2 + 1e-6


def test_what_a_plan_expects_is_what_it_costs() -> None:
    """The looks and the lateness that are told are those of orders that end as the odds say."""
    odds = _odds((0.6, 20, 40), (0.4, 200, 300))
    made = plan(odds, 2.0, BOUNDS)
    looks = _looks(made, EDGES[-1] / 50)
    count = late = 0.0
    for p, low, width in zip(odds, EDGES, WIDTHS, strict=False):
        if p > 1e-6:
            for part in range(20):
                end = low + width * (part + 0.5) / 20
                seen = next(number for number, look in enumerate(looks) if look >= end)
                count += p / 20 * (seen + 1)
                late += p / 20 * (looks[seen] - end)
    assert made.looks == pytest.approx(count, rel=0.02)
    assert made.late == pytest.approx(late, rel=0.02)


def _cost(odds: list[float], looks: list[int], price: float) -> float:
    """Work out what looks on some edges cost, the plain way."""
    cost = price
    for begin, end in pairwise([0, *looks]):
        inside = range(begin, end)
        cost += sum(odds[bucket] * (EDGES[end] - MIDDLES[bucket]) for bucket in inside)
        cost += price * sum(odds[end:]) if end != looks[-1] else 0.0
    return cost


@pytest.mark.parametrize("price", [0.3, 1.0, 5.0])
def test_no_other_choice_of_edges_is_cheaper(price: float) -> None:
    """Against every choice of up to three looks before the last: the programme finds the best of them, or better."""
    odds = [0.0] * BUCKETS
    first = next(bucket for bucket, edge in enumerate(EDGES) if edge > 20)
    shares = (0.05, 0.1, 0.3, 0.2, 0.05, 0.05, 0.05, 0.1, 0.05, 0.05)
    odds[first : first + len(shares)] = shares
    last = first + len(shares)
    edges = range(first + 1, last)
    choices = [[last], *([one, last] for one in edges), *([a, b, last] for a in edges for b in edges if a < b)]
    choices += [[a, b, c, last] for a in edges for b in edges for c in edges if a < b < c]
    early = [looks for looks in choices if sum(odds[: looks[0]]) <= 0.2 and _far_apart(looks)]
    made = plan(odds, price, BOUNDS)
    assert price * made.looks + made.late <= min(_cost(odds, looks, price) for looks in early) + 1e-9


def _far_apart(looks: list[int]) -> bool:
    return all(EDGES[after] - EDGES[before] >= 1.0 for before, after in pairwise(looks))


@settings(max_examples=25, deadline=None)
@given(odds=any_odds, late=st.floats(0.5, 100.0), price=st.floats(0.01, 100.0))
def test_the_thriftiest_plan_is_not_late_if_any_plan_is_not(odds: list[float], late: float, price: float) -> None:
    """Where looking as often as allowed is punctual enough, so is what is found; a dearer plan would not be."""
    found, at = thriftiest(odds, late, BOUNDS, price)
    assert found.late <= late or plan(odds, 1e-3, BOUNDS).late > late * 0.99
    assert at >= 4 * late or plan(odds, at * 1.25, BOUNDS).late > late


def test_a_dearer_look_is_taken_less_often_and_later() -> None:
    """Questions fall and lateness grows with the price."""
    odds = _odds((1.0, 60, 300))
    plans = [plan(odds, 2.0**step, BOUNDS) for step in range(-4, 6)]
    assert all(one.looks >= other.looks - 1e-9 and one.late <= other.late + 1e-9 for one, other in pairwise(plans))
    assert plans[0].looks > 3 * plans[-1].looks


def test_what_has_no_memory_is_looked_at_evenly() -> None:
    """The best intervals of an exponential distribution are all alike (Barlow and Proschan 1965)."""
    odds = [math.exp(-low / 60) - math.exp(-high / 60) for low, high in pairwise(EDGES)]
    looks = [look for look in _looks(plan(odds, 1.0, Bounds(0.1, 1e3)), 120.0) if look > 30]
    waits = [after - before for before, after in pairwise(looks)]
    assert max(waits) < 2 * min(waits)
