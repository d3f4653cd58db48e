"""Processes of their own that keep a store, and what they tell."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def start(path: Path, first: int = 0) -> subprocess.Popen[bytes]:
    """Start a process that adds orders to a store, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.adder", str(path), str(first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )


def words(told: bytes) -> list[list[str]]:
    """Split what one told into lines of words; the last line counts only if it is whole."""
    return [line.split() for line in told.decode().rpartition("\n")[0].splitlines()]
