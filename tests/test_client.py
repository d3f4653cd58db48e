"""Conversations with GraFx as a hostile server plays it: credentials, hiccups, and every reply an outcome."""

import asyncio
import os
import random
from contextlib import aclosing
from typing import Any

import aiohttp
import backoff
import msgspec
import pytest

from poller import client as clients
from poller.client import Client
from poller.outcome import Absent, Gone, Locked, NotReady, Outcome, Refused, Setback, Stuck, Trouble, Unsafe
from poller.patience import Patience
from poller.redact import Redactor
from poller.remote import Aborted, Conversation, Link, Ready, Request
from poller.remotes import DeclaredRemote
from tests.grafx import SECRET, TASKS, TOKEN, grafx, issues, order, ready, talking, token, wired
from tests.hostile import Hostile, Play, Seen, answer, endlessly, hostile, reply, say

CHECK = f"{TASKS}T1"
CANARIES = (SECRET, "canary")


async def ask(client: Client, remote: DeclaredRemote, task_id: str = "T1") -> Any:
    """Ask about a task; no text of the answer, its reason made fit to be said, may hold a secret or a query."""
    seen = await client.ask(remote.check(order(task_id)))
    if isinstance(seen, Setback):
        told = msgspec.structs.replace(seen, reason=Redactor((SECRET,))(seen.reason))
        assert not any(canary in str(told) for canary in CANARIES), told
    return seen


async def opened(client: Client, url: str, **more: Any) -> tuple[int, bytes]:
    """Open a link and read it."""
    async with client.open(Link(url=url, **more), {}) as body, aclosing(body.blocks()) as blocks:
        return body.status, b"".join([block async for block in blocks])


def bearer(seen: Seen) -> str:
    """Give the token that came with a request; empty if none did."""
    return (seen.header("authorization") or "").removeprefix("Bearer ")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note how long backoff would have waited, instead of waiting."""
    waited: list[float] = []

    class Clock:
        iscoroutinefunction = staticmethod(asyncio.iscoroutinefunction)

        @staticmethod
        async def sleep(seconds: float) -> None:
            waited.append(seconds)

    monkeypatch.setattr(backoff._async, "asyncio", Clock)
    return waited


# --- GraFx, code by code


@pytest.mark.parametrize(
    ("play", "kind"),
    [
        (answer(200, ready(None)), Ready),
        (answer(202), NotReady),
        (say(b"HTTP/1.1 204 No Content\r\n\r\n"), NotReady),
        (answer(500, b'{"detail":"it failed"}'), Refused),
        (answer(404), Absent),
        (answer(410), Gone),
        (answer(422), Refused),
        (answer(403), Trouble),
        (answer(302, b"", {"Location": f"{CHECK}/else"}), Absent),
        (answer(302, b"", {"Location": "https://evil.example/"}), Unsafe),
    ],
)
async def test_every_code_comes_to_its_outcome(play: Play, kind: type) -> None:
    """Over a real socket, logging in once; the bearer goes along, the secret to the token address alone."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, play)
        assert type(await ask(client, remote)) is kind
        [login] = server.asked("/oauth/token")
        assert SECRET.encode() in login.body
        assert {bearer(seen) for seen in server.asked(CHECK)} == {TOKEN}
        assert not any(SECRET.encode() in seen.body for seen in server.seen if seen is not login)


async def test_a_204_with_a_body_does_not_spoil_what_follows() -> None:
    """A body where none may be is not taken for the next reply."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        evil = reply(200, ready("https://evil.example/x"))
        server.on(CHECK, say(b"HTTP/1.1 204 No Content\r\n\r\n" + evil), answer(202))
        assert isinstance(await ask(client, remote), NotReady | Trouble)
        assert await ask(client, remote) == NotReady()


async def test_an_error_report_is_fetched_with_the_bearer() -> None:
    """Its address is kept without its query, which may be a credential."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        at = f"{server.base}/reports/1"
        server.on(CHECK, answer(500, f'{{"detail":"Error report: {at}?sig=canary-signature"}}'.encode()))
        server.on("/reports/1", answer(200, b'[{"RecordId":0}]'))
        seen = await ask(client, remote)
        assert (seen.report_at, seen.report) == (at, '[{"RecordId":0}]')
        [fetched] = server.asked("/reports/1")
        assert (bearer(fetched), fetched.target) == (TOKEN, b"/reports/1?sig=canary-signature")


async def test_a_report_that_refuses_us_does_not_lock_the_remote() -> None:
    """Two 401s from the report's address leave the task failed, and the remote open."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, answer(500, f'{{"detail":"Error report: {server.base}/reports/1"}}'.encode()))
        server.on("/reports/1", answer(401))
        seen = await ask(client, remote)
        assert (type(seen), seen.report_at, seen.report) == (Refused, f"{server.base}/reports/1", None)


@pytest.mark.parametrize("task_id", ["../../admin", "a/b?c#d", "a%2Fb", "üñ😀", "{x}", "%2e%2e", "a b\\c"])
async def test_a_nasty_task_id_arrives_as_one_segment(task_id: str) -> None:
    """What the server sees below ``tasks/`` is one segment, whatever the ID holds."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on("*", answer(202))
        assert await ask(client, remote, task_id) == NotReady()
        target = server.seen[-1].target.decode()
        assert target.startswith(TASKS)
        assert not set(target.removeprefix(TASKS)) & set("/?#\\ {}")


@pytest.mark.parametrize("task_id", [".", ".."])
async def test_a_task_id_that_climbs_is_not_asked_about(task_id: str) -> None:
    """Nothing goes out, not even a login."""
    async with hostile() as server, talking(server) as (client, remote):
        assert isinstance(await ask(client, remote, task_id), Unsafe)
        assert server.dials == 0


# --- credentials


async def test_an_ended_token_is_refreshed_once_and_the_question_repeated() -> None:
    """A 401 costs one login and one repetition; nobody hears of it, and both tokens are known to be masked."""
    learned: list[str] = []
    async with hostile() as server, talking(server, learned=learned) as (client, remote):
        issues(server, "canary-1", "canary-2")
        server.on(CHECK, answer(401), answer(202))
        assert await ask(client, remote) == NotReady()
        assert [bearer(seen) for seen in server.asked(CHECK)] == ["canary-1", "canary-2"]
        assert learned == ["canary-1", "canary-2"]
        await ask(client, remote)
        assert len(server.asked("/oauth/token")) == 2


async def test_sixty_four_refused_at_once_log_in_once() -> None:
    """All are held until all have come with the old token; one login serves them."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server, "canary-1", "canary-2")
        came, everybody = [], asyncio.Event()

        async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
            if bearer(seen) == "canary-1":
                came.append(seen)
                if len(came) == 64:
                    everybody.set()
                await everybody.wait()
                return await answer(401)(seen, writer)
            return await answer(202)(seen, writer)

        server.on("*", play)
        answers = await asyncio.gather(*(ask(client, remote, f"T{number}") for number in range(64)))
        assert set(map(type, answers)) == {NotReady}
        assert len(server.asked("/oauth/token")) == 2
        assert len(server.seen) == 2 + 64 + 64


async def test_a_second_refusal_locks_the_remote() -> None:
    """The same token again, or another: it is the remote that is closed, and nobody storms it."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on("*", answer(401))
        answers = await asyncio.gather(*(ask(client, remote, f"T{number}") for number in range(64)))
        assert set(map(type, answers)) == {Locked}
        assert len(server.asked("/oauth/token")) == 2
        assert len(server.seen) == 2 + 64 + 64
        assert "answered 401 to a fresh token" in answers[0].reason


async def test_a_denied_login_locks_the_remote_without_a_storm() -> None:
    """One login for all who wait, none repeated, and no question asked."""
    async with hostile() as server, talking(server) as (client, remote):
        server.on("/oauth/token", answer(401, b'{"error":"access_denied","error_description":"Unauthorized"}'))
        answers = await asyncio.gather(*(ask(client, remote, f"T{number}") for number in range(64)))
        assert set(map(type, answers)) == {Locked}
        assert "access_denied Unauthorized" in answers[0].reason
        assert [seen.path for seen in server.seen] == ["/oauth/token"]


async def test_a_login_that_fails_for_a_moment_is_trouble(waits: list[float]) -> None:
    """503 at the token address is not repeated here, and its wish is passed on to the schedule."""
    async with hostile() as server, talking(server) as (client, remote):
        server.on("/oauth/token", answer(503, b"", {"Retry-After": "30"}))
        seen = await ask(client, remote)
        assert (type(seen), seen.status, seen.retry_after) == (Trouble, 503, 30.0)
        assert len(server.seen) == 1
        assert waits == []


async def test_the_secret_does_not_follow_a_redirect_of_the_token_address() -> None:
    """A POST is not redirected."""
    async with hostile() as server, hostile() as other, talking(server) as (client, remote):
        server.on("/oauth/token", answer(307, b"", {"Location": f"{other.base}/oauth/token"}))
        assert isinstance(await ask(client, remote), Trouble)
        assert other.dials == 0


async def test_tokens_may_be_issued_elsewhere() -> None:
    """The secret goes there and the bearer here, and neither to the other's place."""
    async with hostile() as login, hostile() as server, talking(server, token=f"{login.base}/oauth/token") as (c, r):
        issues(login)
        server.on(CHECK, answer(202))
        assert await ask(c, r) == NotReady()
        assert [seen.path for seen in server.seen] == [CHECK]
        assert [bearer(seen) for seen in login.seen] == [""]


async def test_an_ending_token_is_renewed_before_it_is_refused() -> None:
    """An hour's token is not used in its last minute."""
    time = [0.0]
    async with hostile() as server, talking(server, clock=lambda: time[0]) as (client, remote):
        server.on("/oauth/token", *(answer(200, token(f"canary-{n}", expires_in=3600)) for n in (1, 2)))
        server.on(CHECK, answer(202))
        for moment in (0.0, 3539.0, 3541.0):
            time[0] = moment
            await ask(client, remote)
        assert [bearer(seen) for seen in server.asked(CHECK)] == ["canary-1", "canary-1", "canary-2"]


# --- links


async def test_a_link_at_home_gets_the_bearer_and_another_origin_does_not() -> None:
    """Judged by what the servers received: another port is another origin."""
    async with hostile() as server, hostile() as other, talking(server, other=other) as (client, _):
        issues(server)
        server.on("/file", answer(200, b"file"))
        other.on("/file", answer(200, b"file"))
        assert await opened(client, f"{server.base}/file") == (200, b"file")
        assert await opened(client, f"{server.base}/file", auth=False) == (200, b"file")
        assert await opened(client, f"{other.base}/file", auth=True) == (200, b"file")
        assert [bearer(seen) for seen in server.asked("/file")] == [TOKEN, ""]
        assert [seen.header("authorization") for seen in other.seen] == [None]
        assert SECRET.encode() not in b"".join(seen.body for seen in other.seen)


async def test_a_link_is_opened_byte_for_byte() -> None:
    """A signature covers every byte."""
    async with hostile() as server, talking(server) as (client, _):
        server.on("*", answer(200, b"file"))
        target = "/a%2Fb%7e~/ü?X-Sig=%2F%7E+%20"
        async with client.open(Link(url=server.base + target, auth=False), {}) as body:
            assert body.status == 200
        assert server.seen[0].target == target.encode()


async def test_a_link_may_roam_and_leaves_the_bearer_at_home() -> None:
    """A redirect to storage is normal; that storage learns nothing, and its 401 is no matter of our token."""
    async with hostile() as server, hostile() as other, talking(server, other=other) as (client, _):
        issues(server)
        server.on("/file", answer(302, b"", {"Location": f"{other.base}/blob"}))
        other.on("/blob", answer(200, b"file"), answer(401))
        assert await opened(client, f"{server.base}/file") == (200, b"file")
        assert (await opened(client, f"{server.base}/file"))[0] == 401
        assert [bearer(seen) for seen in other.seen] == ["", ""]
        assert len(server.asked("/oauth/token")) == 1


async def test_a_link_refreshes_the_token_too() -> None:
    """Downloads outlive tokens; a second refusal is the caller's to judge."""
    async with hostile() as server, talking(server) as (client, _):
        issues(server, "canary-1", "canary-2")
        server.on("/file", answer(401), answer(200, b"file"), answer(401))
        assert await opened(client, f"{server.base}/file") == (200, b"file")
        assert (await opened(client, f"{server.base}/file"))[0] == 401


async def test_a_link_that_is_none_is_unsafe() -> None:
    """The client relies on nobody having looked at it before."""
    async with hostile() as server, talking(server) as (client, _):
        with pytest.raises(Aborted) as raised:
            await opened(client, f"{server.base}/x\r\nX-Evil: 1")
        assert isinstance(raised.value.outcome, Unsafe)
        assert server.dials == 0


async def test_a_remote_that_wants_no_login_gets_none() -> None:
    """A page without auth is asked as it is; a 401 is then the operator's to mend, and no order's fault."""
    async with hostile() as server:
        remote = grafx(server.base)
        remote.auth = None
        async with wired(remote) as wire:
            client = Client(remote=remote, wire=wire, learn=str, now=float, clock=float, hiccup=0.0)
            server.on(CHECK, answer(202), answer(401))
            assert await ask(client, remote) == NotReady()
            locked = await ask(client, remote)
            assert isinstance(locked, Locked)
            assert "no login is configured" in locked.reason
            assert [seen.path for seen in server.seen] == [CHECK, CHECK]


# --- hiccups


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
async def test_a_hiccup_is_ridden_out(status: int, waits: list[float]) -> None:
    """Twice a bad moment, then the answer: one answer, after two short waits."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, answer(status), answer(status), answer(202))
        assert await ask(client, remote) == NotReady()
        assert (len(server.asked(CHECK)), len(waits)) == (3, 2)


async def test_three_hiccups_are_an_outcome(waits: list[float]) -> None:
    """The last reply decides, and the schedule takes over."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, answer(503), answer(503), answer(502, b"", {"Retry-After": "4"}), answer(202))
        seen = await ask(client, remote)
        assert (type(seen), seen.status, seen.retry_after) == (Trouble, 502, 4.0)
        assert len(server.asked(CHECK)) == 3


async def test_a_reset_is_a_hiccup_too(waits: list[float]) -> None:
    """Nothing answered, then cut short, then the answer; thrice nothing is trouble."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        cut = say(reply(200, ready(None))[:-3], then="reset")
        server.on(CHECK, say(b"", then="reset"), cut, answer(202))
        assert await ask(client, remote) == NotReady()
        server.on(CHECK, cut)
        seen = await ask(client, remote)
        assert (type(seen), seen.status) == (Trouble, None)
        assert len(server.asked(CHECK)) == 6


@pytest.mark.parametrize("status", [400, 403, 404, 410, 500, 501])
async def test_what_is_no_hiccup_is_not_repeated(status: int, waits: list[float]) -> None:
    """GraFx's 500 above all: it is an answer."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, answer(status))
        await ask(client, remote)
        assert len(server.asked(CHECK)) == 1
        assert waits == []


async def test_a_short_retry_after_is_obeyed_to_the_letter(waits: list[float]) -> None:
    """No jitter may cut it short; beyond five seconds it is the schedule's business, and passed on."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, answer(503, b"", {"Retry-After": "1"}), answer(429, b"", {"Retry-After": "5"}), answer(202))
        assert await ask(client, remote) == NotReady()
        assert waits == [1.0, 5.0]
        server.on(CHECK, answer(503, b"", {"Retry-After": "30"}), answer(202))
        seen = await ask(client, remote)
        assert (type(seen), seen.retry_after, waits) == (Trouble, 30.0, [1.0, 5.0])


async def test_a_retry_after_as_a_date_is_measured_by_our_clock(waits: list[float]) -> None:
    """RFC 9110 allows both; nonsense is no wish."""
    async with hostile() as server, talking(server, now=lambda: 784111777.0 - 600) as (client, remote):
        issues(server)
        server.on(CHECK, answer(202, b"", {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}))
        assert await ask(client, remote) == NotReady(retry_after=600.0)
        for nonsense in ("-1", "soon", "", "1e9"):
            server.on(CHECK, answer(202, b"", {"Retry-After": nonsense}))
            assert await ask(client, remote) == NotReady()


async def test_waits_double_with_jitter_of_our_own() -> None:
    """Between half and the whole of a step that doubles; a wish is a floor."""
    steps = clients._waits(first=0.2)
    next(steps)
    hiccup = clients._Hiccup(Aborted(Trouble(reason="reset")))
    for step in (0.2, 0.4, 0.8):
        assert step / 2 <= steps.send(hiccup) <= step


async def test_a_post_is_not_repeated(waits: list[float]) -> None:
    """What it did the first time is unknown."""

    def post() -> Conversation[Any]:
        seen = yield Request(method="POST", url=f"{remote.base}/start")
        return seen.status

    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on("/start", answer(503), say(b"", then="reset"), answer(200))
        assert await client.ask(post()) == 503
        assert isinstance(await client.ask(post()), Trouble)
        assert len(server.asked("/start")) == 2
        assert waits == []


# --- whatever comes


@pytest.mark.parametrize(
    ("play", "status", "asked"),
    [
        (answer(200, b"x" * (2**20 + 1)), 200, 1),
        (endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"canary" * 10_000), 200, 1),
        (endlessly(b"HTTP/1.1 200 OK\r\n", b"X: canary\r\n" * 100), None, 3),
        (say(b"canary\r\n\r\n", then="close"), None, 3),
        (say(b"", then="close"), None, 4),  # the connection of the login was a kept one
        (say(reply(200, b"{}" * 50)[:-1], then="close"), None, 3),
        (say(reply(200, b"{}" * 50, framing="chunked")[:-9], then="reset"), None, 3),
    ],
)
async def test_an_impossible_reply_is_trouble(play: Play, status: int | None, asked: int, waits: list[float]) -> None:
    """Too long, endless, garbage, cut: trouble, and repeated only where nothing answered."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, play)
        seen = await ask(client, remote)
        assert (type(seen), seen.status, seen.address) == (Trouble, status, server.base + CHECK)
        assert len(server.asked(CHECK)) == asked


async def test_a_reply_that_takes_too_long_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is never silent: the limit is on the whole, and nothing is repeated after it."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, answer(202))
        assert await ask(client, remote) == NotReady()
        monkeypatch.setattr(client, "_patience", Patience(0.3))
        server.on(CHECK, endlessly(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10))
        seen = await ask(client, remote)
        assert (type(seen), seen.reason) == (Trouble, "the reply took more than 0 s")
        assert len(server.asked(CHECK)) == 2


async def test_whatever_the_remote_says_is_an_outcome(waits: list[float]) -> None:
    """Two hundred replies broken in ways of their own: each comes to an outcome, none to an exception."""
    chance = random.Random(7)
    whole = [
        reply(200, ready("/file?sig=canary"), {"Content-Type": "application/json", "Retry-After": "1"}),
        reply(500, b'{"detail":"Error report: /r?sig=canary"}', framing="chunked"),
        reply(302, b"", {"Location": "/else?sig=canary"}),
        reply(401, b"", {"WWW-Authenticate": "Bearer"}),
    ]
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        for _ in range(200):
            raw = bytearray(chance.choice(whole))
            for _ in range(chance.randrange(1, 6)):
                place = chance.randrange(len(raw))
                raw[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
            server.on("*", say(bytes(raw), then=chance.choice(["close", "reset"])))
            assert isinstance(await ask(client, remote), Outcome | Ready), raw


async def test_our_own_shortage_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation has no word for our own faults; they go round it."""

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    async with hostile() as server, talking(server) as (client, remote):
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", refuse)
        seen = await ask(client, remote)
        assert (type(seen), seen.reason) == (Stuck, f"our own machine: {os.strerror(24)}")


async def test_a_cancelled_question_ends_its_conversation() -> None:
    """The generator is closed, whatever it was in the middle of."""
    ended, begun = asyncio.Event(), asyncio.Event()

    def conversation(remote: DeclaredRemote) -> Conversation[Any]:
        try:
            yield Request(method="GET", url=f"{remote.base}/x", auth=False)
        finally:
            ended.set()

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        begun.set()
        return await say(b"", then="hold")(seen, writer)

    async with hostile() as server, talking(server) as (client, remote):
        server.on("/x", play)
        task = asyncio.create_task(client.ask(conversation(remote)))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert ended.is_set()


async def test_many_redirected_checks_do_not_wear_out_connections() -> None:
    """Two hundred questions in a row, each of two hops, on a handful of connections."""
    async with hostile() as server, talking(server) as (client, remote):
        issues(server)
        server.on(CHECK, answer(302, b"", {"Location": f"{CHECK}/now"}))
        server.on(f"{CHECK}/now", answer(202))
        for _ in range(200):
            assert await ask(client, remote) == NotReady()
        assert server.dials < 10


def test_a_server_can_be_hostile() -> None:
    """The plays that these tests rely on spell what they mean to."""
    assert reply(200, b"x").endswith(b"Content-Length: 1\r\n\r\nx")
    assert reply(200, b"x", framing="chunked").endswith(b"\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert b"Content-Length" not in reply(200, b"x", framing="close")
    assert Hostile().seen == []
