"""``poller store repair``, ``export`` and ``import``, as people and scripts run them."""

import asyncio
import json
import os
import shutil
import signal
import stat
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from poller.cli import main
from poller.cli.outcome import Exit
from poller.event import Event
from poller.order import State
from poller.stores.files import Files
from poller.stores.tinydb import TinyStore
from tests.terminal import NOW, ROOT, make, run

GRAFX = {
    "GRAFX_ENVIRONMENT": "acme",
    "GRAFX_CLIENT_ID": "someone",
    "GRAFX_CLIENT_SECRET": "canary-client-secret",
    "GRAFX_BASE_URL": "http://127.0.0.1:9",
    "POLLER_PORT": "0",
    "POLLER_LOG_FORMAT": "json",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run where no .env lies about."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def service(folder):
    """Run the real service on a store in *folder* until the block ends; give its process and the hook's address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POLLER_", "GRAFX_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "poller", "run"),
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **GRAFX},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        listening = json.loads(await process.stdout.readline())
        if listening["event"] == "store":  # these orders are from the future
            listening = json.loads(await process.stdout.readline())
        assert listening["event"] == "listening"
        yield process, listening["url"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stop(process):
    """Ask a service to stop, and wait until it has."""
    process.send_signal(signal.SIGTERM)
    await process.communicate()


async def stored(path, *task_ids):
    """Leave a store that was closed, with a history."""
    store = await TinyStore.open(path, now=lambda: NOW, files=Files())
    orders = [make(task_id) for task_id in task_ids]
    await store.add(orders)
    failed = make(task_ids[0], version=2, state=State.FAILED, cause="gone", reason="it is gone")
    await store.save(failed, Event(at=NOW, event="failed"))
    await store.close()


def told(result):
    """Read what a command said."""
    return json.loads(result.stdout)


def spoil(path):
    """Change a byte in the first order's line."""
    text = path.read_bytes()
    place = text.index(b'"task_id"') + 3
    path.write_bytes(text[:place] + b"\xff" + text[place + 1 :])


# --- With a service -------------------------------------------------------------------------------------


async def test_a_running_service_is_exported_and_left_alone(tmp_path):
    """What it acknowledged is in the export; to repair it or to import into it is refused while it runs."""
    async with service(tmp_path) as (process, url):
        added = await asyncio.to_thread(run, "add", "A", "B", "--dry-run", "--url", url)
        assert added.exit_code == 0
        done = run("store", "export", "--output", "backup.ndjson")
        assert (done.exit_code, told(done)["orders"]) == (0, 2)
        for args in (("repair",), ("import", "backup.ndjson")):
            refused = run("store", *args)
            assert refused.exit_code == Exit.TEMPORARY
            assert f"is held by process {process.pid} on" in refused.stderr
            assert "Hint: stop that process first" in refused.stderr
        assert process.returncode is None
        await stop(process)
    assert told(run("store", "import", "backup.ndjson")) == {
        "path": str(tmp_path / "orders.json"),
        "founded": False,
        "added": 0,
        "replaced": 0,
        "equal": 2,
        "torn": None,
    }


async def test_a_service_starts_again_after_a_repair(tmp_path):
    """A store that it refuses, it takes when it was repaired; the other orders are there."""
    async with service(tmp_path) as (process, url):
        await asyncio.to_thread(run, "add", "A", "B", "C", "--dry-run", "--url", url)
        await stop(process)
    spoil(tmp_path / "orders.json")
    refused = run("store", "verify")
    assert (refused.exit_code, "checksum" in refused.stderr) == (Exit.FAILED, True)
    repaired = run("store", "repair")
    assert repaired.exit_code == 0
    assert told(repaired)["orders"]["held"] == 2
    assert told(repaired)["lost"][0] == {
        "file": "orders.json",
        "what": "the line is not what was written",
        "line": 3,
        "byte": 14,
        "size": told(repaired)["lost"][0]["size"],
    }
    assert (tmp_path / told(repaired)["aside"][0]).exists()
    async with service(tmp_path) as (_, url):
        listed = await asyncio.to_thread(run, "list", "--json", "--url", url)
    assert {order["task_id"] for order in told(listed)["orders"]} == {"B", "C"}


async def test_an_export_starts_a_service_elsewhere(tmp_path):
    """A store is moved by its lines: orders and histories are those of the old one."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    await stored(old / "orders.json", "A", "B")
    lines = run("store", "export", str(old / "orders.json")).stdout_bytes
    done = CliRunner().invoke(main, ["store", "import", "-", str(new / "orders.json")], input=lines)
    assert (done.exit_code, told(done)["added"], told(done)["founded"]) == (0, 2, True)
    async with service(new) as (_, url):
        shown = told(await asyncio.to_thread(run, "show", "A", "--url", url))
    assert (shown["state"], shown["cause"]) == ("failed", "gone")
    assert [event["event"] for event in shown["events"]] == ["added", "failed"]


# --- repair ---------------------------------------------------------------------------------------------


async def test_repair_tells_people_and_can_be_tried_first(tmp_path):
    """A dry run draws what a repair would do, and leaves every byte."""
    path = tmp_path / "orders.json"
    await stored(path, "A", "B")
    spoil(path)
    before = path.read_bytes()
    drawn = run("store", "repair", "--dry-run", "--table")
    assert drawn.exit_code == 0
    assert path.read_bytes() == before
    for said in ("(nothing was changed)", "checksum", "line 3 (from byte 14)", "kept as", "orders.json.damaged-"):
        assert said in drawn.stdout.replace("\n", " ")
    assert told(run("store", "repair"))["dry_run"] is False
    assert told(run("store", "verify"))["orders"] == {"held": 0, "pending": 1, "done": 0, "failed": 0, "canceled": 0}


async def test_many_losses_fill_no_screen(tmp_path):
    """People see twenty, and how many more there are; the JSON has all."""
    path = tmp_path / "orders.json"
    await stored(path, *(f"T{n}" for n in range(40)))
    path.write_bytes(path.read_bytes().replace(b'"task_id"', b'"task\xff\xff\xff"', 30))
    shutil.copy(path, "copy.json")
    assert "and 11 more; --json has them all" in run("store", "repair", "--table").stdout
    assert len(told(run("store", "repair", "copy.json"))["lost"]) == 31


async def test_repair_refuses(tmp_path):
    """A store that is whole, is not there, or of which nothing is left: exit 1, with what to do."""
    await stored(tmp_path / "orders.json", "A")
    (tmp_path / "empty.json").write_bytes(b"")
    for args, sentence in (
        ((), "there is nothing to repair"),
        (("elsewhere.json",), "there is no store at elsewhere.json"),
        (("empty.json",), "no order can be read"),
    ):
        refused = run("store", "repair", *args)
        assert (refused.exit_code, refused.stdout) == (Exit.FAILED, "")
        assert sentence in refused.stderr
    assert "Hint: move its files away, and put a backup in with `poller store import`" in refused.stderr
    assert not (tmp_path / "elsewhere.json.lock").exists()


# --- export ---------------------------------------------------------------------------------------------


async def test_export_writes_a_file_for_its_owner(tmp_path):
    """It is there whole, and another of its name stays unless --force is given; the store's own are never taken."""
    await stored(tmp_path / "orders.json", "A")
    done = run("store", "export", "--output", "out.ndjson", "--table")
    assert (done.exit_code, "orders" in done.stdout) == (0, True)
    assert stat.S_IMODE((tmp_path / "out.ndjson").stat().st_mode) == 0o600
    again = run("store", "export", "--output", "out.ndjson")
    assert (again.exit_code, "give --force" in again.stderr) == (Exit.FAILED, True)
    assert run("store", "export", "--output", "out.ndjson", "--force").exit_code == 0
    own = run("store", "export", "--output", "orders.json", "--force")
    assert (own.exit_code, "one of the store's own files" in own.stderr) == (Exit.USAGE, True)
    nowhere = run("store", "export", "--output", "nowhere/out.ndjson")
    assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (Exit.FAILED, True)


def test_export_of_nothing(tmp_path):
    """A store that is not there exits 1, and writes nothing."""
    done = run("store", "export", "--output", "out.ndjson")
    assert (done.exit_code, "there is no store at" in done.stderr) == (Exit.FAILED, True)
    assert list(tmp_path.iterdir()) == []


# --- import ---------------------------------------------------------------------------------------------


async def test_import_names_what_it_cannot_take(tmp_path):
    """Bad lines by their number, orders that differ by their key; and nothing is taken."""
    await stored(tmp_path / "a.json", "A", "B")
    text = run("store", "export", "a.json").stdout_bytes
    (tmp_path / "bad.ndjson").write_bytes(text + b"rubbish\n")
    bad = run("store", "import", "bad.ndjson")
    assert (bad.exit_code, "  line 4: " in bad.stderr) == (Exit.FAILED, True)
    assert not (tmp_path / "orders.json").exists()
    (tmp_path / "other.ndjson").write_bytes(text.replace(b"it is gone", b"it is back"))
    differs = run("store", "import", "other.ndjson", "a.json")
    assert (differs.exit_code, "  A of grafx\n" in differs.stderr) == (Exit.FAILED, True)
    assert "Hint: --replace" in differs.stderr
    assert told(run("store", "import", "--replace", "other.ndjson", "a.json"))["replaced"] == 1
    missing = run("store", "import", "nowhere.ndjson")
    assert (missing.exit_code, "nowhere.ndjson cannot be read" in missing.stderr) == (Exit.FAILED, True)
    assert run("store", "import").exit_code == Exit.USAGE


async def test_import_tells_people_what_it_did(tmp_path):
    """A store that was not there is said to be new."""
    (tmp_path / "theirs.json").write_text('{"orders": {}}')
    drawn = run("store", "import", "theirs.json", "--table")
    assert (drawn.exit_code, "(it is new)" in drawn.stdout.replace("\n", " ")) == (0, True)
    assert run("store", "verify").exit_code == 0


async def test_import_tells_of_a_tail_that_it_cut(tmp_path):
    """What the next start would have said, it says."""
    path = tmp_path / "orders.json"
    await stored(tmp_path / "a.json", "A")
    store = await TinyStore.open(path, now=lambda: NOW, files=Files())
    left = {each: each.read_bytes() for each in tmp_path.glob("orders.json*")}
    await store.close()
    for each, text in left.items():
        each.write_bytes(text)
    journal = tmp_path / "orders.json.journal"
    journal.write_bytes(journal.read_bytes().rstrip(b"\0") + b"0000 [1,[")
    done = run("store", "import", "a.json")
    assert (done.exit_code, told(done)["added"]) == (0, 1)
    assert "Warning: line 2 of the store's journal" in done.stderr


@pytest.mark.parametrize("command", ["repair", "export", "import"])
def test_a_setting_that_is_wrong(command):
    """Exits 78, as every command does."""
    args = ["x.ndjson"] if command == "import" else []
    done = run("--env-file", "nowhere", "store", command, *args)
    assert done.exit_code == Exit.CONFIGURATION, done.stderr


def test_a_folder_that_is_not_there():
    """A store is not made in a place that somebody forgot to mount: exits 78."""
    Path("theirs.json").write_text('{"orders": {}}')
    done = run("store", "import", "theirs.json", POLLER_STORE="nowhere/orders.json")
    assert (done.exit_code, "there is no folder" in done.stderr) == (Exit.CONFIGURATION, True)


@pytest.mark.parametrize("command", ["verify", "repair", "export", "import"])
def test_help(command):
    """Each says where the store is and how it exits or what it takes."""
    shown = run("store", command, "--help").stdout
    assert "POLLER_STORE" in shown
    assert f"poller store {command}" in shown or f"store {command} [OPTIONS]" in shown
