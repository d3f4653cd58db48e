"""The whole poller in this process between remotes that are web applications on real sockets and a real folder."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from poller import app, settings
from poller.order import Key, Order
from poller.redact import Redactor
from tests.service import Shop
from tests.spine import _logged

_LOOK = 0.005


class Workshop:
    """A poller at work.

    Attributes:
        folder: where files are published.
        service: what runs.
        url: the hook's.
    """

    def __init__(self, folder: Path, service: app.Service, session: aiohttp.ClientSession) -> None:
        self.folder, self.service = folder, service
        self.url = service.url
        self.session = session
        self.shop = Shop(session, service.url)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Ask the hook."""
        given = {"data": body} if isinstance(body, bytes) or body is None else {"json": body}
        async with self.session.request(method, self.url + path, **given, **more) as reply:
            return reply.status, await reply.json(content_type=None)

    async def post(self, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Post to the hook."""
        return await self.ask("POST", path, body, **more)

    async def get(self, path: str) -> tuple[int, Any]:
        """Read from the hook."""
        return await self.ask("GET", path)

    async def order(self, remote: str, task_id: str) -> Order:
        """Look into the store."""
        found = await self.service.store.get(Key(remote, task_id))
        assert found is not None
        return found

    async def until(self, true: Callable[[Order], object], remote: str, task_id: str) -> Order:
        """Wait until something is true of an order."""
        while not true(await self.order(remote, task_id)):
            await asyncio.sleep(_LOOK)
        return await self.order(remote, task_id)

    async def rest(self, remote: str, task_id: str) -> Order:
        """Wait until an order has come to rest."""
        return await self.until(lambda order: order.due_at is None, remote, task_id)

    async def events(self, remote: str, task_id: str) -> list[str]:
        """Read an order's history."""
        return [event.event for event in (await self.service.store.history(Key(remote, task_id))).events]

    def files(self) -> dict[str, bytes]:
        """Read what is published."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and ".partial" not in path.parts]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


@asynccontextmanager
async def serving(routes: Mapping[str, Any]) -> AsyncIterator[str]:
    """Serve a remote: a handler for each ``METHOD /path``; give its address."""
    application = web.Application()
    for route, handler in routes.items():
        method, _, path = route.partition(" ")
        application.router.add_route(method, path, handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def workshop(tmp_path: Path, remotes: str, environ: Mapping[str, str]) -> AsyncIterator[Workshop]:
    """Run a poller with these remotes; only times are shorter than an operator would have them."""
    folder = tmp_path / "orders"
    chosen = {
        "POLLER_REMOTES": remotes,
        "POLLER_ORDERS_DIR": str(folder),
        "POLLER_STORE": str(tmp_path / "orders.json"),
        "POLLER_PORT": "0",
        "POLLER_INTERVAL_MIN": "20ms",
        "POLLER_INTERVAL_MAX": "20ms",
        "POLLER_FILENAME": "{remote}-{task_id}{ext}",
        "POLLER_GRACE": "1s",
        **environ,
    }
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(app, "calm_collector", lambda: None)
        configured = settings.load(chosen)
        stack.enter_context(_logged(io.StringIO(), Redactor(configured.secrets)))  # else it would be on the terminal
        service = await stack.enter_async_context(app.running(configured))
        timeout = aiohttp.ClientTimeout(total=60)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Workshop(folder, service, session)
