"""A model of GraFx: tasks that take their time, tokens that expire or are revoked, links that die, secrets let slip."""

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
_JUST = 5.0
MAX_BYTES = 50_000
"""What the largest file may have that is taken."""


class Answer(NamedTuple):
    """A reply, before the network has had its way with it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Task:
    """A task.

    Attributes:
        fate: ``ok``, ``failed``, ``gone``, ``never`` (it runs for ever), ``poisoned`` (asking about it ends in 502) or
            ``huge`` (its file is larger than any that is taken).
        tag: the ETag of its file; empty if it has none.
        other: as many other bytes, which a mirror takes for the file.
        made_at, lag: when it was started, and the seconds until every replica knows.
        finish_at: when it ends.
    """

    def __init__(self, name: str, at: float, chance: random.Random) -> None:
        self.name = name
        self.fate = chance.choices(("ok", "failed", "gone", "never", "poisoned", "huge"), (80, 5, 5, 5, 3, 3))[0]
        self.made_at, self.lag = at, chance.choice((0.0, 0.0, 0.0, 10.0, 20.0))
        self.finish_at = at + self.lag + chance.choice((0.0, 5.0, 60.0, 600.0, 3600.0)) * chance.random()
        self.content = chance.randbytes(MAX_BYTES + 1 if self.fate == "huge" else chance.choice((200, 3000, 40_000)))
        self.other = chance.randbytes(len(self.content))
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
        denied_at: when it last let nobody in.
        revoked_at: when it will take back every token, the next time last.
    """

    def __init__(self, chance: random.Random, time: Callable[[], float], locked: Callable[[], bool]) -> None:
        self.tasks: dict[str, Task] = {}
        self._chance, self._time, self._locked = chance, time, locked
        self._tokens: dict[str, float] = {}
        self._links: dict[str, tuple[str, float]] = {}
        self._issued = 0
        self._buried: set[str] = set()
        self.denied_at = self._taken_back_at = float("-inf")
        self.revoked_at: list[float] = []

    def start(self, name: str) -> Task:
        """Start a task."""
        task = self.tasks[name] = Task(name, self._time(), self._chance)
        return task

    def answer(self, request: Request, credentials: Mapping[str, str]) -> Answer:
        """Answer one request."""
        parts = urlsplit(request.url)
        while self.revoked_at and self.revoked_at[-1] <= self._time():
            self._taken_back_at = self.revoked_at.pop()
            self._tokens.clear()
        if parts.path == "/oauth/token":
            return self._token(request)
        if request.url in self._links and Origin.of(request.url) != Origin.of(BASE):
            return self._file(request)
        if not self._let_in(credentials):
            if self._time() - self._taken_back_at < _JUST:  # a token that was just issued may be gone, too
                self.denied_at = self._time()
            return Answer(401, problem(f"who are you, {credentials}?"))
        if request.url in self._links:
            return self._file(request)
        if not parts.path.startswith(TASKS):
            return Answer(200, f"the font that {credentials} asked for".encode())
        name, _, rest = parts.path.removeprefix(TASKS).partition("/")
        task = self.tasks.get(unquote(name))
        return (
            self._content(task, request) if rest == "download" and task else self._state(task, self._slip(credentials))
        )

    def _token(self, request: Request) -> Answer:
        if self._is_locked() or msgspec.json.decode(request.body or b"{}").get("client_secret") != SECRET:
            return Answer(401, b'{"error":"access_denied","error_description":"not with canary-client-secret"}')
        value, life = f"canary-token-{self._count()}", self._chance.choice((300.0, 3600.0, 86400.0))
        self._tokens[value] = self._time() + life
        return Answer(200, msgspec.json.encode({"access_token": value, "token_type": "Bearer", "expires_in": life}))

    def _slip(self, credentials: Mapping[str, str]) -> str:
        """Name who asks as no remote should: by the header that was sent, or by the token in it alone."""
        token = credentials.get("Authorization", "").removeprefix("Bearer ")
        return self._chance.choice((str(credentials), token))

    def _let_in(self, credentials: Mapping[str, str]) -> bool:
        token = credentials.get("Authorization", "").removeprefix("Bearer ")
        return not self._is_locked() and self._tokens.get(token, 0.0) > self._time()

    def _is_locked(self) -> bool:
        if self._locked():
            self.denied_at = self._time()
            return True
        return False

    def _state(self, task: Task | None, who: str) -> Answer:
        now = self._time()
        if task is None or now < task.made_at + task.lag:
            return Answer(404, problem(f"no such task of {who}"))
        if task.fate == "poisoned":
            return Answer(502, problem(f"nobody answers {who}"))
        if task.fate == "never" or now < task.finish_at or self._lags(task):
            wish = {"retry-after": self._chance.choice(("0", "7", "90"))} if self._chance.random() < 0.1 else {}
            return Answer(self._chance.choice((202, 204)), b"", wish)
        if task.fate == "failed":
            report = "https://acme.example/reports/1?sig=canary-report"
            return Answer(500, problem(f"it broke when {who} came, with {SECRET}. Error report: {report}"))
        return Answer(410) if task.lost(now) else Answer(200, self._ready(task))

    def _lags(self, task: Task) -> bool:
        """Ask a replica that is behind: now and then, and oftener where a link was dead."""
        return self._chance.random() < (0.3 if task.name in self._buried else 0.03)

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
        return self._content(task, request) if self._time() < until else self._dead(name)

    def _dead(self, name: str) -> Answer:
        """Answer at a link that is dead; at a fresh one never that the file is gone: that would be believed."""
        status = self._chance.choice((403, 404) if name in self._buried else (403, 404, 410))
        self._buried.add(name)
        return Answer(status, b"", {"retry-after": "60"} if self._chance.random() < 0.2 else {})

    def _content(self, task: Task, request: Request) -> Answer:
        if task.fate not in {"ok", "huge"} or self._time() < task.finish_at or task.lost(self._time()):
            return Answer(404)
        headers = {"content-type": task.kind, **({"etag": task.tag} if task.tag else {})}
        first = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if not first or request.headers["If-Range"] != task.tag or self._chance.random() < 0.2:
            return Answer(200, task.content, headers)
        return self._rest(task, first, headers)

    def _rest(self, task: Task, first: int, headers: Mapping[str, str]) -> Answer:
        """Answer with the rest of a file, which now and then is not the one that was asked for."""
        content, odd = task.content, self._chance.choice((*("",) * 8, "start", "end", "mirror"))
        if odd == "mirror" or task.tag.startswith("W/"):
            content, headers = task.other, {**headers, "etag": task.tag and f'{task.tag[:-1]}-other"'}
        if task.tag.startswith("W/"):
            headers = {**headers, "etag": task.tag}  # it stands for more than these bytes
        first += odd == "start"
        content = content[:-1] if odd == "end" else content
        if first >= len(content):
            return Answer(416)
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


def problem(detail: str) -> bytes:
    """Say what went wrong, as GraFx does."""
    return msgspec.json.encode({"detail": detail})
