"""What the pages on coroutines and recipes show, over real sockets and with peers of other kinds.

The pages' blocks run where they stand in ``test_documentation``. Here is what takes a reactor: a
page's names are had by running its blocks, its programs by running them as programs.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme
from pages import PAGES, block, blocks
from support import bare_environment, until
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.threads import deferToThread

from txasynchat import AsyncChat, AsyncChatFactory, ChatClosed, PlaintextAfterStartTLS

TIMEOUT = 60


def program(page: str, of: str) -> str:
    """The one block of a page that is a program and has this word in it."""
    (path,) = [each for each in PAGES if each.name == page]
    (found,) = [
        each.text
        for each in blocks(path)
        if each.is_python and "__main__" in each.text and of in each.text
    ]
    return found


def output_of(source: str, given: bytes = b"") -> bytes:
    """What a program prints; it must end by itself, and have nothing to complain about."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        input=given,
        capture_output=True,
        timeout=TIMEOUT,
        env=bare_environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_a_server_and_its_clients_in_an_asyncio_program() -> None:
    shown = block("coroutines.md", "[b'ONE', b'TWO']")
    assert output_of(program("coroutines.md", "Upper")).decode() == shown.text


def test_a_handler_that_awaits_what_is_asyncios() -> None:
    shown = block("coroutines.md", "b'number of ann'")
    assert output_of(program("coroutines.md", "Phonebook")).decode() == shown.text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout() is in Python 3.11")
def test_a_timeout_of_asyncios_leaves_the_connection_usable() -> None:
    shown = block("coroutines.md", "too slow")
    assert output_of(program("coroutines.md", "Slow")).decode() == shown.text


def test_what_a_task_of_asyncios_publishes_goes_out() -> None:
    shown = block("recipes.md", "b'listening'")
    assert output_of(program("recipes.md", "Listener")).decode() == shown.text


# -- The pages' names, over sockets -----------------------------------------------------


def names_of(page: str) -> dict[str, Any]:
    """What the blocks of a page define that are no doctests and no programs."""
    (path,) = [each for each in PAGES if each.name == page]
    names: dict[str, Any] = {"__name__": "sample"}
    for each in blocks(path):
        if each.is_python and ">>> " not in each.text:
            exec(compile(each.text, str(path), "exec"), names)
    return names


@pytest.fixture(scope="module")
def coroutines() -> dict[str, Any]:
    return names_of("coroutines.md")


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    return names_of("recipes.md")


class Served:
    """Where a handler of a page is served."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.server = f"tcp:127.0.0.1:{port}"

    def hears(self, data: bytes, step: int = 2**20) -> Deferred[bytes]:
        """What a plain socket gets in answer to `data`, sent in such steps, to the end."""

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answer = b""
                with suppress(OSError):  # cut off before it has said all
                    for start in range(0, len(data), step):
                        client.sendall(data[start : start + step])
                    client.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):
                    while piece := client.recv(65536):
                        answer += piece
                return answer

        return deferToThread(talk)


@asynccontextmanager
async def serving(handler: Any, *arguments: Any) -> AsyncIterator[Served]:
    """Serve a handler for the time of a block, at the end of which it must have no connection."""
    from twisted.internet import reactor

    factory: AsyncChatFactory[Any] = AsyncChatFactory(handler, *arguments)
    factory.noisy = False
    port: Any = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
    try:
        yield Served(port.getHost().port)
    finally:
        await port.stopListening()
        await until(lambda: not factory.connections)


async def test_the_client_greets_the_greeter(coroutines: dict[str, Any]) -> None:
    async with serving(coroutines["Greeter"]) as served:
        assert await coroutines["greeting_of"](served.server, b"world") == b"hello, world"


async def test_the_clients_program_prints_its_greeting(
    coroutines: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from twisted.internet import reactor

    main = names_of_program("greeting_of")["main"]
    async with serving(coroutines["Greeter"]) as served:
        await main(reactor, served.server)
    assert capsys.readouterr().out == "b'hello, world'\n"


def names_of_program(of: str) -> dict[str, Any]:
    names = dict(names_of("coroutines.md"))
    exec(program("coroutines.md", of), names)
    return names


@pytest.mark.parametrize("step", [1, 7, 2**20])
async def test_a_login_by_reads_then_callbacks_then_a_body(
    coroutines: dict[str, Any], step: int
) -> None:
    async with serving(coroutines["Drop"]) as served:
        answer = await served.hears(b"sesame\nPUT 7\nPUT 1\n\nHELP\n", step)
        assert answer == b"password? got 7 bytes\nwhat?\n"
        assert await served.hears(b"guess\nPUT 1\n1", step) == b"password? no\n"


@pytest.mark.parametrize("body", [b"", b"\r\n", b"GET\r\n" * 20_000, bytes(range(256)) * 4096])
async def test_a_body_is_kept_whatever_is_in_it(recipes: dict[str, Any], body: bytes) -> None:
    async with serving(recipes["Box"]) as served:
        assert await recipes["keep"](served.server, body) == body


@pytest.mark.parametrize("step", [1, 3, 100])
async def test_lines_and_bodies_may_come_all_at_once_or_byte_by_byte(
    recipes: dict[str, Any], step: int
) -> None:
    async with serving(recipes["Box"]) as served:
        answer = await served.hears(b"PUT 6\r\nG\r\nGETGET\nPUT 0\nGET\r\n", step)
        assert answer == b"ok\r\n6\r\nG\r\nGETok\r\n0\r\n"


@pytest.mark.parametrize("line", [b"PUT 1048577", b"PUT -1", b"PUT x", b"PUT", b"", b"GETT"])
async def test_behind_a_bad_line_nothing_is_taken_for_a_command(
    recipes: dict[str, Any], line: bytes
) -> None:
    async with serving(recipes["Box"]) as served:
        assert await served.hears(line + b"\r\nGET\r\nGET\r\n") == b"error\r\n"


async def test_a_server_that_does_not_take_the_body_is_an_error(recipes: dict[str, Any]) -> None:
    async with serving(recipes["Box"]) as served:
        with pytest.raises(ValueError, match="does not take it"):
            await recipes["keep"](served.server, b"x" * (2**20 + 1))


# -- STARTTLS ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_options(authority: trustme.CA) -> Any:
    pem = authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
    return PrivateCertificate.loadPEM(pem).options()


def client_options(authority: trustme.CA, name: str = "localhost") -> Any:
    root = Certificate.loadPEM(authority.cert_pem.bytes())
    return optionsForClientTLS(name, trustRootFromCertificates([root]))


async def test_the_secret_is_told_over_tls(
    recipes: dict[str, Any], authority: trustme.CA, server_options: Any
) -> None:
    async with serving(recipes["Vault"], server_options) as served:
        secret = await recipes["secret_of"](served.server, client_options(authority))
        assert secret == b"250 sesame"


async def test_the_secret_is_not_told_in_clear(
    recipes: dict[str, Any], server_options: Any
) -> None:
    async with serving(recipes["Vault"], server_options) as served:
        answer = await served.hears(b"SECRET\r\nQUIT\r\nSECRET\r\n")
        assert answer == b"220 hello\r\n530 STARTTLS comes first\r\n221 bye\r\n"


async def test_what_waits_behind_the_command_is_not_obeyed(
    recipes: dict[str, Any],
    server_options: Any,
    logged_failures: Callable[[], list[str]],
) -> None:
    async with serving(recipes["Vault"], server_options) as served:
        try:
            answer = await served.hears(b"STARTTLS\r\nSECRET\r\n")
        except ConnectionResetError:
            answer = b""
    assert b"250" not in answer and b"530" not in answer
    (logged,) = logged_failures()
    assert "bytes of plaintext wait behind the command" in logged


async def test_what_waits_behind_the_servers_word_is_not_believed(
    recipes: dict[str, Any], authority: trustme.CA, logged_failures: Callable[[], list[str]]
) -> None:
    class Forged(AsyncChat):
        async def conversation(self) -> None:
            self.push(b"220 hello\r\n")
            await self.read_until(b"\r\n")
            self.push(b"220 go ahead\r\n250 forged\r\n")
            await self.read()

    async with serving(Forged) as served:
        with pytest.raises(PlaintextAfterStartTLS):
            await recipes["secret_of"](served.server, client_options(authority))
    assert len(logged_failures()) == 1


async def test_a_server_of_another_name_is_told_nothing(
    recipes: dict[str, Any], authority: trustme.CA, server_options: Any
) -> None:
    async with serving(recipes["Vault"], server_options) as served:
        options = client_options(authority, "elsewhere")
        with pytest.raises(ChatClosed):
            await recipes["secret_of"](served.server, options)


async def test_a_server_without_tls_is_an_error(
    recipes: dict[str, Any], authority: trustme.CA
) -> None:
    class Plain(AsyncChat):
        async def conversation(self) -> None:
            self.push(b"220 hello\r\n")
            async for _ in self.messages(b"\r\n"):
                self.push(b"502 what?\r\n")

    async with serving(Plain) as served:
        with pytest.raises(ConnectionError, match="has no TLS"):
            await recipes["secret_of"](served.server, client_options(authority))
