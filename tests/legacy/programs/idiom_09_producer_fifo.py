#!/usr/bin/env python3
"""
A game server that looks into the queue of outgoing data itself: it puts things
into it, counts them, and sees whether its end is marked.
"""

import asynchat
import asyncore
import socket
from collections import deque


class Player(asynchat.async_chat):

    def __init__(self, sock, name):
        asynchat.async_chat.__init__(self, sock)
        self.name = name
        self.set_terminator(b'\0')
        self.buffer = b''
        self.received = []

    def collect_incoming_data(self, data):
        self.buffer += data

    def found_terminator(self):
        self.received.append(self.buffer)
        self.buffer = b''

    def pending(self):
        return len(self.producer_fifo)

    def closing_down(self):
        return bool(self.producer_fifo) and self.producer_fifo[-1] is None

    def enqueue(self, data):
        """Put it into the queue; it goes out when the loop gets to it."""
        if self.closing_down():
            return False
        self.producer_fifo.append(data + b'\0')
        return True

    def enqueue_first(self, data):
        self.producer_fifo.appendleft(data + b'\0')

    def finish(self):
        if not self.closing_down():
            self.producer_fifo.append(None)


class Relay(Player):
    """Whatever it gets it puts into the queue of somebody else."""

    peer = None

    def found_terminator(self):
        Player.found_terminator(self)
        if self.received[-1] == b'bye':
            self.peer.finish()
        else:
            self.peer.enqueue(self.received[-1].upper())


class Countdown:

    def __init__(self, start):
        self.number = start

    def more(self):
        if not self.number:
            return b''
        self.number -= 1
        return b'%d ' % (self.number + 1)


def pair(one_class, other_class, *names):
    here, there = socket.socketpair()
    return one_class(here, names[0]), other_class(there, names[1])


def main():
    one, other = pair(Player, Player, 'one', 'other')
    one.push(b'pushed\0')
    print('after a push:', one.pending())
    for number in range(3):
        one.enqueue(b'state %d' % number)
    one.producer_fifo.append(Countdown(3))
    one.producer_fifo.append(b'lift off\0')
    one.enqueue_first(b'urgent')
    print('in the queue:', one.pending(), one.producer_fifo[0], one.producer_fifo[-1])
    print('wants to write:', bool(one.writable()))
    print('at its end:', one.closing_down())
    one.finish()
    one.finish()
    print('at its end:', one.closing_down(), one.pending(), 'refuses:', not one.enqueue(b'late'))
    asyncore.loop(timeout=20)
    print('received:', other.received)
    print('queues:', one.pending(), other.pending(), 'map:', len(asyncore.socket_map))

    print('--- the handler of one connection fills the queue of another')
    ann, ann_relay = pair(Player, Relay, 'ann', 'relay')
    bob, bob_relay = pair(Player, Relay, 'bob', 'relay')
    ann_relay.peer, bob_relay.peer = bob_relay, ann_relay
    for word in (b'good', b'morning', b'bye'):
        ann.push(word + b'\0')
    while bob in asyncore.socket_map.values():
        asyncore.loop(timeout=20, count=1)
    print('bob received:', bob.received, 'queue of the relay:', bob_relay.pending())
    ann.finish()
    asyncore.loop(timeout=20)
    print('map:', len(asyncore.socket_map))

    print('--- a queue of our own')
    one, other = pair(Player, Player, 'one', 'other')
    one.producer_fifo = deque([b'from the ', b'new queue\0'])
    one.producer_fifo.extend([b'and', b' more\0', None])
    asyncore.loop(timeout=20)
    print('received:', other.received)

    print('--- emptied')
    one, other = pair(Player, Player, 'one', 'other')
    one.enqueue(b'never sent')
    del one.producer_fifo[0]
    one.enqueue(b'never sent either')
    one.producer_fifo.clear()
    one.push(b'sent\0')
    one.finish()
    asyncore.loop(timeout=20)
    print('received:', other.received)


if __name__ == '__main__':
    main()
