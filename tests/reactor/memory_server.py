"""A server whose memory a test watches from outside: run as a program, it prints its port.

``memory_server.py ENDPOINT`` serves, by command line:

* ``FILL pieces``: that many pieces of 64 KiB from a ``more()`` producer, each
  with its number in front, then the close;
* anything else: an answer of 1,000 bytes.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react

from txasynchat import AsyncChat

PIECE = 65536
ANSWER = b"%06d" + b"." * 993 + b"\n"


def piece(number: int) -> bytes:
    """The piece of that number."""
    return (b"%08d" % number) * (PIECE // 8)


class Pieces:
    """Makes its pieces when it is asked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0

    def more(self) -> bytes:
        """The next piece."""
        if self.made == self.count:
            return b""
        self.made += 1
        return piece(self.made)


class Server(AsyncChat):
    """Fills or answers."""

    close_timeout = 60

    def handle_connect(self) -> None:
        self.answered = 0
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        words = self._get_data().split()
        if words[0] == b"FILL":
            self.push_with_producer(Pieces(int(words[1])))
            self.close_when_done()
        else:
            self.answered += 1
            self.push(ANSWER % self.answered)


async def serve(reactor: Any) -> None:
    """Listen, say where, and stay."""
    endpoint = serverFromString(reactor, sys.argv[1])
    port = await endpoint.listen(Factory.forProtocol(Server))
    print(getattr(port.getHost(), "port", 0), flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor)))
