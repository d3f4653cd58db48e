"""What is done for many at once is done for each of them, and what stands in one's way is no other's trouble."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from poller.together import Together


class Mill:
    """Doubles numbers once it is let go on; odd ones above a hundred break."""

    def __init__(self) -> None:
        self.turns: list[Sequence[int]] = []
        self.go_on = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.turns.append(list(numbers))
        self.go_on.wait(20)
        return [OSError(number) if number > 100 and number % 2 else 2 * number for number in numbers]


def together(mill: Mill, *, most: int = 64, turns: int = 1) -> Together[int, int]:
    """Gather what the mill is given."""
    return Together(mill, executor=ThreadPoolExecutor(4), most=most, turns=turns)


async def begun(*numbers: int, of: Together[int, int]) -> list[asyncio.Task[int]]:
    """Begin to have numbers doubled, one after the other."""
    tasks = [asyncio.create_task(of.do(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def test_one_alone_waits_for_nobody_and_the_others_go_together() -> None:
    """Who comes during a turn is in the next one."""
    mill = Mill()
    gathering = together(mill)
    tasks = await begun(1, 2, 3, of=gathering)
    mill.go_on.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert mill.turns == [[1], [2, 3]]


async def test_no_turn_is_too_large_and_there_are_not_too_many() -> None:
    """However many wait."""
    mill = Mill()
    gathering = together(mill, most=3, turns=2)
    tasks = await begun(*range(10), of=gathering)
    mill.go_on.set()
    assert await asyncio.gather(*tasks) == [2 * number for number in range(10)]
    assert sorted(map(len, mill.turns)) == [1, 1, 2, 3, 3]


async def test_an_error_is_its_own() -> None:
    """The others of its turn have what they came for."""
    mill = Mill()
    mill.go_on.set()
    tasks = await begun(1, 101, 2, 103, of=together(mill))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results if isinstance(result, int)] == [2, 4]
    assert [type(result) for result in results].count(OSError) == 2


async def test_a_turn_that_breaks_is_everybodys_error_and_the_next_one_goes_on() -> None:
    """A mistake of ours leaves nobody waiting."""
    calls = 0

    def breaks(numbers: Sequence[int]) -> Sequence[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        return numbers

    gathering = Together(breaks, executor=ThreadPoolExecutor(1), most=1, turns=1)
    tasks = [asyncio.create_task(gathering.do(number)) for number in (1, 2)]
    first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, ZeroDivisionError)
    assert second == 2


@pytest.mark.parametrize("which", [0, 1])
async def test_who_is_cancelled_is_no_trouble_to_the_others(which: int) -> None:
    """Before its turn or in it."""
    mill = Mill()
    tasks = await begun(1, 2, 3, of=together(mill))
    tasks[which].cancel()
    await asyncio.sleep(0)
    mill.go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(which), asyncio.CancelledError)
    assert results == [[4, 6], [2, 6]][which]


async def test_a_turn_that_no_thread_can_be_had_for_is_everybodys_error_and_the_next_one_goes_on() -> None:
    """Whether it was to begin at once or after another one; nobody is left waiting, and no turn is lost."""
    mill = Mill()
    mill.go_on.set()
    gathering = together(mill)
    real, left = gathering._executor.submit, [True, False, True]

    def submit(*args: Any) -> Any:
        if not left or left.pop(0):
            return real(*args)
        raise RuntimeError("can't start new thread")

    gathering._executor.submit = submit  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        tasks = await begun(1, 2, 3, of=gathering)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == 2
        assert [type(result) for result in results[1:]] == [RuntimeError, RuntimeError]
        left[:] = [False]
        with pytest.raises(RuntimeError):
            await gathering.do(4)
        assert await gathering.do(5) == 10
