#!/usr/bin/env python3
"""
A parser that looks at the terminator, and at the input that waits behind it,
from inside its callbacks.
"""

import asynchat
import asyncore
import socket


class NetstringLike(asynchat.async_chat):
    """Messages of the form "<length>\\r\\n<body>", and "RESET\\r\\n"."""

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.data = []
        self.read_header = True
        self.set_terminator(b'\r\n')

    def collect_incoming_data(self, data):
        print('  collects %r, terminator %r' % (data, self.terminator))
        self.data.append(data)

    def found_terminator(self):
        data = b''.join(self.data)
        self.data = []
        print('  found %r: %r, waiting behind it: %r' % (
            self.get_terminator(), data, self.ac_in_buffer))
        if not self.read_header:
            self.read_header = True
            self.set_terminator(b'\r\n')
        elif data == b'RESET':
            # what came behind it is not to be trusted
            self.ac_in_buffer = b''
        elif data == b'RAW':
            self.set_terminator(None)
        elif data == b'INSERT':
            self.ac_in_buffer = b'1\r\n!' + self.ac_in_buffer
        else:
            self.read_header = False
            self.terminator = int(data)

    def state(self):
        return 'terminator %r, buffer %r, collected %r' % (
            self.get_terminator(), self.ac_in_buffer, self.data)

    def handle_error(self):
        nil, t, v, tbinfo = asyncore.compact_traceback()
        print('  %s: %s' % (t.__name__, v))
        self.handle_close()

    def handle_close(self):
        print('  closed:', self.state())
        self.close()


class Steps:
    """Feeds the parser chunk by chunk."""

    def __init__(self, channel_class):
        self.sock, other = socket.socketpair()
        self.channel = channel_class(other)

    def feed(self, chunk):
        print('%r' % chunk)
        self.sock.sendall(chunk)
        asyncore.loop(timeout=20, count=1)
        if self.channel in asyncore.socket_map.values():
            print('  then %s' % self.channel.state())


class Asked(NetstringLike):
    """Overrides the question for the terminator."""

    asked = 0

    def get_terminator(self):
        Asked.asked += 1
        return NetstringLike.get_terminator(self)


def main():
    steps = Steps(NetstringLike)
    steps.feed(b'5\r\nhel')
    steps.feed(b'l')
    steps.feed(b'o3\r\nabc4\r')
    steps.feed(b'\nwxyz12\r')
    steps.feed(b'\n')
    steps.feed(b'123456789012')
    steps.feed(b'RESET\r\nnot to be trusted\r\n')
    steps.feed(b'INSERT\r\n2\r\n??')
    steps.feed(b'\r')
    steps.feed(b'x')
    steps.feed(b'\r\r\n')
    steps.sock.close()
    asyncore.loop(timeout=20)


def raw():
    print('--- and raw')
    steps = Steps(Asked)
    steps.feed(b'RAW\r\nanything\r\n')
    steps.feed(b'and more')
    steps.sock.close()
    asyncore.loop(timeout=20)
    print('the terminator was asked for:', Asked.asked > 4)


if __name__ == '__main__':
    main()
    raw()
