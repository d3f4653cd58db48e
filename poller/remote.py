"""Remotes as conversations: what is said, apart from how it is carried.

A conversation is a generator that yields ``Request``s, is sent the ``Reply`` to each,
and returns an answer. It does no I/O, so a table of replies is all its test needs::

    def check(self, order):
        reply = yield Request(method="GET", url=f"{base}/tasks/{order.task_id}")
        if reply.status == 204:
            return NotReady()
        ...

One client runs the conversations of every remote (``client.Client``). It looks after
credentials, so a conversation never sees a 401 that a fresh token would have cured.
"""

from collections.abc import Generator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from poller.address import Origin
from poller.order import Order
from poller.outcome import Absent, Gone, NothingToFetch, NotReady, Outcome, Refused, Trouble, Unsafe

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request.

    Attributes:
        url: absolute, already encoded; sent byte for byte.
        auth: whether the remote's credentials go with it. They go to its own origin only.
    """

    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes | None = None
    auth: bool = True


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, read whole (it is capped; files never come this way).

    Attributes:
        headers: names in lower case; of a repeated header, the first.
        url: the address that answered in the end.
        retry_after: the remote's wish in seconds, if it sent ``Retry-After``.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    retry_after: float | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file is.

    Attributes:
        url: absolute, already encoded; sent byte for byte.
        auth: whether credentials go with it; never, whatever is said here, to another origin.
    """

    url: str
    auth: bool = True


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The files exist."""

    links: tuple[Link, ...]


class NeedsConfirming(msgspec.Struct, frozen=True, kw_only=True):
    """The remote waits for our word before it goes on."""


Answer: TypeAlias = NotReady | Ready | NothingToFetch | NeedsConfirming | Refused | Gone | Absent | Trouble | Unsafe
"""What the remote said."""

Conversation: TypeAlias = Generator[Request, Reply, T]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that was issued to us.

    Attributes:
        lifetime: seconds from now for which it is good; None if nobody said.
    """

    value: str
    lifetime: float | None = None


class Auth(Protocol):
    """How one remote wants to be convinced."""

    def login(self) -> Conversation[Token]:
        """Get a credential.

        Raises:
            Denied: the remote does not accept who we say we are.
            Aborted: it could not be asked.
        """
        ...

    def sign(self, token: Token) -> Mapping[str, str]:
        """Give the headers that carry *token*."""
        ...


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What one remote's files are like.

    Attributes:
        extensions: media type, in lower case, to extension; anything else becomes ``.bin``.
        unframed: what to do with a body that has neither length nor chunks, whose end
            therefore proves nothing: ``refuse`` it, fetch it ``twice``, or ``trust`` it.
        window: seconds for which the remote keeps a file once it is ready; None for ever.
    """

    extensions: Mapping[str, str] = {}
    unframed: str = "twice"
    window: float | None = None


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one remote is used at once; None where nothing is said.

    Attributes:
        requests_per_minute: every request counts, whatever it is for.
        connections: connections that are open at once.
        checks: questions at once.
        downloads: files at once.
    """

    requests_per_minute: int | None = None
    connections: int | None = None
    checks: int | None = None
    downloads: int | None = None


class Remote(Protocol):
    """A system that makes files."""

    @property
    def name(self) -> str:
        """The name that orders use."""
        ...

    @property
    def base(self) -> Origin:
        """The only origin that the API's credentials go to."""
        ...

    @property
    def origins(self) -> frozenset[Origin]:
        """What its operator configured, and may therefore be private or plain http."""
        ...

    @property
    def auth(self) -> Auth | None:
        """How to log in, or None where nothing is asked."""
        ...

    @property
    def delivery(self) -> Delivery:
        """What its files are like."""
        ...

    @property
    def caps(self) -> Caps:
        """How much it takes at most, as its page says."""
        ...

    def check(self, order: Order) -> Conversation[Answer]:
        """Ask about the order's task."""
        ...

    def confirm(self, order: Order) -> Conversation[Answer]:
        """Tell the remote to go on with the order's task."""
        ...


class Aborted(Exception):  # noqa: N818 - it carries an outcome, which may be no error
    """Ends a step early, with the outcome that it has come to."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome


class Denied(Exception):  # noqa: N818
    """The remote does not let us in; the text says what it answered."""


def retry_after(text: str | None, now: float) -> float | None:
    """Read ``Retry-After`` (RFC 9110, 10.2.3): seconds, or an HTTP date. Nonsense is None, the past is 0.

    Args:
        text: the header's value.
        now: epoch seconds.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:18])
    try:
        date = parsedate_to_datetime(text)
        # The oldest of the three forms (asctime's) names no zone; it is in UTC like the others.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def judge(reply: Reply, *, address: str, reason: str) -> Answer:
    """Classify a reply that a remote's own page has no verdict about.

    Statuses as RFC 9110 defines them; 425 is RFC 8470, 429 is RFC 6585.
    """
    seen: dict[str, Any] = {"reason": reason, "status": reply.status, "address": address}
    match reply.status:
        case 404 | 410:
            return Absent(**seen, retry_after=reply.retry_after)
        case 400 | 405 | 422:
            return Refused(**seen)
        case _:
            return Trouble(**seen, retry_after=reply.retry_after)
