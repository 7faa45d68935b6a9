"""What ends a message, and how it is found.

A terminator that is searched for (bytes, a tuple of bytes, a bytes regex) is
compiled once into a :class:`Matcher`. It promises:

* the match that *ends* first wins, of two that end together the longer, so the
  answer never depends on how the stream was cut into chunks;
* what cannot belong to a match is known at once: ``Link.held`` counts the
  bytes at the end that still can, and no more;
* each byte is looked at a bounded number of times, however small the chunks
  and however long or self-similar the terminator. Only a regex may cost more
  per byte, the more the larger its pattern; the search never backtracks.

Two means work together. Where a chunk has no match begun, a search in C jumps
to the next candidate: a byte string, or a byte with which a match may begin.
From a candidate on, and over the edges of chunks, an automaton takes a byte at
a time. A position in the automaton is a :class:`Link`; it is all that has to
be remembered between two chunks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, AnyStr, TypeAlias

try:
    _sre: Any = import_module("re._constants")
    _sre_parser: Any = import_module("re._parser")
except ModuleNotFoundError:  # Python 3.10
    _sre = import_module("sre_constants")
    _sre_parser = import_module("sre_parse")

__all__ = ("Link", "Matcher", "Terminator", "compile_terminator", "find_prefix_at_end")

#: Everything that ``set_terminator`` takes.
Terminator: TypeAlias = bytes | int | tuple[bytes, ...] | re.Pattern[bytes] | None

# A regex becomes one position for each byte that it can match, and a new step costs
# time in proportion to the live ones: what is past this is no terminator.
_MOST_POSITIONS = 256
# Automata of regexes are built while they run, by the peer's bytes. Past this
# many positions in all links they start over, so that no peer can make one grow.
_MOST_REMEMBERED = 32768


class Link(dict[int, Any]):
    """A position in an automaton: ``link[byte]`` is the next one.

    ``held`` is how many of the bytes seen last may still become a match;
    ``matched`` is the length of the match that has just ended here, or 0.
    """

    __slots__ = ("held", "matched")

    def __init__(self, held: int = 0, matched: int = 0) -> None:
        super().__init__()
        self.held: int = held
        self.matched: int = matched


class Matcher:
    """A terminator that is searched for.

    :ivar literal: the terminator itself where it is a single byte string,
        otherwise None.
    :ivar first: its first byte then, otherwise None.
    :ivar inner: its bytes then but for the last: a chunk that ends with none of them does not
        end with its beginning.
    :ivar path: its links then: ``path[n]`` is the one behind n of its bytes.
    :ivar longest: the longest match, in bytes.
    :ivar describe: what to tell a handler about the bytes that matched.
    :ivar root: the link at which nothing is held back.
    """

    def __init__(
        self,
        root: Link,
        longest: int,
        find: Callable[[bytes, int], int],
        describe: Callable[[bytes], Any],
        literal: bytes | None = None,
    ) -> None:
        self.root = root
        self.literal = literal
        self.first: int | None = None if literal is None else literal[0]
        self.inner: frozenset[int] = frozenset(() if literal is None else literal[:-1])
        self.path: list[Link] = [root]
        for byte in literal or b"":
            self.path.append(self.path[-1][byte])
        self.describe = describe
        self.longest = longest
        self._reach = longest - 1
        self._find = find
        self._whole = Link(matched=longest)

    def advance(self, data: bytes, pos: int, link: Link) -> tuple[int, Link]:
        """Go on from `link` with ``data[pos:]``, up to the first match.

        :return: where it stopped and the link there. With ``link.matched`` a
            match ends at that place, otherwise it is the end of `data`.
        """
        start = pos
        while link.held:
            if pos == len(data):
                return pos, link
            link = link[data[pos]]
            pos += 1
            if link.matched:
                return pos, link
            if link.held <= pos - start:
                # A possible match lies in this chunk as a whole: search from there.
                pos -= link.held
                break
        return self._scan(data, pos)

    def _scan(self, data: bytes, pos: int) -> tuple[int, Link]:
        while (start := self._find(data, pos)) >= 0:
            if self.literal is not None:
                return start + len(self.literal), self._whole
            pos, link = self._run(data, start)
            if link.matched or pos == len(data):
                return pos, link
        return len(data), self.tail(data, pos)

    def _run(self, data: bytes, pos: int) -> tuple[int, Link]:
        # Until a match ends, none is possible any more, or the data does.
        link = self.root
        while pos < len(data):
            link = link[data[pos]]
            pos += 1
            if link.matched or not link.held:
                break
        return pos, link

    def split(self, data: bytes, rare: int) -> list[bytes]:
        """``data.split(literal)`` for a byte string, several times faster where it is rare.

        Looking for one byte is much faster than looking for two. Where the byte has
        been found in vain, or within `rare` bytes, it is left to the ordinary split.
        """
        literal = self.literal
        assert literal is not None
        head, pieces, pos = literal[:1], [], 0
        while (at := data.find(head, pos)) - pos > rare and data.startswith(literal, at):
            pieces.append(data[pos:at])
            pos = at + len(literal)
        rest = data[pos:] if pos else data
        pieces += rest.split(literal) if at >= 0 else [rest]
        return pieces

    def tail(self, data: bytes, pos: int) -> Link:
        """The link at the end of ``data[pos:]``, in which there is no match."""
        link = self.root
        if self.literal is not None:
            if pos == len(data) or data[-1] not in self.inner:
                return link
            if self._reach == 1:
                return self.path[1]
        start = max(pos, len(data) - self._reach)
        if self.literal is not None:
            start = data.find(self.literal[:1], start)
            if start < 0:
                return link
            rest = data[start:]
            if self.literal.startswith(rest):
                return self.path[len(rest)]
        for byte in data[start:]:
            link = link[byte]
        return link


def compile_terminator(terminator: object, max_match: int | None = None) -> Matcher | int:
    """Check a terminator and make it ready for use.

    :param terminator: any :data:`Terminator`, or another bytes-like object.
    :param max_match: for a regex: no match is longer than this, in bytes.
    :return: a matcher; or the number of bytes to count, 0 for "collect everything".
    :raise ValueError: a negative count, an empty alternative, a regex for which
        the first match to end is not defined by the bytes it matches.
    :raise TypeError: anything else that can't be a terminator.
    """
    if max_match is not None and not isinstance(terminator, re.Pattern):
        raise TypeError("max_match is for a regex terminator only")
    if isinstance(terminator, (bytes, bytearray, memoryview)):
        return _matcher_of_bytes(bytes(terminator)) if terminator else 0
    if terminator is None:
        return 0
    if isinstance(terminator, int):
        if terminator < 0:
            raise ValueError(
                f"the terminator is the number of bytes to collect, not {terminator}; "
                "use 0 or None to collect everything"
            )
        return int(terminator)
    if isinstance(terminator, tuple):
        for each in terminator:
            if not isinstance(each, bytes):
                raise TypeError(f"a tuple of terminators holds bytes, not {each!r}")
        if not terminator or not all(terminator):
            raise ValueError(
                f"a tuple of terminators holds at least one, and none empty: {terminator!r}"
            )
        return _matcher_of_choice(terminator)
    if isinstance(terminator, re.Pattern):
        return _matcher_of_pattern(terminator, max_match)
    raise TypeError(
        f"a terminator is bytes, an int, None, a tuple of bytes or a compiled bytes regex, "
        f"not {type(terminator).__name__}: {terminator!r}"
    )


@lru_cache(maxsize=256)
def _matcher_of_bytes(terminator: bytes) -> Matcher:
    def find(data: bytes, pos: int) -> int:
        return data.find(terminator, pos)

    return Matcher(_trie([terminator]), len(terminator), find, lambda text: terminator, terminator)


@lru_cache(maxsize=256)
def _matcher_of_choice(terminators: tuple[bytes, ...]) -> Matcher:
    return Matcher(
        _trie(terminators),
        max(map(len, terminators)),
        _finder(each[0] for each in terminators),
        lambda text: text,
    )


@lru_cache(maxsize=256)
def _matcher_of_pattern(pattern: re.Pattern[Any], max_match: int | None) -> Matcher:
    if isinstance(pattern.pattern, str):
        raise TypeError(f"a terminator's regex is compiled from bytes: rb{pattern.pattern!r}")
    shape = _Shape(pattern)
    if max_match is not None:
        if not shape.shortest <= max_match <= _MOST_POSITIONS:
            raise ValueError(
                f"max_match={max_match} for {pattern.pattern!r}: it is at least {shape.shortest}, "
                f"its shortest match, and at most {_MOST_POSITIONS}"
            )
        shape.longest = min(shape.longest, max_match)
    if shape.longest > _MOST_POSITIONS:
        raise ValueError(
            f"{pattern.pattern!r} has no longest match, or one of over {_MOST_POSITIONS} bytes: "
            "bound its repeats, or pass max_match="
        )
    return Matcher(
        _Positions(shape).root,
        shape.longest,
        _finder(byte for position in shape.first for byte in shape.takes[position]),
        pattern.fullmatch,
    )


def _finder(first_bytes: Iterable[int]) -> Callable[[bytes, int], int]:
    members = b"".join(b"\\x%02x" % byte for byte in set(first_bytes))
    search = re.compile(b"[" + members + b"]").search

    def find(data: bytes, pos: int) -> int:
        match = search(data, pos)
        return match.start() if match else -1

    return find


def find_prefix_at_end(haystack: AnyStr, needle: AnyStr) -> int:
    """How many characters at the end of `haystack` begin `needle` but don't complete it.

    Documented in Python 2.6; parsers that keep a buffer of their own use it.

    >>> find_prefix_at_end(b"qwerty\\r", b"\\r\\n")
    1
    """
    for length in range(len(needle) - 1, 0, -1):
        if haystack.endswith(needle[:length]):
            return length
    return 0


# -- Byte strings: the automaton of Aho and Corasick --------------------------------


class _TrieLink(Link):
    """A node of a trie of byte strings; ``fail`` is its longest proper suffix there."""

    __slots__ = ("fail",)

    def __init__(self, held: int, fail: _TrieLink | None) -> None:
        super().__init__(held)
        self.fail = fail

    def __missing__(self, byte: int) -> Link:
        # Not stored: each step down the suffixes was paid for by a byte that
        # led up, and what a peer sends must not make the trie grow.
        link = self
        while link.fail is not None:
            link = link.fail
            if byte in link:
                following: Link = link[byte]
                return following
        return link


def _trie(terminators: Iterable[bytes]) -> Link:
    root = _TrieLink(0, None)
    for terminator in terminators:
        node = root
        for byte in terminator:
            if byte not in node:
                node[byte] = _TrieLink(node.held + 1, root)
            node = node[byte]
        node.matched = len(terminator)
    level = [root]
    while level:  # shorter strings first: a suffix is shorter than what it ends
        for node in level:
            for byte, child in node.items():
                if node is not root:
                    child.fail = node.__missing__(byte)
                child.matched = child.matched or child.fail.matched
        level = [child for node in level for child in node.values()]
    return root


# -- Regexes: the automaton of positions (Glushkov), made deterministic as it runs ----


class _Shape:
    """What of a regex matters to an automaton.

    Each place of the pattern that takes one byte is a position: ``takes[p]`` is
    the set of bytes it takes, ``follow[p]`` the positions that may come next,
    ``first`` and ``last`` those at which a match may begin and end.
    """

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern
        self.takes: list[frozenset[int]] = []
        self.follow: list[set[int]] = []
        if pattern.flags & re.LOCALE:
            raise self._refusal("re.LOCALE")
        parsed = _sre_parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
        self.shortest, self.longest = parsed.getwidth()
        if not self.shortest:
            raise ValueError(f"{pattern.pattern!r} matches the empty string: no terminator does")
        _, self.first, self.last = self._sequence(parsed, pattern.flags)

    def _refusal(self, what: str) -> ValueError:
        return ValueError(
            f"{self.pattern.pattern!r} uses {what}: what a terminator matches must not depend "
            "on the bytes around it, nor on how the match was found"
        )

    def _sequence(self, items: Iterable[Any], flags: int) -> _Part:
        whole: _Part = (True, frozenset(), frozenset())
        for op, argument in items:
            whole = self._join(whole, self._part(op, argument, flags))
        return whole

    def _join(self, left: _Part, right: _Part) -> _Part:
        for position in left[2]:
            self.follow[position] |= right[1]
        return (
            left[0] and right[0],
            left[1] | right[1] if left[0] else left[1],
            left[2] | right[2] if right[0] else right[2],
        )

    def _part(self, op: Any, argument: Any, flags: int) -> _Part:
        if op is _sre.BRANCH:
            parts = [self._sequence(each, flags) for each in argument[1]]
            return (
                any(part[0] for part in parts),
                frozenset().union(*(part[1] for part in parts)),
                frozenset().union(*(part[2] for part in parts)),
            )
        if op is _sre.SUBPATTERN:
            _, added, removed, inner = argument
            return self._sequence(inner, (flags | added) & ~removed)
        if op in (_sre.MAX_REPEAT, _sre.MIN_REPEAT):
            least, most, inner = argument
            return self._repeat(least, most, inner, flags)
        return self._position(self._bytes_of(op, argument, flags))

    def _repeat(self, least: int, most: int, inner: Any, flags: int) -> _Part:
        endless = most is _sre.MAXREPEAT or most >= _MOST_POSITIONS
        whole: _Part = (True, frozenset(), frozenset())
        for _ in range(max(least - endless, 0)):
            whole = self._join(whole, self._sequence(inner, flags))
        if endless:
            loop = self._sequence(inner, flags)
            self._join(loop, loop)
            return self._join(whole, loop if least else (True, loop[1], loop[2]))
        # x{0,3} is (x(x(x)?)?)?, not x?x?x?: as many ways in, far fewer joints.
        rest: _Part = (True, frozenset(), frozenset())
        for _ in range(most - least):
            joined = self._join(self._sequence(inner, flags), rest)
            rest = (True, joined[1], joined[2])
        return self._join(whole, rest)

    def _position(self, takes: Iterable[int]) -> _Part:
        if len(self.takes) == _MOST_POSITIONS:
            raise ValueError(
                f"{self.pattern.pattern!r} is too large for a terminator: over "
                f"{_MOST_POSITIONS} bytes with its repeats written out"
            )
        position = frozenset([len(self.takes)])
        self.takes.append(frozenset(takes))
        self.follow.append(set())
        return False, position, position

    def _bytes_of(self, op: Any, argument: Any, flags: int) -> Iterable[int]:
        if op is _sre.ANY:
            return (b for b in range(256) if flags & re.DOTALL or b != 10)
        if op is _sre.LITERAL:
            return self._any_case([argument], flags)
        if op is _sre.NOT_LITERAL:
            return set(range(256)) - self._any_case([argument], flags)
        if op is _sre.IN:
            negated = argument[0][0] is _sre.NEGATE
            taken = self._any_case(_members(argument[negated:]), flags)
            return set(range(256)) - taken if negated else taken
        raise self._refusal(_REFUSED.get(str(op), str(op)))

    @staticmethod
    def _any_case(members: Iterable[int], flags: int) -> set[int]:
        taken = set(members)
        if flags & re.IGNORECASE:
            taken.update(*(bytes([b]).swapcase() for b in taken))
        return taken


_REFUSED = {
    "AT": "an anchor",
    "ASSERT": "look-around",
    "ASSERT_NOT": "look-around",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a conditional group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
}

#: Whether a part of a pattern may be empty, and its first and last positions.
_Part: TypeAlias = tuple[bool, frozenset[int], frozenset[int]]


def _members(items: Iterable[tuple[Any, Any]]) -> Iterator[int]:
    for op, argument in items:
        if op is _sre.LITERAL:
            yield argument
        elif op is _sre.RANGE:
            yield from range(argument[0], argument[1] + 1)
        else:  # CATEGORY is all that is left in a set of bytes
            escape = _CATEGORIES[str(argument)]
            yield from (b for b in range(256) if re.match(escape, bytes([b])))


_CATEGORIES = {
    "CATEGORY_DIGIT": rb"\d",
    "CATEGORY_NOT_DIGIT": rb"\D",
    "CATEGORY_SPACE": rb"\s",
    "CATEGORY_NOT_SPACE": rb"\S",
    "CATEGORY_WORD": rb"\w",
    "CATEGORY_NOT_WORD": rb"\W",
}


class _ThreadsLink(Link):
    """A set of positions reached at once, each with the ages it was reached at.

    ``threads`` pairs a position with a bit mask: bit n stands for a match that
    would begin n bytes ago.
    """

    __slots__ = ("positions", "threads")

    def __init__(
        self, positions: _Positions, threads: tuple[tuple[int, int], ...], matched: int
    ) -> None:
        oldest = 0
        for _, ages in threads:
            oldest |= ages
        super().__init__(max(oldest.bit_length() - 1, 0), matched)
        self.positions = positions
        self.threads = threads

    def __missing__(self, byte: int) -> Link:
        following = self.positions.after(self, byte)
        self[byte] = following
        return following


class _Positions:
    """Builds the links of a regex as they are met, and forgets them when there are too many."""

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape
        self._remembered = 0
        self._links: dict[object, _ThreadsLink] = {}
        self.root = _ThreadsLink(self, (), 0)

    def after(self, link: _ThreadsLink, byte: int) -> Link:
        shape = self._shape
        reached: dict[int, int] = {}
        for position, ages in link.threads:
            for following in shape.follow[position]:
                if byte in shape.takes[following]:
                    reached[following] = reached.get(following, 0) | ages << 1
        for position in shape.first:
            if byte in shape.takes[position]:
                reached[position] = reached.get(position, 0) | 1 << 1
        ended = 0
        for position in shape.last:
            ended |= reached.get(position, 0)
        # What can't go on, or would outgrow the longest match, is not held back.
        young = (1 << shape.longest) - 1
        threads = tuple(
            sorted(
                (position, ages & young)
                for position, ages in reached.items()
                if shape.follow[position] and ages & young
            )
        )
        matched = max(ended.bit_length() - 1, 0)
        if not threads and not matched:
            return self.root
        return self._link(threads, matched)

    def _link(self, threads: tuple[tuple[int, int], ...], matched: int) -> Link:
        key = threads, matched
        if key not in self._links:
            self._remembered += 1 + len(threads)
            if self._remembered > _MOST_REMEMBERED:
                for each in self._links.values():
                    each.clear()
                self._links.clear()
                self.root.clear()
                self._remembered = 0
            self._links[key] = _ThreadsLink(self, threads, matched)
        return self._links[key]
