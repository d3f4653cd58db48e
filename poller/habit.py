"""What is known of one remote: when its tasks end, kind by kind, and what follows for the next question. Pure.

A **kind** is an order's feed, for a feed is the same thing made again and again. Orders without one, and
those of a feed that is not known well enough yet, go by what is known of all orders of their remote.

The plan asks as few questions as it can **without being later, on average, than the fixed rule**
is on the same tasks: nobody has to say what a question is worth, and where nothing can be gained nothing is lost.
It is followed while it keeps its word. What it really cost, in questions and in lateness, is counted beside
what the fixed rule would have cost on the same orders; while it is more, the fixed rule is followed. Both cost
the same then, so the plan gets another chance after some dozens of orders, by when it knows more.

An order that was held or retried teaches nothing: when its task began is not known.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import msgspec

from poller.finish import BUCKETS, EDGES, MIDDLES, WIDTHS, Finishes
from poller.inspection import Bounds, Plan, thriftiest
from poller.order import Order

_ENOUGH = 16.0
"""Orders, faded ones not counted, from which a kind is known well enough to plan for."""
_NEWS = 8
_STALE = 5.0
"""A plan is made anew after so many orders more, and seconds: it takes milliseconds."""
_KINDS = 32
"""Kinds of one remote that are remembered, those that were heard of last."""
_FORGIVING = 1 - 1 / 32
_WORSE, _LATER = 1.1, 3.0
"""How many times the questions and the lateness of the fixed rule are too many. Lateness is not known but guessed, as
half of all that it can be, and the first fifth of the orders may end before anybody asks."""
_PRICE = 1 / 4
"""Where to begin to look for a price: seconds that a question is worth, for each second of lateness."""
_MEMO_EVERY = 60.0
"""Seconds between two memos: what is lost by a kill is what was learned since, and costs a few questions."""
_HEAVIEST = 1_000.0
_GRID = f"{BUCKETS} to {EDGES[-1]:.0f}"
_ALL = ""


class KindMemo(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down of one kind.

    Attributes:
        weights: of buckets, by their numbers.
        price: what a question was worth last time.
    """

    weights: dict[int, float]
    price: float | None = None


class Memo(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down of one remote.

    Attributes:
        grid: which buckets the numbers mean.
    """

    grid: str
    kinds: dict[str, KindMemo]


class FixedRule:
    """A rule that looks only at how long an order has waited, and what it costs.

    Args:
        wait: seconds until the next question, by seconds waited; the first comes at once.
    """

    def __init__(self, wait: Callable[[float], float]) -> None:
        self._waits = [wait(middle) for middle in MIDDLES]
        looks = [width / each for width, each in zip(WIDTHS, self._waits, strict=True)]
        self._before = [0.0, *accumulate(looks)]

    def looks(self, ended: float) -> float:
        """Tell how many questions a task takes that ended then."""
        bucket = _bucket(ended)
        inside = (ended - EDGES[bucket]) / self._waits[bucket]
        return 1.5 + self._before[bucket] + inside

    def late(self, ended: float) -> float:
        """Tell how late a task is found that ended then."""
        return self._waits[_bucket(ended)] / 2


class Ledger:
    """What the questions really cost, beside what the fixed rule would have cost on the same orders. It forgets.

    How late an order was found is not known, but for one that ended before its first question, somewhere
    in all of the time until then: what is at stake there is great, and nobody would ever see it otherwise.

    Args:
        rule: the fixed rule.
    """

    def __init__(self, rule: FixedRule) -> None:
        self._rule = rule
        self._asked = self._would_ask = self._late = self._would_be_late = 0.0

    @property
    def fair(self) -> bool:
        """Whether we do no worse than the fixed rule."""
        return self._asked <= _WORSE * self._would_ask and self._late <= _LATER * self._would_be_late

    def note(self, after: float, until: float, questions: int) -> None:
        """Take in an order that ended between two times, and was seen to at the later."""
        ended = (after + until) / 2
        self._asked = self._asked * _FORGIVING + questions
        self._would_ask = self._would_ask * _FORGIVING + self._rule.looks(ended)
        self._late = self._late * _FORGIVING + (until - ended if questions == 1 else 0.0)
        self._would_be_late = self._would_be_late * _FORGIVING + self._rule.late(ended)


class Habit:
    """What is known of one kind.

    Args:
        rule: what is followed while too little is known.
        bounds: what every wait but the first must keep to.
        memo: what was known when it was written down.
    """

    def __init__(self, rule: FixedRule, bounds: Bounds, memo: KindMemo | None = None) -> None:
        self._rule, self._bounds = rule, bounds
        self._finishes = Finishes(memo.weights if memo else None)
        self._price = memo.price if memo else None
        self._ledger = Ledger(rule)
        self._plan: Plan | None = None
        self._planned_at = -math.inf
        self._news = _NEWS

    @property
    def known(self) -> bool:
        """Whether enough is known to plan for it."""
        return self._finishes.count >= _ENOUGH

    @property
    def memo(self) -> KindMemo:
        """What is worth writing down."""
        return KindMemo(weights=self._finishes.weights(), price=self._price)

    def learn(self, after: float, until: float, questions: int) -> None:
        """Take in an order that ended after one time and until another; infinity if it was never seen to end."""
        self._finishes.learn(after, until)
        if 0 <= after <= until < math.inf:
            self._ledger.note(after, until, questions)
        self._news += 1

    def wait(self, waited: float, now: float) -> float | None:
        """Tell how long to wait, None for as long as the fixed rule says. *now* (epoch seconds) tells when to plan."""
        if not self.known or not self._ledger.fair:
            return None
        if self._news >= _NEWS and not 0 <= now - self._planned_at < _STALE:
            self._make_plan(now)
        return None if self._plan is None else self._plan.wait(waited)

    def _make_plan(self, now: float) -> None:
        odds = self._finishes.odds()
        late = sum(p * self._rule.late(middle) for p, middle in zip(odds, MIDDLES, strict=True))
        self._plan, self._price = thriftiest(odds, late, self._bounds, self._price or late * _PRICE)
        self._planned_at, self._news = now, 0


class Habits:
    """What is known of one remote.

    Args:
        rule: seconds until the next question, by seconds waited, while too little is known.
        bounds: what every wait but the first must keep to.
        memo: what ``memo`` gave once, of this remote; anything else is passed over.
    """

    def __init__(self, *, rule: Callable[[float], float], bounds: Bounds, memo: Any = None) -> None:
        self._rule, self._bounds = FixedRule(rule), bounds
        self._kinds = {kind: self._habit(each) for kind, each in _read(memo)}
        self._written_at: float | None = None
        self._news = False

    def wait(self, order: Order, now: float) -> float | None:
        """Tell how long to wait for the next question about an order; None for as long as the fixed rule says."""
        if not _began_here(order):
            return None
        for kind in (order.feed or _ALL, _ALL):
            habit = self._kinds.get(kind)
            if habit is not None and habit.known:
                return habit.wait(max(now - order.opened_at, 0.0), now)
        return None

    def ended(self, order: Order, now: float, *, ready: bool) -> None:
        """Take in an order that was seen *now* to have ended: its file is there, or it never will be."""
        if not _began_here(order):
            return
        after = 0.0 if order.unready_at is None else order.unready_at - order.opened_at
        until = now - order.opened_at if ready else math.inf
        for kind in {_ALL, order.feed or _ALL}:
            habit = self._kinds.pop(kind, None)
            self._kinds[kind] = habit = self._habit() if habit is None else habit
            habit.learn(after, until, order.checks + 1)
        while len(self._kinds) > _KINDS:  # the ones that were heard of last are at the end
            del self._kinds[next(iter(self._kinds))]
        self._news = True

    def memo(self, now: float = math.inf) -> dict[str, Any] | None:
        """Give what is worth writing down, as JSON would hold it; None if that is nothing new, or was done just now."""
        if not self._news or (self._written_at is not None and 0 <= now - self._written_at < _MEMO_EVERY):
            return None
        self._written_at, self._news = now, False
        kinds = {kind: habit.memo for kind, habit in self._kinds.items()}
        written: dict[str, Any] = msgspec.to_builtins(Memo(grid=_GRID, kinds=kinds), str_keys=True)
        return written

    def _habit(self, memo: KindMemo | None = None) -> Habit:
        return Habit(self._rule, self._bounds, memo)


def _began_here(order: Order) -> bool:
    """Tell whether an order's time is its task's: it is not if it was held or retried."""
    return order.opened_at == order.created_at


def _read(memo: Any) -> Iterator[tuple[str, KindMemo]]:
    """Read what was written down; whatever is not ours, or damaged, is not known."""
    try:
        read = msgspec.convert(memo, Memo, strict=False)
    except msgspec.ValidationError:
        return
    if read.grid == _GRID:
        yield from ((kind, each) for kind, each in list(read.kinds.items())[-_KINDS:] if _is_sound(each))


def _is_sound(memo: KindMemo) -> bool:
    price = memo.price is None or 0 < memo.price < math.inf
    return price and all(0 <= bucket < BUCKETS and 0 <= weight <= _HEAVIEST for bucket, weight in memo.weights.items())


def _bucket(moment: float) -> int:
    return min(max(bisect_right(EDGES, moment) - 1, 0), BUCKETS - 1)
