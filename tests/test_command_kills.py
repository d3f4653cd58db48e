"""The real command, and the process that folds for a store, killed at named points of the store's files.

Neither knows of it: both start from a folder whose ``sitecustomize`` puts files that kill in the
place of the system's.
"""

import os
import signal
from pathlib import Path

import pytest
from aiohttp import ClientError

from poller.sandbox import Render, Sandbox
from poller.stores.care.verify import verify
from poller.stores.survey import Names
from poller.stores.tinydb import TinyStore
from tests.children import ROOT
from tests.day import ONE, TWO, contents
from tests.service import command, shop
from tests.stores import an_order

SITE = """
import os, sys
if "poller.stores.folding" in sys.orig_argv:
    os.environ["KILL_AT"] = {folding!r}
from poller.stores import files
from tests.killing import KillingFiles
files.Files = KillingFiles
"""


def site(folder: Path, folding: str = "////") -> str:
    """Make the folder that a process is to start from; give its search path."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE.format(folding=folding))
    return f"{folder}{os.pathsep}{ROOT}"


# --- The command --------------------------------------------------------------------------------------

ADDING = {
    "staged, before it is written": "/write/journal/before/1",
    "half written": "/write/journal/inside/1",
    "written, before it is synced": "/sync/journal/before/1",
    "synced, before it is acknowledged": "/sync/journal/after/1",
    "a transition before it is written": "/write/journal/before/2",
    "a transition half written": "/write/journal/inside/2",
    "a transition before it is synced": "/sync/journal/before/2",
    "a transition when it is synced": "/sync/journal/after/2",
}
STOPPING = {
    "in the snapshot": "/write/fresh/inside/3",
    "before the snapshot is synced": "/sync/fresh/before/2",
    "when the previous one is gone": "/unlink/previous/after/1",
    "before the snapshot has its name": "/rename/fresh/before/2",
    "when the snapshot has its name": "/rename/fresh/after/2",
    "before the journal goes": "/unlink/journal/before/1",
    "when the journal is gone": "/unlink/journal/after/1",
}
OFTEN = {
    "half written",
    "synced, before it is acknowledged",
    "a transition before it is synced",
    "when the snapshot has its name",
}
"""Points that are tried by default; a start of the whole command takes a second."""
REPEATS = [0, *(pytest.param(n, marks=pytest.mark.heavy) for n in (1, 2))]


@pytest.mark.parametrize("again", REPEATS)
@pytest.mark.parametrize(
    "point",
    [pytest.param(each, marks=() if each in OFTEN else pytest.mark.heavy) for each in (*ADDING, *STOPPING)],
)
async def test_the_command_killed_at_a_named_point_loses_no_order(tmp_path, point, again):
    """What was answered with 202 is there and is fetched by the next start, and the same posted again is taken."""
    sandbox, answered = Sandbox(client_secret="secret"), False
    sandbox.start(Render(size=1000), "task")
    killing = {"PYTHONPATH": site(tmp_path / "site"), "KILL_AT": (ADDING | STOPPING)[point]}
    async with sandbox.serving() as url:
        settings = sandbox.settings(url)
        async with command(tmp_path, settings | killing) as poller, shop(poller.url) as hook:
            try:
                await hook.add("task")
                answered = True
                if point in STOPPING:
                    await hook.rest("task")
                    poller.signal(signal.SIGTERM)
            except ClientError:
                pass
            assert await poller.end() == -signal.SIGKILL
        report = verify(tmp_path / "orders.json")
        assert report.damage is None
        assert sum(report.orders.values()) >= answered
        await finished(tmp_path, settings)


async def finished(folder: Path, settings: dict[str, str]) -> None:
    """Let the plain command do what is left."""
    async with command(folder, settings) as poller, shop(poller.url) as hook:
        await hook.add("task")
        orders = await hook.rest("task")
        assert list(orders) == ["task"]
        assert orders["task"]["state"] == "done"
        poller.signal(signal.SIGTERM)
        assert await poller.end() == 0
    assert verify(folder / "orders.json").journals == ()


# --- The process that folds --------------------------------------------------------------------------------

FOLDING = {
    "before it creates the snapshot": "/create/folded/before/1",
    "with an empty snapshot": "/create/folded/after/1",
    "in the snapshot": "/write/folded/inside/1",
    "before it syncs the snapshot": "/sync/folded/before/1",
    "when the snapshot is complete": "/sync/folded/after/1",
}


@pytest.mark.parametrize("again", REPEATS)
@pytest.mark.parametrize("point", FOLDING)
async def test_a_store_goes_on_when_the_process_that_folds_is_killed(tmp_path, monkeypatch, point, again):
    """It tells of it, keeps what it has, and folds later."""
    path, told = tmp_path / "orders.json", []
    store = await TinyStore.open(path, now=lambda: 5.0, full=1, report=told.append)
    await store.add([ONE])
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", site(tmp_path / "site", FOLDING[point]))
        await store.add([TWO])
        await store._folded()
    assert len(told) == 1
    assert "could not be folded" in told[0]
    assert store.problem is None
    await store.add([an_order("t3")])
    store._fold_from = 0
    await store.add([an_order("t4")])
    await store._folded()
    assert not Names(path).full.exists()
    assert len(told) == 1
    await store.close()
    store = await TinyStore.open(path, now=lambda: 6.0)
    assert {key.task_id for key in await contents(store)} == {"t1", "t2", "t3", "t4"}
    await store.close()
