"""``poller demo``: what poller does, without a remote and without a shop."""

import asyncio

import click

from poller import demo as demonstration
from poller.cli import views


@click.command()
@click.option("--once", is_flag=True, help="End when every order has come to rest; exit 1 if one did not as it should.")
@click.pass_context
def demo(ctx: click.Context, *, once: bool) -> None:
    """Show a handful of orders arriving.

    Starts a stand-in for CHILI GraFx and a poller in a throw-away folder; needs no
    configuration and reads none.
    """
    ctx.exit(asyncio.run(demonstration.run(once=once, console=views.console())))
