"""Traces over real transports: what clients get is the same, and all of it is recorded."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
import trustme
from support import Chat, SocketLink, until
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread

from txasynchat import LegacyFactory, asynchat, asyncore
from txasynchat.trace import TracingFactory
from txasynchat.transcript import Record, read_transcript


class TracedEndpoint:
    """An endpoint that has what it serves traced."""

    def __init__(self, endpoint: Any, file: Any) -> None:
        self._endpoint = endpoint
        self._file = file

    def listen(self, factory: Any) -> Any:
        return self._endpoint.listen(TracingFactory(factory, self._file))


class TracedLink(SocketLink):
    """A chat that is served traced, and its client."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.file = StringIO()

    def _server(self) -> Any:
        return TracedEndpoint(super()._server(), self.file)

    @property
    def records(self) -> list[Record]:
        return records_of(self.file)

    def stream(self, direction: str) -> bytes:
        return b"".join(each.data for each in self.records if each.event == direction)


def records_of(file: StringIO) -> list[Record]:
    def never(*flaw: Any) -> None:
        raise AssertionError(flaw)

    return list(read_transcript(file.getvalue().splitlines(), never))


class LiveChat(Chat):
    """A recording chat on the reactor's clock."""

    def __init__(self, *args: Any, **does: Any) -> None:
        super().__init__(*args, **does)
        del self.callLater


@pytest.fixture(params=["tcp", "unix", "tls"])
def traced_link(
    request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA
) -> Iterator[Callable[[Any], TracedLink]]:
    links: list[TracedLink] = []

    def make(chat: Any) -> TracedLink:
        links.append(TracedLink(chat, request.param, str(tmp_path / "socket"), authority))
        return links[-1]

    yield make
    from twisted.internet import reactor

    for each in links:
        pytest_twisted.blockon(each.end().addTimeout(10, reactor))


Links = Callable[[Any], TracedLink]


async def test_what_a_client_sent_and_got_is_recorded_in_the_clear(traced_link: Links) -> None:
    chat = LiveChat(found=lambda chat: chat.push(chat.messages[-1][::-1] + b"\n"))
    link = traced_link(chat)
    await link.open()
    body = bytes(range(11, 256)) * 2000 + b"\n"
    chat.max_message_length = None
    link.send(body)
    await until(lambda: len(link.received) == len(body))
    assert link.received == body[-2::-1] + b"\n"
    assert (link.stream("in"), link.stream("out")) == (body, link.received)
    assert link.records[0].details["tls"] is (link.kind == "tls")


async def test_a_producer_is_held_up_by_a_client_that_does_not_read(traced_link: Links) -> None:
    def numbers() -> Iterator[bytes]:
        for number in range(1000):
            given.append(number)
            yield b"%08d" % number * 1024

    given: list[int] = []
    chat = LiveChat(connect=lambda chat: chat.push_with_producer(numbers()))
    link = traced_link(chat)
    link.peer.connectionMade = link.pause  # type: ignore[method-assign]
    await link.open()
    before = -1
    while len(given) != before:  # until nothing moves any more
        before = len(given)
        await until(lambda: chat.queued_output == 0)
        await deferToThread(lambda: None)
    link.resume()
    await until(lambda: len(link.received) == 1000 * 8192)
    assert link.stream("out") == link.received


async def test_a_close_by_the_handler_reaches_the_client_and_the_trace(traced_link: Links) -> None:
    link = traced_link(LiveChat(found=lambda chat: chat.close_when_done()))
    await link.open()
    link.send(b"bye\n")
    await until(lambda: link.ended)
    await until(lambda: link.records[-1].event == "close")
    assert {"lose", "close"} <= {record.event for record in link.records}
    assert link.records[-1].details["close_reason"] == "handler"


async def test_a_client_that_resets_is_recorded_as_the_one_who_did(traced_link: Links) -> None:
    link = traced_link(LiveChat())
    await link.open()
    link.leave()
    await until(lambda: link.records[-1].event == "close")
    assert link.records[-1].details["close_reason"] == "peer"


async def test_a_client_that_has_finished_sending_is_answered_first() -> None:
    chat = LiveChat(found=lambda chat: chat.push(b"answer"))
    factory = Factory.forProtocol(lambda: chat)
    factory.noisy = False
    from twisted.internet import reactor

    file = StringIO()
    endpoint = TracedEndpoint(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), file)
    port = await endpoint.listen(factory)

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10) as client:
            client.sendall(b"question\n")
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(100), b""))

    assert await deferToThread(talk) == b"answer"
    await until(lambda: '"close"' in file.getvalue())
    await port.stopListening()
    assert [record.event for record in records_of(file)] == [
        "open",
        "in",
        "out",
        "eof",
        "lose",
        "close",
    ]


# -- TLS in the middle of a connection ---------------------------------------------------


async def test_what_is_said_after_starttls_is_recorded_in_the_clear(authority: trustme.CA) -> None:
    from twisted.internet import reactor

    pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
    context = PrivateCertificate.loadPEM(pem).options()

    def answer(chat: Any) -> None:
        if chat.messages[-1] == b"STARTTLS":
            chat.push(b"go on\n")
            chat.start_tls(context)
        else:
            chat.push(chat.messages[-1].upper() + b"\n")

    chat = LiveChat(found=answer)
    factory = Factory.forProtocol(lambda: chat)
    factory.noisy = False
    file = StringIO()
    endpoint = TracedEndpoint(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), file)
    port = await endpoint.listen(factory)

    def talk() -> bytes:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10) as client:
            client.sendall(b"STARTTLS\n")
            assert client.recv(100) == b"go on\n"
            with trusting.wrap_socket(client, server_hostname="127.0.0.1") as wrapped:
                wrapped.sendall(b"secret\n")
                return wrapped.recv(100)

    assert await deferToThread(talk) == b"SECRET\n"
    await until(lambda: '"close"' in file.getvalue())
    await port.stopListening()
    records = records_of(file)
    events = [record.event for record in records if record.event not in ("lose", "close")]
    assert events == ["open", "in", "out", "tls", "handshake", "in", "out"]
    assert [each.data for each in records if each.data] == [
        b"STARTTLS\n",
        b"go on\n",
        b"secret\n",
        b"SECRET\n",
    ]


# -- Legacy handlers ----------------------------------------------------------------------


class Shouting(asynchat.async_chat):
    """An unmodified handler."""

    def __init__(self, sock: Any, addr: Any) -> None:
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b"\n")
        self.line = b""

    def collect_incoming_data(self, data: bytes) -> None:
        self.line += data

    def found_terminator(self) -> None:
        line, self.line = self.line, b""
        self.push(line.upper() + b"\n")
        if line == b"quit":
            self.close_when_done()


async def test_an_unmodified_handler_is_traced() -> None:
    from twisted.internet import reactor

    file = StringIO()
    endpoint = TracedEndpoint(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), file)
    port = await endpoint.listen(LegacyFactory(Shouting))

    def talk() -> tuple[str, bytes]:
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10) as client:
            client.sendall(b"hello\nquit\n")
            host, number = client.getsockname()
            return f"{host}:{number}", b"".join(iter(lambda: client.recv(100), b""))

    name, answer = await deferToThread(talk)
    assert answer == b"HELLO\nQUIT\n"
    await until(lambda: not asyncore.socket_map)
    await until(lambda: '"close"' in file.getvalue())
    await port.stopListening()
    records = records_of(file)
    assert records[0].details["peer"] == name
    assert b"".join(each.data for each in records if each.event == "out") == answer
    assert "lose" in [record.event for record in records]
