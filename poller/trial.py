"""One check, watched: every request, its reply, every expression with its value, and what it comes to.

For whoever writes a page. What is noted is masked: secrets, tokens, signed queries.
"""

import time
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from poller.client import Client
from poller.order import Order
from poller.outcome import Outcome, Setback, Unknown
from poller.redact import MASK, Redactor
from poller.remote import Aborted, Answer, Auth, Conversation, Denied, Link, Ready, Remote, Reply, Request, Token
from poller.remotes.example import NAMES
from poller.remotes.expression import WITNESS, Expression
from poller.wire import Wire

T = TypeVar("T")

_BODY = 2000
"""Characters of a body that are shown."""
_VALUE = 500
_SECRET = frozenset({"authorization", "cookie", "set-cookie"})


class Seen(msgspec.Struct, kw_only=True):
    """One expression and its value.

    Attributes:
        place: where the page has it.
        value: as JSON, or what is wrong.
        failed: whether it could not be computed.
    """

    place: str
    expression: str
    value: str
    failed: bool = False


class Exchange(msgspec.Struct, kw_only=True):
    """One request and what came of it.

    Attributes:
        sent: headers of the page; those that let us in are named, not shown.
        status: of the reply; None if there was none, and *problem* says why.
        seconds: until it came.
    """

    method: str
    url: str
    sent: Mapping[str, str] = {}
    body: str = ""
    credentials: bool = False
    status: int | None = None
    headers: Mapping[str, str] = {}
    reply: str = ""
    problem: str = ""
    seconds: float = 0.0
    expressions: list[Seen] = []


class Fetch(msgspec.Struct, kw_only=True):
    """One file that would be fetched."""

    url: str
    credentials: bool
    extension: str


class Trial(msgspec.Struct, kw_only=True):
    """A whole check.

    Attributes:
        verdict: what the answer is called.
        told: what it says, if it says anything.
        files: what would be fetched.
    """

    exchanges: list[Exchange] = []
    verdict: str = ""
    told: Mapping[str, Any] = {}
    files: list[Fetch] = []


async def tried(remote: Remote, order: Order, redact: Redactor) -> Trial:
    """Carry out one check for real; nothing is stored, and no file is fetched.

    Args:
        remote: whom to ask.
        order: about what.
        redact: makes texts fit to be shown; learns tokens.
    """
    wire = Wire(
        base=remote.base,
        origins=remote.origins,
        connections=2,
        idle_timeout=30.0,
        floor_rate=1.0,
        clock=time.monotonic,
    )
    watch = _Watch(redact)
    shown = _Shown(remote, watch)
    client = Client(remote=shown, wire=wire, learn=redact.learn, now=time.time, clock=time.monotonic)
    token = WITNESS.set(watch.computed)
    try:
        answer = await client.ask(watch.over(remote.check(order)))
    finally:
        WITNESS.reset(token)
        await wire.close()
    return watch.ended(answer)


class _Shown:
    """A remote whose logins are noted; what is said in them is not."""

    def __init__(self, remote: Remote, watch: "_Watch") -> None:
        self._remote = remote
        self.auth = None if remote.auth is None else _Door(remote.auth, watch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)


class _Door:
    """A way in that is watched."""

    def __init__(self, auth: Auth, watch: "_Watch") -> None:
        self._auth, self._watch = auth, watch

    def login(self, now: float) -> Conversation[Token]:
        """Log in, unheard: what is computed on the way is the token itself."""
        token = WITNESS.set(None)
        try:
            return (yield from self._watch.over(self._auth.login(now), secretly=True))
        finally:
            WITNESS.reset(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._auth, name)


class _Watch:
    """Notes what happens in a conversation."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._trial = Trial(exchanges=[], files=[])
        self._early: list[Seen] = []
        self._last: Exchange | None = None

    def over(self, conversation: Conversation[T], *, secretly: bool = False) -> Conversation[T]:
        """Carry on a conversation word by word, and note each; secretly, only that there was one."""
        try:
            request = next(conversation)
            while True:
                noted = self._asked(request, secretly=secretly)
                try:
                    reply = yield request
                except (Aborted, Denied) as failure:
                    self._failed(noted, failure)
                    request = conversation.throw(failure)
                else:
                    self._answered(noted, reply, secretly=secretly)
                    request = conversation.send(reply)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def computed(self, expression: Expression, value: Any) -> None:
        """Note an expression and its value; one that is computed twice is noted once."""
        failed = isinstance(value, ValueError)
        text = str(value) if failed else msgspec.json.encode(value).decode()
        text = self._redact(text, limit=_VALUE)
        seen = Seen(place=expression.place, expression=expression.text, value=text, failed=failed)
        noted = self._last.expressions if self._last is not None else self._early
        if seen not in noted:
            noted.append(seen)

    def ended(self, answer: Answer | Outcome) -> Trial:
        """Give all that was noted, and the answer."""
        trial = self._trial
        trial.verdict = NAMES.get(type(answer), type(answer).__name__.lower())
        if isinstance(answer, Ready):
            trial.files = [
                Fetch(url=self._redact(link.url), credentials=link.auth, extension=_extension(link))
                for link in answer.links
            ]
        elif isinstance(answer, msgspec.Struct):
            said = {name: getattr(answer, name) for name in answer.__struct_fields__}
            trial.told = {name: self._fit(value) for name, value in said.items() if value not in (None, "", False)}
        if isinstance(answer, Setback) and not isinstance(answer, Unknown) and "cause" in trial.told:
            trial.told = {name: value for name, value in trial.told.items() if name != "cause"}
        return trial

    def _asked(self, request: Request, *, secretly: bool) -> tuple[Exchange, float]:
        body = (request.body or b"").decode("utf-8", "replace")
        exchange = Exchange(
            method=request.method,
            url=self._redact.hide(request.url, limit=_BODY),
            sent=self._headers(request.headers),
            body=MASK if secretly and body else self._redact(body, limit=_BODY),
            credentials=request.auth,
            expressions=[] if secretly else self._early,
        )
        if secretly:  # on the way to what was asked last
            self._trial.exchanges.insert(max(len(self._trial.exchanges) - 1, 0), exchange)
        else:
            self._trial.exchanges.append(exchange)
            self._early = []
        return exchange, time.monotonic()

    def _answered(self, noted: tuple[Exchange, float], reply: Reply, *, secretly: bool) -> None:
        exchange, begun = noted
        exchange.seconds = round(time.monotonic() - begun, 3)
        exchange.status = reply.status
        exchange.headers = self._headers(reply.headers)
        exchange.reply = MASK if secretly else self._redact(reply.body.decode("utf-8", "replace"), limit=_BODY)
        if not secretly:
            self._last = exchange

    def _failed(self, noted: tuple[Exchange, float], failure: Exception) -> None:
        outcome = failure.outcome if isinstance(failure, Aborted) else failure
        noted[0].problem = self._redact(getattr(outcome, "reason", "") or str(outcome))

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {name: MASK if name.lower() in _SECRET else self._redact(value) for name, value in headers.items()}

    def _fit(self, value: Any) -> Any:
        return self._redact(value, limit=_BODY) if isinstance(value, str) else value


def _extension(link: Link) -> str:
    """Say what a file's name will end with, as far as that is known before it is fetched."""
    if link.extension:
        return link.extension
    return f"as its own does, if that is {' or '.join(sorted(link.extensions))}" if link.extensions else "by its type"
