"""Commands about orders: add, list, show, and what the shop may do with them."""

import time
from pathlib import Path
from typing import Any

import click
from msgspec.structs import asdict

from poller.cli import options, views
from poller.cli.hook import Hook, Past, ask, url_option
from poller.cli.outcome import CommandFailed, Exit, complain
from poller.cli.plain import for_people, say, say_json
from poller.order import Key
from poller.web.view import OrderView


@click.command()
@options.task_ids
@click.option("--remote", metavar="NAME", help="The remote that has the tasks.  [default: the first configured]")
@click.option("--context", multiple=True, metavar="NAME=VALUE", callback=options.context, help="Kept with the orders.")
@click.option("--batch", metavar="NAME", help="A name for orders that belong together.")
@click.option("--dry-run", is_flag=True, help="Hold the orders until they are confirmed.")
@click.option("--deadline", metavar="WHEN", help="How long to ask: 5m, 7d, or 2026-11-21T05:00:00Z.")
@click.option("--filename", metavar="PATTERN", help="Name of the file, such as {batch}/{task_id}{ext}.")
@options.json_lines
@url_option
@click.pass_obj
def add(env_file: Path | None, /, task_ids: tuple[str, ...], url: str | None, *, as_json: bool, **given: Any) -> None:
    """Add orders for tasks, all or none.

    Adding the same again changes nothing.
    """
    fields = {name: value for name, value in given.items() if value}
    posted = [{"task_id": task_id, **fields} for task_id in task_ids]
    for order in ask(env_file, url, lambda hook: hook.add(posted)):
        _tell(order, as_json=as_json)


@click.command("list")
@options.filters
@click.option(
    "--sort", default="-created_at", show_default=True, callback=options.sort, help="Field; - for descending."
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many orders at most.")
@options.as_json
@url_option
@click.pass_obj
def list_orders(
    env_file: Path | None,
    /,
    url: str | None,
    sort: str,
    limit: int,
    *,
    as_json: bool | None,
    **chosen: Any,
) -> None:
    """List orders, the newest first."""
    query = {**options.query(**chosen), "sort": sort}
    found = ask(env_file, url, lambda hook: hook.search(query, limit))
    if for_people(as_json):
        views.draw(views.orders(found.orders, count=found.count, now=time.time()))
    else:
        say_json(found)


@click.command()
@click.argument("task_id")
@options.remote
@options.as_json
@url_option
@click.pass_obj
def show(env_file: Path | None, task_id: str, remote: str | None, url: str | None, *, as_json: bool | None) -> None:
    """Show an order, its files and its history."""

    async def read(hook: Hook) -> tuple[OrderView, Past]:
        key = await _key(hook, task_id, remote)
        return await hook.order(key), await hook.history(key)

    order, past = ask(env_file, url, read)
    if for_people(as_json):
        views.draw(views.order(order, past.events, dropped=past.dropped, now=time.time()))
    else:
        say_json({**asdict(order), **asdict(past)})


def _command(word: str, help_: str) -> click.Command:
    """Make a command that does *word* to each order; one that cannot be done does not stop the others."""

    @click.command(word, help=help_)
    @options.task_ids
    @options.remote
    @options.json_lines
    @url_option
    @click.pass_context
    def command(
        ctx: click.Context, task_ids: tuple[str, ...], remote: str | None, url: str | None, *, as_json: bool
    ) -> None:
        async def act(hook: Hook) -> Exit:
            codes = [await _act(hook, word, task_id, remote, as_json=as_json) for task_id in task_ids]
            return max(codes)

        ctx.exit(ask(ctx.obj, url, act))

    return command


retry = _command("retry", "Try failed or canceled orders again.")
cancel = _command("cancel", "Give up orders that have not come to rest.")
confirm = _command("confirm", "Release held orders.")
check = _command("check", "Ask about pending orders now.")


async def _act(hook: Hook, word: str, task_id: str, remote: str | None, *, as_json: bool) -> Exit:
    try:
        order = await hook.command(await _key(hook, task_id, remote), word)
    except CommandFailed as error:
        if error.code is not Exit.FAILED:
            raise
        complain(error)
        return Exit.FAILED
    _tell(order, as_json=as_json)
    return Exit.OK


async def _key(hook: Hook, task_id: str, remote: str | None) -> Key:
    return Key(remote, task_id) if remote else await hook.find(task_id)


def _tell(order: OrderView, *, as_json: bool) -> None:
    if as_json:
        say_json(order, indent=None)
    else:
        say(f"{order.task_id} of {order.remote} is {order.state}")
