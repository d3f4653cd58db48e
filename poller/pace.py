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

from hashlib import blake2b

import msgspec

from poller.order import Key, Order


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
    backoff_base: float = 1.0
    backoff_max: float = 300.0
    retry_after_max: float = 3600.0
    """A remote may ask for an hour; beyond that it is mistaken or hostile."""
    absences: int = 5
    absence_grace: float = 60.0
    """Replicas lag and queues are slow: a task younger than this, or asked about less often, may yet appear."""

    def next_check(self, order: Order, now: float, retry_after: float | None) -> float:
        """Tell when to ask again about an order that is not ready."""
        waited = now - order.opened_at
        wait = min(max(waited * self.share, self.interval_min), self.interval_max)
        return now + max(wait, self._floor(retry_after))

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


def jitter(key: Key, attempt: int) -> float:
    """Draw a number from 0 up to 1 that depends on nothing but *key* and *attempt*."""
    text = f"{key.remote}\0{key.task_id}\0{attempt}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / 2**64
