"""``poller sandbox``: a remote to develop against."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import click

from poller import sandbox as stand_in
from poller import units
from poller.cli.outcome import Exit

_Function = Callable[..., Any]


def _knobs(function: _Function) -> _Function:
    """Add an option for every knob of a render."""
    for name, knob in reversed(list(stand_in.KNOBS.items())):
        function = click.option(f"--{name.replace('_', '-')}", name, metavar="VALUE", help=f"Render: {knob.why}.")(
            function
        )
    return function


def _duration(_ctx: click.Context, _option: click.Parameter, value: str) -> float:
    try:
        return units.seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=stand_in.PORT, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--environment", default="sandbox", show_default=True, help="The technical name in its addresses.")
@click.option("--client-id", default="sandbox", show_default=True, help="The client that it knows.")
@click.option("--client-secret", default="sandbox-secret", show_default=True, help="That client's pretended secret.")
@click.option("--token-life", default="1d", show_default=True, callback=_duration, help="How long its tokens are good.")
@click.option("--adopt", is_flag=True, help="Take any task ID for one that was started when first asked about.")
@_knobs
@click.pass_context
def sandbox(ctx: click.Context, /, host: str, port: int, token_life: float, **given: Any) -> None:
    """Run a stand-in for CHILI GraFx until it is stopped.

    The options of a render are defaults; the request that starts one may say otherwise.
    """
    knobs = {name: value for name in stand_in.KNOBS if (value := given.pop(name)) is not None}
    try:
        defaults = stand_in.tuned(stand_in.Render(), knobs)
        playing = stand_in.Sandbox(defaults=defaults, token_life=token_life, **given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    ctx.exit(asyncio.run(_until_stopped(stand_in.serve(sandbox=playing, host=host, port=port, say=click.echo))))


async def _until_stopped(work: Coroutine[Any, Any, None]) -> Exit:
    """Run *work* until it ends or a signal asks it to."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    return Exit.OK
