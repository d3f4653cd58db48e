"""Which orders a reader asks to see, and where the next page begins."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from multidict import MultiMapping

from poller.order import State
from poller.store import SORTS, Page, Query
from poller.web.guess import did_you_mean, quoted
from poller.web.problem import Fault, Refusal

MOST = 500
DEFAULT_LIMIT = 50
DEFAULT_SORT = "-created_at"
LONGEST_TEXT = 512

_TEXTS = frozenset({"task_id", "remote", "state"})
"""Sorts whose values are text; those of all others are numbers."""


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended, and how it was sorted."""

    sort: str
    value: str | float | None
    remote: str
    task_id: str

    @property
    def place(self) -> tuple[str | float | None, str, str]:
        """The place as a store takes it."""
        return (self.value, self.remote, self.task_id)

    def fits(self, sort: str) -> bool:
        """Tell whether it continues a list sorted like this; nobody but us is to make one, but anybody can."""
        return self.sort == sort and isinstance(self.value, str) == (sort.lstrip("-") in _TEXTS)


def query(given: MultiMapping[str]) -> Query:
    """Read the query parameters of a list; a blank one counts as not given.

    Raises:
        Refusal: 400; it names every parameter that is wrong.
    """
    asked, faults = _read(given)
    sort: str = asked.get("sort", DEFAULT_SORT)
    cursor: Cursor | None = asked.get("cursor")
    if cursor and not faults and not cursor.fits(sort):
        faults = [Fault("cursor", "belongs to a list that is sorted otherwise")]
    if faults:
        raise Refusal(400, "the query is wrong", faults=faults)
    return Query(
        states=asked.get("state"),
        remote=asked.get("remote"),
        batch=asked.get("batch"),
        text=asked.get("q"),
        sort=sort.lstrip("-"),
        descending=sort.startswith("-"),
        after=cursor.place if cursor else None,
        limit=asked.get("limit", DEFAULT_LIMIT),
    )


def next_cursor(page: Page, query: Query) -> str | None:
    """Write where the next page begins; None after the last."""
    if page.next is None:
        return None
    sort = f"-{query.sort}" if query.descending else query.sort
    return urlsafe_b64encode(msgspec.json.encode(Cursor(sort, *page.next))).decode().rstrip("=")


def next_link(given: MultiMapping[str], cursor: str) -> str:
    """Write the address of the next page, as the value of a ``Link`` header (RFC 8288)."""
    kept = [(name, value) for name, value in given.items() if name != "cursor"]
    return f'</orders?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'


def _read(given: MultiMapping[str]) -> tuple[dict[str, Any], list[Fault]]:
    asked: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, reader in _READERS.items():
        values = [value for value in given.getall(name, []) if value]
        try:
            if values:
                asked[name] = reader(values)
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    return asked, faults


def _states(values: Sequence[str]) -> frozenset[State]:
    words = [word for value in values for word in value.split(",")]
    for word in words:
        if word not in set(State):
            raise ValueError(f"has no state {quoted(word)}{did_you_mean(word, State)}; states are {', '.join(State)}")
    return frozenset(State(word) for word in words)


def _text(values: Sequence[str]) -> str:
    text = _only(values)
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"has more than {LONGEST_TEXT} characters")
    if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
        raise ValueError("is not UTF-8")
    return text


def _sort(values: Sequence[str]) -> str:
    sort = _only(values)
    if sort.removeprefix("-") not in SORTS:
        fields = f"{', '.join(SORTS)}, with - before it to begin at the end"
        raise ValueError(f"cannot be {quoted(sort)}{did_you_mean(sort.lstrip('-'), SORTS)}; it is one of {fields}")
    return sort


def _limit(values: Sequence[str]) -> int:
    text = _only(values)
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and 1 <= int(text) <= MOST):
        raise ValueError(f"must be a number from 1 to {MOST}")
    return int(text)


def _cursor(values: Sequence[str]) -> Cursor:
    text = _only(values)
    try:
        return msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (ValueError, msgspec.DecodeError):
        raise ValueError("is not one that we gave; take it unchanged from next") from None


def _only(values: Sequence[str]) -> str:
    if len(values) > 1:
        raise ValueError("is given more than once")
    return values[0]


_READERS: Mapping[str, Callable[[Sequence[str]], Any]] = {
    "state": _states,
    "remote": _text,
    "batch": _text,
    "q": _text,
    "sort": _sort,
    "limit": _limit,
    "cursor": _cursor,
}

NAMES = frozenset(_READERS)
"""The query parameters of a list."""
