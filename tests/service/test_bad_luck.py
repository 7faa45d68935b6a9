"""Processes that die in bad ways, print what they should not, or can't be had at all."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from serving import Serve, ask, read_line
from support import bare_environment
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txasynchat.handlers import load
from txasynchat.workers import Workers

LISTEN = "tcp:0:interface=127.0.0.1"

HANDLERS = """
import asynchat
import asyncore
import os
import subprocess
from handlers import OldUpper, Upper

class Odd(Upper):
    def found_terminator(self):
        message = self._get_data()
        if message == b"leave a child":
            child = subprocess.Popen(["sleep", "60"])
            self.push(b"%d\\n" % child.pid)
        elif message == b"die":
            os._exit(3)
        elif message == b"fail":
            raise ValueError("these words")
        else:
            os.write(1, message.replace(b"$", b"\\n"))
            self.push(b"done\\n")

class OldServer(asyncore.dispatcher):
    def __init__(self, port):
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.set_reuse_addr()
        self.bind(("127.0.0.1", port))
        self.listen(5)
    def handle_accepted(self, sock, addr):
        OldUpper(sock, addr)
"""


@pytest.fixture
def odd(serve: Serve, tmp_path: Path) -> Serve:
    (tmp_path / "odd.py").write_text(HANDLERS)
    return serve


@contextmanager
def killed_afterwards(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_worker_that_leaves_a_child_behind_is_replaced_and_the_service_ends(odd: Serve) -> None:
    service = odd("--handler", "odd:Odd", "--workers", "2")
    service.wait_for(r"worker \d serves", 2)
    with service.connect() as client:
        child = int(ask(client, b"leave a child\n"))
        with killed_afterwards(child):
            client.sendall(b"die\n")
            service.wait_for("is gone: .*exit code 3")
            service.wait_for(r"worker \d serves", 3)
            service.terminate()
            service.wait_for("drained in")
            assert service.process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    "printed", ["\x1enonsense$", "\x1e5$", '\x1e{"a": 1}$', "no end", "x" * 9999]
)
def test_what_a_handler_prints_does_not_silence_its_worker(printed: str, odd: Serve) -> None:
    service = odd("--handler", "odd:Odd", "--workers", "2")
    service.wait_for(r"worker \d serves", 2)
    with service.connect() as client:
        assert ask(client, printed.encode() + b"\n") == b"done\n"
    service.wait_for(r"\[worker \d\] connection 1 from .* ended by peer")


def test_the_words_of_an_error_in_a_worker_are_in_the_log(odd: Serve) -> None:
    service = odd("--handler", "odd:Odd", "--workers", "2")
    service.wait_for(r"worker \d serves", 2)
    with service.connect() as client:
        assert ask(client, b"fail\n") == b""
    service.wait_for(r"\tbuiltins\.ValueError: these words")


def test_connections_of_the_dead_are_not_open(odd: Serve) -> None:
    service = odd("--handler", "odd:Odd", "--workers", "2", "--metrics", LISTEN)
    service.wait_for(r"worker \d serves", 2)

    def numbers(name: str) -> float:
        address = f"http://127.0.0.1:{service.port('--metrics')}/metrics"
        with urllib.request.urlopen(address, timeout=20) as response:
            text = response.read().decode()
        match = re.search(rf'txasynchat_{name}{{handler="Odd"}} ([\d.]+)', text)
        assert match
        return float(match.group(1))

    with service.connect() as client:
        assert ask(client, b"hello\n") == b"done\n"
        assert numbers("connections_open") == 1
        client.sendall(b"die\n")
        service.wait_for(r"worker \d serves", 3)
        assert numbers("connections_open") == 0
        assert numbers("received_messages_total") == 1


def test_a_legacy_server_in_every_worker_may_name_the_address_of_the_endpoint(odd: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = odd(
        *("--handler", "odd:OldServer", "--arg", str(port), "--workers", "2"),
        listen=f"tcp:{port}:interface=127.0.0.1",
    )
    service.wait_for(r"worker \d serves", 2)
    with service.connect() as client:
        assert ask(client, b"hello\n") == b"HELLO\n"


def test_a_legacy_server_may_name_an_address_that_somebody_else_has(odd: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = odd("--handler", "odd:OldServer", "--arg", str(taken.getsockname()[1]))
        with service.connect() as client:
            assert ask(client, b"hello\n") == b"HELLO\n"


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_and_its_workers_drains_as_one_to_the_parent(
    which: signal.Signals, odd: Serve
) -> None:
    service = odd("--handler", "handlers:Upper", "--workers", "2", "--drain-timeout", "1000")
    service.wait_for(r"worker \d serves", 2)
    workers = [int(pid) for pid in re.findall(r"serves \(pid (\d+)\)", service.log)]
    with service.connect() as client:
        assert ask(client, b"hello\nhalf ") == b"HELLO\n"
        service.process.send_signal(which)
        service.wait_for("draining: ")
        for pid in workers:  # as a supervisor does that knows the whole group, and is late
            with suppress(ProcessLookupError):
                os.kill(pid, which)
        client.sendall(b"a line\n")
        assert read_line(client) == b"HALF A LINE\n"
    assert service.end() == 0
    assert "Traceback" not in service.log


class Poor(Clock):
    """A reactor that has no processes to give."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def callWhenRunning(self, call: Any, *args: Any) -> None:
        call(*args)

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        factory.buildProtocol(None)

    def spawnProcess(self, *args: Any, **kwargs: Any) -> None:
        self.asked += 1
        raise BlockingIOError(11, "Resource temporarily unavailable")


def test_a_worker_for_which_there_is_no_process_is_tried_again(
    logged_failures: Callable[[], list[str]],
) -> None:
    reactor = Poor()
    workers = Workers(1, [], [], "nothing", 30, reactor)
    workers.startService()
    assert reactor.asked == 1
    reactor.advance(0)
    reactor.advance(0.1)
    reactor.advance(0.2)
    assert reactor.asked == 4
    stopped: list[Any] = []
    workers.stopService().addCallback(stopped.append)
    assert len(stopped) == 1
    assert reactor.getDelayedCalls() == []
    assert logged_failures()[1] == (
        "worker 1 can't begin: [Errno 11] Resource temporarily unavailable; "
        "another one begins in 0.1 s"
    )


class Slow(Poor):
    """A reactor whose processes take their time."""

    def spawnProcess(self, *args: Any, **kwargs: Any) -> None:
        self.asked += 1


def test_a_worker_that_never_served_is_a_bad_start_however_long_it_took(
    logged_failures: Callable[[], list[str]],
) -> None:
    reactor = Slow()
    workers = Workers(1, [], [], "nothing", 30, reactor)
    workers.startService()
    pauses = []
    for _ in range(4):
        reactor.advance(60)
        workers.worker_ended(workers._workers[1], Failure(ProcessTerminated(1)))
        (call,) = reactor.getDelayedCalls()
        pauses.append(round(call.getTime() - reactor.seconds(), 3))
        reactor.advance(pauses[-1])
    assert pauses == [0, 0.1, 0.2, 0.4]
    assert len(logged_failures()) == 4


AGAIN = f"""
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from txasynchat.tap import Options, makeService

options = Options()
options.parseOptions(["--listen", {LISTEN!r}])
service = makeService(options)

@inlineCallbacks
def again():
    service.privilegedStartService()
    service.startService()
    yield service.stopService()
    service.startService()
    (port,) = service.services[0].ports
    print(port.getHost().port, flush=True)

reactor.callWhenRunning(again)
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
"""


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_started_again_serves_and_ends_as_before(which: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AGAIN], env=bare_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"ECHO 5\nhello")
            assert client.recv(100) == b"hello"
        process.send_signal(which)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_handlers_of_this_folder_are_found_when_the_process_has_gone_to_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    load("os:sep")
    assert str(tmp_path) in sys.path
