"""How one render goes: what a person may turn, by name, in words that a query string can carry."""

import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from poller import units
from poller.sandbox import formats


class Failure(StrEnum):
    """What goes wrong, or goes another way than usual."""

    RENDER = "render"
    """The task fails: 500, with an error report."""
    GONE = "gone"
    """The check answers 410: the output is no longer available."""
    UNKNOWN = "unknown"
    """The check answers 404, as for a task that never was."""
    EXPIRED = "expired"
    """The check gives a link, and the link answers 410."""
    FLAKY = "flaky"
    """The check answers 503 with Retry-After."""
    UNAUTHORIZED = "unauthorized"
    """The check answers 401, as to a stale token."""
    TRUNCATE = "truncate"
    """The body ends half way, and the connection closes."""
    STALL = "stall"
    """The body pauses half way, for ever."""
    EMPTY = "empty"
    """The body has no bytes, and says so."""
    PAGE = "page"
    """The body is an HTML page, and says so."""
    DISGUISED = "disguised"
    """The body is an HTML page under the file's media type."""
    REDIRECT = "redirect"
    """The link redirects within its origin."""
    REDIRECT_AWAY = "redirect_away"
    """The link redirects to storage of another origin, which wants no bearer and takes none."""
    LINK_AWAY = "link_away"
    """The link itself leads to that storage."""


_PASSING = {Failure.FLAKY: 2, Failure.UNAUTHORIZED: 1}
"""Failures that pass on their own, after so many times; the others stay."""
_PENDING = (202, 204)
_HOURS = 3600.0


class Render(msgspec.Struct, frozen=True, kw_only=True):
    """How one task behaves. Durations are seconds.

    Attributes:
        delay: how long the render takes.
        size: bytes of the file.
        media_type: of the file; empty for what the start asked for.
        failure: what goes wrong; None for nothing.
        times: how often it goes wrong before it goes well; None for what suits the failure.
        pending_status: what the check answers meanwhile; the vendor's client knows 202, its tutorial 204.
        retry_after: what a 503 asks for.
        link_life: how long the file can be had once it is ready.
        rate: bytes per second of the download; None for as fast as it goes.

    Raises:
        ValueError: a value that no render can have.
    """

    delay: float = 0.0
    size: int = 100_000
    media_type: str = ""
    failure: Failure | None = None
    times: int | None = None
    pending_status: int = 204
    retry_after: float = 1.0
    link_life: float = 4 * _HOURS
    rate: float | None = None

    def __post_init__(self) -> None:
        if min(self.delay, self.size, self.retry_after, self.link_life, self.times or 0) < 0:
            raise ValueError("durations, sizes and counts are not negative")
        if self.pending_status not in _PENDING:
            raise ValueError(f"the pending status is 202 or 204, not {self.pending_status}")
        if self.rate is not None and self.rate <= 0:
            raise ValueError("a rate is more than nothing")

    @property
    def mishaps(self) -> int:
        """How often it goes wrong before it goes well."""
        if self.times is not None or self.failure is None:
            return self.times or 0
        return _PASSING.get(self.failure, sys.maxsize)


class Knob(NamedTuple):
    """One value of a render that can be set by name.

    Attributes:
        field: of Render.
        read: makes the value of its text; raises ValueError.
        why: one line for a person.
    """

    field: str
    read: Callable[[str], Any]
    why: str


def _failure(text: str) -> Failure:
    if text not in set(Failure):
        raise ValueError(f"{text!r} is none of {', '.join(Failure)}")
    return Failure(text)


def _times(text: str) -> int:
    return sys.maxsize if text == "always" else _number(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


KNOBS: Mapping[str, Knob] = {
    "delay": Knob("delay", units.seconds, "how long the render takes, such as 500ms or 2s"),
    "size": Knob("size", units.size, "how large the file is, such as 4096 or 64MB"),
    "type": Knob("media_type", formats.media_type, "pdf, jpg, png, gif, mp4, zip or a media type"),
    "failure": Knob("failure", _failure, f"what goes wrong: {', '.join(Failure)}"),
    "times": Knob("times", _times, "how often it goes wrong before it goes well: a number, or always"),
    "pending_status": Knob("pending_status", _number, "what a check answers while the render goes on: 202 or 204"),
    "retry_after": Knob("retry_after", units.seconds, "what a 503 asks for, such as 1s"),
    "link_life": Knob("link_life", units.seconds, "how long the file can be had, such as 4h"),
    "rate": Knob("rate", units.size, "bytes of the download per second, such as 100kB"),
}
"""Every knob by the name it has in a query string and on the command line."""


def tuned(render: Render, knobs: Mapping[str, str]) -> Render:
    """Set the knobs that are named; names of nothing here are left alone.

    Raises:
        ValueError: lists every value that cannot be read and every name that looks misspelt.
    """
    changes: dict[str, Any] = {}
    problems = [f"{name}: did you mean {near}?" for name in knobs if (near := _near(name))]
    for name, knob in KNOBS.items():
        try:
            changes |= {knob.field: knob.read(knobs[name])} if name in knobs else {}
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return msgspec.structs.replace(render, **changes)


def _near(name: str) -> str | None:
    """Name the knob that *name* was meant for, if it is none but looks like one."""
    return None if name in KNOBS else next(iter(get_close_matches(name, KNOBS, n=1, cutoff=0.75)), None)
