"""What a remote pushes to us, recognised. It is never believed: it only says whom it is worth asking about.

Proofs, each in a header: HMAC-SHA256 of the raw body; a detached JSON Web Signature (RFC 7515, appendix F, and
RFC 7797) under a key that the remote publishes; an HS256 token (RFC 7519); or a secret that both know.
"""

import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import jwt

from poller.address import bare
from poller.errand import Nudged, Push
from poller.outcome import Refused, Trouble
from poller.remote import Aborted, Conversation, Denied, Request
from poller.remotes.bound import Binding, filled
from poller.remotes.expression import is_true
from poller.remotes.page import NAMED, Nudge
from poller.remotes.scene import as_json
from poller.remotes.template import written

_KEYS_FOR = 3600.0
"""Seconds after which public keys are fetched anew."""
_KEYS_AT_MOST_EVERY = 60.0
"""Seconds: whoever sends what no key has signed does not have us ask the remote each time."""
_KEYS_AGAIN_AFTER = 5.0
"""Seconds after which keys that could not be had are asked for again."""
_MOST_TASKS = 100
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


class Doorbell:
    """Recognises pushes.

    Args:
        nudge: as the page has it.
        binding: the page's.
    """

    def __init__(self, nudge: Nudge, binding: Binding) -> None:
        self._page = nudge
        self._binding = binding
        given = all(binding.settings.get(name) for name in NAMED.findall(nudge.secret))
        self._secret = filled(nudge.secret, binding.settings) if given else ""
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = self._failed_at = float("-inf")

    def heed(self, push: Push, now: float) -> Conversation[Nudged | Refused | Trouble]:
        """Tell whether a push is the remote's, and whom it is about."""
        try:
            proved = yield from self._proved(push, now)
        except Aborted as aborted:
            reason = getattr(aborted.outcome, "reason", "")
            return Trouble(reason=f"the remote's keys cannot be had: {reason}")
        except Denied as denied:
            return Trouble(reason=f"the remote's keys cannot be had: {denied}")
        if not proved:
            return Refused(reason="nothing proves that the remote has sent this: its signature is missing or wrong")
        seen = {"status": 200, "headers": dict(push.headers), "body": as_json(push.body), "task": {}, "vars": {}}
        if self._page.when is not None and not is_true(self._page.when.of(seen)):
            return Nudged(task_ids=())
        return Nudged(task_ids=self._tasks(seen))

    def _tasks(self, seen: Mapping[str, Any]) -> tuple[str, ...] | None:
        found = self._page.task_id.of(seen) if self._page.task_id is not None else None
        listed = found if isinstance(found, list) else [found]
        named = [written(each) for each in listed if isinstance(each, str | int) and not isinstance(each, bool)]
        return tuple(named[:_MOST_TASKS]) or None

    def _proved(self, push: Push, now: float) -> Conversation[bool]:
        """Try the proofs for which there is a secret; where there is none, the remote's signature."""
        page, body = self._page, push.body
        if self._secret and page.hmac:
            return self._has_hmac(push.headers.get(page.hmac.lower(), ""), body)
        if self._secret and page.token:
            return hmac.compare_digest(_bytes(push.headers.get(page.token.lower(), "")), _bytes(self._secret))
        if self._secret and page.jwt:
            return self._has_token(push.headers.get(page.jwt.lower(), ""))
        if page.jws and (signature := push.headers.get(page.jws.lower(), "")):
            return (yield from self._is_signed(signature, body, now))
        return False

    def _has_hmac(self, given: str, body: bytes) -> bool:
        digest = hmac.digest(self._secret.encode(), body, "sha256")
        expected = digest.hex() if self._page.encoding == "hex" else b64encode(digest).decode()
        given = given.removeprefix(self._page.prefix)
        return hmac.compare_digest(_bytes(given.lower() if self._page.encoding == "hex" else given), _bytes(expected))

    def _has_token(self, given: str) -> bool:
        try:
            jwt.decode(given.removeprefix("Bearer ").strip(), self._secret, algorithms=["HS256"])
        except (jwt.PyJWTError, ValueError):
            return False
        return True

    def _is_signed(self, signature: str, body: bytes, now: float) -> Conversation[bool]:
        """Check a detached signature; if no key fits, see whether the remote has new ones."""
        age = now - self._fetched_at
        if age < _KEYS_FOR and _fits(signature, body, self._keys):
            return True
        if age < _KEYS_AT_MOST_EVERY:
            return False
        if now - self._failed_at < _KEYS_AGAIN_AFTER:
            raise Aborted(Trouble(reason="they could not be had a moment ago"))
        try:
            self._keys = yield from self._fetch()
        except (Aborted, Denied):
            self._failed_at = now
            raise
        self._fetched_at = now
        return _fits(signature, body, self._keys)

    def _fetch(self) -> Conversation[list[jwt.PyJWK]]:
        assert self._page.keys is not None  # noqa: S101 - the reader's: a signature has keys
        url = self._binding.placed(self._page.keys, self._binding.settings)
        self._binding.demand_own(url)
        reply = yield Request(method="GET", url=url, headers={"Accept": "application/json"}, auth=False)
        body = as_json(reply.body)
        found = body.get("keys") if isinstance(body, dict) else None
        if reply.status != 200 or not isinstance(found, list):  # noqa: PLR2004 - anything else holds no keys
            raise Aborted(Trouble(reason=f"{bare(url)} answered {reply.status} without keys", status=reply.status))
        return [key for each in found for key in _key(each)]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _key(value: Any) -> list[jwt.PyJWK]:
    """Read a public key; one that we cannot use is none."""
    try:
        return [jwt.PyJWK(value)] if value.get("use", "sig") == "sig" else []
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return []


def _fits(signature: str, body: bytes, keys: list[jwt.PyJWK]) -> bool:
    """Tell whether one of the keys has signed a body."""
    head, _, rest = signature.partition(".")
    payload, _, tail = rest.partition(".")
    if payload or not tail:
        return False
    try:
        raw = jwt.get_unverified_header(f"{head}..{tail}").get("b64", True) is False
    except (jwt.PyJWTError, ValueError):
        return False
    token = signature if raw else f"{head}.{urlsafe_b64encode(body).rstrip(b'=').decode()}.{tail}"
    return any(_verifies(token, body if raw else None, key) for key in keys)


def _verifies(token: str, detached: bytes | None, key: jwt.PyJWK) -> bool:
    try:
        jwt.PyJWS().decode_complete(token, key, algorithms=_ALGORITHMS, detached_payload=detached)
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True
