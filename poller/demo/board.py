"""What one sees: a table that moves on a terminal, one line per change elsewhere."""

from collections.abc import Callable, Iterable, Mapping
from textwrap import shorten
from typing import Protocol, Self, TypeAlias

import msgspec
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from poller import units
from poller.demo.scenes import Scene
from poller.demo.shop import Seen
from poller.order import State

_COLORS = {"done": "green", "failed": "red", "canceled": "bright_black", "trouble": "yellow", "downloading": "cyan"}
_BAR = 20
_NOTE = 64
"""Characters that a line has left."""


Say: TypeAlias = Callable[[str], None]
"""Takes one line at a time."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order stands, in words.

    Attributes:
        word: ``waiting``, ``downloading``, ``trouble``, or the state in which it came to rest.
        note: what more there is to say.
        share: 0 to 1 of the download; None when none is under way.
    """

    word: str
    note: str
    share: float | None = None


_UNSEEN = Standing(word="", note="")


def standing(seen: Seen, *, sent: int, size: int) -> Standing:
    """Say where an order stands.

    Args:
        seen: as the hook shows it.
        sent: bytes of its file that are under way or here.
        size: bytes of its file.
    """
    if seen.files:
        return Standing(word=seen.state, note=", ".join(f"{f.name}, {units.human_size(f.size)}" for f in seen.files))
    if seen.state is State.FAILED:
        return Standing(word=seen.state, note=f"{seen.cause}: {seen.reason}")
    if seen.state is not State.PENDING:
        return Standing(word=seen.state, note="")
    if seen.reason:
        return Standing(word="trouble", note=f"{seen.reason}; trying again")
    if sent:
        return Standing(
            word="downloading", note=f"{units.human_size(sent)} of {units.human_size(size)}", share=sent / size
        )
    return Standing(word="waiting", note=_asked(seen.checks))


def _asked(checks: int) -> str:
    return {0: "taken by the hook", 1: "asked once"}.get(checks, f"asked {checks} times")


class Board(Protocol):
    """Shows where the orders stand."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, *_: object) -> None:
        """Leave the last of it standing."""
        ...

    def show(self, standings: Mapping[str, Standing], elapsed: float) -> None:
        """Show where the orders stand now, *elapsed* seconds after they were placed."""
        ...


class Lines:
    """One line for every change.

    Args:
        say: takes one line at a time.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._words: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def know(self, standings: Mapping[str, Standing]) -> None:
        """Take these for told already."""
        self._words |= {task_id: standing.word for task_id, standing in standings.items()}

    def show(self, standings: Mapping[str, Standing], elapsed: float) -> None:
        """Say what has changed."""
        for task_id, standing in standings.items():
            if self._words.get(task_id) != standing.word:
                note = shorten(standing.note, _NOTE, placeholder=" …")
                self._say(f"{elapsed:5.1f} s  {task_id:<8} {standing.word:<12} {note}")
        self.know(standings)


class LiveTable:
    """A table that is drawn anew with every change.

    Args:
        scenes: the rows.
        console: a terminal.
    """

    def __init__(self, scenes: Iterable[Scene], console: Console) -> None:
        self._scenes = tuple(scenes)
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, standings: Mapping[str, Standing], elapsed: float) -> None:
        """Draw the table."""
        table = Table(box=box.SIMPLE_HEAD, caption=f"{elapsed:.1f} s", caption_justify="right")
        for heading in ("order", "story", "state"):
            table.add_column(heading, no_wrap=True)
        table.add_column("", min_width=_BAR)
        for scene in self._scenes:
            table.add_row(scene.task_id, Text(scene.story), *_cells(standings.get(scene.task_id, _UNSEEN)))
        self._live.update(table, refresh=True)


def board(scenes: Iterable[Scene], console: Console) -> Board:
    """Choose what suits the console."""
    return LiveTable(scenes, console) if console.is_terminal else Lines(teller(console))


def teller(console: Console) -> Say:
    """Make something that writes lines as they are: neither wrapped, nor coloured, nor read as markup."""
    return lambda line: console.print(Text(line), soft_wrap=True)


def _cells(standing: Standing) -> tuple[RenderableType, RenderableType]:
    word = Text(standing.word, style=_COLORS.get(standing.word, ""))
    if standing.share is not None:
        return word, ProgressBar(total=1, completed=standing.share, width=_BAR)
    return word, Text(standing.note, style="dim", no_wrap=True, overflow="ellipsis")
