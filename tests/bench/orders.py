"""Orders to measure with: about 400 bytes of JSON each, none like another."""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec.structs import replace

from poller.event import Event
from poller.order import Order, State
from poller.outcome import Cause
from poller.stores import snapshot
from poller.stores.files import Files
from poller.stores.loading import EVENTS, ORDERS
from poller.stores.pieces import About, Row

NOW = 1_800_000_000.0
"""Epoch seconds at which everything happens; what is due lies within the day after."""
DAY = 86_400.0
BATCHES = 1_000
MIXED = (State.PENDING, State.DONE, State.DONE, State.FAILED)
"""States of the orders of a shop that has been at it for some days."""

_STRANGERS = 10_000_000
"""From this number on, orders are in no store when it is built."""
_encode = msgspec.json.Encoder().encode


def pending(number: int) -> Order:
    """Make an order that waits; the *number*-th was added *number* hundredths of a second after the first."""
    chance = blake2b(b"%d" % number, digest_size=44).digest()
    created = NOW - DAY + number % _STRANGERS / 100
    return Order(
        remote="grafx",
        task_id=str(UUID(bytes=chance[:16])),
        state=State.PENDING,
        created_at=created,
        updated_at=created + 30.25,
        opened_at=created,
        deadline=NOW + 2 * DAY,
        due_at=NOW + int.from_bytes(chance[16:24]) / 2**64 * DAY,
        checks=3,
        progress=0.25,
        batch=f"summer-{number % BATCHES:04d}",
        context={"projectID": f"brochure-{number % _STRANGERS:07d}", "customer": chance[24:].hex(), "lang": "de-CH"},
        version=4,
    )


def failed(number: int) -> Order:
    """Make an order that the remote refused."""
    return _rest(pending(number), State.FAILED)


def mixed(number: int) -> Order:
    """Make an order in one of the states of ``MIXED``, by turns."""
    return _rest(pending(number), MIXED[number % len(MIXED)])


KINDS: dict[str, Callable[[int], Order]] = {"pending": pending, "failed": failed, "mixed": mixed}
"""What a store can be full of."""


def every(kind: str, count: int, *, step: int = 1) -> Iterator[Order]:
    """Make all orders of a store of *count*, or one of every *step*."""
    return map(KINDS[kind], range(1, count + 1, step))


def fresh(count: int, seed: int) -> Iterator[Order]:
    """Make orders that no store was built of; each seed gives others."""
    begin = (seed + 1) * _STRANGERS
    return map(pending, range(begin, begin + count))


def build(path: Path, kind: str, count: int) -> None:
    """Write a store of *count* orders, with one event for each that is at rest."""
    snapshot.write(path, _rows(every(kind, count)), About(), files=Files())


def _rest(order: Order, state: State) -> Order:
    if state is State.PENDING:
        return order
    cause, reason = (Cause.REFUSED, "error 4012: a font is missing") if state is State.FAILED else (None, None)
    return replace(order, state=state, due_at=None, cause=cause, reason=reason)


def _rows(kept: Iterator[Order]) -> Iterator[Row]:
    told = list[bytes]()
    yield Row(ORDERS)
    for number, order in enumerate(kept, start=1):
        yield Row(ORDERS, number, _encode(order))
        if order.state is not State.PENDING:
            told.append(_told(order))
    yield Row(EVENTS)
    for number, line in enumerate(told, start=1):
        yield Row(EVENTS, number, line)


def _told(order: Order) -> bytes:
    event = Event(at=order.updated_at, event=order.state.value, reason=order.reason, cause=order.cause)
    return _encode({**order.key._asdict(), "number": 1, **msgspec.to_builtins(event)})
