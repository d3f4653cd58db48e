"""What was probably meant by a name that nobody knows."""

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 64
"""Nobody mistypes a name into something this long, and comparing costs its square."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the known word that was probably meant, as the end of a sentence; empty if none is near."""
    if len(word) > _LONGEST:
        return ""
    spellings = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), spellings, n=1)
    return f"; did you mean {spellings[near[0]]!r}?" if near else ""


def quoted(text: str) -> str:
    """Quote what somebody sent, cut to what a message can bear and with nothing unprintable in it."""
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
