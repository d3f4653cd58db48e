"""The orders folder as the hook sees it: read-only, and no way out of it."""

import os
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A pipe that somebody put there must not hold us up."""


def open_below(root: Path, name: str) -> BinaryIO:
    """Open a regular file below *root* without following any link on the way.

    Args:
        root: may itself be a link; it is the operator's word.
        name: a relative path with ``/`` between folders.

    Raises:
        OSError: there is none, or not such a file.
    """
    *folders, last = name.split("/")
    if any(part in {"", ".", ".."} for part in (*folders, last)):
        raise FileNotFoundError(name)
    where = os.open(root, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=where)
            os.close(where)
            where = inner
        return _regular(os.open(last, _FILE, dir_fd=where))
    finally:
        os.close(where)


def _regular(descriptor: int) -> BinaryIO:
    if not S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError("it is no regular file")
    return os.fdopen(descriptor, "rb", buffering=0)
