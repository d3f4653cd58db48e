"""``poller store``: the order store's files, whether or not a service has them open."""

import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import click
from msgspec.structs import replace

from poller import settings
from poller.cli import options, told, views
from poller.cli.outcome import CommandFailed, caution
from poller.cli.plain import for_people, say_json
from poller.stores.care import export as exports
from poller.stores.care.cargo import Unfit, take_over, unpack
from poller.stores.care.imports import import_ as taken_in
from poller.stores.care.inventory import take_stock
from poller.stores.care.repair import repair as repaired
from poller.stores.care.verify import Report
from poller.stores.care.verify import verify as verified
from poller.stores.survey import Names

_PIPE = Path("-")
_URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)


def _local(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and _URL.match(str(path)):
        raise click.BadParameter("give the path of a file; an address may have a password in it")
    return path


_path = click.argument("path", required=False, type=click.Path(path_type=Path), callback=_local)


@click.group()
def store() -> None:
    """The order store's files."""


@store.command()
@_path
@options.as_json
@click.pass_obj
def verify(env_file: Path | None, path: Path | None, *, as_json: bool | None) -> None:
    """Read a whole store and tell what it holds; change nothing.

    PATH is the snapshot, orders.json; POLLER_STORE says where it is otherwise. A store in
    use can be read too. Exits with 1 if it is damaged or not there.
    """
    report = _judged(verified(path or _configured(env_file)))
    if for_people(as_json):
        views.draw(views.facts(told.found(report)))
    else:
        say_json(report)
    if report.damage is not None:
        raise CommandFailed(report.damage, hint=report.hint)


@store.command()
@_path
@click.option("--dry-run", is_flag=True, help="Say what would be kept and what is lost; change nothing.")
@options.as_json
@click.pass_obj
def repair(env_file: Path | None, path: Path | None, *, dry_run: bool, as_json: bool | None) -> None:
    """Make a damaged store one that the service starts with.

    Every order that can be read is kept, and what could not be is told with its place. The
    damaged files are not removed: they get names with the time in them. PATH is the
    snapshot, orders.json; POLLER_STORE says where it is otherwise. Exits with 1 if there is
    nothing to repair, or nothing left to repair it from; with 75 while a service runs on it.
    """
    done = repaired(path or _configured(env_file), now=time.time(), dry_run=dry_run)
    if for_people(as_json):
        views.draw(views.facts(told.mended(done)))
    else:
        say_json(done)


@store.command()
@_path
@click.option(
    "--output", default=_PIPE, metavar="FILE", type=click.Path(path_type=Path), help="Write to FILE.  [default: -]"
)
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@options.as_json
@click.pass_obj
def export(env_file: Path | None, path: Path | None, output: Path, *, force: bool, as_json: bool | None) -> None:
    """Write every order with its history as a line of JSON.

    The first line says how many follow; `poller store import` reads them. PATH is the
    snapshot, orders.json; POLLER_STORE says where it is otherwise. A store in use can be
    exported too. A FILE is there whole or not at all, and only its owner can read it.
    """
    path = path or _configured(env_file)
    _demand_elsewhere(output, path)
    stock = take_stock(path)
    if output == _PIPE:
        _pour(exports.lines(stock))
        return
    try:
        exports.save(stock, output, force=force)
    except OSError as error:
        raise CommandFailed(f"{output} cannot be written: {error}") from error
    _tell({"path": str(path), "output": str(output), "orders": len(stock.orders)}, as_json=as_json)


@store.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_path
@click.option("--replace", "replacing", is_flag=True, help="Take the imported order where another is there.")
@options.as_json
@click.pass_obj
def import_(env_file: Path | None, file: Path, path: Path | None, *, replacing: bool, as_json: bool | None) -> None:
    """Put orders into a store that no service runs on, all or none.

    FILE is what `poller store export` wrote, or a TinyDB file with a table of orders; - is
    standard input. PATH is the snapshot, orders.json; POLLER_STORE says where it is
    otherwise; a store that is not there is made. Orders that are there already and equal are
    left alone; if any differs, nothing is imported, unless --replace is given.
    """
    path = path or _configured(env_file)
    try:
        cargo = unpack(sys.stdin.buffer, name="standard input") if file == _PIPE else take_over(file)
        done = taken_in(cargo, path, replace=replacing)
    except Unfit as error:
        raise CommandFailed(str(error), hint=error.hint, details=error.problems) from error
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error}") from error
    if done.torn is not None:
        caution((told.cut(done.torn),))
    if for_people(as_json):
        views.draw(views.facts(told.taken(done)))
    else:
        say_json(done)


def _pour(lines: Iterable[bytes]) -> None:
    try:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in it has nowhere to go
        raise CommandFailed(f"standard output cannot be written: {error.strerror}") from error


def _tell(facts: dict[str, str | int], *, as_json: bool | None) -> None:
    if for_people(as_json):
        views.draw(views.facts((name, str(value)) for name, value in facts.items()))
    else:
        say_json(facts)


def _demand_elsewhere(output: Path, path: Path) -> None:
    names = Names(path.resolve())
    own = (names.snapshot, names.journal, names.full, names.previous, names.lock, names.folded, *names.aside)
    if output != _PIPE and output.resolve() in own:
        raise click.BadParameter("it is one of the store's own files", param_hint="--output")


def _configured(env_file: Path | None) -> Path:
    return Path(settings.some(os.environ, settings.locate(os.environ, env_file), "store")["store"])


def _judged(report: Report) -> Report:
    """Take a store that is not there for one that is lost: whoever asks about it expects it."""
    if report.damage is None and report.generation is None:
        return replace(report, damage=f"there is no store at {report.path}", hint="check the path, or POLLER_STORE")
    return report
