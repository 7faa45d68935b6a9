"""Fuzzes an unmodified SMTP server, ``smtpd``, over TransportSocket on a transport in memory.

``python fuzz/legacy_smtp.py -max_total_time=600``; README.md beside it says more. An input
is what the peer sends, with what happens meanwhile in between: the byte 255 and one of
:data:`EVENTS`. Whatever comes when:

* nothing raises but smtpd itself, and the server goes on;
* the replies and the mails are those of smtpd's own code that is given each line as a
  whole, without any loop, socket or framing; all of them where nothing cut them off;
* what waits, in either direction, stays within its bounds, and nothing spins;
* at the end nothing is left: no channel, no timer; and it is known why it ended.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common import Choices, Finding, check, fuzz
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, eventAsText, globalLogPublisher
from twisted.python.failure import Failure

import txasynchat
from txasynchat import asyncore
from txasynchat.core.lifecycle import CloseReason
from txasynchat.legacy.serving import LegacyFactory
from txasynchat.legacy.transport_socket import TransportSocket

__all__ = ("one_input",)

#: What may stand behind a byte 255; its number is taken modulo their count.
EVENTS = (
    "a byte 255",
    "next chunk",
    "full",
    "room",
    "half close",
    "lost",
    "reset",
    "a turn",
    "filler",
    "drain",
    "time",
    "finish",
    "abort",
)

#: Where errors must not come from.
_OURS = (Path(txasynchat.__file__).parent, Path(__file__).parent)

#: The most that one input may send as filler, in bytes.
_FILLER = 1 << 20

_DATA_SIZE_LIMITS = (33554432, 1000, 0, 300)
_MESSAGE_LENGTHS = (None, None, 70000, 400)
_QUEUED_OUTPUTS = (65536, 2000)

#: smtpd counts a line that is longer than this and forgets some of it, by the pieces.
_COMMAND_SIZE = 512

#: Replies in the queue, those to one command, and their lengths, in bytes.
_ITEMS = 1000
_AT_ONCE = 8
_SHORTEST = 8
_LONGEST = 2 * _COMMAND_SIZE

#: Input that may wait, and what comes in one chunk at the most: both in bytes.
_INPUT = 65536
_CHUNK = 65536

#: After so many turns in which nothing is new the loop would spin.
_TURNS = 20000

#: Behind what is closed there is nothing to wait for but the peer: longer than all timers.
_LONG = 200.0


def _smtpd() -> Any:
    # A copy of smtpd on the drop-in, whatever this process has imported under these names.
    spec = find_spec("smtpd")
    if spec is None or spec.loader is None:
        raise ImportError("smtpd is not here: pip install standard-smtpd")
    module = module_from_spec(spec)
    was_installed = sys.modules.get("asyncore") is asyncore
    txasynchat.install()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            spec.loader.exec_module(module)
    finally:
        if not was_installed:
            txasynchat.uninstall()
    return module


smtpd: Any = _smtpd()


# -- The server ----------------------------------------------------------------------------


class Channel(smtpd.SMTPChannel):  # type: ignore[misc]
    """smtpd's own; its errors are looked at."""

    def handle_error(self) -> None:
        """Note whose error it is."""
        self.smtp_server.errors.append(_whose_error())
        super().handle_error()

    def log_info(self, message: Any, type: str = "info") -> None:
        """Print nothing."""


class Server(smtpd.SMTPServer):  # type: ignore[misc]
    """Keeps the mails; has no socket of its own."""

    channel_class = Channel

    def __init__(self, options: Options, map: dict[int, Any]) -> None:
        self.errors: list[type[BaseException]] = []
        self.mails: list[tuple[Any, ...]] = []
        super().__init__(
            ("127.0.0.1", 0), None, options.data_size_limit, map, options.utf8, options.decode
        )

    def create_socket(self, *arguments: Any) -> None:
        """Nothing: an endpoint accepts for it."""

    set_reuse_addr = bind = listen = create_socket

    def process_message(self, peer: Any, mailfrom: Any, to: Any, data: Any, **more: Any) -> None:
        """Keep a mail."""
        self.mails.append((mailfrom, list(to), data, more))

    def handle_error(self) -> None:
        """A server has no business with errors."""
        raise Finding("broken: the server goes on") from sys.exc_info()[1]


def _whose_error() -> type[BaseException]:
    # That of smtpd and what it calls is its own: a byte that is no UTF-8, an address that
    # email can't parse. One that begins in our code is a finding.
    error = sys.exc_info()[1]
    assert error is not None
    if isinstance(error, Finding):
        raise error
    where = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if any(where.is_relative_to(each) for each in _OURS):
        raise Finding(f"broken: only smtpd itself raises; {error!r} in {where}") from error
    return type(error)


class Options:
    """How the server is set up, by the first byte of an input."""

    def __init__(self, byte: int) -> None:
        self.data_size_limit = _DATA_SIZE_LIMITS[byte & 3]
        self.max_message_length = _MESSAGE_LENGTHS[byte >> 2 & 3]
        self.max_queued_output = _QUEUED_OUTPUTS[byte >> 4 & 1]
        kind = byte >> 5
        self.decode = kind in (1, 2)
        self.utf8 = kind in (3, 4)
        self.idle_timeout = 30.0 if kind in (2, 4, 5) else None


class Reference(smtpd.SMTPChannel):  # type: ignore[misc]
    """smtpd's own code, called for each line as a whole: what should come out."""

    def __init__(self, options: Options) -> None:
        self.replies: list[bytes] = []
        self.has_quit = False
        self.error: type[BaseException] | None = None
        # Whether what smtpd does depends on the pieces that a line came in.
        self.is_vague = False
        self._map: dict[int, Any] = {}
        self._server = Server(options, {})
        sock = TransportSocket(Wire(Clock()))
        super().__init__(
            self._server,
            sock,
            sock.getpeername(),
            options.data_size_limit,
            {},
            options.utf8,
            options.decode,
        )

    @property
    def mails(self) -> list[tuple[Any, ...]]:
        """Those delivered."""
        return self._server.mails

    def push(self, msg: str) -> None:
        """Keep a reply. Encodes as smtpd does."""
        encoding = "utf-8" if self.require_SMTPUTF8 else "ascii"
        self.replies.append(bytes(msg + "\r\n", encoding))

    def close_when_done(self) -> None:
        """It said goodbye: what comes behind that is nobody's business."""
        self.has_quit = True

    def converse(self, stream: bytes) -> None:
        """Take all that the peer has sent."""
        self.is_vague = self._decode_data and not stream.isascii()
        while not (self.has_quit or self.error):
            line, found, stream = stream.partition(self.terminator)
            is_command = self.smtp_state == self.COMMAND
            if not found:
                self.is_vague = self.is_vague or (is_command and len(line) > _COMMAND_SIZE)
                return
            self.is_vague = self.is_vague or (is_command and len(line) > _COMMAND_SIZE)
            try:
                if line:
                    self.collect_incoming_data(line)
                self.found_terminator()
            except Exception as error:
                self.error = type(error)


# -- What is under it, and around it ---------------------------------------------------------


class Wire(StringTransport):
    """A transport that may be full, may be told to stop reading, and dies of a close."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reactor = clock
        self.is_full = self.is_gone = self.is_aborted = self.is_deaf = False

    def write(self, data: bytes) -> None:
        """Keep what is written."""
        check(not self.is_gone, "nothing is written to what is gone", data)
        super().write(data)  # type: ignore[no-untyped-call]

    def pauseProducing(self) -> None:
        """Read no more."""
        self.is_deaf = True

    def resumeProducing(self) -> None:
        """Read on."""
        self.is_deaf = False

    def abortConnection(self) -> None:
        """Die at once."""
        self.is_aborted = True

    def set_full(self, full: bool) -> None:
        """Tell who writes whether there is room."""
        self.is_full = full
        if self.producer is not None and full:
            self.producer.pauseProducing()
        elif self.producer is not None:
            self.producer.resumeProducing()

    @property
    def is_ending(self) -> bool:
        """Whether nothing is left but to tell that it is gone."""
        return self.is_aborted or (self.disconnecting and not self.is_full)


class Register:
    """Who watches the connection, as a service does."""

    def __init__(self) -> None:
        self.opens = self.ends = 0
        self.failures: list[Failure] = []
        self.limits: list[str] = []

    def opened(self, connection: Any, /) -> bool:
        """It is welcome."""
        self.opens += 1
        return True

    def ended(self, connection: Any, /) -> None:
        """Its end, once."""
        self.ends += 1

    def failed(self, connection: Any, failure: Failure, /) -> None:
        """Its handler has raised."""
        self.failures.append(failure)

    def limited(self, connection: Any, limit: str, detail: str, /) -> None:
        """It has hit a limit."""
        self.limits.append(limit)


# -- A conversation ----------------------------------------------------------------------------


class Conversation:
    """One connection to the server, and what becomes of it."""

    def __init__(self, options: Options, channels: dict[int, Any]) -> None:
        self.options = options
        self.map = channels
        self.clock = Clock()
        self.wire = Wire(self.clock)
        self.register = Register()
        self.server = Server(options, self.map)
        connection: Any = LegacyFactory.for_server(self.server).buildProtocol(None)
        self.connection = connection
        self.connection.callLater = self.clock.callLater
        self.connection._watcher = self.register
        self.connection.max_message_length = options.max_message_length
        self.connection.max_queued_output = options.max_queued_output
        self.connection.idle_timeout = options.idle_timeout
        self.waiting: list[bytes] = []
        self.sent: list[bytes] = []
        self.filler = 0
        self.has_finished = self.was_full = self.was_disturbed = self.had_room = False
        self.chunk = b""
        self.connection.makeConnection(self.wire)

    # -- What happens to it -------------------------------------------------------------

    def play(self, data: bytes) -> None:
        """Send `data`, with the events in it."""
        text, *others = data.split(b"\xff")
        self.chunk = text
        for each in others:
            number, rest = (each[0], each[1:]) if each else (0, b"")
            self._happen(EVENTS[number % len(EVENTS)], Choices(rest))
        self._send()
        self._turn()

    def _happen(self, event: str, choices: Choices) -> None:
        if event == "a byte 255":
            self.chunk += b"\xff" + choices.rest()
            return
        self._send()
        if event == "filler":
            size = min(256 * choices.byte(), _FILLER - self.filler)
            self.filler += size
            self.chunk = bytes([choices.byte()]) * size
        elif event == "a turn":
            self._turn()
        elif event == "time":
            self.clock.advance(choices.byte())
        elif not self.wire.is_gone:
            self._happen_to_wire(event)
        self._settle()
        self.chunk += choices.rest()

    def _happen_to_wire(self, event: str) -> None:
        if event in ("full", "room"):
            self.wire.set_full(event == "full")
            self.was_full = self.was_full or event == "full"
            self.had_room = self.was_full and (self.had_room or event == "room")
        elif event == "half close" and not self.has_finished:
            self.has_finished = True
            self.was_disturbed = self.was_disturbed or bool(self.waiting)
            check(IHalfCloseableProtocol.providedBy(self.connection), "half closes are heard")
            self.connection.readConnectionLost()
        elif event in ("lost", "reset"):
            self.was_disturbed = True
            self._lose(ConnectionDone() if event == "lost" else ConnectionLost())
        elif event == "drain":
            self.was_disturbed = True
            self.connection.begin_drain()
        elif event == "finish":
            self.was_disturbed = True
            self.connection._finish(CloseReason.DRAIN, "asked to")
        elif event == "abort":
            self.was_disturbed = True
            self.connection._abort(CloseReason.LIMIT, "asked to")

    def _send(self) -> None:
        # As much as the transport reads: the rest waits, as in the kernel.
        chunk, self.chunk = self.chunk, b""
        self.waiting += [chunk[at : at + _CHUNK] for at in range(0, len(chunk), _CHUNK)]
        self._settle()

    def _settle(self) -> None:
        # What follows of itself, without the server's loop.
        while True:
            if self.wire.is_ending and not self.wire.is_gone:
                self._lose(ConnectionAborted() if self.wire.is_aborted else ConnectionDone())
            if not self.waiting or self.wire.is_deaf or self.wire.is_gone or self.has_finished:
                break
            chunk = self.waiting.pop(0)
            self.sent.append(chunk)
            self.connection.dataReceived(chunk)
        self._check_bounds()

    def _lose(self, reason: Exception) -> None:
        self.wire.is_gone = True
        self.connection.connectionLost(Failure(reason))

    def _turn(self) -> None:
        # The server's loop, as long as something moves.
        for _ in range(_TURNS):
            before = self._state()
            asyncore.poll(0.0, self.map)
            self._settle()
            if self._state() == before:
                return
        raise Finding(f"broken: nothing spins; after {_TURNS} turns {self._state()}")

    def _state(self) -> tuple[Any, ...]:
        sock = self.connection._sock
        return (len(self.wire.value()), len(self.waiting), sock.progress(), *self.map)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Have room, and time, and at last a peer that goes."""
        if not self.wire.is_gone:
            self.had_room = True
            self.wire.set_full(False)
        self._settle()
        self._turn()
        if not self.wire.is_gone:
            self._lose(ConnectionDone())
        self._turn()
        self.clock.advance(_LONG)
        self._turn()

    # -- What must be so -----------------------------------------------------------------

    def _check_bounds(self) -> None:
        sock = self.connection._sock
        check(sock._size == sum(map(len, sock._input)), "input is counted", sock._size)
        check(sock._size < _INPUT + _CHUNK + _INPUT, "input that waits is bounded", sock._size)
        channel = sock.channel
        if channel is None:
            return
        unread = len(channel.ac_in_buffer)
        check(unread <= _INPUT + _COMMAND_SIZE, "what the framer keeps is bounded", unread)
        size, items = sock.queued()
        most = self.options.max_queued_output
        check(items <= min(_ITEMS, most // _SHORTEST) + _AT_ONCE, "the queue is bounded", items)
        # Where there is room each reply that comes sends one, of another length maybe.
        if not self.had_room:
            check(size <= most + _AT_ONCE * _LONGEST, "the queue is bounded", size)

    def check_end(self) -> None:
        """Nothing is left, and what was counted is right."""
        check(list(self.map.values()) == [self.server], "the channel has left", self.map)
        timers = self.clock.getDelayedCalls()
        check(not timers, "no timer is left", timers)
        check((self.register.opens, self.register.ends) == (1, 1), "it opens and ends once")
        check(self.connection.close_reason is not None, "it is known why it ended")
        check(self.wire.producer is None or self.wire.is_gone, "no producer is left")
        numbers = self.connection.traffic()
        check(numbers["bytes_in"] == sum(map(len, self.sent)), "input is counted", numbers)
        output = self.wire.value()  # type: ignore[no-untyped-call]
        check(numbers["bytes_out"] == len(output), "output is counted", numbers, len(output))
        check(numbers["queued_output"] == 0, "at the end nothing waits", numbers)
        failed = [each.type for each in self.register.failures]
        check(failed == self.server.errors, "failures are told", failed, self.server.errors)
        self.server.close()
        check(not self.map, "the server has left", self.map)

    def check_answers(self) -> None:
        """The answers are those of the reference, as far as nothing came between."""
        output: bytes = self.wire.value()  # type: ignore[no-untyped-call]
        lines = output.split(b"\r\n")
        check(lines.pop() == b"", "replies are complete", output[-100:])
        for line in lines:
            is_reply = line[:3].isdigit() and line[3:4] in (b" ", b"-")
            check(is_reply, "a reply has a number", line)
        with _names():
            expected = Reference(self.options)
            expected.converse(b"".join(self.sent))
            expected.del_channel()  # a reactor that runs would serve it
        if expected.is_vague:
            return
        replies, mails = b"".join(expected.replies), self.server.mails
        errors = [] if expected.error is None else [expected.error]
        check(replies.startswith(output), "no other reply comes", output, replies)
        # Behind a QUIT whose answer waits for room, the old module goes on handling.
        common = min(len(mails), len(expected.mails)) if expected.has_quit else len(mails)
        check(mails[:common] == expected.mails[:common], "no other mail comes", mails)
        if not expected.has_quit:
            check(self.server.errors in ([], errors), "no other error", self.server.errors, errors)
        cut = self.was_full and (self.has_finished or expected.error or expected.has_quit)
        if not (self.was_disturbed or self.register.limits or cut):
            check(output == replies, "all replies come", output, replies)
            check(mails == expected.mails, "all mails come", mails, expected.mails)
            if not expected.has_quit:
                check(self.server.errors == errors, "errors come", self.server.errors, errors)


def _names() -> Any:
    # Nobody asks the resolver: smtpd does, for each connection.
    return patch.object(smtpd.socket, "getfqdn", lambda name="": "mail.example")


def one_input(data: bytes) -> None:
    """Have the peer send what an input says, and check what comes of it.

    :raise Finding: if a promise is broken; what nobody catches comes out too.
    """
    logged: list[str] = []

    def observe(event: Any) -> None:
        is_error = event["log_level"] >= LogLevel.error
        if is_error and "raise max_message_length" not in event["log_format"]:
            logged.append(eventAsText(event))

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    channels: dict[int, Any] = {}
    try:
        with _names():
            conversation = Conversation(Options(data[0] if data else 0), channels)
            conversation.play(data[1:])
            conversation.end()
        conversation.check_end()
        conversation.check_answers()
    finally:
        channels.clear()  # after a finding there may be some, which a running reactor would serve
        globalLogPublisher.removeObserver(observer)
    check(not logged, "no failure is logged", *logged)


if __name__ == "__main__":
    fuzz(one_input, ("txasynchat", smtpd.__name__))
