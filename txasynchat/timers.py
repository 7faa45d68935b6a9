"""Timers that are postponed again and again, one by one or many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin

__all__ = ("Sweep", "Swept", "postponed")

#: How often a :class:`Sweep` looks within the shortest timeout.
_LOOKS = 32


def postponed(
    timer: Any,
    seconds: float | None,
    call_later: Callable[..., Any],
    call: Callable[[], object],
) -> Any:
    """Have a call made `seconds` from now, and not when it was to be made before.

    :param timer: what this returned the last time; None at first.
    :param seconds: None for never.
    :param call_later: ``IReactorTime.callLater``.

    >>> from twisted.internet.task import Clock
    >>> clock, rings = Clock(), []
    >>> alarm = postponed(None, 5, clock.callLater, lambda: rings.append(clock.seconds()))
    >>> clock.advance(4)
    >>> alarm = postponed(alarm, 5, clock.callLater, lambda: None)
    >>> clock.advance(4), rings
    (None, [])
    >>> clock.advance(1), rings
    (None, [9.0])
    """
    active = timer is not None and timer.active()
    if seconds is None:
        if active:
            timer.cancel()
        return None
    if active:
        timer.reset(seconds)
        return timer
    return call_later(seconds, call)


class Sweep:
    """One timer that does for the timeouts of many connections.

    A timer takes some 470 bytes, and time whenever it is postponed, which is with each
    byte that comes. Here a byte only has to leave a mark. The price is that a timeout is
    late, by a sixteenth of the shortest of all at most. It is never early.

    :param clock: ``IReactorTime``.
    :param connections: all that may have a timeout; they are looked at as they are then.

    >>> from twisted.internet.task import Clock
    >>> clock, connections = Clock(), [Swept() for _ in range(1000)]
    >>> sweep = Sweep(clock, connections)
    >>> for each in connections:
    ...     each._timeout_sweep = sweep
    ...     _ = each.setTimeout(60)
    >>> len(clock.getDelayedCalls())
    1
    """

    _log = Logger()

    def __init__(self, clock: Any, connections: Iterable[Swept]) -> None:
        self._clock = clock
        self._connections = connections
        self._shortest = inf
        self._call: Any = None

    def expect(self, seconds: float) -> None:
        """One of the connections has a timeout of so many seconds from now on."""
        if seconds < self._shortest:
            self._shortest = seconds
            self._call = postponed(self._call, seconds / _LOOKS, self._clock.callLater, self._look)

    def stop(self) -> None:
        """There are no connections any more."""
        self._shortest = inf
        self._call = postponed(self._call, None, self._clock.callLater, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        self._shortest, shortest = inf, inf
        late = []
        for each in self._connections:
            timeout = each.timeOut
            if timeout is None:
                continue
            shortest = min(shortest, timeout)
            if each._quiet_since is None:
                each._quiet_since = now
            elif now - each._quiet_since >= timeout:
                late.append(each)
        self.expect(shortest)
        for each in late:
            # Unless what was done about another has changed that.
            if each.timeOut is not None and each._quiet_since is not None:
                each._quiet_since = inf
                try:
                    each.timeoutConnection()  # type: ignore[no-untyped-call]
                except Exception:
                    self._log.failure("{connection!r} failed when it timed out", connection=each)


class Swept(TimeoutMixin):
    """A ``TimeoutMixin`` that needs no timer of its own where there is a :class:`Sweep`.

    >>> from twisted.internet.task import Clock
    >>> class Connection(Swept):
    ...     def timeoutConnection(self): print("quiet for", self.timeOut, "s")
    >>> connection, clock = Connection(), Clock()
    >>> connection._timeout_sweep = Sweep(clock, [connection])
    >>> connection.setTimeout(64)
    >>> clock.pump([2] * 33)
    quiet for 64 s
    """

    # Twisted's type has no fractions of seconds, though its timers take them.
    timeOut: float | None  # type: ignore[assignment]
    #: To be set before any timeout is.
    _timeout_sweep: Sweep | None = None
    #: The time of the first look after the last sign of life; after the timeout for ever.
    _quiet_since: float | None = None

    def setTimeout(self, period: float | None) -> float | None:
        """See ``TimeoutMixin``."""
        if self._timeout_sweep is None:
            return super().setTimeout(period)  # type: ignore[no-any-return, no-untyped-call]
        before, self.timeOut = self.timeOut, period
        self._quiet_since = None
        if period is not None:
            self._timeout_sweep.expect(period)
        return before

    def resetTimeout(self) -> None:
        """See ``TimeoutMixin``."""
        if self._timeout_sweep is None:
            super().resetTimeout()  # type: ignore[no-untyped-call]
        elif self._quiet_since != inf:
            self._quiet_since = None
