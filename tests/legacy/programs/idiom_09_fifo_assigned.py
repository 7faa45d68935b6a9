#!/usr/bin/env python3
"""
A channel that makes its own outgoing queue, of asynchat's fifo class, as the old
documentation and many games did it.
"""

import asynchat
import asyncore
import socket


class Endpoint(asynchat.async_chat):

    def __init__(self, sock, endchars=b'\0---\0'):
        self.endchars = endchars
        # for string terminator matching
        self.ac_in_buffer = b''
        self.ac_out_buffer = b''
        self.incoming = []
        self.producer_fifo = asynchat.fifo()
        asynchat.async_chat.__init__(self, sock)
        self.producer_fifo = asynchat.fifo()
        self.set_terminator(endchars)
        self.received = []

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.received.append(self._get_data())

    def send_data(self, data):
        """Returns how much stands in the queue."""
        self.push(data + self.endchars)
        return len(self.producer_fifo)

    def append_data(self, data):
        self.producer_fifo.append(data + self.endchars)
        return len(self.producer_fifo)

    def bye(self):
        self.producer_fifo.append(None)
        print('the end is marked:', self.producer_fifo[-1] is None)


class List:
    """A producer over a list."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def more(self):
        return self.pieces.pop(0) if self.pieces else b''


def main():
    here, there = socket.socketpair()
    one, other = Endpoint(here), Endpoint(there)
    print('queue:', type(one.producer_fifo).__name__, len(one.producer_fifo))
    print('sent at once:', one.send_data(b'{"action": "hello"}'))
    print('appended:', one.append_data(b'{"action": "move"}'))
    print('appended:', one.append_data(b'{"action": "fire"}'))
    one.producer_fifo.push(b'pushed into the queue' + one.endchars)
    one.push_with_producer(asynchat.simple_producer(b'z' * 2000 + one.endchars))
    one.push_with_producer(List(b'of ', b'pieces', one.endchars))
    print('wants to write:', bool(one.writable()))
    one.bye()
    other.send_data(b'answer')
    asyncore.loop(timeout=20)
    for message in other.received:
        print('received:', message if len(message) < 100 else '%d times %r' % (
            len(message), message[:1]))
    print('the other way:', one.received)
    print('queue:', len(one.producer_fifo), 'map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()
