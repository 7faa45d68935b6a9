"""ChatService: listens on endpoints and says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from txasynchat.addresses import in_words

__all__ = ("ChatService", "ListenFailed")


class ListenFailed(SystemExit, Exception):
    """Raised when an endpoint can't be listened on; ends the process with one line.

    A SystemExit, so that nothing but its message is printed; and an Exception, for
    otherwise a ``twistd`` that has gone into the background would not tell the one
    in the foreground, which would wait for ever.
    """


class ChatService(Service):
    """Serves the connections of one factory on any number of endpoints.

    :param factory: makes the protocol of each connection.
    :param endpoints: pairs of an endpoint and its description, for messages.
    :param what: names what is served, for messages.
    :ivar ports: what is listened on while the service runs.
    """

    _log = Logger()
    name = "asynchat"

    def __init__(
        self,
        factory: IProtocolFactory,
        endpoints: Sequence[tuple[IStreamServerEndpoint, str]],
        what: str,
    ) -> None:
        self.factory = factory
        self.endpoints = endpoints
        self.what = what
        self.ports: list[IListeningPort] = []
        self._listening: list[Deferred[Any]] = []

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
        for endpoint, description in self.endpoints:
            listening: Deferred[Any] = endpoint.listen(self.factory)
            self._listening.append(listening)
            listening.addCallback(self._opened, description)
            failure = _failure_so_far(listening)
            if failure is not None:
                self._stop_listening()
                raise ListenFailed(f"asynchat: --listen {description}: {failure.getErrorMessage()}")
            listening.addErrback(self._refused, description)

    def _refused(self, failure: Failure, description: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure("can't --listen {description}", failure, description=description)

    def _opened(self, port: IListeningPort, description: str) -> None:
        self.ports.append(port)
        self._log.info(
            "serving {what} on {host} (--listen {description})",
            what=self.what,
            host=in_words(port.getHost()),
            description=description,
        )

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
