"""What the handlers of the in-memory workloads do with messages, the same for every peer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.testing import StringTransport


class Counting:
    """Counts bytes and messages: what a handler does while it is timed."""

    size = 0
    count = 0

    def collect_incoming_data(self, data: bytes) -> None:
        """Count the bytes of a piece."""
        self.size += len(data)

    def found_terminator(self) -> None:
        """Count a message."""
        self.count += 1

    def connect(self) -> None:
        """Be ready for input."""

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Take the chunks as if they had come from a socket, one after another.

        This is what is timed.
        """
        raise NotImplementedError

    def disconnect(self) -> None:
        """There is no more input."""


class InMemory(Counting):
    """Feeds a Twisted protocol as its transport would."""

    dataReceived: Any
    makeConnection: Any

    def connect(self) -> None:
        """Connect to an in-memory transport."""
        self.makeConnection(StringTransport())

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Take the chunks."""
        receive = self.dataReceived
        for chunk in chunks:
            receive(chunk)


_END = b"\0the end of a message\0"


class Hashing:
    """Put before a counting handler: hashes the messages that it counts.

    It is told by the counts what is part of a message (the header of a frame is not), so what is
    verified is the handler that will be timed.
    """

    def __init__(self, *args: Any) -> None:
        self._digest = hashlib.blake2b()
        super().__init__(*args)

    def collect_incoming_data(self, data: bytes) -> None:
        """Hash a piece, if it counts."""
        self._compare("collect_incoming_data", data)

    def found_terminator(self) -> None:
        """Hash the end of a message, if it counts."""
        self._compare("found_terminator")

    def lineReceived(self, line: bytes) -> None:
        """Hash a whole message: what Twisted's line and frame receivers call."""
        self._compare("lineReceived", line)

    def stringReceived(self, string: bytes) -> None:
        """Hash a whole message."""
        self._compare("stringReceived", string)

    def _compare(self, name: str, *data: bytes) -> None:
        counted: Any = super()
        me: Any = self
        size, messages = me.size, me.count
        getattr(counted, name)(*data)
        if me.size != size:
            self._digest.update(data[0])
        if me.count != messages:
            self._digest.update(_END)

    def hexdigest(self) -> str:
        """Of all messages so far."""
        return self._digest.hexdigest()


def expected_digest(messages: Iterable[bytes]) -> str:
    """What a hashing handler has after these messages."""
    digest = hashlib.blake2b()
    for message in messages:
        digest.update(message)
        digest.update(_END)
    return digest.hexdigest()
