"""What can still be read of a damaged journal, and what cannot. Changes nothing.

Every line has its own checksum, so a frame that is read here is what was written, wherever
in the file it stands now; and its number says when it came. A line that is not valid is
searched for frames that are: a newline may have been lost, or the beginning of the line.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from poller.errors import StoreDamaged
from poller.stores.care.salvage import Loss, json_end, mentioned
from poller.stores.files import Files
from poller.stores.journal import Frame, Header, Reader, Torn, demand_format, unseal

_START = re.compile(rb"[0-9a-f]{8} [\[{]")
_BEFORE, _AROUND = 9, 10
"""Bytes of a line before its JSON, and around it."""
_WRONG = "the line is not what was written"
_CUT = "the last line is incomplete"

_frame = msgspec.json.Decoder(Frame).decode
_header = msgspec.json.Decoder(Header).decode


class _Formatted(msgspec.Struct):
    format: int


_formatted = msgspec.json.Decoder(_Formatted).decode


class Shards(msgspec.Struct, kw_only=True):
    """What there is of a journal.

    Attributes:
        path: the journal.
        header: None if it cannot be read.
        frames: those that can be read, as they stand in the file.
        losses: what could not be read.
        torn: the tail that was never completed, of which nobody was told that it was kept.
    """

    path: Path
    header: Header | None = None
    frames: list[Frame] = []
    losses: list[Loss] = []
    torn: Torn | None = None


def shards(path: Path, *, files: Files) -> Shards:
    """Read as much of a journal as can be read.

    Raises:
        StoreDamaged: it is of another format.
        OSError: it cannot be read.
    """
    try:
        reader = Reader(path, files=files)
        frames = list(reader)
        return Shards(path=path, header=reader.header, frames=frames, torn=reader.torn)
    except StoreDamaged:
        found = Shards(path=path)
    _read(found, files)
    if found.header is None:
        found.losses.insert(0, Loss(file=path.name, what="its first line, which says what it continues, is lost"))
    return found


def _read(found: Shards, files: Files) -> None:
    offset = 0
    with files.open(found.path) as stream:
        for number, line in enumerate(stream, start=1):
            written = line if line.endswith(b"\n") else line.rstrip(b"\0")  # zeros are room for more
            _read_line(found, Torn(number, offset, len(written)), written)
            offset += len(line)


def _read_line(found: Shards, place: Torn, line: bytes) -> None:
    bodies = list(_bodies(line))
    if not all([_understood(found, body) for body in bodies]):  # noqa: C419 - each of them is to be read
        _lose(found, place, line, "the line is intact but not understood")
    elif sum(map(len, bodies)) + _AROUND * len(bodies) < len(line):
        _lose(found, place, line, _WRONG if line.endswith(b"\n") else _CUT)


def _lose(found: Shards, place: Torn, line: bytes, what: str) -> None:
    number, offset, size = place
    keys = mentioned(line)
    found.losses.append(Loss(file=found.path.name, what=what, line=number, byte=offset, size=size, keys=keys))


def _understood(found: Shards, body: bytes) -> bool:
    try:
        if body.startswith(b"{"):
            demand_format(found.path, _formatted(body).format)
            found.header = found.header or _header(body)
        else:
            found.frames.append(_frame(body))
    except msgspec.MsgspecError:
        return False
    return True


def _bodies(line: bytes) -> Iterator[bytes]:
    """Find the valid pieces of a line: one if the line is right."""
    whole = unseal(line)
    if whole is not None:
        yield whole
        return
    behind = 0
    for found in _START.finditer(line):
        body = _body(line, found.start()) if found.start() >= behind else None
        if body is not None:
            behind = found.start() + _BEFORE + len(body)
            yield body


def _body(line: bytes, start: int) -> bytes | None:
    """Read what begins there, wherever in the line its JSON ends; None if it is not what was written."""
    end = json_end(line, start + _BEFORE)
    return None if end is None else unseal(line[start:end])
