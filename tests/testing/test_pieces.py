"""A stream of bytes is cut in all the ways in which it may arrive."""

from __future__ import annotations

from txasynchat.testing import cut, splits


def test_a_short_stream_is_cut_in_all_the_ways_there_are() -> None:
    ways = {tuple(pieces) for pieces in splits(b"abcd")}
    assert len(ways) == 8
    assert all(b"".join(pieces) == b"abcd" for pieces in ways)


def test_a_long_stream_is_cut_at_every_place_and_between_all_bytes() -> None:
    data = bytes(range(100))
    ways = [tuple(pieces) for pieces in splits(data)]
    assert (data,) in ways
    assert {(data[:place], data[place:]) for place in range(1, 100)} <= set(ways)
    assert tuple(data[at : at + 1] for at in range(100)) in ways
    assert all(b"".join(pieces) == data and all(pieces) for pieces in ways)


def test_the_cuts_at_random_are_the_same_each_time_and_others_for_another_seed() -> None:
    data = bytes(100)
    assert list(splits(data)) == list(splits(data))
    assert list(splits(data)) != list(splits(data, seed=1))


def test_there_is_one_way_to_cut_a_byte_and_none_to_cut_nothing() -> None:
    assert list(splits(b"a")) == [[b"a"]]
    assert list(splits(b"")) == [[]]


def test_places_outside_of_the_data_cut_nothing() -> None:
    assert cut(b"abc", [-1, 0, 3, 7, 2]) == [b"ab", b"c"]
