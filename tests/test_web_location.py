"""Every order is reachable by the address it was given, whatever its task ID holds."""

import asyncio
import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from poller.order import Key
from poller.web.location import location
from tests.hook import Hook, hook

ODD = [
    ".",
    "..",
    "...",
    "%2E",
    "%2e",
    "%2E%2E",
    "%252E",
    "%252E%2E",
    ".%2E",
    "%2E.",
    "%2e%2E",
    "%25",
    "%",
    "%2F",
    "%252F",
    "a/b",
    "/",
    "//",
    "../../etc/passwd",
    "/orders",
    "file",
    "a/file",
    "{task_id}",
    "a b",
    "+",
    "a+b",
    "?x=1",
    "#x",
    "a;b=c",
    "&",
    "\\",
    "'\"<>",
    "~",
    "é",
    "e\u0301",
    "\u2028",
    "\u202e",
    "\U0001f600",
    "%FF",
    "%ZZ",
    ":",
    "http://evil.example/",
    " ",
    "x" * 512,
    "é" * 256,
]


async def added(shop: Hook, tasks: list[str]) -> dict[str, str]:
    """Add orders one by one; give the Location that each got."""
    found = {}
    for task in tasks:
        reply, _ = await shop.post("/orders", {"task_id": task})
        assert reply.status == 202
        found[task] = reply.headers["Location"]
    return found


async def test_aiohttp_finds_every_order_by_its_location(tmp_path: Path) -> None:
    """Also through a client that normalises addresses, and for what lies below the order."""
    async with hook(tmp_path) as shop:
        for task, path in (await added(shop, ODD)).items():
            base = URL(f"http://127.0.0.1:{shop.port}/")
            async with shop.session.get(base.join(URL(path))) as reply:
                assert (await reply.json())["task_id"] == task
            async with shop.session.get(f"http://127.0.0.1:{shop.port}{path}/events") as reply:
                assert reply.status == 200
            _, shown = await shop.post(f"{path}/cancel")
            assert (shown["task_id"], shown["state"]) == (task, "canceled")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_curl_finds_every_order_by_its_location(tmp_path: Path) -> None:
    """Stock curl folds dots and passes everything else on; one process asks for all of them."""
    async with hook(tmp_path) as shop:
        found = await added(shop, ODD)
        urls = [f"http://127.0.0.1:{shop.port}{path}" for path in found.values()]
        curl = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-g", "-w", "\n", *urls, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await curl.communicate()
        assert [json.loads(line)["task_id"] for line in said.splitlines()] == list(found)


async def test_a_path_sent_as_it_is_names_the_same_order(tmp_path: Path) -> None:
    """A client that does not fold dots may write them plainly, and one may encode too much or too little."""
    spellings = {"..": b"..", "a/b": b"a%2fb", "x": b"%78", "{": b"{", "a b": b"a%20b"}
    async with hook(tmp_path) as shop:
        await added(shop, list(spellings))
        for task, segment in spellings.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
            writer.write(b"GET /orders/grafx/%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % segment)
            body = (await reader.read()).partition(b"\r\n\r\n")[2]
            writer.close()
            assert json.loads(body)["task_id"] == task


@pytest.mark.parametrize(
    "segment", [b"\xff", b"%FF", b"%00", b"%ED%A0%80", b"%", b"%2", b"a%2Fb%2F..", b"\xed\xa0\x80"]
)
async def test_a_path_that_is_no_text_is_a_plain_404(tmp_path: Path, segment: bytes) -> None:
    """Nothing that can stand in a path is a fault of ours, nor is it said back raw."""
    async with hook(tmp_path) as shop:
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(b"GET /orders/grafx/%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % segment)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.split(b" ")[1] in {b"404", b"400"}
        if b"problem+json" in head:
            assert json.loads(body.decode())["status"] == 404


@settings(max_examples=500)
@given(
    st.text(alphabet="%25Ee./F", min_size=1, max_size=9) | st.text(min_size=1, max_size=9), st.sampled_from(["g", "."])
)
def test_a_location_is_one_plain_segment_each_and_no_two_are_equal(task: str, remote: str) -> None:
    """No segment can be folded, split or mistaken, and the encoding can be undone."""
    if any("\ud800" <= letter <= "\udfff" for letter in task):
        return
    _, _, first, second = (path := location(Key(remote, task))).split("/")
    assert path.isascii()
    assert {unquote(first), unquote(second)}.isdisjoint({".", "..", ""})
    other = task.replace(".", "%2E") if "." in task else task.replace("%2E", ".")
    assert (location(Key(remote, other)) == path) == (other == task)
