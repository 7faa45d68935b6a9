"""One channel in its map: what it waits for, and how it tells that it is ready.

A :class:`Watch` is kept by the map's :class:`~txasynchat.legacy.channels.ChannelSet`
for each channel. The functions below look at channels and sockets of any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from threading import get_ident
from typing import TYPE_CHECKING, Any

from txasynchat.legacy.readiness import ERR, HUP, IN, NVAL, OUT, PRI

if TYPE_CHECKING:
    from txasynchat.legacy.channels import ChannelSet

__all__ = (
    "Round",
    "SoftSocket",
    "Watch",
    "always",
    "closed",
    "is_another",
    "is_closed",
    "is_quiet",
    "is_settled",
    "queue_of",
    "queue_predicates",
    "quiet_predicates",
    "soft_flags",
    "soft_readiness",
    "told_by_select",
    "wanted_by",
)

#: The base classes' own predicates: a channel that has no others is quiet. Its
#: answers change only when it is touched.
quiet_predicates: set[Callable[..., Any]] = set()

#: Of these, the ones that answer by nothing but the connection and the output that waits.
queue_predicates: set[Callable[..., Any]] = set()


class Watch:
    """What is known of one channel in its map.

    :ivar channel: the channel, as the map holds it.
    :ivar fd: its number in the map.
    :ivar wanted: what it waits for, flags of ``select.poll``.
    """

    __slots__ = (
        "_set",
        "channel",
        "fd",
        "gone",
        "muted",
        "parked",
        "quiet",
        "registered",
        "rests_until",
        "round",
        "serial",
        "settled",
        "sock",
        "soft",
        "stuck",
        "stuck_since",
        "tick",
        "told",
        "wanted",
    )

    def __init__(self, channel_set: ChannelSet, fd: Any, channel: Any, serial: int) -> None:
        self._set = channel_set
        self.fd: Any = fd
        self.channel: Any = channel
        self.serial: int = serial
        self.wanted: int = 0
        # The socket for which it is registered: another one may have the same number.
        self.sock: Any = None
        self.registered: int = 0
        # What was found the last time; see is_quiet() and is_settled().
        self.quiet: bool = False
        self.settled: bool = False
        # Readiness that the system does not tell of: what asks for it.
        self.soft: Callable[[], int] | None = None
        # Why it is not registered although it waits: another thread has it in hand;
        # it has hung up, and its channel does not read; its listener ran short.
        self.parked: bool = False
        self.muted: bool = False
        self.rests_until: float = 0.0
        # When it was told of an event the last time, and in which round.
        self.tick: int = 0
        self.round: int = 0
        # How many events it was told of since somebody looked whether it gets on.
        # And how many of those that were looked at made no difference, since when.
        self.told: int = 0
        self.stuck: int = 0
        self.stuck_since: float = 0.0
        # Whether its channel has left the map, or has another watch by now.
        self.gone: bool = False

    @property
    def waits_to_write(self) -> bool:
        """Whether it was last seen to wait for room for output."""
        return bool(self.wanted & OUT)

    @property
    def is_hosted(self) -> bool:
        """Whether the running reactor serves it, and nobody's loop."""
        return self._set.is_hosted

    @property
    def is_in_hand(self) -> bool:
        """Whether its channel is being told of an event, in this thread or another."""
        return self._set.is_in_hand(self)

    @property
    def is_served_on(self) -> bool:
        """Whether the next event of its channel may as well be told of now: by who goes on to
        serve it, and asks nobody but the system whether it may."""
        return self.quiet and self.soft is None and self._set.is_served_on(self)

    def touch(self) -> None:
        """Something happened that may change what it waits for. From any thread."""
        self._set.touched(self)

    def rest(self, seconds: float) -> None:
        """Watch it no more for a while."""
        self._set.rest(self, seconds)

    def notice(self) -> None:
        """A socket that the system knows nothing of has become ready. From any thread."""
        self._set.noticed(self)

    def renumber(self, fd: int) -> None:
        """Its channel gets another number in the map."""
        self._set.renumber(self, fd)

    def left(self) -> None:
        """The channel has left the map, or its descriptor will be closed."""
        self._set.leave(self)


class SoftSocket:
    """What looks like a socket and tells of its readiness itself; the system can't.

    :ivar number: stands for a descriptor in maps where there is none: negative, and
        no other has it.
    """

    _numbers = count(-2, -1)

    def __init__(self) -> None:
        self.number: int = next(SoftSocket._numbers)
        self._watch: Watch | None = None

    def readiness(self) -> int:
        """What it is ready for, flags of ``select.poll``. From any thread."""
        raise NotImplementedError

    def progress(self) -> object:
        """What changes whenever its channel gets on; None if nobody can tell."""
        return None

    def holds_back(self) -> bool:
        """Whether its channel gets no input until there is room for output."""
        return False

    def put_back(self, data: bytes) -> None:
        """Have its channel receive again what it could not deal with yet."""
        raise NotImplementedError

    def message_too_long(self) -> None:
        """The message that its channel receives has outgrown a limit."""

    def handle_error_of(self, channel: Any) -> None:
        """A callback of its channel has raised: tell it. Called while that is handled."""
        channel.handle_error()

    def watched(self, watch: Watch) -> None:
        """It is served from now on."""
        self._watch = watch

    def notice(self) -> None:
        """Tell who serves it that its readiness has changed."""
        if self._watch is not None:
            self._watch.notice()

    def renumber(self) -> None:
        """Have :attr:`number` stand for it in the map, as its descriptor will be another's."""
        if self._watch is not None:
            self._watch.renumber(self.number)


class Round:
    """What one who serves a map has to hand out: the ready channels that a wait has found.

    A call of ``loop()`` or ``poll()`` has one for all of its rounds.

    :ivar hosted: whether it is the reactor that serves.
    :ivar thread: the one that hands it out.
    :ivar ready: each with its serial number, and its flags, of ``select.poll``; in
        the order in which they have entered the map.
    :ivar kinds: all flags that one of them has.
    :ivar tick: when the wait began; no two waits have the same.
    :ivar alone: the same, if nobody else served the map then; else 0.
    :ivar in_hand: the one that is being told of an event, unless its callback waits itself.
    :ivar waited: whether it would have waited, had nothing been ready.
    :ivar counted: whether somebody counts the rounds: each has one event of a kind for a channel.
    """

    __slots__ = (
        "alone",
        "counted",
        "hosted",
        "in_hand",
        "kinds",
        "ready",
        "thread",
        "tick",
        "waited",
    )

    def __init__(self, hosted: bool = False) -> None:
        self.hosted: bool = hosted
        self.thread: int = get_ident()
        self.ready: Sequence[tuple[int, Watch, int]] = ()
        self.kinds: int = 0
        self.tick: int = 0
        self.alone: int = 0
        self.in_hand: Watch | None = None
        self.waited: bool = True
        self.counted: bool = False


#: Whoever waits for anything waits for urgent data too.
_READ = IN | PRI
_WRITE = OUT | PRI


def wanted_by(channel: Any) -> int:
    """What a channel waits for: asks its predicates."""
    wanted = _READ if channel.readable() else 0
    # A listener is never writable, whatever it says.
    if channel.writable() and not channel.accepting:
        wanted |= _WRITE
    return wanted


def is_quiet(channel: Any) -> bool:
    """Whether a channel has the base classes' own predicates and no others."""
    # Not by its __dict__: CPython 3.11 is slower with an object once that was looked at.
    try:
        readable, writable = channel.readable, channel.writable
        return (
            readable.__func__ in quiet_predicates
            and writable.__func__ in quiet_predicates
            and readable.__self__ is writable.__self__ is channel
        )
    except Exception:  # no method, but a function, say; or a property that raises
        return False


def is_settled(watch: Watch) -> bool:
    """Whether a quiet channel waits for input, and goes on to do so as long as it is

    * connected, with an empty queue and ``ac_out_buffer``, or a listener; and
    * has the same socket.
    """
    channel: Any = watch.channel
    if watch.wanted != _READ or watch.soft is not None:
        return False
    return bool(channel.accepting) or channel.writable.__func__ in queue_predicates


def queue_of(channel: Any) -> Any:
    """The ``producer_fifo`` of an async_chat, to be looked at; empty where there is none."""
    if hasattr(type(channel), "_txa_producer_fifo"):
        queue = channel._txa_producer_fifo  # not made yet, where nobody has used it
        return () if queue is None else queue
    return getattr(channel, "producer_fifo", ())


def is_closed(sock: Any) -> bool:
    """Whether a socket was closed, maybe behind our back."""
    try:
        return sock is not None and sock.fileno() == -1
    except Exception:
        return False


def is_another(watch: Watch, channel: Any) -> bool:
    """Whether a channel may wait with another descriptor than the registered one."""
    sock = getattr(channel, "socket", None)
    # What has no socket may have opened its descriptor again: nobody could tell.
    return sock is None or sock is not watch.sock or is_closed(sock)


def told_by_select(flags: int, wanted: int) -> int:
    """What ``select.select`` on Linux makes of the flags of ``select.poll``."""
    found = 0
    if wanted & IN and flags & (IN | HUP | ERR):
        found = IN
    if wanted & OUT and flags & (OUT | ERR):
        found |= OUT
    return found | flags & (PRI | NVAL)


def soft_flags(watch: Watch) -> int:
    """What a channel is ready for without the system's knowledge."""
    return 0 if watch.soft is None else watch.soft() & (watch.wanted | NVAL)


def always() -> int:
    """The readiness of a regular file."""
    return IN | OUT


def closed() -> int:
    """The readiness of a descriptor that is not valid."""
    return NVAL


def soft_readiness(watch: Watch, sock: Any) -> Callable[[], int] | None:
    """What tells of the readiness that the system does not tell of; None if it tells all."""
    if is_closed(sock):
        return closed
    if isinstance(sock, SoftSocket):
        sock.watched(watch)  # it may have changed hands without any ado
        return sock.readiness
    pending = getattr(sock, "pending", None)
    if pending is None:
        return None

    def decrypted() -> int:  # TLS: what came and was not read does not make the socket ready
        try:
            count = pending()
        except (OSError, ValueError):
            return 0
        return IN if isinstance(count, int) and count > 0 else 0

    return decrypted
