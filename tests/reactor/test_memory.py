"""Memory stays bounded however little a peer reads. A server process, watched from outside."""

from __future__ import annotations

import hashlib
import importlib.util
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

PROGRAM = Path(__file__).with_name("memory_server.py")
MIB = 1 << 20


def program() -> Any:
    spec = importlib.util.spec_from_file_location("memory_server", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """The server process and how to reach it."""

    def __init__(self, kind: str, folder: Path, authority: trustme.CA) -> None:
        self.kind = kind
        self.path = folder / "socket"
        self.authority = authority
        pem = folder / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
        endpoint = {
            "tcp": "tcp:0:interface=127.0.0.1",
            "unix": f"unix:{self.path}",
            "tls": f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}",
        }[kind]
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), endpoint], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def connect(self) -> socket.socket:
        if self.kind == "unix":
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(60)
            client.connect(str(self.path))
            return client
        client = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        if self.kind == "tcp":
            return client
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context.wrap_socket(client, server_hostname="localhost")

    def peak_memory(self) -> int:
        """The most bytes that were resident so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def warm_up(self) -> None:
        """Let it load what it loads at its first connections."""
        for command in (b"FILL 3\n", b"anything\n"):
            with self.connect() as client:
                client.sendall(command)
                assert client.recv(1)

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)


@pytest.fixture(params=["tcp", "unix", "tls"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA
) -> Iterator[Server]:
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of a process is read from /proc, which Linux has")
    made = Server(request.param, tmp_path, authority)
    try:
        made.warm_up()
        yield made
    finally:
        made.end()


@pytest.mark.slow
def test_a_gibibyte_to_a_peer_that_reads_nothing_for_ten_seconds(server: Server) -> None:
    pieces = 1024 * MIB // 65536
    expected, received = hashlib.sha256(), hashlib.sha256()
    for number in range(1, pieces + 1):
        expected.update(program_piece(number))
    before = server.peak_memory()
    with server.connect() as client:
        client.sendall(b"FILL %d\n" % pieces)
        select.select([], [], [], 10)
        buffer = bytearray(MIB)
        while count := client.recv_into(buffer):
            received.update(memoryview(buffer)[:count])
    assert received.digest() == expected.digest()
    grown = server.peak_memory() - before
    print(f"{server.kind}: peak memory grew by {grown / MIB:.2f} MiB")
    assert grown < 8 * MIB


def test_a_hundred_thousand_commands_from_a_peer_that_reads_no_answer(server: Server) -> None:
    commands = 100_000
    before = server.peak_memory()
    with server.connect() as client:
        sender = threading.Thread(target=send_all, args=(client, b"do it\n" * commands))
        if server.kind == "tls":
            # One thread at a time may use a TLS socket: what the kernels' buffers
            # take without anyone reading is sent first, then the rest.
            client.sendall(b"do it\n" * commands)
        else:
            sender.start()
        stuck_at = settled(server)
        assert stuck_at - before < 8 * MIB
        received = 0
        with client.makefile("rb") as answers:
            for number in range(1, commands + 1):
                line = answers.readline()
                assert line.startswith(b"%06d." % number)
                received += len(line)
        if server.kind != "tls":
            sender.join(10)
    assert received == commands * 1000
    grown = server.peak_memory() - before
    print(f"{server.kind}: peak memory grew by {grown / MIB:.2f} MiB")
    assert grown < 8 * MIB


program_piece = program().piece


def send_all(client: socket.socket, data: bytes) -> None:
    client.sendall(data)


def settled(server: Server) -> int:
    """The server's peak memory once it does not change for half a second."""
    last = -1
    while last != (now := server.peak_memory()):
        last = now
        select.select([], [], [], 0.5)
    return last
