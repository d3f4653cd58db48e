"""Commands that run for long, and the store's files: each in a process of its own, as people start them."""

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest

from poller.cli.outcome import Exit
from poller.stores.tinydb import TinyStore
from tests.terminal import NOW, ROOT, make, run

GRAFX = {
    "GRAFX_ENVIRONMENT": "acme",
    "GRAFX_CLIENT_ID": "someone",
    "GRAFX_CLIENT_SECRET": "canary-client-secret",
    "GRAFX_BASE_URL": "http://127.0.0.1:9",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run where no .env lies about."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def process(*args, **environ):
    """Start a command; kill it if it outlives the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POLLER_", "GRAFX_"))}
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "poller", *args),
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.fixture
def taken():
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield str(held.getsockname()[1])


# --- run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run(number):
    """The service says in JSON what is doubtful and where it listens, answers, and ends well when asked to."""
    async with process("run", **GRAFX, POLLER_PORT="0", POLLER_PROT="1") as service:
        doubtful = json.loads(await service.stdout.readline())
        assert "did you mean POLLER_PORT?" in doubtful["reason"]
        listening = json.loads(await service.stdout.readline())
        assert (listening["event"], listening["remotes"]) == ("listening", ["grafx"])
        added = await asyncio.to_thread(run, "add", "T", "--dry-run", "--url", listening["url"])
        assert (added.exit_code, added.stdout) == (0, "T of grafx is held\n")
        service.send_signal(number)
        out, err = await service.communicate()
    assert (service.returncode, err) == (0, b"")
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"
    assert json.loads(run("store", "verify").stdout)["orders"]["held"] == 1


async def test_run_that_cannot_start(taken):
    """A port that somebody has exits 78, and a store that somebody has 75; each says what to do."""
    async with process("run", **GRAFX, POLLER_PORT=taken) as service:
        _, err = await service.communicate()
    assert (service.returncode, b"Hint: choose another POLLER_PORT" in err) == (Exit.CONFIGURATION, True)
    async with process("run", **GRAFX, POLLER_PORT="0") as first:
        await first.stdout.readline()
        async with process("run", **GRAFX, POLLER_PORT="0") as second:
            _, err = await second.communicate()
    assert second.returncode == Exit.TEMPORARY
    assert err.startswith(b"Error: ")
    assert b"Traceback" not in err


# --- sandbox -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_sandbox(number):
    """The stand-in plays what the options say, and ends well when asked to."""
    options = ("--client-id", "me", "--environment", "shop", "--failure", "unknown", "--adopt", "--token-life", "1h")
    async with process("sandbox", "--port", "0", *options) as stand_in:
        url = (await stand_in.stdout.readline()).decode().split()[-1]
        asked = {"client_id": "me", "client_secret": "sandbox-secret", "grant_type": "client_credentials"}
        async with aiohttp.ClientSession() as session:
            body = {**asked, "audience": "https://chiligrafx.com"}
            async with session.post(f"{url}/oauth/token", json=body) as reply:
                token = await reply.json()
            assert 3500 < token["expires_in"] <= 3600
            bearer = {"Authorization": f"Bearer {token['access_token']}"}
            tasks = f"{url}/grafx/api/v1/environment/shop/output/tasks"
            async with session.get(f"{tasks}/T", headers=bearer) as reply:
                assert reply.status == 404
        stand_in.send_signal(number)
        _, err = await stand_in.communicate()
    assert (stand_in.returncode, err) == (0, b"")


def test_sandbox_that_cannot_start(taken):
    """A port that somebody has is said in one line."""
    done = run("sandbox", "--port", taken)
    assert done.exit_code == Exit.FAILED
    assert done.stderr.startswith("Error: ")


# --- store verify --------------------------------------------------------------------------------------


async def _stored(path, *, close=True):
    store = await TinyStore.open(path, now=lambda: NOW)
    await store.add([make("A"), make("B")])
    if close:
        await store.close()
    return store


async def test_store_verify(tmp_path):
    """What the files hold is told, also while a service has them open."""
    path = tmp_path / "orders.json"
    store = await _stored(path, close=False)
    told = json.loads(run("store", "verify").stdout)
    assert (told["orders"]["pending"], told["damage"], len(told["journals"])) == (2, None, 1)
    drawn = run("store", "verify", "--table", str(path))
    assert drawn.exit_code == 0
    assert f"begun by process {os.getpid()}" in drawn.stdout
    await store.close()
    closed = json.loads(run("store", "verify").stdout)
    assert (closed["orders"]["pending"], closed["journals"]) == (2, [])


async def test_store_verify_of_a_torn_tail(tmp_path):
    """A tail that was never acknowledged is told, and is no damage."""
    path = tmp_path / "orders.json"
    store = await _stored(path, close=False)
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    await store.close()
    for file, content in kept.items():
        file.write_bytes(content)
    with (tmp_path / "orders.json.journal").open("ab") as journal:
        journal.write(b"0000 [3,[")
    done = run("store", "verify", "--table")
    assert (done.exit_code, "torn tail" in done.stdout) == (0, True)


async def test_store_verify_of_damage(tmp_path):
    """Damage, and a store that is not there, exit 1 with what to do; the report is printed all the same."""
    path = tmp_path / "orders.json"
    await _stored(path)
    path.write_bytes(path.read_bytes().replace(b'"A"', b'"X"'))
    done = run("store", "verify", POLLER_STORE=str(path))
    assert done.exit_code == Exit.FAILED
    assert json.loads(done.stdout)["damage"] in done.stderr
    assert "Hint: " in done.stderr
    missing = run("store", "verify", "elsewhere.json", "--table")
    assert missing.exit_code == Exit.FAILED
    assert "there is no store at elsewhere.json" in missing.stderr
    assert not (tmp_path / "elsewhere.json").exists()
