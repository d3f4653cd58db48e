"""Settings: where they come from, what is refused, what is only doubted, and what is never shown."""

import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from poller import remotes, settings
from poller.errors import ConfigurationError
from poller.settings import manual
from poller.settings.table import TABLE

ROOT = Path(__file__).parents[1]
SECRET = "canary-client-secret"
GRAFX = {"GRAFX_ENVIRONMENT": "acme", "GRAFX_CLIENT_ID": "someone", "GRAFX_CLIENT_SECRET": SECRET}
TOKEN = "canary-token-0123456789"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - judged here, bound by nobody


def problems(environ: dict[str, str], env_file: Path | None = None) -> dict[str, str]:
    """Read settings that cannot be used; give what is wrong with each."""
    with pytest.raises(ConfigurationError) as caught:
        settings.load(environ, env_file)
    assert len(caught.value.problems) == len(dict(caught.value.problems)), "a setting is named twice"
    return dict(caught.value.problems)


def source(environ: dict[str, str], name: str, env_file: Path | None = None) -> tuple[str, str]:
    """Tell what counts for one setting, and where it came from."""
    seen = settings.load({**GRAFX, **environ}, env_file).provenance[name]
    return seen.value, seen.source


@pytest.fixture
def env_file(tmp_path):
    """An env file that only its owner can read."""

    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "test.env"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write


# --- Values ----------------------------------------------------------------------------------


def test_defaults():
    """With a remote's own three settings and nothing else, everything has its documented default."""
    chosen = settings.load(GRAFX)
    assert [remote.name for remote in chosen.remotes] == ["grafx"]
    assert str(chosen.remotes[0].base) == "https://acme.chili-publish.online"
    seen = {field: getattr(chosen, field) for field in chosen.__struct_fields__[1:-3]}
    assert seen == {
        "orders_dir": Path("orders"),
        "store": "orders.json",
        "host": "127.0.0.1",
        "port": 8080,
        "token": "",
        "allowed_hosts": (),
        "allowed_origins": (),
        "filename": "{task_id}{ext}",
        "interval_min": 1.0,
        "interval_max": 60.0,
        "deadline": 7 * 86400.0,
        "attempts": 20,
        "checks": 64,
        "downloads": 8,
        "connections": 0,
        "requests_per_minute": 0,
        "max_file_bytes": 10 * 2**30,
        "disk_reserve": 2**30,
        "idle_timeout": 30.0,
        "floor_rate": 1024,
        "max_pending": 1_000_000,
        "retention": 30 * 86400.0,
        "lease": 60.0,
        "grace": 25.0,
        "log_format": "auto",
    }
    assert chosen.secrets == (SECRET,)
    assert chosen.warnings == ()


def test_every_field_has_a_setting():
    """The table and the struct name the same things, so that neither can be forgotten."""
    fields = set(settings.Settings.__struct_fields__) - {"secrets", "warnings", "provenance"}
    assert {setting.field for setting in TABLE} == fields


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("POLLER_PORT", "0", 0),
        ("POLLER_CONNECTIONS", "2", 2),
        ("POLLER_REQUESTS_PER_MINUTE", "0", 0),
        ("POLLER_REQUESTS_PER_MINUTE", "600", 600),
        ("POLLER_PORT", " 9000 ", 9000),
        ("POLLER_HOST", "[::1]", "::1"),
        ("POLLER_HOST", "localhost", "localhost"),
        ("POLLER_INTERVAL_MIN", "10ms", 0.01),
        ("POLLER_DEADLINE", "90", 90.0),
        ("POLLER_MAX_FILE_BYTES", "1MB", 10**6),
        ("POLLER_DISK_RESERVE", "0", 0),
        ("POLLER_ALLOWED_HOSTS", "shop.local, 10.0.0.7,", ("shop.local", "10.0.0.7")),
        (
            "POLLER_ALLOWED_ORIGINS",
            "https://Shop.example,http://[::1]:3000",
            ("https://shop.example", "http://[::1]:3000"),
        ),
        ("POLLER_FILENAME", "{batch}/{task_id}", "{batch}/{task_id}"),
        ("POLLER_ORDERS_DIR", "/srv/Aufträge", Path("/srv/Aufträge")),
        ("POLLER_LOG_FORMAT", "json", "json"),
        ("POLLER_TOKEN", TOKEN, TOKEN),
    ],
)
def test_values(name, text, value):
    """Values are read as people write them."""
    chosen = settings.load({**GRAFX, name: text})
    assert getattr(chosen, name.removeprefix("POLLER_").lower()) == value


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("POLLER_PORT", "65536", "whole number from 0 to 65535"),
        ("POLLER_PORT", "-1", "whole number"),
        ("POLLER_PORT", "٣", "whole number"),
        ("POLLER_PORT", "9" * 5000, "whole number"),
        ("POLLER_PORT", "tcp://10.0.0.1:8080", "enableServiceLinks"),
        ("POLLER_HOST", "127.0.0.1:80", "without a port"),
        ("POLLER_HOST", "http://x", "neither"),
        ("POLLER_CHECKS", "0", "whole number from 1"),
        ("POLLER_DOWNLOADS", "many", "whole number from 1"),
        ("POLLER_CONNECTIONS", "1", "whole number from 2"),
        ("POLLER_REQUESTS_PER_MINUTE", "-1", "whole number from 0"),
        ("POLLER_REQUESTS_PER_MINUTE", "1e3", "whole number from 0"),
        ("POLLER_ATTEMPTS", "1.5", "whole number"),
        ("POLLER_MAX_FILE_BYTES", "0", "more than nothing"),
        ("POLLER_MAX_FILE_BYTES", "10 Gigs", "a size such as"),
        ("POLLER_DISK_RESERVE", "-1GiB", "a size such as"),
        ("POLLER_INTERVAL_MIN", "9ms", "too short"),
        ("POLLER_INTERVAL_MIN", "soon", "a duration such as"),
        ("POLLER_DEADLINE", "0", "too short"),
        ("POLLER_RETENTION", "11000d", "longer than ten years"),
        ("POLLER_FILENAME", "file{ext}", "lacks {task_id}"),
        ("POLLER_FILENAME", "../{task_id}", "climb"),
        ("POLLER_FILENAME", "{taskid}", "unknown field"),
        ("POLLER_STORE", "postgresql://db/x", "postgresql:// is not supported"),
        ("POLLER_ORDERS_DIR", "s3://bucket/x", "s3:// is not supported"),
        ("POLLER_LOG_FORMAT", "xml", "not one of auto, json, console"),
        ("POLLER_ALLOWED_HOSTS", "shop local", "neither"),
        ("POLLER_ALLOWED_ORIGINS", "shop.example", "no origin"),
        ("POLLER_ALLOWED_ORIGINS", "https://shop.example/", "give https://shop.example"),
        ("POLLER_REMOTES", ",", "names no remote"),
        ("POLLER_REMOTES", "graf", "there is no remote 'graf'"),
        ("POLLER_REMOTES", "nowhere.toml", "cannot be read"),
        ("POLLER_ORDERS_DIR", "a\x1bb", "control character"),
        ("POLLER_HOST", "127.0.0.1\u00a0", "a space that is none"),
    ],
)
def test_refused_values(name, text, complaint):
    """What cannot be meant is refused, with the setting's name and what to write instead."""
    assert complaint in problems({**GRAFX, name: text})[name]


def test_all_problems_at_once():
    """Everything that is wrong is told in one go, a remote's own settings included."""
    found = problems(
        {"POLLER_PORT": "x", "POLLER_HOST": EVERYWHERE, "POLLER_CHECKS": "0", "GRAFX_CLIENT_ID": "someone"}
    )
    assert set(found) == {
        "POLLER_PORT",
        "POLLER_TOKEN",
        "POLLER_CHECKS",
        "GRAFX_ENVIRONMENT",
        "GRAFX_CLIENT_SECRET",
    }


# --- Rules that join settings -------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST."])
def test_loopback_needs_no_token(host):
    """Whoever is on this machine is trusted."""
    assert settings.load({**GRAFX, "POLLER_HOST": host}).token == ""


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "10.0.0.7", "shop.local", "localhost.example"])
def test_others_need_a_token(host):
    """Nobody can listen to the world without a token, and only then."""
    assert "not loopback" in problems({**GRAFX, "POLLER_HOST": host})["POLLER_TOKEN"]
    assert settings.load({**GRAFX, "POLLER_HOST": host, "POLLER_TOKEN": TOKEN}).host == host


@pytest.mark.parametrize("token", ["short-canary-15", "canary with spaces in it", "canary-ütoken-0123456789"])
def test_bad_tokens_are_not_repeated(token):
    """A token that can be guessed or cannot be sent is refused, and the complaint does not quote it."""
    with pytest.raises(ConfigurationError) as caught:
        settings.load({**GRAFX, "POLLER_TOKEN": token})
    assert dict(caught.value.problems).keys() == {"POLLER_TOKEN"}
    assert "canary" not in f"{caught.value} {caught.value.problems} {caught.value.hint}"


def test_intervals_in_order():
    """The shortest wait is not longer than the longest."""
    assert "longer than" in problems({**GRAFX, "POLLER_INTERVAL_MIN": "2m"})["POLLER_INTERVAL_MIN"]


PAGE = """
name = "{name}"
base = "{{+ACME_URL}}"
settings = {{ ACME_URL = "required", ACME_KEY = "secret" }}
[check]
get = "x/{{task_id}}"
ready = "status == `200`"
[[file]]
path = "x/{{task_id}}/file"
"""


def page(folder: Path, name: str, text: str = PAGE) -> str:
    """Write a remote's page; give its path."""
    path = folder / f"{name}.toml"
    path.write_text(text.format(name=name))
    return str(path)


def test_several_remotes(tmp_path):
    """Each remote brings its own settings; file names must tell them apart."""
    acme = {"ACME_URL": "https://acme.example", "ACME_KEY": "canary-key"}
    environ = {**GRAFX, **acme, "POLLER_REMOTES": f"grafx,{page(tmp_path, 'acme')}"}
    assert "{remote}" in problems(environ)["POLLER_FILENAME"]
    chosen = settings.load({**environ, "POLLER_FILENAME": "{remote}/{task_id}{ext}"})
    assert [remote.name for remote in chosen.remotes] == ["grafx", "acme"]
    assert chosen.secrets == (SECRET, "canary-key")


def test_remotes_of_one_name(tmp_path):
    """Two remotes of one name could not be told apart, whatever their pages are called."""
    other = tmp_path / "other"
    other.mkdir()
    pages = f"{page(tmp_path, 'acme')},{page(other, 'acme')}"
    environ = {"ACME_URL": "https://a.example", "ACME_KEY": "k", "POLLER_FILENAME": "{remote}{task_id}"}
    assert "several remotes named acme" in problems({**environ, "POLLER_REMOTES": pages})["POLLER_REMOTES"]


def test_problems_of_a_page_are_told_with_the_rest(tmp_path):
    """A page that cannot be read, a remote that cannot be bound and a bad port come in one report."""
    bad = page(tmp_path, "bad", "nonsense = 1\n")
    good = page(tmp_path, "acme")
    environ = {"POLLER_REMOTES": f"{bad},{good}", "ACME_KEY": "k", "ACME_URL": "ftp://x", "POLLER_PORT": "x"}
    with pytest.raises(ConfigurationError) as caught:
        settings.load({**environ, "POLLER_FILENAME": "{remote}{task_id}"})
    found = dict(caught.value.problems)
    assert any(at.startswith(f"{bad}, line ") and at.endswith(": nonsense") for at in found)
    assert "is no address" in found["ACME_URL"]
    assert "POLLER_PORT" in found


# --- Where they come from -----------------------------------------------------------------------


def test_precedence(tmp_path, env_file):
    """The environment counts before NAME_FILE, that before the env file, that before the default."""
    secret = tmp_path / "secret"
    secret.write_text("127.0.0.3\n")
    file = env_file("POLLER_HOST=127.0.0.4\n")
    name = "POLLER_HOST"
    assert source({}, name) == ("127.0.0.1", "default")
    assert source({}, name, file) == ("127.0.0.4", str(file))
    assert source({name: ""}, name, file) == ("127.0.0.4", str(file)), "empty is the same as not given"
    assert source({"POLLER_HOST_FILE": str(secret)}, name, file) == ("127.0.0.3", "POLLER_HOST_FILE")
    assert source({name: "127.0.0.2"}, name, file) == ("127.0.0.2", "environment")
    assert source({name: "127.0.0.2"}, name, env_file(f"POLLER_HOST_FILE={secret}\n")) == ("127.0.0.2", "environment")
    assert source({}, name, env_file(f"POLLER_HOST_FILE={secret}\n")) == ("127.0.0.3", "POLLER_HOST_FILE")


def test_the_same_goes_for_a_remotes_settings(tmp_path, env_file):
    """A remote's secret may come from a mounted file, its name from the env file."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\r\n")
    file = env_file("GRAFX_ENVIRONMENT=acme\nGRAFX_CLIENT_ID=someone\n")
    chosen = settings.load({"GRAFX_CLIENT_SECRET_FILE": str(secret)}, file)
    assert chosen.secrets == (SECRET,)
    assert chosen.provenance["GRAFX_CLIENT_SECRET"].source == "GRAFX_CLIENT_SECRET_FILE"
    assert chosen.provenance["GRAFX_ENVIRONMENT"].source == str(file)
    assert chosen.provenance["GRAFX_BASE_URL"].value == "https://acme.chili-publish.online"
    assert chosen.provenance["GRAFX_BASE_URL"].source == "default"


def test_given_twice(env_file):
    """A value and a file with the value, side by side, are a mistake that would pick one of them in silence."""
    both = {"POLLER_TOKEN": TOKEN, "POLLER_TOKEN_FILE": "/x", "GRAFX_CLIENT_ID_FILE": "/y"}
    found = problems({**GRAFX, **both})
    assert set(found) == {"POLLER_TOKEN", "GRAFX_CLIENT_ID"}
    assert "given twice in environment" in found["POLLER_TOKEN"]
    assert TOKEN not in str(found)
    assert "given twice in" in problems(GRAFX, env_file("POLLER_PORT=1\nPOLLER_PORT_FILE=/x\n"))["POLLER_PORT"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "not UTF-8")],
)
def test_secret_files_that_are_none(tmp_path, content, complaint):
    """A mounted secret that is missing or empty stops the start, and never counts as no secret."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    found = problems({**GRAFX, "POLLER_HOST": EVERYWHERE, "POLLER_TOKEN_FILE": str(path)})
    assert found.keys() == {"POLLER_TOKEN"}
    assert complaint in found["POLLER_TOKEN"]
    assert str(path) in found["POLLER_TOKEN"]


def test_dollars_stay(env_file):
    """Nothing in an env file is expanded: a secret with a dollar in it is that secret."""
    odd = "a${HOME}b$HOME'c"
    chosen = settings.load({}, env_file(f"GRAFX_ENVIRONMENT=acme\nGRAFX_CLIENT_ID=x\nGRAFX_CLIENT_SECRET={odd}\n"))
    assert chosen.secrets == (odd,)


def test_the_environment_is_left_alone(env_file):
    """Reading an env file puts nothing into this process's environment, where children would find it."""
    before = dict(os.environ)
    settings.load(GRAFX, env_file("POLLER_TOKEN=canary-token-0123456789\n"))
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("A=1\n\n# note\n\nPOLLER_PORT\n", 5, "has no value"),
        ("A=1\n  POLLER_PORT\n", 2, "has no value"),
        ("A=1\n\n\nPOLLER_TOKEN='open\nB=2\n", 4, "not NAME=value"),
        ("=1\n", 1, "not NAME=value"),
    ],
)
def test_bad_lines(env_file, text, line, complaint):
    """A line of the env file that says nothing is named by its number."""
    file = env_file(text)
    assert complaint in problems(GRAFX, file)[f"{file}, line {line}"]


def test_a_bad_line_does_not_hide_the_others(env_file, caplog):
    """What stands beside a bad line still counts, so that one report has it all, and nobody else logs about it."""
    file = env_file("POLLER_PORT=x\n'oops\nPOLLER_CHECKS=0\n")
    assert set(problems(GRAFX, file)) == {f"{file}, line 2", "POLLER_PORT", "POLLER_CHECKS"}
    assert caplog.records == []


def test_env_file_that_is_none(tmp_path):
    """An env file that was asked for must be there and be text."""
    missing = tmp_path / "missing.env"
    assert "No such file" in problems(GRAFX, missing)[str(missing)]
    assert "Is a directory" in problems(GRAFX, tmp_path)[str(tmp_path)]
    binary = tmp_path / "binary.env"
    binary.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in problems(GRAFX, binary)[str(binary)]


def test_locate(tmp_path, monkeypatch):
    """The file that somebody names counts, then the one here; no folder above is searched."""
    (tmp_path / ".env").write_text("")
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert settings.locate({}, None) is None
    monkeypatch.chdir(tmp_path)
    assert settings.locate({}, None) == Path(".env")
    assert settings.locate({"PYTHON_DOTENV_DISABLED": "1"}, None) is None
    assert settings.locate({"POLLER_ENV_FILE": "/etc/poller.env"}, None) == Path("/etc/poller.env")
    assert settings.locate({"POLLER_ENV_FILE": "/etc/poller.env"}, Path("mine.env")) == Path("mine.env")


def test_disabled(env_file):
    """PYTHON_DOTENV_DISABLED turns env files off, as it does everywhere, and that is said."""
    file = env_file("POLLER_PORT=1\n")
    chosen = settings.load({**GRAFX, "PYTHON_DOTENV_DISABLED": "True"}, file)
    assert chosen.port == 8080
    assert chosen.warnings == (f"{file} is not read: PYTHON_DOTENV_DISABLED is set",)


# --- What is only doubted -----------------------------------------------------------------------


def test_unknown_names(env_file):
    """A misspelt name is told, with what was probably meant; names of others are nobody's business."""
    file = env_file("POLLER_CHECK=3\nPOLLER_ENV_FILE=x\nSHOP_PORT=1\n")
    environ = {
        **GRAFX,
        "POLLER_PROT": "1",
        "GRAFX_CLIENT": "x",
        "POLLER_TOKEN_FIEL": "x",
        "GRAFXX": "x",
        "POLLER_QQQ": "x",
    }
    warnings = settings.load(environ, file).warnings
    assert warnings == (
        "POLLER_PROT (environment) is not a setting; did you mean POLLER_PORT?",
        "GRAFX_CLIENT (environment) is not a setting; did you mean GRAFX_CLIENT_ID?",
        "POLLER_TOKEN_FIEL (environment) is not a setting; did you mean POLLER_TOKEN?",
        "POLLER_QQQ (environment) is not a setting",
        f"POLLER_CHECK ({file}) is not a setting; did you mean POLLER_CHECKS?",
        f"POLLER_ENV_FILE in {file} has no effect; set it in the environment",
    )


def test_known_names_are_not_doubted(tmp_path):
    """What poller itself reads, and what Kubernetes adds beside a Service called poller, is in order."""
    secret = tmp_path / "secret"
    secret.write_text(TOKEN)
    kubernetes = {"POLLER_SERVICE_HOST": "10.0.0.1", "POLLER_SERVICE_PORT": "80", "POLLER_PORT_80_TCP_ADDR": "10.0.0.1"}
    environ = {**GRAFX, **kubernetes, "POLLER_ENV_FILE": "x", "POLLER_TOKEN_FILE": str(secret)}
    assert settings.load(environ).warnings == ()


def test_env_file_that_others_can_read(env_file):
    """Secrets that others can read are told of; without secrets in it a file may be as open as it likes."""
    secret = f"GRAFX_CLIENT_SECRET={SECRET}\n"
    (warning,) = settings.load(GRAFX, env_file(secret, 0o644)).warnings
    assert "chmod 600" in warning
    assert settings.load(GRAFX, env_file(secret, 0o600)).warnings == ()
    assert settings.load(GRAFX, env_file("POLLER_PORT=1\n", 0o644)).warnings == ()


def test_doubled_lines(env_file):
    """Of a name that stands twice in the env file the last counts, and that is said."""
    file = env_file("POLLER_PORT=1\n\nPOLLER_PORT=2\n")
    chosen = settings.load(GRAFX, file)
    assert chosen.port == 2
    assert chosen.warnings == (f"{file} has POLLER_PORT in lines 1 and 3; the last one counts",)


def test_store_among_the_files(tmp_path):
    """A store in the folder of finished files would be mixed up with them."""
    (warning,) = settings.load({**GRAFX, "POLLER_STORE": "orders/x/orders.json"}).warnings
    assert "keep it apart" in warning


# --- What is never shown ------------------------------------------------------------------------


def test_secrets_are_never_shown():
    """Neither the settings' own words nor rich's nor their provenance hold a secret."""
    chosen = settings.load({**GRAFX, "POLLER_TOKEN": TOKEN})
    console = Console(width=1000)
    with console.capture() as capture:
        console.print(chosen)
    shown = f"{chosen!r} {chosen} {capture.get()} {dict(chosen.provenance)}"
    assert "canary" not in shown
    assert "POLLER_TOKEN='***'" in repr(chosen)
    assert chosen.token == TOKEN
    assert set(chosen.secrets) == {TOKEN, SECRET}


def test_settings_do_not_change():
    """Nobody can change a setting behind another's back."""
    with pytest.raises(AttributeError):
        settings.load(GRAFX).port = 1


# --- Parts of them --------------------------------------------------------------------------------


def test_some():
    """A command that only speaks to the hook needs no remote to be configured."""
    assert settings.some({"POLLER_PORT": "9", "POLLER_CHECKS": "x"}, None, "port", "token") == {"port": 9, "token": ""}
    with pytest.raises(ConfigurationError, match="a setting cannot be used"):
        settings.some({"POLLER_PORT": "x"}, None, "port")


def test_examine_tells_what_counts_despite_problems():
    """Whoever looks for a mistake sees all that was read beside it."""
    seen = settings.examine({**GRAFX, "POLLER_PORT": "x", "POLLER_HOST": "::1"})
    assert seen.settings is None
    assert dict(seen.problems).keys() == {"POLLER_PORT"}
    assert (seen.provenance["POLLER_HOST"].value, seen.provenance["POLLER_PORT"].value) == ("::1", "x")


def test_remote(tmp_path):
    """One remote can be tried without being configured; all its problems are told."""
    bound, provenance = settings.remote(
        {"ACME_URL": "https://a.example", "ACME_KEY": "k"}, None, page(tmp_path, "acme")
    )
    assert (bound.name, set(provenance)) == ("acme", {"ACME_URL", "ACME_KEY"})
    with pytest.raises(ConfigurationError) as caught:
        settings.remote({}, None, page(tmp_path, "acme"))
    assert dict(caught.value.problems).keys() == {"ACME_URL", "ACME_KEY"}


# --- What is written about them elsewhere -----------------------------------------------------------


def test_example_is_up_to_date():
    """.env.example says what the code says: write it anew with manual.example()."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == manual.example()


def test_example_is_complete():
    """Every setting is in .env.example, each under its reason."""
    blocks = manual.example().split("\n\n")[1:]
    names = [setting.name for setting in TABLE]
    theirs = {name for page in map(remotes.page, remotes.shipped()) for name in page.settings}
    listed = [block.splitlines()[-1].partition("=")[0] for block in blocks]
    assert listed[: len(names)] == names
    assert sorted(listed[len(names) :]) == sorted(theirs)
    assert all(len(line) > 10 for block in blocks for line in block.splitlines()[:1])
    assert all(block.startswith("# ") for block in blocks)


def test_example_means_the_same_to_docker_and_systemd():
    """Only what dotenv, docker --env-file and systemd's EnvironmentFile= read alike is in .env.example."""
    for line in manual.example().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[A-Z][A-Z0-9_]*=[^\s'\"#$\\]*", line), line


def test_example_works_unchanged(env_file):
    """Loading .env.example as it is, with the remote's three values, gives the defaults and no warning."""
    file = env_file(manual.example(), 0o644)
    chosen = settings.load(GRAFX, file)
    plain = settings.load(GRAFX)
    assert chosen.warnings == ()
    for field in settings.Settings.__struct_fields__[1:-1]:
        assert getattr(chosen, field) == getattr(plain, field), field
    assert chosen.remotes[0].origins == plain.remotes[0].origins


def test_readme_table():
    """The README's table has a row of three cells for every setting, and no cell breaks it."""
    head, rule, *rows = manual.table().splitlines()
    assert (head, rule) == ("| setting | default | |", "| --- | --- | --- |")
    assert [row.split("`")[1] for row in rows[: len(TABLE)]] == [setting.name for setting in TABLE]
    assert all(row.count("|") == 4 for row in rows)
    assert "| `POLLER_PORT` | `8080` |" in manual.table()
    assert len(rows) == len(TABLE)


def test_readme_catalogue():
    """The README lists every remote we ship, what it can do, and its settings."""
    head, _, *rows = manual.catalogue().splitlines()
    assert head == "| remote | | can | settings |"
    assert [row.split("`")[1] for row in rows] == list(remotes.shipped())
    assert all(row.count("|") == 5 for row in rows)
    [medusa] = [row for row in rows if "`medusa-v1`" in row]
    assert "start, confirm, cancel, discover" in medusa


def test_addresses_and_misspelt_names_are_told_beside_what_is_missing() -> None:
    """One start is enough to see everything that is wrong."""
    environ = {"GRAFX_BASE_URL": "ftp://x", "GRAFX_TOKEN_URL": "zzz", "POLLER_INTERVALL_MAX": "5s"}
    with pytest.raises(ConfigurationError) as raised:
        settings.load(environ)
    told = "\n".join(f"{name}: {why}" for name, why in raised.value.problems)

    for name in ("GRAFX_ENVIRONMENT", "GRAFX_CLIENT_SECRET", "GRAFX_BASE_URL", "GRAFX_TOKEN_URL"):
        assert f"{name}: " in told
    assert "did you mean POLLER_INTERVAL_MAX" in told
