"""Guards that pytest-twisted lacks: a deadline, no leaks, no silent errors.

An ``async def`` test runs on the reactor. It fails when it takes too long, when
it leaves something in the reactor, or when anything was logged as an error that
it did not ask for with ``logged_failures``.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from hypothesis import HealthCheck, settings
from twisted.internet import default
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher

# pytest-twisted's --reactor knows asyncio and "default". Another default, poll or
# select, comes from the environment: TXASYNCHAT_REACTOR=poll pytest
if os.environ.get("TXASYNCHAT_REACTOR"):
    chosen = import_module(f"twisted.internet.{os.environ['TXASYNCHAT_REACTOR']}reactor")
    default.install = chosen.install

DEADLINE = 30
SLOW_DEADLINE = 150

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("default")
# What Hypothesis makes of a failure, a patch that adds the example, it makes with libcst, which
# is here for check --fix. That trips over what zope.interface leaves on abc.ABC, and would end
# the whole run instead of reporting the test.
sys.modules["hypothesis.extra._patching"] = None  # type: ignore[assignment]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests on the reactor, with a deadline."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    from twisted.internet import reactor

    names = pyfuncitem._fixtureinfo.argnames
    test = Deferred.fromCoroutine(
        pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    )
    slow = pyfuncitem.get_closest_marker("slow") is not None
    test.addTimeout(SLOW_DEADLINE if slow else DEADLINE, reactor)
    pytest_twisted.blockon(test)
    return True


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a reader, a writer or a delayed call in the reactor."""
    if not inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        yield
        return
    before = _in_the_reactor()
    yield
    for _ in range(200):  # what closes takes a few turns
        if not (_in_the_reactor() - before):
            break
        pytest_twisted.blockon(_a_turn())
    left = _in_the_reactor() - before
    assert not left, f"left in the reactor: {left}"


def _in_the_reactor() -> set[object]:
    from twisted.internet import reactor

    each: Any = reactor
    found = {*each.getReaders(), *each.getWriters(), *each.getDelayedCalls()}
    return {entry for entry in found if not _is_the_reactors_own(entry)}


def _is_the_reactors_own(entry: object) -> bool:
    # What wakes it up for threads and children, its thread pool and its resolver.
    own = ("Waker", "threadpool", "_ThreadedNameResolver")
    return any(name in f"{type(entry).__name__} {entry!r}" for name in own)


def _a_turn() -> Deferred[None]:
    from twisted.internet import reactor

    return deferLater(reactor, 0.01)


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[Callable[[], list[str]]]:
    """Fail a test in which an error was logged, unless it takes what was logged by calling this."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.error:
            events.append(event)

    def take() -> list[str]:
        gc.collect()  # Deferreds whose failure nobody took log it when they go
        taken = [_text(event) for event in events]
        events.clear()
        return taken

    observer = cast(ILogObserver, observe)  # which mypy sees in classes only
    globalLogPublisher.addObserver(observer)
    try:
        yield take
        left = take()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert not left, "logged as errors:\n" + "\n".join(left)


def _text(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return formatEvent(event) + (f"\n{failure.getTraceback()}" if failure else "")
