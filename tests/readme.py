"""The parts of README that follow from the code. ``python -m tests.readme`` writes them anew."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from poller import order as fate
from poller import outcome
from poller.errors import Conflict
from poller.order import Order, State
from poller.outcome import Outcome
from poller.settings import manual

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLES = ROOT / "tests" / "examples"
LANGUAGES = {".sh": "sh", ".mjs": "js", ".py": "python", ".toml": "toml"}

ARROWS = {
    ("held", "pending"): "confirm",
    ("held", "canceled"): "cancel",
    ("pending", "pending"): "not ready, or trouble with attempts left",
    ("pending", "done"): "every file is published, or nothing to fetch",
    ("pending", "failed"): "refused, gone, unsafe, too large, out of attempts, deadline",
    ("pending", "canceled"): "cancel",
    ("failed", "pending"): "retry",
    ("canceled", "pending"): "retry",
}
"""What is written beside each arrow; which arrows there are, the code says."""


def text(now: str) -> str:
    """Write README anew: what stands between the markers is made, the rest stays."""
    return re.sub(
        r"^<!-- made: (.*?) -->$\n.*?^<!-- end -->$",
        lambda part: f"<!-- made: {part[1]} -->\n{made(part[1])}\n<!-- end -->",
        now,
        flags=re.MULTILINE | re.DOTALL,
    )


def made(part: str) -> str:
    """Make one part."""
    kind, _, name = part.partition(" ")
    return (
        {"settings": manual.table, "remotes": manual.catalogue, "states": states, "map": modules}[kind]()
        if not name
        else example(name)
    )


def example(name: str) -> str:
    """Show an example as a block of code."""
    path = EXAMPLES / name
    return f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8').rstrip()}\n```"


def states() -> str:
    """Draw the states and every arrow that the code takes between them."""
    drawn = "\n".join(f"    {before} --> {after}: {ARROWS[before, after]}" for before, after in arrows())
    start = "    [*] --> held: added with dry_run\n    [*] --> pending: added"
    return f"```mermaid\nstateDiagram-v2\n{start}\n{drawn}\n```"


def arrows() -> list[tuple[str, str]]:
    """Find every transition by trying everything on an order in every state."""
    taken: set[tuple[str, str]] = set()
    for state in State:
        order = _order(state)
        taken |= {(state.value, after.state.value) for after in _after(order)}
    return sorted(taken, key=list(ARROWS).index)


def _after(order: Order) -> Iterator[Order]:
    for command in (fate.confirm, fate.cancel, fate.retry, fate.check):
        try:
            yield command(order, 5.0)
        except Conflict:
            continue
    if order.state is State.PENDING:
        yield from (fate.decide(order, found, 5.0, _Policy()) for found in _outcomes())


def _outcomes() -> Iterator[Outcome]:
    for kind in outcome.Outcome.__args__:
        named = set(kind.__struct_fields__)
        yield kind(**({"reason": "why"} if "reason" in named else {}), **({"files": ()} if "files" in named else {}))


class _Policy:
    attempts = 2

    def next_check(self, order: Order, now: float, retry_after: float | None) -> float:
        return now + 1

    def next_try(self, order: Order, now: float, retry_after: float | None) -> float:
        return now + 1

    def forgives(self, order: Order, now: float) -> bool:
        return False

    def expired(self, order: Order, now: float) -> bool:
        return False


def _order(state: State) -> Order:
    times = dict.fromkeys(("created_at", "updated_at", "opened_at"), 0.0)
    return Order(remote="r", task_id="t", state=state, due_at=1.0, deadline=9.0, **times)


def modules() -> str:
    """Name every module with the first line of its docstring, from the top of the layers down."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| | |"
    yield "| --- | --- |"
    for layer in layers():
        for name in layer:
            yield from _entry(name)


def layers() -> list[list[str]]:
    """Read the layers from ``pyproject.toml``, top first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    return [[name.strip().removeprefix("poller.") for name in line.split("|")] for line in contract["layers"]]


def _entry(name: str) -> Iterator[str]:
    package = ROOT / "poller" / name
    if not package.is_dir():
        yield f"| `{name}` | {first_line(package.with_suffix('.py'))} |"
        return
    yield f"| **`{name}/`** | {first_line(package / '__init__.py')} |"
    for path in sorted(package.iterdir()):
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__"):
            yield from _entry(f"{name}/{path.stem}")


def first_line(path: Path) -> str:
    """Give the first line of a module's docstring."""
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert told, f"{path} does not say what it is"
    return told.split("\n")[0].replace("``", "`")


if __name__ == "__main__":
    README.write_text(text(README.read_text(encoding="utf-8")), encoding="utf-8")
