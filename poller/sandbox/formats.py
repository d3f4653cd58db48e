"""What the files begin and end with, so that a viewer opens what the sandbox made.

Every file is a head, as much noise as its size wants, and a tail. Each format has a
place where noise does no harm: a stream that no page uses (PDF), the gap before the
directory (ZIP), media data that no track uses (MP4), and whatever follows the end of
the picture (PNG, JPEG, GIF), where the tail repeats the end.
"""

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple


class Shape(NamedTuple):
    """The two ends of a file."""

    head: bytes
    tail: bytes


EXTENSIONS = {
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "video/mp4": ".mp4",
}
"""Media types that have a shape here, with the extension of each."""


def media_type(name: str) -> str:
    """Read a media type, or the short name (``pdf``, ``jpg``, …) of one that has a shape.

    Raises:
        ValueError: it is neither.
    """
    short = {extension[1:]: known for known, extension in EXTENSIONS.items()}
    kind, slash, rest = name.partition("/")
    if name not in short and not (kind and slash and rest and name.isascii() and name.isprintable()):
        raise ValueError(f"{name!r} is not one of {', '.join(sorted(short))}, nor a media type")
    return short.get(name, name)


def shape(media: str, size: int) -> Shape:
    """Make the two ends of a file of *size* bytes; both are empty for a type without a shape.

    Raises:
        ValueError: the format cannot be that large.
    """
    make = _SHAPES.get(media)
    return Shape(b"", b"") if make is None else make(size)


# --- PDF (ISO 32000-1, 7.5). All numbers that depend on the size have a fixed width.

_OBJECTS = (
    b"<< /Type /Catalog /Pages 2 0 R >>",
    b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
)
_STREAM = b"4 0 obj\n<< /Length %012d >>\nstream\n"
_STREAM_END = b"\nendstream\nendobj\n"
_TRAILER = b"xref\n0 5\n%btrailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%012d\n%%%%EOF\n"


def _pdf(size: int) -> Shape:
    body, offsets = b"%PDF-1.7\n", []
    for number, text in enumerate(_OBJECTS, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, text)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % at for at in (*offsets, len(body)))
    ends = len(body + _STREAM % 0), len(_STREAM_END + _TRAILER % (table, 0))
    noise = max(0, size - sum(ends))
    trailer = _TRAILER % (table, ends[0] + noise + len(_STREAM_END))
    return Shape(body + _STREAM % noise, _STREAM_END + trailer)


# --- ZIP (APPNOTE 6.3): one stored entry, then a gap, then the directory.

_ENTRY = b"README.txt"
_TEXT = b"This archive was made by a sandbox; what lies between its entry and its directory is noise.\n"
_DIRECTORY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LARGEST_ZIP = 2**32 - 2


def _zip(size: int) -> Shape:
    if size > _LARGEST_ZIP:
        raise ValueError(f"a zip has at most {_LARGEST_ZIP} bytes here; choose another type for more")
    # version, flags, method, time, date, checksum, lengths, length of the name, extra
    known = (20, 0, 0, 0, 33, zlib.crc32(_TEXT), len(_TEXT), len(_TEXT), len(_ENTRY), 0)
    head = struct.pack("<4s5H3I2H", b"PK\3\4", *known) + _ENTRY + _TEXT
    directory = _DIRECTORY.pack(b"PK\1\2", 20, *known, 0, 0, 0, 0, 0) + _ENTRY
    at = max(len(head), size - len(directory) - _END.size)
    return Shape(head, directory + _END.pack(b"PK\5\6", 0, 0, 1, 1, len(directory), at, 0))


# --- MP4 (ISO/IEC 14496-12, 4.2): brand, media data with a 64-bit length, movie header.


def _mp4(size: int) -> Shape:
    brand = _box(b"ftyp", b"isom\0\0\2\0isommp42")
    header = struct.pack(">4x2I2I", 0, 0, 1000, 0) + struct.pack(">IH10x", 0x00010000, 0x0100)
    header += struct.pack(">9I", 0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000) + bytes(24) + b"\0\0\0\1"
    movie = _box(b"moov", _box(b"mvhd", header))
    data = max(16, size - len(brand) - len(movie))
    return Shape(brand + struct.pack(">I4sQ", 1, b"mdat", data), movie)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


# --- Pictures of one colour.


def _png(_: int) -> Shape:
    end = _chunk(b"IEND", b"")
    pixel = _chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 2, 0, 0, 0))
    pixel += _chunk(b"IDAT", zlib.compress(b"\0\x33\x66\x99"))
    return Shape(b"\x89PNG\r\n\x1a\n" + pixel + end, end)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _jpeg(_: int) -> Shape:
    """One grey block (ITU-T T.81, annex B): each Huffman table has a single code of one bit."""
    end = b"\xff\xd9"
    segments = (
        (b"\xe0", b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        (b"\xdb", b"\0" + b"\1" * 64),
        (b"\xc0", b"\x08\0\x08\0\x08\x01\x01\x11\0"),
        (b"\xc4", b"\x00\1" + bytes(15) + b"\0"),
        (b"\xc4", b"\x10\1" + bytes(15) + b"\0"),
        (b"\xda", b"\x01\x01\0\0\x3f\0"),
    )
    body = b"".join(b"\xff" + mark + struct.pack(">H", 2 + len(text)) + text for mark, text in segments)
    return Shape(b"\xff\xd8" + body + b"\x3f" + end, end)


def _gif(_: int) -> Shape:
    screen = struct.pack("<6s2H3B", b"GIF89a", 1, 1, 0x80, 0, 0) + b"\x33\x66\x99\xff\xff\xff"
    return Shape(screen + b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0;", b";")


_SHAPES: dict[str, Callable[[int], Shape]] = {
    "application/pdf": _pdf,
    "application/zip": _zip,
    "image/gif": _gif,
    "image/jpeg": _jpeg,
    "image/png": _png,
    "video/mp4": _mp4,
}
