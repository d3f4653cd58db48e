"""What callers do to a store. Every method tells how many seconds one change took."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

from msgspec.structs import replace

from poller.event import Event
from poller.order import Order
from poller.stores.tinydb import TinyStore
from tests.bench import orders

T = TypeVar("T")
CALLERS = 64
CLAIM = 50
"""Orders taken by one claim."""
_LATER = orders.NOW + 1e9
"""Epoch seconds at which every order is due."""


class Traffic:
    """Callers of one store.

    Args:
        kind, size: of what, and of how much of it, the store was built.
        batch: how many orders are changed at a time.
    """

    def __init__(self, store: TinyStore, *, kind: str, size: int, batch: int) -> None:
        self._store = store
        self._batch = batch
        self._known = list(orders.every(kind, size, step=max(1, size // batch)))[:batch]
        self._seeds = count()

    async def add_alone(self) -> float:
        """Add some orders, each after the one before is on disk."""
        return median(await one_by_one(self.add, list(self._fresh(CLAIM))))

    async def adds(self) -> float:
        """Add orders by 64 callers."""
        return await together(self.add, list(self._fresh(self._batch)), self._batch)

    async def stream(self) -> float:
        """Add orders by 64 callers, each of which makes its own, so that no time goes by in between."""
        return await together(self.add, self._fresh(self._batch), self._batch)

    async def saves(self) -> float:
        """Change orders, and their histories, by 64 callers."""
        return await together(self.save, self._successors(), len(self._known))

    async def soft_saves(self) -> float:
        """Change orders without waiting for the disk, but for the last."""
        *most, last = self._successors()
        began = perf_counter()
        for order in most:
            await self._store.save(order, durable=False)
        await self._store.save(last)
        return (perf_counter() - began) / (len(most) + 1)

    async def cycles(self) -> float:
        """Claim orders and put each off without waiting for the disk, again and again."""
        rounds = max(1, self._batch // CLAIM)
        began = perf_counter()
        done = sum([await self.cycle() for _ in range(rounds)])
        return (perf_counter() - began) / done

    async def add(self, order: Order) -> None:
        """Add one order."""
        await self._store.add([order])

    async def save(self, order: Order) -> None:
        """Save one order with an event."""
        await self._store.save(order, Event(at=order.updated_at, event="trouble", reason="HTTP 502", status=502))

    async def cycle(self) -> int:
        """Claim some orders that are due, put them off, and let others have a turn; tell how many."""
        claimed = await self._store.claim("grafx", limit=CLAIM, now=_LATER, until=_LATER + 60)
        for order in claimed:
            await self._store.save(_put_off(order), durable=False)
        await asyncio.sleep(0)
        return len(claimed)

    def _fresh(self, count: int) -> Iterator[Order]:
        """Make orders that the store has not."""
        return orders.fresh(count, next(self._seeds))

    def _successors(self) -> list[Order]:
        """Make the next versions of the orders that the store had first."""
        self._known = list(map(succeed, self._known))
        return self._known


def succeed(order: Order) -> Order:
    """Make an order's next version: asked once more, and due a little later."""
    return replace(order, version=order.version + 1, checks=order.checks + 1, due_at=(order.due_at or 0.0) + 60)


def _put_off(claimed: Order) -> Order:
    """Give back a claimed order, due at some time that any other may have."""
    due_at = orders.NOW + random.random() * orders.DAY
    return replace(claimed, version=claimed.version + 1, checks=claimed.checks + 1, due_at=due_at)


async def one_by_one(work: Callable[[T], Awaitable[Any]], items: Sequence[T]) -> list[float]:
    """Do work for each item, and tell how many seconds each took."""
    took = []
    for item in items:
        began = perf_counter()
        await work(item)
        took.append(perf_counter() - began)
    return took


async def together(work: Callable[[T], Awaitable[Any]], items: Iterable[T], count: int) -> float:
    """Do work for *count* items by concurrent callers, and tell how many seconds that took for one."""
    left = iter(items)
    began = perf_counter()
    await asyncio.gather(*(_caller(work, left) for _ in range(CALLERS)))
    return (perf_counter() - began) / count


async def _caller(work: Callable[[T], Awaitable[Any]], items: Iterator[T]) -> None:
    for item in items:
        await work(item)
