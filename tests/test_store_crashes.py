"""What the embedded store finds after its process or the power ended, at every moment of a day.

The day's operations are recorded; each prefix of them leaves the states that ``disk`` allows.
The store must start from every one of them: what was acknowledged is there, of what was under
way no change is there without all that were asked for before it, and none is there by half.
"""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from poller.stores.care.verify import verify
from poller.stores.files import Files
from poller.stores.journal import Header, Journal, Put, Reader, encode
from poller.stores.tinydb import TinyStore
from tests.day import FULL, PLAIN, RESTART, Contents, Entry, Life, RecordingFiles, contents, expectations
from tests.disk import Disk, Image
from tests.stores import OPERATIONS, an_order, in_memory

pytestmark = pytest.mark.unmeasured

DAYS = {
    "folding": (FULL, 1, True),
    "journal only": (FULL, 10**9, True),
    "folding meanwhile": ((*PLAIN[:5], RESTART, *PLAIN[5:]), 1, False),
}
"""Days, the bytes from which a journal is full, and whether each change waits for the folding before it."""
FLOORS = {"folding": 600, "journal only": 500, "folding meanwhile": 300}
"""How many different states a power failure must have left at the least, for the proof to be one."""
HEAVY = [pytest.mark.heavy, pytest.mark.timeout(24 * 3600)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory: the model keeps nothing for real."""
    with in_memory() as path:
        yield path


async def recorded(folder: Path, day: str) -> list[Entry]:
    """Live a day and give what was asked of the disk."""
    bursts, full, patient = DAYS[day]
    files = RecordingFiles()
    home = folder / "lived"
    home.mkdir()
    await Life(home / "orders.json", files, full=full, patient=patient).live(bursts)
    return files.log


class Trials:
    """Restarts from images of a disk, each once.

    Attributes:
        tried: how many different images there were.
    """

    def __init__(self, folder: Path, expected: Sequence[Contents]) -> None:
        self._path = folder / "restarted" / "orders.json"
        self._expected = expected
        self._seen: dict[frozenset[tuple[str, int]], int] = {}

    @property
    def tried(self) -> int:
        return len(self._seen)

    def index(self, there: Contents) -> int:
        """Tell after how many changes a store holds this."""
        return self._expected.index(there)

    async def demand(self, image: Image, low: int, high: int, place: str) -> None:
        """Make sure that between *low* and *high* changes are there, in order, and that the store goes on."""
        key = frozenset((name, hash(data)) for name, data in image.items())
        if key not in self._seen:
            put(self._path.parent, image)
            self._seen[key] = self.index(await restarted(self._path))
        assert low <= self._seen[key] <= high, f"{place}: {self._seen[key]} changes of {low} to {high}"


def put(folder: Path, image: Image) -> None:
    """Make a folder hold an image and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in image.items():
        (folder / name).write_bytes(data)


async def restarted(path: Path) -> Contents:
    """Start from what is on disk, and read it; verify must have agreed, and afterwards it is as good as new."""
    report = verify(path)
    assert report.damage is None, report.damage
    store = await TinyStore.open(path, now=lambda: 6.0)
    there = await contents(store)
    assert sum(report.orders.values()) == len(there)
    await store.add([an_order("later")])
    await store.close()
    after = verify(path)
    assert (after.damage, after.journals, sum(after.orders.values())) == (None, (), len(there) + 1)
    return there


def moments(log: Sequence[Entry], disk: Disk) -> Iterator[tuple[int, int, int]]:
    """Apply a log to a disk step by step; give the step, and how many changes must and may be there."""
    low = high = 0
    for number, (name, args) in enumerate(log):
        if name == "note":
            high, low = args
        else:
            getattr(disk, name)(*args)
        yield number, low, high


def test_every_operation_that_changes_a_disk_is_recorded():
    """A new one must be told to the model, lest it is taken for something that cannot be lost."""
    assert set(OPERATIONS) - set(vars(RecordingFiles)) == {"open", "close"}


@pytest.mark.parametrize("day", DAYS)
async def test_a_process_may_end_after_any_operation(folder, day, record_property):
    """Whatever it was doing, the next process finds all that was acknowledged."""
    log = await recorded(folder, day)
    trials, disk = Trials(folder, await expectations()), Disk()
    for number, low, high in moments(log, disk):
        await trials.demand(disk.now(), low, high, f"after {log[number][0]}, operation {number}")
    record_property("states tried", trials.tried)
    assert trials.tried > 40


LIMITS = [pytest.param(10**9, id="all", marks=HEAVY), pytest.param(40, id="some")]
"""How many states of one moment are tried: every one of the model's, or so many by chance."""


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("day", DAYS)
async def test_the_power_may_fail_after_any_operation(folder, day, limit, record_property):
    """Whatever had reached the disk, and in whatever order, all that was acknowledged is there."""
    log = await recorded(folder, day)
    chance = random.Random(f"{day} {limit}")
    trials, disk = Trials(folder, await expectations()), Disk()
    for number, low, high in moments(log, disk):
        for image in disk.after_power_loss(chance, limit):
            await trials.demand(image, low, high, f"after {log[number][0]}, operation {number}")
    record_property("states tried", trials.tried)
    assert trials.tried > FLOORS[day]


@pytest.mark.parametrize("every", [pytest.param(5, id="many", marks=HEAVY), pytest.param(150, id="some")])
@pytest.mark.parametrize("day", ["folding", "journal only"])
async def test_the_power_may_fail_again_during_the_restart(folder, day, every, record_property):
    """A recovery that is cut short itself, at any of its operations, has lost nothing of what it found."""
    log, chance = await recorded(folder, day), random.Random(every)
    trials, disk, images = Trials(folder, await expectations()), Disk(), []
    for _ in moments(log, disk):
        images += disk.after_power_loss(chance, 20)
    for image in chance.sample(images, len(images) // every):
        before, operations = await recovery(folder / "again", image)
        found, disk = trials.index(before), Disk(image)
        for number, _, _ in moments(operations, disk):
            for left in disk.after_power_loss(chance, 10):
                await trials.demand(left, found, found, f"operation {number} of a restart")
    record_property("states tried", trials.tried)
    assert trials.tried > 60


async def recovery(folder: Path, image: Image) -> tuple[Contents, list[Entry]]:
    """Start from an image and stop; give what was found, and what was asked of the disk."""
    put(folder, image)
    files = RecordingFiles()
    store = await TinyStore.open(folder / "orders.json", now=lambda: 6.0, files=files)
    there = await contents(store)
    await store.close()
    return there, files.log


@pytest.mark.parametrize("day", DAYS)
async def test_the_snapshot_before_is_kept(folder, day):
    """Whenever a snapshot takes the place of another, that one has a second name by then."""
    log, disk = await recorded(folder, day), Disk()
    replaced = 0
    for name, args in log:
        if (name, args[1:]) == ("rename", ("orders.json",)) and "orders.json" in disk.names:
            assert disk.names["orders.json.previous"] is disk.names["orders.json"]
            replaced += 1
        if name != "note":
            getattr(disk, name)(*args)
    assert replaced >= 2
    assert "orders.json.previous" in disk.now()


@pytest.mark.parametrize("day", DAYS)
async def test_a_journal_that_is_lost_is_missed(folder, day):
    """From the first acknowledged change to the last fold, nothing starts without the journals and what was in them."""
    log, expected, disk = await recorded(folder, day), await expectations(), Disk()
    path, missed = folder / "restarted" / "orders.json", 0
    for number, low, _ in moments(log, disk):
        put(path.parent, {name: data for name, data in disk.now().items() if ".journal" not in name})
        if verify(path).damage is None:
            assert expected.index(await restarted(path)) >= low, f"after {log[number][0]}, operation {number}"
        else:
            missed += 1
    assert missed > 30


ORDER = Put("orders", 1, msgspec.Raw(b"{}"))


@pytest.mark.parametrize("first", range(0, 512, 64))
def test_a_frame_of_any_length_may_arrive_in_part(folder, first):
    """Wherever sectors begin and end in it, a frame that was not synced is there whole or not at all."""
    for pad in range(first, first + 64):
        files = RecordingFiles()
        journal = Journal(folder / f"{pad}", Header.ours(generation=1, after=0, now=5.0), files=files)
        for length in (pad, 700):
            journal.append([encode([ORDER, Put("orders", 2, msgspec.Raw(b'"%s"' % (b"x" * length)))])])
        journal.close()
        for number, image in enumerate(unsynced(files.log)):
            path = folder / f"{pad} {number}"
            path.write_bytes(image)
            assert [frame.number for frame in Reader(path, files=Files())] in ([], [1], [1, 2])
            path.unlink()


def unsynced(log: Sequence[Entry]) -> Iterator[bytes]:
    """Give what a journal may be when the power fails before a sync of a frame."""
    disk, chance, first_line = Disk(), random.Random(7), 0
    for name, args in log:
        if name == "sync" and first_line:
            yield from disk._created[0].outcomes(chance)
        getattr(disk, name)(*args)
        first_line = first_line or disk._created[0].durable.count(b"\n")
