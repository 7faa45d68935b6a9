"""Every kind of producer, in both directions.

``push_with_producer`` takes many kinds; inside, there is one: an object with
``more()`` (:class:`~txasynchat.core.outbox.MoreProducer`). :func:`as_producer`
makes one of any other kind. Its parts are public:

* :class:`ProducerDrain`: what a Twisted producer writes, taken by ``more()``;
* :class:`ProducerSender`: what ``more()`` gives, written to a Twisted consumer.

A producer that is dropped half-way is told: ``stopProducing()`` of Twisted
producers, ``stop()`` of ``more()`` producers that have it, ``close()`` or
``aclose()`` of files and generators.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer
from twisted.internet.task import CooperativeTask, TaskStopped, cooperate
from twisted.python.failure import Failure
from zope.interface import implementer

from txasynchat.core.outbox import BytesLike, MoreProducer, as_bytes

__all__ = ("ProducerDrain", "ProducerSender", "as_producer")


#: A pull producer that writes nothing so often in a row keeps a whole core busy.
_PATIENCE = 1000


class _Consumer(Protocol):
    def registerProducer(self, producer: Any, streaming: bool) -> object: ...

    def unregisterProducer(self) -> object: ...

    def write(self, data: bytes) -> object: ...


def as_deferred(awaitable: Awaitable[Any]) -> Deferred[Any]:
    """A Deferred of what `awaitable` (a Deferred, a coroutine, ...) results in."""
    if isinstance(awaitable, Deferred):
        return awaitable

    async def wait() -> Any:
        return await awaitable

    return Deferred.fromCoroutine(wait())


def as_producer(source: object, size: int = 65536) -> MoreProducer:
    """Make a ``more()`` producer of any kind of producer.

    :param source: an object with ``more()``; an ``IBodyProducer``; a file open
        for reading in binary mode, which is closed when it has been read or
        dropped; an async iterable or an iterable of bytes.
    :param size: how many bytes to read from a file at once.
    :raise TypeError: for anything else, saying what to do.

    >>> as_producer(iter([b"one", b"", b"two"])).more()
    b'one'
    """
    if isinstance(source, MoreProducer):
        return source
    if isinstance(source, (bytes, bytearray, memoryview, str)):
        raise TypeError(f"{type(source).__name__} is no producer: push() it")
    if hasattr(source, "startProducing"):  # IBodyProducer, without loading twisted.web
        drain = ProducerDrain()
        drain.registerProducer(_StartsWhenResumed(source, drain), True)
        return drain
    if hasattr(source, "read"):
        return _FileProducer(source, size)
    if isinstance(source, AsyncIterable):
        return _AsyncIterableProducer(source)
    if isinstance(source, Iterable):
        return _IterableProducer(source)
    raise TypeError(
        f"{type(source).__name__} is no producer: it has none of more(), startProducing(), "
        "read(), and can't be iterated over"
        + (
            "; register it with a ProducerDrain, and pass that"
            if hasattr(source, "resumeProducing")
            else ""
        )
    )


def is_streaming(source: object) -> bool | None:
    """Whether a Twisted producer is a push producer; None if it is no such producer.

    One that declares no interface is judged by its methods.
    """
    if hasattr(source, "more") or hasattr(source, "startProducing"):
        return None
    if IPushProducer.providedBy(source):
        return True
    if IPullProducer.providedBy(source):
        return False
    if hasattr(source, "resumeProducing"):
        return hasattr(source, "pauseProducing")
    return None


class _IterableProducer:
    def __init__(self, iterable: Iterable[BytesLike]) -> None:
        self._iterator = iter(iterable)
        self._running = False
        self._stopped = False

    def more(self) -> BytesLike:
        # An empty item means nothing here; the end of the iterable is the end.
        self._running = True
        try:
            return next((item for item in self._iterator if not _is_empty(item)), b"")
        finally:
            self._running = False
            if self._stopped:
                self.stop()

    def stop(self) -> None:
        self._stopped = True
        if not self._running and hasattr(self._iterator, "close"):
            self._iterator.close()


class _AsyncIterableProducer:
    def __init__(self, iterable: AsyncIterable[BytesLike]) -> None:
        self._iterator = aiter(iterable)
        self._next: Deferred[BytesLike] | None = None
        self._stopped = False

    def more(self) -> Deferred[BytesLike]:
        self._next = Deferred.fromCoroutine(self._next_item())
        return self._next

    async def _next_item(self) -> BytesLike:
        async for item in self._iterator:
            if self._stopped:
                await self._close()
                break
            if not _is_empty(item):
                return item
        return b""

    async def _close(self) -> None:
        if hasattr(self._iterator, "aclose"):
            await self._iterator.aclose()

    def stop(self) -> None:
        self._stopped = True
        # An async generator can't be closed while it waits for something, nor
        # while it runs: what it waits for is cancelled, or it is closed after.
        if self._next is not None:
            self._next.addErrback(lambda failure: failure.trap(CancelledError))
            self._next.cancel()
        as_deferred(self._close()).addErrback(lambda failure: failure.trap(RuntimeError))


def _is_empty(item: object) -> bool:
    return isinstance(item, (bytes, bytearray, memoryview, str)) and not item


class _FileProducer:
    def __init__(self, file: Any, size: int) -> None:
        self._file = file
        self._size = size

    def more(self) -> Any:
        data: Any = self._file.read(self._size)
        if isinstance(data, str):
            raise TypeError(f"{self._file!r} reads str: open it in binary mode, 'rb'")
        if not data:
            self.stop()
        return data

    def stop(self) -> None:
        if hasattr(self._file, "close"):
            self._file.close()


@implementer(IPushProducer)
class _StartsWhenResumed:
    """An ``IBodyProducer`` as a push producer.

    One that was never started is not stopped either: its interface has no word
    for that, and Twisted's own fail.
    """

    def __init__(self, body: Any, drain: ProducerDrain) -> None:
        self._body = body
        self._drain = drain
        self._started = False

    def resumeProducing(self) -> None:
        if self._started:
            self._body.resumeProducing()
            return
        self._started = True
        ended: Deferred[object] = self._body.startProducing(self._drain)
        ended.addCallbacks(lambda _: self._drain.unregisterProducer(), self._drain.fail)

    def pauseProducing(self) -> None:
        if self._started:
            self._body.pauseProducing()

    def stopProducing(self) -> None:
        if self._started:
            self._body.stopProducing()


@implementer(IConsumer)
class ProducerDrain:
    """A consumer whose producer is drained by ``more()``.

    A producer, push or pull, is registered as with any ``IConsumer``. It is
    paused when registered and resumed only by :meth:`more`; when nobody has
    asked for what it writes, it is paused again. So at most one resume's worth
    of data waits here.

    The consumer calls ``stopProducing()`` when it drops the producer half-way,
    and unregisters it by itself then; a producer that has no more calls
    ``unregisterProducer()``.

    :ivar stalled: called with this drain, if it is set, when a pull producer has written
        nothing but ``b""`` a thousand times in a row; it is not asked again before
        :meth:`ask_again`. Otherwise it is asked on and on.

    >>> from io import BytesIO
    >>> from twisted.protocols.basic import FileSender
    >>> drain = ProducerDrain()
    >>> sent = FileSender().beginFileTransfer(BytesIO(b"all"), drain)
    >>> drain.more(), drain.more()
    (b'all', b'')
    """

    stalled: Callable[[ProducerDrain], object] | None = None
    _empty = 0  # how often it wrote nothing, in a row
    _pulling = False

    def __init__(self) -> None:
        self._producer: Any = None
        self._streaming = False
        self._paused = True
        self._unanswered = False
        self._ended = False
        self._failure: Failure | None = None
        self._written: deque[bytes] = deque()
        self._asked: Deferred[bytes] | None = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take a producer. ``IConsumer``.

        :raise RuntimeError: if there has been one already.
        """
        if self._producer is not None or self._ended:
            raise RuntimeError(
                f"cannot register {producer!r}: {self!r} has or had a producer, {self._producer!r}"
            )
        self._producer = producer
        self._streaming = streaming
        if streaming:
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """The producer has no more. ``IConsumer``; called again, it does nothing."""
        self._producer = None
        self._ended = True
        self._answer(b"")

    def fail(self, failure: Failure) -> None:
        """The producer broke: :meth:`more` raises this after what was written before."""
        self._failure = failure
        self._producer = None
        self._ended = True
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.errback(failure)

    def write(self, data: bytes) -> None:
        """Take data from the producer. ``IConsumer``.

        :raise TypeError: if it is not bytes.
        """
        data = as_bytes(data, None, "what a producer wrote")
        if self._ended:
            return
        if not data:
            self._wrote_nothing()
            return
        self._empty = 0
        if not self._answer(data):
            self._written.append(data)
            self.pause()

    def _wrote_nothing(self) -> None:
        # A pull producer that wrote nothing, a filter for one, has not answered.
        self._unanswered = not self._streaming
        if self._unanswered:
            self._empty += 1
            self.ask_again()

    def ask_again(self) -> None:
        """Ask a pull producer that has :attr:`stalled`, if somebody still waits for it."""
        if self._asked is not None:
            self._pull()

    @property
    def producer_name(self) -> str:
        """The name of the producer's class."""
        return type(self._producer).__name__

    def _answer(self, data: bytes) -> bool:
        asked, self._asked = self._asked, None
        if asked is None:
            return False
        asked.callback(data)
        return True

    def more(self) -> bytes | Deferred[bytes]:
        """What the producer has written, or a Deferred of what it will write next.

        :return: ``b""``, now or later, when the producer has no more.
        :raise Exception: what the producer raised.
        """
        if not self._written and self._producer is not None:
            if self._streaming:
                self._resume()
            else:
                self._pull()
        if self._written:
            data = b"".join(self._written)
            self._written.clear()
            return data
        if self._failure is not None:
            self._failure.raiseException()
        if self._ended:
            return b""
        self._asked = Deferred(self._no_longer_asked)
        return self._asked

    def _pull(self) -> None:
        self._unanswered = True
        if self._pulling:
            return  # the outer call asks, when the producer has returned to it
        self._pulling = True
        try:
            while self._unanswered and not self._written and self._producer is not None:
                if self._empty >= _PATIENCE and self.stalled is not None:
                    self._empty = 0
                    self.stalled(self)
                    break
                self._unanswered = False
                self._producer.resumeProducing()
        finally:
            self._pulling = False

    def _no_longer_asked(self, asked: Deferred[bytes]) -> None:
        self._asked = None

    def resume(self) -> None:
        """Let a push producer go on, if somebody waits for what it will write."""
        if self._asked is not None and self._streaming:
            self._resume()

    def _resume(self) -> None:
        if self._producer is not None and self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def pause(self) -> None:
        """Pause a push producer, if it is there and not paused."""
        if self._producer is not None and self._streaming and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def stop(self) -> None:
        """Drop the producer: it is told ``stopProducing()``, what it writes is ignored."""
        producer, self._producer = self._producer, None
        self._ended = True
        self._asked = None
        self._written.clear()
        if producer is not None:
            producer.stopProducing()


@implementer(IPushProducer)
class ProducerSender:
    """Writes what a producer gives to any Twisted consumer, as its push producer.

    Works as :class:`twisted.protocols.basic.FileSender` does for files, and for
    every kind that :func:`as_producer` takes.

    :param producer: the producer to send.
    :param cooperate: how to run an iterator a step at a time, without holding
        up the reactor: :func:`twisted.internet.task.cooperate` or that method
        of a Cooperator.

    >>> from twisted.internet.task import Cooperator
    >>> from twisted.internet.testing import StringTransport
    >>> transport, steps = StringTransport(), []
    >>> sender = ProducerSender([b"a", b"b"], Cooperator(scheduler=steps.append).cooperate)
    >>> done = sender.begin_transfer(transport)
    >>> while steps: steps.pop()()
    >>> transport.value()
    b'ab'
    """

    def __init__(
        self,
        producer: object,
        cooperate: Callable[[Iterator[Any]], CooperativeTask[Any]] = cooperate,
    ) -> None:
        self._producer = as_producer(producer)
        self._cooperate = cooperate
        self._paused = False
        self._task: CooperativeTask[Any] | None = None

    def begin_transfer(self, consumer: _Consumer) -> Deferred[None]:
        """Register with `consumer`, write all to it and unregister.

        :return: fires when all was written; fails with what the producer
            raised, or with :class:`twisted.internet.task.TaskStopped` if the
            consumer stopped this before.
        """
        task = self._task = self._cooperate(self._write_to(consumer))

        def ended(result: Any) -> Any:
            self._task = None
            consumer.unregisterProducer()
            if not isinstance(result, Failure):
                return None
            if not result.check(TaskStopped):  # then it was told by who stopped it
                stop_producer(self._producer)
            return result

        try:
            consumer.registerProducer(self, True)
        except BaseException:
            task.stop()
            raise
        return task.whenDone().addBoth(ended)

    def _write_to(self, consumer: _Consumer) -> Iterator[Any]:
        while True:
            data = self._producer.more()
            if not isinstance(data, bytes) and isinstance(data, Awaitable):
                produced: list[BytesLike] = []
                yield as_deferred(data).addCallback(produced.append)
                data = produced[0]
            if not data:
                return
            consumer.write(as_bytes(data, None, f"what {self._producer!r} produced"))
            yield None

    def resumeProducing(self) -> None:
        """The consumer has room. ``IPushProducer``."""
        if self._paused and self._task is not None:
            self._paused = False
            self._task.resume()

    def pauseProducing(self) -> None:
        """The consumer is full. ``IPushProducer``."""
        if not self._paused and self._task is not None:
            self._paused = True
            self._task.pause()

    def stopProducing(self) -> None:
        """The consumer wants no more: the producer is dropped. ``IPushProducer``."""
        if self._task is not None:
            self._task.stop()
            stop_producer(self._producer)


def stop_producer(producer: object) -> None:
    """Tell a ``more()`` producer that is dropped half-way, if it wants to know."""
    stop = getattr(producer, "stop", None)
    if stop is not None:
        stop()
