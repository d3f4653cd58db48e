"""A process that adds, changes and forgets orders until it is killed, and tells what was acknowledged.

Run as ``python -m tests.adder PATH FIRST``. A line ``add N``, ``done N`` or ``gone N`` on standard
output says that it had happened to order N, durably, before the line was written.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from poller.event import Event
from poller.order import State
from poller.stores.tinydb import TinyStore
from tests.stores import an_order


def tell(word: str, number: int) -> None:
    """Write one line, at once."""
    os.write(1, f"{word} {number}\n".encode())


async def live(store: TinyStore, number: int) -> None:
    """Take one order through its life; every tenth is forgotten in the end."""
    order = an_order(f"t{number}", context={"pad": "x" * (number % 700)})
    await store.add([order])
    tell("add", number)
    for _ in range(3):
        order = replace(order, version=order.version + 1, checks=order.checks + 1)
        await store.save(order, durable=False)
    order = replace(order, version=order.version + 1, state=State.DONE, due_at=None, updated_at=float(number % 10))
    await store.save(order, Event(at=2.0, event="done"))
    tell("done", number)


async def main(path: Path, first: int) -> None:
    """Begin orders without end, eight at a time; the journal is full every few commits."""
    store = await TinyStore.open(path, now=time.time, full=20_000)
    tell("open", os.getpid())
    number = first
    while True:
        await asyncio.gather(*(live(store, number + n) for n in range(8)))
        number += 8


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
