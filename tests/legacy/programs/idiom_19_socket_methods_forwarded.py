#!/usr/bin/env python
"""
Methods of the socket, called on the dispatcher: what it does not have itself it
takes from its socket (Python 2 and the first versions of 3).
"""

from __future__ import print_function

import asynchat
import asyncore
import copy
import socket


class Handler(asynchat.async_chat):

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')
        self.data = []
        # on the dispatcher, not on self.socket
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.peer = self.getpeername()

    def collect_incoming_data(self, data):
        self.data.append(data)

    def found_terminator(self):
        keepalive = self.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        self.push(b''.join(self.data) + (b' alive' if keepalive else b' dead') + b'\n')
        self.close_when_done()


class Server(asyncore.dispatcher):

    def __init__(self):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.bind(('127.0.0.1', 0))
        self.listen(5)
        self.handler = None

    def handle_accept(self):
        conn, addr = self.accept()
        self.handler = Handler(conn)
        self.close()


class Client(asynchat.async_chat):

    def __init__(self, address):
        asynchat.async_chat.__init__(self)
        self.set_terminator(b'\n')
        self.data = []
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.connect(address)

    def handle_connect(self):
        self.name = self.getsockname()
        self.push(b'are you\n')

    def collect_incoming_data(self, data):
        self.data.append(data)

    def found_terminator(self):
        print('answer:', b''.join(self.data).decode('ascii'))
        self.shutdown(socket.SHUT_WR)


class Unfinished(asyncore.dispatcher):
    """Whose __init__ never came to the point of having a socket."""

    def __init__(self):
        pass


def tries(title, function):
    try:
        result = function()
    except AttributeError as why:
        print('%s: AttributeError, and names it: %s' % (title, 'no_such_thing' in str(why)))
    except RuntimeError as why:  # RecursionError is one
        print('%s: %s' % (title, type(why).__name__))
    else:
        print('%s: %r' % (title, result))


def main():
    server = Server()
    address = server.getsockname()
    print('descriptor:', server.fileno() == server.socket.fileno())
    client = Client(address)
    asyncore.loop(timeout=20)
    print('the peer is the client:', server.handler.peer == client.name)

    print('--- what nobody has')
    here, there = socket.socketpair()
    connected = asyncore.dispatcher(here)
    tries('with a socket', lambda: connected.no_such_thing)
    tries('getattr with a default', lambda: getattr(connected, 'no_such_thing', 'default'))
    tries('hasattr', lambda: (hasattr(connected, 'getpeername'), hasattr(connected, 'no_such_thing')))
    connected.close()
    there.close()
    without = asyncore.dispatcher()
    tries('without a socket', lambda: without.no_such_thing)
    tries('hasattr', lambda: (hasattr(without, 'getpeername'), hasattr(without, 'no_such_thing')))
    print('left in the map:', len(asyncore.socket_map))


def without_init():
    print('--- before __init__ is done')
    unfinished = Unfinished()
    tries('an attribute', lambda: unfinished.no_such_thing)
    tries('the socket', lambda: getattr(unfinished, 'socket', 'none yet'))
    tries('hasattr', lambda: hasattr(unfinished, 'getpeername'))
    print('copied:', type(copy.copy(unfinished)).__name__)


if __name__ == '__main__':
    main()
    without_init()
