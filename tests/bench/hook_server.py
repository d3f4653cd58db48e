"""Servers to measure the hook with, each a process of its own on one processor.

Run as ``python -m tests.bench.hook_server KIND CORE STORE``. The first line on standard output is the
port; the server ends when its standard input does.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

from aiohttp import web

from poller import app
from poller.poller import Poller
from poller.settings import load
from poller.stores.tinydb import TinyStore

Server: TypeAlias = Callable[[Path, AsyncExitStack], Awaitable[int]]
"""Serves until the stack is unwound; gives the port. The path is where its store is to be."""

_SETTINGS = {
    "GRAFX_ENVIRONMENT": "bench",
    "GRAFX_CLIENT_ID": "bench",
    "GRAFX_CLIENT_SECRET": "0123456789abcdef",
    "POLLER_PORT": "0",
    "POLLER_MAX_PENDING": "1000000000",
}
_YES = b'HTTP/1.1 202 Accepted\r\nContent-Length: 17\r\n\r\n{"accepted":true}'


async def hook(path: Path, stack: AsyncExitStack) -> int:
    """Serve the hook over a store on the disk, both as the service has them; no remote is asked."""
    settings = load({**_SETTINGS, "POLLER_STORE": str(path), "POLLER_ORDERS_DIR": str(path.with_name("orders"))})
    store = await TinyStore.open(path, now=time.time)
    stack.push_async_callback(store.close)
    app.calm_collector()
    desk = Poller(lanes=(), store=store, tell=lambda *_: None, now=time.time, grace=0.0, retention=1e9)
    url = await app._hook(settings, store, desk, stack)
    return int(url.rpartition(":")[2])


async def nothing(_: Path, stack: AsyncExitStack) -> int:
    """Serve a handler that reads JSON and says yes, on a runner set up like the hook's."""

    async def handler(request: web.Request) -> web.Response:
        await request.json()
        return web.json_response({"accepted": True}, status=202)

    application = web.Application()
    application.router.add_post("/orders", handler)
    runner = web.AppRunner(application, access_log=None, auto_decompress=False, shutdown_timeout=app._SHUTDOWN)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, reuse_address=False).start()
    app.calm_collector()
    return int(runner.addresses[0][1])


class Unheard(asyncio.Protocol):
    """Says yes to whatever comes, and reads none of it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_YES)


async def unheard(_: Path, stack: AsyncExitStack) -> int:
    """Answer without looking: what is measured is the load."""
    server = await asyncio.get_running_loop().create_server(Unheard, "127.0.0.1", 0)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


SERVERS: Mapping[str, Server] = {"hook": hook, "nothing": nothing, "unheard": unheard}


async def main(kind: str, path: Path) -> None:
    """Serve until standard input ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(0, ended.set)
    async with AsyncExitStack() as stack:
        os.write(1, b"%d\n" % await SERVERS[kind](path, stack))
        await ended.wait()
        loop.remove_reader(0)


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[2])})
    asyncio.run(main(sys.argv[1], Path(sys.argv[3])))
