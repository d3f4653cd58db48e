"""Who gets in: the token, the host, the site; and what every answer carries."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from poller.errors import NotFound, PollerError, Stale
from poller.stores.memory import MemoryStore
from poller.web import body
from poller.web.problem import _routers
from tests.hook import hook, until

TOKEN = "s3cret-é"
ADDRESSES = [
    ("GET", "/orders"),
    ("POST", "/orders"),
    ("GET", "/orders/grafx/1"),
    ("GET", "/orders/grafx/1/events"),
    ("GET", "/orders/grafx/1/file"),
    ("POST", "/orders/grafx/1/cancel"),
    ("GET", "/nowhere"),
    ("DELETE", "/orders"),
]


@pytest.mark.parametrize(
    "sent", [None, "", "Bearer", "Bearer ", "Bearer x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"]
)
async def test_without_the_token_nothing_answers(tmp_path: Path, sent: str | None) -> None:
    """Every address, known or not, says 401 and how to do better; nothing is done."""
    headers = {} if sent is None else {"Authorization": sent}
    async with hook(tmp_path, token=TOKEN) as shop:
        for method, path in ADDRESSES:
            reply, _ = await shop.ask(method, path, headers=headers, json={"task_id": "1"})
            assert (reply.status, reply.content_type) == (401, "application/problem+json")
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")
        assert sum((await shop.store.counts()).values()) == 0


@pytest.mark.parametrize("sent", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
async def test_with_the_token_everything_answers(tmp_path: Path, sent: str) -> None:
    """The scheme's case is no matter (RFC 9110, 11.1), and the token may hold any letter."""
    async with hook(tmp_path, token=TOKEN) as shop:
        reply, _ = await shop.post("/orders", {"task_id": "1"}, headers={"Authorization": sent})
        assert reply.status == 202


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("localhost.", 200),
        ("127.0.0.1:1", 200),
        ("127.1.2.3", 200),
        ("[::1]:8080", 200),
        ("shop.example", 200),
        ("Shop.Example:8080", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:localhost", 421),
        ("localhost@evil.example", 421),
        ("10.0.0.1", 421),
        ("0.0.0.0", 421),  # noqa: S104 - said, not bound
        ("[::ffff:10.0.0.1]", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_only_our_own_names_are_answered(tmp_path: Path, host: str, status: int) -> None:
    """A name that was rebound to our address gets nothing, token or not."""
    async with hook(tmp_path, hosts=("shop.example",)) as shop:
        for path in ("/orders", "/healthz"):
            reply, _ = await shop.get(path, headers={"Host": host})
            assert reply.status == status


async def test_a_request_without_a_host_is_refused(tmp_path: Path) -> None:
    """No name is not our name."""
    async with hook(tmp_path) as shop:
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(b"GET /orders HTTP/1.0\r\n\r\n")
        assert (await reader.read()).split(b" ")[1] == b"421"
        writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "https://admin.example"}, 202),
        ({"Origin": "https://ADMIN.example", "Sec-Fetch-Site": "cross-site"}, 202),
        ({"Origin": "http://admin.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
    ],
)
async def test_a_page_of_another_site_changes_nothing(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """Only listed origins, our own, and callers that are no browsers may post."""
    async with hook(tmp_path, origins=("https://admin.example/",)) as shop:
        reply, _ = await shop.post("/orders", {"task_id": "1"}, headers=headers)
        assert reply.status == status
        own = {"Origin": f"http://127.0.0.1:{shop.port}"}
        assert (await shop.post("/orders", {"task_id": "2"}, headers=own))[0].status == 202
        assert (await shop.get("/orders", headers=headers))[0].status == 200


async def test_every_answer_is_hardened(tmp_path: Path) -> None:
    """Problems and the framework's own refusals too."""
    async with hook(tmp_path) as shop:
        for method, path in [*ADDRESSES, ("GET", "/healthz")]:
            reply, _ = await shop.ask(method, path)
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/orders/", 404, None),
        ("GET", "/orders/grafx/1/x", 404, None),
        ("GET", "//orders", 404, None),
        ("DELETE", "/orders", 405, "GET,HEAD,POST"),
        ("PUT", "/orders/grafx/1", 405, "GET,HEAD"),
        ("GET", "/orders/grafx/1/cancel", 405, "POST"),
        ("OPTIONS", "/orders", 405, "GET,HEAD,POST"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    tmp_path: Path, method: str, path: str, status: int, allow: str | None
) -> None:
    """The router's 404 and 405 speak like ours, and 405 says what is taken."""
    async with hook(tmp_path) as shop:
        reply, problem = await shop.ask(method, path)
        assert (reply.status, reply.content_type) == (status, "application/problem+json")
        assert problem["status"] == status
        assert reply.headers.get("Allow") == allow


async def test_alive_and_ready(tmp_path: Path) -> None:
    """Ready with the paused remotes; not ready when stopping, or when nothing can be saved."""
    async with hook(tmp_path) as shop:
        assert (await shop.get("/healthz"))[1] == {"status": "ok"}
        shop.desk.paused = {"grafx": "invalid_client"}
        reply, shown = await shop.get("/readyz")
        assert (reply.status, shown) == (200, {"status": "ready", "paused": {"grafx": "invalid_client"}})
        shop.desk.draining = True
        reply, shown = await shop.get("/readyz")
        assert (reply.status, shown["status"]) == (503, "draining")
        assert shown["reasons"]
        shop.store.problem = "the disk is full"
        reply, shown = await shop.get("/readyz")
        assert (reply.status, shown) == (503, {"status": "store", "reasons": ["the disk is full"]})
        assert (await shop.get("/healthz"))[0].status == 200


async def test_with_a_token_strangers_hear_only_whether_we_are_ready(tmp_path: Path) -> None:
    """The reasons are for those who show it."""
    async with hook(tmp_path, token=TOKEN) as shop:
        shop.desk.paused = {"grafx": "invalid_client"}
        assert (await shop.get("/healthz"))[1] == {"status": "ok"}
        assert (await shop.get("/readyz"))[1] == {"status": "ready"}
        _, shown = await shop.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
        assert shown["paused"] == {"grafx": "invalid_client"}
        shop.desk.draining = True
        reply, shown = await shop.get("/readyz")
        assert (reply.status, shown) == (503, {"status": "draining"})


@pytest.mark.parametrize(
    ("error", "status", "logged"),
    [
        (ZeroDivisionError("canary"), 500, 1),
        (PollerError("canary"), 500, 1),
        (Stale("canary"), 503, 0),
        (NotFound("there is none", hint="look elsewhere"), 404, 0),
    ],
)
async def test_what_goes_wrong_inside_is_told_plainly(
    tmp_path: Path, error: Exception, status: int, logged: int
) -> None:
    """Nothing internal is said to the caller; the log gets one line with the exception and no query."""

    class Broken(MemoryStore):
        async def get(self, key: Any) -> Any:
            raise error

    async with hook(tmp_path, store=Broken()) as shop:
        with capture_logs() as lines:
            reply, problem = await shop.get("/orders/grafx/1")
        assert (reply.status, reply.content_type) == (status, "application/problem+json")
        assert "canary" not in str(problem)
        assert problem.get("hint")
        assert [line["exc_info"] for line in lines] == [error] * logged
        assert all(line["path"] == "/orders/grafx/1" for line in lines)
        assert (reply.headers.get("Retry-After") is not None) == (status == 503)


HALVES = [b"Content-Length: 50\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"]


@pytest.mark.parametrize("half", HALVES)
async def test_half_a_request_leaves_no_trace(tmp_path: Path, half: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Who hangs up in the middle of a body adds nothing, and is worth no line in the log."""
    async with hook(tmp_path) as shop:
        with capture_logs() as lines:
            _, writer = await asyncio.open_connection("127.0.0.1", shop.port)
            writer.write(b"POST /orders HTTP/1.1\r\nHost: localhost\r\n" + half)
            await until(lambda: any(connection._current_request for connection in shop.runner.server.connections))
            writer.close()
            await until(lambda: not shop.runner.server.connections)
        assert lines == []
        assert caplog.records == []
        assert (await shop.get("/orders"))[1]["count"] == 0


@pytest.mark.parametrize("half", [*HALVES, b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_that_does_not_end_is_408(tmp_path: Path, half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds a request open for longer than the limit."""
    monkeypatch.setattr(body, "SLOWEST", 0.0)
    async with hook(tmp_path) as shop:
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(b"POST /orders HTTP/1.1\r\nHost: localhost\r\n" + half)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert b"problem+json" in head
        writer.close()
        assert (await shop.post("/orders", {"task_id": "1"}))[0].status in {202, 408}


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /orders HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_400(tmp_path: Path, sent: bytes) -> None:
    """Ambiguous framing above all: it is how requests are smuggled."""
    async with hook(tmp_path) as shop:
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(sent)
        assert (await reader.read()).split(b" ")[1] == b"400"
        writer.close()
        assert (await shop.get("/orders"))[1]["count"] == 0


def test_other_refusals_of_the_framework_are_problems_too() -> None:
    """Whatever it raises inside a handler comes out in our form."""
    refusal = _routers(make_mocked_request("GET", "/"), web.HTTPTooManyRequests())
    assert json.loads(refusal.answer().body)["title"] == "Too Many Requests"
