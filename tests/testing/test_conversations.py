"""A handler is driven in memory: the test is its peer, its transport and its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from typing import Any

import pytest
from testing.seeded_bugs import Lines, OldLines, OldRaw
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, LoopingCall
from twisted.protocols.basic import FileSender
from zope.interface.verify import verifyObject

from txasynchat import (
    AsyncChat,
    AsyncChatFactory,
    LegacyFactory,
    PlaintextAfterStartTLS,
    asyncore,
)
from txasynchat.testing import ChatClock, NeverRests, Wire, connect
from txasynchat.trace import TracingFactory


@pytest.fixture(autouse=True)
def no_channel_is_left() -> Iterator[None]:
    """Fail a test after which channels are left in the map."""
    before = dict(asyncore.socket_map)
    yield
    assert asyncore.socket_map == before


BOTH = pytest.mark.parametrize("handler", [Lines, OldLines, OldRaw])


# -- Who may be connected ----------------------------------------------------------------


class Server(asyncore.dispatcher):
    def handle_accepted(self, sock: Any, addr: Any) -> None:
        OldLines(sock, addr)


@pytest.mark.parametrize(
    "handler",
    [
        Lines,
        lambda: Lines(),
        lambda: AsyncChatFactory(Lines),
        Factory.forProtocol(Lines),
        AsyncChatFactory(Lines),
        TracingFactory(Factory.forProtocol(Lines), StringIO()),
        OldLines,
        lambda sock, addr: OldLines(sock, addr),
        LegacyFactory(OldLines),
        TracingFactory(LegacyFactory(OldLines), StringIO()),
        Server,
    ],
)
def test_whatever_makes_a_handler_can_be_connected(handler: Any) -> None:
    with connect(handler) as talk:
        talk.receive(b"one\n")
        assert talk.sent() == b"ONE\n"
        assert isinstance(talk.handler, (Lines, OldLines))


def test_a_handler_that_is_made_already_can_be_connected() -> None:
    handler = Lines()
    with connect(handler) as talk:
        assert talk.handler is handler


def test_a_server_that_is_made_already_stays_when_its_connection_ends() -> None:
    server = Server()
    for _ in range(2):
        with connect(server) as talk:
            talk.receive(b"one\n")
            assert talk.sent() == b"ONE\n"
    server.close()


@pytest.mark.parametrize("handler", [5, int, "Lines", print])
def test_what_makes_no_handler_is_refused(handler: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        connect(handler)


class Timed(Lines):
    def __init__(self, clock: Any) -> None:
        self.clock = clock


def test_a_handler_with_a_parameter_for_a_clock_is_given_that_of_the_conversation() -> None:
    with connect(Timed) as talk:
        assert talk.handler.clock is talk.clock


@BOTH
def test_the_peer_has_an_address_and_may_be_given_another(handler: Any) -> None:
    peer = UNIXAddress(b"/run/peer")
    with connect(handler, peer=peer) as talk:
        assert talk.wire.getPeer() is peer
        assert talk.wire.getHost().port == 2525


def test_a_legacy_handler_may_set_options_of_its_socket() -> None:
    class Quick(OldLines):
        def __init__(self, sock: Any, addr: Any) -> None:
            super().__init__(sock, addr)
            self.set_reuse_addr()

    with connect(Quick) as talk:
        talk.receive(b"one\n")
        assert talk.sent() == b"ONE\n"


# -- What is said ---------------------------------------------------------------------------


@BOTH
def test_what_is_sent_is_told_once(handler: Any) -> None:
    with connect(handler) as talk:
        talk.receive(b"one\ntw")
        assert talk.sent() == b"ONE\n"
        talk.receive(b"o\n")
        assert talk.sent() == b"TWO\n"
        assert talk.sent() == b""
        assert talk.output == b"ONE\nTWO\n"


@pytest.mark.parametrize("handler", [Lines, OldLines])
def test_a_transcript_is_the_same_in_however_many_pieces_a_line_came(handler: Any) -> None:
    expected = r"""
        > one\n
        < ONE\n
        > quit\n
        < QUIT\n
        * handler closes
    """
    for pieces in ([b"one\n", b"quit\n"], [b"o", b"ne\n", b"qu", b"i", b"t\n"]):
        with connect(handler) as talk:
            for piece in pieces:
                talk.receive(piece)
            talk.assert_transcript(expected)


def test_a_transcript_that_differs_is_shown_line_by_line() -> None:
    with connect(Lines) as talk:
        talk.receive(b"one\n")
        with pytest.raises(AssertionError) as caught:
            talk.assert_transcript(["> one\\n", "< TWO\\n"])
    message = str(caught.value)
    assert "  > one\\n" in message
    assert "- < TWO\\n" in message
    assert "+ < ONE\\n" in message


def test_any_bytes_can_be_written_in_a_transcript() -> None:
    with connect(Lines) as talk:
        talk.receive(b"'\\ \xff\x00 \n")
        talk.receive(b" ")
        talk.assert_transcript([r"> '\\ \xff\x00 \n", r"< '\\ \xff\x00 \n", r"> \x20"])


def test_a_line_that_is_none_of_a_transcript_is_refused() -> None:
    with connect(Lines) as talk, pytest.raises(ValueError, match="begins with"):
        talk.assert_transcript("one")


# -- The transport ------------------------------------------------------------------------------


def test_it_is_a_tcp_transport() -> None:
    verifyObject(ITCPTransport, Wire(Clock()))
    verifyObject(IReactorTime, ChatClock())


@BOTH
def test_a_clogged_transport_takes_so_many_bytes_and_says_pause(handler: Any) -> None:
    with connect(handler, takes=4) as talk:
        for _ in range(3):
            talk.receive(b"one\n")
        assert talk.sent() == b""
        assert talk.wire.waiting == 4
        assert talk.take(2) == b"ON"
        assert talk.take(4) == b"E\nON"
        assert talk.take() == b"E\nONE\n"
        talk.receive(b"two\n")
        assert talk.sent()[-4:] == b"TWO\n"


@BOTH
def test_a_transport_that_takes_nothing_is_full_at_once(handler: Any) -> None:
    with connect(handler, takes=0) as talk:
        talk.receive(b"one\n")
        assert talk.wire.waiting == 0
        assert talk.take(2) == b"ON"


def test_a_connection_does_not_end_while_its_output_is_not_taken() -> None:
    with connect(Lines) as talk:
        talk.clog()
        talk.receive(b"quit\n")
        assert not talk.is_closed
        assert talk.take() == b"QUIT\n"
        assert talk.is_closed


def test_a_close_that_waits_for_a_peer_ends_in_time() -> None:
    with connect(Lines) as talk:
        talk.clog()
        talk.receive(b"quit\n")
        talk.clock.advance(15)
        assert talk.is_closed
        talk.assert_transcript([r"> quit\n", "* handler cuts the connection"])


def test_what_comes_while_the_handler_pauses_its_input_waits() -> None:
    with connect(Lines) as talk:
        talk.handler.pauseProducing()
        talk.receive(b"one\n")
        assert talk.is_paused
        assert (talk.sent(), talk.wire.unread) == (b"", 4)
        talk.handler.resumeProducing()
        talk.settle()
        assert (talk.sent(), talk.wire.unread) == (b"ONE\n", 0)


def test_a_second_producer_of_the_transport_is_refused() -> None:
    with connect(Lines) as talk, pytest.raises(RuntimeError, match="can't be registered"):
        talk.wire.registerProducer(object(), True)


def test_a_transport_takes_no_text() -> None:
    with connect(Lines) as talk, pytest.raises(TypeError, match="not str"):
        talk.wire.write("one")  # type: ignore[arg-type]


def test_a_pull_producer_of_the_transport_is_asked_until_it_ends() -> None:
    wire = Wire(clock := Clock())
    got: list[bytes] = []
    wire.took = got.append
    chat = AsyncChat()
    chat.callLater = clock.callLater  # type: ignore[method-assign, assignment]
    wire.connect(chat)
    wire.unregisterProducer()
    sent = FileSender().beginFileTransfer(BytesIO(bytes(200_000)), wire)
    clock.pump([0] * 20)
    assert sent.called
    assert len(b"".join(got)) == 200_000
    wire.disconnect()
    clock.advance(100)


# -- The end ------------------------------------------------------------------------------------


@BOTH
def test_a_peer_that_has_finished_gets_its_answers(handler: Any) -> None:
    with connect(handler) as talk:
        talk.receive(b"one\n")
        talk.finish()
        assert talk.sent() == b"ONE\n"
        assert talk.is_closed
        assert talk.close_reason == "peer"


@BOTH
@pytest.mark.parametrize("reason", [None, ConnectionDone()])
def test_a_peer_may_go(handler: Any, reason: Exception | None) -> None:
    with connect(handler) as talk:
        talk.receive(b"on")
        talk.disconnect(reason)
        assert talk.is_closed
        assert talk.close_reason == "peer"
        talk.receive(b"e\n")
        assert talk.output == b""
        assert talk.transcript() == ["> on", "* peer is gone"]


@BOTH
def test_what_a_handler_raises_comes_out_at_the_end(
    handler: Any, logged_failures: Callable[[], list[str]]
) -> None:
    class Bad(handler):  # type: ignore[misc]
        def answer(self, line: bytes) -> None:
            raise ZeroDivisionError("on purpose")

    with pytest.raises(AssertionError, match="on purpose") as caught, connect(Bad) as talk:
        talk.receive(b"one\n")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    logged_failures()


@BOTH
def test_what_a_handler_raises_can_be_taken(
    handler: Any, logged_failures: Callable[[], list[str]]
) -> None:
    class Bad(handler):  # type: ignore[misc]
        def answer(self, line: bytes) -> None:
            raise ZeroDivisionError("on purpose")

    with connect(Bad) as talk:
        talk.receive(b"one\n")
        (error,) = talk.take_errors()
        assert error.check(ZeroDivisionError)
    logged_failures()


def test_an_error_of_the_test_itself_is_not_hidden_by_that_of_the_handler(
    logged_failures: Callable[[], list[str]],
) -> None:
    class Bad(Lines):
        def answer(self, line: bytes) -> None:
            raise ZeroDivisionError("on purpose")

    def test() -> None:
        with connect(Bad) as talk:
            talk.receive(b"one\n")
            raise LookupError

    with pytest.raises(LookupError):
        test()
    logged_failures()


# -- Time ----------------------------------------------------------------------------------------


class Impatient(Lines):
    idle_timeout = 30


def test_the_timers_of_a_handler_run_on_the_clock() -> None:
    with connect(Impatient) as talk:
        talk.clock.advance(29)
        talk.receive(b"o")
        talk.clock.advance(29)
        before = talk.is_closed
        talk.clock.advance(1)
        assert (before, talk.is_closed, talk.close_reason) == (False, True, "timeout")


def test_a_clock_of_the_tests_own_will_do() -> None:
    clock = Clock()
    with connect(Impatient, clock=clock) as talk:
        clock.advance(30)
        talk.settle()
        assert talk.close_reason == "timeout"


def test_the_clock_makes_each_call_at_its_time() -> None:
    clock = ChatClock()
    times: list[float] = []
    looping = LoopingCall(lambda: times.append(clock.seconds()))
    looping.clock = clock
    looping.start(2)
    clock.advance(5)
    assert times == [0, 2, 4]
    assert clock.seconds() == 5


def test_the_timers_of_a_legacy_connection_run_on_the_clock() -> None:
    talk = connect(OldLines)
    talk.protocol.idle_timeout = 5
    talk.protocol.setTimeout(5)
    talk.clock.advance(5)
    assert talk.is_closed
    assert talk.close_reason == "timeout"
    talk.end()


def test_a_handler_that_calls_itself_for_ever_is_found_out() -> None:
    class Spinning(Lines):
        def handle_connect(self) -> None:
            self.spin()

        def spin(self) -> None:
            self.callLater(0, self.spin)  # type: ignore[no-untyped-call]

    with pytest.raises(NeverRests, match="spin"):
        connect(Spinning)


def test_a_legacy_handler_that_never_rests_is_found_out() -> None:
    class Gushing(OldRaw):
        def writable(self) -> bool:
            return True

        def handle_write(self) -> None:
            self.send(b"more ")

    with pytest.raises(NeverRests, match="goes on and on"):
        connect(Gushing)
    asyncore.close_all(ignore_all=True)


# -- Security ------------------------------------------------------------------------------------


class Options:
    """What looks like a context for TLS."""

    def getContext(self) -> None:
        raise NotImplementedError


class Secure(Lines):
    async def found_terminator(self) -> None:
        line = self._get_data()
        self.push(line.upper() + b"\n")
        if line == b"starttls":
            await self.start_tls(Options())
            self.push(b"secure\n")


def test_tls_is_begun_and_encrypts_nothing() -> None:
    with connect(Secure) as talk:
        talk.receive(b"starttls\n")
        assert talk.is_secure
        talk.receive(b"one\n")
        talk.assert_transcript(
            [
                r"> starttls\n",
                r"< STARTTLS\n",
                "* TLS begins",
                r"< secure\n",
                r"> one\n",
                r"< ONE\n",
            ]
        )


def test_plaintext_behind_the_command_that_begins_tls_cuts_the_connection(
    logged_failures: Callable[[], list[str]],
) -> None:
    with connect(Secure) as talk:
        talk.receive(b"starttls\none\n")
        assert talk.is_closed
        assert [each.type for each in talk.take_errors()][:1] == [PlaintextAfterStartTLS]
    logged_failures()


def test_a_legacy_handler_begins_tls() -> None:
    class OldSecure(OldLines):
        def answer(self, line: bytes) -> None:
            self.push(line)
            if line == b"STARTTLS\n":
                self.socket.start_tls(Options())  # type: ignore[union-attr]

    with connect(OldSecure) as talk:
        talk.receive(b"starttls\n")
        assert talk.is_secure
        talk.receive(b"one\n")
        assert talk.output == b"STARTTLS\nONE\n"


# -- Beside a reactor -----------------------------------------------------------------------------


async def test_it_works_beside_a_running_reactor() -> None:
    for handler in (Lines, OldLines):
        with connect(handler) as talk:
            talk.receive(b"one\nquit\n")
            assert talk.sent() == b"ONE\nQUIT\n"
            assert talk.is_closed
