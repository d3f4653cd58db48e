"""Every address of the hook, in one table."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from poller import order
from poller.store import Store
from poller.web import body, listing
from poller.web.desk import Desk
from poller.web.gate import Gate, protect
from poller.web.guess import did_you_mean
from poller.web.health import Health
from poller.web.intake import MOST_FAULTS, Intake
from poller.web.orders import Orders
from poller.web.problem import Fault, Handler, Refusal, problems

ORDER = "/orders/{remote:[^/]+}/{task_id:[^/]+}"


class Route(NamedTuple):
    """One row: what is asked, who answers, and which query parameters it takes."""

    method: str
    path: str
    handler: Handler
    query: frozenset[str] = frozenset()


def table(orders: Orders, health: Health) -> tuple[Route, ...]:
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
        Route("GET", "/healthz", health.alive),
        Route("GET", "/readyz", health.ready),
    )


def application(  # noqa: PLR0913 - the door of the package: everything inside gets its share from here
    *,
    store: Store,
    desk: Desk,
    remotes: Sequence[str],
    orders_dir: Path,
    deadline: float,
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
        remotes: the configured names; the first is meant when an order names none.
        orders_dir: the folder of finished files.
        deadline: seconds until the deadline of an order that brings none.
        token: bearer token that every request must bring; empty for none.
        hosts: names this machine is called by, besides the loopback's; the bound one too.
        origins: sites whose pages may change things here.
        max_pending: how many orders may wait at a time.
        now: epoch seconds.
    """
    gate = Gate(token=token, hosts=hosts, origins=origins)
    intake = Intake(remotes=remotes, patience=deadline, now=now)
    orders = Orders(store=store, desk=desk, intake=intake, orders_dir=orders_dir, max_pending=max_pending)
    health = Health(store=store, desk=desk, gate=gate)
    app = web.Application(middlewares=[problems, gate.admit], client_max_size=body.CAP)
    app.on_response_prepare.append(protect)
    for route in table(orders, health):
        _add(app.router, route)
    return app


def _add(router: web.UrlDispatcher, route: Route) -> None:
    if route.method == "GET":
        router.add_get(route.path, _knowing(route))
    else:
        router.add_route(route.method, route.path, _knowing(route))


def _knowing(route: Route) -> Handler:
    """Have a handler refuse query parameters that it does not know: a mistyped filter must not go unheard."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query_string and (unknown := request.query.keys() - route.query):
            raise _unknown(sorted(unknown), route.query)
        return await route.handler(request)

    return handler


def _unknown(names: Sequence[str], known: Collection[str]) -> Refusal:
    faults = [Fault(name, f"is no parameter here{did_you_mean(name, known)}") for name in names[:MOST_FAULTS]]
    return Refusal(400, "the query is wrong", faults=faults)
