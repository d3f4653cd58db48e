"""One table of a page while it is read: what is wrong with it is noted, with its place, and reading goes on."""

from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from poller import units
from poller.remotes import template
from poller.remotes.expression import FUNCTIONS, ROOTS, Expression
from poller.remotes.lines import Path, dotted
from poller.remotes.template import Address

T = TypeVar("T")

_HARD = 0.6
"""How alike two words must be, 0 to 1, for one to be meant by the other."""


class Notes:
    """What was found wrong with a page, in the order of its lines.

    Attributes:
        problems: pairs of a path and what is wrong there.
    """

    def __init__(self) -> None:
        self.problems: list[tuple[Path, str]] = []

    def add(self, path: Path, problem: str) -> None:
        """Note a problem."""
        self.problems.append((path, problem))


class Table:
    """A table, and which of its keys somebody has asked for.

    Args:
        values: what it holds.
        path: where it is.
        notes: takes what is wrong.
        known: names that its addresses and bodies may use.
    """

    def __init__(self, values: Any, path: Path, notes: Notes, known: Collection[str] = ()) -> None:
        self.path = path
        self.known = frozenset(known)
        self.notes = notes
        self._asked: set[str] = set()
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}
        if not isinstance(values, dict):
            self.note("is a table")

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def note(self, problem: str, *names: str | int) -> None:
        """Note what is wrong with this table, or with something in it."""
        self.notes.add((*self.path, *names), problem)

    def close(self) -> None:
        """Note every key that nobody has asked for."""
        for name in self._values:
            if name not in self._asked:
                known = f"; known are {', '.join(sorted(self._asked))}"
                self.note(f"is not known here{meant(name, self._asked) or known}", name)

    def raw(self, name: str, default: Any = None) -> Any:
        """Give a value as it is."""
        self._asked.add(name)
        return self._values.get(name, default)

    def allow(self, *names: str) -> None:
        """Say that there may be these keys, though nobody reads them here."""
        self._asked.update(names)

    # --- values of one kind

    def text(self, name: str, default: str = "") -> str:
        """Give a text."""
        return self._kind(name, str, "is a string", default)

    def flag(self, name: str, *, default: bool) -> bool:
        """Give true or false."""
        return self._kind(name, bool, "is true or false", default)

    def number(self, name: str, *, least: int) -> int | None:
        """Give a whole number; None if there is none."""
        value = self.raw(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            return value
        self.note(f"is a whole number, {least} or more", name)
        return None

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Give one of several words; the first is the default."""
        value = self.raw(name, choices[0])
        if value in choices:
            return str(value)
        self.note(f"is one of {', '.join(choices)}{meant(str(value), choices)}", name)
        return choices[0]

    def duration(self, name: str) -> float | None:
        """Give seconds; None if there are none."""
        return self._read(name, units.seconds)

    def texts(self, name: str) -> tuple[str, ...]:
        """Give a list of texts; one alone is a list of one."""
        value = self.raw(name, [])
        listed = [value] if isinstance(value, str) else value
        if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
            return tuple(listed)
        self.note("is a string or a list of strings", name)
        return ()

    def table(self, name: str, known: Collection[str] | None = None) -> "Table":
        """Give a table in this one; an empty one if there is none."""
        return Table(self.raw(name, {}), (*self.path, name), self.notes, self.known if known is None else known)

    def tables(self, name: str, known: Collection[str] | None = None) -> list["Table"]:
        """Give a list of tables; one alone is a list of one."""
        value = self.raw(name, [])
        names = self.known if known is None else known
        if isinstance(value, dict):
            return [Table(value, (*self.path, name), self.notes, names)]
        if not isinstance(value, list):
            self.note("is a table, or a list of tables", name)
            return []
        return [Table(item, (*self.path, name, index), self.notes, names) for index, item in enumerate(value)]

    # --- the languages

    def expression(self, name: str) -> Expression | None:
        """Give an expression; None if there is none."""
        return self._read(name, lambda text: self._compiled(name, text))

    def expressions(self, name: str) -> Mapping[str, Expression]:
        """Give a table of expressions."""
        table = self.table(name)
        found = {key: table.expression(key) for key in table}
        return {key: expression for key, expression in found.items() if expression is not None}

    def address(self, name: str) -> Address | None:
        """Give an address; None if there is none."""
        found = self._read(name, Address)
        for variable in found.names if found is not None else ():
            self._demand_known(variable, name)
        return found

    def shape(self, name: str, default: Any = None) -> Any:
        """Give a body's shape, or a text with names in it."""
        value = self.raw(name, default)
        for variable in dict.fromkeys(template.names(value)):
            self._demand_known(variable, name)
        return value

    def headers(self, name: str, known: Collection[str] | None = None) -> Mapping[str, str]:
        """Give headers, whose values may have names in them."""
        table = self.table(name, known)
        return {header: str(table.shape(header)) for header in table if table.text(header) or header in table}

    def _compiled(self, name: str, text: str) -> Expression:
        expression = Expression(text, dotted((*self.path, name)))
        for function in expression.unknown_functions():
            self.note(f"there is no function {function}(){meant(function, FUNCTIONS)}", name)
        if expression.negates_too_little():
            self.note("negates only the first word after the !; write !(…) with the whole path inside", name)
        for root in dict.fromkeys(expression.roots()):
            if root not in ROOTS:
                self.note(
                    f"looks for {root!r} at the very top, where there are only {', '.join(ROOTS)}{_advice(root, text)}",
                    name,
                )
        return expression

    def _demand_known(self, variable: str, name: str) -> None:
        parts = variable.split(".")
        if f"{parts[0]}." in self.known or any(
            ".".join(parts[:count]) in self.known for count in range(1, len(parts) + 1)
        ):
            return
        names = [each for each in self.known if not each.endswith(".")]
        self.note(f"unknown name {{{variable}}}{meant(variable, names)}", name)

    def _kind(self, name: str, kind: type[T], problem: str, default: T) -> T:
        value = self.raw(name, default)
        if isinstance(value, kind):
            return value
        self.note(problem, name)
        return default

    def _read(self, name: str, reader: Callable[[str], T]) -> T | None:
        if name not in self._values:
            self._asked.add(name)
            return None
        text = self.text(name)
        try:
            return reader(text) if text else None
        except ValueError as error:
            self.note(str(error), name)
            return None


def meant(name: str, names: Collection[str]) -> str:
    """Suggest what was meant by a name that is none of *names*."""
    close = get_close_matches(name, sorted(names), n=1, cutoff=_HARD)
    return f"; did you mean {close[0]!r}?" if close else ""


def _advice(root: str, text: str) -> str:
    """Tell what is wrong with an expression that looks for what is not there."""
    if f'"{root}"' in text:
        return f"; a text is written '{root}', in single quotes"
    return meant(root, ROOTS) or f"; did you mean 'body.{root}'?"
