"""An HTTP-like server as it was written for asynchat, with the changed imports and types."""

from __future__ import annotations

import socket
from typing import Any

from typing_extensions import assert_type

from txasynchat import asynchat, asyncore, fifo, find_prefix_at_end


class Body:
    """A producer."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def more(self) -> bytes:
        piece, self.text = self.text[:512], self.text[512:]
        return piece


class RequestHandler(asynchat.async_chat):
    """Reads headers, then a body."""

    ac_in_buffer_size = 8192

    def __init__(self, sock: socket.socket, addr: Any, sessions: dict[Any, Any]) -> None:
        asynchat.async_chat.__init__(self, sock=sock)
        self.addr = addr
        self.sessions = sessions
        self.ibuffer: list[bytes] = []
        self.set_terminator(b"\r\n\r\n")
        self.reading_headers = True

    def collect_incoming_data(self, data: bytes) -> None:
        self.ibuffer.append(data)

    def found_terminator(self) -> None:
        if self.reading_headers:
            self.reading_headers = False
            self.set_terminator(len(self.ibuffer))
        else:
            self.set_terminator(None)
            self.push(b"HTTP/1.0 200 OK\r\n\r\n")
            self.push_with_producer(Body(b"".join(self.ibuffer)))
            self.close_when_done()

    def handle_close(self) -> None:
        self.sessions.pop(self.addr, None)
        self.close()

    def handle_error(self) -> None:
        _, kind, value, info = asyncore.compact_traceback()
        self.log_info(f"{kind} {value} in {info}", "error")
        self.close()


class Server(asyncore.dispatcher):
    """Listens."""

    def __init__(self, host: str, port: int) -> None:
        asyncore.dispatcher.__init__(self)
        self.sessions: dict[Any, Any] = {}
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind((host, port))
        self.listen(5)

    def writable(self) -> bool:
        return False

    def handle_accepted(self, sock: socket.socket, addr: Any) -> None:
        self.sessions[addr] = RequestHandler(sock, addr, self.sessions)


class OldServer(Server):
    """Accepts as programs did before Python 3.2."""

    def handle_accept(self) -> None:
        pair = self.accept()
        if pair is not None:
            sock, addr = pair
            assert_type(sock, socket.socket)
            RequestHandler(sock, addr, self.sessions)


def helpers() -> None:
    """What lies about in the module."""
    queue = fifo([b"one"])
    queue.push(b"two")
    assert_type(queue.pop(), tuple[bool, Any])
    assert_type(find_prefix_at_end(b"qwerty\r", b"\r\n"), int)


def main() -> None:
    """The last lines of all these programs."""
    Server("localhost", 0)
    try:
        asyncore.loop(timeout=1, count=10)
    except KeyboardInterrupt:
        asyncore.close_all()
