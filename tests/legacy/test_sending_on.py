"""How much a channel sends before others have their turn: what one event is good for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from txasynchat import asynchat, asyncore


class Chat(asynchat.async_chat):
    """Has ten items to send, then closes; notes who sends."""

    name = ""
    senders = ""

    def collect_incoming_data(self, data: bytes) -> None:
        pass

    def found_terminator(self) -> None:
        pass

    def send(self, data: Any) -> int:
        Chat.senders += self.name
        return super().send(data)


class TakesLittle(Chat):
    """On a socket that takes one byte at a time."""

    def send(self, data: Any) -> int:
        return super().send(data[:1])


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
            channel.producer_fifo.extend([b"an item"] * 10)
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


@pytest.mark.parametrize("kind", [OwnPredicate, OwnEvent, OwnWrite])
def test_it_is_the_same_where_a_program_would_be_asked_or_told_each_time(
    kind: type[Chat], two: Ends
) -> None:
    loop(two(kind))
    assert Chat.senders == "AB" * 10


def test_a_socket_that_takes_a_part_is_waited_for(two: Ends) -> None:
    loop(two(TakesLittle))
    assert Chat.senders.startswith("AB" * 6 + "A")


def test_an_own_initiate_send_that_answers_nothing_is_called_once_for_each_event(
    two: Ends,
) -> None:
    class Once(Chat):
        def initiate_send(self) -> None:
            super().initiate_send()

    loop(two(Once))
    assert Chat.senders == "AB" * 10


def test_who_calls_handle_write_sends_one_item(two: Ends) -> None:
    first, *_ = two(Chat).values()
    first.handle_write()
    assert Chat.senders == "A"
