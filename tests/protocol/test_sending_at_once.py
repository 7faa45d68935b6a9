"""An answer is sent in the turn in which its request came, where the transport can do that."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.internet.unix import Server as UNIXServer
from twisted.python.failure import Failure

from txasynchat import AsyncChat
from txasynchat.legacy.transport_socket import TransportSocket


class Reactor(Clock):
    """Knows which descriptors want to write, and how often one has asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: set[Any] = set()
        self.asked = 0

    def addReader(self, reader: Any) -> None:
        pass

    def removeReader(self, reader: Any) -> None:
        pass

    def addWriter(self, writer: Any) -> None:
        self.asked += 1
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def turn(self) -> list[Any]:
        """Let those write that want to."""
        return [writer.doWrite() for writer in list(self.writers)]


class Echo(AsyncChat):
    """Answers each line with the line, or as a test has it."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")
        self.ended = 0

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.answer(self._get_data())

    def answer(self, request: bytes) -> None:
        self.push(request)

    def handle_close(self) -> None:
        self.ended += 1


class Served:
    """A handler on one of Twisted's transports, which is on one of two connected sockets."""

    def __init__(self, kind: Callable[..., Any] = Server, protocol: Any = None) -> None:
        self.reactor = Reactor()
        self.chat: Any = Echo() if protocol is None else protocol
        self.chat.callLater = self.reactor.callLater  # type: ignore[method-assign]
        ours, self.peer = socket.socketpair()
        client: Any = "" if kind is UNIXServer else ("127.0.0.1", 1)
        self.socket = ours
        self.peer.setblocking(False)
        self.transport = kind(ours, self.chat, client, None, 1, self.reactor)
        self.chat.makeConnection(self.transport)

    def come(self, *lines: bytes) -> None:
        """Requests have come, in one chunk."""
        self.chat.dataReceived(b"".join(line + b"\n" for line in lines))

    def sent(self) -> bytes:
        """What the peer has got since it was asked last."""
        data = b""
        try:
            while more := self.peer.recv(2**20):
                data += more
        except BlockingIOError:
            pass
        return data

    def warm(self) -> None:
        """Have the first answer sent: from then on the transport is known to hold nothing."""
        self.come(b"first")
        assert self.sent() == b"first"
        assert not self.reactor.writers
        self.reactor.asked = 0

    def fill(self) -> bytes:
        """Have an answer sent that the socket does not take as a whole; what it was."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        whole = bytes(range(256)) * 240
        filled = b""
        self.chat.answer = lambda request: self.chat.push(whole)
        while not self.reactor.writers:
            filled += whole
            self.come(b"much")
        del self.chat.answer
        return filled

    def drain(self) -> bytes:
        """Let the transport send what it holds, to a peer that reads."""
        data = self.sent()
        while self.reactor.writers:
            self.reactor.turn()
            data += self.sent()
        return data


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Makes connected handlers."""
    all_served: list[Served] = []

    def make(kind: Callable[..., Any] = Server, protocol: Any = None) -> Served:
        all_served.append(Served(kind, protocol))
        return all_served[-1]

    yield make
    for served in all_served:
        served.socket.close()
        served.peer.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def test_the_first_answers_to_a_chunk_are_sent_at_once_as_one(served: Served) -> None:
    served.come(b"one", b"two")
    assert served.sent() == b"onetwo"
    assert not served.reactor.writers


def test_later_answers_are_sent_without_a_word_to_the_reactor(served: Served) -> None:
    served.warm()
    for request in (b"one", b"two"):
        served.come(request)
        assert served.sent() == request
    assert served.reactor.asked == 0
    assert served.chat.traffic()["bytes_out"] == len(b"firstonetwo")


def test_what_is_pushed_from_outside_is_left_to_the_transport_and_joined(served: Served) -> None:
    served.warm()
    served.chat.push(b"news, ")
    served.chat.push(b"more news")
    assert served.sent() == b""
    served.reactor.turn()
    assert served.sent() == b"news, more news"
    assert not served.reactor.writers


def test_an_answer_does_not_overtake_what_was_pushed_from_outside(served: Served) -> None:
    served.warm()
    served.chat.push(b"news, ")
    served.come(b"one")
    assert served.sent() == b"news, one"
    assert not served.reactor.writers


def test_an_answer_does_not_overtake_what_somebody_wrote_to_the_transport(served: Served) -> None:
    served.warm()
    served.transport.write(b"past, ")
    served.transport.writeSequence([b"the ", b"chat, "])
    served.come(b"one")
    assert served.sent() == b"past, the chat, one"


def test_an_answer_does_not_overtake_what_its_handler_wrote_to_the_transport(
    served: Served,
) -> None:
    served.warm()

    def answer(request: bytes) -> None:
        served.chat.push(request)
        served.transport.write(b"past, ")

    served.chat.answer = answer
    served.come(b"one")
    assert served.sent() == b"past, one"


def test_after_that_answers_are_sent_without_a_word_to_the_reactor_again(served: Served) -> None:
    served.warm()
    served.chat.push(b"news, ")
    served.come(b"one")
    served.reactor.asked = 0
    served.come(b"two")
    assert (served.sent(), served.reactor.asked) == (b"news, onetwo", 0)


def test_what_the_socket_does_not_take_at_once_follows(served: Served) -> None:
    served.warm()
    filled = served.fill()
    served.come(b"next", b"one")
    assert served.drain() == filled + b"nextone"


def test_a_full_socket_is_tried_again_with_the_next_answer_only_by_the_transport(
    served: Served,
) -> None:
    served.warm()
    filled = served.fill()
    served.come(b"next")
    assert served.reactor.writers
    assert served.drain() == filled + b"next"
    served.come(b"again")
    assert served.sent() == b"again"


def test_a_transport_that_holds_more_than_64_kib_is_full(served: Served) -> None:
    served.warm()
    filled = served.fill()
    more = b"x" * 300_000
    served.chat.push(more)
    waits = served.chat.queued_output
    assert waits
    served.chat.push(b"waits")
    assert served.chat.queued_output == waits + len(b"waits")
    assert served.drain() == filled + more + b"waits"


def test_of_a_large_answer_one_write_is_sent_at_once(served: Served) -> None:
    # The rest is sent in turn with what other connections have to send.
    served.warm()
    data = b"x" * (3 * served.chat.ac_out_buffer_size)
    served.chat.answer = lambda request: served.chat.push(data)
    served.come(b"much")
    assert served.reactor.writers
    assert served.drain() == data


def test_a_transport_that_asks_for_more_sends_more_in_that_turn(served: Served) -> None:
    # What it held was less than the socket takes.
    served.warm()
    served.fill()
    size = served.chat.ac_out_buffer_size
    served.chat.push(b"x" * (4 * size))
    served.sent()
    served.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    served.reactor.turn()
    assert len(served.sent()) == size  # it sends no more at once
    served.reactor.turn()  # the end of the first answer
    assert len(served.sent()) > size


class Greedy(socket.socket):
    """Takes all it is given, as long as it has room, and forgets it."""

    def __init__(self, one: socket.socket) -> None:
        super().__init__(one.family, one.type, fileno=one.detach())
        self.taken: list[Any] = []
        self.room = 2**30

    def send(self, data: Any, flags: int = 0) -> int:
        self.taken.append(data)
        sent = min(len(data), self.room)
        self.room -= sent
        return sent


def test_a_socket_that_takes_all_is_given_half_a_mebibyte_more_in_a_turn(served: Served) -> None:
    served.socket = served.transport.socket = greedy = Greedy(served.socket)
    served.chat.push(b"x" * 2_000_000)
    for _ in range(2):
        greedy.taken.clear()
        served.reactor.turn()
        assert [len(each) for each in greedy.taken] == [131072, 524288]
        assert all(type(each) is memoryview for each in greedy.taken)  # none was copied for that


def test_what_such_a_socket_does_not_take_waits_in_the_queue_not_in_the_transport(
    served: Served,
) -> None:
    served.socket = served.transport.socket = greedy = Greedy(served.socket)
    served.chat.push(b"x" * 2_000_000)
    greedy.room = 200_000
    served.reactor.turn()
    assert [len(each) for each in greedy.taken] == [131072, 524288]
    assert served.chat.traffic()["bytes_out"] == 200_000 + served.chat.ac_out_buffer_size
    assert served.chat.queued_output == 2_000_000 - 200_000 - served.chat.ac_out_buffer_size


def test_what_is_pushed_when_the_first_answer_was_written_is_sent_with_it(served: Served) -> None:
    served.warm()

    def answer(request: bytes) -> None:
        served.chat.push(request)
        served.chat.drained().addCallback(lambda _: served.chat.push(b", and more"))

    served.chat.answer = answer
    served.come(b"one")
    assert served.sent() == b"one, and more"
    assert not served.reactor.writers


def test_an_answer_that_closes_is_sent_before_the_end(served: Served) -> None:
    served.warm()

    def answer(request: bytes) -> None:
        served.chat.push(request)
        served.chat.close_when_done()

    served.chat.answer = answer
    served.come(b"bye")
    assert served.sent() == b"bye"
    assert served.reactor.turn() != [None]  # the reason for its end


def test_two_pushes_from_outside_and_a_close_send_both(served: Served) -> None:
    served.warm()
    served.chat.push(b"one, ")
    served.chat.push(b"two")
    served.chat.close()
    served.reactor.turn()
    assert served.sent() == b"one, two"


@pytest.mark.parametrize("answer_first", [True, False])
def test_a_handler_may_close_the_transport_itself(answer_first: bool, served: Served) -> None:
    served.warm()

    def answer(request: bytes) -> None:
        if answer_first:
            served.chat.push(request)
        served.transport.loseConnection()
        if not answer_first:
            served.chat.push(request)

    served.chat.answer = answer
    served.come(b"bye")
    assert served.reactor.turn() != [None]
    assert served.sent() == b"bye"


def test_a_handler_may_end_its_half_of_the_transport_itself(served: Served) -> None:
    served.warm()

    def answer(request: bytes) -> None:
        served.chat.push(request)
        served.transport.loseWriteConnection()

    served.chat.answer = answer
    served.come(b"bye")
    served.reactor.turn()
    assert served.peer.recv(100) == b"bye"
    assert served.peer.recv(100) == b""


def test_from_outside_the_transports_half_is_ended_behind_what_was_pushed(served: Served) -> None:
    served.warm()
    served.chat.push(b"bye")
    served.transport.loseWriteConnection()
    served.reactor.turn()
    assert served.peer.recv(100) == b"bye"
    assert served.peer.recv(100) == b""


@pytest.mark.parametrize("rest", [b"", b"rest"])
def test_a_half_that_is_ended_while_the_transport_is_full_ends_behind_what_follows(
    served: Served, rest: bytes
) -> None:
    served.warm()
    served.come(b"one")
    much = b"x" * served.chat.ac_out_buffer_size
    served.chat.push(much)
    served.chat.push(rest)
    served.transport.loseWriteConnection()
    assert served.sent() + served.drain() == b"one" + much + rest
    if not rest:  # the transport looks for that behind the next write
        served.come(b"next")
    assert served.chat.close_reason == "peer"


def test_a_connection_that_was_lost_is_found_out_by_the_reactor(served: Served) -> None:
    served.warm()
    served.peer.close()
    served.come(b"one")
    served.come(b"two")
    assert [type(reason) for reason in served.reactor.turn()] == [ConnectionLost]


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_transport_is_left_as_it_was(end: str, served: Served) -> None:
    served.warm()
    assert "startWriting" in vars(served.transport)
    getattr(served.chat, end)()
    assert "startWriting" not in vars(served.transport)


def test_a_transport_that_is_lost_is_left_as_it_was(served: Served) -> None:
    served.warm()
    served.chat.connectionLost()
    assert "startWriting" not in vars(served.transport)
    assert served.chat.ended == 1


def test_where_a_handler_has_begun_tls_itself_nothing_is_sent_past_it(served: Served) -> None:
    ssl = pytest.importorskip("twisted.internet.ssl")
    served.warm()
    served.transport.startTLS(ssl.CertificateOptions())
    served.come(b"secret")  # as nobody would: in clear, past the layer
    served.reactor.turn()
    assert b"secret" not in served.sent()


def test_a_transport_that_changes_hands_is_left_to_the_next(served: Served) -> None:
    served.warm()
    served.transport.unregisterProducer()
    other = Echo()
    other.callLater = served.reactor.callLater  # type: ignore[method-assign, assignment]
    other.makeConnection(served.transport)
    for request in (b"one", b"two"):
        other.dataReceived(request + b"\n")
        assert served.sent() == request
    served.chat.connectionLost()
    served.transport.write(b"past, ")
    other.dataReceived(b"three\n")
    assert served.sent() == b"past, three"
    served.chat.connectionLost()


class Upper(Server):
    """A transport with a write() of its own."""

    def write(self, data: bytes) -> None:
        super().write(data.upper())  # type: ignore[no-untyped-call]


def test_a_transports_own_way_to_write_is_never_passed_by(serve: Callable[..., Served]) -> None:
    served = serve(Upper)
    for request in (b"one", b"two"):
        served.come(request)
        assert served.sent() == request.upper()


def test_a_descriptor_is_passed_with_the_answer_that_was_pushed_with_it(
    serve: Callable[..., Served],
) -> None:
    served = serve(UNIXServer)
    served.warm()

    def answer(request: bytes) -> None:
        served.chat.push(request)
        served.transport.sendFileDescriptor(served.peer.fileno())

    served.chat.answer = answer
    served.come(b"fd")
    data, descriptors, _, _ = socket.recv_fds(served.peer, 1, 1)
    assert (data + served.sent(), len(descriptors)) == (b"fd", 1)
    for descriptor in descriptors:
        os.close(descriptor)


# -- Any descriptor --------------------------------------------------------------------------


class Descriptor(FileDescriptor):
    """A transport that keeps what it is given until :meth:`doWrite`."""

    TLS = False
    disconnecting = False

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.kept.append(data)

    def doWrite(self) -> None:
        self.written.extend(self.kept)
        self.kept.clear()


@pytest.fixture
def described() -> tuple[Echo, Descriptor]:
    chat, transport = Echo(), Descriptor()
    chat.callLater = Clock().callLater  # type: ignore[method-assign, assignment]
    chat.makeConnection(transport)
    return chat, transport


def test_any_descriptor_is_told_to_send_at_once(described: tuple[Echo, Descriptor]) -> None:
    chat, transport = described
    chat.dataReceived(b"one\ntwo\n")
    chat.dataReceived(b"three\n")
    assert transport.written == [b"onetwo", b"three"]


def test_it_is_not_told_to_when_something_is_pushed_from_outside(
    described: tuple[Echo, Descriptor],
) -> None:
    chat, transport = described
    chat.push(b"news")
    assert (transport.written, transport.kept) == ([], [b"news"])


def test_one_that_is_closing_is_left_alone(described: tuple[Echo, Descriptor]) -> None:
    chat, transport = described
    transport.disconnecting = True
    chat.dataReceived(b"one\n")
    assert (transport.written, transport.kept) == ([], [b"one"])


def test_one_that_has_tls_in_between_is_left_alone(described: tuple[Echo, Descriptor]) -> None:
    # After startTLS() what was written is not there yet.
    chat, transport = described
    transport.TLS = True
    transport.producer = AsyncChat()
    chat.dataReceived(b"one\n")
    assert (transport.written, transport.kept) == ([], [b"one"])


def test_one_that_is_full_is_left_alone(described: tuple[Echo, Descriptor]) -> None:
    chat, transport = described

    def write(data: bytes) -> None:
        transport.kept.append(data)
        transport.producer.pauseProducing()  # type: ignore[union-attr]

    transport.write = write  # type: ignore[method-assign]
    chat.dataReceived(b"one\n")
    assert (transport.written, transport.kept) == ([], [b"one"])


# -- Legacy handlers ---------------------------------------------------------------------------


class OverTransportSocket(Protocol):
    """Echoes by way of a TransportSocket, as a channel that is served at once does."""

    def connectionMade(self) -> None:
        self.sock = TransportSocket(self.transport)
        self.sock.notice = self.served  # type: ignore[method-assign]

    def served(self) -> None:
        if self.sock.has_unread:
            self.sock.send(self.sock.recv(100))

    def dataReceived(self, data: bytes) -> None:
        self.sock.received(data)


def test_a_transport_socket_sends_at_once_what_its_channel_answers(
    serve: Callable[..., Served],
) -> None:
    protocol = OverTransportSocket()
    served = serve(UNIXServer, protocol)
    protocol.dataReceived(b"first")
    assert served.sent() == b"first"
    served.reactor.asked = 0
    protocol.dataReceived(b"second")
    assert (served.sent(), served.reactor.asked) == (b"second", 0)
    protocol.sock.send(b"from outside, ")
    assert served.sent() == b""
    protocol.dataReceived(b"third")
    assert served.sent() == b"from outside, third"
    protocol.sock.lost(Failure(ConnectionLost()))
    assert "startWriting" not in vars(served.transport)
