"""The snapshot: an ordinary TinyDB file, one document a line.

::

    {
    "orders": {
    "1": {"remote":"grafx",…},
    "2": {…}
    },
    "events": {
    },
    "_poller": {"1": {"format":1,"generation":4,"sequence":211,"crc32":"1c291ca3","open":0}}}

The last line is ours: the generation, the number of the last frame that is in it, the
CRC-32 of every byte before ``,"crc32"``, and whether a journal continues it. A file without
a ``_poller`` table is TinyDB's own (or a shop's export) and is taken as generation 0; one
with it must fit its checksum.

A snapshot is never changed, but for the digit of ``open``, which is overwritten in place. A
new one is written beside it, synced, and renamed over it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast
from zlib import crc32

import msgspec
from msgspec.structs import replace

from poller.errors import StoreDamaged
from poller.stores.files import Files, NewFile
from poller.stores.journal import FORMAT, HINT, DocId, demand_format

OURS = "_poller"
"""The table that holds what a snapshot says of itself."""
_FIRST_LINE = b"{\n"
_LAST_LINE = re.compile(rb'"_poller": \{"1": \{"format":(\d+)(.*)\}\}\}\n', re.DOTALL)
_ABOUT = re.compile(rb',"generation":(\d+),"sequence":(\d+),"crc32":"([0-9a-f]{8})","open":([01])')
_AFTER_FLAG = len("}}}\n")
_MARK = b',"crc32":"'
_INTEGER = re.compile("0|-?[1-9][0-9]*", re.ASCII)
_MINUS_ZERO = b'"-0":'
"""The one id that a reader of numbers takes for another."""
_BLOCK = 2**18
"""Bytes that are read, checked and decoded at a time: some milliseconds for which no other thread runs."""

_numbered = msgspec.json.Decoder(dict[int, msgspec.Raw]).decode
_named = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_LOST = "`poller store repair` takes back the snapshot before, if it is there; `poller store import` puts in a backup"

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Row(NamedTuple):
    """A line of a snapshot: a document, or (without an id) the beginning of a table."""

    table: str
    doc_id: DocId | None = None
    line: bytes = b""


class Block(NamedTuple):
    """Many lines of a snapshot at once: whole documents of one table."""

    table: str
    text: bytes

    @property
    def json(self) -> bytes:
        """The documents as one JSON object."""
        return b"{%s}" % self.text.rstrip(b",\n")


Piece: TypeAlias = Row | Block


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself.

    Attributes:
        generation: how often journals were folded into it.
        sequence: the number of the last frame that is in it.
        open: whether a journal continues it, without which it is not all that was kept.
    """

    format: int = FORMAT
    generation: int = 0
    sequence: int = 0
    crc32: str = ""
    open: bool = False


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

    def pieces(self) -> Iterator[Piece]:
        """Give what is in it, in order: each table's beginning, then its documents."""
        return self._own_pieces() if self._foreign is None else _foreign_rows(self.path, self._foreign)

    def rows(self) -> Iterator[Row]:
        """Give what is in it, in order, line by line."""
        for piece in self.pieces():
            yield from (piece,) if isinstance(piece, Row) else rows_of(piece)

    def mark(self, *, is_open: bool) -> None:
        """Say, durably, whether a journal continues it."""
        self._files.overwrite(self.path, self.size - _AFTER_FLAG - 1, b"%d" % is_open)
        self.about = replace(self.about, open=is_open)

    def _own_pieces(self) -> Iterator[Piece]:
        table: str | None = None
        for lines in self._lines():
            rest = lines
            while rest:
                if table is None:
                    line, _, rest = rest.partition(b"\n")
                    table = _begun_by(line)
                    if table is not None:
                        yield Row(table)
                elif rest.startswith(b"}"):
                    table, rest = None, rest.partition(b"\n")[2]
                else:
                    end = rest.find(b"\n}") + 1 or len(rest)
                    yield Block(table, rest[:end])
                    rest = rest[end:]

    def _lines(self) -> Iterator[bytes]:
        """Give all but the first line, many at once."""
        with self._files.open(self.path) as stream:
            stream.readline()
            while lines := stream.read(_BLOCK) + stream.readline():
                yield lines


def documents(piece: Piece) -> dict[DocId, msgspec.Raw]:
    """Read a piece: each document's JSON under its id.

    Raises:
        msgspec.MsgspecError: it is not what a snapshot holds.
    """
    if isinstance(piece, Row):
        return {} if piece.doc_id is None else {piece.doc_id: msgspec.Raw(piece.line)}
    text = piece.json
    with suppress(msgspec.ValidationError):  # unless its ids are not all numbers
        if _MINUS_ZERO not in text:
            return cast("dict[DocId, msgspec.Raw]", _numbered(text))
    return {doc_id_of(key): line for key, line in _named(text).items()}


def rows_of(block: Block) -> Iterator[Row]:
    """Give the documents of a block one by one."""
    return (Row(block.table, doc_id, bytes(line)) for doc_id, line in documents(block).items())


def write(path: Path, pieces: Iterable[Piece], about: About, *, files: Files) -> None:
    """Write a snapshot into a new file and return once it is on disk.

    Args:
        path: a name that is free.
        pieces: what is in it: each table begins with a row without an id.
        about: what it says of itself; the checksum is filled in.
        files: the operating system.
    """
    file = NewFile(path, files=files)
    try:
        crc = 0
        for block in _blocks(_text(pieces, about)):
            crc = crc32(block, crc)
            file.write(block)
        file.write(b'%s%08x","open":%d}}}\n' % (_MARK, crc, about.open))
        file.sync()
    finally:
        file.close()


def _text(pieces: Iterable[Piece], about: About) -> Iterator[bytes]:
    yield _FIRST_LINE
    after_table, after_document = b"", b""
    for piece in pieces:
        if isinstance(piece, Row) and piece.doc_id is None:
            yield b"%s%s: {" % (after_table, json.dumps(piece.table).encode())
            after_table, after_document = b"\n},\n", b"\n"
        else:
            yield after_document + _written(piece)
            after_document = b",\n"
    ours = {"format": about.format, "generation": about.generation, "sequence": about.sequence}
    yield b'%s"_poller": {"1": %s' % (after_table, msgspec.json.encode(ours)[:-1])


def _written(piece: Piece) -> bytes:
    if isinstance(piece, Block):
        return piece.text.rstrip(b",\n")
    return b"%s: %s" % (_name(piece.doc_id), piece.line)


def _name(doc_id: DocId | None) -> bytes:
    """Write an id so that the first colon and space of its line are those after it."""
    return b'"%d"' % doc_id if isinstance(doc_id, int) else json.dumps(doc_id).replace(": ", ":\\u0020").encode()


def _begun_by(line: bytes) -> str | None:
    """Give the table that a line begins; None for the last line of all."""
    return json.loads(line[:-3]) if line.endswith(b": {") else None


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
    generation, sequence, crc, is_open = said.groups()
    return About(generation=int(generation), sequence=int(sequence), crc32=crc.decode(), open=is_open == b"1")


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
        what = f"is not JSON: {error}" if text.strip(b"\0") else "is empty" if not text else "holds nothing but zeros"
        raise StoreDamaged(f"{path} {what}", hint=_LOST) from error
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
