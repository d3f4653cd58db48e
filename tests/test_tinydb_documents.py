"""What TinyDB documents of documents and queries, held against TinyDB and every face of ours."""

import enum
import math
import re
from types import MappingProxyType

import pytest
from tinydb import Query, TinyDB, where
from tinydb.operations import add, decrement, delete, increment, subtract
from tinydb.operations import set as set_field
from tinydb.table import Document

from tests.databases import COPYING, LIVE, MAKERS, Opened, told

ANIMALS = [
    {"name": "ant", "legs": 6, "tags": ["small", "red"], "home": {"kind": "hill", "size": 9}},
    {"name": "bee", "legs": 6, "tags": ["small"], "home": {"kind": "hive", "size": 30}},
    {"name": "cow", "legs": 4, "tags": [], "home": None},
]


@pytest.fixture(params=MAKERS)
def opened(request, tmp_path):
    """A database that holds three animals."""
    made = Opened(request.param, tmp_path / "animals.json")
    made.db.insert_multiple(ANIMALS)
    yield made
    made.db.close()


@pytest.fixture
def db(opened) -> TinyDB:
    """The same, opened from what was written of it."""
    return opened.again()


def names(documents):
    """Tell documents by the first letters of their names."""
    return "".join(document["name"][0] for document in documents)


# --- Inserting --------------------------------------------------------------------------------


def test_what_is_inserted_is_numbered_and_kept(opened, db):
    """Ids go on from the highest; documents keep their order and all that is in them."""
    assert told(db.all()) == list(enumerate(ANIMALS, start=1))
    assert db.insert({"name": "dog"}) == 4
    assert db.insert_multiple({"name": name} for name in ("eel", "fly")) == [5, 6]
    assert names(opened.again()) == "abcdef"
    assert opened.db.insert({}) == 7


def test_ids_may_be_chosen(opened, db):
    """A Document goes where it says, and numbering goes on above it."""
    assert db.insert(Document({"name": "dog"}, doc_id=40)) == 40
    assert db.insert({"name": "eel"}) == 41
    assert db.insert_multiple([Document({"name": "fly"}, doc_id=7), {"name": "gnu"}]) == [7, 42]
    assert [document.doc_id for document in opened.again()] == [1, 2, 3, 40, 41, 7, 42]


@pytest.mark.parametrize("documents", [[Document({}, 2)], [{}, Document({}, 9), Document({}, 9)], [{}, 5], {"a": 1}])
def test_an_insertion_that_clashes_inserts_nothing(opened, db, documents):
    """An id that is taken, or something that is no mapping, is a ValueError, and none of the list is there."""
    with pytest.raises(ValueError, match=r"already exists|not a Mapping"):
        db.insert_multiple(documents)
    assert names(opened.again()) == "abc"


@pytest.mark.parametrize("document", [[1], "text", 5, None, {"a set"}])
def test_only_mappings_are_documents(db, document):
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match="not a Mapping"):
        db.insert(document)
    assert len(db) == 3


def test_any_mapping_is_a_document(opened, db):
    """What is not a dictionary is made one, for updates as well."""
    db.insert(MappingProxyType({"name": "dog"}))
    db.update(MappingProxyType({"legs": 4}), where("name") == "dog")
    assert told(opened.again().get(doc_id=4)) == (4, {"name": "dog", "legs": 4})


def test_the_given_document_is_not_held_on_to(db):
    """Changing it afterwards changes nothing in the database."""
    given = {"name": "dog"}
    db.insert(given)
    given["name"] = "changed"
    assert db.get(doc_id=4)["name"] == "dog"


def test_ids_below_one_are_ids(opened, db):
    """Zero and negative ids are kept, and a table that has no others is numbered on from them."""
    db.truncate()
    assert db.insert(Document({"name": "low"}, doc_id=-5)) == -5
    assert opened.again().insert({"name": "next"}) == -4
    assert opened.db.insert(Document({"name": "zero"}, doc_id=0)) == 0
    assert opened.again().insert({"name": "one"}) == 1
    assert [document.doc_id for document in opened.again()] == [-5, -4, 0, 1]


# --- What a document may hold -----------------------------------------------------------------

KEPT = {
    "none": None,
    "bools": [True, False],
    "empty": [{}, [], ""],
    "nested": {"a": [{"b": [{"c": None}]}]},
    "text": 'é\u2028😀 "quoted" \\ \0\n: {',
    "integers": [0, -1, 2**63, -(2**64), 10**100],
    "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22],
    "": "a key may be empty",
    "key: {": "or look like ours",
}


def test_json_comes_back_as_it_was(opened, db):
    """Every kind of value is kept exactly, in its place, with its type."""
    db.insert(KEPT)
    assert repr(dict(opened.again().get(doc_id=4))) == repr(KEPT)


def test_deep_documents_are_kept(opened, db):
    """A few hundred levels are nothing."""
    deep: list = []
    for _ in range(300):
        deep = [deep]
    db.insert({"deep": deep})
    assert opened.again().get(doc_id=4) == {"deep": deep}


class Legs(enum.IntEnum):
    FOUR = 4


@pytest.mark.parametrize("maker", COPYING)
def test_what_json_writes_otherwise_comes_back_as_json(maker, tmp_path):
    """Keys become text, tuples lists, and of two keys that are one in JSON the last counts."""
    opened = Opened(maker, tmp_path / "a.json")
    opened.db.insert({1: "a", None: 2, False: 3, 1.5: 4, "t": (1, 2), "e": Legs.FOUR, "1": "b"})
    assert dict(opened.again().get(doc_id=1)) == {"1": "b", "null": 2, "false": 3, "1.5": 4, "t": [1, 2], "e": 4}
    opened.db.close()


UNWRITABLE = [{1, 2}, object(), b"bytes", {(1, 2): "tuple"}, 1j]


@pytest.mark.parametrize("value", UNWRITABLE)
@pytest.mark.parametrize("maker", COPYING)
def test_what_json_has_not_changes_nothing(maker, value, tmp_path):
    """It is a TypeError wherever it is met, even behind documents that could be written."""
    opened = Opened(maker, tmp_path / "a.json")
    opened.db.insert_multiple(ANIMALS)
    for operation in (
        lambda db: db.insert({"a": value}),
        lambda db: db.insert_multiple([{"fine": 1}, {"a": value}]),
        lambda db: db.update({"a": value}),
        lambda db: db.update(set_field("a", [value]), where("name") == "cow"),
        lambda db: db.upsert(Document({"a": value}, doc_id=9)),
        lambda db: db.update_multiple([({"fine": 1}, where("legs") == 6), ({"a": value}, where("legs") == 4)]),
    ):
        with pytest.raises(TypeError):
            operation(opened.db)
    assert told(opened.again().all()) == list(enumerate(ANIMALS, start=1))
    opened.db.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}], ids=ascii)
@pytest.mark.parametrize("maker", LIVE)
def test_what_no_json_in_utf_8_has_is_refused(maker, value, tmp_path):
    """Here we differ, and say so: TinyDB writes these, and then no other reader of JSON takes its file."""
    opened = Opened(maker, tmp_path / "a.json")
    opened.db.insert({"fine": 1})
    with pytest.raises(ValueError, match=r"not JSON compliant|surrogates not allowed"):
        opened.db.update({"a": value})
    assert told(opened.again().all()) == [(1, {"fine": 1})]
    opened.db.close()


# --- Finding ----------------------------------------------------------------------------------

ANIMAL = Query()


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (where("legs") == 6, "ab"),
        (where("legs") != 6, "c"),
        (ANIMAL.legs < 6, "c"),
        (ANIMAL.legs >= 4, "abc"),
        (ANIMAL.wings.exists(), ""),
        (~ANIMAL.wings.exists(), "abc"),
        (ANIMAL.home.kind == "hive", "b"),
        (ANIMAL["home"]["size"] > 5, "ab"),
        (ANIMAL.name.matches("[ab]"), "ab"),
        (ANIMAL.name.search("E", flags=re.IGNORECASE), "b"),
        (ANIMAL.legs.test(lambda n, low: n > low, 5), "ab"),
        (ANIMAL.tags.any(["red", "blue"]), "a"),
        (ANIMAL.tags.all(["small"]), "ab"),
        (ANIMAL.home == None, "c"),  # noqa: E711  # a query, not a comparison
        (ANIMAL.name.one_of(["bee", "cow"]), "bc"),
        (ANIMAL.tags.map(len) == 2, "a"),
        ((ANIMAL.legs == 6) & (ANIMAL.home.size == 9), "a"),
        ((ANIMAL.legs == 4) | (ANIMAL.home.size == 9), "ac"),
        (ANIMAL.fragment({"legs": 6, "tags": ["small"]}), "b"),
        (ANIMAL.noop(), "abc"),
        (lambda animal: animal["name"] > "b", "bc"),
    ],
)
def test_every_query_finds_what_it_says(db, condition, found):
    """Searching, counting, getting and containing agree, the second time from the cache as well."""
    for _ in range(2):
        assert names(db.search(condition)) == found
        assert db.count(condition) == len(found)
    assert db.contains(condition) == bool(found)
    first = db.get(condition)
    assert (first and first["name"][0]) == (found[0] if found else None)


def test_documents_are_found_by_id(db):
    """One or several, in the table's order; those that are not there are left out."""
    assert told(db.get(doc_id=2)) == (2, ANIMALS[1])
    assert db.get(doc_id=9) is None
    assert db.get(doc_id=math.nan) is None
    assert names(db.get(doc_ids=[3, 9, 1, 1])) == "ac"
    assert db.get(doc_ids=[]) == []
    assert (db.contains(doc_id=3), db.contains(doc_id=9)) == (True, False)


def test_an_id_goes_before_a_condition(db):
    """Where both are given, TinyDB looks at the id."""
    assert names([db.get(where("name") == "ant", doc_id=2)]) == "b"
    assert names([db.get(doc_id=2, doc_ids=[3])]) == "b"
    assert names(db.get(where("name") == "ant", doc_ids=[3])) == "c"
    assert db.update({"x": 1}, where("name") == "ant", doc_ids=[2]) == [2]
    assert db.remove(where("name") == "ant", doc_ids=[2]) == [2]


def test_what_asks_for_nothing_is_refused(db):
    """Neither condition nor id is a mistake, not a wish for everything."""
    for operation in (db.get, db.contains, db.remove):
        with pytest.raises(RuntimeError):
            operation()
    with pytest.raises(ValueError, match="doc_id"):
        db.upsert({"name": "dog"})
    assert len(db) == 3


# --- Updating ---------------------------------------------------------------------------------


def test_fields_are_set_where_the_condition_holds(opened, db):
    """The ids come back, and all else stays."""
    assert db.update({"legs": 8, "web": True}, where("legs") == 6) == [1, 2]
    assert told(opened.again().all()) == [
        (1, ANIMALS[0] | {"legs": 8, "web": True}),
        (2, ANIMALS[1] | {"legs": 8, "web": True}),
        (3, ANIMALS[2]),
    ]


def test_all_are_updated_where_nothing_is_said(opened, db):
    """An update without condition is for every document."""
    assert db.update({"legs": 0}) == [1, 2, 3]
    assert opened.again().count(where("legs") == 0) == 3


def test_updates_by_id_skip_what_is_not_there(opened, db):
    """The ids that were updated come back, as they were given and in that order."""
    assert db.update({"legs": 0}, doc_ids=[3, 99, 1]) == [3, 1]
    assert db.update({"legs": 0}, doc_ids=iter([99])) == []
    assert names(opened.again().search(where("legs") == 0)) == "ac"


def test_an_id_given_twice_is_updated_twice(opened, db):
    """Nobody makes a set of the ids."""
    assert db.update(increment("legs"), doc_ids=[3, 3]) == [3, 3]
    assert opened.again().get(doc_id=3)["legs"] == 6


@pytest.mark.parametrize("maker", COPYING)
def test_ids_are_found_as_numbers(maker, tmp_path):
    """Numbers that are equal are one id, and text is none, except to ``get``, which asks by text."""
    opened = Opened(maker, tmp_path / "a.json")
    opened.db.insert_multiple([{"n": 0}, {"n": 0}])
    assert opened.db.update(increment("n"), doc_ids=[True, 1.0, "1", 1.5, None]) == [True, 1.0]
    assert opened.db.remove(doc_ids=["1", 2.0]) == [2.0]
    assert told(opened.again().all()) == [(1, {"n": 2})]
    assert [opened.db.get(doc_id=key) for key in ("1", 1.0, True)] == [{"n": 2}, None, None]
    opened.db.close()


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (add("legs", 2), {"name": "cow", "legs": 6}),
        (add("name", "!"), {"name": "cow!", "legs": 4}),
        (subtract("legs", 3), {"name": "cow", "legs": 1}),
        (increment("legs"), {"name": "cow", "legs": 5}),
        (decrement("legs"), {"name": "cow", "legs": 3}),
        (set_field("legs", None), {"name": "cow", "legs": None}),
        (set_field("new", [1]), {"name": "cow", "legs": 4, "new": [1]}),
        (delete("legs"), {"name": "cow"}),
        (lambda cow: cow.clear(), {}),
        (lambda cow: cow.update(name="kuh"), {"name": "kuh", "legs": 4}),
    ],
)
def test_every_operation_changes_what_it_names(opened, db, operation, expected):
    """TinyDB's operations and callables of one's own work on the document itself."""
    db.update_multiple([(delete("tags"), where("name") == "cow"), (delete("home"), where("name") == "cow")])
    assert db.update(operation, where("name") == "cow") == [3]
    assert opened.again().get(doc_id=3) == expected
    assert opened.db.all()[:2] == ANIMALS[:2]


def test_several_updates_are_made_one_after_the_other(opened, db):
    """Each sees what the ones before it did, and a document counts once for each."""
    updates = [(increment("legs"), where("legs") == 6), ({"odd": True}, where("legs") == 7), ({}, where("legs") == 4)]
    assert db.update_multiple(updates) == [1, 1, 2, 2, 3]
    assert names(opened.again().search((where("odd") == True) & (where("legs") == 7))) == "ab"  # noqa: E712


def test_a_condition_is_asked_between_updates(opened, db):
    """It may know what was done to the documents before: here, that one was found."""
    found = []
    db.update(lambda animal: found.append(animal["name"]), lambda animal: not found)
    assert found == ["ant"]
    assert db.remove(lambda animal: animal["name"] == "bee" and found == ["ant"]) == [2]


@pytest.mark.parametrize("maker", COPYING)
@pytest.mark.parametrize("how", ["all", "condition", "ids", "several"])
def test_an_updater_that_raises_changes_nothing(maker, how, tmp_path):
    """Whatever it did before, to this document and to others, is forgotten."""

    def touched(animal):
        animal["touched"] = animal["home"]["touched"] = True  # the cow has no home

    opened = Opened(maker, tmp_path / "a.json")
    opened.db.insert_multiple(ANIMALS)
    operations = {
        "all": lambda db: db.update(touched),
        "condition": lambda db: db.update(touched, where("legs") > 0),
        "ids": lambda db: db.update(touched, doc_ids=[1, 3]),
        "several": lambda db: db.update_multiple([({"fine": 1}, where("legs") == 6), (touched, where("legs") == 4)]),
    }
    with pytest.raises(TypeError):
        operations[how](opened.db)
    assert opened.db.all() == ANIMALS
    assert told(opened.again().all()) == list(enumerate(ANIMALS, start=1))
    opened.db.close()


def test_a_condition_that_raises_changes_nothing(opened, db):
    """An error in a query is the caller's own, and comes back as it is."""
    for operation in (db.update, lambda fields, cond: db.remove(cond)):
        with pytest.raises(ZeroDivisionError):
            operation({"legs": 1}, lambda animal: 1 / (animal["legs"] - 4))
    assert names(opened.again()) == "abc"


# --- Upserting --------------------------------------------------------------------------------


def test_an_upsert_updates_all_that_match(opened, db):
    """The document's fields are laid over them."""
    assert db.upsert({"legs": 8}, where("legs") == 6) == [1, 2]
    assert opened.again().get(doc_id=1) == ANIMALS[0] | {"legs": 8}
    assert len(opened.db) == 3


def test_an_upsert_inserts_what_nothing_matches(opened, db):
    """It gets the next id, or the one it brings."""
    assert db.upsert({"name": "dog"}, where("name") == "dog") == [4]
    assert db.upsert(Document({"name": "eel"}, doc_id=9)) == [9]
    assert db.upsert(Document({"legs": 0}, doc_id=9)) == [9]
    assert db.upsert(Document({"name": "fly"}, doc_id=12), where("name") == "ant") == [12]
    assert told(opened.again().all()[3:]) == [
        (4, {"name": "dog"}),
        (9, {"name": "eel", "legs": 0}),
        (12, {"name": "fly"}),
    ]
    assert opened.db.insert({}) == 13


# --- Removing ---------------------------------------------------------------------------------


def test_what_matches_is_removed(opened, db):
    """The ids come back; the rest keeps its order, and no id is given twice while one looks."""
    assert db.remove(where("legs") == 6) == [1, 2]
    assert db.remove(where("legs") == 6) == []
    assert names(opened.again()) == "c"
    assert opened.db.insert({}) == 4


def test_ids_are_removed(opened, db):
    """Those that are not there are skipped."""
    assert db.remove(doc_ids=[3, 99, 1]) == [3, 1]
    assert names(opened.again()) == "b"


@pytest.mark.parametrize("maker", COPYING)
def test_an_id_cannot_be_removed_twice_at_once(maker, tmp_path):
    """TinyDB says KeyError, and then nothing is removed."""
    opened = Opened(maker, tmp_path / "a.json")
    opened.db.insert_multiple(ANIMALS)
    with pytest.raises(KeyError):
        opened.db.remove(doc_ids=[1, 2, 1])
    assert names(opened.again()) == "abc"
    opened.db.close()


def test_a_table_that_is_truncated_begins_at_one(opened, db):
    """Nothing is left, the numbers neither."""
    db.truncate()
    assert opened.again().all() == []
    assert opened.db.insert({"name": "dog"}) == 1
    assert names(opened.again()) == "d"


def test_what_comes_back_stands_at_the_end(opened, db):
    """A document that was removed and inserted again under its id has lost its place."""
    db.remove(doc_ids=[1])
    db.insert(Document({"name": "ant"}, doc_id=1))
    assert [document.doc_id for document in opened.again()] == [2, 3, 1]
