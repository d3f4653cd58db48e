"""A person at a terminal, or a script: runs our commands against a hook on a real socket."""

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from click.testing import CliRunner, Result

from poller.cli import main
from poller.errors import NotFound
from poller.event import Event
from poller.order import Key, Order, State
from poller.stores.memory import MemoryStore
from poller.web import Terms, application

NOW = 1_800_000_000.0
TOKEN = "canary-token-0123456789"
ROOT = Path(__file__).parents[1]


def run(*args: str, **environ: str) -> Result:
    """Run a command as a script would: its output is no terminal."""
    return CliRunner().invoke(main, args, env={**dict.fromkeys(_inherited()), **environ}, catch_exceptions=False)


def on_terminal(*args: str, **environ: str) -> tuple[str, int]:
    """Run a command in a process on a terminal of 40 lines and 200 columns; give all it drew, and its exit code."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in _inherited()}
    with subprocess.Popen(
        [sys.executable, "-m", "poller", *args],
        env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environ},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    ) as process:
        os.close(follower)
        drawn = b"".join(iter(lambda: _some(leader), b""))
        os.close(leader)
    return drawn.decode(), process.returncode


def make(task_id: str, *, remote: str = "grafx", **changes: Any) -> Order:
    """Make a pending order that was added a minute ago."""
    given: dict[str, Any] = {
        "state": State.PENDING,
        "created_at": NOW - 60,
        "updated_at": NOW - 60,
        "opened_at": NOW - 60,
        "deadline": NOW + 86400,
        "due_at": NOW + 5,
    }
    if changes.get("state", State.PENDING) is not State.PENDING:
        given["due_at"] = None
    return Order(remote=remote, task_id=task_id, **{**given, **changes})


class Counter:
    """A hook, the store behind it, and commands that are led to it.

    Attributes:
        url: where it listens.
        stop: has it listen no more.
    """

    def __init__(self, store: MemoryStore, token: str) -> None:
        self.store = store
        self.token = token
        self.url = ""
        self.stop: Callable[[], Awaitable[None]]
        self.draining = False
        self.paused: Mapping[str, str] = {}

    async def apply(self, key: Key, change: Callable[[Order, float], Order], word: str) -> Order:
        order = await self.store.get(key)
        if order is None:
            raise NotFound(f"there is no order {key.task_id!r} of {key.remote}")
        after = change(order, NOW)
        await self.store.save(after, Event(at=NOW, event=word))
        return after

    def scheduled(self, orders: Sequence[Order]) -> Sequence[Order]:
        return orders

    def added(self, orders: Sequence[Order]) -> None:
        pass

    @property
    def environ(self) -> dict[str, str]:
        """The settings that lead a command here."""
        return {"POLLER_PORT": self.url.rpartition(":")[2], "POLLER_TOKEN": self.token}

    async def run(self, *args: str, **environ: str) -> Result:
        """Run a command that speaks to this hook."""
        return await asyncio.to_thread(run, *args, **self.environ, **environ)

    async def on_terminal(self, *args: str, **environ: str) -> tuple[str, int]:
        """Run a command that speaks to this hook on a terminal."""
        return await asyncio.to_thread(on_terminal, *args, **self.environ, **environ)


@asynccontextmanager
async def counter(folder: Path, *, token: str = "", port: int = 0, handler: Any = None) -> AsyncIterator[Counter]:
    """Serve the real hook over a store in memory; or *handler*, whatever is asked."""
    found = Counter(MemoryStore(), token)
    given: dict[str, Any] = {
        "store": found.store,
        "desk": found,
        "remotes": {name: Terms(patience=86400.0) for name in ("grafx", "acme")},
        "orders_dir": folder,
        "token": token,
        "hosts": (),
        "origins": (),
        "max_pending": 1000,
        "now": lambda: NOW,
    }
    runner = web.ServerRunner(web.Server(handler)) if handler else web.AppRunner(application(**given))
    await runner.setup()
    found.stop = runner.cleanup
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        await runner.cleanup()


def _inherited() -> list[str]:
    return [
        name
        for name in os.environ
        if name.startswith(("POLLER_", "GRAFX_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"))
    ]


def _some(leader: int) -> bytes:
    """Read what was drawn; nothing once the last process has closed its side."""
    try:
        return os.read(leader, 65536)
    except OSError:
        return b""
