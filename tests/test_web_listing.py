"""GET /orders: filters, sorts, pages, and what is refused."""

from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import MultiDict
from yarl import URL

from poller import units
from poller.web import listing
from poller.web.problem import Refusal
from poller.web.view import _iso
from tests.hook import Hook, fields, hook

POSTED = [
    {"task_id": "a", "batch": "B", "context": {"sku": "Mug"}},
    {"task_id": "b", "remote": "saleor"},
    {"task_id": "c", "dry_run": True, "batch": "B"},
    {"task_id": "d", "remote": "saleor", "deadline": "1h"},
    {"task_id": "e/é", "deadline": "2h"},
]


async def ids(shop: Hook, query: str) -> list[str]:
    """List the task IDs that a query finds."""
    reply, shown = await shop.get(f"/orders?{query}")
    assert reply.status == 200
    assert shown["count"] == len(shown["orders"])
    return [order["task_id"] for order in shown["orders"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sort=task_id", ["a", "b", "c", "d", "e/é"]),
        ("sort=-task_id", ["e/é", "d", "c", "b", "a"]),
        ("sort=deadline&state=pending&batch=", ["d", "e/é", "a", "b"]),
        ("state=held", ["c"]),
        ("state=held,failed&sort=task_id", ["c"]),
        ("state=held&state=pending&sort=task_id", ["a", "b", "c", "d", "e/é"]),
        ("remote=saleor&sort=task_id", ["b", "d"]),
        ("remote=elsewhere", []),
        ("batch=B&sort=task_id", ["a", "c"]),
        ("q=mug", ["a"]),
        ("q=%C3%A9", ["e/é"]),
        ("state=&remote=&batch=&q=&sort=task_id&limit=&cursor=", ["a", "b", "c", "d", "e/é"]),
    ],
)
async def test_a_list_holds_what_was_asked_for(tmp_path: Path, query: str, found: list[str]) -> None:
    """Filters narrow, sorts order, blanks count as nothing."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", POSTED)
        assert await ids(shop, query) == found


@pytest.mark.parametrize("sort", ["", "created_at", "-due_at", "due_at", "task_id", "-state", "remote", "checks"])
async def test_pages_follow_each_other_without_gap_or_repetition(tmp_path: Path, sort: str) -> None:
    """By the cursor and by the Link header alike, under every kind of sort, ties and nulls included."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", POSTED)
        _, whole = await shop.get(f"/orders?sort={sort}")
        seen: list[Any] = []
        path = f"/orders?sort={sort}&limit=2&q="
        for _ in range(3):
            reply, page = await shop.get(path)
            seen += page["orders"]
            assert page["count"] == 5
            if page["next"] is None:
                break
            path = str(reply.links["next"]["url"].relative())
            assert URL(path).query["cursor"] == page["next"]
        assert seen == whole["orders"]
        assert "next" not in reply.links


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("state=pendin", ["state"]),
        ("sort=-creatd_at", ["sort"]),
        ("sort=--created_at", ["sort"]),
        ("limit=0", ["limit"]),
        ("limit=501", ["limit"]),
        ("limit=ten", ["limit"]),
        ("limit=%2B5", ["limit"]),
        ("limit=%D9%A3", ["limit"]),
        ("limit=1&limit=2", ["limit"]),
        ("remote=a&remote=b", ["remote"]),
        ("q=" + "x" * 513, ["q"]),
        ("cursor=nonsense", ["cursor"]),
        ("cursor=%C3%A9", ["cursor"]),
        ("cursor=" + "A" * 4001, ["cursor"]),
        ("stat=pending", ["stat"]),
        ("state=x&limit=0&sort=y&cursor=z", ["state", "sort", "limit", "cursor"]),
        ("a=1&b=2", ["a", "b"]),
    ],
)
async def test_a_query_that_is_wrong_is_400_and_all_of_it_is_named(
    tmp_path: Path, query: str, wrong: list[str]
) -> None:
    """Nothing is guessed: a mistyped filter would list too much."""
    async with hook(tmp_path) as shop:
        reply, problem = await shop.get(f"/orders?{query}")
        assert (reply.status, reply.content_type) == (400, "application/problem+json")
        assert fields(problem) == wrong


@pytest.mark.parametrize(
    ("query", "meant"),
    [("stat=x", "'state'"), ("state=pendng", "'pending'"), ("sort=-udated_at", "'updated_at'")],
)
async def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(tmp_path: Path, query: str, meant: str) -> None:
    """For names and values alike."""
    async with hook(tmp_path) as shop:
        _, problem = await shop.get(f"/orders?{query}")
        assert meant in problem["errors"][0]["message"]


@pytest.mark.parametrize(
    "made",
    [
        b'["created_at", 1.0, "grafx", "a"]',
        b'["-created_at", "x", "grafx", "a"]',
        b'["-created_at", 1.0, "grafx"]',
        b'["-created_at", 1.0, "grafx", "a", 1]',
        b'["-created_at", [], "grafx", "a"]',
        b'["-created_at", NaN, "grafx", "a"]',
        b'["-created_at", 1.0, "grafx", 5]',
        b'{"sort": "-created_at"}',
        b"\xff",
    ],
)
async def test_a_cursor_that_we_did_not_give_is_400(tmp_path: Path, made: bytes) -> None:
    """One of another sort, of another shape or with values that cannot be compared is refused, not tried."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", POSTED)
        reply, problem = await shop.get(f"/orders?cursor={urlsafe_b64encode(made).decode().rstrip('=')}")
        assert (reply.status, fields(problem)) == (400, ["cursor"])


async def test_a_query_that_is_no_text_is_no_fault_of_ours(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused or find nothing."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", POSTED)
        for query in ("q=%FF", "q=%ED%A0%80", "batch=%FF&limit=1", "%FF=1", "limit=1&q=%00"):
            reply, _ = await shop.get(f"/orders?{query}")
            assert reply.status in {200, 400}


async def test_no_other_address_takes_a_parameter(tmp_path: Path) -> None:
    """Unknown parameters are 400 everywhere, before anything is done."""
    async with hook(tmp_path) as shop:
        reply, _ = await shop.post("/orders?dry_run=true", {"task_id": "1"})
        assert reply.status == 400
        assert (await shop.get("/orders"))[1]["count"] == 0
        for path in ("/healthz?x=1", "/orders/grafx/1?x=1", "/orders/grafx/1/file?nam=1"):
            assert (await shop.get(path))[0].status == 400


def test_half_a_character_is_no_text() -> None:
    """What could not be written into the address of the next page is refused at once."""
    with pytest.raises(Refusal) as refused:
        listing.query(MultiDict({"q": "\udcff"}))
    assert [fault.field for fault in refused.value.faults] == ["q"]
    assert refused.value.answer().status == 400


@given(st.floats(0, 4e9) | st.integers(0, 4 * 10**12).map(lambda milli: milli / 1000))
@example(1.001)
@example(1805218954.7509995)
def test_times_are_written_as_everywhere_else(moment: float) -> None:
    """The quick way to write a time is only quicker."""
    assert _iso(moment) == units.iso(moment)
