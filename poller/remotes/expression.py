"""Values and verdicts: JMESPath over what a reply says.

The specification is that of jmespath.site: beside paths and comparisons it has arithmetic
(``body.done / body.total``), functions of text (``split``, ``lower``) and ``$``, the whole, for
use inside a filter.
"""

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

ROOTS = ("status", "headers", "body", "date", "task", "vars", "input")
"""What an expression can begin with."""

FUNCTIONS = frozenset(Functions.FUNCTION_TABLE)
"""What an expression can call."""
_CANNOT = (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""What evaluating raises where the values are not what the expression takes."""
_FIRST = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection", "flatten"}
)
"""Of these, only the first part looks into the whole; the rest looks into what that has given."""
_ELSEWHERE = frozenset({"let_expression", "expref", "literal"})

WITNESS: ContextVar[Callable[["Expression", Any], None] | None] = ContextVar("WITNESS", default=None)
"""Is told every expression that is computed, and its value or the error; for whoever tries a page out."""


class Expression:
    """One expression, compiled.

    Args:
        text: JMESPath.
        place: where the page has it, such as ``check.ready``.

    Raises:
        ValueError: it is none; says why.
    """

    def __init__(self, text: str, place: str = "") -> None:
        self.text = text
        self.place = place
        try:
            self._parsed = jmespath.compile(text)
        except (JMESPathError, ValueError, RecursionError) as error:
            raise ValueError(f"is not JMESPath: {' '.join(str(error).split())}") from None

    def of(self, scene: Mapping[str, Any]) -> Any:
        """Compute it; null where the values are not what it takes."""
        try:
            return self.strictly(scene)
        except ValueError:
            return None

    def strictly(self, scene: Mapping[str, Any]) -> Any:
        """Compute it.

        Raises:
            ValueError: the values are not what it takes; says why.
        """
        witness = WITNESS.get()
        try:
            value = self._parsed.search(scene)
        except _CANNOT as error:
            problem = ValueError(" ".join(str(error).split()) or type(error).__name__)
            if witness is not None:
                witness(self, problem)
            raise problem from None
        if witness is not None:
            witness(self, value)
        return value

    def holds(self, scene: Mapping[str, Any]) -> bool:
        """Judge its value as JMESPath does: false, null and everything empty are false; zero is true."""
        return is_true(self.strictly(scene))

    def roots(self) -> Iterator[str]:
        """Name every field that it looks up in the whole, rather than inside something."""
        yield from _roots(self._parsed.parsed)

    def unknown_functions(self) -> Iterator[str]:
        """Name the functions it calls that there are not."""
        yield from (name for name in _functions(self._parsed.parsed) if name not in FUNCTIONS)

    def negates_too_little(self) -> bool:
        """Tell whether it is one of those that hardly anybody means: ``!a.b`` is the ``b`` of ``!a``."""
        return _negates_too_little(self._parsed.parsed)

    def compared(self) -> Iterator["Expression"]:
        """Give what it compares with words: the fields of the body beside a literal."""
        for path in dict.fromkeys(_compared(self._parsed.parsed)):
            yield Expression(path)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def is_true(value: Any) -> bool:
    """Judge a value as JMESPath does."""
    return value is not None and value is not False and value not in ("", [], {})


def arithmetic_is_known() -> bool:
    """Tell whether the library is the one we ask for: another package of the same name knows no arithmetic."""
    try:
        return bool(jmespath.compile("`1` + `1`").search({}) == 2)  # noqa: PLR2004 - the sum
    except JMESPathError:
        return False


def _children(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [child for child in node.get("children", ()) if isinstance(child, dict)]


def _roots(node: Mapping[str, Any]) -> Iterator[str]:
    """Walk what is evaluated against the whole."""
    kind, children = node["type"], _children(node)
    if kind == "field":
        yield str(node["value"])
    for child in children[:1] if kind in _FIRST else () if kind in _ELSEWHERE else children:
        yield from _roots(child)


def _functions(node: Mapping[str, Any]) -> Iterator[str]:
    if node["type"] == "function_expression":
        yield str(node["value"])
    for child in _children(node):
        yield from _functions(child)


def _negates_too_little(node: Mapping[str, Any]) -> bool:
    children = _children(node)
    negated = node["type"] in _FIRST - {"pipe"} and children[0]["type"] == "not_expression"
    return negated or any(map(_negates_too_little, children))


def _compared(node: Mapping[str, Any]) -> Iterator[str]:
    children = _children(node)
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
    if node["type"] == "function_expression" and node["value"] == "lower":
        return _path(_children(node)[0])
    names = [child["value"] for child in _children(node) if child["type"] == "field"]
    whole = node["type"] == "subexpression" and len(names) == len(node["children"]) and names[0] == "body"
    return ".".join(map(_spelled, names)) if whole else ""


def _spelled(name: str) -> str:
    """Spell a field's name as JMESPath does: one that is no plain word in quotes."""
    plain = name.isascii() and name.isidentifier()
    return name if plain else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
