"""``smtpd``, as it left the standard library or as PyPI has it, and many mails at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

TIMEOUT = 30
SERVER = Path(__file__).with_name("programs") / "smtpd_server.py"
INSTALLED = (
    "import runpy, sys, txasynchat; txasynchat.install(); "
    "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)

pytestmark = pytest.mark.skipif(
    find_spec("smtpd") is None, reason="smtpd is not here: pip install standard-smtpd"
)


class Server:
    """The server process."""

    def __init__(self, *options: str) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "COV_", "TXASYNCHAT"))
        }
        # smtpd warns who imports it that it is deprecated.
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", *options, str(SERVER)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        timer = threading.Timer(TIMEOUT, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        assert line, self.process.communicate(timeout=TIMEOUT)[1]
        self.port = int(line)

    def stop(self) -> dict[str, Any]:
        """End it; what was delivered to it."""
        self.process.send_signal(signal.SIGTERM)
        stdout, stderr = self.process.communicate(timeout=TIMEOUT)
        assert (self.process.returncode, stderr) == (0, "")
        result: dict[str, Any] = json.loads(stdout)
        return result


@contextmanager
def running(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate(timeout=TIMEOUT)


def body(sender: int, number: int) -> str:
    """A text with dots where they need care, of very different lengths."""
    return f"mail {number} of {sender}\n.\n..\n" + f"{sender}.{number}\n" * (number * 37 % 400)


def send(
    port: int, sender: int, mails: int, connecting: threading.Lock, together: threading.Barrier
) -> None:
    """Send mails over one connection, while all the others do the same."""
    # smtpd listens with a backlog of 5. Of more clients that come in one moment the kernel
    # forgets some, and they wait for their greeting for ever: so they come one by one.
    with connecting:
        client = smtplib.SMTP("127.0.0.1", port, "localhost", TIMEOUT)
    with client:
        together.wait(TIMEOUT)
        for number in range(mails):
            refused = client.sendmail(
                f"sender{sender}@example.com",
                [f"mail{number}@example.org"],
                f"Subject: {number}\n\n{body(sender, number)}",
            )
            assert refused == {}


def deliver(port: int, connections: int, mails: int) -> None:
    connecting, together = threading.Lock(), threading.Barrier(connections)
    with ThreadPoolExecutor(connections) as threads:
        done = [
            threads.submit(send, port, sender, mails, connecting, together)
            for sender in range(connections)
        ]
        for each in done:
            each.result()


def expected(connections: int, mails: int) -> Counter[tuple[str, str, str]]:
    return Counter(
        (
            f"sender{sender}@example.com",
            f"mail{number}@example.org",
            # A mail's last line break belongs to the protocol.
            hashlib.sha256(body(sender, number).removesuffix("\n").encode()).hexdigest(),
        )
        for sender in range(connections)
        for number in range(mails)
    )


def check(result: dict[str, Any], connections: int, mails: int) -> None:
    found = Counter((sender, ", ".join(to), digest) for sender, to, digest in result["delivered"])
    assert found == expected(connections, mails)
    assert result["connections"] == connections


def is_ours(result: dict[str, Any]) -> bool:
    return Path(result["asyncore"]).parent.name == "txasynchat"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-c", INSTALLED), id="install()"),
        pytest.param(("-m", "txasynchat", "run"), id="run"),
        pytest.param(("-m", "txasynchat", "run", "--reactor", "select"), id="run on select"),
    ],
)
def test_mails_over_connections_at_once_are_all_delivered_exactly_once(
    options: tuple[str, ...],
) -> None:
    with running(*options) as server:
        deliver(server.port, connections=5, mails=10)
        result = server.stop()
    check(result, connections=5, mails=10)
    assert is_ours(result)


def test_a_thousand_mails_over_twenty_connections_are_all_delivered_exactly_once() -> None:
    with running("-c", INSTALLED) as server:
        deliver(server.port, connections=20, mails=50)
        result = server.stop()
    check(result, connections=20, mails=50)
    assert is_ours(result)


def test_the_server_is_an_honest_program_of_the_old_modules() -> None:
    if find_spec("asyncore") is None:
        pytest.skip("the old modules are not here, neither the interpreter's nor PyPI's copies")
    with running() as server:
        deliver(server.port, connections=5, mails=10)
        result = server.stop()
    check(result, connections=5, mails=10)
    assert not is_ours(result)
