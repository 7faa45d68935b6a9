"""Each example runs as a process of its own, and is spoken to by clients without Twisted."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT = 20
Address = tuple[str, int]


class Example:
    """A running example."""

    def __init__(self, name: str, *arguments: str) -> None:
        command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def line(self) -> str:
        """The next line of its standard output."""
        stdout = self.process.stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], TIMEOUT)
        if not readable:
            self.process.kill()
            pytest.fail(f"no line within {TIMEOUT} s; on stderr: {self.process.communicate()[1]!r}")
        return stdout.readline().decode()

    def address(self) -> Address:
        """Where it says that it listens."""
        line = self.line()
        assert line.startswith("listening on ")
        host, _, port = line.split()[-1].rpartition(":")
        return host, int(port)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal; it must end at once, cleanly, and have nothing to say."""
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=TIMEOUT)
        assert (self.process.returncode, stdout, stderr) == (0, b"", b"")


class Client:
    """A socket that gives up after a time."""

    def __init__(self, address: Address | str) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(address)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send each byte in a packet of its own."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            self.socket.sendall(bytes([byte]))

    def finish(self) -> None:
        """Send no more, but go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def line(self) -> bytes:
        return self.file.readline()

    def rest(self) -> bytes:
        """All up to the end of the connection."""
        return self.file.read()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@contextmanager
def running(name: str, *arguments: str) -> Iterator[Example]:
    example = Example(name, *arguments)
    try:
        yield example
    finally:
        if example.process.poll() is None:
            example.process.kill()
        example.process.communicate(timeout=TIMEOUT)


@pytest.fixture
def start() -> Iterator[Callable[..., Example]]:
    """Starts an example, by its name and arguments; it is ended after the test."""
    with ExitStack() as stack:
        yield lambda *command: stack.enter_context(running(*command))


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest) -> Iterator[Address]:
    """Where the example listens that the test module is named after.

    It serves all tests of the module, then must end without a word of complaint.
    """
    name = request.path.stem.removeprefix("test_")
    with running(name, "--listen", "tcp:0:interface=127.0.0.1") as example:
        yield example.address()
        example.stop()


@pytest.fixture
def connect_to() -> Iterator[Callable[[Address | str], Client]]:
    """Connects a client to an address; it is closed after the test."""
    with ExitStack() as stack:
        yield lambda address: stack.enter_context(closing(Client(address)))


@pytest.fixture
def connect(
    address: Address, connect_to: Callable[[Address | str], Client]
) -> Callable[[], Client]:
    """Connects a client to the module's example; it is closed after the test."""
    return lambda: connect_to(address)
