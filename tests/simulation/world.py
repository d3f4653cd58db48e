"""One seed's world: a remote, a network, a disk and a shop that outlive the processes of a poller."""

import asyncio
import gc
import io
import logging
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from poller import folders, partial, partials
from poller import poller as polling
from poller import publisher as publishing
from poller.bus import Bus
from poller.client import Client
from poller.downloader import Downloader
from poller.errors import ConfigurationError, PollerError, StoreUnavailable
from poller.event import Event
from poller.governor import Governor
from poller.lane import Lane, Limits
from poller.log import Narrator, configure
from poller.order import Key, Order, State
from poller.pace import Pace
from poller.partial import Slot
from poller.poller import Poller
from poller.publisher import Publisher
from poller.redact import Redactor
from poller.step import Course
from poller.stores import commits, tinydb
from poller.stores.ledger import Ledger
from poller.stores.tinydb import TinyStore
from tests.clock import EPOCH
from tests.grafx import SECRET, grafx
from tests.simulation.checker import Checker
from tests.simulation.clock import Ended, Inline, Loop, Queue, Thread
from tests.simulation.disk import FolderOs, Plan, StoreDisk, Watch
from tests.simulation.grafx import GraFx
from tests.simulation.history import History
from tests.simulation.network import Network
from tests.simulation.shop import REMOTE, Shop
from tests.simulation.weather import Weather
from tests.stores import Crash, die

_PATIENCE = 6 * 3600.0
"""Virtual seconds after the last trouble within which everything comes to rest."""
_MEND = 20.0
"""Virtual seconds between two looks at whether the store is well; looking every second is most of what a day costs."""
_MINUTE = 59.999
_OVERDUE = 180.0
"""Virtual seconds by which an order may rest late: the lane's nap, a request under way when the clock was set."""


class World:
    """Lives one seed.

    Args:
        seed: decides everything.
        folder: an empty one.
        hours: virtual hours in which things go wrong.
        orders: how many.
    """

    def __init__(self, seed: int, folder: Path, *, hours: float, orders: int) -> None:
        self.history = History()
        self.until = hours * 3600.0
        self.elapsed = 0.0
        self.log = io.StringIO()
        self._seed = seed
        self._loop: Loop | None = None
        self._dead: list[tuple[Loop, Life]] = []
        self._build(folder, orders)

    def _build(self, folder: Path, orders: int) -> None:
        self.store_folder, orders_folder = folder / "store", folder / "orders"
        self.store_folder.mkdir()
        self.weather = Weather(self._draw("weather"), self.until, self.time)
        self.grafx = GraFx(self._draw("grafx"), self.time, lambda: self.weather.on("locked"))
        self.network = Network(self._draw("network"), self.weather, self.grafx, self.history, self.time)
        self.shop = Shop(self._draw("shop"), self.history, self.time, self.now, self.grafx.start)
        self.shop.plan(orders, self.until * 0.8)
        self.disk = StoreDisk(self.store_folder, self._draw("disk"))
        self.folder = FolderOs(orders_folder, self._draw("folder"))
        self.watch = Watch(self.folder, self.grafx.tasks, self.time, self.history.breach)
        calm = 0.0 if self.weather.fair else self.until
        self.checker = Checker(self.history, self.grafx.tasks, self.shop.asked, self.network.dealt, calm)
        self._jumps = self._clock_jumps(self._draw("jumps"))
        self._ends = self._draw("ends")
        self.boot = 1
        self.per_minute = self._draw("cap").choice((0, 0, 0, 20, 120))

    def _draw(self, purpose: str) -> random.Random:
        return random.Random(f"{self._seed} {purpose}")

    # --- time

    def time(self) -> float:
        """Tell virtual seconds since the world began."""
        return self._loop.time() if self._loop is not None else self.elapsed

    def now(self) -> float:
        """Tell what the wall clock says: it is set forth and back."""
        return EPOCH + self.time() + sum(by for at, by in self._jumps if at <= self.time())

    def _clock_jumps(self, chance: random.Random) -> list[tuple[float, float]]:
        return [
            (chance.uniform(0, self.until), chance.choice((-3600.0, 3600.0, 7.0, -7.0)))
            for _ in range(chance.choice((0, 0, 1, 3)))
        ]

    # --- lives

    def live(self) -> None:
        """Let one process after the other begin, work and end, until all is at rest; then check."""
        random.seed(self._seed)
        with _replaced(self):
            while self.time() < self.until:
                self._life(self._next_end())
            self._life(self.until + _PATIENCE)
            self._check()
            self.history.closed = True
            self._bury()

    def _check_rate(self) -> None:
        """No minute of a process holds more requests than it may send."""
        sent, cap = self.network.sent, self.per_minute
        if cap and any(later - at < _MINUTE for at, later in zip(sent, sent[cap:], strict=False)):
            self.history.breach(f"more than {cap} requests were sent within a minute")

    def _check(self) -> None:
        """Check how all ended, as the next process finds it."""
        self._check_rate()
        life = Life(self, self.elapsed, last=True)
        self._loop = loop = Loop(self.elapsed, self._draw("end"), life.plan.job, self.watch.look)
        self._dead.append((loop, life))
        try:
            orders, histories = loop.run_until_complete(life.read())
        except PollerError as error:
            self.history.breach(f"what is left cannot be read: {error}")
            return
        self.checker.settled(orders, histories, self.watch.seen)
        self.checker.no_late_files(self.watch.came)
        self.checker.no_secret(self.texts())

    def _next_end(self) -> float:
        return min(self.time() + self._ends.choice((60.0, 3600.0, 6 * 3600.0)) * self._ends.random(), self.until)

    def _life(self, end: float) -> None:
        """Let one process live until some time at most, and end in one of all ways."""
        life = Life(self, end, last=end > self.until)
        self._loop = loop = Loop(self.elapsed, self._draw(f"loop {self.elapsed}"), life.plan.job, self.watch.look)
        self._check_rate()
        self.network.restart()
        try:
            loop.run_until_complete(life.live())
        except (Ended, Crash):
            self._crashed(life)
        except Exception:
            self.history.breach(f"the process died:\n{traceback.format_exc()}")
            life.die()
        self.history.breaches += loop.errors
        self._dead.append((loop, life))
        self.elapsed = loop.time() + self._ends.choice((0.1, 5.0, 300.0)) * self._ends.random()
        self._loop = None
        self.shop.forget()
        self.watch.look(thoroughly=True)

    def _crashed(self, life: "Life") -> None:
        power = self._ends.random() < 0.5
        self.history.note(self.time(), "power lost" if power else "killed")
        life.die()
        if power:
            self.boot += 1
            self.disk.lose_power()
            self.folder.lose_power()

    def _bury(self) -> None:
        """Let what dead processes left in memory come to an end; nobody looks any more."""
        for loop, life in self._dead:
            life.plan.buried, self.folder.plan = True, life.plan
            for _ in range(5):
                if tasks := asyncio.all_tasks(loop):
                    for task in tasks:
                        task.cancel()
                    with suppress(Ended, Crash):
                        loop.run_until_complete(asyncio.wait(tasks, timeout=100.0))
            loop.close()
            if life.folder is not None:
                life.folder.close()
        gc.unfreeze()

    # --- the end

    def texts(self) -> Iterator[tuple[str, str]]:
        """Give everything that was written or said."""
        yield "the log", self.log.getvalue()
        for path in self.store_folder.iterdir():
            yield path.name, path.read_bytes().decode("utf-8", "replace")
        yield "an event", repr(self.history.told)


class LifePlan(Plan):
    """A plan that also knows what is done in threads."""

    def job(self, func: Any) -> None:
        """Say whether a job of a thread may begin."""
        if self.dead and not self.buried:
            raise Ended
        inner = getattr(func, "func", None)
        if getattr(inner, "__name__", "") == "append_now":
            self(0, "write")


class Life:
    """One process.

    Args:
        world: around it.
        end: when it ends, at the latest.
        last: whether it goes on until everything is at rest.
    """

    def __init__(self, world: World, end: float, *, last: bool) -> None:
        self.world, self._end, self._last = world, end, last
        self.plan = LifePlan(world._draw(f"plan {world.elapsed}"), world.weather)
        self.store: TinyStore | None = None
        self.folder: Publisher | None = None
        self.ledgers: list[Ledger] = []
        self._overdue: dict[Key, float] = {}
        world.disk.begin(self.plan)
        world.folder.plan = self.plan

    async def live(self) -> None:
        """Begin, work, end."""
        world = self.world
        world.history.note(world.time(), "begins")
        world.history.begun.append(world.time())
        try:
            await self._begin()
        except PollerError as error:
            world.history.note(world.time(), "cannot begin", type(error).__name__)
            if not isinstance(error, StoreUnavailable | ConfigurationError):
                world.history.breach(f"the store was refused: {error}")
            self.die()
            return
        assert self.store is not None
        world.checker.found({order.task_id: order for order in await self._orders()})
        await self._see_partials()
        await self._work(self.store)

    def _ledger(self, *args: Any, **named: Any) -> Ledger:
        self.ledgers.append(Ledger(*args, **named))
        return self.ledgers[-1]

    async def _begin(self) -> None:
        world, chance = self.world, self.world._ends
        with patch.object(tinydb, "Ledger", self._ledger):
            await self._open(world, chance)
        self.folder = Publisher(
            folder=world.folder.folder,
            pattern="{task_id}{ext}",
            executor=Inline(),
            now=world.now,
            boot=str(world.boot),
        )
        assert self.store is not None
        await self.folder.partials.sweep(self.store.get)

    async def _see_partials(self) -> None:
        """See that what an earlier process left of a file is left for an order that waits for it."""
        waited_for = {Slot.of(order).family for order in await self._pending()}
        for path in (self.world.folder.folder / ".partial").iterdir():
            if path.name.partition("-")[0] not in waited_for:
                self.world.history.breach(f"the partial {path.name} is left, and nobody waits for it")

    async def _open(self, world: World, chance: random.Random) -> None:
        self.store = await TinyStore.open(
            world.store_folder / "orders.json",
            now=world.now,
            report=lambda text: world.log.write(f"{text}\n"),
            files=world.disk.files,
            full=chance.choice((2000, 20_000, 2**24)),
        )

    async def _work(self, store: TinyStore) -> None:
        poller = self._poller(store)
        working = asyncio.create_task(poller.run())
        async with asyncio.TaskGroup() as group:
            visiting = group.create_task(self.world.shop.work(store, poller, group))
            watching = group.create_task(self._watch(store))
            await self._until_the_end(store)
            visiting.cancel()
            watching.cancel()
            await self._stop(poller, working)
        await store.close()

    async def read(self) -> tuple[dict[str, Order], dict[str, Sequence[Event]]]:
        """Begin, and tell what is there."""
        await self._begin()
        assert self.store is not None
        await self._see_partials()
        orders = await self._orders()
        histories = {order.task_id: (await self.store.history(order.key)).events for order in orders}
        await self.store.close()
        return {order.task_id: order for order in orders}, histories

    async def _until_the_end(self, store: TinyStore) -> None:
        """Wait for the planned end; a sudden one raises on the way."""
        way = self.world._ends.choice(("stop", "kill", "fuse"))
        loop = asyncio.get_running_loop()
        if not self._last and way == "kill":
            loop.call_at(self._end, self._kill)
        while loop.time() < self._end and not (self._last and await self._all_at_rest(store)):
            await asyncio.sleep(min(60.0, max(self._end - loop.time(), 0.001)))
        if not self._last and way == "fuse":
            self.plan.light(self.world._ends.randint(0, 12))
            await asyncio.sleep(600.0)

    def _kill(self) -> None:
        self.plan.dead = True
        raise Ended

    async def _all_at_rest(self, store: TinyStore) -> bool:
        return self.world.shop.content and not (await store.counts())[State.PENDING]

    async def _stop(self, poller: Poller, working: asyncio.Task[None]) -> None:
        poller.stop()
        if self.world._ends.random() < 0.3:
            await asyncio.sleep(self.world._ends.random())
            poller.abandon()
        await working

    async def _watch(self, store: TinyStore) -> None:
        """See that deadlines are kept while the process and its disk are well."""
        while True:
            await asyncio.sleep(60.0)
            now = self.world.now()
            pending = [] if store.problem else await self._pending()
            late = {order.key for order in pending if order.deadline < now}
            self._overdue = {key: self._overdue.get(key, self.world.time()) for key in late}
            for key, since in self._overdue.items():
                if self.world.time() - since > _OVERDUE:
                    self.world.history.breach(f"{key.task_id} is pending long after its deadline")

    async def _pending(self) -> list[Order]:
        return [order for order in await self._orders() if order.state is State.PENDING]

    async def _orders(self) -> list[Order]:
        assert self.store is not None
        found = [await self.store.get(Key(REMOTE, task)) for task in self.world.shop.asked]
        return [order for order in found if order is not None]

    def die(self) -> None:
        """Let go of what the system takes back from a process that is gone."""
        self.plan.dead = True
        self.world.folder.unlock()
        if self.store is not None:
            die(self.store)
        for ledger in self.ledgers:
            ledger._lock.release()
            with suppress(Crash):
                ledger._let_go()

    # --- as app builds it, but for the wire

    def _poller(self, store: TinyStore) -> Poller:
        bus = Bus()
        bus.listen(Narrator())
        assert self.folder is not None
        bus.listen(self.folder.partials.told)
        bus.listen(lambda order, event: self.world.history.tell(self.world.time(), order, event))
        lane = self._lane(store, bus)
        return Poller(lanes=[lane], store=store, tell=bus.tell, now=self.world.now, grace=25.0, retention=1e9)

    def _lane(self, store: TinyStore, bus: Bus) -> Lane:
        world = self.world
        remote = grafx()
        clock = asyncio.get_running_loop().time
        world.network.governor = Governor(now=world.now, clock=clock, per_minute=world.per_minute)
        redact = Redactor([SECRET])
        configure("json", world.log, redact)
        client = Client(remote=remote, wire=world.network, learn=redact.learn, now=world.now, clock=clock)
        downloader = Downloader(
            source=client, folder=self.folder, delivery=remote.delivery, max_bytes=2**20, now=world.now
        )
        course = Course(
            remote=remote,
            asker=client,
            fetcher=downloader,
            store=store,
            policy=Pace.learning(window=remote.delivery.window),
            tell=bus.tell,
            redact=redact,
            now=world.now,
            downloads=2,
        )
        limits = Limits(checks=8, lease=60.0)
        return Lane(course=course, store=store, now=world.now, limits=limits, governor=world.network.governor)


@contextmanager
def _replaced(world: World) -> Iterator[None]:
    """Put virtual things where threads, clocks and the folder's disk would be; give all back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    clock: Callable[[], float] = world.time
    with (
        patch.object(commits, "Thread", Thread),
        patch.object(commits, "SimpleQueue", Queue),
        patch.object(polling, "_MEND_FIRST", _MEND),
        patch.object(tinydb, "time", SimpleNamespace(monotonic=clock)),
        patch.object(publishing, "os", world.folder),
        patch.object(partials, "os", world.folder),
        patch.object(partial, "LEAST", 1000),
        patch.object(folders, "os", world.folder),
    ):
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
