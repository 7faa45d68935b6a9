"""``twisted.protocols.basic.Int32StringReceiver``."""

from __future__ import annotations

from twisted.protocols.basic import Int32StringReceiver

from benchmarks.handlers import InMemory


class Frames(InMemory, Int32StringReceiver):
    """Messages that follow their length."""

    def __init__(self, longest: int) -> None:
        self.MAX_LENGTH = max(longest, Int32StringReceiver.MAX_LENGTH)

    def stringReceived(self, string: bytes) -> None:
        self.size += len(string)
        self.count += 1
