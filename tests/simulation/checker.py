"""Holds what everybody saw against what was promised."""

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from poller.event import QUIET, Event
from poller.order import Order, State
from poller.outcome import Cause
from tests.simulation.grafx import Task
from tests.simulation.history import RESTING, History
from tests.simulation.shop import Asked

SPENDS_NOTHING = frozenset({"remote_paused", "local_fault", "interrupted", "crowded", "deferred"})
_CANARY = "canary-"
_OPENING = frozenset({"added", "confirmed", "retried"})
_TIME_ENOUGH = 1800.0
"""Virtual seconds within which a file that can be had is had, though processes end and begin meanwhile."""
_BREAKER, _TROUBLES = 3, 5
"""Over how many orders trouble must be spread to be known as an outage, and how much of it there must be."""
_OUTAGE = frozenset({"trouble", "remote_paused", "failed"})


def retries(asked: Sequence[Asked]) -> int:
    """Count the times that a new generation was asked for, with whatever answer but a refusal."""
    return sum(each.what == "retry" and not isinstance(each.answer, str) for each in asked)


class Checker:
    """Checks one run.

    Args:
        history: of what was told.
        tasks: the remote's.
        asked: the shop's requests and their answers, by task.
        dealt: faults, by task.
        calm_since: virtual seconds from which nothing went wrong any more but clocks and processes.
    """

    def __init__(
        self,
        history: History,
        tasks: Mapping[str, Task],
        asked: Mapping[str, Sequence[Asked]],
        dealt: Counter[str],
        calm_since: float,
    ) -> None:
        self._calm_since = calm_since
        self._history, self._tasks, self._asked, self._dealt = history, tasks, asked, dealt

    # --- at any time

    def found(self, orders: Mapping[str, Order]) -> None:
        """Check what a process finds when it begins, or leaves at the end."""
        for task, asked in self._asked.items():
            order = orders.get(task)
            if order is None:
                self._found_nothing(task, asked)
            else:
                self._found_order(order)

    def _found_nothing(self, task: str, asked: Sequence[Asked]) -> None:
        if any(isinstance(each.answer, Order) for each in asked):
            self._breach(f"{task} was accepted and is lost")

    def _found_order(self, order: Order) -> None:
        """What was told of a change that had to be durable is there, and so is what was answered."""
        least = [after.version for _, after, event in self._told(order) if _is_durable(after, event)]
        least += [each.answer.version for each in self._asked[order.task_id] if _changed(each)]
        if order.version < max(least, default=1):
            self._breach(f"{order.task_id} was at version {max(least)} and is at {order.version}")
        last = next((after for _, after, _ in reversed(self._told(order))), None)
        if last is not None and last.version == order.version and last.state is not order.state:
            self._breach(f"{order.task_id} was {last.state} and is {order.state}")

    # --- at the end

    def settled(self, orders: Mapping[str, Order], histories: Mapping[str, Sequence[Event]], seen: Mapping) -> None:
        """Check how everything ended."""
        self.found(orders)
        for order in orders.values():
            self._check_end(order)
            self._check_states(order)
            self._check_attempts(order)
            self._check_history(order, histories[order.task_id])
        self._check_folder(orders, seen)

    def _check_end(self, order: Order) -> None:
        task = self._tasks.get(order.task_id)
        if order.state is State.PENDING:
            self._breach(f"{order.task_id} never came to rest")
        elif order.state is State.FAILED and not self._deserved(order, task):
            self._breach(f"{order.task_id} failed of {order.cause} ({order.reason}) with a task that is {_told(task)}")
        elif order.state is State.DONE and (task is None or task.fate != "ok" or not order.files):
            self._breach(f"{order.task_id} is done with a task that is {_told(task)}")

    def _deserved(self, order: Order, task: Task | None) -> bool:
        """Tell whether an order may have failed of what it says."""
        at = next((at for at, after, _ in reversed(self._told(order)) if after.state is State.FAILED), None)
        if task is not None and task.fate == "ok" and at is not None and self._had_time(order, task, at):
            return False
        match order.cause:
            case Cause.REFUSED:
                return task is not None and task.fate == "failed"
            case Cause.GONE:
                return task is None or (at is None or task.lost(at))
            case Cause.DEADLINE:
                return order.updated_at >= order.deadline
            case Cause.ATTEMPTS | Cause.WRONG_CONTENT:
                return task is not None and (task.fate == "poisoned" or self._was_lonely(order))
        return False

    def _had_time(self, order: Order, task: Task, at: float) -> bool:
        """Tell whether a file could be had for long, with nothing in the way."""
        opened = next((when for when, _, event in reversed(self._told(order)) if event.event in _OPENING), at)
        return at - max(task.finish_at, self._calm_since, opened) > _TIME_ENOUGH

    def _was_lonely(self, order: Order) -> bool:
        """Tell whether too few others had trouble with it for an outage to be known as one."""
        row = [at for at, _, event in self._told(order) if event.event in {"trouble", "failed"}][-5:]
        begun = max(note[0] for note in self._history.notes if note[1] == "begins" and note[0] <= row[-1])
        known = [  # a process that has just begun knows of no outage
            task
            for task, told in self._history.told.items()
            for at, _, event in told
            if max(row[0], begun) <= at <= row[-1] and event.event in _OUTAGE
        ]
        return len(set(known)) < _BREAKER or len(known) < _TROUBLES

    def _check_states(self, order: Order) -> None:
        """An order at rest changes by a retry alone, and each retry opens one generation."""
        asked = self._asked[order.task_id]
        if order.generation > 1 + retries(asked):
            self._breach(f"{order.task_id} is generation {order.generation} after {retries(asked)} retries")
        before: Order | None = None
        for _, after, event in self._told(order):
            if before is not None and before.state in RESTING and not _is_retry(before, after, event):
                self._breach(f"{order.task_id} was {before.state} and became {after.state} by {event.event}")
            before = after

    def _check_attempts(self, order: Order) -> None:
        """Waiting is not failing: only trouble that was dealt is counted."""
        troubles, attempts, life = 0, 0, 0
        for at, after, event in self._told(order):
            if life != (life := bisect(self._history.begun, at)):
                attempts = after.attempts  # what the one before had not made durable may be forgotten
            troubles += event.event == "trouble" and event.at < after.deadline
            if event.event in SPENDS_NOTHING and after.attempts > attempts:
                self._breach(f"{order.task_id} spent an attempt on {event.event}: {event.reason}")
            if event.event == "not_ready" and after.attempts:
                self._breach(f"{order.task_id} spent an attempt on an answer")
            if "error of our own" in (event.reason or ""):
                self._breach(f"{order.task_id}: {event.reason}")
            attempts = after.attempts
        if troubles > self._dealt[order.task_id] + self._dealt[""]:
            self._breach(f"{order.task_id} had {troubles} troubles of {self._dealt[order.task_id]} faults")

    def _check_history(self, order: Order, events: Sequence[Event]) -> None:
        """The store remembers every durable event that was told, in that order."""
        kept = iter((event.at, event.event) for event in events)
        for _, after, event in self._told(order):
            if _is_durable(after, event) and event.event != "added" and (event.at, event.event) not in kept:
                self._breach(f"{order.task_id} was told to be {event.event}, and its history does not say so")
                return

    def _check_folder(self, orders: Mapping[str, Order], seen: Mapping[str, str]) -> None:
        names = Counter(name.partition(".")[0] for name in seen)
        for task, count in names.items():
            if count > 1:
                self._breach(f"{task} has {count} files")
        for order in orders.values():
            for file in order.files if order.state is State.DONE else ():
                if seen.get(file.name) != file.sha256:
                    self._breach(f"{order.task_id} is done, and {file.name} is not there as it says")

    def no_late_files(self, came: Mapping[str, float]) -> None:
        """After the answer to a cancel no file of that generation comes."""
        for name, at in came.items():
            task = name.partition(".")[0]
            for index, each in enumerate(self._asked.get(task, ())):
                canceled = each.what == "cancel" and isinstance(each.answer, Order) and each.answered_at is not None
                if canceled and each.answered_at < at and not self._opened(self._asked[task], index, at):
                    self._breach(f"{name} came at {at}, after {task} was canceled at {each.answered_at}")

    def _opened(self, asked: Sequence[Asked], index: int, at: float) -> bool:
        """Tell whether a retry may have been granted after a cancel and before some time."""
        since = asked[index].at
        return any(each.what == "retry" and since <= (each.answered_at or at) and each.at <= at for each in asked)

    def no_secret(self, texts: Iterable[tuple[str, str]]) -> None:
        """No secret is in anything that was written or said."""
        for where, text in texts:
            if _CANARY in text:
                at = text.index(_CANARY)
                self._breach(f"a secret is in {where}: {text[max(0, at - 80) : at + 40]!r}")

    def _told(self, order: Order) -> list[tuple[float, Order, Event]]:
        return self._history.told.get(order.task_id, [])

    def _breach(self, text: str) -> None:
        self._history.breach(text)


def _is_retry(before: Order, after: Order, event: Event) -> bool:
    """Tell whether an order at rest was retried, though the event that told so may have been lost."""
    return event.event == "retried" or after.generation > before.generation


def _is_durable(after: Order, event: Event) -> bool:
    return event.event not in QUIET and (after.state is not State.PENDING or event.event in {"retried", "confirmed"})


def _changed(asked: Asked) -> bool:
    return isinstance(asked.answer, Order) and asked.what in {"confirm", "cancel", "retry"}


def _told(task: Task | None) -> str:
    return "not there" if task is None else f"{task.fate}, finished at {task.finish_at:.0f}"
