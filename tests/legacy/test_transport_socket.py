"""TransportSocket over a transport in memory: what a socket would do, it does."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
from support import Wire, turns, until
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from txasynchat import asynchat, asyncore
from txasynchat.legacy.transport_socket import TransportSocket

KIB_64 = 65536
Channels: TypeAlias = dict[int, Any]


class Recorded(Wire):
    """A wire that keeps the order in which it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def write(self, data: bytes) -> None:
        self.order.append("write")
        super().write(data)  # type: ignore[no-untyped-call]

    def loseConnection(self) -> None:
        self.order.append("lose")
        super().loseConnection()  # type: ignore[no-untyped-call]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.order.append("register")
        super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call]

    def unregisterProducer(self) -> None:
        self.order.append("unregister")
        super().unregisterProducer()  # type: ignore[no-untyped-call]

    def resumeProducing(self) -> None:
        self.order.append("resume")
        super().resumeProducing()  # type: ignore[no-untyped-call]


class Numbered(Wire):
    """A wire with a descriptor, or what looks like one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def fileno(self) -> int:
        return self._number


class HalfCloseable(Recorded):
    """A wire whose writing half can be closed alone."""

    def loseWriteConnection(self) -> None:
        self.order.append("lose write")


class OnSocket(Wire):
    """A wire with a real socket under it."""

    def __init__(self, handle: socket.socket) -> None:
        super().__init__()
        self._handle = handle

    def getHandle(self) -> socket.socket:
        return self._handle


class Wrapping(Wire):
    """A wire around another, as TLS and the PROXY protocol are, that hides the socket."""

    def __init__(self, inner: Wire) -> None:
        super().__init__()
        self.transport = inner


class Channel(asyncore.dispatcher):
    """A dispatcher that reads when it wants to, and keeps what it reads."""

    def __init__(self, sock: Any, map: Channels, wants: bool = True) -> None:
        self.wants = wants
        self.data: list[bytes] = []
        self.closed = 0
        super().__init__(sock, map)

    def readable(self) -> bool:
        return self.wants

    def writable(self) -> bool:
        return False

    def handle_read(self) -> None:
        if data := self.recv(KIB_64):
            self.data.append(data)

    def handle_close(self) -> None:
        self.closed += 1
        self.close()


class Chat(asynchat.async_chat):
    """A channel that only talks."""

    def __init__(self, sock: Any, map: Channels) -> None:
        super().__init__(sock, map)
        self.set_terminator(None)

    def collect_incoming_data(self, data: bytes) -> None:
        pass

    def found_terminator(self) -> None:
        pass


@pytest.fixture
def channels() -> Iterator[Channels]:
    """A map, whose channels are closed after the test."""
    made: Channels = {}
    yield made
    asyncore.close_all(made)


def opened(wire: Wire | None = None) -> tuple[TransportSocket, Wire]:
    """A TransportSocket and the wire that it is on."""
    wire = Wire() if wire is None else wire
    return TransportSocket(wire), wire


def lose(sock: TransportSocket, reason: Exception | None = None) -> None:
    sock.lost(Failure(reason or ConnectionDone()))


def read_all(sock: TransportSocket) -> bytes:
    """What it has, in however many pieces it gives it."""
    received = b""
    with suppress(BlockingIOError):
        while True:
            received += sock.recv(100)
    return received


def errno_of(call: Callable[[], object]) -> int | None:
    """The number of the OSError that `call` raises."""
    with pytest.raises(OSError) as caught:
        call()
    return caught.value.errno


# -- Reading -----------------------------------------------------------------------


def test_it_has_fewer_attributes_than_the_interpreter_keeps_for_all_at_once() -> None:
    channel = asynchat.async_chat(TransportSocket(Wire()), {})  # type: ignore[arg-type,abstract]
    assert len(vars(channel.socket)) < 30
    assert len(vars(channel)) < 30
    channel.close()


def test_recv_gives_what_has_come_in_order() -> None:
    sock, _ = opened()
    sock.received(b"one")
    sock.received(b"two")
    assert read_all(sock) == b"onetwo"


def test_recv_gives_no_more_than_it_was_asked_for_and_the_rest_later() -> None:
    sock, _ = opened()
    sock.received(b"hello")
    assert [sock.recv(2), sock.recv(2), sock.recv(2)] == [b"he", b"ll", b"o"]


def test_recv_raises_blocking_io_error_when_nothing_has_come() -> None:
    sock, _ = opened()
    with pytest.raises(BlockingIOError) as caught:
        sock.recv(100)
    assert caught.value.errno == errno.EAGAIN


def test_recv_raises_blocking_io_error_again_when_all_was_read() -> None:
    sock, _ = opened()
    sock.received(b"hello")
    sock.recv(100)
    with pytest.raises(BlockingIOError):
        sock.recv(100)


def test_recv_gives_nothing_again_and_again_when_the_peer_has_ended() -> None:
    sock, _ = opened()
    sock.ended()
    assert [sock.recv(100), sock.recv(100)] == [b"", b""]


def test_recv_gives_nothing_when_the_connection_was_ended_in_order() -> None:
    sock, _ = opened()
    lose(sock)
    assert sock.recv(100) == b""


def test_what_came_before_the_end_is_read_before_it() -> None:
    sock, _ = opened()
    sock.received(b"last words")
    sock.ended()
    lose(sock)
    assert [sock.recv(100), sock.recv(100)] == [b"last words", b""]


@pytest.mark.parametrize("reason", [ConnectionLost(), ConnectionAborted()])
def test_recv_raises_connection_reset_when_the_connection_was_lost(reason: Exception) -> None:
    sock, _ = opened()
    lose(sock, reason)
    with pytest.raises(ConnectionResetError) as caught:
        sock.recv(100)
    assert caught.value.errno == errno.ECONNRESET
    assert caught.value.__cause__ is reason


def test_what_came_before_a_reset_is_read_before_it() -> None:
    sock, _ = opened()
    sock.received(b"half a mess")
    lose(sock, ConnectionLost())
    assert sock.recv(100) == b"half a mess"
    with pytest.raises(ConnectionResetError):
        sock.recv(100)


def test_recv_into_fills_a_buffer_from_its_start() -> None:
    sock, _ = opened()
    sock.received(b"hello")
    buffer = bytearray(b"........")
    assert sock.recv_into(buffer) == 5
    assert buffer == b"hello..."


def test_recv_into_takes_no_more_than_the_buffer_holds() -> None:
    sock, _ = opened()
    sock.received(b"hello")
    buffer = bytearray(2)
    assert [sock.recv_into(buffer), sock.recv(100)] == [2, b"llo"]


def test_recv_into_takes_no_more_than_it_was_told_to() -> None:
    sock, _ = opened()
    sock.received(b"hello")
    buffer = bytearray(b"........")
    assert sock.recv_into(memoryview(buffer)[1:], 3) == 3
    assert buffer == b".hel...."


def test_recv_into_raises_as_recv_does() -> None:
    sock, _ = opened()
    with pytest.raises(BlockingIOError):
        sock.recv_into(bytearray(10))
    lose(sock)
    assert sock.recv_into(bytearray(10)) == 0


def test_a_peek_leaves_what_it_shows() -> None:
    sock, _ = opened()
    sock.received(b"hello")
    assert sock.recv(2, socket.MSG_PEEK) == b"he"
    assert sock.recv(100, socket.MSG_PEEK) == b"hello"
    assert sock.recv(100) == b"hello"


def test_a_peek_shows_what_came_in_several_pieces() -> None:
    # Else who peeks for 4 bytes, to see which protocol it is, waits for ever.
    sock, _ = opened()
    for piece in (b"G", b"ET", b" /"):
        sock.received(piece)
    assert sock.recv(4, socket.MSG_PEEK) == b"GET "
    assert sock.recv(100, socket.MSG_PEEK) == b"GET /"
    assert read_all(sock) == b"GET /"


def test_a_peek_raises_as_recv_does() -> None:
    sock, _ = opened()
    with pytest.raises(BlockingIOError):
        sock.recv(1, socket.MSG_PEEK)


# -- Flow control of input ---------------------------------------------------------


def test_the_transport_is_paused_when_64_kib_wait_to_be_read() -> None:
    sock, wire = opened()
    sock.received(b"x" * (KIB_64 - 1))
    assert wire.is_reading
    sock.received(b"x")
    assert not wire.is_reading


def test_the_transport_is_resumed_when_less_than_64_kib_wait() -> None:
    sock, wire = opened()
    sock.received(b"x" * KIB_64)
    sock.recv(1)
    assert wire.is_reading


def test_a_peek_resumes_nothing() -> None:
    sock, wire = opened()
    sock.received(b"x" * KIB_64)
    sock.recv(100, socket.MSG_PEEK)
    assert not wire.is_reading


def test_what_comes_while_the_transport_is_paused_is_kept() -> None:
    # TLS has more to deliver of a record that it has begun with.
    sock, _ = opened()
    sock.received(b"x" * KIB_64)
    sock.received(b"y")
    assert len(sock.recv(KIB_64)) == KIB_64
    assert sock.recv(100) == b"y"


def test_a_transport_that_is_gone_is_not_resumed() -> None:
    sock, wire = opened(Recorded())
    assert isinstance(wire, Recorded)
    sock.received(b"x" * KIB_64)
    lose(sock)
    sock.recv(KIB_64)
    assert "resume" not in wire.order


async def test_a_channel_that_does_not_read_pauses_its_peer_until_it_reads(
    channels: Channels,
) -> None:
    sock, wire = opened()
    channel = Channel(sock, channels, wants=False)
    for _ in range(64):
        sock.received(b"x" * 1024)
    await turns(10)
    assert (channel.data, wire.is_reading) == ([], False)
    channel.wants = True
    await until(lambda: len(b"".join(channel.data)) == KIB_64)
    assert wire.is_reading
    channel.close()


# -- Writing -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_send_gives_the_transport_what_it_was_given(kind: Callable[[bytes], Any]) -> None:
    sock, wire = opened()
    assert sock.send(kind(b"hello")) == 5
    assert wire.value() == b"hello"


def test_send_takes_64_kib_at_the_most() -> None:
    sock, wire = opened()
    assert sock.send(b"x" * (KIB_64 + 1)) == KIB_64
    assert len(wire.value()) == KIB_64


async def test_answers_to_what_came_at_once_are_one_write(channels: Channels) -> None:
    class Echo(Chat):
        def collect_incoming_data(self, data: bytes) -> None:
            self._collect_incoming_data(data)

        def found_terminator(self) -> None:
            self.push(self._get_data() + b";")
            if len(self.producer_fifo) == 0:
                taken.append(True)

    taken: list[bool] = []
    sock, wire = opened(Recorded())
    assert isinstance(wire, Recorded)
    Echo(sock, channels).set_terminator(b".")
    await turns(3)
    sock.received(b"one.two.three.")
    await until(wire.value)
    assert wire.value() == b"one;two;three;"
    assert wire.order.count("write") == 1
    assert taken == [True] * 3


async def test_answers_are_written_before_the_close_behind_them(channels: Channels) -> None:
    class Quits(Chat):
        def found_terminator(self) -> None:
            self.push(b"bye")
            self.close()

    sock, wire = opened(Recorded())
    assert isinstance(wire, Recorded)
    Quits(sock, channels).set_terminator(b".")
    await turns(3)
    sock.received(b"quit.")
    await until(lambda: wire.disconnecting)
    assert wire.value() == b"bye"
    assert wire.order[-3:] == ["write", "unregister", "lose"]


def test_send_copies_what_its_owner_may_change() -> None:
    class Keeping(Wire):
        kept: bytes

        def write(self, data: bytes) -> None:
            self.kept = data

    wire = Keeping()
    sock = TransportSocket(wire)
    buffer = bytearray(b"hello")
    sock.send(buffer)
    del buffer[:]  # raises while there is a view of it
    assert wire.kept == b"hello"


def test_send_counts_bytes_whatever_the_items_of_a_view_are() -> None:
    sock, wire = opened()
    assert sock.send(memoryview(b"12345678").cast("I")) == 8
    assert wire.value() == b"12345678"


def test_send_takes_no_text() -> None:
    sock, _ = opened()
    with pytest.raises(TypeError):
        sock.send("hello")


def test_send_raises_blocking_io_error_when_the_transport_is_full() -> None:
    sock, wire = opened()
    wire.fill()
    with pytest.raises(BlockingIOError) as caught:
        sock.send(b"hello")
    assert caught.value.errno == errno.EAGAIN
    assert wire.value() == b""


def test_send_takes_data_again_when_the_transport_has_room_again() -> None:
    sock, wire = opened()
    wire.fill()
    wire.empty()
    assert sock.send(b"hello") == 5


def test_sendall_sends_all_whether_or_not_there_is_room() -> None:
    sock, wire = opened()
    wire.fill()
    sock.sendall(b"x" * (3 * KIB_64))
    assert len(wire.value()) == 3 * KIB_64


@pytest.mark.parametrize("reason", [ConnectionDone(), ConnectionLost()])
def test_sending_raises_broken_pipe_when_the_connection_is_gone(reason: Exception) -> None:
    sock, wire = opened()
    lose(sock, reason)
    for send in (sock.send, sock.sendall):
        with pytest.raises(BrokenPipeError) as caught:
            send(b"hello")
        assert caught.value.errno == errno.EPIPE
    assert wire.value() == b""


def test_a_peer_that_sends_no_more_can_still_be_answered() -> None:
    sock, wire = opened()
    sock.ended()
    sock.send(b"answer")
    assert wire.value() == b"answer"


def test_it_is_the_transports_streaming_producer() -> None:
    sock, wire = opened()
    assert (wire.producer, wire.streaming) == (sock, True)
    assert IPushProducer.providedBy(sock)


async def test_a_channel_goes_on_with_what_the_transport_did_not_take_at_once(
    channels: Channels,
) -> None:
    sock, wire = opened()
    channel = Chat(sock, channels)
    await turns(10)
    channel.push(b"x" * 300_000)
    await until(lambda: len(wire.value()) == 300_000)


async def test_a_channel_that_is_pushed_to_by_another_goes_on_too(channels: Channels) -> None:
    sock, wire = opened()
    other = Chat(sock, channels)
    await turns(10)

    class Talker(Channel):
        def handle_read(self) -> None:
            self.recv(100)
            other.push(b"x" * 300_000)

    talkers, _ = opened()
    Talker(talkers, channels)
    await turns(10)
    talkers.received(b"say it")
    await until(lambda: len(wire.value()) == 300_000)


async def test_a_channel_writes_when_the_transport_has_room_again(channels: Channels) -> None:
    sock, wire = opened()
    channel = Chat(sock, channels)
    wire.fill()
    channel.push(b"hello")
    await turns(10)
    assert wire.value() == b""
    wire.empty()
    await until(lambda: wire.value() == b"hello")
    channel.close()


async def test_a_thread_may_send_and_close() -> None:
    from twisted.internet import reactor

    sock, wire = opened(Recorded())
    assert isinstance(wire, Recorded)
    wire.reactor = reactor  # type: ignore[attr-defined]
    assert await deferToThread(sock.send, b"hello") == 5
    await until(wire.value)
    await deferToThread(sock.close)
    await until(lambda: wire.disconnecting)
    assert wire.order == ["register", "write", "unregister", "lose"]
    lose(sock)


# -- Addresses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "as_tuple", "family"),
    [
        (IPv4Address("TCP", "192.0.2.7", 25), ("192.0.2.7", 25), socket.AF_INET),
        (IPv6Address("TCP", "2001:db8::7", 25), ("2001:db8::7", 25, 0, 0), socket.AF_INET6),
        (IPv6Address("TCP", "fe80::7", 25, 5, 2), ("fe80::7", 25, 5, 2), socket.AF_INET6),
        (UNIXAddress(b"/run/chat"), "/run/chat", socket.AF_UNIX),
        (UNIXAddress(None), "", socket.AF_UNIX),
    ],
)
def test_addresses_are_as_a_socket_has_them(address: Any, as_tuple: Any, family: Any) -> None:
    wire = Wire()
    wire.hostAddr, wire.peerAddr = address, address
    sock = TransportSocket(wire)
    assert (sock.getpeername(), sock.getsockname()) == (as_tuple, as_tuple)
    assert (sock.family, sock.type) == (family, socket.SOCK_STREAM)


def test_the_peers_address_is_not_taken_for_ones_own() -> None:
    sock, _ = opened()
    assert sock.getpeername() == ("192.168.1.1", 54321)
    assert sock.getsockname() == ("10.0.0.1", 12345)


def test_addresses_are_known_when_the_connection_is_gone() -> None:
    sock, _ = opened()
    lose(sock, ConnectionLost())
    assert sock.getpeername() == ("192.168.1.1", 54321)


# -- Numbers -----------------------------------------------------------------------


def test_its_number_is_that_of_the_transports_descriptor() -> None:
    sock, _ = opened(Numbered(77))
    assert sock.fileno() == 77


def test_where_there_is_no_descriptor_each_has_a_negative_number_of_its_own() -> None:
    numbers = {opened()[0].fileno() for _ in range(100)}
    assert len(numbers) == 100
    assert max(numbers) < -1


@pytest.mark.parametrize("wire", [Wire(), Numbered(77)])
def test_its_number_is_minus_1_when_it_is_closed(wire: Wire) -> None:
    sock, _ = opened(wire)
    sock.close()
    assert sock.fileno() == -1


@pytest.mark.parametrize("is_served", [False, True])
def test_a_lost_connection_leaves_its_number_to_others_while_its_channel_stays(
    is_served: bool, channels: Channels
) -> None:
    first = Channel(opened()[0], channels)  # so that the next is not served at once
    sock, _ = opened(Numbered(77))
    channel = Channel(sock, channels, wants=False)
    if is_served:
        asyncore.poll(0, channels)
    lose(sock)
    assert channels == {first._fileno: first, sock.fileno(): channel}
    assert channel._fileno == sock.fileno() < -1


@pytest.mark.parametrize("is_served", [False, True])
def test_another_channel_with_the_number_of_a_lost_connection_takes_nothing_from_it(
    is_served: bool, channels: Channels
) -> None:
    Channel(opened()[0], channels)
    sock, _ = opened(Numbered(77))
    first = Channel(sock, channels, wants=not is_served)
    if is_served:
        asyncore.poll(0, channels)
    lose(sock)
    second = Channel(opened(Numbered(77))[0], channels)
    first.wants = True
    asyncore.poll(0, channels)
    assert (first.closed, second.closed) == (1, 0)
    assert channels[77] is second


def test_a_channel_whose_connection_was_lost_can_be_closed(channels: Channels) -> None:
    sock, _ = opened(Numbered(77))
    channel = Channel(sock, channels, wants=False)
    asyncore.poll(0, channels)
    lose(sock)
    channel.close()
    assert channels == {}


# -- Options -----------------------------------------------------------------------


@pytest.fixture
def handle() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_options_are_those_of_the_socket_under_the_transport(
    is_wrapped: bool, handle: socket.socket
) -> None:
    wire = OnSocket(handle)
    sock = TransportSocket(Wrapping(wire) if is_wrapped else wire)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


def test_an_option_can_be_had_as_bytes(handle: socket.socket) -> None:
    sock = TransportSocket(OnSocket(handle))
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)


def test_without_a_socket_there_are_no_options() -> None:
    sock, _ = opened()
    option = socket.SOL_SOCKET, socket.SO_KEEPALIVE
    assert errno_of(lambda: sock.getsockopt(*option)) == errno.ENOPROTOOPT
    assert errno_of(lambda: sock.setsockopt(*option, 1)) == errno.ENOPROTOOPT


def test_no_error_is_pending() -> None:
    sock, _ = opened()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_dispatcher_can_try_to_reuse_the_address(channels: Channels) -> None:
    sock, _ = opened()
    channel = Channel(sock, channels)
    channel.set_reuse_addr()


def test_it_may_be_told_not_to_block() -> None:
    sock, _ = opened()
    sock.setblocking(False)
    sock.settimeout(0)
    assert (sock.gettimeout(), sock.getblocking()) == (0.0, False)


@pytest.mark.parametrize(
    "call",
    [
        lambda sock: sock.setblocking(True),
        lambda sock: sock.settimeout(5),
        lambda sock: sock.settimeout(None),
    ],
)
def test_it_refuses_to_block(call: Callable[[TransportSocket], None]) -> None:
    sock, _ = opened()
    with pytest.raises(ValueError, match="does not block"):
        call(sock)


# -- Shutting down and closing -----------------------------------------------------


def test_shut_down_for_writing_it_ends_the_writing_half_behind_what_was_sent() -> None:
    wire = HalfCloseable()
    sock = TransportSocket(wire)
    sock.send(b"last words")
    sock.shutdown(socket.SHUT_WR)
    assert wire.order == ["register", "write", "unregister", "lose write"]


def test_shut_down_for_writing_it_still_reads() -> None:
    sock, _ = opened(HalfCloseable())
    sock.shutdown(socket.SHUT_WR)
    sock.received(b"answer")
    assert sock.recv(100) == b"answer"


def test_shut_down_for_writing_it_sends_no_more() -> None:
    sock, _ = opened(HalfCloseable())
    sock.shutdown(socket.SHUT_WR)
    assert errno_of(lambda: sock.send(b"hello")) == errno.EPIPE
    assert errno_of(lambda: sock.sendall(b"hello")) == errno.EPIPE


def test_a_transport_that_has_no_halves_is_closed_when_it_is_shut_down_for_writing() -> None:
    sock, wire = opened(Recorded())
    assert isinstance(wire, Recorded)
    sock.shutdown(socket.SHUT_WR)
    assert wire.order == ["register", "unregister", "lose"]


def test_shut_down_for_reading_it_is_at_its_end() -> None:
    sock, _ = opened()
    sock.shutdown(socket.SHUT_RD)
    sock.received(b"too late")
    assert sock.recv(100) == b""


def test_shut_down_for_reading_it_still_sends() -> None:
    sock, wire = opened()
    sock.shutdown(socket.SHUT_RD)
    sock.send(b"hello")
    assert wire.value() == b"hello"


def test_both_halves_can_be_shut_down_and_then_it_can_be_closed() -> None:
    wire = HalfCloseable()
    sock = TransportSocket(wire)
    sock.shutdown(socket.SHUT_RDWR)
    assert sock.recv(100) == b""
    assert errno_of(lambda: sock.send(b"hello")) == errno.EPIPE
    sock.close()
    assert wire.order == ["register", "unregister", "lose write", "lose"]


def test_shutting_down_twice_does_no_more_than_once() -> None:
    wire = HalfCloseable()
    sock = TransportSocket(wire)
    sock.shutdown(socket.SHUT_WR)
    sock.shutdown(socket.SHUT_WR)
    assert wire.order.count("lose write") == 1


def test_a_close_ends_the_connection_behind_what_was_sent_with_no_producer_left() -> None:
    # TLS would never close with one.
    wire = Recorded()
    sock = TransportSocket(wire)
    sock.send(b"last words")
    sock.close()
    assert wire.order == ["register", "write", "unregister", "lose"]


def test_a_close_of_one_that_is_full_ends_the_connection_too() -> None:
    sock, wire = opened()
    wire.fill()
    sock.close()
    assert wire.disconnecting


def test_a_second_close_does_nothing() -> None:
    wire = Recorded()
    sock = TransportSocket(wire)
    sock.close()
    sock.close()
    assert wire.order.count("lose") == 1


def test_a_close_resumes_what_was_paused_so_that_the_peers_end_is_seen() -> None:
    wire = Recorded()
    sock = TransportSocket(wire)
    sock.received(b"x" * KIB_64)
    sock.close()
    assert wire.order == ["register", "unregister", "resume", "lose"]


def test_a_close_of_one_that_is_gone_leaves_the_transport_alone() -> None:
    wire = Recorded()
    sock = TransportSocket(wire)
    lose(sock)
    sock.close()
    assert wire.order == ["register"]


def test_what_comes_after_a_close_is_dropped() -> None:
    sock, wire = opened()
    sock.close()
    sock.received(b"x" * KIB_64)
    assert wire.is_reading


@pytest.mark.parametrize(
    "call",
    [
        lambda sock: sock.recv(100),
        lambda sock: sock.recv_into(bytearray(1)),
        lambda sock: sock.send(b"x"),
        lambda sock: sock.sendall(b"x"),
        lambda sock: sock.getpeername(),
        lambda sock: sock.getsockname(),
        lambda sock: sock.shutdown(socket.SHUT_RDWR),
        lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ],
)
def test_closed_it_is_a_bad_descriptor(call: Callable[[TransportSocket], object]) -> None:
    sock, _ = opened()
    sock.close()
    assert errno_of(lambda: call(sock)) == errno.EBADF


def closing(close_timeout: float = 60.0) -> tuple[TransportSocket, Wire, Clock]:
    """One that was closed and whose peer takes nothing, and its clock."""
    clock, wire = Clock(), Wire()
    wire.reactor = clock  # type: ignore[attr-defined]
    sock = TransportSocket(wire, close_timeout)
    sock.close()
    return sock, wire, clock


def test_a_peer_that_does_not_take_the_rest_is_cut_off_after_the_close_timeout() -> None:
    _, wire, clock = closing(5.0)
    clock.advance(4.9)
    assert not wire.aborted
    clock.advance(0.2)
    assert wire.aborted


def test_a_peer_has_a_minute_to_take_the_rest_unless_told_otherwise() -> None:
    _, wire, clock = closing()
    clock.advance(59.9)
    assert not wire.aborted
    clock.advance(0.2)
    assert wire.aborted


def test_a_connection_that_closed_in_time_is_not_cut_off() -> None:
    sock, wire, clock = closing(5.0)
    lose(sock)
    clock.advance(10)
    assert (wire.aborted, clock.getDelayedCalls()) == (False, [])


def test_its_repr_says_from_where_to_where_it_is() -> None:
    sock, _ = opened()
    assert "('10.0.0.1', 12345) from ('192.168.1.1', 54321)" in repr(sock)


# -- Under a dispatcher ------------------------------------------------------------


async def test_a_reset_is_a_close_for_the_channel_and_no_error(
    capsys: pytest.CaptureFixture[str], channels: Channels
) -> None:
    sock, _ = opened()
    channel = Channel(sock, channels)
    lose(sock, ConnectionLost())
    await until(lambda: channel.closed)
    assert channel.closed == 1
    assert capsys.readouterr().out == ""


async def test_a_channel_reads_all_before_it_hears_of_the_end(channels: Channels) -> None:
    sock, _ = opened()
    channel = Channel(sock, channels, wants=False)
    for piece in (b"one", b"two", b"three"):
        sock.received(piece)
    lose(sock)
    channel.wants = True
    await until(lambda: channel.closed)
    assert (b"".join(channel.data), channels) == (b"onetwothree", {})


def test_who_loops_over_its_map_serves_it(channels: Channels) -> None:
    sock, _ = opened()
    channel = Channel(sock, channels)
    sock.received(b"hello")
    asyncore.loop(timeout=0, map=channels, count=1)
    assert channel.data == [b"hello"]
    sock.ended()
    asyncore.loop(timeout=0, map=channels, count=1)
    assert (channel.closed, channels) == (1, {})
