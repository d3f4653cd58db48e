"""The orders folder: a file is either absent, or complete and verified under its final name."""

import asyncio
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poller import folders
from poller import partial as parts
from poller import publisher as publishers
from poller.content import HEAD
from poller.errors import ConfigurationError
from poller.order import Key, Order
from poller.outcome import File
from poller.partial import Slot
from poller.publisher import Publisher
from tests.grafx import order

DATA = b"%PDF-1.7\x00" + bytes(range(256)) * 100


@pytest.fixture(params=["large", "small", "small, on a file system where a file needs a name"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make every file with its first byte, as large ones are, or when it is whole, in either way."""
    if request.param == "large":
        monkeypatch.setattr(parts, "LEAST", 0)
    elif request.param != "small":
        monkeypatch.setattr(folders, "takes_nameless", lambda _: False)
    kind: str = request.param
    return kind


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Give threads for files."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@contextmanager
def folder(path: Path, executor: ThreadPoolExecutor, pattern: str = "{task_id}{ext}") -> Iterator[Publisher]:
    """Open an orders folder."""
    publisher = Publisher(folder=path, pattern=pattern, executor=executor, now=lambda: 1234.5)
    try:
        yield publisher
    finally:
        publisher.close()


@pytest.fixture
def opened(tmp_path: Path, executor: ThreadPoolExecutor) -> Iterator[Publisher]:
    """Give an orders folder that stands where ``tmp_path / "orders"`` is."""
    with folder(tmp_path / "orders", executor) as publisher:
        yield publisher


async def put(
    publisher: Publisher, data: bytes = DATA, task: Order | None = None, ext: str = ".pdf"
) -> tuple[str, bool]:
    """Receive and publish a file; give its name, and whether other bytes held the one it was meant to have."""
    task = task or order()
    async with publisher.partial(Slot.of(task)) as partial:
        await partial.write(data)
        file, conflict = await publisher.publish(partial, task, media_type="a/b", ext=ext)
        return file.name, conflict


def files(path: Path) -> set[str]:
    """List what is visible in an orders folder, and what is left of partials, in every depth."""
    return {str(each.relative_to(path)) for each in path.rglob("*") if each.name != ".partial"}


def handles() -> int:
    """Count this process's open file handles."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone


# --- publishing


@pytest.mark.parametrize("kind", ["large"], indirect=True)
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_a_file_is_published_whole(tmp_path: Path, executor: ThreadPoolExecutor, umask: int) -> None:
    """Its bytes, its mode whatever the umask, its description; until then nothing is seen, afterwards nothing else."""
    before = os.umask(umask)
    try:
        with folder(tmp_path / "orders", executor) as publisher:
            async with publisher.partial(Slot.of(order())) as partial:
                await partial.write(DATA[:100])
                await partial.write(b"")
                await partial.write(DATA[100:])
                assert files(tmp_path / "orders") == {f".partial/{partial.name}"}
                assert (partial.size, partial.head) == (len(DATA), DATA[:HEAD])
                file, conflict = await publisher.publish(partial, order("T 1"), media_type="a/b", ext=".pdf")
    finally:
        os.umask(before)
    digest = sha256(DATA).hexdigest()
    assert file == File(name="T%201.pdf", size=len(DATA), sha256=digest, media_type="a/b", published_at=1234.5)
    assert not conflict
    assert files(tmp_path / "orders") == {"T%201.pdf"}
    published = tmp_path / "orders" / "T%201.pdf"
    assert published.read_bytes() == DATA
    assert stat.S_IMODE(published.stat().st_mode) == 0o640
    assert published.stat().st_nlink == 1


async def test_the_order_of_acts(
    tmp_path: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Written, synced, linked, the directory synced, and only then is the partial let go."""
    acts: list[str] = []
    root = tmp_path / "orders"

    def spy(name: str, describe: Callable[..., str]) -> None:
        real = getattr(os, name)

        def act(*args: Any, **named: Any) -> Any:
            acts.append(describe(*args))
            return real(*args, **named)

        monkeypatch.setattr(publishers.os, name, act)

    with folder(root, executor, "a/{task_id}{ext}") as publisher:
        async with publisher.partial(Slot.of(order())) as partial:
            await partial.write(DATA)
            spy("fsync", lambda handle: f"sync {Path(f'/proc/self/fd/{handle}').readlink().relative_to(root)}")
            spy("link", lambda *names: f"link {names[1]}")
            spy("unlink", lambda name: f"unlink {name}")
            spy("mkdir", lambda name: f"mkdir {name}")
            await publisher.publish(partial, order(), media_type="", ext=".pdf")
    part = partial.name
    if kind == "small":
        assert acts.pop(0).endswith("(deleted)")  # as proc(5) says of what has no name
    else:
        assert (acts.pop(0), acts.pop()) == (f"sync .partial/{part}", f"unlink {part}")
    assert acts == ["mkdir a", "sync .", "link T1.pdf", "sync a"]


async def test_a_small_file_is_one_errand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made, written, synced and published by one thread; until then there is nothing of it on the disk."""
    monkeypatch.undo()
    errands = []

    class Threads(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
            errands.append(fn)
            return super().submit(fn, *args, **named)

    with Threads(1) as threads, folder(tmp_path / "orders", threads) as publisher:
        async with publisher.partial(Slot.of(order())) as partial:
            await partial.write(DATA[:1000])
            await partial.write(DATA[1000:])
            assert files(tmp_path / "orders") == set()
            assert (partial.size, partial.head, partial.sha256) == (len(DATA), DATA[:HEAD], sha256(DATA).hexdigest())
            await publisher.publish(partial, order(), media_type="", ext=".pdf")
        assert len(errands) == 1
        async with publisher.partial(Slot.of(order("T2"))) as partial:
            await partial.write(DATA)
        assert len(errands) == 1
    assert files(tmp_path / "orders") == {"T1.pdf"}
    assert (tmp_path / "orders" / "T1.pdf").read_bytes() == DATA


async def test_an_unpublished_partial_leaves_nothing(tmp_path: Path, opened: Publisher) -> None:
    """Whether its use ends well, badly, or is cancelled; its handle is let go, too."""
    before = handles()
    for ending in (None, ValueError("ours"), asyncio.CancelledError()):
        with suppress(ValueError, asyncio.CancelledError):
            async with opened.partial(Slot.of(order())) as partial:
                await partial.write(DATA)
                if ending:
                    raise ending
        assert files(tmp_path / "orders") == set()
    assert handles() == before


async def test_patterns_make_folders(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """The folder's pattern, or the order's own; what is put into it cannot make folders itself."""
    with folder(tmp_path / "orders", executor, "{remote}/{batch}/{task_id}{ext}") as publisher:
        assert await put(publisher, task=order("a/b", batch="../x")) == ("grafx/%2E.%2Fx/a%2Fb.pdf", False)
        assert await put(publisher, task=order("c", batch="../x")) == ("grafx/%2E.%2Fx/c.pdf", False)
        assert await put(publisher, task=order(filename="x/{task_id}-1{ext}")) == ("x/T1-1.pdf", False)
    assert {name for name in files(tmp_path / "orders") if name.endswith(".pdf")} == {
        "grafx/%2E.%2Fx/a%2Fb.pdf",
        "grafx/%2E.%2Fx/c.pdf",
        "x/T1-1.pdf",
    }


# --- names that are taken


async def test_the_same_bytes_again_are_a_no_op(tmp_path: Path, opened: Publisher) -> None:
    """Not even the file's identity changes."""
    await put(opened)
    before = (tmp_path / "orders" / "T1.pdf").stat()
    assert await put(opened) == ("T1.pdf", False)
    after = (tmp_path / "orders" / "T1.pdf").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert files(tmp_path / "orders") == {"T1.pdf"}


@pytest.mark.parametrize("other", [b"other", DATA[:-1] + b"x", b"", DATA + b"x"])
async def test_other_bytes_become_the_next_version(tmp_path: Path, opened: Publisher, other: bytes) -> None:
    """What is there stays; ours go beside it, and the same again is a no-op there, too."""
    (tmp_path / "orders" / "T1.pdf").write_bytes(other)
    for _ in range(2):
        assert await put(opened) == ("T1~2.pdf", True)
    assert await put(opened, b"third") == ("T1~3.pdf", True)
    assert (tmp_path / "orders" / "T1.pdf").read_bytes() == other
    assert files(tmp_path / "orders") == {"T1.pdf", "T1~2.pdf", "T1~3.pdf"}


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "dangling link", "link to the same bytes", "loop"])
async def test_what_is_no_file_is_other_bytes(
    tmp_path: Path, opened: Publisher, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is followed, opened for long, or replaced."""
    taken, outside = tmp_path / "orders" / "T1.pdf", tmp_path / "outside"
    before = handles()
    match kind:
        case "directory":
            taken.mkdir()
        case "fifo":
            os.mkfifo(taken)
        case "socket":
            monkeypatch.chdir(taken.parent)  # a socket's path is short
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(taken.name)
        case "link to the same bytes":
            outside.write_bytes(DATA)
            taken.symlink_to(outside)
        case "loop":
            taken.symlink_to(taken)
        case _:
            taken.symlink_to(outside)
    assert await put(opened) == ("T1~2.pdf", True)
    assert (tmp_path / "orders" / "T1~2.pdf").read_bytes() == DATA
    assert await put(opened, b"x" * (taken.lstat().st_size or 1)) == ("T1~3.pdf", True)  # the size proves nothing
    assert outside.exists() == (kind == "link to the same bytes")
    assert handles() == before


async def test_versions_come_to_an_end(tmp_path: Path, opened: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has that many has another trouble, and is told."""
    monkeypatch.setattr(publishers, "_VERSIONS", 3)
    for number in range(2):
        await put(opened, b"%d" % number)
    with pytest.raises(OSError, match=r"3 versions are there already: 'T1\.pdf'"):
        await put(opened)
    assert files(tmp_path / "orders") == {"T1.pdf", "T1~2.pdf"}


async def test_two_at_once_under_one_name_are_two_versions(tmp_path: Path, opened: Publisher) -> None:
    """The link decides, and it decides for one."""
    orders = [replace(order(f"T{number}"), filename="T1{ext}") for number in range(8)]
    published = await asyncio.gather(*(put(opened, b"%d" % number, each) for number, each in enumerate(orders)))
    assert {name for name, _ in published} == {"T1.pdf", *(f"T1~{number}.pdf" for number in range(2, 9))}
    assert {(tmp_path / "orders" / name).read_bytes() for name, _ in published} == {b"%d" % n for n in range(8)}


# --- what is planted


@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
async def test_a_subfolder_that_is_none_is_not_followed(
    tmp_path: Path, executor: ThreadPoolExecutor, kind: str
) -> None:
    """The fault is ours to mend and names what stands in the way; nothing lands elsewhere, nothing leaks."""
    outside = tmp_path / "outside"
    with folder(tmp_path / "orders", executor, "a/b/{task_id}{ext}") as publisher:
        (tmp_path / "orders" / "a").mkdir()
        planted = tmp_path / "orders" / "a" / "b"
        if kind == "file":
            planted.write_bytes(b"x")
        else:
            planted.symlink_to(outside)
        if kind == "link":
            outside.mkdir()
        before = handles()
        with pytest.raises(OSError) as raised:  # noqa: PT011 - ELOOP or ENOTDIR, as the kernel likes
            await put(publisher)
        assert raised.value.filename == "b"
        assert handles() == before
    assert not outside.exists() or files(outside) == set()
    assert files(tmp_path / "orders") == {"a", "a/b"}


@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
def test_a_partial_folder_that_is_none_is_refused(tmp_path: Path, executor: ThreadPoolExecutor, kind: str) -> None:
    """Poller does not start, says why and what to do, and leaks nothing."""
    (tmp_path / "orders").mkdir()
    planted, outside = tmp_path / "orders" / ".partial", tmp_path / "outside"
    if kind == "file":
        planted.write_bytes(b"")
    else:
        planted.symlink_to(outside)
    if kind == "link":
        outside.mkdir()
        (outside / "precious.part").write_bytes(b"")
    before = handles()
    with pytest.raises(ConfigurationError, match=r"\.partial is no directory") as raised:
        Publisher(folder=tmp_path / "orders", pattern="{task_id}", executor=executor, now=float)
    assert "remove it" in raised.value.hint
    assert handles() == before
    assert kind != "link" or files(outside) == {"precious.part"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_else_s_partial_folder_is_refused(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Who owns it could put anything under our names."""
    planted = tmp_path / "orders" / ".partial"
    planted.mkdir(parents=True)
    os.chown(planted, 12345, -1)
    before = handles()
    with pytest.raises(ConfigurationError, match="somebody else"):
        Publisher(folder=tmp_path / "orders", pattern="{task_id}", executor=executor, now=float)
    assert handles() == before


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Below a file there is no folder."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be used: Not a directory") as raised:
        Publisher(folder=tmp_path / "file" / "orders", pattern="{task_id}", executor=executor, now=float)
    assert "POLLER_ORDERS_DIR" in raised.value.hint


async def test_the_operator_may_link_the_whole_folder(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Where the orders folder itself leads is his business."""
    (tmp_path / "real").mkdir()
    (tmp_path / "orders").symlink_to(tmp_path / "real")
    with folder(tmp_path / "orders", executor) as publisher:
        await put(publisher)
    assert files(tmp_path / "real") == {"T1.pdf"}


# --- what a crash leaves

_HOLDER = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from poller.partial import Slot
from poller.publisher import Publisher

async def main():
    with ThreadPoolExecutor(1) as threads:
        publisher = Publisher(folder=Path(sys.argv[1]), pattern="{task_id}", executor=threads, now=float)
        async with publisher.partial(Slot("grafx", "T1", 1)) as partial:
            await partial.write(b"half" * 2**18)
            print(partial.name, flush=True)
            sys.stdin.read()

asyncio.run(main())
"""


def holding(root: Path) -> subprocess.Popen[str]:
    """Start a process that has a download under way."""
    command = [sys.executable, "-c", _HOLDER, str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def nobody(_key: Key) -> None:
    """Know no order."""


async def test_a_live_partial_is_left_alone_and_a_dead_one_swept(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Another process's download is not disturbed; once that process is killed, nobody's rest is removed."""
    root = tmp_path / "orders"
    with holding(root) as holder:
        assert holder.stdout is not None
        name = holder.stdout.readline().strip()
        with folder(root, executor) as publisher:
            await publisher.partials.sweep(nobody)
            assert files(root) == {f".partial/{name}"}
        holder.kill()
        holder.wait()
    assert files(root) == {f".partial/{name}"}
    with folder(root, executor) as publisher:
        await publisher.partials.sweep(nobody)
        assert files(root) == set()


async def test_the_sweep_takes_nothing_else_and_waits_for_nothing(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """A fifo does not hold it up, a link is not followed, a folder and other names stay, and no handle leaks."""
    partials = tmp_path / "orders" / ".partial"
    partials.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"x")
    (partials / "orphan.part").write_bytes(b"half")
    (partials / "notes.txt").write_bytes(b"x")
    (partials / "folder.part").mkdir()
    (partials / "link.part").symlink_to(tmp_path / "precious")
    os.mkfifo(partials / "fifo.part")
    await asyncio.gather(*(asyncio.wrap_future(executor.submit(int)) for _ in range(8)))  # threads have handles, too
    before = handles()
    with folder(tmp_path / "orders", executor) as publisher:
        await publisher.partials.sweep(nobody)
        left = {path.name for path in partials.iterdir()}
        assert {"notes.txt", "folder.part", "link.part"} <= left
        assert "orphan.part" not in left
    assert handles() == before
    assert (tmp_path / "precious").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["small"], indirect=True)
@pytest.mark.parametrize("forgetful", ["btrfs", "overlay"])
def test_where_a_sync_of_the_nameless_keeps_nothing_each_file_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: str
) -> None:
    """After a power cut there would be an empty file under its final name."""
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        monkeypatch.setattr(folders, "file_system", lambda _: "ext4")
        able = folders.takes_nameless(handle)
        monkeypatch.setattr(folders, "file_system", lambda _: forgetful)
        assert (able, folders.takes_nameless(handle)) == (sys.platform == "linux", False)
    finally:
        os.close(handle)


@pytest.mark.parametrize("kind", ["small"], indirect=True)
@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_the_kind_of_a_file_system_is_known() -> None:
    """It is the one of the open folder, wherever that is mounted."""
    handle = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert folders.file_system(handle) == "proc"
    finally:
        os.close(handle)


@pytest.mark.parametrize("kind", ["small"], indirect=True)
async def test_a_probe_that_was_left_is_swept(
    tmp_path: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who died while he tried the file system leaves nothing for good, and changes nothing for good."""
    able = []
    for dies in (False, True, False, False):
        with monkeypatch.context() as patch:
            if dies:
                patch.delattr(os, "unlink")
            publisher = Publisher(folder=tmp_path, pattern="x", executor=executor, now=lambda: 0.0)
        await publisher.partials.sweep(nobody)
        able.append(publisher.partials._takes_nameless)
        publisher.close()
    assert able[-1] == able[0]
    assert not any((tmp_path / ".partial").iterdir())


# --- our own faults


@contextmanager
def _small_files(limit: int) -> Iterator[None]:
    """Let no file grow beyond *limit* bytes: the kernel writes what fits, and then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_takes_only_part_is_an_error(tmp_path: Path, opened: Publisher) -> None:
    """A short write is followed by the rest of the block, and by the error that the rest meets."""
    with _small_files(1000), pytest.raises(OSError, match="File too large"):
        await put(opened)
    assert files(tmp_path / "orders") == set()
    assert await put(opened) == ("T1.pdf", False)


@pytest.mark.parametrize("name", ["open", "fchmod", "fsync", "link", "unlink", "mkdir"])
async def test_every_file_call_may_fail(
    tmp_path: Path, executor: ThreadPoolExecutor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th call of each kind fails, for n = 1, 2, … until none is left: no lie, no leak, and it heals."""
    real, left = getattr(os, name), 0

    def failing(*args: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(5, "Input/output error")
        return real(*args, **named)

    root = tmp_path / "orders"
    with folder(root, executor, "a/{task_id}{ext}") as publisher:
        before = handles()
        for number in range(1, 20):
            left, task = number, order(f"T{number}")
            monkeypatch.setattr(publishers.os, name, failing)
            try:
                published, _ = await put(publisher, task=task)
            except OSError:
                assert left == 0
            else:
                assert (root / published).read_bytes() == DATA
            monkeypatch.setattr(publishers.os, name, real)
            assert handles() == before
            if left > 0:
                break
            assert await put(publisher, task=task) == (f"a/T{number}.pdf", False)
        assert left > 0, "it never came to an end"
    with folder(root, executor) as publisher:  # what could not be removed then is removed at the next start
        await publisher.partials.sweep(nobody)
        assert not any((root / ".partial").iterdir())


@pytest.mark.parametrize("name", ["open", "link"])
async def test_a_folder_within_that_lets_nobody_in_is_no_other_files_trouble(
    tmp_path: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Somebody made the folder of one batch his own; those of the others are published with it all the same."""
    real = getattr(os, name)

    def guarded(*args: Any, **named: Any) -> Any:
        where = named.get("dst_dir_fd") if name == "link" else None
        closed = args[0] == "closed" if where is None else Path(f"/proc/self/fd/{where}").readlink().name == "closed"
        if closed:
            raise PermissionError(13, "Permission denied", args[0])
        return real(*args, **named)

    with folder(tmp_path / "orders", executor, "{batch}/{task_id}{ext}") as publisher:
        monkeypatch.setattr(os, name, guarded)
        tasks = [replace(order(f"T{number}"), batch=batch) for number, batch in enumerate(("open", "closed", "open"))]
        results = await asyncio.gather(*(put(publisher, task=task) for task in tasks), return_exceptions=True)
    assert [results[0], results[2]] == [("open/T0.pdf", False), ("open/T2.pdf", False)]
    assert isinstance(results[1], folders.Closed)
    assert (results[1].strerror, results[1].filename) == ("Permission denied", "closed")


@pytest.mark.parametrize("kind", ["small", "small, on a file system where a file needs a name"], indirect=True)
async def test_partials_that_let_nobody_in_are_everybodys_trouble(
    tmp_path: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder of a batch is to blame for it, and no file has a place."""
    with folder(tmp_path / "orders", executor, "{batch}/{task_id}{ext}") as publisher:

        def closed(*_: Any) -> int:
            raise PermissionError(13, "Permission denied", ".partial")

        monkeypatch.setattr(folders, "nameless", closed)
        monkeypatch.setattr(folders, "create", closed)
        with pytest.raises(PermissionError) as raised:
            await put(publisher, task=replace(order(), batch="b"))
    assert not isinstance(raised.value, folders.Closed)


class Gated(ThreadPoolExecutor):
    """Threads, the next of which begins its work only once it is let through."""

    def __init__(self) -> None:
        super().__init__(2)
        self.armed = False
        self.gate = threading.Event()
        self.begun = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        if not self.armed:
            return super().submit(fn, *args, **named)
        self.armed = False

        def gated() -> Any:
            self._loop.call_soon_threadsafe(self.begun.set)
            self.gate.wait(20)
            return fn(*args, **named)

        return super().submit(gated)

    async def cancel(self, work: Coroutine[Any, Any, None]) -> None:
        """Cancel *work* twice while the thread is held; see that it ends cancelled, and not before the thread."""
        task = asyncio.ensure_future(work)
        await self.begun.wait()
        left_behind = False
        for _ in range(2):
            task.cancel()
            for _ in range(100):
                await asyncio.sleep(0)
            left_behind = left_behind or task.done()
        self.gate.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not left_behind, "the thread went on alone"


@pytest.mark.parametrize("kind", ["large"], indirect=True)
@pytest.mark.parametrize("stage", ["write", "end"])
async def test_a_cancellation_waits_for_the_thread(tmp_path: Path, stage: str) -> None:
    """Whatever it is at, nothing changes under whoever comes next, no file stays and no handle leaks."""
    sizes = []

    async def work(publisher: Publisher) -> None:
        async with publisher.partial(Slot.of(order())) as partial:
            threads.armed = stage == "write"
            try:
                await partial.write(DATA)
            finally:
                sizes.append(partial.size)
                threads.armed = stage == "end"

    with Gated() as threads, folder(tmp_path / "orders", threads) as publisher:
        await asyncio.gather(
            *(put(publisher, task=order(name)) for name in ("warm", "hot"))
        )  # threads have handles, too
        before = handles()
        await threads.cancel(work(publisher))
        assert handles() == before
        assert files(tmp_path / "orders") == {"warm.pdf", "hot.pdf"}
        assert sizes == [len(DATA)]


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_folder_that_was_moved_away_gets_no_file(
    tmp_path: Path, executor: ThreadPoolExecutor, replaced: bool
) -> None:
    """A file in a folder that nobody looks into would be done for the order and lost for the shop."""
    with folder(tmp_path / "orders", executor) as publisher:
        (tmp_path / "orders").rename(tmp_path / "elsewhere")
        if replaced:
            (tmp_path / "orders").mkdir()
        with pytest.raises(OSError, match="moved or replaced"):
            await put(publisher)
    assert files(tmp_path / "elsewhere") == set()
