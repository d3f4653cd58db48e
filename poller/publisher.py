"""The orders folder: where a file is either absent, or complete and verified under its final name.

The order of acts, none of which may be left out or swapped:

1. the partial is written in ``.partial/`` inside the folder, so that it is on the same file system,
2. verified (the downloader's business),
3. fsynced,
4. **linked** to its final name, which fails if that name is taken, as a rename would not,
5. the directory is fsynced; only now does the file exist for good.

Everything is done relative to open directories and follows no symbolic link, so that what
somebody plants in the folder leads nowhere. A process that dies leaves at most a partial,
and the lock on that died with it: the next start knows it as nobody's and removes it.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from hashlib import file_digest
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import aiofiles.os
from aiofiles.threadpool import wrap as aio

from poller import filename
from poller.content import HEAD
from poller.digest import Tally
from poller.errors import ConfigurationError
from poller.order import Order
from poller.outcome import File
from poller.shield import finish

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

PARTIALS = ".partial"
_FILE_MODE = 0o640
_FOLDER_MODE = 0o750
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VERSIONS = 1000


class HashedFile(FileIO):
    """A new file that writes whole blocks and hashes them on the way, in whatever thread does the writing.

    Attributes:
        tally: how many, and their digests.
        head: the first of them.
    """

    def __init__(self, name: str, *, folder: int) -> None:
        super().__init__(name, "xb", opener=lambda path, flags: _create(path, flags, folder))
        self.tally = Tally({"sha256"})
        self.head = b""

    def write(self, block: bytes) -> int:  # type: ignore[override]
        """Write all of *block*."""
        rest = memoryview(block)
        while rest:
            rest = rest[super().write(rest) or 0 :]
        self.tally.update(block)
        self.head += block[: HEAD - len(self.head)]
        return len(block)

    @property
    def sha256(self) -> str:
        """Hex digest of what was written."""
        return self.tally.hex("sha256")

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.tally.size


class Partial:
    """A file that is still being received; nobody but its owner sees it.

    Attributes:
        name: its name within ``.partial/``.
    """

    def __init__(self, raw: HashedFile, name: str, executor: Executor) -> None:
        self.raw = raw
        self.name = name
        self._file: AsyncFileIO = aio(raw, executor=executor)

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.raw.size

    @property
    def head(self) -> bytes:
        """The first ``content.HEAD`` bytes written."""
        return self.raw.head

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes written."""
        return self.raw.sha256

    def watch(self, algorithms: Collection[str]) -> Tally:
        """Compute further digests from the first byte on; nothing may have been written yet."""
        self.raw.tally = Tally({"sha256", *algorithms})
        return self.raw.tally

    async def write(self, block: bytes) -> None:
        """Append *block*; if cancelled, not before the thread that writes has stopped."""
        await finish(self._file.write(block))


class Publisher:
    """Keeps the orders folder.

    Args:
        folder: it is made if it is not there.
        pattern: names of files, for orders that bring none of their own; see ``filename``.
        executor: does all file work.
        now: epoch seconds.

    Raises:
        ConfigurationError: the folder cannot be used, or ``.partial`` in it is not a directory of ours.
    """

    def __init__(self, *, folder: Path, pattern: str, executor: Executor, now: Callable[[], float]) -> None:
        self._pattern = pattern
        self._executor = executor
        self._now = now
        self._path = folder
        self._folder, self._partials = _open(folder)
        self._publish = aiofiles.os.wrap(self._publish_now)
        self._create = aiofiles.os.wrap(self._create_now)
        self._discard = aiofiles.os.wrap(self._discard_now)
        self._begun: dict[str, HashedFile | None] = {}
        self._sweep()

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._partials)
        os.close(self._folder)

    @asynccontextmanager
    async def partial(self) -> AsyncIterator[Partial]:
        """Begin a file; whatever becomes of it, its partial name is gone afterwards."""
        name = f"{secrets.token_hex(16)}.part"
        self._begun[name] = None
        try:
            raw: HashedFile = await finish(self._create(name, executor=self._executor))
            yield Partial(raw, name, self._executor)
        finally:
            if name in self._begun:
                await finish(self._discard(name, executor=self._executor))

    async def publish(self, partial: Partial, order: Order, *, media_type: str, ext: str) -> tuple[File, bool]:
        """Give a verified partial its final name, exactly once.

        The same bytes under that name already are as good; other bytes there are left
        alone, and ours become its next version. The partial is gone with it, so that
        nothing is left to do, and to be cancelled in, once the file is there.

        Returns:
            The file, and whether other bytes held its name.
        """
        values = {"task_id": order.task_id, "remote": order.remote, "batch": order.batch or ""}
        wanted = filename.fill(order.filename or self._pattern, values, ext)
        name: str = await self._publish(partial, wanted, executor=self._executor)
        file = File(
            name=name,
            size=partial.size,
            sha256=partial.sha256,
            media_type=media_type,
            published_at=self._now(),
        )
        return file, name != wanted

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

    def _create_now(self, name: str) -> HashedFile:
        self._demand_there()
        raw = self._begun[name] = HashedFile(name, folder=self._partials)
        fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return raw

    def _discard_now(self, name: str) -> None:
        """Remove a partial; if that fails, the next start will."""
        raw = self._begun.pop(name)
        with suppress(OSError):
            os.unlink(name, dir_fd=self._partials)
        if raw is not None:
            with suppress(OSError):
                raw.close()

    def _publish_now(self, partial: Partial, wanted: str) -> str:
        os.fsync(partial.raw.fileno())
        self._demand_there()
        above, slash, last = wanted.rpartition("/")
        with _descended(self._folder, above) as folder:
            name = self._link(partial, folder, last)
            os.fsync(folder)
        self._discard_now(partial.name)
        return above + slash + name

    def _link(self, partial: Partial, folder: int, wanted: str) -> str:
        for number in range(1, _VERSIONS):
            name = wanted if number == 1 else filename.version(wanted, number)
            try:
                os.link(partial.name, name, src_dir_fd=self._partials, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                if not _holds(folder, name, partial):
                    continue
            return name
        raise FileExistsError(f"{_VERSIONS} versions of {wanted} are there already")

    def _sweep(self) -> None:
        """Remove partials whose owner is dead: nobody holds their lock."""
        for name in os.listdir(self._partials):  # noqa: PTH208 - by handle: the path may have changed
            if name.endswith(".part"):
                _remove_orphan(name, self._partials)


def _open(folder: Path) -> tuple[int, int]:
    hint = "check POLLER_ORDERS_DIR: poller needs a folder of its own that it may write to"
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"the orders folder {folder} cannot be used: {error.strerror}", hint=hint) from None
    try:
        return opened, _own(_inner(opened, PARTIALS))
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


@contextmanager
def _descended(folder: int, path: str) -> Iterator[int]:
    """Open the directory at *path* below *folder*, making what is missing."""
    with ExitStack() as handles:
        for part in path.split("/") if path else ():
            folder = _inner(folder, part)
            handles.callback(os.close, folder)
        yield folder


def _inner(folder: int, name: str) -> int:
    """Open a directory inside *folder*, making it durably if it is not there."""
    try:
        os.mkdir(name, mode=_FOLDER_MODE, dir_fd=folder)
        os.fsync(folder)
    except FileExistsError:
        pass
    return os.open(name, _DIRECTORY, dir_fd=folder)


def _create(path: str, flags: int, folder: int) -> int:
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode=_FILE_MODE, dir_fd=folder)
    try:
        os.fchmod(handle, _FILE_MODE)
    except OSError:
        os.close(handle)
        raise
    return handle


def _read(name: str, folder: int) -> FileIO:
    """Open what is there under *name*, without following or waiting for anything."""
    careful = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return FileIO(name, opener=lambda path, flags: os.open(path, flags | careful, dir_fd=folder))


def _holds(folder: int, name: str, partial: Partial) -> bool:
    """Tell whether *name* is a plain file with the same bytes as *partial*."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_size != partial.size:
        return False
    with _read(name, folder) as file:
        return file_digest(file, "sha256").hexdigest() == partial.sha256


def _remove_orphan(name: str, folder: int) -> None:
    with suppress(OSError), _read(name, folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
