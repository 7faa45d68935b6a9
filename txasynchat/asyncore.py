"""The drop-in for the ``asyncore`` module that Python 3.12 removed.

Same names, signatures and order of events, as documented for Python 3.11; the
loop is Twisted's reactor, when there is one (``txasynchat/legacy``). What differs
on purpose is numbered in ``docs/differences.md``.

Programs rebind names of this module (``asyncore.socket``, ``asyncore.socket_map``,
``asyncore.poll``) and expect it to notice, so the code that uses them is here.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from errno import (
    EAGAIN,
    EALREADY,
    EBADF,
    ECONNABORTED,
    ECONNRESET,
    EINPROGRESS,
    EINVAL,
    EISCONN,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    ENOTCONN,
    EPIPE,
    ESHUTDOWN,
    EWOULDBLOCK,
    errorcode,
)
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from txasynchat.legacy import readiness
from txasynchat.legacy.channels import ChannelSet, channel_set
from txasynchat.legacy.reactors import driver
from txasynchat.legacy.spinning import idle_callbacks
from txasynchat.legacy.watches import Round, SoftSocket, Watch, quiet_predicates

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike, ReadableBuffer

try:
    from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError

    #: What a non-blocking TLS socket raises for "not now".
    _TLS_WAITS: tuple[type[OSError], ...] = (SSLWantReadError, SSLWantWriteError)
    _TLS_SOCKETS: tuple[type[socket.socket], ...] = (SSLSocket,)
except ImportError:  # a Python without TLS
    _TLS_WAITS = _TLS_SOCKETS = ()

__all__ = (
    "ExitNow",
    "close_all",
    "compact_traceback",
    "dispatcher",
    "dispatcher_with_send",
    "file_dispatcher",
    "file_wrapper",
    "loop",
    "poll",
    "poll2",
    "poll3",
    "read",
    "readwrite",
    "socket_map",
    "write",
)

# Programs rebind the name "socket" of this module, and dispatchers have such an attribute.
Socket: TypeAlias = socket.socket
_MapType: TypeAlias = dict[int, Any]

# Names that programs take from here although they were never documented.
__habits = (select, time, EAGAIN)

_DISCONNECTED = frozenset({ECONNRESET, ENOTCONN, ESHUTDOWN, ECONNABORTED, EPIPE, EBADF})

#: No descriptor or memory for another connection: it can wait, others will end.
_SHORTAGE = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})

#: How long a listener pauses when the system has no descriptors left, in seconds.
_PAUSE = 0.5

#: The channels that ``loop()`` serves when it is given no other map.
socket_map: _MapType = {}


class ExitNow(Exception):
    """Raised by a callback to leave ``loop()``, which lets it out."""


_reraised_exceptions = (ExitNow, KeyboardInterrupt, SystemExit)


def _strerror(err: int) -> str:
    try:
        return os.strerror(err)
    except (ValueError, OverflowError):
        return errorcode.get(err, f"Unknown error {err}")


# -- Events -----------------------------------------------------------------------


def read(obj: Any) -> None:
    """Tell a channel that it can read; an exception goes to its ``handle_error()``."""
    try:
        obj.handle_read_event()
    except BaseException as error:
        _raised(obj, error)


def write(obj: Any) -> None:
    """Tell a channel that it can write; an exception goes to its ``handle_error()``."""
    try:
        obj.handle_write_event()
    except BaseException as error:
        _raised(obj, error)


def _exception(obj: Any) -> None:
    try:
        obj.handle_expt_event()
    except BaseException as error:
        _raised(obj, error)


def _raised(obj: Any, error: BaseException) -> None:
    if isinstance(error, _reraised_exceptions):
        raise error
    if not isinstance(error, _TLS_WAITS):
        _handle_error(obj)


def _handle_error(obj: Any) -> None:
    # Called while the exception is handled. Who serves an endpoint wants to know of it.
    sock = getattr(obj, "socket", None)
    if isinstance(sock, SoftSocket):
        sock.handle_error_of(obj)
    else:
        obj.handle_error()


def readwrite(obj: Any, flags: int) -> None:
    """Tell a channel all that ``select.poll`` found.

    :param flags: of ``select.poll``. A hang-up or an error is told as
        ``handle_close()``, after the others and unless one of them closed it.
    """
    closes = _closes(obj)
    try:
        if flags & select.POLLIN:
            obj.handle_read_event()
        if flags & select.POLLOUT and _closes(obj) == closes:
            obj.handle_write_event()
        if flags & select.POLLPRI and _closes(obj) == closes:
            obj.handle_expt_event()
        hung_up = flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL)
        if hung_up and _closes(obj) == closes:
            obj.handle_close()
    except OSError as error:
        if error.errno not in _DISCONNECTED:
            _raised(obj, error)
        elif _closes(obj) == closes:
            obj.handle_close()
    except BaseException as error:
        _raised(obj, error)


def _closes(obj: Any) -> int:
    # How often it was closed. What is no dispatcher never tells.
    closes = getattr(obj, "_txa_closes", 0)
    return closes if isinstance(closes, int) else 0


def _serve_as_select(channels: ChannelSet, ready: Round) -> None:
    # All that can be read, then all that can be written, as select.select() lists them.
    kinds = ready.kinds
    if kinds == readiness.IN:  # as most of the time
        channels.hand_out(ready, kinds, read)
        return
    if kinds & readiness.IN:
        channels.hand_out(ready, readiness.IN, read)
    if kinds & readiness.OUT:
        channels.hand_out(ready, readiness.OUT, write)
    if kinds & readiness.PRI:
        channels.hand_out(ready, readiness.PRI, _exception)
    if kinds & readiness.NVAL:
        channels.hand_out(ready, readiness.NVAL, readwrite, with_flags=True)


def _serve_as_poll(channels: ChannelSet, ready: Round) -> None:
    channels.hand_out(ready, ~0, readwrite, with_flags=True)


ChannelSet.serve_hosted_by(_serve_as_select)


def poll(timeout: float = 0.0, map: _MapType | None = None) -> None:
    """Serve a map for one round, reporting as ``select.select`` does.

    :param timeout: how long to wait for an event, in seconds; None for any time.
    :param map: the channels by descriptor; :data:`socket_map` if None.
    """
    channels = socket_map if map is None else map
    if channels:
        _check_timeout(timeout)
        channel_set(channels).serve(timeout, _serve_as_select)


def poll2(timeout: float = 0.0, map: _MapType | None = None) -> None:
    """Serve a map for one round, reporting as ``select.poll`` does.

    Arguments are those of :func:`poll`.
    """
    channels = socket_map if map is None else map
    if channels:
        for_ever = timeout is None or timeout < 0  # as select.poll has it
        limit = None if for_ever else timeout
        channel_set(channels).serve(limit, _serve_as_poll, as_select=False)


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")


poll3 = poll2

# What loop() calls poll and poll2 unless a program has assigned a function of its own.
_poll, _poll2 = poll, poll2


def loop(
    timeout: float = 30.0,
    use_poll: bool = False,
    map: _MapType | None = None,
    count: int | None = None,
) -> None:
    """Serve a map until it is empty, in this thread.

    In the main thread this drives the reactor too, if one is loaded and does not
    run already; in another thread, or beside a running reactor, it serves the map
    and nothing else. What a callback lets out, :exc:`ExitNow` for one, comes out.

    :param timeout: the longest time of one round, in seconds.
    :param use_poll: report as ``select.poll`` does, not as ``select.select``.
    :param map: the channels by descriptor; :data:`socket_map` if None.
    :param count: return after so many rounds.
    :raise RuntimeError: without `count` in a callback of the running reactor,
        which would stop with it.
    """
    channels = socket_map if map is None else map
    if not channels:
        return
    if count is None and driver.no_loop:
        raise RuntimeError(driver.no_loop)
    if count is None and driver.is_inside():
        raise RuntimeError(
            "asyncore.loop() would stop the reactor, which runs already and serves these "
            "channels by itself: leave the call out, or give it a count"
        )
    one_round = poll2 if use_poll and hasattr(select, "poll") else poll
    is_ours = one_round in (_poll, _poll2)
    serve = _serve_as_poll if one_round is _poll2 else _serve_as_select
    limit = None if serve is _serve_as_poll and timeout is not None and timeout < 0 else timeout
    if is_ours:
        _check_timeout(limit)
    served = channel_set(channels)
    server = served.begin(limit, serve, serve is _serve_as_select, counted=count is not None)
    try:
        while channels and (count is None or count > 0):
            if is_ours:
                served.serve_round(server)
            else:
                one_round(timeout, channels)
            if count is not None:
                count -= 1
    finally:
        served.end(server)


# -- Channels ---------------------------------------------------------------------


class _Fallback:
    """An attribute that a channel has if no class that is mixed in has one of that name.

    What ``__getattr__`` is made for; but CPython 3.11 and older are slow with every attribute
    of an object that has it.

    :param find: passed the channel and the name; raises AttributeError if there is none.
    """

    def __init__(self, name: str, find: Callable[[Any, str], Any]) -> None:
        self._name = name
        self._find = find

    def __get__(self, channel: Any, kind: type) -> Any:
        try:
            return getattr(super(dispatcher, kind if channel is None else channel), self._name)
        except AttributeError:
            if channel is None:
                raise
        return self._find(channel, self._name)


class dispatcher:
    """A thin wrapper of a socket, which a loop tells of events.

    Override ``handle_*()``, ``readable()`` and ``writable()``.

    :param sock: a connected socket, or None: see :meth:`create_socket`.
    :param map: the map to enter; :data:`socket_map` if None.

    >>> class Hello(dispatcher):
    ...     def writable(self): return False
    ...     def handle_read(self): print(self.recv(100))
    ...     def handle_close(self): self.close()
    >>> ours, theirs = socket.socketpair()
    >>> channel = Hello(ours)
    >>> theirs.send(b"hello"), theirs.close()
    (5, None)
    >>> loop(count=2)
    b'hello'
    b''
    """

    debug: bool = False
    connected: bool = False
    accepting: bool = False
    connecting: bool = False
    closing: bool = False
    addr: Any = None
    ignore_log_types: frozenset[str] = frozenset({"warning"})
    family_and_type: tuple[int, int]
    socket: Socket | None
    _map: _MapType
    _fileno: Any

    # What is ours has this prefix, and is there before any __init__ was run.
    _txa_watch: Watch | None = None
    _txa_closes = 0
    _txa_closed = False
    _txa_moved = False  # whether its own methods have received or accepted something: spinning.py

    def __init__(self, sock: Socket | None = None, map: _MapType | None = None) -> None:
        self._map = socket_map if map is None else map
        self._fileno = None
        self._txa_moved = False  # here, although the class has it: see async_chat
        if not sock:
            self.socket = None
            return
        sock.setblocking(False)
        self.accepting = self.accepting  # read with each event: quicker from the object
        self.set_socket(sock, map)
        self.connected = True
        try:
            self.addr = sock.getpeername()
        except OSError as error:
            if error.errno not in (ENOTCONN, EINVAL):
                self.del_channel(map)  # else a broken socket would be polled
                raise
            self.connected = False

    def __repr__(self) -> str:
        words = [f"{type(self).__module__}.{type(self).__qualname__}"]
        if self.accepting and self.addr:
            words.append("listening")
        elif self.connected:
            words.append("connected")
        if self.addr is not None:
            try:
                host, port = self.addr
                words.append(f"{host}:{port:d}")
            except (TypeError, ValueError):
                words.append(repr(self.addr))
        return f"<{' '.join(words)} at {id(self):#x}>"

    @property
    def _txa_sock(self) -> Any:
        # The socket of the moment: without one, using it is an AttributeError.
        return self.socket

    def _txa_joined(self, watch: Watch) -> None:
        # It has entered a map: what it has is open, whatever it had before.
        self._txa_watch = watch
        if self._txa_closed:
            self._txa_opened_again()
            self._txa_closed = False

    def _txa_opened_again(self) -> None:
        """It has another socket, after a close. For subclasses with more to begin anew."""

    def _txa_ended(self) -> None:
        """It was closed. For subclasses with more to stop than the socket."""

    def _txa_touch(self) -> None:
        if self._txa_watch is not None:
            self._txa_watch.touch()

    # -- Maps and sockets

    def add_channel(self, map: _MapType | None = None) -> None:
        """Enter a map, the channel's own if None."""
        channels = self._map if map is None else map
        channels[self._fileno] = self
        channel_set(channels).join(self._fileno, self)

    def del_channel(self, map: _MapType | None = None) -> None:
        """Leave a map, the channel's own if None."""
        fd = self._fileno
        channels = self._map if map is None else map
        watch = self._txa_watch
        if fd in channels:
            del channels[fd]
        if watch is not None and watch.fd == fd:
            watch.left()
        self._fileno = None

    def create_socket(
        self,
        family: int = socket.AF_INET,  # type: ignore[union-attr]
        type: int = socket.SOCK_STREAM,  # type: ignore[union-attr]
    ) -> None:
        """Make a socket, as ``socket.socket`` does, and enter the map with it."""
        self.family_and_type = family, type
        sock = socket.socket(family, type)
        sock.setblocking(False)
        self.set_socket(sock)

    def set_socket(self, sock: Socket, map: _MapType | None = None) -> None:
        """Have a socket, in place of the one before, and enter the map with it."""
        self.socket = sock
        self._fileno = sock.fileno()
        self.add_channel(map)

    def set_reuse_addr(self) -> None:
        """Let the address be bound again at once after the server ended."""
        level, option = socket.SOL_SOCKET, socket.SO_REUSEADDR
        with suppress(OSError):
            self._txa_sock.setsockopt(level, option, self._txa_sock.getsockopt(level, option) | 1)

    def readable(self) -> bool:
        """Whether to be told of input. Asked in each round of the loop."""
        return True

    def writable(self) -> bool:
        """Whether to be told of room for output. Asked in each round of the loop."""
        return True

    def listen(self, num: int) -> None:
        """Listen for connections; at most `num` wait to be accepted."""
        self.accepting = True
        if os.name == "nt":
            num = min(num, 5)
        self._txa_sock.listen(num)
        self._txa_touch()

    def bind(self, addr: tuple[Any, ...] | str) -> None:
        """Bind the socket to an address of its family."""
        self.addr = addr
        self._txa_sock.bind(addr)

    def connect(self, address: tuple[Any, ...] | str) -> None:
        """Begin to connect; ``handle_connect()`` is called once it is done, maybe at once.

        :raise OSError: if that can't even begin.
        """
        self.connected = False
        self.connecting = True
        error = self._txa_sock.connect_ex(address)
        if error in (EINPROGRESS, EALREADY, EWOULDBLOCK) or (error == EINVAL and os.name == "nt"):
            self.addr = address
            self._txa_touch()
        elif error in (0, EISCONN):
            self.addr = address
            self.handle_connect_event()
        else:
            raise OSError(error, errorcode[error])

    def accept(self) -> tuple[Socket, Any] | None:
        """Accept a connection.

        :return: its socket and the peer's address; None if it has gone already, or
            if there are no descriptors left: then the listener pauses.
        """
        try:
            sock, addr = self.socket.accept()  # type: ignore[union-attr]
        except TypeError:
            return None
        except OSError as error:
            if error.errno in _SHORTAGE:
                self.log_info(f"can't accept, trying again in {_PAUSE} s: {error}", "error")
                if self._txa_watch is not None:
                    self._txa_watch.rest(_PAUSE)
                return None
            if error.errno in (EWOULDBLOCK, ECONNABORTED, EAGAIN):
                return None
            raise
        self._txa_moved = True
        return sock, addr

    def send(self, data: ReadableBuffer) -> int:
        """Send what the socket takes at once.

        :return: how many bytes; 0 for none, also when the peer is gone, which
            ``handle_close()`` is told then.
        """
        try:
            sent: int = self.socket.send(data)  # type: ignore[union-attr]
        except _TLS_WAITS:
            return 0
        except OSError as error:
            if error.errno == EWOULDBLOCK:
                return 0
            if error.errno not in _DISCONNECTED:
                raise
            self._txa_lost()
            return 0
        return sent

    def recv(self, buffer_size: int) -> bytes:
        """Receive what is there, at most `buffer_size` bytes.

        :return: ``b""`` when the peer has ended or is gone, which
            ``handle_close()`` is told then.
        :raise BlockingIOError: if nothing is there.
        """
        try:
            data: bytes = self.socket.recv(buffer_size)  # type: ignore[union-attr]
        except OSError as error:
            if error.errno not in _DISCONNECTED:
                raise
            data = b""
        if not data:
            self._txa_lost()
            return b""
        self._txa_moved = True
        return data

    def _txa_lost(self) -> None:
        if not self._txa_closed:
            self.handle_close()

    def close(self) -> None:
        """Leave the map and close the socket, at once. No callback comes after it."""
        self.connected = False
        self.accepting = False
        self.connecting = False
        self._txa_closes += 1
        self._txa_closed = True
        self._txa_ended()
        self.del_channel()
        if self.socket is not None:
            try:
                self.socket.close()
            except OSError as error:
                if error.errno not in (ENOTCONN, EBADF):
                    raise

    # -- Logging

    def log(self, message: Any) -> None:
        """Write to standard error. For what happens all the time, "hits"."""
        sys.stderr.write(f"log: {message}\n")

    def log_info(self, message: Any, type: str = "info") -> None:
        """Print, unless :attr:`ignore_log_types` has the type. For all else."""
        if type not in self.ignore_log_types:
            print(f"{type}: {message}")

    # -- What a loop calls

    def handle_read_event(self) -> None:
        """There is something to read, or to accept, or a connection was made."""
        if self.accepting:
            self.handle_accept()
        elif self.connected or not self.connecting or self._txa_connects():
            self.handle_read()

    def handle_connect_event(self) -> None:
        """The attempt to connect is over.

        :raise OSError: if it failed.
        """
        error = self._txa_sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error != 0:
            raise OSError(error, _strerror(error))
        closes = self._txa_closes
        self.handle_connect()
        if self._txa_closes == closes:
            self.connected = True
            self.connecting = False
        self._txa_touch()

    def handle_write_event(self) -> None:
        """There is room for output, or a connection was made."""
        if self.accepting:
            return
        if self.connected or not self.connecting or self._txa_connects():
            self.handle_write()

    def _txa_connects(self) -> bool:
        # Whether it is still open after what it made of its connection.
        closes = self._txa_closes
        self.handle_connect_event()
        return self._txa_closes == closes

    def handle_expt_event(self) -> None:
        """There is an error, or urgent data."""
        if self._txa_sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
            self.handle_close()
            return
        self.handle_expt()
        self._txa_drop_urgent()

    def _txa_drop_urgent(self) -> None:
        # An urgent byte that nobody reads would be reported for ever.
        if isinstance(self.socket, Socket) and not self._txa_closed:
            with suppress(OSError, ValueError):
                Socket.recv(self.socket, 1, socket.MSG_OOB)

    def handle_error(self) -> None:
        """A callback has raised. Prints where, and calls ``handle_close()``.

        A listener goes on: the next connection may fare better.
        """
        _, kind, value, where = compact_traceback()
        try:
            name = repr(self)
        except Exception:
            name = f"<__repr__(self) failed for object at {id(self):0x}>"
        what = "listener goes on:" if self.accepting else "closing channel"
        self.log_info(
            f"uncaptured python exception, {what} {name} ({kind}:{value} {where})", "error"
        )
        if not self.accepting:
            self.handle_close()

    def handle_expt(self) -> None:
        """There is urgent data. What is not read here is dropped."""
        self.log_info("unhandled incoming priority event", "warning")

    def handle_read(self) -> None:
        """There is something to read."""
        self.log_info("unhandled read event", "warning")

    def handle_write(self) -> None:
        """There is room for output."""
        self.log_info("unhandled write event", "warning")

    def handle_connect(self) -> None:
        """A connection was made. :attr:`connected` is set after it."""
        self.log_info("unhandled connect event", "warning")

    def handle_accept(self) -> None:
        """There is a connection to accept. Accepts it and calls ``handle_accepted()``."""
        accepted = self.accept()
        if accepted is not None:
            self.handle_accepted(*accepted)

    def handle_accepted(self, sock: Socket, addr: Any) -> None:
        """A connection was accepted, its socket and the peer's address."""
        sock.close()
        self.log_info("unhandled accepted event", "warning")

    def handle_close(self) -> None:
        """The connection has ended or is broken. Closes the channel."""
        self.log_info("unhandled close event", "warning")
        self.close()


def _of_socket(channel: Any, name: str) -> Any:
    # Methods of the socket, as in Python 2 and early 3.
    method = getattr(getattr(channel, "socket", None), name, None)
    if callable(method):
        return method
    message = f"{type(channel).__name__!r} object has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=channel)


def _forward_methods(kind: Any) -> None:
    for name in dir(kind):
        if name[0] != "_" and name not in vars(dispatcher) and callable(getattr(kind, name)):
            setattr(dispatcher, name, _Fallback(name, _of_socket))


for __kind in (Socket, *_TLS_SOCKETS):
    _forward_methods(__kind)


class dispatcher_with_send(dispatcher):
    """A dispatcher that keeps what the socket does not take at once.

    :param sock: a connected socket, or None.
    :param map: the map to enter; :data:`socket_map` if None.

    >>> ours, theirs = socket.socketpair()
    >>> channel = dispatcher_with_send(ours)
    >>> channel.send(b"hello")
    >>> theirs.recv(100)
    b'hello'
    >>> channel.close(); theirs.close()
    """

    out_buffer: bytes

    def __init__(self, sock: Socket | None = None, map: _MapType | None = None) -> None:
        dispatcher.__init__(self, sock, map)
        self.out_buffer = b""

    def initiate_send(self) -> None:
        """Send what the socket takes of what is kept."""
        sent = dispatcher.send(self, self.out_buffer[:65536])
        self.out_buffer = self.out_buffer[sent:]
        self._txa_touch()

    def handle_write(self) -> None:
        """Send more."""
        self.initiate_send()

    def writable(self) -> bool:
        """Whether something is kept, or there is no connection yet."""
        return not self.connected or bool(self.out_buffer)

    if not TYPE_CHECKING:  # it returns nothing, unlike a dispatcher's

        def send(self, data):
            """Send, now or later."""
            if self.debug:
                self.log_info(f"sending {data!r}")
            self.out_buffer = self.out_buffer + data
            self.initiate_send()


quiet_predicates.update((dispatcher.readable, dispatcher.writable, dispatcher_with_send.writable))
idle_callbacks.update((dispatcher.handle_read, dispatcher.handle_write))


def compact_traceback() -> tuple[tuple[str, str, str], type, type, str]:
    """The exception that is being handled, on one line.

    :return: the file, function and line number where it was raised; its class; the
        exception; and the way to it, ``[file|function|line]`` for each frame.
    :raise AssertionError: if there is none.
    """
    kind, value, traceback = sys.exc_info()
    if kind is None or value is None or traceback is None:
        raise AssertionError("traceback does not exist")
    frames = [
        (frame.f_code.co_filename, frame.f_code.co_name, str(line))
        for frame, line in walk_tb(traceback)
    ]
    # The types are typeshed's, which programs are checked with: it took the
    # exception for another class.
    error: Any = value
    return frames[-1], kind, error, " ".join(f"[{'|'.join(frame)}]" for frame in frames)


def close_all(map: _MapType | None = None, ignore_all: bool = False) -> None:
    """Close all channels of a map, and empty it.

    :param map: the channels by descriptor; :data:`socket_map` if None.
    :param ignore_all: whether to go on after any exception but those that are to
        leave the loop; else only after the one for a descriptor already closed.
    """
    channels = socket_map if map is None else map
    for channel in list(channels.values()):
        try:
            channel.close()
        except _reraised_exceptions:
            raise
        except OSError as error:
            if error.errno != EBADF and not ignore_all:
                raise
        except BaseException:
            if not ignore_all:
                raise
    channels.clear()
    channel_set(channels).close_if_empty()


# -- Files ------------------------------------------------------------------------

if os.name == "posix":

    class file_wrapper:
        """Makes a file look like a socket, as far as a dispatcher looks.

        :param fd: the file's descriptor; a duplicate of it is used.
        """

        fd: int

        def __init__(self, fd: int) -> None:
            self.fd = os.dup(fd)

        def __del__(self) -> None:
            if getattr(self, "fd", -1) >= 0:
                warnings.warn(f"unclosed file {self!r}", ResourceWarning, stacklevel=2, source=self)
                self.close()

        def recv(self, bufsize: int, flags: int = 0) -> bytes:
            """Read at most `bufsize` bytes."""
            return os.read(self.fd, bufsize)

        def send(self, data: bytes, flags: int = 0) -> int:
            """Write; returns how many bytes."""
            return os.write(self.fd, data)

        @overload
        def getsockopt(self, level: int, optname: int, buflen: None = None) -> int: ...

        @overload
        def getsockopt(self, level: int, optname: int, buflen: int) -> bytes: ...

        def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> int | bytes:
            """Answer that there is no error, and no other question.

            :raise NotImplementedError: for any other option.
            """
            if (level, optname) == (socket.SOL_SOCKET, socket.SO_ERROR) and not buflen:
                return 0
            raise NotImplementedError("a file has no socket option but SO_ERROR")

        read = recv
        write = send

        def close(self) -> None:
            """Close the duplicate; the file itself stays open."""
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)

        def fileno(self) -> int:
            """The duplicate's descriptor; -1 when closed."""
            return self.fd

    class file_dispatcher(dispatcher):
        """A dispatcher for a pipe, a terminal or another file.

        :param fd: a descriptor, or a file; a duplicate is used, not blocking.
        :param map: the map to enter; :data:`socket_map` if None.
        """

        def __init__(self, fd: FileDescriptorLike, map: _MapType | None = None) -> None:
            dispatcher.__init__(self, None, map)
            self.connected = True
            descriptor: int = fd if isinstance(fd, int) else fd.fileno()
            self.set_file(descriptor)
            os.set_blocking(descriptor, False)

        def set_file(self, fd: int) -> None:
            """Use a duplicate of `fd`, and enter the map with it."""
            wrapper: Any = file_wrapper(fd)
            self.socket = wrapper
            self._fileno = wrapper.fileno()
            self.add_channel()
