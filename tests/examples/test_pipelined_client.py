"""Servers that answer in time, late, or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from examples.peers import TIMEOUT, Server

ROOT = Path(__file__).parents[2]
Ask = Callable[..., list[str]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Runs the example against a server that talks as the given function does."""
    with ExitStack() as stack:

        def run(
            talk: Callable[[socket.socket], object], requests: list[bytes], *options: str
        ) -> list[str]:
            server = stack.enter_context(closing(Server(talk)))
            example = str(ROOT / "examples" / "pipelined_client.py")
            done = subprocess.run(
                [sys.executable, example, "--connect", server.endpoint, *options],
                input=b"".join(each + b"\n" for each in requests),
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            assert (done.returncode, done.stderr) == (0, b"")
            return done.stdout.decode().splitlines()

        yield run


def test_answers_are_matched_in_order(ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        for line in connection.makefile("rb"):
            connection.sendall(line.upper())

    numbers = range(1000)
    answers = ask(talk, [b"request %d" % number for number in numbers])
    assert answers == [f"REQUEST {number}" for number in numbers]


def test_no_request_waits_for_an_answer(ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        asked = [lines.readline() for _ in range(5)]
        connection.sendall(b"".join(asked))

    assert ask(talk, [b"a", b"b", b"c", b"d", b"e"]) == ["a", "b", "c", "d", "e"]


def test_a_server_that_reads_no_more_until_its_answers_are_read_gets_on(ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        for line in connection.makefile("rb"):
            connection.sendall(line)  # which waits for the client

    requests = [b"%d " % number + b"x" * 60_000 for number in range(500)]
    answers = ask(talk, requests, "--at-once", "500")
    assert answers == [request.decode() for request in requests]


def test_no_more_are_asked_at_once_than_allowed(ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        for _ in range(5):
            # Two are there; a third comes when the first of them is answered.
            data = b""
            while data.count(b"\n") < 2:
                data += connection.recv(100)
            connection.sendall(b"%d\n%d\n" % (data.count(b"\n"), data.count(b"\n")))

    assert ask(talk, [b"x"] * 10, "--at-once", "2") == ["2"] * 10


def test_a_late_answer_is_not_taken_for_the_next_one(ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        # The first is answered when the second is asked, which is after its time.
        lines = connection.makefile("rb")
        first, second = lines.readline(), lines.readline()
        connection.sendall(first + second)

    answers = ask(talk, [b"a", b"b"], "--at-once", "1", "--timeout", "1")
    assert answers == ["error: no answer within 1 s", "b"]


def test_a_request_that_is_not_answered_is_waited_for_so_long(ask: Ask) -> None:
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        connection.sendall(lines.readline())
        lines.read()  # to the end
        done.set()

    answers = ask(talk, [b"a", b"b"], "--timeout", "0.3")
    assert answers == ["a", "error: no answer within 0.3 s"]
    assert done.wait(TIMEOUT)


def test_a_server_that_goes_leaves_nobody_waiting(ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        connection.sendall(lines.readline())
        lines.readline()
        lines.readline()

    first, *rest = ask(talk, [b"a", b"b", b"c"])
    assert first == "a"
    assert all(line.startswith("error: no answer: peer") for line in rest) and len(rest) == 2
