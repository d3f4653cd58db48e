"""The snapshot: an ordinary TinyDB file, one document a line.

::

    {
    "orders": {
    "1": {"remote":"grafx",…},
    "2": {…}
    },
    "events": {
    },
    "_poller": {"1": {"format":1,"generation":4,"sequence":211,"crc32":"1c291ca3"}}}

The last line is ours: the generation, the number of the last frame that is in it, and the
CRC-32 of every byte before ``,"crc32"``. A file without a ``_poller`` table is TinyDB's own
(or a shop's export) and is taken as generation 0; one with it must fit its checksum.

A snapshot is never changed. A new one is written beside it, synced, and renamed over it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

import msgspec

from poller.errors import StoreDamaged
from poller.stores.files import Files, NewFile
from poller.stores.journal import FORMAT, HINT, DocId, demand_format

OURS = "_poller"
"""The table that holds what a snapshot says of itself."""
_FIRST_LINE = b"{\n"
_LAST_LINE = re.compile(rb'"_poller": \{"1": \{"format":(\d+)(.*)\}\}\}\n', re.DOTALL)
_ABOUT = re.compile(rb',"generation":(\d+),"sequence":(\d+),"crc32":"([0-9a-f]{8})"')
_MARK = b',"crc32":"'
_INTEGER = re.compile("0|-?[1-9][0-9]*", re.ASCII)
_ZERO = ord("0")
_BLOCK = 2**20

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Row(NamedTuple):
    """A line of a snapshot: a document, or (without an id) the beginning of a table."""

    table: str
    doc_id: DocId | None = None
    line: bytes = b""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself."""

    format: int = FORMAT
    generation: int = 0
    sequence: int = 0
    crc32: str = ""


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Write a document as one line of JSON.

    Raises:
        TypeError, ValueError: it holds something that JSON does not have.
    """
    return _encoder.encode(document).encode()


def doc_id_of(key: str) -> DocId:
    """Read a document's id as TinyDB files write it."""
    return int(key) if _INTEGER.fullmatch(key) else key


class Snapshot:
    """A snapshot on disk, found whole.

    Attributes:
        about: what it says of itself; generation 0 for a TinyDB file of somebody else's.
        size: bytes.

    Raises:
        StoreDamaged: when made, if the file is not whole or not a snapshot.
    """

    def __init__(self, path: Path, *, files: Files) -> None:
        self.path = path
        self._files = files
        with files.open(path) as stream:
            self.size, last = _last_line(stream)
            ours = _LAST_LINE.fullmatch(last)
            self._foreign = None if ours else _read_foreign(path, stream)
            self.about = _read_about(path, ours[1], ours[2]) if ours else About()
            if ours:
                _demand_checksum(path, stream, self.size - len(last) + last.rindex(_MARK), self.about.crc32)

    @property
    def foreign(self) -> bool:
        """Whether it is a TinyDB file that we did not write, whose orders nobody has vetted."""
        return self._foreign is not None

    def rows(self) -> Iterator[Row]:
        """Give what is in it, in order."""
        return self._own_rows() if self._foreign is None else _foreign_rows(self.path, self._foreign)

    def _own_rows(self) -> Iterator[Row]:
        table: str | None = None
        with self._files.open(self.path) as stream:
            stream.readline()
            for line in stream:
                if line.startswith(b"}"):
                    table = None
                elif table is not None:
                    name, _, document = line.partition(b": ")
                    yield Row(table, _read_name(name), document.rstrip(b",\n"))
                elif line.endswith(b": {\n"):
                    table = json.loads(line[:-4])
                    yield Row(table)


def write(path: Path, rows: Iterable[Row], about: About, *, files: Files) -> None:
    """Write a snapshot into a new file and return once it is on disk.

    Args:
        path: a name that is free.
        rows: what is in it: each table begins with a row without an id.
        about: what it says of itself; the checksum is filled in.
        files: the operating system.
    """
    file = NewFile(path, files=files)
    try:
        crc = 0
        for block in _blocks(_text(rows, about)):
            crc = crc32(block, crc)
            file.write(block)
        file.write(b'%s%08x"}}}\n' % (_MARK, crc))
        file.sync()
    finally:
        file.close()


def _text(rows: Iterable[Row], about: About) -> Iterator[bytes]:
    yield _FIRST_LINE
    after_table, after_document = b"", b""
    for row in rows:
        if row.doc_id is None:
            yield b"%s%s: {" % (after_table, json.dumps(row.table).encode())
            after_table, after_document = b"\n},\n", b"\n"
        else:
            yield b"%s%s: %s" % (after_document, _name(row.doc_id), row.line)
            after_document = b",\n"
    ours = {"format": about.format, "generation": about.generation, "sequence": about.sequence}
    yield b'%s"_poller": {"1": %s' % (after_table, msgspec.json.encode(ours)[:-1])


def _name(doc_id: DocId) -> bytes:
    """Write an id so that the first colon and space of its line are those after it."""
    return b'"%d"' % doc_id if isinstance(doc_id, int) else json.dumps(doc_id).replace(": ", ":\\u0020").encode()


def _read_name(name: bytes) -> DocId:
    digits = name[1:-1]
    return int(digits) if digits.isdigit() and digits[0] != _ZERO else doc_id_of(json.loads(name))


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _last_line(stream: BinaryIO) -> tuple[int, bytes]:
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 512))
    tail = stream.read()
    return size, tail[tail.rfind(b"\n", 0, -1) + 1 :]


def _read_about(path: Path, format_: bytes, rest: bytes) -> About:
    demand_format(path, int(format_))
    said = _ABOUT.fullmatch(rest)
    if said is None:
        raise StoreDamaged(f"{path}: its last line is not understood", hint=HINT)
    return About(generation=int(said[1]), sequence=int(said[2]), crc32=said[3].decode())


def _demand_checksum(path: Path, stream: BinaryIO, size: int, wanted: str) -> None:
    crc = 0
    stream.seek(0)
    while block := stream.read(min(_BLOCK, size)):
        crc = crc32(block, crc)
        size -= len(block)
    if f"{crc:08x}" != wanted:
        raise StoreDamaged(
            f"{path}: its checksum is {crc:08x} where its last line says {wanted}; it is damaged, or was edited",
            hint=HINT,
        )


# --- TinyDB files of others ---------------------------------------------------------------


def _read_foreign(path: Path, stream: BinaryIO) -> dict[str, dict[str, Any]]:
    stream.seek(0)
    text = stream.read()
    try:
        tables = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path} is not JSON: {error}" if text else f"{path} is empty", hint=HINT) from error
    if text.startswith(_FIRST_LINE + b'"') or (isinstance(tables, dict) and OURS in tables):
        raise StoreDamaged(f"{path} was written by poller and changed since: its last line is not ours", hint=HINT)
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise StoreDamaged(f"{path} is not a TinyDB file: it is no object of tables", hint=HINT)
    return tables


def _foreign_rows(path: Path, tables: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for table, documents in tables.items():
        yield Row(table)
        for key, document in documents.items():
            yield Row(table, doc_id_of(key), _line(path, table, key, document))


def _line(path: Path, table: str, key: str, document: object) -> bytes:
    try:
        if isinstance(document, dict):
            return encode_document(document)
    except ValueError as error:
        raise StoreDamaged(f"{path}: document {key} of table {table!r} cannot be kept: {error}", hint=HINT) from error
    raise StoreDamaged(f"{path}: document {key} of table {table!r} is not an object", hint=HINT)
