"""What journals say, summed up, and laid over a snapshot.

A snapshot of a million documents is not read into memory to be folded: it streams by in
blocks, and only what the journals mention is kept. The order of documents is TinyDB's: a document
that was replaced keeps its place, one that went and came back stands at the end.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

import msgspec

from poller.stores.journal import Change, Create, Delete, DocId, Drop, Put
from poller.stores.pieces import Piece, Row, documents


class Edits:
    """The last word of some journals on every document they mention."""

    def __init__(self) -> None:
        self._tables: dict[str, _TableEdits] = {}

    def __bool__(self) -> bool:
        return bool(self._tables)

    def apply(self, change: Change) -> None:
        """Take the next change in."""
        if isinstance(change, Drop):
            self._tables[change.table] = _TableEdits(dropped=True)
            return
        table = self._tables.setdefault(change.table, _TableEdits())
        match change:
            case Put(doc_id=doc_id, line=line):
                table.put(doc_id, bytes(line))
            case Delete(doc_id=doc_id):
                table.delete(doc_id)
            case Create():
                table.exists = True

    def over(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Give a snapshot's pieces as they are after these edits. Uses them up."""
        for table, own in groupby(pieces, key=attrgetter("table")):
            yield from self._tables.pop(table, _UNTOUCHED).over(table, own)
        for table in list(self._tables):
            yield from self._tables.pop(table).over(table, ())


class _Edit(msgspec.Struct, gc=False):
    """What became of one document: *line* is None if it is gone, *moved* if it came back since."""

    line: bytes | None
    moved: bool = False


class _TableEdits:
    """What became of one table, in the order in which TinyDB would list it."""

    def __init__(self, *, dropped: bool = False) -> None:
        self.exists = not dropped
        self._dropped = dropped
        self._documents: dict[DocId, _Edit] = {}

    def put(self, doc_id: DocId, line: bytes) -> None:
        self.exists = True
        before = self._documents.get(doc_id)
        if before is None:
            self._documents[doc_id] = _Edit(line)
        elif before.line is None:
            del self._documents[doc_id]
            self._documents[doc_id] = _Edit(line, moved=True)
        else:
            before.line = line

    def delete(self, doc_id: DocId) -> None:
        self._documents[doc_id] = _Edit(None)

    def over(self, table: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
        if not self.exists:
            return
        yield Row(table)
        if not self._dropped:
            for piece in pieces:
                yield from self._piece(piece)
        for doc_id in list(self._documents):  # one goes after the other: to let go of all at once takes long
            line = self._documents.pop(doc_id).line
            if line is not None:
                yield Row(table, doc_id, line)

    def _piece(self, piece: Piece) -> Iterator[Piece]:
        lines = documents(piece)
        if lines and self._documents.keys().isdisjoint(lines):
            yield piece
        else:
            for doc_id, line in lines.items():
                yield from self._document(piece.table, doc_id, line)

    def _document(self, table: str, doc_id: DocId, line: msgspec.Raw) -> Iterator[Row]:
        edit = self._documents.get(doc_id)
        if edit is None:
            yield Row(table, doc_id, bytes(line))
        elif not edit.moved:
            del self._documents[doc_id]
            if edit.line is not None:
                yield Row(table, doc_id, edit.line)


_UNTOUCHED = _TableEdits()
