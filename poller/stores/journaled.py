"""Tables kept by a journal, for whoever uses TinyDB directly and waits for the disk himself."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from poller.stores.journal import Change, encode
from poller.stores.ledger import Ledger
from poller.stores.live import LiveStorage


class JournalStorage(LiveStorage):
    """A TinyDB storage: every operation is on disk when it returns.

    Args:
        path: the snapshot, which is a TinyDB file once this is closed.
        now: tells epoch seconds.

    Raises:
        StoreError: when made, if the files are held by another process, or damaged.
        OSError: the disk failed; when writing, the operation counts as not done.
    """

    def __init__(self, path: str | Path, *, now: Callable[[], float] = time.time) -> None:
        self._ledger = Ledger(Path(path), now=now)
        super().__init__(self._ledger.open().pieces(), sink=self._write)
        self._ledger.begin()

    def close(self) -> None:
        """Fold the journal into the snapshot and unlock."""
        self._ledger.close()

    def _write(self, changes: Sequence[Change]) -> None:
        self._ledger.append([encode(changes)])
        if self._ledger.folding:
            self._ledger.fold()
