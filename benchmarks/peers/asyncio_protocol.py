"""asyncio's transports and protocols: a ``Protocol`` written by hand, with ``bytes.split``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from benchmarks import traffic
from benchmarks.peers import asyncio_server
from benchmarks.serve import Ready


class ByHand(asyncio.Protocol):
    """What the services have in common: requests are lines."""

    transport: Any
    rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\r\n")
        for line in lines:
            self.line_received(line)

    def line_received(self, line: bytes) -> None:
        """A request has come."""
        raise NotImplementedError


class Echo(ByHand):
    """Answers each line with the line."""

    def line_received(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")


class Once(ByHand):
    """Answers one line, then closes."""

    def line_received(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")
        self.transport.close()


class Producer(ByHand):
    """Sends so many bytes in pieces, for as long as there is room."""

    pieces: Iterator[bytes] = iter(())
    paused = False

    def line_received(self, line: bytes) -> None:
        self.pieces = traffic.pieces(int(line))
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        for piece in self.pieces:
            self.transport.write(piece)
            if self.paused:
                return


class Push(ByHand):
    """Sends so many bytes with one write."""

    def line_received(self, line: bytes) -> None:
        self.transport.write(traffic.whole(int(line)))


def serve(service: str, ready: Ready, variant: str) -> None:
    """On asyncio's loop or uvloop's."""
    protocol: Any = {"echo": Echo, "once": Once, "producer": Producer, "push": Push}[service]

    async def listen() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            protocol, "127.0.0.1", 0, backlog=asyncio_server.BACKLOG
        )

    asyncio_server.run(listen, ready, variant)
