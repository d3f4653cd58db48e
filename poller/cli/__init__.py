"""The command ``poller``.

Commands are loaded when they are called, so that ``poller --help`` answers at once and
a command pays only for what it uses. Each file here has one group of them.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

from poller import __version__
from poller.cli.outcome import code_of, complain
from poller.errors import PollerError


class Late(NamedTuple):
    """A command that is not loaded yet: where it is, and its line in the help."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "run": Late("service", "run", "Run the service until it is stopped."),
    "demo": Late("demo", "demo", "Show a handful of orders arriving."),
    "sandbox": Late("sandbox", "sandbox", "Run a stand-in for CHILI GraFx until it is stopped."),
    "add": Late("orders", "add", "Add orders for tasks, all or none."),
    "start": Late("tasks", "start", "Start a task at a remote, and have its file collected."),
    "discover": Late("tasks", "discover", "List the tasks that a remote has, or make orders of them."),
    "list": Late("orders", "list_orders", "List orders, the newest first."),
    "show": Late("orders", "show", "Show an order, its files and its history."),
    "batch": Late("tasks", "batch", "Show where the orders of a batch stand, as one."),
    "watch": Late("watch", "watch", "Watch orders change, in a table or as lines of JSON."),
    "retry": Late("orders", "retry", "Try failed or canceled orders again."),
    "cancel": Late("orders", "cancel", "Give up orders that have not come to rest."),
    "confirm": Late("orders", "confirm", "Release held orders."),
    "check": Late("orders", "check", "Ask about pending orders now."),
    "remotes": Late("catalogue", "remotes", "The remotes that can be asked."),
    "config": Late("configuration", "config", "Show the settings as they count, and where each came from."),
    "store": Late("files", "store", "The order store's files."),
}


class Root(click.Group):
    """Loads a command when it is called, and ends with the exit code that fits what went wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Keep the order of the table: a day's work, then what is rare."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command and load it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name is not None else None, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it could not do is said, not traced."""
        try:
            return super().invoke(ctx)
        except PollerError as error:
            complain(error)
            ctx.exit(code_of(error))


def load(name: str) -> click.Command:
    """Import a command."""
    late = COMMANDS[name]
    command = getattr(import_module(f"{__name__}.{late.module}"), late.function)
    assert isinstance(command, click.Command)  # noqa: S101 - holds by the table above, which a test walks through
    return command


@click.group(
    cls=Root,
    commands={name: click.Command(name, short_help=late.summary) for name, late in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="poller")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Read settings from this file too.  [default: POLLER_ENV_FILE, else .env here]",
)
@click.pass_context
def main(ctx: click.Context, env_file: Path | None) -> None:
    """Collect the files that remote systems make for a web shop.

    \b
    Examples:
      poller demo                             see it work
      poller run                              run the service
      poller add 84ad2c --batch shop-1001     have a task's file collected
      poller watch                            see orders arrive
    \b
    Exit codes: 0 ok, 1 failed, 2 usage, 69 unavailable, 75 try again later, 78 configuration.
    """  # noqa: D301 - \b is click's; its options document themselves
    ctx.obj = env_file
