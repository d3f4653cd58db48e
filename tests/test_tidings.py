"""What remotes want to hear is said at least once, and what cannot be recorded is undone; virtual time, real store."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from poller.envoy import Envoy
from poller.errand import Heard, Started, Version, Wish
from poller.errors import Busy, Declined, StoreUnavailable, Unreached
from poller.event import Event
from poller.modest import Modest
from poller.order import Order, State, place
from poller.outcome import Locked, NothingToFetch, NotReady, Refused, Trouble
from poller.remote import Caps, Conversation
from poller.stores.memory import MemoryStore
from poller.tidings import Heralds, Tidings
from poller.watcher import Watcher

NOW = 1_800_000_000.0


class Remote(Modest):
    """Wants to hear of everything, and answers from a script."""

    name = "acme"
    abilities = frozenset({"cancel", "start", "after", "feed"})
    watched = 0.0

    def tells(self, order: Order) -> bool:
        return True


class Asker:
    """Answers from a script, whatever is asked; the last answer for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def ask(self, conversation: Conversation[Any]) -> Any:
        conversation.close()
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer() if callable(answer) else answer


def order(task_id: str = "T1", state: State = State.DONE) -> Order:
    """Make an order at rest."""
    return replace(place("acme", task_id, NOW, deadline=NOW + 1e6), state=state, due_at=None)


def tidings(asker: Asker, store: MemoryStore, told: list[str], now: Callable[[], float] = lambda: NOW) -> Tidings:
    """Make the tidings of a remote."""
    note = lambda order, event: told.append(event.event)  # noqa: E731
    return Tidings(remote=Remote(), asker=asker, store=store, tell=note, redact=lambda text, **_: text, now=now)


async def run(it: Tidings, until: Callable[[], bool]) -> None:
    """Run until something is so."""
    stopping = asyncio.Event()
    running = asyncio.create_task(it.run(stopping))
    while not until():
        await asyncio.sleep(0)
    stopping.set()
    await running


async def test_what_is_owed_outlives_the_process() -> None:
    """It is noted before the order is saved; who starts after us says it, and strikes it out."""
    store, told = MemoryStore(), []
    await store.add([order()])
    await tidings(Asker(Trouble(reason="down")), store, told).owe(order())
    assert await store.recall("acme tidings") == {'["acme","T1"]': NOW}
    heard = Asker(Heard())
    await run(tidings(heard, store, told), lambda: "told_there" in told)
    assert (told, heard.asked, await store.recall("acme tidings")) == (["told_there"], 1, {})


async def test_what_was_owed_and_never_saved_is_not_said() -> None:
    """An order that waits after all will be owed anew; one that is gone is nobody's business."""
    store, told, asker = MemoryStore(), [], Asker(Heard())
    await store.add([order("T1", State.PENDING)])
    it = tidings(asker, store, told, now=iter([NOW, NOW, *[NOW + 1000.0] * 100]).__next__)
    await it.owe(order("T1"))
    await it.owe(order("none"))
    it.saved()
    await run(it, lambda: not it._owed)
    assert (told, asker.asked) == ([], 0)


@pytest.mark.parametrize(
    ("answers", "events"),
    [
        ((Trouble(reason="x", status=500), Heard()), ["told_there_later", "told_there"]),
        ((Refused(reason="no such step", status=404),), ["not_told_there"]),
        ((7, NothingToFetch()), ["told_there_later", "told_there"]),
    ],
)
async def test_it_is_said_until_it_is_heard_or_refused(
    answers: tuple[Any, ...], events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble is tried again; a no is a no."""
    monkeypatch.setattr("poller.tidings._FIRST", 0.001)
    store, told = MemoryStore(), []
    await store.add([order()])
    it = tidings(Asker(*answers), store, told)
    await it.owe(order())
    await run(it, lambda: not it._owed)
    assert told == events


async def test_nobody_listens_for_ever() -> None:
    """After a day it is given up; of a thousand that are owed, the oldest makes room; a store that is away waits."""
    store, told = MemoryStore(), []
    await store.add([order()])
    late = iter([NOW, *[NOW + 90_000.0] * 100])
    it = tidings(Asker(Trouble(reason="x")), store, told, now=lambda: next(late))
    await it.owe(order())
    await run(it, lambda: not it._owed)
    assert told == ["not_told_there"]
    it = tidings(Asker(Heard()), store, told)
    for number in range(1001):
        await it.owe(order(f"N{number}"))
    assert len(it._owed) == 1000
    assert '["acme","N0"]' not in it._owed


def test_a_herald_knows_whom_to_tell() -> None:
    """Its own orders, and those of others that name it; none that still waits."""
    it = tidings(Asker(Heard()), MemoryStore(), [])
    heralds = Heralds({"acme": it})
    assert heralds.of(order()) is it
    assert heralds.of(replace(order(), remote="other", context={"tell": "acme"})) is it
    assert heralds.of(replace(order(), context={"tell": "other"})) is None
    assert heralds.of(order("T1", State.PENDING)) is None


# --- the envoy


def envoy(asker: Asker, store: MemoryStore | None = None) -> Envoy:
    """Make an envoy."""
    redact = lambda text, **_: text  # noqa: E731
    return Envoy(remote=Remote(), asker=asker, store=store or MemoryStore(), redact=redact, now=lambda: NOW)


def made(started: Started) -> Order:
    """Make the order of a task."""
    return replace(order(started.task_id, State.PENDING), due_at=NOW)


async def test_a_conversation_that_breaks_is_trouble() -> None:
    """Whoever wrote the remote has a mistake in it; the shop is told, and nobody else falls."""

    async def breaks() -> None:
        raise ZeroDivisionError("by nought")

    with pytest.raises(Unreached, match="an error of our own: ZeroDivisionError: by nought"):
        await envoy(Asker(breaks)).start(Wish(), made)


@pytest.mark.parametrize(
    ("answer", "kind", "hint"),
    [
        (Refused(reason="no", status=400), Declined, ""),
        (Locked(reason="no key"), Unreached, "poller remotes try"),
        (Trouble(reason="timeout"), Unreached, "look there"),
        (Trouble(reason="down", status=503), Unreached, "nobody knows"),
        (Trouble(reason="no id", status=201), Unreached, "nobody knows"),
        (Trouble(reason="slow down", status=429), Busy, "nothing was started"),
        (7, Unreached, "nobody knows"),
    ],
)
async def test_a_start_that_fails_is_told_for_what_it_is(answer: Any, kind: type, hint: str) -> None:
    """A no, a locked door, or that nobody knows."""
    with pytest.raises(kind) as raised:
        await envoy(Asker(answer)).start(Wish(), made)
    assert hint in raised.value.hint
    assert bool(hint) == bool(raised.value.hint)


async def test_a_remote_that_does_not_answer_a_cancellation_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shop is answered after a while, and the history says why the remote was not told."""
    monkeypatch.setattr("poller.envoy._PATIENCE", 0.001)
    event = await envoy(Asker(asyncio.Event().wait)).cancel(order())
    assert event == Event(at=NOW, event="not_canceled_there", reason="it did not answer within 0 s")


async def test_a_start_without_a_record_names_its_task() -> None:
    """What became of the task is in the hint, whatever the remote made of the cancellation."""

    class Full(MemoryStore):
        async def add(self, orders: Any) -> Any:
            raise StoreUnavailable("full")

    with pytest.raises(StoreUnavailable) as raised:
        await envoy(Asker(Started(task_id="T7"), 7), Full()).start(Wish(), made)
    assert raised.value.hint == "the task 'T7' that acme has started could not be canceled: it said int"
    it = envoy(Asker(Started(task_id="T7")), Full())
    it.remote.abilities = frozenset()
    with pytest.raises(StoreUnavailable) as raised:
        await it.start(Wish(), made)
    assert raised.value.hint.endswith("could not be canceled there")


# --- the watcher


async def test_a_version_is_ordered_before_it_is_remembered() -> None:
    """A store that fails between the two makes it the same order again; a look that fails is repeated sooner."""
    store, ordered = MemoryStore(), []

    async def add(order: Order) -> None:
        ordered.append(order)
        if len(ordered) == 1:
            raise StoreUnavailable("full")

    version = Version(task_id="v1", seen={"etag": '"v1"'})
    asker = Asker(version, version, NothingToFetch(), Trouble(reason="down", status=503))
    it = Watcher(remote=Remote(), asker=asker, store=store, add=add, patience=60.0, now=lambda: NOW)
    assert await it.look() is False
    assert await store.recall("acme feed") is None
    assert await it.look() is True
    assert await store.recall("acme feed") == {"etag": '"v1"'}
    assert (ordered[1].task_id, ordered[1].kept, ordered[1].deadline) == ("v1", {"etag": '"v1"'}, NOW + 60)
    assert await it.look() is True
    assert await it.look() is False
    stopping = asyncio.Event()
    running = asyncio.create_task(it.run(stopping))
    while asker.asked < 8:
        await asyncio.sleep(0)
    stopping.set()
    await running


async def test_what_was_canceled_here_alone_still_takes_its_place() -> None:
    """A remote that runs one task at a time, and cannot be told, is asked whether the canceled one is over."""

    class Single(Remote):
        caps = Caps(tasks=1)
        abilities = frozenset({"start"})

        def check(self, order: Order) -> Conversation[object]:
            yield from ()
            return None

    asker = Asker(NotReady(), Trouble(reason="x"), Started(task_id="T2"))
    redact = lambda text, **_: text  # noqa: E731
    it = Envoy(remote=Single(), asker=asker, store=MemoryStore(), redact=redact, now=lambda: NOW)
    assert await it.cancel(order("T1", State.CANCELED)) is None
    with pytest.raises(Busy):
        await it.start(Wish(), made)
    assert (await it.start(Wish(), made))[0].task_id == "T2"
    with pytest.raises(Busy, match="one task at a time"):
        await it.room(2)
