"""Options that several commands share."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from poller.order import State
from poller.store import SORTS

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option(
    "--json/--table",
    "as_json",
    default=None,
    help="JSON, or a table for people.  [default: a table on a terminal, else JSON]",
)
json_lines = click.option("--json", "as_json", is_flag=True, help="Print each order as a line of JSON.")
remote = click.option("--remote", metavar="NAME", help="The remote that has the task.  [default: the one that has it]")
task_ids = click.argument("task_ids", metavar="TASK_ID...", nargs=-1, required=True)

_STATES = [state.value for state in State]
_FILTERS = (
    click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="In this state; repeatable."),
    click.option("--remote", metavar="NAME", help="Of this remote."),
    click.option("--batch", metavar="NAME", help="Of this batch."),
    click.option("--text", metavar="TEXT", help="With this text in the task ID, the reason or the context."),
)


def filters(function: F) -> F:
    """Add the options that choose which orders are meant."""
    for option in reversed(_FILTERS):
        function = option(function)
    return function


def query(
    *,
    states: tuple[str, ...] = (),
    remote: str | None = None,
    batch: str | None = None,
    text: str | None = None,
) -> dict[str, Any]:
    """Write those options as the hook's query parameters."""
    given: Mapping[str, Any] = {"state": list(states), "remote": remote, "batch": batch, "q": text}
    return {name: value for name, value in given.items() if value}


def sort(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    """Read ``--sort``."""
    if value.removeprefix("-") not in SORTS:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(SORTS)}, with - before it to begin at the end")
    return value


def context(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read ``--context NAME=VALUE``."""
    read: dict[str, str] = {}
    for value in values:
        name, mark, text = value.partition("=")
        if not name or not mark:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE")
        if name in read:
            raise click.BadParameter(f"{name!r} is given twice")
        read[name] = text
    return read
