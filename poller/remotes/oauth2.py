"""OAuth 2.0 (RFC 6749) as a conversation: client credentials (4.4), or a refresh token that is at hand (6)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from poller.address import bare
from poller.outcome import Trouble
from poller.remote import Aborted, Conversation, Denied, Reply, Request, Token
from poller.remotes.expression import Expression
from poller.remotes.secret import basic, carried, is_plain, lifetime_of, wants

_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BEARER = {"Authorization": "Bearer {token}"}


class ClientCredentials:
    """Gets a token for a client ID and secret.

    Args:
        token_url: where tokens are issued; the secret is sent there and nowhere else.
        client_id: as the vendor issued it.
        client_secret: as the vendor issued it.
        extra: further members of the request, such as ``audience`` or ``scope``.
        grant: the request's ``grant_type``.
        send: ``form``, as the RFC has it, or ``json``.
        client: whether ID and secret go in the ``body`` or by ``basic`` (RFC 6749, 2.3.1).
        headers: what carries the ``{token}``.
        renew: true of a reply, whatever its status, that wants a fresh token.
    """

    renewable = True

    def __init__(
        self,
        *,
        token_url: str,
        client_id: str,
        client_secret: str,
        extra: Mapping[str, str],
        grant: str = "client_credentials",
        send: str = "form",
        client: str = "body",
        headers: Mapping[str, str] = _BEARER,
        renew: Expression | None = None,
    ) -> None:
        self._token_url = token_url
        self._client = (client_id, client_secret) if client == "basic" else None
        named = {} if self._client else {"client_id": client_id, "client_secret": client_secret}
        self._members = {"grant_type": grant, **named, **extra}
        self._send = send
        self._headers = headers
        self._renew = renew

    def login(self, now: float) -> Conversation[Token]:  # noqa: ARG002 - the protocol's
        """Ask for a token."""
        json = self._send == "json"
        headers = {"Content-Type": "application/json" if json else "application/x-www-form-urlencoded"}
        if self._client:
            headers["Authorization"] = basic(*map(quote, self._client))
        reply = yield Request(
            method="POST",
            url=self._token_url,
            headers={**headers, "Accept": "application/json"},
            body=msgspec.json.encode(self._members) if json else urlencode(self._members).encode(),
            auth=False,
        )
        return _token(reply)

    def sign(self, token: Token) -> Mapping[str, str]:
        """Carry the token, as RFC 6750 says unless the page says otherwise."""
        return carried(self._headers, token)

    def refuses(self, reply: Reply) -> bool:
        """Judge as the page does."""
        return wants(self._renew, reply)


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
    if not is_plain(issued.access_token):
        raise Aborted(Trouble(reason="the token endpoint's access_token is no header value", **seen))
    return Token(value=issued.access_token, lifetime=lifetime_of(issued.expires_in))


class _Complaint(msgspec.Struct):
    error: str = "no reason given"
    error_description: str = ""


def _error(reply: Reply) -> str:
    try:
        complaint = msgspec.json.decode(reply.body, type=_Complaint)
    except _NO_JSON:
        return "no reason given"
    return f"{complaint.error} {complaint.error_description}".strip()
