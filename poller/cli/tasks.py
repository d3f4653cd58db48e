"""Commands about a remote's tasks: start one, find those that are there, see a batch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from poller.cli import options
from poller.cli.hook import ask, url_option
from poller.cli.plain import for_people, say, say_json
from poller.web.view import OrderView


def _input(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Read ``--input NAME=VALUE``; a value that is JSON is taken as such, any other as text; ``@FILE`` is read."""
    return {name: _value(text) for name, text in options.context(ctx, option, values).items()}


def _value(text: str) -> Any:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise click.BadParameter(f"{text[1:]} cannot be read: {error}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


given = click.option(
    "--input",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_input,
    help="What the task is done with: text, JSON, or @FILE.",
)


@click.command()
@click.argument("remote", metavar="REMOTE")
@click.argument("kind", required=False)
@given
@click.option("--context", multiple=True, metavar="NAME=VALUE", callback=options.context, help="Kept with the order.")
@click.option("--batch", metavar="NAME", help="A name for orders that belong together.")
@click.option("--dry-run", is_flag=True, help="Hold the order, and the task if it can wait, until it is confirmed.")
@click.option("--deadline", metavar="WHEN", help="How long to ask: 5m, 7d, or 2026-11-21T05:00:00Z.")
@click.option("--filename", metavar="PATTERN", help="Name of the file, such as {batch}/{task_id}{ext}.")
@options.json_lines
@url_option
@click.pass_obj
def start(
    env_file: Path | None,
    /,
    remote: str,
    kind: str | None,
    given: dict[str, Any],
    url: str | None,
    *,
    as_json: bool,
    **more: Any,
) -> None:
    """Start a task at a remote, and have its file collected.

    \b
    Example:
      poller start grafx output --input type=pdf --input projectId=P1
    """  # noqa: D301 - \b is click's
    posted = {"kind": kind, "input": given, **more}
    wanted = {name: value for name, value in posted.items() if value}
    order = ask(env_file, url, lambda hook: hook.start(remote, wanted))
    _tell(order, as_json=as_json)


@click.command()
@click.argument("remote", metavar="REMOTE")
@given
@click.option("--add", is_flag=True, help="Make orders of those that have none.")
@click.option("--batch", metavar="NAME", help="A name for the orders that are made.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 1000), help="How many tasks at most.")
@options.as_json
@url_option
@click.pass_obj
def discover(
    env_file: Path | None,
    /,
    remote: str,
    given: dict[str, Any],
    batch: str | None,
    limit: int,
    url: str | None,
    *,
    add: bool,
    as_json: bool | None,
) -> None:
    """List the tasks that a remote has, or make orders of them."""
    if batch and not add:
        raise click.UsageError("--batch names the orders that --add makes; give both")
    if add:
        posted = {"input": given, "limit": limit, **({"batch": batch} if batch else {})}
        _tell_made(ask(env_file, url, lambda hook: hook.discover(remote, posted)), as_json=as_json)
    else:
        _tell_found(ask(env_file, url, lambda hook: hook.tasks(remote, {**given, "limit": limit})), as_json=as_json)


@click.command()
@click.argument("name")
@options.as_json
@url_option
@click.pass_obj
def batch(env_file: Path | None, name: str, url: str | None, *, as_json: bool | None) -> None:
    """Show where the orders of a batch stand, as one."""
    found = ask(env_file, url, lambda hook: hook.batch(name))
    if not for_people(as_json):
        say_json(found)
        return
    counted = ", ".join(f"{count} {state}" for state, count in found["counts"].items() if count)
    say(f"{name} is {found['status']}: {counted}; {found['progress']:.0%} done")
    for entry in found["entries"]:
        say(f"  {entry['task_id']} of {entry['remote']} is {entry['state']}")


def _tell(order: OrderView, *, as_json: bool) -> None:
    if as_json:
        say_json(order, indent=None)
    else:
        say(f"{order.task_id} of {order.remote} is {order.state}")


def _tell_made(made: Mapping[str, Any], *, as_json: bool | None) -> None:
    if not for_people(as_json):
        say_json(made)
        return
    for order in made["orders"]:
        say(f"{order['task_id']} of {order['remote']} is {order['state']}")
    say(f"{len(made['orders'])} new, {made['known']} known{'' if made['complete'] else '; there are more'}")


def _tell_found(found: Mapping[str, Any], *, as_json: bool | None) -> None:
    if not for_people(as_json):
        say_json(found)
        return
    for task in found["tasks"]:
        say(f"{task['task_id']}  {task['state'] or 'no order'}")
    say(f"{len(found['tasks'])} tasks{'' if found['complete'] else '; there are more'}")
