"""POST /orders: what is accepted, what it becomes, and what the same again does."""

import asyncio
import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from poller import units
from poller.errors import StoreUnavailable
from poller.order import Key, State
from poller.stores.memory import MemoryStore
from tests.hook import NOW, PATIENCE, fields, hook, until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
FIELDS_OF_AN_ORDER = {
    *("remote", "task_id", "state", "cause", "reason", "created_at", "updated_at", "due_at", "deadline"),
    *("checks", "attempts", "progress", "files", "batch", "feed", "context", "filename", "dry_run"),
    *("generation", "version"),
}


async def test_a_new_order_is_202_with_its_address_and_is_due_at_once(tmp_path: Path) -> None:
    """The smallest body becomes a pending order of the first remote, and the desk hears of it."""
    async with hook(tmp_path) as shop:
        reply, shown = await shop.post("/orders", {"task_id": "84ad"})
        assert reply.status == 202
        assert reply.headers["Location"] == "/orders/grafx/84ad"
        assert set(shown) == FIELDS_OF_AN_ORDER
        assert (shown["remote"], shown["task_id"], shown["state"]) == ("grafx", "84ad", "pending")
        assert shown["created_at"] == shown["updated_at"] == shown["due_at"] == units.iso(NOW)
        assert shown["deadline"] == units.iso(NOW + PATIENCE)
        assert (shown["files"], shown["context"], shown["cause"], shown["batch"]) == ([], {}, None, None)
        assert [order.key for order in shop.desk.heard] == [Key("grafx", "84ad")]
        assert (await shop.store.get(Key("grafx", "84ad"))).due_at == NOW


async def test_every_field_arrives_in_the_order(tmp_path: Path) -> None:
    """What the shop says of an order is kept and shown again."""
    asked = {
        "task_id": "1",
        "remote": "saleor",
        "context": {"shop_order": 17, "lines": [1, None, {"sku": "a"}]},
        "batch": "B 1",
        "feed": "catalogue",
        "dry_run": True,
        "deadline": "2h",
        "filename": "{batch}/{task_id}{ext}",
    }
    async with hook(tmp_path) as shop:
        reply, shown = await shop.post("/orders", asked)
        assert reply.status == 202
        assert {name: shown[name] for name in asked} == asked | {"deadline": units.iso(NOW + 7200)}
        assert (shown["state"], shown["due_at"]) == ("held", None)
        assert (await shop.store.get(Key("saleor", "1"))).deadline_as_given == "2h"


@pytest.mark.parametrize(
    ("asked", "deadline"),
    [("90", NOW + 90), (90, NOW + 90), (0.5, NOW + 0.5), ("7d", NOW + 604800), (units.iso(NOW + 5), NOW + 5)],
)
async def test_a_deadline_is_a_duration_or_an_instant(tmp_path: Path, asked: Any, deadline: float) -> None:
    """Every way to write a deadline means the same moment."""
    async with hook(tmp_path) as shop:
        _, shown = await shop.post("/orders", {"task_id": "1", "deadline": asked})
        assert shown["deadline"] == units.iso(deadline)


async def test_a_deadline_that_passes_while_it_is_read_is_no_fault(tmp_path: Path) -> None:
    """Time goes on between two lines of ours; what was still to come is accepted, once and for all."""
    ticks = count(NOW)
    async with hook(tmp_path, now=lambda: next(ticks)) as shop:
        reply, shown = await shop.post("/orders", {"task_id": "1", "deadline": units.iso(NOW + 0.5)})
        assert (reply.status, shown["deadline"]) == (202, units.iso(NOW + 0.5))


async def test_the_names_that_grafx_uses_are_understood(tmp_path: Path) -> None:
    """The field taskID is the task, and projectID goes into the context beside what is there."""
    async with hook(tmp_path) as shop:
        _, shown = await shop.post("/orders", {"taskID": "1", "projectID": "p", "context": {"a": 1}})
        assert (shown["task_id"], shown["context"]) == ("1", {"a": 1, "projectID": "p"})


async def test_null_is_the_same_as_nothing(tmp_path: Path) -> None:
    """A backend may send every field it knows of."""
    names = ("remote", "context", "batch", "feed", "dry_run", "deadline", "filename", "projectID")
    async with hook(tmp_path) as shop:
        reply, shown = await shop.post("/orders", {"task_id": "1", **dict.fromkeys(names)})
        assert (reply.status, shown["remote"], shown["context"]) == (202, "grafx", {})


async def test_the_same_again_is_200_and_changes_nothing(tmp_path: Path) -> None:
    """A shop that heard no answer sends again; the order is as it was, and nobody is woken."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", {"task_id": "1", "context": {"a": 1, "b": 2}})
        await shop.post("/orders/grafx/1/cancel")
        reply, shown = await shop.post("/orders", {"context": {"b": 2, "a": 1}, "taskID": "1", "remote": "grafx"})
        assert (reply.status, shown["state"]) == (200, "canceled")
        assert reply.headers["Location"] == "/orders/grafx/1"
        assert len(shop.desk.heard) == 1


@pytest.mark.parametrize("other", [{"batch": "b"}, {"context": {"a": 2}}, {"deadline": "1h"}, {"dry_run": True}])
async def test_the_same_key_with_other_content_is_409(tmp_path: Path, other: dict[str, Any]) -> None:
    """An order is not changed by posting it again in other words."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", {"task_id": "1", "context": {"a": 1}})
        reply, problem = await shop.post("/orders", {"task_id": "1", "context": {"a": 1}} | other)
        assert (reply.status, reply.content_type) == (409, "application/problem+json")
        assert "1" in problem["detail"]
        assert (await shop.store.get(Key("grafx", "1"))).version == 1


async def test_a_list_is_all_or_nothing(tmp_path: Path) -> None:
    """One conflict or one bad field keeps the whole list out; else the list comes back in its order."""
    async with hook(tmp_path) as shop:
        reply, shown = await shop.post("/orders", [{"task_id": "b"}, {"task_id": "a"}])
        assert reply.status == 202
        assert "Location" not in reply.headers
        assert [order["task_id"] for order in shown["orders"]] == ["b", "a"]
        again, shown = await shop.post("/orders", [{"task_id": "a"}, {"task_id": "b"}])
        assert again.status == 200
        assert [order["task_id"] for order in shown["orders"]] == ["a", "b"]
        conflict, _ = await shop.post("/orders", [{"task_id": "c"}, {"task_id": "a", "batch": "x"}])
        bad, _ = await shop.post("/orders", [{"task_id": "c"}, {"task_id": ""}])
        assert (conflict.status, bad.status) == (409, 422)
        assert await shop.store.get(Key("grafx", "c")) is None
        mixed, _ = await shop.post("/orders", [{"task_id": "a"}, {"task_id": "c"}])
        assert mixed.status == 202
        assert [order.task_id for order in shop.desk.heard] == ["b", "a", "c"]


async def test_a_thousand_orders_fit_into_one_list_and_no_more(tmp_path: Path) -> None:
    """The cap is where it is said to be, and an empty list is a mistake."""
    async with hook(tmp_path, max_pending=5000) as shop:
        full, _ = await shop.post("/orders", [{"task_id": str(n)} for n in range(1000)])
        over, problem = await shop.post("/orders", [{"task_id": str(n)} for n in range(1001)])
        empty, _ = await shop.post("/orders", [])
        assert (full.status, over.status, empty.status) == (202, 422, 422)
        assert "1001" in problem["errors"][0]["message"]


async def test_a_form_is_an_order(tmp_path: Path) -> None:
    """``curl -d`` with plain pairs works, context included."""
    body = (
        b"task_id=a%2Fb+c&remote=saleor&context.shop=7&context.a.b=%C3%A9&dry_run=true&batch=B&deadline=5m&projectID=p"
    )
    async with hook(tmp_path) as shop:
        reply, shown = await shop.post("/orders", body, headers=FORM)
        assert reply.status == 202
        assert (shown["task_id"], shown["remote"], shown["batch"]) == ("a/b c", "saleor", "B")
        assert shown["context"] == {"shop": "7", "a.b": "é", "projectID": "p"}
        assert (shown["dry_run"], shown["deadline"]) == (True, units.iso(NOW + 300))


@pytest.mark.parametrize(
    "kind",
    [None, "application/json", "application/json; charset=utf-8", "application/vnd.shop+json", FORM["Content-Type"]],
)
async def test_json_is_json_whatever_curl_calls_it(tmp_path: Path, kind: str | None) -> None:
    """No type, a JSON type, and the type that curl makes up all carry JSON."""
    headers = {"Content-Type": kind} if kind else {}
    skip = [] if kind else ["Content-Type"]
    async with hook(tmp_path) as shop:
        for body in (b' {"task_id": "1"}', b'\xef\xbb\xbf{"task_id": "2"}' if kind != FORM["Content-Type"] else b"[]"):
            reply, _ = await shop.post("/orders", body, headers=headers, skip_auto_headers=skip)
            assert reply.status in {202, 422}
        assert await shop.store.get(Key("grafx", "1"))


async def test_waiting_orders_are_capped(tmp_path: Path) -> None:
    """At the cap new orders get 429 and Retry-After; what is known is still confirmed, and rest makes room."""
    async with hook(tmp_path, max_pending=2) as shop:
        await shop.post("/orders", [{"task_id": "1"}, {"task_id": "2", "dry_run": True}])
        full, problem = await shop.post("/orders", {"task_id": "3"})
        assert (full.status, full.headers["Retry-After"]) == (429, "30")
        assert problem["status"] == 429
        again, _ = await shop.post("/orders", {"task_id": "1"})
        assert again.status == 200
        both, _ = await shop.post("/orders", [{"task_id": "1"}, {"task_id": "3"}])
        assert both.status == 429
        await shop.post("/orders/grafx/1/cancel")
        room, _ = await shop.post("/orders", {"task_id": "3"})
        assert room.status == 202


async def test_a_store_that_failed_is_503_and_nobody_is_told(tmp_path: Path) -> None:
    """Nothing is accepted that is not durable."""

    class Broken(MemoryStore):
        async def add(self, orders: Any) -> Any:
            raise StoreUnavailable("the disk is full", hint="make room")

    async with hook(tmp_path, store=Broken()) as shop:
        reply, problem = await shop.post("/orders", {"task_id": "1"})
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
        assert (problem["detail"], problem["hint"]) == ("the disk is full", "make room")
        assert shop.desk.heard == []


async def test_a_shop_that_hangs_up_does_not_undo_its_order(tmp_path: Path) -> None:
    """The add that has begun is brought to its end, wake included, though nobody waits for the answer."""
    begun, gone, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        async def add(self, orders: Any) -> Any:
            begun.set()
            await gone.wait()
            return await super().add(orders)

    async with hook(tmp_path, store=Slow()) as shop:
        shop.desk.added = lambda orders: told.set()  # type: ignore[method-assign]
        _, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        body = json.dumps({"task_id": "1"}).encode()
        writer.write(b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await begun.wait()
        writer.transport.abort()
        [connection] = shop.runner.server.connections
        await until(lambda: connection.transport is None)
        gone.set()
        await asyncio.wait_for(told.wait(), 10)
        assert (await shop.store.get(Key("grafx", "1"))).state is State.PENDING


async def test_commands_answer_with_the_order_as_it_now_is(tmp_path: Path) -> None:
    """Confirm, check, cancel and retry pass through the desk, each under its own word."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", {"task_id": "a/b", "dry_run": True})
        states = [
            (await shop.post(f"/orders/grafx/a%2Fb/{word}"))[1]["state"]
            for word in ("confirm", "check", "cancel", "retry")
        ]
        assert states == ["pending", "pending", "canceled", "pending"]
        assert shop.desk.words == ["confirmed", "made_due", "canceled", "retried"]
        _, shown = await shop.get("/orders/grafx/a%2Fb")
        assert (shown["generation"], shown["version"]) == (2, 5)
        _, history = await shop.get("/orders/grafx/a%2Fb/events")
        assert [event["event"] for event in history["events"]][-4:] == shop.desk.words
        assert history["events"][-1] == {"at": units.iso(NOW + 1), "event": "retried", "next_at": units.iso(NOW + 1)}
        assert history["dropped"] == 0


@pytest.mark.parametrize("word", ["confirm", "retry"])
async def test_a_command_that_the_state_forbids_is_409(tmp_path: Path, word: str) -> None:
    """The answer says which state forbids it."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", {"task_id": "1"})
        reply, problem = await shop.post(f"/orders/grafx/1/{word}")
        assert (reply.status, reply.content_type) == (409, "application/problem+json")
        assert "pending" in problem["detail"]


@pytest.mark.parametrize("path", ["", "/events", "/file"])
async def test_an_order_that_is_not_there_is_404(tmp_path: Path, path: str) -> None:
    """Reading an unknown order is a problem, not an empty answer."""
    async with hook(tmp_path) as shop:
        reply, problem = await shop.get(f"/orders/grafx/nope{path}")
        assert (reply.status, problem["status"], reply.content_type) == (404, 404, "application/problem+json")
        command, _ = await shop.post("/orders/grafx/nope/cancel")
        assert command.status == 404


async def test_one_bad_order_in_a_list_is_named_by_its_place(tmp_path: Path) -> None:
    """Every mistake of every order is told at once, with where it is."""
    async with hook(tmp_path) as shop:
        reply, problem = await shop.post(
            "/orders",
            [{"task_id": "1"}, {"task_id": 2, "batsh": "x"}, "three", {"task_id": "1"}, {"remote": "grafx2"}],
        )
        assert reply.status == 422
        assert fields(problem) == ["[1].task_id", "[1].batsh", "[2]", "[3].task_id", "[4].remote", "[4].task_id"]
        messages = [error["message"] for error in problem["errors"]]
        assert "'batch'" in messages[1]
        assert "[0]" in messages[3]
        assert "'grafx'" in messages[4]
