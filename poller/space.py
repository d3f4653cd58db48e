"""Room on a disk: what downloads under way have still to write, and what must stay free beside them."""

import errno
import os
from threading import Lock

_MODEST = 2**26
"""Bytes: where so much can still be had, the disk is not full, and a file that wants more is alone with that."""


class DoesNotFit(OSError):  # noqa: N818 - said of a file
    """One file is too large for the room that there is; others may have it."""


class Space:
    """Room for files that are still being received. Threads may share it.

    Args:
        folder: an open directory on the disk.
        keep: bytes that stay free, for whatever else lives there.
    """

    def __init__(self, *, folder: int, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._lock = Lock()
        self._held: dict[str, int] = {}

    def hold(self, name: str, size: int) -> None:
        """Hold room for *size* bytes more of a file.

        Raises:
            DoesNotFit: it alone is too large.
            OSError: there is no room (ENOSPC).
        """
        self._become(name, size, 0)

    def take(self, name: str, size: int, *, had: int = 0) -> None:
        """Take *size* bytes for a file that has *had* some, as far as possible of what is held for it.

        Raises:
            DoesNotFit: it alone is too large: without it there would be room.
            OSError: there is no room (ENOSPC).
        """
        self._become(name, max(self._held.get(name, 0) - size, 0), size, had)

    def let_go(self, name: str) -> None:
        """Hold nothing for a file any more."""
        with self._lock:
            self._held.pop(name, None)

    def _become(self, name: str, held: int, taken: int, had: int = 0) -> None:
        """Hold so much for a file while some is taken, or leave everything as it is."""
        with self._lock:
            others = sum(self._held.values()) - self._held.get(name, 0)
            self._demand(others, held + taken, had)
            self._held[name] = held

    def _demand(self, others: int, size: int, had: int) -> None:
        disk = os.fstatvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        room = free - others - self._keep
        if room < size:
            needed = others + size
            reason = f"{free} bytes are free, {needed} are needed, and {self._keep} are kept (POLLER_DISK_RESERVE)"
            kind = DoesNotFit if room + had >= _MODEST else OSError
            raise kind(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {reason}")
