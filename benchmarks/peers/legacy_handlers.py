"""Handlers as written for the removed modules: the same source on those and on the drop-in."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

from benchmarks import traffic
from benchmarks.handlers import Counting


def in_memory(asynchat: ModuleType) -> SimpleNamespace:
    """The handlers of the in-memory workloads: what they ``recv()`` is the next chunk."""
    async_chat: Any = asynchat.async_chat

    class Fed(Counting, async_chat):  # type: ignore[misc]
        chunk = b""

        def recv(self, size: int) -> bytes:
            return self.chunk

        def feed(self, chunks: Sequence[bytes]) -> None:
            for chunk in chunks:
                self.chunk = chunk
                self.handle_read()

        def handle_error(self) -> None:
            raise  # rather than going on: it would be timed

    class Lines(Fed):
        """Messages that end at a delimiter."""

        def __init__(self, delimiter: bytes, longest: int) -> None:
            async_chat.__init__(self)
            self.set_terminator(delimiter)

    class Frames(Fed):
        """Messages that follow their length."""

        def __init__(self, longest: int) -> None:
            async_chat.__init__(self)
            self.header = b""
            self.in_body = False
            self.set_terminator(4)

        def collect_incoming_data(self, data: bytes) -> None:
            if self.in_body:
                self.size += len(data)
            else:
                self.header += data

        def found_terminator(self) -> None:
            if self.in_body:
                self.count += 1
                self.in_body = False
                self.set_terminator(4)
            else:
                self.in_body = True
                self.set_terminator(int.from_bytes(self.header, "big"))
                self.header = b""

    return SimpleNamespace(Lines=Lines, Frames=Frames)


def services(asynchat: ModuleType) -> dict[str, Any]:
    """The handlers of the services."""
    async_chat: Any = asynchat.async_chat

    class Chat(async_chat):  # type: ignore[misc]
        """What they have in common: requests are lines."""

        def __init__(self, sock: Any, addr: Any = None) -> None:
            async_chat.__init__(self, sock)
            self.set_terminator(b"\r\n")

        def collect_incoming_data(self, data: bytes) -> None:
            self._collect_incoming_data(data)

    class Echo(Chat):
        """Answers each line with the line."""

        def found_terminator(self) -> None:
            self.push(self._get_data() + b"\r\n")

    class Once(Chat):
        """Answers one line, then closes."""

        def found_terminator(self) -> None:
            self.push(self._get_data() + b"\r\n")
            self.close_when_done()

    class Producer(Chat):
        """Sends so many bytes from a producer."""

        def found_terminator(self) -> None:
            self.push_with_producer(traffic.Pieces(int(self._get_data())))

    class Push(Chat):
        """Sends so many bytes with one push."""

        def found_terminator(self) -> None:
            self.push(traffic.whole(int(self._get_data())))

    return {"echo": Echo, "once": Once, "producer": Producer, "push": Push}


def server(asyncore: ModuleType, handler: Any) -> int:
    """Listen on a port of the system's choice, and return it; ``loop()`` serves it."""
    dispatcher: Any = asyncore.dispatcher

    class Server(dispatcher):  # type: ignore[misc]
        def __init__(self) -> None:
            dispatcher.__init__(self)
            self.create_socket()
            self.bind(("127.0.0.1", 0))
            self.listen(4096)

        def handle_accepted(self, sock: Any, addr: Any) -> None:
            handler(sock)

    port: int = Server().socket.getsockname()[1]
    return port
