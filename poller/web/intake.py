"""From what was posted to orders, or to everything that is wrong with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from poller.order import Order, place
from poller.web import fields
from poller.web.body import Doubled
from poller.web.guess import did_you_mean
from poller.web.problem import Fault, Refusal

MOST_ORDERS = 1_000
MOST_FAULTS = 100
"""Whoever makes more mistakes in one request makes the same one again and again."""

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


class Intake:
    """Makes orders of what was posted.

    Args:
        remotes: the configured names; the first is meant when none is given.
        patience: seconds until the deadline of an order that brings none.
        now: epoch seconds.
    """

    def __init__(self, *, remotes: Sequence[str], patience: float, now: Callable[[], float]) -> None:
        self._remotes = tuple(remotes)
        self._patience = patience
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
            return self._made({name: readers[name](value) for name, value in item.items()}, now)
        except (KeyError, ValueError):
            return None

    def _order(self, item: object, where: str, now: float, faults: Faults) -> Order | None:
        """Read one order; None if anything is wrong with it."""
        found = len(faults)
        if not isinstance(item, dict):
            faults.add(where, 'must be an object such as {"task_id": "84ad"}')
            return None
        asked = self._fields(item, where + "." if where else "", now, faults)
        return self._made(asked, now) if len(faults) == found else None

    def _fields(self, item: dict[str, Any], where: str, now: float, faults: Faults) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        if isinstance(item, Doubled):
            for name in item.names:
                faults.add(where + name, "is given more than once")
        for name, value in item.items():
            if faults.enough:
                break
            try:
                asked[name] = self._value(name, value, now)
            except ValueError as error:
                faults.add(where + name[: fields.LABEL_CHARACTERS], str(error))
        for fault in _clashes(item):
            faults.add(where + fault.field, fault.message)
        return asked

    def _value(self, name: str, value: object, now: float) -> Any:
        reader = self._readers.get(name)
        if reader is None:
            raise ValueError(f"is no field of an order{did_you_mean(name, self._readers)}")
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
        return place(
            asked.get("remote") or self._remotes[0],
            asked.get("task_id") or asked["taskID"],
            now,
            deadline=now + self._patience if words is None else fields.instant_of(words, now),
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
