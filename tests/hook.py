"""The hook on a real socket, with a desk that does to the store what the poller would."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from msgspec.structs import replace
from yarl import URL

from poller.errors import NotFound
from poller.event import Event
from poller.order import Key, Order, State
from poller.outcome import File
from poller.stores.memory import MemoryStore
from poller.web import Terms, application

NOW = 1_800_000_000.0
PATIENCE = 7 * 86400.0
REMOTES = {name: Terms(patience=PATIENCE) for name in ("grafx", "saleor")}


class Desk:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.heard: list[Order] = []
        self.words: list[str] = []
        self.draining = False
        self.paused: Mapping[str, str] = {}

    async def apply(self, key: Key, change: Callable[[Order, float], Order], word: str) -> Order:
        order = await self.store.get(key)
        if order is None:
            raise NotFound(f"there is no order {key.task_id!r} of {key.remote}")
        after = change(order, NOW + 1)
        await self.store.save(after, Event(at=NOW + 1, event=word, next_at=after.due_at))
        self.words.append(word)
        return after

    def scheduled(self, orders: Sequence[Order]) -> Sequence[Order]:
        return orders

    def added(self, orders: Sequence[Order]) -> None:
        self.heard.extend(orders)


class Hook:
    """A running hook and a client of it."""

    def __init__(
        self, runner: web.AppRunner, session: aiohttp.ClientSession, store: MemoryStore, desk: Desk, folder: Path
    ) -> None:
        self.runner = runner
        self.port: int = runner.addresses[0][1]
        self.session = session
        self.store = store
        self.desk = desk
        self.folder = folder

    def url(self, path: str) -> URL:
        return URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)

    async def ask(self, method: str, path: str, **request: Any) -> tuple[aiohttp.ClientResponse, Any]:
        """Ask, and read the answer as JSON if that is what it says it is."""
        async with self.session.request(method, self.url(path), **request) as reply:
            if reply.content_type.endswith("json"):
                return reply, await reply.json(content_type=None)
            return reply, await reply.read()

    async def get(self, path: str, **request: Any) -> tuple[aiohttp.ClientResponse, Any]:
        return await self.ask("GET", path, **request)

    async def post(self, path: str, body: Any = None, **request: Any) -> tuple[aiohttp.ClientResponse, Any]:
        """Post bytes as they are, or anything else as JSON."""
        given = {"data": body} if body is None or isinstance(body, bytes) else {"json": body}
        return await self.ask("POST", path, **given, **request)

    async def finish(
        self, key: Key, *contents: bytes, name: str = "file", media_type: str = "application/pdf"
    ) -> Order:
        """Publish files for an order, as the poller would."""
        files = tuple(self._publish(f"{name}-{n}.pdf", content, media_type) for n, content in enumerate(contents))
        order = await self.store.get(key)
        assert order is not None
        done = replace(order, state=State.DONE, due_at=None, files=files, version=order.version + 1)
        await self.store.save(done, Event(at=NOW + 5, event="done", files=tuple(file.name for file in files)))
        return done

    def _publish(self, name: str, content: bytes, media_type: str) -> File:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = sha256(content).hexdigest()
        return File(name=name, size=len(content), sha256=digest, media_type=media_type, published_at=NOW + 5.25)


@asynccontextmanager
async def hook(folder: Path, *, store: Any = None, **changed: Any) -> AsyncIterator[Hook]:
    """Run a hook; *changed* are arguments of ``application`` that are to differ."""
    store = store if store is not None else MemoryStore()
    desk = Desk(store)
    given: dict[str, Any] = {
        "store": store,
        "desk": desk,
        "remotes": REMOTES,
        "orders_dir": folder,
        "token": "",
        "hosts": (),
        "origins": (),
        "max_pending": 1000,
        "now": lambda: NOW,
    }
    # A TestServer would cancel the handler of whoever hangs up; the command does not.
    runner = web.AppRunner(application(**given | changed), access_log=None, auto_decompress=False, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Hook(runner, session, store, desk, folder)
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until *condition* holds: the server tells nobody when a connection begins or ends."""
    while not condition():
        await asyncio.sleep(0)


def fields(problem: Any) -> list[str]:
    """Name the fields that a problem finds wrong."""
    return [error["field"] for error in problem["errors"]]
