"""What a step with an order can find out: a closed set of values, and nothing that happens because of them.

What becomes of the order is decided in ``order``; whoever asks or fetches only says which
of these it has come to.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import msgspec


class Cause(StrEnum):
    """Why an order failed."""

    REFUSED = "refused"
    """The remote says no: the task failed there, or it does not take the question."""
    GONE = "gone"
    """The remote no longer has the task or its file, or never had it."""
    DEADLINE = "deadline"
    ATTEMPTS = "attempts"
    """Too many troubles in a row."""
    UNSAFE = "unsafe"
    """An address, redirect or name that we will not touch."""
    TOO_LARGE = "too_large"
    WRONG_CONTENT = "wrong_content"
    """An error page, an empty body, or bytes that nothing vouches for."""


class File(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One published file.

    Attributes:
        name: its path inside the orders folder, with ``/`` between folders.
        size: bytes.
        sha256: lower-case hex digest of the whole content.
        media_type: as the remote declared it, without parameters; empty if it did not.
        published_at: epoch seconds.
    """

    name: str
    size: int
    sha256: str
    media_type: str
    published_at: float


class NotReady(msgspec.Struct, frozen=True, kw_only=True):
    """The remote is still working. *retry_after* is its wish, in seconds."""

    retry_after: float | None = None
    progress: float | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """Every file stands in the orders folder.

    Attributes:
        conflict: whether other bytes held a file's name, so that ours are its next version.
    """

    files: tuple[File, ...]
    conflict: bool = False


class NothingToFetch(msgspec.Struct, frozen=True, kw_only=True):
    """The task is complete and has no file (an import, say)."""


class Interrupted(msgspec.Struct, frozen=True, kw_only=True):
    """We were stopped before the step ended."""


class Setback(msgspec.Struct, frozen=True, kw_only=True):
    """Something stood in the way.

    Attributes:
        reason: one sentence for a person.
        status: HTTP status, if there was one.
        address: what was asked, without its query.
    """

    reason: str
    status: int | None = None
    address: str | None = None


class Refused(Setback, frozen=True, kw_only=True):
    """The remote says no, for good.

    Attributes:
        report_at: address of the remote's error report, without its query.
        report: the report's text.
    """

    report_at: str | None = None
    report: str | None = None


class Gone(Setback, frozen=True, kw_only=True):
    """The remote no longer has it."""


class Absent(Setback, frozen=True, kw_only=True):
    """The remote does not know the task; shortly after its creation that may pass.

    Attributes:
        retry_after: the remote's wish, in seconds.
    """

    retry_after: float | None = None


class LinkExpired(Setback, frozen=True, kw_only=True):
    """The link was dead when we followed it; a new check gets a fresh one.

    Attributes:
        retry_after: the wish of whoever answered, in seconds.
    """

    retry_after: float | None = None


class Trouble(Setback, frozen=True, kw_only=True):
    """It went wrong and may go right next time.

    Attributes:
        retry_after: the remote's wish, in seconds.
        cause: what the order fails of once its attempts are spent.
        advanced: whether more of the file is here than before, for the next try to go on with.
    """

    retry_after: float | None = None
    cause: Cause = Cause.ATTEMPTS
    advanced: bool = False


class Unknown(Trouble, frozen=True, kw_only=True):
    """The remote answered well, and its page has no verdict about what it said.

    Attributes:
        word: what it said, fit to be told; the same for every order that hears the same.
    """

    word: str = ""


class Deferred(Setback, frozen=True, kw_only=True):
    """The remote wants fewer requests, of whichever order: this one is asked about later and has spent nothing.

    Attributes:
        retry_after: seconds for which it wants to be left alone.
    """

    retry_after: float | None = None


class Unsafe(Setback, frozen=True, kw_only=True):
    """We were pointed at something that we will not touch."""


class TooLarge(Setback, frozen=True, kw_only=True):
    """The file is larger than we may store."""


class Locked(Setback, frozen=True, kw_only=True):
    """The remote lets nobody of ours in (credentials, certificate), or is down: it, not the order, is at fault."""


class Stuck(Setback, frozen=True, kw_only=True):
    """Our own machine is at fault (disk full, read-only, too many files)."""


class Crowded(msgspec.Struct, frozen=True, kw_only=True):
    """The file is ready, but too many others already wait for a download slot."""


Outcome: TypeAlias = (
    NotReady
    | Published
    | NothingToFetch
    | Interrupted
    | Refused
    | Gone
    | Absent
    | LinkExpired
    | Trouble
    | Unknown
    | Deferred
    | Unsafe
    | TooLarge
    | Locked
    | Stuck
    | Crowded
)

REPORT_CHARACTERS = 4000
"""An error report is kept in an order's history, which is no place for megabytes."""


def spoken(outcome: Outcome, redact: Callable[..., str]) -> Outcome:
    """Make every text of *outcome*, all of which came from outside, fit to be kept and said."""
    if not isinstance(outcome, Setback):
        return outcome
    texts = {"reason": redact(outcome.reason), "address": outcome.address and redact(outcome.address)}
    if isinstance(outcome, Unknown):
        texts["word"] = redact(outcome.word)
    if isinstance(outcome, Refused):
        texts["report_at"] = outcome.report_at and redact(outcome.report_at)
        texts["report"] = outcome.report and redact(outcome.report, limit=REPORT_CHARACTERS)
    return msgspec.structs.replace(outcome, **texts)
