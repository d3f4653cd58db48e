"""How often a remote may be asked: our own cap, and what it says of its own. Pure: times are monotonic seconds.

Every limit is kept by the generic cell rate algorithm, as virtual scheduling (ITU-T I.371, annex A; ATM Forum Traffic
Management 4.1, 4.4.2). Each request moves a *theoretical arrival time* on by one interval; a request may go while that
lies no further ahead than the burst allows. So there is one number to keep and no timer, a turn can be reserved before
it has come, and no window, wherever it begins, holds more than its limit: with a burst of b, the interval of a limit of
n is the window's share of n - b + 1. A window is taken for a sixtieth longer than it is, for requests that leave us
evenly arrive unevenly.

What a remote says of its limits comes in three dialects:

    RateLimit-Policy: "default";q=100;w=60              draft-ietf-httpapi-ratelimit-headers
    RateLimit: "default";r=50;t=30
    RateLimit-Limit: 100, 100;w=60                      its older versions, up to 06; 07 has RateLimit: limit=…, …
    RateLimit-Remaining: 50
    RateLimit-Reset: 30
    X-RateLimit-Limit, -Remaining, -Reset               before it; the reset in seconds, or as epoch seconds

Nothing that a remote says makes us quicker than our own cap, or slower than one request an hour.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

LONGEST = 3600.0
"""Seconds: as with Retry-After, whoever wants to be asked less often than once an hour is mistaken or hostile."""
_UNEVEN = 61 / 60
_ROUNDING = 1e-6
"""Seconds that are none."""
_SLACK = 1.0
"""Seconds after a reset: whole seconds are often rounded down."""
_SAME = 2.0
"""Seconds by which two resets may differ that are the same."""
_EPOCH = 1e9
"""What is more than that is no wait in seconds but a time: the year 2001 was past when these headers came up."""
_MILLISECONDS = 1e11
_PREFIXES = ("ratelimit", "x-ratelimit", "x-rate-limit")
NAMES = frozenset(
    {"ratelimit", "ratelimit-policy"} | {f"{prefix}-{what}" for prefix in _PREFIXES for what in ("limit", "remaining")}
)
"""Headers of which one is there if a remote says anything."""


class Gcra:
    """One limit.

    Args:
        limit: requests in any window; at least one.
        window: seconds.
    """

    def __init__(self, limit: float, window: float) -> None:
        self._arrival = float("-inf")
        self._set(limit, window)

    def change(self, limit: float, window: float, now: float) -> None:
        """Take another limit; the next turn is then one interval away at most."""
        self._set(limit, window)
        self._arrival = min(self._arrival, now + self._burst * self.interval)

    def _set(self, limit: float, window: float) -> None:
        self._burst = max(1, int(limit // 10))
        self.interval = min(window * _UNEVEN / (limit - self._burst + 1), LONGEST)

    def turn(self, now: float, ahead: int = 0) -> float:
        """Tell when a request may go that has *ahead* others before it."""
        arrival = max(self._arrival, now) + ahead * self.interval
        return max(now, arrival - (self._burst - 1) * self.interval)

    def take(self, at: float) -> None:
        """Count a request that goes at its turn."""
        self._arrival = max(self._arrival, at) + self.interval


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What a remote says of one of its limits, as far as it says anything. Windows and resets are seconds."""

    limit: float | None = None
    window: float | None = None
    remaining: float | None = None
    reset: float | None = None


class Rate:
    """When one remote may be sent a request.

    Args:
        per_minute: our own cap; 0 for none.
    """

    def __init__(self, per_minute: int = 0) -> None:
        self._own = Gcra(per_minute, 60.0) if per_minute else None
        self._policy: Gcra | None = None
        self._policy_until = 0.0
        self._rest: Gcra | None = None
        self._left, self._reset_at = 0, 0.0

    @property
    def bound(self) -> bool:
        """Whether there is any limit."""
        return self._own is not None or self._policy is not None or self._rest is not None

    def interval(self, now: float) -> float:
        """Tell how many seconds lie between two requests that follow each other for long."""
        return max((limit.interval for limit in self._limits(now)), default=0.0)

    def turn(self, now: float, ahead: int = 0) -> float:
        """Tell when a request may go that has *ahead* others before it."""
        turns = [limit.turn(now, ahead) for limit in self._limits(now)]
        spent = self._rest is not None and self._left <= ahead
        at = max(now, self._reset_at if spent else now, *turns)
        return at if at - now > _ROUNDING else now

    def take(self, now: float) -> float:
        """Reserve the next turn from *now* on; give its time."""
        at = self.turn(now)
        for limit in self._limits(now):
            limit.take(at)
        if at < self._reset_at:
            self._left -= 1
        return at

    def learn(self, quotas: Iterable[Quota], now: float) -> None:
        """Heed what the remote says of its limits: of several, the tightest."""
        said = list(quotas)
        policies = [(q.window / q.limit, q.limit, q.window) for q in said if q.limit and q.window]
        if policies:
            _, limit, window = max(policies)
            self._policy = _changed(self._policy, limit, window, now)
            self._policy_until = now + LONGEST
        rests = [
            (q.reset / (q.remaining + 0.5), q.remaining, q.reset) for q in said if q.remaining is not None and q.reset
        ]
        if rests:
            _, remaining, reset = max(rests)
            self._mind(int(remaining), now + reset, now)

    def _mind(self, remaining: int, reset_at: float, now: float) -> None:
        """Make what is left last until it is reset; what was reserved since it was counted is gone already."""
        if self._rest is None or now >= self._reset_at or abs(reset_at - self._reset_at) > _SAME:
            self._left, self._reset_at = remaining, reset_at
        self._left = min(self._left, remaining)
        self._rest = _changed(self._rest, max(self._left, 1), self._reset_at - now, now)

    def _limits(self, now: float) -> Iterator[Gcra]:
        """Give the limits that hold; what a remote said long ago does not."""
        if self._policy is not None and now >= self._policy_until:
            self._policy = None
        if self._rest is not None and now >= self._reset_at:
            self._rest = None
        return filter(None, (self._own, self._policy, self._rest))


def _changed(limit: Gcra | None, most: float, window: float, now: float) -> Gcra:
    if limit is None:
        return Gcra(most, window)
    limit.change(most, window, now)
    return limit


# --- What is said -----------------------------------------------------------------------

_LONGEST_TEXT = 1000
"""Characters: who says more than that of his limits has none that we could follow."""
_ITEM = re.compile(r'(?:"[^"]*"|[^",])+')
_QUOTED = re.compile(r'"[^"]*"')
_PARAMETER = re.compile(r"(?<![a-z])([a-z]++) *+= *+([0-9]{1,18}(?:\.[0-9]{1,9})?)(?![0-9.a-z])")
_LEADING = re.compile(r" *([0-9]{1,18}(?:\.[0-9]{1,9})?) *(?:$|[;,])")


def quotas(headers: Mapping[str, str], now: float) -> list[Quota]:
    """Read what a reply says of its remote's limits; nonsense says nothing.

    Args:
        headers: names in lower case.
        now: epoch seconds.
    """
    policy = [_policy(item) for item in _items(headers.get("ratelimit-policy", ""))]
    rest = [
        Quota(remaining=item.get("r"), reset=_reset(item.get("t"), now))
        for item in map(_parameters, _items(headers.get("ratelimit", "")))
    ]
    return [*policy, *rest, *_older(headers, now)]


def _older(headers: Mapping[str, str], now: float) -> Iterator[Quota]:
    listed = _parameters(" ".join(_items(headers.get("ratelimit", ""))))
    yield Quota(remaining=listed.get("remaining"), reset=_reset(listed.get("reset"), now))
    for prefix in _PREFIXES:
        said = headers.get(f"{prefix}-limit", "")
        yield from map(_policy, _items(said))
        remaining, reset = (_number(headers.get(f"{prefix}-{what}", "")) for what in ("remaining", "reset"))
        yield Quota(limit=_number(said) or None, remaining=remaining, reset=_reset(reset, now))


def _items(text: str) -> list[str]:
    """Split a list (RFC 9651, 3.1) at its commas; those in strings are not meant, nor is anything else in a string."""
    return [_QUOTED.sub("", item).lower() for item in _ITEM.findall(text)] if len(text) <= _LONGEST_TEXT else []


def _policy(item: str) -> Quota:
    parameters = _parameters(item)
    limit = parameters.get("q", _number(item))
    return Quota(limit=limit or None, window=parameters.get("w", parameters.get("window")) or None)


def _parameters(item: str) -> dict[str, float]:
    return {name: float(value) for name, value in _PARAMETER.findall(_QUOTED.sub("", item).lower())}


def _number(text: str) -> float | None:
    found = _LEADING.match(text)
    return float(found[1]) if found else None


def _reset(reset: float | None, now: float) -> float | None:
    """Make a wait of a reset, which may be a time; what is past, or too far ahead, is clamped."""
    if reset is None:
        return None
    at = reset / 1000 if reset > _MILLISECONDS else reset
    return min(max(at - now if at > _EPOCH else at, 0.0), LONGEST) + _SLACK
