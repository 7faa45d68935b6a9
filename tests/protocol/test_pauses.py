"""Input flows only when nobody has a reason to hold it up."""

from __future__ import annotations

from typing import Any

from support import Chat, Wire, connected
from twisted.internet.defer import Deferred

from txasynchat import ChatClosed, PauseReason


def test_pausing_stops_delivery_in_the_middle_of_a_chunk() -> None:
    chat, wire = connected(found=lambda chat: chat.pauseProducing())
    chat.dataReceived(b"one\ntwo\nthree\n")
    assert chat.messages == [b"one"]
    assert not wire.is_reading
    assert chat.paused_because == ("user asked",)


def test_resuming_goes_on_where_it_stopped() -> None:
    chat, wire = connected(found=lambda chat: chat.pauseProducing())
    chat.dataReceived(b"one\ntwo\nth")
    chat.resumeProducing()
    assert chat.messages == [b"one", b"two"]
    chat.resumeProducing()
    assert wire.is_reading
    chat.dataReceived(b"ree\n")
    assert chat.messages == [b"one", b"two", b"three"]


def test_what_a_transport_still_delivers_while_paused_is_kept() -> None:
    chat, _ = connected()
    chat.pauseProducing()
    chat.dataReceived(b"one\nt")
    chat.dataReceived(b"wo\n")
    assert chat.messages == []
    chat.resumeProducing()
    assert chat.messages == [b"one", b"two"]


def test_a_pause_before_the_connection_counts() -> None:
    chat, wire = Chat(), Wire()
    chat.pauseProducing()
    wire.connect(chat)
    assert not wire.is_reading
    chat.resumeProducing()
    assert wire.is_reading


def test_one_party_does_not_undo_the_pause_of_another() -> None:
    waiting: Deferred[None] = Deferred()
    chat, wire = connected(found=lambda chat: waiting)
    chat.dataReceived(b"one\ntwo\n")
    chat.pauseProducing()
    chat.pauseProducing()
    assert set(chat.paused_because) == {PauseReason.HANDLER_BUSY, PauseReason.USER_ASKED}
    chat.resumeProducing()
    assert chat.paused_because == (PauseReason.HANDLER_BUSY,)
    assert (chat.messages, wire.is_reading) == ([b"one"], False)
    waiting.callback(None)
    assert (chat.messages, wire.is_reading) == ([b"one", b"two"], True)


def test_a_peer_that_reads_no_answers_is_not_listened_to() -> None:
    chat, wire = connected(found=lambda chat: chat.push(b"x" * 1000))
    wire.fill()
    chat.dataReceived(b"\n" * 10_000)
    assert (chat.paused_because, wire.is_reading) == (("output full",), False)
    answered = len(chat.messages)
    assert answered <= 70  # 65,536 bytes of answers, and the one that was too many
    wire.empty()
    assert wire.is_reading
    assert len(chat.messages) == 10_000
    assert len(wire.value()) == 10_000_000


def test_the_bound_on_queued_output_can_be_small() -> None:
    chat, wire = connected(found=lambda chat: chat.push(b"xx"))
    chat.max_queued_output = 3
    chat.dataReceived(b"\n\n\n")
    assert (len(chat.messages), chat.paused_because) == (3, ())
    wire.fill()
    chat.dataReceived(b"\n\n\n")
    assert (len(chat.messages), chat.paused_because) == (5, ("output full",))


def test_without_a_bound_output_is_queued() -> None:
    chat, wire = connected(found=lambda chat: chat.push(b"x" * 1000))
    chat.max_queued_output = None
    wire.fill()
    chat.dataReceived(b"\n" * 200)
    assert len(chat.messages) == 200


def test_pausing_in_collect_incoming_data_holds_back_the_end_of_the_message() -> None:
    chat, _ = connected(collect=lambda chat: chat.pauseProducing())
    chat.dataReceived(b"one\n")
    assert chat.events[-1] == ("data", b"one")
    chat.resumeProducing()
    assert chat.messages == [b"one"]


def test_a_close_resumes_reading_so_that_the_peers_end_is_seen() -> None:
    chat, wire = connected(found=lambda chat: chat.pauseProducing())
    wire.fill()
    chat.push(b"x")
    chat.dataReceived(b"one\n")
    chat.close_when_done()
    assert wire.is_reading
    assert chat.paused_because == ()


def test_a_thousand_queued_producers_are_as_much_as_output_that_is_full() -> None:
    chat, wire = connected(found=lambda chat: chat.push_with_producer([b"x" * 1000]))
    wire.fill()
    chat.dataReceived(b"\n" * 10_000)
    assert chat.paused_because == ("output full",)
    assert len(chat.messages) == 1001
    wire.empty()
    assert len(wire.value()) == 10_000_000


def test_queued_output_can_be_read() -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"12345")
    assert chat.queued_output == 5


# -- Handlers that take their time ---------------------------------------------------


class Slow(Chat):
    """Answers each message when the test says so."""

    def __init__(self, **does: Any) -> None:
        super().__init__(**does)
        self.waiting: list[Deferred[bytes]] = []

    async def found_terminator(self) -> None:
        super().found_terminator()
        self.waiting.append(Deferred())
        self.push(await self.waiting[-1])


def slow(**does: Any) -> tuple[Slow, Wire]:
    chat = Slow(**does)
    return chat, Wire().connect(chat)


def test_messages_are_handled_strictly_one_after_another() -> None:
    chat, wire = slow()
    chat.dataReceived(b"one\ntwo\n")
    assert (chat.messages, chat.paused_because) == ([b"one"], ("handler busy",))
    assert not wire.is_reading
    chat.waiting[0].callback(b"1")
    assert chat.messages == [b"one", b"two"]
    chat.waiting[1].callback(b"2")
    assert (wire.value(), wire.is_reading) == (b"12", True)


def test_a_deferred_is_waited_for_like_a_coroutine() -> None:
    waiting: Deferred[None] = Deferred()
    chat, _ = connected(found=lambda chat: waiting)
    chat.dataReceived(b"one\ntwo\n")
    assert chat.messages == [b"one"]
    waiting.callback(None)
    assert chat.messages == [b"one", b"two"]


def test_a_handler_that_needs_not_wait_does_not_pause() -> None:
    class Quick(Chat):
        async def found_terminator(self) -> None:
            super().found_terminator()

    chat = Quick()
    wire = Wire().connect(chat)
    chat.dataReceived(b"\n" * 100_000)
    assert len(chat.messages) == 100_000
    assert wire.is_reading


def test_a_hundred_thousand_messages_that_wait_do_not_exhaust_the_stack() -> None:
    chat, _ = slow()
    chat.dataReceived(b"\n" * 20_000)
    done = 0
    while done < len(chat.waiting):
        chat.waiting[done].callback(b"")
        done += 1
    assert done == 20_000


def test_the_failure_of_a_handler_that_waited_goes_to_handle_error() -> None:
    chat, wire = slow(error=lambda chat: chat.push(b"failed "))
    chat.dataReceived(b"one\ntwo\n")
    chat.waiting[0].errback(ZeroDivisionError())
    assert ("error",) in chat.events
    chat.waiting[1].callback(b"2")
    assert wire.value() == b"failed 2"


def test_by_default_the_failure_of_a_handler_that_waited_ends_the_connection(
    logged_failures: Any,
) -> None:
    chat, wire = slow()
    chat.dataReceived(b"one\ntwo\n")
    chat.waiting[0].errback(ZeroDivisionError())
    assert (chat.close_reason, chat.messages, wire.disconnecting) == ("error", [b"one"], True)
    (logged,) = logged_failures()
    assert "ZeroDivisionError" in logged
    wire.lose()


def test_a_handler_goes_on_after_its_connection_is_gone_and_its_push_is_refused() -> None:
    refused: list[ChatClosed] = []

    class Listens(Slow):
        def push(self, data: Any) -> None:
            try:
                super().push(data)
            except ChatClosed as error:
                refused.append(error)
                raise

    chat = Listens()
    wire = Wire().connect(chat)
    chat.dataReceived(b"one\n")
    wire.lose()
    chat.waiting[0].callback(b"too late")
    # It ended the coroutine, and is no error to log: the fixture would tell.
    assert len(refused) == 1
    assert chat.events[-1] == ("close",)


def test_even_asyncios_cancellation_is_an_error_of_the_handler(logged_failures: Any) -> None:
    import asyncio

    chat, wire = slow()
    chat.dataReceived(b"one\n")
    chat.waiting[0].errback(asyncio.CancelledError())
    assert (chat.close_reason, wire.disconnecting) == ("error", True)
    assert len(logged_failures()) == 1
    wire.lose()


def test_another_failure_after_the_connection_is_gone_is_logged(logged_failures: Any) -> None:
    chat, wire = slow()
    chat.dataReceived(b"one\n")
    wire.lose()
    chat.waiting[0].errback(ZeroDivisionError())
    (logged,) = logged_failures()
    assert "failed after its connection was closed" in logged
    assert ("error",) not in chat.events


def test_handle_connect_may_wait_too() -> None:
    waiting: Deferred[None] = Deferred()
    chat, _ = connected(connect=lambda chat: waiting)
    chat.dataReceived(b"one\n")
    assert chat.messages == []
    waiting.callback(None)
    assert chat.messages == [b"one"]


def test_waiting_for_drained_in_a_handler_gives_backpressure() -> None:
    class Polite(Chat):
        async def found_terminator(self) -> None:
            super().found_terminator()
            self.push(b"answer")
            await self.drained()

    chat = Polite()
    wire = Wire().connect(chat)
    wire.fill()
    chat.dataReceived(b"one\ntwo\n")
    assert chat.messages == [b"one"]
    wire.empty()
    assert (chat.messages, wire.value()) == ([b"one", b"two"], b"answeranswer")


def test_a_connection_that_ends_while_a_handler_waits_for_drained_ends_the_handler() -> None:
    ended: list[BaseException] = []

    class Polite(Chat):
        async def found_terminator(self) -> None:
            self.push(b"answer")
            try:
                await self.drained()
            except ChatClosed as error:
                ended.append(error)

    chat = Polite()
    wire = Wire().connect(chat)
    wire.fill()
    chat.dataReceived(b"one\n")
    wire.lose()
    assert len(ended) == 1


def test_a_limit_set_when_the_connection_is_made_holds_for_the_first_chunk() -> None:
    chat, wire = connected(
        connect=lambda chat: setattr(chat, "max_queued_output", 3),
        found=lambda chat: chat.push(b"xx"),
    )
    wire.fill()
    chat.dataReceived(b"a\n" * 1000)
    assert chat.messages == [b"a"] * 2
    assert chat.paused_because == (PauseReason.OUTPUT_FULL,)
