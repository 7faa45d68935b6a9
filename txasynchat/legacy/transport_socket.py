"""A socket for legacy handlers over any Twisted transport: TLS, UNIX, PROXY protocol.

:class:`TransportSocket` looks like a socket, as far as dispatchers and handlers look.
What makes one for each connection of an endpoint is in ``serving.py``.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from errno import EAGAIN, EBADF, ECONNRESET, EISCONN, ENOPROTOOPT, EOPNOTSUPP, EPIPE
from functools import lru_cache
from os import strerror
from threading import get_ident
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    INegotiated,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IPushProducer,
    ISSLTransport,
)
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface import implementer

from txasynchat.errors import PlaintextAfterStartTLS
from txasynchat.legacy.readiness import IN, OUT
from txasynchat.legacy.watches import SoftSocket, queue_of
from txasynchat.output import Sender, abort

__all__ = ("Owner", "TransportSocket")

#: Input that waits to be read before the transport is paused, in bytes; and the
#: most that one send() takes. The size of asynchat's own buffers.
_ENOUGH = 65536


#: So many items in a channel's queue are too many, however small: a producer takes
#: memory that can't be counted in bytes.
_MOST_QUEUED_ITEMS = 1000

_UNKNOWN: Any = object()


def _error(number: int) -> OSError:
    return OSError(number, strerror(number))


class Owner(Protocol):
    """Who made a TransportSocket, and is told what becomes of it."""

    def output_moved(self) -> None:
        """Something was written, or there is room again. In the reactor's thread."""

    def socket_closes(self) -> None:
        """The channel closes it. From any thread."""

    def may_have_ended(self) -> None:
        """It is closed, or its channel was told of the end again. In the reactor's thread."""

    def close_timed_out(self) -> None:
        """The peer has not taken the rest of the output in time."""

    def message_too_long(self) -> None:
        """A message of the channel has outgrown the limit."""

    def plaintext_behind_start_tls(self) -> None:
        """Input came that TLS should have protected."""

    def handle_error_of(self, channel: Any) -> None:
        """A callback of the channel has raised; called while that is handled."""


class _Switch:
    """Stands in a channel's queue, behind all that is to go out before TLS begins."""

    def __init__(self, sock: TransportSocket, channel: Any) -> None:
        self._sock = sock
        self._channel = channel

    def more(self) -> bytes:
        # A refill_buffer() asks before all is sent that came out of the queue so far.
        self._sock.switch_after(len(self._channel.ac_out_buffer))
        return b""


@implementer(IPushProducer)
class TransportSocket(SoftSocket):
    """A socket, not blocking, over a connected Twisted transport.

    What arrives is passed to :meth:`received`, :meth:`ended` and :meth:`lost`;
    :class:`LegacyFactory` sees to that.

    :param transport: any ``ITransport``.
    :param close_timeout: how long :meth:`close` lets a peer take the rest of the
        output before it aborts the connection, in seconds; None for ever.
    :ivar owner: who is told what becomes of it; None for nobody.
    :ivar max_message_length: the longest message, in bytes, that the searched terminator
        of an async_chat may leave; None for any length. To be set before it has a channel.
    :ivar max_queued_output: while more bytes than this wait in the channel, and the
        transport is full, it gets no input; None for no limit. To be set as that.

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

    owner: Owner | None = None
    max_message_length: int | None = None
    max_queued_output: int | None = None
    #: Whether the owner wants to know when output moves.
    tells_of_output: bool = False
    #: How often the channel was held back, and whether it is.
    holds: int = 0
    held_back: bool = False
    #: Whether its server did not accept it yet.
    waits_to_be_accepted = False
    #: Whether its channel was given the end of the input.
    was_told_of_end: bool = False

    # What few are asked for is not in each of them: CPython is slower with an object of
    # thirty attributes or more, and gives it a dict of its own.
    _retires = False
    _takes_no_more = False
    _abort_later: Any = None
    # While output goes out that was there before start_tls(): the options; how many
    # bytes of it are left, where they are counted; what is handed on to TLS.
    _tls: Any = None
    _clear_left: int | None = None
    _carried: list[bytes] | None = None

    def __init__(self, transport: Any, close_timeout: float | None = 60.0) -> None:
        super().__init__()
        self._transport = transport
        self._close_timeout = close_timeout
        self._peer = _as_tuple(transport.getPeer())
        host = _as_tuple(transport.getHost())
        self._host = _shared(host) if isinstance(host, tuple) else host
        fileno = getattr(transport, "fileno", None)
        self._fd = self.number if fileno is None else fileno()
        self._input: list[bytes] = []  # a deque takes 700 bytes more
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
        self._sender = Sender(transport, self) if isinstance(transport, FileDescriptor) else None
        self._deaf = False
        self._mute = False
        self._closed = False
        # Numbers for traffic().
        self.bytes_in: int = 0
        self.bytes_out: int = 0
        self.pushes: int = 0
        self.first_terminator: Any = _UNKNOWN
        # These here as well: a dict that grows later is no longer shared by all.
        self.owner = None
        self.max_message_length = self.max_queued_output = None
        self.tells_of_output = False
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
        self.bytes_in += len(data)
        if self._deaf or self._closed or self._takes_no_more or self._tls is not None:
            self._came_unasked(data)
            return
        self._input.append(data)
        self._size += len(data)
        if self._size >= _ENOUGH and not self._paused:
            self._paused = True
            self._transport.pauseProducing()
        if self._is_full():
            self.notice()  # answers wait in the channel, where limits see them
            return
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
                self._flush(at_once=True)

    def _came_unasked(self, data: bytes) -> None:
        if self._tls is None or self._closed:
            return  # it is dropped: nobody reads it any more
        if self._carried is not None:
            self._carried.append(data)
        else:
            self.take_no_more()
            if self.owner is not None:
                self.owner.plaintext_behind_start_tls()

    def ended(self) -> None:
        """The peer will send no more."""
        self._at_end = True
        self.notice()

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._lost = reason
        self._gathers = 0
        self._at_end = True
        if self._sender is not None:
            self._sender.forget()
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
        if self.held_back:
            self.held_back = False
        if self.tells_of_output and self.owner is not None:
            self.owner.output_moved()
        self.notice()

    def stopProducing(self) -> None:
        """The transport is gone. It tells its protocol as well."""

    def readiness(self) -> int:
        """What it is ready for, flags of ``select.poll``."""
        has_room = self._lost is not None or not self._is_full()
        flags = OUT if has_room else 0
        if (
            self._input or (self._at_end or self._deaf) or (self._retires and self._is_retired())
        ) and (has_room or self.max_queued_output is None or not self.holds_back()):
            flags |= IN
        return flags

    def _is_full(self) -> bool:
        return self._full or self._underway >= _ENOUGH

    # -- Limits, and the end of a service ---------------------------------------------

    @property
    def served(self) -> Any:
        """The channel that was given it; None if there was none yet."""
        return None if self._watch is None else self._watch.channel

    @property
    def channel(self) -> Any:
        """The channel that has it for its socket; None if there is none (any more)."""
        channel = self.served
        return channel if getattr(channel, "socket", None) is self else None

    @property
    def is_served_by_reactor(self) -> bool:
        """Whether the running reactor serves its channel, and nobody's loop."""
        return self._watch is not None and self._watch.is_hosted

    @property
    def is_in_hand(self) -> bool:
        """Whether its channel is being told of an event."""
        return self._watch is not None and self._watch.is_in_hand

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, by its channel."""
        return self._closed

    @property
    def is_lost(self) -> bool:
        """Whether the transport is gone."""
        return self._lost is not None

    @property
    def has_unread(self) -> bool:
        """Whether input waits that the channel did not receive yet."""
        return bool(self._input)

    @property
    def was_read(self) -> bool:
        """Whether the channel has received anything of the input."""
        return self.bytes_in > self._size

    def watched(self, watch: Any) -> None:
        """It is served from now on."""
        super().watched(watch)
        if hasattr(type(watch.channel), "_txa_limit"):
            watch.channel._txa_limit = self.max_message_length
            watch.channel._txa_counts = True

    def queued(self) -> tuple[int, int]:
        """What waits to be sent, in the channel and here: in bytes; and how many items."""
        size = self._gathered_size + self._underway
        channel = self.channel
        size += len(getattr(channel, "out_buffer", b"")) + len(
            getattr(channel, "ac_out_buffer", b"")
        )
        queue = queue_of(channel)
        if not isinstance(queue, (deque, list, tuple)):
            return size, 0  # some program's own kind
        return size + sum(len(each) for each in list(queue) if hasattr(each, "__len__")), len(queue)

    def holds_back(self) -> bool:
        """Whether so much waits that the channel gets no input until there is room."""
        most = self.max_queued_output
        if most is None or self._lost is not None or not self._is_full():
            return False
        size, items = self.queued()
        holds = items > _MOST_QUEUED_ITEMS or size > most
        if holds != self.held_back:
            self.held_back = holds
            self.holds += holds
        return holds

    def put_back(self, data: bytes) -> None:
        """Have the channel receive again what it could not deal with yet."""
        self._input.insert(0, data)
        self._size += len(data)

    def take_no_more(self) -> None:
        """Drop what was not received, and all that comes."""
        self._takes_no_more = True
        self._input.clear()
        self._size = 0
        self._read_on()

    def retire(self, at_once: bool = False) -> None:
        """Behave as if the peer had finished, once nothing waits in either direction.

        :param at_once: whether unread input is dropped.
        """
        if at_once:
            self.take_no_more()
        self._retires = True
        self.notice()

    def _is_retired(self) -> bool:
        return self._retires and not self._input and not any(self.queued()) and self._tls is None

    def progress(self) -> object:
        """See :class:`SoftSocket`."""
        sent = self.bytes_out + self._gathered_size + self._underway
        return self.bytes_in - self._size, sent, self._closed, self._deaf, self._mute

    def handle_error_of(self, channel: Any) -> None:
        """See :class:`SoftSocket`."""
        if self.owner is None:
            channel.handle_error()
        else:
            self.owner.handle_error_of(channel)

    def message_too_long(self) -> None:
        """The message that the channel receives has outgrown :attr:`max_message_length`."""
        self.take_no_more()
        if self.owner is not None:
            self.owner.message_too_long()

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
            return self._recv_end()
        if self.first_terminator is _UNKNOWN:
            self._note_terminator()
        data = self._input.pop(0)
        if self._input and len(data) < bufsize:
            data = b"".join([data, *self._input])
            self._input.clear()
        peeks = flags and flags & socket.MSG_PEEK
        if len(data) > bufsize or peeks:
            self._input.insert(0, data if peeks else data[bufsize:])
            data = data[:bufsize]
        if peeks:
            return data
        self._size -= len(data)
        if self._paused and self._size < _ENOUGH:
            self._read_on()
        return data

    def _recv_end(self) -> bytes:
        has_ended = self._at_end or self._deaf or self._is_retired()
        if has_ended:
            if self._lost is not None and self.was_told_of_end and self.owner is not None:
                self._in_reactor(self.owner.may_have_ended)  # it does not close
            self.was_told_of_end = True
        if self._lost is not None and not self._lost.check(ConnectionDone):
            raise _error(ECONNRESET) from self._lost.value
        if has_ended:
            return b""
        raise BlockingIOError(EAGAIN, strerror(EAGAIN))

    def _note_terminator(self) -> None:
        # What the first message is judged by: a drain ends where the channel is back at it.
        with suppress(Exception):
            self.first_terminator = self.channel.get_terminator()

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            if self._lost is None:
                self._in_reactor(self._transport.resumeProducing)

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
        if self._clear_left is not None:
            data = data[: self._clear_left]
        self._write(data)
        if self._clear_left is not None:
            self.switch_after(self._clear_left - len(data))
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all, whether or not the transport has room."""
        self._check_can_send()
        data = bytes(data)
        left = self._clear_left
        if left is not None:
            self._write(data[:left])
            self.switch_after(max(left - len(data), 0))
            data = data[left:]
        self._write(data)

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
            self.pushes -= 1  # it is a part of one that the channel has counted, or of none
            return
        size = len(data)

        def write() -> None:
            self._underway -= size
            self._write_out(data)

        self._underway += size  # with no call in between: other threads come here too
        self._in_reactor(write)

    def _flush(self, at_once: bool = False) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self.pushes += len(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            self._write_out(data, at_once)

    def _write_out(self, data: bytes, at_once: bool = False) -> None:
        if self._lost is not None:
            return
        self.bytes_out += len(data)
        sender = self._sender
        if not at_once or sender is None:
            self._transport.write(data)
        elif sender.send(data) is None and not self._full:
            sender.flush()
        if self.tells_of_output and self.owner is not None:
            self.owner.output_moved()

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
        if self.owner is not None:
            self.owner.socket_closes()
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
        if not _is_tls(transport) and hasattr(transport, "loseWriteConnection"):
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def close(self) -> None:
        """Close, once what was sent has gone out; a peer that does not take it is cut off."""
        if not self._closed:
            self._closed = True
            self._gathers = 0
            if self.owner is not None:
                self.owner.socket_closes()
            self._in_reactor(self._lose)

    def _lose(self) -> None:
        if self._lost is not None:
            if self.owner is not None:
                self.owner.may_have_ended()
            return
        if not self._mute:
            self._transport.unregisterProducer()
        if self._paused or self._tls is not None:
            self._transport.resumeProducing()  # or it does not see the peer go
        self._transport.loseConnection()
        reactor = getattr(self._transport, "reactor", None)
        if reactor is not None and self._lost is None and self._close_timeout is not None:
            self._abort_later = reactor.callLater(self._close_timeout, self._cut_off)

    def _cut_off(self) -> None:
        if self.owner is None:
            abort(self._transport)
        else:
            self.owner.close_timed_out()

    # -- STARTTLS -------------------------------------------------------------------

    def start_tls(self, options: Any, carry_over: bool = False) -> None:
        """Go on over TLS: to be called where a ``STARTTLS`` has been answered.

        What was pushed or sent before goes out in clear, in its order; what comes after
        is encrypted. No input is received between this call and the end of the handshake.

        :param options: as for ``ITLSTransport.startTLS``: a ``CertificateOptions`` of
            ``twisted.internet.ssl``, for one.
        :param carry_over: whether input that waits is handed on to TLS. Only where it
            can't be commands: a ClientHello behind a header.
        :raise PlaintextAfterStartTLS: if input waits behind the command, and is not to
            be carried over. Somebody may have put it there: it is never delivered,
            and the connection is cut.
        :raise TypeError: for options of another kind.
        :raise OSError: if the connection is gone (``EPIPE``), if it is on TLS already
            (``EISCONN``) or can't change over (``EOPNOTSUPP``).
        """
        _check_options(options)
        self._check_can_send()
        transport = self._transport
        if self._tls is not None or _is_tls(transport):
            raise _error(EISCONN)
        if not hasattr(transport, "startTLS"):
            raise _error(EOPNOTSUPP)
        channel = self.channel
        unread, in_message = _unhandled(channel)
        if (self._input or unread or in_message) and not carry_over:
            self.take_no_more()
            _discard(channel)
            if self.owner is not None:
                self.owner.plaintext_behind_start_tls()
            else:
                abort(transport)
            raise PlaintextAfterStartTLS("input waits behind the command that begins TLS")
        self._carried = [unread, *self._input] if carry_over else None
        _discard(channel)
        self._input.clear()
        self._size = 0
        self._tls = options
        self._in_reactor(self._pause_for_tls)
        if queue_of(channel) or getattr(channel, "ac_out_buffer", b""):
            channel.producer_fifo.append(_Switch(self, channel))
            channel._txa_touch()
        else:
            self.switch_after(len(getattr(channel, "out_buffer", b"")))

    def switch_after(self, size: int) -> None:
        """Begin TLS when so many bytes more are sent, for :meth:`start_tls`."""
        self._clear_left = size or None
        if not size:
            self._in_reactor(self._switch)

    def _pause_for_tls(self) -> None:
        if self._lost is None and not self._paused:
            self._transport.pauseProducing()

    def _switch(self) -> None:
        options, self._tls = self._tls, None
        carried, self._carried = self._carried or [], None
        if self._lost is not None or self._closed:
            return
        self._paused = False
        self._transport.startTLS(options)
        # If it said pause before, its word to go on gets lost: TLS knows of no pause. If it
        # is still full, it says so again.
        self._full = False
        if any(carried):
            self._transport.protocol.dataReceived(b"".join(carried))
        if self._lost is None:
            self._transport.resumeProducing()
        self.notice()

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


def _is_tls(transport: Any) -> bool:
    return bool(INegotiated.providedBy(transport) or ISSLTransport.providedBy(transport))


def _check_options(options: Any) -> None:
    from ssl import SSLContext  # not at import time: a Python may lack it

    if isinstance(options, SSLContext):
        raise TypeError(
            "start_tls() takes what Twisted takes, not an ssl.SSLContext: a "
            "twisted.internet.ssl.CertificateOptions, or what optionsForClientTLS() returns"
        )
    if not (
        hasattr(options, "getContext")
        or IOpenSSLServerConnectionCreator.providedBy(options)
        or IOpenSSLClientConnectionCreator.providedBy(options)
    ):
        raise TypeError(
            "start_tls() takes a twisted.internet.ssl.CertificateOptions, "
            f"not {type(options).__name__}"
        )


def _unhandled(channel: Any) -> tuple[bytes, bool]:
    # What an async_chat has received and not consumed; whether it is inside a message.
    framer = getattr(channel, "_txa_framing", None)
    return (b"", False) if framer is None else (framer.unread, not framer.is_between_messages)


def _discard(channel: Any) -> None:
    framer = getattr(channel, "_txa_framing", None)
    if framer is not None:
        framer.discard()


def _in_its_thread() -> bool:
    thread: Any = threadable.ioThread
    return thread is None or thread == get_ident()


@lru_cache(maxsize=64)
def _shared(name: Any) -> Any:
    # All connections to one port have the same name at this end.
    return name


def _as_tuple(address: Any) -> Any:
    # As socket.getpeername() has it.
    if isinstance(address, IPv4Address):
        return address.host, address.port
    if isinstance(address, IPv6Address):
        return address.host, address.port, address.flowInfo, address.scopeID
    if isinstance(address, UNIXAddress):
        return address.name.decode("utf-8", "surrogateescape") if address.name else ""
    return address
