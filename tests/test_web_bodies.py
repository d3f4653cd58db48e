"""Hostile and mistaken bodies: always a clean 4xx that names what is wrong, never a 500."""

import asyncio
import gzip
import json
from collections.abc import Callable
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poller.order import Order
from poller.web.body import from_form, from_json
from poller.web.intake import Intake
from poller.web.problem import Refusal
from tests.hook import NOW, REMOTES, fields, hook

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DEEP = 100_000


def intake() -> Intake:
    """Make an intake as the hook has it."""
    return Intake(remotes=REMOTES, now=lambda: NOW)


def order(**changed: Any) -> bytes:
    """Write an order with a good task ID and whatever else is wanted."""
    return json.dumps({"task_id": "1"} | changed).encode()


MALFORMED = [
    b"",
    b" \n",
    b"{",
    b"nonsense",
    b'{"task_id": "1",}',
    b'{"task_id": "1"} {"task_id": "2"}',
    b'{"task_id": "a\nb"}',
    b"\xff\xfe",
    '{"task_id": "1"}'.encode("utf-16"),
    b'{"task_id": "1", "context": {"a": NaN}}',
    b'{"task_id": "1", "context": {"a": -Infinity}}',
    b'{"task_id": "1", "context": {"a": ' + b"9" * 5000 + b"}}",
    b"[" * DEEP,
    b'{"task_id": "1", "context": {"a": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
]


@pytest.mark.parametrize("body", MALFORMED, ids=[repr(body[:24]) for body in MALFORMED])
async def test_what_is_not_json_is_400(tmp_path: Path, body: bytes) -> None:
    """Syntax errors, other encodings, numbers JSON does not know and bottomless nesting are malformed."""
    async with hook(tmp_path) as shop:
        reply, problem = await shop.post("/orders", body, headers={"Content-Type": "application/json"})
        assert (reply.status, reply.content_type) == (400, "application/problem+json")
        assert problem["status"] == 400
        assert problem["detail"]
        assert (await shop.get("/orders"))[1]["count"] == 0


WRONG: list[tuple[bytes, list[str]]] = [
    (b"null", [""]),
    (b"42", [""]),
    (b'"84ad"', [""]),
    (b"[]", [""]),
    (b"{}", ["task_id"]),
    (b"[[]]", ["[0]"]),
    (b"[null, 1]", ["[0]", "[1]"]),
    (b'{"task_id": null}', ["task_id"]),
    (b'{"task_id": 84}', ["task_id"]),
    (b'{"task_id": 8.4}', ["task_id"]),
    (b'{"task_id": true}', ["task_id"]),
    (b'{"task_id": ["a"]}', ["task_id"]),
    (b'{"task_id": ""}', ["task_id"]),
    (order(task_id="x" * 513), ["task_id"]),
    (order(task_id="é" * 257), ["task_id"]),
    (order(task_id="a\0b"), ["task_id"]),
    (order(task_id="a\nb"), ["task_id"]),
    (order(task_id="a\x7f"), ["task_id"]),
    (order(task_id="a\x85"), ["task_id"]),
    (b'{"task_id": "\\ud800"}', ["task_id"]),
    (b'{"task_id": "1", "taskID": "1"}', ["taskID"]),
    (b'{"task_id": "1", "task_id": "1"}', ["task_id"]),
    (b'{"task_id": "1", "task\\u005fid": "2"}', ["task_id"]),
    (b'{"batch": "a", "task_id": "1", "batch": "b"}', ["batch"]),
    (order(Task_Id="1"), ["Task_Id"]),
    (order(**{"x" * 10_000: 1}), ["x" * 200]),
    (b'{"task_id": "1", "\\ud800": 1}', ["?"]),
    (order(remote="nope"), ["remote"]),
    (order(remote=""), ["remote"]),
    (order(remote=["grafx"]), ["remote"]),
    (order(batch=""), ["batch"]),
    (order(batch=7), ["batch"]),
    (order(batch="b" * 201, feed="a\tb"), ["batch", "feed"]),
    (order(dry_run="yes", deadline=True), ["dry_run", "deadline"]),
    (order(dry_run=1), ["dry_run"]),
    (order(deadline="soon"), ["deadline"]),
    (order(deadline=0), ["deadline"]),
    (order(deadline=-1), ["deadline"]),
    (order(deadline=10**100), ["deadline"]),
    (b'{"task_id": "1", "deadline": 1e999}', ["deadline"]),
    (order(deadline="11y"), ["deadline"]),
    (order(deadline="4000d"), ["deadline"]),
    (order(deadline="9" * 100), ["deadline"]),
    (order(deadline="2020-01-01T00:00:00Z"), ["deadline"]),
    (order(deadline="2050-01-01T00:00:00Z"), ["deadline"]),
    (order(deadline="2027-06-01T00:00:00"), ["deadline"]),
    (order(deadline="0001-01-01T00:00:00+23:59"), ["deadline"]),
    (order(deadline="9999-12-31T23:59:59-23:59"), ["deadline"]),
    (order(filename="../x"), ["filename"]),
    (order(filename="/etc/passwd"), ["filename"]),
    (order(filename="a/./b"), ["filename"]),
    (order(filename="{secret}"), ["filename"]),
    (order(filename=""), ["filename"]),
    (order(filename=".partial/x"), ["filename"]),
    (order(filename="a\\b"), ["filename"]),
    (order(filename="é"), ["filename"]),
    (order(filename=5), ["filename"]),
    (order(context=[]), ["context"]),
    (order(context="a=b"), ["context"]),
    (order(context={"a": "x" * 17_000}), ["context"]),
    (order(context={"a": "\0"}), ["context"]),
    (order(context={"a\0": 1}), ["context"]),
    (b'{"task_id": "1", "context": {"a": 1e999}}', ["context"]),
    (b'{"task_id": "1", "context": {"a": "\\udfff"}}', ["context"]),
    (b'{"task_id": "1", "context": {"a": 1, "a": 1}}', ["context"]),
    (b'{"task_id": "1", "context": {"a": [{"b": 1, "b": 2}]}}', ["context"]),
    (b'{"task_id": "1", "context": {"a": ' + b"[" * 16 + b"]" * 16 + b"}}", ["context"]),
    (order(projectID="p", context={"projectID": "p"}), ["projectID"]),
    (order(projectID=5), ["projectID"]),
    (b'{"batsh": 1, "remote": 1, "context": 1}', ["batsh", "remote", "context", "task_id"]),
]


@pytest.mark.parametrize(("body", "wrong"), WRONG, ids=[repr(body[:48]) for body, _ in WRONG])
async def test_what_is_wrong_with_fields_is_422_and_all_of_it_is_named(
    tmp_path: Path, body: bytes, wrong: list[str]
) -> None:
    """Every bad field is in ``errors``, with a message; nothing is kept."""
    async with hook(tmp_path) as shop:
        reply, problem = await shop.post("/orders", body, headers={"Content-Type": "application/json"})
        assert (reply.status, reply.content_type) == (422, "application/problem+json")
        assert sorted(fields(problem)) == sorted(wrong)
        assert all(0 < len(error["message"]) < 400 for error in problem["errors"])
        assert "codec" not in str(problem)
        assert (await shop.get("/orders"))[1]["count"] == 0


EDGES = [
    order(task_id="x" * 512),
    order(task_id="é" * 256),
    order(task_id="../{a}/%2e 'quoted' \u2028 \U0001f600"),
    order(batch="b" * 200, feed=" "),
    order(deadline="3650d"),
    order(context={"a": 10**300, "b": -(2**64), "c": 1.5, "d": "x" * 16_000}),
    b'{"task_id": "1", "context": {"a": ' + b"[" * 15 + b"]" * 15 + b"}}",
    order(filename="a b/{task_id}@x{ext}"),
    b'{"task_id": "\\ud83d\\ude00"}',
]


@pytest.mark.parametrize("body", EDGES, ids=[repr(body[:48]) for body in EDGES])
async def test_what_is_just_right_is_accepted(tmp_path: Path, body: bytes) -> None:
    """Every limit is where it is said to be, and comes back unchanged."""
    async with hook(tmp_path) as shop:
        reply, shown = await shop.post("/orders", body, headers={"Content-Type": "application/json"})
        assert reply.status == 202
        assert shown["task_id"] == json.loads(body)["task_id"]
        assert shown["context"] == json.loads(body).get("context", {})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"84ad", 400),
        (b"=&=", 422),
        (b"task_id=%FF", 400),
        (b"\xff=1", 400),
        (b"task_id=1&task_id=1", 422),
        (b"task_id=1&context.a=1&context.a=2", 422),
        (b"task_id=1&context=a&context.a=2", 422),
        (b"task_id=1&context=%7B%7D", 422),
        (b"task_id=1&dry_run=maybe", 422),
        (b"task_id=a%00b", 422),
        (b"task_id=", 422),
        (b"taskId=1", 422),
        (b"task_id=1&batch=", 422),
    ],
)
async def test_mistaken_forms_are_told_apart_like_json(tmp_path: Path, body: bytes, status: int) -> None:
    """A form that is none is 400; a form with wrong or doubled fields is 422."""
    async with hook(tmp_path) as shop:
        reply, problem = await shop.post("/orders", body, headers=FORM)
        assert (reply.status, reply.content_type) == (status, "application/problem+json")
        assert problem["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
    ],
)
async def test_what_is_neither_json_nor_a_form_is_415(tmp_path: Path, headers: dict[str, str]) -> None:
    """Other types and compressed bodies are refused before they are read."""
    async with hook(tmp_path) as shop:
        body = gzip.compress(order()) if headers.get("Content-Encoding") == "gzip" else order()
        reply, _ = await shop.post("/orders", body, headers=headers)
        assert (reply.status, reply.content_type) == (415, "application/problem+json")


async def test_a_body_of_a_mebibyte_is_read_and_one_byte_more_is_413(tmp_path: Path) -> None:
    """The cap holds for bodies that say their length and for those that come in pieces."""
    fits = b" " * (2**20 - len(order())) + order()

    async def pieces(body: bytes) -> Any:
        for start in range(0, len(body), 2**16):
            yield body[start : start + 2**16]

    async with hook(tmp_path) as shop:
        for sent in (BytesIO(fits), pieces(fits)):
            reply, _ = await shop.ask("POST", "/orders", data=sent, headers={"Content-Type": "application/json"})
            assert reply.status in {200, 202}
        for sent in (BytesIO(fits + b" "), pieces(fits + b" ")):
            reply, problem = await shop.ask("POST", "/orders", data=sent, headers={"Content-Type": "application/json"})
            assert "several requests" in problem["hint"]
            assert (reply.status, reply.content_type) == (413, "application/problem+json")


async def test_a_flood_of_mistakes_is_answered_quickly_and_shortly(tmp_path: Path) -> None:
    """The first hundred are named; nobody makes us compare and list a hundred thousand."""
    body = json.dumps({f"field{n}": 1 for n in range(60_000)}).encode()
    doubled = b"{" + b",".join(b'"a%d":1,"a%d":1' % (n, n) for n in range(40_000)) + b"}"
    many = json.dumps([{"task_id": ""}] * 1000).encode()
    async with hook(tmp_path) as shop:
        for sent in (body, doubled, many):
            reply, problem = await asyncio.wait_for(shop.post("/orders", sent, headers=FORM), 5)
            assert reply.status == 422
            assert len(problem["errors"]) == 100
            assert "the list ends here" in problem["detail"]


class Endless(dict[str, Any]):
    """An object with more unknown fields than anybody can look at."""

    def items(self) -> Any:
        return ((f"field{n}", 1) for n in count())


def test_nobody_looks_further_than_a_hundred_mistakes() -> None:
    """The work that a request can make us do is bounded, not only the answer."""
    with pytest.raises(Refusal) as refused:
        intake().orders(Endless())
    assert len(refused.value.faults) == 100


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = ("task_id", "taskID", "remote", "context", "projectID", "batch", "feed", "dry_run", "deadline", "filename")
BODY = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), ANYTHING, max_size=6)


def outcome(work: Callable[[], list[Order]]) -> list[Order] | Refusal:
    """Give what *work* gives, or its refusal."""
    try:
        return work()
    except Refusal as refusal:
        return refusal


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(posted=BODY | st.lists(BODY | ANYTHING, max_size=4) | ANYTHING)
def test_whatever_is_posted_becomes_orders_or_a_refusal(posted: Any) -> None:
    """The intake is total: no value whatever makes it raise anything else."""
    taken = outcome(lambda: intake().orders(from_json(json.dumps(posted).encode())))
    if isinstance(taken, Refusal):
        assert taken.status in {400, 422}
        assert json.loads(taken.answer().body)["status"] == taken.status
    else:
        assert taken
        assert all(isinstance(made, Order) for made in taken)


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=200) | st.text(alphabet='{}[]",:&=%+aé01\\ud8\0\n', max_size=60).map(str.encode))
def test_whatever_bytes_come_are_read_or_refused(raw: bytes) -> None:
    """Neither reader of bodies raises anything but a refusal."""
    for reader in (from_json, from_form):
        taken = outcome(lambda reader=reader: intake().orders(reader(raw)))
        assert isinstance(taken, list) or taken.status in {400, 422}
