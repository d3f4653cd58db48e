"""The demonstration: it runs on its own, tells the truth, and leaves nothing behind."""

import asyncio
import io
import json
import logging
import os
import re
import shutil
import signal
import sys
import tempfile

import aiohttp
import pytest
import structlog
from aiohttp import web
from msgspec.structs import replace
from rich.console import Console

from poller import demo
from poller.demo.board import Lines, Standing, standing
from poller.demo.scenes import SCENES, Scene
from poller.demo.shop import Receipt, Seen, Shop
from poller.demo.verdict import complaints
from poller.errors import PollerError
from poller.order import State
from poller.outcome import Cause
from poller.sandbox import Content, Failure, Render

QUICK = Scene(task_id="quick", story="ready at once", render=Render(size=5000, media_type="image/png"))
BROKEN = Scene(
    task_id="broken",
    story="cannot be rendered",
    render=Render(failure=Failure.RENDER),
    state=State.FAILED,
    cause=Cause.REFUSED,
)
ENDLESS = Scene(task_id="endless", story="takes an hour", render=Render(delay=3600))


class Screen(io.StringIO):
    """What was written so far, and a way to wait for more."""

    def __init__(self):
        super().__init__()
        self._news = asyncio.Event()

    def write(self, text):
        written = super().write(text)
        self._news.set()
        return written

    async def shows(self, pattern):
        """Wait until *pattern* has been written."""
        while not (found := re.search(pattern, self.getvalue())):
            self._news.clear()
            await self._news.wait()
        return found


@pytest.fixture
def screen():
    """Somewhere to write."""
    return Screen()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the demonstration makes its folder, so that one sees what is left of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    structlog.reset_defaults()


async def play(screen, *scenes, terminal=False, **options):
    """Play some scenes once."""
    console = Console(file=screen, width=80, force_terminal=terminal, color_system=None)
    return await demo.run(once=True, console=console, scenes=scenes, **options)


# --- the whole of it


async def test_the_command_shows_everything_and_says_so(tmp_path):
    """The real command ends well and soon, has told each order's end, printed no log, and left nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "poller", "demo", "--once"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path), "POLLER_PORT": "nonsense", "POLLER_TOKEN": "short"},
        cwd=tmp_path,
    )
    out, err = await process.communicate()
    said = out.decode()
    assert (process.returncode, err) == (0, b"")
    for scene in SCENES:
        assert re.search(rf"^ *\d+\.\d s  {scene.task_id} +{scene.state} ", said, re.MULTILINE), said
    assert float(re.search(rf"All {len(SCENES)} orders ended as they should, in (\d+\.\d) s", said)[1]) < 15
    assert "{" not in said
    assert list(tmp_path.iterdir()) == []


async def test_a_terminal_gets_a_table(screen, folder):
    """On a terminal there is a row for each order, drawn anew in place, with a bar for a slow download."""
    slow = Scene(task_id="slow", story="comes slowly", render=Render(size=300_000, rate=600_000))
    assert await play(screen, QUICK, BROKEN, slow, terminal=True) == 0
    said = screen.getvalue()
    assert re.search(r"quick +ready at once +done +quick\.png, 4\.9 KiB", said)
    assert re.search(r"broken +cannot be rendered +failed +refused: ", said)
    assert re.search(r"slow +comes slowly +downloading +━", said)
    assert "All 3 orders ended as they should" in said
    assert not any("poller.log" in str(handler) for handler in logging.getLogger().handlers)
    assert list(folder.iterdir()) == []


async def test_what_did_not_end_as_it_should_is_named(screen, folder):
    """The exit code is 1, every fault is named, and so is the log, which is kept and holds one JSON line per event."""
    should_fail = replace(QUICK, state=State.FAILED, cause=Cause.GONE)
    should_come = replace(BROKEN, state=State.DONE, cause=None)
    assert await play(screen, should_fail, should_come, ENDLESS, patience=1.0) == 1
    said = screen.getvalue()
    assert "Not every order ended as it should:" in said
    assert "quick is done and should be failed (gone)" in said
    assert "broken is failed (refused) and should be done; it says: The output task failed" in said
    assert "endless has not come to rest" in said
    [kept] = folder.iterdir()
    assert f"The log is in {kept}/poller.log" in said
    told = [json.loads(line) for line in (kept / "poller.log").read_text().splitlines()]
    assert {"quick", "broken"} <= {line.get("task_id") for line in told}


async def test_what_cannot_be_placed_is_an_error(screen, folder):
    """An order that the hook refuses ends it with an error of ours; the log is kept and named."""
    with pytest.raises(PollerError, match="the hook answered 422"):
        await play(screen, replace(QUICK, task_id="x" * 600))
    [kept] = folder.iterdir()
    assert f"The log is in {kept}/poller.log" in screen.getvalue()


async def test_a_signal_ends_it_early(screen, folder):
    """With --once, what was interrupted is no success; nothing is left."""
    playing = asyncio.create_task(play(screen, ENDLESS, patience=3600))
    await screen.shows("endless +waiting +asked once|endless +waiting")
    os.kill(os.getpid(), signal.SIGINT)
    assert await playing == 1
    assert "curl" not in screen.getvalue()
    assert "has not come to rest" not in screen.getvalue()
    assert list(folder.iterdir()) == []


async def shell(line):
    """Run a line as a person would, and give what it printed."""
    env = {"PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_shell(line, stdout=-1, stderr=-1, env=env)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines are for curl")
async def test_it_goes_on_serving_and_its_lines_work(screen, folder, tmp_path):
    """Without --once the printed lines place an order, look at it and fetch its file, until a signal ends it with 0."""
    console = Console(file=screen, width=80)
    playing = asyncio.create_task(demo.run(once=False, console=console, scenes=[QUICK]))
    await screen.shows(r"-o mine\.pdf .*/file\n")
    add, look, fetch = re.findall(r"^  (curl .*)$", screen.getvalue(), re.MULTILINE)
    await shell(f"{add.replace('mine', 'later')} -s -d dry_run=true")
    assert json.loads(await shell(f"{add} -s"))["state"] == "pending"
    await screen.shows(r"later +held")
    await screen.shows(r"mine +done +mine\.pdf, 195\.3 KiB")
    assert json.loads(await shell(f"{look} -s"))["state"] == "done"
    await shell(f"cd {tmp_path} && {fetch} -s")
    expected = Content(seed="mine", media_type="application/pdf", size=200_000)
    assert (tmp_path / "mine.pdf").read_bytes() == b"".join(expected.blocks())
    os.kill(os.getpid(), signal.SIGTERM)
    assert await playing == 0
    assert [path.name for path in folder.iterdir()] == ["mine.pdf"]
    assert len(re.findall("quick +done", screen.getvalue())) == 1


# --- its parts

CONTENT = Content(seed="quick", media_type="image/png", size=5000)
RECEIPT = Receipt("quick.png", "/x/quick.png", 5000, CONTENT.sha256)
DONE = Seen("quick", State.DONE, None, None, 1, (RECEIPT,))
REFUSED = Seen("broken", State.FAILED, Cause.REFUSED, "no", 1, ())


@pytest.fixture
def published(tmp_path):
    """The file as it should be on disk."""
    path = tmp_path / "quick.png"
    path.write_bytes(b"".join(CONTENT.blocks()))
    return path


def test_an_order_that_is_right_has_no_complaints(published):
    """Both ways of ending well."""
    assert complaints(QUICK, DONE, CONTENT, published.parent) == []
    assert complaints(BROKEN, REFUSED, CONTENT, published.parent) == []


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (None, "quick has not come to rest"),
        (Seen("quick", State.PENDING, None, None, 1, ()), "quick has not come to rest"),
        (Seen("quick", State.HELD, None, None, 1, ()), "quick has not come to rest"),
        (Seen("quick", State.CANCELED, None, None, 1, ()), "quick is canceled and should be done; it says: nothing"),
        (replace(DONE, files=()), "quick should have one file, quick.png"),
        (replace(DONE, files=(RECEIPT, RECEIPT)), "quick should have one file, quick.png"),
        (replace(DONE, files=(replace(RECEIPT, name="quick.bin"),)), "quick should have one file, quick.png"),
        (replace(DONE, files=(replace(RECEIPT, size=1),)), "quick.png is said to have other bytes than were sent"),
        (replace(DONE, files=(replace(RECEIPT, sha256="0"),)), "quick.png is said to have other bytes than were sent"),
    ],
)
def test_an_order_that_ended_otherwise_is_found_out(published, seen, complaint):
    """State, cause, number and names of files, and what is said of them."""
    assert complaints(QUICK, seen, CONTENT, published.parent) == [complaint]


def test_a_file_that_is_wrong_on_disk_is_found_out(published):
    """One other bit, one byte less, or no file at all."""
    data = published.read_bytes()
    for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1]):
        published.write_bytes(wrong)
        assert complaints(QUICK, DONE, CONTENT, published.parent) == [
            "quick.png has other bytes on disk than were sent"
        ]
    published.unlink()
    assert complaints(QUICK, DONE, CONTENT, published.parent) == ["quick.png has other bytes on disk than were sent"]


def test_a_failed_order_leaves_no_file(published):
    """A file of an order that had to fail is found out, whatever its extension."""
    (published.parent / "broken.bin").touch()
    found = complaints(BROKEN, REFUSED, CONTENT, published.parent)
    assert found == ["broken failed, and yet there is broken.bin"]


def pending(**changes):
    """An order that is not at rest."""
    return replace(Seen("t", State.PENDING, None, None, 0, ()), **changes)


@pytest.mark.parametrize(
    ("seen", "sent", "expected"),
    [
        (DONE, 9, Standing(word="done", note="quick.png, 4.9 KiB")),
        (REFUSED, 0, Standing(word="failed", note="refused: no")),
        (pending(state=State.HELD), 0, Standing(word="held", note="")),
        (pending(), 0, Standing(word="waiting", note="taken by the hook")),
        (pending(checks=1), 0, Standing(word="waiting", note="asked once")),
        (pending(checks=2), 0, Standing(word="waiting", note="asked 2 times")),
        (pending(reason="it broke"), 512, Standing(word="trouble", note="it broke; trying again")),
        (pending(), 512, Standing(word="downloading", note="512 B of 1.0 KiB", share=0.5)),
    ],
)
def test_where_an_order_stands(seen, sent, expected):
    """What matters most is said in a word, with what there is to add."""
    assert standing(seen, sent=sent, size=1024) == expected


def test_lines_tell_changes_alone():
    """The same word again is no news, even if the note is other; what is long is cut."""
    said = []
    with Lines(said.append) as lines:
        lines.know({"old": Standing(word="done", note="")})
        for word, note in (("waiting", "once"), ("waiting", "twice"), ("failed", "so " * 50)):
            lines.show({"new": Standing(word=word, note=note), "old": Standing(word="done", note="")}, 1.25)
    assert said[0] == "  1.2 s  new      waiting      once"
    assert said[1].startswith("  1.2 s  new      failed       so so")
    assert (len(said), said[1][-2:], len(said[1]) < 100) == (2, " …", True)


async def test_a_hook_that_fails_is_an_error():
    """What the hook says instead of orders is told."""

    async def refuse(_):
        return web.Response(status=503, text="not now")

    app = web.Application()
    app.router.add_get("/orders", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            shop = Shop(session=session, url=f"http://127.0.0.1:{runner.addresses[0][1]}")
            with pytest.raises(PollerError, match="the hook answered 503: not now"):
                await shop.orders()
    finally:
        await runner.cleanup()
