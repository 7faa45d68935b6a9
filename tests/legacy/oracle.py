"""Conversations with a channel of the removed modules, or of ours, and what is seen of them.

A :class:`Conversation` is a script: what the handler is like (:class:`Setup`), what it does in one
callback after another, and what its program and its peer do meanwhile. :func:`conversation` makes
one of a number. :func:`play` plays it with one pair of modules, over a socketpair, and returns what
was seen: each callback with its arguments, each error, what was printed, the bytes on the wire and,
after every step, the state of the channel. :func:`shrunk` makes a script shorter that shows
something.

Where ours differs on purpose, :class:`Amended` changes the removed module, and nothing else: one
method or block for each numbered difference. The rest of the work is left to the removed module's
own code, and each use of a difference is counted, so that a conversation without any is compared
with the module as it was.

As a program, ``PYTHONPATH=tests python tests/legacy/oracle.py SEED COUNT`` compares so many
conversations and shows the first that differs, ``... oracle.py show SEED NUMBER`` shows one.
"""

from __future__ import annotations

import errno
import importlib
import importlib.machinery
import importlib.util
import io
import os
import random
import re
import socket
import sys
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred

#: Something to be done: what, and with what.
Action = tuple[Any, ...]
#: Something that was seen: what, and its particulars.
Event = tuple[Any, ...]

T = TypeVar("T")


# -- The modules -------------------------------------------------------------------------


class Pair(NamedTuple):
    """The two modules that a conversation needs."""

    asyncore: ModuleType
    asynchat: ModuleType


class RemovedModulesMissingError(Exception):
    """This Python has not got them, nor are the copies from PyPI installed."""


def removed_modules(patches: dict[str, list[tuple[str, str]]] | None = None) -> Pair:
    """The interpreter's own modules up to 3.11, pyasyncore and pyasynchat beyond, loaded afresh.

    :param patches: changes to the text of a module, by its name: what to replace by what.
    """
    names = ("asyncore", "asynchat")
    before = {name: sys.modules.pop(name, None) for name in names}
    try:
        return Pair(*(_loaded(name, (patches or {}).get(name, [])) for name in names))
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _loaded(name: str, patches: list[tuple[str, str]]) -> ModuleType:
    # Past whatever txasynchat.install() may have put in place: by the path alone.
    spec = importlib.machinery.PathFinder.find_spec(name)
    if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        raise RemovedModulesMissingError(f"no {name} here: pip install py{name}")
    text = spec.loader.get_data(spec.loader.path).decode()
    for old, new in patches:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} is {text.count(old)} times in {name}")
        text = text.replace(old, new)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exec(compile(text, spec.loader.path, "exec"), module.__dict__)
    return module


def our_modules() -> Pair:
    """The drop-in."""
    return Pair(
        importlib.import_module("txasynchat.asyncore"),
        importlib.import_module("txasynchat.asynchat"),
    )


# -- A script ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """What the handler is like. The defaults are those of the modules."""

    #: The first one; ... for none at all.
    terminator: Any = b"\n"
    ac_in_buffer_size: int | None = None
    ac_out_buffer_size: int | None = None
    #: SO_SNDBUF of the channel's socket.
    sndbuf: int | None = None
    #: The encoding to use; None for no use_encoding.
    encoding: str | None = None
    #: How many idle channels are in the map besides.
    crowd: int = 0
    #: Whether the connection is still being made at first.
    connecting: bool = False
    #: Whether the first of the callbacks is handle_connect.
    acts_on_connect: bool = False
    #: Methods that are overridden: they are recorded, and call the base.
    overridden: tuple[str, ...] = ()
    #: Those of them that are attributes of the instance.
    on_instance: tuple[str, ...] = ()
    #: What handle_error and handle_close do, once recorded: "base", "nothing" or "raise".
    handle_error: str = "base"
    handle_close: str = "base"
    #: What an overridden get_terminator, readable or writable answers in turn, the last for ever.
    #: ... is what the base would answer.
    get_terminator: tuple[Any, ...] = ()
    readable: tuple[Any, ...] = ()
    writable: tuple[Any, ...] = ()
    #: Whether the script is for found_terminator only.
    acts_on_found: bool = False
    #: Whether it keeps its messages by _collect_incoming_data and _get_data.
    keeps: bool = False
    #: Whether nothing is kept from log_info's eyes.
    talkative: bool = False
    #: Whether the peer reads all there is after every step.
    eager_peer: bool = True

    def __str__(self) -> str:
        changed = (
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        )
        return ", ".join(changed) or "as it comes"


@dataclass(frozen=True)
class Conversation:
    """A script."""

    setup: Setup
    #: What to do in the first collect_incoming_data or found_terminator, the second, ...
    callbacks: tuple[tuple[Action, ...], ...]
    steps: tuple[Action, ...]

    def __str__(self) -> str:
        lines = [f"handler: {self.setup}"]
        lines += [
            f"callback {number}: {', '.join(map(shown, actions))}"
            for number, actions in enumerate(self.callbacks)
            if actions
        ]
        lines += [f"step {number}: {shown(step)}" for number, step in enumerate(self.steps)]
        return "\n".join(lines)


def shown(action: Any) -> str:
    """An action or event, readable."""
    if not isinstance(action, tuple):
        text = repr(action)
        if len(text) <= 120:
            return text
        return f"{text[:80]}...{text[-20:]} ({len(action)} long)"
    name, *particulars = action
    return f"{name}({', '.join(map(shown, particulars))})"


# -- The stage ---------------------------------------------------------------------------


class Faulty:
    """A socket that does what it is told to do next, instead of what it does."""

    def __init__(self, real: socket.socket) -> None:
        self.real = real
        self.next_sends: deque[int] = deque()
        self.next_recvs: deque[int] = deque()
        self.next_error = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def send(self, data: Any, *flags: int) -> int:
        if not self.next_sends or self.real.fileno() < 0:
            return self.real.send(data, *flags)
        with memoryview(data) as view:  # as a socket does, complain of the type first
            most = self.next_sends.popleft()
            if most < 0:
                raise OSError(-most, os.strerror(-most))
            return self.real.send(view[:most], *flags)

    def recv(self, size: int, *flags: int) -> bytes:
        if not self.next_recvs or self.real.fileno() < 0:
            return self.real.recv(size, *flags)
        most = self.next_recvs.popleft()
        if most < 0:
            raise OSError(-most, os.strerror(-most))
        return self.real.recv(min(size, most), *flags)

    def getsockopt(self, level: int, option: int, *more: int) -> Any:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR) and self.next_error:
            error, self.next_error = self.next_error, 0
            return error
        return self.real.getsockopt(level, option, *more)


def payload(size: int, mark: str = "") -> bytes:
    """Bytes of which any two pieces differ, as far as that goes."""
    text = b"".join(b"%s%d," % (mark.encode(), number) for number in range(size // 2 + 1))
    return text[:size]


class Pieces:
    """A producer of that many bytes each time."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = deque(pieces)

    def more(self) -> Any:
        return self.pieces.popleft() if self.pieces else b""


class FalsyPieces(Pieces):
    """A producer that is false."""

    def __len__(self) -> int:
        return 0


class FailingPieces(Pieces):
    """A producer that raises twice where it should end."""

    failures = 2

    def more(self) -> Any:
        if not self.pieces and self.failures:
            self.failures -= 1
            raise LookupError("no more")
        return super().more()


class ActingPieces(Pieces):
    """A producer that does something each time."""

    def __init__(self, stage: Stage, action: Action, *pieces: Any) -> None:
        super().__init__(*pieces)
        self.stage = stage
        self.action = action

    def more(self) -> Any:
        if self.pieces:
            self.stage.do(self.action)
            if self.stage.differences is not None and self.action == ("discard_buffers",):
                self.stage.differences[24] += 1
                return Pieces()  # 24. It is discarded with the rest.
        return super().more()


RAISED: dict[str, Callable[[Pair], BaseException]] = {
    "ValueError": lambda pair: ValueError("on purpose"),
    "ECONNRESET": lambda pair: OSError(errno.ECONNRESET, "on purpose"),
    "EINVAL": lambda pair: OSError(errno.EINVAL, "on purpose"),
    "EAGAIN": lambda pair: BlockingIOError(errno.EAGAIN, "on purpose"),
    "ExitNow": lambda pair: pair.asyncore.ExitNow("on purpose"),
    "KeyboardInterrupt": lambda pair: KeyboardInterrupt("on purpose"),
    "SystemExit": lambda pair: SystemExit("on purpose"),
}

_ERROR = re.compile(
    r"^error: uncaptured python exception, closing channel .*?\(<class '([\w.]+)'>:"
)


_idle: list[socket.socket] = []


def idle_sockets(number: int) -> list[socket.socket]:
    """So many sockets on which nothing happens; the same ones each time."""
    while len(_idle) < 2 * number:
        _idle.extend(socket.socketpair())
    return _idle[: 2 * number : 2]


#: No conversation has so many events.
TOO_MANY = 20_000


class EndlessError(BaseException):
    """A conversation goes on for ever."""


class Stage:
    """One conversation, played with one pair of modules."""

    def __init__(
        self, conversation: Conversation, pair: Pair, differences: Counter[int] | None
    ) -> None:
        self.conversation = conversation
        self.setup = conversation.setup
        self.pair = pair
        self.differences = differences
        self.events: list[Event] = []
        self.map: dict[int, Any] = {}
        self.callbacks = iter(conversation.callbacks)
        self.quiet = False
        self.printed = io.StringIO()
        self.wire = bytearray()
        self.channel: Any = None
        self.crowd: list[Any] = []
        self.socket: Faulty
        self.peer: socket.socket

    def note(self, *event: Any) -> None:
        if not self.quiet:
            self.events.append(event)
            if len(self.events) > TOO_MANY:
                raise EndlessError

    def play(self) -> list[Event]:
        with redirect_stdout(self.printed):
            self.connect()
            try:
                self.attempt(self.make)
                if self.channel is not None:
                    for number, step in enumerate(self.conversation.steps):
                        self.note("step", number, step)
                        self.channel.begin()
                        self.attempt(partial(self.do, step))
                        self.look_around()
                    self.finish()
            except EndlessError:
                self.events[TOO_MANY:] = [("endless",)]
            finally:
                self.peer.close()
                self.quiet = True
                self.socket.close()
                if self.channel is not None:
                    self.attempt(self.channel.close)
                for each in self.crowd:
                    each.del_channel()
        self.note("wire", bytes(self.wire))
        return self.events

    def connect(self) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        ours.setblocking(False)
        if self.setup.sndbuf is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.setup.sndbuf)
        self.socket = Faulty(ours)

    def make(self) -> None:
        for sock in idle_sockets(self.setup.crowd):
            self.crowd.append(self.pair.asynchat.async_chat(sock, self.map))
        kind = handler_class(self.setup, self.pair, self.differences)
        self.channel = kind(self, None if self.setup.connecting else self.socket)
        if self.setup.connecting:
            self.channel.set_socket(self.socket)
            self.channel.connecting = True
        if self.setup.terminator is not ...:
            self.channel.set_terminator(self.setup.terminator)

    def attempt(self, what: Callable[[], object]) -> None:
        """Do it, and record what it raises."""
        try:
            what()
        except BaseException as error:
            if isinstance(error, (AssertionError, EndlessError, RecursionError)):
                raise
            self.note("raised", type(error).__name__)

    def look_around(self) -> None:
        """Record what a program can see of the channel."""
        if self.setup.eager_peer:
            self.do(("peer reads", 1 << 30))
        for line in self.printed.getvalue().splitlines():
            found = _ERROR.match(line)
            self.note("printed", f"error: {found[1]}" if found else line)
        self.printed.seek(0)
        self.printed.truncate()
        channel = self.channel
        self.quiet = True
        readable, writable = bool(channel.readable()), bool(channel.writable())
        self.quiet = False
        self.note(
            "state",
            channel.ac_in_buffer,
            getattr(channel, "terminator", ...),
            bool(channel.connected),
            len(channel.producer_fifo),
            "in its map" if any(each is channel for each in self.map.values()) else "in no map",
            "readable" if readable else "not readable",
            "writable" if writable else "not writable",
        )

    def finish(self) -> None:
        """Let the channel send what it has."""
        still = 0
        for _ in range(400):
            before = len(self.events), len(self.wire)
            self.attempt(partial(self.do, ("poll", 0, 1)))
            self.do(("peer reads", 1 << 30))
            still = still + 1 if (len(self.events), len(self.wire)) == before else 0
            if still > 3 or not self.channel.producer_fifo or not self.map:
                break
        self.look_around()

    # -- What can be done, by the program, by the peer and in callbacks -------------------

    def do(self, action: Action) -> None:
        name, *particulars = action
        getattr(self, f"do_{name.replace(' ', '_')}")(*particulars)

    def do_nothing(self) -> None:
        pass

    def do_set_terminator(self, terminator: Any) -> None:
        self.channel.set_terminator(terminator)

    def do_terminator(self, terminator: Any) -> None:
        self.channel.terminator = terminator

    def do_ac_in_buffer(self, data: Any) -> None:
        self.channel.ac_in_buffer = data

    def do_add_to_ac_in_buffer(self, data: Any) -> None:
        self.channel.ac_in_buffer += data

    def do_look(self) -> None:
        channel = self.channel
        self.note(
            "looked",
            channel.ac_in_buffer,
            getattr(channel, "terminator", ...),
            bool(channel.connected),
            len(channel.producer_fifo),
        )

    def do_push(self, size: int, kind: str = "bytes") -> None:
        data = payload(size, "p")
        kinds: dict[str, Callable[[bytes], Any]] = {
            "bytes": bytes,
            "bytearray": bytearray,
            "memoryview": memoryview,
            "str": lambda data: data.decode(),
        }
        self.channel.push(kinds[kind](data))

    def do_push_and_change(self, size: int, view: bool) -> None:
        data = bytearray(payload(size, "c"))
        self.channel.push(memoryview(data) if view else data)
        data[:] = b"!" * size
        if self.differences is not None:
            self.differences[18] += 1

    def do_push_with_producer(self, kind: str, *particulars: Any) -> None:
        self.channel.push_with_producer(self.producer(kind, *particulars))

    def producer(self, kind: str, *particulars: Any) -> Any:
        if kind == "simple":
            size, buffer_size = particulars
            return self.pair.asynchat.simple_producer(payload(size, "s"), buffer_size)
        if kind == "bytes":
            return payload(particulars[0], "b")
        if kind == "acting":
            return ActingPieces(
                self, particulars[0], *(payload(size, "a") for size in particulars[1:])
            )
        if kind == "nested":
            return Pieces(*(self.producer(*inner) for inner in particulars))
        pieces: list[Any] = [payload(size, kind[0]) for size in particulars]
        if kind == "str":
            return Pieces(*(piece.decode() for piece in pieces))
        if kind == "bytearray":
            return Pieces(*(bytearray(piece) for piece in pieces))
        if kind == "None":
            return Pieces(*pieces, None)
        if kind == "int":
            return Pieces(*pieces, 5)
        kinds = {"pieces": Pieces, "falsy": FalsyPieces, "failing": FailingPieces}
        return kinds[kind](*pieces)

    def do_fifo_append(self, item: Any) -> None:
        self.channel.producer_fifo.append(item)

    def do_new_fifo(self) -> None:
        self.channel.producer_fifo = deque()

    def do_send(self, size: int) -> None:
        self.note("sent", self.channel.send(payload(size, "d")))

    def do_recv(self, size: int) -> None:
        self.note("received", self.channel.recv(size))

    def do_initiate_send(self) -> None:
        self.channel.initiate_send()

    def do_close_when_done(self) -> None:
        self.channel.close_when_done()

    def do_close(self) -> None:
        self.channel.close()

    def do_handle_close(self) -> None:
        self.channel.handle_close()

    def do_discard_buffers(self) -> None:
        self.channel.discard_buffers()

    def do_raise(self, name: str) -> None:
        raise RAISED[name](self.pair)

    def do_connected(self, connected: bool) -> None:
        self.channel.connected = connected

    def do_base_callback(self) -> None:
        self.channel.base.found_terminator(self.channel)

    def do_del_channel(self) -> None:
        self.channel.del_channel()

    def do_add_channel(self) -> None:
        if self.socket.fileno() >= 0:
            self.channel.set_socket(self.socket)

    def do_another_socket(self) -> None:
        self.quiet = True
        self.attempt(self.channel.close)
        self.quiet = False
        self.peer.close()
        self.connect()
        self.channel.set_socket(self.socket)
        self.channel.connected = True

    def do_init_again(self) -> None:
        if self.socket.fileno() >= 0:
            self.channel.base.__init__(self.channel, self.socket, self.map)

    # The program's part: letting the channel go on.

    def do_poll(self, kind: int, times: int) -> None:
        module = self.pair.asyncore
        if kind == 0:
            for _ in range(times):
                module.poll(0, self.map)
        elif kind == 1:
            for _ in range(times):
                module.poll2(0, self.map)
        else:
            module.loop(0, kind == 3, self.map, times)

    def do_read(self) -> None:
        self.pair.asyncore.read(self.channel)

    def do_write(self) -> None:
        self.pair.asyncore.write(self.channel)

    def do_exception(self, error: int) -> None:
        self.socket.next_error = error
        self.pair.asyncore._exception(self.channel)
        self.socket.next_error = 0

    def do_readwrite(self, flags: int) -> None:
        self.pair.asyncore.readwrite(self.channel, flags)

    def do_handle_read_event(self) -> None:
        self.channel.handle_read_event()

    def do_handle_write_event(self) -> None:
        self.channel.handle_write_event()

    def do_next_sends(self, *sizes: int) -> None:
        self.socket.next_sends = deque(sizes)

    def do_next_recvs(self, *sizes: int) -> None:
        self.socket.next_recvs = deque(sizes)

    def do_next_error(self, error: int) -> None:
        self.socket.next_error = error

    # The peer's.

    def do_chunk(self, data: bytes) -> None:
        try:
            self.peer.send(data)
        except OSError as error:
            self.note("peer cannot send", error.errno)

    def do_peer_reads(self, size: int) -> None:
        got = 0
        while got < size:
            try:
                data = self.peer.recv(min(size - got, 65536))
            except OSError:
                break
            if not data:
                break
            self.wire += data
            got += len(data)

    def do_peer_closes(self) -> None:
        self.peer.close()

    def do_peer_half_closes(self) -> None:
        try:
            self.peer.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.note("peer cannot shut down", error.errno)


# -- The handler -------------------------------------------------------------------------


class Script:
    """A handler that records its callbacks and does in each what the script says.

    It calls its base as old programs do, by the name of the class.
    """

    base: Any  # async_chat
    stage: Stage
    setup: Setup

    if TYPE_CHECKING:  # of the base
        connected: bool
        connecting: bool

        def handle_read(self) -> None: ...
        def handle_close(self) -> None: ...
        def handle_write(self) -> None: ...
        def handle_read_event(self) -> None: ...
        def handle_connect_event(self) -> None: ...
        def handle_write_event(self) -> None: ...
        def handle_expt_event(self) -> None: ...
        def close(self) -> None: ...
        def set_socket(self, sock: Any, map: Any = None) -> None: ...
        def push(self, data: Any) -> None: ...
        def push_with_producer(self, producer: Any) -> None: ...
        def get_terminator(self) -> Any: ...
        def readable(self) -> Any: ...
        def initiate_send(self) -> None: ...
        def send(self, data: Any) -> int: ...
        def handle_connect(self) -> None: ...

    def __init__(self, stage: Stage, sock: Any) -> None:
        self.stage = stage
        self.answers = {
            name: deque(getattr(self.setup, name))
            for name in ("get_terminator", "readable", "writable")
        }
        self.base.__init__(self, sock, stage.map)
        for name in self.setup.on_instance if stage.differences is None else ():
            setattr(self, name, partial(_recorded, name, self))

    def collect_incoming_data(self, data: bytes) -> None:
        self.stage.note("data", data)
        if self.setup.keeps:
            self.base._collect_incoming_data(self, data)
        if not self.setup.acts_on_found:
            self._act()

    def found_terminator(self) -> None:
        self.stage.note("found")
        if self.setup.keeps:
            self.stage.note("message", self.base._get_data(self))
        self._act()

    def _act(self) -> None:
        for action in next(self.stage.callbacks, ()):
            self.stage.do(action)

    def begin(self) -> None:
        """The program's next step."""


def _recorded(name: str, channel: Any, /, *args: Any) -> Any:
    channel.stage.note(name, *map(_kept, args))
    result = getattr(channel.base, name)(channel, *args)
    if name in ("recv", "send"):
        channel.stage.note(f"{name} returned", result)
    return result


def _kept(argument: Any) -> Any:
    # Particulars are kept beyond the call.
    if isinstance(argument, dict):
        return "a map"
    return bytes(argument) if isinstance(argument, (bytearray, memoryview)) else argument


def _recording(name: str) -> Callable[..., Any]:
    def method(channel: Any, *args: Any) -> Any:
        return _recorded(name, channel, *args)

    return method


def _answering(name: str) -> Callable[..., Any]:
    def method(channel: Any) -> Any:
        if channel.stage.quiet:
            answer = channel.answers[name][0]
        else:
            channel.stage.note(name)
            answers = channel.answers[name]
            answer = answers.popleft() if len(answers) > 1 else answers[0]
        return getattr(channel.base, name)(channel) if answer is ... else answer

    return method


def _handle_error(channel: Any) -> None:
    kind = sys.exc_info()[0]
    channel.stage.note("handle_error", kind.__name__ if kind else None)
    if channel.setup.handle_error == "raise":
        raise
    if channel.setup.handle_error == "base":
        channel.base.handle_error(channel)


def _handle_close(channel: Any) -> None:
    channel.stage.note("handle_close")
    if channel.setup.handle_close == "raise":
        raise ArithmeticError("on purpose")
    if channel.setup.handle_close == "base":
        channel.base.handle_close(channel)


def _handle_connect(channel: Any) -> None:
    channel.stage.note("handle_connect")
    channel._act()


def _log_info(channel: Any, message: str, type: str = "info") -> None:
    channel.stage.note("log_info", type, None if type == "error" else message)


def handler_class(setup: Setup, pair: Pair, differences: Counter[int] | None) -> Any:
    """The class of the handler, a program's own but for the amendments."""
    base = pair.asynchat.async_chat
    body: dict[str, Any] = {"base": base, "setup": setup}
    for name in ("ac_in_buffer_size", "ac_out_buffer_size"):
        if getattr(setup, name) is not None:
            body[name] = getattr(setup, name)
    if setup.encoding is not None:
        body.update(use_encoding=1, encoding=setup.encoding)
    if setup.talkative:
        body["ignore_log_types"] = frozenset[str]()
    own = {"handle_error": _handle_error, "handle_close": _handle_close, "log_info": _log_info}
    for name in set(setup.overridden) | set(setup.on_instance):
        if name in setup.on_instance and differences is None:
            continue
        body[name] = own[name] if name in own else _recording(name)
    if setup.acts_on_connect:
        body["handle_connect"] = _handle_connect
    for name in ("get_terminator", "readable", "writable"):
        if getattr(setup, name):
            body[name] = _answering(name)
    kind = type("Handler", (Script, base), body)
    if differences is None:
        return kind
    return type("Handler", (Amended, kind), {"differences": differences})


# -- The numbered differences ------------------------------------------------------------

#: Those that :class:`Amended` knows, by their numbers in docs/differences.md.
DIFFERENCES = {
    1: "no callback comes after close()",
    2: "another socket begins without the input of the last one",
    10: "a round leaves the rest of a channel that was served meanwhile to the next one",
    12: "what was delivered is not delivered again, and callbacks see what is left behind it",
    13: "a counted read follows a terminator that is set half-way",
    14: "what is assigned to ac_in_buffer is the input that follows",
    15: "another terminator judges held-back bytes at once",
    17: "a producer that is falsy is still a producer",
    18: "push() copies what can be changed",
    19: "empty items are skipped",
    24: "what a producer gives while it discards the buffers is discarded with them",
}


class _AgainError(BaseException):
    """The removed module's look at its buffer is over; it looks afresh."""


class _EnoughError(BaseException):
    """The removed module's look at its buffer is over."""


class Amended(Script):
    """The removed module, but for the numbered differences.

    The handler's callbacks pass through here, and so does what ``handle_read`` reads and writes.
    Where nothing special happens in a callback, all that was changed for its time is put back, and
    the removed module goes on by itself. Otherwise its iteration is broken off.
    """

    differences: Counter[int]

    #: Whether it is closed, and how often it was: ever, when this round of the loop began, and when
    #: handle_read began.
    closed = False
    closes = closes_before_round = closes_before_read = 0
    #: How many events it was told, and whether one since this round of the loop told it of another.
    told = 0
    served_meanwhile = False
    #: Where the removed module is: in its handle_read, or in a callback of that.
    inside: str | None = None
    #: How often the buffer was assigned, the terminator, and another terminator.
    buffer_changes = terminator_changes = terminator_sets = 0
    #: Whether handle_read has received something, or the end.
    received = False
    #: Whether a terminator was met and found_terminator() has not been called yet.
    due = False
    #: What collect_incoming_data() is given of a count, which goes down after it.
    in_hand = 0
    #: Whether the removed module was not let send an empty item.
    skipped = False
    #: What get_terminator() answered last.
    answer: Any = None

    # What the removed module has as plain attributes.

    @property
    def ac_in_buffer(self) -> Any:
        if self.inside == "collect":
            self.differences[12] += 1
        return self.__dict__["the buffer"]

    @ac_in_buffer.setter
    def ac_in_buffer(self, data: Any) -> None:
        self.__dict__["the buffer"] = data
        self.buffer_changes += 1
        self.received = True

    @property
    def terminator(self) -> Any:
        try:
            terminator = self.__dict__["the terminator"]
        except KeyError:
            raise AttributeError("no terminator") from None
        return (
            terminator + self.in_hand if self.inside == "collect" and self.in_hand else terminator
        )

    @terminator.setter
    def terminator(self, terminator: Any) -> None:
        self.__dict__["the terminator"] = terminator
        self.in_hand = 0
        self.terminator_sets += 1
        if not isinstance(terminator, bytes) or terminator != self.answer:
            self.terminator_changes += 1

    # 1. No callback after close(). 2. Another socket begins without the last one's input.

    def close(self) -> None:
        self.closed = True
        self.closes += 1
        super().close()

    def set_socket(self, sock: Any, map: Any = None) -> None:
        if self.closed and (self.due or self.__dict__["the buffer"]):
            self.differences[2] += 1
            self.ac_in_buffer, self.due = b"", False
        if self.closed and self.inside == "collect" and self.in_hand:
            self.differences[2] += 1
            self.terminator = self.terminator
        self.closed = False
        super().set_socket(sock, map)

    def begin(self) -> None:
        self.closes_before_round = self.closes
        self.served_meanwhile = False

    def readable(self) -> Any:
        self.begin()  # this is how a round of the loop begins
        return super().readable()

    def too_late(self, closed: bool) -> bool:
        if closed:
            self.differences[1] += 1
        return closed

    @property
    def closed_in_this_round(self) -> bool:
        return self.closes != self.closes_before_round

    @property
    def closed_in_this_read(self) -> bool:
        return self.closed or self.closes != self.closes_before_read

    def handle_close(self) -> None:
        caller = sys._getframe(1).f_code.co_name
        if caller in ("recv", "send"):
            late = self.too_late(self.closed)
        else:
            late = caller == "readwrite" and self.too_late(self.closed_in_this_round)
        if not late:
            super().handle_close()

    def handle_write_event(self) -> None:
        caller = sys._getframe(1).f_code.co_name
        if not self.too_late(self.closed_in_this_round) and not self.is_left_by(caller):
            self.tell(super().handle_write_event)

    def handle_expt_event(self) -> None:
        caller = sys._getframe(1).f_code.co_name
        if not self.too_late(self.closed_in_this_round) and not self.is_left_by(caller):
            self.tell(super().handle_expt_event)

    def handle_connect(self) -> None:
        super().handle_connect()
        self.after_connect = self.connected, self.connecting

    def handle_connect_event(self) -> None:
        super().handle_connect_event()
        if self.too_late(self.closed_in_this_round):
            self.connected, self.connecting = self.after_connect

    def handle_write(self) -> None:
        if not self.too_late(self.closed_in_this_round):
            super().handle_write()

    # 10. A round leaves the rest of a channel that was served meanwhile to the next one.

    def handle_read_event(self) -> None:
        self.tell(super().handle_read_event)

    def tell(self, event: Callable[[], None]) -> None:
        self.told += 1
        told, closes = self.told, self.closes_before_round
        try:
            event()
        finally:  # rounds that a callback has begun are over, and this one goes on
            self.served_meanwhile = self.told != told
            self.closes_before_round = closes

    def is_left_by(self, caller: str) -> bool:
        # What select.poll() found, readwrite() tells in one.
        left = self.served_meanwhile and caller in ("write", "_exception")
        if left:
            self.differences[10] += 1
        return left

    # 12 to 15: what happens in collect_incoming_data().

    def handle_read(self) -> None:
        if self.too_late(self.closed_in_this_round):
            return
        outer = self.inside, self.closes_before_read
        self.inside, self.closes_before_read = "handle_read", self.closes
        try:
            self.received = False
            again = self.goes_on(super().handle_read)
            if self.received and self.due and not self.closed_in_this_read:
                again = self.call_due()
            while again:
                again = self.goes_on(self.look_again)
        finally:
            self.inside, self.closes_before_read = outer

    def look_again(self) -> None:
        """Let the removed module look at its buffer once more, as if it had received nothing."""
        own = self.__dict__.get("recv")

        def nothing(size: int) -> bytes:
            del self.__dict__["recv"]
            if own is not None:
                self.__dict__["recv"] = own
            return b""

        self.__dict__["recv"] = nothing
        self.base.handle_read(self)

    def goes_on(self, look: Callable[[], None]) -> bool:
        try:
            look()
        except _AgainError:
            return self.call_due()
        except _EnoughError:
            pass
        return False

    def call_due(self) -> bool:
        try:
            while self.due:
                self.due = False
                self.found_terminator()
        except _EnoughError:
            return False
        return True

    def get_terminator(self) -> Any:
        if self.inside == "handle_read":
            if self.too_late(self.closed_in_this_read):
                raise _EnoughError
            if self.due:
                raise _AgainError
        self.answer = super().get_terminator()
        return self.answer

    def collect_incoming_data(self, data: bytes) -> None:
        if self.too_late(self.closed_in_this_read):
            raise _EnoughError
        state = self.__dict__
        names = "the buffer", "the terminator"
        before: dict[str, Any] = {name: state[name] for name in names if name in state}
        counted = isinstance(self.answer, int) and self.answer
        self.due = self.put_behind(data)
        changes = self.buffer_changes, self.terminator_changes, self.terminator_sets
        try:
            self.call("collect", super().collect_incoming_data, data)
        except BaseException:
            self.differences[12] += 1
            raise
        finally:
            self.in_hand = 0
        assigned = changes[0] != self.buffer_changes
        changed = changes[1] != self.terminator_changes
        if not (assigned or changed or self.closed_in_this_read):
            if changes[2] != self.terminator_sets:
                before.pop("the terminator", None)
            state.update(before)
            self.due = False
            return
        if assigned:
            self.differences[14] += 1
        if changed and counted:
            self.differences[13] += 1
        elif changed and state["the buffer"] and not self.due:
            self.differences[15] += 1
        if self.closed_in_this_read:
            if state["the buffer"] or self.due:
                self.too_late(True)
            raise _EnoughError
        raise _AgainError

    def put_behind(self, data: bytes) -> bool:
        """Behind that piece: the buffer and the terminator. Answers whether it was the last one
        before a terminator."""
        state = self.__dict__
        self.in_hand = 0
        buffer, terminator = state["the buffer"], self.answer
        if not terminator:
            state["the buffer"] = b""
        elif isinstance(terminator, int):
            state["the buffer"] = buffer[len(data) :]
            if isinstance(state.get("the terminator"), int):
                state["the terminator"] -= len(data)
                self.in_hand = len(data)
            return len(buffer) >= terminator
        else:
            index = buffer.find(terminator)
            if index >= 0:
                state["the buffer"] = buffer[index + len(terminator) :]
                return True
            state["the buffer"] = buffer[len(data) :]
        return False

    def found_terminator(self) -> None:
        if self.too_late(self.closed_in_this_read):
            raise _EnoughError
        self.in_hand = 0
        self.call("found", super().found_terminator)
        if self.closed_in_this_read:
            if self.__dict__["the buffer"]:
                self.too_late(True)
            raise _EnoughError

    def call(self, name: str, callback: Callable[..., None], *args: Any) -> None:
        outer, self.inside = self.inside, name
        try:
            callback(*args)
        finally:
            self.inside = outer

    # 17. A producer that is falsy is still a producer.

    def push_with_producer(self, producer: Any) -> None:
        if isinstance(producer, FalsyPieces):
            self.differences[17] += 1
            producer = Pieces(*producer.pieces)
        super().push_with_producer(producer)

    # 18. push() copies what can be changed. 19. Empty items are skipped.

    def push(self, data: Any) -> None:
        if isinstance(data, (bytearray, memoryview)):
            data = bytes(data)
        super().push(data)

    def initiate_send(self) -> None:
        outer, self.skipped = self.skipped, False
        super().initiate_send()
        while self.skipped:
            self.skipped = False
            self.base.initiate_send(self)
        self.skipped = outer

    def send(self, data: Any) -> int:
        if not data and sys._getframe(1).f_code.co_name == "initiate_send":
            self.differences[19] += 1
            self.skipped = True
            return 0
        return super().send(data)


#: Plays a conversation.
Player = Callable[[Conversation], list[Event]]


def play(
    conversation: Conversation, pair: Pair, differences: Counter[int] | None = None
) -> list[Event]:
    """What is seen of the conversation with those modules.

    :param differences: with it, the modules are the removed ones but for the numbered differences,
        and it counts how often each made one.
    """
    return Stage(conversation, pair, differences).play()


def as_it_is(pair: Pair) -> Player:
    """Plays with those modules."""
    return lambda conversation: play(conversation, pair)


def amended(removed: Pair) -> Player:
    """Plays with the removed modules, but for the numbered differences."""
    return lambda conversation: play(conversation, removed, Counter())


# -- Scripts by the thousand -------------------------------------------------------------

TERMINATORS = [
    b"\n",
    b"\r\n",
    b"\r\n",
    b"\r\n.\r\n",
    b"aab",
    b"aaa",
    b"aa",
    b"abab",
    b"abaaba",
    b"a",
    b"ab",
]
OVERRIDABLE = (
    "recv",
    "send",
    "recv",
    "send",
    "close",
    "handle_connect",
    "handle_read",
    "handle_write",
    "handle_expt",
    "handle_read_event",
    "handle_write_event",
    "initiate_send",
    "set_terminator",
    "push",
    "add_channel",
    "del_channel",
    "log_info",
)


#: More than the channels that ours asks in every round.
CROWD = 40


class Author:
    """Writes a script, by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.theme = [chance.choice(TERMINATORS) for _ in range(chance.randint(1, 3))]
        if chance.random() < 0.2:
            letters = chance.choice([b"ab", b"\r\n", b"abc"])
            self.theme.append(bytes(chance.choices(letters, k=chance.randint(1, 6))))
        self.small_output = chance.random() < 0.5
        self.closing = chance.random() < 0.4
        self.raising = chance.random() < 0.3
        self.encodes = chance.random() < 0.2
        self.crowded = chance.random() < 0.04
        self.answers = chance.random() < 0.1

    def one_in(self, number: int) -> bool:
        return self.chance.random() * number < 1

    def among(self, *choices: tuple[float, Callable[[], T]]) -> T:
        makers = [maker for _, maker in choices]
        return self.chance.choices(makers, [weight for weight, _ in choices])[0]()

    def conversation(self) -> Conversation:
        chance = self.chance
        setup = self.setup()
        callbacks = [
            tuple(self.action(inside=True) for _ in range(chance.choice([1, 1, 1, 2, 3])))
            if self.one_in(3)
            else ()
            for _ in range(chance.randint(0, 40))
        ]
        steps: list[Action] = []
        drivers = [self.driver() for _ in range(chance.randint(1, 3))]
        for _ in range(chance.randint(3, 22)):
            steps += self.step(chance.choice(drivers), setup.eager_peer)
        return Conversation(setup, tuple(callbacks), tuple(steps))

    def setup(self) -> Setup:
        chance = self.chance
        made: dict[str, Any] = {}
        overridden = set[str]()
        made["terminator"] = ... if self.one_in(60) else self.terminator()
        if self.one_in(3):
            made["ac_in_buffer_size"] = chance.choice([1, 2, 3, 5, 8, 16, 64, 500])
        if self.small_output:
            made["ac_out_buffer_size"] = chance.choice([1, 2, 5, 16, 100, 512])
        elif self.one_in(2):
            made["ac_out_buffer_size"] = chance.choice([1000, 4096, 30000])
        if self.one_in(2):
            made["sndbuf"] = chance.choice([1, 2000, 5000, 20000])
        if self.encodes:
            made["encoding"] = chance.choice(["latin-1", "ascii", "utf-8"])
        if self.crowded:
            made["crowd"] = CROWD
        made["connecting"] = self.one_in(8)
        if not self.one_in(8):
            overridden |= {"handle_error", "handle_close"}
            made["handle_error"] = chance.choice(["base", "nothing", "nothing", "nothing"])
            if self.one_in(15):
                made["handle_error"] = "raise"
            if self.one_in(12) and not self.answers:  # nobody is asked anew at the end
                made["handle_close"] = chance.choice(["nothing"] * 5 + ["raise"])
        if self.one_in(2):
            overridden |= set(chance.choices(OVERRIDABLE, k=chance.randint(1, 4)))
        if self.one_in(12):
            made["on_instance"] = tuple(name for name in ("recv", "send") if name in overridden)
        if self.answers:
            made["get_terminator"] = (...,)
            if self.one_in(3):
                made["get_terminator"] = tuple(
                    chance.choice([..., None, b"", *self.theme])
                    for _ in range(chance.randint(1, 8))
                )
        for name in ("readable", "writable"):
            if self.one_in(8):
                answers = [..., ..., ..., ..., True, False] if self.one_in(2) else [...]
                made[name] = tuple(chance.choices(answers, k=chance.randint(1, 12)))
        made["overridden"] = tuple(sorted(overridden))
        made["acts_on_connect"] = made["connecting"] and self.one_in(2)
        made["acts_on_found"] = self.one_in(2)
        made["keeps"] = self.one_in(5)
        made["talkative"] = self.one_in(3)
        made["eager_peer"] = not self.one_in(4)
        return Setup(**made)

    def terminator(self) -> Any:
        chance = self.chance
        return self.among(
            (60, lambda: chance.choice(self.theme)),
            (12, lambda: chance.randint(0, 6)),
            (12, lambda: chance.randint(0, 50)),
            (5, lambda: None),
            (3, lambda: b""),
            (0.5, lambda: ""),
            (3 if self.encodes else 0.5, lambda: chance.choice(self.theme).decode()),
        )

    def size(self) -> int:
        chance = self.chance
        if self.small_output:
            return self.among(
                (1, lambda: 0),
                (10, lambda: chance.randint(1, 30)),
                (3, lambda: chance.randint(1, 700)),
            )
        return self.among(
            (1, lambda: 0),
            (20, lambda: chance.randint(1, 30)),
            (10, lambda: chance.randint(1, 5000)),
            (2, lambda: chance.randint(1, 200_000)),
        )

    def data(self, longest: int = 40) -> bytes:
        """Made of terminators and pieces of them."""
        chance = self.chance
        size = chance.randint(1, longest)
        text = bytearray()
        while len(text) < size:
            terminator = chance.choice(self.theme)
            text += chance.choices(
                [
                    terminator,
                    terminator[: chance.randint(1, len(terminator))],
                    terminator[chance.randint(0, len(terminator) - 1) :],
                    b"a",
                    bytes(chance.choices(b"ab\r\n.x", k=chance.randint(1, 8))),
                ],
                [5, 4, 2, 1, 1],
            )[0]
        return bytes(text[:size])

    def chunk(self) -> Action:
        longest = self.among((8, lambda: 12), (8, lambda: 40), (1, lambda: 2000))
        return ("chunk", self.data(longest))

    def producer(self) -> Action:
        chance = self.chance

        def sizes(most: int = 5) -> list[int]:
            return [self.size() or 1 for _ in range(chance.randint(0, most))]

        return self.among(
            (6, lambda: ("simple", self.size(), chance.choice([1, 7, 100, 512, 512]))),
            (6, lambda: ("pieces", *sizes())),
            (2, lambda: ("falsy", *sizes())),
            (0.7, lambda: ("failing", *sizes(3))),
            (3 if self.encodes else 0.5, lambda: ("str", *sizes())),
            (1, lambda: ("bytearray", *sizes())),
            (1, lambda: ("None", *sizes())),
            (0.1, lambda: ("int", *sizes(2))),
            (1, lambda: ("bytes", self.size())),
            (1, lambda: ("acting", self.in_producer(), *sizes())),
            (1, lambda: ("nested", ("pieces", *sizes()), ("simple", self.size(), 512))),
        )

    def in_producer(self) -> Action:
        return self.among(
            (1, lambda: ("close",)),
            (1, lambda: ("close_when_done",)),
            (1, lambda: ("look",)),
            (1, lambda: ("discard_buffers",)),
            (1, lambda: ("raise", "ValueError")),
        )

    def action(self, inside: bool) -> Action:
        """What a handler or its program may do."""
        chance = self.chance
        rare = 1.0 if self.closing else 0.05
        behind = 0.0 if self.crowded else 1.0  # our back: in a large map that is seen later
        nested = 0.7 if inside and not self.answers else 0.0
        raising = 6.0 if self.raising else 0.1
        return self.among(
            (30, lambda: ("set_terminator", self.terminator())),
            (0.5, lambda: ("set_terminator", -1)),
            (6, lambda: ("terminator", self.terminator())),
            (4, lambda: ("ac_in_buffer", b"")),
            (2, lambda: ("ac_in_buffer", self.data())),
            (1, lambda: ("add to ac_in_buffer", self.data())),
            (6, lambda: ("look",)),
            (14, lambda: ("push", self.size())),
            (4, lambda: ("push", self.size(), chance.choice(["bytearray", "memoryview"]))),
            (0.5, lambda: ("push", self.size(), "str")),
            (2, lambda: ("push and change", self.size(), chance.choice([True, False]))),
            (12, lambda: ("push_with_producer", *self.producer())),
            (2 * behind, lambda: ("fifo append", payload(self.size(), "f"))),
            (0.3 * behind, lambda: ("new fifo",)),
            (1, lambda: ("send", self.size() or 1)),
            (1, lambda: ("recv", chance.randint(1, 20))),
            (1, lambda: ("initiate_send",)),
            (3, lambda: ("discard_buffers",)),
            (2 * rare, lambda: ("close_when_done",)),
            (0.5 * rare * behind, lambda: ("fifo append", None)),
            (2 * rare, lambda: ("close",)),
            (0.5 * rare, lambda: ("handle_close",)),
            (0.3 * rare, lambda: ("init again",)),
            (nested, lambda: ("poll", chance.randint(0, 3), 1)),
            (0.3 * rare if inside else 0, lambda: ("another socket",)),
            (raising if inside else 0, lambda: ("raise", self.raised())),
            (0.5 if inside else 0, lambda: ("base callback",)),
            (0.5 * behind, lambda: ("connected", chance.choice([True, False]))),
            (0.3, lambda: ("del_channel",)),
            (0.3, lambda: ("add_channel",)),
        )

    def raised(self) -> str:
        return self.chance.choice(["ValueError"] * 3 + list(RAISED))

    def driver(self) -> Action:
        chance = self.chance
        return self.among(
            (12, lambda: ("poll", chance.randint(0, 3), chance.choice([1, 1, 1, 2, 5]))),
            (2, lambda: ("read",)),
            (1, lambda: ("handle_read_event",)),
            (1, lambda: ("readwrite", chance.choice([1, 1, 5, 5, 4, 17]))),
        )

    def step(self, driver: Action, eager_peer: bool) -> list[Action]:
        chance = self.chance
        no = errno
        rare = 1.0 if self.closing else 0.1
        return self.among(
            (40, lambda: [self.chunk(), driver]),
            (4, lambda: [self.chunk(), self.chunk(), driver]),
            (8, lambda: [driver]),
            (6, lambda: [("poll", chance.randint(0, 3), chance.choice([1, 3]))]),
            (10, lambda: [self.action(inside=False)]),
            (10, lambda: [self.action(inside=False), driver]),
            (1, lambda: [("read",)]),
            (1, lambda: [("write",)]),
            (1, lambda: [("handle_read_event",)]),
            (1, lambda: [("handle_write_event",)]),
            (1, lambda: [("exception", 0)]),
            (0.3 * rare, lambda: [("exception", no.ECONNREFUSED)]),
            (3, lambda: [("next sends", *(chance.choice([1, 3, -no.EAGAIN]) for _ in range(4)))]),
            (
                rare,
                lambda: [("next sends", -chance.choice([no.EPIPE, no.ECONNRESET, no.EINVAL]))],
            ),
            (2, lambda: [self.chunk(), ("next recvs", 1, 2, -no.EAGAIN, 3), driver]),
            (
                0.5 * rare,
                lambda: [
                    self.chunk(),
                    ("next recvs", -chance.choice([no.ECONNRESET, no.EINVAL, no.ETIMEDOUT])),
                    driver,
                ],
            ),
            (0.3 * rare, lambda: [("next error", chance.choice([no.ECONNREFUSED, no.EPIPE]))]),
            (rare, lambda: [("peer closes",), driver]),
            (0.5 * rare, lambda: [self.chunk(), ("peer closes",), driver]),
            (rare, lambda: [("peer half closes",), driver]),
            (0.5 * rare, lambda: [("another socket",)]),
            (0 if eager_peer else 8, lambda: [("peer reads", chance.choice([1, 100, 5000]))]),
        )


def conversation(seed: object, number: int) -> Conversation:
    """The conversation of that number; the same in every Python."""
    return Author(random.Random(f"{seed}/{number}")).conversation()


# -- Shorter scripts ---------------------------------------------------------------------


def shrunk(
    conversation: Conversation, shows: Callable[[Conversation], bool], tries: int
) -> Conversation:
    """A shorter script for which `shows` still holds."""
    progress = True
    while progress and tries > 0:
        progress = False
        for shorter in _shorter(conversation):
            tries -= 1
            if tries <= 0:
                break
            if shows(shorter):
                conversation = shorter
                progress = True
                break
    return conversation


def _shorter(script: Conversation) -> Iterator[Conversation]:
    steps, callbacks = script.steps, script.callbacks
    size = len(steps)
    while size:
        for start in range(0, len(steps), size):
            yield replace(script, steps=steps[:start] + steps[start + size :])
        size //= 2
    if callbacks:
        yield replace(script, callbacks=())
        yield replace(script, callbacks=callbacks[: len(callbacks) // 2])
        yield replace(script, callbacks=callbacks[:-1])
    for number, actions in enumerate(callbacks):
        for place in range(len(actions)):
            fewer = actions[:place] + actions[place + 1 :]
            yield replace(script, callbacks=(*callbacks[:number], fewer, *callbacks[number + 1 :]))
        if not actions:
            yield replace(script, callbacks=callbacks[:number] + callbacks[number + 1 :])
    for each in fields(Setup):
        if getattr(script.setup, each.name) != each.default:
            default: dict[str, Any] = {each.name: each.default}
            yield replace(script, setup=replace(script.setup, **default))
    for name in script.setup.overridden:
        fewer_names = tuple(each for each in script.setup.overridden if each != name)
        yield replace(script, setup=replace(script.setup, overridden=fewer_names))
    for number, step in enumerate(steps):
        if step[0] == "chunk" and len(step[1]) > 1:
            data = step[1]
            half = len(data) // 2
            for less in (data[:half], data[half:], data[1:], data[:-1]):
                shorter = ("chunk", less)
                yield replace(script, steps=(*steps[:number], shorter, *steps[number + 1 :]))


# -- Comparing ---------------------------------------------------------------------------


def first_difference(expected: list[Event], seen: list[Event]) -> int | None:
    """Where two records part, if they do."""
    for place, (one, other) in enumerate(zip(expected, seen, strict=False)):
        if one != other or repr(one[1:]) != repr(other[1:]):
            return place
    return None if len(expected) == len(seen) else min(len(expected), len(seen))


def comparison(expected: list[Event], seen: list[Event], context: int = 12) -> str:
    """The two records side by side, up to where they part and a little beyond."""
    place = first_difference(expected, seen)
    if place is None:
        return "no difference"
    lines = [f"  both     {shown(event)}" for event in expected[max(place - context, 0) : place]]
    for name, events in (("expected", expected), ("seen    ", seen)):
        lines += [f"- {name} {shown(event)}" for event in events[place : place + 5]]
        if len(events) <= place:
            lines.append(f"- {name} nothing more")
    return "\n".join(lines)


def report(script: Conversation, expected: Player, seen: Player, tries: int = 3000) -> str | None:
    """How a conversation differs, with the shortest script that shows it; None if it does not.

    :param tries: how many scripts may be tried for that.
    """

    def differs(candidate: Conversation) -> bool:
        return first_difference(expected(candidate), seen(candidate)) is not None

    if not differs(script):
        return None
    short = shrunk(script, differs, tries)
    return f"{short}\n{comparison(expected(short), seen(short))}"


def difference(
    seed: str, number: int, removed: Pair, ours: Pair, running: bool = False
) -> str | None:
    """How ours goes otherwise in the conversation of that number; None if it does not.

    :param running: whether the reactor runs meanwhile. Then it asks predicates too, and what a
        conversation leaves waits for its turn, so that not many can be tried.
    """
    script = conversation(seed, number)
    if running:
        script = replace(script, setup=replace(script.setup, readable=(), writable=()))
    tries = 50 if running else 3000
    found = report(script, amended(removed), as_it_is(ours), tries)
    return None if found is None else f"seed {seed}, conversation {number}:\n{found}"


# -- As a program ------------------------------------------------------------------------


def compare(seed: str, numbers: range, running: bool) -> Iterator[None]:
    """Compare those conversations, one by one. Exits with what differs.

    :param running: whether the reactor runs meanwhile.
    """
    removed, ours = removed_modules(), our_modules()
    idle_sockets(CROWD)
    yield from _compared(seed, numbers[:5], removed, ours, running)
    before = descriptors()
    yield from _compared(seed, numbers[5:], removed, ours, running)
    if descriptors() != before:
        sys.exit(f"{descriptors()} descriptors are open, {before} were")


def _compared(
    seed: str, numbers: range, removed: Pair, ours: Pair, running: bool
) -> Iterator[None]:
    for number in numbers:
        found = difference(seed, number, removed, ours, running)
        if found is not None:
            sys.exit(found)
        yield


def descriptors() -> int:
    """How many are open."""
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def compare_in_the_reactor(seed: str, numbers: range) -> None:
    """Compare, while the reactor runs and has a turn after each conversation."""
    from twisted.internet.task import deferLater, react

    async def in_turn(reactor: Any) -> None:
        for _ in compare(seed, numbers, running=True):
            await deferLater(reactor, 0)
            await deferLater(reactor, 0)

    react(lambda reactor: Deferred.fromCoroutine(in_turn(reactor)))


def show(seed: str, number: int) -> None:
    """Print a conversation, how it goes with the removed modules, and how it differs."""
    removed, ours = removed_modules(), our_modules()
    script = conversation(seed, number)
    print(script)
    counted = Counter[int]()
    for event in play(script, removed, counted):
        print("  ", shown(event))
    for each, times in sorted(counted.items()):
        print(f"difference {each}, {DIFFERENCES[each]}: {times} times")
    print(difference(seed, number, removed, ours) or "ours does the same")


def main() -> None:
    """``oracle.py SEED COUNT [none|idle|running]``, or ``oracle.py show SEED NUMBER``."""
    first, second, *more = sys.argv[1:]
    if first == "show":
        show(second, int(more[0]))
        return
    reactor = more[0] if more else "none"
    numbers = range(int(second))
    if reactor == "running":
        compare_in_the_reactor(first, numbers)
        return
    if reactor == "idle":
        importlib.import_module("twisted.internet.reactor")
    for _ in compare(first, numbers, running=False):
        pass


if __name__ == "__main__":
    main()
