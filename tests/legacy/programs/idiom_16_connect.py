#!/usr/bin/env python3
"""
Clients: create_socket(), connect(), and what is called then and in which order;
with a connection that takes its time, one that is there at once, and none.
"""

import asyncore
import os
import socket
import sys
import tempfile


class Greeter(asyncore.dispatcher):
    """Accepts one connection, sends a greeting and closes."""

    def __init__(self, family, address, greeting):
        asyncore.dispatcher.__init__(self)
        self.greeting = greeting
        self.create_socket(family, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind(address)
        self.listen(5)

    def handle_accept(self):
        conn, addr = self.accept()
        self.close()
        Greeting(conn, self.greeting)


class Greeting(asyncore.dispatcher_with_send):

    def __init__(self, sock, greeting):
        asyncore.dispatcher_with_send.__init__(self, sock)
        self.request = b''
        if greeting:
            self.send(greeting)

    def handle_read(self):
        self.request += self.recv(100)
        if self.request.endswith(b'\n'):
            self.send(b'you said ' + self.request)
            self.close()

    def handle_close(self):
        self.close()


class Client(asyncore.dispatcher):

    def __init__(self, request=b'hello\n'):
        asyncore.dispatcher.__init__(self)
        self.buffer = request
        self.received = b''
        self.events = []

    def note(self, event):
        if not self.events or self.events[-1] != event:
            self.events.append(event)

    def handle_connect(self):
        self.note('connect (connected=%s, connecting=%s)' % (self.connected, self.connecting))

    def handle_connect_event(self):
        self.note('connect event')
        asyncore.dispatcher.handle_connect_event(self)

    def writable(self):
        return not self.connected or len(self.buffer) > 0

    def handle_write(self):
        self.note('write (connected=%s, connecting=%s)' % (self.connected, self.connecting))
        sent = self.send(self.buffer)
        self.buffer = self.buffer[sent:]

    def handle_read(self):
        self.note('read')
        self.received += self.recv(100)

    def handle_close(self):
        self.note('close')
        self.close()

    def handle_expt(self):
        self.note('expt')
        self.close()

    def handle_error(self):
        t, v = sys.exc_info()[:2]
        self.note('error %s' % t.__name__)
        self.close()


class Patient(Client):
    """Sends nothing before it was greeted."""

    greeted = False

    def writable(self):
        return not self.connected or (self.greeted and len(self.buffer) > 0)

    def handle_write(self):
        if not self.greeted:
            # the one that belongs to the connecting
            return
        Client.handle_write(self)

    def handle_read(self):
        Client.handle_read(self)
        self.greeted = True


def report(title, client):
    print('%s:' % title)
    for event in client.events:
        print('  ' + event)
    if client.received:
        print('  received %r' % client.received)


def main():
    directory = tempfile.mkdtemp()
    path = os.path.join(directory, 'socket')
    for use_poll in (False, True):
        print('--- use_poll', use_poll)
        server = Greeter(socket.AF_INET, ('127.0.0.1', 0), b'')
        client = Client()
        client.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        client.connect(server.socket.getsockname())
        client.note('connect() returned (connected=%s, connecting=%s)' % (
            client.connected, client.connecting))
        print('its address is the server\'s:', client.addr == server.socket.getsockname())
        asyncore.loop(timeout=20, use_poll=use_poll)
        report('TCP', client)

        server = Greeter(socket.AF_INET, ('127.0.0.1', 0), b'welcome, ')
        client = Patient()
        client.create_socket()
        client.connect(server.socket.getsockname())
        asyncore.loop(timeout=20, use_poll=use_poll)
        report('TCP, the server speaks first', client)

        server = Greeter(socket.AF_UNIX, path, b'')
        client = Client()
        client.create_socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(path)
        client.note('connect() returned (connected=%s, connecting=%s)' % (
            client.connected, client.connecting))
        asyncore.loop(timeout=20, use_poll=use_poll)
        report('UNIX, connected at once', client)
        os.unlink(path)

        # A port that is taken, but where nobody listens
        taken = socket.socket()
        taken.bind(('127.0.0.1', 0))
        client = Client()
        client.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        client.connect(taken.getsockname())
        asyncore.loop(timeout=20, use_poll=use_poll)
        report('nobody listens', client)
        taken.close()

        client = Client()
        client.create_socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(path)
        except OSError as why:
            client.note('connect() raised %s' % type(why).__name__)
        client.close()
        report('no such path', client)
    os.rmdir(directory)
    print('left in the map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()
