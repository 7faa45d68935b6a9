"""When the service stops, each connection ends between two messages, and behind its answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Chat, Wire, connected, cuts
from twisted.internet.defer import Deferred, fail

from txasynchat import CloseReason, PauseReason
from txasynchat.core.terminators import Terminator

STOPS = ("drain", "the service stops")


def end_of(chat: Chat) -> tuple[CloseReason | None, str]:
    return chat.close_reason, chat.close_detail


class Drained(Chat):
    """A chat that is told of the end of the service, and counts that."""

    told = 0

    def handle_drain(self) -> Any:
        self.told += 1
        return self._do("drain")


def drained(terminator: Terminator = b"\n", **does: Any) -> tuple[Drained, Wire]:
    chat = Drained(terminator, **does)
    return chat, Wire().connect(chat)


# -- Where it ends ----------------------------------------------------------------------------


def test_a_connection_with_nothing_to_do_ends_at_once() -> None:
    chat, wire = drained()
    chat.begin_drain()
    assert (end_of(chat), wire.disconnecting) == (STOPS, True)
    assert chat.is_draining
    wire.lose()
    assert (chat.events, chat.told) == ([("connect",), ("close",)], 1)


def test_it_ends_between_two_messages_too() -> None:
    chat, wire = drained()
    chat.dataReceived(b"one\n")
    chat.begin_drain()
    assert (end_of(chat), wire.disconnecting) == (STOPS, True)


@pytest.mark.parametrize(
    ("terminator", "begun", "rest"),
    [
        (b"\r\n", b"on", b"e\r\n"),
        (b"\r\n", b"one\r", b"\n"),
        (b"\r\n", b"\r", b"\n"),
        ((b"\n", b"\r\n"), b"on", b"e\n"),
        (re.compile(rb"\r?\n"), b"one\r", b"\n"),
        (4, b"on", b"e!"),
    ],
)
def test_a_message_that_was_begun_is_finished_first(
    terminator: Terminator, begun: bytes, rest: bytes
) -> None:
    chat, wire = drained(
        terminator, found=lambda chat: (chat.push(b"answer"), chat.set_terminator(terminator))
    )
    chat.dataReceived(begun)
    chat.begin_drain()
    assert chat.is_open
    assert wire.is_reading
    chat.dataReceived(rest + b"never delivered" + rest)
    assert (end_of(chat), wire.value(), wire.disconnecting) == (STOPS, b"answer", True)
    assert len(chat.messages) == 1


def test_a_message_that_is_cut_again_and_again_is_finished() -> None:
    chat, _ = drained()
    chat.dataReceived(b"a")
    chat.begin_drain()
    for byte in b"bcdef":
        chat.dataReceived(bytes([byte]))
    assert chat.is_open
    chat.dataReceived(b"\n")
    assert (chat.messages, end_of(chat)) == ([b"abcdef"], STOPS)


class Bodies(Drained):
    """A line that says how long the body is, and that body."""

    in_body = False

    def found_terminator(self) -> Any:
        super().found_terminator()
        size = 0 if self.in_body else int(self.messages[-1])
        self.in_body = size > 0
        self.set_terminator(size or b"\n")
        if not size:
            self.push(b"ok ")


@given(st.integers(0, 9), st.lists(st.integers(0, 30), max_size=6))
def test_a_line_and_its_body_are_not_torn_apart_wherever_the_end_comes(
    at: int, places: list[int]
) -> None:
    stream = b"3\nabc2\nxy4\n"
    chat = Bodies()
    wire = Wire().connect(chat)
    chat.dataReceived(stream[:at])
    chat.begin_drain()
    for chunk in cuts(stream[at:] + b"none", places):
        chat.dataReceived(chunk)
    # Those of a line and a body that were complete, or begun, and nothing else.
    whole = [b"3", b"abc", b"2", b"xy", b"4", b"none"]
    assert chat.messages == whole[: 0 if at == 0 else 2 if at <= 5 else 4]
    assert (end_of(chat), wire.value()) == (STOPS, b"ok " * (len(chat.messages) // 2))


class Frames(Drained):
    """A header of four bytes, and as many bytes as it says."""

    def __init__(self) -> None:
        super().__init__(4)
        self.in_body = False

    def found_terminator(self) -> Any:
        super().found_terminator()
        self.in_body = not self.in_body
        self.set_terminator(int(self.messages[-1]) if self.in_body else 4)


@given(st.integers(0, 12), st.lists(st.integers(0, 30), max_size=6))
def test_a_frame_ends_where_its_header_is_due_again_even_if_its_body_counts_down_to_that(
    at: int, places: list[int]
) -> None:
    stream = b"0008abcdefgh"
    chat = Frames()
    Wire().connect(chat)
    chat.dataReceived(stream[:at])
    chat.begin_drain()
    for chunk in cuts(stream[at:] + b"0001x", places):
        chat.dataReceived(chunk)
    assert chat.messages == ([b"0008", b"abcdefgh"] if at else [])
    assert end_of(chat) == STOPS


def test_whoever_collects_everything_ends_only_before_there_is_anything() -> None:
    empty, _ = drained(None)
    empty.begin_drain()
    assert end_of(empty) == STOPS
    chat, wire = drained(None)
    chat.dataReceived(b"x")
    chat.begin_drain()
    chat.dataReceived(b"y")
    assert (chat.is_open, chat.is_draining) == (True, True)
    chat.readConnectionLost()
    assert (chat.close_reason, wire.disconnecting) == ("peer", True)


def test_a_terminator_set_before_any_input_is_the_one_to_come_back_to() -> None:
    def connect(chat: Chat) -> None:
        chat.set_terminator(b"|")
        chat.set_terminator(b";")

    chat, _ = drained(connect=connect, found=lambda chat: chat.set_terminator(b"."))
    chat.dataReceived(b"one;")
    chat.begin_drain()
    assert chat.is_open
    chat.set_terminator(b";")
    chat.clock.advance(0)
    assert end_of(chat) == STOPS


def test_an_overridden_get_terminator_is_asked_where_it_stands() -> None:
    class Asked(Drained):
        stands: Terminator = b"\n"

        def get_terminator(self) -> Terminator:
            return self.stands

    chat = Asked(found=lambda chat: setattr(chat, "stands", 2 if chat.stands == b"\n" else b"\n"))
    Wire().connect(chat)
    chat.dataReceived(b"line\nx")
    chat.begin_drain()
    assert chat.is_open
    chat.dataReceived(b"yline\n")
    assert (chat.messages, end_of(chat)) == ([b"line", b"xy"], STOPS)


def test_an_overridden_get_terminator_that_fails_ends_the_connection(logged_failures: Any) -> None:
    class Broken(Drained):
        def get_terminator(self) -> Terminator:
            raise ZeroDivisionError

    chat = Broken()
    Wire().connect(chat)
    chat.begin_drain()
    assert chat.close_reason == "error"
    assert len(logged_failures()) == 1


def test_a_message_that_is_skipped_for_its_length_is_skipped_to_its_end() -> None:
    chat, _ = drained(too_long=lambda chat: None)
    chat.max_message_length = 3
    chat.dataReceived(b"12345")
    chat.begin_drain()
    assert chat.is_open
    chat.dataReceived(b"678\nmore\n")
    assert (chat.messages, end_of(chat)) == ([], STOPS)


# -- Who holds it up ---------------------------------------------------------------------------


def test_a_handler_that_waits_is_waited_for() -> None:
    waiting: Deferred[None] = Deferred()
    chat, wire = drained(found=lambda chat: waiting)
    waiting.addCallback(lambda _: chat.push(b"answer"))
    chat.dataReceived(b"one\ntwo\n")
    chat.begin_drain()
    assert chat.is_open
    waiting.callback(None)
    assert (chat.messages, wire.value(), end_of(chat)) == ([b"one"], b"answer", STOPS)


def test_a_handler_that_has_paused_its_input_is_waited_for() -> None:
    chat, _ = drained(found=lambda chat: chat.pauseProducing())
    chat.dataReceived(b"one\ntwo\n")
    chat.begin_drain()
    assert chat.is_open
    chat.push(b"answer")
    chat.resumeProducing()
    assert (chat.messages, end_of(chat)) == ([b"one"], STOPS)


def test_output_that_waits_is_sent_and_what_waits_behind_it_is_not_delivered() -> None:
    chat, wire = drained(found=lambda chat: chat.push(b"x" * 40_000))
    wire.fill()
    chat.dataReceived(b"one\ntwo\nthr")
    assert chat.paused_because == ("output full",)
    chat.begin_drain()
    assert (end_of(chat), wire.disconnecting) == (STOPS, False)
    wire.empty()
    assert (len(wire.value()), wire.disconnecting, end_of(chat)) == (80_000, True, STOPS)
    assert chat.messages == [b"one", b"two"]


def test_in_the_middle_of_a_message_the_input_goes_on_when_the_output_has_room() -> None:
    chat, wire = drained(collect=lambda chat: chat.push(b"x" * 70_000))
    wire.fill()
    chat.dataReceived(b"on")
    assert chat.paused_because == ("output full",)
    chat.begin_drain()
    assert chat.is_open
    wire.empty()
    chat.dataReceived(b"e\n")
    assert (chat.messages[:1], end_of(chat)) == ([b"one"], STOPS)


def test_a_peer_that_does_not_read_its_answers_is_cut_after_close_timeout() -> None:
    chat, wire = drained()
    wire.fill()
    chat.push(b"answer")
    chat.begin_drain()
    chat.clock.advance(15)
    assert wire.aborted
    assert chat.close_reason == "drain"
    assert "6 queued bytes not sent" in chat.close_detail


def test_a_peer_that_finishes_in_the_middle_of_a_message_ends_as_ever() -> None:
    chat, _ = drained()
    chat.dataReceived(b"on")
    chat.begin_drain()
    chat.readConnectionLost()
    assert chat.close_reason == "peer"


# -- Begun from inside of a callback ------------------------------------------------------------


@pytest.mark.parametrize("callback", ["collect", "found"])
@pytest.mark.parametrize("chunks", [[b"one\ntwo\nthree\n"], [b"o", b"ne\ntwo\nth", b"ree\n"]])
def test_a_drain_that_a_callback_begins_lets_it_return_and_stops_behind_the_message(
    callback: str, chunks: list[bytes]
) -> None:
    chat, wire = drained()
    chat.does[callback] = lambda chat: chat.begin_drain()
    chat.does["found"] = lambda chat: (
        chat.begin_drain() if callback == "found" else None,
        chat.push(b"answer"),
    )
    for chunk in chunks:
        chat.dataReceived(chunk)
    assert (chat.messages, wire.value(), end_of(chat)) == ([b"one"], b"answer", STOPS)
    assert chat.told == 1


def test_a_pause_and_its_end_in_the_same_callback_do_not_let_more_through() -> None:
    def found(chat: Chat) -> None:
        chat.begin_drain()
        chat.pauseProducing()
        chat.resumeProducing()

    chat, _ = drained(found=found)
    chat.dataReceived(b"one\ntwo\nthree\n")
    assert (chat.messages, end_of(chat)) == ([b"one"], STOPS)


# -- handle_drain() -----------------------------------------------------------------------------


def test_a_word_of_farewell_is_sent() -> None:
    chat, wire = drained(drain=lambda chat: chat.push(b"421 going down\n"))
    chat.begin_drain()
    assert (wire.value(), wire.disconnecting) == (b"421 going down\n", True)


def test_it_is_called_once_and_at_once_in_the_middle_of_a_message_too() -> None:
    chat, _ = drained()
    chat.dataReceived(b"on")
    chat.begin_drain()
    chat.begin_drain()
    assert (chat.told, chat.is_open) == (1, True)


@pytest.mark.parametrize("begun", [b"", b"on"])
def test_a_farewell_that_takes_its_time_is_waited_for(begun: bytes) -> None:
    waiting: Deferred[None] = Deferred()
    chat, wire = drained(drain=lambda chat: waiting)
    if begun:
        chat.dataReceived(begun)
    chat.begin_drain()
    if begun:
        assert chat.paused_because == ()
        chat.dataReceived(b"e\ntwo\n")
    assert (chat.is_open, chat.paused_because) == (True, (PauseReason.DRAINING,))
    assert not wire.is_reading
    chat.push(b"so long")
    waiting.callback(None)
    assert (wire.value(), end_of(chat)) == (b"so long", STOPS)
    assert chat.messages == ([b"one"] if begun else [])


def test_a_message_that_lasts_longer_than_the_farewell_is_finished() -> None:
    waiting: Deferred[None] = Deferred()
    chat, _ = drained(drain=lambda chat: waiting)
    chat.dataReceived(b"on")
    chat.begin_drain()
    waiting.callback(None)
    assert chat.is_open
    chat.dataReceived(b"e\n")
    assert (chat.messages, end_of(chat)) == ([b"one"], STOPS)


def test_a_coroutine_can_say_farewell() -> None:
    class Polite(Chat):
        async def handle_drain(self) -> None:
            self.push(b"so long")
            await self.drained()

    chat = Polite()
    wire = Wire().connect(chat)
    wire.fill()
    chat.begin_drain()
    assert chat.is_open
    wire.empty()
    assert (wire.value(), end_of(chat)) == (b"so long", STOPS)


def fault(*_: Any) -> None:
    raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("farewell", [fault, lambda chat: fail(ZeroDivisionError("on purpose"))])
def test_a_farewell_that_fails_goes_to_handle_error(
    farewell: Callable[[Chat], Any], logged_failures: Any
) -> None:
    chat, wire = drained(drain=farewell)
    chat.dataReceived(b"on")
    chat.begin_drain()
    assert ("error",) in chat.events
    assert end_of(chat) == ("error", "ZeroDivisionError: on purpose")
    assert wire.disconnecting
    assert len(logged_failures()) == 1


def test_a_handler_that_survives_its_failed_farewell_finishes_its_message() -> None:
    chat, _ = drained(drain=fault, error=lambda chat: None)
    chat.dataReceived(b"on")
    chat.begin_drain()
    assert chat.is_open
    chat.dataReceived(b"e\n")
    assert (chat.events[-2:], end_of(chat)) == ([("data", b"e"), ("found",)], STOPS)


def test_a_farewell_that_closes_is_the_drains_doing() -> None:
    chat, _ = drained(drain=lambda chat: chat.close_when_done())
    chat.dataReceived(b"on")
    chat.begin_drain()
    assert end_of(chat) == STOPS


# -- Where there is nothing to drain --------------------------------------------------------------


def test_a_connection_that_is_closing_is_left_alone() -> None:
    chat, wire = drained()
    wire.fill()
    chat.push(b"x")
    chat.close_when_done()
    chat.begin_drain()
    assert (chat.close_reason, chat.is_draining) == ("handler", False)
    assert chat.told == 0


def test_a_chat_that_is_not_connected_never_will_be() -> None:
    chat = Drained()
    chat.begin_drain()
    wire = Wire().connect(chat)
    assert (wire.aborted, end_of(chat), chat.events) == (True, STOPS, [])


def test_while_a_handler_waits_on_connect_it_is_waited_for_and_no_input_is_delivered() -> None:
    waiting: Deferred[None] = Deferred()
    chat, _ = drained(connect=lambda chat: waiting)
    chat.dataReceived(b"one\ntwo\n")
    chat.begin_drain()
    assert chat.is_open
    waiting.callback(None)
    assert (chat.messages, end_of(chat)) == ([], STOPS)


@given(
    st.sampled_from([b"\n", b"\r\n", (b"\n", b";"), 3]),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(0, 40),
)
def test_wherever_the_end_comes_whole_messages_were_handled_and_one_more_at_the_most(
    terminator: Terminator, places: list[int], at: int
) -> None:
    stream = b"one\r\n;\n\r\ntwo\r\nthree;four\r\n123456789"
    at = min(at, len(stream))
    whole, _ = connected(terminator)
    whole.dataReceived(stream)
    before, _ = connected(terminator)
    before.dataReceived(stream[:at])
    chat, _ = drained(terminator)
    chat.dataReceived(stream[:at])
    chat.begin_drain()
    for chunk in cuts(stream[at:], places):
        chat.dataReceived(chunk)
    done = len(before.messages)
    assert chat.messages in (whole.messages[:done], whole.messages[: done + 1])
    if chat.is_open:  # the last message never ended
        assert chat.messages == whole.messages
