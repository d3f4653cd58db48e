"""Every address of the hook, in one table; all are behind one door.

The door is part of each handler; as a middleware it would cost every request three more calls.
So the router gets an answer for every path and method: what it refused itself would pass no door.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from poller import order
from poller.store import Store
from poller.web import body, listing
from poller.web.answer import protect
from poller.web.batches import Batches
from poller.web.desk import Desk
from poller.web.gate import Gate
from poller.web.guess import did_you_mean
from poller.web.health import Health
from poller.web.intake import MOST_FAULTS, Intake, Terms
from poller.web.orders import Orders
from poller.web.problem import Fault, Handler, Refusal, answer, reword
from poller.web.remotes import Remotes
from poller.web.view import View

ORDER = "/orders/{remote:[^/]+}/{task_id:[^/]+}"

_READING = ("GET", "HEAD")


class Route(NamedTuple):
    """One row: what is asked, who answers, and which query parameters it takes; None for any."""

    method: str
    path: str
    handler: Handler
    query: frozenset[str] | None = frozenset()


def table(orders: Orders, batches: Batches, remotes: Remotes, health: Health) -> tuple[Route, ...]:
    """List every route."""
    return (
        Route("POST", "/orders", orders.add),
        Route("GET", "/orders", orders.search, listing.NAMES),
        Route("GET", ORDER, orders.show),
        Route("GET", f"{ORDER}/events", orders.events),
        Route("GET", f"{ORDER}/file", orders.file, frozenset({"name"})),
        Route("POST", f"{ORDER}/confirm", orders.command(order.confirm, "confirmed")),
        Route("POST", f"{ORDER}/cancel", orders.command(order.cancel, "canceled")),
        Route("POST", f"{ORDER}/retry", orders.command(order.retry, "retried")),
        Route("POST", f"{ORDER}/check", orders.command(order.check, "made_due")),
        Route("GET", "/batches/{batch:[^/]+}", batches.show, frozenset({"limit", "cursor", "state"})),
        Route("GET", "/remotes", remotes.show),
        Route("POST", "/remotes/{remote:[^/]+}/tasks", remotes.start),
        Route("GET", "/remotes/{remote:[^/]+}/tasks", remotes.tasks, None),
        Route("POST", "/remotes/{remote:[^/]+}/discover", remotes.discover),
        Route("POST", "/remotes/{remote:[^/]+}/nudge", remotes.nudge, None),
        Route("GET", "/healthz", health.alive),
        Route("GET", "/readyz", health.ready),
    )


def application(
    *,
    store: Store,
    desk: Desk,
    remotes: Mapping[str, Terms],
    orders_dir: Path,
    token: str,
    hosts: Collection[str],
    origins: Collection[str],
    max_pending: int,
    now: Callable[[], float],
) -> web.Application:
    """Build the hook.

    Serve it without an access log, without decompression of bodies (they are refused), and
    with handlers that outlive those who hang up, which is the runner's default.

    Args:
        store: where orders are kept.
        desk: the running poller.
        remotes: the configured ones, by name; the first is meant when an order names none.
        orders_dir: the folder of finished files.
        token: bearer token that every request must bring; empty for none.
        hosts: names this machine is called by, besides the loopback's; the bound one too.
        origins: sites whose pages may change things here.
        max_pending: how many orders may wait at a time.
        now: epoch seconds.
    """
    gate = Gate(token=token, hosts=hosts, origins=origins)
    intake, view = Intake(remotes=remotes, now=now), View(orders_dir)
    orders = Orders(store=store, desk=desk, intake=intake, orders_dir=orders_dir, max_pending=max_pending)
    batches = Batches(store=store, view=view)
    others = Remotes(remotes=remotes, store=store, desk=desk, intake=intake, view=view)
    health = Health(store=store, desk=desk, gate=gate)
    app = web.Application(client_max_size=body.CAP)
    app.on_response_prepare.extend((reword, protect))
    for route in complete(table(orders, batches, others, health)):
        app.router.add_route(route.method, route.path, behind_door(gate, route))
    return app


def complete(routes: Iterable[Route]) -> Iterator[Route]:
    """Add HEAD wherever there is GET, and what is answered to all else. Routes of one path follow each other."""
    for path, alike in groupby(routes, key=attrgetter("path")):
        taken = set()
        for route in alike:
            for method in _READING if route.method == "GET" else (route.method,):
                taken.add(method)
                yield route._replace(method=method)
        yield Route("*", path, _not_taken(taken), None)
    yield Route("*", "/{anything:.*}", _nothing, None)


def behind_door(gate: Gate, route: Route) -> Handler:
    """Have a handler answer only who may come in, and turn whatever it raises into an answer."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            gate.admit(request)
            if request.query_string:
                _demand_known(request.query.keys(), route.query)
            return await route.handler(request)
        except Exception as error:
            return answer(request, error)

    return handler


def _not_taken(methods: Collection[str]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, methods)

    return handler


async def _nothing(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


def _demand_known(given: AbstractSet[str], known: frozenset[str] | None) -> None:
    """Refuse query parameters that nobody reads: a mistyped filter must not go unheard."""
    if known is not None and (unknown := sorted(given - known)):
        faults = [Fault(name, f"is no parameter here{did_you_mean(name, known)}") for name in unknown[:MOST_FAULTS]]
        raise Refusal(400, "the query is wrong", faults=faults)
