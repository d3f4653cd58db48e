"""An order and its fate.

Two rules. Everything that changes an order's state lives in this file; and this file
does no I/O, reads no clock and knows no remote: an *outcome* (what a step found out)
and ``now`` come in, the order as it should be goes out.

The theory
==========

An order is **due** when ``due_at`` has passed. That one time is the poll interval, the
backoff, ``Retry-After`` and the claim, so whoever wants an order to be looked at later
sets it, and nothing else schedules anything.

    held ──confirm──▶ pending ──published, nothing to fetch──▶ done
     │                │  ▲  │
     │                │  │  └──refused, gone, deadline, attempts, …──▶ failed
     └────cancel──────┴──┼────▶ canceled                                 │
                         │         │                                     │
                         └─────────┴─────────retry───────────────────────┘

Waiting is not failing: *not ready*, a fault of our own disk, a remote that is paused
or wants fewer requests, and being stopped spend no attempt. Trouble does, and ``attempts``
counts troubles **in a row**: an answer that makes sense starts it afresh, and so does a
download that was cut after it had got further. States at rest have no ``due_at``;
they change only by an explicit retry, which opens a new **generation**.

Asking, downloading and waiting are facts about a process, not about an order, and are
therefore no states.
"""

from enum import StrEnum
from typing import Any, NamedTuple, Protocol, assert_never

import msgspec
from msgspec.structs import replace

from poller import units
from poller.errors import Conflict
from poller.outcome import (
    Absent,
    Cause,
    Crowded,
    Deferred,
    File,
    Gone,
    Interrupted,
    LinkExpired,
    Locked,
    NothingToFetch,
    NotReady,
    Outcome,
    Published,
    Refused,
    Setback,
    Stuck,
    TooLarge,
    Trouble,
    Unsafe,
)


class State(StrEnum):
    """Where an order stands."""

    HELD = "held"
    """Waits for the shop's confirmation."""
    PENDING = "pending"
    """Is asked about until its file is here."""
    DONE = "done"
    """Every file is published, or there was nothing to fetch."""
    FAILED = "failed"
    """Will not be had; the cause says why, and a retry opens a new generation."""
    CANCELED = "canceled"
    """The shop no longer wants it."""


class Key(NamedTuple):
    """What names an order: the remote's name and its own name for the task."""

    remote: str
    task_id: str


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One remote task whose file we are to collect. Times are epoch seconds.

    Attributes:
        due_at: when it needs attention; None at rest.
        deadline: when we stop asking.
        opened_at: when this generation began: added, confirmed or retried.
        ready_at: when the remote first said that this generation's file exists.
        unready_at: when the remote last said that this generation's file does not exist yet.
        checks: questions asked in this generation.
        attempts: troubles in a row.
        expiries: links in a row that had expired by the time we followed them.
        progress: 0 to 1, if the remote tells.
        context: whatever the shop wants to find again beside the order.
        deadline_as_given: the deadline in the shop's own words, if it gave one.
        filename: this order's own file name pattern, if it has one.
        patience: seconds from opening to deadline, if the clock was set back since and the two do not tell any more.
        kept: what the remote said when the task was started that later questions about it need.
        version: grows by one with every change; a save needs the one it started from.
    """

    remote: str
    task_id: str
    state: State
    created_at: float
    updated_at: float
    opened_at: float
    deadline: float
    due_at: float | None = None
    cause: Cause | None = None
    reason: str | None = None
    ready_at: float | None = None
    unready_at: float | None = None
    checks: int = 0
    attempts: int = 0
    expiries: int = 0
    progress: float | None = None
    files: tuple[File, ...] = ()
    batch: str | None = None
    feed: str | None = None
    filename: str | None = None
    context: dict[str, Any] = {}
    dry_run: bool = False
    deadline_as_given: str | None = None
    patience: float | None = None
    kept: dict[str, Any] = {}
    generation: int = 1
    version: int = 1

    @property
    def key(self) -> Key:
        """What names this order."""
        return Key(self.remote, self.task_id)

    @property
    def request(self) -> tuple[object, ...]:
        """What the shop asked for: the same key with another request is a conflict."""
        context = msgspec.json.encode(self.context, order="deterministic")  # to Python, 1 is True
        return (self.batch, self.feed, self.filename, context, self.dry_run, self.deadline_as_given)


class Policy(Protocol):
    """The numbers behind a decision; ``pace`` has the real ones. Times are epoch seconds."""

    @property
    def attempts(self) -> int:
        """How many troubles in a row fail an order."""
        ...

    def first_check(self, order: Order) -> float:
        """Tell when to ask first about an order that is new."""
        ...

    def next_check(self, order: Order, now: float, retry_after: float | None) -> float:
        """Tell when to ask again about an order that is not ready."""
        ...

    def next_try(self, order: Order, now: float, retry_after: float | None) -> float:
        """Tell when to try again after trouble; ``order.attempts`` already counts it."""
        ...

    def forgives(self, order: Order, now: float) -> bool:
        """Tell whether it is still early enough for the remote not to know the task."""
        ...

    def expired(self, order: Order, now: float) -> bool:
        """Tell whether the remote has had the file for longer than it keeps one."""
        ...


# --- The fate ---------------------------------------------------------------------------

_LOCAL_PAUSE = 30.0
"""Seconds until an order that met a local fault is tried again: operators free disks by hand."""
_CROWD_PAUSE, _CROWD_SHARE, _CROWD_PAUSE_MAX = 1.0, 1 / 8, 60.0
"""Seconds until an order that found the waiting room full is asked about again: a share of its wait for a slot."""
_GONE = 410


def decide(order: Order, outcome: Outcome, now: float, policy: Policy) -> Order:
    """Say what becomes of a pending order after one step. Total; an order in any other state stays as it is.

    What changes gets the next version. Its ``due_at`` is never after the deadline, so the
    last check falls on the deadline itself.
    """
    if order.state is not State.PENDING:
        return order
    decided = _judge(_rewound(order, now), outcome, now, policy)
    if decided.due_at is not None:
        decided = _within(decided, outcome, now)
    return _sealed(order, decided, now)


def _rewound(order: Order, now: float) -> Order:
    """Let an order have waited for as long as it has: if it was saved later than now, the clock was set back since."""
    back = order.updated_at - now
    if back <= 0:
        return order
    ready_at = None if order.ready_at is None else order.ready_at - back
    return replace(order, opened_at=order.opened_at - back, ready_at=ready_at, patience=_patience(order))


def ready(order: Order, now: float) -> Order:
    """Note that the remote says the file exists; the same version, for the step that saw it."""
    return order if order.ready_at is not None else replace(order, ready_at=now)


def _judge(order: Order, outcome: Outcome, now: float, policy: Policy) -> Order:  # noqa: C901, PLR0911, PLR0912 - one line a case
    match outcome:
        case Published(files=files):
            return replace(_rest(_asked(order), State.DONE), files=files, attempts=0, progress=1.0)
        case NothingToFetch():
            return replace(_rest(_asked(order), State.DONE), attempts=0, progress=1.0)
        case NotReady():
            return _wait(order, outcome, now, policy, unready_at=now)
        case Absent() if policy.forgives(order, now):
            return _wait(order, NotReady(retry_after=outcome.retry_after), now, policy)
        case Absent() | Gone():
            return _fail(_asked(order), Cause.GONE, outcome.reason)
        case Refused():
            return _fail(_asked(order), Cause.REFUSED, outcome.reason)
        case Unsafe():
            return _fail(_asked(order), Cause.UNSAFE, outcome.reason)
        case TooLarge():
            return _fail(_asked(order), Cause.TOO_LARGE, outcome.reason)
        case LinkExpired():
            return _renew_link(order, outcome, now, policy)
        case Trouble():
            return _suffer(order, outcome, now, policy)
        case Stuck():
            return replace(order, due_at=now + _LOCAL_PAUSE, reason=outcome.reason)
        case Crowded():
            return replace(_asked(order), due_at=now + _crowd_pause(order, now))
        case Deferred():
            return replace(order, due_at=policy.next_check(order, now, outcome.retry_after), reason=outcome.reason)
        case Locked():
            return replace(order, due_at=now, reason=outcome.reason)
        case Interrupted():
            return replace(order, due_at=now)
        case _:
            assert_never(outcome)


def _crowd_pause(order: Order, now: float) -> float:
    waited = now - order.ready_at if order.ready_at is not None else 0.0
    return min(max(waited * _CROWD_SHARE, _CROWD_PAUSE), _CROWD_PAUSE_MAX)


def _wait(order: Order, answer: NotReady, now: float, policy: Policy, **seen: float) -> Order:
    progress = order.progress if answer.progress is None else answer.progress
    asked = replace(order, checks=order.checks + 1, attempts=0, expiries=0, reason=None, progress=progress, **seen)
    return replace(asked, due_at=policy.next_check(asked, now, answer.retry_after))


def _suffer(order: Order, trouble: Trouble, now: float, policy: Policy) -> Order:
    hurt = replace(_asked(order), attempts=1 if trouble.advanced else order.attempts + 1)
    if hurt.attempts >= policy.attempts and now < order.deadline:
        return _fail(hurt, trouble.cause, trouble.reason)
    due_at = policy.next_try(hurt, now, trouble.retry_after)
    return replace(hurt, due_at=due_at, reason=trouble.reason)


def _renew_link(order: Order, expiry: LinkExpired, now: float, policy: Policy) -> Order:
    """Ask again for a fresh link, at once unless another time is wished for; believe the second of two in a row.

    A fresh link that answers 410, or any dead link after the time for which the remote
    keeps a file, means that the file is gone.
    """
    again = replace(order, expiries=order.expiries + 1)
    believed = expiry.status == _GONE and again.expiries > 1
    if believed or policy.expired(again, now):
        return _fail(_asked(again), Cause.GONE, expiry.reason)
    if again.expiries > 1:
        trouble = Trouble(reason=expiry.reason, cause=Cause.GONE, retry_after=expiry.retry_after)
        return _suffer(again, trouble, now, policy)
    asked = _asked(again)
    due_at = policy.next_check(asked, now, expiry.retry_after) if expiry.retry_after else now
    return replace(asked, due_at=due_at, reason=expiry.reason)


def _within(order: Order, outcome: Outcome, now: float) -> Order:
    """Keep a waiting order within its deadline."""
    if now < order.deadline or isinstance(outcome, Interrupted):
        return order if (order.due_at or now) <= order.deadline else replace(order, due_at=order.deadline)
    return _fail(order, Cause.DEADLINE, f"the deadline has passed; the last check said: {_said(outcome)}")


def _said(outcome: Outcome) -> str:
    if isinstance(outcome, Setback):
        return outcome.reason
    return "the file is ready, but no download slot is free" if isinstance(outcome, Crowded) else "it is not ready"


def _asked(order: Order) -> Order:
    return replace(order, checks=order.checks + 1)


def _rest(order: Order, state: State) -> Order:
    return replace(order, state=state, due_at=None, reason=None, cause=None)


def _fail(order: Order, cause: Cause, reason: str) -> Order:
    return replace(_rest(order, State.FAILED), cause=cause, reason=reason)


def _sealed(before: Order, after: Order, now: float) -> Order:
    return replace(after, updated_at=now, version=before.version + 1)


# --- What the shop may do ---------------------------------------------------------------

ALLOWED: dict[str, frozenset[State]] = {
    "confirm": frozenset({State.HELD}),
    "cancel": frozenset({State.HELD, State.PENDING}),
    "retry": frozenset({State.FAILED, State.CANCELED}),
    "check": frozenset({State.PENDING}),
}
"""From which states each command is taken; from any other it is a conflict."""


def place(remote: str, task_id: str, now: float, *, deadline: float, dry_run: bool = False, **asked: Any) -> Order:
    """Begin an order as it was *asked* for: held if it is a dry run, else pending and due *now*."""
    return Order(
        remote=remote,
        task_id=task_id,
        state=State.HELD if dry_run else State.PENDING,
        created_at=now,
        updated_at=now,
        opened_at=now,
        due_at=None if dry_run else now,
        deadline=deadline,
        dry_run=dry_run,
        **asked,
    )


def schedule(order: Order, policy: Policy) -> Order:
    """Put the first question about a new order where it may pay; the same version, for nobody has seen it yet."""
    if order.due_at is None:
        return order
    return replace(order, due_at=min(max(policy.first_check(order), order.due_at), order.deadline))


def confirm(order: Order, now: float) -> Order:
    """Release a held order."""
    _demand("confirm", order)
    return _open(order, now)


def cancel(order: Order, now: float) -> Order:
    """Give up an order that has not come to rest."""
    _demand("cancel", order)
    return _sealed(order, _rest(order, State.CANCELED), now)


def retry(order: Order, now: float) -> Order:
    """Open a new generation of an order that failed or was canceled."""
    _demand("retry", order)
    return _open(replace(order, generation=order.generation + 1, files=(), cause=None), now)


def check(order: Order, now: float) -> Order:
    """Make a pending order due now."""
    _demand("check", order)
    return _sealed(order, replace(order, due_at=min(now, order.deadline)), now)


def kept(order: Order, now: float) -> Order:
    """Say once more what an order is, for a store that may take it otherwise."""
    return _sealed(order, order, now)


def _open(order: Order, now: float) -> Order:
    """Begin to ask."""
    fresh = replace(order, reason=None, ready_at=None, unready_at=None, checks=0, attempts=0, expiries=0, progress=None)
    deadline = _deadline(order, now)
    opened = replace(fresh, state=State.PENDING, opened_at=now, due_at=now, deadline=deadline, patience=None)
    return _sealed(order, opened, now)


def _deadline(order: Order, now: float) -> float:
    """Give the patience the order had from its first day; an instant stays where it is while it lies ahead."""
    if order.deadline > now and _is_instant(order.deadline_as_given):
        return order.deadline
    return now + _patience(order)


def _patience(order: Order) -> float:
    return order.deadline - order.opened_at if order.patience is None else order.patience


def _is_instant(given: str | None) -> bool:
    try:
        units.instant(given or "")
    except ValueError:
        return False
    return True


def _demand(command: str, order: Order) -> None:
    if order.state in ALLOWED[command]:
        return
    states = " or ".join(sorted(ALLOWED[command]))
    raise Conflict(
        f"order {order.task_id!r} of {order.remote} is {order.state}; only an order that is {states} takes {command!r}",
    )
