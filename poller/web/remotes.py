"""What the shop can have the remotes do: start tasks, list them, make orders of them; and what remotes push."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from poller import order as fate
from poller.errand import Push, Task
from poller.errors import Declined, NotFound, PollerError
from poller.order import Key, Order
from poller.store import Store
from poller.web import body
from poller.web.answer import Answer
from poller.web.desk import Desk
from poller.web.guess import did_you_mean
from poller.web.intake import MOST_ORDERS, Beginning, Intake, Terms
from poller.web.location import address
from poller.web.problem import Fault, Refusal
from poller.web.view import View, respond

START_CAP = 2**25
"""Bytes that may be posted to start a task: what is to be printed can be in it."""


class Remotes:
    """Has remotes do something.

    Args:
        remotes: the configured ones, by name.
        store: where orders are kept.
        desk: carries it out.
        intake: makes orders of what is posted.
        view: shows orders.
    """

    def __init__(self, *, remotes: Mapping[str, Terms], store: Store, desk: Desk, intake: Intake, view: View) -> None:
        self._remotes = remotes
        self._store, self._desk, self._intake, self._view = store, desk, intake, view

    async def show(self, _request: web.Request) -> Answer:
        """Say which remotes there are, and what they can do."""
        return respond({"remotes": [self._told(name) for name in self._remotes]})

    async def start(self, request: web.Request) -> Answer:
        """Start a task, or several; 202 once their orders are durable. Of several all are started, or none is."""
        name = self._name(request, "start")
        posted = await body.read(request, START_CAP)
        if not isinstance(posted, list):
            order, is_new = await self._desk.start(name, *self._beginning(name, posted))
            headers = {"Location": address(order.remote, order.task_id)}
            return respond(self._view.order(order), status=202 if is_new else 200, headers=headers)
        if not 1 <= len(posted) <= MOST_ORDERS:
            raise Refusal(422, f"a list has 1 to {MOST_ORDERS} tasks, this one {len(posted)}")
        orders = await self._start_all(name, [self._beginning(name, each) for each in posted])
        return respond({"orders": [self._view.order(order) for order in orders]}, status=202)

    async def tasks(self, request: web.Request) -> Answer:
        """List the tasks that a remote has, and the states of those that have orders."""
        name = self._name(request, "discover")
        wish = {key: value for key, value in request.query.items() if key != "limit"}
        found = await self._desk.discover(name, wish, _limit(request.query.get("limit", str(MOST_ORDERS))))
        tasks = [await self._task(name, task) for task in found.tasks if self._intake.fits(task)]
        return respond({"tasks": tasks, "complete": found.complete})

    async def discover(self, request: web.Request) -> Answer:
        """Make orders of a remote's tasks that have none yet."""
        name = self._name(request, "discover")
        posted = await body.read(request) if request.can_read_body else {}
        if not isinstance(posted, dict) or not isinstance(posted.get("input") or {}, dict):
            raise Refusal(422, 'this takes an object such as {"input": {}, "batch": "monday"}')
        asked = self._intake.asked({key: value for key, value in posted.items() if key not in {"input", "limit"}})
        found = await self._desk.discover(
            name, posted.get("input") or {}, _limit(str(posted.get("limit", MOST_ORDERS)))
        )
        orders = [
            self._intake.found(name, task.task_id, task.context, asked)
            for task in found.tasks
            if self._intake.fits(task)
        ]
        unknown = [order for order in orders if await self._store.get(order.key) is None]
        kept = await self._store.add(self._desk.scheduled(unknown)) if unknown else []
        new = [order for order, is_new in kept if is_new]
        self._desk.added(new)
        shown = [self._view.order(order) for order in new]
        answer = {"orders": shown, "known": len(orders) - len(new), "complete": found.complete}
        return respond(answer, status=202 if new else 200)

    async def nudge(self, request: web.Request) -> Answer:
        """Hear what a remote pushes: it is recognised, and not believed."""
        name = self._name(request, "nudge")
        headers = {key.lower(): request.headers[key] for key in request.headers}
        push = Push(headers=headers, body=await body.plain(request))
        try:
            return respond({"nudged": await self._desk.nudge(name, push)}, status=202)
        except Declined as error:
            raise Refusal(403, str(error), hint="send it as the remote signs it; its page says how") from None

    def _beginning(self, name: str, posted: Any) -> Beginning:
        return self._intake.beginning(name, posted, lambda wish: self._desk.fit(name, wish))

    async def _start_all(self, name: str, beginnings: list[Beginning]) -> list[Order]:
        """Start one after the other; if one cannot be started, cancel those that were before it."""
        await self._desk.room(name, len(beginnings))
        orders: list[Order] = []
        new: list[Order] = []
        for each in beginnings:
            try:
                order, is_new = await self._desk.start(name, *each)
            except PollerError as error:
                error.hint = "; ".join(filter(None, (error.hint, await self._undone(new))))
                raise
            orders.append(order)
            if is_new:
                new.append(order)
        return orders

    async def _undone(self, orders: list[Order]) -> str:
        """Cancel orders; say what became of each."""
        said = []
        for order in orders:
            with suppress(PollerError):
                await self._desk.apply(order.key, fate.cancel, "canceled")
                events = (await self._store.history(order.key)).events
                there = "there as well" if events[-1].event == "canceled_there" else "but not there"
                said.append(f"{order.task_id} was started, and canceled {there}")
        return "; ".join(said)

    async def _task(self, name: str, task: Task) -> dict[str, Any]:
        order = await self._store.get(Key(name, task.task_id))
        return {"task_id": task.task_id, "context": task.context, "state": order and order.state}

    def _name(self, request: web.Request, ability: str) -> str:
        """Read which remote is meant, and make sure that it can do this."""
        name = request.match_info["remote"]
        if name not in self._remotes:
            hint = f"there are {', '.join(self._remotes)}"
            raise NotFound(f"there is no remote {name!r}{did_you_mean(name, self._remotes)}", hint=hint)
        if ability not in self._remotes[name].abilities:
            raise Refusal(404, f"the remote {name} cannot {ability}", hint=f"its page has no [{ability}]")
        return name

    def _told(self, name: str) -> dict[str, Any]:
        terms = self._remotes[name]
        return {
            "name": name,
            "title": terms.title,
            "abilities": sorted(terms.abilities),
            "kinds": terms.kinds,
            "needs": sorted(terms.needs),
            "paused": self._desk.paused.get(name),
        }


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_ORDERS):
        raise Refusal(400, "the query is wrong", faults=[Fault("limit", f"must be a number from 1 to {MOST_ORDERS}")])
    return int(text)
