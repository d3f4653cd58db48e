"""The token endpoint's memory: OAuth 2.0 client credentials with an audience (RFC 6749, 4.4)."""

import hmac
import secrets
from collections.abc import Callable, Mapping

import msgspec

AUDIENCE = "https://chiligrafx.com"
SCOPE = "output:animated output:static"
DAY = 86400.0
_MARGIN = 1 / 24
"""The share of a token's life before its end at which asking gives a new one: an hour of a day."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered to a good request (RFC 6749, 5.1); *expires_in* is what is left, in seconds."""

    access_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 - the kind, not the token
    scope: str = SCOPE


class Denial(Exception):  # noqa: N818 - an answer, not an accident
    """What is answered to a bad request (RFC 6749, 5.2).

    Attributes:
        status: of the reply.
        error: the word for a program.
    """

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error


class Issuer:
    """Issues tokens and knows them again.

    As the real one does, it hands out the token it has until shortly before that
    expires, and revokes none: an older token stays good for the rest of its life.

    Args:
        client_id: who may ask.
        client_secret: what proves it.
        life: seconds that a token is good for.
        now: the clock, in seconds.
    """

    def __init__(self, *, client_id: str, client_secret: str, life: float, now: Callable[[], float]) -> None:
        self._credentials = _credentials(client_id, client_secret)
        self._life = life
        self._now = now
        self._current: tuple[str, float] | None = None
        self._ends: dict[str, float] = {}

    def issue(self, ask: Mapping[str, str]) -> Grant:
        """Answer a request for a token.

        Raises:
            Denial: it lacks something, or something in it is wrong.
        """
        self._demand(ask)
        now = self._now()
        if self._current is None or now >= self._current[1] - self._life * _MARGIN:
            self._current = (secrets.token_urlsafe(32), now + self._life)
            self._ends = {token: end for token, end in self._ends.items() if end > now}
            self._ends[self._current[0]] = self._current[1]
        token, end = self._current
        return Grant(access_token=token, expires_in=int(end - now))

    def accepts(self, authorization: str) -> bool:
        """Tell whether an Authorization header (RFC 6750, 2.1) carries a token that is good now."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self._ends.get(token.strip(), 0.0) > self._now()

    def expire(self) -> None:
        """End the life of every token at once."""
        self._current = None
        self._ends.clear()

    def _demand(self, ask: Mapping[str, str]) -> None:
        needed = ("grant_type", "client_id", "client_secret", "audience")
        if missing := [name for name in needed if not ask.get(name)]:
            raise Denial(400, "invalid_request", f"missing: {', '.join(missing)}")
        if ask["grant_type"] != "client_credentials":
            raise Denial(400, "unsupported_grant_type", "grant_type must be client_credentials")
        if not hmac.compare_digest(_credentials(ask["client_id"], ask["client_secret"]), self._credentials):
            raise Denial(401, "invalid_client", "client_id or client_secret is wrong")
        if ask["audience"] != AUDIENCE:
            raise Denial(400, "invalid_target", f"audience must be {AUDIENCE}")


def _credentials(client_id: str, client_secret: str) -> bytes:
    return f"{client_id}\0{client_secret}".encode("utf-8", "surrogatepass")
