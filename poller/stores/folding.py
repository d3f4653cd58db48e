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


def fold_elsewhere(names: Names) -> None:
    """Have another process fold the full journal of a running store, and wait for it.

    Raises:
        StoreError: it could not; the message says why.
        OSError: it could not be started.
    """
    command = [sys.executable, "-P", "-m", __name__, str(names.snapshot)]  # -P: no module from where we happen to be
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(_HOME), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(  # noqa: S603 - our own module, in a group of its own that no Ctrl-C reaches
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        process_group=0,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise StoreError(said[-1] if said else f"the process that folds ended with {done.returncode}")


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
