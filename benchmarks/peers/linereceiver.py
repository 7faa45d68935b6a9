"""``twisted.protocols.basic.LineReceiver``."""

from __future__ import annotations

from typing import Any

from twisted.protocols.basic import LineReceiver

from benchmarks.handlers import InMemory
from benchmarks.peers import twisted_server
from benchmarks.serve import Ready


class Lines(InMemory, LineReceiver):
    """Messages that end at a delimiter."""

    def __init__(self, delimiter: bytes, longest: int) -> None:
        self.delimiter = delimiter
        self.MAX_LENGTH = max(longest, LineReceiver.MAX_LENGTH)

    def lineReceived(self, line: bytes) -> None:
        self.size += len(line)
        self.count += 1


class Echo(LineReceiver):
    """Answers each line with the line."""

    sendLine: Any

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line)


class Once(LineReceiver):
    """Answers one line, then closes."""

    sendLine: Any
    transport: Any

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line)
        self.transport.loseConnection()


def serve(service: str, ready: Ready, variant: str) -> None:
    """On Twisted's reactor."""
    twisted_server.serve({"echo": Echo, "once": Once}, service, ready)
