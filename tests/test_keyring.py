"""The credential of one remote: issued once, renewed early, never asked for twice at once."""

import asyncio
from collections.abc import Callable

import pytest

from poller.keyring import Keyring
from poller.outcome import Trouble
from poller.remote import Aborted, Conversation, Denied, Token


class Issuer:
    """Issues ``t1``, ``t2``, … when it is let; an exception in *ends* is raised instead."""

    def __init__(self, lifetime: float | None = None) -> None:
        self.lifetime = lifetime
        self.logins = 0
        self.ends: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    renewable = True

    def refuses(self, reply: object) -> bool:
        return False

    def login(self, now: float) -> Conversation[Token]:
        raise AssertionError("the keyring does not carry conversations out itself")
        yield

    def sign(self, token: Token) -> dict[str, str]:
        return {"Authorization": f"Bearer {token.value}"}

    async def run(self, conversation: Conversation[Token]) -> Token:
        conversation.close()
        self.logins += 1
        number = self.logins
        self.asked.set()
        await self.open.wait()
        if self.ends:
            raise self.ends.pop(0)
        return Token(value=f"t{number}", lifetime=self.lifetime)


def keyring(issuer: Issuer, clock: Callable[[], float] = lambda: 0.0, learn: Callable[[str], None] = str) -> Keyring:
    """Make a keyring that logs in at *issuer*."""
    return Keyring(auth=issuer, run=issuer.run, learn=learn, now=lambda: 0.0, clock=clock)


async def test_one_login_serves_everybody() -> None:
    """Sixty-four who ask at once, and all who ask later, share one token; it is made known to be masked."""
    issuer, learned = Issuer(), []
    ring = keyring(issuer, learn=learned.append)
    issuer.open.clear()
    waiting = [asyncio.create_task(ring.token()) for _ in range(64)]
    await issuer.asked.wait()
    issuer.open.set()
    tokens = {token.value for token in await asyncio.gather(*waiting)}
    assert (tokens, (await ring.token()).value, issuer.logins, learned) == ({"t1"}, "t1", 1, ["t1"])
    assert ring.headers(await ring.token()) == {"Authorization": "Bearer t1"}


@pytest.mark.parametrize(("lifetime", "good_until"), [(79045.0, 78985.0), (100.0, 90.0), (1.0, 0.9)])
async def test_a_token_is_renewed_before_it_ends(lifetime: float, good_until: float) -> None:
    """A minute early, or a tenth of a short life: clocks differ and requests take time."""
    time = [0.0]
    issuer = Issuer(lifetime)
    ring = keyring(issuer, clock=lambda: time[0])
    await ring.token()
    time[0] = good_until - 0.001
    assert (await ring.token()).value == "t1"
    time[0] = good_until
    assert (await ring.token()).value == "t2"


@pytest.mark.parametrize("lifetime", [0.0, -5.0])
async def test_a_token_that_has_ended_already_serves_once(lifetime: float) -> None:
    """Whoever logged in uses what he got; the next one logs in again."""
    ring = keyring(Issuer(lifetime))
    assert [(await ring.token()).value, (await ring.token()).value] == ["t1", "t2"]


async def test_a_token_without_an_end_is_kept() -> None:
    """Nobody said how long: until it is refused."""
    time = [0.0]
    ring = keyring(Issuer(None), clock=lambda: time[0])
    await ring.token()
    time[0] = 1e12
    assert (await ring.token()).value == "t1"


async def test_a_refused_token_is_replaced_once_for_all_who_had_it() -> None:
    """Sixty-four refusals of one token, late ones included, come to one login."""
    issuer = Issuer()
    ring = keyring(issuer)
    stale = await ring.token()
    issuer.open.clear()
    issuer.asked.clear()
    waiting = [asyncio.create_task(ring.replace(stale)) for _ in range(63)]
    await issuer.asked.wait()
    issuer.open.set()
    await asyncio.gather(*waiting)
    late = await ring.replace(stale)
    assert (late.value, issuer.logins) == ("t2", 2)


async def test_a_failed_login_fails_all_who_wait_and_is_tried_anew_later() -> None:
    """One refusal answers everybody; the next to ask finds out for himself."""
    issuer = Issuer()
    issuer.ends = [Denied("no"), Aborted(Trouble(reason="down"))]
    ring = keyring(issuer)
    seen = await asyncio.gather(*(ring.token() for _ in range(64)), return_exceptions=True)
    assert {type(each) for each in seen} == {Denied}
    assert issuer.logins == 1
    with pytest.raises(Aborted):
        await ring.token()
    assert (await ring.token()).value == "t3"


async def test_who_is_cancelled_takes_nobody_along() -> None:
    """The login goes on for the others, and what it brings is kept."""
    issuer = Issuer()
    ring = keyring(issuer)
    issuer.open.clear()
    gone, stays = asyncio.create_task(ring.token()), asyncio.create_task(ring.token())
    await issuer.asked.wait()
    gone.cancel()
    await asyncio.wait([gone])
    issuer.open.set()
    assert ((await stays).value, gone.cancelled(), issuer.logins) == ("t1", True, 1)


async def test_a_login_nobody_waits_for_any_more_is_heard_all_the_same() -> None:
    """A failure whose listeners are all gone is no unheard exception, nor is a login that is cancelled."""
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    for end in (Denied("no"), None):
        issuer = Issuer()
        issuer.ends = [end] if end else []
        ring = keyring(issuer)
        issuer.open.clear()
        alone = asyncio.create_task(ring.token())
        await issuer.asked.wait()
        alone.cancel()
        [login] = [task for task in asyncio.all_tasks() if task.get_name() == "login"]
        if end:
            issuer.open.set()
        else:
            login.cancel()
        await asyncio.wait([alone, login])
        del login
    await asyncio.sleep(0)
    assert unheard == []
    issuer.open.set()
    assert (await ring.token()).value == "t2"
