"""The first-in-first-out queue of what is to be sent, and its end.

An item is bytes, a producer (anything with ``more()``), or None: the end. What
drives the queue asks for one write at a time with :meth:`Outbox.take`; nothing
is asked of a producer before that, so its data never waits in memory.

Cost: each byte queued is copied at most once, into the write that joins small items;
an offset moves through large ones, and what is taken of them is a view. Answers that
were pushed while one chunk was handled are joined in one go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ("BytesLike", "MoreProducer", "Outbox", "as_bytes", "fifo", "simple_producer")

BytesLike: TypeAlias = bytes | bytearray | memoryview


@runtime_checkable
class MoreProducer(Protocol):
    """A producer as the ``asynchat`` documentation knows it.

    ``more()`` returns the next bytes, and ``b""`` once there are no more. For
    data that is not there yet it may return a Deferred or another awaitable of
    such a result. It is not called again before that has come.

    A producer may also have ``stop()``, called when it is dropped half-way.
    """

    def more(self) -> BytesLike | Awaitable[BytesLike]:
        """The next bytes, or an awaitable of them; ``b""`` at the end."""


def as_bytes(data: object, encoding: str | None, what: str) -> bytes:
    """Check data to be sent, and copy it if its owner could still change it.

    :param data: bytes, bytearray or memoryview; with `encoding` also str.
    :param encoding: how to encode str, or None to refuse it.
    :param what: names the data's origin in an error.
    :raise TypeError: for anything else, saying what to do.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    if isinstance(data, str):
        if encoding is not None:
            return data.encode(encoding)
        raise TypeError(
            f"{what} is str, but a connection carries bytes: encode it, "
            "or set use_encoding and encoding on the handler's class"
        )
    raise TypeError(f"{what} is {type(data).__name__}, not bytes")


class simple_producer:
    """Produces a byte string in pieces, as documented for ``asynchat``.

    :param data: what to produce.
    :param buffer_size: the size of a piece, in bytes.

    >>> producer = simple_producer(b"abcde", buffer_size=3)
    >>> producer.more(), producer.more(), producer.more()
    (b'abc', b'de', b'')
    """

    def __init__(self, data: bytes, buffer_size: int = 512) -> None:
        self._whole = data
        self._sent = 0
        self.buffer_size = buffer_size

    @property
    def data(self) -> bytes:
        """What is still to be produced."""
        return self._whole[self._sent :]

    @data.setter
    def data(self, data: bytes) -> None:
        self._whole, self._sent = data, 0

    def more(self) -> bytes:
        """The next piece, or ``b""`` when all has been produced."""
        piece = self._whole[self._sent : self._sent + self.buffer_size]
        self._sent += len(piece)
        return piece


class fifo(deque[Any]):
    """The queue documented for ``asynchat``; any other method is a deque's.

    :param list: what it holds at first, the first to leave in front.

    >>> queue = fifo([1, 2])
    >>> queue.push(3)
    >>> queue.first(), len(queue), queue.pop(), queue.is_empty()
    (1, 3, (True, 1), False)
    >>> fifo().pop()
    (False, None)
    """

    def __init__(self, list: Iterable[Any] | None = None) -> None:
        super().__init__(() if list is None else list)

    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self

    def first(self) -> Any:
        """The item that leaves next.

        :raise IndexError: if there is none.
        """
        return self[0]

    def push(self, data: Any) -> None:
        """Put an item behind all others."""
        self.append(data)

    def pop(self) -> tuple[bool, Any]:  # type: ignore[override]
        """Take out the first item.

        :return: ``(True, item)``, or ``(False, None)`` if there is none.
        """
        return (True, self.popleft()) if self else (False, None)


#: Of so much no producer is asked for more, though there is room in one write: that
#: could be more than its consumer takes before it says pause.
_ENOUGH = 65536

#: The queue of who has nothing to send.
_NOTHING: Any = ()


class Outbox:
    """What is to be sent.

    :ivar queue: the items, first to leave in front: bytes, producers, None for
        the end. To be looked at only, and not to be kept.
    :ivar size: bytes in it; what producers will produce does not count.
    :ivar producers: how many producers are in it.
    :ivar failure: what the next :meth:`take` will raise.
    :ivar orphan: what a producer returned for later although the queue was dropped
        while it was asked. For the caller to cancel.
    :ivar awaited: what the first producer returned for data that is not there
        yet. Nothing can be taken before :meth:`settle` is given the result.

    >>> outbox = Outbox()
    >>> outbox.append(b"head ")
    >>> outbox.append(simple_producer(b"body", buffer_size=3))
    >>> outbox.append(None)
    >>> outbox.take(65536), outbox.ended
    (b'head body', True)
    """

    __slots__ = ("_left", "_offset", "awaited", "failure", "orphan", "producers", "queue", "size")

    queue: list[Any]

    def __init__(self) -> None:
        # A list, and only while there is something in it: each idle connection would have
        # it. A deque takes ten times as much memory. What is taken is deleted from its
        # front in one go.
        self.queue = _NOTHING
        self.size: int = 0
        self.producers: int = 0
        self.awaited: Awaitable[BytesLike] | None = None
        self.orphan: Awaitable[BytesLike] | None = None
        self._offset = 0
        self._left = 0  # how many items have left the queue, its end not counted
        self.failure: BaseException | None = None

    @property
    def accepted(self) -> int:
        """How many items were ever queued, but for the end."""
        ends = bool(self.queue) and self.queue[-1] is None
        return self._left + len(self.queue) - ends

    @property
    def ended(self) -> bool:
        """Whether all was taken up to an end."""
        return bool(self.queue) and self.queue[0] is None

    def is_large(self, most: int) -> bool:
        """Whether what comes next are more than `most` bytes of one item."""
        first = self.queue[0] if self.queue else None
        return isinstance(first, bytes) and len(first) - self._offset > most

    def view(self, most: int) -> memoryview:
        """A look at up to `most` bytes of the item that comes next, which are bytes."""
        return memoryview(self.queue[0])[self._offset : self._offset + most]

    def skip(self, count: int) -> None:
        """Take so many bytes, which somebody has had from a look at them."""
        self._cut([], count)

    def append(self, item: bytes | MoreProducer | None) -> None:
        """Queue bytes, a producer, or the end; a second end is none."""
        if item is None and self.queue and self.queue[-1] is None:
            return
        if self.queue:
            self.queue.append(item)
        else:
            self.queue = [item]
        if isinstance(item, bytes):
            self.size += len(item)
        elif item is not None:
            self.producers += 1

    def take(self, most: int, encoding: str | None = None) -> bytes | memoryview:
        """What to write next: up to `most` bytes, small items joined, of a large one a view.

        Empty when there is nothing to write now: the queue is empty, at its end,
        or waits for :attr:`awaited`.

        :param encoding: how to encode the str of a producer; None refuses it.
        :raise Exception: what a producer raised, or TypeError for what it
            returned. What stood in front of it has been returned before.
        """
        if self.failure is not None:
            raise self.failure
        if 0 < self.size <= most and not (self.producers or self._offset):
            queue, self.queue, self.size = self.queue, _NOTHING, 0
            if queue[-1] is None:
                self.queue = [queue.pop()]
            self._left += len(queue)
            return queue[0] if len(queue) == 1 else b"".join(queue)
        parts: list[bytes | memoryview] = []
        room = most
        while room > 0 and self.queue and self.queue[0] is not None and self.awaited is None:
            if isinstance(self.queue[0], bytes):
                room -= self._cut(parts, room)
            elif most - room >= _ENOUGH:
                break
            else:
                try:
                    self._ask(self.queue[0], encoding)
                except BaseException as error:
                    if not parts:
                        raise
                    self.failure = error
                    break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _cut(self, parts: list[bytes | memoryview], room: int) -> int:
        # Moves the bytes in front to `parts`, at most `room`; returns how many.
        gone = cut = 0
        for item in self.queue:
            if cut == room or not isinstance(item, bytes):
                break
            start, left = self._offset, room - cut
            whole = not start and len(item) <= left
            part: bytes | memoryview = item if whole else memoryview(item)[start : start + left]
            parts.append(part)
            cut += len(part)
            self._offset += len(part)
            if self._offset < len(item):
                break
            self._offset = 0
            gone += 1
        del self.queue[:gone]
        if not self.queue:
            self.queue = _NOTHING
        self._left += gone
        self.size -= cut
        return cut

    def _ask(self, producer: MoreProducer, encoding: str | None) -> None:
        data = producer.more()
        later = not isinstance(data, bytes) and isinstance(data, Awaitable)
        if not self.queue or self.queue[0] is not producer:
            self.orphan = data if later else None  # type: ignore[assignment]
        elif later:
            self.awaited = data  # type: ignore[assignment]
        else:
            self.settle(data, encoding)

    def settle(self, data: object, encoding: str | None = None) -> None:
        """Take what the first producer produced: its next bytes, or ``b""`` for its end.

        :raise TypeError: if it is not bytes.
        """
        self.awaited = None
        producer = self.queue[0]
        if type(data) is bytes:
            produced = data
        else:
            produced = as_bytes(data, encoding, f"what {producer!r} produced")
        if produced:
            self.queue.insert(0, produced)
            self._left -= 1  # it will leave as an item, which it is not
            self.size += len(produced)
        else:
            del self.queue[0]
            self._left += 1
            self.producers -= 1

    def clear(self) -> list[Any]:
        """Drop everything.

        :return: the producers that were in it, for the caller to stop.
        """
        producers = [item for item in self.queue if not isinstance(item, (bytes, type(None)))]
        self._left = self.accepted
        self.queue = _NOTHING
        self.size = self._offset = self.producers = 0
        self.awaited = self.failure = None
        return producers
