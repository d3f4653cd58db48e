"""What each field of a posted order may hold.

A reader takes the value as it came and returns it as an order keeps it, or raises
ValueError with the sentence that the shop is told.
"""

import math
import re
from typing import Any

import msgspec

from poller import filename, units
from poller.web.body import Doubled
from poller.web.guess import quoted

TASK_ID_BYTES = 512
LABEL_CHARACTERS = 200
DEADLINE_CHARACTERS = 64
CONTEXT_BYTES = 16 * 2**10
"""It is written again with every change of its order, and shown in every list."""
CONTEXT_DEPTH = 16
INPUT_DEPTH = 64
LONGEST_PATIENCE = 10 * 365 * 86400.0

_NUL = b"\\u0000"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_INSTANT = re.compile(r"[-:TZ]")
_EXAMPLES = "give a duration such as 200ms, 5m or 7d, or an ISO 8601 instant such as 2026-11-21T05:00:00Z"


def task_id(value: object) -> str:
    """Read a remote's name for a task: 1 to 512 bytes of UTF-8 without control characters."""
    if not isinstance(value, str) and isinstance(value, int | float):
        raise ValueError("must be a string; put the number in quotes")  # noqa: TRY004 - readers raise ValueError
    text = _text(value)
    if not 1 <= (len(text) if text.isascii() else len(text.encode())) <= TASK_ID_BYTES:
        raise ValueError(f"must have 1 to {TASK_ID_BYTES} bytes")
    return text


def label(value: object) -> str:
    """Read a name the shop has made up: 1 to 200 characters, none of them a control character."""
    text = _text(value)
    if not 1 <= len(text) <= LABEL_CHARACTERS:
        raise ValueError(f"must have 1 to {LABEL_CHARACTERS} characters")
    return text


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004
    return value


def pattern(value: object) -> str:
    """Read a file name pattern."""
    text = _text(value)
    filename.fields(text)
    return text


def deadline(value: object) -> str:
    """Read a deadline as it was given; ``instant_of`` tells what it means."""
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str) or len(value) > DEADLINE_CHARACTERS:
        raise ValueError(_EXAMPLES)
    return value


def instant_of(text: str, now: float) -> float:
    """Tell when a deadline falls, in epoch seconds.

    Args:
        text: a duration from *now*, or an ISO 8601 instant.
        now: epoch seconds.

    Raises:
        ValueError: it is neither, or not within the next ten years.
    """
    try:
        moment = units.instant(text) if _INSTANT.search(text) else now + units.seconds(text)
    except ValueError as error:
        raise ValueError(f"{error}; {_EXAMPLES}") from None
    if not now < moment <= now + LONGEST_PATIENCE:
        raise ValueError("must lie in the future, and within ten years")
    return moment


def context(value: object) -> dict[str, Any]:
    """Read what the shop wants to find again beside the order: a JSON object of at most 16 KiB, 16 levels deep."""
    if not isinstance(value, dict):
        raise ValueError('must be an object, such as {"projectID": "…"}; in a form, write context.NAME=value')  # noqa: TRY004
    if not _is_flat(value):
        _search(value, CONTEXT_DEPTH)
    try:
        written = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    if len(written) > CONTEXT_BYTES:
        raise ValueError(f"has {len(written)} bytes as JSON; at most {CONTEXT_BYTES} are kept with an order")
    if _NUL in written:
        _search(value, CONTEXT_DEPTH)
    return value


def inputs(value: dict[str, Any]) -> dict[str, Any]:
    """Read what a task is to be done with: any JSON, ``INPUT_DEPTH`` levels deep, that can be written again."""
    _search(value, INPUT_DEPTH)
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    return value


def _is_flat(value: dict[str, Any]) -> bool:
    """Tell whether names and texts are all there is, so that only a NUL could be wrong with them."""
    return type(value) is dict and set(map(type, value.values())) <= {str}


def _search(value: object, levels: int) -> None:
    """Look through a context for what could not be kept as it is."""
    if not isinstance(value, dict | list):
        _keepable(value)
        return
    if not levels:
        raise ValueError("is nested too deeply")
    if isinstance(value, Doubled):
        raise ValueError(f"has {quoted(value.names[0])} more than once")  # noqa: TRY004
    for inner in value if isinstance(value, list) else (*value, *value.values()):
        _search(inner, levels - 1)


def _keepable(value: object) -> None:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number too large to keep")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004
    if value.isprintable():  # what control characters and halves of surrogate pairs never are
        return value
    if _CONTROL.search(value):
        raise ValueError("has a control character in it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    return value
