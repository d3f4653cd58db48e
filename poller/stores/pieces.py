"""What snapshots are made of: documents, one by one or many at once, and what is said of them."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from poller.stores.journal import FORMAT, DocId

OURS = "_poller"
"""The table that holds what a snapshot says of itself."""
DEEPEST = 500
"""Levels of a document: what can be written must be readable from any depth of the stack, and
readers stop at about 1,000 levels, their callers' frames included."""
_MINUS_ZERO = b'"-0":'
"""The one id that a reader of numbers takes for another."""
_INTEGER = re.compile("0|-?[1-9][0-9]*", re.ASCII)

_numbered = msgspec.json.Decoder(dict[int, msgspec.Raw]).decode
_named = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Row(NamedTuple):
    """A line of a snapshot: a document, or (without an id) the beginning of a table."""

    table: str
    doc_id: DocId | None = None
    line: bytes = b""


class Block(NamedTuple):
    """Many lines of a snapshot at once: documents of one table, as one JSON object."""

    table: str
    json: bytes


Piece: TypeAlias = Row | Block


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself.

    Attributes:
        generation: how often journals were folded into it.
        sequence: the number of the last frame that is in it.
        open: whether a journal continues it, without which it is not all that was kept.
    """

    format: int = FORMAT
    generation: int = 0
    sequence: int = 0
    crc32: str = ""
    open: bool = False


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Write a document as one line of JSON.

    Raises:
        TypeError, ValueError: it holds something that JSON does not have, or is nested more
            than ``DEEPEST`` levels deep.
        RecursionError: it is nested far deeper than that, or in itself.
    """
    line = _encoder.encode(document).encode()
    if line.count(b"{") + line.count(b"[") > DEEPEST and _depth(document) > DEEPEST:
        raise ValueError(f"the document is nested more than {DEEPEST} levels deep")
    return line


def _depth(value: object) -> int:
    """Count the levels of what was found to be JSON."""
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, (dict, list, tuple))]:
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        depth += 1
    return depth


def doc_id_of(key: str) -> DocId:
    """Read a document's id as TinyDB files write it."""
    return int(key) if _INTEGER.fullmatch(key) else key


def documents(piece: Piece) -> dict[DocId, msgspec.Raw]:
    """Read a piece: each document's JSON under its id.

    Raises:
        msgspec.MsgspecError: it is not what a snapshot holds.
    """
    if isinstance(piece, Row):
        return {} if piece.doc_id is None else {piece.doc_id: msgspec.Raw(piece.line)}
    with suppress(msgspec.ValidationError):  # unless its ids are not all numbers
        numbered = _numbered(piece.json)
        if 0 not in numbered or _MINUS_ZERO not in piece.json:
            return cast("dict[DocId, msgspec.Raw]", numbered)
    return {doc_id_of(key): line for key, line in _named(piece.json).items()}


def rows_of(block: Block) -> Iterator[Row]:
    """Give the documents of a block one by one."""
    return (Row(block.table, doc_id, bytes(line)) for doc_id, line in documents(block).items())
