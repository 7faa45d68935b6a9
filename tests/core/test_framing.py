"""How a stream becomes calls of the handler, rule by rule."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from support import Calls, Event

from txasynchat.core.framing import Framer
from txasynchat.core.terminators import Terminator


class Handler(Calls):
    """Records its calls, and does what it is told on each of them."""

    def __init__(
        self,
        framer: Framer,
        on_data: Callable[[Framer], object] | None = None,
        on_found: Callable[[Framer], object] | None = None,
    ) -> None:
        super().__init__()
        self.framer = framer
        self.on_data = on_data
        self.on_found = on_found

    def collect_incoming_data(self, data: bytes) -> None:
        super().collect_incoming_data(data)
        if self.on_data:
            self.on_data(self.framer)

    def found_terminator(self) -> object:
        super().found_terminator()
        return self.on_found(self.framer) if self.on_found else None


def frame(terminator: Terminator, *chunks: bytes, **on: Any) -> tuple[list[Event], Framer]:
    framer = Framer()
    framer.set_terminator(terminator)
    handler = Handler(framer, **on)
    for chunk in chunks:
        framer.feed(chunk)
        framer.deliver(handler)
    return handler.events, framer


def data(text: bytes) -> Event:
    return ("data", text)


FOUND = ("found",)


@pytest.mark.parametrize("terminator", [None, b"", 0])
def test_a_falsy_terminator_collects_everything(terminator: Terminator) -> None:
    events, _ = frame(terminator, b"one\n", b"two\n")
    assert events == [data(b"one\ntwo\n")]


def test_a_number_counts_bytes_then_becomes_zero_before_the_message_ends() -> None:
    seen: list[Terminator] = []
    events, _ = frame(3, b"ab", b"cdef", on_found=lambda framer: seen.append(framer.terminator))
    assert events == [data(b"abc"), FOUND, data(b"def")]
    assert seen == [0]


def test_a_number_counts_down_to_what_is_still_missing() -> None:
    _, framer = frame(5, b"ab")
    assert framer.terminator == 3


def test_bytes_end_a_message_and_are_dropped() -> None:
    events, framer = frame(b"\r\n", b"one\r\n\r\ntwo\r\n")
    assert events == [data(b"one"), FOUND, FOUND, data(b"two"), FOUND]
    assert framer.matched == b"\r\n"


def test_what_may_begin_the_terminator_is_held_back_and_nothing_more() -> None:
    events, framer = frame(b"abac", b"xxaba")
    assert events == [data(b"xx")]
    assert framer.unread == b"aba"


def test_held_back_bytes_are_handed_over_once_they_cannot_be_the_terminator() -> None:
    events, _ = frame(b"abac", b"xxaba", b"b", b"ac!")
    assert events == [data(b"xxab"), FOUND, data(b"!")]


def test_of_a_tuple_the_terminator_that_ends_first_wins() -> None:
    events, framer = frame((b"abcd", b"bc"), b"xabcdy")
    assert events == [data(b"xa"), FOUND, data(b"dy")]
    assert framer.matched == b"bc"


def test_of_two_that_end_together_the_longer_wins() -> None:
    events, _ = frame((b"\n", b"\r\n"), b"one\r\ntwo\n")
    assert events == [data(b"one"), FOUND, data(b"two"), FOUND]
    assert frame((b"\n", b"\r\n"), b"one\r", b"\n")[1].matched == b"\r\n"


def test_a_regex_ends_a_message_with_the_first_byte_with_which_it_matches() -> None:
    events, _ = frame(re.compile(rb"a(b|bcd)?"), b"xabcd")
    assert events == [data(b"x"), FOUND, data(b"bcd")]


def test_a_regex_leaves_its_match_object() -> None:
    _, framer = frame(re.compile(rb"-- (?P<name>\w{1,8}) --"), b"text-- par", b"t --")
    assert framer.matched["name"] == b"part"


def test_a_counted_message_has_matched_nothing() -> None:
    _, framer = frame(1, b"a")
    assert framer.matched is None


def test_a_bad_terminator_changes_nothing_of_a_count_that_is_asked_for() -> None:
    framer, handler = Framer(), Calls()
    framer.deliver(handler, b"abc", ask=lambda handler: 5)
    with pytest.raises(ValueError, match="-1"):
        framer.set_terminator(-1)
    framer.deliver(handler, b"defgh", ask=lambda handler: 5)
    assert handler.events == [data(b"abcde"), FOUND, data(b"fgh")]


def test_found_terminator_may_change_the_terminator_for_the_next_byte() -> None:
    events, _ = frame(b"\n", b"3\nabc4\n", on_found=lambda f: f.set_terminator(3))
    assert events == [data(b"3"), FOUND, data(b"abc"), FOUND, data(b"4\n")]


def test_collect_incoming_data_may_change_the_terminator_for_the_next_byte() -> None:
    events, _ = frame(None, b"ab", b"cd|ef", on_data=lambda f: f.set_terminator(b"|"))
    assert events == [data(b"abcd"), FOUND, data(b"ef")]


def test_a_terminator_that_was_found_ends_the_message_whatever_collecting_it_changes() -> None:
    events, _ = frame(b"\n", b"ab\ncdef", on_data=lambda f: f.set_terminator(3))
    assert events == [data(b"ab"), FOUND, data(b"cde"), FOUND, data(b"f")]


def test_a_count_changed_half_way_follows_the_new_one() -> None:
    events, framer = frame(10, b"ab", on_data=lambda f: f.set_terminator(2))
    assert events == [data(b"ab")]
    assert framer.terminator == 2


def test_what_was_held_back_is_judged_by_a_terminator_set_between_chunks() -> None:
    framer, handler = Framer(), Calls()
    framer.set_terminator(b"\r\n")
    framer.feed(b"a\r")
    framer.deliver(handler)
    framer.set_terminator(2)
    framer.feed(b"b")
    framer.deliver(handler)
    assert handler.events == [data(b"a\rb"), FOUND]


def test_unread_shows_the_input_not_yet_consumed_in_any_callback() -> None:
    seen: list[bytes] = []
    frame(
        b"\n",
        b"one\ntwo\nthr",
        on_data=lambda f: seen.append(f.unread),
        on_found=lambda f: seen.append(f.unread),
    )
    assert seen == [b"two\nthr", b"two\nthr", b"thr", b"thr", b""]


def test_unread_can_be_replaced_in_the_middle_of_a_chunk() -> None:
    def replace(framer: Framer) -> None:
        if framer.unread.startswith(b"two"):
            framer.unread = b"other\n"

    events, _ = frame(b"\n", b"one\ntwo\nthree\n", on_found=replace)
    assert events == [data(b"one"), FOUND, data(b"other"), FOUND]


@pytest.mark.parametrize("chunks", [[b"one\ntwo\n"], [b"one", b"\ntwo\n"]])
def test_stop_in_found_terminator_stops_before_the_next_byte(chunks: list[bytes]) -> None:
    framer = Framer()
    framer.set_terminator(b"\n")
    handler = Handler(framer, on_found=Framer.stop)
    for chunk in chunks:
        framer.feed(chunk)
        framer.deliver(handler)
    assert handler.events == [data(b"one"), FOUND]
    framer.go()
    framer.deliver(handler)
    assert handler.events == [data(b"one"), FOUND, data(b"two"), FOUND]


@pytest.mark.parametrize("terminator", [b"\n", 3, (b"\n", b"!"), re.compile(rb"\n")])
def test_stop_in_collect_incoming_data_keeps_the_end_of_the_message_for_later(
    terminator: Terminator,
) -> None:
    framer = Framer()
    framer.set_terminator(terminator)
    handler = Handler(framer, on_data=Framer.stop)
    framer.feed(b"one\ntwo\n")
    framer.deliver(handler)
    assert handler.events == [data(b"one")]
    handler.on_data = None
    framer.go()
    framer.deliver(handler)
    assert handler.events[:2] == [data(b"one"), FOUND]


@pytest.mark.parametrize("terminator", [b"\n", (b"\n", b"!"), re.compile(rb"\n")])
def test_after_an_exception_in_collect_incoming_data_the_message_still_ends(
    terminator: Terminator,
) -> None:
    def fail(framer: Framer) -> None:
        handler.on_data = None
        raise ZeroDivisionError

    framer = Framer()
    framer.set_terminator(terminator)
    handler = Handler(framer, on_data=fail)
    framer.feed(b"one\ntwo\n")
    with pytest.raises(ZeroDivisionError):
        framer.deliver(handler)
    framer.deliver(handler)
    assert handler.events == [data(b"one"), FOUND, data(b"two"), FOUND]


def test_after_an_exception_in_found_terminator_the_next_message_follows() -> None:
    def fail(framer: Framer) -> None:
        handler.on_found = None
        raise ZeroDivisionError

    framer = Framer()
    framer.set_terminator(b"\n")
    handler = Handler(framer, on_found=fail)
    framer.feed(b"one\ntwo\n")
    with pytest.raises(ZeroDivisionError):
        framer.deliver(handler)
    framer.deliver(handler)
    assert handler.events == [data(b"one"), FOUND, data(b"two"), FOUND]


def test_a_callback_may_deliver_the_rest_itself() -> None:
    framer = Framer()
    framer.set_terminator(b"\n")
    depth: list[int] = []

    def deliver_the_rest(framer: Framer) -> None:
        if not depth:
            depth.append(1)
            framer.feed(b"three\n")
            framer.deliver(handler)

    handler = Handler(framer, on_found=deliver_the_rest)
    framer.feed(b"one\ntwo\n")
    framer.deliver(handler)
    assert [event[1] for event in handler.events if event[0] == "data"] == [
        b"one",
        b"two",
        b"three",
    ]


def test_chunks_fed_while_stopped_are_delivered_in_order() -> None:
    framer, handler = Framer(), Calls()
    framer.set_terminator(b"\r\n")
    framer.stop()
    for chunk in (b"a\r", b"\nb", b"\r\n"):
        framer.feed(chunk)
        framer.deliver(handler)
    assert handler.events == []
    framer.go()
    framer.deliver(handler)
    assert handler.events == [data(b"a"), FOUND, data(b"b"), FOUND]


def test_a_message_as_long_as_the_limit_is_not_too_long() -> None:
    framer, handler = Framer(), Calls()
    framer.set_terminator(b"\r\n")
    framer.feed(b"12345\r\n12345\r")
    framer.deliver(handler, limit=5)
    assert handler.events == [data(b"12345"), FOUND, data(b"12345")]


def test_a_message_past_the_limit_is_cut_there_and_its_rest_dropped() -> None:
    framer, handler = Framer(), Calls()
    framer.set_terminator(b"\r\n")
    framer.feed(b"123456789\r\nnext\r\n")
    framer.deliver(handler, limit=5)
    assert handler.events == [data(b"12345"), ("too long",), data(b"next"), FOUND]


def test_a_counted_message_has_no_limit() -> None:
    framer, handler = Framer(), Calls()
    framer.set_terminator(9)
    framer.feed(b"123456789")
    framer.deliver(handler, limit=5)
    assert handler.events == [data(b"123456789"), FOUND]


def test_an_overridden_get_terminator_is_asked_before_each_look() -> None:
    answers: list[Terminator] = [b";", b",", 2, 2]
    framer, handler = Framer(), Calls()
    framer.feed(b"a,b;c;d,xyz")
    framer.deliver(handler, ask=lambda handler: answers.pop(0) if len(answers) > 1 else answers[0])
    assert handler.events == [
        data(b"a,b"),
        FOUND,
        data(b"c;d"),
        FOUND,
        data(b"xy"),
        FOUND,
        data(b"z"),
    ]


def test_an_overridden_get_terminator_that_names_a_size_cuts_records() -> None:
    for chunk in (1, 2, 3, 7):
        framer, handler = Framer(), Calls()
        text = b"abcdefghij"
        for start in range(0, len(text), chunk):
            framer.feed(text[start : start + chunk])
            framer.deliver(handler, ask=lambda handler: 4)
        assert handler.events == [data(b"abcd"), FOUND, data(b"efgh"), FOUND, data(b"ij")]


@pytest.mark.parametrize(
    ("terminator", "error", "says"),
    [
        (-1, ValueError, "number of bytes"),
        ("x", TypeError, "bytes"),
        (1.5, TypeError, "float"),
        ((), ValueError, "at least one"),
        ((b"",), ValueError, "empty"),
        (("x",), TypeError, "bytes"),
        (re.compile("x"), TypeError, "compiled from bytes"),
        (re.compile(rb"x*"), ValueError, "empty"),
        (re.compile(rb"x+"), ValueError, "max_match"),
        (re.compile(rb"^x"), ValueError, "an anchor"),
        (re.compile(rb"x\b"), ValueError, "an anchor"),
        (re.compile(rb"x(?=y)"), ValueError, "look-around"),
        (re.compile(rb"(x)\1"), ValueError, "back-reference"),
    ],
)
def test_a_bad_terminator_is_refused_and_the_old_one_stays(
    terminator: Any, error: type[Exception], says: str
) -> None:
    framer = Framer()
    framer.set_terminator(b"\n")
    with pytest.raises(error, match=says):
        framer.set_terminator(terminator)
    assert framer.terminator == b"\n"


def test_input_fed_while_stopped_at_the_very_end_of_a_chunk_keeps_its_place() -> None:
    framer = Framer()
    framer.set_terminator(b"|")
    handler = Handler(framer, on_found=Framer.stop)
    framer.feed(b"1|")
    framer.feed(b"2|")
    framer.deliver(handler)
    framer.feed(b"3|")
    while framer.pending:
        framer.go()
        framer.deliver(handler)
    assert [event for event in handler.events if event != FOUND] == [
        data(b"1"),
        data(b"2"),
        data(b"3"),
    ]


def test_what_was_discarded_does_not_count_as_part_of_the_next_message() -> None:
    framer, handler = Framer(), Calls()
    framer.set_terminator(b"\n")
    framer.feed(b"1234")
    framer.deliver(handler, limit=5)
    framer.discard()
    framer.feed(b"5678\n")
    framer.deliver(handler, limit=5)
    assert handler.events == [data(b"12345678"), FOUND]


def test_what_came_before_a_count_does_not_count_as_part_of_the_message_after_it() -> None:
    framer, handler = Framer(), Calls()
    framer.set_terminator(b"\n")
    framer.feed(b"1234")
    framer.deliver(handler, limit=5)
    framer.set_terminator(2)
    framer.feed(b"xx")
    framer.deliver(handler, limit=5)
    framer.set_terminator(b"\n")
    framer.feed(b"5678\n")
    framer.deliver(handler, limit=5)
    assert ("too long",) not in handler.events


def test_a_terminator_set_for_the_rest_of_a_message_that_is_too_long_counts_anew() -> None:
    class Switches(Calls):
        def message_too_long(self) -> None:
            super().message_too_long()
            framer.set_terminator(b"END")

    framer, handler = Framer(), Switches()
    framer.set_terminator(b"\n")
    framer.feed(b"1234567ENDabc")
    framer.deliver(handler, limit=5)
    assert handler.events == [data(b"12345"), ("too long",), data(b"67"), FOUND, data(b"abc")]


@pytest.mark.parametrize("step", range(40))
def test_whoever_asks_how_many_messages_there_were_may_be_overtaken_at_any_step(step: int) -> None:
    # By another thread, which ends the walk through the chunk meanwhile.
    framer, counted = Framer(), []
    steps = iter(range(1000))

    def overtake(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_name != "messages":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == step:
            framer.stop()
        return overtake

    def ask(_: Framer) -> None:
        before = sys.gettrace()
        sys.settrace(overtake)
        try:
            counted.append(framer.messages)
        finally:
            sys.settrace(before)

    framer.set_terminator(b"\n")
    framer.deliver(Handler(framer, on_found=ask), b"a\nb\nc\n")
    assert counted[0] >= 0


def test_half_a_count_leaves_what_ended_the_last_message() -> None:
    framer = Framer()
    framer.set_terminator(b"\r\n")
    handler = Handler(framer)
    framer.deliver(handler, b"one\r\n")
    framer.set_terminator(4)
    framer.deliver(handler, b"ab")
    assert framer.matched == b"\r\n"
    framer.deliver(handler, b"cd")
    assert framer.matched is None


@pytest.mark.parametrize(
    "chunks", [[b"abcdef\r", b"\n"], [b"abcdef", b"\r\n"], [b"abcdef\r", b"\none\r\n"]]
)
def test_a_limit_lowered_meanwhile_counts_wherever_the_stream_is_cut(chunks: list[bytes]) -> None:
    framer = Framer()
    framer.set_terminator(b"\r\n")
    handler = Handler(framer)
    framer.deliver(handler, chunks[0], 10)
    framer.deliver(handler, chunks[1], 5)
    assert handler.events[:2] == [data(b"abcdef"), ("too long",)]
    assert handler.events[2:] in ([], [data(b"one"), FOUND])


@pytest.mark.parametrize("chunk", [b"one\r\nxyz", b"\r\nxyz", b"one\r\nxyz\r\n"])
def test_a_message_that_goes_on_behind_another_keeps_to_the_limit(chunk: bytes) -> None:
    framer = Framer()
    framer.set_terminator(b"\r\n")
    handler = Handler(framer)
    framer.deliver(handler, b"abcd", 5)
    aside = framer.put_aside()
    handler.on_found = lambda framer: framer.take_up(aside)
    framer.deliver(handler, chunk, 5)
    assert handler.events[-3:-1] == [FOUND, data(b"x")]
    assert handler.events[-1] == ("too long",)


def test_of_a_message_that_is_too_long_and_goes_on_behind_another_the_rest_is_dropped() -> None:
    framer = Framer()
    framer.set_terminator(b"\r\n")
    handler = Handler(framer)
    framer.deliver(handler, b"0123456789abcdef", 10)
    aside = framer.put_aside()
    handler.on_found = lambda framer: framer.take_up(aside)
    framer.deliver(handler, b"one\r\nxyz", 10)
    assert handler.events[-2:] == [data(b"one"), FOUND]
