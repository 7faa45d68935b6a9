"""A Twisted ``Protocol`` written by hand, with ``bytes.split``: the limit on Twisted."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from benchmarks import traffic
from benchmarks.handlers import InMemory
from benchmarks.peers import twisted_server
from benchmarks.serve import Ready


class Lines(InMemory, Protocol):
    """Messages that end at a delimiter."""

    rest = b""

    def __init__(self, delimiter: bytes, longest: int) -> None:
        self.delimiter = delimiter

    def dataReceived(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(self.delimiter)
        for line in lines:
            self.lineReceived(line)

    def lineReceived(self, line: bytes) -> None:
        self.size += len(line)
        self.count += 1


class ByHand(Protocol):
    """What the services have in common: requests are lines."""

    transport: Any
    rest = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\r\n")
        for line in lines:
            self.lineReceived(line)

    def lineReceived(self, line: bytes) -> None:
        """A request has come."""
        raise NotImplementedError


class Echo(ByHand):
    """Answers each line with the line."""

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")


class Once(ByHand):
    """Answers one line, then closes."""

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")
        self.transport.loseConnection()


@implementer(IPushProducer)
class Pieces:
    """A push producer of so many bytes."""

    def __init__(self, size: int, transport: Any) -> None:
        self.pieces = traffic.pieces(size)
        self.transport = transport
        self.paused = False

    def resumeProducing(self) -> None:
        self.paused = False
        for piece in self.pieces:
            self.transport.write(piece)
            if self.paused:
                return
        self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True


class Producer(ByHand):
    """Sends so many bytes from a producer."""

    def lineReceived(self, line: bytes) -> None:
        producer = Pieces(int(line), self.transport)
        self.transport.registerProducer(producer, True)
        producer.resumeProducing()


class Push(ByHand):
    """Sends so many bytes with one write."""

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(traffic.whole(int(line)))


def serve(service: str, ready: Ready, variant: str) -> None:
    """On Twisted's reactor."""
    protocols = {"echo": Echo, "once": Once, "producer": Producer, "push": Push}
    twisted_server.serve(protocols, service, ready)
