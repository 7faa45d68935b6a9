"""AsyncChat: the semantics of ``asynchat.async_chat`` as a Twisted protocol."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from re import Pattern
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvidedBy, implementer

from txasynchat.addresses import in_words, when_peer_is_known
from txasynchat.bridge import BridgedDeferred
from txasynchat.core.framing import Framer
from txasynchat.core.lifecycle import CloseReason, Event, Lifecycle, State
from txasynchat.core.outbox import BytesLike, MoreProducer, as_bytes
from txasynchat.core.terminators import Terminator, compile_terminator
from txasynchat.errors import ChatClosed, MessageTooLong, PlaintextAfterStartTLS
from txasynchat.output import MOST_QUEUED_ITEMS, Output, abort
from txasynchat.producers import (
    ProducerDrain,
    as_deferred,
    as_producer,
    is_streaming,
    stop_producer,
)
from txasynchat.reading import Messages, Reader
from txasynchat.timers import Swept, postponed
from txasynchat.transports import end_at_once, may_end_at_once, share_attributes
from txasynchat.watcher import Watcher

__all__ = ("AsyncChat", "PauseReason")


_NEVER_WAITED_FOR = (
    "collect_incoming_data",
    "get_terminator",
    "handle_close",
    "handle_error",
    "handle_message_too_long",
    "handle_timeout",
)

_MAY_WAIT = ("conversation", "found_terminator", "handle_connect", "handle_drain")

_DRAINED = (CloseReason.DRAIN, "the service stops")
_FINISHED = (CloseReason.PEER, "it finished sending")

_UNKNOWN = object()

_OWN_LIMIT: Any = object()  # max_message_length, of the moment

#: The state in which each connection begins.
_BEGINNING = Lifecycle()

# What each connection comes to, by names of their own: an enumeration's attributes are slow
# to get on Python 3.10 and 3.11.
_NEW, _OPEN, _FLUSHING, _CLOSING, _CLOSED = State
_CONNECTED, _FINISH, _CLOSE, _LOST = Event.CONNECTED, Event.FINISH, Event.CLOSE, Event.LOST
_PEER = CloseReason.PEER

#: Seconds before a producer that writes nothing is asked again.
_STALL = 0.1

_Chat = TypeVar("_Chat", bound="AsyncChat")


class PauseReason(str, Enum):
    """Why no input is delivered for a while. Equal to its value, a str."""

    HANDLER_BUSY = "handler busy"
    OUTPUT_FULL = "output full"
    USER_ASKED = "user asked"
    NOBODY_READS = "nobody reads"
    DRAINING = "draining"
    STARTING_TLS = "starting TLS"

    def __str__(self) -> str:
        return self.value


def _in_words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


#: While one of these is busy with the last message, that has not ended.
_BUSY_WITH_A_MESSAGE = frozenset(
    {
        PauseReason.HANDLER_BUSY,
        PauseReason.NOBODY_READS,
        PauseReason.STARTING_TLS,
        PauseReason.USER_ASKED,
    }
)

#: The pauses that a read ends.
_UNTIL_A_READ = frozenset({PauseReason.HANDLER_BUSY, PauseReason.NOBODY_READS})


def _is_secure(transport: Any) -> bool:
    return (
        INegotiated.providedBy(transport)
        or ISSLTransport.providedBy(transport)
        or bool(getattr(transport, "TLS", False))  # a wrapper around one that started it later
    )


def _can_linger(transport: Any) -> bool:
    # A TLS transport says that it is a TCP transport as well, but can't close one half.
    return ITCPTransport.providedBy(transport) and not _is_secure(transport)


def _is_disconnecting(transport: Any) -> bool:
    # After startTLS() the layer that was put in between knows, not the socket.
    layer = getattr(transport, "protocol", None)
    return bool(getattr(layer, "disconnecting", False))


def _let_half_close(told: Any) -> None:
    # What an endpoint wraps around a client's protocol passes the peer's half close on, but
    # says so only of the last interface that it finds: then the whole connection would end.
    if hasattr(told, "readConnectionLost") and IHandshakeListener in directlyProvidedBy(told):
        alsoProvides(told, IHalfCloseableProtocol)


class _Upgrade:
    """What :meth:`AsyncChat.start_tls` waits for; in the output queue until its turn comes."""

    __slots__ = ("_switch", "carry_over", "done", "options", "places")

    def __init__(
        self, options: Any, carry_over: bool, switch: Callable[[_Upgrade], object]
    ) -> None:
        self.options = options
        self.carry_over = carry_over
        self.done: Deferred[None] = BridgedDeferred()
        self.places = 0  # how often it took a place in the queue
        self._switch: Callable[[_Upgrade], object] | None = switch

    @property
    def is_queued(self) -> bool:
        """Whether TLS was not begun yet."""
        return self._switch is not None

    async def more(self) -> bytes:
        # A coroutine begins only when all that came before it in the queue was written.
        switch, self._switch = self._switch, None
        if switch is not None:
            switch(self)
        return b""

    def fail(self, error: Exception) -> None:
        """TLS will not be there."""
        if not self.done.called:
            self.done.errback(error)

    def forget(self) -> None:
        """Whoever wanted to know has been told; nobody has to."""
        self._switch = None
        self.done.addErrback(lambda _: None)


@implementer(IPushProducer, IConsumer, IHalfCloseableProtocol, IHandshakeListener)
class AsyncChat(Protocol, Swept):
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
    #: are joined up to this. As much as Twisted's transports send at once, so no
    #: piece of a large push waits there for another. What goes past the transport,
    #: straight to a socket that has room, may be more.
    ac_out_buffer_size: int = 131072
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
    #: idle. A change takes effect with the next byte. A service looks now and then,
    #: and so may be late by a sixteenth.
    idle_timeout: float | None = None
    #: Seconds that a close waits while no output moves, before the connection is
    #: cut; None for ever. Twisted's HTTP server waits as long.
    close_timeout: float | None = 15

    #: The pieces that :meth:`_collect_incoming_data` kept.
    incoming: list[bytes]

    # Twisted's types: for an ITransport, which to a checker without a plugin has no usable
    # method and lacks most of what transports do; for the other none.
    transport: Any
    connected: int

    _log = Logger()
    _framer: Framer
    _life: Lifecycle
    _output: Output
    # What is not changed in most idle connections is not in each of them.
    _watcher: Watcher | None = None
    _pauses: dict[str, int] | None = None
    _paused: frozenset[PauseReason] = frozenset()
    _shaking_hands = False
    _upgrade: _Upgrade | None = None
    _reader: Reader | None = None  # made when a coroutine reads first
    _pulled = False  # no callback takes the input, only coroutines do
    _answering = False  # a callback that waits is not done
    _peer_finished = False
    _draining = False
    _saying_farewell = False  # handle_drain() is not done
    # The terminator that stood when the first byte was looked at.
    _first_terminator: object = _UNKNOWN
    # Whether there is more to do with input than to deliver it: to look at its beginning,
    # or for the moment at which the connection may end.
    _watches_input = True
    _registered: deque[ProducerDrain] | None = None
    _asking = False
    _is_warned = False
    _told_of_stall = False
    _lingers = False  # the peer may still be sending
    _outgrown: int | None = None  # the limit, while handle_message_too_long() is called
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
        for name in (*_NEVER_WAITED_FOR, *_MAY_WAIT):
            callback = getattr(cls, name)
            if name in _NEVER_WAITED_FOR and iscoroutinefunction(callback):
                raise TypeError(
                    f"{cls.__name__}.{name}() can't be a coroutine function: nothing would wait "
                    "for it. Only found_terminator(), handle_connect() and handle_drain() can"
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
        self._life = _BEGINNING
        self._output = Output(self)
        # Known from the first one on, or CPython gives a dict of its own to each that gets
        # one later: these come with the first bytes, before which many may be made.
        self._watches_input = True
        self._first_terminator = _UNKNOWN
        self.timeOut = None
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

    def conversation(self) -> Awaitable[object] | None:
        """The whole connection as one coroutine: ``async def conversation(self)``.

        Called once :meth:`handle_connect` is done. It gets its input by :meth:`read_until`,
        :meth:`read_exactly`, :meth:`read` and :meth:`messages`, and when it returns the
        connection is closed as by :meth:`close_when_done`. In a class that has one
        :meth:`collect_incoming_data` and :meth:`found_terminator` are not called. The end
        of the input ends it quietly, by :exc:`IncompleteRead`; what else it raises goes
        to :meth:`handle_error`.

        >>> class Greeter(AsyncChat):
        ...     async def conversation(self):
        ...         name = await self.read_until(b"\\r\\n")
        ...         self.push(b"hello, " + name + b"\\r\\n")
        """
        return None

    def handle_drain(self) -> Awaitable[object] | None:
        """The service is to stop: this connection ends when it stands between two messages.

        The place for a word of farewell. May be a coroutine function or return a
        Deferred, as :meth:`found_terminator` may; meanwhile the message under way is
        received and handled, and the connection is not closed before both have ended.
        """
        return None

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
            "{handler} failed, connection to {peer} ends",
            handler=self.handler_name,
            peer=self._peer,
        )
        self.close_when_done()

    def handle_timeout(self) -> None:
        """Nothing came or went for :attr:`idle_timeout` seconds.

        The default closes once what was pushed is sent. An override that does
        not close is called again after the same time.
        """
        self.close_when_done()

    def handle_message_too_long(self) -> None:
        """The message has outgrown :attr:`max_message_length`, or the limit of a read.

        :meth:`collect_incoming_data` got as many bytes as allowed. The default
        logs that and cuts the connection. Where an override does not close, the
        rest of the message is dropped, without :meth:`found_terminator`; its
        end is recognised. Or it sets a different terminator, which judges the rest. What was
        read by a coroutine that did not catch :exc:`MessageTooLong` is still there.
        """
        own = self._outgrown == self.max_message_length
        self._log.error(
            "{handler}: message from {peer} is longer than {limit} bytes, connection is cut; "
            "raise {knob} to allow more",
            handler=self.handler_name,
            peer=self._peer,
            limit=self._outgrown,
            knob=f"{self.handler_name}.max_message_length" if own else "the limit of that read",
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
        # Only where there is more to do with input there is a reader.
        if self._watches_input and self._reader is not None and self._reader.aside is not None:
            self._reader.set_terminator(terminator, max_match)
            return
        self._framer.set_terminator(terminator, max_match)
        if not self._output.corked:
            self._deliver_soon()

    def get_terminator(self) -> Terminator:
        """The current terminator; a number counts down to what is still missing.

        A subclass may override it; it is asked before each look at the input. Whether it is
        overridden, on the class or the object, is looked at when the first input comes.
        """
        return self.terminator

    @property
    def terminator(self) -> Terminator:
        """The current terminator, that of the callbacks. Assigning is :meth:`set_terminator`."""
        aside = None if self._reader is None else self._reader.aside
        return self._framer.terminator if aside is None else aside.terminator

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
        if self._life.state in (_NEW, _OPEN):
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

    # -- Input for coroutines ----------------------------------------------------------

    def read_until(
        self,
        terminator: bytes | tuple[bytes, ...] | Pattern[bytes] | str,
        limit: int | None = _OWN_LIMIT,
        max_match: int | None = None,
    ) -> Deferred[bytes]:
        """Read a message: the bytes before `terminator`, which is dropped.

        What is read is not delivered to the callbacks, which go on behind it. A callback
        that waits, :meth:`found_terminator` say, may read; so may :meth:`conversation`, and
        any other coroutine, one read at a time. Bytes that come between two reads are
        delivered to the callbacks, but for those of a class that has none, or has a
        :meth:`conversation`, and while a callback that waits is not done. Who reads on
        without waiting for anything else reads on where it was.

        :param terminator: what to search for: bytes, a tuple of bytes, a compiled bytes
            regex, as for :meth:`set_terminator`. :attr:`matched` tells what it was.
        :param limit: the longest message in bytes, without its terminator; by default
            :attr:`max_message_length`. None for no limit.
        :param max_match: see :meth:`set_terminator`.
        :return: fires with the bytes. Also awaitable in tasks of asyncio. Fails with
            :exc:`IncompleteRead` when the input ends before, and with :exc:`MessageTooLong`,
            then nothing was read. Cancelled, it has read nothing either.
        :raise RuntimeError: while another read is under way.
        :raise TypeError: for what can't be searched for.
        :raise ValueError: as :meth:`set_terminator` does.
        """
        if isinstance(terminator, str):
            terminator = as_bytes(terminator, self.text_encoding, "the terminator")
        is_plain = type(terminator) is bytes and terminator and max_match is None
        if not is_plain and isinstance(compile_terminator(terminator, max_match), int):
            raise TypeError(
                f"read_until() searches for bytes or a regex, not for {terminator!r}; "
                "read_exactly() reads a number of bytes, read() what comes"
            )
        limit = self.max_message_length if limit is _OWN_LIMIT else limit
        return self._read(terminator, limit, max_match)

    def read_exactly(self, size: int) -> Deferred[bytes]:
        """Read so many bytes; otherwise as :meth:`read_until`.

        :param size: how many, 0 or more. They are kept in memory until all are there.
        """
        if not isinstance(size, int):
            raise TypeError(f"read_exactly() reads a number of bytes, not {size!r}")
        if size < 0:
            raise ValueError(f"read_exactly() can't read {size} bytes")
        if size == 0:
            return succeed(b"")
        return self._read(size, self.max_message_length)  # which does not apply to a count

    def read(self) -> Deferred[bytes]:
        """Read what comes next, or is there: at least one byte, as the transport gave it.

        Fires with ``b""`` when the input has ended; otherwise as :meth:`read_until`.
        """
        return self._read(None, self.max_message_length, at_once=True)

    def messages(
        self,
        terminator: Terminator | str = None,
        limit: int | None = _OWN_LIMIT,
        max_match: int | None = None,
    ) -> Messages:
        """Go through the messages: ``async for message in chat.messages():``.

        It ends with the input. :exc:`IncompleteRead` is raised if that ends in the middle
        of a message.

        :param terminator: see :meth:`read_until`; a number for messages of so many bytes;
            None for what :meth:`get_terminator` says before each of them.
        """
        return Messages(self, terminator, limit, max_match)

    @property
    def max_match(self) -> int | None:
        """The longest match of :attr:`terminator` in bytes, if that is a regex."""
        aside = None if self._reader is None else self._reader.aside
        return self._framer.max_match if aside is None else aside.max_match

    def _read(
        self,
        terminator: Terminator,
        limit: int | None,
        max_match: int | None = None,
        at_once: bool = False,
    ) -> Deferred[bytes]:
        if self._reader is None:
            self._reader = Reader(self, self._framer)
            self._watches_input = True
        return self._reader.begin(terminator, limit, max_match, at_once)

    def read_on(self) -> None:
        """A coroutine reads: what waits is given to it, then the transport brings more."""
        reader, framer = self._reader, self._framer
        assert reader is not None
        if self._life.reason is not None:
            reader.read_what_is_left()
        elif self._output.corked:
            if not reader.is_receiver:
                framer.stop()  # dataReceived() goes on with the reader
        else:
            if self._paused <= _UNTIL_A_READ:
                framer.go()
                self._deliver()  # what waits may be enough
                if self._paused:
                    framer.stop()
            if reader.is_reading or not framer.pending:
                self._resume(PauseReason.NOBODY_READS)
            if reader.is_reading:
                self._resume(PauseReason.HANDLER_BUSY)

    def nobody_reads(self) -> None:
        """Who was given the last bytes does not read on: the callbacks go on, if they may."""
        if not self.is_open:
            return
        if self._pulled:
            if not self._output.corked:
                self._close_if_all_done()
        elif self._answering:
            self._pause(PauseReason.HANDLER_BUSY)
        elif PauseReason.NOBODY_READS in self._paused:
            self._resume(PauseReason.NOBODY_READS)
        elif not self._output.corked and not self._paused:
            self._deliver()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have `call` made in the reactor's next turn."""
        self.callLater(0, call)  # type: ignore[no-untyped-call]

    def _receiver(self) -> Any:
        # Who is given the input now. Nobody, where it waits for a coroutine.
        reader = self._reader
        if reader is None:
            return self
        if reader.is_reading:
            reader.receives(reader.limit)
            return reader
        if self._pulled or reader.is_awaited:
            return None
        reader.end_turn()
        return self

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
        output = self._output
        queue = output.queue
        if queue and data and output.corked:  # one call for each of many small answers
            queue.append(data)
            output.size = size = output.size + len(data)
            if size >= output.enough or len(queue) > MOST_QUEUED_ITEMS:
                output.write()
        elif data:
            output.push(data)

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

    def abort(self) -> None:
        """Cut the connection: what is queued, and what the transport holds, is dropped."""
        self._abort(*self._blame)

    def discard_buffers(self) -> None:
        """Drop the input not yet consumed, what :meth:`_collect_incoming_data` kept,
        and the output not yet given to the transport."""
        self._framer.discard()
        if self._reader is not None:
            self._reader.discard()
        self.incoming.clear()
        self._registered = None
        self._output.discard()
        if self._life.state in (_CLOSING, _CLOSED):
            return  # there is nothing that would still come
        if self._upgrade is not None and self._upgrade.is_queued:
            self._queue_upgrade(self._upgrade)
        if self._life.state is _FLUSHING:
            self._output.push(None)

    @property
    def text_encoding(self) -> str | None:
        """How str is encoded; None where it is refused."""
        return self.encoding if self.use_encoding else None

    def _can_not_send(self, what: str) -> ChatClosed:
        return ChatClosed(f"{what} after the close of {self.handler_name}, ended by {self._end}")

    @property
    def _end(self) -> str:
        detail = self._life.detail
        return f"{self._life.reason}: {detail}" if detail else f"{self._life.reason}"

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
        return self._life.state is _OPEN

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
        if self._life.state is _CLOSED:
            assert self._life.reason is not None
            return succeed(self._life.reason)
        waiting: Deferred[CloseReason] = BridgedDeferred(self._wait_no_more)
        self._closed = self._closed or []
        self._closed.append(waiting)
        return waiting

    def _wait_no_more(self, cancelled: Deferred[CloseReason]) -> None:
        if self._closed and cancelled in self._closed:
            self._closed.remove(cancelled)

    def traffic(self) -> dict[str, Any]:
        """What this connection has done so far, in numbers; a new dict.

        :return: ``bytes_in``, ``bytes_out``: received until a close was decided, and given
            to the transport. ``messages_in``: calls of :meth:`found_terminator`.
            ``messages_out``: what was pushed and not empty, and producers, each one message.
            ``queued_output``: bytes that wait to be sent. ``pauses``: how often the
            input was paused, by the value of the :class:`PauseReason`; none is left out
            that ever was.
        """
        output = self._output
        return {
            "bytes_in": self._framer.received,
            "bytes_out": output.written,
            "messages_in": self._framer.messages,
            "messages_out": output.accepted - (self._upgrade.places if self._upgrade else 0),
            "queued_output": output.size,
            "pauses": dict(self._pauses or ()),
        }

    @property
    def has_begun(self) -> bool:
        """Whether a message has ended; where everything is collected, whether any byte came."""
        framer, reader = self._framer, self._reader
        if framer.messages > 0 or (reader is not None and reader.has_read):
            return True
        return not framer.terminator and framer.received > 0

    @property
    def is_draining(self) -> bool:
        """Whether :meth:`begin_drain` was called while there was something to end."""
        return self._draining

    @property
    def handler_name(self) -> str:
        """The name of this class, for logs."""
        return type(self).__name__

    @property
    def _peer(self) -> str:
        return in_words(None if self.transport is None else self.transport.getPeer())

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
        if reason in self._paused or self._life.state not in (_NEW, _OPEN):
            return
        self._paused |= {reason}
        pauses = self._pauses = self._pauses or {}
        pauses[reason.value] = pauses.get(reason.value, 0) + 1
        self._framer.stop()
        if len(self._paused) == 1:
            self._pause_transport()

    def _pause_transport(self) -> None:
        # A TLS transport needs to read for its handshake, before any input comes.
        if self._life.state is _OPEN and self._paused and not self._shaking_hands:
            self._transport.pauseProducing()

    def _resume(self, reason: PauseReason) -> None:
        if reason not in self._paused:
            return
        self._paused -= {reason}
        if self._paused:
            if self._draining:
                self._drain_on()
            return
        self._framer.go()
        if self._life.state is _OPEN:
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
        drain.stalled = self._producer_stalls
        drain.registerProducer(producer, streaming)
        self._accept(drain)
        if self._registered is None:
            self._registered = deque()
        self._registered.append(drain)
        self._output.push(drain)

    def _producer_stalls(self, drain: ProducerDrain) -> None:
        if not self._told_of_stall:
            self._told_of_stall = True
            self._log.warn(
                "{handler}: {producer} writes nothing, however often it is asked; "
                "it will be asked less often",
                handler=self.handler_name,
                producer=drain.producer_name,
            )
        self.callLater(_STALL, drain.ask_again)  # type: ignore[no-untyped-call]

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
        told = getattr(transport, "protocol", self)
        if told is not self:
            _let_half_close(told)
        if self._life.state is _CLOSED:
            abort(transport)  # closed before it was connected
        else:
            when_peer_is_known(transport, self._open)

    def _open(self) -> None:
        if self._watcher is not None and not self._is_let_in(self._watcher):
            return
        life = self._life.on(_CONNECTED)
        if life is None:
            return  # it was closed while its peer was not known, or by the watcher
        self._life = life
        transport: Any = self.transport
        share_attributes(transport)
        if INegotiated.providedBy(transport):
            self._shaking_hands = self._watches_input = True
        if self.idle_timeout is not None:
            self._touch()
        self.connected = 1
        kind = type(self)
        if kind.conversation is not _conversation or (
            kind.found_terminator is _found_terminator
            and kind.collect_incoming_data is _collect_incoming_data
            and not {"collect_incoming_data", "found_terminator"} & vars(self).keys()
        ):
            self._pulled = True
            self._reader = self._reader or Reader(self, self._framer)
        self._output.attach(transport)
        if self._life.state is _OPEN:
            if self._paused:
                self._pause_transport()
            try:
                self.connectionMade()
            except Exception:
                self._failed()
            self._deliver_soon()

    def _is_let_in(self, watcher: Watcher) -> bool:
        if self._life.state not in (_NEW, _FLUSHING):
            return False  # it was closed while its peer was not known
        if watcher.opened(self):
            return True
        if self._life.reason is None or self._life.state is _FLUSHING:
            self._abort(CloseReason.LIMIT, "refused")
        return False

    def connectionMade(self) -> None:
        """Calls :meth:`handle_connect` and :meth:`conversation`."""
        converses = type(self).conversation is not _conversation
        result = self._converse() if converses else self.handle_connect()
        if result is not None:
            self._settle(result)

    async def _converse(self) -> None:
        try:
            connected = self.handle_connect()
            if isinstance(connected, Awaitable):
                await as_deferred(connected)
            talk = self.conversation() if self.is_open else None
            if isinstance(talk, Awaitable):
                await as_deferred(talk)
        except GeneratorExit:
            raise
        except BaseException:
            self._look_at_outcome(Failure())
        if self._peer_finished:
            self._finish(*_FINISHED)
        else:
            self.close_when_done()

    def dataReceived(self, data: bytes) -> None:
        """Cut `data` into messages. The transport calls this."""
        framer, output = self._framer, self._output
        receiver: Any = self
        ask: Callable[[AsyncChat], Terminator] | None = None
        if (self.timeOut is not None or self.idle_timeout is not None) and data:
            self._touch()
        if self._watches_input or len(data) > self.ac_in_buffer_size:
            looked = self._look_at(data)
            if looked is None:
                return
            data, receiver, ask = looked
        if output.corked:  # from inside a callback: the outer call goes on where it stands
            framer.feed(data)
            return
        received = data
        # What is pushed meanwhile is written as one.
        output.corked, output.unsent = True, False
        try:
            while True:
                try:
                    if receiver is self:
                        framer.deliver(self, data, self.max_message_length, _settle, ask)
                    elif receiver is None:
                        framer.feed(data)
                        break
                    else:
                        self._deliver_to_reader(data)
                    if not framer.stopped or self._paused or not self.is_open:
                        if not (output.queue and framer.pending):
                            break
                        # A coroutine that waited for this may let in what waits behind it.
                        output.write()
                        if self._paused or not framer.pending or not self.is_open:
                            break
                    framer.go()  # it was stopped to go on with somebody else
                    receiver = self._receiver()
                except Exception:
                    self._failed()
                data = b""
        finally:
            if self._life.reason is not None:
                self._uncork_and_end(bool(received))
            else:
                output.corked = False
                if output.queue or output.unsent:
                    output.answer(bool(received))
        if self._life.reason is None or self._life.state is _FLUSHING:
            transport = self.transport
            try:
                closing = transport.disconnecting
            except AttributeError:  # a transport need not have it
                closing = False
            if closing or (
                output.sends_at_once
                and getattr(transport, "TLS", False)
                and _is_disconnecting(transport)
            ):
                # The handler closed the transport: over TLS that takes both. And its layer joins
                # small writes; only this has it pass on those that came after the first call.
                self._transport.loseConnection()
                self.close()
        if self._watches_input:
            if receiver is None and framer.pending:
                self._pause(PauseReason.NOBODY_READS)
            if self._draining:
                self._drain_on()
            if self._peer_finished:
                self._close_if_all_done()

    def _deliver_to_reader(self, data: bytes) -> None:
        reader = self._reader
        assert reader is not None
        ask: Any = self._ask_for_reader if self._draining else None
        self._framer.deliver(reader, data, reader.limit, self._settle_for_reader, ask)

    def _settle_for_reader(self, reader: Any, result: object) -> None:
        self._settle(result)

    def _ask_for_reader(self, reader: Any) -> Terminator:
        self._drain_at(self._framer.terminator)
        return self._framer.terminator

    def _feed_all_but_last(self, data: bytes, size: int) -> bytes:
        last = (len(data) - 1) // size * size
        for start in range(0, last, size):
            self._framer.feed(data[start : start + size])
        return data[last:]

    def handshakeCompleted(self) -> None:
        """A TLS transport is ready for input. ``IHandshakeListener``."""
        self._shaking_hands = False
        self._pause_transport()
        upgrade = self._upgrade
        if upgrade is not None and not upgrade.done.called:
            self._resume(PauseReason.STARTING_TLS)
            upgrade.done.callback(None)

    def readConnectionLost(self) -> None:
        """The peer has finished sending: answer what it sent, then close.
        ``IHalfCloseableProtocol``."""
        self._peer_finished = self._watches_input = True
        if self._life.state is _CLOSING:
            self._transport.loseConnection()
        elif self._is_all_done():
            is_called_back = self._output.corked
            self._output.corked = True
            self._finish(*_FINISHED)
            if not is_called_back:
                self._uncork_and_end(True)

    def writeConnectionLost(self) -> None:
        """The peer reads no more: nothing can be answered. ``IHalfCloseableProtocol``."""
        if self._life.state is not _CLOSING:  # there it is our own doing
            self._abort(CloseReason.PEER, "it reads no more")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: :meth:`handle_close`, once. The transport calls this."""
        if self._life.state is _CLOSING:  # by us, with all that comes before it
            self._life = self._life.on(_LOST) or self._life
        else:
            self._decide(_LOST, _PEER, "" if self._life.reason else reason.getErrorMessage())
            self._release(lost=True)
        was_told, self.connected = self.connected, 0
        if self._close_call is not None:
            self._set_close_timer(None)
        if self.timeOut is not None:
            self.setTimeout(None)
        if self._upgrade is not None:
            self._upgrade.fail(ChatClosed(f"the connection ended before TLS: {self._end}"))
        if was_told:
            try:
                self.handle_close()
            except Exception:
                self._log.failure("{handler}.handle_close() failed", handler=self.handler_name)
                self._count_failure()
        self._gone()
        watcher = self._watcher
        if watcher is not None:
            self._watcher = None
            watcher.ended(self)

    # -- Delivery ----------------------------------------------------------------------------

    def _deliver(self) -> None:
        # What is there, when nothing new has come.
        if self.is_open:
            AsyncChat.dataReceived(self, b"")

    def _deliver_soon(self) -> None:
        # A terminator, or input, that came from outside of a callback: what waits
        # for it must not wait for the peer as well.
        if self._output.corked or not (self._framer.pending or self._draining):
            return
        if self.is_open and not self._paused:
            self.callLater(0, self._deliver)  # type: ignore[no-untyped-call]

    def _look_at(
        self, data: bytes
    ) -> tuple[bytes, Any, Callable[[AsyncChat], Terminator] | None] | None:
        # Before input is delivered, while there is more to do with it than that. Answers what
        # is left of it, who receives it, and whom the framer asks for the terminator; None
        # if nobody is to receive it.
        framer = self._framer
        if framer.stopped and not self.is_open:
            self._lingers = True
            return None  # what a peer sent behind its QUIT is not executed
        if data:
            if self._shaking_hands:
                self.handshakeCompleted()  # a wrapper in between may not have passed it on
            if len(data) > self.ac_in_buffer_size:
                data = self._feed_all_but_last(data, self.ac_in_buffer_size)
        if self._output.corked:
            return data, self, None
        receiver = self if self._reader is None else self._receiver()
        if self._pulled and not self._draining and self._first_terminator is not _UNKNOWN:
            return data, receiver, None  # no callback is asked for anything
        # Overridden on the class or on the instance? (A look into __dict__ would
        # make the interpreter's calls of this instance's methods slower for good.)
        own = getattr(self.get_terminator, "__func__", None) is _get_terminator
        if receiver is not self and not (self._pulled and receiver):
            return data, receiver, None if own else _ask_terminator
        if receiver is not self:
            own = True  # a read has said what it is
        if own and self._first_terminator is _UNKNOWN and not self._draining:
            if framer.stopped or not (data or framer.pending):
                return data, receiver, None
            self._first_terminator = framer.terminator
            if not framer.was_set:
                self._warn_of_no_terminator()
        self._watches_input = bool(
            self._draining
            or self._peer_finished
            or self._reader is not None
            or self._shaking_hands
            or not own
        )
        if self._draining:
            return data, receiver, _ask_and_drain
        return data, receiver, None if own else _ask_terminator

    def _warn_of_no_terminator(self) -> None:
        kind = type(self)
        if "_is_warned" not in vars(kind):
            kind._is_warned = True
            self._log.warn(
                "{handler} never called set_terminator(): everything is collected, "
                "found_terminator() is never called",
                handler=self.handler_name,
            )

    def _ask_terminator(self) -> Terminator:
        self._asking = True
        terminator: Terminator | str = self.get_terminator()
        if isinstance(terminator, str):
            terminator = as_bytes(terminator, self.text_encoding, "the terminator")
        compile_terminator(terminator)  # a bad answer is an error of the method as well
        self._asking = False
        if self._first_terminator is _UNKNOWN:
            self._first_terminator = terminator
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

        self._answering = True
        as_deferred(result).addBoth(done)
        if not results:
            waits = True
            if not (self._pulled or (self._reader is not None and self._reader.is_reading)):
                self._pause(PauseReason.HANDLER_BUSY)
        else:
            self._answering = False
            self._look_at_outcome(results[0])

    def _handler_done(self, outcome: Any) -> None:
        self._answering = False
        self._look_at_outcome(outcome)
        if self._reader is not None:
            self._reader.let_go()
        if not self._answering:  # what was let go may have reached a callback that waits as well
            self._resume(PauseReason.HANDLER_BUSY)

    def _look_at_outcome(self, outcome: Any) -> None:
        # Whatever a Deferred failed with, asyncio's CancelledError too, is an error here;
        # but for the end of the connection, which is no news after it.
        if not isinstance(outcome, Failure):
            return
        if self._reader is not None and outcome.value is self._reader.error:
            # Of the peer's making: its input ended, or does not end.
            if self.is_open and isinstance(outcome.value, MessageTooLong):
                try:
                    self.message_too_long(outcome.value.limit)
                except Exception:
                    self._failed()
        elif self.is_open or not outcome.check(ChatClosed):
            try:
                outcome.raiseException()
            except BaseException:
                self._failed()

    # -- The end of the service ---------------------------------------------------------------

    def begin_drain(self) -> None:
        """The service is to stop: end this connection when it stands between two messages.

        :meth:`handle_drain` is called at once. What was begun is still received, handled
        and answered: the connection is closed, as by :meth:`close_when_done`, once no byte
        of a message was delivered, no callback is waited for and nobody has paused the input,
        and the terminator is that of the first message again; so in a protocol of lines and
        counted bodies it does not end between the two. What has come behind that message
        is not delivered any more.

        Called again, or on a connection that is closing, it does nothing.
        """
        if self._draining or self._life.reason is not None:
            return
        self._draining = self._watches_input = True
        if self._life.state is _NEW:
            self._close(*_DRAINED)
            return
        self._saying_farewell = True
        if self._output.corked:  # the callback that is being made has to return first
            self._pause(PauseReason.DRAINING)
        result = None
        with self._blaming(*_DRAINED):
            try:
                result = self.handle_drain()
            except Exception:
                self._failed()
        if isinstance(result, Awaitable):
            as_deferred(result).addBoth(self._farewell_said)
        else:
            self._saying_farewell = False
        self._drain_on()

    def _farewell_said(self, outcome: Any) -> None:
        self._saying_farewell = False
        self._look_at_outcome(outcome)
        self._drain_on()

    def _drain_on(self) -> None:
        # Ends a connection that is to end, if it may, or lets it go on to where it may.
        if not self._draining or not self.is_open or self._output.corked:
            return
        try:
            terminator = self._terminator_now()
        except Exception:
            self._failed()
        else:
            self._drain_at(terminator)

    def _terminator_now(self) -> Terminator:
        if self._reader is not None and self._reader.is_reading:
            return self._framer.terminator
        own = getattr(self.get_terminator, "__func__", None) is _get_terminator
        return self._framer.terminator if own else self._ask_terminator()

    def _drain_at(self, terminator: Terminator) -> None:
        reading = self._reader is not None and self._reader.is_reading
        if (
            self._paused & _BUSY_WITH_A_MESSAGE
            or (self._answering and not (self._pulled and reading))
            or not self._is_between_messages
            or (self._first_terminator not in (_UNKNOWN, terminator))
        ):
            self._resume(PauseReason.DRAINING)
        elif self._saying_farewell:
            self._pause(PauseReason.DRAINING)
        else:
            self._finish(*_DRAINED)

    @property
    def _is_between_messages(self) -> bool:
        reader = self._reader
        return (self._framer if reader is None else reader).is_between_messages

    def _ask_and_drain(self) -> Terminator:
        terminator = self._terminator_now()
        self._drain_at(terminator)
        return terminator

    # -- Security -----------------------------------------------------------------------------

    def start_tls(self, options: Any, carry_over: bool = False) -> Deferred[None]:
        """Go on over TLS: the command that agrees on it was received, or answered.

        No input is delivered from now on until the connection is secure. All that was pushed
        before is sent as it is, and all that is pushed afterwards is encrypted. Who was
        connected to is the TLS server, who connected is the client.

        Input that waits behind the command came from nobody knows whom. Then none of it is
        delivered, the connection is cut, and the Deferred fails with
        :exc:`PlaintextAfterStartTLS`; that is logged once. So there is
        nothing that a handler has to do against it.

        :param options: ``twisted.internet.ssl.CertificateOptions`` or another context factory
            or connection creator; for a client ``optionsForClientTLS(hostname)``.
        :param carry_over: whether input that waits is the peer's first word of TLS, behind
            a header with no answer, and handed on as such.
        :return: fires when the connection is secure; fails with :exc:`ChatClosed` if it ends
            before. It may be ignored, or waited for in :meth:`found_terminator`.
        :raise ChatClosed: if the connection is closing or closed.
        :raise RuntimeError: if it is not connected, is secure already, or about to be.
        :raise TypeError: if its transport has no ``startTLS()``, or the options can't be used.
        """
        self._check_start_tls(options)
        upgrade = self._upgrade = _Upgrade(options, carry_over, self._switch_to_tls)
        self._pause(PauseReason.STARTING_TLS)
        if carry_over or not self._refuse_plaintext(upgrade):
            self._queue_upgrade(upgrade)
        return upgrade.done

    def _queue_upgrade(self, upgrade: _Upgrade) -> None:
        upgrade.places += 1
        self._output.push(upgrade)

    def _check_start_tls(self, options: Any) -> None:
        if self._life.reason is not None:
            raise self._can_not_send("start_tls()")
        if self._life.state is _NEW:
            raise RuntimeError("start_tls() before the connection is made")
        if self._upgrade is not None:
            raise RuntimeError("start_tls() was called already")
        kind = type(self.transport).__name__
        if _is_secure(self.transport):
            raise RuntimeError(f"start_tls() over {kind}, which is secure already")
        if not (ITLSTransport.providedBy(self.transport) or hasattr(self.transport, "startTLS")):
            raise TypeError(f"start_tls() over {kind}, which has no startTLS()")
        client = getattr(self.transport, "_tlsClientDefault", None)
        if client is None:
            client = IOpenSSLClientConnectionCreator.providedBy(options)
        creator = IOpenSSLClientConnectionCreator if client else IOpenSSLServerConnectionCreator
        if not (creator.providedBy(options) or hasattr(options, "getContext")):
            side = "client" if client else "server"
            raise TypeError(f"start_tls() can't use {options!r} for a TLS {side}")

    def _refuse_plaintext(self, upgrade: _Upgrade) -> bool:
        # Input that belongs to no message yet, or pieces of a message that were delivered.
        waiting = len(self._framer.unread)
        if not waiting and self._is_between_messages:
            return False
        error = PlaintextAfterStartTLS(
            f"{waiting} bytes of plaintext wait behind the command that starts TLS"
            if waiting
            else "TLS is started in the middle of a message"
        )
        self._log.error(
            "{handler}: connection to {peer} is cut: {error}",
            handler=self.handler_name,
            peer=self._peer,
            error=str(error),
        )
        self._count_failure(Failure(error))
        self._abort(CloseReason.ERROR, _in_words(error))
        upgrade.fail(error)
        return True

    def _switch_to_tls(self, upgrade: _Upgrade) -> None:
        # All that was pushed before start_tls() was given to the transport.
        carried = b""
        if upgrade.carry_over:
            carried, self._framer.unread = self._framer.unread, b""
        queue = self._output.queue  # this upgrade is its first item still
        if self._life.reason is not None and len(queue) > 1 and queue[1] is None:
            return  # nothing to protect; the end of a TLS without a word drops what came before
        if self._life.reason is None and self._refuse_plaintext(upgrade):
            return
        if self._peer_finished:
            self._close(*_FINISHED)
            return
        transport = self._transport
        try:
            self._output.switch(lambda: transport.startTLS(upgrade.options))
        except Exception as error:
            upgrade.fail(error)
            self._failed()
            self._abort(CloseReason.ERROR, _in_words(error))
            return
        self._shaking_hands = self._watches_input = True
        transport.resumeProducing()  # to shake hands; plaintext is read no more
        if carried:
            transport.protocol.dataReceived(carried)

    # -- Told by the output --------------------------------------------------------------------

    def output_moved(self, progress: bool) -> None:
        """The queue has changed; with `progress` the transport took something of it."""
        if progress and (self.idle_timeout is not None or self.timeOut is not None):
            self._touch()
        if self._life.reason is not None:
            if self._life.state is _FLUSHING and (progress or self._close_call is None):
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
        if self._life.state is _FLUSHING:
            self._life = self._life.on(Event.FAIL, CloseReason.ERROR, words) or self._life
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

    def message_too_long(self, limit: int | None = None) -> None:
        """Calls :meth:`handle_message_too_long`, for the framer or a read with that limit."""
        self._outgrown = self.max_message_length if limit is None else limit
        detail = f"message over {self._outgrown} bytes"
        self._count_limit("max_message_length", detail)
        with self._blaming(CloseReason.LIMIT, detail):
            self.handle_message_too_long()
        self.incoming.clear()

    def timeoutConnection(self) -> None:
        """Calls :meth:`handle_timeout`, unless it is the handler that holds the input up."""
        if not self.is_open:
            return
        reading = self._reader is not None and self._reader.is_reading
        held_up = self._paused & (_UNTIL_A_READ | {PauseReason.USER_ASKED}) or (
            self._answering and not reading
        )
        if not held_up or PauseReason.STARTING_TLS in self._paused:  # then it waits for the peer
            detail = f"idle for {self.idle_timeout} s"
            self._count_limit("idle_timeout", detail)
            with self._blaming(CloseReason.TIMEOUT, detail):
                try:
                    self.handle_timeout()
                except Exception:
                    self._failed()
        if self.is_open:
            self.setTimeout(self.idle_timeout)

    def _touch(self) -> None:
        timeout = self.idle_timeout
        if self.timeOut != timeout:
            if self._life.state is _OPEN:
                self.setTimeout(timeout)
        elif timeout is not None:
            self.resetTimeout()

    def _failed(self) -> None:
        # Called while an exception of a callback is handled.
        if self._life.reason is not None:  # a close was decided: no more callbacks
            self._log.failure(
                "{handler} failed after its connection was closed", handler=self.handler_name
            )
            self._count_failure()
        else:
            self._call_handle_error()

    def _count_failure(self, failure: Failure | None = None) -> None:
        if self._watcher is not None:
            self._watcher.failed(self, failure or Failure())

    def _count_limit(self, limit: str, detail: str) -> None:
        if self._watcher is not None:
            self._watcher.limited(self, limit, detail)

    def _call_handle_error(self) -> None:
        self._count_failure()
        with self._blaming(CloseReason.ERROR, _in_words(sys.exc_info()[1])):
            try:
                self.handle_error()
            except Exception:
                self._log.failure("{handler}.handle_error() failed", handler=self.handler_name)
                self._count_failure()
                self._abort(*self._blame)
            if self._asking:
                # Without its terminator the input can't be judged.
                self._asking = False
                self.close_when_done()

    def _finish(self, reason: CloseReason, detail: str) -> None:
        if self._decide(_FINISH, reason, detail):
            self._output.push(None)

    def _decide(self, event: Event, reason: CloseReason, detail: str) -> bool:
        # The connection ends, or gets on with it. The first such event stops the input.
        before, after = self._life, self._life.on(event, reason, detail)
        if after is None:
            return False
        self._life = after
        if before.reason is None:
            self._watches_input = True
            self._stop_input()
        return True

    def _close(self, reason: CloseReason, detail: str) -> None:
        if not self._decide(_CLOSE, reason, detail):
            return
        self._release()
        transport: Any = self.transport
        if transport is None:
            self._end_unconnected()
        elif self._lingers and not self._peer_finished and _can_linger(transport):
            # A socket closed with unread input resets the connection, and takes
            # with it what was sent. So the peer sees our end first, what it still
            # sends is dropped, and its end, or the timer, closes the socket.
            self._set_close_timer(self.close_timeout)
            transport.loseWriteConnection()
        else:
            transport.loseConnection()
            if not (self._output.corked and may_end_at_once(transport)):
                self._watch_close()

    def _uncork_and_end(self, at_once: bool) -> None:
        # All callbacks have returned, and a close was decided meanwhile. A transport, told to
        # close, sends what is left and closes in its next turn. While it reads (`at_once`) it
        # need not wait for that; and mostly nothing is left then to be watched by a timer.
        output, transport = self._output, self.transport
        output.write()
        output.corked = False
        if output.queue:  # of a producer that broke meanwhile the end is left, to be met
            output.write()
        if self._life.state is _CLOSING and may_end_at_once(transport):
            if at_once:
                end_at_once(transport)
            if transport.disconnecting:
                self._watch_close()

    def _watch_close(self) -> None:
        if self._life.state is _CLOSING:
            self._set_close_timer(self.close_timeout)

    def _abort(self, reason: CloseReason, detail: str) -> None:
        self._decide(_CLOSE, reason, detail)
        self._release()
        if self.transport is not None:
            abort(self.transport)
        elif self._life.state is not _CLOSED:
            self._end_unconnected()

    def _end_unconnected(self) -> None:
        # Closed before there was a transport to tell of it.
        self._life = self._life.on(Event.LOST) or self._life
        self._gone()

    def _release(self, lost: bool = False) -> None:
        # The one place where a connection lets go of what it holds, before the
        # transport is closed.
        if self._registered is not None:
            self._registered = None
        self._output.detach(lost)

    def _stop_input(self) -> None:
        # What a paused transport has not read may be more input, as is what is left.
        framer = self._framer
        if self._paused or framer.pending:
            self._lingers = True
        framer.stop()
        if self._reader is None or self._life.reason is not _PEER:
            framer.discard()  # otherwise a coroutine may read what came
        if self.timeOut is not None:
            self.setTimeout(None)
        if self._paused:
            self._paused = frozenset()
            if self._life.state is not _CLOSED and self.transport is not None:
                # What still comes is read and dropped, so that the peer's end is
                # seen; TLS needs to read to close.
                self._transport.resumeProducing()
        if self._reader is not None:
            self._reader.read_what_is_left()

    def _gone(self) -> None:
        reason = self._life.reason
        assert reason is not None
        if self._upgrade is not None:
            self._upgrade.forget()
        waiting = self._closed
        if waiting is not None:
            self._closed = None
            for each in waiting:
                if not each.called:  # one that waits may cancel another
                    each.callback(reason)

    def _close_if_all_done(self) -> None:
        if self._is_all_done():
            self._finish(*_FINISHED)

    def _is_all_done(self) -> bool:
        # The peer has finished sending: was all of that dealt with?
        if not self._peer_finished or self._paused or not self.is_open:
            return False
        if self._framer.pending:
            return False
        reader = self._reader
        if reader is None:
            return True
        reader.fail_at_end()
        return not (self._answering or reader.is_reading or reader.is_awaited)

    def _set_close_timer(self, seconds: float | None) -> None:
        self._close_call = postponed(
            self._close_call, seconds, self.callLater, self._close_timed_out
        )

    def _close_timed_out(self) -> None:
        if self._life.state is _FLUSHING:
            cut = f"without progress, {self._output.size} queued bytes not sent"
        else:
            cut = "in which the peer did not close"
        cut = f"cut after {self.close_timeout} s {cut}"
        self._count_limit("close_timeout", cut)
        detail = self._life.detail
        self._life = self._life.described(f"{detail}; {cut}" if detail else cut)
        self._abort(*self._blame)


_collect_incoming_data = AsyncChat.collect_incoming_data
_conversation = AsyncChat.conversation
_found_terminator = AsyncChat.found_terminator

# For each chunk received: names of a module are had faster than attributes of a class,
# and functions faster than methods bound to a connection.
_get_terminator = AsyncChat.get_terminator
_ask_and_drain = AsyncChat._ask_and_drain
_ask_terminator = AsyncChat._ask_terminator
_settle = AsyncChat._settle
