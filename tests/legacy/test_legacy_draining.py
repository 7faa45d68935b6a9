"""The end of a service, for legacy handlers that know nothing of it, and for those that do."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from legacy.on_wire import Line, Lines, Watching
from support import until
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionAborted
from twisted.internet.threads import deferToThread

from txasynchat import CloseReason, LegacyFactory, asyncore
from txasynchat.legacy.serving import Connection


class Raw(asyncore.dispatcher_with_send):
    """A channel without messages."""

    def __init__(self, sock: Any, addr: Any, map: Any = None) -> None:
        asyncore.dispatcher_with_send.__init__(self, sock, map)
        self.got: list[bytes] = []
        self.closes = 0

    def handle_read(self) -> None:
        if data := self.recv(1000):
            self.got.append(data)

    def handle_close(self) -> None:
        self.closes += 1
        self.close()


def drained(line: Line) -> None:
    line.connection.begin_drain()
    line.serve()


def check_drained(line: Line) -> None:
    """It has closed itself, for this reason, and nothing of it is left."""
    assert line.wire.disconnecting
    assert not line.wire.aborted
    line.lose()
    assert line.watcher.told == [("opened",), ("ended", CloseReason.DRAIN)]
    assert line.channel.closes == 1
    assert line.map == {}
    assert not line.clock.getDelayedCalls()


# -- Chats ------------------------------------------------------------------------------------


def test_one_that_nobody_has_spoken_to_closes_at_once() -> None:
    line = Line(Lines)
    drained(line)
    check_drained(line)


def test_one_between_two_messages_closes_once_its_output_is_sent() -> None:
    line = Line(Lines)
    line.wire.fill()
    line.receive(b"one\n")
    drained(line)
    line.receive(b"two\n")
    assert not line.wire.disconnecting
    line.wire.empty()
    line.serve()
    assert line.wire.value() == b"one\n"
    assert line.channel.lines == [b"one"]
    check_drained(line)


@pytest.mark.parametrize("rest", [[b"e\n"], [b"e", b"\n"], [b"e\ntwo\n"]])
def test_one_inside_a_message_takes_its_rest_and_answers(rest: list[bytes]) -> None:
    line = Line(Lines)
    line.receive(b"zero\non")
    drained(line)
    assert not line.wire.disconnecting
    for data in rest:
        line.receive(data)
    assert line.wire.value() == b"zero\none\n" + b"two\n" * (b"two" in rest[0])
    check_drained(line)


def test_half_a_terminator_is_inside_a_message() -> None:
    class TwoBytes(Lines):
        def __init__(self, sock: Any, addr: Any, map: Any) -> None:
            super().__init__(sock, addr, map)
            self.set_terminator(b"\r\n")

    line = Line(TwoBytes)
    line.receive(b"\r")
    drained(line)
    assert not line.wire.disconnecting
    line.receive(b"\n")
    check_drained(line)


def test_a_body_that_was_announced_belongs_to_the_message() -> None:
    class Bodies(Lines):
        def answer(self, line: bytes) -> None:
            if line.startswith(b"BODY "):
                self.set_terminator(int(line[5:]))
            else:
                self.set_terminator(b"\n")
                self.push(b"got %d\n" % len(line))

    line = Line(Bodies)
    line.receive(b"BODY 10\n")
    drained(line)
    line.receive(b"12345")
    assert not line.wire.disconnecting
    line.receive(b"67890")
    assert line.wire.value() == b"got 10\n"
    check_drained(line)


def test_one_of_counted_messages_closes_between_two() -> None:
    class Fives(Lines):
        def __init__(self, sock: Any, addr: Any, map: Any) -> None:
            super().__init__(sock, addr, map)
            self.set_terminator(5)

        def answer(self, line: bytes) -> None:
            super().answer(line)
            self.set_terminator(5)

    line = Line(Fives)
    line.receive(b"1234512")
    drained(line)
    assert not line.wire.disconnecting
    line.receive(b"345")
    assert line.wire.value() == b"12345\n12345\n"
    check_drained(line)


def test_input_that_was_not_received_yet_is_handled_first() -> None:
    line = Line(Lines)
    line.connection.dataReceived(b"one\ntwo\n")  # the loop did not come to it yet
    drained(line)
    assert line.wire.value() == b"one\ntwo\n"
    check_drained(line)


def test_handle_drain_is_called_and_may_say_goodbye() -> None:
    class Polite(Lines):
        def handle_drain(self) -> None:
            self.push(b"421 we stop\n")

    line = Line(Polite)
    line.receive(b"one\n")
    drained(line)
    line.connection.begin_drain()
    assert line.wire.value() == b"one\n421 we stop\n"
    check_drained(line)


def test_handle_drain_may_close_by_itself() -> None:
    class Final(Lines):
        def handle_drain(self) -> None:
            self.push(b"421\n")
            self.close_when_done()

    line = Line(Final)
    line.receive(b"in the middle of")
    drained(line)
    assert line.wire.value() == b"421\n"
    check_drained(line)


def test_a_handle_drain_that_raises_is_an_error_of_the_handler() -> None:
    class Broken(Lines):
        def handle_drain(self) -> None:
            raise ValueError("not ready")

    line = Line(Broken)
    drained(line)
    line.lose()
    assert line.watcher.names == ["opened", "failed", "ended"]
    assert line.reason == "error"
    assert line.channel.closes == 1


def test_a_handler_that_begins_the_drain_itself_answers_first() -> None:
    class Stopping(Lines):
        def answer(self, line: bytes) -> None:
            connections[0].begin_drain()
            super().answer(line)

    line = Line(Stopping)
    connections = [line.connection]
    line.receive(b"stop\n")
    assert line.wire.value() == b"stop\n"
    line.clock.advance(1)
    check_drained(line)


def test_one_that_closes_already_ended_by_its_handler() -> None:
    line = Line(Lines)
    line.wire.fill()
    line.channel.push(b"bye\n")
    line.channel.close_when_done()
    drained(line)
    line.wire.empty()
    line.serve()
    assert line.wire.value() == b"bye\n"
    line.lose()
    assert line.reason == "handler"


def test_a_peer_that_goes_meanwhile_has_ended_it() -> None:
    line = Line(Lines)
    line.receive(b"half")
    drained(line)
    line.lose()
    assert line.reason == "peer"
    assert line.map == {}


def test_a_peer_that_finishes_in_the_middle_of_its_message_has_ended_it() -> None:
    line = Line(Lines)
    line.receive(b"on")
    drained(line)
    line.connection.readConnectionLost()
    line.serve()
    line.lose()
    assert (line.reason, line.channel.lines) == ("peer", [])


def test_a_chat_that_receives_in_its_own_way_is_told_that_the_peer_has_finished() -> None:
    class Own(Lines):
        def handle_read(self) -> None:
            if data := self.recv(100):
                self.lines.append(data)

    line = Line(Own)
    line.receive(b"anything")
    drained(line)
    assert line.channel.lines == [b"anything"]
    check_drained(line)


# -- Plain dispatchers --------------------------------------------------------------------------


class ByItself(Lines):
    """Cuts its lines itself."""

    rest = b""

    def handle_read(self) -> None:
        self.rest += self.recv(1000)
        while b"\n" in self.rest:
            line, self.rest = self.rest.split(b"\n", 1)
            self.push(line + b"!")


def test_input_that_no_chat_has_received_yet_begins_a_message_that_is_waited_for() -> None:
    line = Line(Lines)
    line.connection.dataReceived(b"one\ntw")
    line.connection.begin_drain()
    line.serve()
    line.clock.advance(0.01)
    assert (line.channel.lines, line.wire.disconnecting) == ([b"one"], False)
    line.receive(b"o\n")
    assert (line.channel.lines, line.wire.value()) == ([b"one", b"two"], b"one\ntwo\n")
    check_drained(line)


def test_a_chat_that_turns_out_to_receive_in_its_own_way_is_told_then() -> None:
    line = Line(ByItself)
    line.connection.dataReceived(b"one\n")
    line.connection.begin_drain()
    line.serve()
    assert not line.wire.disconnecting
    line.clock.advance(0.01)
    line.serve()
    assert line.wire.value() == b"one!"
    check_drained(line)


def test_a_chat_that_receives_in_its_own_way_sends_what_waits_first() -> None:
    line = Line(ByItself)
    line.receive(b"zero\n")
    line.wire.fill()
    line.receive(b"one\ntwo\n")
    drained(line)
    assert not line.wire.disconnecting
    line.wire.empty()
    line.serve()
    assert line.wire.value() == b"zero!one!two!"
    check_drained(line)


def test_a_dispatcher_is_told_that_the_peer_has_finished() -> None:
    line = Line(Raw)
    line.receive(b"hello")
    drained(line)
    check_drained(line)


def test_a_dispatcher_reads_what_has_come_first() -> None:
    line = Line(Raw)
    line.connection.dataReceived(b"hello")
    drained(line)
    assert line.channel.got == [b"hello"]
    check_drained(line)


def test_a_dispatcher_with_send_sends_what_it_has_first() -> None:
    line = Line(Raw)
    line.wire.fill()
    line.channel.send(b"answer")
    drained(line)
    assert line.channel.closes == 0
    line.wire.empty()
    line.serve()
    assert line.wire.value() == b"answer"
    check_drained(line)


# -- Those that do not go along -------------------------------------------------------------------


class Stubborn(Lines):
    """Never closes, and does not look at its input."""

    def readable(self) -> bool:
        return False

    def handle_close(self) -> None:
        self.closes += 1


@pytest.mark.parametrize("kind", [Lines, Stubborn, Raw])
def test_one_that_is_cut_gets_its_handle_close_and_leaves_its_map(kind: Any) -> None:
    line = Line(kind)
    line.receive(b"in the middle of")
    drained(line)
    line.connection._abort(CloseReason.DRAIN, "cut at the deadline")
    assert line.wire.aborted
    line.lose(ConnectionAborted())
    line.clock.advance(1)
    assert line.watcher.told == [("opened",), ("ended", CloseReason.DRAIN)]
    assert (line.channel.closes, line.map) == (1, {})
    if kind is Lines:
        assert line.connection.close_detail == "cut at the deadline"


def test_one_whose_connection_is_gone_and_that_did_not_notice_is_cut_too() -> None:
    line = Line(Stubborn)
    line.lose()
    assert line.watcher.names == ["opened"]
    line.connection._abort(CloseReason.DRAIN, "")
    assert line.watcher.told == [("opened",), ("ended", CloseReason.PEER)]
    assert (line.channel.closes, line.map) == (1, {})


def test_one_that_gave_its_socket_away_does_not_stop_the_drain() -> None:
    line = Line(Lines)
    sock = line.channel.socket
    line.channel.del_channel()
    line.channel.socket = None
    drained(line)
    assert sock.recv(100) == b""
    sock.close()
    line.lose()
    assert line.watcher.told == [("opened",), ("ended", CloseReason.DRAIN)]


def test_one_that_is_not_built_yet_is_closed() -> None:
    connection = LegacyFactory(Lines).buildProtocol(None)
    line = Line(Lines)
    watcher = Watching()
    connection._watcher = watcher
    connection.callLater = line.clock.callLater  # type: ignore[method-assign, assignment]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("txasynchat.legacy.serving.when_peer_is_known", lambda *args: None)
        connection.makeConnection(line.wire)  # type: ignore[no-untyped-call]
    connection.begin_drain()
    assert line.wire.disconnecting
    connection.connectionLost()
    assert watcher.told == [("ended", CloseReason.DRAIN)]
    line.channel.close()


# -- Over sockets ---------------------------------------------------------------------------------


class Served(LegacyFactory):
    """Remembers its connections."""

    def __init__(self, build: Any) -> None:
        super().__init__(build)
        self.made: list[Connection] = []

    def buildProtocol(self, addr: object) -> Connection:
        made = super().buildProtocol(addr)
        made._watcher = Watching()
        self.made.append(made)
        return made


async def test_over_a_socket_the_message_under_way_is_answered_and_then_it_ends() -> None:
    from twisted.internet import reactor

    factory = Served(Lines)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    middle, drains = threading.Event(), threading.Event()

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", port.getHost().port), 10) as client:
            client.sendall(b"one\ntw")
            answer = client.recv(100)
            middle.set()
            assert drains.wait(10)
            client.sendall(b"o\n")
            while data := client.recv(100):
                answer += data
            return answer

    talking = deferToThread(talk)
    await until(middle.is_set)
    await until(lambda: factory.made[0].traffic()["bytes_in"] == 6)
    factory.made[0].begin_drain()
    drains.set()
    assert await talking == b"one\ntwo\n"
    await until(lambda: factory.made[0]._watcher.told[-1] == ("ended", CloseReason.DRAIN))  # type: ignore[union-attr]
    await port.stopListening()


async def test_one_that_a_loop_in_a_thread_serves_is_drained_too() -> None:
    from twisted.internet import reactor

    channels: dict[int, Any] = {}
    factory = Served(lambda sock, addr: Lines(sock, addr, channels))
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    client = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
    await until(lambda: channels)
    looping = threading.Thread(target=asyncore.loop, kwargs={"map": channels, "timeout": 1})
    looping.start()
    client.sendall(b"one\n")
    assert await deferToThread(client.recv, 100) == b"one\n"
    factory.made[0].begin_drain()
    assert await deferToThread(client.recv, 100) == b""
    client.close()
    await until(lambda: factory.made[0].close_reason and not looping.is_alive())
    assert factory.made[0].close_reason is CloseReason.DRAIN
    await until(lambda: factory.made[0]._has_ended)
    await port.stopListening()
