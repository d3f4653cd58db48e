"""Where the demonstration plays: a throw-away folder, the stand-in, and a whole poller."""

import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from poller import app, log, settings
from poller.demo.board import Say
from poller.demo.shop import Shop
from poller.redact import Redactor
from poller.sandbox import Render, Sandbox

_TRIED = Render(delay=2, size=200_000, media_type="application/pdf")
"""How a task goes that the person at the terminal makes up."""


class Folder:
    """A folder that is removed in the end, unless somebody wants to look into it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="poller-demo-"))
        self.orders = self.path / "orders"
        self.log = self.path / "poller.log"
        self._kept = False

    def keep(self, say: Say) -> None:
        """Leave it, for there is something to be found out, and say where the log is."""
        self._kept = True
        say(f"The log is in {self.log}")

    def close(self) -> None:
        """Remove it, or leave it."""
        if not self._kept:
            shutil.rmtree(self.path)

    def environ(self) -> Mapping[str, str]:
        """Give the settings of a poller that works in here and is brisk about it."""
        return {
            "POLLER_PORT": "0",
            "POLLER_ORDERS_DIR": str(self.orders),
            "POLLER_STORE": str(self.path / "orders.json"),
            "POLLER_INTERVAL_MIN": "250ms",
            "POLLER_DISK_RESERVE": "0",
            "POLLER_GRACE": "500ms",
        }


class Stage:
    """What the demonstration plays with.

    Attributes:
        folder: where it works.
        sandbox: the stand-in for the remote.
        service: the poller.
        shop: who places the orders.
    """

    def __init__(self, *, folder: Folder, sandbox: Sandbox, service: app.Service, shop: Shop) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.service = service
        self.shop = shop


@asynccontextmanager
async def stage(say: Say) -> AsyncIterator[Stage]:
    """Build everything; take it down in order. A folder in which something broke is left standing, and named.

    Raises:
        PollerError: the poller cannot start, or fails.
    """
    folder, sandbox = Folder(), Sandbox(adopt=True, defaults=_TRIED)
    try:
        async with sandbox.serving() as url:
            configured = settings.load({**folder.environ(), **sandbox.settings(url)}, None)
            redact = Redactor(configured.secrets)
            with _logging_to(folder.log, redact):
                async with app.running(configured, redact) as service, aiohttp.ClientSession() as session:
                    shop = Shop(session=session, url=service.url)
                    yield Stage(folder=folder, sandbox=sandbox, service=service, shop=shop)
    except Exception:
        folder.keep(say)
        raise
    finally:
        folder.close()


@contextmanager
def _logging_to(path: Path, redact: Redactor) -> Iterator[None]:
    """Send the log to a file meanwhile, where it disturbs nobody."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    with path.open("w", encoding="utf-8") as stream:
        log.configure("json", stream, redact)
        try:
            yield
        finally:
            root.handlers[:] = before
            root.setLevel(level)
