"""Bytes in, handler calls out: the framing rules of asynchat.

Operations this file must support, for a stream cut in any way whatever:

* hand over all that cannot belong to the terminator, at once;
* report the end of each message by the terminator of that moment, which any
  callback may change;
* stop between any two callbacks, and go on from there later;
* show and replace the input not yet consumed.

Cost: each byte received is scanned and copied at most a fixed number of times
(``tests/core/test_framing_cost.py`` counts them), however small the chunks or
the messages. What keeps it so:

* a chunk is never joined to another. What must be remembered between two chunks
  is a position in the terminator's automaton and the few bytes held back;
* the rest of a chunk is never sliced off: an offset moves through it;
* the fast way, one ``split`` for all messages of a chunk, is taken at most once
  for each chunk. When a callback interrupts it, the chunk's rest is searched
  message by message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from operator import length_hint
from typing import Any, Protocol

from txasynchat.core.terminators import Link, Matcher, Terminator, compile_terminator

__all__ = ("Framer", "Handler")


class Handler(Protocol):
    """What the framer calls, as the 3.11 documentation of ``async_chat`` has it."""

    def collect_incoming_data(self, data: bytes, /) -> object:
        """Take a piece of the current message; never empty."""

    def found_terminator(self) -> object:
        """The message has ended."""

    def message_too_long(self) -> object:
        """The message has outgrown the framer's limit; its rest will be dropped."""


class _Due(Enum):
    """The callback that must come before any more input is looked at."""

    FOUND = "found_terminator"
    TOO_LONG = "message_too_long"


def _ignore(result: object) -> None:
    pass


_NOTHING_HELD = Link()
_NEVER_ASKED = object()


class Framer:
    """Cuts a stream of bytes into the calls of a handler.

    The handler is passed to :meth:`deliver` rather than kept, so a framer and
    its handler never form a reference cycle.

    :ivar stopped: True from :meth:`stop` to :meth:`go`.

    >>> class Print:
    ...     def collect_incoming_data(self, data): print("data", data)
    ...     def found_terminator(self): print("found")
    >>> framer = Framer()
    >>> framer.set_terminator(b"\\r\\n")
    >>> framer.feed(b"one\\r\\ntwo\\r")
    >>> framer.deliver(Print())
    data b'one'
    found
    data b'two'
    >>> framer.unread
    b'\\r'
    """

    __slots__ = (
        "_asked",
        "_data",
        "_due",
        "_held",
        "_in_hand",
        "_late",
        "_length",
        "_link",
        "_matched",
        "_matcher",
        "_pieces",
        "_pos",
        "_skipping",
        "_terminator",
        "_unsplit",
        "_walk",
        "stopped",
    )

    def __init__(self) -> None:
        self.stopped = False
        # What ended the last message: the matcher and the bytes it matched.
        self._matched: tuple[Matcher, bytes] | None = None
        self._terminator: Terminator = None
        self._matcher: Matcher | None = None
        self._asked: object = _NEVER_ASKED
        # Input not yet consumed, in order: _held, _data from _pos on, _late.
        self._held = bytearray()
        self._link = _NOTHING_HELD
        self._data = b""
        self._pos = 0
        self._unsplit = False
        self._late: deque[bytes] = deque()
        # The message: bytes collected by a searched terminator, and what is owed.
        self._length = 0
        self._skipping = False
        self._due: _Due | None = None
        # Bytes that are counted already, while the handler is given them.
        self._in_hand = 0
        # While one split of a chunk is walked through: its pieces and the walk.
        self._pieces: list[bytes] = []
        self._walk: Iterator[bytes] | None = None

    # -- The terminator -------------------------------------------------------------

    @property
    def terminator(self) -> Terminator:
        """The current terminator; an int counts down to 0, after each piece."""
        if self._in_hand:
            assert isinstance(self._terminator, int)
            return self._terminator + self._in_hand
        return self._terminator

    @property
    def matched(self) -> Any:
        """What ended the last message: the terminator's bytes, the match object of
        a regex, or None after a counted message."""
        if self._matched is None:
            return None
        matcher, text = self._matched
        return matcher.describe(text)

    def set_terminator(self, terminator: Terminator, max_match: int | None = None) -> None:
        """Judge the next byte by `terminator`. May be called at any moment.

        Arguments and errors are those of
        :func:`~txasynchat.core.terminators.compile_terminator`; after an error
        the old terminator stays.
        """
        compiled = compile_terminator(terminator, max_match)
        self._asked = _NEVER_ASKED
        if isinstance(compiled, int):
            matcher, terminator = None, compiled if terminator else terminator
        elif compiled is self._matcher:
            return
        else:
            matcher, terminator = compiled, compiled.literal or terminator
        self._interrupt()
        self._release_held()
        self._in_hand = 0
        if self._skipping:  # the rest of a message that is too long is judged anew
            self._skipping, self._length = False, 0
        self._terminator = terminator
        self._matcher = matcher
        self._link = _NOTHING_HELD if matcher is None else matcher.root

    def _release_held(self) -> None:
        # What was held back for the old terminator is input like any other.
        # Joined to the rest of the chunk, once for each chunk at the most.
        if self._held:
            rest = self._data[self._pos :]
            self._data, self._pos, self._unsplit = bytes(self._held) + rest, 0, True
            self._held.clear()

    def _adopt(self, answer: Terminator) -> None:
        # An overridden get_terminator() answered. A count that is under way goes
        # on, whether the method names the bytes still missing or the whole.
        if answer == self._terminator or (answer == self._asked and self._terminator):
            return
        self.set_terminator(answer)
        self._asked = answer

    # -- Input ----------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take a chunk received; :meth:`deliver` makes the calls."""
        if self._late or self._pos < len(self._data):
            self._late.append(data)
        else:
            self._data, self._pos, self._unsplit = data, 0, True

    @property
    def unread(self) -> bytes:
        """The input not yet consumed. Assigning replaces it.

        A look from a callback ends the fast way through the chunk.
        """
        self._interrupt()
        return b"".join([self._held, self._data[self._pos :], *self._late])

    @unread.setter
    def unread(self, data: bytes) -> None:
        self._interrupt()
        self._held.clear()
        self._late.clear()
        self._data, self._pos, self._unsplit = bytes(data), 0, True
        self._link = _NOTHING_HELD if self._matcher is None else self._matcher.root

    def discard(self) -> None:
        """Forget the input not yet consumed, and what the current message has counted."""
        self.unread = b""
        self._length = 0
        self._skipping = False

    @property
    def pending(self) -> bool:
        """Whether a call of :meth:`deliver` would find something to do.

        Bytes held back because they may begin a terminator are nothing to do.
        """
        self._interrupt()
        return bool(self._due or self._pos < len(self._data) or self._late)

    def stop(self) -> None:
        """Make no more calls, beginning now, until :meth:`go`."""
        self._interrupt()
        self.stopped = True

    def go(self) -> None:
        """Undo :meth:`stop`. It is for the caller to :meth:`deliver` then."""
        self.stopped = False

    # -- Delivery -------------------------------------------------------------------

    def deliver(
        self,
        handler: Handler,
        limit: int | None = None,
        settle: Callable[[object], None] = _ignore,
        ask: Callable[[], Terminator] | None = None,
    ) -> None:
        """Call `handler` until the input is used up, or :meth:`stop`.

        May be entered again from a callback: the inner call goes on where the
        outer one stands. What a callback raises comes out; the next call goes on
        behind that callback.

        :param limit: the longest message, in bytes, that a searched terminator
            may leave; None for any length.
        :param settle: is passed what ``found_terminator`` returned, unless None.
        :param ask: an overridden ``get_terminator``, asked before each look.
        """
        self._interrupt()
        self._in_hand = 0
        while not self.stopped:
            if self._due is not None:
                self._call_due(handler, settle)
            elif self._pos >= len(self._data):
                if not self._late:
                    return
                self._data, self._pos, self._unsplit = self._late.popleft(), 0, True
            else:
                if ask is not None:
                    self._adopt(ask())
                if self._matcher is None:
                    self._count(handler)
                elif (
                    not self._unsplit
                    or self._matcher.literal is None
                    or self._held
                    or self._skipping
                    or ask is not None
                    or not self._split(handler, self._matcher, limit, settle)
                ):
                    self._search(handler, self._matcher, limit)

    def _call_due(self, handler: Handler, settle: Callable[[object], None]) -> None:
        due, self._due = self._due, None
        if due is _Due.TOO_LONG:
            handler.message_too_long()
        else:
            result = handler.found_terminator()
            if result is not None:
                settle(result)

    def _count(self, handler: Handler) -> None:
        data, pos = self._data, self._pos
        wanted = self._terminator
        end = len(data)
        if wanted:
            assert isinstance(wanted, int)
            end = min(end, pos + wanted)
            self._terminator = wanted - (end - pos)
            self._in_hand = end - pos
            if not self._terminator:
                self._matched = None
                self._length = 0
                self._due = _Due.FOUND
        self._pos = end
        try:
            handler.collect_incoming_data(data[pos:end])
        finally:
            self._in_hand = 0

    def _split(
        self,
        handler: Handler,
        matcher: Matcher,
        limit: int | None,
        settle: Callable[[object], None],
    ) -> bool:
        # All messages of a chunk by one split. While they are walked through, the
        # offset stays at their beginning: _interrupt() works out where they are.
        # Answers False where some message is too long and needs a closer look.
        self._unsplit = False
        data, pos, literal = self._data, self._pos, matcher.literal
        assert literal is not None
        pieces = (data[pos:] if pos else data).split(literal)
        tail = len(data) - len(pieces.pop())
        if pieces:
            if (
                limit is not None
                and len(data) - pos + self._length > limit
                and (len(pieces[0]) + self._length > limit or max(map(len, pieces)) > limit)
            ):
                return False
            self._length = 0
            self._matched = matcher, literal
            self._pieces = pieces
            self._walk = walk = iter(pieces)
            found: _Due | None = _Due.FOUND
            try:
                for piece in walk:
                    if piece:
                        # Owed from now on: whoever interrupts the walk pays it first.
                        self._due = found
                        handler.collect_incoming_data(piece)
                        if self.stopped:
                            return True
                        if self._due is None:
                            break  # paid already, by a call of deliver() from inside
                        self._due = None
                    result = handler.found_terminator()
                    if result is not None:
                        settle(result)
            except BaseException:
                self._interrupt()
                raise
            if self._walk is not walk:
                return True
            self._walk = None
            self._pos = tail
        if tail < len(data):
            self._consume(handler, matcher, len(data), matcher.tail(data, tail), limit)
        return True

    def _interrupt(self) -> None:
        # Ends the walk through a split, if there is one, and moves the offset
        # behind the message at which it stands.
        if self._walk is None:
            return
        assert self._matcher is not None and self._matcher.literal is not None
        done = len(self._pieces) - length_hint(self._walk)
        self._pos += sum(map(len, self._pieces[:done])) + done * len(self._matcher.literal)
        self._pieces.clear()
        self._walk = None

    def _search(self, handler: Handler, matcher: Matcher, limit: int | None) -> None:
        # One look from the offset: to the next match, or to the end of the chunk.
        end, link = matcher.advance(self._data, self._pos, self._link)
        self._consume(handler, matcher, end, link, limit)

    def _consume(
        self, handler: Handler, matcher: Matcher, end: int, link: Link, limit: int | None
    ) -> None:
        # Takes the input up to `end`, where the automaton stands at `link`.
        pos, self._pos = self._pos, end
        piece = self._take(pos, end, link.matched or link.held)
        length = self._length + len(piece)
        if limit is not None and length > limit and not self._skipping:
            room = max(limit - self._length, 0)
            self._put_back(pos, piece[room:])
            self._length, self._link = limit, matcher.root
            self._skipping = True
            self._due = _Due.TOO_LONG
            piece = piece[:room]
        elif link.matched:
            self._matched = matcher, bytes(self._held)
            self._held.clear()
            self._length, self._link = 0, matcher.root
            self._due = None if self._skipping else _Due.FOUND
            if self._skipping:
                self._skipping = False
                return
        else:
            self._length, self._link = length, link
            if self._skipping:
                return
        if piece:
            handler.collect_incoming_data(piece)

    def _take(self, pos: int, end: int, keep: int) -> bytes:
        # Holds back the last `keep` of the bytes held back and data[pos:end];
        # returns those before them.
        data, held = self._data, self._held
        split = end - keep
        if split < pos:
            held += data[pos:end]
            piece = bytes(held[:-keep])
            del held[:-keep]
        else:
            piece = bytes(held) + data[pos:split] if held else data[pos:split]
            held[:] = data[split:end]
        return piece

    def _put_back(self, pos: int, excess: bytes) -> None:
        # What is past the limit, and what is held back behind it, is input again.
        rest = excess + self._held
        self._held.clear()
        if len(rest) <= self._pos - pos:
            self._pos -= len(rest)
        else:
            self._late.appendleft(self._data[self._pos :])
            self._data, self._pos = rest, 0
