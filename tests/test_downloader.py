"""From a link to a published file, over real sockets and onto a real disk."""

import asyncio
import fcntl
import gzip
import hashlib
import io
import os
import resource
import shutil
import socket
import stat
import struct
import subprocess
import sys
import termios
import threading
import time
import tracemalloc
import zipfile
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from poller import folders
from poller import publisher as publishers
from poller.downloader import Downloader
from poller.order import Order
from poller.outcome import Cause, Deferred, LinkExpired, Outcome, Published, Setback, Stuck, TooLarge, Trouble, Unsafe
from poller.partial import HashedFile
from poller.publisher import Publisher
from poller.remote import Link, Ready
from tests.grafx import TOKEN, issues, order, talking
from tests.hostile import Hostile, Seen, answer, endlessly, hostile, reply, say
from tests.suspensions import Steps, ended

MIB = 2**20
PNG = {"Content-Type": "image/png"}
FILE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
SIGNED = "?X-Signature=canary-signature"
ROOT = Path(__file__).parent.parent


class Yard:
    """A server with a file, a folder, and a downloader between them."""

    def __init__(self, server: Hostile, publisher: Publisher, folder: Path, downloader: Downloader[Any]) -> None:
        self.server = server
        self.publisher = publisher
        self.folder = folder
        self.downloader = downloader

    async def fetch(self, *paths: str, task: Order | None = None) -> Outcome:
        """Fetch an order's links; no text of the outcome may hold a query or a token."""
        links = tuple(Link(url=f"{self.server.base}{path}{SIGNED}") for path in paths or ("/file",))
        outcome = await self.downloader.fetch(task or order(), Ready(links=links))
        if isinstance(outcome, Setback):
            assert "canary" not in str(outcome)
        return outcome

    @property
    def files(self) -> dict[str, bytes]:
        """Read all that is in the folder, partials too."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}


@asynccontextmanager
async def yard(
    tmp_path: Path,
    *,
    max_bytes: int = 100 * MIB,
    unframed: str = "twice",
    now: Callable[[], float] = lambda: 1234.5,
    keep: int = 0,
    boot: str = "this boot",
    **wiring: Any,
) -> AsyncIterator[Yard]:
    """Set everything up; the token endpoint issues tokens."""
    folder = tmp_path / "orders"
    with ThreadPoolExecutor(4) as executor:
        publisher = Publisher(folder=folder, pattern="{task_id}{ext}", executor=executor, now=now, keep=keep, boot=boot)
        try:
            async with hostile() as server, talking(server, **wiring) as (client, remote):
                issues(server)
                delivery = msgspec.structs.replace(remote.delivery, unframed=unframed)
                downloader = Downloader(
                    source=client, folder=publisher, delivery=delivery, max_bytes=max_bytes, now=now
                )
                yield Yard(server, publisher, folder, downloader)
        finally:
            publisher.close()


# --- what is published


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [1, 1023, MIB - 1, MIB, MIB + 1, 8 * MIB + 3])
async def test_a_file_is_published_byte_for_byte(tmp_path: Path, size: int, framing: str) -> None:
    """Its bytes, its digest, its mode, its name by its type; the bearer went along."""
    sent = b"\x00" + os.urandom(size - 1)
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, sent, {"Content-Type": "Application/PDF; x=y"}, framing=framing))
        outcome = await there.fetch(task=order("a/b"))
        assert isinstance(outcome, Published)
        [file] = outcome.files
        assert (file.name, file.size, file.media_type, file.published_at) == (
            "a%2Fb.pdf",
            size,
            "application/pdf",
            1234.5,
        )
        assert file.sha256 == sha256(sent).hexdigest()
        assert not outcome.conflict
        assert there.files == {"a%2Fb.pdf": sent}
        assert stat.S_IMODE((there.folder / "a%2Fb.pdf").stat().st_mode) == 0o640
        fetches = there.server.asked("/file")
        assert len(fetches) == (2 if framing == "close" else 1)
        assert {seen.header("authorization") for seen in fetches} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("declared", "ext"),
    [
        ("image/png", ".png"),
        ("IMAGE/JPEG;q=1", ".jpg"),
        ("image/gif", ".gif"),
        ("application/pdf", ".pdf"),
        ("application/zip", ".zip"),
        ("video/mp4", ".mp4"),
        ("application/octet-stream", ".bin"),
        ("application/x-desktop", ".bin"),
        ("image/../../evil.php", ".bin"),
        (None, ".bin"),
    ],
)
async def test_the_extension_follows_from_the_type(tmp_path: Path, declared: str | None, ext: str) -> None:
    """A listed type has its own, anything else a harmless one; what the remote would call it does not matter."""
    headers = {"Content-Disposition": 'attachment; filename="../../evil.php"'}
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, headers | ({"Content-Type": declared} if declared else {})))
        assert isinstance(await there.fetch(), Published)
        assert there.files == {f"T1{ext}": FILE}


async def test_nothing_else_is_ever_visible(tmp_path: Path) -> None:
    """While a file is coming in, and while one is refused, the folder shows ``.partial`` alone."""
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        whole = reply(200, FILE * 1000, PNG)
        writer.write(whole[: 2 * MIB])
        await writer.drain()
        halfway.set()
        await go_on.wait()
        writer.write(whole[2 * MIB :])
        await writer.drain()
        return True

    async with yard(tmp_path) as there:
        there.server.on("/file", play)
        fetching = asyncio.create_task(there.fetch())
        await halfway.wait()
        assert [path.name for path in there.folder.iterdir()] == [".partial"]
        go_on.set()
        assert isinstance(await fetching, Published)
        assert sorted(path.name for path in there.folder.iterdir()) == [".partial", "T1.png"]


async def test_several_files_are_all_published_or_the_order_is_not(tmp_path: Path) -> None:
    """One that fails leaves the others there; when all come, those are taken as they are."""
    async with yard(tmp_path) as there:
        there.server.on("/pdf", answer(200, FILE, {"Content-Type": "application/pdf"}))
        there.server.on("/png", answer(500), answer(200, FILE + b"2", PNG))
        assert isinstance(await there.fetch("/pdf", "/png"), Trouble)
        assert there.files == {"T1~file1.pdf": FILE}
        outcome = await there.fetch("/pdf", "/png")
        assert isinstance(outcome, Published)
        assert [file.name for file in outcome.files] == ["T1~file1.pdf", "T1~file2.png"]
        assert not outcome.conflict
        assert there.files == {"T1~file1.pdf": FILE, "T1~file2.png": FILE + b"2"}


async def test_other_bytes_under_the_name_are_a_conflict(tmp_path: Path) -> None:
    """The same again is none."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, PNG), answer(200, FILE, PNG), answer(200, FILE + b"2", PNG))
        seen = [await there.fetch() for _ in range(3)]
        assert [(outcome.files[0].name, outcome.conflict) for outcome in seen] == [  # type: ignore[union-attr]
            ("T1.png", False),
            ("T1.png", False),
            ("T1~2.png", True),
        ]


# --- what is not


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, Trouble),
        (206, Trouble),
        (203, Trouble),
        (202, Trouble),
        (304, Trouble),
        (400, Trouble),
        (403, LinkExpired),
        (404, LinkExpired),
        (410, LinkExpired),
        (416, Trouble),
        (429, Trouble),
        (500, Trouble),
        (503, Trouble),
    ],
)
async def test_another_status_is_no_file(tmp_path: Path, status: int, kind: type) -> None:
    """Whatever body comes with it; a dead link wants a fresh one, and a wish to wait is passed on."""
    body = b"" if status in {204, 304} else FILE
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(status, body, PNG | {"Retry-After": "7"}))
        seen = await there.fetch()
        assert type(seen) is kind
        assert (seen.status, seen.address) == (status, f"{there.server.base}/file")
        assert getattr(seen, "retry_after", 7.0) == 7.0
        assert there.files == {}
        assert len(there.server.asked("/file")) == 1


async def test_a_link_of_ours_that_refuses_twice_is_dead(tmp_path: Path) -> None:
    """The check got in with the same token, so it is the link's fault and not the remote's door."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(401))
        seen = await there.fetch()
        assert isinstance(seen, LinkExpired)
        assert seen.status == 401
        assert len(there.server.asked("/file")) == 2
        assert there.files == {}


HTML = b"<!DOCTYPE html><html><body>Not found</body></html>"
XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
JSON = b'{"title":"Gone","status":"410"}'


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (b"", "image/png"),
        (HTML, "text/html"),
        (HTML, "image/png"),
        (HTML * 1000, "application/octet-stream"),
        (XML, "application/xml"),
        (XML, "application/pdf"),
        (JSON, "application/problem+json"),
        (JSON, "video/mp4"),
        (FILE, "text/html"),
        (HTML, ""),
    ],
)
async def test_a_page_is_no_file(tmp_path: Path, body: bytes, declared: str, framing: str) -> None:
    """Empty, HTML, XML, JSON, with its own type or a file's: not published, and an attempt that counts."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, body, {"Content-Type": declared}, framing=framing))
        seen = await there.fetch()
        assert isinstance(seen, Trouble)
        assert (seen.cause, seen.status) == (Cause.WRONG_CONTENT, 200)
        assert there.files == {}


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, identity"])
async def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    """Nobody asked for it, and what would be published could not be opened."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, gzip.compress(FILE), PNG | {"Content-Encoding": encoding}))
        seen = await there.fetch()
        assert isinstance(seen, Trouble)
        assert (seen.cause, encoding.lower() in seen.reason) == (Cause.WRONG_CONTENT, True)
        assert there.files == {}


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_identity_is_no_encoding(tmp_path: Path, encoding: str) -> None:
    """Some say so."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, PNG | {"Content-Encoding": encoding}))
        assert isinstance(await there.fetch(), Published)


def packed(encoding: str, data: bytes) -> bytes:
    """Encode *data*; raw deflate is what some servers call deflate."""
    if encoding == "raw":
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(data) + packer.flush()
    return zlib.compress(data) if encoding == "deflate" else gzip.compress(data)


LONG = os.urandom(3 * MIB) + b"x" * MIB


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate", "raw"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_what_comes_compressed_is_decoded(tmp_path: Path, encoding: str, framing: str) -> None:
    """Although we asked for identity; size and digest are the file's own."""
    headers = PNG | {"Content-Encoding": "deflate" if encoding == "raw" else encoding}
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, packed(encoding.lower(), LONG), headers, framing=framing))
        outcome = await there.fetch()
        assert there.server.asked("/file")[0].header("accept-encoding") == "identity"
        assert isinstance(outcome, Published)
        assert (outcome.files[0].size, outcome.files[0].sha256) == (len(LONG), sha256(LONG).hexdigest())
        assert there.files == {"T1.png": LONG}


async def test_a_gzip_of_two_members_is_one_file(tmp_path: Path) -> None:
    """RFC 1952, 2.2."""
    async with yard(tmp_path) as there:
        body = gzip.compress(FILE) + gzip.compress(LONG)
        there.server.on("/file", answer(200, body, PNG | {"Content-Encoding": "gzip"}))
        assert isinstance(await there.fetch(), Published)
        assert there.files == {"T1.png": FILE + LONG}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
@pytest.mark.parametrize("kept", [1, 5, 100, -9, -1])
async def test_a_cut_stream_with_the_right_length_is_no_file(tmp_path: Path, encoding: str, kept: int) -> None:
    """HTTP finds nothing wrong with it, and zlib does not complain."""
    headers = PNG | {"Content-Encoding": "deflate" if encoding == "raw" else encoding}
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, packed(encoding, FILE)[:kept], headers))
        seen = await there.fetch()
        assert isinstance(seen, Trouble)
        assert (seen.cause, there.files) == (Cause.WRONG_CONTENT, {})


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(FILE) + b"garbage"])
async def test_a_stream_that_is_garbled_is_no_file(tmp_path: Path, body: bytes) -> None:
    """From its beginning, or after its end."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, body, PNG | {"Content-Encoding": "gzip"}))
        seen = await there.fetch()
        assert isinstance(seen, Trouble)
        assert (seen.cause, there.files) == (Cause.WRONG_CONTENT, {})


async def test_a_gzip_of_nothing_but_members_is_given_up_at_once(tmp_path: Path) -> None:
    """Each of them takes a while, and nothing comes of it."""
    empty = gzip.compress(b"")
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, empty * (MIB // len(empty)), PNG | {"Content-Encoding": "gzip"}))
        began = time.process_time()
        outcome = await there.fetch()
        assert time.process_time() - began < 1
        assert isinstance(outcome, Trouble)
        assert "more members" in outcome.reason
        there.server.on("/file", answer(200, gzip.compress(FILE) * 200, PNG | {"Content-Encoding": "gzip"}))
        assert isinstance(await there.fetch(), Published)
        assert there.files == {"T1.png": FILE * 200}


async def test_a_bomb_does_not_go_off(tmp_path: Path) -> None:
    """A thousand for one is no file, and no more than a file may have is written of it in any case."""
    async with yard(tmp_path) as there:
        bomb = gzip.compress(b"\x00" * (200 * MIB))
        there.server.on("/file", answer(200, bomb, PNG | {"Content-Encoding": "gzip"}))
        seen = await there.fetch()
        assert isinstance(seen, Trouble)
        assert (seen.cause, "100 times" in seen.reason, there.files) == (Cause.WRONG_CONTENT, True, {})
    async with yard(tmp_path, max_bytes=MIB) as there:
        body = gzip.compress(os.urandom(MIB - 100) + b"\x00" * 101)
        there.server.on("/file", answer(200, body[:], PNG | {"Content-Encoding": "gzip"}))
        assert isinstance(await there.fetch(), TooLarge)
        assert there.files == {}


# --- checksums


def base64(algorithm: str, data: bytes) -> str:
    """Spell a digest as headers do."""
    return b64encode(hashlib.new(algorithm, data).digest()).decode()


def crc32c(data: bytes) -> str:
    """Spell the CRC32C of RFC 3720 as storages do, reckoned bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
    return b64encode((value ^ 0xFFFFFFFF).to_bytes(4, "big")).decode()


CHECKSUMS: dict[str, Callable[[bytes], tuple[str, str]]] = {
    "md5": lambda data: ("Content-MD5", base64("md5", data)),
    "repr 256": lambda data: ("Repr-Digest", f"sha-256=:{base64('sha256', data)}:"),
    "repr 512": lambda data: ("Repr-Digest", f"unixsum=1, sha-512=:{base64('sha512', data)}:"),
    "content": lambda data: ("Content-Digest", f"sha-256=:{base64('sha256', data)}:"),
    "old": lambda data: ("Digest", f"SHA-256={base64('sha256', data)},md5={base64('md5', data)}"),
    "google": lambda data: ("X-Goog-Hash", f"crc32c={crc32c(data)},md5={base64('md5', data)}"),
    "google, composed": lambda data: ("X-Goog-Hash", f"crc32c={crc32c(data)}"),
    "microsoft": lambda data: ("X-Ms-Blob-Content-Md5", base64("md5", data)),
    "amazon": lambda data: ("X-Amz-Checksum-Sha256", base64("sha256", data)),
    "amazon, 32 bits": lambda data: ("X-Amz-Checksum-Crc32", b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()),
    "amazon, other 32": lambda data: ("X-Amz-Checksum-Crc32c", crc32c(data)),
}


@pytest.mark.parametrize("kind", CHECKSUMS)
@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_a_checksum_is_verified(tmp_path: Path, kind: str, encoding: str) -> None:
    """Over the bytes as they are stored there; a wrong one is no file, whatever the length says."""
    sent = packed("gzip", FILE) if encoding else FILE
    coding = {"Content-Encoding": encoding, "X-Goog-Stored-Content-Encoding": encoding} if encoding else {}
    async with yard(tmp_path) as there:
        for data, right in ((sent, True), (sent + b"x", False)):
            there.server.on("/file", answer(200, sent, PNG | coding | dict([CHECKSUMS[kind](data)])))
            seen = await there.fetch()
            assert isinstance(seen, Published if right else Trouble), seen
            assert there.files == ({"T1.png": FILE} if right else {})
            (there.folder / "T1.png").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", CHECKSUMS)
async def test_a_checksum_vouches_for_the_end(tmp_path: Path, kind: str) -> None:
    """So one fetch is enough, even where neither length nor chunks tell."""
    async with yard(tmp_path, unframed="refuse") as there:
        headers = PNG | dict([CHECKSUMS[kind](FILE)])
        there.server.on("/file", answer(200, FILE[:-1], headers, framing="close"))
        assert isinstance(await there.fetch(), Trouble)
        there.server.on("/file", answer(200, FILE, headers, framing="close"))
        assert isinstance(await there.fetch(), Published)


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": f'"{hashlib.md5(b"other", usedforsecurity=False).hexdigest()}"'},
        {"Content-MD5": "nonsense"},
        {"Repr-Digest": "sha-256=:AAAA:"},
        {"X-Amz-Checksum-Sha256": base64("sha256", b"other") + "-3"},
        {"X-Amz-Checksum-Crc32c": crc32c(b"other") + "-3"},
        {"X-Amz-Checksum-Crc64nvme": "AAAAAAAAAAA="},
        {"X-Goog-Hash": f"md5={base64('md5', b'other')}", "X-Goog-Stored-Content-Encoding": "gzip"},
    ],
)
async def test_what_is_no_checksum_of_the_file_proves_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    """It neither refuses a file nor vouches for one."""
    async with yard(tmp_path, unframed="refuse") as there:
        there.server.on("/file", answer(200, FILE, PNG | headers), answer(200, FILE, PNG | headers, framing="close"))
        assert isinstance(await there.fetch(), Published)
        assert isinstance(await there.fetch(), Trouble)


async def test_a_checksum_in_a_second_line_is_seen(tmp_path: Path) -> None:
    """Google's storage sends two lines."""
    wrong = base64("md5", b"other")
    lines = f"X-Goog-Hash: crc32c={crc32c(b'file')}\r\nX-Goog-Hash: md5={wrong}\r\n"
    async with yard(tmp_path) as there:
        there.server.on("/file", say(f"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{lines}\r\nfile".encode()))
        assert isinstance(await there.fetch(), Trouble)
        assert there.files == {}


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("kept", [0, 1, 100, 2000])
async def test_a_short_body_is_no_file(tmp_path: Path, kept: int, framing: str, then: str) -> None:
    """However it ends."""
    whole = reply(200, FILE, PNG, framing=framing)
    cut = whole.index(b"\r\n\r\n") + 4 + kept
    async with yard(tmp_path) as there:
        there.server.on("/file", say(whole[:cut], then=then))
        seen = await there.fetch()
        assert isinstance(seen, Trouble)
        assert there.files == {}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_file_that_is_too_large_is_refused(tmp_path: Path, framing: str) -> None:
    """Announced or not; one of exactly the limit is not too large."""
    async with yard(tmp_path, max_bytes=MIB) as there:
        there.server.on("/file", answer(200, b"\x00" * (MIB + 1), PNG, framing=framing))
        seen = await there.fetch()
        assert isinstance(seen, TooLarge)
        assert (seen.address, there.files) == (f"{there.server.base}/file", {})
        there.server.on("/file", answer(200, b"\x00" * MIB, PNG, framing=framing))
        assert isinstance(await there.fetch(), Published)


async def test_an_announced_giant_is_refused_before_a_byte_of_it(tmp_path: Path) -> None:
    """Its head is enough: the server sends nothing more, and is not waited for."""
    async with yard(tmp_path, max_bytes=MIB) as there:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1048577\r\n\r\n"
        there.server.on("/file", say(head, then="hold"))
        assert isinstance(await there.fetch(), TooLarge)


async def test_an_endless_body_takes_no_more_disk_than_a_file_may(tmp_path: Path) -> None:
    """It is given up before the write that would pass the limit."""
    sizes: list[int] = []
    real = HashedFile.write

    def write(self: HashedFile, block: bytes) -> int:
        sizes.append(self.known.tally.size + len(block))
        return real(self, block)

    async with yard(tmp_path, max_bytes=5 * MIB) as there:
        there.server.on("/file", endlessly(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", b"\x00" * 100_000))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HashedFile, "write", write)
            assert isinstance(await there.fetch(), TooLarge)
        assert 4 * MIB < max(sizes) <= 5 * MIB
        assert there.files == {}


class Short:
    """A source whose body is shorter than it says, and does not tell."""

    status, url, headers, length, framed = 200, "https://x.example/file?sig=canary", PNG, len(FILE), True

    @asynccontextmanager
    async def open(self, link: Link, headers: Mapping[str, str]) -> AsyncIterator["Short"]:
        yield self

    async def blocks(self) -> AsyncIterator[bytes]:
        yield FILE[:-1]


async def test_a_length_is_checked_whatever_the_source_says(tmp_path: Path) -> None:
    """The wire finds a short body out by itself; the downloader does not rely on it."""
    async with yard(tmp_path) as there:
        there.downloader._source = Short()
        seen = await there.downloader.fetch(order(), Ready(links=(Link(url=Short.url),)))
        assert isinstance(seen, Trouble)
        assert (seen.cause, seen.reason) == (Cause.WRONG_CONTENT, "2055 bytes came of 2056 announced")
        assert there.files == {}


# --- what vouches for the end


@pytest.mark.parametrize(
    ("unframed", "plays", "published", "asked"),
    [
        ("trust", [FILE], True, 1),
        ("refuse", [FILE], False, 1),
        ("twice", [FILE, FILE], True, 2),
        ("twice", [FILE, FILE[:-1]], False, 2),
        ("twice", [FILE, FILE[:-1] + b"x"], False, 2),
        ("twice", [FILE[:-1], FILE], False, 2),
        ("twice", [FILE, b""], False, 2),
    ],
)
async def test_an_end_that_nothing_vouches_for(
    tmp_path: Path, unframed: str, plays: list[bytes], published: bool, asked: int
) -> None:
    """Neither length nor chunks: refused, fetched twice, or trusted, as the remote's page says."""
    async with yard(tmp_path, unframed=unframed) as there:
        there.server.on("/file", *(answer(200, body, PNG, framing="close") for body in plays))
        seen = await there.fetch()
        assert isinstance(seen, Published) == published
        assert there.files == ({"T1.png": FILE} if published else {})
        assert len(there.server.asked("/file")) == asked
        if isinstance(seen, Trouble):
            assert seen.cause is Cause.WRONG_CONTENT


async def test_the_second_fetch_may_find_the_link_dead(tmp_path: Path) -> None:
    """What happened then is the outcome."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, PNG, framing="close"), answer(410))
        assert isinstance(await there.fetch(), LinkExpired)
        assert there.files == {}


# --- what is not followed


@pytest.mark.parametrize(
    "link",
    [
        "https://127.0.0.1:{port}/file",
        "https://localhost:{port}/file",
        "https://2130706433:{port}/file",
        "http://localhost:{port}/file",
        "{base}/file\r\nX-Evil: 1",
        "{base}/fi le",
        "file:///etc/passwd",
    ],
)
async def test_an_unsafe_link_is_not_touched(tmp_path: Path, link: str) -> None:
    """Inner addresses, odd spellings, header injection, other schemes: no connection, no file."""
    async with yard(tmp_path) as there:
        base = there.server.base
        url = link.format(base=base, port=base.rpartition(":")[2])
        assert isinstance(await there.downloader.fetch(order(), Ready(links=(Link(url=url),))), Unsafe)
        assert (there.server.dials, there.files) == (0, {})


# --- our own disk


@contextmanager
def _small_files(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_takes_no_more_is_our_own_fault(tmp_path: Path) -> None:
    """Not the order's, and not the remote's; nothing is left, and once there is room it goes on."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, b"\x00" * (3 * MIB), PNG))
        with _small_files(2 * MIB):
            assert await there.fetch() == Stuck(reason="our own disk: File too large")
        assert there.files == {}
        assert isinstance(await there.fetch(), Published)


async def test_a_folder_within_that_lets_nobody_in_pauses_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its orders wait by themselves, and spend nothing."""

    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, PNG))
        monkeypatch.setattr(folders, "inner", closed)
        task = msgspec.structs.replace(order(), filename="batch/{task_id}{ext}")
        assert await there.fetch(task=task) == Deferred(
            reason="our own disk: Permission denied: batch", retry_after=300.0
        )


async def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    """A person has to remove it, and wants to know what."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, PNG))
        (there.folder / "a").write_bytes(b"x")
        seen = await there.fetch(task=order(filename="a/{task_id}{ext}"))
        assert seen == Unsafe(reason="the file's name cannot be used: Not a directory: a")
        assert there.files == {"a": b"x"}


async def test_a_name_with_too_many_versions_is_that_order_s_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the disk's, for which every other download would wait."""
    monkeypatch.setattr(publishers, "_VERSIONS", 2)
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, PNG), answer(200, FILE + b"2", PNG))
        assert isinstance(await there.fetch(), Published)
        seen = await there.fetch()
        assert seen == Unsafe(reason="the file's name cannot be used: 2 versions are there already: T1.png")
        assert there.files == {"T1.png": FILE}


async def test_an_archive_is_never_unpacked(tmp_path: Path) -> None:
    """Whatever its members are called: it is published byte for byte, and nothing comes of them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("../../evil.sh", "/etc/cron.d/evil", ".partial/evil", "nested.zip"):
            archive.writestr(name, "#!/bin/sh")
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, packed.getvalue(), {"Content-Type": "application/zip"}))
        assert isinstance(await there.fetch(), Published)
        assert there.files == {"T1.zip": packed.getvalue()}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["orders"]


def on_a_full_disk(folder: str) -> None:
    """Fetch what a disk of one mebibyte cannot hold, and then what it can; print what came of it."""

    async def main() -> None:
        async with yard(Path(folder)) as there:
            there.server.on("/file", answer(200, b"\x00" * (3 * MIB), PNG), answer(200, FILE, PNG))
            print(await there.fetch(), sorted(there.files))  # noqa: T201 - the parent reads it
            print(type(await there.fetch()).__name__, sorted(there.files))  # noqa: T201

    asyncio.run(main())


def test_a_full_disk_is_our_own_fault(tmp_path: Path) -> None:
    """A real one, where the machine lets us mount a small one for ourselves."""
    unshare = shutil.which("unshare")
    mount = 'mount -t tmpfs -o size=1m none "$0"'
    inside = [unshare or "", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if unshare is None or subprocess.run([*inside, mount, tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    script = "import sys; from tests.test_downloader import on_a_full_disk as main; main(sys.argv[1])"
    command = [*inside, f'{mount} && exec "$@"', tmp_path, sys.executable, "-c", script, tmp_path]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    first, second = done.stdout.splitlines()
    assert first.startswith(
        "Stuck(reason='our own disk: No space left on device: 1048576 bytes are free, 3145728 are needed"
    )
    assert first.endswith("[]")
    assert second == "Published ['T1.png']"


# --- cancellation


@pytest.mark.parametrize("framing", ["length", "close"])
async def test_a_cancellation_at_every_await(tmp_path: Path, framing: str) -> None:
    """At each of them: no stray file, and the file is published and reported, or neither."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE * 1000, PNG, framing=framing))
        uncancelled = number = 0
        while uncancelled < 3:  # how often it suspends is the network's business, too
            steps = Steps(there.fetch(task=order(f"T{number}")), number)
            task = await ended(steps)
            seen = None if task.cancelled() else task.result()
            name = f"T{number}.png"
            assert there.files == ({name: FILE * 1000} if isinstance(seen, Published) else {}), number
            assert seen is None or isinstance(seen, Published), (number, seen)
            (there.folder / name).unlink(missing_ok=True)
            uncancelled += not steps.cancelled
            number += 1
        assert number > 6


@pytest.mark.parametrize(("paths", "late"), [(["/pdf"], True), (["/pdf", "/png"], False)])
async def test_a_cancellation_during_the_last_publishing_comes_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], late: bool
) -> None:
    """The file is there, so it must be said; before the last one, it ends the step once the file is there."""
    loop, linking, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    real = os.link

    def link(*args: Any, **named: Any) -> None:
        loop.call_soon_threadsafe(linking.set)
        go_on.wait(20)
        real(*args, **named)

    async with yard(tmp_path) as there:
        monkeypatch.setattr(publishers.os, "link", link)
        there.server.on("/pdf", answer(200, FILE, {"Content-Type": "application/pdf"}))
        task = asyncio.create_task(there.fetch(*paths))
        await linking.wait()
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled() != late
        assert not late or isinstance(task.result(), Published)
        assert there.files == {"T1.pdf" if late else "T1~file1.pdf": FILE}
        assert there.server.asked("/png") == []


async def test_a_cancellation_between_two_files_is_obeyed(tmp_path: Path) -> None:
    """Only while the last one is being published does it come too late."""
    begun = asyncio.Event()

    async def second(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        begun.set()
        return await say(b"", then="hold")(seen, writer)

    async with yard(tmp_path) as there:
        there.server.on("/pdf", answer(200, FILE, {"Content-Type": "application/pdf"}))
        there.server.on("/png", second)
        task = asyncio.create_task(there.fetch("/pdf", "/png"))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert there.files == {"T1~file1.pdf": FILE}


# --- quantity


async def test_a_large_file_streams_in_bounded_memory(tmp_path: Path) -> None:
    """Two hundred megabytes pass through, server included, and a few are held at a time."""
    size, piece = 200 * MIB, b"\x00" * (MIB // 4)

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            writer.write(piece)
            await writer.drain()
        return True

    async with yard(tmp_path, max_bytes=size) as there:
        there.server.on("/file", play)
        tracemalloc.start()
        try:
            outcome = await there.fetch()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(outcome, Published)
        assert outcome.files[0].size == size
        assert peak < 20 * MIB, f"{peak / MIB:.1f} MiB"
        (there.folder / "T1.png").unlink()


def in_the_kernel(writer: asyncio.StreamWriter) -> int:
    """Count the bytes that have left one side of a connection within this process and not reached the other."""
    ours, peer = writer.get_extra_info("socket"), writer.get_extra_info("peername")
    waiting = 0
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names alone
        with suppress(OSError), socket.socket(fileno=os.dup(int(entry))) as other:
            if other.getsockname() == peer:
                waiting = unread(other.fileno(), termios.FIONREAD)  # it may be open twice
    return unread(ours.fileno(), termios.TIOCOUTQ) + waiting


def unread(handle: int, which: int) -> int:
    """Ask how many bytes wait in a socket."""
    return int(struct.unpack("i", fcntl.ioctl(handle, which, bytes(4)))[0])


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_slow_disk_holds_a_fast_remote_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    """The remote waits, and our memory holds three blocks at most; it is not called silent, and the file is whole."""
    size, sent, go_on = 64 * MIB, 0, threading.Event()
    loop, writing = asyncio.get_running_loop(), asyncio.Event()
    real = HashedFile.write
    writers: list[asyncio.StreamWriter] = []

    def write(self: HashedFile, block: bytes) -> int:
        loop.call_soon_threadsafe(writing.set)
        go_on.wait(20)
        return real(self, block)

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writers.append(writer)
        chunk = (b"10000\r\n", b"\r\n", b"0\r\n\r\n") if framing == "chunked" else (b"", b"", b"")
        how = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: %d" % size
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n%s\r\n\r\n" % how)
        while sent < size:
            writer.write(chunk[0] + b"\x00" * 65536 + chunk[1])
            sent += 65536
            await writer.drain()
        writer.write(chunk[2])
        return True

    monkeypatch.setattr(HashedFile, "write", write)
    async with yard(tmp_path, idle_timeout=0.05) as there:
        there.server.on("/file", play)
        task = asyncio.create_task(there.fetch())
        await writing.wait()
        until = loop.time() + 0.2  # four idle timeouts
        while loop.time() < until:
            await asyncio.sleep(0)
        held = sent - writers[0].transport.get_write_buffer_size() - in_the_kernel(writers[0])
        assert sent < size / 2
        assert MIB <= held < 3 * MIB
        go_on.set()
        outcome = await task
        assert isinstance(outcome, Published)
        assert outcome.files[0].size == size


async def test_files_do_not_wait_for_the_default_threads(tmp_path: Path) -> None:
    """Names are looked up there; whoever fills them up holds up no download, and the other way round."""
    loop, go_on = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    stuck = loop.run_in_executor(None, go_on.wait, 20)
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, FILE, PNG))
        assert isinstance(await there.fetch(), Published)
    go_on.set()
    await stuck


async def test_many_downloads_at_once_do_not_mix(tmp_path: Path) -> None:
    """Sixteen files of different bytes, all at once."""
    bodies = {f"/{number}": bytes([number]) * (MIB + number) for number in range(16)}
    async with yard(tmp_path) as there:
        for path, body in bodies.items():
            there.server.on(path, answer(200, body, PNG))
        seen = await asyncio.gather(*(there.fetch(path, task=order(f"T{path[1:]}")) for path in bodies))
        assert all(isinstance(outcome, Published) for outcome in seen)
        assert there.files == {f"T{path[1:]}.png": body for path, body in bodies.items()}


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")],
        [("Transfer-Encoding", "gzip, chunked")],
    ],
)
async def test_an_encoding_in_a_second_line_is_seen(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    """What would be published encoded is no file that anybody can open."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in [*headers, ("Content-Type", "image/png")])
    chunked = headers[0][0] == "Transfer-Encoding"
    body = b"4\r\nfile\r\n0\r\n\r\n" if chunked else b"file"
    length = "" if chunked else "Content-Length: 4\r\n"
    async with yard(tmp_path) as there:
        there.server.on("/file", say(f"HTTP/1.1 200 OK\r\n{length}{lines}\r\n".encode() + body))
        seen = await there.fetch()
        assert isinstance(seen, Trouble)
        assert seen.cause is Cause.WRONG_CONTENT
        assert there.files == {}
