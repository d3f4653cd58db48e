"""One contract, and every store that keeps it."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from tinydb import TinyDB

from poller.errors import Conflict, NotFound, Stale, StoreDamaged, StoreUnavailable
from poller.event import Event
from poller.order import Key, Order, State
from poller.outcome import Cause
from poller.store import SORTS, Query, Store
from poller.stores.care.verify import verify
from poller.stores.files import Files
from poller.stores.journal import Reader
from poller.stores.memory import MemoryStore
from poller.stores.snapshot import Snapshot
from poller.stores.tinydb import TinyStore
from tests.stores import ScriptedFiles, a_file, an_order, die


async def open_memory(folder: Path) -> Store:
    """Make a store that forgets."""
    return MemoryStore()


async def open_tiny(folder: Path) -> Store:
    """Open the embedded store."""
    return await TinyStore.open(folder / "orders.json", now=lambda: 1000.0, report=pytest.fail)


OPENERS = {"memory": open_memory, "tiny": open_tiny}


@pytest.fixture(params=OPENERS)
async def store(request, tmp_path):
    """Give each store in turn."""
    opened = await OPENERS[request.param](tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def tiny(tmp_path):
    """Give the embedded store alone."""
    opened = await open_tiny(tmp_path)
    yield opened
    await opened.close()


def after(order: Order, **changed) -> Order:
    """Make an order's next version."""
    return replace(order, version=order.version + 1, **changed)


def done(order: Order, at: float = 20.0) -> Order:
    """Make the next version of an order that came to rest."""
    return after(order, state=State.DONE, due_at=None, updated_at=at, files=(a_file(),))


async def ids(store: Store, **query) -> list[str]:
    """List the task IDs of a page."""
    return [order.task_id for order in (await store.search(Query(**query))).orders]


# --- Adding -------------------------------------------------------------------------------------


async def test_an_order_is_read_back_as_it_was_added(store):
    """Every field survives, and an unknown key is none."""
    full = an_order(
        "ü/{}", context={"n": 10**20, "deep": {"list": [1.5, None, True]}}, batch="b", feed="f",
        filename="{task_id}", deadline_as_given="7d", reason="because", progress=0.25, checks=3, attempts=2,
        files=(a_file(),), cause=Cause.GONE,
    )  # fmt: skip
    assert await store.add([full]) == [(full, True)]
    assert await store.get(Key("grafx", "ü/{}")) == full
    assert await store.get(Key("saleor", "ü/{}")) is None
    assert await store.get(Key("grafx", "t2")) is None


async def test_the_same_again_is_left_alone(store):
    """Whoever asks twice for the same is told how it stands by now, and that it is not new."""
    first = an_order(context={"a": 1})
    await store.add([first])
    stands = done(first)
    await store.save(stands)
    assert await store.add([an_order(context={"a": 1}, created_at=9.0)]) == [(stands, False)]
    assert await store.get(first.key) == stands


async def test_a_list_may_name_an_order_twice(store):
    """The second of two that ask for the same is not new."""
    order = an_order()
    assert await store.add([order, order]) == [(order, True), (order, False)]
    assert (await store.counts())[State.PENDING] == 1


@pytest.mark.parametrize(
    "other",
    [
        {"batch": "b"},
        {"feed": "f"},
        {"filename": "f"},
        {"context": {"a": 2}},
        {"dry_run": True},
        {"deadline_as_given": "1d"},
    ],
)
async def test_another_wish_under_a_known_key_is_a_conflict(store, other):
    """Nothing of the list is kept, and the sentence names what differs."""
    await store.add([an_order()])
    with pytest.raises(Conflict, match=f"'t1' of grafx .*another {next(iter(other)).removesuffix('_as_given')}"):
        await store.add([an_order("t2"), an_order(**other)])
    assert await store.get(Key("grafx", "t2")) is None
    with pytest.raises(Conflict):
        await store.add([an_order("t3"), an_order("t3", **other)])
    assert await store.get(Key("grafx", "t3")) is None


async def test_adding_nothing_is_nothing(store):
    """An empty list is kept at once."""
    assert await store.add([]) == []


# --- Claiming ------------------------------------------------------------------------------------


async def test_the_longest_due_are_claimed_first(store):
    """As many as asked for, of this remote, that are due now; a claim makes the next version, due later."""
    await store.add(
        [an_order(f"t{n}", due_at=float(n)) for n in (5, 3, 4, 9)] + [an_order("x", remote="saleor", due_at=1.0)]
    )
    claimed = await store.claim("grafx", limit=2, now=6.0, until=66.0)
    assert [(order.task_id, order.due_at, order.version) for order in claimed] == [("t3", 66.0, 2), ("t4", 66.0, 2)]
    assert await store.get(claimed[0].key) == claimed[0]
    assert [order.task_id for order in await store.claim("grafx", limit=9, now=6.0, until=66.0)] == ["t5"]
    assert await store.claim("grafx", limit=9, now=6.0, until=66.0) == []
    assert await store.claim("medusa", limit=9, now=6.0, until=66.0) == []


async def test_an_order_at_rest_is_never_claimed(store):
    """Neither one that came to rest nor one that waits to be confirmed is ever due."""
    order = an_order()
    await store.add([order, an_order("held", state=State.HELD)])
    await store.save(done(order))
    assert await store.claim("grafx", limit=9, now=1e9, until=2e9) == []
    assert await store.next_due("grafx") is None


async def test_a_claim_lapses(store):
    """Whoever claimed and never came back loses it; the longest due first, lapsed or not."""
    await store.add([an_order("t1", due_at=1.0), an_order("t2", due_at=50.0)])
    [first] = await store.claim("grafx", limit=9, now=2.0, until=40.0)
    assert await store.next_due("grafx") == 40.0
    again = await store.claim("grafx", limit=1, now=60.0, until=99.0)
    assert [(order.task_id, order.version) for order in again] == [("t1", 3)]
    with pytest.raises(Stale):
        await store.save(done(first))
    assert [order.task_id for order in await store.claim("grafx", limit=9, now=60.0, until=99.0)] == ["t2"]


async def test_a_renewed_claim_lapses_later(store):
    """Only the version that was claimed can be renewed, and only while it is claimed."""
    waiting = an_order("t2", due_at=30.0)
    await store.add([an_order("t1", due_at=1.0), waiting])
    [claimed] = await store.claim("grafx", limit=1, now=2.0, until=40.0)
    await store.renew([claimed, waiting, an_order("nobody"), replace(claimed, version=7)], until=80.0)
    assert (await store.get(claimed.key)).due_at == 80.0
    assert await store.get(waiting.key) == waiting
    await store.renew([after(claimed)], until=90.0)
    assert await store.next_due("grafx") == 30.0
    [taken] = await store.claim("grafx", limit=9, now=79.0, until=99.0)
    assert taken.task_id == "t2"
    await store.save(after(claimed, due_at=85.0))
    await store.renew([claimed, after(claimed)], until=90.0)
    assert (await store.get(claimed.key)).due_at == 85.0


async def test_a_saved_claim_is_due_when_it_says(store):
    """After its step an order is due at its new time, whatever its lease was."""
    await store.add([an_order("t1", due_at=1.0)])
    [claimed] = await store.claim("grafx", limit=1, now=2.0, until=40.0)
    await store.save(after(claimed, due_at=15.0))
    assert await store.next_due("grafx") == 15.0
    assert await store.claim("grafx", limit=1, now=14.0, until=40.0) == []
    assert len(await store.claim("grafx", limit=1, now=15.0, until=40.0)) == 1


async def test_the_next_due_is_the_earliest(store):
    """Whatever becomes of orders, what is told is the earliest time of those that wait."""
    assert await store.next_due("grafx") is None
    orders = [an_order(f"t{n}", due_at=float(n)) for n in (8, 6, 7)]
    await store.add(orders)
    assert await store.next_due("grafx") == 6.0
    await store.save(after(orders[1], due_at=90.0))
    assert await store.next_due("grafx") == 7.0
    await store.save(done(orders[2]))
    assert await store.next_due("grafx") == 8.0
    await store.save(after(orders[0], due_at=2.0))
    assert await store.next_due("grafx") == 2.0
    assert await store.next_due("saleor") is None


async def test_an_order_whose_time_stays_is_claimed_once(store):
    """A save that leaves the due time alone does not make the order due twice."""
    await store.add([an_order(due_at=1.0)])
    stored = await store.get(Key("grafx", "t1"))
    await store.save(after(stored, reason="x"))
    assert len(await store.claim("grafx", limit=9, now=2.0, until=40.0)) == 1
    assert await store.claim("grafx", limit=9, now=2.0, until=40.0) == []


async def test_an_order_that_was_moved_there_and_back_is_claimed_once(store):
    """However often its time was changed, an order is due once."""
    order = an_order(due_at=1.0)
    await store.add([order])
    await store.save(after(order, due_at=5.0))
    await store.save(replace(order, version=3))
    assert len(await store.claim("grafx", limit=9, now=9.0, until=40.0)) == 1
    assert await store.next_due("grafx") == 40.0
    assert await store.claim("grafx", limit=9, now=9.0, until=40.0) == []


async def test_an_interrupted_order_is_due_when_it_was(store):
    """A step that gives an order back at its old time gives it back."""
    await store.add([an_order(due_at=1.0)])
    [claimed] = await store.claim("grafx", limit=1, now=2.0, until=40.0)
    await store.save(after(claimed, due_at=1.0))
    assert await store.next_due("grafx") == 1.0
    assert len(await store.claim("grafx", limit=9, now=2.0, until=40.0)) == 1


async def test_who_waits_is_due_later_after_a_shift(store):
    """Every time that was there before is moved, claims included, and none that comes after; versions stay."""
    orders = [an_order(f"t{n}", due_at=float(n)) for n in (1, 20, 30)]
    await store.add([*orders, an_order("other", remote="saleor", due_at=7.0)])
    [claimed] = await store.claim("grafx", limit=1, now=2.0, until=10.0)
    await store.shift("grafx", seconds=100.0)
    assert await store.next_due("grafx") == 110.0
    assert await store.next_due("saleor") == 7.0
    await store.add([an_order("new", due_at=115.0)])
    await store.save(after(orders[1], due_at=125.0))
    await store.shift("grafx", seconds=-10.0)
    due = []
    while (moment := await store.next_due("grafx")) < 900.0:
        [order] = await store.claim("grafx", limit=1, now=moment, until=900.0)
        due.append((order.task_id, moment))
    assert due == [("t1", 100.0), ("new", 105.0), ("t20", 115.0), ("t30", 120.0)]
    assert await store.next_due("saleor") == 7.0
    await store.save(after(replace(claimed, version=3), due_at=950.0))
    assert (await store.get(claimed.key)).due_at == 950.0


async def test_who_is_saved_after_a_shift_is_due_when_he_says(store):
    """Though it is what he said before: then it stood for another moment."""
    await store.add([an_order(due_at=50.0)])
    await store.shift("grafx", seconds=100.0)
    await store.save(after(an_order(due_at=50.0)))
    assert await store.next_due("grafx") == 50.0
    assert len(await store.claim("grafx", limit=9, now=60.0, until=400.0)) == 1
    assert await store.next_due("grafx") == 400.0
    assert await store.claim("grafx", limit=9, now=399.0, until=500.0) == []


async def test_a_claim_that_was_shifted_is_renewed_and_saved_as_ever(store):
    """A step that is under way when the clock is set notices nothing of it."""
    await store.add([an_order("t1", due_at=1.0), an_order("t2", due_at=2.0)])
    one, two = await store.claim("grafx", limit=2, now=2.0, until=60.0)
    await store.shift("grafx", seconds=-30.0)
    await store.renew([one], until=75.0)
    await store.save(after(two, due_at=40.0))
    assert await store.next_due("grafx") == 40.0
    assert (await store.get(one.key)).due_at == 75.0
    assert (await store.get(one.key)).version == 2


async def test_a_clock_that_was_set_back_meanwhile_makes_nobody_wait_longer(tmp_path):
    """An order that was saved in what is now the future is due no later than its own wait."""
    told = []
    path = tmp_path / "orders.json"
    store = await TinyStore.open(path, now=lambda: 5000.0)
    orders = [an_order(f"t{n}", updated_at=4990.0 + n, due_at=5050.0 + n) for n in (1, 2)]
    await store.add([*orders, an_order("rest", state=State.DONE, updated_at=6000.0)])
    await store.add([an_order("other", remote="saleor", due_at=70.0)])
    await store.close()
    store = await TinyStore.open(path, now=lambda: 2000.0, report=told.append)
    assert await store.next_due("grafx") == 2059.0
    assert await store.next_due("saleor") == 70.0
    assert len(told) == 1
    assert "set back by 2992 s" in told[0]
    assert len(await store.claim("grafx", limit=9, now=2060.0, until=2100.0)) == 2
    await store.close()


async def test_a_retried_order_is_due(store):
    """Whatever time was written beside an order at rest, it counts once the order waits again."""
    order = an_order(due_at=5.0)
    await store.add([order])
    await store.claim("grafx", limit=1, now=6.0, until=40.0)
    failed = after(await store.get(order.key), state=State.FAILED, due_at=5.0)
    await store.save(failed)
    assert await store.claim("grafx", limit=1, now=99.0, until=100.0) == []
    await store.save(after(failed, state=State.PENDING, due_at=5.0))
    assert await store.next_due("grafx") == 5.0


# --- Saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
async def test_a_saved_order_is_there_at_once(store, durable):
    """Whoever reads after a save reads what was saved, durable or not."""
    order = an_order()
    await store.add([order])
    await store.save(done(order), durable=durable)
    assert await store.get(order.key) == done(order)


@pytest.mark.parametrize("version", [1, 3, 0])
async def test_only_the_next_version_is_saved(store, version):
    """A save that does not follow what is stored is stale and changes nothing, its event included."""
    order = an_order()
    await store.add([order])
    with pytest.raises(Stale, match="'t1' of grafx is at version 1; version"):
        await store.save(replace(order, version=version, state=State.DONE), Event(at=1.0, event="done"))
    assert await store.get(order.key) == order
    assert len((await store.history(order.key)).events) == 1


async def test_the_worker_that_lost_its_order_is_stale(store):
    """An order canceled during a step stays canceled."""
    await store.add([an_order(due_at=1.0)])
    [claimed] = await store.claim("grafx", limit=1, now=2.0, until=40.0)
    await store.save(after(await store.get(claimed.key), state=State.CANCELED, due_at=None))
    with pytest.raises(Stale):
        await store.save(done(claimed))
    assert (await store.get(claimed.key)).state is State.CANCELED


async def test_what_nobody_added_cannot_be_saved(store):
    """There is no order, and no history of one."""
    with pytest.raises(NotFound, match="'t1' of grafx"):
        await store.save(after(an_order()))
    with pytest.raises(NotFound, match="'t1' of grafx"):
        await store.history(Key("grafx", "t1"))


# --- Histories -------------------------------------------------------------------------------------


async def test_a_history_begins_with_the_adding(store):
    """What happened is told from the first, with all that was told of it."""
    order = an_order(created_at=3.0)
    await store.add([order])
    told = Event(
        at=9.0, event="trouble", reason="r", status=503, address="https://a/b", attempt=2, next_at=8.0, files=("a", "b")
    )
    await store.save(after(order), told)
    history = await store.history(order.key)
    assert list(history.events) == [Event(at=3.0, event="added"), told]
    assert history.dropped == 0


async def test_a_history_is_kept_short(store):
    """At most a hundred events are kept, the newest and the first, and the others are counted."""
    order = an_order()
    await store.add([order, an_order("t2")])
    for n in range(130):
        order = after(order)
        await store.save(order, Event(at=float(n), event="trouble"), durable=False)
    history = await store.history(order.key)
    assert len(history.events) == 100
    assert history.dropped == 31
    assert [event.at for event in history.events] == [1.0, *map(float, range(31, 130))]
    assert len((await store.history(Key("grafx", "t2"))).events) == 1


# --- Listing ----------------------------------------------------------------------------------------


async def test_a_listing_takes_what_matches(store):
    """State, remote, batch and text must all match; the count is of all that do."""
    await store.add([
        an_order("a1", batch="b1", context={"order": "Shop-17", "deep": [{"x": 12345}]}),
        an_order("a2", batch="b1"),
        an_order("A3", remote="saleor", batch="b2"),
        an_order("held", state=State.HELD),
    ])  # fmt: skip
    await store.save(after(an_order("a2", batch="b1"), state=State.FAILED, due_at=None, reason="Nobody ÄNSWERED"))
    by_id = {"sort": "task_id", "descending": False}
    assert await ids(store, **by_id) == ["A3", "a1", "a2", "held"]
    assert await ids(store, states=frozenset({State.PENDING, State.HELD}), **by_id) == ["A3", "a1", "held"]
    assert await ids(store, states=frozenset({State.FAILED, State.HELD}), **by_id) == ["a2", "held"]
    assert await ids(store, states=frozenset(), **by_id) == []
    assert await ids(store, remote="saleor", **by_id) == ["A3"]
    assert await ids(store, remote="nobody", **by_id) == []
    assert await ids(store, batch="b1", **by_id) == ["a1", "a2"]
    assert await ids(store, batch="b1", states=frozenset({State.PENDING}), **by_id) == ["a1"]
    assert await ids(store, text="sHOP-1", **by_id) == ["a1"]
    assert await ids(store, text="234", **by_id) == ["a1"]
    assert await ids(store, text="änswered", **by_id) == ["a2"]
    assert await ids(store, text="a3", **by_id) == ["A3"]
    assert await ids(store, text="order", **by_id) == []
    assert (await store.search(Query(remote="grafx", limit=1))).count == 3


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", SORTS)
async def test_a_listing_is_sorted_and_paged(store, sort, descending):
    """Any field sorts, no value first, ties settled by the key; the pages together are the whole."""
    values = [
        {"due_at": 5.0, "checks": 2, "deadline": 50.0, "updated_at": 2.0},
        {"due_at": 4.0, "created_at": 3.0, "attempts": 7},
        {"due_at": 5.0, "remote": "a"},
        {"state": State.HELD, "deadline": 60.0},
        {"state": State.HELD, "checks": 1},
        {"due_at": 3.0, "checks": 2, "created_at": 9.0},
        {"state": State.DONE, "attempts": 1},
    ]
    orders = [an_order(f"t{n}", **given) for n, given in enumerate(values)]
    await store.add(orders)
    claimed = await store.claim("grafx", limit=1, now=3.0, until=4.5)
    orders[5] = claimed[0]

    def rank(order):
        value = getattr(order, sort)
        return (value is not None, value, order.remote, order.task_id)

    expected = sorted(orders, key=rank, reverse=descending)
    assert list((await store.search(Query(sort=sort, descending=descending))).orders) == expected
    paged, cursor = [], None
    for size in (2, 3, 2):
        page = await store.search(Query(sort=sort, descending=descending, after=cursor, limit=size))
        assert page.count == 7
        paged += page.orders
        cursor = page.next
    assert paged == expected
    assert cursor is None


async def test_many_orders_are_listed_whole(store):
    """More than are looked at in one go are all looked at, and the page is the right one."""
    await store.add([an_order(f"t{n:05}", created_at=float(n % 997)) for n in range(2500)])
    page = await store.search(Query(sort="created_at", limit=3))
    assert page.count == 2500
    assert [order.task_id for order in page.orders] == ["t01993", "t00996", "t01992"]


async def test_orders_are_counted_by_state(store):
    """Every state is there, with how many are in it."""
    assert await store.counts() == dict.fromkeys(State, 0)
    orders = [an_order(f"t{n}") for n in range(4)]
    await store.add([*orders, an_order("held", state=State.HELD)])
    await store.save(done(orders[0]))
    await store.save(after(orders[1], state=State.FAILED, due_at=None))
    await store.save(after(done(orders[0]), state=State.PENDING, due_at=1.0))
    counts = await store.counts()
    assert counts == {State.HELD: 1, State.PENDING: 3, State.DONE: 0, State.FAILED: 1, State.CANCELED: 0}


# --- Forgetting, refusing, closing -------------------------------------------------------------------


async def test_old_orders_at_rest_are_forgotten(store):
    """Those that came to rest before a time go, with their histories; all others stay."""
    orders = [an_order(f"t{n}") for n in range(4)]
    held = an_order("held", state=State.HELD)
    await store.add([*orders, held])
    await store.save(done(orders[0], at=20.0), Event(at=20.0, event="done"))
    await store.save(after(orders[1], state=State.FAILED, due_at=None, updated_at=19.0), Event(at=19.0, event="failed"))
    await store.save(after(orders[2], state=State.CANCELED, due_at=None, updated_at=10.0))
    assert await store.forget(before=20.0) == 2
    assert await ids(store, sort="task_id", descending=False) == ["held", "t0", "t3"]
    assert await store.get(orders[1].key) is None
    with pytest.raises(NotFound):
        await store.history(orders[1].key)
    assert await store.forget(before=20.0) == 0
    await store.add([orders[1]])
    assert len((await store.history(orders[1].key)).events) == 1


async def test_a_closed_store_takes_nothing(store):
    """Whatever changes an order is refused; closing twice is closing once."""
    await store.add([an_order()])
    await store.close()
    await store.close()
    assert store.problem
    for work in (
        store.add([an_order("t2")]),
        store.save(after(an_order())),
        store.claim("grafx", limit=1, now=99.0, until=100.0),
        store.renew([an_order()], until=1.0),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await work


async def test_a_reopened_store_has_all_that_was_acknowledged_and_no_claims(store):
    """What was kept is there as it was, claims are forgotten, and it goes on."""
    assert store.problem is None
    await store.add([an_order("t1", due_at=3.0), an_order("t2")])
    await store.save(done(an_order("t2")), Event(at=20.0, event="done"))
    await store.claim("grafx", limit=1, now=4.0, until=40.0)
    await store.claim("grafx", limit=1, now=50.0, until=90.0)
    await store.reopen()
    assert await store.get(Key("grafx", "t1")) == an_order("t1", due_at=3.0)
    assert await store.get(Key("grafx", "t2")) == done(an_order("t2"))
    assert [event.event for event in (await store.history(Key("grafx", "t2"))).events] == ["added", "done"]
    assert await store.next_due("grafx") == 3.0
    assert store.problem is None
    await store.add([an_order("t3")])


async def test_callers_at_once_do_not_disturb_each_other(store):
    """Of many who add or save the same, each is told the truth."""
    lists = [[an_order("same"), an_order(f"t{n}")] for n in range(20)]
    answers = await asyncio.gather(*(store.add(orders) for orders in lists))
    assert sum(new for answer in answers for order, new in answer if order.task_id == "same") == 1
    assert all(new for answer in answers for order, new in answer if order.task_id != "same")
    saves = [store.save(done(an_order("same")), Event(at=20.0, event="done")) for _ in range(20)]
    said = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(each) for each in said if each is not None] == [Stale] * 19
    assert len((await store.history(Key("grafx", "same"))).events) == 2
    assert (await store.search(Query(limit=1))).count == 21


async def test_a_caller_that_is_cancelled_leaves_all_or_nothing(store):
    """Whether it came too late or not, an order is there whole, and the store goes on."""
    task = asyncio.create_task(store.add([an_order("t1"), an_order("t2")]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await store.search(Query())).count in {0, 2}
    await store.add([an_order("t3")])
    assert await store.get(Key("grafx", "t3")) is not None


# --- The contract as a model --------------------------------------------------------------------------

KEYS = st.builds(Key, st.sampled_from(["grafx", "saleor"]), st.sampled_from([f"t{n}" for n in range(5)]))
TIMES = st.floats(0, 100).map(lambda t: round(t, 1))
STATES = st.sampled_from(State)


class StoreMachine(RuleBasedStateMachine):
    """Drives a store and a dictionary side by side."""

    opener = staticmethod(open_memory)
    reopens = False

    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.store = self.runner.run(self.opener(self.folder))
        self.orders: dict[Key, Order] = {}
        self.stored: dict[Key, Order] = {}
        self.events: dict[Key, list[Event]] = {}

    def teardown(self):
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def do(self, work):
        return self.runner.run(work)

    def keep(self, order):
        self.orders[order.key] = self.stored[order.key] = order

    @rule(keys=st.lists(KEYS, max_size=3), due=TIMES, batch=st.sampled_from([None, "b"]), state=STATES)
    def add(self, keys, due, batch, state):
        orders = [an_order(k.task_id, remote=k.remote, state=state, batch=batch) for k in keys]
        orders = [replace(order, due_at=due) if state is State.PENDING else order for order in orders]
        if any(self.orders.get(order.key, order).batch != batch for order in orders):
            with pytest.raises(Conflict):
                self.do(self.store.add(orders))
            return
        seen, expected = set(self.orders), []
        for order in orders:
            expected.append((self.orders.get(order.key, order), order.key not in seen))
            seen.add(order.key)
        assert self.do(self.store.add(orders)) == expected
        for order, new in expected:
            if new:
                self.keep(order)

    @rule(remote=st.sampled_from(["grafx", "saleor"]), limit=st.integers(0, 3), now=TIMES, lease=TIMES)
    def claim(self, remote, limit, now, lease):
        waiting = [o for o in self.orders.values() if o.remote == remote and o.state is State.PENDING]
        due = sorted(o.due_at for o in waiting if o.due_at <= now)[:limit]
        before = dict(self.orders)
        claimed = self.do(self.store.claim(remote, limit=limit, now=now, until=now + lease))
        assert [before[order.key].due_at for order in claimed] == due
        for order in claimed:
            assert order == replace(before[order.key], due_at=now + lease, version=before[order.key].version + 1)
            self.orders[order.key] = order

    @rule(
        key=KEYS,
        state=STATES,
        due=TIMES,
        durable=st.booleans(),
        event=st.none() | st.builds(Event, at=TIMES, event=st.just("x")),
    )
    def save(self, key, state, due, durable, event):
        if key not in self.orders:
            with pytest.raises(NotFound):
                self.do(self.store.save(an_order(key.task_id, remote=key.remote), event))
            return
        order = after(self.orders[key], state=state, due_at=due if state is State.PENDING else None, updated_at=due)
        self.do(self.store.save(order, event, durable=durable))
        self.keep(order)
        if event is not None:
            self.events.setdefault(key, []).append(event)

    @rule(key=KEYS, ahead=st.sampled_from([0, 2, 5]))
    def save_stale(self, key, ahead):
        if key in self.orders:
            with pytest.raises(Stale):
                self.do(self.store.save(replace(self.orders[key], version=self.orders[key].version + ahead)))

    @rule(before=TIMES)
    def forget(self, before):
        rest = {State.DONE, State.FAILED, State.CANCELED}
        old = [key for key, order in self.orders.items() if order.state in rest and order.updated_at < before]
        assert self.do(self.store.forget(before=before)) == len(old)
        for key in old:
            del self.orders[key], self.stored[key]
            self.events.pop(key, None)

    @rule()
    def reopen(self):
        if self.reopens:
            self.do(self.store.close())
            self.closed()
            self.store = self.runner.run(self.opener(self.folder))

    def closed(self):
        """Look at what a store leaves that was closed; nothing is asked of one in general."""

    @invariant()
    def agrees(self):
        if not hasattr(self, "store"):
            return
        page = self.do(self.store.search(Query(limit=500, sort="task_id", descending=False)))
        assert {order.key: order for order in page.orders} == self.orders
        counts = self.do(self.store.counts())
        assert counts == {state: sum(o.state is state for o in self.orders.values()) for state in State}
        for remote in ("grafx", "saleor"):
            waiting = [o.due_at for o in self.orders.values() if o.remote == remote and o.state is State.PENDING]
            assert self.do(self.store.next_due(remote)) == min(waiting, default=None)
        for key in self.orders:
            assert list(self.do(self.store.history(key)).events)[1:] == self.events.get(key, [])


class TinyMachine(StoreMachine):
    """The same, on disk, and opened anew in between."""

    opener = staticmethod(open_tiny)
    reopens = True

    def closed(self):
        """It is a TinyDB file, and claims were facts of that process."""
        with TinyDB(self.folder / "orders.json") as theirs:
            assert len(theirs.table("orders")) == len(self.stored)
        self.orders = dict(self.stored)


TestMemoryModel = StoreMachine.TestCase
TestMemoryModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestTinyModel = TinyMachine.TestCase
TestTinyModel.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


# --- What only the embedded store promises -------------------------------------------------------------


async def test_a_clean_close_leaves_one_tinydb_file(tiny, tmp_path):
    """Any TinyDB opens what is left, and finds the orders and their events."""
    await tiny.add([an_order("t1"), an_order("t2", state=State.HELD)])
    await tiny.save(done(an_order("t1")), Event(at=20.0, event="done"))
    await tiny.close()
    assert {path.name for path in tmp_path.iterdir()} == {"orders.json", "orders.json.previous", "orders.json.lock"}
    with TinyDB(tmp_path / "orders.json") as theirs:
        assert [order["state"] for order in theirs.table("orders")] == ["done", "held"]
        assert [event["task_id"] for event in theirs.table("events")] == ["t1"]


async def test_the_snapshot_before_is_kept(tiny, tmp_path):
    """One step back is always there."""
    before = (tmp_path / "orders.json").read_bytes()
    await tiny.add([an_order()])
    await tiny.close()
    assert (tmp_path / "orders.json.previous").read_bytes() == before


async def test_a_store_that_nothing_happened_to_stays_as_it_is(tmp_path):
    """Opening and closing writes no new snapshot, and takes nothing from the one before."""
    await (await open_tiny(tmp_path)).close()
    status = (tmp_path / "orders.json").stat()
    await (await open_tiny(tmp_path)).close()
    assert (tmp_path / "orders.json").stat().st_ino == status.st_ino
    assert not (tmp_path / "orders.json.previous").exists()


async def test_a_tinydb_file_of_orders_is_taken_over(tmp_path):
    """What somebody wrote with TinyDB is a store, ids and all, and is ours after the first change."""
    with TinyDB(tmp_path / "orders.json") as theirs:
        theirs.table("orders").insert({
            "remote": "grafx", "task_id": "t1", "state": "pending", "due_at": 4,
            "created_at": 1, "updated_at": 1, "opened_at": 1, "deadline": 99,
        })  # fmt: skip
        theirs.table("notes").insert({"text": "keep me"})
    store = await open_tiny(tmp_path)
    [order] = await store.claim("grafx", limit=1, now=5.0, until=50.0)
    await store.save(done(order))
    await store.close()
    with TinyDB(tmp_path / "orders.json") as theirs:
        assert theirs.table("orders").get(doc_id=1)["state"] == "done"
        assert theirs.table("notes").all() == [{"text": "keep me"}]


GOOD = {
    "remote": "grafx",
    "task_id": "t1",
    "state": "held",
    "created_at": 1,
    "updated_at": 1,
    "opened_at": 1,
    "deadline": 9,
}


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({}, "no table 'orders'"),
        ({"_default": [GOOD]}, "no table 'orders'"),
        ({"orders": [GOOD, {"task_id": "t2"}]}, "document 2 of table 'orders' .*`remote`"),
        ({"orders": [GOOD | {"state": "lost"}]}, "document 1 of table 'orders' .*'lost'"),
        ({"orders": [GOOD | {"deadline": "soon"}]}, r"document 1 of table 'orders' .*\$.deadline"),
        ({"orders": [GOOD | {"state": "pending"}]}, "document 1 of table 'orders' .*due at no time"),
        ({"orders": [GOOD, GOOD]}, "document 2 of table 'orders' .*already"),
        ({"orders": [GOOD], "events": [{"at": 1}]}, "document 1 of table 'events' .*`remote`"),
        (
            {"orders": [GOOD], "events": [{"remote": "grafx", "task_id": "x", "number": 1, "at": 1, "event": "e"}]},
            "document 1 of table 'events' .*order is not there",
        ),
    ],
)
async def test_a_tinydb_file_of_something_else_is_refused(tmp_path, tables, sentence):
    """The document is named, and nothing is left beside the file."""
    path = tmp_path / "orders.json"
    with TinyDB(path) as theirs:
        for name, documents in tables.items():
            theirs.table(name).insert_multiple(documents)
        theirs.table("empty").truncate()
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match=sentence):
        await open_tiny(tmp_path)
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"orders.json", "orders.json.lock"}
    assert sentence.split(" ")[0] in verify(path).damage


async def test_ids_of_orders_are_numbers(tmp_path):
    """A table of orders under words is not one of ours."""
    path = tmp_path / "orders.json"
    path.write_text(json.dumps({"orders": {"seven": GOOD}}))
    with pytest.raises(StoreDamaged, match=r"document seven of table 'orders' .*its id is no number"):
        await open_tiny(tmp_path)


async def test_a_file_of_others_becomes_ours_when_it_was_found_good(tmp_path):
    """Theirs stays as the previous snapshot; a file that is refused stays as it was, and alone."""
    path = tmp_path / "orders.json"
    bad = json.dumps({"orders": {"1": GOOD | {"deadline": "soon"}}})
    path.write_text(bad)
    with pytest.raises(StoreDamaged, match="document 1 of table 'orders'"):
        await open_tiny(tmp_path)
    assert path.read_text() == bad
    assert {each.name for each in tmp_path.iterdir()} == {"orders.json", "orders.json.lock"}
    theirs = json.dumps({"orders": {"1": GOOD}})
    path.write_text(theirs)
    store = await open_tiny(tmp_path)
    assert (tmp_path / "orders.json.previous").read_text() == theirs
    assert not Snapshot(path, files=Files()).foreign
    await store.close()


async def test_a_journal_beside_a_file_of_others_is_refused(tmp_path):
    """Whose snapshot was replaced by somebody else's file is told so."""
    path = tmp_path / "orders.json"
    store = await open_tiny(tmp_path)
    await store.add([an_order("t2")])
    store._ledger.abandon()
    path.write_text(json.dumps({"orders": {"1": GOOD}}))
    with pytest.raises(StoreDamaged, match="a TinyDB file that no journal of poller continues"):
        await open_tiny(tmp_path)


async def test_a_snapshot_that_was_in_use_is_refused_without_its_journal(tmp_path):
    """A copy of it alone, or a journal that was removed, is not all that was kept."""
    path = tmp_path / "orders.json"
    store = await open_tiny(tmp_path)
    await store.add([an_order("t2")])
    copied = path.read_bytes()
    store._ledger.abandon()
    journal = (tmp_path / "orders.json.journal").read_bytes()
    (tmp_path / "orders.json.journal").unlink()
    with pytest.raises(StoreDamaged, match=r"was in use.*the journal that continues it is missing"):
        await open_tiny(tmp_path)
    (tmp_path / "orders.json.journal").write_bytes(journal)
    store = await open_tiny(tmp_path)
    assert len((await store.search(Query())).orders) == 1
    await store.close()
    path.write_bytes(copied)
    with pytest.raises(StoreDamaged, match="was in use"):
        await open_tiny(tmp_path)


async def test_a_commit_is_not_acknowledged_once_the_lock_is_gone(tmp_path):
    """Whoever removes the lock file lets others in; so nothing counts as kept until the lock is ours again."""
    store = await open_tiny(tmp_path)
    await store.add([an_order("t1")])
    (tmp_path / "orders.json.lock").unlink()
    with pytest.raises(StoreUnavailable, match=r"orders\.json\.lock was removed or replaced"):
        await store.add([an_order("t2")])
    await store.reopen()
    assert await store.get(Key("grafx", "t1")) is not None
    await store.add([an_order("t3")])
    await store.close()


async def test_claims_do_not_outlive_their_process(tmp_path):
    """After a start everything that was interrupted is due as it was before, in its old version."""
    store = await open_tiny(tmp_path)
    await store.add([an_order(due_at=3.0)])
    await store.claim("grafx", limit=1, now=4.0, until=400.0)
    await store.close()
    store = await open_tiny(tmp_path)
    assert await store.next_due("grafx") == 3.0
    assert (await store.get(Key("grafx", "t1"))).version == 1
    await store.close()


async def test_a_claim_writes_nothing(tmp_path):
    """To take orders costs no line in the journal."""
    store = await open_tiny(tmp_path)
    await store.add([an_order(due_at=3.0)])
    size = (tmp_path / "orders.json.journal").stat().st_size
    claimed = await store.claim("grafx", limit=1, now=4.0, until=400.0)
    await store.renew(claimed, until=500.0)
    await store.close()
    assert (tmp_path / "orders.json").stat().st_size < size + 400
    assert verify(tmp_path / "orders.json").generation == 1


async def test_what_arrives_during_a_sync_shares_the_next(tmp_path):
    """A hundred callers at once cost two commits, not a hundred."""
    files = ScriptedFiles()
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, files=files, linger=1000.0)
    before = files.calls.count("sync")
    async with asyncio.timeout(10):
        await asyncio.gather(*(store.add([an_order(f"t{n}")]) for n in range(100)))
    assert files.calls.count("sync") - before == 2
    await store.close()


async def test_a_soft_save_is_written_by_itself(tmp_path):
    """What nobody waits for is on disk soon, though nothing else happens."""
    synced = asyncio.Event()
    loop = asyncio.get_running_loop()
    files = ScriptedFiles()
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, files=files, linger=0.001)
    await store.add([an_order()])
    files.plan = lambda number, name: loop.call_soon_threadsafe(synced.set) if name == "sync" else None
    await store.save(after(an_order(), checks=77), durable=False)
    await asyncio.wait_for(synced.wait(), 10)
    assert b'"checks":77' in (tmp_path / "orders.json.journal").read_bytes()
    await store.close()


async def test_many_soft_saves_do_not_linger(tmp_path):
    """Those that would make a long line are written at once, in several."""
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, linger=1000.0)
    await store.add([an_order(f"t{n}") for n in range(2500)])
    for n in range(2500):
        await store.save(after(an_order(f"t{n}"), checks=1), durable=False)
        if n % 100 == 0:
            await asyncio.sleep(0)
    while len(list(Reader(tmp_path / "orders.json.journal", files=Files()))) < 2:
        await asyncio.sleep(0)
    await store.close()
    assert verify(tmp_path / "orders.json").orders[State.PENDING] == 2500


async def test_a_soft_save_goes_with_the_next_commit(tmp_path):
    """A durable change takes along what was saved before it, in the same line."""
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, linger=1000.0)
    await store.add([an_order()])
    await store.save(after(an_order(), checks=77), durable=False)
    assert b'"checks":77' not in (tmp_path / "orders.json.journal").read_bytes()
    await store.add([an_order("t2")])
    assert b'"checks":77' in (tmp_path / "orders.json.journal").read_bytes().splitlines()[-2]
    await store.close()


async def test_what_was_saved_softly_survives_a_clean_close(tmp_path):
    """Closing waits for everything."""
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, linger=1000.0)
    await store.add([an_order()])
    await store.save(after(an_order(), checks=77), durable=False)
    await store.close()
    store = await open_tiny(tmp_path)
    assert (await store.get(Key("grafx", "t1"))).checks == 77
    await store.close()


async def test_a_known_order_is_acknowledged_only_when_it_is_durable(tmp_path):
    """Whoever sends again what another is just adding waits for the same sync."""
    gate, arrived = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    files = ScriptedFiles()
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, files=files)

    def plan(number, name):
        if name == "sync":
            loop.call_soon_threadsafe(arrived.set)
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

    files.plan = plan
    first = asyncio.ensure_future(store.add([an_order()]))
    await arrived.wait()
    second = asyncio.ensure_future(store.add([an_order()]))
    await asyncio.wait([first, second], timeout=0)
    assert not first.done()
    assert not second.done()
    gate.set()
    assert [(await first)[0][1], (await second)[0][1]] == [True, False]
    await store.close()


async def test_a_cancelled_caller_waits_for_what_it_began(tmp_path):
    """Cancelled or not, an add has happened, durably, by the time its caller goes on."""
    gate, arrived = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    files = ScriptedFiles()
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, files=files)

    def plan(number, name):
        if name == "sync":
            loop.call_soon_threadsafe(arrived.set)
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

    files.plan = plan
    adding = asyncio.ensure_future(store.add([an_order()]))
    await arrived.wait()
    adding.cancel()
    await asyncio.wait([adding], timeout=0)
    assert not adding.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert b'"t1"' in (tmp_path / "orders.json.journal").read_bytes()
    assert await store.get(Key("grafx", "t1")) is not None
    await store.close()


# --- Habits -----------------------------------------------------------------------------------------


async def test_what_was_learned_is_kept_by_remote(store):
    """The last memo of a remote is read back, and nothing else; orders are what they were."""
    await store.add([an_order()])
    assert await store.recall("grafx") is None
    await store.remember("grafx", {"kinds": {"": {"weights": {"3": 1.5}}}})
    await store.remember("saleor", {"kinds": {}})
    await store.remember("grafx", {"kinds": {"ü": 1}})
    assert await store.recall("grafx") == {"kinds": {"ü": 1}}
    assert await store.recall("saleor") == {"kinds": {}}
    assert await store.recall("medusa") is None
    assert await ids(store) == ["t1"]
    assert (await store.counts())[State.PENDING] == 1


async def test_a_store_that_is_unavailable_remembers_nothing(store):
    """It says so, as for any other change."""
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.remember("grafx", {})


async def test_what_was_learned_survives_a_restart(tmp_path):
    """A memo is in the snapshot after a clean stop, where stock TinyDB reads it, and the checks are content with it."""
    store = await open_tiny(tmp_path)
    await store.add([an_order()])
    await store.remember("grafx", {"kinds": {"": 1}})
    await store.remember("grafx", {"kinds": {"": 2}})
    await store.close()
    with TinyDB(tmp_path / "orders.json") as stock:
        assert [dict(memo) for memo in stock.table("habits").all()] == [
            {"remote": "grafx", "habits": {"kinds": {"": 2}}}
        ]
    report = verify(tmp_path / "orders.json")
    assert (report.damage, report.orders[State.PENDING]) == (None, 1)
    again = await open_tiny(tmp_path)
    assert await again.recall("grafx") == {"kinds": {"": 2}}
    await again.reopen()
    assert await again.recall("grafx") == {"kinds": {"": 2}}
    await again.close()


async def test_a_memo_costs_no_sync_and_rides_with_what_is_saved_next(tmp_path):
    """Nobody waits for it; once anything else is durable, so is the memo."""
    files = ScriptedFiles()
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, files=files, linger=1000.0)
    await store.add([an_order()])
    before = len(files.calls)
    await store.remember("grafx", {"kinds": {}})
    await asyncio.sleep(0)
    assert len(files.calls) == before
    await store.save(done(an_order()))
    die(store)
    shutil.copytree(tmp_path, tmp_path / "copy")
    again = await open_tiny(tmp_path / "copy")
    assert await again.recall("grafx") == {"kinds": {}}
    await again.close()


@pytest.mark.parametrize("damaged", [{}, {"1": {}}, {"x": {"remote": 7}}, {"3": {"remote": "grafx"}}, {"9": {"a": []}}])
async def test_whatever_stands_where_memos_stand_does_not_stop_the_start(tmp_path, damaged):
    """A table of the same name may be a shop's own: what is in it is left alone, but for what is named like a memo."""
    (tmp_path / "orders.json").write_text(json.dumps({"orders": {}, "events": {}, "habits": damaged}), encoding="utf-8")
    store = await open_tiny(tmp_path)
    assert await store.recall("grafx") is None
    await store.remember("grafx", {"kinds": {}})
    assert await store.recall("grafx") == {"kinds": {}}
    await store.close()
    with TinyDB(tmp_path / "orders.json") as stock:
        kept = json.loads(json.dumps(stock.storage.read()))["habits"]
    memo = {"remote": "grafx", "habits": {"kinds": {}}}
    assert memo in kept.values()
    assert [document for document in damaged.values() if document.get("remote") != "grafx"] == [
        document for document in kept.values() if document != memo
    ]


async def test_a_memo_that_is_not_kept_hides_no_order(tmp_path):
    """When the disk fails, orders that it does not concern can be read although a memo is among what was lost."""
    failing = False

    def plan(number: int, name: str) -> None:
        if failing and name == "write":
            raise OSError(5, "the disk is gone")

    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, files=ScriptedFiles(plan), linger=0.0)
    await store.add([an_order()])
    failing = True
    await store.remember("grafx", {"kinds": {}})
    while store.problem is None:
        await asyncio.sleep(0.001)
    assert await store.get(Key("grafx", "t1")) == an_order()
    failing = False
    await store.reopen()
    await store.close()
