"""Legacy handlers and servers under ``twistd``, run as an operator runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from serving import Running, Serve, starting, twistd, twistd_in_foreground
from support import until
from twisted.internet.threads import deferToThread

TIMEOUT = 30
Address: TypeAlias = tuple[str, int] | str

#: A program of the old days.
PROGRAM = """
import asynchat
import asyncore

class Upper(asynchat.async_chat):
    def __init__(self, sock, addr):
        asynchat.async_chat.__init__(self, sock)
        self.words = []
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self.words.append(data)
    def found_terminator(self):
        line = b"".join(self.words)
        self.words = []
        self.push(line.upper() + b"\\n")

class UpperOfSocket(Upper):
    def __init__(self, sock):
        Upper.__init__(self, sock, None)

class UpperOfSocketAndMap(Upper):
    def __init__(self, sock=None, map=None):
        Upper.__init__(self, sock, None)

class UpperWithDefaults(Upper):
    def __init__(self, conn, client_address, server=None, *, colour="red"):
        Upper.__init__(self, conn, client_address)

class Plain(asyncore.dispatcher):
    def __init__(self, sock, addr):
        asyncore.dispatcher.__init__(self, sock)
        self.out = b""
    def writable(self):
        return bool(self.out)
    def handle_read(self):
        self.out += self.recv(8192).upper()
    def handle_write(self):
        self.out = self.out[self.send(self.out):]
    def handle_close(self):
        self.close()

class Server(asyncore.dispatcher):
    def __init__(self):
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.set_reuse_addr()
        self.bind(("127.0.0.1", 0))
        self.listen(5)
    def handle_accepted(self, sock, addr):
        Upper(sock, addr)

class OldServer(Server):
    def handle_accept(self):
        pair = self.accept()
        if pair is not None:
            Upper(*pair)

class ServerOnPort(Server):
    def __init__(self, port):
        Server.__init__(self)

server = ServerOnPort(0)

class ThreeRequired(Upper):
    def __init__(self, server, sock, addr):
        Upper.__init__(self, sock, addr)

class KeywordRequired(Upper):
    def __init__(self, sock, addr, *, server):
        Upper.__init__(self, sock, addr)

class NothingTaken(Upper):
    def __init__(self):
        pass

class NoDispatcher:
    def __init__(self, sock, addr):
        pass

class FailingServer(Server):
    def __init__(self):
        raise KeyError("no such colour")

class ServerWithoutLuck(Server):
    def __init__(self):
        raise OSError("no such interface")

handler = asynchat.async_chat()

def function(sock, addr):
    return Upper(sock, addr)
"""


def environment() -> dict[str, str]:
    """The tests', without what would make the process warn, or measure itself."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COV_", "PYTHONW"))
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old_program.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Serve]:
    with starting(folder) as start:
        yield start


def connect(address: Address) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    try:
        client.settimeout(10)
        client.connect(address)
    except BaseException:
        client.close()
        raise
    return client


@contextmanager
def talking(address: Address) -> Iterator[Callable[[bytes], bytes]]:
    """A connection: to be called with what to send, or nothing; gives the next line."""
    with connect(address) as client, client.makefile("rb") as answers:

        def say(request: bytes) -> bytes:
            client.sendall(request)
            return answers.readline()

        yield say


def ask(address: Address, request: bytes) -> bytes:
    """The one line that answers."""
    with talking(address) as say:
        return say(request)


def serve(start: Serve, name: str, *more: str, reactor: str = "default") -> Running:
    command = twistd_in_foreground(f"--reactor={reactor}", "asynchat")
    tcp = "tcp:0:interface=127.0.0.1"
    return start("--handler", f"old_program:{name}", "--listen", tcp, *more, command=command)


# -- twistd asynchat --handler ---------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Upper",
        "UpperOfSocket",
        "UpperOfSocketAndMap",
        "UpperWithDefaults",
        "Plain",
        "Server",
        "OldServer",
        "server",
    ],
)
def test_it_serves_what_an_old_program_has(name: str, start: Serve) -> None:
    service = serve(start, name)
    address = "127.0.0.1", service.port()
    with talking(address) as say:
        assert say(b"hello\n") == b"HELLO\n"
        assert ask(address, b"another\n") == b"ANOTHER\n"
        assert say(b"again\n") == b"AGAIN\n"
    service.terminate()
    assert service.end() == 0
    assert "Traceback" not in service.log


@pytest.mark.parametrize("name", ["Upper", "Server"])
def test_it_serves_it_on_several_endpoints(name: str, folder: Path, start: Serve) -> None:
    path = str(folder / "socket")
    service = serve(start, name, "--listen", f"unix:{path}")
    port = service.port()
    service.wait_for("serving .*unix:")
    assert ask(("127.0.0.1", port), b"over tcp\n") == b"OVER TCP\n"
    assert ask(path, b"over unix\n") == b"OVER UNIX\n"


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_it_serves_it_on_the_reactor_of_the_operators_choice(reactor: str, start: Serve) -> None:
    if reactor == "epoll" and not sys.platform.startswith("linux"):
        pytest.skip("epoll is Linux's")
    service = serve(start, "Server", reactor=reactor)
    assert ask(("127.0.0.1", service.port()), b"hello\n") == b"HELLO\n"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ThreeRequired", r"constructed with \(server, sock, addr\), not with \(sock, addr\)"),
        ("NothingTaken", r"not with \(sock, addr\)"),
        ("KeywordRequired", "server"),
        ("NoDispatcher", "no subclass of txasynchat.AsyncChat, no asyncore dispatcher"),
        ("handler", "accept"),
        ("ServerOnPort", "needs other arguments: .*port"),
        ("FailingServer", "no such colour"),
        ("ServerWithoutLuck", "no such interface"),
        ("Missing", "Missing"),
    ],
)
def test_what_can_not_be_served_is_one_clear_line(name: str, says: str, folder: Path) -> None:
    arguments = ["--handler", f"old_program:{name}", "--listen", "tcp:0:interface=127.0.0.1"]
    result = subprocess.run(
        twistd_in_foreground("asynchat", *arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert re.search(f"^asynchat: --handler old_program:{name}: .*{says}", line)


def test_help_says_that_old_handlers_and_servers_are_taken(folder: Path) -> None:
    result = subprocess.run(
        twistd("asynchat", "--help"),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    text = " ".join(result.stdout.split())
    assert "constructed with (sock, addr)" in text
    assert "a server for asyncore" in text


# -- Next to ordinary services ---------------------------------------------------------


#: Beside a service of Twisted's, a server of the old days, with a socket of its own.
BESIDE = """
import txasynchat
txasynchat.install()
import asyncore
import old_program

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

class Echo(Protocol):
    def connectionMade(self):
        echoing.append(self)
    def dataReceived(self, data):
        self.transport.write(data)
    def connectionLost(self, reason):
        echoing.remove(self)

echoing = []
application = Application("both")
echo = serverFromString(reactor, "unix:echo")
StreamServerEndpointService(echo, Factory.forProtocol(Echo)).setServiceParent(application)

class Server(old_program.Server):
    def handle_accepted(self, sock, addr):
        Talker(sock, addr)

class Talker(old_program.Upper):
    # What it is told it also says to the clients of the other service.
    def found_terminator(self):
        for each in echoing:
            each.transport.write(b"".join(self.words) + b"!\\n")
        old_program.Upper.found_terminator(self)

server = Server()
address = "%s:%d" % server.socket.getsockname()
reactor.callWhenRunning(Logger().info, "serving both on {address} and echo", address=address)
"""


@pytest.fixture
def both(folder: Path) -> Path:
    (folder / "both.tac").write_text(BESIDE)
    return folder


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_an_old_server_and_a_service_of_twisteds_are_served_by_one_process(
    reactor: str, both: Path, start: Serve
) -> None:
    if reactor == "epoll" and not sys.platform.startswith("linux"):
        pytest.skip("epoll is Linux's")
    command = twistd_in_foreground(f"--reactor={reactor}", "--python=both.tac")
    service = start(command=command)
    port = service.wait_for(r"serving both on 127\.0\.0\.1:(\d+) ").group(1)
    address = "127.0.0.1", int(port)
    with talking(str(both / "echo")) as say_echo, talking(address) as say_old:
        for number in range(20):
            assert say_echo(b"echo %d\n" % number) == b"echo %d\n" % number
            assert say_old(b"old %d\n" % number) == b"OLD %d\n" % number
            assert say_echo(b"") == b"old %d!\n" % number
    service.terminate()
    assert service.end() == -signal.SIGTERM, "as Twisted has it, where it is not twistd asynchat"
    assert "Traceback" not in service.log


# -- In the background -----------------------------------------------------------------


class Daemon:
    """A twistd that has gone into the background."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.result = subprocess.run(
            twistd("--pidfile=pid", "--logfile=log", "--rundir=.", *arguments),
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def port(self) -> int:
        match = re.search(r"serving .* on 127\.0\.0\.1:(\d+) ", self.log)
        assert match, self.log
        return int(match.group(1))

    def is_gone(self) -> bool:
        return not (self.folder / "pid").exists()

    def signal(self, number: int) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.folder / "pid").read_text()), number)


@pytest.fixture
def daemons() -> Iterator[list[Daemon]]:
    """Those that are in the background: killed after the test."""
    running: list[Daemon] = []
    yield running
    for each in running:
        each.signal(signal.SIGKILL)


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select"])
@pytest.mark.parametrize("name", ["Upper", "Server", "server"])
async def test_a_daemon_serves_what_an_old_program_has(
    name: str, reactor: str, folder: Path, daemons: list[Daemon]
) -> None:
    if reactor == "epoll" and not sys.platform.startswith("linux"):
        pytest.skip("epoll is Linux's")
    arguments = ["--handler", f"old_program:{name}", "--listen", "tcp:0:interface=127.0.0.1"]
    daemon = Daemon(folder, f"--reactor={reactor}", "asynchat", *arguments)
    daemons.append(daemon)
    assert daemon.result.returncode == 0, daemon.result.stderr
    for _ in range(3):
        answer = await deferToThread(ask, ("127.0.0.1", daemon.port()), b"hello\n")
        assert answer == b"HELLO\n"
    daemon.signal(signal.SIGTERM)
    await until(daemon.is_gone)
    assert "Traceback" not in daemon.log


async def test_a_daemon_serves_an_old_server_beside_a_service_of_twisteds(
    both: Path, daemons: list[Daemon]
) -> None:
    # The server began to listen before the process went into the background.
    daemon = Daemon(both, "--python=both.tac")
    daemons.append(daemon)
    assert daemon.result.returncode == 0, daemon.result.stderr
    await until(lambda: "serving both" in daemon.log)
    port = daemon.port()
    for _ in range(3):
        answer = await deferToThread(ask, ("127.0.0.1", port), b"hello\n")
        assert answer == b"HELLO\n"
        assert await deferToThread(ask, str(both / "echo"), b"echo\n") == b"echo\n"
    daemon.signal(signal.SIGTERM)
    await until(daemon.is_gone)
    assert "Traceback" not in daemon.log
