"""The log: one event, one line, everything known of the order, and nothing that must not be known."""

import io
import json
import logging

import pytest
import structlog

from poller import log
from poller.bus import Bus
from poller.event import Event
from poller.order import Order, State
from poller.outcome import Cause
from poller.redact import Redactor

CANARY = "canary-client-secret"


class _Stream(io.StringIO):
    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(autouse=True)
def _as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def _order(**fields) -> Order:
    context = {"projectID": "p-1", "customer": "ACME", "api_token": "hush"}
    times = dict.fromkeys(("created_at", "updated_at", "opened_at"), 100.0)
    known = {"state": State.PENDING, "deadline": 900.0, "due_at": 104.2, "context": context, "batch": "b-1"}
    return Order(remote="grafx", task_id="84ad", **{**times, **known, **fields})


def _lines(stream: _Stream) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _tell(*events: Event, form: str = "json", order: Order | None = None) -> _Stream:
    stream = _Stream()
    log.configure(form, stream, Redactor([CANARY]))
    bus = Bus()
    bus.listen(log.Narrator())
    for event in events:
        bus.tell(order or _order(), event)
    return stream


def test_trouble_is_told_with_everything_known_of_the_order() -> None:
    """Remote, task, project, context, attempt, status, address, reason, and what happens next."""
    event = Event(
        at=100.0,
        event="trouble",
        reason="the remote answered 503",
        status=503,
        address="https://acme.example/tasks/84ad",
        attempt=3,
        next_at=104.2,
    )
    (line,) = _lines(_tell(event))

    assert line["event"] == "trouble"
    assert line["level"] == "warning"
    assert line["timestamp"].endswith("Z")
    wanted = {
        "remote": "grafx",
        "task_id": "84ad",
        "project_id": "p-1",
        "batch": "b-1",
        "attempt": 3,
        "status": 503,
        "address": "https://acme.example/tasks/84ad",
        "reason": "the remote answered 503",
        "next": "asks in 4.2 s",
    }
    assert wanted.items() <= line.items()
    assert line["context"] == {"customer": "ACME", "api_token": "***"}


def test_an_order_at_rest_says_so() -> None:
    """What happens next is told even when it is nothing."""
    failed = Event(at=100.0, event="failed", cause=Cause.GONE, reason="410")
    held = Event(at=100.0, event="added")
    again = Event(at=100.0, event="link_expired", next_at=100.0)
    lines = _lines(_tell(failed)) + _lines(_tell(held, order=_order(state=State.HELD))) + _lines(_tell(again))

    assert [line["next"] for line in lines] == ["at rest", "waits to be confirmed", "asks at once"]
    assert [line["level"] for line in lines] == ["error", "info", "warning"]
    assert lines[0]["cause"] == "gone"


def test_waiting_is_not_worth_a_line() -> None:
    """Hundreds of answers of "not yet" leave the log empty."""
    assert _tell(Event(at=1.0, event="not_ready", next_at=2.0)).getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_and_no_signed_query_gets_out(form) -> None:
    """Wherever a secret hides (a reason, a context, a traceback, another package's line), it is masked."""
    event = Event(at=1.0, event="trouble", reason=f"echo {CANARY} https://s3.example/f?X-Signature=abcdef")
    order = _order(context={"note": f"x{CANARY}x", "deep": [{"er": CANARY}], CANARY: 1})
    stream = _tell(event, form=form, order=order)
    logging.getLogger("some.package").warning("GET https://h/x?sig=abcdef %s", CANARY)
    try:
        raise ValueError(f"Bearer {CANARY} in https://h/x?sig=abcdef")
    except ValueError:
        structlog.get_logger().exception("broken", extra=CANARY)
        logging.getLogger("some.package").exception("broken too")
    told = stream.getvalue()

    assert told.count("broken") >= 2
    assert CANARY not in told
    assert "abcdef" not in told


def test_nobody_forges_a_line() -> None:
    """Control characters in what a remote said start no new line and move no cursor."""
    reason = 'bad\n{"event":"done","level":"info"}\r\x1b[2J\u2028x'
    stream = _tell(Event(at=1.0, event="trouble", reason=reason))

    assert len(stream.getvalue().splitlines()) == 1
    (line,) = _lines(stream)
    assert not set(line["reason"]) & set("\n\r\x1b\u2028")


def test_long_and_deep_values_are_cut() -> None:
    """One order cannot fill the disk with one line."""
    deep: list = []
    for _ in range(50):
        deep = [deep]
    stream = _tell(Event(at=1.0, event="trouble", reason="x" * 10**6), order=_order(context={"deep": deep}))

    assert len(stream.getvalue()) < 10_000


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [("auto", False, True), ("auto", True, False), ("json", True, True), ("console", False, False)],
)
def test_the_form_suits_the_reader(form, terminal, is_json) -> None:
    """JSON unless a person watches, or as the setting says."""
    stream = _Stream(terminal=terminal)
    log.configure(form, stream, Redactor())
    structlog.get_logger("poller").info("listening", url="http://127.0.0.1:8080")

    assert stream.getvalue().startswith("{") is is_json
    assert "http://127.0.0.1:8080" in stream.getvalue()


def test_a_listener_that_fails_fails_alone() -> None:
    """The others hear the event all the same, and the failure is heard too."""
    stream = _Stream()
    log.configure("json", stream, Redactor())
    heard: list[str] = []

    def broken(order: Order, event: Event) -> None:
        raise RuntimeError("no")

    bus = Bus()
    bus.listen(broken)
    bus.listen(lambda _, event: heard.append(event.event))
    bus.tell(_order(), Event(at=1.0, event="done"))

    assert heard == ["done"]
    assert _lines(stream)[0]["event"] == "listener_failed"


@pytest.mark.parametrize(
    "name", ["apiKey", "api_key", "api-key", "APIKey", "clientSecret", "X-Access-Token", "password"]
)
def test_names_that_promise_a_secret_are_masked(name) -> None:
    """However a shop joins its words."""
    (line,) = _lines(_tell(Event(at=1.0, event="done"), order=_order(context={name: "hush", "monkey": "loud"})))

    assert line["context"] == {name: "***", "monkey": "loud"}
