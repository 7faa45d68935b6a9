"""Two handlers talk to each other in memory, over a pump."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from testing.seeded_bugs import Lines, OldLines

from txasynchat import AsyncChat, asyncore
from txasynchat.testing import NeverRests, connect_pair


class Client(Lines):
    """Says three lines, and quits when all are answered."""

    def handle_connect(self) -> None:
        super().handle_connect()
        self.answers: list[bytes] = []
        self.push(b"one\ntwo\nquit\n")

    def found_terminator(self) -> None:
        self.answers.append(self._get_data())


@pytest.mark.parametrize("server", [Lines, OldLines])
@pytest.mark.parametrize("at_most", [None, 1, 2, 5])
def test_what_one_has_sent_the_other_receives(server: Any, at_most: int | None) -> None:
    with connect_pair(Client, server) as pair:
        pair.pump(at_most)
        assert pair.client.handler.answers == [b"ONE", b"TWO", b"QUIT"]
        assert pair.client.output == b"one\ntwo\nquit\n"
        assert pair.server.output == b"ONE\nTWO\nQUIT\n"
        assert pair.client.is_closed
        assert pair.server.is_closed
        assert (pair.client.close_reason, pair.server.close_reason) == ("peer", "handler")
    assert not asyncore.socket_map


def test_nothing_moves_but_by_the_pump() -> None:
    with connect_pair(Client, Lines) as pair:
        assert pair.server.output == b""
        assert pair.client.wire.waiting == 13


def test_what_the_other_does_not_read_stays_where_it_is() -> None:
    with connect_pair(Client, Lines) as pair:
        pair.server.handler.pauseProducing()
        pair.pump()
        assert pair.client.wire.waiting == 13
        pair.server.handler.resumeProducing()
        pair.pump()
        assert len(pair.client.handler.answers) == 3


def test_two_that_talk_for_ever_are_found_out() -> None:
    class Echo(AsyncChat):
        def handle_connect(self) -> None:
            self.set_terminator(None)
            self.push(b"x")

        def collect_incoming_data(self, data: bytes) -> None:
            self.push(data)

    with connect_pair(Echo, Echo) as pair, pytest.raises(NeverRests, match="after 50 rounds"):
        pair.pump(rounds=50)


def test_one_that_cuts_the_connection_takes_the_other_with_it() -> None:
    with connect_pair(Client, Lines) as pair:
        pair.client.wire.abortConnection()
        pair.client.settle()
        pair.pump()
        assert pair.server.is_closed
        assert pair.server.close_reason == "peer"


def test_both_have_one_clock() -> None:
    class Impatient(Lines):
        idle_timeout = 5

    with connect_pair(Impatient, Impatient) as pair:
        pair.clock.advance(5)
        pair.pump()
        assert pair.client.close_reason == pair.server.close_reason == "timeout"


def test_what_one_of_them_raises_comes_out_at_the_end(
    logged_failures: Callable[[], list[str]],
) -> None:
    class Bad(Lines):
        def answer(self, line: bytes) -> None:
            raise ZeroDivisionError("on purpose")

    with pytest.raises(AssertionError, match="on purpose"), connect_pair(Client, Bad) as pair:
        pair.pump()
    logged_failures()
