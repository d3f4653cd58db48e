"""The shop: what it asks for and when, and what it was answered."""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from poller import order as fate
from poller.errors import Conflict, NotFound, PollerError, Stale
from poller.order import Key, Order, place
from poller.poller import Poller
from poller.store import Query, Store
from tests.simulation.history import History

REMOTE = "grafx"
_PATIENCE = (150.0, 600.0, 3600.0, 3600.0, 4 * 3600.0)
_COMMANDS = {"confirm": fate.confirm, "cancel": fate.cancel, "retry": fate.retry, "check": fate.check}
_WORDS = {"confirm": "confirmed", "cancel": "canceled", "retry": "retried", "check": "check_requested"}
_AGAIN = 30.0
"""Seconds after which an order that was not answered is sent again."""


class Wish(NamedTuple):
    """Something that the shop will ask for."""

    at: float
    number: int
    what: str
    task: str


class Asked(NamedTuple):
    """Something that the shop did ask for.

    Attributes:
        answer: the order as it was answered, why it was refused, or None if nothing ever came.
    """

    what: str
    at: float
    answered_at: float | None = None
    answer: Order | str | None = None


class Shop:
    """Has wishes, asks for them, and remembers the answers.

    Attributes:
        asked: by task, in the order in which it was asked; the last word on each is entered when it comes.
    """

    def __init__(
        self,
        chance: random.Random,
        history: History,
        time: Callable[[], float],
        now: Callable[[], float],
        started: Callable[[str], object],
        planted: Callable[[str], object],
    ) -> None:
        self.asked: dict[str, list[Asked]] = {}
        self._chance, self._history, self._time, self._now, self._started = chance, history, time, now, started
        self._planted = planted
        self._desk: Callable[[Wish], object] | None = None
        self._until = 0.0
        self._wishes: list[Wish] = []
        self._count = 0
        self._traits: dict[str, tuple[float, bool]] = {}
        self._open: set[str] = set()

    def plan(self, orders: int, until: float) -> None:
        """Make up what to ask for, until some time."""
        self._until = until
        for number in range(orders):
            task = f"T{number}"
            at = self._chance.uniform(0, until)
            self._traits[task] = self._chance.choice(_PATIENCE), self._chance.random() < 0.1
            self._wish(at, "start", task)
            self._wish(at + self._chance.choice((0.0, 0.1, 30.0)), "add", task)
            for what in self._chance.choices(("again", "other", "list", *_COMMANDS), k=self._chance.randint(0, 4)):
                self._wish(at + self._chance.choice((1.0, 60.0, 3600.0)) * self._chance.random(), what, task)
            if self._chance.random() < 0.05:
                self._wish(at + 60.0 * self._chance.random(), "plant", task)

    def _wish(self, at: float, what: str, task: str) -> None:
        self._count += 1
        heapq.heappush(self._wishes, Wish(at, self._count, what, task))

    @property
    def content(self) -> bool:
        """Whether there is nothing left to ask for."""
        return not self._wishes and not self._open

    def forget(self) -> None:
        """Learn that the process is gone: whoever added and had no answer adds again."""
        for task in sorted(self._open):
            self._wish(self._time() + _AGAIN, "add", task)
        self._open.clear()

    async def work(self, store: Store, poller: Poller, group: asyncio.TaskGroup) -> None:
        """Ask one process for everything as its time comes."""
        self._desk = lambda wish: group.create_task(self._ask(wish, store, poller))
        try:
            while True:
                await asyncio.sleep(max(self._wishes[0].at - self._time(), 0.0) if self._wishes else _AGAIN / 2)
                if self._wishes and self._wishes[0].at <= self._time():
                    self._fulfil(heapq.heappop(self._wishes))
        finally:
            self._desk = None

    def _fulfil(self, wish: Wish) -> None:
        if wish.what in {"start", "plant"}:
            (self._started if wish.what == "start" else self._planted)(wish.task)
        elif self._desk is not None:
            self._desk(wish)

    def tempt(self, task: str, share: float) -> bool:
        """Have one's word about a task at the worst of moments, or very shortly after: rarely, as *share* says."""
        can = self._desk is not None and task in self._traits and self._time() < self._until
        tempted = can and self._chance.random() < share
        if tempted:
            what = self._chance.choice(("cancel", "cancel", "check", "retry"))
            wish = Wish(self._time() + self._chance.uniform(0, 0.02), 0, what, task)
            asyncio.get_running_loop().call_at(wish.at, self._fulfil, wish)
            if what == "cancel":
                self._wish(wish.at + 600.0 * self._chance.random(), "retry", task)
        return tempted

    async def _ask(self, wish: Wish, store: Store, poller: Poller) -> None:
        mine = self.asked.setdefault(wish.task, [])
        place_ = len(mine)
        mine.append(Asked(wish.what, self._time()))
        if wish.what == "add":
            self._open.add(wish.task)
        answer = await self._answered(self._request(wish, store, poller))
        self._history.note(self._time(), "answered", wish.what, wish.task, _brief(answer))
        mine[place_] = Asked(wish.what, mine[place_].at, self._time() if answer is not None else None, answer)
        if wish.what == "add":
            self._open.discard(wish.task)
            if answer is None:
                self._wish(self._time() + _AGAIN, "add", wish.task)

    async def _answered(self, request: Awaitable[Any]) -> Any:
        try:
            return await request
        except (Conflict, NotFound, Stale) as error:
            return type(error).__name__
        except PollerError:
            return None

    def _request(self, wish: Wish, store: Store, poller: Poller) -> Awaitable[Any]:
        if wish.what in _COMMANDS:
            return poller.apply(Key(REMOTE, wish.task), _COMMANDS[wish.what], _WORDS[wish.what])
        if wish.what == "list":
            return self._list(store)
        return self._add(wish, store, poller)

    async def _add(self, wish: Wish, store: Store, poller: Poller) -> Order:
        patience, dry_run = self._traits[wish.task]
        now = self._now()
        context = {"shop": wish.task, **({"other": True} if wish.what == "other" else {})}
        order = place(REMOTE, wish.task, now, deadline=now + patience, dry_run=dry_run, context=context)
        [(kept, new)] = await store.add([order])
        if new:
            poller.added([kept])
        return kept

    async def _list(self, store: Store) -> str:
        page = await store.search(Query(limit=500))
        return f"{page.count} orders"


def _brief(answer: Order | str | None) -> str:
    return f"{answer.state.value} {answer.generation}" if isinstance(answer, Order) else str(answer)
