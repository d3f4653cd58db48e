"""One seed's world: a remote, a network, a disk and a shop that outlive the processes of a poller."""

import asyncio
import gc
import io
import logging
import random
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from poller import downloader as downloading
from poller import folders, partial, partials, space
from poller import lane as lanes
from poller import poller as polling
from poller import publisher as publishing
from poller.bus import Bus
from poller.client import Client
from poller.downloader import Downloader
from poller.errors import ConfigurationError, PollerError, StoreLocked, StoreUnavailable
from poller.event import QUIET, Event
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
from poller.stores import commits, tinydb, turns
from poller.stores.ledger import Ledger
from poller.stores.tinydb import TinyStore
from tests.clock import EPOCH
from tests.grafx import SECRET, grafx
from tests.simulation.checker import LEAST, Checker
from tests.simulation.clock import Ended, Inline, Loop, Queue, Thread
from tests.simulation.disk import KEEP, FolderOs, Plan, StoreDisk, Watch
from tests.simulation.grafx import MAX_BYTES, GraFx
from tests.simulation.history import RESTING, History, Hopeless
from tests.simulation.manners import CHECKS, DOWNLOADS, Manners
from tests.simulation.network import Network
from tests.simulation.rounds import Matter, Rounds
from tests.simulation.shop import REMOTE, Shop
from tests.simulation.weather import Weather
from tests.stores import Crash, die

_PATIENCE = 6 * 3600.0
"""Virtual seconds after the last trouble within which everything comes to rest."""
_MEND = 30.0
"""Virtual seconds between two looks at whether the store is well; looking every second is most of what a day costs."""
_MINUTE = 60.0
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
        self.remote = grafx()
        self.said: set[str] = set()
        self._seed = seed
        self._loop: Loop | None = None
        self._dead: list[tuple[Loop, Life]] = []
        self._build(folder, orders)

    def _build(self, folder: Path, orders: int) -> None:
        self.store_folder, orders_folder = folder / "store", folder / "orders"
        self.store_folder.mkdir()
        self.weather = Weather(self._draw("weather"), self.until, self.time)
        self.grafx = GraFx(self._draw("grafx"), self.time, lambda: self.weather.on("locked"))
        self.grafx.revoked_at = self._revocations(self._draw("revocations"))
        self.manners = Manners(self.history, self.time)
        self.folder = FolderOs(
            orders_folder, self._draw("folder"), lambda: self.weather.on("scarce"), self.history.breach
        )
        self.watch = Watch(self.folder, self.grafx.tasks, self.time, self.history.breach)
        plants = self._draw("plants")
        self.shop = Shop(
            self._draw("shop"),
            self.history,
            self.time,
            self.now,
            started=self.grafx.start,
            planted=lambda task: self.watch.plant(task, plants),
        )
        self.network = Network(
            self._draw("network"),
            self.weather,
            self.grafx,
            self.history,
            self.manners,
            time=self.time,
            tempt=lambda task: self.shop.tempt(task, 0.003),
            begun=self.folder.begins,
        )
        self.shop.plan(orders, self.until * 0.8)
        self.disk = StoreDisk(self.store_folder, self._draw("disk"))
        calm = 0.0 if self.weather.fair else self.until
        self._jumps = self._clock_jumps(self._draw("jumps"))
        self.checker = Checker(
            self.history,
            self.grafx.tasks,
            self.shop.asked,
            self.manners,
            calm_since=calm,
            jumps=[at for at, _ in self._jumps],
            wall=self._wall,
        )
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
        return self._wall(self.time())

    def _wall(self, time: float) -> float:
        return EPOCH + time + sum(by for at, by in self._jumps if at <= time)

    def _clock_jumps(self, chance: random.Random) -> list[tuple[float, float]]:
        return [
            (chance.uniform(0, self.until), chance.choice((-3600.0, 3600.0, 7.0, -7.0)))
            for _ in range(chance.choice((0, 0, 1, 3)))
        ]

    def _revocations(self, chance: random.Random) -> list[float]:
        """Say when all tokens are taken back, the last time first."""
        return sorted((chance.uniform(0, self.until) for _ in range(chance.choice((0, 1, 4)))), reverse=True)

    # --- lives

    def live(self) -> None:
        """Let one process after the other begin, work and end, until all is at rest; then check."""
        random.seed(self._seed)
        with _replaced(self):
            with suppress(Hopeless):
                self._live()
            self.history.closed = True
            self._bury()

    def _live(self) -> None:
        while self.time() < self.until:
            self._life(self._next_end())
        self._life(self.until + _PATIENCE)
        self._check()

    def _check_rate(self) -> None:
        """No minute of a process holds more requests than it may send."""
        sent, cap = self.network.sent, self.per_minute
        if cap and any(later - at < _MINUTE - 0.001 for at, later in zip(sent, sent[cap:], strict=False)):
            self.history.breach(f"more than {cap} requests were sent within a minute")

    def _check(self) -> None:
        """Check how all ended, as the next process finds it."""
        self._check_rate()
        life = Life(self, self.elapsed, last=True)
        self._loop = loop = self._made("end", life)
        self._dead.append((loop, life))
        try:
            orders, histories = loop.run_until_complete(life.read())
        except PollerError as error:
            self.history.breach(f"what is left cannot be read: {error}")
            return
        self.checker.settled(orders, histories, self.watch.seen, self.watch.planted)
        self.checker.no_late_files(self.watch.came, self.watch.planted)
        self.checker.no_lost_files(orders, self.watch.came, self.watch.planted)
        self.checker.no_secret(self.texts())

    def _made(self, purpose: str, life: "Life") -> Loop:
        return Loop(self.elapsed, self._draw(purpose), life.plan.job, self.watch.look, self._submitted)

    def _submitted(self, func: Any, args: Sequence[Any]) -> float:
        """Let the shop have its word just when a file is being published; that takes a while then."""
        publishing = getattr(getattr(func, "func", func), "__name__", "") == "_publish_now"
        files = (args or func.args)[0] if publishing else ()
        return 0.5 if any(self.shop.tempt(file.partial.slot.task_id, 0.2) for file in files) else 0.0

    def _next_end(self) -> float:
        return min(self.time() + self._ends.choice((60.0, 3600.0, 6 * 3600.0)) * self._ends.random(), self.until)

    def _life(self, end: float) -> None:
        """Let one process live until some time at most, and end in one of all ways."""
        life = Life(self, end, last=end > self.until)
        self._loop = loop = self._made(f"loop {self.elapsed}", life)
        self._dead.append((loop, life))
        self._check_rate()
        self.network.restart()
        self.manners.restart()
        try:
            loop.run_until_complete(life.live())
        except (Ended, Crash):
            self._crashed(life)
        except Exception:
            self.history.breach(f"the process died:\n{traceback.format_exc()}")
            life.die()
        self.history.breaches += loop.errors
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
                    with suppress(Ended, Crash, Hopeless):
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
        yield "an answer", repr(self.shop.asked)
        yield "a sidecar", repr(self.folder.noted)
        yield "the reason of a pause", repr(self.said)


class LifePlan(Plan):
    """A plan that also knows what is done in threads."""

    breach: Callable[[str], None]

    def job(self, func: Any) -> None:
        """Say whether a job of a thread may begin."""
        if self.dead and not self.buried:
            raise Ended
        inner = getattr(func, "func", None)
        if getattr(inner, "__name__", "") == "append_now":
            raw = inner.__self__.raw
            if raw is not None and raw.closed and not self.buried:
                self.breach(f"{raw.name} is written to, and nobody has it any more")
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
        self.plan.breach = world.history.breach
        self.store: TinyStore | None = None
        self.folder: Publisher | None = None
        self.ledgers: list[Ledger] = []
        self._whims = world._draw(f"whims {world.elapsed}")
        self._rounds = Rounds(world.history, world.time)
        self._done_at = world.time()
        self._at_rest: dict[Key, int] = {}
        world.disk.begin(self.plan)
        world.folder.begin(self.plan)

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
        await self._find()
        await self._see_partials()
        await self._intrude()
        await self._work(self.store)

    async def _find(self) -> None:
        """See what there is, as nobody but the store knows it."""
        found = await self._read_anew()
        self._at_rest = {order.key: order.generation for order in found if order.state in RESTING}

    async def _read_anew(self) -> list[Order]:
        found = await self._orders()
        self.world.checker.found({order.task_id: order for order in found})
        return found

    async def _intrude(self) -> None:
        """Let a second process try to open the store, now and then."""
        if self._whims.random() < 0.2:
            with suppress(StoreLocked):
                second = await TinyStore.open(self.world.store_folder / "orders.json", now=self.world.now)
                self.world.history.breach("a second process opened the store")
                die(second)

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
            keep=KEEP,
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
        reopen = self.store.reopen
        self.store.reopen = lambda: self._noted(reopen())  # type: ignore[method-assign]

    async def _noted(self, reopening: Awaitable[None]) -> None:
        """Take note that nobody knew what was durable, as if another process began."""
        await reopening
        self.world.history.begun.append(self.world.time())
        await self._read_anew()

    async def _work(self, store: TinyStore) -> None:
        poller = self._poller(store)
        working = asyncio.create_task(poller.run())
        async with asyncio.TaskGroup() as group:
            visiting = group.create_task(self.world.shop.work(store, poller, group))
            watching = group.create_task(self._watch(store, poller))
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

    async def _watch(self, store: TinyStore, poller: Poller) -> None:
        """Look round while the process lives."""
        while True:
            await asyncio.sleep(_MINUTE)
            try:
                orders = [] if store.problem else await self._orders()
            except StoreUnavailable:
                orders = []
            matters = (
                self._busy(poller),
                self._ill(store),
                self._shut(poller),
                self._late(orders),
                self._untold(orders),
                self._left(orders),
            )
            self._rounds.go(chain.from_iterable(matters))

    def _busy(self, poller: Poller) -> Iterator[Matter]:
        if poller.under_way > CHECKS + 5 * DOWNLOADS:
            yield Matter(f"{poller.under_way} orders are under way", 0.0)
        if poller.under_way and self.world.manners.is_idle:
            yield Matter("orders are under way, and nothing happens", _OVERDUE)

    def _shut(self, poller: Poller) -> Iterator[Matter]:
        """Find a remote that is thought to be down, or closed, and is not."""
        for reason in poller.paused.values():
            self.world.said.add(reason)
            if self.world.manners.is_well and self.world.time() - self.world.grafx.denied_at > _MINUTE:
                yield Matter(f"the remote is paused, and answers ({reason})", _OVERDUE)

    def _ill(self, store: TinyStore) -> Iterator[Matter]:
        if store.problem and not any(map(self.world.weather.on, ("disk_full", "disk_broken", "no_files"))):
            yield Matter("the store is not reopened, and its disk is well", 900.0)

    def _late(self, orders: Sequence[Order]) -> Iterator[Matter]:
        """Find what should have been looked at: deadlines are kept, and so is what is due if there are few."""
        now, pending = self.world.now(), [order for order in orders if order.state is State.PENDING]
        for order in pending:
            if order.deadline < now:
                yield Matter(f"{order.task_id} is pending long after its deadline", _OVERDUE)
            elif order.due_at is not None and order.due_at < now and len(pending) <= CHECKS:
                yield Matter(f"{order.task_id} was due at {order.due_at}, and nobody looks after it", 2 * _OVERDUE)

    def _untold(self, orders: Sequence[Order]) -> Iterator[Matter]:
        """Find what came to rest in this life, and nobody was told."""
        for order in orders:
            told = self.world.history.told.get(order.task_id)
            since_then = order.state in RESTING and self._at_rest.get(order.key) != order.generation
            if since_then and (not told or told[-1][1].version < order.version):
                yield Matter(f"{order.task_id} is {order.state}, and nobody was told", 60.0)

    def _left(self, orders: Sequence[Order]) -> Iterator[Matter]:
        """Find partials that nobody waits for; only a fault of the disk excuses them."""
        if self.plan.faults or not orders:
            return
        families = {Slot.of(order).family for order in orders if order.state is State.PENDING}
        for path in self.world.folder.partials():
            if path.name.partition("-")[0] not in families:
                yield Matter(f"the partial {path.name} is left, and nobody waits for it", 120.0)

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
        bus.listen(self._deaf)
        bus.listen(Narrator())
        assert self.folder is not None
        bus.listen(self.folder.partials.told)
        bus.listen(self._heard)
        lane = self._lane(store, bus)
        return Poller(lanes=[lane], store=store, tell=bus.tell, now=self.world.now, grace=25.0, retention=1e9)

    def _heard(self, order: Order, event: Event) -> None:
        """Take note of what is told, and see that it may be."""
        world = self.world
        world.history.tell(world.time(), order, event)
        world.checker.heard(order, event, self.world.watch.seen)
        if event.event == "done":
            self._done_at = world.time()
        if event.event not in QUIET and not self._last and self._whims.random() < 0.03:
            asyncio.get_running_loop().call_later(self._whims.random(), self._kill)  # at the worst of moments
        if event.event == "remote_paused" and not self._is_shut():
            world.history.breach(f"{order.task_id} is paused with the remote, which is well: {event.reason}")
        if event.event == "local_fault" and not self._is_ill():
            world.history.breach(f"{order.task_id} met a fault of the disk, which is well: {event.reason}")

    def _is_shut(self) -> bool:
        """Tell whether nobody is let in, or the remote may be thought to be down."""
        return self.world.time() - self.world.grafx.denied_at < 5.0 or self.world.manners.seems_down(180.0)

    def _is_ill(self) -> bool:
        """Tell whether the machine was at fault since a file was published, or was about to be."""
        since, was_on = self._done_at - _MINUTE, self.world.weather.was_on
        return self.plan.fault_at >= since or was_on("no_files", since) or was_on("scarce", since)

    def _deaf(self, order: Order, event: Event) -> None:
        """Fail now and then, as somebody's listener may."""
        if self._whims.random() < 0.003:
            raise RuntimeError("a listener that fails")

    def _lane(self, store: TinyStore, bus: Bus) -> Lane:
        world = self.world
        remote = world.remote
        clock = asyncio.get_running_loop().time
        world.network.governor = Governor(now=world.now, clock=clock, per_minute=world.per_minute)
        redact = Redactor([SECRET])
        configure("json", world.log, redact)
        client = Client(remote=remote, wire=world.network, learn=redact.learn, now=world.now, clock=clock)
        downloader = Downloader(
            source=client, folder=self.folder, delivery=remote.delivery, max_bytes=MAX_BYTES, now=world.now
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
            downloads=DOWNLOADS,
        )
        limits = Limits(checks=CHECKS, lease=60.0)
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
        patch.object(lanes, "_STORE_PAUSE", _MEND),
        patch.object(turns, "time", SimpleNamespace(monotonic=clock)),
        patch.object(publishing, "os", world.folder),
        patch.object(partials, "os", world.folder),
        patch.object(partial, "LEAST", LEAST),
        patch.object(downloading, "LEAST", LEAST),
        patch.object(partials, "_HASHED", 2 * LEAST),
        patch.object(folders, "os", world.folder),
        patch.object(space, "os", world.folder),
    ):
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
