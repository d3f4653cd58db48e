"""Looks round every now and then: what is wrong for a moment may be right, what stays wrong is not."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.simulation.history import History


class Matter(NamedTuple):
    """Something that should not be for long.

    Attributes:
        patience: for how many seconds it may be.
    """

    text: str
    patience: float


class Rounds:
    """Remembers since when things have been as they are."""

    def __init__(self, history: History, time: Callable[[], float]) -> None:
        self._history, self._time = history, time
        self._since: dict[str, float] = {}

    def go(self, matters: Iterable[Matter]) -> None:
        """Take note of all that is not as it should be at present."""
        now, before = self._time(), self._since
        self._since = {}
        for text, patience in matters:
            since = self._since[text] = before.get(text, now)
            if now - since >= patience:
                self._since[text] = float("inf")  # once is enough
                self._history.breach(text)
