"""What a person sees on a terminal: tables and bars (rich).

Text goes in as ``Text``, never as markup, and with its control characters shown as
escapes: what a remote wrote decorates nothing and moves nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from poller import units
from poller.cli.plain import safe, to_json
from poller.order import State
from poller.settings import Provenance
from poller.web.view import EventView, OrderView

_COLORS = {
    State.HELD: "yellow",
    State.PENDING: "cyan",
    State.DONE: "green",
    State.FAILED: "red",
    State.CANCELED: "bright_black",
}
_BAR = 16
_SHORT = frozenset({"state", "remote", "progress", "changed", "size", "type", "at", "event", "from"})
"""Columns that keep to one line; the others give way."""
_MOST_LINES = 40
"""Lines of an error report that are worth a screen; all of it is in the JSON."""


def draw(view: RenderableType) -> None:
    """Print a view on standard output, in colour if that is a terminal that wants it."""
    console().print(view)


def console() -> Console:
    """Make a console that takes text for text; ``NO_COLOR`` and ``TERM`` are heeded."""
    return Console(markup=False, emoji=False, highlight=False)


def plain(text: str, style: str = "") -> Text:
    """Make a piece of text that shows what it holds and nothing else."""
    return Text(safe(text), style=style)


# --- Orders ---------------------------------------------------------------------------------


def orders(shown: Sequence[OrderView], *, count: int, now: float, moving: bool = False) -> RenderableType:
    """Draw a table of orders.

    Args:
        shown: the orders in the table.
        count: how many match in all.
        now: epoch seconds.
        moving: whether it is drawn again and again, so that a bar may pulse.
    """
    table = _table("state", "task", "remote", "progress", "changed", "what")
    for order in shown:
        table.add_row(*_row(order, now, moving=moving))
    return Group(table, plain(_counted(len(shown), count), "dim"))


def order(shown: OrderView, events: Iterable[EventView], *, dropped: int, now: float) -> RenderableType:
    """Draw one order with its files and its history."""
    parts: list[RenderableType] = [facts(_about(shown, now), _COLORS[shown.state])]
    if shown.files:
        files = _table("file", "size", "type", "sha256")
        for file in shown.files:
            files.add_row(plain(file.path), units.human_size(file.size), plain(file.media_type), file.sha256[:16] + "…")
        parts += [Text(), files]
    parts += [Text(), _history(events, dropped)]
    return Group(*parts)


def _row(shown: OrderView, now: float, *, moving: bool) -> Iterator[RenderableType]:
    yield plain(shown.state, _COLORS[shown.state])
    yield plain(shown.task_id)
    yield plain(shown.remote)
    yield _bar(shown, moving=moving)
    yield plain(_ago(shown.updated_at, now), "dim")
    yield plain(_what(shown, now))


def _bar(shown: OrderView, *, moving: bool) -> RenderableType:
    """Draw how far an order is; one whose remote does not tell pulses, if it can."""
    if shown.state is State.DONE:
        return ProgressBar(total=1, completed=1, width=_BAR)
    if shown.progress is not None:
        return ProgressBar(total=1, completed=shown.progress, width=_BAR)
    if shown.state is State.PENDING and moving:
        return ProgressBar(total=None, pulse=True, width=_BAR)
    return Text()


def _what(shown: OrderView, now: float) -> str:
    """Say in a few words what matters most about an order."""
    if shown.files:
        return ", ".join(f"{file.name} ({units.human_size(file.size)})" for file in shown.files)
    if shown.state is State.FAILED:
        return f"{shown.cause}: {shown.reason}"
    if shown.reason:
        return shown.reason
    if shown.due_at is not None:
        return f"asked {_times(shown.checks)}, again {_in(shown.due_at, now)}"
    return "waits to be confirmed" if shown.state is State.HELD else ""


def _about(shown: OrderView, now: float) -> Iterator[tuple[str, str]]:
    yield "task", shown.task_id
    yield "remote", shown.remote
    yield "state", shown.state if shown.cause is None else f"{shown.state}: {shown.cause}"
    if shown.reason:
        yield "reason", shown.reason
    yield "created", f"{shown.created_at} ({_ago(shown.created_at, now)})"
    yield "changed", f"{shown.updated_at} ({_ago(shown.updated_at, now)})"
    if shown.due_at is not None:
        yield "due", f"{shown.due_at} ({_in(shown.due_at, now)})"
    yield "deadline", shown.deadline
    yield "asked", _times(shown.checks) + (f", {shown.attempts} troubles in a row" if shown.attempts else "")
    if shown.progress is not None:
        yield "progress", f"{shown.progress:.0%}"
    for name, value in (("batch", shown.batch), ("feed", shown.feed), ("filename", shown.filename)):
        if value is not None:
            yield name, value
    for name, value in shown.context.items():
        yield f"context.{name}", value if isinstance(value, str) else to_json(value, indent=None)


def _history(events: Iterable[EventView], dropped: int) -> RenderableType:
    table = _table("at", "event", "what")
    for event in events:
        table.add_row(plain(event.at, "dim"), plain(event.event), plain(_told(event)))
        if event.report:
            table.add_row("", "", plain(_report(event.report), "dim"))
    return Group(table, plain(f"{dropped} earlier events are forgotten", "dim")) if dropped else table


def _report(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return " ⏎ ".join(lines[:_MOST_LINES] + ["…"] * (len(lines) > _MOST_LINES))


def _told(event: EventView) -> str:
    """Say in one line what is known of an event."""
    status = f"status {event.status}" if event.status is not None else ""
    attempt = f"attempt {event.attempt}" if event.attempt else ""
    next_at = f"next at {event.next_at}" if event.next_at else ""
    parts = (
        event.cause,
        event.reason,
        status,
        event.address,
        attempt,
        ", ".join(event.files),
        event.report_at,
        next_at,
    )
    return " · ".join(part for part in parts if part)


def _counted(shown: int, count: int) -> str:
    if not count:
        return "no orders"
    return f"{count} orders" if shown == count else f"{shown} of {count} orders"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _ago(moment: str, now: float) -> str:
    return f"{units.human_seconds(max(0.0, now - units.instant(moment)))} ago"


def _in(moment: str, now: float) -> str:
    wait = units.instant(moment) - now
    return f"in {units.human_seconds(wait)}" if wait > 0 else "now"


# --- Settings and remotes -------------------------------------------------------------------


def settings(provenance: Mapping[str, Provenance]) -> RenderableType:
    """Draw every setting, its value, and where it came from."""
    table = _table("setting", "value", "from")
    for seen in provenance.values():
        table.add_row(
            plain(seen.name), plain(seen.value), plain(seen.source, "dim" if seen.source == "default" else "")
        )
    return table


def facts(told: Iterable[tuple[str, str]], color: str = "") -> RenderableType:
    """Draw names and values; *color* is that of the value named ``state``."""
    table = Table.grid(padding=(0, 2))
    for name, value in told:
        table.add_row(plain(name, "dim"), plain(value, color if name == "state" else ""))
    return table


def rows(*heads: str, of: Iterable[Sequence[str]]) -> RenderableType:
    """Draw a plain table."""
    table = _table(*heads)
    for row in of:
        table.add_row(*(plain(cell) for cell in row))
    return table


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head in _SHORT)
    return table
