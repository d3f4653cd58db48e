"""What can go wrong on our side: the message says what, the hint says what to do."""


class PollerError(Exception):
    """Anything that poller itself raises.

    Attributes:
        hint: one sentence on what to do about it, or an empty string.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(PollerError):
    """Settings or a remote's page that cannot be used; lists every problem found.

    Attributes:
        problems: pairs of what is wrong (a setting, or a place in a page) and why.
    """

    def __init__(self, message: str, *, problems: tuple[tuple[str, str], ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class StoreError(PollerError):
    """The order store cannot do what was asked."""


class StoreLocked(StoreError):  # noqa: N818 - a state, not an accident
    """Another process has this store open."""


class StoreDamaged(StoreError):  # noqa: N818
    """The store's files hold something that we did not write, or not all of what we wrote."""


class StoreUnavailable(StoreError):  # noqa: N818
    """The disk failed under the store: nothing is accepted until it is reopened."""


class Stale(StoreError):  # noqa: N818
    """The order was changed by somebody else since it was read; nothing was saved."""


class NotFound(PollerError):  # noqa: N818
    """There is no such order."""


class Conflict(PollerError):  # noqa: N818
    """The order's state, or an order of the same key, forbids what was asked."""


class Declined(PollerError):  # noqa: N818
    """A remote says no to what was asked of it."""


class Unreached(PollerError):  # noqa: N818
    """A remote could not be asked, or nobody knows what came of it."""


class Stopping(PollerError):  # noqa: N818
    """The poller is about to stop, and begins nothing that could not be ended."""


class Busy(PollerError):  # noqa: N818
    """A remote takes no more tasks at present."""
