"""What a trace records, over a transport in memory, and that nobody notices it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Chat, Wire, cuts
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

from txasynchat import AsyncChatFactory, CloseReason
from txasynchat.masks import mask_after
from txasynchat.trace import TracingFactory
from txasynchat.transcript import Record, read_transcript


def never(line: int, what: str, cut: bool) -> None:
    raise AssertionError(f"line {line} {what}")


def records_of(file: Any) -> list[Record]:
    lines = file.getvalue().splitlines() if isinstance(file, (StringIO, BytesIO)) else file
    return list(read_transcript(lines, never))


def events(file: Any) -> list[tuple[str, bytes]]:
    return [(record.event, record.data) for record in records_of(file)]


def traced(chat: Protocol, file: Any, **options: Any) -> tuple[Any, Wire]:
    """The wrapper of a chat and the wire under it."""
    factory = TracingFactory(Factory.forProtocol(lambda: chat), file, **options)
    protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4711))
    wire = Wire()
    wire.protocol = protocol
    protocol.makeConnection(wire)
    return protocol, wire


def upper(chat: Chat) -> None:
    chat.push(chat.messages[-1].upper() + b"\n")


# -- What is recorded -------------------------------------------------------------------


def test_a_conversation_is_recorded_from_its_opening_to_its_end() -> None:
    file = StringIO()
    protocol, wire = traced(Chat(found=upper), file)
    protocol.dataReceived(b"hel")
    protocol.dataReceived(b"lo\n")
    wire.lose()
    assert events(file) == [
        ("open", b""),
        ("in", b"hel"),
        ("in", b"lo\n"),
        ("out", b"HELLO\n"),
        ("close", b""),
    ]


def test_the_opening_says_who_talks_to_whom() -> None:
    file = StringIO()
    traced(Chat(), file)
    (opening,) = records_of(file)
    assert opening.details == {
        "peer": "192.168.1.1:54321",
        "host": "10.0.0.1:12345",
        "handler": "Chat",
        "tls": False,
    }


def test_the_end_says_why() -> None:
    file = StringIO()
    protocol, wire = traced(Chat(found=lambda chat: chat.close_when_done()), file)
    protocol.dataReceived(b"bye\n")
    wire.lose()
    assert [record.event for record in records_of(file)][-2:] == ["lose", "close"]
    details = records_of(file)[-1].details
    assert (details["reason"], details["close_reason"]) == ("ConnectionDone", "handler")


def test_records_have_the_time_of_the_clock() -> None:
    file, clock = StringIO(), Clock()
    protocol, _wire = traced(Chat(), file, clock=clock)
    clock.advance(1.25)
    protocol.dataReceived(b"x")
    assert [record.time for record in records_of(file)] == [0.0, 1.25]


@given(st.binary(min_size=1))
def test_any_bytes_are_recorded_as_they_are(data: bytes) -> None:
    file = BytesIO()
    protocol, _wire = traced(Chat(None), file)
    protocol.dataReceived(data)
    assert events(file)[-1] == ("in", data)


def test_what_ends_one_half_is_recorded() -> None:
    file = StringIO()
    protocol, _wire = traced(Chat(), file)
    protocol.readConnectionLost()
    assert [record.event for record in records_of(file)] == ["open", "eof", "lose"]


def test_a_connection_that_is_cut_is_recorded_as_cut() -> None:
    file = StringIO()
    protocol, wire = traced(Chat(found=lambda chat: chat._abort(CloseReason.LIMIT, "enough")), file)
    protocol.dataReceived(b"\n")
    wire.lose(ConnectionLost())
    assert [record.event for record in records_of(file)][-2:] == ["abort", "close"]
    assert records_of(file)[-1].details["close_detail"] == "enough"


def test_a_sequence_of_writes_is_one_record() -> None:
    file = StringIO()
    protocol, wire = traced(Protocol(), file)
    protocol.writeSequence(iter([b"a", b"b"]))
    assert events(file)[-1] == ("out", b"ab")
    assert wire.value() == b"ab"


def test_what_the_factory_refuses_is_refused_and_not_recorded() -> None:
    file = StringIO()
    refusing = AsyncChatFactory(Chat, max_connections=0)
    refused = TracingFactory(refusing, file).buildProtocol(IPv4Address("TCP", "::", 1))
    refused.makeConnection(Wire())
    assert file.getvalue() == ""


# -- Behind a proxy ---------------------------------------------------------------------

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"


@pytest.mark.parametrize("outside", [True, False])
def test_behind_a_proxy_the_peer_is_the_real_one(outside: bool) -> None:
    file, chat = StringIO(), Chat(found=upper)
    inner: Any = Factory.forProtocol(lambda: chat)
    factory: Any = (
        TracingFactory(HAProxyWrappingFactory(inner), file)
        if outside
        else HAProxyWrappingFactory(TracingFactory(inner, file))
    )
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(Wire())
    protocol.dataReceived(HEADER[:20])
    protocol.dataReceived(HEADER[20:] + b"hi\n")
    assert records_of(file)[0].details["peer"] == "192.0.2.7:4711"
    assert events(file)[1:] == [("in", b"hi\n"), ("out", b"HI\n")]


def test_a_proxy_that_goes_before_it_said_for_whom_leaves_no_record() -> None:
    file = StringIO()
    factory = HAProxyWrappingFactory(TracingFactory(Factory.forProtocol(Chat), file))
    protocol: Any = factory.buildProtocol(IPv4Address("TCP", "::", 1))
    protocol.makeConnection(Wire())
    protocol.dataReceived(HEADER[:20])
    protocol.connectionLost(Failure(ConnectionDone()))
    assert file.getvalue() == ""


def test_it_stands_inside_of_wrappers_that_the_factory_makes() -> None:
    file, chat = StringIO(), Chat(found=upper)
    wrapping: Any = WrappingFactory(Factory.forProtocol(lambda: chat))
    outer = TracingFactory(wrapping, file).buildProtocol(IPv4Address("TCP", "::", 1))
    assert outer.factory is wrapping
    assert outer.wrappedProtocol.wrappedProtocol is chat


# -- Nobody notices ---------------------------------------------------------------------


def test_a_protocol_that_knows_no_half_close_is_not_said_to() -> None:
    protocol, _wire = traced(Protocol(), StringIO())
    assert not IHalfCloseableProtocol.providedBy(protocol)
    assert not IHandshakeListener.providedBy(protocol)


def test_a_chat_is_said_to_know_half_close_and_handshake() -> None:
    protocol, _wire = traced(Chat(), StringIO())
    assert IHalfCloseableProtocol.providedBy(protocol)
    assert IHandshakeListener.providedBy(protocol)


def test_flow_control_passes_through() -> None:
    chat = Chat(found=lambda chat: chat.pauseProducing())
    protocol, wire = traced(chat, StringIO())
    protocol.dataReceived(b"one\ntwo\n")
    assert not wire.is_reading
    chat.resumeProducing()
    assert chat.messages == [b"one", b"two"]
    wire.fill()
    chat.push(b"waits")
    assert wire.value() == b""


def test_what_a_transport_can_not_do_its_wrapper_can_not() -> None:
    protocol, _wire = traced(Chat(), StringIO())
    assert hasattr(protocol, "abortConnection")
    assert not hasattr(protocol, "startTLS")


# -- The file ---------------------------------------------------------------------------


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    TracingFactory(Factory.forProtocol(Chat), path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_can_not_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TracingFactory(Factory.forProtocol(Chat), tmp_path / "missing" / "trace.jsonl")


def test_the_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    for _ in range(2):
        factory = TracingFactory(Factory.forProtocol(Chat), path)
        older, newer = (factory.buildProtocol(IPv4Address("TCP", "::", 1)) for _ in range(2))
        older.makeConnection(Wire())
        newer.makeConnection(Wire())
        older.dataReceived(b'", "connection": 77, "event": "open"')
        factory.close()
    openings = [each for each in records_of(path) if each.event == "open"]
    assert [record.connection for record in openings] == [1, 2, 3, 4]


def test_a_line_that_a_crash_has_cut_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"time": 1.0, "connection": 9, "event": "open", "pe')
    factory = TracingFactory(Factory.forProtocol(Chat), path)
    factory.buildProtocol(IPv4Address("TCP", "::", 1)).makeConnection(Wire())
    factory.close()
    flaws: list[Any] = []
    (opening,) = read_transcript(path, lambda *flaw: flaws.append(flaw))
    assert (opening.line, opening.connection) == (2, 10)
    assert flaws == [(1, "is cut", True)]


def test_a_full_disk_ends_the_trace_and_nothing_else(logged_failures: Callable[[], Any]) -> None:
    chat = Chat(found=upper)
    protocol, wire = traced(chat, "/dev/full")
    protocol.dataReceived(b"one\n")
    protocol.dataReceived(b"two\n")
    assert wire.value() == b"ONE\nTWO\n"
    (logged,) = logged_failures()
    assert "nothing is recorded any more" in logged
    assert os.strerror(errno.ENOSPC) in logged


def test_a_closed_file_ends_the_trace_and_nothing_else(logged_failures: Callable[[], Any]) -> None:
    file = StringIO()
    protocol, wire = traced(Chat(found=upper), file)
    file.close()
    protocol.dataReceived(b"one\n")
    assert wire.value() == b"ONE\n"
    assert len(logged_failures()) == 1


def test_a_closed_trace_records_no_more() -> None:
    file = StringIO()
    protocol, wire = traced(Chat(found=upper), file)
    protocol.factory.close()
    protocol.factory.close()
    protocol.dataReceived(b"one\n")
    assert wire.value() == b"ONE\n"
    assert [record.event for record in records_of(file)] == ["open"]


# -- Masks ------------------------------------------------------------------------------


def test_what_was_masked_is_marked() -> None:
    file = StringIO()
    protocol, _wire = traced(
        Chat(), file, mask=lambda: lambda direction, data: data.replace(b"key", b"***")
    )
    protocol.dataReceived(b"my key\n")
    protocol.dataReceived(b"my dog\n")
    _opening, key, dog = records_of(file)
    assert (key.data, dict(key.details)) == (b"my ***\n", {"masked": True})
    assert (dog.data, dict(dog.details)) == (b"my dog\n", {})


@given(st.lists(st.integers(0, 200), max_size=12))
def test_no_secret_reaches_the_file_however_it_was_cut(places: list[int]) -> None:
    file = StringIO()
    protocol, _wire = traced(Chat(), file, mask=mask_after(b"PASS ", b"AUTH PLAIN "))
    secrets = b"!#$%&;<>?@"  # in no other place
    for piece in cuts(b"USER me\r\npass " + secrets + b"\r\nAUTH plain " + secrets, places):
        protocol.dataReceived(piece)
    recorded = b"".join(data for event, data in events(file) if event == "in")
    assert not set(recorded) & set(secrets)
    assert recorded.startswith(b"USER me\r\npass **********")


def fails(direction: str, data: bytes) -> bytes:
    if data.startswith(b"one"):
        return data
    raise RuntimeError("broken")


def fails_to_begin() -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("mask", "shown"),
    [
        (lambda: fails, [b"one\n", b"****", b"****"]),
        (lambda: lambda direction, data: data[:-1], [b"****", b"****", b"****"]),
        (lambda: lambda direction, data: None, [b"****", b"****", b"****"]),
        (fails_to_begin, [b"****", b"****", b"****"]),
    ],
)
def test_a_mask_that_fails_masks_all_that_follows(
    mask: Any, shown: list[bytes], logged_failures: Callable[[], Any]
) -> None:
    file = StringIO()
    protocol, _wire = traced(Chat(), file, mask=mask)
    for data in (b"one\n", b"two\n", b"one\n"):
        protocol.dataReceived(data)
    assert [data for event, data in events(file) if event == "in"] == shown
    assert len(logged_failures()) == 1
