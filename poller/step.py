"""One order's step, top to bottom: ask, fetch, decide, save, tell.

Everything that may happen on the way is an outcome, our own mistakes included, so one
bad order never takes another with it. Who steps when is the lane's business.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import structlog

from poller import order as fate
from poller.breaker import Breaker, Pause, Row
from poller.doubt import Doubts
from poller.errors import Stale, StoreError
from poller.event import QUIET, Event, tell
from poller.order import Key, Order, Policy, State
from poller.outcome import (
    Absent,
    Crowded,
    Deferred,
    Gone,
    Interrupted,
    Locked,
    NothingToFetch,
    NotReady,
    Outcome,
    Published,
    Refused,
    Stuck,
    Trouble,
    Unknown,
    spoken,
)
from poller.remote import Answer, Conversation, NeedsConfirming, Ready, Remote
from poller.shield import complete
from poller.store import Store
from poller.tidings import Heralds

_LAST_CHECK = 5.0
"""Seconds that a question or a download may take which begins at the deadline or after it."""
_FAR = 3600.0
"""Seconds until a deadline that a question need not be held to: it ends by itself long before."""
_ROOM = 4
_TOO_MANY = 429
_IN_FRONT = frozenset({408, 425, _TOO_MANY})
"""What whoever stands before a remote may say of any request, though nobody is behind him (RFC 9110, 8470, 6585)."""
_MOST_WORDS = 100
"""A remote that makes up a new word each time is not told of for ever."""
_MEND = (
    "the page of the remote needs a verdict about it; until then its orders are asked about again, and fail in the end"
)
_LET_IN = NotReady | Ready | NothingToFetch | NeedsConfirming | Refused | Gone | Absent
"""Answers that only somebody gets who was let in."""


class Asker(Protocol):
    """Carries out conversations; see ``client.Client``."""

    async def ask(self, conversation: Conversation[Answer]) -> Answer | Outcome:
        """Carry one out; raises nothing but a cancellation."""
        ...


class Fetcher(Protocol):
    """Fetches files; see ``downloader.Downloader``."""

    async def fetch(self, order: Order, ready: Ready) -> Outcome:
        """Fetch an order's files; raises nothing but a cancellation."""
        ...


class Pacing(Policy, Protocol):
    """A policy that learns; see ``pace.Pace``. Times are epoch seconds."""

    def learn(self, order: Order, now: float, *, ready: bool) -> None:
        """Take in that an order's task was seen to have ended: its file is there, or it never will be."""
        ...

    def memo(self, now: float) -> Mapping[str, Any] | None:
        """Give what was learned and should be kept, now and then."""
        ...


class Step:
    """One order under way.

    Args:
        order: as it was claimed.
        asked: called once with this step, when the question is over.

    Attributes:
        begun: whether it had its first turn.
        key: the order's.
        asking: while it has a question's slot.
        settling: once it knows what it has come to; saved, the order may be due again at once.
        task: carries it out.
    """

    task: asyncio.Task[None]

    def __init__(self, order: Order, asked: Callable[["Step"], None]) -> None:
        self.order, self.key = order, order.key
        self.begun = self.settling = False
        self.asking = True
        self._asked = asked

    def asked(self) -> None:
        """Free the slot that the question had."""
        if self.asking:
            self.asking = False
            self._asked(self)


def _is_outage(trouble: Trouble) -> bool:
    """Tell trouble that the whole remote may be in: it cannot be reached, or says 5xx."""
    return trouble.status is None or trouble.status >= 500  # noqa: PLR2004 - RFC 9110


def _proves_it_is_up(answer: Answer | Outcome) -> bool:
    """Tell what only a remote says that is there, be it that it lets nobody in, or that this order is no good."""
    if isinstance(answer, Trouble):
        return not _is_outage(answer) and answer.status not in _IN_FRONT
    return isinstance(answer, Locked)


def _tries(pause: Pause, now: float) -> bool:
    """Let one download see whether a pause is over; the others wait for what it finds."""
    if now < pause.until:
        return False
    pause.begin(pause.reason, now)
    return True


class Course:
    """Takes orders of one remote a step further.

    Args:
        remote: whom to ask.
        asker: carries out its conversations.
        fetcher: fetches its files.
        store: keeps the orders.
        policy: when to ask again, and when to give up; it learns.
        tell: is told what happened.
        redact: makes a text from outside fit to be stored and said.
        now: epoch seconds.
        downloads: downloads at once; four times as many orders may wait for one.
        heralds: tell remotes what became of orders, if they want to hear.

    Attributes:
        policy: as given.
        door: on while the remote lets nobody of ours in.
        breaker: open while it is down.
        doubts: what was being saved when the store failed.
    """

    def __init__(  # noqa: PLR0913 - whatever an order meets on its way
        self,
        *,
        remote: Remote,
        asker: Asker,
        fetcher: Fetcher,
        store: Store,
        policy: Pacing,
        tell: Callable[[Order, Event], None],
        redact: Callable[..., str],
        now: Callable[[], float],
        downloads: int,
        heralds: Heralds | None = None,
    ) -> None:
        self.remote = remote
        self._heralds = heralds or Heralds({})
        self.policy = policy
        self.door = Pause()
        self.breaker = Breaker()
        self.doubts = Doubts(store=store, tell=tell)
        self._disk = Pause()
        self._files = Breaker()
        """Open while the files are not to be had, though the remote answers: they may be kept elsewhere."""
        self._flood = Row()
        self._suspects: dict[Key, bool] = {}
        """Who found the door locked, and whether somebody else was let in since."""
        self._unknown: set[str] = set()
        self._asker, self._fetcher, self._store = asker, fetcher, store
        self._tell, self._redact, self._now = tell, redact, now
        self._downloads = asyncio.Semaphore(downloads)
        self._room = _ROOM * downloads
        self._waiting = 0
        self._log = structlog.get_logger("poller.step")

    def shift(self, seconds: float, now: float) -> None:
        """Have every pause last as long as before though the clock was set."""
        for pause in (self.door, self.breaker.pause, self._disk, self._files.pause):
            pause.shift(seconds, now)

    async def take(self, step: Step) -> None:
        """Take one order one step; raises nothing but a cancellation."""
        step.begun = True
        order = step.order
        try:
            await self._go(step)
        except Stale:
            self._log.debug("overtaken", remote=order.remote, task_id=order.task_id)
        except Exception:
            # The claim runs out, and the order is due again.
            self._log.exception("not_saved", remote=order.remote, task_id=order.task_id, context=order.context)

    async def _go(self, step: Step) -> None:
        """One order's life, a step at a time."""
        order = step.order
        try:
            answer = await self._ask(order)
            step.asked()
            order = self._seen(order, answer)
            outcome = await self._fetch(order, answer)
        except TimeoutError:
            outcome = Trouble(reason="cut short by the deadline")
        except asyncio.CancelledError:
            with suppress(StoreError):
                await self.settle(order, Interrupted())
            raise
        except Exception as error:
            self._log.exception("step_failed", remote=order.remote, task_id=order.task_id, context=order.context)
            outcome = Trouble(reason=f"an error of our own: {type(error).__name__}: {error}")
        step.settling = True
        await self.settle(order, outcome)

    async def settle(self, order: Order, outcome: Outcome) -> None:
        """Decide, save, tell; once it is decided, a cancellation comes too late.

        Raises:
            StoreError: it could not be saved, and was not told.
        """
        outcome = spoken(outcome, self._redact)
        now = self._now()
        self._mind(outcome, now)
        after = fate.decide(order, outcome, now, self.policy)
        if habits := self._learned(order, after, now):
            await self._store.remember(self.remote.name, habits)
        event = tell(outcome, after, now)
        kept = None if event.event in QUIET else event
        if after.state is State.PENDING:
            await self._store.save(after, kept, durable=False)  # one that is lost costs an early question
        else:
            await complete(self._concluded(after, kept))
        self._tell(after, event)

    async def _concluded(self, after: Order, kept: Event | None) -> None:
        """Save an order that has come to rest, and have its remote hear of it if that wants to."""
        tidings = self._heralds.of(after)
        if tidings is not None:
            await tidings.owe(after)
        await self.doubts.save(after, kept)
        if tidings is not None:
            tidings.saved()

    def _seen(self, order: Order, answer: Answer | Outcome) -> Order:
        """Learn when a task ended, the first time that is seen."""
        now = self._now()
        if order.ready_at is None and isinstance(answer, Ready | NothingToFetch):
            self.policy.learn(order, now, ready=True)
        return fate.ready(order, now) if isinstance(answer, Ready) else order

    def _learned(self, before: Order, after: Order, now: float) -> Mapping[str, Any] | None:
        """Learn of an order that failed; give, now and then, what was learned, to be kept with what is saved next."""
        if after.state is State.FAILED and before.ready_at is None:
            self.policy.learn(before, now, ready=False)
        return self.policy.memo(now)

    def _deadline(self, order: Order) -> asyncio.Timeout:
        """Hold to an order's deadline what might take longer."""
        left = order.deadline - self._now()
        return asyncio.timeout(left if left > 0 else _LAST_CHECK)

    async def _ask(self, order: Order) -> Answer | Outcome:
        if order.deadline - self._now() > _FAR:
            return await self._answer(order)
        async with self._deadline(order):
            return await self._answer(order)

    async def _answer(self, order: Order) -> Answer | Outcome:
        answer = await self._asker.ask(self.remote.check(order))
        if isinstance(answer, NeedsConfirming):
            answer = await self._asker.ask(self.remote.confirm(order))
        return self._weighed(order, answer)

    def _weighed(self, order: Order, answer: Answer | Outcome) -> Answer | Outcome:
        """Tell what is the order's trouble from what is the remote's, for everybody."""
        if _proves_it_is_up(answer):
            self.breaker.succeed()
        if isinstance(answer, _LET_IN):
            self._let_in(order)
        elif isinstance(answer, Unknown):
            self._alarm(answer)
        elif isinstance(answer, Locked) and self._suspects.setdefault(order.key, False):
            return Trouble(reason=answer.reason, status=answer.status, address=answer.address)
        elif isinstance(answer, Trouble):
            return self._troubled(order, answer)
        return answer

    def _troubled(self, order: Order, trouble: Trouble) -> Outcome:
        """Spare an order's attempts where many have the same trouble: the remote is down, or has more than it wants."""
        told: dict[str, Any] = {"reason": trouble.reason, "status": trouble.status, "address": trouble.address}
        if trouble.status == _TOO_MANY and self._flood.add(order.key):
            return Deferred(**told, retry_after=trouble.retry_after)
        reason, wish = self._redact(trouble.reason), trouble.retry_after
        if _is_outage(trouble) and self.breaker.fail(
            order.key, reason, self._now(), wish, silent=trouble.status is None
        ):
            return Locked(**told)
        return trouble

    def _alarm(self, answer: Unknown) -> None:
        """Call for somebody who mends the page: once for each word, and not for very many."""
        if answer.word not in self._unknown and len(self._unknown) < _MOST_WORDS:
            self._unknown.add(answer.word)
            self._log.error("unknown_word", remote=self.remote.name, word=answer.word, reason=answer.reason, hint=_MEND)

    def _let_in(self, order: Order) -> None:
        """Open for everybody; whoever finds the door locked once more has only himself to blame."""
        self.door.end()
        self.breaker.succeed()
        self._flood.clear()
        if self._suspects:
            self._suspects = dict.fromkeys(self._suspects.keys() - {order.key}, True)

    async def _fetch(self, order: Order, answer: Answer | Outcome) -> Outcome:
        if isinstance(answer, NeedsConfirming):
            return Trouble(reason="the remote wants a confirmation of the confirmation")
        if not isinstance(answer, Ready):
            return answer
        async with self._deadline(order):
            return await self._download(order, answer)

    async def _download(self, order: Order, answer: Ready) -> Outcome:
        now, files = self._now(), self._files.pause
        if self._disk.on and not _tries(self._disk, now):
            return Stuck(reason=self._disk.reason)
        if files.on and not _tries(files, now):
            return Deferred(reason=files.reason, retry_after=files.until - now)
        if self._downloads.locked() and self._waiting >= self._room:
            return Crowded()
        self._waiting += 1
        try:
            await self._downloads.acquire()
        finally:
            self._waiting -= 1
        try:
            fresh = await self._fresh(order, answer, self._now() - now)
            return self._fetched(order, await self._fetcher.fetch(order, fresh)) if isinstance(fresh, Ready) else fresh
        finally:
            self._downloads.release()

    async def _fresh(self, order: Order, ready: Ready, waited: float) -> Ready | Outcome:
        """Get the links anew if they were only good for less than they have waited for a slot."""
        if ready.good_for is None or waited <= ready.good_for:
            return ready
        answer = await self._answer(order)
        return Trouble(reason="the remote wants a confirmation anew") if isinstance(answer, NeedsConfirming) else answer

    def _fetched(self, order: Order, outcome: Outcome) -> Outcome:
        """Tell an order's trouble with its file from everybody's with theirs."""
        if isinstance(outcome, Published):
            self._files.succeed()
        elif (
            isinstance(outcome, Trouble)
            and (_is_outage(outcome) or outcome.status == _TOO_MANY)
            and not outcome.advanced
        ):
            reason, wish = self._redact(outcome.reason), outcome.retry_after
            if self._files.fail(order.key, reason, self._now(), wish):
                return Deferred(reason=outcome.reason, status=outcome.status, address=outcome.address, retry_after=wish)
        return outcome

    def _mind(self, outcome: Outcome, now: float) -> None:
        """Leave a remote alone that lets nobody in, and a disk that takes nothing."""
        if isinstance(outcome, Locked) and not self.breaker.pause.on:
            self.door.begin(outcome.reason, now)
        elif isinstance(outcome, Stuck):
            self._disk.begin(outcome.reason, now)
        elif isinstance(outcome, Published):
            self._disk.end()
