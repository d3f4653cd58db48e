"""The network, as a wire would show it: what arrives of an answer, and when, or why nothing does."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack
from email.utils import formatdate
from functools import partial
from typing import Self

from poller.address import Origin, bare
from poller.governor import Governor
from poller.outcome import Stuck, Trouble
from poller.remote import Aborted, Request
from tests.clock import EPOCH
from tests.simulation.grafx import BASE, Answer, GraFx, problem
from tests.simulation.history import History
from tests.simulation.manners import Manners, Sent
from tests.simulation.weather import Weather

IDLE = 30.0
"""Seconds of silence after which a wire gives up."""
_STRIDE = 7919
"""Bytes, a prime number of them, between the places at which two bodies are cut."""
_DRIP = 100.0
"""Seconds that a reply takes whose bytes come one by one."""


class Body:
    """What ``wire.Body`` is, with a *fault* on the way: cut, stall, silent (cut), short (and said to be whole) or drip.

    Args:
        pace: seconds for each block.
        begun: told the length when the first block is asked for.
        ended: called when all is there, and known to be.

    Attributes:
        held: what ends when it is let go of.
    """

    def __init__(
        self,
        url: str,
        answer: Answer,
        fault: str,
        *,
        framed: bool,
        cut: int,
        pace: float,
        begun: Callable[[int | None], None],
        ended: Callable[[], None],
    ) -> None:
        self.status, self.url, self.headers = answer.status, url, answer.headers
        self.framed = framed
        self.length = len(answer.body) if framed else None
        self._fault, self._pace, self._begun, self._ended = fault, _DRIP if fault == "drip" else pace, begun, ended
        self._arrives = answer.body[:cut] if fault and fault != "drip" else answer.body
        self.held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self.held.close()

    async def blocks(self, size: int = 2**13) -> AsyncGenerator[bytes, None]:
        self._begun(self.length)
        for at in range(0, len(self._arrives), size):
            await asyncio.sleep(self._pace)
            yield self._arrives[at : at + size]
        if self._fault == "stall":
            await asyncio.sleep(IDLE)
        if self._fault in {"cut", "stall"}:
            raise Aborted(Trouble(reason="the body stopped before its end", address=bare(self.url)))
        if self.framed and not self._fault:
            self._ended()

    async def read(self, limit: int) -> bytes:
        return b"".join([block async for block in self.blocks()])


class Network:
    """What a client takes for its wire.

    Args:
        manners: takes note of everything that is sent.
        tempt: told of a task about which something is sent; the shop may have its word just then.
        begun: told the announced length of each file that begins to come.

    Attributes:
        governor: lets this process's requests go.
        sent: when this process sent each.
    """

    def __init__(
        self,
        chance: random.Random,
        weather: Weather,
        grafx: GraFx,
        history: History,
        manners: Manners,
        *,
        time: Callable[[], float],
        tempt: Callable[[str], None],
        begun: Callable[[int | None], None],
    ) -> None:
        self._chance, self._weather, self._grafx, self._history, self._time = chance, weather, grafx, history, time
        self._manners, self._tempt, self._begun = manners, tempt, begun
        self._cuts = 0
        self.governor = Governor(now=time, clock=time)
        self.sent: list[float] = []

    def restart(self) -> None:
        """Forget what was sent: the process is another."""
        self.sent.clear()

    async def send(self, request: Request, credentials: Mapping[str, str], *, roam: bool = False) -> Body:
        about = self._grafx.about(request.url)
        if credentials and Origin.of(request.url) != Origin.of(BASE):
            self._history.breach(f"credentials went to {request.url}")
        if about:
            self._tempt(about)
        with ExitStack() as stack:
            await self._take_turn(patient=roam)
            sent = stack.enter_context(self._manners.sending(about, is_link=roam))
            await self._travel(request.url, sent)
            body = self._body(request, credentials, sent)
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

    async def _travel(self, url: str, sent: Sent) -> None:
        """Let the request arrive, or not."""
        await asyncio.sleep(self._chance.uniform(0.01, 0.3))
        if self._weather.on("outage"):
            await self._fail(sent, self._chance.choice((0.0, 15.0)), "cannot connect", url)
        if self._weather.on("no_files"):
            raise Aborted(Stuck(reason="our own machine: Too many open files", address=bare(url)))
        if self._weather.mishap():
            await self._fail(sent, 0.0, "the remote closed the connection", url)
        if self._weather.mishap(0.2):
            await self._fail(sent, IDLE, "the remote went silent", url)

    async def _fail(self, sent: Sent, after: float, reason: str, url: str) -> None:
        self._manners.failed(sent)
        await asyncio.sleep(after)
        self._history.note(self._time(), "failed", bare(url), reason)
        raise Aborted(Trouble(reason=reason, address=bare(url)))

    def _body(self, request: Request, credentials: Mapping[str, str], sent: Sent) -> Body:
        answer = self._disturbed(credentials) or self._grafx.answer(request, credentials)
        is_file = answer.status in {200, 206} and "content-type" in answer.headers
        if is_file and self._weather.mishap(0.3):
            answer = self._mistaken(answer)
        framed = not is_file or self._chance.random() < 0.8
        fault = self._fault(framed=framed, is_file=is_file) if answer.body else ""
        self._manners.answered(sent, answer, fault or _is_wrong(answer))
        return Body(
            request.url,
            answer,
            fault,
            framed=framed,
            cut=self._cut(answer),
            pace=self._pace(is_file=is_file),
            begun=self._begun if is_file else _unheard,
            ended=partial(self._manners.came, sent) if is_file else _unheard,
        )

    def _mistaken(self, answer: Answer) -> Answer:
        """Give what may come in a file's place: a page, long or short, or nothing."""
        page = b"<html>sorry</html>" * self._chance.choice((1, 1, 200))
        about_page = {**answer.headers, "content-type": "text/html"}
        return self._chance.choice((Answer(200, page, about_page), Answer(200, b"", answer.headers)))

    def _pace(self, *, is_file: bool) -> float:
        """Say how many seconds a block takes: now and then a file takes longer than a claim or a deadline lasts."""
        return self._chance.uniform(20, 100) if is_file and self._chance.random() < 0.15 else self._chance.uniform(0, 2)

    def _disturbed(self, credentials: Mapping[str, str]) -> Answer | None:
        """Give the answer of something that stands before GraFx, if it answers in its place."""
        if self._weather.on("storm"):
            pages = (b"<html>busy</html>", problem(f"busy with {credentials}"))
            return Answer(self._chance.choice((502, 503, 504)), self._chance.choice(pages))
        if self._weather.mishap(0.5) or (self._weather.on("limited") and self._chance.random() < 0.4):
            wish = self._chance.choice(("1", "30", "600", "-1", "soon", formatdate(EPOCH + self._time() + 5)))
            return Answer(self._chance.choice((429, 503)), b"", {"retry-after": wish})
        return None

    def _fault(self, *, framed: bool, is_file: bool) -> str:
        if not self._weather.mishap(4.0 if is_file else 1.0):
            return ""
        if not is_file:
            return self._chance.choice(("cut", "stall", "short", "drip"))
        return self._chance.choice(("cut", "stall", "short") if framed else ("silent", "cut"))

    def _cut(self, answer: Answer) -> int:
        """Say where a body is cut: never twice at the same place, for two equal cuts would vouch for each other."""
        self._cuts += _STRIDE
        return self._cuts % max(len(answer.body), 1)


def _unheard(_length: int | None = None) -> None:
    """Begin or end what is no file."""


def _is_wrong(answer: Answer) -> str:
    """Tell what came in the place of a file, if something did."""
    if answer.headers.get("content-type") == "text/html":
        return "page"
    return "empty" if "content-type" in answer.headers and not answer.body else ""
