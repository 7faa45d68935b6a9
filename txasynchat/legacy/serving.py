"""Legacy handlers and servers on endpoints, each connection over a TransportSocket.

:class:`LegacyFactory` builds a handler for each connection, or feeds a server with them.
What it has Twisted build is :class:`Connection`: it knows why its connection ends, counts,
keeps limits and drains, for handlers that know nothing of all that.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EAGAIN, EBADF, EINVAL, ENOPROTOOPT
from inspect import signature
from os import strerror
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txasynchat.addresses import in_words, when_peer_is_known
from txasynchat.asynchat import async_chat
from txasynchat.asyncore import dispatcher
from txasynchat.core.lifecycle import CloseReason
from txasynchat.legacy.readiness import IN
from txasynchat.legacy.transport_socket import TransportSocket
from txasynchat.legacy.watches import SoftSocket, queue_of
from txasynchat.output import abort
from txasynchat.timers import Swept, postponed
from txasynchat.transports import share_attributes
from txasynchat.watcher import Watcher

__all__ = ("Connection", "LegacyFactory", "accepts", "builder")

_NUMBERS = ("bytes_in", "bytes_out", "messages_in", "messages_out", "queued_output")

#: How long a channel that somebody's loop serves may take to find out that its
#: connection was cut, in seconds, before it is told from here.
_GRACE = 0.5

#: How soon to look again whether a channel is free, in seconds.
_SOON = 0.01


def _error(number: int) -> OSError:
    return OSError(number, strerror(number))


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
        self._accepted = 0

    def put(self, sock: TransportSocket, addr: Any) -> None:
        if self._closed:
            sock.close()
            return
        sock.waits_to_be_accepted = True
        self._waiting.append((sock, addr))
        self.notice()

    def accept(self) -> tuple[TransportSocket, Any]:
        if self._closed:
            raise _error(EBADF)
        if not self._has_waiting():
            raise BlockingIOError(EAGAIN, strerror(EAGAIN))
        accepted = self._waiting.popleft()
        accepted[0].waits_to_be_accepted = False
        self._accepted += 1
        return accepted

    def progress(self) -> object:
        return self._accepted

    def readiness(self) -> int:
        return IN if self._has_waiting() else 0

    def _has_waiting(self) -> bool:
        # One that was cut off while it waited is nobody's any more.
        while self._waiting and self._waiting[0][0].is_closed:
            self._waiting.popleft()
        return bool(self._waiting)

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
class Connection(Protocol, Swept):
    """What the transport knows: stands between it and a legacy channel's TransportSocket.

    :param factory: says what builds the channel.
    :ivar max_message_length: in bytes; None for no limit, as for the others. To be set
        before the connection is made, as the others: see :class:`TransportSocket`.
    :ivar max_queued_output: in bytes.
    :ivar idle_timeout: seconds without a byte in either direction before the connection
        is closed, once its output is sent.
    :ivar close_timeout: seconds that a close may take before the connection is cut.
    :ivar close_reason: who ended it; None while it is open.
    :ivar close_detail: the same for people.

    >>> from twisted.internet.testing import StringTransport
    >>> def turn_away(sock, addr):
    ...     sock.send(b"come back later")
    ...     sock.close()
    >>> connection = LegacyFactory(turn_away).buildProtocol(None)
    >>> connection.makeConnection(StringTransport())
    >>> connection.handler_name, connection.close_reason.value
    ('turn_away', 'handler')
    >>> connection.traffic()["bytes_out"]
    15
    """

    _log = Logger()
    _watcher: Watcher | None = None
    max_message_length: int | None = None
    max_queued_output: int | None = None
    idle_timeout: float | None = None
    close_timeout: float | None = 60.0
    close_reason: CloseReason | None = None
    close_detail: str = ""

    # What few connections ever change is not in each of them.
    _blame: tuple[CloseReason, str] | None = None
    _drains = False
    _finishes = False
    _cut = False
    _is_lost = False
    _is_telling = False
    _has_ended = False
    _close_call: Any = None
    _look_call: Any = None

    def __init__(self, factory: LegacyFactory) -> None:
        self.factory = factory
        self.close_timeout = factory.close_timeout
        self._sock: TransportSocket | None = None

    # -- From the transport ---------------------------------------------------------

    def connectionMade(self) -> None:
        """Build the channel, once the peer is known."""
        if self.idle_timeout is not None:
            self.setTimeout(self.idle_timeout)
        when_peer_is_known(self.transport, self._build)

    def _build(self) -> None:
        if self.close_reason is not None:
            return
        if self._watcher is not None and not self._watcher.opened(self):
            self._abort(CloseReason.LIMIT, "")
            return
        share_attributes(self.transport)
        sock = self._sock = TransportSocket(self.transport, self.close_timeout)
        sock.owner = self
        if self.idle_timeout is not None:
            sock.tells_of_output = True
        if self.max_message_length is not None:
            sock.max_message_length = self.max_message_length
        if self.max_queued_output is not None:
            sock.max_queued_output = self.max_queued_output
        peer = sock.getpeername()
        try:
            self.factory.build(sock, peer)
        except Exception as error:
            self._log.failure(
                "uncaught exception while {build} was given the connection of {peer}",
                build=self.factory.build,
                peer=peer,
            )
            self._tell_failed()
            self._decide(CloseReason.ERROR, _what(error))
            sock.close()

    def dataReceived(self, data: bytes) -> None:
        """Data has come."""
        if self.timeOut is not None:
            self.resetTimeout()
        if self._sock is not None:
            self._sock.received(data)

    def readConnectionLost(self) -> None:
        """The peer has finished sending. ``IHalfCloseableProtocol``."""
        if self._sock is not None:
            self._sock.ended()

    def writeConnectionLost(self) -> None:
        """The peer reads no more: the next send() will find out. ``IHalfCloseableProtocol``."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone; the channel is to be told."""
        self._is_lost = True
        if self.close_reason is None:
            self._decide(CloseReason.PEER, reason.getErrorMessage())
        if self.timeOut is not None:
            self.setTimeout(None)
        self._look_no_more()
        if self._close_call is not None:
            self._set_close_timer(None)
        sock = self._sock
        if sock is not None:
            self._is_telling = True
            try:
                sock.lost(reason)
            finally:
                self._is_telling = False
            if self._cut and not sock.is_closed:
                self._close_call = self.callLater(  # type: ignore[no-untyped-call]
                    0 if sock.is_served_by_reactor else _GRACE, self._tell_end
                )
        self.may_have_ended()

    def _tell_end(self) -> None:
        # It was cut off, and does not look: it is told, and leaves its map.
        sock = self._sock
        channel = None if sock is None else sock.channel
        if sock is None or sock.is_closed:
            return
        if channel is not None:
            self._guarded(channel, channel.handle_close)
            if not sock.is_closed:
                channel.del_channel()
        sock.close()

    # -- What a register asks -------------------------------------------------------

    @property
    def handler_name(self) -> str:
        """The name of the channel's class; of what builds it, while there is no channel."""
        channel = None if self._sock is None else self._sock.served
        if channel is not None:
            return type(channel).__name__
        factory = self.factory
        if factory.server is not None:
            return type(factory.server).__name__
        return str(getattr(factory.build, "__name__", type(factory.build).__name__))

    def traffic(self) -> dict[str, Any]:
        """What has come and gone, as numbers: see :meth:`txasynchat.AsyncChat.traffic`."""
        from txasynchat.protocol import PauseReason

        sock = self._sock
        numbers: dict[str, Any] = dict.fromkeys(_NUMBERS, 0)
        numbers["pauses"] = {}
        if sock is None:
            return numbers
        framer = getattr(sock.served, "_txa_framing", None)
        numbers["bytes_in"], numbers["bytes_out"] = sock.bytes_in, sock.bytes_out
        numbers["messages_in"] = 0 if framer is None else framer.messages
        numbers["messages_out"] = sock.pushes + getattr(sock.served, "_txa_pushes", 0)
        if not (sock.is_closed or sock.is_lost):
            numbers["queued_output"] = sock.queued()[0]
        if sock.holds:
            numbers["pauses"][PauseReason.OUTPUT_FULL.value] = sock.holds
        return numbers

    @property
    def has_begun(self) -> bool:
        """Whether the peer's first message has come; for a channel without messages, or
        without a terminator, its first byte."""
        sock = self._sock
        if sock is None or not sock.bytes_in:
            return False
        framer = getattr(sock.served, "_txa_framing", None)
        return framer is None or framer.messages > 0 or not framer.terminator

    def begin_drain(self) -> None:
        """The service is to stop: close where the channel is between two messages.

        The channel's ``handle_drain()`` is called first, if it has one. One without
        messages, a plain dispatcher, is told that the peer has finished, once it has
        read what came and sent what it had.
        """
        sock = self._sock
        if self._drains or self._finishes or (sock is not None and sock.is_closed):
            return
        channel = None if sock is None else sock.channel
        if _will_close(channel):
            self._decide(CloseReason.HANDLER, "")
        self._drains = True
        handle_drain = getattr(channel, "handle_drain", None)
        if callable(handle_drain):
            self._guarded(channel, handle_drain)
        if sock is None or channel is None or not _frames(channel, sock):
            self._finish_or_retire(CloseReason.DRAIN, at_once=False)
            return
        channel._txa_look_for_boundary = self._close_at_boundary
        self._close_when_free()

    def _close_when_free(self) -> None:
        # Not in the middle of a callback, which may be about to answer, or another thread's;
        # and not before it is seen how the channel receives what waits for it.
        sock = self._sock
        if self._finishes or self._is_lost or sock is None or sock.is_closed:
            return
        channel = sock.channel
        if sock.is_in_hand or (sock.has_unread and not sock.was_read):
            self._look_call = self.callLater(  # type: ignore[no-untyped-call]
                _SOON, self._close_when_free
            )
        elif channel is None or not _frames(channel, sock):
            self._finish_or_retire(CloseReason.DRAIN, at_once=False)
        else:
            self._close_at_boundary()

    def _close_at_boundary(self) -> None:
        sock = self._sock
        channel = None if sock is None else sock.channel
        if sock is not None and channel is not None and _is_at_boundary(channel, sock):
            self._finish(CloseReason.DRAIN, "")

    def _finish(self, reason: CloseReason, detail: str) -> None:
        """Close once the output is sent; what was not received is dropped."""
        self._decide(reason, detail)
        self._finish_or_retire(reason, at_once=True)

    def _finish_or_retire(self, reason: CloseReason, at_once: bool) -> None:
        sock = self._sock
        if self._finishes or self._is_lost or (sock is not None and sock.is_closed):
            return
        self._finishes = True
        self.setTimeout(None)
        self._look_no_more()
        self._set_close_timer(self.close_timeout)
        channel = None if sock is None else sock.channel
        if sock is None:
            self._decide(reason, "")
            self._transport.loseConnection()
            return
        sock.tells_of_output = True
        if channel is None or not _frames(channel, sock):
            sock.retire(at_once)
        else:
            channel._txa_look_for_boundary = None
            sock.take_no_more()
            if not _will_close(channel):
                self._guarded(channel, channel.close_when_done)

    def _abort(self, reason: CloseReason, detail: str) -> None:
        """Cut the connection at once. The channel is told as of any connection that is lost."""
        self._decide(reason, detail)
        if self._cut:
            return
        self._cut = True
        if self._is_lost:
            self._tell_end()
        elif self.transport is not None:
            abort(self.transport)

    @property
    def _transport(self) -> Any:
        # Twisted types it as an ITransport, which lacks most of what transports do.
        return self.transport

    # -- Timers ---------------------------------------------------------------------

    def timeoutConnection(self) -> None:
        """Nothing came or went for :attr:`idle_timeout` seconds."""
        if self._sock is not None and self._sock.is_closed:
            return
        detail = f"idle for {self.idle_timeout} s"
        if self._watcher is not None:
            self._watcher.limited(self, "idle_timeout", detail)
        self._finish(CloseReason.TIMEOUT, detail)

    def _look_no_more(self) -> None:
        if self._look_call is not None and self._look_call.active():
            self._look_call.cancel()

    def _set_close_timer(self, seconds: float | None) -> None:
        self._close_call = postponed(
            self._close_call, seconds, self.callLater, self.close_timed_out
        )

    # -- From the TransportSocket: Owner ----------------------------------------------

    def output_moved(self) -> None:
        """Something was written, or there is room again."""
        if self.timeOut is not None:
            self.resetTimeout()
        elif self._finishes and not self._is_lost:
            self._set_close_timer(self.close_timeout)

    def close_timed_out(self) -> None:
        """A close takes too long: the connection is cut."""
        if self._cut or self._is_lost:
            return
        detail = f"cut after {self.close_timeout} s in which it did not close"
        if self.close_reason is not None:
            self.close_detail = f"{self.close_detail}; {detail}" if self.close_detail else detail
        if self._watcher is not None:
            self._watcher.limited(self, "close_timeout", detail)
        self._abort(CloseReason.HANDLER, detail)

    def socket_closes(self) -> None:
        """The channel closes its socket, or one half: who made it do so?"""
        sock = self._sock
        if self._blame is not None:
            self._decide(*self._blame)
        elif sock is not None and sock.was_told_of_end and not self._finishes:
            self._decide(CloseReason.PEER, "it finished sending")
        elif self._drains or self._finishes:
            self._decide(CloseReason.DRAIN, "")
        else:
            self._decide(CloseReason.HANDLER, "")

    def may_have_ended(self) -> None:
        """The transport is gone, the channel has closed, or was told again: is this the end?"""
        sock = self._sock
        if self._has_ended or self._is_telling or not self._is_lost:
            return
        if (
            sock is None
            or sock.is_closed
            or (sock.was_told_of_end and not self._cut)
            or (sock.channel is None and not sock.waits_to_be_accepted)
        ):
            self._has_ended = True
            if self._close_call is not None:
                self._set_close_timer(None)
            if self._watcher is not None:
                self._watcher.ended(self)

    def message_too_long(self) -> None:
        """A message has outgrown :attr:`max_message_length`: cut the connection."""
        detail = f"message over {self.max_message_length} bytes"
        self._log.error(
            "{handler}: message from {peer} is longer than {limit} bytes, connection is cut; "
            "raise max_message_length to allow more",
            handler=self.handler_name,
            peer=in_words(self._transport.getPeer()),
            limit=self.max_message_length,
        )
        if self._watcher is not None:
            self._watcher.limited(self, "max_message_length", detail)
        self._abort(CloseReason.LIMIT, detail)

    def plaintext_behind_start_tls(self) -> None:
        """Input came that TLS should have protected: cut the connection."""
        self._log.error(
            "{handler}: {peer} sent more behind the command that begins TLS, "
            "connection is cut and none of it is delivered",
            handler=self.handler_name,
            peer=in_words(self._transport.getPeer()),
        )
        self._abort(CloseReason.ERROR, "plaintext behind the command that begins TLS")

    def handle_error_of(self, channel: Any) -> None:
        """A callback of the channel has raised; called while that is handled."""
        failure = self._tell_failed()
        with self._blaming(CloseReason.ERROR, _what(failure.value)):
            channel.handle_error()
            if _will_close(channel):
                self.socket_closes()

    # -- Why it ends ------------------------------------------------------------------

    def _decide(self, reason: CloseReason, detail: str) -> None:
        # The first who ended it.
        if self.close_reason is None:
            self.close_reason, self.close_detail = reason, detail

    @contextmanager
    def _blaming(self, reason: CloseReason, detail: str) -> Iterator[None]:
        # Who ended the connection if what is called meanwhile closes it.
        before, self._blame = self._blame, (reason, detail)
        try:
            yield
        finally:
            self._blame = before

    def _tell_failed(self) -> Failure:
        failure = Failure()
        if self._watcher is not None:
            self._watcher.failed(self, failure)
        return failure

    def _guarded(self, channel: Any, call: Callable[[], object]) -> None:
        # As a loop does: what a channel raises is its own business.
        try:
            call()
        except Exception:
            try:
                self.handle_error_of(channel)
            except Exception:
                self._log.failure("{handler}.handle_error() failed", handler=self.handler_name)


def _what(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


def _will_close(channel: Any) -> bool:
    # Whether it closes when its output is sent.
    try:
        return None in queue_of(channel)
    except TypeError:  # with a queue of its own
        return False


def _frames(channel: Any, sock: TransportSocket) -> bool:
    # Whether it is an async_chat that uses its framing: one may receive in its own way.
    if not isinstance(channel, async_chat):
        return False
    framer = channel._txa_framing
    return not sock.was_read or (
        framer is not None and bool(framer.messages or not framer.is_between_messages)
    )


def _is_at_boundary(channel: Any, sock: TransportSocket) -> bool:
    # Nothing of a message is there, and what comes next is judged as the first message was:
    # a body that was announced, for one, has another terminator.
    framer = channel._txa_framing
    if framer is None or not sock.bytes_in:
        return not sock.has_unread
    if sock.has_unread or framer.pending:
        return False
    try:
        terminator = channel.get_terminator()
    except Exception:
        return False
    return bool(
        terminator == sock.first_terminator
        and (framer.is_between_messages or not terminator)  # without one nothing ever ends
    )


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

    def __init__(
        self, build: Callable[[Any, Any], object], close_timeout: float | None = 60.0
    ) -> None:
        self.build = build
        self.close_timeout = close_timeout

    @classmethod
    def for_server(cls, server: Any, close_timeout: float | None = 60.0) -> LegacyFactory:
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

    def buildProtocol(self, addr: object) -> Connection:
        """One for each connection. ``IProtocolFactory``."""
        return Connection(self)


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

    def build(sock: Any, addr: Any) -> object:
        return kind(sock)

    build.__name__ = kind.__name__
    return build
