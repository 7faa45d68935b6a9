"""The services of ``twistd asynchat``: they listen on endpoints, say so, and end well."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from txasynchat.addresses import in_words
from txasynchat.connections import Connections
from txasynchat.listening import Listener
from txasynchat.tls import reload_all

if TYPE_CHECKING:
    from txasynchat.trace import TracingFactory

__all__ = ("ChatService", "ListenFailed", "ListeningService", "Signals")


class ListenFailed(SystemExit, Exception):
    """Raised when an endpoint can't be listened on; ends the process with one line.

    A SystemExit, so that nothing but its message is printed; and an Exception, for
    otherwise a ``twistd`` that has gone into the background would not tell the one
    in the foreground, which would wait for ever.
    """


class ListeningService(Service):
    """Listens on any number of endpoints while it runs.

    :param factory: makes the protocol of each connection.
    :param listeners: the endpoints.
    :param what: names what is served, for messages.
    :param option: the option that the endpoints come from, for messages.
    :ivar ports: what is listened on while the service runs.
    """

    _log = Logger()

    def __init__(
        self,
        factory: IProtocolFactory | Factory[Any],
        listeners: Sequence[Listener],
        what: str,
        option: str = "--listen",
    ) -> None:
        self.factory = factory
        self.listeners = listeners
        self.what = what
        self.option = option
        self.ports: list[IListeningPort] = []
        self._listening: list[Deferred[Any]] = []

    if TYPE_CHECKING:  # Twisted's has no types, to which strict checkers object

        def setServiceParent(self, parent: object) -> None:
            """See ``IService``."""

    def privilegedStartService(self) -> None:
        """Listen, while the process may still open low ports.

        :raise ListenFailed: if an endpoint can't be listened on, naming it.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listen()

    def startService(self) -> None:
        """Listen, if that was not done with privileges before."""
        super().startService()  # type: ignore[no-untyped-call]
        self._listen()

    def _listen(self) -> None:
        if self._listening:
            return
        for listener in self.listeners:
            listening: Deferred[Any] = listener.listen(self.factory)
            self._listening.append(listening)
            listening.addCallback(self._opened, listener.description)
            failure = _failure_so_far(listening)
            if failure is not None:
                self._stop_listening()
                raise ListenFailed(
                    f"asynchat: {self.option} {listener.description}: {failure.getErrorMessage()}"
                )
            listening.addErrback(self._refused, listener.description)

    def _refused(self, failure: Failure, description: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure(
                "can't {option} {description}",
                failure,
                option=self.option,
                description=description,
            )

    def _opened(self, port: IListeningPort, description: str) -> None:
        self.ports.append(port)
        self._log.info(
            "serving {what} on {host} ({option} {description})",
            what=self.what,
            host=in_words(port.getHost()),
            option=self.option,
            description=description,
        )

    def reload(self) -> None:
        """Read the certificates of the TLS endpoints again; connections live on."""
        for listener in self.listeners:
            listener.reload()

    def stopService(self) -> Deferred[Any]:
        """Stop listening.

        :return: fires when nothing is listened on any more.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self._stop_listening()

    def _stop_listening(self) -> Deferred[Any]:
        for listening in self._listening:
            listening.cancel()  # does nothing to those that are done
        self._listening.clear()
        ports, self.ports = self.ports, []
        return gatherResults([d for d in (port.stopListening() for port in ports) if d])


class ChatService(ListeningService):
    """Serves the connections of one factory, and lets them finish when it stops.

    :param connections: the factory, with its limits: it makes the protocol of each
        connection and keeps count.
    :param listeners: the endpoints.
    :param what: names what is served, for messages.
    :param drain_timeout: seconds that connections have to finish, once it is to stop.
    :param record: puts around the factory what records the traffic; it is closed at the end.

    >>> from txasynchat import AsyncChatFactory
    >>> from txasynchat.echo import EchoHandler
    >>> from txasynchat.listening import Listener
    >>> service = ChatService(
    ...     Connections(AsyncChatFactory(EchoHandler)),
    ...     [Listener("tcp:8007:interface=127.0.0.1")],
    ...     "the ECHO example",
    ... )
    >>> service.running
    0
    """

    def __init__(
        self,
        connections: Connections,
        listeners: Sequence[Listener],
        what: str,
        drain_timeout: float = 30.0,
        record: Callable[[Connections], TracingFactory] | None = None,
    ) -> None:
        self._trace = None if record is None else record(connections)
        super().__init__(connections if self._trace is None else self._trace, listeners, what)
        self.connections = connections
        self.drain_timeout = drain_timeout

    def stopService(self) -> Deferred[Any]:
        """Stop listening, and let the connections finish: see :meth:`Connections.drain`.

        :return: fires when no connection is left, with how many finished and were cut.
        """
        stopped = maybeDeferred(super().stopService)
        return stopped.addCallback(lambda _: self._drain())

    def _drain(self) -> Deferred[Any]:
        drained = self.connections.drain(self.drain_timeout)
        return drained.addBoth(self._drained)

    def _drained(self, result: Any) -> Any:
        self.connections.stop()
        if self._trace is not None:
            self._trace.close()
        return result

    def reload(self) -> None:
        """Read all certificates again: of the endpoints, and of every
        :class:`~txasynchat.tls.ReloadableContext`. Connections live on."""
        super().reload()
        reload_all()

    def hurry(self) -> None:
        """Cut the connections that have not finished yet."""
        self.connections.cut("told a second time to stop")


class Signals(Service):
    """What the signals of an operator do to a process that serves.

    SIGTERM stops the reactor, which stops the services; the exit status is 0. (Twisted's
    own handler makes ``twistd`` die of the signal once all is stopped.) A second SIGTERM
    or SIGINT while that lasts cuts what has not finished. SIGHUP reloads.

    :param hurry: called for a second signal to stop.
    :param reload: called for SIGHUP.
    """

    def __init__(self, hurry: Callable[[], object], reload: Callable[[], object]) -> None:
        self._hurry = hurry
        self._reload = reload
        self._interrupt: Any = None
        self._was_told = False
        self._stopping = False

    def startService(self) -> None:
        """Take the signals over, once the reactor has set up its own."""
        super().startService()  # type: ignore[no-untyped-call]
        self._stopping = self._was_told = False
        from twisted.internet import reactor  # noqa: TID251

        reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        if current_thread() is main_thread() and self.running:
            signal.signal(signal.SIGTERM, self._terminate)
            signal.signal(signal.SIGHUP, self._hang_up)
            before = signal.signal(signal.SIGINT, self._terminate)
            if before != self._terminate:  # as it is when the service is started again
                self._interrupt = before

    def stopService(self) -> None:
        """The second signal is another matter from now on; SIGHUP does nothing."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True

    def stop(self) -> None:
        """Stop the reactor, unless a signal has done so. If one comes now, it is the first:
        supervisors may send it to a worker when its parent has told it already."""
        from twisted.internet import reactor  # noqa: TID251

        if not self._stopping:
            self._stopping = True
            reactor.stop()

    def _terminate(self, number: int, frame: Any) -> None:
        from twisted.internet import reactor  # noqa: TID251

        again, self._was_told = self._was_told, True
        if again:
            reactor.callFromThread(self._hurry)  # type: ignore[attr-defined]
        elif not self._stopping:
            self._stopping = True
            if number == signal.SIGINT and callable(self._interrupt):
                self._interrupt(number, frame)
            else:
                reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]

    def _hang_up(self, number: int, frame: Any) -> None:
        from twisted.internet import reactor  # noqa: TID251

        if not self._stopping:
            reactor.callFromThread(self._reload)  # type: ignore[attr-defined]


def _failure_so_far(deferred: Deferred[Any]) -> Failure | None:
    # Takes the failure out of a Deferred that has already failed.
    failures: list[Failure] = []

    def take(failure: Failure) -> Failure | None:
        failures.append(failure)
        return None if taking else failure

    taking = True
    deferred.addErrback(take)
    taking = False
    return failures[0] if failures else None
