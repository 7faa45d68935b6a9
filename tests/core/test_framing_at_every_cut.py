"""A handler sees the same calls however its input is cut into chunks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Calls, Event, cuts, ends_of

from txasynchat.core.framing import Framer
from txasynchat.core.terminators import Terminator

SEARCHED: list[Terminator] = [
    b"\n",
    b"\r\n",
    b"aab",
    b"aaaab",
    b"abab",
    b"abacabad",
    (b"a\n", b"\n"),
    (b"ab", b"b", b"aab"),
    (b"abcd", b"bc", b"\r\n.\r\n"),
    re.compile(rb"\r?\n"),
    re.compile(rb"a{1,3}b|ba"),
    re.compile(rb"(a|ab)(c|bcd)?"),
    re.compile(rb"[^a]b{2,5}?a", re.IGNORECASE),
    re.compile(rb"\d\s?\.", re.DOTALL),
]
TERMINATORS = st.one_of(
    st.sampled_from(SEARCHED),
    st.none(),
    st.integers(0, 6),
    st.text("ab\n", min_size=1, max_size=5).map(str.encode),
    st.lists(st.text("ab\n", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=3).map(
        tuple
    ),
)
STREAMS = st.text("aaabbcd\r\n\n1 .B", max_size=60).map(str.encode)
PLACES = st.lists(st.integers(0, 60), max_size=12)

#: What a handler does when its n-th message ends.
Action = tuple[str, Any]
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("terminator"), TERMINATORS),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("raise"), st.none()),
        st.tuples(st.just("stop"), st.none()),
        st.just(("nothing", None)),
    ),
    max_size=6,
)


class Actor(Calls):
    """Does one thing after another, as its messages end."""

    def __init__(self, framer: Framer, actions: Iterable[Action]) -> None:
        super().__init__()
        self.framer = framer
        self.actions = iter(actions)

    def found_terminator(self) -> None:
        matched = self.framer.matched
        text = matched.group() if isinstance(matched, re.Match) else matched
        self.events.append(("found", text))
        action, argument = next(self.actions, ("nothing", None))
        if action == "terminator":
            self.framer.set_terminator(argument)
        elif action == "look":
            # What is unread depends on the cuts; that one may look does not.
            self.framer.unread  # noqa: B018
        elif action == "raise":
            raise ZeroDivisionError
        elif action == "stop":
            self.framer.stop()


def play(
    terminator: Terminator,
    chunks: Iterable[bytes],
    actions: Iterable[Action] = (),
    limit: int | None = None,
    ask: Callable[[Any], Terminator] | None = None,
) -> tuple[list[Event], bytes, Terminator]:
    framer = Framer()
    framer.set_terminator(terminator)
    actor = Actor(framer, actions)
    for chunk in chunks:
        framer.feed(chunk)
        deliver(framer, actor, limit, ask)
    return actor.events, framer.unread, framer.terminator


def deliver(
    framer: Framer,
    actor: Actor,
    limit: int | None,
    ask: Callable[[Any], Terminator] | None,
) -> None:
    while True:
        try:
            framer.deliver(actor, limit=limit, ask=ask)
        except ZeroDivisionError:
            continue
        if not framer.stopped:
            return
        framer.go()


@settings(max_examples=2500)
@given(TERMINATORS, STREAMS, PLACES, ACTIONS, st.sampled_from([None, None, 1, 4, 10]))
def test_any_handler_sees_the_same_calls_at_every_cut(
    terminator: Terminator,
    stream: bytes,
    places: list[int],
    actions: list[Action],
    limit: int | None,
) -> None:
    byte_by_byte = play(terminator, cuts(stream, range(len(stream))), actions, limit)
    assert play(terminator, [stream] if stream else [], actions, limit) == byte_by_byte
    assert play(terminator, cuts(stream, places), actions, limit) == byte_by_byte


def always(answer: Terminator) -> Callable[[Any], Terminator]:
    return lambda handler: answer


@settings(max_examples=300)
@given(st.sampled_from(SEARCHED), STREAMS, st.integers(1, 8))
def test_an_overridden_get_terminator_sees_the_same_at_every_cut(
    terminator: Terminator, stream: bytes, size: int
) -> None:
    for ask in (always(terminator), always(size)):
        whole = play(None, [stream] if stream else [], ask=ask)
        single = play(None, cuts(stream, range(len(stream))), ask=ask)
        assert whole[:2] == single[:2]


@settings(max_examples=500)
@given(st.sampled_from(SEARCHED), STREAMS, PLACES)
def test_messages_end_where_the_terminator_first_ends(
    terminator: Terminator, stream: bytes, places: list[int]
) -> None:
    expected: list[Event] = []
    rest = stream
    while (found := ends_of(terminator, rest)) is not None:
        end, length = found
        if end > length:
            expected.append(("data", rest[: end - length]))
        expected.append(("found", rest[end - length : end]))
        rest = rest[end:]
    events, unread, _ = play(terminator, cuts(stream, places))
    if events and events[-1][0] == "data":
        unread = events.pop()[1] + unread
    assert events == expected
    assert unread == rest


@pytest.mark.parametrize("terminator", SEARCHED, ids=repr)
def test_every_single_cut_of_one_stream_gives_the_same_calls(terminator: Terminator) -> None:
    stream = b"aab\r\nabacabad\r\n.\r\n1 .Bbba abcd\n" * 2
    whole = play(terminator, [stream])
    for place in range(1, len(stream)):
        assert play(terminator, [stream[:place], stream[place:]]) == whole


@pytest.mark.parametrize(
    ("terminator", "stream", "held"),
    [
        (b"\r\n", b"abc\r", b"\r"),
        (b"\r\n", b"abc", b""),
        ((b"end", b"\n"), b"abcen", b"en"),
        (re.compile(rb"\r?\n"), b"abc", b""),
        (re.compile(rb"\r?\n"), b"abc\r", b"\r"),
        (re.compile(rb"x{2,4}y"), b"abcxxx", b"xxx"),
        (re.compile(rb"x{2,4}y"), b"abcxxxxxx", b"xxxx"),
    ],
)
def test_exactly_what_may_still_become_the_terminator_is_held_back(
    terminator: Terminator, stream: bytes, held: bytes
) -> None:
    for chunks in ([stream], list(cuts(stream, range(len(stream))))):
        events, unread, _ = play(terminator, chunks)
        assert unread == held
        assert events == [("data", stream[: len(stream) - len(held)])]
