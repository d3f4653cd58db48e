"""A disk that fails by plan."""

import errno
import os

CODES = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EACCES)
SHORT = ("short", "short, then full")
"""How a write may fail besides: it writes less than it was asked to, and then the rest or no more."""


class Fault:
    """A plan by which one operation fails, and, if it is for good, every one after it until it is mended.

    Attributes:
        met: the operation that failed; empty if none did.
    """

    def __init__(self, number: int, kind: int | str, *, for_good: bool) -> None:
        self.met = ""
        self._number = number
        self._kind = kind
        self._for_good = for_good
        self._mended = False
        self._short = False

    def mend(self) -> None:
        """Let everything succeed from now on."""
        self._mended = True

    def __call__(self, call: int, name: str) -> int | None:
        if self._mended or not (self._short or call == self._number or (self._for_good and call > self._number)):
            return None
        self.met = self.met or name
        return self._shortened(name) if isinstance(self._kind, str) else self._raise(self._kind)

    def _shortened(self, name: str) -> int:
        if name != "write" or self._short:
            self._short = False
            self._raise(errno.ENOSPC)
        self._short = self._kind != "short"
        return 1

    def _raise(self, code: int) -> int:
        raise OSError(code, os.strerror(code))
