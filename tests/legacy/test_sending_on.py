"""How much a channel sends before others have their turn: what one event is good for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from txasynchat import asynchat, asyncore


class Chat(asynchat.async_chat):
    """Has ten items to send, then closes; notes who is asked for one, to be sent."""

    name = ""
    senders = ""

    def collect_incoming_data(self, data: bytes) -> None:
        pass

    def found_terminator(self) -> None:
        pass

    def __init__(self, sock: socket.socket, channels: dict[int, Any]) -> None:
        super().__init__(sock, channels)
        self.items = iter([b"an item"] * 10)

    def more(self) -> bytes:
        item = next(self.items, b"")
        if item:
            Chat.senders += self.name
        return item


class TakesLittle(socket.socket):
    """Takes a part of each item."""

    def send(self, data: Any, flags: int = 0) -> int:
        return super().send(data[:4], flags)


class OwnInitiateSend(Chat):
    """Wants to know of each item."""

    def initiate_send(self) -> bool | None:
        return super().initiate_send()


class OwnSend(Chat):
    """Sends by itself."""

    def send(self, data: Any) -> int:
        assert self.socket is not None
        return self.socket.send(data)


class OwnPredicate(Chat):
    """Says itself when it wants to send."""

    def writable(self) -> bool:
        return super().writable()


class OwnEvent(Chat):
    """Wants to know of each event."""

    def handle_write_event(self) -> None:
        super().handle_write_event()


class OwnWrite(Chat):
    """Wants to know of each event that is passed on."""

    def handle_write(self) -> None:
        super().handle_write()


Ends = Callable[[type[Chat]], dict[int, Any]]


@pytest.fixture
def two() -> Iterator[Ends]:
    """Makes two channels, A and B, in a map of their own."""
    sockets = [*socket.socketpair(), *socket.socketpair()]
    Chat.senders = ""

    def make(kind: type[Chat]) -> dict[int, Any]:
        channels: dict[int, Any] = {}
        for name, sock in zip("AB", sockets[::2], strict=True):
            channel = kind(sock, channels)
            channel.name = name
            channel.producer_fifo.append(channel)
            channel.close_when_done()
        return channels

    yield make
    for each in sockets:
        each.close()


def loop(channels: dict[int, Any]) -> None:
    """Serve them until they are closed; in a thread, as the tests' has a reactor that runs."""
    thread = threading.Thread(target=asyncore.loop, kwargs={"map": channels})
    thread.start()
    thread.join(20)
    assert not channels


def test_the_running_order_is_the_removed_modules_where_rounds_are_counted(two: Ends) -> None:
    channels = two(Chat)
    asyncore.loop(map=channels, count=3)
    asyncore.poll(map=channels)
    assert Chat.senders == "AB" * 4


@pytest.mark.parametrize("kind", [OwnPredicate, OwnEvent, OwnWrite, OwnInitiateSend, OwnSend])
def test_it_is_the_same_where_a_program_would_be_asked_or_told_each_time(
    kind: type[Chat], two: Ends
) -> None:
    loop(two(kind))
    assert Chat.senders == "AB" * 10


def test_a_socket_that_takes_a_part_is_waited_for(two: Ends) -> None:
    channels = two(Chat)
    for channel in channels.values():
        channel.socket = TakesLittle(fileno=channel.socket.detach())
        channel.socket.setblocking(False)
    loop(channels)
    assert Chat.senders == "AB" * 10


def test_a_blocking_socket_is_waited_for(two: Ends) -> None:
    channels = two(Chat)
    for channel in channels.values():
        channel.socket.setblocking(True)
    loop(channels)
    assert Chat.senders == "AB" * 10


def test_an_own_send_that_expects_room_meets_no_full_socket() -> None:
    ours, theirs = socket.socketpair()
    channels: dict[int, Any] = {}
    with theirs:
        channel = OwnSend(ours, channels)
        channel.items = iter([bytes(30000)] * 100)
        channel.producer_fifo.append(channel)
        channel.close_when_done()
        thread = threading.Thread(target=asyncore.loop, kwargs={"map": channels})
        thread.start()
        size = 0
        while data := theirs.recv(4096):
            size += len(data)
        thread.join(20)
    assert size == 3000000


def test_who_calls_handle_write_sends_one_item(two: Ends) -> None:
    first, *_ = two(Chat).values()
    first.handle_write()
    assert Chat.senders == "A"
