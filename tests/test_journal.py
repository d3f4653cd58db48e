"""The journal's format, and how damage is told from a tail that was never written."""

from pathlib import Path

import msgspec
import pytest

from poller.errors import StoreDamaged
from poller.stores.files import Files
from poller.stores.journal import Create, Delete, Drop, Frame, Header, Journal, Put, Reader, encode, seal
from tests.stores import ScriptedFiles

CHANGES = (
    [Put("orders", 1, msgspec.Raw(b'{"task_id":"a\\nb"}')), Create("events")],
    [Delete("orders", 1)],
    [Drop("events"), Put("orders", "word", msgspec.Raw('{"task_id":"ü"}'.encode()))],
)


def write(path: Path, changes=CHANGES, *, generation=1, after=0, files=None) -> bytes:
    """Write a journal, take the room off its end, and give its bytes."""
    header = Header.ours(generation=generation, after=after, now=5.0)
    journal = Journal(path, header, files=files or Files())
    for each in changes:
        journal.append([encode([change]) for change in each])
    journal.close()
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    return path.read_bytes()


ROOM = pytest.mark.parametrize("room", [b"", bytes(3000)], ids=["bare", "with room"])
"""With the zeros that were reserved behind the last line, and without."""


def plain(frame: Frame) -> tuple:
    """Make a frame comparable."""
    return frame.number, [msgspec.json.encode(change) for change in frame.changes]


def read(path: Path) -> list[tuple]:
    """Read a journal to its end."""
    return [plain(frame) for frame in Reader(path, files=Files())]


@pytest.fixture
def path(tmp_path):
    """Where the journal is."""
    return tmp_path / "orders.json.journal"


def test_what_is_appended_is_read_back(path):
    """Frames come back whole, in order and numbered on from what came before."""
    write(path, after=41)
    reader = Reader(path, files=Files())
    frames = [plain(frame) for frame in reader]
    assert frames == [(42 + n, [msgspec.json.encode(c) for c in each]) for n, each in enumerate(CHANGES)]
    assert reader.number == 44
    assert reader.torn is None
    assert reader.header.generation == 1


def test_one_frame_is_one_line(path):
    """However a document spells a line break, a line of the journal is a whole frame."""
    assert write(path).count(b"\n") == 1 + len(CHANGES)


@ROOM
def test_every_prefix_gives_the_frames_it_holds(path, room):
    """Wherever the last write stopped, everything before it is read and the rest is cut and told of."""
    whole = write(path)
    frames = read(path)
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(ends[0], len(whole)):
        path.write_bytes(whole[:size] + room)
        reader = Reader(path, files=Files())
        complete = sum(1 for end in ends[1:] if end - 1 <= size)  # the newline itself may be missing
        assert [plain(frame) for frame in reader] == frames[:complete]
        assert (reader.torn is None) == (size in ends or size + 1 in ends)
        if reader.torn is not None:
            assert reader.torn.offset + reader.torn.size == size
            assert reader.torn.line == complete + 2


def test_every_prefix_of_the_header_is_refused(path):
    """A journal gets its name only after its header is on disk, so a cut header is damage."""
    whole = write(path)
    for size in range(whole.index(b"\n") + 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreDamaged, match="line 1 "):
            read(path)


@ROOM
def test_every_flipped_bit_is_refused(path, room):
    """A journal with any one bit changed is refused, its last line not excepted."""
    whole = write(path)
    for i in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :] + room)
            with pytest.raises(StoreDamaged, match=r"orders\.json\.journal"):
                read(path)


@ROOM
def test_every_zeroed_byte_is_refused(path, room):
    """One byte that reads as zero is no block that never arrived; only the last newline is not missed."""
    whole = write(path)
    frames = read(path)
    path.write_bytes(whole[:-1] + room)
    assert read(path) == frames
    for i in range(len(whole) - 1):
        path.write_bytes(whole[:i] + b"\0" + whole[i + 1 :] + room)
        with pytest.raises(StoreDamaged):
            read(path)


@pytest.mark.parametrize(
    "rearranged",
    [[0, 1, 1, 2, 3], [0, 2, 1, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2, 3, 3], [1, 0, 2, 3], [0, 0, 1, 2, 3], [1, 2, 3]],
    ids=str,
)
def test_lines_out_of_their_order_are_refused(path, rearranged):
    """A line that is repeated, missing or moved breaks the numbers, valid as it is in itself."""
    lines = write(path).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in rearranged))
    with pytest.raises(StoreDamaged):
        read(path)


def test_damage_names_the_line_and_the_byte(path):
    """A person can go and look at the place."""
    lines = write(path).splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b"rubbish\n" + lines[3])
    with pytest.raises(StoreDamaged, match=rf"line 3 \(from byte {len(lines[0] + lines[1])}\): .*more follows") as info:
        read(path)
    assert "poller store verify" in info.value.hint


@ROOM
@pytest.mark.parametrize("first", [0, 1])
def test_blocks_that_never_arrived_are_a_torn_tail(path, first, room):
    """A last frame of which whole disk blocks read as zeros was never synced, though its end is there."""
    big = [Put("orders", 2, msgspec.Raw(msgspec.json.encode({"text": "x" * 2000})))]
    whole = write(path, [*CHANGES, big])
    start = whole.rindex(b"\n", 0, -1) + 1
    block = (start // 512 + 1) * 512
    begin = block if first else start
    path.write_bytes(whole[:begin] + b"\0" * (block + 512 - begin) + whole[block + 512 :] + room)
    reader = Reader(path, files=Files())
    assert len(list(reader)) == len(CHANGES)
    assert reader.torn == (5, start, len(whole) - start)


def test_zeros_after_the_last_frame_are_room(path):
    """They were reserved, and nothing was written there yet; whatever is there after all is cut, or refused."""
    whole = write(path)
    for after, torn in [(b"", None), (b"x", (5, len(whole), 701)), (b"\0x\0", (5, len(whole), 702))]:
        path.write_bytes(whole + bytes(700) + after)
        reader = Reader(path, files=Files())
        assert len(list(reader)) == len(CHANGES)
        assert reader.torn == torn
    path.write_bytes(whole + bytes(700) + b"\n" + bytes(700))
    with pytest.raises(StoreDamaged, match="line 5 "):
        read(path)


def test_room_is_made_before_it_is_needed(path):
    """A write lengthens the file seldom, and never by less than it needs."""
    files = ScriptedFiles()
    journal = Journal(path, Header.ours(generation=1, after=0, now=5.0), files=files)
    sizes = [path.stat().st_size]
    for size in [*[1000] * 200, 300_000]:
        journal.append([encode([Put("orders", 1, msgspec.Raw(msgspec.json.encode({"x": "y" * size})))])])
        sizes.append(path.stat().st_size)
        assert sizes[-1] >= journal.size
    assert files.calls.count("reserve") == len(set(sizes)) == 4
    assert len(read(path)) == 201


def test_a_newer_format_is_refused_as_such(path):
    """A journal of a later version is not damage, and the sentence says so."""
    path.write_bytes(seal(b'{"format":2,"generations":[1]}'))
    with pytest.raises(StoreDamaged, match="format 2; this version knows format 1") as info:
        read(path)
    assert "newer poller" in info.value.hint


@pytest.mark.parametrize("header", [b"{}", b"[1]", b'{"format":1}', b'{"format":"1"}'])
def test_a_header_that_is_none_is_refused(path, header):
    """A valid line that is no header of ours begins no journal."""
    path.write_bytes(seal(header))
    with pytest.raises(StoreDamaged, match="header is not understood"):
        read(path)


def test_a_change_that_nobody_knows_is_refused(path):
    """An intact frame is applied whole or not at all."""
    whole = write(path, [])
    path.write_bytes(whole + seal(b'[1,[["put","orders",1,{}],["increment","orders",1]]]'))
    with pytest.raises(StoreDamaged, match=r"line 2 .*intact but not understood"):
        read(path)


def test_a_reader_can_be_read_twice(path):
    """Reading does not use a reader up."""
    write(path)
    reader = Reader(path, files=Files())
    assert [plain(f) for f in reader] == [plain(f) for f in reader]


def test_short_writes_are_continued(path):
    """A system that takes seven bytes at a time still gets all of them."""

    class Sipping(Files):
        def write(self, descriptor, data):
            return super().write(descriptor, data[:7])

    short = write(path, files=Sipping())
    assert read(path) == [(n, [msgspec.json.encode(c) for c in each]) for n, each in enumerate(CHANGES, start=1)]
    assert len(short) > 7


def test_a_write_that_takes_nothing_is_an_error(path):
    """A system that takes no bytes at all does not keep us for ever."""

    class Full(Files):
        def write(self, descriptor, data):
            return 0

    with pytest.raises(OSError, match="nothing was written"):
        write(path, files=Full())


def test_a_frame_is_synced_before_append_returns(path):
    """Each frame is one write and one sync, in this order."""
    files = ScriptedFiles()
    write(path, files=files)
    assert files.calls == ["create", "reserve", *["write", "sync"] * (1 + len(CHANGES)), "close"]


def test_a_journal_is_never_written_over(path):
    """Beginning a journal where one is fails, and leaves it as it is."""
    whole = write(path)
    with pytest.raises(FileExistsError):
        write(path)
    assert path.read_bytes() == whole
