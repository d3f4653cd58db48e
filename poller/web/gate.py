"""Who may come in: the hook stands on a machine where browsers run, and other people's scripts in them.

* ``Host`` must name this machine, so that a foreign name that was rebound to our address
  (DNS rebinding) gets nothing.
* A browser says where a request comes from (``Origin``, ``Sec-Fetch-Site``); what would
  change something must come from no other site.
* With a token set, it must be shown.
"""

import hmac
import ipaddress
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from multidict import istr

from poller.web.problem import Refusal

OPEN = frozenset({"/healthz", "/readyz"})
"""What answers without the token."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_READING = frozenset({"GET", "HEAD"})
_FETCH_SITE = istr("Sec-Fetch-Site")


class Gate:
    """Lets requests in, or refuses them.

    Args:
        token: what every request must bring; empty if none need to.
        hosts: names that this machine has, besides the loopback's.
        origins: other sites (``https://shop.example``) that may change things.
    """

    def __init__(self, *, token: str, hosts: Collection[str], origins: Collection[str]) -> None:
        self._token = _bytes(token)
        self._hosts = _LOOPBACK | {_bare_host(host) for host in hosts}
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def admit(self, request: web.Request) -> None:
        """Let a request in.

        Raises:
            Refusal: 421 for a foreign host, 403 for a foreign site, 401 without the token.
        """
        self._demand_host(request)
        if request.method not in _READING:
            self._demand_origin(request)
        if self._token and not _is_open(request.path) and not self.trusts(request):
            raise Refusal(
                401,
                "this needs the token",
                hint="send the header Authorization: Bearer TOKEN, with the value of POLLER_TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="poller"'},
            )

    def trusts(self, request: web.Request) -> bool:
        """Tell whether a request brought the token, or needs none."""
        if not self._token:
            return True
        scheme, _, credentials = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(_bytes(credentials.strip()), self._token)

    def _demand_host(self, request: web.Request) -> None:
        host = _bare_host(request.headers.get(hdrs.HOST, ""))
        if host not in self._hosts and not _is_loopback(host) and host != _dialled(request):
            hint = "use localhost, or name this host in POLLER_ALLOWED_HOSTS"
            raise Refusal(421, "this Host is not known here", hint=hint)

    def _demand_origin(self, request: web.Request) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            foreign = request.headers.get(_FETCH_SITE) == "cross-site"
        else:
            own = request.headers.get(hdrs.HOST, "").lower()
            foreign = origin.lower().partition("://")[2] != own and origin.lower() not in self._origins
        if foreign:
            hint = "send it from your own backend, or name that site in POLLER_ALLOWED_ORIGINS"
            raise Refusal(403, "a page of another site may change nothing here", hint=hint)


def _is_open(path: str) -> bool:
    """Tell whether an address answers without the token; a push has a proof of its own."""
    return path in OPEN or (path.startswith("/remotes/") and path.endswith("/nudge"))


@lru_cache(maxsize=256)
def _bare_host(authority: str) -> str:
    """Take the name out of ``name:port``; empty if there is none."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _dialled(request: web.Request) -> str | None:
    """Tell which of our addresses was dialled: an address, unlike a name, cannot be rebound."""
    name = request.transport and request.transport.get_extra_info("sockname")
    return name[0] if isinstance(name, tuple) else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
