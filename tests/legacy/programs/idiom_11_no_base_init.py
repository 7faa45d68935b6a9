#!/usr/bin/env python3
"""
Channels that never call the __init__ of their base class, and an object in the
map that has no base class at all.
"""

import asynchat
import asyncore
import socket
from collections import deque


class Listener(asyncore.dispatcher):

    def __init__(self, map):
        self._map = map
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.bind(('127.0.0.1', 0))
        self.socket.listen(5)
        self.accepting = True
        self._fileno = self.socket.fileno()
        self.add_channel()

    def handle_accept(self):
        conn, addr = self.accept()
        Echo(conn, self._map)
        self.close()


class Echo(asyncore.dispatcher):

    def __init__(self, sock, map):
        sock.setblocking(False)
        self._map = map
        self.socket = sock
        self._fileno = sock.fileno()
        self.connected = True
        self.addr = sock.getpeername()
        self.buffer = b''
        self.add_channel()

    def handle_read(self):
        self.buffer += self.recv(8192)

    def writable(self):
        return len(self.buffer) > 0

    def handle_write(self):
        sent = self.send(self.buffer)
        self.buffer = self.buffer[sent:]

    def handle_close(self):
        self.close()


class Client(asynchat.async_chat):

    def __init__(self, address, map):
        self._map = map
        self.ac_in_buffer = b''
        self.incoming = []
        self.producer_fifo = deque()
        self.set_terminator(b'\n')
        self.lines = []
        sock = socket.create_connection(address, 20)
        sock.setblocking(False)
        self.set_socket(sock, map)
        self.connected = True

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.lines.append(self._get_data())
        if len(self.lines) == 3:
            self.close_when_done()


class Plain:
    """No dispatcher, but it can do what the loop asks of one."""

    accepting = False

    def __init__(self, sock, map):
        self.sock = sock
        self.map = map
        self.events = []
        self.greeted = False
        map[sock.fileno()] = self

    def readable(self):
        return True

    def writable(self):
        return not self.greeted

    def handle_read_event(self):
        data = self.sock.recv(100)
        self.events.append('read %r' % data)
        if not data:
            self.gone()

    def handle_write_event(self):
        self.sock.send(b'hello')
        self.greeted = True
        self.events.append('greeted')

    def handle_expt_event(self):
        self.events.append('exceptional')

    def handle_close(self):
        # a poll reports a hang-up this way
        self.gone()

    def handle_error(self):
        raise

    def gone(self):
        if self.sock.fileno() in self.map:
            del self.map[self.sock.fileno()]
            self.sock.close()


def main():
    for use_poll in (False, True):
        map = {}
        listener = Listener(map)
        client = Client(listener.socket.getsockname(), map)
        client.push(b'one\ntwo\n')
        client.push(b'three\n')
        print('map of our own:', len(map), 'global map:', len(asyncore.socket_map))
        asyncore.loop(timeout=20, use_poll=use_poll, map=map)
        print('lines:', client.lines, '- map:', len(map))

        here, there = socket.socketpair()
        plain = Plain(here, map)
        asyncore.loop(timeout=20, use_poll=use_poll, map=map, count=1)
        print('plain object:', plain.events, there.recv(100))
        there.sendall(b'and you')
        asyncore.loop(timeout=20, use_poll=use_poll, map=map, count=1)
        print('plain object:', plain.events)
        there.close()
        asyncore.loop(timeout=20, use_poll=use_poll, map=map)
        print('plain object is gone:', plain.sock.fileno(), len(map))


if __name__ == '__main__':
    main()
