"""For whoever writes a page: an empty one to fill in, a check without network, and one for real."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import click

from poller import settings, trial
from poller.cli import options
from poller.cli.outcome import Exit
from poller.cli.plain import for_people, say, say_json
from poller.errors import ConfigurationError
from poller.order import place
from poller.outcome import Setback
from poller.redact import Redactor
from poller.remotes import Page, example
from poller.remotes.declared import DeclaredRemote
from poller.trial import Exchange, Trial

_PATIENCE = 3600.0
_CODES = {"locked": Exit.CONFIGURATION, "denied": Exit.CONFIGURATION, "trouble": Exit.UNAVAILABLE}


def rehearse(page: Page, given: Mapping[str, str]) -> dict[str, Any]:
    """Have a page say what it would ask about a task, and carry out its examples; nothing is sent.

    Args:
        page: which.
        given: its settings, as far as there are any; the others are made up.

    Raises:
        ConfigurationError: an example does not come out as it says; lists each.
    """
    wrong = tuple((f"example {number}", problem) for number, problem in example.failures(page))
    if wrong:
        raise ConfigurationError(
            f"{page.name}: {len(wrong)} thing(s) do not come out as the examples say", problems=wrong
        )
    remote = DeclaredRemote(page, example.made_up(page, given))
    first = example.first_request(remote, "TASK_ID")
    if isinstance(first, Setback):
        raise ConfigurationError(f"{page.name} cannot ask", problems=((f"{page.name}: check", first.reason),))
    asks = f"{first.method} {first.url}" if first is not None else "nothing: it is a feed"
    return {"examples": len(page.examples), "asks": asks}


@click.command("language")
def language() -> None:
    """Print everything that a page can say."""
    click.echo(_text("language.txt"), nl=False)


@click.command("new")
@click.argument("name")
def new(name: str) -> None:
    """Print a page to fill in, every line of it explained.

    \b
    Example:
      poller remotes new acme > acme.toml
    """  # noqa: D301 - \b is click's
    text = _text("template.toml.txt")
    setting = name.upper().replace("-", "_")
    click.echo(text.replace("acme", name).replace("ACME", setting), nl=False)


@click.command("try")
@click.argument("where", metavar="NAME|PATH")
@click.argument("task_id", metavar="TASK_ID")
@click.option("--context", multiple=True, metavar="NAME=VALUE", callback=options.context, help="As of an order.")
@options.as_json
@click.pass_context
def try_(ctx: click.Context, where: str, task_id: str, context: dict[str, str], *, as_json: bool | None) -> None:
    """Ask a remote about a task once, and show every step; nothing is stored or fetched."""
    environ, env_file = os.environ, settings.locate(os.environ, ctx.obj)
    remote, secrets = settings.bound(environ, env_file, where)
    now = time.time()
    order = place(remote.name, task_id, now, deadline=now + _PATIENCE, context=context)
    seen = asyncio.run(trial.tried(remote, order, Redactor(secrets)))
    if for_people(as_json):
        for line in _told(seen):
            say(line)
    else:
        say_json(seen)
    unreached = seen.verdict == "trouble" and all(each.status is None for each in seen.exchanges)
    ctx.exit(_CODES[seen.verdict] if seen.verdict in {"locked", "denied"} or unreached else Exit.OK)


def _text(name: str) -> str:
    return resources.files("poller.remotes").joinpath(name).read_text(encoding="utf-8")


def _told(seen: Trial) -> Iterator[str]:
    for exchange in seen.exchanges:
        yield from _exchange(exchange)
        yield ""
    yield f"verdict: {seen.verdict}"
    for name, value in seen.told.items():
        yield f"  {name}: {value}"
    for file in seen.files:
        how = "with credentials" if file.credentials else "without credentials"
        yield f"  would fetch {file.url} {how}; its name ends {file.extension}"


def _exchange(exchange: Exchange) -> Iterator[str]:
    yield f"{exchange.method} {exchange.url}" + (", with credentials" if exchange.credentials else "")
    for name, value in exchange.sent.items():
        yield f"  > {name}: {value}"
    if exchange.body:
        yield f"  > {exchange.body}"
    if exchange.problem:
        yield f"  no reply: {exchange.problem}"
    if exchange.status is not None:
        yield f"  < {exchange.status} after {exchange.seconds:.3f} s"
        for name, value in exchange.headers.items():
            yield f"  < {name}: {value}"
        yield f"  < {exchange.reply}" if exchange.reply else "  < (no body)"
    for each in exchange.expressions:
        mark = "!" if each.failed else "="
        yield f"  {each.place}: {each.expression}"
        yield f"      {mark} {each.value}"
