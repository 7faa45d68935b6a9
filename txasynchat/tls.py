"""TLS servers made in code, whose certificates can be read again while they serve.

``ssl:`` and ``tls:`` endpoints need nothing of this: see :mod:`txasynchat.listening`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ("ReloadableContext", "reload_all")

_log = Logger()


@implementer(IOpenSSLServerConnectionCreator)
class ReloadableContext:
    """What ``start_tls()`` and TLS endpoints are given, and what can be loaded again.

    A connection keeps what it began with; each new one gets what was loaded last.

    :param load: makes what Twisted takes for a server's side of TLS: a
        ``CertificateOptions``, another context factory, or an
        ``IOpenSSLServerConnectionCreator``. Called now and by each :meth:`reload`.
    :param name: names it in the log: a path, say.
    :raise Exception: whatever `load` raises, or OpenSSL of what it made.

    >>> from pathlib import Path
    >>> from twisted.internet.ssl import CertificateOptions, PrivateCertificate
    >>> def load():
    ...     return PrivateCertificate.loadPEM(Path("server.pem").read_bytes()).options()
    >>> ReloadableContext(load, "server.pem")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'server.pem'
    >>> ReloadableContext(CertificateOptions, "nobody in particular").reload()
    True
    """

    _connect: Callable[[Any], Any]

    def __init__(self, load: Callable[[], Any], name: str) -> None:
        self.name = name
        self._load = load
        self._take()
        _contexts.add(self)

    def reload(self) -> bool:
        """Load again, for the connections to come; says in the log how that went.

        :return: False if it failed, and what was loaded before stays in use.
        """
        return reloaded(self._take, self.name)

    def _take(self) -> None:
        self._connect = _connector(self._load())

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        """The OpenSSL side of a new connection. Twisted calls this.

        :param protocol: Twisted's protocol for TLS.
        """
        return self._connect(protocol)


_contexts: WeakSet[ReloadableContext] = WeakSet()


def reload_all() -> bool:
    """Reload every :class:`ReloadableContext` that there is.

    The service does so on SIGHUP, so that a handler that upgrades its connections
    with ``start_tls()`` has to do nothing for that.

    :return: False if any of them failed.
    """
    contexts = sorted(_contexts, key=lambda context: context.name)
    failed = [context for context in contexts if not context.reload()]
    return not failed


def reloaded(load: Callable[[], object], name: str) -> bool:
    """Whether `load` could do so; says so in one line of the log."""
    try:
        load()
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        _log.error(
            "can't reload the certificates of {name}, the old ones stay in use: {why}",
            name=name,
            why=why,
        )
        return False
    _log.info("certificates of {name} reloaded", name=name)
    return True


def checked(made: Any) -> Any:
    """`made`, a context factory or a creator of connections, once OpenSSL has accepted it.

    :raise Exception: what OpenSSL has to say against it, which it would otherwise
        say of each connection.
    """
    if hasattr(made, "getContext"):
        made.getContext()
    return made


def _connector(made: Any) -> Callable[[Any], Any]:
    # From any of the kinds of things that Twisted takes, what makes a connection.
    if IOpenSSLServerConnectionCreator.providedBy(checked(made)):
        connect: Callable[[Any], Any] = made.serverConnectionForTLS
        return connect
    from OpenSSL.SSL import Connection

    return lambda _protocol: Connection(made.getContext(), None)
