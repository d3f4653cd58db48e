"""When to ask next. Pure: times are epoch seconds and come in from outside.

Not ready
    An order that has waited long will wait on: the next question comes after a share
    of the time already waited, between the two bounds. A file is then collected late
    by at most that share of its making (or the shorter bound), at a number of questions
    that grows with the logarithm of the wait until the longer bound is reached, and then
    by one for each such bound. With the defaults, an eighth between 1 s and 60 s: 26
    questions in the first minute, 43 in the first 8, and one a minute from there, 95 in
    the first hour.

Trouble
    Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter"):
    anywhere between now and the doubled step, so that orders that failed together do
    not return together. The jitter is derived from key and attempt, so that the same
    history always gives the same schedule.

``Retry-After`` (RFC 9110, 10.2.3) is a floor under both, up to a cap.
"""

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import replace

from poller.habit import Habits
from poller.inspection import Bounds
from poller.order import Key, Order
from poller.remote import Pacing


def intervals(shortest: float, longest: float, page: Pacing) -> dict[str, float | int]:
    """Take what the operator allows and what a remote's page wants into account.

    Args:
        shortest: the operator's, in seconds, as the next is.
        longest: seconds between two questions about an order, at most.
        page: what the remote's page says.
    """
    least = max(shortest, page.interval_min or 0.0)
    most = max(least, min(longest, page.interval_max or longest))
    grace = {} if page.grace is None else {"absence_grace": page.grace}
    return {"interval_min": least, "interval_max": most, **grace}


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """One remote's numbers; the policy behind ``order.decide``. Durations are seconds.

    Attributes:
        interval_min: shortest wait between two questions about one order.
        interval_max: longest wait.
        attempts: how many troubles in a row fail an order.
        window: how long the remote keeps a file once it is ready; None for ever.
    """

    interval_min: float = 1.0
    interval_max: float = 60.0
    attempts: int = 20
    window: float | None = None

    share: float = 1 / 8
    spread: float = 1 / 16
    backoff_base: float = 1.0
    backoff_max: float = 300.0
    retry_after_max: float = 3600.0
    """A remote may ask for an hour; beyond that it is mistaken or hostile."""
    absences: int = 5
    habits: Habits | None = None
    """What is known of the remote; None if nothing ever is."""
    absence_grace: float = 60.0
    """Replicas lag and queues are slow: a task younger than this, or asked about less often, may yet appear."""

    @classmethod
    def learning(cls, memo: object = None, **numbers: Any) -> "Pace":
        """Make a pace that learns, beginning with what ``habits.memo`` gave once."""
        pace = cls(**numbers)
        bounds = Bounds(pace.interval_min, pace.interval_max)
        return replace(pace, habits=Habits(rule=pace.fixed, bounds=bounds, memo=memo))

    def next_check(self, order: Order, now: float, retry_after: float | None) -> float:
        """Tell when to ask again about an order that is not ready."""
        learned = self.habits.wait(order, now) if self.habits else None
        wait = self.fixed(now - order.opened_at) if learned is None else self._learned(order, now, learned)
        return now + max(wait, self._floor(retry_after))

    def fixed(self, waited: float) -> float:
        """Tell how long to wait while nothing is known but how long that was so far."""
        return min(max(waited * self.share, self.interval_min), self.interval_max)

    def first_check(self, order: Order) -> float:
        """Tell when to ask first about an order that is new: at once, unless it is known to be of no use."""
        learned = self.habits.wait(order, order.opened_at) if self.habits else None
        return order.opened_at + (0.0 if learned is None else self._kept(self._spread(order, learned)))

    def _learned(self, order: Order, now: float, wait: float) -> float:
        wait = max(self._spread(order, wait), _left(order, now) / 2)
        return min(max(wait, self.interval_min), self.interval_max)

    def _kept(self, wait: float) -> float:
        """Ask while a file that was quick this time is still there."""
        return wait if self.window is None else min(wait, self.window / 2)

    def _spread(self, order: Order, wait: float) -> float:
        """Keep orders that came together apart, and their answers: all would be asked about at the same moments."""
        return wait * (1 + (jitter(order.key, -order.checks) - 1 / 2) * self.spread)

    def learn(self, order: Order, now: float, *, ready: bool) -> None:
        """Take in that an order's task was seen to have ended *now*: its file is there, or it never will be."""
        if self.habits is not None:
            self.habits.ended(order, now, ready=ready)

    def memo(self, now: float = math.inf) -> Mapping[str, Any] | None:
        """Give what was learned and should be kept, if anything is new and the last time is long enough ago."""
        return None if self.habits is None else self.habits.memo(now)

    def next_try(self, order: Order, now: float, retry_after: float | None) -> float:
        """Tell when to try again after trouble; ``order.attempts`` counts it already."""
        doublings = min(max(order.attempts - 1, 0), 64)
        step = min(self.backoff_base * 2.0**doublings, self.backoff_max)
        return now + max(step * jitter(order.key, order.attempts), self._floor(retry_after))

    def forgives(self, order: Order, now: float) -> bool:
        """Tell whether it is still early enough for the remote not to know the task."""
        return order.checks < self.absences or now - order.opened_at < self.absence_grace

    def expired(self, order: Order, now: float) -> bool:
        """Tell whether the remote has had the file for longer than it keeps one."""
        if self.window is None or order.ready_at is None:
            return False
        return now - order.ready_at > self.window

    def _floor(self, retry_after: float | None) -> float:
        return min(retry_after or 0.0, self.retry_after_max)


def _left(order: Order, now: float) -> float:
    """Tell how long an order would take yet if it went on as it went so far; 0 if nobody can tell."""
    done = order.progress or 0.0
    return max(now - order.opened_at, 0.0) * (1 - done) / done if 0 < done < 1 else 0.0


def jitter(key: Key, attempt: int) -> float:
    """Draw a number from 0 up to 1 that depends on nothing but *key* and *attempt*."""
    text = f"{key.remote}\0{key.task_id}\0{attempt}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / 2**64
