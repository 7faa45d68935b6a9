"""Coroutines that read: a conversation, a callback that reads on, clients, tasks of asyncio."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from txasynchat import (
    AsyncChat,
    IncompleteRead,
    MessageTooLong,
    asyncio_reactor,
    bridged,
    connect,
)


class Converses(AsyncChat):
    """A connection as one coroutine."""

    async def conversation(self) -> None:
        name = await self.read_until((b"\r\n", b"\n"), limit=100)
        self.push(b"hello, " + name)
        size: bytes = await self.read_until(re.compile(rb";"))
        body: bytes = await self.read_exactly(int(size))
        async for line in self.messages(b"\n"):
            self.push(line + body)
        rest: bytes = await self.read()
        self.push(rest)


class ReadsOn(AsyncChat):
    """Commands by callback, bodies by coroutine."""

    errors = 0

    def handle_connect(self) -> None:
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        self._collect_incoming_data(data)

    async def found_terminator(self) -> None:
        try:
            body = await self.read_exactly(int(self._get_data()))
        except IncompleteRead as error:
            body = error.partial
        except MessageTooLong as error:
            self.errors += error.limit
            return
        self.push(body)


class Inline(AsyncChat):
    """The older way to write a coroutine."""

    @inlineCallbacks
    def conversation(self) -> Generator[Deferred[bytes], bytes, None]:
        line = yield self.read_until(b"\n")
        self.push(line)


async def client(address: str) -> bytes:
    """A client without a handler of its own, and one with."""
    async with connect(address) as chat, connect(address, ReadsOn) as other:
        chat.push(b"hi\n")
        other.errors += 1
        await chat.drained()
        return await chat.read_until(b"\n")


async def task(address: str) -> bytes:
    """The same in an asyncio program."""
    async with asyncio_reactor():
        answer = await asyncio.wait_for(client(address), 10)
        later: Deferred[bytes] = Deferred()
        later.callback(answer)
        return await bridged(later)


def of_a_task(chat: AsyncChat) -> Any:
    """A read is what create_task() can wait for, in a coroutine."""

    async def read() -> bytes:
        return await chat.read()

    return read()
