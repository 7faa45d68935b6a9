"""Channel maps: what their channels wait for, and who is told when it comes.

Each map has one :class:`ChannelSet`. It follows the map itself, a plain dict that
programs edit, share and empty as they like, and the channels' own predicates,
``readable()`` and ``writable()``.

When predicates are asked:

* those of a channel that overrides them, in every round, as the old loop did;
* those of a channel that does not, when something happened to it that could
  change the answer (:meth:`Watch.touch`, an event, a new socket), unless it is
  settled: then a look at it tells (:func:`~txasynchat.legacy.watches.is_settled`);
* all, to notice what was done behind our back (an entry put into the map, a
  predicate set on an object): when somebody begins to loop over a small map, and
  whenever it costs no more than a hundredth of the time.

All channels of a small map are looked at in every round, so an item that was
appended to a ``producer_fifo`` is sent in the next one.

So a round costs what its busy channels cost, however many are idle.

Threads: whoever calls ``loop()`` or ``poll()`` serves the map, several at once if
they like. One of them waits at a time (``_leader``); a channel that one thread
has in hand is not watched for another. Interest changes, under ``_books``, may
come from any thread and take effect on a wait that is under way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, MutableMapping
from errno import EPERM
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary, ref

from twisted.logger import Logger

from txasynchat.legacy.reactors import Session, driver
from txasynchat.legacy.readiness import IN, OUT, PRI, ReadySet, new_set
from txasynchat.legacy.spinning import SUSPICIOUS, call_and_look
from txasynchat.legacy.watches import (
    Round,
    SoftSocket,
    Watch,
    always,
    closed,
    is_another,
    is_closed,
    is_quiet,
    is_settled,
    soft_flags,
    soft_readiness,
    told_by_select,
    wanted_by,
)

__all__ = ("ChannelSet", "Dispatch", "Server", "channel_set")

ChannelMap = MutableMapping[Any, Any]

#: What serves the ready channels of a round.
Dispatch = Callable[["ChannelSet", "Round"], None]

#: Up to this many channels all are looked at in every round.
_SMALL = 32

#: The share of the time that asking all channels may take: 1/100.
_RARELY = 100

#: The least time until they are asked again, in seconds: a wait ends for that.
_LEAST_PAUSE = 0.01

#: How often channels of a map that the reactor serves are asked, in seconds:
#: time-based predicates were asked once in each timeout of a loop.
_LOOK_AGAIN = 0.2

#: How long a thread that looped over a map keeps it from the reactor, in seconds,
#: when it is alive and comes back again and again (``loop(count=1)`` and ``poll()``).
_STILL_MINE = 1.0

#: How long a channel rests that raises out of its handle_error() or its predicates
#: while the reactor serves it, in seconds: it would do so for ever.
_REST_AFTER_ERROR = 1.0

#: The longest wait, in seconds, that every way to wait can count.
_LONGEST_WAIT = 1e6

#: What else a system tells, beside what is waited for.
_HUNG_UP = ~(IN | OUT | PRI)


class Server(Round):
    """One call of ``loop()`` or ``poll()`` that serves a map.

    :ivar timeout: how long a round lasts when there are no events, in seconds.
    :ivar dispatch: what serves the ready channels.
    :ivar as_select: whether hang-ups are what ``select.select`` makes of them, something
        to read, or what ``select.poll`` does.
    :ivar session: how it waits.
    """

    __slots__ = ("as_select", "dispatch", "session", "timeout")

    session: Session

    def __init__(
        self, timeout: float | None, dispatch: Dispatch, as_select: bool, counted: bool
    ) -> None:
        super().__init__()
        self.counted = counted
        if timeout is None or timeout > _LONGEST_WAIT:
            timeout = _LONGEST_WAIT
        self.timeout: float = timeout
        self.dispatch: Dispatch = dispatch
        self.as_select: bool = as_select
        self.waited: bool = self.timeout > 0


class ChannelSet:
    """The channels of one map, and who serves them.

    Alive as long as a channel, a loop or the reactor needs it.
    """

    _dispatch_hosted: Dispatch

    _log = Logger()

    def __init__(self, map: ChannelMap) -> None:
        self.map = map
        self._set: ReadySet | None = None
        self._watches: dict[Any, Watch] = {}
        self._loud: dict[Watch, None] = {}
        self._fresh: dict[Watch, None] = {}
        self._soft: dict[Watch, None] = {}
        self._resting: dict[Watch, None] = {}
        self._serial = 0
        self._next_sweep = 0.0
        self._unswept = True
        self._tick = 0
        self._ghosts: set[Any] = set()
        self._stale = False
        self._servers = 0  # each nested call counts
        self._waiting = False
        self._attached = False
        self._rounds: list[Round] = []  # of those who serve, hosted ones while they last
        self._owner: tuple[ref[threading.Thread], float] | None = None
        self._hosted: Any = None
        self._look_again: Any = None
        self._host_later: Any = None
        self._make_locks()

    @classmethod
    def serve_hosted_by(cls, dispatch: Dispatch) -> None:
        """Say how ready channels are served when the reactor does it."""
        cls._dispatch_hosted = staticmethod(dispatch)

    @property
    def is_hosted(self) -> bool:
        """Whether the running reactor serves the map."""
        return self._hosted is not None

    def is_in_hand(self, watch: Watch) -> bool:
        """See :attr:`Watch.is_in_hand`."""
        return any(each.in_hand is watch for each in list(self._rounds))

    def is_served_on(self, watch: Watch) -> bool:
        """See :attr:`Watch.is_served_on`."""
        return any(each.in_hand is watch and not each.counted for each in list(self._rounds))

    def _make_locks(self) -> None:
        self._leader = threading.RLock()
        self._books = threading.RLock()

    def forked(self) -> None:
        """In a forked child: leave the parent's set alone, have one of its own."""
        self._make_locks()
        self._set = None  # not closed: a wait may be under way, interrupted by a signal
        self._ghosts.clear()
        me = get_ident()
        self._rounds = [each for each in self._rounds if each.thread == me]
        self._servers = sum(not each.hosted for each in self._rounds)
        self._waiting, self._attached = False, False
        self._hosted = self._look_again = self._host_later = None
        for watch in self._watches.values():
            watch.registered = 0
            watch.sock = None
            watch.parked = False
        self._unswept, self._next_sweep = True, 0.0

    # -- Which channels -------------------------------------------------------------

    def join(self, fd: Any, channel: Any) -> Watch:
        """A channel has entered the map. It is not asked anything yet. From any thread."""
        with self._books:
            before = self._watches.get(fd)
            if before is not None:
                self._forget(before)
            self._serial += 1
            watch = self._watches[fd] = Watch(self, fd, channel, self._serial)
            self._fresh[watch] = None
            if hasattr(type(channel), "_txa_joined"):
                channel._txa_joined(watch)
            sock = getattr(channel, "socket", None)
            if isinstance(sock, SoftSocket):
                sock.watched(watch)
        self._stir()
        return watch

    def leave(self, watch: Watch) -> None:
        """A channel has left the map. From any thread, before its descriptor is closed."""
        with self._books:
            if self._watches.get(watch.fd) is not watch:
                return
            self._forget(watch)
        if not self.map:
            self._stir()
            self.close_if_empty()

    def renumber(self, watch: Watch, fd: int) -> None:
        """See :meth:`Watch.renumber`."""
        with self._books:
            if not watch.gone and self.map.get(watch.fd) is watch.channel:
                channel: Any = watch.channel
                del self.map[watch.fd], self._watches[watch.fd]
                watch.fd = channel._fileno = fd
                self.map[fd], self._watches[fd] = channel, watch

    def _forget(self, watch: Watch) -> None:
        del self._watches[watch.fd]
        watch.gone = True
        self._unregister(watch)
        self._fresh.pop(watch, None)
        if not watch.quiet:
            self._loud.pop(watch, None)
        if self._soft:
            self._soft.pop(watch, None)
        if self._resting:
            self._resting.pop(watch, None)
        if getattr(watch.channel, "_txa_watch", None) is watch:
            watch.channel._txa_watch = None

    def close_if_empty(self) -> None:
        """Give back what is open for the map's sake, when nobody needs it."""
        with self._books:
            if self._attached and not self._hosted_reactor_runs():
                self._hosted = None
                self._detach()
            if self.map or self._servers or self._attached:
                return
            for watch in list(self._watches.values()):
                self._forget(watch)
            self._fresh.clear()  # each refers to this: channels would wait for the collector
            self._close_set()

    def _close_set(self) -> None:
        ready_set, self._set = self._set, None
        if ready_set is not None:
            ready_set.close()
        self._ghosts.clear()
        self._stale = False
        for watch in self._watches.values():
            watch.registered = 0

    # -- What they wait for ---------------------------------------------------------

    def touched(self, watch: Watch) -> None:
        """See :meth:`Watch.touch`."""
        if self._set is None:
            return
        if watch.sock is None or not watch.quiet:
            self._fresh[watch] = None
            self._stir()
            return
        for each in self._rounds:
            if each.in_hand is watch and each.thread == get_ident():
                return  # hand_out() looks at it, once for all that its callback does
        with self._books:
            if not watch.gone:
                self._want(watch, wanted_by(watch.channel))
        if watch in self._soft and soft_flags(watch):
            self._stir()

    def noticed(self, watch: Watch) -> None:
        """See :meth:`Watch.notice`."""
        if self._watches.get(watch.fd) is not watch:
            return
        self._soft[watch] = None
        if (
            self._hosted is not None
            and self._waiting
            and watch.sock is not None
            and driver.is_inside()
        ):
            self._serve_hosted(watch)
        else:
            self._stir()

    def rest(self, watch: Watch, seconds: float) -> None:
        """See :meth:`Watch.rest`."""
        with self._books:
            watch.rests_until = monotonic() + seconds
            self._resting[watch] = None
            self._unregister(watch)

    def _stir(self) -> None:
        # Something is to be asked, or there is nothing to wait for any more.
        if self._waiting:  # what begins to wait later asks first
            with self._books:
                if self._waiting and self._set is not None:
                    self._set.wake()
                    return
        if not self._servers and self._hosted is None and self.map:
            driver.offer(self)

    def _sync(self, now: float, also_new: bool = True) -> None:
        # Before each wait: what every channel waits for. One that is new may be in the
        # middle of its constructor, if this is not between two callbacks.
        if self._resting:
            self._end_rests()
        watches = self._watches
        number = len(self.map)
        if number != len(watches) or (self._unswept and now >= self._next_sweep):
            self._sweep(now, also_new)
            return
        if number <= _SMALL:
            self._look_at(list(watches.values()))
        if self._fresh or self._loud:
            self._ask_what_is_due(also_new)

    def _sweep(self, now: float, also_new: bool) -> None:
        watches = self._all()
        if len(watches) <= _SMALL:
            self._next_sweep = now + _LEAST_PAUSE
            self._ask(watches, also_new)
            return
        now = monotonic()
        for watch in watches:
            if watch.sock is not None:
                self._sort_by_noise(watch)
                if is_closed(watch.sock):
                    watch.settled = False
        self._look_at(watches)
        self._ask_what_is_due(also_new)
        ended = monotonic()
        self._next_sweep = ended + max(_RARELY * (ended - now), _LEAST_PAUSE)

    def _look_at(self, watches: list[Watch]) -> None:
        for watch in watches:
            channel = watch.channel
            # The same as in hand_out().
            if not (
                watch.settled
                and channel.socket is watch.sock
                and (
                    channel.accepting
                    or (
                        channel.connected
                        and not channel._txa_producer_fifo
                        and not channel.ac_out_buffer
                    )
                )
            ):
                self._fresh[watch] = None

    def _ask_what_is_due(self, also_new: bool) -> None:
        due = dict(self._fresh)
        for watch in due:
            self._fresh.pop(watch, None)  # first, then ask: another thread may add it again
        if self._loud:
            due.update(self._loud)
        self._ask(due, also_new)

    def _all(self) -> list[Watch]:
        # All that are in the map at this moment, in its order.
        self._unswept = False
        self._fresh.clear()
        watches = self._watches
        found = []
        for fd, channel in list(self.map.items()):
            watch = watches.get(fd)
            if watch is None or watch.channel is not channel:
                watch = self.join(fd, channel)
            found.append(watch)
        if len(watches) != len(found):
            for watch in [each for each in list(watches.values()) if each.fd not in self.map]:
                self.leave(watch)
        return found

    def _blame(self, watch: Watch) -> None:
        self._log.failure(
            "uncaught exception of {channel}, while the reactor serves its map",
            channel=watch.channel,
        )
        self.rest(watch, _REST_AFTER_ERROR)

    def _ask(self, watches: Iterable[Watch], also_new: bool) -> None:
        for watch in watches:
            if watch.gone:
                continue
            if watch.sock is None and not also_new:
                self._fresh[watch] = None
                continue
            channel = watch.channel
            try:
                wanted = wanted_by(channel)
                try:
                    # All that is to do for most channels, most of the time.
                    sock = channel.socket
                    if wanted == watch.wanted and sock is watch.sock and sock.fileno() != -1:
                        continue
                except Exception:
                    pass  # no dispatcher: it is looked at more closely
                self._note(watch, wanted)
            except BaseException:
                # Out of a loop it comes; the reactor has others to serve.
                if self._hosted is None:
                    raise
                self._blame(watch)

    def _note(self, watch: Watch, wanted: int) -> None:
        with self._books:
            self._sort_by_noise(watch)
            if watch.quiet and watch.sock is not None:
                # Asked and noted in one: another thread may have touched it just before.
                wanted = wanted_by(watch.channel)
            if not watch.gone:
                self._want(watch, wanted)

    def _sort_by_noise(self, watch: Watch) -> None:
        # Whether its answers change only when it is touched; others are asked in each round.
        # Looked at when an answer has changed, and whenever all of a larger map are asked: a
        # predicate set on an object later on counts from then.
        watch.quiet = is_quiet(watch.channel)
        if watch.quiet:
            self._loud.pop(watch, None)
        else:
            self._loud[watch] = None
            watch.settled = False

    def _want(self, watch: Watch, wanted: int) -> None:
        # In _books.
        sock = getattr(watch.channel, "socket", None)
        if watch.muted:
            watch.muted = watch.wanted == wanted and watch.sock is sock
        watch.wanted = wanted
        if sock is None or sock is not watch.sock or is_closed(sock):
            watch.sock = sock
            watch.registered = 0
            watch.soft = soft_readiness(watch, sock)
        if watch.soft is not None:
            self._soft[watch] = None
        watch.settled = watch.quiet and is_settled(watch)
        self._register(watch)

    def _register(self, watch: Watch) -> None:
        # Brings the set in line with the watch.
        mask = watch.wanted
        if watch.parked or watch.muted or watch.soft is closed or watch in self._resting:
            mask = 0
        ready_set = self._set
        if mask == watch.registered or ready_set is None:
            return
        if not mask:
            self._unregister(watch)
            return
        if watch.soft is not None and isinstance(watch.sock, SoftSocket):
            return  # it tells of itself
        if watch.fd in self._ghosts:
            self._stale = True
        try:
            ready_set.watch(watch.fd, mask, watch.registered != 0)
        except OSError as error:
            # A regular file is ready at any time; what else is refused can't be waited for.
            watch.soft = always if error.errno == EPERM else closed
        except (ValueError, TypeError):
            watch.soft = closed
        else:
            watch.registered = mask
            return
        watch.settled = False
        self._soft[watch] = None

    def _unregister(self, watch: Watch) -> None:
        if watch.registered and self._set is not None and not self._set.unwatch(watch.fd):
            # Closed before it was taken out. The system has forgotten it, unless it is
            # still open elsewhere: then its events would be those of the number's next.
            self._ghosts.add(watch.fd)
        watch.registered = 0

    def _end_rests(self) -> None:
        now = monotonic()
        for watch in [each for each in list(self._resting) if each.rests_until <= now]:
            with self._books:
                self._resting.pop(watch, None)
                if not watch.gone:
                    self._register(watch)

    # -- Serving --------------------------------------------------------------------

    def serve(self, timeout: float | None, dispatch: Dispatch, as_select: bool = True) -> None:
        """One round: wait for events of channels, and serve them.

        Lasts `timeout` seconds when there are none, and until the map is empty at
        the most. What a callback raises comes out.

        :param timeout: in seconds; None for any time.

        Other arguments are those of :class:`Server`.
        """
        server = self.begin(timeout, dispatch, as_select, counted=True)
        try:
            self.serve_round(server)
        finally:
            self.end(server)

    def begin(
        self, timeout: float | None, dispatch: Dispatch, as_select: bool, counted: bool
    ) -> Server:
        """Somebody begins to serve the map, in this thread; to be ended by :meth:`end`."""
        server = Server(timeout, dispatch, as_select, counted)
        with self._books:
            self._rounds.append(server)
            self._servers += 1
            if self._hosted is not None:
                self._unhost()
            if len(self.map) <= _SMALL:
                self._next_sweep = 0.0
        server.session = driver.begin()
        return server

    def end(self, server: Server) -> None:
        """Whoever served the map does so no more, for now."""
        driver.end(server.session)
        with self._books:
            self._rounds.remove(server)
            self._servers -= 1
            self._unswept = True  # by now, a callback may have done anything
            self._owner = ref(threading.current_thread()), monotonic()
        self.close_if_empty()
        if self.map and not self._servers:
            driver.offer(self)

    def serve_round(self, server: Server) -> None:
        """A round of :meth:`serve`, between :meth:`begin` and :meth:`end`."""
        now = monotonic()
        deadline = now + server.timeout
        if len(self._rounds) > 1:
            self._give_up_what_is_in_hand()
        self._unswept = True  # who knows what was done since the last round
        leader = self._leader
        if not leader.acquire(False):
            if not self._lead(leader, server.session, deadline):
                return
            now = monotonic()
        try:
            self._wait(server, now, deadline)
        finally:
            if leader is self._leader:  # else a predicate has forked, and this is the child
                leader.release()
        if server.ready:
            try:
                server.dispatch(self, server)
            finally:
                server.ready = ()  # a wait may last, and who is closed is to be forgotten

    def _lead(self, leader: Any, session: Session, deadline: float) -> bool:
        # Another thread is waiting. It must not keep the reactor from its turns.
        while True:
            left = min(max(deadline - monotonic(), 0), _LONGEST_WAIT)
            if leader.acquire(timeout=session.patience(left)):
                return True
            if monotonic() >= deadline:
                return False
            session.breathe()

    def _wait(self, server: Server, now: float, deadline: float) -> None:
        session = server.session
        while True:
            self._waiting = True
            try:
                self._begin_wait(server)
                if self._set is None and self.map:
                    self._open(session)  # or a thread that enters a channel now could wake nothing
                self._sync(now)
                if not self.map:
                    return
                ready_set = self._set
                if ready_set is None or self._stale:
                    ready_set = self._open(session)
                until = deadline
                if self._unswept and self._next_sweep < until:
                    until = self._next_sweep
                if self._soft or self._resting:
                    until = self._sooner(now, until)
                events = session.wait(ready_set, until - now if until > now else 0)
            finally:
                self._waiting = False
            if ready_set is not self._set:
                now = monotonic()
                continue  # a signal handler has forked, and this is the child
            if events or self._soft:
                self._take(server, events, server.as_select)
                if server.ready:
                    return
            now = monotonic()
            if now >= deadline or not self.map:
                return
            self._unswept = True  # the reactor had something to do, who knows what

    def _open(self, session: Session | None = None) -> ReadySet:
        with self._books:
            if self._stale and self._set is not None:
                if session is not None:
                    session.detach()
                self._set.detach()
                self._close_set()
            if self._set is None:
                self._set = new_set()
                for watch in self._watches.values():
                    self._register(watch)
            return self._set

    def _sooner(self, now: float, until: float) -> float:
        # Until when to wait, for those that the system does not tell of.
        if self._soft and any(self._is_free(watch) for watch in list(self._soft)):
            return now
        return min([until, *(each.rests_until for each in self._resting)])

    def _is_free(self, watch: Watch) -> bool:
        return not (watch.parked or watch.muted or watch in self._resting)

    def _begin_wait(self, round: Round) -> None:
        # Only the leader counts. It counts before it looks what is in hand: see hand_out().
        round.tick = round.alone = self._tick = self._tick + 1
        if len(self._rounds) > 1:
            round.alone = 0
            for each in list(self._rounds):
                watch = each.in_hand
                if watch is not None and each.thread != round.thread:
                    self._park(watch)

    def _park(self, watch: Watch) -> None:
        # Another thread has it in hand: it is not to be reported once more.
        with self._books:
            watch.parked = True
            self._unregister(watch)
            self._unpark(watch)  # it may have been let go just before

    def _unpark(self, watch: Watch) -> None:
        with self._books:
            if watch.parked and not any(each.in_hand is watch for each in self._rounds):
                watch.parked = False
                if not watch.gone:
                    self._register(watch)

    def _give_up_what_is_in_hand(self) -> None:
        # A callback that waits may wait for its own channel.
        me = get_ident()
        for each in list(self._rounds):
            watch = each.in_hand
            if watch is not None and each.thread == me:
                each.in_hand = None
                self._fresh[watch] = None
                if watch.parked:
                    self._unpark(watch)

    def _take(self, round: Round, events: list[tuple[int, int]], as_select: bool) -> None:
        if self._soft:
            events = self._with_soft(events)
        watches = self._watches
        ready = []
        kinds = 0
        for fd, flags in events:
            watch = watches.get(fd)
            if watch is None or not (watch.registered or watch.soft):
                self._drop(fd)
                continue
            if not flags & _HUNG_UP:
                flags &= watch.wanted  # by now: another thread may have pushed
            else:
                if as_select:
                    flags = told_by_select(flags, watch.wanted)
                if not flags:
                    self._mute(watch)
            if flags:
                kinds |= flags
                ready.append((watch.serial, watch, flags))
        if len(ready) > 1:
            ready.sort()
        round.ready, round.kinds = ready, kinds

    def _drop(self, fd: int) -> None:
        # Reported although nobody wants it: another thread has just taken it out, or it
        # was closed behind our back and is still open elsewhere.
        with self._books:
            watch = self._watches.get(fd)
            registered = watch is not None and watch.registered
            if not registered and self._set is not None and not self._set.unwatch(fd):
                self._stale = True

    def _with_soft(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        flags_of = dict(events)
        for watch in list(self._soft):
            flags = soft_flags(watch)
            if not flags:
                self._soft.pop(watch, None)
            elif self._is_free(watch):
                flags_of[watch.fd] = flags_of.get(watch.fd, 0) | flags
        return list(flags_of.items())

    def _mute(self, watch: Watch) -> None:
        # It has hung up, and will say so for ever, but its channel does not read.
        with self._books:
            watch.muted = True
            self._unregister(watch)
            self._soft.pop(watch, None)

    def hand_out(
        self, found: Round, wanted: int, call: Callable[..., object], with_flags: bool = False
    ) -> None:
        """Call `call` with each ready channel that has one of the `wanted` flags, maybe with them.

        Those that left the map meanwhile are spared; and those that were told of an
        event since the wait began, from inside a callback or by another thread: they
        are found again if they are still ready.
        """
        # No lock for each event. A thread takes a channel in hand first, then looks whether
        # another has it, and then whether another has told it: in this order, of two that
        # come at once, at least one sees the other, or what it has done. The same with one
        # that begins to wait (_begin_wait).
        # Where nobody else served when the wait began, nor has begun to wait since, there is no
        # other to look for, nor to tell.
        get = self.map.get
        alone = found.alone
        for _, watch, flags in found.ready:
            if not flags & wanted:
                continue
            channel = watch.channel
            found.in_hand = watch
            try:
                if (
                    get(watch.fd) is channel and self._tick == alone and not watch.gone
                ) or self._takes(watch, found):
                    watch.told += 1
                    if watch.told > SUSPICIOUS and found.waited:
                        told = (
                            partial(call, channel, flags) if with_flags else partial(call, channel)
                        )
                        call_and_look(watch, flags if with_flags else flags & wanted, told)
                    elif with_flags:
                        call(channel, flags)
                    else:
                        call(channel)
            except BaseException:
                if not found.hosted:
                    raise
                self._blame(watch)
            finally:
                found.in_hand = None
                if watch.parked:
                    self._unpark(watch)
                # The same as in _look_at(): a call would cost as much as all of this.
                if (
                    not (
                        watch.settled
                        and channel.socket is watch.sock
                        and (
                            channel.accepting
                            or (
                                channel.connected
                                and not channel._txa_producer_fifo
                                and not channel.ac_out_buffer
                            )
                        )
                    )
                    and not watch.gone
                ):
                    self._fresh[watch] = None
                    if self._tick != alone:
                        self.touched(watch)  # another may wait already, and ask no more
                    if watch.soft is not None:
                        self._soften(watch)

    def _takes(self, watch: Watch, found: Round) -> bool:
        # Whether it is this round's to tell; noted for others if it is.
        if self.map.get(watch.fd) is not watch.channel:
            if not watch.gone:  # taken out behind our back
                self._unswept, self._next_sweep = True, 0.0
            return False
        if (
            self._is_in_other_hands(watch, found)
            or not (watch.tick < found.tick or watch.round == found.tick)
            or (watch.gone and not self._has_come_back(watch, found))
        ):
            return False
        watch.tick, watch.round = self._tick, found.tick
        return True

    def _has_come_back(self, watch: Watch, found: Round) -> bool:
        # A channel that has left and entered again is still that channel.
        now = self._watches.get(watch.fd)
        if now is None or now.channel is not watch.channel or is_another(watch, now.channel):
            return False
        if now.tick >= found.tick and now.round != found.tick:
            return False
        now.tick, now.round = self._tick, found.tick
        return True

    def _is_in_other_hands(self, watch: Watch, found: Round) -> bool:
        return any(each.in_hand is watch for each in self._rounds if each is not found)

    def _soften(self, watch: Watch) -> None:
        if watch.soft is closed:
            watch.muted = True  # told once: it would be for ever
        else:
            self._soft[watch] = None

    # -- Served by the reactor ------------------------------------------------------

    def host(self, reactor: Any) -> None:
        """Be served by the running reactor, unless somebody else does. In its thread."""
        if self._servers or self._hosted is not None or not self.map or not driver.runs():
            return
        if self._is_kept():
            if self._host_later is None or not self._host_later.active():
                self._host_later = reactor.callLater(_LOOK_AGAIN, self.host, reactor)
            return
        with self._books:
            self._hosted = reactor
            self._attach()
        self._settle_hosted()

    def _attach(self) -> None:
        self._open().attach(self._hosted, self._serve_hosted)
        self._attached = True

    def _detach(self) -> None:
        if self._set is not None:
            self._set.detach()
        self._attached = False

    def _hosted_reactor_runs(self) -> bool:
        reactor = driver.reactor
        return reactor is not None and bool(reactor.running)

    def _is_kept(self) -> bool:
        # A thread that calls loop(count=1) or poll() again and again is still there.
        if self._owner is None:
            return False
        known, since = self._owner
        thread = known()
        return (
            thread is not None
            and thread.is_alive()
            and thread is not threading.current_thread()
            and monotonic() - since < _STILL_MINE
        )

    def _unhost(self) -> None:
        # Somebody begins to loop over the map.
        reactor, self._hosted = self._hosted, None
        self._waiting = False
        if driver.is_inside() or not reactor.running:
            self._leave_reactor()
        else:
            reactor.callFromThread(self._leave_reactor)

    def _leave_reactor(self) -> None:
        if self._hosted is None:
            self._detach()
            if self._look_again is not None and self._look_again.active():
                self._look_again.cancel()
            self._look_again = None
            self.close_if_empty()

    def _serve_hosted(self, told: Watch | None = None) -> None:
        # The reactor says that channels are ready; or the one `told` says it itself.
        if self._hosted is None or self._set is None:
            return
        if not self._leader.acquire(blocking=False):
            return
        round = Round(hosted=True)
        self._rounds.append(round)
        try:
            self._waiting = False
            try:
                self._begin_wait(round)
                if told is None:
                    self._take(round, self._set.wait(0), True)
                else:
                    round.kinds = soft_flags(told) if self._is_free(told) else 0
                    round.ready = [(told.serial, told, round.kinds)]
            finally:
                self._leader.release()
            if round.kinds:
                self._unswept = True
                type(self)._dispatch_hosted(self, round)
        except Exception:
            self._log.failure("can't serve a map of asyncore channels")
        finally:
            self._rounds.remove(round)
        self._settle_hosted(told is None)

    def _settle_hosted(self, also_new: bool = True) -> None:
        # Until the reactor says something again. In the middle of who knows what, new
        # channels are left for the reactor's next turn.
        reactor = self._hosted
        if reactor is None:
            return
        self._waiting = True
        self._sync(monotonic(), also_new)
        if self._stale:
            self._detach()
            self._attach()
        if not self.map:
            self._hosted = None
            self._waiting = False
            self._leave_reactor()
            return
        for watch in list(self._soft):
            if not soft_flags(watch):
                self._soft.pop(watch, None)
        if (self._soft or (self._fresh and not also_new)) and self._set is not None:
            self._set.wake()
        if self._look_again is None or not self._look_again.active():
            self._look_again = reactor.callLater(_LOOK_AGAIN, self._look)

    def _look(self) -> None:
        # Other parts of the application may have touched channels behind our back.
        self._unswept = True
        self._settle_hosted()


_sets: WeakValueDictionary[int, ChannelSet] = WeakValueDictionary()
_sets_lock = threading.Lock()


def channel_set(map: ChannelMap) -> ChannelSet:
    """The set that belongs to `map`, made when it is first asked for."""
    found = _sets.get(id(map))
    if found is None:
        with _sets_lock:
            found = _sets.get(id(map))
            if found is None:
                found = _sets[id(map)] = ChannelSet(map)
    return found


def _forked() -> None:
    global _sets_lock
    _sets_lock = threading.Lock()
    for each in list(_sets.values()):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
