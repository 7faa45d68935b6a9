"""The register of a service: who is let in, who is told to go, what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import Chat, Wire
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from txasynchat.connections import Connections
from txasynchat.factory import Refusal
from txasynchat.legacy.serving import Connection, LegacyFactory
from txasynchat.limits import Limits


class Room:
    """A register, its clock, and the connections that came to it."""

    def __init__(self, make: Callable[[], Any] = Chat, **limits: Any) -> None:
        self.clock = Clock()
        self.make = make
        factory = Factory.forProtocol(self.build)
        self.connections = Connections(factory, Limits(**limits), "Chat", self.clock)
        self.wires: list[Wire] = []

    def build(self) -> Any:
        chat = self.make()
        chat.callLater = self.clock.callLater
        return chat

    def enter(self, host: str = "192.0.2.1", port: int = 1) -> Chat | None:
        kind: Any = IPv6Address if ":" in host else IPv4Address
        return self.connect(kind("TCP", host, port))

    def connect(self, address: Any) -> Chat | None:
        made = self.connections.buildProtocol(address)
        wire = Wire()
        wire.peerAddr = address
        self.wires.append(wire)
        wire.connect(made)
        return made if isinstance(made, Chat) else None

    def come(self, host: str = "192.0.2.1") -> tuple[Chat, Wire]:
        chat = self.enter(host)
        assert chat is not None
        return chat, self.wires[-1]

    @property
    def numbers(self) -> dict[str, Any]:
        numbers = self.connections.numbers()["handlers"]["Chat"]
        assert isinstance(numbers, dict)
        return numbers


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    seen: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "txasynchat.connections.Connections":
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


def named(events: list[LogEvent], name: str) -> list[LogEvent]:
    return [event for event in events if event.get("event") == name]


def met(counts: dict[str, int]) -> dict[str, int]:
    """Those that are not 0."""
    return {name: count for name, count in counts.items() if count}


# -- Letting in -----------------------------------------------------------------------


def test_a_connection_beyond_the_limit_is_refused_before_anything_is_made() -> None:
    room = Room(max_connections=2)
    assert room.enter() and room.enter()
    assert room.enter() is None
    assert room.wires[-1].disconnecting
    assert len(room.connections) == 2


def test_a_place_is_free_again_when_a_connection_is_gone() -> None:
    room = Room(max_connections=1)
    _, wire = room.come()
    assert room.enter() is None
    wire.lose()
    assert room.enter()


def test_a_refusal_is_logged_with_the_name_of_the_limit(events: list[LogEvent]) -> None:
    room = Room(max_connections=1)
    room.enter()
    room.enter("192.0.2.2", 5)
    (event,) = named(events, "connection refused")
    assert (event["limit"], event["most"]) == ("max_connections", 1)
    assert event["peer"] == "192.0.2.2:5"


def test_one_peer_may_not_take_all_places() -> None:
    room = Room(max_per_peer=2)
    room.come("192.0.2.1"), room.come("192.0.2.1")
    chat, wire = room.come("192.0.2.1")
    assert wire.aborted
    assert chat.events == [], "the handler is told nothing"
    assert chat.close_reason == "limit"
    wire.lose()
    other, other_wire = room.come("192.0.2.2")
    assert other.is_open and not other_wire.aborted


def test_a_peer_that_leaves_may_come_again() -> None:
    room = Room(max_per_peer=1)
    _, wire = room.come()
    wire.lose()
    assert room.come()[0].is_open


def test_all_addresses_of_an_ipv6_network_are_one_peer() -> None:
    room = Room(max_per_peer=1)
    room.come("2001:db8::1")
    chat, _ = room.come("2001:db8::2")
    assert not chat.is_open


def test_peers_without_an_address_are_not_counted() -> None:
    room = Room(max_per_peer=1)
    room.connect(UNIXAddress(None))
    chat = room.connect(UNIXAddress(None))
    assert chat is not None and chat.is_open


def test_a_hundred_connections_of_a_stranger_are_enough_by_default() -> None:
    room = Room()
    chats = [room.enter() for _ in range(101)]
    assert [chat.is_open for chat in chats if chat] == [True] * 100 + [False]


def test_this_machine_may_have_any_number_by_default() -> None:
    room = Room()
    chats = [room.enter("127.0.0.1") for _ in range(101)]
    assert all(chat is not None and chat.is_open for chat in chats)


def test_what_is_no_chat_is_refused_and_logged(logged_failures: Any) -> None:
    connections = Connections(Factory.forProtocol(Protocol), clock=Clock())
    assert isinstance(connections.buildProtocol(None), Refusal)
    assert "no AsyncChat" in logged_failures()[0]
    assert len(connections) == 0


def test_a_chat_in_the_wrapper_of_a_policy_is_found() -> None:
    class Policy(WrappingFactory):
        protocol = ProtocolWrapper

    inner: Any = Factory.forProtocol(Chat)
    policy: Any = Policy(inner)  # type: ignore[no-untyped-call]
    connections = Connections(policy, Limits(idle_timeout=5), clock=Clock())
    wrapper: Any = connections.buildProtocol(None)
    assert wrapper.wrappedProtocol.idle_timeout == 5
    assert len(connections) == 1


def test_a_factory_may_refuse_by_itself() -> None:
    class Closed(Factory):
        def buildProtocol(self, addr: Any) -> None:
            return None

    connections = Connections(Closed(), clock=Clock())
    assert isinstance(connections.buildProtocol(None), Refusal)
    assert len(connections) == 0


def test_the_limits_of_a_connection_are_put_on_the_handler() -> None:
    chat, _ = Room(max_message_length=10, max_queued_output=20, close_timeout=3).come()
    assert (chat.max_message_length, chat.max_queued_output, chat.close_timeout) == (10, 20, 3)


def test_a_transport_that_forgets_its_peer_when_it_is_gone_is_no_error() -> None:
    room = Room()
    _, wire = room.come()
    del wire.peerAddr
    gone = room.connections.all_gone()
    wire.lose()
    assert gone.called
    assert met(room.numbers["connections_ended"]) == {"peer": 1}


# -- The first message ----------------------------------------------------------------


def test_who_sends_no_message_has_to_go(events: list[LogEvent]) -> None:
    room = Room(first_message_timeout=10)
    chat, _ = room.come()
    chat.dataReceived(b"slow")
    room.clock.advance(9)
    assert chat.is_open
    room.clock.advance(1)
    assert (chat.close_reason, chat.close_detail) == ("timeout", "no message within 10 s")
    (event,) = named(events, "limit hit")
    assert event["limit"] == "first_message_timeout"
    assert met(room.numbers["limits_hit"]) == {"first_message_timeout": 1}


def test_who_has_sent_one_may_stay() -> None:
    room = Room(first_message_timeout=10)
    chat, _ = room.come()
    chat.dataReceived(b"hello\n")
    room.clock.advance(1000)
    assert chat.is_open


def test_each_has_the_same_time_from_its_own_beginning() -> None:
    room = Room(first_message_timeout=10)
    first, _ = room.come()
    room.clock.advance(4)
    second, _ = room.come()
    room.clock.advance(6)
    assert (first.is_open, second.is_open) == (False, True)
    room.clock.advance(4)
    assert not second.is_open


def test_where_everything_is_collected_the_first_byte_will_do() -> None:
    room = Room(lambda: Chat(None), first_message_timeout=10)
    silent, _ = room.come()
    sender, _ = room.come()
    sender.dataReceived(b"x")
    room.clock.advance(10)
    assert (silent.is_open, sender.is_open) == (False, True)


def test_a_proxy_that_never_says_for_whom_has_no_more_time(events: list[LogEvent]) -> None:
    room = Room(first_message_timeout=10)
    proxied: Any = HAProxyWrappingFactory(room.connections)
    wire = Wire()
    wire.connect(proxied.buildProtocol(wire.peerAddr))
    wire.protocol.dataReceived(b"PROXY TCP4 192")
    room.clock.advance(10)
    assert wire.aborted
    wire.lose()
    assert len(room.connections) == 0
    assert not named(events, "connection opened")


def test_without_the_limit_nobody_is_asked() -> None:
    room = Room(first_message_timeout=None, idle_timeout=None)
    room.come()
    assert not room.clock.getDelayedCalls()


def test_one_timer_does_for_all() -> None:
    room = Room(first_message_timeout=10, idle_timeout=None)
    for _ in range(5):
        room.come()
    assert len(room.clock.getDelayedCalls()) == 1


def test_nothing_is_left_of_those_that_are_gone() -> None:
    room = Room(first_message_timeout=10)
    _, wire = room.come()
    wire.lose()
    room.connections.stop()
    assert not room.clock.getDelayedCalls()


# -- The end --------------------------------------------------------------------------


def result_of(deferred: Any) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results[0] if results else None


def test_a_drain_of_nobody_is_over_at_once() -> None:
    assert result_of(Room().connections.drain(5)) == {"finished": 0, "cut": 0}


def test_those_between_two_messages_end_at_once() -> None:
    room = Room()
    chat, wire = room.come()
    drained = room.connections.drain(5)
    assert wire.disconnecting
    assert chat.close_reason == "drain"
    wire.lose()
    assert result_of(drained) == {"finished": 1, "cut": 0}
    room.connections.stop()
    assert not room.clock.getDelayedCalls()


def test_a_message_under_way_may_be_finished() -> None:
    room = Room()
    chat, wire = room.come()
    chat.dataReceived(b"hel")
    drained = room.connections.drain(5)
    assert chat.is_open
    chat.dataReceived(b"lo\n")
    assert chat.messages == [b"hello"]
    assert chat.close_reason == "drain"
    wire.lose()
    assert result_of(drained) == {"finished": 1, "cut": 0}


def test_what_is_left_at_the_deadline_is_cut(events: list[LogEvent]) -> None:
    room = Room()
    done, done_wire = room.come()
    slow, slow_wire = room.come()
    slow.dataReceived(b"hel")
    drained = room.connections.drain(5)
    done_wire.lose()
    room.clock.advance(5)
    assert slow_wire.aborted
    assert slow.close_reason == "drain"
    slow_wire.lose()
    assert done.close_reason == "drain"
    assert result_of(drained) == {"finished": 1, "cut": 1}
    (event,) = named(events, "drained")
    assert (event["finished"], event["cut"]) == (1, 1)


def test_a_connection_that_comes_during_a_drain_is_drained() -> None:
    room = Room()
    slow, _ = room.come()
    slow.dataReceived(b"hel")
    room.connections.drain(5)
    late, wire = room.come()
    room.clock.advance(0)
    assert late.close_reason == "drain"
    wire.lose()
    assert late.events == [("connect",), ("close",)]


def test_an_impatient_operator_cuts_the_rest() -> None:
    room = Room()
    slow, wire = room.come()
    slow.dataReceived(b"hel")
    drained = room.connections.drain(5)
    room.connections.cut("again")
    wire.lose()
    assert wire.aborted
    assert result_of(drained) == {"finished": 0, "cut": 1}


# -- Numbers --------------------------------------------------------------------------


def test_what_a_connection_did_is_counted_while_it_lives_and_afterwards() -> None:
    room = Room(lambda: Chat(found=lambda chat: chat.push(b"yes\n")))
    chat, wire = room.come()
    chat.dataReceived(b"one\ntwo\nthr")
    expected = {"bytes_in": 11, "bytes_out": 8, "messages_in": 2, "messages_out": 2}
    assert {name: room.numbers[name] for name in expected} == expected
    assert room.numbers["connections_open"] == 1
    wire.lose()
    assert {name: room.numbers[name] for name in expected} == expected
    assert room.numbers["connections_open"] == 0
    assert room.numbers["connections_ended"]["peer"] == 1


def test_refusals_errors_and_pauses_are_counted(logged_failures: Any) -> None:
    def fail(chat: Chat) -> None:
        raise KeyError("x")

    room = Room(lambda: Chat(found=fail), max_per_peer=1)
    chat, _ = room.come()
    room.come()
    chat.pauseProducing()
    chat.resumeProducing()
    chat.dataReceived(b"x\n")
    assert met(room.numbers["connections_refused"]) == {"max_per_peer": 1}
    assert room.numbers["handler_errors"] == len(logged_failures()) == 1
    assert room.numbers["pauses"] == {"user asked": 1}


def test_each_live_connection_can_be_looked_at() -> None:
    room = Room()
    chat, _ = room.come("192.0.2.9")
    chat.dataReceived(b"hello\n")
    room.clock.advance(3)
    (one,) = room.connections.each()
    assert (one["number"], one["peer"], one["handler"]) == (1, "192.0.2.9:1", "Chat")
    assert (one["seconds"], one["messages_in"]) == (3, 1)


def test_the_end_of_a_connection_is_one_event_with_its_numbers(events: list[LogEvent]) -> None:
    room = Room()
    chat, wire = room.come("2001:db8::1")
    chat.dataReceived(b"hello\n")
    room.clock.advance(2)
    wire.lose()
    (opened,) = named(events, "connection opened")
    (ended,) = named(events, "connection ended")
    assert opened["number"] == ended["number"] == 1
    assert ended["peer"] == "[2001:db8::1]:1"
    assert (ended["reason"], ended["seconds"], ended["messages_in"]) == ("peer", 2, 1)


def test_an_error_of_a_handler_is_an_event_that_names_the_connection(
    events: list[LogEvent], logged_failures: Any
) -> None:
    def fail(chat: Chat) -> None:
        raise KeyError("x")

    chat, _ = Room(lambda: Chat(found=fail)).come()
    chat.dataReceived(b"x\n")
    (event,) = named(events, "handler error")
    assert (event["number"], event["handler"], event["error"]) == (1, "Chat", "KeyError")
    assert "KeyError" in logged_failures()[0]


def test_a_message_that_is_too_long_is_an_event_and_a_count(
    events: list[LogEvent], logged_failures: Any
) -> None:
    room = Room(max_message_length=3)
    chat, _ = room.come()
    chat.dataReceived(b"hello\n")
    (event,) = named(events, "limit hit")
    assert (event["limit"], event["number"]) == ("max_message_length", 1)
    assert "max_message_length" in logged_failures()[0]
    assert met(room.numbers["limits_hit"]) == {"max_message_length": 1}


# -- Bad luck -------------------------------------------------------------------------


def test_an_error_of_a_constructor_refuses_and_is_counted(
    logged_failures: Callable[[], list[str]],
) -> None:
    class Unmade(Chat):
        def __init__(self) -> None:
            raise RuntimeError("not today")

    room = Room(Unmade)
    assert isinstance(room.connections.buildProtocol(None), Refusal)
    (failure,) = logged_failures()
    assert "RuntimeError: not today" in failure
    assert room.numbers["handler_errors"] == 1
    assert len(room.connections) == 0


def test_a_handler_that_is_made_twice_gets_the_first_connection_only(
    logged_failures: Callable[[], list[str]],
) -> None:
    one = Chat()
    room = Room(lambda: one)
    assert room.enter() is one
    assert room.enter() is None
    assert one.is_open
    room.wires[0].lose()
    assert room.enter() is None, "it has had its connection"
    assert len(room.connections) == 0
    assert all("which it had made for another connection" in each for each in logged_failures())


def test_one_whose_wrapper_failed_keeps_its_place_for_a_while_only() -> None:
    room = Room(max_connections=1, first_message_timeout=5)
    never_connected = room.connections.buildProtocol(None)
    assert isinstance(room.connections.buildProtocol(None), Refusal)
    room.clock.advance(5)
    assert room.enter() is not None
    assert never_connected.close_reason == "timeout"


@pytest.mark.parametrize("make", [Chat, lambda: Connection(LegacyFactory(lambda *_: None))])
def test_one_whose_wrapper_failed_does_not_hold_up_a_drain(make: Callable[[], Any]) -> None:
    room = Room(make)
    room.connections.buildProtocol(None)
    told: list[dict[str, int]] = []
    room.connections.drain(30).addCallback(told.append)
    assert told == [{"finished": 0, "cut": 0}]


def test_one_that_is_cut_twice_is_one() -> None:
    room = Room()
    room.come()[0].dataReceived(b"half a message")
    room.come()[0].dataReceived(b"half a message")
    told: list[dict[str, int]] = []
    room.connections.drain(30).addCallback(told.append)
    room.connections.cut("at once")
    room.wires[0].lose()
    room.connections.cut("at once!")
    room.wires[1].lose()
    assert told == [{"finished": 0, "cut": 2}]


def test_one_counts_for_the_class_that_turns_out_to_serve_it() -> None:
    class Late(Chat):
        name = "Server"

        @property
        def handler_name(self) -> str:
            return self.name

    room = Room(Late)
    chat, wire = room.come()
    chat.name = "Channel"  # type: ignore[attr-defined]
    numbers = room.connections.numbers()["handlers"]
    assert numbers["Channel"]["connections_accepted"] == 1
    assert numbers["Channel"]["connections_open"] == 1
    wire.lose()
    numbers = room.connections.numbers()["handlers"]
    assert numbers["Channel"]["connections_accepted"] == 1
    assert numbers["Channel"]["connections_open"] == 0
    assert "Server" not in numbers


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1"])
def test_an_address_in_the_clothes_of_ipv6_is_the_same_peer(host: str) -> None:
    room = Room(max_per_peer=1)
    assert room.enter(host) is not None
    room.enter(f"::ffff:{host}")
    assert room.wires[-1].aborted


@pytest.mark.parametrize(("reads", "counts"), [(True, (1, 0)), (False, (0, 1))])
def test_one_that_does_not_read_its_last_answer_was_cut(
    reads: bool, counts: tuple[int, int]
) -> None:
    room = Room(close_timeout=5)
    chat, wire = room.come()
    wire.fill()
    chat.push(b"x" * 100_000)
    told: list[dict[str, int]] = []
    room.connections.drain(30).addCallback(told.append)
    if reads:
        wire.empty()
    room.clock.advance(5)
    wire.lose()
    assert told == [{"finished": counts[0], "cut": counts[1]}]


def test_what_was_never_met_is_counted_as_0() -> None:
    numbers = Room().numbers
    assert numbers["connections_refused"] == {"max_connections": 0, "max_per_peer": 0}
    assert set(numbers["limits_hit"].values()) == {0}
    assert numbers["connections_open"] == 0
