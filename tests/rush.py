"""A remote in a process of its own that counts what comes at once: connections, questions, downloads, requests.

Run as ``python -m tests.rush``. The first line on standard output is its address; when standard input ends, the last
is what was seen, as JSON. A task is ready at its second question.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.grafx import TASKS, token

_FILE = b"%PDF-1.7 " + b"x" * 2000
_TAKES = 0.01
"""Seconds that an answer takes."""


class Rush:
    """Answers and counts."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.most: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self.base = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._one("connections"), _closed(writer):
            while head := await _head(reader):
                method, path, *_ = head.split(" ")
                self.sent.append(time.monotonic())
                kind = "downloads" if path.startswith("/files/") else "questions" if method == "GET" else "logins"
                with self._one(kind):
                    await asyncio.sleep(_TAKES)
                    writer.write(self._answer(path))
                    await writer.drain()

    @contextmanager
    def _one(self, kind: str) -> Iterator[None]:
        self._now[kind] += 1
        self.most[kind] = max(self.most[kind], self._now[kind])
        yield
        self._now[kind] -= 1

    def _answer(self, path: str) -> bytes:
        if path == "/oauth/token":
            return _reply(200, token(), "application/json")
        if path.startswith("/files/"):
            return _reply(200, _FILE, "application/pdf")
        task = path.removeprefix(TASKS)
        self._asked[task] += 1
        if self._asked[task] < 2:
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        link = json.dumps({"links": {"download": f"{self.base}/files/{task}"}}).encode()
        return _reply(200, link, "application/json")


@contextmanager
def _closed(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> str:
    """Read one request, its body too; give its head, or nothing at the end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return ""
    lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
    if lengths:
        await reader.readexactly(int(lengths[0].partition(":")[2]))
    return head


def _reply(status: int, body: bytes, kind: str) -> bytes:
    return f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _main() -> None:
    rush = Rush()
    server = await asyncio.start_server(rush.serve, "127.0.0.1", 0, backlog=1000)
    rush.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sys.stdout.write(f"{rush.base}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sys.stdout.write(json.dumps({"sent": rush.sent, "most": rush.most}) + "\n")
    sys.stdout.flush()


class Seen:
    """What was seen, once it is over.

    Attributes:
        base: the remote's address.
        sent: when each request came.
        most: how many of each kind at once.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.sent: list[float] = []
        self.most: dict[str, int] = {}


@contextmanager
def rushed() -> Iterator[Seen]:
    """Run such a remote; afterwards tell what it saw."""
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "tests.rush"], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        seen = Seen(process.stdout.readline().strip())
        try:
            yield seen
        finally:
            process.stdin.close()
            told: dict[str, Any] = json.loads(process.stdout.readline())
            seen.sent, seen.most = told["sent"], told["most"]


if __name__ == "__main__":
    asyncio.run(_main())
