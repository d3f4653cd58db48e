"""Orders that are to be imported, read from an export or from a TinyDB file and found fit."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from poller.errors import StoreDamaged, StoreError
from poller.order import Key
from poller.stores.care.export import EXPORT_FORMAT
from poller.stores.care.inventory import EventLine, read_event, read_order, take_stock
from poller.stores.survey import Names
from poller.stores.views import decode

_MOST = 20
"""Problems that are worth listing: more of them have one cause."""


class Parcel(NamedTuple):
    """An order's line and those of its events."""

    order: bytes
    history: Sequence[bytes]


class Unfit(StoreError):  # noqa: N818 - named like the other errors
    """An import that cannot be used; nothing of it was taken.

    Attributes:
        problems: pairs of a place and what is wrong there.
    """

    def __init__(self, message: str, problems: Sequence[tuple[str, str]], *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        more = [("", f"and {len(problems) - _MOST} more")] * (len(problems) > _MOST)
        self.problems = (*problems[:_MOST], *more)


class _Title(msgspec.Struct):
    format: int
    count: int


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    order: msgspec.Raw
    history: tuple[msgspec.Raw, ...] = ()


_line = msgspec.json.Decoder(_Line).decode


def unpack(stream: BinaryIO, *, name: str) -> dict[Key, Parcel]:
    """Read an import from its beginning: an export, or a TinyDB file with our tables.

    Args:
        stream: what to read.
        name: what complaints are to call it.

    Raises:
        Unfit: lines of an export cannot be used.
        StoreError: it is neither, or of a newer format, or damaged.
    """
    first = stream.readline()
    title = _title(first)
    if title is None:
        return _tinydb(chain((first,), stream), name)
    if title.format != EXPORT_FORMAT:
        hint = "it was written by another version of poller: import it with that one"
        raise StoreError(f"{name} is an export of format {title.format}; this version knows {EXPORT_FORMAT}", hint=hint)
    return _export(stream, title.count, name)


def take_over(path: Path) -> dict[Key, Parcel]:
    """Read an import from a file; a snapshot with the journals beside it is read as a store.

    Raises:
        StoreError: like ``unpack``.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        if not path.is_file():
            return unpack(stream, name=str(path))
        if _title(stream.readline()) is not None:
            stream.seek(0)
            return unpack(stream, name=str(path))
    try:
        return _of_store(path)
    except StoreDamaged as error:
        if Names(path.resolve()).journal.exists():
            raise
        hint = "give a file that `poller store export` wrote, or a TinyDB file with a table of orders"
        raise StoreDamaged(str(error), hint=hint) from error


def _title(line: bytes) -> _Title | None:
    try:
        said = msgspec.json.decode(line)
        return msgspec.convert(said, _Title) if isinstance(said, dict) and said.get("poller") == "export" else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


# --- An export ----------------------------------------------------------------------------


def _export(stream: Iterable[bytes], count: int, name: str) -> dict[Key, Parcel]:
    cargo: dict[Key, Parcel] = {}
    problems = []
    for number, line in enumerate(stream, start=2):
        try:
            key, parcel = _parcel(line)
            _demand_new(key, cargo)
            cargo[key] = parcel
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            problems.append((f"line {number}", str(error)))
    if problems:
        raise Unfit(f"{name} cannot be imported: {len(problems)} of its lines cannot be used", problems)
    if len(cargo) != count:
        raise StoreError(
            f"{name} holds {len(cargo)} orders where its first line says {count}",
            hint="it was cut, or edited: then say in its first line how many there are",
        )
    return cargo


def _parcel(line: bytes) -> tuple[Key, Parcel]:
    read = _line(line)
    order = read_order(bytes(read.order))
    _demand_history(order.key, [read_event(bytes(event)) for event in read.history])
    return order.key, Parcel(_compact(read.order), [_compact(event) for event in read.history])


def _demand_new(key: Key, cargo: Mapping[Key, Parcel]) -> None:
    if key in cargo:
        raise ValueError(f"order {key.task_id!r} of {key.remote} was there before")


def _demand_history(key: Key, events: Sequence[EventLine]) -> None:
    for event in events:
        if event.key != key:
            raise ValueError(f"its history has an event of order {event.task_id!r} of {event.remote}")
    for before, after in pairwise(events):
        if after.number <= before.number:
            raise ValueError(f"its history has event {after.number} behind event {before.number}")


def _compact(document: msgspec.Raw) -> bytes:
    """Write a document as a store does: JSON has other ways, which a search would not find."""
    return msgspec.json.encode(decode(document))


# --- A TinyDB file ------------------------------------------------------------------------


def _tinydb(lines: Iterator[bytes], name: str) -> dict[Key, Parcel]:
    """Read what comes through a pipe as the file that it was."""
    with tempfile.TemporaryDirectory(prefix="poller-import-") as folder:
        path = Path(folder, "import.json")
        with path.open("wb") as file:
            file.writelines(lines)
        try:
            return _of_store(path)
        except StoreError as error:
            raise type(error)(str(error).replace(str(path), name), hint=error.hint) from None


def _of_store(path: Path) -> dict[Key, Parcel]:
    stock = take_stock(path)
    return {key: Parcel(*stock.lines(key)) for key in stock.orders}
