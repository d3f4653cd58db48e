"""Plants faults in a copy of the poller, to see that the simulation finds each: a check of its checks.

A simulation that never fails proves little. ``faults.toml`` says what it must not miss: one change
of one file at a time, with the promise that it breaks. Some promises are kept twice, and what is
*behind* the fault keeps them still; those are in the table to say so::

    python -m tests.simulation.faults                   # each of them, with a few dozen seeds
    python -m tests.simulation.faults --only resume     # those in whose description a text stands
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_LONGEST = 300.0
"""Seconds after which a simulation that does not end has found the fault, by just that."""
_BREACH = re.compile(r"^seed \d+: .*", re.MULTILINE)
_CACHES = shutil.ignore_patterns("__pycache__")


class Fault(NamedTuple):
    """One change of one file.

    Attributes:
        what: goes wrong.
        breaks: which promise.
        file: inside ``poller/``.
        old: what stands there, once.
        new: what is to stand there.
        orders: of each seed.
        behind: what stands behind it and keeps the promise all the same, so that nothing can be found; else empty.
    """

    what: str
    breaks: str
    file: str
    old: str
    new: str
    orders: int = 6
    behind: str = ""

    @property
    def fits(self) -> bool:
        """Whether it can be planted."""
        return (ROOT / "poller" / self.file).read_text().count(self.old) == 1

    def plant(self, tree: Path) -> None:
        """Change a copy of the tree."""
        path = tree / "poller" / self.file
        path.write_text(path.read_text().replace(self.old, self.new))


def known() -> list[Fault]:
    """Read the table."""
    return [Fault(**fault) for fault in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["fault"]]


def found(fault: Fault, seeds: int) -> str:
    """Live seeds with a fault until one finds it; tell how, or nothing if none does.

    Raises:
        RuntimeError: nothing could be lived with it, so it proves nothing.
    """
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for folder in ("poller", "tests"):
            shutil.copytree(ROOT / folder, tree / folder, ignore=_CACHES)
        fault.plant(tree)
        options = ["--hours", "3", "--orders", str(fault.orders), "--seeds", str(seeds), "--until-failed"]
        return _said([sys.executable, "-m", "tests.simulation", *options], tree)


def _said(command: Sequence[str], tree: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return "it does not end"
    if done.returncode == 0:
        return ""
    breach = _BREACH.search(done.stdout)
    if breach is None:
        raise RuntimeError(f"the simulation itself died:\n{done.stderr}")
    return breach[0]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=40, help="how many at most to find one fault")
    parser.add_argument("--only", default="", help="a text in the description of those to be planted")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    asked = parser.parse_args()
    faults = [fault for fault in known() if asked.only in f"{fault.breaks}: {fault.what} ({fault.file})"]
    with ThreadPoolExecutor(asked.jobs) as pool:
        told = [
            _tell(fault, how)
            for fault, how in zip(faults, pool.map(lambda each: found(each, asked.seeds), faults), strict=True)
        ]
    sys.stdout.write(f"{sum(told)} of {len(faults)} found, or made good by what is behind them\n")
    return 0 if all(told) else 1


def _tell(fault: Fault, how: str) -> bool:
    """Say how a fault was found; tell whether it was, or need not be."""
    word = "found " if how else "MISSED" if not fault.behind else "behind"
    sys.stdout.write(f"{word} {fault.breaks}: {fault.what} ({fault.file}) {how[:200] or fault.behind}\n")
    sys.stdout.flush()
    return bool(how or fault.behind)


if __name__ == "__main__":
    sys.exit(main())
