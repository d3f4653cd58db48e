"""One writer: who is refused, who is not, and who notices that he no longer is the one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest
from msgspec.structs import replace

from poller.errors import ConfigurationError, StoreLocked
from poller.order import Key
from poller.stores.files import Files
from poller.stores.journal import Header, Reader, seal
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests.children import FOR_EVER, start, words
from tests.day import ONE, contents
from tests.stores import an_order, die


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process write to a store for a while; it has begun."""
    child = start(path, 0, FOR_EVER)
    try:
        assert child.stdout.readline() == f"open {child.pid}\n".encode()
        yield child
    finally:
        child.kill()
        child.communicate()


async def opens_soon(path: Path) -> TinyStore:
    """Open a store within a second."""
    before = time.monotonic()
    store = await TinyStore.open(path, now=time.time)
    assert time.monotonic() - before < 1
    return store


async def refused_soon(path: Path, who: str) -> None:
    """Make sure that a start is refused within a second, and says who holds the store."""
    before = time.monotonic()
    with pytest.raises(StoreLocked, match=who) as info:
        await TinyStore.open(path, now=time.time)
    assert time.monotonic() - before < 1
    assert "stop that process" in info.value.hint


async def test_a_second_process_is_refused_at_once(tmp_path):
    """It learns who holds the store; and the lock of a dead process is free at once."""
    path = tmp_path / "orders.json"
    with writing(path) as child:
        await refused_soon(path, f"process {child.pid} on .*, since 20")
    await (await opens_soon(path)).close()


async def test_a_second_name_of_a_store_is_refused(tmp_path):
    """A link to it is the same store, not another one."""
    path, link, folder = tmp_path / "orders.json", tmp_path / "link.json", tmp_path / "folder"
    with writing(path) as child:
        link.symlink_to(path)
        folder.symlink_to(tmp_path, target_is_directory=True)
        await refused_soon(link, f"process {child.pid} ")
        await refused_soon(folder / "orders.json", f"process {child.pid} ")
    assert not link.with_name("link.json.lock").exists()


async def test_whoever_is_between_two_journals_is_still_refused(tmp_path):
    """The lock counts, whatever the journal says, or if there is none."""
    path = tmp_path / "orders.json"
    store = await TinyStore.open(path, now=lambda: 5.0)
    Names(path).journal.rename(tmp_path / "away")
    await refused_soon(path, "held by another process")
    (tmp_path / "away").rename(Names(path).full)
    await refused_soon(path, f"held by process {os.getpid()} on ")
    Names(path).full.rename(Names(path).journal)
    await store.close()


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_a_lock_file_that_is_taken_away_lets_nobody_in(tmp_path, replaced):
    """Whoever comes is refused while the writer lives; the writer stops at once; nothing acknowledged is lost."""
    path = tmp_path / "orders.json"
    with writing(path) as child:
        told = b"".join(child.stdout.readline() for _ in range(50))
        os.kill(child.pid, signal.SIGSTOP)
        Names(path).lock.unlink()
        if replaced:
            Names(path).lock.touch()
        await refused_soon(path, f"process {child.pid} on ")
        os.kill(child.pid, signal.SIGCONT)
        rest, error = child.communicate()
        assert child.returncode == 1
    assert b"orders.json.lock was removed or replaced" in error.splitlines()[-1]
    store = await opens_soon(path)
    added = [int(number) for word, number in words(told + rest) if word == "add"]
    assert len(added) > 10
    there = {order.task_id for order, _ in (await contents(store)).values()}
    assert {f"with t{number}" for number in added} <= there
    await store.close()


async def test_two_who_open_at_once_are_one_who_does(tmp_path):
    """Of several processes that start together, one gets the store, and the others are told who."""
    path = tmp_path / "orders.json"
    children = [start(path, 0, FOR_EVER) for _ in range(4)]  # one that closes the store would let the next one in
    try:
        first = [child.stdout.readline() for child in children]
        assert sum(line.startswith(b"open") for line in first) == 1, first
        losers = [child for child, line in zip(children, first, strict=True) if not line]
        errors = [child.communicate()[1].splitlines()[-1] for child in losers]
        assert all(b"StoreLocked" in error and b"is held by" in error for error in errors)
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
            child.stderr.close()


# --- Journals whose writer is gone -----------------------------------------------------------------------


@contextmanager
def another_process() -> Iterator[int]:
    """Have some process that is not ours to care for; give its number."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield child.pid
        finally:
            child.kill()


async def left(path: Path, **header: object) -> Header:
    """Leave a store whose process has ended, with a journal that says something else of its writer."""
    store = await TinyStore.open(path, now=time.time)
    await store.add([ONE])
    die(store)
    journal = Names(path).journal
    written = replace(Reader(journal, files=Files()).header, **header)
    rest = journal.read_bytes().partition(b"\n")[2]
    journal.write_bytes(seal(msgspec.json.encode(written)) + rest)
    return written


@pytest.mark.parametrize("place", ["journal", "full"])
async def test_the_lock_alone_does_not_open_a_store_whose_writer_lives(tmp_path, place):
    """Whoever began the journal, and has run since before it, is still at it, or just about to begin the next."""
    path = tmp_path / "orders.json"
    with another_process() as pid:
        await left(path, pid=pid, started_at=time.time() + 10)
        Names(path).journal.rename(getattr(Names(path), place))
        await refused_soon(path, f"process {pid} on ")
        getattr(Names(path), place).rename(Names(path).journal)
    store = await opens_soon(path)
    assert await store.get(ONE.key) == ONE
    await store.close()


@pytest.mark.parametrize(
    "header",
    [
        {"started_at": 1_000_000_000.0},
        {"started_at": 4_000_000_000.0, "boot": "another"},
        {"started_at": 4_000_000_000.0, "host": "another"},
    ],
    ids=["pid reused", "another boot", "another host"],
)
async def test_a_number_that_another_process_has_is_no_writer(tmp_path, header):
    """A process that is younger than the journal, or of another boot or host, did not begin it."""
    path = tmp_path / "orders.json"
    with another_process() as pid:
        await left(path, pid=pid, **header)
        store = await opens_soon(path)
    assert await store.get(Key("grafx", "t1")) == ONE
    await store.add([an_order("t2")])
    await store.close()


@pytest.mark.parametrize(
    ("mounts", "refused_as"),
    [
        ([("/", "ext4"), ("{}", "nfs4")], "nfs4"),
        ([("/", "ext4"), ("{}", "fuse.sshfs")], "fuse.sshfs"),
        ([("{}", "ext4"), ("{}", "CIFS")], "cifs"),
        ([("{}", "cifs"), ("{}", "ext4")], None),
        ([("/", "nfs4"), ("{}", "ext4")], None),
        ([("/", "ext4"), ("{}-other", "nfs4")], None),
        ([], None),
    ],
)
async def test_a_network_file_system_is_refused(tmp_path, monkeypatch, mounts, refused_as):
    """Where a lock may hold for one machine only no store is opened; of two mounts on a place the later counts."""
    found = [SimpleNamespace(mountpoint=point.format(tmp_path), fstype=kind) for point, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: found)
    path = tmp_path / "orders.json"
    if refused_as is None:
        await (await TinyStore.open(path, now=time.time)).close()
        return
    with pytest.raises(ConfigurationError, match=rf"lies on a network file system \({refused_as}\)") as info:
        await TinyStore.open(path, now=time.time)
    assert "PostgreSQL" in info.value.hint
    assert list(tmp_path.iterdir()) == []
