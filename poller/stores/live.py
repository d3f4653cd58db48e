"""Tables in memory, each document as its line of JSON."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from tinydb.storages import Storage

from poller.stores.journal import Change, Create, Delete, DocId, Drop, Put
from poller.stores.pages import Pages
from poller.stores.pieces import OURS, Piece, doc_id_of, documents, encode_document
from poller.stores.views import decode

Sink: TypeAlias = Callable[[Sequence[Change]], None]
"""Is given changes before they are made, and may refuse them by raising."""


_NOTHING: Pages[bytes] = Pages()


class LiveStorage(Storage):
    """Tables in memory.

    Args:
        pieces: what to begin with.
        sink: is given every change before it is made, and may refuse it by raising.
    """

    def __init__(self, pieces: Iterable[Piece] = (), *, sink: Sink = lambda _: None) -> None:
        super().__init__()
        self._tables: dict[str, Pages[bytes]] = {}
        self.sink = sink
        for piece in pieces:
            self.load(piece.table, documents(piece))

    def load(self, table: str, documents: Mapping[DocId, msgspec.Raw]) -> None:
        """Take in documents of a table, which comes to be if it is not there."""
        self._table(table).load({doc_id: bytes(line) for doc_id, line in documents.items()})

    @property
    def names(self) -> frozenset[str]:
        """Which tables there are."""
        return frozenset(self._tables)

    def lines(self, table: str) -> Pages[bytes]:
        """Give one table's documents as lines of JSON; empty if there is no such table."""
        return self._tables.get(table, _NOTHING)

    def highest(self, table: str) -> int:
        """Give the highest id in a table, 0 if it is empty."""
        return self._tables.get(table, _NOTHING).highest()

    def dismantle(self) -> None:
        """Take everything out, bit by bit, and tell no sink."""
        for lines in self._tables.values():
            lines.dismantle()

    def commit(self, changes: Sequence[Change]) -> None:
        """Make changes, all or none."""
        if changes:
            self.sink(changes)
            for change in changes:
                if type(change) is Put:  # as nearly all are
                    self._table(change.table)[change.doc_id] = bytes(change.line)
                else:
                    self._apply(change)

    def read(self) -> dict[str, dict[str, Any]] | None:
        """Give a copy of everything, as TinyDB's storages do."""
        tables = {
            name: {str(doc_id): decode(line) for doc_id, line in lines.items()} for name, lines in self._tables.items()
        }
        return tables or None

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Replace everything, as TinyDB's storages do; what stays as it is costs no change.

        Raises:
            TypeError, ValueError: it is no database, or holds what JSON does not have.
        """
        _demand_database(data)
        changes: list[Change] = [Drop(name) for name in self._tables if name not in data]
        for name, table in data.items():
            lines = {doc_id_of(str(key)): encode_document(document) for key, document in table.items()}
            changes.extend(_changes(name, self._tables.get(name), lines))
        self.commit(changes)

    def _apply(self, change: Change) -> None:
        if isinstance(change, Drop):
            self._tables.pop(change.table, None)
            return
        lines = self._table(change.table)
        if isinstance(change, Delete):
            lines.pop(change.doc_id, None)

    def _table(self, name: str) -> Pages[bytes]:
        lines = self._tables.get(name)
        if lines is None:
            lines = self._tables[name] = Pages()
        return lines


def _changes(table: str, before: Mapping[DocId, bytes] | None, after: Mapping[DocId, bytes]) -> Iterator[Change]:
    """Tell what makes a table into another, whose documents may stand in another order."""
    if before is None:
        yield Create(table)
        before = {}
    kept = [doc_id for doc_id in before if doc_id in after]
    if kept != list(islice(after, len(kept))):
        yield from (Drop(table), Create(table))
        before = {}
    yield from (Delete(table, doc_id) for doc_id in before if doc_id not in after)
    yield from (Put(table, doc_id, msgspec.Raw(line)) for doc_id, line in after.items() if line != before.get(doc_id))


def _demand_database(data: Mapping[str, Any]) -> None:
    if OURS in data:
        raise ValueError(f"the table {OURS!r} is poller's own")
    for name, table in data.items():
        if not isinstance(table, Mapping) or not all(isinstance(document, Mapping) for document in table.values()):
            raise TypeError(f"{name!r} is not a table: a database is tables of documents, each a mapping")
