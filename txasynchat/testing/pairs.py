"""Two handlers that talk to each other, in memory, and a pump between them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

from txasynchat.testing.conversations import ChatClock, Conversation, NeverRests, connect

__all__ = ("Pair", "connect_pair")

_Pair = TypeVar("_Pair", bound="Pair")


class Pair:
    """A client and a server, each the other's peer. Made by :func:`connect_pair`.

    Nothing moves between them but by :meth:`pump`. As a context manager it ends both, and
    raises what one of them raised.

    :ivar client: a :class:`~txasynchat.testing.Conversation`: what it has sent is its
        ``output``.
    :ivar server: another.
    :ivar clock: that of both.

    >>> from txasynchat import AsyncChat
    >>> from txasynchat.echo import EchoHandler
    >>> class Client(AsyncChat):
    ...     def handle_connect(self):
    ...         self.set_terminator(5)
    ...         self.push(b"ECHO 5\\nhello")
    ...     collect_incoming_data = AsyncChat._collect_incoming_data
    ...     def found_terminator(self):
    ...         print(self._get_data())
    ...         self.close()
    >>> with connect_pair(Client, EchoHandler) as pair:
    ...     pair.pump(1)
    b'hello'
    """

    def __init__(self, client: Conversation, server: Conversation) -> None:
        self.client = client
        self.server = server
        self.clock: Any = client.clock
        self._ends = {client: server, server: client}
        self._told: set[Conversation] = set()
        for each in self._ends:
            each.wire.clog()
            each.wire.ends_too = False  # the other handler decides

    def pump(self, at_most: int | None = None, rounds: int = 10_000) -> None:
        """Move what the two have sent, until there is nothing more to move.

        :param at_most: so many bytes at once; None for all there are.
        :param rounds: after how many they are taken to talk for ever.
        :raise NeverRests: if they do.
        """
        for _ in range(rounds):
            moved = [self._move(each, at_most) for each in self._ends]
            if not any(moved):
                return
        raise NeverRests(
            f"after {rounds} rounds there is still something to move:\n"
            + "\n".join(self.client.transcript()[-10:])
        )

    def _move(self, talk: Conversation, at_most: int | None) -> bool:
        peer = self._ends[talk]
        if peer.is_paused and not peer.is_closed:
            return False
        size = talk.wire.waiting if at_most is None else at_most
        data = talk.take(size) if talk.wire.waiting else b""
        if data:
            peer.receive(data)
        elif self._has_ended(talk) and talk not in self._told:
            self._told.add(talk)
            if talk.wire.was_cut:
                peer.disconnect()
            else:
                peer.finish()
            return True
        return bool(data)

    def _has_ended(self, talk: Conversation) -> bool:
        return talk.is_closed or talk.wire.is_mute

    def end(self) -> None:
        """End both connections; raise what one of the handlers raised."""
        self.client.leave()
        self.server.leave()
        self.client.end()
        self.server.end()

    def __enter__(self: _Pair) -> _Pair:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.end()
        else:
            self.client.leave()
            self.server.leave()


def connect_pair(client: Any, server: Any, clock: Any = None) -> Pair:
    """Connect two handlers to each other.

    :param client: what :func:`~txasynchat.testing.connect` takes; it is told first that it
        is connected.
    :param server: the same.
    :param clock: for both, a ``task.Clock``; None for one of its own.
    """
    clock = ChatClock() if clock is None else clock
    return Pair(*(connect(each, clock=clock, takes=65536) for each in (client, server)))
