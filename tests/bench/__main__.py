"""Measures the store: ``python -m tests.bench [NAME…] [--orders N] [--json PATH]``."""

import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from tests.bench.figure import Figure
from tests.bench.machine import ROOT, commit, machine
from tests.bench.report import RESULTS, Report, table
from tests.bench.suite import SUITE, figures, figures_apart
from tests.bench.yard import Yard


class _Count(click.ParamType):
    """A number that may be written like Python's: 1_000_000."""

    name = "count"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a count", param, ctx)


@click.command(help="Measure the store; without NAMES, all of it. NAMES: " + ", ".join(SUITE) + ".")
@click.argument("names", nargs=-1, type=click.Choice(list(SUITE)), metavar="[NAMES]...")
@click.option("--orders", default=1_000_000, show_default=True, type=_Count(), help="In a large store.")
@click.option("--rounds", default=11, show_default=True, type=click.IntRange(1), help="Repetitions of a comparison.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Where to write. A whole run has a place for it.")
@click.option(
    "--folder",
    default=ROOT,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="On the disk to measure; the project's, unless given.",
)
@click.option("--here", is_flag=True, help="In this process, for a profiler, and not each in one of its own.")
def main(names: tuple[str, ...], orders: int, rounds: int, path: Path | None, folder: Path, *, here: bool) -> None:
    """Run what is asked for, and tell."""
    console, found, at = Console(width=200, soft_wrap=True), list[Figure](), time.time()
    facts = machine(folder)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as inside:
        Path(inside, ".gitignore").write_text("*\n", encoding="utf-8")
        yard = Yard(folder=Path(inside), orders=orders, rounds=rounds)
        for name in names or SUITE:
            some = (figures if here else figures_apart)(name, yard)
            console.print(table(some))
            found.extend(some)
    if path or not names:
        report = Report(commit=commit(), orders=orders, at=at, machine=facts, figures=found)
        report.write(path or RESULTS / f"{report.commit}.json")


if __name__ == "__main__":
    main()
