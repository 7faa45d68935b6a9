"""Listening on endpoint strings, with what a service needs and endpoints do not have.

Certificates that are read again without closing anything; sockets that one process
opens and others accept from; and UNIX sockets that outlive those who accept from them.

An endpoint is given a stand-in for the reactor. What it asks of that to listen, the
:class:`Listener` sees first.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.unix import Port as UNIXPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from txasynchat.tls import checked, reloaded

__all__ = ("Listener",)

#: Listening on these does nothing but ask the reactor to, after reading files.
_READ_FILES = re.compile(r"(haproxy:)*(ssl|tls):", re.IGNORECASE)
#: Only the process that systemd has started can take these up.
_SYSTEMD = re.compile(r"((?:haproxy:)*)systemd:.*", re.IGNORECASE | re.DOTALL)

_Open = Callable[[Any], Any]


@implementer(IStreamServerEndpoint)
class Listener:
    """A server endpoint from its description, to listen on once at a time.

    :param description: as ``serverFromString`` of Twisted takes it.
    :param reactor: the reactor; None for the installed one.
    :param accept: False to open the sockets but leave those who connect to the
        processes that inherit them. The port that opened them should be the last
        to stop listening: it shuts its socket down for everyone, and it removes the
        path and the lock of a UNIX socket.
    :param inherited: what another Listener of this description has `opened`, in
        this process's descriptors; they are accepted from, and nothing is opened.
        They are the listener's from then on, to be listened on once.
    :ivar opened: the descriptor and the address family of each socket that is
        listened on, in the order in which they were opened.
    :raise Exception: ValueError, OSError, or whatever else the parser of the
        endpoint has to say of the description or of the files that it names.

    >>> Listener("tcp:0:interface=127.0.0.1").opened
    []
    >>> Listener("ssl:8443:privateKey=missing.pem")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: '...missing.pem'
    """

    _log = Logger()

    def __init__(
        self,
        description: str,
        reactor: Any = None,
        *,
        accept: bool = True,
        inherited: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor  # noqa: TID251
        self.description = description
        self.opened: list[tuple[int, int]] = []
        self._reactor = reactor
        self._accept = accept
        self._inherited: Iterator[tuple[int, int]] | None = None
        if inherited is not None:
            self._inherited = iter(tuple(inherited))
        self._doors: list[_Door] = []
        self._ports: list[Any] = []  # one that does not accept has no other friend
        self._factory: Any = None
        self._seen: list[Any] | None = None
        self._endpoint = self._parse()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; or adopt what was inherited.

        :param protocolFactory: makes the protocol of each connection.
        :return: fires with the port, or fails, for most endpoints before this returns.
        """
        for each in (self.opened, self._doors, self._ports):
            each.clear()
        self._factory = protocolFactory
        listening: Deferred[IListeningPort] = self._endpoint.listen(protocolFactory)
        return listening

    def reload(self) -> bool:
        """Read certificates and keys again; says in the log how that went.

        Connections that there are go on as they began; new ones get what was read.
        Only ``ssl:`` and ``tls:`` endpoints (behind ``haproxy:`` as well) have any.

        :return: False if something could not be read or does not fit together, and
            what was read before stays in use.
        """
        if not _READ_FILES.match(self.description):
            self._log.debug("{description}: nothing to reload", description=self.description)
            return True
        return reloaded(self._reload, self.description)

    def _reload(self) -> None:
        endpoint = self._parse()
        if self._doors:
            factories = self._factories_of(endpoint)
            pairs = list(zip(self._doors, factories, strict=True))
            for door, factory in pairs:
                door.leads_to = factory
        self._endpoint = endpoint

    def _factories_of(self, endpoint: IStreamServerEndpoint) -> list[Any]:
        # What the endpoint would listen with, had it not been asked in vain.
        seen: list[Any] = []
        self._seen = seen
        failures: list[Failure] = []
        try:
            endpoint.listen(self._factory).addErrback(failures.append)
        finally:
            self._seen = None
        if failures:
            failures[0].raiseException()
        return seen

    def _parse(self) -> IStreamServerEndpoint:
        description = self.description
        if self._inherited is not None:
            description = _SYSTEMD.sub(r"\1tcp:0", description)
        endpoint: IStreamServerEndpoint = serverFromString(
            _StandIn(self._reactor, self._asked), description
        )
        return endpoint

    def _asked(self, open: _Open, factory: Any) -> Any:
        # The endpoint has asked the reactor to listen.
        if self._seen is not None:
            self._seen.append(factory)
            return _NoPort()
        if _READ_FILES.match(self.description):
            factory = _Door(factory)
            self._doors.append(factory)
        port = open(factory) if self._inherited is None else self._adopt(factory)
        if not self._accept:
            port.stopReading()
        self._ports.append(port)
        self.opened.append((port.fileno(), _family(port.fileno())))
        return port

    def _adopt(self, factory: Any) -> Any:
        assert self._inherited is not None
        descriptor, family = next(self._inherited, (None, None))
        if descriptor is None or family is None:
            raise ValueError(f"{self.description}: too few sockets were inherited")
        os.set_blocking(descriptor, False)
        try:
            return _adopt(self._reactor, descriptor, family, factory)
        finally:
            os.close(descriptor)


def _family(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as opened:
        return int(opened.family)


class _StandIn:
    """The reactor, but for the ways to listen.

    :param asked: called with a function that listens with a given factory, and
        with the factory to listen with; what it returns is the port.
    """

    def __init__(self, reactor: Any, asked: Callable[[_Open, Any], Any]) -> None:
        self._reactor = reactor
        self._asked = asked
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See ``IReactorTCP``."""
        return self._asked(
            lambda factory: self._reactor.listenTCP(port, factory, backlog, interface), factory
        )

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See ``IReactorSSL``: as reactors do, TCP with TLS in the factory."""
        from twisted.protocols.tls import TLSMemoryBIOFactory

        secure = TLSMemoryBIOFactory(checked(contextFactory), False, factory)
        return self.listenTCP(port, secure, backlog, interface)

    def listenUNIX(
        self,
        address: str | bytes,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> Any:
        """See ``IReactorUNIX``."""
        return self._asked(
            lambda factory: self._reactor.listenUNIX(address, factory, backlog, mode, wantPID),
            factory,
        )

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket``."""
        return self._asked(
            lambda factory: _adopt(self._reactor, fileDescriptor, addressFamily, factory), factory
        )


def _adopt(reactor: Any, descriptor: int, family: int, factory: Any) -> Any:
    # As adoptStreamPort() does, on a duplicate of the descriptor.
    if family != socket.AF_UNIX:
        return reactor.adoptStreamPort(descriptor, family, factory)
    port = _InheritedUNIXPort(descriptor, factory, reactor)
    port.startListening()  # type: ignore[no-untyped-call]
    return port


class _InheritedUNIXPort(UNIXPort):
    """Accepts from a UNIX socket that somebody else has opened and will remove.

    The one that ``adoptStreamPort`` makes opens the socket to everyone (mode 666),
    and when it stops, shuts it down for all who share it and removes its path.
    """

    def __init__(self, descriptor: int, factory: Any, reactor: Any) -> None:
        self._opened = _OpenedSocket(fileno=os.dup(descriptor))
        # A name with this in front is not in the file system: nothing there is touched.
        name = b"\0" + os.fsencode(self._opened.getsockname()).lstrip(b"\0")
        super().__init__(name, factory, reactor=reactor)

    def createInternetSocket(self) -> socket.socket:
        return self._opened


class _OpenedSocket(socket.socket):
    """Bound, listening, and not its user's to shut down."""

    def bind(self, address: object) -> None:
        pass

    def listen(self, backlog: int = 0, /) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass


@implementer(IProtocolFactory, ILoggingContext)
class _Door:
    """What a port listens with, and what can lead elsewhere later.

    :ivar leads_to: the factory that the next connections get to.
    """

    def __init__(self, factory: Any) -> None:
        self.leads_to = factory
        self.doStart = factory.doStart
        self.doStop = factory.doStop

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """See ``IProtocolFactory``."""
        protocol: IProtocol | None = self.leads_to.buildProtocol(addr)
        return protocol

    def logPrefix(self) -> str:
        """See ``ILoggingContext``."""
        prefix: str = self.leads_to.logPrefix()
        return prefix


@implementer(IListeningPort)
class _NoPort:
    """What an endpoint gets that was only asked what it would listen with."""

    def startListening(self) -> None:
        pass

    def stopListening(self) -> Deferred[None]:
        return succeed(None)

    def getHost(self) -> IAddress:
        raise ValueError("nothing is listened on")
