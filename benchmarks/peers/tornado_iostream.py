"""tornado's ``IOStream``, on asyncio's loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_sockets
from tornado.tcpserver import TCPServer

from benchmarks import traffic
from benchmarks.serve import Ready


async def echo(stream: IOStream) -> None:
    """Answer each line with the line."""
    while True:
        await stream.write(await stream.read_until(b"\r\n"))


async def once(stream: IOStream) -> None:
    """Answer one line, then close."""
    await stream.write(await stream.read_until(b"\r\n"))
    stream.close()


async def produce(stream: IOStream) -> None:
    """Send so many bytes in pieces, for as long as there is room."""
    while True:
        for piece in traffic.pieces(int(await stream.read_until(b"\r\n"))):
            await stream.write(piece)


async def push(stream: IOStream) -> None:
    """Send so many bytes with one write."""
    while True:
        await stream.write(traffic.whole(int(await stream.read_until(b"\r\n"))))


def serve(service: str, ready: Ready, variant: str) -> None:
    """On asyncio's loop, as tornado does by default."""
    handler = {"echo": echo, "once": once, "producer": produce, "push": push}[service]

    class Server(TCPServer):
        async def handle_stream(self, stream: IOStream, address: object) -> None:
            with suppress(StreamClosedError):
                await handler(stream)

    async def main() -> None:
        sockets = bind_sockets(0, "127.0.0.1", backlog=4096)
        Server().add_sockets(sockets)
        ready(sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(main())
