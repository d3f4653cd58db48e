"""Orders with their histories as lines of JSON, apart from any store.

::

    {"poller":"export","format":1,"version":"0.1.0","count":2}
    {"order":{"remote":"grafx","task_id":"a",…},"history":[{"remote":"grafx","task_id":"a","number":1,…}]}
    {"order":{…},"history":[]}

Documents are as the store keeps them, to the byte, in the order in which it keeps them.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from poller import __version__
from poller.errors import StoreError
from poller.stores.care.inventory import Inventory

EXPORT_FORMAT = 1


class Title(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of an export.

    Attributes:
        version: of the poller that wrote it.
        count: how many orders follow.
    """

    poller: Literal["export"] = "export"
    format: int = EXPORT_FORMAT
    version: str = __version__
    count: int


def lines(stock: Inventory) -> Iterator[bytes]:
    """Write what a store holds, one line at a time."""
    yield msgspec.json.encode(Title(count=len(stock.orders))) + b"\n"
    for key in stock.orders:
        order, history = stock.lines(key)
        yield b'{"order":%s,"history":[%s]}\n' % (order, b",".join(history))


def save(stock: Inventory, target: Path, *, force: bool = False) -> None:
    """Write an export into a file for its owner's eyes only. It is there whole or not at all.

    Args:
        stock: what to write.
        target: the file.
        force: whether it may take the place of a file that is there.

    Raises:
        StoreError: there is such a file, or something there that is none.
        OSError: it cannot be written.
    """
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise StoreError(f"{target} is no ordinary file", hint="name another one, or write to - and redirect it")
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(lines(stock))
            file.flush()
            os.fsync(file.fileno())
        _give_name(Path(name), target, force=force)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def _give_name(made: Path, target: Path, *, force: bool) -> None:
    try:
        if force:
            made.replace(target)
        else:
            target.hardlink_to(made)
    except FileExistsError:
        raise StoreError(f"{target} is there already", hint="choose another name, or give --force") from None
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
