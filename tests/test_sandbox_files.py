"""The files that the sandbox makes: deterministic, of any size, and what viewers expect."""

import io
import re
import struct
import tracemalloc
import zipfile
import zlib
from hashlib import sha256

import pytest

from poller.sandbox import Content
from poller.sandbox.content import BLOCK
from tests.stand_in import whole

MAGIC = {
    "application/pdf": b"%PDF-",
    "application/zip": b"PK\x03\x04",
    "image/gif": b"GIF89a",
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "video/mp4": b"\x00\x00\x00\x18ftyp",
}
ENDS = {
    "application/pdf": b"%%EOF\n",
    "application/zip": b"\0\0",
    "image/gif": b";",
    "image/jpeg": b"\xff\xd9",
    "image/png": b"IEND\xae\x42\x60\x82",
}


@pytest.mark.parametrize("media", MAGIC)
@pytest.mark.parametrize("size", [2000, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 9, 3 * BLOCK + 77])
def test_a_file_has_its_size_and_the_ends_of_its_format(media, size):
    """Size, first bytes and last bytes are right, also where the tail straddles two blocks."""
    data = whole(Content(seed="a", media_type=media, size=size))
    assert len(data) == size
    assert data.startswith(MAGIC[media])
    assert data.endswith(ENDS.get(media, b""))


@pytest.mark.parametrize("size", [0, 1, 9, 300])
@pytest.mark.parametrize("media", MAGIC)
def test_a_file_smaller_than_its_format_is_cut_short(media, size):
    """Even tiny files have exactly the size that was asked for, and begin as they should."""
    data = whole(Content(seed="a", media_type=media, size=size))
    assert len(data) == size
    assert data.startswith(MAGIC[media][:size])


def test_a_file_follows_from_its_seed_alone():
    """The same seed gives the same bytes, another gives others, and the digest is that of the bytes."""
    one, same, other = (Content(seed=seed, media_type="x/y", size=700_000) for seed in "aab")
    assert whole(one) == whole(same)
    assert whole(one) != whole(other)
    assert one.sha256 == sha256(whole(one)).hexdigest() != other.sha256


@pytest.mark.parametrize("media", ["application/zip", "x/y"])
def test_any_part_of_a_file_is_that_part_of_the_whole(media):
    """A part is cut from the same bytes, wherever it begins and ends; blocks differ from each other."""
    content = Content(seed="a", media_type=media, size=3 * BLOCK + 5)
    data = whole(content)
    marks = [0, 1, 50, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK, 3 * BLOCK + 4, 3 * BLOCK + 5]
    for start in marks:
        for stop in marks:
            assert b"".join(content.blocks(start, stop)) == data[start:stop]
    assert data[BLOCK : 2 * BLOCK] != data[2 * BLOCK : 3 * BLOCK]


def test_a_large_file_is_never_whole_in_memory():
    """Digesting 64 MiB takes a few blocks of memory."""
    content = Content(seed="a", media_type="image/png", size=64 * 2**20)
    tracemalloc.start()
    try:
        assert len(content.sha256) == 64
        assert tracemalloc.get_traced_memory()[1] < 8 * BLOCK
    finally:
        tracemalloc.stop()


def test_a_pdf_points_to_its_own_table():
    """The trailer names the place of the cross-reference table, the table those of the objects."""
    data = whole(Content(seed="a", media_type="application/pdf", size=500_000))
    at = int(re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", data)[1])
    assert data[at:].startswith(b"xref\n0 5\n")
    for number, row in enumerate(re.findall(rb"(\d{10}) 00000 n ", data[at:]), start=1):
        assert data[int(row) :].startswith(b"%d 0 obj\n" % number)
    stream = re.search(rb"/Length (\d+) >>\nstream\n", data)
    assert data[stream.end() + int(stream[1]) :].startswith(b"\nendstream\nendobj\nxref")


def test_a_zip_opens():
    """A stock reader finds the entry behind the noise, and its checksum holds."""
    data = whole(Content(seed="a", media_type="application/zip", size=500_000))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["README.txt"]


def test_a_zip_beyond_its_format_is_refused():
    """A size that the format cannot hold is said at once."""
    with pytest.raises(ValueError, match="a zip has at most"):
        Content(seed="a", media_type="application/zip", size=2**32)


def test_a_png_has_good_checksums():
    """Every chunk up to the end of the picture carries its checksum."""
    data = whole(Content(seed="a", media_type="image/png", size=5000))
    at, names = 8, []
    while b"IEND" not in names:
        length, name = struct.unpack_from(">I4s", data, at)
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(data[at + 4 : at + 8 + length])
        names.append(name)
        at += 12 + length
    assert names == [b"IHDR", b"IDAT", b"IEND"]


def test_an_mp4_is_boxes_from_end_to_end():
    """The boxes' lengths lead from the first byte to the last."""
    data = whole(Content(seed="a", media_type="video/mp4", size=300_000))
    at, names = 0, []
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        at += struct.unpack_from(">Q", data, at + 8)[0] if length == 1 else length
        names.append(name)
    assert (at, names) == (len(data), [b"ftyp", b"mdat", b"moov"])
