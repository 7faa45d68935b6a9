"""What many connections that came at once keep when they were answered."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, socket
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from txasynchat import AsyncChat

class Echo(AsyncChat):
    def handle_connect(self):
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)
    def found_terminator(self):
        self.push(self._get_data())

reactor = Clock()
reactor.addReader = reactor.addWriter = reactor.removeReader = reactor.removeWriter = id
connections = []
for number in range(60):
    ours, peer = socket.socketpair()
    chat = Echo()
    transport = Server(ours, chat, ("127.0.0.1", 1), None, number, reactor)
    chat.makeConnection(transport)
    connections.append((transport, chat, peer))
for transport, chat, peer in connections:
    peer.sendall(b"hello\\n")
    transport.doRead()
    transport.doWrite()
    assert peer.recv(10) == b"hello"
print(sum(isinstance(each, dict) for each in gc.get_referents(*(row[0] for row in connections))))
print(sum(isinstance(each, dict) for each in gc.get_referents(*(row[1] for row in connections))))
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="each object has a dict, if a small one")
def test_neither_transports_nor_handlers_have_a_dict_of_their_own() -> None:
    # In a process of its own: what counts is which attributes were seen first.
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == ["0", "0"], result.stdout
