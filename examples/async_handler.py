"""Commands that take their time, answered strictly in order.

found_terminator() is a coroutine. Until it is done no further command is
delivered and the peer is not read from, however many commands it sent at once;
other connections go on. The commands are "sleep SECONDS", "hash TEXT" (in a
thread), "count NUMBER" (of any size) and "quit". Start it, then talk to it from
another shell:

    python examples/async_handler.py
    printf 'sleep 0.5\\nhash secret\\ncount 3\\nquit\\n' | nc 127.0.0.1 8010
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from hashlib import pbkdf2_hmac
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from txasynchat import AsyncChat, AsyncChatFactory


class Worker(AsyncChat):
    """Does one command after another."""

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock

    def handle_connect(self) -> None:
        self.set_terminator((b"\r\n", b"\n"))

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    async def found_terminator(self) -> None:
        command, _, argument = self._get_data().partition(b" ")
        try:
            match command:
                case b"sleep":
                    await self.sleep(float(argument))
                case b"hash":
                    await self.hash(argument)
                case b"count":
                    await self.count(int(argument))
                case b"quit":
                    self.close_when_done()
                case _:
                    raise ValueError("expected: sleep SECONDS, hash TEXT, count NUMBER or quit")
        except ValueError as error:
            self.push(f"error: {error}\n".encode())

    async def sleep(self, seconds: float) -> None:
        if not 0 <= seconds <= 3600:
            raise ValueError("expected: 0 to 3600 seconds")
        await deferLater(self.clock, seconds)
        self.push(b"slept %g\n" % seconds)

    async def hash(self, text: bytes) -> None:
        # Some tenths of a second: too long for the reactor's thread.
        digest = await deferToThread(pbkdf2_hmac, "sha256", text, b"a pinch of salt", 100_000)
        self.push(b"hash %s\n" % digest.hex().encode())

    async def count(self, last: int) -> None:
        for number in range(1, last + 1):
            self.push(b"%d\n" % number)
            if number % 1000 == 0:
                # Go on when the peer has read: costs no memory, however many
                # there are, and lets other connections have their turn.
                await self.drained()
        self.push(b"counted\n")


async def main(reactor: Any, listen: str) -> None:
    endpoint: Any = serverFromString(reactor, listen)
    port = await endpoint.listen(AsyncChatFactory(Worker, reactor))
    at = port.getHost()
    print("listening on", f"{at.host}:{at.port}" if hasattr(at, "port") else at, flush=True)
    await Deferred()  # until SIGINT or SIGTERM stops the reactor


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--listen", metavar="ENDPOINT", default="tcp:8010:interface=127.0.0.1")
    react(main, [parser.parse_args().listen])
