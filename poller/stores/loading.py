"""Taking in what was stored: the tables' lines, and the index of what is in them.

A million orders are not decoded one by one: a block's lines are cut apart at once, and what
the index needs of them is read at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from poller.errors import StoreDamaged
from poller.order import Order, State
from poller.stores.index import MOST_IDS, EventHead, Events, Head, Index, is_moment
from poller.stores.journal import HINT, Change, DocId, Put
from poller.stores.live import LiveStorage
from poller.stores.pieces import Block, Piece, documents

T = TypeVar("T")
Line: TypeAlias = bytes | msgspec.Raw
ORDERS, EVENTS, HABITS = "orders", "events", "habits"

_order = msgspec.json.Decoder(Order).decode
_head = msgspec.json.Decoder(Head).decode
_heads = msgspec.json.Decoder(dict[int, Head]).decode
_event_head = msgspec.json.Decoder(EventHead).decode


def load(pieces: Iterable[Piece], storage: LiveStorage, *, path: Path, vet: bool) -> Index:
    """Put what was stored into *storage*, and make the index of it.

    Args:
        pieces: what was stored.
        storage: empty so far.
        path: the file that complaints are to name.
        vet: whether every order must be read, because others wrote them.

    Raises:
        StoreDamaged: a document is no order or no event.
    """
    return _Loading(storage, path, vet=vet).load(pieces)


class _Loading:
    def __init__(self, storage: LiveStorage, path: Path, *, vet: bool) -> None:
        self._storage = storage
        self._path = path
        self._vet = vet

    def load(self, pieces: Iterable[Piece]) -> Index:
        try:
            index = Index.of(map(self._take_in, pieces))
        except KeyError as error:
            raise self._unfit(ORDERS, error.args[0], "an order of this key is there already") from None
        if ORDERS not in self._storage.names:
            raise StoreDamaged(f"{self._path} has no table {ORDERS!r}", hint=HINT)
        self._load_events(index)
        return index

    def _take_in(self, piece: Piece) -> Iterable[tuple[int, Head | Order]]:
        """Take in one piece; give what the index needs of it."""
        try:
            lines = documents(piece)
        except msgspec.MsgspecError as error:
            reason = f"{self._path}: a part of table {piece.table!r} is not understood: {error}"
            raise StoreDamaged(reason, hint=HINT) from error
        self._storage.load(piece.table, lines)
        return self._heads(piece, lines) if piece.table == ORDERS else ()

    def _heads(self, piece: Piece, lines: Mapping[DocId, msgspec.Raw]) -> Iterable[tuple[int, Head | Order]]:
        """Read a block's heads at once if that can be; one by one if others wrote it, or to find the unfit one."""
        with suppress(msgspec.MsgspecError):
            if isinstance(piece, Block) and not self._vet:
                heads = _heads(piece.json)
                if min(heads) >= 0 and max(heads) < MOST_IDS:
                    return zip(heads, heads.values(), strict=True)
        return self._numbered(ORDERS, lines, vetted if self._vet else _head)

    def _load_events(self, index: Index) -> None:
        for event_id, head in self._numbered(EVENTS, self._storage.lines(EVENTS), _event_head):
            doc_id = index.doc_id(head.remote, head.task_id)
            if doc_id is None:
                raise self._unfit(EVENTS, event_id, "its order is not there")
            dropped, ids = index.events(doc_id)  # those that a repair could not find count as dropped
            index.set_events(doc_id, Events(max(dropped, head.number - len(ids) - 1), (*ids, event_id)))

    def _numbered(self, table: str, lines: Mapping[DocId, Line], read: Callable[[Line], T]) -> Iterator[tuple[int, T]]:
        for doc_id, line in lines.items():
            if not isinstance(doc_id, int) or not 0 <= doc_id < MOST_IDS:
                raise self._unfit(table, doc_id, f"its id is no number from 0 to {MOST_IDS - 1}")
            try:
                document = read(line)
            except msgspec.MsgspecError as error:
                raise self._unfit(table, doc_id, str(error)) from error
            yield doc_id, document

    def _unfit(self, table: str, doc_id: object, why: str) -> StoreDamaged:
        return StoreDamaged(f"{self._path}: document {doc_id} of table {table!r} cannot be used: {why}", hint=HINT)


class _Whose(msgspec.Struct, gc=False):
    """What orders and events have in common."""

    remote: str
    task_id: str


_whose = msgspec.json.Decoder(_Whose).decode
_changes = msgspec.json.Decoder(tuple[Change, ...]).decode


def keys_in(changes: bytes) -> set[tuple[str, str]]:
    """Tell which orders some encoded changes are about; one that was deleted is not named in them."""
    puts = [put for put in _changes(b"[%s]" % changes) if isinstance(put, Put) and put.table in {ORDERS, EVENTS}]
    return {(head.remote, head.task_id) for head in (_whose(put.line) for put in puts)}


def vetted(line: Line) -> Order:
    """Read an order that somebody else wrote.

    Raises:
        msgspec.MsgspecError: a poller cannot work with it.
    """
    order = _order(line)
    if not all(map(is_moment, (order.created_at, order.updated_at, order.opened_at, order.deadline, order.due_at))):
        raise msgspec.ValidationError("it has a time that no clock shows")
    if order.state is State.PENDING and order.due_at is None:
        raise msgspec.ValidationError("it is pending, and due at no time")
    return order
