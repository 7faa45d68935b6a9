"""Every kind of producer, over every transport, through everything that can happen.

Each row of the table in ``docs/producers.md`` is one test here, run on all four
transports: the outcome must not depend on the transport.

A kind that is synchronous can't be idle, and bytes can't raise: those rows do
not exist.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from support import Chat, Link, turns, until
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.task import deferLater
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

TRANSPORTS = ["tcp", "unix", "tls", "memory"]


class Script:
    """What a producer gives, in order: bytes; a Deferred to wait for; an exception to raise."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.given = 0
        self.dropped = 0
        self.digest = hashlib.sha256()

    def next(self) -> Any:
        """The next step; ``b""`` at the end."""
        if not self.steps:
            return b""
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, bytes):
            self.given += 1
            self.digest.update(step)
        return step


class More:
    def __init__(self, script: Script) -> None:
        self.script = script

    def more(self) -> Any:
        step = self.script.next()
        if isinstance(step, Deferred):
            return step.addCallback(lambda _: self.more())
        return step

    def stop(self) -> None:
        self.script.dropped += 1


@implementer(IPullProducer)
class Pull:
    def __init__(self, script: Script, consumer: Any) -> None:
        self.script = script
        self.consumer = consumer

    def resumeProducing(self) -> None:
        step = self.script.next()
        if isinstance(step, Deferred):
            step.addCallback(lambda _: self.resumeProducing())
        elif step:
            self.consumer.write(step)
        else:
            self.consumer.unregisterProducer()

    def stopProducing(self) -> None:
        self.script.dropped += 1


@implementer(IPushProducer)
class Push:
    def __init__(self, script: Script, consumer: Any) -> None:
        self.script = script
        self.consumer = consumer
        self.paused = False
        self.waiting = False

    def resumeProducing(self) -> None:
        self.paused = False
        while not self.paused and not self.waiting:
            step = self.script.next()
            if isinstance(step, Deferred):
                self.waiting = True
                step.addCallback(self._go_on)
            elif step:
                self.consumer.write(step)
            else:
                self.paused = True
                self.finish()

    def _go_on(self, _: object) -> None:
        self.waiting = False
        if not self.paused:
            self.resumeProducing()

    def finish(self) -> None:
        self.consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True
        self.script.dropped += 1


@implementer(IBodyProducer)
class Body(Push):
    length = 0

    def __init__(self, script: Script) -> None:
        super().__init__(script, None)
        self.done: Deferred[None] = Deferred()

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        try:
            self.resumeProducing()
        except ZeroDivisionError:
            self.done.errback()
        return self.done

    def finish(self) -> None:
        self.done.callback(None)


class File:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.closed = False

    def read(self, size: int) -> Any:
        return self.script.next()

    def close(self) -> None:
        self.script.dropped += bool(self.script.steps) and not self.closed
        self.closed = True


def iterable(script: Script) -> Iterator[bytes]:
    try:
        while step := script.next():
            yield step
    except GeneratorExit:
        script.dropped += 1
        raise


async def async_iterable(script: Script) -> AsyncIterator[bytes]:
    ended = False
    try:
        while step := script.next():
            if isinstance(step, Deferred):
                await step
            else:
                yield step
        ended = True
    except ZeroDivisionError:
        ended = True
        raise
    finally:
        script.dropped += not ended


def push_bytes(chat: Chat, script: Script) -> None:
    while step := script.next():
        chat.push(step)


KINDS: dict[str, Callable[[Chat, Script], object]] = {
    "bytes": push_bytes,
    "more()": lambda chat, script: chat.push_with_producer(More(script)),
    "IPullProducer": lambda chat, script: chat.push_with_producer(Pull(script, chat)),
    "IPushProducer": lambda chat, script: chat.push_with_producer(Push(script, chat)),
    "IBodyProducer": lambda chat, script: chat.push_with_producer(Body(script)),
    "file": lambda chat, script: chat.push_with_producer(File(script)),
    "iterable": lambda chat, script: chat.push_with_producer(iterable(script)),
    "async iterable": lambda chat, script: chat.push_with_producer(async_iterable(script)),
}
SYNCHRONOUS = {"bytes", "file", "iterable"}

over_every_transport = pytest.mark.parametrize("transport", TRANSPORTS)
every_kind = pytest.mark.parametrize("kind", KINDS)
every_producer = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bytes"])
every_kind_that_can_be_idle = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in SYNCHRONOUS]
)

Links = Callable[..., Link]


class BigChat(Chat):
    """On the reactor's clock."""

    def __init__(self, **does: Any) -> None:
        super().__init__(**does)
        del self.callLater


async def opened(link: Links, transport: str, **does: Any) -> Link:
    made = link(transport, BigChat(**does))
    await made.open()
    return made


async def stalled(between: Link, script: Script) -> None:
    """Wait until nothing more is taken: the buffers of the kernel grow for a while."""
    given = -1
    while given != script.given or not between.chat._output._full:
        given = script.given
        await turns(20)


@every_kind
@over_every_transport
async def test_it_drains(kind: str, transport: str, link: Links) -> None:
    between = await opened(link, transport)
    script = Script(b"one ", b"two ", b"three ")
    KINDS[kind](between.chat, script)  # type: ignore[arg-type]
    between.chat.push(b"after")
    await until(lambda: len(between.received) == 19)
    assert between.received == b"one two three after"
    assert script.dropped == 0


@every_kind
@over_every_transport
async def test_the_peer_pauses(kind: str, transport: str, link: Links) -> None:
    between = await opened(link, transport)
    between.pause()
    pieces = [bytes([n]) * 262_144 for n in range(128)]
    script = Script(*pieces)
    between.chat.max_queued_output = None
    KINDS[kind](between.chat, script)  # type: ignore[arg-type]
    await stalled(between, script)
    if kind != "bytes":
        assert script.given < len(pieces), "it is not asked for more than the peer takes"
    between.resume()
    await until(lambda: len(between.received) == 128 * 262_144)
    assert hashlib.sha256(between.received).digest() == script.digest.digest()


@every_kind_that_can_be_idle
@over_every_transport
async def test_it_is_idle(kind: str, transport: str, link: Links) -> None:
    from twisted.internet import reactor

    between = await opened(link, transport)
    gate: Deferred[None] = Deferred()
    KINDS[kind](between.chat, Script(b"one ", gate, b"two "))  # type: ignore[arg-type]
    between.chat.push(b"after")
    await until(lambda: len(between.received) == 4)
    used = time.process_time()
    await deferLater(reactor, 0.2)
    assert time.process_time() - used < 0.1, "an idle producer uses no processor time"
    assert between.received == b"one "
    gate.callback(None)
    await until(lambda: len(between.received) == 13)
    assert between.received == b"one two after"


@every_producer
@over_every_transport
async def test_it_raises(kind: str, transport: str, link: Links, logged_failures: Any) -> None:
    between = await opened(link, transport)
    script = Script(b"one ", ZeroDivisionError("on purpose"), b"two ")
    KINDS[kind](between.chat, script)  # type: ignore[arg-type]
    if between.chat.is_open:
        between.chat.push(b"after")
    assert await between.chat.closed() == "error"
    await until(lambda: between.ended)
    assert between.received == b"one "
    (logged,) = logged_failures()
    assert "on purpose" in logged


@every_kind
@over_every_transport
async def test_the_peer_goes(kind: str, transport: str, link: Links) -> None:
    between = await opened(link, transport)
    between.pause()
    script = Script(*[b"x" * 262_144] * 128)
    between.chat.max_queued_output = None
    KINDS[kind](between.chat, script)  # type: ignore[arg-type]
    await stalled(between, script)
    between.leave()
    assert await between.chat.closed() == "peer"
    assert script.dropped == (kind != "bytes")
    assert between.chat.events.count(("close",)) == 1  # type: ignore[attr-defined]


@every_kind
@over_every_transport
async def test_close_when_done_stands_behind_it(kind: str, transport: str, link: Links) -> None:
    between = await opened(link, transport)
    script = Script(*[b"x" * 100_000] * 20)
    KINDS[kind](between.chat, script)  # type: ignore[arg-type]
    between.chat.close_when_done()
    assert await between.chat.closed() == "handler"
    await until(lambda: between.ended)
    assert len(between.received) == 2_000_000
    assert script.dropped == 0


@every_kind_that_can_be_idle
@over_every_transport
async def test_close_when_done_stands_behind_one_that_stays_idle(
    kind: str, transport: str, link: Links
) -> None:
    between = await opened(link, transport)
    between.chat.close_timeout = 0.1
    script = Script(b"one ", Deferred())
    KINDS[kind](between.chat, script)  # type: ignore[arg-type]
    between.chat.push(b"never")
    between.chat.close_when_done()
    assert await between.chat.closed() == "handler"
    assert script.dropped == 1
    assert "without progress" in between.chat.close_detail


@over_every_transport
async def test_a_close_ends_though_the_peer_never_reads(transport: str, link: Links) -> None:
    between = await opened(link, transport)
    between.chat.close_timeout = 0.3
    between.pause()
    between.chat.push(b"x" * 20_000_000)
    between.chat.close_when_done()
    began = time.monotonic()
    assert await between.chat.closed() == "handler"
    assert 0.25 < time.monotonic() - began < 5
    assert "cut after 0.3 s" in between.chat.close_detail
