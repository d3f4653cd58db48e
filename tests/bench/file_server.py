"""Files as fast as one process can give them away: plain sockets, a thread each, the kernel copies.

Run as ``python -m tests.bench.file_server CORE LARGEST [CERTIFICATE]``. ``GET /SIZE/NAME`` gives SIZE bytes, LARGEST at
most. The first line on standard output is the port; the server ends when its standard input does.
"""

import os
import re
import socket
import ssl
import sys
import tempfile
import threading
from typing import BinaryIO

_FILE = re.compile(rb"GET /(\d+)/")
_END = b"\r\n\r\n"
_PIECE = 2**20
_UNKNOWN = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def content(largest: int) -> BinaryIO:
    """Make a file that no two blocks of are equal, and that is in memory."""
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process lives
    block = os.urandom(_PIECE)
    for number in range(-(-largest // _PIECE)):
        stream.write(number.to_bytes(8, "big") + block[8:])
    stream.flush()
    return stream


def serve(listener: socket.socket, largest: int, context: ssl.SSLContext | None) -> None:
    """Answer every connection in a thread of its own."""
    stream = content(largest)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_converse, args=(connection, context, stream.fileno()), daemon=True).start()


def _converse(connection: socket.socket, context: ssl.SSLContext | None, file: int) -> None:
    with connection if context is None else context.wrap_socket(connection, server_side=True) as peer:
        try:
            asked = b""
            while piece := peer.recv(65_536):
                asked += piece
                while _END in asked:
                    head, _, asked = asked.partition(_END)
                    _answer(peer, head, file)
        except (ConnectionError, ssl.SSLError):
            return


def _answer(peer: socket.socket, head: bytes, file: int) -> None:
    wanted = _FILE.match(head)
    if wanted is None:
        peer.sendall(_UNKNOWN)
        return
    size = int(wanted[1])
    kind = b"Content-Type: application/pdf\r\nContent-Length: %d\r\n\r\n"
    peer.sendall(b"HTTP/1.1 200 OK\r\n" + kind % size)
    if isinstance(peer, ssl.SSLSocket):
        for offset in range(0, size, _PIECE):
            peer.sendall(os.pread(file, min(_PIECE, size - offset), offset))
        return
    offset = 0
    while offset < size:
        offset += os.sendfile(peer.fileno(), file, offset, size - offset)


def main(core: int, largest: int, certificate: str = "") -> None:
    """Serve until standard input ends."""
    os.sched_setaffinity(0, {core})
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=serve, args=(listener, largest, context), daemon=True).start()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
