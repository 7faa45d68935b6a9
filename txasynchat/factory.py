"""AsyncChatFactory: for servers where ``Factory.forProtocol`` is not enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from txasynchat.addresses import in_words
from txasynchat.core.outbox import BytesLike
from txasynchat.protocol import AsyncChat

__all__ = ("AsyncChatFactory", "Refusal")


_Chat = TypeVar("_Chat", bound=AsyncChat)


class Refusal(Protocol):
    """The protocol of a connection that is refused: it closes it.

    For factories to return where they could return None, which those that wrap others, for
    TLS and the PROXY protocol, can't take.
    """

    def makeConnection(self, transport: Any) -> None:
        """The transport is there: it is closed. Twisted calls this."""
        super().makeConnection(transport)  # type: ignore[no-untyped-call]
        transport.loseConnection()


class AsyncChatFactory(Factory, Generic[_Chat]):
    """Makes a handler for each connection and knows those that are alive.

    :param handler: an :class:`AsyncChat` class, or a callable that makes one.
    :param args: passed to it, as are all keyword arguments but `max_connections`.
    :param max_connections: how many connections may be alive at once; one that
        comes on top of that is closed at once. None for any number.
    :ivar connections: the live handlers.

    >>> class Guest(AsyncChat):
    ...     def __init__(self, room):
    ...         self.room = room
    >>> factory = AsyncChatFactory(Guest, "lobby", max_connections=1)
    >>> guest = factory.buildProtocol(None)
    >>> second = factory.buildProtocol(None)
    >>> guest.room, factory.connections == {guest}, isinstance(second, Guest)
    ('lobby', True, False)
    """

    _log = Logger()

    def __init__(
        self,
        handler: Callable[..., _Chat],
        *args: Any,
        max_connections: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"the handler is a class or a callable, not {handler!r}")
        self.handler = handler
        self.args = args
        self.kwargs = kwargs
        self.max_connections = max_connections
        self.connections: set[_Chat] = set()

    def buildProtocol(self, addr: IAddress | None) -> _Chat | Refusal:
        """Make the handler of a connection. Twisted calls this.

        :param addr: the peer's address.
        :return: what closes the connection, when there are too many.
        """
        if self.max_connections is not None and len(self.connections) >= self.max_connections:
            self._log.warn(
                "connection from {peer} refused: max_connections={limit} are alive",
                peer=in_words(addr),
                limit=self.max_connections,
            )
            return Refusal()
        chat = self.handler(*self.args, **self.kwargs)
        chat.factory = self
        self.connections.add(chat)
        chat.closed().addCallback(lambda _: self.connections.discard(chat))
        return chat

    def broadcast(self, data: BytesLike | str, but: AsyncChat | None = None) -> None:
        """Push `data` on every connection that is open.

        :param but: a connection to leave out.
        """
        for chat in tuple(self.connections):
            if chat.is_open and chat is not but:
                chat.push(data)
