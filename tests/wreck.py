"""Ways to damage the files of a store."""

import random
from collections.abc import Callable, Mapping

from tests.disk import SECTOR

Texts = dict[str, bytes]
"""Files by name."""


def flip(text: bytes, chance: random.Random) -> bytes:
    """Change one bit."""
    at = chance.randrange(len(text))
    return text[:at] + bytes([text[at] ^ 1 << chance.randrange(8)]) + text[at + 1 :]


def cut(text: bytes, chance: random.Random) -> bytes:
    """Take off the end."""
    return text[: chance.randrange(len(text))]


def remove(text: bytes, chance: random.Random) -> bytes:
    """Take a piece out."""
    a, b = _places(text, chance, 2)
    return text[:a] + text[b:]


def repeat(text: bytes, chance: random.Random) -> bytes:
    """Have a piece twice."""
    a, b = _places(text, chance, 2)
    return text[:b] + text[a:]


def swap(text: bytes, chance: random.Random) -> bytes:
    """Have two pieces in the other order."""
    a, b, c = _places(text, chance, 3)
    return text[:a] + text[b:c] + text[a:b] + text[c:]


def zero(text: bytes, chance: random.Random) -> bytes:
    """Have zeros somewhere."""
    a, b = _places(text, chance, 2)
    return text[:a] + bytes(b - a) + text[b:]


def zero_sector(text: bytes, chance: random.Random) -> bytes:
    """Have zeros in one sector."""
    at = chance.randrange(0, len(text), SECTOR)
    return text[:at] + bytes(len(text[at : at + SECTOR])) + text[at + SECTOR :]


def empty(text: bytes, chance: random.Random) -> bytes:
    """Leave nothing."""
    return b""


def repeat_line(text: bytes, chance: random.Random) -> bytes:
    """Have a line twice, somewhere."""
    lines = text.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines)


def remove_line(text: bytes, chance: random.Random) -> bytes:
    """Take a line out."""
    lines = text.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return b"".join(lines)


def swap_lines(text: bytes, chance: random.Random) -> bytes:
    """Have two lines in each other's place."""
    lines = text.splitlines(keepends=True)
    a, b = (chance.randrange(len(lines)) for _ in range(2))
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def _places(text: bytes, chance: random.Random, count: int) -> list[int]:
    return sorted(chance.randrange(len(text) + 1) for _ in range(count))


IN_ONE: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip,
    cut,
    remove,
    repeat,
    swap,
    zero,
    zero_sector,
    empty,
    repeat_line,
    remove_line,
    swap_lines,
)


def lose(texts: Texts, victim: str, chance: random.Random) -> None:
    """Remove the file."""
    del texts[victim]


def replace(texts: Texts, victim: str, chance: random.Random) -> None:
    """Have another file in its place."""
    texts[victim] = texts[chance.choice(sorted(texts))]


def splice(texts: Texts, victim: str, chance: random.Random) -> None:
    """Have a piece of another file in it."""
    other = texts[chance.choice(sorted(texts))]
    (a, b), (c, d) = _places(texts[victim], chance, 2), _places(other, chance, 2)
    texts[victim] = texts[victim][:a] + other[c:d] + texts[victim][b:]


def splice_line(texts: Texts, victim: str, chance: random.Random) -> None:
    """Have a line of another file in it."""
    lines = texts[victim].splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(texts[chance.choice(sorted(texts))].splitlines(True)))
    texts[victim] = b"".join(lines)


AMONG_ALL = (lose, replace, splice, splice_line)


def wreck(texts: Mapping[str, bytes], victim: str, chance: random.Random) -> tuple[str, Texts]:
    """Do one kind of damage to one file; tell which, and give all files."""
    kind = chance.choice((*IN_ONE, *AMONG_ALL))
    damaged = dict(texts)
    if kind in AMONG_ALL:
        kind(damaged, victim, chance)
    else:
        damaged[victim] = kind(texts[victim], chance)
    return kind.__name__, damaged
