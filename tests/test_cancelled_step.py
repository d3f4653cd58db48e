"""A whole step that is cancelled wherever it waits: the order is due and unspent, or done and its file whole."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from poller.order import Order, State, place
from poller.partial import HashedFile
from poller.step import Course, Step
from tests.canary import Watch
from tests.hostile import Play, answer, reply
from tests.remote_from_hell import close, drip, script
from tests.spine import PNG, SIGNED, TOKEN, Spine, spine
from tests.suspensions import Steps, ended

FILE = b"\x89PNG\r\n\x1a\n" + random.Random(5).randbytes(3_500_000)
"""Several blocks."""
CLOSE = {"Connection": "close"}
"""Every request dials anew, so that dialling is waited for, too."""


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Give the names of the files that some thread is writing to at this moment."""
    names: set[str] = set()
    real = HashedFile.write

    def write(self: HashedFile, block: bytes) -> int:
        names.add(str(self.name))
        try:
            return real(self, block)
        finally:
            names.discard(str(self.name))

    monkeypatch.setattr(HashedFile, "write", write)
    return names


class Stage:
    """A course of a poller whose lanes have stopped, and the remote that it asks."""

    def __init__(self, it: Spine, headers: dict[str, str]) -> None:
        self.it = it
        whole = reply(200, FILE, PNG | headers)
        self._pieces = [whole[place : place + 2**18] for place in range(0, len(whole), 2**18)]
        self.course: Course = it.service.desk._lanes["hell"]._course

    async def order(self, task_id: str) -> Order:
        """Keep an order that is a long way from due; for it the remote wants a fresh token, and redirects."""
        now = time.time()
        order = msgspec.structs.replace(place("hell", task_id, now, deadline=now + 1e6), due_at=now + 1e5)
        [(kept, _)] = await self.it.service.store.add([order])
        self.course._asker._keyring._token = None
        where = f"{self.it.server.base}/moved/{task_id}{SIGNED}"
        ready = answer(200, msgspec.json.encode({"state": "finished", "link": where}), CLOSE)
        self.it.server.on(f"/api/tasks/{task_id}", answer(401, b"", CLOSE), ready)
        self.it.server.on("/oauth/token", *(self._token(number) for number in range(2)))
        self.it.server.on(f"/moved/{task_id}", answer(302, b"", CLOSE | {"Location": f"/files/{task_id}"}))
        self.it.server.on(f"/files/{task_id}", script(drip(self._pieces, tick=0.001), close))
        return kept

    def _token(self, number: int) -> Play:
        return answer(200, b'{"access_token":"%s-%d"}' % (TOKEN.encode(), number), CLOSE)

    async def left_alone(self) -> None:
        """See that nothing of a step goes on: no login, no connection, no slot."""
        while logins := [task for task in asyncio.all_tasks() if task.get_name() == "login"]:
            await asyncio.wait(logins)
        assert self.it.leaked == 0
        assert (self.course._downloads._value, self.course._waiting) == (8, 0)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("headers", [{}, {"ETag": '"one"'}], ids=["nameless", "named"])
async def test_wherever_a_step_is_cancelled(
    times: int, headers: dict[str, str], tmp_path: Path, watch: Watch, writing: set[str]
) -> None:
    """Question, refusal, login, redirect, blocks, publishing, saving: once, and once more while it gives up."""
    async with spine(tmp_path, watch) as it:
        it.service.desk.stop()
        await it.service.working
        stage = Stage(it, CLOSE | headers)
        seen = {State.PENDING: 0, State.DONE: 0}
        number = uncancelled = 0
        while uncancelled < 2:  # how often it suspends is the network's business, too
            order = await stage.order(f"T{number}")
            steps = Steps(stage.course.take(Step(order, lambda _: None)), number, times=times)
            task = await ended(steps)
            assert writing == set()
            files = it.files
            await stage.left_alone()
            after = await it.service.store.get(order.key)
            assert after is not None
            seen[after.state] += 1
            if after.state is State.DONE:
                assert not task.cancelled()
                assert files.pop(f"T{number}.png") == FILE
                (it.folder / f"T{number}.png").unlink()
            else:
                assert task.cancelled()
                assert (after.state, after.attempts, after.checks) == (State.PENDING, 0, 0), (number, after)
                assert after.due_at is not None
                assert after.due_at <= time.time()
            assert all(headers and name.startswith(".partial/") for name in files), (number, files.keys())
            await it.shop.session.post(f"{it.shop.url}/orders/hell/T{number}/cancel")
            uncancelled += not steps.cancelled
            number += 1
        assert number > 20
        assert min(seen.values()) > 2
    assert it.files == {}
