"""``txasynchat.AsyncChat`` whose messages are read by a coroutine."""

from __future__ import annotations

from benchmarks.handlers import InMemory
from benchmarks.peers import twisted_server
from benchmarks.serve import Ready
from txasynchat import AsyncChat


class _Fed(InMemory, AsyncChat):
    def lineReceived(self, line: bytes) -> None:
        self.size += len(line)
        self.count += 1


class Lines(_Fed):
    """Messages that end at a delimiter."""

    def __init__(self, delimiter: bytes, longest: int) -> None:
        self.delimiter = delimiter
        if longest > AsyncChat.ac_in_buffer_size:
            self.max_message_length = None

    async def conversation(self) -> None:
        while True:
            self.lineReceived(await self.read_until(self.delimiter))


class Frames(_Fed):
    """Messages that follow their length."""

    def __init__(self, longest: int) -> None:
        pass

    async def conversation(self) -> None:
        while True:
            length = int.from_bytes(await self.read_exactly(4), "big")
            self.lineReceived(await self.read_exactly(length))


class Echo(AsyncChat):
    """Answers each line with the line."""

    async def conversation(self) -> None:
        while True:
            self.push(await self.read_until(b"\r\n") + b"\r\n")


class Once(AsyncChat):
    """Answers one line, then closes."""

    async def conversation(self) -> None:
        self.push(await self.read_until(b"\r\n") + b"\r\n")


def serve(service: str, ready: Ready, variant: str) -> None:
    """On Twisted's reactor."""
    twisted_server.serve({"echo": Echo, "once": Once}, service, ready)
