"""What somebody wants of a remote, checked against what its page takes."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from poller.errand import Misfit, Wish
from poller.remotes.page import Input, Start
from poller.remotes.table import meant


def fitted(wish: Wish, starts: Mapping[str, Start], name: str) -> Wish:
    """Check a wish for a task, and fill in what was not said; of several kinds the first is meant.

    Raises:
        Misfit: there is no such task, or it cannot be started like this; names every fault.
    """
    if not starts:
        raise Misfit(("remote", f"the page of {name} has no [start]: its tasks are started elsewhere"))
    kind = wish.kind or next(iter(starts))
    if kind not in starts:
        kinds = ", ".join(filter(None, starts))
        raise Misfit(("kind", f"is one of {kinds}{meant(kind, starts)}" if kinds else "is not known: there is one"))
    wish = replace(wish, kind=kind)
    return replace(wish, input=completed(wish.input, starts[wish.kind].inputs))


def completed(given: Mapping[str, Any], inputs: Mapping[str, Input]) -> dict[str, Any]:
    """Check what was given against what is taken, and add the defaults.

    Raises:
        Misfit: it does not fit; names every fault.
    """
    if faults := tuple(_faults(given, inputs)):
        raise Misfit(*faults)
    found = {name: given.get(name, rule.default) for name, rule in inputs.items()}
    return {name: value for name, value in found.items() if value is not None}


def _faults(given: Mapping[str, Any], inputs: Mapping[str, Input]) -> Iterator[tuple[str, str]]:
    for name in given:
        if name not in inputs:
            known = f"; there are {', '.join(inputs)}" if inputs else "; it takes none"
            yield f"input.{name}", f"is not known{meant(name, inputs) or known}"
    for name, rule in inputs.items():
        value = given.get(name, rule.default)
        if rule.required and value in (None, ""):
            yield f"input.{name}", f"is required. {rule.why}".strip()
        elif rule.choices and value is not None and value not in rule.choices:
            yield (
                f"input.{name}",
                f"is one of {', '.join(map(str, rule.choices))}{meant(str(value), list(map(str, rule.choices)))}",
            )
