"""The GraFx remote bound to some address, and all that talks to it, for tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from poller import remotes
from poller.address import Origin
from poller.client import Client
from poller.governor import Governor
from poller.order import Order, State
from poller.remote import Remote
from poller.wire import Wire
from tests.hostile import Hostile, answer

SECRET = "canary-client-secret"
TOKEN = "canary-token-1"
TASKS = "/grafx/api/v1/environment/acme/output/tasks/"


def grafx(base: str = "https://acme.example", token: str | None = None) -> remotes.DeclaredRemote:
    """Bind the shipped page to *base*, and to its token endpoint."""
    values = {
        "GRAFX_ENVIRONMENT": "acme",
        "GRAFX_CLIENT_ID": "someone",
        "GRAFX_CLIENT_SECRET": SECRET,
        "GRAFX_BASE_URL": base,
        "GRAFX_TOKEN_URL": token or f"{base}/oauth/token",
    }
    return remotes.bind(remotes.find("grafx"), values)


def order(task_id: str = "T1", **more: Any) -> Order:
    """Make a pending order."""
    times = {"created_at": 0.0, "updated_at": 0.0, "opened_at": 0.0, "due_at": 0.0, "deadline": 1e9}
    return Order(**{"remote": "grafx", "task_id": task_id, "state": State.PENDING, **times, **more})


def ready(link: str | None) -> bytes:
    """Spell the body of a reply that says where the file is."""
    links = {} if link is None else {"download": link}
    return msgspec.json.encode({"data": {"taskId": "T1"}, "links": links})


def token(value: str = TOKEN, **more: Any) -> bytes:
    """Spell the body of a reply that issues a token."""
    return msgspec.json.encode({"access_token": value, "token_type": "Bearer", "expires_in": 79045, **more})


def issues(server: Hostile, *tokens: str) -> None:
    """Let the server's token endpoint issue *tokens* one after the other, the last one for ever."""
    server.on("/oauth/token", *(answer(200, token(value)) for value in tokens or (TOKEN,)))


@asynccontextmanager
async def wired(
    remote: Remote,
    *,
    origins: frozenset[Origin] = frozenset(),
    idle_timeout: float = 30.0,
    floor_rate: float = 1024.0,
    clock: Callable[[], float] = time.monotonic,
    governor: Governor | None = None,
) -> AsyncIterator[Wire]:
    """Open a wire to *remote*, and to further configured *origins*."""
    wire = Wire(
        base=remote.base,
        origins=remote.origins | origins,
        connections=100,
        idle_timeout=idle_timeout,
        floor_rate=floor_rate,
        clock=clock,
        governor=governor,
    )
    try:
        yield wire
    finally:
        await wire.close()
        await asyncio.sleep(0)  # closed transports say so in the loop's next turn


@asynccontextmanager
async def talking(
    server: Hostile,
    *,
    learned: list[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
    token: str | None = None,
    other: Hostile | None = None,
    **wiring: Any,
) -> AsyncIterator[tuple[Client, remotes.DeclaredRemote]]:
    """Open a client that talks to GraFx as *server* plays it, and retries hiccups at once; *other* may be dialled."""
    remote = grafx(server.base, token)
    origins = frozenset({Origin.of(other.base)} if other else ())
    async with wired(remote, origins=origins, clock=clock, **wiring) as wire:
        learn = (learned if learned is not None else []).append
        yield Client(remote=remote, wire=wire, learn=learn, now=now, clock=clock, hiccup=0.0), remote
