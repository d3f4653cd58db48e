"""The snapshot: a TinyDB file that knows whether it is whole; and journals laid over one."""

import json
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tinydb import TinyDB

from poller.errors import StoreDamaged
from poller.stores.edits import Edits
from poller.stores.files import Files
from poller.stores.journal import Create, Delete, Drop, Put
from poller.stores.live import LiveStorage
from poller.stores.pieces import About, Row
from poller.stores.snapshot import Snapshot, write
from tests.stores import ScriptedFiles

ROWS = [
    Row("orders"),
    Row("orders", 1, b'{"task_id":"a"}'),
    Row("orders", 12, '{"task_id":"ü: {"}'.encode()),
    Row("events"),
    Row('odd "name": {'),
    Row('odd "name": {', "word: ", b"{}"),
    Row('odd "name": {', -3, b'{"a":[1,{"b":null}]}'),
]
ABOUT = About(generation=4, sequence=211)


@pytest.fixture
def path(tmp_path):
    """Where the snapshot is."""
    return tmp_path / "orders.json"


def read(path: Path) -> list[Row]:
    """Read a snapshot to its end."""
    return list(Snapshot(path, files=Files()).rows())


def test_what_is_written_is_read_back(path):
    """Rows come back as they were, with ids of their own kind, and so does what it says of itself."""
    write(path, ROWS, ABOUT, files=Files())
    snapshot = Snapshot(path, files=Files())
    assert list(snapshot.rows()) == ROWS
    assert (snapshot.about.generation, snapshot.about.sequence) == (4, 211)
    assert snapshot.size == path.stat().st_size
    assert not snapshot.foreign


def test_tinydb_itself_opens_it(path):
    """A snapshot is a TinyDB file, one document a line."""
    write(path, ROWS, ABOUT, files=Files())
    with TinyDB(path) as database:
        assert database.table("orders").get(doc_id=12) == {"task_id": "ü: {"}
        assert len(database.table("events")) == 0
        assert database.tables() == {"orders", "events", 'odd "name": {', "_poller"}
    assert path.read_bytes().count(b"\n") == 1 + 3 * 2 + 4 + 1


def test_a_snapshot_of_nothing_is_one(path):
    """A store may have no table at all."""
    write(path, [], ABOUT, files=Files())
    assert read(path) == []
    assert json.loads(path.read_bytes()).keys() == {"_poller"}


def test_it_is_synced_before_write_returns(path):
    """Whoever renames it may rely on what is in it."""
    files = ScriptedFiles()
    write(path, ROWS, ABOUT, files=files)
    assert files.calls[0] == "create"
    assert files.calls[-2:] == ["sync", "close"]
    assert set(files.calls[1:-2]) == {"write"}


def test_a_file_that_could_not_be_written_is_closed(path):
    """A full disk costs no descriptor."""

    def plan(number, name):
        if name == "sync":
            raise OSError(28, "full")

    files = ScriptedFiles(plan)
    with pytest.raises(OSError, match="full"):
        write(path, ROWS, ABOUT, files=files)
    assert files.calls[-1] == "close"


def test_large_snapshots_are_written_in_blocks(path):
    """More than one block comes back whole, its checksum over all of them."""
    rows = [Row("orders"), *(Row("orders", n, b'{"x":"%s"}' % (b"y" * 1000)) for n in range(1, 3000))]
    files = ScriptedFiles()
    write(path, rows, ABOUT, files=files)
    assert files.calls.count("write") > 2
    assert read(path) == rows


def test_every_flipped_bit_is_refused(path):
    """A snapshot with any one bit changed, in its own last line too, is refused; but for its flag."""
    write(path, ROWS, ABOUT, files=Files())
    whole = path.read_bytes()
    for i in range(len(whole)):
        for bit in range(i == whole.rindex(b"0"), 8):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
            with pytest.raises(StoreDamaged, match=r"orders\.json"):
                read(path)


def test_every_cut_and_every_missing_line_is_refused(path):
    """A snapshot that lost its end, or any line, is refused."""
    write(path, ROWS, ABOUT, files=Files())
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    damaged = [whole[:size] for size in range(len(whole))]
    damaged += [b"".join(lines[:i] + lines[i + 1 :]) for i in range(len(lines))]
    damaged += [b"".join([*lines[:i], lines[i], *lines[i:]]) for i in range(len(lines))]
    for text in damaged:
        path.write_bytes(text)
        with pytest.raises(StoreDamaged, match=r"orders\.json"):
            read(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("null", "no object of tables"),
        ("[]", "no object of tables"),
        ('{"name": "shop", "version": "1.0"}', "no object of tables"),
        ("{", "is not JSON"),
        ("\x00\x00", "holds nothing but zeros"),
        ('{"orders": {"1": 5}}', "document 1 of table 'orders' is not an object"),
        ('{"orders": {"1": {"x": NaN}}}', "document 1 of table 'orders' cannot be kept"),
        ('{"orders": {"1": {"x": "\\ud800"}}}', "document 1 of table 'orders' cannot be kept"),
        ('{"orders": {}, "_poller": {"1": {"format": 1}}}', "changed since"),
        ('{\n"orders": {\n}\n}', "changed since"),
        ('{\n"_poller": {"1": {"format":2}}}\n', "format 2; this version knows format 1"),
        ('{\n"_poller": {"1": {"format":1,"generation":"x"}}}\n', "last line is not understood"),
        ('{\n"_poller": {"1": {"format":1,]}}}\n', "last line is not understood"),
        ('{"orders": ' + "[" * 100_000, "is not JSON"),
        ('{\n"_poller": {"1": {"format":1,"generation":1}}}\n', "last line is not understood"),
    ],
)
def test_what_is_no_snapshot_is_refused(path, text, sentence):
    """Nothing that is not a TinyDB file is taken for one, and nothing for an empty one."""
    path.write_text(text)
    with pytest.raises(StoreDamaged, match=sentence) as info:
        read(path)
    assert str(path) in str(info.value)


@pytest.mark.parametrize("options", [{}, {"indent": 4}, {"sort_keys": True, "separators": (",", ":")}])
def test_a_tinydb_file_of_others_is_generation_0(path, options):
    """However TinyDB was told to write it, its documents are read and its ids kept."""
    with TinyDB(path, **options) as database:
        database.table("orders").insert({"task_id": "ü"})
        database.insert({"other": [1.5, None, 10**30]})
    snapshot = Snapshot(path, files=Files())
    assert snapshot.foreign
    assert snapshot.about == About()
    tables = LiveStorage(snapshot.rows())
    assert tables.lines("orders") == {1: '{"task_id":"ü"}'.encode()}
    assert tables.lines("_default") == {1: b'{"other":[1.5,null,%d]}' % 10**30}
    assert tables.names == {"orders", "_default"}


def test_a_snapshot_that_tinydb_has_rewritten_is_somebody_elses(path):
    """It was closed, so nothing continues what it was; and it goes on counting from there."""
    write(path, ROWS, ABOUT, files=Files())
    with TinyDB(path) as database:
        database.table("orders").insert({"task_id": "b"})
    snapshot = Snapshot(path, files=Files())
    assert snapshot.foreign
    assert snapshot.about == ABOUT
    assert Row("orders", 13, b'{"task_id":"b"}') in read(path)
    assert "_poller" not in {row.table for row in read(path)}


# --- Journals over a snapshot ---------------------------------------------------------------

TABLES = st.sampled_from(["orders", "events", "x"])
IDS = st.integers(1, 6)
LINES = st.integers(0, 99).map(lambda n: b'{"n":%d}' % n)
CHANGES = st.lists(
    st.one_of(
        st.builds(Put, TABLES, IDS, LINES.map(msgspec.Raw)),
        st.builds(Put, TABLES, IDS, LINES.map(msgspec.Raw)),
        st.builds(Delete, TABLES, IDS),
        st.builds(Create, TABLES),
        st.builds(Drop, TABLES),
    ),
    max_size=25,
)


def contents(storage: LiveStorage) -> dict[str, list]:
    """List tables with their documents, in order."""
    return {name: list(storage.lines(name).items()) for name in storage.names}


def a_put(doc_id: int, n: int) -> Put:
    """Put a document into orders."""
    return Put("orders", doc_id, msgspec.Raw(b'{"n":%d}' % n))


@given(CHANGES, st.integers(0, 25))
@example([a_put(1, 1), a_put(2, 2), Delete("orders", 1), a_put(1, 3), a_put(1, 4)], 2)
@example([a_put(1, 1), a_put(2, 2), Drop("orders"), a_put(3, 3), a_put(1, 4), Create("events")], 2)
@example([a_put(1, 1), Create("events"), Drop("orders"), Create("x"), Drop("x")], 1)
def test_folding_is_the_same_as_having_lived_through_it(changes, split):
    """A snapshot with journals laid over it holds what memory held, in the same order."""
    live = LiveStorage()
    done = []
    for change in changes:
        if isinstance(change, Delete) and change.table not in live.names:
            continue  # a delete is only ever written for a table that is there
        live.commit([change])
        done.append(change)
    before = LiveStorage()
    before.commit(done[:split])
    rows = [
        row
        for name in sorted(before.names)
        for row in (Row(name), *(Row(name, *i) for i in before.lines(name).items()))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.json"
        write(path, rows, ABOUT, files=Files())
        edits = Edits()
        for change in done[split:]:
            edits.apply(change)
        assert bool(edits) == bool(done[split:])
        assert contents(LiveStorage(edits.over(read(path)))) == contents(live)
