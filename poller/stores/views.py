"""A table as TinyDB's own code reads it, and as its updaters change it."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping
from typing import Any

import msgspec

from poller.stores.journal import Change, Create, Delete, DocId, Drop, Put
from poller.stores.snapshot import doc_id_of, encode_document

decode = msgspec.json.Decoder(dict[str, Any]).decode
"""Reads a document's line."""


class View(Mapping[str, dict[str, Any]]):
    """A table as TinyDB reads it: ids are text, documents are fresh copies."""

    def __init__(self, lines: Mapping[DocId, bytes]) -> None:
        self._lines = lines

    def __getitem__(self, key: str) -> dict[str, Any]:
        return decode(self._lines[doc_id_of(key)])

    def __iter__(self) -> Iterator[str]:
        return map(str, list(self._lines))

    def __len__(self) -> int:
        return len(self._lines)

    def items(self) -> ItemsView[str, dict[str, Any]]:
        """Give all documents as they are now, whatever is done to the table meanwhile."""
        return _Items(self._lines)


class _Items(ItemsView[str, dict[str, Any]]):
    def __init__(self, lines: Mapping[DocId, bytes]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((str(doc_id), decode(line)) for doc_id, line in list(self._lines.items()))


class Draft(MutableMapping[Any, dict[str, Any]]):
    """A table as TinyDB's updaters see it: ids have their class, and nothing is changed yet."""

    def __init__(self, lines: Mapping[DocId, bytes], id_class: Callable[[DocId], Any]) -> None:
        self._lines = lines
        self._id_class = id_class
        self._cleared = False
        self._edits: dict[DocId, dict[str, Any] | None] = {}

    def changes(self, table: str, *, exists: bool) -> list[Change]:
        """Tell what was done, as changes to the table."""
        changes: list[Change] = [Drop(table)] if self._cleared and exists else []
        if self._cleared or not exists:
            changes.append(Create(table))
        for doc_id, document in self._edits.items():
            if document is None:
                changes.append(Delete(table, doc_id))
            elif (line := encode_document(document)) != self._lines.get(doc_id):
                changes.append(Put(table, doc_id, msgspec.Raw(line)))
        return changes

    def clear(self) -> None:
        """Take everything out."""
        self._lines, self._edits, self._cleared = {}, {}, True

    def __getitem__(self, key: object) -> dict[str, Any]:
        doc_id = _slot(key)
        document = self._edits[doc_id] if doc_id in self._edits else decode(self._lines[doc_id])
        if document is None:
            raise KeyError(key)
        self._edits[doc_id] = document
        return document

    def __setitem__(self, key: object, document: dict[str, Any]) -> None:
        self._edits[_slot(key)] = document

    def __delitem__(self, key: object) -> None:
        if key not in self:
            raise KeyError(key)
        doc_id = _slot(key)
        if doc_id in self._lines:
            self._edits[doc_id] = None
        else:
            del self._edits[doc_id]

    def __contains__(self, key: object) -> bool:
        doc_id = _slot(key)
        return self._edits[doc_id] is not None if doc_id in self._edits else doc_id in self._lines

    def __iter__(self) -> Iterator[Any]:
        fresh = [doc_id for doc_id in self._edits if doc_id not in self._lines]
        return (self._id_class(doc_id) for doc_id in (*self._lines, *fresh) if self._edits.get(doc_id, ...) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _slot(key: object) -> DocId:
    return key if type(key) is int else doc_id_of(str(key))
