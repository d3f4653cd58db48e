"""What goes wrong when: spells of trouble, and single mishaps at any time, until the calm at the end."""

import random
from collections.abc import Callable
from typing import NamedTuple

KINDS = ("outage", "storm", "locked", "limited", "flaky", "disk_full", "disk_broken", "no_files", "scarce")


class Spell(NamedTuple):
    kind: str
    begin: float
    end: float


class Weather:
    """Knows what goes wrong at what time.

    Args:
        chance: chooses.
        until: virtual seconds after which nothing goes wrong any more.
        time: tells virtual seconds.

    Attributes:
        fair: whether nothing ever goes wrong but clocks and processes.
        time: tells virtual seconds.
    """

    def __init__(self, chance: random.Random, until: float, time: Callable[[], float]) -> None:
        self.fair = chance.random() < 0.15
        self._chance, self._until, self.time = chance, until, time
        self._mishaps = chance.choice((0.0, 0.01, 0.05, 0.2))
        self._spells = [] if self.fair else [self._spell() for _ in range(chance.randint(1, 6))]

    def _spell(self) -> Spell:
        begin = self._chance.uniform(0, self._until)
        length = self._chance.choice((60.0, 600.0, 3600.0))
        return Spell(self._chance.choice(KINDS), begin, min(begin + length, self._until))

    def on(self, kind: str) -> bool:
        """Tell whether a spell of this kind is on."""
        return any(spell.kind == kind and spell.begin <= self.time() < spell.end for spell in self._spells)

    def was_on(self, kind: str, since: float) -> bool:
        """Tell whether a spell of this kind was on at any time since then."""
        return any(spell.kind == kind and spell.begin <= self.time() and since < spell.end for spell in self._spells)

    def mishap(self, share: float = 1.0) -> bool:
        """Tell whether something small goes wrong just now."""
        if self.fair or self.time() >= self._until:
            return False
        return self._chance.random() < self._mishaps * share * (5 if self.on("flaky") else 1)
