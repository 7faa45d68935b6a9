"""Driven by http.client, by curl and by requests that neither would send."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from examples.conftest import Address, Client

MOST = 1024 * 1024


def request(
    address: Address, method: str, target: str, body: bytes | None = None
) -> tuple[HTTPResponse, bytes]:
    with closing(HTTPConnection(*address, timeout=20)) as connection:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response, response.read()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


# -- http.client ---------------------------------------------------------------------


def test_get_tells_what_was_asked_for(address: Address) -> None:
    response, text = request(address, "GET", "/a/page?q=1")
    assert (response.status, response.reason) == (200, "OK")
    assert text == b"You asked for /a/page?q=1\n"


@pytest.mark.parametrize("sent", [b"", b"a\r\n\r\nb", os.urandom(MOST)], ids=len)
def test_post_sends_its_body_back(address: Address, sent: bytes) -> None:
    response, received = request(address, "POST", "/", sent)
    assert response.status == 200
    assert received == sent


def test_another_method_is_refused_naming_those_that_are_allowed(address: Address) -> None:
    response, text = request(address, "DELETE", "/")
    assert response.status == 405
    assert response.getheader("Allow") == "GET, HEAD, POST"
    assert b"POST" in text


# -- A bare socket ---------------------------------------------------------------------


def test_head_has_the_headers_of_get_and_no_body(connect: Callable[[], Client]) -> None:
    got, asked = connect(), connect()
    got.send(b"GET /page HTTP/1.1\r\n\r\n")
    head, _, text = got.rest().partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(text) in head
    asked.send(b"HEAD /page HTTP/1.1\r\n\r\n")
    assert asked.rest() == head + b"\r\n\r\n"


def test_a_request_may_come_byte_by_byte(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send_bytewise(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na\r\n\r\nbody")
    answer = client.rest()
    assert status(answer) == 200
    assert body(answer) == b"a\r\n\r\nbody"


def test_what_is_sent_behind_the_body_is_ignored(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\n\r\n")
    answer = client.rest()
    assert answer.count(b"HTTP/1.1") == 1
    assert body(answer) == b"body"


def test_what_is_sent_behind_a_get_is_ignored(connect: Callable[[], Client]) -> None:
    client = connect()
    client.send(b"GET /first HTTP/1.1\r\n\r\nGET /second HTTP/1.1\r\n\r\n")
    answer = client.rest()
    assert answer.count(b"HTTP/1.1") == 1
    assert body(answer) == b"You asked for /first\n"


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(
    connect: Callable[[], Client],
) -> None:
    client = connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert client.line() == b"HTTP/1.1 100 Continue\r\n"
    assert client.line() == b"\r\n"
    client.send(b"body")
    answer = client.rest()
    assert status(answer) == 200
    assert body(answer) == b"body"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET / HTTP/2.0", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\nspace : before", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\ncontent-length: 5", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %s" % (b"9" * 5000), 400),
        (b"put / HTTP/1.0", 405),
        (b"POST / HTTP/1.1", 411),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: %d" % (MOST + 1), 413),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\nExpect: 100-continue" % (MOST + 1), 413),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * 16 * 1024, 431),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_bad_request_is_answered_with_its_error(
    connect: Callable[[], Client], head: bytes, expected: int
) -> None:
    client = connect()
    client.send(head + b"\r\n\r\n")
    answer = client.rest()
    assert status(answer) == expected
    assert body(answer).endswith(b"\n")


# -- curl ------------------------------------------------------------------------------


def curl(address: Address, *arguments: str) -> tuple[bytes, int]:
    """What curl writes, and the status of the response."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    url = f"http://{address[0]}:{address[1]}/"
    command = [program, "-sS", "--noproxy", "*", "--max-time", "20", "-w", "%{http_code}"]
    done = subprocess.run([*command, *arguments, url], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout[:-3], int(done.stdout[-3:])


def test_curl_gets_its_data_back(address: Address) -> None:
    assert curl(address, "--data", "hello") == (b"hello", 200)


def test_curl_gets_a_file_back_that_it_asked_to_send(address: Address, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(MOST))
    received = curl(address, "--data-binary", f"@{sent}", "-H", "Expect: 100-continue")
    assert received == (sent.read_bytes(), 200)


def test_curl_is_told_that_a_file_is_too_large_before_it_sends_it(
    address: Address, tmp_path: Path
) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(bytes(MOST + 1))
    text, code = curl(address, "--data-binary", f"@{sent}", "-H", "Expect: 100-continue")
    assert code == 413
    assert str(MOST).encode() in text
