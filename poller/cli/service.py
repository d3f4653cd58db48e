"""``poller run``: the service."""

import asyncio
import os
import sys

import click
import structlog

from poller import app, log, settings
from poller.redact import Redactor


@click.command()
@click.pass_context
def run(ctx: click.Context) -> None:
    """Run the service until it is stopped.

    SIGTERM or SIGINT lets it finish what is under way; a second one interrupts that.
    """
    chosen = settings.load(os.environ, settings.locate(os.environ, ctx.obj))
    redact = Redactor(chosen.secrets)
    log.configure(chosen.log_format, sys.stdout, redact)
    for warning in chosen.warnings:
        structlog.get_logger("poller").warning("doubtful_setting", reason=warning)
    ctx.exit(asyncio.run(app.serve(chosen, redact)))
