"""The real command, real sockets, real files, real signals."""

import asyncio
import random
import signal
from pathlib import Path

import pytest
from aiohttp import ClientError

from poller.sandbox import Failure, Render, Sandbox
from tests.service import AT_REST, Shop, command, shop

SECRET = "canary-client-secret"

NASTY = [
    "84ad7436-0bd4-4ba2-bd0f-2d4c4b3f3b1c",
    "../../etc/passwd",
    "a/b/c",
    "{task_id}",
    "%2e%2e%2f",
    "-rf",
    ".hidden",
    "käse & brot",
    "x" * 300,
    "name.pdf.exe",
    "CON",
    "~2",
    "a b\u00a0c",
    "'; DROP TABLE orders; --",
    "<script>alert(1)</script>",
    "\u202egpj.exe",
]


def _sandbox() -> Sandbox:
    return Sandbox(client_secret=SECRET)


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _check_nothing_partial(folder: Path, sandbox: Sandbox, names: dict[str, str]) -> None:
    """Every file that is visible is complete, byte for byte."""
    for path in folder.glob("*"):
        if path.is_file() and path.name != ".gitkeep":
            content = sandbox.content(names[path.name])
            assert path.stat().st_size == content.size, path.name
            assert path.read_bytes() == b"".join(content.blocks()), path.name


async def test_orders_of_every_kind_arrive_byte_for_byte(tmp_path) -> None:
    """Fifty mixed orders: each file is the remote's to the last byte, each failure has its cause."""
    sandbox = _sandbox()
    kinds = ["image/png", "image/jpeg", "application/pdf", "application/zip", "video/mp4", "image/gif"]
    chance = random.Random(7)
    for number in range(40):
        render = Render(
            delay=chance.choice([0.0, 0.0, 0.2, 0.5]),
            size=chance.choice([1000, 70_000, 1_048_576, 3_000_001]),
            media_type=kinds[number % len(kinds)],
            pending_status=chance.choice([202, 204]),
        )
        sandbox.start(render, f"task-{number}")
    failing = {
        "refused": (Failure.RENDER, "refused"),
        "gone": (Failure.GONE, "gone"),
        "expired": (Failure.EXPIRED, "gone"),
        "moved": (Failure.REDIRECT, None),
        "flaky": (Failure.FLAKY, None),
        "stale": (Failure.UNAUTHORIZED, None),
    }
    for name, (failure, _) in failing.items():
        sandbox.start(Render(failure=failure, retry_after=0.1), name)

    async with (
        sandbox.serving() as url,
        command(tmp_path, sandbox.settings(url)) as poller,
        shop(poller.url) as hook,
    ):
        names = [*(f"task-{number}" for number in range(40)), *failing]
        await hook.add(*names, context={"projectID": "p-1"})
        orders = await hook.rest(*names)

        for name in names:
            order, cause = orders[name], failing.get(name, (None, None))[1]
            assert order["state"] == ("failed" if cause else "done"), order
            assert order["cause"] == cause
            if not cause:
                (file,) = order["files"]
                content = sandbox.content(name)
                assert (file["size"], file["sha256"]) == (content.size, content.sha256)
                assert Path(file["path"]).read_bytes() == b"".join(content.blocks())
        assert len(_names(tmp_path / "orders")) == 43
        refused = await poller.logged("failed", task_id="refused")
        assert refused["remote"] == "grafx"
        assert refused["project_id"] == "p-1"
        assert refused["status"] == 500
        assert "reports" in refused["report_at"]
        assert SECRET not in str(poller.lines)
        poller.signal(signal.SIGTERM)
        assert await poller.end() == 0


async def test_hostile_task_ids_stay_in_the_folder(tmp_path) -> None:
    """Whatever a task ID holds, its file is in the folder, alone under a name of its own."""
    sandbox = _sandbox()
    for name in NASTY:
        sandbox.start(Render(size=5000), name)
    folder = tmp_path / "orders"
    async with (
        sandbox.serving() as url,
        command(tmp_path, sandbox.settings(url)) as poller,
        shop(poller.url) as hook,
    ):
        await hook.add(*NASTY)
        orders = await hook.rest(*NASTY)
        poller.signal(signal.SIGTERM)
        assert await poller.end() == 0

    paths = {Path(orders[name]["files"][0]["path"]) for name in NASTY}
    assert len(paths) == len(NASTY)
    assert {path.parent for path in paths} == {folder}
    assert {path.suffix for path in paths} == {".pdf"}
    assert not any(path.name.startswith((".", "-")) for path in paths)
    store = {"orders.json", "orders.json.lock", "orders.json.previous"}
    assert {path.name for path in tmp_path.iterdir()} <= {"orders", *store}


async def test_a_stop_loses_nothing_and_a_start_goes_on(tmp_path) -> None:
    """SIGTERM drains; the snapshot is complete; the next start fetches what was left."""
    sandbox = _sandbox()
    sandbox.start(Render(), "quick")
    sandbox.start(Render(delay=3600), "endless")
    async with sandbox.serving() as url:
        async with command(tmp_path, sandbox.settings(url)) as poller, shop(poller.url) as hook:
            await hook.add("quick", "endless", context={"projectID": "p-1"})
            await hook.rest("quick")
            poller.signal(signal.SIGTERM)
            assert await poller.end() == 0
            assert poller.lines[-1]["event"] == "stopped"

        _read_with_stock_tinydb(tmp_path / "orders.json", {"quick": "done", "endless": "pending"})
        sandbox.start(Render(), "late")
        async with command(tmp_path, sandbox.settings(url)) as poller, shop(poller.url) as hook:
            before = await hook.orders()
            assert {name: order["state"] for name, order in before.items()} == {"quick": "done", "endless": "pending"}
            assert before["endless"]["attempts"] == 0
            await hook.add("late")
            assert (await hook.rest("late"))["late"]["state"] == "done"


def _read_with_stock_tinydb(path: Path, states: dict[str, str]) -> None:
    from tinydb import TinyDB  # noqa: PLC0415 - the stock one, as an outsider has it

    with TinyDB(path) as database:
        found = {order["task_id"]: order["state"] for order in database.table("orders")}
    assert found == states


async def test_a_second_signal_does_not_wait(tmp_path) -> None:
    """A download that would take hours is interrupted and has spent nothing; the next start goes on with it."""
    sandbox = _sandbox()
    sandbox.start(Render(size=500_000_000, rate=5_000_000), "slow")
    async with (
        sandbox.serving() as url,
        command(tmp_path, sandbox.settings(url)) as poller,
        shop(poller.url) as hook,
    ):
        await hook.add("slow")
        await _receiving(tmp_path / "orders" / ".partial")
        poller.signal(signal.SIGTERM)
        await poller.logged("stopping")
        async with hook.session.get(f"{poller.url}/readyz") as reply:
            assert reply.status == 503
        poller.signal(signal.SIGTERM)
        assert await poller.end() == 128 + signal.SIGTERM
        assert (await poller.logged("interrupted", task_id="slow"))["checks"] == 0
        left = [name for name in _names(tmp_path / "orders") if name != ".partial"]
        assert {Path(name).parent.name for name in left} == {".partial"}
        assert {Path(name).suffix for name in left} == {".json", ".part"}


async def _receiving(partials: Path) -> None:
    """Wait until some partial has bytes in it."""
    while not any(path.stat().st_size for path in partials.glob("*.part")):
        await asyncio.sleep(0)


async def test_a_kill_in_mid_download_shows_no_partial_file(tmp_path) -> None:
    """SIGKILL while a body comes in: the name stays absent, and the next start fetches what is missing."""
    sandbox = _sandbox()
    sandbox.start(Render(size=8_000_000, rate=4_000_000), "large")
    folder = tmp_path / "orders"
    async with sandbox.serving() as url:
        async with command(tmp_path, sandbox.settings(url)) as poller, shop(poller.url) as hook:
            await hook.add("large")
            await _receiving(folder / ".partial")
            poller.signal(signal.SIGKILL)
            await poller.end()
        assert _names(folder) - {name for name in _names(folder) if name.startswith(".partial/")} == set()

        async with command(tmp_path, sandbox.settings(url)) as poller, shop(poller.url) as hook:
            order = (await hook.rest("large"))["large"]
            assert order["state"] == "done"
            assert order["attempts"] == 0
            assert Path(order["files"][0]["path"]).read_bytes() == b"".join(sandbox.content("large").blocks())
            assert sandbox.sent("large") < 8_000_000
            poller.signal(signal.SIGTERM)
            assert await poller.end() == 0
        assert _names(folder) == {"large.pdf"}


@pytest.mark.parametrize("rounds", [6, pytest.param(100, marks=pytest.mark.heavy)])
@pytest.mark.timeout(900)
async def test_kills_at_random_moments_lose_no_accepted_order(tmp_path, rounds) -> None:
    """SIGKILL under load, again and again: every order that was accepted is done in the end, and no file is partial."""
    sandbox = _sandbox()
    chance = random.Random(rounds)
    accepted: list[str] = []
    started: dict[str, str] = {}
    folder = tmp_path / "orders"
    async with sandbox.serving() as url:
        for round_ in range(rounds):
            async with command(tmp_path, sandbox.settings(url)) as poller, shop(poller.url) as hook:
                adding = asyncio.create_task(_add_until_killed(hook, sandbox, f"r{round_}", accepted, started))
                while len(accepted) < (round_ + 1) * chance.randint(3, 12) and not adding.done():
                    await asyncio.sleep(0)
                poller.signal(signal.SIGKILL)
                await adding
                await poller.end()
            _check_nothing_partial(folder, sandbox, started)

        async with command(tmp_path, sandbox.settings(url)) as poller, shop(poller.url) as hook:
            orders = await hook.rest(*await hook.orders())
    assert orders.keys() >= set(accepted)
    assert {orders[name]["state"] for name in accepted} == {"done"}
    assert all(order["state"] in AT_REST for order in orders.values())
    _check_nothing_partial(folder, sandbox, started)


async def _add_until_killed(
    hook: Shop, sandbox: Sandbox, prefix: str, accepted: list[str], started: dict[str, str]
) -> None:
    """Add orders one after the other; remember those that were accepted, and the names that files may have."""
    for number in range(10_000):
        name = f"{prefix}-{number}"
        started[f"{name}.pdf"] = sandbox.start(Render(size=200_000), name)
        try:
            await hook.add(name)
        except (ClientError, ConnectionError, TimeoutError):
            return
        accepted.append(name)
