"""What a store's files hold, told without changing them and without the lock."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from poller.errors import PollerError
from poller.order import State
from poller.stores.files import Files
from poller.stores.journal import Header, Torn
from poller.stores.shelf import Shelf
from poller.stores.survey import Names, summed_up, survey

_TRIES = 3
"""A running poller replaces files while we read them: what looks wrong may be right the next time."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``verify`` found.

    Attributes:
        path: the snapshot.
        damage: what is wrong and where; None if a poller would start with this.
        hint: what to do about it.
        generation: of the snapshot; None if there is nothing at all.
        orders: how many in each state, journals included.
        documents: how many in each table.
        journals: the headers of those that are not in the snapshot yet.
        torn: the tail that the next start cuts (or that is being written just now).
    """

    path: str
    damage: str | None = None
    hint: str = ""
    generation: int | None = None
    orders: Mapping[State, int] = {}
    documents: Mapping[str, int] = {}
    journals: tuple[Header, ...] = ()
    torn: Torn | None = None


def verify(path: Path, *, files: Files | None = None) -> Report:
    """Read a whole store and tell what it holds. Changes nothing, and needs no lock."""
    report = Report(path=str(path))
    for _ in range(_TRIES):
        try:
            return _read(path, files or Files())
        except PollerError as error:
            report = Report(path=str(path), damage=str(error), hint=error.hint)
        except OSError as error:
            report = Report(path=str(path), damage=f"{path} cannot be read: {error}")
    return report


def _read(path: Path, files: Files) -> Report:
    found = survey(Names(path.resolve()), files=files)
    if found.snapshot is None:
        return Report(path=str(path))
    edits, _ = summed_up(found)
    shelf = Shelf(edits.over(found.snapshot.pieces()), sink=lambda _: None, path=path, vet=True)
    return Report(
        path=str(path),
        generation=found.snapshot.about.generation,
        orders=shelf.counts(),
        documents=shelf.sizes(),
        journals=tuple(reader.header for reader in found.due),
        torn=next((reader.torn for reader in found.due if reader.torn), None),
    )
