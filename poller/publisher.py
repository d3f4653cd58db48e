"""The orders folder: where a file is either absent, or complete and verified under its final name.

The order of acts, none of which may be left out or swapped:

1. the partial is written in ``.partial/`` inside the folder, so that it is on the same file system (a small
   one has no name there, where the file system allows that),
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
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, suppress
from hashlib import file_digest
from pathlib import Path

import aiofiles.os

from poller import filename, folders
from poller.errors import ConfigurationError
from poller.order import Order
from poller.outcome import File
from poller.partial import HashedFile, Partial, Slot
from poller.partials import Partials
from poller.together import Together

PARTIALS = ".partial"
_VERSIONS = 1000
_MANY = 64
"""Small files that are published at once."""


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
        self._large = aiofiles.os.wrap(self._publish_now)
        self._small = Together(self._publish_now, executor=executor, most=_MANY, turns=2)

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
        name = await self._published(_Whole(partial, wanted))
        file = File(
            name=name,
            size=partial.size,
            sha256=partial.sha256,
            media_type=media_type,
            published_at=self._now(),
        )
        return file, name != wanted

    async def _published(self, whole: "_Whole") -> str:
        """Publish a small file with all others that are whole by now; a large one by itself, for it takes longer."""
        if whole.partial.raw is None:
            return await self._small.do(whole)
        result: str | Exception
        (result,) = await self._large([whole], executor=self._executor)
        if isinstance(result, Exception):
            raise result
        return result

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

    def _publish_now(self, files: "Sequence[_Whole]") -> "Sequence[str | Exception]":
        """Publish files; what stands in one's way is no other's trouble."""
        for step in (_Whole.write, _Whole.hurry, _Whole.sync):
            for file in files:
                file.attempt(step)
        by_folder = defaultdict[str, list[_Whole]](list)
        for file in files:
            if file.error is None:
                by_folder[file.above].append(file)
        for above, some in by_folder.items():
            try:
                self._demand_there()
                self._name(above, some)
            except OSError as error:
                for file in some:
                    file.error = error
        for file in files:
            if file.error is None:
                self.partials.leave_now(file.partial.slot)
        return [file.trouble or file.name for file in files]

    def _name(self, above: str, files: "Sequence[_Whole]") -> None:
        with folders.descended(self._folder, above) as folder:
            for file in files:
                file.attempt(lambda file: file.be_named(self._named(file.partial, file.raw, folder, file.last)))
            os.fsync(folder)

    def _named(self, partial: Partial, raw: HashedFile, folder: int, wanted: str) -> str:
        """Give a file the name that is *wanted*, or that of its next version; tell which."""
        for number in range(1, _VERSIONS):
            name = wanted if number == 1 else filename.version(wanted, number)
            try:
                self._link(partial, raw, folder, name)
            except FileExistsError:
                if not _holds(folder, name, partial):
                    continue
            return name
        raise OSError(errno.EMLINK, f"{_VERSIONS} versions are there already", wanted)

    def _link(self, partial: Partial, raw: HashedFile, folder: int, name: str) -> None:
        if raw.nameless:
            folders.link(raw.fileno(), name, folder)
        else:
            os.link(partial.name, name, src_dir_fd=self._inner, dst_dir_fd=folder, follow_symlinks=False)


class _Whole:
    """A file that is whole, on its way to its name.

    Attributes:
        raw: the file.
        above, last: the folder within ours, and the name in it, that it should get.
        whole: whether all of it is on the disk, and nothing missing but its name.
        name: its path, once it has one.
        error: what stood in its way.
    """

    raw: HashedFile
    whole = False

    def __init__(self, partial: Partial, wanted: str) -> None:
        self.partial = partial
        self.above, _, self.last = wanted.rpartition("/")
        self.name = wanted
        self.error: OSError | None = None

    def attempt(self, step: "Callable[[_Whole], None]") -> None:
        """Go a step further, unless something stood in the way of an earlier one."""
        try:
            if self.error is None:
                step(self)
        except OSError as error:
            self.error = error

    @property
    def trouble(self) -> OSError | None:
        """What stood in its way: in the folder of one batch, say, nobody else's."""
        if self.above and self.whole and isinstance(self.error, PermissionError):
            return folders.Closed(self.error.errno, self.error.strerror, self.above)
        return self.error

    def write(self) -> None:
        """Have all of it in the file."""
        self.raw = self.partial.whole_now()

    def hurry(self) -> None:
        """Have the disk begin with it: of many that have begun, one sync waits for nearly all; see posix_fadvise(2)."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self.raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Have its bytes on the disk."""
        os.fsync(self.raw.fileno())
        self.whole = True

    def be_named(self, last: str) -> None:
        """Note the name that it has got."""
        self.name = f"{self.above}/{last}" if self.above else last


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
