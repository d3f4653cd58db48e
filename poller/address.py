"""Addresses: which origin one belongs to, whether it may be dialled, how it may be named."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_NAME = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_AUTHORITY = re.compile(rf"(?:\[([0-9A-Fa-f:.]+)\]|({_NAME}))(?::([0-9]{{0,5}}))?(?=[/?#]|$)")
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[Xx][0-9A-Fa-f]*)")

_SKIPPED = re.compile(r"[\t\r\n]")
_USER = re.compile(r"(^[^:/\\@]*:[/\\]?|(?<![/\\])[/\\]{2,}+)(?:[^/\\]*@[/\\]*)+")
"""A user before a host, where any reader may see one: after ``//``, or after a scheme without it."""

_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_INNER = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")))
"""Not for us, though some call them global: two clouds' metadata live here, a retired relay, and examples."""


class Origin(NamedTuple):
    """Scheme, host and port: what a credential is bound to (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Read the origin of an absolute http or https address.

        Two programs that read one odd address differently can be played against each
        other, so only plain spellings are taken: what is read here is what is dialled.

        Raises:
            ValueError: another scheme, no host, a user before the host, a host that is
                oddly spelled, a bad port, or a blank or control character anywhere.
        """
        if _BLANK.search(url):
            raise ValueError("an address has no blanks or control characters in it")
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme not in _PORTS:
            raise ValueError("an address begins with http:// or https://")
        found = _AUTHORITY.match(rest)
        if found is None:
            raise ValueError("an address needs a host, plainly spelled in ASCII, and no user before it")
        return _origin(scheme, *found.groups())

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


@lru_cache(maxsize=1024)
def _origin(scheme: str, inner: str | None, name: str, digits: str | None) -> Origin:
    """Read the origin of an IPv6 address or a name; remotes have few of them, and are asked millions of times."""
    port = int(digits or _PORTS[scheme])
    if not 0 < port <= _LAST_PORT:
        raise ValueError(f"there is no port {port}")
    return Origin(scheme, str(IPv6Address(inner)) if inner else _named(name), port)


def bare(url: str) -> str:
    """Name an address, or what is meant to be one, without its user, query and fragment: what a log may show."""
    head = re.split(r"[?#]", _SKIPPED.sub("", url), maxsplit=1)[0]
    return _USER.sub(r"\1", head)


def is_public(host: str) -> bool:
    """Tell whether an IP address may be dialled on the word of a remote.

    Only global unicast may (RFC 6890, and 2000::/3 of RFC 4291). IPv4 inside IPv6
    (mapped, 6to4, NAT64) is judged by the IPv4 address it stands for.

    Args:
        host: an address as the socket layer spells it, a scope (``%eth0``) included.
    """
    try:
        address = _meant(ip_address(host))
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or any(address in network for network in _INNER):
        return False
    return address.version == 4 or address in _UNICAST  # noqa: PLR2004 - the name of the protocol


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _named(host: str) -> str:
    """Give a host in lower case; one that ends in a number is an IPv4 address in full, or nothing."""
    return str(IPv4Address(host)) if _NUMERIC.fullmatch(host) else host.lower()
