"""A service of ours as a process, run as an operator runs it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support import bare_environment

#: Handlers of both faces, which answer a line in capitals.
HANDLERS = """
import asynchat
import txasynchat

class Upper(txasynchat.AsyncChat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)
    def found_terminator(self):
        self.push(self._get_data().upper() + b"\\n")
    def handle_drain(self):
        print("handle_drain of", type(self).__name__)

class OldUpper(asynchat.async_chat):
    def __init__(self, sock, addr):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)
    def found_terminator(self):
        self.push(self._get_data().upper() + b"\\n")
    def handle_drain(self):
        print("handle_drain of", type(self).__name__)
"""

BOTH_FACES = ("Upper", "OldUpper")


SERVE = (sys.executable, "-m", "txasynchat", "serve")


def twistd(*options: str) -> list[str]:
    """How to run twistd with the interpreter of the tests."""
    run = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
    return [sys.executable, "-c", run, *options]


def twistd_in_foreground(*options: str) -> list[str]:
    return twistd("--nodaemon", "--pidfile=", *options)


class Running:
    """A service that runs: its log, where it listens, how it ends."""

    def __init__(self, folder: Path, *arguments: str, command: Sequence[str] = SERVE) -> None:
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=bare_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self.lines.append("")  # the end
            self._more.notify_all()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until so many lines of the log match; the last of them."""

        def found() -> list[re.Match[str]]:
            return list(re.finditer(pattern, self.log))

        with self._more:
            ended = self._more.wait_for(lambda: len(found()) >= times or "" in self.lines, 30)
            matches = found()
        assert ended and len(matches) >= times, f"no {pattern!r} in:\n{self.log}"
        return matches[times - 1]

    def port(self, option: str = "--listen") -> int:
        """The port of the first endpoint."""
        return int(self.wait_for(rf"serving .* on 127\.0\.0\.1:(\d+) \({option}").group(1))

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port()), timeout=20)
        client.settimeout(20)
        return client

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Wait for its end; the exit status."""
        status = self.process.wait(timeout=60)
        self._close()
        return status

    def kill(self) -> None:
        """End it in any case."""
        self.process.kill()
        self.process.wait(timeout=60)
        self._close()

    def _close(self) -> None:
        self._reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()


Serve = Callable[..., Running]


@contextmanager
def starting(folder: Path, command: Sequence[str] = SERVE) -> Iterator[Serve]:
    """Gives what starts services in a folder; they are killed in the end."""
    running: list[Running] = []

    def start(*arguments: str, command: Sequence[str] = command) -> Running:
        running.append(Running(folder, *arguments, command=command))
        return running[-1]

    try:
        yield start
    finally:
        for each in running:
            each.kill()


def read_line(client: socket.socket) -> bytes:
    """What comes up to the end of a line, or of the connection."""
    data = b""
    while not data.endswith(b"\n"):
        more = client.recv(65536)
        if not more:
            break
        data += more
    return data


def ask(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    return read_line(client)
