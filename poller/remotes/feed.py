"""A feed: one address that always gives the newest file. Every version of it is a task of its own.

A version is named by its entity tag (RFC 9110, 8.8.3) if that is a strong one, else by the digest of its
bytes. Looking for a new one is a conditional request; where the remote knows no conditions, its answer is digested.
"""

import re
from collections.abc import Mapping
from hashlib import sha256

from msgspec.structs import replace

from poller import units
from poller.address import bare
from poller.errand import Version
from poller.errors import ConfigurationError
from poller.order import Order
from poller.outcome import NothingToFetch
from poller.promise import is_strong
from poller.remote import Aborted, Answer, Conversation, Link, Ready, Request, judge
from poller.remotes import template
from poller.remotes.bound import Binding, filled
from poller.remotes.page import Feed, FileRule

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGITS = 32
"""Hex digits of a digest that name a version: more than any feed has versions."""
_OK, _SAME = 200, 304


class Watch:
    """Watches a feed.

    Args:
        feed: as the page has it.
        files: what its files are like.
        binding: the page's.

    Attributes:
        every: seconds between two looks.

    Raises:
        ConfigurationError: that is no duration.
    """

    def __init__(self, feed: Feed, files: tuple[FileRule, ...], binding: Binding) -> None:
        self.every = _seconds(filled(feed.every, binding.settings), binding.name)
        self._url, own = _address(feed, binding)
        headers = {**(binding.headers if own else {}), **feed.headers}
        self._headers = {name: template.text(text, binding.settings) for name, text in headers.items()}
        self._rule = files[0] if files else None

    def look(self, seen: Mapping[str, str]) -> Conversation[Version | Answer]:
        """Ask whether there is another version than the one that was *seen* last."""
        reply = yield self._request(seen)
        if reply.status == _SAME:
            return NothingToFetch()
        if reply.status != _OK:
            reason = f"the feed answered {reply.status}"
            return judge(reply, address=bare(reply.url), reason=reason)
        etag = reply.headers.get("etag", "")
        found = {"etag": etag} if is_strong(etag) else {"sha256": reply.sha256 or sha256(reply.body).hexdigest()}
        if all(seen.get(name) == value for name, value in found.items()):
            return NothingToFetch()
        changed = reply.headers.get("last-modified", "")
        return Version(task_id=_name(found), seen={**found, "last_modified": changed})

    def check(self, order: Order) -> Conversation[Answer]:
        """Say where a version is, as long as it is the newest; nobody is asked for that."""
        yield from ()
        expected = order.kept.get("etag") or order.kept.get("sha256") or ""
        link = Link(url=self._url, headers=self._headers, expected=str(expected))
        if (rule := self._rule) is not None:
            link = replace(link, auth=rule.auth, extension=rule.extension, extensions=rule.extensions)
        return Ready(links=(link,))

    def _request(self, seen: Mapping[str, str]) -> Request:
        conditions = {"If-None-Match": seen.get("etag"), "If-Modified-Since": seen.get("last_modified")}
        headers = {**self._headers, **{name: value for name, value in conditions.items() if value}}
        return Request(method="GET", url=self._url, headers=headers, digest=True)


def _address(feed: Feed, binding: Binding) -> tuple[str, bool]:
    """Give a feed's address, and whether it is of the base's origin."""
    try:
        url = binding.placed(feed.address, binding.settings)
        return url, binding.demand_own(url) == binding.base
    except Aborted as aborted:
        problems = ((f"{binding.name}: feed.get", getattr(aborted.outcome, "reason", "")),)
        raise ConfigurationError(f"{binding.name} is not configured", problems=problems) from None


def _seconds(text: str, name: str) -> float:
    try:
        return units.seconds(text)
    except ValueError as error:
        raise ConfigurationError(f"{name} is not configured", problems=((f"{name}: feed.every", str(error)),)) from None


def _name(found: Mapping[str, str]) -> str:
    """Name a version."""
    if "etag" not in found:
        return found["sha256"][:_DIGITS]
    plain = found["etag"].strip('"')
    return plain if _PLAIN.fullmatch(plain) else sha256(plain.encode()).hexdigest()[:_DIGITS]
