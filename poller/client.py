"""Runs the conversations of one remote, and opens its links.

What a conversation yields is sent; what comes back is sent into it; what it returns is
the answer. On the way a request gets the remote's credentials if it wants them, is
repeated once with a fresh token after a 401, and a hiccup (a reset connection, a 503)
is retried within seconds. Anything longer belongs into the store's schedule, not here.
"""

import random
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import backoff

from poller.address import Origin, bare
from poller.body import Body
from poller.digest import Tally
from poller.keyring import Keyring
from poller.outcome import Locked, Outcome, Trouble
from poller.patience import Patience
from poller.promise import is_strong
from poller.remote import Aborted, Auth, Conversation, Denied, Link, Remote, Reply, Request, Token, retry_after
from poller.wire import Wire

T = TypeVar("T")

_OK, _UNAUTHORIZED = 200, 401
_HICCUPS = frozenset({408, 425, 429, 502, 503, 504})
_TRIES = 3
_LONGEST_HICCUP = 5.0
"""Seconds: a remote that asks for more than this is asked again by the schedule."""
_REPLY_BYTES = 2**20
_REPLY_SECONDS = 60.0
"""For a question until its reply is read whole, hiccups included; files have their own limits."""


class Client:
    """Talks to one remote.

    Args:
        remote: whom, and how.
        wire: carries requests.
        learn: is told every token that is issued to us, so that it is never shown.
        now: epoch seconds, for ``Retry-After`` as a date.
        clock: monotonic seconds, for the life of tokens.
        hiccup: seconds before the first retry of a hiccup; doubled for the next.
    """

    def __init__(
        self,
        *,
        remote: Remote,
        wire: Wire,
        learn: Callable[[str], None],
        now: Callable[[], float],
        clock: Callable[[], float],
        hiccup: float = 0.2,
    ) -> None:
        self._remote = remote
        self._wire = wire
        self._now = now
        self._patience = Patience(_REPLY_SECONDS)
        self._keyring = self._made(remote.auth, learn, clock)
        self._patiently = backoff.on_exception(
            _waits,
            _Hiccup,
            max_tries=_TRIES,
            giveup=_too_long,
            jitter=None,
            logger=None,
            first=hiccup,
        )(self._again)

    def _made(self, auth: Auth | None, learn: Callable[[str], None], clock: Callable[[], float]) -> Keyring | None:
        if auth is None:
            return None
        return Keyring(auth=auth, run=self._converse, learn=learn, now=self._now, clock=clock)

    async def ask(self, conversation: Conversation[T]) -> T | Outcome:
        """Carry out a conversation; whatever goes wrong on the way is an outcome, too."""
        try:
            return await self._converse(conversation)
        except Aborted as aborted:
            return aborted.outcome
        except Denied as denied:
            return Locked(reason=str(denied))

    @asynccontextmanager
    async def open(self, link: Link, headers: Mapping[str, str]) -> AsyncIterator[Body]:
        """Open a link with *headers*, and with credentials if it is one of the remote's own.

        A link that is refused with a fresh token says nothing about the door: the check got
        through it with the same token. So a 401 is the caller's to judge, like any status.

        Raises:
            Aborted: it could not be opened.
        """
        request = Request(method="GET", url=link.url, headers={**link.headers, **headers}, auth=link.auth)
        try:
            body, _ = await self._signed(request, link=True)
        except Denied as denied:
            raise Aborted(Locked(reason=str(denied))) from None
        with body:
            yield body

    async def _converse(self, conversation: Conversation[T]) -> T:
        """Send what is yielded until the answer is returned; failures are thrown in, to be caught there or not."""
        try:
            request = next(conversation)
            while True:
                try:
                    reply = await self._exchange(request)
                except (Aborted, Denied) as failure:
                    request = conversation.throw(failure)
                else:
                    request = conversation.send(reply)
        except StopIteration as end:
            answer: T = end.value
            return answer
        finally:
            conversation.close()

    async def _exchange(self, request: Request) -> Reply:
        """Get the reply to one request, riding out hiccups if asking twice does no harm."""
        try:
            with self._patience.limit():
                return await (self._calmly if request.repeatable else self._reply)(request)
        except _Hiccup as hiccup:
            return hiccup.settled()
        except TimeoutError:
            reason = f"the reply took more than {self._patience.seconds:.0f} s"
            raise Aborted(Trouble(reason=reason, address=bare(request.url))) from None

    async def _calmly(self, request: Request) -> Reply:
        """Ask once; only if there was a hiccup, go to the expense of being prepared for more."""
        try:
            return await self._once(request)
        except _Hiccup as hiccup:
            first = [hiccup]
        return await self._patiently(request, first)

    async def _again(self, request: Request, seen: list["_Hiccup"]) -> Reply:
        """Ask once more; the hiccup that was *seen* is the outcome of the first time."""
        if seen:
            raise seen.pop()
        return await self._once(request)

    async def _once(self, request: Request) -> Reply:
        try:
            reply = await self._reply(request)
        except Aborted as aborted:
            if _unanswered(aborted.outcome):
                raise _Hiccup(aborted) from None
            raise
        if reply.status in _HICCUPS:
            raise _Hiccup(reply)
        return reply

    async def _reply(self, request: Request) -> Reply:
        """Get a reply; one whose body says that our credentials are not accepted is as good as a 401."""
        body, used = await self._signed(request)
        reply = await self._read(request, body)
        if self._keyring is None or used is None or not self._keyring.refuses(reply):
            return reply
        if used.fresh or not self._keyring.renewable:
            raise Denied(f"{bare(request.url)} does not accept our credentials, as its page says of such a reply")
        token = await self._keyring.replace(used.token)
        reply = await self._read(request, await self._wire.send(request, self._keyring.headers(token)))
        if self._keyring.refuses(reply):
            raise Denied(f"{bare(request.url)} does not accept a fresh token, either")
        return reply

    async def _read(self, request: Request, body: Body) -> Reply:
        with body:
            content, sha256 = b"", ""
            if request.digest and body.status == _OK and not _is_json(body):
                sha256 = "" if is_strong(body.headers.get("etag", "")) else await _digested(body)
            else:
                content = await body.read(_REPLY_BYTES)
            return Reply(
                status=body.status,
                headers=body.headers,
                body=content,
                url=body.url,
                retry_after=retry_after(body.headers.get("retry-after"), self._now()),
                cookies=body.cookies if "set-cookie" in body.headers else {},
                sha256=sha256,
            )

    async def _signed(self, request: Request, *, link: bool = False) -> "tuple[Body, _Used | None]":
        """Send *request* with credentials; after a 401, once more with a fresh token.

        Args:
            request: what to send.
            link: whether it is a link; those may roam, and a second 401 is handed on.

        Raises:
            Denied: the login was refused, or a question was with a fresh token.
        """
        if self._keyring is None or not self._is_own(request):
            return self._welcome(request, await self._wire.send(request, {}, roam=link), link=link), None
        token = await self._keyring.token()
        body = await self._wire.send(request, self._keyring.headers(token), roam=link)
        if not self._turned_away(body):
            return body, _Used(token, fresh=False)
        if not self._keyring.renewable:
            return self._welcome(request, body, link=link), _Used(token, fresh=False)
        body.release()
        token = await self._keyring.replace(token)
        body = await self._wire.send(request, self._keyring.headers(token), roam=link)
        return self._welcome(request, body, link=link), _Used(token, fresh=True)

    def _welcome(self, request: Request, body: Body, *, link: bool) -> Body:
        """Give a reply to whom it is for, unless it lets nobody in."""
        if link or not request.auth or not self._turned_away(body):
            return body
        body.release()
        renewed = self._keyring is not None and self._keyring.renewable
        fresh = "to a fresh token, too" if renewed else "and no login is configured that it accepts"
        raise Denied(f"{bare(request.url)} answered 401 {fresh}")

    def _is_own(self, request: Request) -> bool:
        try:
            return request.auth and Origin.of(request.url) == self._remote.base
        except ValueError:
            return False

    def _turned_away(self, body: Body) -> bool:
        """Tell whether the remote itself wants another token; what a redirect led to never saw ours."""
        return body.status == _UNAUTHORIZED and Origin.of(body.url) == self._remote.base


class _Used(NamedTuple):
    """The credential that a reply is the answer to, and whether it was issued for that."""

    token: Token
    fresh: bool


class _Hiccup(Exception):  # noqa: N818 - it may well end in a reply
    """Something that is likely to be over in a moment."""

    def __init__(self, seen: Aborted | Reply) -> None:
        super().__init__()
        self.seen = seen

    @property
    def retry_after(self) -> float:
        return (isinstance(self.seen, Reply) and self.seen.retry_after) or 0.0

    def settled(self) -> Reply:
        """Say what it came to in the end: the last reply, or the last failure."""
        if isinstance(self.seen, Aborted):
            raise self.seen
        return self.seen


def _is_json(body: Body) -> bool:
    """Tell whether a reply is one to be read, whatever was expected of it."""
    return body.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


async def _digested(body: Body) -> str:
    tally = Tally({"sha256"})
    async with aclosing(body.blocks()) as blocks:
        async for block in blocks:
            tally.update(block)
    return tally.hex("sha256")


def _unanswered(outcome: Outcome) -> bool:
    """Tell whether nothing answered: what did answer has a status, and its say."""
    return isinstance(outcome, Trouble) and outcome.status is None


def _too_long(error: Exception) -> bool:
    return isinstance(error, _Hiccup) and error.retry_after > _LONGEST_HICCUP


def _waits(first: float) -> Generator[float, Any, None]:
    """Say how long to wait: as the remote wishes, else doubling, with jitter of our own.

    backoff sends each exception in. Its own jitter would cut a ``Retry-After`` short.
    """
    error = yield 0.0
    wait = first
    while True:
        wish = error.retry_after if isinstance(error, _Hiccup) else 0.0
        error = yield max(wish, wait * (0.5 + random.random() / 2))  # noqa: S311 - spreads load, guards nothing
        wait *= 2
