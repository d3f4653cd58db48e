"""Keeps the requests to one remote as few as it wants them: every one of them takes a turn.

The lane asks how many may go now and claims no more orders than that, so nobody stands in a slot and waits. What a
step needs beyond its first request (a login, a redirect, the link) takes its turn when it is sent, and waits for it
briefly: reserved first and waited for then, so that those who waited for one login do not all come at once after it.

A remote that answers 429, or 503 with ``Retry-After``, is left alone as a whole: for as long as it asks, else for a
second, doubled up to a minute while it goes on (RFC 6585, 4; RFC 9110, 10.2.3 and 15.6.4).
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from poller.breaker import Pause
from poller.outcome import Deferred
from poller.rate import NAMES, Rate, quotas
from poller.remote import Aborted, retry_after

_TOO_MANY = 429
_UNAVAILABLE = 503
_BRIEF = 5.0
"""Seconds that a question waits for a turn in its slot."""
_INTERVAL = 40.0
"""Seconds of an interval between turns that a question waits for as well: a redirect comes a turn after it."""
_LINK = 60.0
"""Seconds that a download waits for its turn, or for two intervals: to ask again would cost a turn as well."""


class Governor:
    """Hands out the turns of one remote.

    Args:
        now: epoch seconds, for ``Retry-After`` and resets that are times.
        clock: monotonic seconds.
        per_minute: our own cap on requests; 0 for none.

    Attributes:
        pause: on while the remote has more than it wants.
    """

    def __init__(self, *, now: Callable[[], float], clock: Callable[[], float], per_minute: int = 0) -> None:
        self.pause = Pause(first=1.0, longest=60.0)
        self._now, self._clock = now, clock
        self._rate = Rate(per_minute)
        self._expected: set[asyncio.Task[Any] | None] = set()

    # --- what the lane asks

    def free(self, most: int) -> int:
        """Tell how many orders may be asked about now, of *most* for which there are slots."""
        if not self._rate.bound:
            return most
        now, ahead = self._clock(), len(self._expected)
        return next((more for more in range(most) if self._rate.turn(now, ahead + more) > now), most)

    def wait(self) -> float:
        """Tell in how many seconds another order may be asked about."""
        now = self._clock()
        return self._rate.turn(now, len(self._expected)) - now if self._rate.bound else 0.0

    def expect(self, task: asyncio.Task[Any]) -> None:
        """Keep a turn for the first request of a step, which has still to come."""
        self._expected.add(task)

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Keep none any longer: the question is over."""
        self._expected.discard(task)

    # --- what the wire asks

    async def turn(self, *, patient: bool) -> None:
        """Wait for the turn of a request that is about to be sent; *patient* if it is a link's.

        Raises:
            Aborted: it would be too long; no turn was taken.
        """
        if not (self._rate.bound or self.pause.on):
            return
        self._expected.discard(asyncio.current_task())
        now = self._clock()
        held = now + max(self.pause.until - self._now(), 0.0)
        wait = self._rate.turn(held) - now
        if wait > self._patience(now, patient=patient):
            raise Aborted(Deferred(reason=self.pause.reason or _SPENT, retry_after=wait))
        self._rate.take(held)
        if wait > 0:
            await asyncio.sleep(wait)

    def _patience(self, now: float, *, patient: bool) -> float:
        interval = self._rate.interval(now)
        return max(_LINK, 2 * interval) if patient else max(_BRIEF, min(interval, _INTERVAL))

    def heard(self, status: int, headers: Mapping[str, str], *, own: bool) -> None:
        """Take note of how one of the remote's origins answered; *own* if it is its API's, whose limits count."""
        wish = retry_after(headers.get("retry-after"), self._now())
        if status == _TOO_MANY or (status == _UNAVAILABLE and wish is not None):
            self.pause.begin(f"the remote answered {status}: it wants fewer requests", self._now(), wish)
        elif self.pause.on and self._now() >= self.pause.until:
            self.pause.end()
        if own and not NAMES.isdisjoint(headers):
            self._rate.learn(quotas(headers, self._now()), self._clock())


_SPENT = "no more requests may be sent for now"
