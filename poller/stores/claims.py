"""Which orders are being worked on: facts of this process, written nowhere."""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import cast

from msgspec.structs import replace

from poller.order import Order


class Claims:
    """Orders as their claims have changed them, and when the claims lapse."""

    def __init__(self) -> None:
        self._orders: defaultdict[str, dict[int, Order]] = defaultdict(dict)
        self._lapses: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)

    def get(self, remote: str, doc_id: int) -> Order | None:
        """Give an order as it was claimed; None if it was not."""
        return self._orders[remote].get(doc_id)

    def put(self, claimed: Iterable[tuple[int, Order]]) -> None:
        """Note claims, new or prolonged: each lapses when its order is due."""
        for doc_id, order in claimed:
            self._orders[order.remote][doc_id] = order
            heapq.heappush(self._lapses[order.remote], (_lapse(order), doc_id))

    def drop(self, remote: str, doc_id: int) -> bool:
        """End a claim; tell whether there was one."""
        return self._orders[remote].pop(doc_id, None) is not None

    def shift(self, remote: str, seconds: float) -> None:
        """Have a remote's claims lapse so much later."""
        orders = self._orders[remote]
        orders.update({doc_id: replace(order, due_at=_lapse(order) + seconds) for doc_id, order in orders.items()})
        self._lapses[remote] = sorted((_lapse(order), doc_id) for doc_id, order in orders.items())

    def first_lapse(self, remote: str) -> tuple[float, int] | None:
        """Give the claim that lapses first, as time and id; entries of those that were prolonged or ended go."""
        heap, orders = self._lapses[remote], self._orders[remote]
        while heap:
            lapse, doc_id = first = heap[0]
            claimed = orders.get(doc_id)
            if claimed is not None and claimed.due_at == lapse:
                return first
            heapq.heappop(heap)
        return None

    def take(self, remote: str) -> None:
        """Drop the entry that ``first_lapse`` gave."""
        heapq.heappop(self._lapses[remote])


def _lapse(claimed: Order) -> float:
    return cast("float", claimed.due_at)
