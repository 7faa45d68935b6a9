"""What is ordinary costs few Python calls: counted, not timed.

A call of a Python function is the largest single cost in the hot paths. The bounds
are what was counted when these were written; a change that needs more shows here
before it shows in ``benchmarks/``. A handler's own callbacks are counted too.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from support import Wire

from txasynchat import AsyncChat


class Lines(AsyncChat):
    """Does nothing with its messages."""

    def handle_connect(self) -> None:
        self.set_terminator(b"\r\n")

    def collect_incoming_data(self, data: bytes) -> None:
        pass

    def found_terminator(self) -> None:
        pass


class Answers(Lines):
    def found_terminator(self) -> None:
        self.push(b"answer\r\n")


class Frames(Lines):
    in_body = False

    def handle_connect(self) -> None:
        self.set_terminator(4)

    def found_terminator(self) -> None:
        self.set_terminator(4 if self.in_body else 16)
        self.in_body = not self.in_body


def calls(work: Callable[[], object]) -> Counter[str]:
    """How often each Python function is called, by name."""
    counted: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and "txasynchat" in frame.f_globals["__name__"]:
            counted[frame.f_code.co_name] += 1
        elif event == "call" and frame.f_code.co_filename == __file__:
            counted["callbacks"] += 1

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    counted["callbacks"] -= 1  # `work` itself
    return counted


def calls_for(kind: type[AsyncChat], *chunks: bytes) -> Counter[str]:
    """What a connected handler calls for chunks, once it is warm."""
    chat = kind()
    Wire().connect(chat)

    def receive() -> None:
        for chunk in chunks:
            chat.dataReceived(chunk)

    receive()
    return calls(receive)


def test_a_line_costs_its_two_callbacks_and_nothing_else() -> None:
    counted = calls_for(Lines, b"x" * 10 + b"\r\n")
    more = calls_for(Lines, (b"x" * 10 + b"\r\n") * 1000)
    assert more["callbacks"] == 2000
    # The thousand lines are cut by one split, as the one is: that and the way through them
    # are a call each.
    assert more.total() - 2000 <= counted.total() - 2 + 2


def test_a_chunk_with_a_line_costs_two_calls_beside_the_callbacks() -> None:
    counted = calls_for(Lines, b"one\r\n")
    assert counted.total() - counted["callbacks"] <= 2


def test_a_chunk_from_the_middle_of_a_message_costs_two_calls_beside_the_callback() -> None:
    counted = calls_for(Lines, b"x" * 7)
    assert counted.total() - counted["callbacks"] <= 2


def test_a_terminator_that_is_cut_in_two_costs_few_more_calls() -> None:
    counted = calls_for(Lines, b"one\r", b"\ntwo")
    assert counted["callbacks"] == 3
    assert counted.total() - counted["callbacks"] <= 9


def test_a_chunk_from_the_middle_of_the_terminator_costs_two_calls() -> None:
    class Parts(Lines):
        def handle_connect(self) -> None:
            self.set_terminator(b"\r\n--a boundary of some length--\r\n")

    one = calls_for(Parts, b"one\r\n--a", b" boundary of some ", b"length--\r\n")
    three = calls_for(Parts, b"one\r\n--a", b" bound", b"ary o", b"f some ", b"length--\r\n")
    assert three["callbacks"] == one["callbacks"] == 2
    assert three.total() - one.total() <= 2 * 2


def test_a_counted_message_costs_two_calls_beside_the_callbacks() -> None:
    frame = b"\0\0\0\x10" + b"x" * 16
    counted = calls_for(Frames, frame * 1000)
    assert counted["callbacks"] == 4000
    # For set_terminator(), of the chat and of the framer. The rest is for the chunk.
    assert counted.total() - counted["callbacks"] <= 2 * 2000 + 6


def test_an_answer_costs_one_call_beside_the_callbacks_and_its_part_of_one_write() -> None:
    one = calls_for(Answers, b"\r\n")
    many = calls_for(Answers, b"\r\n" * 901)
    per_answer = (many.total() - one.total()) / 900
    assert per_answer <= 2 + 0.01  # the callback, and push()
    assert many["write"] == 1


def test_one_answer_costs_no_more_than_13_calls_in_all() -> None:
    assert calls_for(Answers, b"one\r\n").total() <= 13


def test_a_new_connection_costs_no_more_than_25_calls() -> None:
    assert calls(lambda: Wire().connect(Lines())).total() <= 25
