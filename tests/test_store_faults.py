"""What the embedded store does when any operation of its disk fails, once or for good."""

import asyncio
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from poller.errors import ConfigurationError, StoreError, StoreUnavailable
from poller.order import Key
from poller.stores.care.verify import verify
from poller.stores.journal import Create, encode
from poller.stores.ledger import Ledger
from poller.stores.tinydb import TinyStore
from tests.day import ONE, PLAIN, TWO, Contents, changes, contents, expectations, later
from tests.fault import CODES, SHORT, Fault
from tests.stores import TORN, ScriptedFiles, an_order, die, in_memory, tear

pytestmark = pytest.mark.unmeasured


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory: its disk fails by plan, and is never asked to keep anything."""
    with in_memory() as path:
        yield path


async def endure(path: Path, fault: Fault, expected: Sequence[Contents], *, full: int) -> None:
    """Live the day in one process, which goes on after each failure from what its store holds then."""
    files = ScriptedFiles(fault)
    store = await opened(path, files, fault, full)
    day, done, kept = changes(PLAIN), 0, 0
    while done < len(day):
        try:
            await day[done].make(store)
        except StoreUnavailable:
            kept = done = await mended(store, fault, expected[: done + 2], kept)
        else:
            done += 1
            kept = kept if day[done - 1].soft else done
        await store._folded()
    await store.close()
    fault.mend()
    assert expected.index(await found(path)) >= kept


async def opened(path: Path, files: ScriptedFiles, fault: Fault, full: int) -> TinyStore:
    """Open a store, again if the disk fails at first."""
    try:
        return await TinyStore.open(path, now=lambda: 5.0, files=files, full=full, linger=1000.0)
    except StoreUnavailable:
        fault.mend()
        return await TinyStore.open(path, now=lambda: 5.0, files=files, full=full, linger=1000.0)


async def mended(store: TinyStore, fault: Fault, expected: Sequence[Contents], kept: int) -> int:
    """Mend the disk and reopen; tell how many changes are there: those that were kept, and none by half."""
    assert store.problem is not None
    with pytest.raises(StoreUnavailable):
        await store.add([an_order("never")])
    fault.mend()
    await store.reopen()
    assert store.problem is None
    there = expected.index(await contents(store))
    assert there >= kept
    return there


async def found(path: Path) -> Contents:
    """Start anew from what is on disk, and read it; verify must have agreed that one can."""
    assert verify(path).damage is None
    store = await TinyStore.open(path, now=lambda: 6.0)
    there = await contents(store)
    await store.close()
    assert verify(path).journals == ()
    return there


HEAVY = [pytest.mark.heavy, pytest.mark.timeout(3600)]
EACH = [pytest.param(len(CODES), id="every kind", marks=HEAVY), pytest.param(1, id="one kind each")]


@pytest.mark.parametrize("codes", EACH)
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("full", [1, 10**9], ids=["folding", "journal only"])
async def test_any_operation_may_fail(folder, full, for_good, codes, record_property):
    """What was acknowledged is there, nothing is there by half, and the process goes on as soon as the disk does."""
    expected, number, met, failed = await expectations(), 0, 0, "something"
    while failed:
        number += 1
        kinds: list[int | str] = [CODES[each % len(CODES)] for each in range(number, number + codes)]
        for kind in kinds:  # which grow, if it was a write that failed
            path = folder / f"{number} {kind}" / "orders.json"
            path.parent.mkdir()
            fault = Fault(number, kind, for_good=for_good)
            await endure(path, fault, expected, full=full)
            failed = fault.met
            kinds += SHORT if failed == "write" and kind == kinds[-1] and kind not in SHORT else ()
            met += bool(failed)
    record_property("faults met", met)
    assert number > (130 if full == 1 else 60)


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
    for work in (store.add([TWO]), store.save(later(ONE, 2)), store.claim("grafx", limit=1, now=9.0, until=10.0)):
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
    await store.save(later(ONE, 2), durable=False)
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


async def test_a_store_that_was_reopened_folds_again(tmp_path):
    """A disk that failed while a full journal waited is no reason to let the next ones grow for ever."""
    files, path = ScriptedFiles(), tmp_path / "orders.json"
    store = await TinyStore.open(path, now=lambda: 5.0, files=files, full=1)

    def plan(call, name):
        if name == "link" or (name == "sync" and store._ledger.folding):
            raise OSError(errno.EIO, "Input/output error")

    files.plan = plan
    await store.add([ONE])
    with pytest.raises(StoreUnavailable, match="Input/output"):
        await store.add([TWO])
    files.plan = lambda call, name: None
    await store.reopen()
    before = verify(path).generation
    for n in range(4, 8):
        await store.add([an_order(f"t{n}")])
        await store._folded()
    assert verify(path).generation > before
    await store.close()


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
    store = await TinyStore.open(path, now=lambda: 5.0)
    await store.add([an_order("kept")])
    die(store)
    offset = tear(tmp_path / "orders.json.journal")
    assert verify(path).torn == (3, offset, len(TORN))
    store = await TinyStore.open(path, now=lambda: 5.0, report=told.append)
    assert len(told) == 1
    assert f"line 3 (from byte {offset}): the last {len(TORN)} bytes" in told[0]
    assert await store.get(Key("grafx", "kept")) is not None
    await store.close()


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
