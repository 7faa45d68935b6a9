"""Servers without Twisted, for examples that are clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

TIMEOUT = 20


class Server:
    """Has a function talk to each connection, in a thread of its own."""

    def __init__(self, talk: Callable[[socket.socket], object]) -> None:
        self._talk = talk
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp:127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # it was closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        with connection, suppress(ConnectionError):
            self._talk(connection)

    def close(self) -> None:
        # What accept() waits on in another thread is not woken by close() alone.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def all_of(connection: socket.socket) -> bytes:
    """What comes, to the end."""
    return b"".join(iter(lambda: connection.recv(65536), b""))
