"""The numbered differences of docs/differences.md: what is new, and what it was before.

A test ``test_difference_NN_...`` shows what the drop-in does, its companion ``test_before_NN_...``
what the removed modules did in the same situation: the interpreter's own up to 3.11, the copies
from PyPI beyond.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from errno import EMFILE
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import trustme
from legacy.oracle import Pair, RemovedModulesMissingError, our_modules, removed_modules
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.basic import FileSender
from zope.interface import implementer

TIMEOUT = 30
PAGE = Path(__file__).parents[2] / "docs" / "differences.md"


class Stage:
    """Channels of one pair of modules in a map of their own, and the peers they talk to."""

    def __init__(self, pair: Pair) -> None:
        self.asyncore: Any = pair.asyncore
        self.asynchat: Any = pair.asynchat
        self.map: dict[int, Any] = {}
        self.open: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A socket and its peer, which a test waits for but not for ever."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(TIMEOUT)
        self.open += [ours, theirs]
        return ours, theirs

    def chat(self, **body: Any) -> tuple[Any, socket.socket]:
        """An async_chat that keeps its messages, and its peer.

        :param body: attributes and methods of its class.
        """
        ours, theirs = self.pair()
        return self.chat_on(ours, **body), theirs

    def chat_on(self, sock: Any, **body: Any) -> Any:
        base = self.asynchat.async_chat

        def found_terminator(self: Any) -> None:
            self.messages.append(self._get_data())

        body = {
            "collect_incoming_data": base._collect_incoming_data,
            "found_terminator": found_terminator,
            **body,
        }
        channel = type("Handler", (base,), body)(sock, self.map)
        channel.messages = []
        channel.set_terminator(b"\n")
        return channel

    def dispatcher(self, **body: Any) -> tuple[Any, socket.socket]:
        """A dispatcher that only reads, and its peer."""
        ours, theirs = self.pair()
        return self.dispatcher_on(ours, **body), theirs

    def dispatcher_on(self, sock: Any, **body: Any) -> Any:
        body = {"writable": lambda self: False, **body}
        return type("Handler", (self.asyncore.dispatcher,), body)(sock, self.map)

    def listener(self, sock: socket.socket | None = None, **body: Any) -> Any:
        server = self.dispatcher_on(None, **body)
        server.set_socket(sock or socket.socket())
        server.socket.setblocking(False)
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        return server

    def client_of(self, server: Any) -> socket.socket:
        client = socket.create_connection(server.socket.getsockname(), TIMEOUT)
        self.open.append(client)
        return client

    def rounds(self, count: int = 1, timeout: float = 0.01, use_poll: bool = False) -> None:
        self.asyncore.loop(timeout, use_poll, self.map, count)

    def until(self, condition: Callable[[], object]) -> None:
        ends = monotonic() + TIMEOUT
        while not condition():
            assert monotonic() < ends
            self.rounds()

    def end(self) -> None:
        self.asyncore.close_all(self.map, ignore_all=True)
        for each in self.open:
            each.close()


@pytest.fixture
def ours() -> Iterator[Stage]:
    stage = Stage(our_modules())
    yield stage
    stage.end()


@pytest.fixture
def removed() -> Iterator[Stage]:
    try:
        stage = Stage(removed_modules())
    except RemovedModulesMissingError as missing:
        pytest.skip(str(missing))
    yield stage
    stage.end()


def ignore(self: Any) -> None:
    """For a callback that is not to do what it would do."""


def run(program: str, *arguments: str) -> str:
    """What a program prints, in an interpreter of its own: it drives the reactor."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- 1. No callback comes after close() --------------------------------------------------


def quits(stage: Stage) -> tuple[list[bytes], bytes]:
    """What is delivered to a handler that closes on QUIT, and what is left."""

    def found_terminator(self: Any) -> None:
        self.messages.append(self._get_data())
        if self.messages == [b"QUIT"]:
            self.close()

    channel, peer = stage.chat(found_terminator=found_terminator)
    peer.send(b"QUIT\nDELETE everything\n")
    stage.rounds()
    return channel.messages, channel.ac_in_buffer


def test_difference_01_what_came_behind_the_message_that_closed_is_not_delivered(
    ours: Stage,
) -> None:
    assert quits(ours) == ([b"QUIT"], b"DELETE everything\n")


def test_before_01_what_came_behind_the_message_that_closed_was_delivered(
    removed: Stage,
) -> None:
    assert quits(removed) == ([b"QUIT", b"DELETE everything"], b"")


def closes_while_the_peer_hangs_up(stage: Stage) -> list[str]:
    calls: list[str] = []

    def handle_read(self: Any) -> None:
        calls.append("read")
        self.close()

    channel, peer = stage.dispatcher(
        handle_read=handle_read, handle_close=lambda self: calls.append("close")
    )
    peer.close()
    stage.rounds(use_poll=True)
    assert channel.socket.fileno() == -1
    return calls


def test_difference_01_no_handle_close_comes_with_the_event_that_closed(ours: Stage) -> None:
    assert closes_while_the_peer_hangs_up(ours) == ["read"]


def test_before_01_a_handle_close_came_with_the_event_that_closed(removed: Stage) -> None:
    assert closes_while_the_peer_hangs_up(removed) == ["read", "close"]


def closes_when_connected(stage: Stage) -> tuple[bool, list[str]]:
    calls: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))
    stage.open.append(listening)
    channel = stage.dispatcher_on(
        None,
        writable=lambda self: True,
        handle_connect=lambda self: self.close(),
        handle_write=lambda self: calls.append("write"),
    )
    channel.create_socket()
    channel.connect(listening.getsockname())
    stage.rounds()
    return channel.connected, calls


def test_difference_01_what_was_closed_in_handle_connect_is_not_connected(ours: Stage) -> None:
    assert closes_when_connected(ours) == (False, [])


def test_before_01_what_was_closed_in_handle_connect_counted_as_connected(
    removed: Stage,
) -> None:
    assert closes_when_connected(removed) == (True, ["write"])


# -- 2. A channel that gets another socket after close() starts afresh -------------------


def connects_again(stage: Stage) -> list[bytes]:
    channel, peer = stage.chat()
    channel.set_terminator(b"--")
    peer.send(b"-")
    stage.rounds()
    channel.close()
    ours, peer = stage.pair()
    ours.setblocking(False)
    channel.set_socket(ours)
    channel.connected = True
    peer.send(b"-a--")
    stage.rounds()
    found: list[bytes] = channel.messages
    return found


def test_difference_02_another_connection_begins_without_the_last_ones_input(
    ours: Stage,
) -> None:
    assert connects_again(ours) == [b"-a"]


def test_before_02_another_connection_began_with_the_last_ones_input(removed: Stage) -> None:
    assert connects_again(removed) == [b"", b"a"]


# -- 3. A channel whose descriptor is no longer valid is told handle_close() -------------


def one_of_two_goes(stage: Stage, go: Callable[[Any], object]) -> list[str]:
    calls: list[str] = []

    def handle_close(self: Any) -> None:
        calls.append("gone")
        self.close()

    gone, _ = stage.dispatcher(handle_read=ignore, handle_close=handle_close)
    other, peer = stage.dispatcher()
    other.handle_read = lambda: calls.append(other.recv(100).decode())
    stage.rounds()
    go(gone)
    peer.send(b"hello")
    stage.rounds(2)
    assert gone not in stage.map.values()
    return calls


def close_the_socket(channel: Any) -> None:
    channel.socket.close()


def enter_by_an_invalid_number(channel: Any) -> None:
    channel.del_channel()
    channel.socket.close()
    channel.set_socket(channel.socket)


WAYS_TO_GO = pytest.mark.parametrize("go", [close_the_socket, enter_by_an_invalid_number])


@WAYS_TO_GO
def test_difference_03_a_channel_whose_descriptor_is_invalid_is_closed_and_others_are_served(
    ours: Stage, go: Callable[[Any], object]
) -> None:
    assert sorted(one_of_two_goes(ours, go)) == ["gone", "hello"]


@WAYS_TO_GO
def test_before_03_a_channel_whose_descriptor_was_invalid_ended_the_loop(
    removed: Stage, go: Callable[[Any], object]
) -> None:
    expected = OSError if go is close_the_socket else ValueError
    with pytest.raises(expected, match="descriptor"):
        one_of_two_goes(removed, go)


# -- 4. A listener survives an error in its accept hook ----------------------------------


def accepts_with_an_error(stage: Stage) -> tuple[list[int], bool]:
    accepted: list[int] = []

    def handle_accepted(self: Any, sock: socket.socket, addr: Any) -> None:
        sock.close()
        accepted.append(addr[1])
        if len(accepted) == 1:
            raise LookupError("on purpose")

    server = stage.listener(handle_accepted=handle_accepted)
    stage.client_of(server)
    stage.rounds()
    with suppress(OSError):
        stage.client_of(server)
    stage.rounds()
    return accepted, server in stage.map.values()


def test_difference_04_a_listener_survives_an_error_in_its_accept_hook(
    ours: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted, listens = accepts_with_an_error(ours)
    assert (len(accepted), listens) == (2, True)
    printed = capsys.readouterr().out
    assert printed.count("error: uncaptured python exception, listener goes on:") == 1
    assert "LookupError" in printed


def test_before_04_a_listener_was_closed_by_an_error_in_its_accept_hook(
    removed: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted, listens = accepts_with_an_error(removed)
    assert (len(accepted), listens) == (1, False)
    assert "closing channel" in capsys.readouterr().out


# -- 5. A listener survives a shortage of descriptors ------------------------------------


class NoneLeft(socket.socket):
    """A listening socket, when the process has no descriptors left."""

    shortage = True
    tries = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        if self.shortage:
            raise OSError(EMFILE, "on purpose")
        return super().accept()


def test_difference_05_a_listener_pauses_when_there_are_no_descriptors(
    ours: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted: list[Any] = []

    def handle_accepted(self: Any, sock: socket.socket, addr: Any) -> None:
        sock.close()
        accepted.append(addr)

    server = ours.listener(NoneLeft(), handle_accepted=handle_accepted)
    assert server.accept() is None
    server.socket.tries = 0
    ours.rounds()
    ours.client_of(server)
    began = monotonic()
    server.socket.shortage = False
    ours.until(lambda: accepted)
    assert 0.3 < monotonic() - began < 5
    assert server.socket.tries == 1
    assert "error: can't accept, trying again in 0.5 s" in capsys.readouterr().out


def test_before_05_a_listener_was_closed_when_there_were_no_descriptors(
    removed: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    server = removed.listener(NoneLeft())
    removed.client_of(server)
    removed.rounds()
    assert server not in removed.map.values()
    assert "closing channel" in capsys.readouterr().out


# -- 6. One urgent byte gives one handle_expt() ------------------------------------------


def is_sent_an_urgent_byte(stage: Stage, use_poll: bool) -> int:
    calls: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname(), TIMEOUT)
        sock, _ = listening.accept()
    stage.open += [peer, sock]
    stage.dispatcher_on(sock, handle_expt=lambda self: calls.append("expt"))
    peer.send(b"!", socket.MSG_OOB)
    stage.rounds(10, 0.05, use_poll)
    return len(calls)


BOTH_POLLS = pytest.mark.parametrize("use_poll", [False, True])


@BOTH_POLLS
def test_difference_06_an_urgent_byte_is_told_once(ours: Stage, use_poll: bool) -> None:
    assert is_sent_an_urgent_byte(ours, use_poll) == 1


@BOTH_POLLS
def test_before_06_an_urgent_byte_was_told_for_ever(removed: Stage, use_poll: bool) -> None:
    assert is_sent_an_urgent_byte(removed, use_poll) == 10


# -- 7. An event never reaches a channel that merely inherited the number ----------------


def inherits_a_number(stage: Stage) -> list[str]:
    calls: list[str] = []
    heir_sock, _ = stage.pair()

    def handle_read(self: Any) -> None:
        self.recv(100)
        number = second._fileno
        second.close()
        # The next descriptor that is opened often has the number; here it has it for sure.
        stage.open.append(sock := socket.socket(fileno=os.dup2(heir_sock.fileno(), number)))
        stage.dispatcher_on(sock, handle_read=lambda self: calls.append("heir"))

    _, peer = stage.dispatcher(handle_read=handle_read)
    second, other_peer = stage.dispatcher(handle_read=lambda self: calls.append("second"))
    for each in (peer, other_peer):
        each.send(b"hello")
    stage.rounds()
    return calls


def test_difference_07_an_event_does_not_reach_the_heir_of_a_number(ours: Stage) -> None:
    assert inherits_a_number(ours) == []


def test_before_07_an_event_reached_the_heir_of_a_number(removed: Stage) -> None:
    assert inherits_a_number(removed) == ["heir"]


# -- 8. There is no limit of 1024 descriptors --------------------------------------------


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 1200:
        if hard != resource.RLIM_INFINITY and hard < 1200:
            pytest.skip(f"the system allows {hard} descriptors only")
        resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def has_a_large_number(stage: Stage) -> list[bytes]:
    import fcntl

    low, peer = stage.pair()
    sock = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1100))
    stage.open.append(sock)
    assert sock.fileno() >= 1100
    received: list[bytes] = []
    stage.dispatcher_on(sock, handle_read=lambda self: received.append(self.recv(100)))
    peer.send(b"hello")
    stage.rounds()
    return received


def test_difference_08_a_descriptor_may_have_a_number_beyond_1024(
    ours: Stage, many_descriptors: None
) -> None:
    assert has_a_large_number(ours) == [b"hello"]


def test_before_08_a_descriptor_with_a_number_beyond_1024_ended_the_loop(
    removed: Stage, many_descriptors: None
) -> None:
    with pytest.raises(ValueError, match="out of range"):
        has_a_large_number(removed)


# -- 9. A TLS socket that has to wait is not an error ------------------------------------


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and that of a client which trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def in_a_thread(what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=what, daemon=True)
    thread.start()
    return thread


def shakes_hands(
    stage: Stage, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> tuple[list[bytes], bool]:
    server, client = contexts
    ours, theirs = stage.pair()
    wrapped = server.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
    stage.open.append(wrapped)
    channel = stage.chat_on(wrapped)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    theirs.send(outgoing.read())
    stage.rounds()  # the channel has got the first message, and needs another one
    still_open = bool(stage.map)
    if still_open:
        incoming.write(theirs.recv(65536))
        peer.do_handshake()
        peer.write(b"hello\n")
        theirs.send(outgoing.read())
        stage.until(lambda: channel.messages)
    return channel.messages, still_open


def test_difference_09_a_handshake_that_has_to_wait_is_no_error(
    ours: Stage, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    assert shakes_hands(ours, contexts) == ([b"hello"], True)


def test_before_09_a_handshake_that_had_to_wait_closed_the_channel(
    removed: Stage, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    assert shakes_hands(removed, contexts) == ([], False)


def reads_half_of_a_record(stage: Stage, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> bytes:
    server, client = contexts
    ours, theirs = stage.pair()
    peers: list[ssl.SSLSocket] = []
    thread = in_a_thread(
        lambda: peers.append(client.wrap_socket(theirs, server_hostname="localhost"))
    )
    wrapped = server.wrap_socket(ours, server_side=True)
    thread.join(TIMEOUT)
    stage.open += [wrapped, *peers]
    channel = stage.chat_on(wrapped, ac_in_buffer_size=5)
    peers[0].sendall(b"half of this")
    stage.rounds(5)
    received: bytes = channel._get_data()
    return received


def test_difference_09_what_was_decrypted_and_not_read_is_told(
    ours: Stage, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    assert reads_half_of_a_record(ours, contexts) == b"half of this"


def test_before_09_what_was_decrypted_and_not_read_was_not_told(
    removed: Stage, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    assert reads_half_of_a_record(removed, contexts) == b"half "


# -- 10. A round that finds its channels served meanwhile leaves the rest to the next ----


def enters_the_loop_again(stage: Stage) -> list[str]:
    calls: list[str] = []

    def first_reads(self: Any) -> None:
        calls.append("first")
        self.recv(100)
        stage.asyncore.poll(0, stage.map)

    def second_reads(self: Any) -> None:
        calls.append("second")
        with suppress(BlockingIOError):
            self.recv(100)

    _, peer = stage.dispatcher(handle_read=first_reads)
    _, other_peer = stage.dispatcher(handle_read=second_reads)
    for each in (peer, other_peer):
        each.send(b"hello")
    stage.rounds(2)
    return calls


def test_difference_10_an_event_that_an_inner_loop_served_is_told_once(ours: Stage) -> None:
    assert enters_the_loop_again(ours) == ["first", "second"]


def test_before_10_an_event_that_an_inner_loop_served_was_told_twice(removed: Stage) -> None:
    assert enters_the_loop_again(removed) == ["first", "second", "second"]


# -- 11. loop() without a count inside the running reactor is refused --------------------

INSIDE_THE_REACTOR = """
import socket, sys, threading
from twisted.internet import reactor

if sys.argv[1] == "ours":
    from txasynchat import asyncore
else:
    import asyncore

a, b = socket.socketpair()
channel = asyncore.dispatcher(a)
channel.writable = lambda: False
channel.handle_read = lambda: (channel.recv(100), channel.close())
told = []

def call():
    # What ends the loop comes long after the reactor's timer is due.
    threading.Timer(0.5, b.send, [b"x"]).start()
    try:
        asyncore.loop(0.1)
    except RuntimeError as error:
        print(type(error).__name__, "leave the call out" in str(error))
    else:
        print("the loop ended; the reactor's timer was called:", bool(told))

reactor.callLater(0, call)
reactor.callLater(0.1, told.append, True)
reactor.callLater(1, reactor.stop)
reactor.run()
print("the channel is served:", not asyncore.socket_map)
"""


def test_difference_11_a_loop_without_end_inside_the_running_reactor_is_refused() -> None:
    assert run(INSIDE_THE_REACTOR, "ours") == "RuntimeError True\nthe channel is served: True\n"


def test_before_11_a_loop_inside_the_running_reactor_stopped_it(removed: Stage) -> None:
    assert run(INSIDE_THE_REACTOR, "removed") == (
        "the loop ended; the reactor's timer was called: False\nthe channel is served: True\n"
    )


# -- 12. What was delivered is not delivered again ---------------------------------------


def raises_once(stage: Stage) -> list[bytes]:
    pieces: list[bytes] = []

    def collect_incoming_data(self: Any, data: bytes) -> None:
        pieces.append(data)
        if len(pieces) == 1:
            raise LookupError("on purpose")

    _, peer = stage.chat(
        collect_incoming_data=collect_incoming_data, handle_error=ignore, found_terminator=ignore
    )
    peer.send(b"one")
    stage.rounds()
    peer.send(b"two")
    stage.rounds()
    return pieces


def test_difference_12_what_a_callback_got_that_raised_is_not_delivered_again(
    ours: Stage,
) -> None:
    assert raises_once(ours) == [b"one", b"two"]


def test_before_12_what_a_callback_got_that_raised_was_delivered_again(removed: Stage) -> None:
    assert raises_once(removed) == [b"one", b"onetwo"]


def looks_around(stage: Stage) -> list[tuple[bytes, Any]]:
    seen: list[tuple[bytes, Any]] = []
    channel, peer = stage.chat(
        collect_incoming_data=lambda self, data: seen.append((self.ac_in_buffer, self.terminator))
    )
    peer.send(b"one\ntwo\n")
    stage.rounds()
    channel.set_terminator(10)
    peer.send(b"four")
    stage.rounds()
    return seen


def test_difference_12_callbacks_see_what_is_left_behind_their_piece(ours: Stage) -> None:
    assert looks_around(ours) == [(b"two\n", b"\n"), (b"", b"\n"), (b"", 10)]


def test_before_12_callbacks_saw_their_piece_as_not_yet_consumed(removed: Stage) -> None:
    assert looks_around(removed) == [(b"one\ntwo\n", b"\n"), (b"two\n", b"\n"), (b"four", 10)]


# -- 13. A counted read whose terminator is changed half-way follows the new one ---------


def changes_a_count(stage: Stage, count: int, terminator: Any) -> Any:
    channel, peer = stage.chat(
        collect_incoming_data=lambda self, data: self.set_terminator(terminator)
    )
    channel.set_terminator(count)
    peer.send(b"four")
    stage.rounds()
    return channel.get_terminator()


def test_difference_13_a_terminator_set_within_a_counted_read_is_kept(ours: Stage) -> None:
    assert changes_a_count(ours, 10, 100) == 100
    assert changes_a_count(ours, 10, b"\n") == b"\n"
    assert changes_a_count(ours, 4, b"\n") == b"\n"


def test_before_13_a_terminator_set_within_a_counted_read_was_changed(
    removed: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert changes_a_count(removed, 10, 100) == 96
    changes_a_count(removed, 10, b"\n")
    assert "TypeError" in capsys.readouterr().out  # b"\n" - 4
    assert changes_a_count(removed, 4, b"\n") == 0


# -- 14. What is assigned to ac_in_buffer is the input that follows ----------------------


def assigns_the_input(stage: Stage) -> list[bytes]:
    def collect_incoming_data(self: Any, data: bytes) -> None:
        self._collect_incoming_data(data)
        if data == b"ab":
            self.ac_in_buffer = b"instead\n"

    channel, peer = stage.chat(collect_incoming_data=collect_incoming_data)
    peer.send(b"ab\ncd\n")
    stage.rounds()
    found: list[bytes] = channel.messages
    return found


def test_difference_14_input_that_a_callback_assigns_follows_as_it_is(ours: Stage) -> None:
    assert assigns_the_input(ours) == [b"ab", b"instead"]


def test_before_14_input_that_a_callback_assigned_was_cut(removed: Stage) -> None:
    assert assigns_the_input(removed) == [b"ab", b"tead"]


# -- 15. A new terminator judges held-back bytes at once ---------------------------------


def changes_what_is_searched_for(stage: Stage) -> list[bytes]:
    def collect_incoming_data(self: Any, data: bytes) -> None:
        self._collect_incoming_data(data)
        self.set_terminator(b"\r")

    channel, peer = stage.chat(collect_incoming_data=collect_incoming_data)
    channel.set_terminator(b"\r\n")
    peer.send(b"hello\r")
    stage.rounds()
    found: list[bytes] = channel.messages
    return found


def test_difference_15_a_terminator_that_a_callback_sets_is_looked_for_at_once(
    ours: Stage,
) -> None:
    assert changes_what_is_searched_for(ours) == [b"hello"]


def test_before_15_a_terminator_that_a_callback_set_was_looked_for_with_the_next_input(
    removed: Stage,
) -> None:
    assert changes_what_is_searched_for(removed) == []


# -- 16. set_terminator() takes more -----------------------------------------------------


def searches_for(stage: Stage, terminator: Any) -> list[bytes]:
    channel, peer = stage.chat()
    channel.set_terminator(terminator)
    peer.send(b"one;two\r\n")
    stage.rounds()
    found: list[bytes] = channel.messages
    return found


MORE_TERMINATORS = pytest.mark.parametrize(
    "terminator", [(b";", b"\r\n"), re.compile(rb"[;\n]|\r\n")], ids=["a tuple", "a regex"]
)


@MORE_TERMINATORS
def test_difference_16_tuples_and_regexes_are_terminators(ours: Stage, terminator: Any) -> None:
    assert searches_for(ours, terminator) == [b"one", b"two"]


@MORE_TERMINATORS
def test_before_16_tuples_and_regexes_closed_the_channel_when_input_came(
    removed: Stage, terminator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert searches_for(removed, terminator) == []
    assert "TypeError" in capsys.readouterr().out
    assert not removed.map


# -- 17. A producer that is falsy is still a producer ------------------------------------


class Pieces:
    """A producer."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def more(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


class FalsyPieces(Pieces):
    """A producer that says how much it holds ready: nothing."""

    def __len__(self) -> int:
        return 0


def what_is_sent(stage: Stage, push: Callable[[Any], object], **body: Any) -> bytes:
    channel, peer = stage.chat(**body)
    push(channel)
    channel.close_when_done()
    stage.rounds(10, 0.002)
    channel.close()
    return b"".join(iter(lambda: peer.recv(65536), b""))


def push_what_is_falsy(channel: Any) -> None:
    channel.push_with_producer(FalsyPieces(b"one ", b"two ", b"three"))


def test_difference_17_a_falsy_producer_is_asked_until_it_ends(ours: Stage) -> None:
    assert what_is_sent(ours, push_what_is_falsy) == b"one two three"


def test_before_17_a_falsy_producer_was_asked_once(removed: Stage) -> None:
    assert what_is_sent(removed, push_what_is_falsy) == b"one "


# -- 18. push() copies what can be changed -----------------------------------------------


def push_and_change(channel: Any) -> None:
    channel.connected = False  # as in handle_connect(): what is pushed waits
    plain, viewed = bytearray(b"one "), bytearray(b"two")
    channel.push(plain)
    channel.push(memoryview(viewed))
    plain[:], viewed[:] = b"ONE ", b"TWO"
    channel.connected = True


def test_difference_18_a_pushed_bytearray_may_be_changed(ours: Stage) -> None:
    assert what_is_sent(ours, push_and_change) == b"one two"


def test_before_18_a_pushed_bytearray_was_sent_as_it_became(removed: Stage) -> None:
    assert what_is_sent(removed, push_and_change) == b"ONE TWO"


# -- 19. Empty items are skipped ---------------------------------------------------------


def turns_that_an_empty_item_takes(stage: Stage) -> int:
    channel, peer = stage.chat()
    channel.connected = False
    channel.push(b"")
    channel.push(b"hello")
    channel.connected = True
    peer.setblocking(False)
    for turn in range(1, 5):
        channel.initiate_send()
        with suppress(BlockingIOError):
            assert peer.recv(100) == b"hello"
            return turn
    raise AssertionError("nothing was sent")


def test_difference_19_an_empty_item_takes_no_turn_to_send(ours: Stage) -> None:
    assert turns_that_an_empty_item_takes(ours) == 1


def test_before_19_an_empty_item_took_a_turn_to_send(removed: Stage) -> None:
    assert turns_that_an_empty_item_takes(removed) == 2


# -- 20. push_with_producer() takes more -------------------------------------------------


async def some() -> AsyncIterator[bytes]:
    for each in (b"one ", b"two"):
        yield each


def a_file(folder: Path) -> Any:
    path = folder / "file"
    path.write_bytes(b"one two")
    return path.open("rb")


MORE_PRODUCERS = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda folder: iter([b"one ", b"two"]), id="an iterator"),
        pytest.param(lambda folder: some(), id="an async iterator"),
        pytest.param(a_file, id="a file"),
    ],
)


@MORE_PRODUCERS
def test_difference_20_files_and_iterables_of_both_kinds_are_producers(
    ours: Stage, make: Callable[[Path], Any], tmp_path: Path
) -> None:
    producer = make(tmp_path)
    assert what_is_sent(ours, lambda channel: channel.push_with_producer(producer)) == b"one two"


@MORE_PRODUCERS
def test_before_20_only_what_had_a_method_more_was_a_producer(
    removed: Stage, make: Callable[[Path], Any], tmp_path: Path
) -> None:
    channel, _ = removed.chat()
    producer = make(tmp_path)
    with pytest.raises(AttributeError, match="more"):
        channel.push_with_producer(producer)
    if hasattr(producer, "close"):
        producer.close()


def test_difference_20_a_producer_of_twisteds_writes_to_the_channel(
    ours: Stage, tmp_path: Path
) -> None:
    channel, peer = ours.chat()
    assert IConsumer.providedBy(channel)
    done: list[Any] = []
    with a_file(tmp_path) as file:
        FileSender().beginFileTransfer(file, channel).addCallback(done.append)
        ours.until(lambda: done)
    assert peer.recv(100) == b"one two"


def test_before_20_a_producer_of_twisteds_had_nothing_to_write_to(removed: Stage) -> None:
    channel, _ = removed.chat()
    assert not IConsumer.providedBy(channel)
    assert not hasattr(channel, "registerProducer")


class Later:
    """A producer that has to wait for its data."""

    def __init__(self) -> None:
        self.wait: Deferred[bytes] = Deferred()

    def more(self) -> Deferred[bytes]:
        return self.wait


def test_difference_20_a_deferred_that_more_returns_is_waited_for(ours: Stage) -> None:
    channel, peer = ours.chat()
    producer = Later()
    channel.push_with_producer(producer)
    channel.push(b"two")
    ours.rounds(3)
    before, producer.wait = producer.wait, Deferred()
    before.callback(b"one ")
    producer.wait.callback(b"")
    ours.until(lambda: not channel.producer_fifo)
    assert peer.recv(100) == b"one two"


def test_before_20_a_deferred_that_more_returned_was_taken_for_data(removed: Stage) -> None:
    channel, _ = removed.chat()
    with pytest.raises(AttributeError, match="more"):
        channel.push_with_producer(Later())


# -- 21. push() from several threads at once is safe -------------------------------------


def push_one(channel: Any) -> None:
    channel.push(b"one ")


def pushes_from_another_thread(stage: Stage) -> bytes:
    first = [True]

    def send(self: Any, data: bytes) -> int:
        if first:
            first.clear()
            in_a_thread(lambda: self.push(b"two")).join(0.3)  # it gets as far as it can
        sent: int = stage.asyncore.dispatcher.send(self, data)
        return sent

    return what_is_sent(stage, push_one, send=send)


def test_difference_21_a_push_from_another_thread_waits_for_the_one_under_way(
    ours: Stage,
) -> None:
    assert pushes_from_another_thread(ours) == b"one two"


def test_before_21_a_push_from_another_thread_spoilt_the_one_under_way(removed: Stage) -> None:
    assert pushes_from_another_thread(removed) == b"one one "


def pushes_from_inside_send(stage: Stage) -> bytes:
    first = [True]

    def send(self: Any, data: bytes) -> int:
        if first:
            first.clear()
            self.push(b"two")
        sent: int = stage.asyncore.dispatcher.send(self, data)
        return sent

    return what_is_sent(stage, push_one, send=send)


def test_difference_21_a_push_from_inside_send_takes_its_place(ours: Stage) -> None:
    assert pushes_from_inside_send(ours) == b"one two"


def test_before_21_a_push_from_inside_send_spoilt_the_queue(removed: Stage) -> None:
    assert pushes_from_inside_send(removed) == b"one one "


class PushesItself(Pieces):
    """A producer that pushes when it is asked first."""

    def __init__(self, channel: Any) -> None:
        super().__init__(b"one ")
        self.channel = channel

    def more(self) -> bytes:
        data = super().more()
        if data:
            self.channel.push(b"two")
        return data


def push_what_pushes(channel: Any) -> None:
    channel.push_with_producer(PushesItself(channel))


def test_difference_21_a_push_from_inside_more_takes_its_place(ours: Stage) -> None:
    assert what_is_sent(ours, push_what_pushes) == b"one two"


def test_before_21_a_push_from_inside_more_went_first(removed: Stage) -> None:
    assert what_is_sent(removed, push_what_pushes) == b"twoone "


# -- 22. Methods of the socket can be called on the dispatcher ---------------------------


def test_difference_22_methods_of_the_socket_can_be_called_on_the_dispatcher(
    ours: Stage,
) -> None:
    channel, _ = ours.dispatcher()
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert channel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    with pytest.raises(AttributeError, match="no attribute 'family'"):
        _ = channel.family


def test_difference_22_what_is_mixed_in_has_precedence(ours: Stage) -> None:
    class Mixin:
        def shutdown(self) -> str:
            return "mine"

        def write(self) -> str:
            return "mine too"

    class Mixed(ours.asynchat.async_chat, Mixin):  # type: ignore[misc,name-defined]
        pass

    mixed: Any = Mixed
    assert (mixed().shutdown(), mixed().write()) == ("mine", "mine too")
    assert mixed.shutdown is Mixin.shutdown
    with pytest.raises(AttributeError, match="'Mixed' object has no attribute 'getpeername'"):
        _ = mixed().getpeername  # it has no socket
    assert not hasattr(mixed, "getpeername")


def test_before_22_methods_of_the_socket_were_not_there(removed: Stage) -> None:
    channel, _ = removed.dispatcher()
    with pytest.raises(AttributeError):
        _ = channel.getsockopt


# -- 23. What the documentation of Python 2.6 had is there -------------------------------


def test_difference_23_the_documented_names_of_python_2_are_there(ours: Stage) -> None:
    channel, peer = ours.chat()
    channel.connected = False
    channel.producer_fifo = ours.asynchat.fifo()
    channel.push_with_producer(ours.asynchat.simple_producer(b"hello"))
    channel.refill_buffer()
    assert channel.ac_out_buffer == b"hello"
    channel.connected = True
    ours.rounds()
    assert peer.recv(100) == b"hello"
    assert channel.ac_out_buffer == b""


def test_before_23_the_documented_names_of_python_2_had_gone(removed: Stage) -> None:
    channel, _ = removed.chat()
    assert not hasattr(removed.asynchat, "fifo")
    assert not hasattr(channel, "refill_buffer")
    assert not hasattr(channel, "ac_out_buffer")


# -- 24. A producer that drops the queue is dropped with it ------------------------------


def drops_the_queue(stage: Stage) -> bytes:
    channel, peer = stage.chat()

    class Dropping:
        def more(self) -> bytes:
            channel.discard_buffers()
            return b"late"

    with suppress(IndexError):
        channel.push_with_producer(Dropping())
    stage.rounds(3)
    peer.setblocking(False)
    try:
        return peer.recv(100)
    except BlockingIOError:
        return b""


def test_difference_24_what_a_producer_gives_that_drops_the_queue_is_dropped(ours: Stage) -> None:
    assert drops_the_queue(ours) == b""


def test_before_24_what_a_producer_gave_that_dropped_the_queue_was_sent(removed: Stage) -> None:
    assert drops_the_queue(removed) == b"late"


# -- 25. What can't be input is refused when it is assigned to ac_in_buffer --------------


def test_difference_25_text_can_not_be_assigned_to_ac_in_buffer_but_empty_text_clears_it(
    ours: Stage,
) -> None:
    channel, _ = ours.chat()
    with pytest.raises(TypeError, match="ac_in_buffer is str"):
        channel.ac_in_buffer = "text"
    channel.ac_in_buffer = ""
    assert channel.ac_in_buffer == b""


def test_before_25_text_in_ac_in_buffer_broke_the_next_read(removed: Stage) -> None:
    errors: list[object] = []
    channel, peer = removed.chat(handle_error=lambda self: errors.append(sys.exc_info()[0]))
    channel.ac_in_buffer = ""
    peer.send(b"data")
    removed.rounds()
    assert errors == [TypeError]


# -- 26. A channel that is ready over and over without getting on is named ----------------


def spin(stage: Stage) -> list[str]:
    """Have a channel be writable for nothing; what the log says of it."""
    said: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "txasynchat.legacy.spinning":
            said.append(event["handler"])

    globalLogPublisher.addObserver(observe)
    try:
        channel, _ = stage.dispatcher(writable=lambda self: True, handle_write=ignore)
        stage.rounds(15000)
        assert channel.socket.fileno() in stage.map, "it is served as before"
    finally:
        globalLogPublisher.removeObserver(observe)
    return said


def test_difference_26_a_channel_that_does_not_get_on_is_named_once(ours: Stage) -> None:
    (name,) = spin(ours)
    assert name.endswith("Handler")


def test_before_26_a_channel_that_did_not_get_on_was_not_named(removed: Stage) -> None:
    assert spin(removed) == []


# -- 27. What is assigned to asyncore.select is not called --------------------------------


def calls_of_a_select_of_its_own(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often poll() calls what a program has put in the place of the module select."""
    calls: list[object] = []

    class Own:
        error = OSError

        def select(self, *arguments: Any) -> Any:
            calls.append(arguments)
            return [], [], []

    stage.chat()
    monkeypatch.setattr(stage.asyncore, "select", Own())
    stage.asyncore.poll(0, stage.map)
    return len(calls)


def test_difference_27_a_select_of_its_own_is_not_called(
    ours: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calls_of_a_select_of_its_own(ours, monkeypatch) == 0


def test_before_27_a_select_of_its_own_was_called(
    removed: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calls_of_a_select_of_its_own(removed, monkeypatch) == 1


# -- 28. A socket that takes all is given up to eight items at once ------------------------


def senders(stage: Stage) -> str:
    """Who sends, of two that have ten items each, in a loop without a count."""
    names = []

    class Producer:
        def __init__(self, name: str) -> None:
            self.left = [name] * 10

        def more(self) -> bytes:
            if not self.left:
                return b""
            names.append(self.left.pop())
            return b"an item"

    for name in "AB":
        channel, _ = stage.chat()
        channel.producer_fifo.append(Producer(name))
        channel.close_when_done()
    # Not in this thread, where the reactor of the tests runs.
    thread = threading.Thread(target=stage.asyncore.loop, kwargs={"map": stage.map})
    thread.start()
    thread.join(TIMEOUT)
    return "".join(names)


def test_difference_28_up_to_eight_items_are_sent_before_others_have_their_turn(
    ours: Stage,
) -> None:
    assert senders(ours) == "A" * 8 + "B" * 8 + "AABB"


def test_before_28_one_item_was_sent_before_others_had_their_turn(removed: Stage) -> None:
    assert senders(removed) == "AB" * 10


# -- The page ----------------------------------------------------------------------------


def numbers_of_tests(kind: str) -> list[int]:
    found = (re.match(rf"test_{kind}_(\d\d)_", name) for name in globals())
    return sorted({int(match[1]) for match in found if match})


def test_each_number_of_the_page_has_its_tests() -> None:
    numbers = [int(each) for each in re.findall(r"^(\d+)\. ", PAGE.read_text(), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers_of_tests("difference") == numbers
    assert numbers_of_tests("before") == numbers
