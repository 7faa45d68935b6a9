"""Clients: connect to an endpoint, talk, close."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint

from txasynchat.bridge import bridged, loop_of_task
from txasynchat.protocol import AsyncChat

__all__ = ("Connecting", "connect")

_Chat = TypeVar("_Chat", bound=AsyncChat)


@overload
def connect(endpoint: object, *, reactor: object = None) -> Connecting[AsyncChat]: ...


@overload
def connect(
    endpoint: object, handler: Callable[[], _Chat], *, reactor: object = None
) -> Connecting[_Chat]: ...


def connect(
    endpoint: Any, handler: Callable[[], Any] = AsyncChat, *, reactor: Any = None
) -> Connecting[Any]:
    """Connect, for the time of a block: ``async with connect("tcp:host:25") as chat:``.

    At the end of the block what was pushed is sent and the connection closed; a block that
    ends with an exception cuts it. Either way it is gone when the block is left. Works in
    coroutines of Twisted's and in tasks of asyncio.

    :param endpoint: a client endpoint, or a string as for Twisted's ``clientFromString()``:
        ``tcp:host:port``, ``tls:host:port``, ``unix:/path``. It has the timeout.
    :param handler: an :class:`AsyncChat` class, or what makes one: called for each block. Without
        one the block reads by coroutines alone.
    :param reactor: what a string's endpoint is on; None for the default reactor.
    :raise ValueError: for a string that names no endpoint.
    :raise TypeError: for what can't be connected to, or makes no handler.
    :raise RuntimeError: in an asyncio program in which the reactor does not run.

    >>> async def mail(to):
    ...     async with connect("tcp:localhost:25") as chat:
    ...         greeting = await chat.read_until(b"\\r\\n")
    ...         chat.push(b"QUIT\\r\\n")
    """
    if not callable(handler):
        raise TypeError(f"connect() needs a class or what makes a handler, not {handler!r}")
    if isinstance(endpoint, str):
        if reactor is None:
            reactor = _default_reactor()
        endpoint = clientFromString(reactor, endpoint)
    elif not IStreamClientEndpoint.providedBy(endpoint):
        raise TypeError(f"connect() needs a client endpoint or its description, not {endpoint!r}")
    return Connecting(endpoint, handler)


def _default_reactor() -> Any:
    from twisted.internet import reactor  # noqa: TID251

    if loop_of_task() is not None and not reactor.running:
        raise RuntimeError(
            "connect() in a task of asyncio, but Twisted's reactor does not run: enter "
            "'async with asyncio_reactor():' first"
        )
    return reactor


class Connecting(Generic[_Chat]):
    """What :func:`connect` returns: a connection for the time of an ``async with`` block."""

    def __init__(self, endpoint: Any, handler: Callable[[], _Chat]) -> None:
        self._endpoint = endpoint
        self._handler = handler
        self._chat: _Chat | None = None

    async def __aenter__(self) -> _Chat:
        if self._chat is not None:
            raise RuntimeError("this connection was used already: call connect() again")
        chat = self._chat = self._handler()
        if not isinstance(chat, AsyncChat):
            raise TypeError(f"connect() needs what makes an AsyncChat, not {chat!r}")
        try:
            await bridged(connectProtocol(self._endpoint, chat))
        except BaseException:
            chat.abort()  # the block is not entered, even if the connection was there
            raise
        return chat

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        chat = self._chat
        assert chat is not None
        if error is None:
            chat.close_when_done()
        else:
            chat.abort()
            if kind is GeneratorExit:  # of a coroutine that is closed: it can't wait
                return
        await chat.closed()
