"""What helps whoever writes a page, and the commands about tasks: the real commands, against real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from poller.cli import main
from poller.cli.outcome import Exit
from poller.errors import ConfigurationError
from poller.remotes.page import VERDICTS
from poller.remotes.reader import parse
from tests.test_family import KEY, PRESS, Press
from tests.workshop import Workshop, serving, workshop

SIGNED = "canary-signature"


def run(*arguments: str, **environ: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, list(arguments), env={"POLLER_REMOTES": "", **environ})


async def said(*arguments: str, **environ: str) -> Result:
    """Run a command beside this loop."""
    return await asyncio.to_thread(run, *arguments, **environ)


@asynccontextmanager
async def press(tmp_path: Path) -> AsyncIterator[tuple[Press, Workshop, dict[str, str]]]:
    """Run a press and a poller; give what a command needs to know of both."""
    remote = Press()
    async with serving(remote.routes()) as base:
        remote.base = base
        environ = {"PRESS_URL": base, "PRESS_KEY": KEY}
        async with workshop(tmp_path, f"{PRESS},medusa-v1", {**environ, "MEDUSA_URL": base, "MEDUSA_TOKEN": "k"}) as it:
            yield remote, it, environ


# --- a new page


def test_a_new_page_is_right_as_it_is(tmp_path: Path) -> None:
    """What is printed to be filled in can be checked at once, under any name."""
    printed = run("remotes", "new", "my-press")
    assert printed.exit_code == 0
    path = tmp_path / "my-press.toml"
    path.write_text(printed.stdout, encoding="utf-8")
    checked = run("remotes", "check", str(path), "--table", MY_PRESS_URL="https://x.example", MY_PRESS_KEY="k" * 9)
    assert checked.exit_code == 0, checked.output
    assert "asks about a task: GET https://x.example/api/exports/TASK_ID" in checked.stdout
    assert "its 3 examples come out as they say" in checked.stdout


def test_a_check_carries_out_the_examples(tmp_path: Path) -> None:
    """One that does not come out fails the check, and says how."""
    path = tmp_path / "press.toml"
    path.write_text(Path(PRESS).read_text(encoding="utf-8").replace('"tray 2"', '"tray 3"', 1), encoding="utf-8")
    checked = run("remotes", "check", str(path), PRESS_URL="https://x.example", PRESS_KEY=KEY)
    assert checked.exit_code == Exit.CONFIGURATION
    assert "example 2: gives reason = 'tray 3'" in checked.stderr


# --- trying it


async def test_a_trial_shows_every_step_and_no_secret(tmp_path: Path) -> None:
    """Requests, replies, expressions with their values, the verdict, what would be fetched; nothing is stored."""
    async with press(tmp_path) as (remote, it, environ):
        remote.phase["T1"] = "printed"
        tried = await said("remotes", "try", PRESS, "T1", "--table", **environ)
        assert tried.exit_code == 0
        for line in (
            f"GET {remote.base}/v2/jobs/T1, with credentials",
            "  < 200 after",
            '  check.word: body.job.phase\n      = "printed"',
            f"POST {remote.base}/v2/jobs/T1/links, with credentials",
            "verdict: ready",
            f"  would fetch {remote.base}/files/T1.pdf without credentials; its name ends by its type",
        ):
            assert line in tried.stdout
        assert KEY not in tried.output
        assert SIGNED not in tried.output
        assert await it.shop.orders() == {}
        told = json.loads((await said("remotes", "try", PRESS, "T1", **environ)).stdout)
        assert [each["status"] for each in told["exchanges"]] == [200, 200]
        assert (told["verdict"], told["files"][0]["credentials"]) == ("ready", False)
        remote.phase["T2"] = "jammed"
        failed = await said("remotes", "try", PRESS, "T2", "--table", "--context", "a=b", **environ)
        assert "verdict: failed\n  reason: tray 2\n" in failed.stdout
        absent = await said("remotes", "try", PRESS, "T9", "--table", **environ)
        assert "verdict: absent" in absent.stdout
        assert absent.exit_code == 0


async def test_a_trial_says_what_stands_in_the_way(tmp_path: Path) -> None:
    """Nobody answers, or somebody who lets nobody in, or expressions that cannot be computed."""
    nobody = await said("remotes", "try", PRESS, "T1", "--table", PRESS_URL="http://127.0.0.1:9", PRESS_KEY=KEY)
    assert nobody.exit_code == Exit.UNAVAILABLE
    assert "no reply: cannot connect" in nobody.stdout

    async def no(request: web.Request) -> web.Response:
        return web.Response(status=401)

    async def odd(request: web.Request) -> web.Response:
        return web.json_response({"n": "x" * 3000})

    path = tmp_path / "odd.toml"
    path.write_text(
        'name = "odd"\nbase = "{+ODD_URL}"\nsettings = { ODD_URL = "required" }\n[auth]\nbearer = "x"\n'
        '[check]\npost = "t/{task_id}"\njson = { a = "{task_id}" }\ndone = "length(body.n) > body.n"\n'
    )
    async with serving({"POST /t/no": no, "POST /t/odd": odd}) as base:
        locked = await said("remotes", "try", str(path), "no", "--table", ODD_URL=base)
        assert (locked.exit_code, "verdict: locked" in locked.stdout) == (Exit.CONFIGURATION, True)
        told = await said("remotes", "try", str(path), "odd", "--table", ODD_URL=base)
        assert '  > {"a":"odd"}' in told.stdout
        assert "check.done: length(body.n) > body.n\n      ! " in told.stdout
        unsafe = await said("remotes", "try", PRESS, "..", "--table", PRESS_URL=base, PRESS_KEY=KEY)
        assert "verdict: unsafe" in unsafe.stdout
    unset = await said("remotes", "try", PRESS, "T1")
    assert unset.exit_code == Exit.CONFIGURATION
    assert "PRESS_URL: is required" in unset.stderr


# --- tasks


async def test_tasks_are_started_from_the_command_line(tmp_path: Path) -> None:
    """Inputs are text, JSON or files; what the remote does not take is told with what was meant."""
    async with press(tmp_path) as (remote, it, _):
        (tmp_path / "t.txt").write_text("from a file")
        url = ("--url", it.url)
        started = await said("start", "press", "--input", "template=flyer", "--input", "copies=3", "--batch", "B", *url)
        assert (started.exit_code, started.stdout) == (0, "J1 of press is pending\n")
        told = await said("start", "press", "--input", f"template=@{tmp_path}/t.txt", "--json", *url)
        assert json.loads(told.stdout)["task_id"] == "J2"
        assert remote.started == [{"template": "flyer", "copies": 3}, {"template": "from a file", "copies": 1}]
        wrong = await said("start", "press", "--input", "templat=x", *url)
        assert wrong.exit_code == Exit.FAILED
        assert "input.templat: is not known; did you mean 'template'?" in wrong.stderr
        for bad in ("x", "=x"):
            assert (await said("start", "press", "--input", bad, *url)).exit_code == Exit.USAGE
        assert (await said("start", "press", "--input", "a=1", "--input", "a=2", *url)).exit_code == Exit.USAGE
        assert (await said("start", "press", "--input", "a=@/nowhere", *url)).exit_code == Exit.USAGE
        batch = await said("batch", "B", "--table", *url)
        assert batch.stdout.startswith("B is pending: 1 pending; ")
        assert batch.stdout.endswith("\n  J1 of press is pending\n")
        assert json.loads((await said("batch", "B", *url)).stdout)["total"] == 1
        assert (await said("batch", "none", *url)).exit_code == Exit.FAILED


async def test_tasks_are_found_from_the_command_line(tmp_path: Path) -> None:
    """Listed, or made orders of."""
    jobs = [{"id": f"b{number}", "type": "product-export", "status": "completed"} for number in range(3)]

    async def listed(request: web.Request) -> web.Response:
        return web.json_response({"batch_jobs": jobs})

    async def other(request: web.Request) -> web.Response:
        return web.json_response({"batch_job": {"status": "processing"}})

    routes: dict[str, Any] = {"GET /admin/batch-jobs": listed, "GET /admin/batch-jobs/{id}": other}
    async with (
        serving(routes) as base,
        workshop(tmp_path, "medusa-v1", {"MEDUSA_URL": base, "MEDUSA_TOKEN": "k"}) as it,
    ):
        url = ("--url", it.url)
        found = await said("discover", "medusa-v1", "--table", *url)
        assert found.stdout == "b0  no order\nb1  no order\nb2  no order\n3 tasks\n"
        assert len(json.loads((await said("discover", "medusa-v1", "--limit", "2", *url)).stdout)["tasks"]) == 2
        few = await said("discover", "medusa-v1", "--limit", "2", "--table", *url)
        assert few.stdout.endswith("2 tasks; there are more\n")
        made = await said("discover", "medusa-v1", "--add", "--batch", "B", "--limit", "1", "--table", *url)
        assert made.stdout == "b0 of medusa-v1 is pending\n1 new, 0 known; there are more\n"
        assert json.loads((await said("discover", "medusa-v1", "--add", *url)).stdout)["known"] == 1
        assert (await said("discover", "medusa-v1", "--batch", "B", *url)).exit_code == Exit.USAGE
        assert (await said("discover", "nobody", *url)).exit_code == Exit.FAILED


@pytest.mark.parametrize("table", [True, False])
def test_remotes_that_packages_bring_are_listed(table: bool) -> None:
    """The shipped ones, and what is configured."""
    listed = run("remotes", "list", "--table" if table else "--json", POLLER_REMOTES="saleor")
    assert listed.exit_code == 0
    assert "medusa-v2" in listed.stdout


def test_the_language_is_told_whole() -> None:
    """Every key that a page can have is in what ``remotes language`` prints, and the words of verdicts too."""
    told = run("remotes", "language").stdout
    known = set(VERDICTS)
    for text in (
        "",
        "[auth]\nx = 1\n",
        "[check]\nx = 1\n",
        "[[file]]\nx = 1\n",
        "[nudge]\nx = 1\n",
        "[discover]\nx = 1\n",
    ):
        for more in (
            "",
            "[auth.oauth2]\nx = 1\n",
            "[auth.login]\nx = 1\n",
            "[auth.hs256]\nx = 1\n",
            "[limits]\nx = 1\n",
        ):
            if text.startswith("[auth]") and more.startswith("[auth"):
                continue
            with pytest.raises(ConfigurationError) as raised:
                parse(
                    f"y = 1\n{text}{more}[start]\nx = 1\n[feed]\nx = 1\n[[after.done]]\nx = 1\n[[example]]\nx = 1\n",
                    where="x",
                )
            for _, problem in raised.value.problems:
                known |= set(problem.partition("; known are ")[2].split(", ")) if "; known are " in problem else set()
    assert len(known) > 90
    assert sorted(word for word in known if word and word not in told) == []


async def test_a_trial_shows_that_there_was_a_login_and_not_its_token(tmp_path: Path) -> None:
    """Neither in what is computed nor in what comes back; a cookie that is set is masked, too."""
    token = "canary-issued-token"

    async def login(request: web.Request) -> web.Response:
        return web.json_response({"token": token})

    async def task(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {token}"
        return web.json_response({"ok": 1}, headers={"Set-Cookie": "sid=canary-cookie"})

    path = tmp_path / "odd.toml"
    path.write_text(
        'name = "odd"\nbase = "{+ODD_URL}"\nsettings = { ODD_URL = "required", ODD_KEY = "secret" }\n'
        '[auth.login]\npost = "login"\njson = { key = "{ODD_KEY}" }\ntoken = "body.token"\n'
        '[check]\nget = "t?no={task_id}&key={ODD_KEY}"\ndone = "body.ok"\n'
    )
    async with serving({"POST /login": login, "GET /t": task}) as base:
        for form in ("--table", "--json"):
            tried = await said("remotes", "try", str(path), "T1", form, ODD_URL=base, ODD_KEY="canary-key")
            assert tried.exit_code == 0
            assert "canary-" not in tried.output
            assert 0 < tried.stdout.index("/login") < tried.stdout.index("/t?no=T1")
            assert "/t?no=T1&key=***" in tried.stdout
