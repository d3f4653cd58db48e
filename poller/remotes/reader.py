"""Reads a remote's page: checks it as a whole before any of it is used, and names every problem at once."""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from poller.errors import ConfigurationError
from poller.remote import Caps, Pacing
from poller.remotes.expression import Expression, arithmetic_is_known
from poller.remotes.lines import Path, dotted, line_of, lines
from poller.remotes.page import (
    NAMED,
    SHORTHANDS,
    VERDICTS,
    After,
    Call,
    Credentials,
    Discovery,
    Example,
    Feed,
    FileRule,
    Input,
    Login,
    Nudge,
    OAuth2,
    Page,
    Payload,
    Report,
    Signed,
    Start,
    Static,
    Step,
    Variable,
    Verdict,
)
from poller.remotes.table import Notes, Table, meant
from poller.remotes.template import Address, names

T = TypeVar("T")

_METHODS = ("get", "post", "put", "patch", "delete", "graphql")
_CREDENTIALS = ("header", "bearer", "basic", "oauth2", "login", "hs256", "none")
_ORDER = ("task_id", "batch", "context.")
_LEAST_CONNECTIONS = 2
"""A question and a download: one must not wait for the other."""
_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_WISHES = {"required": Input(required=True), "optional": Input()}
_BEARER = {"Authorization": "Bearer {token}"}
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
    except tomllib.TOMLDecodeError as error:
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
        self._kept = frozenset(_kept(root.raw(name) for name in _STEPS))
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
            credentials=tuple(map(self._credentials, root.tables("auth", self._settings))),
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

    # --- how to be let in

    def _credentials(self, table: Table) -> Credentials:
        kinds = [name for name in _CREDENTIALS if name in table]
        if len(kinds) != 1:
            table.note(f"has one kind of credentials: {', '.join(_CREDENTIALS)}")
        table.allow(*_CREDENTIALS)
        kind = kinds[0] if kinds else "header"
        known = frozenset({*self._settings, "token"})
        credentials = Credentials(
            kind=getattr(self, f"_{kind}")(table, known),
            renew=table.expression("renew"),
            settings=frozenset(names(table.raw(kind))) & frozenset(self._settings)
            | self._in_addresses(table.raw(kind)),
        )
        table.close()
        return credentials

    def _in_addresses(self, shape: Any) -> frozenset[str]:
        """Name the settings that the addresses in a shape use in their own way of writing braces."""
        texts = [shape] if isinstance(shape, str) else list(_texts(shape))
        found = {name for text in texts for name in re.findall(r"\{[+#]?([A-Z][A-Z0-9_]*)\}", text)}
        return frozenset(found) & frozenset(self._settings)

    def _none(self, table: Table, _known: Collection[str]) -> Static:
        table.flag("none", default=True)
        return Static()

    def _header(self, table: Table, _known: Collection[str]) -> Static:
        return Static(headers=table.headers("header"))

    def _bearer(self, table: Table, _known: Collection[str]) -> Static:
        return Static(headers={"Authorization": f"Bearer {table.shape('bearer', '')}"})

    def _basic(self, table: Table, _known: Collection[str]) -> Static:
        basic = table.table("basic")
        static = Static(user=str(basic.shape("user", "")), password=str(basic.shape("password", "")))
        if not static.user:
            basic.note("needs a user")
        basic.close()
        return static

    def _oauth2(self, table: Table, known: Collection[str]) -> OAuth2:
        oauth2 = table.table("oauth2")
        extra = {
            name: oauth2.shape(name) for name in ("audience", "scope", "refresh_token", "resource") if name in oauth2
        }
        for name in ("token_url", "client_id", "client_secret"):
            if not oauth2.text(name):
                oauth2.note(f"needs {name}")
        found = OAuth2(
            token_url=oauth2.address("token_url") or Address(""),
            client_id=str(oauth2.shape("client_id", "")),
            client_secret=str(oauth2.shape("client_secret", "")),
            grant=oauth2.choice("grant", ("client_credentials", "refresh_token")),
            send=oauth2.choice("send", ("form", "json")),
            client=oauth2.choice("client", ("body", "basic")),
            extra=extra,
            headers=oauth2.headers("header", known) or _BEARER,
        )
        oauth2.close()
        return found

    def _login(self, table: Table, known: Collection[str]) -> Login:
        login = table.table("login")
        found = Login(
            call=self._call(login),
            token=login.expression("token"),
            cookie=login.text("cookie"),
            expires_in=login.expression("expires_in"),
            lifetime=login.duration("lifetime"),
            denied=login.expression("denied"),
            headers=login.headers("header", known) or _BEARER,
        )
        if (found.token is None) is (not found.cookie):
            login.note("gives a token (JMESPath) or a cookie (its name)")
        login.close()
        return found

    def _hs256(self, table: Table, known: Collection[str]) -> Signed:
        signed = table.table("hs256")
        found = Signed(
            secret=str(signed.shape("secret", "")),
            claims=dict(signed.shape("claims", {})),
            lifetime=signed.duration("lifetime") or 300.0,
            headers=signed.headers("header", known) or _BEARER,
        )
        if not found.secret:
            signed.note("needs a secret")
        signed.close()
        return found

    # --- steps

    def _check(self) -> Step:
        table = self._root.table("check", self._names)
        if "check" not in self._root:
            table.note("is needed: how to ask about a task; or a [feed], where there are no tasks")
            return Step(call=Call(method="GET", address=Address("")))
        step = self._step(table, questioning=True)
        if not {"ready", "done"} & {verdict.name for verdict in step.verdicts}:
            table.note("needs a verdict that ends well: ready, or done where there is no file")
        table.close()
        return step

    def _one(self, name: str) -> Step | None:
        if name not in self._root:
            return None
        table = self._root.table(name, self._names)
        step = self._step(table)
        table.close()
        return step

    def _step(self, table: Table, *, questioning: bool = False) -> Step:
        verdicts = tuple(self._verdicts(table))
        word = table.expression("word")
        if word is None and any(verdict.words for verdict in verdicts):
            table.note("a verdict that is a list of words needs word: where in the reply the word is")
        return Step(
            call=self._call(table),
            word=word,
            verdicts=verdicts,
            compared=_compared(word, verdicts),
            keep=table.expressions("keep"),
            reason=table.expression("reason"),
            progress=table.expression("progress"),
            retry_after=table.expression("retry_after"),
            report=self._report(table) if questioning and "report" in table else None,
            then=tuple(map(self._then, table.tables("then"))) if questioning else (),
        )

    def _then(self, table: Table) -> Step:
        step = self._step(table)
        table.close()
        return step

    def _verdicts(self, table: Table) -> Iterator[Verdict]:
        for name in table:
            if name in VERDICTS and isinstance(table.raw(name), list):
                yield Verdict(name=name, words=frozenset(map(_word, table.raw(name))))
            elif name in VERDICTS and (when := table.expression(name)) is not None:
                yield Verdict(name=name, when=when)
        table.allow(*VERDICTS)

    def _call(self, table: Table) -> Call:
        methods = [method for method in _METHODS if method in table]
        if len(methods) != 1:
            table.note(f"has one address: {', '.join(_METHODS[:-1])} or graphql")
        method = methods[0] if methods else "get"
        table.allow(*_METHODS)
        address = table.address(method) if methods else None
        return Call(
            method="POST" if method == "graphql" else method.upper(),
            address=address or Address(""),
            params=self._params(table),
            headers=table.headers("headers"),
            payload=_payload(table, graphql=method == "graphql"),
        )

    def _params(self, table: Table) -> Mapping[str, Any]:
        params = table.shape("params", {})
        if isinstance(params, dict):
            return params
        table.note("is a table", "params")
        return {}

    def _report(self, table: Table) -> Report | None:
        report = table.table("report")
        called = any(method in report for method in _METHODS)
        found = Report(
            link=report.expression("link"),
            text=report.expression("text"),
            after=report.text("after"),
            call=self._call(report) if called else None,
            reason=report.expression("reason"),
        )
        if (found.text is None) is not (not found.after):
            report.note("needs both text and after: the address comes after those words of that text")
        elif sum((found.link is not None, found.text is not None, called)) != 1:
            report.note("is at a link (JMESPath), in a text after some words, or had by a request of its own")
        report.close()
        return found

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
            step=self._step(table),
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
            call=self._call(table),
            items=items or Expression("body"),
            task_id=task_id or Expression("id"),
            only=self._item(table, "only"),
            context=self._items(table, "context"),
            cursor=table.expression("cursor"),
            more=table.expression("more"),
            next=table.expression("next"),
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
        after = After(call=self._call(table), when=table.expression("when"))
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
        return tuple(self._file(table, feed=feed) for table in tables)

    def _following(self) -> Iterator[str]:
        """Name what the parts of a file are told apart by."""
        files = self._root.raw("file", [])
        for file in files if isinstance(files, list) else [files]:
            following = file.get("next") if isinstance(file, dict) else None
            yield from following if isinstance(following, dict) else ()

    def _file(self, table: Table, *, feed: bool) -> FileRule:
        link, path = table.expression("link"), table.address("path")
        if link is None and path is None and not feed:
            table.note("needs a link (JMESPath) or a path (URI Template)")
        rule = FileRule(
            link=link,
            path=path,
            each=table.expression("each"),
            optional=table.flag("optional", default=False),
            auth=table.flag("auth", default=True),
            headers=table.headers("headers"),
            max_age=table.duration("max_age"),
            next=None if isinstance(table.raw("next"), dict) else table.expression("next"),
            following=table.expressions("next") if isinstance(table.raw("next"), dict) else {},
            types=_types(table.table("types")),
            extension=_extension(table, "extension"),
            extensions=frozenset(_extensions(table)),
            unpack=table.expression("unpack"),
            unframed=table.choice("unframed", ("twice", "refuse", "trust")),
        )
        table.close()
        return rule


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


def _texts(shape: Any) -> Iterator[str]:
    if isinstance(shape, str):
        yield shape
    for value in shape.values() if isinstance(shape, dict) else shape if isinstance(shape, list) else ():
        yield from _texts(value)


def _word(value: Any) -> str:
    """Write a word as replies are compared with it: in small letters, be it a text, a number, or true."""
    return value.lower() if isinstance(value, str) else msgspec.json.encode(value).decode()


def _compared(word: Expression | None, verdicts: tuple[Verdict, ...]) -> tuple[Expression, ...]:
    if word is not None:
        return (word,)
    found = {path.text: path for verdict in verdicts if verdict.when for path in verdict.when.compared()}
    return tuple(found.values())


def _payload(table: Table, *, graphql: bool) -> Payload | None:
    kinds = [kind for kind in ("json", "form", "multipart") if kind in table]
    if graphql:
        document = table.text("query")
        if not document:
            table.note("needs query: the GraphQL document")
        if kinds:
            table.note(f"a GraphQL request has variables, and no {kinds[0]}", kinds[0])
        return Payload(kind="graphql", shape=table.shape("variables", {}), document=document)
    if len(kinds) > 1:
        table.note(f"has one body: {' or '.join(kinds)}")
    if kinds and kinds[0] != "json" and not isinstance(table.raw(kinds[0]), dict):
        table.note("is a table", kinds[0])
        return None
    return Payload(kind=kinds[0], shape=table.shape(kinds[0])) if kinds else None


def _first(table: Table) -> int:
    first = table.number("first_page", least=0)
    return 1 if first is None else first


def _types(table: Table) -> dict[str, str]:
    return {media_type.lower(): _extension(table, media_type) for media_type in table}


def _extension(table: Table, name: str) -> str:
    extension = table.raw(name, "")
    if extension == "" or (isinstance(extension, str) and _EXTENSION.fullmatch(extension)):
        return str(extension)
    table.note("an extension is a dot and up to eight small letters or digits", name)
    return ""


def _extensions(table: Table) -> Iterator[str]:
    for extension in table.texts("extensions"):
        if _EXTENSION.fullmatch(extension):
            yield extension
        else:
            table.note("an extension is a dot and up to eight small letters or digits", "extensions")


def _example(table: Table) -> Example:
    example = Example(
        step=table.choice("step", ("check", "start", "confirm", "cancel", "discover", "feed")),
        order=table.raw("order", {}),
        replies=tuple(table.raw("replies", [])),
        gives=table.text("gives"),
        asks=table.texts("asks"),
        more=table.raw("more", {}),
    )
    table.close()
    return example
