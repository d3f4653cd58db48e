"""When to ask next: never too soon, never too late, and the same every time."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from poller import pace as module
from poller.order import Key, Order, State
from poller.pace import Pace, jitter
from tests.strategies import NOW, keys, moments, orders, paces, waits, wishes

ORDER = Order(
    remote="grafx",
    task_id="84ad",
    state=State.PENDING,
    created_at=NOW,
    updated_at=NOW,
    opened_at=NOW,
    deadline=NOW + 1e9,
)


def _questions(pace: Pace, length: float) -> list[float]:
    """Ask about an order that is never ready, and note when, in seconds since it was added."""
    asked = [NOW]
    while asked[-1] <= NOW + length:
        asked.append(pace.next_check(ORDER, asked[-1], None))
    return [moment - NOW for moment in asked[:-1]]


# --- not ready


@given(order=orders(), now=moments, wish=wishes, pace=paces)
def test_every_wait_for_a_file_is_within_its_bounds(order: Order, now: float, wish: float | None, pace: Pace) -> None:
    """No question comes sooner than the shorter bound or the wish, or later than the longer bound or an hour."""
    wait = pace.next_check(order, now, wish) - now
    wished = min(max(wish or 0.0, 0.0), 3600.0)
    assert max(pace.interval_min, wished) - 1e-3 <= wait <= max(pace.interval_max, wished) + 1e-3


@given(order=orders(), waited=waits, more=waits, wish=wishes, pace=paces)
def test_who_has_waited_longer_waits_longer(
    order: Order, waited: float, more: float, wish: float | None, pace: Pace
) -> None:
    """The next question never comes earlier because this one came later."""
    here, there = order.opened_at + waited, order.opened_at + waited + more
    assert pace.next_check(order, here, wish) <= pace.next_check(order, there, wish)
    assert pace.next_check(order, here, wish) - here <= pace.next_check(order, there, wish) - there + 1e-3


def test_an_order_from_the_future_is_asked_about_soon() -> None:
    """A clock that was set back makes no negative wait."""
    assert Pace().next_check(ORDER, NOW - 1e6, None) == NOW - 1e6 + 1.0


def test_a_new_generation_begins_with_short_waits() -> None:
    """What counts is how long this generation has waited, and not how old the order is."""
    assert Pace().next_check(replace(ORDER, created_at=NOW - 1e6), NOW, None) == NOW + 1.0


@given(made_after=st.floats(0, 3600))
def test_a_file_is_collected_late_by_an_eighth_at_most(made_after: float) -> None:
    """Between the bounds nobody waits longer for a file than an eighth of the time that it took to make."""
    asked = _questions(Pace(interval_max=1e9), made_after * 2 + 10)
    collected = next(moment for moment in asked if moment >= made_after)
    assert collected - made_after <= max(made_after / 8, 1.0) + 1e-3


@pytest.mark.parametrize(("minutes", "questions"), [(1, 26), (8, 43), (60, 95)])
def test_questions_are_as_few_as_promised(minutes: int, questions: int) -> None:
    """The numbers that the module tells its reader are the numbers that it asks."""
    assert len(_questions(Pace(), 60.0 * minutes)) == questions
    assert f" {questions}" in " ".join((module.__doc__ or "").split())


def test_after_eight_minutes_there_is_one_question_a_minute() -> None:
    """From where an eighth of the wait is the longer bound, questions come at that bound."""
    late = [moment for moment in _questions(Pace(), 7200.0) if moment > 480]
    assert all(math.isclose(after - before, 60.0, abs_tol=1e-3) for before, after in pairwise(late))


def test_questions_grow_with_the_logarithm_of_the_wait() -> None:
    """Without a longer bound, twice the wait costs the same few questions each time."""
    counts = [len(_questions(Pace(interval_max=1e12), 100.0 * 2**n)) for n in range(12)]
    steps = {after - before for before, after in pairwise(counts)}
    assert steps <= {5, 6}


# --- trouble


@given(order=orders(), now=moments, pace=paces)
def test_a_backoff_lies_between_now_and_its_step(order: Order, now: float, pace: Pace) -> None:
    """The wait is a share of 1 s, doubled with every trouble in a row, and of 5 minutes at most."""
    wait = pace.next_try(order, now, None) - now
    step = min(2.0 ** max(order.attempts - 1, 0), 300.0)
    assert -1e-3 <= wait <= step + 1e-3
    assert wait == pytest.approx(step * jitter(order.key, order.attempts), abs=1e-3)


@given(order=orders(), now=moments, wish=wishes, pace=paces)
def test_a_wish_is_a_floor_under_the_backoff(order: Order, now: float, wish: float | None, pace: Pace) -> None:
    """Jitter never cuts short what the remote asked for, up to an hour."""
    wait = pace.next_try(order, now, wish) - now
    assert wait >= min(max(wish or 0.0, 0.0), 3600.0) - 1e-3
    assert wait <= 3600.0 + 1e-3


@pytest.mark.parametrize("attempts", [0, 1, 65, 1000, 10**6])
def test_no_number_of_troubles_is_too_large(attempts: int) -> None:
    """However often an order failed, its backoff is a number."""
    assert 0 <= Pace().next_try(replace(ORDER, attempts=attempts), NOW, None) - NOW <= 300.0


WISHES = {None: 0.0, -1.0: 0.0, 0.0: 0.0, 30.0: 30.0, 3600.0: 3600.0, 1e9: 3600.0, math.inf: 3600.0, math.nan: 0.0}


@pytest.mark.parametrize(("wish", "floor"), WISHES.items())
def test_a_wish_counts_for_an_hour_at_most(wish: float | None, floor: float) -> None:
    """Nonsense, infinity and what is no number at all are wishes for nothing, or for no more than an hour."""
    pace = Pace(interval_min=0.5, backoff_base=0.0)
    assert pace.next_check(ORDER, NOW, wish) == NOW + max(0.5, floor)
    assert pace.next_try(ORDER, NOW, wish) == NOW + floor


# --- jitter


@given(key=keys, attempt=st.integers(0, 100))
def test_jitter_is_a_share_and_always_the_same(key: Key, attempt: int) -> None:
    """The same key and attempt give the same share, from 0 to 1, in every process."""
    assert 0.0 <= jitter(key, attempt) <= 1.0
    assert jitter(key, attempt) == jitter(Key(*key), attempt)


def test_jitter_is_the_same_in_every_release() -> None:
    """A schedule does not depend on the process: Python's own hash would."""
    assert jitter(Key("grafx", "84ad"), 1) == 0.8196907300192239


@pytest.mark.parametrize("vary", ["remote", "task_id", "attempt"])
def test_jitter_is_spread_evenly(vary: str) -> None:
    """Orders that failed together, and attempts of one order, come back evenly spread (chi-squared, 1 in 10,000)."""
    bins, draws = [0] * 20, 10_000
    for n in range(draws):
        key = Key(f"r{n}" if vary == "remote" else "r", f"t{n}" if vary == "task_id" else "t")
        bins[int(jitter(key, n if vary == "attempt" else 1) * 20)] += 1
    expected = draws / 20
    assert sum((seen - expected) ** 2 / expected for seen in bins) < 50.8


def test_jitter_of_hostile_keys_differs() -> None:
    """Keys that would be the same text when put together are not the same draw."""
    assert jitter(Key("a", "b1"), 1) != jitter(Key("a", "b"), 11)
    assert jitter(Key("ab", "c"), 1) != jitter(Key("a", "bc"), 1)
    assert 0 <= jitter(Key("a", "\ud800"), 1) < 1


# --- forgiveness and windows


@pytest.mark.parametrize(
    ("checks", "age", "forgiven"),
    [(0, 1e9, True), (4, 1e9, True), (5, 60.0, False), (5, 59.0, True), (1000, 59.0, True), (0, 0.0, True)],
)
def test_an_absence_is_forgiven_while_it_is_early_by_either_measure(checks: int, age: float, *, forgiven: bool) -> None:
    """Five checks and a minute must both be over before a 404 is believed."""
    assert Pace().forgives(replace(ORDER, checks=checks), NOW + age) is forgiven


@pytest.mark.parametrize(
    ("window", "ready_at", "expired"),
    [
        (None, NOW - 1e9, False),
        (60.0, None, False),
        (60.0, NOW - 60.0, False),
        (60.0, NOW - 60.1, True),
        (0.0, NOW, False),
        (0.0, NOW - 0.1, True),
    ],
)
def test_a_file_expires_when_its_window_is_over(window: float | None, ready_at: float | None, *, expired: bool) -> None:
    """The window runs from the first sight of the file; without a window, or a file, nothing expires."""
    assert Pace(window=window).expired(replace(ORDER, ready_at=ready_at), NOW) is expired


def _knowing(**numbers: float) -> Pace:
    """Make a pace that has seen a hundred tasks take 80 to 100 s, with questions all five seconds or so."""
    pace = Pace.learning(**numbers)
    for number in range(100):
        end = 80.0 + number % 20
        pace.learn(replace(ORDER, checks=4, unready_at=NOW + end - 5.0), NOW + end, ready=True)
    return pace


KNOWING = _knowing()


@given(order=orders(), now=moments, wish=wishes)
def test_a_fresh_pace_that_learns_is_the_fixed_rule(order: Order, now: float, wish: float | None) -> None:
    """Nothing changes until enough is known; an order is asked about at once."""
    assert Pace.learning().next_check(order, now, wish) == Pace().next_check(order, now, wish)
    assert Pace.learning().first_check(order) == Pace().first_check(order) == order.opened_at


@given(order=orders(), now=moments, wish=wishes, fresh=st.booleans())
def test_a_learned_wait_is_within_its_bounds(order: Order, now: float, wish: float | None, *, fresh: bool) -> None:
    """Whatever is known, no question comes sooner or later than the bounds, or the wish, allow."""
    order = replace(order, opened_at=order.created_at) if fresh else order
    wait = KNOWING.next_check(order, now, wish) - now
    wished = min(max(wish or 0.0, 0.0), 3600.0)
    assert max(1.0, wished) - 1e-3 <= wait <= max(60.0, wished) + 1e-3
    assert KNOWING.first_check(order) >= order.opened_at


def test_the_first_question_waits_for_the_early_finishers() -> None:
    """It may come later than the longest wait between two questions: there is none before it."""
    assert 60.0 < KNOWING.first_check(ORDER) - NOW < 95.0
    assert 60.0 < _knowing(interval_max=20.0).first_check(ORDER) - NOW < 95.0
    assert KNOWING.first_check(replace(ORDER, opened_at=NOW + 1.0, generation=2)) == NOW + 1.0


def test_a_file_is_not_missed_for_what_is_known() -> None:
    """The first question comes while what was quick this time is still kept."""
    assert _knowing(window=60.0).first_check(ORDER) == NOW + 30.0


def test_few_questions_are_asked_where_much_is_known() -> None:
    """A task of a minute and a half takes three or four questions, where the fixed rule has asked twenty-nine."""
    moment, questions = KNOWING.first_check(ORDER), 1
    while moment < NOW + 90.0:
        moment, questions = KNOWING.next_check(replace(ORDER, checks=questions), moment, None), questions + 1
    assert questions <= 5
    assert moment < NOW + 100.0


def test_orders_that_came_together_are_asked_about_apart() -> None:
    """A batch of a hundred is spread over some seconds, and always in the same way."""
    batch = [replace(ORDER, task_id=f"task {number}") for number in range(100)]
    first = [KNOWING.first_check(order) for order in batch]
    assert 2.0 < max(first) - min(first) < 10.0
    assert len(set(first)) == 100
    assert first == [KNOWING.first_check(order) for order in batch]


@pytest.mark.parametrize(
    ("progress", "least"), [(None, 0.0), (0.0, 0.0), (0.5, 45.0), (0.9, 5.0), (0.001, 60.0), (1.0, 0.0), (7.0, 0.0)]
)
def test_progress_puts_the_next_question_off(progress: float | None, least: float) -> None:
    """Half of what the rest would take at this speed is waited for at least, up to the longest wait."""
    plain = KNOWING.next_check(ORDER, NOW + 90.0, None) - NOW - 90.0
    wait = KNOWING.next_check(replace(ORDER, progress=progress), NOW + 90.0, None) - NOW - 90.0
    assert wait == pytest.approx(max(plain, least), abs=1e-3)


def test_a_pace_without_habits_learns_nothing() -> None:
    """It has no memo, and goes on as before."""
    pace = Pace()
    pace.learn(ORDER, NOW + 90.0, ready=True)
    assert pace.memo() is None


def test_a_memo_makes_the_same_pace() -> None:
    """What was learned by one process is known to the next."""
    again = Pace.learning(KNOWING.habits.memo() if KNOWING.habits else None)
    assert again.first_check(ORDER) == pytest.approx(KNOWING.first_check(ORDER), abs=5.0)
