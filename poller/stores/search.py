"""What a query asks for: in TinyDB's language, and as a quick look at a line before it is decoded."""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from operator import and_
from typing import Any

from tinydb import where
from tinydb.queries import Query as Where
from tinydb.queries import QueryInstance

from poller.store import Query
from poller.stores.listing import mentions


def is_indexed(query: Query) -> bool:
    """Tell whether an index has what is asked for, in order."""
    return query.sort == "created_at" and query.text is None


def condition(query: Query) -> QueryInstance:
    """Write what a listing asks for in TinyDB's query language."""
    conditions = [Where().noop()]
    if query.states is not None:
        conditions.append(where("state").one_of(list(query.states)))
    if query.remote is not None:
        conditions.append(where("remote") == query.remote)
    if query.batch is not None:
        conditions.append(where("batch") == query.batch)
    if query.text is not None:
        conditions.append(Where().map(partial(_mentions, query.text)).test(bool))
    return reduce(and_, conditions)


def likely(query: Query) -> Callable[[bytes], bool]:
    """Give a test that only lines fail whose orders do not match: most of them, in a tenth of the time."""
    text = (query.text or "").casefold().encode()
    return partial(_holds, text) if text and _stands_as_it_is(text) else lambda _: True


def _holds(text: bytes, line: bytes) -> bool:
    """Beyond ASCII, and in numbers with an exponent, the same text can be written in several ways."""
    return text in line.lower() or b"e+" in line or b"e-0" in line or b"\\" in line or not line.isascii()


def _stands_as_it_is(text: bytes) -> bool:
    """Tell whether JSON has only one way to write a text."""
    return text.isascii() and text.decode().isprintable() and not set(text) & set(b'"\\/')


def _mentions(text: str, document: Mapping[str, Any]) -> bool:
    return mentions(text, document["task_id"], document.get("reason"), document.get("context", {}))
