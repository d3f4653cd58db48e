"""The language of pages, construct by construct, as tables of replies and of mistakes: no network here."""

# ruff: noqa: E501 - pages, where a line is a line

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from poller import remotes
from poller.address import Origin
from poller.errand import Found, Heard, Misfit, Nudged, Push, Started, Wish
from poller.errors import ConfigurationError
from poller.modest import Modest
from poller.order import Order, State, place
from poller.outcome import Gone, NothingToFetch, NotReady, Refused, Stuck, Trouble, Unsafe
from poller.remote import Aborted, Denied, Ready, Reply, Request, Token
from poller.remotes import example, expression, lines, request, scene, stamp, template
from poller.remotes.declared import DeclaredRemote
from poller.remotes.plugin import Plugin
from tests.test_declared import converse

HEAD = """
name = "acme"
base = "https://acme.example/api"
settings = { ACME_KEY = "secret", ACME_USER = "optional", ACME_OTHER = "optional secret" }
"""
CHECK = """
[check]
get   = "t/{task_id}"
ready = "body.url"
[[file]]
link = "body.url"
"""
VALUES = {"ACME_KEY": "canary-key", "ACME_USER": "some-user"}


def remote(text: str, values: Mapping[str, str] = VALUES) -> DeclaredRemote:
    """Bind a page."""
    return DeclaredRemote(remotes.parse(HEAD + text, where="acme.toml"), values)


def problems(text: str, head: str = HEAD) -> dict[str, str]:
    """Read a page that has mistakes."""
    with pytest.raises(ConfigurationError) as raised:
        remotes.parse(head + text, where="acme.toml")
    return dict(raised.value.problems)


def order(task_id: str = "T1", **more: Any) -> Order:
    """Make an order."""
    return place("acme", task_id, 1_800_000_000.0, deadline=2e9, **more)


def said(body: Any = None, status: int = 200, *, url: str = "https://acme.example/api/t/T1", **more: Any) -> Reply:
    """Make a reply."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    headers = {name.lower(): value for name, value in more.pop("headers", {}).items()}
    return Reply(status=status, headers=headers, body=raw, url=url, **more)


# --- words and expressions


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("RUNNING", NotReady),
        ("running ", NotReady),
        (3, NotReady),
        (True, NotReady),
        ("done", NothingToFetch),
        ("Over", Gone),
    ],
)
def test_a_word_is_compared_in_capitals_or_not(word: Any, verdict: type) -> None:
    """Texts, numbers and booleans are words."""
    it = remote(
        '[check]\nget = "t"\nword = "body.s"\npending = ["running", 3, true]\ndone = ["done"]\ngone = ["over"]\n'
    )
    assert type(converse(it.check(order()), said({"s": word}))[1]) is verdict


def test_words_count_in_good_replies_only() -> None:
    """An error page that happens to hold the word for failure is an error all the same."""
    it = remote('[check]\nget = "t"\nword = "body.s"\nfailed = ["error"]\ndone = ["ok"]\n')
    assert type(converse(it.check(order()), said({"s": "error"}, 503))[1]) is Trouble
    assert type(converse(it.check(order()), said({"s": "error"}))[1]) is Refused


def test_a_trouble_is_tried_again_when_the_remote_wishes() -> None:
    """The page may know better than Retry-After where the wish is."""
    it = remote('[check]\nget = "t"\ntrouble = "body.busy"\ndone = "body.ok"\nretry_after = "body.wait"\n')
    for wait, expected in ((30, 30.0), ("45", 45.0), (True, 7.0), ("soon", 7.0), (-1, 7.0), (None, 7.0), ([], 7.0)):
        _, answer = converse(it.check(order()), said({"busy": True, "wait": wait}, retry_after=7.0))
        assert (type(answer), answer.retry_after) == (Trouble, expected)
    assert converse(it.check(order()), said({"wait": 9}, 429))[1].retry_after == 9.0


def test_reasons_are_told_once_however_they_are_written() -> None:
    """Texts, objects that hold them, lists of both."""
    it = remote('[check]\nget = "t"\nfailed = "body.errors"\ndone = "body.ok"\nreason = "body.errors"\n')
    errors = [{"err": "E", "message": "no ink"}, "no ink", {"detail": {"title": "and no paper"}}, 7, {"x": 1}]
    assert converse(it.check(order()), said({"errors": errors}))[1].reason == "no ink; and no paper"


def test_the_remote_s_own_clock_can_be_kept() -> None:
    """A date in a header is one that can be compared; nonsense is none."""
    assert scene.date("Sun, 01 Nov 2026 10:00:00 GMT") == "2026-11-01T10:00:00.000Z"
    assert scene.date("Sunday, 01-Nov-26 10:00:00 GMT") == "2026-11-01T10:00:00.000Z"
    assert (scene.date("soon"), scene.date(None)) == (None, None)


@pytest.mark.parametrize(
    ("task_id", "moment"),
    [
        ("auto-01HF7YAT00ABCDEFGHJKMNPQRS", 1_700_000_000.0),
        ("01hf7yat00abcdefghjkmnpqrs", 1_700_000_000.0),
        ("018bcfe5-6800-7abc-8def-0123456789ab", 1_700_000_000.0),
        ("04afc000-833b-11ee-8def-0123456789ab", 1_700_000_000.0),
        ("1ee833b0-4afc-6000-8def-0123456789ab", 1_700_000_000.0),
        ("84ad7436-0bd4-4ba2-bd0f-2d4c4b3f3b1c", None),
        ("batch_01", None),
        ("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", None),
    ],
)
def test_a_task_id_may_tell_when_it_was_made(task_id: str, moment: float | None) -> None:
    """ULIDs and the UUIDs that have a time in them."""
    found = stamp.made_at(task_id)
    assert found == (moment if moment is None else pytest.approx(moment, abs=1e-3))


def test_an_expression_that_cannot_be_computed_is_null() -> None:
    """Neither arithmetic with what is not there nor a function of the wrong type is an accident."""
    seen = {"body": {"n": 1, "z": 0, "s": "x"}}
    for text in ("body.n / body.z", "body.n / body.none", "length(body.n)", "body.s > body.n"):
        assert expression.Expression(text).of(seen) is None
        with pytest.raises(ValueError, match=r"\w"):
            expression.Expression(text).strictly(seen)
    assert repr(expression.Expression("body.n")) == "Expression('body.n')"


def test_another_package_of_that_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one without arithmetic reads pages otherwise than they are meant."""

    def plain(text: str) -> Any:
        raise expression.JMESPathError(text)

    monkeypatch.setattr(expression.jmespath, "compile", plain)
    with pytest.raises(ConfigurationError, match=r"jmespath-community"):
        remotes.parse(HEAD + CHECK, where="acme.toml")


def test_more_of_an_address_than_is_wanted_is_cut_off() -> None:
    """Who pastes the address of the API means the same as who gives that of the server."""
    page = remotes.page("saleor")
    for url in ("https://shop.example", "https://shop.example/", "https://shop.example/graphql/"):
        it = DeclaredRemote(page, {"SALEOR_URL": url, "SALEOR_TOKEN": "t"})
        assert next(it.check(order())).url == "https://shop.example/graphql/"


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("body.s == 'x' || body.\"a b\".c == 'y'", ["body.s", 'body."a b".c']),
        ("contains(['a', 'b'], body.s)", ["body.s"]),
        ("lower(body.s) == 'x'", ["body.s"]),
        ("lower(length(body.s)) == 'x'", []),
        ("status == `200`", []),
    ],
)
def test_what_is_compared_with_words_is_found(text: str, compared: list[str]) -> None:
    """It is what an unknown word is told by."""
    assert [each.text for each in expression.Expression(text).compared()] == compared


# --- requests


def test_values_stay_values_wherever_they_are_put() -> None:
    """JSON, a form, several parts, GraphQL, headers and addresses: nothing ends the place that it was given."""
    nasty = 'x"},{"a":1}\r\nX: y&b=2#{task_id}'
    it = remote(
        """
headers = { X-Tenant = "{ACME_USER}" }
[start.json]
post = "s"
json = { whole = "{input.v}", inner = "<{input.v}>", list = ["{input.v}", "{input.none}"], n = "{input.n}", fixed = 1, missing = "{input.none}", open = "{ x }" }
task_id = "body.id"
input = { v = "required", n = "optional", none = "optional" }
[start.form]
put = "s"
form = { v = "{input.v}", list = "{input.list}", t = "{input.t}", flag = "{dry_run}" }
headers = { X-Start = "{start_id}", X-None = "{input.none}" }
task_id = "body.id"
input = { v = "required", list = "optional", t = "optional", none = "optional" }
[start.multipart]
post = "s"
multipart = { v = "{input.v}", file = { filename = "{input.file.filename}", content = "{input.file.content}", type = "{input.file.type}" }, files = "{input.files}" }
task_id = "body.id"
input = { v = "required", file = "optional", files = "optional" }
[start.graphql]
graphql = "g"
query = "mutation ($v: String!) { go(v: $v) { id } }"
variables = { v = "{input.v}" }
task_id = "body.id"
input = { v = "required" }
[start.address]
get = "s/{input.v}{?input.v}"
params = { q = "{input.v}", none = "{input.none}" }
task_id = "body.id"
input = { v = "required", none = "optional" }
"""
        + CHECK
    )

    def sent(kind: str, **given: Any) -> Request:
        wish = it.fit(Wish(kind=kind, input={"v": nasty, **given}, start_id="S1", dry_run=True))
        requests, answer = converse(it.start(wish), said({"id": 7}, 201))
        assert answer == Started(task_id="7")
        assert requests[0].headers["X-Tenant"] == "some-user"
        return requests[0]

    body = json.loads(sent("json", n=2).body or b"")
    assert body == {"whole": nasty, "inner": f"<{nasty}>", "list": [nasty], "n": 2, "fixed": 1, "open": "{ x }"}
    form = sent("form", list=["a", 1], t={"a": [1]})
    assert parse_qsl((form.body or b"").decode()) == [
        ("v", nasty),
        ("list", "a"),
        ("list", "1"),
        ("t", '{"a":[1]}'),
        ("flag", "true"),
    ]
    assert (form.method, form.headers["X-Start"], "X-None" in form.headers) == ("PUT", "S1", False)
    assert json.loads(sent("graphql").body or b"")["variables"] == {"v": nasty}
    file = {"filename": 'a"\r\n.csv', "content": "a,b", "type": "text/csv\r\nX: y"}
    parts = sent("multipart", file=file, files=[{"content": {"a": 1}}, "plain"])
    boundary = parts.headers["Content-Type"].partition("boundary=")[2].encode()
    assert (parts.body or b"").count(b"--" + boundary) == 5
    assert b'filename="a%22%0D%0A.csv"\r\nContent-Type: text/csv%0D%0AX: y\r\n\r\na,b\r\n' in (parts.body or b"")
    address = sent("address")
    assert "\r" not in address.url
    assert "#" not in address.url
    assert address.url.count("?") == 1


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.text(), st.integers(), st.booleans(), st.lists(st.text()))))
def test_a_shape_takes_a_value_as_it_is(value: dict[str, Any]) -> None:
    """A text that is nothing but a name becomes the value itself, whatever that holds."""
    assert template.filled({"a": "{v}", "b": ["{v}"]}, {"v": value}) == {"a": value, "b": [value]}
    assert template.filled(7, {"v": value}) == 7


def test_names_have_dots_and_missing_ones_leave_nothing() -> None:
    """Values within values are found; what is not there is nothing, in a text too."""
    values = {"input": {"a": {"b": "x"}}, "a.b": "whole"}
    assert template.look_up("input.a.b", values) == "x"
    assert template.look_up("a.b", values) == "whole"
    assert template.look_up("input.a.b.c", values) is None
    assert template.text("<{input.a.b}{none}>", values) == "<x>"
    assert list(template.names({"x": ["{a}", {"y": "{b.c}"}], "z": 7})) == ["a", "b.c"]


def test_an_address_says_what_it_lacks() -> None:
    """A part of the path must be there; a parameter need not; lists and tables are taken as the RFC has it."""
    address = template.Address("a/{b}{?c,d*}")
    assert repr(address) == "Address('a/{b}{?c,d*}')"
    assert address.filled({"b": 1, "d": {"x[gte]": 2}}) == "a/1?x%5Bgte%5D=2"
    assert address.filled({"b": [1, True]}) == "a/1,true"
    assert template.Address("{+b}/x").filled({"b": "https://x.example/"}) == "https://x.example/x"
    assert template.Address("{+b}").filled({"b": "https://x.example/"}) == "https://x.example/"
    with pytest.raises(template.Incomplete, match=r"needs {b}"):
        address.filled({})
    with pytest.raises(template.Incomplete, match="climb"):
        address.filled({"b": ".."})
    with pytest.raises(template.Incomplete, match="no text"):
        address.filled({"b": "\ud800"})


def test_addresses_of_others_are_not_asked() -> None:
    """A task ID may be an address, if it is of an origin that the operator named."""
    it = remote('allow_origins = ["https://poll.example"]\n[check]\nget = "{+task_id}"\ndone = "body.ok"\n')
    for good in ("https://acme.example/x?a=b", "https://poll.example/op/1"):
        requests, _ = converse(it.check(order(good)), said({"ok": 1}))
        assert requests[0].url == good
    for bad in ("https://evil.example/x", "http://acme.example/x", "ftp://x", "https://"):
        assert type(converse(it.check(order(bad)))[1]) is Unsafe
    assert request.absolute("?a=b", "https://x.example") == "https://x.example?a=b"
    assert request.absolute("", "https://x.example") == "https://x.example"


# --- further steps


THEN = """
[check]
get   = "t/{task_id}"
ready = "body.state == 'done'"
keep  = { file_id = "body.file", none = "body.none" }
[[check.then]]
post  = "links"
json  = { id = "{file_id}" }
keep  = { url = "body.url" }
pending = "status == `202`"
[[check.then]]
get   = "links/{file_id}"
ready = "body.ok"
failed = "body.bad"
[[file]]
link = "vars.url"
"""


def test_further_requests_know_what_was_kept() -> None:
    """Each step sees what those before it have kept; the last reply and all that was kept lead to the file."""
    it = remote(THEN)
    steps = [said({"state": "done", "file": "F"}), said({"url": "https://files.example/1"}), said({"ok": 1})]
    requests, answer = converse(it.check(order()), *steps)
    assert [each.url.rpartition("/api/")[2] for each in requests] == ["t/T1", "links", "links/F"]
    assert json.loads(requests[1].body or b"") == {"id": "F"}
    assert [link.url for link in answer.links] == ["https://files.example/1"]
    assert type(converse(it.check(order()), steps[0], said(None, 202))[1]) is NotReady
    assert type(converse(it.check(order()), steps[0], said(None, 500))[1]) is Trouble
    assert type(converse(it.check(order()), steps[0], steps[1], said({"bad": 1}))[1]) is Refused
    assert json.loads(converse(it.check(order()), said({"state": "done"}), said(None, 202))[0][1].body or b"") == {}
    assert converse(it.check(order()), Aborted(NotReady()))[1] == NotReady()


def test_an_abortion_that_no_conversation_may_say_goes_on() -> None:
    """What the client gives up with, but no page can answer, is for the client's caller."""
    it = remote(CHECK)
    with pytest.raises(Aborted):
        converse(it.check(order()), Aborted(Stuck(reason="disk")))


REPORTS = """
[check]
get = "t/{task_id}"
failed = "body.bad"
done = "body.ok"
reason = "body.bad"
[check.report]
"""


def test_a_report_may_be_at_a_link_or_had_by_a_request() -> None:
    """What it says can be the reason; one that cannot be had changes nothing."""
    it = remote(REPORTS + 'link = "body.report"\nreason = "body.why"\n')
    requests, answer = converse(it.check(order()), said({"bad": "x", "report": "/r/1"}), said({"why": "no ink"}))
    assert requests[1].url == "https://acme.example/r/1"
    assert (answer.reason, answer.report) == ("x; no ink", '{"why": "no ink"}')
    assert converse(it.check(order()), said({"bad": "x"}))[1].reason == "x"
    it = remote(REPORTS + 'get = "t/{task_id}/errors{?context.page}"\n')
    requests, answer = converse(it.check(order()), said({"bad": "x"}), said(b"lines"))
    assert (requests[1].url[-9:], answer.report) == ("T1/errors", "lines")
    it = remote(REPORTS + 'get = "{+context.where}"\n')
    assert converse(it.check(order()), said({"bad": "x"}))[1].reason == "x"


def test_a_failed_confirmation_says_so() -> None:
    """Whatever a page says of its reply counts; a success is a success."""
    it = remote(
        '[confirm]\npost = "c/{task_id}"\nfailed = "body.no"\nreason = "body.no"\n[cancel]\npost = "x/{context.where}"\n'
        + CHECK
    )
    assert type(converse(it.confirm(order()), said())[1]) is NotReady
    assert converse(it.confirm(order()), said({"no": "too late"}))[1] == Refused(
        reason="too late", status=200, address="https://acme.example/api/t/T1"
    )
    assert converse(it.cancel(order(context={"where": "w"})), said())[1] == Heard()
    assert type(converse(it.cancel(order()))[1]) is Unsafe
    assert {"confirm", "cancel"} == it.abilities


def test_what_a_page_does_not_say_is_refused() -> None:
    """A page with a check can only check."""
    it = remote(CHECK)
    assert it.abilities == frozenset()
    assert it.kinds == {}
    push = Push(headers={}, body=b"")
    for conversation in (it.cancel(order()), it.discover({}, 1), it.look({}), it.heed(push, 0.0), it.confirm(order())):
        assert type(converse(conversation)[1]) is Refused
    with pytest.raises(Misfit, match="no \\[start\\]"):
        it.fit(Wish())
    assert it.tells(order()) is False
    assert converse(it.tell(order()))[1] == Heard()


def test_a_start_gives_a_task_or_says_why_not() -> None:
    """Only a good reply that names a task is one."""
    it = remote(
        '[start]\npost = "s"\ntask_id = "body.id"\nfailed = "length(body.no) == `1`"\nkeep = { more = "body.more" }\n'
        + CHECK
    )

    def start(*replies: Reply) -> Any:
        return converse(it.start(it.fit(Wish())), *replies)[1]

    assert start(said({"id": "A", "no": "", "more": {"x": 1}})) == Started(task_id="A", kept={"more": {"x": 1}})
    assert type(start(said({"id": "A", "no": "x"}))) is Refused
    assert "cannot be read" in start(said({"id": "A"})).reason
    for bad in (
        {"no": ""},
        {"id": "", "no": ""},
        {"id": True, "no": ""},
        {"id": "x" * 600, "no": ""},
        {"id": "a\x07", "no": ""},
    ):
        assert type(start(said(bad))) is Trouble
    assert type(start(said({"no": ""}, 500))) is Trouble
    assert converse(it.start(it.fit(Wish())), Aborted(Trouble(reason="reset")))[1].reason == "reset"


def test_a_wish_is_checked_before_anybody_is_asked() -> None:
    """Unknown inputs, missing ones, words that are none of the choices; the first kind is meant where none is named."""
    it = remote(
        """
[start.sales]
why = "Sells."
post = "s"
json = "{input.options}"
task_id = "body.id"
input = { size = { choices = ["small", "large"], default = "small" }, options = { default = { a = 1 } }, who = { required = true, why = "Say who." } }
[start.other]
post = "o"
task_id = "body.id"
"""
        + CHECK
    )
    assert it.kinds == {"sales": "Sells.", "other": ""}
    assert it.fit(Wish(input={"who": "me"})) == Wish(
        kind="sales", input={"size": "small", "options": {"a": 1}, "who": "me"}
    )
    with pytest.raises(Misfit) as raised:
        it.fit(Wish(kind="sales", input={"sise": 1, "size": "larg"}))
    assert raised.value.faults == (
        ("input.sise", "is not known; did you mean 'size'?"),
        ("input.size", "is one of small, large; did you mean 'large'?"),
        ("input.who", "is required. Say who."),
    )
    with pytest.raises(Misfit, match="did you mean 'sales'"):
        it.fit(Wish(kind="sale"))
    with pytest.raises(Misfit, match="it takes none"):
        it.fit(Wish(kind="other", input={"x": 1}))


def test_a_remote_hears_what_became_of_an_order() -> None:
    """The page says of which, and what; a reply that is no success is told."""
    it = remote(
        '[[after.done]]\nwhen = "task.context.tell"\npost = "d/{task_id}"\njson = { files = "{files}", state = "{state}" }\n[after.failed]\nput = "f/{context.x}"\n'
        + CHECK
    )
    done = replace(order(context={"tell": "yes"}), state=State.DONE)
    assert it.tells(done)
    assert not it.tells(replace(order(), state=State.DONE))
    odd = remote('[[after.done]]\nwhen = "length(task.context.n)"\npost = "a"\n[[after.done]]\npost = "b"\n' + CHECK)
    plain = replace(order(context={"n": 7}), state=State.DONE)
    assert [each.url[-1] for each in converse(odd.tell(plain), said())[0]] == ["b"]
    requests, answer = converse(it.tell(done), said())
    assert (json.loads(requests[0].body or b""), answer) == ({"files": [], "state": "done"}, Heard())
    assert converse(it.tell(done), said(None, 404))[1].status == 404
    failed = replace(order(), state=State.FAILED)
    assert it.tells(failed)
    assert type(converse(it.tell(failed))[1]) is Unsafe
    assert "after" in it.abilities


# --- lists


@pytest.mark.parametrize(
    ("paging", "replies", "asked"),
    [
        ('get = "l"', [[1, 2]], ["l"]),
        ('get = "l{?offset,limit}"\nlimit = 2', [[1, 2], [3]], ["l?offset=0&limit=2", "l?offset=2&limit=2"]),
        ('get = "l{?offset}"\ntotal = "body.total"', [[1, 2], [3], [4]], ["l?offset=0", "l?offset=2", "l?offset=3"]),
        ('get = "l{?page}"\nlimit = 2\nfirst_page = 0', [[1, 2], [3]], ["l?page=0", "l?page=1"]),
        ('get = "l{?page}"\nlimit = 2', [[1, 2], []], ["l?page=1", "l?page=2"]),
        ('get = "l{?page}"\nmore = "body.more"', [[1], [2]], ["l?page=1", "l?page=2"]),
        ('get = "l{?cursor}"\ncursor = "body.next"', [[1], [2]], ["l", "l?cursor=c1"]),
        ('get = "l"\nparams = { after = "{cursor}" }\ncursor = "body.next"', [[1], [2]], ["l", "l?after=c1"]),
        ('get = "l"\nnext = "body.link"', [[1], [2]], ["l", "more/2"]),
    ],
)
def test_a_list_is_read_to_its_end(paging: str, replies: list[list[int]], asked: list[str]) -> None:
    """Each of the ways in which pages follow each other."""
    it = remote(
        f'[discover]\n{paging}\nitems = "body.items"\ntask_id = "id"\ncontext = {{ kind = "kind", none = "none" }}\nonly = "kind"\n'
        + CHECK
    )
    pages = []
    for number, ids in enumerate(replies, 1):
        last = number == len(replies)
        body: dict[str, Any] = {
            "items": [{"id": each, "kind": "k"} for each in ids],
            "more": not last,
            "total": sum(map(len, replies)),
        }
        body |= {} if last else {"next": f"c{number}", "link": f"/api/more/{number + 1}"}
        pages.append(said(body))
    requests, found = converse(it.discover({}, 100), *pages)
    assert [each.url.removeprefix("https://acme.example/api/") for each in requests] == asked
    assert [task.task_id for task in found.tasks] == [str(each) for ids in replies for each in ids]
    assert (found.tasks[0].context, found.complete) == ({"kind": "k"}, True)


def test_a_list_that_is_odd_ends_all_the_same() -> None:
    """A cursor that does not move, items that are none, more than anybody wants, a next page elsewhere, an error."""
    it = remote(
        '[discover]\nget = "l{?cursor}"\ncursor = "body.next"\nitems = "body.items"\ntask_id = "id"\nreason = "body.errors"\n'
        + CHECK
    )
    odd = said({"items": [{"id": None}, {"id": {}}, {}, 7, {"id": 0}, {"id": "a"}, {"id": "a"}], "next": "c"})
    requests, found = converse(it.discover({}, 100), odd, odd)
    assert ([task.task_id for task in found.tasks], len(requests)) == (["0", "a"], 2)
    requests, found = converse(it.discover({}, 1), odd)
    assert ([task.task_id for task in found.tasks], found.complete) == (["0"], False)
    assert converse(it.discover({}, 9), said({"errors": "denied"}))[1].reason == "denied"
    assert type(converse(it.discover({}, 9), said(None, 500))[1]) is Trouble
    assert type(converse(it.discover({}, 9), Aborted(Trouble(reason="x")))[1]) is Trouble
    it = remote(
        '[discover]\nget = "l"\nnext = "body.link"\nitems = "body.items"\ntask_id = "id"\ninput = { a = "optional" }\n'
        + CHECK
    )
    assert type(converse(it.discover({"a": 1}, 9), said({"items": [], "link": "https://evil.example/"}))[1]) is Unsafe
    endless = said({"items": [{"id": 1}], "link": "/api/l"})
    requests, found = converse(it.discover({}, 9), endless)
    assert (len(requests), [task.task_id for task in found.tasks]) == (1, ["1"])
    farther = [said({"items": [{"id": 1}], "link": f"/api/l?n={number}"}) for number in range(1000)]
    requests, found = converse(it.discover({}, 9), *farther)
    assert (len(requests), found.complete) == (1000, False)
    with pytest.raises(Misfit):
        next(it.discover({"b": 1}, 9))
    assert isinstance(found, Found)


def test_pages_after_the_first_are_asked_in_the_same_way() -> None:
    """With the page's headers and the same body; a next address is taken as it is."""
    it = remote(
        'headers = { X-Tenant = "{ACME_USER}" }\n[discover]\npost = "l"\njson = { who = "{input.who}" }\nnext = "body.link"\n'
        'items = "body.items"\ntask_id = "id"\ninput = { who = "required" }\n' + CHECK
    )
    first, last = said({"items": [{"id": 1}], "link": "/api/l?cursor=a%2Fb%3D&x=1"}), said({"items": [{"id": 2}]})
    requests, found = converse(it.discover({"who": "me"}, 9), first, last)
    assert [each.headers["X-Tenant"] for each in requests] == ["some-user"] * 2
    assert [json.loads(each.body or b"") for each in requests] == [{"who": "me"}] * 2
    assert requests[1].url == "https://acme.example/api/l?cursor=a%2Fb%3D&x=1"
    assert len(found.tasks) == 2


def test_a_query_is_written_as_most_servers_read_it() -> None:
    """Lists as a name several times, tables with brackets, a whole table by its name; what is missing is left out."""
    it = remote(
        '[start]\npost = "s?a=1"\nparams = "{input.q}"\ntask_id = "body.id"\ninput = { q = "optional" }\n'
        '[discover]\nget = "l"\nparams = { where = "{input.a}", none = "{input.b}" }\nitems = "body"\ntask_id = "id"\n'
        'input = { a = "optional", b = "optional" }\n' + CHECK
    )
    wish = {"status": ["a", "b&c"], "at": {"gte": 1, "in": [2, 3]}, "on": True}
    requests, _ = converse(it.start(it.fit(Wish(input={"q": wish}))), said({"id": "x"}))
    assert parse_qsl(requests[0].url.partition("?")[2]) == [
        ("a", "1"),
        ("status[]", "a"),
        ("status[]", "b&c"),
        ("at[gte]", "1"),
        ("at[in][]", "2"),
        ("at[in][]", "3"),
        ("on", "true"),
    ]
    assert converse(it.start(it.fit(Wish())), said({"id": "x"}))[0][0].url.endswith("/s?a=1")
    assert converse(it.start(it.fit(Wish(input={"q": "odd"}))), said({"id": "x"}))[0][0].url.endswith("/s?a=1")
    assert converse(it.discover({"a": {"b": [1, 2]}}, 1), said([]))[0][0].url.endswith("where%5Bb%5D=1&where%5Bb%5D=2")


def test_what_a_check_needs_is_taken_from_the_wish_for_a_list() -> None:
    """Else nobody could ask about what was found."""
    it = remote(
        '[discover]\nget = "{input.lang}/l"\nitems = "body"\ntask_id = "id"\ninput = { lang = "required", x = "optional" }\n'
        '[check]\nget = "{lang}/t/{task_id}"\ndone = "body"\n'
    )
    found = converse(it.discover({"lang": "en", "x": 1}, 9), said([{"id": 1}]))[1]
    assert found.tasks[0].context == {"lang": "en"}


def test_an_answer_may_be_the_file_itself() -> None:
    """Then it is fetched where it was asked for; what is JSON is read."""
    it = remote(
        '[check]\nget = "t/{task_id}"\nat_once = "status == `200` && headers.\\"content-type\\" != \'application/json\'"\n'
        'pending = "body.wait"\ndone = "body.none"\n[[file]]\nlink = "body.url"\n'
    )
    requests, answer = converse(it.check(order()), said(b"", headers={"Content-Type": "application/pdf"}, sha256="ab"))
    assert (requests[0].digest, [link.url for link in answer.links]) == (True, ["https://acme.example/api/t/T1"])
    assert (
        type(converse(it.check(order()), said({"wait": 1}, headers={"Content-Type": "application/json"}))[1])
        is NotReady
    )


def test_a_page_may_say_what_everything_else_means() -> None:
    """Of good replies; errors go by their status as before."""
    it = remote('[check]\nget = "t"\nword = "body.s"\nfailed = ["no"]\notherwise = "pending"\ndone = ["ok"]\n')
    assert type(converse(it.check(order()), said({"s": "some new word"}))[1]) is NotReady
    assert type(converse(it.check(order()), said({"s": "no"}))[1]) is Refused
    assert type(converse(it.check(order()), said({}, 500))[1]) is Trouble
    it = remote('[check]\nget = "t"\npending = "body.wait"\notherwise = "ready"\n[[file]]\nlink = "body.url"\n')
    assert type(converse(it.check(order()), said({"url": "/f"}))[1]) is Ready


def test_a_failure_without_a_reason_says_what_the_remote_said() -> None:
    """Its word is more than that it answered 200."""
    it = remote('[check]\nget = "t"\nword = "body.s"\nfailed = ["stopped"]\ndone = ["ok"]\n')
    assert converse(it.check(order()), said({"s": "STOPPED"}))[1].reason == "the remote says body.s 'STOPPED'"
    assert converse(it.check(order()), said({"s": "STOPPED"}, 400))[1].reason == "the remote answered 400"


# --- hostile values


def test_hostile_values_are_no_accidents() -> None:
    """Numbers of hundreds of digits, hundreds of levels, names that Python has a meaning for."""
    it = remote(
        '[check]\nget = "t"\npending = "body.wait"\nfailed = "body.why"\ndone = "body.ok"\nretry_after = "body.wait"\nreason = "body.why"\n'
    )
    huge = b'{"wait": ' + b"9" * 400 + b"}"
    assert converse(it.check(order()), said(huge, retry_after=7.0))[1] == NotReady(retry_after=7.0)
    deep = b'{"why": ' + b"[" * 600 + b'"x"' + b"]" * 600 + b"}"
    assert converse(it.check(order()), said(deep))[1].reason == "the remote answered 200"
    nested = b'{"why": ' + b'{"message": ' * 300 + b'"x"' + b"}" * 301
    assert type(converse(it.check(order()), said(nested))[1]) is Refused
    text = '[auth.login]\npost = "l"\ntoken = "body.t"\nexpires_in = "body.n"\nlifetime = "1h"\n'
    own = jwt.encode({"exp": 10**400}, "k" * 32)
    assert asked(text, said(b'{"t": "%s", "n": %s}' % (own.encode(), b"9" * 400)))[1].lifetime == 3600.0
    it = remote(
        '[check]\nget = "t/{order}/{self}"\nready = "body.ok"\nkeep = { order = "body.o", self = "body.o", more = "body.o" }\n[[check.then]]\nget = "{order}{self}{more}"\n[[file]]\nlink = "body.l"\n'
    )
    requests, _ = converse(
        it.check(order(context={"order": "a", "self": "b"})), said({"ok": 1, "o": "x"}), said({"l": "/f"})
    )
    assert [each.url.rpartition("/api/")[2] for each in requests] == ["t/a/b", "xxx"]
    with pytest.raises(Denied, match="cannot be signed"):
        asked('[auth.hs256]\nsecret = "{ACME_KEY}"\nclaims = { iss = 5 }\n')
    assert links("[[file]]\nlink = 'body.l'\n", {"l": [[[[[[[[["/deep"]]]]]]]]]}).reason.startswith("the file is ready")


# --- files


def links(text: str, body: Any, **more: Any) -> Any:
    """Ask a page with these files; give the answer."""
    it = remote('[check]\nget = "t"\nready = "status == `200`"\nkeep = { extra = "body.extra" }\n' + text)
    return converse(it.check(order(**more)), said(body))[1]


def test_a_task_may_have_several_files() -> None:
    """Lists at any depth, one address for each ID, one that may be missing, and headers for those at home only."""
    text = """
[[file]]
link = "body.files[].[url, urls]"
headers = { Accept = "text/csv", X-Key = "{ACME_KEY}" }
max_age = "5m"
[[file]]
each = "body.ids"
path = "files/{each.id}/content"
optional = true
max_age = "1m"
[[file]]
path = "files/{extra}"
optional = true
"""
    body = {"files": [{"url": "/a", "urls": ["https://b.example/b", 7]}], "ids": [{"id": "x/y"}, None, {"id": 7}]}
    answer = links(text, body)
    assert [link.url.removeprefix("https://acme.example") for link in answer.links] == [
        "/a",
        "https://b.example/b",
        "/api/files/x%2Fy/content",
        "/api/files/7/content",
    ]
    assert [link.headers for link in answer.links[:2]] == [{"Accept": "text/csv", "X-Key": "canary-key"}, {}]
    assert answer.good_for == 60.0
    assert links(text, body | {"extra": "e"}).links[-1].url.endswith("/files/e")
    assert links(text, {}).reason == "the file is ready, but no link says where"
    assert type(links("[[file]]\npath = 'f/{context.no}'\n", {})) is Unsafe
    assert (
        links("[[file]]\nlink = 'body.x'\noptional = true\n", {}).reason
        == "the task is ready, but there is no file at all"
    )


def test_a_part_may_say_where_the_next_is() -> None:
    """By an address, or by what the page's own address lacks."""
    link = links("[[file]]\nlink = 'body.url'\nnext = 'headers.\"x-next\"'\n", {"url": "/a"}).links[0]

    def head(**headers: str) -> Any:
        return SimpleNamespace(status=200, url=link.url, headers=headers)

    assert link.following(head(**{"x-next": "?part=2"})).url == "https://acme.example/a?part=2"
    assert link.following(head()) is None


# --- ways in


def asked(text: str, *replies: Reply, now: float = 1_800_000_000.0) -> tuple[list[Request], Token, Mapping[str, str]]:
    """Log in with a page; give the requests, the token and the headers."""
    it = remote(text + CHECK)
    assert it.auth is not None
    requests, token = converse(it.auth.login(now), *replies)
    return requests, token, it.auth.sign(token)


def test_standing_credentials_ask_nobody() -> None:
    """A header of any name, a bearer, Basic; what does not change is not renewed."""
    for text, headers in (
        ('[auth]\nheader = { X-Api-Key = "{ACME_KEY}" }\n', {"X-Api-Key": "canary-key"}),
        ('[auth]\nbearer = "{ACME_KEY}"\n', {"Authorization": "Bearer canary-key"}),
        ('[auth]\nbasic = { user = "{ACME_KEY}" }\n', {"Authorization": "Basic Y2FuYXJ5LWtleTo="}),
        ("[auth]\nnone = true\n", {}),
    ):
        assert asked(text)[::2] == ([], headers)
        assert remote(text + CHECK).auth.renewable is False
    with pytest.raises(ConfigurationError, match="is not configured") as raised:
        remote('[auth]\nheader = { X-Api-Key = "{ACME_KEY}" }\n' + CHECK, {"ACME_KEY": "k\r\nX: y"})
    assert "plain ASCII" in raised.value.problems[0][1]


def test_a_login_gives_a_token_for_as_long_as_somebody_says() -> None:
    """The reply, else the token itself, else the page; in whatever header."""
    text = """
[auth]
renew = "body.errors[?code == 'EXPIRED']"
[auth.login]
post = "login"
form = { user = "{ACME_USER}", password = "{ACME_KEY}" }
token = "body.token"
expires_in = "body.seconds"
lifetime = "1h"
denied = "body.denied"
header = { JWTAuthorization = "Bearer {token}" }
"""
    requests, token, headers = asked(text, said({"token": "t", "seconds": 60}))
    assert (requests[0].body, requests[0].auth) == (b"user=some-user&password=canary-key", False)
    assert (token.lifetime, headers) == (60.0, {"JWTAuthorization": "Bearer t"})
    assert asked(text, said({"token": "t"}))[1].lifetime == 3600.0
    own = jwt.encode({"exp": 1_800_000_090}, "k" * 32)
    assert asked(text, said({"token": own}))[1].lifetime == 90.0
    assert asked(text, said({"token": jwt.encode({"a": 1}, "k" * 32)}))[1].lifetime == 3600.0
    for bad in (said({"denied": 1}), said({}, 401), said({}, 422)):
        with pytest.raises(Denied):
            asked(text, bad)
    for bad in (said({}, 503), said({}), said({"token": 7}), said({"token": "a b"}), said({"token": ""})):
        with pytest.raises(Aborted):
            asked(text, bad)
    auth = remote(text + CHECK).auth
    assert auth.refuses(said({"errors": [{"code": "EXPIRED"}]}))
    assert not auth.refuses(said({"errors": [{"code": "OTHER"}]}))
    assert not auth.refuses(said({"errors": 7}))
    odd = remote('[auth]\nbearer = "{ACME_KEY}"\nrenew = "length(body.n) == `1`"\n' + CHECK).auth
    assert not odd.refuses(said({"n": 7}))
    assert auth.renewable


def test_a_login_may_set_a_cookie() -> None:
    """It is sent back as it came, and nothing else of what is set."""
    text = '[auth.login]\npost = "login"\ncookie = "connect.sid"\nlifetime = "10h"\n'
    _, token, headers = asked(text, said({}, cookies={"connect.sid": "s%3Aabc", "other": "x"}))
    assert (token.lifetime, headers) == (36000.0, {"Cookie": "connect.sid=s%3Aabc"})
    for bad in ({}, {"connect.sid": "a;b"}, {"connect.sid": ""}):
        with pytest.raises(Aborted, match="cookie"):
            asked(text, said({}, cookies=bad))


def test_a_token_may_be_signed_by_ourselves() -> None:
    """HS256, with the page's claims and the moments of its life; nobody is asked."""
    text = '[auth.hs256]\nsecret = "{ACME_KEY}"\nclaims = { app = "{ACME_USER}", n = 1 }\nlifetime = "2m"\nheader = { X-APP-TOKEN = "{token}" }\n'
    it = remote(text + CHECK, {"ACME_KEY": "k" * 32, "ACME_USER": "u"})
    _, token = converse(it.auth.login(1000.0))
    claims = jwt.decode(token.value, "k" * 32, algorithms=["HS256"], options={"verify_exp": False, "verify_nbf": False})
    assert claims == {"iat": 1000, "nbf": 1000, "exp": 1120, "app": "u", "n": 1}
    assert (token.lifetime, it.auth.sign(token)) == (120.0, {"X-APP-TOKEN": token.value})
    assert (it.auth.renewable, it.auth.refuses(said({}))) == (True, False)


def test_oauth2_is_asked_as_the_rfc_or_the_vendor_has_it() -> None:
    """A form or JSON, the client in the body or by Basic, a refresh token, any header."""
    text = """
[auth.oauth2]
token_url = "https://acme.example/token"
client_id = "{ACME_USER}"
client_secret = "{ACME_KEY}"
client = "basic"
grant = "refresh_token"
refresh_token = "r"
header = { x-amz-access-token = "{token}" }
"""
    requests, _, headers = asked(text, said({"access_token": "t"}))
    assert requests[0].body == b"grant_type=refresh_token&refresh_token=r"
    assert b64decode(requests[0].headers["Authorization"][6:]) == b"some-user:canary-key"
    assert headers == {"x-amz-access-token": "t"}
    assert not remote(text + CHECK).auth.refuses(said({}))


def test_the_first_way_in_that_is_configured_counts() -> None:
    """And if none is, all are named."""
    text = (
        '[[auth]]\nbearer = "{ACME_OTHER}"\n[[auth]]\nbasic = { user = "{ACME_USER}", password = "{ACME_OTHER}" }\n'
        + CHECK
    )
    assert remote(text, {"ACME_KEY": "k", "ACME_OTHER": "o"}).auth.sign(Token(value="")) == {
        "Authorization": "Bearer o"
    }
    with pytest.raises(ConfigurationError) as raised:
        remote(text, {"ACME_KEY": "k"})
    assert raised.value.problems == (
        ("ACME_OTHER", "is required to be let in; give ACME_OTHER, or ACME_OTHER and ACME_USER"),
    )


# --- pushes


def pushed(
    text: str, body: bytes = b'{"id": "T1"}', headers: Mapping[str, str] | None = None, *replies: Reply, it: Any = None
) -> Any:
    """Have a page heed a push."""
    it = it or remote(f'[nudge]\ntask_id = "body.id"\n{text}\n' + CHECK)
    return converse(it.heed(Push(headers=headers or {}, body=body), 1_800_000_000.0), *replies)[1]


def test_a_push_is_proved_by_a_secret() -> None:
    """In hex or base64, with a prefix or without; as a token of ours, or as a JWT."""
    secret = 'secret = "{ACME_KEY}"'
    digest = hmac.new(b"canary-key", b'{"id": "T1"}', "sha256")
    good = Nudged(task_ids=("T1",))
    assert pushed(f'hmac = "X-Sig"\n{secret}', headers={"x-sig": digest.hexdigest().upper()}) == good
    assert (
        pushed(f'hmac = "X-Sig"\nprefix = "sha256="\n{secret}', headers={"x-sig": f"sha256={digest.hexdigest()}"})
        == good
    )
    base64 = b64encode(digest.digest()).decode()
    assert pushed(f'hmac = "X-Sig"\nencoding = "base64"\n{secret}', headers={"x-sig": base64}) == good
    assert pushed(f'token = "X-Token"\n{secret}', headers={"x-token": "canary-key"}) == good
    long = {"ACME_KEY": "k" * 32}
    token = jwt.encode({"exp": 4_000_000_000}, "k" * 32)
    it = remote(f'[nudge]\njwt = "Authorization"\n{secret}\n' + CHECK, long)
    assert pushed("", headers={"authorization": f"Bearer {token}"}, it=it) == Nudged(task_ids=None)
    for text, headers in (
        ('hmac = "X-Sig"', {"x-sig": "00"}),
        ('hmac = "X-Sig"', {}),
        ('token = "X-Token"', {"x-token": "ü"}),
    ):
        assert type(pushed(f"{text}\n{secret}", headers=headers)) is Refused
    assert type(pushed("", headers={"authorization": "Bearer x"}, it=it)) is Refused


def test_a_push_names_whom_it_is_about() -> None:
    """One task, several, or nobody in particular; one that is not meant is about nobody."""
    text = 'token = "X-Token"\nsecret = "{ACME_KEY}"\n'
    headers = {"x-token": "canary-key"}
    assert pushed(text, b'{"id": ["a", 7, null, true]}', headers) == Nudged(task_ids=("a", "7"))
    assert pushed(text, b"no json", headers) == Nudged(task_ids=None)
    unset = remote('[nudge]\ntoken = "X-Token"\nsecret = "whsec_{ACME_OTHER}"\n' + CHECK)
    assert type(pushed("", headers={"x-token": "whsec_"}, it=unset)) is Refused
    assert type(pushed(text, headers={"x-token": "\udcff"})) is Refused
    assert pushed(text + 'when = "body.done"', b'{"id": "a"}', headers) == Nudged(task_ids=())


def test_a_signature_is_checked_with_the_remote_s_keys() -> None:
    """They are fetched once, and again only for a key that is not known, and not each time."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    body = b'{"id": "T1"}'

    def keys(*privates: Any) -> Reply:
        public = [json.loads(jwt.algorithms.ECAlgorithm.to_jwk(each.public_key())) for each in privates]
        return said({"keys": [*public, {"kty": "nonsense"}, 7, {"kty": "oct", "k": "AA", "use": "enc"}]})

    def sign(by: Any) -> str:
        return str(jwt.PyJWS().encode(body, by, "ES256", is_payload_detached=True, headers={"b64": False}))

    it = remote('[nudge]\njws = "X-Sig"\nkeys = "https://acme.example/keys"\n' + CHECK)

    def heed(signature: str, now: float, *replies: Reply) -> Any:
        return converse(it.heed(Push(headers={"x-sig": signature}, body=body), now), *replies)

    requests, nudged = heed(sign(key), 0.0, keys(key))
    assert (requests[0].url, requests[0].auth, nudged) == ("https://acme.example/keys", False, Nudged(task_ids=None))
    assert heed(sign(key), 1.0) == ([], Nudged(task_ids=None))
    assert type(heed(sign(other), 2.0)[1]) is Refused
    assert heed(sign(other), 100.0, keys(key, other))[1] == Nudged(task_ids=None)
    plain = jwt.PyJWS().encode(body, other, "ES256")
    head, _, tail = plain.split(".")
    assert heed(f"{head}..{tail}", 101.0)[1] == Nudged(task_ids=None)
    for nonsense in ("", "a.b.c", "a..", "..", "€..x"):
        assert type(heed(nonsense, 102.0)[1]) is Refused
    late = 100.0 + 3601.0
    down = heed(sign(other), late, said({}, 500))[1]
    assert (type(down), "answered 500 without keys" in down.reason) == (Trouble, True)
    assert type(heed(sign(other), late + 1.0)[1]) is Trouble
    assert heed(sign(other), late + 6.0, Denied("no"))[1].reason == "the remote's keys cannot be had: no"
    assert heed(sign(other), late + 12.0, keys(other))[1] == Nudged(task_ids=None)
    fresh = remote('[nudge]\njws = "X-Sig"\nkeys = "https://acme.example/keys"\n' + CHECK)
    pushes = [fresh.heed(Push(headers={"x-sig": sign(key)}, body=body), 0.0) for _ in range(2)]
    assert [next(each).url for each in pushes] == ["https://acme.example/keys"] * 2
    for each in pushes:
        with pytest.raises(StopIteration) as ended:
            each.send(keys(key))
        assert ended.value.value == Nudged(task_ids=None)
    assert (
        type(
            converse(
                remote('[nudge]\njws = "X"\nkeys = "https://evil.example/k"\n' + CHECK).heed(
                    Push(headers={"x": "a..b"}, body=b""), 0.0
                )
            )[1]
        )
        is Trouble
    )


# --- feeds


def test_a_feed_says_what_is_wrong() -> None:
    """A look that is answered oddly, a time that is none."""
    feed = '[feed]\nget = "latest"\nevery = "{ACME_USER}"\n'
    it = remote(feed, {"ACME_KEY": "k", "ACME_USER": "2m"})
    assert (it.watched, it.abilities) == (120.0, {"feed"})
    weak = converse(it.look({}), said({}, headers={"ETag": 'W/"weak"'}))[1]
    assert len(weak.task_id) == 32
    assert weak.seen["sha256"]
    assert converse(it.look({}), said({}, sha256="ab"))[1].task_id == "ab"
    assert len(converse(it.look({}), said({}, headers={"ETag": '"a b/c"'.replace(" ", "_")}))[1].task_id) == 32
    assert converse(it.look({}), Aborted(Trouble(reason="x")))[1].reason == "x"
    assert converse(it.check(order()))[1].links[0].url == "https://acme.example/api/latest"
    away = 'headers = { X-Key = "{ACME_KEY}" }\nallow_origins = ["https://cdn.example"]\n[feed]\nget = "%s"\n'
    for where, key in (("latest", "canary-key"), ("https://cdn.example/latest", None)):
        asked_at = remote(away % where)
        assert converse(asked_at.look({}), said({}, sha256="ab"))[0][0].headers.get("X-Key") == key
        assert converse(asked_at.check(order()))[1].links[0].headers.get("X-Key") == key
    with pytest.raises(ConfigurationError) as raised:
        remote("[feed]\nget = 'https://evil.example/x'\n")
    assert raised.value.problems[0][0] == "acme: feed.get"
    with pytest.raises(ConfigurationError) as raised:
        remote("[auth.login]\npost = 'https://evil.example/x'\ntoken = 'body.t'\n" + CHECK)
    assert raised.value.problems[0][0] == "acme: auth.login"
    assert converse(it.look({}), said(b"x", headers={"ETag": '""'}, sha256="cd"))[1].task_id == "cd"
    with pytest.raises(ConfigurationError) as raised:
        remote(feed, {"ACME_KEY": "k", "ACME_USER": "often"})
    assert raised.value.problems[0][0] == "acme: feed.every"


# --- mistakes


MISTAKES = [
    ('[check]\nget = "t"\npending = ["x"]\nready = "body.url"\n[[file]]\nlink = "body.url"', "check", "needs word"),
    (
        '[check]\nget = "t"\nready = "state == \'x\'"\n[[file]]\nlink = "body.url"',
        "check.ready",
        "did you mean 'status'?",
    ),
    (
        '[check]\nget = "t"\nready = "sttus == `2`"\n[[file]]\nlink = "body.url"',
        "check.ready",
        "did you mean 'status'?",
    ),
    (
        "[check]\nget = 't'\nready = 'body.s == \"done\"'\n[[file]]\nlink = 'body.url'",
        "check.ready",
        "a text is written 'done'",
    ),
    ('[check]\nget = "t"\nready = "!body.url"\n[[file]]\nlink = "body.url"', "check.ready", "negates only"),
    ('[check]\ngraphql = "t"\njson = {}\nready = "body.url"\n[[file]]\nlink = "body.url"', "check", "needs query"),
    ('[check]\nget = "t"\njson = {}\nform = {}\nready = "body"\n[[file]]\nlink = "body"', "check", "has one body"),
    ('[check]\nget = "t"\nform = "x"\nready = "body"\n[[file]]\nlink = "body"', "check.form", "is a table"),
    ('[check]\nget = "t"\nparams = "x"\nready = "body"\n[[file]]\nlink = "body"', "check.params", "is a table"),
    (
        '[check]\nget = "t"\njson = { a = "{task}" }\nready = "body"\n[[file]]\nlink = "body"',
        "check.json",
        "did you mean 'task_id'?",
    ),
    ('[check]\nget = "t"\nready = "body"', "file", "is needed"),
    (
        '[check]\nget = "t"\nready = "body"\n[check.report]\nlink = "body"\nget = "x"\n[[file]]\nlink = "body"',
        "check.report",
        "is at a link",
    ),
    ('[[check.then]]\nget = "t"\nredy = "x"\n[check]\n', "", ""),
    ("then = 7\n" + CHECK, "then", "is not known here"),
    (
        '[check]\nget = "t"\nparams = "{task_id}&x"\nready = "body"\n[[file]]\nlink = "body"',
        "check.params",
        "the name of one",
    ),
    ("[start]\npost = 's'\n" + CHECK, "start.task_id", "needs task_id"),
    (
        "[start.a]\npost = 's'\ntask_id = 'body.id'\ninput = { x = 7, y = { requird = true } }\n" + CHECK,
        "start.a.input.x",
        "required",
    ),
    (
        "[start]\npost = 's/{input.y}'\ntask_id = 'body.id'\ninput = { x = 'optional' }\n" + CHECK,
        "start.post",
        "unknown name",
    ),
    ("[discover]\nget = 'l'\nonly = 'a ='\n" + CHECK, "discover", "needs items"),
    ("[feed]\nevery = 'soon'\n", "feed.every", "not a duration"),
    ("[feed]\nget = 'x'\n" + CHECK, "feed", "not both"),
    ("[feed]\n", "feed", "needs get"),
    ("[nudge]\njws = 'X'\n" + CHECK, "nudge", "needs keys"),
    (
        '[check]\nget = "t"\nready = "body"\notherwise = "pendng"\n[[file]]\nlink = "body"',
        "check.otherwise",
        "did you mean 'pending'?",
    ),
    ("[nudge]\nhmac = 'X'\n" + CHECK, "nudge", "needs a secret"),
    ("[nudge]\n" + CHECK, "nudge", "needs a proof"),
    ("[auth]\nbasic = {}\n" + CHECK, "auth.basic", "needs a user"),
    (
        '[check]\nget = "t"\nready = "urlencode(body) || lenght(body)"\n[[file]]\nlink = "body"',
        "check.ready",
        "no function",
    ),
    (
        '[check]\nget = "t"\nword = "body"\nready = ["a", "b"]\nfailed = ["B"]\n[[file]]\nlink = "body"',
        "check",
        "word of two verdicts",
    ),
    (
        '[check]\nget = "t"\nready = "body"\nxyzzy = 1\n[[file]]\nlink = "body"',
        "check.xyzzy",
        "known are absent, at_once, confirm",
    ),
    ("[auth]\nhs256 = {}\n" + CHECK, "auth.hs256", "needs a secret"),
    ("[auth.login]\npost = 'l'\n" + CHECK, "auth.login", "gives a token"),
    ("[auth]\nbearer = 'x'\nbasic = { user = 'y' }\n" + CHECK, "auth", "one kind"),
    ("allow_origins = ['{+ACME_KYE}']\n" + CHECK, "allow_origins", "did you mean 'ACME_KEY'?"),
    (
        "[[file]]\nlink = 'body'\nextension = 'csv'\nextensions = ['.csv', 'zip']\n[check]\nget = 't'\nready = 'body'\n",
        "file.extension",
        "an extension is",
    ),
    (
        "[[file]]\nlink = 'body'\nextensions = ['zip']\n[check]\nget = 't'\nready = 'body'\n",
        "file.extensions",
        "an extension is",
    ),
    (
        "[[file]]\nlink = 'body'\nextensions = 7\n[check]\nget = 't'\nready = 'body'\n",
        "file.extensions",
        "list of strings",
    ),
    ("[[after.done]]\npost = 'x'\nwen = 'y'\n" + CHECK, "after.done.wen", "did you mean 'when'?"),
    ("[[example]]\nstep = 'chek'\n" + CHECK, "example.step", "did you mean 'check'?"),
    ("[[example]]\ngives = 'redy'\n" + CHECK, "example.gives", "did you mean 'ready'?"),
]


@pytest.mark.parametrize(("text", "place", "words"), [each for each in MISTAKES if each[1]])
def test_a_mistake_has_its_place_and_its_line(text: str, place: str, words: str) -> None:
    """Whatever is wrong is named where it stands."""
    found = {
        at.partition(": ")[2]: (at.partition(", line ")[2].partition(":")[0], why) for at, why in problems(text).items()
    }
    line, why = found[place]
    assert words in why
    assert line.isdigit() or place == "file"


def test_lines_are_found_in_every_way_of_writing_toml() -> None:
    """Dotted keys, quotes, lists of tables, tables below them, texts and lists over several lines."""
    source = (
        '''a = 1 # [b]
"q k".'r' = """
[not.a.table]
x = 1
"""
[t]
list = [
  "]", # ]
  { z = 1 },
]
k = 'it''
'''.replace("'it''", "'it'")
        + """[[l]]
x = 1
[l.in]
y = 2
[[l]]
x = 3
[[l.deep]]
z = 4
"""
    )
    found = lines.lines(source)
    assert found[("a",)] == 1
    assert found[("q k", "r")] == 2
    assert found[("t",)] == 6
    assert found[("t", "k")] == 11
    assert found[("l", 0, "x")] == 13
    assert found[("l", 0, "in", "y")] == 15
    assert found[("l", 1, "x")] == 17
    assert found[("l", 1, "deep", 0, "z")] == 19
    assert lines.line_of(("t", "list", 1, "z"), found) == 7
    assert lines.line_of(("none",), found) is None
    odd = 'a = 1\u2028\nb = """x \\""" y"""\n[limits."a] #"]\nc = 2\n# \x85[x]\nd.e = 3\nf = \'\'\'\n[no]\n\'\'\'\ng = 4\n'
    found = lines.lines(odd.replace("\u2028", " # \u2028"))
    assert (found[("b",)], found[("limits", "a] #", "c")], found[("limits", "a] #", "d")]) == (2, 4, 6)
    assert found[("limits", "a] #", "g")] == 10
    assert lines.dotted(("l", 1, "deep", 0, "z")) == "l[2].deep.z"


def test_a_page_that_no_parser_takes_is_a_mistake_like_any_other() -> None:
    """Thousands of levels, numbers of thousands of digits, expressions without end."""
    for text in ("a = " + "[" * 5000, "a = " + "9" * 5000):
        with pytest.raises(ConfigurationError, match="is not TOML"):
            remotes.parse(text, where="acme.toml")
    with pytest.raises(ConfigurationError):
        remotes.parse(HEAD + f'[check]\nget = "t"\nready = "{"(" * 3000}body{")" * 3000}"\n', where="acme.toml")


# --- examples


def test_an_example_that_does_not_come_out_says_how() -> None:
    """The answer, what was asked, what it says: each difference is told."""
    page = remotes.parse(
        HEAD
        + "[start]\npost = 's'\ntask_id = 'body.id'\n"
        + CHECK
        + """
[[example]]
replies = [{ body = { url = "/a" } }]
asks    = ["GET t/T2"]
gives   = "gone"
more    = { links = ["/b"] }
[[example]]
gives   = "ready"
[[example]]
step    = "start"
order   = { input = { x = 1 } }
gives   = "misfit"
more    = { faults = [["input.x", "is not known; it takes none"]] }
[[example]]
step    = "start"
order   = { kind = "x" }
gives   = "started"
""",
        where="acme.toml",
    )
    found = list(example.failures(page))
    assert found == [
        (1, "gives ready, not gone"),
        (1, "asks ['GET t/T1']"),
        (1, "gives links = ['https://acme.example/a']"),
        (2, "gives trouble, not ready (one more reply is needed, to GET https://acme.example/api/t/T1)"),
        (4, "gives misfit, not started (kind is not known: there is one)"),
    ]
    assert list(example.failures(remotes.parse(HEAD + CHECK, where="x"))) == []
    feed = DeclaredRemote(remotes.parse(HEAD + "[feed]\nget = 'x'\n", where="x"), VALUES)
    assert example.first_request(feed, "T") is None
    needy = remote("[check]\nget = '{context.a}/{task_id}'\ndone = 'body'\n")
    assert example.first_request(needy, "T").url.endswith("/A/T")
    assert needy.needs == {"a"}
    assert remote("[check]\nget = '{context.a.b}/{task_id}'\ndone = 'body'\n").needs == {"a"}
    foreign = remote("[check]\nget = 'https://evil.example/{task_id}'\ndone = 'body'\n")
    assert type(example.first_request(foreign, "T")) is Unsafe
    assert example.made_up(needy.page, {"ACME_KEY": "real", "ACME_USER": "u"})["ACME_USER"] == "u"
    assert example.made_up(needy.page, {"ACME_KEY": "real"})["ACME_KEY"] == "acme_key"
    assert example.carried_out(_raising(Aborted(Trouble(reason="x"))), [])[1] == Trouble(reason="x")
    assert isinstance(example.carried_out(_raising(Denied("no")), [])[1], Denied)
    assert example._told(Denied("no")) == {"reason": "no"}


def _raising(error: Exception) -> Any:
    if error:
        raise error
    yield


# --- remotes in Python


class Plain(Modest):
    """As little as a remote can be."""

    name = "plain"

    def check(self, order: Order) -> Any:
        yield from ()
        return NothingToFetch()


def test_a_modest_remote_refuses_everything_else() -> None:
    """Whoever writes one has the check to write, and what else it can do."""
    it = Plain()
    it.base = Origin.of("https://plain.example")
    assert it.origins == {it.base}
    push = Push(headers={}, body=b"")
    for conversation in (
        it.confirm(order()),
        it.start(Wish()),
        it.cancel(order()),
        it.discover({}, 1),
        it.look({}),
        it.heed(push, 0.0),
        it.tell(order()),
    ):
        assert converse(conversation)[1].reason.startswith("this remote cannot ")
    with pytest.raises(Misfit):
        it.fit(Wish())
    assert it.tells(order()) is False
    assert converse(it.check(order()))[1] == NothingToFetch()


def test_a_package_may_bring_a_remote(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point: found by its name, its settings read as a page's, and told if it is no good."""
    package = tmp_path / "acme_poller-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-poller\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[poller.remotes]\nplain = acme_poller:PLUGIN\nbad = acme_poller:BAD\nworse = nowhere:X\n"
    )
    (tmp_path / "acme_poller.py").write_text(
        "from poller.address import Origin\n"
        "from poller.remotes import Plugin\n"
        "from tests.test_language import Plain\n"
        "def make(values):\n"
        "    it = Plain()\n"
        "    it.base = Origin.of(values['PLAIN_URL'])\n"
        "    if values['PLAIN_MODE'] == 'odd': raise ValueError('PLAIN_MODE is odd; use even')\n"
        "    return it\n"
        "PLUGIN = Plugin(name='plain', title='Plain', settings={'PLAIN_URL': 'required', 'PLAIN_MODE': 'optional'}, make=make)\n"
        "BAD = 7\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"plain", "bad", "worse"} <= set(remotes.installed())
    found = remotes.find("plain")
    assert isinstance(found, Plugin)
    assert remotes.bind(found, {"PLAIN_URL": "https://plain.example"}).name == "plain"
    for values, words in (({}, "is required"), ({"PLAIN_URL": "https://x.example", "PLAIN_MODE": "odd"}, "use even")):
        with pytest.raises(ConfigurationError) as raised:
            remotes.bind(found, values)
        assert words in raised.value.problems[0][1]
    with pytest.raises(ConfigurationError, match="is written in Python"):
        remotes.page("plain")
    for name in ("bad", "worse"):
        with pytest.raises(ConfigurationError) as refused:
            remotes.find(name)
        assert refused.value.hint
    with pytest.raises(ConfigurationError, match="did you mean 'plain'"):
        remotes.find("plan")
    with pytest.raises(ConfigurationError, match="no Variable"):
        Plugin(name="x", make=found.make, settings={"X": "wanted"})
