"""What is shown of orders and their histories, as JSON."""

from collections.abc import Mapping
from functools import lru_cache
from math import modf
from pathlib import Path
from typing import Any

import msgspec

from poller.event import Event
from poller.order import Order, State
from poller.outcome import Cause, File
from poller.store import History
from poller.units import iso
from poller.web.answer import Answer


class FileView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file as JSON; *path* is absolute."""

    name: str
    path: str
    size: int
    sha256: str
    media_type: str
    published_at: str


class OrderView(msgspec.Struct, frozen=True, gc=False):
    """An order as JSON. Times are ISO 8601; nulls are present."""

    remote: str
    task_id: str
    state: State
    cause: Cause | None
    reason: str | None
    created_at: str
    updated_at: str
    due_at: str | None
    deadline: str
    checks: int
    attempts: int
    progress: float | None
    files: tuple[FileView, ...]
    batch: str | None
    feed: str | None
    context: Mapping[str, Any]
    filename: str | None
    dry_run: bool
    generation: int
    version: int


class EventView(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One line of a history as JSON; what does not apply is left out."""

    at: str
    event: str
    reason: str | None = None
    cause: Cause | None = None
    status: int | None = None
    address: str | None = None
    attempt: int | None = None
    next_at: str | None = None
    report_at: str | None = None
    report: str | None = None
    files: tuple[str, ...] = ()


class View:
    """Shows orders.

    Args:
        orders_dir: the folder of finished files.
    """

    def __init__(self, orders_dir: Path) -> None:
        self._folder = orders_dir.absolute()

    def order(self, order: Order) -> OrderView:
        """Show one order."""
        return OrderView(  # by place: by name, so many fields take more than twice as long
            order.remote,
            order.task_id,
            order.state,
            order.cause,
            order.reason,
            _iso(order.created_at),
            _iso(order.updated_at),
            None if order.due_at is None else _iso(order.due_at),
            _iso(order.deadline),
            order.checks,
            order.attempts,
            order.progress,
            tuple([self._file(file) for file in order.files]) if order.files else (),
            order.batch,
            order.feed,
            order.context,
            order.filename,
            order.dry_run,
            order.generation,
            order.version,
        )

    def _file(self, file: File) -> FileView:
        return FileView(
            name=file.name,
            path=str(self._folder / file.name),
            size=file.size,
            sha256=file.sha256,
            media_type=file.media_type,
            published_at=_iso(file.published_at),
        )


def history(history: History) -> dict[str, Any]:
    """Show an order's history, oldest first."""
    return {"events": [_event(event) for event in history.events], "dropped": history.dropped}


def respond(shown: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    return Answer(_encode(shown), status=status, headers=headers)


def _event(event: Event) -> EventView:
    return EventView(
        at=_iso(event.at),
        event=event.event,
        reason=event.reason,
        cause=event.cause,
        status=event.status,
        address=event.address,
        attempt=event.attempt,
        next_at=_iso_or_none(event.next_at),
        report_at=event.report_at,
        report=event.report,
        files=event.files,
    )


_MILLIS = tuple([f".{milli:03d}Z" for milli in range(1000)])


@lru_cache(maxsize=4096)
def _iso(moment: float) -> str:
    """Write a time as ``units.iso`` does, but work out each second only once: orders share theirs."""
    fraction, whole = modf(moment)
    second, milli = divmod((int(whole) * 1_000_000 + round(fraction * 1e6)) // 1000, 1000)
    return _second(second) + _MILLIS[milli]


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return iso(second).partition(".")[0]


def _iso_or_none(moment: float | None) -> str | None:
    return None if moment is None else _iso(moment)


_encode = msgspec.json.Encoder().encode
