"""What the head of a reply promises about a file, to be checked against what came."""

from collections.abc import Mapping

import msgspec

from poller import content, decoding, digest
from poller.digest import Checksum, Tally


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What was said about a file before it came.

    Attributes:
        media_type: without parameters; empty if none was declared.
        total: bytes on the wire, if they were announced.
        framed: whether the end of the body can be told from a cut connection.
        encoding: ``gzip``, ``deflate``, or empty; None if it is one that we do not know.
        checksums: what the bytes on the wire must add up to.
    """

    media_type: str = ""
    total: int | None = None
    framed: bool = True
    encoding: str | None = ""
    checksums: tuple[Checksum, ...] = ()

    @classmethod
    def of(cls, headers: Mapping[str, str], *, length: int | None, framed: bool) -> "Promise":
        """Read the head of a 200; names of headers are in lower case."""
        encoding = decoding.known(headers.get("content-encoding"))
        return cls(
            media_type=content.media_type(headers.get("content-type")),
            total=length,
            framed=framed,
            encoding=encoding,
            checksums=digest.promised(headers, encoding=encoding or ""),
        )

    @property
    def algorithms(self) -> frozenset[str]:
        """What has to be computed to check it, in ``hashlib``'s names."""
        return frozenset(each.algorithm for each in self.checksums)

    @property
    def vouches(self) -> bool:
        """Whether a file that keeps this promise is known to be whole."""
        return self.framed or bool(self.checksums)

    def broken_by(self, tally: Tally) -> str | None:
        """Say how what came over the wire breaks this promise."""
        if self.total is not None and tally.size != self.total:
            return f"{tally.size} bytes came of {self.total} announced"
        broken = (each.header for each in self.checksums if tally.hex(each.algorithm) != each.value)
        return next((f"the bytes that came are not those of which {header} is the checksum" for header in broken), None)
