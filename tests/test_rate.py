"""How many requests go in any minute, whatever a remote says of its limits."""

import random
import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.rate import LONGEST, NAMES, Quota, Rate, quotas

NOW = 1_800_000_000.0
CAPS = st.integers(1, 3000)


def _sent(rate: Rate, wants: Sequence[float]) -> list[float]:
    """Send a request whenever somebody wants to; give when each went."""
    return [rate.take(now) for now in sorted(wants)]


def _most(sent: Sequence[float], window: float) -> int:
    """Count the requests in the fullest window."""
    times = sorted(sent)
    return max((index + 1 - bisect_left(times, at - window + 1e-6) for index, at in enumerate(times)), default=0)


# --- our own cap


@given(cap=CAPS, seed=st.integers(0, 1000), start=st.floats(0, 1e9))
def test_no_minute_holds_more_than_the_cap(cap: int, seed: int, start: float) -> None:
    """Wherever the minute begins, after a burst, a pause, or both; a second of unevenness on the way breaks nothing."""
    chance = random.Random(seed)
    rate, wants, now = Rate(cap), [], start
    for _ in range(chance.randint(1, 5)):
        now += chance.choice((0.0, 1.0, 30.0, 300.0)) * chance.random()
        wants += [now + chance.random() * chance.choice((0.0, 10.0)) for _ in range(chance.randint(1, 2 * cap))]
    sent = _sent(rate, wants)
    assert _most(sent, 60.0) <= cap
    late = [at + chance.random() for at in sent]
    assert _most(late, 60.0) <= cap


@pytest.mark.parametrize("cap", [1, 2, 7, 10, 60, 600, 6000])
def test_the_cap_is_nearly_used_up(cap: int) -> None:
    """Who has enough to ask gets nine tenths of the cap and more, evenly; who was idle, a tenth of it at once."""
    rate = Rate(cap)
    sent = _sent(rate, [0.0] * (20 * cap))
    assert 20 * cap / (sent[-1] / 60) >= 0.88 * cap
    assert sum(at == 0.0 for at in sent) == max(1, cap // 10)
    gaps = [after - before for before, after in pairwise(sent[cap:])]
    assert max(gaps) - min(gaps) < 1e-6


def test_without_a_cap_everything_goes() -> None:
    """Nothing is counted where nothing is limited."""
    rate = Rate()
    assert not rate.bound
    assert _sent(rate, [5.0] * 1000) == [5.0] * 1000
    assert (rate.turn(5.0, 10**6), rate.interval(5.0)) == (5.0, 0.0)


@given(cap=CAPS, before=st.integers(0, 100), ahead=st.integers(0, 100))
def test_a_turn_is_where_it_was_foretold(cap: int, before: int, ahead: int) -> None:
    """Who asks for the turn behind some others gets the time that it has once they have theirs."""
    rate = Rate(cap)
    rate.learn([Quota(remaining=150.0, reset=100.0)], 100.0)
    _sent(rate, [100.0] * before)
    foretold = rate.turn(100.0, ahead)
    _sent(rate, [100.0] * ahead)
    assert rate.turn(100.0) == pytest.approx(foretold)


# --- what the remote says


def test_a_policy_is_kept_and_lapses() -> None:
    """A hundred a minute are kept while the remote says so, and for an hour after; the tightest of several counts."""
    rate = Rate()
    rate.learn(
        [Quota(limit=1000.0, window=60.0), Quota(limit=100.0, window=60.0), Quota(limit=1e6, window=3600.0)], 0.0
    )
    assert rate.bound
    assert 95 < _most(_sent(rate, [0.0] * 1000), 60.0) <= 100
    assert rate.interval(LONGEST - 1.0) > 0.0
    assert rate.turn(LONGEST) == LONGEST
    assert not rate.bound


def test_a_policy_makes_nobody_quicker_than_the_cap() -> None:
    """The remote's limit and ours both hold."""
    rate = Rate(60)
    rate.learn([Quota(limit=6000.0, window=60.0)], 0.0)
    assert _most(_sent(rate, [0.0] * 300), 60.0) <= 60


def test_what_is_left_lasts_until_it_is_reset() -> None:
    """Ten for half a minute are not sent at once, an eleventh not before the reset."""
    rate = Rate()
    rate.learn([Quota(limit=100.0, remaining=10.0, reset=30.0)], 0.0)
    sent = _sent(rate, [0.0] * 11)
    assert sent[0] == 0.0
    assert sent[9] < 30.0 <= sent[10]
    assert max(after - before for before, after in pairwise(sent)) < 4.0
    rate = Rate()
    rate.learn([Quota(limit=100.0, remaining=0.0, reset=30.0)], 0.0)
    assert rate.turn(0.0) == 30.0
    assert rate.turn(30.0) == 30.0


def test_what_was_sent_since_it_was_counted_is_not_sent_again() -> None:
    """Replies come late and out of order: none of them gives back what is on its way."""
    rate = Rate()
    rate.learn([Quota(remaining=20.0, reset=30.0)], 0.0)
    sent = _sent(rate, [0.0] * 15)
    for remaining, at in ((19.0, 1.0), (17.0, 1.5), (18.0, 2.0)):
        rate.learn([Quota(remaining=remaining, reset=30.0 - at)], at)
    sent += _sent(rate, [sent[-1]] * 10)
    assert 15 < sum(at < 30.0 for at in sent) <= 20


def test_another_window_begins_anew() -> None:
    """After a reset the next count is believed, however much larger."""
    rate = Rate()
    rate.learn([Quota(remaining=0.0, reset=10.0)], 0.0)
    rate.learn([Quota(remaining=500.0, reset=60.0)], 11.0)
    assert _sent(rate, [11.0] * 50)[-1] == 11.0


def test_who_becomes_quicker_is_quicker_at_once() -> None:
    """A limit that is lifted leaves nobody waiting for turns at the old pace."""
    rate = Rate()
    rate.learn([Quota(limit=1.0, window=1e9)], 0.0)
    assert _sent(rate, [0.0] * 2) == [0.0, LONGEST]
    rate.learn([Quota(limit=600.0, window=60.0)], 1.0)
    assert rate.turn(1.0) <= 1.2


@given(
    st.lists(
        st.builds(
            Quota,
            limit=st.none() | st.floats(1e-9, 1e18),
            window=st.none() | st.floats(1e-9, 1e18),
            remaining=st.none() | st.floats(0, 1e18),
            reset=st.none() | st.floats(0, LONGEST + 1.0),
        ),
        max_size=5,
    ),
    st.integers(0, 20),
)
def test_nothing_that_is_said_stops_us_for_more_than_an_hour(said: list[Quota], before: int) -> None:
    """One request a year, or none at all: an hour is the longest wait that a remote can ask for."""
    rate = Rate()
    rate.learn(said, 0.0)
    now = 0.0
    for _ in range(before):
        at = rate.take(now)
        assert at - now <= LONGEST + 1.0 + 1e-6
        now = at
        rate.learn(said, now)


# --- how it is said

SAID = [
    ({"ratelimit-policy": '"default";q=100;w=60'}, Quota(limit=100.0, window=60.0)),
    ({"ratelimit-policy": '"burst";q=10;w=1, "day";q=5000;w=86400;pk=:cGs:'}, Quota(limit=5000.0, window=86400.0)),
    ({"ratelimit-policy": '"a,b;q=7;w=7";q=100;w=60'}, Quota(limit=100.0, window=60.0)),
    ({"ratelimit-policy": "100;w=60"}, Quota(limit=100.0, window=60.0)),
    ({"ratelimit-policy": "10;w=1, 50;w=60"}, Quota(limit=50.0, window=60.0)),
    ({"ratelimit": '"default";r=50;t=30'}, Quota(remaining=50.0, reset=31.0)),
    ({"ratelimit": '"default"; R = 0 ; t=30'}, Quota(remaining=0.0, reset=31.0)),
    ({"ratelimit": "limit=100, remaining=50, reset=5"}, Quota(remaining=50.0, reset=6.0)),
    (
        {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "50", "ratelimit-reset": "30"},
        Quota(limit=100.0, remaining=50.0, reset=31.0),
    ),
    ({"ratelimit-limit": "100, 100;w=60"}, Quota(limit=100.0, window=60.0)),
    (
        {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": f"{NOW + 30:.0f}"},
        Quota(limit=60.0, remaining=59.0, reset=31.0),
    ),
    (
        {"x-ratelimit-remaining": "59", "x-ratelimit-reset": f"{(NOW + 30) * 1000:.0f}"},
        Quota(remaining=59.0, reset=31.0),
    ),
    ({"x-ratelimit-remaining": "59", "x-ratelimit-reset": "29.5"}, Quota(remaining=59.0, reset=30.5)),
    ({"x-rate-limit-remaining": "1", "x-rate-limit-reset": "1"}, Quota(remaining=1.0, reset=2.0)),
    ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": f"{NOW - 30:.0f}"}, Quota(remaining=1.0, reset=1.0)),
    ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "31536000"}, Quota(remaining=1.0, reset=LONGEST + 1.0)),
    ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "9" * 18}, Quota(remaining=1.0, reset=LONGEST + 1.0)),
]


@pytest.mark.parametrize(("headers", "quota"), SAID)
def test_every_dialect_is_read(headers: dict[str, str], quota: Quota) -> None:
    """The draft's fields, its older versions', and what was there before it."""
    assert not NAMES.isdisjoint(headers)
    assert quota in quotas(headers, NOW)


NONSENSE = [
    "",
    "0",
    "-1",
    "-5;w=60",
    "none",
    "1e9",
    "0;w=60",
    '"default";q=0;w=60',
    '"default";q=-5;w=-1',
    "q=5",
    "1,5e3",
]


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_limits_nothing(text: str) -> None:
    """Zero, less, and what is no number say nothing; and a limit without a window says how much, but not how often."""
    rate = Rate()
    for name in ("ratelimit-policy", "ratelimit", "ratelimit-limit", "x-ratelimit-limit", "x-ratelimit-remaining"):
        rate.learn(quotas({name: text}, NOW), 0.0)
    assert not rate.bound


@given(st.dictionaries(st.sampled_from([*sorted(NAMES), "ratelimit-reset", "x-ratelimit-reset"]), st.text(max_size=60)))
def test_nothing_is_too_odd_to_be_read(headers: dict[str, str]) -> None:
    """Whatever a remote says, the answer is some quotas with numbers that make sense."""
    for quota in quotas(headers, NOW):
        for value in (quota.limit, quota.window):
            assert value is None or value > 0
        assert quota.remaining is None or quota.remaining >= 0
        assert quota.reset is None or 0 < quota.reset <= LONGEST + 1.0


@pytest.mark.parametrize(
    "text", ["a" * 8000, '"' * 7999, "a=" * 4000, ", " * 4000, "a " * 4000, "q=" + "1" * 8000, ";" * 8000]
)
def test_no_header_is_read_for_long(text: str) -> None:
    """Eight kilobytes of nothing cost no more than a few milliseconds."""
    began = time.process_time()
    quotas(dict.fromkeys(NAMES, text), NOW)
    assert time.process_time() - began < 0.1
