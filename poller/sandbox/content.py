"""A file that nobody keeps: every byte follows from its seed, type, size and place."""

from collections.abc import Iterator
from hashlib import sha256, shake_256

import msgspec

from poller.sandbox import formats

BLOCK = 256 * 1024
"""Bytes made at a time."""
_STAMP = 8


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of one task's file, made anew whenever they are wanted, and never all at once.

    Between the ends that its format wants lies noise; each block of it carries its own
    number, so that bytes in the wrong place are wrong bytes.

    Attributes:
        seed: what the noise follows from.
        media_type: decides the two ends.
        size: bytes; below the format's smallest file, the file is cut short.

    Raises:
        ValueError: the format cannot be that large.
    """

    seed: str
    media_type: str
    size: int

    def __post_init__(self) -> None:
        formats.shape(self.media_type, self.size)

    @property
    def extension(self) -> str:
        """The file name extension of the media type, with its dot."""
        return formats.EXTENSIONS.get(self.media_type, ".bin")

    @property
    def sha256(self) -> str:
        """The lower-case hex digest of the whole; made anew each time, at the cost of the whole file."""
        digest = sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from *start* up to *stop*, at most BLOCK at a time."""
        stop = self.size if stop is None else min(stop, self.size)
        noise = shake_256(self.seed.encode("utf-8", "surrogatepass")).digest(BLOCK)
        ends = formats.shape(self.media_type, self.size)
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            at = number * BLOCK
            yield self._block(number, noise, ends)[max(0, start - at) : stop - at]

    def _block(self, number: int, noise: bytes, ends: formats.Shape) -> bytes:
        at = number * BLOCK
        block = bytearray(noise)
        block[:_STAMP] = number.to_bytes(_STAMP, "big")
        _lay(block, ends.head, 0 - at)
        _lay(block, ends.tail, max(len(ends.head), self.size - len(ends.tail)) - at)
        return bytes(block)


def _lay(block: bytearray, piece: bytes, at: int) -> None:
    """Put *piece* into *block* at *at*, as much of it as falls within."""
    start, stop = max(at, 0), min(at + len(piece), len(block))
    if start < stop:
        block[start:stop] = piece[start - at : stop - at]
