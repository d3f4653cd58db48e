"""TinyDB files that we did not write, or that TinyDB has written since we did."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from poller.errors import StoreDamaged
from poller.stores.journal import HINT, demand_format
from poller.stores.pieces import OURS, About, Row, doc_id_of, encode_document

_OUR_BEGINNING = b'{\n"'
_NEW_LINE = b'\n"'
"""What each of our lines begins with; in other JSON, at most those of a file without indentation."""
_LOST = "`poller store repair` takes back the snapshot before, if it is there; `poller store import` puts in a backup"


def read(path: Path, stream: BinaryIO) -> tuple[dict[str, dict[str, Any]], About]:
    """Read a whole file that does not end as our snapshots do.

    Returns:
        Its tables, and what it says of itself if it was ours once.

    Raises:
        StoreDamaged: it is no TinyDB file, or a snapshot of ours that was damaged.
    """
    stream.seek(0)
    text = stream.read()
    try:
        tables = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = f"is not JSON: {error}" if text.strip(b"\0") else "is empty" if not text else "holds nothing but zeros"
        raise StoreDamaged(f"{path} {what}", hint=_LOST) from error
    if text.startswith(_OUR_BEGINNING) and not _is_unindented(text, tables):
        raise StoreDamaged(f"{path} was written by poller and changed since: its last line is not ours", hint=HINT)
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise StoreDamaged(f"{path} is not a TinyDB file: it is no object of tables", hint=HINT)
    return tables, _left_by_us(path, text, tables.pop(OURS)) if OURS in tables else About()


def rows(path: Path, tables: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """Give what is in it, in order.

    Raises:
        StoreDamaged: a document is none, or cannot be kept.
    """
    for table, documents in tables.items():
        yield Row(table)
        for key, document in documents.items():
            yield Row(table, doc_id_of(key), _line(path, table, key, document))


def _left_by_us(path: Path, text: bytes, ours: dict[str, Any]) -> About:
    """Judge a snapshot that TinyDB has written anew, all of it: nothing of our layout is left in it.

    Damage cannot do that, and so this is somebody's change. It is taken if the store was closed
    when it was made: then there is no journal that continues what it replaced.
    """
    try:
        about = msgspec.convert({name: ours["1"][name] for name in About.__struct_fields__}, About, strict=False)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise StoreDamaged(
            f"{path} was written by poller and changed since: {OURS!r} is not ours", hint=HINT
        ) from error
    demand_format(path, about.format)
    if _NEW_LINE in text:
        raise StoreDamaged(f"{path} was written by poller and changed since: its last line is not ours", hint=HINT)
    if about.open:
        raise StoreDamaged(f"{path} was changed by another program while poller had it open", hint=HINT)
    return About(generation=about.generation, sequence=about.sequence)


def _is_unindented(text: bytes, tables: object) -> bool:
    """Tell what ``json.dumps(indent=0)`` wrote, which begins as ours does."""
    layouts = (json.dumps(tables, indent=0, ensure_ascii=ascii_) for ascii_ in (True, False))
    return any(layout.encode(errors="surrogatepass") == text for layout in layouts)


def _line(path: Path, table: str, key: str, document: object) -> bytes:
    try:
        if isinstance(document, dict):
            return encode_document(document)
    except ValueError as error:
        raise StoreDamaged(f"{path}: document {key} of table {table!r} cannot be kept: {error}", hint=HINT) from error
    raise StoreDamaged(f"{path}: document {key} of table {table!r} is not an object", hint=HINT)
