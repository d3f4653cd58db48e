"""An interrupted transfer goes on where it stopped, over real sockets; and what must not be carried on begins anew."""

import asyncio
import gzip
import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from poller.order import Key, Order, State
from poller.outcome import Cause, File, LinkExpired, Outcome, Published, Stuck, TooLarge, Trouble
from poller.partial import Partial, Slot
from poller.promise import Promise
from poller.publisher import Publisher
from tests.grafx import order
from tests.hostile import Play, Seen, answer, reply, say
from tests.test_downloader import MIB, PNG, Yard, yard

DATA = b"\x89PNG\r\n\x1a\n" + os.urandom(3 * MIB)
OTHER = b"\x89PNG\r\n\x1a\n" + os.urandom(3 * MIB)
ETAG = '"canary-is-no-secret-here"'
NAMED = {**PNG, "ETag": ETAG}


def cut(after: int, data: bytes = DATA, headers: Mapping[str, str] = NAMED, *, framing: str = "length") -> Play:
    """Begin to send a file, and hang up after some bytes of it."""
    raw = reply(200, data, headers, framing=framing)
    return say(raw[: raw.index(b"\r\n\r\n") + 4 + after], then="close")


def ranged(data: bytes = DATA, headers: Mapping[str, str] = NAMED, most: int | None = None, **other: Any) -> Play:
    """Serve what is asked for, as RFC 9110 says; hang up after *most* bytes of a body."""

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        first = int((seen.header("range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        named = {"if-range": seen.header("if-range") or ""}["if-range"] in headers.values()
        if not first or not named:
            return await cut(len(data) if most is None else most, data, headers)(seen, writer)
        span = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        raw = reply(206, data[first:], {**headers, **span, **other})
        whole = len(raw) if most is None else raw.index(b"\r\n\r\n") + 4 + most
        return await say(raw[:whole], then="close")(seen, writer)

    return play


def partials(there: Yard) -> dict[str, int]:
    """List what lies in ``.partial/``, with sizes."""
    return {path.suffix: path.stat().st_size for path in (there.folder / ".partial").iterdir()}


def file_of(outcome: Outcome) -> File:
    """Give the one file that was published."""
    assert isinstance(outcome, Published), outcome
    assert not outcome.conflict
    [file] = outcome.files
    return file


def ranges(there: Yard) -> list[str | None]:
    """Give the ranges that were asked for."""
    return [seen.header("range") for seen in there.server.asked("/file")]


# --- going on


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_it_goes_on_where_it_stopped(tmp_path: Path, framing: str) -> None:
    """From the last byte that is here, under the condition that the file is still the same; the whole is hashed."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000, framing=framing), ranged())
        assert isinstance(await there.fetch(), Trouble)
        here = partials(there)[".part"] - 1
        assert MIB <= here < 2 * MIB + 5000
        assert file_of(await there.fetch()).sha256 == sha256(DATA).hexdigest()
        assert there.server.asked("/file")[1].header("if-range") == ETAG
        assert ranges(there) == [None, f"bytes={here}-"]
        assert (there.folder / "T1.png").read_bytes() == DATA


async def test_a_transfer_that_is_cut_again_and_again_arrives(tmp_path: Path) -> None:
    """Each time a little further."""
    async with yard(tmp_path) as there:
        there.server.on("/file", ranged(most=MIB + 100))
        seen = [await there.fetch() for _ in range(3)]
        assert [type(outcome) for outcome in seen] == [Trouble, Trouble, Published]
        assert all(outcome.advanced for outcome in seen[:2])  # type: ignore[union-attr]
        assert (there.folder / "T1.png").read_bytes() == DATA


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=4), framing=st.sampled_from(["length", "chunked"]))
def test_wherever_it_is_cut(tmp_path_factory: pytest.TempPathFactory, cuts: list[int], framing: str) -> None:
    """The file is whole or not there."""

    async def main() -> None:
        async with yard(tmp_path_factory.mktemp("cut")) as there:
            there.server.on("/file", cut(cuts[0] if cuts else 0, framing=framing), *map(ranged_after, cuts), ranged())
            for _ in range(len(cuts) + 2):
                outcome = await there.fetch()
                there_is = (there.folder / "T1.png").exists()
                assert isinstance(outcome, Published) == there_is
                assert not there_is or (there.folder / "T1.png").read_bytes() == DATA
            assert isinstance(outcome, Published)

    def ranged_after(most: int) -> Play:
        return ranged(most=most)

    asyncio.run(main())


async def test_it_goes_on_in_the_next_process(tmp_path: Path) -> None:
    """What a process left is found by the next, if the order still waits for it; it holds no address."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000))
        await there.fetch()
        [sidecar] = (there.folder / ".partial").glob("*.json")
        said = json.loads(sidecar.read_text())
        assert said.keys() == {"slot", "boot", "promise"}
        assert not any(word in sidecar.read_text() for word in ("http", "Signature", "127.0.0.1", "/file"))
        assert sidecar.stat().st_mode & 0o777 == 0o640
    async with yard(tmp_path) as there:
        await there.publisher.partials.sweep(knows(order()))
        there.server.on("/file", ranged())
        here = partials(there)[".part"] - 1
        file_of(await there.fetch())
        assert ranges(there) == [f"bytes={here}-"]
        assert (there.folder / "T1.png").read_bytes() == DATA


async def test_it_goes_on_after_a_cancellation(tmp_path: Path) -> None:
    """What a stop interrupts is not lost."""
    sent = asyncio.Event()

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        await say(reply(200, DATA, NAMED)[: 2 * MIB + 5000])(seen, writer)
        sent.set()
        await asyncio.Event().wait()
        return False

    async with yard(tmp_path) as there:
        there.server.on("/file", play, ranged())
        fetching = asyncio.create_task(there.fetch())
        await sent.wait()
        while partials(there).get(".part", 0) < MIB:
            await asyncio.sleep(0)
        fetching.cancel()
        await asyncio.wait([fetching])
        here = partials(there)[".part"] - 1
        file_of(await there.fetch())
        assert ranges(there) == [None, f"bytes={here}-"]


async def test_a_whole_partial_costs_one_byte(tmp_path: Path) -> None:
    """A process that dies between the last byte and the name leaves all there is; no 416 comes of it."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(MIB))
        await there.fetch()
        [partial] = (there.folder / ".partial").glob("*.part")
        partial.write_bytes(DATA)
        there.server.on("/file", ranged())
        file_of(await there.fetch())
        assert ranges(there)[-1] == f"bytes={len(DATA) - 1}-"
        assert (there.folder / "T1.png").read_bytes() == DATA


async def test_what_is_published_is_not_fetched_again(tmp_path: Path) -> None:
    """A process that dies between the name and the order's rest leaves a partial of two names: that proves it."""
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, DATA, NAMED))
        first = file_of(await there.fetch())
    async with yard(tmp_path) as there:
        await there.publisher.partials.sweep(knows(order()))
        assert file_of(await there.fetch()) == first
        assert there.server.asked("/file") == []
        there.publisher.partials.told(replace(order(), state=State.DONE), None)  # type: ignore[arg-type]
    assert there.files == {"T1.png": DATA}


async def test_of_several_files_those_that_are_there_are_not_fetched_again(tmp_path: Path) -> None:
    """Each has a partial of its own."""
    async with yard(tmp_path) as there:
        there.server.on("/a", answer(200, DATA, NAMED))
        there.server.on("/b", cut(2 * MIB, OTHER), ranged(OTHER))
        assert isinstance(await there.fetch("/a", "/b"), Trouble)
        assert isinstance(await there.fetch("/a", "/b"), Published)
        assert len(there.server.asked("/a")) == 1
        assert (there.folder / "T1~file1.png").read_bytes() == DATA
        assert (there.folder / "T1~file2.png").read_bytes() == OTHER


# --- beginning anew


def part(first: int, last: int, total: int | str = len(DATA), tag: str = ETAG) -> dict[str, str]:
    """Spell what the head of a 206 says."""
    return {**PNG, "ETag": tag, "Content-Range": f"bytes {first}-{last}/{total}"}


LAST = len(DATA) - 1
WRONG: dict[str, Callable[[int], tuple[int, dict[str, str]]]] = {
    "another start": lambda here: (206, part(here + 1, LAST)),
    "from the start": lambda here: (206, part(0, LAST)),
    "another end": lambda here: (206, part(here, LAST - 1)),
    "another total": lambda here: (206, part(here, LAST + 1, len(DATA) + 1)),
    "no total": lambda here: (206, part(here, LAST, "*")),
    "another tag": lambda here: (206, part(here, LAST, tag='"other"')),
    "no tag": lambda here: (206, {**PNG, "Content-Range": part(here, LAST)["Content-Range"]}),
    "a weak tag": lambda here: (206, part(here, LAST, tag=f"W/{ETAG}")),
    "no range": lambda here: (206, NAMED),
    "several ranges": lambda here: (206, {"Content-Type": "multipart/byteranges; boundary=x", "ETag": ETAG}),
    "encoded": lambda here: (206, {**part(here, LAST), "Content-Encoding": "gzip"}),
    "encoded on its way": lambda here: (206, {**part(here, LAST), "Transfer-Encoding": "gzip"}),
    "nonsense": lambda here: (206, {**NAMED, "Content-Range": "bytes */*"}),
    "bad request": lambda here: (400, {}),
    "precondition failed": lambda here: (412, {}),
    "not satisfiable": lambda here: (416, {"Content-Range": f"bytes */{len(DATA)}"}),
    "not implemented": lambda here: (501, {}),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_what_is_not_the_rest_makes_it_begin_anew(tmp_path: Path, kind: str) -> None:
    """At once, with the whole, and without an attempt."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000))
        assert isinstance(await there.fetch(), Trouble)
        here = partials(there)[".part"] - 1
        status, headers = WRONG[kind](here)
        framing = "close" if "Transfer-Encoding" in headers else "length"
        there.server.on("/file", answer(status, OTHER[here:], headers, framing=framing), answer(200, DATA, NAMED))
        file_of(await there.fetch())
        assert ranges(there) == [None, f"bytes={here}-", None]
        assert (there.folder / "T1.png").read_bytes() == DATA


async def test_the_whole_in_answer_to_a_range_is_taken(tmp_path: Path) -> None:
    """The file has changed, or the remote serves no ranges: no third request is needed."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000), answer(200, OTHER, {**PNG, "ETag": '"new"'}))
        await there.fetch()
        file_of(await there.fetch())
        assert len(ranges(there)) == 2
        assert (there.folder / "T1.png").read_bytes() == OTHER


@pytest.mark.parametrize(("status", "kind"), [(403, LinkExpired), (404, LinkExpired), (500, Trouble), (429, Trouble)])
async def test_a_refusal_loses_nothing(tmp_path: Path, status: int, kind: type) -> None:
    """With the next link it goes on."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000), answer(status), ranged())
        await there.fetch()
        here = partials(there)[".part"] - 1
        refused = await there.fetch()
        assert isinstance(refused, kind)
        assert not getattr(refused, "advanced", False)
        file_of(await there.fetch())
        assert ranges(there)[1:] == [f"bytes={here}-"] * 2
        assert (there.folder / "T1.png").read_bytes() == DATA


async def test_another_file_under_the_same_tag_is_found_out(tmp_path: Path) -> None:
    """By the checksum that came with the beginning; the wrong bytes are not carried on."""
    digest = {"X-Amz-Checksum-Sha256": "9" * 43 + "="}
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB, headers=NAMED | digest), ranged(OTHER), answer(200, DATA, NAMED))
        await there.fetch()
        wrong = await there.fetch()
        assert isinstance(wrong, Trouble)
        assert wrong.cause is Cause.WRONG_CONTENT
        assert partials(there) == {}
        file_of(await there.fetch())
        assert ranges(there)[2] is None


LONG_AGO, NOW = formatdate(1e9, usegmt=True), formatdate(1e9 + 60, usegmt=True)
SOON = formatdate(1e9 + 59, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        (NAMED, True),
        ({**PNG, "ETag": f"W/{ETAG}"}, False),
        ({**PNG, "ETag": "unquoted"}, False),
        ({**PNG, "ETag": '"ü"'}, False),
        (PNG, False),
        ({**NAMED, "Accept-Ranges": "bytes"}, True),
        ({**NAMED, "Accept-Ranges": "None"}, False),
        ({**PNG, "Last-Modified": LONG_AGO, "Date": NOW}, True),
        ({**PNG, "Last-Modified": LONG_AGO, "Date": SOON}, False),
        ({**PNG, "Last-Modified": LONG_AGO}, False),
        ({**PNG, "Last-Modified": "yesterday", "Date": NOW}, False),
        ({**PNG, "Last-Modified": LONG_AGO, "Date": NOW, "ETag": f"W/{ETAG}"}, False),
    ],
)
async def test_only_bytes_that_have_a_name_are_kept(tmp_path: Path, headers: dict[str, str], kept: bool) -> None:
    """A strong tag, or a time of change that was long over when the file was sent."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000, headers=headers), ranged(headers=headers))
        assert isinstance(await there.fetch(), Trouble)
        here = partials(there)
        assert bool(here) == kept
        file_of(await there.fetch())
        assert ranges(there) == [None, f"bytes={here['.part'] - 1}-" if kept else None]


async def test_small_encoded_and_unframed_files_are_not_kept(tmp_path: Path) -> None:
    """The first are quicker fetched anew; of the others nobody knows where the rest begins, or whether there is one."""
    async with yard(tmp_path, unframed="refuse") as there:
        there.server.on("/small", cut(MIB // 2, DATA[: MIB - 1]))
        packed = gzip.compress(DATA)
        there.server.on("/encoded", cut(2 * MIB, packed, {**NAMED, "Content-Encoding": "gzip"}))
        there.server.on("/unframed", cut(2 * MIB, framing="close"))
        for path in ("/small", "/encoded", "/unframed"):
            outcome = await there.fetch(path)
            assert isinstance(outcome, Trouble)
            assert not outcome.advanced
            assert partials(there) == {}


async def test_a_file_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    """Nor is the rest of one that turns out to be."""
    async with yard(tmp_path, max_bytes=2 * MIB) as there:
        there.server.on("/file", answer(200, DATA, NAMED, framing="chunked"))
        assert isinstance(await there.fetch(), TooLarge)
        assert partials(there) == {}


# --- what becomes of a partial


def knows(*orders: Order) -> Any:
    """Give a store's ``get``."""
    known = {each.key: each for each in orders}

    async def get(key: Key) -> Order | None:
        return known.get(key)

    return get


@pytest.mark.parametrize(
    ("boot", "known"),
    [
        ("another boot", [order()]),
        ("this boot", []),
        ("this boot", [order(state=State.DONE)]),
        ("this boot", [order(generation=2)]),
        ("this boot", [order("T2")]),
    ],
)
async def test_what_nobody_will_carry_on_is_swept(tmp_path: Path, boot: str, known: list[Order]) -> None:
    """After a power cut the bytes may not be there; and no partial outlives its order's generation."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000))
        await there.fetch()
        assert partials(there)
    async with yard(tmp_path, boot=boot) as there:
        await there.publisher.partials.sweep(knows(*known))
        assert partials(there) == {}


async def test_a_partial_of_another_boot_is_not_carried_on(tmp_path: Path) -> None:
    """Even if nobody swept."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000))
        await there.fetch()
    async with yard(tmp_path, boot="another boot") as there:
        there.server.on("/file", ranged())
        file_of(await there.fetch())
        assert ranges(there) == [None]


@pytest.mark.parametrize("damage", ["torn", "of another", "huge", "empty partial", "no partial", "a link"])
async def test_a_damaged_partial_begins_anew(tmp_path: Path, damage: str) -> None:
    """Whatever somebody did to it, it is not trusted, and what a link leads to is not touched."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * 5000)
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000), ranged())
        await there.fetch()
        [sidecar] = (there.folder / ".partial").glob("*.json")
        partial = sidecar.with_suffix(".part")
        match damage:
            case "torn":
                sidecar.write_bytes(sidecar.read_bytes()[:-10])
            case "of another":
                sidecar.write_bytes(sidecar.read_bytes().replace(b'"T1"', b'"T2"'))
            case "huge":
                sidecar.write_bytes(b" " * 2**17 + sidecar.read_bytes())
            case "empty partial":
                partial.write_bytes(b"")
            case "no partial":
                partial.unlink()
            case _:
                sidecar.unlink()
                sidecar.symlink_to(precious)
        file_of(await there.fetch())
        assert ranges(there) == [None, None]
        assert (there.folder / "T1.png").read_bytes() == DATA
        assert precious.read_bytes() == b"x" * 5000


async def test_a_partial_goes_when_its_order_comes_to_rest(tmp_path: Path) -> None:
    """And not before."""
    async with yard(tmp_path) as there:
        there.server.on("/file", cut(2 * MIB + 5000))
        await there.fetch()
        there.publisher.partials.told(order(), None)  # type: ignore[arg-type]
        there.publisher.partials.told(order("T2", state=State.CANCELED), None)  # type: ignore[arg-type]
        await there.fetch("/none", task=order("T3"))
        assert partials(there)
        there.publisher.partials.told(order(state=State.CANCELED), None)  # type: ignore[arg-type]
    assert partials(there) == {}


async def test_what_is_being_removed_is_removed_before_the_folder_is_let_go(tmp_path: Path) -> None:
    """Its handle may be somebody else's afterwards."""
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        publisher = Publisher(folder=tmp_path / "orders", pattern="{task_id}", executor=executor, now=float)
        async with publisher.partial(Slot.of(order())) as partial:
            await partial.expect(Promise(total=None, validator=ETAG))
            await partial.write(b"half")
        assert len(list((tmp_path / "orders" / ".partial").iterdir())) == 2
        executor.submit(gate.wait)
        publisher.partials.told(order(state=State.CANCELED), None)  # type: ignore[arg-type]
        closing = threading.Thread(target=publisher.close)
        closing.start()
        gate.set()
        closing.join()
        assert list((tmp_path / "orders" / ".partial").iterdir()) == []


async def test_a_disk_that_fails_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may need the room, and nobody knows what is on it."""

    async def failing(self: Partial, block: bytes) -> None:
        await real(self, block)
        raise OSError(5, "Input/output error")

    real = Partial.write
    async with yard(tmp_path) as there:
        there.server.on("/file", answer(200, DATA, NAMED))
        monkeypatch.setattr(Partial, "write", failing)
        assert isinstance(await there.fetch(), Stuck)
        assert partials(there) == {}


async def test_the_same_file_is_not_received_twice_at_once(tmp_path: Path) -> None:
    """Neither here nor by another process: who comes second waits, and disturbs nothing."""
    async with yard(tmp_path) as there, yard(tmp_path) as neighbour:
        async with there.publisher.partial(Slot.of(order())) as partial:
            await partial.expect(Promise(total=None))
            await partial.write(b"half")
            for publisher in (there.publisher, neighbour.publisher):
                with pytest.raises(OSError, match="part"):
                    async with publisher.partial(Slot.of(order())) as other:
                        await other.expect(Promise(total=None))
            assert partials(there) == {".part": 4}
        assert partials(there) == {}
