"""The fate of an order: every outcome in every situation, every command in every state."""

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from poller import order as fate
from poller.errors import Conflict
from poller.event import QUIET, Event, tell
from poller.order import ALLOWED, Order, State, cancel, check, confirm, decide, place, ready, retry, schedule
from poller.outcome import (
    Absent,
    Cause,
    Crowded,
    Deferred,
    File,
    Gone,
    Interrupted,
    LinkExpired,
    Locked,
    NothingToFetch,
    NotReady,
    Outcome,
    Published,
    Refused,
    Setback,
    Stuck,
    TooLarge,
    Trouble,
    Unknown,
    Unsafe,
)
from poller.pace import Pace
from tests.strategies import NOW, moments, orders, outcomes, paces, pending

HOUR = 3600.0
PACE = Pace(window=4 * HOUR)
FILE = File(name="a/b.pdf", size=3, sha256="00", media_type="application/pdf", published_at=NOW)

FRESH = Order(
    remote="grafx",
    task_id="84ad",
    state=State.PENDING,
    created_at=NOW - 1,
    updated_at=NOW - 1,
    opened_at=NOW - 1,
    deadline=NOW + 100 * HOUR,
    due_at=NOW,
    checks=1,
)
LAST = PACE.attempts - 1
OLD = {"created_at": NOW - 9 * HOUR, "opened_at": NOW - 9 * HOUR, "checks": 50}
SITUATIONS: dict[str, Order] = {
    "fresh": FRESH,
    "tired": replace(FRESH, attempts=LAST),
    "known": replace(FRESH, **OLD),
    "burnt": replace(FRESH, expiries=1),
    "weary": replace(FRESH, expiries=1, attempts=LAST),
    "stale": replace(FRESH, **OLD, ready_at=NOW - 4 * HOUR - 1),
    "on-time": replace(FRESH, deadline=NOW),
    "late": replace(FRESH, deadline=NOW - 5),
}
"""Troubled 19 times; long known; its last link dead; both; ready too long ago; on its deadline; past it."""
SAMPLES: dict[str, Outcome] = {
    "not-ready": NotReady(progress=0.5),
    "published": Published(files=(FILE,)),
    "no-file": NothingToFetch(),
    "stopped": Interrupted(),
    "refused": Refused(reason="no", status=500, report_at="https://r.example/1", report="TextOverflow"),
    "gone": Gone(reason="gone", status=410),
    "absent": Absent(reason="unknown", status=404, address="https://g.example/t"),
    "link-403": LinkExpired(reason="dead", status=403),
    "link-410": LinkExpired(reason="dead", status=410),
    "trouble": Trouble(reason="reset"),
    "page": Trouble(reason="a page", cause=Cause.WRONG_CONTENT),
    "cut": Trouble(reason="the body stopped before its end", advanced=True),
    "unknown": Unknown(reason="no verdict", status=200, word="state 'odd'"),
    "deferred": Deferred(reason="429", status=429, retry_after=7.0),
    "unsafe": Unsafe(reason="inner"),
    "too-large": TooLarge(reason="large"),
    "locked": Locked(reason="401", status=401),
    "stuck": Stuck(reason="disk full"),
    "crowded": Crowded(),
}
OTHERS = [state for state in State if state is not State.PENDING]
FATES = """
            fresh      tired          known      burnt      weary          stale      on-time    late
not-ready   pending    pending        pending    pending    pending        pending    deadline   deadline
published   done       done           done       done       done           done       done       done
no-file     done       done           done       done       done           done       done       done
stopped     pending    pending        pending    pending    pending        pending    pending    pending
refused     refused    refused        refused    refused    refused        refused    refused    refused
gone        gone       gone           gone       gone       gone           gone       gone       gone
absent      pending    pending        gone       pending    pending        gone       deadline   deadline
link-403    pending    pending        pending    pending    gone           gone       deadline   deadline
link-410    pending    pending        pending    gone       gone           gone       deadline   deadline
trouble     pending    attempts       pending    pending    attempts       pending    deadline   deadline
page        pending    wrong_content  pending    pending    wrong_content  pending    deadline   deadline
cut         pending    pending        pending    pending    pending        pending    deadline   deadline
unknown     pending    attempts       pending    pending    attempts       pending    deadline   deadline
deferred    pending    pending        pending    pending    pending        pending    deadline   deadline
unsafe      unsafe     unsafe         unsafe     unsafe     unsafe         unsafe     unsafe     unsafe
too-large   too_large  too_large      too_large  too_large  too_large      too_large  too_large  too_large
locked      pending    pending        pending    pending    pending        pending    deadline   deadline
stuck       pending    pending        pending    pending    pending        pending    deadline   deadline
crowded     pending    pending        pending    pending    pending        pending    deadline   deadline
"""
"""What becomes of a pending order: its state, or what it fails of."""


def placed(order: Order) -> Order:
    """Begin an order as if the shop had asked for this one."""
    return place(order.remote, order.task_id, order.opened_at, deadline=order.deadline, dry_run=order.dry_run)


def _fates() -> Iterator[tuple[str, str, str]]:
    head, *rows = FATES.strip("\n").split("\n")
    for row in rows:
        outcome, *expected = row.split()
        yield from ((outcome, situation, end) for situation, end in zip(head.split(), expected, strict=True))


def _end(order: Order) -> str:
    return order.cause.value if order.cause is not None else order.state.value


# --- decide


def test_the_table_has_every_outcome_and_every_situation() -> None:
    """Every kind of outcome and every situation stands in the table, so that none is forgotten."""
    rows = list(_fates())
    assert {type(SAMPLES[outcome]) for outcome, _, _ in rows} == set(get_args(Outcome))
    assert {(outcome, situation) for outcome, situation, _ in rows} == {(o, s) for o in SAMPLES for s in SITUATIONS}
    assert {end for _, _, end in rows} >= {cause.value for cause in Cause}


@pytest.mark.parametrize(("outcome", "situation", "end"), list(_fates()))
def test_every_outcome_in_every_situation_has_its_fate(outcome: str, situation: str, end: str) -> None:
    """The whole cross product of outcomes and situations comes to what the table says."""
    before = SITUATIONS[situation]
    after = decide(before, SAMPLES[outcome], NOW, PACE)
    assert _end(after) == end
    assert after.version == before.version + 1
    assert after.updated_at == NOW


@pytest.mark.parametrize("state", OTHERS)
@pytest.mark.parametrize("outcome", SAMPLES)
def test_only_a_pending_order_is_moved_by_an_outcome(state: State, outcome: str) -> None:
    """Final states absorb and a held order waits: the very same order comes back."""
    before = replace(FRESH, state=state, due_at=None)
    assert decide(before, SAMPLES[outcome], NOW, PACE) is before


@given(order=pending, outcome=outcomes, now=moments, pace=paces)
def test_what_is_decided_is_always_whole(order: Order, outcome: Outcome, now: float, pace: Pace) -> None:
    """Whatever happens to whatever order, state, due time, cause and reason fit each other."""
    after = decide(order, outcome, now, pace)
    assert (after.version, after.updated_at) == (order.version + 1, now)
    if after.state is State.PENDING:
        assert after.due_at is not None
        assert min(now, order.deadline) <= after.due_at <= order.deadline
        assert now < order.deadline or isinstance(outcome, Interrupted)
    else:
        assert after.state in {State.DONE, State.FAILED}
        assert after.due_at is None
    assert (after.state is State.FAILED) == (after.cause is not None)
    assert after.state is not State.FAILED or after.reason is not None
    assert after.state is not State.DONE or (after.reason, after.progress) == (None, 1.0)
    assert decide(order, outcome, now, pace) == after


@given(order=pending, outcome=outcomes, now=moments, pace=paces)
def test_a_step_changes_nothing_that_the_shop_asked_for(order: Order, outcome: Outcome, now: float, pace: Pace) -> None:
    """Key, request, deadline, generation and first days are no outcome's business."""
    after = decide(order, outcome, now, pace)
    for name in ("key", "request", "created_at", "deadline", "generation"):
        assert getattr(after, name) == getattr(order, name)
    if now >= order.updated_at:
        assert (after.opened_at, after.ready_at) == (order.opened_at, order.ready_at)


SPENDS_NOTHING = ["not-ready", "stopped", "locked", "stuck", "crowded", "absent", "deferred"]


@pytest.mark.parametrize("outcome", SPENDS_NOTHING)
def test_waiting_and_being_stopped_spend_no_attempt(outcome: str) -> None:
    """An order that is one trouble from its end survives any number of outcomes that are nobody's failure."""
    order = SITUATIONS["tired"]
    for _ in range(PACE.attempts + 1):
        order = decide(order, SAMPLES[outcome], NOW, PACE)
    assert order.state is State.PENDING
    assert order.attempts <= LAST


@given(order=pending, outcome=outcomes, now=moments, pace=paces)
def test_only_trouble_and_dead_links_spend_attempts(order: Order, outcome: Outcome, now: float, pace: Pace) -> None:
    """No outcome but trouble, or a second dead link, raises the count, and by one; a cut that got further begins it."""
    attempts = decide(order, outcome, now, pace).attempts
    raised = attempts - order.attempts
    if isinstance(outcome, Trouble):
        assert attempts == 1 if outcome.advanced else raised == 1
    else:
        assert raised <= (1 if isinstance(outcome, LinkExpired) and order.expiries else 0)


COUNTS = {
    # outcome: checks, attempts, expiries after; 7, 3 and 0 before
    "not-ready": (8, 0, 0),
    "published": (8, 0, 0),
    "no-file": (8, 0, 0),
    "absent": (8, 0, 0),
    "crowded": (8, 3, 0),
    "trouble": (8, 4, 0),
    "page": (8, 4, 0),
    "cut": (8, 1, 0),
    "unknown": (8, 4, 0),
    "link-403": (8, 3, 1),
    "link-410": (8, 3, 1),
    "refused": (8, 3, 0),
    "gone": (8, 3, 0),
    "unsafe": (8, 3, 0),
    "too-large": (8, 3, 0),
    "locked": (7, 3, 0),
    "deferred": (7, 3, 0),
    "stuck": (7, 3, 0),
    "stopped": (7, 3, 0),
}


@pytest.mark.parametrize("outcome", SAMPLES)
def test_every_outcome_counts_as_it_should(outcome: str) -> None:
    """Checks count answered questions, attempts troubles in a row, expiries dead links in a row."""
    after = decide(replace(FRESH, checks=7, attempts=3), SAMPLES[outcome], NOW, PACE)
    assert (after.checks, after.attempts, after.expiries) == COUNTS[outcome]


@given(
    st.lists(
        st.sampled_from(["trouble", "cut", "not-ready", "stopped", "stuck", "crowded", "locked", "deferred"]),
        max_size=60,
    )
)
def test_attempts_count_troubles_in_a_row(script: list[str]) -> None:
    """An answer that makes sense starts the count afresh; what is nobody's failure leaves it alone."""
    order, row = FRESH, 0
    for outcome in script:
        if order.state is not State.PENDING:
            break
        order = decide(order, SAMPLES[outcome], NOW, PACE)
        row = {"trouble": row + 1, "cut": 1, "not-ready": 0}.get(outcome, row)
        assert order.attempts == row
        assert (order.state is State.FAILED) == (row == PACE.attempts)


def test_a_crowd_is_asked_about_less_and_less() -> None:
    """A thousand that wait for eight slots do not ask each second."""
    waits = []
    for waited in (0.0, 8.0, 80.0, 4000.0):
        after = decide(replace(FRESH, ready_at=NOW - waited, deadline=NOW + 1e6), Crowded(), NOW, PACE)
        assert after.due_at is not None
        waits.append(after.due_at - NOW)
    assert waits == [1.0, 1.0, 10.0, 60.0]


def test_exactly_so_many_troubles_in_a_row_fail_an_order() -> None:
    """The twentieth trouble is the last, and not the nineteenth."""
    order = FRESH
    for number in range(1, PACE.attempts + 1):
        assert order.state is State.PENDING, number
        order = decide(order, Trouble(reason=f"reset {number}"), NOW, PACE)
    assert (order.state, order.cause, order.reason, order.attempts) == (State.FAILED, Cause.ATTEMPTS, "reset 20", 20)


@pytest.mark.parametrize("cause", Cause)
def test_an_order_fails_of_what_its_last_trouble_was(cause: Cause) -> None:
    """When attempts run out, the last trouble's own cause is the order's."""
    after = decide(SITUATIONS["tired"], Trouble(reason="x", cause=cause), NOW, PACE)
    assert (after.cause, after.reason) == (cause, "x")


def test_not_ready_keeps_the_progress_that_is_known() -> None:
    """A remote that stops telling how far it is does not set the bar back."""
    half = decide(FRESH, NotReady(progress=0.5), NOW, PACE)
    assert half.progress == 0.5
    assert decide(half, NotReady(), NOW, PACE).progress == 0.5
    assert decide(half, NotReady(progress=0.25), NOW, PACE).progress == 0.25


def test_not_ready_forgets_an_old_reason() -> None:
    """After a good answer no stale trouble stands beside the order."""
    hurt = decide(FRESH, SAMPLES["trouble"], NOW, PACE)
    assert hurt.reason == "reset"
    assert decide(hurt, NotReady(), NOW, PACE).reason is None


DUE = {
    "not-ready": 1.0,  # the shortest interval: the order has waited for a second only
    "absent": 1.0,
    "stopped": 0.0,
    "locked": 0.0,
    "link-403": 0.0,
    "crowded": 1.0,
    "deferred": 7.0,
    "stuck": 30.0,
}


@pytest.mark.parametrize(("outcome", "wait"), DUE.items())
def test_every_wait_has_its_length(outcome: str, wait: float) -> None:
    """What is interrupted, locked out or sent to a dead link is due at once; the rest a little later."""
    assert decide(FRESH, SAMPLES[outcome], NOW, PACE).due_at == NOW + wait


@given(wish=st.floats(0, 1e9))
def test_retry_after_is_never_honoured_past_the_deadline(wish: float) -> None:
    """However long the remote wants to be left alone, the last check stays on the deadline."""
    order = replace(FRESH, deadline=NOW + 10)
    for outcome in (NotReady(retry_after=wish), Trouble(reason="503", retry_after=wish)):
        due_at = decide(order, outcome, NOW, PACE).due_at
        assert due_at is not None
        assert due_at <= NOW + 10
        assert due_at >= NOW + min(wish, 10)


@given(patience=st.floats(0, 50_000), pace=paces, outcome=st.sampled_from(["not-ready", "absent", "crowded", "stuck"]))
def test_the_last_check_falls_on_the_deadline(patience: float, pace: Pace, outcome: str) -> None:
    """An order that is never ready is asked about on its deadline exactly, and rests from then on."""
    forgiving = replace(pace, interval_min=max(pace.interval_min, 30.0), absences=10**9)
    order = placed(replace(FRESH, opened_at=NOW, deadline=NOW + patience))
    asked: list[float] = []
    while order.due_at is not None:
        asked.append(order.due_at)
        # A crowd passes; asking each second for half a day would only be slow.
        seen = SAMPLES[outcome] if outcome != "crowded" or len(asked) < 20 else NotReady()
        order = decide(order, seen, asked[-1], forgiving)
    assert asked[-1] == order.deadline
    assert asked == sorted(set(asked))
    assert (order.state, order.cause, order.updated_at) == (State.FAILED, Cause.DEADLINE, order.deadline)


def test_a_missed_deadline_is_kept_at_the_next_check() -> None:
    """A process that was down at the deadline asks once more, and what it gets then counts."""
    late = SITUATIONS["late"]
    assert decide(late, SAMPLES["published"], NOW, PACE).state is State.DONE
    assert decide(late, SAMPLES["not-ready"], NOW, PACE).cause is Cause.DEADLINE


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("not-ready", "it is not ready"),
        ("crowded", "the file is ready, but no download slot is free"),
        ("stuck", "disk full"),
        ("locked", "401"),
        ("absent", "unknown"),
        ("trouble", "reset"),
    ],
)
def test_the_deadline_says_what_was_seen_last(outcome: str, said: str) -> None:
    """Who reads that the time is up also reads what stood in the way."""
    reason = decide(SITUATIONS["on-time"], SAMPLES[outcome], NOW, PACE).reason
    assert reason == f"the deadline has passed; the last check said: {said}"


def test_an_interruption_at_the_deadline_costs_the_order_nothing() -> None:
    """Being stopped is not failing, not even on the deadline: the order is due, and asked about at the next start."""
    for name in ("on-time", "late"):
        after = decide(SITUATIONS[name], Interrupted(), NOW, PACE)
        assert (after.state, after.due_at) == (State.PENDING, SITUATIONS[name].deadline)


# --- absent tasks


@pytest.mark.parametrize(
    ("checks", "age", "forgiven"),
    [(0, 0, True), (4, 1e6, True), (5, 59.9, True), (5, 60, False), (50, 59.9, True), (5, 1e6, False)],
)
def test_an_unknown_task_is_forgiven_for_five_checks_and_a_minute(checks: int, age: float, *, forgiven: bool) -> None:
    """A 404 fails an order only after 5 forgiven ones, and not within 60 s of its creation."""
    order = replace(FRESH, checks=checks, opened_at=NOW - age)
    after = decide(order, SAMPLES["absent"], NOW, PACE)
    assert _end(after) == ("pending" if forgiven else "gone")
    assert after.checks == checks + 1


def test_an_unknown_task_is_asked_about_when_the_remote_wishes() -> None:
    """Its 404 may say when to come again."""
    after = decide(FRESH, Absent(reason="unknown", status=404, retry_after=77.0), NOW, PACE)
    assert (_end(after), after.due_at) == ("pending", NOW + 77.0)


def test_a_retry_is_forgiven_afresh() -> None:
    """A new generation gets the same grace as a new order."""
    gone = decide(SITUATIONS["known"], SAMPLES["absent"], NOW, PACE)
    assert _end(decide(retry(gone, NOW), SAMPLES["absent"], NOW, PACE)) == "pending"


def test_an_order_has_waited_as_long_after_the_clock_was_set_back() -> None:
    """Saved an hour from now, it was opened an hour earlier than it says: its waits go on, and do not begin anew."""
    order = replace(SITUATIONS["known"], ready_at=NOW - HOUR, updated_at=NOW)
    ahead = decide(order, NotReady(), NOW, PACE)
    behind = decide(order, NotReady(), NOW - HOUR, PACE)
    assert (behind.opened_at, behind.ready_at) == (order.opened_at - HOUR, NOW - 2 * HOUR)
    assert (ahead.due_at or 0) - NOW == (behind.due_at or 0) - (NOW - HOUR) == 60.0
    assert behind.deadline == order.deadline
    assert decide(behind, NotReady(), NOW - HOUR + 60.0, PACE).opened_at == behind.opened_at


def test_a_retry_gives_no_more_patience_because_the_clock_was_set_back() -> None:
    """Opened an hour earlier than it says, an order seems to have been given an hour more than it was."""
    order = replace(SITUATIONS["known"], updated_at=NOW)
    asked = decide(order, NotReady(), NOW - HOUR, PACE)
    failed = decide(decide(asked, NotReady(), NOW - 2 * HOUR, PACE), SAMPLES["refused"], NOW, PACE)
    again = retry(failed, NOW)
    assert again.deadline - NOW == order.deadline - order.opened_at
    assert retry(cancel(again, NOW), NOW + 1).deadline == again.deadline + 1


# --- dead links


def test_one_dead_link_is_followed_by_a_fresh_one() -> None:
    """A first dead link costs nothing and is asked anew at once, whatever its status."""
    for status in (401, 403, 404, 410):
        after = decide(FRESH, LinkExpired(reason="dead", status=status), NOW, PACE)
        assert (after.state, after.due_at, after.attempts, after.expiries) == (State.PENDING, NOW, 0, 1)


@pytest.mark.parametrize(("wish", "wait"), [(None, 0.0), (0.0, 0.0), (90.0, 90.0), (1e9, HOUR)])
@pytest.mark.parametrize("outcome", [LinkExpired(reason="dead", status=403), Absent(reason="unknown", status=404)])
def test_a_wish_that_comes_with_a_dead_link_or_an_unknown_task_is_honoured(
    outcome: LinkExpired | Absent, wish: float | None, wait: float
) -> None:
    """Whatever the status, Retry-After is a floor, and an hour the most that counts."""
    after = decide(FRESH, replace(outcome, retry_after=wish), NOW, PACE)
    assert after.due_at == NOW + max(wait, 1.0 if isinstance(outcome, Absent) else 0.0)
    second = decide(replace(after, expiries=1), replace(outcome, retry_after=wish), NOW, PACE)
    assert (second.due_at or 0.0) >= NOW + wait
    late = replace(FRESH, deadline=NOW + 10.0)
    assert (decide(late, replace(outcome, retry_after=1e9), NOW, PACE)).due_at == NOW + 10.0


def test_a_second_gone_in_a_row_is_believed() -> None:
    """Two links in a row that answer 410 mean that the file is gone."""
    after = decide(SITUATIONS["burnt"], SAMPLES["link-410"], NOW, PACE)
    assert (_end(after), after.reason) == ("gone", "dead")


def test_dead_links_in_a_row_back_off_and_end_as_gone() -> None:
    """From the second on a dead link spends attempts, so that it cannot be asked for without end."""
    order = decide(FRESH, SAMPLES["link-403"], NOW, PACE)
    for spent in range(1, PACE.attempts):
        order = decide(order, SAMPLES["link-403"], NOW, PACE)
        assert (order.state, order.attempts, order.expiries) == (State.PENDING, spent, spent + 1)
        assert order.due_at is not None
        assert order.due_at > NOW
    assert _end(decide(order, SAMPLES["link-403"], NOW, PACE)) == "gone"


def test_a_link_dead_after_the_window_means_gone() -> None:
    """A remote that keeps files for 4 hours is believed at once after that; before, a fresh link is asked for."""
    seen = ready(FRESH, NOW)
    assert _end(decide(seen, SAMPLES["link-403"], NOW + 4 * HOUR, PACE)) == "pending"
    assert _end(decide(seen, SAMPLES["link-403"], NOW + 4 * HOUR + 1, PACE)) == "gone"
    assert _end(decide(seen, SAMPLES["link-403"], NOW + 4 * HOUR + 1, Pace())) == "pending"


def test_an_answer_between_two_dead_links_parts_them() -> None:
    """Not ready in between means that they were not two in a row."""
    order = decide(SITUATIONS["burnt"], NotReady(), NOW, PACE)
    assert _end(decide(order, SAMPLES["link-410"], NOW, PACE)) == "pending"


def test_ready_is_noted_once_and_changes_no_version() -> None:
    """The first sight of a file starts its window; later sights do not prolong it."""
    first = ready(FRESH, NOW)
    assert (first.ready_at, first.version) == (NOW, FRESH.version)
    assert ready(first, NOW + 9) is first


# --- commands

COMMANDS: dict[str, Callable[[Order, float], Order]] = {
    "confirm": confirm,
    "cancel": cancel,
    "retry": retry,
    "check": check,
}
TRANSITIONS = {
    (State.HELD, "confirm", State.PENDING),
    (State.HELD, "cancel", State.CANCELED),
    (State.PENDING, "cancel", State.CANCELED),
    (State.PENDING, "check", State.PENDING),
    (State.FAILED, "retry", State.PENDING),
    (State.CANCELED, "retry", State.PENDING),
    (State.PENDING, "step", State.PENDING),
    (State.PENDING, "step", State.DONE),
    (State.PENDING, "step", State.FAILED),
}
"""The states and what leads from one to the other; there is nothing else."""


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_every_state(command: str, state: State) -> None:
    """A command is taken in the states that allow it, and is a conflict that explains itself in all others."""
    order = replace(FRESH, state=state)
    allowed = [after for before, word, after in TRANSITIONS if (before, word) == (state, command)]
    if allowed:
        after = COMMANDS[command](order, NOW)
        assert [after.state] == allowed
        assert (after.version, after.updated_at) == (order.version + 1, NOW)
    else:
        with pytest.raises(Conflict) as caught:
            COMMANDS[command](order, NOW)
        for word in ("'84ad'", "grafx", f"is {state.value}", command, *ALLOWED[command]):
            assert word in str(caught.value)


def test_commands_and_the_table_of_states_agree() -> None:
    """``ALLOWED`` is the table of transitions, read by command."""
    assert set(ALLOWED) == set(COMMANDS)
    for command, states in ALLOWED.items():
        assert states == {before for before, word, _ in TRANSITIONS if word == command}


def _moves(order: Order) -> Iterator[tuple[str, Order]]:
    for command, change in COMMANDS.items():
        if order.state in ALLOWED[command]:
            yield command, change(order, NOW)
    for outcome in SAMPLES.values():
        after = decide(order, outcome, NOW, PACE)
        if after is not order:
            yield "step", after


def test_the_states_that_can_be_reached_are_the_table() -> None:
    """Running every command and every outcome from the two beginnings walks exactly the table's ways."""
    begun = [placed(FRESH), placed(replace(FRESH, dry_run=True)), *SITUATIONS.values()]
    assert {order.state for order in begun} == {State.PENDING, State.HELD}
    walked, seen, queue = set(), set(), deque(begun)
    while queue:
        order = queue.popleft()
        if (order.state, order.cause) in seen and order not in begun:
            continue
        seen.add((order.state, order.cause))
        for word, after in _moves(order):
            walked.add((order.state, word, after.state))
            queue.append(after)
    assert walked == TRANSITIONS
    assert {state for state, _ in seen} == set(State)


_RIGHT, _LEFT, _UP, _DOWN = (0, 1), (0, -1), (-1, 0), (1, 0)
_OPEN = {
    "─": {_RIGHT, _LEFT},
    "│": {_UP, _DOWN},
    "└": {_UP, _RIGHT},
    "┘": {_UP, _LEFT},
    "┴": {_UP, _LEFT, _RIGHT},
    "┼": {_RIGHT, _LEFT, _UP, _DOWN},
    "▶": {_LEFT},
    "▲": {_DOWN},
}
_ARROWS = {"▶": _RIGHT, "▲": _UP}


class _Drawing:
    """A drawing of boxes' lines, whose arrows can be followed."""

    def __init__(self, text: str) -> None:
        rows = text.split("\n")
        width = max(map(len, rows)) + 1
        self._rows = [row.ljust(width) for row in rows]
        self._states = {
            (y, x): state
            for y, row in enumerate(self._rows)
            for state in State
            for start in [row.find(f"{state.value} ")]
            if start >= 0
            for x in range(start, start + len(state.value))
        }

    def arrows(self) -> set[tuple[State, State]]:
        """Tell which state's lines lead to the arrowhead before which other state."""
        return {(state, end) for at, state in self._states.items() for way in _OPEN["┼"] for end in self._ends(at, way)}

    def _ends(self, start: tuple[int, int], way: tuple[int, int]) -> set[State]:
        ends, queue, seen = set(), deque([(start, way)]), set()
        while queue:
            at, way = queue.popleft()
            at = (at[0] + way[0], at[1] + way[1])
            if (at, way) in seen or not (0 <= at[0] < len(self._rows) and 0 <= at[1] < len(self._rows[0])):
                continue
            seen.add((at, way))
            sign = self._rows[at[0]][at[1]]
            back = (-way[0], -way[1])
            if sign in _ARROWS and way == _ARROWS[sign]:
                ends.add(self._beyond(at, way))
            elif at not in self._states and way in {_RIGHT, _LEFT} and sign not in _OPEN and self._labelled(at):
                queue.append((at, way))
            elif back in _OPEN.get(sign, ()) and sign not in _ARROWS:
                queue.extend((at, on) for on in ({way} if sign == "┼" else _OPEN[sign] - {back}))
        return ends

    def _beyond(self, at: tuple[int, int], way: tuple[int, int]) -> State:
        while at not in self._states:
            at = (at[0] + way[0], at[1] + way[1])
        return self._states[at]

    def _labelled(self, at: tuple[int, int]) -> bool:
        """Tell whether this place is in the words on a line, or in the one blank beside a state."""
        return not self._rows[at[0]][at[1] - 1 : at[1] + 1].isspace()


def test_the_drawing_in_the_module_is_the_table() -> None:
    """Who follows the arrows of the drawing comes where the code comes."""
    drawing = inspect.cleandoc(fate.__doc__ or "")
    between = {(before, after) for before, _, after in TRANSITIONS if before is not after}
    assert _Drawing(drawing).arrows() == between


@given(order=orders(), now=moments)
def test_a_new_order_is_held_or_due(order: Order, now: float) -> None:
    """A dry run begins held and is never due; anything else is due from its first moment."""
    begun = placed(replace(order, opened_at=now, deadline=now + 5))
    expected = (State.HELD, None) if order.dry_run else (State.PENDING, now)
    assert (begun.state, begun.due_at) == expected
    assert (begun.created_at, begun.updated_at, begun.opened_at, begun.version) == (now, now, now, 1)


@given(order=orders((State.HELD, State.FAILED, State.CANCELED)), now=moments)
def test_confirm_and_retry_begin_with_the_patience_of_the_first_day(order: Order, now: float) -> None:
    """What is opened, is due now, has spent nothing, and has as long as it was given at first."""
    change = confirm if order.state is State.HELD else retry
    after = change(order, now)
    assert (after.state, after.due_at, after.opened_at) == (State.PENDING, now, now)
    assert math.isclose(after.deadline - now, order.deadline - order.opened_at, abs_tol=1e-3)
    assert (after.checks, after.attempts, after.expiries) == (0, 0, 0)
    assert (after.reason, after.cause, after.ready_at, after.progress) == (None, None, None, None)
    assert (after.key, after.request, after.created_at) == (order.key, order.request, order.created_at)


def test_only_a_retry_opens_a_generation() -> None:
    """Generations count beginnings: a retry is a new one, with no files yet, and a confirmation is not."""
    failed = decide(replace(FRESH, files=(FILE,)), SAMPLES["refused"], NOW, PACE)
    again = retry(failed, NOW)
    assert (failed.generation, again.generation, again.files) == (1, 2, ())
    assert retry(cancel(again, NOW), NOW).generation == 3
    assert confirm(placed(replace(FRESH, dry_run=True)), NOW).generation == 1


def test_a_canceled_order_is_at_rest_without_a_cause() -> None:
    """Giving up is no failure: no cause, no reason, nothing due."""
    after = cancel(replace(FRESH, reason="reset"), NOW)
    assert (after.state, after.due_at, after.cause, after.reason) == (State.CANCELED, None, None, None)


@given(order=pending, now=moments)
def test_check_makes_an_order_due_but_never_past_its_deadline(order: Order, now: float) -> None:
    """Asking now moves nothing but the due time, and the last check stays on the deadline."""
    after = check(order, now)
    assert after.due_at == min(now, order.deadline)
    assert replace(after, due_at=order.due_at, version=order.version, updated_at=order.updated_at) == order


# --- what is told

WORDS = {
    "not-ready": "not_ready",
    "absent": "absent",
    "link-403": "link_expired",
    "link-410": "link_expired",
    "trouble": "trouble",
    "page": "trouble",
    "cut": "trouble",
    "unknown": "unknown_answer",
    "deferred": "deferred",
    "locked": "remote_paused",
    "stuck": "local_fault",
    "crowded": "crowded",
    "stopped": "interrupted",
}


@pytest.mark.parametrize("outcome", SAMPLES)
@pytest.mark.parametrize("situation", [*SITUATIONS, *OTHERS])
def test_every_decision_can_be_told(outcome: str, situation: str) -> None:
    """Whatever was decided has a word: what happened while it goes on, and the state once it rests."""
    before = SITUATIONS.get(situation) or replace(FRESH, state=State(situation), due_at=None)
    seen = SAMPLES[outcome]
    after = decide(before, seen, NOW, PACE)
    event = tell(seen, after, NOW)
    assert event.event == (WORDS[outcome] if after.state is State.PENDING else after.state.value)
    assert (event.at, event.cause, event.next_at) == (NOW, after.cause, after.due_at)
    if isinstance(seen, Setback):
        assert (event.status, event.address) == (seen.status, seen.address)


@given(order=orders(), outcome=outcomes, now=moments, pace=paces)
def test_telling_is_total(order: Order, outcome: Outcome, now: float, pace: Pace) -> None:
    """No order, outcome or time is beyond words, and every event can be written as JSON and read again."""
    event = tell(outcome, decide(order, outcome, now, pace), now)
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


def test_a_failure_tells_why() -> None:
    """The event of a failed order has the order's cause and reason, also when the deadline was the reason."""
    late = decide(SITUATIONS["late"], SAMPLES["trouble"], NOW, PACE)
    event = tell(SAMPLES["trouble"], late, NOW)
    assert (event.event, event.cause) == ("failed", Cause.DEADLINE)
    assert event.reason == "the deadline has passed; the last check said: reset"


def test_a_setback_tells_its_reason_while_the_order_goes_on() -> None:
    """What stood in the way is told although the order is pending still."""
    after = decide(FRESH, SAMPLES["absent"], NOW, PACE)
    assert (after.reason, tell(SAMPLES["absent"], after, NOW).reason) == (None, "unknown")


def test_a_refusal_tells_where_its_report_is() -> None:
    """The remote's error report is told with its address and its text."""
    event = tell(SAMPLES["refused"], decide(FRESH, SAMPLES["refused"], NOW, PACE), NOW)
    assert (event.report_at, event.report, event.reason) == ("https://r.example/1", "TextOverflow", "no")


def test_a_publication_tells_its_files() -> None:
    """The event of a finished order names what was published, and whether other bytes were in the way."""
    done = decide(FRESH, SAMPLES["published"], NOW, PACE)
    assert done.files == (FILE,)
    assert tell(SAMPLES["published"], done, NOW) == Event(at=NOW, event="done", files=("a/b.pdf",))
    conflict = tell(Published(files=(FILE,), conflict=True), done, NOW)
    assert conflict.reason is not None
    assert "other bytes" in conflict.reason


def test_every_attempt_that_was_spent_is_told() -> None:
    """Trouble, and a dead link that counts as trouble, tell how many in a row that makes."""
    for outcome, attempt in (("trouble", 1), ("link-403", None), ("not-ready", None)):
        after = decide(FRESH, SAMPLES[outcome], NOW, PACE)
        assert tell(SAMPLES[outcome], after, NOW).attempt == attempt
    again = decide(SITUATIONS["burnt"], SAMPLES["link-403"], NOW, PACE)
    assert tell(SAMPLES["link-403"], again, NOW).attempt == 1


def test_only_what_says_nothing_new_is_quiet() -> None:
    """The words that are kept in no history are words that waiting uses."""
    assert {WORDS["not-ready"], WORDS["crowded"]} == QUIET


# --- the order itself


@given(order=orders())
def test_an_order_survives_being_written(order: Order) -> None:
    """What is written as JSON is read back the same, and its state is always spelled out."""
    written = msgspec.json.encode(order)
    assert msgspec.json.decode(written, type=Order) == order
    assert msgspec.json.decode(written)["state"] == order.state.value


@pytest.mark.parametrize(
    "change",
    [
        {"batch": "b"},
        {"feed": "f"},
        {"filename": "{task_id}"},
        {"context": {"a": 1}},
        {"dry_run": True},
        {"deadline_as_given": "1h"},
    ],
)
def test_another_request_for_the_same_key_can_be_told(change: dict[str, object]) -> None:
    """Everything that the shop may ask for makes another request; what we find out does not."""
    assert replace(FRESH, **change).request != FRESH.request
    assert replace(FRESH, checks=9, version=9, state=State.DONE, reason="x").request == FRESH.request


def test_an_instant_stays_the_deadline_while_it_lies_ahead() -> None:
    """A shop that named a date meant the date; a duration begins anew."""
    times = {"created_at": 0.0, "updated_at": 0.0, "opened_at": 0.0}
    known = {"remote": "r", "task_id": "t", "state": State.HELD, "deadline": 100.0, **times}
    fixed = Order(**known, deadline_as_given="1970-01-01T00:01:40Z")
    patient = Order(**known, deadline_as_given="100s")

    assert confirm(fixed, 60.0).deadline == 100.0
    assert confirm(replace(fixed, deadline_as_given="19700101T000140Z"), 60.0).deadline == 100.0
    assert confirm(patient, 60.0).deadline == 160.0
    assert confirm(fixed, 150.0).deadline == 250.0


def test_one_and_true_are_two_requests() -> None:
    """What Python takes for equal is not what the shop sent."""
    times = {"created_at": 0.0, "updated_at": 0.0, "opened_at": 0.0, "deadline": 9.0}
    one, true, again = (
        Order(remote="r", task_id="t", state=State.HELD, context=context, **times)
        for context in ({"x": 1, "y": 2}, {"x": True, "y": 2}, {"y": 2, "x": 1})
    )

    assert one.request != true.request
    assert one.request == again.request


# --- the first question, and what was seen before the last


class _Knowing(Pace, frozen=True, kw_only=True):
    """A policy that knows when to ask first."""

    first: float = 0.0

    def first_check(self, order: Order) -> float:
        return self.first


@pytest.mark.parametrize(
    ("first", "due"), [(NOW + 60.0, NOW + 60.0), (NOW - 60.0, NOW), (NOW + 1e9, NOW + 100.0), (math.inf, NOW + 100.0)]
)
def test_a_new_order_is_due_when_its_first_question_may_pay(first: float, due: float) -> None:
    """Neither before it was added nor after its deadline; nobody has seen it yet, so it is the same version."""
    order = place("grafx", "84ad", NOW, deadline=NOW + 100.0)
    scheduled = schedule(order, _Knowing(first=first))
    assert scheduled == replace(order, due_at=due)


def test_an_order_that_is_held_is_not_scheduled() -> None:
    """It waits for the shop, and is asked about at once when that has spoken."""
    held = place("grafx", "84ad", NOW, deadline=NOW + 100.0, dry_run=True)
    assert schedule(held, _Knowing(first=NOW + 60.0)) == held


def test_the_last_word_that_it_is_not_ready_is_remembered() -> None:
    """Trouble and absence are no such word, and a new generation has heard none."""
    order = place("grafx", "84ad", NOW, deadline=NOW + 1e6)
    assert order.unready_at is None
    assert decide(order, Absent(reason="404"), NOW + 1.0, PACE).unready_at is None
    waiting = decide(order, NotReady(), NOW + 2.0, PACE)
    assert waiting.unready_at == NOW + 2.0
    hurt = decide(waiting, Trouble(reason="502"), NOW + 3.0, PACE)
    assert hurt.unready_at == NOW + 2.0
    failed = decide(hurt, Refused(reason="no"), NOW + 4.0, PACE)
    assert failed.unready_at == NOW + 2.0
    assert retry(failed, NOW + 5.0).unready_at is None
