"""What goes wrong in one connection ends that connection, and is told once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support import Chat, Wire, connected
from twisted.internet.defer import Deferred, fail

from txasynchat import CloseReason
from txasynchat.core.terminators import Terminator


def fault(*_: Any) -> None:
    raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("callback", ["connect", "collect", "found"])
def test_a_callback_that_raises_ends_its_connection_once_its_output_is_sent(
    callback: str, logged_failures: Any
) -> None:
    def push_and_fail(chat: Chat) -> None:
        chat.push(b"accepted")
        fault()

    chat, wire = connected(b"\n", **{callback: push_and_fail})
    other, other_wire = connected()
    chat.dataReceived(b"one\ntwo\n")
    other.dataReceived(b"one\n")
    assert (wire.value(), wire.disconnecting) == (b"accepted", True)
    wire.lose()
    assert chat.events[-2:] == [("error",), ("close",)]
    assert (chat.close_reason, chat.close_detail) == ("error", "ZeroDivisionError: on purpose")
    (logged,) = logged_failures()
    assert "Chat failed" in logged
    assert "192.168.1.1:54321" in logged, "the peer's address is named"
    assert "ZeroDivisionError: on purpose" in logged
    assert (other.messages, other_wire.disconnecting) == ([b"one"], False)


@pytest.mark.parametrize("callback", ["collect", "found"])
def test_a_handler_that_does_not_close_on_errors_goes_on(callback: str) -> None:
    chat, wire = connected(b"\n", **{callback: fault}, error=lambda chat: chat.push(b"sorry "))
    chat.dataReceived(b"one\ntwo\n")
    assert chat.messages == [b"one", b"two"]
    assert wire.value() == b"sorry sorry "


def test_handle_error_runs_while_the_exception_is_handled() -> None:
    import traceback

    seen: list[str] = []
    chat, _ = connected(found=fault, error=lambda chat: seen.append(traceback.format_exc()))
    chat.dataReceived(b"one\n")
    assert "ZeroDivisionError: on purpose" in seen[0]


def test_an_error_in_handle_error_cuts_the_connection(logged_failures: Any) -> None:
    chat, wire = connected(found=fault, error=fault)
    chat.dataReceived(b"one\ntwo\n")
    assert wire.aborted
    wire.lose()
    assert (chat.messages, chat.close_reason) == ([b"one"], "error")
    assert "handle_error() failed" in logged_failures()[0]


def test_an_error_in_handle_close_is_logged_and_closed_still_fires(logged_failures: Any) -> None:
    chat, wire = connected(close=fault)
    reasons: list[CloseReason] = []
    chat.closed().addCallback(reasons.append)
    wire.lose()
    assert reasons == ["peer"]
    assert "handle_close() failed" in logged_failures()[0]


def test_an_error_in_handle_timeout_ends_the_connection(logged_failures: Any) -> None:
    chat, wire = connected(timeout=fault)
    chat.idle_timeout = 10
    chat.dataReceived(b"x")
    chat.clock.advance(11)
    assert (chat.close_reason, wire.disconnecting) == ("error", True)
    assert len(logged_failures()) == 1
    wire.lose()
    assert chat.clock.getDelayedCalls() == []


def test_an_error_in_get_terminator_ends_the_connection_in_any_case() -> None:
    class Lost(Chat):
        def get_terminator(self) -> Terminator:
            fault()
            return None

    chat = Lost(error=lambda chat: None)
    wire = Wire().connect(chat)
    chat.dataReceived(b"one\n")
    assert (chat.close_reason, wire.disconnecting) == ("error", True)
    assert chat.events == [("connect",), ("error",)]


def test_a_bad_answer_of_get_terminator_ends_the_connection(logged_failures: Any) -> None:
    class Lost(Chat):
        def get_terminator(self) -> Terminator:
            return -1

    for chat in (Lost(), Lost(error=lambda chat: None)):
        wire = Wire().connect(chat)
        chat.dataReceived(b"one\n")
        assert wire.disconnecting
    assert "not -1" in logged_failures()[0]


def test_a_failing_deferred_goes_to_handle_error() -> None:
    chat, _ = connected(found=lambda chat: fail(ZeroDivisionError()), error=lambda chat: None)
    chat.dataReceived(b"one\ntwo\n")
    assert chat.events.count(("error",)) == 2


# -- Messages that are too long ------------------------------------------------------


@pytest.mark.parametrize("terminator", [b"\r\n", (b"\n", b"\r\n"), re.compile(rb"\r?\n")])
@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_a_message_that_is_too_long_cuts_the_connection_and_names_the_knob(
    terminator: Terminator, chunk: int, logged_failures: Any
) -> None:
    chat, wire = connected(terminator)
    stream = b"x" * 70_000
    for start in range(0, len(stream), chunk):
        chat.dataReceived(stream[start : start + chunk])
    assert wire.aborted
    assert chat.close_reason == "limit"
    assert chat.events == [("connect",), ("data", b"x" * 65536), ("too long",)]
    (logged,) = logged_failures()
    assert "longer than 65536 bytes" in logged
    assert "raise Chat.max_message_length" in logged


@pytest.mark.parametrize("terminator", [None, 1_000_000])
def test_a_message_without_a_searched_terminator_is_the_handlers_own_decision(
    terminator: Terminator,
) -> None:
    chat, wire = connected(terminator)
    chat.dataReceived(b"x" * 200_000)
    assert not wire.aborted
    assert chat.events[-1] == ("data", b"x" * 200_000)


def test_without_a_limit_a_message_may_have_any_length() -> None:
    chat, _ = connected()
    chat.max_message_length = None
    chat.dataReceived(b"x" * 200_000 + b"\n")
    assert chat.messages == [b"x" * 200_000]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_rest_of_a_message_that_is_too_long_can_be_skipped(chunk: int) -> None:
    chat, wire = connected(too_long=lambda chat: chat.push(b"500 too long\n"))
    chat.max_message_length = 5
    stream = b"one\ntoo long by far\ntwo\n"
    for start in range(0, len(stream), chunk):
        chat.dataReceived(stream[start : start + chunk])
    assert wire.value() == b"500 too long\n"
    assert [event for event in chat.events if event != ("found",)] == [
        ("connect",),
        ("data", b"one"),
        ("data", b"too l"),
        ("too long",),
        ("data", b"two"),
    ]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_hook_that_sets_a_terminator_takes_the_rest(chunk: int) -> None:
    chat, _ = connected(too_long=lambda chat: chat.set_terminator(3))
    chat.max_message_length = 5
    stream = b"12345678\n"
    for start in range(0, len(stream), chunk):
        chat.dataReceived(stream[start : start + chunk])
    assert chat.events == [
        ("connect",),
        ("data", b"12345"),
        ("too long",),
        ("data", b"678"),
        ("found",),
        ("data", b"\n"),
    ]


def test_what_was_kept_of_a_message_that_is_too_long_is_dropped() -> None:
    chat, _ = connected(too_long=lambda chat: None)
    chat.max_message_length = 3
    chat.collect_incoming_data = chat._collect_incoming_data  # type: ignore[method-assign]
    chat.dataReceived(b"12345\nab\n")
    assert chat._get_data() == b"ab"


def test_a_hook_that_closes_politely_is_heard() -> None:
    chat, wire = connected(too_long=lambda chat: (chat.push(b"500\n"), chat.close_when_done()))
    chat.max_message_length = 5
    chat.dataReceived(b"too long by far\n")
    assert (wire.value(), wire.disconnecting, wire.aborted) == (b"500\n", True, False)
    assert chat.close_reason == "limit"


# -- Producers that fail -------------------------------------------------------------


class Broken:
    """A producer that gives one piece and then fails in some way."""

    def __init__(self, then: Any) -> None:
        self.results = [b"piece ", then]

    def more(self) -> Any:
        result = self.results.pop(0) if self.results else b""
        if callable(result):
            return result()
        if isinstance(result, Exception):
            raise result
        return result


@pytest.mark.parametrize(
    "then", [ZeroDivisionError(), None, "text", 5, lambda: fail(OSError("disk"))]
)
def test_a_producer_that_breaks_ends_the_connection_behind_what_it_gave(
    then: Any, logged_failures: Any
) -> None:
    chat, wire = connected()
    chat.push(b"before ")
    chat.push_with_producer(Broken(then))
    if chat.is_open:
        chat.push(b"after")
    assert (wire.value(), wire.disconnecting) == (b"before piece ", True)
    assert chat.close_reason == "error"
    assert len(logged_failures()) == 1


def test_a_producer_that_breaks_closes_even_if_handle_error_does_not() -> None:
    chat, wire = connected(error=lambda chat: None)
    wire.fill()
    chat.push_with_producer(Broken(ZeroDivisionError()))
    chat.push(b"after")
    wire.empty()
    assert (wire.value(), wire.disconnecting) == (b"piece ", True)
    assert chat.close_reason == "error"


def test_handle_error_may_still_say_something_after_a_producer_broke() -> None:
    chat, wire = connected(error=lambda chat: chat.push(b"sorry"))
    chat.push_with_producer(Broken(ZeroDivisionError()))
    assert (wire.value(), wire.disconnecting) == (b"piece sorry", True)


@pytest.mark.parametrize("how", ["close", "discard_buffers"])
def test_a_producer_that_drops_the_queue_as_its_coroutine_begins_is_dropped(how: str) -> None:
    class Rude:
        async def more(self) -> bytes:
            getattr(chat, how)()
            return b"dropped"

    chat, wire = connected()
    chat.push_with_producer(Rude())
    if how == "discard_buffers":
        chat.push(b"later")
    assert (wire.value(), chat.is_open) == (
        (b"later", True) if how == "discard_buffers" else (b"", False)
    )
    assert ("error",) not in chat.events


def test_an_empty_piece_ends_a_producer_with_more() -> None:
    chat, wire = connected()
    chat.push_with_producer(Broken(b""))
    chat.push(b"after")
    assert wire.value() == b"piece after"


@pytest.mark.parametrize("source", [b"bytes", bytearray(b"x"), "text", 5, None, object()])
def test_what_is_no_producer_is_refused(source: Any) -> None:
    chat, wire = connected()
    with pytest.raises(TypeError, match="no producer"):
        chat.push_with_producer(source)
    assert chat.is_open
    chat.push(b"still fine")
    assert wire.value() == b"still fine"


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_broken_producer_is_told_of_though_who_waits_for_it_ends_the_connection(end: str) -> None:
    class Later:
        def __init__(self) -> None:
            self.due: Deferred[bytes] = Deferred()

        def more(self) -> Deferred[bytes]:
            return self.due

    chat, wire = connected(error=lambda chat: None)
    producer = Later()
    chat.push_with_producer(producer)
    chat.drained().addErrback(lambda _: getattr(chat, end)())
    producer.due.errback(ZeroDivisionError("on purpose"))
    wire.lose()
    assert chat.events == [("connect",), ("error",), ("close",)]
