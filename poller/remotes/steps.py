"""Reads the steps of a page: requests, and how their replies are understood."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from poller.remotes.expression import Expression
from poller.remotes.page import VERDICTS, Call, Payload, Report, Step, Verdict
from poller.remotes.table import Table
from poller.remotes.template import NAME, Address

METHODS = ("get", "post", "put", "patch", "delete", "graphql")


def step(table: Table, *, questioning: bool = False) -> Step:
    """Read a step.

    Args:
        table: where it is.
        questioning: whether it asks about a task, and may have a report and further steps.
    """
    verdicts = tuple(_verdicts(table))
    word = table.expression("word")
    for doubled in sorted(_doubled(verdicts)):
        table.note(f"{doubled!r} is a word of two verdicts")
    if word is None and any(verdict.words for verdict in verdicts):
        table.note("a verdict that is a list of words needs word: where in the reply the word is")
    return Step(
        call=call(table),
        word=word,
        verdicts=verdicts,
        compared=_compared(word, verdicts),
        keep=table.expressions("keep"),
        reason=table.expression("reason"),
        progress=table.expression("progress"),
        retry_after=table.expression("retry_after"),
        report=_report(table) if questioning and "report" in table else None,
        then=tuple(map(_then, table.tables("then"))) if questioning else (),
        at_once=table.expression("at_once") if questioning else None,
        otherwise=table.choice("otherwise", VERDICTS) if table.text("otherwise") else None,
    )


def _then(table: Table) -> Step:
    read = step(table)
    table.close()
    return read


def _verdicts(table: Table) -> Iterator[Verdict]:
    for name in table:
        if name in VERDICTS and isinstance(table.raw(name), list):
            yield Verdict(name=name, words=frozenset(map(_word, table.raw(name))))
        elif name in VERDICTS and (when := table.expression(name)) is not None:
            yield Verdict(name=name, when=when)
    table.allow(*VERDICTS)


def call(table: Table) -> Call:
    """Read a request."""
    methods = [method for method in METHODS if method in table]
    if len(methods) != 1:
        table.note(f"has one address: {', '.join(METHODS[:-1])} or graphql")
    method = methods[0] if methods else "get"
    table.allow(*METHODS)
    address = table.address(method) if methods else None
    return Call(
        method="POST" if method == "graphql" else method.upper(),
        address=address or Address(""),
        params=_params(table),
        headers=table.headers("headers"),
        payload=_payload(table, graphql=method == "graphql"),
    )


def _params(table: Table) -> Any:
    params = table.shape("params", {})
    if isinstance(params, dict) or (isinstance(params, str) and NAME.fullmatch(params)):
        return params
    table.note("is a table, or the name of one in braces", "params")
    return {}


def _report(table: Table) -> Report | None:
    report = table.table("report")
    called = any(method in report for method in METHODS)
    found = Report(
        link=report.expression("link"),
        text=report.expression("text"),
        after=report.text("after"),
        call=call(report) if called else None,
        reason=report.expression("reason"),
    )
    if (found.text is None) is not (not found.after):
        report.note("needs both text and after: the address comes after those words of that text")
    elif sum((found.link is not None, found.text is not None, called)) != 1:
        report.note("is at a link (JMESPath), in a text after some words, or had by a request of its own")
    report.close()
    return found


def _word(value: Any) -> str:
    """Write a word as replies are compared with it: in small letters, be it a text, a number, or true."""
    return value.lower() if isinstance(value, str) else msgspec.json.encode(value).decode()


def _doubled(verdicts: tuple[Verdict, ...]) -> set[str]:
    counts = Counter(word for verdict in verdicts for word in verdict.words)
    return {word for word, count in counts.items() if count > 1}


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
