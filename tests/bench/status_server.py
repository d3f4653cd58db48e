"""A remote that is never ready: 204 to every question, from one process, as fast as asyncio can.

Run as ``python -m tests.bench.status_server CORE``. The first line on standard output is the port; the
server ends when its standard input does.
"""

import asyncio
import os
import sys

_END = b"\r\n\r\n"
_NOT_READY = (
    b"HTTP/1.1 204 No Content\r\n"
    b"Date: Fri, 15 Jan 2027 08:00:00 GMT\r\n"
    b"Server: bench\r\n"
    b"Cache-Control: no-store\r\n"
    b"X-Request-ID: 0d1f7a3c5e9b4860\r\n\r\n"
)


class Status(asyncio.Protocol):
    """Says "not yet" once for every request, of which it reads nothing but the end of the head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *asked, self._rest = (self._rest + data).split(_END)
        self._transport.write(_NOT_READY * len(asked))


async def main() -> None:
    """Serve until standard input ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(Status, "127.0.0.1", 0)
    loop.add_reader(0, ended.set)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    await ended.wait()
    loop.remove_reader(0)
    server.close()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(main())
