"""The reactor under the old loop: who drives it, and when it serves a map by itself.

Three cases, decided anew at each round:

* nobody has loaded a reactor: a loop waits for its map's set, and no more;
* a reactor is there and does not run: a loop in the main thread drives it, turn
  by turn, so that Twisted's timers and connections get on;
* the reactor runs, under ``twistd`` or in a Twisted application: it serves the
  maps that nobody loops over.

A loop in another thread never drives the reactor: the main thread may start it
at any time, and two threads in one reactor is one too many.
"""

from __future__ import annotations

import os
import sys
import threading
from threading import get_ident
from time import monotonic
from typing import Any, Protocol
from weakref import WeakSet

from twisted.internet import main
from twisted.internet.error import ReactorNotRestartable
from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import globalLogPublisher
from twisted.python import threadable
from twisted.python.failure import Failure

from txasynchat.legacy.readiness import ReadySet

__all__ = ("Driver", "Hosted", "Session", "driver")

#: How long events of channels may keep a reactor from its turn, in seconds.
_FAIR = 0.01

#: How long to wait for what a reactor can't wait for, between its turns, in seconds.
_SLICE = 0.01

#: The shortest wait that every reactor can count, in seconds.
_LEAST = 0.001

#: The module that is the reactor, once one is loaded.
_REACTOR = "twisted.internet.reactor"

_publisher: Any = globalLogPublisher


class Hosted(Protocol):
    """What a running reactor can serve."""

    def host(self, reactor: Any) -> None:
        """Be served by the running reactor, unless somebody else does. In its thread."""


class Session:
    """One call of ``loop()`` or ``poll()``: how it waits.

    :ivar drives: whether it may drive a reactor.
    """

    def __init__(self, driver: Driver, drives: bool) -> None:
        self._driver = driver
        self.drives = drives
        self._attached: ReadySet | None = None
        self._refused = False

    def wait(self, ready_set: ReadySet, timeout: float) -> list[tuple[int, int]]:
        """The descriptors of `ready_set` that are ready, after `timeout` seconds at most.

        May return early without any, when the reactor had something to do.
        """
        # A look that costs little, in each round: most programs have no reactor.
        if _REACTOR not in sys.modules or not self._may_drive():
            return ready_set.wait(timeout)
        ready = ready_set.wait(0)
        if ready and self._driver.is_fair():
            return ready
        limits = [timeout]
        if ready:
            limits.append(0)
        if ready_set.patience is not None:
            limits.append(ready_set.patience)
        if self._attached is not ready_set or not ready_set.attached:
            self._attach(ready_set)
        if self._refused:
            limits.append(0)
        self._driver.turn(min(limits))
        if self._refused:
            return ready or ready_set.wait(min(timeout, _SLICE))
        if not ready_set.attached:
            # The reactor can't watch it: select.select() and a high number, for one.
            self._refused = True
        return ready or ready_set.wait(0)

    def _may_drive(self) -> bool:
        return self.drives and self._driver.start(self)

    def patience(self, timeout: float) -> float:
        """How long to wait for something else than descriptors, before :meth:`breathe`."""
        return min(timeout, _SLICE) if self._may_drive() else timeout

    def breathe(self) -> None:
        """Let the reactor have its turn, if this is who drives it."""
        if self._may_drive():
            self.detach()
            self._driver.turn(0)

    def _attach(self, ready_set: ReadySet) -> None:
        self.detach()
        ready_set.attach(self._driver.reactor, self._driver.end_turn)
        self._attached = ready_set

    def detach(self) -> None:
        """Have the reactor's waits no longer end when the set is ready."""
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.detach()


class Driver:
    """Drives the process's reactor, if there is one, and knows when it runs by itself.

    :ivar no_loop: why a loop without end must not begin now; empty if it may.
    """

    def __init__(self) -> None:
        self.no_loop = ""
        self._sessions: list[Session] = []
        self._started: Any = None
        self._turning = False
        # The loop of an asyncio reactor: while it is driven, and once it is known.
        self._loop: Any = None
        self._known_loop: Any = None
        self._raised: BaseException | None = None
        self._fair_until = 0.0
        # In a forked child, what is the parent's: not to be touched; not to be driven.
        self._untouchable: Any = None
        self._inherited: Any = None
        self._armed: Any = None
        self._waiting: WeakSet[Hosted] = WeakSet()
        self._listening_for_reactor = False

    @property
    def reactor(self) -> Any:
        """The reactor, if one has been loaded."""
        reactor = sys.modules.get(_REACTOR)
        return None if reactor is self._untouchable else reactor

    def runs(self) -> bool:
        """Whether the reactor runs, driven by somebody else."""
        reactor = self.reactor
        return reactor is not None and bool(reactor.running) and self._started is None

    def is_inside(self) -> bool:
        """Whether this thread is the reactor's, at work on one of its callbacks."""
        thread: Any = threadable.ioThread
        return thread == get_ident() and (self._turning or self.runs())

    # -- Driving --------------------------------------------------------------------

    def begin(self) -> Session:
        """Somebody begins to wait, in this thread; to be ended by :meth:`end`."""
        drives = (
            get_ident() == threading.main_thread().ident and not self._turning and not self.runs()
        )
        session = Session(self, drives)
        if drives:
            if self._sessions:
                self._sessions[-1].detach()
            self._sessions.append(session)
        return session

    def end(self, session: Session) -> None:
        """The wait is over."""
        if session not in self._sessions:
            return
        session.detach()
        self._sessions.remove(session)
        if not self._sessions and self._started is not None:
            self._stop_running()
        if self._waiting and self.reactor is not None:
            self._arm(self.reactor)

    def _stop_running(self) -> None:
        reactor, self._started = self._started, None
        _publisher.removeObserver(self._see_raised)
        if reactor.running:
            reactor.crash()  # that is: it may be run by somebody else now
            if self._loop is not None:
                self._loop.run_forever()  # crash() has asked it to stop the next time
        self._loop = None
        _end_threads_with_interpreter(reactor)

    def start(self, session: Session) -> bool:
        """Have the reactor ready to be driven by `session`, if that is possible."""
        reactor = self.reactor
        if reactor is None or self._turning or reactor is self._inherited:
            return False
        if self._started is None:
            if reactor.running or not self._begin_to_run(reactor):
                session.drives = False
                return False
        elif not reactor.running:  # somebody has stopped it for good
            session.drives = False
            return False
        return True

    def _begin_to_run(self, reactor: Any) -> bool:
        if _is_running_asyncio(reactor):
            return False
        _check_can_watch(reactor)
        self._started = reactor
        try:
            reactor.startRunning(installSignalHandlers=False)
        except ReactorNotRestartable:
            self._started = None
            return False
        _publisher.addObserver(self._see_raised)
        if _is_asyncio(reactor):
            self._known_loop = self._loop = self._known_loop or _loop_of(reactor)
        return True

    def _see_raised(self, event: Any) -> None:
        # Twisted logs what a callback raises and goes on; these are meant for the program.
        # Older ones log it the old way.
        failure = event.get("log_failure") or event.get("failure")
        if (
            self._turning
            and isinstance(failure, Failure)
            and failure.check(KeyboardInterrupt, SystemExit)
        ):
            self._raised = self._raised or failure.value
            self.end_turn()

    def is_fair(self) -> bool:
        """Whether the reactor had its turn just now."""
        return monotonic() < self._fair_until

    def turn(self, timeout: float) -> None:
        """Let the reactor do what it has to do, and wait `timeout` seconds at most."""
        self._turning = True
        try:
            if self._loop is None:
                self._turn(self._started, timeout)
            else:
                self._run(self._loop, timeout)
        finally:
            self._turning = False
            self._fair_until = monotonic() + _FAIR
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _turn(self, reactor: Any, timeout: float) -> None:
        reactor.runUntilCurrent()
        if reactor.running and self._raised is None:  # else that was its shutdown, or ours
            due = reactor.timeout()
            wait = timeout if due is None else min(due, timeout)
            # The poll reactor cuts off what is less than a millisecond: it would not wait.
            reactor.doIteration(max(wait, _LEAST) if wait > 0 else 0)

    def _run(self, loop: Any, timeout: float) -> None:
        ending = loop.call_later(timeout, loop.stop)
        try:
            loop.run_forever()
        finally:
            ending.cancel()

    def end_turn(self) -> None:
        """End the turn. Only an asyncio loop has to be told: others end by themselves."""
        if self._turning and self._loop is not None:
            self._loop.stop()

    # -- Hosting --------------------------------------------------------------------

    def offer(self, hosted: Hosted) -> None:
        """Have the running reactor serve `hosted`; if it does not run yet, when it does."""
        reactor = self.reactor
        if not self.runs():
            self._waiting.add(hosted)
            if reactor is None:
                self._arm_when_installed()
            else:
                self._arm(reactor)
        elif self.is_inside():
            # Not at once: its channel may be in the middle of its constructor.
            reactor.callLater(0, hosted.host, reactor)
        else:
            reactor.callFromThread(hosted.host, reactor)

    def _arm_when_installed(self) -> None:
        # Channels may be made before anybody has chosen a reactor, and Twisted has no
        # word for "when it is installed"; each reactor looks this function up then.
        if self._listening_for_reactor:
            return
        self._listening_for_reactor = True
        install_reactor: Any = main.installReactor

        def installReactor(reactor: Any) -> None:
            install_reactor(reactor)
            self._listening_for_reactor = False
            main.installReactor = install_reactor
            self._arm(self.reactor)

        main.installReactor = installReactor

    def _arm(self, reactor: Any) -> None:
        # While a loop drives the reactor, callWhenRunning would call at once.
        if self._armed is reactor or self._started is not None:
            return
        self._armed = reactor

        def runs() -> None:
            self._armed = None
            if self.runs():
                for each in list(self._waiting):
                    each.host(reactor)
                self._waiting.clear()

        reactor.callWhenRunning(runs)

    def forget(self) -> None:
        """In a forked child: the reactor is the parent's, down to its epoll set.

        One that ran can't be used any more. One that did not is left to those who
        know what they do: ``twistd`` forks before it runs it, and the parent ends.
        """
        self._inherited = self.reactor
        if self._inherited is not None and self._inherited.running:
            self._untouchable = self._inherited
            self._armed = None
        self._sessions.clear()
        self._started = self._loop = None
        self._turning = False


def _is_asyncio(reactor: Any) -> bool:
    module = sys.modules.get("twisted.internet.asyncioreactor")
    return module is not None and isinstance(reactor, module.AsyncioSelectorReactor)


def _is_running_asyncio(reactor: Any) -> bool:
    if not _is_asyncio(reactor):
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _loop_of(reactor: Any) -> Any:
    import asyncio

    found: list[Any] = []
    reactor.callLater(0, lambda: found.append(asyncio.get_running_loop()))
    while not found:
        reactor.iterate(0)
    return found[0]


def _end_threads_with_interpreter(reactor: Any) -> None:
    # Nobody else ends Twisted's thread pool when its reactor was only driven from here;
    # the interpreter would wait for its threads for ever.
    pool = getattr(reactor, "threadpool", None)
    register = getattr(threading, "_register_atexit", None)
    if pool is not None and register is not None and pool not in _ended_with_interpreter:
        _ended_with_interpreter.add(pool)
        register(pool.stop)


_ended_with_interpreter: WeakSet[Any] = WeakSet()


def _check_can_watch(reactor: Any) -> None:
    if not IReactorFDSet.providedBy(reactor):
        raise RuntimeError(
            f"{type(reactor).__name__} can't watch descriptors, so it can't serve asyncore "
            "channels: install another reactor first, the select reactor for one"
        )


driver: Driver = Driver()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=driver.forget)
