"""STARTTLS in legacy handlers: what somebody put behind the command is never executed."""

from __future__ import annotations

import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trustme
from legacy.on_wire import Line, Watching
from support import bare_environment, cuts, until
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread

from txasynchat import CloseReason, LegacyFactory, asynchat, asyncore
from txasynchat.errors import PlaintextAfterStartTLS
from txasynchat.legacy.serving import Connection

TIMEOUT = 20
MAIL = "mail from@example.com to@example.org\n"
INJECTED = b"STARTTLS\r\nEVIL\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def pem(authority: trustme.CA) -> bytes:
    """The server's key and certificate."""
    return authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.bytes()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """What a client trusts."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(autouse=True)
def certificate(pem: bytes) -> None:
    """The handlers' certificate."""
    Mail.options = PrivateCertificate.loadPEM(pem).options()
    Mail.lines = []


class Mail(asynchat.async_chat):
    """Enough of a mail server for a client to begin TLS with."""

    options: Any = None
    lines: list[bytes] = []
    clears = False
    carry_over = False
    closes = 0

    def __init__(self, sock: Any, addr: Any, map: Any = None) -> None:
        asynchat.async_chat.__init__(self, sock, map)
        self.set_terminator(b"\r\n")
        self.push(b"220 hello\r\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        line = self._get_data()
        Mail.lines.append(line)
        if line.upper().startswith(b"EHLO"):
            self.push(b"250-hello\r\n250 STARTTLS\r\n")
        elif line == b"STARTTLS":
            self.answer_starttls()
        elif line == b"QUIT":
            self.push(b"221 bye\r\n")
            self.close_when_done()
        else:
            self.push(b"250 " + line + b"\r\n")

    def answer_starttls(self) -> None:
        self.push(b"220 go ahead\r\n")
        if self.clears:
            self.ac_in_buffer = b""
        self.start_tls()

    def start_tls(self) -> None:
        sock: Any = self.socket
        sock.start_tls(self.options, self.carry_over)

    def handle_close(self) -> None:
        self.closes += 1
        self.close()

    def log_info(self, message: Any, type: str = "info") -> None:
        pass


class Served(LegacyFactory):
    """Remembers its connections."""

    def __init__(self, build: Any) -> None:
        super().__init__(build)
        self.made: list[Connection] = []

    def buildProtocol(self, addr: object) -> Connection:
        made = super().buildProtocol(addr)
        made._watcher = Watching()
        self.made.append(made)
        return made


@asynccontextmanager
async def listening(factory: LegacyFactory, kind: str = "") -> AsyncIterator[int]:
    """The port on which the factory listens meanwhile."""
    from twisted.internet import reactor

    if kind:
        port = await serverFromString(reactor, f"{kind}:tcp:0:interface=127.0.0.1").listen(factory)
    else:
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
        await until(lambda: not asyncore.socket_map)


def plain(port: int) -> tuple[socket.socket, Any]:
    """A client that has been greeted; and its input as a file."""
    client = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = client.makefile("rb")
    assert lines.readline() == b"220 hello\r\n"
    return client, lines


def secured(client: socket.socket, trust: ssl.SSLContext) -> ssl.SSLSocket:
    return trust.wrap_socket(client, server_hostname="127.0.0.1")


# -- Good clients ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "haproxy"])
async def test_a_client_goes_on_over_tls(kind: str, trust: ssl.SSLContext) -> None:
    def talk(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            if kind:
                client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n")
            lines = client.makefile("rb")
            assert lines.readline() == b"220 hello\r\n"
            client.sendall(b"STARTTLS\r\n")
            assert lines.readline() == b"220 go ahead\r\n"
            with secured(client, trust) as secure:
                secure.sendall(b"hidden\r\n")
                return secure.recv(100)

    async with listening(LegacyFactory(Mail), kind) as port:
        assert await deferToThread(talk, port) == b"250 hidden\r\n"
    assert Mail.lines == [b"STARTTLS", b"hidden"]


async def test_smtplib_and_openssl_get_through(trust: ssl.SSLContext, tmp_path: Path) -> None:
    def talk(port: int) -> Any:
        with smtplib.SMTP("127.0.0.1", port, "localhost", TIMEOUT) as client:
            client.starttls(context=trust)
            return client.docmd("hidden")

    async with listening(LegacyFactory(Mail)) as port:
        assert await deferToThread(talk, port) == (250, b"hidden")
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("needs openssl")
        result = await deferToThread(
            subprocess.run,
            [openssl, "s_client", "-quiet", "-starttls", "smtp", "-connect", f"127.0.0.1:{port}"],
            input=b"from openssl\r\nQUIT\r\n",
            capture_output=True,
            timeout=TIMEOUT,
        )
    assert b"250 from openssl" in result.stdout


async def test_what_was_pushed_before_goes_out_in_clear_and_what_is_pushed_after_does_not(
    trust: ssl.SSLContext,
) -> None:
    much = b"x" * 3_000_000

    class Generous(Mail):
        def answer_starttls(self) -> None:
            self.push(much)
            self.push_with_producer(asynchat.simple_producer(b"220 go ahead\r\n"))
            self.start_tls()
            self.push(b"welcome\r\n")

    def talk(port: int) -> bytes:
        client, lines = plain(port)
        client.sendall(b"STARTTLS\r\n")
        assert lines.read(len(much)) == much
        assert lines.readline() == b"220 go ahead\r\n"
        with secured(client, trust) as secure:
            return secure.recv(100)

    async with listening(LegacyFactory(Generous)) as port:
        assert await deferToThread(talk, port) == b"welcome\r\n"


async def test_a_dispatcher_with_send_changes_over_behind_what_it_keeps(
    trust: ssl.SSLContext,
) -> None:
    much = b"x" * 3_000_000

    class Raw(asyncore.dispatcher_with_send):
        def __init__(self, sock: Any, addr: Any) -> None:
            asyncore.dispatcher_with_send.__init__(self, sock)
            self.send(b"220 hello\r\n")

        def handle_read(self) -> None:
            data = self.recv(100)
            if data == b"STARTTLS\r\n":
                self.send(much)
                sock: Any = self.socket
                sock.start_tls(Mail.options)
                self.send(b"welcome\r\n")

        def handle_close(self) -> None:
            self.close()

    def talk(port: int) -> bytes:
        client, lines = plain(port)
        client.sendall(b"STARTTLS\r\n")
        assert lines.read(len(much)) == much
        with secured(client, trust) as secure:
            return secure.recv(100)

    async with listening(LegacyFactory(Raw)) as port:
        assert await deferToThread(talk, port) == b"welcome\r\n"


# -- What is put behind the command ------------------------------------------------------------


def inject(port: int, pieces: list[bytes]) -> bytes:
    """Send the pieces one by one, each as a segment; what comes until the end."""
    client, lines = plain(port)
    with client:
        received = b""
        try:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            received = lines.read()
        except OSError:
            pass
        return received


@pytest.mark.parametrize("place", range(len(INJECTED) + 1))
async def test_an_injected_command_is_never_delivered_at_any_split(
    place: int, logged_failures: Any
) -> None:
    factory = Served(Mail)
    async with listening(factory) as port:
        received = await deferToThread(inject, port, list(cuts(INJECTED, [place])))
        await until(lambda: factory.made[0].close_reason)
        await until(lambda: not asyncore.socket_map)
    assert set(Mail.lines) <= {b"STARTTLS"}
    assert b"EVIL" not in received
    logged_failures()


@pytest.mark.parametrize("place", range(len(INJECTED) + 1))
def test_in_memory_an_injected_command_is_refused_at_any_split_that_has_it_in_hand(
    place: int, logged_failures: Any
) -> None:
    line = TLSLine(Mail)
    for piece in cuts(INJECTED, [place]):
        line.receive(piece)
    assert Mail.lines == [b"STARTTLS"]
    if place == len(b"STARTTLS\r\n"):  # it came later, where only TLS is understood
        assert line.wire.handed_on == [b"EVIL\r\n"]
        assert not line.wire.aborted
        line.channel.close()
        line.lose()
        return
    assert line.wire.aborted
    line.lose()
    assert (line.reason, line.channel.closes) == ("error", 1)
    assert "failed" in line.watcher.names
    assert line.watcher.told[-1] == ("ended", CloseReason.ERROR)
    logged_failures()


class TLSLine(Line):
    """A line whose wire can change over."""

    def __init__(self, *args: Any, **limits: Any) -> None:
        super().__init__(*args, **limits)
        self.wire.handed_on = []
        self.wire.options = None

        class TLS:
            dataReceived = self.wire.handed_on.append

        def start(options: Any) -> None:
            self.wire.options = options
            self.wire.protocol = TLS

        self.wire.startTLS = start

    def receive(self, data: bytes) -> None:
        self.wire.protocol.dataReceived(data)
        self.serve()


def test_input_that_the_socket_has_is_refused_even_if_the_handler_clears_its_own(
    logged_failures: Any,
) -> None:
    class Clearing(Mail):
        clears = True
        ac_in_buffer_size = len(b"STARTTLS\r\n")

    line = TLSLine(Clearing)
    line.receive(INJECTED)
    assert line.wire.aborted
    line.lose()
    assert Mail.lines == [b"STARTTLS"]
    logged_failures()


def test_a_handler_that_has_dropped_what_it_had_may_go_on() -> None:
    class Clearing(Mail):
        clears = True

    line = TLSLine(Clearing)
    line.receive(INJECTED)
    assert line.wire.options is Mail.options
    assert Mail.lines == [b"STARTTLS"]
    line.channel.close()
    line.lose()


def test_bytes_of_a_next_message_that_were_collected_are_refused(logged_failures: Any) -> None:
    class Later(Mail):
        def answer_starttls(self) -> None:
            pass

    line = TLSLine(Later)
    line.receive(b"STARTTLS\r\nEV")
    with pytest.raises(PlaintextAfterStartTLS):
        line.channel.start_tls()
    assert line.wire.aborted
    line.receive(b"IL\r\n")
    line.lose()
    assert Mail.lines == [b"STARTTLS"]
    logged_failures()


def test_what_comes_before_the_change_over_is_refused(logged_failures: Any) -> None:
    line = TLSLine(Mail)
    line.wire.fill()
    line.receive(b"STARTTLS\r\n")
    assert line.wire.options is None
    assert not line.wire.is_reading
    line.receive(b"EVIL\r\n")
    assert line.wire.aborted
    line.lose()
    assert (Mail.lines, line.reason) == ([b"STARTTLS"], "error")
    logged_failures()


def test_what_is_carried_over_is_handed_to_tls() -> None:
    class Carrying(Mail):
        carry_over = True

    line = TLSLine(Carrying)
    line.receive(b"STARTTLS\r\n\x16\x03hello")
    assert line.wire.handed_on == [b"\x16\x03hello"]
    assert Mail.lines == [b"STARTTLS"]
    line.channel.close()
    line.lose()


def test_a_transport_that_was_full_before_can_be_written_to_after() -> None:
    # What says so to TLS, which has not heard of the pause, does not come through.
    line = TLSLine(Mail)
    write = line.wire.write

    def write_and_fill(data: bytes) -> None:
        write(data)
        line.wire.fill()

    line.wire.write = write_and_fill
    line.receive(b"STARTTLS\r\n")
    assert line.wire.options is Mail.options
    line.channel.push(b"welcome\r\n")
    assert line.wire.value().endswith(b"220 go ahead\r\nwelcome\r\n")
    line.channel.close()
    line.lose()


# -- Mistakes ---------------------------------------------------------------------------------


def test_the_standard_librarys_contexts_are_refused_in_words() -> None:
    line = TLSLine(Mail)
    with pytest.raises(TypeError, match="CertificateOptions"):
        line.channel.socket.start_tls(ssl.create_default_context())
    with pytest.raises(TypeError, match="not str"):
        line.channel.socket.start_tls("yes")
    line.channel.close()
    line.lose()


def test_a_transport_that_has_no_tls_says_so() -> None:
    line = Line(Mail)
    with pytest.raises(OSError, match="not supported"):
        line.channel.socket.start_tls(Mail.options)
    line.channel.close()
    line.lose()


async def test_a_second_time_is_an_error(trust: ssl.SSLContext) -> None:
    errors: list[BaseException] = []

    class Twice(Mail):
        def handle_error(self) -> None:
            errors.append(sys.exc_info()[1])  # type: ignore[arg-type]
            self.close()

    def talk(port: int) -> bytes:
        client, lines = plain(port)
        client.sendall(b"STARTTLS\r\n")
        assert lines.readline() == b"220 go ahead\r\n"
        with secured(client, trust) as secure:
            secure.sendall(b"STARTTLS\r\n")
            return secure.recv(100)

    async with listening(LegacyFactory(Twice)) as port:
        await deferToThread(talk, port)
    assert [type(each) for each in errors] == [OSError]


# -- The real smtpd -----------------------------------------------------------------------------


@pytest.fixture
def mail_server(pem: bytes, tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The port of a server on smtpd, and its process."""
    if find_spec("smtpd") is None:
        pytest.skip("smtpd is not here: pip install standard-smtpd")
    (tmp_path / "server.pem").write_bytes(pem)
    program = Path(__file__).with_name("programs") / "smtpd_starttls.py"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(program), str(tmp_path / "server.pem")],
        env=bare_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def test_smtpd_takes_mail_over_tls_and_nothing_that_was_injected(
    mail_server: tuple[int, subprocess.Popen[str]], trust: ssl.SSLContext
) -> None:
    port, process = mail_server
    for place in range(len(INJECTED) + 1):
        client = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        with client, client.makefile("rb") as lines:
            lines.readline()
            try:
                for piece in cuts(INJECTED, [place]):
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
                lines.read()
            except OSError:
                pass
    with smtplib.SMTP("127.0.0.1", port, "localhost", TIMEOUT) as mailer:
        mailer.starttls(context=trust)
        mailer.sendmail("from@example.com", ["to@example.org"], "Subject: hidden\n\ntext")
    assert process.stdout is not None
    # What it says of those whose injection was refused comes first.
    said = [line for line in iter(process.stdout.readline, MAIL) if not line.startswith("error:")]
    assert said == []
