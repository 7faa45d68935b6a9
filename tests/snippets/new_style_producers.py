"""Every kind of producer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.protocols.basic import FileSender
from twisted.web.iweb import IBodyProducer
from typing_extensions import assert_type
from zope.interface import implementer

from txasynchat import AsyncChat, MoreProducer, ProducerDrain, ProducerSender, simple_producer


class Pieces:
    """A producer as asynchat has them."""

    def __init__(self) -> None:
        self.left = [b"one", b"two"]

    def more(self) -> bytes:
        return self.left.pop() if self.left else b""


class Later:
    """One that waits, and is told when it is dropped."""

    def more(self) -> Deferred[bytes]:
        return succeed(b"")

    def stop(self) -> None:
        """Nobody will ask again."""


class Awaited:
    """One whose pieces are awaited."""

    async def more(self) -> bytes:
        return b""


@implementer(IPushProducer)
class Push:
    """A Twisted push producer."""

    def pauseProducing(self) -> None:
        """Wait."""

    def resumeProducing(self) -> None:
        """Go on."""

    def stopProducing(self) -> None:
        """Leave off."""


@implementer(IPullProducer)
class Pull:
    """A Twisted pull producer."""

    def __init__(self, chat: AsyncChat) -> None:
        self.chat = chat

    def resumeProducing(self) -> None:
        self.chat.write(b"a piece")
        self.chat.unregisterProducer()

    def stopProducing(self) -> None:
        """Leave off."""


@implementer(IBodyProducer)
class Body(Push):
    """The body of an HTTP message."""

    length = 4

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(b"body")
        return succeed(None)


def rows() -> Iterator[bytes]:
    """An iterable."""
    yield b"row"


async def later_rows() -> AsyncIterator[bytes]:
    """An async iterable."""
    yield b"row"


def send(chat: AsyncChat) -> None:
    """All take their turn in one queue."""
    producers = (Pieces(), Later(), Awaited(), Push(), Pull(chat), Body(), rows(), later_rows())
    for each in producers:
        chat.push_with_producer(each)
    chat.push_with_producer(simple_producer(b"data", buffer_size=512))
    chat.push_with_producer(BytesIO(b"file"))
    chat.push_with_producer([b"one", bytearray(b"two"), memoryview(b"three")])
    chat.registerProducer(Push(), True)
    assert_type(ProducerSender(rows()).begin_transfer(chat), Deferred[None])


def adapt(chat: AsyncChat) -> None:
    """A producer of one kind, where another kind is expected."""
    kinds: list[MoreProducer] = [Pieces(), Later(), Awaited(), ProducerDrain()]
    for each in kinds:
        chat.push_with_producer(each)
    drain = ProducerDrain()
    drain.registerProducer(Push(), streaming=True)
    assert_type(drain.more(), bytes | Deferred[bytes])


def send_file(chat: AsyncChat) -> None:
    """Twisted's own sender of files."""
    FileSender().beginFileTransfer(BytesIO(b"file"), chat)
