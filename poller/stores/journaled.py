"""Tables kept by a journal, for whoever uses TinyDB directly and waits for the disk himself."""

import codecs
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from poller.stores.journal import Change, encode
from poller.stores.ledger import Ledger
from poller.stores.live import LiveStorage

_LAYOUT = frozenset({"ensure_ascii", "indent", "separators", "sort_keys"})
"""The options of ``json.dumps`` that tell how a file looks, and nothing else."""


class JournalStorage(LiveStorage):
    """A TinyDB storage: every operation is on disk when it returns.

    It takes what TinyDB's ``JSONStorage`` takes, as far as that has a meaning here.

    Args:
        path: the snapshot, which is a TinyDB file once this is closed.
        create_dirs: whether to make the folder that it is in.
        encoding: None or UTF-8, which it always is.
        access_mode: ``r+``, for reading and writing; there is no other.
        now: tells epoch seconds.
        layout: those options of ``json.dumps`` that tell how a file looks. They have no effect:
            a snapshot is one document a line.

    Raises:
        TypeError, ValueError: when made, for an option that would mean something else.
        StoreError: when made, if the files are held by another process, or damaged.
        OSError: there is no such folder, or the disk failed; when writing, the operation
            counts as not done.
    """

    def __init__(
        self,
        path: str | Path,
        create_dirs: bool = False,  # noqa: FBT001, FBT002  # as TinyDB has it
        encoding: str | None = None,
        access_mode: str = "r+",
        *,
        now: Callable[[], float] = time.time,
        **layout: Any,
    ) -> None:
        _demand_understood(encoding, access_mode, layout)
        if create_dirs:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).parent.stat()  # a folder that is missing is an OSError here, as TinyDB has it
        self._ledger = Ledger(Path(path), now=now)
        self._closed = False
        pieces = self._ledger.open().pieces()
        try:
            super().__init__(pieces, sink=self._write)
            self._ledger.begin()
        except BaseException:
            self._ledger.abandon()
            raise

    def close(self) -> None:
        """Fold the journal into the snapshot and unlock; a second time, do nothing.

        Raises:
            StoreError: the store is another's by now, or damaged.
            OSError: the disk failed; what was written is safe, and the next start folds it.
        """
        if not self._closed:
            self._closed = True
            self._ledger.close()

    def _write(self, changes: Sequence[Change]) -> None:
        if self._ledger.folding:  # before anything is written, so that a disk that fails here has kept nothing
            self._ledger.fold()
        self._ledger.append([encode(changes)])


def _demand_understood(encoding: str | None, access_mode: str, layout: Mapping[str, Any]) -> None:
    if encoding is not None and codecs.lookup(encoding).name != "utf-8":
        raise ValueError(f"encoding {encoding!r}: a journal and its snapshot are UTF-8")
    if access_mode not in {"r+", "rb+"}:
        raise ValueError(f"access mode {access_mode!r}: a journal is opened for reading and writing, 'r+'")
    if unknown := layout.keys() - _LAYOUT:
        raise TypeError(f"not understood here: {', '.join(sorted(unknown))}")
