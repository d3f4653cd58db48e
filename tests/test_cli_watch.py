"""Watching: what counts as a change, what a restart does, and what is drawn."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from aiohttp import web
from msgspec.structs import replace
from rich.console import Console

from poller.cli import views
from poller.cli.hook import Refused, Unreachable, connected
from poller.cli.outcome import Exit
from poller.cli.watch import Follower, follow
from poller.order import State
from poller.outcome import Cause, File
from poller.web.view import View
from tests.terminal import NOW, ROOT, counter, make

FILE = File(name="T.pdf", size=5, sha256="ab" * 32, media_type="application/pdf", published_at=NOW)


class Stop(Exception):  # noqa: N818
    """Ends a watch that would go on for ever."""


@pytest.fixture
async def shop(tmp_path, monkeypatch):
    """A hook, where no .env lies about."""
    monkeypatch.chdir(tmp_path)
    async with counter(tmp_path) as found:
        yield found


async def watched(shop, *acts, limit=100, until_rest=False, query=None):
    """Watch while *acts* happen between the looks; give what each look told as changed, as (task, state)."""
    told: list[list[tuple[str, str]]] = []
    scene = iter(acts)

    async def pause() -> None:
        act = next(scene, None)
        if act is None:
            raise Stop
        await act()

    def show(_listing, changed) -> None:
        told.append([(order.task_id, order.state.value) for order in changed])

    async with connected(shop.url, "") as hook:
        follower = Follower(hook, query=query or {}, limit=limit)
        try:
            code = await follow(follower, show, pause=pause, until_rest=until_rest)
        except Stop:
            return told, None
    return told, code


async def test_changes(shop):
    """An order is told when a person would see a difference, and not when only its due time moved."""
    order = make("A")
    await shop.store.add([order, make("B")])

    async def nothing():
        pass

    async def claimed():
        await shop.store.claim("grafx", limit=1, now=NOW + 10, until=NOW + 70)

    async def done():
        held = await shop.store.get(order.key)
        changes = {"state": State.DONE, "files": (FILE,), "due_at": None, "updated_at": NOW}
        await shop.store.save(replace(held, version=held.version + 1, **changes))

    async def added():
        await shop.store.add([make("C", updated_at=NOW + 1)])

    told, _ = await watched(shop, nothing, claimed, done, added)
    assert told[0] == [("B", "pending"), ("A", "pending")] or told[0] == [("A", "pending"), ("B", "pending")]
    assert told[1:] == [[], [], [("A", "done")], [("C", "pending")]]


async def test_many_changes_at_once(shop):
    """More changes than one page holds are all told; of what is old only the first page is."""
    await shop.store.add([make(f"old{number}", updated_at=NOW - 1000) for number in range(12)])

    async def burst():
        await shop.store.add([make(f"new{number}", updated_at=NOW + number) for number in range(25)])

    async def nothing():
        pass

    told, _ = await watched(shop, burst, nothing, limit=5)
    assert [len(changes) for changes in told] == [5, 25, 0]
    assert {task for task, _ in told[1]} == {f"new{number}" for number in range(25)}


async def test_from_nothing(shop):
    """A watch that began before the first order tells of all of them."""

    async def burst():
        await shop.store.add([make(f"new{number}") for number in range(12)])

    told, _ = await watched(shop, burst, limit=5)
    assert [len(changes) for changes in told] == [0, 12]


async def test_filters(shop):
    """Only the orders that are meant are watched, and waited for."""
    failed = make("F", batch="X", state=State.FAILED, cause=Cause.GONE, reason="no more")
    await shop.store.add([make("A", batch="B", state=State.DONE), make("P"), failed])
    assert await watched(shop, until_rest=True, query={"batch": "B"}) == ([[("A", "done")]], Exit.OK)
    assert await watched(shop, until_rest=True, query={"batch": "X"}) == ([[("F", "failed")]], Exit.FAILED)
    assert (await watched(shop, until_rest=True))[1] is None, "P has not come to rest"


async def test_a_restart_is_waited_for(tmp_path, capsys):
    """A hook that goes away after the first look is waited for; one that never was there is not."""
    async with counter(tmp_path) as first:
        port = int(first.url.rpartition(":")[2])
        await first.store.add([make("A")])
        restarted = counter(tmp_path, port=port)

        async def stop():
            await first.stop()

        async def start():
            second = await restarted.__aenter__()
            await second.store.add([make("A", state=State.DONE, files=(FILE,), updated_at=NOW)])

        async def nothing():
            pass

        told, _ = await watched(first, stop, nothing, nothing, start)
        assert told == [[("A", "pending")], [("A", "done")]]
        assert capsys.readouterr().err.count("cannot be reached") == 1
        await restarted.__aexit__(None, None, None)
        with pytest.raises(Unreachable):
            await watched(first)


@pytest.mark.parametrize(("status", "waits"), [(503, True), (429, True), (401, False), (400, False)])
async def test_what_is_waited_for(tmp_path, status, waits):
    """A hook that will answer later is waited for; one that says no for good is not."""
    good = {"orders": [], "next": None, "count": 0}
    answers = iter([(200, good), (status, {"detail": "no"}), (200, good)])

    async def handler(request):
        status, body = next(answers)
        return web.json_response(body, status=status)

    async def nothing():
        pass

    async with counter(tmp_path, handler=handler) as shop:
        if waits:
            assert await watched(shop, nothing, nothing) == ([[], []], None)
        else:
            with pytest.raises(Refused, match="no"):
                await watched(shop, nothing, nothing)


def test_bars():
    """A bar shows how far an order is; it moves while nobody can tell, if the drawing is to move."""

    def drawn(order, *, moving=False):
        console = Console(width=150, force_terminal=True, file=StringIO())
        view = View(Path("/x")).order(order)
        console.print(views.orders([view], count=1, now=NOW, moving=moving))
        return console.file.getvalue().count("━")

    assert drawn(make("A", progress=0.5)) >= 8
    assert drawn(make("A")) == 0
    assert drawn(make("A"), moving=True) >= 8
    assert drawn(make("A", state=State.HELD), moving=True) == 0
    assert drawn(make("A", state=State.DONE)) >= 8


async def test_the_command(shop):
    """Elsewhere than on a terminal each change is a line of JSON; the exit code tells how it ended."""
    await shop.store.add([make("A", batch="B", state=State.DONE), make("F", state=State.FAILED, cause=Cause.GONE)])
    done = await shop.run("watch", "--until-rest")
    assert done.exit_code == Exit.FAILED
    assert sorted(json.loads(line)["task_id"] for line in done.stdout.splitlines()) == ["A", "F"]
    assert (await shop.run("watch", "--until-rest", "--batch", "B")).exit_code == Exit.OK


async def test_on_a_terminal(shop):
    """On a terminal there is a table with bars that says what was told."""
    await shop.store.add([make("A", state=State.DONE, files=(FILE,)), make("\x1b[2J", state=State.CANCELED)])
    drawn, code = await shop.on_terminal("watch", "--until-rest")
    assert code == 0
    assert "T.pdf (5 B)" in drawn
    assert "\\x1b[2J" in drawn
    assert "\x1b[2J" not in drawn
    assert "━" in drawn


@pytest.mark.parametrize(("option", "code"), [((), Exit.OK), (("--until-rest",), Exit.FAILED)])
async def test_an_interrupted_watch(shop, option, code):
    """Ctrl-C is how a watch ends; one that was to wait has failed to."""
    await shop.store.add([make("A")])
    environ = {**os.environ, **shop.environ, "PYTHONPATH": str(ROOT)}
    args = (sys.executable, "-m", "poller", "watch", *option)
    process = await asyncio.create_subprocess_exec(*args, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert json.loads(await process.stdout.readline())["task_id"] == "A"
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert (process.returncode, said) == (code, b"")
