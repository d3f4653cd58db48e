"""TinyDB beside ours: whatever is asked of both, in whatever order, they answer alike."""

import copy
import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, where
from tinydb.operations import add, decrement, delete, increment, subtract
from tinydb.operations import set as set_field
from tinydb.queries import Query
from tinydb.storages import MemoryStorage
from tinydb.table import Document

from poller.stores.live import LiveStorage
from poller.stores.tables import Database
from tests.databases import everything, told

TABLES = ("orders", "x")


class CopyingStorage(MemoryStorage):
    """TinyDB's memory, giving and taking JSON as its file storage does."""

    def read(self):
        return json.loads(json.dumps(self.memory))

    def write(self, data):
        self.memory = json.loads(json.dumps(data))


class Pair:
    """TinyDB's database and one of ours, asked the same.

    Args:
        path: where ours keeps its journal; None to keep it in memory.
        full: bytes from which that journal is folded.
    """

    def __init__(self, path=None, *, full=2000):
        self._path = path
        self._full = full
        self._theirs = CopyingStorage()
        self._open()

    def _open(self):
        self.theirs = TinyDB(storage=lambda: self._theirs)
        self.ours = Database(self._path) if self._path else Database(storage=LiveStorage)
        if self._path:
            ledger = self.ours.storage._ledger
            ledger._smallest = ledger._full = self._full

    def ask(self, table, operation, *arguments):
        """Do one operation on both; fail unless answers, errors and everything kept are the same."""
        if operation in {"close", "die"}:
            self._reopen(operation)
        else:
            answers = [done(database, table, operation, *arguments) for database in (self.ours, self.theirs)]
            assert answers[0] == answers[1], (operation, arguments)
        assert ordered(self.ours.storage.read()) == ordered(self._theirs.read())
        assert everything(self.ours) == everything(self.theirs)

    def _reopen(self, how):
        if self._path:
            self.ours.close() if how == "close" else self.ours.storage._ledger.abandon()
            self._open()


def ordered(data):
    """Make what a storage holds comparable, the documents' order included; no tables and nothing at all are one."""
    return {name: list(documents.items()) for name, documents in (data or {}).items()}


def done(database, table, operation, *arguments):
    """Do one operation; give its answer, or the kind of its error."""
    try:
        if operation == "persist":
            return told(database.table(table, persist_empty=True).all())
        if operation.startswith("drop"):
            names = [table] if operation == "drop_table" else []
            return getattr(database, operation)(*names)
        return told(getattr(database.table(table), operation)(*copy.deepcopy(arguments)))
    except Exception as error:
        return type(error)


def poisoned(document):
    """An updater that does something first and then fails for a document with a "b"."""
    document["touched"] = True
    if "b" in document:
        raise RuntimeError("poisoned")


def unwritable(document):
    """An updater that leaves something that JSON does not have."""
    document["a"] = {1, 2}


OPERATORS = (increment("a"), decrement("b"), delete("c"), add("a", 2), subtract("b", 1), set_field("c", "z"))


# --- Short days, made small when they fail ----------------------------------------------------

VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=3), st.floats(-5, 5))
FIELDS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
IDS = st.integers(0, 8)
ASKED = IDS | st.sampled_from([-1, "1", 1.0, 2.5, True, None, ""])
DOCUMENTS = st.one_of(FIELDS, st.builds(Document, FIELDS, IDS), st.just([]))
CONDITIONS = st.one_of(
    st.builds(lambda field, value: where(field) == value, st.sampled_from("abc"), VALUES),
    st.builds(lambda field: where(field).exists(), st.sampled_from("abc")),
    st.builds(lambda field: ~where(field).exists(), st.sampled_from("abc")),
    st.builds(lambda n: where("a") < n, st.integers(-2, 2)),
    st.builds(lambda n: Query().fragment({"a": n}), st.integers(-2, 2)),
)
UPDATES = st.one_of(FIELDS, st.just(poisoned), st.just(unwritable), st.sampled_from(OPERATORS))
OPERATIONS = st.one_of(
    st.tuples(st.just("insert"), DOCUMENTS),
    st.tuples(st.just("insert_multiple"), st.lists(DOCUMENTS, max_size=3)),
    st.tuples(st.just("update"), UPDATES, st.none() | CONDITIONS),
    st.tuples(st.just("update"), UPDATES, st.none(), st.lists(ASKED, max_size=3)),
    st.tuples(st.just("update_multiple"), st.lists(st.tuples(UPDATES, CONDITIONS), max_size=3)),
    st.tuples(st.just("upsert"), DOCUMENTS, st.none() | CONDITIONS),
    st.tuples(st.just("remove"), CONDITIONS),
    st.tuples(st.just("remove"), st.none(), st.none() | st.lists(ASKED, max_size=3)),
    st.tuples(st.sampled_from(["search", "count", "get", "contains"]), CONDITIONS),
    st.tuples(st.just("get"), st.none(), ASKED),
    st.tuples(st.just("get"), st.none(), st.none(), st.lists(ASKED, max_size=3)),
    st.tuples(st.just("contains"), st.none(), st.none() | ASKED),
    st.tuples(st.sampled_from(["truncate", "all", "__len__", "persist", "drop_table", "drop_tables", "close", "die"])),
)
DAYS = st.lists(st.tuples(st.sampled_from(TABLES), OPERATIONS), max_size=12)


@settings(max_examples=150)
@given(DAYS)
def test_every_operation_does_what_tinydbs_does(operations):
    """Answers, errors, documents, their ids and their order are TinyDB's own, whatever is done."""
    pair = Pair()
    for table, operation in operations:
        pair.ask(table, *operation)


@pytest.mark.heavy
@pytest.mark.timeout(900)
@settings(max_examples=10_000)
@given(DAYS)
def test_every_operation_does_what_tinydbs_does_in_ten_thousand_days(operations):
    """The same, far more often."""
    pair = Pair()
    for table, operation in operations:
        pair.ask(table, *operation)


# --- Long days, with a disk -------------------------------------------------------------------


def fields(chance):
    """Draw what a document holds."""
    values = (None, True, 0, 1, 2, 2.5, "é", [1, {"d": None}])
    return {name: chance.choice(values) for name in chance.sample("abc", chance.randrange(4))}


def document(chance):
    """Draw a document, now and then with an id of its own."""
    return Document(fields(chance), chance.randrange(40)) if chance.random() < 0.3 else fields(chance)


def condition(chance):
    """Draw a condition."""
    field, value = chance.choice("abc"), chance.randrange(3)
    return chance.choice([where(field) == value, where(field).exists(), ~where(field).exists(), where(field) >= value])


def update(chance):
    """Draw what an update does."""
    return chance.choice([fields(chance), fields(chance), *OPERATORS, poisoned, unwritable])


def ids(chance):
    """Draw ids, of which some are there."""
    return [chance.randrange(40) for _ in range(chance.randrange(4))]


DRAWS = {
    6: lambda c: ("insert", document(c)),
    5: lambda c: ("insert_multiple", [document(c) for _ in range(c.randrange(4))]),
    4.1: lambda c: ("update", update(c), condition(c)),
    4.2: lambda c: ("update", update(c), None, ids(c)),
    3.1: lambda c: ("update_multiple", [(update(c), condition(c)) for _ in range(c.randrange(4))]),
    3.2: lambda c: ("upsert", document(c), condition(c)),
    2.1: lambda c: ("remove", None, ids(c)),
    2.2: lambda c: ("search", condition(c)),
    2.3: lambda c: ("get", None, None, ids(c)),
    1.1: lambda c: ("get", None, c.randrange(40)),
    1.2: lambda c: ("contains", condition(c)),
    0.5: lambda c: ("remove", condition(c)),
    0.6: lambda c: ("update", update(c)),
    0.3: lambda c: ("close",),
    0.4: lambda c: ("die",),
    0.1: lambda c: (c.choice(["truncate", "drop_table", "persist", "drop_tables"]),),
}
"""Operations by how often they are wanted."""


def live_a_day(path, seed, operations):
    """Ask a pair that many times."""
    chance, pair = Random(seed), Pair(path)
    for draw in chance.choices([*DRAWS.values()], [*DRAWS], k=operations):
        pair.ask(chance.choice(TABLES), *draw(chance))
    pair.ask(TABLES[0], "close")
    pair.ours.close()
    with TinyDB(path) as left:
        assert everything(left) == everything(pair.theirs)


@pytest.mark.parametrize("seed", range(3))
def test_a_long_day_ends_as_tinydbs_does(tmp_path, seed):
    """Closed, opened, killed and folded in between, ours is TinyDB's at every moment, and so is the file it leaves."""
    live_a_day(tmp_path / "a.json", seed, 250)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 120))
def test_twenty_long_days_end_as_tinydbs_do(tmp_path, seed):
    """The same, with 3,000 operations each."""
    live_a_day(tmp_path / "a.json", seed, 3000)


@pytest.mark.parametrize("removed", [[], [5], [4], [5, 4], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize("chosen", [2, 5, 7])
def test_the_next_id_is_the_one_that_tinydb_takes(removed, chosen):
    """After an id of one's own choice, numbering goes on from the highest that is there."""
    pair = Pair()
    gone = removed if chosen in removed or chosen > 5 else [*removed, chosen]
    pair.ask("x", "insert_multiple", [{}] * 5)
    for operation in (("remove", None, gone), ("insert", Document({}, chosen)), ("insert", {}), ("insert", {})):
        pair.ask("x", *operation)
    assert len(pair.ours.table("x")) == 5 - len(gone) + 3
