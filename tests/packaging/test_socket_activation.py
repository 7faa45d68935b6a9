"""Started as systemd starts a service: with the sockets open, and no systemd."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import bare_environment

# Between fork and exec systemd puts the sockets at 3 and onwards and says whose they are.
LAUNCHER = """
import os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
high = [os.dup(os.dup(number)) for number in numbers]
for place, number in enumerate(high, 3):
    os.dup2(number, place, inheritable=True)
os.environ["LISTEN_FDS"] = str(len(numbers))
os.environ["LISTEN_FDNAMES"] = ":".join(["chat"] * len(numbers))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

TWISTD = [
    "-c",
    "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()",
    "--nodaemon",
    "--pidfile=",
]
TWIST = ["-m", "twisted", "--log-format=text"]


class Activated:
    """A service that was started with sockets, and its log."""

    def __init__(
        self, tool: list[str], folder: Path, sockets: list[socket.socket], *listen: str
    ) -> None:
        numbers = [each.fileno() for each in sockets]
        launcher = [sys.executable, "-c", LAUNCHER, ",".join(map(str, numbers))]
        arguments = [part for each in listen for part in ("--listen", each)]
        self.process = subprocess.Popen(
            [*launcher, *tool, "asynchat", *arguments],
            cwd=folder,
            env=bare_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=numbers,
        )

    def wait_for(self, pattern: str) -> None:
        assert self.process.stdout is not None
        timer = threading.Timer(30, self.process.kill)
        timer.start()
        read = []
        for line in self.process.stdout:
            read.append(line)
            if re.search(pattern, line):
                timer.cancel()
                return
        raise AssertionError(f"no {pattern!r} in:\n{''.join(read)}")

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        return self.process.returncode


@contextmanager
def activated(
    tool: list[str], folder: Path, sockets: list[socket.socket], *listen: str
) -> Iterator[Activated]:
    service = Activated(tool, folder, sockets, *listen)
    try:
        for _ in listen:
            service.wait_for("serving")
        yield service
    finally:
        service.end()


def listening_unix(path: Path) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    opened.bind(str(path))
    path.chmod(0o600)
    opened.listen()
    return opened


def echo(opened: socket.socket) -> bytes:
    with socket.socket(opened.family) as client:
        client.settimeout(20)
        client.connect(opened.getsockname())
        client.sendall(b"ECHO 5\nhello")
        return b"".join(iter(lambda: client.recv(100), b""))


@pytest.mark.parametrize("tool", [TWISTD, TWIST], ids=["twistd", "twist"])
def test_it_serves_the_sockets_that_it_was_started_with(tool: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, listening_unix(tmp_path / "chat") as unix:
        listen = ("systemd:domain=INET:index=0", "systemd:domain=UNIX:index=1")
        with activated(tool, tmp_path, [tcp, unix], *listen) as service:
            assert echo(tcp) == b"hello"
            assert echo(unix) == b"hello"
        assert service.process.returncode == 0


@pytest.mark.parametrize("reactor", ["select", "poll", "asyncio"])
def test_every_reactor_takes_the_sockets(reactor: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        tool = [*TWISTD, f"--reactor={reactor}"]
        with activated(tool, tmp_path, [tcp], "systemd:domain=INET:index=0"):
            assert echo(tcp) == b"hello"


def test_who_connected_before_it_was_started_is_served(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_connection(tcp.getsockname(), timeout=30) as client,
    ):
        client.sendall(b"ECHO 5\nhello")
        with activated(TWISTD, tmp_path, [tcp], "systemd:domain=INET:index=0"):
            assert client.recv(100) == b"hello"


def test_a_proxy_may_stand_in_front(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        activated(TWISTD, tmp_path, [tcp], "haproxy:systemd:domain=INET:index=0"),
        socket.create_connection(tcp.getsockname(), timeout=20) as client,
    ):
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\nECHO 5\nhello")
        assert client.recv(100) == b"hello"


def test_a_socket_that_was_not_passed_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        service = Activated(TWISTD, tmp_path, [tcp], "systemd:domain=INET:index=3")
        output, _ = service.process.communicate(timeout=30)
    assert service.process.returncode != 0
    (line,) = output.splitlines()
    assert line.startswith("asynchat: --listen systemd:domain=INET:index=3: ")


@pytest.mark.parametrize("family", ["INET", "UNIX"])
def test_the_next_one_serves_the_same_socket(family: str, tmp_path: Path) -> None:
    path = tmp_path / "chat"
    opened = socket.create_server(("127.0.0.1", 0)) if family == "INET" else listening_unix(path)
    with opened:
        for _ in range(2):
            with activated(TWISTD, tmp_path, [opened], f"systemd:domain={family}:index=0"):
                assert echo(opened) == b"hello"
        assert family == "INET" or os.stat(path).st_mode & 0o777 == 0o600
