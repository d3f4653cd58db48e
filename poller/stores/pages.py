"""Mappings that grow in short steps, however large they get.

A dictionary that is full moves into one of twice the size, all at once and with the interpreter
lock held: with a million entries for 30 to 200 ms, for which no other thread of the process runs.
So what holds something of every document is many dictionaries, none of them large.

``Paged`` is for ids, page by page; ``Pages`` for ids in the order in which they came; ``Shards``
for texts. Ids are expected to lie close together, as those that are given out one after the other
do: of ids that do not, each has a page of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import chain
from operator import lt
from typing import Any, Generic, TypeVar, cast

from poller.stores.journal import DocId

T = TypeVar("T")
_SHIFT = 14
"""A page has the 16,384 ids that differ in their last bits alone: it moves within a millisecond or two."""
_CLOSE = 2
"""Pages on which ids that lie close together are."""
_SHRINKS = frozenset({2048, 256, 16})
"""Ids left at which a page moves into a smaller dictionary: none shrinks by itself, and some orders stay for long."""
_SHARDS = 128
"""Of a million texts each shard has some eight thousand."""


class Paged(MutableMapping[DocId, T]):
    """A mapping of ids, page by page, in the order in which the pages came.

    As in a dictionary, ``1.0`` is ``1``. Ids that are no numbers are all on one page.
    """

    def __init__(self) -> None:
        self._pages: dict[int | None, dict[DocId, T]] = {}

    def __getitem__(self, doc_id: DocId) -> T:
        number = doc_id >> _SHIFT if type(doc_id) is int else _number(doc_id)  # at once: this is asked very often
        page: dict[DocId, T] = self._pages.get(number, _NOTHING)
        return page[doc_id]

    def get(self, doc_id: DocId, default: Any = None) -> Any:
        """Give what is under an id."""
        number = doc_id >> _SHIFT if type(doc_id) is int else _number(doc_id)
        return self._pages.get(number, _NOTHING).get(doc_id, default)

    def __contains__(self, doc_id: object) -> bool:
        return doc_id in self._pages.get(_number(doc_id), _NOTHING)

    def __setitem__(self, doc_id: DocId, value: T) -> None:
        number = doc_id >> _SHIFT if type(doc_id) is int else _number(doc_id)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = {}
        page[doc_id] = value

    def __delitem__(self, doc_id: DocId) -> None:
        number = _number(doc_id)
        page = self._pages.get(number, _NOTHING)
        del page[doc_id]
        if not page:
            del self._pages[number]
        elif len(page) in _SHRINKS:
            self._pages[number] = dict(page)

    def pop(self, doc_id: DocId, default: Any = None) -> Any:
        """Take out what is under an id."""
        value = self.get(doc_id, _NOTHING)
        if value is _NOTHING:
            return default
        del self[doc_id]
        return value

    def __len__(self) -> int:
        return sum(map(len, self._pages.values()))

    def __iter__(self) -> Iterator[DocId]:
        return chain.from_iterable(self._pages.values())

    def walk(self) -> Iterator[DocId]:
        """Give the ids, a page at a time, whatever is done meanwhile; those that come late may be among them."""
        pages = (self._pages.get(number, _NOTHING) for number in list(self._pages))
        return chain.from_iterable(map(list, pages))

    def isdisjoint(self, others: Mapping[DocId, object]) -> bool:
        """Tell whether none of some ids is here: quickly if they lie close together, one by one if they do not."""
        numbers = {_number(doc_id) for doc_id in others}
        pages = [page for number in numbers if (page := self._pages.get(number))]
        if len(pages) > _CLOSE:
            return not any(doc_id in self for doc_id in others)
        return all(page.keys().isdisjoint(others) for page in pages)

    def dismantle(self) -> None:
        """Take everything out, a page at a time."""
        while self._pages:
            self._pages.popitem()


class Pages(Paged[T]):
    """A mapping of ids that is in the order in which they came, as a dictionary is.

    While every id that comes is greater than all before it, the pages are in order by
    themselves. From the first that is not, the order is written down.
    """

    def __init__(self) -> None:
        super().__init__()
        self._greatest: float = float("-inf")
        self._order: _Order | None = None

    def __setitem__(self, doc_id: DocId, value: T) -> None:
        if self._order is None and type(doc_id) is int and doc_id > self._greatest:
            self._greatest = doc_id
        elif doc_id not in self:
            self._order = self._order or _Order(self)
            self._order.add(doc_id)
        super().__setitem__(doc_id, value)

    def __delitem__(self, doc_id: DocId) -> None:
        super().__delitem__(doc_id)
        if self._order is not None:
            self._order.remove(doc_id)

    def __iter__(self) -> Iterator[DocId]:
        return super().__iter__() if self._order is None else iter(self._order)

    def items(self) -> Iterator[tuple[DocId, T]]:  # type: ignore[override]
        """Give ids and values, in order."""
        if self._order is not None:
            return ((doc_id, self[doc_id]) for doc_id in self._order)
        return chain.from_iterable([page.items() for page in self._pages.values()])

    def load(self, some: Mapping[DocId, T]) -> None:
        """Take many in; of ids that come in order, a page's at a time."""
        ids = [doc_id for doc_id in some if type(doc_id) is int]
        if len(ids) < len(some) or not ids or not self._go_on_with(ids):
            for doc_id, value in some.items():
                self[doc_id] = value
            return
        self._pages.setdefault(ids[0] >> _SHIFT, {}).update(some)
        self._greatest = ids[-1]

    def _go_on_with(self, ids: Sequence[int]) -> bool:
        """Tell whether some ids are all on one page, in order, and come after all that are here."""
        on_one_page = ids[0] >> _SHIFT == ids[-1] >> _SHIFT
        return self._order is None and self._greatest < ids[0] and on_one_page and all(map(lt, ids, ids[1:]))

    def highest(self) -> int:
        """Give the highest number among the ids, 0 if there is none."""
        number = max((number for number in self._pages if number is not None), default=None)
        return 0 if number is None else cast("int", max(self._pages[number]))

    def dismantle(self) -> None:
        """Take everything out, a page at a time."""
        if self._order is not None:
            self._order.dismantle()
            self._order = None
        super().dismantle()


class _Order:
    """The order in which ids came: each has a place, and each next place is greater."""

    def __init__(self, doc_ids: Iterable[DocId]) -> None:
        self._places: Paged[int] = Paged()
        self._ids: Paged[DocId] = Paged()
        self._next = 0
        for doc_id in doc_ids:
            self.add(doc_id)

    def __iter__(self) -> Iterator[DocId]:
        return (self._ids[place] for place in self._ids)

    def add(self, doc_id: DocId) -> None:
        self._places[doc_id] = self._next
        self._ids[self._next] = doc_id
        self._next += 1

    def remove(self, doc_id: DocId) -> None:
        del self._ids[self._places.pop(doc_id)]

    def dismantle(self) -> None:
        self._places.dismantle()
        self._ids.dismantle()


class Shards(Generic[T]):
    """A mapping of texts, in no order."""

    def __init__(self) -> None:
        self._shards: list[dict[str, T]] = [{} for _ in range(_SHARDS)]

    def get(self, text: str) -> T | None:
        """Give what is under a text."""
        return self._shards[_shard(text)].get(text)

    def setdefault(self, text: str, value: T) -> T:
        """Give what is under a text; if nothing is, put *value* there."""
        return self._shards[_shard(text)].setdefault(text, value)

    def __setitem__(self, text: str, value: T) -> None:
        self._shards[_shard(text)][text] = value

    def __delitem__(self, text: str) -> None:
        del self._shards[_shard(text)][text]

    def dismantle(self) -> None:
        """Take everything out, a shard at a time."""
        for shard in self._shards:
            shard.clear()


_NOTHING: dict[DocId, Any] = {}
"""A page that is not there, and what nobody can have put anywhere."""


def _shard(text: str) -> int:
    """Tell in which shard a text is, by bits that the shard's dictionary does not look at first."""
    return (hash(text) >> 48) % _SHARDS


def _number(doc_id: object) -> int | None:
    """Tell on which page an id is; None is that of ids that are no numbers."""
    if type(doc_id) is int:
        return doc_id >> _SHIFT
    try:
        whole = int(doc_id)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return whole >> _SHIFT if whole == doc_id else None
