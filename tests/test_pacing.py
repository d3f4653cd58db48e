"""The learned pacing against rules that learn nothing, at a small size: few questions, and no later."""

import random

import pytest

from poller.pace import Pace
from tests.bench.pacing import CASES, RULES, Case, Cost, learned, least_questions, lognormal, measure, quantiles

pytestmark = pytest.mark.unmeasured

ORDERS = 700


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("lognormal, 90 s ± 10 %", 1 / 3),
        ("lognormal, 10 min ± 15 %", 1 / 3),
        ("bimodal, 5 s or 60 s ± 10 %", 0.45),
        ("drifting, 60 s to 2 min ± 10 %", 0.75),  # four times as fast as in the benchmark
    ],
)
def test_questions_are_few_where_times_are_alike(name: str, share: float) -> None:
    """At the lateness that we have, the best other rule asks far more often; nobody could ask less than the bound."""
    found = measure(CASES[name], ORDERS, seed=1, points=150)
    assert found.share <= share
    assert found.ours.questions >= 0.95 * found.least


@pytest.mark.parametrize("name", ["memoryless, 60 s", "lognormal, 90 s ± 60 %", "heavy-tailed, Pareto 1.5 from 20 s"])
def test_questions_are_no_more_than_others_where_there_is_nothing_to_learn(name: str) -> None:
    """Not even for tasks without memory, whose best rule is a fixed interval, chosen by who knows them."""
    assert measure(CASES[name], ORDERS, seed=1, points=150).share <= 1.15


@pytest.mark.parametrize("name", CASES)
def test_nobody_waits_longer_than_by_the_fixed_rule(name: str) -> None:
    """On average a file is found no later than before anything was learned, and with fewer questions."""
    times = CASES[name].times(ORDERS, random.Random(1))
    ours = Cost.of(learned(times, Pace.learning(interval_max=CASES[name].longest)))
    fixed = Cost.of(_unlearned(times, CASES[name].longest))
    assert ours.questions < 0.7 * fixed.questions
    assert ours.late < 1.25 * fixed.late


def _unlearned(times: list[float], longest: float) -> list[tuple[int, float]]:
    pace, found = Pace(interval_max=longest), []
    for time in times:
        moment, questions = 0.0, 1
        while moment < time:
            moment, questions = moment + pace.fixed(moment), questions + 1
        found.append((questions, moment - time))
    return found


def test_the_bound_is_below_every_rule_and_near_the_best() -> None:
    """Of tasks that all take the same time, one question each is the least; of others, no rule asks less."""
    assert least_questions([[60.0] * 50], 1.0) == pytest.approx(1.0, abs=0.02)
    times = quantiles(lognormal(90, 0.3), 400)
    for rule in RULES.values():
        cost = Cost.of(rule.cost(times))
        assert least_questions([times], cost.late) <= cost.questions


def test_times_stand_for_their_case() -> None:
    """A case of two regimes gives each its share of the orders, one after the other."""
    times = Case([lognormal(10, 0.1), lognormal(1000, 0.1)]).times(100, random.Random(1))
    assert max(times[:50]) < 100 < min(times[50:])
