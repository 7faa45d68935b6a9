"""The loop of the drop-in, without a reactor: rounds, maps, predicates, threads.

Each test runs over both kinds of sets: epoll's, and the one for systems without. A loop that
could go on for ever runs in a thread, which a test waits for but not for ever.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic, process_time
from typing import Any

import pytest

from txasynchat import asynchat, asyncore
from txasynchat.legacy import channels, readiness

TIMEOUT = 10
SMALL, LARGE = 3, 300


@pytest.fixture(
    autouse=True,
    params=[
        pytest.param(
            readiness.EpollSet,
            marks=pytest.mark.skipif(
                not sys.platform.startswith("linux"), reason="epoll is Linux's"
            ),
        ),
        readiness.PollSet,
    ],
    ids=["epoll", "poll"],
)
def kind_of_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the maps are watched with."""
    monkeypatch.setattr(channels, "new_set", request.param)


@pytest.fixture(autouse=True)
def no_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reactor is loaded, whatever other tests did: pytest's would serve the maps."""
    monkeypatch.delitem(sys.modules, "twisted.internet.reactor", raising=False)


class Reader(asyncore.dispatcher):
    """Reads what comes, a byte at a time if told so, and keeps it."""

    size = 65536

    def __init__(self, sock: Any = None, map: dict[int, Any] | None = None) -> None:
        super().__init__(sock, map)
        self.received: list[bytes] = []
        self.errors: list[BaseException] = []

    def writable(self) -> bool:
        return False

    def handle_read(self) -> None:
        data = self.recv(self.size)
        if data:
            self.received.append(data)

    def handle_error(self) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        self.errors.append(error)

    def handle_close(self) -> None:
        self.close()


class Stage:
    """A map, and the peers of the channels in it."""

    def __init__(self) -> None:
        self.map: dict[int, Any] = {}
        self.threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.settimeout(TIMEOUT)
        self._open += [ours, theirs]
        return ours, theirs

    def channel(self, kind: Callable[..., Any] = Reader) -> tuple[Any, socket.socket]:
        """A channel of that kind, and its peer."""
        ours, theirs = self.pair()
        return kind(ours, self.map), theirs

    def crowd(self, number: int) -> None:
        """Idle channels, which need no asking."""
        for _ in range(number):
            self.channel(asynchat.async_chat)

    def rounds(self, count: int = 1, timeout: float = 0.0, **options: Any) -> None:
        asyncore.loop(timeout=timeout, map=self.map, count=count, **options)

    def loop(self, timeout: float = 30.0, **options: Any) -> threading.Thread:
        """A loop in a thread."""
        options = {"timeout": timeout, "map": self.map, **options}
        return self.thread(lambda: asyncore.loop(**options))

    def thread(self, what: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=what, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def end(self) -> None:
        asyncore.close_all(self.map, ignore_all=True)
        for each in self._open:
            each.close()
        for thread in self.threads:
            thread.join(TIMEOUT)
        assert not any(thread.is_alive() for thread in self.threads)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.end()


def until(condition: Callable[[], object], seconds: float = TIMEOUT) -> bool:
    """Wait for what another thread does; whether it did."""
    deadline = monotonic() + seconds
    never = threading.Event()
    while not condition() and monotonic() < deadline:
        never.wait(0.002)
    return bool(condition())


def receive(peer: socket.socket, size: int) -> int:
    """How many of so many bytes come before the peer loses patience."""
    received = 0
    try:
        while received < size:
            received += len(peer.recv(1 << 20))
    except TimeoutError:
        pass
    return received


# -- How long a loop lasts -------------------------------------------------------------


def test_five_rounds_of_idle_channels_last_as_long_as_five_timeouts(stage: Stage) -> None:
    stage.channel()
    started = monotonic()
    stage.rounds(5, 0.1)
    assert 0.5 <= monotonic() - started < 1.5


def test_a_round_ends_with_the_first_event(stage: Stage) -> None:
    channel, peer = stage.channel()
    peer.send(b"x")
    started = monotonic()
    stage.rounds(1, TIMEOUT)
    assert channel.received == [b"x"] and monotonic() - started < 1


def test_a_timeout_of_none_waits_for_any_time(stage: Stage) -> None:
    channel, peer = stage.channel()
    thread = stage.loop(None, count=1)  # type: ignore[arg-type]
    peer.send(b"x")
    thread.join(TIMEOUT)
    assert channel.received == [b"x"]


def test_a_timeout_may_be_longer_than_a_month(stage: Stage) -> None:
    channel, peer = stage.channel()
    peer.send(b"x")
    stage.rounds(1, 1e7)
    assert channel.received == [b"x"]


def test_it_returns_when_the_last_channel_closes_in_a_handler(stage: Stage) -> None:
    _, peer = stage.channel()
    thread = stage.loop()
    peer.close()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_it_returns_when_another_thread_closes_the_last_channel(stage: Stage) -> None:
    channel, _ = stage.channel()
    thread = stage.loop()
    assert not until(lambda: not thread.is_alive(), 0.1)
    channel.close()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_an_empty_map_is_not_the_default_one(stage: Stage) -> None:
    before = asyncore.socket_map
    channel, peer = stage.channel()
    peer.send(b"x")
    asyncore.socket_map = stage.map
    try:
        asyncore.loop(timeout=0, map={}, count=1)
        asyncore.poll(0, {})
        asyncore.poll2(0, {})
        assert channel.received == []
        asyncore.loop(timeout=0, count=1)
    finally:
        asyncore.socket_map = before
    assert channel.received == [b"x"]


# -- Predicates and what changes behind the loop's back --------------------------------


class Asked(Reader):
    size = 1

    def __init__(self, *args: Any) -> None:
        self.asked: list[str] = []
        super().__init__(*args)

    def readable(self) -> bool:
        self.asked.append("readable")
        return True

    def writable(self) -> bool:
        self.asked.append("writable")
        return False


@pytest.mark.parametrize("others", [SMALL, LARGE])
def test_overridden_predicates_are_asked_once_in_each_round(stage: Stage, others: int) -> None:
    stage.crowd(others)
    channel, peer = stage.channel(Asked)
    peer.send(b"x" * 50)
    stage.rounds(10)
    assert channel.received == [b"x"] * 10
    assert channel.asked == ["readable", "writable"] * 10


@pytest.mark.parametrize("others", [SMALL, LARGE])
def test_what_another_thread_appends_to_producer_fifo_is_sent_in_the_next_round(
    stage: Stage, others: int
) -> None:
    stage.crowd(others)
    channel, peer = stage.channel(asynchat.async_chat)
    stage.loop(0.05)
    assert not until(lambda: False, 0.3)
    channel.producer_fifo.append(b"hello")
    assert peer.recv(10) == b"hello"


@pytest.mark.parametrize("others", [SMALL, LARGE])
def test_what_a_callback_appends_to_producer_fifo_is_sent_in_the_next_round(
    stage: Stage, others: int
) -> None:
    class Appends(asynchat.async_chat):
        def handle_read(self) -> None:
            self.producer_fifo.append(self.recv(10))

    stage.crowd(others)
    _, peer = stage.channel(Appends)
    stage.loop()
    for _ in range(3):
        peer.send(b"hello")
        assert peer.recv(10) == b"hello"


@pytest.mark.parametrize("others", [SMALL, LARGE])
def test_a_predicate_put_on_an_object_is_asked_from_then(stage: Stage, others: int) -> None:
    class Silent(asynchat.async_chat):
        def handle_read(self) -> None:
            self.recv(10)

        def handle_write(self) -> None:
            told.set()

    told = threading.Event()
    stage.crowd(others)
    channel, peer = stage.channel(Silent)
    stage.loop()
    assert not until(lambda: False, 0.1)
    channel.writable = lambda: not told.is_set()
    peer.send(b"x")
    assert told.wait(TIMEOUT)


def test_interest_that_changes_while_it_is_asked_for_is_not_forgotten(stage: Stage) -> None:
    class Queue(deque[Any]):
        meanwhile: Callable[[], object] | None = None

        def __bool__(self) -> bool:
            found = len(self) > 0
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()
            return found

    class Silent(asynchat.async_chat):
        def handle_read(self) -> None:
            self.recv(10)

    def push_in_another_thread() -> None:
        thread = threading.Thread(target=channel.push, args=(b"y" * 3_000_000,))
        thread.start()
        thread.join(0.3)  # it may have to wait until the loop has asked

    channel, peer = stage.channel(Silent)
    channel.producer_fifo = queue = Queue()
    stage.loop()
    assert not until(lambda: False, 0.1)
    queue.meanwhile = push_in_another_thread
    peer.settimeout(3)
    peer.send(b"x")  # the loop asks what the channel waits for
    assert receive(peer, 3_000_000) == 3_000_000


def test_an_object_that_opens_its_descriptor_again_is_served(stage: Stage) -> None:
    class Pipe:
        accepting = False

        def __init__(self) -> None:
            self.received: list[bytes] = []
            self.open()

        def open(self) -> None:
            self.fd, self.other = os.pipe()
            stage.map[self.fd] = self

        def close(self) -> None:
            del stage.map[self.fd]
            os.close(self.fd)
            os.close(self.other)

        def readable(self) -> bool:
            return True

        def writable(self) -> bool:
            return False

        def handle_read_event(self) -> None:
            self.received.append(os.read(self.fd, 1))
            number = self.fd
            self.close()
            self.open()
            assert self.fd == number

        def handle_error(self) -> None:
            raise

    pipe = Pipe()
    for data in b"1", b"2", b"3":
        os.write(pipe.other, data)
        stage.rounds(1, 1)
    pipe.close()
    assert pipe.received == [b"1", b"2", b"3"]


def test_a_descriptor_closed_behind_the_back_but_open_elsewhere_does_not_spin(
    stage: Stage,
) -> None:
    stage.channel()
    channel, peer = stage.channel()
    stage.rounds()
    duplicate = channel.socket.dup()  # as a child has that was forked
    del stage.map[channel._fileno]
    channel.socket.close()
    peer.send(b"x")
    started, cpu = monotonic(), process_time()
    stage.rounds(2, 0.25)
    duplicate.close()
    assert monotonic() - started >= 0.5
    assert process_time() - cpu < 0.2


def test_its_events_do_not_reach_who_inherits_the_number(stage: Stage) -> None:
    channel, peer = stage.channel()
    stage.rounds()
    ours, _ = stage.pair()
    number = channel._fileno
    duplicate = channel.socket.dup()
    del stage.map[number]
    channel.socket.close()
    os.dup2(ours.fileno(), number)
    heir = Reader(socket.socket(fileno=number), stage.map)
    peer.send(b"x")
    stage.rounds(3, 0.05)
    duplicate.close()
    assert heir.errors == []


# -- Rounds within rounds --------------------------------------------------------------


def test_what_an_inner_loop_wrote_is_not_told_by_the_outer(stage: Stage) -> None:
    class Inner(Reader):
        def handle_read(self) -> None:
            super().handle_read()
            stage.rounds()

    class Writer(Reader):
        written = 0

        def readable(self) -> bool:
            return False

        def writable(self) -> bool:
            return not self.written

        def handle_write(self) -> None:
            self.written += 1

    _, peer = stage.channel(Inner)
    writer, _ = stage.channel(Writer)
    peer.send(b"x")
    stage.rounds()
    assert writer.written == 1


@pytest.mark.parametrize("others", [SMALL, LARGE])
def test_a_handler_can_wait_until_its_output_has_gone(stage: Stage, others: int) -> None:
    class Sends(asynchat.async_chat):
        def handle_read(self) -> None:
            self.recv(10)
            self.push(b"y" * 3_000_000)
            deadline = monotonic() + TIMEOUT
            while self.producer_fifo and monotonic() < deadline:
                asyncore.loop(0.5, map=stage.map, count=1)
            left.append(len(self.producer_fifo))

    left: list[int] = []
    stage.crowd(others)
    _, peer = stage.channel(Sends)
    peer.send(b"x")
    reader = stage.thread(lambda: receive(peer, 3_000_000))
    stage.rounds()
    reader.join(TIMEOUT)
    assert left == [0]


def test_a_handler_can_wait_for_its_own_channel_while_another_thread_loops(stage: Stage) -> None:
    class Asks(Reader):
        size = 1
        waited = False

        def handle_read(self) -> None:
            super().handle_read()
            if not self.waited:
                self.waited = True
                asked.set()
                deadline = monotonic() + 3
                while len(self.received) < 2 and monotonic() < deadline:
                    asyncore.poll(0.05, stage.map)
                answers.append(len(self.received))

    asked = threading.Event()
    answers: list[int] = []
    _, peer = stage.channel(Asks)
    _, other = stage.channel()
    stage.loop(0.05)
    stage.loop(0.05)
    peer.send(b"1")
    assert asked.wait(TIMEOUT)
    other.send(b"x")
    assert not until(lambda: False, 0.2)  # the other thread is in its wait again
    peer.send(b"2")
    assert until(lambda: answers)
    assert answers == [2]


# -- Several threads in one map --------------------------------------------------------


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that interrupt each other all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("threads", [2, 4])
def test_each_event_is_told_once_and_to_one_thread(stage: Stage, threads: int) -> None:
    class Counts(Reader):
        size = 1
        busy = False

        def handle_read(self) -> None:
            if self.busy:
                self.errors.append(RuntimeError("two threads at once"))
            self.busy = True
            super().handle_read()
            self.busy = False

    pairs = [stage.channel(Counts) for _ in range(20)]
    for _ in range(threads):
        stage.loop(5)
    for _ in range(100):
        for _, peer in pairs:
            peer.send(b"x")
    for _, peer in pairs:
        peer.close()
    emptied = until(lambda: not stage.map, 5)
    errors = [error for channel, _ in pairs for error in channel.errors]
    assert errors == []
    assert [len(channel.received) for channel, _ in pairs] == [100] * 20
    assert emptied


def test_what_another_thread_tells_and_leaves_is_not_told_again(stage: Stage) -> None:
    class Waits(Reader):
        events: tuple[threading.Event, threading.Event]

        def handle_read(self) -> None:
            super().handle_read()
            in_it, go_on = self.events
            in_it.set()
            go_on.wait(TIMEOUT)

    first, first_peer = stage.channel(Waits)
    second, second_peer = stage.channel(Waits)
    last, last_peer = stage.channel()
    first.events = threading.Event(), threading.Event()
    second.events = threading.Event(), threading.Event()
    first_peer.send(b"1")
    last_peer.send(b"x")
    # The first thread finds two, and stays in the first of them. Another finds the last one too,
    # and stays in one before that, while the first thread tells the last one and is gone.
    one = stage.loop(5, count=1)
    assert first.events[0].wait(TIMEOUT)
    second_peer.send(b"2")
    two = stage.loop(5, count=1)
    assert second.events[0].wait(TIMEOUT)
    first.events[1].set()
    one.join(TIMEOUT)
    second.events[1].set()
    two.join(TIMEOUT)
    assert last.received == [b"x"]
    assert last.errors == []


@pytest.mark.parametrize("others", [SMALL, LARGE])
def test_what_a_callback_could_not_send_goes_out_while_another_thread_waits(
    stage: Stage, others: int
) -> None:
    class Sends(asynchat.async_chat):
        def handle_read(self) -> None:
            self.recv(10)
            assert not until(lambda: False, 0.2)  # the other thread is in its wait by then
            self.push(b"y" * 3_000_000)

    stage.crowd(others)
    _, peer = stage.channel(Sends)
    stage.loop()
    stage.loop()
    peer.send(b"x")
    assert receive(peer, 3_000_000) == 3_000_000


@pytest.mark.parametrize("others", [SMALL, LARGE])
@pytest.mark.parametrize("loud", [False, True])
def test_what_a_callback_appends_goes_out_while_another_thread_waits(
    stage: Stage, others: int, loud: bool
) -> None:
    class Appends(asynchat.async_chat):
        def handle_read(self) -> None:
            data = self.recv(10)
            assert not until(lambda: False, 0.2)  # the other thread is in its wait by then
            self.producer_fifo.append(data)

    class Loud(Appends):
        def writable(self) -> bool:
            return super().writable()

    stage.crowd(others)
    _, peer = stage.channel(Loud if loud else Appends)
    stage.loop()
    stage.loop()
    peer.send(b"hello")
    assert peer.recv(10) == b"hello"


def test_a_listener_that_says_it_is_connected_is_served(stage: Stage) -> None:
    class Listener(Reader):
        readable, writable = asyncore.dispatcher.readable, asyncore.dispatcher.writable

        def handle_accepted(self, sock: Any, addr: Any) -> None:
            sock.close()
            self.received.append(b"accepted")

    listener = Listener(None, stage.map)
    listener.create_socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    stage.rounds()
    listener.connected = True
    with socket.create_connection(listener.socket.getsockname(), TIMEOUT):  # type: ignore[union-attr]
        stage.rounds(50)
    assert listener.received == [b"accepted"]
    assert listener.errors == []


def test_a_file_that_another_thread_has_in_hand_keeps_no_processor_busy(
    stage: Stage, tmp_path: Any
) -> None:
    class File(asyncore.file_dispatcher):
        def writable(self) -> bool:
            return False

        def handle_read(self) -> None:
            taken.set()
            done.wait(TIMEOUT)
            self.close()

    taken, done = threading.Event(), threading.Event()
    stage.channel()
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with path.open("rb") as file:
        File(file, stage.map)
    stage.loop(0.5, count=1)
    assert taken.wait(TIMEOUT)
    cpu = process_time()
    stage.loop(0.5, count=1).join(TIMEOUT)
    used = process_time() - cpu
    done.set()
    assert used < 0.25


# -- What is kept ----------------------------------------------------------------------


def test_a_closed_channel_is_not_kept_by_its_map(stage: Stage) -> None:
    stage.channel()  # keeps the map in use, though nobody loops
    references = []
    for _ in range(10):
        channel, _ = stage.channel(asynchat.async_chat)
        references.append(weakref.ref(channel))
        channel.close()
        del channel
    assert [each() for each in references] == [None] * 10


def test_a_channel_that_a_loop_closed_is_not_kept(stage: Stage) -> None:
    channel, peer = stage.channel()
    reference = weakref.ref(channel)
    del channel
    peer.close()
    stage.loop().join(TIMEOUT)
    assert reference() is None
