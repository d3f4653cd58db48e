"""The benchmarks themselves: they run at any size, and at a middle size their targets are met.

Those of the hook run at a small size in ``test_hook``.
"""

import math
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.bench import __main__ as command
from tests.bench import hook, transfer
from tests.bench.machine import ROOT, commit
from tests.bench.report import RESULTS, read
from tests.bench.suite import SUITE, figures, figures_apart
from tests.bench.yard import Yard

pytestmark = pytest.mark.unmeasured

MIDDLE = 50_000


@pytest.mark.parametrize("name", [name for name, work in SUITE.items() if work.__module__ != hook.__name__])
def test_a_benchmark_runs_at_a_small_size(name, tmp_path):
    """It gives figures that have names of their own, and lie within their spread; how good they are is not asked."""
    if SUITE[name].__module__ == transfer.__name__ and not all(map(shutil.which, ("curl", "node", "openssl"))):
        pytest.skip("there is no curl, Node or openssl on this machine")
    found = figures(name, Yard(folder=tmp_path, orders=300, rounds=1, batch=100, seconds=0.02))
    assert len({figure.name for figure in found}) == len(found) > 0
    for figure in found:
        assert math.isfinite(figure.value)
        assert 0 < figure.low <= figure.value <= figure.high


def test_the_command_measures_what_is_named_and_leaves_only_its_report(tmp_path):
    """The report is where it was asked for, and the stores are gone."""
    results = set(RESULTS.glob("*"))
    run = [sys.executable, "-m", "tests.bench", "add", "soft", "--orders", "1_000", "--rounds", "1"]
    places = ["--folder", str(tmp_path), "--json", str(tmp_path / "report.json")]
    ended = subprocess.run([*run, *places], cwd=ROOT, capture_output=True, text=True, check=True)
    report = read(tmp_path / "report.json")
    assert report.orders == 1_000
    assert [figure.name for figure in report.figures] == ["one add, alone", "soft saves"]
    assert all(figure.name in ended.stdout for figure in report.figures)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert set(RESULTS.glob("*")) == results


@pytest.mark.parametrize(("names", "reports"), [([], 1), (["soft"], 0)])
def test_a_whole_run_has_a_place_for_its_report(names, reports, tmp_path, monkeypatch):
    """It is named after the commit; a part of a run takes nobody's place."""
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    for name in set(SUITE) - {"soft"}:
        monkeypatch.delitem(SUITE, name)
    options = ["--orders", "300", "--rounds", "1", "--folder", str(tmp_path), "--here"]
    assert CliRunner().invoke(command.main, [*names, *options], catch_exceptions=False).exit_code == 0
    found = list((tmp_path / "results").glob("*"))
    assert [path.name for path in found] == [f"{commit()}.json"] * reports


@pytest.mark.bench
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SUITE)
def test_a_benchmark_meets_its_targets(name, tmp_path):
    """Nothing that is asked of a figure is missed."""
    found = figures_apart(name, Yard(folder=tmp_path, orders=MIDDLE))
    assert [figure for figure in found if figure.met is False] == []
