"""Secrets that are looked for in whatever a poller says or leaves. A pytest plugin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

CANARY = "canary-"
"""What every secret of these tests has in it: token, client secret, the query of every link."""


class Watch:
    """Collects whatever a poller says or leaves, and finds secrets in it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def folder(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Give every file's name and content below *folder*."""
        for path in folder.rglob("*"):
            yield "a file's name", str(path.relative_to(folder))
            if path.is_file() and not path.is_symlink() and path.name != "hell.toml":
                yield str(path), path.read_bytes().decode("utf-8", "replace")

    def found(self, folder: Path) -> list[str]:
        """Say where a secret got out."""
        return [f"{where}: {_near(text)}" for where, text in (*self.said, *self.folder(folder)) if CANARY in text]


def _near(text: str) -> str:
    place = text.index(CANARY)
    return text[max(place - 80, 0) : place + 80]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """See after the test that no secret is in the log, in what the hook shows, in a file or in a file's name."""
    watch = Watch()
    yield watch
    assert watch.found(tmp_path) == []
