"""Terminators that are searched for: regexes against brute force, and the old helper."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import cuts, ends_of

from txasynchat.core.terminators import Matcher, compile_terminator, find_prefix_at_end

ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\d", r"[\w]", r"\s", "[a-c]", r"\x00"])


def patterns(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(parts, parts).map("".join),
        st.tuples(parts, parts).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(parts, st.sampled_from(["?", "??", "{1,2}", "{2}", "{0,3}", "{0,2}?"])).map(
            "(?:{0[0]}){0[1]}".format
        ),
        parts.map("({})".format),
    )


PATTERNS = st.recursive(ATOMS, patterns, max_leaves=6)


def first_end(matcher: Matcher, chunks: list[bytes]) -> tuple[int, int] | None:
    link, before = matcher.root, 0
    for chunk in chunks:
        end, link = matcher.advance(chunk, 0, link)
        if link.matched:
            return before + end, link.matched
        before += len(chunk)
    return None


@settings(max_examples=1500)
@given(
    PATTERNS,
    st.sampled_from([0, re.IGNORECASE, re.DOTALL, re.VERBOSE]),
    st.text("aabbcAB1 \n\x00", max_size=24).map(str.encode),
    st.lists(st.integers(0, 24), max_size=4),
)
def test_a_regex_ends_where_its_first_match_does(
    pattern: str, flags: int, stream: bytes, places: list[int]
) -> None:
    compiled = re.compile(pattern.encode(), flags)
    assume(not compiled.fullmatch(b""))
    matcher = compile_terminator(compiled)
    assert isinstance(matcher, Matcher)
    assert first_end(matcher, list(cuts(stream, places))) == ends_of(compiled, stream)


@settings(max_examples=500)
@given(
    st.sampled_from([rb"ab+", rb"a[^b]*b", rb"(ab|a)*b", rb"a+?b+", rb"b.*a"]),
    st.integers(2, 6),
    st.text("aabbc", max_size=24).map(str.encode),
    st.lists(st.integers(0, 24), max_size=4),
)
def test_max_match_bounds_a_regex_that_has_no_longest_match(
    pattern: bytes, longest: int, stream: bytes, places: list[int]
) -> None:
    compiled = re.compile(pattern)
    matcher = compile_terminator(compiled, max_match=longest)
    assert isinstance(matcher, Matcher)
    assert first_end(matcher, list(cuts(stream, places))) == ends_of(compiled, stream, longest)


def test_max_match_shorter_than_any_match_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3, its shortest match"):
        compile_terminator(re.compile(rb"abc+"), max_match=2)


def test_max_match_beyond_what_is_searched_for_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 256"):
        compile_terminator(re.compile(rb"abc+"), max_match=257)


def test_a_tuple_with_something_else_in_it_is_refused() -> None:
    with pytest.raises(TypeError, match="holds bytes, not bytearray"):
        compile_terminator((b"a", bytearray(b"b")))


def test_max_match_is_for_a_regex_only() -> None:
    with pytest.raises(TypeError, match="regex"):
        compile_terminator(b"abc", max_match=2)


def test_a_regex_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="bound its repeats"):
        compile_terminator(re.compile(rb"a{1,100000}b"))
    with pytest.raises(ValueError, match="too large"):
        compile_terminator(re.compile(rb"(?:a{50}|b{60}){3}"))


@pytest.mark.parametrize("pattern", [rb"a[ab]{14}c", rb"[a-z]{1,250}\n"])
def test_no_peer_can_make_the_automaton_of_a_regex_grow_without_bound(pattern: bytes) -> None:
    matcher = compile_terminator(re.compile(pattern))
    assert isinstance(matcher, Matcher)
    link = matcher.root
    seed = 1
    for _ in range(20_000):
        seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
        link = link[b"ab"[seed >> 16 & 1]]
    positions = matcher.root.positions  # type: ignore[attr-defined]
    remembered = sum(1 + len(each.threads) for each in positions._links.values())
    assert 0 < remembered <= 32768


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [(rb"(?:a+)+\n", 100), (rb"(a|aa){1,40}b", None), (rb"[ a]*\r?\n", 100), (rb"a[^>]*>", 16)],
)
def test_a_regex_never_backtracks(pattern: bytes, longest: int | None) -> None:
    # With a search that does, the first of these would not end in a lifetime.
    matcher = compile_terminator(re.compile(pattern), longest)
    assert isinstance(matcher, Matcher)
    assert matcher.advance(b"a" * 5000, 0, matcher.root)[0] == 5000


@pytest.mark.parametrize(
    ("haystack", "needle", "length"),
    [
        (b"qwerty\r", b"\r\n", 1),
        (b"qwertydkjf", b"\r\n", 0),
        (b"qwerty\r\n", b"\r\n", 0),
        (b"aaaa", b"aaab", 3),
        (b"", b"ab", 0),
        (b"a", b"", 0),
    ],
)
def test_find_prefix_at_end_counts_what_begins_the_needle(
    haystack: bytes, needle: bytes, length: int
) -> None:
    assert find_prefix_at_end(haystack, needle) == length
    assert find_prefix_at_end(haystack.decode(), needle.decode()) == length


@given(
    st.binary(min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 600), st.sampled_from([0, 1, 2, 4]))),
)
def test_the_split_for_long_messages_is_the_ordinary_one(
    terminator: bytes, parts: list[tuple[int, int]]
) -> None:
    # Runs of what begins no terminator, and beginnings of it, short or whole.
    filler = bytes([terminator[0] ^ 1])
    data = b"".join(filler * length + terminator[:begun] for length, begun in parts)
    matcher = compile_terminator(terminator)
    assert isinstance(matcher, Matcher)
    assert matcher.split(data, 256) == data.split(terminator)
