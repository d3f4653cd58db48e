"""``poller remotes``: which there are, what their pages say, whether one is right."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from poller import remotes as pages
from poller import settings
from poller.cli import options, views
from poller.cli.plain import for_people, safe, say, say_json
from poller.cli.workbench import language, new, rehearse, try_
from poller.errors import ConfigurationError
from poller.remotes import Page, Plugin


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One remote of the catalogue.

    Attributes:
        where: shipped name, or path of a page.
        configured: whether POLLER_REMOTES names it.
        settings: names of its settings; required ones first.
    """

    name: str
    title: str
    where: str
    configured: bool
    settings: tuple[str, ...]


@click.group()
def remotes() -> None:
    """The remotes that can be asked."""


@remotes.command("list")
@options.as_json
@click.pass_obj
def list_remotes(env_file: Path | None, *, as_json: bool | None) -> None:
    """List the shipped remotes and the configured ones."""
    entries = list(_entries(env_file))
    if not for_people(as_json):
        say_json({"remotes": entries})
        return
    cells = [(e.name, e.title, "yes" if e.configured else "", ", ".join(e.settings)) for e in entries]
    views.draw(views.rows("name", "title", "configured", "settings", of=cells))


@remotes.command()
@click.argument("where", metavar="NAME|PATH")
def show(where: str) -> None:
    """Print a remote's page, to read or to copy from."""
    for line in pages.find(where).source.splitlines():
        click.echo("\t".join(safe(part) for part in line.split("\t")))


@remotes.command()
@click.argument("where", metavar="NAME|PATH")
@options.as_json
@click.pass_obj
def check(env_file: Path | None, where: str, *, as_json: bool | None) -> None:
    """Check a remote's page, its examples and its settings; nothing is sent to it."""
    page = pages.find(where)
    located = settings.locate(os.environ, env_file)
    rehearsed = rehearse(page, settings.given(os.environ, located, page)) if isinstance(page, Page) else {}
    if for_people(as_json):
        _tell(rehearsed)
    try:
        remote, provenance = settings.remote(os.environ, located, where)
    except ConfigurationError as error:
        right = f"the page is right, and its {rehearsed['examples']} examples come out; but " if rehearsed else ""
        raise ConfigurationError(f"{right}{error}", problems=error.problems, hint=error.hint) from None
    if not for_people(as_json):
        values = {name: seen.value for name, seen in provenance.items()}
        say_json(
            {
                "name": page.name,
                "base": getattr(remote, "page_url", str(remote.base)),
                "limits": page.caps,
                "settings": values,
                **rehearsed,
            }
        )
        return
    say(f"{page.title} ({page.name}) at {remote.base}: its page and its {len(provenance)} settings are right")


def _tell(rehearsed: Mapping[str, Any]) -> None:
    """Say what is known of a page whatever its settings."""
    if rehearsed:
        say(f"asks about a task: {rehearsed['asks']}")
    if rehearsed.get("examples"):
        say(f"its {rehearsed['examples']} examples come out as they say")


remotes.add_command(language)
remotes.add_command(new)
remotes.add_command(try_)


def _entries(env_file: Path | None) -> Iterator[Entry]:
    chosen = settings.some(os.environ, settings.locate(os.environ, env_file), "remotes")["remotes"]
    for where in dict.fromkeys((*pages.shipped(), *pages.installed(), *chosen)):
        try:
            yield _entry(pages.find(where), where, configured=where in chosen)
        except (
            ConfigurationError
        ) as error:  # of one, be it that a package brings it, which is no reason to hide the others
            yield Entry(
                name=where, title=f"cannot be used: {error}", where=where, configured=where in chosen, settings=()
            )


def _entry(page: Page | Plugin, where: str, *, configured: bool) -> Entry:
    names = sorted(page.settings, key=lambda name: not page.settings[name].required)
    return Entry(name=page.name, title=page.title, where=where, configured=configured, settings=tuple(names))
