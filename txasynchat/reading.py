"""Reads: coroutines are given the next bytes of a connection, in between its callbacks."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txasynchat.bridge import BridgedDeferred
from txasynchat.core.framing import Aside, Framer
from txasynchat.core.terminators import Terminator
from txasynchat.errors import IncompleteRead, MessageTooLong

if TYPE_CHECKING:
    from txasynchat.protocol import AsyncChat

__all__ = ("Messages", "Read", "Reader")


class Read(BridgedDeferred[bytes]):
    """What ``read_until()`` and its kin return: fires with the bytes.

    Cancelling it, by ``cancel()``, a timeout or the end of the task that awaits it, leaves
    all that came to the next read, or to the callbacks.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader.cancelled)
        self._reader = reader
        self.is_awaited_by_a_task: bool = False

    def a_task_waits(self) -> None:
        """Whoever awaits this goes on later: until then nobody else is given input."""
        self.is_awaited_by_a_task = True

    def a_task_went_on(self, loop: AbstractEventLoop) -> None:
        """The bytes were taken. The task may read on before anybody else is given input."""
        self._reader.taken()
        loop.call_soon(self._reader.let_go)

    def a_task_gave_up(self, result: Any) -> None:
        """If there are bytes, nobody took them."""
        self._reader.not_taken(result)


class Reader:
    """Who is given a connection's input while coroutines read.

    They read through the connection's one framer. Meanwhile the message that was being given
    to the callbacks is put aside, and its terminator with it.

    :ivar limit: of the read under way, in bytes; None for none.
    :ivar error: what the last read that failed did so with.
    :ivar terminator: of the read under way, or the last one; for messages to people.
    """

    __slots__ = (
        "_aside",
        "_at_once",
        "_beginning",
        "_chat",
        "_fired",
        "_framer",
        "_given_limit",
        "_holding",
        "_owed",
        "_pieces",
        "_read",
        "_untaken",
        "error",
        "limit",
        "terminator",
    )

    def __init__(self, chat: AsyncChat, framer: Framer) -> None:
        self._chat = chat
        self._framer = framer
        self._aside: Aside | None = None
        self._owed = False  # a callback about the message that was put aside
        self._read: Read | None = None
        self._at_once = False  # the first piece will do
        self._pieces: list[bytes] = []
        self._beginning = False
        self._fired = False  # but the task that awaits it has yet to go on
        self._untaken = b""  # what it will take, terminator and all
        self._holding = False  # who was given bytes has had no chance yet to read on
        self._given_limit: object = self  # the limit that the framer was told, for this reader
        self.limit: int | None = None
        self.terminator: Terminator = None
        self.error: Exception | None = None

    # -- For coroutines ------------------------------------------------------------------

    def begin(self, terminator: Terminator, limit: int | None, at_once: bool = False) -> Read:
        """Read up to `terminator`, or with `at_once` what comes next.

        :param limit: the longest message, in bytes; None for any length.
        :raise RuntimeError: if another read is under way.
        """
        if self._read is not None:
            raise RuntimeError(
                f"{self._chat.handler_name} is being read from already: "
                "await the first read before the next, or cancel it"
            )
        framer = self._framer
        if self._aside is None:
            self._owed = framer.owes
            self._aside = framer.put_aside()
        framer.set_terminator(terminator)
        read = self._read = Read(self)
        self.terminator, self._at_once, self.limit = terminator, at_once, limit
        self._beginning = True
        try:
            self._chat.read_on()
        finally:
            self._beginning = False
        if read.called:
            self._holding = True
            self._chat.call_soon(self.let_go)
        return read

    def cancelled(self, read: Deferred[bytes]) -> None:
        """Nobody waits for `read` any more: what came of it is input again."""
        if read is self._read and not self._fired:
            self._framer.put_back(b"".join(self._pieces))
            self._fire(Failure(CancelledError()))

    # -- Whose turn it is ----------------------------------------------------------------

    @property
    def is_reading(self) -> bool:
        """Whether input is wanted."""
        return self._read is not None and not self._fired

    @property
    def is_awaited(self) -> bool:
        """Whether input must wait, as a coroutine that may read on was given the last."""
        return self._fired or self._holding or self._beginning

    @property
    def is_receiver(self) -> bool:
        """Whether the framer delivers to this reader, within the limit of the read."""
        return self._given_limit == self.limit

    def receives(self, limit: object) -> None:
        """The framer delivers to this reader from now on, within `limit`."""
        self._given_limit = limit

    @property
    def aside(self) -> Aside | None:
        """The message of the callbacks, while coroutines have their turn."""
        return self._aside

    def set_terminator(self, terminator: Terminator, max_match: int | None) -> None:
        """Have the callbacks' next byte judged by `terminator`, when it is their turn."""
        assert self._aside is not None
        self._aside = self._framer.with_terminator(self._aside, terminator, max_match)

    def end_turn(self) -> None:
        """The callbacks are given the input that follows."""
        self._given_limit = self
        if self._aside is not None:
            self._framer.take_up(self._aside)
            self._aside = None

    def taken(self) -> None:
        """The task that was given the bytes goes on."""
        self._read, self._fired, self._untaken = None, False, b""
        self._holding = True

    def not_taken(self, result: object) -> None:
        """The task that was given `result` was cancelled before it went on."""
        if self._fired:
            if isinstance(result, bytes):
                self._framer.put_back(self._untaken)
            self.taken()
            self.let_go()

    def let_go(self) -> None:
        """Who was given the last bytes has had its chance to read on."""
        self._holding = False
        if self._read is None:
            self._chat.nobody_reads()

    # -- Called by the framer ------------------------------------------------------------

    def collect_incoming_data(self, data: bytes) -> None:
        """A piece of what is read."""
        if self._at_once:
            self._framer.put_aside()  # each piece is a message of its own
            self._fire(data)
        else:
            self._pieces.append(data)

    def found_terminator(self) -> object:
        """All that is read is there."""
        if self._owed:
            self._owed = False
            return self._chat.found_terminator()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._fire(data, self._framer.matched_bytes)
        return None

    def message_too_long(self) -> None:
        """What is read has outgrown its limit."""
        if self._owed:
            self._owed = False
            self._chat.message_too_long()
            return
        assert self.limit is not None
        self._framer.put_back(b"".join(self._pieces))
        words = f"{self.terminator!r} did not come within {self.limit} bytes"
        self.error = MessageTooLong(words, self.limit)
        self._fire(Failure(self.error))

    # -- The end -------------------------------------------------------------------------

    def read_what_is_left(self) -> None:
        """The input has ended, or the connection: that read is served which can be."""
        if not self.is_reading:
            return
        self._framer.go()
        try:
            self._framer.deliver(self, b"", self.limit)
        finally:
            self._framer.stop()
        self.fail_at_end()

    def fail_at_end(self) -> None:
        """Nothing will come any more."""
        if not self.is_reading:
            return
        if self._at_once:
            self._fire(b"")
            return
        partial = b"".join([*self._pieces, self._framer.unread])
        self._framer.discard()
        wanted = self.terminator
        what = f"{wanted} bytes were" if isinstance(wanted, int) else f"{wanted!r} was"
        words = f"the input ended before {what} there, after {len(partial)} bytes of it"
        self.error = IncompleteRead(words, partial)
        self._fire(Failure(self.error))

    def discard(self) -> None:
        """Forget what came of the read under way."""
        self._pieces.clear()

    def _fire(self, outcome: bytes | Failure, terminator: bytes = b"") -> None:
        read = self._read
        assert read is not None
        self._pieces = []
        if read.is_awaited_by_a_task:
            self._fired = True
            self._untaken = b"" if isinstance(outcome, Failure) else outcome + terminator
        else:
            self._read = None
        if isinstance(outcome, Failure):
            read.errback(outcome)
        else:
            read.callback(outcome)
        if not self.is_reading:
            if self.is_awaited:
                self._framer.stop()
            else:
                self._chat.nobody_reads()


class Messages:
    """What ``async for message in chat.messages()`` goes through."""

    def __init__(self, chat: AsyncChat, terminator: Terminator | str, limit: Any) -> None:
        self._chat = chat
        self._terminator = terminator
        self._limit = limit

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> bytes:
        terminator: Any = self._terminator
        if terminator is None:
            terminator = self._chat.get_terminator()
        try:
            if isinstance(terminator, int) and terminator:
                return await self._chat.read_exactly(terminator)
            return await self._chat.read_until(terminator, self._limit)
        except IncompleteRead as error:
            if error.partial:
                raise
            raise StopAsyncIteration from None
