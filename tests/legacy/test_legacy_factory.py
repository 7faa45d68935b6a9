"""Unmodified legacy handlers and servers on endpoints: TCP, TLS, UNIX, PROXY protocol, memory."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme
from support import Wire, turns, until
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from txasynchat import asynchat, asyncore
from txasynchat.legacy.serving import LegacyFactory
from txasynchat.legacy.transport_socket import TransportSocket

KINDS = ["tcp", "tcp6", "unix", "tls", "haproxy"]

#: What a proxy says before all else: whom it speaks for.
PROXY_HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"


# -- Legacy programs: nothing in them knows of Twisted --------------------------------


class Counted(asynchat.async_chat):
    """ECHO n, and n bytes: the handler of the documentation, all but its name."""

    served: list[Counted] = []

    def __init__(self, sock: Any, addr: Any) -> None:
        asynchat.async_chat.__init__(self, sock)
        self.peer = addr
        self.received: list[bytes] = []
        self.length: int | None = None
        self.closes = 0
        self.set_terminator(b"\n")
        Counted.served.append(self)

    def collect_incoming_data(self, data: bytes) -> None:
        self.received.append(data)

    def found_terminator(self) -> None:
        data = b"".join(self.received)
        self.received = []
        if self.length is None:
            self.length = int(data.split()[1])
            self.set_terminator(self.length)
        else:
            self.push(data)
            self.close_when_done()

    def handle_close(self) -> None:
        self.closes += 1
        self.close()


class Who(asynchat.async_chat):
    """Says first thing who has called, and from where that is known."""

    def __init__(self, sock: Any, addr: Any) -> None:
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(None)
        self.push(repr((addr, sock.getpeername(), self.addr)).encode())
        self.close_when_done()

    def collect_incoming_data(self, data: bytes) -> None:
        pass


class Server(asyncore.dispatcher):
    """A server as the documentation has it."""

    def __init__(self) -> None:
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.set_reuse_addr()
        self.bind(("127.0.0.1", 0))
        self.listen(5)

    def handle_accepted(self, sock: Any, addr: Any) -> None:
        Counted(sock, addr)


class OldServer(Server):
    """A server as it was written for Python 2."""

    def handle_accept(self) -> None:
        pair = self.accept()
        if pair is not None:
            sock, addr = pair
            Counted(sock, addr)


class GreedyServer(Server):
    """A server that accepts until there is nobody left."""

    def handle_accept(self) -> None:
        while (pair := self.accept()) is not None:
            Counted(*pair)


class ServerWithoutSocket(asyncore.dispatcher):
    """A server that has not begun to listen."""

    def handle_accepted(self, sock: Any, addr: Any) -> None:
        Counted(sock, addr)


# -- Where they are served, and who asks them ----------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def no_channel_is_left() -> Iterator[None]:
    """Fail a test after which channels are left in the map."""
    before = dict(asyncore.socket_map)
    Counted.served = []
    yield
    left = {fd: each for fd, each in asyncore.socket_map.items() if before.get(fd) is not each}
    for each in left.values():
        each.close()
    assert not left


class Listening:
    """A factory that listens, on an endpoint of the kind asked for."""

    def __init__(self, kind: str, port: Any, authority: trustme.CA) -> None:
        self.kind = kind
        self.port = port
        self._authority = authority

    @property
    def address(self) -> Any:
        host = self.port.getHost()
        return host.name.decode() if self.kind == "unix" else (host.host, host.port)

    def connect(self, receive_buffer: int = 0, send_buffer: int = 0, handshake: bool = True) -> Any:
        """A client's socket, maybe with small buffers; it blocks, so it is for another thread."""
        families = {"unix": socket.AF_UNIX, "tcp6": socket.AF_INET6}
        client = socket.socket(families.get(self.kind, socket.AF_INET))
        try:
            client.settimeout(20)
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if send_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            client.connect(self.address)
            if self.kind == "haproxy":
                client.sendall(PROXY_HEADER)
            if self.kind != "tls" or not handshake:
                return client
            context = ssl.create_default_context()
            self._authority.configure_trust(context)
            return context.wrap_socket(
                client, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            )
        except BaseException:
            client.close()
            raise

    def exchange(self, request: bytes) -> bytes:
        """What a client gets for a request."""
        with self.connect() as client:
            if request:  # who speaks first may have closed already
                client.sendall(request)
            return to_the_end(client)

    def is_turned_away(self) -> bool:
        """Whether a client gets nothing, over TLS not even a handshake."""
        try:
            with self.connect(handshake=False) as client:
                return not to_the_end(client)
        except ConnectionResetError:  # before it knew that it was connected
            return True


def to_the_end(client: Any) -> bytes:
    """All that comes until the peer ends, or cuts off, the connection."""
    received: list[bytes] = []
    try:
        while data := client.recv(65536):
            received.append(data)
    except ConnectionError:
        pass
    return b"".join(received)


Listen: TypeAlias = Callable[[str, Any], AbstractAsyncContextManager[Listening]]


@pytest.fixture
def listen(tmp_path: Path, authority: trustme.CA) -> Listen:
    """Has a factory listen: ``async with listen(kind, factory) as listening``."""

    def endpoint(kind: str) -> Any:
        from twisted.internet import reactor
        from twisted.internet.ssl import PrivateCertificate

        if kind == "unix":
            return UNIXServerEndpoint(reactor, str(tmp_path / f"socket{next(numbers)}"))
        if kind == "haproxy":
            return serverFromString(reactor, "haproxy:tcp:0:interface=127.0.0.1")
        if kind == "tcp6":
            return TCP6ServerEndpoint(reactor, 0, interface="::1")
        if kind == "tls":
            pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
            options = PrivateCertificate.loadPEM(pem).options()
            return SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1")
        return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

    numbers = count()

    @asynccontextmanager
    async def listening(kind: str, factory: Any) -> AsyncIterator[Listening]:
        port = await endpoint(kind).listen(factory)
        try:
            yield Listening(kind, port, authority)
        finally:
            await port.stopListening()

    return listening


def echo(body: bytes) -> bytes:
    return b"ECHO %d\n" % len(body) + body


BODY = bytes(range(256)) * 1000


# -- Handlers --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unmodified_handler_echoes_a_binary_body(kind: str, listen: Listen) -> None:
    async with listen(kind, LegacyFactory(Counted)) as listening:
        assert await deferToThread(listening.exchange, echo(BODY)) == BODY
        await until(lambda: not asyncore.socket_map)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_listener_serves_many_at_once(kind: str, listen: Listen) -> None:
    bodies = [bytes([number]) * (number * 5000) for number in range(1, 6)]
    together = threading.Barrier(len(bodies))

    def ask(listening: Listening, body: bytes) -> bytes:
        with listening.connect() as client:
            together.wait(20)
            client.sendall(echo(body))
            return to_the_end(client)

    async with listen(kind, LegacyFactory(Counted)) as listening:
        asked = [deferToThread(ask, listening, body) for body in bodies]
        assert [await each for each in asked] == bodies
        await until(lambda: not asyncore.socket_map)


async def test_openssl_gets_its_echo(listen: Listen) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    async with listen("tls", LegacyFactory(Counted)) as listening:
        host, port = listening.address
        result = await deferToThread(
            subprocess.run,
            [openssl, "s_client", "-quiet", "-connect", f"{host}:{port}"],
            input=echo(BODY),
            capture_output=True,
            timeout=20,
        )
    assert result.stdout == BODY


@pytest.mark.parametrize(
    ("kind", "family"),
    [("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6), ("tls", socket.AF_INET)],
)
async def test_the_address_is_the_clients(kind: str, family: int, listen: Listen) -> None:
    def ask(listening: Listening) -> tuple[Any, bytes]:
        with listening.connect() as client:
            return client.getsockname(), to_the_end(client)

    async with listen(kind, LegacyFactory(Who)) as listening:
        name, answer = await deferToThread(ask, listening)
    assert answer.decode() == repr((name, name, name))


async def test_a_client_on_a_unix_socket_has_no_name(listen: Listen) -> None:
    async with listen("unix", LegacyFactory(Who)) as listening:
        assert await deferToThread(listening.exchange, b"") == b"('', '', '')"


async def test_the_address_is_the_one_that_the_proxy_tells_of(listen: Listen) -> None:
    # It speaks first: so it must know whom to.
    async with listen("haproxy", LegacyFactory(Who)) as listening:
        proxied = "192.0.2.7", 4711
        answer = await deferToThread(listening.exchange, b"")
    assert answer.decode() == repr((proxied, proxied, proxied))


async def test_our_own_name_is_the_one_that_the_proxy_tells_of(listen: Listen) -> None:
    names: list[Any] = []

    def build(sock: Any, addr: Any) -> None:
        names.append(sock.getsockname())
        sock.close()

    async with listen("haproxy", LegacyFactory(build)) as listening:
        await deferToThread(listening.exchange, b"")
    assert names == [("198.51.100.1", 25)]


async def test_a_server_behind_a_proxy_is_told_the_proxied_address(listen: Listen) -> None:
    addresses: list[Any] = []

    class Asking(ServerWithoutSocket):
        def handle_accepted(self, sock: Any, addr: Any) -> None:
            addresses.append(addr)
            sock.close()

    factory = LegacyFactory.for_server(Asking())
    async with listen("haproxy", factory) as listening:
        await deferToThread(listening.exchange, b"")
    factory.server.close()
    assert addresses == [("192.0.2.7", 4711)]


async def test_a_proxy_header_in_pieces_is_waited_for(listen: Listen) -> None:
    def ask(listening: Listening) -> bytes:
        with socket.create_connection(listening.address, timeout=20) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(PROXY_HEADER[:20])
            first.set()
            goes_on.wait(20)
            client.sendall(PROXY_HEADER[20:] + echo(b"hello"))
            return to_the_end(client)

    first, goes_on = threading.Event(), threading.Event()
    async with listen("haproxy", LegacyFactory(Counted)) as listening:
        answer = deferToThread(ask, listening)
        await until(first.is_set)
        await turns(20)
        goes_on.set()
        assert await answer == b"hello"
    (served,) = Counted.served
    assert served.peer == ("192.0.2.7", 4711)


async def test_a_proxy_that_goes_before_it_said_for_whom_leaves_nothing(listen: Listen) -> None:
    def ask(listening: Listening) -> None:
        socket.create_connection(listening.address, timeout=20).close()

    async with listen("haproxy", LegacyFactory(Counted)) as listening:
        await deferToThread(ask, listening)
        assert await deferToThread(listening.exchange, echo(b"hello")) == b"hello"
        await until(lambda: not asyncore.socket_map)


async def test_who_sends_no_proxy_header_is_not_served(listen: Listen) -> None:
    def ask(listening: Listening) -> bytes:
        with socket.create_connection(listening.address, timeout=20) as client:
            client.sendall(echo(b"hello"))
            return to_the_end(client)

    async with listen("haproxy", LegacyFactory(Counted)) as listening:
        assert await deferToThread(ask, listening) == b""
        await until(lambda: not asyncore.socket_map)


def in_memory(factory: LegacyFactory) -> tuple[Wire, Any]:
    """A connection in memory, and its protocol."""
    wire = Wire()
    protocol: Any = factory.buildProtocol(None)
    protocol.makeConnection(wire)
    return wire, protocol


async def test_a_connection_in_memory_is_served_too() -> None:
    wire, protocol = in_memory(LegacyFactory(Counted))
    for piece in (b"EC", b"HO 5", b"\nhel", b"lo"):
        protocol.dataReceived(piece)
    await until(lambda: wire.disconnecting)
    assert wire.value() == b"hello"
    protocol.connectionLost(Failure(ConnectionDone()))


async def test_data_that_comes_at_once_with_the_connection_is_not_lost() -> None:
    _, protocol = in_memory(LegacyFactory(Counted))
    protocol.dataReceived(echo(b"hello"))
    protocol.connectionLost(Failure(ConnectionDone()))
    await until(lambda: not asyncore.socket_map)
    (served,) = Counted.served
    assert (served.length, served.closes) == (5, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handler_closes_when_all_is_delivered_and_not_before(
    kind: str, listen: Listen
) -> None:
    class Generous(Who):
        def __init__(self, sock: Any, addr: Any) -> None:
            asynchat.async_chat.__init__(self, sock)
            self.set_terminator(None)
            for number in range(100):
                self.push(bytes([number]) * 10_000)
            self.close_when_done()

    async with listen(kind, LegacyFactory(Generous)) as listening:
        answer = await deferToThread(listening.exchange, b"")
        await until(lambda: not asyncore.socket_map)
    assert answer == b"".join(bytes([number]) * 10_000 for number in range(100))


FIVE_MB = 5_000_000


class Megabytes(Counted):
    """Gives 5 MB, a piece at a time, whatever it is asked."""

    produced = 0

    def __init__(self, sock: Any, addr: Any) -> None:
        super().__init__(sock, addr)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.push_with_producer(self)
        self.close_when_done()

    def more(self) -> bytes:
        piece = (b"%08d" % self.produced * 1000)[: FIVE_MB - self.produced]
        self.produced += len(piece)
        return piece


@pytest.mark.parametrize("kind", KINDS)
async def test_a_producer_is_asked_for_little_while_its_peer_does_not_read(
    kind: str, listen: Listen
) -> None:
    def read_late(listening: Listening) -> bytes:
        with listening.connect(receive_buffer=65536) as client:
            reads.wait(20)
            return to_the_end(client)

    reads = threading.Event()
    async with listen(kind, LegacyFactory(Megabytes)) as listening:
        read = deferToThread(read_late, listening)
        await until(lambda: Counted.served)
        (served,) = Counted.served
        assert isinstance(served, Megabytes)
        await until(lambda: served.produced > 65536)
        await turns(500)  # more than it would take to produce it all
        assert served.produced < FIVE_MB / 3
        reads.set()
        data = await read
        assert len(data) == FIVE_MB
        assert all(data[at : at + 8] == b"%08d" % at for at in range(0, FIVE_MB, 8000))
        await until(lambda: not asyncore.socket_map)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handler_that_does_not_read_holds_back_its_peer(kind: str, listen: Listen) -> None:
    class Deaf(Counted):
        hears = False

        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock, addr)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

        def readable(self) -> bool:
            return self.hears

    def flood(listening: Listening) -> bytes:
        request = memoryview(echo(b"x" * FIVE_MB))
        with listening.connect(send_buffer=65536) as client:
            client.setblocking(False)
            while not goes_on.is_set():
                try:
                    sent.append(client.send(request[sum(sent) : sum(sent) + 65536]))
                except (BlockingIOError, ssl.SSLWantWriteError):
                    is_held_back.set()
                    goes_on.wait(0.001)
            client.settimeout(20)
            client.sendall(request[sum(sent) :])
            return to_the_end(client)

    sent: list[int] = []
    is_held_back, goes_on = threading.Event(), threading.Event()
    async with listen(kind, LegacyFactory(Deaf)) as listening:
        answer = deferToThread(flood, listening)
        await until(is_held_back.is_set)
        await turns(500)
        assert sum(sent) < FIVE_MB / 2
        (served,) = Counted.served
        assert isinstance(served, Deaf)
        served.hears = True
        goes_on.set()
        assert await answer == b"x" * FIVE_MB
        await until(lambda: not asyncore.socket_map)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_peer_that_goes_closes_the_handler(kind: str, listen: Listen) -> None:
    def go(listening: Listening) -> None:
        with listening.connect() as client:
            client.sendall(b"ECHO 5\nhel")
            if kind == "tls":
                client.unwrap()

    async with listen(kind, LegacyFactory(Counted)) as listening:
        await deferToThread(go, listening)
        await until(lambda: Counted.served and Counted.served[0].closes)
    (served,) = Counted.served
    assert (served.length, served.closes, asyncore.socket_map) == (5, 1, {})


@pytest.mark.parametrize("kind", ["tcp", "tls", "haproxy"])
async def test_a_reset_closes_the_handler(kind: str, listen: Listen) -> None:
    def reset(listening: Listening) -> None:
        client = listening.connect()
        client.sendall(b"ECHO 5\nhel")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    async with listen(kind, LegacyFactory(Counted)) as listening:
        await deferToThread(reset, listening)
        await until(lambda: Counted.served and Counted.served[0].closes)
    assert (Counted.served[0].closes, asyncore.socket_map) == (1, {})


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_client_that_has_finished_sending_is_still_answered(
    kind: str, listen: Listen
) -> None:
    class Summing(Counted):
        def handle_close(self) -> None:
            self.push(b"that was all")
            super().handle_close()

    def ask(listening: Listening) -> bytes:
        with listening.connect() as client:
            client.sendall(b"ECHO 5\nhel")
            client.shutdown(socket.SHUT_WR)
            return to_the_end(client)

    async with listen(kind, LegacyFactory(Summing)) as listening:
        assert await deferToThread(ask, listening) == b"that was all"
        await until(lambda: not asyncore.socket_map)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RDWR])
async def test_a_handler_may_shut_down_before_it_closes(
    how: int, kind: str, listen: Listen
) -> None:
    class Thorough(Counted):
        def handle_close(self) -> None:
            assert self.socket is not None
            self.socket.shutdown(how)
            super().handle_close()

    async with listen(kind, LegacyFactory(Thorough)) as listening:
        assert await deferToThread(listening.exchange, echo(BODY)) == BODY
        await until(lambda: not asyncore.socket_map)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handler_may_end_its_half_and_wait_for_the_peers_end(
    kind: str, listen: Listen
) -> None:
    # Over TLS a client sees an attack where others see the end, unless it is told of it.
    class Polite(Counted):
        def close_when_done(self) -> None:
            self.push_with_producer(Last(self))

    class Last:
        def __init__(self, channel: Polite) -> None:
            self.channel = channel

        def more(self) -> bytes:
            assert self.channel.socket is not None
            self.channel.socket.shutdown(socket.SHUT_WR)
            return b""

    async with listen(kind, LegacyFactory(Polite)) as listening:
        assert await deferToThread(listening.exchange, echo(BODY)) == BODY
        await until(lambda: not asyncore.socket_map)
    assert Counted.served[0].closes == 1


async def test_a_client_that_never_reads_is_cut_off_after_the_close_timeout(
    listen: Listen,
) -> None:
    class Pushing(Who):
        def __init__(self, sock: Any, addr: Any) -> None:
            asynchat.async_chat.__init__(self, sock)
            sock.sendall(b"x" * FIVE_MB)
            self.close()

    def wait(listening: Listening) -> int:
        with listening.connect() as client:
            is_cut_off.wait(20)
            return len(to_the_end(client))

    is_cut_off = threading.Event()
    protocols: list[Any] = []
    factory = LegacyFactory(Pushing, close_timeout=0.05)
    build = factory.buildProtocol

    def buildProtocol(addr: object) -> Any:
        protocols.append(build(addr))
        return protocols[-1]

    factory.buildProtocol = buildProtocol  # type: ignore[method-assign]
    async with listen("unix", factory) as listening:
        read = deferToThread(wait, listening)
        await until(lambda: protocols and not protocols[0].transport.connected)
        is_cut_off.set()
        assert await read < FIVE_MB


# -- The answers to one chunk are one write --------------------------------------------


class Pieces(Wire):
    """A wire that keeps what it was given in pieces; maybe full after some of them."""

    reactor: Any = None

    def __init__(self, full_after: int | None = None) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self._full_after = full_after

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        super().write(data)  # type: ignore[no-untyped-call]
        if len(self.pieces) == self._full_after:
            self.fill()


class Lines(asynchat.async_chat):
    """Answers each line with itself, or does what the line says."""

    def __init__(self, sock: Any, addr: Any) -> None:
        asynchat.async_chat.__init__(self, sock)
        self.line: list[bytes] = []
        self.called: list[bytes] = []
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self.line.append(data)

    def found_terminator(self) -> None:
        line = b"".join(self.line)
        self.line = []
        getattr(self, f"do_{line.decode()}", lambda: self.push(line + b" "))()

    def handle_close(self) -> None:
        self.close()


async def served(kind: Any, wire: Wire) -> tuple[Any, Any]:
    """A handler that the reactor serves, and its protocol."""
    made: list[Any] = []

    def build(sock: Any, addr: Any) -> None:
        made.append(kind(sock, addr))

    protocol: Any = LegacyFactory(build).buildProtocol(None)
    protocol.makeConnection(wire)
    await turns(3)
    return made[0], protocol


def end(protocol: Any) -> None:
    """The peer has gone."""
    protocol.connectionLost(Failure(ConnectionDone()))


async def test_the_answers_to_a_chunk_are_one_write_when_the_chunk_is_handled() -> None:
    wire = Pieces()
    _, protocol = await served(Lines, wire)
    protocol.dataReceived(b"a\nb\nc\n")
    assert wire.pieces == [b"a b c "]
    protocol.dataReceived(b"d\n")
    assert wire.pieces == [b"a b c ", b"d "]
    end(protocol)


async def test_whichever_way_something_is_sent_the_order_is_kept() -> None:
    class Mixed(Lines):
        def do_send(self) -> None:
            self.send(b"send ")

        def do_socket(self) -> None:
            sock: Any = self.socket
            sock.send(b"socket ")

        def do_producer(self) -> None:
            self.push_with_producer(asynchat.simple_producer(b"producer "))

        def do_buffer(self) -> None:
            self.ac_out_buffer = b"buffer "

        def do_large(self) -> None:
            self.push(bytes(65536) + b" ")

    _, protocol = await served(Mixed, wire := Pieces())
    protocol.dataReceived(b"a\nsend\nb\nsocket\nc\nproducer\nd\nbuffer\ne\nlarge\nf\ng\n")
    await until(lambda: wire.value().endswith(b"g "))
    large = bytes(65536).decode()
    assert wire.value().decode() == f"a send b socket c producer d buffer e {large} f g "
    end(protocol)


async def test_what_was_pushed_in_a_chunk_is_sent_before_the_handler_closes() -> None:
    class Closing(Lines):
        def do_close(self) -> None:
            self.close()
            self.push(b"too late")

    _, protocol = await served(Closing, wire := Pieces())
    protocol.dataReceived(b"a\nb\nclose\nc\n")
    assert (wire.pieces, wire.disconnecting) == ([b"a b "], True)
    end(protocol)


async def test_what_was_pushed_in_a_chunk_is_sent_before_a_handler_fails() -> None:
    class Failing(Lines):
        def do_fail(self) -> None:
            raise ValueError("no")

        def log_info(self, message: Any, type: str = "info") -> None:
            self.called.append(str(message).encode())

    handler, protocol = await served(Failing, wire := Pieces())
    protocol.dataReceived(b"a\nb\nfail\nc\n")
    assert (wire.pieces, wire.disconnecting) == ([b"a b "], True)
    assert b"ValueError" in handler.called[0]
    end(protocol)


async def test_an_own_send_is_called_for_each_push() -> None:
    class Sending(Lines):
        def send(self, data: Any) -> int:
            self.called.append(data)
            return super().send(data)

    handler, protocol = await served(Sending, wire := Pieces())
    protocol.dataReceived(b"a\nb\n")
    assert (handler.called, wire.pieces) == ([b"a ", b"b "], [b"a b "])
    end(protocol)


async def test_an_own_send_that_a_callback_sets_on_the_object_is_called_from_then_on() -> None:
    class Compressing(Lines):
        def do_upper(self) -> None:
            send: Any = self.send
            self.send = lambda data: send(data.upper())  # type: ignore

    _, protocol = await served(Compressing, wire := Pieces())
    protocol.dataReceived(b"a\nupper\nb\n")
    assert wire.pieces == [b"a B "]
    end(protocol)


@pytest.mark.parametrize("on_object", [False, True])
async def test_an_own_initiate_send_is_called_for_each_push(on_object: bool) -> None:
    class Initiating(Lines):
        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock, addr)
            if on_object:
                initiate = super().initiate_send
                self.initiate_send = lambda: self.called.append(b"") or initiate()  # type: ignore

    if not on_object:

        def initiate_send(self: Any) -> None:
            self.called.append(b"")
            asynchat.async_chat.initiate_send(self)

        Initiating.initiate_send = initiate_send  # type: ignore[method-assign]
    handler, protocol = await served(Initiating, wire := Pieces())
    protocol.dataReceived(b"a\nb\n")
    assert (len(handler.called), wire.pieces) == (2, [b"a b "])
    end(protocol)


async def test_an_own_refill_buffer_is_called_for_what_is_pushed() -> None:
    class Refilling(Lines):
        def refill_buffer(self) -> None:
            self.called.append(b"")
            super().refill_buffer()

    handler, protocol = await served(Refilling, wire := Pieces())
    protocol.dataReceived(b"a\nb\n")
    assert len(handler.called) >= 2
    assert wire.value() == b"a b "
    end(protocol)


async def test_what_a_full_transport_does_not_take_waits_in_the_queue() -> None:
    class Large(Lines):
        def do_large(self) -> None:
            self.push(bytes(40000))

    handler, protocol = await served(Large, wire := Pieces(full_after=1))
    protocol.dataReceived(b"large\nlarge\nlarge\na\n")
    assert ([len(each) for each in wire.pieces], len(handler.producer_fifo)) == ([80000], 2)
    wire.empty()
    await until(lambda: wire.value().endswith(b"a "))
    assert (len(wire.value()), list(handler.producer_fifo)) == (120002, [])
    end(protocol)


async def test_a_connection_that_is_lost_while_a_chunk_is_handled_closes_the_handler() -> None:
    class Losing(Lines):
        def do_lose(self) -> None:
            end(protocol)

    handler, protocol = await served(Losing, wire := Pieces())
    protocol.dataReceived(b"a\nlose\nb\n")
    await turns(3)
    assert (wire.pieces, handler.connected) == ([], False)


async def test_another_thread_may_push_while_a_chunk_is_handled() -> None:
    from twisted.internet import reactor

    class Threaded(Lines):
        def do_thread(self) -> None:
            thread = threading.Thread(target=self.push, args=(b"thread ",))
            thread.start()
            thread.join()

    _, protocol = await served(Threaded, wire := Pieces())
    wire.reactor = reactor
    protocol.dataReceived(b"a\nthread\nb\n")
    assert wire.pieces == [b"a b "]
    await until(lambda: wire.value() == b"a b thread ")
    end(protocol)


async def test_what_is_queued_on_another_handler_behind_its_back_is_sent_at_once() -> None:
    class Telling(Lines):
        def do_tell(self) -> None:
            other.producer_fifo.append(b"told")

    _, protocol = await served(Telling, Pieces())
    other, others_protocol = await served(Lines, wire := Pieces())
    protocol.dataReceived(b"tell\n")
    await turns(2)
    assert wire.pieces == [b"told"]
    end(protocol)
    end(others_protocol)


async def test_a_handler_that_is_being_made_is_asked_nothing_while_another_is_served() -> None:
    class Slow(Lines):
        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock, addr)
            protocol.dataReceived(b"a\n")
            self.is_made = True

        def readable(self) -> bool:
            return self.is_made

    _, protocol = await served(Lines, wire := Pieces())
    _, slow_protocol = await served(Slow, slow_wire := Pieces())
    assert wire.pieces == [b"a "]
    slow_protocol.dataReceived(b"b\n")
    assert slow_wire.pieces == [b"b "]
    end(protocol)
    end(slow_protocol)


# -- Handlers that fail --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handler_that_fails_in_its_constructor_costs_that_connection_only(
    kind: str, listen: Listen, logged_failures: Callable[[], list[str]]
) -> None:
    class Failing(Counted):
        def __init__(self, sock: Any, addr: Any) -> None:
            if not failed:
                failed.append(addr)
                raise ZeroDivisionError("not today")
            super().__init__(sock, addr)

    failed: list[Any] = []
    async with listen(kind, LegacyFactory(Failing)) as listening:
        assert await deferToThread(listening.is_turned_away)
        assert await deferToThread(listening.exchange, echo(b"hello")) == b"hello"
        await until(lambda: not asyncore.socket_map)
    (logged,) = logged_failures()
    assert "ZeroDivisionError: not today" in logged
    assert str(failed[0]) in logged


async def test_a_handler_that_fails_when_it_is_half_made_is_closed_too(
    listen: Listen, logged_failures: Callable[[], list[str]]
) -> None:
    class Failing(Counted):
        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock, addr)
            raise ZeroDivisionError("not today")

    async with listen("tcp", LegacyFactory(Failing)) as listening:
        assert await deferToThread(listening.is_turned_away)
        await until(lambda: not asyncore.socket_map)
    (logged,) = logged_failures()
    assert "ZeroDivisionError: not today" in logged


async def test_a_handler_that_fails_later_costs_that_connection_only(
    listen: Listen, capsys: pytest.CaptureFixture[str]
) -> None:
    async with listen("tls", LegacyFactory(Counted)) as listening:
        assert await deferToThread(listening.exchange, b"ECHO five\n") == b""
        assert await deferToThread(listening.exchange, echo(b"hello")) == b"hello"
        await until(lambda: not asyncore.socket_map)
    printed = capsys.readouterr().out
    assert printed.startswith("error: uncaptured python exception, closing channel")
    assert "ValueError" in printed


async def test_a_handler_is_asked_nothing_before_it_is_made(listen: Listen) -> None:
    class Slow(Counted):
        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock, addr)
            self.is_made = True

        def readable(self) -> bool:
            return self.is_made

        def writable(self) -> bool:
            return self.is_made and super().writable()

    async with listen("tcp", LegacyFactory(Slow)) as listening:
        assert await deferToThread(listening.exchange, echo(b"hello")) == b"hello"
        await until(lambda: not asyncore.socket_map)


async def test_a_connection_can_be_refused(listen: Listen) -> None:
    def build(sock: Any, addr: Any) -> Counted | None:
        if refused:
            return Counted(sock, addr)
        refused.append(addr)
        sock.close()
        return None

    refused: list[Any] = []
    async with listen("tcp", LegacyFactory(build)) as listening:
        assert await deferToThread(listening.is_turned_away)
        assert await deferToThread(listening.exchange, echo(b"hello")) == b"hello"
        await until(lambda: not asyncore.socket_map)


# -- Servers -------------------------------------------------------------------------


SERVERS = [Server, OldServer, GreedyServer, ServerWithoutSocket]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("server", SERVERS)
async def test_an_unmodified_server_is_served_on_an_endpoint(
    server: type[asyncore.dispatcher], kind: str, listen: Listen
) -> None:
    factory = LegacyFactory.for_server(server())
    async with listen(kind, factory) as listening:
        for _ in range(3):
            assert await deferToThread(listening.exchange, echo(b"hello")) == b"hello"
        await until(lambda: len(asyncore.socket_map) == 1)
    factory.server.close()


async def test_a_server_on_two_endpoints_hears_of_both(listen: Listen) -> None:
    factory = LegacyFactory.for_server(Server())
    async with listen("unix", factory) as one, listen("tls", factory) as other:
        assert await deferToThread(one.exchange, echo(b"hello")) == b"hello"
        assert await deferToThread(other.exchange, echo(b"hello")) == b"hello"
    factory.server.close()


async def test_a_server_no_longer_listens_where_it_did_by_itself() -> None:
    server = Server()
    assert server.socket is not None
    port = server.socket.getsockname()[1]
    LegacyFactory.for_server(server)
    with pytest.raises(ConnectionRefusedError):
        await deferToThread(socket.create_connection, ("127.0.0.1", port), 10)
    assert server.socket.getsockname() == ("127.0.0.1", port)
    server.close()


async def test_many_that_come_at_once_are_all_accepted() -> None:
    factory = LegacyFactory.for_server(OldServer())
    made = [in_memory(factory) for _ in range(20)]
    for _, protocol in made:
        protocol.dataReceived(echo(b"hello"))
    await until(lambda: all(wire.disconnecting for wire, _ in made))
    assert {wire.value() for wire, _ in made} == {b"hello"}
    for _, protocol in made:
        protocol.connectionLost(Failure(ConnectionDone()))
    factory.server.close()


async def test_a_server_that_fails_goes_on_with_the_next(
    listen: Listen, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(Server):
        def handle_accepted(self, sock: Any, addr: Any) -> None:
            if not failed:
                failed.append(sock)
                sock.close()
                raise ZeroDivisionError("not today")
            super().handle_accepted(sock, addr)

    failed: list[TransportSocket] = []
    factory = LegacyFactory.for_server(Failing())
    async with listen("tcp", factory) as listening:
        assert await deferToThread(listening.is_turned_away)
        assert await deferToThread(listening.exchange, echo(b"hello")) == b"hello"
    factory.server.close()
    assert "not today" in capsys.readouterr().out


async def test_what_comes_after_a_server_has_closed_is_refused(listen: Listen) -> None:
    factory = LegacyFactory.for_server(Server())
    async with listen("tcp", factory) as listening:
        factory.server.close()
        assert await deferToThread(listening.is_turned_away)


# -- Without a reactor that runs -----------------------------------------------------


LOOPS_ITSELF = """
import socket, sys, threading
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from txasynchat import asynchat, asyncore
from txasynchat.legacy.serving import LegacyFactory

class Upper(asynchat.async_chat):
    def __init__(self, sock, addr):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)
    def found_terminator(self):
        self.push(self._get_data().upper())
        self.close_when_done()
    def handle_close(self):
        self.close()
        server.close()

class Server(asyncore.dispatcher):
    def handle_accepted(self, sock, addr):
        Upper(sock, addr)

def ask(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"hello\\n")
        answer.append(client.recv(100))

answer = []
server = Server()
listening = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
opened = []
listening.listen(LegacyFactory.for_server(server)).addCallback(opened.append)
client = threading.Thread(target=ask, args=(opened[0].getHost().port,))
client.start()
asyncore.loop()
reactor.iterate(0)
client.join()
print(answer)
"""


@pytest.mark.parametrize("reactor", ["default", "select", "poll", "asyncio"])
def test_a_program_that_loops_by_itself_is_served_too(reactor: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(LOOPS_ITSELF)
    install = f"from twisted.application.reactors import installReactor as i; i({reactor!r})"
    run = f"import runpy; runpy.run_path({str(program)!r})"
    result = subprocess.run(
        [sys.executable, "-c", f"{install}; {run}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.stdout, result.stderr) == ("[b'HELLO']\n", "")
