"""Every connection ends once, for a reason that can be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import Chat, Event, Wire, connected
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost

from txasynchat import ChatClosed, CloseReason, simple_producer


def failed(deferred: Deferred[Any]) -> Any:
    """What `deferred` has failed with."""
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    return failures[0].value


def result(deferred: Deferred[Any]) -> Any:
    """What `deferred` has resulted in."""
    results: list[Any] = []
    deferred.addCallback(results.append)
    return results[0]


def test_what_a_peer_sent_behind_its_quit_is_not_executed() -> None:
    chat, wire = connected(found=lambda chat: chat.close_when_done())
    chat.dataReceived(b"QUIT\nRM -RF\n")
    chat.dataReceived(b"FORMAT C:\n")
    wire.lose()
    assert chat.messages == [b"QUIT"]


@pytest.mark.parametrize("callback", ["connect", "collect", "found"])
@pytest.mark.parametrize("close", [Chat.close, Chat.close_when_done, Chat.stopProducing])
def test_no_callback_comes_after_a_close_but_one_handle_close(callback: str, close: Any) -> None:
    chat, wire = connected(**{callback: close})
    chat.dataReceived(b"one\ntwo\n")
    assert wire.disconnecting
    wire.lose()
    wire.lose()
    expected: dict[str, list[Event]] = {
        "connect": [("connect",)],
        "collect": [("connect",), ("data", b"one")],
        "found": [("connect",), ("data", b"one"), ("found",)],
    }
    assert chat.events == [*expected[callback], ("close",)]
    assert chat.close_reason == "handler"


def test_close_when_done_sends_everything_first() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"last ")
    chat.push_with_producer(simple_producer(b"words"))
    chat.close_when_done()
    assert not wire.disconnecting
    wire.empty()
    assert wire.value() == b"last words"
    assert wire.disconnecting


def test_close_sends_what_the_transport_takes_and_drops_the_rest() -> None:
    chat, wire = connected(found=lambda chat: (chat.push(b"bye"), chat.close()))
    chat.dataReceived(b"QUIT\n")
    assert (wire.value(), wire.disconnecting) == (b"bye", True)
    chat, wire = connected()
    wire.fill()
    chat.push(b"dropped")
    chat.close()
    assert (wire.value(), wire.disconnecting) == (b"", True)


def test_the_producer_is_unregistered_before_the_transport_is_closed() -> None:
    order: list[str] = []
    chat, wire = connected()

    def recorded(name: str, method: Callable[[], object]) -> Callable[[], None]:
        def record() -> None:
            order.append(name)
            method()

        return record

    wire.unregisterProducer = recorded("unregister", wire.unregisterProducer)  # type: ignore[method-assign]
    wire.loseConnection = recorded("lose", wire.loseConnection)  # type: ignore[method-assign]
    chat.close_when_done()
    assert order == ["unregister", "lose"]


def test_a_peer_that_goes_ends_the_connection() -> None:
    chat, wire = connected()
    chat.dataReceived(b"half a mess")
    wire.lose(ConnectionLost("reset"))
    assert chat.events == [("connect",), ("data", b"half a mess"), ("close",)]
    assert (chat.close_reason, chat.is_open) == (CloseReason.PEER, False)
    assert "reset" in chat.close_detail


def test_a_peer_that_goes_in_the_middle_of_a_terminator_ends_the_connection() -> None:
    chat, wire = connected(b"\r\n")
    chat.dataReceived(b"message\r")
    wire.lose()
    assert chat.events == [("connect",), ("data", b"message"), ("close",)]


def test_a_peer_that_has_finished_sending_is_still_answered() -> None:
    chat, wire = connected(found=lambda chat: chat.push(b"answer"))
    wire.fill()
    chat.dataReceived(b"question\n")
    chat.readConnectionLost()
    assert not wire.disconnecting
    wire.empty()
    assert (wire.value(), wire.disconnecting) == (b"answer", True)
    assert chat.close_reason == "peer"


def test_a_peer_that_has_finished_sending_has_its_pending_messages_handled() -> None:
    chat, wire = connected(found=lambda chat: chat.pauseProducing())
    chat.dataReceived(b"one\ntwo\n")
    chat.readConnectionLost()
    assert chat.messages == [b"one"]
    chat.resumeProducing()
    assert chat.messages == [b"one", b"two"]
    assert not wire.disconnecting
    chat.resumeProducing()
    assert wire.disconnecting


def test_a_peer_that_reads_no_more_ends_the_connection() -> None:
    chat, wire = connected()
    chat.writeConnectionLost()
    assert wire.aborted
    assert chat.close_reason == "peer"


def test_a_close_that_makes_no_progress_is_cut_after_close_timeout() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"x" * 100)
    chat.close_when_done()
    chat.clock.advance(14.9)
    early = wire.aborted
    chat.clock.advance(0.2)
    assert (early, wire.aborted) == (False, True)
    wire.lose(ConnectionAborted())
    assert chat.close_reason == "handler"
    assert "100 queued bytes not sent" in chat.close_detail
    assert chat.clock.getDelayedCalls() == []


def test_progress_gives_a_close_more_time() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push_with_producer(simple_producer(b"x" * 300_000, 65536))
    chat.close_when_done()
    wire.write = lambda data: wire.fill()  # type: ignore[method-assign]
    for _ in range(4):
        chat.clock.advance(10)
        wire.empty()
    early = wire.aborted
    chat.clock.advance(16)
    assert (early, wire.aborted) == (False, True)
    wire.lose()


def test_a_transport_that_does_not_close_is_cut() -> None:
    chat, wire = connected()
    chat.close()
    chat.clock.advance(15.1)
    assert wire.aborted
    wire.lose()
    assert chat.clock.getDelayedCalls() == []


def test_without_close_timeout_a_close_waits_for_ever() -> None:
    chat, wire = connected()
    chat.close_timeout = None
    wire.fill()
    chat.push(b"x")
    chat.close_when_done()
    assert chat.clock.getDelayedCalls() == []
    wire.lose()


def test_a_chat_closed_before_it_is_connected_never_opens() -> None:
    chat, wire = Chat(), Wire()
    chat.close()
    assert result(chat.closed()) == "handler"
    wire.connect(chat)
    assert wire.aborted
    wire.lose()
    assert chat.events == []


def test_close_when_done_before_the_connection_sends_and_closes_when_it_is_there() -> None:
    chat, wire = Chat(), Wire()
    chat.push(b"all I have to say")
    chat.close_when_done()
    wire.connect(chat)
    assert (wire.value(), wire.disconnecting) == (b"all I have to say", True)
    wire.lose()
    assert chat.events == [("close",)]


def test_closed_fires_with_the_reason() -> None:
    chat, wire = connected()
    closed, also = chat.closed(), chat.closed()
    chat.close()
    wire.lose()
    assert (result(closed), result(also), result(chat.closed())) == ("handler",) * 3


def test_closed_can_be_cancelled() -> None:
    chat, wire = connected()
    closed = chat.closed()
    closed.cancel()
    assert isinstance(failed(closed), CancelledError)
    wire.lose()


def test_drained_fires_when_the_transport_has_taken_everything_and_has_room() -> None:
    chat, wire = connected()
    fired: list[None] = []
    chat.drained().addCallback(fired.append)
    assert len(fired) == 1
    wire.fill()
    chat.push(b"x")
    chat.drained().addCallback(fired.append)
    assert len(fired) == 1
    wire.empty()
    assert len(fired) == 2


def test_drained_can_be_cancelled() -> None:
    chat, wire = connected()
    wire.fill()
    drained = chat.drained()
    drained.cancel()
    assert isinstance(failed(drained), CancelledError)
    wire.empty()


def test_drained_fails_when_the_connection_ends_before() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"x")
    drained = chat.drained()
    wire.lose()
    assert isinstance(failed(drained), ChatClosed)
    assert isinstance(failed(chat.drained()), ChatClosed)


def test_idle_connections_time_out() -> None:
    chat, wire = connected()
    chat.idle_timeout = 10
    chat.dataReceived(b"x")
    chat.clock.advance(9)
    chat.dataReceived(b"x")
    chat.clock.advance(9)
    assert chat.is_open
    chat.clock.advance(2)
    assert chat.events[-1] == ("timeout",)
    assert (chat.close_reason, wire.disconnecting) == ("timeout", True)
    wire.lose()
    assert chat.clock.getDelayedCalls() == []


def test_idle_timeout_counts_from_the_connection() -> None:
    class Impatient(Chat):
        idle_timeout = 5

    chat = Impatient()
    wire = Wire().connect(chat)
    chat.clock.advance(6)
    assert chat.close_reason == "timeout"
    wire.lose()


def test_output_that_moves_is_not_idle() -> None:
    chat, wire = connected()
    chat.idle_timeout = 10
    chat.push(b"x")
    for _ in range(5):
        chat.clock.advance(9)
        chat.push(b"x")
    assert chat.is_open
    wire.lose()


def test_pushing_to_a_peer_that_does_not_read_is_idle() -> None:
    chat, wire = connected()
    chat.idle_timeout = 10
    chat.push(b"x")
    wire.fill()
    for _ in range(2):
        chat.clock.advance(4)
        chat.push(b"x")
    chat.clock.advance(4)
    assert ("timeout",) in chat.events
    wire.lose()


def test_the_time_a_handler_takes_is_not_idle() -> None:
    waiting: Deferred[None] = Deferred()
    chat, wire = connected(found=lambda chat: waiting)
    chat.idle_timeout = 10
    chat.dataReceived(b"work\n")
    chat.clock.advance(35)
    assert ("timeout",) not in chat.events
    waiting.callback(None)
    chat.clock.advance(10)
    assert ("timeout",) in chat.events
    wire.lose()


def test_a_handler_that_does_not_close_is_asked_again_after_the_same_time() -> None:
    chat, wire = connected(timeout=lambda chat: chat.push(b"still there?\n"))
    chat.idle_timeout = 10
    chat.dataReceived(b"x")
    for _ in range(3):
        chat.clock.advance(10)
    assert chat.events.count(("timeout",)) == 3
    wire.lose()


def test_a_hook_that_closes_is_not_to_blame() -> None:
    chat, wire = connected(timeout=lambda chat: (chat.push(b"421 idle"), chat.close_when_done()))
    chat.idle_timeout = 10
    chat.dataReceived(b"x")
    chat.clock.advance(10)
    assert (chat.close_reason, wire.value()) == ("timeout", b"421 idle")
    wire.lose()


def test_a_connection_whose_close_was_decided_does_not_time_out() -> None:
    chat, wire = connected()
    chat.idle_timeout = 5
    chat.dataReceived(b"x")
    wire.fill()
    chat.push(b"x")
    chat.close_when_done()
    chat.clock.advance(6)
    assert ("timeout",) not in chat.events
    wire.lose()


def test_drained_fires_before_the_close_that_stands_behind_it() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"x")
    fired: list[None] = []
    chat.drained().addCallback(fired.append)
    chat.close_when_done()
    wire.empty()
    assert (len(fired), wire.disconnecting) == (1, True)


def test_drained_fires_where_the_last_write_before_the_close_fills_the_transport() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"x")
    fired: list[None] = []
    chat.drained().addCallback(fired.append)
    chat.close_when_done()
    wire.write = lambda data: wire.fill()  # type: ignore[method-assign]
    wire.empty()
    assert (len(fired), wire.disconnecting) == (1, True)


def test_drained_fires_after_the_end_if_nothing_was_dropped() -> None:
    chat, wire = connected()
    chat.push(b"x")
    wire.fill()
    wire.lose()
    fired: list[None] = []
    chat.drained().addCallback(fired.append)
    assert len(fired) == 1


def test_drained_fails_when_a_close_drops_the_output() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"x")
    before = chat.drained()
    chat.close()
    assert isinstance(failed(before), ChatClosed)
    assert isinstance(failed(chat.drained()), ChatClosed)
    wire.lose()


def test_a_handler_that_closes_its_transport_itself_is_closed() -> None:
    chat, wire = connected(found=lambda chat: chat.transport.loseConnection())
    chat.dataReceived(b"QUIT\n")
    assert (chat.is_open, wire.producer) == (False, None)
    wire.lose()
    assert chat.close_reason == "handler"


def test_an_error_after_the_handler_has_closed_is_only_logged(logged_failures: Any) -> None:
    chat, wire = connected(found=lambda chat: (chat.close(), chat.push(b"late")))
    chat.dataReceived(b"QUIT\n")
    assert ("error",) not in chat.events
    assert "after its connection was closed" in logged_failures()[0]
    wire.lose()
    assert chat.close_reason == "handler"


@pytest.mark.parametrize(
    "name",
    ["collect_incoming_data", "get_terminator", "handle_close", "handle_error", "handle_timeout"],
)
def test_a_callback_that_nothing_waits_for_cannot_be_a_coroutine(name: str) -> None:
    async def callback(self: Chat, *data: bytes) -> None:
        pass

    with pytest.raises(TypeError, match=rf"Hasty\.{name}\(\) can't be a coroutine"):
        type("Hasty", (Chat,), {name: callback})


@pytest.mark.parametrize("close", [Chat.close, Chat.close_when_done])
def test_an_error_behind_a_close_is_only_logged_while_output_is_flushed_too(
    close: Any, logged_failures: Any
) -> None:
    def close_and_fail(chat: Chat) -> None:
        close(chat)
        raise ZeroDivisionError

    chat, wire = connected(found=close_and_fail)
    wire.fill()
    chat.push(b"x")
    chat.dataReceived(b"QUIT\n")
    assert ("error",) not in chat.events
    assert "after its connection was closed" in logged_failures()[0]
    wire.lose()
    assert chat.close_reason == "handler"


def test_a_terminator_set_by_a_timer_judges_what_was_held_back() -> None:
    chat, wire = connected(b"\r\n")
    chat.dataReceived(b"ab\r")
    assert chat.events[-1] == ("data", b"ab")
    chat.set_terminator(1)
    chat.clock.advance(0)
    assert chat.events[-2:] == [("data", b"ab\r"), ("found",)]
    wire.lose()


def test_input_put_back_by_a_timer_is_delivered() -> None:
    chat, wire = connected()
    chat.ac_in_buffer = b"one\ntwo\n"
    chat.clock.advance(0)
    assert chat.messages == [b"one", b"two"]
    wire.lose()


def test_input_put_back_before_the_connection_is_delivered_when_it_is_there() -> None:
    chat, wire = Chat(), Wire()
    chat.ac_in_buffer = b"one\n"
    wire.connect(chat)
    chat.clock.advance(0)
    assert chat.messages == [b"one"]
    wire.lose()


def test_a_terminator_set_while_input_is_paused_schedules_nothing() -> None:
    chat, wire = connected(found=lambda chat: chat.pauseProducing())
    chat.dataReceived(b"one\ntwo\n")
    chat.set_terminator(b";")
    assert chat.clock.getDelayedCalls() == []
    wire.lose()


def test_a_callback_with_a_stray_yield_is_refused() -> None:
    with pytest.raises(TypeError, match="has a yield"):

        class Lazy(Chat):
            def found_terminator(self) -> Any:
                yield b"never"


def test_a_terminator_as_a_class_attribute_is_refused() -> None:
    with pytest.raises(TypeError, match=r"call set_terminator\(\) in handle_connect\(\)"):
        type("Declares", (Chat,), {"terminator": b"\n"})


# -- Who waits for it ------------------------------------------------------------------


def waits_three_times(ask: Callable[[], Deferred[Any]]) -> list[str]:
    """Three that wait; the first cancels the second when it is told."""
    told: list[str] = []

    def tell_first(result: object) -> None:
        told.append("first")
        waiting[1].cancel()

    def tell(result: object, name: str) -> None:
        told.append(f"{name}: {type(getattr(result, 'value', result)).__name__}")

    waiting = [ask(), ask(), ask()]
    waiting[0].addBoth(tell_first)
    waiting[1].addBoth(tell, "second")
    waiting[2].addBoth(tell, "third")
    return told


def test_one_that_waits_for_the_end_may_cancel_another() -> None:
    chat, wire = connected()
    told = waits_three_times(chat.closed)
    wire.lose()
    assert told == ["first", "second: CancelledError", "third: str"]


def test_one_that_waits_for_the_output_may_cancel_another() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"x")
    told = waits_three_times(chat.drained)
    wire.empty()
    assert told == ["first", "second: CancelledError", "third: NoneType"]


def test_one_that_waits_for_output_that_is_lost_may_cancel_another() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"x")
    told = waits_three_times(chat.drained)
    wire.lose()
    assert told == ["first", "second: CancelledError", "third: ChatClosed"]
    assert chat.events[-1] == ("close",)


def test_who_waits_for_output_that_was_dropped_before_the_connection_is_told_with_it() -> None:
    chat, wire = Chat(), Wire()
    chat.push(b"x")
    drained = chat.drained()
    chat.discard_buffers()
    wire.connect(chat)
    assert drained.called


def test_idle_timeout_can_be_switched_off_and_on_again() -> None:
    chat, _ = connected(timeout=lambda chat: None)
    chat.idle_timeout = 5
    chat.dataReceived(b"idle\n")
    chat.idle_timeout = None
    chat.dataReceived(b"x\n")
    chat.clock.advance(60)
    assert ("timeout",) not in chat.events
    chat.idle_timeout = 5
    chat.dataReceived(b"done\n")
    chat.clock.advance(5)
    assert chat.events[-1] == ("timeout",)


def test_a_handler_that_closes_the_transport_behind_its_farewell_closes_at_once() -> None:
    def quit(chat: Any) -> None:
        chat.close_when_done()
        chat.transport.loseConnection()

    chat, wire = connected(found=quit)
    wire.fill()
    chat.push(b"x" * 10)
    chat.dataReceived(b"quit\n")
    assert chat.queued_output == 0
