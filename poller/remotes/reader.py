"""Reads a remote's page: checks it as a whole before any of it is used, and names every problem at once."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import jmespath
import msgspec
import uritemplate
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from poller import units
from poller.errors import ConfigurationError
from poller.remote import Caps
from poller.remotes.page import NAMED, FileRule, OAuth2, Page, Report, Step, Variable

VERDICTS = ("pending", "ready", "done", "confirm", "failed", "gone", "absent")
"""What a check can come to; ``done`` is complete without a file, ``confirm`` waits for our word."""
_METHODS = ("get", "post")
_STEP = frozenset({*_METHODS, *VERDICTS, "reason", "progress", "report"})
_PAGE = frozenset(
    {"name", "title", "base", "window", "limits", "allow_origins", "settings", "auth", "check", "confirm", "file"}
)
_LEAST_CONNECTIONS = 2
"""A question and a download: one must not wait for the other."""
_TASK = frozenset({"task_id", "batch"})
_BRACED = re.compile(r"\{[^{}]*\}")
_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")
_SHORTHANDS = {
    "required": Variable(required=True),
    "secret": Variable(required=True, secret=True),
    "optional": Variable(),
}


def parse(source: str, *, where: str) -> Page:
    """Read and check the text of a page.

    Raises:
        ConfigurationError: it is not TOML, or says something a page cannot say; lists every problem.
    """
    try:
        table = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where} is not TOML", problems=((where, str(error)),)) from None
    reader = _Reader(where)
    page = reader.page(table, source)
    if reader.problems:
        count = len(reader.problems)
        raise ConfigurationError(f"{where} has {count} problem(s)", problems=tuple(reader.problems))
    return page


class _Reader:
    """Reads a page's tables, and notes every problem instead of stopping at the first."""

    def __init__(self, where: str) -> None:
        self.problems: list[tuple[str, str]] = []
        self._where = where

    def page(self, table: dict[str, Any], source: str) -> Page:
        self._known(table, _PAGE, "")
        settings = {name: self._variable(name, value) for name, value in self._table(table, "settings").items()}
        self._settings = settings
        for name, variable in settings.items():
            self._named(variable.default, f"settings.{name}.default")
        files = table.get("file", [])
        if not isinstance(files, list) or len(files) != 1 or not isinstance(files[0], dict):
            self._note("file", "a page has one [[file]] table")
            files = [{}]
        return Page(
            name=self._name(table),
            title=self._text(table, "title", "") or self._text(table, "name", ""),
            source=source,
            base=self._base(table),
            window=self._duration(table, "window"),
            caps=self._caps(self._table(table, "limits")),
            allow_origins=tuple(self._strings(table, "allow_origins")),
            settings=settings,
            oauth2=self._auth(self._table(table, "auth")),
            check=self._step(self._table(table, "check"), "check"),
            confirm=self._step(self._table(table, "confirm"), "confirm") if "confirm" in table else None,
            file=self._file(files[0]),
        )

    def _name(self, table: dict[str, Any]) -> str:
        name = self._text(table, "name", "")
        if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            self._note("name", "a name of letters, digits, - and _ is required")
        return name

    def _base(self, table: dict[str, Any]) -> str:
        if "base" not in table:
            self._note("base", "the address that all others begin with is required")
        return self._template(table, "base", self._settings) or ""

    def _variable(self, name: str, value: object) -> Variable:
        if isinstance(value, str) and value in _SHORTHANDS:
            return _SHORTHANDS[value]
        if not isinstance(value, dict):
            self._note(f"settings.{name}", 'is "required", "secret", "optional" or a table')
            return Variable()
        try:
            return msgspec.convert(value, Variable)
        except msgspec.ValidationError as error:
            self._note(f"settings.{name}", str(error))
            return Variable()

    def _caps(self, table: dict[str, Any]) -> Caps:
        names = Caps.__struct_fields__
        self._known(table, names, "limits.")
        least = {"connections": _LEAST_CONNECTIONS}
        return Caps(**{name: self._count(table, name, least.get(name, 1)) for name in names if name in table})

    def _count(self, table: dict[str, Any], name: str, least: int) -> int | None:
        value = table[name]
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self._note(f"limits.{name}", f"is a whole number, {least} or more")
        return None

    def _auth(self, table: dict[str, Any]) -> OAuth2 | None:
        self._known(table, ("oauth2",), "auth.")
        if "oauth2" not in table:
            return None
        try:
            auth = msgspec.convert(table["oauth2"], OAuth2)
        except msgspec.ValidationError as error:
            self._note("auth.oauth2", str(error))
            return None
        self._template({"token_url": auth.token_url}, "token_url", self._settings, "auth.oauth2.")
        for name in ("client_id", "client_secret", "audience", "scope"):
            self._named(getattr(auth, name), f"auth.oauth2.{name}")
        return auth

    def _step(self, table: dict[str, Any], place: str) -> Step:
        self._known(table, _STEP, f"{place}.")
        methods = [method for method in _METHODS if method in table]
        if len(methods) != 1:
            self._note(place, "a step has one address: get or post")
        method = methods[0] if methods else "get"
        verdicts = [(name, self._expression(table, name, f"{place}.")) for name in table if name in VERDICTS]
        if place == "check" and not {"ready", "done"} & {name for name, _ in verdicts}:
            self._note(place, "needs a verdict that ends well: ready, or done where there is no file")
        return Step(
            method=method.upper(),
            path=self._template(table, method, _TASK, f"{place}.") or "",
            verdicts=tuple((name, verdict) for name, verdict in verdicts if verdict is not None),
            words=_words(verdict for _, verdict in verdicts if verdict is not None),
            reason=self._expression(table, "reason", f"{place}."),
            progress=self._expression(table, "progress", f"{place}."),
            report=self._report(self._table(table, "report", f"{place}."), f"{place}.report."),
        )

    def _report(self, table: dict[str, Any], place: str) -> Report | None:
        if not table:
            return None
        self._known(table, ("text", "after"), place)
        text, after = self._expression(table, "text", place), self._text(table, "after", place)
        if text is None or not after:
            self._note(place.rstrip("."), "needs both text and after")
            return None
        return Report(text=text, after=after)

    def _file(self, table: dict[str, Any]) -> FileRule:
        self._known(table, ("link", "path", "auth", "types", "unframed"), "file.")
        link = self._expression(table, "link", "file.")
        path = self._template(table, "path", _TASK, "file.")
        if link is None and path is None:
            self._note("file", "needs a link (JMESPath) or a path (URI Template)")
        return FileRule(
            link=link,
            path=path,
            auth=self._flag(table, "auth", default=True),
            types=self._types(self._table(table, "types", "file.")),
            unframed=self._choice(table, "unframed", ("twice", "refuse", "trust")),
        )

    def _types(self, table: dict[str, Any]) -> dict[str, str]:
        for media_type, extension in table.items():
            if not isinstance(extension, str) or not _EXTENSION.fullmatch(extension):
                self._note(f"file.types.{media_type}", "an extension is a dot and up to eight small letters or digits")
        return {media_type.lower(): str(extension) for media_type, extension in table.items()}

    def _expression(self, table: dict[str, Any], name: str, place: str) -> ParsedResult | None:
        text = self._text(table, name, place)
        if not text:
            return None
        try:
            return jmespath.compile(text)
        except JMESPathError as error:
            self._note(place + name, f"is not JMESPath: {' '.join(str(error).split())}")
            return None

    def _template(self, table: dict[str, Any], name: str, known: Iterable[str], place: str = "") -> str | None:
        text = self._text(table, name, place)
        if not text:
            return None
        names = {*known, *self._settings}
        for variable in uritemplate.variables(text):
            if variable not in names and not variable.startswith("context."):
                self._note(place + name, f"unknown variable {{{variable}}}{_meant(variable, names)}")
        if set("{}") & set(_BRACED.sub(lambda braced: "" if uritemplate.variables(braced[0]) else "{}", text)):
            self._note(place + name, "is no URI Template (RFC 6570): its braces do not make expressions")
        return text

    def _named(self, text: str | None, place: str) -> None:
        for name in NAMED.findall(text or ""):
            if name not in self._settings:
                self._note(place, f"unknown setting {{{name}}}{_meant(name, self._settings)}")

    def _duration(self, table: dict[str, Any], name: str) -> float | None:
        text = self._text(table, name, "")
        try:
            return units.seconds(text) if text else None
        except ValueError as error:
            self._note(name, str(error))
            return None

    def _choice(self, table: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
        value = table.get(name, choices[0])
        if value in choices:
            return str(value)
        self._note(f"file.{name}", f"is one of {', '.join(choices)}")
        return choices[0]

    def _flag(self, table: dict[str, Any], name: str, *, default: bool) -> bool:
        value = table.get(name, default)
        if isinstance(value, bool):
            return value
        self._note(f"file.{name}", "is true or false")
        return default

    def _strings(self, table: dict[str, Any], name: str) -> list[str]:
        value = table.get(name, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        self._note(name, "is a list of strings")
        return []

    def _text(self, table: dict[str, Any], name: str, place: str) -> str:
        value = table.get(name, "")
        if isinstance(value, str):
            return value
        self._note(place + name, "is a string")
        return ""

    def _table(self, table: dict[str, Any], name: str, place: str = "") -> dict[str, Any]:
        value = table.get(name, {})
        if isinstance(value, dict):
            return value
        self._note(place + name, "is a table")
        return {}

    def _known(self, table: dict[str, Any], names: Iterable[str], place: str) -> None:
        for name in table:
            if name not in names:
                self._note(place + name, f"is not known here{_meant(name, names)}")

    def _note(self, place: str, problem: str) -> None:
        self.problems.append((f"{self._where}: {place}", problem))


def _words(verdicts: Iterable[ParsedResult]) -> tuple[ParsedResult, ...]:
    """Find what verdicts compare with words: the fields of the body beside a literal, in an operator or a function."""
    paths = {path: None for verdict in verdicts for path in _compared(verdict.parsed)}
    return tuple(jmespath.compile(path) for path in paths)


def _compared(node: Mapping[str, Any]) -> Iterator[str]:
    children = [child for child in node["children"] if isinstance(child, dict)]
    if any(map(_is_literal, children)):
        yield from filter(None, map(_path, children))
    for child in children:
        yield from _compared(child)


def _is_literal(node: Mapping[str, Any]) -> bool:
    """Tell a word, or a list of words, from what is looked up."""
    listed = node["type"] == "multi_select_list" and all(map(_is_literal, node["children"]))
    return bool(listed or node["type"] == "literal")


def _path(node: Mapping[str, Any]) -> str:
    """Spell a path of fields that begins at the body; nothing for any other expression."""
    names = [child["value"] for child in node["children"] if child["type"] == "field"]
    whole = node["type"] == "subexpression" and len(names) == len(node["children"]) and names[0] == "body"
    return ".".join(map(_spelled, names)) if whole else ""


def _spelled(name: str) -> str:
    """Spell a field's name as JMESPath does: one that is no plain word as JSON."""
    return name if name.isascii() and name.isidentifier() else msgspec.json.encode(name).decode()


def _meant(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
