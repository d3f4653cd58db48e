"""A clock that is set, forward or back: nobody is asked about too late, too early, or all at once (R12)."""

from collections import defaultdict
from itertools import pairwise

import pytest

from poller.lane import Limits
from poller.order import State
from poller.outcome import Cause, Locked, NotReady, Trouble
from poller.pace import Pace
from tests import clock
from tests.quick_store import QuickStore
from tests.yard import READY, Yard, yard

pytestmark = [pytest.mark.unmeasured, pytest.mark.usefixtures("calm")]

HOUR = 3600.0
JUMPS = [HOUR, -HOUR, 7.0, -7.0, 600.0, -86400.0]


def _elapsed() -> float:
    """Tell the time that has passed, whatever the clock says."""
    return clock.now() - clock.EPOCH - clock.set_by()


def _watched(it: Yard) -> dict[str, list[float]]:
    """Note when each order is asked about, in time that has passed."""
    asked: dict[str, list[float]] = defaultdict(list)
    check = it.remote.check

    def noted(order):
        asked[order.task_id].append(_elapsed())
        return check(order)

    it.remote.check = noted
    return asked


@pytest.mark.parametrize("by", JUMPS)
def test_orders_are_asked_about_as_if_nothing_had_happened(by: float) -> None:
    """However far the clock is set: no gap between two questions is longer or shorter than the interval."""

    async def day() -> None:
        async with yard(store=QuickStore(), pace=Pace(interval_min=20.0, interval_max=60.0)) as it:
            asked = _watched(it)
            names = [f"task-{number}" for number in range(50)]
            it.remote.scripts = {name: [NotReady()] for name in names}
            for name in names:
                await it.add(name, patience=7 * 86400.0)
                await clock.passes(1.0)
            await clock.passes(1200.0)
            began = _elapsed()
            clock.jump(by)
            await clock.passes(1200.0)
            for times in asked.values():
                late = [at for at in times if at > began - 120.0]
                assert len(late) >= 20
                assert all(59.0 < after - before < 62.0 for before, after in pairwise(late))

    clock.run(day())


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_wish_to_be_left_alone_is_kept_through_it(by: float) -> None:
    """Half an hour is half an hour by the clock on nobody's wall."""

    async def day() -> None:
        async with yard() as it:
            asked = _watched(it)
            it.remote.scripts["one"] = [NotReady(retry_after=1800.0), READY]
            await it.add("one", patience=7 * 86400.0)
            await clock.passes(600.0)
            clock.jump(by)
            await clock.passes(1300.0)
            assert asked["one"][1] - asked["one"][0] == pytest.approx(1800.0, abs=2.0)

    clock.run(day())


@pytest.mark.parametrize("by", [HOUR, -HOUR])
@pytest.mark.parametrize("trouble", [Locked(reason="401"), Trouble(reason="429", status=429, retry_after=300.0)])
def test_a_pause_is_as_long_as_it_was(by: float, trouble: Locked | Trouble) -> None:
    """Neither an hour longer nor over at once."""

    async def day() -> None:
        async with yard() as it:
            asked = _watched(it)
            it.remote.scripts["one"] = [trouble, trouble, READY]
            await it.add("one", patience=7 * 86400.0)
            await clock.passes(20.0)
            clock.jump(by)
            await it.rest("one")
            gaps = [after - before for before, after in pairwise(asked["one"])]
            wanted = [30.0, 60.0] if isinstance(trouble, Locked) else [300.0, 300.0]
            assert gaps == pytest.approx(wanted, abs=3.0)

    clock.run(day())


def test_a_deadline_that_was_passed_over_is_kept_within_the_minute() -> None:
    """A deadline is an instant: it has come, and those that wait for another one do not come to rest for it."""

    async def day() -> None:
        async with yard() as it:
            for name in ("short", "long"):
                it.remote.scripts[name] = [NotReady(retry_after=3000.0)]
            await it.add("short", patience=1800.0)
            await it.add("long", patience=7 * 86400.0)
            await clock.passes(600.0)
            clock.jump(HOUR)
            began = _elapsed()
            (short,) = await it.rest("short")
            assert _elapsed() - began < 60.0
            assert (short.state, short.cause, short.checks) == (State.FAILED, Cause.DEADLINE, 2)
            await clock.passes(60.0)
            assert (await it.read("long")).checks == 1

    clock.run(day())


def test_what_came_before_the_new_time_was_noticed_waits_no_hour_for_it() -> None:
    """An order that is added, and a pause that begins, in the seconds between are right already."""

    async def day() -> None:
        async with yard(store=QuickStore()) as it:
            asked = _watched(it)
            it.fetcher.takes["busy"] = 300.0
            await it.add("busy", patience=7 * 86400.0)
            await clock.passes(10.0)
            clock.jump(HOUR)
            began = _elapsed()
            it.course.door.begin("401", clock.now())
            await it.add("new", patience=7 * 86400.0)
            await it.rest("new")
            assert asked["new"][0] - began < 60.0

    clock.run(day())


def test_a_deadline_that_has_come_near_is_not_waited_past() -> None:
    """Five minutes are left of an hour and more, and the next question is as far away as before."""

    async def day() -> None:
        async with yard(store=QuickStore()) as it:
            it.remote.scripts = {name: [NotReady(retry_after=3000.0)] for name in ("near", "far")}
            await it.add("near", patience=HOUR + 900.0)
            await it.add("far", patience=HOUR + 600.0 + 3100.0)
            await clock.passes(600.0)
            clock.jump(HOUR)
            began = _elapsed()
            (near,) = await it.rest("near")
            assert _elapsed() - began < 360.0
            assert near.cause is Cause.DEADLINE
            assert (await it.read("far")).checks == 1

    clock.run(day())


def test_more_deadlines_than_fit_on_a_page_are_kept() -> None:
    """A thousand of them come to rest, and the rest goes on."""

    async def day() -> None:
        async with yard(store=QuickStore(), pace=Pace(interval_min=300.0, interval_max=300.0)) as it:
            names = [f"task-{number}" for number in range(1200)]
            it.remote.scripts = {name: [NotReady()] for name in names}
            await it.add(*names[:1100], patience=1800.0)
            await it.add(*names[1100:], patience=7 * 86400.0)
            await clock.passes(100.0)
            clock.jump(HOUR)
            await clock.passes(60.0)
            counts = await it.store.counts()
            assert (counts[State.FAILED], counts[State.PENDING]) == (1100, 100)

    clock.run(day())


def test_a_deadline_that_has_gone_further_away_is_waited_for() -> None:
    """After the clock was set back an order is asked about until its deadline, as often as before."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [NotReady()]
            await it.add("one", patience=1800.0)
            await clock.passes(1700.0)
            clock.jump(-HOUR)
            began = _elapsed()
            (one,) = await it.rest("one")
            assert _elapsed() - began == pytest.approx(100.0 + HOUR, abs=2.0)
            assert one.cause is Cause.DEADLINE
            assert one.checks == pytest.approx(43 + 25 + 60, abs=8)

    clock.run(day())


def test_a_step_under_way_is_begun_once() -> None:
    """A download goes on, its claim is renewed, and nobody begins it again, wherever the clock is set."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["one"] = 900.0
            await it.add("one", patience=7 * 86400.0)
            for by in (HOUR, -HOUR, -HOUR, 600.0):
                await clock.passes(100.0)
                clock.jump(by)
            (one,) = await it.rest("one")
            assert one.state is State.DONE
            assert it.fetcher.begun["one"] == 1

    clock.run(day())


def test_a_process_that_was_frozen_asks_no_more_at_once_than_ever() -> None:
    """Ten minutes in which nothing ran: all are due, and go through the same few slots."""

    async def day() -> None:
        async with yard(store=QuickStore(), limits=Limits(checks=5)) as it:
            names = [f"task-{number}" for number in range(100)]
            it.remote.scripts = {name: [NotReady()] for name in names}
            await it.add(*names, patience=7 * 86400.0)
            await clock.passes(600.0)
            it.asker.most = 0
            clock.freeze(600.0)
            began = _elapsed()
            await clock.passes(30.0)
            assert it.asker.most == 5
            assert sum(at > began for at in it.asker.sent) > 0
            assert {(await it.read(name)).attempts for name in names} == {0}

    clock.run(day())
