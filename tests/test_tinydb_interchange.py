"""One file, two programs: what TinyDB writes we read, and what we leave TinyDB reads."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, where
from tinydb.operations import increment
from tinydb.storages import JSONStorage
from tinydb.table import Document

from poller.errors import StoreDamaged
from poller.stores.tables import Database
from tests.databases import everything, told

TABLES = {
    "_default": {"1": {"n": 1, "text": "é\u2028😀 \\ \0"}, "2": {}},
    "empty": {},
    "numbers": {"12": {"n": 1}, "3": {"n": 2}, "0": {}, "-3": {}, "-0": {}, "99999999999999999999": {}},
    "words": {
        "seven": {},
        "007": {},
        "": {"": ""},
        'a": {': {},
        "a: b": {"deep": [{"b": [None, True, 1e22]}]},
        "é": {},
    },
    'odd "name": {\n': {"1": {"big": [2**64, -(10**40), 0.1, -0.0]}},
    "": {"1": {}},
}
LAYOUTS = [
    {},
    {"indent": 4},
    {"indent": 0},
    {"indent": "\t", "ensure_ascii": False},
    {"sort_keys": True},
    {"separators": (",", ":"), "ensure_ascii": False},
]


@pytest.fixture
def path(tmp_path):
    """Where the file is."""
    return tmp_path / "shop.json"


def written(path: Path, data, **layout) -> dict:
    """Have TinyDB write a file; tell what it reads there."""
    storage = JSONStorage(path, encoding="utf-8", **layout)
    storage.write(data)
    storage.close()
    return read(path)


def read(path: Path) -> dict:
    """Tell what TinyDB reads in a file, but for what a snapshot says of itself."""
    storage = JSONStorage(path, access_mode="r", encoding="utf-8")
    data = storage.read()
    storage.close()
    data.pop("_poller", None)
    return data


def ordered(data: dict) -> list:
    """Make what a file holds comparable, order included."""
    return [(name, list(documents.items())) for name, documents in data.items()]


def through_ours(path: Path) -> dict:
    """Open a file with ours, close it, and tell what was there."""
    with Database(path) as database:
        return database.storage.read() or {}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_what_tinydb_wrote_goes_through_ours_unchanged(path, layout):
    """Whatever it looks like: the same tables, documents and ids in the same order, any number of times."""
    theirs = written(path, TABLES, **layout)
    before = path.read_bytes()
    for _ in range(3):
        assert ordered(through_ours(path)) == ordered(theirs)
        assert ordered(read(path)) == ordered(theirs)
    assert repr(read(path)) == repr(theirs)
    assert (path.parent / "shop.json.previous").read_bytes() == before


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)
IDS = (
    st.text(max_size=4) | st.integers().map(str) | st.sampled_from(["00", "-0", "+1", " 1", "1.0", "٣", '"', "}", ": "])
)
DATABASES = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "_poller"),
    st.dictionaries(IDS, st.dictionaries(st.text(), JSON, max_size=3), max_size=4),
    max_size=3,
)


@settings(max_examples=40)
@given(DATABASES, st.sampled_from(LAYOUTS))
@example({"a": {}}, {})
@example({}, {"indent": 4})
def test_any_database_goes_through_ours_unchanged(data, layout):
    """What JSON can say of a database, we read, keep, and write for TinyDB again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.json")
        theirs = written(path, data, **layout)
        assert ordered(through_ours(path)) == ordered(theirs)
        assert repr(ordered(read(path))) == repr(ordered(theirs))


def test_each_goes_on_where_the_other_stopped(path):
    """Documents, numbers and tables are handed to and fro, as long as TinyDB leaves us our own table or drops it."""
    with TinyDB(path) as theirs:
        theirs.insert_multiple([{"n": 1}, {"n": 2}])
        theirs.table("other").insert(Document({"n": 3}, doc_id=7))
    for turn in range(3):
        with Database(path) as ours:
            assert ours.insert({"turn": turn}) == 3 + 2 * turn
            ours.update(increment("n"), where("n").exists())
            assert ours.table("other").insert({}) == 8 + 2 * turn
        with TinyDB(path) as theirs:
            theirs.drop_table("_poller")
            assert theirs.get(doc_id=3) == {"turn": 0}
            assert theirs.insert({"turn": turn}) == 4 + 2 * turn
            assert theirs.table("other").insert({}) == 9 + 2 * turn
            theirs.update(increment("n"), doc_ids=[1])
    with Database(path) as ours:
        assert [document.get("n") for document in ours] == [7, 5, *[None] * 6]
        assert [document.doc_id for document in ours.table("other")] == [7, *range(8, 14)]


@pytest.mark.parametrize("layout", [{}, {"indent": 4}, {"sort_keys": True, "separators": (",", ":")}], ids=str)
def test_tinydb_may_change_what_ours_left(path, layout):
    """Once ours is closed the file is TinyDB's to change, our own table and all; ours goes on from there."""
    with Database(path) as ours:
        ours.insert_multiple([{"n": 1}, {"n": 2}])
    for turn in range(3):
        with TinyDB(path, **layout) as theirs:
            theirs.update(increment("n"), doc_ids=[1])
            assert theirs.insert({"turn": turn}) == 3 + 2 * turn
        before = path.read_bytes()
        with Database(path) as ours:
            assert path.with_name("shop.json.previous").read_bytes() == before
            assert ours.get(doc_id=1) == {"n": 2 + turn}
            assert ours.insert({"turn": turn}) == 4 + 2 * turn
            assert ours.tables() == {"_default"}


def test_what_tinydb_changes_under_an_open_store_is_refused(path):
    """Its journal continues the file that was there before, so neither can be trusted."""
    ours = Database(path)
    ours.insert({"n": 1})
    with TinyDB(path) as theirs:
        theirs.insert({"n": 2})
    before = path.read_bytes()
    for leave in (ours.close, lambda: Database(path)):
        with pytest.raises(StoreDamaged, match="changed by another program while poller had it open"):
            leave()
    assert path.read_bytes() == before


def test_a_file_of_ours_that_was_edited_is_refused(path):
    """An editor leaves our layout, and then the checksum counts."""
    with Database(path) as ours:
        ours.insert({"n": 1})
    path.write_bytes(path.read_bytes().replace(b'{"n":1}', b'{"n":2}').removesuffix(b"\n"))
    with pytest.raises(StoreDamaged, match="changed since"):
        Database(path)


def test_tinydb_reads_what_ours_left(path):
    """After a clean close, and without a word of the journal."""
    with Database(path) as ours:
        ours.insert_multiple([{"n": 1}, Document({"n": 2}, doc_id=9), {"n": 3}])
        ours.remove(where("n") == 1)
        ours.update({"n": 5}, doc_ids=[9])
        ours.table("kept", persist_empty=True)
        ours.table("gone").insert({})
        ours.drop_table("gone")
        shown = everything(ours)
    assert not (path.parent / "shop.json.journal").exists()
    with TinyDB(path) as theirs:
        assert everything(theirs) == shown
        assert theirs.count(where("n") == 5) == 1
        assert theirs.insert({}) == 10


def test_reading_with_tinydb_changes_nothing_for_ours(path):
    """Whoever only looks is not noticed."""
    with Database(path) as ours:
        ours.insert({"n": 1})
    before = path.read_bytes()
    with TinyDB(path) as theirs:
        assert told(theirs.all()) == [(1, {"n": 1})]
        assert theirs.search(where("n") == 1) == [{"n": 1}]
    assert path.read_bytes() == before
    with Database(path) as ours:
        assert told(ours.all()) == [(1, {"n": 1})]


def test_ids_of_words_stay_words(path):
    """A table that TinyDB numbers in words is read by ours as by TinyDB, if it is told the same."""
    databases = []
    for database in (TinyDB, Database):
        table = type("Words", (database.table_class,), {"document_id_class": str})
        databases.append(type("ByWord", (database,), {"table_class": table}))
    theirs, ours = databases
    with theirs(path) as database:
        database.insert_multiple([Document({"n": 1}, doc_id="007"), Document({"n": 2}, doc_id="7")])
    with ours(path) as database:
        assert database.update(increment("n"), doc_ids=["007"]) == ["007"]
        assert told(database.all()) == [("007", {"n": 2}), ("7", {"n": 2})]
    with theirs(path) as database:
        assert told(database.all()) == [("007", {"n": 2}), ("7", {"n": 2})]


def test_ids_that_are_written_oddly_are_still_updated(path):
    """A number that somebody wrote with zeros in front is its document's id all the same."""
    written(path, {"_default": {"007": {"n": 1}, "8": {"n": 1}}})
    with Database(path) as ours:
        assert ours.update(increment("n"), where("n") == 1) == [7, 8]
        assert ours.update(increment("n")) == [7, 8]
        assert told(ours.all()) == [(7, {"n": 3}), (8, {"n": 3})]
        assert ours.remove(where("n") == 3) == [7, 8]
    assert read(path) == {"_default": {}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("[]", "no object of tables"),
        ('{"a": []}', "no object of tables"),
        ('{"a": {"1": 5}}', "document 1 of table 'a' is not an object"),
        ('{"a": {"1": {"n": NaN}}}', "document 1 of table 'a' cannot be kept"),
        ('{"a": {"1": {"n": "\\ud800"}}}', "document 1 of table 'a' cannot be kept"),
        ('{"a": {"1": {}}', "is not JSON"),
    ],
)
def test_what_is_no_database_is_refused(path, text, why):
    """With a sentence that says what is wrong, and the file stays as it is."""
    path.write_text(text)
    with pytest.raises(StoreDamaged, match=why):
        Database(path)
    assert path.read_text() == text
