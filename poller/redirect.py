"""Which addresses are followed. Pure.

Addresses come from two kinds of people. The operator configured some origins; those may
be private or plain http. Everything else is a remote's word, and a remote may lie or be
lied to: such an address must be https, and the socket about to be connected must go to
a public address (see ``wire``). A redirect never leads from https to http, and that of a question nowhere else.
"""

from collections.abc import Collection, Mapping
from urllib.parse import urljoin, urlsplit

from poller.address import Origin, bare
from poller.outcome import Unsafe
from poller.remote import Aborted

HOPS = 5
"""Redirects that are followed one after the other."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def location_of(status: int, headers: Mapping[str, str]) -> str | None:
    """Tell where a reply sends us; None if it does not (RFC 9110, 15.4)."""
    return headers.get("location") or None if status in _REDIRECTS else None


def admitted(url: str, origins: Collection[Origin]) -> Origin:
    """Give an address's origin if the address may be followed.

    Args:
        url: as it came.
        origins: what the operator configured.

    Raises:
        Aborted: it may not.
    """
    try:
        origin = Origin.of(url)
    except ValueError as error:
        raise Aborted(Unsafe(reason=f"the address cannot be followed: {error}", address=bare(url))) from None
    if not url.isprintable():
        raise Aborted(Unsafe(reason=f"the address cannot be followed: {bare(url)!a} is no plain text"))
    if origin.scheme != "https" and origin not in origins:
        raise Aborted(Unsafe(reason="the address is plain http and not one of ours", address=bare(url)))
    return origin


def followed(url: str, location: str, origins: Collection[Origin], *, roam: bool) -> str:
    """Give the address to which a redirect leads.

    Args:
        url: where it came from.
        location: where it leads, maybe relative (RFC 3986, 5).
        origins: what the operator configured.
        roam: whether it may lead to another origin.

    Raises:
        Aborted: it may not be followed.
    """
    target = _absolute(url, location)
    here, there = admitted(url, origins), admitted(target, origins)
    if here.scheme == "https" and there.scheme != "https":
        raise Aborted(Unsafe(reason="a redirect leads from https to http", address=bare(target)))
    if not roam and here != there:
        raise Aborted(Unsafe(reason=f"a redirect leads from {here} to {there}", address=bare(target)))
    return target


def _absolute(url: str, location: str) -> str:
    """Complete a redirect's address; one that is complete, or no address at all, is left as it is."""
    try:
        return location if urlsplit(location).scheme or not location.isprintable() else urljoin(url, location)
    except ValueError:
        return location
