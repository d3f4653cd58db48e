"""Whether the process is alive, and whether it can take orders."""

from typing import Any

from aiohttp import web

from poller.store import Store
from poller.web.answer import Answer
from poller.web.desk import Desk
from poller.web.gate import Gate
from poller.web.view import respond


class Health:
    """Tells whether poller is alive, and whether it is of use.

    Args:
        store: its problem, if it has one, makes us unready.
        desk: knows whether we are about to stop and which remotes are paused.
        gate: who may hear the reasons.
    """

    def __init__(self, *, store: Store, desk: Desk, gate: Gate) -> None:
        self._store = store
        self._desk = desk
        self._gate = gate

    async def alive(self, _request: web.Request) -> Answer:
        """Say that the process answers."""
        return respond({"status": "ok"})

    async def ready(self, request: web.Request) -> Answer:
        """Say whether orders are accepted; 503 if not.

        A paused remote does not make us unready: its orders are accepted and wait.
        """
        status, reasons = self._status()
        shown: dict[str, Any] = {"status": status}
        if self._gate.trusts(request):
            shown |= {"reasons": reasons} if reasons else {"paused": dict(self._desk.paused)}
        return respond(shown, status=503 if reasons else 200)

    def _status(self) -> tuple[str, list[str]]:
        problem = self._store.problem
        if problem is not None:
            return "store", [problem]
        if self._desk.draining:
            return "draining", ["poller is about to stop"]
        return "ready", []
