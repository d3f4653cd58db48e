"""What a run found, as a table for people and as JSON for the next run."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from rich.table import Table

from tests.bench.figure import Figure
from tests.bench.machine import Machine

RESULTS = Path(__file__).parent / "results"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one run.

    Attributes:
        commit: which code was measured.
        orders: how many a large store held.
        at: epoch seconds.
    """

    commit: str
    orders: int
    at: float
    machine: Machine
    figures: list[Figure]

    def write(self, path: Path) -> None:
        """Write it as JSON, a line for each fact."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def read(path: Path) -> Report:
    """Read what ``write`` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def table(figures: Iterable[Figure]) -> Table:
    """Show figures to people."""
    shown = Table("figure", box=None)
    for name in ("value", "target", "met", "spread"):
        shown.add_column(name, justify="right")
    shown.add_column("of which")
    for figure in figures:
        shown.add_row(*_row(figure))
    return shown


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        figure.name,
        f"{_number(figure.value)} {figure.unit}",
        _target(figure),
        {True: "yes", False: "NO", None: ""}[figure.met],
        f"{_number(figure.low)} to {_number(figure.high)}",
        ", ".join(f"{name} {_number(value)}" for name, value in figure.detail.items()),
    )


def _target(figure: Figure) -> str:
    if figure.at_most is not None:
        return f"≤ {figure.at_most:g}"
    return "" if figure.at_least is None else f"≥ {figure.at_least:g}"


def _number(value: float) -> str:
    """Write a number with three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
