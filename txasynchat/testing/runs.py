"""One run of the conformance kit: a new connection, what is done to it, what is seen of it."""

from __future__ import annotations

import gc
import io
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from txasynchat.asyncore import dispatcher
from txasynchat.errors import ChatClosed
from txasynchat.producers import ProducerDrain
from txasynchat.protocol import AsyncChat
from txasynchat.testing.conversations import Conversation, _conversation
from txasynchat.testing.pieces import cut

__all__ = ("Bench", "Result", "Run", "Trouble", "held_by")

#: The limits of a legacy connection, which has none of its own: AsyncChat's. In bytes.
_LIMIT = 65536

#: So many timers in a row, each set by the one before, go on for ever.
_TIMERS = 1000

#: What is not a legacy handler's own memory but its output, which has a limit.
_QUEUES = frozenset({"producer_fifo", "ac_out_buffer", "out_buffer"})

_NOT_FOLLOWED = frozenset({*sys.stdlib_module_names, "twisted", "txasynchat", "zope"})


@dataclass(frozen=True)
class Result:
    """What came of a conversation.

    :ivar output: all that the peer has got, normalised.
    :ivar end: who has closed; "" while it is open.
    :ivar observed: what the user's `observe` has returned.
    """

    output: bytes
    end: str
    observed: Any


@dataclass(frozen=True)
class Trouble:
    """An error.

    :ivar text: with its traceback.
    :ivar is_late: whether it was the handler's at work on a connection that it has closed.
    """

    text: str
    is_late: bool


class Bench:
    """Makes runs of one handler.

    :param factory: what ``connect()`` takes.
    :param seconds: how long the handler may take to answer, on its clock.
    :param normalise: passed the output; returns it without what differs from run to run.
    :param observe: passed the handler; returns what else is to be compared.
    """

    def __init__(
        self,
        factory: Any,
        seconds: float,
        normalise: Callable[[bytes], bytes] | None,
        observe: Callable[[Any], Any] | None,
    ) -> None:
        self.factory = factory
        self.seconds = seconds
        self.normalise = normalise
        self.observe = observe
        #: Where errors go that are logged now.
        self.troubles: list[Trouble] = []
        self._run: Run | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take what is logged: it is about the kit's own connections, and nobody else's."""
        publisher: Any = globalLogPublisher
        before = publisher._observers
        publisher._observers = [self._observe]
        # What is there now is nothing to this handler; looking for garbage in all of it, again
        # and again, would take most of the time.
        freezes = not gc.get_freeze_count()
        if freezes:
            gc.freeze()
        try:
            yield
            gc.collect()  # what is left behind is to be logged now, and not to others later
        finally:
            publisher._observers = before
            if freezes:
                gc.unfreeze()

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) < LogLevel.error:
            return
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            self.note(f"{formatEvent(event)}\n{failure.getTraceback()}", failure)
        else:
            self.note(formatEvent(event))

    def note(self, text: str, failure: Failure | None = None) -> None:
        """Note an error."""
        late = failure is not None and failure.check(ChatClosed) is not None
        run = self._run
        if run is not None and run.is_connected:
            talk = run.talk
            late = late or (talk.close_reason is not None and talk.wire.connected)
        self.troubles.append(Trouble(text.strip(), late))

    @contextmanager
    def run(self, takes: int | None = None) -> Iterator[Run]:
        """A new connection, which ends with the block.

        :param takes: see ``connect()``.
        """
        self.troubles = []
        run = self._run = Run(self, takes)
        try:
            run.open()
            yield run
        finally:
            run.leave()
            self._run = None

    def played(self, sample: Sequence[bytes], places: Sequence[int] = ()) -> Result:
        """What comes of a sample.

        :param places: where in all its bytes it is cut.
        """
        with self.run() as run:
            run.play(sample, places)
            return run.result()


class Run:
    """One connection."""

    def __init__(self, bench: Bench, takes: int | None) -> None:
        self._bench = bench
        self._takes = takes
        self.is_connected: bool = False
        self.talk: Conversation = _conversation(bench.factory)

    def open(self) -> None:
        """Make the connection."""
        talk = self.talk
        connection = talk._inner
        if not isinstance(connection, AsyncChat):
            for limit in ("max_message_length", "max_queued_output"):
                if getattr(connection, limit, _LIMIT) is None:
                    setattr(connection, limit, _LIMIT)
        if self._takes is not None:
            talk.wire.clog(self._takes)
        self.is_connected = True
        self.do(talk.open)

    def do(self, call: Callable[[], object]) -> None:
        """Make a call; what it raises is an error of the handler's."""
        try:
            call()
        except Exception:
            failure = Failure()
            self._bench.note(failure.getTraceback(), failure)
        for failure in self.talk.take_errors():
            if _prints_errors(self.talk.handler):
                self._bench.note(failure.getTraceback(), failure)

    def leave(self) -> None:
        """Take it down."""
        if self.is_connected:
            self.do(self.talk.leave)

    # -- What is done to it -----------------------------------------------------------

    def play(
        self,
        sample: Sequence[bytes],
        places: Sequence[int] = (),
        finishes: bool = False,
        reads: int = 0,
    ) -> None:
        """Say what the peer says.

        :param finishes: whether the peer's end comes with the last bytes.
        :param reads: how many bytes the peer reads at once, of a transport that was clogged.
        """
        starts = [0, *accumulate(len(step) for step in sample)]
        for number, (step, start) in enumerate(zip(sample, starts, strict=False), 1):
            pieces = cut(step, [place - start for place in places])
            if finishes and number == len(sample):
                self.do(partial(self._say_and_finish, step))
            else:
                for piece in pieces:
                    self.receive(piece)
            self.wait()
            if reads:
                self.drain(reads)

    def _say_and_finish(self, step: bytes) -> None:
        self.talk.wire.receive(step)
        self.talk.finish()

    def receive(self, data: bytes) -> None:
        """The peer sends."""
        self.do(lambda: self.talk.receive(data))

    def wait(self) -> None:
        """Let the handler have its time."""
        if self._bench.seconds:
            self.pass_time(self._bench.seconds)

    def pass_time(self, seconds: float) -> None:
        """Let seconds pass."""
        end = self.talk.clock.seconds() + seconds
        for _ in range(2 * _TIMERS):
            left = end - self.talk.clock.seconds()
            due = self._first_due()
            self._advance(left if due is None else min(due, left))
            if left <= 0:
                return

    def _first_due(self) -> float | None:
        # In how many seconds.
        times = [each.getTime() for each in self.talk.clock.getDelayedCalls()]
        return min(times) - float(self.talk.clock.seconds()) if times else None

    def _advance(self, seconds: float) -> None:
        self.do(partial(self.talk.clock.advance, max(seconds, 0)))

    def drain(self, size: int) -> None:
        """The peer reads all there is, `size` bytes at once."""
        while True:
            before = self.sent
            self.do(lambda: self.talk.take(max(size, self.talk.wire.waiting // 1000)))
            if self.sent == before:
                return

    def run_timers_out(self) -> bool:
        """Let all timers run; answers False if that has no end."""
        for _ in range(_TIMERS):
            due = self._first_due()
            if due is None:
                return True
            self._advance(due)
        return False

    # -- What is seen of it --------------------------------------------------------------

    def result(self) -> Result:
        """What has come of it so far."""
        bench, talk = self._bench, self.talk
        output = talk.output
        observed = None
        if bench.observe is not None:
            observed = bench.observe(talk.handler)
        return Result(
            output if bench.normalise is None else bench.normalise(output),
            str(talk.close_reason or ""),
            observed,
        )

    @property
    def sent(self) -> int:
        """How many bytes the peer has got."""
        return len(self.talk._output)

    @property
    def messages(self) -> int | None:
        """How many messages were found; None for who does not count."""
        traffic = self._traffic
        return None if traffic is None else traffic["messages_in"]

    @property
    def _traffic(self) -> Any:
        traffic = getattr(self.talk._inner, "traffic", None)
        return None if traffic is None else traffic()

    def raised(self) -> list[str]:
        """The errors so far, but for those at work on a connection that it has closed."""
        return [each.text for each in self._bench.troubles if not each.is_late]

    @property
    def is_told_of_end(self) -> bool:
        """Whether the handler knows that its connection is gone."""
        talk = self.talk
        if getattr(talk._inner, "_watcher", None) not in (None, talk):
            return True  # it tells somebody else
        if not isinstance(talk._inner, AsyncChat) and talk.handler is not None:
            return talk.handler not in talk.handler._map.values()
        return talk.was_told_of_end

    def held(self) -> int:
        """How much memory the connection takes that no limit is for, in bytes."""
        handler = self.talk.handler
        held = 0 if handler is None else held_by(handler)
        limit = getattr(self.talk._inner, "max_queued_output", None)
        traffic = self._traffic
        queued = 0 if traffic is None else traffic["queued_output"]
        return held + max(0, queued - (0 if limit is None else limit + _LIMIT))

    @property
    def taken(self) -> int:
        """The same, with what its transport was made to take."""
        return self.held() + self.talk.wire.overrun


def _prints_errors(handler: Any) -> bool:
    # AsyncChat logs them; who overrides handle_error() takes them.
    kind = type(handler)
    return isinstance(handler, dispatcher) and kind.handle_error is dispatcher.handle_error


def held_by(handler: Any) -> int:
    """The memory of what a handler keeps in its attributes, in bytes.

    Followed are containers and objects of the user's own classes, but not factories, servers
    and other handlers; nor what the base classes keep.

    >>> from txasynchat import AsyncChat
    >>> chat = AsyncChat()
    >>> before = held_by(chat)
    >>> chat.incoming.append(bytes(5000))
    >>> 5000 < held_by(chat) - before < 5500
    True
    """
    seen: set[int] = set()
    todo: list[Any] = [
        value
        for name, value in getattr(handler, "__dict__", {}).items()
        if name not in _QUEUES and not name.startswith("_txa_")
    ]
    size = 0
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, (bytes, bytearray, str, memoryview)):
            size += sys.getsizeof(each)
        elif isinstance(each, io.BytesIO):
            size += each.getbuffer().nbytes
        elif isinstance(each, dict):
            size += sys.getsizeof(each)
            todo += [*each.keys(), *each.values()]
        elif isinstance(each, (list, tuple, set, frozenset, deque)):
            size += sys.getsizeof(each)
            todo += each
        elif isinstance(each, ProducerDrain) or _is_followed(each):
            todo += vars(each).values()
    return size


def _is_followed(each: Any) -> bool:
    kind = type(each)
    return (
        hasattr(each, "__dict__")
        and not isinstance(each, (type, dispatcher))
        and kind.__module__.partition(".")[0] not in _NOT_FOLLOWED
        and not (IProtocol.providedBy(each) or IProtocolFactory.providedBy(each))
    )
