"""A connection that closes with its answer is gone in the turn in which the request came."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from txasynchat import AsyncChat


class Reactor(Clock):
    """Knows who waits for what, and waits for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class Once(AsyncChat):
    """Answers one line, then closes."""

    answer = b"bye\n"

    def __init__(self) -> None:
        self.events: list[str] = []

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        pass

    def found_terminator(self) -> None:
        self.events.append("found")
        self.push(self.answer)
        self.close_when_done()
        self.events.append("returned")

    def handle_close(self) -> None:
        self.events.append("closed")


class Connection:
    """A chat over a real transport, whose reactor's part the test plays."""

    def __init__(self, chat: AsyncChat) -> None:
        self.chat: Any = chat
        self.reactor = Reactor()
        chat.callLater = self.reactor.callLater  # type: ignore[method-assign, assignment]
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.transport: Any = Server(ours, chat, ("127.0.0.1", 1), None, 1, self.reactor)  # type: ignore[arg-type]
        chat.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        self.peer.sendall(data)
        self.transport.doRead()

    def write(self) -> None:
        if isinstance(self.transport.doWrite(), ConnectionDone):
            self.transport.connectionLost(Failure(ConnectionDone()))

    @property
    def is_gone(self) -> bool:
        return not (self.reactor.readers or self.reactor.writers or self.transport.connected)

    def close(self) -> None:
        self.peer.close()
        self.transport.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def connect() -> Iterator[Any]:
    made: list[Connection] = []

    def connect(chat: AsyncChat) -> Connection:
        made.append(Connection(chat))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def test_it_is_sent_and_closed_in_one_turn_and_leaves_no_timer(connect: Any) -> None:
    connection = connect(Once())
    connection.receive(b"one\n")
    assert connection.is_gone
    assert connection.chat.events == ["found", "returned", "closed"]
    assert connection.chat.close_reason == "handler"
    assert connection.peer.recv(100) + connection.peer.recv(100) == b"bye\n"
    assert connection.reactor.getDelayedCalls() == []


def test_a_reactor_that_saw_room_as_well_finds_nothing_to_write(connect: Any) -> None:
    connection = connect(Once())
    connection.receive(b"one\n")
    assert connection.transport.doWrite() is None


def test_what_the_socket_does_not_take_is_left_to_the_transport_and_a_timer(connect: Any) -> None:
    chat = Once()
    chat.answer = bytes(4_000_000)
    chat.max_queued_output = None
    connection = connect(chat)
    connection.receive(b"one\n")
    assert not connection.is_gone
    assert len(connection.reactor.getDelayedCalls()) == 1
    received = 0
    while not connection.is_gone:
        with suppress(BlockingIOError):
            received += len(connection.peer.recv(2**20))
        connection.write()
    while data := connection.peer.recv(2**20):
        received += len(data)
    assert (received, chat.events[-1]) == (4_000_000, "closed")
    assert connection.reactor.getDelayedCalls() == []


def test_a_peer_that_does_not_take_it_is_cut(connect: Any) -> None:
    chat = Once()
    chat.answer = bytes(4_000_000)
    connection = connect(chat)
    connection.receive(b"one\n")
    connection.reactor.advance(chat.close_timeout)
    connection.reactor.advance(0)
    assert connection.is_gone
    assert "not sent" in chat.close_detail or "did not close" in chat.close_detail


def test_a_close_from_outside_of_the_transport_is_its_next_turn(connect: Any) -> None:
    connection = connect(Once())
    connection.chat.push(b"news")
    connection.chat.close_when_done()
    assert connection.chat.events == []
    assert len(connection.reactor.getDelayedCalls()) == 1
    connection.write()
    assert connection.is_gone
    assert connection.chat.events == ["closed"]
    assert connection.reactor.getDelayedCalls() == []


def test_the_end_of_the_peer_is_the_end_at_once(connect: Any) -> None:
    connection = connect(Once())
    connection.transport.readConnectionLost(Failure(ConnectionDone()))
    assert connection.is_gone
    assert (connection.chat.events, connection.chat.close_reason) == (["closed"], "peer")
    assert connection.reactor.getDelayedCalls() == []


def test_more_input_behind_it_makes_the_close_wait_for_the_peer(connect: Any) -> None:
    connection = connect(Once())
    connection.receive(b"one\ntwo\n")
    assert not connection.is_gone
    assert len(connection.reactor.getDelayedCalls()) == 1
    connection.write()
    assert connection.peer.recv(100) == b"bye\n"
    connection.transport.readConnectionLost(Failure(ConnectionDone()))
    assert connection.is_gone
    assert connection.reactor.getDelayedCalls() == []


def test_a_handler_that_closes_in_a_callback_is_closed_when_that_has_returned(connect: Any) -> None:
    class Closing(Once):
        def found_terminator(self) -> None:
            self.push(b"bye\n")
            self.close()
            self.events.append("returned")

    connection = connect(Closing())
    connection.receive(b"one\n")
    assert connection.is_gone
    assert connection.chat.events == ["returned", "closed"]
    assert connection.peer.recv(100) == b"bye\n"
    assert connection.reactor.getDelayedCalls() == []


def test_a_close_while_no_input_comes_is_watched_by_the_timer(connect: Any) -> None:
    connection = connect(Once())
    connection.chat.ac_in_buffer = b"one\n"  # delivered by a timer
    connection.reactor.advance(0)
    assert connection.chat.events == ["found", "returned"]
    assert len(connection.reactor.getDelayedCalls()) == 1
    connection.write()
    assert connection.is_gone
    assert connection.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("discards", [False, True])
def test_a_producer_that_breaks_behind_the_last_callback_ends_it_as_well(
    connect: Any, discards: bool
) -> None:
    class Breaking(Once):
        def more(self) -> bytes:
            raise ZeroDivisionError

        def found_terminator(self) -> None:
            self.push(b"bye\n")
            self.push_with_producer(self)
            self.close_when_done()

        def handle_error(self) -> None:
            self.events.append("error")
            if discards:
                self.discard_buffers()

    connection = connect(Breaking())
    connection.receive(b"one\n")
    assert connection.is_gone
    assert connection.chat.events == ["error", "closed"]
    assert connection.chat.close_reason == "error"
    assert connection.peer.recv(100) == b"bye\n"
    assert connection.reactor.getDelayedCalls() == []


def test_buffers_can_be_discarded_after_the_end(connect: Any) -> None:
    connection = connect(Once())
    connection.receive(b"one\n")
    connection.chat.discard_buffers()
    assert connection.chat.queued_output == 0


def test_a_connection_that_has_ended_is_freed_without_the_collector(connect: Any) -> None:
    connection = connect(Once())
    gone = weakref.ref(connection.chat)
    del connection.chat.callLater
    connection.receive(b"one\n")
    gc.disable()
    try:
        connection.chat = None
        assert gone() is None
    finally:
        gc.enable()
