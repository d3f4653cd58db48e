"""What a remote wants to hear once an order has come to rest: a workflow there may wait for our file.

It is told at least once: what is owed is kept in the store before the order is, and struck out when it was heard.
An order may be of another remote than the one that waits for its file: ``tell`` in its context names who is to hear.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from poller.envoy import Asker
from poller.errand import Heard
from poller.errors import StoreError
from poller.event import Event
from poller.order import Key, Order, State
from poller.outcome import Absent, Gone, NothingToFetch, Refused, Setback
from poller.remote import Remote
from poller.store import Store

_FIRST, _LAST = 1.0, 300.0
"""Seconds until what was not heard is said again; doubled each time, up to the second of them."""
_MOST = 1000
_GIVEN_UP = 86400.0
"""Seconds after which nobody listens any more."""
_RESTS = frozenset({State.DONE, State.FAILED, State.CANCELED})
_TELL = "tell"


class Tidings:
    """Tells one remote what became of its tasks.

    Args:
        remote: whom to tell.
        asker: carries out conversations.
        store: keeps what is owed.
        tell: is told what was heard, and what was not.
        redact: makes a text from outside fit to be said.
        now: epoch seconds.
    """

    def __init__(
        self,
        *,
        remote: Remote,
        asker: Asker,
        store: Store,
        tell: Callable[[Order, Event], None],
        redact: Callable[..., str],
        now: Callable[[], float],
    ) -> None:
        self._remote, self._asker, self._store = remote, asker, store
        self._tell, self._redact, self._now = tell, redact, now
        self._memory = f"{remote.name} tidings"
        self._owed: dict[str, float] = {}
        self._woken = asyncio.Event()
        self._log = structlog.get_logger("poller.tidings")

    def concern(self, order: Order) -> bool:
        """Tell whether the remote wants to hear of this order, as it is now."""
        meant = order.context.get(_TELL, order.remote) == self._remote.name
        return meant and order.state in _RESTS and self._remote.tells(order)

    async def owe(self, order: Order) -> None:
        """Note, before an order is saved, that the remote is to hear of it."""
        if len(self._owed) >= _MOST:
            oldest = next(iter(self._owed))
            self._log.error("tidings_dropped", remote=self._remote.name, order=oldest, most=_MOST)
            del self._owed[oldest]
        self._owed[_written(order.key)] = self._now()
        await self._remember()

    def saved(self) -> None:
        """Say what is owed; the order is saved."""
        self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Tell until stopped, and in the end nothing more."""
        await self._recall()
        wait = _FIRST
        while not stopping.is_set():
            self._woken.clear()
            wait = _FIRST if await self._tell_all() else min(2 * wait, _LAST)
            await self._rest(stopping, wait if self._owed else None)

    async def _rest(self, stopping: asyncio.Event, wait: float | None) -> None:
        """Wait until there is something new to say, or something to be said again."""
        waits = [asyncio.ensure_future(each.wait()) for each in (self._woken, stopping)]
        try:
            await asyncio.wait(waits, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _tell_all(self) -> bool:
        """Say all that is owed; tell whether nothing is left."""
        with suppress(StoreError):
            for owed in list(self._owed):
                if await self._told(owed):
                    self._owed.pop(owed, None)
                    await self._remember()
        return not self._owed

    async def _told(self, owed: str) -> bool:
        """Tell of one order; say whether that is done with."""
        order = await self._store.get(Key(*msgspec.json.decode(owed, type=tuple[str, str])))
        if order is None or order.state not in _RESTS:
            return order is None or self._now() - self._owed[owed] > _LAST  # it was not saved, and will be owed anew
        heard = await self._asker.ask(self._remote.tell(order))
        if isinstance(heard, Heard | NothingToFetch):
            self._tell(order, Event(at=self._now(), event="told_there"))
            return True
        final = isinstance(heard, Refused | Absent | Gone) or self._now() - self._owed[owed] > _GIVEN_UP
        reason = self._redact(heard.reason) if isinstance(heard, Setback) else "it did not take it"
        event = "not_told_there" if final else "told_there_later"
        self._tell(order, Event(at=self._now(), event=event, reason=reason, status=getattr(heard, "status", None)))
        return final

    async def _remember(self) -> None:
        await self._store.remember(self._memory, self._owed)

    async def _recall(self) -> None:
        with suppress(StoreError):
            owed: Any = await self._store.recall(self._memory)
            if isinstance(owed, dict):
                self._owed = {str(name): at for name, at in owed.items() if isinstance(at, int | float)} | self._owed


class Heralds:
    """All who tell remotes something: one for each that wants to hear.

    Args:
        tidings: by the remote's name.
    """

    def __init__(self, tidings: Mapping[str, Tidings]) -> None:
        self._tidings = tidings

    def of(self, order: Order) -> Tidings | None:
        """Give who is to be told of this order, as it is now; None if nobody is."""
        tidings = self._tidings.get(str(order.context.get(_TELL, order.remote)))
        return tidings if tidings is not None and tidings.concern(order) else None


def _written(key: Key) -> str:
    return msgspec.json.encode(tuple(key)).decode()
