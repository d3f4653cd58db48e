"""What a page's credentials come to: headers that stay, a login, a token we sign, a cookie. Each is an ``Auth``."""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import jwt

from poller.address import bare
from poller.outcome import Trouble
from poller.remote import Aborted, Conversation, Denied, Reply, Request, Token
from poller.remotes import template
from poller.remotes.expression import Expression
from poller.remotes.page import Login, Signed
from poller.remotes.scene import reason, scene

_PLAIN = re.compile(r"[!-~]+")
"""RFC 6750 takes fewer characters still; these can neither end a header nor begin another value."""
_COOKIE = re.compile(r"[!#-+\--:<-\[\]-~]*")
"""RFC 6265, 4.1.1."""
_DENYING = frozenset({400, 401, 403, 422})
_ALGORITHM = "HS256"


class Standing:
    """Headers that stay as they are. A remote that refuses them will do so again.

    Args:
        headers: settings filled in.
        renew: true of a reply, whatever its status, that does not accept them.
    """

    renewable = False

    def __init__(self, headers: Mapping[str, str], renew: Expression | None) -> None:
        self._headers = headers
        self._renew = renew

    def login(self, now: float) -> Conversation[Token]:  # noqa: ARG002 - the protocol's
        """Ask nobody."""
        yield from ()
        return Token(value="")

    def sign(self, token: Token) -> Mapping[str, str]:  # noqa: ARG002
        """Give the headers."""
        return self._headers

    def refuses(self, reply: Reply) -> bool:
        """Judge as the page does."""
        return wants(self._renew, reply)


class Session:
    """A request that gives a token, or sets a cookie.

    Args:
        login: as the page has it.
        request: the request, settings filled in; without credentials.
        renew: true of a reply, whatever its status, that wants a fresh token.
    """

    renewable = True

    def __init__(self, login: Login, request: Request, renew: Expression | None) -> None:
        self._login = login
        self._request = request
        self._renew = renew

    def login(self, now: float) -> Conversation[Token]:
        """Log in."""
        reply = yield self._request
        seen = scene(reply)
        told: dict[str, Any] = {"status": reply.status, "address": bare(reply.url)}
        if reply.status in _DENYING or wants(self._login.denied, reply):
            said = reason(self._login.reason, seen) if self._login.reason is not None else ""
            raise Denied(f"the login at {bare(reply.url)} was refused with {reply.status}{said and f': {said}'}")
        if not 200 <= reply.status < 300:  # noqa: PLR2004 - RFC 9110, 15.3
            why = f"the login answered {reply.status}"
            raise Aborted(Trouble(reason=why, retry_after=reply.retry_after, **told))
        value = self._value(reply, seen)
        if not isinstance(value, str) or not (_COOKIE if self._login.cookie else _PLAIN).fullmatch(value) or not value:
            what = f"cookie {self._login.cookie}" if self._login.cookie else "token that a header can carry"
            raise Aborted(Trouble(reason=f"the login's answer holds no {what}", **told))
        return Token(value=value, lifetime=self._lifetime(value, seen, now))

    def sign(self, token: Token) -> Mapping[str, str]:
        """Carry the token, or the cookie."""
        if self._login.cookie:
            return {"Cookie": f"{self._login.cookie}={token.value}"}
        return carried(self._login.headers, token)

    def refuses(self, reply: Reply) -> bool:
        """Judge as the page does."""
        return wants(self._renew, reply)

    def _value(self, reply: Reply, seen: Mapping[str, Any]) -> Any:
        if self._login.token is None:
            return reply.cookies.get(self._login.cookie)
        return self._login.token.of(seen)

    def _lifetime(self, value: str, seen: Mapping[str, Any], now: float) -> float | None:
        """Tell how long a token lives: as the reply says, as the token itself says, or as the page does."""
        said = self._login.expires_in.of(seen) if self._login.expires_in is not None else None
        return lifetime_of(said) or _own(value, now) or self._login.lifetime


class Issuer:
    """A token that we sign ourselves (RFC 7519, HS256).

    Args:
        signed: as the page has it.
        secret: the key.
        claims: settings filled in.
        renew: true of a reply, whatever its status, that wants a fresh token.
    """

    renewable = True

    def __init__(self, signed: Signed, *, secret: str, claims: Mapping[str, Any], renew: Expression | None) -> None:
        self._signed = signed
        self._secret = secret
        self._claims = claims
        self._renew = renew

    def login(self, now: float) -> Conversation[Token]:
        """Sign a token; nobody is asked."""
        yield from ()
        moments = {"iat": int(now), "nbf": int(now), "exp": int(now + self._signed.lifetime)}
        try:
            value = jwt.encode({**moments, **self._claims}, self._secret, algorithm=_ALGORITHM)
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise Denied(f"the token cannot be signed: {error}") from None
        return Token(value=value, lifetime=self._signed.lifetime)

    def sign(self, token: Token) -> Mapping[str, str]:
        """Carry the token."""
        return carried(self._signed.headers, token)

    def refuses(self, reply: Reply) -> bool:
        """Judge as the page does."""
        return wants(self._renew, reply)


def basic(user: str, password: str) -> str:
    """Write credentials as RFC 7617 says."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def carried(headers: Mapping[str, str], token: Token) -> Mapping[str, str]:
    """Put a token into the headers that carry it."""
    return {name: template.text(text, {"token": token.value}) for name, text in headers.items()}


def wants(renew: Expression | None, reply: Reply) -> bool:
    """Tell whether a reply means that our credentials are not accepted."""
    if renew is None:
        return False
    try:
        return renew.holds(scene(reply))
    except ValueError:
        return False


def is_plain(value: str) -> bool:
    """Tell whether a token can be carried by a header."""
    return _PLAIN.fullmatch(value) is not None


def lifetime_of(seconds: Any) -> float | None:
    """Read for how long a token is good; what is no time at all says nothing, or every request would log in anew."""
    try:
        value = float(seconds)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if 0 < value < float("inf") else None


def _own(token: str, now: float) -> float | None:
    """Read what a JWT itself says (RFC 7519, 4.1.4); nobody has to believe its signature for that."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        expires = float(claims.get("exp", "none"))
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        return None
    return lifetime_of(expires - now)
