"""Ways to cut a stream of bytes into pieces, as a network does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from random import Random

__all__ = ("cut", "splits")

#: Up to so many bytes all ways to cut are few enough: 2 ** 9.
_SHORT = 10


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at `places`, without empty pieces.

    >>> cut(b"hello", [1, 4])
    [b'h', b'ell', b'o']
    """
    edges = sorted({0, len(data), *(place for place in places if 0 < place < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


def splits(data: bytes, at_random: int = 20, seed: int = 0) -> Iterator[list[bytes]]:
    """Ways in which `data` may arrive: the pieces of each.

    All at once, cut in two at every place, one byte after the other. Of up to ten bytes all
    ways that there are; of more some at random, the same each time.

    :param at_random: how many of these.
    :param seed: for others.

    >>> list(splits(b"abc"))
    [[b'abc'], [b'a', b'bc'], [b'ab', b'c'], [b'a', b'b', b'c']]
    >>> len(list(splits(bytes(100))))
    121
    """
    places = range(1, len(data))
    if len(data) <= _SHORT:
        for number in range(max(len(data), 1)):
            for each in combinations(places, number):
                yield cut(data, each)
        return
    yield [data]
    for place in places:
        yield cut(data, [place])
    yield cut(data, places)
    random = Random(seed)
    for _ in range(at_random):
        number = random.randint(2, min(len(data) - 2, 20))
        yield cut(data, random.sample(places, number))
