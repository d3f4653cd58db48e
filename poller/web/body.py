"""What was posted: bytes to plain values, whether they came as JSON or as a form."""

import asyncio
import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from poller.web import swift
from poller.web.problem import Refusal

CAP = 2**20
"""Bytes in one body: a thousand orders of a kilobyte each."""
SLOWEST = 30.0
"""Seconds for one body: whoever drips a mebibyte for longer only holds the connection."""

_JSON = frozenset({"", "application/json", "text/json"})
_FORM = "application/x-www-form-urlencoded"
_FLAGS = {"true": True, "false": False}
_TABLES = ("context.", "input.")


class Doubled(dict[str, Any]):
    """An object in which some names came more than once.

    Attributes:
        names: those names.
    """

    def __init__(self, pairs: Iterable[tuple[str, Any]], names: Iterable[str]) -> None:
        super().__init__(pairs)
        self.names = tuple(names)


async def read(request: web.Request, cap: int | None = None) -> Any:
    """Read the body of a request, of up to *cap* bytes, or ``CAP``.

    Raises:
        Refusal: 400 it is malformed, 408 it takes too long, 413 it is too large, 415 it is neither JSON nor a form.
    """
    kind = _kind(request.headers.get(hdrs.CONTENT_TYPE, ""), request.headers.get(hdrs.CONTENT_ENCODING))
    raw = await plain(request, cap)
    return from_form(raw) if kind == _FORM and not _looks_like_json(raw) else from_json(raw)


def from_json(raw: bytes) -> Any:
    """Read JSON (RFC 8259), and remember of every object which names it holds twice.

    Raises:
        Refusal: 400 it is malformed.
    """
    swiftly = swift.read(raw)
    return _explained(raw) if swiftly is None else swiftly


def _explained(raw: bytes) -> Any:
    if not raw.strip():
        raise Refusal(400, "the body is empty", hint='send an order such as {"task_id": "84ad"}')
    try:
        return _decode(raw.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refusal(400, f"the body is not JSON: {error.msg} ({where})") from None
    except ValueError:
        raise Refusal(400, "the body holds a number that JSON does not know, or one of thousands of digits") from None
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None


def from_form(raw: bytes) -> Any:
    """Read a form as if it were the JSON object of one order; ``context.NAME`` goes into its context.

    Raises:
        Refusal: 400 it is malformed.
    """
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise Refusal(400, "the body is not a form", hint="send name=value pairs joined by &, or JSON") from None
    order: list[tuple[str, Any]] = [
        (name, _flag(value) if name == "dry_run" else value) for name, value in pairs if not _inner(name)
    ]
    for prefix in _TABLES:
        inner = [(name.removeprefix(prefix), value) for name, value in pairs if name.startswith(prefix)]
        order += [(prefix.rstrip("."), _object(inner))] if inner else []
    return _object(order)


async def plain(request: web.Request, cap: int | None = None) -> bytes:
    """Read the bytes of a body, up to *cap* of them, or ``CAP``.

    Raises:
        Refusal: 408 it takes too long, 413 it is too large.
    """
    cap = cap or CAP
    if request.content.is_eof():
        return _capped(request.content.read_nowait(), cap)
    if (request.content_length or 0) > cap:
        raise _too_large(cap)
    try:
        async with asyncio.timeout(SLOWEST):
            return await (request if cap == CAP else request.clone(client_max_size=cap)).read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(cap) from None
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {SLOWEST:.0f} s") from None


def _capped(raw: bytes, cap: int) -> bytes:
    if len(raw) > cap:
        raise _too_large(cap)
    return raw


@lru_cache(maxsize=256)
def _kind(content_type: str, encoding: str | None) -> str:
    if encoding is not None and encoding.lower() != "identity":
        raise Refusal(415, "the body is compressed", hint="send it without Content-Encoding")
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _JSON or kind == _FORM or kind.endswith("+json"):
        return kind
    raise Refusal(415, f"a body of type {kind} is not taken", hint=f"send application/json or {_FORM}")


def _looks_like_json(raw: bytes) -> bool:
    """See through ``curl -d``, which calls everything a form."""
    return raw.lstrip()[:1] in {b"{", b"["}


def _too_large(cap: int) -> Refusal:
    hint = "send the orders in several requests" if cap == CAP else ""
    return Refusal(413, f"the body has more than {cap // 2**20} MiB", hint=hint)


def _inner(name: str) -> bool:
    return name.startswith(_TABLES)


def _flag(value: str) -> bool | str:
    return _FLAGS.get(value.lower(), value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) == len(pairs):
        return names
    times = Counter(name for name, _ in pairs)
    return Doubled(pairs, [name for name in names if times[name] > 1])


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number).decode
