"""A remote under pressure: no cap is ever passed, a throttled remote is left alone, and nobody pays for an outage."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import pytest

from poller.lane import Limits
from poller.order import State
from poller.outcome import Cause, NotReady, Trouble
from poller.pace import Pace
from tests import clock
from tests.quick_store import QuickStore
from tests.yard import READY, Yard, yard

pytestmark = [pytest.mark.unmeasured, pytest.mark.usefixtures("calm")]

DAY = 86400.0
THROTTLED = Trouble(reason="429", status=429, retry_after=120.0)


def fullest(sent: Sequence[float], window: float = 60.0) -> int:
    """Count the requests in the fullest window."""
    times = sorted(sent)
    return max((index + 1 - bisect_left(times, at - window + 1e-6) for index, at in enumerate(times)), default=0)


async def _finished(it: Yard) -> None:
    """Let virtual time pass until nothing is pending."""
    while (await it.store.counts())[State.PENDING]:
        await clock.passes(0.5)


# --- requests per minute


@pytest.mark.parametrize("requests", [1, 2, 3])
def test_no_minute_holds_more_requests_than_the_cap(requests: int) -> None:
    """Three hundred orders at once, with logins and redirects: the cap is kept, nearly used up, and nobody is lost."""

    async def day() -> None:
        async with yard(per_minute=120, limits=Limits(checks=20), store=QuickStore()) as it:
            it.asker.requests = requests
            names = [f"task-{number}" for number in range(200)]
            await it.add(*names)
            began = clock.now()
            await _finished(it)
            orders = [await it.read(name) for name in names]

            assert {(order.state, order.attempts) for order in orders} == {(State.DONE, 0)}
            assert fullest(it.asker.sent) <= 120
            assert len(it.asker.sent) >= 0.8 * 120 * (clock.now() - began) / 60
            if requests == 1:
                assert {order.checks for order in orders} == {1}

    clock.run(day())


def test_orders_wait_for_their_turns_in_the_store_and_not_in_a_slot() -> None:
    """Where one request a second may go, one slot is in use, and the next is claimed when its turn has come."""

    async def day() -> None:
        async with yard(per_minute=60) as it:
            names = [f"task-{number}" for number in range(100)]
            await it.add(*names)
            await clock.passes(30.0)
            assert len(it.asker.sent) == pytest.approx(6 + 28, abs=2)
            assert it.asker.most <= 6
            versions = [(await it.read(name)).version for name in names]
            assert versions.count(2) <= 1
            assert versions.count(1) == 100 - len(it.asker.sent)

    clock.run(day())


def test_a_turn_is_kept_for_who_was_claimed() -> None:
    """A login that hangs keeps nobody else out of his turn for good, and lets nobody claim what cannot be asked."""

    async def day() -> None:
        async with yard(per_minute=60) as it:
            it.asker.before = 20.0
            await it.add(*(f"task-{number}" for number in range(100)))
            await clock.passes(19.0)
            assert it.asker.most == 6
            await clock.passes(50.0)
            assert fullest(it.asker.sent) <= 60

    clock.run(day())


def test_what_the_remote_says_of_its_limits_is_kept() -> None:
    """A quota that is spent stops everybody until it is reset; a policy is a cap like our own."""

    async def day() -> None:
        async with yard() as it:
            it.governor.heard(200, {"ratelimit": '"default";r=0;t=600'}, own=True)
            began = clock.now()
            await it.add("one")
            await it.rest("one")
            assert clock.now() - began == pytest.approx(601.0, abs=1.0)

            it.governor.heard(200, {"ratelimit-policy": '"default";q=30;w=60'}, own=True)
            names = [f"task-{number}" for number in range(100)]
            await it.add(*names)
            await it.rest(*names)
            assert 25 < fullest(it.asker.sent[1:]) <= 30

    clock.run(day())


def test_what_an_origin_beside_the_api_says_of_its_limits_does_not_count() -> None:
    """Where tokens are issued other limits hold than where tasks are asked about."""

    async def day() -> None:
        async with yard() as it:
            it.governor.heard(200, {"ratelimit": '"default";r=0;t=600'}, own=False)
            assert (it.governor.wait(), it.governor.free(7)) == (0.0, 7)

    clock.run(day())


# --- 429


def test_a_429_slows_the_whole_remote() -> None:
    """Nobody is asked about until the remote's wish is over, one is then, and all when that one is answered."""

    async def day() -> None:
        async with yard(limits=Limits(checks=1)) as it:
            it.remote.scripts["task-00"] = [THROTTLED, READY]
            names = [f"task-{number:02}" for number in range(20)]
            await it.add(*names)
            await clock.passes(1.0)
            assert len(it.asker.sent) == 1
            assert it.poller.paused == {"fake": "the remote answered 429: it wants fewer requests"}
            await clock.passes(118.0)
            assert len(it.asker.sent) == 1

            orders = await it.rest(*names)
            assert it.asker.sent[1] - it.asker.sent[0] == pytest.approx(120.0, abs=0.5)
            assert it.poller.paused == {}
            assert [event.attempt for _, event in it.told if event.event == "trouble"] == [1]
            assert {order.attempts for order in orders} == {0}

    clock.run(day())


@pytest.mark.parametrize(("status", "wish", "pause"), [(429, None, 1.0), (429, 1e9, 3600.0), (503, 90.0, 90.0)])
def test_a_wish_is_honoured_for_an_hour_at_most(status: int, wish: float | None, pause: float) -> None:
    """Without a wish it is a second; 503 with a wish is no other than 429."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [Trouble(reason="no", status=status, retry_after=wish), READY]
            await it.add("one", patience=DAY)
            await it.until(lambda order: order.attempts == 1, "one")
            await it.add("two", patience=DAY)
            await it.rest("one", "two")
            assert it.asker.sent[1] - it.asker.sent[0] == pytest.approx(pause, abs=1.2)

    clock.run(day())


def test_a_503_without_a_wish_pauses_nobody_else() -> None:
    """It may be this order's own; the breaker sees to it if it is not."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [Trouble(reason="no", status=503), READY]
            await it.add("one")
            await it.until(lambda order: order.attempts == 1, "one")
            assert it.poller.paused == {}

    clock.run(day())


def test_an_answer_that_was_on_its_way_ends_no_pause() -> None:
    """Sixty-four questions are under way when the first 429 comes: the others' answers say nothing about now."""

    async def day() -> None:
        async with yard() as it:
            names = [f"task-{number:02}" for number in range(100)]
            it.remote.scripts = {name: [NotReady(), READY] for name in names}
            it.remote.scripts["task-30"] = [THROTTLED, READY]
            await it.add(*names)
            await clock.passes(100.0)
            assert len(it.asker.sent) == 64
            assert it.poller.paused
            await it.rest(*names)

    clock.run(day())


def test_a_throttled_remote_costs_next_to_nobody_an_attempt() -> None:
    """A day of 429 for everybody: one question each minute, four attempts in all, and then all goes on at once."""

    async def day() -> None:
        async with yard(store=QuickStore()) as it:
            names = [f"task-{number:03}" for number in range(70)]
            it.remote.scripts = {name: [Trouble(reason="429", status=429)] for name in names}
            await it.add(*names, patience=7 * DAY)
            await clock.passes(DAY)
            assert len(it.asker.sent) < 64 + DAY / 60 + 20
            asked = Counter({name: (await it.read(name)).attempts for name in names})
            assert asked.total() == 4

            it.remote.scripts.clear()
            began = clock.now()
            await _finished(it)
            assert (await it.store.counts())[State.DONE] == len(names)
            assert clock.now() - began < 120.0

    clock.run(day())


def test_an_order_that_alone_is_throttled_spends_its_attempts() -> None:
    """429 is trouble like any other (RFC 6585): who meets it again and again while others are answered, fails of it."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=3)) as it:
            it.remote.scripts["greedy"] = [Trouble(reason="429", status=429)]
            it.remote.scripts |= {f"good-{number}": [NotReady()] * 30 + [READY] for number in range(3)}
            await it.add("greedy", "good-0", "good-1", "good-2")
            (greedy,) = await it.rest("greedy")
            assert (greedy.cause, greedy.attempts) == (Cause.ATTEMPTS, 3)
            await it.rest("good-0", "good-1", "good-2")

    clock.run(day())


def test_probes_take_turns() -> None:
    """During a pause everybody is asked about once before anybody is asked about twice."""

    async def day() -> None:
        async with yard(limits=Limits(checks=1)) as it:
            names = [f"task-{number}" for number in range(5)]
            asked: list[str] = []
            check = it.remote.check

            def noted(order):
                asked.append(order.task_id)
                return check(order)

            it.remote.check = noted
            it.remote.scripts = {name: [Trouble(reason="429", status=429)] for name in names}
            await it.add(*names, patience=DAY)
            await clock.passes(3600.0)
            counts = Counter(asked[5:])
            assert set(counts) == set(names)
            assert max(counts.values()) - min(counts.values()) <= 1

    clock.run(day())


def test_deadlines_are_kept_while_a_remote_is_throttled() -> None:
    """And its door is not taken for locked because of them."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["patient"] = [Trouble(reason="429", status=429, retry_after=3000.0), READY]
            await it.add("patient", patience=DAY)
            await it.until(lambda order: order.attempts == 1, "patient")
            await it.add("short", patience=60.0)
            began = clock.now()
            (short,) = await it.rest("short")
            assert clock.now() - began == pytest.approx(60.0, abs=1.0)
            assert (short.cause, short.attempts, short.checks) == (Cause.DEADLINE, 0, 0)
            await it.rest("patient")
            assert 2990.0 < clock.now() - began < 3010.0

    clock.run(day())


def test_a_step_that_is_throttled_on_its_way_spends_nothing() -> None:
    """Its second request would have to wait for minutes: the order is put back, unspent, until then."""

    async def day() -> None:
        async with yard() as it:
            it.asker.requests = 2
            said = iter([429, 200])
            it.asker.between = lambda: it.governor.heard(next(said), {"retry-after": "300"}, own=True)
            await it.add("one")
            began = clock.now()
            (order,) = await it.rest("one")
            assert (order.state, order.attempts) == (State.DONE, 0)
            assert it.words("one") == ["added", "deferred", "done"]
            assert clock.now() - began == pytest.approx(300.0, abs=3.0)

    clock.run(day())


# --- outages


async def _outage(it: Yard, count: int, down: Trouble) -> None:
    names = [f"task-{number:05}" for number in range(count)]
    loading = names[:8]
    it.fetcher.takes = dict.fromkeys(loading, 50.0)
    it.remote.scripts = {name: [NotReady()] for name in names[8:]}
    await it.add(*names, patience=7 * DAY)
    await clock.passes(30.0)
    assert it.fetcher.now == 8
    it.remote.scripts = {name: [down] for name in names}
    it.fetcher.outcomes = dict.fromkeys(loading, Trouble(reason="the remote closed the connection"))
    await clock.passes(600.0)
    asked = len(it.asker.asked)
    await clock.passes(DAY)
    probes = [
        after - before for before, after in zip(it.asker.asked[asked:], it.asker.asked[asked + 1 :], strict=False)
    ]
    assert len(probes) >= DAY / 70
    assert min(probes) > 59.0
    counts = await it.store.counts()
    assert (counts[State.PENDING], counts[State.FAILED]) == (count, 0)
    for name in loading:
        assert (await it.read(name)).attempts <= 2

    it.remote.scripts.clear()
    it.fetcher.outcomes.clear()
    it.fetcher.takes.clear()
    await clock.passes(120.0)
    done = (await it.store.counts())[State.DONE]
    assert done >= min(count, 60 * 8 / 0.1 * 0.9)
    assert it.poller.paused == {}


@pytest.mark.parametrize("down", [Trouble(reason="cannot connect"), Trouble(reason="502", status=502)])
def test_after_a_day_of_outage_all_is_as_before(down: Trouble) -> None:
    """One probe each minute, nobody lost, those in download included; full speed within two minutes of its end."""

    async def day() -> None:
        async with yard(store=QuickStore()) as it:
            await _outage(it, 60, down)

    clock.run(day())


@pytest.mark.parametrize("down", [Trouble(reason="cannot connect"), Trouble(reason="502", status=502)])
def test_after_a_day_without_the_files_all_is_as_before(down: Trouble) -> None:
    """Where they are kept elsewhere, that may be down while the remote answers: one download tries each minute."""

    async def day() -> None:
        async with yard() as it:
            names = [f"task-{number:02}" for number in range(4)]
            it.fetcher.outcomes = dict.fromkeys(names, down)
            await it.add(*names, patience=7 * DAY)
            await clock.passes(600.0)
            begun = it.fetcher.begun.total()
            await clock.passes(DAY)
            assert DAY / 130 < it.fetcher.begun.total() - begun <= DAY / 59
            counts = await it.store.counts()
            assert (counts[State.PENDING], counts[State.FAILED]) == (4, 0)
            assert max([(await it.read(name)).attempts for name in names]) <= 2
            it.fetcher.outcomes.clear()
            await clock.passes(120.0)
            assert (await it.store.counts())[State.DONE] == 4

    clock.run(day())


def test_a_file_that_is_never_had_fails_its_order_among_others_that_are() -> None:
    """What has good neighbours is its own trouble."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=3)) as it:
            it.fetcher.outcomes["bad"] = Trouble(reason="502", status=502)
            await it.add("bad", *(f"good-{number}" for number in range(9)))
            (bad,) = await it.rest("bad")
            assert (bad.cause, bad.attempts) == (Cause.ATTEMPTS, 3)

    clock.run(day())


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_ten_thousand_orders_outlive_a_day_of_outage() -> None:
    """The same with as many as a large shop has."""

    async def day() -> None:
        async with yard(store=QuickStore()) as it:
            await _outage(it, 10_000, Trouble(reason="cannot connect"))

    clock.run(day())
