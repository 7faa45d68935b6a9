"""What all examples have in common: a docstring that is true, and a clean end."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from examples.conftest import Address, Client, Example

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
#: What to send to each server, and how its answer begins.
SERVERS = {
    "async_handler": (b"sleep 0\n", b"slept 0\n"),
    "chat_room": (b"", b"* Welcome!"),
    "echo": (b"ECHO 2\nhi", b"hi"),
    "file_transfer": (b"GET nothing\n", b"error: there is no nothing\n"),
    "http_server": (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
    "starttls_server": (b"", b"220 localhost takes mail\r\n"),
}
#: Those that are no servers, or not by themselves.
OTHERS = ("json_lines", "pipelined_client", "proxy")
#: What those say first that do not wait to be asked.
GREETINGS = (b"* Welcome! What is your name?\r\n", b"220 localhost takes mail\r\n")


def source(name: str) -> str:
    return (ROOT / "examples" / f"{name}.py").read_text()


def docstring(name: str) -> str:
    found = ast.get_docstring(ast.parse(source(name)))
    assert found
    return found


def shell_lines(name: str) -> list[str]:
    return re.findall(r"^    (\S.*)$", docstring(name), re.MULTILINE)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    python_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": python_first},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        text=True,
        check=False,
    )


def test_each_example_is_known_here() -> None:
    assert sorted([*SERVERS, *OTHERS]) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_docstring_has_the_shell_line_that_starts_it(name: str) -> None:
    assert any(line.endswith(f"python examples/{name}.py") for line in shell_lines(name))


@pytest.mark.parametrize("name", SERVERS)
def test_the_docstring_names_the_port_that_it_listens_on_by_default(name: str) -> None:
    port = re.search(r'default="tcp:(\d+):interface=127.0.0.1"', source(name))
    assert port is not None
    assert re.search(rf"127\.0\.0\.1[ :]{port[1]}\b", shell_lines(name)[-1])


def test_no_two_examples_listen_on_the_same_port_by_default() -> None:
    default = r'"--listen", metavar="ENDPOINT", default="tcp:(\d+):'
    ports = [port for name in EXAMPLES for port in re.findall(default, source(name))]
    assert len(ports) == len(SERVERS) + 1  # the proxy
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_is_the_docstring(name: str) -> None:
    done = run(sys.executable, f"examples/{name}.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert docstring(name) in done.stdout


def test_the_shell_line_of_json_lines_does_what_it_says() -> None:
    (line,) = shell_lines("json_lines")
    done = run("sh", "-c", line)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"result": 3}\n', "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
@pytest.mark.parametrize("name", SERVERS)
def test_a_signal_ends_a_server_and_its_connections_cleanly(
    start: Callable[..., Example],
    connect_to: Callable[[Address], Client],
    name: str,
    number: signal.Signals,
) -> None:
    example = start(name, "--listen", "tcp:0:interface=127.0.0.1")
    address = example.address()
    idle, client = connect_to(address), connect_to(address)
    sent, answer = SERVERS[name]
    client.send(sent)
    assert client.file.read(len(answer)) == answer
    example.stop(number)
    assert idle.rest() in (b"", *GREETINGS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_ends_json_lines_cleanly_while_its_input_is_open(
    start: Callable[..., Example], number: signal.Signals
) -> None:
    example = start("json_lines")
    stdin = example.process.stdin
    assert stdin is not None
    stdin.write(b'{"echo": 1}\n')
    stdin.flush()
    assert example.line() == '{"result": 1}\n'
    example.process.send_signal(number)
    # wait, not communicate: that would end its input.
    assert example.process.wait(timeout=20) == 0
    assert example.process.communicate(timeout=20) == (b"", b"")
