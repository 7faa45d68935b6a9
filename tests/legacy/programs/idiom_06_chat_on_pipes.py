#!/usr/bin/env python3
"""
Filters in sub-processes: async_chat over their pipes, by way of file_dispatcher,
and over a terminal.
"""

import asynchat
import asyncore
import os
import pty
import subprocess
import sys
import tty


class PipeReader(asynchat.async_chat, asyncore.file_dispatcher):
    """Lines from the standard output of a command."""

    def __init__(self, fd, title):
        asynchat.async_chat.__init__(self)
        asyncore.file_dispatcher.__init__(self, fd)
        self.set_terminator(b'\n')
        self.title = title
        self.read_buffer = b''
        self.lines = []

    def collect_incoming_data(self, data):
        self.read_buffer += data

    def found_terminator(self):
        self.lines.append(self.read_buffer.decode())
        self.read_buffer = b''

    def writable(self):
        return False

    def handle_close(self):
        self.lines.append('<end>')
        self.close()


class PipeWriter(asynchat.async_chat, asyncore.file_dispatcher):
    """The standard input of a command."""

    def __init__(self, fd):
        asynchat.async_chat.__init__(self)
        asyncore.file_dispatcher.__init__(self, fd)

    def readable(self):
        return False

    def collect_incoming_data(self, data):
        pass

    def found_terminator(self):
        pass


class Filter:
    """A command between two channels."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.stdin = PipeWriter(self.process.stdin)
        self.stdout = PipeReader(self.process.stdout, command[0])
        # the channels have descriptors of their own
        self.process.stdin.close()
        self.process.stdout.close()


class LineProducer:
    """Makes lines as they are wanted."""

    def __init__(self, count):
        self.count = count

    def more(self):
        if not self.count:
            return b''
        self.count -= 1
        return b'%05d\n' % self.count


class Terminal(asynchat.async_chat, asyncore.file_dispatcher):
    """The master side of a terminal, with a conversation on it."""

    def __init__(self, fd):
        asynchat.async_chat.__init__(self)
        asyncore.file_dispatcher.__init__(self, fd)
        self.set_terminator(b'? ')
        self.text = b''
        self.dialogue = []
        self.answers = [b'Robin', b'green']

    def collect_incoming_data(self, data):
        self.text += data

    def found_terminator(self):
        text, self.text = self.text.decode(), b''
        self.dialogue.append(text)
        if self.get_terminator() == b'!\n':
            self.close()
            return
        answer = self.answers.pop(0)
        self.push(answer + b'\n')
        if not self.answers:
            self.set_terminator(b'!\n')


ASKING = r"""
import sys
print('Your name', end='? ', flush=True)
name = sys.stdin.readline().strip()
print('Your colour', end='? ', flush=True)
colour = sys.stdin.readline().strip()
print('%s likes %s' % (name, colour), end='!\n', flush=True)
"""


def main():
    sort = Filter('sort')
    sort.stdin.push(b'pear\napple\n')
    sort.stdin.push(b'orange\n')
    sort.stdin.close_when_done()

    cat = Filter('cat')
    cat.stdin.push_with_producer(LineProducer(20000))
    cat.stdin.close_when_done()
    print('pipes in the map:', len(asyncore.socket_map))
    asyncore.loop()
    print('sort:', sort.stdout.lines, sort.process.wait(10))
    lines = cat.stdout.lines
    print('cat:', len(lines), lines[0], lines[19999], lines[20000], cat.process.wait(10))
    print('in order:', lines[:20000] == ['%05d' % n for n in reversed(range(20000))])

    master, slave = pty.openpty()
    tty.setraw(slave)
    asking = subprocess.Popen([sys.executable, '-c', ASKING], stdin=slave, stdout=slave)
    terminal = Terminal(master)
    os.close(master)
    asyncore.loop(use_poll=True)
    os.close(slave)
    print('terminal:', terminal.dialogue, asking.wait(10))
    print('left in the map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()
