"""Whatever a remote does to one order, through the whole poller: what becomes of it, and of nobody else."""

import asyncio
import errno
import gzip
import os
import random
import shutil
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest

from poller import folders
from poller import wire as wires
from poller.partial import HashedFile
from poller.redact import Redactor
from tests.canary import Watch
from tests.hostile import Play, Seen, answer, hostile, reply
from tests.remote_from_hell import Act, close, drip, echo, endless, half_close, hang_up, rst, script, stall
from tests.spine import ATTEMPTS, PNG, SECRET, SIGNED, TOKEN, Spine, spine

pytestmark = pytest.mark.usefixtures("watch")  # no secret of any test gets out

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
    asks: int | range = ATTEMPTS
    fetches: int = ATTEMPTS
    said: str = ""
    knobs: Mapping[str, Any] = MappingProxyType({})


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
BOMB = gzip.compress(bytes(2**22))
RUNNING = spelled(200, b'{"state":"running"}')
LINE = b"HTTP/1.1 200 OK\r\n"
IMPATIENT = {"idle_timeout": 0.2}


def hurried() -> float:
    """Tell a time that passes a hundred times faster: what is slow over half a minute is so within a moment."""
    return time.monotonic() * 100


def ready(seen: Seen) -> bytes:
    """Spell the good answer to a question."""
    link = f"http://{seen.header('host')}/files/{seen.path.rpartition('/')[2]}{SIGNED}"
    return spelled(200, msgspec.json.encode({"state": "finished", "link": link}))


def telltale(seen: Seen) -> bytes:
    """Spell a failure that repeats every secret that there is."""
    told = f"{seen.header('authorization')} {SECRET} https://files.example/x{SIGNED} {TOKEN}\n"
    return spelled(200, msgspec.json.encode({"state": "failed", "detail": told}), Server=told.strip())


GOOD = script(echo(ready))
FAULTS = {"remote_paused", "local_fault", "step_failed", "not_saved", "store_unavailable"}
"""What would concern everybody."""
TWICE = 2 * ATTEMPTS
THRICE = range(3 * ATTEMPTS, 6 * ATTEMPTS + 1)
"""Three times an attempt, and each once more if it went over a kept connection, which others leave or do not."""
"""Where a connection ends before its reply's head does, a GET is sent once more: it may have been a kept one."""
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
    "HTTP/1.0, cut": wrong((CLOSE + FILE[:FAR]).replace(b"HTTP/1.1", b"HTTP/1.0"), close, knobs={"unframed": "refuse"}),
    "gzip, cut with the right length": wrong(
        head("Content-Encoding: gzip", f"Content-Length: {len(GZIP) - 9}") + GZIP[:-9], said="gzip stream stopped"
    ),
    "gzip, cut in its checksum": wrong(
        head("Content-Encoding: gzip", f"Content-Length: {len(GZIP) - 4}") + GZIP[:-4], said="gzip stream stopped"
    ),
    "gzip, more length than it has": file(
        head("Content-Encoding: gzip", f"Content-Length: {len(GZIP) + 5000}") + GZIP, close
    ),
    "gzip, whole": fine(head("Content-Encoding: gzip", f"Content-Length: {len(GZIP)}") + GZIP),
}

RESETS = {
    "reset before the status line": file(rst, fetches=TWICE),
    "reset in the status line": file(WHOLE[:7], rst, fetches=TWICE),
    "reset after the status line": file(LINE, rst, fetches=TWICE),
    "reset in the headers": file(WHOLE[:30], rst, fetches=TWICE),
    "reset before the body": file(WHOLE[:BODY], rst),
    "reset in the body": file(WHOLE[:FAR], rst),
    "reset in a chunk's size": file(CHUNKS + b"1", rst),
    "reset in a chunk": file(CHUNKED[:FAR], rst),
    "reset after the body": fine(WHOLE, rst),
    "reset after the last chunk": fine(CHUNKED, rst),
    "reset where the end is the close": file(CLOSE + FILE, rst, said="cut"),
    "question reset before the status line": check(rst, asks=THRICE),
    "question reset in the status line": check(RUNNING[:7], rst, asks=THRICE),
    "question reset in the headers": check(RUNNING[:30], rst, asks=THRICE),
    "question reset before the body": check(RUNNING[:-19], rst),
    "question reset in the body": check(RUNNING[:-1], rst),
    "question closed in the headers": check(RUNNING[:30], close, asks=THRICE),
    "question closed in the body": check(RUNNING[:-1], close),
    "question closed before anything": check(close, asks=THRICE),
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
    "silence instead of the close it spoke of": fine(head(SIZE, "Connection: close") + FILE, stall, knobs=IMPATIENT),
    "silence to a question": check(stall, said="silent", knobs=IMPATIENT),
    "drip of an answer": check(drip(LINE + b"X: " + b"x" * 5000), said="silent", knobs=IMPATIENT),
}

ENDLESS = {
    "body without a length": fatal("too_large", CLOSE, endless(FILE), knobs={"max_file_bytes": 2**21}),
    "body with a length": fatal(
        "too_large", head("Content-Length: 9999999999"), stall, knobs={"max_file_bytes": 2**21}
    ),
    "body in chunks": fatal(
        "too_large",
        head("Transfer-Encoding: chunked"),
        endless(b"%x\r\n%s\r\n" % (len(FILE), FILE)),
        knobs={"max_file_bytes": 2**21},
    ),
    "bomb": wrong(
        head("Content-Encoding: gzip", f"Content-Length: {len(BOMB)}") + BOMB,
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
    "another version": file(b"HTTP/9.9 200 OK\r\n\r\n" + FILE, close),
    "nothing but blank lines": file(b"\r\n" * 10, close, fetches=TWICE),
    "a header of 8 kB": fine(head(SIZE, "X: " + "x" * 8000) + FILE),
    "a header of 9 kB": file(head(SIZE, "X: " + "x" * 9000) + FILE, close),
    "two hundred headers": file(head(SIZE, *(f"X-{n}: x" for n in range(200))) + FILE, close),
    "a question's garbage": check(b"SSH-2.0-OpenSSH_9.6\r\n", close),
}

INTERIM = {
    "100": fine(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE),
    "103": fine(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" * 3 + WHOLE),
    "101": file(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + WHOLE, close),
    "204 with a body": file(spelled(204, FILE)),
    "304": file(spelled(304)),
    "a question's 103": Row(
        asked=(script(b"HTTP/1.1 103 Early Hints\r\n\r\n" + RUNNING), script(close)),
        asks=range(1 + THRICE.start, 1 + THRICE.stop),
        fetches=0,
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

PATIENT = {"attempts": 5}
NAMED = head(SIZE, 'ETag: "one"') + FILE
OTHER = b"\x89PNG" + FILE[:-4]
"""Another file of the same length."""


def rest(data: bytes = FILE, tag: str = '"one"', *, off: int = 0, total: int | str = len(FILE), **headers: str) -> Act:
    """Send the rest that was asked for, with what the row has wrong."""

    def spell(seen: Seen) -> bytes:
        first = int((seen.header("range") or "bytes=0-")[6:-1]) + off
        where = f"bytes {first}-{len(data) - 1}/{total}"
        return spelled(206, data[first:], Content_Type="image/png", Content_Range=where, ETag=tag, **headers)

    return echo(spell)


def resumed(*acts: Any, **more: Any) -> Row:
    """Cut a transfer, do *acts* to who asks for the rest, and then send the whole: it comes as it is, unmixed."""
    plays = (script(NAMED[: FAR + 20], close), script(*acts), script(NAMED))
    return Row(fetched=plays, **{"cause": None, "spent": 0, "asks": 2, "fetches": 3, **more})


RESUMED = {
    "the rest": resumed(rest(), fetches=2),
    "the whole": resumed(NAMED, fetches=2),
    "the whole of another file": resumed(head(SIZE, 'ETag: "two"') + FILE, fetches=2),
    "a wrong start": resumed(rest(off=5)),
    "a start before": resumed(rest(off=-5)),
    "a wrong total": resumed(rest(total=len(FILE) + 5)),
    "an unknown total": resumed(rest(total="*")),
    "another file": resumed(rest(OTHER, '"two"')),
    "a weak tag": resumed(rest(tag='W/"one"')),
    "no tag": resumed(rest(tag="")),
    "an encoded rest": resumed(rest(Content_Encoding="gzip")),
    "no place": resumed(spelled(206, FILE)),
    "several parts": resumed(spelled(206, FILE, Content_Type="multipart/byteranges; boundary=x", ETag='"one"')),
    "416": resumed(spelled(416, b"", Content_Range=f"bytes */{len(FILE)}")),
    "412": resumed(spelled(412)),
    "503": resumed(spelled(503), asks=3, knobs=PATIENT),
    "a dead link": resumed(spelled(403), asks=3, knobs=PATIENT),
    "a page": resumed(spelled(200, HTML, Content_Type="text/html"), asks=3, knobs=PATIENT),
    "a rest that is short": resumed(rest(FILE[:-5])),
    "a reset": resumed(rst),
    "silence": resumed(stall, asks=3, knobs={**IMPATIENT, **PATIENT}),
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
    "redirect elsewhere": led("{server}/away", None),
    "link to loopback": led("https://127.0.0.1/x"),
    "link to a private name": led("https://localhost/x"),
    "link in plain http": led("http://example.com/x"),
    "link to a file": led("file:///etc/passwd"),
    "link with a user": led("https://someone:canary-word@example.com/"),
    "link with a line in it": led("{server}/files/bad\r\nX-Evil: 1"),
    "link elsewhere": led("{other}/files/bad", None),
    "redirected question": final("unsafe", spelled(302, Location="https://example.com/x"), said="leads from"),
    "question redirected in a loop": final("unsafe", spelled(302, Location="/api/tasks/bad"), asks=6),
}

ANSWERS = (
    {
        f"answer {status}": said(spelled(status, HTML), said=f"answered {status}")
        for status in (200, 203, 206, 299, 300, 500, 501, 505, 599, 600, 999)
    }
    | {
        f"answer {status}": check(spelled(status, HTML), said=f"answered {status}")
        for status in (408, 425, 502, 503, 504)  # 429 is the whole remote's wish: test_governor, test_lane
    }
    | {f"answer {status}": final("refused", spelled(status, HTML)) for status in (400, 405, 422)}
    | {
        "answer 304": said(spelled(304)),
        "answer 404": final("gone", spelled(404), asks=3),
        "answer 404, then good": Row(asked=(answer(404), GOOD), cause=None, spent=0, asks=2, fetches=1),
        "answer 410": final("gone", spelled(410), asks=3),
        "answer that repeats what it was sent": final("refused", echo(telltale), said="***"),
        "answer failed": final(
            "refused", spelled(200, b'{"state":"failed","detail":"no such font"}'), said="no such font"
        ),
        "answer with a word nobody knows": said(spelled(200, b'{"state":"transmogrifying"}')),
        "answer without a link": said(spelled(200, b'{"state":"finished"}'), said="no link"),
        "answer with a number for a link": said(spelled(200, b'{"state":"finished","link":7}'), said="no link"),
        "answer with a thousand and one links": final(
            "unsafe", spelled(200, b'{"state":"finished","link":[%s]}' % b",".join([b'"/x"'] * 1001)), said="1001 links"
        ),
        "answer that is no JSON": said(spelled(200, b"finished")),
        "answer that is nothing": said(spelled(200, b"")),
        "answer that is deep": said(spelled(200, b"[" * 500_000)),
        "answer that is huge": said(spelled(200, b'{"state":"' + b"x" * 2**20 + b'"}'), said="longer than"),
        "answer in UTF-16": said(spelled(200, '{"state":"running"}'.encode("utf-16"))),
        "answer 204 with a body": Row(
            asked=(script(spelled(204, RUNNING)), answer(400)), cause="refused", spent=0, asks=2, fetches=0
        ),
        "answer 204 with something after it": Row(
            asked=(script(b"HTTP/1.1 204 No Content\r\n\r\nhello"), answer(400)),
            cause="refused",
            spent=0,
            asks=2,
            fetches=0,
        ),
        "answer 204 with a length": Row(
            asked=(script(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"), answer(400)),
            cause="refused",
            spent=0,
            asks=2,
            fetches=0,
        ),
        "answer, and another one that nobody asked for": Row(
            asked=(script(RUNNING + spelled(200, b'{"state":"failed"}')), answer(400)),
            cause="refused",
            spent=0,
            asks=2,
            fetches=0,
        ),
    }
)

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
        "resumed": RESUMED,
        "page": PAGES,
        "link": LINKS,
        "leading": LEADING,
        "answer": ANSWERS,
        "name": NAMES,
    }.items()
    for name, row in rows.items()
}


async def begin(it: Spine, row: Row, task_id: str, *after: Play) -> None:
    """Add an order to which the remote does what the row says, and *after* that other things; see it begin."""
    it.good(task_id, FILE)
    where = {"server": it.server.base, "other": it.other.base}
    if row.link is not None:
        it.server.on(f"/api/tasks/{task_id}", answer(200, it.ready(task_id, row.link.format(**where) + SIGNED)))
    for path, plays in ((f"/api/tasks/{task_id}", row.asked), (f"/files/{task_id}", row.fetched)):
        if plays:
            it.server.on(path, *plays, *after)
    await it.shop.add(task_id)
    while not it.server.asked(f"/files/{task_id}" if row.fetched else f"/api/tasks/{task_id}"):
        await asyncio.sleep(0)


async def see_healthy(it: Spine) -> None:
    """Add the healthy orders, and see that they are asked about once, fetched once, and done at once."""
    for task_id in HEALTHY:
        it.good(task_id, b"\x89PNG" + task_id.encode())
    began = time.monotonic()
    await it.shop.add(*HEALTHY)
    healthy = await it.rest(*HEALTHY)
    assert time.monotonic() - began < PATIENCE
    for task_id in HEALTHY:
        seen = healthy[task_id]
        assert (seen["state"], seen["checks"], seen["attempts"], it.asked(task_id)) == ("done", 1, 0, (1, 1)), seen


async def see_cured(it: Spine, row: Row) -> None:
    """Do the same once to another order, and no more: it is done, and has the whole file."""
    good = GOOD if row.asked else answer(200, FILE, PNG)
    await begin(it, row, "cured", good)
    order = (await it.rest("cured"))["cured"]
    assert (order["state"], order["attempts"], len(order["files"])) == ("done", 0, 1), order


def expected(orders: dict[str, Any]) -> dict[str, bytes]:
    """Give the files that are to be there, and no others."""
    ours = {file["name"]: FILE for task_id in orders.keys() - HEALTHY for file in orders[task_id]["files"]}
    return ours | {f"{task_id}.png": b"\x89PNG" + task_id.encode() for task_id in HEALTHY}


@pytest.mark.parametrize("name", ROWS)
async def test_what_becomes_of_it(name: str, tmp_path: Path, watch: Watch) -> None:
    """The end and its cause, what was spent, how often it was asked, the file to the byte or nothing of it."""
    await see(ROWS[name], tmp_path, watch)


async def see(row: Row, tmp_path: Path, watch: Watch, **more: Any) -> None:
    """See what becomes of the bad order, of those beside it, and of one to which the same is done once."""
    async with spine(tmp_path, watch, **row.knobs, **more) as it:
        it.other.on("/files/bad", answer(200, FILE, PNG))
        it.server.on("/away", answer(302, b"", {"Location": f"{it.other.base}/files/bad"}))
        await begin(it, row, "bad")
        await see_healthy(it)
        order = (await it.rest("bad"))["bad"]
        assert order["state"] == ("failed" if row.cause else "done"), order
        asks, fetches = it.asked("bad")
        assert (order["cause"], order["attempts"], fetches) == (row.cause, row.spent, row.fetches)
        assert asks in (row.asks if isinstance(row.asks, range) else {row.asks})
        assert row.said in (order["reason"] or "")
        assert len(order["files"]) == (0 if row.cause else 1)
        if row.spent:
            await see_cured(it, row)
        orders = await it.shop.orders()
        assert not [line for line in it.lines if line["event"] in FAULTS]
    assert it.files == expected(orders)
    assert not it.leaked


def unmasked(self: Redactor, text: str) -> str:
    """Mask nothing."""
    return text


@pytest.mark.parametrize("leak", ["name", "content", "log", "hook"])
async def test_a_secret_would_be_found(leak: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each place where one could be: the search after every test can fail."""
    watch, folder = Watch(), tmp_path / "leaky"
    folder.mkdir()
    if leak == "name":
        (folder / SECRET).touch()
    elif leak == "content":
        (folder / "partial.json").write_text(f"{{{TOKEN}}}")
    else:
        monkeypatch.setattr(Redactor, "mask", unmasked)
        async with spine(folder, watch) as it:
            await begin(it, ROWS["answer: answer that repeats what it was sent"], "bad")
            await it.rest("bad")
        watch.said = [(where, text) for where, text in watch.said if (where == "the log") == (leak == "log")]
        shutil.rmtree(folder)
        folder.mkdir()
    assert watch.found(folder) != []
    shutil.rmtree(folder)


async def test_what_a_stopped_poller_leaves_holds_no_secret_and_is_gone_on_with(tmp_path: Path, watch: Watch) -> None:
    """A beginning and its sidecar, for which the next process asks the remote, by then elsewhere, for the rest."""
    async with spine(tmp_path, watch, attempts=5, pace={"backoff_base": 1000.0, "backoff_max": 1000.0}) as it:
        await begin(it, file(NAMED[:FAR], close), "bad")
        await it.until(lambda order: order.attempts == 1, "bad")
    assert {Path(name).suffix for name in it.files} == {".json", ".part"}
    assert watch.found(tmp_path) == []
    async with spine(tmp_path, watch) as it:
        it.good("bad", FILE)
        it.server.on("/files/bad", script(rest()))
        async with it.shop.session.post(f"{it.shop.url}/orders/hell/bad/check") as reply:
            assert reply.status == 200
        order = (await it.rest("bad"))["bad"]
        assert (order["state"], it.asked("bad")) == ("done", (1, 1))
        [asked] = it.server.asked("/files/bad")
        assert (asked.header("if-range"), asked.header("range")) == (
            '"one"',
            f"bytes={FAR - (len(NAMED) - len(FILE)) - 1}-",
        )
    assert it.files == {"bad.png": FILE}


# --- TLS

SECURE = {
    "hung up on in the body": file(WHOLE[:FAR], hang_up),
    "closed in the body": file(WHOLE[:FAR], close),
    "hung up on after the body": fine(WHOLE, hang_up),
    "hung up on in a chunk": file(CHUNKED[:FAR], hang_up),
    "hung up on before the last chunk": file(CHUNKS, hang_up),
    "hung up on where the end is the close": file(CLOSE + FILE, hang_up, said="cut", knobs={"unframed": "trust"}),
    "closed where the end is the close": fine(CLOSE + FILE, close, knobs={"unframed": "trust"}),
    "hung up on before the head": file(hang_up, fetches=TWICE),
    "redirected to plain http": led("{server}/away", said="https to http"),
}


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("name", SECURE)
async def test_what_becomes_of_it_over_tls(name: str, tmp_path: Path, watch: Watch, tls: ssl.SSLContext) -> None:
    """Where TLS makes a difference: its goodbye, and a way out of it."""
    await see(SECURE[name], tmp_path, watch, tls=tls)


async def test_a_wrong_certificate_pauses_the_remote_and_spends_nothing(
    tmp_path: Path, watch: Watch, tls: ssl.SSLContext
) -> None:
    """Its operator has to look at it; every order waits, unspent."""
    async with spine(tmp_path, watch, tls=tls) as it:
        await it.shop.add("bad", "h1")
        await paused(it, "certificate")
        assert it.server.seen == []


async def test_a_link_with_a_wrong_certificate_is_the_link_s_trouble(
    tmp_path: Path, watch: Watch, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remote itself is as it should be."""
    monkeypatch.setattr(wires, "is_public", lambda host: True)
    async with hostile(ssl=tls) as elsewhere, spine(tmp_path, watch) as it:
        await begin(it, led(f"{elsewhere.base}/x"), "bad")
        await see_healthy(it)
        order = (await it.rest("bad"))["bad"]
        assert (order["cause"], order["attempts"], it.asked("bad")) == ("attempts", ATTEMPTS, (ATTEMPTS, 0))
        assert "certificate" in order["reason"]


async def paused(it: Spine, reason: str) -> None:
    """Wait until the remote is paused, and see that it has cost no order anything, and is told."""
    while not (told := [line for line in it.lines if line["event"] == "remote_paused"]):
        await asyncio.sleep(0)
    assert reason in told[0]["reason"]
    assert it.service.desk.paused.keys() == {"hell"}
    for order in (await it.shop.orders()).values():
        assert (order["state"], order["attempts"], order["files"]) == ("pending", 0, []), order
    assert it.files == {}


# --- the slot


@pytest.mark.parametrize("name", ["slow: silence in the body", "slow: drip of a body", "slow: drip of a chunk's size"])
async def test_who_brings_nothing_loses_his_slot(name: str, tmp_path: Path, watch: Watch) -> None:
    """Where there is but one, the next in the row has it soon, though the first would keep it for ever."""
    row = ROWS[name]
    async with spine(tmp_path, watch, **row.knobs, downloads=1) as it:
        await begin(it, row, "bad")
        it.good("h1", FILE)
        await it.shop.add("h1")
        async with asyncio.timeout(PATIENCE):
            order = (await it.rest("h1"))["h1"]
        assert (order["state"], it.asked("h1")[1]) == ("done", 1)


# --- the door


async def test_a_second_refusal_in_a_row_pauses_the_remote(tmp_path: Path, watch: Watch) -> None:
    """One fresh token, and no storm of logins: the orders wait, unspent, behind one that tried."""
    async with spine(tmp_path, watch) as it:
        it.server.on("/api/tasks/bad", answer(401))
        await it.shop.add("bad")
        await paused(it, "401")
        await it.shop.add(*HEALTHY)
        assert it.asked("bad") == (2, 0)
        assert len(it.server.asked("/oauth/token")) == 2
        assert [it.asked(task_id) for task_id in HEALTHY] == [(0, 0)] * 3


async def test_one_refusal_costs_a_login_and_nothing_else(tmp_path: Path, watch: Watch) -> None:
    """The token had ended; nobody notices."""
    async with spine(tmp_path, watch) as it:
        await begin(it, Row(asked=(answer(401), GOOD)), "bad")
        await see_healthy(it)
        order = (await it.rest("bad"))["bad"]
        assert (order["state"], order["checks"], order["attempts"], it.asked("bad")) == ("done", 1, 0, (2, 1))
        assert len(it.server.asked("/oauth/token")) == 2


LOGINS = {
    "refused": (script(spelled(401, b'{"error":"access_denied"}')), 1),
    "trouble": (script(spelled(503)), ATTEMPTS),
    "nonsense": (script(spelled(200, HTML)), ATTEMPTS),
    "a token with a line in it": (script(spelled(200, b'{"access_token":"canary-x\\r\\nX-Evil: 1"}')), ATTEMPTS),
    "redirected": (script(spelled(307, Location="https://example.com/")), ATTEMPTS),
    "reset": (script(rst), 3 * ATTEMPTS),
    "garbage": (script(b"SSH-2.0\r\n", close), 3 * ATTEMPTS),
    "cut": (script(spelled(200, b'{"access_token":"canary-x"}')[:-3], close), 3 * ATTEMPTS),
}
"""What the login meets, and how often it is tried: the question that needs it is repeated where nothing answered."""


@pytest.mark.parametrize("name", LOGINS)
async def test_a_login_that_goes_wrong(name: str, tmp_path: Path, watch: Watch) -> None:
    """Refused, it pauses the remote; anything else is trouble. The secret goes nowhere else."""
    play, tries = LOGINS[name]
    async with spine(tmp_path, watch) as it:
        it.server.on("/oauth/token", play)
        await it.shop.add("bad")
        if name == "refused":
            await paused(it, "access_denied")
        else:
            order = (await it.rest("bad"))["bad"]
            assert (order["cause"], order["attempts"], it.asked("bad")) == ("attempts", ATTEMPTS, (0, 0))
        assert [seen.path for seen in it.server.seen] == ["/oauth/token"] * tries
        assert not it.leaked


# --- our own machine


async def test_a_disk_that_stands_still_delays_no_question(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads for files wait for it; names are looked up and questions answered all the same."""
    loop, go_on, stuck = asyncio.get_running_loop(), threading.Event(), asyncio.Semaphore(0)
    real = HashedFile.write

    def write(self: HashedFile, block: bytes) -> int:
        loop.call_soon_threadsafe(stuck.release)
        go_on.wait(20)
        return real(self, block)

    monkeypatch.setattr(HashedFile, "write", write)
    async with spine(tmp_path, watch, host="localhost") as it:
        names = [f"slow{number}" for number in range(8)]
        for name in names:
            it.good(name, FILE)
        await it.shop.add(*names)
        for _ in names:
            await stuck.acquire()
        it.server.on("/api/tasks/waits", script(RUNNING))
        it.server.on("/api/tasks/failed", script(spelled(200, b'{"state":"failed"}')))
        await it.shop.add("waits", "failed")
        async with asyncio.timeout(PATIENCE):
            await it.rest("failed")
            await it.until(lambda order: order.checks > 3, "waits")
        go_on.set()
        orders = await it.rest(*names)
        assert {orders[name]["state"] for name in names} == {"done"}
    assert it.files == {f"{name}.png": FILE for name in names}


FAULTS_OF_OURS = {
    "disk full": errno.ENOSPC,
    "quota": errno.EDQUOT,
    "read-only": errno.EROFS,
    "input or output": errno.EIO,
    "too many files": errno.EMFILE,
    "not allowed": errno.EACCES,
}


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
@pytest.mark.parametrize("name", FAULTS_OF_OURS)
async def test_our_own_fault_costs_no_order_anything(
    name: str, call: str, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloads pause, questions go on; once the disk is well and somebody asks, the file comes."""
    number, well = FAULTS_OF_OURS[name], False
    place, what = {
        "open": (folders, "create"),
        "write": (HashedFile, "write"),
        "fsync": (os, "fsync"),
        "link": (os, "link"),
    }[call]
    real = getattr(place, what)

    def broken(*given: Any, **named: Any) -> Any:
        if well or threading.current_thread().name.split("_")[0] != "files":
            return real(*given, **named)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(place, what, broken)
    async with spine(tmp_path, watch) as it:
        it.good("bad", FILE)
        await it.shop.add("bad")
        order = (await it.until(lambda order: order.reason is not None, "bad"))["bad"]
        assert (order["state"], order["attempts"], os.strerror(number) in order["reason"]) == ("pending", 0, True)
        assert it.files == {}
        it.server.on("/api/tasks/h1", script(spelled(200, b'{"state":"failed"}')))
        await it.shop.add("h1")
        await it.rest("h1")
        well = True
        course = it.service.desk._lanes["hell"]._course
        course._disk.until = 0.0
        async with it.shop.session.post(f"{it.shop.url}/orders/hell/bad/check") as reply:
            assert reply.status == 200
        assert (await it.rest("bad"))["bad"]["state"] == "done"
    assert it.files == {"bad.png": FILE}
