"""From a reply that says a file is ready to the links under which it is had."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from poller.outcome import Trouble, Unsafe
from poller.remote import Answer, Head, Link, Ready, Reply
from poller.remotes import scene, template
from poller.remotes.bound import Binding
from poller.remotes.page import FileRule

_DEEPEST = 8
MOST_LINKS = 1000
"""A mebibyte of answer holds a quarter of a million, which would keep a download's slot for days."""


class Links:
    """Finds a page's files.

    Args:
        rules: the page's, one for each kind of file.
        binding: the page's.
    """

    def __init__(self, rules: tuple[FileRule, ...], binding: Binding) -> None:
        self._rules = rules
        self._binding = binding

    def ready(self, reply: Reply, seen: Mapping[str, Any], values: Mapping[str, Any]) -> Answer:
        """Give every link.

        Args:
            reply: the last one.
            seen: the same, laid out.
            values: what names in addresses stand for.

        Raises:
            Aborted: a link cannot be followed.
        """
        links: list[Link] = []
        for rule in self._rules:
            found = list(self._found(rule, reply, seen, values))
            if not found and not rule.optional:
                reason = "the file is ready, but no link says where"
                return Trouble(reason=reason, status=reply.status, retry_after=reply.retry_after)
            links += found
        if not links:
            return Trouble(reason="the task is ready, but there is no file at all", status=reply.status)
        if len(links) > MOST_LINKS:
            return Unsafe(reason=f"the answer has {len(links)} links; no task makes so many files", status=reply.status)
        ages = [rule.max_age for rule in self._rules if rule.max_age is not None]
        return Ready(links=tuple(links), good_for=min(ages, default=None))

    def at_once(self, url: str, values: Mapping[str, Any]) -> Answer:
        """Give the link of a file for which no task was needed."""
        return Ready(links=(self._link(self._rules[0], url, url, seen={}, values=values),))

    def _found(
        self, rule: FileRule, reply: Reply, seen: Mapping[str, Any], values: Mapping[str, Any]
    ) -> Iterator[Link]:
        link = partial(self._link, rule, seen=seen, values=values)
        if rule.each is not None and rule.path is not None:
            for each in _values(rule.each.of(seen))[: MOST_LINKS + 1]:
                yield link(reply.url, self._binding.placed(rule.path, {**values, "each": each}))
            return
        links = _listed(rule.link.of(seen)) if rule.link is not None else []
        for text in links:
            yield link(reply.url, text)
        if not links and rule.path is not None and not self._lacks(rule, values):
            yield link(reply.url, self._binding.placed(rule.path, values))

    def _lacks(self, rule: FileRule, values: Mapping[str, Any]) -> bool:
        """Tell whether a file that may be missing is: what its address needs is not there."""
        assert rule.path is not None  # noqa: S101 - the caller's
        return rule.optional and any(template.look_up(name, values) in (None, "") for name in rule.path.names)

    def _link(
        self, rule: FileRule, base: str, text: str, *, seen: Mapping[str, Any], values: Mapping[str, Any]
    ) -> Link:
        url, own = self._binding.followed(base, text)
        unpack = rule.unpack.of(seen) if rule.unpack is not None else None
        return Link(
            url=url,
            auth=own and rule.auth,
            headers=self._headers(rule, values) if own else {},
            extension=rule.extension,
            nothing=rule.empty == "none",
            extensions=rule.extensions,
            unpack="gzip" if scene.word(unpack) == "gzip" else "",
            following=partial(self._following, rule, values) if rule.next is not None or rule.following else None,
        )

    def _headers(self, rule: FileRule, values: Mapping[str, Any]) -> dict[str, str]:
        headers = {**self._binding.headers, **rule.headers}
        return {name: template.text(value, values) for name, value in headers.items()}

    def _following(self, rule: FileRule, values: Mapping[str, Any], head: Head) -> Link | None:
        """Give the next part of a file that comes in parts."""
        seen = {"status": head.status, "headers": dict(head.headers), "body": None, "vars": dict(values)}
        link = partial(self._link, rule, head.url, seen=seen, values=values)
        if rule.following and rule.path is not None:
            found = {name: expression.of(seen) for name, expression in rule.following.items()}
            return link(self._binding.placed(rule.path, {**values, **found})) if all(found.values()) else None
        address = rule.next.of(seen) if rule.next is not None else None
        return link(address) if isinstance(address, str) and address else None


def _listed(found: Any, levels: int = _DEEPEST) -> list[str]:
    """Give the texts of a list, and of lists in it; one alone is a list of one."""
    if isinstance(found, list) and levels:
        return [text for each in found for text in _listed(each, levels - 1)]
    return [found] if isinstance(found, str) and found else []


def _values(found: Any) -> list[Any]:
    """Give the values of a list; one alone is a list of one."""
    listed = found if isinstance(found, list) else [found]
    return [value for value in listed if value not in (None, "", [], {})]
