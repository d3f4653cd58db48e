"""A figure: what was measured, what it should be, and how far the repetitions lay apart."""

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured.

    Attributes:
        unit: of the value; ``x`` for a ratio of two medians of one run.
        low, high: the least and the greatest repetition, in the same unit.
        at_most, at_least: what is to be reached; a figure with neither only informs.
        detail: what the value was made of, the unit at the end of each name.
    """

    name: str
    value: float
    unit: str
    low: float
    high: float
    at_most: float | None = None
    at_least: float | None = None
    detail: Mapping[str, float] = {}

    @property
    def met(self) -> bool | None:
        """Whether the value is what it should be; None if nothing is asked of it."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least


class Pair(msgspec.Struct):
    """The same work done our way and another way, in alternation.

    Attributes:
        ours, theirs: seconds per unit of work, one number for each repetition.

    A figure is the ratio of the two medians. Its detail has the median of the rounds' own ratios as well:
    where the two lie far apart, the machine was too busy for the figure to be believed.
    """

    ours: list[float] = []
    theirs: list[float] = []

    def slowdown(self, name: str, *, at_most: float | None = None, **detail: float) -> Figure:
        """Give how many times as long ours takes."""
        return self._figure(name, self.ours, self.theirs, at_most=at_most, detail=detail)

    def speedup(self, name: str, *, at_least: float | None = None, **detail: float) -> Figure:
        """Give how many times as long theirs takes."""
        return self._figure(name, self.theirs, self.ours, at_least=at_least, detail=detail)

    def _figure(
        self,
        name: str,
        above: Sequence[float],
        below: Sequence[float],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        detail: Mapping[str, float],
    ) -> Figure:
        ratios = [one / other for one, other in zip(above, below, strict=True)]
        return Figure(
            name=name,
            value=median(above) / median(below),
            unit="x",
            low=min(ratios),
            high=max(ratios),
            at_most=at_most,
            at_least=at_least,
            detail={
                "by_round_x": median(ratios),
                "ours_us": median(self.ours) * 1e6,
                "theirs_us": median(self.theirs) * 1e6,
                **detail,
            },
        )


def amount(
    name: str, repetitions: Sequence[float], unit: str, *, at_most: float | None = None, **detail: float
) -> Figure:
    """Make a figure of the median of some repetitions."""
    return Figure(
        name=name,
        value=median(repetitions),
        unit=unit,
        low=min(repetitions),
        high=max(repetitions),
        at_most=at_most,
        detail=detail,
    )


def percentile(samples: Sequence[float], percent: int) -> float:
    """Give the sample below which *percent* of them lie."""
    return quantiles(samples, n=100, method="inclusive")[percent - 1] if len(samples) > 1 else samples[0]
