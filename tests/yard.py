"""A poller with a fake remote and fake downloads, in virtual time: the loop's own behaviour, laid bare."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from poller.address import Origin
from poller.event import Event
from poller.governor import Governor
from poller.lane import Lane, Limits
from poller.modest import Modest
from poller.order import Key, Order, place
from poller.outcome import File, NotReady, Outcome, Published, Trouble
from poller.pace import Pace
from poller.poller import Poller
from poller.redact import Redactor
from poller.remote import Aborted, Answer, Conversation, Delivery, Link, Ready
from poller.step import Course
from poller.store import Store
from poller.stores.memory import MemoryStore
from tests.clock import now, passes

_LOOK = 0.05
"""Seconds between two looks at first."""
READY = Ready(links=(Link(url="https://files.example/one"),))


class FakeRemote(Modest):
    """Answers from a script: an answer for every question about a task, the last one for ever."""

    name = "fake"
    base = Origin("https", "fake.example", 443)
    origins = frozenset({base})
    auth = None
    delivery = Delivery()

    def __init__(self) -> None:
        self.scripts: dict[str, list[Answer | Outcome | Exception]] = {}
        self.confirms: list[str] = []

    def check(self, order: Order) -> Conversation[Answer]:
        script = self.scripts.get(order.task_id, [READY])
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
        yield

    def confirm(self, order: Order) -> Conversation[Answer]:
        self.confirms.append(order.task_id)
        return NotReady()
        yield


class FakeAsker:
    """Carries conversations in *latency* virtual seconds and *requests* requests, and counts how many at once."""

    def __init__(self, governor: Governor) -> None:
        self.governor = governor
        self.latency = 0.1
        self.requests = 1
        self.before = 0.0
        self.between: Callable[[], None] = lambda: None
        self.sent: list[float] = []
        self.now = 0
        self.most = 0
        self.asked: list[float] = []

    async def ask(self, conversation: Conversation[Answer]) -> Answer | Outcome:
        self.now += 1
        self.most = max(self.most, self.now)
        self.asked.append(now())
        try:
            await passes(self.before)
            for number in range(self.requests):
                if number:
                    self.between()
                await self.governor.turn(patient=False)
                self.sent.append(now())
            await passes(self.latency)
            next(conversation)
        except Aborted as aborted:
            conversation.close()
            return aborted.outcome
        except StopIteration as end:
            self._hear(end.value)
            await passes(0.001)  # the head of a reply is heard before its body is read
            return end.value
        finally:
            self.now -= 1
        raise AssertionError("a fake remote asks nothing")

    def _hear(self, answer: Answer) -> None:
        status = (isinstance(answer, Trouble) and answer.status) or 200
        wish = answer.retry_after if isinstance(answer, Trouble) else None
        self.governor.heard(status, {} if wish is None else {"retry-after": f"{wish:.0f}"}, own=True)


class FakeFetcher:
    """Downloads in as many virtual seconds as a task wants, and notes what it published."""

    def __init__(self) -> None:
        self.takes: dict[str, float] = {}
        self.outcomes: dict[str, Outcome | Exception] = {}
        self.now = 0
        self.most = 0
        self.too_late_to_cancel: set[str] = set()
        self.begun: Counter[str] = Counter()
        self.published: Counter[str] = Counter()

    async def fetch(self, order: Order, ready: Ready) -> Outcome:
        self.begun[order.task_id] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await passes(self.takes.get(order.task_id, 0.1))
        except asyncio.CancelledError:
            if order.task_id not in self.too_late_to_cancel:
                raise
        finally:
            self.now -= 1
        outcome = self.outcomes.get(order.task_id)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return outcome
        self.published[order.task_id] += 1
        file = File(name=order.task_id, size=1, sha256="00", media_type="", published_at=now())
        return Published(files=(file,))


class Yard:
    """Everything that a test of the loop wants to hold in its hands."""

    def __init__(self, limits: Limits, pace: Pace, grace: float, downloads: int, per_minute: int, store: Any) -> None:
        self.governor = Governor(now=now, clock=asyncio.get_running_loop().time, per_minute=per_minute)
        self.remote, self.asker, self.fetcher = FakeRemote(), FakeAsker(self.governor), FakeFetcher()
        self.store = store or MemoryStore()
        self.told: list[tuple[str, Event]] = []
        self.course = course = Course(
            remote=self.remote,
            asker=self.asker,
            fetcher=self.fetcher,
            store=self.store,
            policy=pace,
            tell=self._hear,
            redact=Redactor(["canary"]),
            now=now,
            downloads=downloads,
        )
        self.lane = Lane(course=course, store=self.store, now=now, limits=limits, governor=self.governor)
        self.poller = Poller(
            lanes=[self.lane], store=self.store, tell=self._hear, now=now, grace=grace, retention=86400.0
        )

    def _hear(self, order: Order, event: Event) -> None:
        self.told.append((order.task_id, event))

    def words(self, task_id: str) -> list[str]:
        """Say what was told about an order, in order."""
        return [event.event for told, event in self.told if told == task_id]

    async def add(self, *task_ids: str, patience: float = 3600.0, dry_run: bool = False) -> None:
        """Add orders as the hook does."""
        orders = self.poller.scheduled([order(task_id, patience=patience, dry_run=dry_run) for task_id in task_ids])
        await self.store.add(orders)
        self.poller.added(orders)

    async def read(self, task_id: str) -> Order:
        """Read an order that must be there."""
        found = await self.store.get(Key("fake", task_id))
        assert found is not None
        return found

    async def until(self, true: Callable[[Order], bool], *task_ids: str, within: float = 10_000.0) -> Sequence[Order]:
        """Let virtual time pass until something is true of every order named; the longer, the less often is looked."""
        time = asyncio.get_running_loop().time
        began = time()
        async with asyncio.timeout(within):
            while True:
                orders = await self._all(true, task_ids)
                if orders is not None:
                    return orders
                await passes(min(max(_LOOK, (time() - began) / 200), 1.0))

    async def _all(self, true: Callable[[Order], bool], task_ids: Sequence[str]) -> Sequence[Order] | None:
        """Give the orders if it is true of all of them; read no more of them than it takes to see that it is not."""
        orders = []
        for task_id in reversed(task_ids):
            orders.append(await self.read(task_id))
            if not true(orders[-1]):
                return None
        return orders[::-1]

    async def rest(self, *task_ids: str, within: float = 10_000.0) -> Sequence[Order]:
        """Let virtual time pass until the orders have come to rest."""
        return await self.until(lambda order: order.due_at is None, *task_ids, within=within)


def order(task_id: str, *, patience: float = 3600.0, dry_run: bool = False) -> Order:
    """Make a new order, due now."""
    at = now()
    return place("fake", task_id, at, deadline=at + patience, dry_run=dry_run)


@asynccontextmanager
async def yard(
    *,
    limits: Limits | None = None,
    pace: Pace | None = None,
    grace: float = 25.0,
    downloads: int = 8,
    per_minute: int = 0,
    store: Store | None = None,
    started: bool = True,
) -> AsyncIterator[Yard]:
    """Run a yard; stop it in the end, and hear of any task that died."""
    it = Yard(limits or Limits(), pace or Pace(), grace, downloads, per_minute, store)
    working = asyncio.create_task(it.poller.run()) if started else None
    try:
        yield it
    finally:
        it.poller.stop()
        if working is not None:
            await working
