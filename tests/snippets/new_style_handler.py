"""A handler as its author types it: overrides, attributes, methods, what they return."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from typing_extensions import assert_type

from txasynchat import AsyncChat, CloseReason, PauseReason, Terminator


class Upper(AsyncChat):
    """Answers each line in capitals."""

    ac_in_buffer_size = 4096
    use_encoding = True
    encoding = "utf-8"
    max_message_length = 1000
    max_queued_output = None
    idle_timeout = 60
    close_timeout = 2.5

    def __init__(self, greeting: bytes = b"hello\n") -> None:
        self.greeting = greeting
        self.lines = 0

    def handle_connect(self) -> None:
        self.set_terminator((b"\r\n", b"\n"))
        self.push(self.greeting)

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.lines += 1
        line = self._get_data()
        assert_type(line, bytes)
        self.push(line.upper() + b"\n")
        self.push(bytearray(b"copied"))
        self.push(memoryview(b"copied"))
        self.push("encoded")
        if line == b"quit":
            self.close_when_done()

    def handle_close(self) -> None:
        assert_type(self.close_reason, CloseReason | None)
        assert_type(self.close_detail, str)
        assert_type(self.traffic(), dict[str, Any])

    def handle_error(self) -> None:
        super().handle_error()

    def handle_timeout(self) -> None:
        self.push(b"are you there?\n")

    def handle_message_too_long(self) -> None:
        self.close()

    def handle_drain(self) -> None:
        self.push(b"goodbye\n")


class Counted(AsyncChat):
    """Sets every kind of terminator."""

    def found_terminator(self) -> None:
        self.set_terminator(10)
        self.set_terminator(None)
        self.set_terminator(b"\n")
        self.set_terminator("\n")
        self.set_terminator(re.compile(rb"\r?\n"))
        self.set_terminator(re.compile(rb"\d+ "), max_match=20)
        self.terminator = b"."
        assert_type(self.get_terminator(), Terminator)

    def collect_incoming_data(self, data: bytes) -> None:
        self.incoming.append(data)


def use(chat: Upper) -> None:
    """What others do with a handler."""
    assert_type(chat.drained(), Deferred[None])
    assert_type(chat.closed(), Deferred[CloseReason])
    assert_type(chat.start_tls(object()), Deferred[None])
    assert_type(chat.paused_because, tuple[PauseReason, ...])
    if chat.transport is not None:
        chat.transport.getPeer()
    assert_type(chat.is_open, bool)
    assert_type(chat.queued_output, int)
    chat.pauseProducing()
    chat.resumeProducing()
    chat.stopProducing()
    chat.discard_buffers()
    if chat.close_reason == "timeout":
        chat.close()
