"""Replay: a recorded conversation is fed to a handler, and its answers are compared.

The handler runs on the reactor, over a transport in memory. What came in is fed in the
recorded pieces, each once all is there that had been sent before it.
"""

from __future__ import annotations

import socket
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocolFactory,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from txasynchat.core.lifecycle import CloseReason
from txasynchat.factory import Refusal
from txasynchat.transcript import BadTranscript, Lines, Record, read_transcript

__all__ = ("Difference", "replay", "replay_command")


@dataclass(frozen=True)
class Difference:
    """Where a handler did not do what was recorded.

    :ivar line: the line of the transcript, from 1.
    :ivar connection: the number of the connection.
    :ivar expected: what was recorded there, in words.
    :ivar got: what the handler did instead.

    >>> print(Difference(7, 1, "b'HELLO'", "b'HELO'"))
    line 7, connection 1: expected b'HELLO', got b'HELO'
    """

    line: int
    connection: int
    expected: str
    got: str

    def __str__(self) -> str:
        place = f"line {self.line}, connection {self.connection}"
        return f"{place}: expected {self.expected}, got {self.got}"


def replay(
    transcript: Lines,
    factory: IProtocolFactory | Factory[Any],
    connection: int | None = None,
    timeout: float = 10.0,
) -> Deferred[list[Difference]]:
    """Feed recorded conversations to the protocols of a factory; compare what they do.

    Compared are all bytes sent, as one stream for each connection, and where in it the
    connection was closed by our side. Several connections are fed together, in the
    recorded order. Must be called while the reactor runs.

    :param transcript: a trace's path, or its lines.
    :param connection: the number of the only connection to replay; None for all.
    :param timeout: how long what was recorded may take to come, in seconds without any
        progress.
    :return: fires with the first difference of each connection that has one. Fails with
        :exc:`~txasynchat.transcript.BadTranscript` or OSError.
    """
    return Deferred.fromCoroutine(_replay(transcript, factory, connection, timeout))


async def _replay(
    transcript: Lines,
    factory: IProtocolFactory | Factory[Any],
    connection: int | None,
    timeout: float,
) -> list[Difference]:
    return await _Player(_load(transcript, connection), factory, timeout).play()


def _load(transcript: Lines, connection: int | None) -> list[Record]:
    def flawed(line: int, what: str, cut: bool) -> None:
        if not cut:
            raise BadTranscript(f"line {line} {what}")

    records = list(read_transcript(transcript, flawed))
    if not records:
        raise BadTranscript("there is no record in it")
    if connection is not None:
        records = [record for record in records if record.connection == connection]
        if not records:
            raise BadTranscript(f"there is no connection {connection} in it")
    return records


class _Talk:
    """One recorded conversation, and how far the replay has got with it.

    :ivar due: how many bytes of output were recorded up to the current record.
    :ivar ended_at: where in the output the handler closed; None before it does.
    :ivar mute: whether no more output can come.
    """

    _context = 24

    def __init__(self, number: int, differing: list[_Talk]) -> None:
        self.number = number
        self._differing = differing  # to which it adds itself
        self.due = 0
        self.difference: Difference | None = None
        self.over = False
        self.wire: _Wire | None = None
        self.ended_at: int | None = None
        self.ended_how = ""
        self.mute = False
        self.end_was_due = False
        self.was_drained = False  # the service was stopped, which no handler can know
        self._expected = bytearray()
        self._masked: set[int] = set()  # where any byte will do
        self._starts: list[int] = []  # of each recorded piece, in the output
        self._lines: list[int] = []
        self._last_line = 0
        self._complete = False
        self._output = bytearray()

    def add(self, record: Record) -> None:
        """Note what is to be expected."""
        self._last_line = record.line
        if record.event == "close":
            self._complete = True
            self.was_drained = record.details.get("close_reason") == CloseReason.DRAIN
        elif record.event == "out":
            start = len(self._expected)
            self._starts.append(start)
            self._lines.append(record.line)
            self._expected += record.data
            if record.details.get("masked"):
                stars = (at for at, byte in enumerate(record.data, start) if byte == ord("*"))
                self._masked.update(stars)

    @property
    def got(self) -> int:
        """How many bytes of output have come."""
        return len(self._output)

    @property
    def is_behind(self) -> bool:
        """Whether output is missing."""
        return not self.over and self.difference is None and self.got < self.due

    def differs(self, line: int, expected: str, got: str) -> None:
        """Note a difference; only the first counts."""
        if self.difference is None:
            self.difference = Difference(line, self.number, expected, got)
            self._differing.append(self)

    def write(self, data: bytes) -> None:
        """The handler has sent something."""
        at = self.got
        self._output += data
        if self.difference is None and self._expected[at : self.got] != data:
            for place, byte in enumerate(data, at):
                if not self._allows(place, byte):
                    self._differs_at(place)
                    break

    def _allows(self, place: int, byte: int) -> bool:
        if place >= len(self._expected):
            return not self._complete  # the record ends, the conversation went on
        return self._expected[place] == byte or place in self._masked

    def _differs_at(self, place: int, got: str = "") -> None:
        start = max(0, place - self._context)
        stop = place + self._context
        expected = bytes(self._expected[start:stop])
        line = self._last_line
        if place < len(self._expected):
            line = self._lines[bisect_right(self._starts, place) - 1]
            words = repr(expected)
        else:
            words = f"nothing more after {expected!r}" if expected else "no output"
        self.differs(line, words, got or repr(bytes(self._output[start:stop])))

    def is_late(self, timeout: float) -> None:
        """What is due has not come."""
        came = bytes(self._output[-self._context :])
        after = f" after {came!r}" if came else ""
        why = f" within {timeout:g} s" if self.ended_at is None else f": it {self.ended_how}"
        self._differs_at(self.got, f"nothing{after}{why}")

    def ended(self, how: str) -> None:
        """The handler closes."""
        if self.ended_at is None:
            self.ended_at = self.got
            self.ended_how = how


#: What a handler does to its connection, by the event it is recorded as.
_ENDS = {
    "lose": "closed the connection",
    "finish": "closed the connection",  # maybe one half of it only: that depends on the time
    "abort": "cut the connection",
}


@implementer(ITCPTransport, IConsumer, IPushProducer)
class _Wire:
    """The transport in memory of one conversation."""

    disconnecting = False
    connected = True

    def __init__(
        self, talk: _Talk, opening: Record | None, reactor: Any, changed: Callable[[], None]
    ) -> None:
        details = {} if opening is None else opening.details
        self.reactor = reactor
        self.paused = False
        self.tls = False
        self.protocol: Any = None  # what is next to it: the handler's, or TLS
        self._handler: Any = None
        self._talk = talk
        self._changed = changed
        self._peer = _address(details.get("peer", "nobody"))
        self._host = _address(details.get("host", "nobody"))
        self._producer: Any = None
        self._streams = True
        self._finished = False
        self._socket: socket.socket | None = None
        if details.get("tls"):
            alsoProvides(self, ISSLTransport)

    # -- What the player does -----------------------------------------------------------

    def connect(self, protocol: Any) -> None:
        self.protocol = self._handler = protocol
        self._guarded(lambda: protocol.makeConnection(self))

    def feed(self, record: Record) -> None:
        """Something comes from the peer."""
        protocol = self._handler
        if not self.connected:
            return
        if record.event == "in":
            self._guarded(lambda: protocol.dataReceived(record.data))
        elif record.event == "handshake":
            if IHandshakeListener.providedBy(protocol):
                self._guarded(protocol.handshakeCompleted)
        elif IHalfCloseableProtocol.providedBy(protocol):
            self._guarded(protocol.readConnectionLost)
        else:
            self.lose(error.ConnectionDone())

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as raised:
            # As a reactor does.
            Logger().failure("{protocol} failed in a replay", protocol=self._handler)
            self._talk.ended(f"raised {type(raised).__name__}: {raised}")
            self._talk.mute = True
            self.lose(raised)

    def lose(self, reason: BaseException) -> None:
        """The connection is gone."""
        if not self.connected or self._handler is None:
            return
        self.connected = False
        if self._socket is not None:
            self._socket.close()
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                producer.stopProducing()
            self._handler.connectionLost(Failure(reason))
        except Exception:
            Logger().failure("{protocol} failed in a replay", protocol=self._handler)

    # -- What the protocol does -----------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.connected and not self._finished:
            self._talk.write(bytes(data))
            self._changed()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def _ends(self, event: str) -> None:
        self._talk.ended(_ENDS[event])
        # A transport that closes waits for its producer.
        self._talk.mute = self._talk.mute or event != "lose" or self._producer is None
        self._changed()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._ends("lose")

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._ends("abort")

    def loseWriteConnection(self) -> None:
        self._ends("finish")
        self._finished = True
        if IHalfCloseableProtocol.providedBy(self._handler):
            self.reactor.callLater(0, self._finish)

    def _finish(self) -> None:
        if self.connected:
            self._guarded(self._handler.writeConnectionLost)

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        alsoProvides(self, ISSLTransport)
        self.tls = True
        # Input that it carries over to TLS is no business of the handler's.
        self.protocol = Protocol()
        self._changed()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._streams = producer, streaming
        if not streaming:
            self._pull(producer)

    def _pull(self, producer: Any) -> None:
        if self._producer is producer:
            self._guarded(producer.resumeProducing)
            self.reactor.callLater(0, self._pull, producer)

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.disconnecting:
            self._ends("lose")

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._changed()

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return self._host

    def getPeerCertificate(self) -> None:
        return None

    def getHandle(self) -> socket.socket:
        # Handlers set options on it; nothing goes through it.
        if self._socket is None:
            self._socket = socket.socket()
        return self._socket

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass


@implementer(IAddress)
@dataclass(frozen=True)
class _OtherAddress:
    """An address of a kind that is known by its words only."""

    words: str

    def __str__(self) -> str:
        return self.words


def _address(words: str) -> Any:
    # The inverse of addresses.in_words().
    host, colon, port = words.rpartition(":")
    if words == "nobody":
        return None
    if words == "unix":
        return UNIXAddress(None)
    if words.startswith("unix:"):
        return UNIXAddress(words[5:].encode())
    if colon and port.isdigit():
        if host.startswith("["):
            return IPv6Address("TCP", host[1:-1], int(port))
        return IPv4Address("TCP", host, int(port))
    return _OtherAddress(words)


class _Player:
    """Goes through the records, one after the other, for all conversations."""

    def __init__(
        self, records: list[Record], factory: IProtocolFactory | Factory[Any], timeout: float
    ) -> None:
        from twisted.internet import reactor  # noqa: TID251

        self._reactor: Any = reactor
        self._factory = factory
        self._timeout = timeout
        self._waiting: Deferred[bool] | None = None
        self._wakes = False
        self._talks: list[_Talk] = []
        # Of those that are open now, in their order: all, those from which output may be
        # missing, and those that are to be given up.
        self._live: dict[_Talk, None] = {}
        self._behind: dict[_Talk, None] = {}
        self._differing: list[_Talk] = []
        self._script: list[tuple[_Talk, Record]] = []
        current: dict[int, _Talk] = {}
        for record in records:
            if record.event == "open" or record.connection not in current:
                talk = current[record.connection] = _Talk(record.connection, self._differing)
                self._talks.append(talk)
            talk = current[record.connection]
            talk.add(record)
            self._script.append((talk, record))

    async def play(self) -> list[Difference]:
        """Play it all."""
        self._factory.doStart()
        try:
            for talk, record in self._script:
                if not talk.over:
                    await self._step(talk, record)
            await self._settle()
        finally:
            self._leave(list(self._live))
            self._factory.doStop()
        return [talk.difference for talk in self._talks if talk.difference is not None]

    async def _step(self, talk: _Talk, record: Record) -> None:
        if talk.wire is None:
            self._open(talk, record)
            await self._turn()
        if talk.over or record.event == "open":
            return
        if record.event == "out":
            talk.due += len(record.data)
            self._behind[talk] = None
        elif record.event in ("in", "eof", "handshake"):
            await self._feed(talk, record)
        elif record.event in _ENDS:
            await self._expect_end(talk, record)
        elif record.event == "tls":
            await self._expect_tls(talk, record)
        elif record.event == "close":
            await self._close(talk, record)

    def _open(self, talk: _Talk, record: Record) -> None:
        opening = record if record.event == "open" else None
        wire = talk.wire = _Wire(talk, opening, self._reactor, self._changed)
        protocol = self._factory.buildProtocol(wire.getPeer())
        if protocol is None or isinstance(protocol, Refusal):
            talk.differs(record.line, "a connection", "none: the factory refused it")
            talk.over = True
        else:
            self._live[talk] = None
            wire.connect(protocol)

    async def _feed(self, talk: _Talk, record: Record) -> None:
        wire = talk.wire
        assert wire is not None
        await self._settle()
        if talk.over:
            return
        if not await self._until(lambda: not wire.paused or talk.ended_at is not None):
            talk.differs(record.line, _to_read(record), f"its input paused for {self._timeout:g} s")
        elif talk.ended_at is not None and not talk.end_was_due:
            # Whose end came first, where both have ended, is the network's matter. Whether
            # ours was due at all, the records that follow say.
            if record.event != "eof":
                talk.differs(record.line, _to_read(record), f"no reader: it {talk.ended_how}")
        else:
            wire.feed(record)
            await self._turn()
        self._leave_those_that_differ()

    async def _expect_end(self, talk: _Talk, record: Record) -> None:
        if talk.end_was_due:
            return  # how long the rest takes, and whether it is cut short, is the peer's matter
        talk.end_was_due = True
        await self._settle()
        if talk.was_drained:
            return
        expected = f"that it {_ENDS[record.event]}"
        came = await self._until(lambda: talk.ended_at is not None or talk.over)
        if not came:
            talk.differs(record.line, expected, f"nothing within {self._timeout:g} s")
        elif talk.ended_at is not None and talk.ended_how != _ENDS[record.event]:
            talk.differs(record.line, expected, f"that it {talk.ended_how}")
        elif talk.ended_at is not None and talk.ended_at != talk.due:
            place = f" after {talk.due} bytes of output"
            talk.differs(record.line, expected + place, f"that after {talk.ended_at}")
        self._leave_those_that_differ()

    async def _expect_tls(self, talk: _Talk, record: Record) -> None:
        wire = talk.wire
        assert wire is not None
        await self._settle()
        if not await self._until(lambda: wire.tls or talk.over or talk.ended_at is not None):
            talk.differs(record.line, "that it starts TLS", f"nothing within {self._timeout:g} s")
        elif not wire.tls and not talk.over:
            talk.differs(record.line, "that it starts TLS", f"that it {talk.ended_how}")
        self._leave_those_that_differ()

    async def _close(self, talk: _Talk, record: Record) -> None:
        assert talk.wire is not None
        await self._settle()
        if talk.over:
            return
        await self._turn()  # for what should not come to have its chance
        kind = getattr(error, str(record.details.get("reason")), None)
        known = isinstance(kind, type) and issubclass(kind, error.ConnectionClosed)
        # It may have ended for an error that the handler raised, then as now.
        if known and talk.ended_at is not None and not talk.end_was_due:
            talk.differs(record.line, "that the peer ends it", f"that it {talk.ended_how}")
        self._leave([talk], kind() if kind is not None and known else error.ConnectionLost())

    async def _settle(self) -> None:
        # Until all output has come that was recorded so far.
        def behind() -> list[_Talk]:
            self._behind = {talk: None for talk in self._behind if talk.is_behind}
            return list(self._behind)

        while not await self._until(lambda: all(talk.mute for talk in behind())):
            for talk in behind():
                talk.is_late(self._timeout)
        for talk in behind():
            talk.is_late(self._timeout)
        self._leave_those_that_differ()

    def _leave_those_that_differ(self) -> None:
        differing = self._differing[:]
        self._differing.clear()
        self._leave(differing)

    def _leave(self, talks: list[_Talk], reason: Exception | None = None) -> None:
        for talk in talks:
            talk.over = True
            self._live.pop(talk, None)
            if talk.wire is not None:
                talk.wire.lose(reason or error.ConnectionDone())

    # -- Waiting ----------------------------------------------------------------------

    async def _until(self, condition: Callable[[], bool]) -> bool:
        # False when nothing at all has happened for the timeout.
        while not condition():
            waiting: Deferred[bool] = Deferred()
            self._waiting = waiting
            late = self._reactor.callLater(self._timeout, self._wake, False)
            if not await waiting:
                return condition()
            late.cancel()
        return True

    def _changed(self) -> None:
        # Never from inside of a handler's call: it would be fed while it works.
        if self._waiting is not None and not self._wakes:
            self._wakes = True
            self._reactor.callLater(0, self._wake, True)

    def _wake(self, something_changed: bool) -> None:
        if something_changed:
            self._wakes = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(something_changed)

    def _turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self._reactor.callLater(0, turn.callback, None)
        return turn


def _to_read(record: Record) -> str:
    if record.event != "in":
        return f"to be told of {record.event}"
    data = record.data[:48]
    return f"to be sent {data!r}{'...' if len(data) < len(record.data) else ''}"


# -- The command ------------------------------------------------------------------------


def replay_command(parser: ArgumentParser) -> None:
    """Give a parser the arguments of ``python -m txasynchat replay``.

    ``call``, among what it parses, does the work; it is to be called with all of that.

    >>> parser = ArgumentParser()
    >>> replay_command(parser)
    >>> parser.parse_args(["trace.jsonl", "--handler", "mine:Handler"]).timeout
    10.0
    """
    parser.description = (
        "Feed a recorded conversation to a handler, in memory, and compare what it answers. "
        "The exit status is 0 if all is as recorded, 1 if something differs, 2 if FILE or "
        "the handler is no good."
    )
    parser.add_argument("file", metavar="FILE", help="what --trace has written")
    parser.add_argument(
        "--handler", required=True, metavar="MODULE:NAME", help="as for the service"
    )
    parser.add_argument(
        "--arg", action="append", default=[], metavar="VALUE", help="as for the service"
    )
    parser.add_argument("--connection", type=int, metavar="N", help="replay this one only, not all")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for an answer that does not come (default: 10)",
    )
    parser.set_defaults(call=lambda options: _run(options, parser))


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < inf:
        raise ArgumentTypeError(f"{text} is no time to wait")
    return seconds


def _run(options: Namespace, parser: ArgumentParser) -> None:
    from twisted.internet.task import react

    from txasynchat.handlers import HandlerError, factory_from

    def refuse(words: str) -> None:
        parser.exit(2, f"{parser.prog}: {words}\n")

    try:
        records = _load(options.file, options.connection)
    except OSError as failed:
        refuse(f"{options.file}: {failed.strerror}")
    except BadTranscript as failed:
        refuse(f"{options.file}: {failed}")
    _warn_of_masks(options.file, records)
    try:
        factory = factory_from(options.handler, options.arg)
    except HandlerError as failed:
        refuse(f"--handler {options.handler}: {failed}")

    async def main(reactor: Any) -> None:
        differences = await _Player(records, factory, options.timeout).play()
        for each in differences:
            print(
                f"{options.file}:{each.line}: connection {each.connection}: "
                f"expected {each.expected}, got {each.got}"
            )
        if differences:
            sys.exit(1)
        print(f"{options.file}: {_summary(records)}: all as recorded")

    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))


def _warn_of_masks(file: str, records: list[Record]) -> None:
    masked = [each for each in records if each.event == "in" and each.details.get("masked")]
    if masked:
        first, more = masked[0], len(masked) - 1
        print(
            f"{file}:{first.line}: connection {first.connection}: the input was masked"
            + (f", here and in {more} other records" if more else "")
            + ": what is answered to it may differ",
            file=sys.stderr,
        )


def _summary(records: list[Record]) -> str:
    came = sum(len(each.data) for each in records if each.event == "in")
    sent = sum(len(each.data) for each in records if each.event == "out")
    connections = len({each.connection for each in records})
    some = "1 connection" if connections == 1 else f"{connections} connections"
    return f"{some}, {came} bytes in, {sent} bytes out"
