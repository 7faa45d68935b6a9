#!/usr/bin/env python3
"""
Programs that put a poll of their own into asyncore: one that keeps timers
around the module's, one that waits by itself, one that prefers poll2.
"""

import asyncore
import select
import socket


class Reader(asyncore.dispatcher):

    def writable(self):
        return False

    def handle_read(self):
        data = self.recv(100)
        if data:
            print('    read', data.decode())

    def handle_close(self):
        print('    closed')
        self.close()


class Deaf(Reader):
    """Never reads: only poll2 finds out that the peer has gone."""

    def readable(self):
        return False

    def writable(self):
        return True

    def handle_write(self):
        pass


def talk(kind=Reader, **options):
    """A peer says hello and goes; the loop serves that until the map is empty."""
    ours, theirs = socket.socketpair()
    kind(ours)
    theirs.sendall(b'hello')
    theirs.close()
    asyncore.loop(**options)


class Timers:
    """Counts the rounds of a loop, and ends it after some."""

    def __init__(self, poll, most):
        self.poll = poll
        self.rounds = 0
        self.most = most

    def __call__(self, timeout=0.0, map=None):
        self.rounds += 1
        if self.rounds > self.most:
            raise asyncore.ExitNow('no more time')
        self.poll(min(timeout, 5), map)


def waits_by_itself(timeout, map):
    print('    poll of', len(map), 'for', timeout)
    poller = select.poll()
    for fd, channel in map.items():
        if channel.readable():
            poller.register(fd, select.POLLIN)
    for fd, flags in poller.poll(timeout * 1000):
        asyncore.read(map[fd])


def main():
    poll, poll2 = asyncore.poll, asyncore.poll2

    print('around the module\'s own')
    asyncore.poll = Timers(poll, 10)
    talk()
    print('    in rounds:', asyncore.poll.rounds > 0)

    print('as many rounds as asked for')
    asyncore.poll = Timers(poll, 10)
    ours, theirs = socket.socketpair()
    reader = Reader(ours)
    asyncore.loop(timeout=0.01, count=3)
    print('    rounds:', asyncore.poll.rounds)

    print('what it raises ends the loop')
    asyncore.poll = Timers(poll, 2)
    try:
        asyncore.loop(timeout=0.01)
    except asyncore.ExitNow as why:
        print('   ', why)
    reader.close()
    theirs.close()

    print('with use_poll it is poll2 that is called')
    asyncore.poll = None
    asyncore.poll2 = Timers(poll2, 10)
    talk(use_poll=True)
    print('    in rounds:', asyncore.poll2.rounds > 0)

    print('by itself')
    asyncore.poll = waits_by_itself
    talk(timeout=7)

    print('poll2 for poll')
    asyncore.poll, asyncore.poll2 = poll2, poll2
    talk(Deaf, timeout=5, count=100)

    print('and back')
    asyncore.poll = poll
    talk()
    print('none left:', not asyncore.socket_map)


if __name__ == '__main__':
    main()
