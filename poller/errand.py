"""What else can be asked of a remote beside how a task is doing, and what it answers: the words, and nothing more."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A task that somebody wants started.

    Attributes:
        kind: which of the tasks that the remote can do; empty where there is one.
        input: what it is to be done with.
        dry_run: whether it shall wait for a confirmation before it is carried out.
        start_id: names this start, and no other.
    """

    kind: str = ""
    input: Mapping[str, Any] = {}
    dry_run: bool = False
    start_id: str = ""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A task is under way.

    Attributes:
        kept: what later questions about it need to know.
    """

    task_id: str
    kept: dict[str, Any] = {}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task that the remote has.

    Attributes:
        context: what is worth keeping beside its order.
    """

    task_id: str
    context: dict[str, Any] = {}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that a remote has.

    Attributes:
        complete: whether these are all; else there are more than anybody wants to hear of at once.
    """

    tasks: tuple[Task, ...]
    complete: bool = True


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """The remote has taken note. *retry_after* is its wish, in seconds."""

    retry_after: float | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed's address gives at present.

    Attributes:
        task_id: names this version, and no other.
        seen: what tells the next version from it; JSON, and small.
    """

    task_id: str
    seen: dict[str, str]


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody who says he is the remote has sent us.

    Attributes:
        headers: names in lower case; of a repeated header, the first.
        body: to the last byte as it came.
    """

    headers: Mapping[str, str]
    body: bytes


class Nudged(msgspec.Struct, frozen=True, kw_only=True):
    """A push was the remote's.

    Attributes:
        task_ids: the orders it is about; None for all that wait.
    """

    task_ids: tuple[str, ...] | None


class Misfit(ValueError):  # noqa: N818 - it is about what was asked, not about us
    """A task cannot be started like this.

    Attributes:
        faults: pairs of a field and what is wrong with it.
    """

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{field} {problem}" for field, problem in faults))
        self.faults = faults
