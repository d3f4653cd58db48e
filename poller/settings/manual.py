"""What is written about settings elsewhere, made from the same table: ``.env.example`` and the README's table."""

from collections.abc import Iterator, Mapping
from textwrap import wrap

from poller import remotes
from poller.remotes import Page, Variable
from poller.settings.table import TABLE

_WIDTH = 100
_HEAD = """\
The settings of poller. Copy this file to .env, or give it to docker --env-file or to
systemd's EnvironmentFile=: plain NAME=value lines, no quotes, comments on lines of their own.

What counts, first to last: the environment, NAME_FILE (a file that holds the value, such as
POLLER_TOKEN_FILE=/run/secrets/token), this file, the default. Empty is the same as not given.
Durations: 200ms, 1s, 5m, 2h, 7d. Sizes: 4096, 10MiB, 10GiB.
"""


def example() -> str:
    """Write ``.env.example``: every setting with its reason and its default, of the shipped remotes too."""
    return "\n".join(_example()) + "\n"


def table() -> str:
    """Write the README's Markdown table: every setting of our own, its default and its reason."""
    own = [_row(setting.name, setting.default, setting.why) for setting in TABLE]
    return "\n".join(["| setting | default | |", "| --- | --- | --- |", *own])


def catalogue() -> str:
    """Write the README's table of the remotes we ship: what each is, what it can do, and its settings."""
    pages = [remotes.page(name) for name in remotes.shipped()]
    rows = [f"| `{page.name}` | {page.title} | {_abilities(page)} | {_settings(page)} |" for page in pages]
    return "\n".join(["| remote | | can | settings |", "| --- | --- | --- | --- |", *rows])


def _example() -> Iterator[str]:
    for line in _HEAD.splitlines():
        yield f"# {line}".rstrip()
    for setting in TABLE:
        yield from ("", *_comment(setting.why), f"{setting.name}={setting.default}")
    for name, (variable, users) in _of_remotes().items():
        yield from ("", *_comment(f"For {', '.join(users)}: {_reason(variable)}"), f"{name}={_constant(variable)}")


def _of_remotes() -> Mapping[str, tuple[Variable, list[str]]]:
    """Give every setting of the shipped remotes once, and who uses it."""
    found: dict[str, tuple[Variable, list[str]]] = {}
    for page in map(remotes.page, remotes.shipped()):
        for name, variable in page.settings.items():
            found.setdefault(name, (variable, []))[1].append(page.name)
    return dict(sorted(found.items(), key=lambda item: item[0].partition("_")[0]))


def _abilities(page: Page) -> str:
    able = remotes.abilities(page)
    return ", ".join(name for name in ("start", "confirm", "cancel", "discover", "nudge", "feed") if name in able)


def _settings(page: Page) -> str:
    return ", ".join(f"`{name}`" for name in page.settings)


def _reason(variable: Variable) -> str:
    """Add what the line itself cannot say: that it must be filled in, or what an empty one stands for."""
    if variable.required or _constant(variable) == (variable.default or ""):
        return _must(variable)
    return f"{variable.why} Default: {variable.default}"


def _must(variable: Variable) -> str:
    return f"{variable.why} Required." if variable.required else variable.why


def _constant(variable: Variable) -> str:
    default = variable.default or ""
    return "" if "{" in default else default


def _row(name: str, default: str, why: str) -> str:
    return f"| `{name}` | {f'`{default}`' if default else ''} | {why} |"


def _comment(why: str) -> list[str]:
    return wrap(why, width=_WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
