"""Replies that two readers would read in two ways, through the whole poller: one file or none, never half of one."""

import asyncio
from pathlib import Path

import pytest

from tests.canary import Watch
from tests.remote_from_hell import close, script
from tests.spine import spine

FILE = b"\x89PNG\x00"
LENGTHS = [
    "5, 5",
    "+5",
    "5 5",
    " 5 ",
    "5\t",
    "\xb2",
    "5_0",
    "\u0665",
    "",
    "0x5",
    "5;",
    "-0",
    "00005",
    "5\r\n Content-Length: 6",
]
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5\r\n%s\r\n0\r\n\r\n" % FILE
HEADS = {
    "two lengths that agree": b"200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "chunked twice": b"200 OK\r\nTransfer-Encoding: chunked\r\n" + CHUNKED + CHUNKS,
    "chunked as identity": b"200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n",
    "nearly chunked": b"200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "chunked, and more": b"200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "chunked, loudly": b"200 OK\r\n" + CHUNKED.upper() + CHUNKS,
    "a chunk without end": b"200 OK\r\n" + CHUNKED + b"FFFFFFFFFFFFFFF\r\n",
    "a chunk with an extension": b"200 OK\r\n" + CHUNKED + CHUNKS.replace(b"\r", b';a=b;c="d"\r', 1),
    "chunks in bare lines": b"200 OK\r\n" + CHUNKED + CHUNKS.replace(b"\r", b""),
    "a chunk with more than it says": b"200 OK\r\n" + CHUNKED + CHUNKS.replace(b"\x00", b"\x00Y", 1),
    "a length among the trailers": b"200 OK\r\n" + CHUNKED + CHUNKS[:-2] + b"Content-Length: 3\r\n\r\n",
    "bare lines": b"200 OK\nContent-Length: 5\n\n",
    "a folded line": b"200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\n",
    "a bare return": b"200 OK\r\nX: a\rb\r\nContent-Length: 5\r\n\r\n",
    "a space before a colon": b"200 OK\r\nContent-Length : 5\r\n\r\n",
    "a name that is no token": b"200 OK\r\n\xc3\x9c: a\r\nContent-Length: 5\r\n\r\n",
    "values that are no text": b"200 OK\r\nETag: \xff\r\nContent-Type: \xff\r\nContent-Length: 5\r\n\r\n",
    "an encoding that is no text": b"200 OK\r\nContent-Encoding: \xff\r\nContent-Length: 5\r\n\r\n",
    "no reason": b"200\r\nContent-Length: 5\r\n\r\n",
    "status 0": b"000 OK\r\nContent-Length: 5\r\n\r\n",
    "status 20": b"20 OK\r\nContent-Length: 5\r\n\r\n",
    "status 2000": b"2000 OK\r\nContent-Length: 5\r\n\r\n",
    "status -200": b"-200 OK\r\nContent-Length: 5\r\n\r\n",
    "a 304 with a length": b"304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "hints with a length": b"103 Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "nothing but a hint": b"100 Continue\r\n\r\n",
    "another protocol": b"200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n",
    "a place that is no text": b"302 Found\r\nLocation: /\xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "a place that is nowhere": b"302 Found\r\nLocation: \r\nContent-Length: 0\r\n\r\n",
    "two places": b"302 Found\r\nLocation: /a\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
    "a place at somebody's": b"302 Found\r\nLocation: //evil.example/x\r\nContent-Length: 0\r\n\r\n",
    "a place behind backslashes": b"302 Found\r\nLocation: \\\\evil.example/x\r\nContent-Length: 0\r\n\r\n",
    "a place at a port": b"302 Found\r\nLocation: :80/x\r\nContent-Length: 0\r\n\r\n",
    "a wish that is no text": b"503 No\r\nRetry-After: \xff\xb2\r\nContent-Length: 0\r\n\r\n",
    "a wish in other digits": b"503 No\r\nRetry-After: \xd9\xa3\r\nContent-Length: 0\r\n\r\n",
    "a range of madness": b"206 Part\r\nContent-Range: bytes 99999999999999999999999-5/3\r\nContent-Length: 5\r\n\r\n",
} | {f"length {value!r}": f"200 OK\r\nContent-Length: {value}\r\n\r\n".encode() for value in LENGTHS}
PREFIXES = {"a blank line first": b"\r\nHTTP/1.1 ", "a radio": b"ICY ", "small letters": b"http/1.1 "}
RAW = {name: b"HTTP/1.1 " + head + FILE for name, head in HEADS.items()} | {
    name: prefix + b"200 OK\r\nContent-Length: 5\r\n\r\n" + FILE for name, prefix in PREFIXES.items()
}


@pytest.mark.parametrize("where", ["question", "file"])
async def test_an_odd_reply_is_read_as_one_thing_or_as_none(where: str, tmp_path: Path, watch: Watch) -> None:
    """Each comes to an end of its order; a file that is published is the file; whoever comes next is not harmed."""
    async with spine(tmp_path, watch) as it:
        for number, raw in enumerate(RAW.values()):
            odd, good = f"odd{number}", f"good{number}"
            it.good(odd, FILE)
            it.good(good, FILE)
            it.server.on(f"/files/{odd}" if where == "file" else f"/api/tasks/{odd}", script(raw, close))
            await it.shop.add(odd)
            async with asyncio.timeout(10):
                await it.rest(odd)
            await it.shop.add(good)
            await it.rest(good)
            assert it.asked(good) == (1, 1)
        orders = await it.shop.orders()
        assert {order["state"] for name, order in orders.items() if name.startswith("good")} == {"done"}
        done = {name for name, order in orders.items() if order["state"] == "done" and name.startswith("odd")}
        assert (len(done) > 5) == (where == "file")
        assert not [line for line in it.lines if line["event"] in {"step_failed", "remote_paused", "local_fault"}]
        assert not it.leaked
    assert set(it.files.values()) == {FILE}
    assert len(it.files) == len(done) + len(RAW)
