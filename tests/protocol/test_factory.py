"""AsyncChatFactory makes handlers, knows the live ones and limits their number."""

from __future__ import annotations

from typing import TypeVar

import pytest
from support import Chat, Wire

from txasynchat import AsyncChat, AsyncChatFactory
from txasynchat.factory import Refusal


class Guest(AsyncChat):
    def __init__(self, room: str, colour: str = "red") -> None:
        self.room = room
        self.colour = colour


_Handler = TypeVar("_Handler", bound=AsyncChat)


def make(factory: AsyncChatFactory[_Handler]) -> tuple[_Handler, Wire]:
    chat = factory.buildProtocol(None)
    assert not isinstance(chat, Refusal)
    return chat, Wire().connect(chat)


def test_handlers_get_the_arguments_of_the_factory() -> None:
    factory = AsyncChatFactory(Guest, "lobby", colour="blue")
    chat, _ = make(factory)
    assert (chat.room, chat.colour, chat.factory) == ("lobby", "blue", factory)


def test_a_handler_may_be_any_callable() -> None:
    chat, _ = make(AsyncChatFactory(lambda: Guest("lambda")))
    assert chat.room == "lambda"


def test_what_cannot_be_called_is_no_handler() -> None:
    with pytest.raises(TypeError, match="a class or a callable"):
        AsyncChatFactory("Guest")  # type: ignore[arg-type]


def test_the_factory_knows_the_live_connections() -> None:
    factory = AsyncChatFactory(Chat)
    (first, wire), (second, _) = make(factory), make(factory)
    assert factory.connections == {first, second}
    first.close()
    wire.lose()
    assert factory.connections == {second}


def test_a_connection_on_top_of_the_limit_is_refused_until_one_ends() -> None:
    factory = AsyncChatFactory(Chat, max_connections=1)
    _, wire = make(factory)
    refused = Wire()
    factory.buildProtocol(None).makeConnection(refused)
    assert refused.disconnecting
    wire.lose()
    make(factory)


def test_broadcast_reaches_those_that_are_open() -> None:
    factory = AsyncChatFactory(Chat)
    (talker, first), (_, second), (leaving, third) = (make(factory) for _ in range(3))
    leaving.close_when_done()
    factory.broadcast(b"news", but=talker)
    assert [wire.value() for wire in (first, second, third)] == [b"", b"news", b""]
