"""Shopify, Amazon, Salesforce, Adobe, OpenAI and Azure: their pages' examples, and what no example can say."""

import hmac
from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from poller import remotes
from poller.errand import Nudged, Push, Started, Wish
from poller.outcome import NotReady, Refused, Unsafe
from poller.remote import Head, Link, Ready, Reply, Request, Token
from poller.remotes.example import failures, made_up
from tests.grafx import order
from tests.test_declared import converse

FAMILY = ["adobe-pdf", "amazon-reports", "azure-operation", "openai-batch", "salesforce-bulk", "shopify"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What comes before a part of a file. Satisfies ``remote.Head``."""

    url: str
    headers: dict[str, str]
    status: int = 200


def bound(name: str, **values: str) -> remotes.DeclaredRemote:
    """Bind a shipped page to made up settings, and to *values*."""
    page = remotes.find(name)
    return remotes.bind(page, {**made_up(page), **values})


def reply(status: int = 200, body: Any = None, **headers: str) -> Reply:
    """Make a reply with a JSON body; an underscore in a header's name stands for a dash."""
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    return Reply(status=status, headers=named, body=msgspec.json.encode(body), url="https://acme.example/")


def started(remote: remotes.DeclaredRemote, said: Reply, **given: Any) -> tuple[Request, Any]:
    """Start a task; give the request and its answer."""
    [request], answer = converse(remote.start(remote.fit(Wish(input=given))), said)
    return request, answer


def login(remote: remotes.DeclaredRemote, **issued: Any) -> tuple[Request, Token]:
    """Let a remote log in; give the request and the token."""
    assert remote.auth is not None
    [request], token = converse(remote.auth.login(0.0), reply(body={"access_token": "t", **issued}))
    return request, token


def signed(remote: remotes.DeclaredRemote, token: str = "") -> dict[str, str]:
    """Give the headers that carry a remote's credentials."""
    assert remote.auth is not None
    return dict(remote.auth.sign(Token(value=token)))


def decoded(request: Request) -> Any:
    """Read the JSON that a request carries."""
    assert request.headers["Content-Type"] == "application/json"
    return msgspec.json.decode(request.body or b"")


def form(request: Request) -> dict[str, str]:
    """Read the form that a request carries."""
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    return {name: value for name, [value] in parse_qs((request.body or b"").decode()).items()}


@pytest.mark.parametrize("name", FAMILY)
def test_a_page_s_examples_come_out_as_they_say(name: str) -> None:
    """There are enough of them to show every outcome, and each is right."""
    page = remotes.find(name)
    assert list(failures(page)) == []
    assert len(page.examples) >= 6
    assert {example.step for example in page.examples} >= {"check", "start"}


# --- Shopify

SHOPIFY_ID = "gid://shopify/BulkOperation/1"


def test_shopify_takes_a_query_as_a_variable_of_a_query() -> None:
    """Whatever is in it, it cannot end the document around it."""
    inner = '{ products(query: "tag:\\"x\\") }") { edges { node { id } } } }'
    request, _ = started(bound("shopify"), reply(body={}), query=inner)
    sent = decoded(request)
    assert request.url == "https://shopify.example/admin/api/2026-10/graphql.json"
    assert sent["variables"] == {"query": inner}
    assert "bulkOperationRunQuery(query: $query)" in sent["query"]
    assert not request.again


def test_shopify_is_asked_by_id_with_its_own_header() -> None:
    """The ID, slashes and all, stays in the body."""
    remote = bound("shopify", SHOPIFY_TOKEN="shpat_1")
    [request], _ = converse(remote.check(order(SHOPIFY_ID)), reply(body={"data": {"node": {"status": "CREATED"}}}))
    assert decoded(request)["variables"] == {"id": SHOPIFY_ID}
    assert signed(remote) == {"X-Shopify-Access-Token": "shpat_1"}
    assert (remote.caps.tasks, remote.delivery.window) == (1, 7 * 86400)


@pytest.mark.parametrize(
    ("secret", "topic", "expected"),
    [
        ("s", "bulk_operations/finish", Nudged(task_ids=(SHOPIFY_ID,))),
        ("s", "orders/create", Nudged(task_ids=())),
        ("another", "bulk_operations/finish", Refused),
        ("", "bulk_operations/finish", Refused),
    ],
)
def test_shopify_s_webhook_is_believed_if_the_app_has_signed_it(secret: str, topic: str, expected: Any) -> None:
    """The signature is base64 of the raw body's HMAC; without a secret nothing is believed."""
    body = b'{"admin_graphql_api_id": "gid://shopify/BulkOperation/1", "status": "completed"}'
    proof = b64encode(hmac.digest(b"s", body, "sha256")).decode()
    push = Push(headers={"x-shopify-hmac-sha256": proof, "x-shopify-topic": topic}, body=body)
    _, answer = converse(bound("shopify", SHOPIFY_APP_SECRET=secret).heed(push, 0.0))
    assert answer == expected or type(answer) is expected


# --- Amazon


def test_amazon_s_token_is_refreshed_and_carried_by_its_own_header() -> None:
    """Login with Amazon takes a form; nothing goes in Authorization."""
    remote = bound("amazon-reports")
    request, token = login(remote, expires_in=3600)
    assert request.url == "https://api.amazon.com/auth/o2/token"
    assert form(request) == {
        "grant_type": "refresh_token",
        "client_id": "amazon_client_id",
        "client_secret": "amazon_client_secret",
        "refresh_token": "amazon_refresh_token",
    }
    assert token.lifetime == 3600.0
    assert signed(remote, "Atza|1") == {"x-amz-access-token": "Atza|1"}


def test_amazon_s_403_may_want_a_fresh_token() -> None:
    """That of the API does, one from anywhere else does not."""
    auth = bound("amazon-reports").auth
    assert auth is not None
    expired = {"errors": [{"code": "Unauthorized", "message": "Access to requested resource is denied."}]}
    assert auth.refuses(reply(403, expired))
    assert not auth.refuses(reply(403, {"errors": [{"code": "InvalidInput", "message": "No."}]}))
    assert not auth.refuses(reply(200, expired))


def test_amazon_s_region_says_where_its_reports_are_made() -> None:
    """What was not said about a report is not sent."""
    wish = {"reportType": "GET_ORDERS", "marketplaceIds": ["A1", "A2"], "reportOptions": {"custom": "true"}}
    request, answer = started(bound("amazon-reports", AMAZON_REGION="eu"), reply(202, {"reportId": "ID1"}), **wish)
    assert request.url == "https://sellingpartnerapi-eu.amazon.com/reports/2021-06-30/reports"
    assert decoded(request) == wish
    assert answer == Started(task_id="ID1")


# --- Salesforce

RESULTS = "https://salesforce.example/services/data/v66.0/jobs/query/750/results"


def parted(**kept: Any) -> Link:
    """Give the link of the first part of a finished query's result."""
    remote = bound("salesforce-bulk")
    _, answer = converse(remote.check(order("750", kept=kept)), reply(body={"state": "JobComplete"}))
    [link] = answer.links
    assert isinstance(link, Link)
    return link


def following(link: Link, **headers: str) -> Link | None:
    """Give the link of the part that comes after one whose reply has these headers."""
    assert link.following is not None
    head: Head = Part(url=link.url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return link.following(head)


def test_salesforce_s_parts_follow_one_another_by_their_locators() -> None:
    """Every part has the next one's locator, the last one the text null; the size of parts stays."""
    first = parted(maxRecords=50000)
    second = following(first, sforce_locator="MTAwMDA")
    assert second is not None
    third = following(second, sforce_locator="Mj/Aw=")
    assert third is not None
    assert [first.url, second.url, third.url] == [
        f"{RESULTS}?maxRecords=50000",
        f"{RESULTS}?locator=MTAwMDA&maxRecords=50000",
        f"{RESULTS}?locator=Mj%2FAw%3D&maxRecords=50000",
    ]
    assert following(third, sforce_locator="null") is None


def test_salesforce_s_parts_are_all_fetched_alike() -> None:
    """Credentials, Accept and extension are the same for each; a reply without a locator is the last."""
    first = parted()
    second = following(first, sforce_locator="MTAwMDA")
    assert second is not None
    for link in (first, second):
        assert (link.auth, dict(link.headers), link.extension) == (True, {"Accept": "text/csv"}, ".csv")
    assert following(second) is None


def test_salesforce_s_query_is_started_and_aborted_as_json() -> None:
    """How large parts are is not part of the job; aborting is a change of its state."""
    remote = bound("salesforce-bulk")
    given = {"query": "SELECT Id FROM Lead", "lineEnding": "CRLF"}
    request, _ = started(remote, reply(body={"id": "750"}), **given, maxRecords=9)
    assert decoded(request) == {"operation": "query", **given}
    [request], _ = converse(remote.cancel(order("750")), reply(body={"state": "Aborted"}))
    assert (request.method, decoded(request)) == ("PATCH", {"state": "Aborted"})


def test_salesforce_s_tokens_are_issued_at_the_org_s_own_domain() -> None:
    """A token that does not say how long it lives is good until it is refused."""
    request, token = login(bound("salesforce-bulk"))
    assert request.url == "https://salesforce.example/services/oauth2/token"
    assert form(request)["grant_type"] == "client_credentials"
    assert token.lifetime is None


# --- Adobe

ADOBE = "https://pdf-services-ue1.adobe.io"


def test_adobe_s_login_is_a_form_without_a_grant() -> None:
    """The service has its own way to a token; it is carried as any other."""
    remote = bound("adobe-pdf")
    request, token = login(remote, expires_in=86399)
    assert (request.url, request.auth) == (f"{ADOBE}/token", False)
    assert form(request) == {"client_id": "adobe_pdf_client_id", "client_secret": "adobe_pdf_client_secret"}
    assert token.lifetime == 86399.0
    assert signed(remote, "t") == {"Authorization": "Bearer t"}


def test_adobe_is_told_the_key_and_takes_an_operation_s_own_request() -> None:
    """The body is what was given, whatever the operation; the address of its status names the task."""
    remote = bound("adobe-pdf")
    given = {"assetID": "urn:1", "params": {"targetFormat": "docx", "ocrLang": "de-DE"}}
    location = f"{ADOBE}/operation/exportpdf/K1/status"
    request, answer = started(remote, reply(201, location=location), operation="exportpdf", request=given)
    assert (request.url, decoded(request)) == (f"{ADOBE}/operation/exportpdf", given)
    assert answer == Started(task_id=location)
    [request], answer = converse(remote.check(order(location)), reply(body={"status": "In Progress"}))
    assert (request.url, request.headers["X-API-Key"]) == (location, "adobe_pdf_client_id")
    assert type(answer) is NotReady


@pytest.mark.parametrize("place", ["https://pdf-services-ew1.adobe.io/operation/x/K1/status", "operation/../token"])
def test_adobe_s_operations_are_asked_about_where_the_service_is(place: str) -> None:
    """A task's ID is an address; one that leads elsewhere, or climbs, is not asked, and gets no token."""
    requests, answer = converse(bound("adobe-pdf").check(order(place)))
    assert (requests, type(answer)) == ([], Unsafe)


# --- OpenAI


def test_openai_s_batch_is_started_from_a_file() -> None:
    """The window is the only one there is; what was not said is not sent."""
    remote = bound("openai-batch", OPENAI_KEY="sk-1")
    given = {"input_file_id": "file-in", "endpoint": "/v1/embeddings"}
    request, _ = started(remote, reply(body={"id": "batch_1"}), **given)
    assert request.url == "https://api.openai.com/v1/batches"
    assert decoded(request) == {**given, "completion_window": "24h"}
    assert decoded(started(remote, reply(body={}), **given, metadata={"shop": "a"})[0])["metadata"] == {"shop": "a"}
    assert signed(remote) == {"Authorization": "Bearer sk-1"}


@pytest.mark.parametrize(
    ("counts", "progress"),
    [
        ({"total": 4, "completed": 2, "failed": 1}, 0.75),
        ({"total": 0, "completed": 0, "failed": 0}, None),
        (None, None),
    ],
)
def test_openai_s_progress_is_what_has_been_answered(counts: Any, progress: float | None) -> None:
    """A request in error is done, too; before the file is counted, nothing is known."""
    _, answer = converse(
        bound("openai-batch").check(order("batch_1")), reply(body={"status": "in_progress", "request_counts": counts})
    )
    assert answer == NotReady(progress=progress)


def test_openai_s_files_are_had_with_the_key() -> None:
    """Both lie with the API itself, each under its own ID."""
    body = {"status": "completed", "output_file_id": "file-o", "error_file_id": "file/e"}
    _, answer = converse(bound("openai-batch").check(order("batch_1")), reply(body=body))
    files = "https://api.openai.com/v1/files"
    assert answer == Ready(
        links=(
            Link(url=f"{files}/file-o/content", auth=True, extension=".jsonl"),
            Link(url=f"{files}/file%2Fe/content", auth=True, extension=".jsonl"),
        )
    )


# --- Azure


def test_azure_is_let_in_by_a_key_or_by_an_application() -> None:
    """The key comes first; the application's token is for the scope that was set."""
    names = ("AZURE_KEY", "AZURE_TENANT", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
    assert signed(bound("azure-operation", AZURE_KEY="k")) == {"Ocp-Apim-Subscription-Key": "k"}
    remote = bound("azure-operation", **dict(zip(names, ("", "tenant/1", "i", "s"), strict=True)))
    request, _ = login(remote)
    assert request.url == "https://login.microsoftonline.com/tenant%2F1/oauth2/v2.0/token"
    assert form(request)["scope"] == "https://cognitiveservices.azure.com/.default"
    assert signed(remote, "t") == {"Authorization": "Bearer t"}


def test_azure_s_operations_begin_at_any_path_of_the_resource() -> None:
    """The query stays as it is written, the body is what was given."""
    location = "https://azure.example/operations/7?api-version=1"
    request, answer = started(
        bound("azure-operation"),
        reply(202, operation_location=location),
        path="language/jobs?api-version=1&stringIndexType=TextElements_v8",
        request={"kind": "Export", "tasks": [{"n": 1}]},
    )
    assert request.url == "https://azure.example/language/jobs?api-version=1&stringIndexType=TextElements_v8"
    assert decoded(request) == {"kind": "Export", "tasks": [{"n": 1}]}
    assert answer == Started(task_id=location)


@pytest.mark.parametrize("path", ["https://evil.example/jobs", "../jobs"])
def test_azure_s_operations_begin_nowhere_else(path: str) -> None:
    """A path that is another's address, or that climbs, is not posted to."""
    remote = bound("azure-operation")
    requests, answer = converse(remote.start(remote.fit(Wish(input={"path": path, "request": {}}))))
    assert (requests, type(answer)) == ([], Unsafe)
