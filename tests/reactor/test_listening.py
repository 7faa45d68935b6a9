"""Listener: sockets that others accept from, and what becomes of them."""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import turns
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IReactorSSL
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from txasynchat import AsyncChat
from txasynchat.listening import Listener


class Upper(AsyncChat):
    """Answers each line in upper case."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.push(self._get_data().upper() + b"\n")


def uppers() -> Any:
    factory = Factory.forProtocol(Upper)
    factory.noisy = False
    return factory


@asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[Any]:
    """The port of a listener, until the end."""
    port: Any = await listener.listen(uppers())
    try:
        yield port
    finally:
        await port.stopListening()


def address_of(port: Any) -> Any:
    host = port.getHost()
    return os.fsdecode(host.name) if hasattr(host, "name") else (host.host, host.port)


def connect(address: Any) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=10)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(address)
    return client


def ask(client: socket.socket, line: bytes) -> bytes:
    """Send a line on a connection and read one."""
    client.sendall(line)
    return b"".join(iter(lambda: client.recv(1), b"\n")) + b"\n"


def ask_once(address: Any, line: bytes = b"hello\n") -> bytes:
    with connect(address) as client:
        return ask(client, line)


def handed_over(listener: Listener) -> list[tuple[int, int]]:
    """What a child process would inherit."""
    return [(os.dup(descriptor), family) for descriptor, family in listener.opened]


DESCRIPTIONS = ["tcp:0:interface=127.0.0.1", "tcp6:0:interface=\\:\\:1", "unix:{path}"]


@pytest.mark.parametrize("description", DESCRIPTIONS)
async def test_it_serves_what_the_endpoint_does(description: str, tmp_path: Path) -> None:
    description = description.format(path=tmp_path / "socket")
    async with listening(Listener(description)) as port:
        assert await deferToThread(ask_once, address_of(port)) == b"HELLO\n"


@pytest.mark.parametrize("description", DESCRIPTIONS)
async def test_who_connects_waits_for_those_who_inherit_the_socket(
    description: str, tmp_path: Path
) -> None:
    description = description.format(path=tmp_path / "socket")
    parent = Listener(description, accept=False)
    async with listening(parent) as port:
        client = await deferToThread(connect, address_of(port))
        client.sendall(b"early\n")
        await turns(20)
        assert not select.select([client], [], [], 0)[0]
        async with listening(Listener(description, inherited=handed_over(parent))):
            assert await deferToThread(ask, client, b"bird\n") == b"EARLY\n"
        client.close()


@pytest.mark.parametrize("description", DESCRIPTIONS)
async def test_one_that_inherits_may_stop_while_another_goes_on(
    description: str, tmp_path: Path
) -> None:
    description = description.format(path=tmp_path / "socket")
    parent = Listener(description, accept=False)
    async with listening(parent) as port:
        async with listening(Listener(description, inherited=handed_over(parent))):
            pass
        async with listening(Listener(description, inherited=handed_over(parent))):
            assert await deferToThread(ask_once, address_of(port)) == b"HELLO\n"


async def test_the_descriptors_are_told_with_their_families(tmp_path: Path) -> None:
    families = []
    for description in DESCRIPTIONS:
        listener = Listener(description.format(path=tmp_path / "socket"), accept=False)
        async with listening(listener) as port:
            ((descriptor, family),) = listener.opened
            assert descriptor == port.fileno()
            families.append(family)
    assert families == [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]


async def test_what_was_inherited_is_closed_at_the_end() -> None:
    parent = Listener("tcp:0:interface=127.0.0.1", accept=False)
    async with listening(parent):
        ((descriptor, family),) = handed_over(parent)
        async with listening(Listener(parent.description, inherited=[(descriptor, family)])):
            with pytest.raises(OSError):
                os.fstat(descriptor)


async def test_too_few_inherited_sockets_are_an_error_that_names_the_description() -> None:
    listener = Listener("tcp:1:interface=127.0.0.1", inherited=[])
    with pytest.raises(ValueError, match=r"tcp:1:interface.*too few"):
        await listener.listen(uppers())


async def test_a_unix_socket_keeps_its_mode_and_its_lock_until_its_opener_stops(
    tmp_path: Path,
) -> None:
    path = tmp_path / "socket"
    lock = tmp_path / "socket.lock"
    description = f"unix:{path}:mode=600:lockfile=1"
    parent = Listener(description, accept=False)
    async with listening(parent):
        for _ in range(2):
            async with listening(Listener(description, inherited=handed_over(parent))):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert await deferToThread(ask_once, str(path)) == b"HELLO\n"
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert lock.is_symlink()
    assert not path.exists()
    assert not lock.is_symlink()


async def test_an_inherited_unix_socket_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    parent = Listener(f"unix:{path}", accept=False)
    async with listening(parent):
        inherits = Listener(parent.description, inherited=handed_over(parent))
        async with listening(inherits) as port:
            assert address_of(port) == str(path)


async def test_tls_is_spoken_on_inherited_sockets(tmp_path: Path, authority: trustme.CA) -> None:
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def client(address: Any) -> bytes:
        with context.wrap_socket(connect(address), server_hostname="127.0.0.1") as secure:
            return ask(secure, b"hello\n")

    description = f"ssl:0:interface=127.0.0.1:privateKey={quoteStringArgument(str(pem))}"
    parent = Listener(description, accept=False)
    async with listening(parent) as port:
        inherits = Listener(description, inherited=handed_over(parent))
        async with listening(inherits):
            assert await deferToThread(client, address_of(port)) == b"HELLO\n"


@pytest.mark.parametrize("inner", ["tcp:0:interface=127.0.0.1", "unix:{path}"])
async def test_the_proxy_protocol_is_spoken_on_inherited_sockets(
    inner: str, tmp_path: Path
) -> None:
    peers: list[Any] = []

    class Tells(Upper):
        def found_terminator(self) -> None:
            transport: Any = self.transport
            peers.append(transport.getPeer().host)
            super().found_terminator()

    description = "haproxy:" + inner.format(path=tmp_path / "socket")
    parent = Listener(description, accept=False)
    async with listening(parent) as port:
        inherits = Listener(description, inherited=handed_over(parent))
        adopted: Any = await inherits.listen(Factory.forProtocol(Tells))
        greeting = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\nhello\n"
        assert await deferToThread(ask_once, address_of(port), greeting) == b"HELLO\n"
        await adopted.stopListening()
    assert peers == ["192.0.2.7"]


@pytest.mark.parametrize("front", ["", "haproxy:"])
async def test_a_worker_needs_no_systemd_of_its_own(front: str) -> None:
    description = f"{front}systemd:domain=INET:index=0"
    with socket.create_server(("127.0.0.1", 0)) as opened:
        inherited = [(os.dup(opened.fileno()), socket.AF_INET)]
        async with listening(Listener(description, inherited=inherited)) as port:
            assert address_of(port) == opened.getsockname()


def test_endpoints_see_the_reactor_with_all_that_it_provides() -> None:
    from twisted.internet import reactor

    seen: list[Any] = []
    listener = Listener("tcp:0", reactor)
    stand_in = listener._endpoint._reactor  # type: ignore[attr-defined]
    assert IReactorSSL.providedBy(stand_in) == IReactorSSL.providedBy(reactor)
    stand_in.callLater(60, seen.append).cancel()
    assert stand_in.running == reactor.running


PARENT = """
import os, subprocess, sys
from twisted.internet import {reactor}reactor
{reactor}reactor.install()
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from txasynchat.echo import EchoHandler
from txasynchat.listening import Listener

def child():
    number, family = int(sys.argv[2]), int(sys.argv[3])
    inherits = Listener(sys.argv[1], inherited=[(number, family)])
    inherits.listen(Factory.forProtocol(EchoHandler))

def parent():
    listener = Listener(sys.argv[1], accept=False)
    listener.listen(Factory()).addCallback(start, listener)

def start(port, listener):
    (number, family), = listener.opened
    command = [sys.executable, __file__, sys.argv[1], str(number), str(family)]
    worker = subprocess.Popen(command, pass_fds=[number])
    def end():
        worker.kill()
        worker.wait()
        return port.stopListening()
    reactor.addSystemEventTrigger("before", "shutdown", end)
    print("listening", flush=True)

child() if len(sys.argv) > 2 else parent()
reactor.run()
"""


@pytest.mark.parametrize("reactor", ["select", "poll", "epoll", "asyncio"])
def test_a_process_accepts_from_what_another_has_opened(reactor: str, tmp_path: Path) -> None:
    if not hasattr(select, "epoll") and reactor == "epoll":
        pytest.skip("needs epoll")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PARENT).format(reactor=reactor))
    path = tmp_path / "socket"
    command = [sys.executable, str(program), f"unix:{path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            assert exchange(str(path), b"ECHO 5\nhello") == b"hello"
        finally:
            process.terminate()
            process.wait(20)
    assert not path.exists()


def exchange(path: str, request: bytes) -> bytes:
    with connect(path) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(4096), b""))


# -- Certificates read again ----------------------------------------------------------


class Certificates:
    """Files of a server's certificate, and clients that trust whoever issued it."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.pem = folder / "server.pem"
        self.authority = authority

    def renew(self) -> None:
        made = self.authority.issue_cert("127.0.0.1", "localhost")
        made.private_key_and_cert_chain_pem.write_to_path(str(self.pem))

    @property
    def description(self) -> str:
        return f"ssl:0:interface=127.0.0.1:privateKey={quoteStringArgument(str(self.pem))}"

    def connect(self, address: Any, before: bytes = b"", name: str = "localhost") -> ssl.SSLSocket:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        secure = context.wrap_socket(connect(address), server_hostname=name)
        secure.sendall(before)
        return secure

    def seen(self, address: Any, before: bytes = b"") -> bytes | None:
        """The certificate that a new client sees, once it was served."""
        with self.connect(address, before) as client:
            assert ask(client, b"new\n") == b"NEW\n"
            return client.getpeercert(binary_form=True)


@pytest.fixture
def certificates(tmp_path: Path, authority: trustme.CA) -> Certificates:
    made = Certificates(tmp_path, authority)
    made.renew()
    return made


PROXIED = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n"


@pytest.mark.parametrize(("front", "before"), [("", b""), ("haproxy:", PROXIED)])
async def test_a_reload_serves_new_connections_with_the_new_certificate_and_keeps_the_old_ones(
    front: str, before: bytes, certificates: Certificates
) -> None:
    listener = Listener(front + certificates.description)
    async with listening(listener) as port:
        address = address_of(port)
        old = await deferToThread(certificates.connect, address, before)
        assert await deferToThread(ask, old, b"one\n") == b"ONE\n"
        certificates.renew()
        unchanged = await deferToThread(certificates.seen, address, before)
        assert unchanged == old.getpeercert(binary_form=True)
        assert listener.reload()
        assert await deferToThread(certificates.seen, address, before) != unchanged
        assert await deferToThread(ask, old, b"two\n") == b"TWO\n"
        assert address_of(port) == address
        old.close()


async def test_openssl_sees_the_new_certificate(certificates: Certificates) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")

    def serial(address: Any) -> bytes:
        shown = subprocess.run(
            [openssl, "s_client", "-connect", f"127.0.0.1:{address[1]}"],
            input=b"",
            capture_output=True,
            timeout=10,
        ).stdout
        told = subprocess.run(
            [openssl, "x509", "-noout", "-serial"], input=shown, capture_output=True, timeout=10
        )
        return told.stdout

    listener = Listener(certificates.description)
    async with listening(listener) as port:
        before = await deferToThread(serial, address_of(port))
        certificates.renew()
        listener.reload()
        after = await deferToThread(serial, address_of(port))
    assert before.startswith(b"serial=") and after.startswith(b"serial=")
    assert before != after


def garbage(certificates: Certificates) -> None:
    certificates.pem.write_text("nothing of the kind")


def missing(certificates: Certificates) -> None:
    certificates.pem.unlink()


def key_of_another(certificates: Certificates) -> None:
    ours = certificates.authority.issue_cert("localhost")
    other = certificates.authority.issue_cert("localhost")
    pem = ours.private_key_pem.bytes() + other.cert_chain_pems[0].bytes()
    certificates.pem.write_bytes(pem)


async def test_a_chain_that_cannot_be_read_is_kept_out_too(
    certificates: Certificates, tmp_path: Path, logged_failures: Any
) -> None:
    chain = tmp_path / "chain.pem"
    certificates.authority.cert_pem.write_to_path(str(chain))
    files = f":extraCertChain={quoteStringArgument(str(chain))}"
    listener = Listener(certificates.description + files)
    async with listening(listener) as port:
        before = await deferToThread(certificates.seen, address_of(port))
        chain.write_text("no certificate in it")
        assert not listener.reload()
        assert await deferToThread(certificates.seen, address_of(port)) == before
    assert "doesn't contain any valid certificates" in logged_failures()[0]


@pytest.mark.parametrize("spoil", [garbage, missing, key_of_another])
async def test_a_reload_that_fails_keeps_the_old_certificate_and_says_so_in_one_line(
    spoil: Callable[[Certificates], None], certificates: Certificates, logged_failures: Any
) -> None:
    listener = Listener(certificates.description)
    async with listening(listener) as port:
        before = await deferToThread(certificates.seen, address_of(port))
        spoil(certificates)
        assert not listener.reload()
        assert await deferToThread(certificates.seen, address_of(port)) == before
        (logged,) = logged_failures()
        assert f"can't reload the certificates of {certificates.description}" in logged
        assert len(logged.splitlines()) == 1
        certificates.renew()
        assert listener.reload()
        assert await deferToThread(certificates.seen, address_of(port)) != before


async def test_a_listener_that_listens_again_uses_what_was_read_last(
    certificates: Certificates,
) -> None:
    listener = Listener(certificates.description)
    async with listening(listener) as port:
        before = await deferToThread(certificates.seen, address_of(port))
    certificates.renew()
    assert listener.reload()
    async with listening(listener) as port:
        after = await deferToThread(certificates.seen, address_of(port))
    assert before != after


async def test_the_chain_and_the_parameters_are_read_again_too(
    certificates: Certificates, tmp_path: Path
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    between = certificates.authority.create_child_ca()
    made = between.issue_cert("localhost")
    key, leaf = made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()
    chain, parameters = tmp_path / "chain.pem", tmp_path / "dh.pem"
    certificates.pem.write_bytes(key + leaf)
    certificates.authority.cert_pem.write_to_path(str(chain))  # the wrong one
    subprocess.run(
        [openssl, "dhparam", "-dsaparam", "-out", str(parameters), "2048"],
        capture_output=True,
        check=True,
    )
    files = f":extraCertChain={quoteStringArgument(str(chain))}:dhParameters={parameters}"
    listener = Listener(certificates.description + files)
    async with listening(listener) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await deferToThread(certificates.connect, address_of(port))
        between.cert_pem.write_to_path(str(chain))
        assert listener.reload()
        await deferToThread(certificates.seen, address_of(port))


@pytest.mark.filterwarnings("ignore:X509.get_:DeprecationWarning")  # Twisted's tls:
async def test_certificates_by_name_are_read_again(
    certificates: Certificates, tmp_path: Path
) -> None:
    description = f"tls:{quoteStringArgument(str(tmp_path))}:0:interface=127.0.0.1"
    try:
        listener = Listener(description)
    except ValueError:
        pytest.skip("this Twisted has no tls: for servers")
    async with listening(listener) as port:
        before = await deferToThread(certificates.seen, address_of(port))
        certificates.renew()
        assert await deferToThread(certificates.seen, address_of(port)) == before
        assert listener.reload()
        assert await deferToThread(certificates.seen, address_of(port)) != before


@pytest.mark.parametrize("description", ["tcp:0:interface=127.0.0.1", "unix:{path}"])
async def test_without_certificates_there_is_nothing_to_reload(
    description: str, tmp_path: Path
) -> None:
    listener = Listener(description.format(path=tmp_path / "socket"))
    async with listening(listener) as port:
        assert listener.reload()
        assert await deferToThread(ask_once, address_of(port)) == b"HELLO\n"
