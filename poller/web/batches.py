"""Orders that belong together: where they stand as one."""

from collections.abc import Mapping

from aiohttp import web
from msgspec.structs import replace

from poller.errors import NotFound
from poller.order import State
from poller.store import Query, Store
from poller.web import listing
from poller.web.answer import Answer
from poller.web.view import View, respond

_MOST = 500
_PRECEDENCE = (State.PENDING, State.HELD, State.FAILED, State.CANCELED, State.DONE)
"""A batch is what the first of these is that any of its orders is: it is done once all are."""
_RESTS = frozenset({State.DONE, State.FAILED, State.CANCELED})


class Batches:
    """Shows batches.

    Args:
        store: where orders are kept.
        view: shows orders.
    """

    def __init__(self, *, store: Store, view: View) -> None:
        self._store, self._view = store, view

    async def show(self, request: web.Request) -> Answer:
        """Show a batch: its joint status, counts and progress, and a page of its orders."""
        batch = request.match_info["batch"]
        query = replace(listing.query(request.query), batch=batch)
        counts = await self._counts(batch)
        total = sum(counts.values())
        if not total:
            raise NotFound(f"there is no batch {batch!r}", hint="a batch is there as long as an order of it is known")
        page = await self._store.search(query)
        return respond(
            {
                "batch": batch,
                "status": next(state for state in _PRECEDENCE if counts[state]),
                "counts": counts,
                "total": total,
                "progress": round(await self._progress(batch, counts) / total, 4),
                "entries": [self._view.order(order) for order in page.orders],
                "next": listing.next_cursor(page, query),
            }
        )

    async def _counts(self, batch: str) -> dict[State, int]:
        return {state: await self._count(batch, state) for state in State}

    async def _count(self, batch: str, state: State) -> int:
        return (await self._store.search(Query(states=frozenset({state}), batch=batch, limit=1))).count

    async def _progress(self, batch: str, counts: Mapping[State, int]) -> float:
        """Add up how far its orders are: one for each that rests, and what the remote says of each that does not."""
        done = float(sum(counts[state] for state in _RESTS))
        query = Query(states=frozenset({State.PENDING}), batch=batch, sort="created_at", limit=_MOST)
        while counts[State.PENDING]:
            page = await self._store.search(query)
            done += sum(order.progress or 0.0 for order in page.orders)
            if page.next is None:
                break
            query = replace(query, after=page.next)
        return done
