"""Six shipped pages beyond their own examples: bodies, headers, credentials, several links."""

from base64 import b64encode
from collections.abc import Generator
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from poller import remotes
from poller.address import Origin
from poller.errand import Found, Heard, Misfit, Started, Wish
from poller.outcome import Absent, Trouble
from poller.remote import Caps, Denied, NotReady, Ready, Reply, Request, Token
from poller.remotes.example import carried_out, failures, made_up
from tests.grafx import order

FAMILY = ["google-operation", "ebay-feed", "mirakl", "github-migrations", "docraptor", "printful-mockups"]


def bound(name: str, **settings: str) -> remotes.DeclaredRemote:
    """Bind a shipped page to made-up settings, some of them given."""
    page = remotes.find(name)
    return remotes.bind(page, made_up(page) | settings)


def reply(body: Any = None, status: int = 200, **headers: str) -> Reply:
    """Make a reply; a name's underscores are its header's dashes."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    encoded = b"" if body is None else msgspec.json.encode(body)
    return Reply(status=status, headers=named, body=encoded, url="")


def ask(conversation: Generator[Request, Reply, Any], *said: Reply) -> tuple[list[Request], Any]:
    """Carry out a conversation; give its requests and its answer."""
    return carried_out(conversation, list(said))


def start(remote: remotes.DeclaredRemote, said: Reply, **wanted: Any) -> tuple[Request, Any]:
    """Start a task; give the request and the answer."""
    [request], came = ask(remote.start(remote.fit(Wish(input=wanted))), said)
    return request, came


def sent(request: Request) -> Any:
    """Read a request's body, which has to be JSON."""
    assert request.headers["Content-Type"] == "application/json"
    return msgspec.json.decode(request.body or b"")


def signed(remote: remotes.DeclaredRemote) -> Any:
    """Give the headers of credentials that need no login."""
    assert remote.auth is not None
    requests, token = ask(remote.auth.login(0.0))
    assert requests == []
    return remote.auth.sign(token)


@pytest.mark.parametrize("name", FAMILY)
def test_a_page_does_what_its_examples_say(name: str) -> None:
    """Six examples at least, and each comes out as it says."""
    page = remotes.find(name)
    assert len(page.examples) >= 6
    assert list(failures(page)) == []


@pytest.mark.parametrize("name", FAMILY)
def test_a_page_asks_for_nothing_that_it_does_not_explain(name: str) -> None:
    """Whoever fills in the settings finds a sentence for each, and no secret has a default."""
    for variable in remotes.find(name).settings.values():
        assert variable.why.endswith(".")
        assert not (variable.secret and variable.default)


# --- operations of Google's kind


def test_a_method_of_google_s_is_called_with_its_own_request() -> None:
    """The request is passed on as it is; one without is an empty object, which these services want."""
    remote = bound("google-operation")
    wanted = {"method": "projects/p/documents:export", "request": {"output": {"uri": "gs://b/o"}, "limit": 7}}
    request, came = start(remote, reply({"name": "operations/abc"}), **wanted)
    assert (request.method, sent(request), came) == ("POST", wanted["request"], Started(task_id="operations/abc"))
    request, _ = start(remote, reply({"name": "operations/abc"}), method="documents:export")
    assert (sent(request), request.again) == ({}, False)


def test_an_operation_s_name_is_its_path_and_leads_nowhere_else() -> None:
    """Its slashes stay; a name that climbs, or that is another server's address, is not asked for."""
    remote = bound("google-operation", GOOGLE_OPERATION_TOKEN="t")
    [request], _ = ask(remote.cancel(order("projects/p/operations/a b")), reply({}))
    assert request.url == "https://google-operation.example/projects/p/operations/a%20b:cancel"
    assert (sent(request), signed(remote)) == ({}, {"Authorization": "Bearer t"})
    for task_id in ("operations/../secrets", "https://evil.example/operations/abc"):
        requests, came = ask(remote.check(order(task_id)))
        assert (requests, type(came).__name__) == ([], "Unsafe")


def test_progress_of_an_operation_is_told_where_there_is_any() -> None:
    """Metadata is each service's own; what has no percentage is waited for all the same."""
    remote = bound("google-operation")
    for metadata, progress in (({"progressPercent": 50}, 0.5), ({"progressPercent": "half"}, None), (None, None)):
        _, came = ask(remote.check(order()), reply({"name": "T1", "metadata": metadata}))
        assert came == NotReady(progress=progress)


# --- eBay


def test_ebay_s_token_is_had_for_a_refresh_token() -> None:
    """The client says who it is by Basic, and the body is a form with the refresh token alone."""
    remote = bound("ebay-feed", EBAY_FEED_CLIENT_ID="id", EBAY_FEED_CLIENT_SECRET="s/1", EBAY_FEED_REFRESH_TOKEN="r#1")
    assert remote.auth is not None
    [request], token = ask(remote.auth.login(0.0), reply({"access_token": "abc", "expires_in": 7200}))
    assert (request.method, request.url) == ("POST", "https://api.ebay.com/identity/v1/oauth2/token")
    assert request.headers["Authorization"] == f"Basic {b64encode(b'id:s/1').decode()}"
    assert parse_qs((request.body or b"").decode()) == {"grant_type": ["refresh_token"], "refresh_token": ["r#1"]}
    assert (token, remote.auth.sign(token)) == (Token(value="abc", lifetime=7200.0), {"Authorization": "Bearer abc"})
    _, came = ask(remote.auth.login(0.0), reply({"error": "invalid_grant"}, 400))
    assert isinstance(came, Denied)


def test_ebay_is_told_the_marketplace_with_every_request_and_file() -> None:
    """The header goes with a start, a question and the download."""
    remote = bound("ebay-feed", EBAY_FEED_MARKETPLACE="EBAY_DE")
    name, location = "X-EBAY-C-MARKETPLACE-ID", "https://api.ebay.com/sell/feed/v1/task/task-7"
    request, came = start(remote, reply(status=202, location=location), feed_type="LMS_ORDER_REPORT")
    assert sent(request) == {"feedType": "LMS_ORDER_REPORT", "schemaVersion": "1.0"}
    [question], answer = ask(remote.check(order(came.task_id)), reply({"status": "completed"}))
    [link] = answer.links
    assert [each.headers[name] for each in (request, question, link)] == ["EBAY_DE"] * 3
    assert (link.auth, link.extensions) == (True, {".csv", ".gz", ".xml", ".zip"})


def test_ebay_s_sandbox_is_another_setting_for_both_of_its_addresses() -> None:
    """Tokens of the sandbox come from the sandbox."""
    remote = bound("ebay-feed", EBAY_FEED_URL="https://api.sandbox.ebay.com")
    assert remote.origins == {Origin("https", "api.sandbox.ebay.com", 443)}


def test_ebay_s_tasks_are_listed_by_offset() -> None:
    """A full page is followed by the next."""
    remote = bound("ebay-feed")
    pages = [[{"taskId": f"{page}-{each}"} for each in range(count)] for page, count in enumerate((100, 1))]
    requests, came = ask(
        remote.discover({"feed_type": "A B"}, 1000),
        *(reply({"tasks": tasks}) for tasks in pages),
    )
    assert [request.url.partition("?")[2] for request in requests] == [
        "feed_type=A%20B&limit=100&offset=0",
        "feed_type=A%20B&limit=100&offset=100",
    ]
    assert (len(came.tasks), came.complete) == (101, True)


# --- Mirakl


def test_mirakl_s_key_is_sent_as_it_is() -> None:
    """No scheme stands before it; nor is anybody asked for a token."""
    assert signed(bound("mirakl", MIRAKL_KEY="k-1")) == {"Authorization": "k-1"}


def test_mirakl_takes_a_filter_as_it_is() -> None:
    """Lists and numbers stay what they are; without a filter the body is an empty object."""
    remote = bound("mirakl")
    for given in ({}, {"filter": {"order_state_codes": ["SHIPPED"], "items_per_chunk": 1000}}):
        request, _ = start(remote, reply({"tracking_id": "t"}), **given)
        assert (request.url, sent(request)) == (f"{remote.page_url}/async-export", given.get("filter", {}))


def test_mirakl_s_chunks_keep_their_order_and_the_key_stays_at_home() -> None:
    """Storage elsewhere gets no credentials, whatever is at the marketplace itself does."""
    urls = [f"https://{host}.example/{n}.json" for n, host in enumerate(["mirakl", "storage", "mirakl"])]
    _, came = ask(bound("mirakl").check(order()), reply({"status": "COMPLETED", "urls": urls}))
    assert [(link.url, link.auth) for link in came.links] == list(zip(urls, [True, False, True], strict=True))


# --- GitHub


def test_github_is_asked_in_the_words_of_one_version() -> None:
    """Type and version go with every request, and with the archive."""
    remote = bound("github-migrations", GITHUB_MIGRATIONS_TOKEN="t")
    request, _ = start(remote, reply({"id": 79}, 201), repositories=["a/b"], lock_repositories=True)
    assert sent(request) == {"repositories": ["a/b"], "lock_repositories": True}
    _, came = ask(remote.check(order("79")), reply({"state": "exported"}))
    said = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    assert said.items() <= request.headers.items()
    assert came.links[0].headers == said
    assert signed(remote) == {"Authorization": "Bearer t"}


def test_github_s_archive_is_there_for_a_week() -> None:
    """And is had where the API is, an Enterprise Server's too."""
    remote = bound("github-migrations", GITHUB_MIGRATIONS_URL="https://git.acme.example/api/v3/")
    _, came = ask(remote.check(order("79")), reply({"state": "exported"}))
    [link] = came.links
    assert link.url.startswith("https://git.acme.example/api/v3/orgs/")
    assert (link.auth, link.extension, remote.delivery.window) == (True, ".tgz", 7 * 86400)


def test_github_s_migrations_are_listed_page_by_page() -> None:
    """Numbers become names; the second page is asked for after a full one."""
    pages = [[{"id": page * 100 + each, "state": "exported"} for each in range(100)] for page in (1, 2)]
    said = [*map(reply, pages), reply([])]
    requests, came = ask(bound("github-migrations").discover({}, 1000), *said)
    assert [request.url.rpartition("&")[2] for request in requests] == ["page=1", "page=2", "page=3"]
    assert isinstance(came, Found)
    assert (came.tasks[0].task_id, len(came.tasks)) == ("100", 200)


def test_deleting_an_archive_is_no_more_than_that() -> None:
    """One that is not there yet cannot be deleted, and the migration goes on."""
    remote = bound("github-migrations")
    for said, kind in ((reply(status=204), Heard), (reply({"message": "Not Found"}, 404), Absent)):
        [request], came = ask(remote.cancel(order("79")), said)
        assert (request.method, type(came)) == ("DELETE", kind)


# --- DocRaptor


def test_docraptor_s_key_is_the_user() -> None:
    """There is a colon, and no password behind it."""
    remote = bound("docraptor", DOCRAPTOR_KEY="key")
    assert signed(remote) == {"Authorization": f"Basic {b64encode(b'key:').decode()}"}


def test_docraptor_makes_documents_asynchronously() -> None:
    """What is not said is left out, what has a default is said."""
    remote = bound("docraptor")
    request, came = start(remote, reply({"status_id": "s"}), content="<p>{x} & é</p>", test=True)
    assert came == Started(task_id="s")
    assert sent(request) == {"async": True, "type": "pdf", "test": True, "document_content": "<p>{x} & é</p>"}
    request, _ = start(remote, reply({"status_id": "s"}), url="https://acme.example/1", name="n", type="xlsx")
    assert sent(request) == {
        "async": True,
        "type": "xlsx",
        "name": "n",
        "test": False,
        "document_url": "https://acme.example/1",
    }
    with pytest.raises(Misfit, match="did you mean 'pdf'"):
        remote.fit(Wish(input={"type": "pdff"}))


def test_docraptor_is_not_waited_for_much_longer_than_it_works() -> None:
    """It gives up after ten minutes, and need not say so."""
    assert bound("docraptor").pacing.deadline == 15 * 60


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ("Name is missing", "Bad; Name is missing"),
        (["Name is missing", "Type is missing"], "Bad; Name is missing; Type is missing"),
        ({"message": "Name is missing"}, "Bad; Name is missing"),
        (None, "Bad"),
    ],
)
def test_docraptor_s_reasons_are_read_in_whatever_form(errors: Any, reason: str) -> None:
    """A text, a list and an object of validation errors all stand behind the message."""
    _, came = ask(
        bound("docraptor").check(order()), reply({"status": "failed", "message": "Bad", "validation_errors": errors})
    )
    assert came.reason == reason


# --- Printful


@pytest.mark.parametrize("store", ["", "123"])
def test_printful_is_told_a_store_if_there_is_one(store: str) -> None:
    """A header without a value is not sent at all."""
    remote = bound("printful-mockups", PRINTFUL_MOCKUPS_STORE_ID=store, PRINTFUL_MOCKUPS_TOKEN="t")
    [request], _ = ask(remote.check(order("gt 1&x")), reply({"code": 200, "result": {"status": "pending"}}))
    assert request.url.endswith("/mockup-generator/task?task_key=gt%201%26x")
    assert request.headers.get("X-PF-Store-Id", "") == store
    assert ("X-PF-Store-Id" in request.headers) is bool(store)
    assert signed(remote) == {"Authorization": "Bearer t"}


def test_printful_takes_a_request_as_it_is_and_few_of_them() -> None:
    """The product is in the address; the rest is the caller's."""
    remote = bound("printful-mockups")
    wanted = {"variant_ids": [4012], "files": [{"placement": "front", "image_url": "https://acme.example/1.png"}]}
    request, _ = start(remote, reply({"code": 200, "result": {"task_key": "gt"}}), product=71, request=wanted)
    assert (request.url, sent(request)) == (f"{remote.page_url}/create-task/71", wanted)
    assert remote.caps == Caps(requests_per_minute=10)


@pytest.mark.parametrize(
    ("headers", "retry_after", "wait"), [({}, None, 60.0), ({"retry_after": "7"}, 7.0, 7.0)], ids=["silent", "said"]
)
def test_printful_is_left_alone_for_a_minute_unless_it_says_how_long(headers: Any, retry_after: Any, wait: Any) -> None:
    """What it says itself counts more than what is known of it."""
    said = msgspec.structs.replace(reply({"code": 429, "result": "Slow down"}, 429, **headers), retry_after=retry_after)
    _, came = ask(bound("printful-mockups").check(order()), said)
    assert (type(came), came.retry_after, came.status, came.reason) == (Trouble, wait, 429, "Slow down")


def test_printful_s_mockups_come_with_their_extras() -> None:
    """Each mockup is followed by its own; where there are none, nothing is missing."""
    mockups = [
        {
            "mockup_url": "https://f.example/1",
            "extra": [{"url": "https://f.example/1a"}, {"url": "https://f.example/1b"}],
        },
        {"mockup_url": "https://f.example/2", "extra": []},
        {"mockup_url": "https://f.example/3"},
    ]
    said = reply({"code": 200, "result": {"status": "completed", "mockups": mockups}})
    _, came = ask(bound("printful-mockups").check(order()), said)
    assert isinstance(came, Ready)
    assert [link.url.rpartition("/")[2] for link in came.links] == ["1", "1a", "1b", "2", "3"]
    assert not any(link.auth for link in came.links)
