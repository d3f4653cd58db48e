"""Names are looked up in threads of their own, and their addresses spelled as they are dialled."""

import asyncio
import socket
import threading

import pytest

from poller import names
from poller.names import Names


async def test_a_name_has_addresses() -> None:
    """What aiohttp dials."""
    resolver = Names(1)
    found = await resolver.resolve("localhost", 80, socket.AF_INET)
    assert [(each["hostname"], each["host"], each["port"], each["family"]) for each in found] == [
        ("localhost", "127.0.0.1", 80, socket.AF_INET)
    ]
    await resolver.close()


async def test_a_name_that_nobody_knows_is_an_error() -> None:
    """The operating system's own; ``.invalid`` is never anybody's (RFC 2606)."""
    resolver = Names(1)
    with pytest.raises(OSError, match=r"."):
        await resolver.resolve("poller.invalid", 80)
    await resolver.close()


def test_an_address_of_one_link_says_which() -> None:
    """Without its scope a link-local address could not be dialled."""
    assert names._spelled(("fe80::1", 80, 0, 1)) == f"fe80::1%{socket.if_indextoname(1)}"
    assert names._spelled(("::1", 80, 0, 0)) == "::1"


async def test_the_common_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that is silent holds up names, and nothing else."""
    go_on = threading.Event()
    monkeypatch.setattr(names, "_looked_up", lambda *_: go_on.wait(20) and [])
    resolver = Names(2)
    waiting = [asyncio.ensure_future(resolver.resolve("slow.example")) for _ in range(40)]
    assert await asyncio.to_thread(lambda: 1) == 1
    go_on.set()
    assert await asyncio.gather(*waiting) == [[]] * 40
    await resolver.close()
