"""README is true: what can be made from the code is, and what can be run is run."""

import asyncio
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from poller import __version__
from poller.sandbox import Render, Sandbox
from tests import readme
from tests.service import command, shop

TEXT = readme.README.read_text(encoding="utf-8")


def test_made_parts_are_up_to_date() -> None:
    """Settings, states, map and examples are as the code has them (``python -m tests.readme`` writes them)."""
    assert readme.text(TEXT) == TEXT


def test_every_module_is_on_the_map() -> None:
    """No module is missing from the layers, so none from the map."""
    known = {name for layer in readme.layers() for name in layer}
    there = {path.stem for path in (readme.ROOT / "poller").iterdir() if path.suffix == ".py" or path.is_dir()}

    assert there - {"__init__", "__main__", "__pycache__"} == known


def test_causes_and_states_are_all_explained() -> None:
    """Whoever reads README knows every word that an order may show."""
    told = TEXT.partition("## What an order goes through")[2].partition("\n## ")[0]
    for word in [*readme.State, *readme.outcome.Cause]:
        assert f"`{word.value}`" in told


def test_ci_runs_the_test_command_of_readme() -> None:
    """There is one test command, and it is README's."""
    script = (readme.ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert "README.md" in script
    assert re.search(r"^<!-- test -->\n```sh\npython3 -m venv .*pytest.*\n```$", TEXT, re.MULTILINE)
    assert TEXT.count("--no-build-isolation") == 2  # else pip fetches what builds it without a hash
    assert re.search(r"^<!-- demo -->\n```sh\npython3 -m venv .*poller demo --once\n```$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_hashed_and_name_no_index(name) -> None:
    """Every requirement has one version and its hashes, and nothing says where it comes from."""
    text = (readme.ROOT / name).read_text(encoding="utf-8")
    entries = text.replace("\\\n", " ").splitlines()

    assert entries
    pinned_whole = re.compile(r"[\w.-]+(\[\w+\])?==\S+( ; [^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert all(pinned_whole.fullmatch(entry) for entry in entries)
    assert "://" not in text
    declared = tomllib.loads((readme.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = declared["dependencies"] + (declared["optional-dependencies"]["dev"] if "dev" in name else [])
    pinned = {re.split(r"==|\[", entry)[0].lower() for entry in entries}
    assert {re.split(r"[<>=\[]", each)[0].lower() for each in wanted} <= pinned


def test_changelog_is_kept() -> None:
    """There is a place for what has not been released, and the version is one of ours."""
    text = (readme.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert "## [Unreleased]" in text
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
async def test_the_curl_example_works(tmp_path) -> None:
    """Add, ask, fetch: as README shows it, but for the port."""
    await _run(tmp_path, "orders.sh", "bash", "-eu", "{}", port=True)

    assert list((tmp_path / "here").glob("task-1.pdf"))


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node on this machine")
async def test_the_node_example_works(tmp_path) -> None:
    """The module of README adds an order and finds its file."""
    (tmp_path / "try.mjs").write_text(
        "const orders = await import(process.argv[2]);\n"
        "const order = await orders.addOrder({ taskID: 'task-1', projectID: 'p-1' });\n"
        "if (order.context.projectID !== 'p-1') throw new Error(JSON.stringify(order));\n"
        "let path = null;\n"
        "while (!path) path = await orders.finishedFile('task-1');\n"
        "console.log(JSON.stringify({ path }));\n",
        encoding="utf-8",
    )
    told = await _run(tmp_path, "orders.mjs", "node", str(tmp_path / "try.mjs"), "{}")

    assert Path(json.loads(told)["path"]).stat().st_size == 1000


async def test_the_python_example_works(tmp_path) -> None:
    """The module of README adds an order and finds its file."""
    (tmp_path / "try.py").write_text(
        "import json, runpy, sys\n"
        "orders = runpy.run_path(sys.argv[1])\n"
        "assert orders['add_order']('task-1', projectID='p-1')['context'] == {'projectID': 'p-1'}\n"
        "path = None\n"
        "while path is None: path = orders['finished_file']('task-1')\n"
        "print(json.dumps({'path': path}))\n",
        encoding="utf-8",
    )
    told = await _run(tmp_path, "orders.py", sys.executable, str(tmp_path / "try.py"), "{}")

    assert Path(json.loads(told)["path"]).stat().st_size == 1000


async def _run(folder: Path, example: str, *arguments: str, port: bool = False) -> str:
    """Run an example of README in *folder*/here against a real poller and a stand-in GraFx."""
    sandbox = Sandbox()
    sandbox.start(Render(size=1000), "task-1")
    here = folder / "here"
    here.mkdir()
    async with sandbox.serving() as url, command(folder, sandbox.settings(url)) as poller, shop(poller.url) as hook:
        path = readme.EXAMPLES / example
        if port:  # the shell example names the default port, and fetches a file that must be there
            await hook.add("task-1", context={"projectID": "brochure-7"})
            await hook.rest("task-1")
            script = path.read_text(encoding="utf-8").replace("localhost:8080", poller.url)
            path = folder / example
            path.write_text(script, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(argument.format(path) for argument in arguments),
            cwd=here,
            env={**os.environ, "HOOK_URL": poller.url, "TASK_ID": "task-1"},
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
    assert process.returncode == 0, told
    return told.decode()
