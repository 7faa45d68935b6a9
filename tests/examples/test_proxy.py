"""Clients and servers that know nothing of the proxy, or of each other's pace."""

from __future__ import annotations

import re
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from examples.peers import TIMEOUT, Server, all_of

if TYPE_CHECKING:
    from examples.conftest import Address, Client, Example

BLOCK = bytes(range(256)) * 256
#: More than the sockets of a connection ever buffer, here and there: 64 MiB.
FLOOD = 1024

Behind = Callable[[Callable[[socket.socket], object]], "Example"]


@pytest.fixture
def behind(start: Callable[..., Example]) -> Iterator[Behind]:
    """Starts a proxy in front of a server that talks as the given function does."""
    with ExitStack() as stack:

        def make(talk: Callable[[socket.socket], object]) -> Example:
            server = stack.enter_context(closing(Server(talk)))
            return start("proxy", "--listen", "tcp:0:interface=127.0.0.1", "--to", server.endpoint)

        yield make


def peak_memory(example: Example) -> int:
    """What it ever needed, in KiB."""
    status = Path(f"/proc/{example.process.pid}/status")
    if not status.exists():
        pytest.skip("only Linux says how much memory a process needed")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
    assert found
    return int(found[1])


def upper(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data.upper())


def test_both_directions_are_passed_on(
    behind: Behind, connect_to: Callable[[Address], Client]
) -> None:
    example = behind(upper)
    clients = [connect_to(example.address())]
    host, port = clients[0].socket.getpeername()
    clients += [connect_to((host, port)) for _ in range(9)]
    for number, client in enumerate(clients):
        client.send(b"hello %d\n" % number)
    for number, client in enumerate(clients):
        assert client.line() == b"HELLO %d\n" % number
    example.stop()


def test_a_client_that_finished_sending_gets_its_answer(
    behind: Behind, connect_to: Callable[[Address], Client]
) -> None:
    example = behind(lambda connection: connection.sendall(b"%d bytes" % len(all_of(connection))))
    client = connect_to(example.address())
    client.send(b"hello")
    client.finish()
    assert client.rest() == b"5 bytes"
    example.stop()


def test_the_servers_end_is_the_clients(
    behind: Behind, connect_to: Callable[[Address], Client]
) -> None:
    example = behind(lambda connection: connection.sendall(BLOCK * 100))
    client = connect_to(example.address())
    assert client.rest() == BLOCK * 100
    example.stop()


@pytest.mark.parametrize("way", ["closes", "resets"])
def test_the_server_sees_that_a_client_went(
    behind: Behind, connect_to: Callable[[Address], Client], way: str
) -> None:
    gone = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"hello\n")
        try:
            all_of(connection)
        finally:
            gone.set()

    example = behind(talk)
    client = connect_to(example.address())
    assert client.line() == b"hello\n"
    if way == "resets":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert gone.wait(TIMEOUT)
    example.stop()


def test_a_server_that_does_not_read_stops_the_client_and_costs_no_memory(
    behind: Behind, connect_to: Callable[[Address], Client]
) -> None:
    reads = threading.Event()

    def talk(connection: socket.socket) -> None:
        assert reads.wait(TIMEOUT)
        connection.sendall(sha256(all_of(connection)).hexdigest().encode())

    example = behind(talk)
    client = connect_to(example.address())
    before = peak_memory(example)
    sent, digest = 0, sha256()
    client.socket.setblocking(False)
    # Until the proxy takes no more; without flow control it would take all of it.
    while sent < FLOOD * len(BLOCK) and select.select([], [client.socket], [], 0.5)[1]:
        size = client.socket.send(BLOCK)
        digest.update(BLOCK[:size])
        sent += size
    assert sent < FLOOD * len(BLOCK) / 2
    assert peak_memory(example) - before < 8 * 1024
    reads.set()
    client.socket.settimeout(TIMEOUT)
    client.send(BLOCK)
    digest.update(BLOCK)
    client.finish()
    assert client.rest() == digest.hexdigest().encode()
    example.stop()


def test_a_client_that_does_not_read_stops_the_server_and_costs_no_memory(
    behind: Behind, connect_to: Callable[[Address], Client]
) -> None:
    stopped = threading.Event()
    sent = 0

    def talk(connection: socket.socket) -> None:
        nonlocal sent
        connection.setblocking(False)
        while sent < FLOOD * len(BLOCK) and select.select([], [connection], [], 0.5)[1]:
            sent += connection.send(BLOCK[sent % len(BLOCK) :])
        stopped.set()

    example = behind(talk)
    client = connect_to(example.address())
    before = peak_memory(example)
    assert stopped.wait(TIMEOUT)
    assert 0 < sent < FLOOD * len(BLOCK) / 2
    assert peak_memory(example) - before < 8 * 1024
    # All in order and none lost, though the server has gone.
    got = client.rest()
    assert len(got) == sent
    assert got == (BLOCK * (sent // len(BLOCK) + 1))[:sent]
    example.stop()


def test_nobody_behind_it_ends_the_connection_and_is_complained_about(
    start: Callable[..., Example], connect_to: Callable[[Address], Client]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
        example = start("proxy", "--listen", "tcp:0:interface=127.0.0.1", "--to", target)
        assert connect_to(example.address()).rest() == b""
    example.process.send_signal(signal.SIGTERM)
    _, stderr = example.process.communicate(timeout=TIMEOUT)
    assert example.process.returncode == 0
    assert b"Connection was refused" in stderr
