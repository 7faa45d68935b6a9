"""The game does now what it did before: python -m pytest test_mud.py"""

import mud_asyncchat
import pytest
from twisted.internet.task import Clock

import txasynchat
from txasynchat.testing import check_chat_handler, connect

txasynchat.install()  # for what the old program imports

import mud_legacy  # noqa: E402


@pytest.fixture(params=["before", "after"])
def mud(request):
    if request.param == "after":
        return mud_asyncchat.Mud()
    return mud_legacy.MudServer(port=0)


def test_a_note_hangs_on_the_board_for_all(mud):
    with connect(mud) as ann, connect(mud) as bob:
        ann.receive(b"ann\r\nwrite\r\nThe inn has beer.\r\nHonestly!\r\n.\r\nquit\r\n")
        bob.receive(b"bob\r\n")
        bob.sent()  # the greeting
        bob.receive(b"read\r\n")
        assert bob.sent() == b"ann wrote:\r\nThe inn has beer.\r\nHonestly!\r\n"
        assert ann.is_closed


def test_who_leaves_without_a_word_is_gone(mud):
    with connect(mud) as ann, connect(mud) as bob:
        ann.receive(b"ann\r\n")
        bob.receive(b"bob\r\n")
        ann.sent()
        bob.disconnect()
        assert ann.sent() == b"bob is gone.\r\n"


def test_who_does_not_hear_the_farewell_is_no_trouble_to_others(mud):
    with connect(mud) as ann, connect(mud) as bob:
        ann.receive(b"ann\r\n")
        bob.receive(b"bob\r\n")
        bob.clog(takes=0)
        bob.receive(b"quit\r\n")
        ann.sent()
        ann.receive(b"say goodbye\r\n")
        assert ann.sent() == b"ann: goodbye\r\n"


def test_who_does_not_read_is_put_out():
    mud = mud_asyncchat.Mud()
    with connect(mud) as ann, connect(mud) as bob:
        ann.receive(b"ann\r\n")
        bob.receive(b"bob\r\n")
        bob.clog(takes=0)
        for _ in range(30):
            ann.receive(b"say " + b"x" * 50_000 + b"\r\n")
        assert ann.handler.is_open
        assert not bob.handler.is_open


def test_the_bell_strikes_once_a_minute():
    mud, clock = mud_asyncchat.Mud(), Clock()
    mud.bell.clock = clock
    mud.doStart()
    with connect(mud) as ann:
        ann.receive(b"ann\r\n")
        ann.sent()
        clock.advance(60)
        assert ann.sent() == b"The bell of the tower strikes.\r\n"
    mud.doStop()


SAMPLE = b"ann\r\nwrite\r\nhello\r\n.\r\nread\r\nhelp\r\nquit\r\n"


def test_it_keeps_the_rules_whatever_the_network_does():
    check_chat_handler(mud_asyncchat.Mud, SAMPLE)


def test_it_kept_all_rules_but_one():
    check_chat_handler(mud_legacy.MudServer, SAMPLE, skip={"queues": "notes hang there for ever"})
