"""``twistd asynchat`` and ``twist asynchat``, run as an operator runs them."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

HANDLERS = """
import asyncore
import txasynchat
from twisted.internet.protocol import Factory

class Upper(txasynchat.AsyncChat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)
    def found_terminator(self):
        self.push(self._get_data().upper() + b"\\n")

class NeedsArguments(Upper):
    def __init__(self, colour):
        self.colour = colour

class TwoArguments(Factory):
    def __init__(self, host, port):
        self.host = host

class BadServer(asyncore.dispatcher):
    def __init__(self):
        self.name = "number " + 5
    def handle_accepted(self, sock, addr):
        pass

not_a_class = 5
"""


#: A program that serves when it is imported, not only when it is run.
STARTS = """
import asyncore

class Server(asyncore.dispatcher):
    def handle_accepted(self, sock, addr):
        sock.close()

server = Server()
server.create_socket()
server.bind(("127.0.0.1", 0))
server.listen(5)
asyncore.loop()
"""


def command(tool: str) -> list[str]:
    """How to run a tool of Twisted's with the interpreter of the tests."""
    if tool == "twistd":
        return [
            sys.executable,
            "-c",
            "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()",
            "--nodaemon",
            "--pidfile=",
        ]
    return [
        sys.executable,
        "-c",
        "from twisted.application.twist._twist import Twist; import sys; Twist.main(sys.argv)",
    ]


class Service:
    """A running service, what it logs, and where it listens."""

    def __init__(
        self, tool: str, folder: Path, *arguments: str, before: tuple[str, ...] = ()
    ) -> None:
        # twist logs JSON where its output is no terminal
        as_text = ["--log-format=text"] if tool == "twist" else []
        self.process = subprocess.Popen(
            [*command(tool), *as_text, *before, "asynchat", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read its log up to a line that matches."""
        assert self.process.stdout is not None
        timer = threading.Timer(30, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                self.log.append(line)
                if match := re.search(pattern, line):
                    return match
        finally:
            timer.cancel()
        raise AssertionError(f"no {pattern!r} in:\n{''.join(self.log)}")

    def port(self) -> int:
        return int(self.wait_for(r"serving .* on 127\.0\.0\.1:(\d+) ").group(1))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_handlers.py").write_text(HANDLERS)
    (tmp_path / "broken.py").write_text("import txasynchat\nnonsense()\n")
    (tmp_path / "starts.py").write_text(STARTS)
    return tmp_path


@pytest.fixture
def services() -> Iterator[list[Service]]:
    running: list[Service] = []
    yield running
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate(timeout=10)


def ask(address: tuple[str, int] | str, request: bytes) -> bytes:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(10)
        client.connect(address)
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("tool", ["twistd", "twist"])
def test_it_serves_the_echo_example_when_told_no_handler(
    tool: str, folder: Path, services: list[Service]
) -> None:
    service = Service(tool, folder, "--listen", "tcp:0:interface=127.0.0.1")
    services.append(service)
    assert ask(("127.0.0.1", service.port()), b"ECHO 5\nhello") == b"hello"
    assert "txasynchat.echo:EchoHandler" in "".join(service.log)
    service.end()


@pytest.mark.parametrize("reactor", ["select", "poll", "asyncio"])
def test_it_leaves_the_choice_of_the_reactor_to_the_operator(
    reactor: str, folder: Path, services: list[Service]
) -> None:
    before = (f"--reactor={reactor}",)
    service = Service("twistd", folder, "-l", "tcp:0:interface=127.0.0.1", before=before)
    services.append(service)
    assert ask(("127.0.0.1", service.port()), b"ECHO 5\nhello") == b"hello"


def test_it_serves_a_handler_of_the_current_folder_on_several_endpoints(
    folder: Path, services: list[Service]
) -> None:
    path = str(folder / "socket")
    service = Service(
        "twistd",
        folder,
        *("--handler", "my_handlers:Upper"),
        *("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{path}"),
    )
    services.append(service)
    port = service.port()
    service.wait_for("serving .*unix:")
    assert ask(("127.0.0.1", port), b"over tcp\n") == b"OVER TCP\n"
    assert ask(path, b"over unix\n") == b"OVER UNIX\n"


@pytest.mark.parametrize("tool", ["twistd", "twist"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "nonsense:1"], "--listen nonsense:1: .*Unknown endpoint type"),
        (["--listen", "tcp:x"], "--listen tcp:x: "),
        (["--handler", "nocolon"], "--handler nocolon: expected MODULE:NAME"),
        (["--handler", "no_such_module:X"], "--handler no_such_module:X: .*No module named"),
        (["--handler", "my_handlers:Missing"], "--handler my_handlers:Missing: .*Missing"),
        (["--handler", "my_handlers:not_a_class"], "no subclass of txasynchat.AsyncChat"),
        (["--handler", "my_handlers:NeedsArguments"], "needs other arguments: .*colour.*--arg"),
        (["--handler", "my_handlers:TwoArguments"], "needs other arguments: .*host.*--arg"),
        (["--handler", "my_handlers:BadServer"], r"TypeError: .* \(my_handlers.py, line 24\)"),
        (["--listen", "systemd:domain=INET:index=0"], "systemd has passed no socket of that"),
        (["--handler", "my_handlers:Upper", "--arg", "5"], "needs other arguments: .*too many"),
        (["--handler", "broken:Handler"], r"NameError: .*'nonsense'.* \(broken.py, line 2\)"),
        (["--max-connections", "many"], "--max-connections many: expected a whole number"),
        (["--max-per-peer=-1"], "--max-per-peer -1: expected a whole number"),
        (["--max-message-length", "1.5"], "--max-message-length 1.5: expected a whole number"),
        (["--max-queued-output", ""], "--max-queued-output : expected a whole number"),
        (["--idle-timeout", "nan"], "--idle-timeout nan: expected a number of seconds"),
        (["--first-message-timeout", "x"], "--first-message-timeout x: expected a number of"),
        (["--close-timeout=-1"], "--close-timeout -1: expected a number of seconds"),
        (["--drain-timeout", "inf"], "--drain-timeout inf: expected a number of seconds"),
        (["--workers", "0"], "--workers 0: expected a number above 0"),
        (["--workers", "two"], "--workers two: expected a whole number"),
        (["--metrics", "nonsense"], "--metrics nonsense: "),
        (["--trace", "no/such/folder/file"], "--trace no/such/folder/file: .*No such file"),
        (["--trace", "t", "--trace-mask", "os"], "--trace-mask os: expected MODULE:NAME"),
        (["--trace", "t", "--trace-mask", "os:sep"], "--trace-mask os:sep: is not callable"),
        (["--trace-mask", "os:getcwd"], "--trace-mask os:getcwd: there is no --trace"),
        (["--handler", "starts:Server"], "starts runs asyncore.loop\\(\\) when it is imported"),
    ],
)
def test_a_bad_value_is_one_clear_line(
    tool: str, arguments: list[str], says: str, folder: Path
) -> None:
    result = subprocess.run(
        [*command(tool), "asynchat", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode != 0
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert re.search(f"^asynchat: .*{says}", line)


def test_an_address_that_is_taken_is_one_clear_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        result = subprocess.run(
            [*command("twistd"), "asynchat", "--listen", endpoint],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert result.returncode != 0
    last = (result.stdout + result.stderr).splitlines()[-1]
    assert f"asynchat: --listen {endpoint}: " in last
    assert "in use" in last


def test_an_address_that_is_taken_ends_a_daemon_as_well(folder: Path) -> None:
    twistd = [argument for argument in command("twistd") if argument != "--nodaemon"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        result = subprocess.run(
            [*twistd, "--pidfile=pid", "--logfile=log", "asynchat", "--listen", endpoint],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert result.returncode != 0
    assert f"asynchat: --listen {endpoint}: " in result.stdout + result.stderr
    # twistd tells its caller first, and then removes the file and ends.
    wait_for_the_end_of_the_process_in(folder / "pid")
    assert not (folder / "pid").exists()


def wait_for_the_end_of_the_process_in(pidfile: Path) -> None:
    with suppress(FileNotFoundError, ProcessLookupError):
        process = os.pidfd_open(int(pidfile.read_text()))
        try:
            assert select.select([process], [], [], 30)[0], "the daemon goes on"
        finally:
            os.close(process)


@pytest.mark.parametrize("tool", ["twistd", "twist"])
def test_help_says_what_it_does(tool: str, folder: Path) -> None:
    result = subprocess.run(
        [*command(tool), "asynchat", "--help"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    text = " ".join(result.stdout.split())
    for words in ("--listen=", "--handler=", "Twisted server endpoint string", "nc -q1"):
        assert words in text
