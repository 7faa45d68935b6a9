"""A conversation with a handler, in memory: the test is the peer, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import ndiff
from inspect import signature
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txasynchat.asyncore import read, socket_map, write
from txasynchat.core.lifecycle import CloseReason
from txasynchat.handlers import _factory_of, _NotServable, _taken_addresses_do
from txasynchat.legacy.readiness import IN, OUT
from txasynchat.legacy.transport_socket import TransportSocket
from txasynchat.protocol import AsyncChat
from txasynchat.testing.transcripts import entry_of, transcript_of
from txasynchat.testing.wires import Wire

__all__ = ("ChatClock", "Conversation", "NeverRests", "connect")

_Talk = TypeVar("_Talk", bound="Conversation")

#: So many calls without a second passing are a loop without end.
_ENDLESS = 10_000

#: How often a legacy channel is told of an event that makes no difference: its answer may
#: depend on what was asked before.
_PATIENCE = 3


class NeverRests(AssertionError):
    """Raised when a handler goes on for ever, without waiting for its peer or the time."""


class ChatClock(Clock):
    """A ``task.Clock`` that goes from one call to the next, and serves legacy handlers.

    >>> clock = ChatClock()
    >>> first = clock.callLater(1, lambda: clock.callLater(1, print, "two seconds"))
    >>> clock.advance(2)
    two seconds
    """

    def __init__(self) -> None:
        super().__init__()
        self._made = 0
        self._conversations: list[Conversation] = []

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> Any:
        """Make a call in `delay` seconds. ``IReactorTime``."""
        self._made += 1
        if self._made > _ENDLESS:
            self._made = 0
            raise NeverRests(f"{callable!r} is called again and again without a second passing")
        return super().callLater(delay, callable, *args, **kw)

    def advance(self, amount: float) -> None:
        """Let so many seconds pass, with all that is due meanwhile at its time."""
        end = self.seconds() + amount
        while self.calls and self.calls[0].getTime() <= end:
            self._go_to(self.calls[0].getTime())
        self._go_to(end)

    def _go_to(self, moment: float) -> None:
        if moment > self.seconds():
            self._made = 0
        super().advance(max(moment - self.seconds(), 0))
        for each in tuple(self._conversations):
            each.settle()

    def has_due(self) -> bool:
        """Whether a call is to be made now."""
        return bool(self.calls) and self.calls[0].getTime() <= self.seconds()


class Conversation:
    """A handler that is connected, and its peer: what the test says is what the peer does.

    Made by :func:`connect`. After each of its methods the handler has come to rest: it
    waits for its peer, or for the clock. As a context manager it ends the connection, and
    raises what the handler raised unless that was taken by :meth:`take_errors`.

    :ivar protocol: what the factory built.
    :ivar wire: the transport, a :class:`~txasynchat.testing.Wire`.
    :ivar clock: what the handler's timers run on. ``talk.clock.advance(60)``: a minute passes.
    :ivar was_told_of_end: whether the handler knows that its connection is gone.

    >>> from txasynchat.echo import EchoHandler
    >>> with connect(EchoHandler) as talk:
    ...     talk.receive(b"ECHO 5\\nhel")
    ...     talk.receive(b"lo")
    ...     talk.sent()
    b'hello'
    >>> talk.is_closed, talk.close_reason.value
    (True, 'handler')
    """

    def __init__(self, protocol: Any, clock: Any, peer: Any = None, host: Any = None) -> None:
        self.protocol = protocol
        self.clock = clock
        self.wire: Wire = Wire(clock, peer, host)
        self.wire.took = self._took
        self.wire.told = self._told
        self.was_told_of_end: bool = False
        self._output = bytearray()
        self._seen = 0
        self._events: list[tuple[str, bytes | str]] = []
        self._errors: list[Failure] = []
        self._inner = _innermost(protocol)
        self._sock: TransportSocket | None = None
        #: A legacy server that was made for this conversation only.
        self._own_server: Any = None
        self._settling = False
        if hasattr(self._inner, "callLater"):
            self._inner.callLater = clock.callLater
        if getattr(self._inner, "_watcher", self) is None:
            self._inner._watcher = self
        if isinstance(clock, ChatClock):
            clock._conversations.append(self)

    def open(self) -> None:
        """Make the connection. :func:`connect` has done that."""
        self.wire.connect(self.protocol)
        self.settle()

    # -- What the peer does -----------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """The peer sends `data`: in one piece, if the handler does not pause its input."""
        if data and self.wire.connected:
            self._note(">", bytes(data))
        self.wire.receive(data)
        self.settle()

    def finish(self) -> None:
        """The peer sends no more, but reads on."""
        if self.wire.connected:
            self._note("*", "peer finishes sending")
        self.wire.finish()
        self.settle()

    def disconnect(self, reason: BaseException | None = None) -> None:
        """The connection is gone.

        :param reason: what Twisted would say, ``ConnectionLost`` if None;
            ``ConnectionDone()`` for a peer that has closed in order.
        """
        if self.wire.connected:
            self._note("*", "peer is gone")
        self.wire.disconnect(reason)
        self.settle()

    def clog(self, takes: int = 65536) -> None:
        """The peer reads no more.

        :param takes: how many bytes the transport takes before it says pause.
        """
        self.wire.clog(takes)
        self.settle()

    def take(self, size: int | None = None) -> bytes:
        """The peer reads at most `size` bytes; None for all, and all that comes from now on.

        :return: what it has read.
        """
        at = len(self._output)
        left = size
        while True:
            took = self.wire.take(left)
            self.settle()  # a legacy handler sends more only now
            if left is None or took == left or not (took or self.wire.waiting):
                return bytes(self._output[at:])
            left -= took

    # -- What the handler has done ------------------------------------------------------

    def sent(self) -> bytes:
        """What the peer has got since this was asked last."""
        at, self._seen = self._seen, len(self._output)
        return bytes(self._output[at:])

    @property
    def output(self) -> bytes:
        """All that the peer has got."""
        return bytes(self._output)

    @property
    def handler(self) -> Any:
        """The handler: an :class:`~txasynchat.AsyncChat`, or the legacy channel.

        None where no channel was built (yet).
        """
        if isinstance(self._inner, AsyncChat):
            return self._inner
        sock = self._socket()
        return None if sock is None else sock.served

    @property
    def is_closed(self) -> bool:
        """Whether the connection is gone. Output that the peer does not take holds that up."""
        return not self.wire.connected

    @property
    def is_paused(self) -> bool:
        """Whether the handler takes no input now."""
        return self.wire.is_paused

    @property
    def is_secure(self) -> bool:
        """Whether TLS was started; nothing is encrypted here."""
        return self.wire.is_secure

    @property
    def close_reason(self) -> CloseReason | None:
        """Who has ended it; None while it is open. See ``AsyncChat.close_reason``."""
        reason: CloseReason | None = getattr(self._inner, "close_reason", None)
        return reason

    def take_errors(self) -> list[Failure]:
        """What the handler has raised since this was asked last. It is logged as well."""
        taken = list(self._errors)
        self._errors.clear()
        return taken

    def transcript(self) -> list[str]:
        """Who said what, as lines: see :func:`transcript_of`."""
        return transcript_of(self._events)

    def assert_transcript(self, expected: str | Iterable[str]) -> None:
        """Compare the whole conversation. In how many pieces a side said something between two
        answers of the other makes no difference.

        :param expected: the lines, as :meth:`transcript` gives them. As one str, best raw,
            as in ``r\"\"\"``, because line ends are written as ``\\r\\n``; indented as you like.
        :raise AssertionError: with both, line by line, where they differ.
        """
        if isinstance(expected, str):
            lines = [line.strip() for line in expected.splitlines() if line.strip()]
        else:
            lines = list(expected)
        got = self.transcript()
        if transcript_of(map(entry_of, lines)) != got:
            difference = "\n".join(ndiff(lines, got))
            raise AssertionError(f"another conversation (- expected, + got):\n{difference}")

    # -- The end ---------------------------------------------------------------------------

    def end(self) -> None:
        """End the connection if it is still there; raise what the handler raised.

        :raise AssertionError: from what was raised, unless :meth:`take_errors` took it.
        """
        self.leave()
        errors = self.take_errors()
        if errors:
            texts = "\n".join(each.getTraceback() for each in errors)
            raise AssertionError(f"the handler raised:\n{texts}") from errors[0].value

    def leave(self) -> None:
        """End the connection if it is still there."""
        try:
            self.disconnect()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        sock = self._sock
        if sock is not None and not sock.is_closed:
            channel = sock.channel
            if channel is not None:
                channel.del_channel()  # or it would stay in its map for ever
            sock.close()
        if isinstance(self.clock, ChatClock) and self in self.clock._conversations:
            self.clock._conversations.remove(self)
        server, self._own_server = self._own_server, None
        if server is not None:
            server.close()

    def __enter__(self: _Talk) -> _Talk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.end()
        else:
            self.leave()

    # -- Coming to rest ----------------------------------------------------------------------

    def settle(self) -> None:
        """Have all done that is due now. Nobody has to call it but after ``advance()`` of a
        clock that is no :class:`ChatClock`."""
        if self._settling:
            return
        self._settling = True
        if isinstance(self.clock, ChatClock):
            self.clock._made = 0
        try:
            for _ in range(_ENDLESS):
                if not (self._serve() or self._due()):
                    return
            raise NeverRests(f"{self.handler!r} goes on and on without a second passing")
        finally:
            self._settling = False

    def _due(self) -> bool:
        clock = self.clock
        if isinstance(clock, ChatClock):
            is_due = clock.has_due()
        else:
            is_due = any(each.getTime() <= clock.seconds() for each in clock.getDelayedCalls())
        if not is_due:
            return False
        self.clock.advance(0)
        return True

    def _socket(self) -> TransportSocket | None:
        # The one that stands between the wire and a legacy channel.
        if self._sock is None and isinstance(self.wire.producer, TransportSocket):
            self._sock = self.wire.producer
        return self._sock

    def _serve(self) -> bool:
        # What a loop does: tell a legacy channel what its socket is ready for.
        sock = self._socket()
        if sock is None:
            return False
        return (sock.waits_to_be_accepted and _tell(self._server)) or _tell(sock.channel)

    @property
    def _server(self) -> Any:
        # The legacy server that the connection is fed to.
        return getattr(getattr(self._inner, "factory", None), "server", None)

    # -- Told by others ----------------------------------------------------------------------

    def opened(self, connection: Any) -> bool:
        """See :class:`~txasynchat.Watcher`."""
        return True

    def ended(self, connection: Any) -> None:
        """See :class:`~txasynchat.Watcher`."""
        self.was_told_of_end = True

    def failed(self, connection: Any, failure: Failure) -> None:
        """See :class:`~txasynchat.Watcher`."""
        self._errors.append(failure)

    def limited(self, connection: Any, limit: str, detail: str) -> None:
        """See :class:`~txasynchat.Watcher`."""

    def _took(self, data: bytes) -> None:
        self._output += data
        self._note("<", data)

    def _told(self, words: str) -> None:
        self._note("*", words)

    def _note(self, kind: str, what: bytes | str) -> None:
        self._events.append((kind, what))


def connect(
    handler: Any,
    *,
    clock: Any = None,
    takes: int | None = None,
    peer: Any = None,
    host: Any = None,
) -> Conversation:
    """Connect a handler to a peer that the test plays.

    :param handler: an :class:`~txasynchat.AsyncChat` or its class; a class for asynchat or
        asyncore that is constructed with ``(sock, addr)``, or a server's class or a server;
        a factory, of these, or its class; or a callable that makes one. One that has a
        parameter named ``clock`` is given the conversation's.
    :param clock: a ``task.Clock``; None for a :class:`ChatClock` of its own.
    :param takes: if not None, the peer reads nothing, and the transport takes as many bytes
        before it says pause.
    :param peer: the peer's address, an ``IAddress``; None for some IPv4 address.
    :param host: our own.
    :raise TypeError: if the handler is nothing of that kind.

    >>> from txasynchat import asynchat
    >>> class Upper(asynchat.async_chat):
    ...     def __init__(self, sock, addr):
    ...         asynchat.async_chat.__init__(self, sock)
    ...         self.set_terminator(b"\\n")
    ...     collect_incoming_data = asynchat.async_chat._collect_incoming_data
    ...     def found_terminator(self):
    ...         self.push(self._get_data().upper() + b"\\n")
    >>> with connect(Upper) as talk:
    ...     talk.receive(b"hi\\nthere\\n")
    ...     talk.sent()
    b'HI\\nTHERE\\n'
    """
    talk = _conversation(handler, clock, peer, host)
    if takes is not None:
        talk.wire.clog(takes)
    try:
        talk.open()
    except BaseException:
        talk.leave()
        raise
    return talk


def _conversation(
    handler: Any, clock: Any = None, peer: Any = None, host: Any = None
) -> Conversation:
    # One that does not begin yet.
    clock = ChatClock() if clock is None else clock
    known = [handler, *socket_map.values()]
    protocol = _built(handler, clock, Wire(clock, peer).getPeer())
    talk = Conversation(protocol, clock, peer, host)
    server = talk._server
    if not any(server is each for each in known) and not IProtocolFactory.providedBy(handler):
        talk._own_server = server
    return talk


def _built(handler: Any, clock: Any, address: Any) -> Any:
    if isinstance(handler, AsyncChat):
        return handler
    try:
        with _taken_addresses_do():
            factory = _factory_of(handler, [], {"clock": clock} if _wants_clock(handler) else {})
    except _NotServable as error:
        name = getattr(handler, "__qualname__", repr(handler))
        raise TypeError(f"{name} {error}") from error
    protocol = factory.buildProtocol(address)
    if protocol is None:
        raise TypeError(f"{factory!r} makes no protocol")
    return protocol


def _wants_clock(handler: Any) -> bool:
    # Of a class Python 3.10 sees AsyncChat's __new__(), which takes anything.
    kind: Any = handler
    build = kind.__init__ if isinstance(handler, type) else handler
    try:
        return callable(build) and "clock" in signature(build).parameters
    except ValueError:  # of C, without a signature
        return False


def _innermost(protocol: Any) -> Any:
    # Below the wrappers that a factory may have put around it.
    while not hasattr(protocol, "begin_drain") and hasattr(protocol, "wrappedProtocol"):
        protocol = protocol.wrappedProtocol
    return protocol


def _tell(channel: Any) -> bool:
    # Whether it gets on, being told once of what its socket is ready for.
    if channel is None or channel not in channel._map.values():
        return False
    sock = channel.socket
    for _ in range(_PATIENCE):
        before = sock.progress()
        flags = sock.readiness()
        if flags & IN and channel.readable():
            read(channel)
        is_same = channel.socket is sock and not channel.accepting
        if flags & OUT and is_same and channel.writable():
            write(channel)
        if sock.progress() != before or channel.socket is not sock:
            return True
    return False
