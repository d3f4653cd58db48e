"""Bodies that come compressed although we asked for identity: decoded in small steps, and never far.

zlib tells neither that a stream was cut nor that it is a bomb; both are found out here.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from poller.digest import Block

STEP = 2**18
"""Bytes decoded at a time: about a millisecond of the loop's time."""
RATIO = 100
"""Bytes that may become of one. Real files come nowhere near; a bomb has a thousand."""
HARMLESS = 2**20
"""Bytes that may come out whatever the ratio: a small file of one colour is no bomb."""
_SLICE = 2**14
"""Bytes of a block looked at in one go: of a gzip of many members, the rest is copied for each of them."""
_MEMBERS, _MEMBER = 64, 256
"""Members that a gzip may have, and one more for so many bytes of it: a million empty ones take seconds."""
PACKED = "packed"
"""Not an encoding of the transfer: the file may be a gzip, which its own first bytes tell (RFC 1952, 2.3.1)."""
_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 31, 15, -15
_NAMES = {"": "", "identity": "", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


class Garbled(ValueError):  # noqa: N818 - said of the body
    """A body that cannot be decoded, is cut, or is a bomb; the text says which."""


def known(header: str | None) -> str | None:
    """Read ``Content-Encoding`` (RFC 9110, 8.4): ``gzip``, ``deflate``, empty for none, None for any other."""
    return _NAMES.get((header or "").strip().lower())


class Decoder(Protocol):
    """Makes the file of the bytes of the wire."""

    def feed(self, block: Block) -> Iterator[Block]:
        """Give what becomes of *block*, piece by piece."""
        ...

    def end(self) -> None:
        """Make sure that the end of the bytes was the end of the file."""
        ...


def decoder(encoding: str) -> Decoder:
    """Make a decoder for one that is ``known``, or ``PACKED``."""
    if encoding == PACKED:
        return Unpacker()
    return Inflater(encoding) if encoding else AsItIs()


class AsItIs:
    """Nothing was done to the file."""

    def feed(self, block: Block) -> Iterator[Block]:
        """Give *block* as it is."""
        yield block

    def end(self) -> None:
        """Any end will do."""


class Inflater:
    """Decodes gzip (RFC 1952, of several members, too) and deflate (RFC 1950, and RFC 1951 as some send it)."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._stream = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        self._taken = self._given = self._members = 0

    def feed(self, block: Block) -> Iterator[Block]:
        """Give what becomes of *block*, in pieces of at most ``STEP`` bytes.

        Raises:
            Garbled: it cannot be decoded, or too much becomes of it.
        """
        for place in range(0, len(block), _SLICE):
            yield from self._fed(bytes(block[place : place + _SLICE]))

    def _fed(self, block: bytes) -> Iterator[bytes]:
        self._taken += len(block)
        more = bool(block)
        while more:
            stream = self._opened(block)
            piece = self._inflated(stream, block)
            yield from self._allowed(piece)
            block = stream.unused_data or stream.unconsumed_tail
            more = bool(block) or (len(piece) == STEP and not stream.eof)  # zlib may hold something back

    def end(self) -> None:
        """Make sure that the stream has ended, too.

        Raises:
            Garbled: it has not.
        """
        if self._taken and (self._stream is None or not self._stream.eof):
            raise Garbled(f"the {self._encoding} stream stopped before its end")

    def _opened(self, block: bytes) -> "zlib._Decompress":
        """Give the stream that *block* belongs to; gzip may have several, one after the other."""
        if self._stream is None:
            self._stream = zlib.decompressobj(_ZLIB if _is_zlib(block) else _RAW)
        elif self._stream.eof:
            if self._encoding != "gzip":
                raise Garbled("something follows the end of the deflate stream")
            self._members += 1
            if self._members > _MEMBERS + self._taken // _MEMBER:
                raise Garbled("the gzip stream has more members than a file has")
            self._stream = zlib.decompressobj(_GZIP)
        return self._stream

    def _inflated(self, stream: "zlib._Decompress", block: bytes) -> bytes:
        try:
            return stream.decompress(block, STEP)
        except zlib.error as error:
            raise Garbled(f"the {self._encoding} stream cannot be decoded: {error}") from None

    def _allowed(self, piece: bytes) -> Iterator[bytes]:
        self._given += len(piece)
        if self._given > max(HARMLESS, RATIO * self._taken):
            raise Garbled(f"the {self._encoding} stream becomes more than {RATIO} times as long")
        if piece:
            yield piece


class Unpacker:
    """Unpacks a file that is a gzip, and leaves one alone that is none, whatever was said of it."""

    def __init__(self) -> None:
        self._begun = b""
        self._chosen: Decoder | None = None

    def feed(self, block: Block) -> Iterator[Block]:
        """Give what becomes of *block*."""
        if self._chosen is None:
            self._begun += bytes(block)
            if len(self._begun) < len(_MAGIC):
                return
            self._chosen = Inflater("gzip") if self._begun.startswith(_MAGIC) else AsItIs()
            block, self._begun = self._begun, b""
        yield from self._chosen.feed(block)

    def end(self) -> None:
        """Make sure that a gzip has ended, too."""
        if self._begun:
            raise Garbled("the file has one byte, which is no gzip")
        if self._chosen is not None:
            self._chosen.end()


def _is_zlib(begin: bytes) -> bool:
    """Tell whether there is a zlib header (RFC 1950, 2.2): its first byte says deflate, in a window up to 32 KiB."""
    return begin[0] & 0x0F == 8 and begin[0] >> 4 <= 7  # noqa: PLR2004 - the RFC's numbers
