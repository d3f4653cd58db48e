"""A model of GraFx: tasks that take their time, tokens that expire, links that die."""

import random
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from poller.address import Origin
from poller.remote import Request
from tests.grafx import SECRET, TASKS

BASE = "https://acme.example"
CDN = "https://cdn.example"
WINDOW = 4 * 3600.0
"""Seconds for which a finished file can be had."""


class Answer(NamedTuple):
    """A reply, before the network has had its way with it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Task:
    """A task.

    Attributes:
        fate: ``ok``, ``failed``, ``gone``, ``never`` (it runs for ever) or ``poisoned`` (asking about it ends in 502).
        tag: the ETag of its file; empty if it has none.
        made_at, lag: when it was started, and the seconds until every replica knows.
        finish_at: when it ends.
    """

    def __init__(self, name: str, at: float, chance: random.Random) -> None:
        self.name = name
        self.fate = chance.choices(("ok", "failed", "gone", "never", "poisoned"), (80, 5, 5, 5, 3))[0]
        self.made_at, self.lag = at, chance.choice((0.0, 0.0, 0.0, 10.0, 20.0))
        self.finish_at = at + self.lag + chance.choice((0.0, 5.0, 60.0, 600.0, 3600.0)) * chance.random()
        self.content = chance.randbytes(chance.choice((200, 3000, 40_000)))
        self.sha256 = sha256(self.content).hexdigest()
        self.kind = chance.choice(("application/pdf", "image/png", "application/x-strange"))
        self.tag = chance.choice(("", f'"{name}"', f'"{name}"', f'W/"{name}"'))

    def lost(self, at: float) -> bool:
        """Tell whether its file can no longer be had."""
        return self.fate == "gone" or at > self.finish_at + WINDOW


class GraFx:
    """Answers requests.

    Args:
        chance: chooses what is left open.
        time: tells virtual seconds.
        locked: tells whether nobody is let in.

    Attributes:
        tasks: by name.
    """

    def __init__(self, chance: random.Random, time: Callable[[], float], locked: Callable[[], bool]) -> None:
        self.tasks: dict[str, Task] = {}
        self._chance, self._time, self._locked = chance, time, locked
        self._tokens: dict[str, float] = {}
        self._links: dict[str, tuple[str, float]] = {}
        self._issued = 0

    def start(self, name: str) -> Task:
        """Start a task."""
        task = self.tasks[name] = Task(name, self._time(), self._chance)
        return task

    def revoke(self) -> None:
        """Take back every token."""
        self._tokens.clear()

    def answer(self, request: Request, credentials: Mapping[str, str]) -> Answer:
        """Answer one request."""
        parts = urlsplit(request.url)
        if parts.path == "/oauth/token":
            return self._token(request)
        if request.url in self._links and Origin.of(request.url) != Origin.of(BASE):
            return self._file(request)
        if not self._let_in(credentials):
            return Answer(401, b'{"detail":"who are you?"}')
        if request.url in self._links:
            return self._file(request)
        if not parts.path.startswith(TASKS):
            return Answer(200, b"it was the font")
        name, _, rest = parts.path.removeprefix(TASKS).partition("/")
        task = self.tasks.get(unquote(name))
        return self._content(task, request) if rest == "download" and task else self._state(task)

    def _token(self, request: Request) -> Answer:
        if self._locked() or msgspec.json.decode(request.body or b"{}").get("client_secret") != SECRET:
            return Answer(401, b'{"error":"access_denied"}')
        value, life = f"canary-token-{self._count()}", self._chance.choice((300.0, 3600.0, 86400.0))
        self._tokens[value] = self._time() + life
        return Answer(200, msgspec.json.encode({"access_token": value, "token_type": "Bearer", "expires_in": life}))

    def _let_in(self, credentials: Mapping[str, str]) -> bool:
        token = credentials.get("Authorization", "").removeprefix("Bearer ")
        return not self._locked() and self._tokens.get(token, 0.0) > self._time()

    def _state(self, task: Task | None) -> Answer:
        now = self._time()
        if task is None or now < task.made_at + task.lag:
            return Answer(404, b'{"detail":"no such task"}')
        if task.fate == "poisoned":
            return Answer(502)
        if task.fate == "never" or now < task.finish_at:
            wish = {"retry-after": self._chance.choice(("0", "7", "90"))} if self._chance.random() < 0.1 else {}
            return Answer(self._chance.choice((202, 204)), b"", wish)
        if task.fate == "failed":
            return Answer(500, b'{"detail":"it broke. Error report: https://acme.example/reports/1?sig=canary-report"}')
        return Answer(410) if task.lost(now) else Answer(200, self._ready(task))

    def _ready(self, task: Task) -> bytes:
        if self._chance.random() < 0.1:
            return msgspec.json.encode({"data": {"taskId": task.name}})
        host = self._chance.choice((BASE, CDN))
        link = f"{host}/files/{self._count()}?sig=canary-link-{self._issued}"
        self._links[link] = (task.name, self._time() + self._chance.choice((2.0, 600.0, 3600.0)))
        return msgspec.json.encode({"data": {"taskId": task.name}, "links": {"download": link}})

    def _file(self, request: Request) -> Answer:
        name, until = self._links[request.url]
        task = self.tasks[name]
        return self._content(task, request) if self._time() < until else Answer(self._chance.choice((403, 404)))

    def _content(self, task: Task, request: Request) -> Answer:
        if task.fate != "ok" or self._time() < task.finish_at or task.lost(self._time()):
            return Answer(404)
        headers = {"content-type": task.kind, **({"etag": task.tag} if task.tag else {})}
        first = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if not first or request.headers["If-Range"] != task.tag or self._chance.random() < 0.2:
            return Answer(200, task.content, headers)
        return self._rest(task.content, self._chance.choice((first,) * 9 + (first + 1,)), headers)

    def _rest(self, content: bytes, first: int, headers: Mapping[str, str]) -> Answer:
        """Answer with the rest of a file, which now and then is not the one that was asked for."""
        span = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return Answer(206, content[first:], {**headers, "content-range": span})

    def about(self, url: str) -> str:
        """Tell which task an address is about; empty if none."""
        if url in self._links:
            return self._links[url][0]
        path = urlsplit(url).path
        return unquote(path.removeprefix(TASKS).partition("/")[0]) if path.startswith(TASKS) else ""

    def _count(self) -> int:
        self._issued += 1
        return self._issued
