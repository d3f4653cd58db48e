"""Text for a terminal or a pipe: nothing that a remote wrote can move the cursor or reorder a line."""

import json
import re
import sys
from typing import Any

import click
import msgspec

_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]")
"""What JSON may hold unescaped and a terminal should not be sent."""


def safe(text: str) -> str:
    """Make one printable line of *text*; what is not printable is shown as Python would write it in a string."""
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """Write a struct or a plain value as JSON that is fit for a terminal too; on one line if *indent* is None."""
    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=indent)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(line: str) -> None:
    """Print a line that may hold anything."""
    click.echo(safe(line))


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON."""
    click.echo(to_json(value, indent=indent))


def for_people(as_json: bool | None) -> bool:  # noqa: FBT001 - click hands it over as it was given
    """Tell whether to draw, rather than to print JSON: as chosen, else by what standard output is."""
    return not as_json if as_json is not None else sys.stdout.isatty()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
