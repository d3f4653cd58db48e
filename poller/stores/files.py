"""The few things the store asks of the operating system.

They are in one place so that a test can fail, record or stop any one of them.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_MODE = 0o640
_LEAST_ROOM, _MOST_ROOM = 2**16, 2**20
_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class Files:
    """The operating system, as the store sees it. Every method may raise OSError."""

    def open(self, path: Path) -> BinaryIO:
        """Open a file for reading."""
        return path.open("rb")

    def create(self, path: Path) -> int:
        """Create a file that must not exist; return its descriptor."""
        return os.open(path, _NEW, _MODE)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write *data*, or the first part of it, after what was written before; tell how many bytes."""
        return os.write(descriptor, data)

    def reserve(self, descriptor: int, offset: int, size: int) -> None:
        """Make a file longer by *size* zeros from *offset*, its end, and return once that is on disk."""
        rest = memoryview(bytes(size))
        while rest:
            written = os.pwrite(descriptor, rest, offset)
            offset, rest = offset + written, rest[written:]
        _sync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Return once the file's content, and its length, are on disk."""
        _sync(descriptor)

    def close(self, descriptor: int) -> None:
        """Give a descriptor back."""
        os.close(descriptor)

    def overwrite(self, path: Path, offset: int, data: bytes) -> None:
        """Change bytes of a file in place, and return once they are on disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, data, offset)
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, which must not exist."""
        os.link(source, target, follow_symlinks=False)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, and take that from whoever had it."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name; one that does not exist is removed already."""
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        """Return once the names in a folder are on disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def identity(path: Path | int) -> tuple[int, int] | None:
    """Tell which file a name or a descriptor stands for; None if it stands for none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - twice a commit: Path.stat takes twice as long
    except OSError:
        return None
    return status.st_dev, status.st_ino


class NewFile:
    """A file that we create and write from its beginning to its end.

    Attributes:
        identity: which file it is, whatever it is called.
        size: bytes written.
    """

    def __init__(self, path: Path, *, files: Files) -> None:
        self._files = files
        self._descriptor = files.create(path)
        self.identity = identity(self._descriptor)
        self._room = 0
        self.size = 0

    def make_room(self, size: int) -> None:
        """Make sure that *size* bytes can be written without lengthening the file.

        To sync a file that became longer takes two writes to the disk, of the data and of the
        length; so it is lengthened seldom, by as much as it has, within bounds.

        Raises:
            OSError: there is no room.
        """
        if self.size + size > self._room:
            more = max(size, min(max(self.size, _LEAST_ROOM), _MOST_ROOM))
            self._files.reserve(self._descriptor, max(self._room, self.size), more)
            self._room = max(self._room, self.size) + more

    def write(self, data: bytes) -> None:
        """Write all of *data*.

        Raises:
            OSError: part of it may have been written.
        """
        rest = memoryview(data)
        while rest:
            written = self._files.write(self._descriptor, rest)
            if written <= 0:
                raise OSError(errno.EIO, "nothing was written")
            rest = rest[written:]
        self.size += len(data)

    def sync(self) -> None:
        """Return once everything written is on disk."""
        self._files.sync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        self._files.close(self._descriptor)
