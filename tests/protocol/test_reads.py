"""Coroutines read from a connection, in turn with its callbacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest
from support import Chat, Wire, connected
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import Clock

from txasynchat import (
    AsyncChat,
    ChatClosed,
    IncompleteRead,
    MessageTooLong,
    PauseReason,
    PlaintextAfterStartTLS,
    simple_producer,
)


class Reading(AsyncChat):
    """A chat without callbacks, on a clock of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater  # type: ignore[method-assign, assignment]
        self.errors: list[str] = []
        self.closes = 0

    def handle_error(self) -> None:
        import sys

        self.errors.append(str(sys.exc_info()[1]))
        self.close_when_done()

    def handle_close(self) -> None:
        self.closes += 1


def reading() -> tuple[Reading, Wire]:
    chat = Reading()
    return chat, Wire().connect(chat)


def conversing(
    talk: Callable[[Any], Coroutine[Any, Any, object]],
) -> tuple[Reading, Wire]:
    class Conversing(Reading):
        async def conversation(self) -> None:
            await talk(self)

    chat = Conversing()
    return chat, Wire().connect(chat)


def result_of(read: Deferred[Any]) -> Any:
    """What it has fired with; None while it has not. A failure is its exception."""
    results: list[Any] = []
    read.addCallback(lambda result: results.append(result))
    read.addErrback(lambda failure: results.append(failure.value))
    return results[0] if results else None


# -- What a read gives ------------------------------------------------------------------


def test_read_until_gives_the_message_without_its_terminator() -> None:
    chat, _ = reading()
    read = chat.read_until(b"\r\n")
    chat.dataReceived(b"hel")
    chat.dataReceived(b"lo\r\nmore")
    assert result_of(read) == b"hello"
    assert chat.matched == b"\r\n"
    assert chat.ac_in_buffer == b"more"


def test_read_until_takes_several_terminators_and_regexes() -> None:
    chat, _ = reading()
    chat.dataReceived(b"a\nb\r\nc-42.")
    assert result_of(chat.read_until((b"\r\n", b"\n"))) == b"a"
    assert result_of(chat.read_until((b"\r\n", b"\n"))) == b"b"
    assert result_of(chat.read_until(re.compile(rb"-(\d\d)\."))) == b"c"
    assert chat.matched[1] == b"42"


def test_read_exactly_gives_so_many_bytes() -> None:
    chat, _ = reading()
    read = chat.read_exactly(4)
    for byte in b"abcdef":
        chat.dataReceived(bytes([byte]))
    assert result_of(read) == b"abcd"
    assert result_of(chat.read_exactly(2)) == b"ef"


def test_read_exactly_nothing_is_there_at_once() -> None:
    chat, _ = reading()
    assert result_of(chat.read_exactly(0)) == b""


def test_read_gives_what_is_there_or_comes_next() -> None:
    chat, _ = reading()
    chat.dataReceived(b"one")
    assert result_of(chat.read()) == b"one"
    read = chat.read()
    assert result_of(read) is None
    chat.dataReceived(b"two")
    assert chat.ac_in_buffer == b""
    assert result_of(chat.read_exactly(0)) == b""


def test_read_gives_nothing_when_the_input_has_ended() -> None:
    chat, _ = reading()
    chat.dataReceived(b"last")
    chat.readConnectionLost()
    assert result_of(chat.read()) == b"last"
    assert result_of(chat.read()) == b""


def test_messages_go_on_to_the_end_of_the_input() -> None:
    async def talk(chat: AsyncChat) -> None:
        async for line in chat.messages(b"\n"):
            chat.push(line.upper() + b"\n")

    chat, wire = conversing(talk)
    chat.dataReceived(b"a\nb\n")
    chat.dataReceived(b"c\n")
    chat.readConnectionLost()
    assert wire.value() == b"A\nB\nC\n"
    assert chat.errors == []
    assert chat.close_reason == "peer"


def test_messages_end_where_the_current_terminator_says() -> None:
    async def talk(chat: AsyncChat) -> None:
        chat.set_terminator(3)
        async for message in chat.messages():
            chat.push(message + b"|")
            chat.set_terminator(b";")

    chat, wire = conversing(talk)
    chat.dataReceived(b"abcde;f;")
    assert wire.value() == b"abc|de|f|"


def test_messages_say_that_the_input_ended_within_one() -> None:
    seen: list[object] = []

    async def talk(chat: AsyncChat) -> None:
        try:
            async for line in chat.messages(b"\n"):
                seen.append(line)
        except IncompleteRead as error:
            seen.append(error.partial)

    chat, _ = conversing(talk)
    chat.dataReceived(b"whole\nha")
    chat.readConnectionLost()
    assert seen == [b"whole", b"ha"]


# -- What can't be read -----------------------------------------------------------------


@pytest.mark.parametrize("terminator", [5, None, b"", 0])
def test_read_until_says_what_to_use_where_nothing_is_searched_for(terminator: Any) -> None:
    chat, _ = reading()
    with pytest.raises(TypeError, match=r"read_exactly\(\) reads a number of bytes, read\(\)"):
        chat.read_until(terminator)


def test_read_until_takes_text_where_the_chat_does() -> None:
    chat, _ = reading()
    with pytest.raises(TypeError, match="use_encoding"):
        chat.read_until("\n")
    chat.use_encoding = True
    chat.dataReceived(b"text\n")
    assert result_of(chat.read_until("\n")) == b"text"


def test_read_exactly_refuses_what_is_no_number_of_bytes() -> None:
    chat, _ = reading()
    with pytest.raises(ValueError, match="can't read -1 bytes"):
        chat.read_exactly(-1)
    with pytest.raises(TypeError, match="a number of bytes"):
        chat.read_exactly(b"x")  # type: ignore[arg-type]


def test_one_read_at_a_time() -> None:
    chat, _ = reading()
    first = chat.read_until(b"\n")
    with pytest.raises(RuntimeError, match="Reading is being read from already"):
        chat.read()
    chat.dataReceived(b"mine\n")
    assert result_of(first) == b"mine"


def test_a_read_fails_with_what_had_come_when_the_input_ends() -> None:
    chat, _ = reading()
    read = chat.read_until(b"\r\n")
    chat.dataReceived(b"half\r")
    chat.readConnectionLost()
    error = result_of(read)
    assert isinstance(error, IncompleteRead) and isinstance(error, ChatClosed)
    assert error.partial == b"half\r"
    assert "b'\\r\\n' was there, after 5 bytes" in str(error)


def test_a_read_fails_when_the_connection_is_closed_by_its_own_side() -> None:
    chat, _ = reading()
    read = chat.read_exactly(10)
    chat.dataReceived(b"four")
    chat.close()
    assert result_of(read).partial == b"four"


def test_a_read_on_a_closed_connection_fails_at_once() -> None:
    chat, wire = reading()
    wire.lose()
    assert isinstance(result_of(chat.read_until(b"\n")), IncompleteRead)
    assert result_of(chat.read()) == b""


def test_what_came_before_the_peer_went_is_still_read() -> None:
    chat, wire = reading()
    chat.dataReceived(b"one\ntwo\nth")
    wire.lose()
    assert result_of(chat.read_until(b"\n")) == b"one"
    assert result_of(chat.read_until(b"\n")) == b"two"
    assert result_of(chat.read_until(b"\n")).partial == b"th"


def test_a_read_before_the_connection_waits_for_it() -> None:
    chat = Reading()
    read = chat.read_until(b"\n")
    Wire().connect(chat)
    chat.dataReceived(b"early\n")
    assert result_of(read) == b"early"


def test_a_read_fails_when_the_connection_is_closed_before_it_was_made() -> None:
    chat = Reading()
    read = chat.read_until(b"\n")
    chat.close()
    assert isinstance(result_of(read), IncompleteRead)


# -- Limits -----------------------------------------------------------------------------


def test_a_message_over_the_limit_fails_the_read_and_is_not_lost() -> None:
    chat, _ = reading()
    chat.dataReceived(b"0123456789\n")
    error = result_of(chat.read_until(b"\n", limit=4))
    assert isinstance(error, MessageTooLong)
    assert error.limit == 4
    assert result_of(chat.read_until(b"\n", limit=10)) == b"0123456789"


def test_the_limit_is_the_chats_unless_the_read_says_otherwise() -> None:
    chat, _ = reading()
    chat.max_message_length = 5
    chat.dataReceived(b"0123456789\nabcdef\n")
    assert result_of(chat.read_until(b"\n", limit=None)) == b"0123456789"
    assert isinstance(result_of(chat.read_until(b"\n")), MessageTooLong)


def test_a_conversation_with_a_message_over_the_limit_ends_as_with_callbacks() -> None:
    calls = []

    class Strict(Reading):
        max_message_length = 5

        async def conversation(self) -> None:
            await self.read_until(b"\n")

        def handle_message_too_long(self) -> None:
            calls.append(self.close_reason)
            self.abort()

    chat = Strict()
    wire = Wire().connect(chat)
    chat.dataReceived(b"0123456789")
    assert calls == [None]
    assert chat.close_reason == "limit"
    assert chat.close_detail == "message over 5 bytes"
    assert wire.aborted
    assert chat.errors == []


def test_a_limit_that_a_read_had_of_its_own_is_named_in_the_log(
    logged_failures: Callable[[], list[str]],
) -> None:
    async def talk(chat: AsyncChat) -> None:
        await chat.read_until(b"\n", limit=4)

    chat, wire = conversing(talk)
    chat.dataReceived(b"0123456789")
    assert wire.aborted
    (line,) = logged_failures()
    assert "is longer than 4 bytes" in line
    assert "raise the limit of that read" in line


# -- Cancelling -------------------------------------------------------------------------


def test_a_cancelled_read_leaves_all_to_the_next() -> None:
    chat, _ = reading()
    read = chat.read_until(b"\r\n")
    chat.dataReceived(b"half a li")
    read.cancel()
    assert isinstance(result_of(read), CancelledError)
    chat.dataReceived(b"ne\r\n")
    assert result_of(chat.read_until(b"\r\n")) == b"half a line"


def test_a_read_that_timed_out_leaves_all_to_the_next() -> None:
    chat, _ = reading()
    read = chat.read_exactly(6).addTimeout(5, chat.clock)
    chat.dataReceived(b"abc")
    chat.clock.advance(5)
    assert type(result_of(read)).__name__ == "TimeoutError"
    chat.dataReceived(b"def")
    assert result_of(chat.read_exactly(6)) == b"abcdef"


def test_a_cancelled_read_leaves_all_to_the_callbacks() -> None:
    chat, _ = connected(b"\n")
    read = chat.read_exactly(10)
    chat.dataReceived(b"a line\n")
    read.cancel()
    assert isinstance(result_of(read), CancelledError)
    assert chat.events[1:] == [("data", b"a line"), ("found",)]


# -- Turns ------------------------------------------------------------------------------


def test_a_callback_reads_what_follows_its_message() -> None:
    bodies = []

    async def found(chat: Chat) -> None:
        if chat.messages[-1].startswith(b"DATA"):
            bodies.append(await chat.read_exactly(int(chat.messages[-1][5:])))

    chat, wire = connected(b"\r\n", found=found)
    chat.dataReceived(b"HELO\r\nDATA 6\r\n\r\n\r\n..QUIT\r\n")
    assert bodies == [b"\r\n\r\n.."]
    assert chat.messages == [b"HELO", b"DATA 6", b"QUIT"]
    assert wire.is_reading


def test_a_callback_that_reads_is_waited_for() -> None:
    read = []

    async def found(chat: Chat) -> None:
        if chat.messages == [b"one"]:
            read.append(await chat.read_until(b";"))

    chat, wire = connected(b"\n", found=found)
    chat.dataReceived(b"one\ntwo\nthr")
    assert chat.messages == [b"one"]
    assert wire.is_reading  # the read needs input
    chat.dataReceived(b"ee;four\n")
    assert read == [b"two\nthree"]
    assert chat.messages == [b"one", b"four"]


def test_between_two_reads_of_a_callback_the_handler_is_busy() -> None:
    later: Deferred[None] = Deferred()
    got: list[bytes] = []

    async def found(chat: Chat) -> None:
        if not got:
            got.append(await chat.read_until(b";"))
            await later
            got.append(await chat.read_until(b";"))

    chat, wire = connected(b"\n", found=found)
    chat.dataReceived(b"go\na;b;c\n")
    assert got == [b"a"]
    assert chat.paused_because == (PauseReason.HANDLER_BUSY,)
    assert not wire.is_reading
    later.callback(None)
    assert got == [b"a", b"b"]
    assert chat.messages == [b"go", b"c"]
    assert wire.is_reading


def test_a_read_that_is_given_up_leaves_its_bytes_to_a_callback_that_is_waited_for() -> None:
    later: Deferred[None] = Deferred()
    reads: list[Deferred[bytes]] = []

    async def connect(chat: Chat) -> None:
        reads.append(chat.read_until(b";"))
        with suppress(CancelledError):
            await reads[0]
        chat.set_terminator(1)

    async def found(chat: Chat) -> None:
        await later

    chat, _ = connected(b";", connect=connect, found=found)
    chat.dataReceived(b"ab")
    reads[0].cancel()
    assert chat.events[1:] == [("data", b"a"), ("found",)]
    assert chat.paused_because == (PauseReason.HANDLER_BUSY,)
    assert chat.ac_in_buffer == b"b"


def test_handle_connect_may_read_before_the_first_callback() -> None:
    login = []

    async def connect(chat: Chat) -> None:
        login.append(await chat.read_until(b"\n"))

    chat, _ = connected(b";", connect=connect)
    chat.dataReceived(b"me\na;b;")
    assert login == [b"me"]
    assert chat.messages == [b"a", b"b"]


def test_a_read_in_the_middle_of_a_message_takes_its_bytes_and_the_message_goes_on() -> None:
    chat, _ = connected(b"\n")
    chat.dataReceived(b"first ")
    read = chat.read_exactly(3)
    chat.dataReceived(b"\n\n\nlast\n")
    assert result_of(read) == b"\n\n\n"
    assert chat.messages == [b"first last"]


def test_a_count_goes_on_behind_a_read() -> None:
    chat, _ = connected(6)
    chat.dataReceived(b"ab")
    read = chat.read_until(b";")
    chat.dataReceived(b"xyz;cdefg")
    assert result_of(read) == b"xyz"
    assert chat.messages == [b"abcdef"]


def test_bytes_held_back_for_the_terminator_are_the_reads() -> None:
    chat, _ = connected(b"\r\n")
    chat.dataReceived(b"line\r")
    read = chat.read_until(b"\r\n")
    chat.dataReceived(b"\n\r\n")
    assert result_of(read) == b""
    assert chat.messages == [b"line"]


def test_a_message_whose_end_was_found_is_told_to_the_callbacks_before_the_read() -> None:
    def collect(chat: Chat) -> None:
        if chat.events[-1] == ("data", b"one"):
            chat.read_until(b";").addCallback(lambda data: chat.events.append(("read", data)))

    chat, _ = connected(b"\n", collect=collect)
    chat.dataReceived(b"one\ntwo;three\n")
    assert chat.events[1:] == [
        ("data", b"one"),
        ("found",),
        ("read", b"two"),
        ("data", b"three"),
        ("found",),
    ]


def test_the_length_of_a_message_counts_what_came_before_a_read() -> None:
    chat, _ = connected(b"\n", too_long=lambda chat: chat.abort())
    chat.max_message_length = 10
    chat.dataReceived(b"12345678")
    read = chat.read_until(b";")
    chat.dataReceived(b"in between;9012")
    assert result_of(read) == b"in between"
    assert ("too long",) in chat.events


def test_a_terminator_set_while_a_coroutine_reads_is_that_of_the_callbacks() -> None:
    chat, _ = connected(b"\n")
    read = chat.read_until(b";")
    chat.set_terminator(b",")
    assert chat.get_terminator() == b","
    chat.dataReceived(b"a,b\n;c,d\n")
    assert result_of(read) == b"a,b\n"
    assert chat.messages == [b"c"]


def test_a_bad_terminator_leaves_the_callbacks_theirs_while_a_coroutine_reads() -> None:
    chat, _ = connected(b"\n")
    read = chat.read_until(b";")
    with pytest.raises(ValueError):
        chat.set_terminator(-1)
    chat.dataReceived(b"x;a\n")
    assert result_of(read) == b"x"
    assert chat.messages == [b"a"]


def test_an_overridden_get_terminator_is_asked_again_behind_a_read() -> None:
    class Asked(Chat):
        def get_terminator(self) -> bytes:
            return b","

    chat = Asked()
    Wire().connect(chat)
    read = chat.read_until(b";")
    chat.dataReceived(b"a,b;c,d,")
    assert result_of(read) == b"a,b"
    assert chat.messages == [b"c", b"d"]


def test_who_reads_on_at_once_reads_on_where_it_was() -> None:
    got = []

    async def outside(chat: AsyncChat) -> None:
        for _ in range(3):
            got.append(await chat.read_until(b","))

    chat, _ = connected(b"\n")
    Deferred.fromCoroutine(outside(chat))
    chat.dataReceived(b"a,b,c,rest\n")
    assert got == [b"a", b"b", b"c"]
    assert chat.messages == [b"rest"]


def test_who_finds_its_read_done_at_once_reads_on_before_the_callbacks() -> None:
    got = []

    async def outside(chat: AsyncChat) -> None:
        got.append(await chat.read_until(b","))
        got.append(await chat.read_until(b","))

    chat, _ = connected(b"\n")
    chat.pauseProducing()
    chat.dataReceived(b"a,b,rest\n")
    Deferred.fromCoroutine(outside(chat))
    assert got == []  # the user's pause holds for reads as well
    chat.resumeProducing()
    chat.clock.advance(0)
    assert got == [b"a", b"b"]
    assert chat.messages == [b"rest"]


def test_discard_buffers_drops_what_came_of_a_read() -> None:
    chat, _ = reading()
    read = chat.read_until(b"\n")
    chat.dataReceived(b"old")
    chat.discard_buffers()
    chat.dataReceived(b"new\n")
    assert result_of(read) == b"new"


# -- Handlers without callbacks -----------------------------------------------------------


def test_input_that_nobody_reads_waits_and_pauses_the_peer() -> None:
    chat, wire = reading()
    assert wire.is_reading  # so that its end is seen
    chat.dataReceived(b"a\nb\n")
    assert chat.paused_because == (PauseReason.NOBODY_READS,)
    assert wire.producerState == "paused"
    assert result_of(chat.read_until(b"\n")) == b"a"
    assert wire.producerState == "paused"
    assert result_of(chat.read_until(b"\n")) == b"b"
    assert wire.producerState == "producing"
    assert not chat.paused_because


def test_a_peer_that_goes_while_nobody_reads_is_noticed() -> None:
    chat, wire = reading()
    closed = chat.closed()
    chat.readConnectionLost()
    wire.lose()
    assert result_of(closed) == "peer"
    assert chat.closes == 1


def test_a_handler_whose_callbacks_are_its_own_attributes_has_callbacks() -> None:
    chat = Reading()
    got: list[bytes] = []
    chat.collect_incoming_data = got.append  # type: ignore[method-assign, assignment]
    Wire().connect(chat)
    chat.dataReceived(b"data")
    assert got == [b"data"]


def test_overriding_connection_made_does_not_matter_to_a_reader() -> None:
    class Twistedly(Reading):
        def connectionMade(self) -> None:
            self.push(b"hi")

    chat = Twistedly()
    Wire().connect(chat)
    chat.dataReceived(b"x\n")
    assert result_of(chat.read_until(b"\n")) == b"x"


# -- Conversations ------------------------------------------------------------------------


def test_a_conversation_is_the_whole_connection() -> None:
    async def talk(chat: AsyncChat) -> None:
        chat.push(b"name? ")
        name = await chat.read_until(b"\n")
        chat.push(b"hello, " + name)

    chat, wire = conversing(talk)
    assert wire.value() == b"name? "
    chat.dataReceived(b"world\nignored\n")
    assert wire.value() == b"name? hello, world"
    assert wire.disconnecting
    assert chat.close_reason == "handler"


def test_a_conversation_begins_when_handle_connect_is_done() -> None:
    events = []
    later: Deferred[None] = Deferred()

    class Slow(Reading):
        async def handle_connect(self) -> None:
            await later
            events.append("connected")

        async def conversation(self) -> None:
            events.append("conversation")
            await self.read()

    Wire().connect(Slow())
    assert events == []
    later.callback(None)
    assert events == ["connected", "conversation"]


def test_a_conversation_may_be_a_function_of_inline_callbacks() -> None:
    class Inline(Reading):
        @inlineCallbacks
        def conversation(self) -> Generator[Deferred[Any], Any, None]:
            name = yield self.read_until(b"\n")
            self.push(name[::-1])

    chat = Inline()
    wire = Wire().connect(chat)
    chat.dataReceived(b"abc\n")
    assert wire.value() == b"cba"
    assert chat.close_reason == "handler"


def test_the_end_of_the_input_ends_a_conversation_quietly() -> None:
    async def talk(chat: AsyncChat) -> None:
        while True:
            await chat.read_until(b"\n")

    chat, wire = conversing(talk)
    chat.dataReceived(b"one\ntw")
    chat.readConnectionLost()
    assert chat.errors == []
    assert chat.close_reason == "peer"
    assert wire.disconnecting


def test_a_conversation_may_answer_a_peer_that_finished_sending() -> None:
    async def talk(chat: AsyncChat) -> None:
        data = b""
        while piece := await chat.read():
            data += piece
        chat.push(b"%d bytes" % len(data))

    chat, wire = conversing(talk)
    chat.dataReceived(b"12345")
    chat.dataReceived(b"678")
    chat.readConnectionLost()
    assert wire.value() == b"8 bytes"


def test_an_error_in_a_conversation_goes_to_handle_error_and_closes() -> None:
    async def talk(chat: AsyncChat) -> None:
        await chat.read_until(b"\n")
        raise ValueError("broken")

    chat, wire = conversing(talk)
    chat.dataReceived(b"go\n")
    assert chat.errors == ["broken"]
    assert wire.disconnecting


def test_the_end_of_another_connection_is_an_error_like_any_other() -> None:
    upstream, upstream_wire = reading()

    async def talk(chat: AsyncChat) -> None:
        await upstream.read_until(b"\n")

    chat, _ = conversing(talk)
    upstream_wire.lose()
    assert len(chat.errors) == 1 and "the input ended" in chat.errors[0]


def test_a_conversation_without_an_await_ends_at_once() -> None:
    class Daytime(Reading):
        def conversation(self) -> None:
            self.push(b"noon")

    wire = Wire().connect(Daytime())
    assert wire.value() == b"noon"
    assert wire.disconnecting


def test_a_conversation_that_sends_waits_for_the_peer_by_drained() -> None:
    async def talk(chat: AsyncChat) -> None:
        chat.push_with_producer(simple_producer(b"x" * 200_000))
        await chat.drained()
        chat.push(b"end")

    chat, wire = conversing(talk)
    assert wire.value().endswith(b"xend")
    assert chat.close_reason == "handler"


def test_a_callback_that_waits_for_its_output_handles_any_number_of_messages() -> None:
    async def found(chat: Chat) -> None:
        chat.push(b"x")
        await chat.drained()

    chat, wire = connected(b"\n", found=found)
    chat.dataReceived(b"a\n" * 2000)
    assert wire.value() == b"x" * 2000


def test_a_draining_conversation_ends_where_it_waits_for_a_first_message() -> None:
    async def talk(chat: AsyncChat) -> None:
        async for line in chat.messages(b"\n"):
            chat.push(line + b":")
            chat.push(await chat.read_exactly(3) + b"\n")

    chat, wire = conversing(talk)
    chat.dataReceived(b"head\n")
    chat.begin_drain()
    assert chat.is_open  # the body belongs to it
    chat.dataReceived(b"abcmore\n")
    assert wire.value() == b"head:abc\n"
    assert chat.close_reason == "drain"
    assert chat.errors == []


def test_a_drain_waits_for_a_callback_that_reads() -> None:
    async def found(chat: Chat) -> None:
        chat.push(await chat.read_until(b"\n"))

    chat, wire = connected(b"\n", found=found)
    chat.dataReceived(b"what?\n")
    chat.begin_drain()
    assert chat.is_open
    chat.dataReceived(b"that\n")
    assert wire.value() == b"that"
    assert chat.close_reason == "drain"


def test_a_conversation_that_waits_for_its_peer_is_idle() -> None:
    class Impatient(Reading):
        idle_timeout = 10

        async def conversation(self) -> None:
            await self.read_until(b"\n")

    chat = Impatient()
    Wire().connect(chat)
    chat.dataReceived(b"x")
    chat.clock.advance(10)
    assert chat.close_reason == "timeout"
    assert chat.errors == []


def test_traffic_counts_reads_as_messages() -> None:
    chat, _ = reading()
    chat.dataReceived(b"a\nb\nxyz")
    reads = [chat.read_until(b"\n"), chat.read_until(b"\n"), chat.read_exactly(3)]
    assert all(read.called for read in reads)
    assert chat.traffic()["messages_in"] == 3
    assert chat.traffic()["bytes_in"] == 7


# -- At the wrong moment ------------------------------------------------------------------


def test_what_a_pause_held_back_is_still_read_when_the_connection_is_lost() -> None:
    chat, wire = reading()
    chat.pauseProducing()
    chat.dataReceived(b"a\nb\ncd")
    first, closed = chat.read_until(b"\n"), chat.closed()
    wire.lose()
    assert (result_of(first), result_of(closed), chat.closes) == (b"a", "peer", 1)
    assert result_of(chat.read_until(b"\n")) == b"b"
    assert result_of(chat.read_exactly(2)) == b"cd"


def test_a_message_over_the_limit_is_still_there_when_the_connection_is_lost() -> None:
    chat, wire = reading()
    chat.pauseProducing()
    chat.dataReceived(b"abcdef\n")
    read = chat.read_until(b"\n", limit=2)
    wire.lose()
    assert isinstance(result_of(read), MessageTooLong)
    assert result_of(chat.read_until(b"\n")) == b"abcdef"


def test_a_callback_that_is_owed_is_not_made_when_the_connection_is_lost() -> None:
    chat, wire = connected(b"\n", collect=lambda chat: chat.pauseProducing())
    chat.dataReceived(b"one\ntwo;")
    read = chat.read_until(b";")
    wire.lose()
    assert chat.events[1:] == [("data", b"one"), ("close",)]
    assert result_of(read) == b"two"


def test_tls_is_refused_in_the_middle_of_a_message_that_a_read_has_put_aside(
    logged_failures: Callable[[], list[str]],
) -> None:
    class Secured(Wire):
        def startTLS(self, options: object) -> None:
            pass

    class Options:
        getContext = None

    chat = Chat(b"\n")
    Secured().connect(chat)
    chat.dataReceived(b"EVIL ")
    read = chat.read_until(b";")
    upgrade = chat.start_tls(Options())
    assert isinstance(result_of(upgrade), PlaintextAfterStartTLS)
    assert isinstance(result_of(read), IncompleteRead)
    assert len(logged_failures()) == 1


def test_a_drain_waits_for_the_message_that_a_read_has_put_aside() -> None:
    chat, _ = connected(b"\n")
    chat.dataReceived(b"half")
    read = chat.read_until(b"\n")
    chat.begin_drain()
    assert chat.is_open
    chat.dataReceived(b"between\n of it\n")
    assert result_of(read) == b"between"
    assert chat.messages == [b"half of it"]
    assert chat.close_reason == "drain"


def test_a_conversation_that_works_is_not_idle() -> None:
    later: Deferred[None] = Deferred()

    class Slow(Reading):
        idle_timeout = 10

        async def conversation(self) -> None:
            await self.read_until(b"\n")
            await later
            self.push(b"done")

    chat = Slow()
    wire = Wire().connect(chat)
    chat.dataReceived(b"job\n")
    chat.clock.advance(20)
    later.callback(None)
    assert wire.value() == b"done"
    assert chat.close_reason == "handler"


@pytest.mark.parametrize("how", ["close", "abort", "close_when_done"])
def test_no_conversation_begins_after_handle_connect_has_closed(how: str) -> None:
    class Closing(Reading):
        def handle_connect(self) -> None:
            getattr(self, how)()

        async def conversation(self) -> None:
            raise AssertionError("it is over")

    chat = Closing()
    Wire().connect(chat)
    assert chat.errors == []
    assert chat.close_reason == "handler"


def test_a_conversation_whose_handle_connect_failed_is_over() -> None:
    class Failing(Reading):
        def handle_connect(self) -> None:
            raise ValueError("at once")

        def handle_error(self) -> None:
            self.errors.append("ignored")

        async def conversation(self) -> None:
            raise AssertionError("it never begins")

    chat = Failing()
    Wire().connect(chat)
    assert chat.errors == ["ignored"]
    assert not chat.is_open


def test_a_connection_has_begun_when_anything_was_read() -> None:
    chat, _ = reading()
    chat.dataReceived(b"magic")
    assert result_of(chat.read()) == b"magic"
    chat.read_until(b"\n")
    assert chat.has_begun


def test_discard_buffers_begins_a_count_anew() -> None:
    chat, _ = reading()
    read = chat.read_exactly(4)
    chat.dataReceived(b"ab")
    chat.discard_buffers()
    chat.dataReceived(b"wxyz")
    assert result_of(read) == b"wxyz"


def test_a_regex_without_a_longest_match_is_read_with_max_match() -> None:
    seen = []

    async def talk(chat: AsyncChat) -> None:
        chat.set_terminator(re.compile(rb"a+;"), max_match=9)
        seen.append(await chat.read_until(re.compile(rb"b+;"), max_match=5))
        async for message in chat.messages():
            seen.append(message)

    chat, _ = conversing(talk)
    chat.dataReceived(b"1bb;2aa;3a;")
    assert seen == [b"1", b"2", b"3"]


@pytest.mark.parametrize("turns", [0, 1])
def test_the_peers_end_closes_a_handler_that_reads_no_more(turns: int) -> None:
    chat, _ = reading()
    chat.dataReceived(b"a\n")
    assert result_of(chat.read_until(b"\n")) == b"a"
    chat.clock.pump([1] * turns)
    chat.readConnectionLost()
    chat.clock.pump([1])
    assert chat.close_reason == "peer"


def test_a_read_that_was_dropped_leaves_all_to_the_next() -> None:
    chat, _ = reading()
    chat.read_until(b"\n")  # and nobody waits for it
    chat.dataReceived(b"a\nb\n")
    assert result_of(chat.read_until(b"\n")) == b"a"
    chat.read_exactly(10)
    assert result_of(chat.read_until(b"\n")) == b"b"


def test_a_read_whose_callback_reads_on_is_chained_to_that() -> None:
    chat, _ = reading()
    read = chat.read_until(b":").addCallback(lambda size: chat.read_exactly(int(size)))
    chat.dataReceived(b"3:abcrest")
    assert result_of(read) == b"abc"


def test_setting_the_same_terminator_goes_on_dropping_what_is_too_long() -> None:
    chat, _ = connected(b"\n", too_long=lambda chat: None)
    chat.max_message_length = 3
    chat.dataReceived(b"abcdef")
    read = chat.read_exactly(1)
    chat.set_terminator(b"\n")
    chat.dataReceived(b"!gh\nok\n")
    assert result_of(read) == b"!"
    assert chat.messages == [b"ok"]


def test_reads_that_are_done_at_once_leave_one_call_to_the_clock() -> None:
    chat, _ = reading()
    chat.dataReceived(b"x\n" * 100)
    for _ in range(100):
        assert result_of(chat.read_until(b"\n")) == b"x"
    assert len(chat.clock.getDelayedCalls()) == 1
