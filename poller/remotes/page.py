"""A remote's page: what a TOML description may say, ready to be bound to settings.

Addresses are URI Templates (RFC 6570), bodies are shapes with names in braces; both are filled
in with ``task_id``, ``batch``, ``context.NAME``, the remote's settings, and whatever earlier
replies gave to ``keep``. Verdicts and values are JMESPath over::

    status    the reply's HTTP status, a number
    headers   its headers, names in lower case
    body      its body, if that is JSON, else null
    date      when the remote's own clock says that it answered, as 2026-11-29T08:00:00.000Z
    task      {id, batch, context, created_at, made_at, made_ms}; the last two are what the ID itself tells, if it does
    vars      what was kept of earlier replies
    input     what a start was given

The verdicts of a step are tried in the order they are written; the first that is true
counts. One that is a list of words is true of a good reply whose ``word`` is one of them, in
capitals or not. A reply without a verdict is classified by its status (``remote.judge``); one that is
good all the same says something that the page does not know, which is told once.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from poller.remote import Caps, Pacing
from poller.remotes.expression import Expression
from poller.remotes.template import Address

NAMED = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
"""A setting's name within a text that is no address."""

VERDICTS = ("pending", "ready", "done", "confirm", "failed", "gone", "absent", "trouble")
"""What a check can come to; ``done`` is complete without a file, ``confirm`` waits for our word."""


ANSWERS = (
    *("pending", "ready", "done", "confirm", "failed", "gone", "absent", "trouble", "unknown", "unsafe"),
    *("started", "heard", "found", "version", "denied", "misfit"),
)
"""What an example can give."""


class Variable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setting of a remote.

    Attributes:
        default: used when it is not set; may name other settings in braces.
        without: what is cut off its end, for who gives more of an address than is wanted.
        why: one sentence for who has to fill it in.
    """

    required: bool = False
    secret: bool = False
    default: str | None = None
    without: str = ""
    why: str = ""


SHORTHANDS: Mapping[str, Variable] = {
    "required": Variable(required=True),
    "secret": Variable(required=True, secret=True),
    "optional": Variable(),
    "optional secret": Variable(secret=True),
}
"""Settings that need no more than a word."""


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that whoever starts a task may say about it.

    Attributes:
        default: what is meant where nothing is said.
        choices: what may be said; empty for anything.
    """

    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    why: str = ""


class Static(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials that stay as they are: headers, with settings in them.

    Attributes:
        user, password: what is sent as Basic (RFC 7617) where there is a user.
    """

    headers: Mapping[str, str] = {}
    user: str | None = None
    password: str = ""


class OAuth2(msgspec.Struct, frozen=True, kw_only=True):
    """A token for a client (RFC 6749): client credentials, or a refresh token that is at hand.

    Attributes:
        send: how the request is written, ``form`` as the RFC has it or ``json``.
        client: whether the client says who it is in the ``body``, or by ``basic``.
        extra: further members of the request.
        headers: what carries the ``{token}``.
    """

    token_url: Address
    client_id: str
    client_secret: str
    grant: str
    send: str
    client: str
    extra: Mapping[str, str]
    headers: Mapping[str, str]


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A request's body.

    Attributes:
        kind: ``json``, ``form``, ``multipart`` or ``graphql``.
        shape: what is filled in; of GraphQL the variables.
        document: of GraphQL the document, in which nothing is filled in.
    """

    kind: str
    shape: Any
    document: str = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    Attributes:
        params: what is added to the address's query; what has no value is left out.
    """

    method: str
    address: Address
    params: Any = {}
    headers: Mapping[str, str] = {}
    payload: Payload | None = None


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A request that gives a token, or sets a cookie.

    Attributes:
        token: where the token is; None where it is a cookie.
        cookie: name of the cookie.
        expires_in: seconds for which it is good, as the reply says.
        lifetime: seconds for which it is good where the reply does not say.
        denied: true of a reply that does not let us in.
        reason: why.
    """

    call: Call
    token: Expression | None
    cookie: str
    expires_in: Expression | None
    lifetime: float | None
    denied: Expression | None
    reason: Expression | None
    headers: Mapping[str, str]


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A token that we sign ourselves: a JWT with HMAC and SHA-256 (RFC 7519, HS256)."""

    secret: str
    claims: Mapping[str, Any]
    lifetime: float
    headers: Mapping[str, str]


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """One way to be let in.

    Attributes:
        renew: true of a reply, whatever its status, that wants a fresh token.
        settings: names of the settings it needs.
    """

    kind: Static | OAuth2 | Login | Signed
    renew: Expression | None
    settings: frozenset[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Where a failed task's error report is.

    Attributes:
        link: its address, as the reply says.
        text, after: the address after a marker in a text of the reply.
        call: a request of its own.
        reason: what in the report says why; None for the whole of it.
    """

    link: Expression | None = None
    text: Expression | None = None
    after: str = ""
    call: Call | None = None
    reason: Expression | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a reply can mean: when an expression is true, or when its word is one of these."""

    name: str
    when: Expression | None = None
    words: frozenset[str] = frozenset()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request and how its reply is read.

    Attributes:
        word: where the reply says what it means.
        compared: the values that the verdicts compare with words, such as ``body.state``.
        keep: what later addresses, bodies and expressions may use.
        then: further requests, once the verdict is ready.
        at_once: true of a reply that is the file itself.
        otherwise: the verdict about a good reply that none of the others is true of.
    """

    call: Call
    word: Expression | None = None
    verdicts: tuple[Verdict, ...] = ()
    compared: tuple[Expression, ...] = ()
    keep: Mapping[str, Expression] = {}
    reason: Expression | None = None
    progress: Expression | None = None
    retry_after: Expression | None = None
    report: Report | None = None
    then: tuple["Step", ...] = ()
    at_once: Expression | None = None
    otherwise: str | None = None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How a task is started.

    Attributes:
        task_id: the remote's name for it.
        idempotent: whether the same request twice starts one task.
        at_once: true of a reply that is the file itself; there is no task then.
    """

    step: Step
    task_id: Expression
    inputs: Mapping[str, Input]
    idempotent: bool
    at_once: Expression | None
    why: str


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """How the remote's tasks are listed.

    The address says how it is paged: by ``{offset}``, by ``{page}``, or by ``{cursor}``;
    ``next`` is the address of the next page itself.

    Attributes:
        items: the list in a reply.
        task_id, only, context: of one item, its name, whether it is meant, what is kept with its order.
        cursor: where the next page begins.
        more: whether there is a next page.
        total: how many items there are on all pages.
        limit: how many items a page has at most.
        first: the number of the first page.
    """

    call: Call
    items: Expression
    task_id: Expression
    only: Expression | None
    context: Mapping[str, Expression]
    cursor: Expression | None
    more: Expression | None
    next: Expression | None
    total: Expression | None
    limit: int
    first: int
    reason: Expression | None
    inputs: Mapping[str, Input]


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """An address that always gives the newest file.

    Attributes:
        every: time between two looks, as a duration; a setting may be in it.
    """

    address: Address
    every: str
    headers: Mapping[str, str]


class Nudge(msgspec.Struct, frozen=True, kw_only=True):
    """How a push is recognised, and whom it is about.

    Attributes:
        hmac: name of the header with an HMAC-SHA256 of the body.
        jws: name of the header with a detached signature (RFC 7797).
        jwt: name of the header with an HS256 token.
        token: name of the header with a secret that both know.
        secret: the secret, with a setting in it.
        keys: where the public keys are.
        prefix: what stands before the HMAC.
        encoding: how it is written, ``hex`` or ``base64``.
        when: true of pushes that are meant.
        task_id: whom it is about; None for every order.
    """

    hmac: str
    jws: str
    jwt: str
    token: str
    secret: str
    keys: Address | None
    prefix: str
    encoding: str
    when: Expression | None
    task_id: Expression | None


class FileRule(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file is and what it is like.

    Attributes:
        link: JMESPath of an address, or of a list of them.
        path: template of a fixed address, where there is no link.
        each: a list of values, each of which makes an address of ``path`` as ``{each}``.
        optional: whether there may be none.
        max_age: seconds for which a link is good.
        next: JMESPath over the head of a part's reply that gives the address of the next part.
        following: the same for names in ``path``; there is a next part if every one of them has a value.
        types: media type to extension.
        extension: the extension whatever the type.
        extensions: those that a file's own name may bring.
        empty: ``refuse`` a file without a byte, or take it that there is ``none``.
        unpack: JMESPath that says ``gzip`` where the file is packed and should not stay so.
    """

    link: Expression | None
    path: Address | None
    each: Expression | None
    optional: bool
    auth: bool
    headers: Mapping[str, str]
    max_age: float | None
    next: Expression | None
    following: Mapping[str, Expression]
    types: Mapping[str, str]
    extension: str
    extensions: frozenset[str]
    unpack: Expression | None
    unframed: str
    empty: str


class After(msgspec.Struct, frozen=True, kw_only=True):
    """What the remote is told once an order has come to rest.

    Attributes:
        when: true of orders about which it is told.
    """

    call: Call
    when: Expression | None


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """Replies, and what the page makes of them.

    Attributes:
        step: which conversation.
        order: task ID, context and what was kept.
        replies: what comes back, in order.
        gives: the answer's name.
        asks: method and address of every request.
        more: further properties of the answer that must be as they are here.
    """

    step: str
    order: Mapping[str, Any]
    replies: tuple[Mapping[str, Any], ...]
    gives: str
    asks: tuple[str, ...]
    more: Mapping[str, Any]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A whole page, ready to be bound to settings."""

    name: str
    title: str
    source: str
    base: Address
    headers: Mapping[str, str]
    window: float | None
    pacing: Pacing
    caps: Caps
    allow_origins: tuple[str, ...]
    settings: Mapping[str, Variable]
    credentials: tuple[Credentials, ...]
    check: Step | None
    confirm: Step | None
    cancel: Step | None
    starts: Mapping[str, Start]
    discovery: Discovery | None
    feed: Feed | None
    nudge: Nudge | None
    after: Mapping[str, tuple[After, ...]]
    files: tuple[FileRule, ...]
    examples: tuple[Example, ...]

    @property
    def needs(self) -> frozenset[str]:
        """What a check must know of an order beside its task ID: its start keeps it, or its context has it."""
        needed = self.check.call.address.needed if self.check is not None else ()
        known = {*self.settings, "task_id", "batch"}
        return frozenset(name.removeprefix("context.").partition(".")[0] for name in needed if name not in known)
