"""Looks names up in threads of its own: slow ones would fill the common threads, and hold up everybody's."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Names(AbstractResolver):
    """Asks the operating system; a resolver of aiohttp's.

    Args:
        threads: how many names at once.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Find a name's addresses.

        Raises:
            OSError: it has none, or nobody knows.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, _looked_up, host, port, family)

    async def close(self) -> None:
        """Look up nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _looked_up(host: str, port: int, family: int) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(hostname=host, host=_spelled(address), port=port, family=kind, proto=protocol, flags=_NUMERIC)
        for kind, _, protocol, _, address in found
    ]


def _spelled(address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """Spell an IP address; one of a single link says which (RFC 4007, 11)."""
    return socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
