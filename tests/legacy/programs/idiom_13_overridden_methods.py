#!/usr/bin/env python3
"""
A tunnel that scrambles its traffic: recv, send, handle_read, handle_write,
readable and writable are overridden, on the class or on the object.
"""

import asynchat
import asyncore
import socket


def scramble(data):
    return bytes(byte ^ 0x55 for byte in data)


class Side(asyncore.dispatcher):
    """One side of the tunnel; what it reads goes into the other's buffer."""

    limit = 1000

    def __init__(self, sock, scrambled):
        asyncore.dispatcher.__init__(self, sock)
        self.other = None
        self.buffer = bytearray()
        self.largest = 0
        self.ending = False
        self.scrambled = scrambled

    def recv(self, buffer_size):
        data = asyncore.dispatcher.recv(self, buffer_size)
        return scramble(data) if self.scrambled else data

    def send(self, data):
        return asyncore.dispatcher.send(self, scramble(data) if self.scrambled else data)

    def readable(self):
        # read no more than the other side gets rid of
        return self.other is not None and len(self.other.buffer) < self.limit

    def handle_read(self):
        data = self.recv(400)
        self.other.buffer += data
        self.other.largest = max(self.other.largest, len(self.other.buffer))

    def writable(self):
        return bool(self.buffer) or self.ending

    def handle_write(self):
        if self.buffer:
            sent = self.send(self.buffer[:250])
            del self.buffer[:sent]
        if self.ending and not self.buffer:
            self.close()

    def handle_close(self):
        self.other.ending = True
        self.close()


class Lines(asynchat.async_chat):
    """Talks through the tunnel."""

    def __init__(self, sock, scrambled):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')
        self.calls = set()
        self.lines = []
        if scrambled:
            # on the object only
            self.recv = self._scrambled_recv
            self.send = self._scrambled_send

    def _scrambled_recv(self, buffer_size):
        self.calls.add('recv')
        return scramble(asynchat.async_chat.recv(self, buffer_size))

    def _scrambled_send(self, data):
        self.calls.add('send')
        return asynchat.async_chat.send(self, scramble(data))

    def handle_read(self):
        self.calls.add('handle_read')
        asynchat.async_chat.handle_read(self)

    def handle_write(self):
        self.calls.add('handle_write')
        asynchat.async_chat.handle_write(self)

    def readable(self):
        self.calls.add('readable')
        return asynchat.async_chat.readable(self)

    def writable(self):
        self.calls.add('writable')
        return asynchat.async_chat.writable(self)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        line = self._get_data()
        self.lines.append(line)
        self.got(line)

    def got(self, line):
        pass


class Answering(Lines):

    def got(self, line):
        self.push(line[::-1] + b'\n')
        if line == b'bye':
            self.close_when_done()


class Asleep(asyncore.dispatcher):
    """Is not interested in anything until it is woken."""

    awake = False

    def readable(self):
        return self.awake

    def writable(self):
        return False

    def handle_read(self):
        print('the sleeper reads', self.recv(100))
        self.close()


def main():
    client_socket, outer_socket = socket.socketpair()
    inner_socket, server_socket = socket.socketpair()
    client = Lines(client_socket, scrambled=False)
    outer = Side(outer_socket, scrambled=False)
    inner = Side(inner_socket, scrambled=True)
    outer.other, inner.other = inner, outer
    server = Answering(server_socket, scrambled=True)

    words = [b'word number %d' % number for number in range(1000)]
    for word in words + [b'bye']:
        client.push(word + b'\n')
    asyncore.loop(timeout=20)
    print('the server got', len(server.lines), 'lines:', server.lines == words + [b'bye'])
    print('the client got', len(client.lines), 'lines:',
          client.lines == [word[::-1] for word in words] + [b'eyb'])
    print('calls of the server:', sorted(server.calls))
    print('back-pressure held:', outer.largest < 1400 and inner.largest < 1400)
    print('left in the map:', len(asyncore.socket_map))

    print('--- predicates that change by themselves')
    here, there = socket.socketpair()
    sleeper = Asleep(here)
    there.sendall(b'wake up')
    for _ in range(3):
        asyncore.loop(timeout=0, count=1)
    print('asleep')
    sleeper.awake = True
    asyncore.loop(timeout=20, count=1)
    there.close()

    print('--- a predicate replaced on the object')
    here, there = socket.socketpair()
    sleeper = Asleep(here)
    there.sendall(b'wake up again')
    asyncore.loop(timeout=0, count=1)
    sleeper.readable = lambda: True
    asyncore.loop(timeout=20)
    there.close()
    print('left in the map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()
