"""What may be said aloud: no secret, no signed query string, no control character.

Every text that came from outside passes here before it is stored, logged or shown.
A signed link's query *is* a credential, so all queries are cut; known secrets are
masked wherever they turn up, because remotes echo what they were sent, and echo it
encoded in their own ways.

Texts are masked first and cut afterwards: half a secret no longer looks like one.
"""

import json
import re
from collections.abc import Iterable
from html import escape
from urllib.parse import quote, quote_plus

from poller.address import bare

MASK = "***"
_LINK = re.compile(r"(?:\b[A-Za-z][A-Za-z0-9+.-]{0,30}:)?[/\\]{2,}[^\s\"'<>]+")
_QUERY = re.compile(r"\?[^\s\"'<>?=]*=[^\s\"'<>]*")
"""What is left of a link that names no host: ``/file?signature=…``."""
_SIGNED = re.compile(
    r"\b((?:X-(?:Amz|Goog|Ms)-)?(?:Signature|Credential|Security-Token|Token|Sig|Access[-_]?Token|Key-Pair-Id|Policy))"
    r"(\s*=\s*|%3D)[^\s&\"'<>]+",
    re.IGNORECASE,
)
"""Parts of a signed query that stand alone, or whose link was encoded or broken off."""
_BEARER = re.compile(r"\b(Bearer|Basic)((?:[\s:]|%20)+)[A-Za-z0-9+/._~=-]{8,}", re.IGNORECASE)
_SAFE = ("", "/", "!'()*", ";,/?:@&=+$#!'()*")
"""What encoders leave alone: by the letter, in paths, and JavaScript's two."""
_HEX = re.compile(r"%[0-9A-F]{2}")
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+"  # and what turns text round
)
_READ = 2**16
"""Characters of a text that are looked at: a hostile megabyte would hold up everything else."""
_TAIL = 100
_SHORTEST = 4
"""Shorter secrets would mask ordinary words."""
_TOKENS = 100
"""Tokens rotate, and live a day: those issued before the last hundred have expired."""


class Redactor:
    """Makes text fit to be said; learns secrets as they appear (a token, once issued).

    Args:
        secrets: values to mask for good.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known = frozenset(form for secret in secrets for form in _forms(secret))
        self._issued: dict[str, frozenset[str]] = {}
        self._sought = _longest_first(self._known)

    def learn(self, secret: str) -> None:
        """Mask *secret* too, as the newest of those that were issued to us."""
        self._issued.pop(secret, None)
        self._issued[secret] = _forms(secret)
        if len(self._issued) > _TOKENS:
            del self._issued[next(iter(self._issued))]
        self._sought = _longest_first(self._known.union(*self._issued.values()))

    def mask(self, text: str) -> str:
        """Mask secrets and cut queries, and leave the rest as it is."""
        text = _LINK.sub(lambda link: bare(link[0]), self._hidden(text))
        text = _SIGNED.sub(rf"\1\2{MASK}", _QUERY.sub("", text))
        text = _BEARER.sub(rf"\1\2{MASK}", text)
        return self._hidden(text)

    def hide(self, text: str, *, limit: int) -> str:
        """Hide known secrets in a text of our own making, and leave the rest as it is, queries too."""
        return self._hidden(text)[:limit]

    def __call__(self, text: str, *, limit: int = 500) -> str:
        """Make one printable line of *text*, at most *limit* characters."""
        line = _CONTROL.sub(" ", self.mask(text[:_READ]))
        line = self.mask(line).strip()  # again: a control character may have stood in the middle of something
        if len(text) > _READ:
            line = line[: -self._margin] + "…"
        return line if len(line) <= limit else line[: limit - 1] + "…"

    @property
    def _margin(self) -> int:
        """How many characters at the end of a text that was cut may be a part of something secret."""
        return _TAIL + max(map(len, self._sought), default=0)

    def _hidden(self, text: str) -> str:
        for secret in self._sought:
            text = text.replace(secret, MASK)
        return text


def _forms(secret: str) -> frozenset[str]:
    """Spell *secret* in the ways in which it may be echoed: in an address, a form, JSON, a page."""
    if len(secret) < _SHORTEST:
        return frozenset()
    text = secret.encode("utf-8", "surrogatepass")
    encoded = {encode(text, safe=safe) for encode in (quote, quote_plus) for safe in _SAFE}
    lowered = {_HEX.sub(lambda byte: byte[0].lower(), form) for form in encoded}
    quoted = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    slashed = {form.replace("/", "\\/") for form in quoted}
    return frozenset({secret, escape(secret), *encoded, *lowered, *quoted, *slashed})


def _longest_first(secrets: Iterable[str]) -> tuple[str, ...]:
    """Sort, so that a secret within another does not leave the rest of the other standing."""
    return tuple(sorted(secrets, key=len, reverse=True))
