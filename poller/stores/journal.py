"""The journal: what has changed since the snapshot, and how it survives.

The files of a store
====================

``orders.json``               the snapshot: an ordinary TinyDB file (see ``snapshot``)
``orders.json.journal``       what came since
``orders.json.journal.old``   a full journal, for as long as it is being folded into the snapshot
``orders.json.previous``      the snapshot before this one
``orders.json.lock``          locked while a process has the store open (see ``lock``)

A file whose name ends in ``.new`` or ``.folded`` is being made, or was; what is in it counts for
nothing.

The format
==========

A journal is lines of UTF-8 text. Each is the CRC-32 of its JSON as eight hexadecimal digits,
a space, the JSON, and a newline; JSON never holds a raw newline. What follows the last one
are zeros: room for more, because a write that makes no file longer is sooner on disk. The
first line is the header, every other one is a *frame*::

    1c291ca3 {"format":1,"generation":4,"after":211,"boot":"…","pid":7,"host":"shop","started_at":1.7e9}
    5f1d7a52 [212,[["put","orders",12,{"remote":"grafx",…}],["put","events",40,{…}]]]
    9be9c2f4 [213,[["delete","orders",3]]]

A frame is its number and its changes: ``put`` a document under a table and a TinyDB id,
``delete`` one, ``create`` a table, ``drop`` one with all that is in it. Numbers grow by one
and go on from one journal to the next; ``after`` is the last one before this journal.

The rules
=========

1. **A frame is one commit**: all of it happened, or nothing. It is written in one piece and
   synced before the next is written, so only the last can be incomplete.
2. **An acknowledged change is in a synced frame.** Changes that arrive while one is being
   written and synced gather for the next (``commits``).
3. **A torn tail is cut.** A last line that lacks only its newline counts. One that lacks more,
   or has disk blocks of zeros in it (512 bytes, or what the frame has of its first one), was
   never synced, so nobody was told that it was kept.
4. **Anything else is damage**, and nobody guesses: an invalid line that is complete or is
   followed by another, a number that is missing or repeated, an unknown format. The store
   refuses to open and says where.
5. **Generations tell which journals count.** Folding generation G + 1 into a snapshot of
   generation G makes one of generation G + 1, which replaces the old one in one rename;
   the journal is removed after that. So at any moment, for a snapshot of generation G:
   journals up to G are in it already (if they end with a frame beyond ``sequence``, they are
   another store's), G + 1 and then G + 2 are to be applied, and a gap is damage. A journal
   without a snapshot is damage too, never an empty store. A full journal becomes ``.old`` when
   the next one is made as ``.journal.new``, which then gets its name; so an ``.old`` that is to
   be applied stands alone only between these two renames, else the next one is missing.
6. **Opening is folding.** To open a store is to fold the journals that are found into the
   snapshot, to read that, and to begin a journal of the next generation. So no journal is
   ever appended to by a second process. Closing is folding as well.
7. **A snapshot says whether a journal continues it**: its ``open`` is 1 from when the journal
   has its name until after it was folded. So a snapshot that says 1 and has no journal is
   damage: the journal was removed, or the snapshot is a copy made while the store was in use.
"""

import os
import re
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias
from zlib import crc32

import msgspec

from poller.errors import StoreDamaged
from poller.machine import boot_id
from poller.stores.files import Files, NewFile

FORMAT = 1
HINT = "`poller store verify` shows what the files hold, `poller store repair` keeps what it can; or put back a backup"

DocId: TypeAlias = int | str
"""TinyDB's ids are integers; a table of somebody else's may have words."""


class Put(msgspec.Struct, frozen=True, array_like=True, tag="put", gc=False):
    """A document is now this. *line* is its JSON."""

    table: str
    doc_id: DocId
    line: msgspec.Raw


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="delete", gc=False):
    """A document is no more."""

    table: str
    doc_id: DocId


class Create(msgspec.Struct, frozen=True, array_like=True, tag="create", gc=False):
    """A table is there, if it was not."""

    table: str


class Drop(msgspec.Struct, frozen=True, array_like=True, tag="drop", gc=False):
    """A table is no more, nor what was in it."""

    table: str


Change: TypeAlias = Put | Delete | Create | Drop


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One commit."""

    number: int
    changes: tuple[Change, ...]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a journal: what it continues, and who writes it.

    Attributes:
        generation: one more than that of the snapshot or journal it continues.
        after: number of the last frame before it.
        boot: the machine's boot, so that a pid means something.
        started_at: epoch seconds.
    """

    format: int = FORMAT
    generation: int
    after: int
    boot: str
    pid: int
    host: str
    started_at: float

    @classmethod
    def ours(cls, *, generation: int, after: int, now: float) -> "Header":
        """Make the header of a journal that this process begins."""
        host = socket.gethostname()
        return cls(generation=generation, after=after, boot=boot_id(), pid=os.getpid(), host=host, started_at=now)


class _Formatted(msgspec.Struct):
    """All that may be asked of a header before its format is known."""

    format: int


class Torn(NamedTuple):
    """The tail that was never synced: its line, its first byte and its length."""

    line: int
    offset: int
    size: int


_frame = msgspec.json.Decoder(Frame)
_header = msgspec.json.Decoder(Header)
_formatted = msgspec.json.Decoder(_Formatted)
_ZEROS = re.compile(rb"\0+")
_SECTOR = 512


def encode(changes: Sequence[Change]) -> bytes:
    """Write changes as they stand in a frame, without the brackets around them."""
    return msgspec.json.encode(changes)[1:-1]


def seal(body: bytes) -> bytes:
    """Make a line of some JSON."""
    return b"%08x %s\n" % (crc32(body), body)


def unseal(line: bytes) -> bytes | None:
    """Give the JSON of a line, with or without its newline; None if the line is not valid."""
    body = line[9:].removesuffix(b"\n")
    return body if line[:9] == b"%08x " % crc32(body) else None


class Journal:
    """A journal that this process writes.

    Attributes:
        header: its first line.
        number: that of the last frame.
        identity: which file it is, whatever it is called.
    """

    def __init__(self, path: Path, header: Header, *, files: Files) -> None:
        self.header = header
        self.number = header.after
        self._file = NewFile(path, files=files)
        self.identity = self._file.identity
        try:
            self._append(seal(msgspec.json.encode(header)))
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._file.size

    def append(self, changes: Sequence[bytes]) -> None:
        """Write one frame of changes, each as ``encode`` made it, and return once it is on disk.

        Raises:
            OSError: part of it may be on disk; nothing may be appended any more.
        """
        number = self.number + 1
        self._append(seal(b"[%d,[%s]]" % (number, b",".join(changes))))
        self.number = number

    def _append(self, line: bytes) -> None:
        self._file.make_room(len(line))
        self._file.write(line)
        self._file.sync()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Reader:
    """Reads a journal and judges every line of it.

    Attributes:
        header: its first line.
        number: that of the last frame read.
        torn: the tail that was never completed, once everything has been read.

    Raises:
        StoreDamaged: when made, for a header that is not one of ours; while read, for
            damage in the middle (rule 4).
    """

    def __init__(self, path: Path, *, files: Files) -> None:
        self.path = path
        self._files = files
        with files.open(path) as stream:
            self.header = _read_header(path, stream.readline())
        self.number = self.header.after
        self.torn: Torn | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames in order, from the first."""
        self.number = self.header.after
        with self._files.open(self.path) as stream:
            offset = len(stream.readline())
            for line_number, line in enumerate(map(_without_room, stream), start=2):
                place = Torn(line_number, offset, len(line))
                frame = self._judge(place, line, stream) if line else None
                if frame is None:
                    return
                yield frame
                offset += len(line)

    def _judge(self, place: Torn, line: bytes, stream: BinaryIO) -> Frame | None:
        body = unseal(line)
        if body is None:
            self._demand_torn(place, line, stream)
            self.torn = place
            return None
        frame = self._decode(place, body)
        if frame.number != self.number + 1:
            raise damaged(self.path, place, f"frame {frame.number} stands where {self.number + 1} belongs")
        self.number = frame.number
        return frame

    def _demand_torn(self, place: Torn, line: bytes, stream: BinaryIO) -> None:
        if not _is_room(stream):
            raise damaged(self.path, place, "the line is not what was written, and more follows it")
        if not _is_torn(line, place.offset):
            raise damaged(self.path, place, "the last line is complete but not what was written")

    def _decode(self, place: Torn, body: bytes) -> Frame:
        try:
            return _frame.decode(body)
        except msgspec.MsgspecError as error:
            raise damaged(self.path, place, f"the line is intact but not understood ({error})") from error


def damaged(path: Path, place: Torn, what: str) -> StoreDamaged:
    """Make the error that names file, line and byte."""
    return StoreDamaged(f"{path}, line {place.line} (from byte {place.offset}): {what}", hint=HINT)


def _without_room(line: bytes) -> bytes:
    """Take the zeros after the last newline off what was written there."""
    return line if line.endswith(b"\n") else line.rstrip(b"\0")


def _is_room(stream: BinaryIO) -> bool:
    """Tell whether nothing was ever written to the rest of a file."""
    return not any(block.strip(b"\0") for block in iter(partial(stream.read, 2**16), b""))


def _is_torn(line: bytes, offset: int) -> bool:
    """Tell a last line that was never completed from one that was changed afterwards."""
    if not line.endswith(b"\n"):
        return unseal(line[:-1]) is None  # else it is the newline itself that was changed
    return any(_never_arrived(offset + run.start(), offset + run.end(), offset) for run in _ZEROS.finditer(line))


def _never_arrived(start: int, end: int, offset: int) -> bool:
    """Blocks that a write did not reach read as zeros, and end where disk blocks end."""
    return end % _SECTOR == 0 and (start % _SECTOR == 0 or start == offset)


def _read_header(path: Path, line: bytes) -> Header:
    place = Torn(1, 0, len(line))
    body = unseal(line) if line.endswith(b"\n") else None
    if body is None:
        raise damaged(path, place, "this is not the first line of a journal" if line else "the journal is empty")
    try:
        demand_format(path, _formatted.decode(body).format)
        return _header.decode(body)
    except msgspec.MsgspecError as error:
        raise damaged(path, place, f"the header is not understood ({error})") from error


def demand_format(path: Path, written: int) -> None:
    """Refuse a file of a format that this version does not know.

    Raises:
        StoreDamaged: it is of another.
    """
    if written != FORMAT:
        raise StoreDamaged(
            f"{path} is in format {written}; this version knows format {FORMAT}",
            hint="it was written by a newer poller: start that one again, "
            "or take its orders out with its own `poller store export`",
        )
