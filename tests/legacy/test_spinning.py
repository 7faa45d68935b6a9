"""A channel that takes all the time for nothing is named once; a busy one never is."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from support import until
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher

from txasynchat import LegacyFactory, asynchat, asyncore
from txasynchat.legacy import spinning

Channels = dict[int, Any]

#: Rounds that are more than enough to be sure of a channel.
MANY = 15000


class Log:
    """What was said of channels that spin."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        if event.get("log_namespace") == spinning.__name__:
            assert event["log_level"] is LogLevel.warn
            self.events.append(event)

    @property
    def handlers(self) -> list[str]:
        return [event["handler"].rpartition(".")[2] for event in self.events]


@pytest.fixture
def log() -> Iterator[Log]:
    """What is said during the test."""
    seen = Log()
    globalLogPublisher.addObserver(cast(ILogObserver, seen))
    yield seen
    globalLogPublisher.removeObserver(cast(ILogObserver, seen))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours, theirs:
        theirs.settimeout(10)
        yield ours, theirs


def serve(channels: Channels, rounds: int = MANY, use_poll: bool = False) -> None:
    """Serve the map for so many rounds, and close what is left."""
    asyncore.loop(timeout=0.5, map=channels, count=rounds, use_poll=use_poll)
    asyncore.close_all(channels)


def serve_out(channels: Channels, use_poll: bool = False) -> None:
    """Serve the map until it is empty. The tests' reactor may run around this."""
    while channels:
        asyncore.loop(timeout=0.5, map=channels, count=1000, use_poll=use_poll)


class Quiet(asyncore.dispatcher):
    """Waits for nothing to send."""

    def writable(self) -> bool:
        return False

    def handle_close(self) -> None:
        self.close()

    def log_info(self, message: Any, type: str = "info") -> None:
        pass


# -- Those that spin -----------------------------------------------------------------------


@pytest.mark.parametrize("use_poll", [False, True])
def test_a_channel_that_is_always_writable_is_named_once(
    use_poll: bool, pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    class AlwaysWritable(asyncore.dispatcher):
        pass

    channels: Channels = {}
    AlwaysWritable(pair[0], channels)
    serve(channels, use_poll=use_poll)
    assert log.handlers == ["AlwaysWritable"]
    event = log.events[0]
    assert event["event"] == "write"
    assert "writable() returns True although it has nothing to send" in event["advice"]


def test_a_class_is_named_once_however_many_of_it_spin(log: Log) -> None:
    class Pest(asyncore.dispatcher):
        pass

    for _ in range(3):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            channels: Channels = {}
            Pest(ours, channels)
            serve(channels, 3000)
    assert log.handlers == ["Pest"]


def test_a_handle_read_that_does_not_receive_is_named(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    class Deaf(Quiet):
        seen = 0

        def handle_read(self) -> None:
            self.seen += 1

    channels: Channels = {}
    Deaf(pair[0], channels)
    pair[1].send(b"hello?")
    serve(channels)
    assert log.handlers == ["Deaf"]
    assert "handle_read() has to call recv()" in log.events[0]["advice"]


def test_a_channel_that_does_not_close_after_its_peer_is_named(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    class Undying(Quiet):
        closes = 0

        def handle_read(self) -> None:
            self.recv(100)

        def handle_close(self) -> None:
            self.closes += 1

    channels: Channels = {}
    Undying(pair[0], channels)
    pair[1].close()
    serve(channels)
    assert log.handlers == ["Undying"]
    assert "handle_close() has to call close()" in log.events[0]["advice"]


def test_a_listener_that_does_not_accept_is_named(log: Log) -> None:
    class Doorman(asyncore.dispatcher):
        seen = 0

        def handle_accept(self) -> None:
            self.seen += 1

    channels: Channels = {}
    server = Doorman(map=channels)
    server.create_socket()
    server.bind(("127.0.0.1", 0))
    server.listen(5)
    assert server.socket is not None
    with socket.create_connection(server.socket.getsockname()):
        serve(channels)
    assert log.handlers == ["Doorman"]
    assert "accept()" in log.events[0]["advice"]


def test_a_chat_whose_writable_is_always_true_is_named(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    class Chat(asynchat.async_chat):
        def writable(self) -> bool:
            return True

        def collect_incoming_data(self, data: bytes) -> None:
            raise NotImplementedError

        found_terminator = Quiet.handle_close  # never called

    channels: Channels = {}
    Chat(pair[0], channels)
    serve(channels)
    assert log.handlers == ["Chat"]


def test_a_datagram_channel_with_an_empty_handle_write_is_named(log: Log) -> None:
    class Datagrams(asyncore.dispatcher):
        def handle_write(self) -> None:
            pass

    channels: Channels = {}
    channel = Datagrams(map=channels)
    channel.create_socket(type=socket.SOCK_DGRAM)
    channel.bind(("127.0.0.1", 0))
    serve(channels)
    assert log.handlers == ["Datagrams"]


def test_it_is_served_as_before_when_it_was_named(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    class Busybody(asyncore.dispatcher):
        got = b""

        def handle_read(self) -> None:
            self.got += self.recv(100)

        def handle_write(self) -> None:
            pass

        def handle_close(self) -> None:
            self.close()

    channels: Channels = {}
    channel = Busybody(pair[0], channels)
    asyncore.loop(timeout=0.5, map=channels, count=MANY)
    assert log.handlers == ["Busybody"]
    pair[1].sendall(b"still there?")
    serve(channels, 1000)
    assert channel.got == b"still there?"


async def test_a_plain_dispatcher_below_an_endpoint_is_named(log: Log) -> None:
    from twisted.internet import reactor

    class Plain(asyncore.dispatcher):
        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock)

        def handle_read(self) -> None:
            self.recv(100)

        def handle_close(self) -> None:
            self.close()

    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(LegacyFactory(Plain))
    with socket.create_connection(("127.0.0.1", port.getHost().port)):
        await until(lambda: log.events)
    assert log.handlers == ["Plain"]
    await until(lambda: not asyncore.socket_map)
    await port.stopListening()


# -- Those that work, or wait ----------------------------------------------------------------


def exchange(theirs: Any, sent: bytes, times: int) -> threading.Thread:
    """A peer in a thread that sends, gets as much back, and ends."""

    def talk() -> None:
        with theirs:
            for _ in range(times):
                theirs.sendall(sent)
                left = len(sent)
                while left:
                    left -= len(theirs.recv(left))

    thread = threading.Thread(target=talk)
    thread.start()
    return thread


class Direct(asyncore.dispatcher):
    """Uses its socket by itself, and echoes."""

    waiting = b""

    def handle_read(self) -> None:
        data = self.socket.recv(4096)  # type: ignore[union-attr]
        if data:
            self.waiting += data
        else:
            self.close()

    def writable(self) -> bool:
        return bool(self.waiting)

    def handle_write(self) -> None:
        sent = self.socket.send(self.waiting)  # type: ignore[union-attr]
        self.waiting = self.waiting[sent:]


@pytest.mark.parametrize("use_poll", [False, True])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_one_that_uses_its_socket_by_itself_is_honest(
    kind: str, use_poll: bool, pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    ours, theirs = pair if kind == "tcp" else socket.socketpair()
    channels: Channels = {}
    Direct(ours, channels)
    peer = exchange(theirs, b"ping", MANY // 2)
    serve_out(channels, use_poll)
    peer.join()
    assert log.handlers == []


def test_one_that_reads_byte_by_byte_is_honest(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    class ByteByByte(Direct):
        def handle_read(self) -> None:
            if not self.socket.recv(1):  # type: ignore[union-attr]
                self.close()

    channels: Channels = {}
    ByteByByte(pair[0], channels)
    pair[1].sendall(bytes(MANY))
    pair[1].close()
    serve_out(channels)
    assert log.handlers == []


def test_a_tls_channel_that_reads_byte_by_byte_is_honest(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    # Sixteen kilobytes are decrypted at once: the system sees one read for so many events.
    class ByteByByte(Direct):
        def handle_read(self) -> None:
            try:
                data = self.socket.recv(1)  # type: ignore[union-attr]
            except ssl.SSLWantReadError:
                return
            if not data:
                self.close()

    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    def talk() -> None:
        with client.wrap_socket(pair[1], server_hostname="127.0.0.1") as theirs:
            theirs.sendall(bytes(MANY))

    peer = threading.Thread(target=talk)
    peer.start()
    with server.wrap_socket(pair[0], server_side=True) as secure:
        channels: Channels = {}
        ByteByByte(secure, channels)
        serve_out(channels)
    peer.join()
    assert log.handlers == []


@pytest.mark.parametrize("way", ["send", "sendfile"])
def test_a_big_transfer_to_a_slow_peer_is_honest(
    way: str, pair: tuple[socket.socket, socket.socket], log: Log, tmp_path: Path
) -> None:
    size = 2_000_000
    (tmp_path / "file").write_bytes(bytes(size))

    class Sender(asyncore.dispatcher):
        left = size

        def handle_write(self) -> None:
            sock: Any = self.socket
            if way == "send":
                self.left -= sock.send(bytes(min(self.left, 100)))
            else:
                self.left -= os.sendfile(sock.fileno(), file.fileno(), None, min(self.left, 100))
            if not self.left:
                self.close()

    def drink() -> None:
        while pair[1].recv(1000):
            pass

    channels: Channels = {}
    Sender(pair[0], channels)
    peer = threading.Thread(target=drink)
    with (tmp_path / "file").open("rb") as file:
        peer.start()
        serve_out(channels)
    peer.join()
    assert log.handlers == []


class Datagrams(asyncore.dispatcher):
    """Datagrams of one size, sent and received by the socket's own methods."""

    def __init__(self, map: Channels, to: Any = None) -> None:
        super().__init__(map=map)
        self.create_socket(type=socket.SOCK_DGRAM)
        self.bind(("127.0.0.1", 0))
        self.to = to
        self.got = 0

    def writable(self) -> bool:
        return self.to is not None

    def handle_write(self) -> None:
        self.socket.sendto(b"same", self.to)  # type: ignore[union-attr]

    def handle_read(self) -> None:
        self.socket.recvfrom(100)  # type: ignore[union-attr]
        self.got += 1


def test_those_that_send_and_receive_datagrams_are_honest(log: Log) -> None:
    channels: Channels = {}
    receiver = Datagrams(channels)
    assert receiver.socket is not None
    Datagrams(channels, receiver.socket.getsockname())
    serve(channels)
    assert receiver.got > MANY // 2
    assert log.handlers == []


def test_one_that_is_flooded_with_datagrams_is_honest(log: Log) -> None:
    channels: Channels = {}
    receiver = Datagrams(channels)
    assert receiver.socket is not None
    address = receiver.socket.getsockname()
    stop = threading.Event()

    def flood() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            while not stop.is_set():
                sender.sendto(b"same", address)

    peer = threading.Thread(target=flood)
    peer.start()
    asyncore.loop(timeout=0.5, map=channels, count=MANY)
    stop.set()
    peer.join()
    asyncore.close_all(channels)
    assert log.handlers == []


def test_a_file_that_is_always_ready_is_honest_while_it_is_read(log: Log, tmp_path: Path) -> None:
    class Reader(asyncore.file_dispatcher):
        def writable(self) -> bool:
            return False

        def handle_read(self) -> None:
            if not os.read(self._fileno, 1):
                self.close()

    (tmp_path / "file").write_bytes(bytes(MANY))
    channels: Channels = {}
    with (tmp_path / "file").open("rb") as file:
        Reader(file, channels)
    serve_out(channels)
    assert log.handlers == []


def test_one_that_wakes_itself_is_honest(log: Log) -> None:
    # As its state is the same before and after, only its own methods tell of it.
    class Trigger(asyncore.file_dispatcher):
        def writable(self) -> bool:
            return False

        def handle_read(self) -> None:
            self.recv(1)
            os.write(writing, b"x")

    reading, writing = os.pipe()
    os.write(writing, b"x")
    channels: Channels = {}
    Trigger(reading, channels)
    serve(channels)
    os.close(reading)
    os.close(writing)
    assert log.handlers == []


def test_a_program_that_polls_by_itself_is_left_alone(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    class Polled(asyncore.dispatcher):
        pass

    channels: Channels = {}
    Polled(pair[0], channels)
    for _ in range(MANY):
        asyncore.poll(0, channels)
    asyncore.close_all(channels)
    assert log.handlers == []


def test_a_channel_that_is_paced_by_its_program_is_left_alone(
    pair: tuple[socket.socket, socket.socket], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Paced(asyncore.dispatcher):
        pass

    now = [0.0]

    def clock() -> float:
        now[0] += 1 / 60
        return now[0]

    monkeypatch.setattr(spinning, "monotonic", clock)
    monkeypatch.setattr(spinning, "_WITHIN", 1 / 120)
    channels: Channels = {}
    Paced(pair[0], channels)
    serve(channels)
    assert log.handlers == []


def test_rounds_in_which_nothing_is_ready_do_not_count(
    pair: tuple[socket.socket, socket.socket], log: Log
) -> None:
    channels: Channels = {}
    Quiet(pair[0], channels)
    for _ in range(MANY):
        asyncore.poll(0.000001, channels)
    asyncore.close_all(channels)
    assert log.handlers == []


async def test_an_honest_chat_below_an_endpoint_is_never_named(log: Log) -> None:
    from twisted.internet import reactor

    class Echo(asynchat.async_chat):
        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock)
            self.set_terminator(b"\n")

        def collect_incoming_data(self, data: bytes) -> None:
            self._collect_incoming_data(data)

        def found_terminator(self) -> None:
            self.push(self._get_data() + b"\n")

    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(LegacyFactory(Echo))
    theirs = socket.create_connection(("127.0.0.1", port.getHost().port))
    peer = exchange(theirs, b"ping\n", 5000)
    await until(lambda: not peer.is_alive())
    await until(lambda: not asyncore.socket_map)
    await port.stopListening()
    assert log.handlers == []
