"""What the tests of the stores share: orders to keep, and a file system that fails on purpose."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poller.order import Order, State
from poller.outcome import File
from poller.stores.files import Files
from poller.stores.tinydb import TinyStore

OPERATIONS = tuple(name for name in vars(Files) if not name.startswith("_"))
"""All that a store asks of the operating system."""


def an_order(task_id: str = "t1", **given: Any) -> Order:
    """Make an order that is pending and due at second 10, unless *given* says otherwise."""
    values: dict[str, Any] = {
        "remote": "grafx",
        "task_id": task_id,
        "state": State.PENDING,
        "created_at": 1.0,
        "updated_at": 1.0,
        "opened_at": 1.0,
        "deadline": 1000.0,
        "due_at": 10.0,
    }
    if given.get("state", State.PENDING) is not State.PENDING:
        values["due_at"] = None
    return Order(**values | given)


def a_file(name: str = "t1.pdf") -> File:
    """Make a published file."""
    return File(name=name, size=3, sha256="ab" * 32, media_type="application/pdf", published_at=7.0)


def die(store: TinyStore) -> None:
    """Let go of a store as the end of its process would: nothing is written any more, and the lock is free."""
    store._commits._work.put(None)
    store._ledger._lock.release()
    store._pool.shutdown()


TORN = b'deadbeef [99,[["put","orders"'
"""The beginning of a frame."""


def tear(journal: Path) -> int:
    """Begin one more frame in a journal, and do not complete it; tell at which byte it begins."""
    with journal.open("r+b") as stream:
        end = len(stream.read().rstrip(b"\0"))
        stream.seek(end)
        stream.write(TORN)
    return end


@contextmanager
def in_memory() -> Iterator[Path]:
    """Make a folder for a while, in memory if that can be had: for tests that model the disk themselves."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


class Crash(BaseException):
    """The process ends here. No ``except Exception`` sees it coming."""


class ScriptedFiles(Files):
    """The real file system, where *plan* is asked before each operation and may raise.

    Of a write it may instead tell how many bytes get through; the rest is asked for again.

    Attributes:
        calls: the operations so far, by name.
    """

    def __init__(self, plan: Callable[[int, str], object] = lambda number, name: None) -> None:
        self.calls: list[str] = []
        self.plan = plan

    def write(self, descriptor: int, data: memoryview) -> int:
        share = self._ask("write")
        return super().write(descriptor, data[:share] if isinstance(share, int) else data)

    def close(self, descriptor: int) -> None:
        super().close(descriptor)  # a descriptor is gone even if closing it fails
        self._ask("close")

    def _ask(self, name: str) -> object:
        self.calls.append(name)
        return self.plan(len(self.calls), name)


def _asking(name: str) -> Callable[..., Any]:
    def operation(self: ScriptedFiles, *args: Any) -> Any:
        self._ask(name)
        return getattr(Files, name)(self, *args)

    return operation


for _name in set(OPERATIONS) - {"write", "close"}:
    setattr(ScriptedFiles, _name, _asking(_name))
