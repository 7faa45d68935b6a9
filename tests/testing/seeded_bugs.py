"""Handlers with one bug each, of a kind that one rule of the kit is for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from txasynchat import AsyncChat, asynchat, asyncore


class Lines(AsyncChat):
    """Answers each line in capitals, and keeps all the rules."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> Any:
        line = self._get_data()
        self.answer(line.upper() + b"\n")
        if line == b"quit":
            self.close_when_done()

    def answer(self, line: bytes) -> None:
        self.push(line)


class OldLines(asynchat.async_chat):
    """The same, as it was written for asynchat."""

    def __init__(self, sock: Any, addr: Any) -> None:
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        line = self._get_data()
        self.answer(line.upper() + b"\n")
        if line == b"quit":
            self.close_when_done()

    def answer(self, line: bytes) -> None:
        self.push(line)


class OldRaw(asyncore.dispatcher):
    """The same again, with buffers of its own; these have limits."""

    def __init__(self, sock: Any, addr: Any) -> None:
        asyncore.dispatcher.__init__(self, sock)
        self.buffer = b""
        self.to_send = b""

    def readable(self) -> bool:
        return len(self.to_send) < 65536

    def handle_read(self) -> None:
        self.buffer += self.recv(8192)
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.answer(line.upper() + b"\n")
        if len(self.buffer) > 8192:
            self.close()

    def answer(self, line: bytes) -> None:
        self.to_send += line

    def writable(self) -> bool:
        return bool(self.to_send)

    def handle_write(self) -> None:
        self.to_send = self.to_send[self.send(self.to_send) :]

    def handle_close(self) -> None:
        self.close()


# -- chunking ----------------------------------------------------------------------------


class TakesAPieceForAMessage(Lines):
    def collect_incoming_data(self, data: bytes) -> None:
        self.incoming[:] = [data]


class LooksAtTheBeginningOfEachPiece(Lines):
    def collect_incoming_data(self, data: bytes) -> None:
        if data.startswith(b"quit"):
            self.push(b"bye\n")
        super().collect_incoming_data(data)


class LooksAtWhatHasCome(Lines):
    """Whether there is more behind the line depends on the network."""

    def answer(self, line: bytes) -> None:
        self.push(line if self.ac_in_buffer else b"last: " + line)


class OldTakesAPieceForAMessage(OldRaw):
    def handle_read(self) -> None:
        self.answer(self.recv(8192).strip().upper() + b"\n")


class OldCountsPieces(OldLines):
    pieces = 0

    def collect_incoming_data(self, data: bytes) -> None:
        self.pieces += 1
        super().collect_incoming_data(data)

    def answer(self, line: bytes) -> None:
        self.push(b"%d %s" % (self.pieces, line))


# -- slow-reader --------------------------------------------------------------------------


class ClosesWithoutWaiting(Lines):
    def answer(self, line: bytes) -> None:
        self.push(line)
        if line == b"QUIT\n":
            self.close()


class GreetsPastTheQueue(Lines):
    def handle_connect(self) -> None:
        super().handle_connect()
        self.push(b"hello ")
        self.transport.write(b"there\n")


class OldIgnoresWhatSendReturns(OldRaw):
    def answer(self, line: bytes) -> None:
        self.send(line)


class OldClosesWithoutWaiting(OldLines):
    def answer(self, line: bytes) -> None:
        self.push(line)
        if line == b"QUIT\n":
            self.close()


# -- half-close ----------------------------------------------------------------------------


class AnswersLater(Lines):
    """Nobody waits for what it does on a timer."""

    def answer(self, line: bytes) -> None:
        self.callLater(1, partial(self.answer_now, line))  # type: ignore[no-untyped-call]

    def answer_now(self, line: bytes) -> None:
        if self.is_open:
            self.push(line)

    def found_terminator(self) -> None:
        self.answer(self._get_data().upper() + b"\n")


class LeavesWithThePeer(Lines):
    """Drops what waits when the peer has finished sending."""

    def answer(self, line: bytes) -> None:
        self.push_with_producer(self.later(line))

    async def later(self, line: bytes) -> AsyncIterator[bytes]:
        done: Deferred[None] = Deferred()
        self.callLater(1, partial(done.callback, None))  # type: ignore[no-untyped-call]
        await done
        yield line

    def readConnectionLost(self) -> None:
        self.close()


class OldReadsToTheEndFirst(OldRaw):
    """When the end is there already, it forgets what it has read."""

    def handle_read(self) -> None:
        data = b""
        while True:
            try:
                piece = self.socket.recv(8192)  # type: ignore[union-attr]
            except BlockingIOError:
                break
            except ConnectionError:
                piece = b""
            if not piece:
                self.close()
                return
            data += piece
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.answer(line.upper() + b"\n")
        if len(self.buffer) > 8192:
            self.close()


# -- disconnect ------------------------------------------------------------------------------


class NeedsAName(Lines):
    """Its farewell takes for granted that the first line has come."""

    name: bytes

    def answer(self, line: bytes) -> None:
        self.name = line
        self.push(line)

    def handle_close(self) -> None:
        self.name.decode()


class HidesTheEnd(Lines):
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        pass


class FailsAtTheEnd(Lines):
    """In the middle of a line it has work to give back, and nobody to give it to."""

    def handle_close(self) -> None:
        if self.incoming:
            lost: Deferred[None] = Deferred()
            lost.errback(ValueError("a line was lost"))


class OldStaysInItsMap(OldLines):
    def handle_close(self) -> None:
        if self.producer_fifo:
            self.close()


class OldFailsAtTheEnd(OldLines):
    def handle_close(self) -> None:
        self.close()
        if self.incoming:
            raise ValueError("a line was lost")


# -- after-close -----------------------------------------------------------------------------


class TicksOn(Lines):
    """Never stops its timer."""

    def handle_connect(self) -> None:
        super().handle_connect()
        self.tick()

    def tick(self) -> None:
        self.callLater(60, self.tick)  # type: ignore[no-untyped-call]


class SaysGoodbyeToNobody(Lines):
    def handle_close(self) -> None:
        self.push(b"bye\n")


class WritesToNobody(Lines):
    def handle_close(self) -> None:
        self.transport.write(b"bye\n")


class PushesWithoutLooking(Lines):
    """Sends a reminder, whether or not somebody is there."""

    def handle_connect(self) -> None:
        super().handle_connect()
        self.callLater(60, self.remind)  # type: ignore[no-untyped-call]

    def remind(self) -> None:
        self.push(b"still there?\n")


class OldTicksOn(OldLines):
    def __init__(self, sock: Any, addr: Any, clock: Any) -> None:
        super().__init__(sock, addr)
        self.ticks = LoopingCall(self.tick)
        self.ticks.clock = clock
        self.ticks.start(60, now=False)

    def tick(self) -> None:
        pass


class OldRemindsNobody(OldLines):
    def __init__(self, sock: Any, addr: Any, clock: Any) -> None:
        super().__init__(sock, addr)
        clock.callLater(60, self.remind)

    def remind(self) -> None:
        self.socket.send(b"still there?\n")  # type: ignore[union-attr]


# -- pauses -----------------------------------------------------------------------------------


class WritesPastTheQueue(Lines):
    def answer(self, line: bytes) -> None:
        self.transport.write(line)


@implementer(IPushProducer)
class Deaf:
    """A producer that writes every second, whatever it is told."""

    def __init__(self, consumer: AsyncChat) -> None:
        self.consumer = consumer
        self.call: Any = None
        self.resumeProducing()

    def resumeProducing(self) -> None:
        if self.call is None:
            self.call = self.consumer.callLater(1, self.write)  # type: ignore[no-untyped-call]

    def write(self) -> None:
        self.consumer.write(bytes(1000))
        self.call = None
        self.resumeProducing()

    def pauseProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        if self.call is not None:
            self.call.cancel()


class HasADeafProducer(Lines):
    def handle_connect(self) -> None:
        super().handle_connect()
        self.registerProducer(Deaf(self), True)


class TalksToTheDeaf(Lines):
    """Tells the news every second, to a peer that reads none of them."""

    news: Any = None

    def handle_connect(self) -> None:
        super().handle_connect()
        self.tell()

    def tell(self) -> None:
        self.news = self.callLater(1, self.tell)  # type: ignore[no-untyped-call]
        if self.news.getTime() > 1:  # not at once
            self.push(bytes(1000))

    def handle_close(self) -> None:
        self.news.cancel()


class OldSendsAll(OldLines):
    def answer(self, line: bytes) -> None:
        self.socket.sendall(line)  # type: ignore[union-attr]


# -- queues -----------------------------------------------------------------------------------


class HasNoLimit(Lines):
    max_queued_output = None


class RemembersEverything(Lines):
    def __init__(self) -> None:
        self.history: list[bytes] = []

    def answer(self, line: bytes) -> None:
        self.history.append(line)
        self.push(line)


class OldRemembersEverything(OldLines):
    def __init__(self, sock: Any, addr: Any) -> None:
        super().__init__(sock, addr)
        self.history: list[bytes] = []

    def answer(self, line: bytes) -> None:
        self.history.append(line)
        self.push(line)


class OldHasNoLimit(OldRaw):
    def readable(self) -> bool:
        return True


# -- endless-message ----------------------------------------------------------------------------


class TakesAnyLength(Lines):
    max_message_length = None


class CutsLinesItself(Lines):
    def handle_connect(self) -> None:
        self.set_terminator(None)
        self.buffer = b""

    def collect_incoming_data(self, data: bytes) -> None:
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.push(line.upper() + b"\n")


class OldCutsLinesItself(OldRaw):
    def handle_read(self) -> None:
        self.buffer += self.recv(8192)
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.answer(line.upper() + b"\n")


# -- errors -------------------------------------------------------------------------------------


class DividesByNothing(Lines):
    def answer(self, line: bytes) -> None:
        self.push(b"%d\n" % (1 // (len(line) - 5)))


class ForgetsAFailure(Lines):
    def answer(self, line: bytes) -> None:
        self.push(line)
        failing: Deferred[None] = Deferred()
        failing.errback(ValueError("nobody will know"))


class OldDividesByNothing(OldLines):
    def answer(self, line: bytes) -> None:
        self.push(b"%d\n" % (1 // (len(line) - 5)))


# -- All of them --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seeded:
    """A handler, and the one rule that it breaks."""

    rule: str
    handler: Callable[..., Any]
    sample: bytes = b"one\nfour\nquit\n"
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.rule}-{self.handler.__name__}"


_OPEN = b"one\nfour\n"

SEEDED = [
    Seeded("chunking", TakesAPieceForAMessage),
    Seeded("chunking", LooksAtTheBeginningOfEachPiece),
    Seeded("chunking", LooksAtWhatHasCome, _OPEN),
    Seeded("chunking", OldTakesAPieceForAMessage, _OPEN),
    Seeded("chunking", OldCountsPieces),
    Seeded("slow-reader", ClosesWithoutWaiting),
    Seeded("slow-reader", GreetsPastTheQueue),
    Seeded("slow-reader", OldIgnoresWhatSendReturns, _OPEN),
    Seeded("slow-reader", OldClosesWithoutWaiting),
    Seeded("half-close", AnswersLater, _OPEN, 3),
    Seeded("half-close", LeavesWithThePeer, _OPEN, 3),
    Seeded("half-close", OldReadsToTheEndFirst, _OPEN),
    Seeded("disconnect", NeedsAName),
    Seeded("disconnect", HidesTheEnd),
    Seeded("disconnect", FailsAtTheEnd),
    Seeded("disconnect", OldStaysInItsMap),
    Seeded("disconnect", OldFailsAtTheEnd),
    Seeded("after-close", TicksOn),
    Seeded("after-close", SaysGoodbyeToNobody),
    Seeded("after-close", WritesToNobody),
    Seeded("after-close", PushesWithoutLooking),
    Seeded("after-close", OldTicksOn),
    Seeded("after-close", OldRemindsNobody),
    Seeded("pauses", WritesPastTheQueue),
    Seeded("pauses", HasADeafProducer, _OPEN),
    Seeded("pauses", TalksToTheDeaf, _OPEN),
    Seeded("pauses", OldSendsAll, _OPEN),
    Seeded("queues", HasNoLimit),
    Seeded("queues", RemembersEverything),
    Seeded("queues", OldRemembersEverything),
    Seeded("queues", OldHasNoLimit, _OPEN),
    Seeded("endless-message", TakesAnyLength),
    Seeded("endless-message", CutsLinesItself, _OPEN),
    Seeded("endless-message", OldCutsLinesItself, _OPEN),
    Seeded("errors", DividesByNothing),
    Seeded("errors", ForgetsAFailure),
    Seeded("errors", OldDividesByNothing),
]
