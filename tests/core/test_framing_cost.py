"""Framing is linear: each byte is scanned and copied a bounded number of times.

Nothing is timed. The stream is made of a bytes type that counts what is done
with it: what a search, a split or a look at one byte scans, and what a slice, a
join or a split copies. ``Framer`` keeps what it is fed as it is, so all its work
on the input goes through that type.

The bound: a byte is scanned once to look for the terminator's first byte and once
for the terminator, copied once into the piece that is handed over, and what stands
at the edge of a chunk once more each. That makes at most 5 per byte, whatever the
chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, SupportsIndex, TypeVar

import pytest

from txasynchat.core.framing import Framer
from txasynchat.core.terminators import Terminator

BOUND = 5.0


class Work:
    """How many bytes were scanned and copied."""

    scanned = 0
    copied = 0


class Counted(bytes):
    """Bytes that count the work done with them."""

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(sub, start, len(self) if end is None else end)
        Work.scanned += (found + len(sub) if found >= 0 else len(self)) - start
        return found

    def __contains__(self, byte: Any) -> bool:
        found = super().find(byte)
        Work.scanned += found + 1 if found >= 0 else len(self)
        return found >= 0

    def split(self, sep: Any = None, maxsplit: SupportsIndex = -1) -> list[bytes]:
        pieces = super().split(sep, maxsplit)
        Work.scanned += len(self)
        if len(pieces) == 1:  # the interpreter does not copy then
            return [self]
        Work.copied += sum(map(len, pieces))
        return [Counted(piece) for piece in pieces]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            if (start, stop) == (0, len(self)):  # nor then
                return self
            Work.copied += max(stop - start, 0)
            return Counted(super().__getitem__(index))
        Work.scanned += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[int]:
        for byte in super().__iter__():
            Work.scanned += 1
            yield byte

    def __radd__(self, other: bytes) -> bytes:
        Work.copied += len(other) + len(self)
        return Counted(bytes(other) + bytes(self))

    def __add__(self, other: Any) -> bytes:
        Work.copied += len(other) + len(self)
        return Counted(bytes(self) + bytes(other))


_Held = TypeVar("_Held", bound="Held")


class Held(bytearray):
    """What is held back, counting as well."""

    def __iadd__(self: _Held, other: Any) -> _Held:  # type: ignore[misc]
        Work.copied += len(other)
        self.extend(other)
        return self

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        Work.copied += 2 * len(part)  # once here, once into the bytes made of it
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        Work.copied += len(value)
        super().__setitem__(index, value)


def counting_framer(terminator: Terminator) -> Framer:
    framer = Framer()
    framer.set_terminator(terminator)
    framer._prefix = Held()
    Work.scanned = Work.copied = 0
    return framer


class Count:
    """A handler that only counts."""

    def __init__(self) -> None:
        self.bytes = self.messages = 0

    def collect_incoming_data(self, data: bytes) -> None:
        self.bytes += len(data)

    def found_terminator(self) -> None:
        self.messages += 1

    def message_too_long(self) -> None:
        raise AssertionError("there is no limit")


def work_per_byte(terminator: Terminator, stream: bytes, chunk: int) -> float:
    framer = counting_framer(terminator)
    handler = Count()
    held = 0
    for start in range(0, len(stream), chunk):
        framer.feed(Counted(stream[start : start + chunk]))
        framer.deliver(handler)
        held = max(held, framer._held)
    assert handler.bytes > 0 or handler.messages > 0
    assert held < 100, "what is held back does not grow"
    return (Work.scanned + Work.copied) / len(stream)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("chunk", "size"), [(65536, 16 * MIB), (1460, 16 * MIB), (1, MIB // 4), (1, MIB // 16)]
)
def test_one_long_message(chunk: int, size: int) -> None:
    assert work_per_byte(b"\r\n", b"x" * size, chunk) <= BOUND


@pytest.mark.parametrize("size", [MIB, 4 * MIB])
def test_messages_of_one_byte_in_large_chunks(size: int) -> None:
    assert work_per_byte(b"\n", b"x\n" * (size // 2), 65536) <= BOUND


@pytest.mark.parametrize("chunk", [65536, 1460, 7, 1])
@pytest.mark.parametrize("size", [MIB // 16, MIB // 4])
def test_a_stream_of_near_misses_of_a_self_similar_terminator(chunk: int, size: int) -> None:
    assert work_per_byte(b"a" * 63 + b"b", b"a" * size, chunk) <= BOUND


@pytest.mark.parametrize("chunk", [65536, 7, 1])
def test_near_misses_of_a_long_terminator(chunk: int) -> None:
    terminator = bytes(range(66))
    assert work_per_byte(terminator, (terminator[:-1] + b"!") * 2000, chunk) <= BOUND


@pytest.mark.parametrize("chunk", [65536, 1])
def test_a_tuple_costs_no_more(chunk: int) -> None:
    stream = b"one\ntwo\r\n" * 20_000
    # The regular expression engine scans each byte once; it can't be counted here.
    assert work_per_byte((b"\n", b"\r\n", b"\0"), stream, chunk) + 1 <= BOUND


@pytest.mark.parametrize("chunk", [65536, 1])
def test_a_regex_costs_no_more(chunk: int) -> None:
    assert work_per_byte(re.compile(rb"\r?\n"), b"one\ntwo\r\n" * 20_000, chunk) + 1 <= BOUND


@pytest.mark.parametrize("chunk", [65536, 1460, 1])
def test_counted_messages(chunk: int) -> None:
    class Again(Count):
        def found_terminator(self) -> None:
            super().found_terminator()
            framer.set_terminator(16)

    framer = counting_framer(16)
    handler = Again()
    stream = b"x" * (MIB // 4)
    for start in range(0, len(stream), chunk):
        framer.feed(Counted(stream[start : start + chunk]))
        framer.deliver(handler)
    assert handler.messages == len(stream) // 16
    assert (Work.scanned + Work.copied) / len(stream) <= BOUND


@pytest.mark.parametrize("size", [MIB // 16, MIB // 4])
def test_a_handler_that_interrupts_at_every_message(size: int) -> None:
    # One split of the chunk is lost, then each message is searched by itself.
    class Stops(Count):
        def found_terminator(self) -> None:
            super().found_terminator()
            framer.stop()

    framer = counting_framer(b"\n")
    handler = Stops()
    framer.feed(Counted(b"x\n" * (size // 2)))
    framer.deliver(handler)
    while framer.pending:
        framer.go()
        framer.deliver(handler)
    assert handler.messages == size // 2
    # Two scans and two copies, and the terminator that is matched again.
    assert (Work.scanned + Work.copied) / size <= BOUND + 1


def test_one_message_too_long_after_another() -> None:
    class Skips(Count):
        def message_too_long(self) -> None:
            pass

    framer = counting_framer(b"\n")
    size = 300_000
    framer.feed(Counted(b"xx\n" * (size // 3)))
    framer.deliver(Skips(), limit=1)
    assert (Work.scanned + Work.copied) / size <= 2 * BOUND
