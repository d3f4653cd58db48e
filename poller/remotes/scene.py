"""What expressions look at, and what is read from it."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import msgspec

from poller import units
from poller.order import Order
from poller.remote import Reply
from poller.remotes.expression import Expression
from poller.remotes.page import Step
from poller.remotes.stamp import made_at

_WORD_CHARACTERS = 64
_LEVELS, _KEPT_BYTES = 16, 16 * 2**10
_DEEPEST = 8
"""Levels of lists and objects in which somebody looks for a reason."""
_FAR = 4e9
"""Epoch seconds: an ID that was made after this is none that tells its time."""
_TOLD = ("message", "detail", "description", "error", "title", "reason", "code", "err")
"""Members of an object that say what went wrong, the most telling first."""


def scene(reply: Reply, **more: Any) -> dict[str, Any]:
    """Lay out a reply for expressions, and beside it whatever *more* there is."""
    return {
        "status": reply.status,
        "headers": dict(reply.headers),
        "body": as_json(reply.body),
        "date": date(reply.headers.get("date")),
        **more,
    }


def task(order: Order) -> dict[str, Any]:
    """Lay out an order."""
    return {
        "id": order.task_id,
        "batch": order.batch,
        "context": order.context,
        "created_at": _iso(order.created_at),
        "made_at": _made_at(order.task_id),
        "made_ms": _made_ms(order.task_id),
    }


def as_json(body: bytes) -> Any:
    """Read a body; null if it is no JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def kept(keep: Mapping[str, Expression], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Compute what is to be kept, each seeing those before it; what is not there is not kept."""
    found: dict[str, Any] = {}
    known = dict(seen.get("vars") or {})
    for name, expression in keep.items():
        value = expression.of({**seen, "vars": known})
        if value is not None:
            found[name] = known[name] = value
    return found


def keepable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is too large or too deep to be kept with an order, whose document is written again and again."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if _depth(value, _LEVELS) and len(msgspec.json.encode({**found, name: value})) <= _KEPT_BYTES:
            found[name] = value
    return found


def _depth(value: Any, levels: int) -> bool:
    """Tell whether a value is no deeper than so many levels."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_depth(each, levels - 1) for each in inner)


def progress(step: Step, seen: Mapping[str, Any]) -> float | None:
    """Read how far the task is, 0 to 1."""
    value = step.progress.of(seen) if step.progress is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(1, max(0, value)))  # in this order: whole numbers may be too large for a float


def reason(expression: Expression | None, seen: Mapping[str, Any], default: str | None = None) -> str:
    """Read why something went wrong: texts, objects that hold them, or lists of both; each is said once."""
    value = expression.of(seen) if expression is not None else None
    told = [_told(each) for each in (value if isinstance(value, list) else [value])]
    return "; ".join(dict.fromkeys(filter(None, told))) or (
        f"the remote answered {seen['status']}" if default is None else default
    )


def wait(step: Step, reply: Reply, seen: Mapping[str, Any]) -> float | None:
    """Read how long the remote wants to be left alone, in seconds: as the page says, else ``Retry-After``."""
    value = step.retry_after.of(seen) if step.retry_after is not None else None
    try:
        seconds = float(value) if not isinstance(value, bool) and value is not None else -1.0
    except (TypeError, ValueError, OverflowError):
        return reply.retry_after
    return seconds if 0 <= seconds < float("inf") else reply.retry_after


def word(value: Any) -> str | None:
    """Write what a reply says so that it can be compared: in small letters, be it a text, a number, or true."""
    if isinstance(value, str):
        return value.strip().lower()
    return msgspec.json.encode(value).decode() if isinstance(value, bool | int | float) else None


def spoken(step: Step, seen: Mapping[str, Any]) -> str:
    """Say what the page's verdicts compare with words of theirs, as it is in this reply; nothing if it is not there."""
    found = {path.text: path.of(seen) for path in step.compared}
    told = [f"{name} {str(value)[:_WORD_CHARACTERS]!r}" for name, value in found.items() if _is_word(value)]
    return ", ".join(told)


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _told(value: Any, levels: int = _DEEPEST) -> str:
    if isinstance(value, Mapping) and levels:
        return next((text for name in _TOLD if (text := _told(value.get(name), levels - 1))), "")
    return value if isinstance(value, str) else ""


@lru_cache(maxsize=1024)
def _made_ms(task_id: str) -> int | None:
    moment = made_at(task_id)
    return round(moment * 1000) if moment is not None and 0 < moment < _FAR else None


_iso = lru_cache(maxsize=1024)(units.iso)


@lru_cache(maxsize=1024)
def _made_at(task_id: str) -> str | None:
    moment = made_at(task_id)
    return units.iso(moment) if moment is not None and 0 < moment < _FAR else None


@lru_cache(maxsize=16)
def date(header: str | None) -> str | None:
    """Read the remote's own clock (RFC 9110, 6.6.1); None if it does not tell."""
    try:
        read = parsedate_to_datetime(header or "")
        return units.iso((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
