"""What happens to a store between two steps: callers that come late, files that others change, folders that go away."""

import asyncio
import errno
import gc
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from poller.errors import StoreError, StoreUnavailable
from poller.order import Key, State
from poller.store import Query
from poller.stores import folding, pages, shelf, tinydb, turns
from poller.stores.care.verify import verify
from poller.stores.files import Files
from poller.stores.journal import Create, encode
from poller.stores.ledger import Ledger
from poller.stores.memory import MemoryStore
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests.stores import ScriptedFiles, an_order


@pytest.fixture
def path(tmp_path):
    """Where the store is."""
    return tmp_path / "orders.json"


async def opened(path, **given):
    """Open a store."""
    return await TinyStore.open(path, now=time.time, **given)


# --- Callers that come late --------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "reopen"])
async def test_whoever_comes_while_it_ends_is_refused(path, end):
    """The change under way is kept; one that comes later is refused at once, and nobody waits for ever."""
    store = await opened(path)
    first = asyncio.create_task(store.add([an_order("t1")]))
    await asyncio.sleep(0)
    ending = asyncio.create_task(getattr(store, end)())
    while store.problem is None:
        await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await asyncio.wait_for(store.add([an_order("t2")]), 10)
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.save(replace(an_order("t1"), version=2), durable=False)
    await asyncio.gather(first, ending)
    await store.close()
    assert verify(path).orders[State.PENDING] == 1


async def test_a_search_over_a_reopening_sees_all_orders(path):
    """Whoever searches while the store is read anew gets what is there, not what was left of before."""
    store = await opened(path)
    for part in range(4):
        await store.add([an_order(f"{part}-{n}") for n in range(1000)])
    query = Query(text="-", sort="task_id", limit=1)
    searches = [asyncio.create_task(store.search(query)) for _ in range(4)]
    await asyncio.sleep(0)
    await store.reopen()
    assert [page.count for page in await asyncio.gather(*searches)] == [4000] * 4
    await store.close()


class Held:
    """Searches that have come to the end of their n-th slice, until they are let go."""

    def __init__(self, slices):
        self.come, self.go = asyncio.Event(), asyncio.Event()
        self._left = slices

    async def over(self):
        self._left -= 1
        if not self._left:
            self.come.set()
            await self.go.wait()


@pytest.fixture
def hold(monkeypatch):
    """Have a walk take several pages, of 16 ids each, in slices of 5, and stop where it is told to."""
    monkeypatch.setattr(pages, "_SHIFT", 4)
    monkeypatch.setattr(shelf, "_MANY", 10)
    monkeypatch.setattr(tinydb, "_SLICE", 5)

    def holding(slices):
        held = Held(slices)
        monkeypatch.setattr(turns.Turn, "over", held.over)
        return held

    return holding


@pytest.mark.parametrize("slices", range(1, 21))
async def test_a_search_that_a_reopening_ends_early_begins_anew(path, hold, slices):
    """However far it had come when what it reads is taken apart."""
    store, held = await opened(path), hold(slices)
    await store.add([an_order(f"t{n}") for n in range(100)])
    search = asyncio.create_task(store.search(Query(sort="task_id", limit=1)))
    await held.come.wait()
    await store.reopen()
    held.go.set()
    assert (await search).count == 100
    await store.close()


async def test_a_search_counts_what_was_there_when_it_began(path, hold):
    """An order that was met, forgotten and added again is not met twice, nor is one that came meanwhile."""
    store, held = await opened(path), hold(1)
    await store.add([replace(an_order(f"t{n}"), state=State.CANCELED, due_at=None) for n in range(100)])
    search = asyncio.create_task(store.search(Query(sort="task_id")))
    await held.come.wait()
    assert store._shelf.forget([1], before=1e12) == 1
    await store.add([an_order("t0"), an_order("another")])
    held.go.set()
    assert (await search).count == 100
    await store.close()


async def test_orders_for_which_there_are_no_ids_are_refused(path):
    """What was added under an id too high could not be read at the next start."""
    line = msgspec.json.encode(an_order("t1")).decode()
    path.write_text(f'{{"orders": {{"{2**40 - 1}": {line}}}}}')
    store = await opened(path)
    with pytest.raises(StoreError, match="after which none can come"):
        await store.add([an_order("t2")])
    await store.close()
    store = await opened(path)
    assert sum((await store.counts()).values()) == 1
    await store.close()


# --- Files that others change, and folders that go away -----------------------------------------------


async def full(path):
    """Open a store whose journal is full, and say what it holds."""
    store = await opened(path, full=1)
    for n in range(4):
        await store.add([an_order(f"t{n}")])
    return store


async def test_a_snapshot_that_others_wrote_meanwhile_is_not_folded_over(path):
    """A program that overwrites the file of a running store does not make its orders go in silence."""
    told = []
    store = await opened(path, report=told.append)
    await store.add([an_order("t1")])
    path.write_text('{"orders": {}}')
    store._ledger._full = 1
    await store.add([an_order("t2")])
    await store._folded()
    assert "was changed by another program while poller had it open" in told[0]
    await store.close()
    assert len(told) == 2
    assert verify(path).damage is not None
    assert Names(path).full.exists()


def test_a_journal_goes_only_when_it_was_folded(path):
    """Whoever says that it is done and has done nothing, or something else, does not cost what was acknowledged."""
    ledger = Ledger(path, now=time.time, make=lambda _: None, full=1)
    ledger.open()
    ledger.begin()
    for name in ("one", "two"):
        ledger.append([encode([Create(name)])])
    assert ledger.folding
    with pytest.raises(StoreError, match="is generation 0 where 1 belongs"):
        ledger.fold()
    ledger._make = lambda names: os.link(names.snapshot, names.folded)
    with pytest.raises(StoreError, match="is generation 0 where 1 belongs"):
        ledger.fold()
    assert Names(path).full.exists()
    ledger._make = folding.Elsewhere()
    ledger.fold()
    assert not Names(path).full.exists()
    ledger.close()
    assert b'"one"' in path.read_bytes()


def test_nothing_is_folded_once_the_lock_is_gone(path):
    """A snapshot is replaced only by whoever holds the store."""
    ledger = Ledger(path, now=time.time, full=1)
    ledger.open()
    ledger.begin()
    for name in ("one", "two"):
        ledger.append([encode([Create(name)])])
    before = path.read_bytes()
    Names(path).lock.unlink()
    with pytest.raises(StoreError, match="was removed or replaced"):
        ledger.fold()
    assert path.read_bytes() == before
    ledger.abandon()


async def test_modules_where_poller_is_started_are_not_those_that_fold(path, tmp_path, monkeypatch):
    """The folder that a service is started from has nothing to say in the process that folds."""
    (tmp_path / "msgspec.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    store = await full(path)
    await store._folded()
    assert not Names(path).full.exists()
    await store.close()
    assert verify(path).orders[State.PENDING] == 4


async def test_a_folder_that_is_away_is_waited_for(path):
    """A disk that goes and comes back is a failure of the store, not of its settings."""
    path = path.parent / "disk" / path.name
    path.parent.mkdir()
    store = await opened(path)
    await store.add([an_order("t1")])
    path.parent.rename(path.parent.with_name("away"))
    with pytest.raises(StoreUnavailable):
        await store.add([an_order("t2")])
    with pytest.raises(StoreError):
        await store.reopen()
    path.parent.with_name("away").rename(path.parent)
    await store.reopen()
    assert await store.get(Key("grafx", "t1")) is not None
    await store.close()


async def test_a_descriptor_is_closed_once(path):
    """A close that fails is over all the same: its number may be somebody else's by then."""

    class Failing(Files):
        closed: list[int]

        def close(self, descriptor: int) -> None:
            self.closed.append(descriptor)
            super().close(descriptor)
            raise OSError(errno.EIO, "Input/output error")

    files = Failing()
    ledger = Ledger(path, now=time.time, files=Files(), full=1)
    ledger.open()
    ledger.begin()
    files.closed = []
    ledger._journal._file._files = files
    for name in ("one", "two"):
        ledger.append([encode([Create(name)])])
    assert ledger.folding
    ledger.abandon()
    assert len(files.closed) == len(set(files.closed)) == 1


# --- What a process keeps ------------------------------------------------------------------------------


async def test_a_load_leaves_the_interpreter_as_it_was(tmp_path):
    """Also two at once, and one that fails."""
    before = (gc.isenabled(), sys.getswitchinterval())
    (tmp_path / "bad.json").write_text("[]")
    loads = [opened(tmp_path / f"{name}.json") for name in ("one", "two", "bad")]
    stores = await asyncio.gather(*loads, return_exceptions=True)
    assert isinstance(stores[2], StoreError)
    assert (gc.isenabled(), sys.getswitchinterval()) == before
    for store in stores[:2]:
        await store.close()


async def test_a_reopening_that_fails_keeps_nothing(path):
    """However often a disk is asked in vain, what was read of it goes again."""
    files = ScriptedFiles()
    store = await opened(path, files=files)
    await store.add([an_order(f"t{n}", context={"marker": "kept-for-ever"}) for n in range(500)])

    def plan(number, name):
        if name == "create":
            raise OSError(errno.ENOSPC, "No space left on device")

    files.plan = plan
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="No space left"):
            await store.reopen()
    gc.unfreeze()
    gc.collect()
    edits = [each for each in gc.get_objects() if type(each).__name__ == "_TableEdits" and each._lines]
    assert edits == []
    files.plan = lambda number, name: None
    await store.reopen()
    await store.close()


async def test_claims_are_forgotten_by_a_reopening():
    """The store for tests gives back what was claimed as it was before."""
    store, order = MemoryStore(), an_order("t1")
    await store.add([order])
    await store.claim("grafx", limit=1, now=20.0, until=30.0)
    await store.claim("grafx", limit=1, now=40.0, until=50.0)
    await store.reopen()
    assert await store.get(order.key) == order
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.reopen()


# --- What searches find ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ({"who": "Smith & Sons"}, "smith & sons"),
        ({"who": "a\nb\tc"}, "b\tc"),
        ({"path": "a\\b/c"}, "\\b/c"),
        ({"who": "Straße"}, "STRASSE"),
        ({"n": 1e22}, "1e22"),
        ({"n": 1e-7}, "1e-7"),
        ({"n": 100000.0}, "100000.0"),
        ({"on": True}, "true"),
        ({"quoted": 'say "hi"'}, '"HI"'),
        ({"sign": "K"}, "k"),
    ],
)
async def test_a_text_is_found_however_it_is_written(path, context, text):
    """Both stores find it; so does a store that was founded from a TinyDB file of others."""
    order = an_order("order-1", context=context)
    others = path.with_name("others.json")
    others.write_bytes(msgspec.json.encode({"orders": {"1": order}}))
    stores = [MemoryStore(), await opened(path), await opened(others)]
    for store in stores[:2]:
        await store.add([order])
    counts = [(await store.search(Query(text=text))).count for store in stores]
    assert counts == [1, 1, 1]
    for store in stores:
        await store.close()


@pytest.mark.parametrize("after", [None, -1e300, 0.0, 1e300])
@pytest.mark.parametrize("descending", [True, False])
async def test_a_place_that_no_page_ended_at_is_a_place(path, after, descending):
    """A cursor may hold any time at all."""
    stores = [MemoryStore(), await opened(path)]
    query = Query(after=(after, "grafx", "t1"), descending=descending)
    found = []
    for store in stores:
        await store.add([an_order(f"t{n}", created_at=float(n)) for n in range(4)])
        page = await store.search(query)
        found.append([order.task_id for order in page.orders])
        await store.close()
    assert found[0] == found[1]


def test_the_path_of_the_package_is_the_first_that_is_looked_at() -> None:
    """The process that folds runs this very code."""
    assert Path(folding.__file__).is_relative_to(folding._HOME)


# --- Files that go away under a running store --------------------------------------------------------------


@pytest.mark.parametrize("left", ["nothing", "an older store"])
async def test_files_that_go_while_in_use_are_missed(path, left):
    """A store whose files were taken away, or replaced by older ones, is no new store, until they are back."""
    store = await opened(path)
    await store.add([an_order("t1")])
    away = path.with_name("away")
    away.mkdir()
    old = path.with_name("old")
    old.mkdir()
    async with asyncio.timeout(20):
        other = await opened(old / path.name)
        await other.close()
    await store.add([an_order("t2")])
    for each in [each for each in path.parent.iterdir() if each.is_file()]:
        each.rename(away / each.name)
    if left == "an older store":
        (old / path.name).rename(path)
    with pytest.raises(StoreUnavailable, match="was removed or replaced"):
        await store.add([an_order("t3")])
    with pytest.raises(StoreError, match=r"while (it was|they were) in use") as info:
        await store.reopen()
    assert "put the files back" in info.value.hint
    assert store.problem is not None
    for each in away.iterdir():
        each.rename(path.parent / each.name)
    await store.reopen()
    assert await store.get(Key("grafx", "t2")) is not None
    await store.close()


async def test_a_close_founds_nothing(path):
    """A store whose files are gone at its end is told of, and its place stays empty."""
    told = []
    store = await opened(path, report=told.append)
    await store.add([an_order("t1")])
    for each in (path, Names(path).journal):
        each.unlink()
    await store.close()
    assert "was removed while it was in use" in told[0]
    assert not path.exists()


async def test_nothing_is_acknowledged_into_a_journal_that_is_gone(path):
    """Whoever removes the journal of a running store stops it from accepting."""
    store = await opened(path)
    await store.add([an_order("t1")])
    Names(path).journal.unlink()
    with pytest.raises(StoreUnavailable, match=r"journal was removed or replaced"):
        await store.add([an_order("t2")])
    await store.close()


def test_a_fork_writes_nothing(path):
    """The child of a fork has the files open, and is not the one who holds them."""
    ledger = Ledger(path, now=time.time)
    ledger.open()
    ledger.begin()
    child = os.fork()
    if child == 0:
        try:
            ledger.append([encode([Create("child")])])
        except StoreError:
            ledger._lock.release()
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    ledger.append([encode([Create("parent")])])
    ledger.close()
    assert b'"parent"' in path.read_bytes()
    assert b'"child"' not in path.read_bytes()


async def test_a_link_without_a_target_is_no_new_store(path):
    """A link whose file is gone is a store that is gone."""
    path.symlink_to(path.with_name("elsewhere.json"))
    with pytest.raises(StoreError, match=r"is a link to .*elsewhere\.json, which is missing"):
        await opened(path)
    assert not path.with_name("elsewhere.json").exists()


async def test_what_may_not_be_on_disk_is_not_told(path):
    """After a failure the orders that it concerned, and listings, are refused until the disk was read again."""
    files = ScriptedFiles()
    store = await opened(path, files=files)
    one, two = an_order("t1"), an_order("t2")
    await store.add([one, two])

    def plan(number, name):
        if name == "sync":
            raise OSError(errno.EIO, "Input/output error")

    files.plan = plan
    with pytest.raises(StoreUnavailable):
        await store.save(replace(one, version=2, state=State.CANCELED, due_at=None))
    for read in (store.get(one.key), store.history(one.key), store.search(Query())):
        with pytest.raises(StoreUnavailable, match="Input/output"):
            await read
    assert await store.get(two.key) == two
    files.plan = lambda number, name: None
    await store.reopen()
    assert (await store.get(one.key)).version in {1, 2}
    await store.close()


async def test_a_close_does_not_wait_for_whoever_folds(path):
    """The process that folds is ended, and what it did not do is done at once."""
    store = await opened(path, full=1)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    start = folding._started

    def stopped(names):
        process = start(names)
        os.kill(process.pid, 19)
        loop.call_soon_threadsafe(begun.set)
        return process

    folding._started = stopped
    try:
        for n in range(2):
            await store.add([an_order(f"t{n}")])
        await asyncio.wait_for(begun.wait(), 10)
        await asyncio.wait_for(store.close(), 10)
    finally:
        folding._started = start
    assert verify(path).orders[State.PENDING] == 2
