"""A plain connection is made secure: nothing of before gets behind that, and nothing is lost.

Over real sockets, with real clients: tests/reactor/test_start_tls_over_sockets.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from support import Chat, Wire, connected, cuts
from twisted.internet.defer import Deferred
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from txasynchat import AsyncChat, ChatClosed, PlaintextAfterStartTLS

OPTIONS = CertificateOptions()


class Register:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def opened(self, connection: Any) -> bool:
        return True

    def ended(self, connection: Any) -> None:
        self.told.append("ended")

    def failed(self, connection: Any, failure: Failure) -> None:
        self.told.append("failed")

    def limited(self, connection: Any, limit: str, detail: str) -> None:
        self.told.append(limit)


class TLSWire(Wire):
    """A transport whose startTLS() is only written down: with what was sent before it."""

    _tlsClientDefault = False
    plain: bytes | None = None
    error: Exception | None = None

    def startTLS(self, options: Any) -> None:
        assert self.producer is None, "Twisted would register it again"
        if self.error is not None:
            raise self.error
        self.plain = self.value()
        self.clear()

    def clear(self) -> None:
        super().clear()  # type: ignore[no-untyped-call]


def upgrading(**does: Any) -> tuple[Chat, TLSWire]:
    chat, wire = Chat(b"\r\n", **does), TLSWire()
    wire.connect(chat)
    return chat, wire


def outcome_of(deferred: Deferred[None]) -> list[Any]:
    """What it fires with: None, or the error; once it has."""
    outcomes: list[Any] = []
    deferred.addCallbacks(outcomes.append, lambda failure: outcomes.append(failure.value))
    return outcomes


def start(chat: Chat) -> None:
    if chat.messages == [b"STARTTLS"]:
        chat.push(b"220 go ahead\r\n")
        chat.start_tls(OPTIONS)
        chat.push(b"secret")


def test_what_was_pushed_before_goes_plain_and_what_is_pushed_after_goes_encrypted() -> None:
    chat, wire = upgrading(found=start)
    chat.dataReceived(b"STARTTLS\r\n")
    assert (wire.plain, wire.value()) == (b"220 go ahead\r\n", b"secret")
    assert wire.is_reading, "a handshake needs input"
    assert chat.paused_because == ("starting TLS",)
    chat.handshakeCompleted()
    chat.dataReceived(b"one\r\n")
    assert chat.messages == [b"STARTTLS", b"one"]
    assert chat.traffic()["messages_out"] == 2


def test_it_waits_until_the_transport_has_taken_what_was_pushed_before() -> None:
    chat, wire = upgrading()
    wire.fill()
    chat.push(b"before ")
    chat.push_with_producer([b"a producer ", b"of pieces"])
    outcomes = outcome_of(chat.start_tls(OPTIONS))
    chat.push(b"after")
    assert (wire.plain, wire.is_reading) == (None, False)
    wire.empty()
    assert (wire.plain, wire.value(), outcomes) == (b"before a producer of pieces", b"after", [])
    chat.handshakeCompleted()
    assert outcomes == [None]


def test_a_producer_that_takes_its_time_is_waited_for() -> None:
    piece: Deferred[bytes] = Deferred()
    chat, wire = upgrading()

    class Slow:
        def more(self) -> Any:
            return b"" if piece.called else piece

    chat.push_with_producer(Slow())
    chat.start_tls(OPTIONS)
    assert wire.plain is None
    piece.callback(b"piece")
    assert wire.plain == b"piece"


def test_output_that_fills_the_transport_does_not_stop_what_comes_behind() -> None:
    chat, wire = upgrading()
    write = wire.io.write

    def fills(data: bytes) -> None:
        write(data)
        wire.fill()

    wire.write = fills  # type: ignore[method-assign]
    chat.push(b"before")
    wire.empty()
    chat.push(b"x")  # and the transport is full again
    chat.start_tls(OPTIONS)
    del wire.write
    wire.empty()
    chat.push(b"after")
    assert (wire.plain, wire.value()) == (b"beforex", b"after")


def test_a_wrapper_that_does_not_pass_the_handshake_on_is_served_with_the_first_data() -> None:
    chat, _ = upgrading()
    outcomes = outcome_of(chat.start_tls(OPTIONS))
    chat.dataReceived(b"one\r\n")
    assert (outcomes, chat.messages) == ([None], [b"one"])


def test_a_handler_may_wait_for_it() -> None:
    steps: list[str] = []

    class Waits(Chat):
        async def found_terminator(self) -> None:
            super().found_terminator()
            await self.start_tls(OPTIONS)
            steps.append("secure")
            self.push(b"hello")

    chat, wire = Waits(), TLSWire()
    wire.connect(chat)
    chat.dataReceived(b"STARTTLS\r\n")
    assert chat.paused_because == ("handler busy", "starting TLS")
    assert (steps, wire.is_reading) == ([], True)
    chat.handshakeCompleted()
    assert (steps, wire.value()) == (["secure"], b"hello")
    assert not chat.paused_because


# -- Plaintext behind the command -----------------------------------------------------------------


def test_what_waits_behind_the_command_is_never_delivered_at_any_split(
    logged_failures: Any,
) -> None:
    stream = b"STARTTLS\r\nEVIL\r\n"
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            chat, wire = upgrading(found=start)
            for chunk in cuts(stream, [first, second]):
                if wire.plain is None:  # else it is for TLS
                    chat.dataReceived(chunk)
            assert chat.messages == [b"STARTTLS"]
            assert chat.events[-1] == ("found",)
            assert wire.aborted == (10 not in (first, second))
            wire.lose()
    assert "is cut" in logged_failures()[0]


@pytest.mark.parametrize("evil", [b"EVIL\r\n", b"EVIL", b"\r", b"\r\n"])
def test_the_connection_is_cut_and_that_is_told_once(evil: bytes, logged_failures: Any) -> None:
    outcomes: list[Any] = []
    chat, wire = upgrading(
        found=lambda chat: outcomes.append(outcome_of(chat.start_tls(OPTIONS))),
    )
    register = Register()
    chat._watcher = register
    chat.dataReceived(b"STARTTLS\r\n" + evil)
    assert (wire.aborted, wire.plain, chat.messages) == (True, None, [b"STARTTLS"])
    ((error,),) = outcomes
    assert isinstance(error, PlaintextAfterStartTLS)
    wire.lose()
    assert chat.close_reason == "error"
    assert chat.close_detail == (
        f"PlaintextAfterStartTLS: {len(evil)} bytes of plaintext wait behind the command "
        "that starts TLS"
    )
    assert register.told == ["failed", "ended"]
    assert ("error",) not in chat.events
    (logged,) = logged_failures()
    assert "is cut" in logged
    assert "EVIL" not in logged


def test_a_handler_that_waits_for_it_is_ended_without_another_word(logged_failures: Any) -> None:
    class Waits(Chat):
        async def found_terminator(self) -> None:
            super().found_terminator()
            await self.start_tls(OPTIONS)
            raise AssertionError("it is not secure")

    chat, wire = Waits(), TLSWire()
    wire.connect(chat)
    chat.dataReceived(b"STARTTLS\nEVIL\n")
    assert wire.aborted
    wire.lose()
    assert len(logged_failures()) == 1


def test_what_comes_while_the_output_is_sent_is_refused_too(logged_failures: Any) -> None:
    chat, wire = upgrading()
    wire.fill()
    chat.push(b"before")
    outcomes = outcome_of(chat.start_tls(OPTIONS))
    chat.dataReceived(b"EVIL\r\n")
    wire.empty()
    assert isinstance(outcomes[0], PlaintextAfterStartTLS)
    assert (wire.aborted, wire.plain, chat.messages) == (True, None, [])
    assert len(logged_failures()) == 1


def test_a_message_that_was_begun_is_plaintext_as_well(logged_failures: Any) -> None:
    chat, wire = upgrading()
    chat.dataReceived(b"EVI")
    outcomes = outcome_of(chat.start_tls(OPTIONS))
    assert isinstance(outcomes[0], PlaintextAfterStartTLS)
    assert "in the middle of a message" in chat.close_detail
    assert wire.aborted
    wire.lose()
    assert len(logged_failures()) == 1


def test_a_client_that_has_said_hello_already_can_be_carried_over() -> None:
    class Handed(TLSWire):
        handed: list[bytes]

        def startTLS(self, options: Any) -> None:
            super().startTLS(options)
            self.handed = []
            self.protocol = self  # type: ignore[assignment]

        def dataReceived(self, data: bytes) -> None:
            self.handed.append(data)

    chat, wire = Chat(4, found=lambda chat: chat.start_tls(OPTIONS, carry_over=True)), Handed()
    wire.connect(chat)
    chat.dataReceived(b"HEADhello, ")
    assert (wire.handed, chat.messages, chat.ac_in_buffer) == ([b"hello, "], [b"HEAD"], b"")


def test_pieces_that_were_delivered_cannot_be_carried_over(logged_failures: Any) -> None:
    chat, wire = upgrading()
    chat.dataReceived(b"EVI")
    outcomes = outcome_of(chat.start_tls(OPTIONS, carry_over=True))
    assert isinstance(outcomes[0], PlaintextAfterStartTLS)
    assert wire.aborted
    assert len(logged_failures()) == 1


# -- What ends it -------------------------------------------------------------------------------


@pytest.mark.parametrize("switched", [True, False])
def test_it_fails_when_the_connection_ends_before(switched: bool) -> None:
    chat, wire = upgrading()
    if not switched:
        wire.fill()
        chat.push(b"x")
    outcomes = outcome_of(chat.start_tls(OPTIONS))
    assert (wire.plain is not None) == switched
    wire.lose(OSError("unknown authority"))
    assert isinstance(outcomes[0], ChatClosed)
    assert "unknown authority" in str(outcomes[0])


def test_a_failure_that_nobody_waits_for_is_no_error() -> None:
    chat, wire = upgrading()
    chat.start_tls(OPTIONS)
    wire.lose()
    del chat, wire  # the fixture looks for unhandled errors


def test_a_close_behind_it_sends_what_was_pushed_and_the_handshake_decides_the_rest() -> None:
    chat, wire = upgrading()
    outcomes = outcome_of(chat.start_tls(OPTIONS))
    chat.push(b"bye")
    chat.close_when_done()
    assert (wire.plain, wire.value(), wire.disconnecting) == (b"", b"bye", True)
    wire.lose()
    assert isinstance(outcomes[0], ChatClosed)


@pytest.mark.parametrize("fails", [True, False])
def test_a_close_with_nothing_behind_it_begins_no_tls_and_drops_no_answer(
    fails: bool, logged_failures: Any
) -> None:
    def change_over(chat: Chat) -> None:
        chat.push(b"go ahead")
        chat.start_tls(OPTIONS)
        if fails:
            raise ValueError("no more")
        chat.close_when_done()

    chat, wire = upgrading(found=change_over)
    chat.dataReceived(b"STARTTLS\r\n")
    assert (wire.value(), wire.plain, wire.disconnecting) == (b"go ahead", None, True)
    assert chat.close_reason == ("error" if fails else "handler")
    wire.lose()
    assert len(logged_failures()) == fails


def test_the_end_of_the_service_waits_for_the_handshake() -> None:
    chat, wire = upgrading()
    chat.start_tls(OPTIONS)
    chat.begin_drain()
    assert chat.is_open
    chat.handshakeCompleted()
    assert (chat.close_reason, wire.disconnecting) == ("drain", True)


@pytest.mark.parametrize("waits", [True, False])
def test_a_peer_that_never_shakes_hands_is_idle(waits: bool) -> None:
    chat, wire = upgrading(found=lambda chat: chat.start_tls(OPTIONS) if waits else start(chat))
    chat.idle_timeout = 10
    chat.dataReceived(b"STARTTLS\r\n")
    chat.clock.advance(10)
    assert ("timeout",) in chat.events
    assert wire.disconnecting


def test_a_peer_that_has_finished_sending_cannot_shake_hands() -> None:
    chat, wire = upgrading(found=start)
    wire.fill()
    chat.push(b"x")
    chat.dataReceived(b"STARTTLS\r\n")
    chat.readConnectionLost()
    wire.empty()
    assert (wire.plain, chat.close_reason, wire.disconnecting) == (None, "peer", True)


def test_discard_buffers_does_not_lose_it() -> None:
    chat, wire = upgrading()
    wire.fill()
    chat.push(b"dropped")
    chat.start_tls(OPTIONS)
    chat.discard_buffers()
    chat.push(b"secret")
    wire.empty()
    assert (wire.plain, wire.value()) == (b"", b"secret")
    assert chat.traffic()["messages_out"] == 2


def test_a_transport_whose_start_fails_is_cut(logged_failures: Any) -> None:
    chat, wire = upgrading()
    wire.error = OSError("no key")
    outcomes = outcome_of(chat.start_tls(OPTIONS))
    assert (str(outcomes[0]), wire.aborted, wire.value()) == ("no key", True, b"")
    assert (chat.close_reason, chat.close_detail) == ("error", "OSError: no key")
    assert len(logged_failures()) == 1


# -- What can't be made secure -------------------------------------------------------------------


def test_a_transport_without_it_is_named() -> None:
    chat, _ = connected()
    with pytest.raises(TypeError, match=r"Wire, which has no startTLS"):
        chat.start_tls(OPTIONS)
    assert (chat.is_open, chat.paused_because) == (True, ())


def test_tls_over_tls_is_refused() -> None:
    chat = Chat()
    factory = TLSMemoryBIOFactory(CertificateOptions(), False, None)  # type: ignore[arg-type]
    secure: Any = factory.protocol(factory, chat)
    secure.makeConnection(TLSWire())
    with pytest.raises(RuntimeError, match="secure already"):
        chat.start_tls(OPTIONS)
    secure.loseConnection()


def test_it_is_started_once() -> None:
    chat, _ = upgrading()
    chat.start_tls(OPTIONS)
    with pytest.raises(RuntimeError, match="called already"):
        chat.start_tls(OPTIONS)


def test_it_needs_a_connection() -> None:
    with pytest.raises(RuntimeError, match="before the connection"):
        AsyncChat().start_tls(OPTIONS)
    chat, _ = upgrading()
    chat.close()
    with pytest.raises(ChatClosed, match="start_tls"):
        chat.start_tls(OPTIONS)


@pytest.mark.parametrize("options", [None, "cert.pem", optionsForClientTLS("example.org")])
def test_options_that_do_not_fit_are_refused_before_anything_is_lost(options: Any) -> None:
    chat, _ = upgrading()
    with pytest.raises(TypeError, match="for a TLS server"):
        chat.start_tls(options)
    assert (chat.is_open, chat.paused_because) == (True, ())
