"""start_tls() over real sockets, against clients that know nothing of Twisted, and from one."""

from __future__ import annotations

import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme
from support import turns, until
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.internet.threads import deferToThread

from txasynchat import AsyncChat, ChatClosed

EVIL = b"STARTTLS\r\nEVIL\r\n"


class Mail(AsyncChat):
    """As much of a mail server as STARTTLS needs."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.collected = b""
        self.commands: list[bytes] = []
        self.secured: list[Any] = []

    def handle_connect(self) -> None:
        self.set_terminator(b"\r\n")
        self.push(b"220 ready\r\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self.collected += data
        self._collect_incoming_data(data)

    def found_terminator(self) -> Any:
        command = self._get_data()
        self.commands.append(command)
        word = command[:4].upper()
        if word == b"EHLO":
            self.push(b"250-me\r\n250 STARTTLS\r\n")
        elif word == b"STAR":
            self.push(b"220 go ahead\r\n")
            self.start()
        elif word == b"QUIT":
            self.push(b"221 bye\r\n")
            self.close_when_done()
        else:
            self.push(b"250 " + command + b"\r\n")

    def start(self) -> None:
        done = self.start_tls(self.options)
        done.addCallbacks(self.secured.append, lambda failure: self.secured.append(failure.value))


@pytest.fixture(scope="module")
def options(authority: trustme.CA) -> Any:
    made = authority.issue_cert("127.0.0.1", "localhost")
    return PrivateCertificate.loadPEM(made.private_key_and_cert_chain_pem.bytes()).options()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Serving:
    """A mail server, on a port of the system's choice, and its connections."""

    def __init__(self, build: Callable[[], AsyncChat]) -> None:
        self.chats: list[Any] = []

        def made() -> AsyncChat:
            self.chats.append(build())
            chat: AsyncChat = self.chats[-1]
            return chat

        self.factory = Factory.forProtocol(made)
        self.factory.noisy = False

    async def open(self) -> None:
        from twisted.internet import reactor

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.listening = await endpoint.listen(self.factory)
        self.port: int = self.listening.getHost().port

    async def end(self) -> None:
        for chat in self.chats:
            if chat.close_reason is None:
                chat.close()
            await chat.closed()
        await self.listening.stopListening()


@asynccontextmanager
async def served(build: Callable[[], AsyncChat]) -> AsyncIterator[Serving]:
    """A server, until the end of the block."""
    serving = Serving(build)
    await serving.open()
    try:
        yield serving
    finally:
        await serving.end()


# -- Nothing of before gets behind the handshake --------------------------------------------------


@pytest.mark.parametrize("split", range(len(EVIL)))
async def test_plaintext_behind_the_command_is_never_delivered(
    split: int, options: Any, logged_failures: Any
) -> None:
    async with served(lambda: Mail(options)) as serving:
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await until(lambda: serving.chats)
            (chat,) = serving.chats
            client.sendall(EVIL[:split])
            await until(lambda: chat.traffic()["bytes_in"] == split)
            with suppress(ConnectionError):  # it may be cut already
                client.sendall(EVIL[split:])
            await chat.closed()
    assert chat.commands == [b"STARTTLS"]
    assert b"EVIL" not in chat.collected
    assert isinstance(chat.secured[0], ChatClosed)
    if split == 10:  # then it was no plaintext any more, and no TLS either
        assert chat.close_reason == "peer"
    else:
        assert (chat.close_reason, len(logged_failures())) == ("error", 1)


async def test_plaintext_sent_with_the_first_word_of_tls_is_never_delivered(
    options: Any, trusting: ssl.SSLContext, logged_failures: Any
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        secure.do_handshake()
    async with served(lambda: Mail(options)) as serving:
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as client:
            client.sendall(EVIL + outgoing.read())
            await until(lambda: serving.chats)
            await serving.chats[0].closed()
    assert serving.chats[0].commands == [b"STARTTLS"]
    assert len(logged_failures()) == 1


# -- Good clients get through ---------------------------------------------------------------------


async def test_smtplib_gets_through(options: Any, trusting: ssl.SSLContext) -> None:
    def converse(port: int) -> list[Any]:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            return [
                client.ehlo()[0],
                client.starttls(context=trusting)[0],
                client.ehlo()[0],
                client.docmd("NOOP", "x" * 5_000)[0],
            ]

    async with served(lambda: Mail(options)) as serving:
        assert await deferToThread(converse, serving.port) == [250, 220, 250, 250]
        (chat,) = serving.chats
        assert await chat.closed() == "handler"
    assert chat.secured == [None]


async def test_openssl_gets_through(options: Any) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    async with served(lambda: Mail(options)) as serving:
        result = await deferToThread(
            subprocess.run,
            f"{openssl} s_client -quiet -starttls smtp -crlf "
            f"-connect 127.0.0.1:{serving.port}".split(),
            input=b"NOOP\nquit\n",
            capture_output=True,
            timeout=20,
        )
        assert b"250 NOOP" in result.stdout
        assert b"221 bye" in result.stdout
        assert await serving.chats[0].closed() == "handler"


class Client(AsyncChat):
    """The other side of :class:`Mail`."""

    max_message_length = None

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.secured: list[Any] = []
        self.set_terminator(b"\r\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.lines.append(self._get_data())

    def start(self, options: Any) -> None:
        done = self.start_tls(options)
        done.addCallbacks(self.secured.append, lambda failure: self.secured.append(failure.value))


async def connect(port: int) -> Client:
    from twisted.internet import reactor

    client = Client()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
    await until(lambda: client.lines == [b"220 ready"])
    return client


def client_options(authority: trustme.CA) -> Any:
    return optionsForClientTLS("127.0.0.1", Certificate.loadPEM(authority.cert_pem.bytes()))


async def test_a_chat_is_a_client_too(options: Any, authority: trustme.CA) -> None:
    async with served(lambda: Mail(options)) as serving:
        client = await connect(serving.port)
        client.push(b"STARTTLS\r\n")
        await until(lambda: client.lines[-1] == b"220 go ahead")
        client.start(client_options(authority))
        client.push(b"one\r\n")
        client.push_with_producer([b"tw", b"o" * 100_000, b"\r\n"])
        client.push(b"QUIT\r\n")
        serving.chats[0].max_message_length = None
        assert await client.closed() == "peer"
        (chat,) = serving.chats
    assert chat.commands == [b"STARTTLS", b"one", b"tw" + b"o" * 100_000, b"QUIT"]
    assert client.lines[2:] == [b"250 one", b"250 tw" + b"o" * 100_000, b"221 bye"]
    assert (chat.secured, client.secured) == ([None], [None])


async def test_a_server_sends_what_was_queued_before_plain_and_the_rest_encrypted(
    options: Any, trusting: ssl.SSLContext
) -> None:
    class Generous(Mail):
        def start(self) -> None:
            self.push_with_producer([b"x" * 100_000] * 20)
            self.push(b"|")
            super().start()
            self.push(b"y" * 1_000_000)
            self.push_with_producer([b"z" * 100_000] * 10)
            self.close_when_done()

    def client(port: int) -> tuple[bytes, bytes]:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"STARTTLS\r\n")
            before = b""
            while not before.endswith(b"|"):
                before += plain.recv(65536)
            with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                return before, b"".join(iter(lambda: secure.recv(65536), b""))

    async with served(lambda: Generous(options)) as serving:
        plain, encrypted = await deferToThread(client, serving.port)
        assert await serving.chats[0].closed() == "handler"
    assert plain == b"220 ready\r\n220 go ahead\r\n" + b"x" * 2_000_000 + b"|"
    assert encrypted == b"y" * 1_000_000 + b"z" * 1_000_000


async def test_a_client_that_says_hello_behind_a_header_is_carried_over(
    options: Any, trusting: ssl.SSLContext
) -> None:
    class Headed(Mail):
        def found_terminator(self) -> Any:
            if not self.commands:
                self.commands.append(self._get_data())
                return self.start_tls(self.options, carry_over=True)
            return super().found_terminator()

    def client(port: int) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            while plain.recv(1) != b"\n":
                pass
            sent = b"HEADER\r\n"
            while True:
                try:
                    secure.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(sent + outgoing.read())
                    sent = b""
                    incoming.write(plain.recv(65536))
            secure.write(b"NOOP\r\n")
            plain.sendall(outgoing.read())
            while True:
                incoming.write(plain.recv(65536))
                try:
                    return secure.read()
                except ssl.SSLWantReadError:
                    pass

    async with served(lambda: Headed(options)) as serving:
        assert await deferToThread(client, serving.port) == b"250 NOOP\r\n"
        await serving.chats[0].closed()
    assert serving.chats[0].commands == [b"HEADER", b"NOOP"]


# -- How it ends ----------------------------------------------------------------------------------


async def test_a_client_that_does_not_trust_the_server_ends_both_sides(
    options: Any,
) -> None:
    async with served(lambda: Mail(options)) as serving:
        client = await connect(serving.port)
        client.push(b"STARTTLS\r\n")
        await until(lambda: client.lines[-1] == b"220 go ahead")
        client.start(client_options(trustme.CA()))
        client.push(b"secret\r\n")
        assert await client.closed() == "peer"
        (chat,) = serving.chats
        assert await chat.closed() == "peer"
    assert "certificate verify failed" in client.close_detail
    assert isinstance(client.secured[0], ChatClosed)
    assert isinstance(chat.secured[0], ChatClosed)
    assert chat.commands == [b"STARTTLS"]


async def shaking(serving: Serving) -> tuple[Any, socket.socket]:
    """A connection whose client never begins the handshake."""
    client = socket.create_connection(("127.0.0.1", serving.port), timeout=10)
    client.sendall(b"STARTTLS\r\n")
    await until(lambda: serving.chats and serving.chats[0].commands)
    await turns(3)
    return serving.chats[0], client


@pytest.mark.parametrize("how", ["close", "close_when_done"])
async def test_a_close_during_the_handshake_ends_the_connection(how: str, options: Any) -> None:
    async with served(lambda: Mail(options)) as serving:
        chat, client = await shaking(serving)
        with client:
            getattr(chat, how)()
            assert await chat.closed() == "handler"
    assert isinstance(chat.secured[0], ChatClosed)


async def test_the_end_of_the_service_waits_for_a_handshake(
    options: Any, trusting: ssl.SSLContext
) -> None:
    async with served(lambda: Mail(options)) as serving:
        chat, client = await shaking(serving)
        chat.begin_drain()

        def go_on() -> bytes:
            while not client.recv(65536).endswith(b"220 go ahead\r\n"):
                pass
            with trusting.wrap_socket(client, server_hostname="127.0.0.1") as secure:
                return secure.recv(100)

        assert await deferToThread(go_on) == b""
        assert await chat.closed() == "drain"
    assert chat.secured == [None]


async def test_a_pause_holds_up_no_handshake(options: Any, trusting: ssl.SSLContext) -> None:
    class Paused(Mail):
        def start(self) -> None:
            super().start()
            self.pauseProducing()

    def client(port: int) -> bytes:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.starttls(context=trusting)
            return client.docmd("NOOP")[1]

    async with served(lambda: Paused(options)) as serving:
        got: Deferred[bytes] = deferToThread(client, serving.port)
        await until(lambda: serving.chats and serving.chats[0].secured)
        await turns(20)
        assert serving.chats[0].commands == [b"ehlo [127.0.0.1]", b"STARTTLS"] or (
            serving.chats[0].commands[-1] == b"STARTTLS"
        )
        serving.chats[0].resumeProducing()
        assert await got == b"NOOP"


@pytest.mark.parametrize("fails", [True, False])
async def test_an_answer_is_sent_although_the_connection_ends_before_any_handshake(
    fails: bool, options: Any, logged_failures: Any
) -> None:
    class Brief(Mail):
        def start(self) -> None:
            super().start()
            if fails:
                raise ValueError("no more")
            self.close_when_done()

    def client(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"STARTTLS\r\n")
            return b"".join(iter(lambda: client.recv(65536), b""))

    async with served(lambda: Brief(options)) as serving:
        received = await deferToThread(client, serving.port)
        assert received == b"220 ready\r\n220 go ahead\r\n"
        assert await serving.chats[0].closed() == ("error" if fails else "handler")
    assert len(logged_failures()) == fails


async def test_what_a_handler_pushed_before_it_closes_its_tls_transport_itself_is_sent(
    options: Any, trusting: ssl.SSLContext
) -> None:
    class Rude(Mail):
        def found_terminator(self) -> Any:
            super().found_terminator()
            if self.secured:
                transport: Any = self.transport
                transport.loseConnection()

    def client(port: int) -> bytes:
        client = smtplib.SMTP("127.0.0.1", port, timeout=10)
        client.docmd("EHLO", "me")
        client.starttls(context=trusting)
        answer = client.docmd("NOOP")[1]
        client.close()
        return answer

    async with served(lambda: Rude(options)) as serving:
        assert await deferToThread(client, serving.port) == b"NOOP"
        assert await serving.chats[0].closed() == "handler"


async def test_a_handler_that_closes_its_transport_itself_after_start_tls_is_closed(
    options: Any, trusting: ssl.SSLContext
) -> None:
    class Rude(Mail):
        def found_terminator(self) -> Any:
            if self.secured:
                transport: Any = self.transport
                transport.loseConnection()
                return None
            return super().found_terminator()

    def client(port: int) -> None:
        client = smtplib.SMTP("127.0.0.1", port, timeout=10)
        client.docmd("EHLO", "me")
        client.starttls(context=trusting)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.docmd("NOOP")
        client.close()

    async with served(lambda: Rude(options)) as serving:
        await deferToThread(client, serving.port)
        assert await serving.chats[0].closed() == "handler"
