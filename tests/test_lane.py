"""The loop in virtual time: who is asked when, what is limited, and what hurts whom."""

import asyncio
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from poller import order as fate
from poller.doubt import Doubts
from poller.errors import Conflict, NotFound, StoreUnavailable
from poller.event import Event
from poller.lane import Limits
from poller.order import Key, Order, State
from poller.outcome import (
    REPORT_CHARACTERS,
    Cause,
    LinkExpired,
    Locked,
    NotReady,
    Refused,
    Stuck,
    Trouble,
    Unknown,
    Unsafe,
)
from poller.pace import Pace
from poller.remote import NeedsConfirming
from poller.stores.memory import MemoryStore
from tests import clock
from tests.quick_store import QuickStore
from tests.yard import READY, order, yard


def test_a_ready_order_is_fetched_and_done() -> None:
    """One question, one download, one event for the history."""

    async def day() -> None:
        async with yard() as it:
            await it.add("one")
            (order,) = await it.rest("one")

            assert order.state is State.DONE
            assert [file.name for file in order.files] == ["one"]
            assert order.checks == 1
            assert it.words("one") == ["added", "done"]
            assert [event.event for event in (await it.store.history(order.key)).events][-1] == "done"

    clock.run(day())


def test_an_order_that_is_not_ready_is_asked_again_without_spending_an_attempt() -> None:
    """Five answers of "not yet" cost five questions and nothing else."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [NotReady()] * 5 + [READY]
            await it.add("one")
            (order,) = await it.rest("one")

            assert (order.state, order.checks, order.attempts) == (State.DONE, 6, 0)
            gaps = [after - before for before, after in zip(it.asker.asked, it.asker.asked[1:], strict=False)]
            assert all(1.0 <= gap < 1.5 for gap in gaps)

    clock.run(day())


def test_retry_after_is_obeyed() -> None:
    """A remote that asks for a minute is left alone for a minute."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [NotReady(retry_after=60.0), READY]
            await it.add("one")
            await it.rest("one")

            assert 60.0 <= it.asker.asked[1] - it.asker.asked[0] < 61.0

    clock.run(day())


@pytest.mark.unmeasured
def test_questions_and_downloads_stay_within_their_limits() -> None:
    """A thousand orders at once: never more questions or downloads than there are slots."""

    async def day() -> None:
        async with yard(limits=Limits(checks=7), downloads=3, store=QuickStore()) as it:
            names = [f"task-{number}" for number in range(1000)]
            await it.add(*names)
            orders = await it.rest(*names)

            assert {order.state for order in orders} == {State.DONE}
            assert it.asker.most == 7
            assert it.fetcher.most == 3
            assert set(it.fetcher.published.values()) == {1}

    clock.run(day())


def test_slow_downloads_delay_nobodys_question() -> None:
    """Every download slot hangs for an hour; a new order is asked about at once all the same."""

    async def day() -> None:
        async with yard(limits=Limits(checks=4), downloads=2, grace=0.0) as it:
            slow = [f"slow-{number}" for number in range(4)]
            it.fetcher.takes = dict.fromkeys(slow, 3000.0)
            await it.add(*slow)
            await it.until(lambda _: it.fetcher.now == 2, "slow-0")
            it.remote.scripts["refused"] = [Refused(reason="no")]
            before = clock.now()
            await it.add("refused")
            (order,) = await it.rest("refused")

            assert order.state is State.FAILED
            assert clock.now() - before < 1.0

    clock.run(day())


def test_a_full_waiting_room_puts_orders_back_unspent() -> None:
    """More ready orders than may wait for a download slot are asked about again later, for nothing."""

    async def day() -> None:
        async with yard(limits=Limits(checks=50), downloads=1) as it:
            names = [f"task-{number}" for number in range(30)]
            it.fetcher.takes = dict.fromkeys(names, 2.0)
            await it.add(*names)
            orders = await it.rest(*names)

            assert {order.state for order in orders} == {State.DONE}
            assert {order.attempts for order in orders} == {0}
            assert "crowded" in {event.event for _, event in it.told}
            assert set(it.fetcher.published.values()) == {1}

    clock.run(day())


def test_one_bad_order_hurts_nobody_else() -> None:
    """A conversation that breaks costs its own order attempts, and the others nothing."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=3)) as it:
            it.remote.scripts["bad"] = [RuntimeError("a bug, with a canary in it")]
            it.fetcher.outcomes["worse"] = RuntimeError("another")
            await it.add("bad", "good", "worse")
            bad, good, worse = await it.rest("bad", "good", "worse")

            assert (bad.state, bad.cause, bad.attempts) == (State.FAILED, Cause.ATTEMPTS, 3)
            assert "RuntimeError" in (bad.reason or "")
            assert "canary" not in (bad.reason or "")
            assert worse.state is State.FAILED
            assert (good.state, good.checks) == (State.DONE, 1)

    with capture_logs():  # to show two bugs in colour, six times, would be most of the work
        clock.run(day())


def test_an_order_that_is_due_again_at_once_is_asked_once_at_a_time() -> None:
    """A dead link is due again the moment it is saved; the step that saved it is in nobody's way."""

    async def day() -> None:
        async with yard() as it:
            save = it.store.save

            async def slowly(*arguments: object, **named: object) -> None:
                await save(*arguments, **named)
                await clock.passes(0.3)

            it.store.save = slowly  # type: ignore[method-assign]
            names = [f"task-{number}" for number in range(30)]
            for name in names:
                it.remote.scripts[name] = [LinkExpired(reason="the link answered 403", status=403), READY]
            await it.add(*names)
            await clock.passes(0.2)
            await it.add("another")  # wakes the lane while the first answers are still being saved
            orders = await it.rest(*names)

            assert {(order.state, order.checks, order.attempts) for order in orders} == {(State.DONE, 2, 0)}
            assert it.asker.most <= 31

    clock.run(day())


def test_a_word_that_nobody_knows_calls_for_help_once_and_is_asked_about_no_more_than_so_often() -> None:
    """The alarm is one for each word, whoever hears it; each order remembers it, and fails of its attempts."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=4)) as it:
            for number in range(5):
                word = "state 'even canary'" if number % 2 == 0 else "state 'odd'"
                it.remote.scripts[f"task-{number}"] = [
                    Unknown(reason=f"no verdict about {word}", status=200, word=word)
                ]
            it.remote.scripts["good"] = [NotReady(), NotReady(), READY]
            await it.add("good", *(f"task-{number}" for number in range(5)))
            (good, *orders) = await it.rest("good", *(f"task-{number}" for number in range(5)))

            assert good.state is State.DONE
            assert {(order.cause, order.attempts, order.checks) for order in orders} == {(Cause.ATTEMPTS, 4, 4)}
            assert it.words("task-1") == ["added", *["unknown_answer"] * 3, "failed"]
            history = (await it.store.history(orders[0].key)).events
            assert [event.event for event in history][1:] == ["unknown_answer"] * 3 + ["failed"]
            assert "canary" not in str(history)

    with capture_logs() as logs:
        clock.run(day())
    alarms = [line["word"] for line in logs if line["event"] == "unknown_word" and line["log_level"] == "error"]
    assert sorted(alarms) == ["state 'even canary'", "state 'odd'"]


def test_a_remote_that_makes_up_words_is_not_told_of_for_ever() -> None:
    """A hundred alarms are enough for anybody."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=1)) as it:
            names = [f"task-{number}" for number in range(150)]
            it.remote.scripts = {name: [Unknown(reason=name, status=200, word=name)] for name in names}
            await it.add(*names)
            await it.rest(*names)

    with capture_logs() as logs:
        clock.run(day())
    assert sum(line["event"] == "unknown_word" for line in logs) == 100


def test_trouble_backs_off_and_is_told_with_its_attempt() -> None:
    """Troubles in a row are numbered; an answer that makes sense starts again."""

    async def day() -> None:
        async with yard() as it:
            trouble = Trouble(reason="the remote closed the connection", status=None)
            it.remote.scripts["one"] = [trouble, trouble, NotReady(), trouble, READY]
            await it.add("one")
            (order,) = await it.rest("one")

            assert order.state is State.DONE
            told = [event.attempt for _, event in it.told if event.event == "trouble"]
            assert told == [1, 2, 1]

    clock.run(day())


def test_a_locked_remote_is_paused_probed_and_healed() -> None:
    """While nobody is let in no order spends anything; one probe at a time finds the door open again."""

    async def day() -> None:
        async with yard() as it:
            names = [f"task-{number}" for number in range(20)]
            locked = Locked(reason="401 to a fresh token")
            for name in names:
                it.remote.scripts[name] = [locked, locked, READY] if name == "task-0" else [locked, READY]
            await it.add(*names)
            await it.until(lambda order: order.reason is not None, *names)
            paused_at, asked = clock.now(), len(it.asker.asked)

            assert it.poller.paused == {"fake": "401 to a fresh token"}
            await it.until(lambda _: len(it.asker.asked) > asked, "task-0")
            assert 29.0 < clock.now() - paused_at < 31.0
            assert len(it.asker.asked) == asked + 1

            orders = await it.rest(*names)
            assert it.poller.paused == {}
            assert {(order.state, order.attempts) for order in orders} == {(State.DONE, 0)}

    clock.run(day())


def test_the_pause_doubles_up_to_five_minutes() -> None:
    """A remote that stays locked is probed after 30, 60, 120, 240, 300, 300 seconds."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [Locked(reason="401")]
            await it.add("one", patience=86400.0)
            await it.until(lambda _: len(it.asker.asked) == 7, "one")

            gaps = [after - before for before, after in zip(it.asker.asked, it.asker.asked[1:], strict=False)]
            assert [round(gap) for gap in gaps] == [30, 60, 120, 240, 300, 300]

    clock.run(day())


def test_a_pause_does_not_outlast_a_deadline() -> None:
    """Orders of a locked remote come to rest at their deadlines, wherever the pause stands."""

    async def day() -> None:
        async with yard() as it:
            names = [f"task-{number}" for number in range(100)]
            for name in [*names, "patient"]:
                it.remote.scripts[name] = [Locked(reason="401 to a fresh token")]
            await it.add("patient", patience=86400.0)
            await it.until(lambda order: order.reason is not None, "patient")
            asked = len(it.asker.asked)
            await it.add(*names, patience=12.0)
            began = clock.now()
            orders = await it.rest(*names)

            assert clock.now() - began == pytest.approx(12.0, abs=1.0)
            assert {(order.cause, order.attempts) for order in orders} == {(Cause.DEADLINE, 0)}
            assert len(it.asker.asked) == asked

    clock.run(day())


@pytest.mark.parametrize("patience", [60.0, 7200.0])
def test_the_deadline_cuts_a_running_download(patience: float) -> None:
    """An order comes to rest at its deadline, whatever is still on its way, and however far off it was."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["one"] = 10 * patience
            await it.add("one", patience=patience)
            await clock.passes(patience - 1.0)
            assert it.fetcher.now == 1
            await clock.passes(11.0)
            order = await it.read("one")

            assert (order.state, order.cause) == (State.FAILED, Cause.DEADLINE)
            assert not it.fetcher.published

    clock.run(day())


def test_the_last_check_falls_on_the_deadline() -> None:
    """A file that exists at the deadline, and not before, is still collected."""

    async def day() -> None:
        async with yard() as it:
            began = clock.now()
            it.remote.scripts["one"] = [NotReady()] * 4 + [NotReady(retry_after=3000.0), READY]
            await it.add("one", patience=30.0)
            (order,) = await it.rest("one")

            assert order.state is State.DONE
            assert it.asker.asked[-1] - began == pytest.approx(30.0, abs=0.01)

    clock.run(day())


def test_a_download_longer_than_its_lease_is_claimed_once() -> None:
    """Leases are renewed while a step is under way."""

    async def day() -> None:
        async with yard(limits=Limits(lease=60.0)) as it:
            it.fetcher.takes["one"] = 1000.0
            await it.add("one")
            (order,) = await it.rest("one")

            assert order.state is State.DONE
            assert it.fetcher.begun == Counter(one=1)
            assert len(it.asker.asked) == 1

    clock.run(day())


def test_a_held_order_waits_for_its_confirmation() -> None:
    """A dry run is not asked about until it is confirmed."""

    async def day() -> None:
        async with yard() as it:
            await it.add("one", dry_run=True)
            await clock.passes(300)
            assert it.asker.asked == []

            await it.poller.apply(Key("fake", "one"), fate.confirm, "confirmed")
            (order,) = await it.rest("one")
            assert order.state is State.DONE

    clock.run(day())


def test_a_remote_that_waits_for_our_word_gets_it() -> None:
    """An order that was confirmed here is confirmed there."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [NeedsConfirming(), READY]
            await it.add("one")
            (order,) = await it.rest("one")

            assert it.remote.confirms == ["one"]
            assert (order.state, order.attempts) == (State.DONE, 0)

    clock.run(day())


def test_after_a_cancel_no_file_appears() -> None:
    """A download under way is interrupted before the cancel is answered."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["one"] = 50.0
            await it.add("one")
            await it.until(lambda _: it.fetcher.now == 1, "one")

            canceled = await it.poller.apply(Key("fake", "one"), fate.cancel, "canceled")
            assert canceled.state is State.CANCELED
            await clock.passes(1000)
            assert it.fetcher.published == Counter()
            assert (await it.read("one")).state is State.CANCELED

    clock.run(day())


def test_a_cancel_that_comes_too_late_is_a_conflict() -> None:
    """A file that was just being published is there, so the order is done and says so."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["one"] = 50.0
            it.fetcher.too_late_to_cancel.add("one")
            await it.add("one")
            await it.until(lambda _: it.fetcher.now == 1, "one")
            with pytest.raises(Conflict, match="is done"):
                await it.poller.apply(Key("fake", "one"), fate.cancel, "canceled")

            assert (await it.read("one")).state is State.DONE

    clock.run(day())


def test_a_dead_link_means_gone_once_the_remote_keeps_no_files_any_more() -> None:
    """The time a remote keeps a file counts from the first answer that it is ready."""

    async def day() -> None:
        async with yard(pace=Pace(window=100.0)) as it:
            it.fetcher.outcomes["one"] = Trouble(reason="cut off", retry_after=200.0)
            await it.add("one")
            await it.until(lambda order: order.attempts == 1, "one")
            it.fetcher.outcomes["one"] = LinkExpired(reason="the link answered 403", status=403)
            (order,) = await it.rest("one")

            assert (order.state, order.cause, order.checks) == (State.FAILED, Cause.GONE, 2)

    clock.run(day())


def test_only_what_must_not_be_lost_waits_for_the_disk() -> None:
    """An end is saved durably; losing a "not ready" costs one early question."""

    async def day() -> None:
        async with yard() as it:
            save, durably = it.store.save, []

            async def spy(order: Order, *arguments: object, durable: bool = True) -> None:
                durably.append((order.state, durable))
                await save(order, *arguments, durable=durable)

            it.store.save = spy  # type: ignore[method-assign]
            it.remote.scripts["one"] = [NotReady(), READY]
            await it.add("one")
            await it.rest("one")

            assert durably == [(State.PENDING, False), (State.DONE, True)]

    clock.run(day())


def test_a_canceled_order_can_be_retried() -> None:
    """A retry opens a new generation, and that is fetched."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [Refused(reason="rendering failed"), READY]
            await it.add("one")
            await it.rest("one")
            await it.poller.apply(Key("fake", "one"), fate.retry, "retried")
            (order,) = await it.rest("one")

            assert (order.state, order.generation, order.checks) == (State.DONE, 2, 1)

    clock.run(day())


def test_a_check_brings_the_next_question_forward() -> None:
    """An order that would wait an hour is asked about now."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [NotReady(retry_after=3600.0), READY]
            await it.add("one", patience=86400.0)
            await it.until(lambda order: order.checks == 1, "one")
            before = clock.now()
            await it.poller.apply(Key("fake", "one"), fate.check, "nudged")
            await it.rest("one")

            assert clock.now() - before < 2.0

    clock.run(day())


def test_a_check_leaves_a_running_download_alone() -> None:
    """What is already under way is what was asked for."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["one"] = 50.0
            await it.add("one")
            await it.until(lambda _: it.fetcher.now == 1, "one")
            await it.poller.apply(Key("fake", "one"), fate.check, "nudged")
            (order,) = await it.rest("one")

            assert it.fetcher.begun == Counter(one=1)
            assert order.state is State.DONE

    clock.run(day())


@pytest.mark.parametrize(
    ("command", "word"), [(fate.confirm, "confirmed"), (fate.cancel, "canceled"), (fate.check, "nudged")]
)
def test_a_command_that_the_state_forbids_is_a_conflict(command, word) -> None:
    """An order at rest stays as it is."""

    async def day() -> None:
        async with yard() as it:
            await it.add("one")
            (done,) = await it.rest("one")
            with pytest.raises(Conflict, match="is done"):
                await it.poller.apply(Key("fake", "one"), command, word)
            assert await it.read("one") == done

    clock.run(day())


def test_a_command_for_nobody_is_not_found() -> None:
    """There is nothing to be done for an order that does not exist."""

    async def day() -> None:
        async with yard() as it:
            with pytest.raises(NotFound):
                await it.poller.apply(Key("fake", "nobody"), fate.cancel, "canceled")
            with pytest.raises(NotFound):
                await it.poller.apply(Key("elsewhere", "nobody"), fate.cancel, "canceled")

    clock.run(day())


def test_a_stop_waits_for_what_is_under_way() -> None:
    """A download that ends within the grace is done; nothing new is begun."""

    async def day() -> None:
        async with yard(started=False, grace=25.0) as it:
            working = asyncio.create_task(it.poller.run())
            it.fetcher.takes["one"] = 20.0
            await it.add("one")
            await it.until(lambda _: it.fetcher.now == 1, "one")
            it.poller.stop()
            await it.add("two")
            await working

            assert (await it.read("one")).state is State.DONE
            assert (await it.read("two")).checks == 0

    clock.run(day())


@pytest.mark.parametrize("impatient", [False, True])
def test_an_interrupted_order_is_due_at_once_and_has_spent_nothing(impatient) -> None:
    """Being stopped is not failing, whether the grace ran out or a second signal came."""

    async def day() -> None:
        async with yard(started=False, grace=25.0) as it:
            working = asyncio.create_task(it.poller.run())
            it.fetcher.takes["one"] = 2000.0
            await it.add("one")
            await it.until(lambda _: it.fetcher.now == 1, "one")
            stopped_at = clock.now()
            it.poller.stop()
            if impatient:
                it.poller.abandon()
            await working
            order = await it.read("one")

            assert clock.now() - stopped_at == pytest.approx(0.0 if impatient else 25.0, abs=0.1)
            assert (order.state, order.attempts, order.checks) == (State.PENDING, 0, 0)
            assert order.due_at is not None
            assert order.due_at <= clock.now()
            assert it.words("one")[-1] == "interrupted"

    clock.run(day())


def test_the_lane_goes_on_when_the_store_is_back() -> None:
    """A store that is unavailable for a while stops nothing for good."""

    async def day() -> None:
        async with yard(started=False) as it:
            claim, failures = it.store.claim, iter([StoreUnavailable("the disk is full")] * 3)

            async def flaky(*arguments: object, **named: object) -> object:
                for failure in failures:
                    raise failure
                return await claim(*arguments, **named)

            it.store.claim = flaky  # type: ignore[method-assign]
            await it.add("one")
            working = asyncio.create_task(it.poller.run())
            (order,) = await it.rest("one")
            it.poller.stop()
            await working

            assert order.state is State.DONE

    clock.run(day())


def test_a_store_that_failed_is_reopened_and_nobody_is_asked_twice() -> None:
    """Once the disk is well again everything goes on by itself; a step under way is not begun again."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["one"] = 30.0
            await it.add("one", "two")
            await it.until(lambda order: order.state is State.DONE, "two")
            it.store.problem = "the disk is full"
            await clock.passes(1.5)
            assert it.store.problem is None
            await it.add("three")
            (three,) = await it.rest("three")
            assert three.state is State.DONE
            (one,) = await it.rest("one")

            assert one.state is State.DONE
            assert it.fetcher.begun["one"] == 1

    clock.run(day())


def test_a_result_that_cannot_be_saved_is_tried_again() -> None:
    """The claim runs out, and the order is asked about again."""

    async def day() -> None:
        async with yard() as it:
            save, failures = it.store.save, iter([StoreUnavailable("the disk is full")])

            async def flaky(*arguments: object, **named: object) -> None:
                for failure in failures:
                    raise failure
                await save(*arguments, **named)

            it.store.save = flaky  # type: ignore[method-assign]
            await it.add("one")
            (order,) = await it.rest("one")

            assert order.state is State.DONE
            assert len(it.asker.asked) == 2

    clock.run(day())


@pytest.mark.parametrize("reached", [True, False])
def test_what_was_saved_though_the_disk_failed_is_told_once_that_is_known(reached) -> None:
    """An order that is done on the disk is never looked at again: whoever reads the store anew tells of it."""

    async def day() -> None:
        async with yard() as it:
            save, failures = it.store.save, iter([StoreUnavailable("the disk failed")])

            async def flaky(*arguments: object, **named: object) -> None:
                for failure in failures:
                    if reached:
                        await save(*arguments, **named)
                    it.store.problem = "the disk failed"
                    raise failure
                await save(*arguments, **named)

            it.store.save = flaky  # type: ignore[method-assign]
            await it.add("one")
            await it.rest("one")
            await clock.passes(60.0)

            assert it.words("one") == ["added", "done"]
            assert len(it.asker.asked) == (1 if reached else 2)

    clock.run(day())


@pytest.mark.parametrize("reached", [True, False])
def test_a_command_that_reached_the_disk_though_that_failed_is_told_as_well(reached) -> None:
    """The shop has no answer and asks again; whoever listens hears of the command that was done."""

    async def day() -> None:
        async with yard(started=False) as it:
            save = it.store.save

            async def failing(*arguments: object, **named: object) -> None:
                if reached:
                    await save(*arguments, **named)
                it.store.problem = "the disk failed"
                raise StoreUnavailable("the disk failed")

            await it.add("one", dry_run=True)
            it.store.save = failing  # type: ignore[method-assign]
            with pytest.raises(StoreUnavailable):
                await it.poller.apply(Key("fake", "one"), fate.cancel, "canceled")
            it.store.save = save  # type: ignore[method-assign]
            working = asyncio.create_task(it.poller.run())
            await clock.passes(60.0)
            it.poller.stop()
            await working

            assert it.words("one") == (["added", "canceled"] if reached else ["added"])

    clock.run(day())


def test_a_store_that_fails_again_leaves_every_doubt() -> None:
    """What is known is told once; what is not waits for the next time."""

    async def day() -> None:
        store, told = MemoryStore(), []
        doubts = Doubts(store=store, tell=lambda order, event: told.append(order.task_id))
        orders = [order("one"), order("two"), order("three")]
        await store.add(orders[:2])
        save, history = store.save, store.history
        for each in orders:
            event = Event(at=clock.now(), event="canceled")
            store.save = partial(_fails_late, save)  # type: ignore[method-assign]
            with pytest.raises(StoreUnavailable):
                await doubts.save(fate.cancel(each, clock.now()), event)
        store.history = partial(_fails_late, history, only="two")  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await doubts.settle()
        assert told == ["one"]
        store.history = history  # type: ignore[method-assign]
        await doubts.settle()
        await doubts.settle()
        assert told == ["one", "two"]  # and nothing is known of the third

    clock.run(day())


async def _fails_late(work: Any, *arguments: Any, only: str = "", **named: Any) -> Any:
    """Do what can be done, and say that it failed: always, or about one order *only*."""
    with suppress(NotFound):
        answer = await work(*arguments, **named)
    if not only or arguments[0].task_id == only:
        raise StoreUnavailable("the disk failed")
    return answer


@pytest.mark.unmeasured
def test_orders_long_at_rest_are_forgotten(calm: None) -> None:
    """Retention is kept without anybody asking."""

    async def day() -> None:
        async with yard() as it:
            await it.add("one")
            (order,) = await it.rest("one")
            await clock.passes(86400.0 + 2 * 3600.0)

            assert await it.store.get(order.key) is None

    clock.run(day())


def test_cancelling_a_step_at_any_await_leaves_the_order_pending_or_done() -> None:
    """Whenever a step is interrupted, the order is either finished or due again, and never lost."""

    async def day(after: float) -> Order:
        async with yard(started=False) as it:
            working = asyncio.create_task(it.poller.run())
            it.fetcher.takes["one"] = 1.0
            await it.add("one")
            await clock.passes(after)
            it.poller.stop()
            it.poller.abandon()
            await working
            assert it.lane.steps == []
            return await it.read("one")

    seen = Counter()
    for tenth in range(15):
        order = clock.run(day(tenth / 10 + 0.01))
        assert order.state is State.DONE or (order.attempts == 0 and (order.due_at or 0.0) <= clock.EPOCH + 3)
        seen[order.state] += 1
    assert set(seen) == {State.PENDING, State.DONE}


def test_a_step_that_never_had_a_turn_is_taken_off_the_books() -> None:
    """A command in the very moment of a claim costs no slot, and the order is due again at once."""

    async def day() -> None:
        async with yard(limits=Limits(checks=2)) as it:
            claim = it.store.claim

            async def interrupted(*arguments, **named):
                orders = await claim(*arguments, **named)
                for order in orders:
                    asyncio.get_running_loop().call_soon(_cancel, order.key)
                return orders

            def _cancel(key: Key) -> None:
                if cancels and key in it.lane._steps:
                    cancels.pop()
                    it.lane._steps[key].task.cancel()

            cancels = [None] * 10
            it.store.claim = interrupted  # type: ignore[method-assign]
            began = clock.now()
            await it.add("one", "two", "three")
            await it.rest("one", "two", "three")

            assert cancels == []
            assert (it.lane._asking, it.lane.steps) == (0, [])
            assert clock.now() - began < 5.0

    clock.run(day())


def test_a_refused_command_disturbs_no_download() -> None:
    """A retry of an order that is pending is a conflict, and its download goes on."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["one"] = 50.0
            await it.add("one")
            await it.until(lambda _: it.fetcher.now == 1, "one")
            for _ in range(3):
                with pytest.raises(Conflict):
                    await it.poller.apply(Key("fake", "one"), fate.retry, "retried")
            await it.rest("one")

            assert it.fetcher.begun == Counter(one=1)

    clock.run(day())


def test_a_claim_that_collides_with_a_command_is_given_back() -> None:
    """An order that was claimed while a command had it is asked about right after, not a lease later."""

    async def day() -> None:
        async with yard() as it:
            async with it.lane.withheld(Key("fake", "one")):
                await it.add("one")
                await clock.passes(0.5)
                assert it.asker.asked == []
            began = clock.now()
            await it.rest("one")

            assert clock.now() - began < 1.0

    clock.run(day())


def test_a_command_that_loses_a_race_tries_again() -> None:
    """A cancel is carried out though a claim came between reading and saving."""

    async def day() -> None:
        async with yard(started=False) as it:
            await it.add("one")
            save, losses = it.store.save, [None] * 2

            async def racing(order: Order, *arguments: object, **named: object) -> None:
                if losses:
                    losses.pop()
                    await it.store.claim("fake", limit=1, now=clock.now(), until=clock.now())
                await save(order, *arguments, **named)

            it.store.save = racing  # type: ignore[method-assign]
            canceled = await it.poller.apply(Key("fake", "one"), fate.cancel, "canceled")

            assert canceled.state is State.CANCELED
            assert await it.read("one") == canceled

    clock.run(day())


def test_a_pause_ends_while_a_download_runs() -> None:
    """A long download keeps nobody from finding out that the remote lets us in again."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.takes["large"] = 2000.0
            await it.add("large")
            await it.until(lambda _: it.fetcher.now == 1, "large")
            it.remote.scripts["one"] = [Locked(reason="401"), READY]
            it.remote.scripts["impatient"] = [NotReady()]
            await it.add("one")
            await it.add("impatient", patience=20.0)
            began = clock.now()
            await it.rest("one", "impatient")

            assert clock.now() - began < 40.0

    clock.run(day())


def test_one_order_that_is_always_locked_out_keeps_nobody_else_out() -> None:
    """The order that found the door locked goes to the back; another one tries next."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["a-poison"] = [Locked(reason="401")]
            await it.add("a-poison", *(f"good-{number}" for number in range(5)), patience=7200.0)
            orders = await it.rest(*(f"good-{number}" for number in range(5)))

            assert {order.state for order in orders} == {State.DONE}
            assert clock.now() - clock.EPOCH < 300.0

    clock.run(day())


def test_only_who_was_let_in_ends_a_pause() -> None:
    """Trouble on the way to the remote says nothing about its door."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts["one"] = [Locked(reason="401"), Trouble(reason="reset"), Unsafe(reason="no")]
            await it.add("one")
            await it.rest("one")

            assert it.poller.paused == {"fake": "401"}

    clock.run(day())


def test_a_disk_that_takes_nothing_pauses_downloads_and_spends_nothing() -> None:
    """One download at a time finds out whether there is room again, less and less often."""

    async def day() -> None:
        async with yard() as it:
            names = [f"task-{number}" for number in range(10)]
            for name in names:
                it.fetcher.outcomes[name] = Stuck(reason="our own disk: No space left on device")
            await it.add(*names, patience=86400.0)
            await clock.passes(3600.0)
            begun = sum(it.fetcher.begun.values())
            it.fetcher.outcomes.clear()
            orders = await it.rest(*names)

            assert begun < 60
            assert {(order.state, order.attempts) for order in orders} == {(State.DONE, 0)}

    clock.run(day())


def test_what_was_saved_is_told_though_the_step_was_cancelled_meanwhile() -> None:
    """An end that nobody hears of is a failed order that nobody looks for."""

    async def day() -> None:
        async with yard(started=False) as it:
            save = it.store.save

            async def slowly(*arguments: object, **named: object) -> None:
                await save(*arguments, **named)
                await clock.passes(5.0)

            it.store.save = slowly  # type: ignore[method-assign]
            it.remote.scripts["one"] = [Refused(reason="no")]
            working = asyncio.create_task(it.poller.run())
            await it.add("one")
            await it.until(lambda order: order.state is State.FAILED, "one")
            it.poller.stop()
            it.poller.abandon()
            await working

            assert it.words("one") == ["added", "failed"]

    clock.run(day())


@pytest.mark.unmeasured
def test_an_outage_fails_no_order(calm: None) -> None:
    """A remote that is down for a day is probed now and then; nobody spends an attempt; then all goes on at once."""

    async def day() -> None:
        async with yard(store=QuickStore()) as it:
            names = [f"task-{number:03}" for number in range(70)]
            down = Trouble(reason="cannot connect: Connection refused")
            it.remote.scripts = {name: [down] for name in names}
            await it.add(*names, patience=7 * 86400.0)
            await clock.passes(86400.0)
            asked = len(it.asker.asked)
            assert asked < 64 + 86400 / 60 + 20
            assert it.poller.paused == {"fake": down.reason}

            it.remote.scripts.clear()
            began = clock.now()
            orders = await it.rest(*names)
            assert {order.state for order in orders} == {State.DONE}
            assert clock.now() - began < 120.0

    clock.run(day())


def test_failing_tasks_with_good_neighbours_open_no_breaker() -> None:
    """What fails alone spends its own attempts."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=4)) as it:
            for number in range(4):
                it.remote.scripts[f"bad-{number}"] = [Trouble(reason="502", status=502)]
                it.remote.scripts[f"good-{number}"] = [NotReady()]
            await it.add(*it.remote.scripts)
            orders = await it.rest(*(f"bad-{number}" for number in range(4)))

            assert {(order.cause, order.attempts) for order in orders} == {(Cause.ATTEMPTS, 4)}

    clock.run(day())


@pytest.mark.parametrize("status", [403, 409, 404, 200])
def test_whatever_a_remote_says_about_an_order_ends_an_outage(status) -> None:
    """Nobody but three poisoned orders is left to ask about, and one of them is refused by the remote itself."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=4)) as it:
            down = Trouble(reason="502", status=502)
            it.remote.scripts = {name: [down] for name in ("one", "two", "three")}
            await it.add("one", "two", "three")
            await it.until(lambda _: bool(it.poller.paused), "one")
            it.remote.scripts = {name: [Trouble(reason="no", status=status)] for name in it.remote.scripts}
            orders = await it.rest("one", "two", "three")

            assert {(order.cause, order.attempts) for order in orders} == {(Cause.ATTEMPTS, 4)}
            assert it.poller.paused == {}

    clock.run(day())


@pytest.mark.parametrize("status", [408, 425, 429])
def test_what_may_be_said_in_front_of_a_remote_ends_no_outage(status) -> None:
    """A limiter answers well though nobody is behind it."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts = {name: [Trouble(reason="502", status=502)] for name in ("one", "two", "three")}
            await it.add("one", "two", "three")
            await it.until(lambda _: it.poller.paused == {"fake": "502"}, "one")
            it.remote.scripts = {name: [Trouble(reason="no", status=status)] for name in it.remote.scripts}
            await clock.passes(600.0)

            assert it.course.breaker.pause.on

    clock.run(day())


def test_a_door_that_is_found_locked_after_an_outage_is_left_alone_like_any_other() -> None:
    """Who says 401 is there: it is the door's pause that counts from then on, not that of an outage that is over."""

    async def day() -> None:
        async with yard() as it:
            it.remote.scripts = {name: [Trouble(reason="cannot connect")] for name in ("one", "two", "three")}
            await it.add("one", "two", "three")
            await it.until(lambda _: bool(it.poller.paused), "one")
            it.remote.scripts = {name: [Locked(reason="401")] for name in it.remote.scripts}
            await it.until(lambda _: it.poller.paused == {"fake": "401"}, "one")
            asked = len(it.asker.asked)
            await clock.passes(600.0)

            assert len(it.asker.asked) - asked < 6

    clock.run(day())


def test_a_link_that_finds_the_door_locked_is_not_tried_in_a_rush() -> None:
    """The check is answered and the file is not: once every half minute is often enough."""

    async def day() -> None:
        async with yard() as it:
            it.fetcher.outcomes["one"] = Locked(reason="the token endpoint answered 401")
            await it.add("one")
            await clock.passes(600.0)

            assert 10 < it.fetcher.begun["one"] < 30

    clock.run(day())


def test_an_order_that_alone_finds_the_door_locked_has_only_itself_to_blame() -> None:
    """Others are let in with the same token, so its refusals are trouble of its own, and it fails of them."""

    async def day() -> None:
        async with yard(pace=Pace(attempts=3)) as it:
            it.remote.scripts["poison"] = [Locked(reason="401", status=401)]
            for number in range(6):
                it.remote.scripts[f"good-{number}"] = [*[NotReady()] * 4, READY]
            await it.add("poison")
            await it.until(lambda order: order.reason is not None, "poison")
            await it.add(*(f"good-{number}" for number in range(6)))
            began = clock.now()
            orders = await it.rest(*(f"good-{number}" for number in range(6)))
            (poison,) = await it.rest("poison")

            assert {order.state for order in orders} == {State.DONE}
            assert clock.now() - began < 60.0
            assert (poison.cause, poison.attempts) == (Cause.ATTEMPTS, 3)

    clock.run(day())


def test_a_report_is_masked_before_it_is_cut() -> None:
    """A secret that lies across the cut is kept in no half."""

    async def day() -> None:
        async with yard() as it:
            report = "x" * (REPORT_CHARACTERS - 3) + "canary" + "x" * 100
            it.remote.scripts["one"] = [Refused(reason="no", report=report)]
            await it.add("one")
            (order,) = await it.rest("one")
            kept = (await it.store.history(order.key)).events[-1].report

            assert kept is not None
            assert len(kept) == REPORT_CHARACTERS
            assert "can" not in kept

    clock.run(day())


# --- Learning


class _Slow(list):
    """The script of a task that is ready some seconds from now."""

    def __init__(self, seconds: float) -> None:
        super().__init__([READY])
        self._ready_at = clock.now() + seconds

    def __getitem__(self, _: object) -> object:
        return READY if clock.now() >= self._ready_at else NotReady()


@pytest.mark.unmeasured
def test_what_orders_took_is_learned_and_kept() -> None:
    """After thirty orders the next ones take few questions, and the store knows why."""

    async def day() -> None:
        async with yard(pace=Pace.learning()) as it:
            for number in range(40):
                name = f"task {number}"
                it.remote.scripts[name] = _Slow(60.0 + number % 7)
                await it.add(name)
                await it.rest(name)
            checks = [(await it.read(f"task {number}")).checks for number in range(40)]
            assert min(checks[:16]) > 20
            assert max(checks[30:]) < 10
            memo = await it.store.recall("fake")
            assert Pace.learning(memo).first_check(await it.read("task 0")) > clock.EPOCH + 30

    clock.run(day())


def test_only_what_was_seen_is_learned() -> None:
    """Trouble says nothing of the task: its time is between the last "not yet" and the first "ready"."""

    async def day() -> None:
        pace = Pace.learning()
        seen = []
        pace.habits.ended = lambda order, now, *, ready: seen.append((order.task_id, order.unready_at, now, ready))
        async with yard(pace=pace) as it:
            trouble = Trouble(reason="reset", status=502)
            it.remote.scripts["one"] = [NotReady(), trouble, trouble, READY]
            it.remote.scripts["two"] = [NotReady(), Refused(reason="no")]
            it.remote.scripts["three"] = [READY]
            it.fetcher.outcomes["three"] = LinkExpired(reason="410", status=410)
            await it.add("one", "two", "three")
            await it.rest("one", "two", "three")
        first = {name: (last, now, ready) for name, last, now, ready in seen}
        assert len(seen) == 3
        assert first["one"][0] == pytest.approx(clock.EPOCH, abs=0.5)
        assert first["one"][1] > clock.EPOCH + 1.0
        assert [first[name][2] for name in ("one", "two", "three")] == [True, False, True]
        assert first["three"][0] is None

    clock.run(day())
