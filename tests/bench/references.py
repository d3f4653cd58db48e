"""What the store is compared with: the plainest honest way to do the same."""

import gc
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from poller.order import Order
from poller.stores.index import Head

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@contextmanager
def appending(path: Path) -> Iterator[Callable[[bytes], float]]:
    """Give what writes a line, syncs it and tells how many seconds that took."""
    descriptor = os.open(path, _APPEND, 0o640)

    def append(line: bytes) -> float:
        began = perf_counter()
        os.write(descriptor, line)
        os.fdatasync(descriptor)
        return perf_counter() - began

    try:
        yield append
    finally:
        os.close(descriptor)


class Sqlite:
    """A table of orders in SQLite: one connection, write-ahead log, each statement its own transaction.

    Args:
        path: a file that does not exist.
        synchronous: ``FULL`` syncs every commit, ``NORMAL`` none.
    """

    def __init__(self, path: Path, *, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.connection.execute(
            "CREATE TABLE orders (remote TEXT, task_id TEXT, state TEXT, updated_at REAL, document BLOB, "
            "PRIMARY KEY (remote, task_id)) WITHOUT ROWID",
        )

    def upsert(self, orders: Iterable[Order]) -> None:
        """Keep orders, one transaction each."""
        for order in orders:
            self.connection.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "state = excluded.state, updated_at = excluded.updated_at, document = excluded.document",
                _row(order),
            )

    def fill(self, orders: Iterable[Order]) -> None:
        """Keep orders, all in one transaction."""
        self.connection.execute("BEGIN")
        self.upsert(orders)
        self.connection.execute("COMMIT")

    def forget(self, *, states: Sequence[str], before: float) -> int:
        """Drop the orders in some states that last changed before *before*; tell how many."""
        marks = ", ".join("?" * len(states))
        statement = f"DELETE FROM orders WHERE state IN ({marks}) AND updated_at < ?"  # noqa: S608 - only marks
        return self.connection.execute(statement, (*states, before)).rowcount

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()


def _row(order: Order) -> tuple[str, str, str, float, bytes]:
    return order.remote, order.task_id, order.state.value, order.updated_at, msgspec.json.encode(order)


class _Heads(msgspec.Struct):
    """Of a snapshot, what the index needs."""

    orders: dict[str, Head]


DECODERS: dict[str, Callable[[bytes], Any]] = {
    "msgspec": msgspec.json.decode,
    "stdlib json": json.loads,
    "msgspec, index fields": msgspec.json.Decoder(_Heads).decode,
}
"""Ways to read the whole file of a snapshot."""


def decoding(decoder: str, path: Path) -> float:
    """Tell how many seconds a decoder takes for a file that is in memory, the collector off."""
    text, decode = path.read_bytes(), DECODERS[decoder]
    gc.disable()
    try:
        began = perf_counter()
        decoded = decode(text)
        took = perf_counter() - began
    finally:
        gc.enable()
    del decoded
    return took
