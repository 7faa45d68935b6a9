"""What Twisted's transports over sockets can be made to do: to end at once, to take less memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone

__all__ = ("end_at_once", "is_over_socket", "may_end_at_once", "share_attributes")

#: What a transport is given after it was made, when something is written to it.
_LATER = ("producer", "streamingProducer", "dataBuffer", "offset")

_sharing: set[type] = set()


@lru_cache
def is_over_socket(kind: type) -> bool:
    """Whether a class is one of Twisted's transports over a socket."""
    from twisted.internet.tcp import Connection  # loads OpenSSL: not for who has no transport

    return issubclass(kind, Connection)


def may_end_at_once(transport: Any) -> bool:
    """Whether :func:`end_at_once` can do anything."""
    kind: Any = type(transport)
    return is_over_socket(kind) and not transport.TLS


def end_at_once(transport: Any) -> None:
    """Have a transport that was told to close do so now, if it can send what it holds.

    It would in its next turn, after another round of the reactor. To be called while it
    reads, and when nobody would be surprised by ``connectionLost()``. What its socket does
    not take is left to the reactor.
    """
    # What the reactor does, but for an error: that stays with the socket.
    if not (transport.connected and transport.disconnecting):
        return
    if isinstance(transport.doWrite(), ConnectionDone):
        transport.doWrite = _nothing  # it may have been waiting for room before
        transport.connectionLost(connectionDone)


def _nothing() -> None:
    """What a transport that is gone has to write."""


def share_attributes(transport: Any) -> None:
    """Have CPython keep the attributes of all transports of this class as it keeps most.

    It keeps their names once for all, if one of the first few objects had them; an object
    that is given another later has a dict of its own, which takes 650 bytes more. So where
    many connections come before the first was answered, as when a service was restarted,
    each of them would have one, from its first answer on.

    :param transport: any; only Twisted's own are known well enough.
    """
    kind: Any = type(transport)
    if kind not in _sharing and is_over_socket(kind):
        _sharing.add(kind)
        first: Any = object.__new__(kind)
        for name in _LATER:
            setattr(first, name, None)
