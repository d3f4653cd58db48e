"""Hypothesis strategies for the words of the core: texts, keys, orders, outcomes."""

from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from poller.order import Key, Order, State
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
    Stuck,
    TooLarge,
    Trouble,
    Unknown,
    Unsafe,
)
from poller.pace import Pace

NOW = 1_800_000_000.0
"""A moment, in epoch seconds, about which all generated times lie."""
LONGEST_TASK_ID = 512
"""Bytes of UTF-8."""

moments = st.floats(min_value=NOW - 1e6, max_value=NOW + 1e6)
waits = st.floats(min_value=0.0, max_value=1e6)
anything = st.text(st.characters(codec=None))
"""Any text at all, lone surrogates and control characters included."""
lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)
_plain = st.sampled_from(
    ["84ad7436-1b2c", "a", ".", "..", "-rf", "~", "%2e", "CON", "a/b", "../../etc/passwd", "{ext}"]
)


def _fits(text: str) -> bool:
    return 1 <= len(text.encode()) <= LONGEST_TASK_ID


task_ids = st.one_of(
    _plain,
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(_fits),
    st.text("./-_~%\\ aé日😀", min_size=1, max_size=128),
    st.integers(100, LONGEST_TASK_ID).map("x".__mul__),
    st.integers(30, 128).map("😀".__mul__),
)
"""Every task ID that the hook takes, the long and the hostile ones often."""
remotes = st.from_regex(r"[a-z][a-z0-9_-]{0,15}", fullmatch=True)
keys = st.builds(Key, remotes, task_ids)

files = st.builds(
    File,
    name=lines,
    size=st.integers(0, 2**40),
    sha256=st.just("0" * 64),
    media_type=st.sampled_from(["", "image/png", "application/pdf"]),
    published_at=moments,
)
wishes = st.none() | st.floats(min_value=-10.0, max_value=1e9) | st.just(float("inf"))
"""What ``Retry-After`` may come to."""
_setback: dict[str, Any] = {
    "reason": lines,
    "status": st.none() | st.integers(100, 599),
    "address": st.none() | st.just("https://grafx.example/tasks/1"),
}
_outcomes: dict[type, st.SearchStrategy[Outcome]] = {
    NotReady: st.builds(NotReady, retry_after=wishes, progress=st.none() | st.floats(0, 1)),
    Published: st.builds(Published, files=st.lists(files, max_size=2).map(tuple), conflict=st.booleans()),
    NothingToFetch: st.builds(NothingToFetch),
    Interrupted: st.builds(Interrupted),
    Refused: st.builds(Refused, **_setback, report_at=st.none() | lines, report=st.none() | lines),
    Gone: st.builds(Gone, **_setback),
    Absent: st.builds(Absent, **_setback, retry_after=wishes),
    LinkExpired: st.builds(
        LinkExpired, **_setback | {"status": st.sampled_from([401, 403, 404, 410])}, retry_after=wishes
    ),
    Trouble: st.builds(Trouble, **_setback, retry_after=wishes, cause=st.sampled_from(Cause), advanced=st.booleans()),
    Unknown: st.builds(Unknown, **_setback, retry_after=wishes, cause=st.sampled_from(Cause), word=lines),
    Deferred: st.builds(Deferred, **_setback, retry_after=wishes),
    Unsafe: st.builds(Unsafe, **_setback),
    TooLarge: st.builds(TooLarge, **_setback),
    Locked: st.builds(Locked, **_setback),
    Stuck: st.builds(Stuck, **_setback),
    Crowded: st.builds(Crowded),
}
"""A strategy for each kind of outcome; a new kind must be added here."""
if set(_outcomes) != set(get_args(Outcome)):
    raise AssertionError("_outcomes does not have every kind of outcome")
outcomes: st.SearchStrategy[Outcome] = st.one_of(*_outcomes.values())

paces = st.builds(
    Pace,
    interval_min=st.floats(0.01, 60.0),
    interval_max=st.floats(60.0, 3600.0),
    attempts=st.integers(1, 25),
    window=st.none() | waits,
)


_words = st.none() | st.sampled_from(["a", "Zoë & Söhne", ""])


@st.composite
def orders(draw: st.DrawFn, states: Sequence[State] = tuple(State)) -> Order:
    """Draw an order as it may lie in a store: at rest it has no ``due_at``, failed it has a cause."""
    state = draw(st.sampled_from(states))
    opened_at = draw(moments)
    deadline = opened_at + draw(waits)
    failed = state is State.FAILED
    return Order(
        remote=draw(st.sampled_from(["grafx", "acme"])),
        task_id=draw(task_ids),
        state=state,
        created_at=opened_at - draw(waits),
        updated_at=opened_at,
        opened_at=opened_at,
        deadline=deadline,
        due_at=min(opened_at + draw(waits), deadline) if state is State.PENDING else None,
        cause=draw(st.sampled_from(Cause)) if failed else None,
        reason="it failed" if failed else draw(_words),
        ready_at=draw(st.none() | moments),
        checks=draw(st.integers(0, 50)),
        attempts=draw(st.integers(0, 24)),
        expiries=draw(st.integers(0, 3)),
        progress=draw(st.none() | st.floats(0, 1)),
        files=(draw(files),) if state is State.DONE else (),
        batch=draw(_words),
        feed=draw(_words),
        filename=draw(st.sampled_from([None, "{batch}/{task_id}{ext}"])),
        context=draw(st.sampled_from([{}, {"projectID": "7"}, {"customer": {"name": "Zoë", "age": 7}}])),
        dry_run=draw(st.booleans()),
        deadline_as_given=draw(st.sampled_from([None, "7d"])),
        generation=draw(st.integers(1, 9)),
        version=draw(st.integers(1, 10_000)),
    )


pending = orders((State.PENDING,))
