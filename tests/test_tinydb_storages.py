"""Our storages where TinyDB's storages stand: what they are made with, and what a whole database costs."""

import errno

import pytest
from tinydb import TinyDB, where
from tinydb.operations import increment

from poller.errors import StoreDamaged
from poller.stores.journal import Change, Create, Delete, Drop, Put
from poller.stores.journaled import JournalStorage
from poller.stores.live import LiveStorage
from poller.stores.pieces import DEEPEST
from poller.stores.tables import Database
from tests.databases import told


@pytest.fixture
def path(tmp_path):
    """Where a database may be."""
    return tmp_path / "shop.json"


# --- What a journal is opened with ------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"indent": 4, "sort_keys": True, "separators": (",", ": "), "ensure_ascii": False},
        {"encoding": "utf8"},
        {"access_mode": "rb+"},
        {"create_dirs": True},
    ],
)
def test_what_tinydbs_file_takes_ours_takes(path, options):
    """How a file looks is ours to say, and everything else means the same."""
    for database in (Database, TinyDB):
        with database(path.with_name(database.__name__), storage=JournalStorage, **options) as db:
            db.insert({"n": "é"})
        with TinyDB(path.with_name(database.__name__), encoding="utf-8") as theirs:
            assert told(theirs.all()) == [(1, {"n": "é"})]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"default": str}, TypeError),
        ({"cls": None, "skipkeys": True}, TypeError),
        ({"encoding": "latin-1"}, ValueError),
        ({"access_mode": "r"}, ValueError),
        ({"access_mode": "w"}, ValueError),
    ],
)
def test_what_would_mean_something_else_is_refused(path, options, error):
    """And no file is made."""
    with pytest.raises(error):
        Database(path, **options)
    assert list(path.parent.iterdir()) == []


def test_folders_are_made_if_one_asks_for_it(path):
    """Without that, a folder that is missing is an OSError, as with TinyDB's file."""
    path = path.parent / "a" / "b" / "shop.json"
    for database in (TinyDB, Database):
        with pytest.raises(FileNotFoundError):
            database(path)
    with Database(path, create_dirs=True) as db:
        db.insert({})
    with Database(path, create_dirs=True) as db:
        assert len(db) == 1


# --- How it is closed -------------------------------------------------------------------------


def test_closing_twice_is_closing_once(path):
    """The second time harms nobody who has opened the store meanwhile."""
    first = Database(path)
    first.insert({"n": 1})
    first.close()
    second = Database(path)
    second.insert({"n": 2})
    first.close()
    second.insert({"n": 3})
    second.storage._ledger.abandon()
    with Database(path) as third:
        assert [document["n"] for document in third] == [1, 2, 3]


def test_a_database_that_could_not_be_read_is_let_go(path):
    """Whoever mends the file may open it at once."""
    path.write_text('{"a": {"1": {"n": NaN}}}')
    with pytest.raises(StoreDamaged):
        Database(path)
    path.write_text('{"a": {"1": {"n": 1}}}')
    with Database(path) as db:
        assert db.table("a").all() == [{"n": 1}]


def test_what_was_refused_for_a_full_disk_is_not_there(path, monkeypatch):
    """A journal is folded before anything more is written: if that fails, the operation was not done."""

    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    db = Database(path)
    db.storage._ledger._full = 0
    db.insert({"n": 1})
    db.insert({"n": 2})
    with monkeypatch.context() as patch:
        patch.setattr(db.storage._ledger, "fold", full)
        with pytest.raises(OSError, match="no room"):
            db.insert({"n": 3})
    assert [document["n"] for document in db] == [1, 2]
    db.storage._ledger.abandon()
    with Database(path) as again:
        assert [document["n"] for document in again] == [1, 2]


# --- Whole databases --------------------------------------------------------------------------


@pytest.fixture
def changes():
    """What a storage was asked to change."""
    return []


@pytest.fixture
def theirs(changes: list[Change]):
    """TinyDB's own tables over our live ones, with three documents."""
    made = TinyDB(storage=lambda: LiveStorage(sink=changes.extend))
    made.insert_multiple({"n": 1, "char": char} for char in "abc")
    changes.clear()
    return made


def test_what_tinydb_leaves_as_it_is_costs_nothing(theirs, changes):
    """TinyDB gives the whole database; only what differs is a change."""
    theirs.insert({"n": 2})
    theirs.update(increment("n"), where("char") == "b")
    theirs.remove(doc_ids=[1])
    theirs.table("other").insert({})
    theirs.drop_table("other")
    theirs.update({"n": 1}, where("char") == "z")
    assert [(type(change), getattr(change, "doc_id", None)) for change in changes] == [
        (Put, 4),
        (Put, 2),
        (Delete, 1),
        (Create, None),
        (Put, 1),
        (Drop, None),
    ]


def test_another_order_is_a_change(theirs, changes):
    """Documents stand where they were put, also when they stood elsewhere before."""
    documents = theirs.storage.read()["_default"]
    for order in ("321", "3124", "24", "42"):
        data = {"_default": {key: documents.get(key, {"n": 4}) for key in order}}
        theirs.storage.write(data)
        assert list(theirs.storage.read()["_default"].items()) == list(data["_default"].items())


@pytest.mark.parametrize("data", [{"none": [None]}, {"int": 42}, {"a": {"1": 5}}, {"a": {"1": [1]}}])
def test_only_databases_are_written(theirs, changes, data):
    """What is no tables of documents is a TypeError, and nothing is changed."""
    with pytest.raises(TypeError, match="is not a table"):
        theirs.storage.write(data)
    assert changes == []
    assert len(theirs) == 3


def test_our_own_table_is_not_written(theirs, changes):
    """Not even through TinyDB's own tables."""
    with pytest.raises(ValueError, match="_poller"):
        theirs.table("_poller").insert({})
    assert changes == []


# --- Depth ------------------------------------------------------------------------------------


def nested(levels):
    """Make a document of so many levels."""
    value: object = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"a": value}
    return {"a": value}


def deeper(frames, work):
    """Do some work further down the stack."""
    return work() if frames == 0 else deeper(frames - 1, work)


def test_what_was_taken_can_be_read_from_anywhere(path):
    """Deeper documents could be written, but then no longer be opened: they are refused."""
    db = Database(path)
    db.insert_multiple([nested(DEEPEST), {"wide": [[]] * 2 * DEEPEST}])
    with pytest.raises(ValueError, match="nested more than"):
        db.insert(nested(DEEPEST + 1))
    with pytest.raises(RecursionError):
        db.insert(nested(5000))
    db.storage._ledger.abandon()
    with deeper(200, lambda: Database(path)) as again:
        assert again.all() == [nested(DEEPEST), {"wide": [[]] * 2 * DEEPEST}]
