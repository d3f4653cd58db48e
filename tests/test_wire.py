"""One request out, one response in, over real sockets: dialling, redirects, and other people's exceptions."""

import asyncio
import errno
import os
import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from poller import exchange
from poller import wire as wires
from poller.address import Origin
from poller.body import BLOCK, Body
from poller.floor import Floor
from poller.names import Names
from poller.outcome import Locked, Outcome, Stuck, Trouble, Unsafe
from poller.remote import Aborted, Request
from poller.wire import Wire
from tests.grafx import grafx, wired
from tests.hostile import Hostile, answer, endlessly, hostile, reply, say
from tests.remote_from_hell import close, hang_up, marks, rst, script, until

CREDENTIALS = {"Authorization": "Bearer canary-token"}
SIGNED = "?X-Signature=canary-signature"


async def get(wire: Wire, url: str, credentials: dict[str, str] | None = None, **more: Any) -> tuple[int, bytes, str]:
    """Get an address; give status, body and the address that answered."""
    with await wire.send(Request(method="GET", url=url), credentials or {}, **more) as body:
        return body.status, await body.read(2**20), body.url


async def outcome(wire: Wire, url: str, **more: Any) -> Outcome:
    """Get an address that cannot be had; give what it came to."""
    with pytest.raises(Aborted) as raised:
        await get(wire, url, **more)
    assert "canary" not in str(raised.value), raised.value
    return raised.value.outcome


async def attempt(wire: Wire, url: str) -> tuple[int, bytes, str] | Outcome:
    """Get an address that may or may not be had."""
    try:
        return await get(wire, url)
    except Aborted as aborted:
        return aborted.outcome


def origin(server: Hostile) -> frozenset[Origin]:
    """Make a server one of the configured origins."""
    return frozenset({Origin.of(server.base)})


# --- what goes out


async def test_an_address_goes_out_byte_for_byte() -> None:
    """Signed links break when anybody tidies them: triplets, their case, plus, tilde and dots stay as they are."""
    target = "/a%2Fb/./c/../%7E~%7e;x=1,2/ü?sig=%2F%7E+%20&b=/?&empty=&&=x"
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("*", answer(200, b"ok"))
        await get(wire, server.base + target)
        assert server.seen[0].target == target.encode()


async def test_nothing_goes_along_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cookie is kept, no proxy or netrc taken from the environment, identity encoding wanted, our name given."""
    (tmp_path / "netrc").write_text("default login canary password canary\n")
    async with hostile() as server, hostile() as proxy, wired(grafx(server.base)) as wire:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.base)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        server.on("/x", answer(200, b"ok", {"Set-Cookie": "a=b; Path=/"}))
        for _ in range(2):
            await get(wire, f"{server.base}/x")
        assert proxy.dials == 0
        for seen in server.seen:
            assert seen.header("cookie") is None
            assert seen.header("authorization") is None
            assert seen.header("accept-encoding") == "identity"
            assert (seen.header("user-agent") or "").startswith("poller/")


async def test_an_encoded_body_is_not_decoded() -> None:
    """Lengths and digests are of what came."""
    squeezed = bytes.fromhex("1f8b0800000000000003cb48cdc9c9070086a6103605000000")
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", answer(200, squeezed, {"Content-Encoding": "gzip"}))
        assert await get(wire, f"{server.base}/x") == (200, squeezed, f"{server.base}/x")


async def test_a_body_is_sent_with_its_method() -> None:
    """What a conversation yields is what goes out."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", answer(201))
        request = Request(method="POST", url=f"{server.base}/x", headers={"Content-Type": "a/b"}, body=b"hello")
        with await wire.send(request, CREDENTIALS) as body:
            assert body.status == 201
        [seen] = server.seen
        assert (seen.method, seen.body, seen.header("content-type")) == ("POST", b"hello", "a/b")
        assert seen.header("authorization") == "Bearer canary-token"


# --- what comes in


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
async def test_a_body_comes_whole_and_in_large_blocks(framing: str, size: int) -> None:
    """Every block but the last has at least the size asked for; how the body is framed is known."""
    sent = os.urandom(size)
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", answer(200, sent, {"Content-Type": "a/b"}, framing=framing))
        with await wire.send(Request(method="GET", url=f"{server.base}/x"), {}) as body:
            blocks = [bytes(block) async for block in body.blocks()]
        assert b"".join(blocks) == sent
        assert all(len(block) >= BLOCK for block in blocks[:-1])
        assert all(blocks)
        assert body.length == (size if framing == "length" else None)
        assert body.framed == (framing != "close")
        assert body.headers["content-type"] == "a/b"


async def test_of_a_repeated_header_the_first_counts() -> None:
    """Names are in lower case, whatever the remote wrote."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", say(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"))
        with await wire.send(Request(method="GET", url=f"{server.base}/x"), {}) as body:
            assert body.headers == {"x-a": "1", "content-length": "0"}


async def test_a_reply_is_read_up_to_a_limit() -> None:
    """At the limit it is read, one byte beyond it is given up, and an endless one soon."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/at", answer(200, b"x" * 2**20))
        server.on("/beyond", answer(200, b"x" * (2**20 + 1)))
        server.on("/endless", endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536))
        assert len((await get(wire, f"{server.base}/at"))[1]) == 2**20
        for path in ("/beyond", "/endless"):
            seen = await outcome(wire, server.base + path + SIGNED)
            assert isinstance(seen, Trouble)
            assert (seen.reason, seen.status) == ("the reply is longer than 1048576 bytes", 200)
            assert seen.address == server.base + path


@pytest.mark.parametrize("code", [100, 102, 103])
async def test_an_interim_reply_is_passed_over(code: int) -> None:
    """Early hints are not the answer."""
    interim = b"HTTP/1.1 %d Soon\r\nLink: </x>; rel=preload\r\n\r\n" % code
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", say(2 * interim + reply(200, b"ok")))
        assert (await get(wire, f"{server.base}/x"))[:2] == (200, b"ok")


# --- replies that are none

_GARBAGE = {
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "an empty line": b"\r\n\r\n",
    "binary": bytes(range(256)) * 4,
    "an odd version": b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no number": b"HTTP/1.1 okay OK\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense canary\r\n\r\n",
    "a header with a space": b"HTTP/1.1 200 OK\r\nA b: canary\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "a huge chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nhello\r\n",
    "a header of 9 kB": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("raw", _GARBAGE.values(), ids=_GARBAGE)
async def test_garbage_is_trouble(raw: bytes) -> None:
    """Whatever is no HTTP is an outcome, without the query of what was asked or a word of what came."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", say(raw, then="close"))
        seen = await outcome(wire, f"{server.base}/x{SIGNED}")
        assert isinstance(seen, Trouble)
        assert seen.address == f"{server.base}/x"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1024),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 1024),
        (b"", b"H" * 1024),
    ],
)
async def test_an_endless_head_is_given_up(head: bytes, piece: bytes) -> None:
    """Headers without end, one header without end, a chunk size without end, a status line without end."""
    async with hostile() as server, wired(grafx(server.base), idle_timeout=0.05) as wire:
        server.on("/x", endlessly(head, piece))
        async with asyncio.timeout(10):
            assert isinstance(await outcome(wire, f"{server.base}/x{SIGNED}"), Trouble)


async def test_interim_replies_without_end_are_given_up() -> None:
    """Each of them is a sign of life, so only a limit on the whole head ends it."""
    async with hostile() as server, wired(grafx(server.base), idle_timeout=0.05) as wire:
        server.on("/x", endlessly(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10))
        async with asyncio.timeout(10):
            seen = await outcome(wire, f"{server.base}/x{SIGNED}")
        assert isinstance(seen, Trouble)
        assert seen.reason == "the remote went silent"


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_reply_cut_anywhere_is_trouble_or_whole(framing: str, then: str) -> None:
    """At every single byte: a cut reply is never taken for the whole one, and never an exception of others."""
    whole = reply(200, b"hello", {"Content-Type": "text/plain", "ETag": '"1"'}, framing=framing)
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", *(say(whole[:cut], then=then) for cut in range(len(whole))))
        for cut in range(len(whole)):
            seen = await attempt(wire, f"{server.base}/x{SIGNED}")
            if isinstance(seen, tuple):
                assert seen[:2] == (200, b"hello"), cut
                assert whole[:cut].endswith((b"0\r\n", b"0\r\n\r")), "only the last blank line may be missing"
            else:
                assert isinstance(seen, Trouble), cut


async def blocks(wire: Wire, url: str) -> bytes | Outcome:
    """Get an address as a file is got."""
    try:
        with await wire.send(Request(method="GET", url=url), {}) as body:
            return b"".join([block async for block in body.blocks()])
    except Aborted as aborted:
        return aborted.outcome


async def test_a_reset_is_not_the_end_of_a_file() -> None:
    """Where nothing but the end of the connection ends the body, it has to end as it should (RFC 9112, 9.8)."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/closed", script(b"HTTP/1.1 200 OK\r\n\r\nhello", close))
        server.on("/reset", script(b"HTTP/1.1 200 OK\r\n\r\nhello", rst))
        assert await blocks(wire, f"{server.base}/closed") == b"hello"
        seen = await blocks(wire, f"{server.base}/reset{SIGNED}")
        assert seen == Trouble(reason="the connection was cut where the body ended", address=f"{server.base}/reset")


@pytest.mark.usefixtures("trusted")
async def test_an_end_without_a_goodbye_is_not_the_end_of_a_file(tls: ssl.SSLContext) -> None:
    """The same over TLS, where a cut needs no reset; with a length, the goodbye says nothing new."""
    async with hostile(ssl=tls) as server, wired(grafx(server.base)) as wire:
        for end in (close, hang_up):
            server.on("/bare", script(b"HTTP/1.1 200 OK\r\n\r\nhello", end))
            server.on("/length", script(reply(200, b"hello"), end))
            assert isinstance(await blocks(wire, f"{server.base}/bare"), bytes if end is close else Trouble)
            assert await blocks(wire, f"{server.base}/length") == b"hello"
            assert (await get(wire, f"{server.base}/bare"))[1] == b"hello"  # JSON tells by itself


@pytest.mark.parametrize("late", [False, True])
async def test_a_second_reply_does_not_answer_the_next_request(late: bool) -> None:
    """Whoever comes next would be told what somebody else was: that connection is not used again."""
    go_on, said = asyncio.Event(), asyncio.Event()
    async with hostile() as server, wired(grafx(server.base)) as wire:
        pause = (until(go_on),) if late else ()
        server.on("/x", script(reply(200, b"one"), *pause, reply(200, b"another"), marks(said)))
        server.on("/y", answer(200, b"mine"))
        assert (await get(wire, f"{server.base}/x"))[1] == b"one"
        go_on.set()
        await said.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (await get(wire, f"{server.base}/y"))[1] == b"mine"
        assert server.dials == 2
        assert (await get(wire, f"{server.base}/y"))[1] == b"mine"
        assert server.dials == 2


async def test_a_silent_remote_is_given_up() -> None:
    """Before the head, and in the middle of the body."""
    async with hostile() as server, wired(grafx(server.base), idle_timeout=0.05) as wire:
        server.on("/never", say(b"", then="hold"))
        server.on("/half", say(reply(200, b"hello")[:-2], then="hold"))
        for path in ("/never", "/half"):
            seen = await outcome(wire, server.base + path + SIGNED)
            assert isinstance(seen, Trouble)
            assert seen.reason == "the remote went silent"


async def test_nobody_listening_is_trouble() -> None:
    """A refused connection, and a name that does not resolve."""
    async with hostile() as server:
        base = server.base
    async with wired(grafx(base)) as wire:
        seen = await outcome(wire, f"{base}/x{SIGNED}")
        assert isinstance(seen, Trouble)
        assert seen.reason.startswith("cannot connect: ")
    async with wired(grafx("http://nobody.invalid")) as wire:
        seen = await outcome(wire, f"http://nobody.invalid/x{SIGNED}")
        assert isinstance(seen, Trouble)
        assert seen.reason == "the host's name cannot be resolved"


async def test_too_many_open_files_is_our_own_fault() -> None:
    """No remote and no order is to blame for it."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        with _no_more_files():
            seen = await outcome(wire, f"{server.base}/x{SIGNED}")
        assert isinstance(seen, Stuck)
        assert os.strerror(errno.EMFILE) in seen.reason


@contextmanager
def _no_more_files() -> Iterator[None]:
    """Use up every file handle that a lowered limit leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with suppress(OSError):
            while True:
                used.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for handle in used:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- the floor


def test_a_drip_is_given_up_at_the_end_of_a_window() -> None:
    """Bytes are counted over whole windows; each window begins anew, and what we take ourselves does not count."""
    time = [0.0]
    floor = Floor(rate=10.0, window=30.0, clock=lambda: time[0])
    floor.pass_on(1, "https://x.example/")
    time[0] = 29.9
    floor.pass_on(298, "https://x.example/")
    time[0] = 30.0
    floor.pass_on(1, "https://x.example/")  # 300 bytes in 30 s: just enough
    with floor.stopped():
        time[0] = 1000.0
    floor.pass_on(1, "https://x.example/")
    time[0] = 1030.0
    with pytest.raises(Aborted) as raised:
        floor.pass_on(298, "https://x.example/?sig=canary")
    assert raised.value.outcome == Trouble(reason="fewer than 300 bytes came in 30 s", address="https://x.example/")


async def test_a_dripping_body_is_given_up() -> None:
    """The remote's clock is ours: a fake one that jumps with every look at it."""
    time = iter(range(0, 10**9, 20))
    async with hostile() as server, wired(grafx(server.base), clock=lambda: next(time), floor_rate=1e9) as wire:
        server.on("/x", endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100))
        with (
            await wire.send(Request(method="GET", url=f"{server.base}/x"), {}) as body,
            pytest.raises(Aborted) as raised,
        ):
            async for _ in body.blocks():
                pass
        assert isinstance(raised.value.outcome, Trouble)
        assert "in 30 s" in raised.value.outcome.reason


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_our_own_slowness_is_not_held_against_the_remote(framing: str) -> None:
    """Hours between two blocks, because our disk is slow, are no drip: the next one has come long since."""
    time = [0.0]
    async with hostile() as server, wired(grafx(server.base), clock=lambda: time[0], floor_rate=1e6) as wire:
        server.on("/x", answer(200, b"x" * (8 * BLOCK), framing=framing))
        with await wire.send(Request(method="GET", url=f"{server.base}/x"), {}) as body:
            came = 0
            async for block in body.blocks():
                came += len(block)
                await until_here(body, 8 * BLOCK - came - BLOCK)
                time[0] += 3600.0
        assert came == 8 * BLOCK
        assert time[0] > 3600.0


async def until_here(body: Body, left: int) -> None:
    """Wait until no more than *left* bytes of a body are still on their way, if it comes straight from its socket."""
    tap = body._response._tap
    while tap is not None and tap.left > max(left, 0):
        await asyncio.sleep(0)


async def test_our_own_delay_before_the_body_is_not_held_against_the_remote_either() -> None:
    """Room is made on the disk before the first byte is asked for."""
    time = [0.0]
    async with hostile() as server, wired(grafx(server.base), clock=lambda: time[0], floor_rate=1e6) as wire:
        server.on("/x", answer(200, b"x" * 100))
        with await wire.send(Request(method="GET", url=f"{server.base}/x"), {}) as body:
            time[0] += 3600.0
            assert [block async for block in body.blocks()] == [b"x" * 100]


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/there?a=%2F", "there?a=%2F", "{base}/there?a=%2F", "//{host}/there?a=%2F"])
async def test_a_redirect_at_home_is_followed_with_credentials(status: int, location: str) -> None:
    """Relative, protocol-relative or absolute: same scheme, host and port, so nobody learns anything new."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        location = location.format(base=server.base, host=server.base.removeprefix("http://"))
        server.on("/here", answer(status, b"moved", {"Location": location}))
        server.on("/there", answer(200, b"ok"))
        there = f"{server.base}/there?a=%2F"
        assert await get(wire, f"{server.base}/here", CREDENTIALS) == (200, b"ok", there)
        assert [seen.header("authorization") for seen in server.seen] == ["Bearer canary-token"] * 2


@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_other_codes_are_no_redirects(status: int) -> None:
    """Neither is a redirect that does not say where to."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", answer(status, b"", {"Location": "/y"}))
        server.on("/z", answer(302))
        assert (await get(wire, f"{server.base}/x"))[0] == status
        assert (await get(wire, f"{server.base}/z"))[0] == 302
        assert server.asked("/y") == []


async def test_a_redirect_of_a_post_is_not_followed() -> None:
    """What was sent was meant for whom it was sent to."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", answer(307, b"", {"Location": "/y"}))
        with await wire.send(Request(method="POST", url=f"{server.base}/x", body=b"secret"), CREDENTIALS) as body:
            assert body.status == 307
        assert server.asked("/y") == []


async def test_five_redirects_are_followed_and_no_more() -> None:
    """The sixth is not dialled; nor does a loop go on for ever."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        for number in range(9):
            server.on(f"/{number}", answer(302, b"", {"Location": f"/{number - 1}"}))
        server.on("/0", answer(200, b"ok"))
        server.on("/loop", answer(302, b"", {"Location": f"/loop{SIGNED}"}))
        assert (await get(wire, f"{server.base}/5"))[0] == 200
        seen = await outcome(wire, f"{server.base}/6{SIGNED}")
        assert isinstance(seen, Unsafe)
        assert seen.reason == "more than 5 redirects"
        assert len(server.asked("/0")) == 1
        assert isinstance(await outcome(wire, f"{server.base}/loop"), Unsafe)
        assert len(server.asked("/loop")) == 6


async def test_a_redirect_away_is_refused_on_a_check_and_followed_from_a_link() -> None:
    """Where it may roam, it goes without credentials, and they do not come back to it either."""
    async with hostile() as server, hostile() as other, wired(grafx(server.base), origins=origin(other)) as wire:
        server.on("/x", answer(302, b"", {"Location": f"{other.base}/y"}))
        other.on("/y", answer(302, b"", {"Location": f"{server.base}/z"}))
        server.on("/z", answer(200, b"ok"))
        seen = await outcome(wire, f"{server.base}/x", credentials=CREDENTIALS)
        assert isinstance(seen, Unsafe)
        assert f"from {server.base} to {other.base}" in seen.reason
        assert other.seen == []
        assert (await get(wire, f"{server.base}/x", CREDENTIALS, roam=True))[1] == b"ok"
        assert server.asked("/x")[-1].header("authorization") == "Bearer canary-token"
        assert other.seen[0].header("authorization") is None
        assert server.asked("/z")[0].header("authorization") is None


async def test_credentials_go_to_the_base_alone() -> None:
    """Another port is another origin, though the operator has configured it."""
    async with hostile() as server, hostile() as other, wired(grafx(server.base), origins=origin(other)) as wire:
        other.on("/x", answer(200))
        await get(wire, f"{other.base}/x", CREDENTIALS)
        assert other.seen[0].header("authorization") is None


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "data:text/plain,canary",
        "http://user:canary@127.0.0.1/",
        "http://example.com/",
        "https://127.0.0.1/",
        "https://[::1/",
        "//[",
        "/a b",
        "/a\tb",
        "/\x01canary" + SIGNED,
        "https://2130706433/",
        "/\udcff",
    ],
)
async def test_a_redirect_to_what_we_do_not_touch_is_unsafe(location: str) -> None:
    """Other schemes, plain http, inner addresses, and anything that is oddly spelled."""
    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", answer(302, b"", {"Location": location}))
        with pytest.raises(Aborted) as raised:
            await get(wire, f"{server.base}/x{SIGNED}", CREDENTIALS, roam=True)
        assert isinstance(raised.value.outcome, Unsafe | Trouble)
        assert isinstance(raised.value.outcome, Unsafe) or location == "/\x01canary" + SIGNED  # no HTTP at all
        assert "canary-" not in str(raised.value)
        assert len(server.seen) == 1


# --- dialling


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - as an attacker would
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
    ],
)
async def test_an_inner_address_is_not_dialled_on_the_word_of_a_remote(host: str) -> None:
    """Literals in every spelling, and a name that resolves to one: nothing is even connected to."""
    async with hostile() as server, wired(grafx("https://acme.example")) as wire:
        port = server.base.rpartition(":")[2]
        seen = await outcome(wire, f"https://{host}:{port}/x{SIGNED}")
        assert seen == Unsafe(reason="the address is not a public address", address=f"https://{host}:{port}/x")
        assert server.dials == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://127.1/x",
        "https://localhost./x",
        "https://127.0.0.1./x",
        "https://①②⑦.⓪.⓪.①/x",
        "https://user@acme.example/x",
        "https://acme.example\\@127.0.0.1/x",
        f"https://{'a' * 64}.example/x",
        "https://[fe80::1%25lo]/x",
        "https://acme.example:0/x",
        "https://acme.example:x/x",
        "http://127.0.0.1/x",
        "http://acme.example/x",
        "ftp://acme.example/x",
        "acme.example/x",
        "//acme.example/x",
        "https://acme.example/x\r\nX-Evil: canary",
        "https://acme.example/x y",
        "https://acme.example/\udcff",
        "",
    ],
)
async def test_an_odd_address_is_refused_before_dialling(url: str) -> None:
    """Two readers may read it in two ways, or it is nothing that a remote may send us to."""
    async with wired(grafx("https://acme.example")) as wire:
        with pytest.raises(Aborted) as raised:
            await get(wire, url)
        assert isinstance(raised.value.outcome, Unsafe)


async def test_a_name_that_changes_its_mind_is_judged_by_what_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was public at one look and is loopback at the next is stopped at the socket."""
    answers = iter(["203.0.113.7", "127.0.0.1", "127.0.0.1"])

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        address = next(answers)
        return [{"hostname": host, "host": address, "port": port, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr(Names, "resolve", resolve)
    assert (await Names(1).resolve("rebound.example"))[0]["host"] == "203.0.113.7"
    async with hostile() as server, wired(grafx("https://acme.example")) as wire:
        port = server.base.rpartition(":")[2]
        assert isinstance(await outcome(wire, f"https://rebound.example:{port}/x"), Unsafe)
        assert server.dials == 0


async def test_slow_names_of_links_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leads us to names that nobody answers for fills no threads but those of such names."""
    loop, go_on, asked = asyncio.get_running_loop(), threading.Event(), set[str]()
    common = ThreadPoolExecutor(2)
    loop.set_default_executor(common)
    real = socket.getaddrinfo

    def slow(host: str, *args: Any, **named: Any) -> Any:
        asked.add(host)
        if host.endswith(".example"):
            go_on.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with hostile() as server, wired(grafx(server.base.replace("127.0.0.1", "localhost"))) as wire:
        server.on("/x", answer(200, b"ok"))
        names = [f"https://slow-{number}.example/x" for number in range(8)]
        tasks = [asyncio.create_task(outcome(wire, name)) for name in names]
        while len(asked) < 2:
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert (await get(wire, server.base.replace("127.0.0.1", "localhost") + "/x"))[1] == b"ok"
            await asyncio.to_thread(int)
        go_on.set()
        assert {type(seen) for seen in await asyncio.gather(*tasks)} == {Trouble}


async def test_what_the_operator_configured_may_be_inner_and_plain() -> None:
    """His own network is his own business; so is a public one dialled as he pleases."""
    async with hostile() as server, hostile() as other, wired(grafx(server.base), origins=origin(other)) as wire:
        for each in (server, other):
            each.on("/x", answer(200, b"ok"))
            assert (await get(wire, f"{each.base}/x"))[1] == b"ok"


# --- TLS


async def test_an_invalid_certificate_locks_the_remote_itself(tls: ssl.SSLContext) -> None:
    """Its operator has to look at it; no order is to blame."""
    async with hostile(ssl=tls) as server, wired(grafx(server.base)) as wire:
        seen = await outcome(wire, f"{server.base}/x{SIGNED}")
        assert isinstance(seen, Locked)
        assert "certificate" in seen.reason


async def test_an_invalid_certificate_elsewhere_is_trouble(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link's host that is not what it says locks nothing."""
    monkeypatch.setattr(wires, "is_public", lambda host: True)
    async with hostile(ssl=tls) as server, wired(grafx("https://acme.example")) as wire:
        assert isinstance(await outcome(wire, f"{server.base}/x{SIGNED}"), Trouble)


@pytest.mark.usefixtures("trusted")
async def test_a_foreign_link_is_followed_over_tls(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address (loopback, taken for one) is dialled on a remote's word, without credentials."""
    monkeypatch.setattr(wires, "is_public", lambda host: host == "127.0.0.1")
    async with hostile(ssl=tls) as server, wired(grafx("https://acme.example")) as wire:
        server.on("/x", answer(200, b"ok"))
        assert (await get(wire, f"{server.base}/x", CREDENTIALS))[1] == b"ok"
        assert server.seen[0].header("authorization") is None


@pytest.mark.usefixtures("trusted")
async def test_a_redirect_never_leads_from_https_to_http(tls: ssl.SSLContext) -> None:
    """Not even to an origin that the operator configured."""
    async with (
        hostile(ssl=tls) as server,
        hostile() as plain,
        wired(grafx(server.base), origins=origin(plain)) as wire,
    ):
        server.on("/x", answer(302, b"", {"Location": f"{plain.base}/y"}))
        seen = await outcome(wire, f"{server.base}/x", roam=True)
        assert seen == Unsafe(reason="a redirect leads from https to http", address=f"{plain.base}/y")
        assert plain.dials == 0


async def test_no_tls_where_tls_was_meant_is_trouble() -> None:
    """A server that speaks plain http on the port."""
    async with hostile() as server:
        base = server.base.replace("http:", "https:")
        async with wired(grafx(base)) as wire:
            seen = await outcome(wire, f"{base}/x{SIGNED}")
            assert isinstance(seen, Trouble)
            assert seen.reason == "no secure connection could be made"


async def test_a_handshake_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes a connection and then says nothing holds it for as long as dialling may take."""
    monkeypatch.setattr(exchange, "_CONNECT_TIMEOUT", 0.1)
    gone = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as listener:
        base = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with wired(grafx(base)) as wire, asyncio.timeout(10):
            seen = await outcome(wire, f"{base}/x{SIGNED}")
            assert isinstance(seen, Trouble)
            assert seen.reason == "the remote went silent"
            await gone.wait()


# --- ending


async def test_a_cancelled_request_lets_go_of_its_connection() -> None:
    """The server sees it end."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def play(seen: Any, writer: asyncio.StreamWriter) -> bool:
        begun.set()
        try:
            return await endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1024)(seen, writer)
        except OSError:
            ended.set()
            raise

    async with hostile() as server, wired(grafx(server.base)) as wire:
        server.on("/x", play)
        task = asyncio.create_task(get(wire, f"{server.base}/x"))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        await ended.wait()
        assert task.cancelled()


class Cut:
    """A response that breaks off after some pieces."""

    status, headers = 200, CIMultiDictProxy(CIMultiDict({"Content-Length": "100"}))

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def tap(self, _length: int) -> tuple[bytes, None]:
        """Nothing has come by now, and there is no socket."""
        return b"", None

    async def more(self) -> bytes:
        """Give a piece; after the last one, break off."""
        if self._pieces:
            return self._pieces.pop(0)
        raise aiohttp.ClientPayloadError


async def test_what_came_before_a_cut_is_handed_on() -> None:
    """It was gathered for a block that never got full; whoever goes on later has it."""
    cut = Cut(b"a" * 6, b"b" * 6, b"c")
    body = Body(cut, "https://x.example/", lambda: Floor(rate=0.0, window=30.0, clock=lambda: 0.0))  # type: ignore[arg-type]
    came = body.blocks(10)
    assert [await anext(came), await anext(came)] == [b"aaaaaabbbbbb", b"c"]
    with pytest.raises(Aborted):
        await anext(came)
