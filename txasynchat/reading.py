"""Reads: coroutines are given the next bytes of a connection, in between its callbacks."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txasynchat.bridge import BridgedDeferred, loop_of_task
from txasynchat.core.framing import Aside, Framer
from txasynchat.core.terminators import Terminator
from txasynchat.errors import IncompleteRead, MessageTooLong

if TYPE_CHECKING:
    from txasynchat.protocol import AsyncChat

__all__ = ("Messages", "Read", "Reader")


#: A task of asyncio's that waits by way of others goes on so many turns of the loop later.
_TURNS = 4


class Read(BridgedDeferred[bytes]):
    """What ``read_until()`` and its kin return: fires with the bytes.

    Cancelling it, by ``cancel()``, a timeout or the end of the task that awaits it, leaves
    all that came to the next read, or to the callbacks. So does dropping it before it has
    fired, without having awaited it or added a callback; in a task of asyncio's also later.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader.cancelled)
        self._reader = reader
        self.is_awaited_by_a_task: bool = False

    # From one of these on somebody waits for it.

    def __await__(self) -> Generator[Any, None, bytes]:
        self._reader.keep(self)
        return super().__await__()

    def addCallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """As any Deferred's."""
        self._reader.keep(self)
        return super().addCallbacks(*args, **kwargs)

    def addCallback(self, *args: Any, **kwargs: Any) -> Any:
        """As any Deferred's."""
        self._reader.keep(self)
        return super().addCallback(*args, **kwargs)

    def addErrback(self, *args: Any, **kwargs: Any) -> Any:
        """As any Deferred's."""
        self._reader.keep(self)
        return super().addErrback(*args, **kwargs)

    def addBoth(self, *args: Any, **kwargs: Any) -> Any:
        """As any Deferred's."""
        self._reader.keep(self)
        return super().addBoth(*args, **kwargs)

    def a_task_waits(self) -> None:
        """Whoever awaits this goes on later: until then nobody else is given input."""
        self.is_awaited_by_a_task = True

    def a_task_went_on(self, loop: AbstractEventLoop) -> None:
        """The bytes were taken. The task may read on before anybody else is given input."""
        self._reader.taken(self)
        self._reader.let_go_soon(loop)

    def a_task_gave_up(self, result: Any) -> None:
        """If there are bytes, nobody took them."""
        self._reader.not_taken(self, result)


class Reader:
    """Who is given a connection's input while coroutines read.

    They read through the connection's one framer. Meanwhile the message that was being given
    to the callbacks is put aside, and its terminator with it.

    :ivar has_read: whether any read was given what it wanted.
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
        "_given",
        "_given_limit",
        "_holding",
        "_is_firing",
        "_kept",
        "_loop",
        "_owed",
        "_pieces",
        "_read",
        "_unasked",
        "_untaken",
        "error",
        "has_read",
        "limit",
        "terminator",
    )

    def __init__(self, chat: AsyncChat, framer: Framer) -> None:
        self._chat = chat
        self._framer = framer
        self._aside: Aside | None = None
        self._owed = False  # a callback about the message that was put aside
        # Not kept alive from here but once somebody waits for it: else nobody ever will.
        self._read: ReferenceType[Read] | None = None
        self._kept: Read | None = None
        self._loop: AbstractEventLoop | None = None  # of the task that has begun it, if one has
        self._at_once = False  # the first piece will do
        self._pieces: list[bytes] = []
        self._beginning = False
        self._is_firing = False
        self._fired = False  # but the task that awaits it has yet to go on
        self._untaken = b""  # what it will take, terminator and all
        # The last read, if nobody has asked for what it was given, and that.
        self._unasked: tuple[ReferenceType[Read], bytes] | None = None
        self._holding = False  # who was given bytes has had no chance yet to read on
        self._given = 0  # how often that began, by way of asyncio
        self._given_limit: object = self  # the limit that the framer was told, for this reader
        self.has_read: bool = False
        self.limit: int | None = None
        self.terminator: Terminator = None
        self.error: Exception | None = None

    # -- For coroutines ------------------------------------------------------------------

    def begin(
        self,
        terminator: Terminator,
        limit: int | None,
        max_match: int | None = None,
        at_once: bool = False,
    ) -> Read:
        """Read up to `terminator`, or with `at_once` what comes next.

        :param limit: the longest message, in bytes; None for any length.
        :param max_match: see ``set_terminator()``.
        :raise RuntimeError: if another read is under way.
        """
        self._look_for_dropped()
        if self._read is not None and not self._is_firing:
            raise RuntimeError(
                f"{self._chat.handler_name} is being read from already: "
                "await the first read before the next, or cancel it"
            )
        framer = self._framer
        if self._aside is None:
            self._owed = framer.owes
            self._aside = framer.put_aside()
        framer.set_terminator(terminator, max_match)
        read = Read(self)
        self._read, self._fired, self._untaken = ref(read), False, b""
        self._loop = loop_of_task()
        self.terminator, self._at_once, self.limit = terminator, at_once, limit
        self._beginning = True
        try:
            self._chat.read_on()
        finally:
            self._beginning = False
        if read.called:
            self.let_go_soon(self._loop)
        return read

    def keep(self, read: Read) -> None:
        """Somebody waits for `read`, whoever else drops it."""
        if self._read is not None and self._read() is read:
            self._kept = read
        elif self._unasked is not None and self._unasked[0]() is read:
            self._unasked = None

    def _look_for_dropped(self) -> None:
        # What nobody waited for was not read.
        if self._read is not None and self._read() is None:
            self._read = None
            self._framer.put_back(b"".join(self._pieces))
            self._pieces = []
        if self._unasked is not None:
            (read, data), self._unasked = self._unasked, None
            if read() is None:
                self._framer.put_back(data)

    def cancelled(self, read: Deferred[bytes]) -> None:
        """Nobody waits for `read` any more: what came of it is input again."""
        if self.is_reading and self._read() is read:  # type: ignore[misc]
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
        return self._fired or self._beginning or self._holding

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

    @property
    def is_between_messages(self) -> bool:
        """Whether nothing was delivered of a message that has not ended; to nobody."""
        aside = self._aside
        if aside is not None and (aside.length or aside.begun or aside.skipping or self._owed):
            return False
        return self._framer.is_between_messages

    def taken(self, read: Read) -> None:
        """The task that was given what `read` got goes on."""
        if self._fired and self._read is not None and self._read() is read:
            self._read, self._kept, self._fired, self._untaken = None, None, False, b""

    def not_taken(self, read: Read, result: object) -> None:
        """The task that was given `result` was cancelled before it went on."""
        if self._fired and self._read is not None and self._read() is read:
            if isinstance(result, (bytes, Failure)):  # else a callback has made more of it
                self._framer.put_back(self._untaken)
            self.taken(read)
            self.let_go()

    def let_go_soon(self, loop: AbstractEventLoop | None) -> None:
        """Whoever was given the last bytes may read on before anybody else is given input.

        :param loop: asyncio's, if one of its tasks may be who that is.
        """
        if loop is not None:
            self._given += 1
            self._let_go_in(loop, _TURNS, self._given)
        elif not self._holding:
            self._chat.call_soon(self.let_go)
        self._holding = True

    def _let_go_in(self, loop: AbstractEventLoop, turns: int, given: int) -> None:
        if given != self._given:
            return  # it was given more since
        if turns:
            loop.call_soon(self._let_go_in, loop, turns - 1, given)
        else:
            self.let_go()

    def let_go(self) -> None:
        """Who was given the last bytes has had its chance to read on."""
        self._holding = False
        if self._read is None:
            self._look_for_dropped()
            self._chat.nobody_reads()

    # -- Called by the framer ------------------------------------------------------------

    def collect_incoming_data(self, data: bytes) -> None:
        """A piece of what is read."""
        if self._at_once:
            self._framer.put_aside()  # each piece is a message of its own
            self.has_read = True
            self._fire(data)
        else:
            self._pieces.append(data)

    def found_terminator(self) -> object:
        """All that is read is there."""
        if self._owed:
            self._owed = False
            return self._chat.found_terminator() if self._chat.is_open else None
        self.has_read = True
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._fire(data, self._framer.matched_bytes)
        return None

    def message_too_long(self) -> None:
        """What is read has outgrown its limit."""
        if self._owed:
            self._owed = False
            if self._chat.is_open:
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
        """Forget what came of the read under way, and of the message that was put aside."""
        self._pieces.clear()
        if self.is_reading:
            self._framer.set_terminator(self.terminator, self._framer.max_match)
        if self._aside is not None:
            self._aside = self._aside._replace(length=0, begun=False, skipping=False)

    def _fire(self, outcome: bytes | Failure, terminator: bytes = b"") -> None:
        assert self._read is not None
        read = self._read()
        self._pieces = []
        if read is None:  # it was dropped
            self._read = None
            self._framer.put_back(_as_input(outcome, terminator))
            self._go_on()
            return
        if read.is_awaited_by_a_task:
            self._fired, self._untaken = True, _as_input(outcome, terminator)
        else:
            if self._loop is not None and self._kept is None:  # its task may yet ask, or give up
                self._unasked = (self._read, _as_input(outcome, terminator))
                self.let_go_soon(self._loop)
            self._read = self._kept = None
        self._is_firing = True
        try:
            if isinstance(outcome, Failure):
                read.errback(outcome)
            else:
                read.callback(outcome)
        finally:
            self._is_firing = False
        self._go_on()

    def _go_on(self) -> None:
        if not self.is_reading:
            self._framer.stop()  # who goes on with the input is another question
            if not self.is_awaited:
                self._chat.nobody_reads()


def _as_input(outcome: bytes | Failure, terminator: bytes) -> bytes:
    # What becomes input again if nobody takes it.
    if not isinstance(outcome, Failure):
        return outcome + terminator
    return outcome.value.partial if isinstance(outcome.value, IncompleteRead) else b""


class Messages:
    """What ``async for message in chat.messages()`` goes through."""

    def __init__(
        self, chat: AsyncChat, terminator: Terminator | str, limit: Any, max_match: int | None
    ) -> None:
        self._chat = chat
        self._terminator = terminator
        self._limit = limit
        self._max_match = max_match

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> bytes:
        terminator: Any = self._terminator
        max_match = self._max_match
        if terminator is None:
            terminator = self._chat.get_terminator()
            max_match = self._chat.max_match if terminator is self._chat.terminator else None
        try:
            if isinstance(terminator, int) and terminator:
                return await self._chat.read_exactly(terminator)
            return await self._chat.read_until(terminator, self._limit, max_match)
        except IncompleteRead as error:
            if error.partial:
                raise
            raise StopAsyncIteration from None
