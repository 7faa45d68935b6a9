#!/usr/bin/env python3
"""
A receiver for a feed of fixed-size frames. The program has its own main loop:
a few rounds of asyncore, then the things that are due (heartbeats, timeouts).
"""

import asynchat
import asyncore
import socket
import struct
import time

FRAME = struct.Struct('!4sIQ')


class Coordinator:
    """Runs everything, keeps the time."""

    def __init__(self):
        self.clients = []
        self.running = True
        self.heartbeats = 0

    def run_until(self, finished):
        next_heartbeat = time.monotonic() + 0.05
        while self.running and not finished():
            asyncore.loop(timeout=0.02, count=5)
            now = time.monotonic()
            if now >= next_heartbeat:
                next_heartbeat = now + 0.05
                self.heartbeat(now)

    def heartbeat(self, now):
        self.heartbeats += 1
        for client in self.clients:
            client.heartbeat(now)


class Feed(asynchat.async_chat):
    """Sends a frame at each heartbeat."""

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')
        self.number = 0

    def heartbeat(self, now):
        self.number += 1
        if self.number <= 5:
            self.push(FRAME.pack(b'MLAT', self.number, self.number * 1000))

    def collect_incoming_data(self, data):
        pass

    def found_terminator(self):
        pass


class Receiver(asynchat.async_chat):

    def __init__(self, sock, coordinator):
        asynchat.async_chat.__init__(self, sock)
        self.coordinator = coordinator
        self.set_terminator(FRAME.size)
        self.buf = bytearray()
        self.frames = []

    def heartbeat(self, now):
        pass

    def collect_incoming_data(self, data):
        self.buf += data

    def found_terminator(self):
        frame = FRAME.unpack(bytes(self.buf))
        del self.buf[:]
        self.set_terminator(FRAME.size)
        self.frames.append(frame)
        print('frame', frame)


class PingPong(asynchat.async_chat):
    """Sends back each line."""

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')
        self.data = []
        self.lines = 0

    def collect_incoming_data(self, data):
        self.data.append(data)

    def found_terminator(self):
        self.lines += 1
        self.push(b''.join(self.data) + b'\n')
        self.data = []


def main():
    print('--- a main loop of our own')
    coordinator = Coordinator()
    here, there = socket.socketpair()
    feed, receiver = Feed(here), Receiver(there, coordinator)
    coordinator.clients = [feed, receiver]
    coordinator.run_until(lambda: len(receiver.frames) == 5)
    print('heartbeats went on:', coordinator.heartbeats >= 5)

    print('--- timers on the loop: five idle rounds of a tenth of a second')
    started = time.monotonic()
    asyncore.loop(timeout=0.1, count=5)
    took = time.monotonic() - started
    print('at least half a second:', took > 0.45, '- not much more:', took < 5)
    print('still there:', len(asyncore.socket_map))
    feed.close()
    receiver.close()

    print('--- ten thousand single steps')
    here, there = socket.socketpair()
    one, other = PingPong(here), PingPong(there)
    one.push(b'ball\n')
    started = time.monotonic()
    for step in range(10000):
        asyncore.loop(timeout=0, count=1)
    took = time.monotonic() - started
    print('less than 10 seconds:', took < 10)
    print('played on:', one.lines + other.lines > 1000)
    one.close()
    other.close()

    print('--- nothing to do')
    asyncore.loop(timeout=30, count=1)
    asyncore.loop(timeout=30)
    print('returned at once, with', len(asyncore.socket_map), 'channels')


if __name__ == '__main__':
    main()
