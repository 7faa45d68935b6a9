"""What a connection has done so far is counted, exactly, and cheaply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Chat, Wire, connected, cuts
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher

from txasynchat import AsyncChat
from txasynchat.core.terminators import Terminator


def test_bytes_and_messages_are_counted_in_both_directions() -> None:
    chat, wire = connected(found=lambda chat: chat.push(b"answer"))
    chat.dataReceived(b"one\ntw")
    chat.dataReceived(b"o\nthr")
    assert chat.traffic() == {
        "bytes_in": 11,
        "bytes_out": 12,
        "messages_in": 2,
        "messages_out": 2,
        "queued_output": 0,
        "pauses": {},
    }
    assert len(wire.value()) == 12


def test_a_connection_has_begun_with_its_first_message_or_the_first_byte_of_everything() -> None:
    lines, _ = connected()
    lines.dataReceived(b"on")
    everything, _ = connected(None)
    assert (lines.has_begun, everything.has_begun) == (False, False)
    lines.dataReceived(b"e\n")
    everything.dataReceived(b"x")
    assert (lines.has_begun, everything.has_begun) == (True, True)


def test_each_look_gives_a_dict_of_its_own() -> None:
    chat, _ = connected()
    chat.pauseProducing()
    before = chat.traffic()
    chat.resumeProducing()
    chat.pauseProducing()
    assert (before["pauses"], chat.traffic()["pauses"]) == ({"user asked": 1}, {"user asked": 2})


def test_pauses_are_counted_by_their_reasons() -> None:
    waiting: list[Deferred[None]] = []

    def wait(chat: Chat) -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[-1]

    chat, wire = connected(found=wait)
    wire.fill()
    chat.dataReceived(b"one\ntwo\n")
    waiting[0].callback(None)
    chat.push(b"x" * 70_000)
    chat.pauseProducing()
    chat.pauseProducing()
    assert chat.traffic()["pauses"] == {"handler busy": 2, "output full": 1, "user asked": 1}


def test_what_waits_to_be_sent_is_a_message_but_no_bytes_out() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"12345")
    chat.push(b"")
    chat.push_with_producer([b"a", b"b", b"c"])
    chat.close_when_done()
    waits = chat.traffic()
    assert (waits["messages_out"], waits["bytes_out"], waits["queued_output"]) == (2, 0, 5)
    wire.empty()
    sent = chat.traffic()
    assert (sent["messages_out"], sent["bytes_out"], sent["queued_output"]) == (2, 8, 0)


def test_a_producer_is_one_message_whatever_it_gives() -> None:
    class Pulled:
        left = 3

        def resumeProducing(self) -> None:
            self.left -= 1
            chat.write(b"piece")
            if not self.left:
                chat.unregisterProducer()

        def stopProducing(self) -> None:
            pass

    chat, wire = connected()
    chat.ac_out_buffer_size = 4
    chat.push_with_producer([b"123456", b"7"])
    chat.registerProducer(Pulled(), False)
    chat.push(b"behind it")
    assert chat.traffic()["messages_out"] == 3
    assert wire.value() == b"1234567" + b"piece" * 3 + b"behind it"


def test_output_that_is_dropped_was_accepted() -> None:
    chat, wire = connected()
    chat.push(b"sent")
    wire.fill()
    chat.push(b"dropped")
    chat.push_with_producer([b"dropped too"])
    chat.discard_buffers()
    chat.push(b"later")
    assert chat.traffic()["messages_out"] == 4
    wire.lose()
    end = chat.traffic()
    assert (end["messages_out"], end["bytes_out"], end["queued_output"]) == (4, 4, 0)


def test_a_message_that_is_too_long_is_none() -> None:
    chat, _ = connected(too_long=lambda chat: None)
    chat.max_message_length = 3
    chat.dataReceived(b"too long\nok\nagain too long\nyes\n")
    assert chat.traffic()["messages_in"] == 2 == chat.events.count(("found",))


def test_a_look_in_the_middle_of_a_chunk_is_exact_and_costs_nothing() -> None:
    seen: list[tuple[str, int]] = []

    def look(what: str) -> Callable[[Chat], None]:
        return lambda chat: seen.append((what, chat.traffic()["messages_in"]))

    chat, _ = connected(found=look("found"), collect=look("collect"))
    chat.dataReceived(b"a\n\nb\n")
    assert seen == [("collect", 0), ("found", 1), ("found", 2), ("collect", 2), ("found", 3)]


# -- As many messages in as calls of found_terminator(), whatever the handler does ------------

DOES = st.sampled_from(["nothing", "raise", "pause", "look", "nest", "terminator", "discard"])
TERMINATORS: list[Terminator] = [b"\n", b"\r\n", 3, (b"a", b"\n"), b"ab", 1]


class Restless(Chat):
    """Does one thing after another in its callbacks."""

    def __init__(self, terminator: Terminator, does: list[tuple[str, str]]) -> None:
        super().__init__(terminator, found=self.at_found, collect=self.at_collect)
        self.max_message_length = 7
        self.left = {where: [what for at, what in does if at == where] for where in ("f", "c")}
        self.found = 0

    def handle_error(self) -> None:
        pass

    def handle_message_too_long(self) -> None:
        pass

    def at_found(self, _: Any) -> None:
        self.found += 1
        assert self.traffic()["messages_in"] == self.found
        self.act("f")

    def at_collect(self, _: Any) -> None:
        assert self.traffic()["messages_in"] == self.found
        self.act("c")

    def act(self, where: str) -> None:
        what = self.left[where].pop() if self.left[where] else "nothing"
        if what == "raise":
            raise ZeroDivisionError
        if what == "pause":
            self.pauseProducing()
        elif what == "look":
            self.ac_in_buffer  # noqa: B018
        elif what == "nest":
            self._framer.deliver(self)
        elif what == "terminator":
            self.set_terminator(TERMINATORS[len(self.left[where]) % len(TERMINATORS)])
        elif what == "discard":
            self.discard_buffers()


@given(
    st.sampled_from(TERMINATORS),
    st.text("aab\r\n\nc", max_size=60).map(str.encode),
    st.lists(st.integers(0, 60), max_size=12),
    st.lists(st.tuples(st.sampled_from("fc"), DOES), max_size=14),
)
def test_messages_in_equals_the_calls_of_found_terminator(
    terminator: Terminator, stream: bytes, places: list[int], does: list[tuple[str, str]]
) -> None:
    chat = Restless(terminator, does)
    Wire().connect(chat)
    for chunk in cuts(stream, places):
        chat.dataReceived(chunk)
        while chat.paused_because:
            chat.resumeProducing()
        assert chat.traffic()["messages_in"] == chat.found == chat.events.count(("found",))
    assert chat.traffic()["bytes_in"] == len(stream)


# -- A producer that never gives anything ----------------------------------------------------------


class Filter:
    """A pull producer that writes nothing so many times, then something."""

    def __init__(self, chat: AsyncChat, empty: int) -> None:
        self.chat = chat
        self.empty = empty
        self.asked = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        if self.asked <= self.empty:
            self.chat.write(b"")
        else:
            self.chat.write(b"something")
            self.chat.unregisterProducer()

    def stopProducing(self) -> None:
        pass


def test_a_pull_producer_that_writes_nothing_is_asked_less_often_and_told_of_once(
    warnings: list[str],
) -> None:
    chat, wire = connected()
    producer = Filter(chat, 2500)
    chat.registerProducer(producer, False)
    assert producer.asked == 1000
    chat.clock.advance(0.1)
    assert (producer.asked, wire.value()) == (2000, b"")
    chat.clock.advance(0.1)
    assert (producer.asked, wire.value()) == (2501, b"something")
    assert warnings == [
        "Chat: Filter writes nothing, however often it is asked; it will be asked less often"
    ]


def test_a_filter_that_often_writes_nothing_is_asked_at_once(warnings: list[str]) -> None:
    chat, wire = connected()
    chat.registerProducer(Filter(chat, 900), False)
    chat.registerProducer(Filter(chat, 900), False)
    assert (wire.value(), warnings) == (b"something" * 2, [])


def test_a_pull_producer_that_does_not_write_at_all_is_asked_once() -> None:
    class Silent(Filter):
        def resumeProducing(self) -> None:
            self.asked += 1

    chat, wire = connected()
    producer = Silent(chat, 0)
    chat.registerProducer(producer, False)
    wire.fill()
    wire.empty()
    chat.push(b"behind it")
    assert (producer.asked, chat.clock.getDelayedCalls()) == (1, [])
    chat.write(b"late")
    assert (producer.asked, wire.value()) == (2, b"late")


def test_a_producer_that_writes_nothing_later_and_later_does_not_exhaust_the_stack(
    warnings: list[str],
) -> None:
    class Later(Filter):
        def resumeProducing(self) -> None:
            if self.asked <= self.empty:
                chat.clock.callLater(0, super().resumeProducing)

    chat, wire = connected()
    producer = Later(chat, 2500)
    chat.registerProducer(producer, False)
    while chat.clock.getDelayedCalls():
        chat.clock.advance(0.1)
    assert (producer.asked, wire.value(), len(warnings)) == (2501, b"something", 1)


# -- A handler that never said where its messages end -------------------------------------------


@pytest.fixture
def warnings() -> Any:
    said: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_level") is LogLevel.warn:
            said.append(formatEvent(event))

    observer = cast(ILogObserver, observe)  # which mypy sees in classes only
    globalLogPublisher.addObserver(observer)
    yield said
    globalLogPublisher.removeObserver(observer)


def test_a_class_that_never_set_a_terminator_is_told_once(warnings: list[str]) -> None:
    class Forgetful(AsyncChat):
        def collect_incoming_data(self, data: bytes) -> None:
            pass

    class Heir(Forgetful):
        pass

    for kind in (Forgetful, Forgetful, Heir):
        chat = kind()
        Wire().connect(chat)
        assert len(warnings) == (0 if kind is Forgetful and not warnings else 1)
        chat.dataReceived(b"one\n")
        chat.dataReceived(b"two\n")
    assert warnings == [
        f"{name} never called set_terminator(): everything is collected, "
        "found_terminator() is never called"
        for name in ("Forgetful", "Heir")
    ]


def test_whoever_collects_everything_on_purpose_is_told_nothing(warnings: list[str]) -> None:
    class Sink(AsyncChat):
        def get_terminator(self) -> Terminator:
            return None

        def collect_incoming_data(self, data: bytes) -> None:
            pass

    class Paused(AsyncChat):
        def handle_connect(self) -> None:
            self.pauseProducing()

        def collect_incoming_data(self, data: bytes) -> None:
            pass

    connected(None)[0].dataReceived(b"one\n")
    sink = Sink()
    Wire().connect(sink)
    sink.dataReceived(b"one\n")
    paused = Paused()
    Wire().connect(paused)
    paused.dataReceived(b"one\n")
    paused.set_terminator(None)
    paused.resumeProducing()
    assert warnings == []
