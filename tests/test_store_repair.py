"""Repairing a damaged store: all that can be read is kept, and what cannot is named."""

import errno
import os
import random
import re
import shutil

import msgspec
import pytest
from msgspec.structs import replace

from poller.errors import StoreDamaged, StoreError, StoreLocked, StoreUnavailable
from poller.event import Event
from poller.order import State
from poller.store import Query
from poller.stores import snapshot as snapshots
from poller.stores.care.repair import repair
from poller.stores.care.verify import verify
from poller.stores.files import Files
from poller.stores.journal import Delete, Header, Journal, Put, encode, seal
from poller.stores.pieces import About, Row
from poller.stores.snapshot import Snapshot
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests.stores import Crash, ScriptedFiles, an_order

NOW = 1_795_248_000.0
MOMENT = "20261121T080000Z"
SNAPSHOT, PREVIOUS = "orders.json", "orders.json.previous"
JOURNAL, FULL = "orders.json.journal", "orders.json.journal.old"

T0, T1, T2, T4, T5 = (an_order(name) for name in ("t0", "t1", "t2", "t4", "t5"))
T3 = an_order("t3", state=State.DONE, version=2)
NEXT_T1, NEXT_T2 = (replace(order, version=2, checks=1) for order in (T1, T2))
ALL = {"t1": 2, "t2": 2, "t4": 1, "t5": 1}
"""The version of each order once both journals are in."""


def line(order):
    """Write an order as a store keeps it."""
    return msgspec.json.encode(order)


def event(order, number=1):
    """Write an event as a store keeps it."""
    told = {"remote": order.remote, "task_id": order.task_id, "number": number, "at": 2.0, "event": "trouble"}
    return msgspec.json.encode(told)


def put(table, doc_id, text):
    """Make a change."""
    return Put(table, doc_id, msgspec.Raw(text))


FRAMES = [
    [put("orders", 4, line(T4))],
    [put("orders", 1, line(NEXT_T1)), put("events", 2, event(T1))],
    [put("orders", 5, line(T5))],
    [put("orders", 2, line(NEXT_T2)), put("events", 3, event(T2))],
    [Delete("orders", 3), Delete("events", 1)],
]
"""Numbers 11 and 12 are in the full journal, 13 to 15 in the other."""


def write_snapshot(path, orders, about, events=()):
    """Write a snapshot."""
    rows = [Row("orders"), *(Row("orders", n, line(order)) for n, order in orders.items()), Row("events")]
    snapshots.write(path, [*rows, *(Row("events", n, text) for n, text in events)], about, files=Files())


def write_journal(path, generation, after, frames):
    """Write a journal."""
    journal = Journal(path, Header.ours(generation=generation, after=after, now=5.0), files=Files())
    for changes in frames:
        journal.append([encode(changes)])
    journal.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A store whose process ended while a full journal was being folded: its files, by name."""
    folder = tmp_path_factory.mktemp("whole")
    write_snapshot(folder / PREVIOUS, {9: T0, 1: T1, 2: T2}, About(generation=2, sequence=7))
    about = About(generation=3, sequence=10)
    write_snapshot(folder / SNAPSHOT, {1: T1, 2: T2, 3: T3}, about, events=[(1, event(T3))])
    write_journal(folder / FULL, 4, 10, FRAMES[:2])
    write_journal(folder / JOURNAL, 5, 12, FRAMES[2:])
    return contents(folder)


def contents(folder):
    """Give what is in the files of a folder."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.name != "orders.json.lock"}


def lay(folder, files):
    """Put files into a folder; one that is None is not there."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        if text is not None:
            (folder / name).write_bytes(text)
    return folder / SNAPSHOT


def mend(path, **given):
    """Repair a store."""
    return repair(path, now=NOW, **given)


async def started(path):
    """Start a poller's store, add to it, and give the orders that it held."""
    assert verify(path).damage is None
    store = await TinyStore.open(path, now=lambda: 6.0, files=Files())
    orders = {order.key: order for order in (await store.search(Query(limit=500))).orders}
    for key in orders:
        await store.history(key)
    await store.add([an_order("later")])
    await store.close()
    assert verify(path).damage is None
    return orders


def versions(orders):
    """Give the version of each order."""
    return {key.task_id: order.version for key, order in orders.items()}


def spoil(text, number):
    """Change a byte in the middle of a line, counted from 1."""
    lines = text.splitlines(keepends=True)
    middle = len(lines[number - 1]) // 2
    lines[number - 1] = lines[number - 1][:middle] + b"\xff" + lines[number - 1][middle + 1 :]
    return b"".join(lines)


def without(text, number):
    """Take a line out."""
    lines = text.splitlines(keepends=True)
    return b"".join(lines[: number - 1] + lines[number:])


DAMAGE = {
    "a frame in the middle": (
        lambda files: {JOURNAL: spoil(files[JOURNAL], 2)},
        {"t1": 2, "t2": 2, "t4": 1},
        ["orders.json.journal, line 2: the line is not", "t5", "frame 13 is missing"],
    ),
    "a frame that is gone": (
        lambda files: {FULL: without(files[FULL], 2)},
        {"t1": 2, "t2": 2, "t5": 1},
        ["frame 11 is missing"],
    ),
    "the last frame of the full journal": (
        lambda files: {FULL: files[FULL].rstrip(b"\0")[:-20]},
        {"t1": 1, "t2": 2, "t4": 1, "t5": 1},
        ["journal.old, line 3: the last line is incomplete", "frame 12 is missing"],
    ),
    "frames in another order": (
        lambda files: {JOURNAL: b"".join(files[JOURNAL].splitlines(keepends=True)[n] for n in (0, 3, 1, 2, 2))},
        ALL,
        [],
    ),
    "a newline between two frames": (
        lambda files: {JOURNAL: b"}\n%s" % files[JOURNAL].replace(b"]]\n", b"]]a", 1)},
        ALL,
        ["line 1"],
    ),
    "a journal's header": (
        lambda files: {JOURNAL: spoil(files[JOURNAL], 1)},
        ALL,
        ["its first line"],
    ),
    "a journal of zeros": (
        lambda files: {JOURNAL: bytes(len(files[JOURNAL]))},
        {"t1": 2, "t2": 1, "t3": 2, "t4": 1},
        ["its first line"],
    ),
    "an empty journal": (
        lambda files: {JOURNAL: b""},
        {"t1": 2, "t2": 1, "t3": 2, "t4": 1},
        ["its first line"],
    ),
    "the full journal is missing": (
        lambda files: {FULL: None},
        {"t1": 1, "t2": 2, "t5": 1},
        ["frames 11 to 12 are missing"],
    ),
    "a snapshot's line": (
        lambda files: {SNAPSHOT: spoil(files[SNAPSHOT], 3)},
        {"t0": 1, **ALL},
        ["orders.json, line 3: the line is not", "t1"],
    ),
    "a snapshot's newline": (
        lambda files: {SNAPSHOT: files[SNAPSHOT].replace(b'},\n"2": {', b'},,"2": {')},
        {"t0": 1, **ALL},
        [],
    ),
    "a snapshot's newline, and half a document behind it": (
        lambda files: {SNAPSHOT: files[SNAPSHOT].replace(b'},\n"2": {"remote', b"},ote")},
        {"t0": 1, **ALL},
        [],
    ),
    "a snapshot's table": (
        lambda files: {SNAPSHOT: files[SNAPSHOT].replace(b'"orders": {', b'"ordert": {')},
        {"t0": 1, **ALL},
        [],
    ),
    "a snapshot cut in the middle": (
        lambda files: {SNAPSHOT: files[SNAPSHOT][: files[SNAPSHOT].index(b'"2": {') + 30]},
        {"t0": 1, **ALL},
        ["the end may be missing"],
    ),
    "an empty snapshot": (lambda files: {SNAPSHOT: b""}, {"t0": 1, **ALL}, ["empty", "frames 8 to 10 are missing"]),
    "a snapshot of zeros": (
        lambda files: {SNAPSHOT: bytes(2000)},
        {"t0": 1, **ALL},
        ["nothing but zeros", "frames 8 to 10 are missing"],
    ),
    "a snapshot that is missing": (
        lambda files: {SNAPSHOT: None},
        {"t0": 1, **ALL},
        ["the file is missing", "frames 8 to 10 are missing"],
    ),
    "a snapshot that is a picture": (
        lambda files: {SNAPSHOT: b"\x89PNG\r\n\x1a\n" + bytes(range(256))},
        {"t0": 1, **ALL},
        ["line 1", "not what was written", "frames 8 to 10 are missing"],
    ),
    "a snapshot that is no store": (lambda files: {SNAPSHOT: b"[1]"}, {"t0": 1, **ALL}, ["frames 8 to 10 are missing"]),
    "a snapshot in another layout": (
        lambda files: {SNAPSHOT: msgspec.json.format(files[SNAPSHOT])},
        {"t0": 1, **ALL},
        [],
    ),
    "only journals": (
        lambda files: {SNAPSHOT: None, PREVIOUS: spoil(files[PREVIOUS], 3)[:40]},
        ALL,
        ["the file is missing"],
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
async def test_what_can_be_read_is_kept(tmp_path, whole, name):
    """The store starts again with every order that can be read, and the report names what could not be."""
    damage, expected, said = DAMAGE[name]
    damaged = whole | damage(whole)
    path = lay(tmp_path, damaged)
    refusal = verify(path).damage
    done = mend(path)
    assert done.damage == refusal
    told = " | ".join(f"{loss.file}, line {loss.line}: {loss.what} {loss.keys}" for loss in done.lost)
    assert [piece for piece in said if piece not in told] == []
    assert (" missing: " in told) == any(piece.startswith("frame") for piece in said)
    assert done.lost
    assert versions(await started(path)) == expected
    assert sum(done.orders.values()) == len(expected)


@pytest.mark.parametrize("name", DAMAGE)
def test_nothing_is_thrown_away(tmp_path, whole, name):
    """What was found damaged is there as it was, under a name with the time in it; the snapshot before stays."""
    damaged = whole | DAMAGE[name][0](whole)
    path = lay(tmp_path, damaged)
    done = mend(path)
    there = contents(tmp_path)
    moved = {each: text for each, text in damaged.items() if each != PREVIOUS and text is not None}
    assert {each: there[f"{each}.damaged-{MOMENT}"] for each in moved} == moved
    assert sorted(done.aside) == sorted(f"{each}.damaged-{MOMENT}" for each in moved)
    assert there[PREVIOUS] == damaged[PREVIOUS]
    assert JOURNAL not in there
    assert FULL not in there


def test_a_dry_run_says_the_same_and_changes_nothing(tmp_path, whole):
    """What it would do can be read before it is done."""
    path = lay(tmp_path, whole | {JOURNAL: spoil(whole[JOURNAL], 2)})
    before = contents(tmp_path)
    said = mend(path, dry_run=True)
    assert contents(tmp_path) == before
    assert replace(said, dry_run=False) == mend(path)


def test_a_name_that_is_taken_is_left_alone(tmp_path, whole):
    """Two repairs within a second keep the files of both."""
    for _ in range(3):
        path = lay(tmp_path, whole | {SNAPSHOT: b"", JOURNAL: None, FULL: None})
        done = mend(path)
        path.write_bytes(b"")
    assert done.aside == (f"{SNAPSHOT}.damaged-{MOMENT}-3",)
    assert f"{SNAPSHOT}.damaged-{MOMENT}" in contents(tmp_path)


# --- What is taken back, and what is told of it -------------------------------------------------------


async def test_orders_of_the_snapshot_before_are_told_of(tmp_path, whole):
    """An order taken from it is named, unless a journal had the last word; so is what cannot be seen."""
    path = lay(tmp_path, whole | {SNAPSHOT: spoil(whole[SNAPSHOT], 3)})
    done = mend(path)
    assert done.recovered == (T0.key,)
    assert any("was not found" in note for note in done.notes)
    assert any(PREVIOUS in note for note in done.notes)


async def test_an_order_that_was_changed_in_its_place_is_doubted(tmp_path, whole):
    """The snapshot before says otherwise of the same version: which of the two is right, nobody can tell."""
    changed = whole[SNAPSHOT].replace(b'"task_id":"t2","state":"pending","created_at":1.0,"updated_at":1', b"%s" % (
        b'"task_id":"t2","state":"pending","created_at":1.0,"updated_at":9'
    ))  # fmt: skip
    path = lay(tmp_path, {SNAPSHOT: changed, PREVIOUS: whole[PREVIOUS]})
    assert mend(path).doubtful == (T2.key,)


async def test_a_digit_that_was_changed_is_kept_and_doubted(tmp_path, whole):
    """A line that can be read is kept as it is, and the report says that it cannot be checked."""
    changed = whole[SNAPSHOT].replace(b'"task_id":"t2","state":"pending","created_at":1.0', b"%s" % (
        b'"task_id":"t2","state":"pending","created_at":7.0'
    ))  # fmt: skip
    assert changed != whole[SNAPSHOT]
    path = lay(tmp_path, {SNAPSHOT: changed})
    done = mend(path)
    assert "checksum is wrong" in done.notes[0]
    assert (await started(path))[T2.key].created_at == 7.0


@pytest.mark.parametrize("between", [b"},,", b"},\0\0,", b"},xx}", b'},\n"'])
async def test_documents_on_one_line_are_told_apart(tmp_path, whole, between):
    """A newline that is another byte now costs no document."""
    path = lay(tmp_path, {SNAPSHOT: whole[SNAPSHOT].replace(b'},\n"2": {', between + b'"2": {')})
    mend(path)
    assert versions(await started(path)) == {"t1": 1, "t2": 1, "t3": 2}


@pytest.mark.parametrize("higher", [1, 2])
async def test_of_two_orders_of_one_key_the_higher_version_is_kept(tmp_path, higher):
    """Whichever stands first, and the other is told of."""
    path = tmp_path / SNAPSHOT
    write_snapshot(path, {higher: replace(T1, version=7), 3 - higher: T1}, About(generation=1))
    done = mend(path)
    assert versions(await started(path)) == {"t1": 7}
    assert f"document {3 - higher} of table 'orders' cannot be used: an order of this key" in done.lost[0].what


async def test_a_later_order_of_one_key_is_the_one_that_counts(tmp_path):
    """An order that was forgotten and added again begins at version 1, and is not given up for the old one."""
    path = tmp_path / SNAPSHOT
    write_snapshot(path, {1: replace(T3, version=9), 2: replace(an_order("t3"), created_at=50.0)}, About(generation=1))
    mend(path)
    assert versions(await started(path)) == {"t3": 1}


async def test_events_without_their_order_are_dropped_and_told_of(tmp_path, whole):
    """They are of no use to anybody; each is said."""
    path = tmp_path / SNAPSHOT
    events = [(1, event(T1)), (2, event(T5)), (3, event(T5, 2))]
    write_snapshot(path, {1: T1}, About(generation=1), events)
    done = mend(path)
    assert [loss.keys for loss in done.lost] == [(T5.key,), (T5.key,)]
    assert versions(await started(path)) == {"t1": 1}


async def test_documents_that_are_no_orders_are_told_of(tmp_path, whole):
    """A TinyDB file in which one document is none keeps the others."""
    good = msgspec.json.encode({"orders": {"1": T1, "2": {"task_id": "x"}, "word": T2}, "mine": {"1": {"a": 1}}})
    path = lay(tmp_path, {SNAPSHOT: good})
    done = mend(path)
    assert len(done.lost) == 1
    assert "document 2 of table 'orders'" in done.lost[0].what
    assert versions(await started(path)) == {"t1": 1, "t2": 1}
    assert b'"mine": {\n"1": {"a":1}' in path.read_bytes()


async def test_what_tinydb_left_behind_a_file_is_no_obstacle(tmp_path, whole):
    """A TinyDB file that was shortened and then not cut begins with what was written last."""
    path = lay(tmp_path, {SNAPSHOT: msgspec.json.encode({"orders": {"1": T1}}) + b'"old"}}'})
    done = mend(path)
    assert done.lost[0].what == "other bytes follow the end"
    assert versions(await started(path)) == {"t1": 1}


async def test_an_order_whose_removal_was_lost_keeps_a_place(tmp_path):
    """A change in the place of another order puts neither of them out."""
    path = tmp_path / SNAPSHOT
    write_snapshot(path, {1: T3}, About(generation=1, sequence=0))
    write_journal(tmp_path / JOURNAL, 2, 0, [[Delete("orders", 1)], [put("orders", 1, line(T1))]])
    (tmp_path / JOURNAL).write_bytes(spoil((tmp_path / JOURNAL).read_bytes(), 2))
    mend(path)
    assert versions(await started(path)) == {"t1": 1, "t3": 2}


async def test_a_journal_of_another_store_removes_nothing(tmp_path):
    """It goes on from where this snapshot has long been: its orders are added, its removals mean others."""
    path = tmp_path / SNAPSHOT
    write_snapshot(path, {1: T1, 2: T3, 3: NEXT_T2}, About(generation=1, sequence=50))
    frames = [
        [put("orders", 3, line(T2))],
        [put("orders", 1, line(T5))],
        [put("orders", 1, line(replace(T5, version=2)))],
        [Delete("orders", 2)],
    ]
    write_journal(tmp_path / JOURNAL, 2, 0, frames)
    mend(path)
    assert versions(await started(path)) == {"t1": 1, "t2": 2, "t3": 2, "t5": 2}


async def test_a_journal_that_is_in_the_snapshot_is_not_applied_again(tmp_path, whole):
    """What was removed since does not come back with it."""
    path = tmp_path / SNAPSHOT
    write_snapshot(path, {1: T1}, About(generation=4, sequence=12))
    lay(tmp_path, {FULL: whole[FULL], JOURNAL: spoil(whole[JOURNAL], 2)})
    mend(path)
    assert versions(await started(path)) == {"t1": 1, "t2": 2}


async def test_a_journal_of_an_earlier_generation_is_not_applied(tmp_path, whole):
    """Whatever its numbers are: an opening store would take it for folded, too."""
    path = tmp_path / SNAPSHOT
    write_snapshot(path, {1: T1}, About(generation=4, sequence=5))
    lay(tmp_path, {FULL: whole[FULL]})
    write_journal(tmp_path / JOURNAL, 5, 5, [[put("orders", 7, line(T5))], [put("orders", 2, line(T2))]])
    (tmp_path / JOURNAL).write_bytes(spoil((tmp_path / JOURNAL).read_bytes(), 2))
    mend(path)
    assert versions(await started(path)) == {"t1": 1, "t2": 1}


async def test_a_history_is_put_in_order_and_kept_short(tmp_path):
    """However many events there are, and wherever they stand, the last ones are kept in their order."""
    path = tmp_path / SNAPSHOT
    numbers = [*range(150, 0, -1), 7]
    events = [(n, event(T1, number)) for n, number in enumerate(numbers, start=1)]
    write_snapshot(path, {1: T1, 2: T1}, About(generation=1), events)
    mend(path)
    store = await TinyStore.open(path, now=lambda: 6.0, files=Files())
    history = await store.history(T1.key)
    await store.close()
    assert (len(history.events), history.dropped) == (100, 51)


async def test_a_snapshot_whose_journal_was_taken_away(tmp_path):
    """A snapshot that says that a journal continues it starts without that only after a repair."""
    running = tmp_path / "running" / SNAPSHOT
    running.parent.mkdir()
    store = await TinyStore.open(running, now=lambda: 5.0, files=Files())
    await store.add([T1])
    copied = running.read_bytes()
    await store.close()
    path = lay(tmp_path, {SNAPSHOT: copied})
    if verify(path).damage is None:
        pytest.skip("snapshots do not say yet whether a journal continues them")
    done = mend(path)
    assert done.lost[0].what == done.damage
    assert versions(await started(path)) == {}


# --- Refusals -----------------------------------------------------------------------------------------


def test_a_whole_store_is_not_repaired(tmp_path, whole):
    """There is nothing to repair, and nothing is touched."""
    path = lay(tmp_path, whole)
    with pytest.raises(StoreError, match="nothing to repair"):
        mend(path)
    assert contents(tmp_path) == whole


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    """Not even its lock."""
    with pytest.raises(StoreError, match="there is no store at"):
        mend(tmp_path / SNAPSHOT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("newer", [SNAPSHOT, JOURNAL])
def test_a_newer_store_is_not_repaired(tmp_path, whole, newer):
    """What we do not understand is not damage."""
    text = {
        SNAPSHOT: whole[SNAPSHOT].replace(b'"format":1', b'"format":2'),
        JOURNAL: seal(b'{"format":2}') + whole[JOURNAL],
    }[newer]
    path = lay(tmp_path, whole | {newer: text})
    before = contents(tmp_path)
    with pytest.raises(StoreDamaged, match="format 2"):
        mend(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "files",
    [
        {SNAPSHOT: b""},
        {SNAPSHOT: bytes(5000)},
        {SNAPSHOT: b"{}"},
        {SNAPSHOT: b'{"orders": {"1": {}}}'},
        {SNAPSHOT: b"", PREVIOUS: b""},
        {JOURNAL: b""},
        {PREVIOUS: b"\0"},
    ],
    ids=str,
)
def test_a_store_of_which_nothing_is_left_is_not_made_an_empty_one(tmp_path, files):
    """It is refused, and the hint says what is left to do."""
    path = lay(tmp_path, files)
    with pytest.raises(StoreDamaged, match="no order can be read") as info:
        mend(path)
    assert "poller store import" in info.value.hint
    assert contents(tmp_path) == files


async def test_a_store_in_use_is_not_repaired(tmp_path):
    """Whatever its files look like: whoever has it open writes to them."""
    path = tmp_path / SNAPSHOT
    store = await TinyStore.open(path, now=lambda: 5.0, files=Files())
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        mend(path)
    await store.close()


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    """A folder in the place of the snapshot is nothing that we could repair."""
    (tmp_path / SNAPSHOT).mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be repaired"):
        mend(tmp_path / SNAPSHOT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator can give files away")
def test_a_repair_by_the_administrator_leaves_the_files_to_their_owner(tmp_path, whole):
    """The service can open what it could open before, and the lock."""
    path = lay(tmp_path, whole | {JOURNAL: b""})
    os.chown(path, 4321, 4322)
    mend(path)
    for each in (path, tmp_path / "orders.json.lock"):
        assert (each.stat().st_uid, each.stat().st_gid) == (4321, 4322)


# --- Faults while it is repaired ------------------------------------------------------------------------


def damaged_store(whole):
    """A store with a hole in a journal and a damaged snapshot."""
    return whole | {JOURNAL: spoil(whole[JOURNAL], 2), SNAPSHOT: spoil(whole[SNAPSHOT], 3)}


async def expected_of(folder, damaged):
    """Repair without a fault; give how many operations it takes, and what is there then."""
    files = ScriptedFiles()
    path = lay(folder, damaged)
    mend(path, files=files)
    return len(files.calls), await started(path)


async def demand_repaired(folder, damaged, expected):
    """Whatever state a fault left: nothing of the old files is lost, and one more repair does the rest."""
    there = contents(folder).values()
    assert all(text in there for text in damaged.values())
    if verify(folder / SNAPSHOT).damage is not None:
        mend(folder / SNAPSHOT)
    assert await started(folder / SNAPSHOT) == expected


async def test_a_repair_may_end_before_any_operation(tmp_path, whole):
    """The damaged store is there, or the repaired one, with all that there was beside it."""
    damaged = damaged_store(whole)
    count, expected = await expected_of(tmp_path / "whole", damaged)
    for number in range(1, count + 1):
        path = lay(tmp_path / f"{number}", damaged)

        def plan(call, name, number=number):
            if call >= number and name != "close":
                raise Crash

        with pytest.raises(Crash):
            mend(path, files=ScriptedFiles(plan))
        await demand_repaired(path.parent, damaged, expected)


def test_what_decides_is_on_disk_before_anything_is_removed(tmp_path, whole):
    """The further names, then the new snapshot's, then the removal of the journals: each synced before the next."""
    files = ScriptedFiles()
    mend(lay(tmp_path, damaged_store(whole)), files=files)
    changes = [name for name in files.calls if name in {"sync", "link", "rename", "unlink", "sync_folder"}]
    linked, decided, removed = (["unlink", "link"] * 3, ["sync_folder", "rename"], ["sync_folder", "unlink", "unlink"])
    assert changes == ["unlink", "sync", *linked, *decided, *removed, "sync_folder"]


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
async def test_any_operation_of_a_repair_may_fail(tmp_path, whole, for_good):
    """It is said, and may be tried again."""
    damaged = damaged_store(whole)
    count, expected = await expected_of(tmp_path / "whole", damaged)
    failures = 0
    for number in range(1, count + 1):
        path = lay(tmp_path / f"{number}", damaged)

        def plan(call, name, number=number):
            if call == number or (for_good and call > number):
                raise OSError(errno.ENOSPC, "No space left on device")

        try:
            mend(path, files=ScriptedFiles(plan))
        except StoreUnavailable:
            failures += 1
        await demand_repaired(path.parent, damaged, expected)
    assert failures > count // 2


# --- Damage at random -----------------------------------------------------------------------------------


async def lived(folder, chance):
    """Lead a store through a random life; give its files in mid-life, and every order that it was ever told."""
    path, told = folder / SNAPSHOT, []
    store = await TinyStore.open(path, now=lambda: 5.0, files=Files(), full=3000)
    for n in range(chance.randrange(20, 60)):
        order = an_order(f"t{n}", context={"note": "deadbeef [1,[]] {" * chance.randrange(3)})
        await store.add([order])
        told.append(order)
        if chance.random() < 0.7:
            before = await store.get(chance.choice(told).key)
            after = before and replace(before, version=before.version + 1, checks=before.checks + 1)
            if after is not None and chance.random() < 0.3:
                after = replace(after, state=State.DONE, due_at=None, updated_at=chance.random() * 10)
            if after is not None and after.state is before.state:
                await store.save(after, Event(at=3.0, event="trouble"))
                told.append(after)
        if chance.random() < 0.1:
            await store.forget(before=chance.random() * 5)
    await store._folded()
    files = contents(folder)
    orders = {order.key: order for order in (await store.search(Query(limit=500))).orders}
    await store.close()
    return files, orders, told


def spoilt(text, chance):
    """Do one kind of damage somewhere."""
    a, b, c = sorted(chance.randrange(len(text) + 1) for _ in range(3))
    return chance.choice([
        lambda: text[:a] + bytes([text[a % len(text)] ^ 1 << chance.randrange(8)]) + text[a + 1 :],
        lambda: text[:a] + text[b:],
        lambda: text[:b] + text[a:],
        lambda: text[:a] + text[b:c] + text[a:b] + text[c:],
        lambda: text[:a] + bytes(b - a) + text[b:],
        lambda: text[:a] + chance.randbytes(min(b - a, 40)) + text[a + min(b - a, 40) :],
    ])()  # fmt: skip


def mentions(text, key):
    """Tell whether a line is about an order."""
    return b'"task_id":"%s"' % key.task_id.encode() in text


STORES = [3, pytest.param(60, marks=[pytest.mark.heavy, pytest.mark.timeout(3600)])]


async def damage_at_random(tmp_path, stores, names, check):
    """Damage some files of random stores; repair what is refused, and have it checked."""
    chance = random.Random(stores)
    repaired = 0
    for number in range(stores):
        (tmp_path / f"{number}").mkdir()
        files, orders, told = await lived(tmp_path / f"{number}", chance)
        for _ in range(25):
            victim = chance.choice([name for name in names if name in files])
            damaged = files | {victim: spoilt(files[victim].rstrip(b"\0"), chance)}
            path = lay(tmp_path / "damaged", damaged)
            if verify(path).damage is not None and not refused_as_newer(path):
                repaired += 1
                check(files, damaged, victim, orders, told, await started(path))
            shutil.rmtree(path.parent)
    assert repaired > 10 * stores


def refused_as_newer(path):
    """Repair; a flipped digit may make a format of ours a newer one, which is not touched."""
    try:
        mend(path)
    except StoreDamaged as error:
        if "is in format" not in str(error):
            raise
        return True
    return False


@pytest.mark.parametrize("stores", STORES)
async def test_random_damage_to_a_journal_costs_what_it_hit(tmp_path, stores):
    """Every order is one that was once written; those whose last frame still stands somewhere are as they were."""

    def check(files, damaged, victim, orders, told, there):
        lines = [each for name in (FULL, JOURNAL) for each in files.get(name, b"").splitlines()[1:]]
        hit = [each for each in lines if not any(each in damaged.get(name, b"") for name in (FULL, JOURNAL))]
        assert all(order in told for order in there.values())
        for key, order in orders.items():
            said = [each for each in lines if mentions(each, key)]
            if not said or said[-1] not in hit:
                assert there.get(key) == order

    await damage_at_random(tmp_path, stores, [FULL, JOURNAL], check)


@pytest.mark.parametrize("stores", STORES)
async def test_random_damage_to_a_snapshot_costs_what_it_hit(tmp_path, stores):
    """Orders whose line still stands are as they were; one that was never written straddles the damage."""

    def check(files, damaged, victim, orders, told, there):
        strange = [order for order in there.values() if order not in told]
        assert all(line(order) not in files[victim] for order in strange)
        assert len(strange) <= 3
        for key, order in orders.items():
            if any(mentions(files.get(name, b""), key) for name in (FULL, JOURNAL)):
                continue
            if re.search(rb'"\d+": ' + re.escape(line(order)), damaged[victim]):
                assert there[key] == order or there[key] in strange
            assert key in there or line(order) not in damaged.get(PREVIOUS, b"")

    await damage_at_random(tmp_path, stores, [SNAPSHOT], check)


def test_a_repaired_snapshot_follows_every_journal(tmp_path, whole):
    """So a journal that was not yet removed when the repair ended is never applied to it."""
    path = lay(tmp_path, whole | {SNAPSHOT: b""})
    mend(path)
    about = Snapshot(path, files=Files()).about
    assert (about.generation, about.sequence) == (6, 15)
    assert Names(path).journal.exists() is False
