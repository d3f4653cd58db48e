"""Files and directories by open directory: whatever is planted there, no link is followed and nothing waited for."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FORGETFUL = frozenset({"btrfs", "overlay"})
"""Where a sync of a file without a name keeps nothing of it but its data: named, and its folder synced, it may be empty
after a power cut (in Linux, ``btrfs_log_inode_parent`` passes over what has no link). An overlay may lie on one."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Closed(PermissionError):  # noqa: N818 - said of a folder
    """A folder within ours lets nobody in; others may."""


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
    """Open a new file."""
    return _ours(os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode=FILE_MODE, dir_fd=folder))


def nameless(folder: int) -> int:
    """Open a new file that has no name until it is linked to one, and is gone with its last handle; see open(2)."""
    return _ours(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode=FILE_MODE, dir_fd=folder))


def link(handle: int, name: str, folder: int) -> None:
    """Give an open file a name that nobody has; see linkat(2).

    Raises:
        FileExistsError: somebody has it.
    """
    os.link(f"/proc/self/fd/{handle}", name, dst_dir_fd=folder, follow_symlinks=True)


def takes_nameless(folder: int) -> bool:
    """Try whether a file without a name can be made, synced, and be given one: not every file system can.

    Where the process dies meanwhile, the sweep takes its probe for a partial.
    """
    probe = "nameless.part"
    try:
        if file_system(folder) in _FORGETFUL:
            return False
        handle = nameless(folder)
        try:
            link(handle, probe, folder)
            os.unlink(probe, dir_fd=folder)
        finally:
            os.close(handle)
    except (OSError, AttributeError, KeyError):
        return False
    return True


def file_system(folder: int) -> str:
    """Name the kind of file system that an open directory is on; see proc(5).

    Raises:
        OSError, KeyError: it is not known.
    """
    about = Path(f"/proc/self/fdinfo/{folder}").read_text("ascii")
    mount = dict(line.split(":", 1) for line in about.splitlines())["mnt_id"].strip()
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        if line.startswith(f"{mount} "):
            return line.partition(" - ")[2].split()[0]
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), mount)


def _ours(handle: int) -> int:
    """Give a new file our mode, whatever the umask."""
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
