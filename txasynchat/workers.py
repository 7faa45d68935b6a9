"""Workers: several processes that accept from the same sockets, and who looks after them.

The parent opens the sockets and accepts nothing. Each worker
(``txasynchat/worker.py``) inherits them and serves. Between the two is a socket with one
JSON object a line: orders in one direction, news in the other.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger, eventFromJSON, globalLogPublisher
from twisted.python.failure import Failure

from txasynchat.core.framing import Framer
from txasynchat.listening import Listener
from txasynchat.protocol import AsyncChat
from txasynchat.service import ListeningService

__all__ = ("Control", "Workers")

#: A worker that lived less than this had a bad start; the next one waits a little, in seconds.
_BAD_START = 5.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0

#: How long the workers may take to end after their drain, before they are killed, in seconds.
_GRACE = 5.0

#: How long a worker may take to tell its numbers, in seconds.
_PATIENCE = 2.0

#: How long to wait for what a worker said before it died, in seconds. It is there already,
#: unless children of the worker's own go on and hold its descriptors open.
_LAST_WORDS = 1.0

#: The longest line that a worker may print, in bytes.
_LONGEST_LINE = 2**20

_CONTROL = 3  # the worker's descriptor; those of the sockets follow


class Control(AsyncChat):
    """One end of the line between a worker and its parent: JSON objects, one a line.

    :param receive: called with each object that comes.
    :param lost: called when the other end is gone.
    """

    max_message_length: int | None = None  # the other end is ours
    max_queued_output: int | None = None

    def __init__(
        self, receive: Callable[[dict[str, Any]], object], lost: Callable[[], object]
    ) -> None:
        self._receive = receive
        self._lost = lost

    def handle_connect(self) -> None:
        """Messages are lines."""
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data: bytes) -> None:
        """Keep it."""
        self._collect_incoming_data(data)

    def found_terminator(self) -> None:
        """Pass it on."""
        self._receive(json.loads(self._get_data()))

    def handle_close(self) -> None:
        """Say so."""
        self._lost()

    def tell(self, **message: Any) -> None:
        """Send an object, unless nobody is there any more."""
        if self.is_open:
            self.push(json.dumps(message).encode() + b"\n")

    def adopt(self, end: socket.socket, reactor: Any) -> Control:
        """Use one end of a socket pair, which is closed here."""
        with end:
            end.setblocking(False)
            factory = Factory.forProtocol(lambda: self)
            factory.noisy = False
            reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, factory)
        return self


class _Worker(ProcessProtocol):
    """One process, as its parent sees it."""

    def __init__(self, number: int, parent: Workers) -> None:
        self.number = number
        self.pid: int | None = None
        self.numbers: dict[str, Any] = {"workers": 0, "handlers": {}}
        self.control: Control | None = None
        self.ended: Deferred[None] = Deferred()
        self.deaf: Deferred[None] = Deferred()  # it accepts no more
        self.drained: dict[str, int] = {"finished": 0, "cut": 0}
        self._parent = parent
        self._asked: list[Deferred[None]] = []
        self._all_read: Deferred[None] = Deferred()
        self._printed = {1: _Lines(self.print_line), 2: _Lines(self.print_line)}

    def connectionMade(self) -> None:
        """It has begun. ``IProcessProtocol``."""
        assert self.transport is not None
        self.pid = self.transport.pid

    # -- What it says on its line ------------------------------------------------------

    def receive(self, message: dict[str, Any]) -> None:
        """It has news."""
        if "numbers" in message:
            self.numbers = message["numbers"]
            asked, self._asked = self._asked, []
            for each in asked:
                each.callback(None)
        if message["event"] == "ready":
            self._parent.ready(self)
        elif message["event"] == "deaf":
            self._is_deaf()
        elif message["event"] == "drained":
            self.drained = message["drained"]

    def _is_deaf(self) -> None:
        if not self.deaf.called:
            self.deaf.callback(None)

    def ask_numbers(self) -> Deferred[None]:
        """Fires when :attr:`numbers` are of now, or it does not answer."""
        answer: Deferred[None] = Deferred()
        self._asked.append(answer)
        assert self.control is not None
        self.control.tell(do="numbers")
        if not self.control.is_open:
            self.gone()
        answer.addTimeout(_PATIENCE, self._parent.reactor)
        return answer.addErrback(lambda _: None)

    def gone(self) -> None:
        """Its line is cut: nothing more will be answered."""
        asked, self._asked = self._asked, []
        for each in asked:
            if not each.called:
                each.callback(None)

    # -- What it prints: its log, and whatever its handlers print -----------------------

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It has written to its standard output or error. ``IProcessProtocol``."""
        self._printed[childFD].received(data)

    def print_line(self, line: str) -> None:
        """Pass on what it has logged as an event; the rest as text."""
        # Whatever has written to the same descriptor may have left out the end of its line.
        text, separator, packed = line.rpartition("\x1e")
        event = _event(packed) if separator else None
        if event is None:
            text = line
        if text:
            self._parent.log.warn("worker {number}: {line}", number=self.number, line=text)
        if event is not None:
            event["log_system"] = f"worker {self.number}"
            if "log_failure" in event:
                event["log_failure"].value = event.pop("failure_words", "")
            globalLogPublisher(event)

    # -- Its end ------------------------------------------------------------------------

    def processExited(self, reason: Failure) -> None:
        """It is gone. What it said last may not be read yet. ``IProcessProtocol``."""
        assert self.control is not None
        both: list[Deferred[Any]] = [self._all_read, self.control.closed()]
        said: Deferred[Any] = DeferredList(both, consumeErrors=True)
        said.addTimeout(_LAST_WORDS, self._parent.reactor)
        said.addErrback(lambda _: None).addCallback(lambda _: self._end(reason))

    def processEnded(self, reason: Failure) -> None:
        """Nobody writes to its output any more. ``IProcessProtocol``."""
        self._all_read.callback(None)

    def _end(self, reason: Failure) -> None:
        assert self.control is not None
        self.control.close()
        self._is_deaf()
        self.gone()
        self._parent.worker_ended(self, reason)
        self.ended.callback(None)


class _Lines:
    """Cuts what comes from one descriptor into lines."""

    def __init__(self, take: Callable[[str], object]) -> None:
        self._take = take
        self._framer = Framer()
        self._framer.set_terminator(b"\n")
        self._line: list[bytes] = []

    def received(self, data: bytes) -> None:
        """More has come."""
        self._framer.deliver(self, data, _LONGEST_LINE)

    def collect_incoming_data(self, data: bytes) -> None:
        """Part of a line. For the framer."""
        self._line.append(data)

    def found_terminator(self) -> None:
        """A line. For the framer."""
        line = b"".join(self._line).decode("utf-8", "replace")
        self._line.clear()
        if line:
            self._take(line)

    def message_too_long(self) -> None:
        """The rest of the line is left out. For the framer."""
        self.found_terminator()


def _event(packed: str) -> dict[str, Any] | None:
    # Not all that looks like an event is one: handlers print what they like.
    try:
        event = eventFromJSON(packed)
    except Exception:
        return None
    return event if isinstance(event, dict) else None


class Workers(Service):
    """Runs a number of processes that serve the same sockets, and replaces those that die.

    :param number: how many.
    :param arguments: the options of ``twistd asynchat``, as they were given.
    :param descriptions: the endpoints; they are opened here.
    :param what: names what is served, for messages.
    :param drain_timeout: seconds that connections have to finish, once it is to stop.
    :param reactor: the reactor; None for the installed one.
    """

    log: Logger = Logger()

    def __init__(
        self,
        number: int,
        arguments: Sequence[str],
        descriptions: Sequence[str],
        what: str,
        drain_timeout: float,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor  # noqa: TID251
        self.reactor = reactor
        self.number = number
        self.arguments: list[str] = list(arguments)
        self.drain_timeout = drain_timeout
        self._listeners = [Listener(each, reactor, accept=False) for each in descriptions]
        nothing = Factory()
        nothing.noisy = False
        self._listening = ListeningService(nothing, self._listeners, what)
        self._workers: dict[int, _Worker] = {}
        self._serves_since: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._restarts: dict[int, Any] = {}
        self._past: list[dict[str, Any]] = []

    @property
    def ports(self) -> list[IListeningPort]:
        """What is listened on."""
        return self._listening.ports

    def privilegedStartService(self) -> None:
        """Open the sockets, while the process may still open low ports."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listening.privilegedStartService()

    def startService(self) -> None:
        """Start the workers."""
        super().startService()  # type: ignore[no-untyped-call]
        self._listening.startService()
        for number in range(1, self.number + 1):
            self._pauses[number] = 0.0
            # Not before the reactor runs: only then does it notice that a child has ended.
            self.reactor.callWhenRunning(self._spawn, number)

    def _spawn(self, number: int) -> None:
        self._restarts.pop(number, None)
        if not self.running:
            return
        self._serves_since.pop(number, None)
        try:
            self._workers[number] = self._begin(number)
        except OSError as error:  # too many processes, or descriptors
            self._spawn_later(number, "worker {number} can't begin: {why}", why=str(error))

    def _begin(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        worker = _Worker(number, self)
        with theirs, open(os.devnull, "rb") as nothing:
            worker.control = Control(worker.receive, worker.gone).adopt(ours, self.reactor)
            descriptors = {0: nothing.fileno(), 1: "r", 2: "r", _CONTROL: theirs.fileno()}
            order = {
                "number": number,
                "control": _CONTROL,
                "sockets": self._pass_on(descriptors),
                "arguments": self.arguments,
                "reactor": type(self.reactor).__module__,
                "path": sys.path,
            }
            command = [sys.executable, "-m", "txasynchat.worker", json.dumps(order)]
            try:
                self.reactor.spawnProcess(
                    worker, command[0], command, env=os.environ, childFDs=descriptors
                )
            except OSError:
                worker.control.close()
                raise
        return worker

    def _pass_on(self, descriptors: dict[int, Any]) -> list[list[tuple[int, int]]]:
        # Adds the sockets to the descriptors of a child; says where they are there.
        inherited = []
        for listener in self._listeners:
            places = []
            for descriptor, family in listener.opened:
                place = max(descriptors) + 1
                descriptors[place] = descriptor
                places.append((place, int(family)))
            inherited.append(places)
        return inherited

    def ready(self, worker: _Worker) -> None:
        """A worker has begun to accept."""
        self._serves_since[worker.number] = self.reactor.seconds()
        self.log.info(
            "worker {number} serves (pid {pid})",
            event="worker serves",
            number=worker.number,
            pid=worker.pid,
        )

    def worker_ended(self, worker: _Worker, reason: Failure) -> None:
        """A worker is gone: another one takes its place, unless all are to stop."""
        number = worker.number
        self._past = [_sum([*self._past, _of_the_dead(worker.numbers)])]
        del self._workers[number]
        if self.running:
            self._spawn_later(
                number,
                "worker {number} (pid {pid}) is gone: {why}",
                is_error=not reason.check(ProcessDone),
                event="worker ended",
                pid=worker.pid,
                why=reason.getErrorMessage(),
            )

    def _spawn_later(self, number: int, what: str, is_error: bool = True, **fields: Any) -> None:
        # Not counted from its start: on a busy machine that alone may take as long.
        now = self.reactor.seconds()
        served = now - self._serves_since.get(number, now)
        pause = self._pauses[number] if served < _BAD_START else 0.0
        self._pauses[number] = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        say = self.log.error if is_error else self.log.info
        say(f"{what}; another one begins in {{pause}} s", number=number, pause=pause, **fields)
        self._restarts[number] = self.reactor.callLater(pause, self._spawn, number)

    # -- Orders to all ----------------------------------------------------------------------

    def _tell_all(self, order: str) -> None:
        for worker in self._workers.values():
            assert worker.control is not None
            worker.control.tell(do=order)

    def reload(self) -> None:
        """Have all read their certificates again."""
        self._tell_all("reload")

    def hurry(self) -> None:
        """Have all cut the connections that have not finished yet."""
        self._tell_all("hurry")

    def numbers(self) -> Deferred[dict[str, Any]]:
        """What all did so far, those that are gone as well: fires with the sum of what
        :meth:`txasynchat.connections.Connections.numbers` gives in each."""
        workers = tuple(self._workers.values())
        answered = DeferredList([worker.ask_numbers() for worker in workers])
        return answered.addCallback(
            lambda _: _sum([*self._past, *(worker.numbers for worker in workers)])
        )

    def stopService(self) -> Deferred[Any]:
        """Have all accept no more, let their connections finish, and end.

        :return: fires when no worker is left. One that has not ended some seconds after
            the deadline is killed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        for restart in self._restarts.values():
            restart.cancel()
        self._restarts.clear()
        workers = tuple(self._workers.values())
        self._tell_all("stop")
        late = self.reactor.callLater(self.drain_timeout + _GRACE, self._kill, workers)
        # Only then is the parent the last that has the sockets: who connects is refused.
        deaf = gatherResults([worker.deaf for worker in workers])
        closed = deaf.addCallback(lambda _: maybeDeferred(self._listening.stopService))
        ended = gatherResults([worker.ended for worker in workers])
        since = self.reactor.seconds()
        return gatherResults([closed, ended]).addCallback(self._all_ended, since, late, workers)

    def _kill(self, workers: Sequence[_Worker]) -> None:
        for worker in workers:
            if not worker.ended.called and worker.transport is not None:
                self.log.error("worker {number} does not end: killed", number=worker.number)
                with suppress(ProcessExitedAlready):
                    worker.transport.signalProcess(signal.SIGKILL)

    def _all_ended(self, _: object, since: float, late: Any, workers: Sequence[_Worker]) -> None:
        if late.active():
            late.cancel()
        self.log.info(
            "drained in {seconds} s: {finished} connections of {workers} workers finished, "
            "{cut} were cut",
            event="drained",
            workers=len(workers),
            seconds=round(self.reactor.seconds() - since, 3),
            finished=sum(worker.drained["finished"] for worker in workers),
            cut=sum(worker.drained["cut"] for worker in workers),
        )


def _of_the_dead(numbers: dict[str, Any]) -> dict[str, Any]:
    # What it did still counts, what it had is gone.
    gone = {"connections_open": 0, "queued_output": 0}
    handlers = {name: {**counts, **gone} for name, counts in numbers["handlers"].items()}
    return {"workers": 0, "handlers": handlers}


def _sum(several: list[dict[str, Any]]) -> dict[str, Any]:
    from txasynchat.metrics import add_up

    total: dict[str, Any] = add_up(several)
    return total
