"""What mask_after() lets through, at every cut of the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import cuts

from txasynchat.masks import Masker, mask_after

#: Pieces of which lines with and without secrets are made, and what is nearly one.
PIECES = [b"PASS ", b"pass ", b"PAS", b"AUTH PLAIN ", b"AUTH ", b"x", b"s3cret", b"\r", b"\n"]


def masked(make: Callable[[], Masker], pieces: list[bytes], direction: str = "in") -> bytes:
    masker = make()
    return b"".join(masker(direction, piece) for piece in pieces)


def secrets_of(data: bytes, end: bytes) -> list[bool]:
    """For each byte whether it is a secret's, by brute force."""
    secret: list[bool] = []
    lines = data.split(end)
    for number, line in enumerate(lines):
        begins = [each for each in (b"pass ", b"auth plain ") if line.lower().startswith(each)]
        clear = len(begins[0]) if begins else len(line)
        secret += [False] * clear + [True] * (len(line) - clear)
        if number < len(lines) - 1:
            secret += [False] * len(end)
    return secret


@given(
    st.sampled_from([b"\r\n", b"\n"]),
    st.lists(st.sampled_from([*PIECES, b"\r\n"]), max_size=12).map(b"".join),
    st.lists(st.integers(0, 200), max_size=12),
)
@example(b"\r\n", b"PASS a\rb\r\nx\r\n", [7, 9])
def test_secrets_are_masked_and_nothing_else_is(end: bytes, data: bytes, places: list[int]) -> None:
    pieces = list(cuts(data, places))
    shown = masked(mask_after(b"PASS ", b"AUTH PLAIN ", end=end), pieces)
    secret = secrets_of(data, end)
    edges = {sum(map(len, pieces[: number + 1])) for number in range(len(pieces))}
    assert len(shown) == len(data)
    for at, byte in enumerate(data):
        if secret[at]:
            assert shown[at : at + 1] == b"*"
        elif shown[at] != byte:
            # Only of an end that was cut, behind a secret.
            assert end.startswith(data[at : at + 1]) and at + 1 in edges


@given(
    st.lists(st.sampled_from([*PIECES, b"\n"]), max_size=12).map(b"".join),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_where_it_was_cut_makes_no_difference_for_an_end_of_one_byte(
    data: bytes, places: list[int]
) -> None:
    make = mask_after(b"PASS ", b"AUTH PLAIN ", end=b"\n")
    assert masked(make, list(cuts(data, places))) == masked(make, [data])


def test_each_direction_has_lines_of_its_own() -> None:
    masker = mask_after(b"PASS ")()
    assert masker("in", b"PASS ") == b"PASS "
    assert masker("out", b"250 go on\r\n") == b"250 go on\r\n"
    assert masker("in", b"x\r\n") == b"*\r\n"


def test_each_connection_has_lines_of_its_own() -> None:
    make = mask_after(b"PASS ")
    assert make()("in", b"PASS a") == b"PASS *"
    assert make()("in", b"a") == b"a"


def test_text_is_refused_at_once() -> None:
    text: Any = "PASS "
    with pytest.raises(TypeError):
        mask_after(text)


@pytest.mark.parametrize(
    ("beginnings", "end"),
    [((), b"\n"), ((b"",), b"\n"), ((b"PASS ",), b""), ((b"PASS\n",), b"\r\n")],
)
def test_what_can_not_be_told_apart_is_refused(beginnings: tuple[bytes, ...], end: bytes) -> None:
    with pytest.raises(ValueError):
        mask_after(*beginnings, end=end)
