"""Connections: who is connected to a service, who may be, and what they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from txasynchat.addresses import in_words
from txasynchat.core.lifecycle import CloseReason
from txasynchat.factory import Refusal
from txasynchat.limits import Limits, peer_key
from txasynchat.timers import Sweep

__all__ = ("Connections",)

# Those that were not met yet are counted as well, as 0: an alarm needs a number to watch.
_REFUSALS = ("max_connections", "max_per_peer")
_LIMITS = ("max_message_length", "first_message_timeout", "idle_timeout", "close_timeout")
_SUMS = ("bytes_in", "bytes_out", "messages_in", "messages_out")


@dataclass
class _Entry:
    """What the register knows of a live connection."""

    __slots__ = ("number", "peer", "since")

    number: int
    since: float
    peer: IPv4Address | IPv6Address | None


@dataclass
class _Tally:
    """What the connections of one handler did that are gone, and what went wrong."""

    accepted: int = 0
    errors: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    pauses: Counter[str] = field(default_factory=Counter)

    def add(self, traffic: dict[str, Any]) -> None:
        self.sums.update({name: traffic[name] for name in _SUMS})
        self.pauses.update(traffic["pauses"])

    def numbers(self, live: list[dict[str, Any]]) -> dict[str, Any]:
        total = _Tally(sums=self.sums.copy(), pauses=self.pauses.copy())
        for traffic in live:
            total.add(traffic)
        return {
            "connections_open": len(live),
            "connections_accepted": self.accepted + len(live),
            "connections_refused": {each: self.refused[each] for each in _REFUSALS},
            "connections_ended": {str(each): self.ended[str(each)] for each in CloseReason},
            "limits_hit": {each: self.limits[each] for each in _LIMITS},
            "handler_errors": self.errors,
            **{name: total.sums[name] for name in _SUMS},
            "queued_output": sum(traffic["queued_output"] for traffic in live),
            "pauses": dict(total.pauses),
        }


class Connections(Factory):
    """The connections of a service: a factory around the one that makes its protocols.

    It refuses connections beyond the :class:`~txasynchat.limits.Limits`, watches those
    it let in, counts, logs what happens to them as events with fields
    (``twisted.logger``), and ends them one after the other when the service stops. It is
    the :class:`~txasynchat.watcher.Watcher` of each.

    :param factory: makes the protocols: an :class:`~txasynchat.AsyncChat` or what a
        :class:`~txasynchat.LegacyFactory` makes, maybe in wrappers of
        ``twisted.protocols.policies``.
    :param limits: the limits; the defaults if None.
    :param name: names the handler where none was made yet.
    :param clock: tells the time, ``IReactorTime``; the reactor if None.
    """

    _log = Logger()
    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory | Factory[Any],
        limits: Limits | None = None,
        name: str = "",
        clock: Any = None,
    ) -> None:
        if clock is None:
            from twisted.internet import reactor as clock  # noqa: TID251
        self.factory = factory
        self.limits: Limits = Limits() if limits is None else limits
        self.name: str = name or type(factory).__name__
        self._clock = clock
        self._number = 0
        #: All that were made and have not ended; those that were let in have an entry.
        self._made: dict[Any, _Entry | None] = {}
        self._of_peer: Counter[IPv4Address | IPv6Address] = Counter()
        self._tallies: dict[str, _Tally] = {self.name: _Tally()}
        # Those that have not sent a message yet, the first that came in front.
        self._fresh: dict[Any, float] = {}
        self._fresh_call: Any = None
        self._idle = Sweep(clock, self._made)
        self._waiting: list[Deferred[None]] = []
        self._draining = False
        self._cut: set[Any] = set()

    def __len__(self) -> int:
        """How many are alive."""
        return len(self._made)

    def doStart(self) -> None:
        """One port more is open. ``IProtocolFactory``."""
        self.factory.doStart()

    def doStop(self) -> None:
        """One port less is open. ``IProtocolFactory``."""
        self.factory.doStop()

    # -- Letting in -----------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the protocol of a connection, or refuse it. ``IProtocolFactory``."""
        most = self.limits.max_connections
        if most is not None and len(self._made) >= most:
            self._refuse(self.name, addr, "max_connections", most)
            return Refusal()
        try:
            protocol = self.factory.buildProtocol(addr)  # type: ignore[arg-type]
        except Exception:
            self._log.failure(
                "{handler} failed, the connection of {peer} is refused",
                handler=self.name,
                peer=in_words(addr),
            )
            self._tally(self.name).errors += 1
            return Refusal()
        connection = _innermost(protocol)
        if connection is None or isinstance(connection, Refusal):
            return Refusal()
        fault = self._fault_of(connection)
        if fault:
            self._log.error(
                "{handler} made {protocol}, {fault}: the connection of {peer} is refused",
                handler=self.name,
                protocol=protocol,
                fault=fault,
                peer=in_words(addr),
            )
            return Refusal()
        self.limits.put_on(connection)
        connection._watcher = self
        connection._timeout_sweep = self._idle
        self._made[connection] = None
        self._wait_for_first_message(connection)
        return protocol

    def _fault_of(self, connection: Any) -> str:
        # Why it can't be let in.
        if not hasattr(connection, "begin_drain"):
            return "which is no AsyncChat and no legacy handler's"
        if connection in self._made or connection.close_reason is not None:
            return "which it had made for another connection"
        return ""

    def _refuse(self, name: str, addr: Any, limit: str, most: float) -> None:
        self._tally(name).refused[limit] += 1
        self._log.warn(
            "connection from {peer} refused: {limit} is {most}",
            event="connection refused",
            handler=name,
            peer=in_words(addr),
            limit=limit,
            most=most,
        )

    def _tally(self, name: str) -> _Tally:
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = _Tally()
        return tally

    # -- Watching: for the connections ------------------------------------------------

    def opened(self, connection: Any) -> bool:
        """The peer of a connection is known. See :class:`~txasynchat.watcher.Watcher`."""
        address = connection.transport.getPeer()
        peer = peer_key(address)
        if peer is not None:
            most = self.limits.most_of(peer)
            if most is not None and self._of_peer[peer] >= most:
                self._refuse(connection.handler_name, address, "max_per_peer", most)
                connection._abort(CloseReason.LIMIT, f"max_per_peer is {most}")
                return False
            self._of_peer[peer] += 1
        self._number += 1
        self._made[connection] = _Entry(self._number, self._clock.seconds(), peer)
        self._log.info(
            "connection {number} from {peer} opened",
            event="connection opened",
            number=self._number,
            handler=connection.handler_name,
            peer=in_words(address),
        )
        if self._draining:
            # Once it has begun.
            self._clock.callLater(0, connection.begin_drain)
        return True

    def failed(self, connection: Any, failure: Failure) -> None:
        """A handler raised. See :class:`~txasynchat.watcher.Watcher`."""
        self._tally(connection.handler_name).errors += 1
        entry = self._made.get(connection)
        # The traceback is logged by the handler's own handle_error(), for legacy ones as text.
        self._log.warn(
            "connection {number} from {peer}: {handler} raised {error}",
            event="handler error",
            number=None if entry is None else entry.number,
            handler=connection.handler_name,
            peer=in_words(_peer_of(connection)),
            error=type(failure.value).__name__,
        )

    def limited(self, connection: Any, limit: str, detail: str) -> None:
        """A limit was hit. See :class:`~txasynchat.watcher.Watcher`."""
        self._tally(connection.handler_name).limits[limit] += 1
        if limit == "close_timeout" and self._draining and connection.traffic()["queued_output"]:
            self._cut.add(connection)  # not all that it had to say was sent
        entry = self._made.get(connection)
        self._log.warn(
            "connection {number} from {peer}: {limit}: {detail}",
            event="limit hit",
            number=None if entry is None else entry.number,
            handler=connection.handler_name,
            peer=in_words(_peer_of(connection)),
            limit=limit,
            detail=detail,
        )

    def ended(self, connection: Any) -> None:
        """A connection is gone. See :class:`~txasynchat.watcher.Watcher`."""
        entry = self._made.pop(connection, None)
        self._fresh.pop(connection, None)
        if entry is not None:
            self._forget(entry, connection)
        if not self._made:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def _forget(self, entry: _Entry, connection: Any) -> None:
        if entry.peer is not None:
            self._of_peer[entry.peer] -= 1
            if not self._of_peer[entry.peer]:
                del self._of_peer[entry.peer]
        traffic = connection.traffic()
        tally = self._tally(connection.handler_name)
        tally.add(traffic)
        tally.accepted += 1
        tally.ended[str(connection.close_reason)] += 1
        self._log.info(
            "connection {number} from {peer} ended by {reason} after {seconds} s, "
            "messages in: {messages_in}, {detail}"
            if connection.close_detail
            else "connection {number} from {peer} ended by {reason} after {seconds} s, "
            "messages in: {messages_in}",
            event="connection ended",
            number=entry.number,
            handler=connection.handler_name,
            peer=in_words(_peer_of(connection)),
            reason=str(connection.close_reason),
            detail=connection.close_detail,
            seconds=round(self._clock.seconds() - entry.since, 3),
            **traffic,
        )

    # -- The first message ----------------------------------------------------------------

    # All have the same time for it, so they are due in the order in which they came, and
    # one timer does for any number of them.

    def _wait_for_first_message(self, connection: Any) -> None:
        timeout = self.limits.first_message_timeout
        if timeout is not None:
            self._fresh[connection] = self._clock.seconds() + timeout
            if self._fresh_call is None:
                self._fresh_call = self._clock.callLater(timeout, self._look_at_fresh)

    def _look_at_fresh(self) -> None:
        self._fresh_call = None
        now = self._clock.seconds()
        while self._fresh:
            connection, deadline = next(iter(self._fresh.items()))
            if deadline > now:
                self._fresh_call = self._clock.callLater(deadline - now, self._look_at_fresh)
                return
            del self._fresh[connection]
            if not connection.has_begun:
                detail = f"no message within {self.limits.first_message_timeout:g} s"
                self.limited(connection, "first_message_timeout", detail)
                # One that was never opened waits for the header of a proxy.
                end = connection._finish if self._made.get(connection) else connection._abort
                end(CloseReason.TIMEOUT, detail)
                self._end_if_unconnected(connection)

    def _end_if_unconnected(self, connection: Any) -> None:
        # The wrapper of one, that of TLS say, may have failed before it was connected:
        # nobody else will ever hear of it.
        if connection.transport is None:
            self.ended(connection)

    # -- The end ------------------------------------------------------------------------------

    def drain(self, timeout: float) -> Deferred[dict[str, int]]:
        """Let every connection finish its message and its output, then end it.

        Handlers are told (``handle_drain()``). One that comes later is drained at once.

        :param timeout: seconds after which the rest is cut.
        :return: fires when none is left, with how many ``finished`` and were ``cut``.
        """
        self._draining = True
        self._cut = set()
        for connection in tuple(self._made):
            self._end_if_unconnected(connection)
        began, since = len(self._made), self._clock.seconds()
        if began:
            self._log.info(
                "draining: connections that may finish within {timeout} s: {number}",
                event="drain begins",
                number=began,
                timeout=timeout,
            )

        def report(_: object) -> dict[str, int]:
            if deadline.active():
                deadline.cancel()
            self._draining = False
            cut = len(self._cut)
            self._cut.clear()
            finished = max(began - cut, 0)
            if began:
                self._log.info(
                    "drained in {seconds} s: {finished} connections finished, {cut} were cut",
                    event="drained",
                    finished=finished,
                    cut=cut,
                    seconds=round(self._clock.seconds() - since, 3),
                )
            return {"finished": finished, "cut": cut}

        too_late = f"not finished {timeout:g} s after the service was told to stop"
        deadline = self._clock.callLater(timeout, self.cut, too_late)
        for connection in tuple(self._made):
            connection.begin_drain()
        done = self.all_gone()
        return done.addCallback(report)

    def cut(self, detail: str) -> None:
        """Cut all that are alive, at once.

        :param detail: why, for people.
        """
        alive = self._made.keys() - self._cut
        self._cut |= alive
        for connection in alive:
            connection._abort(CloseReason.DRAIN, detail)

    def all_gone(self) -> Deferred[None]:
        """Fires when no connection is alive."""
        done: Deferred[None] = Deferred()
        if self._made:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done

    def stop(self) -> None:
        """Nothing will come any more: let go of the timers."""
        self._idle.stop()
        if self._fresh_call is not None:
            self._fresh_call.cancel()
            self._fresh_call = None

    # -- Numbers --------------------------------------------------------------------------------

    def numbers(self) -> dict[str, Any]:
        """What all connections so far did, as plain dicts: one for each handler's name.

        Those that are alive are asked for what they did until now.
        """
        live: dict[str, list[dict[str, Any]]] = {}
        for connection, _ in self._live():
            live.setdefault(connection.handler_name, []).append(connection.traffic())
        nothing = _Tally()
        return {
            "workers": 1,
            "handlers": {
                name: self._tallies.get(name, nothing).numbers(live.get(name, []))
                for name in {**self._tallies, **live}
            },
        }

    def each(self) -> list[dict[str, Any]]:
        """What each live connection does, as plain dicts: ``number``, ``peer``, ``handler``,
        ``seconds`` since it was opened, and its ``traffic()``."""
        now = self._clock.seconds()
        return [
            {
                "number": entry.number,
                "peer": in_words(_peer_of(connection)),
                "handler": connection.handler_name,
                "seconds": now - entry.since,
                **connection.traffic(),
            }
            for connection, entry in self._live()
        ]

    def _live(self) -> Iterator[tuple[Any, _Entry]]:
        return ((each, entry) for each, entry in self._made.items() if entry is not None)


def _innermost(protocol: Any) -> Any:
    # Below the wrappers that a factory may have put around it.
    while not hasattr(protocol, "begin_drain"):
        below = getattr(protocol, "wrappedProtocol", None)
        if below is None:
            break
        protocol = below
    return protocol


def _peer_of(connection: Any) -> Any:
    # Asked when it is logged, rather than kept for each: that would be a hundred bytes.
    try:
        return None if connection.transport is None else connection.transport.getPeer()
    except Exception:  # a transport that is gone, and does not know any more
        return None
