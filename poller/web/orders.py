"""What the shop can do with orders: one method for each row of the route table."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from poller.errors import NotFound
from poller.order import Order, State
from poller.outcome import File
from poller.shield import finish
from poller.store import Store
from poller.web import attachment, body, folder, listing
from poller.web.answer import Answer
from poller.web.desk import Desk
from poller.web.intake import Intake
from poller.web.location import address, key_of
from poller.web.problem import Fault, Handler, Refusal
from poller.web.view import View, history, respond

_WHEN_FULL = {"Retry-After": "30"}
"""Orders come to rest within seconds to minutes."""

_HINTS = {
    State.HELD: "confirm it first",
    State.PENDING: "ask again later",
    State.FAILED: "its cause and reason say why; retry it to have it fetched again",
    State.CANCELED: "retry it to have it fetched",
}


class Orders:
    """Takes, shows and commands orders.

    Args:
        store: where orders are kept.
        desk: whom to tell of new ones, and who carries out commands.
        intake: makes orders of what is posted.
        orders_dir: the folder of finished files.
        max_pending: how many orders may wait at a time; a few more are let in when many shops post at once.
    """

    def __init__(self, *, store: Store, desk: Desk, intake: Intake, orders_dir: Path, max_pending: int) -> None:
        self._store = store
        self._desk = desk
        self._intake = intake
        self._orders_dir = orders_dir
        self._max_pending = max_pending
        self._room = 0
        self._view = View(orders_dir)

    async def add(self, request: web.Request) -> Answer:
        """Accept one order or a list: 202 once they are durable, 200 if all of them were known."""
        posted = await body.read(request)
        orders = self._intake.orders(posted)
        self._room -= len(orders)
        if self._room < 0:
            await self._demand_room(orders)
        kept = await self._store.add(self._desk.scheduled(orders))
        new = [order for order, is_new in kept if is_new]
        if new:
            self._desk.added(new)
        return self._accepted([order for order, _ in kept], is_list=isinstance(posted, list), new=bool(new))

    async def search(self, request: web.Request) -> Answer:
        """List orders."""
        query = listing.query(request.query)
        page = await self._store.search(query)
        cursor = listing.next_cursor(page, query)
        headers = {"Link": listing.next_link(request.query, cursor)} if cursor else None
        orders = [self._view.order(order) for order in page.orders]
        return respond({"orders": orders, "next": cursor, "count": page.count}, headers=headers)

    async def show(self, request: web.Request) -> Answer:
        """Show one order."""
        return respond(self._view.order(await self._get(request)))

    async def events(self, request: web.Request) -> Answer:
        """Show an order's history."""
        return respond(history(await self._store.history(key_of(request))))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Send an order's file."""
        file = _choose(await self._get(request), request.query.get("name"))
        try:
            content = await finish(asyncio.to_thread(folder.open_below, self._orders_dir, file.name))
        except OSError:
            raise _lost(file) from None
        with content:
            if content.seek(0, 2) != file.size:
                raise _lost(file)
            return await attachment.send(request, file, content)

    def command(self, change: Callable[[Order, float], Order], word: str) -> Handler:
        """Make the handler of a command that *change* carries out, and that histories call *word*."""

        async def handler(request: web.Request) -> Answer:
            self._room -= 1  # a retry makes an order wait again
            order = await self._desk.apply(key_of(request), change, word)
            return respond(self._view.order(order))

        return handler

    async def _get(self, request: web.Request) -> Order:
        key = key_of(request)
        order = await self._store.get(key)
        if order is None:
            raise NotFound(f"there is no order {key.task_id!r} of {key.remote}")
        return order

    async def _demand_room(self, orders: Sequence[Order]) -> None:
        """Count what waits, and refuse more orders than may; those that are known already take no room.

        What waits grows by no more than comes in here. So there is no need to count again
        before as much has come as there was room for.
        """
        counts = await self._store.counts()
        waiting = counts[State.PENDING] + counts[State.HELD]
        self._room = self._max_pending - waiting - len(orders)
        if self._room >= 0:
            return
        new = [order for order in orders if await self._store.get(order.key) is None]
        if new and waiting + len(new) > self._max_pending:
            raise Refusal(
                429,
                f"{waiting} orders are waiting, and {self._max_pending} may",
                hint="send it again when some have come to rest; POLLER_MAX_PENDING sets the limit",
                headers=_WHEN_FULL,
            )

    def _accepted(self, orders: Sequence[Order], *, is_list: bool, new: bool) -> Answer:
        status = 202 if new else 200
        if is_list:
            return respond({"orders": [self._view.order(order) for order in orders]}, status=status)
        headers = {"Location": address(orders[0].remote, orders[0].task_id)}
        return respond(self._view.order(orders[0]), status=status, headers=headers)


def _choose(order: Order, name: str | None) -> File:
    """Choose the file that is meant: the only one, or the one of that name."""
    if not order.files:
        fate = "had nothing to fetch" if order.state is State.DONE else f"is {order.state}"
        raise Refusal(404, f"this order {fate}: it has no file", hint=_HINTS.get(order.state, ""))
    names = [file.name for file in order.files]
    if name is None and len(names) == 1:
        return order.files[0]
    if name is None:
        message = f"choose one of {', '.join(names)}"
        raise Refusal(400, f"this order has {len(names)} files", hint="add ?name=", faults=[Fault("name", message)])
    if name not in names:
        raise Refusal(404, "this order has no file of that name", hint=f"it has {', '.join(names)}")
    return order.files[names.index(name)]


def _lost(file: File) -> Refusal:
    hint = "it was moved, deleted or changed after it was published"
    return Refusal(404, f"the file {file.name} is no longer in the orders folder as it was published", hint=hint)
