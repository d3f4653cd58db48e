"""From a page's call to the request that is sent: the address filled in, the body encoded."""

import re
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import msgspec

from poller.remote import Request
from poller.remotes import template
from poller.remotes.page import Call, Payload

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_JSON = "application/json"


def request(call: Call, *, url: str, headers: Mapping[str, str], values: Mapping[str, Any], **how: Any) -> Request:
    """Make the request of a call.

    Args:
        call: as the page has it.
        url: its address, filled in.
        headers: what every request of the page has.
        values: what names stand for.
        how: further attributes of ``Request``.
    """
    if not (headers or call.headers or call.payload or call.params):  # what most questions are
        return Request(method=call.method, url=url, headers={"Accept": _JSON}, **how)
    given = {name: template.text(text, values) for name, text in {**headers, **call.headers}.items()}
    content_type, body = _encoded(call.payload, values) if call.payload is not None else ("", None)
    typed = {"Content-Type": content_type} if content_type else {}
    named = {name: value for name, value in {"Accept": _JSON, **typed, **given}.items() if value}
    whole = _with(url, template.filled(call.params, values), listed="[]" if isinstance(call.params, str) else "")
    return Request(method=call.method, url=whole, headers=named, body=body, **how)


def absolute(address: str, base: str) -> str:
    """Put the base before an address that does without."""
    if _ABSOLUTE.match(address):
        return address
    if not address or address.startswith("?"):
        return f"{base}{address}"
    return f"{base}/{address.lstrip('/')}"


def _with(url: str, params: Any, *, listed: str) -> str:
    """Add parameters to an address's query; *listed* ends the name of a list."""
    query = urlencode(list(_nested(params, listed=listed)))
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def _nested(params: Any, prefix: str = "", *, listed: str) -> Iterator[tuple[str, str]]:
    """Write a table as a query does: a list is its name several times, a table within it is ``name[key]``.

    A table that is a value as a whole has ``name[]`` for its lists: nobody has said how each is to be written.
    """
    if isinstance(params, Mapping):
        for name, value in params.items():
            yield from _nested(value, f"{prefix}[{name}]" if prefix else str(name), listed=listed)
    elif isinstance(params, list):
        for value in params:
            yield from _nested(value, prefix + listed, listed=listed)
    elif prefix:
        yield prefix, template.written(params)


def _encoded(payload: Payload, values: Mapping[str, Any]) -> tuple[str, bytes]:
    """Encode a body; give its type, too."""
    shape = template.filled(payload.shape, values)
    match payload.kind:
        case "graphql":
            return _JSON, msgspec.json.encode({"query": payload.document, "variables": shape})
        case "form":
            return "application/x-www-form-urlencoded", urlencode(list(_pairs(shape))).encode()
        case "multipart":
            files = [name for name, value in payload.shape.items() if isinstance(value, Mapping)]
            return _multipart(shape, files)
        case _:
            return _JSON, msgspec.json.encode(shape)


def _pairs(shape: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Write a table as a form does: a list is its name several times, a table within it is JSON."""
    for name, value in shape.items():
        for each in value if isinstance(value, list) else [value]:
            yield name, template.written(each)


def _multipart(shape: Mapping[str, Any], files: Collection[str]) -> tuple[str, bytes]:
    """Encode a form with files in it (RFC 7578). A file is a table: ``filename``, ``content``, ``type``.

    Args:
        shape: filled in.
        files: names of what the page, and not a value, says is a file.
    """
    listed = ((name, value if isinstance(value, list) else [value]) for name, value in shape.items())
    parts = [_part(name, each, is_file=name in files) for name, values in listed for each in values]
    boundary = sha256(b"".join(parts)).hexdigest()[:48]
    fence = f"--{boundary}".encode()
    body = b"".join(fence + b"\r\n" + part + b"\r\n" for part in parts) + fence + b"--\r\n"
    return f"multipart/form-data; boundary={boundary}", body


def _part(name: str, value: Any, *, is_file: bool) -> bytes:
    head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if not is_file:
        return f"{head}\r\n\r\n{template.written(value)}".encode()
    filename, kind = str(value.get("filename", "file")), str(value.get("type", "application/octet-stream"))
    head += f'; filename="{_quoted(filename)}"\r\nContent-Type: {_quoted(kind)}'
    return f"{head}\r\n\r\n{template.written(value.get('content'))}".encode()


def _quoted(text: str) -> str:
    """Write a text so that it cannot end its place (WHATWG, multipart/form-data)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
