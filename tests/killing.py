"""Files that kill their process at a named point.

A point is written ``phase/operation/file/when/count``: in that phase of the process (empty if
it has none), at that operation on that file, ``before`` it, ``inside`` it (a write: when half
of it is written) or ``after`` it, for the how manyth time. The environment's ``KILL_AT`` has it.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poller.stores.files import Files

FILES = {
    "": "snapshot",
    ".new": "fresh",
    ".folded": "folded",
    ".previous": "previous",
    ".journal": "journal",
    ".journal.new": "begun",
    ".journal.old": "full",
}
"""What a store's files are called in a point, by what their names end with."""


def short(path: Path) -> str:
    """Tell how a point calls a file; every folder is ``folder``."""
    return FILES.get(path.name.removeprefix("orders.json"), "folder")


def kill() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


class KillingFiles(Files):
    """The real file system, up to the point.

    Attributes:
        phase: what the process is doing.
    """

    phase = ""

    def __init__(self) -> None:
        self._point = tuple(os.environ.get("KILL_AT", "////").split("/"))
        self._open: dict[int, str] = {}
        self._met: Counter[str] = Counter()

    def create(self, path: Path) -> int:
        descriptor = self._around("create", short(path), super().create, path)
        self._open[descriptor] = short(path)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        name = self._open[descriptor]
        if self._is_at("write", name, "inside"):
            super().write(descriptor, data[: len(data) // 2])
            kill()
        return self._around("write", name, super().write, descriptor, data)

    def reserve(self, descriptor: int, offset: int, size: int) -> None:
        name = self._open[descriptor]
        if self._is_at("reserve", name, "inside"):
            super().reserve(descriptor, offset, size // 2)
            kill()
        self._around("reserve", name, super().reserve, descriptor, offset, size)

    def sync(self, descriptor: int) -> None:
        self._around("sync", self._open[descriptor], super().sync, descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._around("rename", short(source), super().rename, source, target)
        self._open = {each: short(target) if name == short(source) else name for each, name in self._open.items()}

    def link(self, source: Path, target: Path) -> None:
        self._around("link", short(target), super().link, source, target)

    def unlink(self, path: Path) -> None:
        self._around("unlink", short(path), super().unlink, path)

    def overwrite(self, path: Path, offset: int, data: bytes) -> None:
        self._around("overwrite", short(path), super().overwrite, path, offset, data)

    def sync_folder(self, path: Path) -> None:
        self._around("sync", "folder", super().sync_folder, path)

    def _around(self, operation: str, file: str, act: Callable[..., Any], *args: Any) -> Any:
        for when in ("before", "after"):
            result = act(*args) if when == "after" else None
            if self._is_at(operation, file, when):
                kill()
        return result

    def _is_at(self, *place: str) -> bool:
        *where, count = self._point
        if [self.phase, *place] != where:
            return False
        self._met["here"] += 1
        return self._met["here"] == int(count)
