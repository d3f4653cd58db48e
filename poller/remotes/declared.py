"""A remote described by a page: the page's steps, bound to settings, as conversations."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec
import uritemplate
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from poller.address import Origin, bare
from poller.errors import ConfigurationError
from poller.order import Order
from poller.outcome import Absent, Gone, NothingToFetch, NotReady, Refused, Trouble, Unknown, Unsafe
from poller.remote import (
    Aborted,
    Answer,
    Conversation,
    Delivery,
    Denied,
    Link,
    NeedsConfirming,
    Ready,
    Reply,
    Request,
    judge,
)
from poller.remotes.oauth2 import ClientCredentials
from poller.remotes.page import NAMED, Page, Report, Step

_DOTS = frozenset({".", ".."})
_MOST_LINKS = 1000
"""A mebibyte of answer holds a quarter of a million, which would keep a download's slot for days."""
_WORD_CHARACTERS = 64
REPORT_CHARACTERS = 2**16
"""No report needs more. It is cut to what is kept once its secrets are masked: half a secret looks like none."""


class DeclaredRemote:
    """A page whose settings are known. Satisfies ``remote.Remote``.

    Args:
        page: what to say and how to read what comes back.
        values: the remote's settings, by name.

    Raises:
        ConfigurationError: a required setting is missing or an address is none; lists every problem.
    """

    def __init__(self, page: Page, values: Mapping[str, str]) -> None:
        self.name = page.name
        self._page = page
        self._values = _complete(page, values)
        prefixes = {name: value.rstrip("/") for name, value in self._values.items()}
        self._base = self._address("base", page.base, prefixes).rstrip("/")
        self.auth = self._authority()
        self.base = Origin.of(self._base)
        self.origins = frozenset({self.base, *self._further()})
        self.caps = page.caps
        self.delivery = Delivery(extensions=page.file.types, unframed=page.file.unframed, window=page.window)

    def check(self, order: Order) -> Conversation[Answer]:
        """Ask about the order's task; fetch the error report if it failed."""
        step = self._page.check
        try:
            reply = yield self._request(step, order)
            seen = _scene(reply, order)
            answer = self._read(step, reply, seen, order)
        except Aborted as aborted:
            return _answer(aborted)
        if isinstance(answer, Refused) and step.report is not None:
            return (yield from self._reported(step.report, answer, reply, seen))
        return answer

    def confirm(self, order: Order) -> Conversation[Answer]:
        """Tell the remote to go on."""
        step = self._page.confirm
        if step is None:
            return Refused(reason=f"the remote waits for a confirmation, and the page of {self.name} has no [confirm]")
        try:
            reply = yield self._request(step, order)
            if reply.status < 300:  # noqa: PLR2004 - any success will do
                return NotReady(retry_after=reply.retry_after)
            return self._refused(step, reply, order)
        except Aborted as aborted:
            return _answer(aborted)

    # --- what is said

    def _request(self, step: Step, order: Order) -> Request:
        return Request(method=step.method, url=self._task_url(step.path, order), headers={"Accept": "application/json"})

    def _task_url(self, path: str, order: Order) -> str:
        """Fill in an address; a value that would climb in it is refused, encoded or not."""
        context = {f"context.{name}": value for name, value in order.context.items() if isinstance(value, str)}
        names = {**self._values, **context, "task_id": order.task_id, "batch": order.batch or ""}
        try:
            expanded = uritemplate.expand(path, {**names})
        except UnicodeEncodeError:
            raise Aborted(Unsafe(reason="the task ID is no text that an address can hold")) from None
        if _DOTS & {unquote(part) for part in re.split("[/?#]", expanded)}:
            raise Aborted(Unsafe(reason="the task ID would climb in the remote's address"))
        return f"{self._base}/{expanded.lstrip('/')}"

    # --- how it is read

    def _read(self, step: Step, reply: Reply, seen: dict[str, Any], order: Order) -> Answer:
        try:
            return self._verdict(step, reply, seen, order)
        except JMESPathError as error:
            return self._unreadable(reply, error)

    def _refused(self, step: Step, reply: Reply, order: Order) -> Answer:
        try:
            return judge(reply, address=bare(reply.url), reason=_reason(step, _scene(reply, order), reply))
        except JMESPathError as error:
            return self._unreadable(reply, error)

    def _unreadable(self, reply: Reply, error: JMESPathError) -> Trouble:
        reason = f"the reply cannot be read as the page of {self.name} says: {error}"
        return Trouble(reason=reason, status=reply.status, address=bare(reply.url))

    def _verdict(self, step: Step, reply: Reply, seen: dict[str, Any], order: Order) -> Answer:
        reason = _reason(step, seen, reply)
        verdict = next((name for name, expression in step.verdicts if _truth(expression, seen)), None)
        match verdict:
            case "pending":
                return NotReady(retry_after=reply.retry_after, progress=_progress(step, seen))
            case "ready":
                return self._ready(reply, seen, order)
            case "done":
                return NothingToFetch()
            case "confirm":
                return NeedsConfirming()
            case "failed" | "gone" | "absent":
                return self._bad(verdict, reply, reason)
            case _:
                return self._unheard(step, reply, seen, reason)

    def _bad(self, verdict: str, reply: Reply, reason: str) -> Answer:
        told: dict[str, Any] = {"reason": reason, "status": reply.status, "address": bare(reply.url)}
        if verdict == "absent":
            return Absent(**told, retry_after=reply.retry_after)
        return Gone(**told) if verdict == "gone" else Refused(**told)

    def _unheard(self, step: Step, reply: Reply, seen: dict[str, Any], reason: str) -> Answer:
        """Judge a reply without a verdict by its status; of a good one, say what it is that nobody knows."""
        address = bare(reply.url)
        if not 200 <= reply.status < 300:  # noqa: PLR2004 - RFC 9110, 15.3
            return judge(reply, address=address, reason=reason)
        word = _word(step, seen) or f"status {reply.status}"
        said = f"{reason}, and the page of {self.name} has no verdict about {word}"
        return Unknown(reason=said, status=reply.status, address=address, retry_after=reply.retry_after, word=word)

    def _ready(self, reply: Reply, seen: dict[str, Any], order: Order) -> Answer:
        rule = self._page.file
        found = rule.link.search(seen) if rule.link is not None else None
        links = [link for link in (found if isinstance(found, list) else [found]) if isinstance(link, str) and link]
        if not links and rule.path is not None:
            links = [self._task_url(rule.path, order)]
        if not links:
            reason = "the file is ready, but no link says where"
            return Trouble(reason=reason, status=reply.status, retry_after=reply.retry_after)
        if len(links) > _MOST_LINKS:
            return Unsafe(reason=f"the answer has {len(links)} links; no task makes so many files", status=reply.status)
        return Ready(links=tuple(self._link(reply.url, link) for link in links))

    def _link(self, base: str, link: str) -> Link:
        """Make a link absolute; one that already is, is left as it is to the last byte."""
        try:
            url = link if urlsplit(link).scheme or not link.isprintable() else urljoin(base, link)
            own = Origin.of(url) == self.base
        except ValueError as error:
            raise Aborted(Unsafe(reason=f"the link cannot be followed: {error}", address=bare(link))) from None
        return Link(url=url, auth=own and self._page.file.auth)

    def _reported(self, rule: Report, refused: Refused, reply: Reply, seen: dict[str, Any]) -> Conversation[Answer]:
        """Fetch the report whose address the reason names; without it, the refusal stands all the same."""
        text = rule.text.search(seen)
        _, found, tail = text.partition(rule.after) if isinstance(text, str) else ("", "", "")
        if not found or not tail.split():
            return refused
        try:
            link = self._link(reply.url, tail.split()[0])
        except Aborted:
            return refused
        told = msgspec.structs.replace(refused, report_at=bare(link.url))
        try:
            report = yield Request(method="GET", url=link.url, auth=link.auth)
        except (Aborted, Denied):
            return told
        if report.status != 200:  # noqa: PLR2004 - anything else is no report
            return told
        return msgspec.structs.replace(told, report=report.body.decode("utf-8", "replace")[:REPORT_CHARACTERS])

    # --- how it was bound

    def _authority(self) -> ClientCredentials | None:
        auth = self._page.oauth2
        if auth is None:
            return None
        extra = {"audience": auth.audience, "scope": auth.scope}
        return ClientCredentials(
            token_url=self._address("auth.oauth2.token_url", auth.token_url),
            client_id=_filled(auth.client_id, self._values),
            client_secret=_filled(auth.client_secret, self._values),
            extra={name: _filled(value, self._values) for name, value in extra.items() if value is not None},
        )

    def _further(self) -> set[Origin]:
        """Origins beside the base that the operator named: where tokens come from, where files lie."""
        auth = self._page.oauth2
        allowed = [self._address("allow_origins", template) for template in self._page.allow_origins]
        tokens = [self._address("auth.oauth2.token_url", auth.token_url)] if auth is not None else []
        return {Origin.of(url) for url in (*allowed, *tokens)}

    def _address(self, place: str, template: str, values: Mapping[str, str] | None = None) -> str:
        url = uritemplate.expand(template, {**(values or self._values)})
        try:
            Origin.of(url)
        except ValueError as error:
            names = sorted(uritemplate.variables(template) & set(self._page.settings))
            problem = f"{bare(url)!r} is no address: {error}"
            problems = tuple((name, problem) for name in names) or ((f"{self.name}: {place}", problem),)
            raise ConfigurationError(f"{self.name} cannot be reached", problems=problems) from None
        return url


def bind(page: Page, values: Mapping[str, str]) -> DeclaredRemote:
    """Make a remote of a page and its settings; see ``DeclaredRemote``."""
    return DeclaredRemote(page, values)


def _complete(page: Page, values: Mapping[str, str]) -> dict[str, str]:
    """Add defaults to *values*; a default may name other settings."""
    problems = [
        (name, f"is required. {variable.why}".strip())
        for name, variable in page.settings.items()
        if variable.required and not values.get(name)
    ]
    problems += [(name, why) for name, value in values.items() if (why := _no_address(name, value))]
    if problems:
        raise ConfigurationError(f"{page.name} is not configured", problems=tuple(problems))
    given = {name: value for name, value in values.items() if value}
    defaults = {name: variable.default or "" for name, variable in page.settings.items() if name not in given}
    return given | {name: _filled(default, given) for name, default in defaults.items()}


def _no_address(name: str, value: str) -> str:
    """Say what is wrong with a setting that is an address by its name; nothing if all is well."""
    if not value or not name.endswith("_URL"):
        return ""
    try:
        Origin.of(value)
    except ValueError as error:
        return f"{bare(value)!r} is no address: {error}"
    return ""


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Put settings into a text that is no address, as they are."""
    return NAMED.sub(lambda name: values.get(name[1], name[0]), text)


def _scene(reply: Reply, order: Order) -> dict[str, Any]:
    task = {"id": order.task_id, "batch": order.batch, "context": order.context}
    return {"status": reply.status, "headers": dict(reply.headers), "body": _json(reply.body), "task": task}


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _truth(expression: ParsedResult, seen: dict[str, Any]) -> bool:
    """Judge a value as JMESPath does: false, null and everything empty are false; zero is true."""
    value = expression.search(seen)
    return value is not None and value is not False and value not in ("", [], {})


def _progress(step: Step, seen: dict[str, Any]) -> float | None:
    value = step.progress.search(seen) if step.progress is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(1, max(0, value)))  # in this order: whole numbers may be too large for a float


def _reason(step: Step, seen: dict[str, Any], reply: Reply) -> str:
    value = step.reason.search(seen) if step.reason is not None else None
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text]
    return "; ".join(texts) or f"the remote answered {reply.status}"


def _word(step: Step, seen: dict[str, Any]) -> str:
    """Say what the page's verdicts compare with words of theirs, as it is in this reply; nothing if it is not there."""
    found = {path.expression: path.search(seen) for path in step.words}
    told = [f"{name} {str(value)[:_WORD_CHARACTERS]!r}" for name, value in found.items() if _is_word(value)]
    return ", ".join(told)


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _answer(aborted: Aborted) -> Answer:
    """Pass on the outcome with which the client gave up, if a conversation may say it."""
    if isinstance(aborted.outcome, Answer):
        return aborted.outcome
    raise aborted
