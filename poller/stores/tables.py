"""TinyDB's own face over live documents.

TinyDB's storages give and take the whole database with every operation. Ours keeps every
document in memory as its line of JSON, and a table hands it *changes*: what the operation
did, and no more. They go to a sink first (a journal, say) and then into memory, so a sink
that refuses leaves everything as it was.

Two private methods of ``tinydb.table.Table`` carry all of its operations, ``_read_table``
and ``_update_table``; a differential test holds ours to the meaning of theirs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias, cast

import msgspec
from tinydb import TinyDB
from tinydb.queries import QueryLike
from tinydb.table import Document, Table

from poller.stores.journal import Change, Delete, DocId, Drop, Put
from poller.stores.journaled import JournalStorage
from poller.stores.live import LiveStorage
from poller.stores.snapshot import OURS, doc_id_of
from poller.stores.views import Draft, View, decode

Condition: TypeAlias = Callable[[Mapping[str, Any]], bool]
Fields: TypeAlias = Mapping[str, Any] | Callable[[MutableMapping[str, Any]], None]
"""What an update sets, or a callable that does it."""


class LiveTable(Table):
    """A TinyDB table whose operations cost what they change, not what the table holds."""

    _storage: LiveStorage
    _next_id: int | None  # type: ignore[assignment]  # TinyDB begins with None and infers no more

    def __init__(self, storage: LiveStorage, name: str, *args: Any, **kwargs: Any) -> None:
        if name == OURS:
            raise ValueError(f"the table {OURS!r} is poller's own")
        super().__init__(storage, name, *args, **kwargs)

    @property
    def lines(self) -> Mapping[DocId, bytes]:
        """The documents as lines of JSON; never change them here."""
        return self._storage.lines(self.name)

    def matching(self, cond: Condition, doc_ids: Iterable[DocId]) -> Iterator[tuple[DocId, dict[str, Any]]]:
        """Give those of some documents that match, with their ids."""
        lines = self.lines
        for doc_id in doc_ids:
            line = lines.get(doc_id)
            if line is not None and cond(document := decode(line)):
                yield doc_id, document

    def put(self, doc_id: DocId, line: bytes) -> Put:
        """Make the change that puts an encoded document here."""
        return Put(self.name, doc_id, msgspec.Raw(line))

    def delete(self, doc_id: DocId) -> Delete:
        """Make the change that deletes a document here."""
        return Delete(self.name, doc_id)

    def next_id(self) -> int:
        """Take the next free id."""
        return self._get_next_id()

    # --- TinyDB's operations that would read, or copy, more than they need ---

    def get(self, cond: QueryLike | None = None, doc_id: int | None = None, doc_ids: list[int] | None = None) -> Any:
        """Get one document, or those of *doc_ids* that exist, as TinyDB does."""
        if doc_id is not None or doc_ids is None:
            return super().get(cast("QueryLike", cond), cast("None", doc_id))
        wanted = {doc_id_of(str(each)) for each in doc_ids}
        return [self._document(each, line) for each, line in list(self.lines.items()) if each in wanted]

    def update(self, fields: Fields, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Update documents, as TinyDB does."""
        if doc_ids is None and cond is not None:
            doc_ids = self._found(cond)
        return super().update(fields, None, doc_ids)

    def update_multiple(self, updates: Iterable[tuple[Fields, QueryLike]]) -> list[int]:
        """Update documents by several pairs of fields and condition, as TinyDB does."""
        pairs = list(updates)
        found = self._found(lambda document: any(cond(document) for _, cond in pairs))
        updated: list[int] = []

        def updater(draft: Draft) -> None:
            for doc_id in found:
                for fields, cond in pairs:
                    if cond(document := draft[doc_id]):
                        updated.append(doc_id)
                        fields(document) if callable(fields) else document.update(fields)

        self._update_table(updater)
        return updated

    def remove(self, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Remove documents, as TinyDB does."""
        if doc_ids is None and cond is not None:
            doc_ids = self._found(cond)
        return super().remove(None, doc_ids)

    def __len__(self) -> int:
        return len(self.lines)

    def _document(self, doc_id: DocId, line: bytes) -> Document:
        return self.document_class(decode(line), self.document_id_class(doc_id))

    def _found(self, cond: Condition) -> list[Any]:
        return [self.document_id_class(doc_id) for doc_id, _ in self.matching(cond, list(self.lines))]

    def _get_next_id(self) -> int:
        if self._next_id is None:
            self._next_id = self._storage.highest(self.name) + 1
        self._next_id += 1
        return self._next_id - 1

    def _read_table(self) -> View:  # type: ignore[override]  # TinyDB only reads it
        return View(self.lines)

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        draft = Draft(self.lines, self.document_id_class)
        updater(draft)
        self._storage.commit(draft.changes(self.name, exists=self.name in self._storage.names))
        self.clear_cache()


class Database(TinyDB):
    """TinyDB over live tables: ``Database(path)`` is used like ``TinyDB(path)``."""

    table_class = LiveTable  # type: ignore[assignment]  # TinyDB declares its own class, and means a subclass
    default_storage_class = JournalStorage  # type: ignore[assignment]  # the same
    _storage: LiveStorage

    def commit(self, changes: Sequence[Change]) -> None:
        """Make changes to several tables, all or none."""
        self._storage.commit(changes)
        for table in self._tables.values():
            table.clear_cache()

    def tables(self) -> set[str]:
        """Get the names of all tables."""
        return set(self._storage.names)

    def drop_table(self, name: str) -> None:
        """Drop a table and all that is in it."""
        self._tables.pop(name, None)
        if name in self._storage.names:
            self._storage.commit([Drop(name)])

    def drop_tables(self) -> None:
        """Drop all tables."""
        self._storage.commit([Drop(name) for name in self._storage.names])
        self._tables.clear()
