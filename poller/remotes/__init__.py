"""The catalogue of remotes: the pages we ship, pages that users write, and what other packages bring."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from poller.errors import ConfigurationError
from poller.remote import Remote
from poller.remotes.bound import complete
from poller.remotes.declared import DeclaredRemote, abilities
from poller.remotes.page import Page, Variable
from poller.remotes.plugin import Plugin, installed, load
from poller.remotes.reader import parse
from poller.remotes.table import meant

__all__ = [
    "DeclaredRemote",
    "Page",
    "Plugin",
    "Variable",
    "abilities",
    "bind",
    "find",
    "installed",
    "page",
    "parse",
    "shipped",
]


_LONGEST = 2**18
"""Bytes in a page: what is longer is none, and TOML of any length is checked as a whole."""


def shipped() -> tuple[str, ...]:
    """Name the remotes that come with poller."""
    pages = resources.files(__name__).iterdir()
    return tuple(sorted(page.name.removesuffix(".toml") for page in pages if page.name.endswith(".toml")))


def find(where: str) -> Page | Plugin:
    """Find a remote: a page by its shipped name or by the path of a ``.toml`` file, or what a package brings.

    Raises:
        ConfigurationError: there is no such remote, or it has problems; lists them all.
    """
    plugin = None if where.endswith(".toml") or where in shipped() else load(where)
    return plugin or parse(_text(where), where=where)


def page(where: str) -> Page:
    """Find a remote that is a page.

    Raises:
        ConfigurationError: there is no such page, it has problems, or the remote is written in Python.
    """
    found = find(where)
    if isinstance(found, Plugin):
        raise ConfigurationError(f"the remote {where} is written in Python and has no page")
    return found


def bind(found: Page | Plugin, values: Mapping[str, str]) -> Remote:
    """Make a remote of its settings.

    Raises:
        ConfigurationError: a required setting is missing or wrong; lists every problem.
    """
    if isinstance(found, Page):
        return DeclaredRemote(found, values)
    given = complete(found, values)
    try:
        return found.make(given)
    except ValueError as error:
        raise ConfigurationError(f"{found.name} is not configured", problems=((found.name, str(error)),)) from None


def _text(where: str) -> str:
    if where.endswith(".toml"):
        return _written(Path(where))
    if where not in shipped():
        known = (*shipped(), *installed())
        hint = f"use one of {', '.join(known)}, or a path to a .toml file"
        raise ConfigurationError(f"there is no remote {where!r}{meant(where, known)}", hint=hint)
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
