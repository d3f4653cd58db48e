"""What TinyDB documents of databases, tables and storages, held against TinyDB and every face of ours."""

import copy

import pytest
from tinydb import TinyDB, where
from tinydb.middlewares import CachingMiddleware, Middleware
from tinydb.storages import JSONStorage, MemoryStorage, Storage
from tinydb.table import Document, Table
from tinydb.utils import LRUCache

from poller.errors import StoreError
from poller.stores.journaled import JournalStorage
from poller.stores.live import LiveStorage
from poller.stores.tables import Database, LiveTable
from tests.databases import COPYING, LIVE, MAKERS, LiveTinyDB, Opened, everything, told


@pytest.fixture(params=MAKERS)
def opened(request, tmp_path):
    """A database that is empty."""
    made = Opened(request.param, tmp_path / "a.json")
    yield made
    made.db.close()


@pytest.fixture(params=COPYING)
def copying(request, tmp_path):
    """A database that keeps JSON, and is empty."""
    made = Opened(request.param, tmp_path / "a.json")
    yield made
    made.db.close()


def tables(db: TinyDB) -> set[str]:
    """Name the tables, but for what a snapshot says of itself to TinyDB's own reader."""
    return db.tables() - {"_poller"}


# --- Tables -----------------------------------------------------------------------------------


def test_tables_know_nothing_of_each_other(opened):
    """Each has its own documents, ids and conditions; the database's own operations are the default table's."""
    db = opened.db
    assert [db.insert({"n": 0}), db.table("a").insert({"n": 1}), db.table("b").insert({"n": 2})] == [1, 1, 1]
    db.table("a").update({"n": 9})
    db.table("b").remove(doc_ids=[1])
    db = opened.again()
    assert everything(db) == {"_default": [(1, {"n": 0})], "a": [(1, {"n": 9})], "b": []}
    assert (len(db), len(db.table("a")), len(db.table("b"))) == (1, 1, 0)


def test_a_table_is_there_once_something_was_done_to_it(opened):
    """Looking makes none; inserting does, and so does an operation that finds nothing to change."""
    db = opened.db
    assert (db.table("a").all(), db.all(), tables(db)) == ([], [], set())
    db.table("b").update({"n": 1})
    db.table("c").remove(doc_ids=[1])
    db.table("d").truncate()
    db.table("e").insert_multiple([])
    db.table("f").insert({})
    assert tables(db) == set("bcdef")
    assert tables(opened.again()) == set("bcdef")


def test_an_empty_table_may_be_kept(opened):
    """If one asks for it, and then it is empty, whatever was in it."""
    opened.db.storage.write({"old": {"1": {"n": 1}}})
    db = opened.again()
    db.table("new", persist_empty=True)
    assert len(db.table("old", persist_empty=True)) == 0
    assert everything(opened.again()) == {"old": [], "new": []}


def test_a_table_is_the_same_one_each_time(opened):
    """Until it is dropped."""
    table = opened.db.table("a", cache_size=3)
    assert opened.db.table("a") is table
    opened.db.drop_table("a")
    assert opened.db.table("a") is not table


@pytest.mark.parametrize("name", ["", "a b", '"quoted": {', "}", "é\n😀", "1", "_default"])
def test_any_name_is_a_table(opened, name):
    """Names that look like something else are names."""
    opened.db.table(name).insert({"n": 1})
    opened.db.table("other").insert({"n": 2})
    assert everything(opened.again()) == {name: [(1, {"n": 1})], "other": [(1, {"n": 2})]}


def test_a_dropped_table_is_gone(opened):
    """With all that was in it, and its numbers; one that is not there is dropped already."""
    db = opened.db
    for name in "ab":
        db.table(name).insert_multiple([{}, {}])
    db.drop_table("a")
    db.drop_table("nobody")
    assert tables(opened.again()) == {"b"}
    assert opened.db.table("a").insert({}) == 1


def test_all_tables_may_be_dropped(opened):
    """The database begins anew; whoever still holds a table sees that it is empty."""
    held = opened.db.table("a")
    held.insert_multiple([{}, {}])
    opened.db.insert({})
    opened.db.drop_tables()
    assert (len(held), held.all(), tables(opened.db)) == (0, [], set())
    assert tables(opened.again()) == set()
    assert opened.db.insert({}) == 1


def test_iterating_lists_the_default_table(opened):
    """A database is a list of its documents, and so is a table."""
    opened.db.insert_multiple([{"n": 1}, {"n": 2}])
    db = opened.again()
    assert told(list(db)) == told(db.all()) == told(list(db.table("_default"))) == [(1, {"n": 1}), (2, {"n": 2})]


def test_documents_may_be_removed_while_they_are_listed(copying):
    """An iteration lists the documents as they were when it began."""
    copying.db.insert_multiple([{}, {}, {}])
    assert [copying.db.remove(doc_ids=[each.doc_id]) for each in copying.db] == [[1], [2], [3]]
    assert len(copying.again()) == 0


def test_what_is_given_is_the_readers_own(copying):
    """Changing an answer, however deep, changes nothing in the database."""
    copying.db.insert({"n": 1, "deep": {"list": [1]}})
    for answer in (copying.db.get(doc_id=1), copying.db.all()[0], next(iter(copying.db))):
        answer["n"] = 2
        answer["deep"]["list"].append(2)
    assert copying.db.search(where("n") == 1) == [{"n": 1, "deep": {"list": [1]}}]


def test_a_database_says_what_it_holds(opened):
    """Its representation names the tables and counts the documents; a table's names itself and its storage."""
    opened.db.insert_multiple([{}, {}])
    shown, table = repr(opened.db), repr(opened.db.table("_default"))
    name = type(opened.db).__name__.replace("Database", "TinyDB")
    assert shown.startswith(f"<{name} tables=['_default'], tables_count=1, ")
    assert "default_table_documents_count=2, all_tables_documents_count=['_default=2']>" in shown
    assert table == f"<Table name='_default', total=2, storage={opened.db.storage}>"


def test_a_table_has_a_name_for_good(opened):
    """And a storage, which is the database's."""
    table = opened.db.table("a")
    assert (table.name, table.storage) == ("a", opened.db.storage)
    with pytest.raises(AttributeError):
        table.name = "b"


# --- The query cache --------------------------------------------------------------------------


def test_answers_are_kept_until_something_changes(opened):
    """The same query is answered from the cache, which any change of the table empties."""
    db, query = opened.db, where("n") == 1
    db.insert({"n": 1})
    for change, found in (
        (lambda: db.insert({"n": 1}), 2),
        (lambda: db.update({"n": 2}, doc_ids=[1]), 1),
        (lambda: db.upsert({"n": 1}, where("n") == 2), 2),
        (lambda: db.remove(doc_ids=[2]), 1),
        (db.truncate, 0),
    ):
        db.search(query)
        assert query in db._query_cache
        change()
        assert len(db._query_cache) == 0
        assert db.count(query) == found


def test_an_answer_from_the_cache_is_a_list_of_its_own(opened):
    """Adding to it adds to nobody else's."""
    opened.db.insert({"n": 1})
    opened.db.search(where("n") == 1).append("more")
    opened.db.search(where("n") == 1).append("more")
    assert opened.db.search(where("n") == 1) == [{"n": 1}]


@pytest.mark.parametrize(("size", "kept"), [(0, 0), (1, 1), (2, 2), (None, 12)])
def test_a_cache_keeps_as_much_as_is_asked_for(opened, size, kept):
    """Of the answers, the last that were used; without a limit, all of them."""
    table = opened.db.table("a", cache_size=size)
    queries = [where("n") == n for n in range(12)]
    for query in queries:
        table.search(query)
    assert [query in table._query_cache for query in queries] == [False] * (12 - kept) + [True] * kept


def test_a_cache_keeps_ten_answers_unless_told(opened):
    """And forgets the one that was not used for longest."""
    table = opened.db.table("a")
    for n in (*range(10), 0, 10):
        table.search(where("n") == n)
    assert len(table._query_cache) == 10
    assert (where("n") == 0) in table._query_cache
    assert (where("n") == 1) not in table._query_cache


def test_what_may_answer_otherwise_is_not_kept(opened):
    """A query that says it is not cacheable is asked each time."""
    wanted = 1

    def condition(document):
        return document["n"] == wanted

    condition.is_cacheable = lambda: False
    opened.db.insert_multiple([{"n": 1}, {"n": 2}, {"n": 2}])
    assert opened.db.count(condition) == 1
    wanted = 2
    assert opened.db.count(condition) == 2
    assert not (where("n").map(str) == "1").is_cacheable()
    opened.db.search(where("n").map(str) == "1")
    assert len(opened.db._query_cache) == 0


def test_a_failed_change_empties_no_cache(copying):
    """What was right before is right still."""
    copying.db.insert({"n": 1})
    copying.db.search(where("n") == 1)
    with pytest.raises(TypeError):
        copying.db.insert({"n": object()})
    assert len(copying.db._query_cache) == 1


# --- Classes of one's own ---------------------------------------------------------------------


class Order(Document):
    """A document that knows more."""

    @property
    def total(self) -> int:
        return sum(self["prices"])


class Cache(LRUCache):
    """A cache that says who it is."""


BASES = pytest.mark.parametrize(
    ("database", "base"), [(TinyDB, Table), (Database, LiveTable), (LiveTinyDB, LiveTable)], ids=str
)


def made(database, storage=None, **attributes):
    """Make a database whose tables have attributes of their own, in memory unless a storage is given."""
    base = attributes.pop("base")
    subclass = type("Own", (database,), {"table_class": type("OwnTable", (base,), attributes)})
    return subclass(storage=storage or (MemoryStorage if database is TinyDB else LiveStorage))


@BASES
def test_documents_may_have_a_class(database, base):
    """Whatever gives a document gives one of that class, and takes one for a Document."""
    db = made(database, base=base, document_class=Order)
    db.insert({"prices": [1, 2]})
    assert db.insert(Order({"prices": [5]}, doc_id=7)) == 7
    assert db.upsert(Order({"prices": [6]}, doc_id=7)) == [7]
    given = [db.all()[0], *db.search(where("prices").exists()), db.get(doc_id=7), *db.get(doc_ids=[7]), next(iter(db))]
    assert [type(each) for each in given] == [Order] * len(given)
    assert [each.total for each in given] == [3, 3, 6, 6, 6, 3]


@BASES
def test_ids_may_have_a_class(database, base):
    """A class of words makes words of all ids; a class of numbers is counted on in."""
    db = made(database, base=base, document_id_class=str)
    db.insert_multiple([Document({"n": 1}, doc_id="seven"), Document({"n": 2}, doc_id="007"), Document({}, doc_id="7")])
    assert db.update({"n": 3}, doc_ids=["007", "07"]) == ["007"]
    assert db.update({"seen": True}, where("n") == 1) == ["seven"]
    assert told(db.all()) == [("seven", {"n": 1, "seen": True}), ("007", {"n": 3}), ("7", {})]
    assert (db.get(doc_id="7"), db.contains(doc_id="8")) == ({}, False)
    with pytest.raises(ValueError, match="already exists"):
        db.insert(Document({}, doc_id="seven"))
    assert db.remove(doc_ids=["7", "8"]) == ["7"]
    assert db.remove(where("n") == 3) == ["007"]
    assert db.storage.read() == {"_default": {"seven": {"n": 1, "seen": True}}}


class Number(int):
    """An id that says so."""


@BASES
def test_ids_may_be_numbers_of_a_class(database, base):
    """They count on as numbers do, and come back as that class."""
    db = made(database, base=base, document_id_class=Number)
    db.insert_multiple([{}, Document({"n": 0}, doc_id=Number(5))])
    assert db.insert({}) == 2
    assert [type(each.doc_id) for each in (*db.all(), db.get(where("n").exists()))] == [Number] * 4
    assert [type(doc_id) for doc_id in db.update({"n": 1})] == [Number] * 3
    assert db.remove(doc_ids=[5, Number(2)]) == [5, 2]


class Hexadecimal:
    """An id that is neither a number nor text, and is made of its text alone."""

    def __init__(self, text: str) -> None:
        self.value = int(text, 16)

    def __str__(self) -> str:
        return f"{self.value:x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hexadecimal) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


@BASES
def test_ids_may_be_anything_that_text_makes(database, base):
    """An id class is called with the text that the file has, whatever that looks like."""
    db = made(database, base=base, document_id_class=Hexadecimal)
    db.insert_multiple([Document({"n": n}, doc_id=Hexadecimal(text)) for n, text in enumerate(("ff", "10"))])
    assert db.update({"n": 9}, doc_ids=[Hexadecimal("10"), Hexadecimal("11")]) == [Hexadecimal("10")]
    assert db.update({"n": 9}, where("n") == 9) == [Hexadecimal("10")]
    assert db.remove(where("n") == 0) == [Hexadecimal("ff")]
    assert db.storage.read() == {"_default": {"10": {"n": 9}}}
    assert told(db.all()) == [(Hexadecimal("10"), {"n": 9})]


@BASES
def test_ids_may_be_numbered_in_a_way_of_ones_own(database, base):
    """A table may say what its next id is."""
    db = made(database, base=base, _get_next_id=lambda table: 100 + len(table))
    assert [db.insert({}), db.insert({})] == [100, 101]


@BASES
def test_the_query_cache_may_have_a_class(database, base):
    """And a table is given its size."""
    assert type(made(database, base=base, query_cache_class=Cache)._query_cache) is Cache


@pytest.mark.parametrize(("given", "kept"), [({}, 2), ({"cache_size": 3}, 3), ({"cache_size": None}, 5)])
def test_the_cache_may_be_sized_by_the_class(given, kept):
    """TinyDB documents that attribute and then reads its own; ours reads the subclass's."""
    table = made(Database, base=LiveTable, default_query_cache_capacity=2).table("a", **given)
    for n in range(5):
        table.search(where("n") == n)
    assert len(table._query_cache) == kept


@pytest.mark.parametrize("database", [TinyDB, Database, LiveTinyDB])
def test_the_default_table_may_have_a_name(database):
    """Everything that names no table goes there."""
    own = type("Own", (database,), {"default_table_name": "orders"})
    db = own(storage=MemoryStorage if database is TinyDB else LiveStorage)
    db.insert({"n": 1})
    assert (db.tables(), len(db), len(db.table("orders"))) == ({"orders"}, 1, 1)


def test_a_table_may_do_more_than_ours():
    """A subclass finds the same two methods to build on that TinyDB's has."""

    class Logged(LiveTable):
        updates = 0

        def _update_table(self, updater):
            super()._update_table(updater)
            self.updates += 1

    db = type("Own", (Database,), {"table_class": Logged})(storage=LiveStorage)
    db.insert({"n": 1})
    db.update({"n": 2}, where("n") == 1)
    db.remove(where("n") == 2)
    assert db.updates == 3
    assert list(db._read_table().items()) == []


def test_an_updater_of_ones_own_has_a_dictionary(copying):
    """What it does to the table's ids and documents is what is kept, in the order that a dictionary has."""

    def move(table):
        table[1] = table.pop(1)
        table["9"] = {"n": 9}
        table["2"] = {"n": 20}
        assert (len(table), 1 in table, "1" in table) == (5, True, False)

    def renew(table):
        kept = table[3]
        table.clear()
        assert (len(table), list(table), 3 in table) == (0, [], False)
        table[3] = kept

    copying.db.insert_multiple([{"n": 1}, {"n": 2}, {"n": 3}])
    copying.db.table("_default")._update_table(move)
    assert told(copying.again().all()) == [(2, {"n": 20}), (3, {"n": 3}), (1, {"n": 1}), (9, {"n": 9})]
    copying.db.table("_default")._update_table(renew)
    assert told(copying.again().all()) == [(3, {"n": 3})]


@pytest.mark.parametrize("entry", [("no number", {}), (1.5, {}), (4, [1]), (4, None)])
def test_an_updater_that_leaves_no_document_changes_nothing(entry):
    """TinyDB would write it down, and then not read its own table any more."""
    db = Database(storage=LiveStorage)
    db.insert({"n": 1})
    with pytest.raises(ValueError, match=r"invalid literal|not a Mapping"):
        db.table("_default")._update_table(lambda table: table.update([entry]))
    assert told(db.all()) == [(1, {"n": 1})]


# --- Storages ---------------------------------------------------------------------------------


def test_a_storage_is_read_and_written_whole(opened):
    """Underneath there is always TinyDB's picture of a database: tables of documents by text."""
    data = {"b": {"2": {"n": 1}, "1": {"deep": [{}]}}, "a": {}}
    opened.db.storage.write(copy.deepcopy(data))
    read = opened.again().storage.read()
    read.pop("_poller", None)
    assert read == data
    assert [list(table) for table in (read, read["b"])] == [["b", "a"], ["2", "1"]]
    assert opened.db.table("b").insert({}) == 3


def test_a_storage_that_holds_nothing_says_so(opened):
    """None or no tables: TinyDB takes both for an empty database."""
    assert not opened.db.storage.read()
    opened.db.insert({})
    opened.db.drop_tables()
    assert not opened.db.storage.read()


def test_a_database_that_was_left_is_closed(tmp_path):
    """What is closed by hand inside is not closed again by leaving; a file that is closed takes nothing."""
    for maker, error in (("theirs, a file", ValueError), ("ours, a journal", StoreError)):
        opened = Opened(maker, tmp_path / f"{error.__name__}.json")
        with opened.db as db:
            assert db is opened.db
            db.insert({"n": 1})
            db.close()
        with pytest.raises(error):
            db.insert({})
        with MAKERS[maker](tmp_path / f"{error.__name__}.json") as db:
            assert db.all() == [{"n": 1}]


class Counting(Middleware):
    """A middleware that sees everything pass."""

    def __init__(self, storage_cls) -> None:
        super().__init__(storage_cls)
        self.passed: list[str] = []

    def read(self):
        self.passed.append("read")
        return self.storage.read()

    def write(self, data) -> None:
        self.passed.append("write")
        self.storage.write(data)

    def close(self) -> None:
        self.passed.append("close")
        self.storage.close()


@pytest.mark.parametrize("storage", [JSONStorage, JournalStorage])
@pytest.mark.parametrize("database", [TinyDB, Database, LiveTinyDB])
def test_a_middleware_sees_all_that_passes(database, storage, tmp_path):
    """Nothing goes past it to the storage that it wraps, whoever asks."""
    with database(tmp_path / "a.json", storage=Counting(storage)) as db:
        db.insert({"n": 1})
        assert db.storage.passed == ["read", "read", "write"]
        assert db.get(doc_id=1) == {"n": 1}
        db.drop_table("_default")
        assert db.tables() == set()
    assert db.storage.passed == ["read", "read", "write", "read", "read", "write", "read", "close"]


def test_a_cache_of_theirs_writes_when_it_is_flushed(tmp_path):
    """TinyDB's caching middleware holds changes back from our journal as from its own file."""
    with Database(tmp_path / "a.json", storage=CachingMiddleware(JournalStorage)) as db:
        db.insert({"n": 1})
        assert db.storage.storage.read() is None
        db.storage.flush()
        assert db.storage.storage.read() == {"_default": {"1": {"n": 1}}}
        db.insert({"n": 2})
    with Database(tmp_path / "a.json") as db:
        assert told(db.all()) == [(1, {"n": 1}), (2, {"n": 2})]


class Refusing(Storage):
    """A storage that cannot be made."""

    def __init__(self) -> None:
        raise PermissionError("not yours")

    def read(self):
        """Never get here."""

    def write(self, data) -> None:
        """Never get here."""


@pytest.mark.parametrize("database", [TinyDB, Database])
def test_a_storage_that_cannot_be_made_says_why(database):
    """Its error is the caller's."""
    with pytest.raises(PermissionError, match="not yours"):
        database(storage=Refusing)


@pytest.mark.parametrize("storage", [MemoryStorage, CachingMiddleware(LiveStorage)])
def test_changes_go_to_live_storages_alone(storage):
    """What ours has beyond TinyDB says clearly that TinyDB's storages do not have it."""
    db = Database(storage=storage)
    table = db.table("a")
    db.insert({"n": 1})
    for ask in (lambda: table.lines, lambda: db.commit([table.delete(1)]), lambda: list(table.matching(bool, [1]))):
        with pytest.raises(TypeError, match="takes whole databases"):
            ask()
    assert db.all() == [{"n": 1}]


@pytest.mark.parametrize("maker", LIVE)
def test_our_own_table_is_not_to_be_had(maker, tmp_path):
    """What a snapshot says of itself is no table of documents."""
    opened = Opened(maker, tmp_path / "a.json")
    with pytest.raises(ValueError, match="_poller"):
        opened.db.table("_poller")
    opened.db.close()
