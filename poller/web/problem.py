"""How the hook says no: problem details (RFC 9457), made in one place from whatever was raised."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
import structlog
from aiohttp import hdrs, web

from poller.errand import Misfit
from poller.errors import Busy, Conflict, Declined, NotFound, PollerError, Stale, Stopping, StoreUnavailable, Unreached

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger("poller.web")

_RETRY_SOON = {"Retry-After": "1"}
_RETRY_LATER = {"Retry-After": "5"}
"""A store that failed is reopened within seconds or by a person."""
_RETRY_THEN = {"Retry-After": "30"}
"""Tasks take seconds to minutes."""


class Fault(NamedTuple):
    """One thing that is wrong with a request.

    Attributes:
        field: where, as ``task_id`` or ``[3].task_id``; empty for the whole.
        message: what is wrong with it, and what would be right.
    """

    field: str
    message: str


class Refusal(Exception):  # noqa: N818 - it is an answer, not an accident
    """Ends a request with a problem.

    Args:
        status: HTTP status.
        detail: what happened, in one sentence.
        hint: what to do about it.
        faults: everything that is wrong, if it can be named.
        headers: what the answer carries besides.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        hint: str = "",
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.faults = faults
        self.headers = headers or {}

    def answer(self) -> web.Response:
        """Write it as ``application/problem+json``."""
        said: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": _sayable(self.detail),
        }
        if self.hint:
            said["hint"] = _sayable(self.hint)
        if self.faults:
            said["errors"] = [{"field": _sayable(f.field), "message": _sayable(f.message)} for f in self.faults]
        headers = {"Content-Type": "application/problem+json", **self.headers}
        return web.Response(status=self.status, body=msgspec.json.encode(said), headers=headers)


def answer(request: web.Request, error: Exception) -> web.Response:
    """Answer with a problem what was raised while a request was handled.

    Those who hang up in the middle of a request are no fault of ours: what they are told, nobody hears.
    """
    match error:
        case Refusal():
            return error.answer()
        case web.HTTPException():
            return _routers(request, error).answer()
        case PollerError():
            return _ours(request, error).answer()
        case Misfit():
            faults = [Fault(field, message) for field, message in error.faults]
            return Refusal(422, "the remote cannot do this", faults=faults).answer()
        case _ if _is_gone(request):
            return web.Response(status=400)
        case _:
            return _unforeseen(request, error).answer()


async def reword(request: web.Request, response: web.StreamResponse) -> None:
    """Say in our words what the framework refuses before any handler: a target that is no path, an expectation."""
    if isinstance(response, web.HTTPException):
        ours = _routers(request, response).answer()
        response.body = ours.body
        response.headers.update({**ours.headers, hdrs.CONTENT_LENGTH: str(ours.content_length)})


def _routers(request: web.Request, error: web.HTTPException) -> Refusal:
    """Say in our words what the framework says in its own."""
    allow = error.headers.get("Allow")
    match error.status:
        case 404:
            return Refusal(404, "there is nothing at this address")
        case 405 if allow is not None:
            detail = f"{request.method} is not taken here"
            return Refusal(405, detail, hint=f"use {allow.replace(',', ' or ')}", headers={"Allow": allow})
        case status:
            return Refusal(status, error.reason)


def _ours(request: web.Request, error: PollerError) -> Refusal:  # noqa: PLR0911 - one line a kind
    match error:
        case NotFound():
            return Refusal(404, str(error), hint=error.hint)
        case Conflict():
            return Refusal(409, str(error), hint=error.hint)
        case Declined():
            return Refusal(422, str(error), hint=error.hint)
        case Unreached():
            return Refusal(502, str(error), hint=error.hint)
        case Stopping():
            return Refusal(503, str(error), hint=error.hint, headers=_RETRY_LATER)
        case Busy():
            return Refusal(429, str(error), hint=error.hint, headers=_RETRY_THEN)
        case Stale():
            return Refusal(503, "the order changed in the same moment", hint="try again", headers=_RETRY_SOON)
        case StoreUnavailable():
            hint = error.hint or "nothing was accepted; send it again later"
            return Refusal(503, str(error), hint=hint, headers=_RETRY_LATER)
        case _:
            return _unforeseen(request, error)


def _unforeseen(request: web.Request, error: Exception) -> Refusal:
    log.error("request_failed", method=request.method, path=request.rel_url.raw_path, exc_info=error)
    return Refusal(500, "this is a fault of poller's own", hint="the log says more")


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _sayable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot say."""
    return text.encode("utf-8", "replace").decode()
