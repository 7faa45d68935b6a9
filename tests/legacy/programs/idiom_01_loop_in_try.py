#!/usr/bin/env python3
"""
bot.py - a small IRC bot, and an IRC server that is just good enough for it.

The loop is the last line of run(), in a try for Ctrl-C, and the bot
reconnects by calling run() again.
"""

import asynchat
import asyncore
import os
import signal
import socket
import sys
import threading


class Origin(object):
    def __init__(self, source):
        self.nick, self.user, self.host = (
            source.replace('!', ' ').replace('@', ' ').split() + ['', '', ''])[:3]


class Bot(asynchat.async_chat):

    def __init__(self, nick, channels):
        asynchat.async_chat.__init__(self)
        self.set_terminator(b'\n')
        self.buffer = ''
        self.nick = nick
        self.user = nick
        self.channels = channels

    def write(self, args, text=None):
        line = ' '.join(args)
        if text is not None:
            line += ' :' + text
        print('>>', line)
        self.push((line + '\r\n').encode('utf-8'))

    def run(self, host, port=6667):
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.connect((host, port))
        try:
            asyncore.loop()
        except KeyboardInterrupt:
            print('interrupted')
            self.close()
            return False
        return True

    def handle_connect(self):
        print('connected!')
        self.write(('NICK', self.nick))
        self.write(('USER', self.user, '+iw', self.nick), 'a small bot')

    def handle_close(self):
        self.close()
        print('closed!')

    def collect_incoming_data(self, data):
        self.buffer += data.decode('utf-8', 'replace')

    def found_terminator(self):
        line = self.buffer
        if line.endswith('\r'):
            line = line[:-1]
        self.buffer = ''
        print('<<', line)
        if line.startswith(':'):
            source, line = line[1:].split(' ', 1)
        else:
            source = ''
        origin = Origin(source)
        if ' :' in line:
            argstr, text = line.split(' :', 1)
        else:
            argstr, text = line, ''
        args = argstr.split()
        self.dispatch(origin, args, text)

    def dispatch(self, origin, args, text):
        if args[0] == 'PING':
            self.write(('PONG', text))
        elif args[0] == '001':
            for channel in self.channels:
                self.write(('JOIN', channel))
        elif args[0] == 'PRIVMSG' and text == '!hello':
            self.write(('PRIVMSG', args[1]), 'hello, %s from %s' % (origin.nick, origin.host))
        elif args[0] == 'PRIVMSG' and text == '!quit':
            self.write(('QUIT',), 'as you wish')
            self.close_when_done()


class IRCUser(asynchat.async_chat):
    """What the server knows of a user."""

    def __init__(self, sock, script):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.line = b''
        self.script = script

    def collect_incoming_data(self, data):
        self.line += data

    def found_terminator(self):
        line, self.line = self.line.decode(), ''.encode()
        command = line.split()[0]
        if command == 'USER':
            self.push(b':irc.example.org 001 robin :Welcome\r\n')
        elif command == 'QUIT':
            self.close()
        elif command in ('JOIN', 'PONG', 'PRIVMSG'):
            said = next(self.script)
            if callable(said):
                said()
            else:
                self.push(said + b'\r\n')


class IRCServer(asyncore.dispatcher):
    """Serves one user, then goes away."""

    def __init__(self, script):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind(('127.0.0.1', 0))
        self.listen(5)
        self.port = self.socket.getsockname()[1]
        self.script = iter(script)

    def handle_accept(self):
        conn, addr = self.accept()
        IRCUser(conn, self.script)
        self.close()


def press_ctrl_c():
    """Some time later, when nothing happens any more."""
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()


CHAT = [
    b'PING :irc.example.org',
    b':ann!ann@example.com PRIVMSG #birds :!hello',
    b':ann!ann@example.com PRIVMSG #birds :!quit',
]


def main():
    # Ctrl-C shall work even if somebody started us with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for attempt in (1, 2):
        print('--- session', attempt)
        server = IRCServer(CHAT)
        bot = Bot('robin', ['#birds'])
        print('ended by itself:', bot.run('127.0.0.1', server.port))
        print('channels left:', len(asyncore.socket_map))
    print('--- session 3, interrupted')
    server = IRCServer([press_ctrl_c])
    bot = Bot('robin', ['#birds'])
    print('ended by itself:', bot.run('127.0.0.1', server.port))
    print('channels left:', len(asyncore.socket_map))
    print('SIGINT is as it was:', signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    # The server's side of the connection is still there and notices.
    try:
        asyncore.loop()
    except KeyboardInterrupt:
        sys.exit(1)
    print('channels left:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()
