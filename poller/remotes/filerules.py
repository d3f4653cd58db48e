"""Reads what a page says of its files: where they are, and what they are like."""

import re
from collections.abc import Iterator

from poller.remotes.page import FileRule
from poller.remotes.table import Table

_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")


def file(table: Table, *, feed: bool) -> FileRule:
    """Read one kind of file; of a *feed* the address is known."""
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
        empty=table.choice("empty", ("refuse", "none")),
    )
    table.close()
    return rule


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
