"""The real command in a process of its own, and a shop that talks to its hook."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

AT_REST = {"done", "failed", "canceled"}


class Command:
    """``poller run`` as a child process.

    Attributes:
        url: the hook's address.
        lines: what it has logged so far, one dictionary a line.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.lines: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())
        self._news = asyncio.Event()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))
            self._news.set()
        self._news.set()

    async def logged(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a line with this event and these fields; fail if the process ends first."""
        while True:
            self._news.clear()
            for line in self.lines:
                if line["event"] == event and fields.items() <= line.items():
                    return line
            assert not self._reading.done(), f"ended without {event!r}: {self.lines[-5:]}"
            await self._news.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def end(self) -> int:
        """Wait for its end, and give its exit code."""
        code = await self.process.wait()
        await self._reading
        return code


@asynccontextmanager
async def command(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Command]:
    """Start ``poller run`` in *folder* and wait until it listens; kill it if it outlives the block."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("POLLER_", "GRAFX_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "poller",
        "run",
        cwd=folder,
        env={**inherited, "POLLER_PORT": "0", "POLLER_INTERVAL_MIN": "50ms", "POLLER_LOG_FORMAT": "json", **settings},
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    started = Command(process)
    try:
        started.url = (await started.logged("listening"))["url"]
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await started.end()


class Shop:
    """Talks to a hook as a shop's backend would."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def add(self, *task_ids: str, **fields: object) -> list[dict[str, Any]]:
        """Add orders, each the same way; they must be taken."""
        body = [{"task_id": task_id, **fields} for task_id in task_ids]
        async with self.session.post(f"{self.url}/orders", json=body) as reply:
            assert reply.status in {200, 202}, await reply.text()
            return (await reply.json())["orders"]

    async def orders(self) -> dict[str, dict[str, Any]]:
        """Read all orders, by task ID."""
        found: dict[str, dict[str, Any]] = {}
        query: dict[str, str] = {"limit": "500"}
        while True:
            async with self.session.get(f"{self.url}/orders", params=query) as reply:
                page = await reply.json()
            found |= {order["task_id"]: order for order in page["orders"]}
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]

    async def rest(self, *task_ids: str) -> dict[str, dict[str, Any]]:
        """Wait until orders have come to rest."""
        while True:
            orders = await self.orders()
            if all(orders[task_id]["state"] in AT_REST for task_id in task_ids):
                return orders
            await asyncio.sleep(0)


@asynccontextmanager
async def shop(url: str) -> AsyncIterator[Shop]:
    """Open a shop."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Shop(session, url)
