"""Where an order is found: every task ID fits into one segment of a path.

A task ID may hold slashes, percent signs, spaces, anything; percent-encoding (RFC 3986)
carries them all, but for two: clients fold the segments ``.`` and ``..`` away however
they are encoded. So their dots are encoded twice (``..`` is ``%252E%252E``), and so is
each name that would otherwise be read as one of those.
"""

import re
from urllib.parse import quote, unquote

from aiohttp import web

from poller.order import Key

_PLAIN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
"""What most task IDs are, and what stays as it is."""
_FOLDED = re.compile(r"(?:\.|%(?:25)*2E){1,2}")
"""What is encoded once more than the rest."""
_UNFOLDED = re.compile(r"(?:%(?:25)*2E){1,2}")
"""The same, once its dots are encoded."""


def location(key: Key) -> str:
    """Write the address of an order, as a path."""
    return address(key.remote, key.task_id)


def address(remote: str, task_id: str) -> str:
    """Write the address of an order that is known by its two names."""
    return f"/orders/{_segment(remote)}/{_segment(task_id)}"


def key_of(request: web.Request) -> Key:
    """Read from a request's path which order it is about."""
    return Key(_value(request.match_info["remote"]), _value(request.match_info["task_id"]))


def _segment(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if _FOLDED.fullmatch(value):
        value = quote(value, safe="").replace(".", "%2E")
    return quote(value, safe="")


def _value(segment: str) -> str:
    """Undo ``_segment``, but for the one encoding that the router has already undone."""
    return unquote(segment) if _UNFOLDED.fullmatch(segment) else segment
