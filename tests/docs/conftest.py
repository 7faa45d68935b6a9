"""A terminal: the commands that pages show are typed there, with the environment of the tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import bare_environment

TIMEOUT = 60


class Job:
    """A command that goes on, and what it has printed so far."""

    def __init__(self, line: str, folder: Path, environment: dict[str, str]) -> None:
        # A group of its own: it may be several processes.
        self.process = subprocess.Popen(
            ["sh", "-c", line],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self._has_ended = False
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.output += line
                self._more.notify_all()
        with self._more:
            self._has_ended = True
            self._more.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until what it has printed matches."""
        with self._more:
            self._more.wait_for(lambda: self._has_ended or re.search(pattern, self.output), TIMEOUT)
        found = re.search(pattern, self.output)
        assert found, f"no {pattern!r} in:\n{self.output}"
        return found

    def port(self, endpoint: str = "") -> int:
        """Where a service serves, or a program says that it listens."""
        at = rf"(?:serving \S+|listening) on 127\.0\.0\.1:(\d+)(?: \(--listen {endpoint}.*\))?\n"
        return int(self.wait_for(at).group(1))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send all its processes a signal, and wait for their end."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)


class Terminal:
    """A folder, and an environment that is active.

    :param path: folders with programs, in front of the others.
    """

    def __init__(self, folder: Path, *path: Path) -> None:
        self.folder = folder
        folders = [str(each) for each in path] + [os.environ["PATH"]]
        self.environment = {
            **bare_environment(),
            "PATH": os.pathsep.join(folders),
            # A test may change a module twice within the second that a .pyc can tell.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.jobs: list[Job] = []

    def run(self, line: str, status: int = 0) -> str:
        """Run a command that ends; what it prints."""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, f"{line}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, line: str) -> Job:
        """Start a command that goes on."""
        self.jobs.append(Job(line, self.folder, self.environment))
        return self.jobs[-1]

    def ask(self, port: int, data: bytes) -> bytes:
        """What a server answers to one who sends this and no more."""
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def hear(self, port: int, data: bytes, end: bytes) -> bytes:
        """What a server answers to one who sends this and stays, up to these last words."""
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            client.sendall(data)
            heard = b""
            while not heard.endswith(end):
                more = client.recv(65536)
                assert more, heard
                heard += more
            return heard

    def close(self) -> None:
        """Kill what still goes on."""
        for each in self.jobs:
            each.stop(signal.SIGKILL)
            assert each.process.stdout is not None
            each.process.stdout.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in a folder of its own; the environment of the tests is active."""
    made = Terminal(tmp_path, Path(sys.executable).parent)
    yield made
    made.close()


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    """Opens a terminal in a folder, where no environment is active but ``python3`` is ours."""
    opened: list[Terminal] = []

    def open_in(folder: Path, *path: Path) -> Terminal:
        opened.append(Terminal(folder, *path))
        return opened[-1]

    yield open_in
    for each in opened:
        each.close()


@pytest.fixture
def nc() -> None:
    """For commands with nc."""
    if shutil.which("nc") is None:
        pytest.skip("there is no nc here: apt install netcat-openbsd")


@pytest.fixture
def openssl() -> None:
    """For commands with openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here: apt install openssl")
