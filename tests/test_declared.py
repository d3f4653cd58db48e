"""The page language and the shipped pages, as tables of replies: no network here."""

import re
from collections.abc import Generator
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poller import remotes
from poller.address import Origin
from poller.errors import ConfigurationError
from poller.order import Order
from poller.outcome import Absent, Gone, Locked, NothingToFetch, NotReady, Refused, Trouble, Unknown, Unsafe
from poller.remote import Aborted, Caps, Denied, Link, NeedsConfirming, Ready, Reply, Request, Token
from poller.remotes.declared import REPORT_CHARACTERS
from tests.grafx import SECRET, grafx, order, ready

ROOT = "https://acme.example/grafx/api/v1/environment/acme/"
TASKS = f"{ROOT}output/tasks/"
REMOTE = grafx()


def reply(status: int = 200, body: bytes = b"", url: str = f"{TASKS}T1", **more: Any) -> Reply:
    """Make the reply to a check."""
    return Reply(status=status, headers={}, body=body, url=url, **more)


def converse(conversation: Generator[Request, Reply, Any], *said: Reply | Exception) -> tuple[list[Request], Any]:
    """Carry out a conversation from a table of replies; give its requests and its answer."""
    requests, lines = [], list(said)
    try:
        requests.append(next(conversation))
        while True:
            line = lines.pop(0)
            requests.append(conversation.throw(line) if isinstance(line, Exception) else conversation.send(line))
    except StopIteration as end:
        assert not lines, "the conversation ended early"
        return requests, end.value


def check(*said: Reply | Exception, task: Order | None = None) -> tuple[list[Request], Any]:
    """Ask GraFx about a task."""
    return converse(REMOTE.check(task or order()), *said)


def answer(*said: Reply | Exception) -> Any:
    """Ask GraFx about a task; give the answer alone."""
    return check(*said)[1]


# --- what GraFx's codes mean


@pytest.mark.parametrize("status", [202, 204])
def test_both_codes_for_still_working_mean_not_ready(status: int) -> None:
    """The vendor's client knows 202 and its tutorial 204; both are waits, and pass the remote's wish on."""
    assert answer(reply(status, retry_after=7.0)) == NotReady(retry_after=7.0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, Absent),
        (410, Gone),
        (400, Refused),
        (405, Refused),
        (422, Refused),
        (403, Trouble),
        (408, Trouble),
        (429, Trouble),
        (502, Trouble),
        (503, Trouble),
        (302, Trouble),
        (206, Unknown),
        (203, Unknown),
        (599, Trouble),
    ],
)
def test_every_other_code_is_classified_by_what_it_means(status: int, kind: type) -> None:
    """Codes that the page is silent about get the class that HTTP gives them."""
    seen = answer(reply(status, retry_after=3.0))
    assert type(seen) is kind
    assert (seen.status, seen.address) == (status, f"{TASKS}T1")
    assert getattr(seen, "retry_after", 3.0) == 3.0


def test_the_question_is_a_get_with_credentials_for_the_task() -> None:
    """The request is what the vendor documents, environment named twice and all."""
    [request], _ = check(reply(204))
    assert request == Request(method="GET", url=f"{TASKS}T1", headers={"Accept": "application/json"}, again=True)


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"null", b"7", b'"x"', b"[" * 5000, b"\xff\xfe", b'{"a":', b'{"a":"\xce"}']
)
def test_a_body_that_is_no_object_is_no_accident(body: bytes) -> None:
    """Ready without a readable body leads to the fixed path; a failure without one still has a reason."""
    assert answer(reply(200, body)) == Ready(links=(Link(url=f"{TASKS}T1/download"),))
    assert answer(reply(500, body)).reason == "the remote answered 500"


# --- links


@pytest.mark.parametrize(
    ("link", "url", "auth"),
    [
        (f"{TASKS}T1/download", f"{TASKS}T1/download", True),
        ("/files/1?sig=a%2Fb", "https://acme.example/files/1?sig=a%2Fb", True),
        ("download", f"{TASKS}download", True),
        ("?again=1", f"{TASKS}T1?again=1", True),
        ("//files.example/1", "https://files.example/1", False),
        ("//acme.example/1", "https://acme.example/1", True),
        ("https://ACME.example:443/1", "https://ACME.example:443/1", True),
        ("https://files.example/1", "https://files.example/1", False),
        ("http://acme.example/1", "http://acme.example/1", False),
        ("https://acme.example:8443/1", "https://acme.example:8443/1", False),
        ("https://acme.example.evil.example/1", "https://acme.example.evil.example/1", False),
        (
            "https://s3.example/a%2Fb%7E/ü?X-Sig=%2F%7e+%20&z=~",
            "https://s3.example/a%2Fb%7E/ü?X-Sig=%2F%7e+%20&z=~",
            False,
        ),
    ],
)
def test_a_link_is_made_absolute_and_gets_credentials_only_at_home(link: str, url: str, auth: bool) -> None:
    """Scheme, host and port all count; a link that is absolute is left as it is to the last byte."""
    assert answer(reply(200, ready(link))) == Ready(links=(Link(url=url, auth=auth),))


@pytest.mark.parametrize("body", [ready(None), ready(""), b'{"links": {"download": 7}}', b'{"links": null}', b"{}"])
def test_a_missing_link_leads_to_the_fixed_path(body: bytes) -> None:
    """The same file is had at an address that follows from the task."""
    assert answer(reply(200, body)) == Ready(links=(Link(url=f"{TASKS}T1/download"),))


@pytest.mark.parametrize(
    "link",
    [
        "ftp://acme.example/x",
        "file:///etc/passwd",
        "data:text/html,x",
        "javascript:alert(1)",
        "https://user:pass@acme.example/x",
        "https://",
        "https:///x",
        "https:x",
        "https://[::1",
        "//[",
        "https://a.example:99999/",
        "https://a.example:0/",
        "https://a.example\\@acme.example/x",
        "https://2130706433/",
        "https://127.1/",
        "https://0x7f.0.0.1/",
        "https://localhost./",
        "https://acme.example/x\r\nX-Evil: 1",
        "https://acme.example/x y",
        "/x\r\nX-Evil: 1",
        "/x\ty",
        "/x y",
        " https://acme.example/x",
        "https://acme.example/\x00",
        "https://①②⑦.⓪.⓪.①/",
    ],
)
def test_a_link_that_cannot_be_followed_is_unsafe(link: str) -> None:
    """Other schemes, users, odd hosts and anything that could break a header are refused, not mended."""
    seen = answer(reply(200, ready(link)))
    assert type(seen) is Unsafe
    assert "pass" not in seen.reason


def test_a_link_may_be_a_list_of_links() -> None:
    """Every text of a list is a file, in its order."""
    page = _page(file={"link": "body.urls"})
    remote = remotes.bind(page, {"ACME_KEY": "k"})
    _, seen = converse(remote.check(order()), reply(200, b'{"ok":1,"urls":["https://a.example/1","","/2",null]}'))
    assert [link.url for link in seen.links] == ["https://a.example/1", "https://acme.example/2"]


def test_a_task_makes_no_more_than_a_thousand_files() -> None:
    """An answer of the size that we read has room for so many links that their order would never end."""
    remote = remotes.bind(_page(file={"link": "body.urls"}), {"ACME_KEY": "k"})
    for count, kind in ((1000, Ready), (1001, Unsafe)):
        body = msgspec.json.encode({"ok": 1, "urls": ["/x"] * count})
        assert type(converse(remote.check(order()), reply(200, body))[1]) is kind


def test_ready_without_link_or_path_is_trouble() -> None:
    """A page that knows no fixed path cannot make an address up."""
    remote = remotes.bind(_page(file={"link": "body.url"}), {"ACME_KEY": "k"})
    _, seen = converse(remote.check(order()), reply(200, b'{"ok":1}'))
    assert (type(seen), seen.status) == (Trouble, 200)


def test_credentials_stay_away_from_links_that_do_not_want_them() -> None:
    """A page may say that its links are signed already."""
    remote = remotes.bind(_page(file={"link": "body.url", "auth": False}), {"ACME_KEY": "k"})
    _, seen = converse(remote.check(order()), reply(200, b'{"ok":1,"url":"/x"}', "https://acme.example/api/t"))
    assert seen == Ready(links=(Link(url="https://acme.example/x", auth=False),))


# --- task IDs

NASTY = [
    "../../etc/passwd",
    "a/b",
    "a?b=c",
    "a#b",
    "a%2Fb",
    "%2e%2e",
    "a b",
    "a+b",
    "{task_id}",
    "a&b;c=d",
    "a\\..\\b",
    "..%2f",
    "...",
    "üöä/😀",
    "\u202egnp.exe",
    "https://evil.example/",
    "//evil.example",
    "@evil.example",
    "-rf",
    "CON",
    "'\"`$(x)",
    "a" * 512,
    "a,b*:3",
    "~",
]


@pytest.mark.parametrize("task_id", NASTY)
def test_a_task_id_is_encoded_whatever_it_holds(task_id: str) -> None:
    """It fills exactly one segment of the path, of unreserved characters and triplets, and decodes to itself."""
    [request], _ = check(reply(204), task=order(task_id))
    encoded = request.url.removeprefix(TASKS)
    assert re.fullmatch(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+", encoded)
    assert unquote(encoded) == task_id


@given(st.text(min_size=1, max_size=80))
@example(".")
@example("..")
@example("%2E%2E/..")
def test_no_task_id_leaves_its_place(task_id: str) -> None:
    """Property: any text is one encoded segment, or refused before anything is asked."""
    if task_id in {".", ".."}:
        requests, seen = converse(REMOTE.check(order(task_id)))
        assert (requests, type(seen)) == ([], Unsafe)
    else:
        [request], _ = converse(REMOTE.check(order(task_id)), reply(204))
        assert re.fullmatch(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+", request.url.removeprefix(TASKS))


@pytest.mark.parametrize("task_id", [".", "..", "\ud800"])
def test_a_task_id_that_would_climb_is_refused_before_anything_is_asked(task_id: str) -> None:
    """Dots cannot be encoded: a server would climb. Half a surrogate pair is no text at all."""
    requests, seen = converse(grafx().check(order(task_id)))
    assert requests == []
    assert type(seen) is Unsafe


@pytest.mark.parametrize("shop", ["..", "a/../b", "%2e%2E", "."])
def test_an_encoded_climb_is_refused_too(shop: str) -> None:
    """Where a page lets a value keep its slashes and triplets, none of its segments may climb."""
    page = _page(check={"get": "{+context.shop}/{task_id}", "ready": "body"})
    requests, seen = converse(remotes.bind(page, {"ACME_KEY": "k"}).check(order(context={"shop": shop})))
    assert (requests, type(seen)) == ([], Unsafe)


def test_addresses_may_name_context_batch_and_settings() -> None:
    """Numbers are written as they are."""
    page = _page(check={"get": "{context.shop}/{batch}/{ACME_KEY}{?task_id}{context.n}", "ready": "body"})
    task = order("a&b", batch="B 1", context={"shop": "s/1", "n": 7})
    [request], _ = converse(remotes.bind(page, {"ACME_KEY": "k"}).check(task), reply(200, b"7"))
    assert request.url == "https://acme.example/api/s%2F1/B%201/k?task_id=a%26b7"


# --- failures and their reports

REPORT_AT = "https://acme.example/reports/7?sig=canary-signature"


def problem(detail: str) -> bytes:
    """Spell the problem document of a failed task."""
    return msgspec.json.encode({"title": "Task failed", "status": "500", "detail": detail})


def test_a_failed_task_is_refused_and_its_report_fetched() -> None:
    """500 is the task's own failure; its text ends in the address of a report, which is kept without query."""
    failed = reply(500, problem(f"2 of 3 records failed. Error report: {REPORT_AT}"))
    requests, seen = check(failed, reply(200, b'[{"recordNumber":0}]', REPORT_AT))
    assert requests[1] == Request(method="GET", url=REPORT_AT, auth=True)
    assert (type(seen), seen.status, seen.address) == (Refused, 500, f"{TASKS}T1")
    assert (seen.report_at, seen.report) == ("https://acme.example/reports/7", '[{"recordNumber":0}]')


@pytest.mark.parametrize(
    "second",
    [
        reply(404, b"nothing", REPORT_AT),
        Aborted(Trouble(reason="reset")),
        Aborted(Locked(reason="certificate")),
        Denied("401 twice"),
    ],
)
def test_a_report_that_cannot_be_had_changes_nothing(second: Reply | Exception) -> None:
    """The task has failed, whether or not its report can be read; nothing else may come of it."""
    _, seen = check(reply(500, problem(f"Error report: {REPORT_AT}")), second)
    assert (type(seen), seen.report_at, seen.report) == (Refused, "https://acme.example/reports/7", None)


@pytest.mark.parametrize("detail", ["it failed", "Error report:", "Error report:   ", "Error report: ftp://x.example/"])
def test_a_failure_without_a_report_asks_nothing_more(detail: str) -> None:
    """No address, or none that may be followed: the refusal stands by itself."""
    requests, seen = check(reply(500, problem(detail)))
    assert (len(requests), type(seen), seen.report_at) == (1, Refused, None)


def test_a_report_elsewhere_gets_no_credentials_and_a_relative_one_does() -> None:
    """A report's address is a link like any other."""
    requests, _ = check(reply(500, problem("Error report: https://blob.example/r?s=1")), reply(200))
    assert requests[1] == Request(method="GET", url="https://blob.example/r?s=1", auth=False)
    requests, _ = check(reply(500, problem("Error report: /r/1 (kept a week)")), reply(200))
    assert requests[1] == Request(method="GET", url="https://acme.example/r/1", auth=True)


def test_a_report_is_kept_up_to_a_length() -> None:
    """A history is no place for megabytes, nor for bytes that are no text."""
    _, seen = check(reply(500, problem(f"Error report: {REPORT_AT}")), reply(200, b"\xff" + b"x" * 100_000))
    assert len(seen.report) == REPORT_CHARACTERS
    assert seen.report.startswith("\ufffdxx")


def test_the_client_giving_up_is_the_answer() -> None:
    """What the client came to is passed on; what no conversation may say goes on upwards."""
    trouble = Trouble(reason="reset")
    assert answer(Aborted(trouble)) is trouble
    with pytest.raises(Aborted) as raised:
        check(Aborted(Locked(reason="certificate")))
    assert type(raised.value.outcome) is Locked


# --- other pages


def _page(**tables: Any) -> remotes.Page:
    """Read a small page; *tables* replace parts of it."""
    table = {
        "name": "acme",
        "base": "https://acme.example/api/",
        "settings": {"ACME_KEY": "secret", "ACME_NOTE": "optional"},
        "check": {"get": "t/{task_id}", "ready": "body.ok"},
        **tables,
        "file": [tables.get("file", {"link": "body.url"})],
    }
    return remotes.parse("\n".join(f"{key} = {_inline(value)}" for key, value in table.items()), where="acme.toml")


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_inline(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return msgspec.json.encode(value).decode()


VERDICTS = {
    "get": "t/{task_id}",
    "pending": "body.state == 'running'",
    "ready": "body.url",
    "done": "body.state == 'imported'",
    "confirm": "body.state == 'preview'",
    "failed": "body.state == 'error'",
    "gone": "body.state == 'expired'",
    "absent": "body.state == 'unknown'",
    "reason": "body.[message, hint]",
    "progress": "body.percent",
}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"state": "running"}, NotReady()),
        ({"state": "running", "percent": 0.25}, NotReady(progress=0.25)),
        ({"state": "running", "percent": 7}, NotReady(progress=1.0)),
        ({"state": "running", "percent": -7}, NotReady(progress=0.0)),
        ({"state": "running", "percent": 10**400}, NotReady(progress=1.0)),
        ({"state": "running", "percent": True}, NotReady()),
        ({"state": "running", "percent": "half"}, NotReady()),
        ({"state": "running", "url": "/x"}, NotReady()),  # the first that is true counts
        ({"url": "/x"}, Ready(links=(Link(url="https://acme.example/x"),))),
        ({"state": "imported"}, NothingToFetch()),
        ({"state": "preview"}, NeedsConfirming()),
    ],
)
def test_a_verdict_is_the_first_expression_that_is_true(body: Any, expected: Any) -> None:
    """Every verdict that a page may have comes to its answer; progress is a number from 0 to 1 or nothing."""
    remote = remotes.bind(_page(check=VERDICTS), {"ACME_KEY": "k"})
    encoded = f'{{"state":"running","percent":{body["percent"]}}}'.encode() if body.get("percent") == 10**400 else None
    assert converse(remote.check(order()), reply(200, encoded or msgspec.json.encode(body)))[1] == expected


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        ({"state": "error", "message": "boom", "hint": "try"}, Refused, "boom; try"),
        ({"state": "error", "message": 7}, Refused, "the remote answered 200"),
        ({"state": "expired", "message": "boom"}, Gone, "boom"),
        ({"state": "unknown"}, Absent, "the remote answered 200"),
    ],
)
def test_a_bad_verdict_has_a_reason(body: Any, kind: type, reason: str) -> None:
    """The reason is every text that the page points at."""
    remote = remotes.bind(_page(check=VERDICTS), {"ACME_KEY": "k"})
    _, seen = converse(remote.check(order()), reply(200, msgspec.json.encode(body)))
    assert (type(seen), seen.reason, seen.status) == (kind, reason, 200)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"state": "tangled"}, "body.state 'tangled'"),
        ({"state": "tangled", "hint": "why"}, "body.state 'tangled'"),
        ({"state": 7}, "body.state '7'"),
        ({"state": "x" * 1000}, f"body.state '{'x' * 64}'"),
        ({"state": ["tangled"]}, "status 200"),
        ({"other": "tangled"}, "status 200"),
        ({'o"ö': {"été": "odd"}}, 'body."o\\"ö"."été" \'odd\''),
        (["tangled"], "status 200"),
        ({"state": "tangled", "job": {"the-kind": "odd"}}, "body.state 'tangled', body.job.\"the-kind\" 'odd'"),
        ({"job": {"kind": "old"}, "link": "https://x.example/?sig=canary"}, "body.job.kind 'old'"),
    ],
)
def test_a_word_without_a_verdict_is_named(body: Any, word: str) -> None:
    """What the page compares with words is told, and nothing else that the reply holds."""
    more = {"ready": "body.link && contains(['new', 'newer'], body.job.kind) || body.job.\"the-kind\" == 'even'"}
    more["failed"] = VERDICTS["failed"] + ' || body."o\\"ö"."été" != `null` && `false`'
    remote = remotes.bind(_page(check=VERDICTS | more), {"ACME_KEY": "k"})
    _, seen = converse(remote.check(order()), reply(200, msgspec.json.encode(body), retry_after=7.0))
    assert (type(seen), seen.word, seen.status, seen.retry_after) == (Unknown, word, 200, 7.0)
    assert seen.reason.endswith(f"and the page of acme has no verdict about {word}")


def test_a_page_may_say_what_its_remote_takes() -> None:
    """Limits are whole numbers, each of them optional."""
    limits = {"requests_per_minute": 600, "connections": 6, "checks": 4, "downloads": 2}
    assert remotes.bind(_page(limits=limits), {"ACME_KEY": "k"}).caps == Caps(**limits)
    assert _page(limits={"checks": 4}).caps == Caps(checks=4)
    assert _page().caps == REMOTE.caps == Caps()


@pytest.mark.parametrize(
    ("limits", "place", "problem"),
    [
        ({"requests_per_minute": 0}, "limits.requests_per_minute", "1 or more"),
        ({"checks": "4"}, "limits.checks", "whole number"),
        ({"checks": True}, "limits.checks", "whole number"),
        ({"checks": 1.5}, "limits.checks", "whole number"),
        ({"connections": 1}, "limits.connections", "2 or more"),
        ({"conections": 6}, "limits.conections", "did you mean 'connections'?"),
    ],
)
def test_a_limit_that_is_none_is_a_problem(limits: Any, place: str, problem: str) -> None:
    """Every problem is told with its place."""
    with pytest.raises(ConfigurationError) as refused:
        _page(limits=limits)
    [(where, what)] = refused.value.problems
    assert re.sub(", line [0-9]+", "", where) == f"acme.toml: {place}"
    assert problem in what


WISHING = [({"state": "running"}, NotReady), ({"state": "unknown"}, Absent), ({"url": [7]}, Trouble), ({}, Trouble)]


@pytest.mark.parametrize(("body", "kind"), WISHING)
def test_a_wish_to_wait_is_passed_on_with_every_answer_that_asks_again(body: Any, kind: type) -> None:
    """Retry-After counts with a 200 as with any other status, whatever the page makes of it."""
    remote = remotes.bind(_page(check=VERDICTS), {"ACME_KEY": "k"})
    _, seen = converse(remote.check(order()), reply(200, msgspec.json.encode(body), retry_after=7.0))
    assert isinstance(seen, kind)
    assert seen.retry_after == 7.0


def test_a_wish_to_wait_is_passed_on_with_a_confirmation() -> None:
    """A remote that was told to go on may say when to come back."""
    remote = remotes.bind(_page(confirm={"post": "t/{task_id}/confirm"}), {"ACME_KEY": "k"})
    assert converse(remote.confirm(order()), reply(202, retry_after=7.0))[1] == NotReady(retry_after=7.0)


def test_zero_is_true_and_everything_empty_is_false() -> None:
    """Truth is JMESPath's, not Python's."""
    remote = remotes.bind(
        _page(check={"get": "t/{task_id}", "pending": "body.n", "ready": "`true`"}), {"ACME_KEY": "k"}
    )
    for value in (0, 1, "x", [0], {"a": 1}, True):
        assert type(converse(remote.check(order()), reply(200, msgspec.json.encode({"n": value})))[1]) is NotReady
    for value in (None, "", [], {}, False):
        assert type(converse(remote.check(order()), reply(200, msgspec.json.encode({"n": value})))[1]) is Trouble


def test_expressions_see_headers_status_and_task() -> None:
    """What a page may look at is what its documentation lists."""
    expression = "status == `200` && headers.\"x-state\" == 'ok' && task.id == 'T1' && task.context.a == 'b'"
    remote = remotes.bind(_page(check={"get": "t", "done": expression}), {"ACME_KEY": "k"})
    said = Reply(status=200, headers={"x-state": "ok"}, body=b"", url="https://acme.example/api/t")
    assert converse(remote.check(order(context={"a": "b"})), said)[1] == NothingToFetch()


def test_an_expression_that_cannot_take_the_reply_is_trouble() -> None:
    """A function given the wrong type is the page's fault, and no exception; nor is it silence: somebody answered."""
    page = _page(check={"get": "t", "ready": "length(body) == `1`"}, confirm={"post": "t", "done": "length(body)"})
    remote = remotes.bind(page, {"ACME_KEY": "k"})
    for conversation in (remote.check, remote.confirm):
        _, seen = converse(conversation(order()), reply(200))
        assert (type(seen), seen.status) == (Trouble, 200)
        assert "page of acme" in seen.reason


def test_an_expression_that_cannot_take_an_error_page_leaves_it_to_its_status() -> None:
    """A verdict about what is not there is none: a 404 without a body is a task that is not known."""
    page = _page(check={"get": "t", "ready": "length(body) == `1`", "reason": "length(body)"})
    for status, kind in ((404, Absent), (400, Refused), (502, Trouble)):
        _, seen = converse(remotes.bind(page, {"ACME_KEY": "k"}).check(order()), reply(status, b"<html>"))
        assert (type(seen), seen.reason) == (kind, f"the remote answered {status}")


def test_a_confirmation_is_posted_and_then_waited_for() -> None:
    """Any success sends the order on its way; anything else is classified by its status."""
    page = _page(confirm={"post": "t/{task_id}/go", "reason": "body.why"})
    remote = remotes.bind(page, {"ACME_KEY": "k"})
    [request], seen = converse(remote.confirm(order("a b")), reply(202))
    assert (request.method, request.url, seen) == ("POST", "https://acme.example/api/t/a%20b/go", NotReady())
    _, seen = converse(remote.confirm(order()), reply(422, b'{"why":"too late"}'))
    assert (type(seen), seen.reason) == (Refused, "too late")
    trouble = Trouble(reason="reset")
    assert converse(remote.confirm(order()), Aborted(trouble))[1] is trouble
    assert type(converse(remote.confirm(order("..")))[1]) is Unsafe


def test_a_page_without_confirmation_cannot_confirm() -> None:
    """GraFx asks for none."""
    assert type(converse(grafx().confirm(order()))[1]) is Refused


# --- binding


def test_a_bound_page_knows_its_origins_and_files() -> None:
    """The base and the token address are the operator's word; nothing else is."""
    remote = grafx("https://acme.example/", "https://login.example/t")
    assert remote.name == "grafx"
    assert remote.base == Origin("https", "acme.example", 443)
    assert remote.origins == {remote.base, Origin("https", "login.example", 443)}
    assert (remote.delivery.window, remote.delivery.unframed) == (4 * 3600, "twice")
    assert remote.delivery.extensions["application/pdf"] == ".pdf"


def test_defaults_follow_from_what_was_given() -> None:
    """The environment's name alone is enough to find GraFx."""
    values = {"GRAFX_ENVIRONMENT": "shop", "GRAFX_CLIENT_ID": "i", "GRAFX_CLIENT_SECRET": "s", "GRAFX_BASE_URL": ""}
    remote = remotes.bind(remotes.find("grafx"), values)
    assert remote.base == Origin("https", "shop.chili-publish.online", 443)
    assert Origin("https", "integration-login.chiligrafx.com", 443) in remote.origins
    [request], _ = converse(remote.check(order()), reply(204))
    assert request.url == "https://shop.chili-publish.online/grafx/api/v1/environment/shop/output/tasks/T1"


def test_further_origins_may_be_allowed() -> None:
    """A page may name where its files lie, by a setting too."""
    page = _page(allow_origins=["https://cdn.example", "{+ACME_NOTE}"])
    remote = remotes.bind(page, {"ACME_KEY": "k", "ACME_NOTE": "http://10.0.0.1:8000"})
    assert remote.origins == {remote.base, Origin("https", "cdn.example", 443), Origin("http", "10.0.0.1", 8000)}


def test_every_missing_setting_is_named_at_once() -> None:
    """One run shows all that is missing, with what it is for."""
    with pytest.raises(ConfigurationError) as raised:
        remotes.bind(remotes.find("grafx"), {"GRAFX_CLIENT_ID": "i"})
    problems = dict(raised.value.problems)
    assert set(problems) == {"GRAFX_ENVIRONMENT", "GRAFX_CLIENT_SECRET"}
    assert "Technical name" in problems["GRAFX_ENVIRONMENT"]


@pytest.mark.parametrize(
    "address", ["ftp://x.example", "acme", "https://", "https://u:canary@x.example", "https://a b/"]
)
def test_a_setting_that_is_no_address_is_named(address: str) -> None:
    """The problem carries the setting's name, and nothing that stands before an @."""
    with pytest.raises(ConfigurationError) as raised:
        grafx(address)
    [(name, problem_)] = raised.value.problems[:1]
    assert name == "GRAFX_BASE_URL"
    assert "canary" not in problem_


def test_a_fixed_address_that_is_none_is_named_by_its_place() -> None:
    """Where no setting is at fault, the page is."""
    with pytest.raises(ConfigurationError) as raised:
        remotes.bind(_page(base="acme.example"), {"ACME_KEY": "k"})
    assert raised.value.problems[0][0] == "acme: base"


# --- logging in


def login(*said: Reply | Exception) -> tuple[list[Request], Any]:
    """Carry out GraFx's login."""
    auth = grafx().auth
    assert auth is not None
    return converse(auth.login(0.0), *said)


def issued(body: bytes, status: int = 200, **more: Any) -> Reply:
    """Make a token endpoint's reply."""
    return reply(status, body, "https://acme.example/oauth/token", **more)


def test_the_login_says_what_the_vendor_wants() -> None:
    """Client credentials with an audience, as JSON, to the token address, without the API's credentials."""
    [request], token = login(issued(b'{"access_token":"abc","expires_in":79045}'))
    assert (request.method, request.url, request.auth) == ("POST", "https://acme.example/oauth/token", False)
    assert msgspec.json.decode(request.body or b"") == {
        "grant_type": "client_credentials",
        "client_id": "someone",
        "client_secret": SECRET,
        "audience": "https://chiligrafx.com",
    }
    assert token == Token(value="abc", lifetime=79045.0)
    assert grafx().auth.sign(token) == {"Authorization": "Bearer abc"}


def test_a_page_without_auth_has_none() -> None:
    """Nothing is asked where nothing is needed."""
    assert remotes.bind(_page(), {"ACME_KEY": "k"}).auth is None


@pytest.mark.parametrize(
    ("body", "lifetime"),
    [
        (b'{"access_token":"t"}', None),
        (b'{"access_token":"t","expires_in":"60"}', 60.0),
        (b'{"access_token":"t","expires_in":null}', None),
        (b'{"access_token":"t","expires_in":0}', None),
        (b'{"access_token":"t","expires_in":-5}', None),
        (b'{"access_token":"t","expires_in":"NaN"}', None),
        (b'{"access_token":"t","expires_in":"inf"}', None),
    ],
)
def test_a_token_may_say_how_long_it_lives_in_several_ways(body: bytes, lifetime: float | None) -> None:
    """Numbers arrive as texts now and then, or not at all."""
    assert login(issued(body))[1] == Token(value="t", lifetime=lifetime)


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":"invalid_client","error_description":"no such client"}', "invalid_client no such client"),
        (b'{"error":"invalid_client"}', "invalid_client"),
        (b"<html>", "no reason given"),
        (b'{"error":7}', "no reason given"),
        (b'{"error":"\xc3"}', "no reason given"),
        (b'{"x":' + b"[" * 100_000, "no reason given"),
    ],
)
def test_a_refused_login_is_denied_with_its_reason(status: int, body: bytes, words: str) -> None:
    """Wrong credentials are the operator's to mend, so the text says what was answered."""
    with pytest.raises(Denied, match=f"answered {status}: {words}$"):
        login(issued(body, status))


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
def test_a_login_that_could_not_be_had_is_trouble(status: int) -> None:
    """The token endpoint's own state is nobody's credentials."""
    with pytest.raises(Aborted) as raised:
        login(issued(b"", status, retry_after=9.0))
    outcome = raised.value.outcome
    assert (type(outcome), outcome.status, outcome.retry_after) == (Trouble, status, 9.0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"access_token":7}',
        b'{"access_token":""}',
        b'{"access_token":"a b"}',
        b'{"access_token":"a\\r\\nX-Evil: 1"}',
        b'{"access_token":"\xc3\xa9"}',
        b'{"access_token":"\xc3"}',
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_an_answer_without_a_usable_token_is_trouble(body: bytes) -> None:
    """A token that could end a header, or none, is not sent anywhere."""
    with pytest.raises(Aborted) as raised:
        login(issued(body))
    assert type(raised.value.outcome) is Trouble


# --- reading pages

PROBLEMS = [
    ("name = 7", "name", "is a string"),
    ('name = "a b"', "name", "letters"),
    ('bse = "x"', "bse", "did you mean 'base'?"),
    ("base = 7", "base", "is a string"),
    ('base = "https://{ACME_KY}"', "base", "unknown name {ACME_KY}; did you mean 'ACME_KEY'?"),
    ('base = "https://{ACME_KEY"', "base", "braces"),
    ('base = "https://{}"', "base", "braces"),
    ('window = "soon"', "window", "not a duration"),
    ("window = 7", "window", "is a string"),
    ("allow_origins = [7]", "allow_origins", "list of strings"),
    ("settings = 7", "settings", "is a table"),
    ("settings = {A = 7}", "settings.A", '"required"'),
    ('settings = {A = "wanted"}', "settings.A", '"required"'),
    ("settings = {A = {requird = true}}", "settings.A", "requird"),
    ('settings = {A = {default = "{B}"}}', "settings.A.default", "unknown setting {B}"),
    ("auth = 7", "auth", "is a table"),
    ("auth = {oauth = {}}", "auth.oauth", "did you mean 'oauth2'?"),
    ("auth = {oauth2 = {}}", "auth.oauth2", "token_url"),
    ('auth = {oauth2 = {token_url = "{X}", client_id = "", client_secret = ""}}', "auth.oauth2.token_url", "{X}"),
    (
        'auth = {oauth2 = {token_url = "x", client_id = "{ACME_KEE}", client_secret = ""}}',
        "auth.oauth2.client_id",
        "unknown name {ACME_KEE}; did you mean 'ACME_KEY'?",
    ),
    ("check = 7", "check", "is a table"),
    ("check = {}", "check", "one address"),
    ('check = {get = "a", post = "b", ready = "body"}', "check", "one address"),
    ('check = {get = "a"}', "check", "ends well"),
    ('check = {get = "a", ready = "body", redy = "x"}', "check.redy", "did you mean 'ready'?"),
    ('check = {get = "{task}", ready = "body"}', "check.get", "did you mean 'task_id'?"),
    ('check = {get = "a", ready = "body ="}', "check.ready", "is not JMESPath"),
    ('check = {get = "a", ready = 7}', "check.ready", "is a string"),
    ('check = {get = "a", ready = "body", report = 7}', "check.report", "is a table"),
    ('check = {get = "a", ready = "body", report = {text = "body"}}', "check.report", "both text and after"),
    ('check = {get = "a", ready = "body", report = {txt = "body"}}', "check.report.txt", "did you mean 'text'?"),
    ('confirm = {post = "a", get = "b"}', "confirm", "one address"),
    ("file = 7", "file", "list of tables"),
    ("file = [{}]", "file", "needs a link"),
    ('file = [{link = "body"}, {}]', "file[2]", "needs a link"),
    ('file = [{link = "body", auth = 1}]', "file.auth", "true or false"),
    ('file = [{link = "body", unframed = "hope"}]', "file.unframed", "one of twice"),
    ('file = [{link = "body", types = {"image/png" = "png"}}]', "file.types.image/png", "an extension"),
    ('file = [{link = "body", types = {"image/png" = 7}}]', "file.types.image/png", "an extension"),
    ('file = [{link = "body", lnk = "b"}]', "file.lnk", "did you mean 'link'?"),
]
GOOD = {
    "name": 'name = "acme"',
    "base": 'base = "https://acme.example"',
    "settings": 'settings = {ACME_KEY = "secret"}',
    "check": 'check = {get = "t/{task_id}", ready = "body"}',
    "file": 'file = [{link = "body"}]',
}


@pytest.mark.parametrize(("line", "place", "words"), PROBLEMS)
def test_a_mistake_in_a_page_is_named_with_its_place(line: str, place: str, words: str) -> None:
    """Every mistake has its place and its reason, and where a word is close to a known one, that."""
    with pytest.raises(ConfigurationError) as raised:
        remotes.parse("\n".join([*(GOOD | {line.partition(" ")[0]: line}).values()]), where="acme.toml")
    assert any(
        re.sub(", line [0-9]+", "", at) == f"acme.toml: {place}" and words in why for at, why in raised.value.problems
    ), raised.value.problems


def test_a_page_s_mistakes_are_all_named_at_once() -> None:
    """An empty page lacks everything, and says so in one go."""
    with pytest.raises(ConfigurationError) as raised:
        remotes.parse("", where="acme.toml")
    places = {place.removeprefix("acme.toml: ") for place, _ in raised.value.problems}
    assert places == {"name", "base", "check"}


def test_a_good_page_is_read() -> None:
    """The smallest page there is, and what it leaves open."""
    page = remotes.parse("\n".join(GOOD.values()), where="acme.toml")
    assert (page.name, page.title, page.window, page.credentials, page.confirm) == ("acme", "acme", None, (), None)
    assert page.settings["ACME_KEY"].secret


def test_a_page_that_is_not_toml_says_where() -> None:
    """The parser's own words name line and column."""
    with pytest.raises(ConfigurationError) as raised:
        remotes.parse("name = \n", where="acme.toml")
    assert "line 1" in raised.value.problems[0][1]


# --- the catalogue


def test_shipped_pages_are_all_good() -> None:
    """What we ship is read without a problem, under its own name."""
    assert "grafx" in remotes.shipped()
    assert [remotes.find(name).name for name in remotes.shipped()] == list(remotes.shipped())


def test_a_page_is_found_by_path(tmp_path: Any) -> None:
    """Users bring their own."""
    path = tmp_path / "acme.toml"
    path.write_text("\n".join(GOOD.values()), encoding="utf-8")
    page = remotes.find(str(path))
    assert (page.name, page.source) == ("acme", path.read_text(encoding="utf-8"))


def test_a_page_that_is_too_long_is_refused(tmp_path: Any) -> None:
    """Even an endless one: no more of it is read than a page may have."""
    long, endless = tmp_path / "acme.toml", tmp_path / "zero.toml"
    long.write_text("\n".join([*GOOD.values(), "#" * 2**18]), encoding="utf-8")
    endless.symlink_to("/dev/zero")
    for path in (long, endless):
        with pytest.raises(ConfigurationError, match="more than 262144 bytes"):
            remotes.find(str(path))


def test_a_page_that_is_not_there_says_what_to_do(tmp_path: Any) -> None:
    """Neither a wrong name nor a wrong path, nor a file that is no text, is a traceback."""
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    for where in ("grafix", "../grafx", str(tmp_path / "none.toml"), str(tmp_path / "bad.toml"), f"{tmp_path}/x/.toml"):
        with pytest.raises(ConfigurationError) as raised:
            remotes.find(where)
        assert raised.value.hint
