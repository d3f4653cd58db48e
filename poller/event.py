"""What is told of an order: one line in its history and in the log for everything that happened to it."""

import msgspec
from msgspec.structs import replace

from poller.order import Order, State
from poller.outcome import (
    Absent,
    Cause,
    Crowded,
    Deferred,
    Interrupted,
    LinkExpired,
    Locked,
    NotReady,
    Outcome,
    Published,
    Refused,
    Setback,
    Stuck,
    Trouble,
    Unknown,
)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One thing that happened to an order: a line in its history and in the log.

    Attributes:
        at: epoch seconds.
        event: what happened, in one word.
        attempt: troubles in a row, this one included.
        next_at: when the order is looked at next; None once it is at rest.
        report_at: address of the remote's error report, without its query.
        report: the report's text, capped.
        files: names of the published files.
    """

    at: float
    event: str
    reason: str | None = None
    cause: Cause | None = None
    status: int | None = None
    address: str | None = None
    attempt: int | None = None
    next_at: float | None = None
    report_at: str | None = None
    report: str | None = None
    files: tuple[str, ...] = ()


QUIET = frozenset({"not_ready", "crowded"})
"""Events that happen hundreds of times and say nothing new: told, but kept in no history."""


def tell(outcome: Outcome, after: Order, now: float) -> Event:
    """Put into one event what *outcome* did to the order that is now *after*."""
    event = Event(at=now, event=_word(outcome, after), cause=after.cause, next_at=after.due_at)
    match outcome:
        case Published(files=files, conflict=conflict):
            return replace(event, files=tuple(file.name for file in files), reason=_CONFLICT if conflict else None)
        case Refused():
            event = replace(event, report_at=outcome.report_at, report=outcome.report)
        case Trouble() | LinkExpired():
            event = replace(event, attempt=after.attempts or None)
        case _:
            pass
    if isinstance(outcome, Setback):
        event = replace(event, reason=outcome.reason, status=outcome.status, address=outcome.address)
    return replace(event, reason=after.reason) if after.state is State.FAILED else event


_CONFLICT = "other bytes were there under this name already; these are kept as its next version"
_WORDS: dict[type, str] = {
    NotReady: "not_ready",
    Absent: "absent",
    LinkExpired: "link_expired",
    Trouble: "trouble",
    Unknown: "unknown_answer",
    Deferred: "deferred",
    Locked: "remote_paused",
    Stuck: "local_fault",
    Crowded: "crowded",
    Interrupted: "interrupted",
}


def _word(outcome: Outcome, after: Order) -> str:
    if after.state is State.PENDING:
        return _WORDS[type(outcome)]
    return after.state.value
