"""The rest of a large body, taken straight from its socket.

On its usual way a body is copied four times: into the transport's piece, out of the parser, into a block,
into the file. Of a body whose length is known nothing remains to be parsed; so its bytes go from
the socket into the room from which they are written. The connection is given back at their end.

TLS is spoken by the connection's own ``ssl.SSLObject``, with the buffer that asyncio feeds it from. That buffer
is no part of what asyncio documents: where it is not found, the body comes on its usual way.
"""

import asyncio
import os
import socket
import ssl
from typing import Any, NamedTuple

import aiohttp

from poller.patience import Patience

_CIPHERTEXT = 2**18
"""Bytes that are deciphered in one go: a fraction of a millisecond of the loop's time."""


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
        count = await self._fill(room[: self.left])
        if not count:
            raise aiohttp.ClientPayloadError
        self.left -= count
        return count

    async def _fill(self, room: memoryview) -> int:
        return await self._receive(room)

    async def _receive(self, room: memoryview) -> int:
        try:
            return self._socket.recv_into(room)
        except BlockingIOError:
            with self._patience.limit():
                return await asyncio.get_running_loop().sock_recv_into(self._socket, room)

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


class Cipher(NamedTuple):
    """How asyncio speaks TLS on one connection.

    Attributes:
        protocol: between the transport that is spoken to and the one that carries it.
        tls: deciphers.
        carrier: the other transport.
        incoming: what is to be deciphered.
        outgoing: what it wants to say by itself.
    """

    protocol: Any
    tls: ssl.SSLObject
    carrier: asyncio.Transport
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO

    @classmethod
    def of(cls, transport: asyncio.Transport) -> "Cipher | None":
        """Find it; None where things are not as they are in CPython 3.11 to 3.14."""
        protocol, tls = getattr(transport, "_ssl_protocol", None), transport.get_extra_info("ssl_object")
        parts: list[Any] = [getattr(protocol, name, None) for name in ("_transport", "_incoming", "_outgoing")]
        return None if None in parts else cls(protocol, tls, *parts)


class TlsTap(Tap):
    """The same where the bytes come enciphered.

    Args:
        cipher: of the transport.
        more: as for every tap.
    """

    def __init__(self, cipher: Cipher, *more: Any) -> None:
        super().__init__(*more)
        self._cipher = cipher
        cipher.protocol._ssl_reading_paused = False  # noqa: SLF001 - else it goes on by itself once its buffer is empty
        cipher.carrier.pause_reading()
        self._ciphertext = memoryview(bytearray(_CIPHERTEXT))

    async def _fill(self, room: memoryview) -> int:
        """Decipher what has come; where that is not enough for one byte, wait for more. Nothing is the end."""
        count = self._decipher(room)
        if count is None:
            with self._patience.limit():  # of what is deciphered: a record may drip, and TLS talk of itself for ever
                count = await self._deciphered(room)
        return count

    async def _deciphered(self, room: memoryview) -> int:
        while came := await self._receive(self._ciphertext):
            self._cipher.incoming.write(self._ciphertext[:came])
            count = self._decipher(room)
            if count is not None:
                return count
            await asyncio.sleep(0)
        return 0

    def _decipher(self, room: memoryview) -> int | None:
        """Decipher into *room*; tell how many bytes it is, None if more has to come for one."""
        count, tls = 0, self._cipher.tls
        try:
            while count < len(room) and (more := tls.read(len(room) - count, room[count:])):
                count += int(more)
        except ssl.SSLWantReadError:
            return count or None
        finally:
            self._speak()
        return count

    def _speak(self) -> None:
        """Say what TLS itself has to say: that it renews its keys, say (RFC 8446, 4.6.3)."""
        if self._cipher.outgoing.pending:
            self._cipher.carrier.write(self._cipher.outgoing.read())

    def close(self) -> bool:
        """Give the connection back; tell whether it is good for more."""
        good = super().close() and not self._cipher.incoming.pending and not self._cipher.tls.pending()
        self._cipher.carrier.resume_reading()
        return good


def tapped(transport: asyncio.Transport, left: int, patience: Patience) -> Tap | None:
    """Tap a connection for the bytes that are *left* of a body; None if it has no socket that we know how to tap."""
    end = transport.get_extra_info("socket")
    if end is None:
        return None
    if transport.get_extra_info("ssl_object") is None:
        return Tap(transport, end.fileno(), left, patience)
    cipher = Cipher.of(transport)
    return None if cipher is None else TlsTap(cipher, transport, end.fileno(), left, patience)
