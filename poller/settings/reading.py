"""One reading of all settings, which notes every problem instead of stopping at the first."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from poller import remotes
from poller.errors import ConfigurationError
from poller.redact import MASK
from poller.remote import Remote
from poller.remotes import Page, Plugin
from poller.settings.rules import broken, doubtful
from poller.settings.sources import ENVIRONMENT, FILE, Found, Problem, Sources
from poller.settings.table import ENV_FILE, PREFIX, Setting

DEFAULT = "default"
MISSING = "missing"
_BRACED = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_KUBERNETES = re.compile(PREFIX + r"(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP))\w*")
"""Kubernetes puts these in every pod beside a Service called poller."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as it counts.

    Attributes:
        value: as text; masked where it is secret.
        source: ``environment``, ``NAME_FILE``, the env file's path, ``default``, or
            ``missing`` where there is none.
    """

    name: str
    value: str
    source: str
    secret: bool = False


class Reading:
    """Reads settings from *sources*.

    Attributes:
        values: what could be read, by field name.
        provenance: every setting as it counts, by name.
        secrets: every secret value.
        problems: what is wrong, so far.
    """

    def __init__(self, sources: Sources) -> None:
        self.values: dict[str, Any] = {}
        self.provenance: dict[str, Provenance] = {}
        self._sought: set[str] = set()
        self.secrets: list[str] = []
        self._sources = sources
        self._problems = list(sources.env_file.problems)
        self._prefixes = {PREFIX}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong, so far; nothing twice."""
        return tuple(dict.fromkeys(self._problems))

    def take(self, settings: Iterable[Setting]) -> None:
        """Read *settings* into ``values``."""
        for setting in settings:
            self._sought.add(setting.name)
            try:
                found = self._found(setting.name) or Found(setting.default, DEFAULT)
                self._record(setting.name, found, secret=setting.secret)
                self.values[setting.field] = setting.read(found.text)
            except ValueError as error:
                self._problems.append((setting.name, str(error)))

    def judge(self) -> None:
        """Note which rules between settings are broken."""
        self._problems.extend(broken(self.values))

    def bind(self) -> tuple[Remote, ...]:
        """Make the remotes that ``values`` name; those with problems are left out."""
        pages = [page for where in self.values.get("remotes", ()) for page in self._page(where)]
        names = [page.name for page in pages]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._problems.append(
                ("POLLER_REMOTES", f"there are several remotes named {name}; their names must differ")
            )
        return tuple(remote for page in pages for remote in self._bound(page))

    def warnings(self) -> Iterator[str]:
        """Name what is allowed and probably not meant."""
        file = self._sources.env_file
        yield from file.warnings
        yield from doubtful(self.values)
        if file.exposed and any(seen.secret and file.values.get(name) for name, seen in self.provenance.items()):
            yield f"{file.path} holds secrets and others can read it; run chmod 600 {file.path}"
        for name, place in self._sources.names():
            if name == ENV_FILE and place != ENVIRONMENT:
                yield f"{name} in {place} has no effect; set it in the environment"
            elif self._strange(name):
                yield f"{name} ({place}) is not a setting{_meant(name, self.provenance)}"

    def _found(self, name: str) -> Found | None:
        found = self._sources.find(name)
        return found and Found(_plain(found.text), found.source)

    def _record(self, name: str, found: Found, *, secret: bool) -> None:
        hidden = secret and found.text
        if hidden:
            self.secrets.append(found.text)
        value = MASK if hidden else found.text
        self.provenance[name] = Provenance(name=name, value=value, source=found.source, secret=secret)

    def _page(self, where: str) -> Iterator[Page | Plugin]:
        try:
            yield remotes.find(where)
        except ConfigurationError as error:
            self._problems.extend(error.problems or [("POLLER_REMOTES", _with_hint(error))])

    def _bound(self, page: Page | Plugin) -> Iterator[Remote]:
        self._prefixes |= {name.partition("_")[0] + "_" for name in page.settings}
        found = dict(self._given(page))
        self._sought.update(page.settings)
        for name, variable in page.settings.items():
            default = Found(_filled(variable.default or "", found), MISSING if variable.required else DEFAULT)
            self._record(name, found.get(name, default), secret=variable.secret)
        try:
            yield remotes.bind(page, {name: seen.text for name, seen in found.items()})
        except ConfigurationError as error:
            noted = {name for name, _ in self._problems}
            self._problems.extend(problem for problem in error.problems if problem[0] not in noted)

    def _given(self, page: Page | Plugin) -> Iterator[tuple[str, Found]]:
        for name in page.settings:
            try:
                found = self._found(name)
            except ValueError as error:
                self._problems.append((name, str(error)))
            else:
                if found is not None:
                    yield name, found

    def _strange(self, name: str) -> bool:
        """Tell whether a name looks like a setting and is none."""
        if not name.startswith(tuple(self._prefixes)) or _KUBERNETES.fullmatch(name):
            return False
        return name != ENV_FILE and name.removesuffix(FILE) not in self._sought | self.provenance.keys()


def _plain(text: str) -> str:
    """Refuse what no value of ours can hold, and what a careless paste brings along."""
    if not text.isprintable():
        raise ValueError("holds a control character, or a space that is none; type it anew")
    return text.strip()


def _filled(default: str, found: Mapping[str, Found]) -> str:
    """Show a default as it counts; it may name other settings."""
    return _BRACED.sub(lambda name: found[name[1]].text if name[1] in found else name[0], default)


def _meant(name: str, known: Mapping[str, Provenance]) -> str:
    """Suggest a name; what all names share tells nothing."""
    prefix = name.partition("_")[0] + "_"
    names = [other.removeprefix(prefix) for other in known if other.startswith(prefix)]
    close = get_close_matches(name.removeprefix(prefix), names, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _with_hint(error: ConfigurationError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)
