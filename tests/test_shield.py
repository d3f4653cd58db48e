"""What was begun is finished: nothing that cancels the one who waits cancels the work."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from poller.shield import complete, finish

Shield = Callable[[Awaitable[str]], Awaitable[str]]


class Work:
    """Work that ends when told to, and remembers how it ended."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.ended = ""
        self.at_end: Callable[[], object] = lambda: None

    async def run(self) -> str:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"
        self.at_end()
        if self.error is not None:
            raise self.error
        return "result"


async def _cancelled(shield: Shield, work: Work, *, times: int = 1) -> asyncio.Task[str]:
    """Wait for *work* in a task that is cancelled so many times while the work goes on."""
    task = asyncio.ensure_future(shield(work.run()))
    await work.begun.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done(), "it did not wait for its work"
    work.go.set()
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("shield", [finish, complete])
async def test_undisturbed_work_gives_its_result(shield: Shield) -> None:
    """Without a cancellation a shield is a plain await, of a coroutine, a task or a future."""
    work = Work()
    work.go.set()
    assert await shield(work.run()) == "result"
    future = asyncio.get_running_loop().create_future()
    future.set_result("known")
    assert await shield(future) == "known"
    assert await shield(asyncio.ensure_future(work.run())) == "result"


@pytest.mark.parametrize("shield", [finish, complete])
async def test_undisturbed_failure_is_raised(shield: Shield) -> None:
    """A failure is the waiter's to hear, as it was raised."""
    work = Work(OSError("disk full"))
    work.go.set()
    with pytest.raises(OSError, match="disk full"):
        await shield(work.run())


@pytest.mark.parametrize("times", [1, 2, 7])
async def test_finish_goes_on_being_cancelled_only_after_the_work(times: int) -> None:
    """However often the waiter is cancelled, the work comes to its end first."""
    work = Work()
    task = await _cancelled(finish, work, times=times)
    assert work.ended == "done"
    assert task.cancelled()


@pytest.mark.parametrize("times", [1, 2, 7])
async def test_complete_gives_the_result_in_spite_of_cancellations(times: int) -> None:
    """Where a cancellation comes too late, what was done is still reported."""
    work = Work()
    task = await _cancelled(complete, work, times=times)
    assert work.ended == "done"
    assert task.result() == "result"


async def test_a_failure_after_a_cancellation_is_heard_by_nobody_but_no_noise() -> None:
    """The cancellation goes on; the failure neither replaces it nor is reported as lost."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    task = await _cancelled(finish, Work(OSError("disk full")), times=2)
    assert task.cancelled()
    del task
    gc.collect()  # what nobody has heard is reported when it is thrown away
    assert reported == []


async def test_complete_raises_a_failure_in_spite_of_cancellations() -> None:
    """Work that was to be recorded and failed says so."""
    task = await _cancelled(complete, Work(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        task.result()


@pytest.mark.parametrize("shield", [finish, complete])
async def test_work_that_is_cancelled_from_inside_ends_the_wait(shield: Shield) -> None:
    """When the work itself is cancelled there is nothing to wait for, and its waiter hears of it."""
    work = Work()
    inner = asyncio.ensure_future(work.run())
    task = asyncio.ensure_future(shield(inner))
    await work.begun.wait()
    inner.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert work.ended == "cancelled"


@pytest.mark.parametrize("shield", [finish, complete])
async def test_work_and_waiter_may_be_cancelled_both(shield: Shield) -> None:
    """A waiter that is cancelled while its work is cancelled from inside ends, too, and cancelled."""
    work = Work()
    inner = asyncio.ensure_future(work.run())
    task = asyncio.ensure_future(shield(inner))
    await work.begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    inner.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancellation_that_comes_with_the_end_is_not_lost() -> None:
    """Cancelled in the very moment in which the work ends, the waiter is cancelled, and the work whole."""
    work = Work()
    task = asyncio.ensure_future(finish(work.run()))
    await work.begun.wait()
    work.at_end = task.cancel
    work.go.set()
    await asyncio.wait([task])
    assert (task.cancelled(), work.ended) == (True, "done")


async def test_a_waiter_cancelled_before_it_began_still_finishes_its_work() -> None:
    """A cancellation that is pending when the wait begins waits for the work like any other."""
    work = Work()
    work.go.set()

    async def waiter() -> str:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        return await finish(work.run())

    task = asyncio.ensure_future(waiter())
    await asyncio.wait([task])
    assert task.cancelled()
    assert work.ended == "done"


async def test_a_thread_has_ended_before_its_waiter_goes_on() -> None:
    """The reason for it all: a thread cannot be cancelled, so nobody goes on before it has stopped."""
    loop = asyncio.get_running_loop()
    begun, go, written = asyncio.Event(), asyncio.Event(), []

    def write() -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
        written.append("whole")

    task = asyncio.ensure_future(finish(asyncio.to_thread(write)))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert written == []
    go.set()
    await asyncio.wait([task])
    assert (task.cancelled(), written) == (True, ["whole"])


async def test_a_timeout_waits_for_the_work_and_then_counts() -> None:
    """A time limit over a shield is kept late rather than in the middle of the work."""
    work = Work()

    async def limited() -> None:
        async with asyncio.timeout(0):
            await finish(work.run())

    task = asyncio.ensure_future(limited())
    for _ in range(9):
        await asyncio.sleep(0)
    assert (task.cancelling(), task.done()) == (1, False)
    work.go.set()
    await asyncio.wait([task])
    assert isinstance(task.exception(), TimeoutError)
    assert work.ended == "done"
