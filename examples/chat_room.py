"""A chat room: what one guest says, all others hear.

The first line that a guest sends is a nickname; until then they only listen.
QUIT leaves. A guest who does not read what the others say is put out, so that
nobody can fill the server's memory. Start it, then join from two other shells:

    python examples/chat_room.py
    nc 127.0.0.1 8009
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react

from txasynchat import AsyncChat, AsyncChatFactory, PauseReason


class Guest(AsyncChat):
    """One connection to the room."""

    max_message_length = 4096
    name = b""

    def __init__(self, room: Room) -> None:
        self.room = room

    def handle_connect(self) -> None:
        self.set_terminator((b"\r\n", b"\n"))  # as telnet and as nc end a line
        self.push(b"* Welcome! What is your name?\r\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        line = self._get_data()
        if line == b"QUIT":
            self.push(b"* Goodbye!\r\n")
            self.close_when_done()
        elif not self.name:
            self.enter(line)
        elif line:
            self.room.tell(self.name + b": " + line, but=self)

    def enter(self, name: bytes) -> None:
        if not re.fullmatch(rb"[A-Za-z0-9_-]{1,20}", name):
            self.push(b"* A name has up to 20 letters and digits. What is yours?\r\n")
        elif name in self.room.names:
            self.push(b"* That name is taken. What is yours?\r\n")
        else:
            self.name = name
            self.room.tell(b"* " + name + b" joined")

    def handle_close(self) -> None:
        if self.name:
            self.room.tell(b"* " + self.name + b" left")


class Room(AsyncChatFactory[Guest]):
    """Everybody who is connected, and so the names that are taken."""

    def __init__(self) -> None:
        super().__init__(Guest, self, max_connections=1000)

    @property
    def names(self) -> set[bytes]:
        return {guest.name for guest in self.connections}

    def tell(self, line: bytes, but: Guest | None = None) -> None:
        self.broadcast(line + b"\r\n", but)
        for guest in tuple(self.connections):
            # A full output pauses that guest's own input, but not what others say.
            if PauseReason.OUTPUT_FULL in guest.paused_because:
                guest.close()


async def main(reactor: Any, listen: str) -> None:
    endpoint: Any = serverFromString(reactor, listen)
    port = await endpoint.listen(Room())
    at = port.getHost()
    print("listening on", f"{at.host}:{at.port}" if hasattr(at, "port") else at, flush=True)
    await Deferred()  # until SIGINT or SIGTERM stops the reactor


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--listen", metavar="ENDPOINT", default="tcp:8009:interface=127.0.0.1")
    react(main, [parser.parse_args().listen])
