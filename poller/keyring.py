"""The credential of one remote: issued once, renewed early, never asked for twice at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

from poller.remote import Auth, Conversation, Reply, Token

_MARGIN = 60.0
"""Seconds before its end at which a token is renewed: clocks differ and requests take time."""


class Keyring:
    """Holds the token of one remote.

    Args:
        auth: how to log in.
        run: carries out a conversation.
        learn: is told every token, and what carries it, so that it is never shown.
        now: epoch seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        auth: Auth,
        run: Callable[[Conversation[Token]], Awaitable[Token]],
        learn: Callable[[str], None],
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._auth = auth
        self._run = run
        self._learn = learn
        self._now = now
        self._clock = clock
        self._token: Token | None = None
        self._until = 0.0
        self._login: asyncio.Task[Token] | None = None

    async def token(self) -> Token:
        """Give the token, logging in first if there is none or it is about to end.

        Raises:
            Denied, Aborted: as the login came to.
        """
        if self._token is not None and self._clock() < self._until:
            return self._token
        return await self._renewed()

    async def replace(self, stale: Token) -> Token:
        """Give another token than *stale*, which the remote has just refused.

        The remote may issue the same one again; whoever asks finds that out by using it.
        """
        if self._token is not None and self._token is not stale:
            return self._token
        return await self._renewed()

    @property
    def renewable(self) -> bool:
        """Whether another login may give another token."""
        return self._auth.renewable

    def refuses(self, reply: Reply) -> bool:
        """Tell whether a reply, whatever its status, means that the token is not accepted."""
        return self._auth.refuses(reply)

    def headers(self, token: Token) -> Mapping[str, str]:
        """Give the headers that carry *token*."""
        return self._auth.sign(token)

    async def _renewed(self) -> Token:
        """Join the login that is under way, or begin one; its end is everybody's."""
        if self._login is None:
            self._login = asyncio.create_task(self._log_in(), name="login")
            self._login.add_done_callback(self._ended)
        return await asyncio.shield(self._login)

    async def _log_in(self) -> Token:
        token = await self._run(self._auth.login(self._now()))
        for secret in dict.fromkeys(_secrets(token, self._auth.sign(token))):
            self._learn(secret)
        self._token, self._until = token, self._clock() + _good_for(token)
        return token

    def _ended(self, login: asyncio.Task[Token]) -> None:
        self._login = None
        if not login.cancelled():
            login.exception()  # noqa: LOG004 - a task's, not a logger's: heard, though all who waited be cancelled


def _secrets(token: Token, headers: Mapping[str, str]) -> Iterator[str]:
    """Give what must not be shown: the token, and of what carries it the last word, which Basic has encoded."""
    for text in (token.value, *headers.values()):
        yield from text.split()[-1:]


def _good_for(token: Token) -> float:
    if token.lifetime is None:
        return float("inf")
    return max(token.lifetime - min(_MARGIN, token.lifetime / 10), 0.0)
