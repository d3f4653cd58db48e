"""The log: one event, one line, with everything that is known of the order it happened to.

JSON where a program reads along, coloured text on a terminal. What other packages log
comes out the same way. Nothing leaves without passing the redactor.
"""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from poller import units
from poller.event import Event
from poller.order import Order, State
from poller.redact import MASK, Redactor

_LINE = 2000
"""Characters of one value; a traceback is the longest thing worth reading in a line."""
_DEPTH = 6
_TELLING = frozenset({"authorization", "cookie", "key", "password", "secret", "signature", "token"})
"""Names in the shop's context whose values are nobody's business, whatever they are."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
"""The words of a name, however it joins them: api_key, api-key, apiKey, APIKey."""
_LEVELS = {
    "not_ready": logging.DEBUG,
    "crowded": logging.DEBUG,
    "absent": logging.WARNING,
    "link_expired": logging.WARNING,
    "trouble": logging.WARNING,
    "local_fault": logging.ERROR,
    "unknown_answer": logging.WARNING,
    "deferred": logging.WARNING,
    "remote_paused": logging.ERROR,
    "failed": logging.ERROR,
    "not_canceled_there": logging.WARNING,
    "told_there_later": logging.WARNING,
    "not_told_there": logging.ERROR,
}


def configure(form: str, stream: TextIO, redact: Redactor) -> None:
    """Send all logging of this process to *stream*.

    Args:
        form: ``json``, ``console``, or ``auto`` for whichever suits the stream.
        stream: where lines go.
        redact: makes every text fit to be said.
    """
    console = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    last: Processor = structlog.dev.ConsoleRenderer(colors=True) if console else _json
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redacted(redact),
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # aiohttp logs a traceback for whatever a peer mangles; faults of our own handlers are told by them.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


class Narrator:
    """Writes a line for everything that happens to an order. A listener of the bus."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("poller.orders")
        self._heard = logging.getLogger("poller.orders")

    def __call__(self, order: Order, event: Event) -> None:
        """Tell *event* along with the order's whole context."""
        level = _LEVELS.get(event.event, logging.INFO)
        if not self._heard.isEnabledFor(level):  # most events are that an order is not ready
            return
        told = msgspec.to_builtins(event)
        del told["at"], told["event"]
        told["next"] = _next(order, event)
        told.pop("next_at", None)
        self._log.log(level, event.event, **_context(order), **told)


def _context(order: Order) -> dict[str, Any]:
    """Name everything that a person needs to know whose order this is."""
    context = {name: value for name, value in order.context.items() if name != "projectID"}
    named = {
        "remote": order.remote,
        "task_id": order.task_id,
        "project_id": order.context.get("projectID"),
        "batch": order.batch,
        "state": order.state.value,
        "checks": order.checks,
        "context": context or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def _next(order: Order, event: Event) -> str:
    if event.next_at is None:
        return "waits to be confirmed" if order.state is State.HELD else "at rest"
    wait = event.next_at - event.at
    return "asks at once" if wait <= 0 else f"asks in {units.human_seconds(wait)}"


def _redacted(redact: Redactor) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    def processor(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {name: _fit(value, name, redact, _DEPTH) for name, value in event.items()}

    return processor


def _fit(value: Any, name: str, redact: Redactor, depth: int) -> Any:
    if any(word.lower() in _TELLING for word in _WORD.findall(name)):
        return MASK
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, Mapping) and depth:
        return {redact(str(key)): _fit(item, str(key), redact, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_fit(item, name, redact, depth - 1) for item in value]
    return redact.mask(str(value)) if name == "exception" else redact(str(value), limit=_LINE)


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event).decode()
