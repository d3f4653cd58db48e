"""Room on a disk: what downloads under way have still to write, and what must stay free beside them."""

import errno
import os
from threading import Lock


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
            OSError: there is not as much (ENOSPC).
        """
        self._become(name, size, 0)

    def take(self, name: str, size: int) -> None:
        """Take *size* bytes for a file, as far as possible of what is held for it.

        Raises:
            OSError: there is not as much (ENOSPC).
        """
        self._become(name, max(self._held.get(name, 0) - size, 0), size)

    def let_go(self, name: str) -> None:
        """Hold nothing for a file any more."""
        with self._lock:
            self._held.pop(name, None)

    def _become(self, name: str, held: int, taken: int) -> None:
        """Hold so much for a file while some is taken, or leave everything as it is."""
        with self._lock:
            others = sum(self._held.values()) - self._held.get(name, 0)
            self._demand(others + held + taken)
            self._held[name] = held

    def _demand(self, size: int) -> None:
        disk = os.fstatvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if free - size < self._keep:
            reason = f"{free} bytes are free, {size} are needed, and {self._keep} are kept (POLLER_DISK_RESERVE)"
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {reason}")
