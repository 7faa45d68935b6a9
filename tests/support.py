"""What several test modules share: handlers that record, transports that can be filled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txasynchat import AsyncChat
from txasynchat.core.terminators import Terminator

Event = tuple[Any, ...]


class Calls:
    """A handler of a bare framer: what it is called with, adjacent pieces joined."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def collect_incoming_data(self, data: bytes) -> None:
        assert data, "collect_incoming_data() is never called with empty data"
        if self.events and self.events[-1][0] == "data":
            self.events[-1] = ("data", self.events[-1][1] + data)
        else:
            self.events.append(("data", data))

    def found_terminator(self) -> object:
        self.events.append(("found",))
        return None

    def message_too_long(self) -> None:
        self.events.append(("too long",))


class Chat(AsyncChat):
    """A chat that records its callbacks, on a clock of its own.

    ``does[name]`` is called, with the chat, whenever the callback of that name is.
    """

    def __init__(self, terminator: Terminator = b"\n", **does: Callable[..., Any]) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.calls = Calls()
        self.does = does
        self.set_terminator(terminator)

    @property
    def events(self) -> list[Event]:
        return self.calls.events

    @property
    def messages(self) -> list[bytes]:
        """The messages completed so far."""
        found: list[bytes] = []
        data = b""
        for event in self.events:
            if event[0] == "data":
                data = event[1]
            elif event[0] == "found":
                found.append(data)
                data = b""
        return found

    def _do(self, name: str) -> Any:
        return self.does[name](self) if name in self.does else None

    def handle_connect(self) -> Any:
        self.events.append(("connect",))
        return self._do("connect")

    def collect_incoming_data(self, data: bytes) -> None:
        self.calls.collect_incoming_data(data)
        self._do("collect")

    def found_terminator(self) -> Any:
        self.calls.found_terminator()
        return self._do("found")

    def handle_close(self) -> None:
        self.events.append(("close",))
        self._do("close")

    def handle_error(self) -> None:
        self.events.append(("error",))
        if "error" in self.does:
            self._do("error")
        else:
            super().handle_error()

    def handle_timeout(self) -> None:
        self.events.append(("timeout",))
        if "timeout" in self.does:
            self._do("timeout")
        else:
            super().handle_timeout()

    def handle_message_too_long(self) -> None:
        self.events.append(("too long",))
        if "too_long" in self.does:
            self._do("too_long")
        else:
            super().handle_message_too_long()


class Wire(StringTransport):
    """An in-memory transport that can be full, and that a test can end."""

    protocol: AsyncChat
    aborted = False

    def connect(self, chat: AsyncChat) -> Wire:
        self.protocol = chat
        chat.makeConnection(self)
        return self

    def fill(self) -> None:
        """Say pause, as a transport does whose peer does not read."""
        assert self.producer is not None
        self.producer.pauseProducing()

    def empty(self) -> None:
        """Say resume, as a transport does that has sent what it had."""
        assert self.producer is not None
        self.producer.resumeProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def lose(self, reason: Exception | None = None) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    @property
    def is_reading(self) -> bool:
        return self.producerState == "producing"


def connected(terminator: Terminator = b"\n", **does: Callable[..., Any]) -> tuple[Chat, Wire]:
    """A recording chat and the wire it is connected to."""
    chat = Chat(terminator, **does)
    return chat, Wire().connect(chat)


def cuts(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """`data` cut at `places`, without empty pieces."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    for start, end in zip(edges, edges[1:], strict=False):
        yield data[start:end]


def ends_of(terminator: Terminator, data: bytes, longest: int | None = None) -> tuple[int, int] | None:
    """The first place where `terminator` ends in `data`, and how long it is, by brute force."""
    for end in range(1, len(data) + 1):
        for start in range(end):
            if longest is not None and end - start > longest:
                continue
            text = data[start:end]
            if isinstance(terminator, re.Pattern):
                if terminator.fullmatch(text):
                    return end, end - start
            elif text == terminator or (isinstance(terminator, tuple) and text in terminator):
                return end, end - start
    return None
