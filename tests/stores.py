"""What the tests of the stores share: orders to keep, and a file system that fails on purpose."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poller.order import Order, State
from poller.outcome import File
from poller.stores.files import Files

OPERATIONS = ("open", "create", "write", "sync", "close", "link", "rename", "unlink", "sync_folder")


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


class Crash(BaseException):
    """The process ends here. No ``except Exception`` sees it coming."""


class ScriptedFiles(Files):
    """The real file system, where *plan* is asked before each operation and may raise.

    Attributes:
        calls: the operations so far, by name.
    """

    def __init__(self, plan: Callable[[int, str], None] = lambda number, name: None) -> None:
        self.calls: list[str] = []
        self.plan = plan
        self._synced: dict[int, int] = {}
        self._inodes: dict[int, int] = {}

    def create(self, path: Path) -> int:
        self._ask("create")
        descriptor = super().create(path)
        self._inodes[descriptor] = os.fstat(descriptor).st_ino
        self._synced[self._inodes[descriptor]] = 0
        return descriptor

    def sync(self, descriptor: int) -> None:
        self._ask("sync")
        super().sync(descriptor)
        self._synced[self._inodes[descriptor]] = os.fstat(descriptor).st_size

    def lose_power(self, folder: Path, *, keep: float) -> None:
        """Cut from every file what was written and not synced, but for a share of it."""
        for path in folder.iterdir():
            status = path.stat()
            synced = self._synced.get(status.st_ino, status.st_size)
            if status.st_size > synced:
                os.truncate(path, synced + int((status.st_size - synced) * keep))

    def _ask(self, name: str) -> None:
        self.calls.append(name)
        self.plan(len(self.calls), name)


def _asking(name: str) -> Callable[..., Any]:
    def operation(self: ScriptedFiles, *args: Any) -> Any:
        self._ask(name)
        return getattr(Files, name)(self, *args)

    return operation


for _name in set(OPERATIONS) - {"create", "sync"}:
    setattr(ScriptedFiles, _name, _asking(_name))
