"""Folding: a new snapshot out of the last one and the journals that continue it.

It takes seconds for a million documents, and in a thread it would fight the event loop for
the interpreter all the while. So a running store has it done by a process of its own, which
only writes one new file. The store looks whether it is whole and of the right generation
before it gets its name; whatever else becomes of that process, the store is as it was.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from poller.errors import PollerError, StoreError
from poller.stores import snapshot as snapshots
from poller.stores.files import Files
from poller.stores.pieces import About
from poller.stores.survey import Names, Survey, summed_up, survey

Fold: TypeAlias = Callable[[Names], None]
"""Folds a store's full journal into a new snapshot, aside; raises StoreError or OSError."""

_HOME = Path(__file__).parents[2]
"""Where this very package is, so that no other one is taken for it."""
_POLITE = 10
"""What the process adds to its niceness: orders come first."""


def folded(found: Survey, aside: Path, *, is_open: bool, files: Files) -> bool:
    """Write a new snapshot of what was found; tell whether there was anything to fold.

    Raises:
        StoreDamaged: a journal is not what we wrote.
        OSError: the disk failed.
    """
    edits, number = summed_up(found)
    if found.snapshot is None or not edits:
        return False
    files.unlink(aside)
    about = About(generation=found.due[-1].header.generation, sequence=number, open=is_open)
    snapshots.write(aside, edits.over(found.snapshot.pieces()), about, files=files)
    return True


def fold(names: Names, *, files: Files) -> None:
    """Fold the full journal of a running store, here and now. Raises like ``folded``."""
    found = survey(names, files=files, only=names.full)
    if found.snapshot is not None and not found.snapshot.about.open:
        raise StoreError(f"{names.snapshot} was changed by another program while poller had it open")
    folded(found, names.folded, is_open=True, files=files)


class Elsewhere:
    """Has another process fold."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def __call__(self, names: Names) -> None:
        """Fold the full journal of a running store, and wait for it.

        Raises:
            StoreError: it could not be done; the message says why.
            OSError: the process could not be started.
        """
        with _started(names) as self._process:
            if self._stopped:
                self._process.kill()
            _, said = self._process.communicate()
        if self._process.returncode != 0:
            lines = said.strip().splitlines()
            raise StoreError(lines[-1] if lines else f"the process that folds ended with {self._process.returncode}")

    def stop(self) -> None:
        """Fold no more: whoever closes a store folds what is left himself."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()


def _started(names: Names) -> "subprocess.Popen[str]":
    """Start the process that folds, in a group of its own that no Ctrl-C reaches."""
    command = [sys.executable, "-P", "-m", __name__, str(names.snapshot)]  # -P: no module from where we happen to be
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(_HOME), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.Popen(  # noqa: S603 - our own module
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def main(path: str) -> int:
    """Fold, as a process of its own."""
    with suppress(OSError):
        os.nice(_POLITE)
    try:
        fold(Names(Path(path)), files=Files())
    except (PollerError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
