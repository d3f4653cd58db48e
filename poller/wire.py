"""One request out, one response in, wherever redirects lead.

What the operator did not configure is dialled only if it is public. That is decided at dial time, on the address
that will be dialled, so that neither an odd spelling nor a name that resolves differently the second time slips by.
"""

import errno
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from poller import __version__
from poller.address import Origin, bare, is_public
from poller.body import BLOCK, Body
from poller.exchange import Exchange
from poller.floor import Floor
from poller.governor import Governor
from poller.mishap import NOT_PUBLIC, THROWN, mishap
from poller.outcome import Unsafe
from poller.redirect import HOPS, admitted, followed, location_of
from poller.remote import Aborted, Request

_FLOOR_WINDOW = 30.0
_PORTABLE = frozenset({"accept", "range", "if-range"})


class Wire:
    """Sends requests to one remote and to wherever its links lead.

    Args:
        base: the only origin that credentials are sent to.
        origins: what the operator configured.
        connections: how many may be open at once.
        idle_timeout: seconds for which a reply's head, and then each piece of its body, may keep us waiting.
        floor_rate: bytes per second below which a transfer is given up.
        clock: monotonic seconds.
        governor: lets requests go; without one, all of them at once.
    """

    def __init__(
        self,
        *,
        base: Origin,
        origins: frozenset[Origin],
        connections: int,
        idle_timeout: float,
        floor_rate: float,
        clock: Callable[[], float],
        governor: Governor | None = None,
    ) -> None:
        self._base = base
        self._governor = governor or Governor(now=time.time, clock=clock)
        self._origins = origins
        self._floor = partial(Floor, rate=floor_rate, window=_FLOOR_WINDOW, clock=clock)
        self._own = _exchange(connections, idle_timeout)
        self._foreign = _exchange(connections, idle_timeout, socket_factory=_public_socket)

    async def close(self) -> None:
        """Close every connection."""
        await self._own.close()
        await self._foreign.close()

    async def send(self, request: Request, credentials: Mapping[str, str], *, roam: bool = False) -> Body:
        """Send *request*, following redirects by hand.

        Args:
            request: what to send.
            credentials: headers that go to the remote's own origin and nowhere else.
            roam: whether a redirect may leave the origin it came from.

        Returns:
            The response; whoever gets it lets go of it.

        Raises:
            Aborted: it could not be sent, led astray, or was not answered.
        """
        url = request.url
        for _ in range(HOPS + 1):
            body = await self._hop(request, url, credentials, roam=roam)
            follows = request.method == "GET" and request.again is not False
            location = location_of(body.status, body.headers) if follows else None
            if location is None:
                return body
            body.release()
            url = followed(url, location, self._origins, roam=roam)
            if Origin.of(url) != self._base:
                credentials = {}  # nor do they go along if it leads back: whoever leads us chose the address
        raise Aborted(Unsafe(reason=f"more than {HOPS} redirects", address=bare(request.url)))

    async def _hop(self, request: Request, url: str, credentials: Mapping[str, str], *, roam: bool) -> Body:
        """Ask one address."""
        origin = admitted(url, self._origins)
        await self._governor.turn(patient=roam)
        own = origin in self._origins
        headers = {**_portable(request, origin), **(credentials if origin == self._base else {})}
        exchange = self._own if own else self._foreign
        try:
            again = request.repeatable
            response = await exchange.send(request.method, url, origin, headers, request.body, again=again)
        except THROWN as error:
            raise mishap(error, url, own=own) from None
        body = Body(response, url.partition("#")[0], self._floor)
        if own:
            self._governor.heard(body.status, body.headers, own=origin == self._base)
        return body


def _portable(request: Request, origin: Origin) -> Mapping[str, str]:
    """Give a request's headers; where a redirect has led elsewhere, only those that no page can have a secret in."""
    if not request.headers or Origin.of(request.url) == origin:
        return request.headers
    return {name: value for name, value in request.headers.items() if name.lower() in _PORTABLE}


def _exchange(connections: int, idle_timeout: float, **dialling: Any) -> Exchange:
    """Open an exchange that asks for bodies as they are: lengths, ranges and digests are of what comes."""
    headers = {"User-Agent": f"poller/{__version__}", "Accept-Encoding": "identity"}
    return Exchange(connections=connections, idle_timeout=idle_timeout, headers=headers, ahead=BLOCK // 2, **dialling)


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for one dial, unless the address about to be dialled is an inner one."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise OSError(errno.EACCES, f"{address[0]} {NOT_PUBLIC}")
    return socket.socket(family=family, type=kind, proto=protocol)
