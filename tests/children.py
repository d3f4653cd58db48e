"""Processes of their own that keep a store, and what they tell."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


FOR_EVER = 10**9
"""Rounds of which no test sees the end."""


def start(path: Path, *numbers: int) -> subprocess.Popen[bytes]:
    """Start a process that adds orders to a store, in a group of its own; ``adder`` has the numbers."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.adder", str(path), *map(str, numbers or (0,))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )


def words(told: bytes) -> list[list[str]]:
    """Split what one told into lines of words; the last line counts only if it is whole."""
    return [line.split() for line in told.decode().rpartition("\n")[0].splitlines()]
