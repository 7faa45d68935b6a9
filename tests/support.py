"""What several test modules share: handlers that record, transports that can be filled."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import trustme
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txasynchat import AsyncChat
from txasynchat.core.terminators import Terminator

Event = tuple[Any, ...]


def bare_environment() -> dict[str, str]:
    """This process's environment, without what changes how Python or these tests run."""
    ours = ("PYTHON", "COV_", "TXASYNCHAT")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


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

    def __init__(self, terminator: Terminator = b"\n", **does: Any) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater  # type: ignore[method-assign, assignment]
        self.calls = Calls()
        self.does = does
        self.set_terminator(terminator)

    @property
    def events(self) -> list[Event]:
        return self.calls.events

    @property
    def messages(self) -> list[bytes]:  # type: ignore[override]
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

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def value(self) -> bytes:
        """What was written."""
        written: bytes = super().value()  # type: ignore[no-untyped-call]
        return written

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
        super().abortConnection()  # type: ignore[no-untyped-call]

    def lose(self, reason: Exception | None = None) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    @property
    def is_reading(self) -> bool:
        return self.producerState == "producing"


def connected(terminator: Terminator = b"\n", **does: Any) -> tuple[Chat, Wire]:
    """A recording chat and the wire it is connected to."""
    chat = Chat(terminator, **does)
    return chat, Wire().connect(chat)


def cuts(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """`data` cut at `places`, without empty pieces."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    for start, end in pairwise(edges):
        yield data[start:end]


def ends_of(
    terminator: Terminator, data: bytes, longest: int | None = None
) -> tuple[int, int] | None:
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


# -- Over real transports ------------------------------------------------------------


async def until(condition: Callable[[], object]) -> None:
    """Wait, turn by turn of the reactor, until `condition` holds; the test's deadline ends it."""
    from twisted.internet import reactor

    while not condition():
        await deferLater(reactor, 0.002)


async def turns(number: int) -> None:
    """Let the reactor take some turns, for what should not happen to have its chance."""
    from twisted.internet import reactor

    for _ in range(number):
        await deferLater(reactor, 0)


class Link:
    """A chat, the peer that it talks to, and what is between them."""

    def __init__(self, chat: AsyncChat) -> None:
        self.chat = chat

    async def open(self) -> None:
        """Connect the two."""
        raise NotImplementedError

    @property
    def received(self) -> bytes:
        """What the peer has got."""
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        """Whether the peer saw the end of the connection."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """The peer sends."""
        raise NotImplementedError

    def pause(self) -> None:
        """The peer stops reading."""
        raise NotImplementedError

    def resume(self) -> None:
        """The peer reads again."""
        raise NotImplementedError

    def leave(self) -> None:
        """The peer goes, without a farewell."""
        raise NotImplementedError

    def end(self) -> Deferred[Any]:
        """Take everything down."""
        raise NotImplementedError


class MemoryLink(Link):
    """An in-memory transport that takes 64 KiB while its peer does not read."""

    def __init__(self, chat: AsyncChat) -> None:
        super().__init__(chat)
        self.wire = Wire()
        self._gone = False

    async def open(self) -> None:
        self.wire.connect(self.chat)
        self.wire.loseConnection = self._end_later  # type: ignore[method-assign]
        self.wire.abortConnection = self._end_later  # type: ignore[method-assign]
        self.resume()

    def _end_later(self) -> None:
        from twisted.internet import reactor

        self._gone = True
        reactor.callLater(0, self.wire.lose)

    @property
    def received(self) -> bytes:
        return self.wire.value()

    @property
    def ended(self) -> bool:
        return self._gone

    def send(self, data: bytes) -> None:
        self.chat.dataReceived(data)

    def pause(self) -> None:
        room = [65536]

        def write(data: bytes) -> None:
            self.wire.io.write(data)
            room[0] -= len(data)
            if room[0] <= 0:
                self.wire.fill()

        self.wire.write = write  # type: ignore[method-assign]

    def resume(self) -> None:
        self.wire.write = self.wire.io.write  # type: ignore[method-assign]
        if self.wire.producer is not None:
            self.wire.empty()

    def leave(self) -> None:
        self._end_later()

    def end(self) -> Deferred[Any]:
        if not self._gone:
            self._end_later()
        return self.chat.closed()


class Peer(Protocol):
    """The other side of a socket: it keeps what it gets."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.ended: Deferred[None] = Deferred()
        self.is_ended = False

    def dataReceived(self, data: bytes) -> None:
        self.data.append(data)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.reason = reason
        self.is_ended = True
        self.ended.callback(None)


class SocketLink(Link):
    """A server on a socket of the kind asked for, and one client."""

    def __init__(self, chat: AsyncChat, kind: str, path: str, authority: trustme.CA) -> None:
        super().__init__(chat)
        self.kind = kind
        self.path = path
        self.authority = authority
        self.peer = Peer()
        self.port: Any = None

    async def open(self) -> None:
        factory = Factory.forProtocol(lambda: self.chat)
        factory.noisy = False
        self.port = await self._server().listen(factory)
        await connectProtocol(self._client(), self.peer)
        await until(lambda: self.chat.is_open)

    def _server(self) -> Any:
        from twisted.internet import reactor, ssl

        if self.kind == "unix":
            return UNIXServerEndpoint(reactor, self.path)
        if self.kind == "tls":
            made = self.authority.issue_cert("127.0.0.1")
            pem = made.private_key_and_cert_chain_pem.bytes()
            options = ssl.PrivateCertificate.loadPEM(pem).options()
            return SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1")
        return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

    def _client(self) -> Any:
        from twisted.internet import reactor, ssl

        if self.kind == "unix":
            return UNIXClientEndpoint(reactor, self.path)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        if self.kind == "tls":
            root = ssl.Certificate.loadPEM(self.authority.cert_pem.bytes())
            return wrapClientTLS(ssl.optionsForClientTLS("127.0.0.1", root), endpoint)
        return endpoint

    @property
    def received(self) -> bytes:
        return b"".join(self.peer.data)

    @property
    def ended(self) -> bool:
        return self.peer.is_ended

    def _transport(self) -> Any:
        return self.peer.transport

    def send(self, data: bytes) -> None:
        self._transport().write(data)

    def pause(self) -> None:
        self._transport().pauseProducing()

    def resume(self) -> None:
        self._transport().resumeProducing()

    def leave(self) -> None:
        self._transport().abortConnection()

    def end(self) -> Deferred[Any]:
        if self.port is None:
            return succeed(None)
        if not self.peer.is_ended:
            self.leave()
        ends: Deferred[Any] = self.peer.ended
        ends.addCallback(lambda _: self.chat.closed())
        return ends.addCallback(lambda _: self.port.stopListening())
