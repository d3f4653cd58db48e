"""Finish what was begun.

A thread cannot be cancelled: a coroutine that is cancelled while its thread still
writes leaves the file changing under whoever comes next. So work that must be
whole is awaited to its end first, and only then does the cancellation go on.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def finish(work: Awaitable[T]) -> T:
    """Await *work* to its end, however often we are cancelled meanwhile.

    Raises:
        asyncio.CancelledError: after *work* has ended, if we were cancelled during it.
    """
    task = asyncio.ensure_future(work)
    try:
        cancelled = await _ended(task)
        if cancelled is None:
            return task.result()
        if not task.cancelled():
            task.exception()
        raise cancelled
    finally:
        del task  # an error, its traceback, this frame and the task would keep each other


async def complete(work: Awaitable[T]) -> T:
    """Await *work* to its end and give its result even if we were cancelled meanwhile.

    For the step after which a cancellation comes too late: what was done must be recorded.
    """
    task = asyncio.ensure_future(work)
    await _ended(task)
    return task.result()


async def _ended(task: asyncio.Future[T]) -> asyncio.CancelledError | None:
    """Wait until *task* is done; give the cancellation of ours that came meanwhile, if one did."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
