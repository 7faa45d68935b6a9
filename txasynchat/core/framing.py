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
  is a position in the terminator's automaton and the few bytes held back, which
  are joined to the next chunk only where they are no more than that;
* the rest of a chunk is sliced off once at the most: an offset moves through it;
* the fast way, one ``split`` for all messages of a chunk, is taken at most once
  for each chunk. When a callback interrupts it, the chunk's rest is searched
  message by message.

What is ordinary is kept short, because it is run for each chunk or each message.
Where nothing is left from before (``_seek``, ``_counts``), a chunk without the
terminator's first byte, or shorter than what is still counted, is handed over as it
is: one look, as for one byte it is many times faster than for two. A message found
by the split costs its two callbacks and what tells :meth:`Framer._interrupt` which
one is being made. All that is rarer is in :meth:`Framer._step`.
``tests/protocol/test_calls_per_message.py`` counts the Python calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from operator import length_hint
from re import Pattern
from typing import Any, NamedTuple, Protocol

from txasynchat.core.terminators import Link, Matcher, Terminator, compile_terminator

__all__ = ("Aside", "Framer", "Handler", "ignore")


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


# By a name of their own: an enumeration's attributes are slow to get on Python 3.10 and 3.11.
_FOUND = _Due.FOUND
_TOO_LONG = _Due.TOO_LONG


# A terminator that is so many bytes away, or more, is found faster by its first byte.
_RARE = 256


def ignore(handler: Any, result: object) -> None:
    """What to do with the result of a callback that is not waited for."""


_NOTHING_HELD = Link()
_NO_PIECES: list[bytes] = []  # while none are walked through; nobody writes to it
_NEVER_ASKED = object()
_NEVER_SET = object()


class Aside(NamedTuple):
    """What a :class:`Framer` knows of a message that another came in between of."""

    terminator: Terminator
    matcher: Matcher | None
    asked: object
    length: int
    begun: bool
    skipping: bool

    @property
    def max_match(self) -> int | None:
        """See :attr:`Framer.max_match`."""
        return _max_match(self.terminator, self.matcher)


def _max_match(terminator: Terminator, matcher: Matcher | None) -> int | None:
    return None if matcher is None or not isinstance(terminator, Pattern) else matcher.longest


class Framer:
    """Cuts a stream of bytes into the calls of a handler.

    The handler is passed to :meth:`deliver` rather than kept, so a framer and
    its handler never form a reference cycle.

    :param joins: whether a chunk is joined to what is left of those before it, as in
        the removed module, rather than queued behind it. To be used where that is rare.
    :ivar received: how many bytes came.
    :ivar stopped: True from :meth:`stop` to :meth:`go`.

    >>> class Print:
    ...     def collect_incoming_data(self, data): print("data", data)
    ...     def found_terminator(self): print("found")
    >>> framer = Framer()
    >>> framer.set_terminator(b"\\r\\n")
    >>> framer.deliver(Print(), b"one\\r\\ntwo\\r")
    data b'one'
    found
    data b'two'
    >>> framer.unread
    b'\\r'
    """

    __slots__ = (
        "_asked",
        "_begun",
        "_counts",
        "_data",
        "_due",
        "_held",
        "_in_hand",
        "_joins",
        "_late",
        "_length",
        "_link",
        "_matched",
        "_matcher",
        "_messages",
        "_pieces",
        "_pos",
        "_prefix",
        "_seek",
        "_skipping",
        "_terminator",
        "_unsplit",
        "_walk",
        "received",
        "stopped",
    )

    def __init__(self, joins: bool = False) -> None:
        self.stopped: bool = False
        self.received: int = 0
        self._joins = joins
        # What ended the last message: the matcher and the bytes it matched; a byte string,
        # which is all the matcher would say of it.
        self._matched: tuple[Matcher, bytes] | bytes | None = None
        self._terminator: Terminator = None
        self._matcher: Matcher | None = None
        self._asked: object = _NEVER_SET
        # Input not yet consumed, in order: what is held back, _data from _pos on, _late. A chunk
        # that is used up is let go: then _data is empty and _pos is 0.
        # How many bytes are held back, and which, unless it is the beginning of a byte string.
        self._held = 0
        self._prefix: bytes | bytearray = b""
        self._link = _NOTHING_HELD
        self._data = b""
        self._pos = 0
        self._unsplit = False
        self._late: deque[bytes] | None = None
        # While nothing is left to be done: the first byte of the terminator, so that a chunk
        # in which it does not occur is known to be from the middle of a message; or how many
        # bytes are counted still, -1 where a byte string has begun. Else None and 0: there may
        # be more to do with what comes.
        self._seek: int | None = None
        self._counts = 0
        # The message: bytes collected by a searched terminator, and what is owed.
        self._length = 0
        self._begun = False  # whether something else was collected of it
        self._skipping = False
        self._due: _Due | None = None
        # Those that ended, but for the ones of a walk under way.
        self._messages = 0
        # Bytes that are counted already, while the handler is given them.
        self._in_hand = 0
        # While one split of a chunk is walked through: its pieces and the walk.
        self._pieces = _NO_PIECES
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
    def max_match(self) -> int | None:
        """What :meth:`set_terminator` takes with the current terminator, if that is a regex."""
        return _max_match(self._terminator, self._matcher)

    @property
    def matched(self) -> Any:
        """What ended the last message: the terminator's bytes, the match object of
        a regex, or None after a counted message."""
        if self._matched is None or isinstance(self._matched, bytes):
            return self._matched
        matcher, text = self._matched
        return matcher.describe(text)

    @property
    def matched_bytes(self) -> bytes:
        """The bytes of the terminator that ended the last message; none after a count."""
        if self._matched is None or isinstance(self._matched, bytes):
            return self._matched or b""
        return self._matched[1]

    @property
    def was_set(self) -> bool:
        """Whether anybody ever said what the terminator is."""
        return self._asked is not _NEVER_SET

    @property
    def messages(self) -> int:
        """How often ``found_terminator`` was called."""
        walk = self._walk  # which may end before the next line: another thread may ask
        return self._messages if walk is None else self._messages + self._walked(walk)

    def _walked(self, walk: Iterator[bytes]) -> int:
        # How many messages of the walk under way were reported.
        done = len(self._pieces) - length_hint(walk)
        return done - (self._due is _FOUND)

    def set_terminator(self, terminator: Terminator, max_match: int | None = None) -> None:
        """Judge the next byte by `terminator`. May be called at any moment.

        Arguments and errors are those of
        :func:`~txasynchat.core.terminators.compile_terminator`; after an error
        the old terminator stays.
        """
        matcher = None
        if type(terminator) is int and terminator > 0 and max_match is None:
            if self._matcher is None:  # one count behind another, as frames have it
                self._asked = _NEVER_ASKED
                self._counts = self._in_hand = 0
                self._terminator = terminator
                return
        elif terminator is self._terminator and type(terminator) is bytes and max_match is None:
            self._asked = _NEVER_ASKED  # the same again, as many set it for each message
            return
        else:
            compiled = compile_terminator(terminator, max_match)
            if isinstance(compiled, int):
                terminator = compiled if terminator else terminator
            elif compiled is self._matcher:
                self._asked = _NEVER_ASKED
                return
            else:
                matcher, terminator = compiled, compiled.literal or terminator
        self._asked = _NEVER_ASKED
        self._seek, self._counts = None, 0
        if self._walk is not None:
            self._interrupt()
        if self._held:
            self._release_held()
        self._in_hand = 0
        if self._skipping:  # the rest of a message that is too long is judged anew
            self._skipping, self._length, self._begun = False, 0, True
        self._terminator = terminator
        self._matcher = matcher
        self._link = _NOTHING_HELD if matcher is None else matcher.root

    def put_aside(self) -> Aside:
        """Begin a message in between: answers what stands of the one under way.

        What is left of the input belongs to the new message, until :meth:`take_up`.
        """
        self._seek, self._counts = None, 0
        if self._walk is not None:
            self._interrupt()
        if self._held:
            self._release_held()
        message = (self._length, self._begun, self._skipping)
        aside = Aside(self._terminator, self._matcher, self._asked, *message)
        self._length, self._begun, self._skipping = 0, False, False
        self._link = _NOTHING_HELD if self._matcher is None else self._matcher.root
        return aside

    @staticmethod
    def with_terminator(aside: Aside, terminator: Terminator, max_match: int | None) -> Aside:
        """What was put aside, but with another terminator; see :meth:`set_terminator`."""
        other = Framer()
        other.set_terminator(terminator, max_match)
        if other._matcher is not None and other._matcher is aside.matcher:
            return aside._replace(asked=_NEVER_ASKED)
        if aside.skipping:
            aside = aside._replace(length=0, begun=True, skipping=False)
        return aside._replace(
            terminator=other._terminator, matcher=other._matcher, asked=_NEVER_ASKED
        )

    def take_up(self, aside: Aside) -> None:
        """Go on with the message that was :meth:`put_aside`."""
        self.set_terminator(None)  # which gives up what is held back for the present one
        self._terminator, matcher, self._asked = aside.terminator, aside.matcher, aside.asked
        self._matcher = matcher
        self._link = _NOTHING_HELD if matcher is None else matcher.root
        self._length, self._begun, self._skipping = aside.length, aside.begun, aside.skipping

    def put_back(self, data: bytes) -> None:
        """Forget that `data` was delivered, as the message under way: it is input again."""
        rest = data + self.unread
        self.discard()
        self.unread = rest

    def _release_held(self) -> None:
        # What was held back for the old terminator is input like any other.
        # Joined to the rest of the chunk, once for each chunk at the most.
        rest = self._data[self._pos :]
        self._data, self._pos, self._unsplit = self._held_bytes() + rest, 0, True
        self._held = 0

    def _held_bytes(self) -> bytes:
        matcher = self._matcher
        if not self._held or matcher is None:
            return b""
        return bytes(self._prefix) if matcher.literal is None else matcher.literal[: self._held]

    def _adopt(self, answer: Terminator) -> None:
        # An overridden get_terminator() answered. A count that is under way goes
        # on, whether the method names the bytes still missing or the whole.
        if answer == self._terminator:
            if self._asked is _NEVER_ASKED:
                self._asked = answer
        elif answer != self._asked or not self._terminator:
            self.set_terminator(answer)
            self._asked = answer

    # -- Input ----------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take a chunk received, behind those before; :meth:`deliver` makes the calls."""
        self.received += len(data)
        self._append(data)

    def _append(self, data: bytes) -> None:
        self._seek, self._counts = None, 0
        if not (self._data or self._late):
            self._data, self._unsplit = data, True
        elif self._joins:
            self.unread += data
        elif data:
            self._late = self._late or deque()
            self._late.append(data)

    @property
    def unread(self) -> bytes:
        """The input not yet consumed. Assigning replaces it.

        A look from a callback ends the fast way through the chunk.
        """
        self._interrupt()
        return b"".join([self._held_bytes(), self._data[self._pos :], *(self._late or ())])

    @unread.setter
    def unread(self, data: bytes) -> None:
        self._seek, self._counts = None, 0
        if self._walk is not None:
            self._interrupt()
        self._held = 0
        self._late = None
        self._data, self._pos, self._unsplit = bytes(data), 0, True
        self._link = _NOTHING_HELD if self._matcher is None else self._matcher.root

    def discard(self) -> None:
        """Forget the input not yet consumed, and what the current message has counted."""
        self.unread = b""
        self._length = 0
        self._begun = self._skipping = False

    @property
    def pending(self) -> bool:
        """Whether a call of :meth:`deliver` would find something to do.

        Bytes held back because they may begin a terminator are nothing to do.
        """
        if self._walk is not None:
            self._interrupt()
        return bool(self._due or self._data or self._late)

    @property
    def owes(self) -> bool:
        """Whether a message has ended whose ``found_terminator`` was not called yet."""
        return self._due is not None

    @property
    def is_between_messages(self) -> bool:
        """Whether nothing of a message was delivered or is held back, and no call is owed."""
        if self._walk is not None:
            self._interrupt()
        begun = self._length or self._begun or self._skipping or self._held
        return not begun and self._due is None

    def stop(self) -> None:
        """Make no more calls, beginning now, until :meth:`go`."""
        self._seek, self._counts = None, 0
        if self._walk is not None:
            self._interrupt()
        self.stopped = True

    def go(self) -> None:
        """Undo :meth:`stop`. It is for the caller to :meth:`deliver` then."""
        self.stopped = False

    # -- Delivery -------------------------------------------------------------------

    def deliver(
        self,
        handler: Handler,
        data: bytes = b"",
        limit: int | None = None,
        settle: Callable[[Any, object], None] = ignore,
        ask: Callable[[Any], Terminator] | None = None,
    ) -> None:
        """Call `handler` until the input is used up, or :meth:`stop`.

        May be entered again from a callback: the inner call goes on where the
        outer one stands. What a callback raises comes out; the next call goes on
        behind that callback.

        :param data: a chunk received, as for :meth:`feed`.
        :param limit: the longest message, in bytes, that a searched terminator
            may leave; None for any length.
        :param settle: called with `handler` and what ``found_terminator`` returned,
            unless that is None.
        :param ask: called with `handler` before each look: an overridden
            ``get_terminator``.
        """
        size = len(data)
        self.received += size
        seek = self._seek
        if seek is not None and size and ask is None:
            # Nothing is left of what came before: the chunk has the terminator's first byte,
            # or is from the middle of a message.
            if seek not in data:
                length = self._length + size
                if limit is None or length <= limit:
                    self._length = length
                    handler.collect_incoming_data(data)
                    if self._seek is not None:
                        return
                    data, seek = b"", None
        elif 0 < size < self._counts and ask is None:
            # Nothing is left either: it is from the middle of a counted message.
            self._counts = self._terminator = self._counts - size
            self._in_hand = size
            self._begun = True
            try:
                handler.collect_incoming_data(data)
            finally:
                self._in_hand = 0
            if self._counts:
                return
            data = b""
        elif self._counts < 0 and size and ask is None:
            # Nor here: it may be from the middle of the terminator.
            found: Any = self._matcher
            held = self._held + size
            if held < len(found.literal) and found.literal.startswith(data, self._held):
                self._held, self._link = held, found.path[held]
                return
            seek = None
        else:
            seek = None
        self._seek = None
        if seek is not None:
            self._data, self._unsplit = data, False
        else:
            self._counts = self._in_hand = 0
            if self._walk is not None:
                self._interrupt()
            if self._data or self._late:
                self._append(data)
            else:
                self._data, self._unsplit = data, True
        while True:
            if seek is not None:
                seek = None  # the chunk as it came
            elif not (self._data or self._due is not None or self._late) or self.stopped:
                break
            elif self._step(handler, limit, settle, ask):
                data, self._unsplit = self._data, False
                size = len(data)
            else:
                continue
            # All messages of a chunk by one split.
            matcher: Matcher = self._matcher  # type: ignore[assignment]
            literal: bytes = matcher.literal  # type: ignore[assignment]
            near = limit is not None and self._length + size > limit
            pieces = data.split(literal) if size < _RARE else matcher.split(data, _RARE)
            rest = pieces.pop()
            if pieces:
                if near and self._has_longer(pieces, size, limit):
                    continue  # one by one, with a closer look
                self._length = 0
                self._begun = False
                self._matched = literal
                if len(pieces) > 1:
                    if not self._walk_through(handler, pieces, settle):
                        continue
                else:  # as most short chunks have it: there is nothing to walk through
                    self._data = rest
                    piece = pieces[0]
                    if piece:
                        self._due = _FOUND
                        handler.collect_incoming_data(piece)
                        if self._due is None or self.stopped:
                            continue
                        self._due = None
                    self._messages += 1
                    result = handler.found_terminator()
                    if result is not None:
                        settle(handler, result)
                    if self._data is not rest or self._matcher is not matcher or self.stopped:
                        continue
                    if self._length or self._skipping:
                        continue  # a message that was put aside goes on
            if not rest:
                self._data = b""
            elif near or rest[-1] in matcher.inner:
                self._end_chunk(handler, matcher, rest, limit)
            else:
                self._data = b""
                self._length += len(rest)
                handler.collect_incoming_data(rest)
        if not self.stopped:
            # What may be handed over without a closer look from now on?
            found = self._matcher
            if found is None:
                self._counts = self._terminator or 0  # type: ignore[assignment]
            elif not self._skipping:
                if not self._held:
                    self._seek = found.first
                elif found.literal is not None:
                    self._counts = -1

    def _has_longer(self, pieces: list[bytes], size: int, limit: int | None) -> bool:
        # Whether a message outgrows the limit, the first with what was collected of it.
        assert limit is not None
        if len(pieces[0]) + self._length > limit:
            return True
        return size > limit and max(map(len, pieces)) > limit

    def _step(
        self,
        handler: Handler,
        limit: int | None,
        settle: Callable[[Any, object], None],
        ask: Callable[[Any], Terminator] | None,
    ) -> bool:
        # Gets on by a call of the handler or two, or more. Answers whether there is a chunk
        # instead that may be split.
        if self._due is None:
            if not self._data:
                assert self._late
                self._data, self._unsplit = self._late.popleft(), True
            if ask is not None:
                self._adopt(ask(handler))
                if self.stopped or not self._data:
                    return False
            matcher = self._matcher
            if matcher is None:
                self._count(handler, settle, ask is not None)
            elif not self._unsplit or self._skipping or ask is not None or matcher.literal is None:
                self._search(handler, matcher, limit)
            elif self._held:
                self._go_on(handler, matcher, matcher.literal, limit)
            else:
                if self._pos:
                    self._data, self._pos = self._data[self._pos :], 0
                return True
            if self._due is None or self.stopped:  # type: ignore[unreachable]
                return False
        due, self._due = self._due, None
        if due is _TOO_LONG:
            handler.message_too_long()
        else:
            self._messages += 1
            result = handler.found_terminator()
            if result is not None:
                settle(handler, result)
        return False

    def _count(self, handler: Handler, settle: Callable[[Any, object], None], asks: bool) -> None:
        # The counted messages of a chunk; one, where the terminator is asked for.
        data, size = self._data, len(self._data)
        while True:
            pos, wanted = self._pos, self._terminator or 0
            end: int = pos + wanted  # type: ignore[operator]
            if not wanted or end > size:
                self._count_part(handler, data[pos:] if pos else data)
                return
            if end < size:
                self._pos = end
                piece = data[pos:end]
            else:
                self._data, self._pos = b"", 0
                piece = data[pos:] if pos else data
            self._length, self._begun, self._due, self._matched = 0, False, _FOUND, None
            self._terminator, self._in_hand = 0, wanted  # type: ignore[assignment]
            try:
                handler.collect_incoming_data(piece)
            finally:
                self._in_hand = 0
            if self._due is None or self.stopped:
                return
            self._due = None
            self._messages += 1
            result = handler.found_terminator()
            if result is not None:
                settle(handler, result)
            if self._data is not data or self._matcher is not None or self.stopped or asks:
                return

    def _count_part(self, handler: Handler, piece: bytes) -> None:
        # The chunk's end: of a message that goes on.
        self._data, self._pos = b"", 0
        self._begun = True
        if self._terminator:
            self._in_hand = len(piece)
            self._terminator -= len(piece)  # type: ignore[operator]
        try:
            handler.collect_incoming_data(piece)
        finally:
            self._in_hand = 0

    def _walk_through(
        self, handler: Handler, pieces: list[bytes], settle: Callable[[Any, object], None]
    ) -> bool:
        # Messages that one split has found. Meanwhile the offset stays at their beginning:
        # _interrupt() works out where they are, and empties the list. Answers False then.
        self._pieces = pieces
        self._walk = walk = iter(pieces)
        count, found = len(pieces), _FOUND
        try:
            for piece in walk:
                if piece:
                    # Owed from now on: whoever interrupts the walk pays it first.
                    self._due = found
                    handler.collect_incoming_data(piece)
                    if not pieces:
                        return False
                    self._due = None
                result = handler.found_terminator()
                if result is not None:
                    settle(handler, result)
        except BaseException:
            self._interrupt()
            raise
        if not pieces:
            return False
        self._walk = None
        self._pieces = _NO_PIECES
        self._messages += count
        return True

    def _go_on(self, handler: Handler, matcher: Matcher, literal: bytes, limit: int | None) -> None:
        # A byte string that was begun: it ends here; or not. Then what was held back is joined
        # to the chunk where that is no less, so that each byte is copied once more at the most;
        # or the automaton goes on byte by byte.
        data, pos, held = self._data, self._pos, self._held
        missing, size = len(literal) - held, len(data) - pos
        if (
            size >= missing
            and literal.endswith(data[pos : pos + missing])
            and (limit is None or self._length <= limit)  # which may have been lowered
        ):
            self._held, self._link = 0, matcher.root
            self._length, self._begun = 0, False
            self._matched = literal
            self._due = _FOUND
            self._data, self._pos = data[pos + missing :], 0
        elif held <= size:
            self._release_held()
            self._link = matcher.root
        else:
            self._search(handler, matcher, limit)

    def _end_chunk(
        self, handler: Handler, matcher: Matcher, rest: bytes, limit: int | None
    ) -> None:
        # The end of a chunk that may begin the terminator, or outgrow the limit. Nothing is
        # held back yet.
        link = matcher.tail(rest, 0)
        keep = link.held
        length = self._length + len(rest) - keep
        if limit is not None and length > limit:
            self._pos = len(self._data) - len(rest)
            self._consume(handler, matcher, len(self._data), link, limit)
            return
        self._data, self._length = b"", length
        if keep:
            self._held, self._link = keep, link
            rest = rest[:-keep]
        if rest:
            handler.collect_incoming_data(rest)

    def _interrupt(self) -> None:
        # Ends the walk through a split, if there is one, and moves the offset
        # behind the message at which it stands.
        if self._walk is None:
            return
        assert self._matcher is not None and self._matcher.literal is not None
        self._messages += self._walked(self._walk)
        done = len(self._pieces) - length_hint(self._walk)
        pos = self._pos + sum(map(len, self._pieces[:done])) + done * len(self._matcher.literal)
        self._move_to(pos)
        self._pieces.clear()  # ends the walk's iterator
        self._pieces = _NO_PIECES
        self._walk = None

    def _move_to(self, pos: int) -> None:
        if pos < len(self._data):
            self._pos = pos
        else:
            self._data, self._pos = b"", 0

    def _search(self, handler: Handler, matcher: Matcher, limit: int | None) -> None:
        # One look from the offset: to the next match, or to the end of the chunk.
        end, link = matcher.advance(self._data, self._pos, self._link)
        self._consume(handler, matcher, end, link, limit)

    def _consume(
        self, handler: Handler, matcher: Matcher, end: int, link: Link, limit: int | None
    ) -> None:
        # Takes the input up to `end`, where the automaton stands at `link`.
        data, pos = self._data, self._pos
        piece = self._take(matcher.literal, pos, end, link.matched or link.held)
        self._move_to(end)
        length = self._length + len(piece)
        if limit is not None and length > limit and not self._skipping:
            room = max(limit - self._length, 0)
            self._put_back(data, pos, end, piece[room:])
            self._length, self._link = limit, matcher.root
            self._skipping = True
            self._due = _TOO_LONG
            piece = piece[:room]
        elif link.matched:
            self._matched = matcher.literal or (matcher, self._held_bytes())
            self._held = 0
            self._length, self._link = 0, matcher.root
            self._begun = False
            self._due = None if self._skipping else _FOUND
            if self._skipping:
                self._skipping = False
                return
        else:
            self._length, self._link = length, link
            if self._skipping:
                return
        if piece:
            handler.collect_incoming_data(piece)

    def _take(self, literal: bytes | None, pos: int, end: int, keep: int) -> bytes:
        # Holds back the last `keep` of the bytes held back and data[pos:end];
        # returns those before them.
        data, held, self._held = self._data, self._held, keep
        if literal is not None:
            more = held + end - pos - keep
            if more <= held:
                return literal[:more]
            piece = data[pos : pos + more - held]
            return literal[:held] + piece if held else piece
        prefix = self._prefix
        if not isinstance(prefix, bytearray):
            prefix = self._prefix = bytearray()
        elif not held:
            prefix.clear()
        split = end - keep
        if split >= pos:
            piece = bytes(prefix) + data[pos:split] if prefix else data[pos:split]
            prefix[:] = data[split:end]
            return piece
        prefix += data[pos:end]
        piece = bytes(prefix[:-keep])
        del prefix[:-keep]
        return piece

    def _put_back(self, data: bytes, pos: int, end: int, excess: bytes) -> None:
        # What is past the limit, and what is held back behind it, is input again.
        rest = excess + self._held_bytes()
        self._held = 0
        if len(rest) <= end - pos:
            self._data, self._pos = data, end - len(rest)
            return
        if end < len(data):
            self._late = self._late or deque()
            self._late.appendleft(data[end:])
        self._data, self._pos = rest, 0
