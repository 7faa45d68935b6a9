"""Callbacks that wait: coroutines, Deferreds, inlineCallbacks."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed

from txasynchat import AsyncChat, ChatClosed, CloseReason


async def look_up(key: bytes) -> bytes:
    """Stands for a query."""
    return await succeed(key)


class Awaits(AsyncChat):
    """Awaits an answer for each message."""

    async def handle_connect(self) -> None:
        self.set_terminator(b"\n")
        await succeed(None)

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    async def found_terminator(self) -> None:
        self.push(await look_up(self._get_data()))
        await self.drained()

    async def handle_drain(self) -> None:
        try:
            await self.drained()
        except ChatClosed:
            return


class ReturnsDeferreds(AsyncChat):
    """Returns Deferreds from the beginning."""

    def handle_connect(self) -> Deferred[None]:
        return succeed(None)

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    def found_terminator(self) -> Deferred[object]:
        return Deferred.fromCoroutine(self.answer())

    async def answer(self) -> object:
        self.push(await look_up(self._get_data()))
        return None


class Yields(AsyncChat):
    """The older way to write a coroutine."""

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    @inlineCallbacks
    def found_terminator(self) -> Generator[Deferred[Any], Any, None]:
        yield succeed(None)
        self.push(self._get_data())


async def until_closed(chat: AsyncChat) -> str:
    """Who ended it, as text."""
    reason: CloseReason = await chat.closed()
    return reason.value
