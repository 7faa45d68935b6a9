#!/usr/bin/env python
"""
The fifo class of asynchat, for a queue of the program's own (Python 2, and 3 up
to the version that dropped it).
"""

from __future__ import print_function

import asynchat
import asyncore
import socket


class RequestChannel(asynchat.async_chat):
    """Answers its requests one by one, in order, however they come."""

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')
        self.data = []
        self.requests = asynchat.fifo()

    def collect_incoming_data(self, data):
        self.data.append(data)

    def found_terminator(self):
        self.requests.push(b''.join(self.data))
        self.data = []
        if self.requests.first() == b'wait' and len(self.requests) < 4:
            return
        while not self.requests.is_empty():
            found, request = self.requests.pop()
            if request == b'quit':
                self.close_when_done()
            else:
                self.push_with_producer(asynchat.simple_producer(b'<' + request + b'>\n'))

    def handle_close(self):
        self.close()


class Client(asynchat.async_chat):

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')
        self.data = []
        self.answers = []

    def collect_incoming_data(self, data):
        self.data.append(data)

    def found_terminator(self):
        self.answers.append(b''.join(self.data).decode('ascii'))
        self.data = []


def main():
    queue = asynchat.fifo()
    print('new:', len(queue), bool(queue.is_empty()), queue.pop() == (0, None))
    queue.push('first')
    queue.push('second')
    print('two pushed:', len(queue), bool(queue.is_empty()), queue.first())
    print('popped:', queue.pop() == (1, 'first'), queue.pop() == (1, 'second'), len(queue))
    queue = asynchat.fifo(['a', 'b'])
    queue.push(None)
    print('from a list:', len(queue), queue.first())
    print('popped:', [queue.pop()[1] for _ in range(3)])

    producer = asynchat.simple_producer(b'x' * 1030)
    print('simple_producer:', [len(producer.more()) for _ in range(4)])
    producer = asynchat.simple_producer(b'abcde', 2)
    print('simple_producer:', b'|'.join(producer.more() for _ in range(4)).decode('ascii'))

    here, there = socket.socketpair()
    RequestChannel(here)
    client = Client(there)
    for request in (b'wait', b'one', b'two', b'quit'):
        client.push(request + b'\n')
    asyncore.loop(timeout=20)
    print('answers:', ' '.join(client.answers))


if __name__ == '__main__':
    main()
