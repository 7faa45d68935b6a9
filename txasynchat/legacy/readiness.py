"""Which descriptors are ready: one set of them for each channel map.

Two kinds with the same methods: :class:`EpollSet` is a descriptor itself, the
only one of its map that a reactor has to watch; :class:`PollSet` is for systems
without epoll, there a reactor watches each descriptor.

Flags are those of ``select.poll``.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ("EpollSet", "PollSet", "ReadySet", "new_set")

# By number where the platform's select module has no poll(): Windows.
IN: int = getattr(select, "POLLIN", 1)
PRI: int = getattr(select, "POLLPRI", 2)
OUT: int = getattr(select, "POLLOUT", 4)
ERR: int = getattr(select, "POLLERR", 8)
HUP: int = getattr(select, "POLLHUP", 16)
NVAL: int = getattr(select, "POLLNVAL", 32)


class ReadySet(Protocol):
    """A set of descriptors that can be waited for, in one thread at a time."""

    #: The most seconds to leave the waiting to a reactor; None for any time.
    patience: float | None

    def watch(self, fd: int, mask: int, again: bool = False) -> None:
        """Report `fd` when one of `mask` holds. From any thread; ends a wait if it does.

        :param again: whether it is known to be watched already, for something else.
        """

    @property
    def attached(self) -> bool:
        """Whether a reactor watches it. A reactor may give it up by itself."""

    def unwatch(self, fd: int) -> bool:
        """Report `fd` no more. From any thread.

        :return: False if the system does not know it: it was closed before.
        """

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """The descriptors that are ready and their flags, after `timeout` seconds at most."""

    def wake(self) -> None:
        """End a wait, or the next one. From any thread."""

    def attach(self, reactor: IReactorFDSet, ready: Callable[[], object]) -> None:
        """Have `reactor` call `ready` while a descriptor is ready."""

    def detach(self) -> None:
        """Undo :meth:`attach`. In the reactor's thread."""

    def close(self) -> None:
        """Give back what the set itself has open."""


@implementer(IReadWriteDescriptor)
class _Watched:
    """What a reactor sees of a descriptor: that it is ready."""

    def __init__(self, fd: int, ready: Callable[[], object], lost: Callable[[], object]) -> None:
        self._fd = fd
        self._ready = ready
        self._lost = lost

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._ready()

    doWrite = doRead

    def connectionLost(self, reason: Failure) -> None:
        self._lost()

    def logPrefix(self) -> str:
        return "asyncore"


class EpollSet:
    """An epoll set."""

    patience: float | None = None

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waker: int | None = None
        self._detach: Callable[[], object] | None = None

    def watch(self, fd: int, mask: int, again: bool = False) -> None:
        """See :class:`ReadySet`.

        :raise PermissionError: for a descriptor that is always ready, a regular file.
        """
        # What is known may be wrong: it was closed behind our back, or is open elsewhere.
        try:
            if again:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.register(fd, mask)
        except FileNotFoundError:
            self._epoll.register(fd, mask)
        except FileExistsError:
            self._epoll.modify(fd, mask)

    @property
    def attached(self) -> bool:
        """See :class:`ReadySet`."""
        return self._detach is not None

    def unwatch(self, fd: int) -> bool:
        """See :class:`ReadySet`."""
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError, TypeError):
            return False
        return True

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """See :class:`ReadySet`."""
        ready = self._epoll.poll(timeout)
        if self._waker is not None:
            ready = [each for each in ready if each[0] != self._waker]
        return ready

    def wake(self) -> None:
        """See :class:`ReadySet`."""
        # An event descriptor that is ready for ever, watched for one event.
        if self._waker is None:
            self._waker = os.eventfd(1)
        self.watch(self._waker, IN | select.EPOLLONESHOT, again=True)

    def attach(self, reactor: IReactorFDSet, ready: Callable[[], object]) -> None:
        """See :class:`ReadySet`."""

        def lost() -> None:
            self._detach = None

        watched = _Watched(self._epoll.fileno(), ready, lost)
        reactor.addReader(watched)
        self._detach = lambda: reactor.removeReader(watched)

    def detach(self) -> None:
        """See :class:`ReadySet`."""
        detach, self._detach = self._detach, None
        if detach is not None:
            detach()

    def close(self) -> None:
        """See :class:`ReadySet`."""
        self._epoll.close()
        if self._waker is not None:
            os.close(self._waker)
            self._waker = None

    def __del__(self) -> None:
        if self._waker is not None:
            os.close(self._waker)


class PollSet:
    """What ``select.poll`` or ``select.select`` can do, where there is no epoll."""

    # Reactors do not tell of urgent data.
    patience: float | None = 0.1

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}
        self._waiting = False
        self._waker, self._alarm = socket.socketpair()
        for each in (self._waker, self._alarm):
            each.setblocking(False)
        self._reactor: IReactorFDSet | None = None
        self._thread = 0
        self._ready: Callable[[], object] = lambda: None
        self._watched: dict[int, _Watched] = {}

    def watch(self, fd: int, mask: int, again: bool = False) -> None:
        """See :class:`ReadySet`."""
        os.fstat(fd)  # raises what registering with epoll would
        self._masks[fd] = mask
        self._in_reactor(self._show, fd)
        if self._waiting:
            self.wake()

    def _in_reactor(self, call: Callable[[int], object], fd: int) -> None:
        reactor: Any = self._reactor
        if reactor is None:
            return
        if self._thread == get_ident():
            call(fd)
        else:
            reactor.callFromThread(call, fd)

    @property
    def attached(self) -> bool:
        """See :class:`ReadySet`."""
        return self._reactor is not None

    def unwatch(self, fd: int) -> bool:
        """See :class:`ReadySet`."""
        self._masks.pop(fd, None)
        self._in_reactor(self._hide, fd)
        return True

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """See :class:`ReadySet`."""
        self._waiting = True
        try:
            alarm = self._alarm.fileno()
            ready = _poll({alarm: IN, **self._masks}, timeout)
        finally:
            self._waiting = False
        if any(fd == alarm for fd, _ in ready):
            with suppress(BlockingIOError):
                self._alarm.recv(4096)
        return [each for each in ready if each[0] != alarm]

    def wake(self) -> None:
        """See :class:`ReadySet`."""
        with suppress(BlockingIOError):  # it is awake enough
            self._waker.send(b"\0")

    def attach(self, reactor: IReactorFDSet, ready: Callable[[], object]) -> None:
        """See :class:`ReadySet`."""
        self._reactor, self._ready, self._thread = reactor, ready, get_ident()
        for fd in [self._alarm.fileno(), *self._masks]:
            self._show(fd)

    def detach(self) -> None:
        """See :class:`ReadySet`."""
        for fd in list(self._watched):
            self._hide(fd)
        self._reactor = None

    def _show(self, fd: int) -> None:
        if self._reactor is None or (fd not in self._masks and fd != self._alarm.fileno()):
            return
        watched = self._watched.get(fd)
        if watched is None:
            watched = self._watched[fd] = _Watched(fd, self._ready, lambda: self._lost(fd))
        mask = self._masks.get(fd, IN)
        (self._reactor.addReader if mask & IN else self._reactor.removeReader)(watched)
        (self._reactor.addWriter if mask & OUT else self._reactor.removeWriter)(watched)

    def _hide(self, fd: int) -> None:
        watched = self._watched.pop(fd, None)
        if watched is None or self._reactor is None:
            return
        for remove in (self._reactor.removeReader, self._reactor.removeWriter):
            with suppress(OSError, ValueError, KeyError):  # closed before
                remove(watched)

    def _lost(self, fd: int) -> None:
        # The reactor gives up a descriptor that hangs up. We decide that.
        self._watched.pop(fd, None)
        self._ready()
        if fd in self._masks:
            self._show(fd)

    def close(self) -> None:
        """See :class:`ReadySet`."""
        self._waker.close()
        self._alarm.close()

    __del__ = close


def _poll(masks: dict[int, int], timeout: float | None) -> list[tuple[int, int]]:
    if hasattr(select, "poll"):
        poller = select.poll()
        for fd, mask in masks.items():
            poller.register(fd, mask)
        return poller.poll(None if timeout is None else int(timeout * 1000 + 0.999))
    found: dict[int, int] = {}
    wanted = [[fd for fd in masks if masks[fd] & flag] for flag in (IN, OUT, PRI)]
    lists = select.select(wanted[0], wanted[1], wanted[2], timeout)
    for fds, flag in zip(lists, (IN, OUT, PRI), strict=True):
        for fd in fds:
            found[fd] = found.get(fd, 0) | flag
    return list(found.items())


def new_set() -> Any:
    """The best kind of set that this system has."""
    return EpollSet() if hasattr(select, "epoll") else PollSet()
