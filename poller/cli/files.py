"""``poller store``: the order store's files, whether or not a service has them open."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
from msgspec.structs import replace

from poller import settings
from poller.cli import options, views
from poller.cli.outcome import CommandFailed
from poller.cli.plain import for_people, say_json
from poller.stores.verify import Report
from poller.stores.verify import verify as verified


@click.group()
def store() -> None:
    """The order store's files."""


@store.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@options.as_json
@click.pass_obj
def verify(env_file: Path | None, path: Path | None, *, as_json: bool | None) -> None:
    """Read a whole store and tell what it holds; change nothing.

    PATH is the snapshot, orders.json; POLLER_STORE says where it is otherwise. A store in
    use can be read too. Exits with 1 if it is damaged or not there.
    """
    report = _judged(verified(path or _configured(env_file)))
    if for_people(as_json):
        views.draw(views.facts(_found(report)))
    else:
        say_json(report)
    if report.damage is not None:
        raise CommandFailed(report.damage, hint=report.hint)


def _configured(env_file: Path | None) -> Path:
    return Path(settings.some(os.environ, settings.locate(os.environ, env_file), "store")["store"])


def _judged(report: Report) -> Report:
    """Take a store that is not there for one that is lost: whoever asks about it expects it."""
    if report.damage is None and report.generation is None:
        return replace(report, damage=f"there is no store at {report.path}", hint="check the path, or POLLER_STORE")
    return report


def _found(report: Report) -> Iterator[tuple[str, str]]:
    """Say what the files hold, line by line."""
    yield "store", report.path
    if report.generation is None:
        return
    yield "snapshot", f"generation {report.generation}"
    for header in report.journals:
        yield "journal", f"generation {header.generation}, begun by process {header.pid} on {header.host}"
    for state, count in report.orders.items():
        yield state, str(count)
    if report.torn is not None:
        yield "torn tail", f"line {report.torn.line}, from byte {report.torn.offset}: the next start cuts it"
