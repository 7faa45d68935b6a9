"""Clients as they were written for asyncore, and a program that keeps the old imports' names."""

from __future__ import annotations

import socket

import txasynchat
from txasynchat import asynchat, asyncore


class HTTPClient(asyncore.dispatcher):
    """The example of the documentation of Python 3.11."""

    def __init__(self, host: str, path: str) -> None:
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.connect((host, 80))
        self.buffer = bytes(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n", "ascii")

    def handle_connect(self) -> None:
        self.log("connected")

    def handle_close(self) -> None:
        self.close()

    def handle_read(self) -> None:
        print(self.recv(8192))

    def writable(self) -> bool:
        return len(self.buffer) > 0

    def handle_write(self) -> None:
        sent = self.send(self.buffer)
        self.buffer = self.buffer[sent:]


class Sender(asyncore.dispatcher_with_send):
    """Sends by a buffer."""

    def handle_read(self) -> None:
        self.send(self.recv(100))


class LineClient(asynchat.async_chat):
    """Answers what it is asked."""

    def __init__(self, host: str, port: int) -> None:
        asynchat.async_chat.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_terminator(b"\n")
        self.connect((host, port))

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        line = self._get_data()
        self.push(line)
        self.push_with_producer(asynchat.simple_producer(line, buffer_size=512))


class Pipe(asyncore.file_dispatcher):
    """Reads the output of a command."""

    def handle_read(self) -> None:
        print(self.recv(1024))


def main() -> None:
    """Loops over a map of its own."""
    sockets: dict[int, object] = {}
    asyncore.loop(30.0, False, sockets, 1)
    txasynchat.install()
    txasynchat.uninstall()
