"""A remote's page: what a TOML description may say, ready to be bound to settings.

Addresses are URI Templates (RFC 6570) over ``task_id``, ``batch``, ``context.NAME`` and
the remote's settings. Verdicts and values are JMESPath over::

    status    the reply's HTTP status, a number
    headers   its headers, names in lower case
    body      its body, if that is JSON, else null
    task      {id, batch, context}

The verdicts of a step are tried in the order they are written; the first that is true
counts. A reply without one is classified by its status (``remote.judge``); one that is
good all the same says something that the page does not know, which is told once.
"""

import re
from collections.abc import Mapping

import msgspec
from jmespath.parser import ParsedResult

from poller.remote import Caps

NAMED = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
"""A setting's name within a text that is no address."""


class Variable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setting of a remote.

    Attributes:
        default: used when it is not set; may name other settings in braces.
        why: one sentence for who has to fill it in.
    """

    required: bool = False
    secret: bool = False
    default: str | None = None
    why: str = ""


class OAuth2(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Client credentials (RFC 6749, 4.4); ``audience`` is the common extension of it."""

    token_url: str
    client_id: str
    client_secret: str
    audience: str | None = None
    scope: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Where a failed task's error report is: the address after a marker in a text."""

    text: ParsedResult
    after: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request and how its reply is read.

    Attributes:
        words: the values that the verdicts compare with words, such as ``body.state``.
    """

    method: str
    path: str
    verdicts: tuple[tuple[str, ParsedResult], ...]
    words: tuple[ParsedResult, ...]
    reason: ParsedResult | None
    progress: ParsedResult | None
    report: Report | None


class FileRule(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file is and what it is like.

    Attributes:
        link: JMESPath of an address, or of a list of them.
        path: template of a fixed address, where there is no link.
        types: media type to extension.
    """

    link: ParsedResult | None
    path: str | None
    auth: bool
    types: Mapping[str, str]
    unframed: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A whole page, ready to be bound to settings."""

    name: str
    title: str
    source: str
    base: str
    window: float | None
    caps: Caps
    allow_origins: tuple[str, ...]
    settings: Mapping[str, Variable]
    oauth2: OAuth2 | None
    check: Step
    confirm: Step | None
    file: FileRule
