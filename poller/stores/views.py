"""A table as TinyDB's own code reads it, and as its updaters change it."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping
from typing import Any, cast

import msgspec

from poller.stores.journal import Change, Create, Delete, DocId, Drop, Put
from poller.stores.pieces import doc_id_of, encode_document

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
        return _Items(self, self._lines)


class _Items(ItemsView[str, dict[str, Any]]):
    def __init__(self, view: View, lines: Mapping[DocId, bytes]) -> None:
        super().__init__(view)
        self._lines = lines

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((str(doc_id), decode(line)) for doc_id, line in list(self._lines.items()))


class Draft(MutableMapping[Any, dict[str, Any]]):
    """A table as TinyDB's updaters see it: ids have their class, and nothing is changed yet.

    Args:
        lines: the table as it is.
        id_class: makes an id of its text. Numbers are found as a dictionary finds them;
            ids of any other class are told apart by their text.
    """

    def __init__(self, lines: Mapping[DocId, bytes], id_class: Callable[[Any], Any]) -> None:
        self._lines = lines
        self._id_class = id_class
        self._numbered = isinstance(id_class, type) and issubclass(id_class, int)
        self._cleared = False
        self._gone: set[Any] = set()
        self._edits: dict[Any, dict[str, Any]] = {}

    def changes(self, table: str, *, exists: bool) -> list[Change]:
        """Tell what was done, as changes to the table.

        Raises:
            TypeError, ValueError, RecursionError: a document holds what JSON does not have,
                or has an id that is none.
        """
        changes: list[Change] = [Drop(table)] if self._cleared and exists else []
        if self._cleared or not exists:
            changes.append(Create(table))
        changes.extend(Delete(table, doc_id) for doc_id in self._gone)
        for slot, document in self._edits.items():
            doc_id, line = self._written(slot), encode_document(document)
            if slot in self._gone or line != self._lines.get(doc_id):
                changes.append(Put(table, doc_id, msgspec.Raw(line)))
        return changes

    def scan(self) -> Iterator[tuple[DocId, dict[str, Any]]]:
        """Give a copy of each document of the table; those to be changed are to be given to ``edit``."""
        return ((doc_id, decode(line)) for doc_id, line in list(self._lines.items()))

    def edit(self, doc_id: DocId, document: dict[str, Any]) -> Any:
        """Take a document that ``scan`` gave, to be changed; give its id."""
        self._edits[doc_id] = document
        return self._id(doc_id)

    def take(self, doc_id: DocId) -> Any:
        """Take out a document that ``scan`` gave; give its id."""
        self._gone.add(doc_id)
        return self._id(doc_id)

    def clear(self) -> None:
        """Take everything out."""
        self._lines, self._edits, self._gone, self._cleared = {}, {}, set(), True

    def __getitem__(self, key: object) -> dict[str, Any]:
        slot = self._slot(key)
        if slot not in self._edits:
            if slot not in self._lines or slot in self._gone:
                raise KeyError(key)
            self._edits[slot] = decode(self._lines[slot])
        return self._edits[slot]

    def __setitem__(self, key: object, document: dict[str, Any]) -> None:
        if not isinstance(document, Mapping):
            raise ValueError("Document is not a Mapping")  # noqa: TRY004  # TinyDB's own words and class
        self._edits[self._slot(key)] = document

    def __delitem__(self, key: object) -> None:
        if key not in self:
            raise KeyError(key)
        slot = self._slot(key)
        self._edits.pop(slot, None)
        if slot in self._lines:
            self._gone.add(slot)

    def __contains__(self, key: object) -> bool:
        slot = self._slot(key)
        return slot in self._edits or (slot in self._lines and slot not in self._gone)

    def __iter__(self) -> Iterator[Any]:
        kept = [doc_id for doc_id in self._lines if doc_id not in self._gone]
        return map(self._id, [*kept, *self._new()])

    def __len__(self) -> int:
        return len(self._lines) - len(self._gone) + len(self._new())

    def _new(self) -> list[Any]:
        return [doc_id for doc_id in self._edits if doc_id not in self._lines or doc_id in self._gone]

    def _id(self, doc_id: Any) -> Any:
        return doc_id if self._id_class is int and type(doc_id) is int else self._id_class(str(doc_id))

    def _slot(self, key: Any) -> Any:
        """Tell where a document stands, as a dictionary by ids would: 1.0 is 1, and "1" is not."""
        if type(key) is int:
            return key
        if not self._numbered:
            return doc_id_of(str(key))
        return int(key) if key in self._lines and not isinstance(key, str) else key

    def _written(self, slot: Any) -> DocId:
        """Tell the id under which a document is kept: TinyDB writes any id as text."""
        if type(slot) is int or slot in self._lines or not self._numbered:
            return cast("DocId", slot)
        return doc_id_of(str(self._id_class(str(slot))))
