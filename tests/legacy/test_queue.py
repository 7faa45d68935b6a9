"""The queue of an async_chat, which is made when somebody needs it."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from txasynchat import asynchat


class Chat(asynchat.async_chat):
    def collect_incoming_data(self, data: bytes) -> None:
        pass

    def found_terminator(self) -> None:
        pass


class InItsBody(Chat):
    producer_fifo = deque([b"of the class"])


class OwnProperty(Chat):
    kept: Any = None

    @property
    def producer_fifo(self) -> Any:
        return self.kept

    @producer_fifo.setter
    def producer_fifo(self, queue: Any) -> None:
        self.kept = queue


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("kind", [Chat, InItsBody, OwnProperty])
def test_each_channel_has_an_empty_queue_of_its_own(kind: type[Chat], sockets: Pair) -> None:
    channel = kind(sockets[0], {})
    assert type(channel.producer_fifo) is deque
    assert not channel.producer_fifo
    assert channel.producer_fifo is channel.producer_fifo


@pytest.mark.parametrize("kind", [Chat, InItsBody, OwnProperty])
def test_what_is_put_into_the_queue_is_sent(kind: type[Chat], sockets: Pair) -> None:
    channel = kind(sockets[0], {})
    channel.producer_fifo.append(b"put ")
    assert channel.writable()
    channel.initiate_send()
    channel.push(b"pushed")
    assert sockets[1].recv(100) == b"put pushed"


@pytest.mark.parametrize("shape", [("I",), ("B", (100, 1000))])
def test_a_view_of_larger_elements_is_sent_in_parts_like_any(shape: Any, sockets: Pair) -> None:
    class TakesLittle(Chat):
        def send(self, data: Any) -> int:
            return super().send(data[:3001])

    data = bytes(index % 251 for index in range(100000))
    channel = TakesLittle(sockets[0], {})
    channel.push_with_producer(memoryview(data).cast(*shape))
    received = b""
    while channel.producer_fifo:
        received += sockets[1].recv(4096)
        channel.initiate_send()
    sockets[0].close()
    while more := sockets[1].recv(4096):
        received += more
    assert received == data


def test_an_idle_channel_has_none(sockets: Pair) -> None:
    channel = Chat(sockets[0], {})
    assert not channel.writable()
    channel.discard_buffers()
    assert channel._txa_producer_fifo is None


def test_threads_that_push_first_push_to_one_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Chat):
        def send(self, data: Any) -> int:
            return 0

    channel = Full(None, {})
    other = threading.Thread(target=channel.push, args=(b"theirs",))

    def made_slowly() -> deque[Any]:
        if other.ident is None:
            other.start()
            other.join(0.2)  # it can't have got on
        return deque()

    monkeypatch.setattr(asynchat, "deque", made_slowly)
    channel.push(b"ours")
    other.join()
    assert sorted(channel.producer_fifo) == [b"ours", b"theirs"]
