"""Bytes out: from the queue of an :class:`~txasynchat.protocol.AsyncChat` to its transport.

The transport knows one producer, the :class:`Output`; a user's producer is never
registered with it. So flow control is the same over every transport: the output
writes until the transport says pause, and asks its producers for more only when
the transport says resume.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txasynchat.bridge import BridgedDeferred
from txasynchat.core.outbox import MoreProducer, Outbox
from txasynchat.errors import ChatClosed
from txasynchat.producers import ProducerDrain, as_deferred, stop_producer
from txasynchat.transports import is_over_socket

__all__ = ("Output", "Owner", "Sender", "abort")


class Owner(Protocol):
    """What an output needs to know, and whom it tells."""

    ac_out_buffer_size: int
    max_queued_output: int | None

    @property
    def text_encoding(self) -> str | None:
        """How to encode the str of a producer; None refuses it."""

    def output_moved(self, progress: bool) -> None:
        """The queue has changed; with `progress` the transport took something of it."""

    def output_ended(self) -> None:
        """All was written, up to the end."""

    def output_failed(self, failure: Failure) -> None:
        """The producer at the head of the queue broke; it and what was behind it is dropped."""


def abort(transport: Any) -> None:
    """Cut a connection at once, whatever kind of transport it has."""
    if hasattr(transport, "abortConnection"):
        transport.abortConnection()
    else:  # standard input and output, for one
        transport.connectionLost(Failure(ConnectionAborted()))


@lru_cache
def _only_sends(kind: type) -> bool:
    # Whether transports of a class do nothing with their output but to send it.
    methods = (getattr(kind, name, None) for name in ("doWrite", "write", "writeSomeData"))
    return is_over_socket(kind) and all(
        getattr(method, "__module__", "").startswith("twisted.internet.") for method in methods
    )


class Sender:
    """Sends at once over a transport that is a descriptor: the peer waits for its answer.

    What is written to such a transport goes out in its next turn. That takes two more calls
    of the system, for it has itself told when the socket has room, and told no more; all to
    find that it had. While its buffer is empty its socket could be used directly. But anybody
    may write to a transport, and what it holds can't be asked for. Whoever writes, though, or
    closes it, has it start writing. So once it is known to hold nothing, the next call of its
    ``startWriting()`` comes by here.

    :param transport: a ``twisted.internet.abstract.FileDescriptor``.
    :param producer: what is registered with it. If that is another, TLS has come in between.
    """

    __slots__ = ("_producer", "_send", "_socket_send", "_transport")

    def __init__(self, transport: Any, producer: object) -> None:
        self._transport = transport
        self._producer = producer
        self._socket_send: Callable[[bytes | memoryview], int] | None = None
        kind: Any = type(transport)
        if _only_sends(kind):
            self._socket_send = transport.getHandle().send
        # While the transport holds nothing.
        self._send: Callable[[bytes | memoryview], int] | None = None

    def send(self, data: bytes | memoryview) -> int | None:
        """Write `data`: past the buffer, if that is known to be empty.

        To be called for so much only in a turn of the reactor: others wait as well.

        :return: how much of it the socket has taken, the transport having the rest; None if it
            was not tried.
        """
        sent = self.send_some(data)
        if sent != len(data):
            self._transport.write(bytes(data[sent or 0 :]))
        return sent

    def send_some(self, data: bytes | memoryview) -> int | None:
        """As :meth:`send`, but what the socket does not take is not written."""
        if self._send is None or self._transport.producer is not self._producer:
            return None
        try:
            return self._send(data)
        except OSError:  # the socket has no room; or the reactor meets the error again
            return 0

    def flush(self) -> None:
        """Send what the transport holds, as much as the socket takes at once.

        To be called while the transport reads: when it asks for more it is sending.
        """
        transport = self._transport
        if transport.producer is not self._producer or transport.disconnecting:
            return
        transport.doWrite()
        # What it can't send stays in sight; what is written later is not there yet.
        if not transport.dataBuffer:
            self.emptied()

    def emptied(self) -> None:
        """The transport has sent all that it held: until somebody has it start writing."""
        transport = self._transport
        if (
            (self._send is None and self._socket_send is not None)
            and transport.producer is self._producer
            and not transport.disconnecting
        ):
            self._send = self._socket_send
            transport.startWriting = self._starts_writing

    def _starts_writing(self) -> None:
        self.forget()
        self._transport.startWriting()

    def hand_back(self, wrote: bool) -> None:
        """Leave what comes next to the transport, which had asked for more.

        Who has told it meanwhile to send no more after that is not known here; it looks for
        that when it has sent something of its own, or nothing.

        :param wrote: whether anything was written since it asked.
        """
        if wrote and self._send is not None:
            self._transport.startWriting()
        self.forget()

    def forget(self) -> None:
        """What the transport holds is not known any more."""
        if self._send is not None:
            self._send = None
            if self._transport.startWriting == self._starts_writing:  # nobody else's
                del self._transport.startWriting


#: So many bytes are sent at once in a turn of the reactor: other connections wait as well.
_IN_ONE_TURN = 524288

#: A queued producer takes memory that can't be counted in bytes.
MOST_QUEUED_ITEMS = 1000


def _lost() -> ChatClosed:
    return ChatClosed("the connection ends before its output is sent")


@implementer(IPushProducer)
class Output(Outbox):
    """The one producer that a transport gets to know, and what it is to send.

    One object is both: each connection has it, idle or not.

    :ivar corked: while True small pushes only queue, to be written as one.
    :ivar enough: so many bytes in the queue are written even while corked.
    :ivar sends_at_once: whether the transport is a descriptor, for a :class:`Sender`.
    :ivar unsent: whether the transport was given something that it was not told to send.
    :ivar written: how many bytes the transport was given.
    """

    __slots__ = (
        "_at_once",
        "_awaited",
        "_drained",
        "_full",
        "_lost",
        "_owner",
        "_sender",
        "_transport",
        "_writing",
        "corked",
        "enough",
        "sends_at_once",
        "unsent",
        "written",
    )

    _log = Logger()

    orphan: Awaitable[Any] | None
    queue: list[Any]

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.corked: bool = False
        self._at_once = 0  # how many bytes may still be sent at once in this turn
        self.written: int = 0
        self._owner: Any = owner
        self._transport: Any = None
        self.sends_at_once: bool = False
        self._sender: Sender | None = None  # made with the first answer
        self.unsent: bool = False
        self.enough: int = 0
        self._full = False
        self._writing = False
        self._awaited: Deferred[Any] | None = None
        self._drained: list[Deferred[None]] | None = None  # made when somebody waits
        self._lost = False

    @property
    def is_over_limit(self) -> bool:
        """Whether more is queued than the owner wants to wait."""
        most = self._owner.max_queued_output
        return most is not None and (self.size > most or len(self.queue) > MOST_QUEUED_ITEMS)

    def push(self, item: bytes | MoreProducer | None) -> None:
        """Queue bytes, a producer, or (None) the end; write what the transport takes."""
        if not self.queue:  # the owner may have changed its limits
            owner = self._owner
            most, limit = owner.ac_out_buffer_size, owner.max_queued_output
            self.enough = most if limit is None or most < limit else limit
        self.append(item)
        if not self.corked or self.size >= self.enough or len(self.queue) > MOST_QUEUED_ITEMS:
            self.write()

    def answer(self, received: bool) -> None:
        """Write what was pushed while corked, as one; to be called if there is any.

        :param received: whether the transport is reading. Then it is sent as well, with
            what was written meanwhile; otherwise the transport may be sending already.
        """
        now = received and self.sends_at_once
        if self.queue:
            self._at_once = _IN_ONE_TURN if now else 0
            self.write()
            self._at_once = 0
        if self.unsent and now and self._transport is not None and not self._full:
            (self._sender or self._new_sender()).flush()

    def _new_sender(self) -> Sender:
        sender = self._sender = Sender(self._transport, self)
        return sender

    def attach(self, transport: Any) -> None:
        """Write to `transport` from now on."""
        self._transport = transport
        self.sends_at_once = isinstance(transport, FileDescriptor)
        transport.registerProducer(self, True)
        if self.queue or self._drained:
            self.write()

    def detach(self, lost: bool = False) -> None:
        """Write no more; drop what is queued. To be called before the transport is closed.

        With a producer registered, a TLS transport would never close, and a TCP
        transport only sometimes.

        :param lost: whether the connection is gone: then there is nothing to tell
            the transport, which may have no parts left.
        """
        transport, self._transport = self._transport, None
        self._full = False
        self._forget_sender()
        if not self._writing:
            self._owner = None  # which holds this: memory is freed sooner without a cycle
        if transport is not None and not lost:
            transport.unregisterProducer()
        if self.queue or self._drained:
            self._abandon()

    def switch(self, change: Callable[[], object]) -> None:
        """Have something put between this and the transport, which `change` does."""
        transport, self._transport = self._transport, None
        self._forget_sender()
        transport.unregisterProducer()
        change()  # if that fails there is nothing left to write to
        self._transport = transport
        # Whether it was full is not known to what stands there now.
        self._full = False
        transport.registerProducer(self, True)

    def _forget_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.forget()

    def discard(self) -> None:
        """Drop what is queued."""
        self._drop()
        self.write()

    def _drop(self) -> None:
        if not self.queue and self.failure is None:
            return  # an awaited producer is in it
        awaited, self._awaited = self._awaited, None
        drops: list[Callable[[], object]] = [] if awaited is None else [awaited.cancel]
        drops += [partial(stop_producer, producer) for producer in self.clear()]
        for drop in drops:
            try:
                drop()
            except Exception:
                self._log.failure("a producer failed while it was stopped")

    def drained(self) -> Deferred[None]:
        """Fires when all that was pushed was written and the transport has room.

        Fails with :exc:`ChatClosed` when some of it was dropped.
        """
        if self._lost:
            return fail(_lost())
        if self._is_drained():
            return succeed(None)
        waiting: Deferred[None] = BridgedDeferred(self._wait_no_more)
        self._drained = self._drained or []
        self._drained.append(waiting)
        return waiting

    def _wait_no_more(self, cancelled: Deferred[None]) -> None:
        if self._drained and cancelled in self._drained:
            self._drained.remove(cancelled)

    def _abandon(self) -> None:
        # Drops what is queued because the connection ends.
        all_went = self.ended  # what had no room any more is the transport's
        if all_went:
            self.queue = []  # its end
        else:
            self._lost = self._lost or bool(self.queue)
            self._drop()
        waiting, self._drained = self._drained or [], None
        for each in waiting:
            if not each.called:  # one that waits may cancel another
                each.callback(None if all_went else Failure(_lost()))

    def _is_drained(self) -> bool:
        return not self._full and (not self.queue or self.ended)

    def write(self, progress: bool = False) -> None:
        """Write until the transport is full, the queue is empty or a producer is waited for.

        :param progress: whether the transport took something before this call.
        """
        if self._writing or self._transport is None:
            return  # the outer call goes on where it stands
        self._writing = True
        failure = None
        try:
            progress = self._write_on() or progress
        except Exception:
            failure = Failure()
        finally:
            self._writing = False
        if failure is not None:
            self._fail(failure)
            return
        if not (self.queue and self.ended):
            self._owner.output_moved(progress)
        if self._drained and self._is_drained():
            waiting, self._drained = self._drained, None
            for each in waiting:
                if not each.called:
                    each.callback(None)
        if self.queue and self.ended and self._transport is not None:
            self._owner.output_ended()

    def _write_on(self) -> bool:
        owner, progress = self._owner, False
        while (self.queue or self.failure is not None) and not self._full and self._awaited is None:
            encoding = owner.text_encoding if self.producers else None
            most = owner.ac_out_buffer_size
            if self._at_once > most and self.is_large(most):
                progress = self._send_large() or progress
                continue
            data = self.take(most, encoding)
            transport, awaited = self._transport, self.awaited
            if transport is None:  # a producer that was asked has closed it
                break
            if data:
                progress = True
                self.written += len(data)
                if self._at_once > 0:
                    sent = (self._sender or self._new_sender()).send(data)
                    self._at_once = self._at_once - sent if sent == len(data) else 0
                    self.unsent = sent is None
                else:
                    self.unsent = True
                    transport.write(bytes(data))
            if awaited is not None:
                self._wait_for(awaited)
            elif not data:
                break
        if self.orphan is not None:
            self._cancel_orphan()
        return progress

    def _send_large(self) -> bool:
        # Straight out of the item that is next: what the socket does not take stays here, as
        # the transport is not to hold so much. Answers whether it took any.
        data = self.view(self._at_once)
        sent = (self._sender or self._new_sender()).send_some(data)
        self._at_once = self._at_once - len(data) if sent == len(data) else 0
        if not sent:
            return False
        self.skip(sent)
        self.written += sent
        return True

    def _wait_for(self, awaitable: Awaitable[Any]) -> None:
        awaited = as_deferred(awaitable)
        if self.awaited is not awaitable:  # it has the queue dropped as it begins
            self.orphan = awaited
            return
        self._awaited = awaited

        def produced(result: Any) -> None:
            if self._awaited is not awaited:
                return  # dropped meanwhile: nobody is interested in its end
            self._awaited = None
            failure = result if isinstance(result, Failure) else None
            if failure is None:
                try:
                    self.settle(result, self._owner.text_encoding)
                except Exception:
                    failure = Failure()
            if failure is None:
                self.write()
            else:
                self._fail(failure)

        awaited.addBoth(produced)

    def _cancel_orphan(self) -> None:
        orphan, self.orphan = self.orphan, None
        if orphan is not None:
            cancelled = as_deferred(orphan)
            cancelled.addErrback(self._orphan_failed)
            cancelled.cancel()

    def _orphan_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("a producer failed while it was stopped", failure)

    def _fail(self, failure: Failure) -> None:
        owner = self._owner  # who waits for the output may close the connection, and it goes
        self._abandon()
        if owner is None:
            self._log.failure("a producer failed as its connection ended", failure)
        else:
            owner.output_failed(failure)

    # -- IPushProducer, for the transport -------------------------------------------

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._full = True
        self._tell_source(ProducerDrain.pause)

    def resumeProducing(self) -> None:
        """The transport has room."""
        self._full = False
        written = self.written
        if self.sends_at_once:
            # It holds nothing, but may have sent less than the socket takes.
            (self._sender or self._new_sender()).emptied()
            self._at_once = _IN_ONE_TURN
        if self._tell_source(ProducerDrain.resume):
            self.write(progress=True)
        self._at_once = 0
        if self._sender is not None:
            self._sender.hand_back(self.written != written)

    def stopProducing(self) -> None:
        """The transport is gone. It calls its protocol's connectionLost() as well."""

    def _tell_source(self, tell: Callable[[ProducerDrain], None]) -> bool:
        queue = self.queue
        if queue and isinstance(queue[0], ProducerDrain):
            try:
                tell(queue[0])
            except Exception:
                self._fail(Failure())
                return False
        return True
