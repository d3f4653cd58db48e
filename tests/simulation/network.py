"""The network, as a wire would show it: what arrives of an answer, and when, or why nothing does."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack
from email.utils import formatdate
from typing import Self

from poller.address import Origin, bare
from poller.governor import Governor
from poller.outcome import Stuck, Trouble
from poller.remote import Aborted, Request
from tests.clock import EPOCH
from tests.simulation.grafx import BASE, Answer, GraFx
from tests.simulation.history import History
from tests.simulation.weather import Weather

IDLE = 30.0
"""Seconds of silence after which a wire gives up."""


class Body:
    """What ``wire.Body`` is, with a *fault* on the way: cut, stall, silent (cut) or short (and said to be whole).

    Attributes:
        held: what ends when it is let go of.
    """

    def __init__(self, url: str, answer: Answer, fault: str, *, framed: bool, cut: int, pace: float) -> None:
        self.status, self.url, self.headers = answer.status, url, answer.headers
        self.framed = framed
        self.length = len(answer.body) if framed else None
        self._fault, self._pace = fault, pace
        self._arrives = answer.body[:cut] if fault else answer.body
        self.held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self.held.close()

    async def blocks(self, size: int = 2**14) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(self._arrives), size):
            await asyncio.sleep(self._pace)
            yield self._arrives[at : at + size]
        if self._fault == "stall":
            await asyncio.sleep(IDLE)
        if self._fault in {"cut", "stall"}:
            raise Aborted(Trouble(reason="the body stopped before its end", address=bare(self.url)))

    async def read(self, limit: int) -> bytes:
        return b"".join([block async for block in self.blocks()])


class Network:
    """What a client takes for its wire.

    Attributes:
        governor: lets this process's requests go.
        sent: when this process sent each.
        dealt: how many faults each task's requests were dealt, "" standing for the token's.
    """

    def __init__(
        self, chance: random.Random, weather: Weather, grafx: GraFx, history: History, time: Callable[[], float]
    ) -> None:
        self.dealt: Counter[str] = Counter()
        self._chance, self._weather, self._grafx, self._history, self._time = chance, weather, grafx, history, time
        self._under_way: Counter[str] = Counter()
        self._cuts = 0
        self.governor = Governor(now=time, clock=time)
        self.sent: list[float] = []

    def restart(self) -> None:
        """Forget what was under way: the process is another."""
        self._under_way.clear()
        self.sent.clear()

    async def send(self, request: Request, credentials: Mapping[str, str], *, roam: bool = False) -> Body:
        about = self._grafx.about(request.url)
        if credentials and Origin.of(request.url) != Origin.of(BASE):
            self._history.breach(f"credentials went to {request.url}")
        with ExitStack() as stack:
            stack.enter_context(_Alone(self._under_way, about, self._history))
            await self._take_turn(patient=roam)
            await self._travel(request.url, about)
            body = self._body(request, credentials, about)
            self._hear(request.url, body)
            self._history.note(self._time(), "asked", bare(request.url), body.status)
            body.held = stack.pop_all()
        return body

    async def _take_turn(self, *, patient: bool) -> None:
        await self.governor.turn(patient=patient)
        self.sent.append(self._time())

    def _hear(self, url: str, body: Body) -> None:
        own = Origin.of(url) == Origin.of(BASE)
        if own:
            self.governor.heard(body.status, body.headers, own=own)

    async def _travel(self, url: str, about: str) -> None:
        """Let the request arrive, or not."""
        await asyncio.sleep(self._chance.uniform(0.01, 0.3))
        if self._weather.on("outage"):
            await self._fail(about, self._chance.choice((0.0, 15.0)), "cannot connect", url)
        if self._weather.on("no_files"):
            raise Aborted(Stuck(reason="our own machine: Too many open files", address=bare(url)))
        if self._weather.mishap():
            await self._fail(about, 0.0, "the remote closed the connection", url)
        if self._weather.mishap(0.2):
            await self._fail(about, IDLE, "the remote went silent", url)

    async def _fail(self, about: str, after: float, reason: str, url: str) -> None:
        self.dealt[about] += 1
        await asyncio.sleep(after)
        self._history.note(self._time(), "failed", bare(url), reason)
        raise Aborted(Trouble(reason=reason, address=bare(url)))

    def _body(self, request: Request, credentials: Mapping[str, str], about: str) -> Body:
        answer = self._disturbed() or self._grafx.answer(request, credentials)
        is_file = answer.status in {200, 206} and "content-type" in answer.headers
        if is_file and self._weather.mishap(0.3):
            page = {"content-type": "text/html"}
            answer = self._chance.choice((Answer(200, b"<html>sorry</html>", page), Answer(200, b"", answer.headers)))
        framed = not is_file or self._chance.random() < 0.8
        fault = self._fault(framed=framed) if answer.body else ""
        self.dealt[about] += bool(fault) or answer.status not in {200, 202, 204, 206} or _is_wrong(answer)
        return Body(request.url, answer, fault, framed=framed, cut=self._cut(answer), pace=self._chance.uniform(0, 2))

    def _disturbed(self) -> Answer | None:
        """Give the answer of something that stands before GraFx, if it answers in its place."""
        if self._weather.on("storm"):
            return Answer(self._chance.choice((502, 503, 504)), b"<html>busy</html>")
        if self._weather.mishap(0.5) or (self._weather.on("limited") and self._chance.random() < 0.4):
            wish = self._chance.choice(("1", "30", "600", "-1", "soon", formatdate(EPOCH + self._time() + 5)))
            return Answer(self._chance.choice((429, 503)), b"", {"retry-after": wish})
        return None

    def _fault(self, *, framed: bool) -> str:
        if not self._weather.mishap():
            return ""
        return self._chance.choice(("cut", "stall", "short") if framed else ("silent", "cut"))

    def _cut(self, answer: Answer) -> int:
        """Say where a body is cut: never twice at the same place, for two equal cuts would vouch for each other."""
        self._cuts += 1
        return self._cuts % max(len(answer.body), 1)


def _is_wrong(answer: Answer) -> bool:
    """Tell whether something came in the place of a file."""
    return answer.headers.get("content-type") == "text/html" or ("content-type" in answer.headers and not answer.body)


class _Alone:
    """Sees to it that nobody else asks about the same task meanwhile."""

    def __init__(self, under_way: Counter[str], about: str, history: History) -> None:
        self._under_way, self._about, self._history = under_way, about, history

    def __enter__(self) -> None:
        self._under_way[self._about] += 1
        if self._about and self._under_way[self._about] > 1:
            self._history.breach(f"{self._about} was asked about twice at a time")

    def __exit__(self, *_: object) -> None:
        self._under_way[self._about] -= 1
