"""Many messages, many threads, many connections: slow tests, each in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any

import pytest

CHAT = """
import json, os, resource, select, socket, sys, threading, time
from txasynchat import asynchat, asyncore

COUNT = int(sys.argv[1])


class Line(asynchat.async_chat):
    def __init__(self, sock, map):
        asynchat.async_chat.__init__(self, sock, map)
        self.set_terminator(b"\\n")
        self.line = []

    def collect_incoming_data(self, data):
        self.line.append(data)

    def found_terminator(self):
        line = b"".join(self.line)
        self.line = []
        self.received(line)
"""

THREE_MAPS = (
    CHAT
    + """
from twisted.internet import reactor

wrong, results, rings = [], {}, []


class Counter(Line):
    # Answers each number with the next one, until COUNT; its peer does the same.
    def received(self, line):
        if threading.current_thread().name != self.thread:
            wrong.append(self.thread)
        number = int(line)
        if number != self.expected:
            wrong.append(line)
        self.expected += 2
        if number >= COUNT:
            self.push(b"%d\\n" % (number + 1))
            self.close_when_done()
            results[self.thread] = number
        else:
            self.push(b"%d\\n" % (number + 1))

    def handle_close(self):
        self.close()


def ring(thread, map):
    pair = [Counter(sock, map) for sock in socket.socketpair()]
    for each, expected in zip(pair, (1, 0)):
        each.thread, each.expected = thread, expected
    pair[0].push(b"0\\n")
    rings.append(pair)


maps = {name: {} for name in ("MainThread", "one", "two")}
for name, map in maps.items():
    ring(name, map)
threads = [
    threading.Thread(target=asyncore.loop, kwargs={"map": maps[name], "timeout": 30}, name=name)
    for name in ("one", "two")
]
for each in threads:
    each.start()


def look():
    if any(maps.values()):
        reactor.callLater(0.05, look)
    else:
        reactor.stop()


reactor.callWhenRunning(look)
reactor.run()
for each in threads:
    each.join()
print(json.dumps({"wrong": wrong[:5], "results": results}))
"""
)

CONNECTS = (
    CHAT
    + """
if len(sys.argv) > 2:
    from twisted.internet import reactor


class Server(asyncore.dispatcher):
    def __init__(self):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(("127.0.0.1", 0))
        self.listen(100)

    def handle_accepted(self, sock, addr):
        Once(sock, None)


class Once(Line):
    def received(self, line):
        self.push(line + b"\\n")
        self.close_when_done()


def state():
    readers = 0
    if "twisted.internet.reactor" in sys.modules:
        readers = len(reactor.getReaders()) + len(reactor.getDelayedCalls())
    return [len(os.listdir("/proc/self/fd")), threading.active_count(), readers]


def connect(times):
    address = server.socket.getsockname()
    for _ in range(times):
        with socket.create_connection(address) as client:
            client.sendall(b"hello\\n")
            answer = b""
            while not answer.endswith(b"\\n"):
                asyncore.loop(timeout=1, count=1)
                client.setblocking(False)
                try:
                    answer += client.recv(100)
                except BlockingIOError:
                    pass
        while len(asyncore.socket_map) > 1:
            asyncore.loop(timeout=1, count=1)


server = Server()
connect(1)
before = state()
connect(COUNT)
after = state()
server.close()
asyncore.loop()
print(json.dumps({"before": before, "after": after, "map": len(asyncore.socket_map)}))
"""
)

IDLE = (
    CHAT
    + """
class Echo(Line):
    def received(self, line):
        self.push(line + b"\\n")


def rate(peers, seconds=1.0):
    # Requests per second of CPU time, one after another on each of the peers.
    began, done = time.process_time(), 0
    while time.process_time() - began < seconds:
        for peer in peers:
            peer.send(b"hello\\n")
        answered = 0
        while answered < len(peers):
            asyncore.loop(timeout=1, count=1)
            for peer in list(peers):
                try:
                    answered += peer.recv(100).count(b"\\n")
                except BlockingIOError:
                    pass
        done += len(peers)
    return done / (time.process_time() - began)


def connected(count, map):
    peers = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        Echo(ours, map)
        peers.append(theirs)
    return peers


active = connected(10, None)
rate(active)
alone, crowded = [], []
for _ in range(3):
    alone.append(rate(active))
    idle = connected(COUNT - 10, None)
    rate(active, 0.3)
    crowded.append(rate(active))
    for each in list(asyncore.socket_map.values())[10:]:
        each.close()
    for each in idle:
        each.close()
    rate(active, 0.3)
print(json.dumps(sorted(c / a for a, c in zip(alone, crowded))))
"""
)


def run(program: str, *arguments: str) -> Any:
    """What a program prints, from JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    print(done.stdout)
    return json.loads(done.stdout)


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_two_threads_and_the_reactor_serve_three_maps_and_nothing_is_lost(count: int) -> None:
    found = run(THREE_MAPS, str(count))
    assert found["wrong"] == []
    assert all(count <= last <= count + 1 for last in found["results"].values())
    assert set(found["results"]) == {"MainThread", "one", "two"}


@pytest.mark.parametrize("with_reactor", [(), ("reactor",)], ids=["alone", "reactor"])
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_connects_and_closes_leave_nothing(count: int, with_reactor: tuple[str, ...]) -> None:
    found = run(CONNECTS, str(count), *with_reactor)
    assert found["after"] == found["before"]
    assert found["map"] == 0


@pytest.mark.slow
def test_ten_busy_channels_among_5000_are_about_as_fast_as_alone() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        pytest.skip(f"this machine allows {hard} descriptors, 11,000 are needed")
    program = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (11_000, {hard}))\n"
    ratios = run(program + IDLE, "5000")
    # By CPU time, in one process and in turn; the promise is 0.85, measured with care.
    assert ratios[1] > 0.7
