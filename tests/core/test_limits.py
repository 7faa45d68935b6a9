"""The limits of a service: what was given, what a handler says, what is the default."""

from __future__ import annotations

from ipaddress import ip_address
from resource import RLIMIT_NOFILE, getrlimit
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from txasynchat import AsyncChat, LegacyFactory
from txasynchat.limits import DEFAULTS, Limits, peer_key

STRANGER = ip_address("192.0.2.7")
NEIGHBOUR = ip_address("127.0.0.1")


def test_connections_are_limited_by_the_descriptors_of_the_process() -> None:
    descriptors = getrlimit(RLIMIT_NOFILE)[0]
    assert Limits().max_connections == descriptors * 9 // 10


def test_a_given_number_of_connections_takes_the_place_of_the_default() -> None:
    assert Limits(max_connections=5).max_connections == 5


def test_none_is_no_limit() -> None:
    limits = Limits(max_connections=None, max_per_peer=None, first_message_timeout=None)
    assert limits.max_connections is None
    assert limits.most_of(STRANGER) is None
    assert limits.first_message_timeout is None


@pytest.mark.parametrize("value", [0, -1, -0.5])
def test_what_is_no_limit_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"idle_timeout is .*: give a number above 0, or None"):
        Limits(idle_timeout=value)


def test_a_stranger_may_have_so_many_connections() -> None:
    assert Limits().most_of(STRANGER) == DEFAULTS["max_per_peer"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_may_have_any_number(host: str) -> None:
    assert Limits().most_of(ip_address(host)) is None


def test_a_given_number_counts_for_this_machine_as_well() -> None:
    assert Limits(max_per_peer=3).most_of(NEIGHBOUR) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (IPv4Address("TCP", "192.0.2.7", 1), IPv4Address("TCP", "192.0.2.7", 2)),
        (IPv6Address("TCP", "2001:db8::1", 1), IPv6Address("TCP", "2001:db8::ffff:1", 2)),
        (IPv6Address("TCP", "fe80::1%eth0", 1), IPv6Address("TCP", "fe80::2%eth0", 2)),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 1), IPv4Address("TCP", "192.0.2.7", 2)),
        (IPv4Address("TCP", "somebody", 1), IPv4Address("TCP", "", 1)),
    ],
)
def test_these_are_one_peer(one: Any, other: Any) -> None:
    assert peer_key(one) == peer_key(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (IPv4Address("TCP", "192.0.2.7", 1), IPv4Address("TCP", "192.0.2.8", 1)),
        (IPv6Address("TCP", "2001:db8::1", 1), IPv6Address("TCP", "2001:db8:0:1::1", 1)),
    ],
)
def test_these_are_two(one: Any, other: Any) -> None:
    assert peer_key(one) != peer_key(other)


@pytest.mark.parametrize("address", [UNIXAddress(b"/run/chat"), UNIXAddress(None), None])
def test_who_has_no_host_is_no_peer_to_count(address: Any) -> None:
    assert peer_key(address) is None


def test_the_connections_of_one_peer_share_its_key() -> None:
    one, other = (IPv4Address("TCP", "192.0.2.1", port) for port in (1, 2))
    assert peer_key(one) is peer_key(other)


class Silent(AsyncChat):
    idle_timeout = None  # by choice: it may wait for ever


class Patient(AsyncChat):
    idle_timeout = 7200


def test_what_is_given_counts_for_every_handler() -> None:
    chat = Patient()
    Limits(idle_timeout=60, max_message_length=100).put_on(chat)
    assert (chat.idle_timeout, chat.max_message_length) == (60, 100)


def test_none_is_given_as_well() -> None:
    chat = Patient()
    Limits(idle_timeout=None, max_message_length=None).put_on(chat)
    assert not chat.idle_timeout and not chat.max_message_length


def test_otherwise_it_is_the_handlers_class_that_says() -> None:
    chat = Patient()
    Limits().put_on(chat)
    assert chat.idle_timeout == 7200


def test_a_class_may_want_no_limit() -> None:
    chat = Silent()
    Limits().put_on(chat)
    assert chat.idle_timeout is None


def test_a_handler_may_want_no_limit() -> None:
    chat = AsyncChat()
    chat.idle_timeout = None
    Limits().put_on(chat)
    assert chat.idle_timeout is None


def test_a_class_that_says_nothing_gets_the_default() -> None:
    chat = AsyncChat()
    Limits().put_on(chat)
    assert chat.idle_timeout == DEFAULTS["idle_timeout"]
    assert chat.max_message_length == AsyncChat.max_message_length


def test_a_legacy_handler_gets_bounds_that_it_never_had() -> None:
    connection: Any = LegacyFactory(lambda sock, addr: None).buildProtocol(None)
    Limits().put_on(connection)
    assert connection.max_message_length == 64 * 2**20
    assert connection.max_queued_output == 2**20
    assert connection.idle_timeout == 1800
