"""Commands about orders, against the real hook on a real socket."""

import json
import socket

import pytest
from aiohttp import web
from msgspec.structs import replace

from poller.cli.hook import address
from poller.cli.outcome import Exit
from poller.event import Event
from poller.order import Key, State
from poller.outcome import Cause, File
from tests.terminal import NOW, TOKEN, counter, make, run

EVIL = "\x1b[2J[red]\u202e evil \x07"
FILE = File(name="a/T-1.pdf", size=3 * 2**20, sha256="ab" * 32, media_type="application/pdf", published_at=NOW)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run where no .env lies about."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def shop(tmp_path):
    """A hook without a token."""
    async with counter(tmp_path) as found:
        yield found


# --- add --------------------------------------------------------------------------------------------


async def test_add(shop):
    """Everything that can be said of an order on the command line arrives in the store."""
    done = await shop.run(
        *("add", "T 1/ü", "--remote", "acme", "--context", "shop=7", "--context", "note=a=b", "--batch", "B"),
        *("--dry-run", "--deadline", "5m", "--filename", "{batch}/{task_id}{ext}"),
    )
    assert (done.exit_code, done.stdout, done.stderr) == (0, "T 1/ü of acme is held\n", "")
    order = await shop.store.get(Key("acme", "T 1/ü"))
    assert (order.state, order.batch, order.context) == (State.HELD, "B", {"shop": "7", "note": "a=b"})
    assert (order.deadline, order.filename) == (NOW + 300, "{batch}/{task_id}{ext}")


async def test_add_several(shop):
    """Several tasks are added in one request, all or none; the first remote is meant if none is named."""
    done = await shop.run("add", "A", "B", "--json")
    assert [json.loads(line)["task_id"] for line in done.stdout.splitlines()] == ["A", "B"]
    assert (await shop.run("add", "A")).stdout == "A of grafx is pending\n", "again changes nothing"
    refused = await shop.run("add", "C", "B", "--batch", "other")
    assert (refused.exit_code, refused.stdout) == (Exit.FAILED, "")
    assert await shop.store.get(Key("grafx", "C")) is None


async def test_add_that_is_wrong(shop):
    """All that the hook finds wrong is said, one field a line, with exit code 1."""
    done = await shop.run("add", "T", "--remote", "graphx", "--deadline", "soon", "--filename", "../x")
    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    first, *fields = done.stderr.splitlines()
    assert first.startswith("Error: 3 things are wrong")
    assert [line.split(":")[0] for line in fields] == ["  remote", "  deadline", "  filename"]


async def test_a_task_id_that_looks_like_an_option(shop):
    """After -- a task ID may begin with a dash."""
    assert (await shop.run("add", "--", "--json")).stdout == "--json of grafx is pending\n"


# --- list -------------------------------------------------------------------------------------------


async def test_list(shop):
    """Elsewhere than on a terminal a list is the hook's JSON, filtered and sorted as asked."""
    await shop.store.add(
        [
            make("A", batch="B1"),
            make("B", state=State.FAILED, cause=Cause.GONE, reason="no more", batch="B1"),
            make("C", remote="acme", state=State.HELD),
        ]
    )

    async def listed(*args: str) -> list[str]:
        done = await shop.run("list", *args)
        assert done.exit_code == 0, done.output
        return [order["task_id"] for order in json.loads(done.stdout)["orders"]]

    assert await listed("--sort", "task_id") == ["A", "B", "C"]
    assert await listed("--sort", "-task_id") == ["C", "B", "A"]
    assert await listed("--state", "failed", "--state", "held", "--sort", "task_id") == ["B", "C"]
    assert await listed("--remote", "acme") == ["C"]
    assert await listed("--batch", "B1", "--sort", "task_id") == ["A", "B"]
    assert await listed("--text", "NO MORE") == ["B"]
    assert await listed("--batch", "none") == []


async def test_list_goes_on_over_pages(shop):
    """A limit beyond one page of the hook is met by asking for more pages."""
    await shop.store.add([make(f"T{number:04}") for number in range(620)])
    told = json.loads((await shop.run("list", "--limit", "610", "--sort", "task_id")).stdout)
    assert [order["task_id"] for order in told["orders"]] == [f"T{number:04}" for number in range(610)]
    assert (told["count"], told["next"] is None) == (620, False)
    assert json.loads((await shop.run("list", "--limit", "9999")).stdout)["next"] is None


async def test_list_on_a_terminal(shop):
    """People see a table; what a remote wrote neither moves the cursor nor decorates anything."""
    await shop.store.add(
        [
            make("A", progress=0.5, checks=1),
            make(EVIL, state=State.FAILED, cause=Cause.REFUSED, reason=EVIL),
            make("C", state=State.DONE, files=(FILE,)),
            make("D", state=State.HELD),
            make("E", reason="503 Service Unavailable"),
            make("F", due_at=NOW - 10**9),
            make("G", state=State.CANCELED),
        ]
    )
    drawn, code = await shop.on_terminal("list", "--sort", "task_id", NO_COLOR="1")
    assert code == 0
    assert "\\x1b[2J[red]\\u202e evil \\x07" in drawn
    assert "\x1b[2J" not in drawn
    assert "\u202e" not in drawn
    assert "\x1b[3" not in drawn, "NO_COLOR means no colour"
    for said in (
        "a/T-1.pdf (3.0 MiB)",
        "waits to be confirmed",
        "503 Service",
        "asked once",
        "again now",
        "canceled",
        "━",
        "7 orders",
    ):
        assert said in drawn
    coloured, _ = await shop.on_terminal("list", "--limit", "2")
    assert "\x1b[3" in coloured
    assert "2 of 7 orders" in coloured
    assert json.loads((await shop.on_terminal("list", "--json"))[0])["count"] == 7
    assert "no orders" in (await shop.on_terminal("list", "--batch", "none"))[0]


# --- show -------------------------------------------------------------------------------------------


async def test_show(shop):
    """An order is shown with its files and its history, in JSON and in a table."""
    order = make("T-1", state=State.DONE, files=(FILE,), batch="B", context={"shop": EVIL, "n": [1]}, progress=0.5)
    await shop.store.add([make("T-1"), make("xT-1x")])
    report = "\n".join(f"line {number}" for number in range(50))
    event = Event(at=NOW, event="failed", reason=EVIL, status=500, attempt=2, next_at=NOW + 5, report=report)
    await shop.store.save(replace(order, version=2), event)
    told = json.loads((await shop.run("show", "T-1")).stdout)
    assert told["files"][0]["sha256"] == "ab" * 32
    assert told["events"][-1]["report"] == report
    assert told["dropped"] == 0
    drawn = (await shop.run("show", "T-1", "--table", COLUMNS="200")).stdout
    for said in ("a/T-1.pdf", "3.0 MiB", "abababab", "context.shop", "\\x1b[2J", "context.n", "[1]", "status 500"):
        assert said in drawn
    for said in ("attempt 2", "line 39 ⏎ …", "50%", "batch"):
        assert said in drawn
    assert "line 40" not in drawn
    assert "\x1b" not in drawn


async def test_show_a_failed_and_a_waiting_order(shop):
    """What matters is in the first lines: cause and reason, or when it is asked about next."""
    await shop.store.add([make("F", state=State.FAILED, cause=Cause.GONE, reason="no more"), make("P", attempts=2)])
    failed = (await shop.run("show", "F", "--table")).stdout
    assert "failed: gone" in failed
    assert "no more" in failed
    assert "2 troubles in a row" in (await shop.run("show", "P", "--table")).stdout


async def test_show_tells_of_forgotten_events(shop):
    """A history that was shortened says so."""
    await shop.store.add([make("T")])
    for number in range(2, 125):
        await shop.store.save(make("T", version=number), Event(at=NOW, event="trouble"))
    dropped = json.loads((await shop.run("show", "T")).stdout)["dropped"]
    assert dropped > 0
    assert f"{dropped} earlier events are forgotten" in (await shop.run("show", "T", "--table")).stdout


async def test_the_remote_is_found(shop):
    """A task is found without naming its remote, unless it is nobody's or several remotes have it."""
    await shop.store.add([make("T", remote="acme"), make("both", remote="acme"), make("both"), make("other T")])
    assert json.loads((await shop.run("show", "T")).stdout)["remote"] == "acme"
    assert json.loads((await shop.run("show", "both", "--remote", "grafx")).stdout)["remote"] == "grafx"
    several = await shop.run("show", "both")
    assert (several.exit_code, "--remote" in several.stderr) == (Exit.FAILED, True)
    nobody = await shop.run("show", "TT")
    assert (nobody.exit_code, nobody.stderr) == (Exit.FAILED, "Error: there is no order 'TT'\n")
    assert (await shop.run("show", "T", "--remote", "grafx")).exit_code == Exit.FAILED


@pytest.mark.parametrize("task_id", ["..", ".", "a/b", "a%2Fb", "{x}", "a b", "ü#?&", "%252E", "+", "%"])
async def test_hostile_task_ids_are_reached(shop, task_id):
    """Whatever a task is called, the commands reach it and none other."""
    await shop.store.add([make(task_id)])
    assert json.loads((await shop.run("show", "--", task_id)).stdout)["task_id"] == task_id
    assert (await shop.run("cancel", "--", task_id)).exit_code == 0
    assert (await shop.store.get(Key("grafx", task_id))).state is State.CANCELED


# --- retry, cancel, confirm, check ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "before", "after"),
    [
        ("retry", State.FAILED, State.PENDING),
        ("cancel", State.PENDING, State.CANCELED),
        ("confirm", State.HELD, State.PENDING),
        ("check", State.PENDING, State.PENDING),
    ],
)
async def test_commands(shop, word, before, after):
    """Each command does to each order what it says; one that cannot be done does not stop the others."""
    await shop.store.add([make("A", state=before), make("done", state=State.DONE), make("B", state=before)])
    done = await shop.run(word, "A", "done", "none", "B")
    assert done.exit_code == Exit.FAILED
    assert done.stdout == f"A of grafx is {after}\nB of grafx is {after}\n"
    assert [line.split(":")[0] for line in done.stderr.splitlines()].count("Error") == 2
    if word == "check":
        assert (await shop.store.get(Key("grafx", "B"))).due_at == NOW


async def test_commands_in_json(shop):
    """With --json each order is a line, as it now is."""
    await shop.store.add([make("A"), make("B")])
    done = await shop.run("cancel", "A", "B", "--json")
    assert done.exit_code == 0
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["canceled", "canceled"]


# --- Where the hook is, and whether it lets us in --------------------------------------------------------


async def test_token(tmp_path):
    """The token goes along; without it, or with another, the hook's own words say what to do: exit 78."""
    async with counter(tmp_path, token=TOKEN) as shop:
        assert (await shop.run("list")).exit_code == 0
        assert (await shop.run("list", "--url", shop.url)).exit_code == 0
        shop.token = ""
        without = await shop.run("list")
        shop.token = "another-token-0123456789"
        other = await shop.run("cancel", "T")
    for done in (without, other):
        assert done.exit_code == Exit.CONFIGURATION
        assert "POLLER_TOKEN" in done.stderr
        assert "canary" not in done.output


async def test_url(shop):
    """--url leads elsewhere than the settings, and needs none of them but the token."""
    done = await shop.run("list", "--url", f"{shop.url}/", POLLER_HOST="10.255.255.1")
    assert (done.exit_code, json.loads(done.stdout)["count"]) == (0, 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),  # noqa: S104 - reached, not bound
        ("::", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
        ("shop.local", "http://shop.local:8080"),
    ],
)
def test_address(host, url):
    """A hook that listens everywhere is reached on this machine; IPv6 gets its brackets."""
    assert address({"POLLER_HOST": host, "POLLER_TOKEN": TOKEN}, None, None) == (url, TOKEN)


def test_port_zero():
    """A port that only the service knows must be said."""
    done = run("list", POLLER_PORT="0")
    assert done.exit_code == Exit.CONFIGURATION
    assert "--url" in done.stderr


def test_nobody_there():
    """A hook that cannot be reached exits 69 and says what to check."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        done = run("retry", "A", "B", POLLER_PORT=str(held.getsockname()[1]))
    assert done.exit_code == Exit.UNAVAILABLE
    assert done.stderr.count("Error") == 1
    assert "cannot be reached: Connection refused" in done.stderr
    assert "Hint: is poller running?" in done.stderr


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, "<html>", Exit.UNAVAILABLE),
        (200, '{"ok": true}', Exit.UNAVAILABLE),
        (301, "", Exit.UNAVAILABLE),
        (404, "Not Found", Exit.UNAVAILABLE),
        (500, '{"detail": "a fault of its own"}', Exit.FAILED),
        (500, '{"title": "Oh"}', Exit.FAILED),
        (500, "{}", Exit.FAILED),
        (502, "{}", Exit.UNAVAILABLE),
        (503, '{"detail": "later"}', Exit.TEMPORARY),
        (429, '{"detail": "full", "errors": [{"field": "", "message": "\\u001b[2J"}]}', Exit.TEMPORARY),
        (403, '{"detail": "no"}', Exit.CONFIGURATION),
    ],
)
async def test_other_answers(tmp_path, status, body, code):
    """Whatever answers, the exit code says whether to fix, to wait or to look elsewhere; nothing is traced."""

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text=body, content_type="application/json", headers={"Location": "/"})

    async with counter(tmp_path, handler=handler) as shop:
        done = await shop.run("list")
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith("Error: ")
    assert "\x1b" not in done.stderr


async def test_a_hook_that_hangs_up(tmp_path):
    """A connection that ends in the middle of an answer is one that cannot be reached."""

    async def handler(request: web.BaseRequest) -> web.Response:
        request.transport.close()
        return web.Response()

    async with counter(tmp_path, handler=handler) as shop:
        done = await shop.run("list")
    assert done.exit_code == Exit.UNAVAILABLE
    assert "cannot be reached" in done.stderr
