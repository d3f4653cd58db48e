"""Group commit: who goes along with whom, and who waits for nobody."""

import asyncio
import threading
from itertools import chain

from poller.stores.commits import Commits


class Written(list):
    """What was written, commit by commit; the disk can be held up."""

    def __init__(self):
        super().__init__()
        self.disk = threading.Event()
        self.disk.set()

    def __call__(self, changes):
        self.disk.wait(10)
        self.append(list(changes))


async def caller(gathered, name, turns=0):
    """Come some turns of the loop later, and wait until it is on disk."""
    for _ in range(turns):
        await asyncio.sleep(0)
    gathered.stage(name)
    await gathered.settle()


async def test_whoever_comes_alone_waits_for_nobody():
    """A lone change is handed over in the very call, and so is the next."""
    written = Written()
    gathered = Commits(written)
    for name in (b"a", b"b"):
        gathered.stage(name)
        waiting = gathered.settle()
        waiting.send(None)
        assert gathered._current is not None
        waiting.close()
        while gathered._current is not None:
            await asyncio.sleep(0.001)
    await gathered.close()
    assert written == [[b"a"], [b"b"]]


async def test_what_arrives_during_a_commit_goes_into_the_next():
    """However many they are."""
    written = Written()
    gathered = Commits(written)
    written.disk.clear()
    first = asyncio.create_task(caller(gathered, b"first"))
    others = [asyncio.create_task(caller(gathered, b"%d" % number, turns=number)) for number in range(9)]
    await asyncio.sleep(0.01)
    written.disk.set()
    await asyncio.gather(first, *others)
    await gathered.close()
    assert written == [[b"first"], [b"%d" % number for number in range(9)]]


async def test_closing_writes_what_is_staged():
    """Somebody waits for it, or nobody does; and the thread ends."""
    written = Written()
    gathered = Commits(written)
    late = asyncio.create_task(caller(gathered, b"awaited"))
    await asyncio.sleep(0)
    gathered.stage(b"soft")
    gathered.linger()
    await gathered.close()
    await late
    gathered._thread.join(10)
    assert [*chain(*written)] == [b"awaited", b"soft"]
    assert not gathered._thread.is_alive()
