"""Whoever has a ``get_terminator()`` of its own is asked before each look at the input."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from txasynchat import asynchat, asyncore


class Lines(asynchat.async_chat):
    def __init__(self, sock: socket.socket, map: dict[int, Any]) -> None:
        asynchat.async_chat.__init__(self, sock, map)
        self.set_terminator(b"\n")
        self.found: list[bytes] = []

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        self.found.append(self._get_data())


class Line:
    """A channel, its peer, and a loop."""

    def __init__(self) -> None:
        self.map: dict[int, Any] = {}
        ours, self.peer = socket.socketpair()
        self.socket = ours

    def channel(self, kind: type[Lines]) -> Lines:
        return kind(self.socket, self.map)

    def say(self, data: bytes) -> None:
        self.peer.sendall(data)
        asyncore.loop(count=1, map=self.map)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    asyncore.close_all(line.map)
    line.socket.close()
    line.peer.close()


def test_one_put_on_an_object_is_asked_from_the_next_chunk_on(line: Line) -> None:
    channel = line.channel(Lines)
    line.say(b"one;\ntwo")
    channel.get_terminator = lambda: b";"  # type: ignore[method-assign]
    line.say(b";thr")
    line.say(b"ee;\n;")

    assert channel.found == [b"one;", b"two", b"three", b"\n"]


def test_one_taken_off_an_object_is_asked_no_more(line: Line) -> None:
    channel = line.channel(Lines)
    channel.get_terminator = lambda: b";"  # type: ignore[method-assign]
    line.say(b"one;")
    del channel.get_terminator

    assert channel.get_terminator() == b"\n"
    with pytest.raises(AttributeError):
        del channel.get_terminator
    line.say(b"two\n")
    assert channel.found == [b"one", b"two"]


def test_one_put_on_a_class_is_asked_by_the_channels_made_later(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Patched(Lines):
        pass

    monkeypatch.setattr(Patched, "get_terminator", lambda self: b";")
    channel = line.channel(Patched)
    line.say(b"one;two\n;")

    assert channel.found == [b"one", b"two\n"]


def test_it_is_a_method_as_any_other() -> None:
    assert asynchat.async_chat.get_terminator.__name__ == "get_terminator"
    assert "terminator" in (asynchat.async_chat.get_terminator.__doc__ or "")


def test_one_that_is_inherited_beside_the_channel_is_asked(line: Line) -> None:
    class Own:
        def get_terminator(self) -> bytes:
            return b";"

    class Mixed(Own, Lines):
        pass

    channel = line.channel(Mixed)
    line.say(b"one;two\n;")

    assert channel.found == [b"one", b"two\n"]
