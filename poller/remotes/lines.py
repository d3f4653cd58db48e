"""Where in a page's text a key stands, which the standard library's parser does not tell.

Only for pages that parsers have accepted: what a line begins is found by asking the parser about that line alone.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Keys from the outside in; of a list of tables, which one, counted from 0."""

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]\]?\s*(?:#.*)?$")
_TOKEN = re.compile(r'''"""|\'\'\'|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[\]{}]''')

_ENDS = {'"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*"""'), "'''": re.compile("'''")}
"""A text over several lines ends at its quotes, but not at any that are escaped."""


def lines(source: str) -> Mapping[Path, int]:
    """Find the line, counted from 1, in which each key and each table begins."""
    found: dict[Path, int] = {}
    counts: Counter[Path] = Counter()
    table: Path = ()
    for number, line in _beginnings(source):
        if header := _HEADER.match(line):
            table = _opened(_keys(header[2]), counts, listed=header[1] == "[[")
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            keys = _keys(key[1])
            for depth in range(1, len(keys) + 1):
                found.setdefault((*table, *keys[:depth]), number)
    return found


def dotted(path: Path) -> str:
    """Write a path as people do; of several tables in a list, which one is counted from 1."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key + 1}]" if key else ""
        else:
            text += f".{key}" if text else key
    return text


def line_of(path: Path, found: Mapping[Path, int]) -> int | None:
    """Tell the line of a key, or of the nearest thing around it that has one."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path)


def _opened(keys: Path, counts: Counter[Path], *, listed: bool) -> Path:
    """Say which table a header opens: below a list of tables, it is in the last one of them."""
    path: Path = ()
    for depth, key in enumerate(keys, 1):
        path = (*path, key)
        if depth == len(keys) and listed:
            counts[path] += 1
        if counts[path]:
            path = (*path, counts[path] - 1)
    return path


def _keys(text: str) -> Path:
    """Read a dotted key as the parser does."""
    keys: list[str | int] = []
    value: Any = tomllib.loads(f"{text} = 0")
    while isinstance(value, dict):
        key, value = next(iter(value.items()))
        keys.append(key)
    return tuple(keys)


def _beginnings(source: str) -> Iterator[tuple[int, str]]:
    """Give the lines that begin a header or a key: no text or list is open there."""
    quote, depth = "", 0
    for number, line in enumerate(source.split("\n"), 1):
        if not quote and not depth:
            yield number, line
        rest = line
        if not quote and not depth and _HEADER.match(line) and not _KEY.match(line):
            continue
        while rest:
            if quote:
                ended = _ENDS[quote].search(rest)
                rest, quote = (rest[ended.end() :], "") if ended else ("", quote)
                continue
            token = _TOKEN.search(rest)
            if token is None:
                break
            rest = rest[token.end() :]
            if token[0] in {'"""', "'''"}:
                quote = token[0]
            elif token[0] in "[{":
                depth += 1
            elif token[0] in "]}":
                depth -= 1
