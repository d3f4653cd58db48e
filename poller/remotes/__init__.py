"""The catalogue of remotes: the pages we ship, and pages that users write."""

from importlib import resources
from pathlib import Path

from poller.errors import ConfigurationError
from poller.remotes.declared import DeclaredRemote, abilities, bind
from poller.remotes.page import Page, Variable
from poller.remotes.reader import parse

__all__ = ["DeclaredRemote", "Page", "Variable", "abilities", "bind", "find", "parse", "shipped"]


_LONGEST = 2**18
"""Bytes in a page: what is longer is none, and TOML of any length is checked as a whole."""


def shipped() -> tuple[str, ...]:
    """Name the remotes that come with poller."""
    pages = resources.files(__name__).iterdir()
    return tuple(sorted(page.name.removesuffix(".toml") for page in pages if page.name.endswith(".toml")))


def find(where: str) -> Page:
    """Read a page by its shipped name, or by the path of a ``.toml`` file.

    Raises:
        ConfigurationError: there is no such page, or it has problems; lists them all.
    """
    return parse(_text(where), where=where)


def _text(where: str) -> str:
    if where.endswith(".toml"):
        return _written(Path(where))
    if where not in shipped():
        hint = f"use one of {', '.join(shipped())}, or a path to a .toml file"
        raise ConfigurationError(f"there is no remote {where!r}", hint=hint)
    return resources.files(__name__).joinpath(f"{where}.toml").read_text(encoding="utf-8")


def _written(path: Path) -> str:
    hint = "check the path in POLLER_REMOTES"
    try:
        with path.open("rb") as file:
            source = file.read(_LONGEST + 1)
        text = source.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the page {path} cannot be read: {error}", hint=hint) from None
    if len(source) > _LONGEST:
        raise ConfigurationError(f"the page {path} cannot be read: it has more than {_LONGEST} bytes", hint=hint)
    return text
