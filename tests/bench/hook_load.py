"""Requests as fast as one process can send them: plain sockets, one epoll, no HTTP library between.

Run as ``python -m tests.bench.hook_load JOB``, where JOB is JSON. Each connection has one request under
way; what came of them is written to standard output as JSON.
"""

import os
import select
import socket
import sys
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from time import perf_counter

import msgspec

_LENGTH = b"Content-Length: "
_END = b"\r\n\r\n"
_ORDER = b'{"taskID":"%s-%012d","projectID":"brochure-%07d","batch":"summer-%04d"}'
_PIECE = 1 << 18


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, where, and for how long.

    Attributes:
        core: the processor to run on.
        seconds: for how long requests are begun; a fifth of that goes before, to warm up.
        name: begins every task ID, so that no two jobs post the same.
        each: orders in one request: 1 posts an object, more a list; 0 gets *path*.
    """

    port: int
    core: int
    connections: int
    seconds: float
    name: str
    each: int = 1
    path: str = "/orders"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job.

    Attributes:
        requests: how many were answered, but for the warming up.
        seconds: how long that took.
        orders: how many were accepted in all, warming up included.
        latencies: seconds from sending a request to having its whole answer.
    """

    requests: int
    seconds: float
    orders: int
    latencies: list[float]


class Refused(Exception):  # noqa: N818 - the server's word, not a fault of ours
    """An answer was another than it should be."""


class Connection:
    """One connection, and when its request was sent."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self._heard = b""

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.sent = perf_counter()
        self.socket.sendall(request)

    def answered(self) -> bool:
        """Read; tell whether the answer is whole.

        Raises:
            Refused: it is no success, or there is none.
        """
        piece = self.socket.recv(_PIECE)
        self._heard += piece
        if not piece or not self._heard.startswith((b"HTTP/1.1 202 ", b"HTTP/1.1 200 ")):
            raise Refused(self._heard[:500] or "the server hung up")
        if len(self._heard) < _size(self._heard):
            return False
        self._heard = b""
        return True


def run(job: Job) -> Outcome:
    """Do a job.

    Raises:
        Refused: an answer was no success.
    """
    requests = _requests(job)
    with ExitStack() as stack:
        connections = [Connection(job.port) for _ in range(job.connections)]
        for connection in connections:
            stack.enter_context(connection.socket)
        warm = drive(connections, requests, job.seconds / 5)
        began = perf_counter()
        latencies = drive(connections, requests, job.seconds)
        took = perf_counter() - began
    orders = (len(warm) + len(latencies)) * job.each
    return Outcome(requests=len(latencies), seconds=took, orders=orders, latencies=list(latencies))


def drive(connections: list[Connection], requests: Iterator[bytes], seconds: float) -> "array[float]":
    """Keep every connection busy for some seconds, and then hear each out; give the latencies."""
    latencies, clock = array("d"), perf_counter
    waiting = {connection.socket.fileno(): connection for connection in connections}
    end = clock() + seconds
    with select.epoll() as epoll:
        for number, connection in waiting.items():
            epoll.register(number, select.EPOLLIN)
            connection.send(next(requests))
        while waiting:
            for number, _ in epoll.poll():
                connection = waiting[number]
                if not connection.answered():
                    continue
                now = clock()
                latencies.append(now - connection.sent)
                if now < end:
                    connection.send(next(requests))
                else:
                    del waiting[number]
    return latencies


def _requests(job: Job) -> Iterator[bytes]:
    """Write requests without end, each order with a task ID of its own."""
    host = f"Host: localhost:{job.port}\r\n"
    number = 0
    while not job.each:
        yield f"GET {job.path} HTTP/1.1\r\n{host}\r\n".encode()
    head = f"POST {job.path} HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: ".encode()
    while True:
        orders = [_order(job.name, index) for index in range(number, number + job.each)]
        body = orders[0] if job.each == 1 else b"[%s]" % b",".join(orders)
        yield b"%s%d\r\n\r\n%s" % (head, len(body), body)
        number += job.each


def _order(name: str, number: int) -> bytes:
    return _ORDER % (name.encode(), number, number % 10**7, number % 1000)


def _size(answer: bytes) -> float:
    """Tell how long an answer will be; endless while its head is not whole."""
    head = answer.find(_END)
    if head < 0:
        return float("inf")
    at = answer.find(_LENGTH, 0, head) + len(_LENGTH)
    return head + len(_END) + int(answer[at : answer.find(b"\r", at)])


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.argv[1], type=Job)
    os.sched_setaffinity(0, {asked.core})
    sys.stdout.buffer.write(msgspec.json.encode(run(asked)))
