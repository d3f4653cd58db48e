"""``poller config``: what the service would be run with."""

import os
from pathlib import Path

import click

from poller import settings
from poller.cli import options, views
from poller.cli.outcome import caution
from poller.cli.plain import for_people, say_json


@click.command()
@options.as_json
@click.pass_obj
def config(env_file: Path | None, *, as_json: bool | None) -> None:
    """Show the settings as they count, and where each came from.

    Secrets are masked. Exits with 78, and says why, if the service would not start with them.
    """
    seen = settings.examine(os.environ, settings.locate(os.environ, env_file))
    if for_people(as_json):
        views.draw(views.settings(seen.provenance))
    else:
        say_json(_plain(seen))
    caution(seen.warnings)
    seen.demand()


def _plain(seen: settings.Examination) -> dict[str, object]:
    return {
        "settings": {
            name: {"value": one.value, "source": one.source, "secret": one.secret}
            for name, one in seen.provenance.items()
        },
        "warnings": seen.warnings,
        "problems": [{"setting": name, "problem": problem} for name, problem in seen.problems],
    }
