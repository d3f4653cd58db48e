"""Checksums that a reply brings along, and what was really received.

They are over the bytes as they are stored: of an encoded body, before it is decoded. A
checksum that we cannot read or compute vouches for nothing, and does no harm either. An
ETag is no checksum, whatever it looks like.
"""

import hashlib
import zlib
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeAlias

import google_crc32c

Block: TypeAlias = bytes | memoryview
"""Some of a file's bytes; one that is a view is good until the next is asked for."""

_ALGORITHMS = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512", "crc32c": "crc32c"}
"""Names on the wire (RFC 3230, RFC 9530, Google's storage) and here."""
_BYTES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "crc32": 4, "crc32c": 4}


class Hash(Protocol):
    """What bytes are hashed with, as ``hashlib`` has it."""

    def update(self, block: Block, /) -> None:
        """Hash what follows."""
        ...

    def hexdigest(self) -> str:
        """Give the digest of all that was hashed."""
        ...


class Crc:
    """A cyclic redundancy check of 32 bits.

    Args:
        extend: gives the check of what follows, and that of what came before it.
    """

    def __init__(self, extend: Callable[[Block, int], int]) -> None:
        self._extend = extend
        self._value = 0

    def update(self, block: Block, /) -> None:
        """Check what follows."""
        self._value = self._extend(block, self._value)

    def hexdigest(self) -> str:
        """Give the check of all, its highest byte first, as storages write it."""
        return f"{self._value:08x}"


def _extend_crc32c(block: Block, value: int) -> int:
    extended: int = google_crc32c.extend(value, bytes(block))  # it takes nothing else
    return extended


_CHECKS: dict[str, Callable[[Block, int], int]] = {"crc32": zlib.crc32}
if google_crc32c.implementation == "c":  # in Python alone a gigabyte would take minutes
    _CHECKS["crc32c"] = _extend_crc32c


def _hash(name: str) -> Hash:
    return Crc(_CHECKS[name]) if name in _CHECKS else hashlib.new(name, usedforsecurity=False)


class Checksum(NamedTuple):
    """What a header promises: that the bytes have this hex digest."""

    header: str
    algorithm: str
    value: str


class Tally:
    """Counts and hashes bytes as they pass.

    Args:
        algorithms: in ``hashlib``'s names, ``crc32`` or ``crc32c``.

    Attributes:
        size: bytes that have passed.
    """

    def __init__(self, algorithms: Collection[str]) -> None:
        self.size = 0
        self._kept: list[bytes] = []
        self._hashes = {name: _hash(name) for name in algorithms}

    def update(self, block: Block) -> None:
        """Let *block* pass."""
        self.hash_kept()
        self.size += len(block)
        for each in self._hashes.values():
            each.update(block)

    def keep(self, block: bytes) -> None:
        """Let *block* pass, and hash it later, in the thread of whoever asks for a digest first."""
        self.size += len(block)
        self._kept.append(block)

    def hash_kept(self) -> None:
        """Hash what was kept."""
        for block in self._kept:
            for each in self._hashes.values():
                each.update(block)
        self._kept.clear()

    def hex(self, algorithm: str) -> str:
        """Give the digest of all that has passed."""
        self.hash_kept()
        return self._hashes[algorithm].hexdigest()


def promised(headers: Mapping[str, str], *, encoding: str = "") -> tuple[Checksum, ...]:
    """Read every checksum over the whole of a body that the head of a 200 brings.

    Args:
        headers: names in lower case; of a list in several lines, all, with commas.
        encoding: the body's content coding, empty if it has none.
    """
    found = (
        Checksum(header, algorithm, value)
        for header, read in _HEADERS.items()
        if header in headers and not (header == "x-goog-hash" and _is_transcoded(headers, encoding))
        for algorithm, value in read(headers[header])
    )
    return tuple(found)


def _is_transcoded(headers: Mapping[str, str], encoding: str) -> bool:
    """Tell whether Google's storage decoded what it stores on the way: its hash is of what it stores."""
    return headers.get("x-goog-stored-content-encoding", "identity").lower() != (encoding or "identity")


def _listed(text: str) -> Iterator[tuple[str, str]]:
    """Read ``sha-256=…,md5=…`` (RFC 3230, 4.3.2) and ``sha-256=:…:`` (RFC 9530, RFC 8941, 3.2)."""
    for entry in text.split(","):
        name, _, value = entry.strip().partition("=")
        if algorithm := _ALGORITHMS.get(name.strip().lower()):
            yield from _single(algorithm)(value.partition(";")[0].strip().strip(":"))


def _single(algorithm: str) -> Callable[[str], Iterator[tuple[str, str]]]:
    """Make a reader of one base64 value; what is none is passed over, as storage's checksum of checksums is."""

    def read(text: str) -> Iterator[tuple[str, str]]:
        try:
            value = b64decode(text.strip(), validate=True)
        except ValueError:
            return
        if len(value) == _BYTES[algorithm] and (algorithm != "crc32c" or algorithm in _CHECKS):
            yield algorithm, value.hex()

    return read


_HEADERS: dict[str, Callable[[str], Iterator[tuple[str, str]]]] = {
    "repr-digest": _listed,
    "content-digest": _listed,
    "digest": _listed,
    "content-md5": _single("md5"),
    "x-ms-blob-content-md5": _single("md5"),
    "x-goog-hash": _listed,
    "x-amz-checksum-sha256": _single("sha256"),
    "x-amz-checksum-sha1": _single("sha1"),
    "x-amz-checksum-crc32": _single("crc32"),
    "x-amz-checksum-crc32c": _single("crc32c"),
}
"""RFC 9530; RFC 3230; RFC 1864; and what Google's, Amazon's and Microsoft's storages send."""
