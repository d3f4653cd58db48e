"""A page's examples carried out: no network, just the replies that the page itself gives.

Settings are made up: one whose name ends in ``_URL`` is ``https://`` and the rest of its name, any other its own
name in small letters.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from poller.errand import Found, Heard, Misfit, Started, Version, Wish
from poller.order import Order
from poller.outcome import (
    Absent,
    Gone,
    NothingToFetch,
    NotReady,
    Outcome,
    Refused,
    Setback,
    Trouble,
    Unknown,
    Unsafe,
)
from poller.remote import Aborted, Answer, Conversation, Denied, NeedsConfirming, Ready, Reply, Request
from poller.remotes.declared import DeclaredRemote
from poller.remotes.page import Example, Page
from poller.remotes.table import meant

NAMES: Mapping[type, str] = {
    NotReady: "pending",
    Ready: "ready",
    NothingToFetch: "done",
    NeedsConfirming: "confirm",
    Refused: "failed",
    Gone: "gone",
    Absent: "absent",
    Trouble: "trouble",
    Unknown: "unknown",
    Unsafe: "unsafe",
    Started: "started",
    Heard: "heard",
    Found: "found",
    Version: "version",
    Denied: "denied",
    Misfit: "misfit",
}
"""What an answer is called."""
_MOST = 1000


def made_up(page: Page, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make up a page's settings; one that has a default keeps it, as does one that is *given* and no secret."""
    known = {name: value for name, value in (given or {}).items() if not page.settings[name].secret}
    return {name: _made_up(name) for name, variable in page.settings.items() if variable.default is None} | known


def failures(page: Page) -> Iterator[tuple[int, str]]:
    """Carry out a page's examples; of each that does not come out as it says, give the number, from 1, and why."""
    if page.examples:
        remote = DeclaredRemote(page, made_up(page))
        for number, example in enumerate(page.examples, 1):
            for problem in _problems(remote, example):
                yield number, problem


def first_request(remote: DeclaredRemote, task_id: str) -> Request | Setback | None:
    """Give the first thing that is asked about a task, or why it cannot be; None if nobody is asked."""
    context = {name: name.upper() for name in remote.needs}
    conversation = remote.check(_order(remote.name, {"task_id": task_id, "context": context}))
    try:
        return next(conversation)
    except StopIteration as end:
        return end.value if isinstance(end.value, Setback) else None
    finally:
        conversation.close()


def _problems(remote: DeclaredRemote, example: Example) -> Iterator[str]:
    asked, came = carried_out(_conversation(remote, example), [_reply(each) for each in example.replies])
    gives = NAMES.get(type(came), type(came).__name__)
    if example.gives != gives:
        yield f"gives {gives}, not {example.gives or 'nothing'}{_known(example.gives)}{_why(came)}"
    urls = tuple(f"{request.method} {_shortened(request.url, remote.page_url)}" for request in asked)
    if example.asks and urls != example.asks:
        yield f"asks {list(urls)}"
    found = msgspec.to_builtins(_told(came)) if example.more else {}
    for name, value in example.more.items():
        if found.get(name) != value:
            yield f"gives {name} = {found.get(name)!r}"


def carried_out(conversation: Conversation[Any], replies: list[Reply]) -> tuple[list[Request], Any]:
    """Carry out a conversation with these replies; give what was asked, and what it came to."""
    asked: list[Request] = []
    try:
        asked.append(next(conversation))
        for reply in replies:
            given = msgspec.structs.replace(reply, url=reply.url or asked[-1].url)
            asked.append(conversation.send(given))
    except StopIteration as end:
        return asked, end.value
    except Aborted as aborted:
        return asked, aborted.outcome
    except (Denied, Misfit) as error:
        return asked, error
    conversation.close()
    return asked, Trouble(reason=f"one more reply is needed, to {asked[-1].method} {asked[-1].url}")


def _conversation(remote: DeclaredRemote, example: Example) -> Conversation[Any]:
    about = example.order
    if example.step == "start":
        return _start(remote, msgspec.convert(about, Wish))
    if example.step == "discover":
        return remote.discover(about, _MOST)
    if example.step == "feed":
        return remote.look(about)
    conversation: Conversation[Answer | Heard] = getattr(remote, example.step)(_order(remote.name, about))
    return conversation


def _start(remote: DeclaredRemote, wish: Wish) -> Conversation[Started | Answer]:
    return (yield from remote.start(remote.fit(wish)))


def _order(name: str, about: Mapping[str, Any]) -> Order:
    return Order(
        remote=name,
        task_id=str(about.get("task_id", "T1")),
        state=about.get("state", "pending"),
        created_at=0.0,
        updated_at=0.0,
        opened_at=0.0,
        deadline=1e12,
        context=about.get("context", {}),
        kept=about.get("kept", {}),
        batch=about.get("batch"),
    )


def _reply(value: Mapping[str, Any]) -> Reply:
    headers = {name.lower(): str(text) for name, text in value.get("headers", {}).items()}
    body = str(value["text"]).encode() if "text" in value else b""
    if "body" in value:
        body = msgspec.json.encode(value["body"])
    return Reply(
        status=value.get("status", 200),
        headers=headers,
        body=body,
        url=value.get("url", ""),
        cookies=value.get("cookies", {}),
        sha256=value.get("sha256", ""),
    )


def _told(came: Any) -> dict[str, Any]:
    """Lay out what an answer says."""
    match came:
        case Ready(links=links):
            extensions = [link.extension for link in links]
            return {
                "links": [link.url for link in links],
                "auth": [link.auth for link in links],
                "extensions": extensions,
                "unpack": [link.unpack for link in links],
                "good_for": came.good_for,
            }
        case Found(tasks=tasks):
            return {"tasks": [task.task_id for task in tasks], "contexts": [task.context for task in tasks]}
        case Misfit(faults=faults):
            return {"faults": [list(fault) for fault in faults]}
        case msgspec.Struct():
            return {name: getattr(came, name) for name in came.__struct_fields__}
        case _:
            return {"reason": str(came)}


def _made_up(name: str) -> str:
    if name.endswith("_URL"):
        return f"https://{name.removesuffix('_URL').lower().replace('_', '-')}.example"
    return name.lower()


def _shortened(url: str, base: str) -> str:
    return url.removeprefix(base).removeprefix("/")


def _known(gives: str) -> str:
    return "" if gives in NAMES.values() else meant(gives, list(NAMES.values()))


def _why(came: Answer | Outcome | Any) -> str:
    reason = getattr(came, "reason", None) or (str(came) if isinstance(came, Exception) else "")
    return f" ({reason})" if reason else ""
