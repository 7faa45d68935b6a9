"""The limits of a service: on by default where a stranger can reach it."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from typing import Any, Final

__all__ = ("DEFAULT", "DEFAULTS", "Default", "Limits", "peer_key")


class Default(Enum):
    """The type of :data:`DEFAULT`."""

    DEFAULT = "the default"


#: Stands for a limit that nobody gave. None is one: no limit.
DEFAULT: Final = Default.DEFAULT

#: Where neither the operator nor the handler's class says anything: connections,
#: bytes, seconds. What is for each connection is for those that have no bound of
#: their own; an AsyncChat has, but for ``idle_timeout``.
DEFAULTS: dict[str, float] = {
    "max_per_peer": 100,
    "first_message_timeout": 120,
    "max_message_length": 64 * 2**20,
    "max_queued_output": 2**20,
    "idle_timeout": 1800,
    "close_timeout": 60,
}

_OF_A_CONNECTION = ("max_message_length", "max_queued_output", "idle_timeout", "close_timeout")

#: Where there is no limit of descriptors to derive it from.
_MANY_CONNECTIONS = 10_000


class Limits:
    """What the peers of one service may take. None is no limit.

    What is given here counts for every connection; where nothing is given, what the
    handler's class says; and where that says nothing, the default.

    :param max_connections: how many connections may be alive at once. The default is
        nine tenths of the descriptors that the process may open.
    :param max_per_peer: how many of these of one peer: of one IPv4 address, or one /64
        network of IPv6. The default, 100, does not count for peers on this machine;
        a number that is given does. Over UNIX sockets nobody has an address.
    :param first_message_timeout: seconds until a peer's first message has come; for
        a handler without messages, its first byte. 120 by default.
    :param max_message_length: see :attr:`txasynchat.AsyncChat.max_message_length`. Legacy
        handlers, which know no such limit, get 64 MiB by default.
    :param max_queued_output: see :attr:`txasynchat.AsyncChat.max_queued_output`. Legacy
        handlers get 1 MiB by default.
    :param idle_timeout: see :attr:`txasynchat.AsyncChat.idle_timeout`. 1,800 seconds by default.
    :param close_timeout: see :attr:`txasynchat.AsyncChat.close_timeout`.
    :raise ValueError: for a number that is no limit.

    >>> limits = Limits(max_connections=5, idle_timeout=None)
    >>> limits.max_connections, limits.first_message_timeout
    (5, 120)
    >>> Limits(idle_timeout=-1)
    Traceback (most recent call last):
    ...
    ValueError: idle_timeout is -1: give a number above 0, or None for no limit
    """

    def __init__(
        self,
        *,
        max_connections: int | Default | None = DEFAULT,
        max_per_peer: int | Default | None = DEFAULT,
        first_message_timeout: float | Default | None = DEFAULT,
        max_message_length: int | Default | None = DEFAULT,
        max_queued_output: int | Default | None = DEFAULT,
        idle_timeout: float | Default | None = DEFAULT,
        close_timeout: float | Default | None = DEFAULT,
    ) -> None:
        self._given: dict[str, Any] = {
            "max_connections": max_connections,
            "max_per_peer": max_per_peer,
            "first_message_timeout": first_message_timeout,
            "max_message_length": max_message_length,
            "max_queued_output": max_queued_output,
            "idle_timeout": idle_timeout,
            "close_timeout": close_timeout,
        }
        self._given = {n: value for n, value in self._given.items() if value is not DEFAULT}
        for name, value in self._given.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}: give a number above 0, or None for no limit")

    @property
    def max_connections(self) -> int | None:
        """How many connections may be alive at once."""
        if "max_connections" in self._given:
            return self._given["max_connections"]  # type: ignore[no-any-return]
        descriptors = _descriptors()
        return _MANY_CONNECTIONS if descriptors is None else descriptors * 9 // 10

    @property
    def first_message_timeout(self) -> float | None:
        """Seconds until a peer's first message has come."""
        return self._given.get(  # type: ignore[no-any-return]
            "first_message_timeout", DEFAULTS["first_message_timeout"]
        )

    def most_of(self, peer: IPv4Address | IPv6Address) -> float | None:
        """How many connections `peer` may have at once."""
        if "max_per_peer" in self._given:
            return self._given["max_per_peer"]  # type: ignore[no-any-return]
        return None if peer.is_loopback else DEFAULTS["max_per_peer"]

    def put_on(self, connection: Any) -> None:
        """Set the limits that a connection watches over itself.

        :param connection: an :class:`~txasynchat.AsyncChat`, or what a
            :class:`~txasynchat.LegacyFactory` made.
        """
        for name in _OF_A_CONNECTION:
            if name in self._given:
                setattr(connection, name, self._given[name])
            elif getattr(connection, name) is None and not _is_a_choice(connection, name):
                setattr(connection, name, DEFAULTS[name])


def _descriptors() -> int | None:
    # How many the process may open; None for any number.
    most = getrlimit(RLIMIT_NOFILE)[0]
    return None if most == RLIM_INFINITY else most


def _is_a_choice(connection: object, name: str) -> bool:
    # Whether somebody has written "idle_timeout = None", or it is just what we begin with.
    # A look into vars() would make CPython keep a dict for each connection.
    try:
        delattr(connection, name)
    except AttributeError:
        pass
    else:
        setattr(connection, name, None)
        return True
    says = next(each for each in type(connection).__mro__ if name in vars(each))
    return not says.__module__.startswith("txasynchat.")


def peer_key(address: Any) -> IPv4Address | IPv6Address | None:
    """What the connections of one peer have in common.

    :param address: an ``IAddress``.
    :return: its host, for IPv6 its /64 network; None where it has none. All hosts that
        are no IP addresses, which a proxy's header may name, are one peer.

    >>> from twisted.internet.address import IPv6Address, UNIXAddress
    >>> peer_key(IPv6Address("TCP", "2001:db8::17:4", 25))
    IPv6Address('2001:db8::')
    >>> peer_key(UNIXAddress(b"/run/chat"))
    """
    name = getattr(address, "host", None)
    return None if name is None else _key_of(name)


# Many connections may have the same peer, and keep its key: they share one.
@lru_cache(maxsize=1024)
def _key_of(name: str) -> IPv4Address | IPv6Address:
    try:
        host = ip_address(name)
    except ValueError:
        return IPv4Address(0)
    if isinstance(host, IPv4Address):
        return host
    if host.ipv4_mapped is not None:
        return host.ipv4_mapped
    if host.is_loopback:
        return host
    return ip_network((int(host), 64), strict=False).network_address
