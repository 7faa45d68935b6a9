"""Addresses of peers: in words, and behind a proxy that names the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

__all__ = ("in_words", "when_peer_is_known")


def in_words(address: Any) -> str:
    """An address as people write it.

    :param address: an ``IAddress``, or None.

    >>> from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
    >>> in_words(IPv4Address("TCP", "192.0.2.1", 25)), in_words(IPv6Address("TCP", "::1", 25))
    ('192.0.2.1:25', '[::1]:25')
    >>> in_words(UNIXAddress("/run/chat")), in_words(UNIXAddress(None)), in_words(None)
    ('unix:/run/chat', 'unix', 'nobody')
    """
    words = "nobody" if address is None else _in_words(address)
    # A proxy's header may say anything.
    return words if words.isprintable() else words.encode("unicode_escape").decode()


def _in_words(address: Any) -> str:
    host = getattr(address, "host", None)
    if host is not None:
        return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    name = getattr(address, "name", address)
    if name is address:  # of some other kind, standard input for one
        return str(address)
    path = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return f"unix:{path}" if path else "unix"


def when_peer_is_known(transport: Any, call: Callable[[], object]) -> None:
    """Make a call once ``transport.getPeer()`` is the peer, before any input of its.

    That is at once, but behind a proxy: there the PROXY header has to come first.
    A connection that ends before it has come never makes the call.

    :param transport: any ``ITransport``; its protocol knows it already.
    """
    if isinstance(transport, ProtocolWrapper):
        wrapper = _proxy_wrapper(transport)
        if wrapper is not None and wrapper._proxyInfo is None:
            _HeaderWait(wrapper, call)
            return
    call()


def _proxy_wrapper(transport: Any) -> Any:
    # What reads the PROXY header below `transport`; None if nothing does.
    while isinstance(transport, ProtocolWrapper):
        if "_proxyInfo" in vars(transport):
            return transport
        transport = transport.transport
    return None


class _HeaderWait(Protocol):
    """Stands on both sides of Twisted's wrapper, which does not say when it has the header:
    asks it after whatever came, and sees first what came behind the header."""

    def __init__(self, wrapper: Any, call: Callable[[], object]) -> None:
        self._wrapper = wrapper
        self._call = call
        self._receive = wrapper.dataReceived
        self._protocol = wrapper.wrappedProtocol
        wrapper.dataReceived = self._received
        wrapper.wrappedProtocol = self

    def _received(self, data: bytes) -> None:
        self._receive(data)
        if self._wrapper._proxyInfo is not None:
            self._over()

    def _over(self) -> None:
        if self._wrapper.wrappedProtocol is self:
            self._wrapper.wrappedProtocol = self._protocol
            del self._wrapper.dataReceived
            self._call()

    def dataReceived(self, data: bytes) -> None:
        below = self._below()
        self._over()
        # A protocol that has begun TLS at once has put that below the wrapper; what came
        # in one piece with the header is for TLS then.
        receiver = self._protocol if self._below() is below else self._below()
        receiver.dataReceived(data)

    def _below(self) -> Any:
        # What the socket's transport passes data to.
        transport = self._wrapper.transport
        while isinstance(transport, ProtocolWrapper):
            transport = transport.transport
        return getattr(transport, "protocol", None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._protocol.connectionLost(reason)
