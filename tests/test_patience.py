"""One limit on many things, in virtual time."""

import asyncio

import pytest

from poller.patience import Patience
from tests import clock


async def take(patience: Patience, seconds: float) -> float | None:
    """Take so long under a limit; tell when the limit ended it, None if it did not."""
    try:
        with patience.limit():
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
            with patience.limit():
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


def test_a_limit_within_a_limit_ends_only_what_is_within() -> None:
    """The inner one raises within the outer one, which goes on, and the other way round it goes through."""

    async def day() -> None:
        loop = asyncio.get_running_loop()
        for inner, outer, ended in ((5.0, 10.0, [5.0, 10.0]), (10.0, 5.0, [5.0])):
            began, seen = loop.time(), []
            try:
                with Patience(outer).limit():
                    try:
                        with Patience(inner).limit():
                            await clock.passes(99.0)
                    except TimeoutError:
                        seen.append(loop.time() - began)
                    await clock.passes(99.0)
            except TimeoutError:
                seen.append(loop.time() - began)
            assert seen == ended

    clock.run(day())


def test_both_at_once_is_a_cancellation() -> None:
    """Whoever was cancelled before the limit is noticed is not told that it was too late only."""

    async def day() -> None:
        patience = Patience(10.0)
        task = asyncio.create_task(take(patience, 99.0))
        loop = asyncio.get_running_loop()
        loop.call_later(10.0, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()

    clock.run(day())


def test_an_error_within_comes_out() -> None:
    """As it is, and the limit is over with it."""

    async def day() -> None:
        patience = Patience(10.0)
        with pytest.raises(ValueError, match="mine"), patience.limit():
            raise ValueError("mine")
        await clock.passes(11.0)

    clock.run(day())
