"""Transfers: files over HTTP onto the disk, next to what curl takes to put the same bytes there.

Ours are fetched as the service fetches them: hashed, synced, published under their final names. Both sides
write to the same disk, by turns. What a host does with fresh pages of a guest's memory makes writing vary by
a factor of two and more; so believe the medians of many rounds, and processor time before time by the clock.
"""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import aiohttp
import msgspec
import pytest

from poller.address import Origin
from poller.app import _FILE_THREADS, calm_collector
from poller.client import Client
from poller.downloader import Downloader
from poller.modest import Modest
from poller.order import Order, place
from poller.outcome import NotReady, Published
from poller.publisher import Publisher
from poller.remote import Answer, Conversation, Delivery, Link, Ready, Request
from poller.wire import Wire
from tests.bench.figure import Figure, Pair, amount, percentile
from tests.bench.machine import ROOT, resident
from tests.bench.ticker import Ticker
from tests.bench.yard import Yard, apart

LARGE, MIDDLE, SMALL = 2**30, 5 * 2**20, 100_000
DOWNLOADS = 8
_PARALLEL = 16
"""How many curl keeps under way, and so do we, where many files are compared."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Files to fetch.

    Attributes:
        url: of the server.
        size: bytes of each.
        at_once: how many are under way at a time.
        authority: a certificate that those are told to trust who do not look into ``SSL_CERT_FILE``.
    """

    url: str
    size: int
    count: int
    at_once: int
    authority: str = ""

    def links(self) -> list[str]:
        """Give the address of each file."""
        return [f"{self.url}/{self.size}/{number}.pdf" for number in range(self.count)]


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """What a job took: seconds by the clock and of the processor, bytes of memory at most, seconds late."""

    seconds: float
    busy: float
    peak: int = 0
    late: list[float] = []


class Remote(Modest):
    """A remote whose tasks are never finished, and whose files need no credentials."""

    name = "bench"
    auth = None
    delivery = Delivery(extensions={"application/pdf": ".pdf"})

    def __init__(self, url: str) -> None:
        self.url = url
        self.base = Origin.of(url)
        self.origins = frozenset({self.base})

    def check(self, order: Order) -> Conversation[Answer]:
        """Ask about a task."""
        yield Request(method="GET", url=f"{self.url}/tasks/{order.task_id}")
        return NotReady()

    def confirm(self, order: Order) -> Conversation[Answer]:
        """Ask about a task as well: nothing needs confirming."""
        return self.check(order)


@contextmanager
def serving(largest: int, certificate: Path | None = None) -> Iterator[str]:
    """Run a server of files of up to *largest* bytes; give its address. Processes begun meanwhile trust it."""
    core = str(max(os.sched_getaffinity(0)))
    trust = [str(certificate)] if certificate else []
    command = [sys.executable, "-m", "tests.bench.file_server", core, str(largest), *trust]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"{'https' if certificate else 'http'}://localhost:{int(process.stdout.readline())}"
        with pytest.MonkeyPatch.context() as patch:
            if certificate:
                patch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
            yield url


def ours(job: Job, folder: Path) -> Took:
    """Fetch files as the service does; in a process of its own, for its memory's sake."""
    return asyncio.run(_ours(job, folder))


async def _ours(job: Job, folder: Path) -> Took:
    calm_collector()
    remote, before = Remote(job.url), resident()[0]
    wire = Wire(
        base=remote.base,
        origins=remote.origins,
        connections=job.at_once,
        idle_timeout=30.0,
        floor_rate=1024.0,
        clock=time.monotonic,
    )
    client = Client(remote=remote, wire=wire, learn=lambda _: None, now=time.time, clock=time.monotonic)
    with ThreadPoolExecutor(_FILE_THREADS) as files:
        publisher = Publisher(folder=folder, pattern="{task_id}{ext}", executor=files, now=time.time)
        downloader = Downloader(
            source=client, folder=publisher, delivery=remote.delivery, max_bytes=2**40, now=time.time
        )
        links = iter(enumerate(job.links()))

        async def worker() -> None:
            for number, link in links:
                order = place("bench", f"{number}", time.time(), deadline=2e9)
                outcome = await downloader.fetch(order, Ready(links=(Link(url=link),)))
                if not isinstance(outcome, Published):
                    raise TypeError(f"{link} came to {outcome}")

        busy, began = time.process_time(), perf_counter()
        async with Ticker() as ticker:
            await asyncio.gather(*(worker() for _ in range(job.at_once)))
            took = perf_counter() - began
        publisher.close()
    await wire.close()
    return Took(seconds=took, busy=time.process_time() - busy, peak=resident()[1] - before, late=list(ticker.late))


def curl(job: Job, folder: Path) -> Took:
    """Fetch the same files with curl, several at a time if there are several; of one, sync the file."""
    names = [(link, folder / f"{number}.pdf") for number, link in enumerate(job.links())]
    config = folder / "config"
    config.write_text("".join(f'url = "{link}"\noutput = "{path}"\n' for link, path in names), encoding="utf-8")
    many = ["--parallel", "--parallel-max", str(job.at_once)] if job.count > 1 else []
    trust = ["--cacert", job.authority] if job.authority else []
    took = _timed(
        ["curl", "--silent", "--no-progress-meter", "--fail", "--noproxy", "*", *many, *trust, "--config", str(config)],
        sync=names,
    )
    assert all(path.stat().st_size == job.size for _, path in names)
    return took


def handwritten(job: Job, folder: Path) -> Took:
    """Fetch the same files with aiohttp's session, and keep what we promise of each in one errand of a thread."""
    return asyncio.run(_handwritten(job, folder))


async def _handwritten(job: Job, folder: Path) -> Took:
    links, loop = iter(enumerate(job.links())), asyncio.get_running_loop()
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with ThreadPoolExecutor(_FILE_THREADS) as files:
        connector = aiohttp.TCPConnector(limit=job.at_once)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def worker() -> None:
                for number, link in links:
                    async with session.get(link) as response:
                        body = await response.read()
                    await loop.run_in_executor(files, _kept, directory, f"{number}.pdf", body)

            busy, began = time.process_time(), perf_counter()
            await asyncio.gather(*(worker() for _ in range(job.at_once)))
            took = perf_counter() - began
    os.close(directory)
    return Took(seconds=took, busy=time.process_time() - busy)


def _kept(directory: int, name: str, body: bytes) -> str:
    """Write a file, hash it, and have it and its name on the disk before anybody sees it under that."""
    handle = os.open(f"{name}.part", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=directory)
    os.write(handle, body)
    os.fsync(handle)
    os.close(handle)
    os.rename(f"{name}.part", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
    return sha256(body).hexdigest()


def node(job: Job, folder: Path) -> Took:
    """Fetch one file as a shop's tutorial does: Node's fetch, piped into a file."""
    (link,) = job.links()
    program = (
        "const fs=require('fs'),{pipeline}=require('stream/promises'),{Readable}=require('stream');"
        f"fetch('{link}').then(r=>pipeline(Readable.fromWeb(r.body),fs.createWriteStream('{folder / 'node.pdf'}')))"
    )
    return _timed(["node", "-e", program], environment={"NODE_EXTRA_CA_CERTS": job.authority} if job.authority else {})


def _timed(
    command: list[str], *, sync: list[tuple[str, Path]] | None = None, environment: dict[str, str] | None = None
) -> Took:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **(environment or {})})
    if sync and len(sync) == 1:
        with sync[0][1].open("rb") as stream:
            os.fsync(stream)
    took, after = perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(seconds=took, busy=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def certificate(folder: Path) -> Path:
    """Make a certificate for localhost, with its key in the same file."""
    path = folder / "localhost.pem"
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(path), "-x509", "-days", "2", "-out", str(path) + ".crt"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", *key, *name], check=True, capture_output=True)  # noqa: S607 - whichever is there
    with path.open("ab") as stream:
        stream.write(Path(f"{path}.crt").read_bytes())
    return path


async def large(yard: Yard) -> list[Figure]:
    """Compare one large file with curl's, over HTTP."""
    size = _scaled(yard, LARGE)
    with serving(size) as url:
        job = Job(url=url, size=size, count=1, at_once=1)
        pair, cpu, took = _compared(yard, job, curl)
    return [
        pair.slowdown("one large file, to curl and sync", at_most=1.1),
        cpu.slowdown("one large file, to curl and sync, processor time"),
        *_lateness("one large file", took),
    ]


async def large_tls(yard: Yard) -> list[Figure]:
    """Compare one large file with curl's and Node's, over TLS."""
    pem, size = certificate(yard.new()), _scaled(yard, LARGE)
    with serving(size, pem) as url:
        job = Job(url=url, size=size, count=1, at_once=1, authority=f"{pem}.crt")
        pair, _, took = _compared(yard, job, curl)
        _, cpu, _ = _compared(yard, job, node)
    return [
        pair.slowdown("one large file over TLS, to curl and sync", at_most=1.4),
        cpu.slowdown("one large file over TLS, to Node, processor time", at_most=0.8),
        *_lateness("one large file over TLS", took),
    ]


async def many(yard: Yard) -> list[Figure]:
    """Compare many files with ``curl --parallel``, which neither hashes nor syncs them."""
    figures = list[Figure]()
    with serving(MIDDLE) as url:
        for size, count, what in ((MIDDLE, 200, "200 files of 5 MiB"), (SMALL, 5_000, "5,000 files of 100 KB")):
            job = Job(url=url, size=_scaled(yard, size), count=max(2, _scaled(yard, count)), at_once=_PARALLEL)
            pair, cpu, took = _compared(yard, job, curl)
            figures += [
                pair.slowdown(f"{what}, to curl --parallel", at_most=1.15),
                cpu.slowdown(f"{what}, to curl --parallel, processor time"),
                *_lateness(what, took),
            ]
        same, busy, _ = _compared(yard, job, handwritten)
        figures += [
            same.slowdown(f"{what}, to a session.get that keeps the same promises"),
            busy.slowdown(f"{what}, to a session.get that keeps the same promises, processor time"),
        ]
    return figures


async def memory(yard: Yard) -> list[Figure]:
    """Tell how far a process grows that fetches eight large files at once."""
    size = _scaled(yard, LARGE // 4)
    with serving(size) as url:
        job = Job(url=url, size=size, count=DOWNLOADS, at_once=DOWNLOADS)
        folder = yard.new()
        took = apart(ours, job, folder)
        _empty(folder)
    return [
        amount("memory of 8 downloads at once", [took.peak / 2**20], "MiB", at_most=120),
        *_lateness("8 downloads at once", [took]),
    ]


def _compared(yard: Yard, job: Job, theirs: Callable[[Job, Path], Took]) -> tuple[Pair, Pair, list[Took]]:
    """Do a job both ways by turns: seconds by the clock, seconds of the processor, and all that ours took."""
    pair, cpu, took = Pair(), Pair(), list[Took]()
    for number in range(yard.rounds):
        for work in (ours, theirs) if number % 2 else (theirs, ours):
            folder = yard.new()
            one = apart(work, job, folder)
            _empty(folder)
            (pair.ours if work is ours else pair.theirs).append(one.seconds)
            (cpu.ours if work is ours else cpu.theirs).append(one.busy)
            took += [one] if work is ours else []
    return pair, cpu, took


def _empty(folder: Path) -> None:
    """Give the room back, and have the disk idle when the next job begins.

    The files stay, with nothing in them: ext4 looks at each that was deleted within a minute or so
    whenever one is made, and the next job would pay for this one.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    os.sync()


def _lateness(what: str, took: list[Took]) -> list[Figure]:
    late = [seconds * 1e3 for one in took for seconds in one.late]
    detail = {"most_ms": max(late)}
    name = f"late (p99), {what}"
    low, high = min(late), max(late)
    return [Figure(name=name, value=percentile(late, 99), unit="ms", low=low, high=high, at_most=10, detail=detail)]


def _scaled(yard: Yard, number: int) -> int:
    """Make what is measured smaller where the whole run is: a million orders stand for all of it."""
    return max(1, number * min(yard.orders, 1_000_000) // 1_000_000)
