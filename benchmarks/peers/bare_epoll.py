"""No framework: a loop around ``epoll``, ``bytes.split``, and a call for each request."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

from benchmarks import traffic
from benchmarks.serve import Ready

_SIZE = 65536


class Connection:
    """A client; a subclass answers its requests, which are lines."""

    def __init__(self, sock: socket.socket, wait_for: Callable[[int], object]) -> None:
        self.sock = sock
        self.wait_for = wait_for
        self.rest = b""
        self.unsent: memoryview | None = None

    def readable(self) -> bool:
        """Receive once. Answers whether the connection goes on."""
        data = self.sock.recv(_SIZE)
        if not data:
            return False
        *lines, self.rest = (self.rest + data).split(b"\r\n")
        for line in lines:
            self.line_received(line)
        return True

    def line_received(self, line: bytes) -> None:
        """A request has come."""
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> bool:
        """Send what there is room for, the rest when there is more. Answers whether it was all."""
        if self.unsent is not None:
            self.unsent = memoryview(bytes(self.unsent) + data)
            return False
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self.unsent = memoryview(data)[sent:]
        self.wait_for(select.EPOLLIN | select.EPOLLOUT)
        return False

    def writable(self) -> None:
        """There is room again."""
        unsent, self.unsent = self.unsent, None
        assert unsent is not None
        if self.send(unsent):
            self.wait_for(select.EPOLLIN)
            self.all_sent()

    def all_sent(self) -> None:
        """What there was no room for has gone."""


class Echo(Connection):
    """Answers each line with the line, with a call of the system for each."""

    def line_received(self, line: bytes) -> None:
        self.send(line + b"\r\n")


class Once(Echo):
    """Answers one line, then closes."""

    def readable(self) -> bool:
        return super().readable() and bool(self.rest)


class Producer(Connection):
    """Sends so many bytes in pieces, for as long as there is room."""

    pieces: Iterator[bytes]

    def line_received(self, line: bytes) -> None:
        self.pieces = traffic.pieces(int(line))
        self.all_sent()

    def all_sent(self) -> None:
        for piece in self.pieces:
            if not self.send(piece):
                return


class Push(Connection):
    """Sends so many bytes from one object."""

    def line_received(self, line: bytes) -> None:
        self.send(traffic.whole(int(line)))


def serve(service: str, ready: Ready, variant: str) -> None:
    """On a loop that does nothing but that."""
    kind = {"echo": Echo, "once": Once, "producer": Producer, "push": Push}[service]
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, Connection] = {}
    ready(listener.getsockname()[1])

    def wait_for(descriptor: int) -> Callable[[int], object]:
        return lambda mask: poll.modify(descriptor, mask)

    while True:
        for descriptor, flags in poll.poll():
            if descriptor == listener.fileno():
                sock, _ = listener.accept()
                sock.setblocking(False)
                connections[sock.fileno()] = kind(sock, wait_for(sock.fileno()))
                poll.register(sock, select.EPOLLIN)
                continue
            connection = connections[descriptor]
            if flags & select.EPOLLOUT:
                connection.writable()
            if flags & ~select.EPOLLOUT and not connection.readable():
                poll.unregister(descriptor)
                del connections[descriptor]
                connection.sock.close()
