"""What the tests of TinyDB's face share: TinyDB itself, ours, and every way of joining them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import JSONStorage, MemoryStorage
from tinydb.table import Document

from poller.stores.journaled import JournalStorage
from poller.stores.live import LiveStorage
from poller.stores.tables import Database, LiveTable


class LiveTinyDB(TinyDB):
    """TinyDB's own database, with our table class."""

    table_class = LiveTable


MAKERS: dict[str, Callable[[Path], TinyDB]] = {
    "theirs, a file": TinyDB,
    "theirs, in memory": lambda path: TinyDB(storage=MemoryStorage),
    "ours, a journal": Database,
    "ours, in memory": lambda path: Database(storage=LiveStorage),
    "their table, our journal": lambda path: TinyDB(path, storage=JournalStorage),
    "their database, our table and journal": lambda path: LiveTinyDB(path, storage=JournalStorage),
    "ours, through their cache": lambda path: Database(path, storage=CachingMiddleware(JournalStorage)),
    "ours, over their file": lambda path: Database(path, storage=JSONStorage),
}
"""TinyDB's own come first: what they do is what all are held to."""
COPYING = tuple(name for name in MAKERS if name not in {"theirs, in memory", "ours, through their cache"})
"""Those that keep JSON. The others keep the very objects that they are given."""
LIVE = ("ours, a journal", "ours, in memory")


class Opened:
    """A database that is closed and opened again as often as a test likes.

    Attributes:
        db: the database.
    """

    def __init__(self, maker: str, path: Path) -> None:
        self._make = MAKERS[maker]
        self._path = path
        self._lasting = not maker.endswith("in memory")
        self.db = self._make(path)

    def again(self) -> TinyDB:
        """Close it and open it again, if there is a file to open it from."""
        if self._lasting:
            self.db.close()
            self.db = self._make(self._path)
        return self.db


def told(result: Any) -> Any:
    """Make an answer comparable, ids included."""
    if isinstance(result, Document):
        return (result.doc_id, dict(result))
    return [told(each) for each in result] if isinstance(result, list) else result


def everything(database: TinyDB) -> dict[str, Any]:
    """Show all tables as TinyDB lists them."""
    return {name: told(database.table(name).all()) for name in database.tables() - {"_poller"}}
