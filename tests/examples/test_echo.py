"""The ECHO example on endpoints of two kinds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from examples.conftest import Client, Example


def test_a_body_comes_back_and_the_connection_closes(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send(b"ECHO 12\nhello\nworld\n")
    assert client.rest() == b"hello\nworld\n"


def test_a_body_of_a_megabyte_comes_back_whole(connect: Callable[[], Client]) -> None:
    client = connect()
    body = os.urandom(1024 * 1024)
    client.send(b"ECHO %d\n" % len(body))
    client.send(body)
    assert client.rest() == body


def test_a_command_and_its_body_may_come_byte_by_byte(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send_bytewise(b"ECHO 5\nhello")
    assert client.rest() == b"hello"


@pytest.mark.parametrize("line", [b"ECHO", b"ECHO five", b"ECHO -1", b"PRINT 5"])
def test_another_command_is_answered_with_what_was_expected(
    connect: Callable[[], Client], line: bytes
) -> None:
    client = connect()
    client.send(line + b"\n")
    assert client.rest() == b"error: expected: ECHO length\n"


def test_it_listens_on_any_kind_of_endpoint(
    start: Callable[..., Example],
    connect_to: Callable[[str], Client],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a UNIX socket must be short
    example = start("echo", "--listen", "unix:echo.sock")
    assert "echo.sock" in example.line()
    client = connect_to("echo.sock")
    client.send(b"ECHO 2\nhi")
    assert client.rest() == b"hi"
    example.stop()
