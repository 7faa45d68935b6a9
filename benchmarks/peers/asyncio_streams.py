"""asyncio's streams: ``StreamReader`` and ``StreamWriter``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from benchmarks import traffic
from benchmarks.handlers import Counting
from benchmarks.peers import asyncio_server
from benchmarks.serve import Ready


class _Fed(Counting):
    def __init__(self, longest: int) -> None:
        self.longest = longest

    def read(self, reader: asyncio.StreamReader) -> Coroutine[Any, Any, None]:
        """Read messages until the end."""
        raise NotImplementedError

    def connect(self) -> None:
        self.loop = asyncio.new_event_loop()
        limit = max(2 * self.longest, 2**16)
        self.reader = asyncio.StreamReader(limit=limit, loop=self.loop)
        self.reading = self.read(self.reader)
        self.reading.send(None)

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Step the reading coroutine by hand, which spares it the loop's own cost per chunk."""
        reader, reading = self.reader, self.reading
        for chunk in chunks:
            reader.feed_data(chunk)
            reading.send(None)

    def disconnect(self) -> None:
        self.reader.feed_eof()
        with suppress(asyncio.IncompleteReadError):
            self.reading.send(None)
        self.loop.close()


class Lines(_Fed):
    """Messages that end at a delimiter."""

    def __init__(self, delimiter: bytes, longest: int) -> None:
        super().__init__(longest)
        self.delimiter = delimiter

    async def read(self, reader: asyncio.StreamReader) -> None:
        end = -len(self.delimiter)
        while True:
            line = await reader.readuntil(self.delimiter)
            self.lineReceived(line[:end])

    def lineReceived(self, line: bytes) -> None:
        self.size += len(line)
        self.count += 1


class Frames(_Fed):
    """Messages that follow their length."""

    async def read(self, reader: asyncio.StreamReader) -> None:
        while True:
            length = int.from_bytes(await reader.readexactly(4), "big")
            self.stringReceived(await reader.readexactly(length))

    def stringReceived(self, string: bytes) -> None:
        self.size += len(string)
        self.count += 1


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line with the line."""
    while True:
        writer.write(await reader.readuntil(b"\r\n"))
        await writer.drain()


async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one line; who calls this closes."""
    writer.write(await reader.readuntil(b"\r\n"))
    await writer.drain()


async def produce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send so many bytes in pieces, for as long as there is room."""
    while True:
        for piece in traffic.pieces(int(await reader.readuntil(b"\r\n"))):
            writer.write(piece)
            await writer.drain()


async def push(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send so many bytes with one write."""
    while True:
        writer.write(traffic.whole(int(await reader.readuntil(b"\r\n"))))
        await writer.drain()


def serve(service: str, ready: Ready, variant: str) -> None:
    """On asyncio's loop or uvloop's."""
    handler = {"echo": echo, "once": once, "producer": produce, "push": push}[service]

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await handler(reader, writer)
        writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(connected, "127.0.0.1", 0, backlog=asyncio_server.BACKLOG)

    asyncio_server.run(listen, ready, variant)
