"""What is learned of a remote, and followed only while it does no worse than the fixed rule."""

import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from poller.habit import Habits, Ledger
from poller.inspection import Bounds
from poller.order import Order, place
from poller.pace import Pace
from tests.strategies import NOW

BOUNDS = Bounds(1.0, 60.0)
FIXED = Pace().fixed


def _habits(memo: object = None) -> Habits:
    return Habits(rule=FIXED, bounds=BOUNDS, memo=memo)


def _order(name: str = "t", *, at: float = NOW, **changed: object) -> Order:
    return replace(place("grafx", name, at, deadline=at + 1e6), **changed)


def _teach(habits: Habits, times: list[float], *, feed: str | None = None, at: float = NOW) -> float:
    """Have orders end, each found by the fixed rule; tell when the last did."""
    for time in times:
        order, moment, last = _order(at=at, feed=feed), at, None
        while moment - at < time:
            last = moment
            order = replace(order, checks=order.checks + 1)
            moment += FIXED(moment - at)
        habits.ended(replace(order, unready_at=last), moment, ready=True)
        at = moment + 10.0
    return at


def test_nothing_is_known_of_a_remote_that_is_new() -> None:
    """Until sixteen orders have ended, the fixed rule is followed."""
    habits = _habits()
    assert habits.wait(_order(), NOW) is None
    now = _teach(habits, [90.0] * 15)
    assert habits.wait(_order(at=now), now) is None
    now = _teach(habits, [90.0] * 3, at=now)
    assert habits.wait(_order(at=now), now) is not None


def test_the_first_question_comes_when_the_first_tasks_end() -> None:
    """Who has seen tasks take a minute and a half does not ask after a second."""
    chance, habits = random.Random(1), _habits()
    now = _teach(habits, [chance.uniform(80.0, 100.0) for _ in range(100)])
    wait = habits.wait(_order(at=now), now)
    assert wait is not None
    assert 60 < wait < 90
    later = habits.wait(_order(at=now), now + 95.0)
    assert later is not None
    assert 1.0 <= later < 30


def test_a_kind_goes_by_its_own_times_once_they_are_known() -> None:
    """A feed's orders go by the remote's until there are enough of them, and are no longer mixed with others then."""
    habits = _habits()
    now = _teach(habits, [20.0] * 100)
    assert habits.wait(_order(feed="films", at=now), now) == habits.wait(_order(at=now), now)
    now = _teach(habits, [300.0] * 30, feed="films", at=now)
    films, others = (habits.wait(_order(feed=feed, at=now), now) for feed in ("films", None))
    assert films is not None
    assert others is not None
    assert films > 200
    assert others < 30


@pytest.mark.parametrize("changed", [{"created_at": NOW - 50.0}, {"opened_at": NOW + 50.0, "generation": 2}])
def test_an_order_that_was_held_or_retried_neither_teaches_nor_is_planned_for(changed: dict[str, float]) -> None:
    """When its task began is not known."""
    habits = _habits()
    for _ in range(50):
        habits.ended(_order(**changed), NOW + 90.0, ready=True)
    assert habits.memo() is None
    now = _teach(habits, [90.0] * 50)
    assert habits.wait(_order(), now) is not None
    assert habits.wait(_order(**changed), now) is None


def test_failures_teach_only_that_it_takes_longer() -> None:
    """Orders that fail at once teach nothing, and those given up after long waiting make no question earlier."""
    habits = _habits()
    now = _teach(habits, [90.0] * 50)
    before = habits.wait(_order(at=now), now)
    for _ in range(100):
        habits.ended(_order(), NOW + 2.0, ready=False)
    assert habits.wait(_order(at=now), now) == before
    for _ in range(40):
        habits.ended(_order(unready_at=NOW + 1e5), NOW + 1e5, ready=False)
    after = habits.wait(_order(at=now + 60), now + 60)
    assert before is not None
    assert after is not None
    assert after >= before


def test_tasks_that_become_quick_are_noticed() -> None:
    """When all end long before the first question, the fixed rule finds out since when; then the plan knows."""
    chance, habits, at = random.Random(1), _habits(), NOW
    at = _teach(habits, [chance.uniform(3000.0, 4000.0) for _ in range(100)])
    first = habits.wait(_order(at=at), at)
    assert first is not None
    assert first > 2000
    found = 0
    while (wait := habits.wait(_order(at=at), at)) is not None:  # each is found only by its first question
        habits.ended(_order(at=at), at + wait, ready=True)
        at, found = at + 5000.0, found + 1
    assert found <= 5
    at = _teach(habits, [chance.uniform(20.0, 30.0) for _ in range(300)], at=at)
    assert (habits.wait(_order(at=at), at) or 0.0) < 30


def test_a_ledger_forgives_in_time() -> None:
    """Ten orders that cost ten times as much are held against the plan until dozens have cost what they should."""
    ledger, orders = Ledger(_habits()._rule), 0
    assert ledger.fair
    for _ in range(10):
        ledger.note(90.0, 91.0, 300)
    assert not ledger.fair
    while not ledger.fair:
        ledger.note(90.0, 95.0, 29)
        orders += 1
    assert 30 < orders < 200


@settings(max_examples=30, deadline=None)
@given(
    ends=st.lists(st.tuples(st.floats(-1e6, 1e7), st.none() | st.floats(-1e6, 1e7), st.booleans()), max_size=60),
    asked=st.lists(st.floats(-1e7, 1e9), min_size=1, max_size=5),
)
def test_no_history_and_no_clock_makes_nonsense(
    ends: list[tuple[float, float | None, bool]], asked: list[float]
) -> None:
    """Whatever was seen, in whatever order, and wherever the clock stands: a wait is a number, or there is none."""
    habits = _habits()
    _teach(habits, [90.0] * 20)
    for end, last, ready in ends:
        habits.ended(_order(unready_at=None if last is None else NOW + last), NOW + end, ready=ready)
    for moment in asked:
        wait = habits.wait(_order(), NOW + moment)
        assert wait is None or math.isfinite(wait)


def test_a_clock_that_was_set_back_does_not_stop_the_learning() -> None:
    """A plan from the future is made anew."""
    habits = _habits()
    now = _teach(habits, [90.0] * 50)
    first = habits.wait(_order(at=now), now)
    _teach(habits, [20.0] * 100, at=NOW - 1e6)
    again = habits.wait(_order(at=NOW - 1e5), NOW - 1e5)
    assert first is not None
    assert again is not None
    assert again < first / 2


# --- Memos


def test_what_was_learned_survives() -> None:
    """A memo, written as JSON and read again, makes the same waits; and it is small."""
    chance, habits = random.Random(1), _habits()
    now = _teach(habits, [chance.uniform(80.0, 100.0) for _ in range(100)], feed="films")
    text = msgspec.json.encode(habits.memo())
    again = _habits(msgspec.json.decode(text))
    for feed in ("films", None):
        wait, known = (each.wait(_order(feed=feed, at=now), now) for each in (habits, again))
        assert known is not None
        assert known == pytest.approx(wait, rel=0.1)
    assert len(text) < 1_500


def test_a_memo_is_written_seldom() -> None:
    """At most once a minute, and only if there is anything new; at the end, whatever there is."""
    habits = _habits()
    assert habits.memo(NOW) is None
    _teach(habits, [90.0])
    assert habits.memo(NOW) is not None
    assert habits.memo(NOW + 100.0) is None
    _teach(habits, [90.0])
    assert habits.memo(NOW + 59.0) is None
    assert habits.memo(NOW + 61.0) is not None
    _teach(habits, [90.0])
    assert habits.memo(NOW - 1e6) is not None
    _teach(habits, [90.0])
    assert habits.memo() is not None


def test_only_so_many_kinds_are_remembered() -> None:
    """A shop that makes a feed of every order fills no store; those that were heard of last stay."""
    habits = _habits()
    for number in range(100):
        _teach(habits, [90.0], feed=f"feed {number}")
    memo = habits.memo()
    assert memo is not None
    assert len(memo["kinds"]) == 32
    assert {"", "feed 99"} <= memo["kinds"].keys()
    assert "feed 1" not in memo["kinds"]


_GOOD = {"weights": {"130": 100.0}, "price": 2.0}


def _memo(**kind: object) -> dict[str, object]:
    habits = _habits()
    _teach(habits, [90.0])
    memo = habits.memo()
    assert memo is not None
    return memo | {"kinds": {"": _GOOD | kind}}


def test_a_sound_memo_is_believed() -> None:
    """The memo that the next test damages is a good one."""
    assert _habits(_memo()).wait(_order(), NOW) is not None


@pytest.mark.parametrize(
    "memo",
    [
        None,
        "text",
        17,
        [],
        {},
        {"kinds": {}},
        _memo() | {"grid": "another"},
        _memo() | {"kinds": [1]},
        _memo(weights={"a": 1.0}),
        _memo(weights={"-1": 100.0}),
        _memo(weights={"100000": 100.0}),
        _memo(weights={"130": -100.0}),
        _memo(weights={"130": 1e300}),
        _memo(weights={"130": math.nan}),
        _memo(weights={"130": "x"}),
        _memo(price=0.0),
        _memo(price=math.inf),
        _memo(price=math.nan),
        _memo(price="dear"),
    ],
)
def test_a_damaged_or_foreign_memo_is_passed_over(memo: object) -> None:
    """Nothing is known then, and everything can be learned."""
    habits = _habits(memo)
    assert habits.wait(_order(), NOW) is None
    now = _teach(habits, [90.0] * 20)
    assert habits.wait(_order(), now) is not None
