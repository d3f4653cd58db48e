"""What can still be read of a damaged snapshot, and what cannot. Changes nothing.

A document begins on a line of its own and is judged by what it is: an order, an event, or
a document of somebody else's table. A line that lost its end, or its newline, is searched
for the documents that still stand in it. What a document says cannot be checked: the
snapshot has one checksum for all of them. So a digit that was changed within a line that is
otherwise right goes unseen.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from poller.errors import StoreDamaged
from poller.order import Key
from poller.stores.care.inventory import read_event, read_order
from poller.stores.files import Files
from poller.stores.journal import DocId, demand_format
from poller.stores.loading import EVENTS, ORDERS
from poller.stores.pieces import OURS, About, Row, doc_id_of, encode_document
from poller.stores.snapshot import Snapshot
from poller.stores.views import decode

_KEY = re.compile(rb'"remote":("(?:[^"\\\n]|\\.)*"),"task_id":("(?:[^"\\\n]|\\.)*")')
_START = re.compile(rb'(?<!\\)"(-?(?:0|[1-9][0-9]*))": (?=\{)')
"""Where a document of a numbered table begins: no document has a space behind a colon of its own."""
_NUMBERED = re.compile(rb'"(0|-?[1-9][0-9]{0,17})": ')
_TABLE = re.compile(rb'("(?:[^"\\\n]|\\.)*"): \{\n')
_ABOUT = re.compile(rb'"_poller": \{"1": \{"format":(\d+)')
_READERS: Mapping[str, Callable[[bytes], object]] = {ORDERS: read_order, EVENTS: read_event}
_SAID = re.compile(rb',"generation":(\d+),"sequence":(\d+)(,"crc32":"([0-9a-f]{8}))')
_json = json.JSONDecoder(strict=False)
_OUR_BEGINNING = b'{\n"'
_STRUCTURE = frozenset({b"{\n", b"}\n", b"},\n"})
_Place = tuple[int, int, bytes]
"""A line's number, its first byte, and the line."""


class Loss(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that could not be kept.

    Attributes:
        file: its name.
        what: what is wrong there.
        line, byte: where it begins, from 1 and from 0; None if it is in no place.
        size: bytes.
        keys: the orders it seems to have been about, as far as that can be read.
    """

    file: str
    what: str
    line: int | None = None
    byte: int | None = None
    size: int | None = None
    keys: tuple[Key, ...] = ()


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a snapshot.

    Attributes:
        rows: its documents; an id of None is one that could not be read.
        about: what it says of itself; None if its checksum is wrong, so that it cannot be trusted.
        foreign: whether it is TinyDB's own.
        losses: what could not be read.
    """

    rows: list[Row]
    about: About | None = None
    foreign: bool = False
    losses: tuple[Loss, ...] = ()


def remains(path: Path, *, files: Files) -> Remains:
    """Read as much of a snapshot as can be read; nothing if there is no such file.

    Raises:
        StoreDamaged: it is of another format.
        OSError: it cannot be read.
    """
    try:
        snapshot = Snapshot(path, files=files)
        if not snapshot.foreign or snapshot.about == About():  # else TinyDB wrote anew what was ours
            return Remains(rows=list(snapshot.rows()), about=snapshot.about, foreign=snapshot.foreign)
    except FileNotFoundError:
        return Remains(rows=[], losses=(Loss(file=path.name, what="the file is missing"),))
    except (StoreDamaged, msgspec.MsgspecError):
        pass  # what can be read of it comes now
    with files.open(path) as stream:
        text = stream.read()
    for written in _ABOUT.findall(text[-512:]):
        demand_format(path, int(written))
    return _foreign(path, text) if _is_foreign(text) else _Lines(path, text).remains()


def mentioned(text: bytes) -> tuple[Key, ...]:
    """Find the keys that a damaged piece still names."""
    found = (_key(*pair) for pair in _KEY.findall(text))
    return tuple(dict.fromkeys(key for key in found if key is not None))


def _key(remote: bytes, task_id: bytes) -> Key | None:
    try:
        return Key(json.loads(remote), json.loads(task_id))
    except ValueError:
        return None


class _Lines:
    """Reads a snapshot of ours line by line."""

    def __init__(self, path: Path, text: bytes) -> None:
        self._path = path
        self._text = text
        self._table: str | None = None
        self._rows: list[Row] = []
        self._losses: list[Loss] = []

    def remains(self) -> Remains:
        if not self._text.strip(b"\0\n"):
            what = "the file is empty" if not self._text else "the file holds nothing but zeros"
            return Remains(rows=[], losses=(Loss(file=self._path.name, what=what, size=len(self._text)),))
        for place in _places(self._text):
            self._read(place)
        if not _ABOUT.search(self._text[-512:]):
            what = "the last line, which says how much there should be, is not there: the end may be missing"
            self._losses.append(Loss(file=self._path.name, what=what))
        return Remains(rows=self._rows, about=_checked(self._text), losses=tuple(self._losses))

    def _read(self, place: _Place) -> None:
        line = place[2]
        table = _TABLE.fullmatch(line)
        if table and (name := _name(table[1])) is not None:
            self._table = name
            self._rows.append(Row(name))
        elif line not in _STRUCTURE and not _ABOUT.match(line):
            self._read_document(place)

    def _read_document(self, place: _Place) -> None:
        number, start, line = place
        for offset, piece in _pieces(line):
            row = _document(piece, self._table)
            if row is not None:
                self._rows.append(row)
            else:
                self._lose(number, start + offset, piece)

    def _lose(self, line: int, start: int, piece: bytes) -> None:
        what = "the line is not what was written"
        lost = Loss(file=self._path.name, what=what, line=line, byte=start, size=len(piece), keys=mentioned(piece))
        self._losses.append(lost)


def _checked(text: bytes) -> About | None:
    """Read what a snapshot says of itself, if its checksum is right; only the rest of its last line is not, then."""
    said = _SAID.search(text, max(0, len(text) - 512))
    if said is None or crc32(text[: said.start(3)]) != int(said[4], 16):
        return None
    return About(generation=int(said[1]), sequence=int(said[2]))


def _places(text: bytes) -> Iterator[_Place]:
    offset = 0
    for number, line in enumerate(text.split(b"\n"), start=1):
        if line:
            yield number, offset, text[offset : offset + len(line) + 1]
        offset += len(line) + 1


def _pieces(line: bytes) -> Iterator[tuple[int, bytes]]:
    """Part a line where documents begin in it; one that is as it should be has one part."""
    starts = [found.start() for found in _START.finditer(line)]
    bounds = sorted({0, *starts, len(line)})
    for begin, end in pairwise(bounds):
        yield begin, line[begin:end]


def _document(piece: bytes, table: str | None) -> Row | None:
    begin = piece.find(b"{")
    end = None if begin < 0 else json_end(piece, begin)
    return None if end is None else _judged(piece[begin:end], table, _doc_id(piece[:begin], table))


def json_end(text: bytes, begin: int) -> int | None:
    """Tell where the JSON that begins at a place ends, whatever follows it; None if it is none."""
    shown = text[begin:].decode("latin-1")  # one character a byte, so that places stay what they are
    try:
        return begin + _json.raw_decode(shown)[1]
    except (ValueError, RecursionError):
        return None


def _judged(line: bytes, table: str | None, doc_id: DocId | None) -> Row | None:
    """Say in which table a document belongs: an order is an order, whatever the table's name has become."""
    for ours, read in _READERS.items():
        if _can(read, line):
            return Row(ours, doc_id, line)
    if table is not None and table not in _READERS and _can(decode, line):
        return Row(table, doc_id, line)
    return None


def _can(read: Callable[[bytes], object], line: bytes) -> bool:
    try:
        read(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _doc_id(name: bytes, table: str | None) -> DocId | None:
    """Read a document's id; in our tables it is a number or not to be read."""
    if found := _NUMBERED.fullmatch(name):
        return int(found[1])
    text = _name(name.removesuffix(b": ")) if table not in _READERS else None
    return None if text is None else doc_id_of(text)


def _name(text: bytes) -> str | None:
    try:
        name = json.loads(text)
    except ValueError:
        return None
    return name if isinstance(name, str) else None


# --- TinyDB files of others, and ours in another layout -----------------------------------


def _is_foreign(text: bytes) -> bool:
    return not text.startswith(_OUR_BEGINNING) and text.lstrip()[:1] == b"{" and b'\n"_poller": {' not in text


def _foreign(path: Path, text: bytes) -> Remains:
    """Read the first JSON value of a file; TinyDB leaves old bytes behind it when it is killed."""
    try:
        shown = text.decode()
        tables, end = json.JSONDecoder().raw_decode(shown, len(shown) - len(shown.lstrip()))
    except (ValueError, RecursionError) as error:
        return Remains(rows=[], losses=(Loss(file=path.name, what=f"it is not JSON: {error}", size=len(text)),))
    losses: list[Loss] = []
    if rest := shown[end:].strip():
        byte = len(shown[:end].encode())
        losses.append(Loss(file=path.name, what="other bytes follow the end", byte=byte, size=len(rest.encode())))
    rows = list(_foreign_rows(path, tables if isinstance(tables, dict) else {}, losses))
    return Remains(rows=rows, foreign=not isinstance(tables, dict) or OURS not in tables, losses=tuple(losses))


def _foreign_rows(path: Path, tables: dict[str, Any], losses: list[Loss]) -> Iterator[Row]:
    for table, documents in tables.items():
        if table == OURS or not isinstance(documents, dict):
            continue
        yield Row(table)
        for key, document in documents.items():
            try:
                yield Row(table, doc_id_of(key), encode_document(_object(document)))
            except (TypeError, ValueError) as error:
                what = f"document {key} of table {table!r} cannot be kept: {error}"
                losses.append(Loss(file=path.name, what=what))


def _object(document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise TypeError("it is not an object")
    return document
