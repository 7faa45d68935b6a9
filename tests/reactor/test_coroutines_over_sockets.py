"""Coroutines on both ends of real connections, and clients that know nothing of them."""

from __future__ import annotations

import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import until
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import clientFromString, serverFromString, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.threads import deferToThread

from txasynchat import AsyncChat, AsyncChatFactory, IncompleteRead, connect


class Shop(AsyncChat):
    """Commands by coroutine: "PUT n" and n bytes, "GET", "BIG n", "QUIT"."""

    kept = b""

    async def conversation(self) -> None:
        self.push(b"ready\r\n")
        async for line in self.messages(b"\r\n"):
            command, _, argument = line.partition(b" ")
            if command == b"PUT":
                self.kept = await self.read_exactly(int(argument))
            elif command == b"GET":
                self.push(b"%d\r\n" % len(self.kept) + self.kept)
            elif command == b"BIG":
                self.push_with_producer(b"x" * 1000 for _ in range(int(argument)))
                await self.drained()
                self.push(b"\r\n")
            elif command == b"QUIT":
                return


class Listening:
    """A shop on an endpoint."""

    def __init__(self, endpoint: str = "tcp:0:interface=127.0.0.1") -> None:
        self.factory = AsyncChatFactory(Shop)
        self.factory.noisy = False
        self._endpoint = endpoint

    async def __aenter__(self) -> str:
        from twisted.internet import reactor

        self.port: Any = await serverFromString(reactor, self._endpoint).listen(self.factory)
        at = self.port.getHost()
        self.number: int = getattr(at, "port", 0)
        return f"tcp:127.0.0.1:{at.port}" if self.number else f"unix:{at.name.decode()}"

    async def __aexit__(self, *_: object) -> None:
        await self.port.stopListening()
        await until(lambda: not self.factory.connections)


async def shop(chat: AsyncChat, goods: bytes) -> bytes:
    assert await chat.read_until(b"\r\n") == b"ready"
    chat.push(b"PUT %d\r\n" % len(goods) + goods + b"GET\r\n")
    return await chat.read_exactly(int(await chat.read_until(b"\r\n")))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_client_and_a_server_converse(kind: str, tmp_path: Path) -> None:
    goods = bytes(range(256)) * 1000
    listening = Listening("tcp:0:interface=127.0.0.1" if kind == "tcp" else f"unix:{tmp_path}/s")
    async with listening as address, connect(address) as chat:
        assert await shop(chat, goods) == goods


async def test_a_client_and_a_server_converse_over_tls(
    tmp_path: Path, authority: trustme.CA
) -> None:
    from twisted.internet import reactor

    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    root = Certificate.loadPEM(authority.cert_pem.bytes())
    listening = Listening(f"ssl:0:interface=127.0.0.1:privateKey={pem}")
    async with listening as address:
        options = optionsForClientTLS("localhost", trustRootFromCertificates([root]))
        endpoint = wrapClientTLS(options, clientFromString(reactor, address))
        async with connect(endpoint) as chat:
            goods = b"secret\r\n" * 30_000
            assert await shop(chat, goods) == goods
            chat.push(b"PUT 3\r\nabcGET\r\nQUIT\r\n")
            assert await chat.read_until(b"\r\n") == b"3"
            await chat.closed()
            # What came with the end of the connection is still there.
            assert await chat.read_exactly(3) == b"abc"
            assert await chat.read() == b""


async def test_many_clients_at_once_are_not_mixed_up() -> None:
    async def one(address: str, number: int) -> None:
        async with connect(address) as chat:
            goods = b"%d," % number * (number * 100)
            assert await shop(chat, goods) == goods

    async with Listening() as address:
        await gatherResults([Deferred.fromCoroutine(one(address, n)) for n in range(30)])


async def test_a_socket_client_may_send_it_all_at_once_or_byte_by_byte() -> None:
    def talk(port: int, step: int) -> bytes:
        request = b"PUT 5\r\nhe\r\noGET\r\nQUIT\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(request), step):
                client.sendall(request[start : start + step])
            return b"".join(iter(lambda: client.recv(65536), b""))

    listening = Listening()
    async with listening:
        for step in (1, 3, 100):
            answer = await deferToThread(talk, listening.number, step)
            assert answer == b"ready\r\n5\r\nhe\r\no"


async def test_a_large_answer_is_read_in_pieces() -> None:
    async with Listening() as address, connect(address) as chat:
        await chat.read_until(b"\r\n")
        chat.push(b"BIG 5000\r\nQUIT\r\n")
        size = 0
        while data := await chat.read():
            size += len(data)
        assert size == 5_000_002


@inlineCallbacks
def test_inline_callbacks_read_as_well() -> Generator[Deferred[Any], Any, None]:
    from twisted.internet import reactor
    from twisted.internet.endpoints import connectProtocol

    listening = Listening()
    address = yield Deferred.fromCoroutine(listening.__aenter__())
    chat = yield connectProtocol(clientFromString(reactor, address), AsyncChat())
    greeting = yield chat.read_until(b"\r\n")
    chat.push(b"QUIT\r\n")
    rest = yield chat.read()
    yield chat.closed()
    yield Deferred.fromCoroutine(listening.__aexit__())
    assert (greeting, rest) == (b"ready", b"")


async def test_a_read_that_timed_out_leaves_the_stream_usable() -> None:
    from twisted.internet import reactor

    async with Listening() as address, connect(address) as chat:
        with pytest.raises(defer.TimeoutError):
            await chat.read_until(b"never").addTimeout(0.05, reactor)
        assert await chat.read_until(b"\r\n") == b"ready"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_client_still_sends_to_a_server_that_has_finished_sending(
    kind: str, tmp_path: Path
) -> None:
    size = 5_000_000

    def serve(listening: socket.socket) -> int:
        with listening, listening.accept()[0] as server:
            server.sendall(b"that is all\n")
            server.shutdown(socket.SHUT_WR)
            return sum(map(len, iter(lambda: server.recv(65536), b"")))

    if kind == "tcp":
        listening = socket.create_server(("127.0.0.1", 0))
        address = f"tcp:127.0.0.1:{listening.getsockname()[1]}"
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        address = f"unix:{tmp_path}/s"
    listening.settimeout(10)
    received = deferToThread(serve, listening)
    async with connect(address) as chat:
        assert await chat.read_until(b"\n") == b"that is all"
        with pytest.raises(IncompleteRead):
            await chat.read_exactly(1)
        assert chat.is_open
        chat.push(b"x" * size)
    assert await received == size


async def test_the_peers_end_ends_the_read_of_a_client() -> None:
    async with Listening() as address, connect(address) as chat:
        await chat.read_until(b"\r\n")
        chat.push(b"QUIT\r\n")
        with pytest.raises(IncompleteRead):
            await chat.read_until(b"\r\n")


async def test_the_connection_is_gone_when_the_block_is_left() -> None:
    async with Listening() as address:
        async with connect(address) as chat:
            chat.push(b"PUT 3\r\nabc")
        assert chat.close_reason == "handler"
        with pytest.raises(KeyError):
            async with connect(address) as chat:
                raise KeyError("a mistake of the block")
        assert not chat.is_open and not chat.connected


async def test_a_handler_of_its_own_is_made_for_each_block() -> None:
    class Line(AsyncChat):
        def handle_connect(self) -> None:
            self.set_terminator(b"\r\n")
            self.lines: list[bytes] = []

        def collect_incoming_data(self, data: bytes) -> None:
            self._collect_incoming_data(data)

        def found_terminator(self) -> None:
            self.lines.append(self._get_data())

    async with Listening() as address, connect(address, Line) as chat:
        await until(lambda: chat.lines)
        assert chat.lines == [b"ready"]


async def test_nobody_listening_is_an_error_of_connecting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectError):
            async with connect(f"tcp:127.0.0.1:{taken.getsockname()[1]}"):
                pass


async def test_a_cancelled_coroutine_cuts_its_connection() -> None:
    chats: list[AsyncChat] = []

    async def waits(address: str) -> None:
        async with connect(address) as chat:
            await chat.read_until(b"\r\n")
            chats.append(chat)
            await chat.read_until(b"never")

    async with Listening() as address:
        waiting = Deferred.fromCoroutine(waits(address))
        await until(lambda: chats)
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
        assert not chats[0].connected


def test_connect_says_what_it_needs() -> None:
    with pytest.raises(TypeError, match="a client endpoint or its description"):
        connect(5)
    with pytest.raises(TypeError, match="what makes a handler"):
        connect("tcp:localhost:1", AsyncChat())  # type: ignore[call-overload]
    with pytest.raises(ValueError):
        connect("nonsense:localhost:1")
