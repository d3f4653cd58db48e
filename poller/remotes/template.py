"""Addresses and bodies with names in braces, filled in with values.

An address is a URI Template (RFC 6570), which encodes what it takes in. A body is a shape of
tables, lists and texts: a text that is nothing but ``{name}`` becomes the value itself, be it a
number, a list or a table; within a longer text a value stands as text. A body is encoded only after that,
so no value can end the place that it was given. Names may have dots: ``{input.filter.status}``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
import uritemplate

NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*)\}")
"""A name within a text that is no address; braces around anything else are braces."""
_DOTS = frozenset({".", ".."})
_BRACED = re.compile(r"\{[^{}]*\}")
_NEEDED = frozenset({"", "+"})
"""Operators without which an address would be another one; of all others (RFC 6570, 3.2) a part less is made."""


class Incomplete(Exception):  # noqa: N818 - the caller says what that means
    """An address cannot be made of these values; the text says why."""


class Address:
    """A URI Template.

    Args:
        text: the template.

    Raises:
        ValueError: it is none; says why.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if set("{}") & set(_BRACED.sub(_emptied, text)):
            raise ValueError("is no URI Template (RFC 6570): its braces do not make expressions")
        self._parsed = uritemplate.URITemplate(text)
        self.names = tuple(dict.fromkeys(self._parsed.variable_names))
        self._prefixes = frozenset(name for name in self.names if f"{{+{name}}}/" in text)
        self.needed = tuple(dict.fromkeys(_needed(self._parsed)))

    def __repr__(self) -> str:
        return f"Address({self.text!r})"

    def filled(self, values: Mapping[str, Any]) -> str:
        """Fill it in; a value that would climb in it is refused, encoded or not.

        Raises:
            Incomplete: a value is missing, climbs, or is no text that an address can hold.
        """
        found = {name: _plain(look_up(name, values)) for name in self.names}
        found |= {name: found[name].rstrip("/") for name in self._prefixes if isinstance(found[name], str)}
        for name in self.needed:
            if found[name] in (None, ""):
                raise Incomplete(f"the address {self.text} needs {{{name}}}, and there is none")
        try:
            expanded = self._parsed.expand(found)
        except UnicodeEncodeError:
            raise Incomplete(f"a value in the address {self.text} is no text that an address can hold") from None
        if _DOTS & {unquote(part) for part in re.split("[/?#]", expanded)}:
            raise Incomplete(f"a value would climb in the address {self.text}")
        return expanded


def names(shape: Any) -> Iterator[str]:
    """Give every name in braces anywhere in a shape."""
    if isinstance(shape, str):
        yield from NAME.findall(shape)
    elif isinstance(shape, Mapping):
        for value in shape.values():
            yield from names(value)
    elif isinstance(shape, list | tuple):
        for value in shape:
            yield from names(value)


def filled(shape: Any, values: Mapping[str, Any]) -> Any:
    """Fill in a shape; what a missing value was to be is left out. None if nothing is left of a text."""
    if isinstance(shape, str):
        return _text(shape, values)
    if isinstance(shape, Mapping):
        found = {name: filled(value, values) for name, value in shape.items()}
        return {name: value for name, value in found.items() if value is not None}
    if isinstance(shape, list | tuple):
        return [value for value in (filled(each, values) for each in shape) if value is not None]
    return shape


def text(shape: str, values: Mapping[str, Any]) -> str:
    """Fill in a text that stays one, such as a header; a missing value leaves nothing."""
    return NAME.sub(lambda name: written(look_up(name[1], values)), shape)


def look_up(name: str, values: Mapping[str, Any]) -> Any:
    """Find a value by a name that may have dots; None if there is none."""
    if name in values:
        return values[name]
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def written(value: Any) -> str:
    """Write a value as text: a text as it is, nothing for None, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _text(shape: str, values: Mapping[str, Any]) -> Any:
    whole = NAME.fullmatch(shape)
    if whole is not None:
        return look_up(whole[1], values)
    return text(shape, values)


def _plain(value: Any) -> Any:
    """Give a value as a URI Template takes it: a text, a list of texts, or a table of texts."""
    if isinstance(value, Mapping):
        return {name: written(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [written(each) for each in value]
    return None if value is None else written(value)


def _emptied(braced: re.Match[str]) -> str:
    return "" if uritemplate.variables(braced[0]) else "{}"


def _needed(template: uritemplate.URITemplate) -> Iterable[str]:
    """Name the variables without which it would be another address."""
    for variable in template.variables:
        if variable.operator.value in _NEEDED:
            yield from (name for name, _ in variable.variables)
