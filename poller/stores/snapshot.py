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
a ``_poller`` table is TinyDB's own (or a shop's export) and is taken as generation 0. One
with it must fit its checksum, or be written anew by TinyDB, in its own layout, while nobody
had the store open: whoever may read a snapshot with TinyDB may change it as well.

A snapshot is never changed, but for the digit of ``open``, which is overwritten in place. A
new one is written beside it, synced, and renamed over it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgspec
from msgspec.structs import replace

from poller.errors import StoreDamaged
from poller.stores import foreign
from poller.stores.files import Files, NewFile
from poller.stores.journal import HINT, DocId, demand_format
from poller.stores.pieces import About, Block, Piece, Row, rows_of

_FIRST_LINE = b"{\n"
_LAST_LINE = re.compile(rb'"_poller": \{"1": \{"format":(\d+)(.*)\}\}\}\n', re.DOTALL)
_ABOUT = re.compile(rb',"generation":(\d+),"sequence":(\d+),"crc32":"([0-9a-f]{8})","open":([01])')
_END = re.compile(rb"\n}")
"""Where the documents of a table end: no other line begins so."""
_COMMA = ord(",")
_AFTER_FLAG = len("}}}\n")
_MARK = b',"crc32":"'
_BLOCK = 2**18
"""Bytes that are read, checked and decoded at a time: some milliseconds for which no other thread runs."""


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
            if ours:
                self._foreign, self.about = None, _read_about(path, ours[1], ours[2])
                _demand_checksum(path, stream, self.size - len(last) + last.rindex(_MARK), self.about.crc32)
            else:
                self._foreign, self.about = foreign.read(path, stream)

    @property
    def foreign(self) -> bool:
        """Whether it is a TinyDB file that we did not write, whose orders nobody has vetted."""
        return self._foreign is not None

    def pieces(self) -> Iterator[Piece]:
        """Give what is in it, in order: each table's beginning, then its documents."""
        return self._own_pieces() if self._foreign is None else foreign.rows(self.path, self._foreign)

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
                    found = _END.search(rest)
                    end = found.start() + 1 if found else len(rest)
                    yield Block(table, _object(rest, end))
                    rest = rest[end:]

    def _lines(self) -> Iterator[bytes]:
        """Give all but the first line, many at once."""
        with self._files.open(self.path) as stream:
            stream.readline()
            while lines := stream.read(_BLOCK) + stream.readline():
                yield lines


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
        return piece.json[1:-1]
    return b"%s: %s" % (_name(piece.doc_id), piece.line)


def _name(doc_id: DocId | None) -> bytes:
    """Write an id so that the first colon and space of its line are those after it."""
    return b'"%d"' % doc_id if isinstance(doc_id, int) else json.dumps(doc_id).replace(": ", ":\\u0020").encode()


def _object(lines: bytes, end: int) -> bytes:
    """Make one JSON object of documents that end with a newline, and maybe a comma before it."""
    last = end - 2 if lines[end - 2] == _COMMA else end - 1
    return b"".join((b"{", memoryview(lines)[:last], b"}"))


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
