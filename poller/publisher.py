"""The orders folder: where a file is either absent, or complete and verified under its final name.

The order of acts, none of which may be left out or swapped:

1. the partial is written in ``.partial/`` inside the folder, so that it is on the same file system,
2. verified (the downloader's business),
3. fsynced,
4. **linked** to its final name, which fails if that name is taken, as a rename would not,
5. the directory is fsynced; only now does the file exist for good.

Everything is done relative to open directories and follows no symbolic link, so that what
somebody plants in the folder leads nowhere. A process that dies leaves at most a partial:
the next start removes it, or goes on with it (see ``partials``).
"""

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from hashlib import file_digest
from pathlib import Path

import aiofiles.os

from poller import filename, folders
from poller.errors import ConfigurationError
from poller.order import Order
from poller.outcome import File
from poller.partial import Partial, Slot
from poller.partials import Partials

PARTIALS = ".partial"
_VERSIONS = 1000


class Publisher:
    """Keeps the orders folder.

    Args:
        folder: it is made if it is not there.
        pattern: names of files, for orders that bring none of their own; see ``filename``.
        executor: does all file work.
        now: epoch seconds.
        keep: bytes of the disk that stay free.
        boot: names the machine's current boot: what was written in another may not be there.

    Attributes:
        partials: what is still being received.

    Raises:
        ConfigurationError: the folder cannot be used, or ``.partial`` in it is not a directory of ours.
    """

    def __init__(
        self,
        *,
        folder: Path,
        pattern: str,
        executor: Executor,
        now: Callable[[], float],
        keep: int = 0,
        boot: str = "",
    ) -> None:
        self._pattern = pattern
        self._executor = executor
        self._now = now
        self._path = folder
        self._folder, self._inner = _open(folder)
        self.partials = Partials(folder=self._inner, executor=executor, keep=keep, boot=boot, demand=self._demand_there)
        self._publish = aiofiles.os.wrap(self._publish_now)

    def close(self) -> None:
        """Let go of the folder."""
        self.partials.close()
        os.close(self._inner)
        os.close(self._folder)

    def partial(self, slot: Slot) -> AbstractAsyncContextManager[Partial]:
        """Begin a file, or go on with one; see ``Partials.partial``."""
        return self.partials.partial(slot)

    async def publish(
        self, partial: Partial, order: Order, *, media_type: str, ext: str, number: int | None = None
    ) -> tuple[File, bool]:
        """Give a verified partial its final name, exactly once.

        The same bytes under that name already are as good; other bytes there are left
        alone, and ours become its next version. The partial is left with it, so that
        nothing is left to do, and to be cancelled in, once the file is there.

        Args:
            partial: whole and verified.
            order: whose file it is.
            media_type: as the remote declared it.
            ext: the extension that it gets.
            number: which of several files it is, from 1 on; None if it is the only one.

        Returns:
            The file, and whether other bytes held its name.
        """
        wanted = self._wanted(order, ext, number)
        name: str = await self._publish(partial, wanted, executor=self._executor)
        file = File(
            name=name,
            size=partial.size,
            sha256=partial.sha256,
            media_type=media_type,
            published_at=self._now(),
        )
        return file, name != wanted

    def _wanted(self, order: Order, ext: str, number: int | None) -> str:
        pattern = order.filename or self._pattern
        values = {"task_id": order.task_id, "remote": order.remote, "batch": order.batch or ""}
        name = filename.fill(pattern, values | {"number": str(number or 1)}, ext)
        return name if number is None or "{number}" in pattern else filename.numbered(name, number)

    # --- in a thread

    def _demand_there(self) -> None:
        """Make sure that the folder we hold is still the one that the shop looks into."""
        try:
            there = self._path.stat()
        except OSError:
            there = None
        held = os.fstat(self._folder)
        if there is None or (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            raise OSError(errno.ESTALE, "the orders folder was moved or replaced; restart poller", str(self._path))

    def _publish_now(self, partial: Partial, wanted: str) -> str:
        os.fsync(partial.append_now().fileno())
        self._demand_there()
        above, slash, last = wanted.rpartition("/")
        with folders.descended(self._folder, above) as folder:
            name = self._link(partial, folder, last)
            os.fsync(folder)
        self.partials.leave_now(partial.slot)
        return above + slash + name

    def _link(self, partial: Partial, folder: int, wanted: str) -> str:
        for number in range(1, _VERSIONS):
            name = wanted if number == 1 else filename.version(wanted, number)
            try:
                os.link(partial.name, name, src_dir_fd=self._inner, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                if not _holds(folder, name, partial):
                    continue
            return name
        raise OSError(errno.EMLINK, f"{_VERSIONS} versions are there already", wanted)


def _open(folder: Path) -> tuple[int, int]:
    hint = "check POLLER_ORDERS_DIR: poller needs a folder of its own that it may write to"
    try:
        folder.mkdir(mode=folders.FOLDER_MODE, parents=True, exist_ok=True)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"the orders folder {folder} cannot be used: {error.strerror}", hint=hint) from None
    try:
        return opened, _own(folders.inner(opened, PARTIALS))
    except OSError as error:
        os.close(opened)
        raise ConfigurationError(
            f"{folder / PARTIALS} is no directory that poller may use: {error.strerror}",
            hint="if something else stands there, remove it; unfinished downloads begin again by themselves",
        ) from None


def _own(handle: int) -> int:
    if os.fstat(handle).st_uid == os.geteuid():
        return handle
    os.close(handle)
    raise OSError(errno.EPERM, "it belongs to somebody else")


def _holds(folder: int, name: str, partial: Partial) -> bool:
    """Tell whether *name* is a plain file with the same bytes as *partial*."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_size != partial.size:
        return False
    with folders.read(name, folder) as file:
        return file_digest(file, "sha256").hexdigest() == partial.sha256
