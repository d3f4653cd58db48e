"""``poller watch``: orders as they change."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import click
from rich.live import Live

from poller import units
from poller.cli import options, views
from poller.cli.hook import Hook, Listing, ask, url_option
from poller.cli.outcome import CommandFailed, Exit, complain
from poller.cli.plain import for_people, say_json
from poller.order import Key
from poller.web.view import OrderView

Show: TypeAlias = Callable[[Listing, Sequence[OrderView]], None]
"""Takes what there is, and what of it has changed."""

_PAGE = 100
_SHORTEST = 0.1
_FRAME = 6
"""Lines of the screen that are not orders."""
_PASSING = frozenset({Exit.UNAVAILABLE, Exit.TEMPORARY})
_FRAMES = 8
"""A second, so that bars move."""


class Follower:
    """Asks the hook again and again which orders have changed.

    Args:
        hook: whom to ask.
        query: which orders are meant.
        limit: how many to ask for at a time; more are asked for while all of them have changed.
    """

    def __init__(self, hook: Hook, *, query: dict[str, Any], limit: int) -> None:
        self._hook = hook
        self._query = query
        self._limit = limit
        self._met = False
        self._seen: dict[Key, tuple[object, ...]] = {}

    async def look(self) -> tuple[Listing, list[OrderView]]:
        """Give the orders that changed last, and those of them that look otherwise than before.

        The first look gives one page: what there is, not all that ever was.
        """
        query = {**self._query, "sort": "-updated_at", "limit": str(self._limit)}
        listing = page = await self._hook.page(query)
        told = fresh = self._changed(page.orders)
        while self._met and page.next is not None and len(fresh) == len(page.orders):
            page = await self._hook.page(query, page.next)
            fresh = self._changed(page.orders)
            told = [*told, *fresh]
        self._met = True
        return listing, told

    async def unfinished(self) -> int:
        """Count the orders that have not come to rest, whichever states are shown."""
        return (await self._hook.page({**self._query, "state": ["pending", "held"], "limit": "1"})).count

    async def failed(self) -> int:
        """Count the orders that failed."""
        return (await self._hook.page({**self._query, "state": ["failed"], "limit": "1"})).count

    def _changed(self, orders: Sequence[OrderView]) -> list[OrderView]:
        changed = [order for order in orders if self._seen.get(_key(order)) != _look(order)]
        self._seen.update((_key(order), _look(order)) for order in changed)
        return changed


async def follow(
    follower: Follower,
    show: Show,
    *,
    pause: Callable[[], Awaitable[object]],
    until_rest: bool,
) -> Exit:
    """Show changes for ever, or until every order has come to rest.

    A hook that went away is waited for, and said once: a service that restarts is no reason to look away.

    Returns:
        FAILED if *until_rest* and an order failed.

    Raises:
        CommandFailed: there was no hook from the beginning, or it says no for good.
    """
    met = away = False
    while True:
        try:
            show(*await follower.look())
            met, away = True, False
            if until_rest and not await follower.unfinished():
                return Exit.FAILED if await follower.failed() else Exit.OK
        except CommandFailed as error:
            if not met or error.code not in _PASSING:
                raise
            if not away:
                complain(error)
            away = True
        await pause()


@click.command()
@options.filters
@click.option("--interval", default="1s", show_default=True, metavar="DURATION", help="How often to look.")
@click.option("--until-rest", is_flag=True, help="End when every order has come to rest; exit 1 if one failed.")
@options.as_json
@url_option
@click.pass_context
def watch(
    ctx: click.Context,
    /,
    url: str | None,
    interval: str,
    *,
    until_rest: bool,
    as_json: bool | None,
    **chosen: Any,
) -> None:
    """Watch orders change, in a table or as lines of JSON."""
    seconds = _interval(interval)
    drawing = for_people(as_json)
    console = views.console()
    limit = max(console.height - _FRAME, 1) if drawing else _PAGE
    live = Live(console=console, refresh_per_second=_FRAMES, vertical_overflow="visible") if drawing else None

    async def work(hook: Hook) -> Exit:
        follower = Follower(hook, query=options.query(**chosen), limit=limit)
        show = _drawn(live) if live is not None else _lines
        return await follow(follower, show, pause=lambda: asyncio.sleep(seconds), until_rest=until_rest)

    try:
        with live or nullcontext():
            code = ask(ctx.obj, url, work)
    except KeyboardInterrupt:
        code = Exit.FAILED if until_rest else Exit.OK
    ctx.exit(code)


def _drawn(live: Live) -> Show:
    def show(listing: Listing, _changed: Sequence[OrderView]) -> None:
        live.update(views.orders(listing.orders, count=listing.count, now=time.time(), moving=True))

    return show


def _lines(_listing: Listing, changed: Sequence[OrderView]) -> None:
    for order in reversed(changed):
        say_json(order, indent=None)


def _interval(text: str) -> float:
    try:
        return max(units.seconds(text), _SHORTEST)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--interval") from None


def _key(order: OrderView) -> Key:
    return Key(order.remote, order.task_id)


def _look(order: OrderView) -> tuple[object, ...]:
    """Take what a person would notice of an order; a claim moves its due time and is nothing to see."""
    return (
        order.state,
        order.cause,
        order.reason,
        order.checks,
        order.attempts,
        order.progress,
        order.files,
        order.generation,
    )
