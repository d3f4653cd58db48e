"""What a step's reply means: the page's verdicts, the first that is true; without one, what its status means."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from poller.address import bare
from poller.outcome import Absent, Gone, NothingToFetch, NotReady, Refused, Trouble, Unknown
from poller.remote import Answer, NeedsConfirming, Reply, judge
from poller.remotes import scene
from poller.remotes.page import Step, Verdict

READY = "ready"


def named(step: Step, reply: Reply, seen: Mapping[str, Any]) -> str | None:
    """Name the verdict about a reply; None if the page has none.

    Raises:
        ValueError: there is none, and one of them could not be computed; says why.
    """
    good = 200 <= reply.status < 300  # noqa: PLR2004 - RFC 9110, 15.3
    word = scene.word(step.word.of(seen)) if step.word is not None and good else None
    problem: ValueError | None = None
    for verdict in step.verdicts:
        try:
            if _holds(verdict, word, seen):
                return verdict.name
        except ValueError as error:
            problem = problem or error
    if problem is not None and good and step.otherwise is None:
        raise problem
    return step.otherwise if good else None


def answer(  # noqa: PLR0911 - one line a verdict
    name: str | None, step: Step, reply: Reply, seen: Mapping[str, Any], *, page: str
) -> Answer:
    """Say what a verdict comes to. That something is ready is not for here: it depends on what follows.

    Args:
        name: the verdict's; None if there is none.
        step: whose it is.
        reply: what it is about.
        seen: the reply, laid out.
        page: whose step it is.
    """
    wait = scene.wait(step, reply, seen)
    if name == "pending":  # what nearly every answer is: nobody asks why
        return NotReady(retry_after=wait, progress=scene.progress(step, seen))
    if wait != reply.retry_after:
        reply = replace(reply, retry_after=wait)
    spoken = scene.spoken(step, seen) if step.word is not None and name is not None else ""
    reason = scene.reason(step.reason, seen, f"the remote says {spoken}" if spoken else None)
    told: dict[str, Any] = {"reason": reason, "status": reply.status, "address": bare(reply.url)}
    match name:
        case "done":
            return NothingToFetch()
        case "confirm":
            return NeedsConfirming()
        case "failed":
            return Refused(**told)
        case "gone":
            return Gone(**told)
        case "absent":
            return Absent(**told, retry_after=wait)
        case "trouble":
            return Trouble(**told, retry_after=wait)
        case _:
            return _unheard(step, reply, seen, told, page)


def unreadable(reply: Reply, error: ValueError, *, page: str) -> Trouble:
    """Say that a reply is not what the page's expressions take."""
    reason = f"the reply cannot be read as the page of {page} says: {error}"
    return Trouble(reason=reason, status=reply.status, address=bare(reply.url))


def _holds(verdict: Verdict, word: str | None, seen: Mapping[str, Any]) -> bool:
    return verdict.when.holds(seen) if verdict.when is not None else word in verdict.words


def _unheard(step: Step, reply: Reply, seen: Mapping[str, Any], told: dict[str, Any], page: str) -> Answer:
    """Judge a reply without a verdict by its status; of a good one, say what it is that nobody knows."""
    if not 200 <= reply.status < 300:  # noqa: PLR2004 - RFC 9110, 15.3
        return judge(reply, address=told["address"], reason=told["reason"])
    word = scene.spoken(step, seen) or f"status {reply.status}"
    said = f"{told['reason']}, and the page of {page} has no verdict about {word}"
    return Unknown(**{**told, "reason": said}, retry_after=reply.retry_after, word=word)
