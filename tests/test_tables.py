"""TinyDB's face: what an operation costs, and what it leaves on disk."""

import os

import pytest
from tinydb import TinyDB, where
from tinydb.operations import increment
from tinydb.table import Document

from poller.errors import StoreError, StoreLocked
from poller.stores.journal import Change, Create, Delete, Drop, Put
from poller.stores.live import LiveStorage
from poller.stores.tables import Database
from tests.databases import everything, told


class Recorder(LiveStorage):
    """Live tables that remember the changes made to them."""

    def __init__(self):
        self.changes: list[Change] = []
        super().__init__(sink=self.changes.extend)


@pytest.fixture
def database():
    """A database with three documents."""
    made = Database(storage=Recorder)
    made.insert_multiple({"int": 1, "char": char} for char in "abc")
    made.storage.changes.clear()
    return made


def poisoned(document):
    """An updater that does something first and then fails for a document with a "b"."""
    document["touched"] = True
    if "b" in document:
        raise RuntimeError("poisoned")


def unwritable(document):
    """An updater that leaves something that JSON does not have."""
    document["a"] = {1, 2}


# --- What an operation costs ------------------------------------------------------------------


def test_an_operation_writes_what_it_changes(database):
    """One document inserted, updated or removed is one change, however many there are."""
    database.insert({"int": 2})
    database.update({"int": 3}, doc_ids=[2])
    database.update(increment("int"), where("char") == "a")
    database.upsert(Document({"int": 9}, doc_id=3))
    database.remove(doc_ids=[1])
    database.remove(where("char") == "c")
    kinds = [(type(change), change.doc_id) for change in database.storage.changes]
    assert kinds == [(Put, 4), (Put, 2), (Put, 1), (Put, 3), (Delete, 1), (Delete, 3)]


def test_what_changes_nothing_writes_nothing(database):
    """A condition that nothing meets, and an update to what is there already, cost no line."""
    database.update({"int": 5}, where("char") == "z")
    database.update({"int": 1})
    database.remove(where("char") == "z")
    database.search(where("int") == 1)
    assert database.storage.changes == []


def test_a_table_is_emptied_at_once(database):
    """Truncating and dropping do not list what they remove."""
    database.truncate()
    database.table("other").truncate()
    database.drop_table("other")
    database.drop_table("nobody")
    assert database.storage.changes == [Drop("_default"), Create("_default"), Create("other"), Drop("other")]


@pytest.mark.parametrize("fields", [poisoned, unwritable, {"a": float("nan")}, {"a": object()}])
def test_an_update_that_fails_changes_nothing(database, fields):
    """Neither an updater that raises nor what JSON does not have leaves a trace, on other documents either."""
    database.insert({"b": 1})
    before = everything(database)
    database.storage.changes.clear()
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        database.update(fields)
    assert everything(database) == before
    assert database.storage.changes == []


def test_a_sink_that_refuses_leaves_everything_as_it_was(database):
    """A change is made only after it was taken."""

    def refuse(changes):
        raise OSError("no")

    database.storage.sink = refuse
    for operation in (
        lambda: database.insert({}),
        database.truncate,
        database.drop_tables,
        lambda: database.remove(doc_ids=[1]),
    ):
        with pytest.raises(OSError, match="no"):
            operation()
    assert len(database) == 3


# --- The rest of TinyDB's face -----------------------------------------------------------------


def test_answers_are_copies(database):
    """Whoever changes what he was given, changes nothing here."""
    database.get(doc_id=1)["int"] = 7
    next(iter(database))["int"] = 7
    database.search(where("int") == 1)[0]["char"] = "z"
    database.clear_cache()
    assert [dict(document) for document in database.all()] == [{"int": 1, "char": char} for char in "abc"]


def test_the_query_cache_forgets_with_every_change(database):
    """A cached answer does not outlive what it says."""
    query = where("int") == 1
    assert len(database.search(query)) == 3
    assert len(database.search(query)) == 3
    database.remove(doc_ids=[1])
    assert len(database.search(query)) == 2
    table = database.table("_default")
    database.commit([table.delete(2)])
    assert len(database.search(query)) == 1


def test_the_whole_storage_can_be_read_and_written(database):
    """TinyDB's own way of giving and taking everything at once works too."""
    data = database.storage.read()
    assert data == {"_default": {str(n): {"int": 1, "char": char} for n, char in enumerate("abc", start=1)}}
    database.storage.write({"x": {"5": {"a": 1}}})
    assert database.storage.read() == {"x": {"5": {"a": 1}}}
    assert database.table("x").insert({}) == 6


def test_updaters_see_a_mapping(database):
    """An updater of one's own finds everything that a dictionary of documents has."""

    def updater(table):
        assert len(table) == 3
        table[9] = {"n": 1}
        del table[1]
        del table[9]
        table[10] = {"n": 2}
        assert list(table) == [2, 3, 10]
        with pytest.raises(KeyError):
            del table[1]
        with pytest.raises(KeyError):
            table[1]
        table.clear()
        table[11] = {"n": 3}

    database.table("_default")._update_table(updater)
    assert told(database.all()) == [(11, {"n": 3})]


# --- On disk, without an event loop ----------------------------------------------------------


def test_a_path_makes_a_database_that_is_kept(tmp_path):
    """``Database(path)`` is used like ``TinyDB(path)``, which opens what it leaves."""
    path = tmp_path / "shop.json"
    with Database(path) as database:
        database.insert({"n": 1})
        database.table("other", persist_empty=True)
        database.update(increment("n"))
    with TinyDB(path) as theirs:
        assert told(theirs.all()) == [(1, {"n": 2})]
        assert theirs.tables() == {"_default", "other", "_poller"}
    with Database(str(path)) as database:
        assert database.insert({"n": 5}) == 2
        assert database.tables() == {"_default", "other"}


def test_every_operation_is_on_disk_when_it_returns(tmp_path):
    """A process that ends without closing has lost nothing."""
    path = tmp_path / "shop.json"
    database = Database(path)
    database.insert({"n": 1})
    assert b'{"n":1}' in (tmp_path / "shop.json.journal").read_bytes()
    database.storage._ledger._lock.release()  # as the end of its process would
    with Database(path) as again:
        assert told(again.all()) == [(1, {"n": 1})]
    assert not (tmp_path / "shop.json.journal").exists()


def test_full_journals_are_folded_as_one_goes(tmp_path):
    """A database that is never closed does not grow without end."""
    path = tmp_path / "shop.json"
    with Database(path) as database:
        database.storage._ledger._full = 1000
        for n in range(50):
            database.upsert(Document({"n": n}, doc_id=1))
        assert b'"n":' in path.read_bytes()
        assert not (tmp_path / "shop.json.journal.old").exists()
        assert (tmp_path / "shop.json.journal").stat().st_size > 0
    with TinyDB(path) as theirs:
        assert told(theirs.all()) == [(1, {"n": 49})]


def test_two_databases_do_not_share_a_path(tmp_path):
    """The second is refused, and the first goes on."""
    with Database(tmp_path / "shop.json") as database:
        with pytest.raises(StoreLocked, match=f"process {os.getpid()} on "):
            Database(tmp_path / "shop.json")
        database.insert({})


def test_a_closed_database_takes_nothing(tmp_path):
    """What would not be kept is refused."""
    database = Database(tmp_path / "shop.json")
    database.close()
    with pytest.raises(StoreError, match="closed"):
        database.insert({})
    assert len(database) == 0
