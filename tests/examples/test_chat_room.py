"""Guests, as nc and telnet would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from examples.conftest import Client


WELCOME = b"* Welcome! What is your name?\r\n"


@pytest.fixture
def enter(connect: Callable[[], Client]) -> Callable[[str], Client]:
    """Connects a guest, who enters with a name."""

    def guest(name: str) -> Client:
        client = connect()
        assert client.line() == WELCOME
        client.send(f"{name}\n".encode())
        assert client.line() == f"* {name} joined\r\n".encode()
        return client

    return guest


def leave(client: Client) -> None:
    client.send(b"QUIT\n")
    assert client.rest() == b"* Goodbye!\r\n"


def test_what_one_says_the_others_hear(enter: Callable[[str], Client]) -> None:
    alice = enter("alice")
    bob = enter("bob")
    assert alice.line() == b"* bob joined\r\n"
    alice.send(b"hello, all\n")
    assert bob.line() == b"alice: hello, all\r\n"
    bob.send(b"hello, alice\r\n")
    assert alice.line() == b"bob: hello, alice\r\n"  # and her own words never came back
    leave(bob)
    assert alice.line() == b"* bob left\r\n"
    leave(alice)


def test_a_guest_whose_connection_breaks_has_left(enter: Callable[[str], Client]) -> None:
    alice = enter("alice")
    bob = enter("bob")
    assert alice.line() == b"* bob joined\r\n"
    bob.close()
    assert alice.line() == b"* bob left\r\n"
    leave(alice)


def test_a_name_that_is_taken_is_free_again_when_its_guest_has_left(
    enter: Callable[[str], Client], connect: Callable[[], Client]
) -> None:
    alice = enter("alice")
    second = connect()
    assert second.line() == WELCOME
    second.send(b"alice\n")
    assert second.line() == b"* That name is taken. What is yours?\r\n"
    leave(alice)
    assert second.line() == b"* alice left\r\n"
    second.send(b"alice\n")
    assert second.line() == b"* alice joined\r\n"
    leave(second)


@pytest.mark.parametrize("name", [b"", b"a b", b"x" * 21, b"\x1b[31mred", "é".encode()])
def test_an_unfit_name_is_asked_for_again(connect: Callable[[], Client], name: bytes) -> None:
    guest = connect()
    assert guest.line() == WELCOME
    guest.send(name + b"\n")
    assert guest.line() == b"* A name has up to 20 letters and digits. What is yours?\r\n"


def test_who_has_no_name_yet_listens_and_leaves_unnoticed(
    enter: Callable[[str], Client], connect: Callable[[], Client]
) -> None:
    alice = enter("alice")
    nobody = connect()
    assert nobody.line() == WELCOME
    alice.send(b"who is there?\n")
    assert nobody.line() == b"alice: who is there?\r\n"
    leave(nobody)
    leave(alice)  # her rest is the goodbye: nobody's leave was not told


def test_what_comes_behind_quit_is_not_said(enter: Callable[[str], Client]) -> None:
    alice = enter("alice")
    bob = enter("bob")
    bob.send(b"bye\nQUIT\nand another thing\n")
    bob.finish()
    assert [alice.line(), alice.line(), alice.line()] == [
        b"* bob joined\r\n",
        b"bob: bye\r\n",
        b"* bob left\r\n",
    ]
    leave(alice)


def test_who_sends_a_line_without_end_is_put_out(enter: Callable[[str], Client]) -> None:
    alice = enter("alice")
    bob = enter("bob")
    assert alice.line() == b"* bob joined\r\n"
    bob.send(b"x" * 5000)
    assert alice.line() == b"* bob left\r\n"
    leave(alice)


def test_who_does_not_read_is_put_out_and_the_others_go_on(
    enter: Callable[[str], Client], connect: Callable[[], Client]
) -> None:
    deaf = connect()
    alice = enter("alice")
    # Far more than the kernel keeps on the way to the server and from it.
    said = b"x" * 4000 + b"\n"
    times = 32 * 1024 * 1024 // len(said)
    alice.send(said * times)
    leave(alice)
    heard = deaf.rest()
    assert heard.startswith(WELCOME + b"* alice joined\r\nalice: xxx")
    assert len(heard) < len(said) * times
    leave(enter("alice"))


def test_a_line_of_telnet_and_one_of_nc_are_both_lines(enter: Callable[[str], Client]) -> None:
    alice = enter("alice")
    bob = enter("bob")
    alice.send(b"one\r\ntwo\n\r\n\nthree\n")
    assert [bob.line() for _ in range(3)] == [
        b"alice: one\r\n",
        b"alice: two\r\n",
        b"alice: three\r\n",
    ]
    leave(bob)
