"""The conformance kit finds each of its seeded bugs, and flags no handler that has none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from testing.correct_handlers import Correct, all_correct
from testing.seeded_bugs import SEEDED, Lines, OldLines, OldRaw, Seeded
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from txasynchat import AsyncChat, asyncore
from txasynchat.testing import NotConforming, check_chat_handler, connect

SAMPLE = b"one\nfour\nquit\n"


@pytest.fixture(autouse=True)
def no_channel_is_left() -> Iterator[None]:
    """Close the servers that some modules make as they are imported."""
    yield
    asyncore.close_all(ignore_all=True)


@pytest.mark.parametrize("seeded", SEEDED, ids=str)
def test_a_bug_is_found_by_the_rule_that_is_for_it(seeded: Seeded) -> None:
    findings = check_chat_handler(
        seeded.handler, seeded.sample, seconds=seeded.seconds, raises=False
    )
    assert [each.rule for each in findings] == [seeded.rule]
    assert not asyncore.socket_map


def test_each_rule_has_bugs_of_both_faces() -> None:
    faces = {(each.rule, each.handler.__name__.startswith("Old")) for each in SEEDED}
    rules = {each.rule for each in SEEDED}
    assert len(rules) == 9
    assert faces == {(rule, old) for rule in rules for old in (False, True)}


@pytest.mark.parametrize("correct", list(all_correct()), ids=str)
def test_a_handler_that_keeps_the_rules_is_not_flagged(correct: Correct) -> None:
    factory = correct.factory()
    before = dict(asyncore.socket_map)
    check_chat_handler(factory, *correct.samples, **correct.options)
    assert asyncore.socket_map == before


@pytest.mark.parametrize("handler", [Lines, OldLines, OldRaw])
@pytest.mark.parametrize("sample", [SAMPLE, b"one\nfo", b"one\n", b"", [b"one\n", b"quit\n"]])
def test_any_sample_will_do_for_a_handler_without_a_bug(handler: Any, sample: Any) -> None:
    assert check_chat_handler(handler, sample) == []


# -- Handlers that do unusual things, none of them wrong ------------------------------------


class Slow(Lines):
    """Awaits a timer of its own for each line."""

    idle_timeout = 30

    async def found_terminator(self) -> None:
        line = self._get_data()
        done: Deferred[None] = Deferred()
        self.callLater(2, partial(done.callback, None))  # type: ignore[no-untyped-call]
        await done
        self.push(line.upper() + b"\n")


class Counted(AsyncChat):
    """A length of two digits, then so many bytes: numbers only."""

    def handle_connect(self) -> None:
        self.push(b"ready\n")
        self.in_body = False
        self.set_terminator(2)

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        data = self._get_data()
        self.in_body = not self.in_body
        self.set_terminator(int(data) if self.in_body and data.isdigit() else 2)
        self.push(data)


class Refusing(Lines):
    """Closes on the first thing that it does not like."""

    def answer(self, line: bytes) -> None:
        self.push(b"what?\n")
        self.close_when_done()


class Answering(Lines):
    """Takes its own errors."""

    def answer(self, line: bytes) -> None:
        raise ValueError(line)

    def handle_error(self) -> None:
        self.push(b"what?\n")


class Cutting(Lines):
    def answer(self, line: bytes) -> None:
        self.transport.abortConnection()


class Closing(Lines):
    """Says what it has to say, and closes its transport by itself."""

    def answer(self, line: bytes) -> None:
        self.push_with_producer([line, line])
        self.close_when_done()


class Beating(Lines):
    """Has a heartbeat, and a timer that looks before it speaks."""

    beat: Any = None

    def handle_connect(self) -> None:
        super().handle_connect()
        self.callLater(90, self.look)  # type: ignore[no-untyped-call]
        self.tick()

    def look(self) -> None:
        if self.is_open:
            self.push(b"still there?\n")

    def tick(self) -> None:
        self.beat = self.callLater(20, self.tick)  # type: ignore[no-untyped-call]
        if self.beat.getTime() > 20:
            self.push(b"tick\n")

    def handle_close(self) -> None:
        self.beat.cancel()


class Reading(AsyncChat):
    """Sends back what comes, as it comes."""

    async def conversation(self) -> None:
        while data := await self.read():
            self.push(data)
            await self.drained()


class Conversing(AsyncChat):
    """Has no callbacks at all."""

    async def conversation(self) -> None:
        self.push(b"hello\n")
        async for line in self.messages(b"\n"):
            self.push(line.upper() + b"\n")


@pytest.mark.parametrize(
    "handler",
    [Slow, Counted, Refusing, Answering, Closing, Beating, Conversing, Reading],
)
def test_what_is_unusual_is_not_flagged(handler: Any) -> None:
    assert check_chat_handler(handler, b"05\nhe\n02ab\n", b"one\ntwo\n", seconds=10) == []


def test_one_that_cuts_the_connection_is_not_flagged() -> None:
    assert check_chat_handler(Cutting, b"one\ntwo\n") == []


def test_a_conversation_in_steps_is_cut_inside_of_its_steps_only() -> None:
    class Alternating(Lines):
        """Wants its peer to wait for the answer."""

        def answer(self, line: bytes) -> None:
            self.push(b"too early\n" if self.ac_in_buffer else line)

    assert check_chat_handler(Alternating, [b"one\n", b"two\n"]) == []
    findings = check_chat_handler(Alternating, b"one\ntwo\n", raises=False)
    assert [each.rule for each in findings] == ["chunking"]


# -- What is found, and how it is told --------------------------------------------------------


def seeded(name: str) -> Any:
    (found,) = [each.handler for each in SEEDED if each.handler.__name__ == name]
    return found


def test_the_smallest_difference_is_shown() -> None:
    (finding,) = check_chat_handler(seeded("TakesAPieceForAMessage"), SAMPLE, raises=False)
    assert finding.reproduce == r"talk.receive(b'o')" "\n" r"talk.receive(b'ne\nfour\nquit\n')"
    assert r"expected b'ONE\nFOUR\nQUIT\n'" in finding.what
    assert r"b'NE\nFOUR\nQUIT\n'" in finding.what


@pytest.mark.parametrize("name", ["TakesAPieceForAMessage", "ClosesWithoutWaiting"])
def test_what_is_found_can_be_reproduced(name: str) -> None:
    handler = seeded(name)
    (finding,) = check_chat_handler(handler, SAMPLE, raises=False)
    with connect(handler) as talk:
        exec(finding.reproduce, {"talk": talk})
        assert talk.output != b"ONE\nFOUR\nQUIT\n"


def test_what_is_found_is_raised_with_all_that_helps() -> None:
    with pytest.raises(NotConforming) as caught:
        check_chat_handler(seeded("RemembersEverything"), SAMPLE)
    text = str(caught.value)
    assert text.startswith("RemembersEverything breaks rules")
    assert "queues: what it keeps grows with its input" in text
    assert "bound your own lists" in text
    assert [each.rule for each in caught.value.findings] == ["queues"]


def test_an_error_is_shown_with_its_traceback() -> None:
    (finding,) = check_chat_handler(seeded("DividesByNothing"), SAMPLE, raises=False)
    assert "ZeroDivisionError" in finding.what
    assert "in answer" in finding.what


def test_a_rule_is_skipped_with_a_reason() -> None:
    handler = seeded("RemembersEverything")
    assert check_chat_handler(handler, SAMPLE, skip={"queues": "a test's own"}) == []
    with pytest.raises(ValueError, match="say why"):
        check_chat_handler(handler, SAMPLE, skip={"queues": ""})
    with pytest.raises(ValueError, match="no rule 'nonsense'"):
        check_chat_handler(handler, SAMPLE, skip={"nonsense": "because"})


def test_a_sink_is_compared_by_what_is_observed_of_it() -> None:
    class Sink(Lines):
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def collect_incoming_data(self, data: bytes) -> None:
            self.sizes.append(len(data))

        def found_terminator(self) -> None:
            pass

    skip = {"queues": "a test's own", "endless-message": "a test's own"}
    assert check_chat_handler(Sink, SAMPLE, skip=skip) == []
    with pytest.raises(NotConforming, match="observed: expected"):
        check_chat_handler(Sink, SAMPLE, skip=skip, observe=lambda handler: handler.sizes)


def test_answers_that_differ_each_time_have_to_be_normalised() -> None:
    numbers = count()

    class Numbering(Lines):
        def answer(self, line: bytes) -> None:
            self.push(b"%06d %s" % (next(numbers), line))

    with pytest.raises(ValueError, match="normalise="):
        check_chat_handler(Numbering, b"one\n")
    assert check_chat_handler(Numbering, b"one\n", normalise=lambda output: output[6:]) == []


def test_a_handler_that_is_made_already_is_refused() -> None:
    with pytest.raises(TypeError, match="a connection needs its own"):
        check_chat_handler(Lines(), SAMPLE)


def test_without_a_sample_there_is_nothing_to_check() -> None:
    with pytest.raises(TypeError, match="at least one sample"):
        check_chat_handler(Lines)


def test_what_its_connections_log_is_nobodys_business() -> None:
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    class Observer:
        def __call__(self, event: LogEvent) -> None:
            events.append(event)

    observer = Observer()
    globalLogPublisher.addObserver(observer)
    try:
        check_chat_handler(seeded("DividesByNothing"), SAMPLE, raises=False)
        check_chat_handler(seeded("FailsAtTheEnd"), SAMPLE, raises=False)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert events == []


async def test_it_works_beside_a_running_reactor() -> None:
    assert check_chat_handler(Lines, SAMPLE) == []
    assert check_chat_handler(OldLines, SAMPLE) == []
