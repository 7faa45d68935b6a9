#!/usr/bin/env python3
"""
A server that is told to shut down by one of its users: ExitNow out of the loop,
then close_all(). At its very end it leaves with sys.exit() inside a handler.
"""

import asynchat
import asyncore
import errno
import socket
import sys


class Console(asynchat.async_chat):

    def __init__(self, sock, map=None):
        asynchat.async_chat.__init__(self, sock, map)
        self.set_terminator(b'\n')
        self.command = b''

    def collect_incoming_data(self, data):
        self.command += data

    def found_terminator(self):
        command, self.command = self.command.decode(), b''
        print('command:', command)
        if command == 'shutdown':
            raise asyncore.ExitNow('Server is quitting!')
        if command == 'interrupt':
            raise KeyboardInterrupt
        if command.startswith('exit'):
            sys.exit(int(command.split()[1]))
        if command == 'fault':
            raise ZeroDivisionError('a fault in the handler')


class Careful(Console):
    """Does not let the loop swallow its faults."""

    def handle_error(self):
        t, v = sys.exc_info()[:2]
        print('handle_error:', t.__name__)
        raise


class Forgiving(Console):

    def handle_error(self):
        nil, t, v, tbinfo = asyncore.compact_traceback()
        print('handle_error: %s, %s, in %s' % (t.__name__, v, nil[1]))


class Stubborn(asyncore.dispatcher):
    """Cannot be closed without trouble."""

    trouble = None

    def close(self):
        trouble, self.trouble = self.trouble, None
        asyncore.dispatcher.close(self)
        print('closing, with', type(trouble).__name__)
        if trouble is not None:
            raise trouble


def console(command, console_class=Console, map=None):
    here, there = socket.socketpair()
    channel = console_class(here, map)
    there.sendall(command + b'\n')
    return channel, there


def main():
    peers = []
    for use_poll in (False, True):
        print('--- use_poll', use_poll)
        channel, peer = console(b'status\nfault\nshutdown', Forgiving)
        peers.append(peer)
        listener = asyncore.dispatcher()
        listener.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(('127.0.0.1', 0))
        listener.listen(5)
        # What is behind a fault waits for more input.
        for _ in range(3):
            try:
                asyncore.loop(timeout=20, use_poll=use_poll, count=1)
            except asyncore.ExitNow as why:
                print('ExitNow:', why)
                break
            peer.sendall(b'\n')
        print('still in the map:', len(asyncore.socket_map))
        asyncore.close_all()
        print('after close_all:', len(asyncore.socket_map), listener.accepting, channel.connected)

    print('--- what else comes out of the loop')
    for command, console_class in (
            (b'shutdown', Console), (b'interrupt', Console), (b'exit 7', Console),
            (b'fault', Careful), (b'shutdown', Careful)):
        channel, peer = console(command, console_class)
        peers.append(peer)
        try:
            asyncore.loop(timeout=20)
        except BaseException as why:
            print('out of the loop: %s(%s)' % (type(why).__name__, why))
        asyncore.close_all()

    print('--- close_all')
    others = {}
    bystander, peer = console(b'nobody reads it', map=others)
    peers.append(peer)
    print('none in its way:', len(asyncore.socket_map), len(others))
    for trouble, ignore_all in (
            (OSError(errno.EBADF, 'bad descriptor'), False),
            (OSError(errno.EIO, 'disk on fire'), True),
            (RuntimeError('no'), True),
            (OSError(errno.EIO, 'disk on fire'), False),
            (RuntimeError('no'), False),
            (asyncore.ExitNow('even here'), True)):
        stubborn = Stubborn(socket.socketpair()[0])
        stubborn.trouble = trouble
        try:
            asyncore.close_all(ignore_all=ignore_all)
            print('closed, map:', len(asyncore.socket_map))
        except Exception as why:
            print('raised %s' % type(why).__name__)
    print('others:', len(others))
    asyncore.close_all(others)
    print('others:', len(others), bystander.connected)
    asyncore.close_all(map=others, ignore_all=True)

    channel, peer = console(b'exit 3')
    try:
        asyncore.loop()
    finally:
        print('finally')
        asyncore.close_all()
        for each in peers + [peer]:
            each.close()
    print('not reached')


if __name__ == '__main__':
    main()
