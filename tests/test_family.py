"""Whole pages at work: started, asked, fetched, canceled, listed, pushed, watched; real sockets and files."""

import asyncio
import gzip
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from poller import content, remotes
from poller.errors import StoreUnavailable
from poller.order import State
from tests.workshop import Workshop, serving, workshop

PRESS = str(Path(__file__).parent / "examples" / "press.toml")
PDF = b"%PDF-1.7 a flyer"
KEY = "canary-press-key"


class Press:
    """The remote of README's page: jobs, links that are asked for, and what was asked of it."""

    def __init__(self) -> None:
        self.phase: dict[str, str] = {}
        self.asked: list[str] = []
        self.started: list[Any] = []
        self.refuse: int | None = None
        self.spared = 0
        self.base = ""

    def routes(self) -> dict[str, Any]:
        """Say what is answered to what."""
        return {
            "POST /v2/jobs": self.start,
            "GET /v2/jobs/{id}": self.job,
            "POST /v2/jobs/{id}/links": self.link,
            "GET /files/{id}.pdf": self.file,
        }

    async def start(self, request: web.Request) -> web.Response:
        """Start a job."""
        self.started.append(await request.json())
        if self.refuse is not None and len(self.started) > self.spared:
            return web.json_response({"note": "out of ink"}, status=self.refuse)
        name = f"J{len(self.started)}"
        self.phase[name] = "queued"
        return web.json_response({"job": {"id": name}}, status=201)

    async def job(self, request: web.Request) -> web.Response:
        """Tell how a job is doing."""
        name = request.match_info["id"]
        self.asked.append(f"{name} {request.headers.get('X-Press-Key')}")
        phase = self.phase.get(name)
        if phase is None:
            return web.json_response({}, status=404)
        return web.json_response({"job": {"phase": phase, "pct": 40, "note": "tray 2" if phase == "jammed" else None}})

    async def link(self, request: web.Request) -> web.Response:
        """Give a job's link."""
        return web.json_response({"href": f"{self.base}/files/{request.match_info['id']}.pdf?sig=canary-signature"})

    async def file(self, request: web.Request) -> web.Response:
        """Give a job's file."""
        assert "X-Press-Key" not in request.headers
        return web.Response(body=PDF, content_type="application/pdf")


@asynccontextmanager
async def press(tmp_path: Path, page: str = PRESS, **environ: str) -> AsyncIterator[tuple[Press, Workshop]]:
    """Run a press, and a poller that knows it."""
    remote = Press()
    async with serving(remote.routes()) as base:
        remote.base = base
        async with workshop(tmp_path, page, {"PRESS_URL": base, "PRESS_KEY": KEY, **environ}) as it:
            yield remote, it


def page(tmp_path: Path, name: str, text: str) -> str:
    """Write a page; give its path."""
    path = tmp_path / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# --- README's page


async def test_the_page_of_the_readme_starts_a_task_and_gets_its_file(tmp_path: Path) -> None:
    """From the shop's wish to the file: one start, values as data, progress, the link asked for, no key on it."""
    async with press(tmp_path) as (remote, it):
        status, order = await it.post("/remotes/press/tasks", {"input": {"template": 'a"b'}, "batch": "B1"})
        assert (status, order["task_id"], order["batch"], order["state"]) == (202, "J1", "B1", "pending")
        assert remote.started == [{"template": 'a"b', "copies": 1}]
        assert (await it.until(lambda order: order.progress, "press", "J1")).progress == 0.4
        remote.phase["J1"] = "printed"
        done = await it.rest("press", "J1")
        assert (done.state, it.files()) == (State.DONE, {"press-J1.pdf": PDF})
        assert set(remote.asked) == {f"J1 {KEY}"}


async def test_a_wish_that_does_not_fit_asks_nobody(tmp_path: Path) -> None:
    """Every fault is named, with what was meant."""
    async with press(tmp_path) as (remote, it):
        status, problem = await it.post("/remotes/press/tasks", {"input": {"templat": "x"}})
        assert status == 422
        assert problem["errors"] == [
            {"field": "input.templat", "message": "is not known; did you mean 'template'?"},
            {"field": "input.template", "message": "is required."},
        ]
        status, problem = await it.post("/remotes/press/tasks", {"task_id": "T", "inptu": {}, "input": {"copys": 1}})
        assert (status, [fault["field"] for fault in problem["errors"]]) == (
            422,
            ["input.copys", "input.template", "inptu", "task_id"],
        )
        assert problem["errors"][2]["message"].endswith("did you mean 'input'?")
        assert (await it.post("/remotes/press/tasks", {"input": 7, "kind": 7}))[0] == 422
        assert (await it.post("/remotes/press/tasks", []))[0] == 422
        assert (await it.post("/remotes/press/tasks", [7]))[0] == 422
        assert (await it.post("/remotes/pres/tasks", {}))[1]["detail"].endswith("did you mean 'press'?")
        assert remote.started == []


@pytest.mark.parametrize(
    ("answered", "status", "words"),
    [(422, 422, "out of ink"), (503, 502, "nobody knows"), (401, 502, "poller remotes try")],
)
async def test_a_start_that_fails_says_what_is_known(tmp_path: Path, answered: int, status: int, words: str) -> None:
    """A no is told as one; where nobody knows whether there is a task, the start is not repeated, and that is said."""
    async with press(tmp_path) as (remote, it):
        remote.refuse = answered
        seen, problem = await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
        assert (seen, len(remote.started)) == (status, 1)
        assert words in problem["detail"] + problem.get("hint", "")


async def test_several_tasks_are_started_or_none(tmp_path: Path) -> None:
    """A list is checked as a whole first; if one cannot be started, those before it are canceled."""
    async with press(tmp_path) as (remote, it):
        wish = {"input": {"template": "x"}, "batch": "B"}
        status, answer = await it.post("/remotes/press/tasks", [wish, wish])
        assert (status, [order["task_id"] for order in answer["orders"]]) == (202, ["J1", "J2"])
        assert (await it.post("/remotes/press/tasks", [wish, {"input": {"template": ""}}]))[0] == 422
        remote.refuse, remote.spared = 422, 3
        assert (await it.post("/remotes/press/tasks", [{**wish, "batch": "C"}, {**wish, "batch": "C"}]))[0] == 422
        assert (await it.get("/batches/C"))[1]["counts"]["canceled"] == 1
        status, batch = await it.get("/batches/B")
        assert (status, batch["status"], batch["total"], batch["counts"]["pending"]) == (200, "pending", 2, 2)


async def test_a_batch_is_shown_as_one(tmp_path: Path) -> None:
    """It is pending while one is, failed if one is, done when all are; progress is joint."""
    async with press(tmp_path) as (remote, it):
        assert (await it.get("/batches/none"))[0] == 404
        for _ in range(4):
            await it.post("/remotes/press/tasks", {"input": {"template": "x"}, "batch": "B 1"})
        remote.phase |= {"J1": "printed", "J2": "printed", "J3": "jammed"}
        for name in ("J1", "J2", "J3"):
            await it.rest("press", name)
        await it.until(lambda order: order.progress, "press", "J4")
        _, batch = await it.get("/batches/B%201?limit=2")
        assert (batch["status"], batch["progress"], len(batch["entries"])) == ("pending", 0.85, 2)
        assert batch["counts"] == {"held": 0, "pending": 1, "done": 2, "failed": 1, "canceled": 0}
        assert batch["next"]
        remote.phase["J4"] = "printed"
        await it.rest("press", "J4")
        _, batch = await it.get("/batches/B%201")
        assert (batch["status"], batch["progress"], batch["next"]) == ("failed", 1.0, None)


async def test_a_start_that_cannot_be_recorded_is_canceled_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an order nobody would ever know of the task: it is canceled, or named to who asked for it."""
    text = Path(PRESS).read_text(encoding="utf-8") + '\n[cancel]\npost = "jobs/{task_id}/cancel"\n'
    canceled: list[str] = []

    async def cancel(request: web.Request) -> web.Response:
        canceled.append(request.match_info["id"])
        return web.json_response({}, status=200 if len(canceled) == 1 else 500)

    remote = Press()
    async with serving({**remote.routes(), "POST /v2/jobs/{id}/cancel": cancel}) as base:
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY}
        async with workshop(tmp_path, page(tmp_path, "press", text), environ) as it:

            async def fails(orders: Any) -> Any:
                raise StoreUnavailable("the disk is full")

            monkeypatch.setattr(it.service.store, "add", fails)
            status, problem = await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
            assert (status, canceled) == (503, ["J1"])
            assert problem["hint"] == "the task 'J1' that press has started was canceled again"
            status, problem = await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
            assert (status, canceled) == (503, ["J1", "J2"])
            assert problem["hint"].startswith("the task 'J2' that press has started could not be canceled: ")


async def test_a_cancel_stops_the_transfer_and_tells_the_remote(tmp_path: Path) -> None:
    """In the middle of a download: after the answer no file of the order appears, and the remote has heard of it."""
    text = Path(PRESS).read_text(encoding="utf-8") + '\n[cancel]\npost = "jobs/{task_id}/cancel"\n'
    canceled: list[str] = []
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def cancel(request: web.Request) -> web.Response:
        canceled.append(request.match_info["id"])
        return web.json_response({})

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/pdf", "Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(b"%PDF" * 1000)
        begun.set()
        await let_go.wait()
        return response

    remote = Press()
    routes = {**remote.routes(), "POST /v2/jobs/{id}/cancel": cancel, "GET /files/{id}.pdf": slow}
    async with serving(routes) as base:
        remote.base = base
        async with workshop(tmp_path, page(tmp_path, "press", text), {"PRESS_URL": base, "PRESS_KEY": KEY}) as it:
            await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
            remote.phase["J1"] = "printed"
            await begun.wait()
            status, order = await it.post("/orders/press/J1/cancel")
            assert (status, order["state"], canceled) == (200, "canceled", ["J1"])
            let_go.set()
            assert it.files() == {}
            assert not list((it.folder / ".partial").glob("*.part"))
            assert (await it.events("press", "J1"))[-2:] == ["canceled", "canceled_there"]


async def test_a_cancel_that_the_remote_does_not_take_is_a_cancel_all_the_same(tmp_path: Path) -> None:
    """What the remote said is in the order's history."""
    text = Path(PRESS).read_text(encoding="utf-8") + '\n[cancel]\npost = "nowhere/{task_id}"\n'
    async with press(tmp_path, page(tmp_path, "press", text)) as (_, it):
        await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
        status, order = await it.post("/orders/press/J1/cancel")
        assert (status, order["state"]) == (200, "canceled")
        assert (await it.events("press", "J1"))[-1] == "not_canceled_there"


async def test_a_remote_may_take_so_many_tasks_at_a_time(tmp_path: Path) -> None:
    """Beyond them a start is put off, before anybody is asked."""
    text = Path(PRESS).read_text(encoding="utf-8") + "\n[limits]\ntasks = 1\n"
    async with press(tmp_path, page(tmp_path, "press", text)) as (remote, it):
        assert (await it.post("/remotes/press/tasks", {"input": {"template": "x"}}))[0] == 202
        status, problem = await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
        assert (status, problem["detail"], len(remote.started)) == (429, "press takes one task at a time", 1)
        assert (await it.post("/remotes/press/tasks", [{"input": {"template": "x"}}] * 2))[0] == 429
        remote.phase["J1"] = "jammed"
        assert (await it.rest("press", "J1")).reason == "tray 2"
        assert (await it.post("/remotes/press/tasks", {"input": {"template": "x"}}))[0] == 202


# --- several remotes


async def test_several_remotes_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One is down, one lets nobody in, one works: each has its own breaker, credentials and connections."""
    other = Path(PRESS).read_text(encoding="utf-8").replace('"press"', '"locked"').replace("PRESS_", "LOCKED_")
    down = Path(PRESS).read_text(encoding="utf-8").replace('"press"', '"down"').replace("PRESS_", "DOWN_")

    async def no(request: web.Request) -> web.Response:
        return web.Response(status=401)

    async with serving({"GET /v2/jobs/{id}": no}) as locked:
        pages = f"{PRESS},{page(tmp_path, 'locked', other)},{page(tmp_path, 'down', down)}"
        environ = {
            "LOCKED_URL": locked,
            "LOCKED_KEY": "other-key",
            "DOWN_URL": "http://127.0.0.1:9",
            "DOWN_KEY": "k" * 9,
        }
        async with press(tmp_path, pages, **environ) as (remote, it):
            remote.phase["T1"] = "printed"
            orders = [{"task_id": "T1", "remote": name} for name in ("locked", "down", "press")]
            assert (await it.post("/orders", orders))[0] == 202
            assert (await it.rest("press", "T1")).state is State.DONE
            while not (await it.get("/readyz"))[1].get("paused"):
                await asyncio.sleep(0.01)
            _, listed = await it.get("/remotes")
            paused = {each["name"]: bool(each["paused"]) for each in listed["remotes"]}
            assert (paused["press"], paused["locked"]) == (False, True)
            assert "start" in listed["remotes"][0]["abilities"]
            assert set(remote.asked) == {f"T1 {KEY}"}


# --- shipped pages at work


class Medusa:
    """Medusa v1's batch jobs, as far as a poller sees them."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.base = ""
        self.links = 0

    def routes(self) -> dict[str, Any]:
        """Say what is answered to what."""
        return {
            "POST /admin/batch-jobs": self.create,
            "GET /admin/batch-jobs": self.list,
            "GET /admin/batch-jobs/{id}": self.show,
            "POST /admin/batch-jobs/{id}/confirm": self.confirm,
            "POST /admin/batch-jobs/{id}/cancel": self.cancel,
            "POST /admin/uploads/download-url": self.link,
            "GET /uploads/{key:.*}": self.file,
        }

    def answer(self, name: str) -> web.Response:
        """Show a job; every answer sets a cookie, which nobody wants."""
        return web.json_response({"batch_job": self.jobs[name]}, headers={"Set-Cookie": "connect.sid=x; HttpOnly"})

    async def create(self, request: web.Request) -> web.Response:
        """Make a job."""
        if request.headers.get("x-medusa-access-token") != KEY:
            return web.Response(status=401, text="Unauthorized")
        asked = await request.json()
        name = f"batch_{len(self.jobs)}"
        self.jobs[name] = {
            "id": name,
            "type": asked["type"],
            "status": "pre_processed",
            "dry_run": asked["dry_run"],
            "result": None,
        }
        return self.answer(name)

    async def list(self, request: web.Request) -> web.Response:
        """List jobs."""
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        jobs = list(self.jobs.values())
        return web.json_response({"batch_jobs": jobs[offset : offset + limit], "count": len(jobs)})

    async def show(self, request: web.Request) -> web.Response:
        """Show a job."""
        assert "cookie" not in request.headers
        return self.answer(request.match_info["id"])

    async def confirm(self, request: web.Request) -> web.Response:
        """Let a job go on."""
        self.end(request.match_info["id"])
        return self.answer(request.match_info["id"])

    async def cancel(self, request: web.Request) -> web.Response:
        """Mark a job as canceled."""
        self.jobs[request.match_info["id"]]["status"] = "canceled"
        return self.answer(request.match_info["id"])

    async def link(self, request: web.Request) -> web.Response:
        """Give a link to any key whatever."""
        self.links += 1
        return web.json_response({"download_url": f"{self.base}/uploads/{(await request.json())['file_key']}"})

    async def file(self, request: web.Request) -> web.Response:
        """Give a file, to whom it is linked."""
        assert "x-medusa-access-token" not in request.headers
        return web.Response(body=b"id;title\r\n", content_type="text/csv")

    def end(self, name: str) -> None:
        """Have a job done."""
        self.jobs[name] |= {"status": "completed", "result": {"file_key": f"exports/products/{name}.csv"}}


async def test_a_medusa_job_waits_for_the_shop_s_word(tmp_path: Path) -> None:
    """Started as a dry run it is held here and there; confirmed here, it is confirmed there, and its file comes."""
    remote = Medusa()
    async with serving(remote.routes()) as base:
        remote.base = base
        async with workshop(tmp_path, "medusa-v1", {"MEDUSA_URL": base, "MEDUSA_TOKEN": KEY}) as it:
            wish = {"input": {"type": "product-export"}, "dry_run": True}
            status, order = await it.post("/remotes/medusa-v1/tasks", wish)
            assert (status, order["state"]) == (202, "held")
            assert remote.jobs["batch_0"]["dry_run"] is True
            await it.post("/orders/medusa-v1/batch_0/confirm")
            done = await it.rest("medusa-v1", "batch_0")
            assert (done.state, it.files()) == (State.DONE, {"medusa-v1-batch_0.csv": b"id;title\r\n"})
            assert remote.links == 1


async def test_medusa_s_jobs_are_found(tmp_path: Path) -> None:
    """Those without an order get one, once; the list is read to its end."""
    remote = Medusa()
    for number in range(120):
        remote.jobs[f"old_{number}"] = {
            "id": f"old_{number}",
            "type": "product-export",
            "status": "failed" if number % 2 else "created",
        }
    async with serving(remote.routes()) as base:
        remote.base = base
        async with workshop(tmp_path, "medusa-v1", {"MEDUSA_URL": base, "MEDUSA_TOKEN": KEY}) as it:
            status, found = await it.get("/remotes/medusa-v1/tasks")
            assert (status, len(found["tasks"]), found["complete"]) == (200, 60, True)
            assert found["tasks"][0] == {"task_id": "old_0", "context": {"type": "product-export"}, "state": None}
            assert [len((await it.get("/remotes/medusa-v1/tasks?limit=7"))[1]["tasks"])] == [7]
            status, made = await it.post("/remotes/medusa-v1/discover", {"batch": "monday", "context": {"who": "me"}})
            assert (status, len(made["orders"]), made["known"]) == (202, 60, 0)
            assert made["orders"][0]["context"] == {"type": "product-export", "who": "me"}
            status, made = await it.post("/remotes/medusa-v1/discover")
            assert (status, made) == (200, {"orders": [], "known": 60, "complete": True})
            assert (await it.get("/batches/monday"))[1]["total"] == 60
            for bad in ({"task_id": "x"}, [], {"input": 7}, {"input": {"x": 1}}):
                assert (await it.post("/remotes/medusa-v1/discover", bad))[0] == 422
            assert (await it.get("/remotes/medusa-v1/tasks?limit=0"))[0] == 400
            assert (await it.get("/remotes/medusa-v1/tasks?x=1"))[0] == 422


class Saleor:
    """Saleor's export files, and its tokens."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self.tokens: list[str] = []
        self.good: set[str] = set()
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.asked = 0
        self.fetched_keys = 0

    def routes(self) -> dict[str, Any]:
        """Say what is answered to what."""
        return {
            "POST /graphql/": self.graphql,
            "GET /.well-known/jwks.json": self.keys,
            "GET /media/{name}": self.media,
        }

    async def graphql(self, request: web.Request) -> web.Response:
        """Answer, always with 200."""
        asked = await request.json()
        if "tokenCreate" in asked["query"]:
            self.tokens.append(f"canary-token-{len(self.tokens)}")
            self.good = {self.tokens[-1]}
            return web.json_response({"data": {"tokenCreate": {"token": self.tokens[-1], "errors": []}}})
        if request.headers["Authorization"].removeprefix("Bearer ") not in self.good:
            denied = {"message": "denied", "extensions": {"exception": {"code": "PermissionDenied"}}}
            return web.json_response({"errors": [denied], "data": {"exportFile": None}})
        self.asked += 1
        return web.json_response({"data": {"exportFile": self.files.get(asked["variables"]["id"])}})

    async def keys(self, request: web.Request) -> web.Response:
        """Publish the key."""
        self.fetched_keys += 1
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return web.json_response({"keys": [{**public, "use": "sig", "kid": "1"}]})

    async def media(self, request: web.Request) -> web.Response:
        """Give a file."""
        assert "Authorization" not in request.headers
        return web.Response(body=b"id,name\n", content_type="text/csv")

    def signed(self, body: bytes) -> str:
        """Sign a push as Saleor does that has no secret."""
        token = jwt.PyJWS().encode(
            body, self.key, "RS256", headers={"b64": False, "crit": ["b64"], "kid": "1"}, is_payload_detached=True
        )
        return str(token)


async def test_saleor_s_token_is_renewed_once_in_the_middle(tmp_path: Path) -> None:
    """A denial at 200 is a 401 in other words: the five-minute token has run out, and another one does."""
    remote = Saleor()
    async with serving(remote.routes()) as base:
        environ = {"SALEOR_URL": base, "SALEOR_EMAIL": "a@b.example", "SALEOR_PASSWORD": "canary-password"}
        async with workshop(tmp_path, "saleor", environ) as it:
            remote.files["F1"] = {"status": "PENDING"}
            await it.post("/orders", {"task_id": "F1"})
            while not remote.asked:
                await asyncio.sleep(0.01)
            remote.good.clear()
            remote.files["F1"] = {"status": "SUCCESS", "url": f"{base}/media/product_data.csv"}
            assert (await it.rest("saleor", "F1")).state is State.DONE
            assert len(remote.tokens) == 2
            assert it.files() == {"saleor-F1.csv": b"id,name\n"}


async def test_saleor_without_permission_is_paused(tmp_path: Path) -> None:
    """A token that may nothing is the operator's to mend: orders wait, and spend nothing."""
    remote = Saleor()
    async with (
        serving(remote.routes()) as base,
        workshop(tmp_path, "saleor", {"SALEOR_URL": base, "SALEOR_TOKEN": "canary-app"}) as it,
    ):
        await it.post("/orders", {"task_id": "F1"})
        while not (await it.get("/readyz"))[1].get("paused"):
            await asyncio.sleep(0.01)
        order = await it.order("saleor", "F1")
        assert (order.state, order.attempts) == (State.PENDING, 0)


def hexed(secret: str) -> Callable[[Saleor, bytes], str]:
    """Sign with a secret."""
    return lambda _, body: hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(("secret", "sign"), [("canary-webhook", hexed("canary-webhook")), ("", Saleor.signed)])
async def test_a_push_of_saleor_s_is_recognised_and_not_believed(
    tmp_path: Path, secret: str, sign: Callable[[Saleor, bytes], str]
) -> None:
    """With a secret or without one; it makes its order due, now and soon after, and what it says counts for nothing."""
    remote = Saleor()
    remote.good = {"canary-app"}
    body = json.dumps({"export": {"id": "F1", "status": "success", "url": "https://evil.example/x"}}).encode()
    event = {"Saleor-Event": "product_export_completed"}
    async with serving(remote.routes()) as base:
        environ = {
            "SALEOR_URL": base,
            "SALEOR_TOKEN": "canary-app",
            "SALEOR_WEBHOOK_SECRET": secret,
            "POLLER_INTERVAL_MIN": "1h",
            "POLLER_INTERVAL_MAX": "1h",
            "POLLER_TOKEN": "canary-hook-token-0123456789",
        }
        async with workshop(tmp_path, "saleor", environ) as it:
            it.session.headers["Authorization"] = "Bearer canary-hook-token-0123456789"
            remote.files["F1"] = {"status": "PENDING"}
            await it.post("/orders", {"task_id": "F1"})
            await it.until(lambda order: order.checks, "saleor", "F1")
            del it.session.headers["Authorization"]
            forged = await it.post("/remotes/saleor/nudge", body, headers={**event, "Saleor-Signature": "00" * 32})
            assert forged[0] == 403
            assert (await it.post("/remotes/saleor/nudge", body, headers=event))[0] == 403
            asked = remote.asked
            headers = {**event, "Saleor-Signature": sign(remote, body)}
            assert (await it.post("/remotes/saleor/nudge", body + b" ", headers=headers))[0] == 403
            other = {"Saleor-Event": "order_created", "Saleor-Signature": sign(remote, body)}
            assert await it.post("/remotes/saleor/nudge", body, headers=other) == (202, {"nudged": 0})
            assert remote.asked == asked
            assert await it.post("/remotes/saleor/nudge", body, headers=headers) == (202, {"nudged": 1})
            await it.until(lambda order: order.checks > 1, "saleor", "F1")
            remote.files["F1"] = {"status": "SUCCESS", "url": f"{base}/media/product_data.csv"}
            assert (await it.rest("saleor", "F1")).state is State.DONE
            assert it.files() == {"saleor-F1.csv": b"id,name\n"}
            assert remote.fetched_keys <= 2


async def test_every_version_of_a_feed_is_an_order(tmp_path: Path) -> None:
    """By its entity tag, with conditional requests; what is the same is not fetched again."""
    state = {"etag": '"v1"', "body": b"a,b\n1,2\n"}
    seen: list[str | None] = []

    async def latest(request: web.Request) -> web.Response:
        seen.append(request.headers.get("If-None-Match"))
        if request.headers.get("If-None-Match") == state["etag"]:
            return web.Response(status=304, headers={"ETag": state["etag"]})
        return web.Response(body=state["body"], content_type="text/csv", headers={"ETag": state["etag"]})

    async with serving({"GET /latest": latest}) as base:
        environ = {"ERGONODE_FEED_URL": f"{base}/latest", "ERGONODE_FEED_EVERY": "20ms"}
        async with workshop(tmp_path, "ergonode-feed", environ) as it:
            while not it.files():
                await asyncio.sleep(0.01)
            assert it.files() == {"ergonode-feed-v1.csv": b"a,b\n1,2\n"}
            while seen.count('"v1"') < 3:
                await asyncio.sleep(0.01)
            state |= {"etag": '"v2"', "body": b"a,b\n3,4\n"}
            while len(it.files()) < 2:
                await asyncio.sleep(0.01)
            assert it.files()["ergonode-feed-v2.csv"] == b"a,b\n3,4\n"
            assert len(await it.shop.orders()) == 2
            assert (await it.order("ergonode-feed", "v2")).feed == "ergonode-feed"


async def test_a_feed_without_tags_is_told_apart_by_its_bytes(tmp_path: Path) -> None:
    """A remote that knows no conditions is read, and a version that was replaced meanwhile is gone."""
    state = {"body": b"a,b\n1,2\n"}
    served: list[bytes] = []

    async def latest(request: web.Request) -> web.Response:
        served.append(state["body"])
        if request.headers.get("X-API-KEY") != "canary-api-key":
            return web.Response(status=403)
        return web.Response(body=state["body"], content_type="text/csv")

    async with serving({"GET /latest": latest}) as base:
        environ = {
            "ERGONODE_FEED_URL": f"{base}/latest",
            "ERGONODE_FEED_EVERY": "20ms",
            "ERGONODE_API_KEY": "canary-api-key",
        }
        async with workshop(tmp_path, "ergonode-feed", environ) as it:
            name = hashlib.sha256(state["body"]).hexdigest()[:32]
            while f"ergonode-feed-{name}.csv" not in it.files():
                await asyncio.sleep(0.01)
            while served.count(state["body"]) < 5:
                await asyncio.sleep(0.01)
            assert len(await it.shop.orders()) == 1


# --- files


PARTS = """
name = "parts"
base = "{+PARTS_URL}"
settings = { PARTS_URL = "required" }

[check]
get   = "jobs/{task_id}"
ready = "status == `200`"

[[file]]
path = "jobs/{task_id}/results{?locator}"
next = { locator = '''headers."x-locator" != 'null' && headers."x-locator"''' }
extension = ".csv"

[file.types]
"text/csv" = ".csv"
"""


async def test_a_file_that_comes_in_parts_is_kept_in_parts(tmp_path: Path) -> None:
    """The head of each part says where the next one is, and the last that there is none."""

    async def job(request: web.Request) -> web.Response:
        return web.json_response({})

    async def results(request: web.Request) -> web.Response:
        part = int(request.query.get("locator", "1"))
        headers = {"X-Locator": str(part + 1) if part < 3 else "null"}
        return web.Response(body=b"part,%d\n" % part, content_type="text/csv", headers=headers)

    async with serving({"GET /jobs/{id}": job, "GET /jobs/{id}/results": results}) as base:  # noqa: SIM117
        async with workshop(tmp_path, page(tmp_path, "parts", PARTS), {"PARTS_URL": base}) as it:
            await it.post("/orders", {"task_id": "P1"})
            done = await it.rest("parts", "P1")
            assert (done.state, done.reason) == (State.DONE, None)
            assert it.files() == {f"parts-P1~file{n}.csv": b"part,%d\n" % n for n in (1, 2, 3)}


PACKED = """
name = "packed"
base = "{+PACKED_URL}"
settings = { PACKED_URL = "required" }

[check]
get   = "jobs/{task_id}"
ready = "body.url"

[[file]]
link       = "body.url"
unpack     = "body.compression"
extensions = [".xlsx", ".tsv"]
"""


@pytest.mark.parametrize("really", [True, False])
async def test_a_packed_file_is_unpacked_and_takes_its_own_extension(tmp_path: Path, really: bool) -> None:
    """As the remote declares it, if the bytes agree; the name's end is taken only if the page allows it."""

    async def job(request: web.Request) -> web.Response:
        return web.json_response({"url": "/files/report.tsv", "compression": "GZIP"})

    async def file(request: web.Request) -> web.Response:
        body = gzip.compress(b"a\tb\n") if really else b"a\tb\n"
        return web.Response(body=body, content_type="application/octet-stream")

    async with serving({"GET /jobs/{id}": job, "GET /files/{name}": file}) as base:  # noqa: SIM117
        async with workshop(tmp_path, page(tmp_path, "packed", PACKED), {"PACKED_URL": base}) as it:
            await it.post("/orders", {"task_id": "P1"})
            await it.rest("packed", "P1")
            assert it.files() == {"packed-P1.tsv": b"a\tb\n"}


# --- telling remotes


@pytest.mark.parametrize("phase", ["printed", "jammed"])
async def test_a_workflow_of_medusa_s_hears_of_another_remote_s_file(tmp_path: Path, phase: str) -> None:
    """A step that waits is told success or failure, at the second try if it must be."""
    told: list[Any] = []

    async def step(request: web.Request) -> web.Response:
        told.append((request.match_info["outcome"], await request.json()))
        return web.json_response({"success": True}, status=500 if len(told) == 1 else 200)

    async with serving({"POST /admin/workflows-executions/print-flyer/steps/{outcome}": step}) as medusa:
        environ = {"MEDUSA_URL": medusa, "MEDUSA_TOKEN": "sk_canary", "POLLER_REMOTES": f"{PRESS},medusa-v2"}
        async with press(tmp_path, **environ) as (remote, it):
            remote.phase["T1"] = phase
            context = {"tell": "medusa-v2", "workflow_id": "print-flyer", "transaction_id": "01TX", "step_id": "wait"}
            await it.post("/orders", {"task_id": "T1", "remote": "press", "context": context})
            await it.rest("press", "T1")
            while len(told) < 2:
                await asyncio.sleep(0.01)
            outcome, body = told[-1]
            assert (body["transaction_id"], body["step_id"]) == ("01TX", "wait")
            if phase == "printed":
                assert outcome == "success"
                assert body["response"]["files"][0]["sha256"] == hashlib.sha256(PDF).hexdigest()
            else:
                assert (outcome, body["response"]) == ("failure", {"cause": "refused", "reason": "tray 2"})


# --- what a hostile reading found


async def test_what_is_kept_of_a_start_is_small(tmp_path: Path) -> None:
    """A thousand levels, or a megabyte, are not written again and again with an order; nor read at the next start."""
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep}

    async def start(request: web.Request) -> web.Response:
        return web.json_response({"job": {"id": "D1"}, "x": deep, "y": "y" * 20_000, "z": "z"})

    text = (
        Path(PRESS)
        .read_text(encoding="utf-8")
        .replace(
            'task_id = "body.job.id"', 'task_id = "body.job.id"\nkeep = { x = "body.x", y = "body.y", z = "body.z" }'
        )
    )
    remote = Press()
    async with serving({**remote.routes(), "POST /v2/jobs": start}) as base:
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY}
        async with workshop(tmp_path, page(tmp_path, "press", text), environ) as it:
            assert (await it.post("/remotes/press/tasks", {"input": {"template": "x"}}))[0] == 202
            assert (await it.order("press", "D1")).kept == {"z": "z"}
        async with workshop(tmp_path, page(tmp_path, "press", text), environ) as it:
            assert (await it.order("press", "D1")).kept == {"z": "z"}


IDEMPOTENT = Path(PRESS).read_text(encoding="utf-8").replace("[start]\n", "[start]\nidempotent = true\n") + (
    '\n[cancel]\npost = "jobs/{task_id}/cancel"\n'
)


async def test_nobody_s_task_is_canceled_for_another_s_start(tmp_path: Path) -> None:
    """Where the remote gives the task that is there already, its order stays, whatever becomes of the start."""
    canceled: list[str] = []
    names = iter(["A", "A", "A", "B", None])

    async def cancel(request: web.Request) -> web.Response:
        canceled.append(request.match_info["id"])
        return web.json_response({})

    async def start(request: web.Request) -> web.Response:
        name = next(names)
        return web.json_response({"job": {"id": name}} if name else {"note": "no"}, status=201 if name else 422)

    remote = Press()
    remote.phase |= {"A": "queued", "B": "queued"}
    routes = {**remote.routes(), "POST /v2/jobs": start, "POST /v2/jobs/{id}/cancel": cancel}
    async with serving(routes) as base:
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY}
        async with workshop(tmp_path, page(tmp_path, "press", IDEMPOTENT), environ) as it:
            wish = {"input": {"template": "x"}}
            assert (await it.post("/remotes/press/tasks", wish))[0] == 202
            status, problem = await it.post("/remotes/press/tasks", {**wish, "batch": "other"})
            assert (status, canceled) == (409, [])
            assert "'A'" in problem["hint"]
            status, problem = await it.post("/remotes/press/tasks", [wish, wish, wish])
            assert (status, canceled) == (422, ["B"])
            assert problem["hint"] == "B was started, and canceled there as well"
            assert (await it.order("press", "A")).state is State.PENDING


async def test_a_stop_waits_for_a_start(tmp_path: Path) -> None:
    """What the remote makes meanwhile has an order before the poller is gone; nothing new is started."""
    asked, answers = asyncio.Event(), asyncio.Event()

    async def start(request: web.Request) -> web.Response:
        asked.set()
        await answers.wait()
        return web.json_response({"job": {"id": "S1"}}, status=201)

    remote = Press()
    remote.phase["S1"] = "queued"
    async with serving({**remote.routes(), "POST /v2/jobs": start}) as base:
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY, "POLLER_GRACE": "20s"}
        async with workshop(tmp_path, PRESS, environ) as it:
            starting = asyncio.create_task(it.post("/remotes/press/tasks", {"input": {"template": "x"}}))
            await asked.wait()
            it.service.desk.stop()
            assert (await it.post("/remotes/press/tasks", {"input": {"template": "x"}}))[0] == 503
            assert not it.service.working.done()
            answers.set()
            assert (await starting)[0] == 202
            await it.service.working
            assert (await it.order("press", "S1")).state is State.PENDING


async def test_a_start_is_never_sent_twice(tmp_path: Path) -> None:
    """Not by GET either, not over a connection that closes just then, and it follows nobody elsewhere."""
    began: list[str] = []

    async def start(request: web.Request) -> web.Response:
        began.append(request.path)
        if len(began) == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=302, headers={"Location": "/v2/elsewhere"})

    text = (
        Path(PRESS)
        .read_text(encoding="utf-8")
        .replace('post    = "jobs"\n', 'get     = "begin"\n')
        .replace('json    = { template = "{input.template}", copies = "{input.copies}" }\n', "")
    )
    remote = Press()
    remote.phase["T1"] = "queued"
    async with serving({**remote.routes(), "GET /v2/begin": start, "GET /v2/elsewhere": start}) as base:
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY}
        async with workshop(tmp_path, page(tmp_path, "press", text), environ) as it:
            await it.post("/orders", {"task_id": "T1"})
            await it.until(lambda order: order.checks > 1, "press", "T1")
            for count in (1, 2):
                status, problem = await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
                assert (status, began) == (502, ["/v2/begin"] * count)
                assert "nobody knows" in problem["hint"]


async def test_a_secret_in_a_page_s_headers_stays_at_home(tmp_path: Path) -> None:
    """A redirect of a link does not take it along, nor does a request to another host that the operator named."""
    seen: list[dict[str, str]] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(body=PDF, content_type="application/pdf")

    async def job(request: web.Request) -> web.Response:
        assert request.headers["X-Secret"] == KEY
        return web.json_response({"url": "/files/1"})

    async def file(request: web.Request) -> web.Response:
        assert request.headers["X-Secret"] == KEY
        return web.Response(status=302, headers={"Location": request.query.get("to", "") or state["other"] + "/f"})

    state: dict[str, str] = {}
    text = (
        'name = "h"\nbase = "{+H_URL}"\nheaders = { X-Secret = "{H_KEY}" }\nallow_origins = ["{+H_OTHER}"]\n'
        'settings = { H_URL = "required", H_KEY = "secret", H_OTHER = "required" }\n'
        '[check]\nget = "jobs/{task_id}"\nready = "body.url"\n'
        '[[check.then]]\nget = "{+H_OTHER}/more"\nkeep = { a = "status" }\n'
        '[[file]]\npath = "files/1"\nheaders = { X-Also = "{H_KEY}", Accept = "application/pdf" }\n'
        '[file.types]\n"application/pdf" = ".pdf"\n'
    )
    async with serving({"GET /f": elsewhere, "GET /more": elsewhere}) as other:
        state["other"] = other
        async with serving({"GET /jobs/{id}": job, "GET /files/1": file}) as base:
            environ = {"H_URL": base, "H_KEY": KEY, "H_OTHER": other}
            async with workshop(tmp_path, page(tmp_path, "h", text), environ) as it:
                await it.post("/orders", {"task_id": "T1"})
                assert (await it.rest("h", "T1")).state is State.DONE
    assert len(seen) == 2
    assert not any(KEY in value for headers in seen for value in headers.values())
    assert seen[1]["Accept"] == "application/pdf"


async def test_a_retry_waits_for_the_cancellation_before_it(tmp_path: Path) -> None:
    """Else the remote would cancel what is wanted again."""
    asked, answers = asyncio.Event(), asyncio.Event()

    async def cancel(request: web.Request) -> web.Response:
        asked.set()
        await answers.wait()
        return web.json_response({})

    remote = Press()
    async with serving({**remote.routes(), "POST /v2/jobs/{id}/cancel": cancel}) as base:
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY}
        async with workshop(tmp_path, page(tmp_path, "press", IDEMPOTENT), environ) as it:
            await it.post("/remotes/press/tasks", {"input": {"template": "x"}})
            canceling = asyncio.create_task(it.post("/orders/press/J1/cancel"))
            await asked.wait()
            retrying = asyncio.create_task(it.post("/orders/press/J1/retry"))
            await asyncio.sleep(0.05)
            assert not retrying.done()
            answers.set()
            assert (await canceling)[1]["state"] == "canceled"
            assert (await retrying)[1]["state"] == "pending"
            assert [event for event in await it.events("press", "J1") if "cancel" in event or event == "retried"] == [
                "canceled",
                "canceled_there",
                "retried",
            ]


@pytest.mark.parametrize("header", ["\u00ff\u00fe", "t=1,v1=\u20ac", ""])
async def test_a_push_of_odd_bytes_is_refused(tmp_path: Path, header: str) -> None:
    """Whatever stands where the proof should be; it is nobody's accident."""
    text = Path(PRESS).read_text(encoding="utf-8") + '\n[nudge]\nhmac = "X-Sig"\nsecret = "{PRESS_KEY}"\n'
    async with press(tmp_path, page(tmp_path, "press", text)) as (_, it):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(it.url.rpartition(":")[2]))
        sig = header.encode("utf-8")
        writer.write(
            b"POST /remotes/press/nudge HTTP/1.1\r\nHost: localhost\r\nX-Sig: "
            + sig
            + b"\r\nContent-Length: 2\r\n\r\n{}"
        )
        assert (await reader.readline()).split()[1] == b"403"
        writer.close()


async def test_tasks_that_can_be_no_orders_are_passed_over(tmp_path: Path) -> None:
    """What a remote lists is held to the rules for what a shop posts."""
    jobs = [{"id": each, "type": "x"} for each in ("a\nb", "\x00", "n" * 600, "good", 7)]
    jobs.append({"id": "fat", "type": "t" * 100_000})

    async def listed(request: web.Request) -> web.Response:
        return web.json_response({"batch_jobs": jobs})

    remote = Medusa()
    async with serving({**remote.routes(), "GET /admin/batch-jobs": listed}) as base:  # noqa: SIM117
        async with workshop(tmp_path, "medusa-v1", {"MEDUSA_URL": base, "MEDUSA_TOKEN": KEY}) as it:
            _, found = await it.get("/remotes/medusa-v1/tasks")
            assert [task["task_id"] for task in found["tasks"]] == ["good", "7", "fat"]
            assert found["tasks"][-1]["context"] == {}


async def test_inputs_are_held_to_the_rules_of_json(tmp_path: Path) -> None:
    """Half a character, a number that is none, a name that comes twice, a thousand levels."""
    async with press(tmp_path) as (remote, it):
        for bad in (
            b'{"input": {"template": "\\ud800"}}',
            b'{"input": {"template": 1e999}}',
            b'{"input": {"template": "a", "template": "b"}}',
            b'{"input": {"template": ' + b"[" * 100 + b"]" * 100 + b"}}",
        ):
            status, problem = await it.post("/remotes/press/tasks", bad, headers={"Content-Type": "application/json"})
            assert status in {400, 422}, problem
        assert remote.started == []


LANDED = [
    ("shopify", ".jsonl", "application/jsonl", b'{"id":"gid://shopify/Product/1"}\n' * 60),
    ("shopify", ".jsonl", "application/octet-stream", b'{"id":"gid://shopify/Product/1"}\n' * 60),
    ("salesforce-bulk", ".csv", "text/csv", b"Id,Name\n1,a\n" * 200),
    ("openai-batch", ".jsonl", "application/octet-stream", b'{"custom_id":"1","response":{}}\n' * 60),
    ("saleor", ".csv", "text/csv", b"id,name\n" * 200),
    ("medusa-v1", ".csv", "text/csv", b"id;title\r\n" * 200),
    ("ergonode-v1", ".zip", "application/zip", b"PK\x03\x04" + b"\x00" * 2000),
    ("docraptor", ".pdf", "application/pdf", b"%PDF-1.7" + b"\x00" * 2000),
    ("grafx", ".png", "image/png", b"\x89PNG" + b"\x00" * 2000),
    ("ebay-feed", ".csv", "text/csv", b"a,b\n" * 500),
    ("mirakl", ".csv", "text/csv", b"a,b\n" * 500),
    ("amazon-reports", ".csv", "text/csv", b"a,b\n" * 500),
]


@pytest.mark.parametrize(("name", "ext", "kind", "body"), LANDED)
def test_files_as_the_remotes_send_them_are_none_of_their_error_pages(
    name: str, ext: str, kind: str, body: bytes
) -> None:
    """By each page's own word; and an error page of the storage behind them still is one."""
    shipped = remotes.page(name)
    types = {media: each for rule in shipped.files for media, each in rule.types.items()}
    fixed = {rule.extension for rule in shipped.files if rule.extension}
    extension = ext if ext in fixed else ""
    assert extension or types.get(kind) == ext or kind == "application/octet-stream"
    assert not content.is_page(kind, body[: content.HEAD], types, extension)
    for page_kind, error in (
        ("application/xml", b"<Error><Code>NoSuchKey</Code></Error>"),
        ("text/html", b"<!doctype html>"),
    ):
        if types.get(page_kind) is None:
            assert content.is_page(page_kind, error, types, extension)


# --- links and files in time


async def test_a_link_that_had_to_wait_is_got_anew(tmp_path: Path) -> None:
    """While others download, a link may grow older than it is good for."""
    let_go, begun = asyncio.Event(), asyncio.Event()
    links: list[str] = []

    async def link(request: web.Request) -> web.Response:
        links.append(request.match_info["id"])
        return web.json_response({"href": f"/files/{links[-1]}.pdf"})

    async def file(request: web.Request) -> web.Response:
        if not begun.is_set():
            begun.set()
            await let_go.wait()
        return web.Response(body=PDF, content_type="application/pdf")

    text = Path(PRESS).read_text(encoding="utf-8").replace('max_age = "5m"', 'max_age = "50ms"')
    remote = Press()
    remote.phase |= {"A": "printed", "B": "printed"}
    routes = {**remote.routes(), "POST /v2/jobs/{id}/links": link, "GET /files/{id}.pdf": file}
    async with serving(routes) as base:
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY, "POLLER_DOWNLOADS": "1"}
        async with workshop(tmp_path, page(tmp_path, "press", text), environ) as it:
            await it.post("/orders", {"task_id": "A"})
            await begun.wait()
            await it.post("/orders", {"task_id": "B"})
            loop = asyncio.get_running_loop()
            while "B" not in links:
                await asyncio.sleep(0.005)
            late = loop.time() + 0.1
            while loop.time() < late:
                await asyncio.sleep(0.01)
            let_go.set()
            assert (await it.rest("press", "B")).state is State.DONE
            assert links == ["A", "B", "B"]


async def test_an_empty_file_may_mean_that_there_is_none(tmp_path: Path) -> None:
    """As the page says; elsewhere it is trouble."""

    async def empty(request: web.Request) -> web.Response:
        return web.Response(body=b"", content_type="application/pdf")

    text = Path(PRESS).read_text(encoding="utf-8").replace('max_age = "5m"', 'max_age = "5m"\nempty = "none"')
    remote = Press()
    remote.phase["A"] = "printed"
    async with serving({**remote.routes(), "GET /files/{id}.pdf": empty}) as base:
        remote.base = base
        async with workshop(tmp_path, page(tmp_path, "press", text), {"PRESS_URL": base, "PRESS_KEY": KEY}) as it:
            await it.post("/orders", {"task_id": "A"})
            done = await it.rest("press", "A")
            assert (done.state, done.files, it.files()) == (State.DONE, (), {})


async def test_a_version_that_was_replaced_is_gone_and_the_next_one_is_had(tmp_path: Path) -> None:
    """Nobody gets other bytes under its name."""
    tags = iter(['"v1"'])

    async def latest(request: web.Request) -> web.Response:
        tag = next(tags, '"v2"')
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304)
        return web.Response(body=b"a,b\n" + tag.encode(), content_type="text/csv", headers={"ETag": tag})

    async with serving({"GET /latest": latest}) as base:
        environ = {"ERGONODE_FEED_URL": f"{base}/latest", "ERGONODE_FEED_EVERY": "20ms"}
        async with workshop(tmp_path, "ergonode-feed", environ) as it:
            while not it.files():
                await asyncio.sleep(0.01)
            assert it.files() == {"ergonode-feed-v2.csv": b'a,b\n"v2"'}
            gone = await it.rest("ergonode-feed", "v1")
            assert (gone.state, gone.cause, gone.reason) == ("failed", "gone", "a newer version has taken its place")


async def test_parts_go_on_after_a_stop(tmp_path: Path) -> None:
    """What is published already is not fetched again, but asked what follows it."""
    hangs = asyncio.Event()
    asked: list[str] = []

    async def job(request: web.Request) -> web.Response:
        return web.json_response({})

    async def results(request: web.Request) -> web.Response:
        part = request.query.get("locator", "1")
        asked.append(part)
        if part == "2" and not hangs.is_set():
            hangs.set()
            await asyncio.sleep(30)
        headers = {"X-Locator": "2" if part == "1" else "null"}
        return web.Response(body=b"part," + part.encode(), content_type="text/csv", headers=headers)

    async with serving({"GET /jobs/{id}": job, "GET /jobs/{id}/results": results}) as base:
        environ = {"PARTS_URL": base, "POLLER_GRACE": "0.1s"}
        async with workshop(tmp_path, page(tmp_path, "parts", PARTS), environ) as it:
            await it.post("/orders", {"task_id": "P1"})
            await hangs.wait()
            assert it.files() == {"parts-P1~file1.csv": b"part,1"}
        async with workshop(tmp_path, page(tmp_path, "parts", PARTS), environ) as it:
            assert (await it.rest("parts", "P1")).state is State.DONE
            assert it.files() == {"parts-P1~file1.csv": b"part,1", "parts-P1~file2.csv": b"part,2"}
            assert asked == ["1", "2", "1", "2"]


async def test_a_nudge_about_strangers_is_about_nobody(tmp_path: Path) -> None:
    """A task that has no order, or one at rest, is not asked about; without a name all that wait are."""
    text = Path(PRESS).read_text(encoding="utf-8")
    text += '\n[nudge]\ntoken = "X-Token"\nsecret = "{PRESS_KEY}"\ntask_id = "body.id"\n'
    async with press(tmp_path, page(tmp_path, "press", text), POLLER_INTERVAL_MIN="1h", POLLER_INTERVAL_MAX="1h") as (
        remote,
        it,
    ):
        remote.phase |= {"A": "queued", "B": "jammed"}
        await it.post("/orders", [{"task_id": "A"}, {"task_id": "B"}])
        await it.rest("press", "B")
        headers = {"X-Token": KEY}
        for name, count in (("none", 0), ("B", 0), ("A", 1)):
            body = json.dumps({"id": name}).encode()
            assert await it.post("/remotes/press/nudge", body, headers=headers) == (202, {"nudged": count})
        assert await it.post("/remotes/press/nudge", b"{}", headers=headers) == (202, {"nudged": 1})
        assert (await it.post("/remotes/medusa-v1/nudge", b"{}", headers=headers))[0] == 404
        assert (await it.get("/remotes/press/tasks"))[0] == 404
