"""Every request takes a turn, over real sockets; and what a remote says of its limits is heard there."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from poller.governor import Governor
from poller.outcome import Deferred, NotReady, Trouble
from poller.remote import Aborted, Link
from tests.grafx import TASKS, issues, order, talking
from tests.hostile import answer, hostile
from tests.stand_in import Clock

LINK = "/files/one"
LIMITS = {"RateLimit-Policy": '"default";q=600;w=60', "RateLimit": '"default";r=0;t=90'}


class Counting(Governor):
    """Notes which requests take a turn."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.turns: list[bool] = []

    async def turn(self, *, patient: bool) -> None:
        self.turns.append(patient)
        await super().turn(patient=patient)


@asynccontextmanager
async def governed(server: Any, clock: Callable[[], float], per_minute: int = 0, **more: Any):
    """Talk to GraFx under a governor."""
    governor = Counting(now=clock, clock=clock, per_minute=per_minute)
    async with talking(server, governor=governor, **more) as (client, remote):
        yield governor, client, remote


@asynccontextmanager
async def issuing():
    """Serve a remote, and tokens somewhere else."""
    async with hostile() as server, hostile() as issuer:
        yield server, issuer, f"{issuer.base}/oauth/token"


async def test_every_request_takes_a_turn() -> None:
    """A login, a question, one more with a fresh token, a hiccup's retry, a redirect, a link and its redirect."""
    async with hostile() as server, governed(server, Clock()) as (governor, client, remote):
        issues(server, "one", "two")
        moved = {"Location": f"{TASKS}moved"}
        server.on(f"{TASKS}T1", answer(401), answer(503), answer(307, headers=moved))
        server.on(f"{TASKS}moved", answer(204))
        assert await client.ask(remote.check(order())) == NotReady()
        assert len(server.seen) == 6
        assert governor.turns == [False] * 6

        server.on(LINK, answer(302, headers={"Location": "/files/two"}))
        server.on("/files/two", answer(200, b"x"))
        async with client.open(Link(url=f"{server.base}{LINK}"), {}):
            pass
        assert governor.turns[6:] == [True, True]
        assert len(server.seen) == 8


async def test_a_wait_that_is_long_sends_nothing_and_takes_no_turn() -> None:
    """A question whose turn is half an hour away is put off, with that wait; the link of another as well."""
    async with hostile() as server, governed(server, clock := Clock()) as (governor, client, remote):
        issues(server)
        server.on(f"{TASKS}T1", answer(204))
        await client.ask(remote.check(order()))
        seen = len(server.seen)
        governor.heard(429, {"retry-after": "1800"}, own=True)
        put_off = await client.ask(remote.check(order()))
        assert isinstance(put_off, Deferred)
        assert put_off.retry_after == pytest.approx(1800.0)
        with pytest.raises(Aborted) as aborted:
            async with client.open(Link(url=f"{server.base}{LINK}"), {}):
                pass
        assert isinstance(aborted.value.outcome, Deferred)
        assert len(server.seen) == seen
        clock.time += 1800.0
        assert await client.ask(remote.check(order())) == NotReady()


async def test_a_short_wait_is_waited_for() -> None:
    """A login and a question want two turns, a tenth of a second apart: the question comes after its own."""
    loop = asyncio.get_running_loop()
    async with hostile() as server, governed(server, loop.time, per_minute=19) as (governor, client, remote):
        issues(server)
        server.on(f"{TASKS}T1", answer(204))
        began = loop.time()
        governor._rate._own.interval = 0.1
        assert await client.ask(remote.check(order())) == NotReady()
        assert loop.time() - began >= 0.1


@pytest.mark.parametrize(
    ("status", "headers", "until"),
    [
        (429, {"Retry-After": "120"}, 120.0),
        (429, {"Retry-After": "Mon, 12 Jan 1970 13:48:40 GMT"}, 120.0),
        (429, {"Retry-After": "999999999"}, 3600.0),
        (503, {"Retry-After": "120"}, 120.0),
        (503, {}, None),
        (500, {"Retry-After": "120"}, None),
    ],
)
async def test_who_has_too_much_is_left_alone(status: int, headers: dict[str, str], until: float | None) -> None:
    """Seconds, a date, nonsense and an absurd wish; on the statuses that mean it."""
    async with hostile() as server, governed(server, clock := Clock()) as (governor, client, remote):
        issues(server)
        server.on(f"{TASKS}T1", answer(status, headers=headers))
        await client.ask(remote.check(order()))
        if until is None:
            assert not governor.pause.on
        else:
            assert governor.pause.until - clock.time >= until
            assert governor.pause.until - clock.time < until + 3.0


async def test_the_limits_of_the_api_are_heard_and_those_of_others_are_not() -> None:
    """The token endpoint's quota is another's; what is said with any status of the API counts."""
    clock = Clock()
    async with issuing() as (server, issuer, at), governed(server, clock, token=at) as (governor, client, remote):
        issuer.on("/oauth/token", answer(200, b'{"access_token": "t", "expires_in": 3600}', LIMITS))
        server.on(f"{TASKS}T1", answer(204), answer(404, headers=LIMITS))
        await client.ask(remote.check(order()))
        assert governor.wait() == 0.0
        await client.ask(remote.check(order()))
        assert governor.wait() == pytest.approx(91.0)
        assert governor.free(8) == 0
        clock.time += 91.0
        assert governor.free(100) == 60


async def test_a_throttled_token_endpoint_is_left_alone_too() -> None:
    """Nobody gets anywhere without a token, so all of the remote waits."""
    async with issuing() as (server, issuer, at), governed(server, Clock(), token=at) as (governor, client, remote):
        issuer.on("/oauth/token", answer(429, headers={"Retry-After": "60"}))
        answered = await client.ask(remote.check(order()))
        assert isinstance(answered, Trouble)
        assert governor.pause.on
        assert isinstance(await client.ask(remote.check(order())), Deferred)
        assert len(issuer.seen) == 1


async def test_those_who_waited_for_one_login_do_not_come_all_at_once() -> None:
    """Each takes its turn when the token is there; without a cap they would all be there in the same moment."""
    loop = asyncio.get_running_loop()
    async with hostile() as server, governed(server, loop.time, per_minute=19) as (governor, client, remote):
        issues(server)
        times: list[float] = []
        inner = answer(204)

        async def noted(seen: Any, writer: asyncio.StreamWriter) -> bool:
            times.append(loop.time())
            return await inner(seen, writer)

        server.on(f"{TASKS}T1", noted)
        governor._rate._own.interval = 0.05
        await asyncio.gather(*(client.ask(remote.check(order())) for _ in range(8)))
        assert len(times) == 8
        assert times[-1] - times[0] >= 7 * 0.05 - 0.02
