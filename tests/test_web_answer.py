"""Answers: one head for all of them, whoever asks and however."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from poller import units
from poller.order import Order, State
from poller.stores.memory import MemoryStore
from poller.web import body
from poller.web.answer import Answer
from poller.web.view import View
from tests.hook import Hook, hook, until
from tests.stores import an_order
from tests.strategies import orders

OF_THE_CONNECTION = {"connection", "date"}


async def said(shop: Hook, *requests: bytes) -> bytes:
    """Send requests over one connection, the last of which closes it, and give all that is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
    writer.write(b"".join(requests))
    answers = await reader.read()
    writer.close()
    return answers


def request(method: str, path: str, *headers: str, version: str = "1.1", body: bytes = b"") -> bytes:
    """Write a request."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def parts(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """Take an answer apart: status line, headers, body."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return status, {name.lower(): value for name, value in headers.items()}, rest


CLOSE = "Connection: close"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/orders", b""),
        ("GET", "/orders?limit=1", b""),
        ("GET", "/orders/grafx/t1", b""),
        ("GET", "/orders/grafx/t1/events", b""),
        ("POST", "/orders", b'{"task_id": "t1"}'),
        ("POST", "/orders/grafx/t1/check", b""),
        ("GET", "/healthz", b""),
    ],
)
async def test_every_way_to_ask_gets_the_same_head(tmp_path: Path, method: str, path: str, body: bytes) -> None:
    """What is written in one piece carries just what the framework's own response carries."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", [{"task_id": "t1"}, {"task_id": "t2"}])
        both = await said(shop, request(method, path, body=body), request(method, path, CLOSE, body=body))
        _, headers, _ = parts(both)
        quick = both[: both.index(b"\r\n\r\n") + 4 + int(headers["content-length"])]
        (status, mine, shown), (other, theirs, again) = parts(quick), parts(both[len(quick) :])
        assert (status, json.loads(shown).keys()) == (other, json.loads(again).keys())
        assert theirs["connection"] == "close"
        assert "connection" not in mine
        lengths = {name: theirs.pop(name) for name in ("content-length", *OF_THE_CONNECTION) if name in theirs}
        assert mine == theirs | {"content-length": str(len(shown)), "date": mine["date"]}
        assert lengths["content-length"] == str(len(again))
        assert lengths["date"][:16] == mine["date"][:16]


async def test_old_clients_and_those_who_want_only_the_head_are_served(tmp_path: Path) -> None:
    """HTTP/1.0 closes unless it asks not to; HEAD tells the length of what it does not send."""
    async with hook(tmp_path) as shop:
        status, headers, shown = parts(await said(shop, request("GET", "/healthz", version="1.0")))
        assert (status, shown) == ("HTTP/1.0 200 OK", b'{"status":"ok"}')
        kept = request("GET", "/healthz", "Connection: keep-alive", version="1.0")
        old = await said(shop, kept, request("GET", "/healthz", version="1.0"))
        assert old.count(b"HTTP/1.0 200 OK") == 2
        both = await said(shop, request("HEAD", "/healthz"), request("HEAD", "/healthz", CLOSE))
        assert both.count(b"Content-Length: 15\r\n") == both.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert b"status" not in both
        assert headers["x-content-type-options"] == "nosniff"


async def test_requests_that_come_at_once_are_answered_in_turn(tmp_path: Path) -> None:
    """One connection, many requests before the first answer: each answer is whole, and in its place."""
    bodies = [b'{"task_id":"%d"}' % number for number in range(20)]
    async with hook(tmp_path) as shop:
        answers = await said(
            shop,
            *[request("POST", "/orders", body=body) for body in bodies],
            request("GET", "/orders?limit=1", CLOSE),
        )
        assert [f"Location: /orders/grafx/{n}\r\n".encode() in answers for n in range(20)] == [True] * 20
        places = [answers.index(f'"task_id":"{n}"'.encode()) for n in range(20)]
        assert places == sorted(places)
        assert b'"count":20}' in answers


async def test_who_reads_slowly_holds_up_no_memory(tmp_path: Path) -> None:
    """An answer larger than the socket takes waits in its handler until it is read, and then is whole."""
    store = MemoryStore()
    await store.add([an_order(f"t{n}", context={"pad": "x" * 15_000}) for n in range(500)])
    async with hook(tmp_path, store=store) as shop:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", shop.port))
        reader, writer = await asyncio.open_connection(sock=slow, limit=2**12)
        writer.write(request("GET", "/orders?limit=500") + request("GET", "/healthz", CLOSE))
        head = await reader.readuntil(b"\r\n\r\n")
        [connection] = shop.runner.server.connections
        assert connection.transport.get_write_buffer_size() > 0
        assert connection._request_in_progress
        _, headers, _ = parts(head)
        page = json.loads(await reader.readexactly(int(headers["content-length"])))
        assert len(page["orders"]) == 500
        assert (await reader.read()).endswith(b'{"status":"ok"}')
        writer.close()


async def test_who_asks_on_and_reads_nothing_is_not_answered_on(tmp_path: Path) -> None:
    """Small answers pile up no further than one large one: each waits until there is room for it."""
    store = MemoryStore()
    await store.add([an_order(f"t{n}", context={"pad": "x" * 4_000}) for n in range(10)])
    async with hook(tmp_path, store=store) as shop:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", shop.port))
            slow.sendall(request("GET", "/orders") * 400)
            await until(lambda: any(connection.transport._buffer for connection in shop.runner.server.connections))
            for _ in range(500):
                await asyncio.sleep(0)
            [connection] = shop.runner.server.connections
            assert 0 < connection.transport.get_write_buffer_size() < 2**18


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\n", "\x7f", "é", "\0"])
def test_no_value_begins_another_header(value: str) -> None:
    """Whatever an address was made of, it cannot break out of its line."""
    with pytest.raises(ValueError, match="header"):
        Answer(b"{}", headers={"Location": value})._whole()


@given(order=orders())
def test_an_order_is_shown_field_by_field(order: Order) -> None:
    """Each field is shown under its own name; times are ISO 8601, and files have paths."""
    shown = json.loads(msgspec.json.encode(View(Path("/x")).order(order)))
    for name in ("created_at", "updated_at", "due_at", "deadline"):
        moment = getattr(order, name)
        assert shown.pop(name) == (None if moment is None else units.iso(moment))
    assert [file["path"] for file in shown.pop("files")] == [str(Path("/x") / file.name) for file in order.files]
    for name, value in shown.items():
        assert value == getattr(order, name), name


class Counting(MemoryStore):
    """Remembers how often it was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    async def counts(self) -> Any:
        self.times += 1
        return await super().counts()


async def test_the_store_is_counted_only_as_often_as_the_cap_may_be_near(tmp_path: Path) -> None:
    """One look tells how many may come before the next; the cap is kept to the order."""
    store = Counting()
    async with hook(tmp_path, store=store, max_pending=100) as shop:
        for number in range(100):
            assert (await shop.post("/orders", {"task_id": str(number)}))[0].status == 202
        assert store.times == 1
        assert (await shop.post("/orders", {"task_id": "100"}))[0].status == 429
        assert store.times == 2


async def test_a_list_takes_the_room_of_all_its_orders(tmp_path: Path) -> None:
    """Two lists that fit one by one do not fit together."""
    async with hook(tmp_path, max_pending=5) as shop:
        assert (await shop.post("/orders", [{"task_id": name} for name in "abc"]))[0].status == 202
        assert (await shop.post("/orders", [{"task_id": name} for name in "def"]))[0].status == 429
        assert (await shop.post("/orders", [{"task_id": name} for name in "de"]))[0].status == 202


async def test_a_retry_takes_the_room_of_an_order(tmp_path: Path) -> None:
    """What waits again counts again, although it did not come in by being posted."""
    async with hook(tmp_path, max_pending=2) as shop:
        for task_id in ("1", "2"):
            await shop.post("/orders", {"task_id": task_id})
            await shop.post(f"/orders/grafx/{task_id}/cancel")
        await shop.post("/orders", {"task_id": "3"})
        assert (await shop.post("/orders/grafx/1/retry"))[0].status == 200
        assert (await shop.store.counts())[State.PENDING] == 2
        assert (await shop.post("/orders", {"task_id": "4"}))[0].status == 429


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("OPTIONS", "*", CLOSE), 404),
        (request("CONNECT", "localhost:80", CLOSE), 404),
        (request("POST", "/orders", "Expect: the-unexpected", CLOSE, body=b"{}"), 417),
    ],
)
async def test_what_no_handler_sees_is_refused_in_our_words(tmp_path: Path, sent: bytes, status: int) -> None:
    """The framework refuses it by itself; the answer is a problem, whole, and hardened all the same."""
    async with hook(tmp_path) as shop:
        _, headers, rest = parts(await said(shop, sent))
        assert headers["content-type"] == "application/problem+json"
        assert headers["content-length"] == str(len(rest))
        assert headers["x-content-type-options"] == "nosniff"
        assert json.loads(rest)["status"] == status


async def test_a_body_that_is_there_already_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap holds for what came in one piece with its head."""
    monkeypatch.setattr(body, "CAP", 15)
    async with hook(tmp_path) as shop:
        fits = await said(shop, request("POST", "/orders", CLOSE, body=b'{"task_id":"1"}'))
        over = await said(shop, request("POST", "/orders", CLOSE, body=b'{"task_id":"12"}'))
        assert (fits[:12], over[:12]) == (b"HTTP/1.1 202", b"HTTP/1.1 413")
