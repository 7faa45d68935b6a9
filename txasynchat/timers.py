"""A timer that is postponed again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ("postponed",)


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
