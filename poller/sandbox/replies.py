"""What the sandbox says, in the words of the real one."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web


class Refusal(Exception):  # noqa: N818 - an answer, not an accident
    """Ends a request with a problem.

    Attributes:
        status: of the reply.
        title: what kind of problem it is.
        headers: that go with it.
    """

    def __init__(self, status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.headers = dict(headers or {})


def problem(refusal: Refusal) -> web.Response:
    """Say it as problem JSON; its ``status`` is a string there, as in the real one."""
    told = {
        "type": "about:blank",
        "title": refusal.title,
        "status": str(refusal.status),
        "detail": str(refusal),
        "exceptionDetails": [],
    }
    return web.Response(
        status=refusal.status,
        body=msgspec.json.encode(told),
        content_type="application/problem+json",
        headers=refusal.headers,
    )


def json(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Say it as JSON."""
    body = msgspec.json.encode(content)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
