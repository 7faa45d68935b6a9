"""``twistd asynchat`` and ``twist asynchat``, run as an operator runs them."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from serving import Serve, starting, twistd, twistd_in_foreground

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

class Inherits(NeedsArguments):
    pass

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
        return twistd_in_foreground()
    return [
        sys.executable,
        "-c",
        "from twisted.application.twist._twist import Twist; import sys; Twist.main(sys.argv)",
    ]


def in_words(tool: str) -> list[str]:
    """That tool, with its log as lines of text: twist has JSON where that is no terminal."""
    return [*command(tool), *(["--log-format=text"] if tool == "twist" else []), "asynchat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_handlers.py").write_text(HANDLERS)
    (tmp_path / "broken.py").write_text("import txasynchat\nnonsense()\n")
    (tmp_path / "starts.py").write_text(STARTS)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Serve]:
    with starting(folder, command=in_words("twistd")) as start:
        yield start


def ask(address: tuple[str, int] | str, request: bytes) -> bytes:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(10)
        client.connect(address)
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("tool", ["twistd", "twist"])
def test_it_serves_the_echo_example_when_told_no_handler(tool: str, start: Serve) -> None:
    service = start("--listen", "tcp:0:interface=127.0.0.1", command=in_words(tool))
    assert ask(("127.0.0.1", service.port()), b"ECHO 5\nhello") == b"hello"
    assert "txasynchat.echo:EchoHandler" in service.log


@pytest.mark.parametrize("reactor", ["select", "poll", "asyncio"])
def test_it_leaves_the_choice_of_the_reactor_to_the_operator(reactor: str, start: Serve) -> None:
    twistd = twistd_in_foreground(f"--reactor={reactor}", "asynchat")
    service = start("-l", "tcp:0:interface=127.0.0.1", command=twistd)
    assert ask(("127.0.0.1", service.port()), b"ECHO 5\nhello") == b"hello"


def test_it_serves_a_handler_of_the_current_folder_on_several_endpoints(
    folder: Path, start: Serve
) -> None:
    path = str(folder / "socket")
    service = start(
        *("--handler", "my_handlers:Upper"),
        *("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{path}"),
    )
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
        (["--handler", "my_handlers:Inherits"], "needs other arguments: .*colour.*--arg"),
        (["--handler", "my_handlers:TwoArguments"], "needs other arguments: .*host.*--arg"),
        (["--handler", "my_handlers:BadServer"], r"TypeError: .* \(my_handlers.py, line 27\)"),
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
            twistd_in_foreground("asynchat", "--listen", endpoint),
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
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        result = subprocess.run(
            twistd("--pidfile=pid", "--logfile=log", "asynchat", "--listen", endpoint),
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
