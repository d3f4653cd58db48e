"""JSON as most shops send it, read quickly: what the explaining reader would give, or nothing at all.

A quick decoder takes the last of two equal names and says nothing. That there are none is told
by counting quotation marks. A document has two around each name and each text, and one for each
that is escaped within. What was read, written again, has the same marks for all that was kept;
whatever was dropped had at least the two around its name. So equal counts mean that no name came
twice. (A mark escaped as a number is none in the document and one in what is written again;
documents with such are not read here.)
"""

from typing import Any

import msgspec

_MARK = b'"'
_NUMBERED = b"\\u0022"

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read(raw: bytes) -> Any:
    """Read a document; None if it takes a closer look, as ``null`` does."""
    if _NUMBERED in raw:
        return None
    try:
        value = _decode(raw)
        whole = _encode(value).count(_MARK) == raw.count(_MARK)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError):
        return None
    return value if whole else None
