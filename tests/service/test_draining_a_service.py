"""What SIGTERM does: connections finish, the rest is cut at the deadline, the status is 0."""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack

import pytest
from serving import BOTH_FACES, Serve, ask, read_line


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("handler", BOTH_FACES)
def test_of_a_hundred_in_the_middle_of_a_message_eighty_finish_and_twenty_are_cut(
    handler: str, workers: str, serve: Serve
) -> None:
    service = serve("--handler", f"handlers:{handler}", "--workers", workers, "--drain-timeout=3")
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(service.connect()) for _ in range(100)]
        for number, client in enumerate(clients):
            begun = b"hello %d\nin the middle of" % number
            assert ask(client, begun) == b"HELLO %d\n" % number
        service.terminate()
        service.wait_for("draining: ")
        for number, client in enumerate(clients[:80]):  # all at once: the deadline is near
            client.sendall(b" %d\n" % number)
        for number, client in enumerate(clients[:80]):
            assert read_line(client) == b"IN THE MIDDLE OF %d\n" % number
            assert client.recv(100) == b"", "then it is closed, politely"
        assert service.end() == 0
        for client in clients[80:]:
            with pytest.raises(ConnectionResetError):
                client.recv(100)
    sums = re.findall(r"drained in .*: (\d+) connections .*finished, (\d+) were cut", service.log)
    assert sums[-1] == ("80", "20")


@pytest.mark.parametrize("handler", BOTH_FACES)
def test_nobody_is_let_in_any_more_while_it_drains(handler: str, serve: Serve) -> None:
    service = serve("--handler", f"handlers:{handler}")
    with service.connect() as client:
        ask(client, b"hello\nmiddle")
        service.terminate()
        service.wait_for("draining: ")
        with pytest.raises(ConnectionRefusedError):
            service.connect()
        assert ask(client, b"\n") == b"MIDDLE\n"
    assert service.end() == 0


@pytest.mark.parametrize("handler", BOTH_FACES)
def test_handlers_are_told(handler: str, serve: Serve) -> None:
    service = serve("--handler", f"handlers:{handler}")
    with service.connect() as client:
        ask(client, b"hello\n")
        service.terminate()
        assert client.recv(100) == b""
    assert service.end() == 0
    assert service.log.count(f"handle_drain of {handler}") == 1


def test_idle_connections_do_not_hold_it_up(serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper", "--drain-timeout", "1000")
    with service.connect() as client:
        ask(client, b"hello\n")
        service.terminate()
        assert service.end() == 0
        assert client.recv(100) == b""
    service.wait_for(r"drained in [0-9.]+ s: 1 connections finished, 0 were cut")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_cuts_the_rest(workers: str, serve: Serve) -> None:
    service = serve("--handler=handlers:Upper", "--workers", workers, "--drain-timeout=1000")
    with service.connect() as client:
        ask(client, b"hello\nnever finished")
        service.terminate()
        service.wait_for("draining: ")
        service.terminate()
        assert service.end() == 0
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_drain_timeout_of_0_cuts_at_once(serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper", "--drain-timeout", "0")
    with service.connect() as client:
        ask(client, b"hello\nnever finished")
        service.terminate()
        assert service.end() == 0


@pytest.mark.parametrize("reactor", ["select", "poll", "asyncio"])
def test_it_ends_well_on_every_reactor(reactor: str, serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper", "--reactor", reactor)
    with service.connect() as client:
        ask(client, b"hello\n")
        service.terminate()
        assert service.end() == 0


def test_an_interrupt_from_the_keyboard_drains_as_well(serve: Serve) -> None:
    service = serve("--handler", "handlers:Upper")
    with service.connect() as client:
        ask(client, b"hello\nmiddle")
        service.process.send_signal(signal.SIGINT)
        service.wait_for("draining: ")
        client.sendall(b"\n")
        assert read_line(client) == b"MIDDLE\n"
    service.end()
