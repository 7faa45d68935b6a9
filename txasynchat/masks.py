"""Maskers: what hides secrets before a :class:`~txasynchat.trace.TracingFactory` writes."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ("Masker", "mask_after")

#: One connection's: called with "in" or "out" and each piece of that direction, in
#: order; returns what is recorded in its place, as many bytes.
Masker = Callable[[str, bytes], bytes]


def mask_after(*beginnings: bytes, end: bytes = b"\r\n") -> Callable[[], Masker]:
    r"""Mask with ``*`` what follows these beginnings of a line, up to the line's end.

    However the stream was cut, no byte of a secret is left. (Of an `end` that is cut in
    the middle the part in front of the cut is masked as well: a secret might go on
    there.) Both directions are masked.

    :param beginnings: compared without regard to case.
    :param end: what ends a line. Where ``\r\n`` and ``\n`` both do, give ``b"\n"``.
    :return: makes a masker; the `mask` of :class:`~txasynchat.trace.TracingFactory`.
    :raise ValueError: if one of these is empty, or a beginning has bytes of `end`.
    :raise TypeError: if one of these is no bytes.

    >>> masker = mask_after(b"PASS ", b"AUTH PLAIN ")()
    >>> masker("in", b"USER me\r\npass se"), masker("in", b"cret\r\nQUIT\r\n")
    (b'USER me\r\npass **', b'****\r\nQUIT\r\n')
    """
    if not all(isinstance(each, bytes) for each in (*beginnings, end)):
        raise TypeError("beginnings and the end of a line are bytes")
    if not beginnings or not end or not all(beginnings):
        raise ValueError("a beginning or the end is missing")
    for beginning in beginnings:
        if set(beginning) & set(end):
            raise ValueError(f"{beginning!r} has bytes of the line's end, {end!r}")
    lowered = tuple(beginning.lower() for beginning in beginnings)

    def make() -> Masker:
        sides = {"in": _Side(lowered, end), "out": _Side(lowered, end)}
        return lambda direction, data: sides[direction].mask(data)

    return make


class _Side:
    """One direction of a connection: where in a line it is."""

    def __init__(self, beginnings: tuple[bytes, ...], end: bytes) -> None:
        self._beginnings = beginnings
        self._longest = max(map(len, beginnings))
        self._end = end
        # The line so far, while it may become one of the beginnings; then None.
        self._head: bytes | None = b""
        self._secret = False
        self._tail = b""  # of this line, what may be the first part of its end

    def mask(self, data: bytes) -> bytes:
        """What is recorded for the next piece."""
        shown = bytearray(data)
        at = 0
        while at < len(data):
            at = self._begin(data, at) if self._head is not None else self._rest(data, at, shown)
        return bytes(shown)

    def _begin(self, data: bytes, at: int) -> int:
        head = self._head or b""
        text = head + data[at : at + self._longest - len(head)].lower()
        found = [len(each) for each in self._beginnings if text.startswith(each)]
        if found:
            self._head, self._secret = None, True
            return at + min(found) - len(head)
        if any(each.startswith(text) for each in self._beginnings):
            self._head = text
            return len(data)
        # A head has no byte of the end in it: it can be left out of the search.
        self._head = None
        return at

    def _rest(self, data: bytes, at: int, shown: bytearray) -> int:
        starts, stops = self._find_end(data, at)
        if self._secret:
            shown[at:starts] = b"*" * (starts - at)
        if stops:
            self._head, self._secret, self._tail = b"", False, b""
            return stops
        keep = len(self._end) - 1
        self._tail = (self._tail + data[max(at, len(data) - keep) :])[-keep:] if keep else b""
        return len(data)

    def _find_end(self, data: bytes, at: int) -> tuple[int, int]:
        # Where the line's end starts in `data`, and where it stops: 0 if it does not.
        end, tail = self._end, self._tail
        found = (tail + data[at : at + len(end) - 1]).find(end)
        if found >= 0:
            return at, at + found + len(end) - len(tail)
        found = data.find(end, at)
        return (found, found + len(end)) if found >= 0 else (len(data), 0)
