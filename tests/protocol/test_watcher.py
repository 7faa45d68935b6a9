"""Who watches a connection is told when it opens, when it ends, and what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from support import Chat, Wire
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.python.failure import Failure

from txasynchat import CloseReason
from txasynchat.watcher import Watcher

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"


class Register:
    """A watcher that writes down what it is told, among the callbacks of the handler."""

    def __init__(self, takes: bool = True, says: str | None = None) -> None:
        self.takes = takes
        self.says = says
        self.told: list[Any] = []

    def opened(self, connection: Any) -> bool:
        self.told.append(("opened", list(connection.events)))
        if self.says is not None:
            connection._abort(CloseReason.LIMIT, self.says)
        return self.takes

    def ended(self, connection: Any) -> None:
        self.told.append(("ended", connection.close_reason, list(connection.events)))

    def failed(self, connection: Any, failure: Failure) -> None:
        self.told.append(("failed", failure.type))

    def limited(self, connection: Any, limit: str, detail: str) -> None:
        self.told.append(("limited", limit, detail))


def watched(register: Register, **does: Any) -> tuple[Chat, Wire]:
    chat = Chat(**does)
    watcher: Watcher = register
    chat._watcher = watcher
    return chat, Wire().connect(chat)


def fault(*_: Any) -> None:
    raise ZeroDivisionError


def test_it_is_asked_before_the_handler_is_told_and_told_after_it() -> None:
    register = Register()
    chat, wire = watched(register)
    wire.lose()
    assert register.told == [
        ("opened", []),
        ("ended", "peer", [("connect",), ("close",)]),
    ]
    assert chat.closed() is not None


def test_the_end_is_told_once_however_often_the_transport_says_so() -> None:
    register = Register()
    _, wire = watched(register)
    wire.lose()
    wire.lose()
    assert len(register.told) == 2


@pytest.mark.parametrize("says", [None, "too many of its kind"])
def test_a_connection_that_is_refused_is_cut_and_no_callback_runs(says: str | None) -> None:
    register = Register(takes=False, says=says)
    chat, wire = watched(register)
    closed: list[CloseReason] = []
    chat.closed().addCallback(closed.append)
    assert (wire.aborted, chat.is_open, closed) == (True, False, [])
    chat.dataReceived(b"one\n")
    wire.lose()
    assert chat.events == []
    assert (chat.close_reason, chat.close_detail) == ("limit", says or "refused")
    assert register.told[-1] == ("ended", "limit", [])
    assert closed == ["limit"]
    assert chat.clock.getDelayedCalls() == []


def test_a_chat_closed_before_it_was_connected_ends_with_its_transport() -> None:
    register = Register()
    chat = Chat()
    chat._watcher = register
    chat.close()
    assert register.told == []
    wire = Wire().connect(chat)
    assert wire.aborted
    wire.lose()
    assert register.told == [("ended", "handler", [])]


@pytest.mark.parametrize("callback", ["connect", "collect", "found"])
def test_a_callback_that_raises_is_counted(callback: str, logged_failures: Any) -> None:
    register = Register()
    chat, _ = watched(register, **{callback: fault})
    chat.dataReceived(b"one\n")
    assert [told for told in register.told if told[0] == "failed"] == [
        ("failed", ZeroDivisionError)
    ]
    assert len(logged_failures()) == 1


def test_errors_in_the_hooks_for_errors_and_for_the_end_are_counted_too(
    logged_failures: Any,
) -> None:
    register = Register()
    chat, wire = watched(register, found=fault, error=fault, close=fault)
    chat.dataReceived(b"one\n")
    wire.lose()
    assert [told[0] for told in register.told] == ["opened", "failed", "failed", "failed", "ended"]
    assert len(logged_failures()) == 2


def test_a_producer_that_breaks_is_counted(logged_failures: Any) -> None:
    register = Register()
    chat, _ = watched(register)
    chat.push_with_producer(1 / number for number in (1, 0))
    assert register.told[-1][0] == "failed"
    assert len(logged_failures()) == 1


def test_limits_are_told_before_the_handler_is_asked() -> None:
    register = Register()
    chat, _ = watched(register, too_long=lambda chat: register.told.append("asked"))
    chat.max_message_length = 3
    chat.dataReceived(b"12345")
    assert register.told[1:] == [
        ("limited", "max_message_length", "message over 3 bytes"),
        "asked",
    ]


def test_time_limits_are_told_too() -> None:
    register = Register()
    chat = Chat(timeout=lambda chat: register.told.append("asked"))
    chat._watcher = register
    chat.idle_timeout = 10
    wire = Wire().connect(chat)
    chat.clock.advance(10)
    wire.fill()
    chat.push(b"nobody reads this")
    chat.close_when_done()
    chat.clock.advance(15)
    assert register.told[1:3] == [("limited", "idle_timeout", "idle for 10 s"), "asked"]
    kind, limit, detail = register.told[3]
    assert (kind, limit) == ("limited", "close_timeout")
    assert "17 queued bytes not sent" in detail
    assert wire.aborted


# -- Behind a proxy -------------------------------------------------------------------------


def behind_a_proxy(chat: Chat) -> tuple[Any, Wire]:
    factory = HAProxyWrappingFactory(Factory.forProtocol(lambda: chat))
    wrapper: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    wire = Wire()
    wrapper.makeConnection(wire)
    return wrapper, wire


@pytest.mark.parametrize("cut", [8, 20, len(HEADER) - 1, len(HEADER)])
def test_behind_a_proxy_it_is_asked_when_the_peer_is_known(cut: int) -> None:
    peers: list[Any] = []
    register = Register()
    chat = Chat(connect=lambda chat: peers.append(chat.transport.getPeer().host))
    chat._watcher = register
    chat.idle_timeout = 10
    wrapper, _ = behind_a_proxy(chat)
    assert (register.told, chat.is_open, chat.clock.getDelayedCalls()) == ([], False, [])
    stream = HEADER + b"one\n"
    wrapper.dataReceived(stream[:cut])
    wrapper.dataReceived(stream[cut:])
    assert (peers, register.told) == (["192.0.2.7"], [("opened", [])])
    assert chat.messages == [b"one"]
    assert len(chat.clock.getDelayedCalls()) == 1


def test_a_connection_that_ends_before_its_header_came_has_no_callback() -> None:
    register = Register()
    chat = Chat()
    chat._watcher = register
    wrapper, _ = behind_a_proxy(chat)
    wrapper.dataReceived(HEADER[:9])
    wrapper.connectionLost(Failure(ConnectionError()))
    assert (chat.events, register.told) == ([], [("ended", "peer", [])])


@pytest.mark.parametrize("how", ["close", "begin_drain"])
def test_a_connection_that_is_closed_before_its_header_came_never_opens(how: str) -> None:
    register = Register()
    chat = Chat()
    chat._watcher = register
    wrapper, wire = behind_a_proxy(chat)
    getattr(chat, how)()
    assert wire.disconnecting
    wrapper.dataReceived(HEADER + b"one\n")
    wrapper.connectionLost(Failure(ConnectionError()))
    assert chat.events == []
    assert [told[0] for told in register.told] == ["ended"]
    assert chat.clock.getDelayedCalls() == []


def test_a_refusal_behind_a_proxy_delivers_nothing() -> None:
    register = Register(takes=False)
    chat = Chat()
    chat._watcher = register
    wrapper, wire = behind_a_proxy(chat)
    wrapper.dataReceived(HEADER + b"one\n")
    assert (wire.aborted, chat.events) == (True, [])
