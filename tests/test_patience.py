"""One limit on many things, in virtual time."""

import asyncio

import pytest

from poller.patience import Patience
from tests import clock


async def take(patience: Patience, seconds: float) -> float | None:
    """Take so long under a limit; tell when the limit ended it, None if it did not."""
    try:
        async with patience.limit():
            await clock.passes(seconds)
    except TimeoutError:
        return asyncio.get_running_loop().time()
    return None


def test_each_is_ended_when_its_own_time_is_over() -> None:
    """However many began before and after it, and whichever of them ended by themselves."""

    async def day() -> None:
        patience = Patience(10.0)

        async def later(after: float, takes: float) -> float | None:
            await clock.passes(after)
            return await take(patience, takes)

        ended = await asyncio.gather(*(later(after, takes) for after in (0, 0, 3, 7.5, 40) for takes in (1, 9.9, 99)))
        assert ended == [None, None, 10, None, None, 10, None, None, 13, None, None, 17.5, None, None, 50]

    clock.run(day())


def test_there_is_one_timer_at_most() -> None:
    """That is the point of it; and when nothing is under way, there is none for long."""

    async def day() -> None:
        loop = asyncio.get_running_loop()
        patience, timers = Patience(10.0), []
        call_at = loop.call_at
        loop.call_at = lambda *args, **named: timers.append(args[0]) or call_at(*args, **named)  # type: ignore[assignment]
        for _ in range(100):
            async with patience.limit():
                await asyncio.sleep(0)
        await clock.passes(30.0)
        assert timers == [10.0, 30.0]
        assert patience._ends == {}

    clock.run(day())


def test_what_others_cancel_is_cancelled() -> None:
    """The limit claims no cancellation that is not its own."""

    async def day() -> None:
        task = asyncio.create_task(take(Patience(10.0), 99.0))
        await clock.passes(5.0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    clock.run(day())


def test_an_error_within_comes_out() -> None:
    """As it is, and the limit is over with it."""

    async def day() -> None:
        patience = Patience(10.0)
        with pytest.raises(ValueError, match="mine"):
            async with patience.limit():
                raise ValueError("mine")
        await clock.passes(11.0)

    clock.run(day())
