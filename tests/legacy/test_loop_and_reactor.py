"""The loop of the drop-in and Twisted's reactor, in all the ways they can meet.

The reactor of the test process is pytest's, so each test is a program of its own: it prints what
it has seen. PRELUDE stands before each; ``name`` is the reactor it installs, or "none".
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import bare_environment

TIMEOUT = 12

REACTORS = [
    pytest.param(
        "epoll",
        marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="epoll is Linux's"),
    ),
    "poll",
    "select",
    "asyncio",
]
on_each_reactor = pytest.mark.parametrize("reactor", REACTORS)
with_and_without_reactor = pytest.mark.parametrize("reactor", ["none", *REACTORS])

PRELUDE = """
import importlib, os, signal, socket, sys, threading, time
name, kind = sys.argv[1], sys.argv[2]
if name != "none":
    importlib.import_module(f"twisted.internet.{name}reactor").install()
    from twisted.internet import reactor
from txasynchat import asynchat, asyncore
from txasynchat.legacy import channels, readiness
if kind == "poll":
    channels.new_set = readiness.PollSet

class Reader(asyncore.dispatcher):
    def writable(self):
        return False
    def handle_read(self):
        data = self.recv(1)
        if data:
            print("read", data.decode(), flush=True)
    def handle_close(self):
        self.close()

def once(event, *calls):
    def run():
        event.wait()
        for call in calls:
            call()
    threading.Thread(target=run, daemon=True).start()

waits = threading.Event()
make_set = channels.new_set
def new_set():
    made = make_set()
    wait = made.wait
    def told(timeout):
        waits.set()
        return wait(timeout)
    made.wait = told
    return made
channels.new_set = new_set

ours, peer = socket.socketpair()
channel = Reader(ours)
started = time.monotonic()
def lasted():
    return time.monotonic() - started
"""


def run(program: str, reactor: str = "none", kind: str = "epoll", status: int = 0) -> list[str]:
    """What the program prints; it ends as it is to, and in time."""
    environment = bare_environment()
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, reactor, kind],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout.splitlines()


# -- How Twisted and the loop end each other --------------------------------------------


@on_each_reactor
def test_the_reactor_can_be_run_after_the_loop(reactor: str) -> None:
    program = """
asyncore.loop(timeout=0.05, count=2)
reactor.callLater(0.5, reactor.stop)
started = time.monotonic()
reactor.run()
print(lasted() >= 0.5, reactor.running)
"""
    assert run(program, reactor) == ["True False"]


@on_each_reactor
def test_the_loop_goes_on_after_the_reactor_was_stopped_in_it(reactor: str) -> None:
    program = """
stopped = threading.Event()
reactor.addSystemEventTrigger("after", "shutdown", stopped.set)
reactor.callLater(0.1, reactor.stop)
once(stopped, lambda: peer.send(b"1"), peer.close)
asyncore.loop(timeout=5)
print(lasted() < 3)
"""
    assert run(program, reactor) == ["read 1", "True"]


@on_each_reactor
def test_the_loop_goes_on_after_the_reactor_has_run(reactor: str) -> None:
    program = """
def sets():
    entries = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum("eventpoll" in os.readlink(entry) for entry in entries if os.path.islink(entry))
before = sets()
reactor.callLater(0.1, reactor.stop)
reactor.run()
peer.send(b"1")
peer.close()
asyncore.loop(timeout=5)
print(sets() - before)
"""
    assert run(program, reactor) == ["read 1", "0"]


def test_an_asyncio_loop_can_be_used_after_the_loop() -> None:
    program = """
import asyncio
async def answer():
    await asyncio.sleep(0.2)
    return 42
asyncore.loop(timeout=0.05, count=1)
print(reactor._asyncioEventloop.run_until_complete(answer()))
"""
    assert run(program, "asyncio") == ["42"]


@on_each_reactor
def test_the_interpreter_exits_although_twisted_used_threads(reactor: str) -> None:
    program = """
from twisted.internet.threads import deferToThread
deferToThread(lambda: "thread").addCallback(print).addCallback(lambda _: peer.close())
asyncore.loop(timeout=5)
print("returned")
"""
    assert run(program, reactor) == ["thread", "returned"]


@on_each_reactor
def test_timers_go_on_while_another_thread_loops_over_the_same_map(reactor: str) -> None:
    program = """
from twisted.internet.task import LoopingCall
ticks = []
def tick():
    ticks.append(1)
    if len(ticks) in (10, 15):
        peer.send(b"1")
    elif len(ticks) == 25:
        peer.close()
LoopingCall(tick).start(0.05)
threading.Thread(target=asyncore.loop, args=(30,), daemon=True).start()
asyncore.loop(timeout=30)
print(len(ticks) >= 25 and lasted() < 10)
"""
    assert run(program, reactor)[-1] == "True"


def test_a_map_whose_descriptor_is_beyond_what_select_takes_is_served() -> None:
    program = """
keep = [socket.socket() for _ in range(1100)]
once(waits, lambda: peer.send(b"1"), peer.close)
asyncore.loop(timeout=5)
print(lasted() < 3)
"""
    assert run(program, "select") == ["read 1", "True"]


@on_each_reactor
def test_the_end_of_a_wait_is_waited_for_too(reactor: str) -> None:
    # The poll reactor does not count less than a millisecond.
    program = """
asked = []
channel.readable = lambda: not asked.append(1)
asyncore.loop(timeout=0.02, count=5)
print(len(asked) < 100, lasted() >= 0.1)
"""
    assert run(program, reactor) == ["True True"]


# -- Signals ------------------------------------------------------------------------------


@with_and_without_reactor
@pytest.mark.parametrize("kind", ["epoll", "poll"])
def test_sigint_is_a_keyboard_interrupt_out_of_the_loop(reactor: str, kind: str) -> None:
    program = """
# A timer: that the system has begun to wait, nothing tells.
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    asyncore.loop(timeout=5)
except KeyboardInterrupt:
    print("interrupted", lasted() < 3)
peer.send(b"1")
peer.close()
asyncore.loop(timeout=5)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.set_wakeup_fd(-1))
"""
    assert run(program, reactor, kind) == ["interrupted True", "read 1", "True -1"]


@on_each_reactor
def test_sigint_comes_out_of_the_loop_while_twisted_is_at_work(reactor: str) -> None:
    program = """
reactor.callLater(0.1, lambda: signal.raise_signal(signal.SIGINT))
reactor.callLater(2, peer.close)
try:
    asyncore.loop(timeout=5)
except KeyboardInterrupt:
    print("interrupted", lasted() < 1.5)
"""
    assert run(program, reactor) == ["interrupted True"]


@on_each_reactor
def test_a_signal_handler_that_exits_does_so_while_twisted_is_at_work(reactor: str) -> None:
    program = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
reactor.callLater(0.1, lambda: signal.raise_signal(signal.SIGTERM))
reactor.callLater(2, peer.close)
asyncore.loop(timeout=5)
"""
    assert run(program, reactor, status=7) == []


# -- Forks --------------------------------------------------------------------------------


@with_and_without_reactor
@pytest.mark.filterwarnings("ignore")
def test_a_child_forked_in_a_predicate_goes_on_with_what_it_inherited(reactor: str) -> None:
    program = """
class Forks(Reader):
    child = None
    def readable(self):
        if self.child is None:
            self.child = os.fork()
            if self.child:
                os.waitpid(self.child, 0)
        return True
channel.close()
ours, peer = socket.socketpair()
forks = Forks(ours)
peer.send(b"12")
asyncore.loop(timeout=0.2, count=1)
print("parent" if forks.child else "child", flush=True)
"""
    assert run(program, reactor) == ["read 1", "child", "read 2", "parent"]


@with_and_without_reactor
def test_a_child_forked_in_a_signal_handler_goes_on_with_what_it_inherited(reactor: str) -> None:
    program = """
child = None
def fork(*_):
    global child
    child = os.fork()
    if child:
        os.waitpid(child, 0)
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.1)
asyncore.loop(timeout=0.3, count=1)
if not child:
    peer.send(b"12")
    asyncore.loop(timeout=0.3, count=1)
    print("child", flush=True)
else:
    asyncore.loop(timeout=0.3, count=1)
    print("parent")
"""
    assert run(program, reactor) == ["read 1", "child", "read 2", "parent"]


# -- Served by the running reactor ----------------------------------------------------------


@on_each_reactor
def test_a_thread_that_polls_beside_the_reactor_leaves_no_timers_in_it(reactor: str) -> None:
    program = """
stopped = threading.Event()
def polls():
    while not stopped.is_set():
        asyncore.poll(0)
        stopped.wait(0.001)
thread = threading.Thread(target=polls)
reactor.callWhenRunning(thread.start)
def end():
    print(len(reactor.getDelayedCalls()) < 5)
    stopped.set()
    reactor.stop()
reactor.callLater(1, end)
reactor.run()
thread.join()
"""
    assert run(program, reactor) == ["True"]


@on_each_reactor
@pytest.mark.parametrize("where", ["predicate", "handle_error"])
def test_a_channel_that_raises_does_not_keep_the_reactor_from_others(
    reactor: str, where: str
) -> None:
    program = """
class Bad(asyncore.dispatcher):
    def handle_read(self):
        raise ValueError("bad")
    def handle_error(self):
        raise
if sys.argv[3] == "predicate":
    Bad.readable = Bad.handle_read
channel.close()
bad_socket, bad_peer = socket.socketpair()
bad = Bad(bad_socket)
bad_peer.send(b"x")
ours, peer = socket.socketpair()
channel = Reader(ours)
peer.send(b"1")
reactor.callLater(0.5, reactor.stop)
reactor.run()
"""
    program = f"sys.argv.append({where!r})\n" + program
    assert run(program, reactor) == ["read 1"]


@on_each_reactor
@pytest.mark.parametrize("kind", ["epoll", "poll"])
def test_what_another_thread_pushes_goes_out_at_once(reactor: str, kind: str) -> None:
    program = """
class Chat(asynchat.async_chat):
    pass
channel.close()
ours, peer = socket.socketpair()
peer.settimeout(5)
chat = Chat(ours)
slowest = [0]
def pushes():
    for _ in range(5):
        idle = threading.Event()
        reactor.callFromThread(idle.set)
        idle.wait()
        began = time.monotonic()
        chat.push(b"y" * 3000000)
        received = 0
        while received < 3000000:
            received += len(peer.recv(1 << 20))
        slowest.append(time.monotonic() - began)
    reactor.callFromThread(reactor.stop)
thread = threading.Thread(target=pushes, daemon=True)
reactor.callWhenRunning(thread.start)
reactor.run()
print(max(slowest))
"""
    [slowest] = run(program, reactor, kind)
    print(f"3 MB from another thread took {slowest} s")
    assert float(slowest) < 0.1


@pytest.mark.parametrize(
    ("reactor", "kind"),
    # A PollSet is for systems without epoll. The epoll reactor itself keeps what is
    # closed behind its back.
    [
        *((each, "epoll") for each in ("epoll", "poll", "select", "asyncio")),
        *((each, "poll") for each in ("poll", "select")),
    ],
)
def test_a_descriptor_closed_behind_the_back_does_not_disturb_the_reactor(
    reactor: str, kind: str
) -> None:
    program = """
logged = []
from twisted.logger import globalLogPublisher
def observe(event):
    if event["log_level"].name in ("error", "critical"):
        print(event["log_failure"])
globalLogPublisher.addObserver(observe)
def close_behind_the_back():
    global ours, peer, heir
    number = ours.fileno()
    del asyncore.socket_map[number]
    ours.close()
    peer.close()
    ours, peer = socket.socketpair()
    print(ours.fileno() == number)
    heir = Reader(ours)
    peer.send(b"12")
reactor.callLater(0.1, close_behind_the_back)
reactor.callLater(0.6, reactor.stop)
reactor.run()
"""
    assert run(program, reactor, kind) == ["True", "read 1", "read 2"]
