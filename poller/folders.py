"""Files and directories by open directory: whatever is planted there, no link is followed and nothing waited for."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def inner(folder: int, name: str) -> int:
    """Open a directory inside *folder*, making it durably if it is not there."""
    try:
        os.mkdir(name, mode=FOLDER_MODE, dir_fd=folder)
        os.fsync(folder)
    except FileExistsError:
        pass
    return os.open(name, _DIRECTORY, dir_fd=folder)


@contextmanager
def descended(folder: int, path: str) -> Iterator[int]:
    """Open the directory at *path* below *folder*, making what is missing."""
    with ExitStack() as handles:
        for part in path.split("/") if path else ():
            folder = inner(folder, part)
            handles.callback(os.close, folder)
        yield folder


def create(path: str, flags: int, folder: int) -> int:
    """Open a new file, with our mode whatever the umask."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode=FILE_MODE, dir_fd=folder)
    try:
        os.fchmod(handle, FILE_MODE)
    except OSError:
        os.close(handle)
        raise
    return handle


def reach(path: str, flags: int, folder: int) -> int:
    """Open what is there."""
    return os.open(path, flags | _CAREFUL, dir_fd=folder)


def read(name: str, folder: int) -> FileIO:
    """Open what is there for reading."""
    return FileIO(name, opener=lambda path, flags: reach(path, flags, folder))
