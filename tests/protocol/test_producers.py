"""Producers of every kind take their turn in the output queue; adapters go both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from support import connected
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import Cooperator, TaskStopped
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import FileSender
from zope.interface.verify import verifyObject

from txasynchat import AsyncChat, ProducerDrain, ProducerSender, simple_producer
from txasynchat.output import Output


class PushProducer:
    """A push producer that records what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class PullProducer:
    """A pull producer that writes a piece each time it is resumed, to its consumer."""

    def __init__(self, consumer: Any, *pieces: bytes) -> None:
        self.consumer = consumer
        self.pieces = list(pieces)
        self.stopped = 0

    def resumeProducing(self) -> None:
        if self.pieces:
            self.consumer.write(self.pieces.pop(0))
        else:
            self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped += 1


class MoreLater:
    """A producer whose data comes when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[bytes]] = []
        self.stopped = 0

    def more(self) -> Deferred[bytes]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def stop(self) -> None:
        self.stopped += 1


async def async_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def make_body(data: bytes) -> Any:
    from twisted.web.client import FileBodyProducer

    steps: list[Callable[[], object]] = []
    body = FileBodyProducer(BytesIO(data), Cooperator(scheduler=steps.append))  # type: ignore[arg-type]
    return body, steps


SOURCES: list[Callable[[AsyncChat], object]] = [
    lambda chat: simple_producer(b"middle"),
    lambda chat: PullProducer(chat, b"mid", b"dle"),
    lambda chat: BytesIO(b"middle"),
    lambda chat: [b"mid", b"", b"dle"],
    lambda chat: (piece for piece in (b"mid", b"dle")),
    lambda chat: async_pieces(b"mid", b"", b"dle"),
]


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_producer_takes_its_turn(source: Callable[[AsyncChat], object]) -> None:
    chat, wire = connected()
    wire.fill()
    chat.push(b"first ")
    chat.push_with_producer(source(chat))
    chat.push(b" last")
    chat.close_when_done()
    wire.empty()
    assert wire.value() == b"first middle last"
    assert wire.disconnecting


def test_a_body_producer_takes_its_turn() -> None:
    body, steps = make_body(b"middle")
    chat, wire = connected()
    chat.push(b"first ")
    chat.push_with_producer(body)
    chat.push(b" last")
    while steps:
        steps.pop()()
    assert wire.value() == b"first middle last"


def test_a_file_sender_works_on_the_chat_itself() -> None:
    chat, wire = connected()
    wire.fill()
    first = FileSender().beginFileTransfer(BytesIO(b"one "), chat)
    chat.push(b"between ")
    second = FileSender().beginFileTransfer(BytesIO(b"two"), chat)
    assert wire.value() == b""
    wire.empty()
    assert wire.value() == b"one between two"
    assert first.called
    assert second.called


def test_a_push_producer_starts_paused_and_is_resumed_in_its_turn() -> None:
    chat, wire = connected()
    producer = PushProducer()
    wire.fill()
    chat.push(b"before ")
    chat.registerProducer(producer, True)
    chat.push(b" after")
    assert producer.told == ["pause"]
    wire.empty()
    assert producer.told == ["pause", "resume"]
    chat.write(b"data")
    assert wire.value() == b"before data"
    chat.unregisterProducer()
    assert wire.value() == b"before data after"


def test_a_full_transport_pauses_the_push_producer_whose_turn_it_is() -> None:
    chat, wire = connected()
    producer = PushProducer()
    chat.push_with_producer(producer)
    wire.fill()
    assert producer.told == ["pause", "resume", "pause"]
    chat.write(b"written all the same")
    assert wire.value() == b""
    wire.empty()
    assert producer.told[3:] == ["resume"]
    assert wire.value() == b"written all the same"


def test_a_push_producer_that_writes_more_than_was_asked_for_is_paused() -> None:
    drain = ProducerDrain()
    producer = PushProducer()
    drain.registerProducer(producer, True)
    drain.more()
    drain.write(b"asked for")
    assert producer.told == ["pause", "resume"]
    drain.write(b"not asked for")
    assert producer.told == ["pause", "resume", "pause"]


def test_producers_are_not_registered_with_the_transport() -> None:
    chat, wire = connected()
    chat.registerProducer(PushProducer(), True)
    assert isinstance(wire.producer, Output)
    assert wire.streaming


def test_write_without_a_producer_is_push() -> None:
    chat, wire = connected()
    chat.write(b"data")
    chat.unregisterProducer()
    assert wire.value() == b"data"


@pytest.mark.parametrize("end", ["lose", "close"])
def test_producers_that_are_dropped_are_stopped_once(end: str) -> None:
    chat, wire = connected()
    wire.fill()
    closed: list[str] = []

    def generate() -> Iterator[bytes]:
        try:
            yield b"x" * 100_000
            yield b"never"
        finally:
            closed.append("generator")

    generator, file = generate(), BytesIO(b"x")
    next(generator)
    push, pull, later = PushProducer(), PullProducer(chat), MoreLater()
    for source in (generator, file, push, pull, later):
        chat.push_with_producer(source)
    if end == "close":
        chat.close()
    wire.lose()
    assert closed == ["generator"]
    assert file.closed
    assert push.told == ["pause", "stop"]
    assert (pull.stopped, later.stopped) == (1, 1)


def test_an_async_generator_that_is_dropped_while_it_waits_is_closed() -> None:
    waiting: Deferred[None] = Deferred()
    ended: list[str] = []

    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"piece"
            await waiting
        finally:
            ended.append("closed")

    chat, wire = connected()
    chat.push_with_producer(generate())
    assert (wire.value(), ended) == (b"piece", [])
    wire.lose()
    assert ended == ["closed"]


def test_an_async_generator_that_never_got_its_turn_is_closed() -> None:
    chat, wire = connected()
    wire.fill()
    generator = async_pieces(b"never")
    chat.push_with_producer(generator)
    wire.lose()
    assert generator.ag_frame is None  # type: ignore[attr-defined]


def test_a_finished_producer_is_not_stopped() -> None:
    chat, wire = connected()
    pull, later = PullProducer(chat, b"all"), MoreLater()
    chat.push_with_producer(pull)
    chat.push_with_producer(later)
    later.asked[0].callback(b"")
    wire.lose()
    assert (pull.stopped, later.stopped) == (0, 0)


def test_a_file_that_was_sent_is_closed() -> None:
    chat, wire = connected()
    file = BytesIO(b"content")
    chat.push_with_producer(file)
    assert (wire.value(), file.closed) == (b"content", True)


def test_a_text_file_names_the_way_out(logged_failures: Any) -> None:
    import io

    chat, _ = connected()
    chat.push_with_producer(io.StringIO("text"))
    assert "open it in binary mode" in logged_failures()[0]
    assert chat.close_reason == "error"


def test_more_may_return_a_deferred() -> None:
    chat, wire = connected()
    later = MoreLater()
    chat.push_with_producer(later)
    chat.push(b" after")
    assert wire.value() == b""
    later.asked[0].callback(b"later")
    assert wire.value() == b"later"
    later.asked[1].callback(b"")
    assert wire.value() == b"later after"


def test_more_may_be_a_coroutine() -> None:
    class Coroutine:
        pieces = [b"a", b"b", b""]

        async def more(self) -> bytes:
            return self.pieces.pop(0)

    chat, wire = connected()
    chat.push_with_producer(Coroutine())
    chat.push(b" after")
    assert wire.value() == b"ab after"


def test_data_that_comes_while_the_transport_is_full_waits() -> None:
    chat, wire = connected()
    later = MoreLater()
    chat.push_with_producer(later)
    wire.fill()
    later.asked[0].callback(b"data")
    assert (wire.value(), len(later.asked)) == (b"", 1)
    wire.empty()
    assert (wire.value(), len(later.asked)) == (b"data", 2)
    wire.lose()


def test_a_deferred_that_fires_after_the_connection_is_gone_is_ignored() -> None:
    chat, wire = connected()
    later = MoreLater()
    chat.push_with_producer(later)
    wire.lose()
    assert later.asked[0].called  # cancelled
    assert later.stopped == 1


def test_a_producer_registered_after_the_close_is_stopped() -> None:
    chat, _ = connected()
    chat.close_when_done()
    producer = PushProducer()
    chat.registerProducer(producer, True)
    assert producer.told[-1] == "stop"


def test_a_producer_may_push_and_close_while_it_is_asked() -> None:
    class Talkative:
        def __init__(self) -> None:
            self.pieces = [b"one ", b"two "]

        def more(self) -> bytes:
            if not self.pieces:
                chat.push(b"done")
                chat.close_when_done()
                return b""
            return self.pieces.pop(0)

    chat, wire = connected()
    chat.push_with_producer(Talkative())
    assert (wire.value(), wire.disconnecting) == (b"one two done", True)


def test_an_endless_producer_to_a_full_transport_is_asked_once_per_write() -> None:
    class Endless:
        asked = 0

        def more(self) -> bytes:
            self.asked += 1
            return b"x" * 65536

    chat, wire = connected()
    producer = Endless()
    wire.write = lambda data: wire.fill()  # type: ignore[method-assign]
    chat.push_with_producer(producer)
    assert producer.asked == 1
    wire.empty()
    assert producer.asked == 2
    wire.lose()


def test_a_push_producer_asked_by_the_write_that_fills_the_transport_is_resumed() -> None:
    chat, wire = connected()
    producer = PushProducer()
    write: Callable[[bytes], object] = wire.write

    def write_and_fill(data: bytes) -> None:
        write(data)
        wire.fill()

    wire.write = write_and_fill  # type: ignore[method-assign]
    chat.push(b"before ")
    wire.fill()
    chat.push(b"then ")
    chat.push_with_producer(producer)
    wire.empty()
    assert producer.told == ["pause", "resume", "pause"]
    wire.empty()
    assert producer.told == ["pause", "resume", "pause", "resume"]
    chat.write(b"data")
    assert wire.value() == b"before then data"
    wire.lose()


def test_a_pull_producer_is_not_asked_again_before_it_has_answered() -> None:
    class Slow(PullProducer):
        asked = 0

        def resumeProducing(self) -> None:
            self.asked += 1

    chat, wire = connected()
    producer = Slow(chat)
    chat.push_with_producer(producer)
    wire.fill()
    wire.empty()
    assert producer.asked == 1
    chat.write(b"answer")
    assert (wire.value(), producer.asked) == (b"answer", 2)
    wire.lose()


def test_a_pull_producer_that_writes_nothing_is_asked_again() -> None:
    sender = FileSender()
    chat, wire = connected()
    blanks = iter([b"", b"one ", b"", b"two"])
    file = BytesIO(b"x" * FileSender.CHUNK_SIZE * 4)
    done = sender.beginFileTransfer(file, chat, lambda _: next(blanks))
    chat.push(b" after")
    assert wire.value() == b"one two after"
    assert done.called


@pytest.mark.parametrize("end", ["close", "close_when_done", "discard_buffers"])
@pytest.mark.parametrize("kind", ["more", "generator", "async generator"])
def test_a_producer_may_end_things_while_it_is_asked(kind: str, end: str) -> None:
    ended: list[str] = []

    class More:
        def more(self) -> bytes:
            getattr(chat, end)()
            return b""

        def stop(self) -> None:
            ended.append("stop")

    def generate() -> Iterator[bytes]:
        try:
            getattr(chat, end)()
            yield b"piece"
        finally:
            ended.append("stop")

    async def generate_async() -> AsyncIterator[bytes]:
        for piece in generate():
            yield piece

    sources = {"more": More, "generator": generate, "async generator": generate_async}
    chat, wire = connected()
    chat.push_with_producer(sources[kind]())
    assert ("error",) not in chat.events
    if end == "discard_buffers":
        chat.push(b"after")
        assert wire.value() == b"after"
    else:
        assert wire.disconnecting
    wire.lose()
    assert chat.close_reason == ("peer" if end == "discard_buffers" else "handler")


def test_a_canceller_that_raises_does_not_hold_up_the_end(logged_failures: Any) -> None:
    def canceller(_: Any) -> None:
        raise ZeroDivisionError

    class Never:
        def more(self) -> Deferred[bytes]:
            return Deferred(canceller)

    chat, wire = connected()
    chat.push_with_producer(Never())
    wire.lose()
    assert chat.events[-1] == ("close",)
    assert "a producer failed while it was stopped" in logged_failures()[0]


def test_a_producer_that_breaks_with_a_close_behind_it_ends_the_connection_at_once() -> None:
    later = MoreLater()
    chat, wire = connected(error=lambda chat: None)
    chat.push_with_producer(later)
    chat.push(b"never")
    chat.close_when_done()
    later.asked[0].errback(OSError("disk"))
    assert (wire.disconnecting, wire.value()) == (True, b"")
    wire.lose()
    assert (chat.close_reason, chat.close_detail) == ("error", "OSError: disk")


@pytest.mark.parametrize("what", ["pauseProducing", "resumeProducing"])
def test_a_producer_that_raises_when_the_transport_pauses_or_resumes_it_ends_the_connection(
    what: str, logged_failures: Any
) -> None:
    class Fragile(PushProducer):
        def __init__(self) -> None:
            super().__init__()
            self.armed = False

        def pauseProducing(self) -> None:
            super().pauseProducing()
            if self.armed and what == "pauseProducing":
                raise ZeroDivisionError

        def resumeProducing(self) -> None:
            super().resumeProducing()
            if self.armed and what == "resumeProducing":
                raise ZeroDivisionError

    chat, wire = connected()
    producer = Fragile()
    chat.push_with_producer(producer)
    producer.armed = True
    wire.fill()
    if what == "resumeProducing":
        wire.empty()
    assert (chat.close_reason, wire.disconnecting) == ("error", True)
    assert len(logged_failures()) == 1
    wire.lose()


def test_what_is_awaited_behind_a_write_that_fills_the_transport_is_cancelled_with_it() -> None:
    chat, wire = connected()
    later = MoreLater()
    write = wire.write

    def write_and_fill(data: bytes) -> None:
        write(data)  # type: ignore[no-untyped-call]
        wire.fill()

    wire.write = write_and_fill  # type: ignore[method-assign]
    wire.fill()
    chat.push(b"before")
    chat.push_with_producer(later)
    wire.empty()
    assert len(later.asked) == 1
    wire.lose()
    assert later.asked[0].called
    assert later.stopped == 1


@pytest.mark.parametrize("closes", [AsyncChat.close, AsyncChat.discard_buffers])
def test_what_a_producer_returns_for_later_after_it_dropped_the_queue_is_cancelled(
    closes: Callable[[AsyncChat], None],
) -> None:
    returned: list[Deferred[bytes]] = []

    class Drops:
        def more(self) -> Deferred[bytes]:
            closes(chat)
            returned.append(Deferred())
            return returned[0]

    chat, wire = connected()
    chat.push_with_producer(Drops())
    assert returned[0].called
    wire.lose()


@pytest.mark.parametrize("last_word", ["close", "fail", "go on"])
def test_the_reason_of_a_farewell_that_an_error_cut_short_is_the_error(
    last_word: str, logged_failures: Any
) -> None:
    seen: list[str | None] = []

    def handle_error(chat: Any) -> None:
        seen.append(chat.close_reason)
        if last_word == "close":
            chat.close()
        elif last_word == "fail":
            raise OSError

    later = MoreLater()
    chat, wire = connected(error=handle_error)
    chat.push_with_producer(later)
    chat.close_when_done()
    later.asked[0].errback(ZeroDivisionError("on purpose"))
    wire.lose()
    assert (seen, chat.close_reason) == (["error"], "error")
    assert chat.close_detail == "ZeroDivisionError: on purpose"
    assert len(logged_failures()) == (last_word == "fail")


def test_a_producer_refused_after_the_close_is_not_registered() -> None:
    chat, _ = connected()
    chat.close()
    producer = PushProducer()
    chat.registerProducer(producer, True)
    chat.unregisterProducer()
    assert producer.told == ["pause", "stop"]
    assert not chat._registered


def test_the_farewell_of_an_error_is_sent_once_the_transport_has_room() -> None:
    def farewell(chat: Any) -> None:
        chat.push(b"500 sorry")
        chat.close_when_done()

    chat, wire = connected(error=farewell)
    producer = MoreLater()
    chat.push_with_producer(producer)
    wire.fill()
    producer.asked[0].errback(RuntimeError("disk"))
    wire.empty()
    assert (wire.value(), chat.events.count(("error",))) == (b"500 sorry", 1)
    assert chat.close_detail == "RuntimeError: disk"


def test_a_producer_that_drops_the_queue_and_raises_has_failed_all_the_same(
    logged_failures: Any,
) -> None:
    class Drops:
        def more(self) -> bytes:
            chat.discard_buffers()
            raise ZeroDivisionError

    chat, wire = connected()
    wire.fill()
    chat.push(b"before")
    chat.push_with_producer(Drops())
    wire.empty()
    assert chat.events.count(("error",)) == 1
    assert chat.close_reason == "error"
    assert len(logged_failures()) == 1


def test_an_empty_str_in_an_iterable_means_nothing() -> None:
    chat, wire = connected()
    chat.use_encoding = True
    chat.push_with_producer(["a", "", "b"])
    assert wire.value() == b"ab"


# -- ProducerDrain: a Twisted producer, drained by more() -----------------------------


def test_a_drain_provides_iconsumer() -> None:
    assert verifyObject(IConsumer, ProducerDrain())


def test_a_pull_producer_is_drained_by_more() -> None:
    drain = ProducerDrain()
    drain.registerProducer(PullProducer(drain, b"a", b"b"), False)
    assert [drain.more(), drain.more(), drain.more(), drain.more()] == [b"a", b"b", b"", b""]


def test_what_is_not_there_yet_comes_as_a_deferred() -> None:
    drain = ProducerDrain()
    producer = PushProducer()
    drain.registerProducer(producer, True)
    got: list[bytes] = []
    for _ in range(2):
        more = drain.more()
        assert isinstance(more, Deferred)
        more.addCallback(got.append)
        drain.write(b"x") if not got else drain.unregisterProducer()
    assert got == [b"x", b""]


def test_a_drain_takes_one_producer() -> None:
    drain = ProducerDrain()
    drain.registerProducer(PushProducer(), True)
    with pytest.raises(RuntimeError, match="has or had a producer"):
        drain.registerProducer(PushProducer(), True)


def test_a_drain_refuses_what_is_not_bytes() -> None:
    drain = ProducerDrain()
    with pytest.raises(TypeError, match="what a producer wrote is str"):
        drain.write("text")  # type: ignore[arg-type]


def test_a_stopped_drain_ignores_what_is_still_written() -> None:
    drain = ProducerDrain()
    producer = PushProducer()
    drain.registerProducer(producer, True)
    drain.stop()
    drain.stop()
    drain.write(b"late")
    assert (drain.more(), producer.told) == (b"", ["pause", "stop"])


# -- ProducerSender: a more() producer, written to any consumer ----------------------


class Steps:
    """A cooperator whose steps a test takes."""

    def __init__(self) -> None:
        self.steps: list[Callable[[], object]] = []
        self.cooperate = Cooperator(
            scheduler=self.steps.append,  # type: ignore[arg-type]
            terminationPredicateFactory=lambda: lambda: True,
        ).cooperate

    def take(self, most: int = 1000) -> None:
        while self.steps and most:
            self.steps.pop()()
            most -= 1


def test_a_sender_provides_ipushproducer() -> None:
    assert verifyObject(IPushProducer, ProducerSender([]))


@pytest.mark.parametrize(
    "source",
    [
        lambda: simple_producer(b"all of it", 4),
        lambda: [b"all ", b"of ", b"it"],
        lambda: BytesIO(b"all of it"),
        lambda: async_pieces(b"all ", b"of it"),
    ],
)
def test_a_producer_of_any_kind_is_written_to_a_consumer(source: Callable[[], object]) -> None:
    steps, transport = Steps(), StringTransport()
    done = ProducerSender(source(), steps.cooperate).begin_transfer(transport)
    assert transport.producer is not None
    steps.take()
    assert transport.value() == b"all of it"
    assert transport.producer is None
    assert done.called


def test_a_sender_stops_while_its_consumer_is_full() -> None:
    steps, transport = Steps(), StringTransport()
    sender = ProducerSender(iter([b"a", b"b", b"c"]), steps.cooperate)
    sender.begin_transfer(transport)
    steps.take(1)
    sender.pauseProducing()
    sender.pauseProducing()
    steps.take()
    assert transport.value() == b"a"
    sender.resumeProducing()
    sender.resumeProducing()
    steps.take()
    assert transport.value() == b"abc"


def test_a_sender_drops_its_producer_when_the_consumer_stops_it() -> None:
    steps, file = Steps(), BytesIO(b"x" * 100)
    sender = ProducerSender(file, steps.cooperate)
    done = sender.begin_transfer(StringTransport())
    sender.stopProducing()
    sender.stopProducing()
    failures: list[Any] = []
    done.addErrback(failures.append)
    assert failures[0].check(TaskStopped)
    assert file.closed


def test_what_the_producer_raises_is_what_the_transfer_fails_with() -> None:
    class Broken:
        def more(self) -> Awaitable[bytes]:
            return fail(ZeroDivisionError())

    steps, transport = Steps(), StringTransport()
    done = ProducerSender(Broken(), steps.cooperate).begin_transfer(transport)
    steps.take()
    failures: list[Any] = []
    done.addErrback(failures.append)
    assert failures[0].check(ZeroDivisionError)
    assert transport.producer is None


def test_a_producer_whose_transfer_fails_half_way_is_dropped() -> None:
    class Full(StringTransport):
        def write(self, data: bytes) -> None:
            raise OSError("full")

    steps, file = Steps(), BytesIO(b"x" * 100)
    done = ProducerSender(file, steps.cooperate).begin_transfer(Full())  # type: ignore[no-untyped-call]
    steps.take()
    failures: list[Any] = []
    done.addErrback(failures.append)
    assert failures[0].check(OSError)
    assert file.closed


def test_one_chat_can_send_what_another_consumer_is_sent() -> None:
    # Both directions at once: more() -> IConsumer -> more() -> transport.
    steps = Steps()
    drain = ProducerDrain()
    ProducerSender([b"round ", b"trip"], steps.cooperate).begin_transfer(drain)
    chat, wire = connected()
    chat.push_with_producer(drain)
    steps.take()
    assert wire.value() == b"round trip"


def test_a_deferred_that_has_fired_is_taken_at_once() -> None:
    class Now:
        pieces = [b"a", b""]

        def more(self) -> Deferred[bytes]:
            return succeed(self.pieces.pop(0))

    chat, wire = connected()
    chat.push_with_producer(Now())
    assert wire.value() == b"a"
