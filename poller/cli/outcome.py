"""How a command ends: its exit code, and what it says on standard error."""

from enum import IntEnum

import click

from poller.cli.plain import safe
from poller.errors import ConfigurationError, PollerError, StoreLocked, StoreUnavailable


class Exit(IntEnum):
    """Exit codes, as sysexits.h and click have them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    TEMPORARY = 75
    CONFIGURATION = 78


class CommandFailed(PollerError):  # noqa: N818 - named for what the person sees, like those of errors
    """A command could not do what it was asked.

    Attributes:
        code: what to exit with.
        details: further lines, each a pair of a place and what is wrong there.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: Exit = Exit.FAILED,
        details: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.details = details


def code_of(error: PollerError) -> Exit:
    """Choose the exit code that says what went wrong."""
    match error:
        case CommandFailed():
            return error.code
        case ConfigurationError():
            return Exit.CONFIGURATION
        case StoreLocked() | StoreUnavailable():
            return Exit.TEMPORARY
        case _:
            return Exit.FAILED


def complain(error: PollerError) -> None:
    """Say on standard error what went wrong, one problem a line, and what to do about it."""
    details = error.problems if isinstance(error, ConfigurationError) else ()
    details = error.details if isinstance(error, CommandFailed) else details
    click.echo(f"Error: {safe(str(error))}", err=True)
    for place, problem in details:
        click.echo(f"  {safe(f'{place}: {problem}' if place else problem)}", err=True)
    if error.hint:
        click.echo(f"Hint: {safe(error.hint)}", err=True)


def caution(warnings: tuple[str, ...]) -> None:
    """Say on standard error what is allowed and probably not meant."""
    for warning in warnings:
        click.echo(f"Warning: {safe(warning)}", err=True)
