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
from tinydb.storages import Storage
from tinydb.table import Document, Table

from poller.stores.journal import Change, Delete, DocId, Drop, Put
from poller.stores.journaled import JournalStorage
from poller.stores.live import LiveStorage
from poller.stores.pieces import OURS, doc_id_of
from poller.stores.views import Draft, View, decode

Condition: TypeAlias = Callable[[Mapping[str, Any]], bool]
Fields: TypeAlias = Mapping[str, Any] | Callable[[MutableMapping[str, Any]], None]
"""What an update sets, or a callable that does it."""


class LiveTable(Table):
    """A TinyDB table whose operations cost what they change, not what the table holds.

    Over a storage that is not live (one of TinyDB's own, or a middleware around one of ours)
    it is TinyDB's table and no more: such a storage takes whole databases.

    What TinyDB takes and this refuses, with a ValueError and nothing changed: NaN and the
    infinities, and text with half a surrogate pair. Neither can be written as JSON in UTF-8.
    """

    _next_id: int | None  # type: ignore[assignment]  # TinyDB begins with None and infers no more

    def __init__(self, storage: Storage, name: str, *args: Any, **kwargs: Any) -> None:
        self._live = storage if isinstance(storage, LiveStorage) else None
        if self._live and name == OURS:
            raise ValueError(f"the table {OURS!r} is poller's own")
        if not args:
            kwargs.setdefault("cache_size", self.default_query_cache_capacity)
        super().__init__(storage, name, *args, **kwargs)

    def __repr__(self) -> str:
        return cast("str", Table.__repr__(self)).replace("<LiveTable ", "<Table ", 1)  # type: ignore[no-untyped-call]

    @property
    def lines(self) -> Mapping[DocId, bytes]:
        """The documents as lines of JSON; never change them here.

        Raises:
            TypeError: the storage is not live.
        """
        return _demand(self._live, self._storage).lines(self.name)

    def walk(self) -> Iterator[int]:
        """Give the ids of the documents that are here now, bit by bit, whatever is done to them meanwhile.

        Raises:
            TypeError: the storage is not live.
        """
        return cast("Iterator[int]", _demand(self._live, self._storage).lines(self.name).walk())

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

    def next_ids(self, count: int) -> range:
        """Take the next free ids."""
        first = self._get_next_id()
        self._next_id = first + count
        return range(first, first + count)

    # --- TinyDB's operations that would read, or copy, more than they need ---

    def get(self, cond: QueryLike | None = None, doc_id: int | None = None, doc_ids: list[int] | None = None) -> Any:
        """Get one document, or those of *doc_ids* that exist, as TinyDB does."""
        if self._live is None or doc_id is not None or doc_ids is None:
            return super().get(cast("QueryLike", cond), cast("None", doc_id), cast("Any", doc_ids))
        wanted = {doc_id_of(str(each)) for each in doc_ids}
        return [self._document(each, line) for each, line in list(self.lines.items()) if each in wanted]

    def update(self, fields: Fields, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Update documents, as TinyDB does."""
        if self._live is None or doc_ids is not None:
            return super().update(fields, cond, doc_ids)
        return self._edit([(fields, _any if cond is None else cond)])

    def update_multiple(self, updates: Iterable[tuple[Fields, QueryLike]]) -> list[int]:
        """Update documents by several pairs of fields and condition, as TinyDB does."""
        return super().update_multiple(updates) if self._live is None else self._edit(list(updates))

    def remove(self, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Remove documents, as TinyDB does."""
        if self._live is None or doc_ids is not None or cond is None:
            return super().remove(cond, doc_ids)
        removed: list[int] = []

        def updater(draft: Draft) -> None:
            removed.extend(draft.take(doc_id) for doc_id, document in draft.scan() if cond(document))

        self._update_table(updater)
        return removed

    def _edit(self, pairs: Sequence[tuple[Fields, Condition]]) -> list[int]:
        updated: list[int] = []

        def updater(draft: Draft) -> None:
            for doc_id, document in draft.scan():
                for fields, cond in pairs:
                    if cond(document):
                        updated.append(draft.edit(doc_id, document))
                        fields(document) if callable(fields) else document.update(fields)

        self._update_table(updater)
        return updated

    # --- What all of its other operations go through ---

    def _document(self, doc_id: DocId, line: bytes) -> Document:
        return self.document_class(decode(line), self.document_id_class(doc_id))

    def _get_next_id(self) -> int:
        if self._live is not None and self._next_id is None:
            self._next_id = self._live.highest(self.name) + 1
        return cast("int", super()._get_next_id())  # type: ignore[no-untyped-call]

    def _read_table(self) -> Any:
        return super()._read_table() if self._live is None else View(self._live.lines(self.name))

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        if self._live is None:
            super()._update_table(updater)
            return
        draft = Draft(self.lines, self.document_id_class)
        updater(draft)
        self._live.commit(draft.changes(self.name, exists=self.name in self._live.names))
        self.clear_cache()


class Database(TinyDB):
    """TinyDB over live tables: ``Database(path)`` is used like ``TinyDB(path)``."""

    table_class = LiveTable
    default_storage_class = JournalStorage  # type: ignore[assignment]  # the same

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._live = self._storage if isinstance(self._storage, LiveStorage) else None

    def __repr__(self) -> str:
        return cast("str", TinyDB.__repr__(self)).replace("<Database ", "<TinyDB ", 1)  # type: ignore[no-untyped-call]

    def commit(self, changes: Sequence[Change]) -> None:
        """Make changes to several tables, all or none.

        Raises:
            TypeError: the storage is not live.
        """
        _demand(self._live, self._storage).commit(changes)
        for table in self._tables.values():
            table.clear_cache()

    def tables(self) -> set[str]:
        """Get the names of all tables."""
        return super().tables() if self._live is None else set(self._live.names)

    def drop_table(self, name: str) -> None:
        """Drop a table and all that is in it."""
        if self._live is None:
            super().drop_table(name)
            return
        self._tables.pop(name, None)
        if name in self._live.names:
            self._live.commit([Drop(name)])

    def drop_tables(self) -> None:
        """Drop all tables."""
        if self._live is None:
            super().drop_tables()
            return
        self._live.commit([Drop(name) for name in self._live.names])
        self._tables.clear()


def _any(_: Mapping[str, Any]) -> bool:
    return True


def _demand(live: LiveStorage | None, storage: Storage) -> LiveStorage:
    if live is None:
        raise TypeError(f"a {type(storage).__name__} takes whole databases, and no changes as LiveStorage does")
    return live
