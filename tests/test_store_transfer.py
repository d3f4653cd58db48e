"""Orders out of one store and into another: all that was known of them arrives, or nothing does."""

import errno
import io
import json
import os
import random
import stat

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from poller.errors import ConfigurationError, StoreDamaged, StoreError, StoreLocked, StoreUnavailable
from poller.event import Event
from poller.order import Key, State
from poller.store import Query
from poller.stores.care.cargo import Unfit, take_over, unpack
from poller.stores.care.export import lines, save
from poller.stores.care.imports import import_
from poller.stores.care.inventory import take_stock
from poller.stores.care.verify import verify
from poller.stores.files import Files
from poller.stores.snapshot import Snapshot
from poller.stores.tinydb import TinyStore
from tests.stores import Crash, ScriptedFiles, a_file, an_order, in_memory
from tests.strategies import orders

ONE = an_order("t1", context={"customer": "Zoë", "note": 'a\n"b": {'})
TWO = an_order("t2", state=State.HELD, batch="b", generation=3, version=9)
DONE = replace(ONE, version=2, state=State.DONE, due_at=None, files=(a_file(),))


async def stored(path, given=(ONE, TWO)):
    """Open a store and add orders; one of them has a history."""
    store = await TinyStore.open(path, now=lambda: 5.0, files=Files())
    await store.add(list(given))
    if ONE in given:
        await store.save(DONE, Event(at=3.0, event="done", files=("t1.pdf",)))
    return store


async def contents(path):
    """Read everything that a store holds, in the order in which it holds it."""
    stock = take_stock(path)
    store = await TinyStore.open(path, now=lambda: 6.0, files=Files())
    there = {key: (await store.get(key), await store.history(key)) for key in stock.orders}
    assert (await store.search(Query())).count == len(there)
    await store.close()
    return list(there.items())


def exported(path):
    """Export a store; give the bytes."""
    return b"".join(lines(take_stock(path)))


def cargo(text):
    """Read an export."""
    return unpack(io.BytesIO(text), name="it")


# --- Export -------------------------------------------------------------------------------------------


async def test_an_export_is_a_title_and_a_line_for_each_order(tmp_path):
    """Each line is an order with its history; the first says how many follow."""
    path = tmp_path / "orders.json"
    store = await stored(path)
    title, first, second = map(json.loads, exported(path).splitlines())
    assert (title["poller"], title["format"], title["count"]) == ("export", 1, 2)
    assert (first["order"]["task_id"], first["order"]["state"], first["order"]["version"]) == ("t1", "done", 2)
    assert [(event["event"], event["number"]) for event in first["history"]] == [("done", 1)]
    assert (second["order"]["task_id"], second["history"]) == ("t2", [])
    await store.close()


async def test_a_store_in_use_is_exported_as_one_that_is_not(tmp_path):
    """Journals included, and nothing is touched."""
    path = tmp_path / "orders.json"
    store = await stored(path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    during = exported(path)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    await store.close()
    assert exported(path) == during


def test_a_store_that_is_not_there_cannot_be_exported(tmp_path):
    """It is no store without orders."""
    with pytest.raises(StoreError, match="there is no store at"):
        take_stock(tmp_path / "orders.json")
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_store_is_not_exported(tmp_path):
    """Half of the orders under a title that says nothing of the others would be a lie."""
    path = tmp_path / "orders.json"
    await (await stored(path)).close()
    path.write_bytes(path.read_bytes().replace(b'"t2"', b'"t3"'))
    with pytest.raises(StoreDamaged, match="checksum"):
        take_stock(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"mine": {}}', "has no table 'orders'"),
        ('{"orders": {"1": {"task_id": "x"}}}', "document 1 of table 'orders' cannot be used"),
        ('{"orders": {"word": {}}}', "its id is no number from 0"),
    ],
)
def test_a_file_with_no_use_for_a_poller_is_not_exported(tmp_path, text, sentence):
    """A TinyDB file of somebody else is judged as an opening store judges it."""
    path = tmp_path / "orders.json"
    path.write_text(text)
    with pytest.raises(StoreDamaged, match=sentence):
        take_stock(path)
    assert sentence in verify(path).damage


async def test_a_store_that_is_replaced_while_it_is_read_is_read_again(tmp_path):
    """A snapshot that another takes the place of is not mixed with it; one that never stands still is given up."""
    path = tmp_path / "orders.json"
    await (await stored(path)).close()

    class Replaced(Files):
        times = 1

        def open(self, each):
            if self.times:
                self.times -= 1
                (tmp_path / "new").write_bytes(path.read_bytes())
                (tmp_path / "new").replace(path)
            return super().open(each)

    assert len(take_stock(path, files=Replaced()).orders) == 2
    files = Replaced()
    files.times = 1000
    with pytest.raises(StoreUnavailable, match="was replaced while it was read"):
        take_stock(path, files=files)


async def test_a_file_is_for_its_owner_and_never_written_over(tmp_path):
    """It is there whole or not at all; another of the name stays unless it is given up."""
    path, target = tmp_path / "orders.json", tmp_path / "export.ndjson"
    await (await stored(path)).close()
    stock = take_stock(path)
    save(stock, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_bytes() == exported(path)
    target.write_text("precious")
    with pytest.raises(StoreError, match="is there already") as info:
        save(stock, target)
    assert "--force" in info.value.hint
    assert target.read_text() == "precious"
    save(stock, target, force=True)
    assert target.read_bytes() == exported(path)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


async def test_an_export_that_fails_leaves_nothing(tmp_path):
    """Neither the file nor what was to become it."""
    path = tmp_path / "orders.json"
    await (await stored(path)).close()
    stock = take_stock(path)
    stock.events[ONE.key] = 7  # whatever goes wrong while it is written
    with pytest.raises(TypeError):
        save(stock, tmp_path / "export.ndjson")
    assert not [each for each in tmp_path.iterdir() if "export" in each.name]


# --- There and back -----------------------------------------------------------------------------------


events = st.builds(
    Event, at=st.floats(0, 1e9), event=st.sampled_from(["trouble", "done"]), reason=st.none() | st.text()
)


@settings(max_examples=40)
@given(st.lists(st.tuples(orders(), st.lists(events, max_size=3)), unique_by=lambda pair: pair[0].key, max_size=6))
async def test_all_that_was_known_arrives(given):
    """Orders, their order, versions, generations, files and histories are the same after a round trip."""
    with in_memory() as folder:
        store = await TinyStore.open(folder / "a.json", now=lambda: 5.0, files=Files())
        await store.add([order for order, _ in given])
        for order, history in given:
            for n, event in enumerate(history, start=1):
                await store.save(replace(order, version=order.version + n), event)
        await store.close()
        text = exported(folder / "a.json")
        done = import_(cargo(text), folder / "b.json")
        assert (done.founded, done.added) == (True, len(given))
        assert exported(folder / "b.json") == text
        assert await contents(folder / "b.json") == await contents(folder / "a.json")


async def test_a_short_history_remembers_how_much_was_forgotten(tmp_path):
    """The numbers of events go with them, and the next event follows."""
    store = await stored(tmp_path / "a.json", [ONE])
    for n in range(120):
        await store.save(replace(DONE, version=3 + n), Event(at=4.0, event="trouble"))
    await store.close()
    import_(take_over(tmp_path / "a.json"), tmp_path / "b.json")
    store = await TinyStore.open(tmp_path / "b.json", now=lambda: 5.0, files=Files())
    assert (await store.history(ONE.key)).dropped == 22
    await store.save(replace(DONE, version=123), Event(at=4.0, event="trouble"))
    assert (await store.history(ONE.key)).dropped == 23
    await store.close()


# --- Import -------------------------------------------------------------------------------------------


async def export_of(tmp_path):
    """Make an export."""
    await (await stored(tmp_path / "a.json")).close()
    return exported(tmp_path / "a.json")


async def test_what_is_there_and_equal_is_left_alone(tmp_path):
    """The second time nothing is new, and no byte changes; only what is missing is added."""
    text = await export_of(tmp_path)
    path = tmp_path / "b.json"
    await (await stored(path, [an_order("t0"), TWO])).close()
    done = import_(cargo(text), path)
    assert (done.founded, done.added, done.replaced, done.equal) == (False, 1, 0, 1)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert import_(cargo(text), path).equal == 2
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    assert [key.task_id for key, _ in await contents(path)] == ["t0", "t2", "t1"]


async def test_another_spelling_is_no_difference(tmp_path):
    """Spaces and the order of fields say nothing."""
    text = await export_of(tmp_path)
    title, *rest = text.splitlines()
    respelt = [json.dumps(json.loads(each), sort_keys=True, indent=None).encode() for each in rest]
    done = import_(cargo(b"\n".join([title, *respelt])), tmp_path / "a.json")
    assert done.equal == 2
    import_(cargo(b"\n".join([title, *respelt])), tmp_path / "b.json")
    assert b": " not in take_stock(tmp_path / "b.json").orders[TWO.key].line


async def test_what_differs_is_a_conflict_unless_it_is_to_be_replaced(tmp_path):
    """Nothing is imported, and the keys are named; or the imported order is taken with its history."""
    text = await export_of(tmp_path)
    path = tmp_path / "b.json"
    await (await stored(path, [an_order("t1", version=5), an_order("t9")])).close()
    before = path.read_bytes()
    with pytest.raises(Unfit, match="1 of the orders") as info:
        import_(cargo(text), path)
    assert info.value.problems == (("", "t1 of grafx"),)
    assert path.read_bytes() == before
    done = import_(cargo(text), path, replace=True)
    assert (done.added, done.replaced) == (1, 1)
    assert (tmp_path / "b.json.previous").read_bytes() == before
    there = await contents(path)
    assert [key.task_id for key, _ in there] == ["t1", "t9", "t2"]
    assert dict(there)[ONE.key] == dict(await contents(tmp_path / "a.json"))[ONE.key]


async def test_a_history_that_differs_is_a_difference(tmp_path):
    """An order is what happened to it, too."""
    text = await export_of(tmp_path)
    with pytest.raises(Unfit):
        import_(cargo(text.replace(b'"event":"done"', b'"event":"gone"')), tmp_path / "a.json")
    done = import_(
        cargo(text.replace(b'"history":[{', b'"history":[{"reason":"x",')), tmp_path / "a.json", replace=True
    )
    assert done.replaced == 1
    assert [event.reason for event in dict(await contents(tmp_path / "a.json"))[ONE.key][1].events] == [None, "x"]


async def test_a_journal_that_was_left_is_folded_in(tmp_path):
    """A store whose process ended is imported into as if it had been started first; a torn tail is told of."""
    text = await export_of(tmp_path)
    store = await stored(tmp_path / "live.json", [an_order("t7")])
    left = {each.name: each.read_bytes() for each in tmp_path.iterdir() if each.name.startswith("live.json")}
    await store.close()
    for name, content in left.items():
        (tmp_path / name).write_bytes(content)
    journal = tmp_path / "live.json.journal"
    journal.write_bytes(journal.read_bytes().rstrip(b"\0") + b'deadbeef [9,[["pu')
    done = import_(cargo(text), tmp_path / "live.json")
    assert (done.added, done.torn.size) == (2, 17)
    assert not journal.exists()
    assert [key.task_id for key, _ in await contents(tmp_path / "live.json")] == ["t7", "t1", "t2"]
    assert Snapshot(tmp_path / "live.json.previous", files=Files()).about.generation == 0


@pytest.mark.parametrize(
    "text",
    [
        b'{"orders": {"1": %s}}' % msgspec.json.encode(ONE),
        b'{"events": {}, "orders": {"7": %s}, "mine": {"1": {}}}' % msgspec.json.encode(ONE),
        msgspec.json.format(b'{"orders": {"1": %s}}' % msgspec.json.encode(ONE)),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
async def test_a_tinydb_file_is_imported(tmp_path, text, piped):
    """Somebody else's, with our tables, in whatever layout, also through a pipe."""
    (tmp_path / "theirs.json").write_bytes(text)
    taken = cargo(text) if piped else take_over(tmp_path / "theirs.json")
    assert import_(taken, tmp_path / "b.json").added == 1
    assert [each[1][0] for each in await contents(tmp_path / "b.json")] == [ONE]


async def test_a_backup_with_its_journal_is_imported_whole(tmp_path):
    """The files of a store in use, copied together, hold all that it held."""
    store = await stored(tmp_path / "a.json")
    done = import_(take_over(tmp_path / "a.json"), tmp_path / "b.json")
    await store.close()
    assert done.added == 2
    assert exported(tmp_path / "b.json") == exported(tmp_path / "a.json")


async def test_a_snapshot_that_was_changed_is_not_imported(tmp_path):
    """Through a pipe or from a file, its checksum counts; complaints name what was given."""
    await export_of(tmp_path)
    text = (tmp_path / "a.json").read_bytes().replace(b'"t2"', b'"t3"')
    (tmp_path / "a.json").write_bytes(text)
    for take, name in ((lambda: take_over(tmp_path / "a.json"), "a.json"), (lambda: cargo(text), "it")):
        with pytest.raises(StoreDamaged, match=f"{name}: its checksum"):
            take()


BAD = [
    (b"{}", "line 4", "missing required field `order`"),
    (b"rubbish", "line 4", "malformed"),
    (b"", "line 4", "truncated"),
    (b'{"order":{"task_id":"x"}}', "line 4", "missing required field"),
    (b'{"order":%s,"more":1}' % msgspec.json.encode(an_order("t3")), "line 4", "unknown field `more`"),
    (b'{"order":%s}' % msgspec.json.encode(an_order("t3", due_at=None)), "line 4", "due at no time"),
    (b'{"order":%s}' % msgspec.json.encode(an_order("t3", created_at=1e305)), "line 4", "no clock"),
    (b'{"order":%s}' % msgspec.json.encode(TWO), "line 4", "'t2' of grafx was there before"),
    (
        b'{"order":%s,"history":[{"remote":"grafx","task_id":"t9","number":1,"at":1,"event":"x"}]}'
        % msgspec.json.encode(an_order("t3")),
        "line 4",
        "an event of order 't9'",
    ),
    (
        b'{"order":%s,"history":[%s]}'
        % (
            msgspec.json.encode(an_order("t3")),
            b",".join([b'{"remote":"grafx","task_id":"t3","number":2,"at":1,"event":"x"}'] * 2),
        ),
        "line 4",
        "event 2 behind event 2",
    ),
    (b'{"order":%s}' % msgspec.json.encode(an_order("t3")).replace(b"t3", b"\xff"), "line 4", "utf-8"),
]


@pytest.mark.parametrize(("bad", "place", "what"), BAD)
async def test_a_line_that_cannot_be_used_is_named(tmp_path, bad, place, what):
    """By its number, with what is wrong; and nothing of the rest is taken."""
    text = await export_of(tmp_path)
    with pytest.raises(Unfit, match="it cannot be imported: 1 of its lines") as info:
        cargo(text.replace(b'"count":2', b'"count":3') + bad + b"\n")
    ((where, why),) = info.value.problems
    assert (where, what.lower() in why.lower()) == (place, True), why


async def test_many_bad_lines_are_not_all_listed(tmp_path):
    """Twenty, and how many more there are."""
    text = await export_of(tmp_path)
    with pytest.raises(Unfit, match="30 of its lines") as info:
        cargo(text + b"{}\n" * 30)
    assert len(info.value.problems) == 21
    assert info.value.problems[-1] == ("", "and 10 more")


async def test_an_export_that_was_cut_is_refused(tmp_path):
    """Whole lines that are missing show in the count, a part of one as a bad line."""
    text = await export_of(tmp_path)
    lines_ = text.splitlines(keepends=True)
    with pytest.raises(StoreError, match="holds 1 orders where its first line says 2"):
        cargo(b"".join(lines_[:-1]))
    with pytest.raises(Unfit, match="1 of its lines"):
        cargo(text[:-9])


async def test_an_export_of_a_later_format_is_refused(tmp_path):
    """What we do not understand is not guessed at."""
    text = await export_of(tmp_path)
    with pytest.raises(StoreError, match="an export of format 2; this version knows 1"):
        cargo(text.replace(b'"format":1', b'"format":2', 1))


@pytest.mark.parametrize("text", [b"", b"[]", b"hello", b"{}", b'{"mine": {}}', b"\0" * 99])
def test_a_file_that_holds_no_orders_is_refused(tmp_path, text):
    """Neither an export nor a TinyDB file of ours."""
    with pytest.raises(StoreError):
        cargo(text)


async def test_a_store_in_use_takes_no_import(tmp_path):
    """Whoever has it open would not know of it."""
    text = await export_of(tmp_path)
    store = await stored(tmp_path / "b.json")
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        import_(cargo(text), tmp_path / "b.json")
    await store.close()


async def test_a_damaged_store_takes_no_import(tmp_path):
    """It is to be repaired first."""
    text = await export_of(tmp_path)
    (tmp_path / "b.json").write_bytes(b"")
    with pytest.raises(StoreDamaged, match="is empty"):
        import_(cargo(text), tmp_path / "b.json")


async def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    """A disk that is not mounted is no new store."""
    text = await export_of(tmp_path)
    with pytest.raises(ConfigurationError, match="there is no folder"):
        import_(cargo(text), tmp_path / "nowhere" / "b.json")


# --- Faults while it is imported ------------------------------------------------------------------------


async def import_with(tmp_path, text, number, fail):
    """Import into a store with a fault at the n-th operation; tell whether all or nothing of it is there."""
    path = tmp_path / f"{number}" / "orders.json"
    path.parent.mkdir()
    await (await stored(path, [an_order("t0"), an_order("t1")])).close()
    before = await contents(path)
    files = ScriptedFiles(lambda call, name: fail(call, name, number))
    try:
        import_(cargo(text), path, replace=True, files=files)
    except (Crash, StoreUnavailable):
        assert number <= len(files.calls)
    there = await contents(path)
    assert there == before or [key.task_id for key, _ in there] == ["t0", "t1", "t2"]
    assert there == before or dict(there)[ONE.key][0] == DONE
    return len(files.calls), there != before


def crash(call, name, number):
    """End the process before an operation, and do nothing any more after it."""
    if call >= number and name != "close":
        raise Crash


def fail(call, name, number):
    """Let the disk fail for good from an operation on."""
    if call >= number:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", [crash, fail])
async def test_an_import_happens_or_does_not(tmp_path, fault):
    """Wherever it ends, the store starts with all of it or with none."""
    text = await export_of(tmp_path)
    count, _ = await import_with(tmp_path, text, 10**6, fault)
    happened = [(await import_with(tmp_path, text, number, fault))[1] for number in range(1, count + 1)]
    assert happened == sorted(happened)
    assert set(happened) == {False, True}


@pytest.mark.parametrize("count", [300, pytest.param(100_000, marks=pytest.mark.heavy)])
def test_many_orders_make_the_trip(tmp_path, count):
    """Each of them, in its place."""
    chance = random.Random(count)
    given = [an_order(f"t{n}", created_at=chance.random()) for n in chance.sample(range(10**6), count)]
    text = b'{"poller":"export","format":1,"version":"1","count":%d}\n' % count
    text += b"".join(b'{"order":%s,"history":[]}\n' % msgspec.json.encode(order) for order in given)
    import_(cargo(text), tmp_path / "b.json")
    assert exported(tmp_path / "b.json").splitlines()[1:] == text.splitlines()[1:]
    assert Key("grafx", given[-1].task_id) in take_stock(tmp_path / "b.json").orders
