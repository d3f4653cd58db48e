"""GET …/file: the published bytes, in whole and in part, and nothing else."""

import asyncio
import os
from email.utils import formatdate
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from poller.order import Key
from poller.outcome import File
from poller.web.attachment import Part, _copy, choose, disposition
from poller.web.folder import open_below
from tests.hook import NOW, Hook, hook

ONE = Key("grafx", "1")
PDF = b"%PDF-" + bytes(range(256)) * 40
SHA = sha256(PDF).hexdigest()
PUBLISHED = formatdate(NOW + 5, usegmt=True)
BEFORE = formatdate(NOW - 5, usegmt=True)
AFTER = formatdate(NOW + 50, usegmt=True)


async def done(shop: Hook, *contents: bytes, **changed: Any) -> None:
    """Add an order and publish its files."""
    await shop.post("/orders", {"task_id": "1"})
    await shop.finish(ONE, *contents, **changed)


async def test_a_file_comes_whole_and_as_an_attachment(tmp_path: Path) -> None:
    """Byte for byte, with its digest as entity tag, and with what keeps a browser from showing it."""
    async with hook(tmp_path) as shop:
        await done(shop, PDF, name="sub/a b")
        reply, body = await shop.get("/orders/grafx/1/file")
        assert (reply.status, body) == (200, PDF)
        assert reply.headers["Content-Type"] == "application/pdf"
        assert reply.headers["Content-Length"] == str(len(PDF))
        assert reply.headers["ETag"] == f'"{SHA}"'
        assert reply.headers["Last-Modified"] == PUBLISHED
        assert reply.headers["Content-Disposition"] == 'attachment; filename="a b-0.pdf"'
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "private, no-cache"
        head, nothing = await shop.ask("HEAD", "/orders/grafx/1/file")
        assert (head.status, nothing, head.headers["Content-Length"]) == (200, b"", str(len(PDF)))
        _, shown = await shop.get("/orders/grafx/1")
        assert shown["files"][0]["path"] == str(tmp_path / "sub" / "a b-0.pdf")
        assert shown["files"][0]["sha256"] == SHA


async def test_parts_put_together_are_the_file(tmp_path: Path) -> None:
    """A download that broke off is taken up again, over one connection."""
    async with hook(tmp_path) as shop:
        await done(shop, PDF)
        whole = b""
        while len(whole) < len(PDF):
            span = {"Range": f"bytes={len(whole)}-{len(whole) + 999}", "If-Range": f'"{SHA}"'}
            reply, part = await shop.get("/orders/grafx/1/file", headers=span)
            assert reply.status == 206
            assert reply.headers["Content-Range"] == f"bytes {len(whole)}-{len(whole) + len(part) - 1}/{len(PDF)}"
            whole += part
        assert whole == PDF
        reply, nothing = await shop.get("/orders/grafx/1/file", headers={"Range": f"bytes={len(PDF)}-"})
        assert (reply.status, nothing, reply.headers["Content-Range"]) == (416, b"", f"bytes */{len(PDF)}")
        same, nothing = await shop.get("/orders/grafx/1/file", headers={"If-None-Match": f'W/"x", "{SHA}"'})
        assert (same.status, nothing, same.headers["ETag"]) == (304, b"", f'"{SHA}"')
        other, nothing = await shop.get("/orders/grafx/1/file", headers={"If-Match": '"x"'})
        assert (other.status, nothing) == (412, b"")


WHOLE = Part(200, range(100))
FILE = File(name="a.pdf", size=100, sha256="d1", media_type="application/pdf", published_at=NOW + 5.25)


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, WHOLE),
        ({"Range": "bytes=0-"}, Part(206, range(100))),
        ({"Range": "bytes=0-0"}, Part(206, range(1))),
        ({"Range": "bytes=90-"}, Part(206, range(90, 100))),
        ({"Range": "bytes=90-500"}, Part(206, range(90, 100))),
        ({"Range": "bytes=-1"}, Part(206, range(99, 100))),
        ({"Range": "bytes=-500"}, Part(206, range(100))),
        ({"Range": "bytes=-0"}, Part(416, range(0))),
        ({"Range": "bytes=100-"}, Part(416, range(0))),
        ({"Range": "bytes=100-200"}, Part(416, range(0))),
        ({"Range": "bytes=-"}, WHOLE),
        ({"Range": "bytes=5-2"}, WHOLE),
        ({"Range": "bytes=0-1,5-6"}, WHOLE),
        ({"Range": "lines=0-1"}, WHOLE),
        ({"Range": "bytes=" + "9" * 6000 + "-"}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": '"d1"'}, Part(206, range(10))),
        ({"Range": "bytes=0-9", "If-Range": '"d2"'}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": 'W/"d1"'}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": PUBLISHED}, Part(206, range(10))),
        ({"Range": "bytes=0-9", "If-Range": AFTER}, WHOLE),
        ({"If-None-Match": '"d1"'}, Part(304, range(0))),
        ({"If-None-Match": 'W/"d1"'}, Part(304, range(0))),
        ({"If-None-Match": '"d2", "d1"'}, Part(304, range(0))),
        ({"If-None-Match": "*"}, Part(304, range(0))),
        ({"If-None-Match": '"d2"'}, WHOLE),
        ({"If-None-Match": '"d2"', "If-Modified-Since": AFTER}, WHOLE),
        ({"If-Modified-Since": PUBLISHED}, Part(304, range(0))),
        ({"If-Modified-Since": BEFORE}, WHOLE),
        ({"If-Modified-Since": "yesterday"}, WHOLE),
        ({"If-Match": '"d1"'}, WHOLE),
        ({"If-Match": "*"}, WHOLE),
        ({"If-Match": 'W/"d1"'}, Part(412, range(0))),
        ({"If-Match": '"d2"', "If-None-Match": '"d1"'}, Part(412, range(0))),
        ({"If-Unmodified-Since": BEFORE}, Part(412, range(0))),
        ({"If-Unmodified-Since": PUBLISHED}, WHOLE),
        ({"If-Match": '"d1"', "If-Unmodified-Since": BEFORE}, WHOLE),
    ],
)
def test_what_is_sent_follows_rfc_9110(headers: dict[str, str], part: Part) -> None:
    """A table of conditions and ranges, and what each gets."""
    assert choose(make_mocked_request("GET", "/", headers=headers), FILE) == part


def test_a_range_is_for_get_alone() -> None:
    """HEAD tells about the whole (RFC 9110, 14.2)."""
    assert choose(make_mocked_request("HEAD", "/", headers={"Range": "bytes=0-9"}), FILE) == WHOLE


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.pdf", 'attachment; filename="a.pdf"'),
        ("a%2Fb.pdf", "attachment; filename=\"a_2Fb.pdf\"; filename*=UTF-8''a%252Fb.pdf"),
        ('é"\r\n', "attachment; filename=\"____\"; filename*=UTF-8''%C3%A9%22%0D%0A"),
    ],
)
def test_a_file_name_in_a_header_is_harmless(name: str, header: str) -> None:
    """Nothing in a name can end the header or the quotes, and percent signs mean themselves."""
    assert disposition(name) == header


async def test_a_neighbour_called_gz_is_another_file(tmp_path: Path) -> None:
    """Whoever accepts gzip still gets the order's own bytes."""
    async with hook(tmp_path) as shop:
        await done(shop, PDF)
        (tmp_path / "file-0.pdf.gz").write_bytes(b"somebody else's")
        reply, body = await shop.get("/orders/grafx/1/file", headers={"Accept-Encoding": "gzip"})
        assert body == PDF
        assert "Content-Encoding" not in reply.headers


@pytest.mark.parametrize("said", ["", "text/html\r\nX-Evil: 1", "nonsense", "é/é"])
async def test_a_media_type_that_is_none_becomes_plain_bytes(tmp_path: Path, said: str) -> None:
    """The remote's word is repeated only if it is well-formed."""
    async with hook(tmp_path) as shop:
        await done(shop, PDF, media_type=said)
        reply, _ = await shop.get("/orders/grafx/1/file")
        assert reply.headers["Content-Type"] == "application/octet-stream"
        assert "X-Evil" not in reply.headers


async def test_one_of_several_files_is_chosen_by_name(tmp_path: Path) -> None:
    """Without a name the choice is left to the asker, and told."""
    async with hook(tmp_path) as shop:
        await done(shop, b"zero", b"one")
        reply, problem = await shop.get("/orders/grafx/1/file")
        assert reply.status == 400
        assert "file-0.pdf, file-1.pdf" in problem["errors"][0]["message"]
        assert (await shop.get("/orders/grafx/1/file?name=file-1.pdf"))[1] == b"one"
        other, _ = await shop.get("/orders/grafx/1/file?name=../secret")
        assert other.status == 404


@pytest.mark.parametrize(("command", "hint"), [("", "later"), ("cancel", "retry")])
async def test_an_order_without_a_file_says_why(tmp_path: Path, command: str, hint: str) -> None:
    """404, with the order's state and what to do."""
    async with hook(tmp_path) as shop:
        await shop.post("/orders", {"task_id": "1"})
        if command:
            await shop.post(f"/orders/grafx/1/{command}")
        reply, problem = await shop.get("/orders/grafx/1/file")
        assert (reply.status, reply.content_type) == (404, "application/problem+json")
        assert hint in problem["hint"]
        await shop.post("/orders", {"task_id": "2"})
        await shop.finish(Key("grafx", "2"))
        _, nothing = await shop.get("/orders/grafx/2/file")
        assert "nothing to fetch" in nothing["detail"]


async def test_a_file_that_is_not_what_was_published_is_404(tmp_path: Path) -> None:
    """Deleted, cut, replaced by a folder, a pipe or a link: never sent, and never waited for."""
    outside = tmp_path / "secret"
    outside.write_bytes(PDF)
    orders = tmp_path / "orders"
    path = orders / "sub" / "file-0.pdf"

    def spoil() -> Any:
        path.unlink()
        yield
        path.write_bytes(PDF[:-1])
        yield
        path.unlink()
        path.mkdir()
        yield
        path.rmdir()
        os.mkfifo(path)
        yield
        path.unlink()
        path.symlink_to(outside)
        yield
        path.unlink()
        path.parent.rmdir()
        (tmp_path / "file-0.pdf").write_bytes(PDF)
        path.parent.symlink_to(tmp_path)
        yield

    async with hook(orders) as shop:
        await done(shop, PDF, name="sub/file")
        assert (await shop.get("/orders/grafx/1/file"))[0].status == 200
        for _ in spoil():
            reply, problem = await asyncio.wait_for(shop.get("/orders/grafx/1/file"), 10)
            assert (reply.status, reply.content_type) == (404, "application/problem+json")
            assert "sub/file-0.pdf" in problem["detail"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", ".", "", "a//b", "./secret"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Not even one that somebody wrote into the store by hand."""
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "orders").mkdir()
    with pytest.raises(FileNotFoundError):
        open_below(tmp_path / "orders", name)


async def test_an_asker_that_leaves_ends_only_its_own_download(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A large file that nobody reads on is dropped without a line in the log, and the hook answers the next."""
    large = os.urandom(2**20) * 64
    async with hook(tmp_path) as shop:
        await done(shop, large)
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(b"GET /orders/grafx/1/file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.read(100)).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        reply, body = await shop.get("/orders/grafx/1/file")
        assert (reply.status, sha256(body).digest()) == (200, sha256(large).digest())
        assert caplog.records == []


async def test_nothing_is_copied_to_nobody() -> None:
    """An asker that left before the first byte ends the request as one that left after it."""
    with pytest.raises(ConnectionResetError):
        await _copy(SimpleNamespace(transport=None), BytesIO(PDF), range(5))


async def test_a_file_that_shrinks_under_the_reader_ends_the_connection(tmp_path: Path) -> None:
    """Short is never taken for whole: the length was announced, and the connection breaks before it."""
    large = os.urandom(2**20) * 64
    async with hook(tmp_path) as shop:
        await done(shop, large)
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(b"GET /orders/grafx/1/file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read(100)
        os.truncate(tmp_path / "file-0.pdf", 2**20)
        rest = 0
        try:
            while piece := await reader.read(2**20):
                rest += len(piece)
        except ConnectionError:
            pass
        writer.close()
        assert rest < len(large)
        assert (await shop.get("/healthz"))[0].status == 200
