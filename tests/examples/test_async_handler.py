"""Commands in order, other connections not held up."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import pbkdf2_hmac
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from examples.conftest import Client


def hashed(text: bytes) -> bytes:
    digest = pbkdf2_hmac("sha256", text, b"a pinch of salt", 100_000)
    return b"hash %s\n" % digest.hex().encode()


def test_pipelined_commands_are_answered_in_the_order_sent(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send(b"sleep 0.2\nhash one\nsleep 0\nhash two\ncount 2\nquit\n")
    answers = [
        b"slept 0.2\n",
        hashed(b"one"),
        b"slept 0\n",
        hashed(b"two"),
        b"1\n2\ncounted\n",
    ]
    assert client.rest() == b"".join(answers)


def test_a_command_that_waits_holds_up_no_other_connection(connect: Callable[[], Client]) -> None:
    sleeper, other = connect(), connect()
    sleeper.send(b"sleep 3600\nhash never\n")
    other.send(b"sleep 0\n")
    assert other.line() == b"slept 0\n"


def test_commands_are_answered_though_the_client_has_finished_sending(
    connect: Callable[[], Client],
) -> None:
    client = connect()
    client.send(b"sleep 0.1\nhash one\n")
    client.finish()
    assert client.rest() == b"slept 0.1\n" + hashed(b"one")


def test_what_comes_behind_quit_is_not_done(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send(b"sleep 0\nquit\nsleep 0\n")
    assert client.rest() == b"slept 0\n"


@pytest.mark.parametrize(
    "line", [b"", b"jump", b"sleep", b"sleep long", b"sleep nan", b"sleep -1", b"count many"]
)
def test_a_command_that_fails_is_answered_and_the_next_is_done(
    connect: Callable[[], Client], line: bytes
) -> None:
    client = connect()
    client.send(line + b"\r\nsleep 0\r\n")
    assert client.line().startswith(b"error: ")
    assert client.line() == b"slept 0\n"


def test_a_long_answer_comes_whole_to_who_reads_it(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send(b"count 300000\nquit\n")
    assert client.rest() == b"".join(b"%d\n" % n for n in range(1, 300001)) + b"counted\n"


def test_an_endless_answer_waits_for_its_reader_and_holds_up_no_other(
    connect: Callable[[], Client],
) -> None:
    deaf, other = connect(), connect()
    deaf.send(b"count %d\n" % 10**15)
    assert deaf.line() == b"1\n"
    other.send(b"sleep 0\n")
    assert other.line() == b"slept 0\n"


def test_who_goes_away_in_the_middle_of_an_answer_troubles_nobody(
    connect: Callable[[], Client],
) -> None:
    leaver, other = connect(), connect()
    leaver.send(b"count %d\n" % 10**15)
    assert leaver.line() == b"1\n"
    leaver.close()
    other.send(b"sleep 0.1\n")
    assert other.line() == b"slept 0.1\n"  # and the server logs no error: see address()
