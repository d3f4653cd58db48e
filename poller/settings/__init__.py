"""Settings: found, read, judged together, and refused together.

One table (``table.TABLE``) has every setting of our own; a remote's settings are in its
page. Everything else follows from these two: what is read here, ``.env.example``, the
README's table and what ``poller config`` shows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from poller.errors import ConfigurationError
from poller.remote import Remote
from poller.remotes.bound import Named
from poller.settings.reading import Provenance, Reading
from poller.settings.sources import Problem, Sources, locate
from poller.settings.table import TABLE

__all__ = ["Examination", "Provenance", "Settings", "bound", "examine", "given", "load", "locate", "remote", "some"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was configured. Durations are seconds. Shows no secret.

    Attributes:
        remotes: bound and ready to be asked.
        secrets: every secret value, for a redactor.
        warnings: what is allowed and probably not meant.
        provenance: every setting as it counts, by name.
    """

    remotes: tuple[Remote, ...]
    orders_dir: Path
    store: str
    host: str
    port: int
    token: str
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    filename: str
    interval_min: float
    interval_max: float
    deadline: float
    attempts: int
    checks: int
    downloads: int
    connections: int
    requests_per_minute: int
    max_file_bytes: int
    disk_reserve: int
    idle_timeout: float
    floor_rate: int
    max_pending: int
    retention: float
    lease: float
    grace: float
    log_format: str

    secrets: tuple[str, ...]
    warnings: tuple[str, ...]
    provenance: Mapping[str, Provenance]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, seen.value) for name, seen in self.provenance.items()]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, or why there are none.

    Attributes:
        settings: None if there are problems.
        problems: pairs of a setting and what is wrong with it.
    """

    settings: Settings | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    provenance: Mapping[str, Provenance]

    def demand(self) -> Settings:
        """Give the settings.

        Raises:
            ConfigurationError: there are problems; lists them all.
        """
        if self.settings is None:
            # A misspelt name may well be the reason why another is missing.
            raise _unusable((*self.problems, *(("note", warning) for warning in self.warnings)))
        return self.settings


def load(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """Read all settings, each from the environment, its ``NAME_FILE``, the env file, or its default.

    Args:
        environ: the process environment; it is not changed.
        env_file: path of an env file, which must exist; None for none (``locate`` finds the usual one).

    Raises:
        ConfigurationError: there are problems; lists them all.
    """
    return examine(environ, env_file).demand()


def examine(environ: Mapping[str, str], env_file: Path | None = None) -> Examination:
    """Read all settings, and tell what counts also where there are problems."""
    reading = Reading(Sources(environ, env_file))
    reading.take(TABLE)
    reading.judge()
    remotes = reading.bind()
    warnings = tuple(reading.warnings())
    return Examination(
        settings=None if reading.problems else _settings(reading, remotes, warnings),
        problems=reading.problems,
        warnings=warnings,
        provenance=reading.provenance,
    )


def some(environ: Mapping[str, str], env_file: Path | None, *names: str) -> Mapping[str, Any]:
    """Read a few settings by field name, for those who need no more than these.

    Raises:
        ConfigurationError: one of these cannot be used.
    """
    reading = Reading(Sources(environ, env_file))
    reading.take(setting for setting in TABLE if setting.field in names)
    if reading.problems:
        raise _unusable(reading.problems)
    return reading.values


def remote(environ: Mapping[str, str], env_file: Path | None, where: str) -> tuple[Remote, Mapping[str, Provenance]]:
    """Read the settings of one remote, configured or not.

    Args:
        environ: the process environment.
        env_file: path of an env file; None for none.
        where: a shipped name, or the path of a page.

    Returns:
        The remote, and its settings as they count.

    Raises:
        ConfigurationError: its page or its settings cannot be used; lists every problem.
    """
    reading = Reading(Sources(environ, env_file))
    reading.values["remotes"] = (where,)
    bound = reading.bind()
    if reading.problems:
        raise _unusable(reading.problems)
    return bound[0], reading.provenance


def given(environ: Mapping[str, str], env_file: Path | None, found: Named) -> Mapping[str, str]:
    """Read what there is of a remote's settings, whether or not that is all it needs."""
    sources = Sources(environ, env_file)
    read = {name: sources.find(name) for name in found.settings}
    return {name: seen.text for name, seen in read.items() if seen is not None}


def bound(environ: Mapping[str, str], env_file: Path | None, where: str) -> tuple[Remote, tuple[str, ...]]:
    """Read the settings of one remote, to ask it; see ``remote``.

    Returns:
        The remote, and its secrets.
    """
    reading = Reading(Sources(environ, env_file))
    reading.values["remotes"] = (where,)
    found = reading.bind()
    if reading.problems:
        raise _unusable(reading.problems)
    return found[0], tuple(reading.secrets)


def _settings(reading: Reading, remotes: tuple[Remote, ...], warnings: tuple[str, ...]) -> Settings:
    values = {**reading.values, "remotes": remotes}
    return Settings(
        **values, secrets=tuple(dict.fromkeys(reading.secrets)), warnings=warnings, provenance=reading.provenance
    )


def _unusable(problems: tuple[Problem, ...]) -> ConfigurationError:
    wrong = len([name for name, _ in problems if name != "note"])
    count = "a setting" if wrong == 1 else f"{wrong} settings"
    hint = "set them in the environment or in .env; `poller config` shows what counts at present"
    return ConfigurationError(f"{count} cannot be used", problems=problems, hint=hint)
