"""Callbacks and coroutines take turns on one stream: no byte is lost or seen twice.

A script says who takes the next bytes and how. Whatever it is, and however the stream is cut,
what was taken is the stream, and the same things were taken as from the stream in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from txasynchat import AsyncChat, IncompleteRead, MessageTooLong

ALPHABET = b"ab;\r\n"
Step = tuple[Any, ...]

terminators = st.sampled_from([b";", b"\r\n", b"ab;", b"aab", (b"\r\n", b"\n"), (b"a", b"ab")])
counts = st.integers(1, 6)
steps: Any = st.one_of(
    st.tuples(st.just("callback"), st.one_of(terminators, counts)),
    st.tuples(st.just("until"), terminators),
    st.tuples(st.just("exactly"), counts),
    st.tuples(st.just("limited"), terminators, st.integers(0, 5)),
    st.tuples(st.just("given up"), st.one_of(terminators, counts)),
    st.tuples(st.just("wait")),
)
streams = st.lists(st.sampled_from(ALPHABET), max_size=60).map(bytes)


class Taker(AsyncChat):
    """Takes the stream as the script says.

    ``taken`` is what was taken of it, with the terminators, and ``log`` each message by itself;
    ``partial`` is what was there of the last.
    """

    def __init__(self, script: list[Step]) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater  # type: ignore[method-assign, assignment]
        self.script = iter(script)
        self.log: list[Any] = []
        self.taken = b""
        self.partial: bytes | None = None

    async def follow_script(self) -> None:
        for step, *arguments in self.script:
            if step == "callback":
                self.set_terminator(arguments[0])
                return
            await self.take(step, arguments)
        self.set_terminator(None)

    async def take(self, step: str, arguments: list[Any]) -> None:
        try:
            await getattr(self, step.replace(" ", "_"))(*arguments)
        except IncompleteRead as error:
            self.partial = error.partial
            raise

    async def wait(self) -> None:
        later: Deferred[None] = Deferred()
        self.clock.callLater(1, later.callback, None)
        await later

    async def until(self, terminator: Any, limit: int | None = None) -> None:
        self.note(await self.read_until(terminator, limit))

    async def exactly(self, size: int) -> None:
        self.note(await self.read_exactly(size))

    async def limited(self, terminator: Any, limit: int) -> None:
        try:
            await self.until(terminator, limit)
        except MessageTooLong:
            self.log.append("too long")

    async def given_up(self, what: Any) -> None:
        read = self.read_exactly(what) if isinstance(what, int) else self.read_until(what)
        self.clock.callLater(0.5, read.cancel)
        with suppress(CancelledError):
            self.note(await read)

    def note(self, data: bytes) -> None:
        self.log.append(data)
        self.taken += data + (self.matched or b"")

    def finish(self) -> bytes:
        """All that came, when no more does."""
        waits = self.ac_in_buffer
        self.readConnectionLost()
        self.clock.pump([1] * 100)
        if self.partial is None:
            self.partial = b"".join(self.incoming) + waits
        return self.taken + self.partial


class ByCallback(Taker):
    """A handler whose callback reads on."""

    async def handle_connect(self) -> None:
        await self.follow_script()

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    async def found_terminator(self) -> None:
        self.note(self._get_data())
        await self.follow_script()


class ByConversation(Taker):
    """A handler that is a coroutine; a step of the callbacks' is a read there."""

    async def conversation(self) -> None:
        for step, *arguments in self.script:
            if step == "callback":
                step = "exactly" if isinstance(arguments[0], int) else "until"
            await self.take(step, arguments)
        while data := await self.read():
            self.taken += data
        self.partial = b""


class FromOutside(Taker):
    """A handler beside which a coroutine reads, begun in the middle of messages too."""

    def handle_connect(self) -> None:
        self.next_terminator()

    def next_terminator(self) -> None:
        for step, *arguments in self.script:
            if step == "callback":
                self.set_terminator(arguments[0])
                return
            self.begin_to_read(step, arguments)

    def begin_to_read(self, step: str, arguments: list[Any]) -> None:
        with suppress(RuntimeError):  # somebody reads already
            reading = Deferred.fromCoroutine(self.take(step, arguments))
            reading.addErrback(lambda failure: failure.trap(IncompleteRead, RuntimeError))

    def collect_incoming_data(self, data: bytes) -> None:
        self.taken += data
        step = next(self.script, None)
        if step is not None and step[0] != "callback":
            self.begin_to_read(step[0], list(step[1:]))

    def found_terminator(self) -> None:
        self.taken += self.matched or b""
        self.next_terminator()


def cut(stream: bytes, at: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in at)})
    return (stream[a:b] for a, b in pairwise(places))


def feed(taker: Taker, pieces: Iterator[bytes]) -> tuple[list[Any], bytes]:
    taker.makeConnection(StringTransport())
    for piece in pieces:
        taker.dataReceived(piece)
        taker.clock.pump([1] * 10)
    return taker.log, taker.finish()


def check(kind: type[Taker], script: list[Step], stream: bytes, at: list[int]) -> None:
    log, taken = feed(kind(script), iter([stream]))
    assert taken == stream
    cut_log, cut_taken = feed(kind(script), cut(stream, at))
    assert cut_taken == stream
    if not any(step[0] == "given up" for step in script):  # which is a matter of time
        assert cut_log == log


scripts = st.lists(steps, max_size=12)


@given(scripts, streams, st.lists(st.integers(0, 60), max_size=20))
@settings(max_examples=400, deadline=None)
def test_a_callback_that_reads_takes_the_stream_as_it_is(
    script: list[Step], stream: bytes, at: list[int]
) -> None:
    check(ByCallback, script, stream, at)


@given(scripts, streams, st.lists(st.integers(0, 60), max_size=20))
@settings(max_examples=400, deadline=None)
def test_a_conversation_takes_the_stream_as_it_is(
    script: list[Step], stream: bytes, at: list[int]
) -> None:
    check(ByConversation, script, stream, at)


@given(scripts, streams, st.lists(st.integers(0, 60), max_size=20))
@settings(max_examples=400, deadline=None)
def test_a_coroutine_beside_the_callbacks_takes_no_byte_of_theirs(
    script: list[Step], stream: bytes, at: list[int]
) -> None:
    # When it reads depends on the pieces that the callbacks are given.
    assert feed(FromOutside(script), cut(stream, at))[1] == stream
