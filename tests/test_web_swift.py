"""The quick readers and the explaining ones: where the quick say anything, they say the same."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.order import Order
from poller.web import body, swift
from poller.web.body import Doubled
from poller.web.intake import Faults, Intake
from poller.web.problem import Refusal
from tests.hook import NOW, REMOTES

PIECES = ['\\"', "\\u0022", "\\\\", "\\/", "\\n", "\\u0000", "\\ud83d\\ude00", "\\ud800", "é", "😀", "a", "task_id"]
"""Of which a JSON text may be made."""
texts = st.lists(st.sampled_from(PIECES), max_size=4).map(lambda pieces: f'"{"".join(pieces)}"')
names = st.sampled_from(['"a"', '"\\u0061"', '"b"', '""', '"\\""', '"\\u0022"']) | texts
numbers = st.sampled_from(["0", "-0", "1.5", "1e999", "-1E-999", "01", "NaN", str(2**64), "9" * 40, "9" * 400])
spaces = st.sampled_from(["", " ", "\n\t\r "])


def joined(parts: Sequence[str], ends: str, space: str) -> str:
    """Write a list or an object."""
    return f"{ends[0]}{space}{f'{space},{space}'.join(parts)}{ends[1]}"


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Write lists and objects of some documents; any name may come again."""
    pairs = st.tuples(names, inner).map(": ".join)
    return st.builds(joined, st.lists(inner, max_size=3), st.just("[]"), spaces) | st.builds(
        joined, st.lists(pairs, max_size=4), st.just("{}"), spaces
    )


literals = st.sampled_from(["true", "false", "null", "nul"])
documents = nested(st.recursive(texts | numbers | literals, nested, max_leaves=8)) | st.text(
    alphabet='{}[]",:a1\\u02 \n', max_size=24
)


def exact(value: Any) -> str:
    """Write a value so that nothing else is written alike: 1, 1.0, true and -0.0 all differ."""
    return repr(value)


def explained(raw: bytes) -> Any:
    """Read as the explaining reader does; None if it refuses."""
    try:
        return body._explained(raw)
    except Refusal:
        return None


def has_doubled(value: Any) -> bool:
    """Tell whether a name came twice anywhere."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, Doubled) or any(map(has_doubled, inner))


@settings(max_examples=500, deadline=None)
@given(document=documents)
def test_what_is_read_swiftly_is_what_the_explaining_reader_reads(document: str) -> None:
    """The values are the same to the last type, nothing that it refuses gets by, and no name came twice."""
    raw = document.encode()
    swiftly, slowly = swift.read(raw), explained(raw)
    if swiftly is not None:
        assert exact(swiftly) == exact(slowly)
        assert not has_doubled(slowly)


@pytest.mark.parametrize(
    "document",
    [
        '{"a": 1, "a": 1}',
        '{"a": 1, "\\u0061": 1}',
        '{"a": 1, "a": "\\u0022\\u0022"}',
        '{"a": "\\"", "a": ""}',
        '{"": 1, "": 1}',
        '{"a": {"b": 1, "b": 2}, "a": 3}',
        '[{"a": 1}, {"c": [{"b": 1, "b": []}]}]',
        '{"a": "", "a": {"\\u0022": "\\u0022"}}',
    ],
)
def test_a_doubled_name_takes_a_closer_look(document: str) -> None:
    """Wherever it stands, however it is written, and whatever evens out the count."""
    assert swift.read(document.encode()) is None
    assert has_doubled(explained(document.encode()))


@pytest.mark.parametrize(
    "document",
    [
        {"taskID": "84ad", "projectID": "brochure-7"},
        {"task_id": 'say "yes" \\ no', "context": {"ä": ["ö", {"ü": None}], "n": [1.5, 2**70, -1]}, "dry_run": True},
        [{"task_id": str(number), "batch": "b"} for number in range(100)],
        {},
        [],
    ],
)
def test_what_is_plainly_right_is_read_swiftly(document: Any) -> None:
    """As any usual encoder writes it, escaped or not; else nothing would be gained."""
    for raw in (json.dumps(document), json.dumps(document, ensure_ascii=False, indent=2)):
        assert exact(swift.read(raw.encode())) == exact(document)


def test_what_is_no_utf_8_takes_a_closer_look() -> None:
    """A text or a name of other bytes is no text."""
    assert swift.read(b'["\xff"]') is swift.read(b'{"\xff": 1}') is None


WORDS = st.sampled_from(["84ad", "", "a\x7f", "x" * 600, "é" * 300, "grafx", "7d", "2h", "{task_id}{ext}", "\0"])
VALUES = WORDS | st.none() | st.booleans() | st.integers(-1, 90) | st.floats(allow_nan=False)
CONTEXT = st.dictionaries(st.sampled_from(["a", "projectID", "\0"]), VALUES | st.lists(VALUES, max_size=2), max_size=2)
FIELDS = (
    "task_id",
    "taskID",
    "remote",
    "context",
    "projectID",
    "batch",
    "feed",
    "dry_run",
    "deadline",
    "filename",
    "no",
)
ITEMS = st.dictionaries(st.sampled_from(FIELDS), VALUES | CONTEXT, max_size=5)
LIKELY = st.fixed_dictionaries(
    {"taskID": st.sampled_from(["1", "é" * 256, "a b"])},
    optional={
        "remote": st.sampled_from(sorted(REMOTES)),
        "context": st.dictionaries(st.sampled_from("ab"), st.integers() | st.text("xyz"), max_size=2),
        "projectID": st.just("p"),
        "batch": st.just("b"),
        "dry_run": st.booleans(),
        "deadline": st.sampled_from(["7d", 90, 0.5]),
        "filename": st.just("{task_id}{ext}"),
    },
)


def slowly(item: Any) -> Order | None:
    """Read an order as the reader does that explains; None if anything is wrong with it."""
    faults = Faults()
    order = intake._order(item, "", NOW, faults)
    assert (order is None) is bool(faults)
    return order


intake = Intake(remotes=REMOTES, now=lambda: NOW)


@settings(max_examples=500, deadline=None)
@given(item=ITEMS | LIKELY | VALUES)
def test_an_order_that_is_read_in_one_go_is_what_the_explaining_reader_makes(item: Any) -> None:
    """Nothing that it would refuse is taken, and nothing is taken otherwise."""
    order = intake._plain(item, NOW)
    assert order is None or order == slowly(item)


@settings(max_examples=200, deadline=None)
@given(item=LIKELY)
def test_a_plain_order_is_read_in_one_go(item: Any) -> None:
    """What most shops send needs no closer look."""
    assert intake._plain(item, NOW) == slowly(item) is not None


def test_a_doubled_object_is_never_plain() -> None:
    """The reader that explains is the one that tells which name came twice."""
    assert intake._plain(Doubled([("task_id", "1")], ["task_id"]), NOW) is None
    assert intake._plain({"task_id": "1", "context": Doubled([("a", 1)], ["a"])}, NOW) is None
