"""Limits, numbers and end reasons of unmodified legacy handlers."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from legacy.on_wire import Line, Lines, Watching
from support import until
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from txasynchat import CloseReason, LegacyFactory, asyncore
from txasynchat.legacy.serving import Connection

FULL = "output full"


class Raw(asyncore.dispatcher_with_send):
    """A channel without messages."""

    def __init__(self, sock: Any, addr: Any, map: Any = None) -> None:
        asyncore.dispatcher_with_send.__init__(self, sock, map)
        self.got: list[bytes] = []

    def handle_read(self) -> None:
        if data := self.recv(1000):
            self.got.append(data)
            self.send(data * 10)

    def handle_close(self) -> None:
        self.close()


class Watched(LegacyFactory):
    """Its connections have a watcher, and limits."""

    def __init__(self, build: Any, **limits: Any) -> None:
        super().__init__(build)
        self.watcher = Watching()
        self.limits = limits
        self.made: list[Connection] = []

    def buildProtocol(self, addr: object) -> Connection:
        made = super().buildProtocol(addr)
        made._watcher = self.watcher
        for name, value in self.limits.items():
            setattr(made, name, value)
        self.made.append(made)
        return made


# -- Numbers and names ---------------------------------------------------------------------


def test_traffic_counts_bytes_and_messages_in_both_directions() -> None:
    line = Line(Lines)
    line.receive(b"one\ntwo\nthr")
    assert line.connection.traffic() == {
        "bytes_in": 11,
        "bytes_out": 8,
        "messages_in": 2,
        "messages_out": 2,
        "queued_output": 0,
        "pauses": {},
    }
    line.channel.close()


def test_what_waits_in_the_channel_is_queued_output() -> None:
    line = Line(Lines)
    line.wire.fill()
    line.receive(b"one\ntwo\n")
    assert line.connection.traffic()["queued_output"] == 8
    assert line.connection.traffic()["messages_out"] == 2
    line.wire.empty()
    line.serve()
    assert line.connection.traffic()["queued_output"] == 0
    assert line.connection.traffic()["bytes_out"] == 8
    line.channel.close()


async def test_what_is_gathered_while_the_reactor_serves_is_counted_as_well() -> None:
    from twisted.internet import reactor

    factory = Watched(Lines)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", port.getHost().port), 10) as client:
            client.sendall(b"one\ntwo\nthree\n")
            client.shutdown(socket.SHUT_WR)
            return client.recv(100)

    await deferToThread(talk)
    await until(lambda: "ended" in factory.watcher.names)
    traffic = factory.made[0].traffic()
    assert (traffic["messages_in"], traffic["messages_out"]) == (3, 3)
    assert (traffic["bytes_in"], traffic["bytes_out"]) == (14, 14)
    assert factory.watcher.told == [("opened",), ("ended", CloseReason.PEER)]
    await port.stopListening()


def test_the_handlers_name_is_its_class_or_what_builds_it() -> None:
    class Server(asyncore.dispatcher):
        pass

    line = Line(Lines)
    assert line.connection.handler_name == "Lines"
    line.channel.close()
    assert line.connection.handler_name == "Lines"
    assert LegacyFactory(Lines).buildProtocol(None).handler_name == "Lines"
    server = Server(map={})
    assert LegacyFactory.for_server(server).buildProtocol(None).handler_name == "Server"
    server.close()


# -- Why it ended -------------------------------------------------------------------------


def test_a_handler_that_closes_has_ended_it() -> None:
    class Bye(Lines):
        def answer(self, line: bytes) -> None:
            self.push(b"bye\n")
            self.close_when_done()

    line = Line(Bye)
    line.receive(b"quit\n")
    assert line.wire.disconnecting
    line.lose()
    assert line.watcher.told == [("opened",), ("ended", CloseReason.HANDLER)]


def test_a_peer_that_finishes_or_goes_has_ended_it() -> None:
    line = Line(Lines)
    line.connection.readConnectionLost()
    line.serve()
    line.lose()
    assert line.watcher.told[-1] == ("ended", CloseReason.PEER)
    line = Line(Lines)
    line.lose(ConnectionLost())
    assert line.watcher.told[-1] == ("ended", CloseReason.PEER)
    assert line.connection.close_detail.startswith("Connection to the other side was lost")
    assert line.channel.closes == 1


def test_a_callback_that_raises_has_ended_it_and_the_watcher_is_told() -> None:
    class Broken(Lines):
        def answer(self, line: bytes) -> None:
            raise ValueError("no answer")

    line = Line(Broken)
    line.receive(b"hello\n")
    line.lose()
    assert line.watcher.names == ["opened", "failed", "ended"]
    assert (line.reason, line.connection.close_detail) == ("error", "ValueError: no answer")


def test_an_error_that_the_handler_survives_does_not_end_it() -> None:
    class Survivor(Lines):
        def answer(self, line: bytes) -> None:
            if line == b"bad":
                raise ValueError
            super().answer(line)

        def handle_error(self) -> None:
            self.push(b"sorry\n")

    line = Line(Survivor)
    line.receive(b"bad\n")
    line.receive(b"more\n")
    assert line.wire.value() == b"sorry\nmore\n"
    line.connection.readConnectionLost()
    line.serve()
    line.lose()
    assert line.watcher.names == ["opened", "failed", "ended"]
    assert line.reason == "peer"


def test_a_handler_that_apologises_and_closes_later_ended_by_an_error() -> None:
    class Polite(Lines):
        def answer(self, line: bytes) -> None:
            raise ValueError

        def handle_error(self) -> None:
            self.push(b"sorry\n")
            self.close_when_done()

    line = Line(Polite)
    line.receive(b"bad\n")
    line.lose()
    assert (line.wire.value(), line.reason) == (b"sorry\n", "error")


def test_one_that_can_not_be_built_ended_by_an_error(
    logged_failures: Any,
) -> None:
    def broken(*args: Any) -> None:
        raise ValueError("out of order")

    line = Line(broken)
    line.lose()
    assert line.watcher.names == ["opened", "failed", "ended"]
    assert line.reason == "error"
    assert len(logged_failures()) == 1


def test_a_refused_connection_is_cut_and_no_handler_is_built() -> None:
    line = Line(Lines, Watching(lets_in=False))
    assert line.wire.aborted
    line.lose()
    assert line.channel is None
    assert line.watcher.told == [("opened",), ("ended", CloseReason.LIMIT)]


async def test_behind_a_proxy_it_is_opened_once_the_peer_is_known() -> None:
    from twisted.internet import reactor

    factory = Watched(Lines)
    endpoint = serverFromString(reactor, "haproxy:tcp:0:interface=127.0.0.1")
    port = await endpoint.listen(factory)
    client = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
    await until(lambda: factory.made)
    assert factory.watcher.told == []
    client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n")
    await until(lambda: factory.watcher.told)
    assert factory.made[0].transport.getPeer().host == "192.0.2.7"  # type: ignore[union-attr]
    client.close()
    await until(lambda: "ended" in factory.watcher.names)
    await port.stopListening()


# -- The longest message --------------------------------------------------------------------


def test_a_message_over_the_limit_cuts_the_connection(logged_failures: Any) -> None:
    line = Line(Lines, max_message_length=5)
    line.receive(b"12345\n123456\nnext\n")
    assert line.channel.lines == [b"12345"]
    assert line.wire.aborted
    line.lose(ConnectionLost())
    assert line.watcher.told == [
        ("opened",),
        ("limited", "max_message_length"),
        ("ended", CloseReason.LIMIT),
    ]
    assert line.channel.closes == 1
    assert not line.map
    assert "raise max_message_length to allow more" in logged_failures()[0]


def test_a_message_that_never_ends_is_cut_at_the_limit(logged_failures: Any) -> None:
    line = Line(Lines, max_message_length=5)
    for _ in range(6):
        line.receive(b"1")
    assert line.wire.aborted
    line.receive(b"1\nmore\n")
    assert line.channel.lines == []
    line.lose()
    assert len(logged_failures()) == 1


def test_a_number_of_bytes_has_no_limit_of_its_own() -> None:
    class Body(Lines):
        def __init__(self, sock: Any, addr: Any, map: Any) -> None:
            super().__init__(sock, addr, map)
            self.set_terminator(1000)

    line = Line(Body, max_message_length=5)
    line.receive(bytes(1000))
    assert line.channel.lines == [bytes(1000)]
    line.channel.close()


# -- Queued output --------------------------------------------------------------------------


class Chatty(Lines):
    """Answers with much more than it is asked."""

    def answer(self, line: bytes) -> None:
        self.push(line * 500)


def test_a_peer_that_reads_nothing_is_given_no_more_answers() -> None:
    line = Line(Chatty, max_queued_output=2000)
    line.wire.fill()
    line.receive(b"x\n" * 1000)
    asked = len(line.channel.lines)
    assert asked == 5  # up to the one that exceeds the limit
    assert line.connection.traffic()["queued_output"] == 2500
    assert line.connection.traffic()["pauses"] == {FULL: 1}
    line.receive(b"x\n" * 1000)
    assert len(line.channel.lines) == asked
    line.channel.close()


def test_a_peer_that_reads_again_gets_all_its_answers() -> None:
    line = Line(Chatty, max_queued_output=2000)
    for _ in range(20):
        line.wire.fill()
        line.receive(b"x\n" * 10 + b"y")
        line.receive(b"\n")
        line.wire.empty()
        line.serve(100)
    assert len(line.channel.lines) == 220
    assert line.wire.value() == (b"x" * 5000 + b"y" * 500) * 20
    line.channel.close()


@pytest.mark.parametrize("rest", [b"", b"two\n"])
def test_output_pushed_in_the_middle_of_a_message_that_has_no_room_ends_nothing(
    rest: bytes,
) -> None:
    class Echo(Lines):
        def collect_incoming_data(self, data: bytes) -> None:
            super().collect_incoming_data(data)
            self.push(data * 10)

        def answer(self, line: bytes) -> None:
            pass

    line = Line(Echo, max_queued_output=20)
    line.wire.fill()
    line.receive(b"one\n" + rest)
    assert (line.channel.lines, line.channel.closes) == ([] if rest else [b"one"], 0)
    line.wire.empty()
    line.serve()
    assert line.wire.value() == b"one" * 10 + b"two" * 10 * bool(rest)
    assert (line.channel.lines, line.channel.closes) == ([b"one"] + [b"two"] * bool(rest), 0)
    line.channel.close()


async def served_by_the_reactor(kind: Callable[..., Any], **limits: Any) -> Line:
    """A connection that nobody loops over: its answers to a chunk are gathered."""
    line = Line(kind, **limits)
    await until(lambda: line.channel._txa_watch.is_hosted)
    return line


def queued(line: Line) -> int:
    return int(line.connection.traffic()["queued_output"])


@pytest.mark.parametrize("kind", [Lines, Raw])
async def test_nothing_is_written_while_the_transport_is_full(kind: Callable[..., Any]) -> None:
    line = await served_by_the_reactor(kind)
    line.wire.fill()
    for _ in range(20):
        line.connection.dataReceived(b"hello\n")
    assert line.wire.value() == b""
    line.wire.empty()
    answers = 20 * b"hello\n" * (10 if kind is Raw else 1)
    await until(lambda: line.wire.value() == answers)
    assert queued(line) == 0
    line.channel.close()


async def test_a_peer_that_only_sends_makes_nothing_grow_where_the_reactor_serves() -> None:
    line = await served_by_the_reactor(Chatty, max_queued_output=2000)
    line.wire.fill()
    for _ in range(50):
        line.connection.dataReceived(b"x\n" * 50)
    assert (line.wire.value(), queued(line)) == (b"", 2500)
    assert line.connection.traffic()["pauses"] == {FULL: 1}
    line.wire.empty()
    await until(lambda: line.wire.value() == b"x" * 500 * 2500)
    line.channel.close()


async def test_a_transport_that_is_full_within_a_chunk_gets_no_more_of_its_answers() -> None:
    line = await served_by_the_reactor(Chatty, max_queued_output=2000)
    write = line.wire.write

    def fill_up(data: bytes) -> None:
        write(data)
        line.wire.fill()

    line.wire.write = fill_up
    for _ in range(3):
        line.connection.dataReceived(b"x\n" * 1000)
    written = len(line.wire.value())
    assert written < 65536 + 500  # what is gathered for one write
    assert queued(line) == 2500
    line.wire.write = write
    line.wire.empty()
    await until(lambda: line.wire.value() == b"x" * 500 * 3000)
    line.channel.close()


async def test_the_answers_to_a_chunk_are_one_write_again_once_there_is_room() -> None:
    line = await served_by_the_reactor(Lines)
    line.wire.fill()
    line.connection.dataReceived(b"one\n")
    line.wire.empty()
    await until(lambda: line.wire.value() == b"one\n")
    writes: list[bytes] = []
    line.wire.write = writes.append
    line.connection.dataReceived(b"two\nthree\n")
    assert writes == [b"two\nthree\n"]
    line.channel.close()


async def test_over_a_socket_memory_is_bounded_and_nothing_is_lost() -> None:
    from twisted.internet import reactor

    class Generous(Lines):
        def answer(self, line: bytes) -> None:
            self.push(line * 10_000)
            most[0] = max(most[0], factory.made[0].traffic()["queued_output"])

    most = [0]
    factory = Watched(Generous, max_queued_output=100_000)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    client = socket.create_connection(("127.0.0.1", port.getHost().port), 20)
    client.sendall(b"x\n" * 3000)
    await until(lambda: factory.made and factory.made[0].traffic()["pauses"])

    def drink() -> int:
        got = 0
        while got < 30_000_000:
            got += len(client.recv(1_000_000))
        return got

    assert await deferToThread(drink) == 30_000_000
    assert most[0] <= 100_000 + 10_000 + 65536
    client.close()
    await until(lambda: "ended" in factory.watcher.names)
    await port.stopListening()


def test_a_dispatcher_with_send_is_held_back_by_its_buffer() -> None:
    line = Line(Raw, max_queued_output=20)
    line.wire.fill()
    line.receive(b"1234")
    line.receive(b"5678")
    assert line.channel.got == [b"1234"]
    line.wire.empty()
    line.serve()
    assert line.channel.got == [b"1234", b"5678"]
    line.channel.close()


# -- Time -------------------------------------------------------------------------------------


def test_an_idle_connection_is_closed() -> None:
    line = Line(Lines, idle_timeout=10)
    line.clock.advance(9)
    line.receive(b"one\n")
    line.clock.advance(9)
    assert line.watcher.names == ["opened"]
    line.clock.advance(1)
    line.serve()
    assert line.wire.disconnecting
    line.lose()
    assert line.watcher.told[1:] == [("limited", "idle_timeout"), ("ended", CloseReason.TIMEOUT)]
    assert not line.clock.getDelayedCalls()


def test_output_is_no_idleness() -> None:
    line = Line(Lines, idle_timeout=10)
    line.clock.advance(9)
    line.channel.push(b"still there?\n")
    line.clock.advance(9)
    assert line.watcher.names == ["opened"]
    line.channel.close()
    line.lose()


def test_a_peer_that_never_reads_is_cut_after_the_close_timeout() -> None:
    line = Line(Lines, idle_timeout=10, close_timeout=5)
    line.wire.fill()
    line.receive(b"one\n")
    line.clock.advance(10)
    line.serve()
    assert not line.wire.aborted
    line.clock.advance(5)
    assert line.wire.aborted
    line.lose(ConnectionLost())
    assert line.watcher.told[1:] == [
        ("limited", "idle_timeout"),
        ("limited", "close_timeout"),
        ("ended", CloseReason.TIMEOUT),
    ]
    assert (line.channel.closes, line.map) == (1, {})


def test_a_connection_that_never_says_who_it_is_can_be_idle_too() -> None:
    line = Line(Lines, idle_timeout=10)
    connection = LegacyFactory(Lines).buildProtocol(None)
    connection.idle_timeout = 10
    connection.callLater = line.clock.callLater  # type: ignore[method-assign, assignment]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("txasynchat.legacy.serving.when_peer_is_known", lambda *args: None)
        connection.makeConnection(line.wire)  # type: ignore[no-untyped-call]
    line.clock.advance(10)
    assert line.wire.disconnecting
    connection.connectionLost()
    assert connection.close_reason is CloseReason.TIMEOUT
    line.channel.close()
    line.lose()


# -- Has it begun? -----------------------------------------------------------------------------


def test_a_chat_has_begun_with_its_first_message() -> None:
    line = Line(Lines)
    begun = [line.connection.has_begun]
    for piece in (b"on", b"e\n"):
        line.receive(piece)
        begun.append(line.connection.has_begun)
    assert begun == [False, False, True]
    line.channel.close()


def test_a_channel_without_messages_has_begun_with_its_first_byte() -> None:
    line = Line(Raw)
    before = line.connection.has_begun
    line.receive(b"x")
    assert (before, line.connection.has_begun) == (False, True)
    line.channel.close()


# -- A server that was not asked in time -------------------------------------------------------


def test_a_connection_that_is_cut_before_the_server_accepts_it_is_not_accepted() -> None:
    accepted: list[Any] = []
    errors: list[Any] = []

    class Server(asyncore.dispatcher):
        def handle_accepted(self, sock: Any, addr: Any) -> None:
            accepted.append(sock)

        def handle_error(self) -> None:
            errors.append(sys.exc_info()[1])

    channels: dict[int, Any] = {}
    factory = LegacyFactory.for_server(Server(map=channels))
    connection: Any = factory.buildProtocol(None)
    clock = Clock()
    connection.callLater = clock.callLater
    wire: Any = StringTransport()
    wire.abortConnection = lambda: connection.connectionLost(Failure(ConnectionAborted()))
    connection.makeConnection(wire)
    connection._abort(CloseReason.LIMIT, "for the test")
    clock.advance(1)
    asyncore.poll(0.0, channels)
    assert (accepted, errors) == ([], [])
    factory.server.close()
