"""Servers, clients and services as programs set them up."""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory
from typing_extensions import assert_type

from txasynchat import AsyncChat, AsyncChatFactory, LegacyFactory
from txasynchat.asynchat import async_chat
from txasynchat.connections import Connections
from txasynchat.limits import Limits
from txasynchat.listening import Listener
from txasynchat.replay import Difference, replay
from txasynchat.service import ChatService
from txasynchat.trace import TracingFactory


class Upper(AsyncChat):
    """A handler."""

    def __init__(self, greeting: bytes = b"hello") -> None:
        self.greeting = greeting


class Line(async_chat):
    """A legacy handler."""

    def __init__(self, sock: Any, addr: Any) -> None:
        async_chat.__init__(self, sock)


def serve(reactor: Any) -> None:
    """The three kinds of factories, on endpoints."""
    endpoint = serverFromString(reactor, "tcp:8007")
    endpoint.listen(Factory.forProtocol(Upper))
    endpoint.listen(AsyncChatFactory(Upper, b"hello", max_connections=5))
    endpoint.listen(LegacyFactory(Line, close_timeout=None))


def ask(reactor: Any) -> Deferred[Upper]:
    """A client gets its own protocol back."""
    endpoint = clientFromString(reactor, "tcp:localhost:8007")
    connected: Deferred[Upper] = connectProtocol(endpoint, Upper())
    return connected


def broadcast(factory: AsyncChatFactory[Upper], sender: Upper) -> None:
    """A factory knows the class of its handlers."""
    assert_type(factory.connections, set[Upper])
    for chat in factory.connections:
        assert_type(chat.greeting, bytes)
    factory.broadcast(b"news", but=sender)


def service(parent: MultiService) -> ChatService:
    """What twistd asynchat makes, from code."""
    limits = Limits(max_connections=100, max_per_peer=None, idle_timeout=60)
    listeners = [Listener("tcp:8007"), Listener("unix:chat.sock")]
    made = ChatService(
        Connections(AsyncChatFactory(Upper), limits, name="Upper"),
        listeners,
        "capitals",
        drain_timeout=10,
    )
    ChatService(Connections(LegacyFactory(Line)), listeners, "a legacy handler")
    traced = TracingFactory(AsyncChatFactory(Upper), "trace.jsonl")
    ChatService(Connections(traced), listeners, "a traced handler")
    ChatService(Connections(Factory.forProtocol(Upper)), listeners, "a plain factory")
    made.setServiceParent(parent)
    return made


async def differences() -> list[Difference]:
    """Plays what was recorded."""
    return await replay("trace.jsonl", AsyncChatFactory(Upper))
