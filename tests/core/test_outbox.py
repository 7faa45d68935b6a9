"""The queue of what is to be sent, and the documented classes it is made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txasynchat.core.outbox import MoreProducer, Outbox, fifo, simple_producer


class Producer:
    """Produces what it is given, in turn; an exception it raises."""

    def __init__(self, *results: Any) -> None:
        self.results = deque(results)

    def more(self) -> Any:
        result = self.results.popleft() if self.results else b""
        if isinstance(result, Exception):
            raise result
        return result


class Later:
    """An awaitable, as far as the outbox looks."""

    def __await__(self) -> Generator[Any, None, bytes]:
        raise NotImplementedError


def outbox_of(*items: Any) -> Outbox:
    outbox = Outbox()
    for item in items:
        outbox.append(item)
    return outbox


def test_items_leave_in_the_order_in_which_they_came() -> None:
    outbox = outbox_of(b"a", Producer(b"b", b"c"), b"d", None)
    assert outbox.take(100) == b"abcd"
    assert outbox.ended


def test_small_items_are_joined_up_to_one_write() -> None:
    outbox = outbox_of(b"abc", b"def", b"ghi")
    assert [outbox.take(4), outbox.take(4), outbox.take(4)] == [b"abcd", b"efgh", b"i"]


def test_a_large_item_is_taken_in_slices() -> None:
    outbox = outbox_of(b"x" * 10)
    assert [outbox.take(4), outbox.size, outbox.take(4), outbox.take(4)] == [
        b"xxxx",
        6,
        b"xxxx",
        b"xx",
    ]


def test_a_slice_of_a_large_item_is_no_copy_of_it() -> None:
    item = b"x" * 10
    slices = [outbox.take(4) for outbox in [outbox_of(item)] for _ in range(3)]
    assert all(isinstance(each, memoryview) and each.obj is item for each in slices)


def test_it_is_known_whether_the_next_item_is_a_large_one() -> None:
    outbox = outbox_of(b"x" * 10, Producer(b"y" * 10))
    taken = [(outbox.is_large(3), outbox.take(4)) for _ in range(3)]
    assert taken == [(True, b"xxxx"), (True, b"xxxx"), (False, b"xxyy")]
    assert outbox.is_large(3)
    outbox.clear()
    assert not outbox.is_large(0)


def test_what_was_looked_at_can_be_skipped_as_far_as_somebody_had_it() -> None:
    outbox = outbox_of(b"abcdefgh", b"ij")
    assert bytes(outbox.view(6)) == b"abcdef"
    outbox.skip(3)
    assert (bytes(outbox.view(100)), outbox.size) == (b"defgh", 7)
    outbox.skip(5)
    assert (outbox.take(100), outbox.accepted) == (b"ij", 2)


def test_a_producer_is_asked_only_when_it_is_the_turn_of_its_data() -> None:
    producer = Producer(b"later")
    outbox = outbox_of(b"x" * 8, producer)
    assert outbox.take(8) == b"x" * 8
    assert len(producer.results) == 1
    assert outbox.take(8) == b"later"


def test_a_producer_that_gives_more_than_one_write_is_not_asked_again_before_that_is_taken() -> (
    None
):
    producer = Producer(b"x" * 10, b"y")
    outbox = outbox_of(producer)
    assert outbox.take(4) == b"xxxx"
    assert (outbox.size, len(producer.results)) == (6, 1)


def test_there_is_one_end() -> None:
    outbox = outbox_of(b"last", None, None)
    assert (outbox.take(100), len(outbox.queue), outbox.ended) == (b"last", 1, True)


def test_a_falsy_producer_is_still_a_producer() -> None:
    class Empty(Producer):
        def __len__(self) -> int:
            return 0

    assert outbox_of(Empty(b"all", b" of it")).take(100) == b"all of it"


def test_a_mutable_buffer_from_a_producer_is_copied() -> None:
    buffer = bytearray(b"abcd")
    outbox = outbox_of(Producer(buffer))
    assert outbox.take(2) == b"ab"
    buffer[:] = b"XXXX"
    assert outbox.take(2) == b"cd"


def test_nothing_is_taken_while_a_result_is_awaited() -> None:
    later = Later()
    assert isinstance(later, Awaitable)
    outbox = outbox_of(b"before", Producer(later, b" end"), b" after")
    assert outbox.take(100) == b"before"
    assert outbox.take(100) == b""
    assert outbox.awaited is later
    outbox.settle(b" now")
    assert outbox.take(100) == b" now end after"


@pytest.mark.parametrize("bad", [None, "text", 5, [b"x"]])
def test_what_is_not_bytes_is_refused_behind_what_stood_before_it(bad: Any) -> None:
    outbox = outbox_of(b"before", Producer(bad), b"after")
    assert outbox.take(100) == b"before"
    with pytest.raises(TypeError, match="produced"):
        outbox.take(100)


def test_an_exception_of_a_producer_comes_behind_what_stood_before_it() -> None:
    outbox = outbox_of(b"before", Producer(b" and", ZeroDivisionError()), b"after")
    assert outbox.take(100) == b"before and"
    with pytest.raises(ZeroDivisionError):
        outbox.take(100)


def test_str_from_a_producer_is_encoded_where_that_is_asked_for() -> None:
    assert outbox_of(Producer("gr\xfcn")).take(100, "latin-1") == b"gr\xfcn"


def test_clear_returns_the_producers_for_the_caller_to_stop() -> None:
    producer = Producer(b"x" * 10)
    outbox = outbox_of(producer, b"abc", None)
    outbox.take(4)
    assert outbox.clear() == [producer]
    assert (len(outbox.queue), outbox.size, outbox.take(4)) == (0, 0, b"")


def test_a_producer_may_drop_the_queue_while_it_is_asked() -> None:
    class Drops:
        def more(self) -> bytes:
            outbox.clear()
            outbox.append(b"instead")
            return b"dropped"

    outbox = outbox_of(Drops(), b"after")
    assert outbox.take(100) == b"instead"


@given(
    st.lists(
        st.one_of(st.binary(min_size=1, max_size=20), st.lists(st.binary(min_size=1, max_size=20)))
    ),
    st.integers(1, 30),
)
def test_every_byte_leaves_once_and_in_order(items: list[bytes | list[bytes]], most: int) -> None:
    outbox = outbox_of(*(Producer(*item) if isinstance(item, list) else item for item in items))
    expected = b"".join(b"".join(item) if isinstance(item, list) else item for item in items)
    taken = []
    while piece := outbox.take(most):
        assert len(piece) <= most
        taken.append(piece)
    assert b"".join(taken) == expected
    assert (len(outbox.queue), outbox.size) == (0, 0)


def test_simple_producer_gives_pieces_of_its_buffer_size() -> None:
    producer = simple_producer(b"x" * 1030)
    assert [len(producer.more()) for _ in range(4)] == [512, 512, 6, 0]
    assert isinstance(producer, MoreProducer)


def test_simple_producer_shows_what_is_still_to_be_produced() -> None:
    producer = simple_producer(b"abcdef", 4)
    producer.more()
    assert producer.data == b"ef"
    producer.data = b"new"
    assert producer.more() == b"new"


def test_fifo_is_first_in_first_out() -> None:
    queue = fifo([1, 2])
    queue.push(3)
    assert (len(queue), queue.first(), queue.is_empty(), bool(queue)) == (3, 1, False, True)
    assert [queue.pop() for _ in range(4)] == [(True, 1), (True, 2), (True, 3), (False, None)]
    assert (len(queue), queue.is_empty(), bool(queue)) == (0, True, False)


def test_fifo_holds_none_like_anything_else() -> None:
    queue = fifo()
    queue.append(None)
    assert (queue[-1], queue.pop(), queue.pop()) == (None, (True, None), (False, None))


def test_fifo_with_nothing_in_it_has_no_first() -> None:
    with pytest.raises(IndexError):
        fifo().first()


def has_a_list(outbox: Outbox) -> bool:
    return isinstance(outbox.queue, list)


def test_there_is_no_list_while_nothing_waits() -> None:
    outbox = outbox_of(b"one", b"two")
    assert outbox.take(100) == b"onetwo"
    assert not has_a_list(outbox)
    outbox.append(b"three")
    assert (outbox.take(2), outbox.take(2), outbox.take(2)) == (b"th", b"re", b"e")
    assert not has_a_list(outbox)
