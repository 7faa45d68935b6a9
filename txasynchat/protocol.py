"""AsyncChat: the semantics of ``asynchat.async_chat`` as a Twisted protocol."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from txasynchat.core.framing import Framer
from txasynchat.core.lifecycle import CloseReason, Event, Lifecycle, State
from txasynchat.core.outbox import BytesLike, MoreProducer, as_bytes
from txasynchat.core.terminators import Terminator, compile_terminator
from txasynchat.errors import ChatClosed
from txasynchat.output import Output, abort
from txasynchat.producers import (
    ProducerDrain,
    as_deferred,
    as_producer,
    is_streaming,
    stop_producer,
)

__all__ = ("AsyncChat", "PauseReason")


_NEVER_WAITED_FOR = (
    "collect_incoming_data",
    "get_terminator",
    "handle_close",
    "handle_error",
    "handle_message_too_long",
    "handle_timeout",
)

_Chat = TypeVar("_Chat", bound="AsyncChat")


class PauseReason(str, Enum):
    """Why no input is delivered for a while. Equal to its value, a str."""

    HANDLER_BUSY = "handler busy"
    OUTPUT_FULL = "output full"
    USER_ASKED = "user asked"
    DRAINING = "draining"

    def __str__(self) -> str:
        return self.value


def _in_words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


def _can_linger(transport: Any) -> bool:
    # A TLS transport says that it is a TCP transport as well, but can't close one half.
    tls = INegotiated.providedBy(transport) or ISSLTransport.providedBy(transport)
    return ITCPTransport.providedBy(transport) and not tls


@implementer(IPushProducer, IConsumer, IHalfCloseableProtocol, IHandshakeListener)
class AsyncChat(Protocol, TimeoutMixin):
    """A connection that speaks in messages, each up to a terminator.

    Subclass it, say with :meth:`set_terminator` where a message ends, and
    override :meth:`collect_incoming_data` and :meth:`found_terminator`. A
    subclass needs not call ``super().__init__()``.

    The vocabulary is that of ``asynchat.async_chat`` in the documentation of
    Python 3.11. What is different follows from three rules:

    * No callback comes after a close was decided, but one :meth:`handle_close`
      (and :meth:`handle_error` if accepted output then can't be sent).
    * An error in a callback ends this connection (:meth:`handle_error`) and
      touches no other.
    * Nothing grows without bound: see the attributes with ``max_`` and
      ``_timeout``.

    It is an ``IPushProducer`` of its own input (:meth:`pauseProducing`) and an
    ``IConsumer`` whose producers take their turn in the output queue
    (:meth:`registerProducer`).

    >>> from twisted.internet.testing import StringTransport
    >>> class Greeter(AsyncChat):
    ...     def handle_connect(self):
    ...         self.set_terminator(b"\\r\\n")
    ...     def collect_incoming_data(self, data):
    ...         self._collect_incoming_data(data)
    ...     def found_terminator(self):
    ...         self.push(b"hello, " + self._get_data() + b"\\r\\n")
    >>> chat, transport = Greeter(), StringTransport()
    >>> chat.makeConnection(transport)
    >>> chat.dataReceived(b"world\\r\\nmo")
    >>> transport.value()
    b'hello, world\\r\\n'
    """

    #: At most so many bytes are passed to :meth:`collect_incoming_data` at once,
    #: but for what was held back before. As much as Twisted's transports read.
    ac_in_buffer_size: int = 65536
    #: At most so many bytes are written to the transport at once; smaller items
    #: are joined up to this. As much as Twisted's transports take before they
    #: say pause.
    ac_out_buffer_size: int = 65536
    #: Whether str is accepted for terminators and output, encoded with `encoding`.
    use_encoding: bool | int = False
    #: See :attr:`use_encoding`.
    encoding: str = "latin-1"
    #: The longest message, in bytes without its terminator, for a terminator that
    #: is searched for; None for no limit. asyncio's streams have the same limit.
    max_message_length: int | None = 65536
    #: While more bytes than this wait to be sent (beyond what the transport
    #: buffers), or a thousand items of any size, no input is delivered; None for
    #: no limit. What a producer has yet to give does not count. asyncio's
    #: transports pause their writers there.
    max_queued_output: int | None = 65536
    #: Seconds without a byte in either direction before :meth:`handle_timeout`;
    #: None for ever. The time a handler takes, or has paused the input, is not
    #: idle. A change takes effect with the next byte.
    idle_timeout: float | None = None
    #: Seconds that a close waits while no output moves, before the connection is
    #: cut; None for ever. Twisted's HTTP server waits as long.
    close_timeout: float | None = 15

    #: The pieces that :meth:`_collect_incoming_data` kept.
    incoming: list[bytes]

    _log = Logger()
    _framer: Framer
    _life: Lifecycle
    _output: Output
    _paused: frozenset[PauseReason]
    _shaking_hands: bool
    _peer_finished: bool
    # What few connections ever change is not in each of them.
    _registered: deque[ProducerDrain] | None = None
    _asking = False
    _lingers = False  # the peer may still be sending
    _blame: tuple[CloseReason, str] = (CloseReason.HANDLER, "")
    _close_call: Any = None
    _closed: list[Deferred[CloseReason]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not isinstance(cls.__dict__.get("terminator", AsyncChat.terminator), property):
            raise TypeError(
                f"{cls.__name__}.terminator hides the property of that name: "
                "call set_terminator() in handle_connect()"
            )
        for name in (*_NEVER_WAITED_FOR, "found_terminator", "handle_connect"):
            callback = getattr(cls, name)
            if name in _NEVER_WAITED_FOR and iscoroutinefunction(callback):
                raise TypeError(
                    f"{cls.__name__}.{name}() can't be a coroutine function: nothing would wait "
                    "for it. Only found_terminator() and handle_connect() can"
                )
            if isgeneratorfunction(callback) or isasyncgenfunction(callback):
                raise TypeError(
                    f"{cls.__name__}.{name}() has a yield, so calling it would do nothing; "
                    "@inlineCallbacks, or async def and await, make a callback that waits"
                )

    # State is made here so that a handler which forgets super().__init__() works.
    def __new__(cls: type[_Chat], *args: Any, **kwargs: Any) -> _Chat:  # noqa: D102
        self = super().__new__(cls)
        self.incoming = []
        self._framer = Framer()
        self._life = Lifecycle()
        self._output = Output(self)
        self._paused = frozenset()
        self._shaking_hands = False
        self._peer_finished = False
        return self

    # -- For subclasses to override --------------------------------------------------

    def handle_connect(self) -> Awaitable[object] | None:
        """The connection is there. May be a coroutine function or return a Deferred,
        as :meth:`found_terminator` may."""
        return None

    def collect_incoming_data(self, data: bytes) -> None:
        """Take a piece of the current message, in order.

        :param data: never empty; the terminator is not part of it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define collect_incoming_data()")

    def found_terminator(self) -> Awaitable[object] | None:
        """The message has ended: the terminator was found, or the count is complete.

        May be a coroutine function or return a Deferred. Then no more input is
        delivered until that is done, so messages are handled one after another;
        its failure goes to :meth:`handle_error`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define found_terminator()")

    def handle_close(self) -> None:
        """The connection is gone. Called exactly once for each that was made.

        :attr:`close_reason` says who ended it.
        """

    def handle_error(self) -> None:
        """A callback or a producer raised; called while the exception is handled.

        The default logs it with the peer's address and closes the connection
        once what was pushed is sent. An override that does not close goes on
        with the next message; after the error of a producer, or of an overridden
        :meth:`get_terminator`, the connection is closed in any case.
        """
        self._log.failure(
            "{handler} failed, connection to {peer} ends", handler=self._name, peer=self._peer
        )
        self.close_when_done()

    def handle_timeout(self) -> None:
        """Nothing came or went for :attr:`idle_timeout` seconds.

        The default closes once what was pushed is sent. An override that does
        not close is called again after the same time.
        """
        self.close_when_done()

    def handle_message_too_long(self) -> None:
        """The message has outgrown :attr:`max_message_length`.

        :meth:`collect_incoming_data` got as many bytes as allowed. The default
        logs that and cuts the connection. Where an override does not close, the
        rest of the message is dropped, without :meth:`found_terminator`; its
        end is recognised. Or it sets a different terminator, which judges the rest.
        """
        self._log.error(
            "{handler}: message from {peer} is longer than {limit} bytes, connection is cut; "
            "raise {handler}.max_message_length to allow more",
            handler=self._name,
            peer=self._peer,
            limit=self.max_message_length,
        )
        self._abort(*self._blame)

    # -- Input -----------------------------------------------------------------------

    def set_terminator(self, terminator: Terminator | str, max_match: int | None = None) -> None:
        """Say where the message ends. May be called at any moment.

        :param terminator: bytes to search for; a tuple of bytes, the one whose
            match ends first counting (of two that end together the longer); a
            compiled bytes regex, ended by the first byte with which it matches;
            a number of bytes; or None (also ``b""``, 0) to collect everything.
            str only with :attr:`use_encoding`.
        :param max_match: for a regex without a longest match of its own: its
            longest, in bytes.
        :raise ValueError: a negative number; a regex that may match nothing, that
            has no longest match or one of over 256 bytes, or whose match depends on
            the bytes around it.
        :raise TypeError: anything else.
        """
        if type(terminator) is not int and isinstance(terminator, str):
            terminator = as_bytes(terminator, self.text_encoding, "the terminator")
        self._framer.set_terminator(terminator, max_match)
        if not self._output.corked:
            self._deliver_soon()

    def get_terminator(self) -> Terminator:
        """The current terminator; a number counts down to what is still missing.

        A subclass may override it; it is asked before each look at the input.
        """
        return self._framer.terminator

    @property
    def terminator(self) -> Terminator:
        """The current terminator. Assigning is :meth:`set_terminator`."""
        return self._framer.terminator

    @terminator.setter
    def terminator(self, terminator: Terminator | str) -> None:
        self.set_terminator(terminator)

    @property
    def matched(self) -> Any:
        """What ended the message, for :meth:`found_terminator`: bytes, or the match
        object of a regex, or None after a number."""
        return self._framer.matched

    @property
    def ac_in_buffer(self) -> bytes:
        """The input not yet consumed. Assigning replaces it."""
        return self._framer.unread

    @ac_in_buffer.setter
    def ac_in_buffer(self, data: bytes) -> None:
        if self._life.state in (State.NEW, State.OPEN):
            self._framer.unread = data
            self._deliver_soon()

    def _collect_incoming_data(self, data: bytes) -> None:
        """A :meth:`collect_incoming_data` that keeps the pieces for :meth:`_get_data`."""
        self.incoming.append(data)

    def _get_data(self) -> bytes:
        """Take the message that :meth:`_collect_incoming_data` kept."""
        data = b"".join(self.incoming)
        self.incoming.clear()
        return data

    # -- Output ----------------------------------------------------------------------

    def push(self, data: BytesLike | str) -> None:
        """Send data, behind what was pushed before.

        :param data: bytes, bytearray or memoryview, copied if it can change;
            str only with :attr:`use_encoding`.
        :raise TypeError: for anything else.
        :raise ChatClosed: if the connection is closing or closed.
        """
        if type(data) is not bytes:
            data = as_bytes(data, self.text_encoding, "the data to push")
        if self._life.reason is not None:
            raise self._can_not_send("push()")
        if data:
            self._output.push(data)

    def push_with_producer(self, producer: object) -> None:
        """Send what a producer gives, behind what was pushed before.

        :param producer: an object with ``more()``; a Twisted ``IPullProducer``,
            ``IPushProducer`` (these write to this object) or ``IBodyProducer``;
            a file open for reading in binary mode, which will be closed; an
            iterable or an async iterable of bytes.
        :raise TypeError: for anything else.
        :raise ChatClosed: if the connection is closing or closed; the producer
            is told to stop.
        """
        streaming = is_streaming(producer)
        if streaming is not None:
            self._send_registered(producer, streaming)
        else:
            source = as_producer(producer, self.ac_out_buffer_size)
            self._accept(source)
            self._output.push(source)

    def _accept(self, source: MoreProducer) -> None:
        if self._life.reason is not None:
            stop_producer(source)
            raise self._can_not_send("push_with_producer()")

    def close_when_done(self) -> None:
        """Close once all that was pushed is sent; deliver no more input.

        If no output moves for :attr:`close_timeout` seconds the connection is cut.
        """
        self._finish(*self._blame)

    def close(self) -> None:
        """Close now: what the transport was given is still sent, what is queued
        behind it is dropped. Called again, it does nothing.

        Where the peer may still be sending, over TCP and UNIX, it sees the end of
        our output first; what it sends until its own end is dropped.
        """
        self._output.write()
        self._close(*self._blame)

    def discard_buffers(self) -> None:
        """Drop the input not yet consumed, what :meth:`_collect_incoming_data` kept,
        and the output not yet given to the transport."""
        self._framer.discard()
        self.incoming.clear()
        self._registered = None
        self._output.discard()
        if self._life.state is State.FLUSHING:
            self._output.push(None)

    @property
    def text_encoding(self) -> str | None:
        """How str is encoded; None where it is refused."""
        return self.encoding if self.use_encoding else None

    def _can_not_send(self, what: str) -> ChatClosed:
        return ChatClosed(
            f"{what} after the close of {self._name}, ended by {self._life.reason}"
            + (f": {self._life.detail}" if self._life.detail else "")
        )

    # -- What is going on --------------------------------------------------------------

    @property
    def close_reason(self) -> CloseReason | None:
        """Who ended this connection; None until that is decided.

        It compares equal to its name: "peer", "handler", "timeout", "limit",
        "error" or "drain".
        """
        return self._life.reason

    @property
    def close_detail(self) -> str:
        """:attr:`close_reason` in more words, for people."""
        return self._life.detail

    @property
    def is_open(self) -> bool:
        """Whether the connection is there and nobody has decided to close it."""
        return self._life.state is State.OPEN

    @property
    def queued_output(self) -> int:
        """Bytes pushed that the transport has not taken yet; see :attr:`max_queued_output`."""
        return self._output.size

    @property
    def paused_because(self) -> tuple[PauseReason, ...]:
        """Why no input is delivered now; empty when it is."""
        return tuple(reason for reason in PauseReason if reason in self._paused)

    def drained(self) -> Deferred[None]:
        """Fires when nothing is queued any more, all having been given to the
        transport, and it has room for more. Fails with :exc:`ChatClosed` if output
        was dropped because the connection ended before, or a producer broke."""
        return self._output.drained()

    def closed(self) -> Deferred[CloseReason]:
        """Fires with :attr:`close_reason` when the connection is gone. Never fails."""
        if self._life.state is State.CLOSED:
            assert self._life.reason is not None
            return succeed(self._life.reason)
        waiting: Deferred[CloseReason] = Deferred(self._wait_no_more)
        self._closed = self._closed or []
        self._closed.append(waiting)
        return waiting

    def _wait_no_more(self, cancelled: Deferred[CloseReason]) -> None:
        if self._closed and cancelled in self._closed:
            self._closed.remove(cancelled)

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _peer(self) -> str:
        return str(self.transport.getPeer()) if self.transport is not None else "nobody"

    # -- The input's flow: IPushProducer -----------------------------------------------

    def pauseProducing(self) -> None:
        """Deliver no input until :meth:`resumeProducing`, beginning now.

        While the transport is paused a peer that disconnects goes unnoticed.
        """
        self._pause(PauseReason.USER_ASKED)

    def resumeProducing(self) -> None:
        """Undo :meth:`pauseProducing`. Pauses for other reasons stay."""
        self._resume(PauseReason.USER_ASKED)

    def stopProducing(self) -> None:
        """Whoever consumes the input wants no more: :meth:`close`."""
        self.close()

    def _pause(self, reason: PauseReason) -> None:
        if reason in self._paused or self._life.state not in (State.NEW, State.OPEN):
            return
        self._paused |= {reason}
        self._framer.stop()
        if len(self._paused) == 1:
            self._pause_transport()

    def _pause_transport(self) -> None:
        # A TLS transport needs to read for its handshake, before any input comes.
        if self._life.state is State.OPEN and self._paused and not self._shaking_hands:
            self._transport.pauseProducing()

    def _resume(self, reason: PauseReason) -> None:
        if reason not in self._paused:
            return
        self._paused -= {reason}
        if self._paused:
            return
        self._framer.go()
        if self._life.state is State.OPEN:
            if not self._peer_finished:
                self._transport.resumeProducing()
            self._deliver()

    # -- Producers of output: IConsumer --------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Give `producer` the next place in the output queue. ``IConsumer``.

        It is asked for data when its turn comes; pushes made meanwhile wait
        behind it. More than one may be registered; they write in turn.

        :param producer: an ``IPushProducer`` if `streaming`, otherwise an
            ``IPullProducer``. On a closed connection it is told to stop.
        """
        with suppress(ChatClosed):
            self._send_registered(producer, streaming)

    def _send_registered(self, producer: Any, streaming: bool) -> None:
        drain = ProducerDrain()
        drain.registerProducer(producer, streaming)
        self._accept(drain)
        if self._registered is None:
            self._registered = deque()
        self._registered.append(drain)
        self._output.push(drain)

    def unregisterProducer(self) -> None:
        """The registered producer whose turn it is has no more. ``IConsumer``."""
        if self._registered:
            self._registered.popleft().unregisterProducer()

    def write(self, data: bytes) -> None:
        """Take data from the registered producer whose turn it is. ``IConsumer``.

        Without one this is :meth:`push`.
        """
        if self._registered:
            self._registered[0].write(data)
        elif self._life.reason is None:
            self.push(data)

    # -- Called by the transport -----------------------------------------------------------

    @property
    def _transport(self) -> Any:
        # Twisted types it as an ITransport, which lacks most of what transports do.
        return self.transport

    def makeConnection(self, transport: Any) -> None:
        """The transport is there. Twisted calls this."""
        self.transport = transport
        if not self._life.on(Event.CONNECTED):
            abort(transport)  # closed before it was connected
            return
        self._shaking_hands = INegotiated.providedBy(transport)
        if self.idle_timeout is not None:
            self._touch()
        self._output.attach(transport)
        if self.is_open:
            self._pause_transport()
            try:
                super().makeConnection(transport)  # type: ignore[no-untyped-call]
            except Exception:
                self._failed()
            self._deliver_soon()

    def connectionMade(self) -> None:
        """Calls :meth:`handle_connect`."""
        result = self.handle_connect()
        if result is not None:
            self._settle(result)

    def dataReceived(self, data: bytes) -> None:
        """Cut `data` into messages. The transport calls this."""
        framer, output = self._framer, self._output
        if framer.stopped and not self.is_open:
            self._lingers = True
            return  # what a peer sent behind its QUIT is not executed
        if data:
            if self._shaking_hands:
                self.handshakeCompleted()  # a wrapper in between may not have passed it on
            if self.idle_timeout is not None or self.timeOut is not None:
                self._touch()
            if len(data) > self.ac_in_buffer_size:
                data = self._feed_all_but_last(data, self.ac_in_buffer_size)
        if output.corked:  # from inside a callback: the outer call goes on where it stands
            framer.feed(data)
            return
        try:
            # Overridden on the class or on the instance? (A look into __dict__ would
            # make the interpreter's calls of this instance's methods slower for good.)
            own = self.get_terminator.__func__ is _get_terminator  # type: ignore[attr-defined]
        except AttributeError:  # a plain function, say
            own = False
        received = data
        # What is pushed meanwhile is written as one.
        output.corked = True
        try:
            while True:
                try:
                    limit = self.max_message_length
                    framer.deliver(self, data, limit, _settle, None if own else _ask_terminator)
                    break
                except Exception:
                    self._failed()
                    data = b""
        finally:
            output.corked = False
            if output.queue:
                output.write()
                if received:
                    output.send()
        by_us = self._life.reason is not None and self._life.state is not State.FLUSHING
        if not by_us and getattr(self.transport, "disconnecting", False):
            self.close()  # the handler closed the transport: over TLS that takes both
        if self._peer_finished:
            self._close_if_all_done()

    def _feed_all_but_last(self, data: bytes, size: int) -> bytes:
        last = (len(data) - 1) // size * size
        for start in range(0, last, size):
            self._framer.feed(data[start : start + size])
        return data[last:]

    def handshakeCompleted(self) -> None:
        """A TLS transport is ready for input. ``IHandshakeListener``."""
        self._shaking_hands = False
        self._pause_transport()

    def readConnectionLost(self) -> None:
        """The peer has finished sending: answer what it sent, then close.
        ``IHalfCloseableProtocol``."""
        self._peer_finished = True
        if self._life.state is State.CLOSING:
            self._transport.loseConnection()
        else:
            self._close_if_all_done()

    def writeConnectionLost(self) -> None:
        """The peer reads no more: nothing can be answered. ``IHalfCloseableProtocol``."""
        if self._life.state is not State.CLOSING:  # there it is our own doing
            self._abort(CloseReason.PEER, "it reads no more")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: :meth:`handle_close`, once. The transport calls this."""
        detail = reason.getErrorMessage() if self._life.reason is None else ""
        if not self._decide(Event.LOST, CloseReason.PEER, detail):
            return
        self.connected = 0
        self._release(lost=True)
        self._set_close_timer(None)
        if self.timeOut is not None:
            self.setTimeout(None)  # type: ignore[no-untyped-call]
        try:
            self.handle_close()
        except Exception:
            self._log.failure("{handler}.handle_close() failed", handler=self._name)
        self._gone()

    # -- Delivery ----------------------------------------------------------------------------

    def _deliver(self) -> None:
        # What is there, when nothing new has come.
        if self.is_open:
            AsyncChat.dataReceived(self, b"")

    def _deliver_soon(self) -> None:
        # A terminator, or input, that came from outside of a callback: what waits
        # for it must not wait for the peer as well.
        if not self._output.corked and self._framer.pending and not self._paused and self.is_open:
            self.callLater(0, self._deliver)  # type: ignore[no-untyped-call]

    def _ask_terminator(self) -> Terminator:
        self._asking = True
        terminator: Terminator | str = self.get_terminator()
        if isinstance(terminator, str):
            terminator = as_bytes(terminator, self.text_encoding, "the terminator")
        compile_terminator(terminator)  # a bad answer is an error of the method as well
        self._asking = False
        return terminator

    def _settle(self, result: object) -> None:
        # A callback returned something: wait for it, if it can be waited for.
        if not isinstance(result, Awaitable):
            return
        results: list[Any] = []
        waits = False

        def done(outcome: Any) -> None:
            if waits:
                self._handler_done(outcome)
            else:
                results.append(outcome)

        as_deferred(result).addBoth(done)
        if not results:
            waits = True
            self._pause(PauseReason.HANDLER_BUSY)
        elif isinstance(results[0], Failure):
            self._raise_to_handler(results[0])

    def _handler_done(self, outcome: Any) -> None:
        if isinstance(outcome, Failure) and (self.is_open or not outcome.check(ChatClosed)):
            self._raise_to_handler(outcome)
        self._resume(PauseReason.HANDLER_BUSY)

    def _raise_to_handler(self, failure: Failure) -> None:
        # Whatever a Deferred failed with, asyncio's CancelledError too, is an error here.
        try:
            failure.raiseException()
        except BaseException:
            self._failed()

    # -- Told by the output --------------------------------------------------------------------

    def output_moved(self, progress: bool) -> None:
        """The queue has changed; with `progress` the transport took something of it."""
        if progress and (self.idle_timeout is not None or self.timeOut is not None):
            self._touch()
        if self._life.reason is not None:
            if self._life.state is State.FLUSHING and (progress or self._close_call is None):
                self._set_close_timer(self.close_timeout)
        elif self._output.queue and self._output.is_over_limit:
            self._pause(PauseReason.OUTPUT_FULL)
        elif self._paused:
            self._resume(PauseReason.OUTPUT_FULL)

    def output_ended(self) -> None:
        """All was written that was pushed before :meth:`close_when_done`."""
        self._close(*self._blame)

    def output_failed(self, failure: Failure) -> None:
        """A producer broke; it and what was queued behind it was dropped."""
        self._registered = None
        words = _in_words(failure.value)
        if self._life.state is State.FLUSHING:
            self._life.on(Event.FAIL, CloseReason.ERROR, words)
        try:
            failure.raiseException()
        except BaseException:
            self._call_handle_error()
        if self._decide(Event.FAIL, CloseReason.ERROR, words):
            self._output.push(None)

    # -- The end ---------------------------------------------------------------------------------

    @contextmanager
    def _blaming(self, reason: CloseReason, detail: str) -> Iterator[None]:
        # Who ended the connection if the hook called meanwhile closes it.
        before, self._blame = self._blame, (reason, detail)
        try:
            yield
        finally:
            self._blame = before

    def message_too_long(self) -> None:
        """Calls :meth:`handle_message_too_long`, for the framer."""
        with self._blaming(CloseReason.LIMIT, f"message over {self.max_message_length} bytes"):
            self.handle_message_too_long()
        self.incoming.clear()

    def timeoutConnection(self) -> None:
        """Calls :meth:`handle_timeout`, unless it is the handler that holds the input up."""
        if not self.is_open:
            return
        if not self._paused & {PauseReason.HANDLER_BUSY, PauseReason.USER_ASKED}:
            with self._blaming(CloseReason.TIMEOUT, f"idle for {self.idle_timeout} s"):
                try:
                    self.handle_timeout()
                except Exception:
                    self._failed()
        if self.is_open:
            self.setTimeout(self.idle_timeout)  # type: ignore[no-untyped-call]

    def _touch(self) -> None:
        if not self.is_open:
            return
        if self.timeOut != self.idle_timeout:
            self.setTimeout(self.idle_timeout)  # type: ignore[no-untyped-call]
        elif self.timeOut is not None:
            self.resetTimeout()  # type: ignore[no-untyped-call]

    def _failed(self) -> None:
        # Called while an exception of a callback is handled.
        if self._life.reason is not None:  # a close was decided: no more callbacks
            self._log.failure(
                "{handler} failed after its connection was closed", handler=self._name
            )
        else:
            self._call_handle_error()

    def _call_handle_error(self) -> None:
        with self._blaming(CloseReason.ERROR, _in_words(sys.exc_info()[1])):
            try:
                self.handle_error()
            except Exception:
                self._log.failure("{handler}.handle_error() failed", handler=self._name)
                self._abort(*self._blame)
            if self._asking:
                # Without its terminator the input can't be judged.
                self._asking = False
                self.close_when_done()

    def _finish(self, reason: CloseReason, detail: str) -> None:
        if self._decide(Event.FINISH, reason, detail):
            self._output.push(None)

    def _decide(self, event: Event, reason: CloseReason, detail: str) -> bool:
        # The connection ends, or gets on with it. The first such event stops the input.
        is_first = self._life.reason is None
        if not self._life.on(event, reason, detail):
            return False
        if is_first:
            self._stop_input()
        return True

    def _close(self, reason: CloseReason, detail: str) -> None:
        if not self._decide(Event.CLOSE, reason, detail):
            return
        self._release()
        if self.transport is None:
            self._gone()
            return
        self._set_close_timer(self.close_timeout)
        if self._lingers and not self._peer_finished and _can_linger(self.transport):
            # A socket closed with unread input resets the connection, and takes
            # with it what was sent. So the peer sees our end first, what it still
            # sends is dropped, and its end, or the timer, closes the socket.
            self._transport.loseWriteConnection()
        else:
            self._transport.loseConnection()

    def _abort(self, reason: CloseReason, detail: str) -> None:
        self._decide(Event.CLOSE, reason, detail)
        self._release()
        if self.transport is not None:
            abort(self.transport)

    def _release(self, lost: bool = False) -> None:
        # The one place where a connection lets go of what it holds, before the
        # transport is closed.
        self._registered = None
        self._output.detach(lost)

    def _stop_input(self) -> None:
        # What a paused transport has not read may be more input, as is what is left.
        self._lingers = self._lingers or bool(self._paused or self._framer.pending)
        self._framer.stop()
        self._framer.discard()
        if self.timeOut is not None:
            self.setTimeout(None)  # type: ignore[no-untyped-call]
        if self._paused:
            self._paused = frozenset()
            if self._life.state is not State.CLOSED and self.transport is not None:
                # What still comes is read and dropped, so that the peer's end is
                # seen; TLS needs to read to close.
                self._transport.resumeProducing()

    def _gone(self) -> None:
        reason = self._life.reason
        assert reason is not None
        waiting, self._closed = self._closed or [], None
        for each in waiting:
            if not each.called:  # one that waits may cancel another
                each.callback(reason)

    def _close_if_all_done(self) -> None:
        if not self._peer_finished or self._paused or not self.is_open:
            return
        if not self._framer.pending:
            self._finish(CloseReason.PEER, "it finished sending")

    def _set_close_timer(self, seconds: float | None) -> None:
        call = self._close_call
        active = call is not None and call.active()
        if seconds is None:
            if active:
                call.cancel()
        elif active:
            call.reset(seconds)
        else:
            self._close_call = self.callLater(  # type: ignore[no-untyped-call]
                seconds, self._close_timed_out
            )

    def _close_timed_out(self) -> None:
        if self._life.state is State.FLUSHING:
            cut = f"without progress, {self._output.size} queued bytes not sent"
        else:
            cut = "in which the peer did not close"
        cut = f"cut after {self.close_timeout} s {cut}"
        self._life.detail = f"{self._life.detail}; {cut}" if self._life.detail else cut
        self._abort(*self._blame)


# For each chunk received: names of a module are had faster than attributes of a class,
# and functions faster than methods bound to a connection.
_get_terminator = AsyncChat.get_terminator
_ask_terminator = AsyncChat._ask_terminator
_settle = AsyncChat._settle
