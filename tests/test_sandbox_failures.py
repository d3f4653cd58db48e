"""What goes wrong in the sandbox, as often and in the way that was asked for."""

import asyncio
import json

import aiohttp
import pytest
from yarl import URL

from poller.sandbox import Failure, Render, Sandbox, elsewhere
from tests.stand_in import Api, Clock, calling, whole


@pytest.fixture
def clock():
    """A clock to be moved by hand."""
    return Clock()


@pytest.fixture
async def api(clock):
    """A client that is logged in, with the sandbox that it talks to."""
    async with calling(Sandbox(now=clock, sleep=clock.sleep)) as api:
        await api.login()
        yield api


# --- what goes wrong


async def test_a_failed_render_names_its_report(api, clock):
    """500 once the render is over; its detail ends in the report's address; there is no file."""
    task_id = api.sandbox.start(Render(delay=1, failure=Failure.RENDER))
    assert (await api.get(f"tasks/{task_id}"))[0] == 204
    clock.time += 1
    status, headers, body = await api.get(f"tasks/{task_id}")
    problem = json.loads(body)
    assert (status, headers["Content-Type"], problem["status"]) == (500, "application/problem+json", "500")
    report = problem["detail"].partition("Error report: ")[2]
    status, _, body = await api.get(report)
    [entry] = json.loads(body)
    assert (status, entry["recordNumber"], entry["errorList"][0]["type"]) == (200, 0, "TextOverflow")
    assert (await api.get(f"tasks/{task_id}/download"))[0] == 404


async def test_a_good_render_has_no_report(api):
    """The report belongs to failures."""
    assert (await api.get(f"reports/{api.sandbox.start()}"))[0] == 404


async def test_no_file_before_the_render_is_over(api):
    """The link's path answers 404 until then."""
    task_id = api.sandbox.start(Render(delay=1))
    assert (await api.get(f"tasks/{task_id}/download"))[0] == 404


@pytest.mark.parametrize(
    ("failure", "times", "statuses"),
    [
        (Failure.GONE, None, [410, 410, 410]),
        (Failure.GONE, 1, [410, 200, 200]),
        (Failure.UNKNOWN, None, [404, 404, 404]),
        (Failure.UNKNOWN, 2, [404, 404, 200]),
        (Failure.FLAKY, None, [503, 503, 200]),
        (Failure.FLAKY, 1, [503, 200, 200]),
        (Failure.UNAUTHORIZED, None, [401, 200, 200]),
        (Failure.UNAUTHORIZED, 9, [401, 401, 401]),
        (Failure.RENDER, 1, [500, 200, 200]),
        (Failure.EXPIRED, None, [200, 200, 200]),
    ],
)
async def test_a_check_goes_wrong_as_often_as_was_asked(api, failure, times, statuses):
    """Each failure has its status, for so many checks."""
    task_id = api.sandbox.start(Render(failure=failure, times=times))
    assert [(await api.get(f"tasks/{task_id}"))[0] for _ in statuses] == statuses


async def test_a_503_says_when_to_come_back(api):
    """Retry-After carries the knob's value."""
    task_id = api.sandbox.start(Render(failure=Failure.FLAKY, retry_after=7))
    assert (await api.get(f"tasks/{task_id}"))[1]["Retry-After"] == "7"


async def test_an_expired_link_is_gone(api):
    """The check still gives a link, and the link is dead."""
    link = await api.link(api.sandbox.start(Render(failure=Failure.EXPIRED)))
    status, headers, _ = await api.get(link)
    assert (status, headers["Content-Type"]) == (410, "application/problem+json")


@pytest.mark.parametrize(
    ("failure", "media", "length"),
    [(Failure.EMPTY, "image/png", 0), (Failure.PAGE, "text/html", None), (Failure.DISGUISED, "image/png", None)],
)
async def test_a_body_that_is_not_the_file(api, failure, media, length):
    """Nothing, an honest page, and a page under the file's type; and the file, once that has passed."""
    task_id = api.sandbox.start(Render(failure=failure, times=1, media_type="image/png"))
    status, headers, body = await api.get(link := await api.link(task_id))
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, media)
    assert body == b"" if length == 0 else body.startswith(b"<!doctype html>")
    assert (await api.get(link))[2] == whole(api.sandbox.content(task_id))


async def test_a_truncated_body_ends_early(api):
    """The length promises the whole, half of it comes, and the connection closes."""
    link = await api.link(api.sandbox.start(Render(failure=Failure.TRUNCATE, size=500_000)))
    async with api.session.get(link, headers=api.headers) as reply:
        assert reply.content_length == 500_000
        came = await reply.content.readexactly(250_000)
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.content.read()
    assert len(came) == 250_000


async def test_a_stalled_body_pauses_for_ever_and_does_not_hold_up_the_stop():
    """Half of it comes and then nothing, until the server stops, which it does all the same."""
    async with aiohttp.ClientSession() as session:
        sandbox = Sandbox()
        async with sandbox.serving() as url:
            api = Api(sandbox, url, session)
            await api.login()
            link = await api.link(sandbox.start(Render(failure=Failure.STALL, size=10_000)))
            reply = await session.get(link, headers=api.headers)
            await reply.content.readexactly(5000)
            rest = asyncio.ensure_future(reply.content.read())
            assert (await api.get("tasks/other"))[0] == 404
            assert not rest.done()
        with pytest.raises(aiohttp.ClientError):
            await rest
        reply.close()


async def test_a_slow_download_keeps_its_rate(api, clock):
    """The waits add up to size over rate, in steps of a tenth of a second; the bytes are the same."""
    task_id = api.sandbox.start(Render(size=100_000, rate=50_000))
    body = (await api.get(await api.link(task_id)))[2]
    assert body == whole(api.sandbox.content(task_id))
    assert sum(clock.slept) == pytest.approx(2.0)
    assert max(clock.slept) == pytest.approx(0.1)


async def test_a_client_that_leaves_ends_its_download():
    """The handler of a slow download is cancelled when nobody listens any more; what went out is known."""
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def sleep(_):
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with calling(Sandbox(sleep=sleep)) as api:
        await api.login()
        task_id = api.sandbox.start(Render(size=100_000, rate=50_000))
        async with api.session.get(await api.link(task_id), headers=api.headers) as reply:
            await waiting.wait()
            reply.close()
        await ended.wait()
        assert api.sandbox.sent(task_id) == 5000


async def test_a_redirect_within_the_origin(api):
    """The link answers 302 to another path of the same origin, which wants the bearer."""
    task_id = api.sandbox.start(Render(failure=Failure.REDIRECT))
    status, headers, _ = await api.get(await api.link(task_id))
    assert (status, URL(headers["Location"]).origin()) == (302, URL(api.url))
    assert (await api.get(headers["Location"], Authorization=""))[0] == 401
    assert (await api.get(headers["Location"]))[2] == whole(api.sandbox.content(task_id))
    assert api.sandbox.asked(task_id, "moved") == 1


async def away(api, failure):
    """Give the address at the other origin that a task's link leads to, at once or by a redirect."""
    link = await api.link(api.sandbox.start(Render(failure=failure), failure))
    if failure is Failure.LINK_AWAY:
        return link
    status, headers, _ = await api.get(link)
    assert status == 302
    return headers["Location"]


@pytest.mark.parametrize("failure", [Failure.REDIRECT_AWAY, Failure.LINK_AWAY])
async def test_storage_of_another_origin_takes_the_signature_alone(api, failure):
    """It lets in whoever has the signed address, refuses a bearer beside it, and counts that it saw one."""
    link = URL(await away(api, failure), encoded=True)
    assert str(link.origin()) == elsewhere(api.url) != api.url
    assert (await api.get(str(link)))[0] == 400
    assert api.sandbox.requests["leaked"] == 1
    api.headers = {}
    assert (await api.get(str(link)))[2] == whole(api.sandbox.content(failure))
    assert (await api.get(str(link.with_query(signature="0"))))[0] == 403
    assert (await api.get(str(link.with_query(None))))[0] == 403
    assert api.sandbox.requests["leaked"] == 1


def test_elsewhere_is_always_another_origin():
    """Also for who already uses the name that others are led to."""
    assert elsewhere("http://localhost:8081/x") == "http://127.0.0.1:8081"
    assert elsewhere("http://sandbox:8081") == "http://localhost:8081"


# --- ranges


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-", 206, 100, 1000),
        ("bytes=-5", 206, 995, 1000),
        ("bytes=990-5000", 206, 990, 1000),
        ("bytes=0-", 206, 0, 1000),
        ("bytes=5-3", 200, 0, 1000),
        ("lines=1-2", 200, 0, 1000),
        ("bytes=0-1,5-6", 200, 0, 1000),
    ],
)
async def test_a_range_of_a_file(api, asked, status, start, stop):
    """One range gives 206 with those bytes; what cannot be read gives the whole."""
    task_id = api.sandbox.start(Render(size=1000))
    got, headers, body = await api.get(await api.link(task_id), Range=asked)
    assert (got, body) == (status, whole(api.sandbox.content(task_id))[start:stop])
    assert headers["Accept-Ranges"] == "bytes"
    assert headers.get("Content-Range") == (f"bytes {start}-{stop - 1}/1000" if status == 206 else None)


async def test_a_range_outside_the_file(api):
    """416 names the size."""
    status, headers, _ = await api.get(await api.link(api.sandbox.start(Render(size=10))), Range="bytes=10-")
    assert (status, headers["Content-Range"]) == (416, "bytes */10")


async def test_a_range_of_another_file_gives_the_whole(api):
    """If-Range with the file's own tag gives the range, with another's the whole; another size has another tag."""
    link = await api.link(api.sandbox.start(Render(size=10), "a"))
    tag = (await api.get(link))[1]["ETag"]
    other = (await api.get(await api.link(api.sandbox.start(Render(size=11), "b"))))[1]["ETag"]
    statuses = [(await api.get(link, **{"Range": "bytes=5-", "If-Range": value}))[0] for value in (tag, other)]
    assert (statuses, tag == other) == ([206, 200], False)
