"""What a histogram of finish times makes of what was seen: it keeps it, shares it out, and forgets it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.finish import BUCKETS, EDGES, MIDDLES, Finishes

times = st.floats(allow_nan=False) | st.floats(0.0, 1e5)
sights = st.lists(st.tuples(times, times), max_size=30)


def _between(finishes: Finishes, low: float, high: float) -> float:
    return sum(p for p, middle in zip(finishes.odds(), MIDDLES, strict=True) if low < middle < high)


@given(sights=sights)
def test_odds_are_odds_whatever_was_seen(sights: list[tuple[float, float]]) -> None:
    """No history, not one of a clock that was set back, makes a probability negative, or their sum anything but one."""
    finishes = Finishes()
    for after, until in sights:
        finishes.learn(after, until)
    odds = finishes.odds()
    assert len(odds) == BUCKETS
    assert all(0 < p <= 1 for p in odds)
    assert math.fsum(odds) == pytest.approx(1.0)
    assert 0 <= finishes.count <= len(sights)


@given(after=st.floats(0.0, 1e5), length=st.floats(1e-3, 1e5))
def test_an_order_adds_one_where_it_ended_and_nothing_elsewhere(after: float, length: float) -> None:
    """The buckets that an interval touches share one order between them."""
    finishes = Finishes()
    finishes.learn(after, after + length)
    touched = [bucket for bucket in range(BUCKETS) if EDGES[bucket + 1] > after and EDGES[bucket] < after + length]
    weights = finishes._weights
    assert sum(weights[bucket] for bucket in touched) == pytest.approx(1.0)
    assert sum(weights) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("after", "until"), [(5.0, 5.0), (9.0, 3.0), (0.0, math.inf), (-5.0, -1.0), (1e9, 2e9), (math.nan, 4.0)]
)
def test_what_cannot_be_or_says_nothing_is_passed_over(after: float, until: float) -> None:
    """A task that ended before it began, or at some time or other, teaches nothing."""
    finishes = Finishes()
    finishes.learn(after, until)
    assert finishes.count == 0


def test_an_order_without_an_end_says_only_that_it_takes_longer() -> None:
    """A failure after 100 s moves the odds to what comes later, in the shares that were there."""
    finishes = Finishes()
    for _ in range(20):
        finishes.learn(50.0, 55.0)
        finishes.learn(200.0, 220.0)
    early, late = _between(finishes, 40, 70), _between(finishes, 180, 240)
    for _ in range(20):
        finishes.learn(100.0, math.inf)
    assert _between(finishes, 40, 70) < 0.7 * early
    assert _between(finishes, 180, 240) > 1.2 * late
    assert _between(finishes, 70, 180) < 0.05


@pytest.mark.parametrize("orders", [1, 1_000])
def test_orders_that_waited_for_us_teach_nothing(orders: int) -> None:
    """After two hours of downtime a backlog ends "within two hours"; what was known is known as well as before."""
    finishes = Finishes()
    for _ in range(100):
        finishes.learn(85.0, 95.0)
    before = finishes.odds()
    for _ in range(orders):
        finishes.learn(0.0, 7200.0)
    assert finishes.odds() == before


def test_what_is_seen_again_and_again_is_believed_and_what_was_is_forgotten() -> None:
    """After some hundreds of orders of another kind, next to nothing is left of the first."""
    finishes = Finishes()
    for _ in range(300):
        finishes.learn(85.0, 95.0)
    assert _between(finishes, 75, 105) > 0.97
    for _ in range(600):
        finishes.learn(300.0, 330.0)
    assert _between(finishes, 75, 105) < 0.02
    assert _between(finishes, 270, 360) > 0.95
    assert finishes.count == pytest.approx(128, rel=0.01)


def test_times_that_nothing_tells_apart_are_not_heaped_up() -> None:
    """What is known of orders only that they end between 60 and 120 s is not taken for 71 s, as it once was."""
    finishes = Finishes()
    for _ in range(100):
        finishes.learn(70.0, 72.0)
    for _ in range(2_000):
        finishes.learn(60.0, 120.0)
    inside = [p for p, middle in zip(finishes.odds(), MIDDLES, strict=True) if 65 < middle < 110]
    assert max(inside) < 3 * min(inside)


def test_weights_come_back_as_they_were_written() -> None:
    """A memo is short, and makes the same histogram to three digits."""
    finishes = Finishes()
    for number in range(300):
        finishes.learn(80.0 + number % 20, 90.0 + number % 20)
    again = Finishes(finishes.weights())
    assert again.odds() == pytest.approx(finishes.odds(), abs=1e-3)
    assert len(finishes.weights()) < 40
