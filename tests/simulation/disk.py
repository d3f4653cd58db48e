"""The disk under the store and the orders folder: it fills, it fails, and it may lose what was not synced."""

import errno
import fcntl
import os
import random
import stat
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from poller import partial
from tests.day import RecordingFiles
from tests.disk import SECTOR, Disk, Inode, _apply, _arrived
from tests.simulation.grafx import Task
from tests.simulation.weather import Weather
from tests.stores import Crash

_EXTENSIONS = {"application/pdf": ".pdf", "image/png": ".png"}
_SPELLS = {"disk_full": errno.ENOSPC, "disk_broken": errno.EIO, "no_files": errno.EMFILE}
_WHEN_FULL = frozenset({"create", "write", "reserve", "mkdir"})
KEEP = 100_000
"""Bytes that stay free beside what is received."""
_ROOM, _SCARCE = 250_000, 10_000
"""Bytes that there are beside those, and when room is scarce."""
_REFUSALS, _A_WHILE = 14, 300.0
"""Files begun in vain, and within how many seconds: ten may be under way, then one tries after 30 s, 60 s, 120 s."""
_OPENING = frozenset({"create", "open", "sync_folder"})


class Plan:
    """Says before each operation whether it fails, or whether the process ends there.

    Attributes:
        dead: whether the process has ended.
        buried: whether what is left of it is being put away.
        faults: how many were dealt.
        fault_at: when the last of them was.
    """

    def __init__(self, chance: random.Random, weather: Weather) -> None:
        self.dead = self.buried = False
        self.fault_at = float("-inf")
        self.faults = 0
        self._chance, self._weather = chance, weather
        self._fuse: int | None = None

    def light(self, operations: int) -> None:
        """Let the process end after so many more operations."""
        self._fuse = operations

    def __call__(self, call: int, name: str) -> int | None:
        if self.buried:
            raise OSError(errno.EIO, "dead and buried")
        if self.dead:
            raise Crash
        if self._fuse is not None:
            self._fuse -= 1
            if self._fuse < 0:
                return self._ends(name)
        if code := self._fault(name):
            self.faults += 1
            self.fault_at = self._weather.time()
            raise OSError(code, os.strerror(code))
        return None

    def _ends(self, name: str) -> int:
        self.dead = True
        if name == "write" and self._chance.random() < 0.5:
            return self._chance.randint(1, 200)  # what is asked for next ends it
        raise Crash

    def _fault(self, name: str) -> int | None:
        for spell, code in _SPELLS.items():
            if self._weather.on(spell) and self._suits(spell, name):
                return code
        return errno.EIO if self._weather.mishap(0.02) else None

    def _suits(self, spell: str, name: str) -> bool:
        if spell == "disk_broken":
            return self._chance.random() < 0.3
        return name in (_WHEN_FULL if spell == "disk_full" else _OPENING)


class StoreDisk:
    """The folder of the store.

    Attributes:
        files: the operating system, as the store of this process sees it.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self._chance = chance
        self.files: RecordingFiles
        self._before: dict[str, bytes] = {}

    def begin(self, plan: Plan) -> None:
        """Let a process begin."""
        self._before = self._found()
        self.files = RecordingFiles()
        self.files.plan = plan

    def lose_power(self) -> None:
        """Leave what may be found after the power failed in the middle of what was under way."""
        disk = Disk(self._before)
        for name, args in self.files.log:
            getattr(disk, name)(*args)
        image = self._image(disk)
        for name in self._found():
            (self.folder / name).unlink()  # two names may stand for one file, and need not any more
        for name, data in image.items():
            (self.folder / name).write_bytes(data)

    def _found(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if not path.name.endswith(".lock")}

    def _image(self, disk: Disk) -> dict[str, bytes]:
        happened: set[int] = set()
        for number in range(len(disk._pending)):
            if disk._is_legal(frozenset({*happened, number})) and self._chance.random() < 0.5:
                happened.add(number)
        names = dict(disk._durable)
        for number in sorted(happened):
            _apply(names, disk._pending[number])
        return {name: self._torn(inode) for name, inode in names.items()}

    def _torn(self, inode: Inode) -> bytes:
        if inode.data == inode.durable:
            return inode.data
        before = inode.durable.ljust(len(inode.data), b"\0")
        arrived = frozenset(at for at in range(0, len(inode.data), SECTOR) if self._chance.random() < 0.5)
        image = _arrived(before, inode.data, arrived)
        return image[: self._chance.randint(len(inode.durable), len(inode.data))]


class FolderOs:
    """Stands in for the ``os`` that the orders folder is kept with; knows what of it is not synced yet.

    Args:
        is_scarce: tells whether there is little room.
        breach: told of broken promises.

    Attributes:
        plan: of this process.
        noted: what stands in every sidecar that was written.
    """

    def __init__(
        self, folder: Path, chance: random.Random, is_scarce: Callable[[], bool], breach: Callable[[str], None]
    ) -> None:
        self.folder, self._inner = folder, folder / ".partial"
        self.plan: Plan
        self.noted: list[str] = []
        self._chance, self._is_scarce, self._breach = chance, is_scarce, breach
        self._received = 0
        self._refused: deque[float] = deque(maxlen=_REFUSALS)
        self._sidecars: list[str] = []
        self._synced: set[int] = set()
        self._locked: list[int] = []
        self._pending: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def begin(self, plan: Plan) -> None:
        """Let a process begin."""
        self.plan = plan
        self._refused.clear()

    def fsync(self, descriptor: int) -> None:
        self.plan(0, "sync")
        os.fsync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._pending.clear()
        else:
            self._synced.add(status.st_ino)

    def link(self, source: str, target: str, **where: Any) -> None:
        self.plan(0, "link")
        os.link(source, target, **where)
        self._pending.append(target)

    def unlink(self, name: str, **where: Any) -> None:
        self.plan(0, "unlink")
        os.unlink(name, **where)

    def open(self, path: Any, flags: int, *args: Any, **where: Any) -> int:
        try:
            self.plan(0, "create" if flags & os.O_CREAT else "open")
        except OSError:
            if str(path).endswith(".part") and flags & os.O_CREAT:
                self._refuse()
            raise
        descriptor = os.open(path, flags, *args, **where)
        if flags & os.O_CREAT and str(path).endswith(".json"):
            self._sidecars.append(str(path))
        if flags & (os.O_CREAT | os.O_RDWR):
            self._locked.append(descriptor)
        return descriptor

    def _refuse(self) -> None:
        """See that a disk that takes nothing is left alone."""
        self._refused.append(self.plan.fault_at)
        if len(self._refused) == _REFUSALS and self._refused[-1] - self._refused[0] < _A_WHILE:
            self._breach(f"{_REFUSALS} files were begun within {_A_WHILE:.0f} s on a disk that takes none")

    def fstatvfs(self, _descriptor: int) -> Any:
        return SimpleNamespace(f_bavail=self._free(), f_frsize=1)

    def _free(self) -> int:
        room = _SCARCE if self._is_scarce() else _ROOM
        return KEEP + room - sum(path.stat().st_size for path in self.partials())

    def begins(self, length: int | None) -> None:
        """See that there is room for a file of which so many bytes are announced, now that it is about to come."""
        if length is not None and length >= partial.LEAST and self._free() - length < KEEP:
            self._breach(f"{length} bytes are received where {self._free()} are free and {KEEP} are kept")

    def look(self) -> None:
        """See what was written: sidecars, and files only where there was room."""
        received = sum(path.stat().st_size for path in self.partials())
        if received > self._received and self._free() < KEEP:
            self._breach(f"{self._free()} bytes are left free of {KEEP}")
        self._received = received
        while self._sidecars:
            with suppress(FileNotFoundError):
                self.noted.append((self.folder / ".partial" / self._sidecars.pop()).read_text("utf-8", "replace"))

    def plant(self, name: str, content: bytes) -> None:
        """Put a file there that is none of ours, unless its name is taken."""
        with suppress(FileExistsError), (self.folder / name).open("xb") as file:
            file.write(content)
            self._synced.add(os.fstat(file.fileno()).st_ino)

    def unlock(self) -> None:
        """Let go of the locks on partials, as the end of a process does."""
        for descriptor in self._locked:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        self._locked.clear()

    def lose_power(self) -> None:
        """Leave what may be found of names and contents that were not synced."""
        for name in self._pending:
            if (self.folder / name).exists() and self._chance.random() < 0.5:
                (self.folder / name).unlink()
        self._pending.clear()
        for path in self.published():
            if path.stat().st_ino not in self._synced:
                os.truncate(path, self._chance.randint(0, path.stat().st_size - 1))
        for path in self.partials():
            if path.stat().st_ino not in self._synced:
                path.write_bytes(b"\0" * path.stat().st_size)

    def partials(self) -> list[Path]:
        """Give the files that are still being received, or were."""
        with suppress(FileNotFoundError), os.scandir(self._inner) as entries:
            return sorted(self._inner / entry.name for entry in entries if entry.name.endswith(".part"))
        return []

    def published(self) -> list[Path]:
        """Give the files that the shop sees."""
        if not self.folder.exists():
            return []
        with os.scandir(self.folder) as entries:
            return sorted(self.folder / entry.name for entry in entries if entry.is_file())


def task_of(name: str) -> str:
    """Tell whose file has this name, of whatever version."""
    return name.partition(".")[0].partition("~")[0]


class Watch:
    """Looks into the orders folder whenever something may have changed there.

    Attributes:
        planted: digests of what others put there, by name.
        seen: digests of what is there, by name.
        came: when each name came to be there last.
    """

    def __init__(
        self,
        folder: FolderOs,
        tasks: Mapping[str, Task],
        time: Callable[[], float],
        breach: Callable[[str], None],
    ) -> None:
        self.planted: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        self.came: dict[str, float] = {}
        self._folder, self._tasks, self._time, self._breach = folder, tasks, time, breach

    def plant(self, task: str, chance: random.Random) -> None:
        """Put a file under the name that a task's file will want: other bytes, or the very same."""
        its = self._tasks.get(task)
        name = f"{task}{_EXTENSIONS.get(its.kind, '.bin')}" if its is not None else ""
        if its is None or name in self.seen or not self._folder.folder.exists():
            return
        content = chance.choice((its.other, its.content, b"not yours"))
        self._folder.plant(name, content)
        self.planted[name] = sha256(content).hexdigest()
        self.look()

    def look(self, *, thoroughly: bool = False) -> None:
        """Compare what is there with what may be there."""
        self._folder.look()
        paths = {path.name: path for path in self._folder.published()}
        for name in self.planted.keys() - paths.keys():
            del self.planted[name]
            self._breach(f"{name}, which was not ours, is gone")
        for name in self.seen.keys() - paths.keys():
            del self.seen[name]
        for name, path in paths.items():
            if thoroughly or name not in self.seen:
                self._read(name, path)

    def _read(self, name: str, path: Path) -> None:
        digest = sha256(path.read_bytes()).hexdigest()
        task = task_of(name)
        if digest != self.planted.get(name, digest):
            self._breach(f"{name}, which was not ours, was changed")
        elif name not in self.planted and (task not in self._tasks or digest != self._tasks[task].sha256):
            self._breach(f"{name} does not hold the file of {task}: {path.stat().st_size} bytes")
        if name not in self.seen:
            self.came[name] = self._time()
        self.seen[name] = digest
