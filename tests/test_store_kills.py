"""What the embedded store keeps when its process is killed, at named points and at random under load."""

import multiprocessing
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from poller.order import Key, State
from poller.store import Query
from poller.stores.care.verify import verify
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests import victim
from tests.adder import FORGOTTEN
from tests.children import start, words
from tests.day import Contents, contents, expectations
from tests.stores import in_memory
from tests.victim import DAY, Victim

pytestmark = pytest.mark.unmeasured

HEAVY = [pytest.mark.heavy, pytest.mark.timeout(24 * 3600)]


processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.victim"])


# --- At named points ----------------------------------------------------------------------------------

COMMIT = {
    "staged, before it is written": "write/journal/before/1",
    "half written": "write/journal/inside/1",
    "written, before it is synced": "sync/journal/before/1",
    "synced, before it is acknowledged": "sync/journal/after/1",
}
BEGINNING = {
    "before the journal is created": "create/begun/before/1",
    "with an empty journal aside": "create/begun/after/1",
    "while room is reserved": "reserve/begun/inside/1",
    "in the journal's first line": "write/begun/inside/1",
    "before the first line is synced": "sync/begun/before/1",
    "before the journal has its name": "rename/begun/before/1",
    "when the journal has its name": "rename/begun/after/1",
}
MARKING = {
    "before the snapshot says that it is open": "overwrite/snapshot/before/1",
    "when the snapshot says that it is open": "overwrite/snapshot/after/1",
}
NAMING = {
    "before the previous one goes": "unlink/previous/before/1",
    "when the previous one is gone": "unlink/previous/after/1",
    "when the snapshot has a second name": "link/previous/after/1",
}
REMOVING = {
    "before the journal goes": "unlink/journal/before/1",
    "when the journal is gone": "unlink/journal/after/1",
}
SETTLING = {
    "before the snapshot is created": "create/fresh/before/1",
    "with an empty snapshot aside": "create/fresh/after/1",
    "in the snapshot": "write/fresh/inside/1",
    "before the snapshot is synced": "sync/fresh/before/1",
    "when the snapshot is synced": "sync/fresh/after/1",
    **NAMING,
    "before the snapshot has its name": "rename/fresh/before/1",
    "when the snapshot has its name": "rename/fresh/after/1",
    "when that is synced": "sync/folder/after/1",
    **REMOVING,
}
ROTATION = {
    "before the full journal moves": "rename/journal/before/1",
    "when the full journal has moved": "rename/journal/after/1",
    "when that is synced": "sync/folder/after/1",
    **BEGINNING,
    "before the new name is synced": "sync/folder/before/2",
    "when the new name is synced": "sync/folder/after/2",
    **COMMIT,
}
FOLDING = {
    "before the snapshot is created": "create/folded/before/1",
    "in the snapshot": "write/folded/inside/1",
    "before the snapshot is synced": "sync/folded/before/1",
    "when the snapshot is synced": "sync/folded/after/1",
    **NAMING,
    "before the snapshot has its name": "rename/folded/before/1",
    "when the snapshot has its name": "rename/folded/after/1",
    "when that is synced": "sync/folder/after/3",
    "before the full journal goes": "unlink/full/before/1",
    "when the full journal is gone": "unlink/full/after/1",
    "when that is synced, too": "sync/folder/after/4",
}
FOUNDING = {
    "in the first snapshot": "write/fresh/inside/1",
    "before the first snapshot is synced": "sync/fresh/before/1",
    "before the first snapshot has its name": "rename/fresh/before/1",
    "when the first snapshot has its name": "rename/fresh/after/1",
    **BEGINNING,
    **MARKING,
}


def named(**phases: Mapping[str, str]) -> dict[str, str]:
    """Give points their names: what is done, and how far it is."""
    return {
        f"{phase}: {name}": f"{phase}/{place}" for phase, places in phases.items() for name, place in places.items()
    }


POINTS = {
    **named(found=FOUNDING, add=COMMIT, save=COMMIT, soft=COMMIT, rotate=ROTATION, close=SETTLING),
    **{f"fold: {name}": f"rotate/{place}" for name, place in FOLDING.items()},
    **named(open=BEGINNING | MARKING, recover=SETTLING | BEGINNING | MARKING, stop=SETTLING),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory: what a process has written outlives it there as well."""
    with in_memory() as path:
        yield path


@pytest.mark.parametrize("again", [0, *(pytest.param(n, marks=pytest.mark.heavy) for n in (1, 2))])
@pytest.mark.parametrize("point", POINTS)
async def test_a_process_killed_at_a_named_point_has_lost_nothing(folder, point, again):
    """It starts anew with all that was acknowledged and at most the change under way, and ends as it always does."""
    path = folder / "orders.json"
    acknowledged = killed(path, POINTS[point])
    assert verify(path).damage is None
    expected = await expectations(DAY)
    lived = Victim(path, lambda done: None)
    await lived.live()
    assert lived.found in {acknowledged, min(acknowledged + 1, len(DAY))}
    assert await kept(path) == expected[-1]


def killed(path: Path, point: str) -> int:
    """Have a process killed at a point; tell how many changes it had acknowledged."""
    ours, theirs = processes.Pipe(duplex=False)
    child = processes.Process(target=victim.run, args=(path, point, theirs))
    child.start()
    theirs.close()
    told = [0]
    with ours, suppress(EOFError):
        while True:
            told.append(ours.recv())
    child.join()
    assert child.exitcode == -9, "it never came to that point"
    return told[-1]


async def kept(path: Path) -> Contents:
    """Read what a store that was closed keeps."""
    report = verify(path)
    assert (report.damage, report.journals) == (None, ())
    store = await TinyStore.open(path, now=lambda: 6.0)
    there = await contents(store)
    await store.close()
    return there


# --- Under load -----------------------------------------------------------------------------------------


class Witness:
    """Whoever listens to a process that adds orders, kills it, and looks what is left.

    Attributes:
        told: what was acknowledged, as its words.
        left: how often some file, or none, was left by a kill.
    """

    def __init__(self, path: Path, seed: object) -> None:
        self.told: list[list[str]] = []
        self.left: Counter[str] = Counter()
        self._path = path
        self._chance = random.Random(str(seed))

    async def round(self, first: int) -> None:
        """Let a process work for a while, kill it in one of three ways, and demand what it told of."""
        child = start(self._path, first)
        try:
            self._listen(child, self._chance.randrange(1, 300))
            if self._chance.random() < 0.3 and _folding(child):
                self._kill_the_one_that_folds(child)
        finally:
            self._end(child)
        self._look()
        await self._demand()

    def _listen(self, child: subprocess.Popen, lines: int) -> None:
        for _ in range(lines):
            self.told.append(child.stdout.readline().decode().split())

    def _kill_the_one_that_folds(self, child: subprocess.Popen) -> None:
        """The store goes on without it."""
        for each in _folding(child):
            with suppress(psutil.NoSuchProcess):  # it may have ended just now
                each.kill()
            self.left["a fold that was killed alone"] += 1
        self._listen(child, 100)

    def _end(self, child: subprocess.Popen) -> None:
        """Kill it, and in half of the cases the one that folds for it as well; hear what it had still told."""
        orphans = _folding(child)
        os.killpg(child.pid, 9) if self._chance.random() < 0.5 else child.kill()
        rest, _ = child.communicate()
        self.told += words(rest)
        self.left["a fold that outlived its store"] += sum(each.is_running() for each in orphans)

    def _look(self) -> None:
        names = Names(self._path)
        for path in (names.full, names.folded, *names.aside):
            self.left[path.name.removeprefix("orders.json")] += path.exists()
        self.left["no journal"] += not names.journal.exists()

    async def _demand(self) -> None:
        assert all(self.told), "a process ended by itself"
        report = verify(self._path)
        assert report.damage is None, report.damage
        store = await TinyStore.open(self._path, now=time.time, report=lambda _: None)
        for word, number in self.told:
            await self._demand_one(store, word, int(number))
        there = {key.task_id for key in await all_of(store)}
        assert {f"with {name}" for name in there if name.startswith("t")} <= there, "half an add"
        await store.close()

    async def _demand_one(self, store: TinyStore, word: str, number: int) -> None:
        order = await store.get(Key("grafx", f"t{number}"))
        if word == "gone":
            assert order is None, number
        elif word in {"add", "done"} and number % FORGOTTEN:
            assert order is not None, number
            events = [event.event for event in (await store.history(order.key)).events]
            assert events == ["added", "done"][: 1 + (order.state is State.DONE)]
            assert word == "add" or order.state is State.DONE, number


async def all_of(store: TinyStore) -> list[Key]:
    """Give the keys of all orders."""
    query, keys = Query(limit=500), []
    while query is not None:
        page = await store.search(query)
        keys += [order.key for order in page.orders]
        query = None if page.next is None else replace(query, after=page.next)
    return keys


def _folding(child: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(child.pid).children()
    except psutil.NoSuchProcess:
        return []


ROUNDS = [
    *(pytest.param(5, part, id=f"5 rounds, {part}") for part in range(10)),
    *(pytest.param(50, part, id=f"50 rounds, {part}", marks=HEAVY) for part in range(20)),
]


@pytest.mark.parametrize(("rounds", "part"), ROUNDS)
async def test_a_process_killed_under_load_loses_nothing_it_acknowledged(tmp_path, rounds, part, record_property):
    """However often it is killed, at whatever moment: the store opens, and all that was told of is there."""
    witness = Witness(tmp_path / "0.json", (rounds, part))
    for number in range(rounds):
        if number % 10 == 9:  # a new store, lest most of the time is spent reading it
            witness = Witness(tmp_path / f"{number}.json", (rounds, part, number))
        await witness.round(number * 100_000)
    record_property("processes killed", rounds)
    record_property("left behind", dict(witness.left))
    assert len(witness.told) > rounds % 10
