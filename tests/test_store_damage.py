"""What the embedded store makes of files that are not as it left them: the right data or a refusal."""

import errno
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from poller.errors import StoreDamaged
from poller.stores.care.verify import verify
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests.day import ONE, TWO, Contents, add, big, contents, expectations
from tests.disk import SECTOR
from tests.stores import ScriptedFiles, an_order, die, in_memory
from tests.wreck import Texts, wreck

ORDERS = (ONE, TWO, big("t3"), an_order("t4"), an_order("t5"))
HEAVY = [pytest.mark.heavy, pytest.mark.timeout(3600)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory: its files are written over and over."""
    with in_memory() as path:
        yield path


async def left(path: Path, *, full: int = 10**9) -> Names:
    """Leave a store whose process ended with five orders in its journals: in two, if one was full."""

    def plan(call: int, name: str) -> None:
        if name == "link":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = await TinyStore.open(path, now=lambda: 5.0, files=ScriptedFiles(plan), full=full)
    for number, order in enumerate(ORDERS):
        store._ledger._full = 10**9 if number == 1 else full  # so that the first journal has two lines
        await store.add([order])
        await store._folded()
    die(store)
    return Names(path.resolve())


async def closed(path: Path) -> Names:
    """Leave a store that was closed."""
    names = await left(path)
    await found(path)
    return names


async def found(path: Path) -> Contents:
    """Start anew from what is on disk, and read it; verify must have agreed that one can."""
    assert verify(path).damage is None
    store = await TinyStore.open(path, now=lambda: 6.0)
    there = await contents(store)
    await store.close()
    return there


def texts_of(folder: Path) -> Texts:
    """Read all files of a store but its lock."""
    return {each.name: each.read_bytes() for each in sorted(folder.iterdir()) if each.suffix != ".lock"}


def put(folder: Path, texts: Mapping[str, bytes]) -> None:
    """Make these files all that a folder holds."""
    for each in folder.iterdir():
        each.unlink()
    for name, text in texts.items():
        (folder / name).write_bytes(text)


async def refused(path: Path, sentence: str) -> None:
    """Make sure that a start is refused with a file, a place and a command, and that nothing was touched."""
    before = texts_of(path.parent)
    with pytest.raises(StoreDamaged, match=sentence) as info:
        await TinyStore.open(path, now=lambda: 6.0)
    assert str(path) in str(info.value)
    assert "poller store " in info.value.hint
    report = verify(path)
    assert (report.damage, report.hint) == (str(info.value), info.value.hint)
    assert texts_of(path.parent) == before


# --- Files that are missing, or somebody else's, or of another time -----------------------------------------


@pytest.mark.parametrize("left_over", ["journal", "full", "previous"])
async def test_files_without_a_snapshot_are_refused(tmp_path, left_over):
    """A store that lost its snapshot is not an empty store."""
    path = tmp_path / "orders.json"
    names = await left(path)
    names.snapshot.unlink()
    names.journal.rename(getattr(names, left_over))
    await refused(path, f"{path} is missing, but {getattr(names, left_over).name} is there")


@pytest.mark.parametrize("text", ["", "null", "{}", "[]", "{", '{"orders": []}'])
async def test_a_snapshot_that_holds_nothing_is_refused(tmp_path, text):
    """Nothing turns into an empty store in silence."""
    path = tmp_path / "orders.json"
    path.write_text(text)
    await refused(path, r"orders\.json")


async def test_a_missing_journal_is_refused(tmp_path):
    """Whoever removes it takes what was acknowledged."""
    path = tmp_path / "orders.json"
    names = await left(path)
    names.journal.unlink()
    await refused(path, "the journal that continues it is missing")


async def test_a_copy_of_a_snapshot_in_use_is_refused(tmp_path):
    """Alone it is not all that was kept; with its journal it is."""
    path, copy = tmp_path / "orders.json", tmp_path / "copy" / "orders.json"
    names = await left(path)
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    await refused(copy, "the journal that continues it is missing")
    copy.with_name(names.journal.name).write_bytes(names.journal.read_bytes())
    assert await found(copy) == (await day())[-1]


async def test_a_previous_snapshot_put_back_is_refused(tmp_path):
    """It was in use when it was replaced, and its journal is folded and gone."""
    names = await closed(tmp_path / "orders.json")
    names.previous.replace(names.snapshot)
    await refused(names.snapshot, "the journal that continues it is missing")


async def test_a_previous_snapshot_beside_a_newer_journal_is_refused(tmp_path):
    """A backup put back leaves a gap, and the gap is named."""
    path = tmp_path / "orders.json"
    names = await left(path)
    store = await TinyStore.open(path, now=lambda: 6.0)
    await store.add([an_order("t9")])
    die(store)
    names.previous.replace(path)
    await refused(path, r"journal is generation 2 where 1 belongs; what came between is missing")


async def test_a_journal_that_was_folded_is_not_applied_again(tmp_path):
    """What is in the snapshot already is not added to it, and goes."""
    path = tmp_path / "orders.json"
    names = await left(path)
    stale = names.journal.read_bytes()
    store = await TinyStore.open(path, now=lambda: 6.0)
    await store.add([an_order("t9")])
    await store.close()
    names.journal.write_bytes(stale)
    assert len(await found(path)) == len(ORDERS) + 1
    assert not names.journal.exists()


async def test_a_journal_of_another_time_is_refused(tmp_path):
    """Numbers that do not follow those of the snapshot are no continuation of it."""
    path = tmp_path / "orders.json"
    names = await left(path)
    text = names.journal.read_bytes()
    assert b'"after":0' in text
    store = await TinyStore.open(path, now=lambda: 6.0)
    await store.add([an_order("t9")])
    die(store)
    names.journal.rename(names.full)
    names.journal.write_bytes(text)
    await refused(path, "journal is generation 1 where 3 belongs")


async def test_two_journals_are_folded_in_order(tmp_path):
    """A process that ended during a fold left two, and both count."""
    path = tmp_path / "orders.json"
    await left(path, full=1)
    assert [header.generation for header in verify(path).journals] == [1, 2]
    assert await found(path) == (await day())[-1]


async def test_a_missing_journal_between_is_refused(tmp_path):
    """The second journal alone is a gap."""
    names = await left(tmp_path / "orders.json", full=1)
    names.full.unlink()
    await refused(tmp_path / "orders.json", "generation 2 where 1 belongs")


async def test_lines_missing_between_two_journals_are_refused(tmp_path):
    """The first journal was whole when the second was begun, so its last line cannot be gone, nor torn."""
    path = tmp_path / "orders.json"
    names = await left(path, full=1)
    whole = names.full.read_bytes().rstrip(b"\0")
    lines = whole.splitlines(keepends=True)
    names.full.write_bytes(b"".join(lines[:-1]))
    await refused(path, r"continues after frame \d, but what comes before it ends with frame \d")
    names.full.write_bytes(whole[:-5])
    await refused(path, "line is incomplete, but a later journal follows")


# --- Damage at random ---------------------------------------------------------------------------------------


async def day() -> Sequence[Contents]:
    """Tell what is there after each order."""
    return await expectations([(add(order),) for order in ORDERS])


STATES = {"one journal": left, "two journals": lambda path: left(path, full=1), "closed": closed}
COUNTS = [
    *(pytest.param(100, part, id=f"100, {part}") for part in range(2)),
    *(pytest.param(1000, part, id=f"1000, {part}", marks=HEAVY) for part in range(7)),
]


@pytest.mark.parametrize(("count", "part"), COUNTS)
@pytest.mark.parametrize("state", STATES)
async def test_damage_is_refused_or_harmless(folder, state, count, part, record_property):
    """Bits, pieces and lines changed, lost, repeated or moved: the right data or a refusal, never other data.

    A journal that was cut cannot be told from one whose last write never arrived: what is left
    of the last journal is right as far as it goes, if nothing but a torn tail follows it. Nor
    can one that is gone be told from one that was not begun yet, as long as a full one is there.
    """
    path, told = folder / "orders.json", Counter()
    names, expected = await STATES[state](path), await day()
    texts = {name: text.rstrip(b"\0") + bytes(700 * text.endswith(b"\0")) for name, text in texts_of(folder).items()}
    for number in range(count):
        chance = random.Random(f"{state} {part} {number}")
        victim = chance.choice(sorted(texts))
        kind, damaged = wreck(texts, victim, chance)
        put(folder, damaged)
        there = await found_or_refused(path)
        told["refused" if there is None else "right"] += 1
        if there is not None and there != expected[-1]:
            assert victim == names.journal.name, (kind, victim, number)
            assert is_torn(texts[victim], damaged.get(victim)), (kind, victim, number)
            assert there in expected, (kind, victim, number)
            told["cut"] += 1
    record_property("damages tried", count)
    record_property("damages refused", told["refused"])
    assert told["refused"] > count // 4


async def found_or_refused(path: Path) -> Contents | None:
    """Start, if that is not refused; verify must say the same."""
    if verify(path).damage is None:
        return await found(path)
    await refused(path, r"orders\.json")
    return None


def is_torn(text: bytes, damaged: bytes | None) -> bool:
    """Tell whether damage to the last journal is what a crash might have left of it."""
    if damaged is None:
        return False
    pairs = enumerate(zip(text, damaged, strict=False))
    same = next((at for at, (old, new) in pairs if old != new), min(len(text), len(damaged)))
    rest = damaged[damaged.rfind(b"\n", 0, same) + 1 :].rstrip(b"\0")
    line, _, more = rest.partition(b"\n")
    lost_sector = b"\0" in line and len(line) >= SECTOR // 2
    return not more and (b"\n" not in rest or lost_sector)
