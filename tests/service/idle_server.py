"""A server whose memory a test compares with that of others: run as a program.

``idle_server.py KIND`` prints its port, and for each line of input the bytes of memory that
Python's objects take, which it traces if ``KIND`` ends with ``+trace``.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver

from txasynchat import AsyncChat, LegacyFactory, asynchat
from txasynchat.connections import Connections

reactor: Any = installed


class Bare(Protocol):
    """The least that answers a line in capitals."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data.upper())  # type: ignore[union-attr]


class Upper(AsyncChat):
    """The same, with all that an AsyncChat has."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.push(self._get_data().upper() + b"\n")


class OldUpper(asynchat.async_chat):
    """The same, as it was written for asynchat."""

    def __init__(self, sock: Any, addr: Any) -> None:
        super().__init__(sock)
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.push(self._get_data().upper() + b"\n")


class Memory(LineOnlyReceiver):
    """Says how much is in use."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
        self.sendLine(b"%d" % traced)  # type: ignore[no-untyped-call]


#: With "served", as a service has it: with a register, and limits.
KINDS: dict[str, Any] = {
    "Protocol": lambda: Factory.forProtocol(Bare),
    "AsyncChat": lambda: Factory.forProtocol(Upper),
    "AsyncChat served": lambda: Connections(Factory.forProtocol(Upper)),
    "async_chat": lambda: LegacyFactory(OldUpper),
    "async_chat served": lambda: Connections(LegacyFactory(OldUpper)),
}


def main(kind: str) -> None:
    name, plus, _ = kind.partition("+")
    if plus:
        tracemalloc.start()
    factory = KINDS[name]()
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=100)
    StandardIO(Memory())
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
