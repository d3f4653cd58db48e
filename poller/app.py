"""Builds everything from the settings, runs it, and stops it in order.

Nothing below this file sees the settings: every part gets the values and the
collaborators that it uses.
"""

import asyncio
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import structlog
from aiohttp import web

from poller.bus import Bus
from poller.caps import shared
from poller.client import Client
from poller.downloader import Downloader
from poller.envoy import Envoy
from poller.errors import ConfigurationError, StoreError
from poller.event import Event
from poller.governor import Governor
from poller.lane import Lane, Limits
from poller.log import Narrator
from poller.machine import boot_id
from poller.order import Order
from poller.pace import Pace, intervals
from poller.poller import Poller
from poller.publisher import Publisher
from poller.redact import Redactor
from poller.remote import Remote
from poller.settings import Settings
from poller.step import Course
from poller.store import Store
from poller.stores.tinydb import TinyStore
from poller.tidings import Heralds, Tidings
from poller.watcher import Watcher
from poller.web import Terms, application
from poller.wire import Wire

Errand: TypeAlias = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Something that is done until it is told to stop."""

_FILE_THREADS = 8
"""fsync waits for the disk, so several in parallel are quicker than one; more gained nothing."""
_SHUTDOWN = 2.0
"""Seconds that the hook's open requests get at the very end."""


class Service:
    """A poller at work.

    Attributes:
        url: the hook's address.
        store: keeps the orders.
        desk: takes the shop's commands.
        working: ends when the poller has stopped, or with what it failed of.
    """

    def __init__(self, *, url: str, store: Store, desk: Poller, working: asyncio.Task[None]) -> None:
        self.url = url
        self.store = store
        self.desk = desk
        self.working = working


@asynccontextmanager
async def running(settings: Settings, redact: Redactor | None = None) -> AsyncIterator[Service]:
    """Run a poller; at the end, wait for what is under way and stop everything in order.

    Raises:
        ConfigurationError, StoreError: it cannot start; the hint says what to do.
    """
    redact = redact or Redactor(settings.secrets)
    bus = Bus()
    bus.listen(Narrator())
    async with AsyncExitStack() as stack:
        store = await TinyStore.open(Path(settings.store), now=time.time, report=_reported)
        stack.push_async_callback(store.close)
        calm_collector()
        files = stack.enter_context(ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="files"))
        folder = await _folder(settings, store, files, stack)
        bus.listen(folder.partials.told)
        tidings: dict[str, Tidings] = {}
        heralds = Heralds(tidings)
        crews = [
            await _crew(remote, settings, store, folder, bus, redact, heralds, stack) for remote in settings.remotes
        ]
        tidings.update({crew.lane.name: crew.tidings for crew in crews})
        poller = Poller(
            lanes=[crew.lane for crew in crews],
            envoys=[crew.envoy for crew in crews],
            heralds=heralds,
            errands=[errand for crew in crews for errand in _errands(crew, settings, store, bus)],
            store=store,
            tell=bus.tell,
            now=time.time,
            grace=settings.grace,
            retention=settings.retention,
        )
        url = await _hook(settings, store, poller, stack)
        working = asyncio.create_task(poller.run(), name="poller")
        working.add_done_callback(_heard)
        try:
            yield Service(url=url, store=store, desk=poller, working=working)
        finally:
            poller.stop()
            await working


def calm_collector() -> None:
    """Look for garbage seldom, and never among what is there by now: requests leave next to none that must be found."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def _reported(text: str) -> None:
    """Tell what the store wants an operator to know."""
    structlog.get_logger("poller.store").warning("store", reason=text)


def _heard(working: asyncio.Task[None]) -> None:
    """Tell at once that the poller died; whoever runs it ends, and raises it again."""
    error = None if working.cancelled() else working.exception()
    if error is not None:
        structlog.get_logger("poller").critical("crashed", exc_info=error)


async def serve(settings: Settings, redact: Redactor) -> int:
    """Run a poller until a signal: the first lets it finish, the second interrupts.

    Returns:
        The exit code: 0, 128 and the number of the second signal, or 1 after a crash.

    Raises:
        ConfigurationError, StoreError: it cannot start; the hint says what to do.
    """
    signals: asyncio.Queue[int] = asyncio.Queue()
    try:
        with _signals(signals.put_nowait):
            async with running(settings, redact) as service:
                number = await _until_stopped(settings, service, signals)
    except BaseExceptionGroup:
        return 1  # told already, and through the redactor
    structlog.get_logger("poller").info("stopped", at_once=number is not None)
    return 0 if number is None else 128 + number


async def _until_stopped(settings: Settings, service: Service, signals: asyncio.Queue[int]) -> int | None:
    """Wait for the end; give the second signal, if there was one."""
    log = structlog.get_logger("poller")
    log.info("listening", url=service.url, remotes=[remote.name for remote in settings.remotes])
    await _first(signals, service)
    log.info("stopping", under_way=service.desk.under_way, grace=settings.grace)
    service.desk.stop()
    number = await _first(signals, service)
    service.desk.abandon()
    return number


async def _first(signals: asyncio.Queue[int], service: Service) -> int | None:
    """Wait for a signal, or for the work to end; give the signal if it came first."""
    signal_ = asyncio.create_task(signals.get())
    await asyncio.wait({signal_, service.working}, return_when=asyncio.FIRST_COMPLETED)
    if signal_.done():
        return signal_.result()
    signal_.cancel()
    return None


@contextmanager
def _signals(heard: Callable[[int], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, heard, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _folder(settings: Settings, store: Store, executor: ThreadPoolExecutor, stack: AsyncExitStack) -> Publisher:
    """Open the orders folder, and clear away the partials that are of no use."""
    folder = Publisher(
        folder=settings.orders_dir,
        pattern=settings.filename,
        executor=executor,
        now=time.time,
        keep=settings.disk_reserve,
        boot=boot_id(),
    )
    stack.callback(folder.close)
    await folder.partials.sweep(store.get)
    return folder


class _Crew(NamedTuple):
    """Who works for one remote."""

    lane: Lane
    envoy: Envoy
    tidings: Tidings
    asker: Client


async def _crew(
    remote: Remote,
    settings: Settings,
    store: Store,
    folder: Publisher,
    bus: Bus,
    redact: Redactor,
    heralds: Heralds,
    stack: AsyncExitStack,
) -> _Crew:
    shares = shared(
        requests_per_minute=settings.requests_per_minute,
        connections=settings.connections,
        checks=settings.checks,
        downloads=settings.downloads,
        page=remote.caps,
    )
    governor = Governor(now=time.time, clock=time.monotonic, per_minute=shares.requests_per_minute)
    wire = Wire(
        base=remote.base,
        origins=remote.origins,
        connections=shares.connections,
        idle_timeout=settings.idle_timeout,
        floor_rate=settings.floor_rate,
        clock=time.monotonic,
        governor=governor,
    )
    stack.push_async_callback(wire.close)
    client = Client(remote=remote, wire=wire, learn=redact.learn, now=time.time, clock=time.monotonic)
    pace = Pace.learning(
        await store.recall(remote.name),
        **intervals(settings.interval_min, settings.interval_max, remote.pacing),
        attempts=settings.attempts,
        window=remote.delivery.window,
    )
    stack.push_async_callback(_keep, pace, store, remote.name)
    downloader = Downloader(
        source=client,
        folder=folder,
        delivery=remote.delivery,
        max_bytes=settings.max_file_bytes,
        now=time.time,
    )
    tidings = Tidings(remote=remote, asker=client, store=store, tell=bus.tell, redact=redact, now=time.time)
    course = Course(
        remote=remote,
        asker=client,
        fetcher=downloader,
        store=store,
        policy=pace,
        tell=bus.tell,
        redact=redact,
        now=time.time,
        downloads=shares.downloads,
        heralds=heralds,
    )
    limits = Limits(checks=shares.checks, lease=settings.lease)
    lane = Lane(course=course, store=store, now=time.time, limits=limits, governor=governor)
    envoy = Envoy(remote=remote, asker=client, store=store, redact=redact, now=time.time)
    return _Crew(lane, envoy, tidings, client)


def _errands(crew: _Crew, settings: Settings, store: Store, bus: Bus) -> Iterator[Errand]:
    """Give what is to be done for a remote besides its orders."""
    remote = crew.envoy.remote
    if "after" in remote.abilities:
        yield crew.tidings.run
    if remote.watched is None:
        return

    async def add(order: Order) -> None:
        [(kept, is_new)] = await store.add([crew.lane.schedule(order)])
        if is_new:
            bus.tell(kept, Event(at=kept.created_at, event="added", next_at=kept.due_at))
            crew.lane.wake()

    patience = min(settings.deadline, remote.pacing.deadline or settings.deadline)
    watcher = Watcher(remote=remote, asker=crew.asker, store=store, add=add, patience=patience, now=time.time)
    yield watcher.run


async def _keep(pace: Pace, store: Store, remote: str) -> None:
    """Keep, in the end, what was learned since the last time."""
    if habits := pace.memo():
        with suppress(StoreError):
            await store.remember(remote, habits)


def _terms(remote: Remote, deadline: float) -> Terms:
    """Say what a remote's orders are like."""
    return Terms(
        patience=min(deadline, remote.pacing.deadline or deadline),
        title=remote.title,
        needs=remote.needs,
        abilities=remote.abilities,
        kinds=remote.kinds,
    )


async def _hook(settings: Settings, store: Store, poller: Poller, stack: AsyncExitStack) -> str:
    """Listen; give the address, with the port that was found if any would do."""
    hook = application(
        store=store,
        desk=poller,
        remotes={remote.name: _terms(remote, settings.deadline) for remote in settings.remotes},
        orders_dir=settings.orders_dir,
        token=settings.token,
        hosts=(settings.host, *settings.allowed_hosts),
        origins=settings.allowed_origins,
        max_pending=settings.max_pending,
        now=time.time,
    )
    # An access log of every request halves what the hook can take; what matters is told as an event.
    # Bodies come as they are: a compressed one is refused, and would be inflated before that.
    runner = web.AppRunner(hook, access_log=None, auto_decompress=False, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        # A port that the system picks is ours alone; with address reuse, another could pick it at the same moment.
        await web.TCPSite(runner, settings.host, settings.port, reuse_address=settings.port != 0).start()
    except OSError as error:
        reason = f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"
        hint = "choose another POLLER_PORT (0 finds a free one), or stop what listens there"
        raise ConfigurationError(reason, hint=hint) from None
    host, port = runner.addresses[0][:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
