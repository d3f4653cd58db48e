"""The stand-in for CHILI GraFx: what it answers, on a real socket, with a clock of our own."""

import asyncio
import io
import json
import re
import shutil
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest
from yarl import URL

from poller.errors import PollerError
from poller.sandbox import KNOBS, Failure, Render, Sandbox, serve
from tests.stand_in import ASK, Clock, calling

HOUR = 3600.0
DAY = 24 * HOUR


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


# --- tokens


async def test_a_token_is_cached_until_shortly_before_its_end(api, clock):
    """Asking again gives the same token with less left, and an hour before its end a new one."""
    first = (await api.login())[1]
    assert (first["token_type"], first["expires_in"]) == ("Bearer", DAY)
    assert {"output:static", "output:animated"} <= set(first["scope"].split())
    clock.time += 10 * HOUR
    again = (await api.login())[1]
    assert (again["access_token"], again["expires_in"]) == (first["access_token"], 14 * HOUR)
    clock.time += 13 * HOUR
    fresh = (await api.login())[1]
    assert (fresh["access_token"] != first["access_token"], fresh["expires_in"]) == (True, DAY)
    assert api.sandbox.requests["token"] == 4


async def test_an_old_token_stays_good_for_the_rest_of_its_life(api, clock):
    """None is revoked by a newer one, and none outlives its end."""
    task_id, old = api.sandbox.start(), api.headers
    clock.time += 23 * HOUR + 1
    await api.login()
    api.sandbox.start(task_id="young")
    assert (await api.get("tasks/young", **old))[0] == 200
    clock.time += HOUR
    assert (await api.get("tasks/young", **old))[0] == 401
    assert (await api.get("tasks/young"))[0] == 200
    assert (await api.get(f"tasks/{task_id}"))[0] == 410


async def test_tokens_can_be_made_stale(api):
    """After that the old bearer is refused, and asking gives another that is taken."""
    api.sandbox.start(task_id="t")
    api.sandbox.expire_tokens()
    status, headers, body = await api.get("tasks/t")
    assert (status, headers["WWW-Authenticate"], b'"status":"401"' in body) == (401, "Bearer", True)
    await api.login()
    assert (await api.get("tasks/t"))[0] == 200


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"audience": "https://example.com"}, 400, "invalid_target"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "sandbo", "client_secret": "xsandbox-secret"}, 401, "invalid_client"),
        ({"audience": ""}, 400, "invalid_request"),
        ({"client_id": 7}, 400, "invalid_request"),
    ],
)
async def test_a_token_is_for_those_who_ask_rightly(api, changes, status, error):
    """Everything that is sent is checked."""
    answer = await api.login(**changes)
    assert (answer[0], answer[1]["error"]) == (status, error)


async def test_a_token_is_given_for_a_form_too(api):
    """Form fields are as good as JSON."""
    async with api.session.post(f"{api.url}/oauth/token", data=ASK) as reply:
        assert f"Bearer {(await reply.json())['access_token']}" == api.headers["Authorization"]


@pytest.mark.parametrize("bearer", ["", "Bearer", "Bearer x", "Basic x"])
async def test_without_a_good_bearer_nothing_is_told(api, bearer):
    """Start, check, download and report want the token."""
    task_id = api.sandbox.start(Render(failure=Failure.RENDER))
    api.headers = {"Authorization": bearer} if bearer else {}
    for path in (f"tasks/{task_id}", f"tasks/{task_id}/download", f"tasks/{task_id}/file", f"reports/{task_id}"):
        assert (await api.get(path))[0] == 401
    assert (await api.start("pdf"))[0] == 401
    assert api.sandbox.asked(task_id, "check") == 0
    assert api.sandbox.requests["check"] == 1


# --- start and check


async def test_a_render_from_its_start_to_its_file(api, clock):
    """Start names the task and where to check; 204 until the delay is over; then the link leads to the file."""
    status, answer = await api.start("png?delay=2&size=1MB&projectId=p1")
    task_id = answer["data"]["taskId"]
    assert (status, answer["links"]["taskInfo"]) == (200, f"{api.url}{api.sandbox.output}/tasks/{task_id}")
    status, _, body = await api.get(answer["links"]["taskInfo"])
    assert (status, body) == (204, b"")
    clock.time += 1.99
    assert (await api.get(answer["links"]["taskInfo"]))[0] == 204
    clock.time += 0.01
    link = await api.link(task_id)
    status, headers, body = await api.get(link)
    content = api.sandbox.content(task_id)
    assert (status, headers["Content-Type"], headers["Content-Length"]) == (200, "image/png", "1000000")
    assert headers["Content-Disposition"] == 'attachment; filename="output.png"'
    assert sha256(body).hexdigest() == content.sha256
    assert (api.sandbox.asked(task_id, "check"), api.sandbox.asked(task_id, "download")) == (3, 1)
    assert api.sandbox.requests == {"token": 1, "start": 1, "check": 3, "download": 1}


async def test_a_check_may_say_202(api):
    """The vendor's own client knows 202 where its tutorial knows 204."""
    task_id = api.sandbox.start(Render(delay=1, pending_status=202))
    assert (await api.get(f"tasks/{task_id}"))[0] == 202


@pytest.mark.parametrize(
    ("what", "body", "detail"),
    [
        ("pdf?delay=x", b"", "delay: 'x'"),
        ("pdf?sizes=1MB", b"", "did you mean size?"),
        ("image", b"", "outputType must be"),
        ("pdf", b"{", "the body is not"),
        ("html?size=5GB", b"", "a zip has at most"),
    ],
)
async def test_a_bad_start_is_a_problem(api, what, body, detail):
    """400 as problem JSON, with the status as text."""
    status, answer = await api.start(what, body)
    assert (status, answer["status"], detail in answer["detail"]) == (400, "400", True)


async def test_a_start_has_a_largest_size(api):
    """More than 20 MB in one request are too many."""
    assert (await api.start("pdf", io.BytesIO(b" " * 20_000_001)))[0] == 413


async def test_only_what_there_is_answers(api):
    """Other paths, other environments and other methods are problems too."""
    assert (await api.start("docx"))[0] == 404
    status, headers, body = await api.get("pdf")
    assert (status, headers["Allow"], headers["Content-Type"]) == (405, "POST", "application/problem+json")
    assert b'"status":"405"' in body
    assert (await api.get(f"{api.url}/grafx/api/v1/environment/other/output/tasks/t"))[0] == 404


async def test_an_unknown_task_is_not_found(api):
    """What was never started is 404."""
    assert (await api.get("tasks/nobody"))[0] == 404


async def test_defaults_hold_unless_the_start_says_otherwise(clock):
    """A knob of the start changes that one value only."""
    async with calling(Sandbox(now=clock, defaults=Render(size=7, media_type="image/gif"))) as api:
        await api.login()
        _, answer = await api.start("pdf?size=8")
        content = api.sandbox.content(answer["data"]["taskId"])
        assert (content.size, content.media_type) == (8, "image/gif")


async def test_an_adopted_task_starts_at_its_first_check(clock):
    """With adopt, any ID is a render with the defaults, slashes, braces and accents included."""
    async with calling(Sandbox(now=clock, adopt=True, defaults=Render(delay=5))) as api:
        await api.login()
        strange = "tasks/a%2Fb%7Bc%7D%20%C3%A9%25"
        assert (await api.get(strange))[0] == 204
        clock.time += 5
        assert (await api.get(await api.link("a%2Fb%7Bc%7D%20%C3%A9%25")))[0] == 200
        assert api.sandbox.asked("a/b{c} é%", "check") == 2


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "a.b"])
def test_an_environment_has_a_technical_name(name):
    """A name that could not stand in a host and a path is refused."""
    with pytest.raises(ValueError, match="an environment is named by"):
        Sandbox(environment=name)


def test_the_same_task_does_not_start_twice():
    """A task ID that is taken is refused."""
    sandbox = Sandbox()
    sandbox.start(task_id="t")
    with pytest.raises(ValueError, match="already there"):
        sandbox.start(task_id="t")


async def test_the_file_lives_four_hours_and_the_task_seven_days(api, clock):
    """After four hours check and link say 410, after seven days nobody knows the task."""
    task_id = api.sandbox.start(Render(delay=10))
    clock.time += 10 + 4 * HOUR
    link = await api.link(task_id)
    assert (await api.get(link))[0] == 200
    clock.time += 1
    assert [(await api.get(url))[0] for url in (f"tasks/{task_id}", link)] == [410, 410]
    clock.time += 7 * DAY
    await api.login()
    api.sandbox.start(task_id="young")
    assert [(await api.get(f"tasks/{name}"))[0] for name in (task_id, "young")] == [404, 200]
    assert api.sandbox.task_ids == ("young",)


async def test_a_link_holds_for_the_host_that_was_asked(api):
    """Addresses carry the name that the client used, so that they hold behind a forwarded port."""
    task_id = api.sandbox.start()
    _, _, body = await api.get(f"tasks/{task_id}", Host="renderer.test:99")
    assert b'"http://renderer.test:99/grafx/api/v1/environment/sandbox/output/tasks/' in body


# --- the command


async def test_where_nothing_can_listen_it_says_so():
    """A port that is taken is an error of ours, with a hint."""
    async with Sandbox().serving() as url:
        with pytest.raises(PollerError, match=f"nothing can listen on 127.0.0.1 port {URL(url).port}") as caught:
            async with Sandbox().serving(port=URL(url).port):
                pass
    assert "another port" in caught.value.hint


def test_settings_lead_to_it():
    """The settings name everything that a poller needs, with the credentials in force."""
    assert Sandbox(environment="e", client_id="i", client_secret="s").settings("http://h:1") == {
        "GRAFX_ENVIRONMENT": "e",
        "GRAFX_CLIENT_ID": "i",
        "GRAFX_CLIENT_SECRET": "s",
        "GRAFX_BASE_URL": "http://h:1",
        "GRAFX_TOKEN_URL": "http://h:1/oauth/token",
    }


@asynccontextmanager
async def commanded(sandbox):
    """Run the command; gives the lines that it says."""
    lines, spoken = [], asyncio.Event()

    def say(line):
        lines.append(line)
        if "rate" in line:
            spoken.set()

    task = asyncio.create_task(serve(sandbox=sandbox, port=0, say=say))
    await spoken.wait()
    try:
        yield lines
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines are for curl")
async def test_the_lines_it_prints_do_what_they_say():
    """A shell that is fed the indented lines gets a token and starts a render."""
    sandbox = Sandbox(environment="shop-1", client_id="i&d", client_secret="it's $ecret")
    async with commanded(sandbox) as lines:
        script = "\n".join(line for line in lines if re.match(r"  (export|TOKEN|curl)", line))
        shell = await asyncio.create_subprocess_exec(
            "sh",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},
        )
        said, _ = await shell.communicate(f"set -eu\n{script}\necho\necho $GRAFX_ENVIRONMENT\n".encode())
        answer, environment = said.decode().splitlines()
        task_id = json.loads(answer)["data"]["taskId"]
        assert (shell.returncode, environment) == (0, "shop-1")
        assert sandbox.content(task_id).size == 1_000_000
        assert all(any(line.strip().startswith(knob) for line in lines) for knob in KNOBS)


class Terminal(io.StringIO):
    """Standard output that tells when it was flushed."""

    def __init__(self):
        super().__init__()
        self.flushed = asyncio.Event()

    def flush(self):
        self.flushed.set()


async def test_the_command_speaks_to_the_terminal(monkeypatch):
    """Without another listener its lines go to standard output, and do not wait in a buffer."""
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    task = asyncio.create_task(serve(sandbox=Sandbox(), port=0))
    await terminal.flushed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert terminal.getvalue().startswith("A stand-in for CHILI GraFx listens on http://127.0.0.1:")
