"""Legacy handlers on a transport in memory, as a LegacyFactory has them, and who watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from support import Wire
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txasynchat import LegacyFactory, asynchat, asyncore
from txasynchat.legacy.serving import Connection


class Watching:
    """Keeps what it is told of connections."""

    def __init__(self, lets_in: bool = True) -> None:
        self.lets_in = lets_in
        self.told: list[tuple[Any, ...]] = []

    @property
    def names(self) -> list[str]:
        """Of what it was told, in words."""
        return [each[0] for each in self.told]

    def opened(self, connection: Any, /) -> bool:
        self.told.append(("opened",))
        return self.lets_in

    def ended(self, connection: Any, /) -> None:
        self.told.append(("ended", connection.close_reason))

    def failed(self, connection: Any, failure: Failure, /) -> None:
        self.told.append(("failed", failure.value))

    def limited(self, connection: Any, limit: str, detail: str, /) -> None:
        self.told.append(("limited", limit))


class Lines(asynchat.async_chat):
    """Answers each line with it, and says what becomes of it."""

    def __init__(self, sock: Any, addr: Any, map: dict[int, Any] | None = None) -> None:
        asynchat.async_chat.__init__(self, sock, map)
        self.lines: list[bytes] = []
        self.closes = 0
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.lines.append(self._get_data())
        self.answer(self.lines[-1])

    def answer(self, line: bytes) -> None:
        self.push(line + b"\n")

    def handle_close(self) -> None:
        self.closes += 1
        self.close()

    def log_info(self, message: Any, type: str = "info") -> None:
        pass


class Line:
    """A connection, its channel and its wire; who loops over the map is the test."""

    def __init__(self, kind: Callable[..., Any], watcher: Any = None, **limits: Any) -> None:
        self.map: dict[int, Any] = {}
        self.clock = Clock()
        self.channel: Any = None
        self.watcher = Watching() if watcher is None else watcher

        def build(sock: Any, addr: Any) -> None:
            self.channel = kind(sock, addr, self.map)

        self.factory = LegacyFactory(build)
        self.connection: Connection = self.factory.buildProtocol(None)
        self.connection.callLater = self.clock.callLater  # type: ignore[method-assign, assignment]
        self.connection._watcher = self.watcher
        for name, value in limits.items():
            setattr(self.connection, name, value)
        self.wire = cast(Any, Wire())
        self.wire.protocol = self.connection
        self.connection.makeConnection(self.wire)  # type: ignore[no-untyped-call]

    def serve(self, rounds: int = 5) -> None:
        """Serve the channel for some rounds."""
        for _ in range(rounds):
            asyncore.poll(0, self.map)

    def receive(self, data: bytes) -> None:
        """The peer has sent."""
        self.connection.dataReceived(data)
        self.serve()

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone."""
        self.connection.connectionLost(Failure(error or ConnectionDone()))
        self.serve()

    @property
    def reason(self) -> str:
        """Who ended it."""
        return str(self.connection.close_reason)
