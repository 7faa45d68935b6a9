"""What a type checker must object to: an ignore that has nothing to ignore is an error too."""

from __future__ import annotations

from typing import Any

from txasynchat import AsyncChat, AsyncChatFactory, LegacyFactory, asynchat, asyncore, connect, fifo
from txasynchat.connections import Connections
from txasynchat.limits import Limits
from txasynchat.listening import Listener
from txasynchat.service import ChatService


class TextHandler(AsyncChat):
    """Takes its input for text."""

    def collect_incoming_data(self, data: str) -> None:  # type: ignore[override]
        """Bytes come."""

    def found_terminator(self) -> int:  # type: ignore[override]
        return 1


class OldTextHandler(asynchat.async_chat):
    """The same in the old style."""

    def collect_incoming_data(self, data: str) -> None:  # type: ignore[override]
        """Bytes come."""

    def found_terminator(self) -> None:
        """Nothing is wrong here."""


def push_what_is_no_bytes(chat: AsyncChat, old: asynchat.async_chat) -> None:
    """Numbers, nothing, lists."""
    chat.push(5)  # type: ignore[arg-type]
    chat.push(None)  # type: ignore[arg-type]
    chat.push([b"pieces"])  # type: ignore[arg-type]
    old.push(5)  # type: ignore[arg-type]


def end_at_what_is_no_terminator(chat: AsyncChat, old: asynchat.async_chat) -> None:
    """Floats, lists, tuples of text."""
    chat.set_terminator(1.5)  # type: ignore[arg-type]
    chat.set_terminator([b"\n"])  # type: ignore[arg-type]
    chat.set_terminator(("\n",))  # type: ignore[arg-type]
    chat.terminator = 1.5  # type: ignore[assignment]
    old.set_terminator(1.5)  # type: ignore[arg-type]


async def misuse_what_is_waited_for(chat: AsyncChat) -> None:
    """closed() tells a reason, drained() nothing."""
    reason: int = await chat.closed()  # type: ignore[assignment]
    print(reason)
    chat.close_reason = None  # type: ignore[misc]
    chat.is_open = True  # type: ignore[misc]
    chat.idle_timeout = "60"  # type: ignore[assignment]
    chat.max_message_length = 1.5  # type: ignore[assignment]


async def misuse_reads(chat: AsyncChat) -> None:
    """What is read is bytes, and what is searched for no number."""
    text: str = await chat.read()  # type: ignore[assignment]
    print(text)
    await chat.read_until(5)  # type: ignore[arg-type]
    await chat.read_exactly(b"5")  # type: ignore[arg-type]
    async for message in chat.messages(1.5):  # type: ignore[arg-type]
        print(message)
    connect("tcp:localhost:1", chat)  # type: ignore[call-overload]


def misuse_a_factory(chats: AsyncChatFactory[TextHandler], other: AsyncChat) -> None:
    """It has handlers of one class."""
    chats.connections.add(other)  # type: ignore[arg-type]
    chats.broadcast(5)  # type: ignore[arg-type]
    AsyncChatFactory(5)  # type: ignore[arg-type]
    LegacyFactory(5)  # type: ignore[arg-type]


def misuse_a_service(factory: AsyncChatFactory[TextHandler], listener: Listener) -> None:
    """It takes connections, and a list of listeners."""
    Limits(max_connections="5")  # type: ignore[arg-type]
    Limits(max_connection=5)  # type: ignore[call-arg]
    Connections(5)  # type: ignore[arg-type]
    ChatService(factory, [listener], "a factory")  # type: ignore[arg-type]
    ChatService(Connections(factory), listener, "a listener")  # type: ignore[arg-type]


def misuse_the_old_modules(channel: asyncore.dispatcher) -> None:
    """Arguments in the wrong place."""
    asyncore.loop("30")  # type: ignore[arg-type]
    asyncore.loop(map=[channel])  # type: ignore[arg-type]
    channel.send("text")  # type: ignore[arg-type]
    channel.recv(b"10")  # type: ignore[arg-type]
    channel.accept().close()  # type: ignore[union-attr]
    number: int = fifo([1]).pop()  # type: ignore[assignment]
    print(number)


def misuse_a_client(what: Any) -> None:
    """Arguments that are not there."""
    OldTextHandler(what, what, what)  # type: ignore[call-arg]
    asynchat.simple_producer("text")  # type: ignore[arg-type]
