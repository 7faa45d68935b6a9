"""What docs/security.md promises, tried by strangers from outside."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trustme
from serving import Running, Serve, ask, read_line

HANDLERS = """
import asynchat
from pathlib import Path

from twisted.internet.ssl import PrivateCertificate

from txasynchat import AsyncChat


def context():
    return PrivateCertificate.loadPEM(Path("server.pem").read_bytes()).options()


class Chat(AsyncChat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
        self.push(b"hello\\n")

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        line = self._get_data()
        if line == b"raise":
            raise ValueError("a secret")
        self.push(line.upper() + b"\\n")


class Legacy(asynchat.async_chat):
    def __init__(self, sock, addr):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b"\\n")
        self.push(b"hello\\n")

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        line = self._get_data()
        if line == b"raise":
            raise ValueError("a secret")
        self.push(line.upper() + b"\\n")


class SecureChat(Chat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
        self.start_tls(context())

    def found_terminator(self):
        print("delivered", self._get_data())


class SecureLegacy(Legacy):
    def __init__(self, sock, addr):
        sock.start_tls(context())
        Legacy.__init__(self, sock, addr)

    def found_terminator(self):
        print("delivered", self._get_data())
"""

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1024 8007\r\n"
ENDPOINTS = {
    "tcp": "tcp:0:interface=127.0.0.1",
    "ssl": "ssl:0:interface=127.0.0.1:privateKey=server.pem:certKey=server.pem",
    "haproxy": "haproxy:tcp:0:interface=127.0.0.1",
}
HANDLER = pytest.mark.parametrize("handler", ["Chat", "Legacy"])
KIND = pytest.mark.parametrize("kind", sorted(ENDPOINTS))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


Start = Callable[..., Running]


@pytest.fixture
def start(serve: Serve, tmp_path: Path, authority: trustme.CA) -> Start:
    """Serves a handler on an endpoint of a kind."""
    made = authority.issue_cert("127.0.0.1")
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    (tmp_path / "handlers.py").write_text(HANDLERS)

    def started(handler: str, kind: str, *options: str) -> Running:
        return serve("--handler", f"handlers:{handler}", "--listen", ENDPOINTS[kind], *options)

    return started


@pytest.fixture
def connect(authority: trustme.CA) -> Iterator[Callable[[Running, str], socket.socket]]:
    """Connects a client to an endpoint of a kind, up to where it is greeted."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with ExitStack() as stack:

        def connected(service: Running, kind: str) -> socket.socket:
            client: socket.socket = stack.enter_context(service.connect())
            if kind == "haproxy":
                client.sendall(HEADER)
            if kind == "ssl":
                client = context.wrap_socket(client, server_hostname="127.0.0.1")
                stack.enter_context(client)
            return client

        yield connected


Connect = Callable[[Running, str], socket.socket]


def assert_ended(client: socket.socket) -> None:
    """Whatever it still says, the other side is gone."""
    with suppress(ConnectionResetError):
        while client.recv(65536):
            pass


@HANDLER
@KIND
def test_a_connection_beyond_the_limit_is_closed_before_it_says_anything(
    start: Start, connect: Connect, kind: str, handler: str
) -> None:
    service = start(handler, kind, "--max-connections", "1")
    first = connect(service, kind)
    assert read_line(first) == b"hello\n"
    with suppress(ConnectionError), service.connect() as second:  # it may be gone at once
        assert_ended(second)
    assert ask(first, b"on\n") == b"ON\n"


@HANDLER
@KIND
def test_a_connection_beyond_the_limit_of_its_peer_is_cut(
    start: Start, connect: Connect, kind: str, handler: str
) -> None:
    service = start(handler, kind, "--max-per-peer", "1")
    first = connect(service, kind)
    assert read_line(first) == b"hello\n"
    with suppress(OSError):  # of its handshake
        assert_ended(connect(service, kind))
    assert ask(first, b"on\n") == b"ON\n"


@HANDLER
@KIND
def test_who_says_nothing_is_put_out(start: Start, kind: str, handler: str) -> None:
    # Neither a handshake, nor a PROXY header, nor a message.
    service = start(handler, kind, "--first-message-timeout", "0.5", "--close-timeout", "0.5")
    with service.connect() as client:
        assert_ended(client)


@HANDLER
def test_half_a_header_of_a_proxy_is_nothing(start: Start, handler: str) -> None:
    service = start(handler, "haproxy", "--first-message-timeout", "0.5")
    with service.connect() as client:
        client.sendall(HEADER[:-5])
        assert_ended(client)


@HANDLER
def test_an_address_that_is_none_brings_no_control_characters_into_the_log(
    start: Start, handler: str
) -> None:
    service = start(handler, "haproxy")
    with service.connect() as client:
        client.sendall(b"PROXY TCP4 \x1b[31mfoo\nbar 192.0.2.2 1 2\r\n")
        client.shutdown(socket.SHUT_WR)
        assert_ended(client)
    service.terminate()
    service.end()
    assert "\x1b" not in service.log


@pytest.mark.parametrize("handler", ["SecureChat", "SecureLegacy"])
def test_text_behind_the_header_of_a_proxy_is_not_taken_for_what_came_over_tls(
    start: Start, handler: str
) -> None:
    service = start(handler, "haproxy")
    with service.connect() as client:
        client.sendall(HEADER + b"EVIL\n" * 10)  # in one packet
        assert_ended(client)
    service.terminate()
    assert service.end() == 0
    assert "delivered" not in service.log


@HANDLER
def test_the_words_of_an_error_do_not_get_to_the_peer(
    start: Start, connect: Connect, handler: str
) -> None:
    service = start(handler, "tcp")
    client = connect(service, "tcp")
    assert read_line(client) == b"hello\n"
    assert ask(client, b"raise\n") == b""
    service.wait_for("a secret")
