"""Fuzzes the framer: programs of terminators, streams, cuts, and callbacks that meddle.

``python fuzz/framing.py -max_total_time=600``; README.md beside it says more. The bytes
of an input are read as choices (:class:`Case`). Whatever they are:

* nothing is lost, doubled or reordered, and the framer's own counts are right;
* where the callbacks act by the number of the message, not by the chunk, they see the
  same whether the stream comes as a whole, byte by byte or cut in any other way;
* what they see is what a reference says that has the whole stream before it and tries
  every place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, TypeAlias

from common import Choices, check, fuzz

from txasynchat.core.framing import Framer
from txasynchat.core.terminators import Terminator

__all__ = ("one_input",)

#: A terminator and the max_match that it is set with.
Asked: TypeAlias = tuple[Terminator, int | None]

#: What a callback does, and with what.
Action: TypeAlias = tuple[str, Any]

Event: TypeAlias = tuple[Any, ...]

#: Of these the streams are, and the terminators that are made up: few, so that they meet.
ALPHABET = b"ab\r\naab.ba\nabcd \x00"

TERMINATORS: tuple[Asked, ...] = (
    (b"\n", None),
    (b"\r\n", None),
    (b"\r\n.\r\n", None),
    (b"aab", None),
    (b"aaaab", None),
    (b"abacabad", None),
    (b"aa", None),
    (b"a" * 40 + b"b", None),
    (b"ab" * 20 + b"c", None),
    ((b"a\n", b"\n"), None),
    ((b"ab", b"b", b"aab"), None),
    ((b"abcd", b"bc", b"\r\n.\r\n"), None),
    ((b"a" * 9, b"a" * 8 + b"b"), None),
    (re.compile(rb"\r?\n"), None),
    (re.compile(rb"a{1,3}b|ba"), None),
    (re.compile(rb"(a|ab)(c|bcd)?"), None),
    (re.compile(rb"[^a]b{2,5}?a", re.IGNORECASE), None),
    (re.compile(rb"(a|b|ab){1,4}\n"), None),
    (re.compile(rb"(aa|aab|.a){3}", re.DOTALL), None),
    (re.compile(rb"a+b"), 6),
    (re.compile(rb"(a*b)+\.", re.DOTALL), 9),
)

LIMITS = (None, None, None, 0, 1, 4, 10, 40)

#: In found_terminator(), for the same result at every cut.
_TAME = ("nothing", "terminator", "look", "raise", "stop", "deliver", "prepend")

#: What depends on the cuts, so that only what was received can be compared.
_WILD = (*_TAME, "discard", "assign", "feed", "deliver more")

#: In collect_incoming_data(): a terminator that was found may be owed there.
_WILD_IN_COLLECT = ("nothing", "terminator", "look", "raise", "stop", "deliver", "feed")

#: Trying every place takes a time that grows with the third power: up to so many bytes.
_SHORT = 64


class Raised(Exception):
    """What the callbacks raise."""


class Case:
    """What an input means."""

    def __init__(self, data: bytes) -> None:
        choices = Choices(data)
        flags = choices.byte()
        self.is_wild = bool(flags & 1)
        self.raw = bool(flags & 2)
        self.asks = bool(flags & 4) and not self.is_wild
        self.joins = bool(flags & 8)
        self.terminator = self._terminator(choices)
        if self.asks and self.terminator[1] is not None:
            self.terminator = (b"\n", None)  # what is answered has no max_match
        self.limit = LIMITS[choices.below(len(LIMITS))]
        self.on_found = self._actions(choices, _WILD if self.is_wild else _TAME)
        self.on_collect = self._actions(choices, _WILD_IN_COLLECT) if self.is_wild else []
        if self.asks:
            self.on_found = [each for each in self.on_found if each[0] in ("look", "raise", "stop")]
        self.stream, self.cuts = self._stream(choices.rest())

    def _terminator(self, choices: Choices) -> Asked:
        kind = choices.below(len(TERMINATORS) + 8)
        if kind < len(TERMINATORS):
            return TERMINATORS[kind]
        kind -= len(TERMINATORS)
        if kind == 0:
            return None, None
        if kind < 4:
            return choices.below(50), None
        if kind < 6:
            return self._text(choices), None
        return tuple(self._text(choices) for _ in range(1 + choices.below(4))), None

    def _text(self, choices: Choices) -> bytes:
        length = 1 + choices.below(12)
        return bytes(ALPHABET[choices.below(len(ALPHABET))] for _ in range(length))

    def _actions(self, choices: Choices, kinds: tuple[str, ...]) -> list[Action]:
        return [self._action(choices, kinds) for _ in range(choices.below(9))]

    def _action(self, choices: Choices, kinds: tuple[str, ...]) -> Action:
        kind = kinds[choices.below(len(kinds))]
        if kind == "terminator":
            return kind, self._terminator(choices)
        if kind in ("prepend", "assign", "feed", "deliver more"):
            return kind, self._text(choices)
        return kind, None

    def _stream(self, data: bytes) -> tuple[bytes, list[int]]:
        # The highest bit of a byte is a cut before it.
        stream = bytes(b & 0x7F if self.raw else ALPHABET[b & 0x0F] for b in data)
        return stream, [at for at, b in enumerate(data) if b & 0x80]


class Player:
    """A handler that does what a case says, and what it has seen."""

    def __init__(self, case: Case) -> None:
        self.framer = Framer(case.joins)
        self.limit = case.limit
        self.ask: Callable[[Any], Terminator] | None = None
        self.framer.set_terminator(*case.terminator)
        if case.asks:
            self.ask = lambda handler: case.terminator[0]
        self.on_found = iter(case.on_found)
        self.on_collect = iter(case.on_collect)
        self.events: list[Event] = []
        self.found = 0
        # All that was given to the framer and not taken back; how much of it came out.
        self.received = b""
        self.consumed = b""

    # -- What the framer calls ----------------------------------------------------------

    def collect_incoming_data(self, data: bytes) -> None:
        """Take a piece."""
        check(type(data) is bytes and data, "a piece is bytes, and never empty", data)
        self.consumed += data
        if self.events and self.events[-1][0] == "data":
            data = self.events.pop()[1] + data
        self.events.append(("data", data))
        self._act(*next(self.on_collect, ("nothing", None)))

    def found_terminator(self) -> None:
        """Note what ended the message, and meddle."""
        matched = self.framer.matched
        text = matched.group() if isinstance(matched, re.Match) else matched
        self.consumed += text or b""
        self.found += 1
        self.events.append(("found", text))
        check(
            self.framer.messages == self.found, "messages are counted", self.framer.messages, self
        )
        self._act(*next(self.on_found, ("nothing", None)))

    def message_too_long(self) -> None:
        """Note it."""
        check(self.limit is not None, "without a limit no message is too long")
        self.events.append(("too long",))

    # -- What it does ---------------------------------------------------------------------

    def _act(self, kind: str, argument: Any) -> None:
        framer = self.framer
        is_settled = self.events[-1][0] == "found"
        if kind == "terminator":
            framer.set_terminator(*argument)
        elif kind == "look":
            unread = framer.unread
            check(
                not (is_settled and self.limit is None) or self.received == self.consumed + unread,
                "what is unread is what did not come out",
                unread,
                self,
            )
        elif kind == "raise":
            raise Raised
        elif kind == "stop":
            framer.stop()
        elif kind in ("deliver", "deliver more"):
            self.deliver(argument or b"")
        elif kind == "feed":
            self.received += argument
            framer.feed(argument)
        elif kind == "discard":
            self.received = self.consumed
            framer.discard()
        elif kind in ("prepend", "assign"):
            rest = argument + framer.unread if kind == "prepend" else argument
            self.received = self.consumed + rest
            framer.unread = rest

    def deliver(self, data: bytes) -> None:
        """Give the framer a chunk, once."""
        self.received += data
        self.framer.deliver(self, data, limit=self.limit, ask=self.ask)

    def play(self, chunks: Iterable[bytes]) -> Player:
        """Give it a stream, going on behind whatever it does to stop the framer."""
        for chunk in chunks:
            data = chunk
            while True:
                try:
                    self.deliver(data)
                except Raised:
                    pass
                else:
                    if not self.framer.stopped:
                        break
                    self.framer.go()
                data = b""
        check(not self.framer.pending, "deliver() leaves nothing to do", self)
        return self

    @property
    def seen(self) -> tuple[Any, ...]:
        """All that may be compared."""
        # What is asked for at each look is adopted when there is something to look at.
        state = None if self.ask else self.framer.terminator
        return self.events, self.framer.unread, state, self.framer.is_between_messages

    def __repr__(self) -> str:
        return (
            f"events={self.events} received={self.received!r} consumed={self.consumed!r} "
            f"terminator={self.framer.terminator!r}"
        )


# -- The promises ------------------------------------------------------------------------


def one_input(data: bytes) -> None:
    """Play what an input means, and check what comes out.

    :raise Finding: if a promise is broken; whatever the framer raises comes out too.
    """
    case = Case(data)
    as_cut = Player(case).play(_pieces(case.stream, case.cuts))
    if case.limit is None:
        check(
            as_cut.received == as_cut.consumed + as_cut.framer.unread,
            "nothing is lost, doubled or reordered",
            as_cut.framer.unread,
            as_cut,
        )
    if case.is_wild:
        return
    for cuts in ((), range(1, len(case.stream))):
        other = Player(case).play(_pieces(case.stream, cuts))
        check(other.seen == as_cut.seen, "cuts make no difference", cuts, other.seen, as_cut.seen)
    if not case.asks:
        _compare(case, as_cut)


def _pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *cuts, len(stream)]
    return [stream[start:end] for start, end in pairwise(edges) if end > start]


def _compare(case: Case, player: Player) -> None:
    made = [argument for kind, argument in case.on_found if kind == "terminator"]
    is_plain = all(isinstance(each, bytes | int | None) for each, _ in (case.terminator, *made))
    if len(case.stream) > _SHORT and not is_plain:
        return
    expected, rest = _reference(case)
    head, tail = player.events[: len(expected)], player.events[len(expected) :]
    check(head == expected, "the reference sees the same", expected, rest, player)
    check(all(each[0] != "found" for each in tail), "no message ends that does not", rest, player)
    come = b"".join(each[1] for each in tail if each[0] == "data")
    if ("too long",) in tail:
        check(tail[-1] == ("too long",) and len(tail) <= 2, "it is too long once", player)
        check(come == rest[: case.limit] and len(rest) > len(come), "cut at the limit", player)
    else:
        check(come + player.framer.unread == rest, "the rest is there", rest, player)


def _reference(case: Case) -> tuple[list[Event], bytes]:
    # The events up to the end of the last complete message, and what is behind it.
    (terminator, longest), rest = case.terminator, case.stream
    actions = iter(case.on_found)
    events: list[Event] = []
    while terminator and (found := _first_end(terminator, longest, rest)) is not None:
        end, text = found
        body = rest[: end - len(text or b"")]
        rest = rest[end:]
        if text is not None and case.limit is not None and len(body) > case.limit:
            events += [("data", body[: case.limit])] if case.limit else []
            events.append(("too long",))
            continue
        events += [("data", body)] if body else []
        events.append(("found", text))
        if text is None:
            terminator = 0  # counted down
        action: Action = next(actions, ("nothing", None))
        kind, argument = action
        if kind == "terminator":
            terminator, longest = argument
        elif kind == "prepend":
            rest = argument + rest
    return events, rest


def _first_end(
    terminator: Terminator, longest: int | None, data: bytes
) -> tuple[int, bytes | None] | None:
    # Where the message ends, behind its terminator; and that. None if it does not.
    if isinstance(terminator, int):
        return (terminator, None) if len(data) >= terminator else None
    if isinstance(terminator, bytes):
        at = data.find(terminator)
        return None if at < 0 else (at + len(terminator), terminator)
    for end in range(1, len(data) + 1):
        for start in range(max(0, end - (longest or end)), end):
            text = data[start:end]
            if text in terminator if isinstance(terminator, tuple) else _matches(terminator, text):
                return end, text
    return None


def _matches(terminator: Any, text: bytes) -> bool:
    return terminator.fullmatch(text) is not None


if __name__ == "__main__":
    fuzz(one_input, ("txasynchat.core",))
