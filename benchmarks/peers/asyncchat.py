"""``txasynchat.AsyncChat``."""

from __future__ import annotations

from benchmarks import traffic
from benchmarks.handlers import InMemory
from benchmarks.peers import twisted_server
from benchmarks.serve import Ready
from txasynchat import AsyncChat


class Lines(InMemory, AsyncChat):
    """Messages that end at a delimiter."""

    def __init__(self, delimiter: bytes, longest: int) -> None:
        self.delimiter = delimiter
        if longest > AsyncChat.ac_in_buffer_size:
            self.max_message_length = None

    def handle_connect(self) -> None:
        self.set_terminator(self.delimiter)


class Frames(InMemory, AsyncChat):
    """Messages that follow their length."""

    header = b""
    in_body = False

    def __init__(self, longest: int) -> None:
        pass

    def handle_connect(self) -> None:
        self.set_terminator(4)

    def collect_incoming_data(self, data: bytes) -> None:
        if self.in_body:
            self.size += len(data)
        else:
            self.header += data

    def found_terminator(self) -> None:
        if self.in_body:
            self.count += 1
            self.in_body = False
            self.set_terminator(4)
        else:
            self.in_body = True
            self.set_terminator(int.from_bytes(self.header, "big"))
            self.header = b""


class Chat(AsyncChat):
    """What the services have in common: requests are lines."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\r\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)


class Echo(Chat):
    """Answers each line with the line."""

    def found_terminator(self) -> None:
        self.push(self._get_data() + b"\r\n")


class Once(Chat):
    """Answers one line, then closes."""

    def found_terminator(self) -> None:
        self.push(self._get_data() + b"\r\n")
        self.close_when_done()


class Producer(Chat):
    """Sends so many bytes from a producer."""

    def found_terminator(self) -> None:
        self.push_with_producer(traffic.Pieces(int(self._get_data())))


class Push(Chat):
    """Sends so many bytes with one push."""

    def found_terminator(self) -> None:
        self.push(traffic.whole(int(self._get_data())))


def serve(service: str, ready: Ready, variant: str) -> None:
    """On Twisted's reactor."""
    protocols = {"echo": Echo, "once": Once, "producer": Producer, "push": Push}
    twisted_server.serve(protocols, service, ready)
