"""Watches a feed: looks at its address now and then, and makes every new version an order.

What the last version was is kept in the store, after its order: a crash between the two makes it the same order again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from poller.envoy import Asker
from poller.errand import Version
from poller.errors import StoreError
from poller.order import Order, place
from poller.outcome import NothingToFetch, Setback
from poller.remote import Remote
from poller.store import Store

_SOONER = 8
"""A look that went wrong is repeated after so small a share of the usual time."""


class Watcher:
    """Watches one feed.

    Args:
        remote: whose.
        asker: carries out conversations.
        store: keeps what was seen.
        add: keeps a new order, and tells the poller of it.
        patience: seconds until the deadline of a version's order.
        now: epoch seconds.
    """

    def __init__(
        self,
        *,
        remote: Remote,
        asker: Asker,
        store: Store,
        add: Callable[[Order], Awaitable[None]],
        patience: float,
        now: Callable[[], float],
    ) -> None:
        self._remote, self._asker, self._store, self._add = remote, asker, store, add
        self._patience, self._now = patience, now
        self._every = remote.watched or 0.0
        self._memory = f"{remote.name} feed"
        self._log = structlog.get_logger("poller.watcher")

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until stopped."""
        while not stopping.is_set():
            wait = self._every if await self.look() else self._every / _SOONER
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await stopping.wait()

    async def look(self) -> bool:
        """Look once, and order a new version; tell whether all went well."""
        try:
            answer = await self._asker.ask(self._remote.look(await self._seen()))
            if isinstance(answer, Version):
                await self._add(self._order(answer))
                await self._store.remember(self._memory, answer.seen)
        except StoreError as error:
            self._log.error("version_not_kept", remote=self._remote.name, reason=str(error))
            return False
        if isinstance(answer, Setback):
            self._log.warning("look_failed", remote=self._remote.name, reason=answer.reason, status=answer.status)
        return isinstance(answer, Version | NothingToFetch)

    async def _seen(self) -> Mapping[str, str]:
        seen: Any = await self._store.recall(self._memory)
        return {name: value for name, value in seen.items() if isinstance(value, str)} if isinstance(seen, dict) else {}

    def _order(self, version: Version) -> Order:
        now, name = self._now(), self._remote.name
        kept = dict(version.seen)
        return place(name, version.task_id, now, deadline=now + self._patience, feed=name, kept=kept)
