"""What it ran on, as far as that explains a figure: no names of hosts, users or folders."""

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
_LIBRARIES = ("msgspec", "tinydb", "filelock", "aiohttp")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The facts.

    Attributes:
        file_system: where the stores were.
        load: how many processes wanted a processor, on average of the minute before.
    """

    cpu: str
    cpus: int
    memory_gib: float
    kernel: str
    file_system: str
    python: str
    sqlite: str
    libraries: dict[str, str]
    load: float


def machine(folder: Path) -> Machine:
    """Look at the machine; *folder* is where the stores are."""
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cpus=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        file_system=file_system(folder),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=sqlite3.sqlite_version,
        libraries={name: version(name) for name in _LIBRARIES},
        load=round(os.getloadavg()[0], 2),
    )


def file_system(folder: Path) -> str:
    """Name the kind of file system that a folder is on."""
    there = folder.resolve()
    around = [(len(point.parts), kind) for point, kind in _mounts() if there.is_relative_to(point)]
    return max(reversed(around), key=itemgetter(0))[1]  # of two at one place, the later one is seen


def resident() -> tuple[int, int]:
    """Give the bytes of memory that this process has now, and the most it ever had."""
    status = Path("/proc/self/status")
    now, most = (int(_field(status, name).removesuffix(" kB")) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def commit() -> str:
    """Name the code: its commit, and whether it was changed since; ``unversioned`` outside a repository."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "poller")
    return f"{head}-changed" if head and changed else head or "unversioned"


def _git(*arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    return subprocess.run([git, "-C", ROOT, *arguments], capture_output=True, text=True, check=False).stdout.strip()


def _mounts() -> Iterator[tuple[Path, str]]:
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    yield Path("/"), "unknown"
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        yield Path(point), kind


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
