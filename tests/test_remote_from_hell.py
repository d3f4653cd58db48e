"""Whatever a remote does to one order, through the whole poller: what becomes of it, and that nobody else is touched."""

import asyncio
import gzip
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.hostile import Play, answer, reply
from tests.remote_from_hell import close, drip, endless, half_close, rst, script, stall
from tests.spine import ATTEMPTS, PNG, SIGNED, Spine, Watch, spine

FILE = b"\x89PNG\r\n\x1a\n" + random.Random(4).randbytes(1_400_000)
"""More than a block, so that some of it is on disk when the rest does not come."""
HEALTHY = ("h1", "h2", "h3")
PATIENCE = 5.0
"""Seconds within which the healthy orders are done; a pause of the remote or of the disk is longer, or is told."""


class Row(NamedTuple):
    """What the remote does, and what comes of it.

    Attributes:
        asked: what questions about the task meet, one after the other, the last for ever; nothing for a good answer.
        fetched: what requests for its file meet; nothing for a good one.
        link: where the answer says that the file is, if not where it is.
        cause: why the order fails; None if its file is published.
        spent: attempts in the end.
        asks: questions.
        fetches: requests for the file.
        said: a part of the reason.
        knobs: how the poller differs from the usual.
    """

    asked: tuple[Play, ...] = ()
    fetched: tuple[Play, ...] = ()
    link: str | None = None
    cause: str | None = "attempts"
    spent: int = ATTEMPTS
    asks: int = ATTEMPTS
    fetches: int = ATTEMPTS
    said: str = ""
    knobs: dict[str, Any] = {}


def file(*acts: Any, **more: Any) -> Row:
    """Do *acts* to every request for the file: trouble, until the attempts are spent."""
    return Row(fetched=(script(*acts),), **more)


def wrong(*acts: Any, **more: Any) -> Row:
    """The same, and the content is to blame."""
    return file(*acts, cause="wrong_content", **more)


def fine(*acts: Any, **more: Any) -> Row:
    """The same, and the file is published all the same."""
    return file(*acts, **{"cause": None, "spent": 0, "asks": 1, "fetches": 1, **more})


def fatal(cause: str, *acts: Any, **more: Any) -> Row:
    """The same, and the order fails at once."""
    return file(*acts, **{"cause": cause, "spent": 0, "asks": 1, "fetches": 1, **more})


def check(*acts: Any, **more: Any) -> Row:
    """Do *acts* to every question, to which nothing answers: each is repeated as a hiccup."""
    return Row(asked=(script(*acts),), **{"asks": 3 * ATTEMPTS, "fetches": 0, **more})


def said(*acts: Any, **more: Any) -> Row:
    """Do *acts* to every question: an answer that makes no sense, but is one."""
    return check(*acts, **{"asks": ATTEMPTS, **more})


def final(cause: str, *acts: Any, **more: Any) -> Row:
    """Do *acts* to the question: an answer that ends the order."""
    return said(*acts, **{"cause": cause, "spent": 0, "asks": 1, **more})


def led(link: str, cause: str | None = "unsafe", **more: Any) -> Row:
    """The answer's link leads somewhere."""
    return Row(link=link, **{"cause": cause, "spent": 0, "asks": 1, "fetches": 0, **more})


def spelled(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Spell a reply; in names of headers, underscores are dashes."""
    return reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def head(*lines: str) -> bytes:
    """Spell a head of a file's reply, with no length unless a line says it."""
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: image/png", *lines, "", ""]).encode()


SIZE = f"Content-Length: {len(FILE)}"
WHOLE = head(SIZE) + FILE
BODY = len(head(SIZE))
FAR = BODY + 1_200_000
"""Within the second block."""
CHUNKED = head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(FILE), FILE)
CHUNKS = head("Transfer-Encoding: chunked") + b"10\r\n" + b"\x89PNG" * 4 + b"\r\n"
CLOSE = head("Connection: close")
GZIP = gzip.compress(FILE)
RUNNING = spelled(200, b'{"state":"running"}')
LINE = b"HTTP/1.1 200 OK\r\n"
IMPATIENT = {"idle_timeout": 0.3, "patience": 0.6}
RANGE = {"Content_Type": "image/png"}


def hurried() -> float:
    """Tell a time that passes a hundred times faster: what is slow over half a minute is so within a moment."""
    return time.monotonic() * 100


HTML = b"<!DOCTYPE html><html><body>Service unavailable</body></html>"
XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
JSON = b'{"error":"no such key"}'


def part(first: int, last: int, total: int | str = len(FILE), **headers: str) -> bytes:
    """Spell a 206 of bytes that nobody asked for."""
    where = f"bytes {first}-{last}/{total}"
    return spelled(206, FILE[first : last + 1], Content_Type="image/png", Content_Range=where, **headers)


CUT = {
    "length, cut": file(WHOLE[:FAR], close),
    "length, cut before the body": file(WHOLE[:BODY], close),
    "length, cut by one byte": file(WHOLE[:-1], close),
    "length, half closed": file(WHOLE[:FAR], half_close, stall),
    "chunked, cut in a size": file(CHUNKS + b"1", close),
    "chunked, cut after a size": file(CHUNKS + b"10\r\n", close),
    "chunked, cut in the data": file(CHUNKED[:FAR], close),
    "chunked, cut after the data": file(CHUNKS[:-2], close),
    "chunked, cut before the last": file(CHUNKS, close),
    "chunked, cut in the trailers": file(CHUNKS + b"0\r\nX-Trailer: 1", close),
    "chunked, with trailers": fine(CHUNKED[:-2] + b"X-Trailer: 1\r\n\r\n"),
    "close-delimited, whole": fine(CLOSE + FILE, close, fetches=2),
    "close-delimited, refused": wrong(CLOSE + FILE, close, said="nothing vouches", knobs={"unframed": "refuse"}),
    "close-delimited, cut once": Row(
        fetched=(script(CLOSE + FILE[:FAR], close), script(CLOSE + FILE, close)), cause=None, spent=0, asks=2, fetches=4
    ),
    "HTTP/1.0, cut": wrong(
        (CLOSE + FILE[:FAR]).replace(b"HTTP/1.1", b"HTTP/1.0"), close, knobs={"unframed": "refuse"}
    ),
    "gzip, cut with the right length": wrong(
        head("Content-Encoding: gzip", f"Content-Length: {len(GZIP) - 9}") + GZIP[:-9], said="gzip stream stopped"
    ),
    "gzip, cut in its checksum": wrong(
        head("Content-Encoding: gzip", f"Content-Length: {len(GZIP) - 4}") + GZIP[:-4], said="gzip stream stopped"
    ),
    "gzip, the length of what it decodes to": file(head("Content-Encoding: gzip", SIZE) + GZIP[:-9], close),
    "gzip, whole": fine(head("Content-Encoding: gzip", f"Content-Length: {len(GZIP)}") + GZIP),
}

RESETS = {
    "reset before the status line": file(rst),
    "reset in the status line": file(WHOLE[:7], rst),
    "reset after the status line": file(LINE, rst),
    "reset in the headers": file(WHOLE[:30], rst),
    "reset before the body": file(WHOLE[:BODY], rst),
    "reset in the body": file(WHOLE[:FAR], rst),
    "reset in a chunk's size": file(CHUNKS + b"1", rst),
    "reset in a chunk": file(CHUNKED[:FAR], rst),
    "reset after the body": fine(WHOLE, rst),
    "reset after the last chunk": fine(CHUNKED, rst),
    "reset where the end is the close": file(CLOSE + FILE, rst),
    "question reset before the status line": check(rst),
    "question reset in the status line": check(RUNNING[:7], rst),
    "question reset in the headers": check(RUNNING[:30], rst),
    "question reset before the body": check(RUNNING[:-19], rst),
    "question reset in the body": check(RUNNING[:-1], rst),
    "question closed in the headers": check(RUNNING[:30], close),
    "question closed in the body": check(RUNNING[:-1], close),
    "question closed before anything": check(close),
}

SLOW = {
    "drip of a head": file(drip(LINE + b"X: " + b"x" * 5000), said="silent", knobs=IMPATIENT),
    "drip of a body": file(head(SIZE), drip(FILE), said="fewer than", knobs={"clock": hurried}),
    "drip of chunks": file(CHUNKS, drip([b"1\r\nx\r\n"] * 5000), said="fewer than", knobs={"clock": hurried}),
    "drip of a chunk's size": file(CHUNKS, drip(b"0" * 5000), said="silent", knobs=IMPATIENT),
    "silence": file(stall, said="silent", knobs=IMPATIENT),
    "silence in the head": file(LINE, stall, said="silent", knobs=IMPATIENT),
    "silence before the body": file(head(SIZE), stall, said="silent", knobs=IMPATIENT),
    "silence in the body": file(WHOLE[:FAR], stall, said="silent", knobs=IMPATIENT),
    "silence instead of the close": file(CLOSE + FILE, stall, said="silent", knobs=IMPATIENT),
    "silence after the body": fine(WHOLE, stall, knobs=IMPATIENT),
    "silence to a question": check(stall, said="silent", knobs=IMPATIENT),
    "drip of an answer": check(drip(RUNNING[:-1] + b" " * 5000), said="silent", knobs=IMPATIENT),
}

ENDLESS = {
    "body without a length": fatal("too_large", CLOSE, endless(FILE), knobs={"max_file_bytes": 2**21}),
    "body with a length": fatal("too_large", head("Content-Length: 9999999999"), stall, knobs={"max_file_bytes": 2**21}),
    "body in chunks": fatal(
        "too_large",
        head("Transfer-Encoding: chunked"),
        endless(b"%x\r\n%s\r\n" % (len(FILE), FILE)),
        knobs={"max_file_bytes": 2**21},
    ),
    "bomb": wrong(
        head("Content-Encoding: gzip", "Connection: close"),
        endless(gzip.compress(bytes(2**24))),
        said="100 times",
    ),
    "headers": file(LINE, endless(b"X: y\r\n" * 100), knobs=IMPATIENT),
    "header": file(LINE + b"X: ", endless(b"y" * 1000), knobs=IMPATIENT),
    "status line": file(endless(b"HTTP/1.1 " * 100), knobs=IMPATIENT),
    "early hints": file(endless(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10), said="silent", knobs=IMPATIENT),
    "size of a chunk": file(CHUNKS, endless(b"0" * 1000), knobs=IMPATIENT),
    "extension of a chunk": file(CHUNKS + b"10;", endless(b"x" * 1000), knobs=IMPATIENT),
    "trailers": file(CHUNKED[:-2], endless(b"X: y\r\n" * 10), knobs=IMPATIENT),
    "answer": said(LINE + b"\r\n", endless(b"[" * 10_000), said="longer than"),
    "interim answers": check(endless(b"HTTP/1.1 102 Processing\r\n\r\n" * 10), said="silent", knobs=IMPATIENT),
}

FRAMING = {
    "two lengths that differ": file(head(SIZE, "Content-Length: 5") + FILE),
    "a length and chunks": file(head(SIZE, "Transfer-Encoding: chunked") + CHUNKED[BODY:], close),
    "a length that is none": file(head("Content-Length: many") + FILE, close),
    "a length below zero": file(head("Content-Length: -5") + FILE, close),
    "a size of a chunk that is none": file(CHUNKS + b"0x10\r\n", close),
    "a size of a chunk below zero": file(CHUNKS + b"-1\r\n", close),
    "a chunk that is longer than it says": file(CHUNKS + b"2\r\nhello\r\n0\r\n\r\n", close),
    "more than the length": fine(head(SIZE) + FILE + b"and more", close),
    "twice": fine(WHOLE + WHOLE),
    "transfer encoded": wrong(head("Transfer-Encoding: gzip, chunked") + b"5\r\nhello\r\n0\r\n\r\n", said="encoded"),
    "an encoding nobody asked for": wrong(spelled(200, FILE, Content_Encoding="br"), said="encoded as br"),
    "HTTP/0.9": file(FILE, close),
    "garbage": file(b"SSH-2.0-OpenSSH_9.6\r\n", close),
    "another version": file(b"HTTP/2.0 200 OK\r\n\r\n" + FILE, close),
    "nothing but blank lines": file(b"\r\n" * 10, close),
    "a header of 8 kB": fine(head(SIZE, "X: " + "x" * 8000) + FILE),
    "a header of 9 kB": file(head(SIZE, "X: " + "x" * 9000) + FILE, close),
    "fifty headers of 8 kB": file(head(SIZE, *(f"X-{n}: " + "x" * 8000 for n in range(50))) + FILE, close),
    "a question's garbage": check(b"SSH-2.0-OpenSSH_9.6\r\n", close),
}

INTERIM = {
    "100": fine(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE),
    "103": fine(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" * 3 + WHOLE),
    "101": file(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + WHOLE, close),
    "204 with a body": file(spelled(204, FILE)),
    "304": file(spelled(304)),
    "a question's 103": Row(
        asked=(script(b"HTTP/1.1 103 Early Hints\r\n\r\n" + RUNNING), script(close)), asks=1 + 9, fetches=0
    ),
}

RANGES = {
    "206 of all": file(part(0, len(FILE) - 1)),
    "206 of the beginning": file(part(0, 999)),
    "206 with a wrong start": file(part(1000, len(FILE) - 1)),
    "206 with a wrong total": file(part(0, len(FILE) - 1, 10 * len(FILE))),
    "206 of an unknown total": file(part(0, len(FILE) - 1, "*")),
    "206 without a range": file(spelled(206, FILE, Content_Type="image/png")),
    "206 with another ETag": file(part(0, len(FILE) - 1, ETag='"other"')),
    "206 of several parts": file(spelled(206, FILE, Content_Type="multipart/byteranges; boundary=x")),
    "416": file(spelled(416, b"", Content_Range="bytes */5")),
}

PAGES = {
    "HTML": wrong(spelled(200, HTML, Content_Type="text/html"), said="a page"),
    "HTML as an image": wrong(spelled(200, HTML, Content_Type="image/png"), said="a page"),
    "XML": wrong(spelled(200, XML, Content_Type="application/xml"), said="a page"),
    "JSON as bytes": wrong(spelled(200, JSON, Content_Type="application/octet-stream"), said="a page"),
    "nothing": wrong(spelled(200, b"", Content_Type="image/png"), said="empty"),
    "nothing, gzipped": wrong(spelled(200, gzip.compress(b""), Content_Encoding="gzip"), said="empty"),
    "a checksum of other bytes": wrong(spelled(200, FILE, Content_MD5="1B2M2Y8AsgTpgAmY7PhCfg=="), said="checksum"),
}

LINKS = {
    f"link {status}": file(spelled(status, HTML), said=f"answered {status}")
    for status in (202, 203, 299, 300, 302, 400, 405, 408, 425, 429, 500, 502, 503, 504, 599, 600, 999)
} | {
    "link 403": file(spelled(403), cause="gone", asks=ATTEMPTS + 1, fetches=ATTEMPTS + 1),
    "link 404": file(spelled(404), cause="gone", asks=ATTEMPTS + 1, fetches=ATTEMPTS + 1),
    "link 410": fatal("gone", spelled(410), asks=2, fetches=2),
    "link 401": file(spelled(401), cause="gone", asks=ATTEMPTS + 1, fetches=2 * (ATTEMPTS + 1)),
    "link 403 once": Row(fetched=(answer(403), answer(200, FILE, PNG)), cause=None, spent=0, asks=2, fetches=2),
    "link 401 once": Row(fetched=(answer(401), answer(200, FILE, PNG)), cause=None, spent=0, asks=1, fetches=2),
}

LEADING = {
    "redirect that loops": fatal("unsafe", spelled(302, Location="/files/bad"), fetches=6, said="redirects"),
    "redirect to metadata": fatal("unsafe", spelled(302, Location="https://169.254.169.254/latest/meta-data")),
    "redirect to loopback": fatal("unsafe", spelled(302, Location="https://127.0.0.1/x")),
    "redirect to mapped loopback": fatal("unsafe", spelled(307, Location="https://[::ffff:7f00:1]/x")),
    "redirect to a number": fatal("unsafe", spelled(308, Location="https://2130706433/x")),
    "redirect to plain http": fatal("unsafe", spelled(301, Location="http://example.com/x")),
    "redirect to a file": fatal("unsafe", spelled(302, Location="file:///etc/passwd")),
    "redirect of 9 kB": file(spelled(302, Location="/" + "x" * 9000)),
    "redirect elsewhere": fine(spelled(302, Location="{other}/files/bad")),
    "link to loopback": led("https://127.0.0.1/x"),
    "link to a private name": led("https://localhost/x"),
    "link in plain http": led("http://example.com/x"),
    "link to a file": led("file:///etc/passwd"),
    "link with a user": led("https://someone:canary-word@example.com/"),
    "link with a line in it": led("{server}/files/bad\r\nX-Evil: 1"),
    "link elsewhere": led("{other}/files/bad", None),
    "redirected question": final("unsafe", spelled(302, Location="{other}/api/tasks/bad")),
    "question redirected in a loop": final("unsafe", spelled(302, Location="/api/tasks/bad"), asks=6),
}

ANSWERS = {
    f"answer {status}": said(spelled(status, HTML), said=f"answered {status}")
    for status in (200, 203, 206, 299, 300, 304, 500, 501, 505, 599, 600, 999)
} | {
    f"answer {status}": check(spelled(status, HTML), said=f"answered {status}")
    for status in (408, 425, 429, 502, 503, 504)
} | {
    f"answer {status}": final("refused", spelled(status, HTML)) for status in (400, 405, 422)
} | {
    "answer 404": final("gone", spelled(404), asks=2),
    "answer 404, then good": Row(asked=(answer(404), answer(200, b"{ready}")), cause=None, spent=0, asks=2, fetches=1),
    "answer 410": final("gone", spelled(410)),
    "answer failed": final("refused", spelled(200, b'{"state":"failed","detail":"no such font"}'), said="no such font"),
    "answer with a word nobody knows": said(spelled(200, b'{"state":"transmogrifying"}')),
    "answer without a link": said(spelled(200, b'{"state":"finished"}'), said="no link"),
    "answer with a number for a link": said(spelled(200, b'{"state":"finished","link":7}'), said="no link"),
    "answer that is no JSON": said(spelled(200, b"finished")),
    "answer that is nothing": said(spelled(200, b"")),
    "answer that is deep": said(spelled(200, b"[" * 500_000)),
    "answer that is huge": said(spelled(200, b'{"state":"' + b"x" * 2**20 + b'"}'), said="longer than"),
    "answer in UTF-16": said(spelled(200, '{"state":"running"}'.encode("utf-16"))),
    "answer 204 with a body": Row(
        asked=(script(spelled(204, RUNNING)), answer(410)), cause="gone", spent=0, asks=2, fetches=0
    ),
    "answer, and another one that nobody asked for": Row(
        asked=(script(RUNNING + spelled(200, b'{"state":"failed"}')), answer(410)), cause="gone", spent=0, asks=2, fetches=0
    ),
}

NAMES = {
    "a name that climbs": fine(head(SIZE, 'Content-Disposition: attachment; filename="../../evil.png"') + FILE),
    "a name that is absolute": fine(head(SIZE, 'Content-Disposition: attachment; filename="/etc/cron.d/x"') + FILE),
    "a name in another way": fine(head(SIZE, "Content-Disposition: attachment; filename*=UTF-8''..%2F..%2Fx") + FILE),
    "a type that is a path": Row(
        fetched=(answer(200, FILE, {"Content-Type": "image/../../x.php"}),), cause=None, spent=0, asks=1, fetches=1
    ),
    "cookies": fine(head(SIZE, "Set-Cookie: a=b; Path=/", "Set-Cookie: canary-c=d; Domain=127.0.0.1") + FILE),
}

ROWS = {
    f"{kind}: {name}": row
    for kind, rows in {
        "cut": CUT,
        "reset": RESETS,
        "slow": SLOW,
        "endless": ENDLESS,
        "framing": FRAMING,
        "interim": INTERIM,
        "range": RANGES,
        "page": PAGES,
        "link": LINKS,
        "leading": LEADING,
        "answer": ANSWERS,
        "name": NAMES,
    }.items()
    for name, row in rows.items()
}


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def live(it: Spine, row: Row) -> dict[str, Any]:
    """Let the bad order and the healthy ones live; the latter come once the former is in trouble."""
    for task_id in ("bad", *HEALTHY):
        it.good(task_id, FILE if task_id == "bad" else b"\x89PNG" + task_id.encode())
    it.other.on("/files/bad", answer(200, FILE, PNG))
    where = {"server": it.server.base, "other": it.other.base}
    if row.link is not None:
        it.server.on("/api/tasks/bad", answer(200, it.ready("bad", row.link.format(**where) + SIGNED)))
    for path, plays in (("/api/tasks/bad", row.asked), ("/files/bad", row.fetched)):
        if plays:
            it.server.on(path, *plays)
    await it.shop.add("bad")
    while not it.server.asked("/files/bad" if row.fetched else "/api/tasks/bad"):
        await asyncio.sleep(0)
    await see_healthy(it)
    return (await it.shop.rest("bad"))["bad"]


async def see_healthy(it: Spine) -> None:
    """Add the healthy orders, and see that they are asked about once, fetched once, and done at once."""
    began = time.monotonic()
    await it.shop.add(*HEALTHY)
    healthy = await it.shop.rest(*HEALTHY)
    assert time.monotonic() - began < PATIENCE
    for task_id in HEALTHY:
        seen = healthy[task_id]
        assert (seen["state"], seen["checks"], seen["attempts"], it.asked(task_id)) == ("done", 1, 0, (1, 1)), seen


def expected(order: dict[str, Any]) -> dict[str, bytes]:
    """Give the files that are to be there, and no others."""
    ours = {file["name"]: FILE for file in order["files"]}
    return ours | {f"{task_id}.png": b"\x89PNG" + task_id.encode() for task_id in HEALTHY}


@pytest.mark.parametrize("name", ROWS)
async def test_what_becomes_of_it(name: str, tmp_path: Path, watch: Watch) -> None:
    """The end and its cause, what was spent, how often it was asked, the file to the byte or nothing of it."""
    row = ROWS[name]
    async with spine(tmp_path, watch, **row.knobs) as it:
        order = await live(it, row)
        seen = (order["cause"], order["attempts"], *it.asked("bad"))
        print(f"ROW {name}: {order['state']} {seen} {order['reason']}  WANT {(row.cause, row.spent, row.asks, row.fetches)}")
        assert order["state"] == ("failed" if row.cause else "done")
        assert seen == (row.cause, row.spent, row.asks, row.fetches)
        assert row.said in (order["reason"] or "")
        assert len(order["files"]) == (0 if row.cause else 1)
        assert it.files == expected(order)
        assert not [line for line in it.lines if line["event"] in {"remote_paused", "local_fault", "step_failed"}]
        assert not it.leaked
