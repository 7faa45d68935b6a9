"""The drop-in for the ``asynchat`` module that Python 3.12 removed.

Same names, signatures and order of events, as documented for Python 3.11, and what
the documentation of 2.6 had besides. What differs on purpose is numbered in
``docs/differences.md``. For new code there is :class:`txasynchat.AsyncChat`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import MethodType
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IConsumer
from zope.interface import classImplements, implementer

from txasynchat import asyncore
from txasynchat.core.framing import Framer, ignore
from txasynchat.core.outbox import BytesLike, MoreProducer, as_bytes, fifo, simple_producer
from txasynchat.core.terminators import Terminator, find_prefix_at_end
from txasynchat.legacy.readiness import OUT
from txasynchat.legacy.watches import SoftSocket, queue_predicates, quiet_predicates

if TYPE_CHECKING:
    from abc import abstractmethod as _abstract

    from twisted.internet.defer import Deferred

    from txasynchat.producers import ProducerDrain
else:

    def _abstract(function):
        # For type checkers only: some programs override handle_read() instead.
        return function


__all__ = ("async_chat", "fifo", "find_prefix_at_end", "simple_producer")

_NEVER_SET: Any = object()

#: Locks of channels that are being given one, by the channel's id.
_new_locks: dict[int, Any] = {}

_making_a_queue = threading.Lock()

_NOT_NOW: tuple[type[OSError], ...] = (BlockingIOError, *asyncore._TLS_WAITS)

#: So many items are sent at once, while the socket takes all; then others have their turn.
#: Who fills a socket and then waits takes less of the system's time than who gives it a piece
#: whenever there is a little room.
_SENDS_IN_A_TURN = 8

#: What stands in the queue for itself; anything else but None is a producer.
_BYTES_OR_TEXT = (bytes, bytearray, memoryview, str)
_NO_PRODUCER = (*_BYTES_OR_TEXT, type(None))


class _WithDefault(property):
    """A property of a class that has a value written in its body under that name.

    Read from the class it is that value, as for any class attribute.
    """

    default: Any = None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.default if instance is None else super().__get__(instance, owner)


class _Asked:
    """``get_terminator()``: an object that is given one of its own is asked from then on.

    So nobody has to look, with each chunk, whether it has.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __get__(self, channel: Any, kind: type | None = None) -> Any:
        if channel is None:
            return self._function
        return channel._txa_get_terminator or MethodType(self._function, channel)

    def __set__(self, channel: Any, function: Any) -> None:
        channel._txa_get_terminator = function
        channel._txa_overridden = channel._txa_asks = True

    def __delete__(self, channel: Any) -> None:
        if channel._txa_get_terminator is None:
            raise AttributeError("get_terminator")
        channel._txa_get_terminator = None


#: Where a program has a property ``producer_fifo``: that is where its queue is.
_OWN_QUEUE = property(
    lambda channel: channel.producer_fifo,
    lambda channel, _: setattr(channel, "producer_fifo", deque()),
)


@implementer(IConsumer)
class _Consumer:
    """An async_chat as Twisted's producers know it: their writes take the next place."""

    def __init__(self, channel: async_chat) -> None:
        self._channel = channel

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        from txasynchat.producers import ProducerDrain

        drain = ProducerDrain()
        drain.registerProducer(producer, streaming)
        self._channel._txa_registered += (drain,)
        self._channel._txa_adapted += (drain,)
        self._channel.push_with_producer(drain)

    def unregisterProducer(self) -> None:
        if self._channel._txa_registered:
            first, *others = self._channel._txa_registered
            self._channel._txa_registered = tuple(others)
            first.unregisterProducer()

    def write(self, data: bytes) -> None:
        if self._channel._txa_registered:
            self._channel._txa_registered[0].write(data)
        else:
            self._channel.push(data)


def _of_consumer(channel: async_chat, name: str) -> Any:
    return getattr(_Consumer(channel), name)


def _of_framer(channel: async_chat, name: str) -> Any:
    return channel._txa_too_long


class async_chat(asyncore.dispatcher):
    """A channel for command and response protocols.

    Override ``collect_incoming_data()`` and ``found_terminator()``.

    :param sock: a connected socket, or None.
    :param map: the map to enter; ``asyncore.socket_map`` if None.
    :cvar ac_in_buffer_size: how much to receive at once, in bytes.
    :cvar ac_out_buffer_size: how much to send at once, in bytes.
    :cvar use_encoding: whether terminators, and what producers give, may be str.
    :cvar encoding: how to encode that.
    :ivar incoming: what ``_collect_incoming_data()`` has collected.
    :ivar producer_fifo: what is to be sent: bytes, producers, None for the end.
    :ivar ac_out_buffer: what is to be sent before that; empty unless a program
        uses it, as those for Python 2 do.

    >>> import socket
    >>> class Shout(async_chat):
    ...     def collect_incoming_data(self, data): self._collect_incoming_data(data)
    ...     def found_terminator(self): self.push(self._get_data().upper() + b"!")
    >>> ours, theirs = socket.socketpair()
    >>> channel = Shout(ours)
    >>> channel.set_terminator(b".")
    >>> theirs.send(b"hello.")
    6
    >>> asyncore.loop(count=1)
    >>> theirs.recv(100)
    b'HELLO!'
    >>> channel.close(); theirs.close()
    """

    ac_in_buffer_size: int = 65536
    ac_out_buffer_size: int = 65536
    use_encoding: int = 0
    encoding: str = "latin-1"
    ac_out_buffer: bytes = b""
    incoming: list[bytes]

    # Whether get_terminator() is to be asked before each look at the input: there never
    # was a terminator, or a bad one, or it, or a property that it needs, is somebody else's.
    _txa_asks = True
    _txa_overridden = False
    _txa_get_terminator: Any = None
    _txa_terminator: Any = _NEVER_SET
    _txa_bad_terminator: Exception | None = None
    _txa_framing: Framer | None = None
    _txa_refills = False
    _txa_lock: Any = None
    _txa_producer_fifo: Any = None
    _txa_sending = False
    _txa_gatherer: Any = None
    _txa_awaited: Deferred[Any] | None = None
    _txa_adapted: tuple[MoreProducer, ...] = ()
    _txa_registered: tuple[ProducerDrain, ...] = ()
    # Over a TransportSocket: the longest message; where a drain looks for the end of one;
    # whether it counts what is pushed, and how much that was, beside what was gathered.
    _txa_limit: int | None = None
    _txa_look_for_boundary: Any = None
    _txa_counts = False
    _txa_pushes = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Subclasses may have a plain ``terminator`` or ``ac_in_buffer`` in their body, or
        ``producer_fifo``; and properties of these names."""
        super().__init_subclass__(**kwargs)
        cls._txa_refills = cls.refill_buffer is not async_chat.refill_buffer
        cls._txa_overridden = cls.get_terminator is not async_chat.get_terminator
        for name in ("terminator", "ac_in_buffer", "producer_fifo"):
            ours: property = vars(async_chat)[name]
            found = next(vars(each)[name] for each in cls.__mro__ if name in vars(each))
            if not isinstance(found, property):
                default = _WithDefault(ours.fget, ours.fset, doc=ours.__doc__)
                default.default = found
                setattr(cls, name, default)
                setattr(cls, f"_txa_{name}", found)
            elif found is not ours and not isinstance(found, _WithDefault):
                if name == "producer_fifo":
                    cls._txa_producer_fifo = _OWN_QUEUE
                else:
                    cls._txa_overridden = True

    def __init__(
        self, sock: asyncore.Socket | None = None, map: dict[int, Any] | None = None
    ) -> None:
        self.ac_in_buffer = b""
        self.incoming = []
        self.ac_out_buffer = b""
        # Here, although the class has them: a dict that grows later is no longer shared by all;
        # and what each event asks for is had faster from the object than from its class. Few,
        # as an object with thirty, the program's own among them, has a dict to itself.
        self._txa_producer_fifo = None
        self._txa_gatherer = self._txa_lock = None
        self._txa_sending = self._txa_counts = False
        self._txa_limit = None
        self._txa_look_for_boundary = None
        asyncore.dispatcher.__init__(self, sock, map)

    # -- Input ----------------------------------------------------------------------

    @_abstract
    def collect_incoming_data(self, data: bytes) -> None:
        """A piece of the current message has come; never empty."""
        raise NotImplementedError("must be implemented in subclass")

    @_abstract
    def found_terminator(self) -> None:
        """The current message has ended."""
        raise NotImplementedError("must be implemented in subclass")

    def _collect_incoming_data(self, data: bytes) -> None:
        self.incoming.append(data)

    def _get_data(self) -> bytes:
        data = b"".join(self.incoming)
        del self.incoming[:]
        return data

    def set_terminator(self, term: bytes | int | None) -> None:
        """Set what ends the message: bytes, a number of bytes, or None for nothing.

        All kinds that :meth:`txasynchat.AsyncChat.set_terminator` takes are taken,
        and str with ``use_encoding``; the annotation is typeshed's. One that can't
        be a terminator is complained of when data comes.

        :raise ValueError: for a negative number.
        """
        given: Any = term
        if isinstance(given, str) and self.use_encoding:
            given = given.encode(self.encoding)
        elif isinstance(given, int) and given < 0:
            raise ValueError("the number of received bytes must be positive")
        self.terminator = given

    def get_terminator(self) -> bytes | int | None:
        """The current terminator; a number of bytes counts down to 0."""
        return self.terminator  # type: ignore[no-any-return]

    @property
    def terminator(self) -> Any:
        """The current terminator, as :meth:`get_terminator` returns it.

        :raise AttributeError: if there never was one.
        """
        if self._txa_terminator is _NEVER_SET:
            raise AttributeError(
                f"{type(self).__name__!r} object has no terminator: call set_terminator()"
            )
        counted = self._txa_framer.terminator
        return counted if isinstance(counted, int) else self._txa_terminator

    @terminator.setter
    def terminator(self, term: Any) -> None:
        self._txa_terminator = term
        framer = self._txa_framing
        if framer is None:
            framer = self._txa_framer_made()
        try:
            framer.set_terminator(term or None)
        except (TypeError, ValueError) as error:
            framer.set_terminator(None)
            framer.stop()
            self._txa_bad_terminator = error
            self._txa_asks = True
        else:
            if self._txa_asks:
                self._txa_bad_terminator = None
                self._txa_asks = self._txa_overridden

    @property
    def ac_in_buffer(self) -> bytes:
        """The input not yet consumed. May be assigned."""
        return self._txa_framer.unread

    @ac_in_buffer.setter
    def ac_in_buffer(self, data: BytesLike | str) -> None:
        if type(data) is bytes and not data and self._txa_framing is None:
            return  # the constructor's: there is nothing to clear
        # "" is what programs for Python 2 clear it with.
        encoding = "ascii" if data == "" else self._txa_encoding
        self._txa_framer.unread = as_bytes(data, encoding, "what is assigned to ac_in_buffer")

    @property
    def _txa_framer(self) -> Framer:
        if self._txa_framing is None:
            self._txa_framer_made()
            if self._txa_terminator is not _NEVER_SET:
                self.terminator = self._txa_terminator
        return self._txa_framing  # type: ignore[return-value]

    def _txa_framer_made(self) -> Framer:
        if type(self).get_terminator is not _get_terminator:  # since the class was made, maybe
            self._txa_overridden = True
        framer = self._txa_framing = Framer(joins=True)
        return framer

    @property
    def _txa_encoding(self) -> str | None:
        return self.encoding if self.use_encoding else None

    def handle_read(self) -> None:
        """Receive, and deliver what has come."""
        try:
            data = self.recv(self.ac_in_buffer_size)
        except _NOT_NOW:
            return
        except OSError:
            asyncore._handle_error(self)
            return
        if type(data) is not bytes:
            data = as_bytes(data or b"", self._txa_encoding, "what recv() returned")
        framer = self._txa_framing
        if framer is None:
            framer = self._txa_framer
        if framer.stopped:
            if self._txa_closed:
                framer.feed(data)
                return
            framer.go()
        ask: Any = _ask if self._txa_asks else None
        framer.deliver(self, data, self._txa_limit, ignore, ask)  # type: ignore[arg-type]
        # Stopped by a close, by output that has no room, or by a callback that has set
        # what can't be a terminator: that is complained of if there is more to judge by it.
        while framer.stopped and framer.pending:
            if self._txa_closed or framer is not self._txa_framing:
                return
            if self._txa_counts and self._txa_puts_back(framer):
                break
            framer.go()
            ask = _ask if self._txa_asks else None
            framer.deliver(self, b"", self._txa_limit, ignore, ask)  # type: ignore[arg-type]
        if self._txa_look_for_boundary is not None:
            self._txa_look_for_boundary()

    def _txa_holds_back(self) -> None:
        # Something waits: is it so much that no more messages are delivered?
        sock: Any = self.socket
        if isinstance(sock, SoftSocket) and sock.holds_back():
            self._txa_framer.stop()

    def _txa_puts_back(self, framer: Framer) -> bool:
        # The socket gives it again when there is room. Nothing at all would be the peer's end:
        # where only a callback is owed, that is made.
        sock: Any = self.socket
        unread = framer.unread
        if not unread or not isinstance(sock, SoftSocket) or not sock.holds_back():
            return False
        sock.put_back(unread)
        framer.unread = b""
        return True

    def _txa_too_long(self) -> None:
        # The framer's limit is set for a TransportSocket only, which sees to the rest.
        self._txa_framer.discard()
        sock: Any = self.socket
        if isinstance(sock, SoftSocket):
            sock.message_too_long()

    def _txa_ask(self) -> Terminator:
        if self._txa_terminator is not _NEVER_SET:
            self._txa_terminator = self.terminator  # counted down, if it counts
        term: Any = self.get_terminator()
        if self._txa_bad_terminator is not None and term is self._txa_terminator:
            self._txa_framer.stop()  # a delivery around this one does not ask
            raise self._txa_bad_terminator
        if isinstance(term, int) and term > 0 and term != self._txa_framer.terminator:
            self._txa_framer.set_terminator(term)  # a new count, even if it is the same number
        return term or None

    def _txa_opened_again(self) -> None:
        # Another connection: what the last one left is none of its business, nor
        # is a delivery that is still under way in some callback.
        if self._txa_framing is not None and self._txa_terminator is not _NEVER_SET:
            self._txa_terminator = self.terminator
        self._txa_framing = None
        self._txa_limit = self._txa_look_for_boundary = None
        self._txa_counts = False

    def _txa_ended(self) -> None:
        (self._txa_framing or self._txa_framer).stop()
        if self._txa_awaited is not None or self._txa_adapted or self._txa_registered:
            self._txa_drop_output(self._txa_adapted)

    # -- Output ---------------------------------------------------------------------

    @property
    def producer_fifo(self) -> Any:
        """What is to be sent: bytes, producers, None for the end."""
        queue = self._txa_producer_fifo
        return self._txa_make_queue() if queue is None else queue

    @producer_fifo.setter
    def producer_fifo(self, queue: Any) -> None:
        self._txa_producer_fifo = queue

    def _txa_make_queue(self) -> Any:
        # Made for who needs one, as it takes as much memory as half a bare Protocol's
        # connection. Two threads may come here at once.
        with _making_a_queue:
            if self._txa_producer_fifo is None:
                self._txa_producer_fifo = deque()
            return self._txa_producer_fifo

    def push(self, data: bytes) -> None:
        """Send data behind what was pushed before; what the socket takes, at once.

        May be called from any thread: it is the calling one that sends.

        :raise TypeError: if it is not bytes, a bytearray or a memoryview.
        """
        given: Any = data
        # Where a TransportSocket gathers the answers to a chunk, straight to it. send() is
        # looked at each time: a callback may have set another.
        gatherer = self._txa_gatherer
        if (
            gatherer is not None
            and not (self._txa_producer_fifo or self.ac_out_buffer)
            and (type(send := self.send) is MethodType and send.__func__ is _send)
            and (self.socket is gatherer and self.connected)
            and type(given) is bytes
            and gatherer.gather(given)  # type: ignore[union-attr]
        ):
            return
        if type(given) is not bytes and not isinstance(given, bytes):
            if not isinstance(given, (bytearray, memoryview)):
                raise TypeError(f"push() takes bytes, not {type(given).__name__}: encode it before")
            data = bytes(given)  # a copy of what its owner may still change
        queue = self._txa_producer_fifo
        if queue is None:
            queue = self._txa_make_queue()
        size = self.ac_out_buffer_size
        if len(data) > size:
            view = memoryview(data)
            queue.extend(view[at : at + size] for at in range(0, len(data), size))
        else:
            queue.append(data)
        self.initiate_send()
        if self._txa_counts:
            self._txa_pushes += 1
            if self._txa_producer_fifo:
                self._txa_holds_back()

    def _txa_push_to(self, gatherer: Any) -> None:
        # From now on, until _txa_gatherer is None again, what is pushed while nothing waits
        # is given to gatherer.gather(). Where sending is overridden each push is a call of it.
        own: Any = self.initiate_send
        if getattr(own, "__func__", None) is _initiate_send and not self._txa_refills:
            self._txa_gatherer = gatherer

    def push_with_producer(self, producer: Any) -> None:
        """Send what a producer gives, behind what was pushed before.

        :param producer: bytes, or an object whose ``more()`` returns the next bytes, and
            ``b""`` when there are no more; or any other kind that
            :meth:`txasynchat.AsyncChat.push_with_producer` takes. Twisted's push
            and pull producers write to the channel, their ``IConsumer``.
        :raise TypeError: for anything else.
        """
        if not hasattr(producer, "more") and not isinstance(producer, _NO_PRODUCER):
            from txasynchat.producers import as_producer, is_streaming

            streaming = is_streaming(producer)
            if streaming is not None:
                _Consumer(self).registerProducer(producer, streaming)
                return
            producer = as_producer(producer, self.ac_out_buffer_size)
            self._txa_adapted = (*self._txa_adapted, producer)
        self.producer_fifo.append(producer)
        self.initiate_send()
        if self._txa_counts:
            self._txa_pushes += 1
            if self._txa_producer_fifo:
                self._txa_holds_back()

    def close_when_done(self) -> None:
        """Call ``handle_close()``, which closes, when all that was pushed is sent."""
        self.producer_fifo.append(None)
        if self._txa_watch is not None:
            self._txa_watch.touch()

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Whether something waits to be sent, or there is no connection yet."""
        if not self.connected:
            return True
        return self._txa_awaited is None and bool(self._txa_producer_fifo or self.ac_out_buffer)

    def handle_write(self) -> None:
        """Send more."""
        for _ in range(_SENDS_IN_A_TURN):
            if not (self.initiate_send() and self._txa_producer_fifo and self._txa_may_send_on()):
                break

    def _txa_may_send_on(self) -> bool:
        # Whether another event would come next, and nobody can tell that it was not waited for.
        # A program's own send() may know no full socket, and a blocking one would be waited for.
        watch, sock = self._txa_watch, self.socket
        if watch is None or not watch.is_served_on or self._txa_refills:
            return False
        called = (self.handle_write_event, self.handle_write, self.initiate_send, self.send)
        return (
            tuple(getattr(each, "__func__", None) for each in called) == _CALLED_TO_WRITE
            and isinstance(sock, asyncore.Socket)
            and sock.gettimeout() == 0
        )

    def handle_close(self) -> None:
        """The connection has ended, from either side. Closes the channel."""
        self.close()

    def initiate_send(self) -> bool | None:
        """Send once, what comes next in the queue. From any thread.

        :return: whether the socket has taken all of it.
        """
        lock = self._txa_lock
        if lock is None:
            lock = self._txa_make_lock()
        lock.acquire()
        if self._txa_sending:
            lock.release()
            return False  # called by a producer, or by send(): the outer call goes on
        self._txa_sending = True
        try:
            queue = self._txa_producer_fifo
            first = queue[0] if queue else None
            if (
                type(first) is not bytes
                or not first
                or (size := len(first)) > self.ac_out_buffer_size
                or not self.connected
                or self.ac_out_buffer
                or self._txa_awaited is not None
                or self._txa_refills
            ):
                went = self._txa_send_next()
            else:
                # What most answers are, one item that goes out as it is: few calls to send().
                went = False
                try:
                    sent = self.send(first)
                except OSError as error:
                    self._txa_not_sent(error)
                    sent = 0
                queue = self._txa_producer_fifo
                if not sent or not queue or queue[0] is not first:
                    pass  # not now; or the queue was dropped meanwhile
                elif sent < size:
                    queue[0] = first[sent:]
                else:
                    del queue[0]
                    went = True
                    watch = self._txa_watch
                    if not queue and watch is not None and watch.settled:
                        return True  # nothing waits, as before
        except BaseException:
            self._txa_touch()
            raise
        finally:
            self._txa_sending = False
            lock.release()
        if went is None:
            self.handle_close()
            return False
        watch = self._txa_watch
        if (
            watch is not None
            and (self._txa_producer_fifo or self.ac_out_buffer or watch.wanted & OUT)
            # An overridden writable() is not asked here: the loop does that, once in a round.
            and watch.waits_to_write != async_chat.writable(self)
        ):
            watch.touch()
        return went

    def _txa_make_lock(self) -> Any:
        # Two threads may come here at once: one lock wins. It is the channel's before it
        # leaves the dict, so who finds none there finds one here.
        lock = _new_locks.setdefault(id(self), threading.RLock())
        if self._txa_lock is None:
            self._txa_lock = lock
        _new_locks.pop(id(self), None)
        return self._txa_lock

    def _txa_send_next(self) -> bool | None:
        # Sends once. Answers whether all of it went; None at the end of the queue.
        if self._txa_refills and len(self.ac_out_buffer) < self.ac_out_buffer_size:
            self.refill_buffer()
        buffered = first = self.ac_out_buffer
        while not buffered:
            queue = self._txa_producer_fifo
            if not queue or not self.connected or self._txa_awaited is not None:
                return False
            first = queue[0]
            if type(first) is bytes and first:
                break
            if first is None:
                del queue[0]
                return None
            if not isinstance(first, _BYTES_OR_TEXT):
                self._txa_ask_producer(first)
            elif first:
                break
            else:
                del queue[0]
        if not self.connected:
            return False
        item = first if type(first) is bytes else self._txa_sendable(first)
        size = self.ac_out_buffer_size
        part = item if len(item) <= size else item[:size]
        if type(part) is memoryview and not self._txa_takes_views():
            part = bytes(part)
        try:
            sent = self.send(part)
        except OSError as error:
            self._txa_not_sent(error)
            return False
        if not sent:
            return False
        queue = self._txa_producer_fifo
        if buffered:
            self.ac_out_buffer = self.ac_out_buffer[sent:]
        elif not queue or queue[0] is not first:
            pass  # the queue was dropped meanwhile
        elif sent >= len(item):
            del queue[0]
        else:
            # A view: the rest of a large item is not copied for each part sent.
            large = len(item) > size and isinstance(item, bytes)
            queue[0] = (memoryview(item) if large else item)[sent:]
        return sent >= len(part)

    def _txa_sendable(self, item: Any) -> Any:
        if isinstance(item, bytes):
            return item
        # Of a view of larger elements, or rows, the length is not what a socket counts by.
        if isinstance(item, memoryview) and len(item) == item.nbytes:
            return item
        if isinstance(item, str) and not self.use_encoding:
            return item  # a program's own send() may know what to do with it
        return as_bytes(item, self._txa_encoding, "what is to be sent")

    def _txa_takes_views(self) -> bool:
        # Spares a copy of what is large. A program's own send() may want bytes.
        own: Any = self.send
        return getattr(own, "__func__", None) is asyncore.dispatcher.send and isinstance(
            self.socket, (asyncore.Socket, SoftSocket)
        )

    def _txa_not_sent(self, error: OSError) -> None:
        # Called while what send() has raised is handled.
        if not isinstance(error, asyncore._TLS_WAITS):
            asyncore._handle_error(self)

    def _txa_ask_producer(self, producer: MoreProducer) -> None:
        data = producer.more()
        queue = self._txa_producer_fifo
        if not queue or queue[0] is not producer:
            return  # it has dropped the queue
        if not isinstance(data, (bytes, str)) and isinstance(data, Awaitable):
            self._txa_wait_for(producer, data)
        elif data:
            queue.appendleft(data)
        else:
            del queue[0]
            self._txa_adapted = tuple(each for each in self._txa_adapted if each is not producer)

    def _txa_wait_for(self, producer: MoreProducer, later: Awaitable[Any]) -> None:
        from txasynchat.producers import as_deferred

        awaited = self._txa_awaited = as_deferred(later)

        def produced(result: Any) -> None:
            if self._txa_awaited is not awaited:
                return  # dropped meanwhile: nobody is interested in its end
            self._txa_awaited = None
            try:
                if hasattr(result, "raiseException"):
                    del self.producer_fifo[0]
                    result.raiseException()
                if result:
                    self.producer_fifo.appendleft(result)
                else:
                    del self.producer_fifo[0]
                self.initiate_send()
            except asyncore._reraised_exceptions:
                raise
            except BaseException:
                asyncore._handle_error(self)

        awaited.addBoth(produced)

    def discard_buffers(self) -> None:
        """Drop all input not yet consumed, what was collected, and all output."""
        self.ac_in_buffer = b""
        del self.incoming[:]
        queue = self._txa_producer_fifo or deque()
        adapted = [each for each in queue if each in self._txa_adapted]
        queue.clear()
        self.ac_out_buffer = b""
        self._txa_drop_output(adapted)
        self._txa_touch()

    def _txa_drop_output(self, adapted: Iterable[MoreProducer]) -> None:
        # Producers of other kinds want to be told, and so does one that is awaited.
        awaited, self._txa_awaited = self._txa_awaited, None
        if awaited is not None:
            awaited.cancel()
        for producer in adapted:
            from txasynchat.producers import stop_producer

            stop_producer(producer)
        self._txa_adapted = self._txa_registered = ()

    # -- What the documentation of Python 2.6 had besides -----------------------------

    def refill_buffer(self) -> None:
        """Move what comes next in the queue into :attr:`ac_out_buffer`.

        Called before sending where a subclass overrides it, and only there.
        """
        while self.producer_fifo:
            first = self.producer_fifo[0]
            if first is None:
                if not self.ac_out_buffer:
                    del self.producer_fifo[0]
                    self.handle_close()
                return
            if isinstance(first, _BYTES_OR_TEXT):
                del self.producer_fifo[0]
                data = first
            else:
                data = first.more()
            if data:
                self.ac_out_buffer += as_bytes(data, self._txa_encoding, "what is to be sent")
                return
            if self.producer_fifo and self.producer_fifo[0] is first:
                del self.producer_fifo[0]


if not TYPE_CHECKING:
    # For Twisted's producers. A program may inherit a write() from somewhere else.
    for __name in IConsumer.names():
        setattr(async_chat, __name, asyncore._Fallback(__name, _of_consumer))
    classImplements(async_chat, IConsumer)
    # For the framer, where a message outgrows a limit.
    async_chat.message_too_long = asyncore._Fallback("message_too_long", _of_framer)

_ask = async_chat._txa_ask
_initiate_send, _send = async_chat.initiate_send, async_chat.send
_CALLED_TO_WRITE = (async_chat.handle_write_event, async_chat.handle_write, _initiate_send, _send)
_get_terminator = async_chat.get_terminator
if not TYPE_CHECKING:
    async_chat.get_terminator = _Asked(_get_terminator)

quiet_predicates.update((async_chat.readable, async_chat.writable))
queue_predicates.add(async_chat.writable)
