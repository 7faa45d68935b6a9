"""A transport in memory: the wire between a handler and a peer that a test plays.

It behaves as Twisted's TCP transports do, as far as a handler can see: it says pause when
it is full and resume when it is empty, hands nothing over while it is paused, and ends a
connection never in the middle of a call but in the clock's next turn.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

__all__ = ("Wire",)

#: What a transport takes before it says pause, in bytes, as Twisted's do.
_CAPACITY = 65536

_PEER = IPv4Address("TCP", "192.0.2.1", 49152)
_HOST = IPv4Address("TCP", "192.0.2.2", 2525)


def _nothing(*args: Any) -> None:
    pass


@implementer(ITCPTransport, IConsumer, IPushProducer)
class Wire:
    """The transport of one connection, and its far end.

    Encrypts nothing: after ``startTLS()`` it says that it is secure and completes a
    handshake, no more.

    :param clock: ``IReactorTime``, on which connections end.
    :param peer: the peer's address, an ``IAddress``; some address if None.
    :param host: our own.
    :ivar reads: whether the peer takes at once what is sent.
    :ivar ends_too: whether the peer finishes sending when the handler does.
    :ivar connected: whether the handler was not told of the end yet.
    :ivar disconnecting: whether the handler has closed it.
    :ivar is_mute: whether the handler has ended its half.
    :ivar was_cut: whether the handler has cut the connection.
    :ivar is_secure: whether TLS was started.
    :ivar is_paused: whether the handler wants no input now.
    :ivar took: called with the bytes that the peer has taken.
    :ivar told: called with each other event, in words: ``handler closes``,
        ``handler cuts the connection``, ``handler finishes sending``, ``TLS begins``.
    :ivar overrun: how many bytes were written after it had said pause.
    :ivar late: what was written after the end, or after the handler had closed.

    >>> from twisted.internet.task import Clock
    >>> from txasynchat.echo import EchoHandler
    >>> clock = Clock()
    >>> wire, handler = Wire(clock), EchoHandler()
    >>> wire.took, handler.callLater = print, clock.callLater
    >>> wire.connect(handler)
    >>> wire.receive(b"ECHO 5\\nhello")
    b'hello'
    """

    reads: bool = True
    ends_too: bool = True
    connected: bool = False
    disconnecting: bool = False
    is_secure: bool = False
    is_paused: bool = False
    is_mute: bool = False
    was_cut: bool = False

    def __init__(self, clock: Any, peer: Any = None, host: Any = None) -> None:
        self.reactor = clock
        self.protocol: Any = None  # what is next to it: the handler's, or TLS
        self.took: Callable[[bytes], object] = _nothing
        self.told: Callable[[str], object] = _nothing
        self.overrun: int = 0
        self.late: bytes = b""
        self._peer = _PEER if peer is None else peer
        self._host = _HOST if host is None else host
        self._handler: Any = None
        self._producer: Any = None
        self._streams = True
        self._is_full = False  # what the producer was told last
        self._capacity = _CAPACITY
        self._waiting = bytearray()
        self._to_come: deque[bytes | None] = deque()  # None is the end
        self._ending: Any = None
        self._delivering = False
        self._deliver_call: Any = None
        self._socket: socket.socket | None = None

    # -- The far end ----------------------------------------------------------------

    def connect(self, protocol: Any) -> None:
        """Make the connection of `protocol`."""
        self.protocol = self._handler = protocol
        self.connected = True
        protocol.makeConnection(self)

    def receive(self, data: bytes) -> None:
        """The peer sends `data`; it is received once the handler does not pause its input."""
        self._comes(bytes(data))

    def finish(self) -> None:
        """The peer sends no more, but reads on."""
        self._comes(None)

    def disconnect(self, reason: BaseException | None = None) -> None:
        """The connection is gone, at once and whatever was under way.

        :param reason: why, ``ConnectionLost`` if None.
        """
        if not self.connected:
            return
        self.connected = False
        for call in (self._ending, self._deliver_call):
            if call is not None and call.active():
                call.cancel()
        self._to_come.clear()
        self._waiting.clear()
        if self._socket is not None:
            self._socket.close()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self._handler.connectionLost(Failure(ConnectionLost() if reason is None else reason))

    @property
    def waiting(self) -> int:
        """How many bytes were written that the peer has not taken."""
        return len(self._waiting)

    @property
    def unread(self) -> int:
        """How many bytes the peer has sent that the handler does not take."""
        return sum(len(each or b"") for each in self._to_come)

    def clog(self, takes: int = _CAPACITY) -> None:
        """The peer reads no more.

        :param takes: after how many bytes the transport says pause.
        """
        self.reads = False
        self._capacity = takes
        self._look_if_full()

    def take(self, size: int | None = None) -> int:
        """The peer reads.

        :param size: at most so many bytes; None for all, and whatever comes from now on.
        :return: how many it got.
        """
        if size is None:
            self.reads = True
            self._capacity = _CAPACITY
            size = len(self._waiting)
        took = 0
        while True:
            part = bytes(self._waiting[: size - took])
            del self._waiting[: len(part)]
            took += len(part)
            if part:
                self.took(part)
            if self._waiting or not self.connected:
                return took
            before = self._is_full
            self._is_empty()
            if not before or took >= size or not self._waiting:
                return took

    # -- What comes -------------------------------------------------------------------

    def _comes(self, what: bytes | None) -> None:
        if self.connected and None not in self._to_come:
            self._to_come.append(what)
            self._deliver()

    def _deliver(self) -> None:
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._to_come and self.connected and not self.is_paused:
                what = self._to_come.popleft()
                if what is None:
                    self._ended()
                elif what:
                    self._handler.dataReceived(what)
        finally:
            self._delivering = False

    def _ended(self) -> None:
        if IHalfCloseableProtocol.providedBy(self._handler) and not self.is_secure:
            self._handler.readConnectionLost()
            if self.is_mute:
                self._end(ConnectionDone())
        else:
            self.disconnect(ConnectionDone())

    def pauseProducing(self) -> None:
        """Hand nothing over. ``IPushProducer``."""
        self.is_paused = True

    def resumeProducing(self) -> None:
        """Go on. ``IPushProducer``."""
        self.is_paused = False
        if self._to_come and not (self._deliver_call is not None and self._deliver_call.active()):
            # A transport reads again in the reactor's next turn.
            self._deliver_call = self.reactor.callLater(0, self._deliver)

    def stopProducing(self) -> None:
        """Close. ``IPushProducer``."""
        self.loseConnection()

    # -- What the handler sends --------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send. ``ITransport``."""
        given: Any = data
        if isinstance(given, str):
            raise TypeError("a transport takes bytes, not str")
        data = bytes(given)
        if not self.connected or self.is_mute or (self.disconnecting and self._is_decided()):
            self.late += data
        if not self.connected or self.is_mute or not data:
            return
        if self._is_full and self._producer is not None:
            self.overrun += len(data)
        self._waiting += data
        if self.reads:
            data = bytes(self._waiting)
            self._waiting.clear()
            self.took(data)
        else:
            self._look_if_full()

    def _is_decided(self) -> bool:
        # Not what was pushed before in a handler that closes its transport by itself.
        return getattr(self._handler, "close_reason", None) is not None

    def writeSequence(self, data: Any) -> None:
        """Send what is in pieces. ``ITransport``."""
        self.write(b"".join(data))

    def _look_if_full(self) -> None:
        tells = self._producer is not None and self._streams and not (self.reads or self._is_full)
        if tells and len(self._waiting) >= self._capacity:
            self._is_full = True
            self._producer.pauseProducing()

    def _is_empty(self) -> None:
        if self._producer is not None and self._is_full:
            self._is_full = False
            self._producer.resumeProducing()
        elif self.disconnecting or self.is_mute:
            self._close()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Who is told when there is room. ``IConsumer``."""
        if self._producer is not None:
            raise RuntimeError(
                f"{producer!r} can't be registered with the transport: {self._producer!r} is"
            )
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._streams, self._is_full = producer, streaming, False
        if streaming:
            self._look_if_full()
        else:
            self._pull(producer)

    def _pull(self, producer: Any) -> None:
        if self._producer is producer and self.connected:
            if not self._waiting:
                producer.resumeProducing()
            self.reactor.callLater(0, self._pull, producer)

    def unregisterProducer(self) -> None:
        """Nobody is told any more. ``IConsumer``."""
        self._producer = None
        self._is_full = False
        if (self.disconnecting or self.is_mute) and not self._waiting:
            self._close()

    @property
    def producer(self) -> Any:
        """Who is registered."""
        return self._producer

    # -- The end --------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Close once all that was written is taken. ``ITransport``."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if not self._waiting:
                self._close()

    def loseWriteConnection(self) -> None:
        """End our half once all that was written is taken. ``ITCPTransport``."""
        if self.connected and not (self.disconnecting or self.is_mute):
            self.is_mute = True
            if not self._waiting:
                self._close()

    def abortConnection(self) -> None:
        """Cut the connection. ``ITCPTransport``."""
        if self.connected:
            self.disconnecting = self.was_cut = True
            self._waiting.clear()
            self._end(ConnectionAborted(), "handler cuts the connection")

    def _close(self) -> None:
        # All was taken.
        if self._producer is not None and (self._is_full or not self._streams):
            return  # a transport that closes waits for its producer
        if self.disconnecting:
            self._end(ConnectionDone(), "handler closes")
        elif self._ending is None:
            self._ending = self.reactor.callLater(0, self._half_closed)

    def _half_closed(self) -> None:
        self._ending = None
        self.told("handler finishes sending")
        if IHalfCloseableProtocol.providedBy(self._handler):
            self._handler.writeConnectionLost()
        if self.ends_too:
            self.is_paused = False  # what it has sent goes first, and a closing handler drops it
            self.finish()

    def _end(self, reason: Exception, words: str = "") -> None:
        if self._ending is not None and self._ending.active():
            self._ending.cancel()
        self._ending = self.reactor.callLater(0, self._lose, reason, words)

    def _lose(self, reason: Exception, words: str) -> None:
        if words:
            self.told(words)
        self.disconnect(reason)

    # -- Security --------------------------------------------------------------------------

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Say that it is secure from now on. ``ITLSTransport``."""
        alsoProvides(self, ISSLTransport)
        self.is_secure = True
        self.told("TLS begins")
        # Input that is carried over to TLS is no business of the handler's.
        self.protocol = Protocol()
        if self._to_come:
            self._to_come.clear()
            self._end(ConnectionLost("what came was no handshake"), "TLS fails")
        else:
            self.reactor.callLater(0, self._shake_hands)

    def _shake_hands(self) -> None:
        if self.connected and IHandshakeListener.providedBy(self._handler):
            self._handler.handshakeCompleted()

    def getPeerCertificate(self) -> None:
        """None: there is none. ``ISSLTransport``."""

    # -- What else a TCP transport has -----------------------------------------------------

    def getPeer(self) -> Any:
        """The peer's address. ``ITransport``."""
        return self._peer

    def getHost(self) -> Any:
        """Our own address. ``ITransport``."""
        return self._host

    def getHandle(self) -> socket.socket:
        """A socket to set options on; nothing goes through it."""
        if self._socket is None:
            self._socket = socket.socket()
        return self._socket

    def getTcpNoDelay(self) -> bool:
        """Whether it was set. ``ITCPTransport``."""
        return bool(self.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Set it on :meth:`getHandle`. ``ITCPTransport``."""
        self.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Whether it was set. ``ITCPTransport``."""
        return bool(self.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Set it on :meth:`getHandle`. ``ITCPTransport``."""
        self.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)
