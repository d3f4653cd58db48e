"""The hook of a running poller, as its commands use it."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import click
import msgspec
from yarl import URL

from poller import __version__, settings
from poller.address import Origin, bare
from poller.cli.outcome import CommandFailed, Exit
from poller.errors import ConfigurationError
from poller.order import Key
from poller.web.location import location
from poller.web.view import EventView, OrderView

T = TypeVar("T")
Query = Mapping[str, str | Sequence[str]]

MOST = 500
"""Orders that one page of a list can have."""

_PATIENCE = aiohttp.ClientTimeout(total=60, sock_connect=5)
"""The hook answers after an fsync; a minute is a disk in deep trouble."""
_START_PATIENCE = aiohttp.ClientTimeout(total=180, sock_connect=5)
"""A start is answered once the remote has: longer than the service itself waits for that."""
_CODES = {
    401: Exit.CONFIGURATION,
    403: Exit.CONFIGURATION,
    421: Exit.CONFIGURATION,
    429: Exit.TEMPORARY,
    502: Exit.UNAVAILABLE,
    503: Exit.TEMPORARY,
    504: Exit.UNAVAILABLE,
}
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to bind to, but to be reached at


class Unreachable(CommandFailed):
    """Nobody answers, or somebody who is not poller."""

    def __init__(self, message: str) -> None:
        hint = "is poller running? POLLER_HOST and POLLER_PORT, or --url, say where"
        super().__init__(message, hint=hint, code=Exit.UNAVAILABLE)


class Refused(CommandFailed):
    """The hook said no.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, problem: "Problem") -> None:
        super().__init__(
            problem.detail or problem.title or f"the hook answered {status}",
            hint=problem.hint,
            code=_CODES.get(status, Exit.FAILED),
            details=tuple((error.field, error.message) for error in problem.errors),
        )
        self.status = status


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field."""

    field: str = ""
    message: str = ""


class Problem(msgspec.Struct, frozen=True):
    """Problem details (RFC 9457) with the members that the hook adds."""

    title: str = ""
    detail: str = ""
    hint: str = ""
    errors: tuple[FieldError, ...] = ()


class Listing(msgspec.Struct, frozen=True):
    """A list of orders: one page of it, or several."""

    orders: tuple[OrderView, ...]
    next: str | None
    count: int


class Past(msgspec.Struct, frozen=True):
    """What happened to one order, oldest first."""

    events: tuple[EventView, ...]
    dropped: int


class _Added(msgspec.Struct, frozen=True):
    orders: tuple[OrderView, ...]


class Hook:
    """Speaks to a running poller.

    Args:
        session: sends the token along.
        url: the hook's address, without a slash at its end.

    Every method raises Unreachable if nobody answers, and Refused if the hook says no.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def add(self, orders: Sequence[Mapping[str, Any]]) -> tuple[OrderView, ...]:
        """Add orders, all or none; give each as it now stands."""
        if len(orders) == 1:
            return (await self._ask(OrderView, "POST", "/orders", body=orders[0]),)
        return (await self._ask(_Added, "POST", "/orders", body=orders)).orders

    async def page(self, query: Query, cursor: str | None = None) -> Listing:
        """Read one page of a list."""
        given = {**query, "cursor": cursor} if cursor else query
        return await self._ask(Listing, "GET", f"/orders?{urlencode(given, doseq=True)}" if given else "/orders")

    async def search(self, query: Query, limit: int) -> Listing:
        """Read as many pages as it takes to have *limit* orders; ``next`` tells where the last one ended."""
        orders: list[OrderView] = []
        cursor = None
        while True:
            page = await self.page({**query, "limit": str(min(limit - len(orders), MOST))}, cursor)
            orders += page.orders
            cursor = page.next
            if cursor is None or len(orders) >= limit:
                return Listing(orders=tuple(orders), next=cursor, count=page.count)

    async def order(self, key: Key) -> OrderView:
        """Read one order."""
        return await self._ask(OrderView, "GET", location(key))

    async def history(self, key: Key) -> Past:
        """Read what happened to one order."""
        return await self._ask(Past, "GET", f"{location(key)}/events")

    async def command(self, key: Key, word: str) -> OrderView:
        """Retry, cancel, confirm or check an order; give it as it now is."""
        return await self._ask(OrderView, "POST", f"{location(key)}/{word}")

    async def start(self, remote: str, wish: Mapping[str, Any]) -> OrderView:
        """Start a task; give its order."""
        path = f"/remotes/{quote(remote, safe='')}/tasks"
        try:
            return await self._ask(OrderView, "POST", path, body=wish, patience=_START_PATIENCE)
        except Unreachable as error:
            error.hint = f"nobody knows whether it was started: see poller discover {remote}; {error.hint}"
            raise

    async def tasks(self, remote: str, query: Mapping[str, Any]) -> dict[str, Any]:
        """List the tasks that a remote has."""
        return await self._ask(dict[str, Any], "GET", f"/remotes/{quote(remote, safe='')}/tasks?{urlencode(query)}")

    async def discover(self, remote: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Make orders of the tasks that a remote has."""
        return await self._ask(dict[str, Any], "POST", f"/remotes/{quote(remote, safe='')}/discover", body=wish)

    async def batch(self, name: str) -> dict[str, Any]:
        """Read where a batch stands."""
        return await self._ask(dict[str, Any], "GET", f"/batches/{quote(name, safe='')}")

    async def find(self, task_id: str) -> Key:
        """Find the remote of a task.

        Raises:
            CommandFailed: no order has this task ID, or several have it.
        """
        found = await self.search({"q": task_id, "sort": "task_id"}, limit=10**9)
        remotes = [order.remote for order in found.orders if order.task_id == task_id]
        if not remotes:
            raise CommandFailed(f"there is no order {task_id!r}")
        if len(remotes) > 1:
            raise CommandFailed(f"several remotes have an order {task_id!r}", hint=f"add --remote {remotes[0]}")
        return Key(remotes[0], task_id)

    async def _ask(
        self, shape: type[T], method: str, path: str, body: Any = None, patience: aiohttp.ClientTimeout = _PATIENCE
    ) -> T:
        data = None if body is None else msgspec.json.encode(body)
        url = URL(self._url + path, encoded=True)
        try:
            asking = self._session.request(method, url, data=data, allow_redirects=False, timeout=patience)
            async with asking as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"the hook at {bare(self._url)} cannot be reached: {_why(error)}") from None
        return self._answer(shape, response.status, content)

    def _answer(self, shape: type[T], status: int, content: bytes) -> T:
        try:
            if status >= 400:  # noqa: PLR2004 - RFC 9110: errors begin here
                raise Refused(status, msgspec.json.decode(content, type=Problem))
            return msgspec.json.decode(content, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unreachable(f"what answers at {bare(self._url)} ({status}) is not poller's hook") from None


def ask(env_file: Path | None, url: str | None, work: Callable[[Hook], Awaitable[T]]) -> T:
    """Do *work* with the hook that the settings, or *url*, point to.

    Raises:
        ConfigurationError: the settings do not say where the hook is.
    """

    async def working() -> T:
        async with connected(*address(os.environ, settings.locate(os.environ, env_file), url)) as hook:
            return await work(hook)

    return asyncio.run(working())


@asynccontextmanager
async def connected(url: str, token: str) -> AsyncIterator[Hook]:
    """Open a hook.

    Args:
        url: its address.
        token: sent with every request; empty for none.
    """
    headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": f"poller/{__version__}"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with aiohttp.ClientSession(
        headers=headers, timeout=_PATIENCE, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield Hook(session, url)


def address(environ: Mapping[str, str], env_file: Path | None, url: str | None) -> tuple[str, str]:
    """Tell where the hook is, and its token.

    Raises:
        ConfigurationError: the settings do not say where.
    """
    known = settings.some(environ, env_file, "host", "port", "token")
    if url is not None:
        return url, known["token"]
    if not known["port"]:
        hint = "the service names its port when it starts; give it with --url http://127.0.0.1:PORT"
        raise ConfigurationError("POLLER_PORT is 0, so only the service knows where it listens", hint=hint)
    host = _EVERYWHERE.get(known["host"], known["host"])
    return f"http://{f'[{host}]' if ':' in host else host}:{known['port']}", known["token"]


def _url(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Read ``--url``."""
    if value is None:
        return None
    try:
        Origin.of(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}; give one such as http://127.0.0.1:8080") from None
    if "?" in value or "#" in value:
        raise click.BadParameter("an address of a hook has neither a query nor a fragment")
    return value.rstrip("/")


url_option = click.option(
    "--url",
    callback=_url,
    metavar="URL",
    help="Where the hook is.  [default: from POLLER_HOST and POLLER_PORT]",
)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or ("it does not answer" if isinstance(error, TimeoutError) else type(error).__name__)
