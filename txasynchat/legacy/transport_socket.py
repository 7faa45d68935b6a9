"""Legacy handlers and servers over any Twisted transport: TLS, UNIX, PROXY protocol.

:class:`TransportSocket` looks like a socket, as far as dispatchers and handlers
look; :class:`LegacyFactory` gives one to a handler, or to a server, for each
connection of an endpoint.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from errno import EAGAIN, EBADF, ECONNRESET, EINVAL, ENOPROTOOPT, EPIPE
from inspect import signature
from os import strerror
from threading import get_ident
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    INegotiated,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface import implementer

from txasynchat.addresses import when_peer_is_known
from txasynchat.asyncore import dispatcher
from txasynchat.legacy.readiness import IN, OUT
from txasynchat.legacy.watches import SoftSocket
from txasynchat.output import abort

__all__ = ("LegacyFactory", "TransportSocket", "accepts", "builder")

#: Input that waits to be read before the transport is paused, in bytes; and the
#: most that one send() takes. The size of asynchat's own buffers.
_ENOUGH = 65536


def _error(number: int) -> OSError:
    return OSError(number, strerror(number))


@implementer(IPushProducer)
class TransportSocket(SoftSocket):
    """A socket, not blocking, over a connected Twisted transport.

    What arrives is passed to :meth:`received`, :meth:`ended` and :meth:`lost`;
    :class:`LegacyFactory` sees to that.

    :param transport: any ``ITransport``.
    :param close_timeout: how long :meth:`close` lets a peer take the rest of the
        output before it aborts the connection, in seconds.

    >>> from twisted.internet.testing import StringTransport
    >>> transport = StringTransport()
    >>> sock = TransportSocket(transport)
    >>> sock.received(b"hello")
    >>> sock.recv(100), sock.send(b"hi"), transport.value()
    (b'hello', 2, b'hi')
    >>> sock.getpeername()
    ('192.168.1.1', 54321)
    """

    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, transport: Any, close_timeout: float = 60.0) -> None:
        super().__init__()
        self._transport = transport
        self._close_timeout = close_timeout
        self._peer = _as_tuple(transport.getPeer())
        self._host = _as_tuple(transport.getHost())
        fileno = getattr(transport, "fileno", None)
        self._fd = self.number if fileno is None else fileno()
        self._input: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._at_end = False
        self._lost: Failure | None = None
        self._full = False
        self._underway = 0  # bytes that other threads have sent, on their way to this one
        # Where a chunk is handled, what is sent is gathered: for one write at its end.
        self._gathers = 0  # by this thread; 0 for none
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._deaf = False
        self._mute = False
        self._closed = False
        self._abort_later: Any = None
        transport.registerProducer(self, True)

    def __repr__(self) -> str:
        return f"<TransportSocket {self._host} from {self._peer} over {self._transport!r}>"

    @property
    def family(self) -> socket.AddressFamily:
        """The address family of the transport."""
        if isinstance(self._peer, tuple):
            return socket.AF_INET if len(self._peer) == 2 else socket.AF_INET6
        return socket.AF_UNIX

    # -- From the transport ---------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Data has come."""
        if self._deaf or self._closed:
            return
        self._input.append(data)
        self._size += len(data)
        if self._size >= _ENOUGH and not self._paused:
            self._paused = True
            self._transport.pauseProducing()
        # A handler that is served at once, by the reactor, may answer many messages:
        # one write for all. An async_chat pushes to gather() then, not by way of send().
        self._gathers = get_ident()
        channel: Any = None if self._watch is None else self._watch.channel
        pushes_here = getattr(channel, "_txa_push_to", None)
        try:
            if pushes_here is not None:
                pushes_here(self)
            self.notice()
        finally:
            self._gathers = 0
            if pushes_here is not None:
                channel._txa_gatherer = None
            if self._gathered:
                self._flush()

    def ended(self) -> None:
        """The peer will send no more."""
        self._at_end = True
        self.notice()

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._lost = reason
        self._gathers = 0
        self._at_end = True
        if self._abort_later is not None and self._abort_later.active():
            self._abort_later.cancel()
        if not self._closed and self._fd != self.number:
            # The system gives the descriptor's number to the next one.
            self._fd = self.number
            self.renumber()
        self.notice()

    def pauseProducing(self) -> None:
        """The transport is full. ``IPushProducer``."""
        self._full = True
        self._gathers = 0

    def resumeProducing(self) -> None:
        """The transport has room. ``IPushProducer``."""
        self._full = False
        self.notice()

    def stopProducing(self) -> None:
        """The transport is gone. It tells its protocol as well."""

    def readiness(self) -> int:
        """What it is ready for, flags of ``select.poll``."""
        flags = OUT if self._lost is not None or not self._is_full() else 0
        return flags | IN if self._input or self._at_end or self._deaf else flags

    def _is_full(self) -> bool:
        return self._full or self._underway >= _ENOUGH

    # -- Like a socket --------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """What has come, at most `bufsize` bytes; ``b""`` at the end.

        :param flags: 0 or ``socket.MSG_PEEK``.
        :raise BlockingIOError: if nothing has come.
        :raise ConnectionResetError: if the connection was not ended but lost.
        """
        if self._closed:
            raise _error(EBADF)
        if not self._input:
            if self._lost is not None and not self._lost.check(ConnectionDone):
                raise _error(ECONNRESET) from self._lost.value
            if self._at_end or self._deaf:
                return b""
            raise BlockingIOError(EAGAIN, strerror(EAGAIN))
        data = self._input.popleft()
        if self._input and len(data) < bufsize:
            data = b"".join([data, *self._input])
            self._input.clear()
        peeks = flags and flags & socket.MSG_PEEK
        if len(data) > bufsize or peeks:
            self._input.appendleft(data if peeks else data[bufsize:])
            data = data[:bufsize]
        if peeks:
            return data
        self._size -= len(data)
        if self._paused and self._size < _ENOUGH:
            self._paused = False
            if self._lost is None:
                self._in_reactor(self._transport.resumeProducing)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As :meth:`recv`, into a writable buffer; returns how many bytes."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what the transport has room for; returns how many bytes.

        :raise BlockingIOError: if it has none.
        :raise BrokenPipeError: if the connection is gone, or shut down.
        """
        self._check_can_send()
        if self._is_full():
            raise BlockingIOError(EAGAIN, strerror(EAGAIN))
        if type(data) is not bytes or len(data) > _ENOUGH:
            data = bytes(memoryview(data).cast("B")[:_ENOUGH])
        self._write(data)
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all, whether or not the transport has room."""
        self._check_can_send()
        self._write(bytes(data))

    def _check_can_send(self) -> None:
        self._check_open()
        if self._lost is not None or self._mute:
            raise _error(EPIPE)

    def _check_open(self) -> None:
        if self._closed:
            raise _error(EBADF)

    def gather(self, data: bytes) -> bool:
        """As :meth:`send`, for what is pushed while a chunk is handled.

        :return: whether `data` was taken; if not, :meth:`send` has to see to it.
        """
        # One call, where send() takes many: it is made for each answer. _gathers is 0
        # wherever send() would find something wrong.
        size = len(data)
        if self._gathers != get_ident() or size > _ENOUGH:
            return False
        self._gathered.append(data)
        self._gathered_size = size = self._gathered_size + size
        if size >= _ENOUGH:
            self._flush()
        return True

    def _write(self, data: bytes) -> None:
        if self.gather(data):
            return
        size = len(data)

        def write() -> None:
            self._underway -= size
            if self._lost is None:
                self._transport.write(data)

        self._underway += size  # with no call in between: other threads come here too
        self._in_reactor(write)

    def _flush(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            if self._lost is None:
                self._transport.write(data)

    def _in_reactor(self, call: Callable[[], object]) -> None:
        # A transport is for one thread; a socket was for any.
        if _in_its_thread():
            self._flush()
            call()
        else:
            self._transport.reactor.callFromThread(self._and_notice, call)

    def _and_notice(self, call: Callable[[], object]) -> None:
        call()
        self.notice()

    def shutdown(self, how: int) -> None:
        """Shut down one half of the connection, or both, as ``socket.shutdown`` does."""
        self._check_open()
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._deaf = True
        if how in (socket.SHUT_WR, socket.SHUT_RDWR) and not self._mute:
            self._mute = True
            self._gathers = 0
            self._in_reactor(self._lose_write_half)

    def _lose_write_half(self) -> None:
        if self._lost is not None:
            return
        transport = self._transport
        transport.unregisterProducer()
        # TLS has no half close in Twisted; but after its own farewell it still
        # receives, until the peer's.
        tls = INegotiated.providedBy(transport) or ISSLTransport.providedBy(transport)
        if not tls and hasattr(transport, "loseWriteConnection"):
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def close(self) -> None:
        """Close, once what was sent has gone out; a peer that does not take it is cut off."""
        if not self._closed:
            self._closed = True
            self._gathers = 0
            self._in_reactor(self._lose)

    def _lose(self) -> None:
        if self._lost is not None:
            return
        if not self._mute:
            self._transport.unregisterProducer()
        if self._paused:
            self._transport.resumeProducing()  # or it does not see the peer go
        self._transport.loseConnection()
        reactor = getattr(self._transport, "reactor", None)
        if reactor is not None and self._lost is None:
            self._abort_later = reactor.callLater(self._close_timeout, abort, self._transport)

    def fileno(self) -> int:
        """The transport's descriptor; -1 when closed. Others are negative numbers."""
        return -1 if self._closed else self._fd

    def getpeername(self) -> Any:
        """The peer's address, as a socket has it."""
        self._check_open()
        return self._peer

    def getsockname(self) -> Any:
        """Our own address, as a socket has it."""
        self._check_open()
        return self._host

    def setblocking(self, flag: bool) -> None:
        """Never blocks.

        :raise ValueError: if it is to.
        """
        if flag:
            raise ValueError("a TransportSocket does not block: the reactor would stop")

    def settimeout(self, value: float | None) -> None:
        """Never waits.

        :raise ValueError: if it is to.
        """
        self.setblocking(value is None or value > 0)

    def gettimeout(self) -> float:
        """0: never waits."""
        return 0.0

    def getblocking(self) -> bool:
        """False: never blocks."""
        return False

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """An option of the socket under the transport.

        :raise OSError: if there is no socket.
        """
        if (level, optname) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return 0
        sock = self._socket()
        return sock.getsockopt(level, optname, *([buflen] if buflen else []))

    def setsockopt(self, level: int, optname: int, *value: Any) -> None:
        """Set an option of the socket under the transport.

        :raise OSError: if there is no socket.
        """
        self._socket().setsockopt(level, optname, *value)

    def _socket(self) -> socket.socket:
        self._check_open()
        transport = self._transport
        while transport is not None:
            handle = transport.getHandle() if hasattr(transport, "getHandle") else None
            if isinstance(handle, socket.socket):
                return handle
            transport = getattr(transport, "transport", None)
        raise _error(ENOPROTOOPT)


def _in_its_thread() -> bool:
    thread: Any = threadable.ioThread
    return thread is None or thread == get_ident()


def _as_tuple(address: Any) -> Any:
    # As socket.getpeername() has it.
    if isinstance(address, IPv4Address):
        return address.host, address.port
    if isinstance(address, IPv6Address):
        return address.host, address.port, address.flowInfo, address.scopeID
    if isinstance(address, UNIXAddress):
        return address.name.decode("utf-8", "surrogateescape") if address.name else ""
    return address


class _Backlog(SoftSocket):
    """What a fed server has for a listening socket: accepts what endpoints accepted."""

    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, name: Any, family: int) -> None:
        super().__init__()
        self.family = family
        self._name = name
        self._waiting: deque[tuple[TransportSocket, Any]] = deque()
        self._closed = False

    def put(self, sock: TransportSocket, addr: Any) -> None:
        if self._closed:
            sock.close()
            return
        self._waiting.append((sock, addr))
        self.notice()

    def accept(self) -> tuple[TransportSocket, Any]:
        if self._closed:
            raise _error(EBADF)
        if not self._waiting:
            raise BlockingIOError(EAGAIN, strerror(EAGAIN))
        return self._waiting.popleft()

    def readiness(self) -> int:
        return IN if self._waiting else 0

    def fileno(self) -> int:
        return -1 if self._closed else self.number

    def close(self) -> None:
        self._closed = True
        while self._waiting:
            self._waiting.popleft()[0].close()

    def getsockname(self) -> Any:
        return self._name

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> int:
        if (level, optname) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return 0
        raise _error(ENOPROTOOPT)

    def setsockopt(self, level: int, optname: int, *value: Any) -> None:
        pass  # its own listening socket is closed: there is nothing to set

    def listen(self, backlog: int = 0) -> None:
        pass  # the endpoint does

    def setblocking(self, flag: bool) -> None:
        if flag:
            raise _error(EINVAL)

    def settimeout(self, value: float | None) -> None:
        self.setblocking(value is None or value > 0)


@implementer(IHalfCloseableProtocol)
class _Connection(Protocol):
    """Passes what happens to a transport on to its TransportSocket."""

    _log = Logger()

    def __init__(self, factory: LegacyFactory) -> None:
        self.factory = factory
        self._sock: TransportSocket | None = None

    def connectionMade(self) -> None:
        when_peer_is_known(self.transport, self._build)

    def _build(self) -> None:
        sock = self._sock = TransportSocket(self.transport, self.factory.close_timeout)
        peer = sock.getpeername()
        try:
            self.factory.build(sock, peer)
        except Exception:
            self._log.failure(
                "uncaught exception while {build} was given the connection of {peer}",
                build=self.factory.build,
                peer=peer,
            )
            sock.close()

    def dataReceived(self, data: bytes) -> None:
        if self._sock is not None:
            self._sock.received(data)

    def readConnectionLost(self) -> None:
        if self._sock is not None:
            self._sock.ended()

    def writeConnectionLost(self) -> None:
        pass  # the next send() will find out

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._sock is not None:
            self._sock.lost(reason)


class LegacyFactory(Factory):
    """Serves each connection of an endpoint with an unmodified legacy handler.

    :param build: called with a :class:`TransportSocket` and the peer's address, as
        ``accept()`` returned them; returns the channel. A handler's class will do,
        if its constructor takes these.
    :param close_timeout: see :class:`TransportSocket`; in seconds.

    The channels are served by the running reactor, or by who loops over their map.

    >>> from twisted.internet.testing import StringTransport
    >>> from txasynchat import asynchat, asyncore
    >>> class Handler(asynchat.async_chat):
    ...     def __init__(self, sock, addr):
    ...         asynchat.async_chat.__init__(self, sock)
    ...         self.push(b"hello " + addr[0].encode())
    >>> protocol = LegacyFactory(Handler).buildProtocol(None)
    >>> protocol.makeConnection(StringTransport())
    >>> protocol.transport.value()
    b'hello 192.168.1.1'
    >>> asyncore.close_all()
    """

    noisy = False

    def __init__(self, build: Callable[[Any, Any], object], close_timeout: float = 60.0) -> None:
        self.build = build
        self.close_timeout = close_timeout

    @classmethod
    def for_server(cls, server: Any, close_timeout: float = 60.0) -> LegacyFactory:
        """Serve each connection of an endpoint with an unmodified legacy server.

        Its own listening socket, if it has one, is closed: what the endpoint
        accepts is what its ``accept()`` and ``handle_accepted()`` get from now on.

        :param server: a dispatcher that accepts.
        """
        listening = server.socket
        name, family = None, socket.AF_INET
        if listening is not None:
            name, family = listening.getsockname(), listening.family
            server.del_channel()
            listening.close()
        backlog = _Backlog(name, family)
        server.set_socket(backlog)
        server.accepting = True
        factory = cls(backlog.put, close_timeout)
        factory.server = server
        return factory

    #: The server that is fed, if one is. Held here: nobody else may hold it.
    server: Any = None

    def buildProtocol(self, addr: object) -> Protocol:
        """One for each connection. ``IProtocolFactory``."""
        return _Connection(self)


def accepts(kind: type[dispatcher]) -> bool:
    """Whether a dispatcher's class is a server's: it says what to do with connections."""
    return (
        kind.handle_accepted is not dispatcher.handle_accepted
        or kind.handle_accept is not dispatcher.handle_accept
    )


def builder(kind: type[dispatcher]) -> Callable[[Any, Any], object]:
    """What :class:`LegacyFactory` can call to make a handler of class `kind`.

    :raise TypeError: if its constructor takes neither ``(sock, addr)`` nor
        ``(sock)``, maybe with more that has defaults.
    """
    parameters = list(signature(kind).parameters.values())
    places = [
        each
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)
    ]
    needed = [
        each
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if not places or len(needed) > 2 or any(each not in places for each in needed):
        raise TypeError(
            f"is constructed with ({', '.join(map(str, parameters))}), not with (sock, addr): "
            "give its server, or a subclass that knows the rest"
        )
    takes_both = len(places) > 1 and places[1].name != "map"
    if takes_both or places[0].kind is places[0].VAR_POSITIONAL:
        return kind
    return lambda sock, addr: kind(sock)
