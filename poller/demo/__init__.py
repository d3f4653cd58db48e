"""``poller demo``: a handful of orders, placed over the hook, arriving before one's eyes.

Needs no configuration and leaves nothing behind: a stand-in for CHILI GraFx and a whole
poller work in a throw-away folder. In the end every order is held against what the
stand-in has sent, byte for byte.
"""

import asyncio
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console

from poller import units
from poller.demo.board import Board, Lines, Say, Standing, board, standing, teller
from poller.demo.scenes import SCENES, Scene
from poller.demo.shop import Seen
from poller.demo.stage import Stage, stage
from poller.demo.verdict import complaints

_TICK = 0.1
"""Seconds between two looks: often enough to seem alive."""
_PATIENCE = 20.0
"""Seconds after which an order that is not at rest never will be: the scenes take about five."""


async def run(*, once: bool, console: Console, scenes: Sequence[Scene] = SCENES, patience: float = _PATIENCE) -> int:
    """Play the scenes and hold them against their scripts.

    Args:
        once: end after that, instead of serving until SIGINT or SIGTERM.
        console: where to show it; a table on a terminal, lines elsewhere.
        scenes: what to play.
        patience: seconds until an order that is not at rest is given up.

    Returns:
        The exit code: 0, or 1 if *once* and an order did not end as it should, or not in time.

    Raises:
        PollerError: the poller cannot start, or fails.
    """
    say = teller(console)
    with _stopping() as stop:
        async with stage(say) as play:
            _introduce(play, scenes, say)
            await _place(play, scenes)
            seen, elapsed = await _watch(play, board(scenes, console), stop, patience)
            if stop.is_set():
                return 1 if once else 0
            faults = await _judge(play, scenes, seen)
            _conclude(play, seen, elapsed, faults, say)
            if not once:
                await _go_on(play, seen, say, stop)
    return 1 if once and faults else 0


def _introduce(play: Stage, scenes: Sequence[Scene], say: Say) -> None:
    say(f"A stand-in for CHILI GraFx renders {len(scenes)} files. Their task IDs were posted to")
    say(f"{play.service.url}/orders. The poller asks until each file exists, fetches")
    say("and verifies it, and publishes it, once it is whole, in")
    say(f"{play.folder.orders}.")
    say("")


async def _place(play: Stage, scenes: Sequence[Scene]) -> None:
    for scene in scenes:
        play.sandbox.start(scene.render, scene.task_id)
    await play.shop.order(scene.task_id for scene in scenes)


async def _watch(
    play: Stage, shown: Board, stop: asyncio.Event, patience: float | None
) -> tuple[Mapping[str, Seen], float]:
    """Show the orders until all are at rest; give them as they then are, and how long it took.

    Args:
        play: what is watched.
        shown: where it is shown.
        stop: ends it at once.
        patience: ends it after so many seconds; with None, not even rest ends it.
    """
    began = time.monotonic()
    with shown:
        while True:
            seen = await play.shop.orders()
            elapsed = time.monotonic() - began
            shown.show(_standings(play, seen), elapsed)
            resting = patience is not None and (elapsed >= patience or all(order.at_rest for order in seen.values()))
            if resting or stop.is_set() or play.service.working.done():
                return seen, elapsed
            await _tick(stop)


def _standings(play: Stage, seen: Mapping[str, Seen]) -> Mapping[str, Standing]:
    """Say where the orders stand, in the order in which they are seen."""
    known = set(play.sandbox.task_ids)
    standings = {}
    for task_id, order in seen.items():
        sent, size = (play.sandbox.sent(task_id), play.sandbox.content(task_id).size) if task_id in known else (0, 0)
        standings[task_id] = standing(order, sent=sent, size=size)
    return standings


async def _judge(play: Stage, scenes: Sequence[Scene], seen: Mapping[str, Seen]) -> list[str]:
    """Hold every order against its script; list what is not as it should be."""
    return [
        fault
        for scene in scenes
        for fault in await asyncio.to_thread(
            complaints,
            scene,
            seen.get(scene.task_id),
            play.sandbox.content(scene.task_id),
            play.folder.orders,
        )
    ]


def _conclude(play: Stage, seen: Mapping[str, Seen], elapsed: float, faults: Sequence[str], say: Say) -> None:
    say("")
    if faults:
        say("Not every order ended as it should:")
        for fault in faults:
            say(f"  {fault}")
        play.folder.keep(say)
        return
    sizes = [file.size for order in seen.values() for file in order.files]
    files = f"{len(sizes)} files ({units.human_size(sum(sizes))})"
    say(f"All {len(seen)} orders ended as they should, in {elapsed:.1f} s: {files}")
    say("are there byte for byte as they were sent, and nothing of those that had to fail.")


async def _go_on(play: Stage, seen: Mapping[str, Seen], say: Say, stop: asyncio.Event) -> None:
    """Invite to try it, and tell what happens then."""
    orders = f"{play.service.url}/orders"
    say("")
    say("It goes on serving until Ctrl-C. Any task ID is taken now, and takes two seconds to render:")
    say("")
    say(f"  curl -d task_id=mine {orders}")
    say(f"  curl {orders}/grafx/mine")
    say(f"  curl -o mine.pdf {orders}/grafx/mine/file")
    say("")
    lines = Lines(say)
    lines.know(_standings(play, seen))
    await _watch(play, lines, stop, patience=None)


async def _tick(stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_TICK):
            await stop.wait()


@contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """Turn SIGINT and SIGTERM into an event."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
