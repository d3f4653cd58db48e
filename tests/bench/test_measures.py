"""What the benchmarks measure with: sums, clocks, references and the orders they use."""

import asyncio
import gc
import os
import platform
import select
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

import msgspec
import pytest
from msgspec.structs import replace

from poller.order import Order, State
from poller.stores.journal import unseal
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests.bench import changes
from tests.bench.figure import Figure, Pair, amount, percentile
from tests.bench.lateness import Watch, folded
from tests.bench.machine import commit, file_system, machine, resident
from tests.bench.orders import build, every, fresh
from tests.bench.references import DECODERS, Sqlite, appending, decoding
from tests.bench.report import Report, read, table
from tests.bench.ticker import Ticker
from tests.bench.traffic import CALLERS, CLAIM, Traffic, one_by_one, together
from tests.bench.yard import Yard, alternate, apart


def spin(seconds: float, clock: Callable[[], float] = perf_counter) -> None:
    """Keep the processor, and with it the loop."""
    until = clock() + seconds
    while clock() < until:
        pass


# --- Sums -----------------------------------------------------------------------------------


def test_a_slowdown_is_the_ratio_of_the_medians():
    """Ours is above; the spread is that of the rounds, each against its own reference."""
    figure = Pair([2.0, 9.0, 4.0], [1.0, 3.0, 2.0]).slowdown("s", at_most=2)
    assert (figure.value, figure.low, figure.high, figure.met) == (2.0, 2.0, 3.0, True)
    assert figure.detail == {"by_round_x": 2.0, "ours_us": 4e6, "theirs_us": 2e6}


def test_a_speedup_is_the_other_way_round():
    """Theirs is above."""
    figure = Pair([1.0, 2.0, 2.0], [18.0, 10.0, 30.0]).speedup("s", at_least=10)
    assert (figure.value, figure.low, figure.high, figure.met) == (9.0, 5.0, 18.0, False)


@pytest.mark.parametrize(
    ("target", "met"),
    [
        ({"at_most": 5}, True),
        ({"at_most": 4.9}, False),
        ({"at_least": 5}, True),
        ({"at_least": 5.1}, False),
        ({}, None),
    ],
)
def test_a_target_is_met_on_the_line_and_not_beyond(target, met):
    """Where nothing is asked, nothing is met."""
    assert Figure(name="f", value=5.0, unit="x", low=5.0, high=5.0, **target).met is met


def test_an_amount_is_a_median_and_its_spread():
    """One repetition that was disturbed does not move the value."""
    figure = amount("a", [3.0, 1.0, 100.0], "ms", at_most=3)
    assert (figure.value, figure.low, figure.high, figure.met) == (3.0, 1.0, 100.0, True)


def test_percentiles_lie_among_the_samples():
    """The 99th of a hundred and one is the last but one, and of one sample it is that one."""
    assert percentile(range(101), 99) == 99
    assert percentile([7.0], 99) == 7.0


async def test_both_ways_are_taken_by_turns():
    """Each goes first every other round, and the round that warms up does not count."""
    went = []

    def way(name):
        async def work():
            went.append(name)
            return float(len(went))

        return work

    pair = await alternate(2, way("ours"), way("theirs"))
    assert went == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert (pair.ours, pair.theirs) == ([3.0, 6.0], [4.0, 5.0])


# --- Callers --------------------------------------------------------------------------------


async def test_64_callers_work_at_once_and_do_each_thing_once():
    """Nobody waits for another, and nothing is done twice."""
    done, inside, most = [], set(), 0

    async def work(item):
        nonlocal most
        inside.add(item)
        most = max(most, len(inside))
        await asyncio.sleep(0)
        inside.remove(item)
        done.append(item)

    assert await together(work, range(1000), 1000) > 0
    assert sorted(done) == list(range(1000))
    assert most == CALLERS


async def test_one_by_one_is_one_at_a_time():
    """Every item has its own time, and begins after the one before."""
    inside = []

    async def work(item):
        assert not inside
        inside.append(item)
        await asyncio.sleep(0)
        inside.pop()

    took = await one_by_one(work, range(5))
    assert len(took) == 5
    assert all(seconds > 0 for seconds in took)


async def test_traffic_does_what_it_says(tmp_path):
    """What was added and changed is in the store, each kind of change in its number."""
    yard = Yard(folder=tmp_path, orders=100)
    path = yard.store("pending", 100)
    store = await TinyStore.open(path, now=time.time)
    traffic = Traffic(store, kind="pending", size=100, batch=60)
    first = next(every("pending", 100))
    for work, orders, version in (
        (traffic.add_alone, 100 + CLAIM, 4),
        (traffic.adds, 160 + CLAIM, 4),
        (traffic.stream, 220 + CLAIM, 4),
        (traffic.saves, 220 + CLAIM, 5),
        (traffic.soft_saves, 220 + CLAIM, 6),
    ):
        assert await work() > 0
        assert (await store.counts())[State.PENDING] == orders
        assert (await store.get(first.key)).version == version
    assert len((await store.history(first.key)).events) == 2
    assert Names(path).journal.read_bytes().count(b'"version":6') == 60  # the last of the soft saves was none
    assert await traffic.cycle() == CLAIM
    assert await traffic.cycles() > 0
    await store.close()


# --- Clocks ---------------------------------------------------------------------------------


async def test_the_ticker_sees_a_stall():
    """A loop that was kept for 30 ms is about that late, also if that was the last thing it did."""
    async with Ticker() as ticker:
        await asyncio.sleep(0.005)
        spin(0.03)
    assert max(ticker.late) > 0.025
    assert len(ticker.late) > 1


async def test_the_ticker_tells_working_from_waiting():
    """A loop that computes has the processor, one that is held up in a call to the system has not."""
    async with Ticker() as working:
        spin(0.05, process_time)
    async with Ticker() as waiting:
        select.select([], [], [], 0.05)
    assert max(late - off for late, off in zip(working.late, working.off, strict=True)) > 0.045
    assert max(waiting.off) > 0.04


async def test_the_ticker_sees_the_collector():
    """A collection that happens meanwhile is timed; one before or after is not."""
    gc.collect()
    async with Ticker() as ticker:
        gc.collect()
    gc.collect()
    assert len(ticker.collecting) >= 1
    assert min(ticker.collecting) > 0
    assert not gc.callbacks or ticker._collects not in gc.callbacks


async def test_a_watch_tells_of_each_thing_apart():
    """What stalled is over the line, and each thing has its two figures."""
    watch = Watch(0.02)

    async def stall():
        spin(0.06)

    await watch.once("work", stall)
    await watch.once("rest", lambda: asyncio.sleep(0.005))
    figures = {figure.name: figure for figure in watch.figures}
    assert set(figures) == {f"late ({which}), {what}" for which in ("p99", "most") for what in ("rest", "work")}
    assert figures["late (most), work"].met is False
    assert figures["late (most), work"].value > 55
    assert figures["late (p99), work"].detail["stalled"] > 0.5
    assert figures["late (p99), rest"].detail["ticks"] >= 1


async def test_what_is_done_again_gives_others_their_turn():
    """The loop is not held up by the watch itself, however quick the work is."""
    did, turns = 0, 0

    async def quick():
        nonlocal did
        did += 1

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.create_task(other())
    await Watch(0.02).again("quick", quick)
    busy.cancel()
    assert 0 < did <= turns


async def test_a_fold_is_watched_to_its_end(tmp_path):
    """When the watch is over, another snapshot is there, with what the journal said, and the full journal is gone."""
    path = Yard(folder=tmp_path, orders=100).store("mixed", 100)
    names, before = Names(path), path.stat().st_ino
    store = await TinyStore.open(path, now=time.time)
    traffic = Traffic(store, kind="mixed", size=100, batch=60)
    await traffic.adds()
    await folded(store, traffic, path, lambda: asyncio.sleep(0.001))
    assert path.stat().st_ino != before
    assert not names.full.exists()
    assert path.read_bytes().count(b'"task_id"') > 100 + 60
    await store.close()


def test_what_is_done_apart_is_done_by_another_process():
    """Its memory is its own, and its answer comes back."""
    assert apart(os.getpid) != os.getpid()
    now, most = apart(resident)
    assert 0 < now <= most


# --- References -----------------------------------------------------------------------------


def test_the_bare_write_appends_and_syncs_every_line(tmp_path, monkeypatch):
    """Each line is there, and was synced for itself."""
    synced, fdatasync = [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(fdatasync(descriptor)))
    with appending(tmp_path / "reference") as append:
        assert append(b"the first line\n") > 0
        assert append(b"the second\n") > 0
    assert (tmp_path / "reference").read_bytes() == b"the first line\nthe second\n"
    assert len(synced) == 2


async def test_one_add_is_compared_with_the_line_that_it_left(tmp_path, monkeypatch):
    """The reference writes the very lines of the journal, one for each add, and so does the thread's."""
    written = []

    @contextmanager
    def recording(path):
        with appending(path) as append:
            yield lambda line: written.append(line) or append(line)

    monkeypatch.setattr(changes, "appending", recording)
    await changes.add_alone(Yard(folder=tmp_path, orders=10, rounds=2))
    frames = [msgspec.json.decode(unseal(line)) for line in written]
    assert len(frames) == 2 * 6 * CLAIM
    assert len({number for number, _ in frames}) == 6 * CLAIM
    assert all(changes[0][:2] == ["put", "orders"] for _, changes in frames)


@pytest.mark.parametrize(("synchronous", "means"), [("FULL", 2), ("NORMAL", 1)])
def test_sqlite_commits_every_upsert(tmp_path, synchronous, means):
    """A write-ahead log, synced as asked; another connection sees each order at once, and the last version of it."""
    orders = list(islice(every("pending", 3), 3))
    with (
        closing(Sqlite(tmp_path / "db", synchronous=synchronous)) as ours,
        closing(
            sqlite3.connect(tmp_path / "db"),
        ) as other,
    ):
        assert ours.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ours.connection.execute("PRAGMA synchronous").fetchone() == (means,)
        seen = (_kept(other, count) for count in range(4))
        ours.upsert(order for order in orders if next(seen))
        assert next(seen)
        ours.upsert([replace(orders[0], version=9)])
        assert _kept(other, 3)
        stored = other.execute("SELECT document FROM orders WHERE task_id = ?", [orders[0].task_id]).fetchone()
        assert msgspec.json.decode(stored[0], type=Order).version == 9


def _kept(connection: sqlite3.Connection, count: int) -> bool:
    return connection.execute("SELECT count(*) FROM orders").fetchone() == (count,)


def test_sqlite_forgets_what_it_is_told_to(tmp_path):
    """Only orders in the states named that changed before the time named."""
    orders = list(every("mixed", 40))
    with closing(Sqlite(tmp_path / "db", synchronous="FULL")) as sqlite:
        sqlite.fill(orders)
        failed = sorted(order.updated_at for order in orders if order.state is State.FAILED)
        assert sqlite.forget(states=["failed"], before=failed[4]) == 4
        assert _kept(sqlite.connection, 36)


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders_read_the_whole_of_a_snapshot(tmp_path, decoder):
    """Each gives every order of it, and takes some time."""
    build(tmp_path / "orders.json", "pending", 50)
    decoded = DECODERS[decoder]((tmp_path / "orders.json").read_bytes())
    assert len(decoded.orders if decoder == "msgspec, index fields" else decoded["orders"]) == 50
    assert decoding(decoder, tmp_path / "orders.json") > 0


# --- Orders ---------------------------------------------------------------------------------


def test_orders_are_of_400_bytes_and_none_is_like_another():
    """They differ in name, due time and context; half of one could not be guessed from another."""
    orders = list(every("pending", 200))
    assert {order.state for order in orders} == {State.PENDING}
    for field in ("task_id", "due_at", "created_at"):
        assert len({getattr(order, field) for order in orders}) == 200
    sizes = [len(msgspec.json.encode(order)) for order in orders]
    assert 380 <= min(sizes) <= max(sizes) <= 420


def test_the_same_orders_are_made_every_time():
    """A store can be known without reading it; what is added to it is in none."""
    assert list(every("mixed", 30)) == list(every("mixed", 30))
    strangers = [order.key for seed in range(5) for order in fresh(30, seed)]
    assert len({*strangers, *(order.key for order in every("pending", 30))}) == 180


@pytest.mark.parametrize(
    ("kind", "counts", "events"),
    [
        ("pending", {State.PENDING: 40}, 1),
        ("failed", {State.FAILED: 40}, 2),
        ("mixed", {State.DONE: 20, State.FAILED: 10, State.PENDING: 10}, 2),
    ],
)
async def test_a_store_that_was_built_opens(tmp_path, kind, counts, events):
    """It holds what it was built of, with an event for each order at rest."""
    yard = Yard(folder=tmp_path, orders=40)
    paths = [yard.store(kind, 40) for _ in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    store = await TinyStore.open(paths[0], now=time.time)
    assert (await store.counts()).items() >= counts.items()
    assert len((await store.history(next(every(kind, 40)).key)).events) == events
    await store.close()


# --- The machine and the report -------------------------------------------------------------


def test_a_machine_is_described_without_names(tmp_path):
    """What it is, and neither what it is called nor where anything lies."""
    text = msgspec.json.encode(machine(tmp_path)).decode()
    assert platform.python_version() in text
    assert platform.release() in text
    assert "/" not in text
    assert machine(tmp_path).cpus == os.cpu_count()


def test_the_innermost_file_system_is_named():
    """Not the one that it is mounted in."""
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path(__file__)) != "proc"


def test_code_outside_a_repository_has_no_commit(monkeypatch, tmp_path):
    """Without git there is nothing to ask."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "unversioned"


def test_a_report_is_read_as_it_was_written(tmp_path):
    """Every figure comes back, targets and details included."""
    figures = [Pair([1.0], [3.0]).speedup("a", at_least=10), amount("b", [1.0, 2.0], "ms", at_most=20, of_us=3.0)]
    report = Report(commit="c", orders=5, at=1.0, machine=machine(tmp_path), figures=figures)
    report.write(tmp_path / "results" / "c.json")
    assert read(tmp_path / "results" / "c.json") == report


def test_a_table_shows_what_was_missed():
    """Value, target and verdict stand in a row."""
    shown = table([Pair([1.0], [3.0]).speedup("a", at_least=10), amount("b", [1.5], "ms")])
    cells = [list(column.cells) for column in shown.columns]
    assert [column[0] for column in cells[:4]] == ["a", "3 x", "≥ 10", "NO"]
    assert [column[1] for column in cells[:4]] == ["b", "1.5 ms", "", ""]
