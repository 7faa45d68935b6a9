"""AsyncChat over real sockets, seen by clients that know nothing of Twisted."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from support import Chat, Link, SocketLink, turns, until
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from txasynchat import AsyncChatFactory
from txasynchat.echo import EchoHandler

Links = Callable[..., Link]


class Listening:
    """A factory that listens on a port of the system's choice."""

    def __init__(self, factory: Any) -> None:
        factory.noisy = False
        self.factory = factory

    async def __aenter__(self) -> int:
        from twisted.internet import reactor

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.port = await endpoint.listen(self.factory)
        number: int = self.port.getHost().port
        return number

    async def __aexit__(self, *_: object) -> None:
        await self.port.stopListening()


class LiveChat(Chat):
    """A recording chat on the reactor's clock."""

    def __init__(self, *args: Any, **does: Any) -> None:
        super().__init__(*args, **does)
        del self.callLater


def exchange(port: int, request: bytes, *, finish: bool = False) -> bytes:
    """Send, with `finish` say that this was all, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        if finish:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


async def test_a_socket_client_gets_its_echo() -> None:
    body = bytes(range(256)) * 4000
    async with Listening(Factory.forProtocol(EchoHandler)) as port:
        request = b"ECHO %d\n" % len(body) + body
        assert await deferToThread(exchange, port, request) == body


async def test_nc_gets_its_echo() -> None:
    nc = shutil.which("nc")
    if nc is None:
        pytest.skip("needs nc (netcat-openbsd)")
    async with Listening(Factory.forProtocol(EchoHandler)) as port:
        result = await deferToThread(
            subprocess.run,
            [nc, "-q1", "127.0.0.1", str(port)],
            input=b"ECHO 5\nhello",
            capture_output=True,
            timeout=10,
        )
    assert result.stdout == b"hello"


async def test_openssl_gets_its_echo(link: Links, authority: trustme.CA) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    between = link("tls", EchoHandler())
    assert isinstance(between, SocketLink)
    await between.open()
    between.chat = other = EchoHandler()
    address = f"127.0.0.1:{between.port.getHost().port}"
    result = await deferToThread(
        subprocess.run,
        [openssl, "s_client", "-quiet", "-connect", address],
        input=b"ECHO 5\nhello",
        capture_output=True,
        timeout=10,
    )
    assert result.stdout == b"hello"
    assert await other.closed() == "handler"


async def test_a_client_that_has_finished_sending_is_answered_first() -> None:
    class Slow(LiveChat):
        async def found_terminator(self) -> None:
            super().found_terminator()
            await turns(3)
            self.push(self.messages[-1].upper())

    async with Listening(Factory.forProtocol(Slow)) as port:
        answer = await deferToThread(exchange, port, b"one\ntwo\nthree\n", finish=True)
    assert answer == b"ONETWOTHREE"


async def test_a_reset_ends_the_connection_in_the_middle_of_a_message() -> None:
    def reset(port: int) -> None:
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.sendall(b"half a mess")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    chat = LiveChat()
    async with Listening(Factory.forProtocol(lambda: chat)) as port:
        await deferToThread(reset, port)
        assert await chat.closed() == "peer"
    assert chat.events.count(("close",)) == 1


async def test_a_gigabyte_without_a_terminator_costs_one_log_line_and_no_memory(
    logged_failures: Any,
) -> None:
    def flood(port: int) -> int:
        sent = 0
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            try:
                while sent < 1 << 30:
                    sent += client.send(b"x" * 65536)
            except ConnectionError:
                return sent
        return sent

    chat = LiveChat()
    async with Listening(Factory.forProtocol(lambda: chat)) as port:
        sent = await deferToThread(flood, port)
        assert await chat.closed() == "limit"
    assert sent < 100_000_000
    assert chat.events == [("connect",), ("data", b"x" * 65536), ("too long",), ("close",)]
    (logged,) = logged_failures()
    assert "65536 bytes" in logged
    assert "max_message_length" in logged


async def test_an_error_in_one_connection_touches_no_other(logged_failures: Any) -> None:
    def fail_on_bad(chat: Chat) -> None:
        if chat.messages[-1] == b"bad":
            raise ZeroDivisionError
        chat.push(b"ok\n")

    factory = AsyncChatFactory(LiveChat, found=fail_on_bad)
    async with Listening(factory) as port:
        good = LiveChat()
        from twisted.internet import reactor

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        await connectProtocol(endpoint, good)
        good.push(b"one\n")
        assert await deferToThread(exchange, port, b"bad\n") == b""
        good.push(b"two\n")
        await until(lambda: len(good.messages) == 2)
        assert await deferToThread(exchange, port, b"three\n", finish=True) == b"ok\n"
        good.close()
        await good.closed()
        await until(lambda: not factory.connections)
    assert len(logged_failures()) == 1


async def test_a_client_is_a_chat_too() -> None:
    from twisted.internet import reactor

    async with Listening(Factory.forProtocol(EchoHandler)) as port:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        client = LiveChat(None)
        await connectProtocol(endpoint, client)
        client.push(b"ECHO 100000\n")
        client.push_with_producer([b"x" * 10_000] * 10)
        assert await client.closed() == "peer"
    assert client.events == [("connect",), ("data", b"x" * 100_000), ("close",)]


@pytest.mark.parametrize("transport", ["tcp", "unix", "tls"])
async def test_a_peer_that_is_still_sending_gets_the_whole_answer_and_an_orderly_end(
    transport: str, link: Links
) -> None:
    chat = LiveChat(found=lambda chat: (chat.push(b"x" * 200_000), chat.close_when_done()))
    between = link(transport, chat)
    await between.open()
    between.send(b"line\n" + b"more" * 2_500_000)
    await until(lambda: between.ended)
    assert len(between.received) == 200_000
    assert isinstance(between, SocketLink)
    assert between.peer.reason.check(ConnectionDone)
    assert await chat.closed() == "handler"
    assert chat.messages == [b"line"]


async def test_a_peer_that_never_stops_sending_is_cut_after_close_timeout(link: Links) -> None:
    chat = LiveChat(found=lambda chat: chat.close_when_done())
    chat.close_timeout = 0.2
    between = link("tcp", chat)
    await between.open()
    between.pause()
    between.send(b"line\n" + b"more" * 2_500_000)
    assert await chat.closed() == "handler"
    assert "cut after 0.2 s" in chat.close_detail


# -- TLS: a pause must not hold up the handshake ----------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_large_push_on_connect_is_delivered(transport: str, link: Links) -> None:
    chat = LiveChat(connect=lambda chat: chat.push(b"x" * 1_000_000))
    between = link(transport, chat)
    await between.open()
    await until(lambda: len(between.received) == 1_000_000)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_pause_on_connect_does_not_hold_up_output(transport: str, link: Links) -> None:
    def push_and_pause(chat: Chat) -> None:
        chat.push(b"hi")
        chat.pauseProducing()

    chat = LiveChat(connect=push_and_pause)
    between = link(transport, chat)
    await between.open()
    await until(lambda: between.received == b"hi")
    between.send(b"message\n")
    await turns(50)
    assert chat.messages == []
    chat.resumeProducing()
    await until(lambda: chat.messages == [b"message"])


async def test_waiting_for_output_on_connect_over_tls_ends(link: Links) -> None:
    drained: list[bool] = []

    class Greets(LiveChat):
        async def handle_connect(self) -> None:
            self.push(b"x" * 200_000)
            await self.drained()
            drained.append(True)

    between = link("tls", Greets())
    await between.open()
    await until(lambda: len(between.received) == 200_000)
    await until(lambda: drained)


async def test_a_handler_that_closes_its_transport_itself_is_closed_over_tls(
    link: Links,
) -> None:
    chat = LiveChat(found=lambda chat: chat.transport.loseConnection())
    between = link("tls", chat)
    await between.open()
    between.send(b"QUIT\n")
    assert await chat.closed() == "handler"


async def test_an_idle_chat_over_tls_uses_no_processor_time(link: Links) -> None:
    import time

    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    chat = LiveChat()
    between = link("tls", chat)
    await between.open()
    waiting: Deferred[bytes] = Deferred()

    class Never:
        def more(self) -> Deferred[bytes]:
            return waiting

    chat.push_with_producer(Never())
    await turns(20)
    used = time.process_time()
    await deferLater(reactor, 0.5)
    assert time.process_time() - used < 0.1


async def test_body_producers_of_every_size_finish_over_tcp(link: Links) -> None:
    from io import BytesIO

    from twisted.web.client import FileBodyProducer

    chat = LiveChat()
    between = link("tcp", chat)
    await between.open()
    sizes = [1, 65535, 65536, 65537, 300_000]
    for size in sizes:
        chat.push_with_producer(FileBodyProducer(BytesIO(b"x" * size)))
        chat.push(b"|")
    await until(lambda: len(between.received) == sum(sizes) + len(sizes))
    assert [len(part) for part in between.received.split(b"|")[:-1]] == sizes


async def test_ssl_clients_of_the_standard_library_are_served(
    link: Links, authority: trustme.CA
) -> None:
    between = link("tls", EchoHandler())
    assert isinstance(between, SocketLink)
    await between.open()
    between.chat = other = EchoHandler()
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def client(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(b"ECHO 100000\n" + b"x" * 100_000)
            return b"".join(iter(lambda: secure.recv(65536), b""))

    assert await deferToThread(client, between.port.getHost().port) == b"x" * 100_000
    await other.closed()
