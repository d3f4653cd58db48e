"""The embedded store without its files: as quick with ten thousand orders as with ten, and good for virtual time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from poller.event import Event
from poller.order import Key, Order, State
from poller.store import History, Page, Query
from poller.stores.listing import Listing
from poller.stores.loading import ORDERS
from poller.stores.pieces import Row
from poller.stores.rules import admit
from poller.stores.shelf import Shelf


class QuickStore:
    """Keeps orders in memory and forgets them; what a lane needs of ``store.Store``."""

    problem = None

    def __init__(self) -> None:
        self._shelf = Shelf([Row(ORDERS)], sink=lambda _: None, path=Path("nowhere"), vet=False)

    async def add(self, orders: Sequence[Order]) -> Sequence[tuple[Order, bool]]:
        answers = admit(orders, self._shelf.order)
        self._shelf.insert([order for order, new in answers if new])
        return answers

    async def get(self, key: Key) -> Order | None:
        return self._shelf.order(key)

    async def claim(self, remote: str, *, limit: int, now: float, until: float) -> Sequence[Order]:
        return self._shelf.claim(remote, limit=limit, now=now, until=until)

    async def renew(self, orders: Sequence[Order], *, until: float) -> None:
        for order in orders:
            self._shelf.renew(order, until)

    async def save(self, order: Order, event: Event | None = None, *, durable: bool = True) -> None:
        self._shelf.replace(order, event)

    async def next_due(self, remote: str) -> float | None:
        return self._shelf.next_due(remote)

    async def shift(self, remote: str, *, seconds: float) -> None:
        self._shelf.shift(remote, seconds)

    async def search(self, query: Query) -> Page:
        listing: Listing[Order] = Listing(query)
        for doc_id in self._shelf.ids(query):
            order = self._shelf._read(doc_id, query.remote)
            listing.offer(getattr(order, query.sort), order.key, order)
        return listing.page(lambda order: order)

    async def history(self, key: Key) -> History:
        return self._shelf.history(key)

    async def counts(self) -> Mapping[State, int]:
        return self._shelf.counts()

    async def forget(self, *, before: float) -> int:
        return 0
