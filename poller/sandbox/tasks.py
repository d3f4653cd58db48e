"""Output tasks: where one stands follows from how old it is."""

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum, auto
from uuid import uuid4

from poller.sandbox.content import Content
from poller.sandbox.render import Failure, Render

LIFE = 7 * 86400.0
"""Seconds for which a task is known; its file can be had for less."""
_PDF = "application/pdf"


class Stage(Enum):
    """Where a task stands."""

    WORKING = auto()
    READY = auto()
    OVER = auto()
    """The file could be had, and no longer can."""


class Task:
    """One render, from its start to its end.

    Args:
        task_id: its name; its file follows from it.
        render: how it behaves.
        media_type: of its file, unless the render says.
        started_at: seconds.

    Attributes:
        requests: how often it was asked for what (``check``, ``download``, …).
        sent: bytes of its latest download that went out.
    """

    def __init__(self, *, task_id: str, render: Render, media_type: str, started_at: float) -> None:
        self.task_id = task_id
        self.render = render
        self.content = Content(seed=task_id, media_type=render.media_type or media_type, size=render.size)
        self.requests: Counter[str] = Counter()
        self.sent = 0
        self._started_at = started_at
        self._mishaps = 0

    def stage(self, now: float) -> Stage:
        """Tell where it stands."""
        age = now - self._started_at - self.render.delay
        if age < 0:
            return Stage.WORKING
        return Stage.READY if age <= self.render.link_life else Stage.OVER

    def forgotten(self, now: float) -> bool:
        """Tell whether it has been so long that nobody knows the task any more."""
        return now - self._started_at > LIFE

    def suffers(self, failure: Failure) -> bool:
        """Tell whether *failure* still lies before it."""
        return self.render.failure is failure and self._mishaps < self.render.mishaps

    def strikes(self, failure: Failure) -> bool:
        """Tell whether *failure* befalls it now, and count that it did."""
        struck = self.suffers(failure)
        self._mishaps += struck
        return struck


class Tasks:
    """The tasks there are, in the order of their start.

    Args:
        defaults: how a render goes unless its start says otherwise.
        adopt: whether a task that nobody started begins when it is first asked about.
        now: the clock, in seconds.
    """

    def __init__(self, *, defaults: Render, adopt: bool, now: Callable[[], float]) -> None:
        self.defaults = defaults
        self._adopt = adopt
        self._now = now
        self._known: dict[str, Task] = {}

    def __getitem__(self, task_id: str) -> Task:
        return self._known[task_id]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._known))

    def start(self, render: Render, task_id: str | None = None, *, media_type: str = _PDF) -> Task:
        """Begin a task.

        Raises:
            ValueError: it is already there, or its file cannot be made.
        """
        self._forget()
        task_id = task_id or str(uuid4())
        if task_id in self._known:
            raise ValueError(f"the task {task_id!r} is already there")
        task = Task(task_id=task_id, render=render, media_type=media_type, started_at=self._now())
        self._known[task_id] = task
        return task

    def find(self, task_id: str) -> Task | None:
        """Find a task, or adopt it; None where it is neither known nor to be adopted."""
        self._forget()
        if task_id not in self._known and self._adopt:
            return self.start(self.defaults, task_id)
        return self._known.get(task_id)

    def stage(self, task: Task) -> Stage:
        """Tell where a task stands now."""
        return task.stage(self._now())

    def _forget(self) -> None:
        now = self._now()
        while self._known and (oldest := next(iter(self._known.values()))).forgotten(now):
            del self._known[oldest.task_id]
