"""Reads a remote's page: checks it as a whole before any of it is used, and names every problem at once."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from poller.errors import ConfigurationError
from poller.remote import Caps, Pacing
from poller.remotes.expression import Expression, arithmetic_is_known
from poller.remotes.filerules import file
from poller.remotes.lines import Path, dotted, line_of, lines
from poller.remotes.page import (
    ANSWERS,
    NAMED,
    SHORTHANDS,
    After,
    Call,
    Discovery,
    Example,
    Feed,
    FileRule,
    Input,
    Nudge,
    Page,
    Start,
    Step,
    Variable,
)
from poller.remotes.steps import call, step
from poller.remotes.table import Notes, Table, meant
from poller.remotes.template import Address
from poller.remotes.ways import credentials

T = TypeVar("T")

_ORDER = ("task_id", "batch", "context.")
_LEAST_CONNECTIONS = 2
"""A question and a download: one must not wait for the other."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_WISHES = {"required": Input(required=True), "optional": Input()}
_STEPS = ("start", "check", "confirm", "cancel")


def parse(source: str, *, where: str) -> Page:
    """Read and check the text of a page.

    Raises:
        ConfigurationError: it is not TOML, or says something a page cannot say; lists every problem
            with its line.
    """
    if not arithmetic_is_known():
        hint = "another package has taken its place: pip install --force-reinstall jmespath-community"
        raise ConfigurationError("jmespath is not the package jmespath-community, which pages need", hint=hint)
    try:
        values = tomllib.loads(source)
    except RecursionError:
        raise ConfigurationError(f"{where} is not TOML", problems=((where, "is nested too deeply"),)) from None
    except ValueError as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise ConfigurationError(f"{where} is not TOML", problems=((where, str(error)),)) from None
    notes = Notes()
    page = _Reader(Table(values, (), notes), source).page()
    if notes.problems:
        raise ConfigurationError(f"{where} has {len(notes.problems)} problem(s)", problems=_told(notes, source, where))
    return page


def _told(notes: Notes, source: str, where: str) -> tuple[tuple[str, str], ...]:
    """Say where each problem is, from the first line to the last."""
    found = lines(source)
    placed = [(line_of(path, found) or 0, path, problem) for path, problem in notes.problems]
    placed.sort(key=lambda each: each[0])
    return tuple((_place(where, line, path), problem) for line, path, problem in placed)


def _place(where: str, line: int, path: Path) -> str:
    return f"{where}, line {line}: {dotted(path)}" if line else f"{where}: {dotted(path)}"


class _Reader:
    """Reads a page's tables.

    Args:
        root: the whole page.
        source: its text.
    """

    def __init__(self, root: Table, source: str) -> None:
        self._root = root
        self._source = source
        self._settings = {name: _variable(table, name) for table in [root.table("settings")] for name in table}
        wished = root.table("discover").raw("input") if "discover" in root else None
        self._kept = frozenset(
            {*_kept(root.raw(name) for name in _STEPS), *(wished if isinstance(wished, dict) else ())}
        )
        self._names = frozenset({*self._settings, *_ORDER, *self._kept})

    def page(self) -> Page:
        root, feed = self._root, self._feed()
        self._demand_defaults()
        check = None if feed is not None else self._check()
        page = Page(
            name=self._name(),
            title=root.text("title") or root.text("name"),
            source=self._source,
            base=self._base(),
            headers=root.headers("headers", self._settings),
            window=root.duration("window"),
            pacing=self._pacing(),
            caps=self._caps(root.table("limits")),
            allow_origins=self._origins(),
            settings=self._settings,
            credentials=tuple(credentials(table, self._settings) for table in root.tables("auth", self._settings)),
            check=check,
            confirm=self._one("confirm"),
            cancel=self._one("cancel"),
            starts=self._starts(),
            discovery=self._discovery(),
            feed=feed,
            nudge=self._nudge(),
            after=self._after(),
            files=self._files(feed=feed is not None),
            examples=tuple(map(_example, root.tables("example"))),
        )
        root.close()
        return page

    # --- the page itself

    def _name(self) -> str:
        name = self._root.text("name")
        if not _NAME.fullmatch(name):
            self._root.note("is 1 to 40 small letters, digits and dashes, a letter first", "name")
        return name

    def _base(self) -> Address:
        table = Table({"base": self._root.raw("base", "")}, (), self._root.notes, self._settings)
        base = table.address("base")
        if base is None:
            self._root.note("is needed: the address that every other address begins with", "base")
        return base or Address("")

    def _origins(self) -> tuple[str, ...]:
        origins = self._root.texts("allow_origins")
        for name in (name for origin in origins for name in Address(origin).names if name not in self._settings):
            self._root.note(f"unknown setting {{{name}}}{meant(name, self._settings)}", "allow_origins")
        return origins

    def _demand_defaults(self) -> None:
        for name, variable in self._settings.items():
            for other in NAMED.findall(variable.default or ""):
                if other not in self._settings:
                    self._root.note(
                        f"unknown setting {{{other}}}{meant(other, self._settings)}", "settings", name, "default"
                    )

    def _pacing(self) -> Pacing:
        root = self._root
        return Pacing(
            deadline=root.duration("deadline"),
            grace=root.duration("grace"),
            interval_min=root.duration("interval_min"),
            interval_max=root.duration("interval_max"),
        )

    def _caps(self, table: Table) -> Caps:
        least = {"connections": _LEAST_CONNECTIONS}
        caps = Caps(**{name: table.number(name, least=least.get(name, 1)) for name in Caps.__struct_fields__})
        table.close()
        return caps

    # --- steps

    def _check(self) -> Step:
        table = self._root.table("check", self._names)
        if "check" not in self._root:
            table.note("is needed: how to ask about a task; or a [feed], where there are no tasks")
            return Step(call=Call(method="GET", address=Address("")))
        read = step(table, questioning=True)
        if not {"ready", "done"} & {read.otherwise, *(verdict.name for verdict in read.verdicts)}:
            table.note("needs a verdict that ends well: ready, or done where there is no file")
        table.close()
        return read

    def _one(self, name: str) -> Step | None:
        if name not in self._root:
            return None
        table = self._root.table(name, self._names)
        read = step(table)
        table.close()
        return read

    def _starts(self) -> Mapping[str, Start]:
        if "start" not in self._root:
            return {}
        table = self._root.table("start")
        if not all(isinstance(table.raw(kind), dict) for kind in table) or "task_id" in table:
            return {"": self._start(self._root, "start")}
        return {kind: self._start(table, kind) for kind in table}

    def _start(self, parent: Table, name: str) -> Start:
        inputs = {key: _input(table, key) for table in [parent.table(name).table("input")] for key in table}
        known = {*self._names, "dry_run", "start_id", *(f"input.{key}" for key in inputs)}
        table = parent.table(name, known)
        table.allow("input")
        task_id = table.expression("task_id")
        if task_id is None:
            table.note("needs task_id: where in the reply the remote's name for the task is", "task_id")
        start = Start(
            step=step(table),
            task_id=task_id or Expression("body"),
            inputs=inputs,
            idempotent=table.flag("idempotent", default=False),
            at_once=table.expression("at_once"),
            why=table.text("why"),
        )
        table.close()
        return start

    def _discovery(self) -> Discovery | None:
        if "discover" not in self._root:
            return None
        inputs = {key: _input(t, key) for t in [self._root.table("discover").table("input")] for key in t}
        paged = {"limit", "offset", "page", "cursor", *(f"input.{key}" for key in inputs)}
        table = self._root.table("discover", {*self._settings, *paged})
        table.allow("input")
        items, task_id = table.expression("items"), self._item(table, "task_id")
        if items is None or task_id is None:
            table.note("needs items (the list in a reply) and task_id (of one item)")
        discovery = Discovery(
            call=call(table),
            items=items or Expression("body"),
            task_id=task_id or Expression("id"),
            only=self._item(table, "only"),
            context=self._items(table, "context"),
            cursor=table.expression("cursor"),
            more=table.expression("more"),
            next=table.expression("next"),
            total=table.expression("total"),
            limit=table.number("limit", least=1) or 50,
            first=_first(table),
            reason=table.expression("reason"),
            inputs=inputs,
        )
        table.close()
        return discovery

    def _item(self, table: Table, name: str) -> Expression | None:
        """Read an expression that looks into one item of a list, not into the whole."""
        text = table.text(name)
        try:
            return Expression(text, dotted((*table.path, name))) if text else None
        except ValueError as error:
            table.note(str(error), name)
            return None

    def _items(self, table: Table, name: str) -> Mapping[str, Expression]:
        inner = table.table(name)
        found = {key: self._item(inner, key) for key in inner}
        return {key: expression for key, expression in found.items() if expression is not None}

    def _feed(self) -> Feed | None:
        if "feed" not in self._root:
            return None
        if "check" in self._root:
            self._root.note("a page has a [check] or a [feed], not both", "feed")
            self._root.allow("check")
        table = self._root.table("feed", self._settings)
        address = table.address("get")
        if address is None:
            table.note("needs get: the address that always gives the newest file")
        feed = Feed(
            address=address or Address(""),
            every=self._every(table),
            headers=table.headers("headers"),
        )
        table.close()
        return feed

    def _every(self, table: Table) -> str:
        every = str(table.shape("every", "5m"))
        if not NAMED.search(every):
            table.duration("every")
        return every

    def _nudge(self) -> Nudge | None:
        if "nudge" not in self._root:
            return None
        table = self._root.table("nudge", self._settings)
        proofs = [name for name in ("hmac", "jws", "jwt", "token") if table.text(name)]
        nudge = Nudge(
            hmac=table.text("hmac"),
            jws=table.text("jws"),
            jwt=table.text("jwt"),
            token=table.text("token"),
            secret=str(table.shape("secret", "")),
            keys=table.address("keys"),
            prefix=table.text("prefix"),
            encoding=table.choice("encoding", ("hex", "base64")),
            when=table.expression("when"),
            task_id=table.expression("task_id"),
        )
        if not proofs:
            table.note("needs a proof, each the name of a header: hmac, jws, jwt or token")
        if nudge.jws and nudge.keys is None:
            table.note("a jws needs keys: the address of the public keys")
        if {"hmac", "jwt", "token"} & set(proofs) and not nudge.secret:
            table.note(f"{proofs[0]} needs a secret")
        table.close()
        return nudge

    def _after(self) -> Mapping[str, tuple[After, ...]]:
        table = self._root.table("after")
        known = {*self._names, "state", "reason", "cause", "files"}
        found = {}
        for state in ("done", "failed", "canceled"):
            found[state] = tuple(map(self._telling, table.tables(state, known)))
        table.close()
        return {state: tellings for state, tellings in found.items() if tellings}

    def _telling(self, table: Table) -> After:
        after = After(call=call(table), when=table.expression("when"))
        table.close()
        return after

    # --- files

    def _files(self, *, feed: bool) -> tuple[FileRule, ...]:
        tables = self._root.tables("file", {*self._names, "each", *self._following()})
        if not tables and not feed and "check" in self._root and "file" not in self._root:
            check = self._root.table("check")
            last = (check.tables("then") or [check])[-1]
            if "ready" in last or "done" not in last:
                self._root.note("is needed: a [[file]] table that says where a finished file is", "file")
            return ()
        return tuple(file(table, feed=feed) for table in tables)

    def _following(self) -> Iterator[str]:
        """Name what the parts of a file are told apart by."""
        files = self._root.raw("file", [])
        for each in files if isinstance(files, list) else [files]:
            following = each.get("next") if isinstance(each, dict) else None
            yield from following if isinstance(following, dict) else ()


def _variable(table: Table, name: str) -> Variable:
    value = table.raw(name)
    if isinstance(value, str) and value in SHORTHANDS:
        return SHORTHANDS[value]
    if not isinstance(value, dict):
        table.note('is "required", "secret", "optional", "optional secret" or a table', name)
        return Variable()
    return _converted(table, name, value, Variable())


def _input(table: Table, name: str) -> Input:
    value = table.raw(name)
    if isinstance(value, str) and value in _WISHES:
        return _WISHES[value]
    if not isinstance(value, dict):
        table.note('is "required", "optional" or a table', name)
        return Input()
    return _converted(table, name, value, Input())


def _converted(table: Table, name: str, value: dict[str, Any], default: T) -> T:
    try:
        return msgspec.convert(value, type(default))
    except msgspec.ValidationError as error:
        table.note(str(error), name)
        return default


def _kept(tables: Any) -> Iterator[str]:
    """Name everything that any step keeps."""
    for table in tables:
        if isinstance(table, list):
            yield from _kept(table)
        if isinstance(table, dict):
            keep = table.get("keep")
            yield from keep if isinstance(keep, dict) else ()
            yield from _kept(
                value for name, value in table.items() if name != "keep" and isinstance(value, dict | list)
            )


def _first(table: Table) -> int:
    first = table.number("first_page", least=0)
    return 1 if first is None else first


def _gives(table: Table) -> str:
    gives = table.text("gives")
    if gives not in ANSWERS:
        table.note(f"is one of {', '.join(ANSWERS)}{meant(gives, ANSWERS)}", "gives")
    return gives


def _example(table: Table) -> Example:
    example = Example(
        step=table.choice("step", ("check", "start", "confirm", "cancel", "discover", "feed")),
        order=table.raw("order", {}),
        replies=tuple(table.raw("replies", [])),
        gives=_gives(table),
        asks=table.texts("asks"),
        more=table.raw("more", {}),
    )
    table.close()
    return example
