"""A remote described by a page: the page's steps, bound to settings, as conversations."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from poller.address import bare
from poller.errand import Found, Heard, Nudged, Push, Started, Version, Wish
from poller.order import Order
from poller.outcome import NotReady, Refused, Trouble
from poller.remote import Aborted, Answer, Conversation, Delivery, Denied, Reply, Request
from poller.remotes import scene, verdict
from poller.remotes.bound import Binding
from poller.remotes.expression import is_true
from poller.remotes.feed import Watch
from poller.remotes.links import Links
from poller.remotes.listing import Listing
from poller.remotes.page import Page, Report, Start, Step
from poller.remotes.push import Doorbell
from poller.remotes.wishes import fitted

REPORT_CHARACTERS = 2**16
"""No report needs more. It is cut to what is kept once its secrets are masked: half a secret looks like none."""
_GOOD = 300
_ID_BYTES = 512
_AT_ONCE = "@at_once"
"""Under this an order keeps the address of a file for which no task was needed."""


class DeclaredRemote:
    """A page whose settings are known. Satisfies ``remote.Remote``.

    Args:
        page: what to say and how to read what comes back.
        values: the remote's settings, by name.

    Attributes:
        page: as given.
        page_url: what its addresses begin with; without a slash at its end.

    Raises:
        ConfigurationError: a required setting is missing or an address is none; lists every problem.
    """

    def __init__(self, page: Page, values: Mapping[str, str]) -> None:
        self.name, self.title, self.page = page.name, page.title, page
        binding = self._binding = Binding(page, values)
        self.page_url = binding.url
        self.auth, self.base, self.origins = binding.auth, binding.base, binding.origins
        self.caps, self.pacing = page.caps, page.pacing
        self.delivery = _delivery(page)
        self.abilities = frozenset(abilities(page))
        self.kinds = {kind: start.why for kind, start in page.starts.items()}
        self.needs = page.needs
        self._links = Links(page.files, binding)
        self._listing = Listing(page.discovery, binding, page.needs) if page.discovery is not None else None
        self._doorbell = Doorbell(page.nudge, binding) if page.nudge is not None else None
        self._watch = Watch(page.feed, page.files, binding) if page.feed is not None else None
        self.watched = self._watch.every if self._watch is not None else None

    def check(self, order: Order) -> Conversation[Answer]:
        """Ask about the order's task; fetch the error report if it failed."""
        if self._watch is not None:
            return (yield from self._watch.check(order))
        if _AT_ONCE in order.kept:
            return self._links.at_once(order.kept[_AT_ONCE], self._binding.values(order))
        assert self.page.check is not None  # noqa: S101 - the reader's: a page has a check or a feed
        try:
            return (yield from self._asked(self.page.check, _Talk(order)))
        except Aborted as aborted:
            return _answer(aborted)

    def confirm(self, order: Order) -> Conversation[Answer]:
        """Tell the remote to go on."""
        step = self.page.confirm
        if step is None:
            return Refused(reason=f"the remote waits for a confirmation, and the page of {self.name} has no [confirm]")
        heard = yield from self._told(step, order)
        return NotReady(retry_after=heard.retry_after) if isinstance(heard, Heard) else heard

    def cancel(self, order: Order) -> Conversation[Heard | Answer]:
        """Tell the remote that nobody wants the task any more."""
        if self.page.cancel is None:
            return Refused(reason=f"the page of {self.name} has no [cancel]")
        return (yield from self._told(self.page.cancel, order))

    def fit(self, wish: Wish) -> Wish:
        """Check a wish against the page; see ``remote.Remote``."""
        return fitted(wish, self.page.starts, self.name)

    def start(self, wish: Wish) -> Conversation[Started | Answer]:
        """Start a task; what comes back names it, or says why there is none."""
        start = self.page.starts[wish.kind]
        given = dict(wish.input)
        try:
            named = {"input": given, "dry_run": wish.dry_run, "start_id": wish.start_id}
            values = self._binding.values(None, named)
            how = {"again": start.idempotent, "digest": start.at_once is not None}
            request = self._binding.request(start.step.call, values, **how)
            reply = yield request
            seen = scene.scene(reply, task={}, vars={"start_id": wish.start_id}, input=given)
            if start.at_once is not None and is_true(start.at_once.of(seen)):
                return Started(task_id=wish.start_id, kept={_AT_ONCE: request.url})
            return self._started(start, reply, seen)
        except Aborted as aborted:
            return _answer(aborted)

    def discover(self, wish: Mapping[str, Any], most: int) -> Conversation[Found | Answer]:
        """List the remote's tasks."""
        if self._listing is None:
            return Refused(reason=f"the page of {self.name} has no [discover]")
        try:
            return (yield from self._listing.tasks(wish, most))
        except Aborted as aborted:
            return _answer(aborted)

    def look(self, seen: Mapping[str, str]) -> Conversation[Version | Answer]:
        """See whether the feed has a new version."""
        if self._watch is None:
            return Refused(reason=f"the page of {self.name} has no [feed]")
        try:
            return (yield from self._watch.look(seen))
        except Aborted as aborted:
            return _answer(aborted)

    def heed(self, push: Push, now: float) -> Conversation[Nudged | Refused | Trouble]:
        """Tell whether a push is the remote's."""
        if self._doorbell is None:
            return Refused(reason=f"the page of {self.name} has no [nudge]")
        return (yield from self._doorbell.heed(push, now))

    def tells(self, order: Order) -> bool:
        """Say whether the page has something to say about an order at rest."""
        seen = {"task": scene.task(order), "vars": order.kept}
        tellings = self.page.after.get(order.state, ())
        return any(telling.when is None or _true(telling.when, seen) for telling in tellings)

    def tell(self, order: Order) -> Conversation[Heard | Answer]:
        """Tell the remote that an order has come to rest."""
        seen = {"task": scene.task(order), "vars": order.kept}
        files = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in order.files]
        about = {"state": order.state, "reason": order.reason, "cause": order.cause, "files": files}
        try:
            for telling in self.page.after.get(order.state, ()):
                if telling.when is None or _true(telling.when, seen):
                    values = self._binding.values(order, about)
                    reply = yield self._binding.request(telling.call, values, again=True)
                    if reply.status >= _GOOD:
                        return self._unheard(Step(call=telling.call), reply, order)
        except Aborted as aborted:
            return _answer(aborted)
        return Heard()

    # --- asking

    def _asked(self, step: Step, talk: "_Talk") -> Conversation[Answer]:
        """Take a step, and those that follow it while all is well."""
        digest = step.at_once is not None
        request = self._binding.request(step.call, talk.values(self._binding), again=True, digest=digest)
        reply = yield request
        seen = talk.hear(step, reply)
        if step.at_once is not None and is_true(step.at_once.of(seen)):
            return self._links.at_once(request.url, talk.values(self._binding))
        try:
            name = verdict.named(step, reply, seen)
        except ValueError as error:
            return verdict.unreadable(reply, error, page=self.name)
        if name == verdict.READY or (name is None and _passes(step, reply)):
            return (yield from self._ready(step, talk, reply, seen))
        answer = verdict.answer(name, step, reply, seen, page=self.name)
        if isinstance(answer, Refused) and step.report is not None:
            return (yield from self._reported(step, answer, reply, talk))
        return answer

    def _ready(self, step: Step, talk: "_Talk", reply: Reply, seen: Mapping[str, Any]) -> Conversation[Answer]:
        following = (*step.then, *talk.then)
        if following:
            talk.then = following[1:]
            return (yield from self._asked(following[0], talk))
        return self._links.ready(reply, seen, talk.values(self._binding))

    def _told(self, step: Step, order: Order) -> Conversation[Heard | Answer]:
        """Tell the remote something about a task; any success will do unless the page says what it means."""
        talk = _Talk(order)
        try:
            reply = yield self._binding.request(step.call, talk.values(self._binding), again=False)
        except Aborted as aborted:
            return _answer(aborted)
        seen = talk.hear(step, reply)
        try:
            name = verdict.named(step, reply, seen)
        except ValueError as error:
            return verdict.unreadable(reply, error, page=self.name)
        if name in {verdict.READY, "done", "pending"} or (name is None and reply.status < _GOOD):
            return Heard(retry_after=scene.wait(step, reply, seen))
        return verdict.answer(name, step, reply, seen, page=self.name)

    def _unheard(self, step: Step, reply: Reply, order: Order) -> Answer:
        return verdict.answer(None, step, reply, scene.scene(reply, task=scene.task(order)), page=self.name)

    def _started(self, start: Start, reply: Reply, seen: dict[str, Any]) -> Started | Answer:
        step = start.step
        try:
            name = verdict.named(step, reply, seen)
        except ValueError as error:
            return verdict.unreadable(reply, error, page=self.name)
        task_id = start.task_id.of(seen)
        if isinstance(task_id, int) and not isinstance(task_id, bool):
            task_id = str(task_id)
        if name in {None, verdict.READY, "pending", "done"} and reply.status < _GOOD:
            if isinstance(task_id, str) and task_id.isprintable() and 0 < len(task_id.encode()) <= _ID_BYTES:
                return Started(task_id=task_id, kept=scene.keepable(scene.kept(step.keep, seen)))
            reason = f"the remote answered {reply.status}, and {start.task_id.text} in its answer names no task"
            return Trouble(reason=reason, status=reply.status, address=bare(reply.url))
        return verdict.answer(name, step, reply, seen, page=self.name)

    # --- reports

    def _reported(self, step: Step, refused: Refused, reply: Reply, talk: "_Talk") -> Conversation[Answer]:
        """Fetch the report about a failure; without it, the refusal stands all the same."""
        rule = step.report
        assert rule is not None  # noqa: S101 - the caller's
        try:
            request = self._report(rule, reply, talk)
        except Aborted:
            return refused
        if request is None:
            return refused
        told = msgspec.structs.replace(refused, report_at=bare(request.url))
        try:
            report = yield request
        except (Aborted, Denied):
            return told
        if report.status != 200:  # noqa: PLR2004 - anything else is no report
            return told
        text = report.body.decode("utf-8", "replace")[:REPORT_CHARACTERS]
        if rule.reason is not None:
            found = scene.reason(rule.reason, talk.seen(report), "")
            told = msgspec.structs.replace(told, reason="; ".join(filter(None, (refused.reason, found))))
        return msgspec.structs.replace(told, report=text)

    def _report(self, rule: Report, reply: Reply, talk: "_Talk") -> Request | None:
        """Make the request for a report; None if nothing says where it is."""
        if rule.call is not None:
            return self._binding.request(rule.call, talk.values(self._binding), again=True)
        seen = talk.seen(reply)
        link = rule.link.of(seen) if rule.link is not None else None
        text = rule.text.of(seen) if rule.text is not None else None
        if isinstance(text, str):
            found = re.search(re.escape(rule.after) + r"\s*(\S+)", text, re.IGNORECASE)
            link = found[1] if found else None
        if not isinstance(link, str) or not link:
            return None
        url, own = self._binding.followed(reply.url, link)
        return Request(method="GET", url=url, auth=own)


class _Talk:
    """One conversation about one order: what was kept of its replies so far.

    Attributes:
        then: the steps that are still to be taken.
    """

    def __init__(self, order: Order) -> None:
        self.then: tuple[Step, ...] = ()
        self._order = order
        self._kept: dict[str, Any] = dict(order.kept)

    def values(self, binding: Binding) -> dict[str, Any]:
        """Give what names stand for."""
        return binding.values(self._order, self._kept)

    def hear(self, step: Step, reply: Reply) -> dict[str, Any]:
        """Lay out a reply, and keep what the step wants kept of a good one."""
        seen = self.seen(reply)
        if step.keep and reply.status < _GOOD:
            self._kept |= scene.kept(step.keep, seen)
            seen["vars"] = self._vars()
        return seen

    def seen(self, reply: Reply) -> dict[str, Any]:
        """Lay out a reply."""
        return scene.scene(reply, task=scene.task(self._order), vars=self._vars())

    def _vars(self) -> dict[str, Any]:
        return {**self._order.context, **self._kept} if self._kept else self._order.context


def _delivery(page: Page) -> Delivery:
    types = {media_type: ext for rule in page.files for media_type, ext in rule.types.items()}
    unframed = next((rule.unframed for rule in page.files), "twice")
    return Delivery(extensions=types, unframed=unframed, window=page.window)


def abilities(page: Page) -> list[str]:
    """Name what a page can do beside a check; see ``remote.Remote``."""
    parts = {
        "start": page.starts,
        "confirm": page.confirm,
        "cancel": page.cancel,
        "discover": page.discovery,
        "nudge": page.nudge,
        "feed": page.feed,
        "after": page.after,
    }
    return [name for name, part in parts.items() if part]


def _passes(step: Step, reply: Reply) -> bool:
    """Tell whether a reply is good enough for a step that does not say what good is."""
    says = step.otherwise or any(each.name in {verdict.READY, "done"} for each in step.verdicts)
    return not says and reply.status < _GOOD


def _true(expression: Any, seen: Mapping[str, Any]) -> bool:
    try:
        return bool(expression.holds(seen))
    except ValueError:
        return False


def _answer(aborted: Aborted) -> Answer:
    """Pass on the outcome with which the client gave up, if a conversation may say it."""
    if isinstance(aborted.outcome, Answer):
        return aborted.outcome
    raise aborted
