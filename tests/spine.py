"""The whole poller in this process, as ``app`` builds it, between a hostile remote and a real folder and store.

Only times are shorter than an operator would have them; nothing is left out or replaced.
"""

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
import structlog

from poller import app, log, settings
from poller.client import Client
from poller.order import Key, Order
from poller.pace import Pace
from poller.redact import Redactor
from poller.wire import Wire
from tests.canary import Watch
from tests.hostile import Hostile, answer, hostile
from tests.service import Shop

SECRET = "canary-client-secret"
SIGNED = "?X-Signature=canary-signature&Expires=1"
TOKEN = "canary-token"
PNG = {"Content-Type": "image/png"}
ATTEMPTS = 2
_LOOK = 0.002
"""Seconds between two looks at what is in memory: asking the hook would be most of a test's work."""

PAGE = """
name = "hell"
base = "{+HELL_URL}/api"
allow_origins = ["{+HELL_OTHER_URL}"]

[settings]
HELL_URL = "required"
HELL_OTHER_URL = "required"
HELL_SECRET = "secret"

[auth.oauth2]
token_url     = "{+HELL_URL}/oauth/token"
client_id     = "someone"
client_secret = "{HELL_SECRET}"

[check]
get      = "tasks/{task_id}"
pending  = "status == `202` || status == `204` || body.state == 'running'"
ready    = "body.state == 'finished'"
failed   = "body.state == 'failed'"
reason   = "body.detail"
progress = "body.progress"

[[file]]
link     = "body.link"
unframed = "UNFRAMED"

[file.types]
"image/png" = ".png"
"""


class Spine:
    """A poller at work.

    Attributes:
        server: the remote, its login included.
        other: another origin that the operator configured, plain http.
        folder: where files are published.
        shop: talks to the hook.
        service: what runs.
        wires: the connections to the remote.
    """

    def __init__(self, server: Hostile, other: Hostile, folder: Path, wires: list[Wire]) -> None:
        self.server, self.other, self.folder, self.wires = server, other, folder, wires
        self.log = io.StringIO()
        self.shop: Shop
        self.service: app.Service

    @property
    def files(self) -> dict[str, bytes]:
        """Read all that is in the folder, partials too, but for those that are being removed."""
        found = {}
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):
                found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found

    @property
    def leaked(self) -> int:
        """Count connections that somebody took and did not give back."""
        sessions = [session for wire in self.wires for session in (wire._own, wire._foreign)]
        return sum(len(session._connector._acquired) for session in sessions)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Read the log."""
        return [msgspec.json.decode(line) for line in self.log.getvalue().splitlines()]

    def good(self, task_id: str, file: bytes) -> None:
        """Let the remote have a file for a task, and nothing go wrong with it."""
        self.server.on(f"/api/tasks/{task_id}", answer(200, self.ready(task_id)))
        self.server.on(f"/files/{task_id}", answer(200, file, PNG))

    def ready(self, task_id: str, link: str | None = None) -> bytes:
        """Spell the reply to a question about a task whose file exists."""
        where = link or f"{self.server.base}/files/{task_id}{SIGNED}"
        return msgspec.json.encode({"state": "finished", "link": where})

    def asked(self, task_id: str) -> tuple[int, int]:
        """Count questions about a task, and requests for its file."""
        return len(self.server.asked(f"/api/tasks/{task_id}")), len(self.server.asked(f"/files/{task_id}"))

    async def events(self, task_id: str) -> list[dict[str, Any]]:
        """Read an order's history from the hook."""
        async with self.shop.session.get(f"{self.shop.url}/orders/hell/{task_id}/events") as reply:
            return (await reply.json())["events"]

    async def until(self, true: Callable[[Order], object], *task_ids: str) -> dict[str, dict[str, Any]]:
        """Wait until something is true of orders; give them as the hook shows them."""
        for task_id in task_ids:
            while not true(await self._order(task_id)):
                await asyncio.sleep(_LOOK)
        return await self.shop.orders()

    async def rest(self, *task_ids: str) -> dict[str, dict[str, Any]]:
        """Wait until orders have come to rest; give them as the hook shows them."""
        return await self.until(lambda order: order.due_at is None, *task_ids)

    async def _order(self, task_id: str) -> Order:
        found = await self.service.store.get(Key("hell", task_id))
        assert found is not None
        return found


@asynccontextmanager
async def spine(
    tmp_path: Path,
    watch: Watch,
    *,
    tls: Any = None,
    unframed: str = "twice",
    clock: Callable[[], float] = time.monotonic,
    pace: dict[str, Any] | None = None,
    hiccup: float = 0.0,
    host: str = "127.0.0.1",
    **changed: Any,
) -> AsyncIterator[Spine]:
    """Run everything; see in the end that it holds no connection, and note all that it said."""
    built: list[Wire] = []
    listening = {"ssl": tls} if tls is not None else {}
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        _hurry(patch, built, clock=clock, pace=pace or {}, hiccup=hiccup)
        server = await stack.enter_async_context(hostile(**listening))
        server.base = server.base.replace("127.0.0.1", host)
        other = await stack.enter_async_context(hostile())
        it = Spine(server, other, tmp_path / "orders", built)
        server.on("/oauth/token", answer(200, b'{"access_token":"%s","expires_in":86400}' % TOKEN.encode()))
        configured = msgspec.structs.replace(_settings(tmp_path, it, unframed), **changed)
        redact = Redactor(configured.secrets)
        stack.enter_context(_logged(it.log, redact))
        stack.callback(lambda: watch.said.append(("the log", it.log.getvalue())))
        it.service = await stack.enter_async_context(app.running(configured, redact))
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)))
        it.shop = Shop(session, it.service.url)
        yield it
        await _note(it, watch)


def _hurry(
    patch: pytest.MonkeyPatch,
    built: list[Wire],
    *,
    clock: Callable[[], float],
    pace: dict[str, Any],
    hiccup: float,
) -> None:
    """Shorten times; everything else stays as ``app`` has it."""

    def wire(**given: Any) -> Wire:
        built.append(Wire(**{**given, "clock": clock}))
        return built[-1]

    quick = {"backoff_base": 0.002, "backoff_max": 0.01, "absences": 2, "absence_grace": 0.0} | pace
    patch.setattr(app, "Wire", wire)
    patch.setattr(app, "Client", lambda **given: Client(**given, hiccup=hiccup))
    pace_ = SimpleNamespace(learning=lambda memo=None, **given: Pace.learning(memo, **given | quick))
    patch.setattr(app, "Pace", pace_)
    patch.setattr(app, "calm_collector", lambda: None)


def _settings(tmp_path: Path, it: Spine, unframed: str) -> settings.Settings:
    page = tmp_path / "hell.toml"
    page.write_text(PAGE.replace("UNFRAMED", unframed))
    return settings.load(
        {
            "POLLER_REMOTES": str(page),
            "POLLER_ORDERS_DIR": str(it.folder),
            "POLLER_STORE": str(tmp_path / "orders.json"),
            "POLLER_PORT": "0",
            "POLLER_INTERVAL_MIN": "20ms",
            "POLLER_INTERVAL_MAX": "20ms",
            "POLLER_ATTEMPTS": str(ATTEMPTS),
            "HELL_URL": it.server.base,
            "HELL_OTHER_URL": it.other.base,
            "HELL_SECRET": SECRET,
        }
    )


@contextmanager
def _logged(stream: io.StringIO, redact: Redactor) -> Iterator[None]:
    """Log as the command does."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log.configure("json", stream, redact)
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()


async def _note(it: Spine, watch: Watch) -> None:
    """Note what the hook shows; see that no cookie and no credential went where it must not."""
    for task_id, order in (await it.shop.orders()).items():
        watch.said.append(("the hook", repr(order)))
        watch.said.append(("a history", repr(await it.events(task_id))))
    for seen in (*it.server.seen, *it.other.seen):
        assert seen.header("cookie") is None
    assert not any(seen.header("authorization") for seen in it.other.seen)
