"""An answer is sent in the turn in which its request came, where the transport can do that."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock

from txasynchat import AsyncChat


class Descriptor(FileDescriptor):
    """A transport that keeps what it is given until :meth:`doWrite`."""

    TLS = False
    disconnecting = False

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.sent: list[bytes] = []
        self.chat: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.chat = producer

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.kept.append(data)

    def doWrite(self) -> None:
        self.sent.extend(self.kept)
        self.kept.clear()


class Echo(AsyncChat):
    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.push(self._get_data())


@pytest.fixture
def served() -> tuple[Echo, Descriptor]:
    chat, transport = Echo(), Descriptor()
    chat.callLater = Clock().callLater  # type: ignore[method-assign, assignment]
    chat.makeConnection(transport)
    return chat, transport


def test_the_answers_to_a_chunk_are_sent_at_once_as_one(served: tuple[Echo, Descriptor]) -> None:
    chat, transport = served
    chat.dataReceived(b"one\ntwo\n")
    assert transport.sent == [b"onetwo"]


def test_what_is_pushed_from_outside_is_left_to_the_transport(
    served: tuple[Echo, Descriptor],
) -> None:
    chat, transport = served
    chat.push(b"news")
    assert (transport.sent, transport.kept) == ([], [b"news"])


@pytest.mark.parametrize("state", ["TLS", "disconnecting"])
def test_a_transport_with_more_to_do_than_sending_is_left_alone(
    state: str, served: tuple[Echo, Descriptor]
) -> None:
    # After startTLS() what was written is not there yet; a close is a turn of its own.
    chat, transport = served
    setattr(transport, state, True)
    chat.dataReceived(b"one\n")
    assert (transport.sent, transport.kept) == ([], [b"one"])


def test_a_transport_that_is_full_is_left_alone(served: tuple[Echo, Descriptor]) -> None:
    chat, transport = served

    def write(data: bytes) -> None:
        transport.kept.append(data)
        transport.chat.pauseProducing()

    transport.write = write  # type: ignore[method-assign]
    chat.dataReceived(b"one\n")
    assert (transport.sent, transport.kept) == ([], [b"one"])
