"""A process that adds, changes and forgets orders until it is killed, and tells what was acknowledged.

Run as ``python -m tests.adder PATH FIRST [ROUNDS]``: without ROUNDS it closes the store now and then
and opens it again. A line ``add N``, ``done N`` or ``gone N`` on standard
output says that it had happened to order N, durably, before the line was written; ``open N`` and
``closed N`` say that the store was opened by process N, and closed after so many orders.
"""

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from poller.event import Event
from poller.order import State
from poller.stores.tinydb import TinyStore
from tests.stores import an_order

FORGOTTEN = 8
"""Every order whose number divides by this is forgotten when it is done."""


def tell(word: str, number: int) -> None:
    """Write one line, at once."""
    os.write(1, f"{word} {number}\n".encode())


async def live(store: TinyStore, number: int) -> None:
    """Take one order, which was added together with a second one, through its life."""
    order = an_order(f"t{number}", context={"pad": "x" * (number % 700)})
    await store.add([order, an_order(f"with t{number}")])
    tell("add", number)
    for _ in range(3):
        order = replace(order, version=order.version + 1, checks=order.checks + 1)
        await store.save(order, durable=False)
    order = replace(order, version=order.version + 1, state=State.DONE, due_at=None, updated_at=number % FORGOTTEN)
    await store.save(order, Event(at=2.0, event="done"))
    tell("done", number)


async def sit(path: Path, first: int, rounds: int) -> int:
    """Open the store, take some orders through their lives, eight at a time, and close it; give the next number."""
    store = await TinyStore.open(path, now=time.time, full=10_000)
    tell("open", os.getpid())
    for number in range(first, first + 8 * rounds, 8):
        await asyncio.gather(*(live(store, number + n) for n in range(8)))
        await store.forget(before=0.5)
        tell("gone", number)
    await store.close()
    tell("closed", 8 * rounds)
    return first + 8 * rounds


async def main(path: Path, first: int, rounds: int | None = None) -> None:
    """Go on for ever."""
    chance = random.Random(first)
    while True:
        first = await sit(path, first, rounds or chance.randrange(1, 12))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
