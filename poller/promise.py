"""What the head of a reply promises about a file, to be checked against what came.

An interrupted transfer goes on (RFC 9110, 14) if the remote can name its bytes: by a strong
ETag, or by a time of change that lies well before the reply (8.8.2.2). The rest is then
asked for under the condition that the name is still right, from the last byte that is here,
so that there always is a rest. What comes must be just that: these bytes, from there to the end.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from poller import content, decoding, digest
from poller.digest import Checksum, Tally


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What was said about a file before it came.

    Attributes:
        media_type: without parameters; empty if none was declared.
        total: bytes on the wire, if they were announced.
        framed: whether the end of the body can be told from a cut connection.
        encoding: ``gzip``, ``deflate``, ``packed`` if it may be a gzip that should not stay one, or empty; None if
            it is one that we do not know.
        checksums: what the bytes on the wire must add up to.
        validator: names these very bytes, and no others; None if nothing does.
        suffix: what the file's own name ends with, in small letters; empty if it has none.
    """

    media_type: str = ""
    total: int | None = None
    framed: bool = True
    encoding: str | None = ""
    checksums: tuple[Checksum, ...] = ()
    validator: str | None = None
    suffix: str = ""

    @classmethod
    def of(
        cls, headers: Mapping[str, str], *, length: int | None, framed: bool, url: str = "", packed: str = ""
    ) -> "Promise":
        """Read the head of a 200.

        Args:
            headers: names in lower case.
            length: as announced.
            framed: see the attribute.
            url: whose head it is.
            packed: ``gzip`` if the file itself may be one, which should not stay so.
        """
        encoding = decoding.known(headers.get("content-encoding"))
        return cls(
            media_type=content.media_type(headers.get("content-type")),
            total=length,
            framed=framed,
            encoding=decoding.PACKED if packed and encoding == "" else encoding,
            checksums=digest.promised(headers, encoding=encoding or ""),
            validator=_validator(headers),
            suffix=content.suffix(headers.get("content-disposition"), url),
        )

    @property
    def algorithms(self) -> frozenset[str]:
        """What has to be computed to check it, in ``hashlib``'s names."""
        return frozenset(each.algorithm for each in self.checksums)

    @property
    def vouches(self) -> bool:
        """Whether a file that keeps this promise is known to be whole."""
        return self.framed or bool(self.checksums)

    @property
    def resumable(self) -> bool:
        """Whether the rest of an interrupted transfer can be asked for."""
        return self.validator is not None and self.framed and self.encoding == ""

    def rest(self, size: int) -> dict[str, str]:
        """Give the headers that ask for what follows the first *size* bytes, if the file is still this one."""
        return {"Range": f"bytes={size}-", "If-Range": self.validator or ""}

    def continued(self, headers: Mapping[str, str], size: int) -> "Promise | None":
        """Read the head of a 206: this promise, its total known; None if it is not just what ``rest`` asked for."""
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        if found is None or self.validator not in {headers.get("etag"), headers.get("last-modified")}:
            return None
        first, last, total = (int(number) for number in found.groups())
        if (first, last + 1) != (size, total) or self.total not in {None, total}:
            return None
        return (
            msgspec.structs.replace(self, total=total)
            if decoding.known(headers.get("content-encoding")) == ""
            else None
        )

    def broken_by(self, tally: Tally) -> str | None:
        """Say how what came over the wire breaks this promise."""
        if self.total is not None and tally.size != self.total:
            return f"{tally.size} bytes came of {self.total} announced"
        broken = (each.header for each in self.checksums if tally.hex(each.algorithm) != each.value)
        return next((f"the bytes that came are not those of which {header} is the checksum" for header in broken), None)


_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
_STRONG = re.compile(r'"[\x21\x23-\x7e]{1,1000}"')
_SETTLED = 60.0
"""Seconds after which a file that is changed again gets another time, whatever its clock's steps."""


def is_strong(etag: str) -> bool:
    """Tell whether an entity tag names these very bytes (RFC 9110, 8.8.3)."""
    return _STRONG.fullmatch(etag) is not None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Find what names the bytes of a 200, unless the remote serves no ranges."""
    if headers.get("accept-ranges", "").strip().lower() == "none":
        return None
    if etag := headers.get("etag"):
        return etag if is_strong(etag) else None
    changed = headers.get("last-modified")
    return changed if changed and _age(changed, headers.get("date")) >= _SETTLED else None


def _age(changed: str, date: str | None) -> float:
    """Tell how many seconds lie between two HTTP dates; negative if one is none."""
    try:
        return (parsedate_to_datetime(date or "") - parsedate_to_datetime(changed)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return -1.0
