"""What a remote written in Python begins with: it can be asked, and everything else it politely refuses."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from poller.address import Origin
from poller.errand import Found, Heard, Misfit, Nudged, Push, Started, Version, Wish
from poller.order import Order
from poller.outcome import Refused, Trouble
from poller.remote import Answer, Auth, Caps, Conversation, Delivery, Pacing


class Modest:
    """What a remote is that can do no more than to be asked. Remotes written in Python begin with this.

    What is left to write is ``name``, ``base`` and ``check``; everything here may be replaced.
    """

    title = ""
    base: Origin
    auth: Auth | None = None
    delivery = Delivery()
    caps = Caps()
    pacing = Pacing()
    abilities: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = {}
    needs: frozenset[str] = frozenset()
    watched: float | None = None

    @cached_property
    def origins(self) -> frozenset[Origin]:
        """Its own, and no others."""
        return frozenset({self.base})

    def confirm(self, order: Order) -> Conversation[Answer]:  # noqa: ARG002 - the protocol's
        """Refuse."""
        return (yield from _unable("confirm a task"))

    def fit(self, wish: Wish) -> Wish:  # noqa: ARG002
        """Refuse."""
        raise Misfit(("remote", "can start no tasks"))

    def start(self, wish: Wish) -> Conversation[Started | Answer]:  # noqa: ARG002
        """Refuse."""
        return (yield from _unable("start a task"))

    def cancel(self, order: Order) -> Conversation[Heard | Answer]:  # noqa: ARG002
        """Refuse."""
        return (yield from _unable("cancel a task"))

    def discover(self, wish: Mapping[str, Any], most: int) -> Conversation[Found | Answer]:  # noqa: ARG002
        """Refuse."""
        return (yield from _unable("list its tasks"))

    def look(self, seen: Mapping[str, str]) -> Conversation[Version | Answer]:  # noqa: ARG002
        """Refuse."""
        return (yield from _unable("be watched"))

    def heed(self, push: Push, now: float) -> Conversation[Nudged | Refused | Trouble]:  # noqa: ARG002
        """Refuse."""
        return (yield from _unable("push"))

    def tells(self, order: Order) -> bool:  # noqa: ARG002
        """Tell nobody."""
        return False

    def tell(self, order: Order) -> Conversation[Heard | Answer]:  # noqa: ARG002
        """Refuse."""
        return (yield from _unable("be told"))


def _unable(what: str) -> Conversation[Refused]:
    """Say no without asking anybody."""
    yield from ()
    return Refused(reason=f"this remote cannot {what}")
