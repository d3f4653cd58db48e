"""The sandbox as its users hold it: scripted from outside, served on a socket."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from yarl import URL

from poller.errors import PollerError
from poller.sandbox.addresses import Addresses
from poller.sandbox.content import Content
from poller.sandbox.download import Download
from poller.sandbox.issuer import DAY, Issuer
from poller.sandbox.render import Render
from poller.sandbox.routes import Routes
from poller.sandbox.tasks import Tasks

_PATIENCE = 0.1
"""Seconds that a stop waits for the answers under way, and then again for their end."""


class Sandbox:
    """A stand-in for the output tasks of CHILI GraFx, with knobs.

    Everything it knows lives in memory and in one event loop.

    Args:
        environment: the technical name in its addresses.
        client_id: of the one integration that it knows.
        client_secret: of the same.
        defaults: how a render goes unless its start says otherwise.
        adopt: whether a task that nobody started begins when it is first asked about.
        token_life: seconds that a token is good for.
        now: the clock that renders, links and tokens age by, in seconds.
        sleep: how a slow download waits, in seconds.

    Attributes:
        requests: how often each kind was asked for: ``token``, ``start``, ``check``, ``download``,
            ``moved`` (where a link redirects to), ``storage``, ``report``; ``leaked`` counts those
            to storage that brought a bearer.
    """

    def __init__(
        self,
        *,
        environment: str = "sandbox",
        client_id: str = "sandbox",
        client_secret: str = "sandbox-secret",  # noqa: S107 - a pretended one, which the start line prints
        defaults: Render = Render(),  # noqa: B008 - frozen
        adopt: bool = False,
        token_life: float = DAY,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.requests: Counter[str] = Counter()
        self._environment = environment
        self._client = (client_id, client_secret)
        self._issuer = Issuer(client_id=client_id, client_secret=client_secret, life=token_life, now=now)
        self._tasks = Tasks(defaults=defaults, adopt=adopt, now=now)
        self._addresses = Addresses(environment=environment)
        self._download = Download(sleep=sleep)

    @property
    def output(self) -> str:
        """The path below which renders are started and checked."""
        return self._addresses.output

    def start(self, render: Render | None = None, task_id: str | None = None) -> str:
        """Start a render without a request.

        Args:
            render: how it goes; None for the defaults.
            task_id: its name; None for a new one.

        Returns:
            The task's ID.

        Raises:
            ValueError: the task is already there, or its file cannot be made.
        """
        return self._tasks.start(render or self._tasks.defaults, task_id).task_id

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The tasks that are known, in the order of their start."""
        return tuple(self._tasks)

    def content(self, task_id: str) -> Content:
        """Tell what the file of a known task holds: its type, size, digest and bytes."""
        return self._tasks[task_id].content

    def asked(self, task_id: str, kind: str) -> int:
        """Tell how often a known task was asked for *kind* (see ``requests``)."""
        return self._tasks[task_id].requests[kind]

    def sent(self, task_id: str) -> int:
        """Tell how many bytes of a known task's latest download went out."""
        return self._tasks[task_id].sent

    def expire_tokens(self) -> None:
        """Make every bearer token stale at once."""
        self._issuer.expire()

    def settings(self, url: str) -> dict[str, str]:
        """Give the settings that lead a poller here.

        Args:
            url: where the sandbox listens.
        """
        return {
            "GRAFX_ENVIRONMENT": self._environment,
            "GRAFX_CLIENT_ID": self._client[0],
            "GRAFX_CLIENT_SECRET": self._client[1],
            "GRAFX_BASE_URL": url,
            "GRAFX_TOKEN_URL": f"{url}/oauth/token",
        }

    def application(self) -> web.Application:
        """Build the application, for a server of one's own."""
        return Routes(
            issuer=self._issuer,
            tasks=self._tasks,
            addresses=self._addresses,
            download=self._download,
            requests=self.requests,
        ).application()

    @asynccontextmanager
    async def serving(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Listen until the block ends; gives the address.

        Args:
            host: a name or an IP address.
            port: 0 picks a free one.

        Raises:
            PollerError: nothing can listen there.
        """
        runner = web.AppRunner(
            self.application(),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_PATIENCE,
        )
        await runner.setup()
        try:
            await _listen(runner, host, port)
            yield str(URL.build(scheme="http", host=host, port=runner.addresses[0][1]))
        finally:
            await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port, reuse_address=port != 0).start()
    except OSError as error:
        raise PollerError(
            f"nothing can listen on {host} port {port}: {error.strerror or error}",
            hint="another program may be there; choose another port, or 0 for any that is free",
        ) from error
