"""Random handlers and peers, and the end of the service at any moment, inside any callback.

What must hold whatever they do, once the peer and the handler do their part: the connection
ends, between two messages, all that was accepted was sent, and everybody was told once.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
from support import Chat, Wire
from twisted.internet.defer import Deferred

from txasynchat import CloseReason
from txasynchat.core.terminators import Terminator

LINES: list[Terminator] = [b"\n", b"\r\n", (b"\n", b"\r\n"), re.compile(rb"\r?\n")]


class Told:
    """A watcher that counts."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def opened(self, connection: Any) -> bool:
        self.names.append("opened")
        return True

    def ended(self, connection: Any) -> None:
        self.names.append("ended")

    def failed(self, connection: Any, failure: Any) -> None:
        pass

    def limited(self, connection: Any, limit: str, detail: str) -> None:
        pass


class Restless(Chat):
    """Lines, some of which announce a body; in each callback it does what chance says."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.line = chance.choice(LINES)
        super().__init__(self.line)
        self.in_body = self.calm = False
        self.waits: list[Deferred[None]] = []
        self.pushed: list[bytes] = []
        self.drains = 0
        self.max_queued_output = chance.choice([65536, 10, 0, None])

    def stir(self) -> None:
        for _ in range(0 if self.calm else self.chance.choice([0, 0, 1, 2])):
            what = self.chance.choice(["push", "produce", "pause", "pause briefly", "go on", "end"])
            if what in ("push", "produce") and self.close_reason is None:
                self.pushed.append(b"<%d>" % len(self.pushed))
                if what == "push":
                    self.push(self.pushed[-1])
                else:
                    self.push_with_producer([self.pushed[-1]])
            elif what == "pause":
                self.pauseProducing()
            elif what == "pause briefly":
                self.pauseProducing()
                self.resumeProducing()
            elif what == "go on" and self.waits:
                self.waits.pop().callback(None)
            elif what == "end":
                self.begin_drain()

    def linger(self) -> Any:
        self.stir()
        if self.calm or self.chance.random() < 0.6:
            return None
        self.waits.append(Deferred())
        return self.waits[-1].addCallback(lambda _: self.stir())

    def collect_incoming_data(self, data: bytes) -> None:
        assert self.close_reason is None
        super().collect_incoming_data(data)
        self.stir()

    def found_terminator(self) -> Any:
        assert self.close_reason is None
        super().found_terminator()
        announces = not self.in_body and self.messages[-1].startswith(b"B")
        self.in_body = announces
        self.set_terminator(int(self.messages[-1][1:]) if announces else self.line)
        return self.linger()

    def handle_drain(self) -> Any:
        self.drains += 1
        return self.linger()


def stream(chance: Random, line: Terminator) -> bytes:
    end = b"\r\n" if line == b"\r\n" else b"\n"
    units = [b"one", b"", b"cr\r", b"longer than that"]
    return b"".join(
        chance.choice([*(unit + end for unit in units), b"B5" + end + b"12345"])
        for _ in range(chance.randint(1, 6))
    )


def move(chance: Random, chat: Restless, wire: Wire, left: bytes) -> bytes:
    """Something happens; answers what the peer has yet to send."""
    what = chance.choice(["receive", "receive", "full", "room", "done", "resume", "end", "time"])
    if what == "receive" and wire.is_reading:
        size = chance.choice([1, 2, 5, 100])
        chat.dataReceived(left[:size])
        left = left[size:]
    elif what == "full" and wire.producer is not None:
        wire.fill()
    elif what == "room" and wire.producer is not None:
        wire.empty()
    elif what == "done" and chat.waits:
        chat.waits.pop().callback(None)
    elif what == "resume":
        chat.resumeProducing()
    elif what == "end" and chance.random() < 0.3:
        chat.begin_drain()
    elif what == "time":
        chat.clock.advance(0.001)
    return left


@pytest.mark.parametrize("part", range(4))
def test_a_drain_ends_and_tears_nothing_apart_whatever_happens_meanwhile(part: int) -> None:
    for seed in range(part * 250, part * 250 + 250):
        chance = Random(seed)
        chat, told = Restless(chance), Told()
        chat._watcher = told
        wire = Wire().connect(chat)
        left = stream(chance, chat.line)
        for _ in range(chance.randint(0, 25)):
            left = move(chance, chat, wire, left)
        chat.begin_drain()
        chat.calm = True
        for _ in range(100):
            if wire.disconnecting:
                break
            chat.resumeProducing()
            while chat.waits:
                chat.waits.pop().callback(None)
            if wire.producer is not None:
                wire.empty()
            if wire.is_reading:
                chat.dataReceived(left[:3])
                left = left[3:]
            chat.clock.advance(0.001)
        assert wire.disconnecting, f"seed {seed} is stuck: {chat.paused_because}"
        wire.lose()
        traffic = chat.traffic()
        assert chat.close_reason == CloseReason.DRAIN, seed
        assert not chat.in_body, seed
        assert [event for event in chat.events if event[0] != "close"][-1][0] != "data", seed
        assert wire.value() == b"".join(chat.pushed), seed
        assert (chat.drains, chat.events.count(("close",))) == (1, 1), seed
        assert told.names == ["opened", "ended"], seed
        assert traffic["messages_in"] == chat.events.count(("found",)), seed
        assert traffic["messages_out"] == len(chat.pushed), seed
        assert (traffic["bytes_out"], traffic["queued_output"]) == (len(wire.value()), 0), seed
