"""A legacy program with the types that typeshed had for the old modules.

Nothing runs it: mypy checks it with the rest, so an annotation of the drop-in that
changes breaks the build.
"""

from __future__ import annotations

from socket import socket
from typing import Any

from typing_extensions import assert_type

from txasynchat import asynchat, asyncore


class Handler(asynchat.async_chat):
    """Overrides with typeshed's own signatures."""

    def __init__(self, sock: socket, map: dict[int, Any] | None = None) -> None:
        asynchat.async_chat.__init__(self, sock, map)
        self.set_terminator(b"\n")
        self.ac_in_buffer_size = 4096

    def collect_incoming_data(self, data: bytes) -> None:
        """Override."""

    def found_terminator(self) -> None:
        """Override."""
        assert_type(self.get_terminator(), bytes | int | None)
        self.push(b"")
        self.push_with_producer(asynchat.simple_producer(b"", 512))
        self.close_when_done()
        self.initiate_send()
        self.discard_buffers()

    def push(self, data: bytes) -> None:
        """Override."""

    def set_terminator(self, term: bytes | int | None) -> None:
        """Override."""

    def get_terminator(self) -> bytes | int | None:
        """Override."""
        return asynchat.async_chat.get_terminator(self)

    def push_with_producer(self, producer: asynchat.simple_producer) -> None:
        """Override."""


class Server(asyncore.dispatcher):
    """Overrides with typeshed's own signatures."""

    def readable(self) -> bool:
        """Override."""
        return self.accepting

    def writable(self) -> bool:
        """Override."""
        return False

    def handle_accept(self) -> None:
        """Override."""
        assert_type(self.accept(), tuple[socket, Any] | None)

    def set_socket(self, sock: socket, map: dict[int, Any] | None = None) -> None:
        """Override."""
        assert_type(self.socket, socket | None)

    def recv(self, buffer_size: int) -> bytes:
        """Override."""
        return b""

    def log_info(self, message: Any, type: str = "info") -> None:
        """Override."""

    def handle_error(self) -> None:
        """Override."""
        assert_type(asyncore.compact_traceback(), tuple[tuple[str, str, str], type, type, str])


def main() -> None:
    """Use the functions."""
    assert_type(asyncore.socket_map, dict[int, Any])
    asyncore.loop(timeout=1.0, use_poll=True, map={}, count=1)
    asyncore.poll(0.0, map=None)
    asyncore.poll2(0.0, {})
    asyncore.poll3(0.0, {})
    asyncore.close_all(map=None, ignore_all=True)
    for each in (asyncore.read, asyncore.write):
        each(object())
    asyncore.readwrite(object(), 1)
    assert_type(asyncore.file_wrapper(0).getsockopt(1, 2), int)
    assert_type(asyncore.file_wrapper(0).getsockopt(1, 2, 3), bytes)
    assert_type(asyncore.file_wrapper(0).recv(10), bytes)
    asyncore.file_dispatcher(0).set_file(1)
    assert_type(asyncore.dispatcher_with_send().send(b""), int)
    assert_type(asyncore.dispatcher().debug, bool)
    assert_type(asyncore.dispatcher().ignore_log_types, frozenset[str])
