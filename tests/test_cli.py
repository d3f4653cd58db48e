"""The command as a whole: help, exit codes, settings, remotes, and what is never let through to a terminal."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from poller import __version__
from poller.cli import COMMANDS, load, main
from poller.cli.outcome import Exit, code_of
from poller.cli.plain import safe, to_json
from poller.errors import ConfigurationError, PollerError, StoreDamaged, StoreLocked, StoreUnavailable
from tests.terminal import ROOT, on_terminal, run

SECRET = "canary-client-secret"
GRAFX = {"GRAFX_ENVIRONMENT": "acme", "GRAFX_CLIENT_ID": "someone", "GRAFX_CLIENT_SECRET": SECRET}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run where no .env lies about."""
    monkeypatch.chdir(tmp_path)


# --- The command as a whole ------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_is_quick(option):
    """Help and version load neither the network nor the drawing."""
    code = f"""
import sys
from poller.cli import main
try:
    main([{option!r}])
except SystemExit:
    heavy = {{"aiohttp", "rich", "asyncio", "tinydb", "structlog", "dotenv"}} & sys.modules.keys()
    sys.exit(f"loaded {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("Commands:" if option == "--help" else __version__) in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_table_of_commands_is_true(name):
    """Every command loads, says in its help what the table says, and has its examples or options explained."""
    command = load(name)
    assert isinstance(command, click.Command)
    assert (command.help or "").splitlines()[0] == COMMANDS[name].summary
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name
    assert run(name, "--help").exit_code == 0


def test_help_names_every_command():
    """The help lists the commands in the table's order, with their summaries."""
    listed = run("--help").stdout.partition("Commands:\n")[2]
    assert re.findall(r"^  ([a-z]+)  ", listed, re.MULTILINE) == list(COMMANDS)
    assert "Show the settings as they count, and where each came from." in listed


def test_python_m(tmp_path):
    """``python -m poller`` is the same command."""
    args = [sys.executable, "-m", "poller", "--version"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"poller, version {__version__}\n"


def test_usage():
    """What cannot be understood exits 2, and says what was probably meant."""
    wrong = run("lst")
    assert wrong.exit_code == Exit.USAGE
    assert "list" in wrong.stderr
    assert run("list", "--state", "lost").exit_code == Exit.USAGE
    assert run("list", "--sort", "size").exit_code == Exit.USAGE
    assert run("list", "--limit", "0").exit_code == Exit.USAGE
    assert run("add").exit_code == Exit.USAGE
    for context in ("novalue", "=x"):
        assert run("add", "T", "--context", context).exit_code == Exit.USAGE
    assert "'a' is given twice" in run("add", "T", "--context", "a=1", "--context", "a=2").stderr
    for url in ("localhost:8080", "ftp://x", "http://x/?q", "http://x#f"):
        assert run("list", "--url", url).exit_code == Exit.USAGE
    assert run("watch", "--interval", "soon").exit_code == Exit.USAGE
    assert run("sandbox", "--delay", "soon").exit_code == Exit.USAGE
    assert run("sandbox", "--token-life", "soon").exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 78),
        (StoreLocked("x"), 75),
        (StoreUnavailable("x"), 75),
        (StoreDamaged("x"), 1),
        (PollerError("x"), 1),
    ],
)
def test_exit_codes(error, code):
    """Every error of ours ends a command with the code that scripts expect."""
    assert code_of(error) == code


# --- Text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", ["\x1b[2J", "a\nb", "\r", "\x9b", "\u202e", "\u2028", "\udc80", "\u200b", "\x00", "\x7f"]
)
def test_nothing_moves_the_cursor(bad):
    """Neither a line nor JSON holds anything that a terminal obeys; JSON means the same as before."""
    assert safe(f"x{bad}y").isprintable()
    written = to_json({bad: [bad]}, indent=None)
    assert written.isprintable()
    assert json.loads(written) == {bad: [bad]}


def test_ordinary_text_stays():
    """Letters of the world are shown as they are."""
    assert safe("Bestellung für Zoë 注文 🎉") == "Bestellung für Zoë 注文 🎉"
    assert to_json("für 注文", indent=None) == '"für 注文"'


# --- Configuration ----------------------------------------------------------------------------------


def test_config():
    """Everything that counts is told with its source, and no secret with it."""
    done = run("config", **GRAFX, POLLER_PORT="9000", POLLER_PROT="1")
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert told["settings"]["POLLER_PORT"] == {"value": "9000", "source": "environment", "secret": False}
    assert told["settings"]["POLLER_HOST"] == {"value": "127.0.0.1", "source": "default", "secret": False}
    assert told["settings"]["GRAFX_CLIENT_SECRET"] == {"value": "***", "source": "environment", "secret": True}
    assert told["warnings"] == ["POLLER_PROT (environment) is not a setting; did you mean POLLER_PORT?"]
    assert told["problems"] == []
    assert done.stderr == f"Warning: {told['warnings'][0]}\n"
    assert "canary" not in done.output


def test_config_with_problems():
    """All problems come one a line, with what is known of the rest, and exit code 78."""
    done = run("config", POLLER_PORT="x", GRAFX_CLIENT_ID="someone")
    told = json.loads(done.stdout)
    assert done.exit_code == Exit.CONFIGURATION
    assert told["settings"]["GRAFX_ENVIRONMENT"]["source"] == "missing"
    assert [problem["setting"] for problem in told["problems"]] == [
        "POLLER_PORT",
        "GRAFX_ENVIRONMENT",
        "GRAFX_CLIENT_SECRET",
    ]
    lines = done.stderr.splitlines()
    assert lines[0] == "Error: 3 settings cannot be used"
    assert [line.split(":")[0] for line in lines[1:4]] == [
        "  POLLER_PORT",
        "  GRAFX_ENVIRONMENT",
        "  GRAFX_CLIENT_SECRET",
    ]
    assert lines[4].startswith("Hint: ")


def test_config_as_a_table():
    """For people it is a table."""
    drawn = run("config", "--table", **GRAFX).stdout
    assert re.search(r"^POLLER_PORT +8080 +default *$", drawn, re.MULTILINE)
    assert re.search(r"^GRAFX_CLIENT_SECRET +\*\*\* +environment *$", drawn, re.MULTILINE)


def test_env_file(tmp_path):
    """--env-file counts before POLLER_ENV_FILE, that before .env here; one that is missing exits 78."""
    for name, port in ((".env", 1), ("b.env", 2), ("c.env", 3)):
        (tmp_path / name).write_text(f"POLLER_PORT={port}\n")

    def port(*args: str, **environ: str) -> str:
        return json.loads(run(*args, "config", **GRAFX, **environ).stdout)["settings"]["POLLER_PORT"]["value"]

    assert port() == "1"
    assert port(POLLER_ENV_FILE="b.env") == "2"
    assert port("--env-file", "c.env", POLLER_ENV_FILE="b.env") == "3"
    for missing in (run("--env-file", "no.env", "config", **GRAFX), run("config", **GRAFX, POLLER_ENV_FILE="no.env")):
        assert missing.exit_code == Exit.CONFIGURATION
        assert "no.env: cannot be read: No such file" in missing.stderr


def test_run_with_problems():
    """The service does not start with settings that cannot be used, and says all that is wrong with them."""
    done = run("run", POLLER_PORT="x", POLLER_HOST="::")
    assert done.exit_code == Exit.CONFIGURATION
    named = ("POLLER_PORT", "POLLER_TOKEN", "GRAFX_ENVIRONMENT", "GRAFX_CLIENT_ID", "GRAFX_CLIENT_SECRET")
    assert all(f"  {name}: " in done.stderr for name in named)


# --- Remotes -----------------------------------------------------------------------------------------

PAGE = """
name = "acme"
title = "Acme \\u001b[31mred"
base = "{+ACME_URL}"
settings = { ACME_URL = "required" }
[check]
get\t= "x/{task_id}"
ready = "status == `200`"
[[file]]
path = "x/{task_id}/file"
"""


def test_remotes_list(tmp_path):
    """Shipped and configured remotes are listed, and which are in use."""
    (tmp_path / "acme.toml").write_text(PAGE)
    done = run("remotes", "list", POLLER_REMOTES="acme.toml")
    told = {remote["name"]: remote for remote in json.loads(done.stdout)["remotes"]}
    assert told["grafx"]["configured"] is False
    assert told["grafx"]["settings"][:3] == ["GRAFX_ENVIRONMENT", "GRAFX_CLIENT_ID", "GRAFX_CLIENT_SECRET"]
    assert (told["acme"]["configured"], told["acme"]["where"]) == (True, "acme.toml")
    drawn = run("remotes", "list", "--table", POLLER_REMOTES="acme.toml").stdout
    assert "\x1b[31m" not in drawn
    assert re.search(r"^grafx +CHILI GraFx +GRAFX_ENVIRONMENT", drawn, re.MULTILINE)


def test_remotes_show(tmp_path):
    """A page is printed as it is, to copy from."""
    page = (ROOT / "poller" / "remotes" / "grafx.toml").read_text()
    assert run("remotes", "show", "grafx").stdout == page
    (tmp_path / "acme.toml").write_text(PAGE)
    assert run("remotes", "show", "acme.toml").stdout == PAGE
    missing = run("remotes", "show", "graf")
    assert missing.exit_code == Exit.CONFIGURATION
    assert "there is no remote 'graf'" in missing.stderr


def test_remotes_check(tmp_path):
    """A page and its settings are checked without being configured, and all that is wrong is told."""
    path = tmp_path / "acme.toml"
    path.write_text(PAGE)
    good = run("remotes", "check", "acme.toml", ACME_URL="https://acme.example/api")
    assert (good.exit_code, json.loads(good.stdout)["base"]) == (0, "https://acme.example/api")
    said = run("remotes", "check", "acme.toml", "--table", ACME_URL="https://acme.example").stdout
    assert said.endswith("(acme) at https://acme.example: its page and its 1 settings are right\n")
    assert all(line.isprintable() for line in said.splitlines())
    assert said.startswith("asks about a task: GET https://acme.example/x/TASK_ID\n")
    unset = run("remotes", "check", "acme.toml")
    assert (unset.exit_code, "  ACME_URL: is required" in unset.stderr) == (Exit.CONFIGURATION, True)
    path.write_text(PAGE.replace("get\t=", "got =") + "typo = 1\n")
    wrong = run("remotes", "check", "acme.toml")
    assert wrong.exit_code == Exit.CONFIGURATION
    assert "acme.toml, line 7: check.got: is not known here" in wrong.stderr
    assert "typo" in wrong.stderr


# --- On a terminal -----------------------------------------------------------------------------------


def test_on_a_terminal():
    """On a terminal there is a table in colour; NO_COLOR takes the colour away; --json is JSON even there."""
    drawn, code = on_terminal("config", **GRAFX)
    assert code == 0
    assert "\x1b[1m" in drawn
    assert "POLLER_PORT" in drawn
    assert SECRET not in drawn
    told, _ = on_terminal("config", "--json", **GRAFX)
    assert json.loads(told)["settings"]["POLLER_PORT"]["value"] == "8080"


def test_prose_of_the_help(tmp_path: Path):
    """The examples in the help are commands that exist."""
    used = re.findall(r"^    poller ([a-z]+)", run("--help").stdout, re.MULTILINE)
    assert used
    assert set(used) <= set(main.commands)
