"""Files go up and down whole, or not at all."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from examples.peers import TIMEOUT

if TYPE_CHECKING:
    from examples.conftest import Address, Client, Example

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "served"
    made.mkdir()
    return made


@pytest.fixture
def server(start: Callable[..., Example], folder: Path) -> Example:
    return start("file_transfer", "--listen", "tcp:0:interface=127.0.0.1", "--folder", str(folder))


def use(address: Address, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / "file_transfer.py"),
            "--connect",
            f"tcp:{address[0]}:{address[1]}",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_001])
def test_a_file_goes_up_and_comes_down_again(
    server: Example, folder: Path, tmp_path: Path, size: int
) -> None:
    address = server.address()
    data = os.urandom(size)
    sent, got = tmp_path / "file.bin", tmp_path / "down" / "file.bin"
    got.parent.mkdir()
    sent.write_bytes(data)
    up = use(address, "--put", str(sent))
    assert up.returncode == 0, up.stderr
    assert (folder / "file.bin").read_bytes() == data
    down = use(address, "--get", str(got))
    assert down.returncode == 0, down.stderr
    assert got.read_bytes() == data
    for done in (up, down):
        steps = [int(step) for step in re.findall(rf"(\d+) of {size} bytes", done.stderr)]
        assert steps == sorted(steps) and steps[-1:] == [size][: len(steps)]
        assert len(steps) == (size + 65535) // 65536
    server.stop()


def test_several_are_sent_one_behind_the_other_on_one_connection(
    server: Example, folder: Path, connect_to: Callable[[Address], Client]
) -> None:
    client = connect_to(server.address())
    client.send_bytewise(b"PUT a 4\nGET\nPUT b 0\nGET a\nGET b\n")
    client.finish()
    assert client.rest() == b"4\n0\n4\nGET\n0\n"
    assert (folder / "a").read_bytes() == b"GET\n"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b"GET ../secret", b"error: a name has letters, digits, dots and dashes\n"),
        (b"GET .part", b"error: a name has letters, digits, dots and dashes\n"),
        (b"GET nothing", b"error: there is no nothing\n"),
        (b"GET", b"error: expected PUT NAME SIZE, or GET NAME\n"),
        (b"\xff", b"error: 'ascii' codec can't decode byte 0xff"),
    ],
)
def test_a_bad_request_is_answered_and_the_next_one_too(
    server: Example,
    connect_to: Callable[[Address], Client],
    request_line: bytes,
    answer: bytes,
) -> None:
    client = connect_to(server.address())
    client.send(request_line + b"\nPUT a 1\nx")
    assert client.line().startswith(answer)
    assert client.line() == b"1\n"


@pytest.mark.parametrize(
    "line", [b"PUT a -1", b"PUT a 1e3", b"PUT a 9999999999999", b"PUT /a 3", b"PUT there 3"]
)
def test_a_bad_upload_ends_the_connection_so_that_its_body_is_no_request(
    server: Example, folder: Path, connect_to: Callable[[Address], Client], line: bytes
) -> None:
    (folder / "there").write_bytes(b"old")
    client = connect_to(server.address())
    client.send(line + b"\nPUT b 0\n")
    assert client.rest().count(b"\n") == 1
    assert (folder / "there").read_bytes() == b"old"
    assert [path.name for path in folder.iterdir()] == ["there"]


def test_of_an_upload_that_breaks_off_nothing_is_left(
    server: Example, folder: Path, connect_to: Callable[[Address], Client]
) -> None:
    client = connect_to(server.address())
    client.send(b"PUT a 1000000\n" + b"x" * 500_000)
    client.finish()
    assert client.rest() == b""
    assert list(folder.iterdir()) == []
    server.stop()


def test_a_refused_upload_is_not_sent_to_its_end(
    server: Example, folder: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(2**33)  # eight gigabytes, of which the disk has none
    (folder / "large.bin").touch()
    done = use(server.address(), "--put", str(large))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "file_transfer: error: large.bin is there already"


def test_nobody_there_is_an_error_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = use(taken.getsockname(), "--get", "anything")
    assert done.returncode == 1
    assert done.stderr.startswith("file_transfer: Connection was refused")
    assert len(done.stderr.splitlines()) == 1


def test_what_is_not_on_the_server_is_not_created_here(server: Example, tmp_path: Path) -> None:
    done = use(server.address(), "--get", str(tmp_path / "nothing"))
    assert (done.returncode, done.stderr) == (1, "file_transfer: error: there is no nothing\n")
    assert not (tmp_path / "nothing").exists()
