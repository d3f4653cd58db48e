"""The rest of a large body, taken straight from its socket.

On its usual way a body is copied four times: into the transport's piece, out of the parser, into a block,
into the file. Of a body whose length is known nothing remains to be parsed; so its bytes go from
the socket into the room from which they are written. The connection is given back at their end.
"""

import asyncio
import os
import socket

import aiohttp

from poller.patience import Patience


class Tap:
    """What is left of a body, on a socket from which nobody else reads meanwhile.

    Args:
        transport: whose socket it is; its reader has been given all that came so far.
        handle: the socket's.
        left: bytes that are still to come.
        patience: how long they may keep us waiting.

    Attributes:
        left: bytes that are still to come.
    """

    def __init__(self, transport: asyncio.ReadTransport, handle: int, left: int, patience: Patience) -> None:
        self._transport = transport
        transport.pause_reading()
        self._socket = socket.socket(fileno=os.dup(handle))
        self._socket.setblocking(False)  # noqa: FBT003 - its name for it
        self._patience = patience
        self.left = left

    async def draw(self, room: memoryview) -> int:
        """Put what has come into *room*, or wait until something does; tell how many bytes it is.

        Raises:
            aiohttp.ClientPayloadError: the connection ended before the body.
            OSError, TimeoutError: it failed, or nothing came for too long.
        """
        room = room[: self.left]
        try:
            count = self._socket.recv_into(room)
        except BlockingIOError:
            with self._patience.limit():
                count = await asyncio.get_running_loop().sock_recv_into(self._socket, room)
        if not count:
            raise aiohttp.ClientPayloadError
        self.left -= count
        return count

    def close(self) -> bool:
        """Give the connection back; tell whether it is good for more: the body is whole, and nothing follows it."""
        good = not self.left and self._is_quiet()
        self._socket.close()
        self._transport.resume_reading()
        return good

    def _is_quiet(self) -> bool:
        """Tell whether nothing more has come, not even the end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False
