"""Room on a disk: what is held for downloads under way, what is taken, and what stays free."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller import space
from poller.outcome import Deferred, Published, Stuck, Trouble
from poller.space import DoesNotFit, Space
from tests.grafx import order
from tests.hostile import answer, say
from tests.test_downloader import FILE, MIB, PNG, yard


class Disk:
    """A disk with so many bytes free."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.asked = 0

    def fstatvfs(self, _folder: int) -> SimpleNamespace:
        """Tell, in blocks of 512 bytes."""
        self.asked += 1
        return SimpleNamespace(f_bavail=self.free // 512, f_frsize=512)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Put a disk of 100 KiB in the place of the real one."""
    disk = Disk(100 * 1024)
    monkeypatch.setattr(space.os, "fstatvfs", disk.fstatvfs)
    return disk


def test_what_is_held_is_not_given_twice(disk: Disk) -> None:
    """Nor what is to be kept; what is let go can be had again."""
    room = Space(folder=0, keep=20 * 1024)
    room.hold("a", 50 * 1024)
    with pytest.raises(OSError, match=r"102400 bytes are free, 102400 are needed, and 20480 are kept") as refused:
        room.hold("b", 50 * 1024)
    assert refused.value.errno == errno.ENOSPC
    room.hold("b", 30 * 1024)
    with pytest.raises(OSError, match="No space left"):
        room.take("c", 512)
    room.let_go("b")
    room.take("c", 30 * 1024)
    room.hold("a", 80 * 1024)


def test_what_is_held_is_there_when_it_is_taken(disk: Disk) -> None:
    """Its owner meets a full disk only if somebody else fills it."""
    room = Space(folder=0, keep=0)
    room.hold("a", 100 * 1024)
    for _ in range(100):
        room.take("a", 1024)
        disk.free -= 1024
    with pytest.raises(OSError, match="No space left"):
        room.take("a", 512)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200), st.booleans())))
def test_no_promise_is_broken(acts: list[tuple[str, int, bool]]) -> None:
    """Whoever holds room can write it all, whatever the others do meanwhile."""
    disk, held = Disk(512 * 400), dict[str, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space.os, "fstatvfs", disk.fstatvfs)
        room = Space(folder=0, keep=512 * 100)
        for name, blocks, hold in acts:
            try:
                (room.hold if hold else room.take)(name, blocks * 512)
            except OSError:
                assert hold or blocks > held.get(name, 0)
                continue
            if hold:
                held[name] = blocks
            else:
                disk.free -= blocks * 512
                held[name] = max(held.get(name, 0) - blocks, 0)
            assert disk.free - 512 * sum(held.values()) >= 512 * 100


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_the_reserve_is_kept(tmp_path: Path, framing: str) -> None:
    """A file that would eat into it is not begun, or not gone on with; it is nobody's fault but the disk's."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    async with yard(tmp_path, keep=free * 2) as there:
        there.server.on("/file", answer(200, FILE * 1000, PNG, framing=framing))
        outcome = await there.fetch()
        assert isinstance(outcome, Stuck)
        assert "POLLER_DISK_RESERVE" in outcome.reason
        assert there.files == {}


async def test_a_file_that_is_too_large_alone_stops_no_other(tmp_path: Path, disk: Disk) -> None:
    """Where a good deal is free, it waits by itself: announced, or noticed when it has come to the reserve."""
    disk.free = 100 * MIB
    async with yard(tmp_path, max_bytes=2**40) as there:
        there.server.on("/file", say(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n", then="hold"))
        outcome = await there.fetch()
        assert isinstance(outcome, Deferred)
        assert outcome.retry_after == 300.0
    room = Space(folder=0, keep=0)
    with pytest.raises(DoesNotFit):
        room.take("endless", 101 * MIB, had=0)
    disk.free = MIB
    with pytest.raises(DoesNotFit):
        room.take("endless", 2 * MIB, had=99 * MIB)
    with pytest.raises(OSError, match="No space") as full:
        room.take("endless", 2 * MIB, had=9 * MIB)
    assert not isinstance(full.value, DoesNotFit)


async def test_a_file_that_does_not_fit_is_not_begun(tmp_path: Path, disk: Disk) -> None:
    """Its length is enough to know, before a byte of it is read."""
    async with yard(tmp_path) as there:
        there.server.on("/file", say(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", then="hold"))
        assert isinstance(await there.fetch(), Stuck)
        disk.free = 5 * MIB
        cut = say(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n1234", then="close")
        there.server.on("/file", cut)
        for _ in range(2):  # what was held for the first one is free again
            assert isinstance(await there.fetch(), Trouble)
        there.server.on("/file", answer(200, FILE, PNG))
        assert isinstance(await there.fetch(task=order("T2")), Published)
