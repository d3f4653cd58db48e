"""OAuth 2.0 client credentials (RFC 6749, section 4.4) as a conversation."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from poller.address import bare
from poller.outcome import Trouble
from poller.remote import Aborted, Conversation, Denied, Reply, Request, Token

_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_PLAIN = re.compile(r"[!-~]+")
"""RFC 6750 takes fewer characters still; these can neither end a header nor begin another value."""


class ClientCredentials:
    """Gets a bearer token for a client ID and secret.

    Args:
        token_url: where tokens are issued; the secret is sent there and nowhere else.
        client_id: as the vendor issued it.
        client_secret: as the vendor issued it.
        extra: further members of the request, such as ``audience`` or ``scope``.
    """

    def __init__(self, *, token_url: str, client_id: str, client_secret: str, extra: Mapping[str, str]) -> None:
        self._token_url = token_url
        self._members = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            **extra,
        }

    def login(self) -> Conversation[Token]:
        """Ask for a token."""
        reply = yield Request(
            method="POST",
            url=self._token_url,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=msgspec.json.encode(self._members),
            auth=False,
        )
        return _token(reply)

    def sign(self, token: Token) -> Mapping[str, str]:
        """Carry the token as RFC 6750 says."""
        return {"Authorization": f"Bearer {token.value}"}


class _Issued(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


def _token(reply: Reply) -> Token:
    seen: dict[str, Any] = {"status": reply.status, "address": bare(reply.url)}
    if reply.status in {400, 401, 403}:
        raise Denied(f"the token endpoint {bare(reply.url)} answered {reply.status}: {_error(reply)}")
    if reply.status != 200:  # noqa: PLR2004 - RFC 6749, 5.1
        reason = f"the token endpoint answered {reply.status}"
        raise Aborted(Trouble(reason=reason, retry_after=reply.retry_after, **seen))
    try:
        issued = msgspec.json.decode(reply.body, type=_Issued, strict=False)
    except _NO_JSON:
        raise Aborted(Trouble(reason="the token endpoint's answer holds no access_token", **seen)) from None
    if not _PLAIN.fullmatch(issued.access_token):
        raise Aborted(Trouble(reason="the token endpoint's access_token is no header value", **seen))
    return Token(value=issued.access_token, lifetime=_lifetime(issued.expires_in))


def _lifetime(seconds: float | None) -> float | None:
    """Read ``expires_in``; what is no time at all says nothing, or every request would log in anew."""
    return seconds if seconds is not None and 0 < seconds < float("inf") else None


class _Complaint(msgspec.Struct):
    error: str = "no reason given"
    error_description: str = ""


def _error(reply: Reply) -> str:
    try:
        complaint = msgspec.json.decode(reply.body, type=_Complaint)
    except _NO_JSON:
        return "no reason given"
    return f"{complaint.error} {complaint.error_description}".strip()
