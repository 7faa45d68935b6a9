"""What docs/operations.md shows, used as it is shown."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import trustme
from serving import Running, Serve, ask

from txasynchat.core.lifecycle import CloseReason
from txasynchat.limits import Limits
from txasynchat.tap import Options

NAMES = ("chat.example", "talk.example")
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA, shown: Callable[[str], str]) -> Path:
    """Where tls_chat.py is, with the files that it reads."""
    (tmp_path / "tls_chat.py").write_text(shown("tls_chat.py"))
    for name in NAMES:
        write_certificate(tmp_path, authority, name)
    return tmp_path


def write_certificate(folder: Path, authority: trustme.CA, name: str) -> None:
    made = authority.issue_cert(name)
    made.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))


Connect = Callable[..., ssl.SSLSocket]


@pytest.fixture
def connect(authority: trustme.CA) -> Iterator[Connect]:
    """Connects to a service, by a name that its certificate must have."""
    with ExitStack() as stack:

        def connected(
            service: Running,
            name: str,
            asks_for: str | None = None,
            own: trustme.LeafCert | None = None,
        ) -> ssl.SSLSocket:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            if own is not None:
                own.configure_cert(context)
            context.check_hostname = asks_for is None
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", service.port()), 20))
            return stack.enter_context(context.wrap_socket(plain, server_hostname=asks_for or name))

        yield connected


def names_in(client: ssl.SSLSocket) -> set[str]:
    certificate: Any = client.getpeercert()
    return {value for _, value in certificate["subjectAltName"]}


LISTEN = ("--listen", "tcp:0:interface=127.0.0.1")


def test_each_name_has_its_certificate(serve: Serve, folder: Path, connect: Connect) -> None:
    service = serve("--handler", "tls_chat:by_name", *LISTEN)
    for name in NAMES:
        client = connect(service, name)
        assert names_in(client) == {name}
        assert ask(client, b"ann\n") == b"hello, ann\n"
    assert names_in(connect(service, "", asks_for="other.example")) == {NAMES[0]}


def test_sighup_reads_the_certificates_of_all_names_again(
    serve: Serve, folder: Path, connect: Connect, authority: trustme.CA
) -> None:
    service = serve("--handler", "tls_chat:by_name", *LISTEN)
    before = [connect(service, name) for name in NAMES]
    for name in NAMES:
        write_certificate(folder, authority, name)
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("certificates of the names reloaded")
    after = [connect(service, name) for name in NAMES]
    for old, new in zip(before, after, strict=True):
        assert old.getpeercert(True) != new.getpeercert(True)
        assert ask(old, b"ann\n") == b"hello, ann\n"


def test_a_client_is_known_by_its_certificate(serve: Serve, folder: Path, connect: Connect) -> None:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(str(folder / "clients.pem"))
    service = serve("--handler", "tls_chat:for_clients", *LISTEN)
    own = clients.issue_cert("ann@chat.example", common_name="ann")
    assert ask(connect(service, NAMES[0], own=own), b"\n") == b"hello, ann\n"


def test_a_client_without_a_certificate_gets_no_answer(
    serve: Serve, folder: Path, connect: Connect
) -> None:
    trustme.CA().cert_pem.write_to_path(str(folder / "clients.pem"))
    service = serve("--handler", "tls_chat:for_clients", *LISTEN)
    answer = b""
    with suppress(ssl.SSLError, ConnectionError):  # of TLS 1.3 when it reads, of 1.2 before
        answer = ask(connect(service, NAMES[0]), b"\n")
    assert answer == b""


def test_the_options_of_the_systemd_unit_are_options(shown: Callable[[str], str]) -> None:
    lines = shown("chat.service").replace("\\\n", " ")
    command = shlex.split(re.findall(r"^ExecStart=(.*)$", lines, re.MULTILINE)[0])
    assert_are_options(command[command.index("serve") + 1 :])


def test_the_options_of_the_dockerfile_are_options(shown: Callable[[str], str]) -> None:
    lines = shown("Dockerfile").replace("\\\n", " ")
    command = re.findall(r'"([^"]*)"', re.findall(r"^CMD (.*)$", lines, re.MULTILINE)[0])
    assert_are_options(command[command.index("serve") + 1 :])


def assert_are_options(given: list[str]) -> None:
    names = {f"--{name.rstrip('=')}" for name in Options().longOpt}
    used = {each for each in given if each.startswith("--")}
    assert used
    assert used <= names


def test_every_limit_of_the_command_line_is_in_the_table() -> None:
    (section,) = re.findall(
        r"^## Limits\n(.*?)^## ", OPERATIONS.read_text(), re.DOTALL | re.MULTILINE
    )
    listed = set(re.findall(r"^\| `--([\w-]+)` \|", section, re.MULTILINE))
    assert listed == {name.replace("_", "-") for name in signature(Limits).parameters}


def test_every_reason_to_end_is_named() -> None:
    text = OPERATIONS.read_text()
    assert all(f"`{reason}`" in text for reason in CloseReason)


def test_every_metric_is_in_the_table() -> None:
    metrics = pytest.importorskip("txasynchat.metrics")
    text = OPERATIONS.read_text()
    for name, *_ in metrics._GAUGES.values():
        assert f"`txasynchat_{name}`" in text
    for name, *_ in metrics._COUNTERS.values():
        assert f"`txasynchat_{name}_total`" in text
    for name, label, _ in metrics._COUNTERS_BY.values():
        assert f"`txasynchat_{name}_total{{{label}}}`" in text
