"""From what was posted to orders, or to everything that is wrong with it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from poller.errand import Misfit, Started, Task, Wish
from poller.order import Order, place
from poller.web import fields
from poller.web.body import Doubled
from poller.web.guess import did_you_mean
from poller.web.problem import Fault, Refusal

MOST_ORDERS = 1_000
MOST_FAULTS = 100
"""Whoever makes more mistakes in one request makes the same one again and again."""

_STARTING = frozenset({"input", "kind"})
_AS_GIVEN = ("batch", "feed", "filename")
"""Fields that an order keeps under the names and with the values that the shop gave."""

Reader = Callable[[object], Any]

_TWICE = Fault("taskID", "is another name of task_id; give one of them")
_MISSING = Fault("task_id", "is required")
_IN_CONTEXT = Fault("projectID", "is in the context too; give it once")


class Faults(list[Fault]):
    """All that was found wrong, as far as anybody wants to read it."""

    def add(self, field: str, message: str) -> None:
        """Note that something is wrong with *field*."""
        self.append(Fault(field, message))

    @property
    def enough(self) -> bool:
        """Whether to look no further."""
        return len(self) >= MOST_FAULTS

    def refuse(self) -> None:
        """End the request if anything was wrong.

        Raises:
            Refusal: 422 with every fault.
        """
        if self:
            count = "one thing is" if len(self) == 1 else f"{len(self)} things are"
            more = "; the list ends here" if self.enough else ""
            raise Refusal(
                422, f"{count} wrong with what was sent{more}; nothing was accepted", faults=self[:MOST_FAULTS]
            )


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one remote's orders are like.

    Attributes:
        patience: seconds until the deadline of an order that brings none.
        needs: what the context of an order must hold that was not started here.
        abilities: what else can be asked of the remote.
        kinds: the kinds of task it can start, and a sentence about each.
    """

    patience: float
    title: str = ""
    needs: frozenset[str] = frozenset()
    abilities: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = {}


class Beginning(NamedTuple):
    """What was posted to start a task: the wish, and what is made of it once it is fulfilled."""

    wish: Wish
    made: Callable[[Started], Order]


class Intake:
    """Makes orders of what was posted.

    Args:
        remotes: the configured ones, by name; the first is meant when none is given.
        now: epoch seconds.
    """

    def __init__(self, *, remotes: Mapping[str, Terms], now: Callable[[], float]) -> None:
        self._remotes = dict(remotes)
        self._first = next(iter(remotes))
        self._now = now
        self._readers: Mapping[str, Reader] = {
            "task_id": fields.task_id,
            "taskID": fields.task_id,
            "remote": self._remote,
            "context": fields.context,
            "projectID": fields.label,
            "batch": fields.label,
            "feed": fields.label,
            "dry_run": fields.flag,
            "deadline": fields.deadline,
            "filename": fields.pattern,
        }

    def beginning(self, remote: str, posted: Any, fit: Callable[[Wish], Wish]) -> Beginning:
        """Read what is to be started, and what is to be known of its order.

        Args:
            remote: where.
            posted: as it came.
            fit: checks a wish, and fills in what was not said; raises Misfit.

        Raises:
            Refusal: 422; it names every field that is wrong.
        """
        now, faults = self._now(), Faults()
        if not isinstance(posted, dict):
            faults.add("", 'must be an object such as {"input": {}}')
            faults.refuse()
        given = {name: value for name, value in posted.items() if name not in _STARTING}
        wish = self._wish(posted, bool(given.get("dry_run")), faults)
        if not faults:
            try:
                wish = fit(wish)
            except Misfit as misfit:
                faults.extend(Fault(field, message) for field, message in misfit.faults)
        asked = self._fields(given, "", now, faults, clashing=False)
        for name in {"task_id", "taskID", "remote"} & given.keys():
            faults.add(name, "is not for who starts a task: the address names the remote, and the remote the task")
        faults.refuse()
        return Beginning(wish, lambda started: self._of(remote, started, asked, now))

    def found(self, remote: str, task_id: str, context: Mapping[str, Any], asked: dict[str, Any]) -> Order:
        """Make the order of a task that the remote has; *asked* is what ``asked`` gave."""
        known = {**context, **(asked.get("context") or {})}
        return self._made({**asked, "task_id": task_id, "remote": remote, "context": known}, self._now())

    def fits(self, task: Task) -> bool:
        """Tell whether a task that a remote names can be an order at all."""
        try:
            return bool(fields.task_id(task.task_id)) and fields.context(task.context) is not None
        except ValueError:
            return False

    def asked(self, given: dict[str, Any]) -> dict[str, Any]:
        """Read what is to be known of orders whose tasks are yet to be found.

        Raises:
            Refusal: 422; it names every field that is wrong.
        """
        faults = Faults()
        asked = self._fields(given, "", self._now(), faults, clashing=False)
        for name in {"task_id", "taskID", "remote"} & given.keys():
            faults.add(name, "is not for who looks for tasks")
        faults.refuse()
        return asked

    def _wish(self, posted: dict[str, Any], dry_run: bool, faults: Faults) -> Wish:  # noqa: FBT001 - of the wish
        given, kind = posted.get("input") or {}, posted.get("kind") or ""
        if not isinstance(given, dict):
            faults.add(
                "input", 'must be an object, such as {"type": "product-export"}; in a form, write input.NAME=value'
            )
            given = {}
        try:
            fields.inputs(given)
        except ValueError as error:
            faults.add("input", str(error))
        if not isinstance(kind, str):
            faults.add("kind", "must be a string")
            kind = ""
        return Wish(kind=kind, input=given, dry_run=dry_run, start_id=str(uuid4()))

    def _of(self, remote: str, started: Started, asked: dict[str, Any], now: float) -> Order:
        """Make the order of a task that was started: it is as old as the request, and as its task."""
        order = self._made({**asked, "task_id": started.task_id, "remote": remote}, now)
        return msgspec.structs.replace(order, kept=started.kept)

    def orders(self, posted: Any) -> list[Order]:
        """Read one order, or a list of them.

        Raises:
            Refusal: 422; it names every field that is wrong.
        """
        now = self._now()
        if isinstance(posted, list):
            return self._list(posted, now)
        faults = Faults()
        order = self._plain(posted, now) or self._order(posted, "", now, faults)
        faults.refuse()
        return [order] if order else []

    def _list(self, posted: list[Any], now: float) -> list[Order]:
        faults = Faults()
        if not 1 <= len(posted) <= MOST_ORDERS:
            faults.add("", f"a list has 1 to {MOST_ORDERS} orders, this one {len(posted)}")
            faults.refuse()
        orders = list(self._read_all(posted, now, faults))
        faults.refuse()
        return orders

    def _read_all(self, posted: list[Any], now: float, faults: Faults) -> Iterator[Order]:
        places: dict[tuple[str, str], int] = {}
        for index, item in enumerate(posted):
            order = self._plain(item, now) or self._order(item, f"[{index}]", now, faults)
            if faults.enough:
                return
            if order is None:
                continue
            if (first := places.setdefault((order.remote, order.task_id), index)) != index:
                faults.add(f"[{index}].task_id", f"is the same task as [{first}]")
            yield order

    def _plain(self, item: object, now: float) -> Order | None:
        """Read an order of which everything is right, in one go; None if it takes a closer look."""
        if type(item) is not dict or _clashes(item):
            return None
        readers = self._readers
        try:
            order = self._made({name: readers[name](value) for name, value in item.items()}, now)
        except (KeyError, ValueError):
            return None
        return order if self._remotes[order.remote].needs <= order.context.keys() else None

    def _order(self, item: object, where: str, now: float, faults: Faults) -> Order | None:
        """Read one order; None if anything is wrong with it."""
        found = len(faults)
        if not isinstance(item, dict):
            faults.add(where, 'must be an object such as {"task_id": "84ad"}')
            return None
        asked = self._fields(item, where + "." if where else "", now, faults)
        if len(faults) == found:
            order = self._made(asked, now)
            lacks = sorted(self._remotes[order.remote].needs - order.context.keys())
            for name in lacks:
                faults.add(f"{where}.context" if where else "context", f"needs {name}: {order.remote} is asked with it")
            return None if lacks else order
        return None

    def _fields(
        self, item: dict[str, Any], where: str, now: float, faults: Faults, *, clashing: bool = True
    ) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        if isinstance(item, Doubled):
            for name in item.names:
                faults.add(where + name, "is given more than once")
        for name, value in item.items():
            if faults.enough:
                break
            try:
                asked[name] = self._value(name, value, now, () if clashing else _STARTING)
            except ValueError as error:
                faults.add(where + name[: fields.LABEL_CHARACTERS], str(error))
        for fault in _clashes(item) if clashing else ():
            faults.add(where + fault.field, fault.message)
        return asked

    def _value(self, name: str, value: object, now: float, more: Collection[str]) -> Any:
        reader = self._readers.get(name)
        if reader is None:
            raise ValueError(f"is no field of an order{did_you_mean(name, (*self._readers, *more))}")
        if value is None and name not in {"task_id", "taskID"}:
            return None
        read = reader(value)
        if name == "deadline":
            fields.instant_of(read, now)
        return read

    def _made(self, asked: dict[str, Any], now: float) -> Order:
        words = asked.get("deadline")
        context = asked.get("context") or {}
        if project := asked.get("projectID"):
            context = {**context, "projectID": project}
        remote = asked.get("remote") or self._first
        return place(
            remote,
            asked.get("task_id") or asked["taskID"],
            now,
            deadline=now + self._remotes[remote].patience if words is None else fields.instant_of(words, now),
            context=context,
            dry_run=asked.get("dry_run") or False,
            deadline_as_given=words,
            **{name: asked[name] for name in _AS_GIVEN if name in asked},
        )

    def _remote(self, value: object) -> str:
        if not isinstance(value, str) or value not in self._remotes:
            guess = did_you_mean(value, self._remotes) if isinstance(value, str) else ""
            raise ValueError(f"must be one of {', '.join(self._remotes)}{guess}")
        return value


def _clashes(item: dict[str, Any]) -> list[Fault]:
    """Find what is said twice in different words, or not at all."""
    faults = []
    if ("task_id" in item) is ("taskID" in item):
        faults.append(_TWICE if "task_id" in item else _MISSING)
    if "projectID" in item and isinstance(context := item.get("context"), dict) and "projectID" in context:
        faults.append(_IN_CONTEXT)
    return faults
