"""Many clients in one process: run as a program, it does what the lines of its input say.

``many_clients.py PORT``, then ``connect N``, ``ask TIMES`` or ``leave``. For each line it
answers with one: how many connections are open, and how many right answers came so far.
"""

from __future__ import annotations

import asyncio
import json
import sys

#: So many connect at the same time: fewer than may wait to be accepted, or some would
#: have to wait a second.
AT_ONCE = 40


class Client(asyncio.Protocol):
    """Asks, and counts the answers that are right."""

    answers = 0
    open = 0

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = 0
        self.data = b""
        self.answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        Client.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        Client.open -= 1
        self.answered.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data.endswith(b"\n"):
            Client.answers += self.data == b"CLIENT %d, LINE %d\n" % (self.number, self.asked)
            self.data = b""
            self.answered.set()

    async def ask(self) -> None:
        self.asked += 1
        self.answered.clear()
        self.transport.write(b"client %d, line %d\n" % (self.number, self.asked))
        await self.answered.wait()


class Clients:
    """All of them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.all: list[Client] = []

    async def connect(self, count: int) -> None:
        """Connect so many more, and ask each once."""
        for first in range(0, count, AT_ONCE):
            some = range(first, min(first + AT_ONCE, count))
            clients = await asyncio.gather(*map(self._connect, some))
            await asyncio.gather(*(client.ask() for client in clients))  # all are accepted then
            self.all += clients

    async def _connect(self, number: int) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: Client(number), "127.0.0.1", self.port)
        return client

    async def ask(self, times: int) -> None:
        """All ask at the same time, so many times."""
        for _ in range(times):
            await asyncio.gather(*(client.ask() for client in self.all))

    async def leave(self) -> None:
        for client in self.all:
            client.transport.close()


async def main(port: int) -> None:
    clients = Clients(port)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, *arguments = line.split()
        await getattr(clients, what)(*map(int, arguments))
        print(json.dumps({"open": Client.open, "answers": Client.answers}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
