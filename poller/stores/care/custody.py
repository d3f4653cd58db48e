"""A store that no poller runs on: its lock is held, and its snapshot is replaced."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from poller.stores import snapshot as snapshots
from poller.stores.files import Files
from poller.stores.lock import Lock
from poller.stores.pieces import About, Piece
from poller.stores.snapshot import Snapshot
from poller.stores.survey import Names


@contextmanager
def held(names: Names, *, files: Files) -> Iterator[None]:
    """Keep every poller away from a store.

    Raises:
        ConfigurationError: no store can be there.
        StoreLocked: a poller has it.
        OSError: the lock cannot be made.
    """
    lock = Lock(names, files=files)
    fresh = not names.lock.exists()
    lock.acquire()
    try:
        if fresh:
            _hand_over(names.lock, names)
        yield
    finally:
        lock.release()


def supersede(
    names: Names,
    pieces: Iterable[Piece],
    about: About,
    *,
    kept: Mapping[Path, Path],
    files: Files,
) -> None:
    """Put a new snapshot in the place of all that is there.

    What was there gets its further names first; then one rename decides; then the
    journals go, which the new snapshot's generation has made stale. So whenever this ends,
    the files are what they were or what they should be, and nothing was removed but a name.

    Args:
        names: the store's; its lock is held.
        pieces: what the new snapshot holds.
        about: its generation is later than that of any journal.
        kept: the further name that each of some files gets. One that exists gives way.
        files: the operating system.

    Raises:
        OSError: the disk failed.
    """
    new, _ = names.aside
    files.unlink(new)
    try:
        snapshots.write(new, pieces, about, files=files)
        _hand_over(new, names)
        Snapshot(new, files=files)
        _exchange(names, new, kept, files)
    except BaseException:
        with suppress(OSError):
            files.unlink(new)
        raise
    for journal in (names.full, names.journal):
        files.unlink(journal)
    files.sync_folder(names.folder)


def _exchange(names: Names, new: Path, kept: Mapping[Path, Path], files: Files) -> None:
    for source, target in kept.items():
        files.unlink(target)
        files.link(source, target)
    files.sync_folder(names.folder)
    files.rename(new, names.snapshot)
    files.sync_folder(names.folder)


def _hand_over(path: Path, names: Names) -> None:
    """Give what the administrator made to whoever runs the poller."""
    if os.geteuid() == 0:
        owner = (names.snapshot if names.snapshot.exists() else names.folder).stat()
        os.chown(path, owner.st_uid, owner.st_gid)
