"""AsyncChat speaks the vocabulary of asynchat over an in-memory transport."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Chat, Wire, connected, cuts
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from txasynchat import AsyncChat, ChatClosed, simple_producer
from txasynchat.echo import EchoHandler


def test_it_provides_twisteds_interfaces() -> None:
    for interface in (IProtocol, IPushProducer, IConsumer, IHalfCloseableProtocol):
        assert verifyObject(interface, AsyncChat())


def test_it_is_made_by_a_plain_factory() -> None:
    chat = Factory.forProtocol(EchoHandler).buildProtocol(None)
    assert isinstance(chat, EchoHandler)


def test_messages_are_delivered_and_answered() -> None:
    chat, wire = connected(found=lambda chat: chat.push(chat.messages[-1].upper() + b"\n"))
    chat.dataReceived(b"one\ntwo\nth")
    chat.dataReceived(b"ree\n")
    assert wire.value() == b"ONE\nTWO\nTHREE\n"
    assert chat.events[0] == ("connect",)


def test_a_handler_need_not_call_the_base_init() -> None:
    class Forgetful(AsyncChat):
        def __init__(self, greeting: bytes) -> None:
            self.greeting = greeting

        def handle_connect(self) -> None:
            self.push(self.greeting)

    assert Wire().connect(Forgetful(b"hi")).value() == b"hi"


def test_overriding_connection_made_needs_no_super_call() -> None:
    class Twistedly(AsyncChat):
        def connectionMade(self) -> None:
            self.set_terminator(b"\n")
            self.push(b"ready")

    assert Wire().connect(Twistedly()).value() == b"ready"


@pytest.mark.parametrize("missing", ["collect_incoming_data", "found_terminator"])
def test_a_handler_without_a_needed_method_is_told_which(
    missing: str, logged_failures: Any
) -> None:
    class Bare(AsyncChat):
        pass

    other = {"collect_incoming_data", "found_terminator"} - {missing}
    setattr(Bare, other.pop(), lambda self, *data: None)
    chat = Bare()
    Wire().connect(chat)
    chat.set_terminator(b"\n")
    chat.dataReceived(b"x\n")
    assert chat.close_reason == "error"
    assert f"Bare must define {missing}()" in logged_failures()[0]


@given(st.binary(max_size=40), st.lists(st.integers(0, 60), max_size=6))
def test_the_echo_example_answers_alike_however_its_input_is_cut(
    body: bytes, places: list[int]
) -> None:
    chat = EchoHandler()
    wire = Wire().connect(chat)
    for chunk in cuts(b"ECHO %d\n" % len(body) + body + b"more", places):
        chat.dataReceived(chunk)
    assert wire.value() == body
    assert wire.disconnecting
    wire.lose()


@pytest.mark.parametrize("command", [b"ECHO", b"ECHO x", b"ECHO -1", b"HELO 5", b"", b"ECHO 1 2"])
def test_the_echo_example_refuses_what_is_no_command(command: bytes) -> None:
    chat = EchoHandler()
    wire = Wire().connect(chat)
    chat.dataReceived(command + b"\n")
    assert wire.value() == b"error: expected: ECHO length\n"
    assert wire.disconnecting
    wire.lose()


def test_the_echo_example_refuses_a_body_it_would_have_to_keep() -> None:
    chat = EchoHandler()
    wire = Wire().connect(chat)
    chat.dataReceived(b"ECHO 99999999999\n")
    assert b"at most" in wire.value()
    wire.lose()


def test_incoming_data_can_be_collected_and_taken() -> None:
    chat = EchoHandler()
    chat._collect_incoming_data(b"a")
    chat._collect_incoming_data(b"b")
    assert (chat._get_data(), chat._get_data()) == (b"ab", b"")


def test_the_terminator_can_be_read_and_written_as_an_attribute() -> None:
    chat, _ = connected(5)
    chat.dataReceived(b"ab")
    assert (chat.terminator, chat.get_terminator()) == (3, 3)
    chat.terminator = b";"
    assert chat.get_terminator() == b";"


def test_what_matched_is_there_for_found_terminator() -> None:
    seen: list[Any] = []
    chat, _ = connected(re.compile(rb"[;,]"), found=lambda chat: seen.append(chat.matched.group()))
    chat.dataReceived(b"a;b,")
    assert seen == [b";", b","]


def test_an_overridden_get_terminator_is_asked() -> None:
    class Alternating(Chat):
        def get_terminator(self) -> bytes:
            return b";" if len(self.messages) % 2 else b","

    chat = Alternating()
    Wire().connect(chat)
    chat.dataReceived(b"a;b,c,d;e,")
    assert chat.messages == [b"a;b", b"c,d", b"e"]


def test_a_get_terminator_on_the_instance_is_asked() -> None:
    chat, _ = connected()
    chat.get_terminator = lambda: b";"  # type: ignore[method-assign]
    chat.dataReceived(b"a\nb;")
    assert chat.messages == [b"a\nb"]


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_count_that_a_method_repeats_is_one_count_however_it_is_cut(cut: int) -> None:
    class Fives(Chat):
        def get_terminator(self) -> int:
            return 5

    chat = Fives(5)
    Wire().connect(chat)
    chat.dataReceived(b"abcdefg"[:cut])
    chat.dataReceived(b"abcdefg"[cut:])
    assert chat.messages == [b"abcde"]
    assert chat.events[-1] == ("data", b"fg")


def test_a_callback_replaced_on_the_instance_in_the_middle_of_a_chunk_is_used() -> None:
    chat, _ = connected()
    seen: list[str] = []

    def second() -> None:
        seen.append("second")

    def first() -> None:
        seen.append("first")
        chat.found_terminator = second  # type: ignore[method-assign]

    chat.found_terminator = first  # type: ignore[method-assign]
    chat.dataReceived(b"\n\n\n")
    assert seen == ["first", "second", "second"]


def test_input_can_be_read_and_replaced_in_a_callback() -> None:
    def found(chat: Chat) -> None:
        if chat.ac_in_buffer == b"secret\n":
            chat.ac_in_buffer = b""

    chat, _ = connected(found=found)
    chat.dataReceived(b"STARTTLS\nsecret\n")
    assert chat.messages == [b"STARTTLS"]


def test_no_more_than_ac_in_buffer_size_is_delivered_at_once() -> None:
    pieces: list[int] = []
    chat, _ = connected(None)
    chat.ac_in_buffer_size = 10
    chat.collect_incoming_data = lambda data: pieces.append(len(data))  # type: ignore[method-assign]
    chat.dataReceived(b"x" * 25)
    assert pieces == [10, 10, 5]


def test_no_more_than_ac_out_buffer_size_is_written_at_once() -> None:
    chat, wire = connected()
    chat.ac_out_buffer_size = 4
    written: list[bytes] = []
    wire.write = written.append  # type: ignore[method-assign]
    chat.push(b"abcdefghij")
    assert written == [b"abcd", b"efgh", b"ij"]


def test_replies_to_one_chunk_are_written_as_one() -> None:
    chat, wire = connected(found=lambda chat: chat.push(b"ok\n"))
    written: list[bytes] = []
    wire.write = written.append  # type: ignore[method-assign]
    chat.dataReceived(b"a\nb\nc\n")
    assert written == [b"ok\nok\nok\n"]


def test_a_push_outside_of_delivery_is_written_at_once() -> None:
    chat, wire = connected()
    chat.push(b"now")
    assert wire.value() == b"now"


def test_output_keeps_the_order_of_the_calls() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"1")
    chat.push_with_producer(simple_producer(b"2345", 2))
    chat.push(b"6")
    wire.empty()
    assert wire.value() == b"123456"


def test_a_pushed_bytearray_is_copied() -> None:
    chat, wire = connected()
    wire.fill()
    buffer = bytearray(b"before")
    chat.push(buffer)
    chat.push(memoryview(b" view"))
    buffer[:] = b"after!"
    wire.empty()
    assert wire.value() == b"before view"


def test_an_empty_push_is_legal_and_means_nothing() -> None:
    chat, wire = connected()
    chat.push(b"")
    assert wire.value() == b""
    chat.close_when_done()
    assert wire.disconnecting


def test_pushing_str_names_the_way_out() -> None:
    chat, wire = connected()
    with pytest.raises(TypeError, match=r"encode it, or set use_encoding"):
        chat.push("text")
    with pytest.raises(TypeError, match="not bytes"):
        chat.push(5)  # type: ignore[arg-type]
    assert wire.value() == b""


def test_str_is_encoded_where_the_class_says_so() -> None:
    chat, wire = connected()
    chat.use_encoding, chat.encoding = True, "utf-8"
    chat.set_terminator("\xfc")
    chat.push("gr\xfcn")
    chat.push_with_producer(iter(["\xfc"]))
    assert wire.value() == "gr\xfcn\xfc".encode()
    assert chat.get_terminator() == "\xfc".encode()


def test_a_str_terminator_names_the_way_out() -> None:
    chat, _ = connected()
    with pytest.raises(TypeError, match=r"encode it, or set use_encoding"):
        chat.set_terminator("x")
    with pytest.raises(ValueError, match="not -1"):
        chat.set_terminator(-1)
    assert chat.get_terminator() == b"\n"


def test_what_is_pushed_before_the_connection_is_sent_when_it_is_there() -> None:
    chat, wire = Chat(), Wire()
    chat.push(b"early ")
    chat.push_with_producer(simple_producer(b"bird"))
    wire.connect(chat)
    assert wire.value() == b"early bird"


def test_discard_buffers_drops_input_and_output() -> None:
    chat, wire = connected(found=lambda chat: chat.discard_buffers())
    wire.fill()
    chat.push(b"never sent")
    chat._collect_incoming_data(b"kept")
    chat.dataReceived(b"one\ntwo\nthree")
    wire.empty()
    assert (chat.messages, wire.value(), chat._get_data()) == ([b"one"], b"", b"")
    chat.push(b"sent")
    chat.dataReceived(b"four\n")
    assert (chat.messages[-1], wire.value()) == (b"four", b"sent")


def test_calls_after_the_close_are_refused_or_harmless() -> None:
    stopped: list[str] = []

    class Producer:
        def more(self) -> bytes:
            raise AssertionError("is never asked")

        def stop(self) -> None:
            stopped.append("stop")

    chat, wire = connected()
    chat.close_when_done()
    for _ in range(2):  # before and after the transport is gone
        with pytest.raises(ChatClosed, match=r"push\(\) after the close of Chat.*handler"):
            chat.push(b"late")
        with pytest.raises(ChatClosed, match="push_with_producer"):
            chat.push_with_producer(Producer())
        chat.close()
        chat.close_when_done()
        chat.set_terminator(b";")
        chat.pauseProducing()
        chat.resumeProducing()
        chat.discard_buffers()
        chat.write(b"late")
        chat.unregisterProducer()
        chat.dataReceived(b"late;")
        if not chat.events.count(("close",)):
            wire.lose()
    assert stopped == ["stop", "stop"]
    assert wire.value() == b""
    assert chat.events == [("connect",), ("close",)]
