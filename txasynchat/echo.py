"""The ECHO example, served by ``twistd asynchat`` when it is told no other handler.

A client sends ``ECHO length\\n`` and exactly that many bytes; it gets them back
and the connection closes.
"""

from __future__ import annotations

from txasynchat.core.outbox import simple_producer
from txasynchat.protocol import AsyncChat

__all__ = ("EchoHandler",)


class EchoHandler(AsyncChat):
    """A command line, then a body of as many bytes as it says, echoed by a producer.

    >>> from twisted.internet.testing import StringTransport
    >>> echo, transport = EchoHandler(), StringTransport()
    >>> echo.makeConnection(transport)
    >>> echo.dataReceived(b"ECHO 5\\nhello")
    >>> transport.value()
    b'hello'
    """

    #: The longest body, in bytes: it is kept in memory until it is complete.
    max_body_length = 16 * 1024 * 1024

    def handle_connect(self) -> None:
        """Expect a command."""
        self.idle_timeout: float | None = 60
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        """Keep the piece of the command or of the body."""
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        """A command, or the body that one announced, is complete."""
        if self.matched == b"\n":
            self._command(self._get_data())
        else:
            self._echo(self._get_data())

    def _command(self, line: bytes) -> None:
        words = line.split()
        if len(words) != 2 or words[0] != b"ECHO" or not words[1].isdigit():
            self._refuse(b"expected: ECHO length")
        elif len(words[1]) > 20 or int(words[1]) > self.max_body_length:
            self._refuse(b"expected: a length of at most %d" % self.max_body_length)
        elif int(words[1]) == 0:
            self._echo(b"")
        else:
            self.set_terminator(int(words[1]))

    def _echo(self, body: bytes) -> None:
        self.push_with_producer(simple_producer(body, buffer_size=65536))
        self.close_when_done()

    def _refuse(self, why: bytes) -> None:
        self.push(b"error: " + why + b"\n")
        self.close_when_done()
