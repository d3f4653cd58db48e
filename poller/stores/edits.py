"""What journals say, summed up, and laid over a snapshot.

A snapshot of a million documents is not read into memory to be folded: it streams by in
blocks, and only what the journals mention is kept. The order of documents is TinyDB's: a document
that was replaced keeps its place, one that went and came back stands at the end.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter

import msgspec

from poller.stores.journal import Change, Create, Delete, DocId, Drop, Put
from poller.stores.pages import Paged, Pages
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
        table = self._tables.get(change.table)
        if table is None:
            table = self._tables[change.table] = _TableEdits()
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


class _TableEdits:
    """What became of one table, in the order in which TinyDB would list it.

    An id that is both gone and among the lines came back: it is passed over in its old place, and
    given at the end.
    """

    def __init__(self, *, dropped: bool = False) -> None:
        self.exists = not dropped
        self._dropped = dropped
        self._gone: Paged[None] = Paged()  # from its place in the snapshot; it may have come back elsewhere
        self._lines: Pages[bytes] = Pages()

    def put(self, doc_id: DocId, line: bytes) -> None:
        self.exists = True
        self._lines[doc_id] = line

    def delete(self, doc_id: DocId) -> None:
        self._lines.pop(doc_id, None)
        self._gone[doc_id] = None

    def over(self, table: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
        if not self.exists:
            return
        yield Row(table)
        if not self._dropped:
            for piece in pieces:
                yield from self._piece(piece)
        for doc_id, line in self._lines.items():
            yield Row(table, doc_id, line)
        for part in (self._lines, self._gone):  # to let go of all at once takes long
            part.dismantle()

    def _piece(self, piece: Piece) -> Iterator[Piece]:
        lines = documents(piece)
        if lines and self._lines.isdisjoint(lines) and self._gone.isdisjoint(lines):
            yield piece
        else:
            yield from (Row(piece.table, doc_id, line) for doc_id, line in self._edited(lines))

    def _edited(self, lines: Mapping[DocId, msgspec.Raw]) -> Iterator[tuple[DocId, bytes]]:
        for doc_id, line in lines.items():
            if doc_id not in self._gone:
                yield doc_id, self._lines.pop(doc_id, None) or bytes(line)


_UNTOUCHED = _TableEdits()
