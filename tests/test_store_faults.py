"""What the embedded store does when the disk, the power, or its own process fails."""

import asyncio
import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from poller.errors import ConfigurationError, StoreDamaged, StoreError, StoreLocked, StoreUnavailable
from poller.event import Event
from poller.order import Key, State
from poller.store import Query
from poller.stores.journal import Create, encode
from poller.stores.ledger import Ledger
from poller.stores.memory import MemoryStore
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from poller.stores.verify import verify
from tests.stores import Crash, ScriptedFiles, an_order

# --- A day in the life of a store, and what should be there after each of its steps -----------------


def after(order, version, **changed):
    """Make a later version of an order."""
    return replace(order, version=version, **changed)


ONE, TWO = an_order("t1", due_at=1.0), an_order("t2", due_at=2.0)
FAILED = after(TWO, 2, state=State.FAILED, due_at=None, updated_at=3.0)
DAY = [
    lambda store: store.add([ONE]),
    lambda store: store.add([TWO, an_order("t3"), an_order("t4", state=State.HELD)]),
    lambda store: store.save(FAILED, Event(at=3.0, event="failed", reason="no")),
    lambda store: store.save(after(ONE, 2, checks=1, due_at=9.0), Event(at=4.0, event="trouble")),
    lambda store: store.forget(before=5.0),
    lambda store: store.add([an_order("t2", due_at=3.0)]),
    lambda store: store.save(after(ONE, 3, state=State.DONE, due_at=None), Event(at=5.0, event="done")),
    lambda store: store.close(),
]


async def contents(store):
    """Read everything that a store holds."""
    orders = (await store.search(Query(limit=500))).orders
    return {order.key: (order, tuple((await store.history(order.key)).events)) for order in orders}


async def expectations():
    """Live the day in memory: what is there before the first step, and after each."""
    store = MemoryStore()
    seen = [{}]
    for step in DAY:
        await step(store)
        seen.append(await contents(store))
    return seen


async def live(path, files, *, full=1):
    """Live the day on disk; tell how many steps were acknowledged."""
    acknowledged = 0
    store = None
    try:
        store = await TinyStore.open(path, now=lambda: 5.0, files=files, full=full)
        for step in DAY:
            await step(store)
            await store._folded()
            acknowledged += 1
    except (Crash, StoreUnavailable):
        if store is not None:
            store._ledger._lock.release()  # as the end of its process would
            store._pool.shutdown()
    return acknowledged


async def found(path):
    """Start anew from what is on disk, and read it; verify must have agreed that one can."""
    assert verify(path).damage is None
    store = await TinyStore.open(path, now=lambda: 6.0)
    there = await contents(store)
    await store.add([an_order("later")])
    await store.close()
    assert verify(path).journals == ()
    return there


def dying_at(number, name=None):
    """Plan to end at an operation, and to do nothing any more after it."""

    def plan(call, operation):
        if call >= number and operation != "close":
            raise Crash

    return plan


async def operations_of_a_day(path, full):
    """Count them, on a day without faults."""
    files = ScriptedFiles()
    assert await live(path, files, full=full) == len(DAY)
    return len(files.calls)


EVERY = [pytest.param(1, marks=[pytest.mark.heavy, pytest.mark.timeout(3600)]), 7]
"""Try every operation of the day, or every seventh."""


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("full", [1, 10**9], ids=["folding", "journal only"])
async def test_a_process_may_end_before_any_operation(tmp_path, full, every):
    """Wherever it ends, all that was acknowledged is there afterwards, and at most the step under way."""
    expected = await expectations()
    count = await operations_of_a_day(tmp_path / "whole.json", full)
    for number in range(1, count + 1, every):
        path = tmp_path / f"{number}" / "orders.json"
        path.parent.mkdir()
        acknowledged = await live(path, ScriptedFiles(dying_at(number)), full=full)
        assert acknowledged < len(DAY)
        assert await found(path) in expected[acknowledged : acknowledged + 2], f"operation {number}"


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
async def test_the_power_may_fail_before_any_operation(tmp_path, keep, every):
    """What was written but not synced may be lost, or half lost; what was acknowledged is there."""
    expected = await expectations()
    count = await operations_of_a_day(tmp_path / "whole.json", 1)
    for number in range(1 + int(4 * keep), count + 1, every):
        path = tmp_path / f"{number}" / "orders.json"
        path.parent.mkdir()
        files = ScriptedFiles(dying_at(number))
        acknowledged = await live(path, files)
        files.lose_power(path.parent, keep=keep)
        assert await found(path) in expected[acknowledged : acknowledged + 2], f"operation {number}"


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
async def test_any_operation_may_fail(tmp_path, code, for_good, every):
    """Once or for good: what was acknowledged is there, and the store goes on as soon as the disk does."""
    expected = await expectations()
    count = await operations_of_a_day(tmp_path / "whole.json", 1)
    for number in range(2, count + 1, every):
        path = tmp_path / f"{number}" / "orders.json"
        path.parent.mkdir()

        def plan(call, operation, number=number):
            if call == number or (for_good and call > number):
                raise OSError(code, os.strerror(code))

        acknowledged = await live(path, ScriptedFiles(plan))
        assert await found(path) in expected[acknowledged : acknowledged + 2], f"operation {number}"


@pytest.mark.parametrize("operation", ["write", "sync"])
async def test_a_failed_commit_is_said_and_healed(tmp_path, operation):
    """Waiters hear of it, nothing more is taken, reads go on, and reopening goes on from the disk."""
    files = ScriptedFiles()
    path = tmp_path / "orders.json"
    store = await TinyStore.open(path, now=lambda: 5.0, files=files)
    await store.add([ONE])
    assert store.problem is None

    def plan(call, name):
        if name == operation:
            raise OSError(errno.ENOSPC, "No space left on device")

    files.plan = plan
    waiting = await asyncio.gather(*(store.add([an_order(f"x{n}")]) for n in range(9)), return_exceptions=True)
    assert [type(answer) for answer in waiting] == [StoreUnavailable] * 9
    assert "No space left on device" in store.problem
    for work in (store.add([TWO]), store.save(after(ONE, 2)), store.claim("grafx", limit=1, now=9.0, until=10.0)):
        with pytest.raises(StoreUnavailable, match="No space left"):
            await work
    assert await store.get(ONE.key) == ONE
    with pytest.raises(StoreUnavailable, match="No space left"):
        await store.reopen()
    assert store.problem is not None

    files.plan = lambda call, name: None
    await store.reopen()
    assert store.problem is None
    assert await store.get(ONE.key) == ONE
    await store.add([TWO])
    await store.close()
    assert {ONE.key, TWO.key} <= set(await found(path))


async def test_a_soft_save_whose_write_fails_is_said(tmp_path):
    """A failure that nobody waits for shows as the store's problem."""
    files = ScriptedFiles()
    store = await TinyStore.open(tmp_path / "orders.json", now=lambda: 5.0, files=files, linger=0.001)
    await store.add([ONE])

    def plan(call, name):
        if name == "write":
            raise OSError(errno.EIO, "Input/output error")

    files.plan = plan
    await store.save(after(ONE, 2), durable=False)
    await asyncio.wait_for(asyncio.shield(store._commits._next), 10)
    assert "Input/output error" in store.problem
    await store.close()


def test_nothing_is_appended_to_a_journal_that_failed(tmp_path):
    """After half a line nothing may follow in the same file, whoever asks for it."""
    files = ScriptedFiles()
    ledger = Ledger(tmp_path / "orders.json", now=lambda: 5.0, files=files)
    ledger.open()
    ledger.begin()
    one, two = (encode([Create(name)]) for name in ("one", "two"))

    def plan(call, name):
        if name == "sync":
            raise OSError(errno.EIO, "Input/output error")

    files.plan = plan
    with pytest.raises(OSError, match="Input/output"):
        ledger.append([one])
    files.plan = lambda call, name: None
    with pytest.raises(StoreError, match="its disk has failed"):
        ledger.append([two])
    ledger.reopen()
    ledger.begin()
    ledger.append([two])
    ledger.close()
    assert b'"two"' in (tmp_path / "orders.json").read_bytes()


def test_a_journal_without_frames_is_never_full(tmp_path):
    """Folding nothing would leave a gap in the generations."""
    ledger = Ledger(tmp_path / "orders.json", now=lambda: 5.0)
    ledger.open()
    ledger.begin()
    ledger._full = 1
    ledger.append([encode([Create("one")])])
    assert not ledger.folding
    ledger.append([encode([Create("two")])])
    assert ledger.folding
    ledger.fold()
    ledger.abandon()
    assert Ledger(tmp_path / "orders.json", now=lambda: 5.0).open().about.generation == 2


async def test_a_fold_that_fails_is_told_and_tried_again(tmp_path):
    """A full disk keeps journals from being folded, not orders from being added where there is room."""
    told, files = [], ScriptedFiles()
    path = tmp_path / "orders.json"
    store = await TinyStore.open(path, now=lambda: 5.0, files=files, full=1, report=told.append)

    def plan(call, name):
        if name == "link":
            raise OSError(errno.ENOSPC, "No space left on device")

    files.plan = plan
    for n in range(5):
        await store.add([an_order(f"t{n}")])
        await store._folded()
    assert len(told) == 1
    assert "No space left" in told[0]
    assert store.problem is None
    files.plan = lambda call, name: None
    store._fold_from = 0
    await store.add([an_order("t5")])
    await store._folded()
    assert not (tmp_path / "orders.json.journal.old").exists()
    await store.close()
    assert len(await found(path)) == 6


async def test_a_close_that_cannot_fold_loses_nothing(tmp_path):
    """It is told, the lock is free, and the next start does the rest."""
    told, files = [], ScriptedFiles()
    path = tmp_path / "orders.json"
    store = await TinyStore.open(path, now=lambda: 5.0, files=files, report=told.append)
    await store.add([ONE])

    def plan(call, name):
        if name == "create":
            raise OSError(errno.ENOSPC, "No space left on device")

    files.plan = plan
    await store.close()
    assert len(told) == 1
    assert set(await found(path)) == {ONE.key}


async def test_a_torn_tail_is_cut_and_told_of(tmp_path):
    """The line that was never completed goes, with a sentence that says where it was."""
    path, told = tmp_path / "orders.json", []
    await live(path, ScriptedFiles(dying_at(10**9)), full=10**9)
    store = await TinyStore.open(path, now=lambda: 5.0)
    await store.add([an_order("kept")])
    journal = tmp_path / "orders.json.journal"
    size = journal.stat().st_size
    with journal.open("ab") as stream:
        stream.write(b'deadbeef [99,[["put","orders"')
    store._ledger._lock.release()
    assert verify(path).torn == (3, size, 29)
    store = await TinyStore.open(path, now=lambda: 5.0, report=told.append)
    assert len(told) == 1
    assert f"line 3 (from byte {size}): the last 29 bytes" in told[0]
    assert await store.get(Key("grafx", "kept")) is not None
    await store.close()


# --- Files that are not as we left them ---------------------------------------------------------------


async def crashed(path, *, full=10**9):
    """Leave a store whose process ended with two orders in its journal."""
    store = await TinyStore.open(path, now=lambda: 5.0, full=full)
    await store.add([ONE])
    await store.add([TWO])
    store._ledger._lock.release()
    store._pool.shutdown()
    return Names(path)


async def refused(path, sentence):
    """Make sure that a start is refused, and that nothing was touched."""
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(StoreDamaged, match=sentence) as info:
        await TinyStore.open(path, now=lambda: 6.0)
    assert "poller store verify" in info.value.hint
    report = verify(path)
    assert report.damage == str(info.value)
    assert report.hint == info.value.hint
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before | {f"{path.name}.lock": b""}


@pytest.mark.parametrize("left", ["journal", "full", "previous"])
async def test_files_without_a_snapshot_are_refused(tmp_path, left):
    """A store that lost its snapshot is not an empty store."""
    path = tmp_path / "orders.json"
    names = await crashed(path)
    names.snapshot.unlink()
    names.journal.rename(getattr(names, left))
    await refused(path, f"{path} is missing, but {getattr(names, left).name} is there")


@pytest.mark.parametrize("text", ["", "null", "{}", "[]", "{", '{"orders": []}'])
async def test_a_snapshot_that_holds_nothing_is_refused(tmp_path, text):
    """Nothing turns into an empty store in silence."""
    path = tmp_path / "orders.json"
    path.write_text(text)
    await refused(path, r"orders\.json")


async def test_an_older_snapshot_is_refused(tmp_path):
    """A backup put back beside a newer journal leaves a gap, and the gap is named."""
    path = tmp_path / "orders.json"
    names = await crashed(path)
    store = await TinyStore.open(path, now=lambda: 6.0)
    await store.add([an_order("t9")])
    store._ledger._lock.release()
    names.previous.replace(path)
    await refused(path, r"journal is generation 2 where 1 belongs; what came between is missing")


async def test_a_newer_snapshot_keeps_what_is_in_it(tmp_path):
    """A journal that is in the snapshot already is not applied again, and goes."""
    path = tmp_path / "orders.json"
    names = await crashed(path)
    stale = names.journal.read_bytes()
    assert len(await found(path)) == 2
    names.journal.write_bytes(stale)
    assert len(await found(path)) == 3  # and the one that was found and added to above
    assert not names.journal.exists()


async def test_a_journal_of_another_store_is_refused(tmp_path):
    """Numbers that do not follow those of the snapshot are no continuation of it."""
    path = tmp_path / "orders.json"
    names = await crashed(path)
    text = names.journal.read_bytes()
    assert b'"after":0' in text
    store = await TinyStore.open(path, now=lambda: 6.0)
    await store.add([an_order("t9")])
    store._ledger._lock.release()
    names.journal.rename(names.full)
    names.journal.write_bytes(text)
    await refused(path, "journal is generation 1 where 3 belongs")


async def two_journals(path):
    """Leave a store whose process ended while a full journal waited to be folded."""
    files = ScriptedFiles()
    store = await TinyStore.open(path, now=lambda: 5.0, files=files, full=1)

    def plan(call, name):
        if name == "link":
            raise OSError(errno.EIO, "")

    files.plan = plan
    await store.add([ONE])
    await store.add([TWO])
    await store.add([an_order("t3")])
    await store._folded()
    store._ledger._lock.release()
    store._pool.shutdown()
    names = Names(path)
    assert names.full.exists()
    assert names.journal.exists()
    return names


async def test_two_journals_are_folded_in_order(tmp_path):
    """A process that ended during a fold left two, and both count."""
    path = tmp_path / "orders.json"
    await two_journals(path)
    assert [header.generation for header in verify(path).journals] == [1, 2]
    assert {key.task_id for key in await found(path)} == {"t1", "t2", "t3"}


async def test_a_missing_journal_between_is_refused(tmp_path):
    """The second journal alone is a gap."""
    names = await two_journals(tmp_path / "orders.json")
    names.full.unlink()
    await refused(tmp_path / "orders.json", "generation 2 where 1 belongs")


async def test_frames_missing_between_two_journals_are_refused(tmp_path):
    """The first journal was whole when the second was begun, so its last line cannot be gone, nor torn."""
    path = tmp_path / "orders.json"
    names = await two_journals(path)
    whole = names.full.read_bytes()
    lines = whole.splitlines(keepends=True)
    names.full.write_bytes(b"".join(lines[:-1]))
    await refused(path, r"continues after frame \d, but what comes before it ends with frame \d")
    names.full.write_bytes(whole[:-5])
    await refused(path, "line is incomplete, but a later journal follows")


async def test_random_damage_is_refused_or_harmless(tmp_path):
    """Bytes flipped, cut, repeated or moved: the right data, a cut tail, or a refusal; never other data."""
    path = tmp_path / "orders.json"
    names = await two_journals(path)
    whole = {each: each.read_bytes() for each in (names.snapshot, names.full, names.journal)}
    good = await found(path)
    assert len(good) == 3
    chance = random.Random(7)
    refusals = 0
    for _ in range(150):
        for each in tmp_path.iterdir():
            each.unlink()
        for each, text in whole.items():
            each.write_bytes(text)
        victim = chance.choice(list(whole))
        victim.write_bytes(spoilt(whole[victim], chance))
        try:
            there = await found(path)
        except StoreDamaged:
            raise AssertionError("verify found nothing wrong") from None
        except AssertionError:
            with pytest.raises(StoreDamaged):
                await TinyStore.open(path, now=lambda: 6.0)
            refusals += 1
            continue
        assert there == good or (victim == names.journal and there.items() <= good.items())
    assert refusals > 50


def spoilt(text, chance):
    """Do one kind of damage somewhere."""
    a, b, c = sorted(chance.randrange(len(text) + 1) for _ in range(3))
    return chance.choice([
        lambda: text[:a] + bytes([text[a % len(text)] ^ 1 << chance.randrange(8)]) + text[a + 1 :],
        lambda: text[:a],
        lambda: text[:a] + text[b:],
        lambda: text[:b] + text[a:],
        lambda: text[:a] + text[b:c] + text[a:b] + text[c:],
    ])()  # fmt: skip


async def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    """A disk that is not mounted must not look like a new store."""
    path = tmp_path / "nowhere" / "orders.json"
    with pytest.raises(ConfigurationError, match="cannot be opened: there is no folder"):
        await TinyStore.open(path, now=lambda: 5.0)
    assert not path.parent.exists()
    assert verify(path).generation is None


async def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    """Verify tells what the system said."""
    (tmp_path / "orders.json").mkdir()
    assert "cannot be read" in verify(tmp_path / "orders.json").damage


# --- Processes ------------------------------------------------------------------------------------------


def start(path: Path, first: int = 0) -> subprocess.Popen:
    """Start a process that adds orders until it is killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.adder", str(path), str(first)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )


def kill(child: subprocess.Popen) -> list[str]:
    """Kill it; give the lines that it had still told, the last one only if it is whole."""
    child.kill()
    rest, _ = child.communicate()
    return rest.decode().rpartition("\n")[0].splitlines()


async def test_a_second_process_is_refused_at_once(tmp_path):
    """It learns who holds the store within a second; and the lock of a dead process is free at once."""
    path = tmp_path / "orders.json"
    child = start(path)
    try:
        assert child.stdout.readline() == f"open {child.pid}\n".encode()
        before = time.monotonic()
        with pytest.raises(StoreLocked, match=f"process {child.pid} on .*, since 20") as info:
            await TinyStore.open(path, now=time.time)
        assert time.monotonic() - before < 1
        assert "stop that process" in info.value.hint
    finally:
        kill(child)
    before = time.monotonic()
    store = await TinyStore.open(path, now=time.time)
    assert time.monotonic() - before < 1
    await store.close()


async def test_whoever_is_between_two_journals_is_still_refused(tmp_path):
    """The lock counts, whatever the journal says, or if there is none."""
    path = tmp_path / "orders.json"
    store = await TinyStore.open(path, now=lambda: 5.0)
    Names(path).journal.rename(tmp_path / "away")
    with pytest.raises(StoreLocked, match="held by another process"):
        await TinyStore.open(path, now=lambda: 5.0)
    (tmp_path / "away").rename(Names(path).journal)
    await store.close()


@pytest.mark.parametrize("rounds", [10, pytest.param(1000, marks=[pytest.mark.heavy, pytest.mark.timeout(3600)])])
async def test_a_process_killed_under_load_loses_nothing_it_acknowledged(tmp_path, rounds):
    """However often it is killed, at whatever moment: the store opens, and all that was told of is there."""
    chance = random.Random(rounds)
    for number in range(rounds):
        if number % 20 == 0:  # a store of its own for some rounds, lest most of the time is spent reading it
            path, told = tmp_path / f"{number}.json", []
        child = start(path, first=number * 100_000)
        lines = [child.stdout.readline().decode() for _ in range(chance.randrange(1, 400))]
        told += [line.strip() for line in lines] + kill(child)
        assert verify(path).damage is None
        await demand_all(path, told)
        assert len(told) > number % 20


async def demand_all(path: Path, told: list[str]) -> None:
    """Open a store and make sure that everything it told of is there."""
    store = await TinyStore.open(path, now=time.time)
    for line in told:
        word, name = line.split()
        order = await store.get(Key("grafx", f"t{name}"))
        assert word == "open" or (order is not None and (word == "add" or order.state is State.DONE)), line
    await store.close()
