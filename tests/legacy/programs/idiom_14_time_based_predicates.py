#!/usr/bin/env python3
"""
Limits of rate and checks for idleness, made with readable() and writable() that
look at the clock.
"""

import asyncore
import socket
import time

RATE = 0.05
IDLE = 0.2
KEEPALIVE = 0.06


class Throttled(asyncore.dispatcher):
    """Reads a message at most every twentieth of a second; goes when nothing comes."""

    def __init__(self, sock):
        asyncore.dispatcher.__init__(self, sock)
        self.next_read = 0
        self.last_data = time.monotonic()
        self.times = []
        self.messages = []

    def readable(self):
        now = time.monotonic()
        if now - self.last_data > IDLE:
            self.handle_timeout()
            return False
        return now >= self.next_read

    def writable(self):
        return False

    def handle_read(self):
        data = self.recv(8)
        now = time.monotonic()
        self.next_read = now + RATE
        self.last_data = now
        self.times.append(now)
        self.messages.append(data)

    def handle_timeout(self):
        print('idle: closed')
        self.close()


class Keepalive(asyncore.dispatcher):
    """Writes something when it was quiet for long enough."""

    def __init__(self, sock):
        asyncore.dispatcher.__init__(self, sock)
        self.last_write = time.monotonic()
        self.times = []

    def writable(self):
        return time.monotonic() - self.last_write >= KEEPALIVE

    def handle_write(self):
        self.send(b'<noop>')
        self.last_write = time.monotonic()
        self.times.append(self.last_write)
        if len(self.times) == 3:
            self.close()

    def handle_read(self):
        self.recv(100)

    def handle_close(self):
        self.close()


class Deadline(asyncore.dispatcher):
    """Does its work in the predicate; there is never any event."""

    def __init__(self, sock, deadline):
        asyncore.dispatcher.__init__(self, sock)
        self.deadline = deadline
        self.asked = 0

    def readable(self):
        self.asked += 1
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.deadline = None
            print('the deadline is over')
            self.close()
            return False
        return True

    def writable(self):
        return False

    def handle_read(self):
        print('there should be nothing to read')
        self.recv(100)


def main():
    for use_poll in (False, True):
        print('--- use_poll', use_poll)
        here, there = socket.socketpair()
        throttled = Throttled(here)
        for number in range(4):
            there.sendall(b'msg %04d' % number)
        started = time.monotonic()
        asyncore.loop(timeout=0.01, use_poll=use_poll)
        took = time.monotonic() - started
        print(throttled.messages)
        gaps = [later - earlier for earlier, later in zip(throttled.times, throttled.times[1:])]
        print('not faster than allowed:', min(gaps) >= RATE)
        print('not much slower:', max(gaps) < 2)
        print('it went when it was idle:', 3 * RATE + IDLE < took < 10)
        there.close()

        here, there = socket.socketpair()
        keepalive = Keepalive(here)
        asyncore.loop(timeout=0.01, use_poll=use_poll)
        print(there.recv(100))
        times = keepalive.times
        print('apart:', all(later - earlier >= KEEPALIVE for earlier, later in zip(times, times[1:])))
        there.close()

        here, there = socket.socketpair()
        deadline = Deadline(here, time.monotonic() + 0.1)
        started = time.monotonic()
        asyncore.loop(timeout=0.02, use_poll=use_poll)
        took = time.monotonic() - started
        print('in time:', 0.1 <= took < 5, '- asked now and then:', 2 <= deadline.asked < 1000)
        there.close()
    print('left in the map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()
