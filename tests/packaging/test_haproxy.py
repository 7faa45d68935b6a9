"""The real HAProxy, with the configuration that docs/operations.md shows."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme
from serving import Running, Serve

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="there is no haproxy here: apt install haproxy"
)

TIMEOUT = 20

HANDLERS = """
import asynchat
import os
from pathlib import Path

from twisted.internet.ssl import PrivateCertificate

from txasynchat import AsyncChat


def context():
    return PrivateCertificate.loadPEM(Path("chat.example.pem").read_bytes()).options()


class Chat(AsyncChat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
        peer = self.transport.getPeer()
        self.push(f"{os.getpid()} {peer.host} {peer.port}\\n".encode())

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    async def found_terminator(self):
        line = self._get_data()
        self.push(line.upper() + b"\\n")
        if line == b"starttls":
            await self.start_tls(context())


class Legacy(asynchat.async_chat):
    def __init__(self, sock, addr):
        asynchat.async_chat.__init__(self, sock)
        assert addr == sock.getpeername()
        self.data = []
        self.set_terminator(b"\\n")
        host, port = self.socket.getpeername()
        self.push(f"{os.getpid()} {host} {port}\\n".encode())

    def collect_incoming_data(self, data):
        self.data.append(data)

    def found_terminator(self):
        line, self.data = b"".join(self.data), []
        self.push(line.upper() + b"\\n")
        if line == b"starttls":
            self.socket.start_tls(context())
"""

#: A factory that does TLS behind the PROXY header, of what tls_chat.py shows.
WITH_TLS = """
import tls_chat
from twisted.protocols.tls import TLSMemoryBIOFactory

from handlers import Chat, Legacy
from txasynchat import AsyncChatFactory, LegacyFactory

tls_chat.NAMES = ("chat.example",)


def over_tls(factory):
    context = tls_chat.ReloadableContext(tls_chat.load_by_name, "the names")
    return TLSMemoryBIOFactory(context, False, factory)


def chat():
    return over_tls(AsyncChatFactory(Chat))


def legacy():
    return over_tls(LegacyFactory(Legacy))
"""

HANDLER = pytest.mark.parametrize("handler", ["Chat", "Legacy"])


class Client:
    """A client. It is greeted with the machine that serves it, and how that sees it."""

    def __init__(self, port: int) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.address = self.socket.getsockname()

    def over_tls(self, context: ssl.SSLContext) -> Client:
        self.socket = context.wrap_socket(self.socket, server_hostname="chat.example")
        return self

    def greeting(self) -> Client:
        pid, host, port = self.line().split()
        self.machine, self.seen_as = int(pid), (host.decode(), int(port))
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        # Byte by byte, for what follows may be TLS.
        line = b""
        while not line.endswith(b"\n"):
            byte = self.socket.recv(1)
            if not byte:
                break
            line += byte
        return line

    def ask(self, line: bytes) -> bytes:
        self.send(line + b"\n")
        return self.line()

    def close(self) -> None:
        self.socket.close()


class Proxy:
    """HAProxy on loopback, on sockets that it inherits: no port is chosen before it is bound."""

    def __init__(self, folder: Path, config: str, machines: list[int], certificate: Path) -> None:
        self.plain = socket.create_server(("127.0.0.1", 0))
        self.tls = socket.create_server(("127.0.0.1", 0))
        for shown, here in (
            ("bind :8007", f"bind fd@{self.plain.fileno()}"),
            ("bind :8443", f"bind fd@{self.tls.fileno()}"),
            ("/etc/haproxy/chat.pem", str(certificate)),
            ("192.0.2.11:8007", f"127.0.0.1:{machines[0]}"),
            ("192.0.2.12:8007", f"127.0.0.1:{machines[1]}"),
        ):
            assert config.count(shown) == 1, shown
            config = config.replace(shown, here)
        (folder / "haproxy.cfg").write_text(config)
        descriptors = (self.plain.fileno(), self.tls.fileno())
        self.process = subprocess.Popen(
            ["haproxy", "-db", "-f", "haproxy.cfg"],
            cwd=folder,
            pass_fds=descriptors,
            stdout=subprocess.DEVNULL,
        )

    @property
    def port(self) -> int:
        port: int = self.plain.getsockname()[1]
        return port

    @property
    def tls_port(self) -> int:
        port: int = self.tls.getsockname()[1]
        return port

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.plain.close()
        self.tls.close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA, shown: Callable[[str], str]) -> Path:
    """Where the machines have their handlers, and a certificate."""
    made = authority.issue_cert("chat.example")
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "chat.example.pem"))
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "tls_chat.py").write_text(shown("tls_chat.py"))
    (tmp_path / "with_tls.py").write_text(WITH_TLS)
    return tmp_path


class Site:
    """Two machines, and HAProxy in front of them."""

    def __init__(self, machines: list[Running], proxy: Proxy) -> None:
        self.machines = machines
        self.proxy = proxy


@pytest.fixture
def site(serve: Serve, folder: Path, shown: Callable[[str], str]) -> Iterator[Callable[..., Site]]:
    """Starts two machines with a handler, and HAProxy with the configuration of the docs."""
    with ExitStack() as stack:

        def start(handler: str, change: tuple[str, str] = ("", "")) -> Site:
            arguments = ("--handler", handler, "--listen", "haproxy:tcp:0:interface=127.0.0.1")
            machines = [serve(*arguments), serve(*arguments)]
            config = shown("haproxy.cfg")
            assert change[0] in config
            config = config.replace(*change)
            ports = [machine.port() for machine in machines]
            proxy = Proxy(folder, config, ports, folder / "chat.example.pem")
            return Site(machines, stack.enter_context(closing(proxy)))

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[[int], Client]]:
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(closing(Client(port)))


Sites = Callable[..., Site]
Connect = Callable[[int], Client]


@HANDLER
def test_a_handler_sees_the_address_of_the_client(
    site: Sites, connect: Connect, handler: str
) -> None:
    client = connect(site(f"handlers:{handler}").proxy.port).greeting()
    assert client.seen_as == client.address
    assert client.ask(b"hello") == b"HELLO\n"


@HANDLER
def test_both_machines_get_connections(site: Sites, connect: Connect, handler: str) -> None:
    here = site(f"handlers:{handler}")
    served_by = {connect(here.proxy.port).greeting().machine for _ in range(4)}
    assert served_by == {machine.process.pid for machine in here.machines}


@HANDLER
def test_tls_ends_in_haproxy(
    site: Sites, connect: Connect, trusting: ssl.SSLContext, handler: str
) -> None:
    here = site(f"handlers:{handler}")
    client = connect(here.proxy.tls_port).over_tls(trusting).greeting()
    assert client.seen_as == client.address
    assert client.ask(b"hello") == b"HELLO\n"


@HANDLER
def test_tls_passes_through_haproxy_and_ends_in_the_service(
    site: Sites, connect: Connect, trusting: ssl.SSLContext, handler: str
) -> None:
    here = site(f"with_tls:{handler.lower()}")
    client = connect(here.proxy.port).over_tls(trusting).greeting()
    assert client.seen_as == client.address
    assert client.ask(b"hello") == b"HELLO\n"


@HANDLER
def test_tls_ends_in_haproxy_and_begins_again(
    site: Sites,
    connect: Connect,
    folder: Path,
    authority: trustme.CA,
    trusting: ssl.SSLContext,
    handler: str,
) -> None:
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    again = f"ssl verify required ca-file {folder}/authority.pem check-sni chat.example"
    change = "send-proxy-v2", f"send-proxy-v2 {again}"
    here = site(f"with_tls:{handler.lower()}", change)
    client = connect(here.proxy.tls_port).over_tls(trusting).greeting()
    assert client.seen_as == client.address
    assert client.ask(b"hello") == b"HELLO\n"


@HANDLER
def test_starttls_passes_through_haproxy(
    site: Sites, connect: Connect, trusting: ssl.SSLContext, handler: str
) -> None:
    client = connect(site(f"handlers:{handler}").proxy.port).greeting()
    assert client.ask(b"starttls") == b"STARTTLS\n"
    client.over_tls(trusting)
    assert client.ask(b"hello") == b"HELLO\n"


@HANDLER
def test_a_machine_that_is_told_to_stop_finishes_and_the_other_one_goes_on(
    site: Sites, connect: Connect, handler: str
) -> None:
    here = site(f"handlers:{handler}")
    client = connect(here.proxy.port).greeting()
    client.send(b"hello\nhalf of a mess")  # the half comes with what is answered
    assert client.line() == b"HELLO\n"
    (stops,) = (each for each in here.machines if each.process.pid == client.machine)
    (goes_on,) = (each for each in here.machines if each is not stops)
    stops.terminate()
    stops.wait_for("draining: ")
    for _ in range(4):
        newcomer = connect(here.proxy.port).greeting()
        assert newcomer.machine == goes_on.process.pid
        assert newcomer.ask(b"hello") == b"HELLO\n"
    client.send(b"age\n")
    assert client.line() == b"HALF OF A MESSAGE\n"
    assert client.line() == b""
    assert stops.end() == 0
    assert " 0 were cut" in stops.log
