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

from collections.abc import Callable, Generator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from poller.address import Origin
from poller.errand import Found, Heard, Nudged, Push, Started, Version, Wish
from poller.order import Order
from poller.outcome import Absent, Gone, NothingToFetch, NotReady, Outcome, Refused, Trouble, Unsafe

T = TypeVar("T")

_SAFE = frozenset({"GET", "HEAD"})


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request.

    Attributes:
        url: absolute, already encoded; sent byte for byte.
        auth: whether the remote's credentials go with it. They go to its own origin only.
        again: whether it does no harm to send it twice; None for what HTTP says of its method (RFC 9110, 9.2.2).
        digest: whether the body, of whatever length, is only to be digested (``Reply.sha256``).
    """

    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes | None = None
    auth: bool = True
    again: bool | None = None
    digest: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent twice."""
        return self.method in _SAFE if self.again is None else self.again


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, read whole (it is capped; files never come this way).

    Attributes:
        headers: names in lower case; of a repeated header, the first.
        url: the address that answered in the end.
        retry_after: the remote's wish in seconds, if it sent ``Retry-After``.
        cookies: every one that was set, by name.
        sha256: hex digest of the body, if that was all that was wanted of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    retry_after: float | None = None
    cookies: Mapping[str, str] = {}
    sha256: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file is.

    Attributes:
        url: absolute, already encoded; sent byte for byte.
        auth: whether credentials go with it; never, whatever is said here, to another origin.
        headers: what else goes with it, to that origin alone.
        extension: what the file's name ends with; empty if that depends on its type.
        extensions: what the file's own name, as the remote gives it, may end with instead.
        unpack: ``gzip`` where the file is packed and should not stay so; else empty.
        nothing: whether a file without a byte means that there is none.
        expected: the entity tag, or the SHA-256 in hex, without which it is another file; empty for any.
        following: given the head of its reply, gives the link of the next part of the file, if there is one.
    """

    url: str
    auth: bool = True
    headers: Mapping[str, str] = {}
    extension: str = ""
    extensions: frozenset[str] = frozenset()
    unpack: str = ""
    nothing: bool = False
    expected: str = ""
    following: Callable[["Head"], "Link | None"] | None = None


class Head(Protocol):
    """What comes before a body."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def url(self) -> str:
        """The address that answered in the end."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of a repeated header, the first."""
        ...


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The files exist.

    Attributes:
        good_for: seconds for which the links are good; None for as long as anybody knows.
    """

    links: tuple[Link, ...]
    good_for: float | None = None


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

    @property
    def renewable(self) -> bool:
        """Whether logging in again may give another credential."""
        ...

    def login(self, now: float) -> Conversation[Token]:
        """Get a credential.

        Args:
            now: epoch seconds.

        Raises:
            Denied: the remote does not accept who we say we are.
            Aborted: it could not be asked.
        """
        ...

    def refuses(self, reply: Reply) -> bool:
        """Tell whether a reply, whatever its status, means that the credential is not accepted."""
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
        tasks: tasks that may be under way there at once.
    """

    requests_per_minute: int | None = None
    connections: int | None = None
    checks: int | None = None
    downloads: int | None = None
    tasks: int | None = None


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """How patient one is with a remote, in seconds; None where nothing is said.

    Attributes:
        deadline: until an order that brings none is given up.
        grace: for which a task may not be known there yet.
        interval_min: between two questions about an order, at least.
        interval_max: at most.
    """

    deadline: float | None = None
    grace: float | None = None
    interval_min: float | None = None
    interval_max: float | None = None


class Remote(Protocol):
    """A system that makes files."""

    @property
    def name(self) -> str:
        """The name that orders use."""
        ...

    @property
    def title(self) -> str:
        """The name that people use."""
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

    @property
    def pacing(self) -> Pacing:
        """How patient to be with it."""
        ...

    @property
    def abilities(self) -> frozenset[str]:
        """What else can be asked of it: ``start``, ``cancel``, ``discover``, ``nudge``, ``feed``."""
        ...

    @property
    def kinds(self) -> Mapping[str, str]:
        """The kinds of task it can start, and a sentence about each."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """What the context of an order must hold that was not started here."""
        ...

    def fit(self, wish: Wish) -> Wish:
        """Check what somebody wants started, and fill in what he did not say.

        Raises:
            Misfit: it cannot be started like this; names every fault.
        """
        ...

    def start(self, wish: Wish) -> Conversation[Started | Answer]:
        """Start a task. It is not asked twice unless the request says that it may."""
        ...

    def cancel(self, order: Order) -> Conversation[Heard | Answer]:
        """Tell the remote that nobody wants the order's task any more."""
        ...

    def discover(self, wish: Mapping[str, Any], most: int) -> Conversation[Found | Answer]:
        """List the tasks it has, up to *most* of them.

        Args:
            wish: which ones, as the remote's page says.
            most: when to stop.

        Raises:
            Misfit: there is no such wish; before anything is asked.
        """
        ...

    @property
    def watched(self) -> float | None:
        """Seconds between two looks at a feed's address; None if it is none."""
        ...

    def look(self, seen: Mapping[str, str]) -> Conversation[Version | Answer]:
        """See whether a feed has a new version; NothingToFetch if it has not.

        Args:
            seen: what the last version gave; empty at first.
        """
        ...

    def heed(self, push: Push, now: float) -> Conversation[Nudged | Refused | Trouble]:
        """Tell whether a push is the remote's, and whom it is about.

        Args:
            push: what came.
            now: epoch seconds.
        """
        ...

    def tells(self, order: Order) -> bool:
        """Say whether the remote wants to hear that this order has come to rest."""
        ...

    def tell(self, order: Order) -> Conversation[Heard | Answer]:
        """Tell the remote that an order has come to rest."""
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
