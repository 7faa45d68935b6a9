"""Several processes on one socket: one dies, is replaced, and nobody else notices."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import threading
import urllib.request
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from serving import BOTH_FACES, Running, Serve, ask

LISTEN = "tcp:0:interface=127.0.0.1"


def pids(service: Running, number: int = 2) -> dict[str, int]:
    """The process of each worker, by its number."""
    service.wait_for(r"worker \d serves \(pid \d+\)", number)
    found = re.findall(r"worker (\d) serves \(pid (\d+)\)", service.log)
    return {worker: int(pid) for worker, pid in found}


def spread(service: Running, open_clients: ExitStack) -> dict[str, list[socket.socket]]:
    """Connections until each of two workers has some, by the number of the worker."""
    by_worker: dict[str, list[socket.socket]] = {"1": [], "2": []}
    while not all(len(each) >= 3 for each in by_worker.values()):
        client = open_clients.enter_context(service.connect())
        assert ask(client, b"hello\n") == b"HELLO\n"
        port = client.getsockname()[1]
        match = service.wait_for(rf"\[worker (\d)\] connection \d+ from 127\.0\.0\.1:{port} opened")
        by_worker[match.group(1)].append(client)
    return by_worker


@pytest.mark.parametrize("handler", BOTH_FACES)
def test_workers_share_the_connections(handler: str, serve: Serve) -> None:
    service = serve("--handler", f"handlers:{handler}", "--workers", "2")
    pids(service)
    with ExitStack() as open_clients:
        by_worker = spread(service, open_clients)
        assert all(by_worker.values())
        service.terminate()
        assert service.end() == 0


def test_a_worker_that_is_killed_is_replaced_at_once(serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper", "--workers", "2")
    victim = pids(service)["1"]
    with ExitStack() as open_clients:
        by_worker = spread(service, open_clients)
        os.kill(victim, signal.SIGKILL)
        service.wait_for(r"worker 1 serves", 2)
        for client in by_worker["2"]:
            assert ask(client, b"still there?\n") == b"STILL THERE?\n"
        for client in by_worker["1"]:
            with suppress(ConnectionError):
                assert ask(client, b"and you?\n") == b""
    service.wait_for(
        rf"worker 1 \(pid {victim}\) is gone: .*signal 9.*another one begins in 0\.0 s"
    )
    service.terminate()
    assert service.end() == 0


def test_under_load_a_death_is_noticed_only_by_the_clients_of_the_dead(serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper", "--workers", "2")
    victim = pids(service)["1"]
    answers: list[int] = []
    stop = threading.Event()

    def talk(client: socket.socket) -> None:
        count = 0
        while not stop.is_set():
            assert ask(client, b"line %d\n" % count) == b"LINE %d\n" % count
            count += 1
        answers.append(count)

    with ExitStack() as open_clients:
        others = spread(service, open_clients)["2"]
        talkers = [threading.Thread(target=talk, args=(client,)) for client in others]
        for each in talkers:
            each.start()
        os.kill(victim, signal.SIGKILL)
        service.wait_for("worker 1 serves", 2)
        stop.set()
        for each in talkers:
            each.join(timeout=20)
    assert len(answers) == len(others)
    assert all(answers)


def test_one_that_is_told_to_stop_drains_and_is_replaced(serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper", "--workers", "2")
    first = pids(service)["1"]
    os.kill(first, signal.SIGTERM)
    service.wait_for("worker 1 serves", 2)
    with service.connect() as client:
        assert ask(client, b"hello\n") == b"HELLO\n"


def test_workers_end_when_their_parent_is_killed(serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper", "--workers", "2")
    watched = [os.pidfd_open(pid) for pid in pids(service).values()]
    service.process.kill()
    for each in watched:
        with closing(os.fdopen(each)):
            poll = select.poll()
            poll.register(each)
            assert poll.poll(20_000), "it goes on without a parent"


def test_their_numbers_are_summed(serve: Serve, tmp_path: Path) -> None:
    service = serve("--handler", "handlers:Upper", "--workers", "2", "--metrics", LISTEN)
    scrape = f"http://127.0.0.1:{service.port('--metrics')}/metrics"
    victim = pids(service)["1"]

    def sent() -> float:
        with urllib.request.urlopen(scrape, timeout=20) as response:
            text = response.read().decode()
        match = re.search(r'received_messages_total\{handler="Upper"\} ([\d.e+]+)', text)
        return float(match.group(1)) if match else 0.0

    with ExitStack() as open_clients:
        clients = sum(map(len, spread(service, open_clients).values()))
        assert sent() == clients
        os.kill(victim, signal.SIGKILL)
        service.wait_for("worker 1 serves", 2)
        assert sent() == clients, "what the dead did still counts"


def test_a_unix_socket_is_shared_and_removed_at_the_end(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    service = serve("--handler=handlers:Upper", "--workers=2", listen=f"unix:{path}")
    pids(service)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert ask(client, b"hello\n") == b"HELLO\n"
    service.terminate()
    assert service.end() == 0
    assert not path.exists()


def test_one_that_can_not_begin_is_not_begun_over_and_over(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(
        "import os\nfrom handlers import Upper\n"
        "if os.path.exists('begun'): raise RuntimeError('not again')\n"
    )
    service = serve("--handler", "moody:Upper", "--workers", "1")
    service.wait_for("serving")
    service.terminate()
    service.end()
    service = serve("--handler", "moody:Upper", "--workers", "2")
    pids(service)
    (tmp_path / "begun").touch()
    for pid in pids(service).values():
        os.kill(pid, signal.SIGKILL)
    service.wait_for(r"another one begins in 0\.2")
    assert "moody:Upper: RuntimeError: not again (moody.py, line 3)" in service.log
    service.terminate()
    assert service.end() == 0
