"""Deferreds that asyncio's tasks can await as well, and Twisted inside an asyncio program."""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop, _get_running_loop, current_task, get_running_loop
from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ("BridgedDeferred", "asyncio_reactor", "bridged", "loop_of_task")

_T = TypeVar("_T")


def loop_of_task() -> AbstractEventLoop | None:
    """The loop of asyncio's task that is running; None where none is."""
    loop = _get_running_loop()
    return None if loop is None or current_task(loop) is None else loop


def _is_driven_by_twisted(frame: FrameType | None) -> bool:
    # A task may have started a coroutine of Twisted's, which then runs inside of it up to
    # where it waits first: what counts is who takes the coroutine's next step.
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "twisted.internet.defer":
            return True
        if module.startswith("asyncio."):
            return False
        frame = frame.f_back
    return False


class BridgedDeferred(Deferred[_T]):
    """A Deferred that both Twisted's coroutines and asyncio's tasks can await.

    In a task it needs the asyncio reactor, on the loop of that task. Cancelling the task
    cancels the Deferred.

    >>> done = BridgedDeferred()
    >>> async def wait():
    ...     print("got", await done)
    >>> waiting = Deferred.fromCoroutine(wait())
    >>> done.callback(1)
    got 1
    """

    _is_awaited_by_a_task = False

    def __await__(self) -> Generator[Any, None, _T]:
        loop = loop_of_task()
        if loop is None or _is_driven_by_twisted(sys._getframe(1)):
            return super().__await__()
        return self._await_in_task(loop)

    def _await_in_task(self, loop: AbstractEventLoop) -> Generator[Any, None, _T]:
        if self.called and not self.paused:
            return (yield from super().__await__())
        future = loop.create_future()
        outcome: list[Any] = []

        def fired(result: Any) -> None:
            outcome.append(result)
            if not future.done():
                future.set_result(None)

        if self._is_awaited_by_a_task:
            raise RuntimeError("a task awaits this already: let each have one of its own")
        self._is_awaited_by_a_task = True
        self.addBoth(fired)
        self.a_task_waits()
        try:
            yield from future
        except BaseException:
            self.cancel()  # if there is something to cancel still
            self.a_task_gave_up(outcome[0] if outcome else None)
            raise
        self.a_task_went_on(loop)
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]  # type: ignore[no-any-return]

    def a_task_waits(self) -> None:
        """A task awaits this: it will go on some time after the result is there."""

    def a_task_went_on(self, loop: AbstractEventLoop) -> None:
        """The task has the result and goes on."""

    def a_task_gave_up(self, result: Any) -> None:
        """The task was cancelled when the result was there already: nobody has it."""


def bridged(awaitable: Awaitable[_T]) -> BridgedDeferred[_T]:
    """Make any Deferred, or coroutine of Twisted's, awaitable in asyncio's tasks as well.

    >>> from twisted.internet.defer import succeed
    >>> isinstance(bridged(succeed("both")), BridgedDeferred)
    True
    """
    if isinstance(awaitable, BridgedDeferred):
        return awaitable
    waits_for = (
        awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(_of(awaitable))
    )
    both: BridgedDeferred[_T] = BridgedDeferred(lambda _: waits_for.cancel())
    waits_for.addCallbacks(both.callback, both.errback)
    return both


async def _of(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


@asynccontextmanager
async def asyncio_reactor() -> AsyncIterator[Any]:
    """Run Twisted's reactor on the loop of this asyncio program, for the time of a block.

    ``async with asyncio_reactor():`` goes around the program's main task, before anything
    imports ``twisted.internet.reactor``. Signals stay asyncio's. At the end of the block
    the connections that are left are closed and the threads of the reactor end. Inside of
    another such block, or where the asyncio reactor runs already, it does nothing.

    :return: the reactor, for ``as``.
    :raise RuntimeError: if another reactor is installed, or this one was run before: a
        process has one.
    """
    from twisted.internet import asyncioreactor, main

    class Reactor(asyncioreactor.AsyncioSelectorReactor):
        # The loop is not the reactor's to stop.
        def crash(self) -> None:
            super(asyncioreactor.AsyncioSelectorReactor, self).crash()

    loop = get_running_loop()
    installed = sys.modules.get("twisted.internet.reactor")
    if installed is None:
        reactor: Any = Reactor(loop)
        main.installReactor(reactor)
    else:
        reactor = installed
        if not isinstance(reactor, asyncioreactor.AsyncioSelectorReactor):
            raise RuntimeError(
                f"{type(reactor).__name__} is installed: enter asyncio_reactor() before "
                "anything imports twisted.internet.reactor"
            )
        if reactor.running:
            yield reactor
            return
        raise RuntimeError(
            "the asyncio reactor is installed and does not run: a process runs it once, in one "
            "asyncio_reactor() block, which installs it"
        )
    reactor.startRunning(installSignalHandlers=False)
    try:
        yield reactor
    finally:
        stopped = loop.create_future()
        reactor.addSystemEventTrigger("after", "shutdown", stopped.set_result, None)
        reactor.fireSystemEvent("shutdown")
        await stopped
