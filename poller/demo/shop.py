"""The shop: places orders and looks after them, over the hook as any shop does."""

from collections.abc import Iterable

import aiohttp
import msgspec

from poller.errors import PollerError
from poller.order import State
from poller.outcome import Cause


class Receipt(msgspec.Struct, frozen=True):
    """A file as the hook shows it."""

    name: str
    path: str
    size: int
    sha256: str


class Seen(msgspec.Struct, frozen=True):
    """An order as the hook shows it, as far as it matters here."""

    task_id: str
    state: State
    cause: Cause | None
    reason: str | None
    checks: int
    files: tuple[Receipt, ...]

    @property
    def at_rest(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state not in {State.HELD, State.PENDING}


class _Listing(msgspec.Struct):
    orders: list[Seen]


class Shop:
    """A client of the hook.

    Args:
        session: to ask with.
        url: the hook's address.
    """

    def __init__(self, *, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._orders = f"{url}/orders"

    async def order(self, task_ids: Iterable[str]) -> None:
        """Place orders, all or none.

        Raises:
            PollerError: they were not taken.
        """
        wanted = [{"task_id": task_id, "context": {"projectID": f"demo-{task_id}"}} for task_id in task_ids]
        async with self._session.post(self._orders, json=wanted) as reply:
            _demand(reply, await reply.read())

    async def orders(self) -> dict[str, Seen]:
        """Look at the newest orders, by task ID, the oldest of them first.

        Raises:
            PollerError: they are not shown.
        """
        async with self._session.get(self._orders, params={"limit": "500"}) as reply:
            body = _demand(reply, await reply.read())
        return {seen.task_id: seen for seen in reversed(msgspec.json.decode(body, type=_Listing).orders)}


def _demand(reply: aiohttp.ClientResponse, body: bytes) -> bytes:
    """Give the body of a good reply."""
    if not reply.ok:
        raise PollerError(f"the hook answered {reply.status}: {body.decode(errors='replace')}")
    return body
