"""What ``poller store`` says to people: names and values, line by line."""

from collections.abc import Iterable, Iterator

from poller.order import Key
from poller.stores.care.imports import Import
from poller.stores.care.repair import Repair
from poller.stores.care.salvage import Loss
from poller.stores.care.verify import Report
from poller.stores.journal import Torn

_MOST = 20
"""Lines of one kind that are worth a screen; all of them are in the JSON."""


def found(report: Report) -> Iterator[tuple[str, str]]:
    """Say what the files hold."""
    yield "store", report.path
    if report.generation is None:
        return
    yield "snapshot", f"generation {report.generation}"
    for header in report.journals:
        yield "journal", f"generation {header.generation}, begun by process {header.pid} on {header.host}"
    for state, count in report.orders.items():
        yield state, str(count)
    if report.torn is not None:
        yield "torn tail", f"line {report.torn.line}, from byte {report.torn.offset}: the next start cuts it"


def mended(done: Repair) -> Iterator[tuple[str, str]]:
    """Say what a repair kept, and what it could not keep."""
    yield "store", done.path + (" (nothing was changed)" if done.dry_run else "")
    yield "damage", done.damage
    for state, count in done.orders.items():
        yield state, str(count)
    yield from _some("lost", (_place(loss) for loss in done.lost))
    yield from _some("taken back", map(_name, done.recovered))
    yield from _some("doubtful", map(_name, done.doubtful))
    yield from (("note", note) for note in done.notes)
    yield from (("kept as", name) for name in done.aside)


def taken(done: Import) -> Iterator[tuple[str, str]]:
    """Say what an import did."""
    yield "store", done.path + (" (it is new)" if done.founded else "")
    yield "added", str(done.added)
    yield "replaced", str(done.replaced)
    yield "equal", str(done.equal)


def cut(torn: Torn) -> str:
    """Say what became of a torn tail."""
    return (
        f"line {torn.line} of the store's journal (from byte {torn.offset}): the last {torn.size} bytes were never "
        "completed, so nobody was told that they were kept; they were cut"
    )


def _place(loss: Loss) -> str:
    place = loss.file
    if loss.line is not None:
        place += f", line {loss.line}"
    if loss.byte is not None:
        place += f" (from byte {loss.byte})"
    about = f"; it names {', '.join(map(_name, loss.keys))}" if loss.keys else ""
    return f"{place}: {loss.what}{about}"


def _name(key: Key) -> str:
    return f"{key.task_id} of {key.remote}"


def _some(name: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    listed = list(values)
    yield from ((name, value) for value in listed[:_MOST])
    if len(listed) > _MOST:
        yield name, f"and {len(listed) - _MOST} more; --json has them all"
