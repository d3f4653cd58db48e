"""Holds what everybody saw against what was promised."""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from poller.event import QUIET, Event
from poller.order import Order, State
from poller.outcome import Cause
from poller.pace import Pace
from tests.simulation.disk import task_of
from tests.simulation.grafx import Task
from tests.simulation.history import RESTING, History
from tests.simulation.manners import Dealt, Manners, Reply
from tests.simulation.shop import Asked

SPENDS_NOTHING = frozenset({"remote_paused", "local_fault", "interrupted", "crowded", "deferred"})
_CANARY = "canary-"
_OPENING = frozenset({"added", "confirmed", "retried"})
_TIME_ENOUGH = 1800.0
"""Virtual seconds within which a file that can be had is had, though processes end and begin meanwhile."""
_COMMANDS = frozenset({"confirmed", "canceled", "retried", "check_requested"})
_ANSWERS = frozenset({"not_ready", "absent"})
_PLAIN = _ANSWERS | {"trouble", "unknown_answer", "link_expired", "deferred"}
"""Events after which an order waits for as long as they say, and for nothing else."""
_LONGEST_WISH = 3601.0
"""Seconds for which one may wait: a date may be as far off as the wall clock was set back."""
LEAST = 1000
"""Bytes of the smallest file that is carried on."""
_LAST_CHECK = 5.0
"""Seconds that a question may take, with all that follows from it, if it begins at the deadline or later."""
_LATE = 15.0
"""Seconds that a publish may take that began before its order's deadline: it is three errands of a thread."""
_PACE = Pace()

Told: TypeAlias = tuple[float, Order, Event]


def retries(asked: Sequence[Asked]) -> int:
    """Count the times that a new generation was asked for, with whatever answer but a refusal."""
    return sum(each.what == "retry" and not isinstance(each.answer, str) for each in asked)


class Checker:
    """Checks one run.

    Args:
        history: of what was told.
        tasks: the remote's.
        asked: the shop's requests and their answers, by task.
        manners: what the remote saw of us.
        calm_since: virtual seconds from which nothing went wrong any more but clocks and processes.
        jumps: when the wall clock was set.
        wall: tells what it showed at a virtual second.
    """

    def __init__(
        self,
        history: History,
        tasks: Mapping[str, Task],
        asked: Mapping[str, Sequence[Asked]],
        manners: Manners,
        *,
        calm_since: float,
        jumps: Sequence[float],
        wall: Callable[[float], float],
    ) -> None:
        self._history, self._tasks, self._asked, self._manners = history, tasks, asked, manners
        self._calm_since, self._jumps, self._wall = calm_since, jumps, wall

    # --- at any time

    def heard(self, order: Order, event: Event, seen: Mapping[str, str]) -> None:
        """Check what is told, as it is told."""
        if order.state is State.DONE:
            self._is_there(order, event, seen)
        if event.event == "added" and order.dry_run and order.state is not State.HELD:
            self._breach(f"{order.task_id} was added as a dry run, and is {order.state}")
        if event.event in {"retried", "confirmed"}:
            self._begins_anew(order, event)
        if event.event in _PLAIN and event.next_at is not None and event.at < order.deadline:
            self._waits(order, event, event.next_at)

    def _is_there(self, order: Order, event: Event, seen: Mapping[str, str]) -> None:
        """A file is there before it is spoken of."""
        for file in order.files:
            if seen.get(file.name) != file.sha256:
                self._breach(f"{order.task_id} is told to be done, and {file.name} is not there as it says")
            if "~" in file.name and not event.reason:
                self._breach(f"{file.name} has another's name, and nothing is said of it")

    def _waits(self, order: Order, event: Event, next_at: float) -> None:
        """Nobody waits for too long, nor for no time at all."""
        wait = next_at - event.at
        if next_at > order.deadline:
            self._breach(f"{order.task_id} is to be looked at after its deadline")
        if wait > _LONGEST_WISH:
            self._breach(f"{order.task_id} is to wait for {wait:.0f} s after {event.event}")
        if event.event == "not_ready" and wait > max(_PACE.interval_max, self._wish(order)) + 0.01:
            self._breach(f"{order.task_id} is to wait for {wait:.0f} s, and nobody wished for that")
        if event.event == "not_ready" and wait < _PACE.interval_min - 0.01 and next_at < order.deadline:
            self._breach(f"{order.task_id} is to wait for {wait:.2f} s only")

    def _wish(self, order: Order) -> float:
        replies = self._manners.replies.get(order.task_id)
        return replies[-1].wish if replies else 0.0

    def _begins_anew(self, order: Order, event: Event) -> None:
        first = self._history.told.get(order.task_id, [])[0][1]
        patience = first.deadline - first.opened_at
        fresh = (order.attempts, order.checks, order.expiries, order.ready_at, order.files) == (0, 0, 0, None, ())
        if not fresh or abs(order.deadline - event.at - patience) > 1.0 or order.due_at is None:
            self._breach(f"{order.task_id} was {event.event}, and does not begin anew: {order}")

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

    def settled(
        self,
        orders: Mapping[str, Order],
        histories: Mapping[str, Sequence[Event]],
        seen: Mapping[str, str],
        planted: Mapping[str, str],
    ) -> None:
        """Check how everything ended."""
        self.found(orders)
        for order in orders.values():
            self._check_end(order)
            self._check_begin(order)
            self._check_states(order)
            self._check_attempts(order)
            self._check_troubles(order)
            self._check_waits(order)
            self._check_wishes(order)
            self._check_fetches(order)
            self._check_history(order, histories[order.task_id])
        self._check_folder(orders, seen, planted)

    def _check_begin(self, order: Order) -> None:
        """An order that was accepted is told of, unless the shop was not answered once."""
        adds = [each.answer for each in self._asked[order.task_id] if each.what in {"add", "again", "other"}]
        if None not in adds and "added" not in {event.event for _, _, event in self._told(order)}:
            self._breach(f"{order.task_id} was added, and nobody was told")

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
        if task is None:
            return order.cause is Cause.GONE
        match order.cause:
            case Cause.DEADLINE:
                return order.updated_at >= order.deadline
            case Cause.GONE if at is None or task.lost(at):
                return True
            case Cause.ATTEMPTS | Cause.WRONG_CONTENT | Cause.GONE:  # a dead link is trouble if it is so again
                return self._dealt_in_a_row(order) >= _PACE.attempts
            case _:
                return (order.cause, task.fate) in {(Cause.REFUSED, "failed"), (Cause.TOO_LARGE, "huge")}

    def _dealt_in_a_row(self, order: Order) -> int:
        """Count what was dealt to an order since its last answer that made sense, but for what was known as an outage.

        Each trouble takes one at least, so there are as many as the order spent attempts; what
        goes wrong with a login does so for everybody who waits for it.
        """
        told = [(at, event.event) for at, _, event in self._told(order)]
        since = max((at for at, event in told if event in _ANSWERS | _OPENING), default=0.0)
        return sum(since < dealt.at and not dealt.known for dealt in self._dealt(order))

    def _dealt(self, order: Order) -> list[Dealt]:
        return [*self._manners.dealt.get(order.task_id, ()), *self._manners.dealt.get("", ())]

    def _had_time(self, order: Order, task: Task, at: float) -> bool:
        """Tell whether a file could be had for long, with nothing in the way."""
        opened = next((when for when, _, event in reversed(self._told(order)) if event.event in _OPENING), at)
        return at - max(task.finish_at, self._calm_since, opened) > _TIME_ENOUGH

    def _check_states(self, order: Order) -> None:
        """An order at rest changes by a retry alone, and each retry opens one generation."""
        asked = self._asked[order.task_id]
        if order.generation > 1 + retries(asked):
            self._breach(f"{order.task_id} is generation {order.generation} after {retries(asked)} retries")
        before: Order | None = None
        for _, after, event in self._told(order):
            at_rest = before is not None and before.state in RESTING
            if before is not None and at_rest and (before.state is State.DONE or after.generation == before.generation):
                self._breach(f"{order.task_id} was {before.state} and became {after.state} by {event.event}")
            held = before is not None and before.state is State.HELD and not self._unheard(order)
            if held and event.event not in {"confirmed", "canceled"}:
                self._breach(f"{order.task_id} was held, and became {after.state} by {event.event}")
            before = after

    def _unheard(self, order: Order) -> bool:
        """Tell whether a process ended, or may have, between obeying the shop and telling of it."""
        return any(each.what in {"confirm", "cancel"} and each.answer is None for each in self._asked[order.task_id])

    def _check_attempts(self, order: Order) -> None:
        """Waiting is not failing: an attempt is spent by trouble, and by each trouble one."""
        for _, before, after, event in self._in_one_life(order):
            expired = event.event == "link_expired"
            nothing = event.event in SPENDS_NOTHING or (expired and after.expiries == 1)
            if nothing and after.attempts > before.attempts:
                self._breach(f"{order.task_id} spent an attempt on {event.event}: {event.reason}")
            if (event.event == "trouble" or (expired and not nothing)) and not self._is_counted(before, after):
                self._breach(f"{order.task_id} had {before.attempts} attempts and trouble, and has {after.attempts}")
        for _, after, event in self._told(order):
            if event.event == "not_ready" and (after.attempts or after.expiries):
                self._breach(f"{order.task_id} spent an attempt on an answer")
            if "error of our own" in (event.reason or ""):
                self._breach(f"{order.task_id}: {event.reason}")

    def _in_one_life(self, order: Order) -> Iterator[tuple[float, Order, Order, Event]]:
        """Give events with the order as it was before; what one life had not made durable the next may not know."""
        told = self._told(order)
        for (since, before, _), (at, after, event) in pairwise(told):
            if not self._broken(since, at):
                yield at, before, after, event

    def _broken(self, since: float, until: float) -> bool:
        """Tell whether another process began between two times, or the store was read anew."""
        return bisect(self._history.begun, since) != bisect(self._history.begun, until)

    def _is_counted(self, before: Order, after: Order) -> bool:
        """Tell whether a trouble was counted; a large file that came further may have ended the row before it."""
        task = self._tasks.get(after.task_id)
        may_advance = task is not None and len(task.content) >= LEAST
        return after.attempts == before.attempts + 1 or (after.attempts == 1 and may_advance)

    def _check_troubles(self, order: Order) -> None:
        """Each trouble is one that was dealt, since whatever happened to the order before."""
        since = 0.0
        for at, after, event in self._told(order):
            its_own = event.event == "trouble" and event.at < after.deadline
            if its_own and not any(since < dealt.at <= at for dealt in self._dealt(order)):
                self._breach(f"{order.task_id} had trouble that nobody made: {event.reason}")
            if after.state is State.DONE and not self._was_set(since, at):
                self._is_in_time(after, event, at)
            since = since if event.event in _COMMANDS else at

    def _is_in_time(self, order: Order, event: Event, at: float) -> None:
        """See that nothing went on after a deadline but the last check, which has seconds."""
        asked = self._manners.questions.get(order.task_id, [0.0])
        last = self._wall(asked[bisect(asked, at) - 1]) + _LAST_CHECK
        if event.at > max(order.deadline, last) + _LATE:
            self._breach(f"{order.task_id} was done {event.at - order.deadline:.0f} s after its deadline")

    def _check_waits(self, order: Order) -> None:
        """Nobody is asked about an order before its time."""
        told = self._told(order)
        for (at, _, event), then in zip(told, [*(after[0] for after in told[1:]), float("inf")], strict=False):
            asked = self._next_asked(order.task_id, at)
            if event.event not in _PLAIN or event.next_at is None or asked is None or asked > then:
                continue
            early = event.next_at - self._wall(asked)
            if early > 0.01 and not (
                self._broken(at, asked) or self._was_set(at, asked) or self._bidden(order, at, asked)
            ):
                self._breach(f"{order.task_id} was asked about {early:.2f} s before its time, after {event.event}")

    def _check_wishes(self, order: Order) -> None:
        """Who wishes to be left alone is, unless the order's deadline comes first."""
        for reply in self._manners.replies.get(order.task_id, ()):
            asked = self._next_asked(order.task_id, reply.at) if reply.wish else None
            if asked is not None and asked - reply.at < reply.wish - 0.01 and not self._excused(order, reply, asked):
                self._breach(f"{order.task_id} was asked about after {asked - reply.at:.2f} s of {reply.wish:.0f}")

    def _excused(self, order: Order, reply: Reply, asked: float) -> bool:
        if self._broken(reply.at, asked) or self._was_set(reply.at, asked) or self._bidden(order, reply.at, asked):
            return True
        between = [(after, event) for at, after, event in self._told(order) if reply.at <= at <= asked]
        if not between:  # it was not saved, and its claim ran out; else it was the same question
            return asked - reply.at > 30.0
        if any(event.event not in _PLAIN for _, event in between):
            return True
        return any(event.next_at is None or event.next_at >= after.deadline - 1.0 for after, event in between)

    def _check_fetches(self, order: Order) -> None:
        """What came whole is not fetched again, unless something is said of it."""
        links = self._manners.links.get(order.task_id, [])
        for at in self._manners.whole.get(order.task_id, ()):
            again = next(iter(links[bisect(links, at) :]), None)
            if again is None or self._broken(at, again) or self._bidden(order, at, again):
                continue
            if not any(at <= told_at <= again for told_at, _, _ in self._told(order)):
                self._breach(f"{order.task_id} was fetched whole at {at:.1f}, and again at {again:.1f}")

    def _next_asked(self, task: str, after: float) -> float | None:
        asked = self._manners.asked.get(task, [])
        index = bisect(asked, after)
        return asked[index] if index < len(asked) else None

    def _bidden(self, order: Order, since: float, until: float) -> bool:
        """Tell whether the shop had its word between two times; it is told of once it is durable."""
        return any(each.at <= until and (each.answered_at or until) >= since for each in self._asked[order.task_id])

    def _was_set(self, since: float, until: float) -> bool:
        """Tell whether the wall clock was set between two times."""
        return any(since <= at <= until for at in self._jumps)

    def _check_history(self, order: Order, events: Sequence[Event]) -> None:
        """The store remembers every durable event that was told, in that order; and what it remembers was told.

        A process may end, or its disk fail, between the two.
        """
        told = {(event.at, event.event) for _, _, event in self._told(order)}
        untold = sum((event.at, event.event) not in told for event in events)
        if untold > len(self._history.begun):
            self._breach(f"{order.task_id} has {untold} events of which nobody was told")
        kept = iter((event.at, event.event) for event in events)
        for _, after, event in self._told(order):
            if _is_durable(after, event) and event.event != "added" and (event.at, event.event) not in kept:
                self._breach(f"{order.task_id} was told to be {event.event}, and its history does not say so")
                return

    def _check_folder(self, orders: Mapping[str, Order], seen: Mapping[str, str], planted: Mapping[str, str]) -> None:
        names = Counter(task_of(name) for name in seen.keys() - planted.keys())
        for task, count in names.items():
            if count > 1:
                self._breach(f"{task} has {count} files")
        for order in orders.values():
            for file in order.files if order.state is State.DONE else ():
                if seen.get(file.name) != file.sha256:
                    self._breach(f"{order.task_id} is done, and {file.name} is not there as it says")

    def no_late_files(self, came: Mapping[str, float], planted: Mapping[str, str]) -> None:
        """After the answer to a cancel no file of that generation comes."""
        for name, at in came.items():
            task = task_of(name) if name not in planted else ""
            for index, each in enumerate(self._asked.get(task, ())):
                canceled = each.what == "cancel" and isinstance(each.answer, Order) and each.answered_at is not None
                if canceled and each.answered_at < at and not self._opened(self._asked[task], index, at):
                    self._breach(f"{name} came at {at}, after {task} was canceled at {each.answered_at}")

    def no_lost_files(self, orders: Mapping[str, Order], came: Mapping[str, float], planted: Mapping[str, str]) -> None:
        """Once its file has come an order is done, unless the process ends or a disk fails just then."""
        for name, at in came.items():
            order = orders.get(task_of(name)) if name not in planted else None
            told = self._told(order) if order is not None else []
            then = next((each for each in told if each[0] >= at and each[2].event != "check_requested"), None)
            if then is not None and then[2].event not in {"done", "local_fault"} and not self._broken(at, then[0]):
                self._breach(f"{name} came at {at}, and its order was told to be {then[2].event} at {then[0]}")

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

    def _told(self, order: Order) -> list[Told]:
        return self._history.told.get(order.task_id, [])

    def _breach(self, text: str) -> None:
        self._history.breach(text)


def _is_durable(after: Order, event: Event) -> bool:
    return event.event not in QUIET and (after.state is not State.PENDING or event.event in {"retried", "confirmed"})


def _changed(asked: Asked) -> bool:
    return isinstance(asked.answer, Order) and asked.what in {"confirm", "cancel", "retry"}


def _told(task: Task | None) -> str:
    return "not there" if task is None else f"{task.fate}, finished at {task.finish_at:.0f}"
