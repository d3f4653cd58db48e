"""What is left out of the coverage, and that nothing else is."""

import subprocess
import sys
from pathlib import Path

import coverage

LINES = """\
import subprocess
import sys

import shown
from tests.unmeasured import paused

with paused():
    import hidden
    subprocess.run([sys.executable, "-c", "import hidden_too"], check=True)
import shown_again
subprocess.run([sys.executable, "-c", "import shown_too"], check=True)
"""
ROOT = Path(__file__).parent.parent


def test_only_what_runs_meanwhile_is_left_out(tmp_path):
    """Neither here nor in another process is it counted; before and after everything is, in both."""
    for name in ("shown", "hidden", "shown_again", "shown_too", "hidden_too"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "script.py").write_text(LINES)
    settings = tmp_path / "coverage.toml"
    settings.write_text('[tool.coverage.run]\nparallel = true\npatch = ["subprocess"]\n')
    environ = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "COVERAGE_PROCESS_START": str(settings)}
    subprocess.run([sys.executable, tmp_path / "script.py"], cwd=tmp_path, env=environ, check=True)
    seen = coverage.CoverageData(str(tmp_path / ".coverage"))
    for part in tmp_path.glob(".coverage.*"):
        one = coverage.CoverageData(str(part))
        one.read()
        seen.update(one)
    names = {Path(name).stem for name in seen.measured_files() if Path(name).parent == tmp_path}
    assert names - {"script"} == {"shown", "shown_again", "shown_too"}
