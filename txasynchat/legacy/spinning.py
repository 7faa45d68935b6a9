"""Channels that are ready over and over although nothing comes of it: said once.

Such a channel takes all the time that its loop has, and a program shows nothing of it
but its heat. It is served as before; the log says which it is, and what to do.

Nothing is looked at while a channel is told of its first :data:`SUSPICIOUS` events. The
next ones are looked at one by one, until one of them made a difference: then all is well
for as many events more. So an honest channel is looked at once in a while, for a moment.

What makes a difference:

* the dispatcher's own methods received or accepted something, or it was connected, closed
  or given another socket;
* its kernel state changed, as that of those does which use their socket by themselves: what
  was read and written, as far as the system tells it;
* for a :class:`~txasynchat.legacy.watches.SoftSocket`, what it says itself.

Where nobody can tell (a datagram that was sent leaves no trace), only a callback that can't
have done anything is accused: a default one, or one that refers to nothing.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from collections.abc import Callable
from time import monotonic
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from txasynchat.legacy.readiness import IN, OUT
from txasynchat.legacy.watches import SoftSocket, Watch

try:
    from fcntl import ioctl
    from termios import FIONREAD, TIOCOUTQ
except ImportError:  # Windows
    ioctl = None  # type: ignore[assignment]

__all__ = ("SUSPICIOUS", "call_and_look", "idle_callbacks")

#: After so many events a channel is looked at.
SUSPICIOUS = 1000

#: After so many without a difference it is accused; ten times as many where the system
#: only tells what waits, not how much has passed.
_SURE = 1000
_INEXACT = 10

#: They have to come within so many seconds: a channel that is told a hundred times in a
#: second costs nothing, and its loop may be somebody's clock.
_WITHIN = 10.0

#: The base classes' own callbacks that do nothing.
idle_callbacks: set[Callable[..., Any]] = set()

_log = Logger()

#: What was said already, of which class.
_said: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()

_NEVER_AGAIN = -(1 << 60)

# struct tcp_info of Linux: the state; the connections that wait to be accepted, where it
# listens; the bytes that were acknowledged, and received.
_TCP_INFO = struct.Struct("=B23xI92xQQ")
_TCP_LISTEN = 10


def call_and_look(watch: Watch, flags: int, call: Callable[[], object]) -> None:
    """Tell a suspicious channel of an event, and look whether it made a difference.

    :param watch: the channel's; `call` may close it.
    :param flags: the event, flags of ``select.poll``.
    :param call: tells it; what it raises comes out.
    """
    channel: Any = watch.channel
    before = _own_state(channel)
    is_idle = _is_idle(channel, flags)
    if hasattr(type(channel), "_txa_moved"):
        channel._txa_moved = False
    kernel = None if is_idle else _passed(channel, flags)
    call()
    if (
        (watch.gone or getattr(channel, "_txa_moved", False) or _own_state(channel) != before)
        or (kernel is None and not is_idle)
        or (kernel is not None and _passed(channel, flags) != kernel)
    ):
        watch.told = watch.stuck = 0
        return
    if not watch.stuck:
        watch.stuck_since = monotonic()
    watch.stuck += 1
    if watch.stuck < _SURE * (1 if kernel is None or kernel[0] else _INEXACT):
        return
    if monotonic() - watch.stuck_since > _WITHIN:
        watch.stuck = 0
    else:
        watch.told = _NEVER_AGAIN
        _say(channel, flags)


def _own_state(channel: Any) -> tuple[Any, ...]:
    # What changes when its own methods get on. It may be anything that is in a map.
    names = ("_txa_closes", "connected", "connecting", "accepting", "_fileno")
    sock = getattr(channel, "socket", None)
    return id(sock), *(getattr(channel, name, None) for name in names)


def _callback(channel: Any, flags: int) -> str:
    if flags & IN:
        return "handle_accept" if getattr(channel, "accepting", False) else "handle_read"
    return "handle_write" if flags & OUT else "handle_close"


def _is_idle(channel: Any, flags: int) -> bool:
    # Whether what it is told by can't do anything.
    if flags & IN and flags & OUT:
        return _is_idle(channel, IN) and _is_idle(channel, OUT)
    callback = getattr(channel, _callback(channel, flags), None)
    function = getattr(callback, "__func__", None)
    if function in idle_callbacks:
        return True
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    return not (code.co_names or code.co_freevars)


# -- What has passed, as far as the system tells it -----------------------------------


def _passed(channel: Any, flags: int) -> tuple[Any, ...] | None:
    # None if nobody can tell. First, whether it counts what has passed.
    sock = getattr(channel, "socket", None)
    if isinstance(sock, SoftSocket):
        progress = sock.progress()
        return None if progress is None else (True, progress)
    if ioctl is None or sys.platform != "linux":
        return None
    try:
        fd = sock.fileno()  # type: ignore[union-attr]
        if isinstance(sock, socket.socket):
            found = _passed_socket(sock, fd, flags)
        else:
            found = _passed_file(fd)
        decrypted = getattr(sock, "pending", None)
        return found if found is None or decrypted is None else (*found, decrypted())
    except (AttributeError, OSError, TypeError, ValueError, struct.error):
        return None


def _passed_socket(sock: Any, fd: int, flags: int) -> tuple[Any, ...] | None:
    if sock.type == socket.SOCK_DGRAM:
        # Datagrams of one size look alike, but the memory that they take does not.
        memory = sock.getsockopt(socket.SOL_SOCKET, 55, 4)  # SO_MEMINFO
        return None if flags & OUT else (False, _number(fd, FIONREAD), memory)
    if sock.type != socket.SOCK_STREAM:
        return None
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False, _number(fd, FIONREAD), _number(fd, TIOCOUTQ)
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    state, waiting, acknowledged, received = _TCP_INFO.unpack(info)
    if state == _TCP_LISTEN:
        return False, waiting
    # So many bytes were read, and written, ever.
    return True, received - _number(fd, FIONREAD), acknowledged + _number(fd, TIOCOUTQ), state


def _passed_file(fd: int) -> tuple[Any, ...] | None:
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return False, os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_size
    if stat.S_ISFIFO(mode):
        return False, _number(fd, FIONREAD)
    return None


def _number(fd: int, request: int) -> int:
    number: int = struct.unpack("i", ioctl(fd, request, b"\0\0\0\0"))[0]
    return number


# -- What is said ---------------------------------------------------------------------


def _say(channel: Any, flags: int) -> None:
    kind = type(channel)
    callback = _callback(channel, flags)
    said = _said.setdefault(kind, set())
    if callback in said:
        return
    said.add(callback)
    _log.warn(
        "{handler} takes all of its loop's time: it is told over and over that it can "
        "{event}, and nothing comes of it. {advice}",
        handler=f"{kind.__module__}.{kind.__qualname__}",
        event="write" if callback == "handle_write" else "read",
        advice=_advice(channel, callback),
    )


def _advice(channel: Any, callback: str) -> str:
    if callback == "handle_write":
        return (
            "Its writable() returns True although it has nothing to send: override it, to "
            "return True only while something waits to be sent"
        )
    if callback == "handle_accept":
        return "Its handle_accept() has to call accept()"
    if callback == "handle_close" or not _has_unread(channel):
        return "Its peer has finished, or is gone: its handle_close() has to call close()"
    return (
        "Its handle_read() has to call recv(); or its readable() has to return False while "
        "it wants no input"
    )


def _has_unread(channel: Any) -> bool:
    sock = getattr(channel, "socket", None)
    if isinstance(sock, SoftSocket):
        return bool(getattr(sock, "has_unread", True))
    try:
        return bool(_number(sock.fileno(), FIONREAD))  # type: ignore[union-attr]
    except Exception:
        return True
